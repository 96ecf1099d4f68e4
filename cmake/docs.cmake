# The target docs, if Doxygen is installed: the API reference from the headers, and README.md, docs/*.md,
# CONTRIBUTING.md and CHANGELOG.md as pages. Doxygen reads all files through docs.sed. Needs no LibTorch.

find_package(Doxygen 1.9 QUIET)
if(NOT DOXYGEN_FOUND)
  if(TORCH_NPY_BUILD_DOCS)
    message(FATAL_ERROR "TORCH_NPY_BUILD_DOCS needs Doxygen 1.9 or later, which was not found. Install it "
      "(Debian: doxygen), or set DOXYGEN_EXECUTABLE to its program")
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
set(DOXYGEN_STRIP_FROM_PATH "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
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
file(GLOB pages CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/docs/*.md")
foreach(page IN ITEMS README CONTRIBUTING CHANGELOG)
  list(APPEND pages "${PROJECT_SOURCE_DIR}/${page}.md")
endforeach()
doxygen_add_docs(docs ${pages} "${PROJECT_SOURCE_DIR}/include/torch_npy"
  ${all} COMMENT "API reference: ${PROJECT_BINARY_DIR}/html/index.html")
