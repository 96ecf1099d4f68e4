#ifndef TORCH_NPY_DATA_SAMPLER_HPP_
#define TORCH_NPY_DATA_SAMPLER_HPP_

/// @file
/// OrderSampler and DistributedSampler: orders, and shares of ranks, for LibTorch's data loader.

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

#include <torch_npy/data/epoch_plan.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/order.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// Any Order as a sampler of LibTorch. Distributes the samples of a dataset among the processes
/// (ranks) that train on it together:
///
///     torch_npy::OrderSampler sampler(torch_npy::shuffled(), dataset.size().value(),
///                                     num_replicas, rank);
///     auto loader = torch::data::make_data_loader(dataset, sampler, batch_size);
///     for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
///       sampler.set_epoch(epoch);
///       for (auto& batch : *loader) { ... }
///     }
///
/// Rank r takes positions r, r + num_replicas, r + 2 * num_replicas, ... of the order of the epoch,
/// which is the same on every rank. OrderSamplerOptions::tail() decides what happens to the last
/// positions if the number of samples is not a multiple of num_replicas.
///
/// The order by_length() makes the batches itself. Then each rank takes every num_replicas-th
/// batch, next() returns these batches and ignores its argument, and so does the loader with its
/// batch size. Do not set drop_last() of LibTorch's loader: it ends the epoch at the first batch
/// that is smaller than the batch size.
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
class OrderSampler : public torch::data::samplers::Sampler<> {
 public:
  /// A sampler for a dataset of `size` samples and this `rank` of `num_replicas`. Throws Error
  /// (InvalidArgument) if `rank` is not less than `num_replicas`, or if the order does not fit the
  /// dataset, such as weighted() with another number of weights.
  OrderSampler(const Order& order, std::size_t size, std::size_t num_replicas = 1,
               std::size_t rank = 0, OrderSamplerOptions options = {})
      : OrderSampler(order, std::vector<std::size_t>{size}, num_replicas, rank, options) {}

  /// The same for datasets of these sizes that are joined by concat(), which mixed() needs.
  OrderSampler(const Order& order, std::vector<std::size_t> sizes, std::size_t num_replicas = 1,
               std::size_t rank = 0, OrderSamplerOptions options = {})
      : order_(order),
        options_(options),
        num_replicas_(num_replicas),
        rank_(rank),
        state_(std::make_shared<State>()) {
    detail::check_rank(num_replicas, rank);
    order_.rule().check(sizes);
    state_->parts = std::move(sizes);
  }

  // No move operations: a moved-from sampler would have no state.

  /// Copies share their state. A move copies.
  OrderSampler(const OrderSampler&) = default;
  /// As the copy constructor.
  OrderSampler& operator=(const OrderSampler&) = default;
  /// The last copy destroys the state.
  ~OrderSampler() override = default;

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
  /// Error (InvalidArgument) if the rank has fewer samples, or if the position is inside a batch of
  /// by_length(). May do the work of the next reset() in advance.
  void set_position(std::size_t position) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    const detail::EpochPlan& plan = *plan_of(state_->epoch, state_->parts);
    if (position > plan.samples()) {
      throw Error(ErrorCode::InvalidArgument,
                  "set_position(" + std::to_string(position) + ") is out of range: this rank has " +
                      detail::counted(plan.samples(), "sample") + " in an epoch");
    }
    if (plan.has_cuts() && !plan.batch_after(position)) {
      throw Error(ErrorCode::InvalidArgument, "set_position(" + std::to_string(position) +
                                                  ") is inside a batch of by_length(): expected "
                                                  "the number of samples in whole batches");
    }
    state_->start = position;
  }

  /// The number of this rank's samples drawn in this epoch. After set_position(), set_epoch() or
  /// load() and before reset(): the number that reset() will skip.
  std::size_t position() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->start.value_or(state_->position);
  }

  /// The number of samples that this rank gets in the whole epoch epoch(). May do the work of the
  /// next reset() in advance.
  std::size_t samples() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return static_cast<std::size_t>(plan_of(state_->epoch, state_->parts)->samples());
  }

  /// Starts an epoch. `new_size`, if given, is the size of the dataset from now on. Throws Error
  /// (InvalidArgument) and changes nothing if the order does not fit that size. Time and memory are
  /// those that the order needs to start an epoch.
  void reset(torch::optional<std::size_t> new_size = torch::nullopt) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    auto parts = state_->parts;
    if (new_size && *new_size != detail::size_of(parts)) {
      if (parts.size() != 1) {
        throw Error(ErrorCode::InvalidArgument,
                    "reset(" + std::to_string(*new_size) + "): the sampler has the sizes of " +
                        detail::counted(parts.size(), "joined dataset") + ", together " +
                        std::to_string(detail::size_of(parts)) + ": make a new sampler");
      }
      parts[0] = *new_size;
    }
    begin(parts);
    state_->parts = std::move(parts);
  }

  /// Returns the next `batch_size` indices, each less than the size of the dataset, or the
  /// remaining ones; none at the end of the epoch. With by_length(), returns the next batch of that
  /// order instead. Starts an epoch if reset() was never called.
  torch::optional<std::vector<std::size_t>> next(std::size_t batch_size) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (!state_->running.plan) begin(state_->parts);
    detail::EpochPlan& plan = *state_->running.plan;
    std::vector<std::size_t> indices;
    if (plan.has_cuts()) {
      if (state_->batch == plan.batches()) return torch::nullopt;
      for (const Pick& pick : plan.batch(state_->batch)) indices.push_back(pick.index);
      ++state_->batch;
    } else {
      const std::uint64_t left = plan.samples() - state_->position;
      if (left == 0) return torch::nullopt;
      indices.resize(static_cast<std::size_t>((std::min)(std::uint64_t{batch_size}, left)));
      for (std::size_t i = 0; i < indices.size(); ++i) {
        indices[i] = plan.pick(state_->position + i).index;
      }
    }
    state_->position += indices.size();
    return indices;
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
  /// (Mismatch) and changes nothing if that one had another order (another kind, or other weights
  /// or lengths), size, rank, number of replicas or option, or if the archive contains no sampler.
  /// May do the work of the next reset() in advance.
  void load(torch::serialize::InputArchive& archive) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    for (const auto& [name, value] : identity()) compare(name, read(archive, name), value);
    const auto epoch = read(archive, "epoch");
    const auto position = read(archive, "position");
    const detail::EpochPlan& plan = *plan_of(epoch, state_->parts);
    if (position > plan.samples() || (plan.has_cuts() && !plan.batch_after(position))) {
      throw Error(ErrorCode::Mismatch, "the saved sampler is at position " +
                                           std::to_string(position) + " of " +
                                           detail::counted(plan.samples(), "sample") +
                                           (position > plan.samples() ? "" : ", inside a batch"));
    }
    state_->epoch = epoch;
    state_->start = static_cast<std::size_t>(position);
  }

 private:
  /// The plan of one epoch, and what it was made for.
  struct Planned {
    std::uint64_t epoch = 0;
    std::vector<std::size_t> parts;
    std::shared_ptr<detail::EpochPlan> plan;
  };

  struct State {
    std::mutex mutex;
    std::vector<std::size_t> parts;    // sizes of the joined datasets, or one size
    std::uint64_t epoch = 0;           // epoch of the next reset()
    std::optional<std::size_t> start;  // position of the next reset(), if set
    Planned running;                   // without a plan before the first epoch
    Planned prepared;                  // for the next reset(), if something needed it before
    std::size_t position = 0;          // this rank's samples drawn
    std::uint64_t batch = 0;           // its batches drawn, with by_length()
  };

  std::shared_ptr<detail::EpochPlan> plan_of(std::uint64_t epoch,
                                             const std::vector<std::size_t>& parts) const {
    for (const Planned* planned : {&state_->running, &state_->prepared}) {
      if (planned->plan && planned->epoch == epoch && planned->parts == parts) return planned->plan;
    }
    Planned made{epoch, parts,
                 std::make_shared<detail::EpochPlan>(
                     order_.rule().epoch(parts, options_.seed(), epoch), /*batch_size=*/1,
                     num_replicas_, rank_, options_.tail(), /*drop_last=*/false)};
    state_->prepared = std::move(made);
    return state_->prepared.plan;
  }

  void begin(const std::vector<std::size_t>& parts) {
    Planned next{state_->epoch, parts, plan_of(state_->epoch, parts)};
    const detail::EpochPlan& plan = *next.plan;
    const std::uint64_t position =
        (std::min)(std::uint64_t{state_->start.value_or(0)}, plan.samples());
    state_->batch = plan.has_cuts() ? plan.batch_after(position).value_or(plan.batches()) : 0;
    state_->position = static_cast<std::size_t>(position);
    state_->running = std::move(next);
    state_->prepared = {};
    state_->start.reset();
  }

  /// The values that must be equal for two samplers to draw the same samples.
  std::vector<std::pair<const char*, std::uint64_t>> identity() const {
    std::uint64_t parts = 0;
    if (state_->parts.size() > 1) {
      for (const std::size_t part : state_->parts) parts = detail::mix({parts, part});
    }
    return {{"size", detail::size_of(state_->parts)},
            {"num_replicas", num_replicas_},
            {"rank", rank_},
            {"seed", options_.seed()},
            {"tail", static_cast<std::uint64_t>(options_.tail())},
            {"order", order_.rule().fingerprint()},
            {"parts", parts}};
  }

  static void compare(const std::string& name, std::uint64_t saved, std::uint64_t own) {
    if (saved == own) return;
    if (name == "order") {
      throw Error(ErrorCode::Mismatch,
                  "the saved sampler has another order: of another kind, or with other numbers");
    }
    if (name == "parts") {
      throw Error(ErrorCode::Mismatch, "the saved sampler has joined datasets of other sizes");
    }
    const auto shown = [&](std::uint64_t value) -> std::string {
      if (name != "tail") return std::to_string(value);
      return value == 0 ? "Pad" : value == 1 ? "Drop" : "Exact";
    };
    throw Error(ErrorCode::Mismatch, "the saved sampler has " + name + " " + shown(saved) +
                                         ", this one has " + shown(own));
  }

  static void write(torch::serialize::OutputArchive& archive, const char* name,
                    std::uint64_t value) {
    archive.write(name, c10::IValue(static_cast<std::int64_t>(value)));
  }

  static std::uint64_t read(torch::serialize::InputArchive& archive, const char* name) {
    c10::IValue value;
    if (!archive.try_read(name, value) || !value.isInt()) {
      throw Error(ErrorCode::Mismatch,
                  "the archive contains no OrderSampler: it has no integer " + std::string(name));
    }
    return static_cast<std::uint64_t>(value.toInt());
  }

  Order order_;
  OrderSamplerOptions options_;
  std::size_t num_replicas_;
  std::size_t rank_;
  std::shared_ptr<State> state_;
};

namespace detail {

/// torch.randperm(size) of a CPU generator seeded with seed + epoch.
class RandpermRule : public OrderRule {
 public:
  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    const at::Tensor order = at::randperm(static_cast<std::int64_t>(size_of(parts)),
                                          at::detail::createCPUGenerator(seed + epoch), at::kLong);
    const auto* const first = order.data_ptr<std::int64_t>();
    return std::make_unique<ListedEpoch>(std::vector<std::size_t>(first, first + order.numel()));
  }
  std::uint64_t fingerprint() const override { return mix({0x72616e647065726d}); }
};

}  // namespace detail

/// An OrderSampler with the order of Python's torch.utils.data.DistributedSampler, and its names:
///
///     torch_npy::DistributedSampler sampler(dataset.size().value(), num_replicas, rank);
///
/// The order of an epoch is torch.randperm(size) of a CPU generator seeded with seed + epoch, or 0,
/// 1, 2, ... without shuffle(). As in Python, all ranks get the same number of samples: by default
/// a few samples of the start of the order are repeated; with drop_last() the last samples of the
/// order are dropped. If every sample must be used exactly once, use OrderSampler with Tail::Exact.
///
/// With shuffle(), each epoch starts in linear time and keeps 8 bytes per sample of the dataset, 16
/// while it starts. OrderSampler with shuffled() needs neither.
class DistributedSampler : public OrderSampler {
 public:
  /// A sampler for a dataset of `size` samples and this `rank` of `num_replicas`. Throws Error
  /// (InvalidArgument) if `rank` is not less than `num_replicas`.
  DistributedSampler(std::size_t size, std::size_t num_replicas, std::size_t rank,
                     DistributedSamplerOptions options = {})
      : OrderSampler(
            options.shuffle() ? Order(std::make_shared<detail::RandpermRule>()) : sequential(),
            size, num_replicas, rank,
            OrderSamplerOptions()
                .seed(options.seed())
                .tail(options.drop_last() ? Tail::Drop : Tail::Pad)) {}
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SAMPLER_HPP_
