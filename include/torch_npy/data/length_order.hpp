#ifndef TORCH_NPY_DATA_LENGTH_ORDER_HPP_
#define TORCH_NPY_DATA_LENGTH_ORDER_HPP_

/// @file
/// by_length(): batches of samples of similar length.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/order.hpp>
#include <torch_npy/data/permutation.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// The largest batch for by_length(), padding included: `by_length(lengths, MaxElements{4096})`.
struct MaxElements {
  std::int64_t count = 0;  ///< at most this is the longest length times the number of samples
};

namespace detail {

class ByLengthRule : public OrderRule {
 public:
  ByLengthRule(std::vector<std::int64_t> lengths, std::size_t batch_size)
      : lengths_(std::move(lengths)), budget_(batch_size), is_padded_(false) {
    if (batch_size == 0) {
      throw Error(ErrorCode::InvalidArgument, "by_length(): batch_size is 0: expected at least 1");
    }
    check_lengths();
  }

  ByLengthRule(std::vector<std::int64_t> lengths, MaxElements most)
      : lengths_(std::move(lengths)),
        budget_(static_cast<std::uint64_t>(most.count)),
        is_padded_(true) {
    if (most.count <= 0) {
      throw Error(
          ErrorCode::InvalidArgument,
          "by_length(): MaxElements{" + std::to_string(most.count) + "}: expected at least 1");
    }
    check_lengths();
  }

  void check(const std::vector<std::size_t>& parts) const override {
    check_count("lengths", lengths_.size(), size_of(parts));
  }

  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    check(parts);
    const std::uint64_t key = mix({seed, epoch, kKind});
    std::vector<std::size_t> sorted = shuffled_indices(mix({key, 0}));
    const std::vector<std::size_t> ends = sort_and_cut(sorted);

    // The batches in random order.
    const Permutation batch_at(ends.size(), mix({key, 1}));
    std::vector<std::size_t> indices;
    indices.reserve(sorted.size());
    std::vector<std::uint64_t> cuts{0};
    cuts.reserve(ends.size() + 1);
    for (std::uint64_t i = 0; i < ends.size(); ++i) {
      const auto batch = static_cast<std::size_t>(batch_at(i));
      const auto first = sorted.begin() + static_cast<std::ptrdiff_t>(batch ? ends[batch - 1] : 0);
      const auto end = sorted.begin() + static_cast<std::ptrdiff_t>(ends[batch]);
      indices.insert(indices.end(), first, end);
      cuts.push_back(indices.size());
    }
    return std::make_unique<ListedEpoch>(std::move(indices), std::move(cuts));
  }

  std::uint64_t fingerprint() const override { return fingerprint_; }

 private:
  static constexpr std::uint64_t kKind = 0x62796c656e677468;

  void check_lengths() {
    for (std::size_t i = 0; i < lengths_.size(); ++i) {
      const std::string sample =
          "sample " + std::to_string(i) + " has length " + std::to_string(lengths_[i]);
      if (lengths_[i] < 0) {
        throw Error(ErrorCode::InvalidArgument, sample + ": expected at least 0");
      }
      if (cost_of(i) > budget_) {
        throw Error(ErrorCode::InvalidArgument,
                    sample + ", more than MaxElements{" + std::to_string(budget_) +
                        "}: increase MaxElements, or leave the sample out with subset()");
      }
    }
    fingerprint_ = mix({fingerprint_of(kKind, lengths_), budget_, is_padded_});
  }

  /// The elements of a sample, or 1 if samples are counted. An empty sample counts as 1 element, so
  /// that no batch has an unlimited number of them.
  std::uint64_t cost_of(std::size_t index) const {
    return is_padded_ ? static_cast<std::uint64_t>((std::max)(lengths_[index], std::int64_t{1}))
                      : 1;
  }

  std::vector<std::size_t> shuffled_indices(std::uint64_t key) const {
    const Permutation permutation(lengths_.size(), key);
    std::vector<std::size_t> indices(lengths_.size());
    for (std::size_t i = 0; i < indices.size(); ++i) {
      indices[i] = static_cast<std::size_t>(permutation(i));
    }
    return indices;
  }

  /// How many full batches a chunk has. Fewer in a small dataset: if all its samples were one
  /// chunk, each epoch would have nearly the same batches.
  std::uint64_t batches_per_chunk() const {
    std::uint64_t cost = 0;
    for (std::size_t i = 0; i < lengths_.size(); ++i) cost += cost_of(i);
    return (std::min)((std::max)(cost / budget_ / 4, std::uint64_t{8}), std::uint64_t{50});
  }

  /// Sorts each chunk of `indices` by length, and returns the end of each batch.
  std::vector<std::size_t> sort_and_cut(std::vector<std::size_t>& indices) const {
    const std::uint64_t batches = batches_per_chunk();
    std::vector<std::size_t> ends;
    for (std::size_t first = 0, end = 0; first < indices.size(); first = end) {
      std::uint64_t cost = 0;
      while (end < indices.size() && cost / budget_ < batches) cost += cost_of(indices[end++]);
      std::stable_sort(indices.begin() + static_cast<std::ptrdiff_t>(first),
                       indices.begin() + static_cast<std::ptrdiff_t>(end),
                       [this](std::size_t a, std::size_t b) { return lengths_[a] < lengths_[b]; });
      std::uint64_t count = 0;
      for (std::size_t i = first; i < end; ++i) {
        // The samples of a batch are padded to the length of the last one.
        if (count + 1 > budget_ / cost_of(indices[i])) {
          ends.push_back(i);
          count = 0;
        }
        ++count;
      }
      ends.push_back(end);
    }
    return ends;
  }

  std::vector<std::int64_t> lengths_;
  std::uint64_t budget_;  // in samples, or in elements if is_padded_
  bool is_padded_;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace detail

/// Batches of `batch_size` samples of similar length, so that little is padded. A new random order
/// in each epoch. `lengths` has one number for each sample of the dataset, as Dataset::lengths()
/// returns them.
///
/// An epoch shuffles the samples and divides them into chunks. Each chunk is sorted by length and
/// cut into batches; its last batch may be smaller. Then the batches are shuffled. A chunk has
/// about 50 batches, or fewer in a small dataset: a quarter of all batches, but at least 8.
/// Batches are cut before they are given to the ranks, so all ranks together get the batches that
/// one rank would get alone.
///
/// An epoch starts in time O(n log n) and keeps 8 bytes per sample, 16 while it starts. Throws
/// Error (InvalidArgument) if a length is negative or if `batch_size` is 0.
inline Order by_length(std::vector<std::int64_t> lengths, std::size_t batch_size) {
  return Order(std::make_shared<detail::ByLengthRule>(std::move(lengths), batch_size));
}

/// The same with batches of different size: as many samples as fit into `most` elements, when all
/// are padded to the longest of the batch. An empty sample counts as one element. Also throws Error
/// (InvalidArgument) if one sample alone has more elements.
inline Order by_length(std::vector<std::int64_t> lengths, MaxElements most) {
  return Order(std::make_shared<detail::ByLengthRule>(std::move(lengths), most));
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LENGTH_ORDER_HPP_
