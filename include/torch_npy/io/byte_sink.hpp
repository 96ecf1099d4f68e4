#ifndef TORCH_NPY_IO_BYTE_SINK_HPP_
#define TORCH_NPY_IO_BYTE_SINK_HPP_

#include <cstddef>
#include <exception>
#include <new>
#include <ostream>
#include <string>

#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

// What bytes are written to, one after another.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A file or a stream that is being written.
class ByteSink {
 public:
  /// Writes all of the bytes after those before them. Throws Error (Io, Exhausted).
  virtual void write(const void* data, std::size_t size) = 0;

 protected:
  ByteSink() = default;
  ByteSink(const ByteSink&) = default;
  ByteSink& operator=(const ByteSink&) = default;
  ~ByteSink() = default;
};

/// A stream from its current position on. It outlives the sink.
class StreamSink final : public ByteSink {
 public:
  /// Throws Error (Io) if the stream cannot be written to.
  explicit StreamSink(std::ostream& stream) : stream_(stream) {
    if (!stream || stream.rdbuf() == nullptr) throw not_writable();
  }

  /// To the buffer directly: the stream's own write() would throw what its exceptions() mask says.
  void write(const void* data, std::size_t size) override {
    const auto length = static_cast<std::streamsize>(size);
    bool is_written = false;
    try {
      is_written = stream_.rdbuf()->sputn(static_cast<const char*>(data), length) == length;
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      throw Error(ErrorCode::Io, std::string("the stream cannot be written to: ") + error.what());
    }
    if (!is_written) throw not_writable();
  }

 private:
  static Error not_writable() {
    return Error(
        ErrorCode::Io,
        "the stream cannot be written to: check that the file is open and that the disk is "
        "not full");
  }

  std::ostream& stream_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_BYTE_SINK_HPP_
