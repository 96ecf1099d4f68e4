#pragma once

// An accelerator for machines without one: LibTorch's PrivateUse1 device, whose memory is the
// host's. It can make tensors and copy them to and from the CPU, and counts the copies; nothing
// else. Included by one file of a program: it registers itself.

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Optional.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <vector>

namespace fake_device {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;
constexpr int kCount = 2;

inline std::atomic<int> copies{0};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static inline thread_local c10::DeviceIndex current = 0;

  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device old(kType, current);
    current = device.index();
    return old;
  }
  c10::Device getDevice() const override { return c10::Device(kType, current); }
  void setDevice(c10::Device device) const override { current = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = device.index(); }
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return kCount; }
};

// Before LibTorch 2.5 or so these are LibTorch's own optionals.
using Type = c10::optional<c10::ScalarType>;
using Layout = c10::optional<c10::Layout>;
using Device = c10::optional<c10::Device>;
using Pinned = c10::optional<bool>;
using Format = c10::optional<c10::MemoryFormat>;

inline at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, Type type, Layout,
                                Device device, Pinned) {
  const c10::Device where(kType, device && device->has_index() ? device->index() : Guard::current);
  const auto dtype = c10::scalarTypeToTypeMeta(type.value_or(at::kFloat));
  std::size_t elements = 1;
  for (std::size_t axis = 0; axis < sizes.size() && elements != 0; ++axis) {
    elements = sizes[axis] == 0
                   ? 0
                   : elements + static_cast<std::size_t>((sizes[axis] - 1) * strides[axis]);
  }
  const std::size_t bytes = elements * dtype.itemsize();
  void* const memory = std::malloc(bytes != 0 ? bytes : 1);
  c10::Storage storage(c10::Storage::use_byte_size_t(), bytes,
                       at::DataPtr(memory, memory, &std::free, where), nullptr, false);
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), dtype);
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return tensor;
}

inline at::Tensor empty(at::IntArrayRef sizes, Type type, Layout layout, Device device,
                        Pinned pinned, Format) {
  std::vector<std::int64_t> strides(sizes.size());
  std::int64_t stride = 1;
  for (std::size_t axis = sizes.size(); axis-- > 0;
       stride *= std::max<std::int64_t>(sizes[axis], 1)) {
    strides[axis] = stride;
  }
  return empty_strided(sizes, strides, type, layout, device, pinned);
}

/// The same memory, as a tensor on the CPU.
inline at::Tensor on_host(const at::Tensor& tensor) {
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       at::TensorOptions(tensor.scalar_type()));
}

inline at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  ++copies;
  on_host(to).copy_(on_host(from));
  return to;
}

}  // namespace fake_device

C10_REGISTER_GUARD_IMPL(PrivateUse1, fake_device::Guard)

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &fake_device::empty);
  library.impl("empty_strided", &fake_device::empty_strided);
  library.impl("_copy_from", &fake_device::copy_from);
}
