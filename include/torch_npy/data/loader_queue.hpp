#ifndef TORCH_NPY_DATA_LOADER_QUEUE_HPP_
#define TORCH_NPY_DATA_LOADER_QUEUE_HPP_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include <torch_npy/data/request.hpp>
#include <torch_npy/data/worker_threads.hpp>
#include <torch_npy/version.hpp>

// The batches that a Loader reads in advance.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Adds the nanoseconds of its lifetime to a sum.
template <class Sum>
class Stopwatch {
 public:
  explicit Stopwatch(Sum& sum) : sum_(sum) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    const std::chrono::nanoseconds time = std::chrono::steady_clock::now() - start_;
    sum_ += time.count();
  }

 private:
  Sum& sum_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// How a Loader reads a batch.
template <class B>
struct BatchSource {
  std::function<std::optional<B>(Request&)> read;
  bool pins = false;                         // for a CUDA device
  std::atomic<std::int64_t> nanoseconds{0};  // spent in read()
};

/// One batch: first its request, then the batch or the exception of reading it.
template <class B>
class Reading : public Job {
 public:
  Reading(BatchSource<B>& from, Request what, std::uint64_t batch_number)
      : request(std::move(what)),
        number(batch_number),
        requested(request.picks.size()),
        source_(&from) {}

  void run() noexcept override {
    const Stopwatch time(source_->nanoseconds);
    try {
      request.pin_memory = source_->pins;
      if (auto made = source_->read(request)) batch.emplace(std::move(*made));
      if (source_->pins && batch) pin_batch(*batch);
    } catch (...) {
      error = std::current_exception();
    }
    was_read = true;
  }

  /// The number of samples that the dataset skipped.
  std::size_t skipped() const {
    return error ? 0 : requested - (std::min)(requested, request.picks.size());
  }
  /// True if the dataset skipped all samples.
  bool is_empty() const { return !error && (!batch || (requested != 0 && request.picks.empty())); }

  Request request;
  std::uint64_t number;   // in the epoch of this rank
  std::size_t requested;  // samples
  std::optional<B> batch;
  std::exception_ptr error;
  bool was_read = false;
  bool is_moving = false;  // to the device

 private:
  BatchSource<B>* source_;
};

/// Reads batches in order, in advance if there are workers. For one thread at a time.
template <class B>
class LoaderQueue {
 public:
  /// With workers, at most `ahead` batches are in the queue; without, only the one to read next. If
  /// `pins`, batches are put into pinned memory.
  /// Throws Error (Exhausted) if the system refuses to start a worker.
  LoaderQueue(std::function<std::optional<B>(Request&)> read, std::size_t workers,
              std::size_t ahead, bool pins)
      : ahead_(workers != 0 ? ahead : 1) {
    source_.read = std::move(read);
    source_.pins = pins;
    if (workers != 0) threads_.emplace(workers);
  }

  bool is_full() const { return readings_.size() >= ahead_; }

  void push(Request request, std::uint64_t number) {
    readings_.push_back(std::make_shared<Reading<B>>(source_, std::move(request), number));
    if (threads_) threads_->submit(readings_.back());
  }

  /// The first batch of the queue, read. Waits for it, or reads it if there are no workers. Null if
  /// the queue is empty.
  Reading<B>* front() {
    if (readings_.empty()) return nullptr;
    Reading<B>& first = *readings_.front();
    const Stopwatch time(waited_);
    if (threads_) {
      threads_->wait_for(first);
    } else if (!first.was_read) {
      first.run();
    }
    return &first;
  }

  /// The same without waiting for workers: null if the batch has not been read yet.
  Reading<B>* front_if_ready() {
    if (threads_ && !readings_.empty() && !threads_->is_done(*readings_.front())) return nullptr;
    return front();
  }

  std::shared_ptr<Reading<B>> pop() {
    std::shared_ptr<Reading<B>> first = std::move(readings_.front());
    readings_.pop_front();
    return first;
  }

  /// Does not wait: what workers are reading is dropped when it has been read.
  void clear() {
    if (threads_) threads_->drop_waiting();
    readings_.clear();
  }

  /// Nanoseconds that front() took.
  std::int64_t waited() const { return waited_; }
  /// Nanoseconds spent reading, on all threads.
  std::int64_t read() const { return source_.nanoseconds; }

 private:
  std::size_t ahead_;
  BatchSource<B> source_;
  std::deque<std::shared_ptr<Reading<B>>> readings_;
  std::int64_t waited_ = 0;
  std::optional<WorkerThreads> threads_;  // last: destroyed before what its jobs use
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LOADER_QUEUE_HPP_
