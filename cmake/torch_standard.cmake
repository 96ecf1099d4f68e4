# The C++ standard that the headers of the LibTorch at hand demand: 17, or more where LibTorch says so.
# Up to 2.14 it says with which one it was built itself, from 2.15 on what it wants of its users.
function(torch_npy_torch_standard result)
  get_target_property(standards torch CXX_STANDARD)
  get_target_property(features torch INTERFACE_COMPILE_FEATURES)
  string(REGEX MATCHALL "[0-9]+" standards "17 ${standards} ${features}")
  list(SORT standards COMPARE NATURAL ORDER DESCENDING)
  list(GET standards 0 standard)
  set(${result} ${standard} PARENT_SCOPE)
endfunction()
