#ifndef TORCH_NPY_FORMAT_LITTLE_ENDIAN_HPP_
#define TORCH_NPY_FORMAT_LITTLE_ENDIAN_HPP_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include <torch_npy/version.hpp>

// Little-endian numbers, as .npy headers and zip records store them.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// An unsigned number of `size` bytes, at most 8.
inline std::uint64_t little_endian(const unsigned char* bytes, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

struct SizedNumber {
  std::uint64_t value;
  std::size_t size;  ///< bytes
};

/// Appends each number in `size` bytes, at most 8.
inline void append_little_endian(std::string& out, std::initializer_list<SizedNumber> numbers) {
  for (auto [value, size] : numbers) {
    for (; size-- > 0; value >>= 8) out += static_cast<char>(value & 0xff);
  }
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_LITTLE_ENDIAN_HPP_
