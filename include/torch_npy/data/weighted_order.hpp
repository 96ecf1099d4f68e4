#ifndef TORCH_NPY_DATA_WEIGHTED_ORDER_HPP_
#define TORCH_NPY_DATA_WEIGHTED_ORDER_HPP_

/// @file
/// weighted(): samples that are drawn with given probabilities.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/order.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// Whether one sample can be drawn several times in an epoch.
enum class Replacement {
  With,     ///< yes; each draw is independent of the others
  Without,  ///< no; each draw is among the samples not drawn before
};

namespace detail {

/// Draws indices with probabilities proportional to weights. Read-only: safe from any thread.
class CumulativeWeights {
 public:
  /// Throws Error (InvalidArgument) if a weight is negative or not finite, or if the sum is 0 or
  /// infinite.
  explicit CumulativeWeights(const std::vector<double>& weights) {
    sums_.reserve(weights.size());
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (!(weights[i] >= 0) || std::isinf(weights[i])) {
        throw Error(ErrorCode::InvalidArgument, "weight " + std::to_string(i) + " is " +
                                                    std::to_string(weights[i]) +
                                                    ": expected a finite number of at least 0");
      }
      if (weights[i] > 0) last_positive_ = i;
      sum += weights[i];
      sums_.push_back(sum);
    }
    if (sum == 0) {
      throw Error(ErrorCode::InvalidArgument,
                  weights.empty() ? "there are no weights: expected at least one"
                                  : "all " + counted(weights.size(), "weight") +
                                        " are 0: expected at least one that is positive");
    }
    if (std::isinf(sum)) {
      throw Error(ErrorCode::InvalidArgument,
                  "the sum of the weights is too large for a double: divide all by the largest");
    }
  }

  /// The number of weights.
  std::size_t size() const noexcept { return sums_.size(); }

  /// An index; never one whose weight is 0. Time is logarithmic in size().
  std::size_t draw(SplitMix64 random) const {
    const double drawn = random.uniform() * sums_.back();
    const auto found = std::upper_bound(sums_.begin(), sums_.end(), drawn) - sums_.begin();
    // The product is rounded, and can be equal to the sum if that is a subnormal number.
    return (std::min)(static_cast<std::size_t>(found), last_positive_);
  }

 private:
  std::vector<double> sums_;
  std::size_t last_positive_ = 0;
};

/// A number with the exponential distribution of mean 1, by von Neumann's method ("Various
/// techniques used in connection with random digits", 1951). The method only compares and counts,
/// so the result is the same on every platform; that of std::log may differ.
inline double exponential(SplitMix64& random) {
  for (int whole = 0;; ++whole) {
    const double first = random.uniform();
    bool is_odd = true;  // the length of the decreasing run that starts with `first`
    double last = first;
    for (;;) {
      const double next = random.uniform();
      if (next >= last) break;
      last = next;
      is_odd = !is_odd;
    }
    if (is_odd) return whole + first;
  }
}

/// `samples` indices, drawn one after another without replacement with probabilities proportional
/// to the weights (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
inline std::vector<std::size_t> draw_without_replacement(const std::vector<double>& weights,
                                                         std::size_t samples, std::uint64_t key) {
  std::vector<std::pair<double, std::size_t>> candidates;  // the smallest are drawn
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    SplitMix64 random(mix({key, i}));
    candidates.emplace_back(exponential(random) / weights[i], i);
  }
  const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(samples);
  if (end != candidates.end()) std::nth_element(candidates.begin(), end, candidates.end());
  std::sort(candidates.begin(), end);
  std::vector<std::size_t> indices(samples);
  for (std::size_t i = 0; i < samples; ++i) indices[i] = candidates[i].second;
  return indices;
}

class WeightedRule : public OrderRule {
 public:
  WeightedRule(std::vector<double> weights, std::uint64_t samples, Replacement replacement)
      : sums_(std::make_shared<const CumulativeWeights>(weights)),
        samples_(samples == 0 ? weights.size() : samples),
        fingerprint_(mix(
            {fingerprint_of(kKind, weights), samples_, static_cast<std::uint64_t>(replacement)})) {
    if (replacement == Replacement::With) return;
    const auto zeros = std::count(weights.begin(), weights.end(), 0.0);
    const std::uint64_t positive = weights.size() - static_cast<std::size_t>(zeros);
    if (samples_ > positive) {
      throw Error(ErrorCode::InvalidArgument,
                  "weighted() cannot draw " + counted(samples_, "sample") +
                      " without replacement, because only " + std::to_string(positive) +
                      " of the weights are positive: ask for fewer samples, or use "
                      "Replacement::With");
    }
    weights_ = std::move(weights);
  }

  void check(const std::vector<std::size_t>& parts) const override {
    check_count("weights", sums_->size(), size_of(parts));
  }

  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    check(parts);
    const std::uint64_t key = mix({seed, epoch, kKind});
    if (weights_.empty()) return std::make_unique<Epoch>(sums_, samples_, key);
    return std::make_unique<ListedEpoch>(
        draw_without_replacement(weights_, static_cast<std::size_t>(samples_), key));
  }

  std::uint64_t fingerprint() const override { return fingerprint_; }

 private:
  static constexpr std::uint64_t kKind = 0x7765696768746564;

  class Epoch : public EpochOrder {
   public:
    Epoch(std::shared_ptr<const CumulativeWeights> sums, std::uint64_t samples, std::uint64_t key)
        : sums_(std::move(sums)), samples_(samples), key_(key) {}
    std::uint64_t size() const override { return samples_; }
    std::size_t at(std::uint64_t position) override {
      return sums_->draw(SplitMix64(mix({key_, position})));
    }

   private:
    std::shared_ptr<const CumulativeWeights> sums_;
    std::uint64_t samples_;
    std::uint64_t key_;
  };

  std::shared_ptr<const CumulativeWeights> sums_;
  std::vector<double> weights_;  // only without replacement
  std::uint64_t samples_;
  std::uint64_t fingerprint_;
};

}  // namespace detail

/// Draws `samples` samples in an epoch, or as many as there are weights if `samples` is 0. The
/// probability of a sample is proportional to its weight. A sample with weight 0 is never drawn.
/// `weights` has one number for each sample of the dataset, and may have any number of them.
///
/// With replacement, an epoch starts in constant time, and each draw takes logarithmic time.
/// Without replacement, an epoch starts by drawing all its samples: time O(n log n), and
/// temporarily 16 bytes for each positive weight.
///
/// Throws Error (InvalidArgument) if a weight is negative or not finite, if all are 0, if their sum
/// is infinite, or if there are fewer positive weights than `samples` without replacement.
inline Order weighted(std::vector<double> weights, std::uint64_t samples = 0,
                      Replacement replacement = Replacement::With) {
  return Order(std::make_shared<detail::WeightedRule>(std::move(weights), samples, replacement));
}

/// The same for a 1-D tensor of any real dtype. Also throws Error (InvalidArgument) for any other
/// tensor.
inline Order weighted(const at::Tensor& weights, std::uint64_t samples = 0,
                      Replacement replacement = Replacement::With) {
  if (!weights.defined() || weights.dim() != 1 || weights.is_complex()) {
    throw Error(ErrorCode::InvalidArgument,
                !weights.defined() ? "the tensor of weights is undefined: expected a 1-D tensor"
                : weights.is_complex()
                    ? "the weights are complex numbers: expected real ones"
                    : "the tensor of weights has " + std::to_string(weights.dim()) +
                          " dimensions: expected 1 dimension, with one number for each sample");
  }
  const at::Tensor doubles = weights.detach().to(at::kCPU, at::kDouble).contiguous();
  const double* const first = doubles.data_ptr<double>();
  return weighted(std::vector<double>(first, first + doubles.numel()), samples, replacement);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_WEIGHTED_ORDER_HPP_
