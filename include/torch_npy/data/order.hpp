#ifndef TORCH_NPY_DATA_ORDER_HPP_
#define TORCH_NPY_DATA_ORDER_HPP_

/// @file
/// Order: in which order an epoch uses the samples of a dataset. sequential(), shuffled() and
/// block_shuffled().

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/permutation.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// One epoch of an order. For one thread at a time, because at() may cache. Independent of the
/// OrderRule that made it.
class EpochOrder {
 public:
  virtual ~EpochOrder() = default;

  /// The number of positions in the epoch.
  virtual std::uint64_t size() const = 0;

  /// The index in the dataset at `position`, which must be less than size(). Does not depend on
  /// earlier calls.
  virtual std::size_t at(std::uint64_t position) = 0;

  /// If the order decides which samples form a batch: the first position of each batch, and size()
  /// as the last element. Null if batches may start anywhere.
  virtual const std::vector<std::uint64_t>* cuts() const { return nullptr; }
};

/// What an Order is: makes an EpochOrder for each epoch. Read-only: safe from any thread.
class OrderRule {
 public:
  virtual ~OrderRule() = default;

  /// Throws Error (InvalidArgument) if the order does not fit a dataset with these `parts`: the
  /// sizes of the datasets joined by concat(), or one number for any other dataset.
  virtual void check(const std::vector<std::size_t>& /*parts*/) const {}

  /// The order of the epoch `epoch`. Throws what check() throws.
  virtual std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts,
                                            std::uint64_t seed, std::uint64_t epoch) const = 0;

  /// A number that differs between orders of different kinds or with different parameters.
  virtual std::uint64_t fingerprint() const = 0;
};

/// The number of samples of a dataset with these parts.
inline std::size_t size_of(const std::vector<std::size_t>& parts) {
  std::size_t size = 0;
  for (const std::size_t part : parts) size += part;
  return size;
}

/// Throws Error (InvalidArgument) if `count` values, one per sample, do not fit the dataset.
inline void check_count(const char* values, std::size_t count, std::size_t dataset_size) {
  if (count == dataset_size) return;
  throw Error(ErrorCode::InvalidArgument, "the order has " + std::to_string(count) + " " + values +
                                              ", the dataset has " +
                                              counted(dataset_size, "sample") +
                                              ": give one of the " + values + " for each sample");
}

/// A fingerprint of many values.
template <class T>
std::uint64_t fingerprint_of(std::uint64_t kind, const std::vector<T>& values) {
  static_assert(sizeof(T) == sizeof(std::uint64_t), "every bit counts");
  std::uint64_t mixed = mix({kind, values.size()});
  for (const T& value : values) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    mixed = mix({mixed, bits});
  }
  return mixed;
}

/// An epoch as a list of all its indices, and the cuts if there are any.
class ListedEpoch : public EpochOrder {
 public:
  explicit ListedEpoch(std::vector<std::size_t> indices, std::vector<std::uint64_t> cuts = {})
      : indices_(std::move(indices)), cuts_(std::move(cuts)) {}

  std::uint64_t size() const override { return indices_.size(); }
  std::size_t at(std::uint64_t position) override {
    return indices_[static_cast<std::size_t>(position)];
  }
  const std::vector<std::uint64_t>* cuts() const override {
    return cuts_.empty() ? nullptr : &cuts_;
  }

 private:
  std::vector<std::size_t> indices_;
  std::vector<std::uint64_t> cuts_;
};

}  // namespace detail

/// In which order an epoch uses the samples of a dataset; for Loader and OrderSampler. Made by
/// sequential(), shuffled(), block_shuffled(), weighted(), by_length() and mixed().
///
/// The order of an epoch depends on the seed, the number of the epoch and the size of the dataset
/// alone, and is the same on every platform. Immutable: safe from any thread. Copies are cheap.
class Order {
 public:
  /// For the functions named above.
  explicit Order(std::shared_ptr<const detail::OrderRule> rule) : rule_(std::move(rule)) {}

  // No move operations: a moved-from order would have no rule.

  /// Copies share what they consist of. A move copies.
  Order(const Order&) = default;
  /// As the copy constructor.
  Order& operator=(const Order&) = default;

  /// For Loader and OrderSampler.
  const detail::OrderRule& rule() const noexcept { return *rule_; }

 private:
  std::shared_ptr<const detail::OrderRule> rule_;
};

namespace detail {

// The number of each kind of order is its name in ASCII. It makes keys differ from those of
// transforms, which use small numbers.

class SequentialRule : public OrderRule {
 public:
  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t,
                                    std::uint64_t) const override {
    return std::make_unique<Epoch>(size_of(parts));
  }
  std::uint64_t fingerprint() const override { return mix({0x73657175656e7469}); }

 private:
  class Epoch : public EpochOrder {
   public:
    explicit Epoch(std::uint64_t size) : size_(size) {}
    std::uint64_t size() const override { return size_; }
    std::size_t at(std::uint64_t position) override { return static_cast<std::size_t>(position); }

   private:
    std::uint64_t size_;
  };
};

class ShuffledRule : public OrderRule {
 public:
  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    return std::make_unique<Epoch>(Permutation(size_of(parts), mix({seed, epoch, kKind})));
  }
  std::uint64_t fingerprint() const override { return mix({kKind}); }

 private:
  static constexpr std::uint64_t kKind = 0x73687566666c6564;

  class Epoch : public EpochOrder {
   public:
    explicit Epoch(Permutation permutation) : permutation_(std::move(permutation)) {}
    std::uint64_t size() const override { return permutation_.size(); }
    std::size_t at(std::uint64_t position) override {
      return static_cast<std::size_t>(permutation_(position));
    }

   private:
    Permutation permutation_;
  };
};

class BlockShuffledEpoch : public EpochOrder {
 public:
  BlockShuffledEpoch(std::uint64_t size, std::uint64_t block, std::uint64_t window,
                     std::uint64_t key)
      : size_(size),
        block_(clamp(block, size)),
        blocks_((size + block_ - 1) / block_),
        window_(clamp(window, blocks_)),
        missing_(blocks_ * block_ - size),
        key_(key),
        full_blocks_(blocks_ - (missing_ != 0), mix({key, 0})),
        short_slot_(missing_ == 0 ? blocks_ : SplitMix64(mix({key, 1})).below(blocks_)),
        in_window_(0, 0) {}

  std::uint64_t size() const override { return size_; }

  std::size_t at(std::uint64_t position) override {
    // In slots of equal size, of which the short block leaves the last `missing_` samples empty.
    const std::uint64_t in_full_window = window_ * block_;
    const std::uint64_t short_window = short_slot_ / window_;
    const bool is_after = position >= (short_window + 1) * in_full_window - missing_;
    const std::uint64_t window = (position + (is_after ? missing_ : 0)) / in_full_window;
    const std::uint64_t first_slot = window * window_;
    const std::uint64_t first = first_slot * block_ - (window > short_window ? missing_ : 0);

    shuffle_window(window);
    std::uint64_t place = in_window_(position - first);
    if (window == short_window && place >= (short_slot_ + 1 - first_slot) * block_ - missing_) {
      place += missing_;
    }
    return static_cast<std::size_t>(block_in(first_slot + place / block_) * block_ +
                                    place % block_);
  }

 private:
  static std::uint64_t clamp(std::uint64_t value, std::uint64_t most) {
    return (std::max)((std::min)(value, most), std::uint64_t{1});
  }

  /// The block that is in `slot` of the order of blocks.
  std::uint64_t block_in(std::uint64_t slot) const {
    if (slot == short_slot_) return blocks_ - 1;
    return full_blocks_(slot - (slot > short_slot_));
  }

  void shuffle_window(std::uint64_t window) {
    if (in_window_.size() != 0 && window == current_window_) return;
    const std::uint64_t first_slot = window * window_;
    const std::uint64_t end_slot = (std::min)(first_slot + window_, blocks_);
    const bool has_short = first_slot <= short_slot_ && short_slot_ < end_slot;
    const std::uint64_t samples = (end_slot - first_slot) * block_ - (has_short ? missing_ : 0);
    in_window_ = Permutation(samples, mix({key_, 2, window}));
    current_window_ = window;
  }

  std::uint64_t size_;
  std::uint64_t block_;    // samples in a block
  std::uint64_t blocks_;   // including the short one, if any
  std::uint64_t window_;   // blocks in a window
  std::uint64_t missing_;  // samples by which the last block of the dataset is short
  std::uint64_t key_;
  Permutation full_blocks_;   // the order of the other blocks
  std::uint64_t short_slot_;  // where among them the short block is; blocks_ if there is none
  std::uint64_t current_window_ = 0;
  Permutation in_window_;  // of the samples of the current window
};

class BlockShuffledRule : public OrderRule {
 public:
  BlockShuffledRule(std::size_t block, std::size_t window) : block_(block), window_(window) {
    if (block == 0 || window == 0) {
      throw Error(ErrorCode::InvalidArgument, "block_shuffled(" + std::to_string(block) + ", " +
                                                  std::to_string(window) +
                                                  "): expected numbers of at least 1");
    }
  }

  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    return std::make_unique<BlockShuffledEpoch>(size_of(parts), block_, window_,
                                                mix({seed, epoch, kKind}));
  }
  std::uint64_t fingerprint() const override { return mix({kKind, block_, window_}); }

 private:
  static constexpr std::uint64_t kKind = 0x626c6f636b736875;
  std::uint64_t block_;
  std::uint64_t window_;
};

}  // namespace detail

/// The order 0, 1, 2, ... in every epoch.
inline Order sequential() { return Order(std::make_shared<detail::SequentialRule>()); }

/// A new random order in each epoch. An epoch starts in constant time and needs at most 8 KiB: the
/// order is a keyed permutation, which is computed for each position alone.
inline Order shuffled() { return Order(std::make_shared<detail::ShuffledRule>()); }

/// A new random order in each epoch that reads neighbouring samples close to each other in time:
/// for object stores, shards and disks, which are slow if every sample is elsewhere.
///
/// Every `block` neighbouring samples form a block; the last one may be shorter. The blocks are in
/// random order. Each `window` consecutive blocks of that order form a window, in which the samples
/// are shuffled. So at any time the samples come from `window` blocks only.
///
/// An epoch starts in constant time. Throws Error (InvalidArgument) if a number is 0.
inline Order block_shuffled(std::size_t block, std::size_t window = 16) {
  return Order(std::make_shared<detail::BlockShuffledRule>(block, window));
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ORDER_HPP_
