# The API reference: the target docs, where there is Doxygen. It reads the headers through
# docs.sed and needs no LibTorch.

find_package(Doxygen 1.9 QUIET)
if(NOT DOXYGEN_FOUND)
  if(TORCH_NPY_BUILD_DOCS)
    message(FATAL_ERROR "TORCH_NPY_BUILD_DOCS needs Doxygen 1.9 or later, and there is none: install it "
      "(Debian: doxygen), or name its program by DOXYGEN_EXECUTABLE")
  endif()
  return()
endif()

set(DOXYGEN_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
set(DOXYGEN_QUIET YES)
set(DOXYGEN_WARN_IF_UNDOCUMENTED YES)
set(DOXYGEN_WARN_AS_ERROR FAIL_ON_WARNINGS)
set(DOXYGEN_EXTRACT_ALL NO)
set(DOXYGEN_HAVE_DOT NO)
set(DOXYGEN_CLASS_GRAPH NO)

set(DOXYGEN_FILE_PATTERNS *.hpp)
set(DOXYGEN_USE_MDFILE_AS_MAINPAGE "${PROJECT_SOURCE_DIR}/README.md")
set(DOXYGEN_INPUT_FILTER "sed -E -f cmake/docs.sed")
set(DOXYGEN_STRIP_FROM_PATH "${PROJECT_SOURCE_DIR}/include")
set(DOXYGEN_STRIP_FROM_INC_PATH "${PROJECT_SOURCE_DIR}/include")
set(DOXYGEN_JAVADOC_AUTOBRIEF YES)
set(DOXYGEN_ALWAYS_DETAILED_SEC YES)
set(DOXYGEN_INLINE_INHERITED_MEMB YES)
set(DOXYGEN_SORT_MEMBER_DOCS NO)
set(DOXYGEN_VERBATIM_HEADERS NO)

set(all "")
if(TORCH_NPY_BUILD_DOCS)
  set(all ALL)
endif()
doxygen_add_docs(docs "${PROJECT_SOURCE_DIR}/README.md" "${PROJECT_SOURCE_DIR}/include/torch_npy"
  ${all} COMMENT "API reference: ${PROJECT_BINARY_DIR}/html/index.html")
