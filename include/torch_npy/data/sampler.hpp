#ifndef TORCH_NPY_DATA_SAMPLER_HPP_
#define TORCH_NPY_DATA_SAMPLER_HPP_

/// @file
/// A sampler for several processes.

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

/// Shares out the samples of a dataset among the processes (ranks) that train on it together:
///
///     torch_npy::DistributedSampler sampler(dataset.size().value(), num_replicas, rank);
///     auto loader = torch::data::make_data_loader(dataset, sampler, batch_size);
///     for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
///       sampler.set_epoch(epoch);
///       for (auto& batch : *loader) { ... }
///     }
///
/// The order of an epoch is torch.randperm(size) of a CPU generator seeded with seed + epoch, the
/// same on every rank, and the same as in Python's torch.utils.data.DistributedSampler. Of it, rank
/// r takes places r, r + num_replicas, r + 2 * num_replicas, ... So no sample goes to two ranks and
/// none is left out, and the ranks' numbers of samples differ by one at most. Where they must not
/// differ (a rank with one more batch waits for gradients that never come), drop_last() or pad().
/// There may be more ranks than samples: some get nothing then; with pad() each gets one.
///
/// Copies share one state, because LibTorch's loader takes its sampler by value: what is set
/// through the caller's copy, the loader's goes by. Safe from any thread; a loader's workers do not
/// call it, only the thread that iterates does.
///
/// To go on in the middle of an epoch, save the sampler, torch::save(sampler, path), and load it
/// into one made alike, torch::load(sampler, path); or keep epoch() and position() and set them. A
/// loader without workers draws a batch when the loop wants it, so position() is what the loop has
/// had. A loader with workers draws up to max_jobs batches ahead, and position() and a saved
/// sampler are as far ahead of the loop: going on from there would leave those batches out. The
/// loop then has to count its samples, keep that number too, and set it:
///
///     torch::load(sampler, path);
///     sampler.set_position(seen);
///     for (auto epoch = sampler.epoch(); epoch < epochs; ++epoch) {
///       sampler.set_epoch(epoch);
///       for (auto& batch : *loader) { ... }
///     }
class DistributedSampler : public torch::data::samplers::Sampler<> {
 public:
  /// For `size` samples and this `rank` of `num_replicas`. An Error (InvalidArgument) when there is
  /// no such rank, and for drop_last() together with pad().
  DistributedSampler(std::size_t size, std::size_t num_replicas, std::size_t rank,
                     DistributedSamplerOptions options = {})
      : options_(options),
        rank_(rank),
        num_replicas_(num_replicas),
        state_(std::make_shared<State>(size)) {
    if (rank >= num_replicas) {
      throw Error(ErrorCode::InvalidArgument,
                  "no rank " + std::to_string(rank) + " among " + std::to_string(num_replicas) +
                      " replicas: ranks count from 0 to num_replicas - 1");
    }
    if (options.drop_last() && options.pad()) {
      throw Error(ErrorCode::InvalidArgument,
                  "drop_last() and pad() are two ways to make the ranks equal: choose one");
    }
  }

  // No moves: one that was moved from could not answer.

  /// Copies share one state. A move copies.
  DistributedSampler(const DistributedSampler&) = default;
  /// As the copy constructor.
  DistributedSampler& operator=(const DistributedSampler&) = default;
  /// The state goes with the last copy.
  ~DistributedSampler() override = default;

  /// From the next reset() on, which a loader calls in begin(): the order of `epoch`, from its
  /// start. When `epoch` is set already, nothing changes, so a loaded position is kept.
  void set_epoch(std::uint64_t epoch) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (epoch == state_->epoch) return;
    state_->epoch = epoch;
    state_->start = 0;
  }

  /// The epoch that was set or loaded last; 0 at first.
  std::uint64_t epoch() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->epoch;
  }

  /// The next reset(), and only that one, starts after so many of this rank's samples. An Error
  /// (InvalidArgument) when there are fewer.
  void set_position(std::size_t position) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (position > share_size(state_->size)) {
      throw Error(ErrorCode::InvalidArgument,
                  "set_position(" + std::to_string(position) + ") of " +
                      detail::counted(share_size(state_->size), "sample"));
    }
    state_->start = position;
  }

  /// How many of this rank's samples were handed out in this epoch. After set_position(),
  /// set_epoch() and load(), until the next reset(): how many that one will pass over.
  std::size_t position() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->start.value_or(state_->position);
  }

  /// How many samples this rank gets in a whole epoch.
  std::size_t samples() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return share_size(state_->size);
  }

  /// Starts an epoch; of `new_size` samples, when given, and so do those after it. Takes time in
  /// proportion to the size of the dataset where it shuffles, else to this rank's share; 8 bytes
  /// for each sample of the share stay in memory, and 8 for each of the dataset are taken
  /// meanwhile.
  void reset(torch::optional<std::size_t> new_size = torch::nullopt) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    begin(new_size.value_or(state_->size));
  }

  /// The next `batch_size` indices, each less than the size of the dataset, or what is left; none
  /// at the end of the epoch. Without a reset() before, it starts one.
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

  /// Writes epoch(), position(), and what load() compares. Each rank has an archive of its own.
  /// Throws what LibTorch's archive throws.
  void save(torch::serialize::OutputArchive& archive) const override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    for (const auto& [name, value] : identity()) write(archive, name, value);
    write(archive, "epoch", state_->epoch);
    write(archive, "position", state_->start.value_or(state_->position));
  }

  /// The next reset(), and only that one, goes on where the saved sampler was. An Error (Mismatch)
  /// when that one had another size, rank, world size or option, or the archive has no sampler;
  /// nothing is changed then.
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
    std::size_t size;                  // of the dataset
    std::uint64_t epoch = 0;           // of the next reset()
    std::optional<std::size_t> start;  // of the next reset(), where something has set it
    std::vector<std::size_t> share;    // this rank's samples, in order
    std::size_t position = 0;          // in the share
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
      for (auto& place : share) place = static_cast<std::size_t>(sample_at[place]);
    }
    state_->size = size;
    state_->share = std::move(share);
    state_->position = (std::min)(state_->start.value_or(0), state_->share.size());
    state_->start.reset();
    state_->begun = true;
  }

  /// What two samplers must have in common to hand out the same.
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
      throw Error(ErrorCode::Mismatch,
                  "no DistributedSampler was saved here: there is no number " + std::string(name));
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
