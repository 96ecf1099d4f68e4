#ifndef TORCH_NPY_TENSOR_SCALAR_TYPE_HPP_
#define TORCH_NPY_TENSOR_SCALAR_TYPE_HPP_

#include <c10/core/ScalarType.h>
#include <torch/version.h>

#include <cstdint>
#include <optional>

#include <torch_npy/format/dtype.hpp>
#include <torch_npy/version.hpp>

/// @file
/// The LibTorch dtype for each NumPy dtype:
///
///     b1 kBool   i1 kChar   i2 kShort  i4 kInt    i8 kLong   u1 kByte
///     f2 kHalf   f4 kFloat  f8 kDouble c8 kComplexFloat      c16 kComplexDouble
///     u2 kUInt16 u4 kUInt32 u8 kUInt64 (LibTorch 2.3 and later)
///     M8, m8     kLong, in the unit that DType::unit names
///
/// NumPy has no bfloat16 and no float8. The ml_dtypes package stores them as raw items of 2 and 1
/// bytes; LoadOptions::void_as() reads these.

/// True in `#if` if the LibTorch in use has this version or a later one.
// The patch level is not reliable: Debian's 1.13.1 reports 1.13.0.
#define TORCH_NPY_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||            \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The dtype of a tensor with the bits of `dtype` in native byte order; none if this LibTorch has
/// no such dtype.
inline std::optional<c10::ScalarType> scalar_type_of(const DType& dtype) {
  using c10::ScalarType;
  const auto pick = [&](char kind, std::int64_t size) {
    return dtype.kind == kind && dtype.item_size == size;
  };
  if (pick('f', 4)) return ScalarType::Float;
  if (pick('f', 8)) return ScalarType::Double;
  if (pick('f', 2)) return ScalarType::Half;
  if (pick('u', 1)) return ScalarType::Byte;
  if (pick('i', 8) || dtype.kind == 'M' || dtype.kind == 'm') return ScalarType::Long;
  if (pick('i', 4)) return ScalarType::Int;
  if (pick('i', 2)) return ScalarType::Short;
  if (pick('i', 1)) return ScalarType::Char;
  if (pick('b', 1)) return ScalarType::Bool;
  if (pick('c', 8)) return ScalarType::ComplexFloat;
  if (pick('c', 16)) return ScalarType::ComplexDouble;
#if TORCH_NPY_TORCH_AT_LEAST(2, 3)
  if (pick('u', 2)) return ScalarType::UInt16;
  if (pick('u', 4)) return ScalarType::UInt32;
  if (pick('u', 8)) return ScalarType::UInt64;
#endif
  return std::nullopt;
}

/// True for unsigned integers that LibTorch before 2.3 has no dtype for.
inline bool is_wide_unsigned(const DType& dtype) {
  return dtype.kind == 'u' && dtype.item_size > 1;
}

/// True for raw items (NumPy's V without fields), the storage of bfloat16 and float8.
inline bool is_raw(const DType& dtype) { return dtype.kind == 'V' && !dtype.is_structured(); }

/// True for longdouble and clongdouble if their items are this machine's long double.
inline bool is_long_double(const DType& dtype) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(long double));
  return kSize > 8 && ((dtype.kind == 'f' && dtype.item_size == kSize) ||
                       (dtype.kind == 'c' && dtype.item_size == 2 * kSize));
}

/// NumPy's dtype for elements of `type`, in native byte order; none if NumPy has none. bfloat16 and
/// float8 become raw items, as in ml_dtypes ('<V2'). The exception is float8_e5m2, for which
/// ml_dtypes writes '<f1', which NumPy itself cannot load.
inline std::optional<DType> dtype_of(c10::ScalarType type) {
  using c10::ScalarType;
  const auto raw = [](std::int64_t size) {
    DType dtype;
    dtype.byte_order = native_byte_order();
    dtype.item_size = size;
    return dtype;
  };
  switch (type) {
    case ScalarType::Bool: return parse_type_string("|b1");
    case ScalarType::Byte: return parse_type_string("|u1");
    case ScalarType::Char: return parse_type_string("|i1");
    case ScalarType::Short: return parse_type_string("=i2");
    case ScalarType::Int: return parse_type_string("=i4");
    case ScalarType::Long: return parse_type_string("=i8");
    case ScalarType::Half: return parse_type_string("=f2");
    case ScalarType::Float: return parse_type_string("=f4");
    case ScalarType::Double: return parse_type_string("=f8");
    case ScalarType::ComplexFloat: return parse_type_string("=c8");
    case ScalarType::ComplexDouble: return parse_type_string("=c16");
    case ScalarType::BFloat16: return raw(2);
#if TORCH_NPY_TORCH_AT_LEAST(2, 1)
    case ScalarType::Float8_e5m2:
    case ScalarType::Float8_e4m3fn: return raw(1);
#endif
#if TORCH_NPY_TORCH_AT_LEAST(2, 2)
    case ScalarType::Float8_e5m2fnuz:
    case ScalarType::Float8_e4m3fnuz: return raw(1);
#endif
#if TORCH_NPY_TORCH_AT_LEAST(2, 7)
    case ScalarType::Float8_e8m0fnu: return raw(1);
#endif
#if TORCH_NPY_TORCH_AT_LEAST(2, 3)
    case ScalarType::UInt16: return parse_type_string("=u2");
    case ScalarType::UInt32: return parse_type_string("=u4");
    case ScalarType::UInt64: return parse_type_string("=u8");
#endif
    default: return std::nullopt;
  }
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SCALAR_TYPE_HPP_
