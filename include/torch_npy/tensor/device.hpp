#ifndef TORCH_NPY_TENSOR_DEVICE_HPP_
#define TORCH_NPY_TENSOR_DEVICE_HPP_

/// @file
/// Checks for devices, and copies to them.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <string>

#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The number of available devices of a type; 0 for a CUDA build without a driver.
inline int device_count(c10::DeviceType type) noexcept {
  if (type == c10::kCPU) return 1;
  if (!c10::impl::hasDeviceGuardImpl(type)) return 0;
  return c10::impl::getDeviceGuardImpl(type)->deviceCount();
}

/// Throws Error (InvalidArgument) if there is no such device.
inline void require_device(c10::Device device) {
  const int count = device_count(device.type());
  if (count != 0 && device.index() < count) return;
  const std::string type = c10::DeviceTypeName(device.type(), /*lower_case=*/true);
  throw Error(ErrorCode::InvalidArgument,
              "no device " + device.str() + ": " +
                  (count != 0 ? "devices of that type: " + std::to_string(count)
                              : "this LibTorch is built without " + type +
                                    ", or found no driver or no hardware") +
                  "; default_device() returns an available one");
}

}  // namespace detail

/// CUDA if it is available, else the CPU. Throws nothing. Safe from any thread.
inline c10::Device default_device() {
  return detail::device_count(c10::kCUDA) != 0 ? c10::kCUDA : c10::kCPU;
}

/// Returns `tensor` on `device`, with the same shape and dtype, or `tensor` itself if it is there
/// already. With `non_blocking`, a copy from pinned memory (LoadOptions::pinned_memory) may still
/// be in progress when the call returns; any other copy is complete. Throws Error (InvalidArgument)
/// if there is no such device, or if the tensor is undefined; and LibTorch's exception if the
/// device is out of memory. Safe from any thread.
[[nodiscard]] inline at::Tensor to_device(const at::Tensor& tensor, c10::Device device,
                                          bool non_blocking = false) {
  detail::require_device(device);
  if (!tensor.defined())
    throw Error(ErrorCode::InvalidArgument, "to_device() of an undefined tensor");
  return tensor.to(device, non_blocking);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_DEVICE_HPP_
