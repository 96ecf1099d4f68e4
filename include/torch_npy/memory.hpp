#ifndef TORCH_NPY_MEMORY_HPP_
#define TORCH_NPY_MEMORY_HPP_

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/Storage.h>
#include <c10/core/TensorOptions.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/file.hpp>

namespace torch_npy::detail {

/// Refuses a tensor whose elements do not lie in memory one by one; `call` names who needs them.
inline void require_data(const at::Tensor& tensor, const char* call) {
  const bool is_dense = tensor.defined() && !tensor.is_nested() &&
                        tensor.layout() == c10::kStrided && !tensor.is_meta() &&
                        !tensor._is_zerotensor();
  if (is_dense && (tensor.numel() == 0 || tensor.storage().nbytes() != 0)) return;
  throw Error(ErrorCode::InvalidArgument,
              std::string(call) + " takes dense tensors that have data");
}

/// True when no two elements share memory: every axis steps past all that the axes of smaller
/// strides span. A view whose axes interleave in another way counts as overlapping.
inline bool is_free_of_overlap(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return true;
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;  // stride and length
  for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
    if (tensor.size(axis) > 1) axes.emplace_back(tensor.stride(axis), tensor.size(axis));
  }
  std::sort(axes.begin(), axes.end());
  std::int64_t last = 0;
  for (const auto& [stride, length] : axes) {
    if (stride <= last) return false;
    last += stride * (length - 1);
  }
  return true;
}

/// A tensor over `bytes` bytes of a mapped file, which goes when the last tensor on it goes. The
/// storage is an ordinary one: resize_() may replace it, which it refuses on a from_blob tensor.
inline at::Tensor tensor_over(Mapping mapping, std::size_t bytes, c10::ScalarType type,
                              at::IntArrayRef sizes, at::IntArrayRef strides) {
  auto owner = std::make_unique<Mapping>(std::move(mapping));
  void* const data = owner->data();
  at::DataPtr memory(
      data, owner.release(), [](void* context) { delete static_cast<Mapping*>(context); },
      at::kCPU);
  c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, std::move(memory),
                       c10::GetCPUAllocator(), /*resizable=*/true);
  return at::empty({0}, type).set_(std::move(storage), 0, sizes, strides);
}

/// A dense tensor on the host, to be filled. Throws Error (TooLarge) where there is no memory for
/// it.
///
/// Fresh memory costs a page fault every 4 KiB, several times what copying into it costs: from 4
/// MiB on huge pages are asked for, as NumPy does. Mapping large tensors on their own, aligned to
/// huge pages, was no faster (100 MiB, two threads: 20 to 24 ms this way, 20 to 21 ms that way),
/// and took 1.5 to 3 times as long from 4 to 30 MiB, where malloc hands memory back that has been
/// in use.
inline at::Tensor empty_host(std::size_t bytes, c10::ScalarType type, at::IntArrayRef sizes,
                             at::IntArrayRef strides, bool pinned) {
  constexpr std::size_t kLarge = std::size_t{4} << 20;
  at::Tensor tensor;
  try {
    tensor = at::empty_strided(sizes, strides, at::TensorOptions(type).pinned_memory(pinned));
  } catch (const c10::Error&) {
    throw Error(ErrorCode::TooLarge, "no memory for a tensor of " + counted(bytes, "byte"));
  }
  if (bytes >= kLarge && !pinned) advise_huge_pages(tensor.data_ptr(), bytes);
  return tensor;
}

}  // namespace torch_npy::detail

#endif  // TORCH_NPY_MEMORY_HPP_
