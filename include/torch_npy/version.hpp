#ifndef TORCH_NPY_VERSION_HPP_
#define TORCH_NPY_VERSION_HPP_

// The one source of the version: CMake reads it from here. Semantic versioning.
#define TORCH_NPY_VERSION_MAJOR 0
#define TORCH_NPY_VERSION_MINOR 1
#define TORCH_NPY_VERSION_PATCH 0

#endif  // TORCH_NPY_VERSION_HPP_
