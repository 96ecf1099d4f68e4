#ifndef TORCH_NPY_DATA_BATCH_HPP_
#define TORCH_NPY_DATA_BATCH_HPP_

/// @file
/// The samples and batches that datasets give.

#include <torch/data.h>

#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// LibTorch's own: `data` and `target`, two tensors.
using torch::data::Example;
/// LibTorch's own: `data`, a tensor, and no target.
using torch::data::TensorExample;

/// An Example that holds a whole batch: the sample index is axis 0 of its tensors. `Batch<>` has
/// `data` and `target`, `Batch<TensorExample>` has `data` and converts to a Tensor.
///
/// The one thing it adds is a type: LibTorch's `.map()` wants a value_type of what it maps, so that
/// nothing could be mapped once the samples are stacked to an Example.
template <class E = Example<>>
struct Batch : E {
  using value_type = E;
  using E::E;
  /// Undefined tensors.
  Batch() = default;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_HPP_
