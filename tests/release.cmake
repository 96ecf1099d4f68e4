# The version stands in include/torch_npy/version.hpp. What repeats it has to say the same:
#
#   cmake -P tests/release.cmake             CHANGELOG.md and the vcpkg port
#   cmake -DTAG=v1.2.3 -P tests/release.cmake    the tag of a release, too, which the changelog has to date
set(root "${CMAKE_CURRENT_LIST_DIR}/..")
file(READ "${root}/include/torch_npy/version.hpp" header)
string(REGEX MATCHALL "#define TORCH_NPY_VERSION_(MAJOR|MINOR|PATCH) [0-9]+" parts "${header}")
string(REGEX REPLACE "#define TORCH_NPY_VERSION_[A-Z]+ " "" version "${parts}")
list(JOIN version "." version)

function(compare what found)
  if(NOT found STREQUAL version)
    message(SEND_ERROR "${what} says ${found}, version.hpp ${version}")
  endif()
endfunction()

file(READ "${root}/cmake/packaging/vcpkg/vcpkg.json" port)
string(JSON port_version GET "${port}" version)
compare("vcpkg.json" "${port_version}")

file(STRINGS "${root}/CHANGELOG.md" headings REGEX "^## ")
list(GET headings 0 newest)
string(REGEX MATCH "^## ([0-9.]+) \\((unreleased|[0-9]+-[0-9]+-[0-9]+)\\)$" well_formed "${newest}")
if(NOT well_formed)
  message(SEND_ERROR "CHANGELOG.md begins with \"${newest}\", not \"## ${version} (DATE or unreleased)\"")
endif()
set(date "${CMAKE_MATCH_2}")
compare("CHANGELOG.md" "${CMAKE_MATCH_1}")

if(DEFINED TAG)
  string(REGEX REPLACE "^v" "" tag_version "${TAG}")
  compare("The tag ${TAG}" "${tag_version}")
  if(date STREQUAL "unreleased")
    message(SEND_ERROR "The tag ${TAG}: CHANGELOG.md says unreleased")
  endif()
endif()
message(STATUS "version ${version}")
