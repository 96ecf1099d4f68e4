#ifndef TORCH_NPY_DATA_MAPPED_FILES_HPP_
#define TORCH_NPY_DATA_MAPPED_FILES_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
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

/// Parts of many files, of which at most `limit`, and those of the batches that are being read, are
/// mapped at a time. The others are mapped again when they are used. A mapping needs no open file.
class MappedFiles {
 public:
  MappedFiles(std::size_t count, std::size_t limit) : slots_(count), limit_(limit) {}
  MappedFiles(const MappedFiles&) = delete;
  MappedFiles& operator=(const MappedFiles&) = delete;
  ~MappedFiles() {
    for (const Slot& slot : slots_) delete slot.mapping.load();
  }

  /// Sets part `i` to bytes [offset, offset + size) of an open file, and maps it if there is room.
  /// `size` is not 0. Each part is set once, by any thread.
  void set(std::size_t i, const FileRange& range, std::uint64_t offset, std::size_t size) {
    Slot& slot = slots_[i];
    slot.offset = range.begin + offset;
    slot.size = size;
    if (may_close()) slot.version = version_of(*range.file);
    if (i < limit_) (void)keep(slot, Mapping::of(range, offset, size));
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

  /// The bytes of part `i`, which was set. `path` is that of its file. Throws Error: NotFound, Io,
  /// Exhausted or OutOfMemory if it has to be mapped again; Io if the file has changed meanwhile.
  const char* data(std::size_t i, const std::filesystem::path& path) const {
    Slot& slot = slots_[i];
    if (may_close()) slot.used.store(++clock_, std::memory_order_relaxed);
    const Mapping* mapping = slot.mapping.load(std::memory_order_acquire);
    if (mapping == nullptr) mapping = map_again(slot, path);
    return static_cast<const char*>(mapping->data());
  }

  /// How many are mapped.
  std::size_t mapped() const { return mapped_; }

 private:
  struct Slot {
    std::uint64_t offset = 0;
    std::size_t size = 0;
    std::string version;  // of the file; empty if it is never mapped again
    std::atomic<const Mapping*> mapping{nullptr};
    std::atomic<std::uint64_t> used{0};
  };

  bool may_close() const { return slots_.size() > limit_; }

  const Mapping* keep(Slot& slot, Mapping mapping) const {
    auto fresh = std::make_unique<const Mapping>(std::move(mapping));
    const Mapping* there = nullptr;
    if (!slot.mapping.compare_exchange_strong(there, fresh.get())) return there;
    ++mapped_;
    return fresh.release();
  }

  const Mapping* map_again(Slot& slot, const std::filesystem::path& path) const {
    return with_path(path, [&] {
      const NamedFile file(path);
      if (file.version() != slot.version) {
        throw Error(ErrorCode::Io, "it has changed since the dataset was made: make it again");
      }
      return keep(slot, Mapping::of(file.internal_traits().range, slot.offset, slot.size));
    });
  }

  /// If too many are mapped, closes those that were not used for the longest time, a sixteenth of
  /// all. Waits for the batches that are being read.
  void close_some() const {
    if (mapped_ <= limit_) return;
    const std::unique_lock lock(mutex_);
    if (mapped_ <= limit_) return;
    std::vector<std::pair<std::uint64_t, Slot*>> open;
    for (Slot& slot : slots_) {
      if (slot.mapping.load() != nullptr) open.emplace_back(slot.used.load(), &slot);
    }
    const std::size_t count = open.size() - limit_ + limit_ / 16;
    const auto end = open.begin() + static_cast<std::ptrdiff_t>(count);
    std::nth_element(open.begin(), end, open.end());
    for (auto it = open.begin(); it != end; ++it) {
      delete it->second->mapping.exchange(nullptr);
      --mapped_;
    }
  }

  mutable std::vector<Slot> slots_;
  const std::size_t limit_;
  mutable std::shared_mutex mutex_;  // locked by those who close
  mutable std::atomic<std::size_t> mapped_{0};
  mutable std::atomic<std::uint64_t> clock_{0};
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAPPED_FILES_HPP_
