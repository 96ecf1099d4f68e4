#ifndef TORCH_NPY_IO_FILE_WRITER_HPP_
#define TORCH_NPY_IO_FILE_WRITER_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_sink.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/version.hpp>

// Writes files, in place or atomically. As in file.hpp, an Error has no path yet.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The path made absolute, so that it does not depend on the current directory; unchanged on
/// failure, and if it is empty.
inline std::filesystem::path absolute_path(const std::filesystem::path& path) {
  if (path.empty()) return path;
  std::error_code error;
  auto absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute;
}

/// Writes all `size` bytes by calls of `put(data, size, done)`. Each writes some bytes, after the
/// `done` bytes written before, and returns their number. `offset` is the position in the file, for
/// errors.
template <class Put>
void write_all(const void* data, std::size_t size, std::uint64_t offset, const Put& put) {
  const char* const begin = static_cast<const char*>(data);
  for (std::size_t done = 0; done != size;) {
    const std::ptrdiff_t more = put(begin + done, (std::min)(size - done, kMaxCallSize), done);
    if (more == -1) {
      throw_system_error("cannot write at byte " + std::to_string(offset + done), last_error(),
                         offset + done);
    }
    done += static_cast<std::size_t>(more);
  }
}

/// An existing regular file, open for reading and for writing in place, and locked: opening a
/// second LockedFile on it, in this process or another, throws Error (Io). When it was locked, the
/// path named it. The lock stops only other LockedFiles, and does nothing if the file system has no
/// locks.
class LockedFile : public File {
 public:
  /// `owner` is what locks it, for the message if another one has done so.
  explicit LockedFile(const std::filesystem::path& path, const char* owner = "Appender")
      : File(open_locked(path, owner)) {}

  void write(const void* data, std::size_t size, std::uint64_t offset) {
    write_all(data, size, offset, [&](const char* at, std::size_t length, std::size_t done) {
      return write_at(file_, at, length, offset + done);
    });
  }

  bool is_at(const std::filesystem::path& path) const { return detail::is_at(file_, path); }

  void truncate(std::uint64_t size) {
    if (!detail::truncate(file_, size)) {
      throw_system_error("cannot truncate at byte " + std::to_string(size), last_error(), size);
    }
  }

  /// Waits until all writes are on the disk. The system reports a failed write once and may drop
  /// the data, so after one failure every call fails.
  void sync() {
    if (sync_error_ == 0 && !flush_data(file_)) sync_error_ = last_error();
    if (sync_error_ != 0) throw_system_error("cannot flush to the disk", sync_error_);
  }

  /// Unlocks first: a child process may hold the file open for longer.
  void close() {
    unlock(file_);
    if (!detail::close(file_)) throw_system_error("cannot close", last_error());
  }

 private:
  static Descriptor open_locked(const std::filesystem::path& path, const char* owner) {
    constexpr int kTries = 100;
    require_path(path);
    for (int i = 0; i < kTries; ++i) {
      Descriptor file = open_to_change(path);
      require_regular(file, "; only a regular file can be changed in place");
      if (!lock(file)) {
        throw Error(ErrorCode::Io, std::string("locked: another ") + owner +
                                       " has the file open; try again when it is done");
      }
      // Its last owner may have replaced the file between the two calls.
      if (detail::is_at(file, path)) return file;
    }
    throw Error(ErrorCode::Io, "the file is replaced all the time by other programs");
  }

  int sync_error_ = 0;
};

/// Writes a file that appears under its name completely or not at all. It writes a temporary file
/// in the same folder; commit() flushes that and renames it. The destructor removes the temporary
/// file if commit() was not called. A killed process leaves the temporary file
/// (".torch_npy-*.tmp") behind, and the old file unchanged.
///
/// Follows symbolic links as open() does: the file that the link names is replaced.
class AtomicFile final : public ByteSink {
 public:
  /// With `sync` the file survives a power failure after commit(). Without, the system writes it
  /// to the disk later.
  AtomicFile(const std::filesystem::path& path, bool sync) : sync_(sync) {
    require_path(path);
    const WriteTarget target(path);
    target_ = absolute_path(target.path());
    static std::atomic<unsigned> count{0};
    int error = 0;
    do {
      temporary_ = sibling_of(target_, ".torch_npy-" + std::to_string(process_id()) + "-" +
                                           std::to_string(count++) + ".tmp");
      file_ = target.create(temporary_);
      error = last_error();
    } while (!file_.is_open() && is_taken(error));
    if (!file_.is_open()) {
      temporary_.clear();
      throw_system_error("cannot create a file in this folder", error);
    }
    target.copy_permissions(file_);
  }

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  ~AtomicFile() {
    if (!temporary_.empty()) remove_file(temporary_);
  }

  /// Large data is written in chunks, and each chunk starts going to the disk while the next one
  /// is written: faster than one flush at the end. tests/bench/NOTES.md has the measurement.
  void write(const void* data, std::size_t size) override {
    constexpr std::size_t kChunk = std::size_t{16} << 20;
    const bool flushes = sync_ && size > kChunk;
    if (flushes) expect_size(file_, written_ + size);
    const char* at = static_cast<const char*>(data);
    while (size != 0) {
      const std::size_t chunk = flushes ? (std::min)(size, kChunk) : size;
      write_all(at, chunk, written_, [&](const char* from, std::size_t length, std::size_t) {
        return write_next(file_, from, length);
      });
      if (flushes) begin_to_flush(file_, written_, chunk);
      written_ += chunk;
      at += chunk;
      size -= chunk;
    }
  }

  /// Renames the file to its final name; replaces an existing file.
  void commit() {
    finish();
    rename();
    if (sync_) flush_rename_to(target_);
  }

  /// The same without replacing: if the name exists, changes nothing and returns false. A file
  /// system without hard links cannot check this, and the file is replaced.
  bool commit_new() {
    finish();
    if (!rename_to_new(temporary_, target_)) {
      if (is_taken(last_error())) return false;
      rename();
    }
    if (sync_) flush_rename_to(target_);
    return true;
  }

 private:
  /// A file in the same folder. Does not use replace_filename(), which crashes when out of memory
  /// (libstdc++ 12). `name` is ASCII.
  static std::filesystem::path sibling_of(const std::filesystem::path& path,
                                          const std::string& name) {
    const auto& native = path.native();
    auto sibling = native.substr(0, native.find_last_of(kSeparators) + 1);
    sibling.append(name.begin(), name.end());
    return sibling;
  }

  void finish() {
    if (sync_ && !flush(file_)) {
      throw_system_error("cannot flush to the disk", last_error(), written_);
    }
    if (!close(file_)) throw_system_error("cannot close", last_error(), written_);
  }

  void rename() {
    if (!rename_file(temporary_, target_)) throw_system_error("cannot rename", last_error());
    temporary_.clear();
  }

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  Descriptor file_;
  std::uint64_t written_ = 0;
  const bool sync_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FILE_WRITER_HPP_
