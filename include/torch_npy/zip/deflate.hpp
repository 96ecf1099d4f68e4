#ifndef TORCH_NPY_ZIP_DEFLATE_HPP_
#define TORCH_NPY_ZIP_DEFLATE_HPP_

// The codec from libdeflate, for programs that link it. CMake's torch_npy::npz links it and defines
// TORCH_NPY_WITH_LIBDEFLATE; without that macro this header is empty.

#ifdef TORCH_NPY_WITH_LIBDEFLATE
#include <libdeflate.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <string>

#include <torch_npy/version.hpp>
#include <torch_npy/zip/codec.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

inline std::uint32_t libdeflate_crc(std::uint32_t crc, const void* data, std::size_t size) {
  return size == 0
             ? crc
             : ::libdeflate_crc32(crc, data, size);  // libdeflate restarts at 0 if there is no data
}

inline Inflated libdeflate_inflate(const void* in, std::size_t& in_size, void* out,
                                   std::size_t& out_size) {
  // One per thread: creating one takes as long as inflating some hundred bytes.
  thread_local const std::unique_ptr<libdeflate_decompressor, void (*)(libdeflate_decompressor*)>
      decompressor(::libdeflate_alloc_decompressor(), &::libdeflate_free_decompressor);
  if (decompressor == nullptr) throw std::bad_alloc();
  switch (::libdeflate_deflate_decompress_ex(decompressor.get(), in, in_size, out, out_size,
                                             &in_size, &out_size)) {
    case LIBDEFLATE_SUCCESS: return Inflated::Whole;
    case LIBDEFLATE_INSUFFICIENT_SPACE: return Inflated::TooMuch;
    default: return Inflated::Damaged;
  }
}

inline std::string libdeflate_deflate(const void* data, std::size_t size) {
  constexpr int kLevel = 6;  // zlib's default, which NumPy uses
  // One per thread: creating one takes far longer than deflating a small array.
  thread_local const std::unique_ptr<libdeflate_compressor, void (*)(libdeflate_compressor*)>
      compressor(::libdeflate_alloc_compressor(kLevel), &::libdeflate_free_compressor);
  if (compressor == nullptr) throw std::bad_alloc();
  std::string out(size, '\0');
  out.resize(::libdeflate_deflate_compress(compressor.get(), data, size, out.data(), size));
  return out;
}

inline bool use_libdeflate() noexcept {
  static constexpr ZipCodec codec{&libdeflate_crc, &libdeflate_inflate, &libdeflate_deflate};
  zip_codec() = &codec;
  return true;
}

namespace {
[[maybe_unused]] const bool uses_libdeflate = use_libdeflate();
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE
#endif  // TORCH_NPY_WITH_LIBDEFLATE

#endif  // TORCH_NPY_ZIP_DEFLATE_HPP_
