# torch_npy::npz: the library together with libdeflate, which deflated arrays in .npz files take. Makes the
# target NAME where libdeflate is found. Looked for by its header and library, for not every release of it
# brings a CMake package.
function(torch_npy_find_npz name)
  find_path(libdeflate_INCLUDE_DIR libdeflate.h)
  find_library(libdeflate_LIBRARY NAMES deflate libdeflate)
  mark_as_advanced(libdeflate_INCLUDE_DIR libdeflate_LIBRARY)
  if(NOT libdeflate_INCLUDE_DIR OR NOT libdeflate_LIBRARY)
    return()
  endif()
  add_library(${name} INTERFACE IMPORTED GLOBAL)
  target_link_libraries(${name} INTERFACE torch_npy::torch_npy "${libdeflate_LIBRARY}")
  target_include_directories(${name} INTERFACE "${libdeflate_INCLUDE_DIR}")
  target_compile_definitions(${name} INTERFACE TORCH_NPY_WITH_LIBDEFLATE)
endfunction()
