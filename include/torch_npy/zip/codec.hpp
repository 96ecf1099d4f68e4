#ifndef TORCH_NPY_ZIP_CODEC_HPP_
#define TORCH_NPY_ZIP_CODEC_HPP_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/crc.hpp>

// The algorithms of zip archives: CRC-32, and deflate if the program is built with libdeflate.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The result of unpacking: complete, more data than the output can hold, or a damaged stream.
enum class Inflated { Whole, TooMuch, Damaged };

/// The algorithms in use. Without libdeflate only crc32 is set, which is enough for stored members.
struct ZipCodec {
  /// Continues from `crc`, which is 0 at first.
  std::uint32_t (*crc32)(std::uint32_t crc, const void* data, std::size_t size);
  /// Unpacks a deflate stream into `out`. Sets in_size and out_size to the bytes used of each.
  /// TooMuch: `out` is too small for the stream.
  Inflated (*inflate)(const void* in, std::size_t& in_size, void* out, std::size_t& out_size);
  /// Deflates the `size` bytes at `data`. Returns an empty string if the result is not smaller.
  std::string (*deflate)(const void* data, std::size_t size);
};

/// The codec of the whole program. deflate.hpp sets it to libdeflate: one program may contain
/// source files compiled with and without it.
inline std::atomic<const ZipCodec*>& zip_codec() {
  static constexpr ZipCodec without_libdeflate{&crc32, nullptr, nullptr};
  static std::atomic<const ZipCodec*> codec{&without_libdeflate};
  return codec;
}

[[noreturn]] inline void throw_no_deflate() {
  throw Error(ErrorCode::InvalidArgument,
              "this program is built without libdeflate: link torch_npy::npz, or define "
              "TORCH_NPY_WITH_LIBDEFLATE and link libdeflate");
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_CODEC_HPP_
