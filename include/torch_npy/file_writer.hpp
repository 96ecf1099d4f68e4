#ifndef TORCH_NPY_FILE_WRITER_HPP_
#define TORCH_NPY_FILE_WRITER_HPP_

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#ifdef __linux__
#include <sys/xattr.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>

#include <torch_npy/error.hpp>
#include <torch_npy/file.hpp>

// What the library asks of the operating system to write files: in place, and whole or not at all.
// As in file.hpp, an Error has no path yet.

namespace torch_npy {
inline namespace TORCH_NPY_VERSION_NAMESPACE {
namespace detail {

inline bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// Whether there is a file of that name, whose status is then known.
inline bool exists(const std::filesystem::path& path, struct stat& status) {
  if (::stat(path.c_str(), &status) == 0) return true;
  if (errno != ENOENT && errno != ENOTDIR) throw_errno("cannot stat", errno);
  return false;
}

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
  constexpr std::size_t kMost = std::size_t{1} << 30;
  const char* const begin = static_cast<const char*>(data);
  for (std::size_t done = 0; done != size;) {
    const ssize_t more =
        uninterrupted([&] { return put(begin + done, (std::min)(size - done, kMost), done); });
    if (more == -1) {
      throw_errno("cannot write at byte " + std::to_string(offset + done), errno, offset + done);
    }
    done += static_cast<std::size_t>(more);
  }
}

/// A regular file that is there already, open for reading and for writing in place, and locked: a
/// second object on it, of this process or another, is an Error. The lock is advisory, holds back
/// nobody else, and is left out where the file system has none.
class LockedFile : public File {
 public:
  explicit LockedFile(const std::filesystem::path& path)
      : File((require_path(path), path.c_str()), AT_FDCWD, O_RDWR) {
    struct stat status;
    if (::fstat(fd_.get(), &status) == -1) throw_errno("cannot stat", errno);
    require_regular(status, ", and no other can grow");
    const int locked = uninterrupted([&] { return ::flock(fd_.get(), LOCK_EX | LOCK_NB); });
    if (locked == -1 && errno == EWOULDBLOCK) {
      throw Error(ErrorCode::Io, "locked: another Appender has the file open");
    }
  }

  void write(const void* data, std::size_t size, std::uint64_t offset) {
    write_all(data, size, offset, [&](const char* at, std::size_t length, std::size_t done) {
      return ::pwrite(fd_.get(), at, length, static_cast<off_t>(offset + done));
    });
  }

  /// Whether it still is what `path` names.
  bool is_at(const std::filesystem::path& path) const {
    struct stat own;
    struct stat named;
    if (::fstat(fd_.get(), &own) == -1) throw_errno("cannot stat", errno);
    return exists(path, named) && same_file(own, named);
  }

  void truncate(std::uint64_t size) {
    if (uninterrupted([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(size)); }) == -1) {
      throw_errno("cannot cut off at byte " + std::to_string(size), errno, size);
    }
  }

  /// Waits until what was written is on the disk. The system tells a failure once, and may have
  /// dropped what it could not write: from then on every call fails.
  void sync() {
    const auto flush = [&] { return ::fdatasync(fd_.get()); };
    if (sync_error_ == 0 && uninterrupted(flush) == -1) sync_error_ = errno;
    if (sync_error_ != 0) throw_errno("cannot flush to the disk", sync_error_);
  }

  /// Some file systems report a failed write only here. The lock is given up by itself: a process
  /// that was forked meanwhile may have the file open for longer.
  void close() {
    ::flock(fd_.get(), LOCK_UN);
    if (::close(fd_.release()) == -1 && errno != EINTR) throw_errno("cannot close", errno);
  }

 private:
  int sync_error_ = 0;
};

#ifdef __linux__
/// Whether an access control list says who may do what with a file; its mode then says something
/// else.
inline bool has_access_list(const std::filesystem::path& path) {
  return ::getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0) >= 0;
}

/// Takes away the list that a new file has from its folder.
inline void drop_access_list(int fd) { ::fremovexattr(fd, "system.posix_acl_access"); }

/// Says how far a file will grow, and that a part of it may go to the disk. It is advice: what
/// comes of it shows in the calls that write and flush.
inline void expect_size(int fd, std::uint64_t size) {
  ::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
}
inline void begin_to_flush(int fd, std::uint64_t offset, std::size_t size) {
  ::sync_file_range(fd, static_cast<off_t>(offset), static_cast<off_t>(size),
                    SYNC_FILE_RANGE_WRITE);
}
#else
inline bool has_access_list(const std::filesystem::path&) { return false; }
inline void drop_access_list(int) {}
inline void expect_size(int, std::uint64_t) {}
inline void begin_to_flush(int, std::uint64_t, std::size_t) {}
#endif

/// Writes a file that appears under its name whole or not at all: into a temporary one beside it,
/// which commit() flushes to the disk and renames. An object that goes without commit() removes the
/// temporary file; a process that is killed leaves it (".torch_npy-*.tmp"), and the old file as it
/// was.
///
/// A symbolic link is followed, as open() would: the file it names is replaced. A new file has the
/// mode that the umask leaves, one that is replaced the old one's: nobody can read it who could not
/// read that.
class AtomicFile {
 public:
  /// With `sync` it survives a power cut from commit() on; without, the system writes it when it
  /// likes.
  AtomicFile(const std::filesystem::path& path, bool sync) : sync_(sync) {
    require_path(path);
    // Of the path as it is: the system knows of links that must not be followed.
    struct stat status;
    const bool replaces = exists(path, status);
    if (replaces) {
      require_regular(status, "; what cannot be replaced is saved to as a std::ostream");
    }
    target_ = resolved(path);
    if (target_ != path) require_name(path);
    target_ = absolute_path(target_);
    // Never a moment in which somebody may read it who could not read the old one.
    const mode_t mode = replaces ? 0600 : 0666;
    static std::atomic<unsigned> count{0};
    int error = EEXIST;
    while (fd_.get() == -1 && error == EEXIST) {
      // Not by replace_filename(): libstdc++ 12's crashes where there is no memory.
      const std::string& name = target_.native();
      temporary_ = name.substr(0, name.rfind('/') + 1) + ".torch_npy-" +
                   std::to_string(::getpid()) + "-" + std::to_string(count++) + ".tmp";
      fd_ = open_descriptor(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL, mode);
      error = errno;
    }
    if (fd_.get() == -1) {
      temporary_.clear();
      throw_errno("cannot create a file in this folder", error);
    }
    if (replaces) keep_permissions(status);
  }

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  ~AtomicFile() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  /// What is large goes to the disk while the rest is written: 1 GiB, flushed, took 262 ms, and 441
  /// ms where commit() flushed it all; without expect_size() 302, in pieces of 64 MiB 320.
  void write(const void* data, std::size_t size) {
    constexpr std::size_t kPiece = std::size_t{16} << 20;
    const bool flushes = sync_ && size > kPiece;
    if (flushes) expect_size(fd_.get(), written_ + size);
    const char* at = static_cast<const char*>(data);
    while (size != 0) {
      const std::size_t piece = flushes ? (std::min)(size, kPiece) : size;
      write_all(at, piece, written_, [&](const char* from, std::size_t length, std::size_t) {
        return ::write(fd_.get(), from, length);
      });
      if (flushes) begin_to_flush(fd_.get(), written_, piece);
      written_ += piece;
      at += piece;
      size -= piece;
    }
  }

  /// Puts the file in its place.
  void commit() {
    finish();
    rename();
    if (sync_) sync_folder();
  }

  /// The same for a new file: false, and nothing has changed, where there is one of that name by
  /// now. A file system without hard links cannot tell, and the file is replaced.
  bool commit_new() {
    finish();
    if (::link(temporary_.c_str(), target_.c_str()) == -1) {
      if (errno == EEXIST) return false;
      rename();
    }
    if (sync_) sync_folder();
    return true;
  }

 private:
  /// Refuses a link of /proc's to an open file: what it says is no name by which that is found. The
  /// two can differ for a moment when somebody else saves there, so it looks again.
  void require_name(const std::filesystem::path& link) const {
    constexpr int kLooks = 50;
    for (int look = 0; look < kLooks; ++look) {
      struct stat by_link;
      struct stat by_name;
      const bool leads = exists(link, by_link);
      if (exists(target_, by_name) == leads && (!leads || same_file(by_link, by_name))) return;
    }
    throw Error(ErrorCode::Io, "the symbolic link leads to an open file that has no name");
  }

  /// Those of the file that is replaced, its owner and group where that is allowed. Under another
  /// group, what the old one and everybody else could do both; where more than the mode says who
  /// may do what, what its owner could.
  void keep_permissions(const struct stat& old) {
    mode_t mode = old.st_mode & 0777;
    if (::fchown(fd_.get(), old.st_uid, old.st_gid) == -1 &&
        ::fchown(fd_.get(), static_cast<uid_t>(-1), old.st_gid) == -1) {
      const mode_t all = mode & mode >> 3 & 7;
      mode = (mode & 0700) | all << 3 | all;
    }
    if (has_access_list(target_)) mode &= 0700;
    drop_access_list(fd_.get());
    ::fchmod(fd_.get(), mode);
  }

  void finish() {
    if (sync_ && uninterrupted([&] { return ::fsync(fd_.get()); }) == -1) {
      throw_errno("cannot flush to the disk", errno, written_);
    }
    // Some file systems report a failed write only here.
    const int fd = fd_.release();
    if (::close(fd) == -1 && errno != EINTR) throw_errno("cannot close", errno, written_);
  }

  void rename() {
    if (::rename(temporary_.c_str(), target_.c_str()) == -1) throw_errno("cannot rename", errno);
    temporary_.clear();
  }

  /// Where open() would write: links are followed, also one whose file is still to be made.
  static std::filesystem::path resolved(std::filesystem::path path) {
    constexpr int kMostLinks = 40;  // Linux's own limit
    std::error_code error;
    for (int links = 0;; ++links) {
      const auto type = std::filesystem::symlink_status(path, error).type();
      if (type == std::filesystem::file_type::none) throw_errno("cannot stat", error.value());
      if (type != std::filesystem::file_type::symlink) return path;
      if (links == kMostLinks) throw_errno("cannot follow the symbolic link", ELOOP);
      path = path.parent_path() / std::filesystem::read_symlink(path, error);
      if (error) throw_errno("cannot follow the symbolic link", error.value());
    }
  }

  /// A rename is on the disk once its folder is. Some file systems cannot flush a folder, and some
  /// folders cannot be opened; the file itself is in place by now, so there is nothing to report.
  void sync_folder() const {
    const auto parent = target_.parent_path();
    const Descriptor folder =
        open_descriptor(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY);
    if (folder.get() != -1) ::fsync(folder.get());
  }

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  Descriptor fd_;
  std::uint64_t written_ = 0;
  const bool sync_;
};

}  // namespace detail
}  // namespace TORCH_NPY_VERSION_NAMESPACE
}  // namespace torch_npy

#endif  // TORCH_NPY_FILE_WRITER_HPP_
