#ifndef TORCH_NPY_DATA_STACK_HPP_
#define TORCH_NPY_DATA_STACK_HPP_

/// @file
/// Stack and PadStack: lists of samples become batches.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/core/Scalar.h>
#include <torch/data.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/memory.hpp>

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

/// Stacks samples of different length, as torch.nn.utils.rnn.pad_sequence(batch_first=True) does:
/// tensors of shape (length, S...) become one of shape (batch size, longest length, S...), padded
/// at the end with a value. The result is a PaddedBatch, which also has the lengths.
///
///     for (auto& batch : loader) { batch.data; batch.lengths; batch.target; batch.target_lengths;
///     }
///
/// Targets that are 0-d, such as labels, are stacked. Throws Error (Mismatch) for an empty batch,
/// and if samples differ in S or dtype.
class PadStack {
 public:
  /// With the values that fill the padding of data and target, in their dtypes.
  explicit PadStack(at::Scalar data_value = 0, at::Scalar target_value = 0)
      : data_value_(std::move(data_value)), target_value_(std::move(target_value)) {}

  /// Stacks `samples`.
  template <class E>
  PaddedBatch<E> operator()(std::vector<E> samples) const {
    static_assert(detail::kStackable<E> && !std::is_same_v<E, NamedExample>,
                  "PadStack expects samples of Example<> or TensorExample");
    if (samples.empty()) detail::require_alike({});
    PaddedBatch<E> batch;
    batch.data = pad(detail::take_tensors(samples, 0), data_value_, batch.lengths);
    if constexpr (detail::kHasTarget<E>) {
      const auto targets = detail::take_tensors(samples, 1);
      for (const at::Tensor& target : targets) {
        if (target.defined() != targets[0].defined()) throw differs(targets[0], target);
      }
      if (targets[0].defined() && targets[0].dim() == 0) {
        batch.target = detail::stack_samples(targets);
      } else if (targets[0].defined()) {
        batch.target = pad(targets, target_value_, batch.target_lengths);
      }
    }
    return batch;
  }

 private:
  static at::Tensor pad(const std::vector<at::Tensor>& samples, const at::Scalar& value,
                        at::Tensor& lengths) {
    const at::Tensor& first = samples[0];
    std::vector<std::int64_t> sizes = {static_cast<std::int64_t>(samples.size()), 0};
    std::vector<std::int64_t> all;
    for (const at::Tensor& sample : samples) {
      if (!sample.defined() || sample.dim() == 0 || sample.dim() != first.dim() ||
          sample.scalar_type() != first.scalar_type() ||
          sample.sizes().slice(1) != first.sizes().slice(1)) {
        throw differs(first, sample);
      }
      all.push_back(sample.size(0));
      sizes[1] = (std::max)(sizes[1], sample.size(0));
    }
    sizes.insert(sizes.end(), first.sizes().begin() + 1, first.sizes().end());
    const at::Tensor out = at::empty(sizes, first.options());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const at::Tensor row = out.select(0, static_cast<std::int64_t>(i));
      row.narrow(0, 0, all[i]).copy_(samples[i]);
      if (all[i] != sizes[1]) row.narrow(0, all[i], sizes[1] - all[i]).fill_(value);
    }
    lengths = at::tensor(all, at::kLong).to(first.device());
    return out;
  }

  static Error differs(const at::Tensor& first, const at::Tensor& other) {
    const auto describe = [](const at::Tensor& tensor) {
      if (!tensor.defined()) return std::string("no tensor");
      const std::string origin = detail::origin_of(tensor);
      return (origin.empty() ? "" : origin + " has ") + "shape " +
             detail::python_tuple(tensor.sizes().vec()) + " and dtype " +
             c10::toString(tensor.scalar_type());
    };
    return Error(ErrorCode::Mismatch,
                 "PadStack expects samples that differ only in the size of axis 0: " +
                     describe(first) + ", " + describe(other));
  }

  at::Scalar data_value_;
  at::Scalar target_value_;
};

}  // namespace transforms
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STACK_HPP_
