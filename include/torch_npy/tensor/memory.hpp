#ifndef TORCH_NPY_TENSOR_MEMORY_HPP_
#define TORCH_NPY_TENSOR_MEMORY_HPP_

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
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

#include <torch_npy/error.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Refuses a tensor whose elements are not stored one by one in memory, for the function `call`.
inline void require_data(const at::Tensor& tensor, const char* call) {
  const bool is_dense = tensor.defined() && !tensor.is_nested() &&
                        tensor.layout() == c10::kStrided && !tensor.is_meta() &&
                        !tensor._is_zerotensor();
  if (is_dense && (tensor.numel() == 0 || tensor.storage().nbytes() != 0)) return;
  throw Error(ErrorCode::InvalidArgument,
              std::string(call) + (tensor.defined() ? " takes dense tensors that have data; "
                                                      "to_dense() makes one of a sparse one, and "
                                                      "save_sparse() saves it as it is"
                                                    : " of an undefined tensor"));
}

/// Whether no two elements share memory: every axis steps past all that the axes of smaller strides
/// span. A view whose axes interleave in another way counts as overlapping.
inline bool is_free_of_overlap(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return true;
  const at::IntArrayRef sizes = tensor.sizes();
  const at::IntArrayRef strides = tensor.strides();
  std::int64_t last = 0;  // offset of the last element along the axes so far
  for (auto left = std::count_if(sizes.begin(), sizes.end(), [](auto size) { return size > 1; });
       left != 0; --left) {
    std::size_t next = sizes.size();
    for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
      const bool steps_past = sizes[axis] > 1 && strides[axis] > last;
      if (steps_past && (next == sizes.size() || strides[axis] < strides[next])) next = axis;
    }
    if (next == sizes.size()) return false;
    last += strides[next] * (sizes[next] - 1);
  }
  return true;
}

/// Memory that tensors lie over, and its owner: the last of these tensors destroys it.
class TensorMemory {
 public:
  /// Tells what the byte at an offset was read from, for messages.
  using Origin = std::function<std::string(std::size_t)>;

  explicit TensorMemory(void* its_data) : data(its_data) {}
  TensorMemory(const TensorMemory&) = delete;
  TensorMemory& operator=(const TensorMemory&) = delete;
  virtual ~TensorMemory() = default;

  /// The memory under `tensor`, if it is of this kind.
  static TensorMemory* of(const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.has_storage()) return nullptr;
    const at::DataPtr& memory = tensor.storage().data_ptr();
    if (memory.get_deleter() != &destroy) return nullptr;
    return static_cast<TensorMemory*>(memory.get_context());
  }

  static void destroy(void* context) noexcept { delete static_cast<TensorMemory*>(context); }

  void* const data;
  Origin origin;
};

/// Memory that lives as long as `Owner` does.
template <class Owner>
class OwnedMemory final : public TensorMemory {
 public:
  OwnedMemory(Owner owner, void* its_data) : TensorMemory(its_data), owner_(std::move(owner)) {}

 private:
  Owner owner_;
};

/// Lets resize_() replace the memory if this LibTorch can do that for from_blob tensors: 1.13
/// cannot.
template <class Maker>
auto allow_resize(Maker& maker, int)
    -> decltype(maker.resizeable_storage().allocator(c10::GetCPUAllocator()), void()) {
  maker.resizeable_storage().allocator(c10::GetCPUAllocator());
}
template <class Maker>
void allow_resize(Maker&, long) {}

/// A tensor of at least one element over `memory`: every tensor over memory that LibTorch did not
/// allocate is made here.
inline at::Tensor tensor_over(std::unique_ptr<TensorMemory> memory, c10::ScalarType type,
                              at::IntArrayRef sizes, at::IntArrayRef strides) {
  auto maker = at::for_blob(memory->data, sizes);
  maker.strides(strides).options(type).target_device(at::kCPU);
  maker.context(memory.release(), &TensorMemory::destroy);
  allow_resize(maker, 0);
  return maker.make_tensor();
}

/// The same over `data`, which exists as long as `owner`: a mapping, a buffer, another storage.
template <class Owner>
at::Tensor tensor_over(Owner owner, void* data, c10::ScalarType type, at::IntArrayRef sizes,
                       at::IntArrayRef strides) {
  std::unique_ptr<TensorMemory> memory(new OwnedMemory<Owner>(std::move(owner), data));
  return tensor_over(std::move(memory), type, sizes, strides);
}

/// A tensor over part of another's memory, which it keeps alive and whose dtype it has. A view made
/// by LibTorch would also keep that tensor alive, for autograd, and take several times as long,
/// which shows in batches of small samples.
inline at::Tensor view_of(const at::Tensor& tensor, std::int64_t offset, at::IntArrayRef sizes,
                          at::IntArrayRef strides) {
  at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(tensor.storage()),
                                                             tensor.key_set(), tensor.dtype());
  view.unsafeGetTensorImpl()->set_storage_offset(offset);
  view.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return view;
}

/// Whether the memory is freed with the last tensor on it. Memory that a program gave to
/// from_blob() may be in use elsewhere, however few tensors there are on it.
inline bool owns_memory(const at::Tensor& tensor) {
  return TensorMemory::of(tensor) != nullptr ||
         (tensor.storage().resizable() && tensor.storage().allocator() != nullptr);
}

[[noreturn]] inline void throw_no_memory(std::size_t bytes) {
  throw Error(ErrorCode::OutOfMemory, "out of memory for a tensor of " + counted(bytes, "byte"));
}

/// A dense tensor on the host, to be filled. Throws Error (OutOfMemory). Large ones are allocated
/// like all others: malloc returns memory that has been in use, which is faster than fresh pages.
inline at::Tensor empty_host(std::size_t bytes, c10::ScalarType type, at::IntArrayRef sizes,
                             at::IntArrayRef strides, bool pinned) {
  at::Tensor tensor;
  try {
    // What at::empty_strided() calls, without the dispatcher.
    tensor = at::detail::empty_strided_cpu(sizes, strides, type, pinned);
  } catch (const c10::Error&) {
    throw_no_memory(bytes);
  }
  if (bytes >= kHugePagesFrom && !pinned) advise_huge_pages(tensor.data_ptr(), bytes);
  return tensor;
}

/// Host memory that is used again: what the pool lends is returned when the last tensor on it is
/// destroyed, by any thread. What is returned after the pool was destroyed is freed. Batches of
/// fresh memory would take longer to read.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  /// Keeps at most `limit` bytes that are not in use, those used last.
  explicit BufferPool(std::size_t limit) : limit_(limit) {}

  /// `bytes` bytes, of any content; not 0. Throws Error (OutOfMemory).
  std::unique_ptr<TensorMemory> take(std::size_t bytes) {
    Buffer buffer = kept_for(bytes);
    if (buffer.size == 0) buffer = fresh(bytes);
    return std::unique_ptr<TensorMemory>(new Loan(weak_from_this(), std::move(buffer)));
  }

 private:
  struct Buffer {
    at::DataPtr memory;
    std::size_t size = 0;
  };

  /// A buffer that is in use.
  class Loan final : public TensorMemory {
   public:
    Loan(std::weak_ptr<BufferPool> pool, Buffer buffer)
        : TensorMemory(buffer.memory.get()), pool_(std::move(pool)), buffer_(std::move(buffer)) {}

    ~Loan() override {
      const std::shared_ptr<BufferPool> pool = pool_.lock();
      if (pool == nullptr) return;
      try {
        pool->keep(std::move(buffer_));
      } catch (const std::exception&) {
        // There is no memory to record it; it is freed.
      }
    }

   private:
    std::weak_ptr<BufferPool> pool_;
    Buffer buffer_;
  };

  static Buffer fresh(std::size_t bytes) {
    try {
      Buffer buffer{c10::GetCPUAllocator()->allocate(bytes), bytes};
      if (bytes >= kHugePagesFrom) advise_huge_pages(buffer.memory.get(), bytes);
      return buffer;
    } catch (const c10::Error&) {
      throw_no_memory(bytes);
    }
  }

  /// Of the buffers that fit and are not far too large, the one used last: it may be in the cache.
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
    std::vector<Buffer> evicted;  // freed after the lock is released
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

  const std::size_t limit_;
  std::mutex mutex_;
  std::vector<Buffer> kept_;  // the one used last at the end
  std::size_t kept_bytes_ = 0;
};

/// A pool for the batches of a dataset. It keeps up to 256 MiB of memory that is not in use.
inline std::shared_ptr<BufferPool> make_pool() {
  return std::make_shared<BufferPool>(std::size_t{256} << 20);
}

/// What the first element of `tensor` was read from; empty if that is not known.
inline std::string origin_of(const at::Tensor& tensor) {
  const TensorMemory* const memory = TensorMemory::of(tensor);
  if (memory == nullptr || !memory->origin) return {};
  return memory->origin(static_cast<std::size_t>(tensor.storage_offset() *
                                                 static_cast<std::int64_t>(tensor.element_size())));
}

/// A dense tensor on the host, to be filled, over memory of the pool. Pinned memory is not taken
/// from the pool: LibTorch's own allocator reuses it, and knows which copies from it are not
/// finished.
inline at::Tensor empty_from(BufferPool& pool, std::size_t bytes, c10::ScalarType type,
                             at::IntArrayRef sizes, at::IntArrayRef strides, bool pinned) {
  if (pinned || bytes == 0) return empty_host(bytes, type, sizes, strides, pinned);
  return tensor_over(pool.take(bytes), type, sizes, strides);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_MEMORY_HPP_
