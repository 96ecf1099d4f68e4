# To include before find_package(Torch). The CMake files of a LibTorch for CUDA ask for a CUDA toolkit, which only
# programs with kernels need. They first look for this target, and then for nothing else.
find_program(TORCH_NPY_NVCC nvcc
  HINTS "${CUDAToolkit_ROOT}" "${CUDA_TOOLKIT_ROOT_DIR}" ENV CUDAToolkit_ROOT ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
  PATH_SUFFIXES bin)
mark_as_advanced(TORCH_NPY_NVCC)
if(NOT TORCH_NPY_NVCC AND NOT CMAKE_CUDA_COMPILER AND NOT TARGET torch::cudart)
  add_library(torch::cudart INTERFACE IMPORTED)
endif()
