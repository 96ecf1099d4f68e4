#ifndef TORCH_NPY_DATA_PREFETCH_HPP_
#define TORCH_NPY_DATA_PREFETCH_HPP_

/// @file
/// Loads the next batch to a device while the current one is in use.

#include <ATen/ExpandUtils.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/tensor/device.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

// Visits the tensors in a batch: BatchTensors<Batch>::each(batch, call) calls call(at::Tensor&) for
// each one, always in the same order. Types without tensors have no each().
template <class Part>
struct BatchTensors {
  static constexpr bool kAny = false;
};

template <>
struct BatchTensors<at::Tensor> {
  static constexpr bool kAny = true;

  template <class Call>
  static void each(at::Tensor& tensor, const Call& call) {
    call(tensor);
  }
};

template <class Data, class Target>
struct BatchTensors<torch::data::Example<Data, Target>> {
  static constexpr bool kAny = BatchTensors<Data>::kAny || BatchTensors<Target>::kAny;

  template <class Call>
  static void each(torch::data::Example<Data, Target>& example, const Call& call) {
    if constexpr (BatchTensors<Data>::kAny) BatchTensors<Data>::each(example.data, call);
    if constexpr (BatchTensors<Target>::kAny) BatchTensors<Target>::each(example.target, call);
  }
};

template <class E>
struct BatchTensors<Batch<E>> : BatchTensors<E> {};

template <class Item, class Allocator>
struct BatchTensors<std::vector<Item, Allocator>> {
  static constexpr bool kAny = BatchTensors<Item>::kAny;

  template <class Call>
  static void each(std::vector<Item, Allocator>& items, const Call& call) {
    for (Item& item : items) BatchTensors<Item>::each(item, call);
  }
};

/// The stream of this thread for copies to `device`; throws c10::Error if the device type has no
/// streams. Always the same one: LibTorch's allocators cache freed memory per stream, and a new
/// stream could not reuse it.
inline c10::Stream copy_stream(c10::Device device) {
  thread_local std::vector<c10::Stream> streams;
  for (const c10::Stream& stream : streams) {
    if (stream.device() == device) return stream;
  }
  const c10::impl::VirtualGuardImpl impl(device.type());
  streams.push_back(impl.getStreamFromGlobalPool(device));
  return streams.back();
}

/// Copies batches to a device on its own stream while the current stream computes. begin() a batch,
/// then finish() it, before the next one. For one thread at a time.
class BatchCopier {
 public:
  /// Null for a device without streams or events; LibTorch reports that by throwing when they are
  /// used.
  static std::unique_ptr<BatchCopier> make(c10::Device device) {
    if (device.is_cpu()) return nullptr;
    try {
      auto copier = std::make_unique<BatchCopier>(device, copy_stream(device));
      c10::Event event(device.type());
      event.record(copier->stream_);
      event.block(copier->stream_);
      (void)event.query();
      return copier;
    } catch (const c10::Error&) {
      return nullptr;
    }
  }

  BatchCopier(c10::Device device, c10::Stream stream)
      : device_(device), stream_(stream), sets_{Set(device.type()), Set(device.type())} {}
  BatchCopier(const BatchCopier&) = delete;
  BatchCopier& operator=(const BatchCopier&) = delete;

  ~BatchCopier() {
    for (const Set& set : sets_) {
      try {
        set.wait();
      } catch (...) {  // A failed device no longer reads the buffers.
      }
    }
  }

  /// Starts the copies and stores them in the batch. Their contents are valid only after finish().
  template <class Batch>
  void begin(Batch& batch) {
    active_ = (active_ + 1) % sets_.size();
    Set& set = sets_[active_];
    set.wait();
    set.pinned.clear();
    set.copies.clear();
    std::size_t position = 0;
    BatchTensors<Batch>::each(batch, [&](at::Tensor& tensor) {
      if (set.buffers.size() == position) set.buffers.emplace_back();
      copy(tensor, set, set.buffers[position++]);
    });
  }

  /// Makes the device's current stream wait for the copies of the last batch. The caller does not
  /// wait.
  void finish() {
    const c10::impl::VirtualGuardImpl impl(device_.type());
    const c10::Stream current = impl.getStream(device_);
    Set& set = sets_[active_];
    set.copied.block(current);
    // Their memory belongs to the copy stream. Without recording, the allocator would give it to a
    // later batch as soon as the tensor is destroyed, while the current stream may still use it.
    for (const at::Tensor& tensor : set.copies) {
      impl.recordDataPtrOnStream(tensor.storage().data_ptr(), current);
    }
    set.copies.clear();
  }

 private:
  /// The memory that the copies of one batch read. With two sets, one batch is filled while the
  /// copies of the previous one are in progress.
  struct Set {
    explicit Set(c10::DeviceType type) : copied(type) {}

    // Not Event::synchronize(), which LibTorch 1.13 does not have.
    void wait() const {
      while (!copied.query()) std::this_thread::yield();
    }

    c10::Event copied;
    std::vector<at::Tensor> buffers;  // by position in the batch
    std::vector<at::Tensor> pinned;   // the loader's own pinned tensors, copied without a buffer
    std::vector<at::Tensor> copies;   // on the device, until finish()
  };

  void copy(at::Tensor& tensor, Set& set, at::Tensor& buffer) const {
    if (!tensor.defined()) return;
    if (!is_plain(tensor)) {
      tensor = tensor.to(device_);
      return;
    }
    const c10::StreamGuard guard(stream_);
    // For CUDA only, because is_pinned() in LibTorch 1.13 means pinned for CUDA.
    if (device_.is_cuda() && tensor.is_non_overlapping_and_dense() && tensor.is_pinned()) {
      set.pinned.push_back(tensor);
    } else {
      tensor = stage(tensor, buffer);
    }
    tensor = tensor.to(device_, /*non_blocking=*/true);
    // After each copy, so that the event covers it even if the next copy throws.
    set.copied.record(stream_);
    set.copies.push_back(tensor);
  }

  /// True for tensors of plain bytes in host memory. Others are copied by LibTorch, or are on the
  /// device already.
  static bool is_plain(const at::Tensor& tensor) {
    return tensor.is_cpu() && tensor.layout() == c10::kStrided && !tensor.is_nested() &&
           !tensor.is_quantized() && !tensor._is_zerotensor();
  }

  /// Copies the tensor into the buffer, with the strides that Tensor::to() would give it.
  at::Tensor stage(const at::Tensor& tensor, at::Tensor& buffer) const {
    if (!buffer.defined() || buffer.nbytes() < tensor.nbytes()) {
      buffer.reset();
      buffer = at::empty({static_cast<std::int64_t>(tensor.nbytes())},
                         at::TensorOptions(at::kByte).pinned_memory(device_.is_cuda()));
    }
    const auto strides = tensor.is_non_overlapping_and_dense()
                             ? tensor.strides().vec()
                             : at::infer_dense_strides(tensor.sizes(), tensor.strides());
    at::Tensor staged = at::empty({0}, tensor.scalar_type());
    return staged.set_(buffer.storage(), 0, tensor.sizes(), strides).copy_(tensor);
  }

  c10::Device device_;
  c10::Stream stream_;
  std::array<Set, 2> sets_;
  std::size_t active_ = 0;
};

}  // namespace detail

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
    /// batches were returned; another ++ continues with the batch after it.
    Iterator& operator++() {
      owner_->advance();
      return *this;
    }
    /// As the prefix form.
    void operator++(int) { ++*this; }
    /// The current batch. The caller may change or move it.
    Batch& operator*() const { return *owner_->current_; }
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
    bool is_end() const { return owner_ == nullptr || !owner_->current_; }

    Prefetcher* owner_;
  };

  /// Reads nothing yet. Throws Error (InvalidArgument) if there is no such device.
  Prefetcher(Loader& loader, c10::Device device)
      : loader_(&loader), device_(existing(device)), copier_(detail::BatchCopier::make(device_)) {}
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
    is_first_ = true;
    is_running_ = true;
    source_.emplace(loader_->begin());
    advance();
    return Iterator(this);
  }
  /// The end of any epoch.
  Iterator end() { return Iterator(nullptr); }

 private:
  static c10::Device existing(c10::Device device) {
    detail::require_device(device);
    if (device.is_cpu()) return c10::kCPU;
    if (device.has_index()) return device;
    return c10::impl::getDeviceGuardImpl(device.type())->getDevice();
  }

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
    if (!copier_) {
      std::optional<Batch> batch = read();
      if (batch) {
        detail::BatchTensors<Batch>::each(*batch, [this](at::Tensor& tensor) {
          if (tensor.defined()) tensor = tensor.to(device_);
        });
      }
      current_ = std::move(batch);
      return;
    }
    if (!has_looked_ahead_) look_ahead();
    if (failure_) {
      has_looked_ahead_ = false;
      std::rethrow_exception(std::exchange(failure_, nullptr));
    }
    if (ahead_) copier_->finish();
    current_ = std::exchange(ahead_, std::nullopt);
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
  std::optional<Batch> current_;
  std::optional<Batch> ahead_;  // its copies have started
  std::exception_ptr failure_;  // the exception thrown instead of ahead_
  bool has_looked_ahead_ = false;
  std::unique_ptr<detail::BatchCopier> copier_;
};

/// A range over the batches of `loader`, one of LibTorch's data loaders, on `device`. The next
/// batch is read and copied while the caller uses the current one.
///
///     for (auto& batch : torch_npy::prefetch(*loader, device)) { batch.data; batch.target; }
///
/// Copies the tensors of Examples and of vectors of them. Everything else is passed on unchanged,
/// also undefined tensors and those on the device already. On the CPU the batches are the loader's
/// own. On other devices the copy goes through reused buffers (pinned ones on CUDA), or directly
/// from the loader's tensors if these are pinned. When a batch is returned, the device's current
/// stream waits for its copy; the caller does not. On a device without streams, a batch is copied
/// when it becomes the current one.
///
/// The loop may be left early, also by an exception, and started again: the loader is then in the
/// same state as after a full epoch. Throws Error (InvalidArgument) if there is no such device.
template <class Loader>
[[nodiscard]] Prefetcher<Loader> prefetch(Loader& loader, c10::Device device) {
  return Prefetcher<Loader>(loader, device);
}

/// Not for the pointer that make_data_loader() returns: dereference it, prefetch(*loader, device).
template <class Loader>
void prefetch(std::unique_ptr<Loader>& loader, c10::Device device) = delete;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PREFETCH_HPP_
