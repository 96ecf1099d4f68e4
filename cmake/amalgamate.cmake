# Makes include/torch_npy.hpp: every header of include/torch_npy/ once, each after those it includes.
#
#   cmake -P cmake/amalgamate.cmake                  write it
#   cmake -DCHECK=ON -P cmake/amalgamate.cmake       fail when the committed one is another
#
# The data floor comes last, and TORCH_NPY_NO_DATA leaves it out.

get_filename_component(include_dir "${CMAKE_CURRENT_LIST_DIR}/../include" ABSOLUTE)
set(target "${include_dir}/torch_npy.hpp")
set(include_line "#include <torch_npy/([a-z_/]+)\\.hpp>\n")

set(result "// torch_npy: NumPy files to LibTorch tensors. SPDX-License-Identifier: MIT
// GENERATED from the headers in include/torch_npy/ by cmake/amalgamate.cmake: change those instead.

")

function(emit name)
  get_property(done GLOBAL PROPERTY "emitted_${name}")
  if(done)
    return()
  endif()
  set_property(GLOBAL PROPERTY "emitted_${name}" TRUE)
  file(READ "${include_dir}/torch_npy/${name}.hpp" text)
  string(REGEX MATCHALL "${include_line}" includes "${text}")
  foreach(line IN LISTS includes)
    string(REGEX REPLACE "${include_line}" "\\1" needed "${line}")
    emit(${needed})
  endforeach()
  string(REGEX REPLACE "(${include_line})+\n?" "" text "${text}")
  set_property(GLOBAL APPEND_STRING PROPERTY amalgamated "// ---- torch_npy/${name}.hpp\n\n${text}\n")
endfunction()

emit(version)
foreach(floor IN ITEMS format io zip tensor data)
  file(GLOB headers RELATIVE "${include_dir}/torch_npy" "${include_dir}/torch_npy/${floor}/*.hpp")
  list(SORT headers)
  if(floor STREQUAL "data")
    set_property(GLOBAL APPEND_STRING PROPERTY amalgamated "#ifndef TORCH_NPY_NO_DATA\n\n")
  endif()
  foreach(header IN LISTS headers)
    string(REGEX REPLACE "\\.hpp$" "" name "${header}")
    emit(${name})
  endforeach()
endforeach()
get_property(amalgamated GLOBAL PROPERTY amalgamated)
string(APPEND result "${amalgamated}#endif  // TORCH_NPY_NO_DATA\n")

if(CHECK)
  file(READ "${target}" committed)
  if(NOT committed STREQUAL result)
    message(FATAL_ERROR "include/torch_npy.hpp is stale: run cmake -P cmake/amalgamate.cmake")
  endif()
else()
  file(WRITE "${target}" "${result}")
endif()
