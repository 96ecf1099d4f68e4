#ifndef TORCH_NPY_ZIP_ARCHIVE_BYTES_HPP_
#define TORCH_NPY_ZIP_ARCHIVE_BYTES_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/records.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The bytes of an archive, whose end has been read into memory: all of a small archive, and the
/// directory of any other. So opening a small archive and reading its members takes one read().
class ArchiveBytes final : public ByteSource {
 public:
  /// The longest end of an archive in which its end record can be: a comment may follow it.
  static constexpr std::size_t kLongestEnd = kDirectoryEndSize + UINT16_MAX;
  /// An archive of at most this size is read whole.
  static constexpr std::size_t kSmall = std::size_t{128} << 10;

  /// The memory that an archive takes here at most.
  static std::shared_ptr<char> allocate_room() { return allocate_buffer(kSmall); }

  /// Reads into `room`, of allocate_room(), which nothing else uses as long as this object exists;
  /// or if it is null, into memory of its own. Throws Error (Truncated, OutOfMemory), and what the
  /// source throws.
  explicit ArchiveBytes(std::shared_ptr<const ByteSource> source, std::shared_ptr<char> room)
      : source_(std::move(source)), size_(source_->size()), end_(std::move(room)) {
    const std::size_t kept = size_ <= kSmall ? static_cast<std::size_t>(size_) : kLongestEnd;
    if (end_ == nullptr) end_ = allocate_buffer(kept);
    begin_ = size_ - kept;
    source_->read_fully(end_.get(), kept, begin_);
  }

  std::uint64_t size() const override { return size_; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    if (offset < begin_) return source_->read(out, size, offset);
    return end().copy(static_cast<char*>(out), size, static_cast<std::size_t>(offset - begin_));
  }

  std::string name() const override { return source_->name(); }
  std::string version() const override { return source_->version(); }
  void internal_require_unchanged() const override { source_->internal_require_unchanged(); }

  void read_many(const std::vector<ByteRange>& ranges) const override {
    const bool is_before_end = std::all_of(ranges.begin(), ranges.end(), [&](const auto& range) {
      return range.offset + range.size <= begin_;
    });
    is_before_end ? source_->read_many(ranges) : ByteSource::read_many(ranges);
  }

  SourceTraits internal_traits() const override {
    SourceTraits traits = source_->internal_traits();
    if (begin_ == 0) traits.data = end_.get();
    return traits;
  }

  /// The bytes at the end that are in memory.
  std::string_view end() const { return {end_.get(), static_cast<std::size_t>(size_ - begin_)}; }

  /// Bytes [offset, offset + size), if they are in memory; else null.
  const char* kept(std::uint64_t offset, std::uint64_t size) const {
    if (offset < begin_ || offset > size_ || size > size_ - offset) return nullptr;
    return end_.get() + (offset - begin_);
  }

  /// The same bytes; they are read into `room` if they are not in memory. Throws Error (Truncated)
  /// and what the source throws.
  const unsigned char* view(std::uint64_t offset, std::size_t size, std::string& room) const {
    const char* bytes = kept(offset, size);
    if (bytes == nullptr) {
      room.resize(size);
      read_fully(room.data(), size, offset);
      bytes = room.data();
    }
    return reinterpret_cast<const unsigned char*>(bytes);
  }

 private:
  std::shared_ptr<const ByteSource> source_;
  std::uint64_t size_;
  std::uint64_t begin_ = 0;  // of what is in memory
  std::shared_ptr<char> end_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_ARCHIVE_BYTES_HPP_
