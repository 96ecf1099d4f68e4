#ifndef TORCH_NPY_FORMAT_DTYPE_HPP_
#define TORCH_NPY_FORMAT_DTYPE_HPP_

/// @file
/// NumPy's dtypes, as a header describes them.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torch_npy/format/literal.hpp>

TORCH_NPY_BEGIN_NAMESPACE

struct Field;

/// A NumPy dtype: the type of one item of an array. A plain value: concurrent reads are safe.
struct DType {
  /// NumPy's kind character: b bool, i signed integer, u unsigned integer, f float, c complex, m
  /// timedelta64, M datetime64, S bytes, U str, V void, O object. A structured dtype has kind V and
  /// fields.
  char kind = 'V';
  /// '<' little endian, '>' big endian, '|' not applicable (items of one byte, S, V, O).
  char byte_order = '|';
  /// Size of one item in bytes.
  std::int64_t item_size = 0;
  /// The unit of datetime64 and timedelta64: "ns", "25s", ...; empty if the file names none.
  std::string unit;
  /// The fields of a structured dtype in file order, without padding; else empty.
  std::vector<Field> fields;

  /// True if the dtype has fields.
  bool is_structured() const noexcept;

  /// True if items must be byte-swapped on this machine. False for a structured dtype; its fields
  /// have their own answer.
  bool is_swapped() const noexcept;

  /// NumPy's type string in UTF-8, such as `<f4`. For a structured dtype, the list of its fields
  /// and padding as NumPy writes it. Time and memory are linear in the length of the text.
  std::string descr() const;
};

/// One field of a structured dtype.
struct Field {
  std::string name;                 ///< UTF-8
  std::string title;                ///< UTF-8; usually empty
  DType dtype;                      ///< dtype of one element
  std::vector<std::int64_t> shape;  ///< shape of a sub-array field; else empty
  std::int64_t offset = 0;          ///< bytes from the start of the item
};

/// Equal in all members, including the fields.
bool operator==(const DType& a, const DType& b);
/// Equal in name, title, dtype, shape and offset.
bool operator==(const Field& a, const Field& b);
/// Inequality.
inline bool operator!=(const DType& a, const DType& b) { return !(a == b); }

namespace detail {

/// This machine's byte order: '<' or '>'.
inline char native_byte_order() noexcept {
  const std::uint16_t one = 1;
  return *reinterpret_cast<const unsigned char*>(&one) == 1 ? '<' : '>';
}

/// The product of all dimensions and of `item_size`, or none if it exceeds 2^63 - 1. As in NumPy,
/// dimensions of length 0 do not prevent the overflow: (0, 2**62) of float32 is too large.
inline std::optional<std::int64_t> checked_bytes(const std::vector<std::int64_t>& shape,
                                                 std::int64_t item_size) {
  std::int64_t bytes = item_size;
  bool empty = false;
  for (const std::int64_t length : shape) {
    if (length == 0) {
      empty = true;
    } else if (bytes > INT64_MAX / length) {
      return std::nullopt;
    } else {
      bytes *= length;
    }
  }
  return empty ? 0 : bytes;
}

/// Parses the unit between the brackets of a datetime dtype, and returns it as NumPy writes it:
/// without a count of 1, and empty for "generic".
inline std::optional<std::string> parse_datetime_unit(std::string_view unit) {
  if (unit == "generic") return std::string();
  const char* at = unit.data();
  const char* const end = at + unit.size();
  const auto count = parse_digits(at, end, INT32_MAX);
  const std::string_view name(at, static_cast<std::size_t>(end - at));
  for (const char* known :
       {"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"}) {
    if (name != known) continue;
    return count.value_or(1) == 1 ? std::string(name) : std::to_string(*count) + known;
  }
  return std::nullopt;
}

/// Parses a type string: an optional byte order, a kind character, the item size in bytes (for U in
/// characters of four bytes), and for datetimes a unit in brackets. Returns none for any other
/// text.
inline std::optional<DType> parse_type_string(std::string_view text) {
  // NumPy stores the item size in a C int.
  constexpr std::int64_t kMaxItemSize = INT32_MAX;
  const char* at = text.data();
  const char* const end = at + text.size();
  DType dtype;
  char order = '=';
  if (at != end && (*at == '<' || *at == '>' || *at == '=' || *at == '|')) order = *at++;
  if (at == end) return std::nullopt;
  dtype.kind = *at++;
  const bool sized = at != end && *at != '[';
  if (sized) {
    const char* const digits = at;
    const auto size = parse_digits(at, end, kMaxItemSize);
    if (!size || (*digits == '0' && at - digits > 1)) return std::nullopt;
    dtype.item_size = *size;
  }
  const auto one_of = [&](std::initializer_list<std::int64_t> sizes) {
    for (const std::int64_t size : sizes) {
      if (dtype.item_size == size) return true;
    }
    return false;
  };
  bool known = false;
  switch (dtype.kind) {
    case 'b': known = one_of({1}); break;
    case 'i':
    case 'u': known = one_of({1, 2, 4, 8}); break;
    case 'f': known = one_of({2, 4, 8, 16}); break;
    case 'c': known = one_of({8, 16, 32}); break;
    case 'S':
    case 'V': known = sized; break;
    case 'U':
      known = sized && dtype.item_size <= kMaxItemSize / 4;
      dtype.item_size *= 4;
      break;
    case 'O':
      known = !sized || one_of({4, 8});  // NumPy writes '|O'
      dtype.item_size = 8;
      break;
    case 'm':
    case 'M':
      known = one_of({8});
      if (at != end) {
        if (end - at < 3 || *at != '[' || end[-1] != ']') return std::nullopt;
        const auto unit = parse_datetime_unit({at + 1, static_cast<std::size_t>(end - at) - 2});
        if (!unit) return std::nullopt;
        dtype.unit = *unit;
        at = end;
      }
      break;
    default: break;
  }
  if (!known || at != end) return std::nullopt;
  const bool ordered = dtype.kind == 'U' || (dtype.item_size > 1 && dtype.kind != 'S' &&
                                             dtype.kind != 'V' && dtype.kind != 'O');
  dtype.byte_order = !ordered ? '|' : order == '=' || order == '|' ? native_byte_order() : order;
  return dtype;
}

/// The dtype as a header writes it: `'<f4'` in quotes, or the list of fields.
std::string descr_literal(const DType& dtype);

}  // namespace detail

inline bool DType::is_structured() const noexcept { return !fields.empty(); }

inline bool DType::is_swapped() const noexcept {
  return byte_order != '|' && byte_order != detail::native_byte_order();
}

inline std::string DType::descr() const {
  if (!is_structured()) {
    std::string out{byte_order, kind};
    if (kind != 'O') out += std::to_string(kind == 'U' ? item_size / 4 : item_size);
    return unit.empty() ? out : out + "[" + unit + "]";
  }
  const auto padding = [](std::int64_t bytes) {
    return bytes == 0 ? "" : "('', '|V" + std::to_string(bytes) + "'), ";
  };
  std::string out = "[";
  std::int64_t end = 0;
  for (const Field& field : fields) {
    const std::string name = detail::python_repr(field.name);
    out += padding(field.offset - end);
    if (field.title.empty()) {
      out += "(" + name;
    } else {
      out += "((" + detail::python_repr(field.title) + ", " + name + ")";
    }
    out += ", " + detail::descr_literal(field.dtype);
    if (!field.shape.empty()) out += ", " + detail::python_tuple(field.shape);
    out += "), ";
    end = field.offset + detail::checked_bytes(field.shape, field.dtype.item_size).value_or(0);
  }
  out += padding(item_size - end);
  out.resize(out.size() - 2);
  return out + "]";
}

inline std::string detail::descr_literal(const DType& dtype) {
  const std::string quote(dtype.is_structured() ? 0 : 1, '\'');
  std::string out = quote;
  out += dtype.descr();
  return out += quote;
}

inline bool operator==(const DType& a, const DType& b) {
  return a.kind == b.kind && a.byte_order == b.byte_order && a.item_size == b.item_size &&
         a.unit == b.unit && a.fields == b.fields;
}

inline bool operator==(const Field& a, const Field& b) {
  return a.name == b.name && a.title == b.title && a.dtype == b.dtype && a.shape == b.shape &&
         a.offset == b.offset;
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_DTYPE_HPP_
