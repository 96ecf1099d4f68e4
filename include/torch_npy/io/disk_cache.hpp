#ifndef TORCH_NPY_IO_DISK_CACHE_HPP_
#define TORCH_NPY_IO_DISK_CACHE_HPP_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Objects of a store that are kept in a folder of this machine.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A file of the cache: the bytes of an object, and after them its key.
class CachedObject final : public ByteSource {
 public:
  CachedObject(File file, std::uint64_t size, std::string name)
      : file_(std::move(file)), size_(size), name_(std::move(name)) {}

  std::uint64_t size() const override { return size_; }
  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    return SourcePart(file_, 0, size_).read(out, size, offset);
  }
  std::string name() const override { return name_; }
  SourceTraits internal_traits() const override { return file_.internal_traits(); }

 private:
  File file_;
  std::uint64_t size_;
  std::string name_;
};

/// Keeps whole objects as files of one folder, which any number of processes use at the same time.
/// A file appears completely or not at all, and its name is a hash of the key of its object; the
/// key itself is at the end of the file, so that two objects cannot be taken for one another. If
/// the files take more than the limit, those that were not used for the longest time are removed;
/// who reads one of them reads on. Safe from any thread.
class DiskCache {
 public:
  /// Makes the folder. Throws Error: Io; InvalidArgument if `limit` is 0.
  DiskCache(const std::filesystem::path& folder, std::uint64_t limit)
      : folder_(absolute_path(folder)), limit_(limit) {
    with_path(folder, [&] {
      require_path(folder);
      if (limit == 0) {
        throw Error(ErrorCode::InvalidArgument,
                    "cached_on_disk(folder, 0) keeps nothing: expected a number of bytes such as "
                    "std::uint64_t{100} << 30");
      }
      std::error_code error;
      std::filesystem::create_directories(folder_, error);
      if (error) throw_system_error("cannot create the folder", error.value());
      const std::lock_guard<std::mutex> lock(mutex_);
      remove_oldest();
    });
  }

  /// The object with this key, of `size` bytes, if it is there. `name` is for messages.
  std::shared_ptr<const ByteSource> find(const std::string& key, std::uint64_t size,
                                         const std::string& name) const {
    const std::filesystem::path path = path_of_key(key);
    try {
      File file(path);
      std::string end(key.size() + 1, '\0');
      if (file.read_available(end.data(), end.size(), size) != key.size() ||
          end.compare(0, key.size(), key) != 0) {
        return nullptr;
      }
      mark_used(path);
      return std::make_shared<const CachedObject>(std::move(file), size, name);
    } catch (const Error&) {  // it is not there, or is just being removed
      return nullptr;
    }
  }

  /// Whether an object of this size is to be kept.
  bool has_room_for(std::uint64_t size) const { return size <= limit_; }

  /// Keeps an object, whose bytes `write(put)` writes by calls of `put(data, size)`; what that
  /// throws is passed on. False if the file cannot be made, and then nothing is called, or if it
  /// cannot be written, because the disk is full for instance; then put() returns false, too.
  template <class Write>
  bool keep(const std::string& key, std::uint64_t size, const Write& write) const {
    std::optional<AtomicFile> file;
    const auto attempt = [&](const auto& work) {
      try {
        work();
        return true;
      } catch (const Error&) {
        return false;
      }
    };
    if (!attempt([&] { file.emplace(path_of_key(key), /*sync=*/false); })) return false;
    bool is_good = true;
    const auto put = [&](const void* data, std::size_t bytes) {
      is_good = is_good && attempt([&] { file->write(data, bytes); });
      return is_good;
    };
    write(put);
    put(key.data(), key.size());
    is_good = is_good && attempt([&] { file->commit(); });
    if (is_good) count(size + key.size());
    return is_good;
  }

  /// Whether objects of so many bytes fit together.
  bool fits(std::uint64_t bytes) const { return bytes <= limit_; }

 private:
  using Clock = std::filesystem::file_time_type::clock;

  static constexpr std::string_view kEnding = ".object";

  std::filesystem::path path_of_key(const std::string& key) const {
    char name[40];
    std::snprintf(name, sizeof name, "%016llx%016llx",
                  static_cast<unsigned long long>(hash_of(key)),
                  static_cast<unsigned long long>(hash_of(key + '\n')));
    return folder_ / (name + std::string(kEnding));
  }

  /// Its time of modification is when it was last used, to within a minute: changing it takes
  /// longer than reading a small file.
  static void mark_used(const std::filesystem::path& path) {
    std::error_code error;
    const auto now = Clock::now();
    const auto used = std::filesystem::last_write_time(path, error);
    if (error || now - used < std::chrono::minutes(1)) return;
    std::filesystem::last_write_time(path, now, error);
  }

  static bool remove(const std::filesystem::path& path) {
    std::error_code error;
    return std::filesystem::remove(path, error);
  }

  /// Other processes add files, too, so that the folder is listed each time a part of the limit was
  /// added.
  void count(std::uint64_t size) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    added_ += size;
    if (added_ < limit_ - (std::min)(limit_, used_) && added_ < limit_ / 32) return;
    remove_oldest();
  }

  /// Down to nine tenths of the limit, if the files take more than the limit; and what killed
  /// processes left.
  void remove_oldest() const {
    constexpr auto kAbandoned = std::chrono::hours(1);  // who still writes it gives it up
    std::vector<std::tuple<Clock::time_point, std::uint64_t, std::filesystem::path>> files;
    std::error_code error;
    used_ = added_ = 0;
    const auto now = Clock::now();
    for (std::filesystem::directory_iterator it(folder_, error), end; !error && it != end;
         it.increment(error)) {
      std::error_code gone;
      const std::string name = it->path().filename().string();
      const auto time = it->last_write_time(gone);
      const std::uint64_t size = gone ? 0 : it->file_size(gone);
      if (gone) continue;
      const bool is_temporary = starts_with(name, ".torch_npy-") && has_ending(name, ".tmp");
      if (has_ending(name, kEnding)) {
        files.emplace_back(time, size, it->path());
      } else if (!is_temporary || (now - time > kAbandoned && remove(it->path()))) {
        continue;
      }
      used_ += size;
    }
    if (used_ <= limit_) return;
    std::sort(files.begin(), files.end());
    for (const auto& [time, size, path] : files) {
      if (used_ <= limit_ - limit_ / 10) break;
      if (remove(path)) used_ -= size;
    }
  }

  const std::filesystem::path folder_;
  const std::uint64_t limit_;
  mutable std::mutex mutex_;
  mutable std::uint64_t used_ = 0;   // when the folder was last listed
  mutable std::uint64_t added_ = 0;  // since then
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_DISK_CACHE_HPP_
