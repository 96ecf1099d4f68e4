#ifndef TORCH_NPY_FORMAT_DTYPE_HPP_
#define TORCH_NPY_FORMAT_DTYPE_HPP_

/// @file
/// NumPy's dtypes, as a header describes them.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/format/datetime_unit.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

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

/// True if NumPy has a type of this kind whose type string has this size.
inline bool is_known_type(char kind, std::int64_t size) noexcept {
  constexpr std::int64_t kLongDouble = sizeof(long double);
  switch (kind) {
    case 'b': return size == 1;
    case 'i':
    case 'u': return size == 1 || size == 2 || size == 4 || size == 8;
    case 'f': return size == 2 || size == 4 || size == 8 || size == 16 || size == kLongDouble;
    case 'c': return size == 8 || size == 16 || size == 32 || size == 2 * kLongDouble;
    case 'm':
    case 'M': return size == 8;
    case 'O': return size == 4 || size == 8;
    case 'S':
    case 'V': return true;
    case 'U': return size <= INT32_MAX / 4;  // NumPy stores the item size in a C int
    default: return false;
  }
}

/// Parses a kind and a size, such as `f4`. The size is in bytes, for U in characters of four bytes.
inline bool parse_kind_and_size(std::string_view text, DType& dtype) {
  const char kind = text.front() == 'a' ? 'S' : text.front();
  const char* at = text.data() + 1;
  const char* const end = text.data() + text.size();
  const auto size = parse_signed_digits(at, end, INT32_MAX);
  if (!size || at != end || !is_known_type(kind, *size)) return false;
  dtype.kind = kind;
  dtype.item_size = kind == 'U' ? *size * 4 : kind == 'O' ? 8 : *size;
  return true;
}

/// Parses the name of a datetime type and its unit in brackets, which may be missing.
inline bool parse_datetime(std::string_view text, DType& dtype) {
  for (const std::string_view name : {"M8", "m8", "datetime64", "timedelta64"}) {
    if (text.substr(0, name.size()) != name) continue;
    const std::string_view unit = text.substr(name.size());
    if (!unit.empty()) {
      if (unit.size() < 3 || unit.front() != '[' || unit.back() != ']') return false;
      auto parsed = parse_datetime_unit(unit.substr(1, unit.size() - 2));
      if (!parsed) return false;
      dtype.unit = std::move(*parsed);
    }
    dtype.kind = name == "M8" || name == "datetime64" ? 'M' : 'm';
    dtype.item_size = 8;
    return true;
  }
  return false;
}

/// Parses a letter that has a size of its own, such as `d`. Without a byte order also a name, such
/// as `float32`.
inline bool parse_letter_or_name(std::string_view text, bool has_byte_order, DType& dtype) {
  struct Type {
    char letter;
    char kind;
    std::size_t item_size;
    std::string_view names;
  };
  // In NumPy 2 `int` has the size of a pointer, in NumPy 1 that of a long. Names such as `float_`
  // and `int0` are only known to NumPy 1.
  static constexpr Type kTypes[] = {
      {'?', 'b', 1, "bool bool_ bool8"},
      {'b', 'i', 1, "byte"},
      {'B', 'u', 1, "ubyte"},
      {'h', 'i', sizeof(short), "short"},
      {'H', 'u', sizeof(short), "ushort"},
      {'i', 'i', sizeof(int), "intc"},
      {'I', 'u', sizeof(int), "uintc"},
      {'l', 'i', sizeof(long), "long"},
      {'L', 'u', sizeof(long), "ulong"},
      {'q', 'i', sizeof(long long), "longlong"},
      {'Q', 'u', sizeof(long long), "ulonglong"},
      {'p', 'i', sizeof(void*), "int int_ intp int0"},
      {'P', 'u', sizeof(void*), "uint uintp uint0"},
      {'n', 'i', sizeof(void*), ""},
      {'N', 'u', sizeof(void*), ""},
      {'e', 'f', 2, "half"},
      {'f', 'f', 4, "single"},
      {'d', 'f', 8, "double float float_"},
      {'g', 'f', sizeof(long double), "longdouble longfloat"},
      {'F', 'c', 8, "csingle singlecomplex"},
      {'D', 'c', 16, "cdouble complex complex_ cfloat"},
      {'G', 'c', 2 * sizeof(long double), "clongdouble clongfloat longcomplex"},
      {'O', 'O', 8, "object object_ object0"},
      {'S', 'S', 0, "bytes bytes_ bytes0 string_"},
      {'a', 'S', 0, ""},
      {'c', 'S', 1, ""},
      {'U', 'U', 0, "str str_ str0 unicode unicode_"},
      {'V', 'V', 0, "void void0"},
      {'M', 'M', 8, ""},
      {'m', 'm', 8, ""},
  };
  for (const Type& type : kTypes) {
    const bool is_letter = text.size() == 1 && text.front() == type.letter;
    if (is_letter || (!has_byte_order && has_word(type.names, text))) {
      dtype.kind = type.kind;
      dtype.item_size = static_cast<std::int64_t>(type.item_size);
      return true;
    }
  }
  if (has_byte_order) return false;
  for (const std::string_view name : {"int", "uint", "float", "complex"}) {
    if (text.size() <= name.size() || text.substr(0, name.size()) != name) continue;
    const char* at = text.data() + name.size();
    const char* const end = text.data() + text.size();
    if (*at == '0') return false;
    const auto bits = parse_digits(at, end, INT32_MAX);
    if (!bits || at != end || *bits % 8 != 0) return false;
    dtype.kind = name.front();
    dtype.item_size = *bits / 8;
    return is_known_type(dtype.kind, dtype.item_size);
  }
  return false;
}

/// Parses the text of one scalar type, in all spellings of NumPy: `<f4`, `f`, `float32`, `single`.
/// Returns none for any other text.
inline std::optional<DType> parse_type_string(std::string_view text) {
  char order = '=';
  std::string_view type = text;
  if (!type.empty() && (type[0] == '<' || type[0] == '>' || type[0] == '=' || type[0] == '|')) {
    order = type[0];
    type.remove_prefix(1);
  }
  if (type.empty()) return std::nullopt;
  DType dtype;
  const bool is_known = parse_kind_and_size(type, dtype) || parse_datetime(type, dtype) ||
                        parse_letter_or_name(type, type.size() != text.size(), dtype);
  if (!is_known) return std::nullopt;
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
