# LibTorch's headers take most of the time to compile a program. For programs that are built together, one
# compilation of `header` serves all of them; their flags and macros must be the same.
#
#   torch_npy_precompile(TARGET HEADER)
function(torch_npy_precompile target header)
  if(CMAKE_DISABLE_PRECOMPILE_HEADERS) # REUSE_FROM would still link the other program first
    return()
  endif()
  get_property(first GLOBAL PROPERTY "torch_npy_precompiled ${header}")
  if(first)
    target_precompile_headers(${target} REUSE_FROM ${first})
  else()
    target_precompile_headers(${target} PRIVATE ${header})
    set_property(GLOBAL PROPERTY "torch_npy_precompiled ${header}" ${target})
  endif()
endfunction()
