#ifndef TORCH_NPY_DATA_MAPPED_FILES_HPP_
#define TORCH_NPY_DATA_MAPPED_FILES_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Mappings that one array of files may have: a quarter of what Linux allows a process by default
/// (vm.max_map_count).
constexpr std::size_t kMaxMappings = 16384;

/// Parts of many files, of which at most `limit`, and those of the batches that are being read, are
/// mapped at a time. The others are mapped again when they are used. A mapping needs no open file.
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

  /// The bytes of part `i`, which was set. `path` is that of its file. Throws Error: NotFound, Io,
  /// Exhausted or OutOfMemory if it has to be mapped again; Io if the file has changed meanwhile.
  const char* data(std::size_t i, const std::filesystem::path& path) const {
    if (may_close()) parts_[i].used.store(++clock_, std::memory_order_relaxed);
    const char* const data = data_[i].load(std::memory_order_acquire);
    return data != nullptr ? data : map_again(i, path);
  }

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

  const char* map_again(std::size_t i, const std::filesystem::path& path) const {
    return with_path(path, [&] {
      const NamedFile file(path);
      if (file.version() != parts_[i].version) {
        throw Error(ErrorCode::Io, "it has changed since the dataset was made: make it again");
      }
      return keep(i, Mapping::of(file.internal_traits().range, parts_[i].offset, parts_[i].size));
    });
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
  mutable std::atomic<std::size_t> mapped_{0};
  mutable std::atomic<std::uint64_t> clock_{0};
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAPPED_FILES_HPP_
