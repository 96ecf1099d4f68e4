#ifndef TORCH_NPY_IO_STREAM_HPP_
#define TORCH_NPY_IO_STREAM_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <istream>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A stream, read in order; bytes between two reads are read and discarded. Offsets count from the
/// position of the stream at the beginning. The stream outlives it.
class StreamSource final : public ByteSource {
 public:
  explicit StreamSource(std::istream& stream) : stream_(stream) {
    if (!stream || stream.rdbuf() == nullptr) {
      throw Error(ErrorCode::Io, "the stream cannot be read: was the file opened?");
    }
    size_ = remaining();
  }

  /// UINT64_MAX if the stream cannot tell.
  std::uint64_t size() const override { return size_; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    if (offset < position_) {
      throw Error(ErrorCode::InvalidArgument,
                  "an array in a stream can be loaded once: its bytes have been read");
    }
    char skipped[4096];
    while (position_ < offset) {
      const auto wanted = std::min<std::uint64_t>(sizeof skipped, offset - position_);
      if (take(skipped, static_cast<std::size_t>(wanted)) == 0) {
        throw Error(ErrorCode::Truncated,
                    "data cut short: the stream ends at byte " + std::to_string(position_) +
                        ", before byte " + std::to_string(offset),
                    position_);
      }
    }
    return size == 0 ? 0 : take(out, size);
  }

  std::string name() const override { return {}; }
  SourceTraits internal_traits() const override { return {true, false, {}, nullptr, false}; }

  void internal_finish(std::uint64_t end) const override { (void)read(nullptr, 0, end); }

 private:
  /// The next `size` bytes, or what is left before the end. Read from the buffer directly: the
  /// stream's own read() would throw what its exceptions() mask says.
  std::size_t take(void* out, std::size_t size) const {
    try {
      const auto got =
          stream_.rdbuf()->sgetn(static_cast<char*>(out), static_cast<std::streamsize>(size));
      if (got < 0) throw std::ios_base::failure("the buffer returned a negative count");
      position_ += static_cast<std::uint64_t>(got);
      return static_cast<std::size_t>(got);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      throw Error(ErrorCode::Io, std::string("the stream cannot be read: ") + error.what(),
                  position_);
    }
  }

  /// Bytes from the current position to the end.
  std::uint64_t remaining() const {
    const std::streampos none(-1);
    std::streambuf& buffer = *stream_.rdbuf();
    std::streampos here(none);
    std::streampos end(none);
    try {
      here = buffer.pubseekoff(0, std::ios::cur, std::ios::in);
      if (here != none) end = buffer.pubseekoff(0, std::ios::end, std::ios::in);
      if (end != none && buffer.pubseekpos(here, std::ios::in) == none) {
        throw Error(ErrorCode::Io, "the stream cannot be read: it does not return to its position");
      }
    } catch (const std::ios_base::failure&) {
      return UINT64_MAX;  // how some streams say that they cannot seek
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw Error(ErrorCode::Io, std::string("the stream cannot be read: ") + error.what());
    }
    if (end == none) return UINT64_MAX;
    return end < here ? 0 : static_cast<std::uint64_t>(end - here);
  }

  std::istream& stream_;
  std::uint64_t size_ = 0;
  mutable std::uint64_t position_ = 0;
};

/// The bytes of a stream from its position to its end, in memory. Throws Error (Io, OutOfMemory),
/// and TooLarge if there are more than `max_bytes`.
inline std::shared_ptr<const ByteSource> read_to_end(std::istream& stream,
                                                     std::uint64_t max_bytes) {
  constexpr std::size_t kFirst = std::size_t{64} << 10;
  const StreamSource source(stream);
  const bool is_known = source.size() != UINT64_MAX;
  const auto limit = std::min<std::uint64_t>(max_bytes, PTRDIFF_MAX - 1);
  const auto require_within_limit = [&](std::uint64_t size) {
    if (size <= limit) return;
    throw Error(ErrorCode::TooLarge, "the stream has more than " + counted(limit, "byte") +
                                         ", which is the limit max_bytes");
  };
  if (is_known) require_within_limit(source.size());
  // Not all at once if the size is unknown. realloc() moves large memory without a copy.
  std::shared_ptr<char> memory;
  std::size_t room = is_known ? static_cast<std::size_t>(source.size()) + 1 : kFirst;
  std::size_t size = 0;
  for (std::unique_ptr<char, void (*)(void*)> bytes(nullptr, &std::free);; room += room / 2) {
    char* const grown = static_cast<char*>(std::realloc(bytes.get(), room));
    if (grown == nullptr) {
      throw Error(ErrorCode::OutOfMemory, "out of memory for " + counted(room, "byte"));
    }
    (void)bytes.release();
    bytes.reset(grown);
    size += source.read_available(grown + size, room - size, size);
    require_within_limit(size);
    if (size == room) continue;
    memory = std::move(bytes);
    break;
  }
  if (size == 0) {
    throw Error(ErrorCode::Truncated,
                "empty: the stream is at its end; an archive in a stream is read once, to the end");
  }
  return std::make_shared<const MemorySource>(std::move(memory), size);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_STREAM_HPP_
