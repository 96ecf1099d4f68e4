#ifndef TORCH_NPY_IO_SYSTEM_POSIX_HPP_
#define TORCH_NPY_IO_SYSTEM_POSIX_HPP_

// The operating system, where it is a POSIX one: Linux, macOS, BSD. system_windows.hpp has the same
// types and functions, and file.hpp, file_writer.hpp and folder.hpp are made of them. Where one of
// these does not throw, it gives false, -1 or what is not open, and last_error() tells why. What is
// thrown has no path: the callers, who know it, add it.

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

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

// Offsets would be cut off: on 32 bits Linux asks for the macro.
static_assert(sizeof(off_t) >= 8, "compile the program with -D_FILE_OFFSET_BITS=64");

// ---- Errors

inline int last_error() noexcept { return errno; }

inline bool is_missing(int number) { return number == ENOENT || number == ENOTDIR; }

/// Somebody has a file of that name.
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

/// Makes a system call, once more for every signal that interrupts it.
template <class Call>
auto uninterrupted(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

// ---- Names

/// What stands between the names of a path.
constexpr char kSeparators[] = "/";

/// The path that a name of a folder's is.
inline std::filesystem::path path_of(const std::string& name) { return name; }

/// Whether a name is one of a pattern's, as the shell has it.
inline bool matches(const std::string& pattern, const char* name) {
  return ::fnmatch(pattern.c_str(), name, 0) == 0;
}

inline unsigned long process_id() { return static_cast<unsigned long>(::getpid()); }

// ---- Open files

/// Owns a file descriptor.
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

/// Opens `path`, from the open `folder` on where it is relative.
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

/// `way_out` says what can be done with such a file instead.
inline void require_regular(const struct stat& status, const char* way_out) {
  if (S_ISREG(status.st_mode)) return;
  throw Error(ErrorCode::Io,
              std::string("not a regular file but ") + kind_of_file(status.st_mode) + way_out);
}

inline struct stat status_of(const Descriptor& file) {
  struct stat status;
  if (::fstat(file.get(), &status) == -1) throw_system_error("cannot stat", errno);
  return status;
}

inline void require_regular(const Descriptor& file, const char* way_out) {
  require_regular(status_of(file), way_out);
}

/// Bytes of a regular file at this moment.
inline std::uint64_t size_of(const Descriptor& file) {
  const struct stat status = status_of(file);
  require_regular(status,
                  S_ISDIR(status.st_mode)
                      ? ""
                      : "; an array that can only be read in order loads from a std::istream");
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

/// Throws where it cannot be opened.
inline Descriptor open_file(const char* name, int flags, int folder = AT_FDCWD) {
  // O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
  Descriptor file = open_descriptor(name, flags | O_NONBLOCK, 0, folder);
  // Somebody has a lease on the file, and gives it up while we wait; but wait for no FIFO.
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
  // preadv came with macOS 11.
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

/// A mapping begins at a multiple of this.
inline std::size_t mapping_alignment() { return page_size(); }

/// Maps bytes of a file copy-on-write, without swap space ahead; null where that fails.
/// (MAP_POPULATE made mapping and then summing 1 GiB ten times slower.)
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
/// Asks for huge pages behind the whole pages of a range. It is advice: nothing is lost where it is
/// not taken.
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

/// Writes behind what was written before.
inline std::ptrdiff_t write_next(const Descriptor& file, const void* data, std::size_t size) {
  return uninterrupted([&] { return ::write(file.get(), data, size); });
}

inline bool truncate(const Descriptor& file, std::uint64_t size) {
  return uninterrupted([&] { return ::ftruncate(file.get(), static_cast<off_t>(size)); }) == 0;
}

#ifdef __linux__
/// Says how far a file will grow, and that a part of it may go to the disk. It is advice: what
/// comes of it shows in the calls that write and flush.
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
/// Waits until a file is on the disk; fsync() of macOS leaves it to the disk when it writes.
inline bool flush(const Descriptor& file) {
  if (uninterrupted([&] { return ::fcntl(file.get(), F_FULLFSYNC); }) != -1) return true;
  return uninterrupted([&] { return ::fsync(file.get()); }) == 0;  // no such thing there
}
inline bool flush_data(const Descriptor& file) { return flush(file); }
#else
/// Waits until a file is on the disk.
inline bool flush(const Descriptor& file) {
  return uninterrupted([&] { return ::fsync(file.get()); }) == 0;
}
/// The same without its times.
inline bool flush_data(const Descriptor& file) {
  return uninterrupted([&] { return ::fdatasync(file.get()); }) == 0;
}
#endif

/// False where another descriptor has the lock. It is advisory, holds back nobody else, and is left
/// out where the file system has none.
inline bool lock(const Descriptor& file) {
  return uninterrupted([&] { return ::flock(file.get(), LOCK_EX | LOCK_NB); }) == 0 ||
         errno != EWOULDBLOCK;
}

inline void unlock(const Descriptor& file) { ::flock(file.get(), LOCK_UN); }

/// Some file systems report a failed write only here.
inline bool close(Descriptor& file) { return ::close(file.release()) == 0 || errno == EINTR; }

// ---- Files that appear whole or not at all

inline bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// Whether there is a file of that name, whose status is then known.
inline bool exists(const std::filesystem::path& path, struct stat& status) {
  if (::stat(path.c_str(), &status) == 0) return true;
  if (!is_missing(errno)) throw_system_error("cannot stat", errno);
  return false;
}

/// Whether an open file is what `path` names.
inline bool is_at(const Descriptor& file, const std::filesystem::path& path) {
  const struct stat own = status_of(file);
  struct stat named;
  return exists(path, named) && same_file(own, named);
}

#ifdef __linux__
/// Whether an access control list says who may do what with a file; its mode then says something
/// else.
inline bool has_access_list(const std::filesystem::path& path) {
  return ::getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0) >= 0;
}

/// Takes away the list that a new file has from its folder.
inline void drop_access_list(const Descriptor& file) {
  ::fremovexattr(file.get(), "system.posix_acl_access");
}
#else
inline bool has_access_list(const std::filesystem::path&) { return false; }
inline void drop_access_list(const Descriptor&) {}
#endif

/// The place where open() would write a file, and the file that is there, if any. A new file has
/// the mode that the umask leaves, one that is replaced the old one's: nobody can read it who could
/// not read that.
class WritePlace {
 public:
  /// Throws where there is something that cannot be replaced.
  explicit WritePlace(const std::filesystem::path& path) {
    // Of the path as it is: the system knows of links that must not be followed.
    replaces_ = exists(path, old_);
    if (replaces_) require_regular(old_, "; what cannot be replaced is saved to as a std::ostream");
    path_ = resolved(path);
    if (path_ != path) require_name(path);
  }

  const std::filesystem::path& path() const noexcept { return path_; }

  /// Makes the file that is to come here, under another name that nobody has yet.
  Descriptor create(const std::filesystem::path& name) const {
    // Never a moment in which somebody may read it who could not read the old one.
    return open_descriptor(name.c_str(), O_WRONLY | O_CREAT | O_EXCL, replaces_ ? 0600 : 0666);
  }

  /// Gives it the permissions of the old one, its owner and group where that is allowed. Under
  /// another group, what the old one and everybody else could do both; where more than the mode
  /// says who may do what, what its owner could.
  void hand_on_permissions(const Descriptor& file) const {
    if (!replaces_) return;
    mode_t mode = old_.st_mode & 0777;
    if (::fchown(file.get(), old_.st_uid, old_.st_gid) == -1 &&
        ::fchown(file.get(), static_cast<uid_t>(-1), old_.st_gid) == -1) {
      const mode_t all = mode & mode >> 3 & 7;
      mode = (mode & 0700) | all << 3 | all;
    }
    if (has_access_list(path_)) mode &= 0700;
    drop_access_list(file);
    ::fchmod(file.get(), mode);
  }

 private:
  /// Links are followed, also one whose file is still to be made.
  static std::filesystem::path resolved(std::filesystem::path path) {
    constexpr int kMostLinks = 40;  // Linux's own limit
    std::error_code error;
    for (int links = 0;; ++links) {
      const auto type = std::filesystem::symlink_status(path, error).type();
      if (type == std::filesystem::file_type::none) {
        throw_system_error("cannot stat", error.value());
      }
      if (type != std::filesystem::file_type::symlink) return path;
      if (links == kMostLinks) throw_system_error("cannot follow the symbolic link", ELOOP);
      path = path.parent_path() / std::filesystem::read_symlink(path, error);
      if (error) throw_system_error("cannot follow the symbolic link", error.value());
    }
  }

  /// Refuses a link of /proc's to an open file: what it says is no name by which that is found. The
  /// two can differ for a moment when somebody else saves there, so it looks again.
  void require_name(const std::filesystem::path& link) const {
    constexpr int kLooks = 50;
    for (int look = 0; look < kLooks; ++look) {
      struct stat by_link;
      struct stat by_name;
      const bool leads = exists(link, by_link);
      if (exists(path_, by_name) == leads && (!leads || same_file(by_link, by_name))) return;
    }
    throw Error(ErrorCode::Io, "the symbolic link leads to an open file that has no name");
  }

  std::filesystem::path path_;
  struct stat old_;
  bool replaces_;
};

/// Gives a file another name, whoever has that.
inline bool rename_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::rename(from.c_str(), to.c_str()) == 0;
}

/// The same where nobody has it. `from` may stay, too. Needs hard links.
inline bool rename_to_new(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::link(from.c_str(), to.c_str()) == 0;
}

/// A rename is on the disk once its folder is. Some file systems cannot flush a folder, and some
/// folders cannot be opened; the file itself is in place by now, so there is nothing to report.
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

/// A name relative to an open folder spares the system the way along the path.
inline Descriptor open_to_read(const char* name, const OpenFolder& folder) {
  return open_file(name, O_RDONLY, folder.get());
}

/// None where it cannot be told.
inline std::optional<FolderIdentity> identity_of(const OpenFolder& folder) {
  struct stat status;
  if (::fstat(folder.get(), &status) == -1) return std::nullopt;
  return FolderIdentity(status.st_dev, status.st_ino);
}

/// A folder in an open one, to be listed.
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

  /// Calls `visit(name, is_folder)` for everything that is not hidden (".name").
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
  /// A link to a folder is one. A link to nothing is not: it is left to whoever opens it to say so.
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
