#ifndef TORCH_NPY_VERSION_HPP_
#define TORCH_NPY_VERSION_HPP_

// The one source of the version: CMake reads it from here. Semantic versioning.
#define TORCH_NPY_VERSION_MAJOR 0
#define TORCH_NPY_VERSION_MINOR 1
#define TORCH_NPY_VERSION_PATCH 0

// Everything is in the inline namespace torch_npy::v0_1_0, which nobody has to write: two libraries
// of one program may each have been built with another version, and their functions differ in name.
#define TORCH_NPY_VERSION_NAMESPACE_OF_(major, minor, patch) v##major##_##minor##_##patch
#define TORCH_NPY_VERSION_NAMESPACE_OF(major, minor, patch) \
  TORCH_NPY_VERSION_NAMESPACE_OF_(major, minor, patch)
#define TORCH_NPY_VERSION_NAMESPACE                                                \
  TORCH_NPY_VERSION_NAMESPACE_OF(TORCH_NPY_VERSION_MAJOR, TORCH_NPY_VERSION_MINOR, \
                                 TORCH_NPY_VERSION_PATCH)

#endif  // TORCH_NPY_VERSION_HPP_
