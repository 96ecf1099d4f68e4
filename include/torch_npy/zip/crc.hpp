#ifndef TORCH_NPY_ZIP_CRC_HPP_
#define TORCH_NPY_ZIP_CRC_HPP_

#include <cstddef>
#include <cstdint>
#include <utility>

#include <torch_npy/version.hpp>

#if defined(__x86_64__) && defined(__GNUC__)
#include <wmmintrin.h>
#define TORCH_NPY_HAS_CLMUL
#endif

// CRC-32 of zip archives. LibTorch exports none, and stored archives must work with LibTorch alone.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Tables for CRC-32, 16 bytes at a time. Computed by the program: as constants they would take the
/// compiler much memory.
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

#ifdef TORCH_NPY_HAS_CLMUL
inline __m128i load_128_bits(const unsigned char* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}

/// `part`, which is as many bits before `next` as `by` is for, is added to `next`.
__attribute__((target("pclmul"))) inline __m128i crc32_fold(__m128i part, __m128i by,
                                                            __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(part, by, 0x00);
  const __m128i high = _mm_clmulepi64_si128(part, by, 0x11);
  return _mm_xor_si128(next, _mm_xor_si128(low, high));
}

/// CRC-32 by carry-less multiplication, several times as fast: "Fast CRC Computation for Generic
/// Polynomials Using PCLMULQDQ Instruction", Intel, 2009. Reduces `data` to 16 bytes that have the
/// same CRC.
__attribute__((target("pclmul"))) inline std::uint32_t crc32_by_clmul(std::uint32_t crc,
                                                                      const void* data,
                                                                      std::size_t size) {
  constexpr std::size_t kStep = 64;
  if (size < 2 * kStep) return crc32_by_tables(crc, data, size);
  // Powers of x modulo the polynomial, with their bits reversed, for steps of 512 and 128 bits.
  const __m128i by_512_bits = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
  const __m128i by_128_bits = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
  const auto* at = static_cast<const unsigned char*>(data);
  __m128i a = _mm_xor_si128(load_128_bits(at), _mm_cvtsi32_si128(static_cast<int>(~crc)));
  __m128i b = load_128_bits(at + 16);
  __m128i c = load_128_bits(at + 32);
  __m128i d = load_128_bits(at + 48);
  for (at += kStep, size -= kStep; size >= kStep; at += kStep, size -= kStep) {
    a = crc32_fold(a, by_512_bits, load_128_bits(at));
    b = crc32_fold(b, by_512_bits, load_128_bits(at + 16));
    c = crc32_fold(c, by_512_bits, load_128_bits(at + 32));
    d = crc32_fold(d, by_512_bits, load_128_bits(at + 48));
  }
  b = crc32_fold(a, by_128_bits, b);
  c = crc32_fold(b, by_128_bits, c);
  d = crc32_fold(c, by_128_bits, d);
  unsigned char rest[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(rest), d);
  return crc32_by_tables(crc32_by_tables(~std::uint32_t{0}, rest, sizeof rest), at, size);
}

inline std::uint32_t crc32(std::uint32_t crc, const void* data, std::size_t size) {
  static const auto compute =
      __builtin_cpu_supports("pclmul") != 0 ? &crc32_by_clmul : &crc32_by_tables;
  return compute(crc, data, size);
}
#else
inline std::uint32_t crc32(std::uint32_t crc, const void* data, std::size_t size) {
  return crc32_by_tables(crc, data, size);
}
#endif
#undef TORCH_NPY_HAS_CLMUL

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_CRC_HPP_
