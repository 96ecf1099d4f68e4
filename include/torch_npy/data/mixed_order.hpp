#ifndef TORCH_NPY_DATA_MIXED_ORDER_HPP_
#define TORCH_NPY_DATA_MIXED_ORDER_HPP_

/// @file
/// mixed(): several datasets in given proportions.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/order.hpp>
#include <torch_npy/data/permutation.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/weighted_order.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

class MixedEpoch : public EpochOrder {
 public:
  MixedEpoch(const std::vector<std::size_t>& sizes, const CumulativeWeights& weights,
             std::uint64_t samples, std::uint64_t key)
      : key_(key), part_at_(static_cast<std::size_t>(samples)) {
    std::size_t first = 0;
    for (const std::size_t size : sizes) {
      parts_.push_back({first, size});
      first += size;
    }
    std::vector<std::uint64_t> counts(sizes.size());
    counts_.reserve((part_at_.size() / kBlock + 1) * sizes.size());
    for (std::size_t i = 0; i < part_at_.size(); ++i) {
      if (i % kBlock == 0) counts_.insert(counts_.end(), counts.begin(), counts.end());
      const std::size_t part = weights.draw(SplitMix64(mix({key, i})));
      part_at_[i] = static_cast<std::uint32_t>(part);
      ++counts[part];
    }
  }

  std::uint64_t size() const override { return part_at_.size(); }

  std::size_t at(std::uint64_t position) override {
    const auto i = static_cast<std::size_t>(position);
    const std::uint32_t number = part_at_[i];
    const auto here = part_at_.begin() + static_cast<std::ptrdiff_t>(i);
    const auto block = here - static_cast<std::ptrdiff_t>(i % kBlock);
    const std::uint64_t before = counts_[i / kBlock * parts_.size() + number] +
                                 static_cast<std::uint64_t>(std::count(block, here, number));

    Part& part = parts_[number];
    const std::uint64_t round = before / part.size;
    if (part.order.size() == 0 || part.round != round) {
      part.order = Permutation(part.size, mix({key_, number, round, 0}));
      part.round = round;
    }
    return part.first + static_cast<std::size_t>(part.order(before % part.size));
  }

 private:
  static constexpr std::size_t kBlock = 1024;

  struct Part {
    std::size_t first;  // its first index in the whole dataset
    std::size_t size;
    std::uint64_t round = 0;  // how often the part was used up before
    Permutation order{0, 0};  // of that round
  };

  std::uint64_t key_;
  std::vector<Part> parts_;
  std::vector<std::uint32_t> part_at_;  // for each position
  std::vector<std::uint64_t> counts_;   // positions of each part before each block of positions
};

class MixedRule : public OrderRule {
 public:
  MixedRule(std::vector<double> weights, std::uint64_t samples)
      : weights_(std::move(weights)),
        sums_(weights_),
        samples_(samples),
        fingerprint_(mix({fingerprint_of(kKind, weights_), samples})) {
    if (weights_.size() > (std::numeric_limits<std::uint32_t>::max)()) {
      throw Error(ErrorCode::InvalidArgument, "mixed() has more than 2^32 weights");
    }
  }

  void check(const std::vector<std::size_t>& parts) const override {
    if (parts.size() != weights_.size()) {
      throw Error(ErrorCode::InvalidArgument,
                  "mixed() has " + counted(weights_.size(), "weight") + ", the dataset has " +
                      counted(parts.size(), "part") +
                      ": give one weight for each dataset that concat() joined");
    }
    if (samples_in(parts) == 0) return;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (weights_[i] == 0 || parts[i] != 0) continue;
      throw Error(ErrorCode::InvalidArgument, "part " + std::to_string(i) + " of the dataset has " +
                                                  "no samples: expected weight 0, found " +
                                                  std::to_string(weights_[i]));
    }
  }

  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    check(parts);
    return std::make_unique<MixedEpoch>(parts, sums_, samples_in(parts), mix({seed, epoch, kKind}));
  }

  std::uint64_t fingerprint() const override { return fingerprint_; }

 private:
  static constexpr std::uint64_t kKind = 0x6d697865646d6978;

  std::uint64_t samples_in(const std::vector<std::size_t>& parts) const {
    return samples_ == 0 ? size_of(parts) : samples_;
  }

  std::vector<double> weights_;
  CumulativeWeights sums_;
  std::uint64_t samples_;
  std::uint64_t fingerprint_;
};

}  // namespace detail

/// Mixes the datasets that concat() joined, which are called parts: each position of the epoch
/// draws a part with a probability proportional to its weight, and uses the next sample of that
/// part. Each part is in a random order of its own. A part that is used up begins again in a new
/// random order, so a small part with a large weight is repeated, and a large part with a small
/// weight is used partly. An epoch has `samples` samples, or as many as the dataset if that is 0.
///
/// An epoch starts by drawing the part of each position: linear time, and 4 bytes per sample.
///
/// Throws Error (InvalidArgument) if a weight is negative or not finite, if all are 0, or if their
/// sum is infinite. Loader and OrderSampler throw it if the number of parts differs, or if a part
/// without samples has a positive weight.
inline Order mixed(std::vector<double> weights, std::uint64_t samples = 0) {
  return Order(std::make_shared<detail::MixedRule>(std::move(weights), samples));
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MIXED_ORDER_HPP_
