#ifndef TORCH_NPY_DATA_SAMPLE_DATASET_HPP_
#define TORCH_NPY_DATA_SAMPLE_DATASET_HPP_

/// @file
/// What all datasets have in common.

#include <c10/util/ArrayRef.h>
#include <c10/util/Optional.h>
#include <torch/data.h>

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE

template <class Dataset>
class Stacked;

namespace detail {

/// Bytes of batches that a dataset keeps for the next ones while nobody uses them.
constexpr std::size_t kKeptBytes = std::size_t{256} << 20;

inline std::shared_ptr<BufferPool> make_pool() { return std::make_shared<BufferPool>(kKeptBytes); }

template <class E>
constexpr bool kHasTarget = !std::is_void_v<typename E::TargetType>;

// The API reference shows this one: users call its members on every dataset.
/// A dataset that reads batches as a whole. `Self` has `length()`, and `read(indices, may_skip)`,
/// which gives Samples, or a pair of them, data and target.
template <class Self, class E>
class SampleDataset : public torch::data::datasets::Dataset<Self, E> {
 public:
  /// Sample `index`. Throws Error, also for a bad file that a batch would leave out;
  /// InvalidArgument where there is no such sample. Safe from any thread.
  E get(std::size_t index) override { return std::move(examples(index, false)[0]); }

  /// The samples `indices`, in that order, as LibTorch's loader asks for them. Where they are alike
  /// they are rows of one tensor, which transforms::Stack hands on without a copy. Fewer Examples
  /// than indices where OnBadFile::Skip leaves some out. Throws Error: what load() throws about the
  /// files; an index that no sample has is InvalidArgument. Safe from any thread.
  std::vector<E> get_batch(c10::ArrayRef<std::size_t> indices) override {
    return examples(indices, true);
  }

  /// The samples `indices` as one Example: those of shape S as tensors (number of samples, S...).
  /// Throws Error, as get_batch(), and Mismatch when they differ in shape or dtype, or when none is
  /// left. Safe from any thread.
  Batch<E> get_stacked_batch(c10::ArrayRef<std::size_t> indices) const {
    begin(indices);
    if constexpr (kHasTarget<E>) {
      auto [data, target] = self().read(indices, true);
      return Batch<E>(std::move(data).stacked(), std::move(target).stacked());
    } else {
      return Batch<E>(self().read(indices, true).stacked());
    }
  }

  /// The same dataset with batches of one Example each, as transforms::Stack makes them, and a
  /// little faster: no tensor is made for a sample alone. It holds a copy, which costs nothing.
  Stacked<Self> stacked() const { return Stacked<Self>(self()); }

  /// Number of samples.
  c10::optional<std::size_t> size() const override { return self().length(); }

 protected:
  explicit SampleDataset(std::size_t length) : names_(length) {}

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }

  std::vector<E> examples(c10::ArrayRef<std::size_t> indices, bool may_skip) const {
    begin(indices);
    std::vector<E> examples;
    examples.reserve(indices.size());
    if constexpr (kHasTarget<E>) {
      auto [samples, target_samples] = self().read(indices, may_skip);
      std::vector<at::Tensor> data = std::move(samples).separate();
      std::vector<at::Tensor> targets = std::move(target_samples).separate();
      for (std::size_t i = 0; i < data.size(); ++i) {
        examples.emplace_back(std::move(data[i]), std::move(targets[i]));
      }
    } else {
      for (at::Tensor& data : self().read(indices, may_skip).separate()) {
        examples.emplace_back(std::move(data));
      }
    }
    return examples;
  }

  void begin(c10::ArrayRef<std::size_t> indices) const {
    for (const std::size_t index : indices) {
      if (index < self().length()) continue;
      throw Error(ErrorCode::InvalidArgument,
                  "sample " + std::to_string(index) + " of a dataset of " +
                      counted(self().length(), "sample") + ": does the sampler know its size?");
    }
    names_.begin(indices);
  }

  BatchNames names_;
};

}  // namespace detail

/// The samples of `Dataset`, each batch one Example: what the `stacked()` of a dataset gives.
template <class Dataset>
class Stacked : public torch::data::datasets::BatchDataset<Stacked<Dataset>,
                                                           Batch<typename Dataset::ExampleType>> {
 public:
  /// The `stacked()` of a dataset calls it.
  explicit Stacked(Dataset dataset) : dataset_(std::move(dataset)) {}

  /// The samples `indices` as one Example, as LibTorch's loader asks for them: get_stacked_batch()
  /// of the dataset, which tells what it throws. Safe from any thread.
  Batch<typename Dataset::ExampleType> get_batch(c10::ArrayRef<std::size_t> indices) override {
    return dataset_.get_stacked_batch(indices);
  }
  /// Number of samples.
  c10::optional<std::size_t> size() const override { return dataset_.size(); }

  /// The dataset whose samples these are.
  const Dataset& dataset() const noexcept { return dataset_; }

 private:
  Dataset dataset_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SAMPLE_DATASET_HPP_
