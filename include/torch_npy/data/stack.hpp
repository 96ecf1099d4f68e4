#ifndef TORCH_NPY_DATA_STACK_HPP_
#define TORCH_NPY_DATA_STACK_HPP_

/// @file
/// Stack: lists of samples become batches. See also PadStack.

#include <torch/data.h>

#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// Stacks a list of samples into one Example: samples of shape S become tensors of shape (batch
/// size, S...). For the datasets of this library, `.stacked()` is the same and needs no template
/// argument; Stack is for LibTorch's own, and for chains that LibTorch's `Stack` is written in.
/// Does not copy a batch of this library's datasets, unless an earlier transform made new tensors.
/// Throws Error (Mismatch) for an empty batch, and if samples differ in shape or dtype; the message
/// names two of their files if they are known.
template <class E = Example<>>
struct Stack : torch::data::transforms::BatchTransform<std::vector<E>, Batch<E>> {
  /// Stacks `samples`; LibTorch's loader calls this.
  Batch<E> apply_batch(std::vector<E> samples) override {
    return detail::stack_examples(std::move(samples));
  }
};

}  // namespace transforms
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STACK_HPP_
