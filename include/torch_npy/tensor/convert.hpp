#ifndef TORCH_NPY_TENSOR_CONVERT_HPP_
#define TORCH_NPY_TENSOR_CONVERT_HPP_

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The number of bytes to swap as one unit: each half of a complex number is one. 1 if there is
/// nothing to swap.
inline std::size_t swap_unit(const DType& dtype) {
  if (!dtype.is_swapped()) return 1;
  return static_cast<std::size_t>(dtype.kind == 'c' ? dtype.item_size / 2 : dtype.item_size);
}

/// Reverses the bytes of every unit of 2, 4, 8 or 16 bytes, eight bytes at a time: swaps
/// neighboring bytes, then pairs of bytes, then halves. Compilers turn this into vector code or
/// bswap.
inline void swap_bytes(void* data, std::size_t size, std::size_t unit) {
  if (unit == 1) return;
  if (unit > sizeof(std::uint64_t)) {
    for (char* item = static_cast<char*>(data); size != 0; item += unit, size -= unit) {
      std::reverse(item, item + unit);
    }
    return;
  }
  const auto swapped = [unit](std::uint64_t word) {
    constexpr std::uint64_t kBytes = 0x00ff00ff00ff00ff;
    constexpr std::uint64_t kPairs = 0x0000ffff0000ffff;
    word = (word & kBytes) << 8 | (word >> 8 & kBytes);
    if (unit > 2) word = (word & kPairs) << 16 | (word >> 16 & kPairs);
    if (unit > 4) word = word << 32 | word >> 32;
    return word;
  };
  char* at = static_cast<char*>(data);
  std::uint64_t word = 0;
  for (; size >= sizeof word; at += sizeof word, size -= sizeof word) {
    std::memcpy(&word, at, sizeof word);
    word = swapped(word);
    std::memcpy(at, &word, sizeof word);
  }
  // The rest consists of whole units, because a unit divides a word.
  std::memcpy(&word, at, size);
  word = swapped(word);
  std::memcpy(at, &word, size);
}

/// The largest unsigned integer that an element of `type` can hold. No limit for bool, and for the
/// floating-point types that round any integer.
inline std::uint64_t largest_integer(c10::ScalarType type) {
  switch (type) {
    case c10::ScalarType::Char: return INT8_MAX;
    case c10::ScalarType::Byte: return UINT8_MAX;
    case c10::ScalarType::Short: return INT16_MAX;
    case c10::ScalarType::Int: return INT32_MAX;
    case c10::ScalarType::Long: return INT64_MAX;
    case c10::ScalarType::Half:
    case c10::ScalarType::ComplexHalf:
      return 65519;  // rounds to the largest value, 65504; 65520 becomes inf
#if TORCH_NPY_TORCH_AT_LEAST(2, 3)
    case c10::ScalarType::UInt16: return UINT16_MAX;
    case c10::ScalarType::UInt32: return UINT32_MAX;
#endif
    default: return UINT64_MAX;
  }
}

[[noreturn]] inline void throw_does_not_fit(std::uint64_t value, std::uint64_t largest) {
  const char* const wider = value > INT64_MAX   ? "; a float64 tensor holds it, rounded"
                            : value > INT32_MAX ? "; an int64 tensor holds it"
                                                : "; an int32 tensor holds it";
  throw Error(ErrorCode::Mismatch,
              "the value " + std::to_string(value) +
                  " does not fit in the requested dtype, whose largest value is " +
                  std::to_string(largest) + wider);
}

/// Converts unsigned integers, and throws Error (Mismatch) for a value over `largest`. LibTorch
/// before 2.3 has no dtype for them, and no LibTorch checks such conversions.
template <class From, class To>
void widen(const void* in, To* out, std::size_t count, std::uint64_t largest) {
  const char* const from = static_cast<const char*>(in);
  const auto value_at = [from](std::size_t i) {
    From value;
    std::memcpy(&value, from + i * sizeof value, sizeof value);
    return value;
  };
  // In a loop of its own, so that compilers turn the other one into vector code.
  if (largest < (std::numeric_limits<From>::max)()) {
    for (std::size_t i = 0; i < count; ++i) {
      if (value_at(i) > largest) throw_does_not_fit(value_at(i), largest);
    }
  }
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<To>(value_at(i));
}

template <class To>
void widen(const void* in, std::int64_t item_size, To* out, std::size_t count,
           std::uint64_t largest) {
  switch (item_size) {
    case 2: return widen<std::uint16_t>(in, out, count, largest);
    case 4: return widen<std::uint32_t>(in, out, count, largest);
    default: return widen<std::uint64_t>(in, out, count, largest);
  }
}

/// Converts long doubles, two of them for each complex element, as C++ does, which is what NumPy
/// does. The imaginary part is lost, or 0, if only one side is complex.
template <class To>
void round_long_double(const void* in, bool from_complex, To* out, bool to_complex,
                       std::size_t count) {
  const char* from = static_cast<const char*>(in);
  const auto next = [&from] {
    long double value;
    std::memcpy(&value, from, sizeof value);
    from += sizeof value;
    return static_cast<To>(value);
  };
  for (; count != 0; --count) {
    *out++ = next();
    const To imaginary = from_complex ? next() : To{0};
    if (to_complex) *out++ = imaginary;
  }
}

/// Elements per block of a conversion: few enough that ATen starts no threads for it, because the
/// caller may be one of several threads.
constexpr std::size_t kConvertBlock = 16384;

/// Converts `count` elements, at most kConvertBlock, as Tensor::to() does. Unsigned integers of 2
/// to 8 bytes are checked: a value that does not fit throws Error (Mismatch). `in` is in native
/// byte order and has the type `stored`; if that does not exist in this LibTorch, `dtype`. Long
/// doubles become float, double or a complex number of them.
inline void convert(const void* in, const DType& dtype, c10::ScalarType stored, void* out,
                    c10::ScalarType type, std::size_t count) {
  const auto copy = [count, out, type](const void* from, c10::ScalarType from_type) {
    const auto size = static_cast<std::int64_t>(count);
    try {
      at::from_blob(out, {size}, type)
          .copy_(at::from_blob(const_cast<void*>(from), {size}, from_type));
    } catch (const c10::Error&) {
      throw Error(ErrorCode::UnsupportedDtype, std::string("LibTorch does not convert ") +
                                                   c10::toString(from_type) + " to " +
                                                   c10::toString(type));
    }
  };
  if (is_long_double(dtype)) {
    const bool from_complex = dtype.kind == 'c';
    const bool to_complex = c10::isComplexType(type);
    return c10::toRealValueType(type) == c10::ScalarType::Double
               ? round_long_double(in, from_complex, static_cast<double*>(out), to_complex, count)
               : round_long_double(in, from_complex, static_cast<float*>(out), to_complex, count);
  }
  // void_as() may have declared raw items to be unsigned integers.
  const auto stored_dtype = dtype_of(stored);
  if (!is_wide_unsigned(dtype) && !(stored_dtype && is_wide_unsigned(*stored_dtype))) {
    return copy(in, stored);
  }
  const auto widened = [&](auto* to) {
    widen(in, dtype.item_size, to, count, largest_integer(type));
  };
  if (type == c10::ScalarType::Long) return widened(static_cast<std::int64_t*>(out));
  if (type == c10::ScalarType::Float) return widened(static_cast<float*>(out));
  if (type == c10::ScalarType::Double) return widened(static_cast<double*>(out));
  const auto by_way_of = [&](auto element, c10::ScalarType way) {
    const std::shared_ptr<char> wide = allocate_buffer(count * sizeof element);
    widened(reinterpret_cast<decltype(element)*>(wide.get()));
    copy(wide.get(), way);
  };
  // By way of float or double, as in Tensor::to().
  if (type == c10::ScalarType::ComplexDouble) return by_way_of(double{}, c10::ScalarType::Double);
  if (c10::isFloatingType(type) || c10::isComplexType(type)) {
    return by_way_of(float{}, c10::ScalarType::Float);
  }
  by_way_of(std::int64_t{}, c10::ScalarType::Long);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_CONVERT_HPP_
