#ifndef TORCH_NPY_DATA_BATCH_HPP_
#define TORCH_NPY_DATA_BATCH_HPP_

/// @file
/// The types of samples and batches.

#include <torch/data.h>

#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// LibTorch's own type: two tensors, `data` and `target`.
using torch::data::Example;
/// LibTorch's own type: one tensor, `data`, and no target.
using torch::data::TensorExample;

/// An Example that holds a whole batch: axis 0 of its tensors is the sample index. `Batch<>` has
/// `data` and `target`; `Batch<TensorExample>` has `data` and converts to a Tensor.
///
/// It adds only a member type: LibTorch's `.map()` needs `value_type`, and an Example has none.
template <class E = Example<>>
struct Batch : E {
  using value_type = E;
  using E::E;
  /// A batch with undefined tensors.
  Batch() = default;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_HPP_
