#ifndef TORCH_NPY_ZIP_CODEC_HPP_
#define TORCH_NPY_ZIP_CODEC_HPP_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <torch_npy/error.hpp>

// The algorithms of zip archives: CRC-32, and deflate if the program is built with libdeflate.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Tables for CRC-32, 16 bytes at a time. LibTorch exports no CRC-32, and stored archives must work
/// with LibTorch alone. Computed by the program: as constants they would take the compiler much
/// memory.
struct CrcTables {
  static constexpr std::size_t kCount = 16;
  std::uint32_t of[kCount][256];

  CrcTables() {
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      std::uint32_t crc = byte;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320 : 0);
      of[0][byte] = crc;
    }
    for (std::size_t table = 1; table < kCount; ++table) {
      for (std::size_t byte = 0; byte < 256; ++byte) {
        const std::uint32_t crc = of[table - 1][byte];
        of[table][byte] = crc >> 8 ^ of[0][crc & 0xff];
      }
    }
  }
};

/// One step over the bytes at `at`. The first four are combined with the CRC so far.
template <std::size_t... I>
std::uint32_t crc32_step(const CrcTables& tables, std::uint32_t crc, const unsigned char* at,
                         std::index_sequence<I...>) {
  return (tables.of[sizeof...(I) - 1 - I][at[I] ^ (I < 4 ? crc >> 8 * (I % 4) & 0xff : 0)] ^ ...);
}

inline std::uint32_t crc32_by_tables(std::uint32_t crc, const void* data, std::size_t size) {
  static const CrcTables tables;
  constexpr std::size_t kStep = CrcTables::kCount;
  const auto* at = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (; size >= kStep; at += kStep, size -= kStep) {
    crc = crc32_step(tables, crc, at, std::make_index_sequence<kStep>());
  }
  for (; size != 0; ++at, --size) crc = crc >> 8 ^ tables.of[0][(crc ^ *at) & 0xff];
  return ~crc;
}

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
  static constexpr ZipCodec without_libdeflate{&crc32_by_tables, nullptr, nullptr};
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
