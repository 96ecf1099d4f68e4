#ifndef TORCH_NPY_DATA_RANDOM_HPP_
#define TORCH_NPY_DATA_RANDOM_HPP_

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <optional>

#include <torch_npy/data/request.hpp>
#include <torch_npy/version.hpp>

// Random numbers that depend on the sample's position in the epoch, and not on the thread that
// reads it: any worker of a loader may read any batch.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// SplitMix64, a generator of pseudorandom numbers (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014). The same numbers on every platform, which the
/// distributions of the standard library do not promise.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed = 0) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

  /// Uniform in 0 ... end - 1, for `end` of at least 1. Values that would make some results more
  /// likely than others are drawn again.
  std::uint64_t below(std::uint64_t end) noexcept {
    const std::uint64_t unfair = (0 - end) % end;  // 2^64 mod end
    std::uint64_t value = next();
    while (value < unfair) value = next();
    return value % end;
  }

 private:
  std::uint64_t state_;
};

/// One number of several, so that close numbers give unrelated results.
inline std::uint64_t mix(std::initializer_list<std::uint64_t> numbers) noexcept {
  std::uint64_t mixed = 0;
  for (const std::uint64_t number : numbers) mixed = SplitMix64(mixed ^ number).next();
  return mixed;
}

/// A seed from `generator`, or from LibTorch's default generator, which torch::manual_seed() seeds.
inline std::uint64_t draw_seed(const std::optional<at::Generator>& generator = std::nullopt) {
  at::Generator source =
      generator && generator->defined() ? *generator : at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(source.mutex());
  return at::check_generator<at::CPUGeneratorImpl>(source)->random64();
}

}  // namespace detail

/// The random numbers that a transform draws for a batch. Under a Loader they depend on its seed,
/// the epoch, the position of the sample in the epoch, and on how many transforms come before.
class Draws {
 public:
  /// For the transform number `stage` of a dataset, which has a seed of its own for loaders that
  /// have none.
  Draws(const Request& request, std::uint64_t stage, std::uint64_t own_seed)
      : request_(&request),
        key_(detail::mix({request.seed.value_or(own_seed), request.epoch, stage})) {}

  /// The numbers of the i-th sample of the batch.
  detail::SplitMix64 sample(std::size_t i) const {
    const auto& picks = request_->picks;
    i += first_;
    // A function given to map() may have made more samples than were read.
    return i < picks.size() ? of(picks[i])
                            : detail::SplitMix64(detail::mix({key_, ~std::uint64_t{i}}));
  }

  /// The numbers of the sample of a pick.
  detail::SplitMix64 of(const Pick& pick) const {
    return detail::SplitMix64(pick.copy == 0 ? detail::mix({key_, pick.position})
                                             : detail::mix({key_, pick.position, pick.copy}));
  }

  /// The same for the samples from the i-th one on.
  Draws from(std::size_t i) const {
    Draws rest = *this;
    rest.first_ += i;
    return rest;
  }

 private:
  const Request* request_;
  std::uint64_t key_;
  std::size_t first_ = 0;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RANDOM_HPP_
