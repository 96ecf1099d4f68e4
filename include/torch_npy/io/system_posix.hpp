#ifndef TORCH_NPY_IO_SYSTEM_POSIX_HPP_
#define TORCH_NPY_IO_SYSTEM_POSIX_HPP_

// POSIX systems: Linux, macOS, BSD. system_windows.hpp has the same types and functions; file.hpp,
// file_writer.hpp and folder.hpp are built on them. A function that does not throw reports failure
// by false, -1 or an object that is not open; last_error() then has the reason. Errors thrown here
// have no path; the callers add it.

#ifndef _WIN32
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#ifdef __linux__
#include <sys/xattr.h>
#endif
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

// A smaller off_t would truncate offsets. On 32-bit systems Linux needs this macro.
static_assert(sizeof(off_t) >= 8, "compile the program with -D_FILE_OFFSET_BITS=64");

// ---- Errors

inline int last_error() noexcept { return errno; }

inline bool is_missing(int number) { return number == ENOENT || number == ENOTDIR; }

inline bool is_taken(int number) { return number == EEXIST; }

[[noreturn]] inline void throw_system_error(const std::string& what, int number,
                                            std::uint64_t offset = 0) {
  const bool is_exhausted = number == EMFILE || number == ENFILE;
  throw Error(is_missing(number) ? ErrorCode::NotFound
              : is_exhausted     ? ErrorCode::Exhausted
              : number == ENOMEM ? ErrorCode::OutOfMemory
                                 : ErrorCode::Io,
              what + ": " + std::generic_category().message(number), offset);
}

/// Makes a system call, and repeats it while signals interrupt it.
template <class Call>
auto uninterrupted(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

// ---- Names

constexpr char kSeparators[] = "/";

/// A file name in a FileList as a path.
inline std::filesystem::path path_of(const std::string& name) { return name; }

inline bool matches(const std::string& pattern, const char* name) {
  return ::fnmatch(pattern.c_str(), name, 0) == 0;
}

inline unsigned long process_id() { return static_cast<unsigned long>(::getpid()); }

// ---- Open files

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (is_open()) ::close(fd_);
  }

  bool is_open() const noexcept { return fd_ != -1; }
  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// Opens `path`; a relative path is relative to the open `folder`.
inline Descriptor open_descriptor(const char* path, int flags, mode_t mode = 0,
                                  int folder = AT_FDCWD) {
  return Descriptor(uninterrupted([&] { return ::openat(folder, path, flags | O_CLOEXEC, mode); }));
}

inline const char* kind_of_file(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

/// `advice` ends the message, except for a directory: what to do with such a file instead.
inline void require_regular(const struct stat& status, const char* advice) {
  if (S_ISREG(status.st_mode)) return;
  throw Error(ErrorCode::Io, std::string("not a regular file but ") + kind_of_file(status.st_mode) +
                                 (S_ISDIR(status.st_mode) ? "" : advice));
}

inline struct stat status_of(const Descriptor& file) {
  struct stat status;
  if (::fstat(file.get(), &status) == -1) throw_system_error("cannot stat", errno);
  return status;
}

inline void require_regular(const Descriptor& file, const char* advice) {
  require_regular(status_of(file), advice);
}

/// The current size of a regular file in bytes.
inline std::uint64_t size_of(const Descriptor& file) {
  const struct stat status = status_of(file);
  require_regular(status, "; load() reads an array from such a file through a std::istream");
  return static_cast<std::uint64_t>(status.st_size);
}

/// Size and time of modification.
inline std::string version_of(const Descriptor& file) {
  const struct stat status = status_of(file);
#ifdef __APPLE__
  const struct timespec& time = status.st_mtimespec;
#else
  const struct timespec& time = status.st_mtim;
#endif
  return std::to_string(status.st_size) + '-' + std::to_string(time.tv_sec) + '.' +
         std::to_string(time.tv_nsec);
}

inline Descriptor open_file(const char* name, int flags, int folder = AT_FDCWD) {
  // Without O_NONBLOCK, opening a FIFO that has no writer would block forever.
  Descriptor file = open_descriptor(name, flags | O_NONBLOCK, 0, folder);
  // Another process holds a lease on the file. Opening it again without O_NONBLOCK waits until the
  // lease is released. Regular files only: for a FIFO this could block forever.
  struct stat status;
  if (!file.is_open() && errno == EWOULDBLOCK && ::fstatat(folder, name, &status, 0) == 0 &&
      S_ISREG(status.st_mode)) {
    file = open_descriptor(name, flags, 0, folder);
  }
  if (!file.is_open()) throw_system_error("cannot open", errno);
  return file;
}

inline Descriptor open_to_read(const std::filesystem::path& path) {
  return open_file(path.c_str(), O_RDONLY);
}

inline Descriptor open_to_change(const std::filesystem::path& path) {
  return open_file(path.c_str(), O_RDWR);
}

// ---- Reading and mapping

inline std::ptrdiff_t read_at(const Descriptor& file, void* out, std::size_t size,
                              std::uint64_t offset) {
  return uninterrupted([&] { return ::pread(file.get(), out, size, static_cast<off_t>(offset)); });
}

/// Reads from the start of the file, first into `head`, then into `body`.
#ifdef __APPLE__
inline std::ptrdiff_t read_split(const Descriptor& file, void* head, std::size_t head_size,
                                 void* body, std::size_t body_size) {
  // macOS before version 11 has no preadv.
  const ssize_t first = ::pread(file.get(), head, head_size, 0);
  if (first < 0 || static_cast<std::size_t>(first) != head_size) return first;
  const ssize_t second = ::pread(file.get(), body, body_size, static_cast<off_t>(head_size));
  return second < 0 ? first : first + second;
}
#else
inline std::ptrdiff_t read_split(const Descriptor& file, void* head, std::size_t head_size,
                                 void* body, std::size_t body_size) {
  const iovec parts[] = {{head, head_size}, {body, body_size}};
  return ::preadv(file.get(), parts, 2, 0);
}
#endif

inline std::size_t page_size() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

/// The offset of a mapping in its file must be a multiple of this.
inline std::size_t mapping_alignment() { return page_size(); }

/// Maps part of a file copy-on-write and without reserving swap space; null on failure. Without
/// MAP_POPULATE, which makes it slower to map a file and read it once.
inline void* map(const Descriptor& file, std::uint64_t offset, std::size_t size) {
#ifdef MAP_NORESERVE
  constexpr int kFlags = MAP_PRIVATE | MAP_NORESERVE;
#else
  constexpr int kFlags = MAP_PRIVATE;
#endif
  void* const base =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, kFlags, file.get(), static_cast<off_t>(offset));
  return base == MAP_FAILED ? nullptr : base;
}

inline void unmap(void* base, std::size_t size) noexcept { ::munmap(base, size); }

#ifdef MADV_HUGEPAGE
/// Requests huge pages for the whole pages in a range. This is only a hint; a failure has no
/// effect.
inline void advise_huge_pages(void* data, std::size_t size) {
  const std::size_t page = page_size();
  const std::size_t lead = (page - reinterpret_cast<std::uintptr_t>(data) % page) % page;
  if (size < lead + page) return;
  ::madvise(static_cast<char*>(data) + lead, (size - lead) / page * page, MADV_HUGEPAGE);
}
#else
inline void advise_huge_pages(void*, std::size_t) {}
#endif

// ---- Writing

inline std::ptrdiff_t write_at(const Descriptor& file, const void* data, std::size_t size,
                               std::uint64_t offset) {
  return uninterrupted(
      [&] { return ::pwrite(file.get(), data, size, static_cast<off_t>(offset)); });
}

/// Writes at the current position of the file.
inline std::ptrdiff_t write_next(const Descriptor& file, const void* data, std::size_t size) {
  return uninterrupted([&] { return ::write(file.get(), data, size); });
}

inline bool truncate(const Descriptor& file, std::uint64_t size) {
  return uninterrupted([&] { return ::ftruncate(file.get(), static_cast<off_t>(size)); }) == 0;
}

#ifdef __linux__
/// Hints: a file will grow to `size` bytes; a part of it may be written to the disk now. Failures
/// show in the calls that write and flush.
inline void expect_size(const Descriptor& file, std::uint64_t size) {
  ::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
}
inline void begin_to_flush(const Descriptor& file, std::uint64_t offset, std::size_t size) {
  ::sync_file_range(file.get(), static_cast<off_t>(offset), static_cast<off_t>(size),
                    SYNC_FILE_RANGE_WRITE);
}
#else
inline void expect_size(const Descriptor&, std::uint64_t) {}
inline void begin_to_flush(const Descriptor&, std::uint64_t, std::size_t) {}
#endif

#ifdef __APPLE__
/// Waits until a file is on the disk. fsync() on macOS does not wait for the disk, F_FULLFSYNC
/// does.
inline bool flush(const Descriptor& file) {
  if (uninterrupted([&] { return ::fcntl(file.get(), F_FULLFSYNC); }) != -1) return true;
  return uninterrupted([&] { return ::fsync(file.get()); }) == 0;  // without F_FULLFSYNC
}
inline bool flush_data(const Descriptor& file) { return flush(file); }
#else
/// Waits until a file is on the disk.
inline bool flush(const Descriptor& file) {
  return uninterrupted([&] { return ::fsync(file.get()); }) == 0;
}
/// The same for the data alone, without its timestamps.
inline bool flush_data(const Descriptor& file) {
  return uninterrupted([&] { return ::fdatasync(file.get()); }) == 0;
}
#endif

/// Returns false if another descriptor holds the lock. The lock is advisory: it stops only other
/// callers of lock(). True without a lock if the file system does not support locks.
inline bool lock(const Descriptor& file) {
  return uninterrupted([&] { return ::flock(file.get(), LOCK_EX | LOCK_NB); }) == 0 ||
         errno != EWOULDBLOCK;
}

inline void unlock(const Descriptor& file) { ::flock(file.get(), LOCK_UN); }

/// Some file systems report a failed write only on close.
inline bool close(Descriptor& file) { return ::close(file.release()) == 0 || errno == EINTR; }

// ---- Files that appear whole or not at all

inline bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// True if the file exists; then sets `status`.
inline bool exists(const std::filesystem::path& path, struct stat& status) {
  if (::stat(path.c_str(), &status) == 0) return true;
  if (!is_missing(errno)) throw_system_error("cannot stat", errno);
  return false;
}

inline bool is_at(const Descriptor& file, const std::filesystem::path& path) {
  const struct stat own = status_of(file);
  struct stat named;
  return exists(path, named) && same_file(own, named);
}

#ifdef __linux__
/// True if the file has an access control list. The group bits of its mode then have another
/// meaning.
inline bool has_access_list(const std::filesystem::path& path) {
  return ::getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0) >= 0;
}

/// Removes the access control list that a new file inherits from its folder.
inline void drop_access_list(const Descriptor& file) {
  ::fremovexattr(file.get(), "system.posix_acl_access");
}
#else
inline bool has_access_list(const std::filesystem::path&) { return false; }
inline void drop_access_list(const Descriptor&) {}
#endif

/// The file that open() would write to, and its status if it exists. A new file gets the mode that
/// the umask leaves; a file that replaces another one keeps its mode. Nobody who could not read the
/// old file can read the new one.
class WriteTarget {
 public:
  /// Throws if the path names something that cannot be replaced.
  explicit WriteTarget(const std::filesystem::path& path) {
    // Checks the path as given: the kernel knows which links it must not follow.
    replaces_ = exists(path, old_);
    if (replaces_) {
      require_regular(old_, "; save() writes an array to such a file through a std::ostream");
    }
    path_ = resolved(path);
    if (path_ != path) require_name(path);
  }

  const std::filesystem::path& path() const noexcept { return path_; }

  /// Creates the file that will replace the target, under a name that does not exist yet.
  Descriptor create(const std::filesystem::path& name) const {
    // With 0600 from the start: at no time can anyone read the new file who could not read the old
    // one.
    return open_descriptor(name.c_str(), O_WRONLY | O_CREAT | O_EXCL, replaces_ ? 0600 : 0666);
  }

  /// Gives the new file the mode of the old one, and its owner and group if the system allows it.
  /// If the group cannot be kept, both group and others get only what both had. If the old file had
  /// an access control list, only the owner gets access.
  void copy_permissions(const Descriptor& file) const {
    if (!replaces_) return;
    mode_t mode = old_.st_mode & 0777;
    if (::fchown(file.get(), old_.st_uid, old_.st_gid) == -1 &&
        ::fchown(file.get(), static_cast<uid_t>(-1), old_.st_gid) == -1) {
      const unsigned all = mode & mode >> 3 & 7;
      mode = static_cast<mode_t>((mode & 0700) | all << 3 | all);
    }
    if (has_access_list(path_)) mode &= 0700;
    drop_access_list(file);
    ::fchmod(file.get(), mode);
  }

 private:
  /// Follows symbolic links, also to a file that does not exist yet.
  static std::filesystem::path resolved(std::filesystem::path path) {
    constexpr int kMaxLinks = 40;  // the limit of Linux
    std::error_code error;
    for (int links = 0;; ++links) {
      const auto type = std::filesystem::symlink_status(path, error).type();
      if (type == std::filesystem::file_type::none) {
        throw_system_error("cannot stat", error.value());
      }
      if (type != std::filesystem::file_type::symlink) return path;
      if (links == kMaxLinks) throw_system_error("cannot follow the symbolic link", ELOOP);
      path = path.parent_path() / std::filesystem::read_symlink(path, error);
      if (error) throw_system_error("cannot follow the symbolic link", error.value());
    }
  }

  /// Rejects a link in /proc to an open file: its text is not a name of that file. The two may
  /// differ for a moment while another save() replaces the file, so this tries several times.
  void require_name(const std::filesystem::path& link) const {
    constexpr int kAttempts = 50;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      struct stat by_link;
      struct stat by_name;
      const bool exists_by_link = exists(link, by_link);
      if (exists(path_, by_name) == exists_by_link &&
          (!exists_by_link || same_file(by_link, by_name))) {
        return;
      }
    }
    throw Error(ErrorCode::Io, "the symbolic link points to an open file that has no name");
  }

  std::filesystem::path path_;
  struct stat old_;
  bool replaces_;
};

/// Renames a file, and replaces a file that has the new name.
inline bool rename_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::rename(from.c_str(), to.c_str()) == 0;
}

/// Renames a file, and fails if the new name exists. `from` may remain as a second name. Needs hard
/// links.
inline bool rename_to_new(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::link(from.c_str(), to.c_str()) == 0;
}

/// Flushes the folder of a renamed file: only then is the rename on the disk. Errors are ignored,
/// because the file is in place already: some file systems cannot flush a folder, and some folders
/// cannot be opened.
inline void flush_rename_to(const std::filesystem::path& path) {
  const auto parent = path.parent_path();
  const Descriptor folder =
      open_descriptor(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY);
  if (folder.is_open()) ::fsync(folder.get());
}

inline void remove_file(const std::filesystem::path& path) { ::unlink(path.c_str()); }

// ---- Folders

using OpenFolder = Descriptor;
using FolderIdentity = std::pair<dev_t, ino_t>;

inline OpenFolder open_folder(const std::filesystem::path& path) {
  OpenFolder folder = open_descriptor(path.c_str(), O_RDONLY | O_DIRECTORY);
  if (!folder.is_open()) throw_system_error("cannot open the folder", errno);
  return folder;
}

/// A name relative to an open folder saves the system the lookup of the whole path.
inline Descriptor open_to_read(const char* name, const OpenFolder& folder) {
  return open_file(name, O_RDONLY, folder.get());
}

inline std::optional<FolderIdentity> identity_of(const OpenFolder& folder) {
  struct stat status;
  if (::fstat(folder.get(), &status) == -1) return std::nullopt;
  return FolderIdentity(status.st_dev, status.st_ino);
}

/// A folder to list, by its path relative to an open folder.
class Directory {
 public:
  Directory(const char* path, const OpenFolder& parent) {
    Descriptor descriptor = open_descriptor(path, O_RDONLY | O_DIRECTORY, 0, parent.get());
    if (!descriptor.is_open()) throw_system_error("cannot open the folder", errno);
    stream_ = ::fdopendir(descriptor.get());
    if (stream_ == nullptr) throw_system_error("cannot read the folder", errno);
    (void)descriptor.release();  // closedir() closes it
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { ::closedir(stream_); }

  FolderIdentity identity() const {
    struct stat status;
    if (::fstat(::dirfd(stream_), &status) == -1) throw_system_error("cannot stat", errno);
    return {status.st_dev, status.st_ino};
  }

  /// Calls `visit(name, is_folder)` for each entry that is not hidden (".name").
  template <class Visit>
  void for_each(const Visit& visit) {
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(stream_);
      if (entry == nullptr) break;
      if (entry->d_name[0] != '.') visit(entry->d_name, is_folder(*entry));
    }
    if (errno != 0) throw_system_error("cannot read the folder", errno);
  }

 private:
  /// A link to a folder counts as a folder. A broken link does not: opening it reports the error.
  bool is_folder(const dirent& entry) const {
    if (entry.d_type != DT_LNK && entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
    struct stat status;
    return ::fstatat(::dirfd(stream_), entry.d_name, &status, 0) == 0 && S_ISDIR(status.st_mode);
  }

  DIR* stream_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE
#endif  // _WIN32

#endif  // TORCH_NPY_IO_SYSTEM_POSIX_HPP_
