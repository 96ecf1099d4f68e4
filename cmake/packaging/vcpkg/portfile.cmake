# An overlay port: vcpkg install torch-npy --overlay-ports=torch_npy/cmake/packaging/vcpkg
# It installs the checkout in which it lies. vcpkg looks at this folder alone to tell whether there is
# something new: after the checkout has changed, `vcpkg remove torch-npy` first, and --no-binarycaching.
set(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../..")
set(VCPKG_BUILD_TYPE release) # headers, the same in a debug build

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS -DTORCH_NPY_BUILD_TESTS=OFF -DTORCH_NPY_BUILD_EXAMPLES=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME torch_npy CONFIG_PATH share/cmake/torch_npy)

# Nothing but headers. The .pc files name the system's LibTorch, not vcpkg's.
file(REMOVE_RECURSE
  "${CURRENT_PACKAGES_DIR}/lib" "${CURRENT_PACKAGES_DIR}/share/doc" "${CURRENT_PACKAGES_DIR}/share/pkgconfig")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
