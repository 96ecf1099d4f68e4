# This machine's LibTorch, in the place of one for CUDA: stops if it would have to look for a CUDA toolkit.
if(NOT TARGET torch::cudart)
  message(FATAL_ERROR "There is no CUDA toolkit")
endif()
include("$ENV{Torch_DIR}/TorchConfig.cmake")
