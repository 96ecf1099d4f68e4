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
#include <torch_npy/io/file.hpp>

// Files that are written: in place, and whole or not at all.
// As in file.hpp, an Error has no path yet.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The same place wherever the process goes; what is no path stays as it is.
inline std::filesystem::path absolute_path(const std::filesystem::path& path) {
  std::error_code error;
  auto place = std::filesystem::absolute(path, error);
  return error ? path : place;
}

/// Writes all of `size` bytes by `put(data, size, done)`, a call that writes some of them, `done`
/// bytes after the first. `offset` is where they go, for the Error.
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

/// A regular file that is there already, open for reading and for writing in place, and locked: a
/// second object on it, of this process or another, is an Error. The lock holds back nobody else,
/// and is left out where the file system has none.
class LockedFile : public File {
 public:
  explicit LockedFile(const std::filesystem::path& path)
      : File(open_to_change((require_path(path), path))) {
    require_regular(file_, ", and no other can grow");
    if (!lock(file_)) throw Error(ErrorCode::Io, "locked: another Appender has the file open");
  }

  void write(const void* data, std::size_t size, std::uint64_t offset) {
    write_all(data, size, offset, [&](const char* at, std::size_t length, std::size_t done) {
      return write_at(file_, at, length, offset + done);
    });
  }

  /// Whether it still is what `path` names.
  bool is_at(const std::filesystem::path& path) const { return detail::is_at(file_, path); }

  void truncate(std::uint64_t size) {
    if (!detail::truncate(file_, size)) {
      throw_system_error("cannot cut off at byte " + std::to_string(size), last_error(), size);
    }
  }

  /// Waits until what was written is on the disk. The system tells a failure once, and may have
  /// dropped what it could not write: from then on every call fails.
  void sync() {
    if (sync_error_ == 0 && !flush_data(file_)) sync_error_ = last_error();
    if (sync_error_ != 0) throw_system_error("cannot flush to the disk", sync_error_);
  }

  /// The lock is given up by itself: a process that was forked meanwhile may have the file open for
  /// longer.
  void close() {
    unlock(file_);
    if (!detail::close(file_)) throw_system_error("cannot close", last_error());
  }

 private:
  int sync_error_ = 0;
};

/// Writes a file that appears under its name whole or not at all: into a temporary one beside it,
/// which commit() flushes to the disk and renames. An object that goes without commit() removes the
/// temporary file; a process that is killed leaves it (".torch_npy-*.tmp"), and the old file as it
/// was.
///
/// A symbolic link is followed, as open() would: the file it names is replaced.
class AtomicFile {
 public:
  /// With `sync` it survives a power cut from commit() on; without, the system writes it when it
  /// likes.
  AtomicFile(const std::filesystem::path& path, bool sync) : sync_(sync) {
    require_path(path);
    const WritePlace place(path);
    target_ = absolute_path(place.path());
    static std::atomic<unsigned> count{0};
    int error = 0;
    do {
      temporary_ = beside(target_, ".torch_npy-" + std::to_string(process_id()) + "-" +
                                       std::to_string(count++) + ".tmp");
      file_ = place.create(temporary_);
      error = last_error();
    } while (!file_.is_open() && is_taken(error));
    if (!file_.is_open()) {
      temporary_.clear();
      throw_system_error("cannot create a file in this folder", error);
    }
    place.hand_on_permissions(file_);
  }

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  ~AtomicFile() {
    if (!temporary_.empty()) remove_file(temporary_);
  }

  /// What is large goes to the disk while the rest is written: 1 GiB, flushed, took 262 ms, and 441
  /// ms where commit() flushed it all; without expect_size() 302, in pieces of 64 MiB 320.
  void write(const void* data, std::size_t size) {
    constexpr std::size_t kPiece = std::size_t{16} << 20;
    const bool flushes = sync_ && size > kPiece;
    if (flushes) expect_size(file_, written_ + size);
    const char* at = static_cast<const char*>(data);
    while (size != 0) {
      const std::size_t piece = flushes ? (std::min)(size, kPiece) : size;
      write_all(at, piece, written_, [&](const char* from, std::size_t length, std::size_t) {
        return write_next(file_, from, length);
      });
      if (flushes) begin_to_flush(file_, written_, piece);
      written_ += piece;
      at += piece;
      size -= piece;
    }
  }

  /// Puts the file in its place.
  void commit() {
    finish();
    rename();
    if (sync_) flush_rename_to(target_);
  }

  /// The same for a new file: false, and nothing has changed, where there is one of that name by
  /// now. A file system without hard links cannot tell, and the file is replaced.
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
  /// Not by replace_filename(): libstdc++ 12's crashes where there is no memory. `name` is ASCII.
  static std::filesystem::path beside(const std::filesystem::path& path, const std::string& name) {
    const auto& native = path.native();
    auto place = native.substr(0, native.find_last_of(kSeparators) + 1);
    place.append(name.begin(), name.end());
    return place;
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
