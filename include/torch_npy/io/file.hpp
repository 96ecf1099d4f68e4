#ifndef TORCH_NPY_IO_FILE_HPP_
#define TORCH_NPY_IO_FILE_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/system_posix.hpp>
#include <torch_npy/io/system_windows.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Files that are read and mapped. An Error thrown here has no path; the callers, who know it, add
// it.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Refuses the URI of an object, which is no path: "s3://bucket/x.npy".
inline void require_no_uri(const std::filesystem::path& path) {
  constexpr std::size_t kLongestScheme = 8;
  const auto& text = path.native();
  const std::size_t colon = text.find(':');
  if (colon == text.npos || colon < 2 || colon > kLongestScheme || text.size() < colon + 3 ||
      text[colon + 1] != '/' || text[colon + 2] != '/') {
    return;
  }
  throw Error(ErrorCode::NotFound,
              "this is a URI, not a path: make a torch_npy::arrow::Store of it, which the datasets "
              "take, and open(store, name)");
}

/// Refuses paths that the system would take for others.
inline void require_path(const std::filesystem::path& path) {
  if (path.empty()) throw Error(ErrorCode::NotFound, "the path is empty");
  if (path.native().find('\0') != std::filesystem::path::string_type::npos) {
    throw Error(ErrorCode::InvalidArgument, "the path contains a zero byte");
  }
  require_no_uri(path);
}

/// Bytes of one call: Linux moves at most 2^31 - 4096, macOS refuses more than 2^31 - 1, and
/// Windows counts with 32 bits.
constexpr std::size_t kMaxCallSize = std::size_t{1} << 30;

/// A file, open for reading. That it is a regular one shows when it is read, or asked for its size.
/// It has no name: a copy of the path would cost more than opening a file that was just listed.
class File : public ByteSource {
 public:
  explicit File(const std::filesystem::path& path)
      : file_(open_to_read((require_path(path), path))) {}

  /// `name` is relative to an open folder.
  File(const char* name, const OpenFolder& folder) : file_(open_to_read(name, folder)) {}

  /// Size of the file at this moment.
  std::uint64_t size() const override { return size_of(file_); }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    const std::ptrdiff_t got = read_at(file_, out, (std::min)(size, kMaxCallSize), offset);
    if (got >= 0) return static_cast<std::size_t>(got);
    const int number = last_error();
    (void)this->size();  // a clearer Error if this is not a regular file
    throw_system_error("cannot read at byte " + std::to_string(offset), number, offset);
  }

  std::string name() const override { return {}; }

  SourceTraits internal_traits() const override {
    return {false, false, {&file_, 0}, nullptr, false};
  }

  /// Reads from the start of the file, first into `head`, then into `body`, in one call. Returns
  /// the number of bytes read, which may be less for any reason, failure included.
  std::size_t read_split(void* head, std::size_t head_size, void* body,
                         std::size_t body_size) const {
    const std::ptrdiff_t got = detail::read_split(file_, head, head_size, body, body_size);
    return got < 0 ? 0 : static_cast<std::size_t>(got);
  }

 protected:
  explicit File(Descriptor file) : file_(std::move(file)) {}

  Descriptor file_;
};

/// A file that knows its path.
class NamedFile final : public File {
 public:
  explicit NamedFile(const std::filesystem::path& path) : File(path), path_(path) {}

  std::string name() const override { return utf8_of(path_); }
  std::string version() const override { return version_of(file_); }

 private:
  std::filesystem::path path_;
};

/// Owns a range of mapped memory.
class Mapping {
 public:
  /// `lead` bytes before the requested range are mapped too: a mapping starts at a page.
  Mapping(void* base, std::size_t size, std::size_t lead = 0) noexcept
      : base_(base), size_(size), lead_(lead) {}
  Mapping(Mapping&& other) noexcept
      : base_(other.base_), size_(std::exchange(other.size_, 0)), lead_(other.lead_) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (size_ != 0) unmap(base_, size_);
  }

  /// Maps bytes [offset, offset + size) of a range copy-on-write: what is written to the memory
  /// never reaches the file. Reads nothing yet. `size` is not 0.
  static Mapping of(const FileRange& range, std::uint64_t offset, std::size_t size) {
    offset += range.begin;
    const auto lead = static_cast<std::size_t>(offset % mapping_alignment());
    void* const base = map(*range.file, offset - lead, size + lead);
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

/// Fresh memory costs a page fault every 4 KiB, several times what copying into it costs. From this
/// size on huge pages are asked for, as NumPy does.
constexpr std::size_t kHugePagesFrom = std::size_t{4} << 20;

/// A buffer of `size` bytes, aligned as LibTorch aligns tensors, in huge pages if it is large.
/// Throws Error (OutOfMemory).
inline std::shared_ptr<char> allocate_buffer(std::uint64_t size) {
  constexpr std::align_val_t kAlignment{64};
  const auto free = [](char* memory) { ::operator delete(memory, kAlignment); };
  try {
    if (size <= PTRDIFF_MAX) {
      const auto bytes = static_cast<std::size_t>(size);
      std::shared_ptr<char> buffer(static_cast<char*>(::operator new(bytes, kAlignment)), free);
      if (bytes >= kHugePagesFrom) advise_huge_pages(buffer.get(), bytes);
      return buffer;
    }
  } catch (const std::bad_alloc&) {
  }
  throw Error(ErrorCode::OutOfMemory, "out of memory for " + counted(size, "byte"));
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FILE_HPP_
