# The C++ standard that the headers of the LibTorch at hand demand: 17, or what LibTorch built itself
# with where that is newer (20 for LibTorch 2.14). Imported targets do not pass CXX_STANDARD on.
function(torch_npy_torch_standard result)
  get_target_property(standard torch CXX_STANDARD)
  if(NOT standard OR standard LESS 17)
    set(standard 17)
  endif()
  set(${result} ${standard} PARENT_SCOPE)
endfunction()
