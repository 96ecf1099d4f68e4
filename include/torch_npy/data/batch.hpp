#ifndef TORCH_NPY_DATA_BATCH_HPP_
#define TORCH_NPY_DATA_BATCH_HPP_

/// @file
/// The types of samples and batches.

#include <ATen/core/Tensor.h>
#include <torch/data.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// LibTorch's own type: two tensors, `data` and `target`.
using torch::data::Example;
/// LibTorch's own type: one tensor, `data`, and no target.
using torch::data::TensorExample;

/// A sample of any number of tensors, each with a name, in a fixed order.
class NamedExample {
 public:
  /// A name, and the tensor that has it.
  using Item = std::pair<std::string, at::Tensor>;

  NamedExample() = default;
  /// With these tensors. Throws Error (InvalidArgument) if two have the same name.
  explicit NamedExample(std::vector<Item> items) : items_(std::move(items)) {
    for (const Item& item : items_) {
      if (&find(item.first) == &item) continue;
      throw Error(ErrorCode::InvalidArgument,
                  "two tensors of one sample have the name " + detail::in_quotes(item.first));
    }
  }

  /// The tensor with this name. Throws Error (NotFound), which lists the names, if there is none.
  at::Tensor& operator[](const std::string& name) { return find(name).second; }
  /// The tensor with this name. Throws Error (NotFound), which lists the names, if there is none.
  const at::Tensor& operator[](const std::string& name) const {
    return const_cast<NamedExample*>(this)->find(name).second;
  }

  /// Names and tensors, in order.
  const std::vector<Item>& items() const noexcept { return items_; }
  /// Names and tensors, in order; do not change the names.
  std::vector<Item>& items() noexcept { return items_; }

 private:
  Item& find(const std::string& name) {
    std::string names;
    for (Item& item : items_) {
      if (item.first == name) return item;
      names += (names.empty() ? "" : ", ") + detail::in_quotes(item.first);
    }
    throw Error(ErrorCode::NotFound, "no tensor " + detail::in_quotes(name) +
                                         " in this sample or batch; it has " +
                                         (names.empty() ? "none" : names));
  }

  std::vector<Item> items_;
};

namespace detail {
/// Compilers show its name if a program uses `batch.data` of a list.
struct ListOfSamples_CallStackedOnTheDataset {};
}  // namespace detail

/// A batch as a list of samples, which may differ in shape.
template <class E = Example<>>
struct Samples : std::vector<E> {
  using std::vector<E>::vector;
  /// No samples.
  Samples() = default;
  /// With these samples, and no indices yet.
  explicit Samples(std::vector<E> samples) : std::vector<E>(std::move(samples)) {}

  /// A list has no `data`: Dataset::stacked() makes batches that have it.
  void data(detail::ListOfSamples_CallStackedOnTheDataset) const = delete;

  /// Which sample of the dataset each one is: the dataset that get_batch() was called on, or that
  /// the loader was given. Dataset::key() names it.
  std::vector<std::size_t> indices;
};

/// A batch as one Example: axis 0 of its tensors is the sample index. `Batch<>` has `data` and
/// `target`; `Batch<TensorExample>` has `data` and converts to a Tensor; see also NamedBatch.
template <class E = Example<>>
struct Batch : E {
  /// LibTorch's `.map()` needs it.
  using value_type = E;
  using E::E;
  /// A batch with undefined tensors.
  Batch() = default;
  /// With these tensors, and no indices yet.
  explicit Batch(E example) : E(std::move(example)) {}

  /// Which sample of the dataset each row is: the dataset that get_batch() was called on, or that
  /// the loader was given. Dataset::key() names it.
  std::vector<std::size_t> indices;
};

/// A batch of tensors with names: `batch["image"]`.
using NamedBatch = Batch<NamedExample>;

/// A batch of samples of different length, made by PadStack: tensors are padded to the longest
/// sample of the batch.
template <class E = Example<>>
struct PaddedBatch : Batch<E> {
  using Batch<E>::Batch;
  /// A batch with undefined tensors.
  PaddedBatch() = default;

  /// The length of each sample of `data`: int64, of shape (batch size). Undefined if `data` was not
  /// padded.
  at::Tensor lengths;
  /// The length of each sample of `target`; undefined if there is no target, or if it was not
  /// padded because it is 0-d.
  at::Tensor target_lengths;
};

/// The same with names: `batch["tokens"]`, `batch.lengths["tokens"]`.
template <>
struct PaddedBatch<NamedExample> : NamedBatch {
  using NamedBatch::Batch;
  /// A batch without tensors.
  PaddedBatch() = default;

  /// For each tensor that was padded, under its name, the length of each sample: int64, of shape
  /// (batch size).
  NamedExample lengths;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_HPP_
