#ifndef TORCH_NPY_DATA_BATCH_MOVER_HPP_
#define TORCH_NPY_DATA_BATCH_MOVER_HPP_

#include <c10/core/Device.h>

#include <memory>
#include <type_traits>
#include <utility>

#include <torch_npy/data/batch_copier.hpp>
#include <torch_npy/data/batch_tensors.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

// Moving batches of any type to a device.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

template <class B, class = void>
constexpr bool kHasTo = false;
template <class B>
constexpr bool
    kHasTo<B, std::void_t<decltype(std::declval<B&>().to(std::declval<const c10::Device&>()))>> =
        true;

/// Moves batches to a device; none if it is the CPU. begin() each batch, then finish() it, before
/// the next one. For one thread at a time.
template <class B>
class BatchMover {
 public:
  /// Throws Error (InvalidArgument) if there is no such device, or if a B cannot be moved to it.
  explicit BatchMover(c10::Device device) : device_(existing_device(device)) {
    if (device_.is_cpu()) return;
    if constexpr (BatchTensors<B>::kAny) {
      copier_ = BatchCopier::make(device_);
    } else if constexpr (!kHasTo<B>) {
      throw Error(ErrorCode::InvalidArgument,
                  "batches of this type cannot be moved to " + device_.str() +
                      ": give the type a member to(device), or leave device() out and move what "
                      "the batches contain in the loop");
    }
  }

  /// True if the copies are faster from pinned memory.
  bool wants_pinned() const { return device_.is_cuda(); }

  /// True if begin() starts copies that go on while another batch is used.
  bool can_move_ahead() const { return copier_ != nullptr; }

  /// Starts the copies, if the device can copy in the background.
  void begin(B& batch) {
    if constexpr (BatchTensors<B>::kAny) {
      if (copier_) copier_->begin(batch);
    }
  }

  /// The batch is on the device for the current stream.
  void finish(B& batch) {
    if (device_.is_cpu()) return;
    if (copier_) {
      copier_->finish();
    } else if constexpr (BatchTensors<B>::kAny) {
      move_batch(batch, device_);
    } else if constexpr (kHasTo<B>) {
      move_by_member(batch);
    }
  }

 private:
  void move_by_member(B& batch) {
    using Result = decltype(batch.to(std::as_const(device_)));
    if constexpr (std::is_same_v<std::decay_t<Result>, B> && !std::is_reference_v<Result>) {
      batch = batch.to(device_);
    } else {
      batch.to(device_);
    }
  }

  c10::Device device_;
  std::unique_ptr<BatchCopier> copier_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_MOVER_HPP_
