#ifndef TORCH_NPY_DATA_SAMPLER_HPP_
#define TORCH_NPY_DATA_SAMPLER_HPP_

/// @file
/// A sampler for distributed training.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randperm.h>
#include <torch/data/samplers/base.h>
#include <torch/serialize/archive.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/options.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// Distributes the samples of a dataset among the processes (ranks) that train on it together:
///
///     torch_npy::DistributedSampler sampler(dataset.size().value(), num_replicas, rank);
///     auto loader = torch::data::make_data_loader(dataset, sampler, batch_size);
///     for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
///       sampler.set_epoch(epoch);
///       for (auto& batch : *loader) { ... }
///     }
///
/// The order of an epoch is torch.randperm(size) of a CPU generator seeded with seed + epoch: the
/// same on every rank, and the same as in Python's torch.utils.data.DistributedSampler. Rank r
/// takes positions r, r + num_replicas, r + 2 * num_replicas, ... of it. So every sample goes to
/// exactly one rank, and the numbers of samples per rank differ by at most one. Use drop_last() or
/// pad() if they must be equal: with gradient synchronization, a rank with one more batch would
/// wait forever. If there are more ranks than samples, some ranks get none; with pad() each gets
/// one.
///
/// Copies share their state, because LibTorch's loader stores a copy of its sampler: a setter
/// called on the caller's copy takes effect in the loader. Safe from any thread. Only the thread
/// that iterates over the loader draws from the sampler, not the workers.
///
/// To resume in the middle of an epoch, save the sampler with torch::save(sampler, path) and load
/// it by torch::load(sampler, path) into one made with the same arguments, or store epoch() and
/// position() and set them again. Then start the loop over the epochs at sampler.epoch();
/// set_epoch() with that value keeps the position.
///
/// Without workers, position() is the number of samples that the loop has received. With workers,
/// the loader draws up to max_jobs batches in advance, and position() and a saved sampler are ahead
/// of the loop: resuming from them would skip those batches. Then the loop must count its samples,
/// store that number, too, and call set_position() with it after load().
class DistributedSampler : public torch::data::samplers::Sampler<> {
 public:
  /// A sampler for `size` samples and this `rank` of `num_replicas`. Throws Error (InvalidArgument)
  /// if `rank` is not less than `num_replicas`, or if both drop_last() and pad() are set.
  DistributedSampler(std::size_t size, std::size_t num_replicas, std::size_t rank,
                     DistributedSamplerOptions options = {})
      : options_(options),
        rank_(rank),
        num_replicas_(num_replicas),
        state_(std::make_shared<State>(size)) {
    if (rank >= num_replicas) {
      throw Error(ErrorCode::InvalidArgument,
                  "rank " + std::to_string(rank) +
                      " is out of range: expected less than num_replicas, which is " +
                      std::to_string(num_replicas));
    }
    if (options.drop_last() && options.pad()) {
      throw Error(ErrorCode::InvalidArgument,
                  "drop_last() and pad() exclude each other: set only one");
    }
  }

  // No move operations: a moved-from sampler would have no state.

  /// Copies share their state. A move copies.
  DistributedSampler(const DistributedSampler&) = default;
  /// As the copy constructor.
  DistributedSampler& operator=(const DistributedSampler&) = default;
  /// The last copy destroys the state.
  ~DistributedSampler() override = default;

  /// Selects the epoch for the next reset(), which the loader calls in begin(), and its order from
  /// the start. If `epoch` is the current one, nothing changes, so a loaded position is kept.
  void set_epoch(std::uint64_t epoch) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (epoch == state_->epoch) return;
    state_->epoch = epoch;
    state_->start = 0;
  }

  /// The epoch that was set or loaded last; 0 initially.
  std::uint64_t epoch() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->epoch;
  }

  /// The next reset(), and only that one, skips the first `position` samples of this rank. Throws
  /// Error (InvalidArgument) if the rank has fewer samples.
  void set_position(std::size_t position) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (position > share_size(state_->size)) {
      throw Error(ErrorCode::InvalidArgument,
                  "set_position(" + std::to_string(position) + ") is out of range: this rank has " +
                      detail::counted(share_size(state_->size), "sample") + " in an epoch");
    }
    state_->start = position;
  }

  /// The number of this rank's samples drawn in this epoch. After set_position(), set_epoch() or
  /// load() and before reset(): the number that reset() will skip.
  std::size_t position() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->start.value_or(state_->position);
  }

  /// The number of samples that this rank gets in a whole epoch.
  std::size_t samples() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return share_size(state_->size);
  }

  /// Starts an epoch. `new_size`, if given, is the size of the dataset from now on. Time is linear
  /// in the size of the dataset if it shuffles, else in this rank's share. Keeps 8 bytes per sample
  /// of the share, and uses 8 bytes per sample of the dataset temporarily.
  void reset(torch::optional<std::size_t> new_size = torch::nullopt) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    begin(new_size.value_or(state_->size));
  }

  /// Returns the next `batch_size` indices, each less than the size of the dataset, or the
  /// remaining ones; none at the end of the epoch. Starts an epoch if reset() was never called.
  torch::optional<std::vector<std::size_t>> next(std::size_t batch_size) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (!state_->begun) begin(state_->size);
    const auto left = state_->share.size() - state_->position;
    if (left == 0) return torch::nullopt;
    const auto first = state_->share.begin() + static_cast<std::ptrdiff_t>(state_->position);
    const auto count = (std::min)(batch_size, left);
    state_->position += count;
    return std::vector<std::size_t>(first, first + static_cast<std::ptrdiff_t>(count));
  }

  /// Writes epoch(), position(), and the arguments that load() compares. Each rank needs its own
  /// archive. Throws what LibTorch's archive throws.
  void save(torch::serialize::OutputArchive& archive) const override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    for (const auto& [name, value] : identity()) write(archive, name, value);
    write(archive, "epoch", state_->epoch);
    write(archive, "position", state_->start.value_or(state_->position));
  }

  /// The next reset(), and only that one, continues where the saved sampler was. Throws Error
  /// (Mismatch) and changes nothing if that one had another size, rank, number of replicas or
  /// option, or if the archive contains no sampler.
  void load(torch::serialize::InputArchive& archive) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    for (const auto& [name, value] : identity()) {
      const auto saved = read(archive, name);
      if (saved != value) {
        throw Error(ErrorCode::Mismatch, "the saved sampler has " + std::string(name) + " " +
                                             std::to_string(saved) + ", this one has " +
                                             std::to_string(value));
      }
    }
    const auto epoch = read(archive, "epoch");
    const auto position = read(archive, "position");
    if (position > share_size(state_->size)) {
      throw Error(ErrorCode::Mismatch, "the saved sampler is at position " +
                                           std::to_string(position) + " of " +
                                           detail::counted(share_size(state_->size), "sample"));
    }
    state_->epoch = epoch;
    state_->start = static_cast<std::size_t>(position);
  }

 private:
  struct State {
    explicit State(std::size_t dataset_size) : size(dataset_size) {}

    std::mutex mutex;
    std::size_t size;                  // size of the dataset
    std::uint64_t epoch = 0;           // epoch of the next reset()
    std::optional<std::size_t> start;  // position of the next reset(), if set
    std::vector<std::size_t> share;    // this rank's samples, in order
    std::size_t position = 0;          // position in the share
    bool begun = false;
  };

  std::size_t share_size(std::size_t size) const {
    const auto all_have = size / num_replicas_, rest = size % num_replicas_;
    if (options_.drop_last()) return all_have;
    return all_have + (options_.pad() ? rest != 0 : rank_ < rest);
  }

  void begin(std::size_t size) {
    std::vector<std::size_t> share(share_size(size));
    for (std::size_t i = 0; i < share.size(); ++i) share[i] = (rank_ + i * num_replicas_) % size;
    if (options_.shuffle() && !share.empty()) {
      const at::Tensor order =
          at::randperm(static_cast<std::int64_t>(size),
                       at::detail::createCPUGenerator(options_.seed() + state_->epoch), at::kLong);
      const auto* const sample_at = order.data_ptr<std::int64_t>();
      for (auto& sample : share) sample = static_cast<std::size_t>(sample_at[sample]);
    }
    state_->size = size;
    state_->share = std::move(share);
    state_->position = (std::min)(state_->start.value_or(0), state_->share.size());
    state_->start.reset();
    state_->begun = true;
  }

  /// The values that must be equal for two samplers to draw the same samples.
  std::vector<std::pair<const char*, std::uint64_t>> identity() const {
    return {{"size", state_->size},
            {"num_replicas", num_replicas_},
            {"rank", rank_},
            {"seed", options_.seed()},
            {"shuffle", options_.shuffle()},
            {"drop_last", options_.drop_last()},
            {"pad", options_.pad()}};
  }

  static void write(torch::serialize::OutputArchive& archive, const char* name,
                    std::uint64_t value) {
    archive.write(name, c10::IValue(static_cast<std::int64_t>(value)));
  }

  static std::uint64_t read(torch::serialize::InputArchive& archive, const char* name) {
    c10::IValue value;
    if (!archive.try_read(name, value) || !value.isInt()) {
      throw Error(
          ErrorCode::Mismatch,
          "the archive contains no DistributedSampler: it has no integer " + std::string(name));
    }
    return static_cast<std::uint64_t>(value.toInt());
  }

  DistributedSamplerOptions options_;
  std::size_t rank_;
  std::size_t num_replicas_;
  std::shared_ptr<State> state_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SAMPLER_HPP_
