#ifndef TORCH_NPY_FORMAT_HEADER_HPP_
#define TORCH_NPY_FORMAT_HEADER_HPP_

/// @file
/// Parsing and formatting of .npy headers.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/descr_parser.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/format/little_endian.hpp>
#include <torch_npy/format/signature.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// The header of an .npy file, as NumPy's format.py defines it
// (numpy.org/doc/stable/reference/generated/numpy.lib.format.html):
//
//     \x93NUMPY, one byte major and one byte minor version, the length of the text (two bytes in
//     version 1.0, four in 2.0 and 3.0, little endian), the text, and then the data.
//
// The text is a Python dictionary with exactly the keys 'descr', 'fortran_order' and 'shape', in
// Latin-1, or in UTF-8 from version 3.0 on. The parser accepts what existing writers emit: keys in
// any order, either quote, every escape but \N{...}, comments, blanks and line ends wherever Python
// allows them, trailing commas, and Python 2's 10L before version 3.0. It rejects what only a
// person would type (0x10, 1_000, +3, 'a' 'b', nested parentheses), and duplicate keys.

TORCH_NPY_BEGIN_NAMESPACE

/// The header of an .npy file: the description of its array. A plain value: concurrent reads are
/// safe.
struct Header {
  DType dtype;                      ///< dtype of one item
  bool fortran_order = false;       ///< true: the first axis varies fastest; false: the last
  std::vector<std::int64_t> shape;  ///< empty for a 0-d array
  std::uint64_t data_offset = 0;    ///< of the data, in bytes from the start of the header
  int version = 1;                  ///< major version of the format: 1, 2 or 3

  /// Number of items: the product of the shape, 1 for a 0-d array. numel(), nbytes() and end()
  /// never overflow for a parsed Header; for one made by hand they throw std::bad_optional_access
  /// on overflow.
  std::int64_t numel() const { return detail::checked_bytes(shape, 1).value(); }
  /// Size of the data in bytes.
  std::int64_t nbytes() const { return detail::checked_bytes(shape, dtype.item_size).value(); }
  /// Offset of the end of the data, in bytes from the start of the header.
  std::uint64_t end() const { return data_offset + static_cast<std::uint64_t>(nbytes()); }
};

/// NumPy's default limit on the length of a header, in characters.
constexpr std::uint64_t kMaxHeaderSize = 10000;

/// Parses the header at the start of the `size` bytes at `data`, in one pass; what follows the
/// header is not read. Allocates memory only for the shape, and for the fields of a structured
/// dtype. Safe from any thread.
///
/// Throws Error, without a path: NotNpy, UnsupportedVersion and BadHeader for other bytes;
/// UnsupportedDtype for a dtype that NumPy does not have; TooLarge if the header has more than
/// `max_header_size` characters, or if the size of an item or of the data exceeds NumPy's limit;
/// Truncated if the header is incomplete.
Header parse_header(const void* data, std::size_t size,
                    std::uint64_t max_header_size = kMaxHeaderSize);

/// The bytes that np.save writes before the data: the oldest version that can hold the header,
/// blanks that let the first axis (the last in Fortran order) grow to 21 digits, and padding to a
/// multiple of 64 bytes. Ignores `data_offset` and `version`. Time and memory are linear in the
/// length of the text. Safe from any thread.
std::string format_header(const Header& header);

namespace detail {

constexpr char kMagic[] = "\x93NUMPY";
constexpr std::size_t kMagicSize = 6;
/// Enough bytes to compute the header size in any version.
constexpr std::size_t kMaxPrefixSize = 12;

/// The sizes of the parts of a header, in bytes.
struct HeaderExtent {
  int version = 0;
  std::size_t prefix = 0;  ///< magic string, version and length
  std::uint64_t text = 0;
  std::uint64_t end() const { return prefix + text; }
};

/// Bytes before the text: 10 in version 1, else 12.
inline std::size_t prefix_size(int version) { return version == 1 ? 10 : 12; }

inline Error header_too_large(std::uint64_t characters, std::uint64_t limit) {
  return Error(ErrorCode::TooLarge,
               "a header of " + std::to_string(characters) +
                   " characters (its length is at byte 8) is over the limit max_header_size, " +
                   std::to_string(limit) + "; raise it only if you trust the file",
               8);
}

/// Parses the magic string, the version and the length. `size` may be less than the whole header;
/// if it is less than prefix_size(), the input ends there.
inline HeaderExtent parse_prefix(const void* data, std::size_t size,
                                 std::uint64_t max_header_size) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  if (size != 0 && std::memcmp(bytes, kMagic, (std::min)(size, kMagicSize)) != 0) {
    const std::string_view start(static_cast<const char*>(data), size);
    throw Error(ErrorCode::NotNpy, "not an .npy file: it starts with " +
                                       shown(start.substr(0, kMagicSize)) +
                                       " instead of \"\\x93NUMPY\"" + looks_like(start));
  }
  const auto cut_short = [&](std::size_t wanted) {
    return Error(ErrorCode::Truncated,
                 size == 0 ? "empty: an .npy file starts with \"\\x93NUMPY\""
                           : "header cut short: its first " + std::to_string(wanted) +
                                 " bytes hold its length, there are " + std::to_string(size),
                 size);
  };
  if (size < kMagicSize + 2) throw cut_short(prefix_size(1));
  HeaderExtent extent;
  extent.version = bytes[6];
  if (extent.version < 1 || extent.version > 3 || bytes[7] != 0) {
    throw Error(ErrorCode::UnsupportedVersion,
                "format version " + std::to_string(bytes[6]) + "." + std::to_string(bytes[7]) +
                    " at byte 6: expected 1.0, 2.0 or 3.0",
                6);
  }
  extent.prefix = prefix_size(extent.version);
  if (size < extent.prefix) throw cut_short(extent.prefix);
  extent.text = little_endian(bytes + kMagicSize + 2, extent.prefix - kMagicSize - 2);
  // The limit counts characters, which take up to four bytes each in UTF-8.
  const std::uint64_t limit = extent.version < 3
                                  ? max_header_size
                                  : std::min<std::uint64_t>(max_header_size, UINT32_MAX) * 4;
  if (extent.text > limit) throw header_too_large(extent.text, max_header_size);
  return extent;
}

/// Parses the dictionary of a header.
class HeaderParser : private DescrParser {
 public:
  using DescrParser::DescrParser;

  void parse(Header& header) {
    bool has_descr = false;
    bool has_order = false;
    bool has_shape = false;
    const char* shape_at = at_;
    std::string buffer;
    expect('{');
    while (!accept('}')) {
      skip_blanks();
      const char* const key_at = at_;
      const std::string_view key = string(buffer);
      bool* has = key == "descr"           ? &has_descr
                  : key == "fortran_order" ? &has_order
                  : key == "shape"         ? &has_shape
                                           : nullptr;
      if (has == nullptr || *has) {
        at_ = key_at;
        fail((has != nullptr ? "duplicate key " : "unknown key ") + shown(key) +
             ": expected 'descr', 'fortran_order' and 'shape', each once");
      }
      *has = true;
      expect(':');
      skip_blanks();
      if (has == &has_descr) {
        const char* const descr_at = at_;
        std::vector<std::int64_t> axes;
        header.dtype = descr(0, axes);
        if (*descr_at == '(') {
          at_ = descr_at;
          fail("a sub-array dtype for a whole array: " + rest() +
                   "; NumPy writes the axes of such an array into its shape",
               ErrorCode::UnsupportedDtype);
        }
      } else if (has == &has_order) {
        header.fortran_order = boolean();
      } else {
        shape_at = at_;
        header.shape = tuple();
      }
      if (accept(',')) continue;
      expect('}');
      break;
    }
    skip_blanks();
    if (at_ != end_) fail("text after the closing brace: " + rest());
    for (const auto& [has, key] :
         {std::pair(has_descr, "descr"), std::pair(has_order, "fortran_order"),
          std::pair(has_shape, "shape")}) {
      if (!has) fail(std::string("the key '") + key + "' is missing");
    }
    at_ = shape_at;
    if (!checked_bytes(header.shape, std::max<std::int64_t>(header.dtype.item_size, 1))) {
      fail("the array is too big: the bytes of shape " + rest() + " do not fit in 63 bits",
           ErrorCode::TooLarge);
    }
  }
};

inline Error header_cut_short(const HeaderExtent& extent, std::uint64_t size) {
  return Error(ErrorCode::Truncated,
               "header cut short: it ends at byte " + std::to_string(extent.end()) +
                   ", there are " + counted(size, "byte"),
               size);
}

inline Error data_cut_short(std::uint64_t offset, std::uint64_t declared, std::uint64_t size) {
  return Error(ErrorCode::Truncated,
               "data cut short: the header declares " + counted(declared, "byte") + " from byte " +
                   std::to_string(offset) + " on, there are " +
                   std::to_string(size - (std::min)(size, offset)),
               size);
}

/// Parses the text of a header; `data` holds all of extent.end() bytes.
inline Header parse_text(const void* data, const HeaderExtent& extent,
                         std::uint64_t max_header_size) {
  const std::string_view text(static_cast<const char*>(data) + extent.prefix,
                              static_cast<std::size_t>(extent.text));
  if (const std::size_t zero = text.find('\0'); zero != text.npos) {
    const std::uint64_t at = extent.prefix + zero;
    throw Error(ErrorCode::BadHeader, "bad header: a zero byte (byte " + std::to_string(at) + ")",
                at);
  }
  if (!text.empty() && text.back() == '\r') {
    throw Error(ErrorCode::BadHeader,
                "bad header: it ends with a carriage return: the file was copied as text, which "
                "changed its bytes; copy it again, in binary mode",
                extent.end() - 1);
  }
  if (extent.version == 3) {
    std::uint64_t characters = 0;
    for (std::string_view left = text; !left.empty(); ++characters) {
      const std::uint64_t at = extent.end() - left.size();
      if (take_utf8(left) == kNoCharacter) {
        throw Error(ErrorCode::BadHeader,
                    "bad header: byte " + std::to_string(at) +
                        " is not valid UTF-8, which version 3.0 requires",
                    at);
      }
    }
    if (characters > max_header_size) throw header_too_large(characters, max_header_size);
  }
  Header header;
  header.version = extent.version;
  header.data_offset = extent.end();
  HeaderParser(text, extent.prefix, extent.version).parse(header);
  return header;
}

/// The text of a header in UTF-8, without the padding after it.
inline std::string header_text(const Header& header) {
  std::string text = "{'descr': ";
  text += descr_literal(header.dtype);
  text += header.fortran_order ? ", 'fortran_order': True, 'shape': "
                               : ", 'fortran_order': False, 'shape': ";
  return text + python_tuple(header.shape) + ", }";
}

/// A complete header. Blanks and a line end pad the text to `length` bytes.
inline std::string assemble_header(int version, std::size_t length, const std::string& text) {
  std::string out(kMagic, kMagicSize);
  out += static_cast<char>(version);
  out += '\0';
  append_little_endian(out, {{length, prefix_size(version) - kMagicSize - 2}});
  out += text;
  out.append(length - text.size() - 1, ' ');
  return out + '\n';
}

/// The header in its own version and in exactly its `data_offset` bytes; none if they are too few.
/// Only for dtypes without fields, whose text is ASCII in every version.
inline std::optional<std::string> format_header_in_place(const Header& header) {
  const std::string text = header_text(header);
  const auto length = static_cast<std::size_t>(header.data_offset) - prefix_size(header.version);
  if (text.size() >= length) return std::nullopt;
  return assemble_header(header.version, length, text);
}

}  // namespace detail

inline Header parse_header(const void* data, std::size_t size, std::uint64_t max_header_size) {
  const detail::HeaderExtent extent = detail::parse_prefix(data, size, max_header_size);
  if (extent.end() > size) throw detail::header_cut_short(extent, size);
  return detail::parse_text(data, extent, max_header_size);
}

inline std::string format_header(const Header& header) {
  constexpr std::size_t kAlignment = 64;
  constexpr std::size_t kGrowthDigits = 21;
  std::string text = detail::header_text(header);
  if (!header.shape.empty()) {
    const auto growing = header.fortran_order ? header.shape.back() : header.shape.front();
    text.append(kGrowthDigits - std::to_string(growing).size(), ' ');
  }

  std::string latin1;
  bool is_latin1 = true;
  for (std::string_view left = text; is_latin1 && !left.empty();) {
    const std::uint32_t code = detail::take_utf8(left);
    is_latin1 = code < 0x100;
    latin1 += static_cast<char>(code);
  }
  if (is_latin1) text = std::move(latin1);

  // NumPy adds at least one byte of padding, and 64 bytes where none are needed.
  const auto padded = [&](int version) {
    const std::size_t size = detail::prefix_size(version) + text.size() + 1;
    return text.size() + 1 + kAlignment - size % kAlignment;
  };
  const int version = !is_latin1 ? 3 : padded(1) <= 0xffff ? 1 : 2;
  return detail::assemble_header(version, padded(version), text);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_HEADER_HPP_
