#ifndef TORCH_NPY_TENSOR_DEVICE_HPP_
#define TORCH_NPY_TENSOR_DEVICE_HPP_

/// @file
/// Which device, and the way there.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdint>
#include <string>

#include <torch_npy/error.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Devices of a type that this LibTorch can reach now. A CUDA build without a driver has none.
inline int device_count(c10::DeviceType type) noexcept {
  if (type == c10::kCPU) return 1;
  if (!c10::impl::hasDeviceGuardImpl(type)) return 0;
  return c10::impl::getDeviceGuardImpl(type)->deviceCount();
}

inline void require_device(c10::Device device) {
  const int count = device_count(device.type());
  if (count != 0 && device.index() < count) return;
  const std::string type = c10::DeviceTypeName(device.type(), /*lower_case=*/true);
  throw Error(ErrorCode::InvalidArgument,
              "no device " + device.str() + ": " +
                  (count != 0 ? "devices of that type: " + std::to_string(count)
                              : "this LibTorch is built without " + type +
                                    ", or found no driver or no hardware") +
                  "; default_device() takes what is there");
}

}  // namespace detail

/// CUDA when it is available, else the CPU. Throws nothing. Safe from any thread.
inline c10::Device default_device() {
  return detail::device_count(c10::kCUDA) != 0 ? c10::kCUDA : c10::kCPU;
}

/// `tensor` on `device`, with the same shape and dtype; the tensor itself where it is there
/// already. With `non_blocking` a copy from pinned memory (LoadOptions::pinned_memory) goes on
/// while the caller does; any other copy is done when the call returns. Throws Error
/// (InvalidArgument) where there is no such device, or no tensor; and what LibTorch throws where
/// the device has no memory for it. Safe from any thread.
[[nodiscard]] inline at::Tensor to_device(const at::Tensor& tensor, c10::Device device,
                                          bool non_blocking = false) {
  detail::require_device(device);
  if (!tensor.defined()) throw Error(ErrorCode::InvalidArgument, "to_device() of no tensor");
  return tensor.to(device, non_blocking);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_DEVICE_HPP_
