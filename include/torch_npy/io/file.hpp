#ifndef TORCH_NPY_IO_FILE_HPP_
#define TORCH_NPY_IO_FILE_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/system_posix.hpp>
#include <torch_npy/io/system_windows.hpp>
#include <torch_npy/text.hpp>

// Files that are read and mapped. What fails here throws an Error without a path; the callers, who
// know the path, add it.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Refuses paths that the system would take for others.
inline void require_path(const std::filesystem::path& path) {
  if (path.empty()) throw Error(ErrorCode::NotFound, "the path is empty");
  if (path.native().find('\0') != std::filesystem::path::string_type::npos) {
    throw Error(ErrorCode::InvalidArgument, "the path holds a zero byte");
  }
}

/// Bytes of one call: Linux moves at most 2^31 - 4096, macOS refuses more than 2^31 - 1, and
/// Windows counts with 32 bits.
constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;

/// A file, open for reading: a regular one, as shows when it is read or asked for its size. Reading
/// from several threads at once is fine.
class File {
 public:
  explicit File(const std::filesystem::path& path)
      : file_(open_to_read((require_path(path), path))) {}

  /// `name` is relative to an open folder.
  File(const char* name, const OpenFolder& folder) : file_(open_to_read(name, folder)) {}

  /// Bytes of the file at this moment.
  std::uint64_t size() const { return size_of(file_); }

  /// Reads up to `size` bytes from byte `offset` on, in one call; 0 at the end.
  std::size_t read_some(void* out, std::size_t size, std::uint64_t offset) const {
    const std::ptrdiff_t got = read_at(file_, out, (std::min)(size, kMostAtOnce), offset);
    if (got >= 0) return static_cast<std::size_t>(got);
    const int number = last_error();
    (void)this->size();  // says so if this is no regular file
    throw_system_error("cannot read at byte " + std::to_string(offset), number, offset);
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
    const std::ptrdiff_t got = detail::read_split(file_, head, head_size, body, body_size);
    return got < 0 ? 0 : static_cast<std::size_t>(got);
  }

  const Descriptor& descriptor() const noexcept { return file_; }

  /// Where its first byte stands in itself: what a FilePart is asked, too.
  std::uint64_t begin() const noexcept { return 0; }

 protected:
  explicit File(Descriptor file) : file_(std::move(file)) {}

  Descriptor file_;
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
  const Descriptor& descriptor() const noexcept { return file_.descriptor(); }

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
    if (size_ != 0) unmap(base_, size_);
  }

  /// Maps bytes [offset, offset + size) of `file`, or of a part of one, copy-on-write: what is
  /// written to the memory never reaches the file. Reads nothing yet. `size` is not 0.
  template <class Source>
  static Mapping of(const Source& file, std::uint64_t offset, std::size_t size) {
    offset += file.begin();
    const auto lead = static_cast<std::size_t>(offset % mapping_alignment());
    void* const base = map(file.descriptor(), offset - lead, size + lead);
    if (base == nullptr) {
      throw_system_error("cannot map " + counted(size, "byte"), last_error(), offset);
    }
    return Mapping(base, size + lead, lead);
  }

  void* data() const noexcept { return static_cast<char*>(base_) + lead_; }

 private:
  void* base_;
  std::size_t size_;
  std::size_t lead_;
};

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

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FILE_HPP_
