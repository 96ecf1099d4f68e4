# torch_npy::arrow: the library together with Apache Arrow, for object stores. Makes the target NAME where Arrow is
# found: its CMake package, or else the library in the pyarrow of the active Python, which has S3, GCS and HDFS.
include(CheckCXXSourceCompiles)

# Sets RESULT to the lowest C++ standard that Arrow's headers compile with, 17 or 20. Known from the last time if they are
# those of that time.
function(torch_npy_arrow_standard arrow result)
  get_target_property(folders ${arrow} INTERFACE_INCLUDE_DIRECTORIES)
  find_file(TORCH_NPY_ARROW_CONFIG arrow/util/config.h PATHS ${folders} NO_DEFAULT_PATH NO_CACHE)
  file(MD5 "${TORCH_NPY_ARROW_CONFIG}" release)
  string(SUBSTRING "${release}" 0 8 release)
  set(CMAKE_REQUIRED_QUIET ON)  # the answer no is no failure
  set(CMAKE_REQUIRED_LIBRARIES ${arrow})
  set(CMAKE_CXX_STANDARD 17)
  set(CMAKE_CXX_STANDARD_REQUIRED ON)
  check_cxx_source_compiles("#include <arrow/filesystem/filesystem.h>\n#include <arrow/util/future.h>\nint main() { return arrow::Status::OK().ok() ? 0 : 1; }"
    TORCH_NPY_ARROW_${release}_TAKES_CXX17)
  set(${result} 20 PARENT_SCOPE)
  if(TORCH_NPY_ARROW_${release}_TAKES_CXX17)
    set(${result} 17 PARENT_SCOPE)
  endif()
endfunction()

# Sets RESULT to a target for the library in the active Python's pyarrow; to nothing if there is none.
function(torch_npy_arrow_of_python result)
  set(${result} "" PARENT_SCOPE)
  find_program(TORCH_NPY_PYARROW_PYTHON NAMES python3 python DOC "A Python that has pyarrow")
  mark_as_advanced(TORCH_NPY_PYARROW_PYTHON)
  if(NOT TORCH_NPY_PYARROW_PYTHON)
    return()
  endif()
  # Not imported, which would take a second.
  execute_process(COMMAND "${TORCH_NPY_PYARROW_PYTHON}" -c
    "import importlib.util, os; print(os.path.dirname(importlib.util.find_spec('pyarrow').origin))"
    OUTPUT_VARIABLE folder OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  file(GLOB library "${folder}/libarrow.so.*[0-9]00" "${folder}/libarrow.*[0-9]00.dylib" "${folder}/arrow.lib")
  if(failed OR NOT library)
    return()
  endif()
  file(GLOB s3 "${folder}/libarrow_s3.so.*[0-9]00" "${folder}/libarrow_s3.*[0-9]00.dylib" "${folder}/arrow_s3.lib")
  if(NOT TARGET torch_npy_pyarrow)
    add_library(torch_npy_pyarrow INTERFACE IMPORTED GLOBAL)
    target_include_directories(torch_npy_pyarrow INTERFACE "${folder}/include")
    target_link_libraries(torch_npy_pyarrow INTERFACE ${s3} ${library})
  endif()
  set(${result} torch_npy_pyarrow PARENT_SCOPE)
endfunction()

function(torch_npy_find_arrow name)
  find_package(Arrow CONFIG QUIET GLOBAL)
  if(TARGET Arrow::arrow_shared)
    set(arrow Arrow::arrow_shared)
  elseif(NOT CMAKE_CROSSCOMPILING)  # that Python's library is for the machine that compiles
    torch_npy_arrow_of_python(arrow)
  endif()
  if(NOT arrow)
    return()
  endif()
  torch_npy_arrow_standard("${arrow}" standard)
  add_library(${name} INTERFACE IMPORTED GLOBAL)
  target_link_libraries(${name} INTERFACE torch_npy::torch_npy ${arrow})
  target_compile_features(${name} INTERFACE cxx_std_${standard})
endfunction()
