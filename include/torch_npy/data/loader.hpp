#ifndef TORCH_NPY_DATA_LOADER_HPP_
#define TORCH_NPY_DATA_LOADER_HPP_

/// @file
/// Loader: makes batches of a dataset, epoch after epoch.

#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <torch_npy/data/batch_mover.hpp>
#include <torch_npy/data/batch_tensors.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/epoch_plan.hpp>
#include <torch_npy/data/loader_options.hpp>
#include <torch_npy/data/loader_queue.hpp>
#include <torch_npy/data/loader_state.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/order.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// What a Loader did since it was made. Times are in seconds.
struct LoaderStats {
  double waited = 0;  ///< the loop waited for a batch to be read
  double read = 0;    ///< batches were being read: the sum over all threads
  double copied = 0;  ///< the loop prepared and started copies to the device, or waited for them

  std::uint64_t batches = 0;  ///< batches that the loop got
  std::uint64_t samples = 0;  ///< samples in these batches
  std::uint64_t bytes = 0;    ///< bytes of the tensors in these batches, without sparse tensors
  std::uint64_t skipped = 0;  ///< samples that the dataset skipped, also those of empty batches
};

namespace detail {

template <class Result>
struct BatchOf {
  using Type = Result;
};
template <class B>
struct BatchOf<std::optional<B>> {
  using Type = B;
};

}  // namespace detail

/// Makes batches of a dataset, epoch after epoch, in the style of PyTorch's DataLoader:
///
///     Loader loader(dataset, LoaderOptions().batch_size(64).shuffle(true).seed(1).workers(2));
///     while (loader.epoch() < 10) {
///       for (auto& batch : loader) { batch.data; batch.target; batch.indices; }
///     }
///
/// Each loop is one epoch. It may be left early, also by an exception; the next loop is the next
/// epoch. Batches, and the random numbers in them, depend on the dataset, the seed, the epoch, the
/// order and the batch size, and not on the number of workers, nor on where a run was interrupted.
///
/// Workers are threads that live as long as the Loader, each with one intra-op thread of LibTorch.
/// They read at most ahead() batches that the loop did not get yet. While the constructor starts
/// them, no other thread should call at::set_num_threads() or use LibTorch for the first time.
///
/// With device(), the next batch is copied while the loop uses the current one, on a stream of its
/// own, as soon as a worker has read it: on CUDA from pinned memory, into which the workers read,
/// on other devices through reused buffers. Without workers, one batch is read in advance for this.
/// Tensors, Examples, the batch types of this library, and vectors of them are moved. Another type
/// needs a member `to(device)`, which returns the moved batch or changes the batch itself.
///
/// An exception from reading a batch is thrown unchanged in the loop, by ++ in the turn of that
/// batch. The next ++ continues with the batch after it. If the first batch of an epoch fails,
/// begin() returns normally and *it throws the exception, or ++ if *it was not called. A batch of
/// which the dataset skipped all samples is not returned; with several ranks it is an Error
/// (Mismatch), because the ranks must have the same number of batches. So is an epoch of which the
/// dataset skipped all samples.
///
/// The whole Loader is for one thread at a time. It cannot be moved, because iterators and workers
/// refer to it. Its destructor waits for the batches that workers are reading.
// Over 150 lines with its documentation: what it does apart from epochs and state is in
// LoaderQueue, EpochPlan and BatchMover.
template <class B>
class Loader {
 public:
  /// The type of the batches.
  using BatchType = B;

  /// An input iterator. All iterators of one Loader are at the same batch.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = B;
    using difference_type = std::ptrdiff_t;
    using pointer = B*;
    using reference = B&;

    /// Goes to the next batch. If reading it failed, throws that exception; there is no current
    /// batch then, and another ++ continues with the batch after it. Does nothing at the end.
    Iterator& operator++() {
      if (!owner_) return *this;
      if (owner_->first_failure_ && !owner_->is_failure_known_) owner_->tell_first_failure();
      owner_->advance();
      return *this;
    }
    /// As the prefix form.
    void operator++(int) { ++*this; }
    /// The current batch. The caller may change or move it. If reading the first batch of the epoch
    /// failed, throws that exception. Throws Error (InvalidArgument) if the last ++ threw, or if
    /// the epoch is over.
    B& operator*() const {
      if (owner_ && owner_->first_failure_) owner_->tell_first_failure();
      if (!owner_ || !owner_->current_) throw detail::no_batch();
      return *owner_->current_;
    }
    /// Access to a member of the current batch.
    B* operator->() const { return &**this; }

    /// True if both are at the end, or neither is.
    friend bool operator==(const Iterator& a, const Iterator& b) {
      return a.is_end() == b.is_end();
    }
    /// Inequality.
    friend bool operator!=(const Iterator& a, const Iterator& b) { return !(a == b); }

   private:
    friend class Loader;
    explicit Iterator(Loader* owner) : owner_(owner) {}
    bool is_end() const { return owner_ == nullptr || !owner_->is_running_; }

    Loader* owner_;
  };

  /// Batches of a dataset. Starts the workers; reads nothing yet. Throws Error: InvalidArgument if
  /// an option is invalid, or excludes another one, if the order does not fit the dataset, if there
  /// is no such device, or if batches of this type cannot be moved to it; Exhausted if the system
  /// refuses to start a worker.
  template <class E>
  explicit Loader(const Dataset<E, B>& dataset, LoaderOptions options = {})
      : Loader(
            dataset.source(), [dataset](Request& request) { return dataset.read(request); },
            std::move(options)) {}

  /// Batches of any type: `read` makes the batch of a request, and removes from request.picks the
  /// samples that it skipped; it may return no batch if it skipped all of them. It is called from
  /// several threads at once. `source` says how many samples there are, and which. Throws Error, as
  /// above.
  Loader(std::shared_ptr<const SourceInfo> source, std::function<std::optional<B>(Request&)> read,
         LoaderOptions options = {})
      : options_(std::move(options)),
        info_(std::move(source)),
        order_(chosen_order(options_)),
        seed_(options_.seed()),
        mover_(options_.device()) {
    if (!info_ || !read) {
      throw Error(ErrorCode::InvalidArgument, "Loader: the source or the function is null");
    }
    make_plan();  // finds what is invalid, before threads start
    queue_.emplace(std::move(read), options_.workers(),
                   options_.ahead().value_or(2 * options_.workers()), mover_.wants_pinned());
  }

  Loader(const Loader&) = delete;             ///< iterators and workers refer to this object
  Loader& operator=(const Loader&) = delete;  ///< iterators and workers refer to this object
  /// Waits for the batches that workers are reading.
  ~Loader() = default;

  /// Starts the next epoch, and waits for its first batch. If an epoch is running, it is over: do
  /// not loop over a Loader inside a loop over the same Loader.
  /// Throws only if the order of the epoch cannot be made.
  Iterator begin() {
    if (is_running_) end_epoch();
    make_plan();
    is_running_ = true;
    try {
      advance();
    } catch (...) {
      first_failure_ = std::current_exception();
    }
    return Iterator(this);
  }
  /// The end of any epoch.
  Iterator end() { return Iterator(nullptr); }

  /// The epoch that is running, which it also is after its loop was left early; else the epoch that
  /// the next begin() starts. The first is 0.
  std::uint64_t epoch() const noexcept { return epoch_; }

  /// The number of batches of this rank in that epoch, empty ones included. After restore(), the
  /// number of those that are left. Throws what begin() throws.
  std::uint64_t batches() {
    make_plan();
    return plan_->batches();
  }

  /// Where the run is: the current batch counts as used; batches that were read in advance do not.
  /// A batch that failed counts as used when the loop gets a later one. After the last batch of an
  /// epoch, the state is the start of the next epoch. The first call computes fingerprints of the
  /// dataset and the order; later ones cost nothing.
  LoaderState state() const {
    LoaderState state = fingerprints();
    state.seed = seed_;
    state.epoch = epoch_;
    state.samples = start_;
    if (!is_running_ || !last_) return state;
    state.samples = plan_->consumed_after(*last_);
    if (*last_ + 1 == plan_->most_batches()) {
      ++state.epoch;
      state.samples = 0;
    }
    return state;
  }

  /// The next begin() continues where the Loader was that returned `state`, with its seed, and
  /// reads only what is left of that epoch. The epochs after it are whole. An epoch that is running
  /// is over. Throws Error (Mismatch), and changes nothing, if the state has another version, is of
  /// another dataset or order, or is at a position that the epoch does not have.
  void restore(const LoaderState& state) {
    state.require_version();
    const LoaderState& own = fingerprints();
    if (state.dataset != own.dataset) {
      throw Error(ErrorCode::Mismatch,
                  saved_at(state) +
                      " of another dataset; use the same samples, in the same order (" +
                      "this dataset has " + detail::counted(info_->size(), "sample") +
                      " and the fingerprint " + std::to_string(own.dataset) +
                      ", the state has the fingerprint " + std::to_string(state.dataset) + ")");
    }
    if (state.order != own.order) {
      throw Error(
          ErrorCode::Mismatch,
          saved_at(state) +
              " of another order; use the same shuffle() or order(), with the same parameters (" +
              "this order has the fingerprint " + std::to_string(own.order) +
              ", the state has the fingerprint " + std::to_string(state.order) + ")");
    }
    Plan plan = planned(state.seed, state.epoch, state.samples);
    stop_reading();
    is_running_ = false;
    plan_ = std::move(plan.batches);
    size_ = plan.size;
    seed_ = state.seed;
    epoch_ = state.epoch;
    start_ = state.samples;
  }

  /// What the Loader did since it was made.
  LoaderStats stats() const {
    const auto seconds = [](std::int64_t nanoseconds) {
      return static_cast<double>(nanoseconds) * 1e-9;
    };
    LoaderStats stats = stats_;
    stats.waited = seconds(queue_->waited());
    stats.read = seconds(queue_->read());
    stats.copied = seconds(copied_);
    return stats;
  }

 private:
  struct Plan {
    std::unique_ptr<detail::EpochPlan> batches;
    std::uint64_t size;  // positions in the epoch, of all ranks
  };

  /// What is known of the run that a state is of.
  static std::string saved_at(const LoaderState& state) {
    return "the state is at sample " + std::to_string(state.samples) + " of epoch " +
           std::to_string(state.epoch) + ", with seed " + std::to_string(state.seed) + ",";
  }

  static Order chosen_order(const LoaderOptions& options) {
    if (options.shuffle() && options.order()) {
      throw Error(ErrorCode::InvalidArgument,
                  "shuffle(true) and order() exclude each other: order(shuffled()) shuffles");
    }
    if (options.workers() != 0 && options.ahead() == std::size_t{0}) {
      throw Error(
          ErrorCode::InvalidArgument,
          "ahead(0) with workers: expected at least 1; workers(0) reads nothing in advance");
    }
    if (options.order()) return *options.order();
    return options.shuffle() ? shuffled() : sequential();
  }

  Plan planned(std::uint64_t seed, std::uint64_t epoch, std::uint64_t start) const {
    std::unique_ptr<detail::EpochOrder> order = order_.rule().epoch(info_->parts(), seed, epoch);
    if (order->cuts() && options_.batch_size()) {
      throw Error(ErrorCode::InvalidArgument,
                  "batch_size() is set, but the order makes the batches: remove batch_size(), and "
                  "give the size of a batch to the order");
    }
    if (order->cuts() && options_.drop_last()) {
      throw Error(ErrorCode::InvalidArgument,
                  "drop_last(true) is set, but the order makes the batches: remove drop_last()");
    }
    const std::uint64_t size = order->size();
    return {std::make_unique<detail::EpochPlan>(std::move(order), options_.batch_size().value_or(1),
                                                options_.num_replicas(), options_.rank(),
                                                options_.tail(), options_.drop_last(), start),
            size};
  }

  /// Makes the plan of the epoch that is running or begins next, if there is none.
  void make_plan() {
    if (plan_) return;
    Plan plan = planned(seed_, epoch_, start_);
    plan_ = std::move(plan.batches);
    size_ = plan.size;
  }

  /// Computed once, because they depend on many keys or weights.
  const LoaderState& fingerprints() const {
    if (!fingerprints_) {
      LoaderState state;
      state.dataset = info_->fingerprint();
      state.order = order_.rule().fingerprint();
      fingerprints_ = state;
    }
    return *fingerprints_;
  }

  [[noreturn]] void tell_first_failure() {
    is_failure_known_ = true;
    std::rethrow_exception(first_failure_);
  }

  void advance() {
    current_.reset();  // first, so that its memory can be used again
    first_failure_ = nullptr;
    is_failure_known_ = false;
    if (!is_running_) return;
    if (!find_next()) {
      if (plan_->batches() != 0 && std::exchange(empty_, 0) == plan_->batches())
        throw_all_skipped();
      end_epoch();
      return;
    }
    const std::shared_ptr<detail::Reading<B>> next = queue_->pop();
    request_more();
    stats_.skipped += next->skipped();
    if (next->is_empty()) throw_empty(*next);
    if (!next->error && !next->is_moving) start_moving(*next);
    // Taken, because the worker may still own `next` for a moment, and would destroy what is left.
    if (next->error) std::rethrow_exception(std::exchange(next->error, nullptr));
    {
      const detail::Stopwatch time(copied_);
      mover_.finish(*next->batch);
    }
    current_.emplace(std::move(*next->batch));
    next->batch.reset();
    last_ = next->number;
    ++stats_.batches;
    stats_.samples += next->request.picks.size();
    stats_.bytes += detail::bytes_in(*current_);
    if (mover_.can_move_ahead()) move_ahead();
  }

  /// Waits for the next batch that the loop gets. Returns false at the end of the epoch.
  bool find_next() {
    for (;;) {
      request_more();
      const detail::Reading<B>* const next = queue_->front();
      if (!next) return false;
      if (!next->is_empty() || options_.num_replicas() > 1) return true;
      stats_.skipped += next->skipped();
      ++empty_;
      queue_->pop();
    }
  }

  /// Starts moving the batch after the current one, if that needs no waiting for a worker.
  void move_ahead() {
    detail::Reading<B>* const next = queue_->front_if_ready();
    if (next && !next->error && !next->is_empty()) start_moving(*next);
  }

  void start_moving(detail::Reading<B>& reading) {
    const detail::Stopwatch time(copied_);
    reading.is_moving = true;
    try {
      mover_.begin(*reading.batch);
    } catch (...) {
      reading.error = std::current_exception();
    }
  }

  void request_more() {
    for (; !queue_->is_full() && next_number_ < plan_->batches(); ++next_number_) {
      Request request;
      request.picks = plan_->batch(next_number_);
      request.seed = seed_;
      request.epoch = epoch_;
      request.population = info_->size();
      queue_->push(std::move(request), next_number_);
    }
  }

  [[noreturn]] static void throw_empty(const detail::Reading<B>& reading) {
    throw Error(ErrorCode::Mismatch,
                "the dataset skipped all " + detail::counted(reading.requested, "sample") +
                    " of batch " + std::to_string(reading.number) +
                    ", but all ranks must have the same number of batches: use "
                    "on_bad_file(OnBadFile::Replace)");
  }

  /// Training on nothing would go unnoticed.
  [[noreturn]] void throw_all_skipped() const {
    throw Error(ErrorCode::Mismatch, "the dataset skipped every sample of epoch " +
                                         std::to_string(epoch_) + ", " +
                                         detail::counted(size_, "sample") +
                                         "; verify() and the callback of on_bad_file() say why");
  }

  void stop_reading() {
    queue_->clear();
    empty_ = 0;
    current_.reset();
    first_failure_ = nullptr;
    last_.reset();
    next_number_ = 0;
  }

  void end_epoch() {
    stop_reading();
    is_running_ = false;
    plan_.reset();
    ++epoch_;
    start_ = 0;
  }

  LoaderOptions options_;
  std::shared_ptr<const SourceInfo> info_;
  Order order_;
  std::uint64_t seed_;
  detail::BatchMover<B> mover_;
  mutable std::optional<LoaderState> fingerprints_;

  std::uint64_t epoch_ = 0;
  std::uint64_t start_ = 0;  // samples of the epoch that were used before restore()
  std::unique_ptr<detail::EpochPlan> plan_;
  std::uint64_t size_ = 0;  // positions in the epoch, of all ranks
  bool is_running_ = false;
  std::uint64_t next_number_ = 0;      // of the batch to request
  std::uint64_t empty_ = 0;            // batches of this epoch without samples
  std::optional<B> current_;           // none after an exception, and at the end
  std::optional<std::uint64_t> last_;  // the number of the last batch that the loop got
  std::exception_ptr first_failure_;   // of the first batch, for *it
  bool is_failure_known_ = false;      // to the loop

  LoaderStats stats_;        // without the times
  std::int64_t copied_ = 0;  // nanoseconds

  std::optional<detail::LoaderQueue<B>> queue_;
};

/// Deduces the batch type from the dataset.
template <class E, class B>
Loader(const Dataset<E, B>&, LoaderOptions = {}) -> Loader<B>;

/// Deduces the batch type from the function.
template <class Source, class Read>
Loader(std::shared_ptr<Source>, Read, LoaderOptions = {})
    -> Loader<typename detail::BatchOf<std::decay_t<std::invoke_result_t<Read&, Request&>>>::Type>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LOADER_HPP_
