#ifndef TORCH_NPY_FILE_HPP_
#define TORCH_NPY_FILE_HPP_

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
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
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/header.hpp>

// Everything the library asks of the operating system. What fails here throws an Error without a
// path; the callers, who know the path, add it.

namespace torch_npy {
namespace detail {

[[noreturn]] inline void throw_errno(const std::string& what, int number,
                                     std::uint64_t offset = 0) {
  const bool missing = number == ENOENT || number == ENOTDIR;
  const bool exhausted = number == EMFILE || number == ENFILE || number == ENOMEM;
  throw Error(missing     ? ErrorCode::NotFound
              : exhausted ? ErrorCode::Exhausted
                          : ErrorCode::Io,
              what + ": " + std::generic_category().message(number), offset);
}

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
    if (fd_ != -1) ::close(fd_);
  }

  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// Makes a system call, once more for every signal that interrupts it.
template <class Call>
auto uninterrupted(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

/// Opens `path`, from the open `folder` on where it is relative. -1 and errno where it fails.
inline Descriptor open_descriptor(const char* path, int flags, mode_t mode = 0,
                                  int folder = AT_FDCWD) {
  return Descriptor(uninterrupted([&] { return ::openat(folder, path, flags | O_CLOEXEC, mode); }));
}

/// Refuses paths that the system would take for others.
inline void require_path(const std::filesystem::path& path) {
  if (path.empty()) throw Error(ErrorCode::NotFound, "the path is empty");
  if (path.native().find('\0') != std::filesystem::path::string_type::npos) {
    throw Error(ErrorCode::InvalidArgument, "the path holds a zero byte");
  }
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

/// A file, open for reading: a regular one, as shows when it is read or asked for its size. Reading
/// from several threads at once is fine.
class File {
 public:
  explicit File(const std::filesystem::path& path) : File((require_path(path), path.c_str())) {}

  /// `name` is relative to an open folder, which spares the system the way along the path.
  File(const char* name, const Descriptor& folder) : File(name, folder.get()) {}

  /// Bytes of the file at this moment.
  std::uint64_t size() const {
    struct stat status;
    if (::fstat(fd_.get(), &status) == -1) throw_errno("cannot stat", errno);
    require_regular(status,
                    S_ISDIR(status.st_mode)
                        ? ""
                        : "; an array that can only be read in order loads from a std::istream");
    return static_cast<std::uint64_t>(status.st_size);
  }

  /// Reads up to `size` bytes from byte `offset` on, in one call; 0 at the end.
  std::size_t read_some(void* out, std::size_t size, std::uint64_t offset) const {
    // Linux moves at most 2^31 - 4096 bytes a call, macOS refuses more than 2^31 - 1.
    constexpr std::size_t kMost = std::size_t{1} << 30;
    const ssize_t got = uninterrupted([&] {
      return ::pread(fd_.get(), out, (std::min)(size, kMost), static_cast<off_t>(offset));
    });
    if (got >= 0) return static_cast<std::size_t>(got);
    const int number = errno;
    (void)this->size();  // says so if this is no regular file
    throw_errno("cannot read at byte " + std::to_string(offset), number, offset);
  }

  /// Fills `out` with `size` bytes from byte `offset` on. Throws Truncated where the file ends
  /// before that: it has become shorter meanwhile, or the caller did not look at size().
  void read(void* out, std::size_t size, std::uint64_t offset) const {
    char* at = static_cast<char*>(out);
    while (size != 0) {
      const std::size_t got = read_some(at, size, offset);
      if (got == 0) {
        throw Error(ErrorCode::Truncated,
                    "data cut short: the file ends at byte " + std::to_string(offset) + ", " +
                        counted(size, "byte") + " before the end of what was to be read",
                    offset);
      }
      at += got;
      size -= got;
      offset += got;
    }
  }

  /// Reads from the start of the file, first into `head`, then into `body`, in one call. Gives how
  /// many bytes came: fewer also where the system would not give more at a time, or any.
  std::size_t read_split(void* head, std::size_t head_size, void* body,
                         std::size_t body_size) const {
    const iovec parts[] = {{head, head_size}, {body, body_size}};
    const ssize_t got = ::preadv(fd_.get(), parts, 2, 0);
    return got < 0 ? 0 : static_cast<std::size_t>(got);
  }

  int descriptor() const noexcept { return fd_.get(); }

  /// Where its first byte stands in itself: what a FilePart is asked, too.
  std::uint64_t begin() const noexcept { return 0; }

 protected:
  // O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
  explicit File(const char* name, int folder = AT_FDCWD, int flags = O_RDONLY)
      : fd_(open_descriptor(name, flags | O_NONBLOCK, 0, folder)) {
    // Somebody has a lease on the file, and gives it up while we wait; but wait for no FIFO.
    struct stat status;
    if (fd_.get() == -1 && errno == EWOULDBLOCK && ::fstatat(folder, name, &status, 0) == 0 &&
        S_ISREG(status.st_mode)) {
      fd_ = open_descriptor(name, flags, 0, folder);
    }
    if (fd_.get() == -1) throw_errno("cannot open", errno);
  }

  Descriptor fd_;
};

/// `size` bytes from byte `begin` of an open file on, read as if they were a file of their own: a
/// member of an archive. They lie within the file, and nobody reads past them.
class FilePart {
 public:
  FilePart(const File& file, std::uint64_t begin, std::uint64_t size) noexcept
      : file_(file), begin_(begin), size_(size) {}
  FilePart(const File&&, std::uint64_t, std::uint64_t) = delete;  // it would go before the part

  std::uint64_t begin() const noexcept { return begin_; }
  std::uint64_t size() const noexcept { return size_; }
  int descriptor() const noexcept { return file_.descriptor(); }

  std::size_t read_some(void* out, std::size_t size, std::uint64_t offset) const {
    const std::uint64_t left = size_ - (std::min)(offset, size_);
    return file_.read_some(out, static_cast<std::size_t>(std::min<std::uint64_t>(size, left)),
                           begin_ + offset);
  }

  void read(void* out, std::size_t size, std::uint64_t offset) const {
    file_.read(out, size, begin_ + offset);
  }

 private:
  const File& file_;
  std::uint64_t begin_;
  std::uint64_t size_;
};

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

/// Owns a range of mapped memory.
class Mapping {
 public:
  /// `lead` bytes before what was asked for are mapped too: a mapping starts at a page.
  Mapping(void* base, std::size_t size, std::size_t lead = 0) noexcept
      : base_(base), size_(size), lead_(lead) {}
  Mapping(Mapping&& other) noexcept
      : base_(other.base_), size_(std::exchange(other.size_, 0)), lead_(other.lead_) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (size_ != 0) ::munmap(base_, size_);
  }

  /// Maps bytes [offset, offset + size) of `file`, or of a part of one, copy-on-write: what is
  /// written to the memory never reaches the file. Takes no swap space ahead and reads nothing yet.
  /// (MAP_POPULATE made mapping and then summing 1 GiB ten times slower.) `size` is not 0.
  template <class Source>
  static Mapping of(const Source& file, std::uint64_t offset, std::size_t size) {
    offset += file.begin();
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const auto lead = static_cast<std::size_t>(offset % page);
    void* base = ::mmap(nullptr, size + lead, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                        file.descriptor(), static_cast<off_t>(offset - lead));
    if (base == MAP_FAILED) throw_errno("cannot map " + counted(size, "byte"), errno, offset);
    return Mapping(base, size + lead, lead);
  }

  void* data() const noexcept { return static_cast<char*>(base_) + lead_; }

 private:
  void* base_;
  std::size_t size_;
  std::size_t lead_;
};

#ifdef MADV_HUGEPAGE
/// Asks for huge pages behind the whole pages of a range. It is advice: nothing is lost where it is
/// not taken.
inline void advise_huge_pages(void* data, std::size_t size) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t lead = (page - reinterpret_cast<std::uintptr_t>(data) % page) % page;
  if (size < lead + page) return;
  ::madvise(static_cast<char*>(data) + lead, (size - lead) / page * page, MADV_HUGEPAGE);
}
#else
inline void advise_huge_pages(void*, std::size_t) {}
#endif

#ifdef __linux__
/// Whether an access control list says who may do what with a file; its mode then says something
/// else.
inline bool has_access_list(const std::filesystem::path& path) {
  return ::getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0) >= 0;
}

/// Takes away the list that a new file has from its folder.
inline void drop_access_list(int fd) { ::fremovexattr(fd, "system.posix_acl_access"); }
#else
inline bool has_access_list(const std::filesystem::path&) { return false; }
inline void drop_access_list(int) {}
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
  explicit AtomicFile(const std::filesystem::path& path) {
    require_path(path);
    // Of the path as it is: the system knows of links that must not be followed.
    struct stat status;
    const bool replaces = exists(path, status);
    if (replaces) {
      require_regular(status, "; what cannot be replaced is saved to as a std::ostream");
    }
    target_ = absolute_path(resolved(path));
    struct stat found;
    if (exists(target_, found) != replaces || (replaces && !same_file(found, status))) {
      throw Error(ErrorCode::Io, "the symbolic link leads to an open file that has no name");
    }
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

  void write(const void* data, std::size_t size) {
    write_all(data, size, written_, [&](const char* at, std::size_t length, std::size_t) {
      return ::write(fd_.get(), at, length);
    });
    written_ += size;
  }

  /// Puts the file in its place. With `sync` it survives a power cut from here on; without, the
  /// system writes it when it likes.
  void commit(bool sync) {
    finish(sync);
    rename();
    if (sync) sync_folder();
  }

  /// The same for a new file: false, and nothing has changed, where there is one of that name by
  /// now. A file system without hard links cannot tell, and the file is replaced.
  bool commit_new(bool sync) {
    finish(sync);
    if (::link(temporary_.c_str(), target_.c_str()) == -1) {
      if (errno == EEXIST) return false;
      rename();
    }
    if (sync) sync_folder();
    return true;
  }

 private:
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

  void finish(bool sync) {
    if (sync && uninterrupted([&] { return ::fsync(fd_.get()); }) == -1) {
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
};

/// Bytes read ahead of knowing anything: a small file whole, the header of any other.
constexpr std::size_t kFirstRead = 16384;

/// The header of an open file, and the bytes of it that were read on the way.
struct FileStart {
  Header header;
  std::size_t size = 0;             ///< bytes in `bytes`, from the start of the file
  unsigned char bytes[kFirstRead];  // left as it is: clearing it would cost more than parsing
  FileStart() {}                    // NOLINT(modernize-use-equals-default)

  /// Bytes of the file, as far as they matter: it is not asked when all of the array is here. That
  /// call would cost a tenth of loading a small file.
  template <class Source>
  std::uint64_t available(const Source& file) const {
    const std::uint64_t promised = header.end();
    return promised <= size ? promised : file.size();
  }
};

/// Reads the header of a File or a FilePart, with one system call for any but a giant one.
template <class Source>
void read_start(const Source& file, std::uint64_t max_header_size, FileStart& start) {
  start.size = file.read_some(start.bytes, kFirstRead, 0);
  if (start.size < kMaxPrefixSize) {
    // Nearly nothing: a device, or a file system that gives little at a time.
    start.size = static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), kFirstRead));
    file.read(start.bytes, start.size, 0);
  }
  const HeaderExtent extent = parse_prefix(start.bytes, start.size, max_header_size);
  if (extent.end() <= start.size) {
    start.header = parse_text(start.bytes, extent, max_header_size);
    return;
  }
  const std::uint64_t size = file.size();
  if (extent.end() > size) throw header_cut_short(extent, size);
  std::vector<unsigned char> bytes(static_cast<std::size_t>(extent.end()));
  file.read(bytes.data(), bytes.size(), 0);
  start.header = parse_text(bytes.data(), extent, max_header_size);
}

}  // namespace detail

/// Reads the header of an .npy file, and nothing else. Safe from any thread.
/// Throws Error: NotFound, Io, and what parse_header() throws.
inline Header read_header(const std::filesystem::path& path,
                          std::uint64_t max_header_size = kMaxHeaderSize) {
  return detail::with_path(path, [&] {
    const detail::File file(path);
    detail::FileStart start;
    detail::read_start(file, max_header_size, start);
    return std::move(start.header);
  });
}

}  // namespace torch_npy

#endif  // TORCH_NPY_FILE_HPP_
