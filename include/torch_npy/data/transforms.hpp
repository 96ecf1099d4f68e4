#ifndef TORCH_NPY_DATA_TRANSFORMS_HPP_
#define TORCH_NPY_DATA_TRANSFORMS_HPP_

/// @file
/// All transforms of batches, in namespace torch_npy::transforms.

#include <torch_npy/data/normalize.hpp>
#include <torch_npy/data/random_crop.hpp>
#include <torch_npy/data/random_flip.hpp>
#include <torch_npy/data/stack.hpp>
#include <torch_npy/data/to_tensor.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/version.hpp>

#endif  // TORCH_NPY_DATA_TRANSFORMS_HPP_
