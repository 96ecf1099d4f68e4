#ifndef TORCH_NPY_DATA_BATCH_COPIER_HPP_
#define TORCH_NPY_DATA_BATCH_COPIER_HPP_

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
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include <torch_npy/data/batch_tensors.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/version.hpp>

// Copies of batches to a device, while it computes.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// `device` with an index, which is that of the current device if it had none. Throws Error
/// (InvalidArgument) if there is no such device.
inline c10::Device existing_device(c10::Device device) {
  require_device(device);
  if (device.is_cpu()) return c10::kCPU;
  if (device.has_index()) return device;
  return c10::impl::getDeviceGuardImpl(device.type())->getDevice();
}

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

  /// Copies the tensor into the buffer, with the strides that Tensor::to() would give it.
  at::Tensor stage(const at::Tensor& tensor, at::Tensor& buffer) const {
    if (!buffer.defined() || buffer.nbytes() < tensor.nbytes()) {
      buffer.reset();
      buffer = at::empty({static_cast<std::int64_t>(tensor.nbytes())},
                         at::TensorOptions(at::kByte).pinned_memory(device_.is_cuda()));
    }
    at::Tensor staged = at::empty({0}, tensor.scalar_type());
    if (!tensor.is_non_overlapping_and_dense()) {
      staged.set_(buffer.storage(), 0, tensor.sizes(),
                  at::infer_dense_strides(tensor.sizes(), tensor.strides()));
      return staged.copy_(tensor);
    }
    staged.set_(buffer.storage(), 0, tensor.sizes(), tensor.strides());
    // Not copy_(): its threads would take the processors from the loader's workers.
    if (tensor.numel() != 0) std::memcpy(staged.data_ptr(), tensor.data_ptr(), tensor.nbytes());
    return staged;
  }

  c10::Device device_;
  c10::Stream stream_;
  std::array<Set, 2> sets_;
  std::size_t active_ = 0;
};

/// Moves a batch to `device` by blocking copies.
template <class Batch>
void move_batch(Batch& batch, c10::Device device) {
  BatchTensors<Batch>::each(batch, [device](at::Tensor& tensor) {
    if (tensor.defined()) tensor = tensor.to(device);
  });
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_COPIER_HPP_
