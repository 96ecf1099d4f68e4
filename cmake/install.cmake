include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_DATADIR}/cmake/torch_npy")

install(DIRECTORY include/ DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
set(targets torch_npy_core)
if(TORCH_NPY_WITH_TORCH)
  list(APPEND targets torch_npy)
endif()
install(TARGETS ${targets} EXPORT torch_npyTargets INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT torch_npyTargets NAMESPACE torch_npy:: DESTINATION "${package_dir}")

configure_package_config_file(cmake/torch_npyConfig.cmake.in
  "${PROJECT_BINARY_DIR}/torch_npyConfig.cmake" INSTALL_DESTINATION "${package_dir}"
  NO_SET_AND_CHECK_MACRO)
# Headers alone: the same package serves every architecture.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/torch_npyConfigVersion.cmake"
  COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)
install(FILES
  "${PROJECT_BINARY_DIR}/torch_npyConfig.cmake"
  "${PROJECT_BINARY_DIR}/torch_npyConfigVersion.cmake"
  cmake/without_cuda_toolkit.cmake
  cmake/torch_standard.cmake
  cmake/npz.cmake
  cmake/arrow.cmake
  cmake/world.cmake
  DESTINATION "${package_dir}")

# For pkg-config. They name no folder of this machine.
set(pkgconfig_dir "${CMAKE_INSTALL_DATADIR}/pkgconfig")
file(RELATIVE_PATH include_from_pc "${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
set(packages torch_npy-core)
if(TORCH_NPY_WITH_TORCH)
  list(APPEND packages torch_npy)
endif()
foreach(package IN LISTS packages)
  configure_file(cmake/packaging/${package}.pc.in "${PROJECT_BINARY_DIR}/${package}.pc" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/${package}.pc" DESTINATION "${pkgconfig_dir}")
endforeach()

install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}")
