#ifndef TORCH_NPY_ZIP_CODEC_HPP_
#define TORCH_NPY_ZIP_CODEC_HPP_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include <torch_npy/error.hpp>

// The algorithms that zip archives take: CRC-32, and deflate where there is libdeflate.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// CRC-32 by tables, 16 bytes at a time. LibTorch exports none, and stored archives are to work
/// with LibTorch alone. On one processor 4 GB/s (with 8 tables 2.4); libdeflate does 14.
struct CrcTables {
  static constexpr std::size_t kCount = 16;
  std::array<std::array<std::uint32_t, 256>, kCount> of{};

  constexpr CrcTables() {
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

inline constexpr CrcTables kCrcTables;

/// One step: the bytes at `at`, of which the first four carry what came before.
template <std::size_t... I>
std::uint32_t crc32_step(std::uint32_t crc, const unsigned char* at, std::index_sequence<I...>) {
  return (kCrcTables.of[sizeof...(I) - 1 - I][at[I] ^ (I < 4 ? crc >> 8 * (I % 4) & 0xff : 0)] ^
          ...);
}

inline std::uint32_t crc32_by_tables(std::uint32_t crc, const void* data, std::size_t size) {
  constexpr std::size_t kStep = CrcTables::kCount;
  const auto* at = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (; size >= kStep; at += kStep, size -= kStep) {
    crc = crc32_step(crc, at, std::make_index_sequence<kStep>());
  }
  for (; size != 0; ++at, --size) crc = crc >> 8 ^ kCrcTables.of[0][(crc ^ *at) & 0xff];
  return ~crc;
}

/// What a deflate stream gave.
enum class Inflated { Whole, TooMuch, Damaged };

/// The algorithms of zip. Without libdeflate there is a CRC, for stored members, and nothing else.
struct ZipCodec {
  /// Goes on from `crc`, which is 0 at first.
  std::uint32_t (*crc32)(std::uint32_t crc, const void* data, std::size_t size);
  /// Fills `out` from a deflate stream; in_size and out_size become what was used of them. TooMuch:
  /// the stream has more than `out` takes.
  Inflated (*inflate)(const void* in, std::size_t& in_size, void* out, std::size_t& out_size);
  /// A deflate stream of `size` bytes at `data`; empty where it would not be smaller.
  std::string (*deflate)(const void* data, std::size_t size);
};

/// deflate.hpp puts libdeflate's here. Whoever includes it does so for the whole program: source
/// files compiled with and without it may meet in one.
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
