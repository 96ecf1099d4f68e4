#ifndef TORCH_NPY_DATA_REQUEST_HPP_
#define TORCH_NPY_DATA_REQUEST_HPP_

/// @file
/// Request: which samples a batch consists of. SampleRegions: which parts of them.

#include <c10/core/Scalar.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <vector>

#include <torch_npy/tensor/options.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

class SourceInfo;

/// One sample of a Request.
struct Pick {
  std::size_t index = 0;       ///< its number in the dataset that was asked; in batch.indices
  std::uint64_t position = 0;  ///< its position in the order of the epoch, over all ranks
  std::size_t sample = 0;  ///< its number in the source that reads it, after subset() and concat()
  /// 0; if a function has made several samples of it: which of them.
  std::size_t copy = 0;
  /// Set by a source that has read only the part that Request::regions asks for.
  bool is_cropped = false;
};

/// The part of each sample that a crop keeps. Safe from any thread.
class SampleRegions {
 public:
  virtual ~SampleRegions() = default;

  /// The region of the data of a sample, which has this shape. What is outside of the data has the
  /// value fill_value(0). None if the data cannot be cropped: a source then reads the whole sample,
  /// and the crop throws the Error.
  virtual std::optional<Region> of_data(const Pick& pick, c10::IntArrayRef data) const = 0;

  /// The same for its target, which has the shape `target`; what is outside has the value
  /// fill_value(1). An empty Region if the target is not cropped.
  virtual std::optional<Region> of_target(const Pick& pick, c10::IntArrayRef data,
                                          c10::IntArrayRef target) const = 0;

  /// The value outside of the data (0) or of the target (1).
  virtual c10::Scalar fill_value(std::size_t part) const = 0;

 protected:
  SampleRegions() = default;
  SampleRegions(const SampleRegions&) = default;             ///< for derived classes
  SampleRegions& operator=(const SampleRegions&) = default;  ///< for derived classes
};

/// The samples of one batch, in order, and what their random numbers depend on. The samplers of
/// LibTorch give a std::vector<std::size_t> of indices, which converts to a Request.
struct Request {
  /// The samples, in order. A source removes those that it skips.
  std::vector<Pick> picks;

  /// The seed of a Loader. Without one, each transform uses a seed of its own.
  std::optional<std::uint64_t> seed;
  /// The epoch of a Loader; for LibTorch's loader a number that differs from batch to batch.
  std::uint64_t epoch = 0;

  /// True if the batch is to be read into pinned memory, for its copy to a CUDA device.
  bool pin_memory = false;

  /// The part of each sample that is needed; null if all of it is, and unless the source
  /// reads_regions(). A source that reads only this part sets Pick::is_cropped.
  const SampleRegions* regions = nullptr;

  /// False if a sample that cannot be read must throw, whatever the dataset's OnBadFile says.
  bool may_skip = true;

  /// The dataset that was asked: it names samples in Errors, and Replace takes another sample from
  /// it.
  const SourceInfo* dataset = nullptr;
  /// The size of `dataset`.
  std::size_t population = 0;
  /// Sample number in the source for an index of that dataset; none if another source has it. Empty
  /// where both numbers are the same.
  std::function<std::optional<std::size_t>(std::size_t index)> sample_of;

  /// No samples.
  Request() = default;
  /// The samples `indices`, at the positions 0, 1, 2, ...
  Request(c10::ArrayRef<std::size_t> indices) {  // NOLINT(google-explicit-constructor)
    picks.reserve(indices.size());
    for (const std::size_t index : indices) picks.push_back({index, picks.size(), index});
  }
  /// The same.
  Request(const std::vector<std::size_t>& indices)  // NOLINT(google-explicit-constructor)
      : Request(c10::ArrayRef<std::size_t>(indices)) {}
  /// The same for `get_batch({0, 1})`.
  Request(std::initializer_list<std::size_t> indices)
      : Request(c10::ArrayRef<std::size_t>(indices.begin(), indices.size())) {}

  /// The indices of the samples: what becomes batch.indices.
  std::vector<std::size_t> indices() const {
    std::vector<std::size_t> all;
    all.reserve(picks.size());
    for (const Pick& pick : picks) all.push_back(pick.index);
    return all;
  }
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_REQUEST_HPP_
