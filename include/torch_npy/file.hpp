#ifndef TORCH_NPY_FILE_HPP_
#define TORCH_NPY_FILE_HPP_

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/header.hpp>

// What the library asks of the operating system to read and to map files. What fails here throws an
// Error without a path; the callers, who know the path, add it.

namespace torch_npy {
inline namespace TORCH_NPY_VERSION_NAMESPACE {
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

/// Bytes read ahead of knowing anything: a small file whole, the header of any other.
constexpr std::size_t kFirstRead = 16384;

/// The header of an open file, and the bytes of it that were read on the way.
struct FileStart {
  Header header;
  std::size_t size = 0;  ///< bytes in `bytes`, from the start of the file
  // Left as it is: clearing it would cost more than parsing. Out of line with the cache, reading 12
  // KiB into it took 0.1 us of 2.4 longer.
  alignas(64) unsigned char bytes[kFirstRead];
  FileStart() {}  // NOLINT(modernize-use-equals-default)

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

/// @file
/// Headers of files.

/// Reads the header of an .npy file: an open, one read of at most 16 KiB (more only where the
/// header is longer) and a close, whatever the size of the array. That all of its data is there is
/// not looked at. Safe from any thread. Throws Error: NotFound, Io, Exhausted, InvalidArgument (a
/// zero byte in the path), and what parse_header() throws.
inline Header read_header(const std::filesystem::path& path,
                          std::uint64_t max_header_size = kMaxHeaderSize) {
  return detail::with_path(path, [&] {
    const detail::File file(path);
    detail::FileStart start;
    detail::read_start(file, max_header_size, start);
    return std::move(start.header);
  });
}

}  // namespace TORCH_NPY_VERSION_NAMESPACE
}  // namespace torch_npy

#endif  // TORCH_NPY_FILE_HPP_
