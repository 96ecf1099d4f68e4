#ifndef TORCH_NPY_IO_BYTE_SOURCE_HPP_
#define TORCH_NPY_IO_BYTE_SOURCE_HPP_

/// @file
/// ByteSource: where the bytes of an array or an archive are read from.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/system_posix.hpp>
#include <torch_npy/io/system_windows.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Size of the first read of any array: all of a small array, and the header of any other.
constexpr std::size_t kFirstRead = 16384;

/// The first bytes of a source, which were read to know its header.
struct FirstBytes {
  std::size_t size = 0;
  // Not initialized: clearing it would cost more than parsing a header. Aligned to the cache lines,
  // which makes reading into it faster.
  alignas(64) unsigned char data[kFirstRead];
  FirstBytes() {}  // NOLINT(modernize-use-equals-default)
};

/// The position of a source in an open file.
struct FileRange {
  const Descriptor* file = nullptr;
  std::uint64_t begin = 0;
};

/// What this library knows of its own sources.
struct SourceTraits {
  /// Bytes can only be read in order, by one thread.
  bool is_sequential = false;
  /// Bytes are compressed: ByteSource::unpacked() has all of them.
  bool is_packed = false;
  /// Where the bytes are in a file that can be mapped.
  FileRange range;
  /// Where the bytes are in memory.
  const char* data = nullptr;
  /// Each read() waits for a store: few large ones are better than many small ones.
  bool is_remote = false;
};

}  // namespace detail

/// A range of a source for ByteSource::read_many().
struct ByteRange {
  void* out = nullptr;       ///< receives the bytes
  std::size_t size = 0;      ///< in bytes
  std::uint64_t offset = 0;  ///< of the first byte in the source
};

/// Where bytes are stored: a file, part of a file, memory, a stream, a member of an archive, or
/// anything for which a program implements this class. open(), NpzFile and everything on them work
/// on any ByteSource.
///
/// An implementation defines size(), read() and name(). They are called from several threads at
/// once. They report a failure by throwing an Error, for instance with the code Io; an Error
/// without a path gets name() as its path. Other exceptions are passed on as they are.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  /// Total number of bytes. Not called if the first read() already shows that the array is
  /// complete.
  virtual std::uint64_t size() const = 0;

  /// Reads up to `size` bytes from byte `offset` on into `out` and returns their number, as
  /// pread(2) does. It may be less than `size`, and is 0 only at the end of the source.
  virtual std::size_t read(void* out, std::size_t size, std::uint64_t offset) const = 0;

  /// Reads all of the ranges, and throws Error (Truncated) if the source ends before the end of
  /// one. The default reads one after another. Override it if several reads can be under way at
  /// once, or close ranges can be joined.
  virtual void read_many(const std::vector<ByteRange>& ranges) const {
    for (const ByteRange& range : ranges) read_fully(range.out, range.size, range.offset);
  }

  /// Name for messages, in UTF-8: a path or a URI. Empty for memory and streams.
  virtual std::string name() const = 0;

  /// Identifies the content: size and time of modification, or an entity tag. A StoredArray refuses
  /// to load from a source whose version has changed since open(). Empty if it is not known.
  virtual std::string version() const { return {}; }

  /// Reads exactly `size` bytes from byte `offset` on. Throws Error (Truncated) if the source ends
  /// before that, and what read() throws.
  void read_fully(void* out, std::size_t size, std::uint64_t offset) const {
    const std::size_t got = read_available(out, size, offset);
    if (got == size) return;
    const std::uint64_t end = offset + got;
    throw Error(ErrorCode::Truncated,
                "data cut short: the source ends at byte " + std::to_string(end) + ", " +
                    detail::counted(size - got, "byte") + " before the end of what is being read",
                end);
  }

  /// Reads up to `size` bytes from byte `offset` on, with as many calls of read() as that takes,
  /// and returns their number, which is less than `size` only if the source ends there. Throws what
  /// read() throws, and Error (Io) if that returns more than it was asked for.
  std::size_t read_available(void* out, std::size_t size, std::uint64_t offset) const {
    std::size_t done = 0;
    while (done != size) {
      const std::size_t got = read(static_cast<char*>(out) + done, size - done, offset + done);
      if (got == 0) break;
      require_count(got, size - done);
      done += got;
    }
    return done;
  }

  /// Throws Error (Io) if read() returned more than it was asked for. @private
  static void require_count(std::size_t got, std::size_t asked) {
    if (got <= asked) return;
    throw Error(ErrorCode::Io, "the read() of a ByteSource returned " + std::to_string(got) +
                                   ", it was asked for " + detail::counted(asked, "byte"));
  }

  // The rest is for the sources of this library. A program's own source leaves it as it is.

  /// What is known of this source. @private
  virtual detail::SourceTraits internal_traits() const { return {}; }

  /// The source to load an array from, if that is not this one: a member of an archive, unpacked or
  /// checked. `first` are the first bytes of this source, and outlive the result. `whole`: all of
  /// the array will be read, in order. @private
  virtual std::shared_ptr<const ByteSource> internal_unpacked(const detail::FirstBytes& /*first*/,
                                                              bool /*whole*/) const {
    return nullptr;
  }

  /// Owner of the memory that the bytes are in, for a tensor over it; null if there is none.
  /// @private
  virtual std::shared_ptr<char> internal_memory() const { return nullptr; }

  /// Called after an array, which ends at byte `end`, has been read in order. @private
  virtual void internal_finish(std::uint64_t /*end*/) const {}

  /// Throws Error (Io) if the content is no longer that of version(), as far as this source can
  /// know. @private
  virtual void internal_require_unchanged() const {}

 protected:
  ByteSource() = default;
  ByteSource(const ByteSource&) = default;             ///< for derived classes
  ByteSource& operator=(const ByteSource&) = default;  ///< for derived classes
};

namespace detail {

/// `size` bytes from byte `begin` of another source on. They are within that source, which outlives
/// this one.
class SourcePart : public ByteSource {
 public:
  SourcePart(const ByteSource& whole, std::uint64_t begin, std::uint64_t size)
      : whole_(whole), begin_(begin), size_(size) {}
  SourcePart(const ByteSource&&, std::uint64_t, std::uint64_t) = delete;  // it would dangle

  std::uint64_t size() const override { return size_; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    const std::uint64_t left = size_ - (std::min)(offset, size_);
    size = static_cast<std::size_t>(std::min<std::uint64_t>(size, left));
    return size == 0 ? 0 : whole_.read(out, size, begin_ + offset);
  }

  std::string name() const override { return whole_.name(); }
  std::string version() const override { return whole_.version(); }
  void internal_require_unchanged() const override { whole_.internal_require_unchanged(); }

  SourceTraits internal_traits() const override {
    SourceTraits traits = whole_.internal_traits();
    traits.range.begin += begin_;
    if (traits.data != nullptr) traits.data += begin_;
    return traits;
  }

  void read_many(const std::vector<ByteRange>& ranges) const override {
    std::vector<ByteRange> of_whole = ranges;
    for (ByteRange& range : of_whole) {
      if (range.offset > size_ || range.size > size_ - range.offset) {
        return ByteSource::read_many(ranges);  // throws at the end of this part
      }
      range.offset += begin_;
    }
    whole_.read_many(of_whole);
  }

 private:
  const ByteSource& whole_;
  std::uint64_t begin_;
  std::uint64_t size_;
};

/// Memory that outlives this source, or memory of its own.
class MemorySource final : public ByteSource {
 public:
  /// Throws Error (InvalidArgument) for a null pointer.
  MemorySource(const void* data, std::size_t size)
      : data_(static_cast<const char*>(data)), size_(size) {
    if (data != nullptr || size == 0) return;
    throw Error(ErrorCode::InvalidArgument, "the pointer to the bytes is null");
  }
  MemorySource(std::shared_ptr<char> memory, std::size_t size)
      : memory_(std::move(memory)), data_(memory_.get()), size_(size) {}

  std::uint64_t size() const override { return size_; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    const std::size_t left = offset < size_ ? size_ - static_cast<std::size_t>(offset) : 0;
    size = (std::min)(size, left);
    if (size != 0) std::memcpy(out, data_ + offset, size);
    return size;
  }

  std::string name() const override { return {}; }
  std::shared_ptr<char> internal_memory() const override { return memory_; }
  SourceTraits internal_traits() const override { return {false, false, {}, data_, false}; }

 private:
  std::shared_ptr<char> memory_;
  const char* data_;
  std::size_t size_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_BYTE_SOURCE_HPP_
