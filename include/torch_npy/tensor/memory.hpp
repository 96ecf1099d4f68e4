#ifndef TORCH_NPY_TENSOR_MEMORY_HPP_
#define TORCH_NPY_TENSOR_MEMORY_HPP_

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/Storage.h>
#include <c10/core/TensorImpl.h>
#include <c10/core/TensorOptions.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/io/file.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Refuses a tensor whose elements do not lie in memory one by one; `call` names who needs them.
inline void require_data(const at::Tensor& tensor, const char* call) {
  const bool is_dense = tensor.defined() && !tensor.is_nested() &&
                        tensor.layout() == c10::kStrided && !tensor.is_meta() &&
                        !tensor._is_zerotensor();
  if (is_dense && (tensor.numel() == 0 || tensor.storage().nbytes() != 0)) return;
  throw Error(ErrorCode::InvalidArgument,
              std::string(call) + (tensor.defined() ? " takes dense tensors that have data; "
                                                      "to_dense() makes one of a sparse one"
                                                    : " of an undefined tensor"));
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

/// A tensor over `bytes` bytes of memory, which goes when the last tensor on it goes. The storage
/// is an ordinary one: resize_() may replace it, which it refuses on a from_blob tensor.
inline at::Tensor tensor_over(at::DataPtr memory, std::size_t bytes, c10::ScalarType type,
                              at::IntArrayRef sizes, at::IntArrayRef strides) {
  c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, std::move(memory),
                       c10::GetCPUAllocator(), /*resizable=*/true);
  return at::empty({0}, type).set_(std::move(storage), 0, sizes, strides);
}

/// A tensor over the memory at `data`, which lives as long as `owner` does.
template <class Owner>
at::Tensor tensor_over(Owner owner, void* data, std::size_t bytes, c10::ScalarType type,
                       at::IntArrayRef sizes, at::IntArrayRef strides) {
  at::DataPtr memory(
      data, std::make_unique<Owner>(std::move(owner)).release(),
      [](void* context) { delete static_cast<Owner*>(context); }, at::kCPU);
  return tensor_over(std::move(memory), bytes, type, sizes, strides);
}

/// A tensor over a mapped file.
inline at::Tensor tensor_over(Mapping mapping, std::size_t bytes, c10::ScalarType type,
                              at::IntArrayRef sizes, at::IntArrayRef strides) {
  void* const data = mapping.data();
  return tensor_over(std::move(mapping), data, bytes, type, sizes, strides);
}

/// A tensor over part of another's memory, which it keeps alive and whose dtype it has. As a view
/// made by LibTorch it would keep that tensor alive too, for autograd, and take 250 to 360 ns to
/// make instead of 85, which shows in batches of small samples.
inline at::Tensor view_of(const at::Tensor& tensor, std::int64_t offset, at::IntArrayRef sizes,
                          at::IntArrayRef strides) {
  at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(tensor.storage()),
                                                             tensor.key_set(), tensor.dtype());
  view.unsafeGetTensorImpl()->set_storage_offset(offset);
  view.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return view;
}

/// True for memory that goes with the tensor. What from_blob() makes a tensor over is somebody
/// else's, however few tensors there are on it.
inline bool owns_memory(const at::Tensor& tensor) {
  return tensor.storage().resizable() && tensor.storage().allocator() != nullptr;
}

[[noreturn]] inline void throw_no_memory(std::size_t bytes) {
  throw Error(ErrorCode::OutOfMemory, "out of memory for a tensor of " + counted(bytes, "byte"));
}

/// Fresh memory costs a page fault every 4 KiB, several times what copying into it costs: from here
/// on huge pages are asked for, as NumPy does.
constexpr std::size_t kLarge = std::size_t{4} << 20;

/// A dense tensor on the host, to be filled. Throws Error (TooLarge) if there is no memory for
/// it.
///
/// Mapping large tensors on their own, aligned to huge pages, was no faster (100 MiB, two threads:
/// 20 to 24 ms this way, 20 to 21 ms that way), and took 1.5 to 3 times as long from 4 to 30 MiB,
/// where malloc hands memory back that has been in use.
inline at::Tensor empty_host(std::size_t bytes, c10::ScalarType type, at::IntArrayRef sizes,
                             at::IntArrayRef strides, bool pinned) {
  at::Tensor tensor;
  try {
    // What at::empty_strided() comes to, without the 60 ns of the way there.
    tensor = at::detail::empty_strided_cpu(sizes, strides, type, pinned);
  } catch (const c10::Error&) {
    throw_no_memory(bytes);
  }
  if (bytes >= kLarge && !pinned) advise_huge_pages(tensor.data_ptr(), bytes);
  return tensor;
}

/// Host memory that is used again: what it lends comes back when the last tensor on it goes, from
/// any thread. What comes back after the pool has gone is freed. With fresh memory for each,
/// batches of 4.7 MB took from 5 to 50 % longer to read, in three runs.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  /// Tells what the byte at an offset of a buffer was read from, for messages.
  using Origin = std::function<std::string(std::size_t)>;

  /// Keeps at most `limit` bytes that nobody uses; gives back the ones longest unused.
  explicit BufferPool(std::size_t limit) : limit_(limit) {}

  /// `bytes` bytes, of any content; not 0. Throws Error (TooLarge).
  at::DataPtr take(std::size_t bytes) {
    auto loan = std::make_unique<Loan>();
    loan->pool = weak_from_this();
    loan->buffer = kept_for(bytes);
    if (loan->buffer.size == 0) loan->buffer = fresh(bytes);
    void* const data = loan->buffer.memory.get();
    return {data, loan.release(), &take_back, at::kCPU};
  }

  /// Says where the bytes behind `tensor`, which take() gave, come from.
  static void set_origin(const at::Tensor& tensor, Origin origin) {
    if (Loan* const loan = loan_of(tensor)) loan->origin = std::move(origin);
  }

  /// Where the first element of `tensor` was read from; empty where that is not known.
  static std::string origin_of(const at::Tensor& tensor) {
    const Loan* const loan = loan_of(tensor);
    if (loan == nullptr || !loan->origin) return {};
    return loan->origin(static_cast<std::size_t>(tensor.storage_offset() *
                                                 static_cast<std::int64_t>(tensor.element_size())));
  }

 private:
  struct Buffer {
    at::DataPtr memory;
    std::size_t size = 0;
  };

  struct Loan {
    std::weak_ptr<BufferPool> pool;
    Buffer buffer;
    Origin origin;
  };

  static Buffer fresh(std::size_t bytes) {
    try {
      Buffer buffer{c10::GetCPUAllocator()->allocate(bytes), bytes};
      if (bytes >= kLarge) advise_huge_pages(buffer.memory.get(), bytes);
      return buffer;
    } catch (const c10::Error&) {
      throw_no_memory(bytes);
    }
  }

  /// The one used last of those that fit and are not far too large: it may still be in the cache.
  Buffer kept_for(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(kept_.rbegin(), kept_.rend(), [&](const Buffer& buffer) {
      return buffer.size >= bytes && buffer.size / 4 <= bytes;
    });
    if (found == kept_.rend()) return {};
    Buffer buffer = std::move(*found);
    kept_.erase(std::next(found).base());
    kept_bytes_ -= buffer.size;
    return buffer;
  }

  void keep(Buffer buffer) {
    std::vector<Buffer> evicted;  // let go after the lock
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t size = buffer.size;
    kept_.push_back(std::move(buffer));
    kept_bytes_ += size;
    while (kept_bytes_ > limit_) {
      evicted.push_back(std::move(kept_.front()));
      kept_.erase(kept_.begin());
      kept_bytes_ -= evicted.back().size;
    }
  }

  static void take_back(void* context) {
    const std::unique_ptr<Loan> loan(static_cast<Loan*>(context));
    const std::shared_ptr<BufferPool> pool = loan->pool.lock();
    if (pool == nullptr) return;
    try {
      pool->keep(std::move(loan->buffer));
    } catch (const std::exception&) {
      // No memory to remember it by: it is freed.
    }
  }

  static Loan* loan_of(const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.has_storage()) return nullptr;
    const at::DataPtr& memory = tensor.storage().data_ptr();
    return memory.get_deleter() == &take_back ? static_cast<Loan*>(memory.get_context()) : nullptr;
  }

  const std::size_t limit_;
  std::mutex mutex_;
  std::vector<Buffer> kept_;  // the one used last at the end
  std::size_t kept_bytes_ = 0;
};

/// A dense tensor on the host, to be filled, over memory of the pool. Pinned memory is not the
/// pool's: LibTorch's own allocator uses it again, and knows which copies from it are still under
/// way.
inline at::Tensor empty_from(BufferPool& pool, std::size_t bytes, c10::ScalarType type,
                             at::IntArrayRef sizes, at::IntArrayRef strides, bool pinned) {
  if (pinned || bytes == 0) return empty_host(bytes, type, sizes, strides, pinned);
  return tensor_over(pool.take(bytes), bytes, type, sizes, strides);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_MEMORY_HPP_
