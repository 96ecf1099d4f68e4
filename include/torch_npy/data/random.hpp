#ifndef TORCH_NPY_DATA_RANDOM_HPP_
#define TORCH_NPY_DATA_RANDOM_HPP_

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <c10/util/ArrayRef.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include <torch_npy/version.hpp>

// Random numbers that depend on the batch and not on the thread: LibTorch's loader gives batches to
// any free worker, each with its own copy of the dataset and of the transforms. So a dataset names
// each batch that it reads, and a transform derives its numbers from its seed and that name.

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

 private:
  std::uint64_t state_;
};

/// The batch that this thread is processing.
struct BatchName {
  std::uint64_t name = 0;
  std::uint64_t serial = 0;  ///< unique in the process; 0: no batch yet
};

inline BatchName& current_batch() {
  static thread_local BatchName batch;
  return batch;
}

/// Computes the name of a batch from its sample indices and from how many batches have begun with
/// the same first sample: without shuffling, all epochs have the same batches. Copies share these
/// counts, 2 bytes per sample.
class BatchNames {
 public:
  explicit BatchNames(std::size_t samples) : visits_(new std::atomic<std::uint16_t>[samples]()) {}

  /// Starts the batch of the samples `indices` on this thread.
  void begin(c10::ArrayRef<std::size_t> indices) const {
    static std::atomic<std::uint64_t> serial{0};
    std::uint64_t name = indices.size();
    const auto add = [&](std::uint64_t number) {
      name = (name ^ number) * 0x9e3779b97f4a7c15;  // 2^64 / golden ratio, mixes the bits
      name ^= name >> 32;
    };
    for (const std::size_t index : indices) add(index);
    if (!indices.empty()) add(visits_[static_cast<std::ptrdiff_t>(indices[0])].fetch_add(1));
    current_batch() = {name, ++serial};
  }

 private:
  std::shared_ptr<std::atomic<std::uint16_t>[]> visits_;
};

/// The seed of a transform, and a generator for each batch.
class BatchRandom {
 public:
  /// Draws the seed from `generator`, or from LibTorch's default generator, which
  /// torch::manual_seed() seeds.
  explicit BatchRandom(const std::optional<at::Generator>& generator) {
    at::Generator source =
        generator && generator->defined() ? *generator : at::detail::getDefaultCPUGenerator();
    const std::lock_guard<std::mutex> lock(source.mutex());
    seed_ = at::check_generator<at::CPUGeneratorImpl>(source)->random64();
  }

  /// A generator for the current batch of this thread. If the dataset does not name its batches,
  /// batches are counted per transform and its copies.
  SplitMix64 next() {
    const BatchName& batch = current_batch();
    const bool named = batch.serial != 0 && batch.serial != seen_;
    seen_ = batch.serial;
    const std::uint64_t name = named ? batch.name : (*unnamed_)++;
    // Two rounds, so that close seeds and close names give unrelated numbers.
    return SplitMix64(SplitMix64(SplitMix64(seed_).next() ^ name).next() + (named ? 1 : 0));
  }

 private:
  std::uint64_t seed_;
  std::uint64_t seen_ = current_batch().serial;  // ignores the batch before this transform
  std::shared_ptr<std::atomic<std::uint64_t>> unnamed_ =
      std::make_shared<std::atomic<std::uint64_t>>(0);
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RANDOM_HPP_
