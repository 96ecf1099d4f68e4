#ifndef TORCH_NPY_IO_RECYCLED_BUFFERS_HPP_
#define TORCH_NPY_IO_RECYCLED_BUFFERS_HPP_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include <torch_npy/io/file.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Memory that is used again: the system gives fresh memory a page at a time, which takes as long
/// as filling it. Safe from any thread.
class RecycledBuffers : public std::enable_shared_from_this<RecycledBuffers> {
 public:
  /// Keeps at most `limit` bytes that nobody uses.
  explicit RecycledBuffers(std::uint64_t limit) : limit_(limit) {}

  /// As allocate_buffer(). The buffer may be up to twice as large.
  std::shared_ptr<char> take(std::size_t size) {
    Buffer buffer = find(size);
    if (buffer.memory == nullptr) buffer = {allocate_buffer(size), size};
    char* const begin = buffer.memory.get();
    return std::shared_ptr<char>(
        begin, [all = shared_from_this(), buffer = std::move(buffer)](char*) mutable noexcept {
          all->keep(std::move(buffer));
        });
  }

 private:
  struct Buffer {
    std::shared_ptr<char> memory;
    std::size_t size = 0;
  };

  Buffer find(std::size_t size) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (std::size_t i = kept_.size(); i-- > 0;) {  // those that were used last are in the cache
      if (kept_[i].size < size || kept_[i].size / 2 > size) continue;
      Buffer found = std::move(kept_[i]);
      kept_[i] = std::move(kept_.back());
      kept_.pop_back();
      bytes_ -= found.size;
      return found;
    }
    return {};
  }

  void keep(Buffer buffer) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (buffer.size > limit_ - bytes_) return;
    try {
      kept_.push_back(std::move(buffer));
      bytes_ += kept_.back().size;
    } catch (const std::bad_alloc&) {  // it is freed
    }
  }

  const std::uint64_t limit_;
  std::mutex mutex_;
  std::vector<Buffer> kept_;
  std::uint64_t bytes_ = 0;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_RECYCLED_BUFFERS_HPP_
