#ifndef TORCH_NPY_VERSION_HPP_
#define TORCH_NPY_VERSION_HPP_

/// @file
/// The version of the library.

// The only place that states the version; CMake reads it from here. Semantic versioning.
#define TORCH_NPY_VERSION_MAJOR 0  ///< increases with incompatible changes
#define TORCH_NPY_VERSION_MINOR 2  ///< increases with new features, before 1.0 with any change
#define TORCH_NPY_VERSION_PATCH 0  ///< increases with fixes

/// Part of TORCH_NPY_VERSION_NAMESPACE.
#define TORCH_NPY_VERSION_NAMESPACE_OF_(major, minor, patch) v##major##_##minor##_##patch
/// Part of TORCH_NPY_VERSION_NAMESPACE.
#define TORCH_NPY_VERSION_NAMESPACE_OF(major, minor, patch) \
  TORCH_NPY_VERSION_NAMESPACE_OF_(major, minor, patch)
/// Everything is in the inline namespace torch_npy::vMAJOR_MINOR_PATCH, which programs do not
/// write. Two libraries of one program may be built with different versions, because their
/// functions and types have different names. Pass only LibTorch's types between such libraries, and
/// catch an Error of the other one as std::exception. To forward-declare a name, include this
/// header and write `namespace torch_npy { inline namespace TORCH_NPY_VERSION_NAMESPACE { struct
/// Header; } }`.
#define TORCH_NPY_VERSION_NAMESPACE                                                \
  TORCH_NPY_VERSION_NAMESPACE_OF(TORCH_NPY_VERSION_MAJOR, TORCH_NPY_VERSION_MINOR, \
                                 TORCH_NPY_VERSION_PATCH)

/// Opens that namespace; every header of the library uses it.
#define TORCH_NPY_BEGIN_NAMESPACE \
  namespace torch_npy {           \
  inline namespace TORCH_NPY_VERSION_NAMESPACE {
/// Closes it.
#define TORCH_NPY_END_NAMESPACE \
  }                             \
  }

/// @namespace torch_npy
/// NumPy files to LibTorch tensors, and folders of them to training batches.
///
/// Failures throw Error, whose code() is for programs. std::bad_alloc is thrown if there is no
/// memory for an Error. A copy to or from a device throws what LibTorch throws. Free functions may
/// be called from any number of threads at once, if each has its own stream or its own tensor to
/// fill. Each class documents the thread-safety of its objects.

#endif  // TORCH_NPY_VERSION_HPP_
