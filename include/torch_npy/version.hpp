#ifndef TORCH_NPY_VERSION_HPP_
#define TORCH_NPY_VERSION_HPP_

/// @file
/// The version of the library.

// The one source of the version: CMake reads it from here. Semantic versioning.
#define TORCH_NPY_VERSION_MAJOR 0  ///< with another one programs may have to change
#define TORCH_NPY_VERSION_MINOR 2  ///< there is more than before; while MAJOR is 0, as that
#define TORCH_NPY_VERSION_PATCH 0  ///< nothing but faults mended

/// Part of TORCH_NPY_VERSION_NAMESPACE.
#define TORCH_NPY_VERSION_NAMESPACE_OF_(major, minor, patch) v##major##_##minor##_##patch
/// Part of TORCH_NPY_VERSION_NAMESPACE.
#define TORCH_NPY_VERSION_NAMESPACE_OF(major, minor, patch) \
  TORCH_NPY_VERSION_NAMESPACE_OF_(major, minor, patch)
/// Everything is in the inline namespace torch_npy::vMAJOR_MINOR_PATCH, which nobody has to write:
/// two libraries of one program may each have been built with another version, and their functions
/// differ in name. So do their types: what passes between such libraries is LibTorch's own, and an
/// Error of the other's is caught as std::exception. Who declares a name ahead does so in
/// `namespace torch_npy { inline namespace TORCH_NPY_VERSION_NAMESPACE { struct Header; } }`, after
/// this header.
#define TORCH_NPY_VERSION_NAMESPACE                                                \
  TORCH_NPY_VERSION_NAMESPACE_OF(TORCH_NPY_VERSION_MAJOR, TORCH_NPY_VERSION_MINOR, \
                                 TORCH_NPY_VERSION_PATCH)

/// Opens that namespace, in every header of the library.
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
/// What goes wrong is an Error, whose code tells a program what. Want of memory may also show as
/// std::bad_alloc, or as what LibTorch throws for it; a copy to or from a device throws what
/// LibTorch throws. Functions may be called from any number of threads at once, each with streams
/// and tensors to fill of its own; what is true of the objects of a class stands there.

#endif  // TORCH_NPY_VERSION_HPP_
