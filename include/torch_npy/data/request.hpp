#ifndef TORCH_NPY_DATA_REQUEST_HPP_
#define TORCH_NPY_DATA_REQUEST_HPP_

/// @file
/// Request: which samples a batch consists of.

#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <vector>

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
    for (const std::size_t index : indices) picks.push_back({index, picks.size(), index, 0});
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
