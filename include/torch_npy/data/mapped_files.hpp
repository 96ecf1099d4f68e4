#ifndef TORCH_NPY_DATA_MAPPED_FILES_HPP_
#define TORCH_NPY_DATA_MAPPED_FILES_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/file.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Mappings that one array of files may have: a quarter of what Linux allows a process by default
/// (vm.max_map_count).
constexpr std::size_t kMaxMappings = 16384;

/// Files, or parts of them, of which at most `limit`, and those of the batches that are being read,
/// are mapped at a time. The others are mapped again when they are used. A mapping needs no open
/// file.
class MappedFiles {
 public:
  MappedFiles(std::size_t count, std::size_t limit) : data_(count), parts_(count), limit_(limit) {}

  /// Sets part `i` to bytes [offset, offset + size) of an open file, and maps it if there is room.
  /// `size` is not 0. Each part is set once, by any thread.
  void set(std::size_t i, const FileRange& range, std::uint64_t offset, std::size_t size) {
    Part& part = parts_[i];
    part.offset = range.begin + offset;
    part.size = size;
    if (may_close()) part.version = version_of(*range.file);
    if (i < limit_) (void)keep(i, Mapping::of(range, offset, size));
  }

  /// While one of these exists, what data() returns is valid.
  class Use {
   public:
    explicit Use(const MappedFiles& files) {
      if (!files.may_close()) return;
      files.close_some();
      lock_ = std::shared_lock(files.mutex_);
    }

   private:
    std::shared_lock<std::shared_mutex> lock_;
  };

  /// The bytes of part `i`; of the whole file if the part was not set, null if that is empty.
  /// `open()` returns the file if it has to be mapped now. Throws Error, without a path: what
  /// open() throws; Io, Exhausted, OutOfMemory, TooLarge; Io if it has changed since it was mapped
  /// before.
  template <class Open>
  const char* data(std::size_t i, const Open& open) const {
    if (may_close()) parts_[i].used.store(++clock_, std::memory_order_relaxed);
    const char* const data = data_[i].load(std::memory_order_acquire);
    return data != nullptr ? data : map_now(i, open());
  }

  /// The size of part `i` after data(i).
  std::size_t size(std::size_t i) const { return parts_[i].size; }

  /// How many are mapped.
  std::size_t mapped() const { return mapped_; }

 private:
  struct Part {
    std::uint64_t offset = 0;
    std::size_t size = 0;
    std::string version;  // empty if it is never mapped again
    std::optional<Mapping> mapping;
    std::atomic<std::uint64_t> used{0};
  };

  bool may_close() const { return parts_.size() > limit_; }

  /// Another thread may have mapped it meanwhile.
  const char* keep(std::size_t i, Mapping mapping) const {
    const char* there = nullptr;
    const auto* const data = static_cast<const char*>(mapping.data());
    if (!data_[i].compare_exchange_strong(there, data)) return there;
    parts_[i].mapping.emplace(std::move(mapping));
    ++mapped_;
    return data;
  }

  const char* map_now(std::size_t i, const File& file) const {
    const FileRange range = file.internal_traits().range;
    const std::lock_guard lock(setting_);
    Part& part = parts_[i];
    if (part.size == 0) {
      const std::uint64_t size = file.size();
      if (size == 0) return nullptr;
      if (size > SIZE_MAX) throw Error(ErrorCode::TooLarge, "the file is too large to be mapped");
      part.size = static_cast<std::size_t>(size);
      if (may_close()) part.version = version_of(*range.file);
    } else if (may_close() && version_of(*range.file) != part.version) {
      throw Error(ErrorCode::Io, "it has changed since the dataset was made: make it again");
    }
    return keep(i, Mapping::of(range, part.offset, part.size));
  }

  /// If too many are mapped, closes those that were not used for the longest time, a sixteenth of
  /// all. Waits for the batches that are being read.
  void close_some() const {
    if (mapped_ <= limit_) return;
    const std::unique_lock lock(mutex_);
    if (mapped_ <= limit_) return;
    std::vector<std::pair<std::uint64_t, std::size_t>> open;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (parts_[i].mapping) open.emplace_back(parts_[i].used.load(), i);
    }
    const std::size_t count = open.size() - limit_ + limit_ / 16;
    const auto end = open.begin() + static_cast<std::ptrdiff_t>(count);
    std::nth_element(open.begin(), end, open.end());
    for (auto it = open.begin(); it != end; ++it) {
      data_[it->second] = nullptr;
      parts_[it->second].mapping.reset();
      --mapped_;
    }
  }

  // Apart from the rest: of many files, these stay in the processor's cache.
  mutable std::vector<std::atomic<const char*>> data_;  // null if it is not mapped
  mutable std::vector<Part> parts_;
  const std::size_t limit_;
  mutable std::shared_mutex mutex_;  // locked by those who close
  mutable std::mutex setting_;       // locked by those who map
  mutable std::atomic<std::size_t> mapped_{0};
  mutable std::atomic<std::uint64_t> clock_{0};
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAPPED_FILES_HPP_
