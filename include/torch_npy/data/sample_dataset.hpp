#ifndef TORCH_NPY_DATA_SAMPLE_DATASET_HPP_
#define TORCH_NPY_DATA_SAMPLE_DATASET_HPP_

/// @file
/// The common part of all datasets.

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

/// Limit on the unused memory that a dataset keeps for its next batches, in bytes.
constexpr std::size_t kKeptBytes = std::size_t{256} << 20;

inline std::shared_ptr<BufferPool> make_pool() { return std::make_shared<BufferPool>(kKeptBytes); }

template <class E>
constexpr bool kHasTarget = !std::is_void_v<typename E::TargetType>;

// The API reference shows this one: users call its members on every dataset.
/// A dataset that reads whole batches. `Self` has `length()` and `read(indices, may_skip)`, which
/// returns Samples, or a pair of them for data and target.
template <class Self, class E>
class SampleDataset : public torch::data::datasets::Dataset<Self, E> {
 public:
  /// Reads sample `index`. Throws Error: as load(), also with OnBadFile::Skip; InvalidArgument if
  /// `index` is not less than size(). Safe from any thread.
  E get(std::size_t index) override { return std::move(examples(index, false)[0]); }

  /// Reads the samples `indices`, in that order; LibTorch's loader calls this. If all samples have
  /// the same shape and dtype, they are rows of one tensor, and transforms::Stack does not copy
  /// them. With OnBadFile::Skip the result may have fewer samples than `indices`. Throws Error: as
  /// load(); InvalidArgument for an index that is not less than size(). Safe from any thread.
  std::vector<E> get_batch(c10::ArrayRef<std::size_t> indices) override {
    return examples(indices, true);
  }

  /// Reads the samples `indices` as one Example: samples of shape S become tensors (number of
  /// samples, S...). Throws Error: as get_batch(); Mismatch if they differ in shape or dtype, or if
  /// no sample is left. Safe from any thread.
  Batch<E> get_stacked_batch(c10::ArrayRef<std::size_t> indices) const {
    begin(indices);
    if constexpr (kHasTarget<E>) {
      auto [data, target] = self().read(indices, true);
      return Batch<E>(std::move(data).stacked(), std::move(target).stacked());
    } else {
      return Batch<E>(self().read(indices, true).stacked());
    }
  }

  /// This dataset with each batch as one Example, like `.map(transforms::Stack<>())` but faster,
  /// because it makes no tensor per sample. It holds a copy of the dataset, which is cheap.
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
                  "index " + std::to_string(index) + " is out of range for a dataset of " +
                      counted(self().length(), "sample") + "; a sampler needs the same size");
    }
    names_.begin(indices);
  }

  BatchNames names_;
};

}  // namespace detail

/// A dataset whose batches are one Example each: the result of `stacked()`.
template <class Dataset>
class Stacked : public torch::data::datasets::BatchDataset<Stacked<Dataset>,
                                                           Batch<typename Dataset::ExampleType>> {
 public:
  /// Called by `stacked()`.
  explicit Stacked(Dataset dataset) : dataset_(std::move(dataset)) {}

  /// Reads the samples `indices` as one Example, by get_stacked_batch() of the dataset, which
  /// documents the errors; LibTorch's loader calls this. Safe from any thread.
  Batch<typename Dataset::ExampleType> get_batch(c10::ArrayRef<std::size_t> indices) override {
    return dataset_.get_stacked_batch(indices);
  }
  /// Number of samples.
  c10::optional<std::size_t> size() const override { return dataset_.size(); }

  /// The dataset that reads the samples.
  const Dataset& dataset() const noexcept { return dataset_; }

 private:
  Dataset dataset_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SAMPLE_DATASET_HPP_
