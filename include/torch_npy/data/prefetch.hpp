#ifndef TORCH_NPY_DATA_PREFETCH_HPP_
#define TORCH_NPY_DATA_PREFETCH_HPP_

/// @file
/// Loads the next batch to a device while the current one is in use.

#include <c10/core/Device.h>

#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_copier.hpp>
#include <torch_npy/data/batch_tensors.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// A range over the batches of a data loader, on a device: see prefetch(). Each begin() starts an
/// epoch. For one thread at a time, and one Prefetcher at a time for a loader, which must outlive
/// it.
template <class Loader>
class Prefetcher {
 public:
  /// The loader's batch type.
  using Batch = typename Loader::BatchType;
  static_assert(detail::BatchTensors<Batch>::kAny,
                "prefetch() expects batches of tensors, of torch::data::Example, or of vectors of "
                "them");

  /// An input iterator. All iterators of one Prefetcher are at the same batch.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    using pointer = Batch*;
    using reference = Batch&;

    /// Goes to the next batch. If reading that batch threw, throws its exception, after all earlier
    /// batches were returned. Then there is no current batch, and another ++ continues with the
    /// batch after it.
    Iterator& operator++() {
      if (owner_ != nullptr) owner_->advance();
      return *this;
    }
    /// As the prefix form.
    void operator++(int) { ++*this; }
    /// The current batch. The caller may change or move it. Throws Error (InvalidArgument) if there
    /// is none, because the last ++ threw or the epoch is over.
    Batch& operator*() const {
      if (!owner_ || !owner_->current_) throw detail::no_batch();
      return *owner_->current_;
    }
    /// Access to a member of the current batch.
    Batch* operator->() const { return &**this; }

    /// True if both are at the end, or neither is.
    friend bool operator==(const Iterator& a, const Iterator& b) {
      return a.is_end() == b.is_end();
    }
    /// Inequality.
    friend bool operator!=(const Iterator& a, const Iterator& b) { return !(a == b); }

   private:
    friend class Prefetcher;
    explicit Iterator(Prefetcher* owner) : owner_(owner) {}
    bool is_end() const { return owner_ == nullptr || owner_->is_at_end_; }

    Prefetcher* owner_;
  };

  /// Reads nothing yet. Throws Error (InvalidArgument) if there is no such device.
  Prefetcher(Loader& loader, c10::Device device)
      : loader_(&loader),
        device_(detail::existing_device(device)),
        copier_(detail::BatchCopier::make(device_)) {}
  Prefetcher(const Prefetcher&) = delete;             ///< a loader has only one epoch at a time
  Prefetcher& operator=(const Prefetcher&) = delete;  ///< a loader has only one epoch at a time

  /// On early exit from an epoch, waits for the batches that the loader's workers are reading, so
  /// that the loader can be used again.
  ~Prefetcher() {
    try {
      if (is_running_) stop();
    } catch (...) {  // A destructor must not throw; the epoch is over.
    }
  }

  /// Starts an epoch and reads its first two batches. Ends an unfinished epoch of the loader first.
  /// Throws what the loader throws.
  Iterator begin() {
    stop();
    current_.reset();
    ahead_.reset();
    failure_ = nullptr;
    has_looked_ahead_ = false;
    is_at_end_ = false;
    is_first_ = true;
    is_running_ = true;
    source_.emplace(loader_->begin());
    advance();
    return Iterator(this);
  }
  /// The end of any epoch.
  Iterator end() { return Iterator(nullptr); }

 private:
  /// Access to the protected members of LibTorch's loader.
  struct Access : Loader {
    static auto shuttle() { return &Access::shuttle_; }
    static auto more() { return with_count(&Access::prefetch); }

   private:
    template <class Base>
    static auto with_count(void (Base::*prefetch)(std::size_t)) {
      return prefetch;
    }
  };

  /// LibTorch's loader cannot begin an epoch while its workers are in one, and has no function to
  /// end one. Draining its queues ends it.
  void stop() {
    source_.reset();
    (loader_->*Access::shuttle()).drain();
    is_running_ = false;
  }

  void advance() {
    current_.reset();
    if (!copier_) {
      std::optional<Batch> batch = read();
      if (batch) detail::move_batch(*batch, device_);
      current_ = std::move(batch);
      is_at_end_ = !current_;
      return;
    }
    if (!has_looked_ahead_) look_ahead();
    if (failure_) {
      has_looked_ahead_ = false;
      std::rethrow_exception(std::exchange(failure_, nullptr));
    }
    if (ahead_) copier_->finish();
    current_ = std::exchange(ahead_, std::nullopt);
    is_at_end_ = !current_;
    if (current_) look_ahead();
  }

  void look_ahead() {
    has_looked_ahead_ = true;
    try {
      ahead_ = read();
      if (ahead_) copier_->begin(*ahead_);
    } catch (...) {
      ahead_.reset();
      failure_ = std::current_exception();
    }
  }

  /// The loader's next batch; none at the end of the epoch.
  std::optional<Batch> read() {
    if (!source_) return std::nullopt;
    bool is_end = false;
    try {
      if (!is_first_) ++*source_;
      is_end = *source_ == loader_->end();
    } catch (const torch::data::WorkerException&) {
      // The loader does not request a batch to replace this one: after as many failures as it
      // prefetches batches, the epoch would end early.
      (loader_->*Access::more())(1);
      throw;
    }
    is_first_ = false;
    if (!is_end) return std::move(**source_);
    source_.reset();
    is_running_ = false;
    return std::nullopt;
  }

  Loader* loader_;
  c10::Device device_;
  std::optional<decltype(std::declval<Loader&>().begin())> source_;
  bool is_running_ = false;  // the loader may have work in progress
  bool is_first_ = true;
  bool is_at_end_ = false;
  std::optional<Batch> current_;  // none after an exception, and at the end
  std::optional<Batch> ahead_;    // its copies have started
  std::exception_ptr failure_;    // the exception thrown instead of ahead_
  bool has_looked_ahead_ = false;
  std::unique_ptr<detail::BatchCopier> copier_;
};

/// A range over the batches of `loader`, one of LibTorch's data loaders, on `device`. The next
/// batch is read and copied while the caller uses the current one.
///
///     for (auto& batch : torch_npy::prefetch(*loader, device)) { batch.data; batch.target; }
///
/// Copies the tensors of Examples, of the batch types of this library, and of vectors of them.
/// Everything else is passed on unchanged, also undefined tensors and those on the device already.
/// On the CPU the batches are the loader's own. On other devices the copy goes through reused
/// buffers (pinned ones on CUDA), or directly from the loader's tensors if these are pinned, which
/// is faster: LoadOptions::pinned_memory() makes a dataset pin them. When a batch is returned, the
/// device's current stream waits for its copy; the caller does not. On a device without streams, a
/// batch is copied when it becomes the current one.
///
/// The loop may be left early, also by an exception, and started again: the loader is then in the
/// same state as after a full epoch. Throws Error (InvalidArgument) if there is no such device.
template <class Loader>
[[nodiscard]] Prefetcher<Loader> prefetch(Loader& loader, c10::Device device) {
  return Prefetcher<Loader>(loader, device);
}

/// The same for the pointer that make_data_loader() returns. Throws Error (InvalidArgument) if it
/// is null.
template <class Loader>
[[nodiscard]] Prefetcher<Loader> prefetch(std::unique_ptr<Loader>& loader, c10::Device device) {
  if (!loader) {
    throw Error(ErrorCode::InvalidArgument, "prefetch(): the pointer to the loader is null");
  }
  return Prefetcher<Loader>(*loader, device);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PREFETCH_HPP_
