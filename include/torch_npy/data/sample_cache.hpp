#ifndef TORCH_NPY_DATA_SAMPLE_CACHE_HPP_
#define TORCH_NPY_DATA_SAMPLE_CACHE_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/version.hpp>

// The bytes of samples, kept in memory.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// How the bytes of a sample are arranged, one tensor after another. Samples with the same layout
/// can be the rows of one batch.
struct SampleLayout {
  struct Part {
    std::string name;
    c10::ScalarType type;
    std::vector<std::int64_t> sizes;
    std::vector<std::int64_t> strides;
    std::size_t bytes;   // of the tensor
    std::size_t offset;  // of its first byte in the sample

    bool operator<(const Part& other) const {
      return std::tie(name, type, sizes, strides) <
             std::tie(other.name, other.type, other.sizes, other.strides);
    }
  };

  std::vector<Part> parts;
  std::size_t bytes = 0;

  bool operator<(const SampleLayout& other) const { return parts < other.parts; }

  void add(const std::string& name, const at::Tensor& tensor) {
    parts.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), tensor.strides().vec(),
                     tensor.nbytes(), bytes});
    bytes += tensor.nbytes();
  }
};

/// A sample in memory: its bytes in one run, or each of its tensors alone. Without a layout, it is
/// no plain bytes, and is not kept.
struct SampleBytes {
  const SampleLayout* layout = nullptr;
  const char* run = nullptr;
  std::vector<const char*> each;  // if there is no run

  const char* part(std::size_t k) const {
    return run != nullptr ? run + layout->parts[k].offset : each[k];
  }
};

/// Samples in memory, by number. The first ones to come stay; a sample that does not fit is not
/// kept. They are in large pieces of memory, because an allocation for each sample would cost time
/// and memory. Safe from any thread; finding takes no lock.
class SampleCache {
 public:
  /// For `samples` samples, of which it keeps at most `limit` bytes.
  SampleCache(std::size_t samples, std::size_t limit) : slots_(samples), left_(limit) {}

  /// The sample, without a layout if it is not there.
  SampleBytes find(std::size_t sample) const {
    const Slot& slot = slots_[sample];
    const char* const bytes = slot.bytes.load(std::memory_order_acquire);
    if (bytes == nullptr || bytes == &kBusy) return {};
    return {slot.layout, bytes, {}};
  }

  /// The one object for all equal layouts.
  const SampleLayout* shared(SampleLayout layout) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return &*layouts_.insert(std::move(layout)).first;
  }

  /// Keeps a copy of a sample that has a layout, if it fits and is not there.
  void keep(std::size_t sample, const SampleBytes& from) {
    const SampleLayout& layout = *from.layout;
    Slot& slot = slots_[sample];
    const char* none = nullptr;
    if (layout.bytes > left_.load(std::memory_order_relaxed) ||
        !slot.bytes.compare_exchange_strong(none, &kBusy, std::memory_order_acquire)) {
      return;
    }
    char* const room = allocate(layout.bytes);
    if (room != nullptr) {
      for (std::size_t k = 0; k < layout.parts.size(); ++k) {
        const SampleLayout::Part& part = layout.parts[k];
        if (part.bytes != 0) std::memcpy(room + part.offset, from.part(k), part.bytes);
      }
      slot.layout = &layout;
    }
    slot.bytes.store(room, std::memory_order_release);
  }

 private:
  struct Slot {
    std::atomic<const char*> bytes{nullptr};
    const SampleLayout* layout = nullptr;
  };

  static constexpr std::size_t kPiece = std::size_t{16} << 20;
  static constexpr char kBusy = 0;  // its address: a thread is copying the sample

  /// Null if it does not fit.
  char* allocate(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t left = left_.load(std::memory_order_relaxed);
    if (bytes > left) return nullptr;
    try {
      if (bytes > kPiece / 4) {
        char* const alone = add_piece(bytes);
        left_ = left - bytes;
        return alone;
      }
      if (bytes > room_ || next_ == nullptr) {
        const std::size_t size = (std::max)((std::min)(kPiece, left), std::size_t{1});
        next_ = add_piece(size);
        room_ = size;
      }
    } catch (const std::exception&) {
      left_ = 0;  // There is no memory for more samples.
      return nullptr;
    }
    left_ = left - bytes;
    room_ -= bytes;
    return std::exchange(next_, next_ + bytes);
  }

  char* add_piece(std::size_t bytes) {
    pieces_.push_back(empty_host(bytes, at::kByte, {static_cast<std::int64_t>(bytes)}, {1}, false));
    return static_cast<char*>(pieces_.back().data_ptr());
  }

  std::vector<Slot> slots_;
  std::mutex mutex_;
  std::set<SampleLayout> layouts_;
  std::vector<at::Tensor> pieces_;
  char* next_ = nullptr;  // the rest of the last piece
  std::size_t room_ = 0;
  std::atomic<std::size_t> left_;  // of the limit
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SAMPLE_CACHE_HPP_
