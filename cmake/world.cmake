# torch_npy::world: the library together with Gloo, by which the processes of <torch_npy/world.hpp> talk. Makes the
# target NAME if this LibTorch was built with Gloo and Gloo's headers are found; otherwise sets REASON to what is missing.
# With NCCL, too, if this LibTorch, of 2.6 or newer, has it, and its headers and those of a CUDA toolkit are found. Older
# ones cannot wait for what NCCL has not finished when they close its connections.
#
#   torch_npy_find_world(NAME REASON)
#
# LibTorch contains Gloo, but not always its headers. Debian has them in libgloo-dev. A folder of them that is not found
# can be named by gloo_INCLUDE_DIR.
include(CheckCXXSourceCompiles)

# Whether LibTorch has a class, by its type information: without the headers of the class, which take long to compile.
function(torch_npy_torch_has class result)
  get_target_property(library torch LOCATION)
  get_filename_component(folder "${library}" DIRECTORY)
  set(CMAKE_REQUIRED_QUIET ON)  # the answer no is no failure
  set(CMAKE_REQUIRED_LIBRARIES "${library}")
  foreach(part IN ITEMS torch_cpu torch_cuda c10)
    file(GLOB found "${folder}/*${part}${CMAKE_SHARED_LIBRARY_SUFFIX}" "${folder}/*${part}${CMAKE_STATIC_LIBRARY_SUFFIX}")
    list(APPEND CMAKE_REQUIRED_LIBRARIES ${found})
  endforeach()
  # Of other libraries that these need, such as those of CUDA, nothing is called.
  set(CMAKE_REQUIRED_LINK_OPTIONS -Wl,--allow-shlib-undefined)
  string(LENGTH "${class}" length)
  set(symbol "_ZTIN4c10d${length}${class}E")
  if(NOT TORCH_NPY_HAVE_${class} OR NOT TORCH_NPY_LIBRARY_OF_${class} STREQUAL library)
    unset(TORCH_NPY_HAVE_${class} CACHE)  # of another LibTorch
    check_cxx_source_compiles("extern \"C\" const char ${symbol}[]; int main() { return ${symbol}[0] & 1; }"
      TORCH_NPY_HAVE_${class})
    set(TORCH_NPY_LIBRARY_OF_${class} "${library}" CACHE INTERNAL "")
  endif()
  set(${result} "${TORCH_NPY_HAVE_${class}}" PARENT_SCOPE)
endfunction()

function(torch_npy_find_world name reason)
  if(WIN32)
    set(${reason} "it is not for Windows" PARENT_SCOPE)
    return()
  endif()
  torch_npy_torch_has(ProcessGroupGloo has_gloo)
  if(NOT has_gloo)
    set(${reason} "this LibTorch was built without Gloo" PARENT_SCOPE)
    return()
  endif()
  get_target_property(torch_includes torch INTERFACE_INCLUDE_DIRECTORIES)
  find_path(gloo_INCLUDE_DIR gloo/config.h HINTS ${torch_includes})
  mark_as_advanced(gloo_INCLUDE_DIR)
  if(NOT gloo_INCLUDE_DIR)
    string(CONCAT missing "the headers of Gloo are not found. On Debian and Ubuntu: apt-get install libgloo-dev. Elsewhere "
      "set gloo_INCLUDE_DIR to the folder that contains gloo/config.h")
    set(${reason} "${missing}" PARENT_SCOPE)
    return()
  endif()

  add_library(${name} INTERFACE IMPORTED GLOBAL)
  target_link_libraries(${name} INTERFACE torch_npy::torch_npy)
  # LibTorch's headers about Gloo and NCCL are empty without these macros.
  target_compile_definitions(${name} INTERFACE USE_C10D_GLOO)
  # A folder that the compiler searches anyway would change the order of its own folders. It may also have the headers of
  # another LibTorch.
  if(NOT gloo_INCLUDE_DIR IN_LIST CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES)
    target_include_directories(${name} SYSTEM INTERFACE "${gloo_INCLUDE_DIR}")
  endif()

  if(NOT TARGET torch_cuda OR Torch_VERSION VERSION_LESS 2.6)
    return()
  endif()
  # PyTorch's wheel has NCCL's header in a package next to it.
  find_path(nccl_INCLUDE_DIR nccl.h HINTS ${torch_includes}
    "${TORCH_INSTALL_PREFIX}/../nvidia/nccl/include" "${CUDA_TOOLKIT_ROOT_DIR}/include")
  mark_as_advanced(nccl_INCLUDE_DIR)
  torch_npy_torch_has(ProcessGroupNCCL has_nccl)
  if(NOT has_nccl)
    return()
  endif()
  # LibTorch's headers about NCCL include these, of which a wheel for CUDA has only some.
  set(CMAKE_REQUIRED_QUIET ON)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  set(CMAKE_REQUIRED_INCLUDES)
  if(TARGET CUDA::cudart)  # that of LibTorch's CMake files
    get_target_property(CMAKE_REQUIRED_INCLUDES CUDA::cudart INTERFACE_INCLUDE_DIRECTORIES)
  endif()
  unset(TORCH_NPY_HAVE_CUDA_HEADERS CACHE)  # a toolkit may have come or gone
  check_cxx_source_compiles("#include <cuda_runtime.h>\n#include <cublasLt.h>\n#include <cusolverDn.h>
    #include <cusparse.h>\n#include <cuda_fp8.h>\nint main() {}" TORCH_NPY_HAVE_CUDA_HEADERS)
  if(NOT TORCH_NPY_HAVE_CUDA_HEADERS)
    message(STATUS "torch_npy::world does not use GPUs: the headers of a CUDA toolkit are not found")
  elseif(NOT nccl_INCLUDE_DIR)
    message(STATUS "torch_npy::world does not use GPUs: the header of NCCL is not found. Set nccl_INCLUDE_DIR to the folder "
      "that contains nccl.h")
  else()
    target_compile_definitions(${name} INTERFACE USE_C10D_NCCL TORCH_NPY_WITH_NCCL)
    if(NOT nccl_INCLUDE_DIR IN_LIST CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES)
      target_include_directories(${name} SYSTEM INTERFACE "${nccl_INCLUDE_DIR}")
    endif()
  endif()
endfunction()
