// torch_npy: NumPy files to LibTorch tensors. SPDX-License-Identifier: MIT
// GENERATED from the headers in include/torch_npy/ by cmake/amalgamate.cmake: change those instead.

// ---- torch_npy/version.hpp

#ifndef TORCH_NPY_VERSION_HPP_
#define TORCH_NPY_VERSION_HPP_

/// @file
/// The version of the library.

// The only place that states the version; CMake reads it from here. Semantic versioning.
#define TORCH_NPY_VERSION_MAJOR 0  ///< increases with incompatible changes
#define TORCH_NPY_VERSION_MINOR 2  ///< increases with new features, before 1.0 with any change
#define TORCH_NPY_VERSION_PATCH 0  ///< increases with fixes

/// Part of TORCH_NPY_VERSION_NAMESPACE.
#define TORCH_NPY_VERSION_NAMESPACE_OF_(major, minor, patch) v##major##_##minor##_##patch
/// Part of TORCH_NPY_VERSION_NAMESPACE.
#define TORCH_NPY_VERSION_NAMESPACE_OF(major, minor, patch) \
  TORCH_NPY_VERSION_NAMESPACE_OF_(major, minor, patch)
/// Everything is in the inline namespace torch_npy::vMAJOR_MINOR_PATCH, which programs do not
/// write. Two libraries of one program may be built with different versions, because their
/// functions and types have different names. Pass only LibTorch's types between such libraries, and
/// catch an Error of the other one as std::exception. To forward-declare a name, include this
/// header and write `namespace torch_npy { inline namespace TORCH_NPY_VERSION_NAMESPACE { struct
/// Header; } }`.
#define TORCH_NPY_VERSION_NAMESPACE                                                \
  TORCH_NPY_VERSION_NAMESPACE_OF(TORCH_NPY_VERSION_MAJOR, TORCH_NPY_VERSION_MINOR, \
                                 TORCH_NPY_VERSION_PATCH)

/// Opens that namespace; every header of the library uses it.
#define TORCH_NPY_BEGIN_NAMESPACE \
  namespace torch_npy {           \
  inline namespace TORCH_NPY_VERSION_NAMESPACE {
/// Closes it.
#define TORCH_NPY_END_NAMESPACE \
  }                             \
  }

/// @namespace torch_npy
/// NumPy files to LibTorch tensors, and folders of them to training batches.
///
/// Failures throw Error, whose code() is for programs. std::bad_alloc is thrown if there is no
/// memory for an Error. A copy to or from a device throws what LibTorch throws. Free functions may
/// be called from any number of threads at once, if each has its own stream or its own tensor to
/// fill. Each class documents the thread-safety of its objects.

#endif  // TORCH_NPY_VERSION_HPP_

// ---- torch_npy/text.hpp

#ifndef TORCH_NPY_TEXT_HPP_
#define TORCH_NPY_TEXT_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

// Text for messages, and UTF-8.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

constexpr std::uint32_t kNoCharacter = 0xffffffff;

/// Removes the first code point of `text`, which is not empty, and returns it. Returns kNoCharacter
/// and removes nothing if the bytes are not UTF-8.
inline std::uint32_t take_utf8(std::string_view& text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || text.size() < length) return kNoCharacter;
  std::uint32_t code = length == 1 ? lead : lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if ((byte & 0xc0) != 0x80) return kNoCharacter;
    code = code << 6 | (byte & 0x3fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  if (overlong || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) return kNoCharacter;
  text.remove_prefix(length);
  return code;
}

/// False for characters that must not reach a terminal: control characters, and those that change
/// the direction of writing.
inline bool is_printable(std::uint32_t code) {
  const bool is_control = code < 0x20 || (code >= 0x7f && code < 0xa0);
  const bool changes_direction = code == 0x061c || code == 0x200e || code == 0x200f ||
                                 (code >= 0x202a && code <= 0x202e) ||
                                 (code >= 0x2066 && code <= 0x2069);
  return !is_control && !changes_direction && code != kNoCharacter;
}

inline void append_hex_escape(std::string& out, unsigned char byte) {
  constexpr char kHex[] = "0123456789abcdef";
  out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
}

/// The text, safe for a terminal: bytes that are not UTF-8 and characters that are not printable
/// become \xNN. With `ascii`, so does everything that is not ASCII.
inline std::string escaped(std::string_view text, bool ascii = false) {
  std::string out;
  while (!text.empty()) {
    std::string_view rest = text;
    const std::uint32_t code = take_utf8(rest);
    if (code == kNoCharacter) rest.remove_prefix(1);
    const std::string_view bytes = text.substr(0, text.size() - rest.size());
    text = rest;
    if (is_printable(code) && (!ascii || code < 0x80)) {
      out += bytes;
    } else {
      for (const char c : bytes) append_hex_escape(out, static_cast<unsigned char>(c));
    }
  }
  return out;
}

/// A path in UTF-8; on POSIX systems its bytes as they are.
inline std::string utf8_of(const std::filesystem::path& path) {
  const auto bytes = path.u8string();  // std::string or, from C++20 on, std::u8string
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A path in UTF-8, safe for a terminal.
inline std::string shown_path(const std::filesystem::path& path) {
  try {
    return escaped(utf8_of(path));
  } catch (const std::system_error&) {
    return "a path that is not Unicode";  // Windows allows such paths
  }
}

/// The first `limit` bytes of `bytes` in quotes, escaped to ASCII.
inline std::string shown(std::string_view bytes, std::size_t limit = 60) {
  return '"' + escaped(bytes.substr(0, limit), /*ascii=*/true) +
         (bytes.size() > limit ? "...\"" : "\"");
}

/// A UTF-8 name in quotes; only its start if it is very long.
inline std::string in_quotes(std::string_view name) {
  constexpr std::size_t kMaxLength = 200;
  return name.size() > kMaxLength ? shown(name) : '"' + escaped(name) + '"';
}

/// "1 row", "2 rows".
inline std::string counted(std::uint64_t count, const char* noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

/// True if `text` starts with `start`. With `ignore_case` the letters of `text` may be in upper
/// case; `start` is in lower case.
inline bool starts_with(std::string_view text, std::string_view start, bool ignore_case = false) {
  const auto matches = [&](char expected, char c) {
    return c == expected || (ignore_case && c >= 'A' && c <= 'Z' && c - 'A' + 'a' == expected);
  };
  return text.size() >= start.size() &&
         std::equal(start.begin(), start.end(), text.begin(), matches);
}

/// True if `name` ends with `ending`, such as ".npy".
inline bool has_ending(std::string_view name, std::string_view ending) {
  return name.size() >= ending.size() && name.substr(name.size() - ending.size()) == ending;
}

/// True if `word`, which is not empty, is one of the words of `words`, which blanks separate.
inline bool has_word(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    const std::size_t size = (std::min)(words.find(' '), words.size());
    if (words.substr(0, size) == word) return true;
    words.remove_prefix((std::min)(size + 1, words.size()));
  }
  return false;
}

/// The first ten lines of a list that may be long, for a message.
class FewLines {
 public:
  void add(const std::string& line) {
    if (count_++ < kShown) text_ += "\n  " + line;
  }
  std::size_t count() const noexcept { return count_; }
  /// Each line on a line of its own, and the number of those that are not shown.
  std::string text() const {
    return count_ <= kShown ? text_
                            : text_ + "\n  and " + std::to_string(count_ - kShown) + " more";
  }

 private:
  static constexpr std::size_t kShown = 10;

  std::size_t count_ = 0;
  std::string text_;
};

/// One of the names that appear more than once, if there is any.
inline std::optional<std::string_view> first_duplicate(std::vector<std::string_view> names) {
  std::sort(names.begin(), names.end());
  const auto found = std::adjacent_find(names.begin(), names.end());
  return found == names.end() ? std::nullopt : std::optional(*found);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TEXT_HPP_

// ---- torch_npy/error.hpp

#ifndef TORCH_NPY_ERROR_HPP_
#define TORCH_NPY_ERROR_HPP_

/// @file
/// The exception type of the library, and its codes.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE

/// What went wrong, for a program. `Error::what()` tells a person.
enum class ErrorCode {
  NotFound,            ///< no such file, or no such array in an archive
  Io,                  ///< the operating system refused: permission, disk, not a regular file
  Exhausted,           ///< the process or the system has no file descriptors or threads left
  OutOfMemory,         ///< memory for a tensor, a buffer or a mapping cannot be allocated
  NotNpy,              ///< the bytes do not start like an .npy file
  UnsupportedVersion,  ///< a format version other than 1.0, 2.0 and 3.0
  BadHeader,           ///< the header breaks the rules of the format
  UnsupportedDtype,    ///< no tensor of this LibTorch can hold the dtype, or it is refused
  Truncated,           ///< fewer bytes than the header declares
  TooLarge,            ///< over a limit set by the caller, or over what can be counted
  BadZip,              ///< the .npz container is damaged, or uses an unsupported zip feature
  Mismatch,            ///< the file is valid, but not what was asked for (shape, dtype, range)
  InvalidArgument,     ///< the call itself is wrong
  Transform,           ///< a function given to Dataset::map() threw; its exception is nested
};

namespace detail {
struct ErrorContext;
}

/// The exception type of the library. Copying it does not throw. Read-only: safe from any thread.
///
/// `what()` is `<path>: <reason>`, or the reason alone for streams and memory.
class Error : public std::runtime_error {
 public:
  /// `reason` is for a person and is used in what() as it is. Characters of the path that are not
  /// printable are escaped there.
  Error(ErrorCode code, const std::string& reason, std::uint64_t offset = 0,
        const std::filesystem::path& path = {})
      : std::runtime_error(path.empty() ? reason : detail::shown_path(path) + ": " + reason),
        where_(std::make_shared<const Where>(Where{path, reason})),
        code_(code),
        offset_(offset) {}

  // Never moved: a moved-from Error would have no path.

  /// Copies share path and reason. A move copies.
  Error(const Error&) = default;
  /// As the copy constructor.
  Error& operator=(const Error&) = default;

  /// What went wrong, for a program.
  ErrorCode code() const noexcept { return code_; }

  /// The file concerned. Empty for streams and memory, and for errors about several files.
  const std::filesystem::path& path() const noexcept { return where_->path; }

  /// Byte offset of the error, or 0 if not applicable. Counted from the start of the file or
  /// memory; for an array in a stream or an archive from the start of that array; for the archive
  /// itself (BadZip), and if reading it fails (Io), from the start of the archive.
  std::uint64_t offset() const noexcept { return offset_; }

 private:
  friend struct detail::ErrorContext;

  struct Where {
    std::filesystem::path path;
    std::string reason;
  };

  std::shared_ptr<const Where> where_;  // shared, so that copying cannot throw
  ErrorCode code_;
  std::uint64_t offset_;
};

namespace detail {

/// Adds what a caller knows to an Error: the code that parses bytes does not know their origin.
struct ErrorContext {
  /// The same error about `path`.
  static Error at(const Error& error, const std::filesystem::path& path) {
    return Error(error.code_, error.where_->reason, error.offset_, path);
  }

  /// The same error about `part` of what the path names: what() is `<path>: <part>: <reason>`.
  static Error within(const Error& error, const std::string& part) {
    return Error(error.code_, part + ": " + error.where_->reason, error.offset_,
                 error.where_->path);
  }

  /// The same error with a way out at the end of its reason.
  static Error with_way_out(const Error& error, const std::string& way_out) {
    return Error(error.code_, error.where_->reason + "; " + way_out, error.offset_,
                 error.where_->path);
  }
};

/// Calls `work`. Adds `path` to an Error that has none; std::bad_alloc becomes an Error
/// (OutOfMemory).
template <class Work>
auto with_path(const std::filesystem::path& path, Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const Error& error) {
    if (!error.path().empty()) throw;
    throw ErrorContext::at(error, path);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::OutOfMemory, "out of memory", 0, path);
  }
}

/// Calls `work`. An Error is thrown again as one about a part of the file: `kind` "name".
template <class Work>
auto with_part(const char* kind, const std::string& name, Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const Error& error) {
    throw ErrorContext::within(error, std::string(kind) + " " + in_quotes(name));
  }
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ERROR_HPP_

// ---- torch_npy/format/literal.hpp

#ifndef TORCH_NPY_FORMAT_LITERAL_HPP_
#define TORCH_NPY_FORMAT_LITERAL_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Reads and writes the Python literals in a header: strings, integers, tuples, booleans.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The limit of NumPy 2 on dimensions; NumPy 1 allows 32.
constexpr std::size_t kMaxRank = 64;

/// Parses decimal digits at `begin` and moves `begin` past them. Returns none, and does not move,
/// if there is no digit or the number exceeds `limit`.
inline std::optional<std::int64_t> parse_digits(const char*& begin, const char* end,
                                                std::int64_t limit) {
  const char* at = begin;
  std::int64_t value = 0;
  for (; at != end && *at >= '0' && *at <= '9'; ++at) {
    const int digit = *at - '0';
    if (value > (limit - digit) / 10) return std::nullopt;
    value = value * 10 + digit;
  }
  if (at == begin) return std::nullopt;
  begin = at;
  return value;
}

/// As parse_digits(), with what C's strtol() takes before the digits: blanks and a sign. Returns
/// none for numbers below 0.
inline std::optional<std::int64_t> parse_signed_digits(const char*& begin, const char* end,
                                                       std::int64_t limit) {
  if (begin != end && *begin >= '0') return parse_digits(begin, end, limit);  // the usual case
  const char* at = begin;
  while (at != end && (*at == ' ' || (*at >= '\t' && *at <= '\r'))) ++at;
  const bool is_negative = at != end && *at == '-';
  if (at != end && (*at == '-' || *at == '+')) ++at;
  const auto value = parse_digits(at, end, limit);
  if (!value || (is_negative && *value != 0)) return std::nullopt;
  begin = at;
  return value;
}

/// Appends a Unicode code point in UTF-8. Returns false if `code` is not one.
inline bool append_utf8(std::string& out, std::uint32_t code) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    if (code >= 0xd800 && code < 0xe000) return false;
    out += static_cast<char>(0xe0 | code >> 12);
    tail(6);
    tail(0);
  } else {
    if (code > 0x10ffff) return false;
    out += static_cast<char>(0xf0 | code >> 18);
    tail(12);
    tail(6);
    tail(0);
  }
  return true;
}

/// A string as Python's repr() writes it, for strings that can appear in a header.
inline std::string python_repr(const std::string& text) {
  const bool apostrophe = text.find('\'') != std::string::npos;
  const char quote = apostrophe && text.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      append_hex_escape(out, byte);
    } else {
      out += c;
    }
  }
  return out + quote;
}

/// A tuple as Python's repr() writes it: `()`, `(3,)`, `(3, 4)`.
inline std::string python_tuple(const std::vector<std::int64_t>& values) {
  std::string out = "(";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i != 0) out += ", ";
    out += std::to_string(values[i]);
  }
  return out + (values.size() == 1 ? ",)" : ")");
}

/// Reads literals from left to right. Before version 3 of the format the text is Latin-1 and may
/// contain Python 2's long integers. From version 3 on it is UTF-8, which the caller has validated.
class LiteralReader {
 public:
  /// `offset` is the position of `text` in its file, for error offsets.
  LiteralReader(std::string_view text, std::uint64_t offset, int version)
      : text_(text),
        at_(text.data()),
        end_(text.data() + text.size()),
        offset_(offset),
        version_(version) {}

 protected:
  [[noreturn]] void fail(const std::string& reason, ErrorCode code = ErrorCode::BadHeader) const {
    const std::uint64_t byte = offset_ + static_cast<std::uint64_t>(at_ - text_.data());
    throw Error(code,
                (code == ErrorCode::BadHeader ? "bad header: " : "") + reason + " (byte " +
                    std::to_string(byte) + ")",
                byte);
  }

  std::string rest() const {
    constexpr std::size_t kMaxShown = 24;
    const std::string_view all(at_, static_cast<std::size_t>(end_ - at_));
    const std::size_t size = all.find_last_not_of(" \n") + 1;
    return size == 0 ? "the end of the header" : shown(all.substr(0, size), kMaxShown);
  }

  void skip_blanks() {
    for (;; ++at_) {
      const char* at = at_;  // a local variable: a member would be stored in every iteration
      while (at != end_ && *at == ' ') ++at;
      at_ = at;
      if (at == end_) return;
      if (*at == '#') {
        while (at_ + 1 != end_ && at_[1] != '\n' && at_[1] != '\r') ++at_;
      } else if (*at != '\n' && *at != '\t' && *at != '\r' && *at != '\f') {
        return;
      }
    }
  }

  bool next_is(char token) {
    skip_blanks();
    return at_ != end_ && *at_ == token;
  }

  bool accept(char token) {
    if (!next_is(token)) return false;
    ++at_;
    return true;
  }

  void expect(char token) {
    if (!accept(token)) fail(std::string("expected '") + token + "', found " + rest());
  }

  bool accept_word(std::string_view word) {
    if (std::string_view(at_, static_cast<std::size_t>(end_ - at_)).substr(0, word.size()) !=
        word) {
      return false;
    }
    at_ += word.size();
    return true;
  }

  bool boolean() {
    if (accept_word("True")) return true;
    if (accept_word("False")) return false;
    fail("expected True or False, found " + rest());
  }

  std::int64_t integer() {
    skip_blanks();
    const char* const begin = at_;
    if (at_ != end_ && *at_ == '-') fail("a negative dimension: " + rest());
    if (at_ == end_ || *at_ < '0' || *at_ > '9') fail("expected a number, found " + rest());
    const auto value = parse_digits(at_, end_, INT64_MAX);
    if (!value) fail("the dimension " + rest() + " does not fit in 63 bits", ErrorCode::TooLarge);
    if (*begin == '0' && at_ - begin > 1) {
      at_ = begin;
      fail("a number with a leading zero: " + rest());
    }
    if (version_ < 3 && at_ != end_ && *at_ == 'L') ++at_;
    return *value;
  }

  std::vector<std::int64_t> tuple() {
    const char* const begin = at_;
    std::int64_t values[kMaxRank];  // collected here so that the vector is allocated once
    std::size_t rank = 0;
    expect('(');
    bool comma = true;
    while (!accept(')')) {
      if (!comma) fail("expected ',' or ')', found " + rest());
      if (rank == kMaxRank) fail("more than " + std::to_string(kMaxRank) + " dimensions");
      values[rank++] = integer();
      comma = accept(',');
    }
    if (rank == 1 && !comma) {
      at_ = begin;
      fail("expected a comma after the only number of a tuple, as in (3,), found " + rest());
    }
    return {values, values + rank};
  }

  std::uint32_t escape_digits(int count, int base) {
    std::uint32_t code = 0;
    int digits = 0;
    for (; digits < count && at_ != end_; ++digits, ++at_) {
      const char c = *at_;
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : 99;
      if (digit >= base) break;
      code = code * static_cast<std::uint32_t>(base) + static_cast<std::uint32_t>(digit);
    }
    // An octal escape may have one to three digits.
    if (digits < (base == 8 ? 1 : count)) fail("incomplete escape sequence: " + rest());
    return code;
  }

  /// Decodes the escape whose backslash is at at_; leaves at_ at its last character.
  void escape(std::string& out) {
    const char* const begin = at_;
    const char letter = ++at_ == end_ ? '\0' : *at_++;
    std::uint32_t code = 0;
    switch (letter) {
      case '\n': --at_; return;
      case '\\':
      case '\'':
      case '"': code = static_cast<unsigned char>(letter); break;
      case 'a': code = 7; break;
      case 'b': code = 8; break;
      case 't': code = 9; break;
      case 'n': code = 10; break;
      case 'v': code = 11; break;
      case 'f': code = 12; break;
      case 'r': code = 13; break;
      case 'x': code = escape_digits(2, 16); break;
      case 'u': code = escape_digits(4, 16); break;
      case 'U': code = escape_digits(8, 16); break;
      default:
        at_ = begin;
        if (letter < '0' || letter > '7') fail("unsupported escape sequence: " + rest());
        ++at_;
        code = escape_digits(3, 8);
    }
    if (!append_utf8(out, code)) fail("escape sequence for an invalid code point: " + rest());
    --at_;
  }

  /// Reads a string. The result points into the text, or into `buffer` if the string had to be
  /// decoded.
  std::string_view string(std::string& buffer) {
    skip_blanks();
    if (at_ == end_ || (*at_ != '\'' && *at_ != '"')) fail("expected a string, found " + rest());
    const char* const begin = at_ + 1;
    const char quote = *at_;
    const char* at = begin;
    // As signed char, bytes that are not ASCII are negative.
    while (at != end_ && *at != quote && *at != '\\' && static_cast<signed char>(*at) >= ' ') ++at;
    at_ = at;
    const bool plain = at != end_ && *at == quote;
    if (!plain) {
      buffer.assign(begin, at);
      decode(buffer, quote);
    }
    ++at_;
    return plain ? std::string_view(begin, static_cast<std::size_t>(at - begin)) : buffer;
  }

  /// Decodes the rest of a string that has escapes or is not ASCII; leaves at_ at its closing
  /// quote.
  void decode(std::string& out, char quote) {
    for (; at_ != end_ && *at_ != quote && *at_ != '\n' && *at_ != '\r'; ++at_) {
      if (*at_ == '\\') {
        escape(out);
      } else if (version_ == 3) {
        out += *at_;
      } else {
        append_utf8(out, static_cast<unsigned char>(*at_));  // Latin-1 is the first 256 code points
      }
    }
    if (at_ == end_ || *at_ != quote) fail("missing closing quote before " + rest());
  }

  std::string name() {
    std::string buffer;
    return std::string(string(buffer));
  }

  std::string_view text_;
  const char* at_;  ///< next character to read
  const char* end_;

 private:
  std::uint64_t offset_;
  int version_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_LITERAL_HPP_

// ---- torch_npy/format/datetime_unit.hpp

#ifndef TORCH_NPY_FORMAT_DATETIME_UNIT_HPP_
#define TORCH_NPY_FORMAT_DATETIME_UNIT_HPP_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

// The units of datetime64 and timedelta64.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Parses the unit between the brackets of a datetime dtype: an optional count, the unit, and an
/// optional divisor. Returns it as NumPy writes it: without a divisor (`[s/4]` is `[250ms]`),
/// without a count of 1, and empty for "generic".
inline std::optional<std::string> parse_datetime_unit(std::string_view text) {
  static constexpr std::string_view kUnits[] = {"Y",  "M",  "W",  "D",  "h",  "m", "s",
                                                "ms", "us", "ns", "ps", "fs", "as"};
  // How many of the next units are in one: 12 months, 52 weeks or 365 days in a year.
  static constexpr std::int64_t kInOne[][3] = {{12, 52, 365},     {4, 30, 720}, {7, 168, 10080},
                                               {24, 1440, 86400}, {60, 3600},   {60, 60000},
                                               {1000, 1000000}};
  const char* at = text.data();
  const char* const end = at + text.size();
  std::int64_t count = parse_signed_digits(at, end, INT32_MAX).value_or(1);
  std::string_view name(at, static_cast<std::size_t>(end - at));
  std::int64_t divisor = 1;
  if (const std::size_t slash = name.find('/'); slash != name.npos) {
    const char* digits = at + slash + 1;
    divisor = parse_signed_digits(digits, end, INT32_MAX).value_or(0);
    if (divisor == 0 || digits != end) return std::nullopt;
    name = name.substr(0, slash);
  }
  if (name == "generic" && divisor == 1) return std::string();
  if (name == "\xce\xbcs") name = "us";  // with the Greek letter
  for (std::size_t unit = 0; unit < std::size(kUnits); ++unit) {
    if (name != kUnits[unit]) continue;
    if (divisor != 1) {
      const auto& in_one = kInOne[unit < std::size(kInOne) ? unit : std::size(kInOne) - 1];
      std::size_t finer = 0;
      while (finer < 3 && (in_one[finer] == 0 || in_one[finer] % divisor != 0)) ++finer;
      unit += finer + 1;
      if (finer == 3 || unit >= std::size(kUnits)) return std::nullopt;
      count *= in_one[finer] / divisor;
      if (count > INT32_MAX) return std::nullopt;
    }
    return (count == 1 ? "" : std::to_string(count)) + std::string(kUnits[unit]);
  }
  return std::nullopt;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_DATETIME_UNIT_HPP_

// ---- torch_npy/format/dtype.hpp

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

// ---- torch_npy/format/descr_parser.hpp

#ifndef TORCH_NPY_FORMAT_DESCR_PARSER_HPP_
#define TORCH_NPY_FORMAT_DESCR_PARSER_HPP_

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The dtype in a header: the value of its key 'descr'.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Parses the description of a dtype: a string, a tuple for a sub-array, or a list of fields.
class DescrParser : protected LiteralReader {
 public:
  /// NumPy allows any depth of fields; the limit keeps the recursion from overflowing the stack.
  static constexpr int kMaxDepth = 64;

  using LiteralReader::LiteralReader;

 protected:
  /// `axes` receives the axes of a sub-array.
  DType descr(int depth, std::vector<std::int64_t>& axes) {
    if (next_is('[')) return fields(depth + 1);
    if (next_is('(')) return sub_array(depth + 1, axes);
    const char* const begin = at_;
    std::string buffer;
    const std::string_view text = string(buffer);
    auto dtype = parse_type_string(text);
    if (!dtype) {
      at_ = begin;
      fail("unknown dtype " + shown(text) +
               (text != "<f1" ? ": expected a NumPy type string such as '<f4', with items of less "
                                "than 2^31 bytes"
                : depth == 0  ? ": ml_dtypes writes float8_e5m2 as '<f1', which NumPy cannot load; "
                                "save array.view('V1') and load it with void_as()"
                              : ": ml_dtypes writes float8_e5m2 as '<f1', which NumPy cannot load; "
                                "give this field the dtype 'V1' before the array is saved"),
           ErrorCode::UnsupportedDtype);
    }
    return std::move(*dtype);
  }

 private:
  /// Parses `('<f4', (2,))`.
  DType sub_array(int depth, std::vector<std::int64_t>& axes) {
    require_depth(depth);
    expect('(');
    const char* const begin = at_;
    DType dtype = descr(depth, axes);
    expect(',');
    if (next_is('{')) {
      fail("the dtype has metadata, " + rest() +
               ", which NumPy cannot load either; np.save() of NumPy 2 leaves it out",
           ErrorCode::UnsupportedDtype);
    }
    outer_axes(dtype, axes);
    accept(',');
    expect(')');
    (void)bytes_of(dtype, axes, 0, begin);
    return dtype;
  }

  /// The bytes of a part of an item that has `used` bytes before it. `begin` is where the part is
  /// described.
  std::int64_t bytes_of(const DType& dtype, const std::vector<std::int64_t>& axes,
                        std::int64_t used, const char* begin) {
    const auto bytes = checked_bytes(axes, std::max<std::int64_t>(dtype.item_size, 1));
    const bool is_long = std::any_of(axes.begin(), axes.end(),
                                     [](std::int64_t length) { return length > INT32_MAX; });
    if (is_long || !bytes || *bytes > INT32_MAX - used) {
      at_ = begin;
      fail("an item, or an axis of it, is larger than NumPy allows (2^31 - 1)",
           ErrorCode::TooLarge);
    }
    return dtype.item_size == 0 ? 0 : *bytes;
  }

  /// Parses a shape, of which NumPy accepts one number without parentheses, and puts it before the
  /// axes.
  void outer_axes(const DType& dtype, std::vector<std::int64_t>& axes) {
    if (checked_bytes(axes, dtype.item_size) == 0 && !dtype.is_structured()) {
      fail("a sub-array of items of 0 bytes");
    }
    const auto outer = next_is('(') ? tuple() : std::vector<std::int64_t>{integer()};
    axes.insert(axes.begin(), outer.begin(), outer.end());
    if (axes.size() > kMaxRank) fail("more than " + std::to_string(kMaxRank) + " dimensions");
  }

  void require_depth(int depth) const {
    if (depth > kMaxDepth) fail("fields nested more than " + std::to_string(kMaxDepth) + " deep");
  }

  DType fields(int depth) {
    require_depth(depth);
    DType dtype;
    bool has_empty_title = false;  // a title for NumPy, which Field::title does not tell
    expect('[');
    while (!accept(']')) {
      skip_blanks();
      const char* const begin = at_;
      Field field = this->field(depth, has_empty_title);
      field.offset = dtype.item_size;
      dtype.item_size += bytes_of(field.dtype, field.shape, dtype.item_size, begin);
      // NumPy treats these as padding: a void without a name, and any sub-array without a name.
      const bool is_void = field.dtype.kind == 'V' && !field.dtype.is_structured();
      const bool is_padding =
          field.name.empty() && field.title.empty() && (is_void || !field.shape.empty());
      if (!is_padding) dtype.fields.push_back(std::move(field));
      if (accept(',')) continue;
      expect(']');
      break;
    }
    require_distinct_names(dtype, has_empty_title);
    return dtype;
  }

  Field field(int depth, bool& has_empty_title) {
    Field field;
    expect('(');
    if (accept('(')) {
      field.title = name();
      expect(',');
      field.name = name();
      if (field.title.empty() && (field.name.empty() || has_empty_title)) throw_same_name("");
      has_empty_title = has_empty_title || field.title.empty();
      accept(',');
      expect(')');
    } else {
      field.name = name();
    }
    expect(',');
    field.dtype = descr(depth, field.shape);
    if (accept(',') && !next_is(')')) {
      outer_axes(field.dtype, field.shape);
      accept(',');
    }
    expect(')');
    return field;
  }

  void require_distinct_names(const DType& dtype, bool has_empty_title) const {
    std::vector<std::string_view> names;
    if (has_empty_title) names.emplace_back();
    for (const Field& field : dtype.fields) {
      names.push_back(field.name);
      if (!field.title.empty()) names.push_back(field.title);
    }
    if (const auto name = first_duplicate(std::move(names))) throw_same_name(*name);
  }

  [[noreturn]] void throw_same_name(std::string_view name) const {
    fail("two fields have the name or title " + shown(name));
  }
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_DESCR_PARSER_HPP_

// ---- torch_npy/format/little_endian.hpp

#ifndef TORCH_NPY_FORMAT_LITTLE_ENDIAN_HPP_
#define TORCH_NPY_FORMAT_LITTLE_ENDIAN_HPP_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

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

// ---- torch_npy/format/signature.hpp

#ifndef TORCH_NPY_FORMAT_SIGNATURE_HPP_
#define TORCH_NPY_FORMAT_SIGNATURE_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// Files of other formats, which are recognized by their first bytes.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Bytes at the start of a file that tell its format.
constexpr std::size_t kSignatureSize = 512;

constexpr const char* kTorchFile =
    "a PyTorch file: load it with PyTorch, and save its tensors with np.savez()";

/// What a zip archive is, of which these are the first bytes.
inline const char* describe_zip(std::string_view bytes) {
  constexpr std::size_t kNameSizeAt = 26;
  constexpr std::size_t kNameAt = 30;
  if (bytes.size() > kNameAt) {
    const auto* const start = reinterpret_cast<const unsigned char*>(bytes.data());
    const auto name_size = static_cast<std::size_t>(little_endian(start + kNameSizeAt, 2));
    const std::string_view name = bytes.substr(kNameAt, name_size);
    const std::string_view extra = bytes.substr((std::min)(bytes.size(), kNameAt + name_size));
    // PyTorch aligns each member with an extra field whose mark is FB.
    if (starts_with(extra, "FB") || has_ending(name, "/data.pkl")) return kTorchFile;
    if (has_ending(name, ".npy")) return "an .npz archive, which load_npz() reads";
  }
  return "a zip archive: load_npz() reads it if it is an .npz archive";
}

/// What a text is that starts like this; null if it is not known.
inline const char* describe_text(std::string_view text) {
  const auto skip_blanks = [&] {
    text.remove_prefix((std::min)(text.size(), text.find_first_not_of(" \t\r\n\f")));
  };
  if (starts_with(text, "\xef\xbb\xbf")) text.remove_prefix(3);  // the byte order mark
  skip_blanks();
  if (starts_with(text, "version https://git-lfs.github.com/spec/")) {
    return "a Git LFS pointer, which stands for a file: get the file with git lfs pull";
  }
  for (const char* const start : {"<!doctype", "<html", "<head", "<?xml"}) {
    if (starts_with(text, start, /*ignore_case=*/true)) {
      return "an HTML or XML page, perhaps the error page of a server: download the file again";
    }
  }
  if (!starts_with(text, "{")) return nullptr;
  text.remove_prefix(1);
  skip_blanks();
  return starts_with(text, "\"") ? "JSON text" : nullptr;
}

inline bool is_safetensors(std::string_view bytes) {
  constexpr std::uint64_t kMaxHeader = 100'000'000;  // the limit of the format
  return bytes.size() >= 10 && bytes.substr(8, 2) == "{\"" &&
         little_endian(reinterpret_cast<const unsigned char*>(bytes.data()), 8) <= kMaxHeader;
}

/// Says in words what a file is that starts with `bytes`, and what to do with it; null if it is not
/// known. Looks at the first 512 bytes.
inline const char* describe_file(std::string_view bytes) {
  struct Format {
    std::string_view start;
    const char* words;
  };
  static constexpr const char* kPickle =
      "a Python pickle: load it in Python, and save its arrays with np.save()";
  // The later of two rows that both match is never reached.
  static constexpr Format kFormats[] = {
      {"\x1f\x8b", "a gzip file: unpack it first, for example with gunzip < PACKED > UNPACKED"},
      {"\x28\xb5\x2f\xfd",
       "a zstd file: unpack it first, for example with unzstd < PACKED > UNPACKED"},
      {"BZh", "a bzip2 file: unpack it first, for example with bunzip2 < PACKED > UNPACKED"},
      {"\xfd\x37zXZ", "an xz file: unpack it first, for example with unxz < PACKED > UNPACKED"},
      {"\x89HDF\r\n\x1a\n", "an HDF5 file: read it with h5py, and save its arrays with np.save()"},
      {"MATLAB 5.0 MAT-file",
       "a MATLAB file: read it with scipy.io.loadmat(), and save its arrays with np.save()"},
      {"MATLAB 7.3 MAT-file",
       "a MATLAB 7.3 file, which is HDF5: read it with h5py, and save its arrays with np.save()"},
      {"\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.", kTorchFile},  // before PyTorch 1.6
      {"\x80\x02", kPickle},
      {"\x80\x03", kPickle},
      {"\x80\x04\x95", kPickle},
      {"\x80\x05\x95", kPickle},
      {"\x89PNG\r\n\x1a\n", "a PNG image"},
      {"\xff\xd8\xff", "a JPEG image"},
  };
  bytes = bytes.substr(0, kSignatureSize);
  if (starts_with(bytes, "PK\x03\x04") || starts_with(bytes, "PK\x05\x06")) {
    return describe_zip(bytes);
  }
  for (const Format& format : kFormats) {
    if (starts_with(bytes, format.start)) return format.words;
  }
  if (is_safetensors(bytes)) {
    return "a safetensors file: load it with safetensors.numpy, and save its arrays with np.save()";
  }
  return describe_text(bytes);
}

/// For a message about a file of another format: what the file is, after a semicolon.
inline std::string looks_like(std::string_view bytes) {
  const char* const words = describe_file(bytes);
  return words == nullptr ? std::string() : std::string("; it looks like ") + words;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_SIGNATURE_HPP_

// ---- torch_npy/format/header.hpp

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
#include <vector>

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

// ---- torch_npy/io/byte_sink.hpp

#ifndef TORCH_NPY_IO_BYTE_SINK_HPP_
#define TORCH_NPY_IO_BYTE_SINK_HPP_

#include <cstddef>
#include <exception>
#include <new>
#include <ostream>
#include <string>

// What bytes are written to, one after another.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A file or a stream that is being written.
class ByteSink {
 public:
  /// Writes all of the bytes after those before them. Throws Error (Io, Exhausted).
  virtual void write(const void* data, std::size_t size) = 0;

 protected:
  ByteSink() = default;
  ByteSink(const ByteSink&) = default;
  ByteSink& operator=(const ByteSink&) = default;
  ~ByteSink() = default;
};

/// A stream from its current position on. It outlives the sink.
class StreamSink final : public ByteSink {
 public:
  /// Throws Error (Io) if the stream cannot be written to.
  explicit StreamSink(std::ostream& stream) : stream_(stream) {
    if (!stream || stream.rdbuf() == nullptr) throw not_writable();
  }

  /// To the buffer directly: the stream's own write() would throw what its exceptions() mask says.
  void write(const void* data, std::size_t size) override {
    const auto length = static_cast<std::streamsize>(size);
    bool is_written = false;
    try {
      is_written = stream_.rdbuf()->sputn(static_cast<const char*>(data), length) == length;
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      throw Error(ErrorCode::Io, std::string("the stream cannot be written to: ") + error.what());
    }
    if (!is_written) throw not_writable();
  }

 private:
  static Error not_writable() {
    return Error(
        ErrorCode::Io,
        "the stream cannot be written to: check that the file is open and that the disk is "
        "not full");
  }

  std::ostream& stream_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_BYTE_SINK_HPP_

// ---- torch_npy/io/system_posix.hpp

#ifndef TORCH_NPY_IO_SYSTEM_POSIX_HPP_
#define TORCH_NPY_IO_SYSTEM_POSIX_HPP_

// POSIX systems: Linux, macOS, BSD. system_windows.hpp has the same types and functions; file.hpp,
// file_writer.hpp and folder.hpp are built on them. A function that does not throw reports failure
// by false, -1 or an object that is not open; last_error() then has the reason. Errors thrown here
// have no path; the callers add it.

#ifndef _WIN32
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#ifdef __linux__
#include <sys/xattr.h>
#endif
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

// A smaller off_t would truncate offsets. On 32-bit systems Linux needs this macro.
static_assert(sizeof(off_t) >= 8, "compile the program with -D_FILE_OFFSET_BITS=64");

// ---- Errors

inline int last_error() noexcept { return errno; }

inline bool is_missing(int number) { return number == ENOENT || number == ENOTDIR; }

inline bool is_taken(int number) { return number == EEXIST; }

[[noreturn]] inline void throw_system_error(const std::string& what, int number,
                                            std::uint64_t offset = 0) {
  const bool is_exhausted = number == EMFILE || number == ENFILE;
  throw Error(is_missing(number) ? ErrorCode::NotFound
              : is_exhausted     ? ErrorCode::Exhausted
              : number == ENOMEM ? ErrorCode::OutOfMemory
                                 : ErrorCode::Io,
              what + ": " + std::generic_category().message(number), offset);
}

/// Makes a system call, and repeats it while signals interrupt it.
template <class Call>
auto uninterrupted(const Call& call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

// ---- Names

constexpr char kSeparators[] = "/";

/// A file name in a FileList as a path.
inline std::filesystem::path path_of(const std::string& name) { return name; }

inline bool matches(const std::string& pattern, const char* name) {
  return ::fnmatch(pattern.c_str(), name, 0) == 0;
}

inline unsigned long process_id() { return static_cast<unsigned long>(::getpid()); }

// ---- Open files

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (is_open()) ::close(fd_);
  }

  bool is_open() const noexcept { return fd_ != -1; }
  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// Opens `path`; a relative path is relative to the open `folder`.
inline Descriptor open_descriptor(const char* path, int flags, mode_t mode = 0,
                                  int folder = AT_FDCWD) {
  return Descriptor(uninterrupted([&] { return ::openat(folder, path, flags | O_CLOEXEC, mode); }));
}

inline const char* kind_of_file(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

/// `advice` ends the message, except for a directory: what to do with such a file instead.
inline void require_regular(const struct stat& status, const char* advice) {
  if (S_ISREG(status.st_mode)) return;
  throw Error(ErrorCode::Io, std::string("not a regular file but ") + kind_of_file(status.st_mode) +
                                 (S_ISDIR(status.st_mode) ? "" : advice));
}

inline struct stat status_of(const Descriptor& file) {
  struct stat status;
  if (::fstat(file.get(), &status) == -1) throw_system_error("cannot stat", errno);
  return status;
}

inline void require_regular(const Descriptor& file, const char* advice) {
  require_regular(status_of(file), advice);
}

/// The current size of a regular file in bytes.
inline std::uint64_t size_of(const Descriptor& file) {
  const struct stat status = status_of(file);
  require_regular(status, "; load() reads an array from such a file through a std::istream");
  return static_cast<std::uint64_t>(status.st_size);
}

/// Size and time of modification.
inline std::string version_of(const Descriptor& file) {
  const struct stat status = status_of(file);
#ifdef __APPLE__
  const struct timespec& time = status.st_mtimespec;
#else
  const struct timespec& time = status.st_mtim;
#endif
  return std::to_string(status.st_size) + '-' + std::to_string(time.tv_sec) + '.' +
         std::to_string(time.tv_nsec);
}

inline Descriptor open_file(const char* name, int flags, int folder = AT_FDCWD) {
  // Without O_NONBLOCK, opening a FIFO that has no writer would block forever.
  Descriptor file = open_descriptor(name, flags | O_NONBLOCK, 0, folder);
  // Another process holds a lease on the file. Opening it again without O_NONBLOCK waits until the
  // lease is released. Regular files only: for a FIFO this could block forever.
  struct stat status;
  if (!file.is_open() && errno == EWOULDBLOCK && ::fstatat(folder, name, &status, 0) == 0 &&
      S_ISREG(status.st_mode)) {
    file = open_descriptor(name, flags, 0, folder);
  }
  if (!file.is_open()) throw_system_error("cannot open", errno);
  return file;
}

inline Descriptor open_to_read(const std::filesystem::path& path) {
  return open_file(path.c_str(), O_RDONLY);
}

inline Descriptor open_to_change(const std::filesystem::path& path) {
  return open_file(path.c_str(), O_RDWR);
}

// ---- Reading and mapping

inline std::ptrdiff_t read_at(const Descriptor& file, void* out, std::size_t size,
                              std::uint64_t offset) {
  return uninterrupted([&] { return ::pread(file.get(), out, size, static_cast<off_t>(offset)); });
}

/// Reads from the start of the file, first into `head`, then into `body`.
#ifdef __APPLE__
inline std::ptrdiff_t read_split(const Descriptor& file, void* head, std::size_t head_size,
                                 void* body, std::size_t body_size) {
  // macOS before version 11 has no preadv.
  const ssize_t first = ::pread(file.get(), head, head_size, 0);
  if (first < 0 || static_cast<std::size_t>(first) != head_size) return first;
  const ssize_t second = ::pread(file.get(), body, body_size, static_cast<off_t>(head_size));
  return second < 0 ? first : first + second;
}
#else
inline std::ptrdiff_t read_split(const Descriptor& file, void* head, std::size_t head_size,
                                 void* body, std::size_t body_size) {
  const iovec parts[] = {{head, head_size}, {body, body_size}};
  return ::preadv(file.get(), parts, 2, 0);
}
#endif

inline std::size_t page_size() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

/// The offset of a mapping in its file must be a multiple of this.
inline std::size_t mapping_alignment() { return page_size(); }

/// Maps part of a file copy-on-write and without reserving swap space; null on failure. Without
/// MAP_POPULATE, which makes it slower to map a file and read it once.
inline void* map(const Descriptor& file, std::uint64_t offset, std::size_t size) {
#ifdef MAP_NORESERVE
  constexpr int kFlags = MAP_PRIVATE | MAP_NORESERVE;
#else
  constexpr int kFlags = MAP_PRIVATE;
#endif
  void* const base =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, kFlags, file.get(), static_cast<off_t>(offset));
  return base == MAP_FAILED ? nullptr : base;
}

inline void unmap(void* base, std::size_t size) noexcept { ::munmap(base, size); }

#ifdef MADV_HUGEPAGE
/// Requests huge pages for the whole pages in a range. This is only a hint; a failure has no
/// effect.
inline void advise_huge_pages(void* data, std::size_t size) {
  const std::size_t page = page_size();
  const std::size_t lead = (page - reinterpret_cast<std::uintptr_t>(data) % page) % page;
  if (size < lead + page) return;
  ::madvise(static_cast<char*>(data) + lead, (size - lead) / page * page, MADV_HUGEPAGE);
}
#else
inline void advise_huge_pages(void*, std::size_t) {}
#endif

// ---- Writing

inline std::ptrdiff_t write_at(const Descriptor& file, const void* data, std::size_t size,
                               std::uint64_t offset) {
  return uninterrupted(
      [&] { return ::pwrite(file.get(), data, size, static_cast<off_t>(offset)); });
}

/// Writes at the current position of the file.
inline std::ptrdiff_t write_next(const Descriptor& file, const void* data, std::size_t size) {
  return uninterrupted([&] { return ::write(file.get(), data, size); });
}

inline bool truncate(const Descriptor& file, std::uint64_t size) {
  return uninterrupted([&] { return ::ftruncate(file.get(), static_cast<off_t>(size)); }) == 0;
}

#ifdef __linux__
/// Hints: a file will grow to `size` bytes; a part of it may be written to the disk now. Failures
/// show in the calls that write and flush.
inline void expect_size(const Descriptor& file, std::uint64_t size) {
  ::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
}
inline void begin_to_flush(const Descriptor& file, std::uint64_t offset, std::size_t size) {
  ::sync_file_range(file.get(), static_cast<off_t>(offset), static_cast<off_t>(size),
                    SYNC_FILE_RANGE_WRITE);
}
#else
inline void expect_size(const Descriptor&, std::uint64_t) {}
inline void begin_to_flush(const Descriptor&, std::uint64_t, std::size_t) {}
#endif

#ifdef __APPLE__
/// Waits until a file is on the disk. fsync() on macOS does not wait for the disk, F_FULLFSYNC
/// does.
inline bool flush(const Descriptor& file) {
  if (uninterrupted([&] { return ::fcntl(file.get(), F_FULLFSYNC); }) != -1) return true;
  return uninterrupted([&] { return ::fsync(file.get()); }) == 0;  // without F_FULLFSYNC
}
inline bool flush_data(const Descriptor& file) { return flush(file); }
#else
/// Waits until a file is on the disk.
inline bool flush(const Descriptor& file) {
  return uninterrupted([&] { return ::fsync(file.get()); }) == 0;
}
/// The same for the data alone, without its timestamps.
inline bool flush_data(const Descriptor& file) {
  return uninterrupted([&] { return ::fdatasync(file.get()); }) == 0;
}
#endif

/// Returns false if another descriptor holds the lock. The lock is advisory: it stops only other
/// callers of lock(). True without a lock if the file system does not support locks.
inline bool lock(const Descriptor& file) {
  return uninterrupted([&] { return ::flock(file.get(), LOCK_EX | LOCK_NB); }) == 0 ||
         errno != EWOULDBLOCK;
}

inline void unlock(const Descriptor& file) { ::flock(file.get(), LOCK_UN); }

/// Some file systems report a failed write only on close.
inline bool close(Descriptor& file) { return ::close(file.release()) == 0 || errno == EINTR; }

// ---- Files that appear whole or not at all

inline bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// True if the file exists; then sets `status`.
inline bool exists(const std::filesystem::path& path, struct stat& status) {
  if (::stat(path.c_str(), &status) == 0) return true;
  if (!is_missing(errno)) throw_system_error("cannot stat", errno);
  return false;
}

inline bool is_at(const Descriptor& file, const std::filesystem::path& path) {
  const struct stat own = status_of(file);
  struct stat named;
  return exists(path, named) && same_file(own, named);
}

#ifdef __linux__
/// True if the file has an access control list. The group bits of its mode then have another
/// meaning.
inline bool has_access_list(const std::filesystem::path& path) {
  return ::getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0) >= 0;
}

/// Removes the access control list that a new file inherits from its folder.
inline void drop_access_list(const Descriptor& file) {
  ::fremovexattr(file.get(), "system.posix_acl_access");
}
#else
inline bool has_access_list(const std::filesystem::path&) { return false; }
inline void drop_access_list(const Descriptor&) {}
#endif

/// The file that open() would write to, and its status if it exists. A new file gets the mode that
/// the umask leaves; a file that replaces another one keeps its mode. Nobody who could not read the
/// old file can read the new one.
class WriteTarget {
 public:
  /// Throws if the path names something that cannot be replaced.
  explicit WriteTarget(const std::filesystem::path& path) {
    // Checks the path as given: the kernel knows which links it must not follow.
    replaces_ = exists(path, old_);
    if (replaces_) {
      require_regular(old_, "; save() writes an array to such a file through a std::ostream");
    }
    path_ = resolved(path);
    if (path_ != path) require_name(path);
  }

  const std::filesystem::path& path() const noexcept { return path_; }

  /// Creates the file that will replace the target, under a name that does not exist yet.
  Descriptor create(const std::filesystem::path& name) const {
    // With 0600 from the start: at no time can anyone read the new file who could not read the old
    // one.
    return open_descriptor(name.c_str(), O_WRONLY | O_CREAT | O_EXCL, replaces_ ? 0600 : 0666);
  }

  /// Gives the new file the mode of the old one, and its owner and group if the system allows it.
  /// If the group cannot be kept, both group and others get only what both had. If the old file had
  /// an access control list, only the owner gets access.
  void copy_permissions(const Descriptor& file) const {
    if (!replaces_) return;
    mode_t mode = old_.st_mode & 0777;
    if (::fchown(file.get(), old_.st_uid, old_.st_gid) == -1 &&
        ::fchown(file.get(), static_cast<uid_t>(-1), old_.st_gid) == -1) {
      const mode_t all = mode & mode >> 3 & 7;
      mode = (mode & 0700) | all << 3 | all;
    }
    if (has_access_list(path_)) mode &= 0700;
    drop_access_list(file);
    ::fchmod(file.get(), mode);
  }

 private:
  /// Follows symbolic links, also to a file that does not exist yet.
  static std::filesystem::path resolved(std::filesystem::path path) {
    constexpr int kMaxLinks = 40;  // the limit of Linux
    std::error_code error;
    for (int links = 0;; ++links) {
      const auto type = std::filesystem::symlink_status(path, error).type();
      if (type == std::filesystem::file_type::none) {
        throw_system_error("cannot stat", error.value());
      }
      if (type != std::filesystem::file_type::symlink) return path;
      if (links == kMaxLinks) throw_system_error("cannot follow the symbolic link", ELOOP);
      path = path.parent_path() / std::filesystem::read_symlink(path, error);
      if (error) throw_system_error("cannot follow the symbolic link", error.value());
    }
  }

  /// Rejects a link in /proc to an open file: its text is not a name of that file. The two may
  /// differ for a moment while another save() replaces the file, so this tries several times.
  void require_name(const std::filesystem::path& link) const {
    constexpr int kAttempts = 50;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      struct stat by_link;
      struct stat by_name;
      const bool exists_by_link = exists(link, by_link);
      if (exists(path_, by_name) == exists_by_link &&
          (!exists_by_link || same_file(by_link, by_name))) {
        return;
      }
    }
    throw Error(ErrorCode::Io, "the symbolic link points to an open file that has no name");
  }

  std::filesystem::path path_;
  struct stat old_;
  bool replaces_;
};

/// Renames a file, and replaces a file that has the new name.
inline bool rename_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::rename(from.c_str(), to.c_str()) == 0;
}

/// Renames a file, and fails if the new name exists. `from` may remain as a second name. Needs hard
/// links.
inline bool rename_to_new(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::link(from.c_str(), to.c_str()) == 0;
}

/// Flushes the folder of a renamed file: only then is the rename on the disk. Errors are ignored,
/// because the file is in place already: some file systems cannot flush a folder, and some folders
/// cannot be opened.
inline void flush_rename_to(const std::filesystem::path& path) {
  const auto parent = path.parent_path();
  const Descriptor folder =
      open_descriptor(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY);
  if (folder.is_open()) ::fsync(folder.get());
}

inline void remove_file(const std::filesystem::path& path) { ::unlink(path.c_str()); }

// ---- Folders

using OpenFolder = Descriptor;
using FolderIdentity = std::pair<dev_t, ino_t>;

inline OpenFolder open_folder(const std::filesystem::path& path) {
  OpenFolder folder = open_descriptor(path.c_str(), O_RDONLY | O_DIRECTORY);
  if (!folder.is_open()) throw_system_error("cannot open the folder", errno);
  return folder;
}

/// A name relative to an open folder saves the system the lookup of the whole path.
inline Descriptor open_to_read(const char* name, const OpenFolder& folder) {
  return open_file(name, O_RDONLY, folder.get());
}

inline std::optional<FolderIdentity> identity_of(const OpenFolder& folder) {
  struct stat status;
  if (::fstat(folder.get(), &status) == -1) return std::nullopt;
  return FolderIdentity(status.st_dev, status.st_ino);
}

/// A folder to list, by its path relative to an open folder.
class Directory {
 public:
  Directory(const char* path, const OpenFolder& parent) {
    Descriptor descriptor = open_descriptor(path, O_RDONLY | O_DIRECTORY, 0, parent.get());
    if (!descriptor.is_open()) throw_system_error("cannot open the folder", errno);
    stream_ = ::fdopendir(descriptor.get());
    if (stream_ == nullptr) throw_system_error("cannot read the folder", errno);
    (void)descriptor.release();  // closedir() closes it
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { ::closedir(stream_); }

  FolderIdentity identity() const {
    struct stat status;
    if (::fstat(::dirfd(stream_), &status) == -1) throw_system_error("cannot stat", errno);
    return {status.st_dev, status.st_ino};
  }

  /// Calls `visit(name, is_folder)` for each entry that is not hidden (".name").
  template <class Visit>
  void for_each(const Visit& visit) {
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(stream_);
      if (entry == nullptr) break;
      if (entry->d_name[0] != '.') visit(entry->d_name, is_folder(*entry));
    }
    if (errno != 0) throw_system_error("cannot read the folder", errno);
  }

 private:
  /// A link to a folder counts as a folder. A broken link does not: opening it reports the error.
  bool is_folder(const dirent& entry) const {
    if (entry.d_type != DT_LNK && entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
    struct stat status;
    return ::fstatat(::dirfd(stream_), entry.d_name, &status, 0) == 0 && S_ISDIR(status.st_mode);
  }

  DIR* stream_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE
#endif  // _WIN32

#endif  // TORCH_NPY_IO_SYSTEM_POSIX_HPP_

// ---- torch_npy/io/system_windows.hpp

#ifndef TORCH_NPY_IO_SYSTEM_WINDOWS_HPP_
#define TORCH_NPY_IO_SYSTEM_WINDOWS_HPP_

// Windows: the documentation of the types and functions is in system_posix.hpp. Paths are UTF-16.
// The names in a folder are UTF-8, separated by '/'.

#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

// ---- Names

inline std::string utf8(std::wstring_view text) {
  const int units = static_cast<int>(text.size());
  const int size =
      ::WideCharToMultiByte(CP_UTF8, 0, text.data(), units, nullptr, 0, nullptr, nullptr);
  std::string out(static_cast<std::size_t>(size), '\0');
  ::WideCharToMultiByte(CP_UTF8, 0, text.data(), units, out.data(), size, nullptr, nullptr);
  return out;
}

inline std::wstring utf16(std::string_view text) {
  const int bytes = static_cast<int>(text.size());
  const int size = ::MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, nullptr, 0);
  std::wstring out(static_cast<std::size_t>(size), L'\0');
  ::MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, out.data(), size);
  return out;
}

constexpr wchar_t kSeparators[] = L"\\/";

inline std::filesystem::path path_of(const std::string& name) { return utf16(name); }

/// Removes from `pattern` what matches one character, which is not '*', and returns whether it
/// matches `c`.
inline bool take_match(std::wstring_view& pattern, wchar_t c) {
  const wchar_t first = pattern.front();
  pattern.remove_prefix(1);
  if (first == L'?') return true;
  if (first == L'\\' && !pattern.empty()) {
    const bool same = pattern.front() == c;
    pattern.remove_prefix(1);
    return same;
  }
  if (first != L'[') return first == c;
  const bool is_other = !pattern.empty() && (pattern.front() == L'!' || pattern.front() == L'^');
  const std::size_t end = pattern.find(L']', is_other ? 2 : 1);  // a first ']' is a member
  if (end == pattern.npos) return first == c;
  const std::wstring_view set = pattern.substr(is_other ? 1 : 0, end - (is_other ? 1 : 0));
  pattern.remove_prefix(end + 1);
  bool found = false;
  for (std::size_t i = 0; i < set.size(); ++i) {
    const bool is_range = i + 2 < set.size() && set[i + 1] == L'-';
    found = found || (set[i] <= c && c <= set[is_range ? i + 2 : i]);
    if (is_range) i += 2;
  }
  return found != is_other;
}

/// Does not support character classes such as `[[:digit:]]`. Case-sensitive, as in the shell.
inline bool matches(std::wstring_view pattern, std::wstring_view name) {
  bool has_star = false;
  std::wstring_view after_star;
  std::wstring_view left;  // rest of the name where `after_star` was tried last
  while (!pattern.empty() || !name.empty()) {
    if (!pattern.empty() && pattern.front() == L'*') {
      pattern.remove_prefix(1);
      has_star = true;
      after_star = pattern;
      left = name;
    } else if (!pattern.empty() && !name.empty() && take_match(pattern, name.front())) {
      name.remove_prefix(1);
    } else if (has_star && !left.empty()) {
      left.remove_prefix(1);
      pattern = after_star;
      name = left;
    } else {
      return false;
    }
  }
  return true;
}

inline bool matches(const std::string& pattern, const char* name) {
  return matches(std::wstring_view(utf16(pattern)), std::wstring_view(utf16(name)));
}

inline unsigned long process_id() { return ::GetCurrentProcessId(); }

// ---- Errors

inline int last_error() noexcept { return static_cast<int>(::GetLastError()); }

inline bool is_missing(int number) {
  constexpr int kMissing[] = {ERROR_FILE_NOT_FOUND, ERROR_PATH_NOT_FOUND, ERROR_INVALID_DRIVE,
                              ERROR_INVALID_NAME,   ERROR_BAD_NETPATH,    ERROR_BAD_NET_NAME,
                              ERROR_DIRECTORY};
  return std::find(std::begin(kMissing), std::end(kMissing), number) != std::end(kMissing);
}

inline bool is_taken(int number) {
  return number == ERROR_FILE_EXISTS || number == ERROR_ALREADY_EXISTS;
}

inline bool is_out_of_memory(int number) {
  return number == ERROR_NOT_ENOUGH_MEMORY || number == ERROR_OUTOFMEMORY ||
         number == ERROR_NO_SYSTEM_RESOURCES || number == ERROR_COMMITMENT_LIMIT;
}

/// In UTF-8; std::system_category() would use the machine's code page.
inline std::string message_of(int number) {
  wchar_t text[512];
  DWORD size = ::FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr,
                                static_cast<DWORD>(number), 0, text, 512, nullptr);
  while (size != 0 &&
         std::wstring_view(L"\r\n. ").find(text[size - 1]) != std::wstring_view::npos) {
    --size;
  }
  return size == 0 ? "error " + std::to_string(number) : utf8({text, size});
}

[[noreturn]] inline void throw_system_error(const std::string& what, int number,
                                            std::uint64_t offset = 0) {
  throw Error(is_missing(number)                    ? ErrorCode::NotFound
              : number == ERROR_TOO_MANY_OPEN_FILES ? ErrorCode::Exhausted
              : is_out_of_memory(number)            ? ErrorCode::OutOfMemory
                                                    : ErrorCode::Io,
              what + ": " + message_of(number), offset);
}

// ---- Open files

class Descriptor {
 public:
  explicit Descriptor(HANDLE handle = INVALID_HANDLE_VALUE) noexcept : handle_(handle) {}
  Descriptor(Descriptor&& other) noexcept : handle_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Descriptor() {
    if (is_open()) ::CloseHandle(handle_);
  }

  bool is_open() const noexcept { return handle_ != INVALID_HANDLE_VALUE; }
  HANDLE get() const noexcept { return handle_; }
  HANDLE release() noexcept { return std::exchange(handle_, INVALID_HANDLE_VALUE); }

 private:
  HANDLE handle_;
};

/// As on POSIX systems, other processes may read, write, rename and remove the file meanwhile.
inline Descriptor open_descriptor(const std::filesystem::path& path, DWORD access,
                                  DWORD disposition = OPEN_EXISTING,
                                  DWORD flags = FILE_ATTRIBUTE_NORMAL) {
  return Descriptor(::CreateFileW(path.c_str(), access,
                                  FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
                                  disposition, flags, nullptr));
}

/// Opens a file or folder to query its attributes.
inline Descriptor open_to_ask(const std::filesystem::path& path) {
  return open_descriptor(path, 0, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS);
}

inline bool is_folder(const std::filesystem::path& path) {
  const DWORD attributes = ::GetFileAttributesW(path.c_str());
  return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
}

[[noreturn]] inline void throw_not_regular(const char* kind, const char* advice) {
  throw Error(ErrorCode::Io, std::string("not a regular file but ") + kind + advice);
}

inline Descriptor open_file(const std::filesystem::path& path, DWORD access) {
  Descriptor file = open_descriptor(path, access);
  if (file.is_open()) return file;
  const int number = last_error();
  if (is_folder(path)) throw_not_regular("a directory", "");
  throw_system_error("cannot open", number);
}

inline Descriptor open_to_read(const std::filesystem::path& path) {
  return open_file(path, GENERIC_READ);
}

inline Descriptor open_to_change(const std::filesystem::path& path) {
  return open_file(path, GENERIC_READ | GENERIC_WRITE);
}

inline void require_regular(const Descriptor& file, const char* advice) {
  if (::GetFileType(file.get()) != FILE_TYPE_DISK) throw_not_regular("a device", advice);
}

inline std::uint64_t size_of(const Descriptor& file) {
  require_regular(file, "; load() reads an array from such a file through a std::istream");
  LARGE_INTEGER size;
  if (::GetFileSizeEx(file.get(), &size) == 0) throw_system_error("cannot stat", last_error());
  return static_cast<std::uint64_t>(size.QuadPart);
}

/// Size and time of modification.
inline std::string version_of(const Descriptor& file) {
  BY_HANDLE_FILE_INFORMATION info;
  if (::GetFileInformationByHandle(file.get(), &info) == 0) {
    throw_system_error("cannot stat", last_error());
  }
  return std::to_string(size_of(file)) + '-' + std::to_string(info.ftLastWriteTime.dwHighDateTime) +
         '.' + std::to_string(info.ftLastWriteTime.dwLowDateTime);
}

// ---- Reading and mapping

inline OVERLAPPED at_offset(std::uint64_t offset) {
  OVERLAPPED position{};
  position.Offset = static_cast<DWORD>(offset & 0xffffffff);
  position.OffsetHigh = static_cast<DWORD>(offset >> 32);
  return position;
}

inline std::ptrdiff_t read_at(const Descriptor& file, void* out, std::size_t size,
                              std::uint64_t offset) {
  OVERLAPPED position = at_offset(offset);
  DWORD got = 0;
  if (::ReadFile(file.get(), out, static_cast<DWORD>(size), &got, &position) != 0) return got;
  return last_error() == ERROR_HANDLE_EOF ? 0 : -1;
}

inline std::ptrdiff_t read_split(const Descriptor& file, void* head, std::size_t head_size,
                                 void* body, std::size_t body_size) {
  constexpr std::size_t kMaxReadSize = std::size_t{1} << 30;
  const std::ptrdiff_t first = read_at(file, head, head_size, 0);
  if (first < 0 || static_cast<std::size_t>(first) != head_size) return first;
  const std::ptrdiff_t second = read_at(file, body, (std::min)(body_size, kMaxReadSize), head_size);
  return second < 0 ? first : first + second;
}

inline std::size_t mapping_alignment() {
  SYSTEM_INFO info;
  ::GetSystemInfo(&info);
  return info.dwAllocationGranularity;
}

/// Windows counts the whole mapping against the memory limit, as if every page would be written.
inline void* map(const Descriptor& file, std::uint64_t offset, std::size_t size) {
  const HANDLE mapping = ::CreateFileMappingW(file.get(), nullptr, PAGE_WRITECOPY, 0, 0, nullptr);
  if (mapping == nullptr) return nullptr;
  const OVERLAPPED position = at_offset(offset);
  void* const base =
      ::MapViewOfFile(mapping, FILE_MAP_COPY, position.OffsetHigh, position.Offset, size);
  const DWORD error = ::GetLastError();
  ::CloseHandle(mapping);  // the view keeps the mapping alive
  ::SetLastError(error);
  return base;
}

inline void unmap(void* base, std::size_t) noexcept { ::UnmapViewOfFile(base); }

/// Does nothing: large pages need a privilege on Windows.
inline void advise_huge_pages(void*, std::size_t) {}

// ---- Writing

inline std::ptrdiff_t write_at(const Descriptor& file, const void* data, std::size_t size,
                               std::uint64_t offset) {
  OVERLAPPED position = at_offset(offset);
  DWORD put = 0;
  return ::WriteFile(file.get(), data, static_cast<DWORD>(size), &put, &position) != 0
             ? static_cast<std::ptrdiff_t>(put)
             : -1;
}

inline std::ptrdiff_t write_next(const Descriptor& file, const void* data, std::size_t size) {
  DWORD put = 0;
  return ::WriteFile(file.get(), data, static_cast<DWORD>(size), &put, nullptr) != 0
             ? static_cast<std::ptrdiff_t>(put)
             : -1;
}

inline bool truncate(const Descriptor& file, std::uint64_t size) {
  FILE_END_OF_FILE_INFO end;
  end.EndOfFile.QuadPart = static_cast<LONGLONG>(size);
  return ::SetFileInformationByHandle(file.get(), FileEndOfFileInfo, &end, sizeof end) != 0;
}

inline void expect_size(const Descriptor&, std::uint64_t) {}
inline void begin_to_flush(const Descriptor&, std::uint64_t, std::size_t) {}

inline bool flush(const Descriptor& file) { return ::FlushFileBuffers(file.get()) != 0; }
inline bool flush_data(const Descriptor& file) { return flush(file); }

/// Locks on Windows are mandatory: they block reads and writes of the locked bytes. So the lock is
/// on one byte that no file reaches.
constexpr std::uint64_t kLockedByte = INT64_MAX - 1;

inline bool lock(const Descriptor& file) {
  OVERLAPPED position = at_offset(kLockedByte);
  return ::LockFileEx(file.get(), LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
                      &position) != 0 ||
         last_error() != ERROR_LOCK_VIOLATION;
}

inline void unlock(const Descriptor& file) {
  OVERLAPPED position = at_offset(kLockedByte);
  ::UnlockFileEx(file.get(), 0, 1, 0, &position);
}

inline bool close(Descriptor& file) { return ::CloseHandle(file.release()) != 0; }

// ---- Files that appear whole or not at all

/// Identifies a file or folder whatever its name: volume and file index.
using FileIdentity = std::pair<std::uint32_t, std::uint64_t>;

inline std::optional<FileIdentity> identity_of(const Descriptor& file) {
  BY_HANDLE_FILE_INFORMATION info;
  if (!file.is_open() || ::GetFileInformationByHandle(file.get(), &info) == 0) return std::nullopt;
  return FileIdentity(info.dwVolumeSerialNumber,
                      std::uint64_t{info.nFileIndexHigh} << 32 | info.nFileIndexLow);
}

inline bool is_at(const Descriptor& file, const std::filesystem::path& path) {
  const auto own = identity_of(file);
  if (!own) throw_system_error("cannot stat", last_error());
  const Descriptor named = open_to_ask(path);
  if (!named.is_open() && !is_missing(last_error())) {
    throw_system_error("cannot stat", last_error());
  }
  return identity_of(named) == own;
}

/// Follows symbolic links. The new file has the permissions that its folder gives, whatever the old
/// ones were.
class WriteTarget {
 public:
  explicit WriteTarget(const std::filesystem::path& path) : path_(path) {
    const DWORD attributes = ::GetFileAttributesW(path.c_str());
    if (attributes == INVALID_FILE_ATTRIBUTES) {
      if (!is_missing(last_error())) throw_system_error("cannot stat", last_error());
      return;
    }
    if ((attributes & FILE_ATTRIBUTE_DIRECTORY) != 0) throw_not_regular("a directory", "");
    if ((attributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0) path_ = resolved(path);
  }

  const std::filesystem::path& path() const noexcept { return path_; }

  Descriptor create(const std::filesystem::path& name) const {
    return open_descriptor(name, GENERIC_WRITE, CREATE_NEW);
  }

  void copy_permissions(const Descriptor&) const {}

 private:
  static std::filesystem::path resolved(const std::filesystem::path& link) {
    const Descriptor file = open_to_ask(link);
    std::wstring name(32768, L'\0');  // the longest path
    const DWORD size = file.is_open()
                           ? ::GetFinalPathNameByHandleW(file.get(), name.data(),
                                                         static_cast<DWORD>(name.size()), 0)
                           : 0;
    if (size == 0) throw_system_error("cannot follow the symbolic link", last_error());
    name.resize((std::min)(name.size(), std::size_t{size}));
    return name;
  }

  std::filesystem::path path_;
};

inline bool rename_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::MoveFileExW(from.c_str(), to.c_str(),
                       MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) != 0;
}

inline bool rename_to_new(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::MoveFileExW(from.c_str(), to.c_str(), MOVEFILE_WRITE_THROUGH) != 0;
}

/// Does nothing: MOVEFILE_WRITE_THROUGH has flushed the rename.
inline void flush_rename_to(const std::filesystem::path&) {}

inline void remove_file(const std::filesystem::path& path) { ::DeleteFileW(path.c_str()); }

// ---- Folders

using FolderIdentity = FileIdentity;

/// Windows has no relative open: a folder is kept by its absolute path, which does not depend on
/// the current directory.
class OpenFolder {
 public:
  OpenFolder() = default;
  explicit OpenFolder(std::filesystem::path path) : path_(std::move(path)) {}
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

inline OpenFolder open_folder(const std::filesystem::path& path) {
  if (!is_folder(path)) {
    const bool is_there = ::GetFileAttributesW(path.c_str()) != INVALID_FILE_ATTRIBUTES;
    throw_system_error("cannot open the folder", is_there ? ERROR_DIRECTORY : last_error());
  }
  std::error_code error;
  auto absolute = std::filesystem::absolute(path, error);
  return OpenFolder(error ? path : std::move(absolute));
}

inline Descriptor open_to_read(const char* name, const OpenFolder& folder) {
  return open_to_read(folder.path() / utf16(name));
}

inline std::optional<FolderIdentity> identity_of(const OpenFolder& folder) {
  return identity_of(open_to_ask(folder.path()));
}

class Directory {
 public:
  Directory(const char* path, const OpenFolder& parent)
      : path_(parent.path() / utf16(path)),
        search_(::FindFirstFileExW((path_ / L"*").c_str(), FindExInfoBasic, &entry_,
                                   FindExSearchNameMatch, nullptr, FIND_FIRST_EX_LARGE_FETCH)) {
    // The root of an empty drive has not even the entry ".".
    if (search_ == INVALID_HANDLE_VALUE && !is_folder(path_)) {
      throw_system_error("cannot open the folder", last_error());
    }
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() {
    if (search_ != INVALID_HANDLE_VALUE) ::FindClose(search_);
  }

  FolderIdentity identity() const {
    const auto identity = identity_of(open_to_ask(path_));
    if (!identity) throw_system_error("cannot stat", last_error());
    return *identity;
  }

  template <class Visit>
  void for_each(const Visit& visit) {
    if (search_ == INVALID_HANDLE_VALUE) return;
    do {
      // A link to a folder has the attribute, too.
      const bool is_folder = (entry_.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
      if (entry_.cFileName[0] != L'.') visit(utf8(entry_.cFileName).c_str(), is_folder);
    } while (::FindNextFileW(search_, &entry_) != 0);
    if (last_error() != ERROR_NO_MORE_FILES) {
      throw_system_error("cannot read the folder", last_error());
    }
  }

 private:
  std::filesystem::path path_;
  WIN32_FIND_DATAW entry_;
  HANDLE search_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE
#endif  // _WIN32

#endif  // TORCH_NPY_IO_SYSTEM_WINDOWS_HPP_

// ---- torch_npy/io/byte_source.hpp

#ifndef TORCH_NPY_IO_BYTE_SOURCE_HPP_
#define TORCH_NPY_IO_BYTE_SOURCE_HPP_

/// @file
/// ByteSource: where the bytes of an array or an archive are read from.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Size of the first read of any array: all of a small array, and the header of any other.
constexpr std::size_t kFirstRead = 16384;

/// The first bytes of a source, which were read to know its header.
struct FirstBytes {
  std::size_t size = 0;
  // Not initialized: clearing it would cost more than parsing a header. Aligned to the cache lines,
  // which makes reading into it faster.
  alignas(64) unsigned char data[kFirstRead];
  FirstBytes() {}  // NOLINT(modernize-use-equals-default)
};

/// The position of a source in an open file.
struct FileRange {
  const Descriptor* file = nullptr;
  std::uint64_t begin = 0;
};

/// What this library knows of its own sources.
struct SourceTraits {
  /// Bytes can only be read in order, by one thread.
  bool is_sequential = false;
  /// Bytes are compressed: ByteSource::unpacked() has all of them.
  bool is_packed = false;
  /// Where the bytes are in a file that can be mapped.
  FileRange range;
  /// Where the bytes are in memory.
  const char* data = nullptr;
};

}  // namespace detail

/// A range of a source for ByteSource::read_many().
struct ByteRange {
  void* out = nullptr;       ///< receives the bytes
  std::size_t size = 0;      ///< in bytes
  std::uint64_t offset = 0;  ///< of the first byte in the source
};

/// Where bytes are stored: a file, part of a file, memory, a stream, a member of an archive, or
/// anything for which a program implements this class. open(), NpzFile and everything on them work
/// on any ByteSource.
///
/// An implementation defines size(), read() and name(). They are called from several threads at
/// once. They report a failure by throwing an Error, for instance with the code Io; an Error
/// without a path gets name() as its path. Other exceptions are passed on as they are.
class ByteSource {
 public:
  virtual ~ByteSource() = default;

  /// Total number of bytes. Not called if the first read() already shows that the array is
  /// complete.
  virtual std::uint64_t size() const = 0;

  /// Reads up to `size` bytes from byte `offset` on into `out` and returns their number, as
  /// pread(2) does. It may be less than `size`, and is 0 only at the end of the source.
  virtual std::size_t read(void* out, std::size_t size, std::uint64_t offset) const = 0;

  /// Reads all of the ranges, and throws Error (Truncated) if the source ends before the end of
  /// one. The default reads one after another. Override it if several reads can be under way at
  /// once, or close ranges can be joined.
  virtual void read_many(const std::vector<ByteRange>& ranges) const {
    for (const ByteRange& range : ranges) read_fully(range.out, range.size, range.offset);
  }

  /// Name for messages, in UTF-8: a path or a URI. Empty for memory and streams.
  virtual std::string name() const = 0;

  /// Identifies the content: size and time of modification, or an entity tag. A StoredArray refuses
  /// to load from a source whose version has changed since open(). Empty if it is not known.
  virtual std::string version() const { return {}; }

  /// Reads exactly `size` bytes from byte `offset` on. Throws Error (Truncated) if the source ends
  /// before that, and what read() throws.
  void read_fully(void* out, std::size_t size, std::uint64_t offset) const {
    const std::size_t got = read_available(out, size, offset);
    if (got == size) return;
    const std::uint64_t end = offset + got;
    throw Error(ErrorCode::Truncated,
                "data cut short: the source ends at byte " + std::to_string(end) + ", " +
                    detail::counted(size - got, "byte") + " before the end of what is being read",
                end);
  }

  /// Reads up to `size` bytes from byte `offset` on, with as many calls of read() as that takes,
  /// and returns their number, which is less than `size` only if the source ends there. Throws what
  /// read() throws, and Error (Io) if that returns more than it was asked for.
  std::size_t read_available(void* out, std::size_t size, std::uint64_t offset) const {
    std::size_t done = 0;
    while (done != size) {
      const std::size_t got = read(static_cast<char*>(out) + done, size - done, offset + done);
      if (got == 0) break;
      require_count(got, size - done);
      done += got;
    }
    return done;
  }

  /// Throws Error (Io) if read() returned more than it was asked for. @private
  static void require_count(std::size_t got, std::size_t asked) {
    if (got <= asked) return;
    throw Error(ErrorCode::Io, "the read() of a ByteSource returned " + std::to_string(got) +
                                   ", it was asked for " + detail::counted(asked, "byte"));
  }

  // The rest is for the sources of this library. A program's own source leaves it as it is.

  /// What is known of this source. @private
  virtual detail::SourceTraits internal_traits() const { return {}; }

  /// The source to load an array from, if that is not this one: a member of an archive, unpacked or
  /// checked. `first` are the first bytes of this source, and outlive the result. `whole`: all of
  /// the array will be read, in order. @private
  virtual std::shared_ptr<const ByteSource> internal_unpacked(const detail::FirstBytes& /*first*/,
                                                              bool /*whole*/) const {
    return nullptr;
  }

  /// Owner of the memory that the bytes are in, for a tensor over it; null if there is none.
  /// @private
  virtual std::shared_ptr<char> internal_memory() const { return nullptr; }

  /// Called after an array, which ends at byte `end`, has been read in order. @private
  virtual void internal_finish(std::uint64_t /*end*/) const {}

 protected:
  ByteSource() = default;
  ByteSource(const ByteSource&) = default;             ///< for derived classes
  ByteSource& operator=(const ByteSource&) = default;  ///< for derived classes
};

namespace detail {

/// `size` bytes from byte `begin` of another source on. They are within that source, which outlives
/// this one.
class SourcePart : public ByteSource {
 public:
  SourcePart(const ByteSource& whole, std::uint64_t begin, std::uint64_t size)
      : whole_(whole), begin_(begin), size_(size) {}
  SourcePart(const ByteSource&&, std::uint64_t, std::uint64_t) = delete;  // it would dangle

  std::uint64_t size() const override { return size_; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    const std::uint64_t left = size_ - (std::min)(offset, size_);
    size = static_cast<std::size_t>(std::min<std::uint64_t>(size, left));
    return size == 0 ? 0 : whole_.read(out, size, begin_ + offset);
  }

  std::string name() const override { return whole_.name(); }
  std::string version() const override { return whole_.version(); }

  SourceTraits internal_traits() const override {
    SourceTraits traits = whole_.internal_traits();
    traits.range.begin += begin_;
    if (traits.data != nullptr) traits.data += begin_;
    return traits;
  }

 private:
  const ByteSource& whole_;
  std::uint64_t begin_;
  std::uint64_t size_;
};

/// Memory that outlives this source, or memory of its own.
class MemorySource final : public ByteSource {
 public:
  /// Throws Error (InvalidArgument) for a null pointer.
  MemorySource(const void* data, std::size_t size)
      : data_(static_cast<const char*>(data)), size_(size) {
    if (data != nullptr || size == 0) return;
    throw Error(ErrorCode::InvalidArgument, "the pointer to the bytes is null");
  }
  MemorySource(std::shared_ptr<char> memory, std::size_t size)
      : memory_(std::move(memory)), data_(memory_.get()), size_(size) {}

  std::uint64_t size() const override { return size_; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    const std::size_t left = offset < size_ ? size_ - static_cast<std::size_t>(offset) : 0;
    size = (std::min)(size, left);
    if (size != 0) std::memcpy(out, data_ + offset, size);
    return size;
  }

  std::string name() const override { return {}; }
  std::shared_ptr<char> internal_memory() const override { return memory_; }
  SourceTraits internal_traits() const override { return {false, false, {}, data_}; }

 private:
  std::shared_ptr<char> memory_;
  const char* data_;
  std::size_t size_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_BYTE_SOURCE_HPP_

// ---- torch_npy/io/file.hpp

#ifndef TORCH_NPY_IO_FILE_HPP_
#define TORCH_NPY_IO_FILE_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <utility>

// Files that are read and mapped. An Error thrown here has no path; the callers, who know it, add
// it.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Refuses paths that the system would take for others.
inline void require_path(const std::filesystem::path& path) {
  if (path.empty()) throw Error(ErrorCode::NotFound, "the path is empty");
  if (path.native().find('\0') != std::filesystem::path::string_type::npos) {
    throw Error(ErrorCode::InvalidArgument, "the path contains a zero byte");
  }
}

/// Bytes of one call: Linux moves at most 2^31 - 4096, macOS refuses more than 2^31 - 1, and
/// Windows counts with 32 bits.
constexpr std::size_t kMaxCallSize = std::size_t{1} << 30;

/// A file, open for reading. That it is a regular one shows when it is read, or asked for its size.
/// It has no name: a copy of the path would cost more than opening a file that was just listed.
class File : public ByteSource {
 public:
  explicit File(const std::filesystem::path& path)
      : file_(open_to_read((require_path(path), path))) {}

  /// `name` is relative to an open folder.
  File(const char* name, const OpenFolder& folder) : file_(open_to_read(name, folder)) {}

  /// Size of the file at this moment.
  std::uint64_t size() const override { return size_of(file_); }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    const std::ptrdiff_t got = read_at(file_, out, (std::min)(size, kMaxCallSize), offset);
    if (got >= 0) return static_cast<std::size_t>(got);
    const int number = last_error();
    (void)this->size();  // a clearer Error if this is not a regular file
    throw_system_error("cannot read at byte " + std::to_string(offset), number, offset);
  }

  std::string name() const override { return {}; }

  SourceTraits internal_traits() const override { return {false, false, {&file_, 0}, nullptr}; }

  /// Reads from the start of the file, first into `head`, then into `body`, in one call. Returns
  /// the number of bytes read, which may be less for any reason, failure included.
  std::size_t read_split(void* head, std::size_t head_size, void* body,
                         std::size_t body_size) const {
    const std::ptrdiff_t got = detail::read_split(file_, head, head_size, body, body_size);
    return got < 0 ? 0 : static_cast<std::size_t>(got);
  }

 protected:
  explicit File(Descriptor file) : file_(std::move(file)) {}

  Descriptor file_;
};

/// A file that knows its path.
class NamedFile final : public File {
 public:
  explicit NamedFile(const std::filesystem::path& path) : File(path), path_(path) {}

  std::string name() const override { return utf8_of(path_); }
  std::string version() const override { return version_of(file_); }

 private:
  std::filesystem::path path_;
};

/// Owns a range of mapped memory.
class Mapping {
 public:
  /// `lead` bytes before the requested range are mapped too: a mapping starts at a page.
  Mapping(void* base, std::size_t size, std::size_t lead = 0) noexcept
      : base_(base), size_(size), lead_(lead) {}
  Mapping(Mapping&& other) noexcept
      : base_(other.base_), size_(std::exchange(other.size_, 0)), lead_(other.lead_) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (size_ != 0) unmap(base_, size_);
  }

  /// Maps bytes [offset, offset + size) of a range copy-on-write: what is written to the memory
  /// never reaches the file. Reads nothing yet. `size` is not 0.
  static Mapping of(const FileRange& range, std::uint64_t offset, std::size_t size) {
    offset += range.begin;
    const auto lead = static_cast<std::size_t>(offset % mapping_alignment());
    void* const base = map(*range.file, offset - lead, size + lead);
    if (base == nullptr) {
      throw_system_error("cannot map " + counted(size, "byte"), last_error(), offset);
    }
    return Mapping(base, size + lead, lead);
  }

  void* data() const noexcept { return static_cast<char*>(base_) + lead_; }

 private:
  void* base_;
  std::size_t size_;
  std::size_t lead_;
};

/// Fresh memory costs a page fault every 4 KiB, several times what copying into it costs. From this
/// size on huge pages are asked for, as NumPy does.
constexpr std::size_t kHugePagesFrom = std::size_t{4} << 20;

/// A buffer of `size` bytes, aligned as LibTorch aligns tensors, in huge pages if it is large.
/// Throws Error (OutOfMemory).
inline std::shared_ptr<char> allocate_buffer(std::uint64_t size) {
  constexpr std::align_val_t kAlignment{64};
  const auto free = [](char* memory) { ::operator delete(memory, kAlignment); };
  try {
    if (size <= PTRDIFF_MAX) {
      const auto bytes = static_cast<std::size_t>(size);
      std::shared_ptr<char> buffer(static_cast<char*>(::operator new(bytes, kAlignment)), free);
      if (bytes >= kHugePagesFrom) advise_huge_pages(buffer.get(), bytes);
      return buffer;
    }
  } catch (const std::bad_alloc&) {
  }
  throw Error(ErrorCode::OutOfMemory, "out of memory for " + counted(size, "byte"));
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FILE_HPP_

// ---- torch_npy/io/file_writer.hpp

#ifndef TORCH_NPY_IO_FILE_WRITER_HPP_
#define TORCH_NPY_IO_FILE_WRITER_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>

// Writes files, in place or atomically. As in file.hpp, an Error has no path yet.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The path made absolute, so that it does not depend on the current directory; unchanged on
/// failure, and if it is empty.
inline std::filesystem::path absolute_path(const std::filesystem::path& path) {
  if (path.empty()) return path;
  std::error_code error;
  auto absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute;
}

/// Writes all `size` bytes by calls of `put(data, size, done)`. Each writes some bytes, after the
/// `done` bytes written before, and returns their number. `offset` is the position in the file, for
/// errors.
template <class Put>
void write_all(const void* data, std::size_t size, std::uint64_t offset, const Put& put) {
  const char* const begin = static_cast<const char*>(data);
  for (std::size_t done = 0; done != size;) {
    const std::ptrdiff_t more = put(begin + done, (std::min)(size - done, kMaxCallSize), done);
    if (more == -1) {
      throw_system_error("cannot write at byte " + std::to_string(offset + done), last_error(),
                         offset + done);
    }
    done += static_cast<std::size_t>(more);
  }
}

/// An existing regular file, open for reading and for writing in place, and locked: opening a
/// second LockedFile on it, in this process or another, throws Error (Io). When it was locked, the
/// path named it. The lock stops only other LockedFiles, and does nothing if the file system has no
/// locks.
class LockedFile : public File {
 public:
  /// `owner` is what locks it, for the message if another one has done so.
  explicit LockedFile(const std::filesystem::path& path, const char* owner = "Appender")
      : File(open_locked(path, owner)) {}

  void write(const void* data, std::size_t size, std::uint64_t offset) {
    write_all(data, size, offset, [&](const char* at, std::size_t length, std::size_t done) {
      return write_at(file_, at, length, offset + done);
    });
  }

  bool is_at(const std::filesystem::path& path) const { return detail::is_at(file_, path); }

  void truncate(std::uint64_t size) {
    if (!detail::truncate(file_, size)) {
      throw_system_error("cannot truncate at byte " + std::to_string(size), last_error(), size);
    }
  }

  /// Waits until all writes are on the disk. The system reports a failed write once and may drop
  /// the data, so after one failure every call fails.
  void sync() {
    if (sync_error_ == 0 && !flush_data(file_)) sync_error_ = last_error();
    if (sync_error_ != 0) throw_system_error("cannot flush to the disk", sync_error_);
  }

  /// Unlocks first: a child process may hold the file open for longer.
  void close() {
    unlock(file_);
    if (!detail::close(file_)) throw_system_error("cannot close", last_error());
  }

 private:
  static Descriptor open_locked(const std::filesystem::path& path, const char* owner) {
    constexpr int kTries = 100;
    require_path(path);
    for (int i = 0; i < kTries; ++i) {
      Descriptor file = open_to_change(path);
      require_regular(file, "; only a regular file can be changed in place");
      if (!lock(file)) {
        throw Error(ErrorCode::Io, std::string("locked: another ") + owner +
                                       " has the file open; try again when it is done");
      }
      // Its last owner may have replaced the file between the two calls.
      if (detail::is_at(file, path)) return file;
    }
    throw Error(ErrorCode::Io, "the file is replaced all the time by other programs");
  }

  int sync_error_ = 0;
};

/// Writes a file that appears under its name completely or not at all. It writes a temporary file
/// in the same folder; commit() flushes that and renames it. The destructor removes the temporary
/// file if commit() was not called. A killed process leaves the temporary file
/// (".torch_npy-*.tmp") behind, and the old file unchanged.
///
/// Follows symbolic links as open() does: the file that the link names is replaced.
class AtomicFile final : public ByteSink {
 public:
  /// With `sync` the file survives a power failure after commit(). Without, the system writes it
  /// to the disk later.
  AtomicFile(const std::filesystem::path& path, bool sync) : sync_(sync) {
    require_path(path);
    const WriteTarget target(path);
    target_ = absolute_path(target.path());
    static std::atomic<unsigned> count{0};
    int error = 0;
    do {
      temporary_ = sibling_of(target_, ".torch_npy-" + std::to_string(process_id()) + "-" +
                                           std::to_string(count++) + ".tmp");
      file_ = target.create(temporary_);
      error = last_error();
    } while (!file_.is_open() && is_taken(error));
    if (!file_.is_open()) {
      temporary_.clear();
      throw_system_error("cannot create a file in this folder", error);
    }
    target.copy_permissions(file_);
  }

  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  ~AtomicFile() {
    if (!temporary_.empty()) remove_file(temporary_);
  }

  /// Large data is written in chunks, and each chunk starts going to the disk while the next one
  /// is written: faster than one flush at the end. tests/bench/NOTES.md has the measurement.
  void write(const void* data, std::size_t size) override {
    constexpr std::size_t kChunk = std::size_t{16} << 20;
    const bool flushes = sync_ && size > kChunk;
    if (flushes) expect_size(file_, written_ + size);
    const char* at = static_cast<const char*>(data);
    while (size != 0) {
      const std::size_t chunk = flushes ? (std::min)(size, kChunk) : size;
      write_all(at, chunk, written_, [&](const char* from, std::size_t length, std::size_t) {
        return write_next(file_, from, length);
      });
      if (flushes) begin_to_flush(file_, written_, chunk);
      written_ += chunk;
      at += chunk;
      size -= chunk;
    }
  }

  /// Renames the file to its final name; replaces an existing file.
  void commit() {
    finish();
    rename();
    if (sync_) flush_rename_to(target_);
  }

  /// The same without replacing: if the name exists, changes nothing and returns false. A file
  /// system without hard links cannot check this, and the file is replaced.
  bool commit_new() {
    finish();
    if (!rename_to_new(temporary_, target_)) {
      if (is_taken(last_error())) return false;
      rename();
    }
    if (sync_) flush_rename_to(target_);
    return true;
  }

 private:
  /// A file in the same folder. Does not use replace_filename(), which crashes when out of memory
  /// (libstdc++ 12). `name` is ASCII.
  static std::filesystem::path sibling_of(const std::filesystem::path& path,
                                          const std::string& name) {
    const auto& native = path.native();
    auto sibling = native.substr(0, native.find_last_of(kSeparators) + 1);
    sibling.append(name.begin(), name.end());
    return sibling;
  }

  void finish() {
    if (sync_ && !flush(file_)) {
      throw_system_error("cannot flush to the disk", last_error(), written_);
    }
    if (!close(file_)) throw_system_error("cannot close", last_error(), written_);
  }

  void rename() {
    if (!rename_file(temporary_, target_)) throw_system_error("cannot rename", last_error());
    temporary_.clear();
  }

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  Descriptor file_;
  std::uint64_t written_ = 0;
  const bool sync_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FILE_WRITER_HPP_

// ---- torch_npy/io/parallel.hpp

#ifndef TORCH_NPY_IO_PARALLEL_HPP_
#define TORCH_NPY_IO_PARALLEL_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The number of processors available to this process, at least 1. Queried once, because the query
/// opens a file, which takes longer than loading a small array.
inline std::size_t processor_count() {
  static const std::size_t count = std::max<std::size_t>(1, std::thread::hardware_concurrency());
  return count;
}

/// for_each_index() on several threads, with a type-erased job: std::thread is expensive to
/// compile, and would be instantiated for every job type.
inline void for_each_index_in_parallel(std::size_t count, std::size_t threads,
                                       void (*job)(const void* context, std::size_t index),
                                       const void* context) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::size_t failed = count;
  std::exception_ptr error;
  const auto work = [&] {
    for (std::size_t i; (i = next.fetch_add(1)) < count;) {
      try {
        job(context, i);
      } catch (...) {
        next = count;  // jobs with a lower index have started already, and report their own error
        const std::lock_guard<std::mutex> lock(mutex);
        if (i < failed) {
          failed = i;
          error = std::current_exception();
        }
      }
    }
  };
  std::vector<std::thread> others;
  others.reserve((std::min)(threads, count) - 1);
  try {
    while (others.size() < others.capacity()) others.emplace_back(work);
  } catch (const std::exception&) {
    // The system has no more threads or memory: the threads that started do all the work.
  }
  work();
  for (std::thread& other : others) other.join();
  if (error) std::rethrow_exception(error);
}

/// Calls `job(0)` ... `job(count - 1)`, each once, on at most `threads` threads including the
/// caller's. After a job throws, no further job starts. If several throw, the exception of the
/// lowest index is rethrown, so that bad input fails the same way in every run.
///
/// Starts and joins its own threads. It does not use LibTorch's thread pool: every worker of a data
/// loader would start a pool of its own.
template <class Job>
void for_each_index(std::size_t count, std::size_t threads, const Job& job) {
  if (threads > 1 && count > 1) {
    const auto call = [](const void* context, std::size_t i) {
      (*static_cast<const Job*>(context))(i);
    };
    return for_each_index_in_parallel(count, threads, call, &job);
  }
  for (std::size_t i = 0; i < count; ++i) job(i);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_PARALLEL_HPP_

// ---- torch_npy/io/folder.hpp

#ifndef TORCH_NPY_IO_FOLDER_HPP_
#define TORCH_NPY_IO_FOLDER_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

struct ListRules {
  std::string pattern = "*";
  bool recursive = false;
  bool natural_order = false;
  std::string ending = ".npy";
};

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Orders names like strcmp, except that a run of digits compares as one number: "a9" is less than
/// "a10".
inline bool natural_less(const char* a, const char* b) {
  const char* x = a;
  const char* y = b;
  while (*x != '\0' && *y != '\0') {
    if (is_digit(*x) && is_digit(*y)) {
      while (*x == '0') ++x;
      while (*y == '0') ++y;
      // The longer number is greater; of two equally long ones, the one with the greater first
      // different digit.
      int order = 0;
      for (; is_digit(*x) && is_digit(*y); ++x, ++y) {
        if (order == 0) order = *x - *y;
      }
      if (is_digit(*x) != is_digit(*y)) return is_digit(*y);
      if (order != 0) return order < 0;
    } else if (*x != *y) {
      break;
    } else {
      ++x;
      ++y;
    }
  }
  if (*x != *y) return static_cast<unsigned char>(*x) < static_cast<unsigned char>(*y);
  return std::strcmp(a, b) < 0;  // "a01" and "a1"
}

/// Names that are each terminated by a zero byte, by their offsets in one text.
using NameOffsets = std::vector<std::uint64_t>;

/// The length of the common prefix of all names from number `first` on.
inline std::size_t common_prefix(const std::string& names, const NameOffsets& starts,
                                 std::size_t first = 0) {
  if (first == starts.size()) return 0;
  const char* const one = names.data() + starts[first];
  std::size_t length = std::strlen(one);
  for (std::size_t i = first; i != starts.size(); ++i) {
    const char* const other = names.data() + starts[i];
    std::size_t same = 0;
    while (same != length && other[same] == one[same]) ++same;
    length = same;
  }
  return length;
}

/// Sorts the names from number `first` on.
inline void sort_names(const std::string& names, NameOffsets& starts, std::size_t first,
                       bool natural_order) {
  const auto begin = starts.begin() + static_cast<std::ptrdiff_t>(first);
  if (natural_order) {
    std::sort(begin, starts.end(), [&](std::uint64_t a, std::uint64_t b) {
      return natural_less(names.data() + a, names.data() + b);
    });
    return;
  }
  // Comparing whole names costs a cache miss each. So the key holds the eight bytes after the
  // common prefix, which decide almost every comparison.
  struct Key {
    std::uint64_t bytes;
    std::uint64_t start;
  };
  const std::size_t common = common_prefix(names, starts, first);
  std::vector<Key> keys;
  keys.reserve(starts.size() - first);
  for (auto start = begin; start != starts.end(); ++start) {
    std::uint64_t bytes = 0;
    const char* name = names.data() + *start + common;
    for (int i = 0; i < 8; ++i) {
      bytes = bytes << 8 | static_cast<unsigned char>(*name);
      if (*name != '\0') ++name;
    }
    keys.push_back({bytes, *start});
  }
  std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
    if (a.bytes != b.bytes) return a.bytes < b.bytes;
    return std::strcmp(names.data() + a.start + common, names.data() + b.start + common) < 0;
  });
  std::transform(keys.begin(), keys.end(), begin, [](const Key& key) { return key.start; });
}

}  // namespace detail

/// @file
/// FileList: the files of a folder, or any other list of files.

/// The .npy or .npz files of a folder, in an order that does not depend on the file system; or a
/// list of any files, in its order. Uses the bytes of the names plus 9 bytes per file. Read-only:
/// safe from any thread.
class FileList {
 public:
  /// An input iterator. It returns each path by value.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::filesystem::path;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = value_type;

    /// At file `index`, or at the end for size(). The list must outlive the iterator.
    Iterator(const FileList& files, std::size_t index) : files_(&files), index_(index) {}
    /// The path of the file.
    value_type operator*() const { return (*files_)[index_]; }
    /// The next file.
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    /// The next file.
    void operator++(int) { ++index_; }
    /// Equality of two iterators over the same list.
    bool operator==(const Iterator& other) const { return index_ == other.index_; }
    /// Inequality.
    bool operator!=(const Iterator& other) const { return index_ != other.index_; }

   private:
    const FileList* files_;
    std::size_t index_;
  };

  /// The paths of all files, for what takes a list of files: `FileDataset(folder.files(), labels)`.
  operator std::vector<std::filesystem::path>() const {  // NOLINT(google-explicit-constructor)
    return {begin(), end()};
  }
  /// Number of files.
  std::size_t size() const noexcept { return starts_.size(); }
  /// The path of file `index`, which must be less than size(); not checked.
  std::filesystem::path operator[](std::size_t index) const {
    return folder_ / detail::path_of(name(index));
  }
  /// Iterator at the first file.
  Iterator begin() const { return {*this, 0}; }
  /// Iterator past the last file.
  Iterator end() const { return {*this, size()}; }

  /// The path of file `index` relative to the folder, or the whole path if there is no folder;
  /// `index` must be less than size(). UTF-8 on Windows. Valid as long as the list.
  const char* name(std::size_t index) const { return names_.data() + starts_[index]; }

  /// The folder that was listed. Empty for a list of any files.
  const std::filesystem::path& folder() const noexcept { return folder_; }

  // Used by the datasets.

  /// An empty list. Throws Error: NotFound, Io. @private
  explicit FileList(std::filesystem::path folder) : folder_(std::move(folder)) {
    detail::with_path(folder_, [&] {
      detail::require_path(folder_);
      open_ = detail::open_folder(folder_);
    });
  }

  /// These files, which need not exist. Relative paths are relative to the working directory at
  /// this moment. Throws Error (InvalidArgument) if a path is empty or contains a zero byte.
  /// @private
  explicit FileList(const std::vector<std::filesystem::path>& files) {
    bool is_relative = false;
    for (const std::filesystem::path& file : files) {
      append(detail::utf8_of(file));
      is_relative = is_relative || file.is_relative();
    }
    if (is_relative) detail::with_path(".", [&] { open_ = detail::open_folder("."); });
  }

  /// The folders in `subfolder`, sorted by the bytes of their names. @private
  std::vector<std::string> subfolders(const std::string& subfolder = ".",
                                      bool natural_order = false) const {
    std::vector<std::string> names;
    detail::with_path(folder_, [&] {
      detail::Directory(subfolder.c_str(), open_).for_each([&](const char* name, bool is_folder) {
        if (is_folder) names.emplace_back(name);
      });
    });
    std::sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
      return natural_order ? detail::natural_less(a.c_str(), b.c_str()) : a < b;
    });
    return names;
  }

  /// Adds the files in `subfolder` ("." for the folder itself), sorted among themselves, and
  /// returns their number. Follows links, except back to a folder that contains them. A folder that
  /// is reached in several ways is listed once for each. @private
  std::size_t add(const std::string& subfolder, const detail::ListRules& rules) {
    const std::size_t first = starts_.size();
    std::vector<detail::FolderIdentity> parents;
    if (subfolder != ".") {
      if (const auto own = detail::identity_of(open_)) parents.push_back(*own);
    }
    add_unsorted(subfolder, subfolder == "." ? "" : subfolder + '/', rules, parents);
    names_.shrink_to_fit();
    starts_.shrink_to_fit();
    detail::sort_names(names_, starts_, first, rules.natural_order);
    return starts_.size() - first;
  }

  /// Adds a file by its path relative to the folder. Throws Error (InvalidArgument). @private
  void append(const std::string& name) {
    if (name.empty() || name.find('\0') != name.npos) {
      throw Error(ErrorCode::InvalidArgument,
                  "file " + std::to_string(size()) + " of a list of files: the path " +
                      (name.empty() ? "is empty" : detail::shown(name) + " contains a zero byte"));
    }
    starts_.push_back(names_.size());
    names_.append(name.c_str(), name.size() + 1);
  }

  /// True if both are lists of the same folder, also by another path. @private
  bool has_folder_of(const FileList& other) const {
    const auto own = detail::identity_of(open_);
    const auto others = detail::identity_of(other.open_);
    return own && others && *own == *others;
  }

  /// The length of the folder that all names begin with; 0 for the list of a folder. @private
  std::size_t common_folder() const {
    if (size() == 0 || !folder_.empty()) return 0;
    const std::string_view common(name(0), detail::common_prefix(names_, starts_));
    return common.find_last_of("/\\") + 1;
  }

  /// File `index`, less than size(). @private
  detail::File open(std::size_t index) const { return {name(index), open_}; }

 private:
  void add_unsorted(const std::string& subfolder, const std::string& prefix,
                    const detail::ListRules& rules, std::vector<detail::FolderIdentity>& parents) {
    std::vector<std::string> deeper;  // listed after this one is closed, to save file descriptors
    detail::with_path(folder_ / detail::path_of(prefix), [&] {
      detail::Directory directory(subfolder.c_str(), open_);
      const detail::FolderIdentity self = directory.identity();
      if (std::find(parents.begin(), parents.end(), self) != parents.end()) return;
      parents.push_back(self);
      directory.for_each([&](const char* name, bool is_folder) {
        const std::string_view text = name;
        if (is_folder) {
          if (rules.recursive) deeper.push_back(prefix + name);
        } else if (text.size() > rules.ending.size() && detail::has_ending(text, rules.ending) &&
                   (rules.pattern == "*" || detail::matches(rules.pattern, name))) {
          starts_.push_back(names_.size());
          names_.append(prefix).append(name, text.size() + 1);
        }
      });
    });
    const std::size_t depth = parents.size();
    for (const std::string& folder : deeper) {
      add_unsorted(folder, folder + '/', rules, parents);
      parents.resize(depth);
    }
  }

  std::filesystem::path folder_;
  detail::OpenFolder open_;
  std::string names_;
  detail::NameOffsets starts_;
};

namespace detail {

/// The numbers of the files that do not exist. Costs one stat per file, on at least 32 threads,
/// because they wait for the disk.
inline std::vector<std::size_t> missing_files(const FileList& list) {
  std::vector<char> is_missing(list.size());
  for_each_index(list.size(), (std::max)(std::size_t{32}, processor_count()), [&](std::size_t i) {
    std::error_code error;
    const auto type = std::filesystem::status(list[i], error).type();
    is_missing[i] = type == std::filesystem::file_type::not_found;
  });
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (is_missing[i] != 0) missing.push_back(i);
  }
  return missing;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FOLDER_HPP_

// ---- torch_npy/io/read_header.hpp

#ifndef TORCH_NPY_IO_READ_HEADER_HPP_
#define TORCH_NPY_IO_READ_HEADER_HPP_

/// @file
/// The header of a file, without its data.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Reads bytes [size, wanted) of the source to the end of `bytes`; returns the new size, which is
/// less than `wanted` only if the source ends there.
inline std::size_t read_more(const ByteSource& source, unsigned char* bytes, std::size_t size,
                             std::size_t wanted) {
  return size < wanted ? size + source.read_available(bytes + size, wanted - size, size) : size;
}

/// Reads the header of the array at the start of a source, with one read() unless it is longer than
/// 16 KiB. A sequential source is left right after the header. `first` receives the bytes that were
/// read, as far as it has room and they are not in memory already.
inline Header read_header(const ByteSource& source, std::uint64_t max_header_size,
                          FirstBytes& first) {
  const SourceTraits traits = source.internal_traits();
  if (traits.data != nullptr) {
    first.size = 0;
    return parse_header(traits.data, static_cast<std::size_t>(source.size()), max_header_size);
  }
  if (traits.is_sequential) {
    first.size = read_more(source, first.data, 0, kMagicSize + 2);
    if (first.size == kMagicSize + 2 && std::memcmp(first.data, kMagic, kMagicSize) == 0) {
      first.size = read_more(source, first.data, first.size, prefix_size(first.data[kMagicSize]));
    }
  } else {
    first.size = source.read(first.data, kFirstRead, 0);
    ByteSource::require_count(first.size, kFirstRead);
    if (first.size < kMaxPrefixSize) {
      first.size = read_more(source, first.data, first.size, kMaxPrefixSize);
      if (first.size < kMaxPrefixSize) (void)source.size();  // a File tells if it is not regular
    }
  }
  const HeaderExtent extent = parse_prefix(first.data, first.size, max_header_size);
  const std::uint64_t end = extent.end();
  if (end <= first.size) return parse_text(first.data, extent, max_header_size);
  if (end <= kFirstRead) {
    first.size = read_more(source, first.data, first.size, static_cast<std::size_t>(end));
    if (first.size < end) throw header_cut_short(extent, first.size);
    return parse_text(first.data, extent, max_header_size);
  }
  // In steps: a length in a file is no reason to allocate memory.
  constexpr std::size_t kStep = std::size_t{1} << 20;
  std::string bytes(reinterpret_cast<const char*>(first.data), first.size);
  while (bytes.size() < end) {
    const std::size_t size = bytes.size();
    bytes.resize(static_cast<std::size_t>(std::min<std::uint64_t>(end, size + kStep)));
    const std::size_t got =
        read_more(source, reinterpret_cast<unsigned char*>(bytes.data()), size, bytes.size());
    if (got < bytes.size()) throw header_cut_short(extent, got);
  }
  if (traits.is_sequential) first.size = 0;  // the rest is not read again
  return parse_text(bytes.data(), extent, max_header_size);
}

/// Bytes of the source that are known to exist, as far as they matter: its size is not asked for if
/// all of the array has been read. That call would take a tenth of the time to load a small file.
inline std::uint64_t available_bytes(const ByteSource& source, const FirstBytes& first,
                                     const Header& header) {
  const std::uint64_t declared = header.end();
  return declared <= first.size ? declared : source.size();
}

}  // namespace detail

/// Reads the header of an .npy file: an open, one read of at most 16 KiB (more only if the header
/// is longer) and a close, whatever the size of the array. Does not check that all of the data
/// exists. Safe from any thread. Throws Error: NotFound, Io, Exhausted, OutOfMemory,
/// InvalidArgument (a zero byte in the path), and what parse_header() throws.
inline Header read_header(const std::filesystem::path& path,
                          std::uint64_t max_header_size = kMaxHeaderSize) {
  return detail::with_path(path, [&] {
    const detail::File file(path);
    detail::FirstBytes first;
    return detail::read_header(file, max_header_size, first);
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_READ_HEADER_HPP_

// ---- torch_npy/io/stream.hpp

#ifndef TORCH_NPY_IO_STREAM_HPP_
#define TORCH_NPY_IO_STREAM_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <istream>
#include <memory>
#include <new>
#include <string>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A stream, read in order; bytes between two reads are read and discarded. Offsets count from the
/// position of the stream at the beginning. The stream outlives it.
class StreamSource final : public ByteSource {
 public:
  explicit StreamSource(std::istream& stream) : stream_(stream) {
    if (!stream || stream.rdbuf() == nullptr) {
      throw Error(ErrorCode::Io, "the stream cannot be read: was the file opened?");
    }
    size_ = remaining();
  }

  /// UINT64_MAX if the stream cannot tell.
  std::uint64_t size() const override { return size_; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    if (offset < position_) {
      throw Error(ErrorCode::InvalidArgument,
                  "an array in a stream can be loaded once: its bytes have been read");
    }
    char skipped[4096];
    while (position_ < offset) {
      const auto wanted = std::min<std::uint64_t>(sizeof skipped, offset - position_);
      if (take(skipped, static_cast<std::size_t>(wanted)) == 0) {
        throw Error(ErrorCode::Truncated,
                    "data cut short: the stream ends at byte " + std::to_string(position_) +
                        ", before byte " + std::to_string(offset),
                    position_);
      }
    }
    return size == 0 ? 0 : take(out, size);
  }

  std::string name() const override { return {}; }
  SourceTraits internal_traits() const override { return {true, false, {}, nullptr}; }

  void internal_finish(std::uint64_t end) const override { (void)read(nullptr, 0, end); }

 private:
  /// The next `size` bytes, or what is left before the end. Read from the buffer directly: the
  /// stream's own read() would throw what its exceptions() mask says.
  std::size_t take(void* out, std::size_t size) const {
    try {
      const auto got =
          stream_.rdbuf()->sgetn(static_cast<char*>(out), static_cast<std::streamsize>(size));
      if (got < 0) throw std::ios_base::failure("the buffer returned a negative count");
      position_ += static_cast<std::uint64_t>(got);
      return static_cast<std::size_t>(got);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      throw Error(ErrorCode::Io, std::string("the stream cannot be read: ") + error.what(),
                  position_);
    }
  }

  /// Bytes from the current position to the end.
  std::uint64_t remaining() const {
    const std::streampos none(-1);
    std::streambuf& buffer = *stream_.rdbuf();
    std::streampos here(none);
    std::streampos end(none);
    try {
      here = buffer.pubseekoff(0, std::ios::cur, std::ios::in);
      if (here != none) end = buffer.pubseekoff(0, std::ios::end, std::ios::in);
      if (end != none && buffer.pubseekpos(here, std::ios::in) == none) {
        throw Error(ErrorCode::Io, "the stream cannot be read: it does not return to its position");
      }
    } catch (const std::ios_base::failure&) {
      return UINT64_MAX;  // how some streams say that they cannot seek
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw Error(ErrorCode::Io, std::string("the stream cannot be read: ") + error.what());
    }
    if (end == none) return UINT64_MAX;
    return end < here ? 0 : static_cast<std::uint64_t>(end - here);
  }

  std::istream& stream_;
  std::uint64_t size_ = 0;
  mutable std::uint64_t position_ = 0;
};

/// The bytes of a stream from its position to its end, in memory. Throws Error (Io, OutOfMemory),
/// and TooLarge if there are more than `max_bytes`.
inline std::shared_ptr<const ByteSource> read_to_end(std::istream& stream,
                                                     std::uint64_t max_bytes) {
  constexpr std::size_t kFirst = std::size_t{64} << 10;
  const StreamSource source(stream);
  const bool is_known = source.size() != UINT64_MAX;
  const auto limit = std::min<std::uint64_t>(max_bytes, PTRDIFF_MAX - 1);
  const auto require_within_limit = [&](std::uint64_t size) {
    if (size <= limit) return;
    throw Error(ErrorCode::TooLarge, "the stream has more than " + counted(limit, "byte") +
                                         ", which is the limit max_bytes");
  };
  if (is_known) require_within_limit(source.size());
  // Not all at once if the size is unknown. realloc() moves large memory without a copy.
  std::shared_ptr<char> memory;
  std::size_t room = is_known ? static_cast<std::size_t>(source.size()) + 1 : kFirst;
  std::size_t size = 0;
  for (std::unique_ptr<char, void (*)(void*)> bytes(nullptr, &std::free);; room += room / 2) {
    char* const grown = static_cast<char*>(std::realloc(bytes.get(), room));
    if (grown == nullptr) {
      throw Error(ErrorCode::OutOfMemory, "out of memory for " + counted(room, "byte"));
    }
    (void)bytes.release();
    bytes.reset(grown);
    size += source.read_available(grown + size, room - size, size);
    require_within_limit(size);
    if (size == room) continue;
    memory = std::move(bytes);
    break;
  }
  if (size == 0) {
    throw Error(ErrorCode::Truncated,
                "empty: the stream is at its end; an archive in a stream is read once, to the end");
  }
  return std::make_shared<const MemorySource>(std::move(memory), size);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_STREAM_HPP_

// ---- torch_npy/io/text_lines.hpp

#ifndef TORCH_NPY_IO_TEXT_LINES_HPP_
#define TORCH_NPY_IO_TEXT_LINES_HPP_

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

// Text files of lines and columns. An Error thrown here has no path; the callers add it.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A line of a text file, without its line end. Lines are counted from 1.
struct TextLine {
  std::size_t number;
  std::string_view text;
};

/// The lines of a text file, without blank ones and comments, which begin with '#'.
class TextLines {
 public:
  /// Reads the whole file. Throws Error: Mismatch if it is no text in UTF-8 or ASCII; what reading
  /// a file throws.
  explicit TextLines(const std::filesystem::path& path) : text_(whole(path)) {
    std::string_view rest = text_;
    if (rest.substr(0, 3) == "\xef\xbb\xbf") rest.remove_prefix(3);  // a byte order mark
    for (std::size_t number = 1; !rest.empty(); ++number) {
      const std::size_t end = rest.find('\n');
      std::string_view line = rest.substr(0, end);
      rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      const std::size_t first = line.find_first_not_of(" \t");
      if (first != line.npos && line[first] != '#') lines_.push_back({number, line});
    }
  }
  TextLines(const TextLines&) = delete;
  TextLines& operator=(const TextLines&) = delete;

  std::size_t size() const noexcept { return lines_.size(); }
  const TextLine& operator[](std::size_t index) const { return lines_[index]; }

 private:
  static std::string whole(const std::filesystem::path& path) {
    const File file(path);
    std::string text(static_cast<std::size_t>(file.size()), '\0');
    file.read_fully(text.data(), text.size(), 0);
    const std::size_t zero = text.find('\0');
    if (zero == text.npos) return text;
    throw Error(ErrorCode::Mismatch,
                "expected a text file in UTF-8, found a zero byte: the file is binary or UTF-16",
                zero);
  }

  std::string text_;
  std::vector<TextLine> lines_;
};

/// The separator for a line that is one column. No line has this character.
constexpr char kOneColumn = '\n';

/// The columns of a line. Blanks around a column are removed. A column in quotes may have the
/// separator in it, and two quotes for one. The separator ' ' stands for any number of blanks and
/// tabs. Throws Error (Mismatch) for wrong quotes.
inline std::vector<std::string> split_columns(std::string_view line, char separator) {
  const auto is_blank = [&](char c) { return c == ' ' || (c == '\t' && separator != '\t'); };
  const auto ends_column = [&](char c) { return separator == ' ' ? is_blank(c) : c == separator; };
  std::vector<std::string> columns;
  std::size_t at = 0;
  const auto skip_blanks = [&] {
    while (at != line.size() && is_blank(line[at])) ++at;
  };
  for (;;) {
    skip_blanks();
    if (separator == ' ' && at == line.size()) return columns;
    std::string& column = columns.emplace_back();
    if (at != line.size() && line[at] == '"') {
      for (++at;; ++at) {
        if (at == line.size()) throw Error(ErrorCode::Mismatch, "a quote is not closed");
        if (line[at] == '"' && (++at == line.size() || line[at] != '"')) break;
        column += line[at];
      }
      const bool is_end = at == line.size() || is_blank(line[at]) || ends_column(line[at]);
      skip_blanks();
      if (!is_end || (separator != ' ' && at != line.size() && line[at] != separator)) {
        throw Error(ErrorCode::Mismatch, "there is text after a closing quote");
      }
    } else {
      const std::size_t begin = at;
      while (at != line.size() && !ends_column(line[at])) ++at;
      column = line.substr(begin, at - begin);
      while (!column.empty() && is_blank(column.back())) column.pop_back();
    }
    if (at == line.size()) return columns;
    if (separator != ' ') ++at;
  }
}

/// The separator of a line: a tab, else a comma, else blanks, as far as they are not in quotes.
inline char separator_in(std::string_view line) {
  const std::size_t end = line.find_last_not_of(" \t");
  line = line.substr(0, end == line.npos ? 0 : end + 1);
  line.remove_prefix((std::min)(line.find_first_not_of(" \t"), line.size()));
  bool has_comma = false;
  bool has_blank = false;
  bool is_quoted = false;
  for (const char c : line) {
    if (c == '"') is_quoted = !is_quoted;
    if (is_quoted) continue;
    if (c == '\t') return '\t';
    has_comma = has_comma || c == ',';
    has_blank = has_blank || c == ' ';
  }
  return has_comma ? ',' : has_blank ? ' ' : kOneColumn;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_TEXT_LINES_HPP_

// ---- torch_npy/zip/records.hpp

#ifndef TORCH_NPY_ZIP_RECORDS_HPP_
#define TORCH_NPY_ZIP_RECORDS_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

// The records of zip archives, after PKWARE's APPNOTE.TXT 6.3, as far as NumPy and Python's zipfile
// write them: stored and deflated members, zip64, data descriptors.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Reads fields one after another. Throws Error (BadZip) if the record ends before the field.
class ZipFields {
 public:
  ZipFields(const void* data, std::size_t size)
      : at_(static_cast<const unsigned char*>(data)), left_(size) {}

  std::size_t left() const { return left_; }

  std::uint64_t number(std::size_t size) { return little_endian(take(size), size); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(number(2)); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
  std::uint64_t u64() { return number(8); }
  std::string_view text(std::size_t size) {
    return {reinterpret_cast<const char*>(take(size)), size};
  }

 private:
  const unsigned char* take(std::size_t size) {
    if (size > left_) throw Error(ErrorCode::BadZip, "a record of the archive is cut short");
    left_ -= size;
    return std::exchange(at_, at_ + size);
  }

  const unsigned char* at_;
  std::size_t left_;
};

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kDirectoryEntry = 0x02014b50;
constexpr std::uint32_t kDirectoryEnd = 0x06054b50;
constexpr std::uint32_t kDirectoryEnd64 = 0x06064b50;
constexpr std::uint32_t kDirectoryEnd64Locator = 0x07064b50;
constexpr std::size_t kLocalHeaderSize = 30;
constexpr std::size_t kDirectoryEntrySize = 46;
constexpr std::size_t kDirectoryEndSize = 22;
constexpr std::size_t kDirectoryEnd64Size = 56;
constexpr std::size_t kDirectoryEnd64LocatorSize = 20;
constexpr std::uint16_t kZip64Field = 1;
constexpr std::uint16_t kStored = 0;
constexpr std::uint16_t kDeflated = 8;
constexpr std::uint16_t kEncryptedFlags = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 13;
constexpr std::uint16_t kDescriptorFlag = 1 << 3;  // CRC and sizes follow the data
constexpr std::uint16_t kUtf8Flag = 1 << 11;

constexpr int kNewestVersion = 63;  // 6.3

struct ZipMember {
  std::string name;  ///< UTF-8
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint32_t crc = 0;
  std::uint64_t packed = 0;  ///< size in the archive, in bytes
  std::uint64_t size = 0;    ///< unpacked size, in bytes
  std::uint64_t entry = 0;   ///< offset of its directory entry
  std::uint64_t offset = 0;  ///< offset of its local header
  std::uint64_t limit = 0;   ///< offset of the next member or of the directory
};

inline Error bad_zip(const std::string& reason, std::uint64_t offset = 0) {
  return Error(ErrorCode::BadZip, reason, offset);
}

inline Error bad_archive(const std::string& reason, std::uint64_t offset = 0) {
  return bad_zip("bad archive: " + reason, offset);
}

/// Why this name is not allowed for a member; empty if it is allowed. This library never uses names
/// as paths, but programs may: no name leads out of a folder by "..".
inline std::string fault_of_name(const std::string& name) {
  if (name.empty()) return "it is empty";
  if (name.size() > UINT16_MAX) return "it is longer than 65535 bytes";
  if (name.find('\0') != name.npos) return shown(name) + " holds a zero byte";
  for (std::string_view left = name; !left.empty();) {
    if (take_utf8(left) == kNoCharacter) return shown(name) + " is not UTF-8";
  }
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = (std::min)(name.find_first_of("/\\", begin), name.size());
    const std::string_view part = std::string_view(name).substr(begin, end - begin);
    if (part == "..") return shown(name) + " leads out of its folder";
    begin = end + 1;
  }
  return {};
}

/// A member's name in UTF-8. Without the UTF-8 flag it is stored in code page 437.
inline std::string zip_name(std::string_view bytes, std::uint16_t flags) {
  static constexpr char16_t kCodePage437[] =
      u"ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌"
      u"█▄▌▐▀"
      u"αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";
  static_assert(sizeof kCodePage437 == 129 * sizeof(char16_t));
  const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
  if ((flags & kUtf8Flag) != 0 || std::all_of(bytes.begin(), bytes.end(), is_ascii)) {
    return std::string(bytes);
  }
  std::string name;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    append_utf8(name, byte < 0x80 ? byte : kCodePage437[byte - 0x80]);
  }
  return name;
}

/// Calls `take(id, fields)` for each extra field. Ignores a tail that is too short to be one.
template <class Take>
void for_each_extra_field(std::string_view extra, const Take& take) {
  ZipFields fields(extra.data(), extra.size());
  while (fields.left() >= 4) {
    const std::uint16_t id = fields.u16();
    const std::uint16_t size = fields.u16();
    if (size > fields.left())
      throw bad_zip("an extra field reaches past the end of the extra fields");
    const std::string_view data = fields.text(size);
    take(id, ZipFields(data.data(), data.size()));
  }
}

/// Replaces those of `numbers` that are 2^32 - 1 by the 64-bit numbers of the zip64 field. The
/// field has only these, in the order of `numbers`.
inline void read_zip64(std::string_view extra, std::initializer_list<std::uint64_t*> numbers) {
  for_each_extra_field(extra, [&](std::uint16_t id, ZipFields fields) {
    if (id != kZip64Field) return;
    for (std::uint64_t* number : numbers) {
      if (*number == UINT32_MAX) *number = fields.u64();
    }
  });
}

/// Throws if an extra field gives the member another name, which some programs would use.
inline void require_one_name(std::string_view extra, const std::string& name) {
  constexpr std::uint16_t kUnicodeName = 0x7075;
  for_each_extra_field(extra, [&](std::uint16_t id, ZipFields fields) {
    if (id != kUnicodeName || fields.left() < 5) return;
    (void)fields.number(5);  // version, and CRC of the name
    if (fields.text(fields.left()) != name) throw bad_zip("it has two different names");
  });
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_RECORDS_HPP_

// ---- torch_npy/zip/archive_bytes.hpp

#ifndef TORCH_NPY_ZIP_ARCHIVE_BYTES_HPP_
#define TORCH_NPY_ZIP_ARCHIVE_BYTES_HPP_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The bytes of an archive, whose end has been read into memory: all of a small archive, and the
/// directory of any other. So opening a small archive and reading its members takes one read().
class ArchiveBytes final : public ByteSource {
 public:
  /// The longest end of an archive in which its end record can be: a comment may follow it.
  static constexpr std::size_t kLongestEnd = kDirectoryEndSize + UINT16_MAX;
  /// An archive of at most this size is read whole.
  static constexpr std::size_t kSmall = std::size_t{128} << 10;

  /// The memory that an archive takes here at most.
  static std::shared_ptr<char> allocate_room() { return allocate_buffer(kSmall); }

  /// Reads into `room`, of allocate_room(), which nothing else uses as long as this object exists;
  /// or if it is null, into memory of its own. Throws Error (Truncated, OutOfMemory), and what the
  /// source throws.
  explicit ArchiveBytes(std::shared_ptr<const ByteSource> source, std::shared_ptr<char> room)
      : source_(std::move(source)), size_(source_->size()), end_(std::move(room)) {
    const std::size_t kept = size_ <= kSmall ? static_cast<std::size_t>(size_) : kLongestEnd;
    if (end_ == nullptr) end_ = allocate_buffer(kept);
    begin_ = size_ - kept;
    source_->read_fully(end_.get(), kept, begin_);
  }

  std::uint64_t size() const override { return size_; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    if (offset < begin_) return source_->read(out, size, offset);
    return end().copy(static_cast<char*>(out), size, static_cast<std::size_t>(offset - begin_));
  }

  std::string name() const override { return source_->name(); }
  std::string version() const override { return source_->version(); }

  SourceTraits internal_traits() const override {
    SourceTraits traits = source_->internal_traits();
    if (begin_ == 0) traits.data = end_.get();
    return traits;
  }

  /// The bytes at the end that are in memory.
  std::string_view end() const { return {end_.get(), static_cast<std::size_t>(size_ - begin_)}; }

  /// Bytes [offset, offset + size), if they are in memory; else null.
  const char* kept(std::uint64_t offset, std::uint64_t size) const {
    if (offset < begin_ || offset > size_ || size > size_ - offset) return nullptr;
    return end_.get() + (offset - begin_);
  }

  /// The same bytes; they are read into `room` if they are not in memory. Throws Error (Truncated)
  /// and what the source throws.
  const unsigned char* view(std::uint64_t offset, std::size_t size, std::string& room) const {
    const char* bytes = kept(offset, size);
    if (bytes == nullptr) {
      room.resize(size);
      read_fully(room.data(), size, offset);
      bytes = room.data();
    }
    return reinterpret_cast<const unsigned char*>(bytes);
  }

 private:
  std::shared_ptr<const ByteSource> source_;
  std::uint64_t size_;
  std::uint64_t begin_ = 0;  // of what is in memory
  std::shared_ptr<char> end_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_ARCHIVE_BYTES_HPP_

// ---- torch_npy/zip/crc.hpp

#ifndef TORCH_NPY_ZIP_CRC_HPP_
#define TORCH_NPY_ZIP_CRC_HPP_

#include <cstddef>
#include <cstdint>
#include <utility>

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

// ---- torch_npy/zip/codec.hpp

#ifndef TORCH_NPY_ZIP_CODEC_HPP_
#define TORCH_NPY_ZIP_CODEC_HPP_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

// The algorithms of zip archives: CRC-32, and deflate if the program is built with libdeflate.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

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
  static constexpr ZipCodec without_libdeflate{&crc32, nullptr, nullptr};
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

// ---- torch_npy/zip/deflate.hpp

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

inline bool use_libdeflate() {
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

// ---- torch_npy/zip/reader.hpp

#ifndef TORCH_NPY_ZIP_READER_HPP_
#define TORCH_NPY_ZIP_READER_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The zip container of .npz files, read. The directory at the end of an archive is validated
// against the file, and the local header before each member against the directory: an archive that
// contradicts itself is refused, because two readers would find two different contents in it.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// An archive, open for reading. Its directory is read and validated once. Members can be read from
/// several threads at once.
class ZipArchive {
 public:
  /// `room`: see ArchiveBytes. Throws Error (Io, NotNpy, Truncated, BadZip, OutOfMemory) without a
  /// path.
  explicit ZipArchive(std::shared_ptr<const ByteSource> source,
                      std::shared_ptr<char> room = nullptr)
      : bytes_(std::move(source), std::move(room)) {
    const Directory directory = find_directory();
    read_directory(directory);
    if (members_.size() != directory.count) {
      throw bad_archive("the directory has " + counted(members_.size(), "member") +
                        ", its end record declares " + std::to_string(directory.count));
    }
    find_limits(directory.offset);
    reject_duplicate_names();
  }

  /// In the order of the directory.
  const std::vector<ZipMember>& members() const noexcept { return members_; }

  const ByteSource& source() const noexcept { return bytes_; }

  /// The largest step by which a deflate stream goes on: a stored block. A match is shorter.
  static constexpr std::size_t kLargestStep = UINT16_MAX;

  // Errors from here on do not name the member: the caller adds that.

  /// Offset of the packed bytes of a member in the archive. Its local header must agree with the
  /// directory. Throws Error (BadZip).
  std::uint64_t data_offset(const ZipMember& member) const {
    const auto refuse = [&](const std::string& reason) { return bad_zip(reason, member.offset); };
    if ((member.flags & kEncryptedFlags) != 0)
      throw refuse("it is encrypted, which is not supported");
    if (member.method != kStored && member.method != kDeflated) {
      throw refuse("it has compression method " + std::to_string(member.method) +
                   ": 0 (stored) and 8 (deflated) are supported");
    }
    const auto at = [&] { return " at byte " + std::to_string(member.offset); };
    // Read at once with its name and with the extra fields of usual writers.
    constexpr std::size_t kUsualExtra = 128;
    const auto likely = static_cast<std::size_t>(std::min<std::uint64_t>(
        member.limit - member.offset, kLocalHeaderSize + member.name.size() + kUsualExtra));
    std::string room;
    const unsigned char* header = bytes_.view(member.offset, likely, room);
    ZipFields fields(header, kLocalHeaderSize);
    if (fields.u32() != kLocalHeader) throw refuse("no local header" + at());
    (void)fields.u16();  // version
    const std::uint16_t flags = fields.u16();
    const std::uint16_t method = fields.u16();
    (void)fields.u32();  // time and date
    const std::uint64_t crc = fields.u32();
    std::uint64_t packed = fields.u32();
    std::uint64_t size = fields.u32();
    const std::uint16_t name_size = fields.u16();
    const std::uint16_t extra_size = fields.u16();
    const std::uint64_t begin = member.offset + kLocalHeaderSize + name_size + extra_size;
    if (begin > member.limit || member.limit - begin < member.packed) {
      throw refuse("its header and data overlap what starts at byte " +
                   std::to_string(member.limit));
    }
    constexpr std::uint64_t kLargestDescriptor = 24;
    if (member.limit - begin - member.packed > kLargestDescriptor) {
      throw refuse(counted(member.limit - begin - member.packed, "byte") +
                   " between it and what follows belong to no member");
    }
    const auto header_size = static_cast<std::size_t>(begin - member.offset);
    if (header_size > likely) header = bytes_.view(member.offset, header_size, room);
    ZipFields rest(header + kLocalHeaderSize, header_size - kLocalHeaderSize);
    const bool named_alike = zip_name(rest.text(name_size), flags) == member.name;
    const std::string_view extra = rest.text(extra_size);
    read_zip64(extra, {&size, &packed});
    require_one_name(extra, member.name);
    // A writer that does not know the sizes yet writes zeros here, and the numbers after the data.
    const bool later = (flags & kDescriptorFlag) != 0;
    const auto agrees = [&](std::uint64_t here, std::uint64_t there) {
      return here == there || (later && here == 0);
    };
    if (!named_alike || method != member.method ||
        ((flags ^ member.flags) & kEncryptedFlags) != 0 || !agrees(crc, member.crc) ||
        !agrees(packed, member.packed) || !agrees(size, member.size)) {
      throw refuse("its local header" + at() + " and the directory disagree about " +
                   (!named_alike               ? "its name"
                    : method != member.method  ? "its method"
                    : !agrees(crc, member.crc) ? "its CRC"
                                               : "its size"));
    }
    // The best that deflate can do is a match of 258 bytes in 2 bits.
    constexpr std::uint64_t kMaxRatio = 1032;
    if (member.size / kMaxRatio > member.packed) {
      throw refuse("deflate cannot unpack " + std::to_string(member.packed) + " to " +
                   counted(member.size, "byte"));
    }
    // Incompressible data takes 5 more bytes a block, and no writer makes such small blocks. The
    // packed bytes are read into memory, too.
    constexpr std::uint64_t kMaxSlack = 1024;
    if (member.packed > kMaxSlack && (member.packed - kMaxSlack) / 2 > member.size) {
      throw refuse("it has " + counted(member.packed, "packed byte") + " for only " +
                   counted(member.size, "byte"));
    }
    return begin;
  }

  /// Unpacks a deflated member and checks its CRC. Throws Error (BadZip, OutOfMemory).
  std::shared_ptr<char> inflate(const ZipMember& member) const {
    const std::uint64_t begin = data_offset(member);
    std::shared_ptr<char> out = allocate_buffer(member.size);
    if (inflate_part(begin, member.packed, out.get(), member.size) != Inflated::Whole) {
      throw bad_deflate_stream(member, begin);
    }
    require_crc(member,
                zip_codec().load()->crc32(0, out.get(), static_cast<std::size_t>(member.size)));
    return out;
  }

  static void require_crc(const ZipMember& member, std::uint32_t crc) {
    if (crc == member.crc) return;
    char text[48];
    std::snprintf(text, sizeof text, "%08x, expected %08x", crc, member.crc);
    throw bad_zip(std::string("the data is damaged: its CRC-32 is ") + text, member.offset);
  }

  /// The first `count` bytes of a deflated member, or all of it if it has fewer; their CRC is not
  /// checked. Bytes that the codec does not write are those of `unwritten`.
  std::string inflate_start(const ZipMember& member, std::uint64_t count,
                            std::string_view unwritten) const {
    // libdeflate unpacks whole streams. If the output has no room it stops before the step that
    // does not fit, and keeps what comes before; so there is room for the largest one. It does not
    // promise that: hence `unwritten`, by which the caller recognizes it.
    if (member.size <= count + kLargestStep) {
      const std::shared_ptr<char> all = inflate(member);
      return {all.get(), static_cast<std::size_t>((std::min)(count, member.size))};
    }
    const std::uint64_t begin = data_offset(member);
    std::string some(unwritten);
    some.resize((std::max)(static_cast<std::size_t>(count), unwritten.size()) + kLargestStep);
    // data_offset() has verified that a stream has no more bytes than that.
    const auto input = std::min<std::uint64_t>(member.packed, 2 * some.size());
    if (inflate_part(begin, input, some.data(), some.size()) != Inflated::TooMuch) {
      throw bad_deflate_stream(member, begin);
    }
    return some.substr(0, static_cast<std::size_t>(count));
  }

 private:
  struct Directory {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint64_t count = 0;
  };

  /// In chunks: memory is allocated for members that exist, not for what the end record declares.
  void read_directory(const Directory& directory) {
    constexpr std::size_t kChunk = std::size_t{1} << 20;
    constexpr std::size_t kLargestEntry = kDirectoryEntrySize + 3 * UINT16_MAX;
    const std::uint64_t end = directory.offset + directory.size;
    std::string room;
    for (std::uint64_t offset = directory.offset; offset != end;) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, end - offset));
      ZipFields fields(bytes_.view(offset, size, room), size);
      const std::size_t rest = offset + size == end ? 1 : kLargestEntry;
      while (fields.left() >= rest) {
        members_.push_back(read_entry(fields, offset + (size - fields.left())));
      }
      offset += size - fields.left();
    }
  }

  Directory find_directory() const {
    const std::uint64_t size = bytes_.size();
    std::string room;
    const auto got = static_cast<std::size_t>(std::min<std::uint64_t>(size, 4));
    const unsigned char* const start = bytes_.view(0, got, room);
    if (got == 0) {
      throw Error(ErrorCode::Truncated, "empty: an .npz archive starts with \"PK\\x03\\x04\"");
    }
    const std::uint64_t signature = little_endian(start, got);
    if (got != 4 || (signature != kLocalHeader && signature != kDirectoryEnd)) {
      const std::string first = shown({reinterpret_cast<const char*>(start), got});
      const auto known = static_cast<std::size_t>(std::min<std::uint64_t>(size, kSignatureSize));
      const auto* const bytes = reinterpret_cast<const char*>(bytes_.view(0, known, room));
      throw Error(ErrorCode::NotNpy, "not an .npz archive: it starts with " + first +
                                         " instead of \"PK\\x03\\x04\"" +
                                         looks_like({bytes, known}));
    }
    const std::size_t whole = bytes_.end().size();
    const std::string_view tail =
        bytes_.end().substr(whole - (std::min)(whole, ArchiveBytes::kLongestEnd));
    const std::uint64_t tail_begin = size - tail.size();
    const std::size_t found = find_end_record(tail);
    if (found == tail.npos) {
      throw bad_archive(
          "its end record is missing: the file is cut short, or more than 64 KiB follow the "
          "archive",
          size);
    }
    if (has_two_ends(tail, found)) throw bad_archive("it has two end records", size);
    const std::uint64_t end_offset = tail_begin + found;

    ZipFields end(tail.data() + found, tail.size() - found);
    (void)end.u32();
    const std::uint16_t disk = end.u16();
    const std::uint16_t directory_disk = end.u16();
    std::uint64_t count_here = end.u16();
    Directory directory;
    directory.count = end.u16();
    directory.size = end.u32();
    directory.offset = end.u32();
    std::uint64_t directory_end = end_offset;
    const bool one_disk = disk == directory_disk && (disk == 0 || disk == UINT16_MAX);
    if (end.u16() > end.left()) throw bad_archive("its comment is cut short", size);
    read_end64(end_offset, directory, count_here, directory_end);
    if (!one_disk || count_here != directory.count) throw several_parts(end_offset);
    if (directory.offset > directory_end || directory.size != directory_end - directory.offset) {
      throw bad_archive("its end record declares a directory of " +
                            counted(directory.size, "byte") + " from byte " +
                            std::to_string(directory.offset) + " on, but is itself at byte " +
                            std::to_string(directory_end),
                        end_offset);
    }
    return directory;
  }

  static Error several_parts(std::uint64_t offset) {
    return bad_archive("it is one part of a multi-part archive, which is not supported", offset);
  }

  /// As Python's zipfile: first at the position without a comment, then for the last signature.
  static std::size_t find_end_record(std::string_view tail) {
    constexpr std::string_view kSignature("PK\x05\x06", 4);
    if (tail.size() < kDirectoryEndSize) return tail.npos;
    const std::size_t last = tail.size() - kDirectoryEndSize;
    if (tail.compare(last, 4, kSignature) == 0 &&
        tail.compare(tail.size() - 2, 2, "\0\0", 2) == 0) {
      return last;
    }
    const std::size_t found = tail.rfind(kSignature);
    return found > last ? tail.npos : found;
  }

  /// Whether another end record comes before the one found, whose comment also extends to the end.
  static bool has_two_ends(std::string_view tail, std::size_t found) {
    // Forwards: find() is many times as fast as rfind().
    constexpr std::string_view kSignature("PK\x05\x06", 4);
    for (std::size_t at = tail.find(kSignature); at < found; at = tail.find(kSignature, at + 1)) {
      const std::uint64_t comment = little_endian(
          reinterpret_cast<const unsigned char*>(tail.data()) + at + kDirectoryEndSize - 2, 2);
      if (at + kDirectoryEndSize + comment == tail.size()) return true;
    }
    return false;
  }

  /// The end record of zip64, if there is one, has the numbers that do not fit in the other.
  void read_end64(std::uint64_t end_offset, Directory& directory, std::uint64_t& count_here,
                  std::uint64_t& directory_end) const {
    if (end_offset < kDirectoryEnd64LocatorSize) return;
    const std::uint64_t locator_offset = end_offset - kDirectoryEnd64LocatorSize;
    std::string room;
    ZipFields locator(bytes_.view(locator_offset, kDirectoryEnd64LocatorSize, room),
                      kDirectoryEnd64LocatorSize);
    if (locator.u32() != kDirectoryEnd64Locator) return;
    const std::uint32_t disk_of_end = locator.u32();
    directory_end = locator.u64();
    if (disk_of_end != 0 || locator.u32() > 1) throw several_parts(locator_offset);
    if (directory_end > locator_offset || locator_offset - directory_end < kDirectoryEnd64Size) {
      throw bad_archive("the zip64 end record cannot be at byte " + std::to_string(directory_end),
                        locator_offset);
    }
    ZipFields end(bytes_.view(directory_end, kDirectoryEnd64Size, room), kDirectoryEnd64Size);
    const bool is_one = end.u32() == kDirectoryEnd64;
    if (!is_one || end.u64() != locator_offset - directory_end - 12) {
      throw bad_archive("no zip64 end record at byte " + std::to_string(directory_end),
                        directory_end);
    }
    (void)end.u32();  // versions
    const std::uint32_t disk = end.u32();
    if (end.u32() != disk || disk != 0) throw several_parts(directory_end);
    const auto replace = [&](std::uint64_t& number, std::uint64_t none) {
      const std::uint64_t number64 = end.u64();
      if (number != none && number != number64) {
        throw bad_archive("its two end records contradict each other", directory_end);
      }
      number = number64;
    };
    replace(count_here, UINT16_MAX);
    replace(directory.count, UINT16_MAX);
    replace(directory.size, UINT32_MAX);
    replace(directory.offset, UINT32_MAX);
  }

  static ZipMember read_entry(ZipFields& fields, std::uint64_t offset) {
    if (fields.left() < kDirectoryEntrySize || fields.u32() != kDirectoryEntry) {
      throw bad_archive("the directory has no valid entry at byte " + std::to_string(offset),
                        offset);
    }
    (void)fields.u16();  // made by
    const int version = fields.u16() & 0xff;
    ZipMember member;
    member.entry = offset;
    member.flags = fields.u16();
    member.method = fields.u16();
    (void)fields.u32();  // time and date
    member.crc = fields.u32();
    member.packed = fields.u32();
    member.size = fields.u32();
    const std::uint16_t name_size = fields.u16();
    const std::uint16_t extra_size = fields.u16();
    const std::uint16_t comment_size = fields.u16();
    (void)fields.u64();  // disk, attributes
    member.offset = fields.u32();
    member.name = zip_name(fields.text(name_size), member.flags);
    if (const std::string fault = fault_of_name(member.name); !fault.empty()) {
      throw bad_archive("the name of a member: " + fault, offset);
    }
    with_part("member", member.name, [&] {
      const std::string_view extra = fields.text(extra_size);
      read_zip64(extra, {&member.size, &member.packed, &member.offset});
      require_one_name(extra, member.name);
      (void)fields.text(comment_size);
      if (version > kNewestVersion) {
        throw bad_zip("unpacking it needs version " + std::to_string(version / 10) + "." +
                      std::to_string(version % 10) + " of the zip format");
      }
      if (member.method == kStored && member.packed != member.size) {
        throw bad_zip("it is stored, but has two sizes: " + std::to_string(member.packed) +
                      " and " + counted(member.size, "byte"));
      }
    });
    return member;
  }

  /// Members must not overlap: a small file could contain any amount of data otherwise.
  void find_limits(std::uint64_t directory_offset) {
    std::vector<ZipMember*> order;
    for (ZipMember& member : members_) order.push_back(&member);
    std::sort(order.begin(), order.end(),
              [](const ZipMember* a, const ZipMember* b) { return a->offset > b->offset; });
    std::uint64_t limit = directory_offset;
    for (ZipMember* member : order) {
      member->limit = limit;
      if (member->offset > limit || limit - member->offset < kLocalHeaderSize ||
          limit - member->offset - kLocalHeaderSize < member->packed) {
        throw ErrorContext::within(
            bad_zip("its " + counted(member->packed, "byte") + " start at byte " +
                        std::to_string(member->offset) + " and overlap what starts at byte " +
                        std::to_string(limit),
                    member->entry),
            "member " + in_quotes(member->name));
      }
      limit = member->offset;
    }
    if (limit != 0) {
      throw bad_archive(counted(limit, "byte") + " before its first member");
    }
  }

  void reject_duplicate_names() const {
    std::vector<std::string_view> names;
    for (const ZipMember& member : members_) names.push_back(member.name);
    const auto duplicate = first_duplicate(std::move(names));
    if (duplicate) throw bad_archive("two members have the name " + shown(*duplicate));
  }

  static Error bad_deflate_stream(const ZipMember& member, std::uint64_t begin) {
    return bad_zip("the deflate stream is damaged, or does not unpack to the declared " +
                       counted(member.size, "byte"),
                   begin);
  }

  /// Unpacks the first `packed` bytes of the stream at byte `begin` into `size` bytes at `out`.
  Inflated inflate_part(std::uint64_t begin, std::uint64_t packed, void* out,
                        std::uint64_t size) const {
    const ZipCodec& codec = *zip_codec().load();
    if (codec.inflate == nullptr) throw_no_deflate();
    auto in_size = static_cast<std::size_t>(packed);
    auto out_size = static_cast<std::size_t>(size);
    const char* in = bytes_.kept(begin, packed);
    std::shared_ptr<char> room;
    if (in == nullptr) {
      room = allocate_buffer(packed);
      bytes_.read_fully(room.get(), in_size, begin);
      in = room.get();
    }
    const Inflated result = codec.inflate(in, in_size, out, out_size);
    if (result == Inflated::Whole && (in_size != packed || out_size != size)) {
      return Inflated::Damaged;
    }
    return result;
  }

  ArchiveBytes bytes_;
  std::vector<ZipMember> members_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_READER_HPP_

// ---- torch_npy/zip/member.hpp

#ifndef TORCH_NPY_ZIP_MEMBER_HPP_
#define TORCH_NPY_ZIP_MEMBER_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

// Members of an archive as sources of bytes, which keep the archive open.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A stored member that is read in order, from its first byte to its last, while its CRC is
/// computed.
class CheckedMember final : public ByteSource {
 public:
  /// All of these outlive it. `first` are the first bytes of the member.
  CheckedMember(const ByteSource& part, const FirstBytes& first, const ZipMember& member)
      : part_(part), first_(first), member_(member) {}

  std::uint64_t size() const override { return member_.size; }
  std::string name() const override { return part_.name(); }
  SourceTraits internal_traits() const override { return {true, false, {}, nullptr}; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    skip_to(offset);
    return read_next(out, size);
  }

  void internal_finish(std::uint64_t /*end*/) const override {
    skip_to(member_.size);
    ZipArchive::require_crc(member_, crc_);
  }

 private:
  void skip_to(std::uint64_t offset) const {
    char skipped[4096];
    while (position_ < offset) {
      const auto size = std::min<std::uint64_t>(sizeof skipped, offset - position_);
      if (read_next(skipped, static_cast<std::size_t>(size)) == 0) break;
    }
  }

  std::size_t read_next(void* out, std::size_t size) const {
    // The CRC of a chunk is computed while it is in the processor's cache.
    constexpr std::size_t kChunk = std::size_t{128} << 10;
    size = (std::min)(size, kChunk);
    if (position_ < first_.size) {
      size = std::min<std::size_t>(size, first_.size - static_cast<std::size_t>(position_));
      std::memcpy(out, first_.data + position_, size);
    } else {
      size = part_.read_available(out, size, position_);
    }
    crc_ = crc32_(crc_, out, size);
    position_ += size;
    return size;
  }

  const ByteSource& part_;
  const FirstBytes& first_;
  const ZipMember& member_;
  std::uint32_t (*crc32_)(std::uint32_t, const void*, std::size_t) = zip_codec().load()->crc32;
  mutable std::uint64_t position_ = 0;
  mutable std::uint32_t crc_ = 0;
};

/// A stored member of an archive. Its CRC is checked if all of it is loaded.
class StoredMember final : public SourcePart {
 public:
  /// Throws Error (BadZip).
  StoredMember(std::shared_ptr<const ZipArchive> archive, const ZipMember& member)
      : SourcePart(archive->source(), archive->data_offset(member), member.packed),
        archive_(std::move(archive)),
        member_(member) {}

  std::shared_ptr<const ByteSource> internal_unpacked(const FirstBytes& first,
                                                      bool whole) const override {
    return whole ? std::make_shared<const CheckedMember>(*this, first, member_) : nullptr;
  }

 private:
  std::shared_ptr<const ZipArchive> archive_;
  const ZipMember& member_;  // of the archive
};

/// A deflated member of an archive: its unpacked bytes. All of it is unpacked to load any of it.
class DeflatedMember final : public ByteSource {
 public:
  /// Up to this size, reading a header unpacks all of the member.
  static constexpr std::uint64_t kWholeForHeader = kFirstRead + ZipArchive::kLargestStep;

  /// A member of at most `at_once` bytes is unpacked here, and then in memory: once for its header
  /// and its data. `unwritten`: see ZipArchive::inflate_start(). Not empty. Throws Error (BadZip,
  /// OutOfMemory).
  DeflatedMember(std::shared_ptr<const ZipArchive> archive, const ZipMember& member,
                 std::string_view unwritten, std::uint64_t at_once = kWholeForHeader)
      : archive_(std::move(archive)), member_(member), unwritten_(unwritten) {
    if (member.size <= at_once) unpacked_ = archive_->inflate(member);
  }

  std::uint64_t size() const override { return member_.size; }
  std::string name() const override { return archive_->source().name(); }
  std::string version() const override { return archive_->source().version(); }
  SourceTraits internal_traits() const override { return {false, true, {}, unpacked_.get()}; }

  /// Unpacks from the start on: for headers.
  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    if (unpacked_ != nullptr) return in_memory().read(out, size, offset);
    if (offset >= member_.size) return 0;
    const std::uint64_t end = offset + (std::min<std::uint64_t>)(size, member_.size - offset);
    const std::string start = archive_->inflate_start(member_, end, unwritten_);
    return start.copy(static_cast<char*>(out), size, static_cast<std::size_t>(offset));
  }

  std::shared_ptr<const ByteSource> internal_unpacked(const FirstBytes& first,
                                                      bool) const override {
    if (unpacked_ != nullptr) return std::make_shared<const MemorySource>(in_memory());
    std::shared_ptr<char> bytes = archive_->inflate(member_);
    if (std::memcmp(bytes.get(), first.data, first.size) != 0) {
      throw Error(ErrorCode::Io, "the file changed while it was read");
    }
    return std::make_shared<const MemorySource>(std::move(bytes),
                                                static_cast<std::size_t>(member_.size));
  }

 private:
  /// Not the owner of the bytes: a tensor over them would share them with the next one.
  MemorySource in_memory() const {
    return {static_cast<const void*>(unpacked_.get()), static_cast<std::size_t>(member_.size)};
  }

  std::shared_ptr<const ZipArchive> archive_;
  const ZipMember& member_;  // of the archive
  std::string_view unwritten_;
  std::shared_ptr<char> unpacked_;  // of a small member
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_MEMBER_HPP_

// ---- torch_npy/zip/writer.hpp

#ifndef TORCH_NPY_ZIP_WRITER_HPP_
#define TORCH_NPY_ZIP_WRITER_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

class ZipWriter {
 public:
  /// Writes numbers from `zip64_from` on in zip64 fields; tests pass a small one.
  explicit ZipWriter(ByteSink& sink, std::uint64_t zip64_from = UINT32_MAX)
      : sink_(sink), zip64_from_(zip64_from) {}

  /// Adds a member whose packed bytes are `parts`, one after another; `member` describes it except
  /// for its offset. The bytes begin at a multiple of 64, so that a stored array can be mapped.
  void add(ZipMember member, std::initializer_list<std::string_view> parts) {
    begin(std::move(member), 0);
    for (const std::string_view part : parts) write(part);
  }

  /// Adds a member of another archive, as it is packed there from byte `offset` of `source` on.
  /// Byte `aligned` of it comes to a multiple of 64. Throws what the source throws.
  void copy(ZipMember member, const ByteSource& source, std::uint64_t offset,
            std::uint64_t aligned) {
    constexpr std::size_t kChunk = std::size_t{1} << 20;
    std::uint64_t left = member.packed;
    begin(std::move(member), aligned);
    std::string chunk(static_cast<std::size_t>(std::min<std::uint64_t>(left, kChunk)), '\0');
    while (left != 0) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, chunk.size()));
      source.read_fully(chunk.data(), size, offset);
      write({chunk.data(), size});
      offset += size;
      left -= size;
    }
  }

  /// Writes the directory, after all members.
  void finish() {
    const std::uint64_t offset = written_;
    for (const ZipMember& member : members_) write_entry(member);
    const std::uint64_t size = written_ - offset;
    const std::uint64_t count = members_.size();
    const bool many = count >= UINT16_MAX || is_large(count);
    if (many || is_large(size) || is_large(offset)) write_end64(offset, size, count);
    std::string end;
    append_little_endian(end, {{kDirectoryEnd, 4},
                               {0, 4},  // disks
                               {many ? UINT16_MAX : count, 2},
                               {many ? UINT16_MAX : count, 2},
                               {is_large(size) ? UINT32_MAX : size, 4},
                               {is_large(offset) ? UINT32_MAX : offset, 4},
                               {0, 2}});  // comment
    write(end);
  }

 private:
  static bool is_ascii(const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
  }

  /// Writes the local header of a member whose bytes follow. Byte `aligned` of them comes to a
  /// multiple of 64.
  void begin(ZipMember member, std::uint64_t aligned) {
    constexpr std::uint64_t kAlignment = 64;
    // The padding field of Android's zipalign: the alignment, and zeros.
    constexpr std::uint16_t kPaddingField = 0xd935;
    constexpr std::size_t kPaddingFieldSize = 6;
    member.offset = written_;
    member.flags = is_ascii(member.name) ? 0 : kUtf8Flag;
    std::string extra;
    std::string sizes;
    if (is_large(member.size) || is_large(member.packed)) {
      // In a local header, both sizes are in the zip64 field or none.
      append_little_endian(extra,
                           {{kZip64Field, 2}, {16, 2}, {member.size, 8}, {member.packed, 8}});
      sizes.assign(8, '\xff');
    } else {
      append_little_endian(sizes, {{member.packed, 4}, {member.size, 4}});
    }
    const std::uint64_t at =
        written_ + kLocalHeaderSize + member.name.size() + extra.size() + aligned;
    if (at % kAlignment != 0) {
      const std::uint64_t gap = kAlignment - (at + kPaddingFieldSize) % kAlignment;
      append_little_endian(extra, {{kPaddingField, 2}, {2 + gap % kAlignment, 2}, {kAlignment, 2}});
      extra.append(gap % kAlignment, '\0');
    }
    std::string header;
    append_little_endian(header, {{kLocalHeader, 4}});
    append_common(header, member);
    header += sizes;
    append_little_endian(header, {{member.name.size(), 2}, {extra.size(), 2}});
    write(header + member.name + extra);
    members_.push_back(std::move(member));
  }

  bool is_large(std::uint64_t number) const { return number >= zip64_from_; }

  void write(std::string_view bytes) {
    sink_.write(bytes.data(), bytes.size());
    written_ += bytes.size();
  }

  /// The part that a local header and a directory entry share, up to the sizes. The time is the one
  /// in NumPy's archives, the earliest that zip can express: equal arrays give equal files.
  static void append_common(std::string& out, const ZipMember& member) {
    constexpr std::uint32_t kNoTime = 1 << 21 | 1 << 16;  // 1980-01-01 00:00
    constexpr std::uint16_t kVersionWithZip64 = 45;
    append_little_endian(out, {{kVersionWithZip64, 2},
                               {member.flags, 2},
                               {member.method, 2},
                               {kNoTime, 4},
                               {member.crc, 4}});
  }

  void write_entry(const ZipMember& member) {
    std::string extra;
    std::string entry;
    const auto number = [&](std::uint64_t value) {
      if (is_large(value)) append_little_endian(extra, {{value, 8}});
      return is_large(value) ? UINT32_MAX : value;
    };
    constexpr std::uint16_t kMadeOnUnix = 3 << 8 | 45;
    append_little_endian(entry, {{kDirectoryEntry, 4}, {kMadeOnUnix, 2}});
    append_common(entry, member);
    // The zip64 field has the unpacked size first.
    const std::uint64_t size = number(member.size);
    append_little_endian(entry, {{number(member.packed), 4}, {size, 4}, {member.name.size(), 2}});
    const std::uint64_t offset = number(member.offset);
    constexpr std::uint32_t kReadableFile = 0100644u << 16;
    append_little_endian(entry, {{extra.empty() ? 0 : 4 + extra.size(), 2},
                                 {0, 6},  // comment, disk, internal attributes
                                 {kReadableFile, 4},
                                 {offset, 4}});
    entry += member.name;
    if (!extra.empty()) {
      append_little_endian(entry, {{kZip64Field, 2}, {extra.size(), 2}});
      entry += extra;
    }
    write(entry);
  }

  void write_end64(std::uint64_t offset, std::uint64_t size, std::uint64_t count) {
    std::string end;
    append_little_endian(end, {{kDirectoryEnd64, 4},
                               {kDirectoryEnd64Size - 12, 8},
                               {45, 2},  // made by, needed
                               {45, 2},
                               {0, 8},  // disks
                               {count, 8},
                               {count, 8},
                               {size, 8},
                               {offset, 8}});
    const std::uint64_t at = written_;
    append_little_endian(end, {{kDirectoryEnd64Locator, 4}, {0, 4}, {at, 8}, {1, 4}});
    write(end);
  }

  ByteSink& sink_;
  std::uint64_t zip64_from_;
  std::uint64_t written_ = 0;
  std::vector<ZipMember> members_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_WRITER_HPP_

// ---- torch_npy/tensor/scalar_type.hpp

#ifndef TORCH_NPY_TENSOR_SCALAR_TYPE_HPP_
#define TORCH_NPY_TENSOR_SCALAR_TYPE_HPP_

#include <c10/core/ScalarType.h>
#include <torch/version.h>

#include <cstdint>
#include <optional>

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

// ---- torch_npy/tensor/growing_array.hpp

#ifndef TORCH_NPY_TENSOR_GROWING_ARRAY_HPP_
#define TORCH_NPY_TENSOR_GROWING_ARRAY_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The file under an Appender.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True if elements of `type` are bit for bit items of `dtype` in native byte order.
inline bool stores(const DType& dtype, c10::ScalarType type) {
  if (scalar_type_of(dtype) == type) return true;
  const auto own = dtype_of(type);
  return own && is_raw(*own) && is_raw(dtype) && own->item_size == dtype.item_size;
}

/// An .npy file that grows along axis 0 in place. Rows are buffered in memory and written after
/// those that the header counts, where readers do not look. flush() updates the count in the
/// header.
class GrowingArray {
 public:
  explicit GrowingArray(LockedFile file) : file_(std::move(file)) {
    FirstBytes first;
    header_ = read_header(file_, kMaxHeaderSize, first);
    require_growable();
    require_free_end();
    const std::vector<std::int64_t> row(header_.shape.begin() + 1, header_.shape.end());
    row_bytes_ = checked_bytes(row, header_.dtype.item_size).value();
    rows_ = header_.shape[0];
    end_ = header_.end();
    bytes_.resize(static_cast<std::size_t>(header_.data_offset));
    file_.read_fully(bytes_.data(), bytes_.size(), 0);
    keep_raw_byte_order();
    require_header_room();
  }

  const DType& dtype() const noexcept { return header_.dtype; }
  at::IntArrayRef row_shape() const { return at::IntArrayRef(header_.shape).slice(1); }
  std::int64_t rows() const noexcept { return rows_; }

  /// On failure none of these rows counts, and the earlier ones are unchanged.
  void append(const void* data, std::int64_t rows) {
    if (rows > max_rows_ - rows_) {
      throw Error(ErrorCode::TooLarge,
                  "no room to append " + counted(static_cast<std::uint64_t>(rows), "row") + " to " +
                      std::to_string(rows_) + ": the header's " + counted(bytes_.size(), "byte") +
                      " can count at most " + std::to_string(max_rows_) + kSaveAgain);
    }
    const auto size = static_cast<std::size_t>(rows * row_bytes_);
    if (size > kBufferSize - buffered_) write_buffer();
    if (size >= kBufferSize) {
      write(data, size);
    } else if (size != 0) {
      if (buffer_ == nullptr) buffer_ = allocate_buffer(kBufferSize);
      std::memcpy(buffer_.get() + buffered_, data, size);
      buffered_ += size;
    }
    rows_ += rows;
  }

  /// On failure the call can be repeated.
  void flush(bool sync) {
    write_buffer();
    if (rows_ != header_.shape[0]) {
      if (sync) file_.sync();  // so that the rows are on the disk before the header
      write_header();
    }
    if (sync) file_.sync();
  }

  /// Throws Error (Io) if the path names another file now, or none.
  void require_at(const std::filesystem::path& path) const {
    if (file_.is_at(path)) return;
    throw Error(
        ErrorCode::Io,
        "the file was replaced or removed while the Appender had it open: the rows since its last "
        "flush() are not in the file that has this name now");
  }

  void close() { file_.close(); }

 private:
  // Larger buffers write faster; tests/bench/NOTES.md has the measurement.
  static constexpr std::size_t kBufferSize = std::size_t{1} << 20;
  /// If the process is killed, a write within one page is there completely or not at all.
  static constexpr std::size_t kPage = 4096;
  static constexpr const char* kSaveAgain =
      "; load() the array and save() it again to write a header that can grow";

  void require_growable() const {
    if (header_.shape.empty()) {
      throw Error(ErrorCode::Mismatch, "a 0-d array has no axis to grow along");
    }
    if (header_.fortran_order) {
      throw Error(ErrorCode::Mismatch,
                  "the array is in Fortran order and cannot grow along axis 0 in place; "
                  "save(path, load(path).contiguous()) stores it in C order");
    }
    const DType& dtype = header_.dtype;
    if (!scalar_type_of(dtype) && !is_raw(dtype)) {
      throw Error(ErrorCode::UnsupportedDtype,
                  "the array has dtype " + dtype.descr() + ", which no tensor can hold");
    }
    if (dtype.is_swapped()) {
      throw Error(ErrorCode::Mismatch,
                  "the array has dtype " + dtype.descr() +
                      ", which is not in native byte order; load() it and save() it again");
    }
  }

  /// Bytes after the array are rows that were never counted, or another array.
  void require_free_end() {
    const std::uint64_t size = file_.size();
    const std::uint64_t end = header_.end();
    if (end > size) throw data_cut_short(header_.data_offset, end - header_.data_offset, size);
    has_leftovers_ = end < size;
    char next[kMagicSize];
    if (size - end < kMagicSize) return;
    file_.read_fully(next, kMagicSize, end);
    if (std::memcmp(next, kMagic, kMagicSize) == 0) {
      throw Error(ErrorCode::Mismatch,
                  "another array follows at byte " + std::to_string(end) +
                      " of the file: rows would overwrite it",
                  end);
    }
  }

  /// The byte order of raw items has no meaning and is not parsed, but NumPy writes one.
  void keep_raw_byte_order() {
    if (!is_raw(header_.dtype)) return;
    const std::size_t kind = bytes_.find('V', prefix_size(header_.version));
    const char order = kind == bytes_.npos ? '|' : bytes_[kind - 1];
    if (order == '<' || order == '>') header_.dtype.byte_order = order;
  }

  void require_header_room() {
    const auto bytes = format_header_in_place(header_);
    if (!bytes) {
      throw Error(ErrorCode::TooLarge, "no room to append: NumPy's own header is longer than the " +
                                           counted(bytes_.size(), "byte") + " of this one" +
                                           kSaveAgain);
    }
    if (difference(bytes_, *bytes).second > kPage) {
      throw Error(
          ErrorCode::Mismatch,
          std::string("the header differs from the one NumPy writes, and is too long to change "
                      "in one step") +
              kSaveAgain);
    }
    const std::size_t text = bytes->find_last_not_of(" \n") + 1;
    std::size_t digits = std::to_string(rows_).size() + bytes->size() - 1 - text;
    max_rows_ = 0;
    for (; digits != 0 && max_rows_ <= (INT64_MAX - 9) / 10; --digits) {
      max_rows_ = max_rows_ * 10 + 9;
    }
    if (digits != 0) max_rows_ = INT64_MAX;
    // NumPy computes the bytes as if axes of length 0 had length 1.
    std::vector<std::int64_t> row(header_.shape.begin() + 1, header_.shape.end());
    std::replace(row.begin(), row.end(), std::int64_t{0}, std::int64_t{1});
    const std::int64_t counted_bytes = checked_bytes(row, header_.dtype.item_size).value();
    const auto offset = static_cast<std::int64_t>(header_.data_offset);
    max_rows_ =
        (std::min)(max_rows_, (INT64_MAX - offset) / (std::max)(counted_bytes, std::int64_t{1}));
  }

  /// The range from the first to the last byte that differs; {0, 0} if none does.
  static std::pair<std::size_t, std::size_t> difference(std::string_view a, std::string_view b) {
    const auto first = std::mismatch(a.begin(), a.end(), b.begin()).first;
    const auto last = std::mismatch(a.rbegin(), a.rend(), b.rbegin()).first;
    const auto begin = static_cast<std::size_t>(first - a.begin());
    const auto end = static_cast<std::size_t>(a.rend() - last);
    return {(std::min)(begin, end), end};
  }

  void write_header() {
    Header grown = header_;
    grown.shape[0] = rows_;
    std::string bytes = format_header_in_place(grown).value();
    const auto [begin, end] = difference(bytes_, bytes);
    file_.write(bytes.data() + begin, end - begin, begin);
    bytes_ = std::move(bytes);
    header_ = std::move(grown);
  }

  void write_buffer() {
    if (buffered_ == 0) return;
    write(buffer_.get(), buffered_);
    buffered_ = 0;
  }

  void write(const void* data, std::size_t size) {
    if (has_leftovers_) file_.truncate(end_);
    has_leftovers_ = true;
    try {
      file_.write(data, size, end_);
    } catch (const Error&) {
      discard_leftovers();  // frees the disk space of a partial write
      throw;
    }
    has_leftovers_ = false;
    end_ += size;
  }

  /// Failures are ignored: the next write tries again.
  void discard_leftovers() noexcept {
    try {
      file_.truncate(end_);
      has_leftovers_ = false;
    } catch (const std::exception&) {
      // The header does not count these bytes.
    }
  }

  LockedFile file_;
  Header header_;      // as in the file
  std::string bytes_;  // of the header, as in the file
  std::int64_t row_bytes_ = 0;
  std::int64_t rows_ = 0;  // including those that the header does not count yet
  std::int64_t max_rows_ = 0;
  std::uint64_t end_ = 0;  // offset of the end of the rows in the file
  bool has_leftovers_ = false;
  std::shared_ptr<char> buffer_;
  std::size_t buffered_ = 0;  // bytes
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_GROWING_ARRAY_HPP_

// ---- torch_npy/tensor/memory.hpp

#ifndef TORCH_NPY_TENSOR_MEMORY_HPP_
#define TORCH_NPY_TENSOR_MEMORY_HPP_

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/Storage.h>
#include <c10/core/TensorImpl.h>
#include <c10/core/TensorOptions.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Refuses a tensor whose elements are not stored one by one in memory, for the function `call`.
inline void require_data(const at::Tensor& tensor, const char* call) {
  const bool is_dense = tensor.defined() && !tensor.is_nested() &&
                        tensor.layout() == c10::kStrided && !tensor.is_meta() &&
                        !tensor._is_zerotensor();
  if (is_dense && (tensor.numel() == 0 || tensor.storage().nbytes() != 0)) return;
  throw Error(ErrorCode::InvalidArgument,
              std::string(call) + (tensor.defined() ? " takes dense tensors that have data; "
                                                      "to_dense() makes one of a sparse one, and "
                                                      "save_sparse() saves it as it is"
                                                    : " of an undefined tensor"));
}

/// Whether no two elements share memory: every axis steps past all that the axes of smaller strides
/// span. A view whose axes interleave in another way counts as overlapping.
inline bool is_free_of_overlap(const at::Tensor& tensor) {
  if (tensor.numel() == 0) return true;
  const at::IntArrayRef sizes = tensor.sizes();
  const at::IntArrayRef strides = tensor.strides();
  std::int64_t last = 0;  // offset of the last element along the axes so far
  for (auto left = std::count_if(sizes.begin(), sizes.end(), [](auto size) { return size > 1; });
       left != 0; --left) {
    std::size_t next = sizes.size();
    for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
      const bool steps_past = sizes[axis] > 1 && strides[axis] > last;
      if (steps_past && (next == sizes.size() || strides[axis] < strides[next])) next = axis;
    }
    if (next == sizes.size()) return false;
    last += strides[next] * (sizes[next] - 1);
  }
  return true;
}

/// Memory that tensors lie over, and its owner: the last of these tensors destroys it.
class TensorMemory {
 public:
  /// Tells what the byte at an offset was read from, for messages.
  using Origin = std::function<std::string(std::size_t)>;

  explicit TensorMemory(void* its_data) : data(its_data) {}
  TensorMemory(const TensorMemory&) = delete;
  TensorMemory& operator=(const TensorMemory&) = delete;
  virtual ~TensorMemory() = default;

  /// The memory under `tensor`, if it is of this kind.
  static TensorMemory* of(const at::Tensor& tensor) {
    if (!tensor.defined() || !tensor.has_storage()) return nullptr;
    const at::DataPtr& memory = tensor.storage().data_ptr();
    if (memory.get_deleter() != &destroy) return nullptr;
    return static_cast<TensorMemory*>(memory.get_context());
  }

  static void destroy(void* context) noexcept { delete static_cast<TensorMemory*>(context); }

  void* const data;
  Origin origin;
};

/// Memory that lives as long as `Owner` does.
template <class Owner>
class OwnedMemory final : public TensorMemory {
 public:
  OwnedMemory(Owner owner, void* its_data) : TensorMemory(its_data), owner_(std::move(owner)) {}

 private:
  Owner owner_;
};

/// Lets resize_() replace the memory if this LibTorch can do that for from_blob tensors: 1.13
/// cannot.
template <class Maker>
auto allow_resize(Maker& maker, int)
    -> decltype(maker.resizeable_storage().allocator(c10::GetCPUAllocator()), void()) {
  maker.resizeable_storage().allocator(c10::GetCPUAllocator());
}
template <class Maker>
void allow_resize(Maker&, long) {}

/// A tensor of at least one element over `memory`: every tensor over memory that LibTorch did not
/// allocate is made here.
inline at::Tensor tensor_over(std::unique_ptr<TensorMemory> memory, c10::ScalarType type,
                              at::IntArrayRef sizes, at::IntArrayRef strides) {
  auto maker = at::for_blob(memory->data, sizes);
  maker.strides(strides).options(type).target_device(at::kCPU);
  maker.context(memory.release(), &TensorMemory::destroy);
  allow_resize(maker, 0);
  return maker.make_tensor();
}

/// The same over `data`, which exists as long as `owner`: a mapping, a buffer, another storage.
template <class Owner>
at::Tensor tensor_over(Owner owner, void* data, c10::ScalarType type, at::IntArrayRef sizes,
                       at::IntArrayRef strides) {
  std::unique_ptr<TensorMemory> memory(new OwnedMemory<Owner>(std::move(owner), data));
  return tensor_over(std::move(memory), type, sizes, strides);
}

/// A tensor over part of another's memory, which it keeps alive and whose dtype it has. A view made
/// by LibTorch would also keep that tensor alive, for autograd, and take several times as long,
/// which shows in batches of small samples.
inline at::Tensor view_of(const at::Tensor& tensor, std::int64_t offset, at::IntArrayRef sizes,
                          at::IntArrayRef strides) {
  at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(tensor.storage()),
                                                             tensor.key_set(), tensor.dtype());
  view.unsafeGetTensorImpl()->set_storage_offset(offset);
  view.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return view;
}

/// Whether the memory is freed with the last tensor on it. Memory that a program gave to
/// from_blob() may be in use elsewhere, however few tensors there are on it.
inline bool owns_memory(const at::Tensor& tensor) {
  return TensorMemory::of(tensor) != nullptr ||
         (tensor.storage().resizable() && tensor.storage().allocator() != nullptr);
}

[[noreturn]] inline void throw_no_memory(std::size_t bytes) {
  throw Error(ErrorCode::OutOfMemory, "out of memory for a tensor of " + counted(bytes, "byte"));
}

/// A dense tensor on the host, to be filled. Throws Error (OutOfMemory). Large ones are allocated
/// like all others: malloc returns memory that has been in use, which is faster than fresh pages.
inline at::Tensor empty_host(std::size_t bytes, c10::ScalarType type, at::IntArrayRef sizes,
                             at::IntArrayRef strides, bool pinned) {
  at::Tensor tensor;
  try {
    // What at::empty_strided() calls, without the dispatcher.
    tensor = at::detail::empty_strided_cpu(sizes, strides, type, pinned);
  } catch (const c10::Error&) {
    throw_no_memory(bytes);
  }
  if (bytes >= kHugePagesFrom && !pinned) advise_huge_pages(tensor.data_ptr(), bytes);
  return tensor;
}

/// Host memory that is used again: what the pool lends is returned when the last tensor on it is
/// destroyed, by any thread. What is returned after the pool was destroyed is freed. Batches of
/// fresh memory would take longer to read.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  /// Keeps at most `limit` bytes that are not in use, those used last.
  explicit BufferPool(std::size_t limit) : limit_(limit) {}

  /// `bytes` bytes, of any content; not 0. Throws Error (OutOfMemory).
  std::unique_ptr<TensorMemory> take(std::size_t bytes) {
    Buffer buffer = kept_for(bytes);
    if (buffer.size == 0) buffer = fresh(bytes);
    return std::unique_ptr<TensorMemory>(new Loan(weak_from_this(), std::move(buffer)));
  }

 private:
  struct Buffer {
    at::DataPtr memory;
    std::size_t size = 0;
  };

  /// A buffer that is in use.
  class Loan final : public TensorMemory {
   public:
    Loan(std::weak_ptr<BufferPool> pool, Buffer buffer)
        : TensorMemory(buffer.memory.get()), pool_(std::move(pool)), buffer_(std::move(buffer)) {}

    ~Loan() override {
      const std::shared_ptr<BufferPool> pool = pool_.lock();
      if (pool == nullptr) return;
      try {
        pool->keep(std::move(buffer_));
      } catch (const std::exception&) {
        // There is no memory to record it; it is freed.
      }
    }

   private:
    std::weak_ptr<BufferPool> pool_;
    Buffer buffer_;
  };

  static Buffer fresh(std::size_t bytes) {
    try {
      Buffer buffer{c10::GetCPUAllocator()->allocate(bytes), bytes};
      if (bytes >= kHugePagesFrom) advise_huge_pages(buffer.memory.get(), bytes);
      return buffer;
    } catch (const c10::Error&) {
      throw_no_memory(bytes);
    }
  }

  /// Of the buffers that fit and are not far too large, the one used last: it may be in the cache.
  Buffer kept_for(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(kept_.rbegin(), kept_.rend(), [&](const Buffer& buffer) {
      return buffer.size >= bytes && buffer.size / 4 <= bytes;
    });
    if (found == kept_.rend()) return {};
    Buffer buffer = std::move(*found);
    kept_.erase(std::next(found).base());
    kept_bytes_ -= buffer.size;
    return buffer;
  }

  void keep(Buffer buffer) {
    std::vector<Buffer> evicted;  // freed after the lock is released
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t size = buffer.size;
    kept_.push_back(std::move(buffer));
    kept_bytes_ += size;
    while (kept_bytes_ > limit_) {
      evicted.push_back(std::move(kept_.front()));
      kept_.erase(kept_.begin());
      kept_bytes_ -= evicted.back().size;
    }
  }

  const std::size_t limit_;
  std::mutex mutex_;
  std::vector<Buffer> kept_;  // the one used last at the end
  std::size_t kept_bytes_ = 0;
};

/// A pool for the batches of a dataset. It keeps up to 256 MiB of memory that is not in use.
inline std::shared_ptr<BufferPool> make_pool() {
  return std::make_shared<BufferPool>(std::size_t{256} << 20);
}

/// What the first element of `tensor` was read from; empty if that is not known.
inline std::string origin_of(const at::Tensor& tensor) {
  const TensorMemory* const memory = TensorMemory::of(tensor);
  if (memory == nullptr || !memory->origin) return {};
  return memory->origin(static_cast<std::size_t>(tensor.storage_offset() *
                                                 static_cast<std::int64_t>(tensor.element_size())));
}

/// A dense tensor on the host, to be filled, over memory of the pool. Pinned memory is not taken
/// from the pool: LibTorch's own allocator reuses it, and knows which copies from it are not
/// finished.
inline at::Tensor empty_from(BufferPool& pool, std::size_t bytes, c10::ScalarType type,
                             at::IntArrayRef sizes, at::IntArrayRef strides, bool pinned) {
  if (pinned || bytes == 0) return empty_host(bytes, type, sizes, strides, pinned);
  return tensor_over(pool.take(bytes), type, sizes, strides);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_MEMORY_HPP_

// ---- torch_npy/tensor/options.hpp

#ifndef TORCH_NPY_TENSOR_OPTIONS_HPP_
#define TORCH_NPY_TENSOR_OPTIONS_HPP_

/// @file
/// LoadOptions, Region, OutOfBounds, OnUnreadable, SaveOptions, SaveNpzOptions, AppendMode and
/// LoadParametersOptions.

#include <c10/core/Device.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <torch/arg.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// The part [begin, end) of one axis. `{}` is the whole axis, `{5}` all of it from position 5 on. A
/// negative number is a position before the array; it does not count from the end, as in Python.
struct AxisRange {
  std::int64_t begin = 0;        ///< the first position
  std::int64_t end = INT64_MAX;  ///< after the last position; INT64_MAX is the end of the axis
};

/// A box of an array: one range for each of its first axes. It has the rest of the axes whole.
using Region = std::vector<AxisRange>;

/// What to do about a region that is not inside the array.
enum class OutOfBounds {
  Throw,  ///< throw Error (InvalidArgument)
  Fill,   ///< fill what is outside with LoadOptions::fill_value()
  Shift,  ///< move the region inside; throw Error (InvalidArgument) if an axis is too short for it
};

/// What to do about an array of an archive, or a field of a structured array, that cannot be
/// loaded.
enum class OnUnreadable {
  Throw,  ///< throw its Error
  Skip,   ///< leave it out of the result, and give its Error to the callback
};

/// For LoadOptions::unsigned_as(): the smallest signed integer dtype that LibTorch has and that
/// holds all values: int32 for uint16, int64 for uint32. For uint64 it is int64, which is checked.
inline constexpr c10::ScalarType kNextSigned = c10::ScalarType::Undefined;

/// How to load an array. Setters chain:
/// `LoadOptions().device(torch::kCUDA).dtype(torch::kFloat32)`; without an argument, each name
/// returns the current value. Setters throw nothing: the function that takes the options validates
/// them. One object may be read from any thread.
struct LoadOptions {
  /// The device of the tensor. The call throws Error (InvalidArgument) if there is no such device.
  TORCH_ARG(c10::Device, device) = c10::kCPU;

  /// The dtype of the tensor; not set: the dtype of the file. Elements are converted while they are
  /// read, as by Tensor::to(): a value that the new dtype cannot hold wraps around or is truncated.
  /// Unsigned integers of 16 to 64 bits are checked instead: one that an integer dtype or float16
  /// cannot hold throws Error (Mismatch); the other floating-point dtypes round. longdouble and
  /// clongdouble, which no tensor has, are rounded to float32, float64, complex64 or complex128.
  TORCH_ARG(std::optional<c10::ScalarType>, dtype) = std::nullopt;

  /// The dtype of arrays of uint16, uint32 and uint64, with every version of LibTorch; all other
  /// arrays keep theirs. LibTorch before 2.3 has no dtype for these integers, and needs this option
  /// to load them: `unsigned_as(torch_npy::kNextSigned)`. A value that an integer dtype or float16
  /// cannot hold throws Error (Mismatch); the other floating-point dtypes round. Has no effect if
  /// dtype() is set.
  TORCH_ARG(std::optional<c10::ScalarType>, unsigned_as) = std::nullopt;

  /// Map the file instead of reading it: data is read on first use, so loading takes the same time
  /// for any size. Writes to the tensor do not change the file. Changes of the file may show in the
  /// tensor, and using a part that was truncated meanwhile ends the process (SIGBUS).
  ///
  /// The file is read instead if a mapping cannot serve as the tensor: another byte order or dtype,
  /// data that is not aligned for its dtype, a region that is partly outside of the array, or
  /// pinned_memory(). Streams and memory cannot be mapped: the call throws Error (InvalidArgument).
  /// The tensor of a region has the strides of the whole array, unless the region is one contiguous
  /// part of it.
  ///
  /// The tensor is like one of torch::from_blob(): do not resize_() it to a larger size.
  TORCH_ARG(bool, mmap) = false;

  /// Read into page-locked memory. Copies from it to CUDA are faster and can overlap with CPU work.
  /// Without CUDA, ordinary memory is used.
  TORCH_ARG(bool, pinned_memory) = false;

  /// The dtype of raw items (NumPy's V dtypes). NumPy has no bfloat16 and no float8; the ml_dtypes
  /// package stores them as raw items: `void_as(torch::kBFloat16)` reads V2. Has no effect on other
  /// dtypes. A dtype of another item size throws Error (Mismatch).
  TORCH_ARG(std::optional<c10::ScalarType>, void_as) = std::nullopt;

  /// Read items that no tensor holds as their bytes in the file, uint8 along one more axis, the
  /// last one: V18 with 18 of them. These are raw items unless void_as() names a dtype of their
  /// size, strings without strings_as_codes(), longdouble without dtype(), and for load() the
  /// records of a structured array. dtype() does not convert the bytes. Objects are never read.
  TORCH_ARG(bool, raw_bytes) = false;

  /// Read strings as numbers along one more axis, the last one: S5 as uint8 bytes and U5 as int32
  /// code points, both with a last axis of length 5, filled with zeros after the end of a string.
  /// Without this option, strings throw Error (UnsupportedDtype).
  TORCH_ARG(bool, strings_as_codes) = false;

  /// Number of threads that read one array. 0: one for every 4 MiB, up to the number of processors,
  /// and one for less than 8 MiB. A stream is always read by one thread. load_all(), load_npz() and
  /// FolderOptions::data_options document their own meaning.
  TORCH_ARG(std::size_t, threads) = 0;

  /// Limit on the length of a header, in characters, as in np.load. A longer one throws Error
  /// (TooLarge).
  TORCH_ARG(std::uint64_t, max_header_size) = kMaxHeaderSize;

  /// Limit on the size of a tensor in bytes; for load_fields() and load_npz(), of all tensors
  /// together. The unpacked size of a deflated array counts, too; for load_fields(), the records;
  /// and for load_npz(), arrays that on_unreadable() skips. A larger size throws Error (TooLarge)
  /// before memory is allocated.
  TORCH_ARG(std::uint64_t, max_bytes) = UINT64_MAX;

  /// Remove this axis, as Tensor::squeeze(dim) does: with squeeze(1), labels of shape (N, 1) get
  /// the shape (N). Counts from the end if negative. A region is selected first. An axis that does
  /// not exist, or whose length is not 1, throws Error (Mismatch).
  TORCH_ARG(std::optional<std::int64_t>, squeeze) = std::nullopt;

  /// What to do about a region that is not inside the array.
  TORCH_ARG(OutOfBounds, out_of_bounds) = OutOfBounds::Throw;

  /// The value of elements outside of the array, for OutOfBounds::Fill, in the dtype of the tensor.
  /// One that this dtype cannot hold throws Error (InvalidArgument).
  TORCH_ARG(c10::Scalar, fill_value) = 0;

 public:
  /// Load only a box of the array, `region({{0, 64}, {32, 96}})`: a range for each of the first
  /// axes, and the rest of the axes whole. Only the bytes of the box are read, and short gaps in
  /// it. The tensor is dense, in the order of the file. A region that is not inside the array, or
  /// has more ranges than the array has axes, throws Error (InvalidArgument); see out_of_bounds().
  LoadOptions& region(Region ranges) {
    region_ = std::move(ranges);
    return *this;
  }
  /// The requested box; without ranges: the whole array.
  const Region& region() const noexcept { return region_; }

  /// Load only rows [begin, end) of axis 0: `region({{begin, end}})`.
  LoadOptions& rows(std::int64_t begin, std::int64_t end) { return region({{begin, end}}); }

  /// What load_npz() and load_fields() do about an array or a field that cannot be loaded: its
  /// bytes are damaged, no tensor holds its dtype, or it is not what the options ask for. With
  /// Skip, the callback gets its Error, in the order of the result, in the thread that calls
  /// load_npz() or load_fields(). Always thrown: failures of the system (Io, Exhausted,
  /// OutOfMemory), limits (TooLarge), and wrong calls (InvalidArgument, NotFound).
  LoadOptions& on_unreadable(OnUnreadable what, std::function<void(const Error&)> callback = {}) {
    on_unreadable_ = what;
    unreadable_callback_ = std::move(callback);
    return *this;
  }
  /// What to do about an array or a field that cannot be loaded.
  OnUnreadable on_unreadable() const noexcept { return on_unreadable_; }
  /// The callback for what is skipped; may be empty.
  const std::function<void(const Error&)>& unreadable_callback() const noexcept {
    return unreadable_callback_;
  }

 private:
  Region region_;
  OnUnreadable on_unreadable_ = OnUnreadable::Throw;
  std::function<void(const Error&)> unreadable_callback_;
};

/// How to save an array. Setters chain; without an argument, each name returns the current value.
struct SaveOptions {
  /// Flush the file to the disk before it replaces the old one; for an Appender, flush the rows
  /// before the header counts them. false is faster, and the file is still complete if the process
  /// is killed, but a power failure soon after may lose it.
  TORCH_ARG(bool, sync) = true;
};

/// How to save an archive. Setters chain; without an argument, each name returns the current value.
struct SaveNpzOptions {
  /// Deflate the arrays, as np.savez_compressed does. An array that would not become smaller is
  /// stored. Needs libdeflate (see NpzFile). A deflated array cannot be mapped.
  TORCH_ARG(bool, compressed) = false;

  /// Flush the file to the disk before it replaces the old one, as in SaveOptions.
  TORCH_ARG(bool, sync) = true;
};

/// What an Appender does with a file that exists.
enum class AppendMode {
  Continue,  ///< append to its rows
  Replace,   ///< put a new file without rows in its place
};

/// How to load the parameters of a module. Setters chain; without an argument, each name returns
/// the current value.
struct LoadParametersOptions {
  /// Throw Error (Mismatch) if the archive does not have exactly the names of the module. false
  /// loads the names that both have, and returns the others. A parameter without an array keeps its
  /// values, so check what is returned.
  TORCH_ARG(bool, strict) = true;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_OPTIONS_HPP_

// ---- torch_npy/tensor/save.hpp

#ifndef TORCH_NPY_TENSOR_SAVE_HPP_
#define TORCH_NPY_TENSOR_SAVE_HPP_

/// @file
/// Saves tensors as .npy files and to streams.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <ostream>
#include <string>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE

namespace detail {

/// True if the elements are in Fortran order without gaps. Axes of length 1 may have any stride.
inline bool is_fortran_contiguous(const at::Tensor& tensor) {
  std::int64_t stride = 1;
  for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
    if (tensor.size(axis) != 1 && tensor.stride(axis) != stride) return false;
    stride *= tensor.size(axis);
  }
  return true;
}

/// The dtype in which elements of `type` are saved. Throws Error (UnsupportedDtype) if there is
/// none.
inline DType require_dtype(c10::ScalarType type) {
  const auto dtype = dtype_of(type);
  if (dtype) return *dtype;
  throw Error(ErrorCode::UnsupportedDtype, std::string("NumPy has no dtype for ") +
                                               c10::toString(type) +
                                               ": convert the tensor before it is saved");
}

inline void require_rank(std::size_t rank) {
  if (rank <= kMaxRank) return;
  throw Error(ErrorCode::InvalidArgument,
              "NumPy has no arrays of more than " + std::to_string(kMaxRank) + " dimensions");
}

/// The tensor on the CPU with its actual values, also for a conjugate or negative view.
inline at::Tensor on_host(const at::Tensor& tensor) {
  return tensor.detach().to(c10::kCPU).resolve_conj().resolve_neg();
}

/// A tensor as it is stored: the bytes of its header, and its data on the CPU in the order that the
/// header names.
struct Saved {
  std::string header;
  at::Tensor data;

  explicit Saved(const at::Tensor& tensor) {
    require_data(tensor, "save()");
    require_rank(static_cast<std::size_t>(tensor.dim()));
    Header described;
    described.dtype = require_dtype(tensor.scalar_type());
    data = on_host(tensor);
    described.shape = data.sizes().vec();
    // As in np.save: C order if the tensor is contiguous in C order or in neither order.
    described.fortran_order = !data.is_contiguous() && is_fortran_contiguous(data);
    if (!described.fortran_order) data = data.contiguous();
    header = format_header(described);
  }

  /// An array of a dtype that tensors do not have: its bytes, contiguous on the CPU.
  Saved(const Header& described, at::Tensor bytes)
      : header(format_header(described)), data(std::move(bytes)) {}
};

}  // namespace detail

/// Saves a tensor as np.save does, byte for byte, under exactly this name (".npy" is not added).
/// The tensor may be on any device and have any strides. A copy is made if it is neither in C nor
/// in Fortran order, or not on the CPU; this takes its size in host memory. bfloat16 and float8 are
/// stored as raw items, as the ml_dtypes package does: load them with LoadOptions::void_as().
///
/// The file appears completely or not at all: at any time, and after a crash, the path names the
/// old file or the new one. The new file is written next to the target, which needs a writable
/// folder and disk space for both. Symbolic links are followed. The mode of an existing file is
/// kept, and its owner and group if the system allows it. If not, nobody gets access who could not
/// read the old file. Other hard links to the old file and its access control list are not kept.
///
/// Throws Error: NotFound if the folder does not exist; Io, also if the path names something that
/// is not a regular file; Exhausted; UnsupportedDtype if NumPy has no such dtype; InvalidArgument
/// for a tensor that is undefined, sparse, nested or without data, or has more than 64 dimensions.
/// Out of memory throws Error (OutOfMemory), std::bad_alloc or LibTorch's exception. Safe from any
/// thread; if several threads save to one path, one of their files is there afterwards, complete.
inline void save(const std::filesystem::path& path, const at::Tensor& tensor,
                 const SaveOptions& options = {}) {
  detail::with_path(path, [&] {
    const detail::Saved saved(tensor);
    detail::AtomicFile file(path, options.sync());
    file.write(saved.header.data(), saved.header.size());
    file.write(saved.data.data_ptr(), saved.data.nbytes());
    file.commit();
  });
}

/// Writes the same bytes to a stream, at its current position; the options have no effect here.
/// Throws Error: Io if the stream accepts fewer bytes, UnsupportedDtype and InvalidArgument as
/// above. A failure to write what the stream has buffered shows only when the stream is flushed.
/// Use a stream from one thread at a time.
inline void save(std::ostream& stream, const at::Tensor& tensor, const SaveOptions& = {}) {
  const detail::Saved saved(tensor);
  detail::StreamSink sink(stream);
  sink.write(saved.header.data(), saved.header.size());
  sink.write(saved.data.data_ptr(), saved.data.nbytes());
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SAVE_HPP_

// ---- torch_npy/tensor/append.hpp

#ifndef TORCH_NPY_TENSOR_APPEND_HPP_
#define TORCH_NPY_TENSOR_APPEND_HPP_

/// @file
/// Appends rows to .npy files.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE

/// Appends rows to an .npy file along axis 0, in place: the cost of a row does not depend on the
/// number of rows. If the process is killed at any time, the file is valid and has the rows of the
/// last complete flush(), or of the one in progress: rows are written first, then the header in one
/// step, in the room that NumPy leaves for a longer count. After flush(), a file that an Appender
/// created is byte for byte what save() writes for the whole array.
///
///     torch_npy::Appender log("log.npy", {3, 32, 32}, torch::kFloat32);
///     log.append(image);   // (3, 32, 32)
///     log.append(images);  // (n, 3, 32, 32)
///     log.close();
///
/// An existing file is continued in the dtype that its header names, whoever wrote it: datetime64
/// takes int64 tensors, raw V2 takes bfloat16. The constructor throws Error and changes nothing if
/// that is not possible: Mismatch for another dtype or row shape, another byte order, Fortran
/// order, a 0-d array, or another array after it in the file; UnsupportedDtype; Truncated; TooLarge
/// if the header has no room for the count; Io if another Appender, of any process, has the file
/// open. Other bytes after the array are treated as rows that were never flushed, and are
/// overwritten.
///
/// Use one object from one thread at a time, and not in two processes after fork(). Nothing else
/// may write to the file while it is open; flush() throws if the file was replaced or removed. Out
/// of memory throws Error (OutOfMemory), std::bad_alloc or LibTorch's exception.
class Appender {
 public:
  /// Opens the file for rows of this shape and dtype. If it does not exist, creates it with 0 rows,
  /// as save() would write it. Throws Error: as above for an existing file; as save() for a new
  /// one, and TooLarge for rows of more than 2^63 - 1 bytes.
  Appender(const std::filesystem::path& path, at::IntArrayRef row_shape, c10::ScalarType dtype,
           const SaveOptions& options = {})
      : Appender(path, row_shape, dtype, AppendMode::Continue, options) {}

  /// AppendMode::Continue: the same. AppendMode::Replace: a regular file of any content is replaced
  /// by one with 0 rows, as by save(): the path names the complete old file or the complete new
  /// one, and the mode of the old file is kept. Throws Error, and leaves the old file as it is: as
  /// above for a new file; Io also if another Appender has the old file open, and if this process
  /// may not write to it.
  Appender(const std::filesystem::path& path, at::IntArrayRef row_shape, c10::ScalarType dtype,
           AppendMode mode, const SaveOptions& options = {})
      : Appender(State{path, detail::absolute_path(path), options, dtype, std::nullopt}) {
    detail::with_path(path, [&] { open(row_shape, dtype, mode); });
  }

  /// Opens the file for rows as it has them. If it does not exist, the first tensor appended
  /// creates it and must have shape (n, row shape...). Throws Error: as above for an existing file.
  explicit Appender(const std::filesystem::path& path, const SaveOptions& options = {})
      : Appender(State{path, detail::absolute_path(path), options, std::nullopt, std::nullopt}) {
    detail::with_path(path, [&] {
      auto file = open_existing();
      if (!file) return;
      state_->array.emplace(std::move(*file));
      state_->dtype = detail::scalar_type_of(state_->array->dtype());
    });
  }

  /// The moved-from Appender is closed.
  Appender(Appender&&) noexcept = default;
  /// Closes the file that was open here, as the destructor does.
  Appender& operator=(Appender&& other) noexcept {
    Appender taken(std::move(other));
    std::swap(state_, taken.state_);
    return *this;
  }

  /// Flushes and closes, and ignores errors; call close() to see them.
  ~Appender() {
    try {
      close();
    } catch (const std::exception&) {
      // The file has the rows of the last complete flush().
    }
  }

  /// Appends one row of the row shape, or n rows (n, row shape...). The tensor may be on any device
  /// and have any strides. Rows are buffered (1 MiB) and count from the next flush(). If the call
  /// throws, none of its rows is appended, and the earlier ones are unchanged.
  ///
  /// Throws Error: Mismatch for another dtype or shape; TooLarge if the header has no room for the
  /// count; InvalidArgument if the Appender is closed, for a tensor that save() does not accept,
  /// and for a 0-d tensor that would create the file; Io and Exhausted; if the tensor creates the
  /// file, also what the constructor with row shape and dtype throws.
  void append(const at::Tensor& tensor) {
    State& state = require_open("append()");
    detail::with_path(state.path, [&] {
      detail::require_data(tensor, "append()");
      if (!state.array) open_for(tensor);
      const std::int64_t rows = rows_of(tensor);
      if (!state.dtype) state.dtype = tensor.scalar_type();
      const bool as_in_file = tensor.device().is_cpu() && tensor.is_contiguous() &&
                              !tensor.is_conj() && !tensor.is_neg();
      if (as_in_file) {
        state.array->append(tensor.data_ptr(), rows);
      } else {
        state.array->append(detail::on_host(tensor).contiguous().data_ptr(), rows);
      }
    });
  }

  /// Writes all rows appended so far, then the header that counts them. With SaveOptions::sync they
  /// survive a power failure afterwards. If writing fails, for example because the disk is full,
  /// the header is unchanged and the rows remain in memory: the call can be repeated. Throws Error:
  /// Io, also if the file was replaced or removed, Exhausted, and InvalidArgument if the Appender
  /// is closed.
  void flush() {
    State& state = require_open("flush()");
    if (!state.array) return;
    detail::with_path(state.path, [&] {
      state.array->require_at(state.absolute_path);
      state.array->flush(state.options.sync());
    });
  }

  /// Flushes and closes the file; does nothing if it is closed already. If flushing fails, the
  /// Appender stays open. Throws Error: Io, Exhausted.
  void close() {
    if (state_ == nullptr || !state_->is_open) return;
    flush();
    state_->is_open = false;
    if (!state_->array) return;
    detail::with_path(state_->path, [&] { state_->array->close(); });
  }

  /// Number of rows in the file and appended to it, flushed or not.
  std::int64_t rows() const noexcept {
    return state_ == nullptr || !state_->array ? 0 : state_->array->rows();
  }

 private:
  struct State {
    std::filesystem::path path;           // as given, for messages
    std::filesystem::path absolute_path;  // does not depend on the current directory
    SaveOptions options;
    std::optional<c10::ScalarType> dtype;       // none until the first tensor sets it
    std::optional<detail::GrowingArray> array;  // none until the first tensor creates the file
    bool is_open = true;
  };

  explicit Appender(State state) : state_(std::make_unique<State>(std::move(state))) {}

  State& require_open(const char* call) const {
    if (state_ != nullptr && state_->is_open) return *state_;
    throw Error(ErrorCode::InvalidArgument,
                std::string(call) + " on an Appender that is closed or was moved from", 0,
                state_ == nullptr ? std::filesystem::path() : state_->path);
  }

  std::optional<detail::LockedFile> open_existing() const {
    try {
      return detail::LockedFile(state_->absolute_path);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::NotFound) throw;
      return std::nullopt;
    }
  }

  void open(at::IntArrayRef row_shape, c10::ScalarType dtype, AppendMode mode) {
    Header header;
    header.dtype = detail::require_dtype(dtype);
    header.shape = {0};
    header.shape.insert(header.shape.end(), row_shape.begin(), row_shape.end());
    detail::require_rank(header.shape.size());
    if (*std::min_element(header.shape.begin(), header.shape.end()) < 0) {
      throw Error(
          ErrorCode::InvalidArgument,
          "the row shape " + detail::python_tuple(row_shape.vec()) + " has a negative length");
    }
    if (!detail::checked_bytes(header.shape, header.dtype.item_size)) {
      throw Error(ErrorCode::TooLarge, "the bytes of a row of shape " +
                                           detail::python_tuple(row_shape.vec()) +
                                           " do not fit in 63 bits");
    }
    auto file = open_existing();
    if (!file || mode == AppendMode::Replace) {
      // An old file stays locked until it is replaced: no other Appender has rows for it.
      create_file(format_header(header), /*replaces=*/file.has_value());
      file.reset();
      file.emplace(state_->absolute_path);
    }
    detail::GrowingArray array(std::move(*file));
    if (array.row_shape() != row_shape) {
      throw Error(ErrorCode::Mismatch,
                  "the file has rows of shape " + detail::python_tuple(array.row_shape().vec()) +
                      ", not of shape " + detail::python_tuple(row_shape.vec()));
    }
    require_dtype(array, dtype);
    if (mode == AppendMode::Replace && array.rows() != 0) {
      throw Error(ErrorCode::Io, "the new file was replaced by another one, which has rows");
    }
    state_->array.emplace(std::move(array));
  }

  void open_for(const at::Tensor& tensor) {
    if (tensor.dim() == 0) {
      throw Error(ErrorCode::InvalidArgument,
                  "the first tensor of a new file has shape (n, row shape...), found a 0-d tensor");
    }
    open(tensor.sizes().slice(1), tensor.scalar_type(), AppendMode::Continue);
  }

  /// Without `replaces`, a file of that name that appears meanwhile is kept; the caller opens it.
  void create_file(const std::string& header, bool replaces) const {
    detail::AtomicFile file(state_->absolute_path, state_->options.sync());
    file.write(header.data(), header.size());
    if (replaces) {
      file.commit();
    } else {
      file.commit_new();
    }
  }

  static void require_dtype(const detail::GrowingArray& array, c10::ScalarType dtype) {
    if (detail::stores(array.dtype(), dtype)) return;
    throw Error(ErrorCode::Mismatch, "the file has dtype " + array.dtype().descr() +
                                         ", the rows to append have " + c10::toString(dtype) +
                                         "; convert the rows with Tensor::to()");
  }

  /// The number of rows in the tensor; throws if it does not match.
  std::int64_t rows_of(const at::Tensor& tensor) const {
    const detail::GrowingArray& array = *state_->array;
    const c10::ScalarType dtype = tensor.scalar_type();
    if (state_->dtype != dtype) {
      require_dtype(array, dtype);
      if (state_->dtype) {
        throw Error(ErrorCode::Mismatch, std::string("the earlier rows have ") +
                                             c10::toString(*state_->dtype) +
                                             ", the rows to append have " + c10::toString(dtype) +
                                             "; convert the rows with Tensor::to()");
      }
    }
    const at::IntArrayRef sizes = tensor.sizes();
    const at::IntArrayRef row = array.row_shape();
    if (sizes == row) return 1;
    if (sizes.size() == row.size() + 1 && sizes.slice(1) == row) return sizes[0];
    throw Error(ErrorCode::Mismatch, "expected one row of shape " +
                                         detail::python_tuple(row.vec()) +
                                         " or n such rows, found a tensor of shape " +
                                         detail::python_tuple(sizes.vec()));
  }

  std::unique_ptr<State> state_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_APPEND_HPP_

// ---- torch_npy/tensor/unreadable.hpp

#ifndef TORCH_NPY_TENSOR_UNREADABLE_HPP_
#define TORCH_NPY_TENSOR_UNREADABLE_HPP_

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Arrays of an archive and fields of an array that are not loaded: not asked for, or skipped.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True if the Error is about what was to be loaded: its bytes, its dtype, or that it is not what
/// the options ask for. Others need not fail for the same reason.
inline bool is_about_content(const Error& error) {
  switch (error.code()) {
    case ErrorCode::NotNpy:
    case ErrorCode::UnsupportedVersion:
    case ErrorCode::BadHeader:
    case ErrorCode::UnsupportedDtype:
    case ErrorCode::Truncated:
    case ErrorCode::BadZip:
    case ErrorCode::Mismatch: return true;
    default: return false;
  }
}

/// What could not be loaded of several things, which are loaded by several threads.
template <class WayOut>
class Unreadable {
 public:
  /// What `way_out()` returns is added to an Error that is thrown, unless it is empty.
  Unreadable(std::size_t count, const LoadOptions& options, WayOut way_out)
      : errors_(count), options_(options), way_out_(std::move(way_out)) {}

  /// Calls `work` for number `i`, unless that has failed before. Throws an Error that is not
  /// skipped.
  template <class Work>
  void load(std::size_t i, const Work& work) {
    if (errors_[i]) return;
    try {
      work();
    } catch (const Error& error) {
      if (!is_about_content(error)) throw;
      if (options_.on_unreadable() == OnUnreadable::Throw) {
        const std::string way_out = way_out_();
        if (way_out.empty()) throw;
        throw ErrorContext::with_way_out(error, way_out);
      }
      errors_[i] = error;
    }
  }

  bool is_skipped(std::size_t i) const { return errors_[i].has_value(); }

  /// The Errors, in order.
  std::vector<Error> skipped() const {
    std::vector<Error> errors;
    for (const auto& error : errors_) {
      if (error) errors.push_back(*error);
    }
    return errors;
  }

 private:
  std::vector<std::optional<Error>> errors_;
  const LoadOptions& options_;
  WayOut way_out_;
};

/// Gives Errors about parts of a file to the callback of the options, with the path, and with the
/// name of a member if that is not empty.
inline void report_skipped(const std::vector<Error>& errors, const LoadOptions& options,
                           const std::filesystem::path& path, const std::string& member) {
  if (!options.unreadable_callback()) return;
  for (const Error& error : errors) {
    const Error about =
        member.empty() ? error : ErrorContext::within(error, "member " + in_quotes(member));
    options.unreadable_callback()(ErrorContext::at(about, path));
  }
}

/// How to load the rest, for Unreadable.
inline const char* way_to_the_rest(bool has_names) {
  return has_names ? "to load the others, leave this name out, or set "
                     "on_unreadable(OnUnreadable::Skip)"
                   : "to load the others, give their names, or set "
                     "on_unreadable(OnUnreadable::Skip)";
}

/// The start of a list of names, for a message: `"a", "b", ...`; empty for no names.
inline std::string few_names(const std::vector<std::string>& names) {
  constexpr std::size_t kMaxLength = 200;
  std::string text;
  for (const std::string& name : names) {
    if (text.size() > kMaxLength) return text + ", ...";
    text += (text.empty() ? "" : ", ") + in_quotes(name);
  }
  return text;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_UNREADABLE_HPP_

// ---- torch_npy/tensor/array_members.hpp

#ifndef TORCH_NPY_TENSOR_ARRAY_MEMBERS_HPP_
#define TORCH_NPY_TENSOR_ARRAY_MEMBERS_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

// Which members of an archive are arrays, and what they are called.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The name of an array as that of its member.
inline constexpr std::string_view kEnding = ".npy";

inline bool ends_as_array(const std::string& name) { return has_ending(name, kEnding); }

/// True for what macOS puts beside the arrays of an archive, such as `__MACOSX/._a.npy`.
inline bool is_of_macos(std::string_view name) {
  constexpr std::string_view kFolder = "__MACOSX/";
  return name.substr(0, kFolder.size()) == kFolder;
}

/// True for that, and for what version control and editors put there, such as `.git/index`: a part
/// of the name starts with a dot.
inline bool is_hidden(std::string_view name) {
  if (is_of_macos(name)) return true;
  while (!name.empty()) {
    const std::string_view part = name.substr(0, name.find_first_of("/\\"));
    if (!part.empty() && part.front() == '.') return true;
    name.remove_prefix((std::min)(part.size() + 1, name.size()));
  }
  return false;
}

/// Why a member of an archive of arrays cannot have this name, with or without ".npy"; empty if it
/// can.
inline std::string fault_of_member(const std::string& name) {
  std::string fault = fault_of_name(name);
  if (fault.empty() && ends_as_array(name) && name.size() > kEnding.size()) {
    fault = fault_of_name(name.substr(0, name.size() - kEnding.size()));
  }
  return fault;
}

/// Bytes that libdeflate has not written look like an array, which fails when it is loaded: nothing
/// is skipped by mistake.
inline constexpr std::string_view kUnwritten(kMagic, kMagicSize);

/// The archive in a source. `room`: see ArchiveBytes. Throws Error, without a path: what ZipArchive
/// throws.
inline std::shared_ptr<const ZipArchive> open_archive(
    const std::shared_ptr<const ByteSource>& source, std::shared_ptr<char> room = nullptr) {
  try {
    return std::make_shared<const ZipArchive>(source, std::move(room));
  } catch (const Error& error) {
    char magic[kMagicSize];
    if (error.code() != ErrorCode::NotNpy || source->read(magic, sizeof magic, 0) != sizeof magic ||
        std::memcmp(magic, kMagic, sizeof magic) != 0) {
      throw;
    }
    throw Error(ErrorCode::NotNpy,
                "not an .npz archive but an .npy file: open() and load() read it");
  }
}

/// Calls `use` with the bytes of a member, of a source on the stack. `at_once`: see DeflatedMember.
template <class Use>
auto with_member(const std::shared_ptr<const ZipArchive>& archive, const ZipMember& member,
                 const Use& use, std::uint64_t at_once = DeflatedMember::kWholeForHeader) {
  if (member.method == kStored) return use(StoredMember(archive, member));
  return use(DeflatedMember(archive, member, kUnwritten, at_once));
}

/// The bytes of a member as a source that keeps the archive open.
inline std::shared_ptr<const ByteSource> source_of(const std::shared_ptr<const ZipArchive>& archive,
                                                   const ZipMember& member) {
  if (member.method == kStored) return std::make_shared<const StoredMember>(archive, member);
  return std::make_shared<const DeflatedMember>(archive, member, kUnwritten);
}

/// The arrays of an archive, by name. Errors have no path.
class ArrayMembers {
 public:
  /// Reads the first bytes of members whose name does not end in ".npy". Throws Error (BadZip,
  /// NotNpy).
  explicit ArrayMembers(std::shared_ptr<const ZipArchive> archive) : archive_(std::move(archive)) {
    refuse_torch_file();
    for (const ZipMember& member : archive_->members()) {
      if (const std::string fault = fault_of_member(member.name); !fault.empty()) {
        throw bad_archive("the name of a member: " + fault, member.entry);
      }
      const auto name = array_name(member);
      if (!name) continue;
      if (!indices_.emplace(*name, arrays_.size()).second) {
        throw bad_archive("two arrays have the name " + in_quotes(*name));
      }
      names_.push_back(*name);
      arrays_.push_back(&member);
    }
  }

  const std::shared_ptr<const ZipArchive>& archive() const noexcept { return archive_; }

  /// In the order of the archive, without ".npy".
  const std::vector<std::string>& names() const noexcept { return names_; }
  std::vector<std::string>& names() noexcept { return names_; }

  /// The members with the arrays, in the order of names().
  const std::vector<const ZipMember*>& members() const noexcept { return arrays_; }

  /// Throws Error (NotNpy) if there are members, and none of them is an array.
  void require_arrays() const {
    const auto& members = archive_->members();
    if (!arrays_.empty() || members.empty()) return;
    throw Error(ErrorCode::NotNpy, "not an .npz archive but a zip archive without arrays: of its " +
                                       counted(members.size(), "member") +
                                       ", the first of which is " +
                                       in_quotes(members.front().name) + ", none is an .npy file");
  }

  /// The array of this name, or else the array whose member has this name; null if there is none.
  const ZipMember* find(const std::string& name) const {
    auto found = indices_.find(name);
    if (found == indices_.end() && ends_as_array(name)) {
      found = indices_.find(name.substr(0, name.size() - kEnding.size()));
    }
    if (found == indices_.end()) return nullptr;
    const ZipMember* const member = arrays_[found->second];
    return found->first == name || member->name == name ? member : nullptr;
  }

  /// The same; finds members that are not arrays, too: loading one tells what it is.
  const ZipMember* find_member(const std::string& name) const {
    if (const ZipMember* const member = find(name)) return member;
    for (const ZipMember& member : archive_->members()) {
      if (member.name == name) return &member;
    }
    return nullptr;
  }

  /// The array of exactly this name; null if there is none.
  const ZipMember* exactly(const std::string& array) const {
    const auto found = indices_.find(array);
    return found == indices_.end() ? nullptr : arrays_[found->second];
  }

  /// Whether the content of a member starts like an .npy file. Throws Error if it cannot be read.
  bool has_magic(const ZipMember& member) const {
    char magic[kMagicSize] = {};
    const auto size = std::min<std::uint64_t>(member.size, sizeof magic);
    source_of(archive_, member)->read_fully(magic, static_cast<std::size_t>(size), 0);
    return std::memcmp(magic, kMagic, sizeof magic) == 0;
  }

  /// As find_member(). Throws Error (NotFound), which lists the arrays.
  const ZipMember& at(const std::string& name) const {
    if (const ZipMember* const member = find_member(name)) return *member;
    throw Error(ErrorCode::NotFound,
                "no array " + in_quotes(name) +
                    (names_.empty() ? "; there is none" : "; there are " + few_names(names_)));
  }

 private:
  /// Throws Error (NotNpy) for a file of torch.save() or torch.jit.save(), which is a zip archive,
  /// too, and would be one without arrays.
  void refuse_torch_file() const {
    bool is_torch_file = false;
    for (const ZipMember& member : archive_->members()) {
      if (ends_as_array(member.name)) return;
      is_torch_file = is_torch_file || has_ending(member.name, "/data.pkl");
    }
    if (!is_torch_file) return;
    throw Error(ErrorCode::NotNpy, std::string("not an .npz archive; it looks like ") + kTorchFile);
  }

  /// None if the member is not an array: its name does not say so, or is hidden, and its content
  /// does not start like one. One that cannot be read counts as an array, unless macOS put it
  /// there: its Error comes when it is loaded.
  std::optional<std::string> array_name(const ZipMember& member) const {
    const std::string& name = member.name;
    const bool named_as_array = ends_as_array(name);
    if ((!named_as_array || is_hidden(name)) && !starts_as_array(member)) return std::nullopt;
    return named_as_array ? name.substr(0, name.size() - kEnding.size()) : name;
  }

  bool starts_as_array(const ZipMember& member) const {
    try {
      return has_magic(member);
    } catch (const Error&) {
      return !is_of_macos(member.name);
    }
  }

  std::shared_ptr<const ZipArchive> archive_;
  std::vector<std::string> names_;
  std::vector<const ZipMember*> arrays_;  // of names_
  std::unordered_map<std::string, std::size_t> indices_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_ARRAY_MEMBERS_HPP_

// ---- torch_npy/tensor/convert.hpp

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

// ---- torch_npy/tensor/device.hpp

#ifndef TORCH_NPY_TENSOR_DEVICE_HPP_
#define TORCH_NPY_TENSOR_DEVICE_HPP_

/// @file
/// Checks for devices, and copies to them.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdint>
#include <string>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The number of available devices of a type; 0 for a CUDA build without a driver.
inline int device_count(c10::DeviceType type) noexcept {
  if (type == c10::kCPU) return 1;
  if (!c10::impl::hasDeviceGuardImpl(type)) return 0;
  return c10::impl::getDeviceGuardImpl(type)->deviceCount();
}

/// Throws Error (InvalidArgument) if there is no such device.
inline void require_device(c10::Device device) {
  const int count = device_count(device.type());
  if (count != 0 && device.index() < count) return;
  const std::string type = c10::DeviceTypeName(device.type(), /*lower_case=*/true);
  throw Error(ErrorCode::InvalidArgument,
              "no device " + device.str() + ": " +
                  (count != 0 ? "devices of that type: " + std::to_string(count)
                              : "this LibTorch is built without " + type +
                                    ", or found no driver or no hardware") +
                  "; default_device() returns an available one");
}

}  // namespace detail

/// CUDA if it is available, else the CPU. Throws nothing. Safe from any thread.
inline c10::Device default_device() {
  return detail::device_count(c10::kCUDA) != 0 ? c10::kCUDA : c10::kCPU;
}

/// Returns `tensor` on `device`, with the same shape and dtype, or `tensor` itself if it is there
/// already. With `non_blocking`, a copy from pinned memory (LoadOptions::pinned_memory) may still
/// be in progress when the call returns; any other copy is complete. Throws Error (InvalidArgument)
/// if there is no such device, or if the tensor is undefined; and LibTorch's exception if the
/// device is out of memory. Safe from any thread.
[[nodiscard]] inline at::Tensor to_device(const at::Tensor& tensor, c10::Device device,
                                          bool non_blocking = false) {
  detail::require_device(device);
  if (!tensor.defined())
    throw Error(ErrorCode::InvalidArgument, "to_device() of an undefined tensor");
  return tensor.to(device, non_blocking);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_DEVICE_HPP_

// ---- torch_npy/tensor/region.hpp

#ifndef TORCH_NPY_TENSOR_REGION_HPP_
#define TORCH_NPY_TENSOR_REGION_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// Boxes of dense arrays: where their elements are.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The axis with the i-th smallest stride, of `axes` axes of a dense array. The last `inner_axes`
/// axes are always in C order.
inline std::size_t axis_by_stride(std::size_t i, std::size_t axes, bool fortran_order,
                                  std::size_t inner_axes) {
  return fortran_order && i >= inner_axes ? i - inner_axes : axes - 1 - i;
}

/// Strides in elements. Axes of length 0 count as 1, as in NumPy and LibTorch.
inline std::vector<std::int64_t> dense_strides(const std::vector<std::int64_t>& sizes,
                                               bool fortran_order, std::size_t inner_axes = 0) {
  std::vector<std::int64_t> strides(sizes.size());
  std::int64_t stride = 1;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::size_t axis = axis_by_stride(i, sizes.size(), fortran_order, inner_axes);
    strides[axis] = stride;
    stride *= std::max<std::int64_t>(sizes[axis], 1);
  }
  return strides;
}

/// A box of a dense array as runs of adjacent elements. All numbers are in elements.
struct Runs {
  /// An axis along which there are several runs.
  struct Axis {
    std::size_t size;
    std::uint64_t stride;
  };

  std::size_t run = 0;     ///< length of one run
  std::size_t count = 0;   ///< elements of all runs
  std::vector<Axis> axes;  ///< the one with the smallest stride first

  bool is_one() const { return axes.empty(); }

  /// From the first element to the last one, with what is between them.
  std::uint64_t extent() const {
    std::uint64_t extent = run;
    for (const Axis& axis : axes) extent += (axis.size - 1) * axis.stride;
    return extent;
  }

  /// Calls `use(offset, size, stride, runs)` for elements [first, first + left) of the box, in
  /// order: for `runs` runs of `size` elements, the first at `offset` from the first element of the
  /// box, the others `stride` after one another.
  template <class Use>
  void for_each(std::size_t first, std::size_t left, const Use& use) const {
    if (is_one()) return use(std::uint64_t{first}, left, std::uint64_t{0}, std::size_t{1});
    while (left != 0) {
      const std::size_t skip = first % run;
      std::size_t rest = first / run;
      const std::size_t along = axes.front().size - rest % axes.front().size;
      std::uint64_t offset = skip;
      for (const Axis& axis : axes) {
        offset += rest % axis.size * axis.stride;
        rest /= axis.size;
      }
      const bool is_part = skip != 0 || left < run;
      const std::size_t size = is_part ? (std::min)(left, run - skip) : run;
      const std::size_t runs = is_part ? 1 : (std::min)(along, left / run);
      use(offset, size, axes.front().stride, runs);
      first += size * runs;
      left -= size * runs;
    }
  }
};

/// The runs of a box of this size in a dense array with these strides.
inline Runs runs_of(const std::vector<std::int64_t>& box, const std::vector<std::int64_t>& strides,
                    bool fortran_order, std::size_t inner_axes) {
  Runs runs;
  runs.run = runs.count = 1;
  for (std::size_t i = 0; i < box.size(); ++i) {
    const std::size_t axis = axis_by_stride(i, box.size(), fortran_order, inner_axes);
    const auto size = static_cast<std::size_t>(box[axis]);
    const auto stride = static_cast<std::uint64_t>(strides[axis]);
    runs.count *= size;
    if (size == 1) continue;
    if (runs.is_one() && stride == runs.run) {
      runs.run *= size;
    } else if (!runs.is_one() && stride == runs.axes.back().size * runs.axes.back().stride) {
      runs.axes.back().size *= size;
    } else {
      runs.axes.push_back({size, stride});
    }
  }
  return runs.count == 0 ? Runs() : runs;
}

/// The Error for the range of one axis.
inline Error bad_range(const AxisRange& range, std::size_t axis,
                       const std::vector<std::int64_t>& shape, OutOfBounds out_of_bounds) {
  const std::string length = std::to_string(shape[axis]);
  std::string reason = "the region [" + std::to_string(range.begin) + ", " +
                       (range.end == INT64_MAX ? length : std::to_string(range.end)) +
                       ") of axis " + std::to_string(axis) + " is not inside the array of shape " +
                       python_tuple(shape);
  const bool can_be_moved =
      range.begin <= range.end &&
      static_cast<std::uint64_t>(range.end) - static_cast<std::uint64_t>(range.begin) <=
          static_cast<std::uint64_t>(shape[axis]);
  if (out_of_bounds == OutOfBounds::Throw) {
    reason += ": 0 <= begin <= end <= " + length +
              " is required, and negative numbers do not count from the end; out_of_bounds() fills "
              "what is outside";
    if (can_be_moved) reason += ", or moves the region inside";
  } else if (out_of_bounds == OutOfBounds::Shift) {
    reason += ", and cannot be moved inside: 0 <= end - begin <= " + length + " is required";
  } else {
    reason += ": begin <= end is required, both from -2^60 to 2^60";
  }
  return Error(ErrorCode::InvalidArgument, reason);
}

/// A range for every axis of an array of this shape, with numbers instead of "the end of the axis",
/// and moved inside for OutOfBounds::Shift. Throws Error (InvalidArgument).
inline Region resolve_region(Region region, const std::vector<std::int64_t>& shape,
                             OutOfBounds out_of_bounds) {
  constexpr std::int64_t kFar = std::int64_t{1} << 60;  // sizes and sums do not overflow
  if (region.size() > shape.size()) {
    throw Error(ErrorCode::InvalidArgument, "a region of " + counted(region.size(), "range") +
                                                " of an array that has fewer axes: its shape is " +
                                                python_tuple(shape));
  }
  region.resize(shape.size());
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    AxisRange& range = region[axis];
    const std::int64_t length = shape[axis];
    const AxisRange asked = range;
    if (range.end == INT64_MAX) range.end = length;
    const bool is_inside = 0 <= range.begin && range.begin <= range.end && range.end <= length;
    if (is_inside) continue;
    const bool is_near = -kFar <= range.begin && range.begin <= range.end && range.end <= kFar;
    const bool fits = is_near && range.end - range.begin <= length;
    if (out_of_bounds == OutOfBounds::Throw || !is_near ||
        (out_of_bounds == OutOfBounds::Shift && !fits)) {
      throw bad_range(asked, axis, shape, out_of_bounds);
    }
    if (out_of_bounds == OutOfBounds::Shift) {
      const std::int64_t size = range.end - range.begin;
      range.begin = std::clamp<std::int64_t>(range.begin, 0, length - size);
      range.end = range.begin + size;
    }
  }
  return region;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_REGION_HPP_

// ---- torch_npy/tensor/plan.hpp

#ifndef TORCH_NPY_TENSOR_PLAN_HPP_
#define TORCH_NPY_TENSOR_PLAN_HPP_

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <c10/core/TensorOptions.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

namespace detail {

/// What a load does, computed before any memory is allocated.
///
/// An item of the array may be several elements of the tensor (the characters of a string, the
/// bytes of a record). They are adjacent and have their own axes, the last ones, in C order even if
/// the array is in Fortran order. All counts are in elements.
struct LoadPlan {
  DType dtype;                             ///< of an element in the file
  c10::ScalarType stored{};                ///< the same for LibTorch; `type` if it has none
  c10::ScalarType type{};                  ///< of the tensor
  std::vector<std::int64_t> sizes;         ///< of the tensor
  std::vector<std::int64_t> strides;       ///< of the tensor, in elements
  std::vector<std::int64_t> file_strides;  ///< of its axes in the file, in elements
  std::uint64_t offset = 0;                ///< of the first element to read, in bytes
  std::uint64_t end = 0;                   ///< of the whole array in the file, in bytes
  Runs from;                               ///< the elements to read, in the file
  Runs to;                                 ///< the same in the tensor, if it is padded
  std::size_t to_offset = 0;               ///< of the first of them in a padded tensor
  std::string padding;    ///< the bytes of an element outside of the array; empty if there is none
  std::size_t count = 0;  ///< elements of the tensor
  std::size_t bytes = 0;  ///< of the tensor
  std::size_t inner = 1;  ///< elements of one item of the array
  std::size_t inner_axes = 0;  ///< axes that these have in the tensor
  bool fortran_order = false;
  bool is_whole = true;  ///< all elements of the array are read

  std::size_t item_size() const { return static_cast<std::size_t>(dtype.item_size); }
  /// The address of an element in native byte order must be a multiple of this. For complex numbers
  /// it is their whole size: c10::complex has that alignment, and a misaligned copy crashes.
  std::size_t alignment() const { return item_size(); }
  bool converts() const { return stored != type || !is_native(); }
  bool is_padded() const { return !padding.empty(); }
  /// Whether the tensor has the bytes in the order in which they are adjacent in the file.
  bool in_one_run() const { return from.is_one() && !is_padded(); }
  /// Whether this LibTorch has a dtype for the items at all; raw items have that of void_as().
  bool is_native() const { return dtype.kind == 'V' || scalar_type_of(dtype); }
};

/// Refuses types without plain elements: quantized, undefined and unknown ones.
inline void require_plain(const std::optional<c10::ScalarType>& type, const char* option) {
  if (!type) return;
  if (*type == kNextSigned) {
    throw Error(ErrorCode::InvalidArgument,
                std::string(option) + " takes a dtype; kNextSigned is for unsigned_as()");
  }
  bool plain = !c10::isQIntType(*type);
  try {
    (void)c10::elementSize(*type);
  } catch (const c10::Error&) {
    plain = false;
  }
  if (!plain) {
    throw Error(ErrorCode::InvalidArgument,
                std::string(option) + " cannot be " + c10::toString(*type));
  }
}

/// A dtype of this LibTorch that raw items of a size can have, for a message; null if there is
/// none.
inline const char* example_for_raw(std::int64_t size) {
  switch (size) {
#if TORCH_NPY_TORCH_AT_LEAST(2, 1)
    case 1: return "void_as(torch::kFloat8_e4m3fn) for the float8_e4m3fn of ml_dtypes";
#else
    case 1: return "void_as(torch::kUInt8); LibTorch 2.1 and later have float8";
#endif
    case 2: return "void_as(torch::kBFloat16) for the bfloat16 of ml_dtypes";
    case 4: return "void_as(torch::kInt32)";
    case 8: return "void_as(torch::kInt64)";
    case 16: return "void_as(torch::kComplexDouble)";
    default: return nullptr;
  }
}

inline bool void_as_fits(const DType& dtype, const LoadOptions& options) {
  return options.void_as() &&
         static_cast<std::int64_t>(c10::elementSize(*options.void_as())) == dtype.item_size;
}

/// Why raw items cannot be loaded: void_as() does not give them a dtype.
inline Error no_type_for_raw(const DType& dtype, const LoadOptions& options) {
  constexpr const char* kRawBytes = "raw_bytes(true) loads their bytes as uint8";
  if (options.void_as()) {
    return Error(ErrorCode::Mismatch, "void_as() names a dtype of " +
                                          counted(c10::elementSize(*options.void_as()), "byte") +
                                          ", the items have " + std::to_string(dtype.item_size) +
                                          "; " + kRawBytes);
  }
  const char* const example = example_for_raw(dtype.item_size);
  const std::string way_out =
      example == nullptr ? "; "
                         : std::string("; void_as() sets one, for instance ") + example + "; ";
  return Error(ErrorCode::UnsupportedDtype, "raw bytes (" + descr_literal(dtype) +
                                                ") have no numeric type" + way_out + kRawBytes);
}

/// Throws Error (UnsupportedDtype) unless dtype() asks for a dtype to which these items are
/// rounded.
inline void require_long_double(const DType& dtype, const LoadOptions& options) {
  const auto unsupported = [&](const std::string& reason) {
    return Error(ErrorCode::UnsupportedDtype,
                 "LibTorch has no dtype for " + descr_literal(dtype) +
                     (dtype.kind == 'f' ? ", NumPy's longdouble" : ", NumPy's clongdouble") +
                     reason);
  };
  if (!is_long_double(dtype)) {
    throw unsupported(
        ": save the array as float64 or complex128, or load the bytes with "
        "raw_bytes(true)");
  }
  if (!options.dtype()) {
    throw unsupported(std::string(": dtype(torch::") +
                      (dtype.kind == 'f' ? "kFloat64" : "kComplexDouble") +
                      ") rounds its values, and converts all that is loaded with it; "
                      "raw_bytes(true) loads its bytes");
  }
  const c10::ScalarType real = c10::toRealValueType(*options.dtype());
  if (real != c10::ScalarType::Double && real != c10::ScalarType::Float) {
    throw unsupported(std::string(", and it is not converted to ") +
                      c10::toString(*options.dtype()) +
                      ": expected kFloat32, kFloat64, kComplexFloat or kComplexDouble");
  }
}

/// Whether items are, or have, Python objects: the data of the array is then one pickle.
inline bool has_objects(const DType& dtype) {
  return dtype.kind == 'O' ||
         std::any_of(dtype.fields.begin(), dtype.fields.end(),
                     [](const Field& field) { return has_objects(field.dtype); });
}

/// Whether raw_bytes() loads the items as their bytes, because no tensor holds them.
inline bool loads_raw_bytes(const DType& dtype, const LoadOptions& options) {
  if (!options.raw_bytes()) return false;
  switch (dtype.kind) {
    case 'S':
    case 'U': return true;
    case 'V': return dtype.is_structured() ? !has_objects(dtype) : !void_as_fits(dtype, options);
    case 'f':
    case 'c': return !scalar_type_of(dtype) && !(is_long_double(dtype) && options.dtype());
    default: return false;
  }
}

/// The ScalarType of the items in the file; none for those that are only loaded by converting them.
inline std::optional<c10::ScalarType> stored_type(const DType& dtype, const LoadOptions& options) {
  const auto unsupported = [](const std::string& reason) {
    return Error(ErrorCode::UnsupportedDtype, reason);
  };
  if (dtype.is_structured()) {
    throw unsupported("a structured dtype of " + counted(dtype.fields.size(), "field") +
                      (has_objects(dtype) ? ", some of which are Python objects: the data of the "
                                            "array is one pickle, which is never loaded"
                                          : " is not one tensor: load_fields() gives one for each "
                                            "field"));
  }
  switch (dtype.kind) {
    case 'O':
      throw unsupported(
          "object dtype: its items are pickled Python objects, which can execute code and are "
          "never loaded; save arrays with a numeric dtype, and a dict of arrays with "
          "np.savez(path, **arrays)");
    case 'S':
    case 'U':
      throw unsupported("strings (" + descr_literal(dtype) +
                        ") are not numbers; strings_as_codes(true) loads their " +
                        (dtype.kind == 'S' ? "bytes as uint8" : "code points as int32"));
    case 'V':
      if (!void_as_fits(dtype, options)) throw no_type_for_raw(dtype, options);
      return options.void_as();
    default: break;
  }
  const auto type = scalar_type_of(dtype);
  if (!type && !is_wide_unsigned(dtype)) require_long_double(dtype, options);
  if (!type && is_wide_unsigned(dtype) && !options.dtype() && !options.unsigned_as()) {
    throw unsupported(
        "LibTorch " + std::to_string(TORCH_VERSION_MAJOR) + "." +
        std::to_string(TORCH_VERSION_MINOR) + " has no dtype for " + descr_literal(dtype) +
        " (2.3 and later do): unsigned_as(torch_npy::kNextSigned) loads it as " +
        (dtype.item_size == 2 ? "int32" : "int64") + ", and changes nothing but unsigned integers");
  }
  return type;
}

/// The ScalarType of the tensor. `stored`: of the items.
inline c10::ScalarType type_to_load(const DType& dtype, std::optional<c10::ScalarType> stored,
                                    const LoadOptions& options) {
  if (options.dtype()) return *options.dtype();
  if (!is_wide_unsigned(dtype) || !options.unsigned_as()) return *stored;
  if (*options.unsigned_as() != kNextSigned) return *options.unsigned_as();
  return dtype.item_size == 2 ? c10::ScalarType::Int : c10::ScalarType::Long;
}

/// Replaces a string dtype by that of its characters, which get one more axis in `inner`.
inline void split_string(DType& dtype, std::vector<std::int64_t>& inner) {
  const char byte_order = dtype.byte_order;
  const std::int64_t bytes = dtype.item_size;
  dtype = *parse_type_string(dtype.kind == 'S' ? "|u1" : "=i4");
  if (byte_order != '|') dtype.byte_order = byte_order;
  inner.push_back(bytes / dtype.item_size);
}

/// The axis that squeeze(axis) removes from a tensor with these sizes. Throws Error (Mismatch) if
/// its length is not 1.
inline std::size_t squeezed_axis(c10::IntArrayRef sizes, std::int64_t axis) {
  const auto axes = static_cast<std::int64_t>(sizes.size());
  const std::int64_t index = axis < 0 ? axis + axes : axis;
  if (index >= 0 && index < axes && sizes[static_cast<std::size_t>(index)] == 1) {
    return static_cast<std::size_t>(index);
  }
  throw Error(ErrorCode::Mismatch, "squeeze(" + std::to_string(axis) +
                                       ") removes an axis of length 1, and the shape is " +
                                       python_tuple(sizes.vec()));
}

/// Removes the axis of squeeze(). No element moves.
inline void squeeze(LoadPlan& plan, std::int64_t axis) {
  const std::size_t index = squeezed_axis(plan.sizes, axis);
  if (index >= plan.sizes.size() - plan.inner_axes) --plan.inner_axes;
  plan.sizes.erase(plan.sizes.begin() + static_cast<std::ptrdiff_t>(index));
  plan.strides.erase(plan.strides.begin() + static_cast<std::ptrdiff_t>(index));
  plan.file_strides.erase(plan.file_strides.begin() + static_cast<std::ptrdiff_t>(index));
}

/// The value as a 0-d tensor of this dtype; undefined if the dtype cannot hold it.
inline at::Tensor exact_scalar(const c10::Scalar& value, c10::ScalarType dtype) {
  try {
    at::Tensor element = at::full({}, value, at::TensorOptions(dtype));
    if (c10::isFloatingType(dtype)) {  // some versions of LibTorch make 1e30 an infinite float16
      const bool is_finite = std::isfinite(element.item().toDouble());
      return is_finite == std::isfinite(value.toDouble()) ? element : at::Tensor();
    }
    if (!c10::isIntegralType(dtype, /*includeBool=*/true)) return element;
    // LibTorch lets negative numbers wrap around, and truncates fractions.
    if (!value.isComplex() && element.item().toDouble() == value.toDouble()) return element;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception&) {  // LibTorch throws more than c10::Error
  }
  return {};
}

/// The bytes of an element of `type`. Throws Error (InvalidArgument) if it cannot hold the value.
inline std::string element_of(const c10::Scalar& value, c10::ScalarType type) {
  const at::Tensor element = exact_scalar(value, type);
  if (element.defined()) {
    return {static_cast<const char*>(element.data_ptr()), c10::elementSize(type)};
  }
  throw Error(ErrorCode::InvalidArgument,
              std::string("the value for what is outside of the array cannot be an element of ") +
                  c10::toString(type));
}

/// Completes a plan that reads a box, which lies in the tensor at the offset `lead` along each
/// axis. Throws Error (TooLarge).
inline void finish_plan(LoadPlan& plan, const std::vector<std::int64_t>& box,
                        const std::vector<std::int64_t>& lead, std::uint64_t max_bytes) {
  const auto bytes =
      checked_bytes(plan.sizes, static_cast<std::int64_t>(c10::elementSize(plan.type)));
  const auto limit = std::min<std::uint64_t>(max_bytes, PTRDIFF_MAX);
  if (!bytes || static_cast<std::uint64_t>(*bytes) > limit) {
    throw Error(ErrorCode::TooLarge,
                "a tensor of " + (bytes ? std::to_string(*bytes) : "more than 2^63") +
                    " bytes is over the limit of " + std::to_string(limit) + ", max_bytes()");
  }
  plan.bytes = static_cast<std::size_t>(*bytes);
  plan.count = plan.bytes / c10::elementSize(plan.type);
  plan.strides = dense_strides(plan.sizes, plan.fortran_order, plan.inner_axes);
  plan.from = runs_of(box, plan.file_strides, plan.fortran_order, plan.inner_axes);
  if (!plan.is_padded()) return;
  plan.to = runs_of(box, plan.strides, plan.fortran_order, plan.inner_axes);
  for (std::size_t axis = 0; axis < box.size(); ++axis) {
    plan.to_offset += static_cast<std::size_t>(lead[axis] * plan.strides[axis]);
  }
}

/// Reduces a plan without padding to the region that the options ask for; of its tensor, not of the
/// array. Throws Error (InvalidArgument, TooLarge).
inline void take_region(LoadPlan& plan, const LoadOptions& options) {
  const std::size_t axes = plan.sizes.size() - plan.inner_axes;
  const auto inner = plan.sizes.begin() + static_cast<std::ptrdiff_t>(axes);
  const Region region =
      resolve_region(options.region(), {plan.sizes.begin(), inner}, options.out_of_bounds());
  std::vector<std::int64_t> box = plan.sizes;
  std::vector<std::int64_t> lead(box.size());
  for (std::size_t axis = 0; axis < axes; ++axis) {
    const std::int64_t length = plan.sizes[axis];
    const auto [begin, end] = region[axis];
    const std::int64_t first = std::clamp<std::int64_t>(begin, 0, length);
    box[axis] = std::clamp<std::int64_t>(end, first, length) - first;
    lead[axis] = box[axis] == 0 ? 0 : first - begin;
    plan.offset += static_cast<std::uint64_t>(first * plan.file_strides[axis]) * plan.item_size();
    plan.sizes[axis] = end - begin;
    plan.is_whole = plan.is_whole && begin == 0 && end == length;
  }
  if (box != plan.sizes) plan.padding = element_of(options.fill_value(), plan.type);
  finish_plan(plan, box, lead, options.max_bytes());
}

/// Validates the header against the options and against `available`, the number of bytes that exist
/// from its start on. An item of the array consists of elements of header.dtype with axes `inner`;
/// of one element if there are none.
inline LoadPlan make_plan(Header&& header, const LoadOptions& options, std::uint64_t available,
                          std::vector<std::int64_t> inner = {}) {
  // NumPy has no more, and some of LibTorch's functions support no more.
  constexpr std::size_t kMaxAxes = 64;

  LoadPlan plan;
  require_plain(options.dtype(), "dtype()");
  require_plain(options.void_as(), "void_as()");
  if (options.unsigned_as() != kNextSigned) require_plain(options.unsigned_as(), "unsigned_as()");
  if (options.strings_as_codes() && (header.dtype.kind == 'S' || header.dtype.kind == 'U')) {
    split_string(header.dtype, inner);
  }
  if (loads_raw_bytes(header.dtype, options)) {
    inner.push_back(header.dtype.item_size);
    header.dtype = *parse_type_string("|u1");
    plan.stored = plan.type = c10::ScalarType::Byte;
  } else {
    const auto stored = stored_type(header.dtype, options);
    plan.type = type_to_load(header.dtype, stored, options);
    plan.stored = stored.value_or(plan.type);
  }

  plan.sizes = std::move(header.shape);
  if (!inner.empty()) {
    plan.sizes.insert(plan.sizes.end(), inner.begin(), inner.end());
    plan.inner_axes = inner.size();
    plan.inner = static_cast<std::size_t>(checked_bytes(inner, 1).value_or(0));
  }
  const auto whole = checked_bytes(plan.sizes, header.dtype.item_size);
  if (!whole || plan.sizes.size() > kMaxAxes) {
    throw Error(ErrorCode::TooLarge, whole ? "a tensor of " + std::to_string(plan.sizes.size()) +
                                                 " axes: the limit is " + std::to_string(kMaxAxes)
                                           : "the bytes of shape " + python_tuple(plan.sizes) +
                                                 " do not fit in 63 bits");
  }
  const auto declared = static_cast<std::uint64_t>(*whole);
  plan.offset = header.data_offset;
  plan.end = plan.offset + declared;
  if (plan.end > available) throw data_cut_short(plan.offset, declared, available);

  plan.dtype = std::move(header.dtype);
  plan.fortran_order = header.fortran_order;
  plan.file_strides = dense_strides(plan.sizes, plan.fortran_order, plan.inner_axes);
  if (options.region().empty()) {
    finish_plan(plan, plan.sizes, {}, options.max_bytes());
  } else {
    take_region(plan, options);
  }
  if (options.squeeze()) squeeze(plan, *options.squeeze());
  return plan;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_PLAN_HPP_

// ---- torch_npy/tensor/read.hpp

#ifndef TORCH_NPY_TENSOR_READ_HPP_
#define TORCH_NPY_TENSOR_READ_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// From the bytes of a source to a tensor, as a LoadPlan says. Everything that loads ends here.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The bytes of an array: those that were read with its header, and the rest from its source.
class ArrayBytes {
 public:
  /// `first` may be null. The array ends at byte `end`, for messages.
  ArrayBytes(const ByteSource& source, const FirstBytes* first, std::uint64_t end)
      : source_(source), first_(first), end_(end) {}

  bool is_sequential() const { return source_.internal_traits().is_sequential; }
  /// All bytes, if they are in memory; else null.
  const char* data() const { return source_.internal_traits().data; }

  /// Throws Error (Truncated) if the source ends before the last of the bytes.
  void read(void* out, std::size_t size, std::uint64_t offset) const {
    char* at = static_cast<char*>(out);
    if (first_ != nullptr && offset < first_->size) {
      const auto begin = static_cast<std::size_t>(offset);
      const std::size_t known = (std::min)(size, first_->size - begin);
      std::memcpy(at, first_->data + begin, known);
      at += known;
      size -= known;
      offset += known;
    }
    const std::size_t got = source_.read_available(at, size, offset);
    if (got == size) return;
    const std::uint64_t end = offset + got;
    throw Error(ErrorCode::Truncated,
                "data cut short: the array ends at byte " + std::to_string(end_) +
                    ", its source at byte " + std::to_string(end),
                end);
  }

  /// Ranges in ascending order.
  void read_many(const std::vector<ByteRange>& ranges) const {
    const bool is_after_first = first_ == nullptr || ranges.front().offset >= first_->size;
    if (is_after_first && !is_sequential()) return source_.read_many(ranges);
    for (const ByteRange& range : ranges) read(range.out, range.size, range.offset);
  }

 private:
  const ByteSource& source_;
  const FirstBytes* first_;
  std::uint64_t end_;
};

/// Copies `runs` runs of `size` bytes, which are `stride` apart, one after another to `out`.
inline void copy_runs(const char* from, std::size_t size, std::size_t stride, std::size_t runs,
                      char* out) {
  for (std::size_t i = 0; i < runs; ++i) std::memcpy(out + i * size, from + i * stride, size);
}

/// Reads runs of bytes in few calls. Short runs that are close together are read with the bytes
/// between them: a call costs as much as copying some thousand bytes.
class RunReader {
 public:
  explicit RunReader(const ArrayBytes& bytes) : bytes_(bytes) {}

  /// The next runs, of `size` bytes each, which come after those before them. They are read by
  /// finish() at the latest.
  void add(std::uint64_t offset, std::size_t size, std::uint64_t stride, std::size_t runs,
           char* out) {
    while (runs != 0) {
      const bool joins = !span_.empty() && span_.size() < kMaxParts && offset - last_ <= kClose &&
                         offset + size - begin_ <= kSpan;
      if (!joins) {
        end_span();
        begin_ = offset;
      }
      std::size_t taken = 1;
      if (stride <= kClose && offset + size - begin_ <= kSpan) {
        const std::uint64_t fit = (begin_ + kSpan - offset - size) / stride + 1;
        taken = static_cast<std::size_t>(std::min<std::uint64_t>(runs, fit));
      }
      const auto at = static_cast<std::size_t>(offset - begin_);
      span_.push_back({out, at, size, static_cast<std::size_t>(stride), taken});
      last_ = offset + (taken - 1) * stride;
      runs -= taken;
      offset += taken * stride;
      out += taken * size;
    }
  }

  void finish() {
    end_span();
    read_single();
  }

 private:
  static constexpr std::size_t kClose = 4096;  // from one run to the next
  static constexpr std::size_t kSpan = 65536;  // that is read with one call
  static constexpr std::size_t kMaxParts = 2048;

  struct Part {
    char* out;
    std::size_t at;  // in the span
    std::size_t size;
    std::size_t stride;
    std::size_t runs;
  };

  void end_span() {
    if (span_.empty()) return;
    const Part& last = span_.back();
    const auto size = static_cast<std::size_t>(last_ - begin_) + last.size;
    if (size == last.size) {
      single_.push_back({last.out, size, begin_});
      if (single_.size() == kMaxParts) read_single();
    } else {
      read_single();  // a sequential source is read in order
      if (memory_ == nullptr) memory_.reset(new char[kSpan]);
      bytes_.read(memory_.get(), size, begin_);
      for (const Part& part : span_) {
        copy_runs(memory_.get() + part.at, part.size, part.stride, part.runs, part.out);
      }
    }
    span_.clear();
  }

  void read_single() {
    if (!single_.empty()) bytes_.read_many(single_);
    single_.clear();
  }

  const ArrayBytes& bytes_;
  std::uint64_t begin_ = 0;        // of the current span
  std::uint64_t last_ = 0;         // the run added last
  std::vector<Part> span_;         // runs to read together
  std::vector<ByteRange> single_;  // runs to read alone
  std::unique_ptr<char[]> memory_;
};

/// Reads elements [first, first + count) of the plan, in the order of the file.
inline void read_items(const ArrayBytes& bytes, const LoadPlan& plan, std::size_t first,
                       std::size_t count, char* out) {
  const std::size_t item = plan.item_size();
  if (plan.from.is_one()) {
    return bytes.read(out, count * item, plan.offset + static_cast<std::uint64_t>(first) * item);
  }
  if (const char* const data = bytes.data()) {
    const char* const from = data + plan.offset;
    plan.from.for_each(
        first, count,
        [&](std::uint64_t offset, std::size_t size, std::uint64_t stride, std::size_t runs) {
          copy_runs(from + offset * item, size * item, stride * item, runs, out);
          out += runs * size * item;
        });
    return;
  }
  RunReader reader(bytes);
  plan.from.for_each(
      first, count,
      [&](std::uint64_t offset, std::size_t size, std::uint64_t stride, std::size_t runs) {
        reader.add(plan.offset + offset * item, size * item, stride * item, runs, out);
        out += runs * size * item;
      });
  reader.finish();
}

/// Fills all of a padded tensor.
inline void fill_padding(const LoadPlan& plan, char* out) {
  constexpr std::size_t kBlock = std::size_t{64} << 10;  // stays in the cache
  std::memcpy(out, plan.padding.data(), plan.padding.size());
  for (std::size_t done = plan.padding.size(); done < plan.bytes;) {
    const std::size_t size = (std::min)({done, kBlock, plan.bytes - done});
    std::memcpy(out + done, out, size);
    done += size;
  }
}

/// Puts elements [first, first + count) of the plan into a padded tensor.
inline void scatter(const LoadPlan& plan, std::size_t first, std::size_t count, const char* from,
                    char* out) {
  const std::size_t item = c10::elementSize(plan.type);
  out += plan.to_offset * item;
  plan.to.for_each(
      first, count,
      [&](std::uint64_t offset, std::size_t size, std::uint64_t stride, std::size_t runs) {
        for (std::size_t i = 0; i < runs; ++i, from += size * item) {
          std::memcpy(out + (offset + i * stride) * item, from, size * item);
        }
      });
}

/// Fills the memory of a tensor as the plan says.
inline void fill(const ArrayBytes& bytes, const LoadPlan& plan, void* out, std::size_t threads) {
  // Below this a second thread gains nothing.
  constexpr std::size_t kBytesPerThread = std::size_t{4} << 20;
  // Small chunks share the work better. In a large array a chunk has whole huge pages: two threads
  // that touch a fresh one at the same time both clear it.
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  constexpr std::size_t kLargeChunk = std::size_t{4} << 20;
  constexpr std::size_t kLargeChunksFrom = std::size_t{64} << 20;
  // Bytes that are swapped or converted are still in the processor's cache.
  constexpr std::size_t kBlock = std::size_t{128} << 10;

  if (plan.is_padded() && plan.count != 0) fill_padding(plan, static_cast<char*>(out));
  const std::size_t total = plan.from.count;
  if (total == 0) return;
  const std::size_t item = plan.item_size();
  const std::size_t unit = swap_unit(plan.dtype);
  const std::size_t out_item = c10::elementSize(plan.type);
  const bool converts = plan.converts();
  const bool is_dense = !plan.is_padded();
  const std::size_t chunk =
      (is_dense && plan.bytes >= kLargeChunksFrom ? kLargeChunk : kChunk) / item;
  const std::size_t block = converts                 ? (std::min)(kConvertBlock, kBlock / item)
                            : unit != 1 || !is_dense ? kBlock / item
                                                     : chunk;
  const std::size_t worth = total * item / kBytesPerThread;
  if (bytes.is_sequential()) threads = 1;
  if (threads == 0) threads = worth < 2 ? 1 : (std::min)(worth, processor_count());

  const auto fill_chunk = [&](std::size_t index) {
    const std::size_t end = (std::min)(total, (index + 1) * chunk);
    const auto read_buffer = converts || !is_dense ? allocate_buffer(block * item) : nullptr;
    const auto converted = converts && !is_dense ? allocate_buffer(block * out_item) : nullptr;
    for (std::size_t first = index * chunk; first < end; first += block) {
      const std::size_t count = (std::min)(block, end - first);
      char* const to = static_cast<char*>(out) + first * out_item;
      char* const in = read_buffer != nullptr ? read_buffer.get() : to;
      read_items(bytes, plan, first, count, in);
      swap_bytes(in, count * item, unit);
      char* const result = converted != nullptr ? converted.get() : to;
      if (converts) convert(in, plan.dtype, plan.stored, result, plan.type, count);
      if (!is_dense) scatter(plan, first, count, converts ? result : in, static_cast<char*>(out));
    }
  };
  for_each_index((total + chunk - 1) / chunk, threads, fill_chunk);
}

/// Whether the tensor is to be in pinned memory: without CUDA there is none.
inline bool pins_memory(const LoadOptions& options) {
  return options.pinned_memory() && device_count(c10::kCUDA) != 0;
}

/// A tensor on the host with the elements of the plan.
inline at::Tensor read_tensor(const ArrayBytes& bytes, const LoadPlan& plan,
                              const LoadOptions& options) {
  at::Tensor out =
      empty_host(plan.bytes, plan.type, plan.sizes, plan.strides, pins_memory(options));
  fill(bytes, plan, out.data_ptr(), options.threads());
  return out;
}

/// Whether a tensor can use the bytes of the array where they are, with strides; `begin` is the
/// position of its header in the file, or its address in memory.
inline bool can_be_viewed(const LoadPlan& plan, std::uint64_t begin) {
  return !plan.converts() && !plan.is_padded() && !plan.dtype.is_swapped() && plan.bytes != 0 &&
         (begin + plan.offset) % plan.alignment() == 0;
}

/// Whether mmap(true) maps the array instead of reading it.
inline bool can_map(const LoadPlan& plan, const LoadOptions& options, const FileRange& range) {
  return range.file != nullptr && !options.pinned_memory() && can_be_viewed(plan, range.begin);
}

/// An array whose header has been read: a small object for the stack, on which everything that
/// loads is written. `source` and `first` outlive it.
struct OpenArray {
  const ByteSource& source;
  const FirstBytes& first;
  Header header;
  std::uint64_t available;  ///< bytes of the source, as far as they matter

  OpenArray(const ByteSource& its_source, const FirstBytes& its_first, Header its_header)
      : source(its_source),
        first(its_first),
        header(std::move(its_header)),
        available(available_bytes(source, first, header)) {}

  /// Validates the header against the options and the size of the source. `inner`: see make_plan().
  /// The header loses its shape and its dtype.
  LoadPlan plan(const LoadOptions& options, std::vector<std::int64_t> inner = {}) {
    return make_plan(std::move(header), options, available, std::move(inner));
  }
};

/// Whether a tensor can lie over the unpacked bytes of an array, `size` of them at `address`. If
/// they contain much else, it would keep that in memory.
inline bool is_used_in_place(const LoadPlan& plan, const LoadOptions& options, std::uint64_t size,
                             std::uint64_t address) {
  return can_be_viewed(plan, address) && plan.is_whole && plan.offset + plan.bytes == size &&
         !pins_memory(options);
}

/// Bytes of memory that loading takes, all of which count for max_bytes().
inline std::uint64_t memory_to_load(const OpenArray& array, const LoadPlan& plan,
                                    const LoadOptions& options) {
  if (!array.source.internal_traits().is_packed) return plan.bytes;
  const std::uint64_t size = array.source.size();
  return plan.bytes + (is_used_in_place(plan, options, size, 0) ? 0 : size);
}

/// An array in the course of being loaded. A member of an archive is unpacked, or checked while it
/// is read; all others are read from where they are.
class ArrayReading {
 public:
  ArrayReading(const OpenArray& array, const LoadPlan& plan, const LoadOptions& options)
      : plan_(plan), options_(options), source_(&array.source), first_(&array.first) {
    if (array.source.internal_traits().is_packed) require_room(array);
    unpacked_ = array.source.internal_unpacked(array.first, plan.is_whole);
    if (unpacked_ == nullptr) return;
    source_ = unpacked_.get();
    first_ = nullptr;
  }

  at::Tensor tensor() const {
    const char* const data = source_->internal_traits().data;
    const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(data));
    std::shared_ptr<char> memory = source_->internal_memory();
    if (memory != nullptr && is_used_in_place(plan_, options_, source_->size(), address)) {
      char* const begin = memory.get() + plan_.offset;
      return tensor_over(std::move(memory), begin, plan_.type, plan_.sizes, plan_.strides);
    }
    at::Tensor out = read_tensor(bytes(), plan_, options_);
    source_->internal_finish(plan_.end);
    return out;
  }

  void fill(void* out) const {
    detail::fill(bytes(), plan_, out, options_.threads());
    source_->internal_finish(plan_.end);
  }

 private:
  ArrayBytes bytes() const { return {*source_, first_, plan_.end}; }

  void require_room(const OpenArray& array) const {
    const std::uint64_t size = array.source.size() - array.header.data_offset;
    if (size <= options_.max_bytes()) return;
    throw Error(ErrorCode::TooLarge, "a deflated array is unpacked whole, and its " +
                                         counted(size, "byte") + " are over the limit of " +
                                         std::to_string(options_.max_bytes()) + ", max_bytes()");
  }

  const LoadPlan& plan_;
  const LoadOptions& options_;
  std::shared_ptr<const ByteSource> unpacked_;
  const ByteSource* source_;
  const FirstBytes* first_;
};

/// Refuses mmap(true) for a source that is not in a file.
inline void require_file_to_map(const ByteSource& source, const LoadOptions& options) {
  if (!options.mmap()) return;
  const SourceTraits traits = source.internal_traits();
  if (traits.range.file != nullptr || traits.is_packed) return;
  throw Error(ErrorCode::InvalidArgument,
              "mmap(true) is for files: a stream, memory or another source cannot be mapped");
}

/// The tensor on the host: mapped, if the options ask for it and it is possible, or read.
inline at::Tensor load_on_host(const OpenArray& array, const LoadPlan& plan,
                               const LoadOptions& options) {
  require_file_to_map(array.source, options);
  const FileRange range = array.source.internal_traits().range;
  if (options.mmap() && can_map(plan, options, range)) {
    const auto size = static_cast<std::size_t>(plan.from.extent()) * plan.item_size();
    Mapping mapping = Mapping::of(range, plan.offset, size);
    void* const data = mapping.data();
    return tensor_over(std::move(mapping), data, plan.type, plan.sizes,
                       plan.in_one_run() ? plan.strides : plan.file_strides);
  }
  return ArrayReading(array, plan, options).tensor();
}

inline at::Tensor on_device(at::Tensor tensor, const LoadOptions& options) {
  if (options.device().is_cpu()) return tensor;
  return to_device(tensor, options.device(), /*non_blocking=*/pins_memory(options));
}

/// Calls `use` with the array of a source.
template <class Use>
auto with_array(const ByteSource& source, const LoadOptions& options, const Use& use) {
  return with_path({}, [&] {
    require_file_to_map(source, options);
    FirstBytes first;
    OpenArray array(source, first, read_header(source, options.max_header_size(), first));
    return use(array);
  });
}

/// Calls `use` with the array of a file.
template <class Use>
auto with_array(const std::filesystem::path& path, const LoadOptions& options, const Use& use) {
  return with_path(path, [&] { return with_array(File(path), options, use); });
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_READ_HPP_

// ---- torch_npy/tensor/load.hpp

#ifndef TORCH_NPY_TENSOR_LOAD_HPP_
#define TORCH_NPY_TENSOR_LOAD_HPP_

/// @file
/// Tensors from .npy files, streams and memory.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/Device.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <istream>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

inline at::Tensor load_array(OpenArray& array, const LoadOptions& options) {
  const LoadPlan plan = array.plan(options);
  return on_device(load_on_host(array, plan, options), options);
}

/// Refuses a tensor that the function `call` cannot fill.
inline void require_fillable(const at::Tensor& out, const char* call = "load_into()") {
  require_data(out, call);
  if (!is_free_of_overlap(out)) {
    throw Error(ErrorCode::InvalidArgument,
                std::string(call) + " into a tensor whose elements share memory: clone() it first");
  }
  if (out.is_inference() && !c10::InferenceMode::is_enabled()) {
    throw Error(ErrorCode::InvalidArgument,
                std::string(call) + " into an inference tensor outside InferenceMode");
  }
}

inline void load_array_into(const at::Tensor& out, OpenArray& array, const LoadOptions& options) {
  const LoadPlan plan = array.plan(options);
  if (out.sizes() != at::IntArrayRef(plan.sizes)) {
    throw Error(ErrorCode::Mismatch, "the array has shape " + python_tuple(plan.sizes) +
                                         ", the tensor to fill " + python_tuple(out.sizes().vec()));
  }
  if (out.scalar_type() != plan.type) {
    throw Error(ErrorCode::Mismatch, std::string("the array has elements of ") +
                                         c10::toString(plan.type) + ", the tensor to fill has " +
                                         c10::toString(out.scalar_type()) +
                                         (options.dtype() ? "" : "; dtype() converts"));
  }
  const at::NoGradGuard no_grad;
  const bool as_in_file = out.device().is_cpu() && !out.is_conj() && !out.is_neg() &&
                          out.strides() == at::IntArrayRef(plan.strides);
  if (!as_in_file) {
    out.copy_(load_on_host(array, plan, options), /*non_blocking=*/pins_memory(options));
    return;
  }
  out.unsafeGetTensorImpl()->bump_version();  // first: a failure may come after some writing
  ArrayReading(array, plan, options).fill(out.data_ptr());
}

}  // namespace detail

/// Loads an .npy file into a tensor with the file's dtype (see scalar_type.hpp), shape and values;
/// if the file is in Fortran order, with Fortran strides. The tensor owns its memory, unless
/// LoadOptions::mmap is set.
///
/// A small file takes an open, a read and a close; large ones are read by several threads. Peak
/// memory is the tensor plus at most 2 MiB; with dtype() that converts, or region(), up to 512 KiB
/// more for each thread. Safe from any thread.
///
/// Throws Error with any code but BadZip: NotFound, Io, Exhausted and OutOfMemory for the file or
/// the system; NotNpy, UnsupportedVersion, BadHeader and Truncated for its content;
/// UnsupportedDtype if no tensor can hold its items, or LibTorch does not convert them; TooLarge;
/// Mismatch and InvalidArgument as the options say. LibTorch's own exceptions if a device is out of
/// memory.
[[nodiscard]] inline at::Tensor load(const std::filesystem::path& path,
                                     const LoadOptions& options = {}) {
  detail::with_path(path, [&] { detail::require_device(options.device()); });
  return detail::with_array(
      path, options, [&](detail::OpenArray& array) { return detail::load_array(array, options); });
}

/// Loads the array at the position of `stream`, and leaves the stream right after it, so that
/// several can follow one another. The stream need not be seekable. Offsets in Errors count from
/// the start of the array. After an Error the stream is somewhere within the array. With
/// region() the other elements are read and discarded.
///
/// The size of a stream that cannot seek is unknown: memory for what the header declares is
/// allocated before the data arrives. max_bytes() limits it.
///
/// Throws Error: as load() of a path, without a path; Io if the stream was not opened or fails;
/// InvalidArgument for mmap(true). The stream is used by this thread alone.
[[nodiscard]] inline at::Tensor load(std::istream& stream, const LoadOptions& options = {}) {
  detail::require_device(options.device());
  return detail::with_array(detail::StreamSource(stream), options, [&](detail::OpenArray& array) {
    return detail::load_array(array, options);
  });
}

/// Loads an .npy file from memory: the array at the start of `size` bytes, which need not be
/// aligned. Bytes after the array are ignored. The data is copied, by several threads if it is
/// large. Throws Error: as load() of a path about the content of a file, without a path;
/// InvalidArgument for mmap(true). Safe from any thread.
[[nodiscard]] inline at::Tensor load_bytes(const void* data, std::size_t size,
                                           const LoadOptions& options = {}) {
  detail::require_device(options.device());
  return detail::with_array(
      detail::MemorySource(data, size), options,
      [&](detail::OpenArray& array) { return detail::load_array(array, options); });
}

/// Loads into an existing tensor, contiguous or not, on any device; directly into its memory if
/// that is on the host and in the order of the file. Shape and dtype must be those of the file, or
/// of dtype(), which converts: others are an Error (Mismatch) before anything is written. Throws
/// Error (InvalidArgument) for a tensor whose elements share memory, that is undefined, sparse,
/// nested or without data, and for an inference tensor outside InferenceMode. device() is ignored.
/// If reading fails, or a value does not fit, `out` has part of the new values. Autograd does not
/// record the change, but detects it (the version of `out` is increased).
///
/// Allocates no memory for the array if it reads directly into `out`, and otherwise that of one
/// more tensor. Throws Error, as load(). Safe from any thread, each with its own `out`.
inline void load_into(const at::Tensor& out, const std::filesystem::path& path,
                      const LoadOptions& options = {}) {
  detail::with_path(path, [&] { detail::require_fillable(out); });
  detail::with_array(path, options, [&](detail::OpenArray& array) {
    detail::load_array_into(out, array, options);
  });
}

/// Loads many files in parallel, and returns the tensors in the order of `paths`. If several files
/// fail, the Error of the first of them in `paths` is thrown. threads(0) uses at least 32 threads:
/// most of the time is spent waiting for the disk. All files are read to host memory before the
/// first tensor is copied to device(). Throws Error, as load(). Safe from any thread.
[[nodiscard]] inline std::vector<at::Tensor> load_all(
    const std::vector<std::filesystem::path>& paths, const LoadOptions& options = {}) {
  detail::require_device(options.device());
  const std::size_t threads = options.threads() != 0
                                  ? options.threads()
                                  : (std::max)(std::size_t{32}, detail::processor_count());
  // A few large files are each read by several threads.
  const std::size_t readers =
      options.threads() != 0 ? options.threads() : detail::processor_count();
  LoadOptions one = options;
  one.device(c10::kCPU).threads(
      (std::max)(readers / (std::max)(paths.size(), std::size_t{1}), std::size_t{1}));
  std::vector<at::Tensor> tensors(paths.size());
  detail::for_each_index(paths.size(), threads,
                         [&](std::size_t i) { tensors[i] = load(paths[i], one); });
  // Only this thread has the caller's current stream.
  for (at::Tensor& tensor : tensors) tensor = detail::on_device(std::move(tensor), options);
  return tensors;
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_LOAD_HPP_

// ---- torch_npy/tensor/fields.hpp

#ifndef TORCH_NPY_TENSOR_FIELDS_HPP_
#define TORCH_NPY_TENSOR_FIELDS_HPP_

/// @file
/// Structured arrays: a tensor for each field.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Storage.h>
#include <torch/ordered_dict.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

// The records of a structured array are loaded like an array of bytes: mapped, read by several
// threads, or some rows of them. A field is then a strided view of the records, or it is gathered
// from them as if they were a file.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A field without fields of its own.
struct Leaf {
  std::string name;                   ///< with those of the outer fields: `outer.inner`
  std::vector<std::size_t> groups;    ///< lengths of the parts of it that name the outer fields
  DType dtype;                        ///< of one element
  std::int64_t offset = 0;            ///< bytes from the start of the record
  std::vector<std::int64_t> sizes;    ///< of the outer sub-arrays, and of its own
  std::vector<std::int64_t> strides;  ///< of the same, in bytes
  LoadPlan plan;                      ///< as if it were an array of its own
};

/// Appends the leaves of `dtype`, in the order of the file. `around` is the field that has this
/// dtype; its name ends in a dot.
inline void append_leaves(const DType& dtype, const Leaf& around, std::vector<Leaf>& leaves) {
  for (const Field& field : dtype.fields) {
    Leaf leaf = around;
    leaf.name += field.name;
    leaf.offset += field.offset;
    leaf.sizes.insert(leaf.sizes.end(), field.shape.begin(), field.shape.end());
    for (const std::int64_t stride : dense_strides(field.shape, /*fortran_order=*/false)) {
      leaf.strides.push_back(stride * field.dtype.item_size);
    }
    if (field.dtype.is_structured()) {
      leaf.groups.push_back(leaf.name.size());
      leaf.name += '.';
      append_leaves(field.dtype, leaf, leaves);
    } else {
      leaf.dtype = field.dtype;
      leaves.push_back(std::move(leaf));
    }
  }
}

/// Throws Error (UnsupportedDtype) if a leaf is an object: the data is then one pickle of any
/// length, not the bytes of records.
inline void require_records(const std::vector<Leaf>& leaves, const LoadOptions& options) {
  for (const Leaf& leaf : leaves) {
    if (leaf.dtype.kind != 'O') continue;
    try {
      with_part("field", leaf.name, [&] { (void)stored_type(leaf.dtype, options); });
    } catch (const Error& error) {
      throw ErrorContext::with_way_out(error,
                                       "the data of an array with such a field is one pickle, so "
                                       "none of its fields can be loaded");
    }
  }
}

/// The leaves with these names, in their order. The name of a field that has fields stands for all
/// of them, unless a leaf has the same name: a field may itself have a name with dots. Throws Error
/// (NotFound, InvalidArgument).
inline std::vector<Leaf> chosen_leaves(const std::vector<Leaf>& leaves,
                                       const std::vector<std::string>& names) {
  std::unordered_map<std::string_view, std::vector<const Leaf*>> found;
  std::unordered_set<std::string_view> names_of_leaves;
  for (const Leaf& leaf : leaves) {
    found[leaf.name].push_back(&leaf);
    names_of_leaves.insert(leaf.name);
  }
  for (const Leaf& leaf : leaves) {
    for (const std::size_t length : leaf.groups) {
      const std::string_view group = std::string_view(leaf.name).substr(0, length);
      if (names_of_leaves.count(group) == 0) found[group].push_back(&leaf);
    }
  }
  std::vector<Leaf> chosen;
  std::unordered_set<const Leaf*> taken;
  for (const std::string& name : names) {
    const auto named = found.find(name);
    if (named == found.end()) {
      std::vector<std::string> there;
      for (const Leaf& leaf : leaves) there.push_back(leaf.name);
      throw Error(ErrorCode::NotFound,
                  "no field " + in_quotes(name) + "; there are " + few_names(there));
    }
    for (const Leaf* const leaf : named->second) {
      if (!taken.insert(leaf).second) {
        throw Error(ErrorCode::InvalidArgument,
                    "load_fields() is given the field " + in_quotes(leaf->name) + " twice");
      }
      chosen.push_back(*leaf);
    }
  }
  return chosen;
}

/// The leaves of `dtype` that are to be loaded: those with the names, or all without a list of
/// names. Throws Error.
inline std::vector<Leaf> leaves_of(const DType& dtype, const std::vector<std::string>* names,
                                   const LoadOptions& options) {
  std::vector<Leaf> leaves;
  append_leaves(dtype, {}, leaves);
  require_records(leaves, options);
  if (names != nullptr) leaves = chosen_leaves(leaves, *names);
  std::vector<std::string_view> found;
  for (const Leaf& leaf : leaves) found.push_back(leaf.name);
  if (const auto duplicate = first_duplicate(std::move(found))) {
    throw Error(ErrorCode::UnsupportedDtype,
                "two fields have the name " + in_quotes(*duplicate) + ", written with dots");
  }
  return leaves;
}

/// Makes the plan of a leaf for records of shape `sizes`.
inline void plan_leaf(Leaf& leaf, const std::vector<std::int64_t>& sizes, bool fortran_order,
                      const LoadOptions& options) {
  Header header;
  header.dtype = leaf.dtype;
  header.fortran_order = fortran_order;
  header.shape = sizes;
  leaf.plan = make_plan(std::move(header), options, UINT64_MAX, leaf.sizes);
  const bool is_string = leaf.plan.inner_axes > leaf.sizes.size();
  if (is_string) leaf.strides.push_back(leaf.plan.dtype.item_size);
}

/// The elements of a leaf as a source of their own: one after another in the order of the records,
/// and within each record in C order.
class LeafSource final : public ByteSource {
 public:
  /// `first` is the address of the leaf in the first record.
  LeafSource(const char* first, const Leaf& leaf, std::int64_t record_size)
      : first_(first),
        size_(leaf.plan.count * leaf.plan.item_size()),
        block_(leaf.plan.item_size()) {
    axes_.push_back({UINT64_MAX, static_cast<std::size_t>(record_size)});  // any number of records
    const std::size_t outer = leaf.plan.sizes.size() - leaf.strides.size();
    for (std::size_t i = 0; i < leaf.strides.size(); ++i) {
      axes_.push_back({static_cast<std::uint64_t>(leaf.plan.sizes[outer + i]),
                       static_cast<std::size_t>(leaf.strides[i])});
    }
    // Adjacent bytes are copied together.
    while (axes_.size() > 1 && axes_.back().stride == block_) {
      block_ *= static_cast<std::size_t>(axes_.back().length);
      axes_.pop_back();
    }
  }

  std::uint64_t size() const override { return size_; }
  std::string name() const override { return {}; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    const std::size_t total = size;
    auto* to = static_cast<char*>(out);
    std::uint64_t index = offset / block_;
    auto skip = static_cast<std::size_t>(offset % block_);
    while (size != 0) {
      const char* from = first_;
      std::uint64_t rest = index;
      for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
        from += rest % axis->length * axis->stride;
        rest /= axis->length;
      }
      // Finding a block takes divisions; the next one along the last axis takes an addition.
      const Axis& last = axes_.back();
      for (std::uint64_t i = index % last.length; i < last.length && size != 0; ++i, ++index) {
        const std::size_t part = (std::min)(size, block_ - skip);
        std::memcpy(to, from + skip, part);
        to += part;
        size -= part;
        from += last.stride;
        skip = 0;
      }
    }
    return total;
  }

 private:
  struct Axis {
    std::uint64_t length;
    std::size_t stride;  // in bytes
  };

  const char* first_;
  std::uint64_t size_;
  std::size_t block_;  // bytes
  std::vector<Axis> axes_;
};

/// The tensor of one leaf. `records` are bytes, those of one record along the last axis, dense in
/// the order of the file. A view if the elements can be used as they are and strides, which count
/// elements, can express their positions; otherwise a copy.
inline at::Tensor leaf_of(const at::Tensor& records, const Leaf& leaf, const LoadOptions& options) {
  const LoadPlan& plan = leaf.plan;
  if (plan.count == 0) {
    return empty_host(0, plan.type, plan.sizes, plan.strides, pins_memory(options));
  }
  char* const first = static_cast<char*>(records.data_ptr()) + leaf.offset;
  const auto item = plan.item_size();
  bool is_view = !plan.converts() && !plan.dtype.is_swapped() &&
                 reinterpret_cast<std::uintptr_t>(first) % plan.alignment() == 0;
  std::vector<std::int64_t> strides =
      records.strides().slice(0, plan.sizes.size() - leaf.strides.size()).vec();
  strides.insert(strides.end(), leaf.strides.begin(), leaf.strides.end());
  for (std::size_t i = 0; i < strides.size(); ++i) {
    is_view = is_view && static_cast<std::size_t>(strides[i]) % item == 0;
    strides[i] /= static_cast<std::int64_t>(item);
  }
  // Its storage starts at its first element: the offset from the first record need not be a whole
  // number of elements.
  if (is_view) {
    return tensor_over(c10::Storage(records.storage()), first, plan.type, plan.sizes, strides);
  }
  const LeafSource source(first, leaf, records.size(-1));
  return read_tensor(ArrayBytes(source, nullptr, plan.end), plan, options);
}

/// Throws Error (TooLarge) if the tensors of the leaves have more than max_bytes() together.
inline void require_bytes(const std::vector<Leaf>& leaves, const LoadOptions& options) {
  std::uint64_t bytes = 0;  // no overflow: each field has at most 16 times the bytes of the file
  for (const Leaf& leaf : leaves) bytes += leaf.plan.bytes;
  if (bytes <= options.max_bytes()) return;
  throw Error(ErrorCode::TooLarge, "the tensors of the fields have " + counted(bytes, "byte") +
                                       ", which is over the limit of " +
                                       std::to_string(options.max_bytes()) + ", max_bytes()");
}

/// One tensor for each field of a structured array, or for those with the names if there is a list.
/// The records are loaded once everything else is known to be valid. `skipped` receives the Errors
/// of fields that the options skip.
inline torch::OrderedDict<std::string, at::Tensor> load_fields_of(
    OpenArray& array, const std::vector<std::string>* names, const LoadOptions& options,
    std::vector<Error>& skipped) {
  Header& header = array.header;
  if (!header.dtype.is_structured()) {
    throw Error(ErrorCode::Mismatch,
                "load_fields() is for structured dtypes, the array has dtype " +
                    descr_literal(header.dtype));
  }
  const DType dtype = std::exchange(header.dtype, *parse_type_string("|u1"));
  std::vector<Leaf> leaves = leaves_of(dtype, names, options);
  const bool fortran_order = header.fortran_order;
  LoadOptions as_bytes = options;
  as_bytes.device(c10::kCPU).dtype(std::nullopt);
  as_bytes.squeeze(std::nullopt).fill_value(0);
  const LoadPlan plan = array.plan(as_bytes, {dtype.item_size});
  if (plan.is_padded()) {
    throw Error(ErrorCode::InvalidArgument,
                "load_fields() cannot fill what is outside of the array: use OutOfBounds::Throw or "
                "OutOfBounds::Shift");
  }
  if (!plan.in_one_run()) as_bytes.mmap(false);  // fields are gathered from dense records
  const std::vector<std::int64_t> sizes(plan.sizes.begin(), plan.sizes.end() - 1);
  LoadOptions of_field = options;
  of_field.region({}).squeeze(std::nullopt);  // of the records, and of the tensor of the field
  Unreadable unreadable(leaves.size(), options, [&] { return way_to_the_rest(names != nullptr); });
  const auto about = [&](std::size_t i, const auto& work) {
    unreadable.load(i, [&] { with_part("field", leaves[i].name, work); });
  };
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    about(i, [&] { plan_leaf(leaves[i], sizes, fortran_order, of_field); });
  }
  require_bytes(leaves, options);

  const at::Tensor records = load_on_host(array, plan, as_bytes);
  torch::OrderedDict<std::string, at::Tensor> fields("Field");
  fields.reserve(leaves.size());
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    about(i, [&] {
      at::Tensor field = leaf_of(records, leaves[i], of_field);
      if (const auto axis = options.squeeze()) {
        field = field.squeeze(static_cast<std::int64_t>(squeezed_axis(field.sizes(), *axis)));
      }
      // Not asynchronously: pinned memory is kept until a copy from it is finished only if the copy
      // starts at the beginning of the memory.
      if (!options.device().is_cpu()) field = to_device(field, options.device());
      fields.insert(leaves[i].name, std::move(field));
    });
  }
  skipped = unreadable.skipped();
  return fields;
}

/// load_fields() of a file; `names` may be null.
inline torch::OrderedDict<std::string, at::Tensor> load_fields_of(
    const std::filesystem::path& path, const std::vector<std::string>* names,
    const LoadOptions& options) {
  with_path(path, [&] { require_device(options.device()); });
  std::vector<Error> skipped;
  auto fields = with_array(path, options, [&](OpenArray& array) {
    return load_fields_of(array, names, options, skipped);
  });
  report_skipped(skipped, options, path, {});
  return fields;
}

}  // namespace detail

/// Loads a structured .npy file: a tensor for each field, under its name and in the order of the
/// file. A field of a field has a name with a dot, `pos.x`. The shape of a tensor is the shape of
/// the array, then the axes of sub-arrays, outer ones first, then with strings_as_codes() the axis
/// of the characters, or with raw_bytes() that of the bytes. dtypes are those of load(). dtype(),
/// unsigned_as(), void_as(), squeeze() and device() apply to every field. Padding is skipped.
///
/// The records are read (or mapped, unless they are a region that is not contiguous) once, as they
/// are. A field is a strided view of them if it is in native byte order, its elements are aligned,
/// and their size divides all strides. Any other field is a copy in the order of the array. A view
/// keeps all records in memory; clone(MemoryFormat::Contiguous) makes an independent tensor. Peak
/// memory is that of the records and the copies. Fields are copied to a device one after another,
/// synchronously.
///
/// Safe from any thread. Throws Error, as load(), with the name of the field: Mismatch for an array
/// without fields; InvalidArgument for a region that OutOfBounds::Fill would have to fill;
/// UnsupportedDtype if a field cannot be loaded, unless on_unreadable() skips it, if two fields
/// have the same name when it is written with dots, or if any field holds objects: the data is then
/// one pickle.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_fields(
    const std::filesystem::path& path, const LoadOptions& options = {}) {
  return detail::load_fields_of(path, nullptr, options);
}

/// The same for the fields with these names, in the order of the names: `load_fields(path, {"id",
/// "pos.x"})`. The name of a field that has fields, `pos`, stands for all of them. The other fields
/// are not converted, and need not have a dtype that a tensor holds. Throws Error, as above;
/// NotFound if there is no such field; InvalidArgument for a field that is named twice.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_fields(
    const std::filesystem::path& path, const std::vector<std::string>& names,
    const LoadOptions& options = {}) {
  return detail::load_fields_of(path, &names, options);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_FIELDS_HPP_

// ---- torch_npy/tensor/stored_array.hpp

#ifndef TORCH_NPY_TENSOR_STORED_ARRAY_HPP_
#define TORCH_NPY_TENSOR_STORED_ARRAY_HPP_

/// @file
/// StoredArray: an array whose header has been read, wherever it is stored.

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <cstddef>
#include <filesystem>
#include <istream>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// An array of which only the header has been read: in a file, a member of an archive, memory, a
/// stream, or any other ByteSource. Made by open() and NpzFile::array(). It keeps open what it
/// reads from, so it may outlive the NpzFile, and reads the old content if the file is replaced. If
/// the file is changed in place (another size or time of modification), loading throws Error (Io).
/// Copies share it and cost a copy of the header.
///
/// Safe from any thread, except for an array in a stream, which can be loaded once. Errors have the
/// path of the file, and name the member of an archive.
class StoredArray {
 public:
  // Never moved: a moved-from one could not load.

  /// Shares what the other one reads from.
  StoredArray(const StoredArray&) = default;
  /// As the copy constructor.
  StoredArray& operator=(const StoredArray&) = default;

  /// dtype, shape and order of the array. data_offset counts from the start of the array.
  const Header& header() const& noexcept { return header_; }
  /// The same for a temporary.
  Header header() && { return std::move(header_); }
  /// Its dtype in the file.
  const DType& dtype() const& noexcept { return header_.dtype; }
  /// The same for a temporary.
  DType dtype() && { return std::move(header_.dtype); }
  /// Its shape in the file; empty for a 0-d array.
  const std::vector<std::int64_t>& shape() const& noexcept { return header_.shape; }
  /// The same for a temporary.
  std::vector<std::int64_t> shape() && { return std::move(header_.shape); }

  /// What it was opened from, in UTF-8: a path, and after a slash the member of an archive
  /// ("medmnist.npz/train_images.npy"). Empty for memory and streams.
  std::string name() const { return with_member(path_.generic_string()); }
  /// The same without the folder of the file. @private
  std::string internal_short_name() const { return with_member(path_.filename().generic_string()); }

  /// Loads the array, as load() of a path does. Throws Error, as load(), and BadZip for a damaged
  /// member of an archive; InvalidArgument for mmap(true) if the array is neither in a file nor
  /// deflated, and for an array in a stream that has been loaded before.
  [[nodiscard]] at::Tensor load(const LoadOptions& options = {}) const {
    return internal_with_array([&](detail::OpenArray& array) {
      detail::require_device(options.device());
      detail::require_file_to_map(array.source, options);
      return detail::load_array(array, options);
    });
  }

  /// Loads the array into an existing tensor, as load_into() of a path does.
  void load_into(const at::Tensor& out, const LoadOptions& options = {}) const {
    internal_with_array([&](detail::OpenArray& array) {
      detail::require_fillable(out);
      detail::require_file_to_map(array.source, options);
      detail::load_array_into(out, array, options);
    });
  }

  /// Loads a structured array: a tensor for each field, as load_fields() of a path does.
  [[nodiscard]] torch::OrderedDict<std::string, at::Tensor> load_fields(
      const LoadOptions& options = {}) const {
    return fields_of(nullptr, options);
  }

  /// The same for the fields with these names, in the order of the names.
  [[nodiscard]] torch::OrderedDict<std::string, at::Tensor> load_fields(
      const std::vector<std::string>& fields, const LoadOptions& options = {}) const {
    return fields_of(&fields, options);
  }

  /// Whether load() with these options and mmap(true) maps the array. If not, load() reads it, or
  /// throws Error (InvalidArgument) if it is not in a file. Throws Error: as load() does before it
  /// reads.
  bool can_map(const LoadOptions& options = {}) const {
    return internal_with_array([&](detail::OpenArray& array) {
      const detail::LoadPlan plan = array.plan(options);
      return detail::can_map(plan, options, array.source.internal_traits().range);
    });
  }

  // Used by the datasets.

  /// Calls `work`, and adds path and member to an Error without a path. @private
  template <class Work>
  auto internal_about(const Work& work) const -> decltype(work()) {
    return detail::with_path(path_, [&] {
      return member_.empty() ? work() : detail::with_part("member", member_, work);
    });
  }

  /// Calls `use` with the open array. @private
  template <class Use>
  auto internal_with_array(const Use& use) const
      -> decltype(use(std::declval<detail::OpenArray&>())) {
    return internal_about([&] {
      if (source_->version() != version_) {
        throw Error(ErrorCode::Io, "it has changed since open(): open it again");
      }
      detail::OpenArray array(*source_, *first_, header_);
      return use(array);
    });
  }

 private:
  friend class NpzFile;
  friend StoredArray open(const std::filesystem::path&, const LoadOptions&);
  friend StoredArray open(std::shared_ptr<const ByteSource>, const LoadOptions&);

  /// `member` is the name of a member of an archive; else empty.
  StoredArray(std::shared_ptr<const ByteSource> source, std::filesystem::path path,
              std::string member, const LoadOptions& options)
      : source_(std::move(source)), path_(std::move(path)), member_(std::move(member)) {
    const auto first = std::make_shared<detail::FirstBytes>();
    internal_about([&] {
      version_ = source_->version();
      header_ = detail::read_header(*source_, options.max_header_size(), *first);
    });
    first_ = first;
  }

  std::string with_member(std::string path) const {
    return member_.empty() || path.empty() ? path + member_ : path + '/' + member_;
  }

  torch::OrderedDict<std::string, at::Tensor> fields_of(const std::vector<std::string>* fields,
                                                        const LoadOptions& options) const {
    std::vector<Error> skipped;
    auto loaded = internal_with_array([&](detail::OpenArray& array) {
      detail::require_device(options.device());
      return detail::load_fields_of(array, fields, options, skipped);
    });
    detail::report_skipped(skipped, options, path_, member_);
    return loaded;
  }

  std::shared_ptr<const ByteSource> source_;
  std::shared_ptr<const detail::FirstBytes> first_;
  std::filesystem::path path_;
  std::string member_;
  std::string version_;
  Header header_;
};

/// Opens an .npy file and reads its header. Of the options only max_header_size() is used. The file
/// stays open as long as the StoredArray or a copy exists. Throws Error: what read_header() throws.
/// Safe from any thread.
[[nodiscard]] inline StoredArray open(const std::filesystem::path& path,
                                      const LoadOptions& options = {}) {
  auto file =
      detail::with_path(path, [&] { return std::make_shared<const detail::NamedFile>(path); });
  return StoredArray(std::move(file), path, {}, options);
}

/// The same for an array in any source. Errors have source->name() as their path. Throws Error:
/// InvalidArgument for a null pointer, what parse_header() throws, and what the source throws.
[[nodiscard]] inline StoredArray open(std::shared_ptr<const ByteSource> source,
                                      const LoadOptions& options = {}) {
  if (source == nullptr)
    throw Error(ErrorCode::InvalidArgument, "open(): the pointer to the ByteSource is null");
  std::filesystem::path path = detail::path_of(source->name());
  return StoredArray(std::move(source), std::move(path), {}, options);
}

/// The same for the array at the position of a stream, which has to outlive the StoredArray. It can
/// be loaded once, which leaves the stream right after the array; nobody else may use the stream
/// before that. Throws Error: what parse_header() throws, and Io if the stream fails.
[[nodiscard]] inline StoredArray open(std::istream& stream, const LoadOptions& options = {}) {
  return open(std::make_shared<const detail::StreamSource>(stream), options);
}

/// The same for the array at the start of `size` bytes of memory, which are not copied and have to
/// outlive the StoredArray. A tensor that load_into() fills must not overlap them. Throws Error:
/// what parse_header() throws.
[[nodiscard]] inline StoredArray open_bytes(const void* data, std::size_t size,
                                            const LoadOptions& options = {}) {
  return open(std::make_shared<const detail::MemorySource>(data, size), options);
}

/// Memory is opened by open_bytes(): a char pointer is a path for open().
template <class Size, std::enable_if_t<std::is_integral_v<Size>, int> = 0>
StoredArray open(const void* data, Size size) = delete;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_STORED_ARRAY_HPP_

// ---- torch_npy/tensor/npz.hpp

#ifndef TORCH_NPY_TENSOR_NPZ_HPP_
#define TORCH_NPY_TENSOR_NPZ_HPP_

/// @file
/// Reads archives of arrays, .npz.

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

class NpzFile;

namespace detail {

/// Bytes that several tensors may have together. Safe from any thread.
class Budget {
 public:
  explicit Budget(std::uint64_t bytes) : left_(bytes) {}

  /// Throws Error (TooLarge) if fewer are left.
  void take(std::uint64_t bytes) {
    std::uint64_t left = left_;
    do {
      if (bytes > left) {
        throw Error(ErrorCode::TooLarge,
                    "with its " + counted(bytes, "byte") +
                        " the arrays of the archive are over the limit for all of them together, "
                        "max_bytes()");
      }
    } while (!left_.compare_exchange_weak(left, left - bytes));
  }

 private:
  std::atomic<std::uint64_t> left_;
};

inline torch::OrderedDict<std::string, at::Tensor> load_arrays(const NpzFile&,
                                                               const std::vector<std::string>*,
                                                               const LoadOptions&);

}  // namespace detail

/// An .npz archive, as np.savez and np.savez_compressed write it, open for reading. Its directory
/// is read once; after that only what is asked for is read. An archive of at most 128 KiB is read
/// whole, with one read, and stays in memory. Safe from any thread. Other programs may replace the
/// file meanwhile: the old one is read. Throws Error with the path of the archive
/// and the name of the member, and LibTorch's own exceptions if a device is out of memory.
///
/// Deflated arrays need libdeflate: link torch_npy::npz, or define TORCH_NPY_WITH_LIBDEFLATE and
/// link libdeflate. Without it, loading one throws Error (InvalidArgument).
class NpzFile {
 public:
  /// Reads the directory, n members in O(n log n), and the first bytes of each member whose name
  /// does not end in ".npy". Throws Error: NotFound, Io, Exhausted, OutOfMemory, NotNpy (not an
  /// archive), Truncated (an empty file), BadZip (an archive that is damaged or contradicts itself:
  /// overlapping members, two members of one name, names that lead out of a folder).
  explicit NpzFile(const std::filesystem::path& path)
      : NpzFile(path, detail::with_path(
                          path, [&] { return std::make_shared<const detail::NamedFile>(path); })) {}

  /// An archive in any source. Errors have source->name() as their path. Throws Error:
  /// InvalidArgument for a null pointer, what the first constructor throws, and what the source
  /// throws.
  explicit NpzFile(std::shared_ptr<const ByteSource> source)
      : NpzFile(source == nullptr ? std::filesystem::path() : detail::path_of(source->name()),
                source) {}

  /// An archive of `size` bytes in memory, which are not copied and have to outlive the NpzFile and
  /// its StoredArrays. Errors have no path. Throws Error: InvalidArgument for a null pointer, and
  /// what the first constructor throws about the content of a file.
  NpzFile(const void* data, std::size_t size)
      : NpzFile(std::filesystem::path(), detail::with_path({}, [&] {
                  return std::make_shared<const detail::MemorySource>(data, size);
                })) {}

  /// A path in quotes is no archive in memory.
  template <std::size_t N>
  NpzFile(const char (&path)[N], std::size_t) = delete;

  /// The archive between the position of a stream and its end. The stream is read to its end, into
  /// memory: the directory of an archive is at its end. More than `max_bytes` bytes throw Error
  /// (TooLarge). Also throws Error: Io if the stream fails, OutOfMemory, and what the first
  /// constructor throws about the content of a file.
  explicit NpzFile(std::istream& stream, std::uint64_t max_bytes = UINT64_MAX)
      : NpzFile(std::filesystem::path(),
                detail::with_path({}, [&] { return detail::read_to_end(stream, max_bytes); })) {}

  /// Names of the arrays in the order of the archive, without ".npy". A member is not an array if
  /// its name does not end in ".npy" and its content does not start like an .npy file.
  const std::vector<std::string>& names() const& noexcept { return arrays_.names(); }
  /// The same for a temporary.
  std::vector<std::string> names() && { return std::move(arrays_.names()); }

  /// Whether there is an array of this name, with or without ".npy" at its end. Reads nothing.
  bool contains(const std::string& name) const { return arrays_.find(name) != nullptr; }

  /// Whether an array is deflated; otherwise it is stored as it is. Throws Error (NotFound).
  bool is_deflated(const std::string& name) const { return at(name).method == detail::kDeflated; }

  /// Opens one array, by its name with or without ".npy", and reads its header: at most 16 KiB of
  /// the file, and 160 KiB of a deflated array, unless the header is longer. The StoredArray keeps
  /// the archive open. Throws Error: NotFound, Io, BadZip, InvalidArgument (deflated, and no
  /// libdeflate), and what parse_header() throws.
  [[nodiscard]] StoredArray array(const std::string& name, const LoadOptions& options = {}) const {
    const detail::ZipMember& member = at(name);
    return StoredArray(about(member, [&] { return detail::source_of(arrays_.archive(), member); }),
                       path_, member.name, options);
  }

  /// array(name), as the NpzFile of np.load has it.
  [[nodiscard]] StoredArray operator[](const std::string& name) const { return array(name); }

  /// The header of an array, as array(name).header(). At most max_header_size characters.
  Header header(const std::string& name, std::uint64_t max_header_size = kMaxHeaderSize) const {
    return array(name, LoadOptions().max_header_size(max_header_size)).header();
  }

  /// Loads one array, by its name with or without ".npy". The CRC of an array that is read whole is
  /// checked; with region() or a mapping it is not read whole.
  ///
  /// With mmap(true) a stored array is mapped in place, which np.load cannot do. It is read instead
  /// if it is deflated, if it does not start at a multiple of its dtype's size, which save_npz()
  /// ensures and NumPy does not, and if load() of a path would read it, too:
  /// `array(name).can_map(options)` tells.
  ///
  /// A deflated array is unpacked whole, also for a region(). That takes the memory of its packed
  /// bytes in addition to the tensor, and of its unpacked bytes if the tensor cannot use them as
  /// they are. max_bytes() limits both. Throws Error: NotFound, BadZip, and what load() throws.
  [[nodiscard]] at::Tensor load(const std::string& name, const LoadOptions& options = {}) const {
    return with_array(at(name), options,
                      [&](detail::OpenArray& array) { return detail::load_array(array, options); });
  }

  /// Loads a structured array: a tensor for each field, as load_fields() of a path does. Throws
  /// Error: NotFound, BadZip, and what load_fields() throws.
  [[nodiscard]] torch::OrderedDict<std::string, at::Tensor> load_fields(
      const std::string& name, const LoadOptions& options = {}) const {
    return fields_of(name, nullptr, options);
  }

  /// The same for the fields with these names, in the order of the names.
  [[nodiscard]] torch::OrderedDict<std::string, at::Tensor> load_fields(
      const std::string& name, const std::vector<std::string>& fields,
      const LoadOptions& options = {}) const {
    return fields_of(name, &fields, options);
  }

  /// Whether load() of this array with these options and mmap(true) maps it, as
  /// StoredArray::can_map(). Reads its header. Throws Error: what array() and can_map() throw.
  bool can_map(const std::string& name, const LoadOptions& options = {}) const {
    return array(name, options).can_map(options);
  }

  /// Calls `work`, and adds the path of the archive to an Error without one. @private
  template <class Work>
  auto internal_about(const Work& work) const -> decltype(work()) {
    return detail::with_path(path_, work);
  }

 private:
  friend torch::OrderedDict<std::string, at::Tensor> detail::load_arrays(
      const NpzFile&, const std::vector<std::string>*, const LoadOptions&);

  NpzFile(const std::filesystem::path& path, const std::shared_ptr<const ByteSource>& source)
      : path_(path), arrays_(detail::with_path(path, [&] {
          if (source == nullptr) {
            throw Error(ErrorCode::InvalidArgument,
                        "NpzFile: the pointer to the ByteSource is null");
          }
          return detail::ArrayMembers(detail::open_archive(source));
        })) {}

  template <class Work>
  auto about(const detail::ZipMember& member, const Work& work) const -> decltype(work()) {
    return detail::with_path(path_, [&] { return detail::with_part("member", member.name, work); });
  }

  /// Calls `use` with the array in a member.
  template <class Use>
  auto with_array(const detail::ZipMember& member, const LoadOptions& options, const Use& use) const
      -> decltype(use(std::declval<detail::OpenArray&>())) {
    return about(member, [&] {
      detail::require_device(options.device());
      return detail::with_member(arrays_.archive(), member, [&](const ByteSource& source) {
        return detail::with_array(source, options, use);
      });
    });
  }

  torch::OrderedDict<std::string, at::Tensor> fields_of(const std::string& name,
                                                        const std::vector<std::string>* fields,
                                                        const LoadOptions& options) const {
    const detail::ZipMember& member = at(name);
    std::vector<Error> skipped;
    auto loaded = with_array(member, options, [&](detail::OpenArray& array) {
      return detail::load_fields_of(array, fields, options, skipped);
    });
    detail::report_skipped(skipped, options, path_, member.name);
    return loaded;
  }

  const detail::ZipMember& at(const std::string& name) const {
    return detail::with_path(path_, [&]() -> const detail::ZipMember& { return arrays_.at(name); });
  }

  std::filesystem::path path_;
  detail::ArrayMembers arrays_;
};

namespace detail {

/// The members with these names. Throws Error: NotFound, and InvalidArgument for a member that is
/// named twice.
inline std::vector<const ZipMember*> members_named(const ArrayMembers& arrays,
                                                   const std::vector<std::string>& names) {
  std::vector<const ZipMember*> members;
  std::unordered_set<const ZipMember*> taken;
  for (const std::string& name : names) {
    members.push_back(&arrays.at(name));
    if (taken.insert(members.back()).second) continue;
    throw Error(ErrorCode::InvalidArgument,
                "load_npz() is given the array " + in_quotes(name) + " twice");
  }
  return members;
}

/// For an Error about one of `count` arrays: how to load the archive, or the others. Empty if there
/// are none.
inline const char* way_to_the_rest(const NpzFile& file, const std::vector<std::string>* chosen,
                                   std::size_t count) {
  const bool is_sparse = file.contains("format") && file.contains("shape") && file.contains("data");
  if (chosen == nullptr && is_sparse) {
    return "load_sparse() loads the matrix of an archive of scipy.sparse.save_npz()";
  }
  return count == 1 ? "" : way_to_the_rest(chosen != nullptr);
}

/// load_npz() of the arrays with these names, or of all if there is no list.
inline torch::OrderedDict<std::string, at::Tensor> load_arrays(
    const NpzFile& file, const std::vector<std::string>* chosen, const LoadOptions& options) {
  const std::vector<std::string>& names = chosen != nullptr ? *chosen : file.names();
  const auto members = with_path(file.path_, [&] {
    require_device(options.device());
    if (chosen != nullptr) return members_named(file.arrays_, *chosen);
    file.arrays_.require_arrays();
    return file.arrays_.members();
  });
  const std::size_t count = names.size();
  const std::size_t threads = options.threads() != 0 ? options.threads() : processor_count();
  LoadOptions one = options;
  one.threads((std::max)(threads / (std::max)(count, std::size_t{1}), std::size_t{1}));
  std::vector<at::Tensor> tensors(count);
  Budget budget(options.max_bytes());
  Unreadable unreadable(count, options, [&] { return way_to_the_rest(file, chosen, count); });
  for_each_index(count, threads, [&](std::size_t i) {
    unreadable.load(i, [&] {
      tensors[i] = file.with_array(*members[i], one, [&](OpenArray& array) {
        const LoadPlan plan = array.plan(one);
        budget.take(memory_to_load(array, plan, one));
        return load_on_host(array, plan, one);
      });
    });
  });
  report_skipped(unreadable.skipped(), options, file.path_, {});
  torch::OrderedDict<std::string, at::Tensor> arrays("array");
  arrays.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (unreadable.is_skipped(i)) continue;
    arrays.insert(names[i], on_device(std::move(tensors[i]), options));
  }
  return arrays;
}

}  // namespace detail

/// Loads the arrays with these names, with or without ".npy" at their end, several at a time, in
/// the order of the names and under these names: `load_npz(file, {"a", "b"})`. The other arrays are
/// not looked at. threads(0) uses as many threads as there are processors. region() is that of each
/// array: one that has fewer axes or is too short throws Error (InvalidArgument), which names it.
/// max_bytes() limits all arrays together. If several arrays cannot be loaded, the Error of the
/// first of them is thrown; on_unreadable() skips them instead. Throws Error: InvalidArgument for
/// an array that is named twice, and what NpzFile::load() throws. Safe from any thread.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const NpzFile& file, const std::vector<std::string>& names, const LoadOptions& options = {}) {
  return detail::load_arrays(file, &names, options);
}

/// Loads all arrays of an archive, in its order. Members that are not arrays are skipped. Throws
/// Error as above, and NotNpy if there are members, and none is an array.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const NpzFile& file, const LoadOptions& options = {}) {
  return detail::load_arrays(file, nullptr, options);
}

/// Loads the arrays of an .npz file with these names. Throws Error: what NpzFile throws, and as
/// above.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const std::filesystem::path& path, const std::vector<std::string>& names,
    const LoadOptions& options = {}) {
  return load_npz(NpzFile(path), names, options);
}

/// Loads all arrays of an .npz file: `load_npz(NpzFile(path), options)`.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const std::filesystem::path& path, const LoadOptions& options = {}) {
  return load_npz(NpzFile(path), options);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_NPZ_HPP_

// ---- torch_npy/tensor/save_npz.hpp

#ifndef TORCH_NPY_TENSOR_SAVE_NPZ_HPP_
#define TORCH_NPY_TENSOR_SAVE_NPZ_HPP_

/// @file
/// Saves tensors as archives of arrays, .npz.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/ordered_dict.h>

#include <cstddef>
#include <filesystem>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// An array packed as a member of an archive.
struct PackedArray {
  ZipMember member;
  std::string front;  ///< the header, or the whole array deflated
  at::Tensor data;    ///< the data if it is stored

  void add_to(ZipWriter& zip) const {
    if (!data.defined()) return zip.add(member, {front});
    zip.add(member, {front, {static_cast<const char*>(data.data_ptr()), data.nbytes()}});
  }
};

inline PackedArray pack(const std::string& name, Saved array, bool compressed) {
  if (const std::string fault = fault_of_member(name); !fault.empty()) {
    throw Error(ErrorCode::InvalidArgument,
                "not a valid name for a member of an archive: " + fault);
  }
  const ZipCodec& codec = *zip_codec().load();
  const std::size_t size = array.data.nbytes();
  PackedArray packed;
  packed.member.name = name;
  packed.member.size = packed.member.packed = array.header.size() + size;
  packed.member.crc = codec.crc32(0, array.header.data(), array.header.size());
  packed.member.crc = codec.crc32(packed.member.crc, array.data.data_ptr(), size);
  if (compressed) {
    std::string whole;  // libdeflate takes contiguous input
    whole.reserve(array.header.size() + size);
    whole.append(array.header).append(static_cast<const char*>(array.data.data_ptr()), size);
    packed.front = codec.deflate(whole.data(), whole.size());
    if (!packed.front.empty()) {
      packed.member.method = kDeflated;
      packed.member.packed = packed.front.size();
      return packed;
    }
  }
  packed.front = std::move(array.header);
  packed.data = std::move(array.data);
  return packed;
}

inline PackedArray pack(const std::string& name, const at::Tensor& tensor, bool compressed) {
  return pack(name, Saved(tensor), compressed);
}

/// Throws Error (InvalidArgument) for two arrays of one name, and for compressed() without a codec.
inline void require_writable(const torch::OrderedDict<std::string, at::Tensor>& arrays,
                             const SaveNpzOptions& options) {
  if (options.compressed() && zip_codec().load()->deflate == nullptr) throw_no_deflate();
  // An OrderedDict made from an initializer list does not check for duplicates.
  std::vector<std::string_view> names;
  for (const auto& array : arrays) names.push_back(array.key());
  if (const auto duplicate = first_duplicate(std::move(names))) {
    throw Error(ErrorCode::InvalidArgument, "two arrays have the name " + shown(*duplicate));
  }
}

/// The end of the arrays from `first` on that are packed at the same time: one for each processor,
/// and small ones up to some total size.
inline std::size_t end_of_round(const torch::OrderedDict<std::string, at::Tensor>& arrays,
                                std::size_t first, std::size_t processors) {
  constexpr std::size_t kSmall = std::size_t{32} << 20;
  std::size_t end = first;
  for (std::size_t bytes = 0;
       end < arrays.size() && (end < first + processors || (processors > 1 && bytes < kSmall));
       ++end) {
    const at::Tensor& tensor = arrays[end].value();
    if (!tensor.defined() || tensor.is_nested()) continue;
    bytes += static_cast<std::size_t>(tensor.numel()) * c10::elementSize(tensor.scalar_type());
  }
  return end;
}

/// Adds arrays to an archive, in their order.
inline void add_arrays(ZipWriter& zip, const torch::OrderedDict<std::string, at::Tensor>& arrays,
                       const SaveNpzOptions& options) {
  const std::size_t processors = options.compressed() ? processor_count() : 1;
  for (std::size_t first = 0; first < arrays.size();) {
    std::vector<PackedArray> packed(end_of_round(arrays, first, processors) - first);
    for_each_index(packed.size(), processors, [&](std::size_t i) {
      const auto& array = arrays[first + i];
      with_part("array", array.key(), [&] {
        packed[i] = pack(array.key() + std::string(kEnding), array.value(), options.compressed());
      });
    });
    for (const PackedArray& array : packed) array.add_to(zip);
    first += packed.size();
  }
}

}  // namespace detail

/// Saves arrays as np.savez does, each as the member `<name>.npy`, for NumPy and any program that
/// reads zip archives. zip64 is used only if a size or offset exceeds 4 GiB. A stored array starts
/// at a multiple of 64 bytes, so it can be mapped. Takes the tensors that save() takes. The file is
/// written whole or not at all, as by save(). Equal arrays give equal files. compressed() deflates
/// as many arrays at a time as there are processors, and uses up to twice their memory. Throws
/// Error: what save() throws; InvalidArgument for a name that is not UTF-8 or not valid for a
/// member, for two arrays of one name, and for compressed() without libdeflate. Safe from any
/// thread.
inline void save_npz(const std::filesystem::path& path,
                     const torch::OrderedDict<std::string, at::Tensor>& arrays,
                     const SaveNpzOptions& options = {}) {
  detail::with_path(path, [&] {
    detail::require_writable(arrays, options);
    detail::AtomicFile file(path, options.sync());
    detail::ZipWriter zip(file);
    detail::add_arrays(zip, arrays, options);
    zip.finish();
    file.commit();
  });
}

/// Writes the same bytes to a stream, which need not be seekable; sync() has no effect here. Throws
/// Error: Io if the stream accepts fewer bytes, and as above. A failure to write what the stream
/// has buffered shows only when the stream is flushed. Use a stream from one thread at a time.
inline void save_npz(std::ostream& stream,
                     const torch::OrderedDict<std::string, at::Tensor>& arrays,
                     const SaveNpzOptions& options = {}) {
  detail::with_path({}, [&] {
    detail::require_writable(arrays, options);
    detail::StreamSink sink(stream);
    detail::ZipWriter zip(sink);
    detail::add_arrays(zip, arrays, options);
    zip.finish();
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SAVE_NPZ_HPP_

// ---- torch_npy/tensor/module.hpp

#ifndef TORCH_NPY_TENSOR_MODULE_HPP_
#define TORCH_NPY_TENSOR_MODULE_HPP_

/// @file
/// The parameters and buffers of modules in .npz archives, with the names of Python's state_dict().

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <torch/ordered_dict.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// The names that only one of a module and an archive has, as load_state_dict() of PyTorch returns
/// them.
struct IncompatibleKeys {
  std::vector<std::string> missing_keys;     ///< of the module, in its order
  std::vector<std::string> unexpected_keys;  ///< of the archive, in its order
};

namespace detail {

using NamedTensors = torch::OrderedDict<std::string, at::Tensor>;

/// Adds the parameters and buffers of a module and of its submodules in the order of state_dict().
template <class Module>
void add_state(const Module& module, const std::string& prefix, NamedTensors& state) {
  static_assert(std::is_same_v<decltype(module.named_buffers(false)), NamedTensors>,
                "save_parameters() and load_parameters() take a torch::nn::Module, a module holder "
                "or a pointer to a module; they do not take a torch::jit::Module");
  const auto add = [&](const NamedTensors& tensors) {
    for (const auto& tensor : tensors) {
      const std::string name = prefix + tensor.key();
      if (state.contains(name)) {
        throw Error(ErrorCode::InvalidArgument,
                    "a parameter and a buffer of the module have the name " + in_quotes(name));
      }
      state.insert(name, tensor.value());
    }
  };
  add(module.named_parameters(/*recurse=*/false));
  add(module.named_buffers(/*recurse=*/false));
  for (const auto& child : module.named_children()) {
    add_state(*child.value(), prefix + child.key() + '.', state);
  }
}

/// The module in a holder or behind a pointer. Throws Error (InvalidArgument) if there is none.
template <class Pointer>
auto module_of(const Pointer& module, int) -> decltype(*module) {
  if (!module) throw Error(ErrorCode::InvalidArgument, "the pointer to the module is null");
  return *module;
}
template <class Module>
const Module& module_of(const Module& module, long) {
  return module;
}

template <class Module>
NamedTensors state_of(const Module& module) {
  NamedTensors state("parameter or buffer");
  add_state(module_of(module, 0), "", state);
  return state;
}

/// A tensor of a module, and the array that it gets.
struct NewValue {
  const std::string& name;
  const at::Tensor& tensor;
  at::Tensor array = {};
};

/// bfloat16, as save_parameters() and ml_dtypes store it.
inline bool is_bfloat16(const DType& dtype) { return is_raw(dtype) && dtype.item_size == 2; }

/// Whether an array is loaded into a tensor of `type`: the dtype is the same, or both are
/// floating-point, or both are complex. Numbers that are integers on one side only are loaded if no
/// value changes: LibTorch's Module::to(dtype) also converts num_batches_tracked of BatchNorm.
inline bool has_values_for(const DType& stored, c10::ScalarType type) {
  const auto same = dtype_of(type);
  if (!same || stored.is_structured()) return false;
  if (stored.kind == same->kind && stored.item_size == same->item_size) return true;
  const bool is_number =
      c10::isFloatingType(type) || c10::isIntegralType(type, /*includeBool=*/false);
  if (is_bfloat16(stored)) return is_number;
  if (!scalar_type_of(stored)) return false;
  switch (stored.kind) {
    case 'c': return c10::isComplexType(type);
    case 'f':
    case 'i':
    case 'u': return is_number;
    default: return false;
  }
}

/// Whether numbers are the same after a conversion, if one side has integers.
inline bool are_same_numbers(const at::Tensor& values, const at::Tensor& converted) {
  if (!converted.to(values.scalar_type()).equal(values)) return false;
  // An overflow may be undone on the way back, but it is seen in both as float64, or is at 2^63.
  const at::Tensor as_double = values.to(at::kDouble);
  if (!as_double.equal(converted.to(at::kDouble))) return false;
  const bool has_fractions = values.is_floating_point() || converted.is_floating_point();
  return !has_fractions || as_double.lt(0x1p63).all().item<bool>();
}

/// Loads an array for a tensor of `type`. Throws Error (Mismatch) if an integer changes.
inline at::Tensor load_values(const NpzFile& file, const std::string& name, c10::ScalarType type,
                              std::size_t threads) {
  LoadOptions options;
  options.threads(threads);
  const StoredArray array = file.array(name, options);
  const DType& stored = array.dtype();
  if (stored.kind == 'V') {
    options.void_as(dtype_of(type)->kind == 'V' ? type : c10::ScalarType::BFloat16);
  }
  const bool has_integers = stored.kind == 'i' || stored.kind == 'u';
  const bool is_exact = has_integers || c10::isIntegralType(type, /*includeBool=*/false);
  if (!is_exact || scalar_type_of(stored) == type) return array.load(options.dtype(type));
  const at::Tensor values = array.load(options);
  const at::Tensor converted = values.to(type);
  if (are_same_numbers(values, converted)) return converted;
  throw Error(ErrorCode::Mismatch, in_quotes(name) + " has values of " + descr_literal(stored) +
                                       " that " + c10::toString(type) +
                                       ", the dtype in the module, cannot hold" +
                                       (has_integers ? "; load them into the module first, and "
                                                       "convert it with to() then"
                                                     : ""));
}

inline std::string shown_tensor(const at::Tensor& tensor) {
  return std::string(c10::toString(tensor.scalar_type())) + " " +
         python_tuple(tensor.sizes().vec());
}

/// Compares the tensors of a module with the headers in an archive. Returns those that the archive
/// has, and adds all other names to `keys`. Throws Error: Mismatch for wrong shapes and dtypes and,
/// if `strict`, for wrong names, InvalidArgument for a tensor that cannot be filled.
inline std::vector<NewValue> match(const NamedTensors& state, const NpzFile& file, bool strict,
                                   IncompatibleKeys& keys) {
  std::vector<NewValue> values;
  FewLines missing, unexpected, misfits;
  // NpzFile::contains() also finds "a" if asked for "a.npy".
  const std::unordered_set<std::string_view> stored(file.names().begin(), file.names().end());
  for (const auto& item : state) {
    const std::string& name = item.key();
    const at::Tensor& tensor = item.value();
    if (stored.count(name) == 0) {
      missing.add(in_quotes(name) + ": " + shown_tensor(tensor));
      keys.missing_keys.push_back(name);
      continue;
    }
    with_part("tensor", name, [&] { require_fillable(tensor, "load_parameters()"); });
    const Header header = file.header(name);
    if (tensor.sizes() != at::IntArrayRef(header.shape) ||
        !has_values_for(header.dtype, tensor.scalar_type())) {
      misfits.add(in_quotes(name) + ": " + shown_tensor(tensor) + " in the module, " +
                  descr_literal(header.dtype) + " " + python_tuple(header.shape) +
                  " in the archive");
    }
    values.push_back({name, tensor});
  }
  for (const std::string& name : file.names()) {
    if (state.contains(name)) continue;
    unexpected.add(in_quotes(name));
    keys.unexpected_keys.push_back(name);
  }
  if (misfits.count() == 0 && (!strict || missing.count() + unexpected.count() == 0)) return values;
  std::string reason = "the arrays do not match the module:";
  const auto list = [&](const char* what, const FewLines& lines) {
    if (lines.count() != 0) reason += "\n" + std::to_string(lines.count()) + what + lines.text();
  };
  if (strict) {
    list(" missing in the archive:", missing);
    list(" unknown to the module:", unexpected);
  }
  list(" of another shape or dtype:", misfits);
  if (misfits.count() != 0) {
    reason +=
        "\nto keep such a tensor as it is, give its layer another name, or remove the array "
        "from a copy of the archive, and use strict(false)";
  } else if (!values.empty()) {
    reason += "\nstrict(false) loads only the names that both have";
  }
  throw Error(ErrorCode::Mismatch, reason);
}

/// Whether two tensors have the same elements of memory in the same order.
inline bool is_same_view(const at::Tensor& a, const at::Tensor& b) {
  return a.data_ptr() == b.data_ptr() && a.scalar_type() == b.scalar_type() &&
         a.sizes() == b.sizes() && a.strides() == b.strides() && a.is_conj() == b.is_conj() &&
         a.is_neg() == b.is_neg();
}

/// Pairs of values for the same memory: tied weights have several names. Throws Error
/// (InvalidArgument) for tensors that overlap in another way. Views that interleave count as
/// overlapping.
inline std::vector<std::pair<std::size_t, std::size_t>> tied(const std::vector<NewValue>& values) {
  struct Extent {
    c10::Device device;
    std::uintptr_t begin, end;
    std::size_t index;
  };
  std::vector<Extent> extents;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const at::Tensor& tensor = values[i].tensor;
    if (tensor.numel() == 0) continue;
    std::int64_t last = 0;
    for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
      last += (tensor.size(axis) - 1) * tensor.stride(axis);
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(tensor.data_ptr());
    const std::size_t size =
        static_cast<std::size_t>(last + 1) * static_cast<std::size_t>(tensor.element_size());
    extents.push_back({tensor.device(), begin, begin + size, i});
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    const auto key = [](const Extent& extent) {
      return std::tuple(extent.device.type(), extent.device.index(), extent.begin, extent.index);
    };
    return key(a) < key(b);
  });
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t i = 1; i < extents.size(); ++i) {
    const Extent& before = extents[i - 1];
    const Extent& extent = extents[i];
    if (before.device != extent.device || before.end <= extent.begin) continue;
    if (!is_same_view(values[before.index].tensor, values[extent.index].tensor)) {
      throw Error(ErrorCode::InvalidArgument,
                  "load_parameters() into tensors that overlap in memory, " +
                      in_quotes(values[before.index].name) + " and " +
                      in_quotes(values[extent.index].name) + ": clone() one of them first");
    }
    pairs.emplace_back(before.index, extent.index);
  }
  return pairs;
}

inline bool has_same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous();
  const at::Tensor y = b.contiguous();
  return std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

/// load_parameters() for the tensors of a module. Errors have no path, or that of the archive.
inline IncompatibleKeys load_state(const NamedTensors& state, const NpzFile& file,
                                   const LoadParametersOptions& options) {
  IncompatibleKeys keys;
  std::vector<NewValue> values = match(state, file, options.strict(), keys);
  const auto pairs = tied(values);
  const std::size_t processors = processor_count();
  const std::size_t threads =
      (std::max)(processors / (std::max)(values.size(), std::size_t{1}), std::size_t{1});
  for_each_index(values.size(), processors, [&](std::size_t i) {
    values[i].array = load_values(file, values[i].name, values[i].tensor.scalar_type(), threads);
  });
  for (const auto& [a, b] : pairs) {
    if (has_same_bits(values[a].array, values[b].array)) continue;
    throw Error(ErrorCode::Mismatch, in_quotes(values[a].name) + " and " +
                                         in_quotes(values[b].name) +
                                         " are one tensor in the module, and have different "
                                         "values in the archive");
  }
  const at::NoGradGuard no_grad;
  for (const NewValue& value : values) value.tensor.copy_(value.array);
  return keys;
}

}  // namespace detail

/// Saves the parameters and buffers of a module with save_npz(), under the names that state_dict()
/// of Python has for a module of the same structure, and in its order: "conv.weight",
/// "norm.running_mean". save_npz(path, module->named_parameters()) would not save the buffers, for
/// instance the running mean and variance of BatchNorm.
///
/// `module` is a torch::nn::Module, a module holder such as torch::nn::Linear, or a pointer to a
/// module. A parameter that does not exist, such as the bias with bias(false), is not saved. A
/// tensor with several names is saved under each of them. bfloat16 and float8 are stored as by
/// save(), and loaded again by load_parameters().
///
/// Throws Error: InvalidArgument for a null pointer, and what save_npz() throws. Safe from any
/// thread, while no other thread changes the module.
template <class Module>
void save_parameters(const std::filesystem::path& path, const Module& module,
                     const SaveNpzOptions& options = {}) {
  save_npz(path, detail::with_path(path, [&] { return detail::state_of(module); }), options);
}

/// Loads the parameters and buffers of a module from an archive: one of save_parameters(), or the
/// state_dict() of a PyTorch module of the same structure,
///
///     np.savez(path, **{k: v.cpu().numpy() for k, v in model.state_dict().items()})
///
/// `module`: see save_parameters(). The values are copied into its tensors, on their devices. They
/// stay the same tensors, so an optimizer that was made with them stays valid. Floating-point
/// values are converted to the dtype of the tensor, as in load_state_dict() of PyTorch, and so are
/// complex ones. Numbers that are integers on one side are converted if no value changes. Any other
/// dtype must be the same. Raw items of 2 bytes (V2) are bfloat16, and those of 1 byte (V1) fill
/// float8 of any kind.
///
/// Throws Error (Mismatch) with a list of all names that the archive does not have, names that the
/// module does not have, and tensors of another shape or dtype. With strict(false), the names are
/// no Error but are returned. Only the arrays that the module has are read. Throws Error (Mismatch)
/// if a tensor has several names, and the archive has different values for them; and Error
/// (InvalidArgument) for a null pointer, for a tensor that load_into() cannot fill, and for tensors
/// that overlap in memory in another way. Throws Error, as NpzFile and its load().
///
/// All arrays are loaded, several at a time, before the first value is copied: if that fails, the
/// module is unchanged. If LibTorch then fails to copy a tensor, for instance because a device is
/// out of memory, the tensors before it have their new values. Takes host memory for one more copy
/// of the weights. Autograd does not record the change, but detects it.
///
/// Safe from any thread, while no other thread uses the module.
template <class Module>
IncompatibleKeys load_parameters(const Module& module, const NpzFile& file,
                                 const LoadParametersOptions& options = {}) {
  return file.internal_about(
      [&] { return detail::load_state(detail::state_of(module), file, options); });
}

/// Loads them from an .npz file: `load_parameters(module, NpzFile(path), options)`.
template <class Module>
IncompatibleKeys load_parameters(const Module& module, const std::filesystem::path& path,
                                 const LoadParametersOptions& options = {}) {
  const auto state = detail::with_path(path, [&] { return detail::state_of(module); });
  const NpzFile file(path);
  return file.internal_about([&] { return detail::load_state(state, file, options); });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_MODULE_HPP_

// ---- torch_npy/tensor/save_fields.hpp

#ifndef TORCH_NPY_TENSOR_SAVE_FIELDS_HPP_
#define TORCH_NPY_TENSOR_SAVE_FIELDS_HPP_

/// @file
/// Saves structured arrays: a tensor for each field.

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A field to be saved that has no fields of its own.
struct SavedField {
  std::vector<std::string> names;   ///< of the outer fields, and its own: {"pos", "x"}
  DType dtype;                      ///< of one element
  std::vector<std::int64_t> shape;  ///< of one record
  at::Tensor elements;              ///< axis 0 is that of the records
};

/// The parts of a name between its dots. Throws Error (InvalidArgument).
inline std::vector<std::string> parts_of_name(const std::string& name) {
  std::vector<std::string> parts(1);
  for (std::string_view rest = name; !rest.empty();) {
    const std::string_view all = rest;
    const std::uint32_t code = take_utf8(rest);
    if (code == kNoCharacter) throw Error(ErrorCode::InvalidArgument, "its name is not UTF-8");
    if (code == '.') {
      parts.emplace_back();
    } else {
      parts.back() += all.substr(0, all.size() - rest.size());
    }
  }
  if (std::find(parts.begin(), parts.end(), std::string()) != parts.end()) {
    throw Error(
        ErrorCode::InvalidArgument,
        "its name, and each part of it between dots, must not be empty: NumPy would change it");
  }
  if (parts.size() > std::size_t{DescrParser::kMaxDepth}) {
    throw Error(ErrorCode::InvalidArgument,
                "fields nested more than " + std::to_string(DescrParser::kMaxDepth) + " deep");
  }
  return parts;
}

/// A tensor as a field of records. Throws Error, without the name of the field.
inline SavedField saved_field(const std::string& name, const at::Tensor& tensor) {
  require_data(tensor, "save()");
  require_rank(static_cast<std::size_t>(tensor.dim()));
  SavedField field;
  field.names = parts_of_name(name);
  field.dtype = require_dtype(tensor.scalar_type());
  field.elements = tensor.dim() == 0 ? tensor.detach().unsqueeze(0) : tensor.detach();
  field.shape = field.elements.sizes().slice(1).vec();
  return field;
}

/// The first `count` of these names, with dots.
inline std::string with_dots(const std::vector<std::string>& names, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += (i == 0 ? "" : ".") + names[i];
  return out;
}

/// Appends a field to a structured dtype, right after those that it has. Throws Error (TooLarge).
inline void append_field(DType& dtype, Field field, const std::string& whole_name) {
  const auto bytes = checked_bytes(field.shape, field.dtype.item_size);
  const bool is_long = std::any_of(field.shape.begin(), field.shape.end(),
                                   [](std::int64_t length) { return length > INT32_MAX; });
  if (is_long || !bytes || *bytes > INT32_MAX - dtype.item_size) {
    throw Error(ErrorCode::TooLarge,
                "with field " + in_quotes(whole_name) +
                    " a record, or an axis of it, is larger than NumPy allows (2^31 - 1): "
                    "save_npz() saves each tensor as an array of its own");
  }
  field.offset = dtype.item_size;
  dtype.item_size += *bytes;
  dtype.fields.push_back(std::move(field));
}

/// The packed dtype of fields [begin, end), which have their first `depth` names in common. Throws
/// Error (InvalidArgument, TooLarge).
inline DType packed_dtype(const std::vector<SavedField>& fields, std::size_t begin, std::size_t end,
                          std::size_t depth) {
  const auto has_fields = [&](std::size_t i) { return fields[i].names.size() > depth + 1; };
  DType dtype;
  std::map<std::string, bool> seen;  // and whether it has fields of its own
  for (std::size_t first = begin; first < end;) {
    const std::vector<std::string>& names = fields[first].names;
    const std::string whole_name = with_dots(names, depth + 1);
    const auto [other, is_new] = seen.emplace(names[depth], has_fields(first));
    if (!is_new) {
      throw Error(ErrorCode::InvalidArgument,
                  other->second != has_fields(first)
                      ? in_quotes(whole_name) + " is a field, and has fields of its own"
                  : other->second
                      ? "the fields of " + in_quotes(whole_name) + " are not adjacent: " +
                            in_quotes(with_dots(names, names.size())) + " comes after another field"
                      : "two fields have the name " + in_quotes(whole_name));
    }
    Field field;
    field.name = names[depth];
    std::size_t next = first + 1;
    if (has_fields(first)) {
      while (next < end && has_fields(next) && fields[next].names[depth] == field.name) ++next;
      field.dtype = packed_dtype(fields, first, next, depth + 1);
    } else {
      field.dtype = fields[first].dtype;
      field.shape = fields[first].shape;
    }
    append_field(dtype, std::move(field), whole_name);
    first = next;
  }
  return dtype;
}

/// A structured array to be saved.
struct SavedFields {
  Header header;
  std::vector<SavedField> fields;
  std::int64_t records = 1;

  explicit SavedFields(const torch::OrderedDict<std::string, at::Tensor>& tensors) {
    if (tensors.is_empty()) {
      throw Error(ErrorCode::InvalidArgument, "save() of no fields: NumPy has no such dtype");
    }
    const at::Tensor& first = tensors[0].value();
    for (const auto& tensor : tensors) {
      with_part("field", tensor.key(), [&] {
        fields.push_back(saved_field(tensor.key(), tensor.value()));
        const bool is_single = tensor.value().dim() == 0;
        if (is_single == (first.dim() == 0) && (is_single || tensor->size(0) == first.size(0))) {
          return;
        }
        throw Error(ErrorCode::InvalidArgument,
                    "it has shape " + python_tuple(tensor->sizes().vec()) + ", the first field " +
                        python_tuple(first.sizes().vec()) +
                        ": axis 0, the records, is the same for all; save_npz() saves tensors of "
                        "different lengths");
      });
    }
    header.dtype = packed_dtype(fields, 0, fields.size(), 0);
    if (first.dim() != 0) header.shape = {records = first.size(0)};
    if (!checked_bytes(header.shape, header.dtype.item_size)) {
      throw Error(ErrorCode::TooLarge, "the bytes of the records do not fit in 63 bits");
    }
  }

  /// Calls `put` with the bytes of some records at a time, in order: of 1 MiB, or of one record.
  template <class Put>
  void for_each_part(const Put& put) const {
    constexpr std::int64_t kPart = std::int64_t{1} << 20;
    const std::int64_t item = header.dtype.item_size;
    if (item == 0 || records == 0) return;
    const std::int64_t at_once = std::clamp<std::int64_t>(kPart / item, 1, records);
    const std::shared_ptr<char> buffer =
        allocate_buffer(static_cast<std::uint64_t>(at_once * item));
    for (std::int64_t begin = 0; begin < records; begin += at_once) {
      const std::int64_t count = (std::min)(at_once, records - begin);
      char* field_of_first = buffer.get();
      for (const SavedField& field : fields) {
        const at::Tensor part = on_host(field.elements.narrow(0, begin, count)).contiguous();
        const std::size_t size = part.nbytes() / static_cast<std::size_t>(count);
        if (size == 0) continue;
        const char* from = static_cast<const char*>(part.data_ptr());
        char* to = field_of_first;
        for (std::int64_t i = 0; i < count; ++i, from += size, to += item) {
          std::memcpy(to, from, size);
        }
        field_of_first += size;
      }
      put(buffer.get(), static_cast<std::size_t>(count * item));
    }
  }
};

}  // namespace detail

/// Saves a structured array, the counterpart of load_fields(): byte for byte what np.save writes
/// for the same records in native byte order, without padding; names with characters that Python
/// does not print are escaped there, and not here. Axis 0 of every tensor is that of
/// the records. The other axes are those of the field in one record. If all tensors are 0-d, the
/// array is one 0-d record. A name with dots is that of a field in a field: `pos.x` and `pos.y`,
/// one after the other, become `pos` with the fields `x` and `y`. load_fields() gives the same
/// tensors again, under the same names and in the same order; bfloat16 and float8 with
/// LoadOptions::void_as().
///
///     torch_npy::save("points.npy", {{"id", ids}, {"pos.x", x}, {"pos.y", y}});
///
/// The file is replaced as by save() of a tensor. Takes 1 MiB of memory, or that of one record if
/// it is larger, and as much again for fields that are not contiguous on the CPU.
///
/// Throws Error: InvalidArgument for no fields, tensors of different lengths, a name that is empty
/// or not UTF-8, two fields of one name, a name that is a field and has fields, fields of a field
/// that are not adjacent, and more than 64 names in one; TooLarge for records of more than 2^31 - 1
/// bytes; and what save() of a tensor throws, with the name of the field. Safe from any thread.
inline void save(const std::filesystem::path& path,
                 const torch::OrderedDict<std::string, at::Tensor>& fields,
                 const SaveOptions& options = {}) {
  detail::with_path(path, [&] {
    const detail::SavedFields saved(fields);
    const std::string header = format_header(saved.header);
    detail::AtomicFile file(path, options.sync());
    file.write(header.data(), header.size());
    saved.for_each_part([&](const char* data, std::size_t size) { file.write(data, size); });
    file.commit();
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SAVE_FIELDS_HPP_

// ---- torch_npy/tensor/sparse_archive.hpp

#ifndef TORCH_NPY_TENSOR_SPARSE_ARCHIVE_HPP_
#define TORCH_NPY_TENSOR_SPARSE_ARCHIVE_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// The arrays of a sparse matrix in an archive, and the checks of their elements. LibTorch reads and
// writes memory at the positions that indices name, and does not look whether they are inside the
// matrix. So every index of a file is checked here.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Throws Error about an array of an archive.
inline void refuse(const StoredArray& array, const std::string& reason, std::uint64_t offset = 0,
                   ErrorCode code = ErrorCode::Mismatch) {
  array.internal_about([&] { throw Error(code, reason, offset); });
}

/// Throws Error about element `position` of an array.
inline void refuse_element(const StoredArray& array, std::size_t position, std::int64_t found,
                           const std::string& expected) {
  const auto item = static_cast<std::uint64_t>(array.dtype().item_size);
  refuse(array,
         "element " + std::to_string(position) + " is " + std::to_string(found) + ": expected " +
             expected,
         array.header().data_offset + position * item);
}

/// Requires the array to have this shape, for this reason.
inline void require_shape(const StoredArray& array, const std::vector<std::int64_t>& shape,
                          const std::string& reason) {
  if (array.shape() == shape) return;
  refuse(array, "expected shape " + python_tuple(shape) + ", " + reason + ", found " +
                    python_tuple(array.shape()));
}

inline void require_integers(const StoredArray& array) {
  const DType& dtype = array.dtype();
  if (dtype.kind == 'i' || dtype.kind == 'u') return;
  refuse(array, "expected integers, found dtype " + descr_literal(dtype));
}

/// Requires the ranges to start at 0, to follow one another, and to end with the last entry.
template <class Index>
void require_ranges(const StoredArray& array, const Index* pointers, std::size_t count,
                    std::int64_t entries) {
  if (pointers[0] != 0) refuse_element(array, 0, pointers[0], "0");
  for (std::size_t i = 1; i <= count; ++i) {
    if (pointers[i] >= pointers[i - 1]) continue;
    refuse_element(array, i, pointers[i],
                   "at least " + std::to_string(pointers[i - 1]) + ", the element before it");
  }
  if (pointers[count] == entries) return;
  refuse_element(array, count, pointers[count],
                 std::to_string(entries) + ", the number of entries");
}

/// Requires indices along an axis of this length; `first` is the position of the first of them in
/// the array.
template <class Index>
void require_inside(const StoredArray& array, const Index* indices, std::size_t first,
                    std::size_t count, std::int64_t length) {
  for (std::size_t i = 0; i < count; ++i) {
    if (indices[i] >= 0 && indices[i] < length) continue;
    refuse_element(array, first + i, indices[i],
                   "an index along an axis of length " + std::to_string(length));
  }
}

/// An archive of scipy.sparse.save_npz() in the course of being loaded. An Error that is not about
/// one of its arrays has no path.
class SparseArchive {
 public:
  SparseArchive(const NpzFile& file, const LoadOptions& options)
      : file_(file), options_(options), as_values_(options), budget_(options.max_bytes()) {
    require_plain(options.void_as(), "void_as()");
    as_index_.dtype(c10::kLong).pinned_memory(options.pinned_memory()).threads(options.threads());
    as_index_.max_bytes(options.max_bytes()).max_header_size(options.max_header_size());
    as_values_.device(c10::kCPU).raw_bytes(false);
  }

  const LoadOptions& options() const noexcept { return options_; }
  const LoadOptions& as_index() const noexcept { return as_index_; }
  const LoadOptions& as_values() const noexcept { return as_values_; }

  bool contains(const char* name) const { return file_.contains(name); }
  StoredArray array(const char* name) const { return file_.array(name, as_index_); }

  /// Plans to load an array, and takes its bytes from those that all arrays may have.
  LoadPlan plan(OpenArray& array, const LoadOptions& options) {
    LoadPlan plan = array.plan(options);
    budget_.take(memory_to_load(array, plan, options));
    return plan;
  }

  /// The array on the host.
  at::Tensor read(const StoredArray& array, const LoadOptions& options) {
    return array.internal_with_array(
        [&](OpenArray& open) { return load_on_host(open, plan(open, options), options); });
  }

  std::string format() {
    constexpr std::int64_t kMaxBytes = 64;
    if (!contains("format")) {
      const std::string there = few_names(file_.names());
      throw Error(
          ErrorCode::NotFound,
          "not a matrix of scipy.sparse.save_npz(): no array \"format\"" +
              (there.empty() ? there
                             : "; there are " + there + "; load_npz() is for such archives"));
    }
    const StoredArray array = this->array("format");
    const DType& dtype = array.dtype();
    if (!array.shape().empty() || (dtype.kind != 'S' && dtype.kind != 'U') ||
        dtype.item_size > kMaxBytes) {
      refuse(array,
             "not a matrix of scipy.sparse.save_npz(): expected the name of a format, "
             "shape () and dtype '|S3', found shape " +
                 python_tuple(array.shape()) + " and dtype " + descr_literal(dtype));
    }
    const at::Tensor codes = read(array, LoadOptions(as_index_).strings_as_codes(true));
    const auto* const code = static_cast<const std::int64_t*>(codes.data_ptr());
    std::string name;
    for (std::int64_t i = 0; i < codes.numel() && code[i] != 0; ++i) {
      name += code[i] > 0 && code[i] < 0x80 ? static_cast<char>(code[i]) : '?';
    }
    return name;
  }

  /// The shape of the matrix. LibTorch numbers its elements, so there are at most 2^63 - 1.
  std::vector<std::int64_t> shape() {
    const StoredArray array = this->array("shape");
    require_integers(array);
    if (array.shape().size() != 1 || array.shape()[0] == 0 || array.shape()[0] > 64) {
      refuse(array, "expected 1 to 64 lengths, the shape of the matrix, found an array of shape " +
                        python_tuple(array.shape()));
    }
    const at::Tensor lengths = read(array, as_index_);
    const auto* const length = static_cast<const std::int64_t*>(lengths.data_ptr());
    std::vector<std::int64_t> shape(length, length + lengths.numel());
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] < 0) refuse_element(array, i, shape[i], "a length");
    }
    if (!checked_bytes(shape, 1)) {
      throw Error(ErrorCode::TooLarge,
                  "a matrix of shape " + python_tuple(shape) + " has more than 2^63 - 1 elements");
    }
    return shape;
  }

 private:
  const NpzFile& file_;
  const LoadOptions& options_;
  LoadOptions as_index_;   // int64 on the host
  LoadOptions as_values_;  // on the host
  Budget budget_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SPARSE_ARCHIVE_HPP_

// ---- torch_npy/tensor/sparse.hpp

#ifndef TORCH_NPY_TENSOR_SPARSE_HPP_
#define TORCH_NPY_TENSOR_SPARSE_HPP_

/// @file
/// SciPy's sparse matrices: the archives of scipy.sparse.save_npz().

#include <ATen/core/Tensor.h>
#include <ATen/ops/_sparse_compressed_tensor_unsafe.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/core/Layout.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Everything that LibTorch requires of the arrays is checked here, so the tensors are made by its
// constructors that check nothing.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A compressed format of SciPy. One axis of the matrix, the outer one, has a range of the entries
/// for each of its positions (`indptr`); each entry has its position along the other axis
/// (`indices`). Positions of bsr are those of blocks.
struct CompressedFormat {
  const char* name;
  c10::Layout layout;
  std::size_t outer_axis;
  const char* outer;  ///< a position along the outer axis, for messages
  const char* inner;
};

inline constexpr CompressedFormat kCompressedFormats[] = {
    {"csr", c10::kSparseCsr, 0, "row", "column"},
    {"csc", c10::kSparseCsc, 1, "column", "row"},
    {"bsr", c10::kSparseBsr, 0, "block row", "block column"},
};

/// Sorts entries by their index, whose values have `size` bytes each.
template <class Index>
void sort_entries(Index* indices, char* values, std::size_t count, std::size_t size) {
  std::vector<std::pair<Index, std::size_t>> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = {indices[i], i};
  std::sort(order.begin(), order.end());
  const std::vector<char> before(values, values + count * size);
  for (std::size_t i = 0; i < count; ++i) {
    indices[i] = order[i].first;
    std::memcpy(values + i * size, before.data() + order[i].second * size, size);
  }
}

/// The arrays of a csr, csc or bsr matrix in its archive, and on the host.
struct CompressedParts {
  const CompressedFormat& format;
  StoredArray stored_pointers;
  StoredArray stored_indices;
  std::int64_t outer = 0;  ///< number of positions along the outer axis
  std::int64_t inner = 0;
  at::Tensor pointers = {};
  at::Tensor indices = {};
  at::Tensor values = {};

  /// Checks everything that LibTorch requires of them, after sorting the entries of each position
  /// along the outer axis.
  template <class Index>
  void check_and_sort() const {
    const auto entries = static_cast<std::size_t>(indices.numel());
    const auto count = static_cast<std::size_t>(outer);
    const auto* const pointer = static_cast<const Index*>(pointers.data_ptr());
    auto* const index = static_cast<Index*>(indices.data_ptr());
    require_ranges(stored_pointers, pointer, count, indices.numel());
    require_inside(stored_indices, index, 0, entries, inner);
    const std::size_t size = entries == 0 ? 0 : values.nbytes() / entries;
    for (std::size_t i = 0; i < count; ++i) {
      Index* const begin = index + pointer[i];
      Index* const end = index + pointer[i + 1];
      if (!std::is_sorted(begin, end)) {
        char* const value = static_cast<char*>(values.data_ptr());
        const auto first = static_cast<std::size_t>(pointer[i]);
        sort_entries(begin, value + first * size, static_cast<std::size_t>(end - begin), size);
      }
      const Index* const twice = std::adjacent_find(begin, end);
      if (twice == end) continue;
      throw Error(ErrorCode::Mismatch,
                  std::string("two entries at ") + format.outer + " " + std::to_string(i) + ", " +
                      format.inner + " " + std::to_string(*twice) +
                      ", where LibTorch's layout has one: call sum_duplicates() in SciPy before "
                      "the matrix is saved");
    }
  }
};

/// Divides the lengths of a matrix by those of its blocks, which are the last two axes of `data`.
inline void divide_by_blocks(std::vector<std::int64_t>& lengths, const StoredArray& data) {
  const std::vector<std::int64_t>& blocks = data.shape();
  const bool fits = blocks.size() == 3 && blocks[1] != 0 && blocks[2] != 0 &&
                    lengths[0] % blocks[1] == 0 && lengths[1] % blocks[2] == 0;
  if (!fits) {
    refuse(data,
           "expected shape (entries, rows of a block, columns of a block) with blocks that "
           "divide a matrix of shape " +
               python_tuple(lengths) + ", found " + python_tuple(blocks));
  }
  lengths = {lengths[0] / blocks[1], lengths[1] / blocks[2]};
}

/// Opens the arrays of a matrix, and checks that their shapes and dtypes agree.
inline CompressedParts open_compressed(SparseArchive& archive, const CompressedFormat& format,
                                       const StoredArray& data, std::vector<std::int64_t> lengths) {
  CompressedParts parts{format, archive.array("indptr"), archive.array("indices")};
  if (lengths.size() != 2) {
    throw Error(ErrorCode::Mismatch,
                std::string("a ") + format.name + " array of shape " + python_tuple(lengths) +
                    ": LibTorch's layout has 2 axes; convert it in SciPy with tocoo()");
  }
  const std::int64_t entries = data.shape().empty() ? 0 : data.shape()[0];
  if (format.layout == c10::kSparseBsr) {
    divide_by_blocks(lengths, data);
  } else {
    require_shape(data, {entries}, "a value for each entry");
  }
  parts.outer = lengths[format.outer_axis];
  parts.inner = lengths[1 - format.outer_axis];
  require_integers(parts.stored_pointers);
  require_integers(parts.stored_indices);
  require_shape(parts.stored_indices, {entries}, "an index for each value of \"data\"");
  const std::vector<std::int64_t>& ends = parts.stored_pointers.shape();
  if (ends.size() != 1 || ends[0] - 1 != parts.outer) {
    refuse(parts.stored_pointers,
           "expected one element more than " +
               counted(static_cast<std::uint64_t>(parts.outer), format.outer) + ", found shape " +
               python_tuple(ends));
  }
  return parts;
}

inline at::Tensor load_compressed(SparseArchive& archive, const CompressedFormat& format,
                                  const StoredArray& data) {
  const std::vector<std::int64_t> shape = archive.shape();
  CompressedParts parts = open_compressed(archive, format, data, shape);
  const auto is_int32 = [](const DType& dtype) {
    return dtype.kind == 'i' && dtype.item_size == 4;
  };
  const bool is_narrow =
      is_int32(parts.stored_pointers.dtype()) && is_int32(parts.stored_indices.dtype());
  LoadOptions as_index = archive.as_index();
  as_index.dtype(is_narrow ? c10::kInt : c10::kLong);
  parts.pointers = archive.read(parts.stored_pointers, as_index);
  parts.indices = archive.read(parts.stored_indices, as_index);
  parts.values = archive.read(data, archive.as_values()).contiguous();
  if (is_narrow) {
    parts.check_and_sort<std::int32_t>();
  } else {
    parts.check_and_sort<std::int64_t>();
  }
  const at::Tensor values = on_device(parts.values, archive.options());
  return at::_sparse_compressed_tensor_unsafe(on_device(parts.pointers, archive.options()),
                                              on_device(parts.indices, archive.options()), values,
                                              shape, values.options().layout(format.layout));
}

/// True if the entries are in ascending order of their indices, the first axis first, and none is
/// there twice. `indices` is contiguous, of shape (axes, entries).
inline bool is_sorted_and_distinct(const std::int64_t* indices, std::size_t axes,
                                   std::size_t entries) {
  for (std::size_t i = 1; i < entries; ++i) {
    std::size_t axis = 0;
    while (axis < axes && indices[axis * entries + i - 1] == indices[axis * entries + i]) ++axis;
    if (axis == axes || indices[axis * entries + i - 1] > indices[axis * entries + i]) return false;
  }
  return true;
}

/// The indices of an array that has those of all axes in `coords`; of shape (axes, entries).
inline at::Tensor load_coords(SparseArchive& archive, const std::vector<std::int64_t>& shape,
                              std::int64_t entries) {
  const StoredArray coords = archive.array("coords");
  require_integers(coords);
  require_shape(coords, {static_cast<std::int64_t>(shape.size()), entries},
                "an index for each axis and each value of \"data\"");
  at::Tensor indices = archive.read(coords, archive.as_index()).contiguous();
  const auto* const index = static_cast<const std::int64_t*>(indices.data_ptr());
  const auto count = static_cast<std::size_t>(entries);
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    require_inside(coords, index + axis * count, axis * count, count, shape[axis]);
  }
  return indices;
}

/// The same of a matrix that has them in `row` and `col`.
inline at::Tensor load_row_and_col(SparseArchive& archive, const std::vector<std::int64_t>& shape,
                                   std::int64_t entries) {
  const StoredArray arrays[] = {archive.array("row"), archive.array("col")};
  if (shape.size() != 2) {
    throw Error(ErrorCode::Mismatch, "expected 2 axes, those of \"row\" and \"col\", found shape " +
                                         python_tuple(shape));
  }
  const LoadOptions& options = archive.as_index();
  for (const StoredArray& array : arrays) {
    require_integers(array);
    require_shape(array, {entries}, "an index for each value of \"data\"");
    // Both have these bytes, or there would be no memory for them.
    array.internal_with_array([&](OpenArray& open) { (void)archive.plan(open, options); });
  }
  const auto count = static_cast<std::size_t>(entries);
  at::Tensor indices = empty_host(2 * count * sizeof(std::int64_t), c10::kLong, {2, entries},
                                  {entries, 1}, pins_memory(options));
  auto* const index = static_cast<std::int64_t*>(indices.data_ptr());
  for (std::size_t axis = 0; axis < 2; ++axis) {
    arrays[axis].internal_with_array([&](OpenArray& open) {
      const LoadPlan plan = open.plan(options);
      ArrayReading(open, plan, options).fill(index + axis * count);
    });
    require_inside(arrays[axis], index + axis * count, 0, count, shape[axis]);
  }
  return indices;
}

inline at::Tensor load_coo(SparseArchive& archive, const StoredArray& data) {
  const std::vector<std::int64_t> shape = archive.shape();
  const std::int64_t entries = data.shape().empty() ? 0 : data.shape()[0];
  require_shape(data, {entries}, "a value for each entry");
  const at::Tensor indices = archive.contains("coords") ? load_coords(archive, shape, entries)
                                                        : load_row_and_col(archive, shape, entries);
  const at::Tensor values = on_device(archive.read(data, archive.as_values()), archive.options());
  const bool is_coalesced =
      is_sorted_and_distinct(static_cast<const std::int64_t*>(indices.data_ptr()), shape.size(),
                             static_cast<std::size_t>(entries));
  at::Tensor tensor = at::_sparse_coo_tensor_unsafe(on_device(indices, archive.options()), values,
                                                    shape, values.options().layout(c10::kSparse));
  return is_coalesced ? tensor._coalesced_(true) : tensor;
}

inline at::Tensor load_sparse(SparseArchive& archive) {
  const std::string name = archive.format();
  if (name == "dia") {
    throw Error(ErrorCode::Mismatch,
                "a matrix in the format dia, for which LibTorch has no layout: convert it in "
                "SciPy, for instance with tocsr(), and save it again");
  }
  const StoredArray data = archive.array("data");
  const DType& dtype = data.dtype();
  // What raw_bytes() would load elsewhere.
  if (loads_raw_bytes(dtype, LoadOptions(archive.options()).raw_bytes(true))) {
    const bool is_misfit = is_raw(dtype) && archive.options().void_as();
    const char* const way_out = is_long_double(dtype) ? "; dtype(torch::kFloat64) rounds them"
                                : is_misfit           ? ", whose size is not that of void_as()"
                                : is_raw(dtype)       ? "; void_as() sets their dtype"
                                                      : "";
    refuse(
        data,
        "the values of a sparse tensor are numbers, found dtype " + descr_literal(dtype) + way_out,
        0, is_misfit ? ErrorCode::Mismatch : ErrorCode::UnsupportedDtype);
  }
  if (name == "coo") return load_coo(archive, data);
  for (const CompressedFormat& format : kCompressedFormats) {
    if (name == format.name) return load_compressed(archive, format, data);
  }
  throw Error(ErrorCode::Mismatch,
              "unknown format " + shown(name) + ": load_sparse() loads csr, csc, bsr and coo");
}

/// An array of the archive of a sparse matrix.
struct SparsePart {
  const char* name;
  Saved array;
};

inline Saved saved_name(std::string_view name) {
  Header header;
  header.dtype.kind = 'S';
  header.dtype.item_size = static_cast<std::int64_t>(name.size());
  at::Tensor bytes = at::empty({header.dtype.item_size}, c10::kByte);
  std::memcpy(bytes.data_ptr(), name.data(), name.size());
  return Saved(header, std::move(bytes));
}

/// Refuses tensors that are not matrices of a layout that SciPy has, too.
inline void require_sparse_matrix(const at::Tensor& tensor) {
  const auto complain = [](const std::string& reason) {
    throw Error(ErrorCode::InvalidArgument, "save_sparse() " + reason);
  };
  if (!tensor.defined()) complain("of an undefined tensor");
  if (tensor.is_meta()) complain("of a tensor without data");
  if (tensor.layout() == c10::kStrided) {
    complain("takes sparse tensors: save() saves a dense one, to_sparse_csr() makes it sparse");
  }
  const bool is_coo = tensor.layout() == c10::kSparse;
  const bool is_known =
      is_coo || std::any_of(std::begin(kCompressedFormats), std::end(kCompressedFormats),
                            [&](const auto& format) { return format.layout == tensor.layout(); });
  if (!is_known) {
    std::ostringstream layout;
    layout << tensor.layout();
    complain("of layout " + layout.str() +
             ", which SciPy does not have: to_dense().to_sparse_csr() converts it");
  }
  const std::int64_t value_axes = tensor.layout() == c10::kSparseBsr ? 3 : 1;
  const at::Tensor values = is_coo ? tensor._values() : tensor.values();
  if (tensor.dim() == 2 && values.dim() == value_axes) return;
  complain("takes matrices, which have 2 axes, both sparse; found shape " +
           python_tuple(tensor.sizes().vec()) + " and values of shape " +
           python_tuple(values.sizes().vec()) +
           ": save_npz() saves indices and values as dense arrays");
}

/// The arrays that SciPy writes for the matrix, in its order.
inline std::vector<SparsePart> sparse_parts(const at::Tensor& tensor) {
  std::vector<SparsePart> parts;
  const auto add = [&](const char* name, const at::Tensor& array) {
    parts.push_back({name, Saved(on_host(array).contiguous())});
  };
  const char* name = "coo";
  at::Tensor values;
  if (tensor.layout() == c10::kSparse) {
    const at::Tensor indices = tensor._indices();
    add("row", indices[0]);
    add("col", indices[1]);
    values = tensor._values();
  } else {
    for (const CompressedFormat& format : kCompressedFormats) {
      if (format.layout == tensor.layout()) name = format.name;
    }
    const bool by_column = tensor.layout() == c10::kSparseCsc;
    add("indices", by_column ? tensor.row_indices() : tensor.col_indices());
    add("indptr", by_column ? tensor.ccol_indices() : tensor.crow_indices());
    values = tensor.values();
  }
  parts.push_back({"format", saved_name(name)});
  add("shape", at::tensor(tensor.sizes(), c10::kLong));
  add("data", values);
  return parts;
}

}  // namespace detail

/// Loads a sparse matrix that scipy.sparse.save_npz() wrote, from its archive:
///
///     csr  kSparseCsr, indices of int32 or int64 as in the file
///     csc  kSparseCsc
///     bsr  kSparseBsr
///     coo  kSparse, of any number of axes; coalesced if the entries are sorted and none is twice
///
/// Every index is checked: a file cannot make LibTorch access other memory than that of the
/// tensor. Indices of other integer dtypes are loaded as int64. LibTorch requires the entries of a
/// row (csc: of a column) to be sorted: if they are not, they are sorted, and the values with them.
/// Two entries at the same position of csr, csc and bsr throw Error (Mismatch). In coo they are
/// kept: their sum is the element, as in SciPy.
///
/// The values have the dtypes of load(). dtype(), unsigned_as(), void_as() and mmap() apply to the
/// values alone: indices are always read, because a mapping could change after the check.
/// max_bytes() limits all arrays together. region() and squeeze() throw Error (InvalidArgument);
/// strings_as_codes() and raw_bytes() have no effect. Deflated archives, which SciPy writes by
/// default, need libdeflate (see NpzFile).
///
/// Peak memory is that of the tensor. To sort a row takes up to three times its memory more, and
/// arrays in Fortran order are copied. Safe from any thread.
/// Throws Error: NotFound for an archive without the arrays of a sparse matrix; Mismatch for the
/// format dia, an unknown format, and arrays that contradict one another; TooLarge for a matrix of
/// more than 2^63 - 1 elements; UnsupportedDtype for values that are not numbers; and what
/// NpzFile::load() throws.
[[nodiscard]] inline at::Tensor load_sparse(const NpzFile& file, const LoadOptions& options = {}) {
  return file.internal_about([&] {
    detail::require_device(options.device());
    if (options.device().is_meta()) {
      throw Error(ErrorCode::InvalidArgument,
                  "load_sparse() to the meta device, where LibTorch has no sparse tensors");
    }
    if (!options.region().empty() || options.squeeze()) {
      throw Error(ErrorCode::InvalidArgument,
                  "load_sparse() loads a whole matrix, without region() and squeeze(): take the "
                  "part of the tensor afterwards");
    }
    detail::SparseArchive archive(file, options);
    return detail::load_sparse(archive);
  });
}

/// Loads the sparse matrix of an .npz file: `load_sparse(NpzFile(path), options)`.
[[nodiscard]] inline at::Tensor load_sparse(const std::filesystem::path& path,
                                            const LoadOptions& options = {}) {
  return load_sparse(NpzFile(path), options);
}

/// Saves a sparse matrix as scipy.sparse.save_npz() does: a tensor of layout kSparseCsr,
/// kSparseCsc, kSparseBsr or kSparse, coalesced or not, with 2 axes, on any device. The indices and
/// values are saved as they are, and SciPy's load_npz() loads them; it has no float16 and no
/// bfloat16. Equal tensors give equal files. The file is written as by save_npz(), and takes the
/// memory of a copy if the tensor is not on the CPU; compressed() takes up to twice the memory of
/// the tensor.
///
/// Throws Error: InvalidArgument for a dense tensor, another layout, another number of axes, and
/// batches or dense axes; and what save_npz() throws. Safe from any thread.
inline void save_sparse(const std::filesystem::path& path, const at::Tensor& tensor,
                        const SaveNpzOptions& options = {}) {
  detail::with_path(path, [&] {
    if (options.compressed() && detail::zip_codec().load()->deflate == nullptr) {
      detail::throw_no_deflate();
    }
    detail::require_sparse_matrix(tensor);
    std::vector<detail::SparsePart> parts = detail::sparse_parts(tensor.detach());
    detail::AtomicFile file(path, options.sync());
    detail::ZipWriter zip(file);
    std::vector<detail::PackedArray> packed(parts.size());
    const std::size_t threads = options.compressed() ? detail::processor_count() : 1;
    detail::for_each_index(parts.size(), threads, [&](std::size_t i) {
      packed[i] = detail::pack(std::string(parts[i].name) + ".npy", std::move(parts[i].array),
                               options.compressed());
    });
    for (const detail::PackedArray& array : packed) array.add_to(zip);
    zip.finish();
    file.commit();
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SPARSE_HPP_

// ---- torch_npy/tensor/update_npz.hpp

#ifndef TORCH_NPY_TENSOR_UPDATE_NPZ_HPP_
#define TORCH_NPY_TENSOR_UPDATE_NPZ_HPP_

/// @file
/// Changes archives of arrays, .npz: adds, replaces, removes and aligns arrays.

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The byte of a stored array at which its data begins; 0 if it is no array or not stored.
inline std::uint64_t data_begin(const ByteSource& archive, const ZipMember& member,
                                std::uint64_t offset) {
  char start[kMaxPrefixSize];
  if (member.method != kStored || member.size < sizeof start) return 0;
  archive.read_fully(start, sizeof start, offset);
  try {
    return parse_prefix(start, sizeof start, UINT64_MAX).end();
  } catch (const Error&) {
    return 0;
  }
}

/// Throws Error (InvalidArgument) for a member that is no array but has the name of a saved array:
/// NumPy would find it there. And what reading it throws.
inline void require_array(const ArrayMembers& members, const ZipMember& member) {
  with_part("member", member.name, [&] {
    if (members.has_magic(member)) return;
    throw Error(ErrorCode::InvalidArgument,
                "it is no array, and np.load() would find it instead of the saved array of this "
                "name: choose another name, or remove the member, too");
  });
}

/// The members of an archive that an update does not copy: those that it removes, and those that it
/// replaces. Throws Error (NotFound, InvalidArgument).
inline std::unordered_set<const ZipMember*> members_to_drop(
    const ArrayMembers& members, const torch::OrderedDict<std::string, at::Tensor>& arrays,
    const std::vector<std::string>& remove) {
  std::unordered_set<const ZipMember*> dropped;
  for (const std::string& name : remove) {
    if (!dropped.insert(&members.at(name)).second) {
      throw Error(ErrorCode::InvalidArgument, "the array " + in_quotes(name) + " is removed twice");
    }
  }
  // A saved array replaces the one of its name, and any member of the name that it gets.
  std::unordered_map<std::string_view, const ZipMember*> by_name;
  for (const ZipMember& member : members.archive()->members())
    by_name.emplace(member.name, &member);
  const std::unordered_set<const ZipMember*> removed = dropped;
  const auto find = [&](const std::string& name) {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  };
  for (const auto& array : arrays) {
    const ZipMember* const other = find(array.key());
    if (other != nullptr && removed.count(other) == 0) require_array(members, *other);
    for (const ZipMember* const member :
         {members.exactly(array.key()), find(array.key() + std::string(kEnding))}) {
      if (member == nullptr) continue;
      if (removed.count(member) != 0) {
        throw Error(ErrorCode::InvalidArgument,
                    "the array " + in_quotes(array.key()) + " is both saved and removed");
      }
      dropped.insert(member);
    }
  }
  return dropped;
}

/// Writes an archive anew, without some of its members and with other arrays at its end.
inline void rewrite_npz(const std::filesystem::path& path,
                        const torch::OrderedDict<std::string, at::Tensor>& arrays,
                        const std::vector<std::string>& remove, const SaveNpzOptions& options) {
  with_path(path, [&] {
    require_writable(arrays, options);
    const std::filesystem::path absolute = absolute_path(path);
    const auto old = std::make_shared<const LockedFile>(absolute, "update_npz()");
    const auto archive = open_archive(old);
    const ArrayMembers members(archive);
    const auto dropped = members_to_drop(members, arrays, remove);
    AtomicFile file(absolute, options.sync());
    ZipWriter zip(file);
    for (const ZipMember& member : archive->members()) {
      if (dropped.count(&member) != 0) continue;
      with_part("member", member.name, [&] {
        const std::uint64_t offset = archive->data_offset(member);
        zip.copy(member, archive->source(), offset, data_begin(archive->source(), member, offset));
      });
    }
    add_arrays(zip, arrays, options);
    zip.finish();
    if (!old->is_at(absolute)) {
      throw Error(ErrorCode::Io,
                  "another program replaced the archive during the update; update it again");
    }
    file.commit();
  });
}

}  // namespace detail

/// Adds arrays to an existing archive, in place of those that have exactly the same names, and
/// removes the arrays named by `remove`, which may end in ".npy". The other members are copied as
/// they are packed, arrays or not, and keep their order; the saved arrays come after them.
/// compressed() is about the saved arrays alone. Comments and times of members are not kept.
/// Members that NpzFile refuses to read, such as encrypted ones, cannot be copied: BadZip.
///
/// The file is replaced when the new one is complete, as by save(): at any time, and after a crash,
/// the path names the old archive or the new one. This takes disk space for both, and the time of a
/// copy: give all changes to one call. Stored arrays, whoever wrote them, start at a multiple of 64
/// bytes afterwards, so they can be mapped.
///
/// Throws Error: NotFound if there is no archive, or no array to remove; Io if another update_npz()
/// has it open, or another program replaces the archive meanwhile; InvalidArgument for an array
/// that is saved and removed, and for a name that a member has that is no array; what NpzFile and
/// save_npz() throw. The archive is then unchanged. Safe from any thread.
inline void update_npz(const std::filesystem::path& path,
                       const torch::OrderedDict<std::string, at::Tensor>& arrays,
                       const std::vector<std::string>& remove = {},
                       const SaveNpzOptions& options = {}) {
  detail::rewrite_npz(path, arrays, remove, options);
}

/// Removes arrays from an archive: update_npz() without arrays to save.
inline void remove_from_npz(const std::filesystem::path& path,
                            const std::vector<std::string>& names,
                            const SaveNpzOptions& options = {}) {
  const torch::OrderedDict<std::string, at::Tensor> none;
  detail::rewrite_npz(path, none, names, options);
}

/// Rewrites an archive so that all of its stored arrays can be mapped: their data starts at a
/// multiple of 64 bytes. np.savez does not ensure that. Arrays that are deflated, or byte-swapped,
/// stay so and are still read. As update_npz() without changes. Of the options only sync() is used.
inline void align_npz(const std::filesystem::path& path, const SaveNpzOptions& options = {}) {
  const torch::OrderedDict<std::string, at::Tensor> none;
  detail::rewrite_npz(path, none, {}, SaveNpzOptions().sync(options.sync()));
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_UPDATE_NPZ_HPP_

#ifndef TORCH_NPY_NO_DATA

// ---- torch_npy/data/request.hpp

#ifndef TORCH_NPY_DATA_REQUEST_HPP_
#define TORCH_NPY_DATA_REQUEST_HPP_

/// @file
/// Request: which samples a batch consists of. SampleRegions: which parts of them.

#include <c10/core/Scalar.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

class SourceInfo;

/// One sample of a Request.
struct Pick {
  std::size_t index = 0;       ///< its number in the dataset that was asked; in batch.indices
  std::uint64_t position = 0;  ///< its position in the order of the epoch, over all ranks
  std::size_t sample = 0;  ///< its number in the source that reads it, after subset() and concat()
  /// 0; if a function has made several samples of it: which of them.
  std::size_t copy = 0;
  /// Set by a source that has read only the part that Request::regions asks for.
  bool is_cropped = false;
};

/// The part of each sample that a crop keeps. Safe from any thread.
class SampleRegions {
 public:
  virtual ~SampleRegions() = default;

  /// The region of the data of a sample, which has this shape. What is outside of the data has the
  /// value fill_value(0). None if the data cannot be cropped: a source then reads the whole sample,
  /// and the crop throws the Error.
  virtual std::optional<Region> of_data(const Pick& pick, c10::IntArrayRef data) const = 0;

  /// The same for its target, which has the shape `target`; what is outside has the value
  /// fill_value(1). An empty Region if the target is not cropped.
  virtual std::optional<Region> of_target(const Pick& pick, c10::IntArrayRef data,
                                          c10::IntArrayRef target) const = 0;

  /// The value outside of the data (0) or of the target (1).
  virtual c10::Scalar fill_value(std::size_t part) const = 0;

 protected:
  SampleRegions() = default;
  SampleRegions(const SampleRegions&) = default;             ///< for derived classes
  SampleRegions& operator=(const SampleRegions&) = default;  ///< for derived classes
};

/// The samples of one batch, in order, and what their random numbers depend on. The samplers of
/// LibTorch give a std::vector<std::size_t> of indices, which converts to a Request.
struct Request {
  /// The samples, in order. A source removes those that it skips.
  std::vector<Pick> picks;

  /// The seed of a Loader. Without one, each transform uses a seed of its own.
  std::optional<std::uint64_t> seed;
  /// The epoch of a Loader; for LibTorch's loader a number that differs from batch to batch.
  std::uint64_t epoch = 0;

  /// True if the batch is to be read into pinned memory, for its copy to a CUDA device.
  bool pin_memory = false;

  /// The part of each sample that is needed; null if all of it is, and unless the source
  /// reads_regions(). A source that reads only this part sets Pick::is_cropped.
  const SampleRegions* regions = nullptr;

  /// False if a sample that cannot be read must throw, whatever the dataset's OnBadFile says.
  bool may_skip = true;

  /// The dataset that was asked: it names samples in Errors, and Replace takes another sample from
  /// it.
  const SourceInfo* dataset = nullptr;
  /// The size of `dataset`.
  std::size_t population = 0;
  /// Sample number in the source for an index of that dataset; none if another source has it. Empty
  /// where both numbers are the same.
  std::function<std::optional<std::size_t>(std::size_t index)> sample_of;

  /// No samples.
  Request() = default;
  /// The samples `indices`, at the positions 0, 1, 2, ...
  Request(c10::ArrayRef<std::size_t> indices) {  // NOLINT(google-explicit-constructor)
    picks.reserve(indices.size());
    for (const std::size_t index : indices) picks.push_back({index, picks.size(), index});
  }
  /// The same.
  Request(const std::vector<std::size_t>& indices)  // NOLINT(google-explicit-constructor)
      : Request(c10::ArrayRef<std::size_t>(indices)) {}
  /// The same for `get_batch({0, 1})`.
  Request(std::initializer_list<std::size_t> indices)
      : Request(c10::ArrayRef<std::size_t>(indices.begin(), indices.size())) {}

  /// The indices of the samples: what becomes batch.indices.
  std::vector<std::size_t> indices() const {
    std::vector<std::size_t> all;
    all.reserve(picks.size());
    for (const Pick& pick : picks) all.push_back(pick.index);
    return all;
  }
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_REQUEST_HPP_

// ---- torch_npy/data/random.hpp

#ifndef TORCH_NPY_DATA_RANDOM_HPP_
#define TORCH_NPY_DATA_RANDOM_HPP_

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <mutex>
#include <optional>

// Random numbers that depend on the sample's position in the epoch, and not on the thread that
// reads it: any worker of a loader may read any batch.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// SplitMix64, a generator of pseudorandom numbers (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014). The same numbers on every platform, which the
/// distributions of the standard library do not promise.
class SplitMix64 {
 public:
  explicit SplitMix64(std::uint64_t seed = 0) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

  /// Uniform in 0 ... end - 1, for `end` of at least 1. Values that would make some results more
  /// likely than others are drawn again.
  std::uint64_t below(std::uint64_t end) noexcept {
    const std::uint64_t unfair = (0 - end) % end;  // 2^64 mod end
    std::uint64_t value = next();
    while (value < unfair) value = next();
    return value % end;
  }

 private:
  std::uint64_t state_;
};

/// One number of several, so that close numbers give unrelated results.
inline std::uint64_t mix(std::initializer_list<std::uint64_t> numbers) noexcept {
  std::uint64_t mixed = 0;
  for (const std::uint64_t number : numbers) mixed = SplitMix64(mixed ^ number).next();
  return mixed;
}

/// A seed from `generator`, or from LibTorch's default generator, which torch::manual_seed() seeds.
inline std::uint64_t draw_seed(const std::optional<at::Generator>& generator = std::nullopt) {
  at::Generator source =
      generator && generator->defined() ? *generator : at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(source.mutex());
  return at::check_generator<at::CPUGeneratorImpl>(source)->random64();
}

}  // namespace detail

/// The random numbers that a transform draws for a batch. Under a Loader they depend on its seed,
/// the epoch, the position of the sample in the epoch, and on how many transforms come before.
class Draws {
 public:
  /// For the transform number `stage` of a dataset, which has a seed of its own for loaders that
  /// have none.
  Draws(const Request& request, std::uint64_t stage, std::uint64_t own_seed)
      : request_(&request),
        key_(detail::mix({request.seed.value_or(own_seed), request.epoch, stage})) {}

  /// The numbers of the i-th sample of the batch.
  detail::SplitMix64 sample(std::size_t i) const {
    const auto& picks = request_->picks;
    i += first_;
    // A function given to map() may have made more samples than were read.
    return i < picks.size() ? of(picks[i])
                            : detail::SplitMix64(detail::mix({key_, ~std::uint64_t{i}}));
  }

  /// The numbers of the sample of a pick.
  detail::SplitMix64 of(const Pick& pick) const {
    return detail::SplitMix64(pick.copy == 0 ? detail::mix({key_, pick.position})
                                             : detail::mix({key_, pick.position, pick.copy}));
  }

  /// The same for the samples from the i-th one on.
  Draws from(std::size_t i) const {
    Draws rest = *this;
    rest.first_ += i;
    return rest;
  }

 private:
  const Request* request_;
  std::uint64_t key_;
  std::size_t first_ = 0;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RANDOM_HPP_

// ---- torch_npy/data/options.hpp

#ifndef TORCH_NPY_DATA_OPTIONS_HPP_
#define TORCH_NPY_DATA_OPTIONS_HPP_

/// @file
/// FolderOptions, OnBadFile, FileListOptions, WindowOptions, OrderSamplerOptions, Tail and
/// DistributedSamplerOptions.

#include <c10/core/ScalarType.h>
#include <torch/arg.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// What a dataset does about a bad sample: one whose file is damaged, or has another shape or dtype
/// than the others. An Error that may get better (Io, Exhausted, OutOfMemory) is not about the
/// sample: reading is tried again after 10 and 100 ms, and then the Error is thrown. So is
/// InvalidArgument.
enum class OnBadFile {
  Throw,    ///< throw the Error
  Skip,     ///< leave the sample out of the batch, which may become empty
  Replace,  ///< read another sample instead, chosen by seed, epoch and position
};

/// How a folder, or a list of files, becomes a dataset. An option that has no meaning for a dataset
/// throws Error (InvalidArgument) there. Setters chain:
/// `FolderOptions().recursive(true).data_options(LoadOptions().dtype(torch::kFloat32))`; without an
/// argument, each name returns the current value.
struct FolderOptions {
  /// Shell pattern for the names of the .npy files (.npz for an NpzDataset) to use (`*`, `?`,
  /// `[a-z]`). Other files, and hidden ones (".name"), are ignored.
  TORCH_ARG(std::string, pattern) = "*";

  /// Include the files in subfolders, at any depth. Links to folders are followed.
  TORCH_ARG(bool, recursive) = false;

  /// Sort numbers in names by value: "a9" before "a10". Otherwise names are sorted by their bytes,
  /// as by Python's sorted().
  TORCH_ARG(bool, natural_order) = false;

  /// For a PairedFolderDataset: shell pattern for the names of the targets, such as "*_mask.npy"
  /// with the pattern() "*_image.npy". A target belongs to the input for which the stars of both
  /// patterns match the same text. Both patterns have equally many stars, no other wildcards, and
  /// end with ".npy" or "*". A star that could match several texts matches the shortest one, except
  /// for the last star. Subfolders must have the same names.
  TORCH_ARG(std::string, target_pattern);

  /// For a PairedFolderDataset: a function from the name of an input to the name of its target. A
  /// name is a path relative to the folder, with "/" between folders, in UTF-8, and with the ending
  /// ".npy". Other files in the folder of the targets are ignored.
  TORCH_ARG(std::function<std::string(const std::string&)>, target_name);

  /// For a ClassFolderDataset: the names of the classes; the number of a class is its position in
  /// this list. If empty, the subfolders are the classes, in the order of their names.
  TORCH_ARG(std::vector<std::string>, classes);

  /// For a ClassFolderDataset: a class may have no file, and with classes() also no folder. It
  /// keeps its number. Otherwise it is an Error.
  TORCH_ARG(bool, allow_empty_classes) = false;
  /// How many samples each file is in an epoch: sample i is file i / n. Every one gets random
  /// numbers of its own, so that RandomCrop cuts n patches out of each file. 0 throws Error
  /// (InvalidArgument).
  TORCH_ARG(std::size_t, samples_per_file) = 1;

  /// How to load the samples. threads(0) means one thread, because a loader's workers run in
  /// parallel already. With device(), each batch is copied there as a whole. With mmap(true), files
  /// of which a RandomCrop keeps a part stay mapped from their first use on, at most 16,384 in the
  /// process: a file that is replaced by rename() meanwhile keeps its old content, and one that is
  /// truncated ends the process, as LoadOptions::mmap() says. mmap(true) takes 8 more bytes a file.
  TORCH_ARG(LoadOptions, data_options);

  /// How to load the targets of a PairedFolderDataset, a FileDataset or an NpzDataset.
  TORCH_ARG(LoadOptions, target_options);

 public:
  /// The shape and the dtype of every sample, after data_options(); -1 in the shape stands for any
  /// size. A file that differs is a bad one.
  FolderOptions& expect(std::vector<std::int64_t> shape,
                        std::optional<c10::ScalarType> dtype = std::nullopt) {
    expected_ = {std::move(shape), dtype};
    return *this;
  }
  /// What expect() was given.
  struct Expected {
    std::optional<std::vector<std::int64_t>> shape;  ///< of each sample
    std::optional<c10::ScalarType> dtype;            ///< of each sample
  };
  /// What expect() was given.
  const Expected& expected() const noexcept { return expected_; }

  /// What to do about a bad sample; the default is Throw. `callback` is called with the Error of
  /// each one that is skipped or replaced, by one thread at a time, on the thread that read the
  /// file. It must not use the dataset.
  FolderOptions& on_bad_file(OnBadFile what, std::function<void(const Error&)> callback = {}) {
    on_bad_file_ = what;
    bad_file_callback_ = std::move(callback);
    return *this;
  }
  /// What to do about a bad sample.
  OnBadFile on_bad_file() const noexcept { return on_bad_file_; }
  /// The callback for bad samples; may be empty.
  const std::function<void(const Error&)>& bad_file_callback() const noexcept {
    return bad_file_callback_;
  }

  /// Throws the Error of a bad sample if the dataset has had more than `limit` different ones. By
  /// default there is no limit.
  FolderOptions& max_bad(std::size_t limit) {
    max_bad_ = limit;
    return *this;
  }
  /// The limit, if there is one.
  std::optional<std::size_t> max_bad() const noexcept { return max_bad_; }

 private:
  Expected expected_;
  std::optional<std::size_t> max_bad_;
  OnBadFile on_bad_file_ = OnBadFile::Throw;
  std::function<void(const Error&)> bad_file_callback_;
};

/// A column of a list of files: its number, counted from 0, or its name in the header line.
class ListColumn {
 public:
  /// By number.
  ListColumn(int number) : number_(number) {}  // NOLINT(google-explicit-constructor)
  /// By name.
  ListColumn(std::string name)  // NOLINT(google-explicit-constructor)
      : name_(std::move(name)) {}
  /// By name.
  ListColumn(const char* name) : name_(name) {}  // NOLINT(google-explicit-constructor)

  /// The number, if there is no name.
  int number() const noexcept { return number_; }
  /// The name; empty if there is none.
  const std::string& name() const noexcept { return name_; }

 private:
  int number_ = 0;
  std::string name_;
};

/// How read_file_list() reads a list. Setters chain:
/// `FileListOptions().path_column("path").label_column("label")`; without an argument, each name
/// returns the current value.
struct FileListOptions {
  /// What separates the columns: a comma, a tab or any other character; a blank stands for any
  /// number of blanks and tabs. 0: what the first line has, a tab, else a comma, else blanks.
  TORCH_ARG(char, separator) = '\0';

  /// True if the first line has the names of the columns, false if it has a file. Without a value
  /// it is a header line if a column is chosen by its name; or if the name of its first column is
  /// "path", "file", "filename" or the like, and there is no such file.
  TORCH_ARG(std::optional<bool>, header);

  /// The column of the files. By default the first one.
  TORCH_ARG(std::optional<ListColumn>, path_column);
  /// A column of target files.
  TORCH_ARG(std::optional<ListColumn>, target_column);
  /// A column of integers, the class labels.
  TORCH_ARG(std::optional<ListColumn>, label_column);
  /// A column of names of classes.
  TORCH_ARG(std::optional<ListColumn>, class_column);
  /// A column of numbers, for regression.
  TORCH_ARG(std::optional<ListColumn>, value_column);
  /// A column of any text, such as the patient for SplitOptions::groups(), or "train" and "test".
  TORCH_ARG(std::optional<ListColumn>, group_column);

  /// The names of the classes; the number of a class is its position in this list. If empty, the
  /// names in the list are numbered in the order of their bytes.
  TORCH_ARG(std::vector<std::string>, classes);

  /// Appended to each path that does not end with it: ".npy" for a list of names without an ending.
  TORCH_ARG(std::string, ending);

  /// Check that all files exist: one stat per file, on at least 32 threads. false: a missing file
  /// shows when it is read, or by Dataset::verify().
  TORCH_ARG(bool, check_files) = true;
};

/// How an array becomes windows, which are the samples of a WindowDataset. Setters chain; without
/// an argument, each name returns the current value. With `has_target`, after target(), each window
/// has a target.
template <bool has_target>
struct BasicWindowOptions {
  /// Rows from the start of one window to the start of the next. At least 1. With the length of a
  /// window, windows do not overlap.
  TORCH_ARG(std::int64_t, stride) = 1;

  /// Windows may begin in one shard and end in the next ones. By default a window lies in one
  /// shard, and the first window of each shard begins at its row 0.
  TORCH_ARG(bool, across_shards) = false;

  /// Each file is one row, for instance one frame of a video; a window is a clip. Its length counts
  /// files. Files of different folders are different videos, which are like shards. The same is
  /// true for targets in several files; targets in one file, a tensor or a StoredArray have one row
  /// for each frame.
  TORCH_ARG(bool, frames) = false;

  /// How to load the data. The window begins to count at the first of its rows().
  TORCH_ARG(LoadOptions, data_options);

  /// How to load the target. Not set: for a target in the same array data_options(), otherwise
  /// LoadOptions(). For a target in the same array it cannot have rows(): those of data_options()
  /// apply.
  TORCH_ARG(std::optional<LoadOptions>, target_options) = std::nullopt;

 public:
  /// The target of the window that begins at row i is rows [i + offset, i + offset + length): of
  /// the same array, or of the array of targets if the dataset has one. `target(1, length)` are the
  /// next tokens. `offset` may be negative. A window whose target does not fit is not used.
  [[nodiscard]] BasicWindowOptions<true> target(std::int64_t offset, std::int64_t length) const {
    BasicWindowOptions<true> options;
    options.stride(stride_).across_shards(across_shards_).frames(frames_);
    options.data_options(data_options_).target_options(target_options_);
    options.target_ = {offset, length};
    return options;
  }
  /// What target() was given: offset and length.
  const std::optional<std::pair<std::int64_t, std::int64_t>>& target() const noexcept {
    return target_;
  }

 private:
  template <bool>
  friend struct BasicWindowOptions;

  std::optional<std::pair<std::int64_t, std::int64_t>> target_;
};

/// How an array becomes windows: `WindowOptions().stride(64)`.
using WindowOptions = BasicWindowOptions<false>;
/// What WindowOptions::target() returns: `WindowOptions().target(1, 1024)`.
using WindowPairOptions = BasicWindowOptions<true>;

/// What happens to the last samples of an epoch if the number of samples is not a multiple of the
/// number of ranks. With by_length(), the same is true of batches instead of samples.
enum class Tail {
  Pad,    ///< repeat samples from the start of the order, so that all ranks get the same number
  Drop,   ///< drop the last samples of the order, so that all ranks get the same number
  Exact,  ///< use every sample exactly once; some ranks get one more than others, so they may get
          ///< one batch more: with gradient synchronization, that batch would wait forever
};

/// How an OrderSampler uses its order. Setters chain: `OrderSamplerOptions().seed(7)`; without an
/// argument, each name returns the current value.
struct OrderSamplerOptions {
  /// Seed of the order; the order of an epoch depends on it and on the number of the epoch. Must be
  /// the same on every rank.
  TORCH_ARG(std::uint64_t, seed) = 0;

  /// How the ranks share the last samples.
  TORCH_ARG(Tail, tail) = Tail::Pad;
};

/// How to distribute samples among ranks, with the names and defaults of Python's
/// DistributedSampler. Setters chain: `DistributedSamplerOptions().seed(7).drop_last(true)`;
/// without an argument, each name returns the current value.
struct DistributedSamplerOptions {
  /// Seed of the shuffle; the order of an epoch depends on it and on the number of the epoch. Must
  /// be the same on every rank.
  TORCH_ARG(std::uint64_t, seed) = 0;

  /// Shuffle the samples in every epoch. false: the order is 0, 1, 2, ... in every epoch.
  TORCH_ARG(bool, shuffle) = true;

  /// Drop the last samples of the order, so that all ranks get the same number: Tail::Drop. false:
  /// repeat samples from the start of the order instead, so that a few appear twice: Tail::Pad.
  TORCH_ARG(bool, drop_last) = false;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_OPTIONS_HPP_

// ---- torch_npy/data/bad_samples.hpp

#ifndef TORCH_NPY_DATA_BAD_SAMPLES_HPP_
#define TORCH_NPY_DATA_BAD_SAMPLES_HPP_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

// Samples that cannot be read: thrown, skipped or replaced.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True if the system has run out of a resource, so that other files would fail in the same way.
inline bool is_of_system(const Error& error) {
  return error.code() == ErrorCode::Exhausted || error.code() == ErrorCode::OutOfMemory;
}

/// True if reading again may succeed.
inline bool may_get_better(const Error& error) {
  return is_of_system(error) || error.code() == ErrorCode::Io;
}

/// Calls `work`, and again after 10 and 100 ms if it throws an Error that may get better.
template <class Work>
void with_retries(const Work& work) {
  for (const int milliseconds : {10, 100}) {
    try {
      return work();
    } catch (const Error& error) {
      if (!may_get_better(error)) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  }
  work();
}

/// What a source does about bad samples, and how many there were. Shared by the copies of a
/// dataset; safe from any thread.
class BadSamples {
 public:
  BadSamples() = default;
  explicit BadSamples(const FolderOptions& options)
      : what_(options.on_bad_file()),
        callback_(options.bad_file_callback()),
        max_bad_(options.max_bad()),
        samples_per_file_(options.samples_per_file()) {}

  OnBadFile what() const noexcept { return what_; }

  /// Reports a bad sample to the callback. Throws `error` if that is what to do about it, or if
  /// there are more than max_bad() bad samples.
  void report(std::size_t sample, const Error& error) {
    if (what_ == OnBadFile::Throw || may_get_better(error) ||
        error.code() == ErrorCode::InvalidArgument) {
      throw error;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
    if (max_bad_) {
      different_.insert(sample / samples_per_file_);
      if (different_.size() > *max_bad_) {
        throw ErrorContext::within(error, "more than " + counted(*max_bad_, "bad sample") +
                                              ", which is the limit max_bad()");
      }
    }
    if (callback_) callback_(error);
  }

  /// How many samples were skipped or replaced.
  std::size_t count() const noexcept { return count_; }

 private:
  OnBadFile what_ = OnBadFile::Throw;
  std::function<void(const Error&)> callback_;
  std::optional<std::size_t> max_bad_;
  std::size_t samples_per_file_ = 1;
  std::mutex mutex_;
  std::atomic<std::size_t> count_{0};          // read by callbacks, too
  std::unordered_set<std::size_t> different_;  // bad files, if there is a limit
};

/// Other samples of the dataset that was asked, to replace a bad one. Which ones depends on the
/// seed, the epoch and the position only.
class Replacements {
 public:
  Replacements(const Request& request, const Pick& pick)
      : request_(&request),
        numbers_(mix({request.seed.value_or(0), request.epoch, pick.position, kReplace})),
        tried_{pick.sample} {}

  /// The next one, with the position of the bad one. None after 100 different ones, or if there are
  /// no more: samples of other parts of concat() cannot be read here.
  std::optional<Pick> next(Pick pick) {
    const std::size_t draws =
        (std::min)(kDraws, 1000 + 100 * (std::min)(request_->population, kDraws));
    for (std::size_t draw = 0; tried_.size() < kTries && draw < draws; ++draw) {
      pick.index = static_cast<std::size_t>(numbers_.below(request_->population));
      const auto sample =
          request_->sample_of ? request_->sample_of(pick.index) : std::optional(pick.index);
      if (!sample || !tried_.insert(*sample).second) continue;
      pick.sample = *sample;
      return pick;
    }
    return std::nullopt;
  }

  /// What to throw after that, about the last bad sample.
  Error none_left(const Error& last) const {
    return ErrorContext::within(last, "this sample and " + counted(tried_.size() - 1, "other") +
                                          " that were to replace it are bad");
  }

 private:
  static constexpr std::size_t kTries = 101;  // with the bad one
  static constexpr std::size_t kDraws = 1'000'000;
  static constexpr std::uint64_t kReplace = 0x7265706c61636521;  // not the number of a transform

  const Request* request_;
  SplitMix64 numbers_;
  std::unordered_set<std::size_t> tried_;
};

/// Reads every sample of the request by `read(pick)`, which throws Error; then calls
/// `accept(sample)`. Removes those that are skipped from the request.
template <class Read, class Accept>
void read_each(Request& request, BadSamples& bad, const Read& read, const Accept& accept) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < request.picks.size(); ++i) {
    std::optional<Pick> pick = request.picks[i];
    std::optional<Replacements> others;
    while (pick) {
      try {
        with_retries([&] { read(*pick); });
        break;
      } catch (const Error& error) {
        if (!request.may_skip) throw;
        bad.report(pick->sample, error);
        if (bad.what() == OnBadFile::Skip) {
          pick.reset();
          continue;
        }
        if (!others) others.emplace(request, *pick);
        pick = others->next(*pick);
        if (!pick) throw others->none_left(error);
      }
    }
    if (!pick) continue;
    accept(pick->sample);
    request.picks[kept++] = *pick;
  }
  request.picks.resize(kept);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BAD_SAMPLES_HPP_

// ---- torch_npy/data/batch.hpp

#ifndef TORCH_NPY_DATA_BATCH_HPP_
#define TORCH_NPY_DATA_BATCH_HPP_

/// @file
/// The types of samples and batches.

#include <ATen/core/Tensor.h>
#include <torch/data.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// LibTorch's own type: two tensors, `data` and `target`.
using torch::data::Example;
/// LibTorch's own type: one tensor, `data`, and no target.
using torch::data::TensorExample;

/// A sample of any number of tensors, each with a name, in a fixed order.
class NamedExample {
 public:
  /// A name, and the tensor that has it.
  using Item = std::pair<std::string, at::Tensor>;

  NamedExample() = default;
  /// With these tensors. Throws Error (InvalidArgument) if two have the same name.
  explicit NamedExample(std::vector<Item> items) : items_(std::move(items)) {
    for (std::size_t i = 0; i < items_.size(); ++i) {
      if (&find(items_[i].first) == &items_[i]) continue;
      throw Error(ErrorCode::InvalidArgument,
                  "two tensors of one sample have the name " + detail::in_quotes(items_[i].first));
    }
  }

  /// The tensor with this name. Throws Error (NotFound), which lists the names, if there is none.
  at::Tensor& operator[](const std::string& name) { return find(name).second; }
  /// The tensor with this name. Throws Error (NotFound), which lists the names, if there is none.
  const at::Tensor& operator[](const std::string& name) const {
    return const_cast<NamedExample*>(this)->find(name).second;
  }

  /// Names and tensors, in order.
  const std::vector<Item>& items() const noexcept { return items_; }
  /// Names and tensors, in order; do not change the names.
  std::vector<Item>& items() noexcept { return items_; }

 private:
  Item& find(const std::string& name) {
    std::string names;
    for (Item& item : items_) {
      if (item.first == name) return item;
      names += (names.empty() ? "" : ", ") + detail::in_quotes(item.first);
    }
    throw Error(ErrorCode::NotFound, "no tensor " + detail::in_quotes(name) +
                                         " in this sample or batch; it has " +
                                         (names.empty() ? "none" : names));
  }

  std::vector<Item> items_;
};

namespace detail {
/// Compilers show its name if a program uses `batch.data` of a list.
struct ListOfSamples_CallStackedOnTheDataset {};
}  // namespace detail

/// A batch as a list of samples, which may differ in shape.
template <class E = Example<>>
struct Samples : std::vector<E> {
  using std::vector<E>::vector;
  /// No samples.
  Samples() = default;
  /// With these samples, and no indices yet.
  explicit Samples(std::vector<E> samples) : std::vector<E>(std::move(samples)) {}

  /// A list has no `data`: Dataset::stacked() makes batches that have it.
  void data(detail::ListOfSamples_CallStackedOnTheDataset) const = delete;

  /// Which sample of the dataset each one is: the dataset that get_batch() was called on, or that
  /// the loader was given. Dataset::key() names it.
  std::vector<std::size_t> indices;
};

/// A batch as one Example: axis 0 of its tensors is the sample index. `Batch<>` has `data` and
/// `target`; `Batch<TensorExample>` has `data` and converts to a Tensor; see also NamedBatch.
template <class E = Example<>>
struct Batch : E {
  /// LibTorch's `.map()` needs it.
  using value_type = E;
  using E::E;
  /// A batch with undefined tensors.
  Batch() = default;
  /// With these tensors, and no indices yet.
  explicit Batch(E example) : E(std::move(example)) {}

  /// Which sample of the dataset each row is: the dataset that get_batch() was called on, or that
  /// the loader was given. Dataset::key() names it.
  std::vector<std::size_t> indices;
};

/// A batch of tensors with names: `batch["image"]`.
using NamedBatch = Batch<NamedExample>;

/// A batch of samples of different length, made by PadStack: tensors are padded to the longest
/// sample of the batch.
template <class E = Example<>>
struct PaddedBatch : Batch<E> {
  using Batch<E>::Batch;
  /// A batch with undefined tensors.
  PaddedBatch() = default;

  /// The length of each sample of `data`: int64, of shape (batch size). Undefined if `data` was not
  /// padded.
  at::Tensor lengths;
  /// The length of each sample of `target`; undefined if there is no target, or if it was not
  /// padded because it is 0-d.
  at::Tensor target_lengths;
};

/// The same with names: `batch["tokens"]`, `batch.lengths["tokens"]`.
template <>
struct PaddedBatch<NamedExample> : NamedBatch {
  using NamedBatch::Batch;
  /// A batch without tensors.
  PaddedBatch() = default;

  /// For each tensor that was padded, under its name, the length of each sample: int64, of shape
  /// (batch size).
  NamedExample lengths;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_HPP_

// ---- torch_npy/data/rows.hpp

#ifndef TORCH_NPY_DATA_ROWS_HPP_
#define TORCH_NPY_DATA_ROWS_HPP_

/// @file
/// SampleRows: the samples of a batch as a source reads them.

#include <ATen/core/Tensor.h>
#include <ATen/ops/stack.h>
#include <c10/core/Layout.h>
#include <c10/util/StringUtil.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The rows of `whole` along axis 0.
inline std::vector<at::Tensor> rows_of(const at::Tensor& whole) {
  if (whole.is_quantized() || whole.layout() != c10::kStrided) return whole.unbind();
  if (whole.requires_grad()) return whole.unbind();
  std::vector<at::Tensor> rows;
  rows.reserve(static_cast<std::size_t>(whole.size(0)));
  for (std::int64_t i = 0; i < whole.size(0); ++i) {
    rows.push_back(view_of(whole, whole.storage_offset() + i * whole.stride(0),
                           whole.sizes().slice(1), whole.strides().slice(1)));
  }
  return rows;
}

/// Refuses to stack samples that differ: at::stack() would promote their dtypes silently.
inline void require_alike(const std::vector<at::Tensor>& samples) {
  if (samples.empty()) {
    throw Error(
        ErrorCode::Mismatch,
        "a batch without samples cannot be stacked: were all of its files bad and skipped?");
  }
  for (const at::Tensor& sample : samples) {
    if (sample.defined()) continue;
    throw Error(ErrorCode::Mismatch,
                "a sample without a tensor cannot be stacked; an Example without a target is a "
                "TensorExample");
  }
  const auto name = [&](std::size_t i) {
    const std::string origin = origin_of(samples[i]);
    return origin.empty() ? "sample " + std::to_string(i) + " of the batch" : origin;
  };
  const auto fail = [&](std::size_t i, const std::string& first, const std::string& other) {
    throw Error(ErrorCode::Mismatch, "samples that differ cannot be stacked: " + name(0) + " has " +
                                         first + ", " + name(i) + " has " + other);
  };
  for (std::size_t i = 1; i < samples.size(); ++i) {
    if (samples[i].layout() != samples[0].layout()) {
      fail(i, "layout " + c10::str(samples[0].layout()),
           "layout " + c10::str(samples[i].layout()) + "; to_dense() converts");
    }
    if (samples[i].device() != samples[0].device()) {
      fail(i, "device " + samples[0].device().str(),
           "device " + samples[i].device().str() + "; to(device) moves");
    }
    if (samples[i].sizes() != samples[0].sizes()) {
      fail(i, "shape " + python_tuple(samples[0].sizes().vec()),
           "shape " + python_tuple(samples[i].sizes().vec()) +
               "; PadStack pads samples of different length, Resize and RandomCrop make images "
               "alike, and without stacked() a batch is a list of samples");
    }
    if (samples[i].scalar_type() != samples[0].scalar_type()) {
      fail(i, std::string("dtype ") + c10::toString(samples[0].scalar_type()),
           c10::toString(samples[i].scalar_type()) + std::string("; the option dtype() converts"));
    }
  }
}

/// The tensor whose rows are exactly `samples`, in order, if nothing else uses its memory, so that
/// it cannot be told from a copy. Else an undefined tensor.
inline at::Tensor whole_of(const std::vector<at::Tensor>& samples) {
  if (samples.empty() || !samples[0].defined() || !samples[0].has_storage()) return {};
  const at::Tensor& first = samples[0];
  const c10::Storage& storage = first.storage();
  const std::int64_t step = first.numel();
  if (step == 0 || storage.use_count() != samples.size() || !owns_memory(first)) return {};
  std::int64_t offset = first.storage_offset();
  for (const at::Tensor& sample : samples) {
    if (!sample.defined() || !sample.has_storage() || sample.use_count() != 1 ||
        sample.requires_grad() || sample.key_set() != first.key_set() ||
        sample.storage().unsafeGetStorageImpl() != storage.unsafeGetStorageImpl() ||
        sample.storage_offset() != offset || sample.scalar_type() != first.scalar_type() ||
        sample.sizes() != first.sizes() || sample.strides() != first.strides()) {
      return {};
    }
    offset += step;
  }
  std::vector<std::int64_t> sizes = first.sizes().vec();
  std::vector<std::int64_t> strides = first.strides().vec();
  sizes.insert(sizes.begin(), static_cast<std::int64_t>(samples.size()));
  strides.insert(strides.begin(), step);
  return view_of(first, first.storage_offset(), sizes, strides);
}

inline at::Tensor stack_samples(const std::vector<at::Tensor>& samples) {
  at::Tensor whole = whole_of(samples);
  if (whole.defined()) return whole;
  require_alike(samples);
  return at::stack(samples);
}

/// How the tensors of a sample type are reached: the types that can be stacked.
/// `each(sample, call)` calls `call(name, tensor)` for each tensor, always in the same order.
template <class E>
struct SampleTensors {
  static constexpr bool kStackable = false;
};

template <>
struct SampleTensors<TensorExample> {
  static constexpr bool kStackable = true;

  template <class Sample, class Call>
  static void each(Sample& sample, const Call& call) {
    call("data", sample.data);
  }
};

template <>
struct SampleTensors<Example<>> {
  static constexpr bool kStackable = true;

  template <class Sample, class Call>
  static void each(Sample& sample, const Call& call) {
    call("data", sample.data);
    call("target", sample.target);
  }
};

template <>
struct SampleTensors<NamedExample> {
  static constexpr bool kStackable = true;

  template <class Sample, class Call>
  static void each(Sample& sample, const Call& call) {
    for (auto& [name, tensor] : sample.items()) call(name, tensor);
  }
};

template <class E>
constexpr bool kStackable = SampleTensors<E>::kStackable;

template <class E>
constexpr bool kHasTarget = false;
template <>
inline constexpr bool kHasTarget<Example<>> = true;

/// Names, shapes and dtypes of the tensors of a sample: equal for samples that can be stacked.
template <class E>
std::string layout_of(const E& sample) {
  std::string layout;
  SampleTensors<E>::each(sample, [&](const std::string& name, const at::Tensor& tensor) {
    if (!layout.empty()) layout += ", ";
    layout += name + ": ";
    if (!tensor.defined()) return;
    layout += "shape " + python_tuple(tensor.sizes().vec()) + " and dtype " +
              c10::toString(tensor.scalar_type());
  });
  return layout;
}

/// The tensors number `k` of all samples, taken out of them.
template <class E>
std::vector<at::Tensor> take_tensors(std::vector<E>& samples, std::size_t k) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(samples.size());
  for (E& sample : samples) {
    std::size_t number = 0;
    SampleTensors<E>::each(sample, [&](const std::string&, at::Tensor& tensor) {
      if (number++ == k) tensors.push_back(std::move(tensor));
    });
  }
  return tensors;
}

/// Throws Error (Mismatch) if samples have other names, or their names in another order.
inline void require_same_names(const std::vector<NamedExample>& samples) {
  for (const NamedExample& sample : samples) {
    bool same = sample.items().size() == samples[0].items().size();
    for (std::size_t k = 0; same && k < sample.items().size(); ++k) {
      same = sample.items()[k].first == samples[0].items()[k].first;
    }
    if (!same) {
      throw Error(ErrorCode::Mismatch, "samples with different names cannot be stacked: " +
                                           layout_of(samples[0]) + "; and " + layout_of(sample));
    }
  }
}

/// Samples as one Example, whose tensors `join(name, tensors)` makes from those of all samples.
/// Throws Error (Mismatch) if there are no samples, or if they have different names.
template <class E, class Join>
Batch<E> join_examples(std::vector<E> samples, const Join& join) {
  if (samples.empty()) require_alike({});
  if constexpr (std::is_same_v<E, NamedExample>) require_same_names(samples);
  Batch<E> batch(samples[0]);
  std::vector<std::pair<std::string, at::Tensor*>> out;
  SampleTensors<E>::each(static_cast<E&>(batch), [&](const std::string& name, at::Tensor& tensor) {
    tensor = at::Tensor();  // another owner would make whole_of() copy
    out.emplace_back(name, &tensor);
  });
  for (std::size_t k = 0; k < out.size(); ++k) {
    *out[k].second = join(out[k].first, take_tensors(samples, k));
  }
  return batch;
}

/// Samples as one Example. Does not copy the rows of one tensor. Throws Error (Mismatch) if they
/// differ, or if there are none.
template <class E>
Batch<E> stack_examples(std::vector<E> samples) {
  return join_examples(std::move(samples),
                       [](const std::string&, const std::vector<at::Tensor>& tensors) {
                         return stack_samples(tensors);
                       });
}

/// The number of samples in the tensors of a batch; none if all are undefined. Throws Error
/// (Mismatch) if they differ.
template <class E>
std::optional<std::size_t> rows_in(const E& batch) {
  std::optional<std::size_t> count;
  SampleTensors<E>::each(batch, [&](const std::string& name, const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.dim() == 0) return;
    const auto rows = static_cast<std::size_t>(tensor.size(0));
    if (rows != count.value_or(rows)) {
      throw Error(ErrorCode::Mismatch, "the tensors of a batch need one row for each sample: " +
                                           in_quotes(name) + " has " + counted(rows, "row") +
                                           ", those before have " + std::to_string(*count));
    }
    count = rows;
  });
  return count;
}

/// A batch as a list of samples, which are its rows.
template <class E>
std::vector<E> unstack(Batch<E> batch) {
  const E pattern = batch;
  std::vector<E> samples(rows_in(pattern).value_or(0), pattern);
  std::size_t k = 0;
  SampleTensors<E>::each(static_cast<E&>(batch), [&](const std::string&, at::Tensor& whole) {
    std::vector<at::Tensor> rows;
    if (whole.defined() && whole.dim() != 0) rows = rows_of(std::exchange(whole, at::Tensor()));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::size_t number = 0;
      SampleTensors<E>::each(samples[i], [&](const std::string&, at::Tensor& tensor) {
        if (number++ == k) tensor = std::move(rows[i]);
      });
    }
    ++k;
  });
  return samples;
}

}  // namespace detail

/// The samples of a batch as a source reads them: as one Example if they are alike, or one by one.
template <class E>
class SampleRows {
  using Whole = std::conditional_t<detail::kStackable<E>, Batch<E>, std::monostate>;

 public:
  /// One by one.
  SampleRows(std::vector<E> samples)  // NOLINT(google-explicit-constructor)
      : each_(std::move(samples)) {}
  /// As the rows of one Example, with at least one row.
  SampleRows(Whole whole)  // NOLINT(google-explicit-constructor)
      : whole_(std::move(whole)) {}

  /// Number of samples. Throws Error (Mismatch) if the tensors of an Example have different numbers
  /// of rows.
  std::size_t size() const {
    if constexpr (detail::kStackable<E>) {
      if (whole_) return detail::rows_in<E>(*whole_).value_or(0);
    }
    return each_.size();
  }
  /// True for the rows of one Example.
  bool is_whole() const noexcept { return whole_.has_value(); }
  /// That Example.
  Whole& whole() noexcept { return *whole_; }
  /// The samples, if they are not the rows of one Example.
  std::vector<E>& each() noexcept { return each_; }

  /// One by one.
  std::vector<E> separate() && {
    if constexpr (detail::kStackable<E>) {
      if (whole_) return detail::unstack(*std::exchange(whole_, std::nullopt));
    }
    return std::move(each_);
  }

  /// As one Example. Throws Error (Mismatch) if they differ, or if there are none.
  Batch<E> stacked() && {
    static_assert(detail::kStackable<E>,
                  "only Example<>, TensorExample and NamedExample can be stacked");
    return whole_ ? std::move(*whole_) : detail::stack_examples(std::move(each_));
  }

 private:
  std::optional<Whole> whole_;
  std::vector<E> each_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ROWS_HPP_

// ---- torch_npy/data/source.hpp

#ifndef TORCH_NPY_DATA_SOURCE_HPP_
#define TORCH_NPY_DATA_SOURCE_HPP_

/// @file
/// SampleSource: where the samples of a dataset come from.

#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A number for a text: FNV-1a of 64 bits, the same on every platform.
inline std::uint64_t hash_of(std::string_view text) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

/// A number for a region of arrays.
inline std::uint64_t fingerprint_of(const Region& region) {
  std::uint64_t print = mix({region.size()});
  for (const AxisRange& range : region) {
    print = mix(
        {print, static_cast<std::uint64_t>(range.begin), static_cast<std::uint64_t>(range.end)});
  }
  return print;
}

/// Names the batches of LibTorch's loader, which does not say in which epoch they are: by their
/// indices, and by how many batches have begun with the same first index.
class BatchNames {
 public:
  std::uint64_t name(const Request& request) {
    std::uint64_t name = request.picks.size();
    for (const Pick& pick : request.picks) {
      name = (name ^ pick.index) * 0x9e3779b97f4a7c15;  // 2^64 / golden ratio, mixes the bits
      name ^= name >> 32;
    }
    if (request.picks.empty()) return name;
    const std::lock_guard<std::mutex> lock(mutex_);
    return mix({name, visits_[request.picks[0].index]++});
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::size_t, std::uint64_t> visits_;
};

}  // namespace detail

/// What a dataset knows of its samples without reading them: the part of SampleSource that does not
/// depend on their type. Sample numbers are less than size(). Safe from any thread, as are its
/// derived classes.
class SourceInfo {
 public:
  virtual ~SourceInfo() = default;
  SourceInfo(const SourceInfo&) = delete;             ///< shared, never copied
  SourceInfo& operator=(const SourceInfo&) = delete;  ///< shared, never copied

  /// Number of samples.
  virtual std::size_t size() const = 0;

  /// A name for a sample: its file, or file and row. Different from that of every other sample,
  /// unless a list has a file twice, or concat() joins two arrays in memory or the same files
  /// twice.
  virtual std::string key(std::size_t sample) const = 0;

  /// A number that differs for a dataset of other samples. A Loader refuses to continue a run on
  /// such a dataset. By default it depends on size() and on the keys of up to 1,000 samples.
  virtual std::uint64_t fingerprint() const {
    std::uint64_t print = detail::mix({size()});
    const std::size_t step = size() / 1000 + 1;
    for (std::size_t i = 0; i < size(); i += step) {
      print = detail::mix({print, detail::hash_of(key(i))});
    }
    return print;
  }

  /// True if two samples may have values in common, as windows do that begin less than their length
  /// apart. random_split() and k_fold() refuse such samples.
  virtual bool samples_overlap() const { return false; }

  /// True if samples are copied from memory, as the rows of tensors and of mapped arrays are:
  /// cached() does not keep them.
  virtual bool is_in_memory() const { return false; }

  /// The sizes of the datasets that concat() joined; one number for any other source.
  virtual std::vector<std::size_t> parts() const { return {size()}; }

  /// The size of axis 0 of a sample's data, as it is stored. Reads no values. By default throws
  /// Error (InvalidArgument).
  virtual std::int64_t length(std::size_t /*sample*/) const {
    throw Error(ErrorCode::InvalidArgument,
                "the source of this dataset cannot tell the lengths of its samples");
  }

  /// The class labels of `samples`, in order, for Dataset::targets(). By default throws Error
  /// (InvalidArgument).
  virtual std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> /*samples*/) const {
    throw Error(ErrorCode::InvalidArgument,
                "this dataset has no class labels: its samples have no target, or it does not "
                "know which array is the target");
  }

  /// The Errors for which reading a sample would fail, as far as they show without reading values.
  /// By default none. Throws Error (Exhausted, OutOfMemory).
  virtual std::vector<Error> check(std::size_t /*sample*/) const { return {}; }

  /// Whether the source can read parts of samples, as Request::regions asks for; for a source that
  /// is made of others, whether all of them can. By default false.
  virtual bool reads_regions() const { return false; }

  /// A number that the samples of the same file have in common, and no other ones: lengths() and
  /// verify() read its header once, and a split keeps them together. By default the number of the
  /// sample.
  virtual std::size_t file_of(std::size_t sample) const { return sample; }

  /// The source whose numbers file_of() returns: this one, unless it is a part of another one.
  virtual const SourceInfo& source_of_files() const { return *this; }

  /// The number of a sample in the source that reads it, of those that this one is made of.
  virtual std::size_t inner_sample(std::size_t sample) const { return sample; }

  /// What to do if a sample is bad, and how many were. By default an Error is thrown.
  virtual detail::BadSamples& bad_samples(std::size_t /*sample*/) const { return bad_; }
  /// How many samples were skipped or replaced so far.
  virtual std::size_t bad_count() const { return bad_.count(); }

  /// For Dataset: a number for a batch of LibTorch's loader.
  std::uint64_t name_batch(const Request& request) const { return names_.name(request); }

 protected:
  SourceInfo() = default;
  /// With these rules for bad samples.
  explicit SourceInfo(const FolderOptions& options) : bad_(options) {}

 private:
  mutable detail::BadSamples bad_;
  mutable detail::BatchNames names_;
};

/// Where the samples of a dataset come from. Derive from it to give a dataset samples from anywhere
/// else: `Dataset<E>(std::make_shared<MySource>())`.
template <class E>
class SampleSource : public SourceInfo {
 public:
  /// Reads the samples `request.picks[i].sample`, in order. May be called by several threads at
  /// once. Throws an exception if one cannot be read; what is thrown reaches the training loop.
  virtual SampleRows<E> read(Request& request) const = 0;

 protected:
  /// A bad sample is an Error.
  SampleSource() = default;
  /// With these rules for bad samples.
  explicit SampleSource(const FolderOptions& options) : SourceInfo(options) {}
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SOURCE_HPP_

// ---- torch_npy/data/array_files.hpp

#ifndef TORCH_NPY_DATA_ARRAY_FILES_HPP_
#define TORCH_NPY_DATA_ARRAY_FILES_HPP_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The files of an array that is divided among them, or one StoredArray in a file.
class ArrayFiles {
 public:
  /// Throws Error (InvalidArgument) if there is none.
  explicit ArrayFiles(std::vector<std::filesystem::path> paths) : paths_(std::move(paths)) {
    if (paths_.empty()) throw Error(ErrorCode::InvalidArgument, "the list of files is empty");
    for (const std::filesystem::path& path : paths_) {
      std::error_code error;  // such as an empty path, which open() refuses
      absolute_.push_back(std::filesystem::absolute(path, error));
      if (error) absolute_.back() = path;
    }
  }
  explicit ArrayFiles(const StoredArray& array) : paths_(1), absolute_(1), array_(array) {}

  std::size_t size() const { return paths_.size(); }
  /// Empty for a StoredArray, which keeps its file open.
  const std::filesystem::path& path(std::size_t i) const { return paths_[i]; }
  /// The same file, also if the working directory has changed meanwhile.
  const std::filesystem::path& absolute_path(std::size_t i) const { return absolute_[i]; }

  /// Calls `use` with the array in file `i`.
  void open(std::size_t i, const LoadOptions& options,
            const std::function<void(OpenArray&)>& use) const {
    if (array_) return array_->internal_with_array(use);
    with_path(paths_[i], [&] { with_array(File(absolute_[i]), options, use); });
  }

  /// Calls `work`, and adds what is known of file `i` to an Error without a path.
  void about(std::size_t i, const std::function<void()>& work) const {
    if (!array_) return with_path(paths_[i], work);
    std::optional<Error> known;  // with a path, and the member of an archive
    array_->internal_about([&] {
      try {
        work();
      } catch (const Error& error) {
        if (error.path().empty()) throw;
        known = error;
      }
    });
    if (known) throw Error(*known);
  }

  /// For keys.
  std::string name(std::size_t i) const {
    return array_ ? array_->name() : paths_[i].generic_string();
  }

  /// All of them, for messages.
  std::string names() const {
    if (array_) return array_->name();
    const std::string first = shown_path(paths_[0]);
    return size() == 1 ? first : first + " and " + counted(size() - 1, "other file");
  }

  /// A number for the names, without their common folder, and for where each file begins in the
  /// array.
  std::uint64_t hash(const std::function<std::uint64_t(std::size_t)>& begin_of) const {
    if (array_) return hash_of(array_->internal_short_name());
    const FileList files(paths_);
    const std::size_t common = files.common_folder();
    std::uint64_t all = mix({size()});
    for (std::size_t i = 0; i < size(); ++i) {
      all = mix({all, hash_of(files.name(i) + common), begin_of(i)});
    }
    return all;
  }

 private:
  std::vector<std::filesystem::path> paths_;
  std::vector<std::filesystem::path> absolute_;
  std::optional<StoredArray> array_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_FILES_HPP_

// ---- torch_npy/data/part_table.hpp

#ifndef TORCH_NPY_DATA_PART_TABLE_HPP_
#define TORCH_NPY_DATA_PART_TABLE_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// `before` + `size`. Throws Error (TooLarge) if the sum, or another one of two such sums, could
/// overflow: headers may declare any number of rows of 0 bytes.
inline std::size_t checked_end(std::size_t before, std::size_t size) {
  constexpr std::size_t kMost = SIZE_MAX / 4 + 1;
  if (before <= kMost && size <= kMost - before) return before + size;
  throw Error(ErrorCode::TooLarge,
              "more than " + std::to_string(kMost) + " samples or rows in all");
}

/// Parts of different size, one after another, which may be empty: finds the part that has an
/// index. For 10,000 parts that takes a few nanoseconds if they have similar sizes; a search takes
/// as long as copying a small row.
class PartTable {
 public:
  PartTable() : PartTable(std::vector<std::size_t>()) {}
  explicit PartTable(const std::vector<std::size_t>& sizes) {
    ends_.reserve(sizes.size());
    std::size_t end = 0;
    for (const std::size_t size : sizes) ends_.push_back(end = checked_end(end, size));
    while (end >> shift_ > 2 * sizes.size()) ++shift_;
    for (std::size_t first = 0; first >> shift_ <= end >> shift_;
         first += std::size_t{1} << shift_) {
      first_parts_.push_back(static_cast<std::uint32_t>(search(first, 0, ends_.size())));
    }
  }

  /// Sum of the sizes.
  std::size_t size() const { return ends_.empty() ? 0 : ends_.back(); }
  /// Number of parts.
  std::size_t count() const { return ends_.size(); }
  /// The end of each part.
  const std::vector<std::size_t>& ends() const { return ends_; }
  /// Where a part begins.
  std::size_t begin_of(std::size_t part) const { return part == 0 ? 0 : ends_[part - 1]; }

  /// The part that has an index, which is less than size().
  std::size_t part_of(std::size_t index) const {
    const std::size_t bucket = index >> shift_;
    const std::size_t last =
        bucket + 1 < first_parts_.size() ? first_parts_[bucket + 1] : ends_.size() - 1;
    return search(index, first_parts_[bucket], last);
  }

 private:
  /// The first of the parts [first, last) that ends after `index`; `last` if there is none.
  std::size_t search(std::size_t index, std::size_t first, std::size_t last) const {
    const auto begin = ends_.begin();
    return static_cast<std::size_t>(std::upper_bound(begin + static_cast<std::ptrdiff_t>(first),
                                                     begin + static_cast<std::ptrdiff_t>(last),
                                                     index) -
                                    begin);
  }

  std::vector<std::size_t> ends_;
  std::size_t shift_ = 0;
  std::vector<std::uint32_t> first_parts_;  // of the indices i << shift_
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PART_TABLE_HPP_

// ---- torch_npy/data/array_rows.hpp

#ifndef TORCH_NPY_DATA_ARRAY_ROWS_HPP_
#define TORCH_NPY_DATA_ARRAY_ROWS_HPP_

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// Rows along axis 0 of an array, copied into the tensor of a batch.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// What a row is, where it is stored and in a batch.
struct RowFormat {
  std::vector<std::int64_t> sizes;    ///< of a row
  std::vector<std::int64_t> strides;  ///< of a row in a batch, in elements
  std::size_t elements = 0;           ///< of a row
  c10::ScalarType type{};             ///< in a batch
  bool converts = false;              ///< whether `type` is not what is stored
  DType dtype;                        ///< as stored; for a tensor only its item size
  c10::ScalarType stored{};           ///< the same for LibTorch

  std::size_t element_size() const { return static_cast<std::size_t>(dtype.item_size); }
  std::size_t bytes() const { return elements * element_size(); }
};

/// Where the elements of rows are, if they are not adjacent. In elements.
struct RowLayout {
  Runs row;              ///< of one row
  std::size_t step = 0;  ///< from one row to the next
};

/// Rows of one array, one after another.
struct RowRun {
  const char* from = nullptr;  ///< the first element of the first row
  std::size_t rows = 0;
  const RowLayout* layout = nullptr;  ///< null: all elements are adjacent
};

/// Calls `use(from, elements)` for each part of a run whose elements are adjacent.
template <class Use>
void for_each_part(const RowFormat& format, const RowRun& run, const Use& use) {
  if (run.layout == nullptr) return use(run.from, run.rows * format.elements);
  const std::size_t size = format.element_size();
  for (std::size_t row = 0; row < run.rows; ++row) {
    const char* const from = run.from + row * run.layout->step * size;
    run.layout->row.for_each(
        0, format.elements,
        [&](std::uint64_t offset, std::size_t elements, std::uint64_t stride, std::size_t parts) {
          for (std::size_t i = 0; i < parts; ++i) {
            use(from + (offset + i * stride) * size, elements);
          }
        });
  }
}

/// Starts to fetch a run that will be copied soon: rows in random order are rarely in the cache.
inline void prefetch_run([[maybe_unused]] const std::vector<RowRun>& runs,
                         [[maybe_unused]] std::size_t i) {
#if defined(__GNUC__) || defined(__clang__)
  constexpr std::size_t kAhead = 2;
  if (i + kAhead < runs.size()) __builtin_prefetch(runs[i + kAhead].from);
#endif
}

/// Copies rows as they are stored, in native byte order.
inline void copy_runs(const RowFormat& format, const std::vector<RowRun>& runs, char* out) {
  char* to = out;
  const std::size_t size = format.element_size();
  for (std::size_t i = 0; i < runs.size(); ++i) {
    prefetch_run(runs, i);
    for_each_part(format, runs[i], [&](const char* from, std::size_t elements) {
      std::memcpy(to, from, elements * size);
      to += elements * size;
    });
  }
  swap_bytes(out, static_cast<std::size_t>(to - out), swap_unit(format.dtype));
}

/// Converts rows: long runs from where they are, and short ones together, because each conversion
/// by LibTorch takes about a microsecond to start.
class RowConverter {
 public:
  RowConverter(const RowFormat& format, BufferPool& pool, char* out)
      : format_(format), pool_(pool), to_(out) {}

  /// Throws Error (Mismatch) for a value that the dtype cannot hold.
  void convert_runs(const std::vector<RowRun>& runs) {
    for (std::size_t i = 0; i < runs.size(); ++i) {
      prefetch_run(runs, i);
      for_each_part(format_, runs[i], [&](const char* from, std::size_t elements) {
        if (is_direct(from, elements)) return convert_part(from, elements);
        collect(from, elements);
      });
    }
    flush();
  }

 private:
  bool is_direct(const char* from, std::size_t elements) const {
    if (swap_unit(format_.dtype) != 1) return false;
    if (is_wide_unsigned(format_.dtype)) return elements >= kLongWide;  // see widen()
    return elements >= kLong &&
           reinterpret_cast<std::uintptr_t>(from) % format_.element_size() == 0;
  }

  /// Collects elements in a block that stays in the processor's cache.
  void collect(const char* from, std::size_t elements) {
    const std::size_t size = format_.element_size();
    if (block_ == nullptr) block_ = pool_.take(kConvertBlock * size);
    while (elements != 0) {
      const std::size_t taken = (std::min)(elements, kConvertBlock - collected_);
      std::memcpy(static_cast<char*>(block_->data) + collected_ * size, from, taken * size);
      collected_ += taken;
      from += taken * size;
      elements -= taken;
      if (collected_ == kConvertBlock) flush();
    }
  }

  void flush() {
    if (collected_ == 0) return;
    swap_bytes(block_->data, collected_ * format_.element_size(), swap_unit(format_.dtype));
    convert_block(block_->data, std::exchange(collected_, 0));
  }

  void convert_part(const char* from, std::size_t elements) {
    flush();
    for (std::size_t first = 0; first < elements; first += kConvertBlock) {
      convert_block(from + first * format_.element_size(),
                    (std::min)(kConvertBlock, elements - first));
    }
  }

  void convert_block(const void* from, std::size_t elements) {
    convert(from, format_.dtype, format_.stored, to_, format_.type, elements);
    to_ += elements * c10::elementSize(format_.type);
  }

  static constexpr std::size_t kLong = 4096;  // elements
  static constexpr std::size_t kLongWide = 64;

  const RowFormat& format_;
  BufferPool& pool_;
  char* to_;
  std::unique_ptr<TensorMemory> block_;
  std::size_t collected_ = 0;  // elements in the block
};

/// The Error for rows that do not exist, and so have no names.
inline Error padded_samples() {
  return Error(ErrorCode::InvalidArgument,
               "the rows of an array that is filled outside of the file cannot be samples: use "
               "OutOfBounds::Throw or OutOfBounds::Shift");
}

/// The region of an array whose rows are samples. Throws Error (InvalidArgument) if it is not
/// inside the array, whatever out_of_bounds() says: rows that do not exist have no names.
inline Region sample_region(const LoadOptions& options, const std::vector<std::int64_t>& shape) {
  Region region = resolve_region(options.region(), shape, options.out_of_bounds());
  for (std::size_t axis = 0; axis < region.size(); ++axis) {
    if (region[axis].begin >= 0 && region[axis].end <= shape[axis]) continue;
    throw padded_samples();
  }
  return region;
}

/// Throws Error (InvalidArgument) if squeeze() removes axis 0 of an array of `axes` axes: its rows
/// are the samples.
inline void require_rows_stay(const LoadOptions& options, std::size_t axes) {
  const std::int64_t axis = options.squeeze().value_or(1);
  if (axis != 0 && axis + static_cast<std::int64_t>(axes) != 0) return;
  throw Error(ErrorCode::InvalidArgument,
              "squeeze(" + std::to_string(axis) +
                  ") would remove axis 0, whose rows are the samples; load() the array with "
                  "squeeze(), and make the dataset of the tensor");
}

/// The rows of an array along axis 0, or of several arrays one after another. Row numbers are less
/// than size(). Safe from any thread.
class ArrayRows {
 public:
  virtual ~ArrayRows() = default;
  ArrayRows(const ArrayRows&) = delete;
  ArrayRows& operator=(const ArrayRows&) = delete;

  /// Number of rows.
  std::size_t size() const { return parts_.size(); }
  /// The arrays, and how many rows each has.
  const PartTable& parts() const { return parts_; }
  /// What the rows are.
  const RowFormat& format() const { return format_; }
  /// How they are read.
  const LoadOptions& options() const { return options_; }

  /// Where the rows are from, for messages; empty for a tensor.
  virtual std::string name() const = 0;
  /// A number for the names of the arrays.
  virtual std::uint64_t hash() const = 0;
  /// A name for one row: its array, and its number there.
  virtual std::string key(std::size_t row) const = 0;
  /// Calls `work`, and adds the path of the array that has this row to an Error without a path;
  /// any of the arrays if there is no such row.
  virtual void about(std::size_t row, const std::function<void()>& work) const = 0;
  /// Checks the arrays whose first row is one of [begin, end), without reading values, and adds
  /// their Errors to `errors`. Throws Error (Exhausted, OutOfMemory).
  virtual void check(std::size_t /*begin*/, std::size_t /*end*/,
                     std::vector<Error>& /*errors*/) const {}

  /// Rows `first` as a tensor of shape (n, S...); with a length, `length` rows from each of them
  /// on, as a tensor of shape (n, length, S...). In pinned memory if `pin` or if the options say
  /// so. Throws Error (Mismatch) for a value that the dtype cannot hold.
  at::Tensor gather(c10::ArrayRef<std::size_t> first, std::optional<std::size_t> length,
                    bool pin) const {
    at::Tensor out;
    about(first.empty() ? 0 : first[0],
          [&] { out = on_device(gather_on_host(first, length, pin), options_); });
    return out;
  }

  /// A region of each of the rows `rows`, all of the same size, whose outside is `fill_value`.
  /// Undefined if it would take as long as to gather the rows.
  virtual at::Tensor gather_regions(c10::ArrayRef<std::size_t> /*rows*/,
                                    const std::vector<Region>& /*regions*/,
                                    const c10::Scalar& /*fill_value*/, bool /*pin*/) const {
    return {};
  }

  /// The sizes of what gather() returns.
  std::vector<std::int64_t> sizes_of(std::size_t count, std::optional<std::size_t> length) const {
    std::vector<std::int64_t> sizes = {static_cast<std::int64_t>(count)};
    if (length) sizes.push_back(static_cast<std::int64_t>(*length));
    sizes.insert(sizes.end(), format_.sizes.begin(), format_.sizes.end());
    return sizes;
  }

 protected:
  ArrayRows(const LoadOptions& options, std::shared_ptr<BufferPool> pool)
      : options_(options), pool_(std::move(pool)) {
    require_device(options.device());
  }

  /// For the constructors: the numbers of rows of the arrays, and what the rows are.
  void set_rows(const std::vector<std::size_t>& sizes, RowFormat format) {
    parts_ = PartTable(sizes);
    format_ = std::move(format);
  }

  BufferPool& pool() const { return *pool_; }

  virtual at::Tensor gather_on_host(c10::ArrayRef<std::size_t> first,
                                    std::optional<std::size_t> length, bool pin) const {
    const std::size_t rows = length.value_or(1);
    std::vector<std::int64_t> strides = {static_cast<std::int64_t>(format_.elements)};
    if (length) strides.insert(strides.begin(), static_cast<std::int64_t>(rows * format_.elements));
    strides.insert(strides.end(), format_.strides.begin(), format_.strides.end());
    const std::size_t bytes =
        first.size() * rows * format_.elements * c10::elementSize(format_.type);
    at::Tensor out = empty_from(*pool_, bytes, format_.type, sizes_of(first.size(), length),
                                strides, pin || pins_memory(options_));
    if (bytes != 0) copy(first, rows, static_cast<char*>(out.data_ptr()));
    return out;
  }

  /// Calls `use` with the `length` rows from each row of `first` on; what they point to exists
  /// until it returns.
  virtual void with_runs(c10::ArrayRef<std::size_t> first, std::size_t length,
                         const std::function<void(const std::vector<RowRun>&)>& use) const = 0;

 private:
  void copy(c10::ArrayRef<std::size_t> first, std::size_t length, char* out) const {
    try {
      with_runs(first, length, [&](const std::vector<RowRun>& runs) {
        if (format_.converts) return RowConverter(format_, *pool_, out).convert_runs(runs);
        copy_runs(format_, runs, out);
      });
    } catch (const Error& error) {
      if (first.size() == 1) about(first[0], [&] { throw error; });
      // Values of several samples are converted together: find out which one is wrong.
      if (error.code() == ErrorCode::Mismatch) {
        for (const std::size_t row : first) copy(row, length, out);
      }
      throw;
    }
  }

  LoadOptions options_;
  std::shared_ptr<BufferPool> pool_;
  PartTable parts_;
  RowFormat format_;
};

/// The rows of a tensor.
class TensorRows final : public ArrayRows {
 public:
  /// If the tensor was loaded, `name` is what it was loaded from, and `begin` the number of its
  /// first row there. Throws Error: Mismatch for a 0-d tensor; InvalidArgument and Mismatch as the
  /// options say.
  TensorRows(at::Tensor tensor, const LoadOptions& options, std::shared_ptr<BufferPool> pool,
             std::string name = {}, std::size_t begin = 0, std::uint64_t hash = 0)
      : ArrayRows(options, std::move(pool)), name_(std::move(name)), begin_(begin), hash_(hash) {
    if (!tensor.defined() || tensor.dim() == 0) {
      throw Error(ErrorCode::Mismatch, "a 0-d tensor has no axis 0 to take samples from");
    }
    if (!options.region().empty()) {
      const Region region = sample_region(options, tensor.sizes().vec());
      begin_ = static_cast<std::size_t>(region[0].begin);
      for (std::size_t axis = 0; axis < region.size(); ++axis) {
        const auto [first, last] = region[axis];
        tensor = tensor.narrow(static_cast<std::int64_t>(axis), first, last - first);
      }
    }
    if (const auto axis = options.squeeze()) {
      require_rows_stay(options, tensor.sizes().size());
      tensor = tensor.squeeze(static_cast<std::int64_t>(squeezed_axis(tensor.sizes(), *axis)));
    }
    if (options.dtype()) tensor = tensor.to(*options.dtype());
    // A view, which the caller cannot transpose in place.
    const bool has_view =
        tensor.layout() == c10::kStrided && !tensor.is_quantized() && !tensor._is_zerotensor();
    tensor_ = has_view ? tensor.view_as(tensor) : tensor;
    can_copy_ = has_view && tensor_.is_cpu() && tensor_.is_contiguous() &&
                !tensor_.requires_grad() && !tensor_.is_conj() && !tensor_.is_neg();
    RowFormat format;
    format.sizes = tensor_.sizes().slice(1).vec();
    format.strides = dense_strides(format.sizes, false);
    format.type = tensor_.scalar_type();
    format.dtype.item_size = static_cast<std::int64_t>(c10::elementSize(format.type));
    format.elements = static_cast<std::size_t>(checked_bytes(format.sizes, 1).value_or(0));
    set_rows({static_cast<std::size_t>(tensor_.size(0))}, std::move(format));
  }

  std::string name() const override { return name_; }
  std::string key(std::size_t row) const override {
    return name_ + "[" + std::to_string(begin_ + row) + "]";
  }
  std::uint64_t hash() const override { return hash_; }
  void about(std::size_t, const std::function<void()>& work) const override { with_path({}, work); }

 private:
  at::Tensor gather_on_host(c10::ArrayRef<std::size_t> first, std::optional<std::size_t> length,
                            bool pin) const override {
    if (can_copy_) return ArrayRows::gather_on_host(first, length, pin);
    const std::size_t rows = length.value_or(1);
    const at::Tensor indices =
        at::empty({static_cast<std::int64_t>(first.size() * rows)}, at::kLong);
    auto* index = indices.data_ptr<std::int64_t>();
    for (const std::size_t row : first) {
      for (std::size_t k = 0; k < rows; ++k) *index++ = static_cast<std::int64_t>(row + k);
    }
    at::Tensor out = tensor_.index_select(0, indices.to(tensor_.device()));
    return length ? out.reshape(sizes_of(first.size(), length)) : out;
  }

  void with_runs(c10::ArrayRef<std::size_t> first, std::size_t length,
                 const std::function<void(const std::vector<RowRun>&)>& use) const override {
    const char* const data = static_cast<const char*>(tensor_.data_ptr());
    std::vector<RowRun> runs;
    runs.reserve(first.size());
    for (const std::size_t row : first)
      runs.push_back({data + row * format().bytes(), length, nullptr});
    use(runs);
  }

  std::string name_;
  std::size_t begin_;  // the number of row 0 in the caller's tensor or file
  std::uint64_t hash_;
  at::Tensor tensor_;
  bool can_copy_ = false;  // by memcpy
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_ROWS_HPP_

// ---- torch_npy/data/mapped_files.hpp

#ifndef TORCH_NPY_DATA_MAPPED_FILES_HPP_
#define TORCH_NPY_DATA_MAPPED_FILES_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Mappings that one array of files may have: a quarter of what Linux allows a process by default
/// (vm.max_map_count).
constexpr std::size_t kMaxMappings = 16384;

/// Parts of many files, of which at most `limit`, and those of the batches that are being read, are
/// mapped at a time. The others are mapped again when they are used. A mapping needs no open file.
class MappedFiles {
 public:
  MappedFiles(std::size_t count, std::size_t limit) : data_(count), parts_(count), limit_(limit) {}

  /// Sets part `i` to bytes [offset, offset + size) of an open file, and maps it if there is room.
  /// `size` is not 0. Each part is set once, by any thread.
  void set(std::size_t i, const FileRange& range, std::uint64_t offset, std::size_t size) {
    Part& part = parts_[i];
    part.offset = range.begin + offset;
    part.size = size;
    if (may_close()) part.version = version_of(*range.file);
    if (i < limit_) (void)keep(i, Mapping::of(range, offset, size));
  }

  /// While one of these exists, what data() returns is valid.
  class Use {
   public:
    explicit Use(const MappedFiles& files) {
      if (!files.may_close()) return;
      files.close_some();
      lock_ = std::shared_lock(files.mutex_);
    }

   private:
    std::shared_lock<std::shared_mutex> lock_;
  };

  /// The bytes of part `i`, which was set. `path` is that of its file. Throws Error: NotFound, Io,
  /// Exhausted or OutOfMemory if it has to be mapped again; Io if the file has changed meanwhile.
  const char* data(std::size_t i, const std::filesystem::path& path) const {
    if (may_close()) parts_[i].used.store(++clock_, std::memory_order_relaxed);
    const char* const data = data_[i].load(std::memory_order_acquire);
    return data != nullptr ? data : map_again(i, path);
  }

  /// How many are mapped.
  std::size_t mapped() const { return mapped_; }

 private:
  struct Part {
    std::uint64_t offset = 0;
    std::size_t size = 0;
    std::string version;  // empty if it is never mapped again
    std::optional<Mapping> mapping;
    std::atomic<std::uint64_t> used{0};
  };

  bool may_close() const { return parts_.size() > limit_; }

  /// Another thread may have mapped it meanwhile.
  const char* keep(std::size_t i, Mapping mapping) const {
    const char* there = nullptr;
    const auto* const data = static_cast<const char*>(mapping.data());
    if (!data_[i].compare_exchange_strong(there, data)) return there;
    parts_[i].mapping.emplace(std::move(mapping));
    ++mapped_;
    return data;
  }

  const char* map_again(std::size_t i, const std::filesystem::path& path) const {
    return with_path(path, [&] {
      const NamedFile file(path);
      if (file.version() != parts_[i].version) {
        throw Error(ErrorCode::Io, "it has changed since the dataset was made: make it again");
      }
      return keep(i, Mapping::of(file.internal_traits().range, parts_[i].offset, parts_[i].size));
    });
  }

  /// If too many are mapped, closes those that were not used for the longest time, a sixteenth of
  /// all. Waits for the batches that are being read.
  void close_some() const {
    if (mapped_ <= limit_) return;
    const std::unique_lock lock(mutex_);
    if (mapped_ <= limit_) return;
    std::vector<std::pair<std::uint64_t, std::size_t>> open;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (parts_[i].mapping) open.emplace_back(parts_[i].used.load(), i);
    }
    const std::size_t count = open.size() - limit_ + limit_ / 16;
    const auto end = open.begin() + static_cast<std::ptrdiff_t>(count);
    std::nth_element(open.begin(), end, open.end());
    for (auto it = open.begin(); it != end; ++it) {
      data_[it->second] = nullptr;
      parts_[it->second].mapping.reset();
      --mapped_;
    }
  }

  // Apart from the rest: of many files, these stay in the processor's cache.
  mutable std::vector<std::atomic<const char*>> data_;  // null if it is not mapped
  mutable std::vector<Part> parts_;
  const std::size_t limit_;
  mutable std::shared_mutex mutex_;  // locked by those who close
  mutable std::atomic<std::size_t> mapped_{0};
  mutable std::atomic<std::uint64_t> clock_{0};
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAPPED_FILES_HPP_

// ---- torch_npy/data/stored_rows.hpp

#ifndef TORCH_NPY_DATA_STORED_ROWS_HPP_
#define TORCH_NPY_DATA_STORED_ROWS_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// One of the files of an array.
struct Shard {
  std::size_t rows = 0;      ///< in the file
  std::size_t begin = 0;     ///< the first of them that is used
  std::uint64_t offset = 0;  ///< of the first element in the file, in bytes
  bool fortran_order = false;
  std::vector<std::int64_t> strides;  ///< of the axes in the file, in elements
  RowLayout layout;                   ///< of its rows
};

/// What to load of each file: all rows, whatever rows() says, and the region of the other axes.
inline LoadOptions options_of_file(const LoadOptions& options, bool frames) {
  Region region = options.region();
  if (!region.empty()) {
    if (frames) {
      region.erase(region.begin());
    } else {
      region[0] = AxisRange();
    }
  }
  return LoadOptions(options).region(std::move(region));
}

/// What a file has, of which `plan` loads all. With `frames`, all of it is one row.
inline std::pair<Shard, RowFormat> shard_of(const LoadPlan& plan, const LoadOptions& options,
                                            bool frames) {
  if (plan.sizes.size() == plan.inner_axes && !frames) {
    throw Error(ErrorCode::Mismatch, "a 0-d array has no axis 0 to take samples from");
  }
  if (plan.is_padded()) throw padded_samples();
  if (!frames) require_rows_stay(options, plan.sizes.size() + 1);
  RowFormat format;
  format.sizes.assign(plan.sizes.begin() + (frames ? 0 : 1), plan.sizes.end());
  format.strides = dense_strides(format.sizes, plan.fortran_order, plan.inner_axes);
  format.elements = static_cast<std::size_t>(checked_bytes(format.sizes, 1).value_or(0));
  format.type = plan.type;
  format.converts = plan.converts();
  format.dtype = plan.dtype;
  format.stored = plan.stored;
  Shard shard;
  shard.rows = frames ? 1 : static_cast<std::size_t>(plan.sizes[0]);
  shard.offset = plan.offset;
  shard.fortran_order = plan.fortran_order;
  shard.strides = plan.file_strides;
  std::vector<std::int64_t> row = plan.sizes;
  if (!frames) row[0] = 1;
  shard.layout.row = runs_of(row, plan.file_strides, plan.fortran_order, plan.inner_axes);
  shard.layout.step = frames ? format.elements : static_cast<std::size_t>(plan.file_strides[0]);
  return {std::move(shard), std::move(format)};
}

/// Throws Error (Mismatch) if rows cannot be joined to those of the first file. `what` are the
/// rows, and `first` is the name of that file, for the message.
inline void require_alike(const RowFormat& found, const RowFormat& expected,
                          const std::string& what, const std::string& first) {
  const auto shown = [](const RowFormat& format) {
    return "shape " + python_tuple(format.sizes) + " and dtype " + descr_literal(format.dtype);
  };
  if (found.sizes != expected.sizes || found.dtype != expected.dtype) {
    throw Error(ErrorCode::Mismatch,
                "expected " + what + " of " + shown(expected) + first + "; found " + shown(found));
  }
  bool is_same_order = true;
  for (std::size_t axis = 0; axis < found.sizes.size(); ++axis) {  // NumPy's name for both is C
    is_same_order =
        is_same_order && (found.sizes[axis] == 1 || found.strides[axis] == expected.strides[axis]);
  }
  if (!is_same_order) {
    throw Error(ErrorCode::Mismatch,
                "expected the same order of axes, C or Fortran" + first +
                    "; found the other one: save the file again with np.ascontiguousarray or "
                    "np.asfortranarray");
  }
}

/// The rows of arrays in files, which are mapped: one array, or several, called shards, which are
/// joined along axis 0.
class StoredRows final : public ArrayRows {
 public:
  /// Reads the headers of the files, at most 32 at a time. With `frames`, each file is one row. A
  /// StoredArray has to be in a file. `max_mappings`: see MappedFiles. Throws Error: what load()
  /// throws; Mismatch for a 0-d array that is not a frame, and if a file is unlike the first.
  StoredRows(ArrayFiles files, const LoadOptions& options, std::shared_ptr<BufferPool> pool,
             bool frames = false, std::size_t max_mappings = kMaxMappings)
      : ArrayRows(options, std::move(pool)),
        files_(std::move(files)),
        frames_(frames),
        shards_(files_.size()),
        maps_(files_.size(), max_mappings) {
    RowFormat first;
    bool has_rows = false;
    const auto open = [&](std::size_t i) {
      files_.open(i, options, [&](OpenArray& array) {
        LoadPlan plan = array.plan(options_of_file(options, frames_));
        auto [shard, format] = shard_of(plan, options, frames_);
        if (i == 0) first = format;
        if (shard.rows == 0) format.strides = first.strides;  // saved in C order, always
        if (!has_rows) first.strides = format.strides;
        require_alike(format, first);
        if (!has_rows) plan_ = plan;
        if (!has_rows) has_rows = shard.rows != 0;
        shards_[i] = std::move(shard);
        if (plan.count != 0) {
          maps_.set(i, array.source.internal_traits().range, plan.offset,
                    static_cast<std::size_t>(plan.from.extent()) * plan.item_size());
        }
      });
    };
    std::size_t opened = 0;
    while (!has_rows && opened < shards_.size()) open(opened++);
    constexpr std::size_t kThreads = 32;  // they wait for the disk
    for_each_index(shards_.size() - opened, kThreads, [&](std::size_t i) { open(opened + i); });
    select_rows(std::move(first));
  }

  std::string name() const override { return files_.names(); }

  std::string key(std::size_t row) const override {
    const std::size_t i = parts().part_of(row);
    if (frames_) return files_.name(i);
    const std::size_t number = shards_[i].begin + row - parts().begin_of(i);
    return files_.name(i) + "[" + std::to_string(number) + "]";
  }

  std::uint64_t hash() const override {
    return files_.hash([&](std::size_t i) { return parts().begin_of(i); });
  }

  void about(std::size_t row, const std::function<void()>& work) const override {
    files_.about(row < size() ? parts().part_of(row) : 0, work);
  }

  void check(std::size_t begin, std::size_t end, std::vector<Error>& errors) const override {
    const bool has_last = end == size();  // then also what is empty after it
    std::size_t i = parts().part_of(begin);
    while (i != 0 && parts().begin_of(i - 1) >= begin) --i;  // shards without rows
    for (; i < shards_.size(); ++i) {
      if (parts().begin_of(i) < begin) continue;
      if (parts().begin_of(i) >= end && !has_last) break;
      try {
        files_.open(i, options(), [&](OpenArray& array) { require_same(array, i); });
      } catch (const Error& error) {
        if (is_of_system(error)) throw;
        errors.push_back(error);
      }
    }
  }

  at::Tensor gather_regions(c10::ArrayRef<std::size_t> rows, const std::vector<Region>& regions,
                            const c10::Scalar& fill_value, bool pin) const override {
    if (frames_ || plan_.inner_axes != 0 || rows.empty() || format().elements == 0) return {};
    const MappedFiles::Use in_use(maps_);
    at::Tensor out;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      about(rows[i], [&] {
        const LoadPlan plan = plan_of_region(rows[i], regions[i], fill_value);
        if (!out.defined()) out = empty_regions(plan, rows.size(), pin);
        const std::size_t shard = parts().part_of(rows[i]);
        const MemorySource source(maps_.data(shard, files_.absolute_path(shard)), SIZE_MAX);
        fill(ArrayBytes(source, nullptr, plan.end), plan,
             static_cast<char*>(out.data_ptr()) + i * plan.bytes, /*threads=*/1);
      });
    }
    about(rows[0], [&] { out = on_device(std::move(out), options()); });
    return out;
  }

  /// How many files are mapped at the moment.
  std::size_t mapped() const { return maps_.mapped(); }

 private:
  void require_alike(const RowFormat& found, const RowFormat& expected) const {
    detail::require_alike(found, expected, frames_ ? "frames" : "rows",
                          shards_.size() == 1 ? "" : ", as in " + shown_path(files_.path(0)));
  }

  /// Throws Error (Mismatch) if a file is not what it was.
  void require_same(OpenArray& array, std::size_t i) const {
    const auto [found, found_format] =
        shard_of(array.plan(options_of_file(options(), frames_)), options(), frames_);
    require_alike(found_format, format());
    if (found.rows == shards_[i].rows && found.offset == shards_[i].offset) return;
    throw Error(ErrorCode::Mismatch, "it has changed since the dataset was made: expected " +
                                         counted(shards_[i].rows, "row") + ", found " +
                                         counted(found.rows, "row") + "; make the dataset again");
  }

  void select_rows(RowFormat format) {
    std::vector<std::size_t> sizes;
    for (const Shard& shard : shards_) {
      sizes.push_back(shard.rows);
      const bool is_adjacent = shard.layout.row.is_one() && shard.layout.step == format.elements;
      has_layouts_ = has_layouts_ || (shard.rows != 0 && !is_adjacent);
    }
    if (!options().region().empty()) {
      const PartTable all(sizes);
      const AxisRange range = options().region()[0];
      std::vector<std::int64_t> shape = format.sizes;
      shape.insert(shape.begin(), static_cast<std::int64_t>(all.size()));
      const AxisRange rows = sample_region(
          LoadOptions().region({range}).out_of_bounds(options().out_of_bounds()), shape)[0];
      const auto within = [&](std::int64_t row, std::size_t i) {
        const std::size_t begin = all.begin_of(i);
        return std::clamp(static_cast<std::size_t>(row), begin, all.ends()[i]) - begin;
      };
      if (rows.begin < rows.end) first_used_ = all.part_of(static_cast<std::size_t>(rows.begin));
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        shards_[i].begin = within(rows.begin, i);
        sizes[i] = within(rows.end, i) - shards_[i].begin;
      }
    }
    set_rows(sizes, std::move(format));
  }

  void with_runs(c10::ArrayRef<std::size_t> first, std::size_t length,
                 const std::function<void(const std::vector<RowRun>&)>& use) const override {
    const MappedFiles::Use in_use(maps_);
    std::vector<RowRun> runs;
    runs.reserve(first.size());
    for (std::size_t row : first) {
      std::size_t left = length;
      for (std::size_t i = parts().part_of(row); left != 0; ++i) {
        const std::size_t taken = (std::min)(left, parts().ends()[i] - row);
        if (taken == 0) continue;  // an empty shard
        runs.push_back(run_of(i, row - parts().begin_of(i), taken));
        row += taken;
        left -= taken;
      }
    }
    use(runs);
  }

  /// How to read a region of a row; offsets count from the start of the mapping.
  LoadPlan plan_of_region(std::size_t row, Region region, const c10::Scalar& fill_value) const {
    const std::size_t i = parts().part_of(row);
    const Shard& shard = shards_[i];
    LoadPlan plan = plan_;
    plan.sizes[0] = static_cast<std::int64_t>(shard.rows);
    plan.fortran_order = shard.fortran_order;
    plan.file_strides = shard.strides;
    plan.offset = 0;
    const auto first = static_cast<std::int64_t>(shard.begin + row - parts().begin_of(i));
    region.insert(region.begin(), {first, first + 1});
    take_region(plan, LoadOptions()
                          .region(std::move(region))
                          .out_of_bounds(OutOfBounds::Fill)
                          .fill_value(fill_value));
    return plan;
  }

  /// A tensor for regions, those of a Fortran-ordered array in that order.
  at::Tensor empty_regions(const LoadPlan& plan, std::size_t count, bool pin) const {
    const std::vector<std::int64_t> region(plan.sizes.begin() + 1, plan.sizes.end());
    std::vector<std::int64_t> strides = dense_strides(region, plan.fortran_order);
    std::vector<std::int64_t> sizes = plan.sizes;
    sizes[0] = static_cast<std::int64_t>(count);
    strides.insert(strides.begin(), static_cast<std::int64_t>(plan.count));
    return empty_from(pool(), count * plan.bytes, plan.type, sizes, strides,
                      pin || pins_memory(options()));
  }

  RowRun run_of(std::size_t i, std::size_t row, std::size_t rows) const {
    const RowLayout* const layout = has_layouts_ ? &shards_[i].layout : nullptr;
    const std::size_t step = layout == nullptr ? format().elements : layout->step;
    if (i == first_used_) row += shards_[i].begin;
    return {maps_.data(i, files_.absolute_path(i)) + row * step * format().element_size(), rows,
            layout};
  }

  ArrayFiles files_;
  bool frames_;
  std::vector<Shard> shards_;
  // So that reading a row does not look at its shard, which is rarely in the processor's cache.
  bool has_layouts_ = false;    // the elements of a row are not adjacent in some shard
  std::size_t first_used_ = 0;  // the only shard that may begin after its first row
  MappedFiles maps_;
  LoadPlan plan_;  // of the first file that has rows
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STORED_ROWS_HPP_

// ---- torch_npy/data/array_data.hpp

#ifndef TORCH_NPY_DATA_ARRAY_DATA_HPP_
#define TORCH_NPY_DATA_ARRAY_DATA_HPP_

/// @file
/// ArrayData: an array whose rows are samples, wherever it is.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// An array whose rows along axis 0 are samples: an .npy file, several of them joined along axis 0
/// (shards), a StoredArray, or a tensor. Converts from each of them.
///
/// Files are mapped, and so may be larger than memory. As with LoadOptions::mmap, truncating a file
/// meanwhile ends the process.
///
/// A StoredArray is mapped if its bytes are in a file as they are: in an .npy file, or stored in an
/// archive. Its CRC is then not checked. Any other one (deflated, in memory, in another ByteSource)
/// is loaded once, when the dataset is made, as load() does; copies of the dataset share it.
///
/// Shards may have different lengths, also 0. All other sizes, the dtype and the order of axes have
/// to be those of the first one. Any number of them needs no open files, and at most 16,384
/// mappings: of more shards, those that were not used for the longest time are closed, and mapped
/// again when they are used.
class ArrayData {
 public:
  /// The file at a path.
  template <class Path,
            class = std::enable_if_t<std::is_convertible_v<const Path&, std::filesystem::path>>>
  ArrayData(const Path& path)  // NOLINT(google-explicit-constructor)
      : where_(Paths{path}) {}
  /// The files at several paths, in this order.
  template <class Path,
            class = std::enable_if_t<std::is_convertible_v<const Path&, std::filesystem::path>>>
  ArrayData(const std::vector<Path>& paths)  // NOLINT(google-explicit-constructor)
      : where_(Paths(paths.begin(), paths.end())) {}
  /// The same for `{"x_000.npy", "x_001.npy"}`.
  ArrayData(std::initializer_list<const char*> paths) : where_(Paths(paths.begin(), paths.end())) {}
  /// The same for `{folder / "x_000.npy", folder / "x_001.npy"}`.
  ArrayData(std::initializer_list<std::filesystem::path> paths) : where_(Paths(paths)) {}
  /// The files of a folder: `folder_dataset.files()`.
  ArrayData(const FileList& files)  // NOLINT(google-explicit-constructor)
      : where_(Paths()) {
    for (std::size_t i = 0; i < files.size(); ++i) std::get<Paths>(where_).push_back(files[i]);
  }
  /// An array in a file, an archive, memory or any ByteSource: `NpzFile("a.npz").array("x")`.
  ArrayData(StoredArray array)  // NOLINT(google-explicit-constructor)
      : where_(std::move(array)) {}
  /// A tensor, which is not copied: later changes of it change the samples. Of the options, dtype()
  /// copies it.
  ArrayData(at::Tensor tensor)  // NOLINT(google-explicit-constructor)
      : where_(std::move(tensor)) {}

  /// Whether it is in several files. @private
  bool internal_is_list() const {
    const auto* const paths = std::get_if<Paths>(&where_);
    return paths != nullptr && paths->size() > 1;
  }

  /// Its rows; with `frames`, each file is one row. Throws Error. @private
  std::shared_ptr<const detail::ArrayRows> internal_rows(const LoadOptions& options,
                                                         std::shared_ptr<detail::BufferPool> pool,
                                                         bool frames = false) const {
    if (const auto* const paths = std::get_if<Paths>(&where_)) {
      return std::make_shared<const detail::StoredRows>(detail::ArrayFiles(*paths), options,
                                                        std::move(pool), frames);
    }
    if (frames) {
      throw Error(ErrorCode::InvalidArgument,
                  "frames(true) takes a list of files, one for each frame");
    }
    if (const auto* const array = std::get_if<StoredArray>(&where_)) {
      if (!is_mappable(*array)) return loaded(*array, options, std::move(pool));
      return std::make_shared<const detail::StoredRows>(detail::ArrayFiles(*array), options,
                                                        std::move(pool));
    }
    return std::make_shared<const detail::TensorRows>(std::get<at::Tensor>(where_), options,
                                                      std::move(pool));
  }

 private:
  using Paths = std::vector<std::filesystem::path>;

  /// Whether the bytes of an array are in a file as they are.
  static bool is_mappable(const StoredArray& array) {
    return array.internal_with_array([](detail::OpenArray& open) {
      return open.source.internal_traits().range.file != nullptr;
    });
  }

  static std::shared_ptr<const detail::ArrayRows> loaded(const StoredArray& array,
                                                         const LoadOptions& options,
                                                         std::shared_ptr<detail::BufferPool> pool) {
    std::size_t begin = 0;  // the first row
    array.internal_about([&] {
      if (array.shape().empty()) return;
      begin = static_cast<std::size_t>(detail::sample_region(options, array.shape())[0].begin);
    });
    LoadOptions whole = options;
    const at::Tensor tensor = array.load(whole.device(c10::kCPU).pinned_memory(false));
    return array.internal_about([&] {
      if (options.squeeze()) detail::require_rows_stay(options, tensor.sizes().size() + 1);
      return std::make_shared<const detail::TensorRows>(
          tensor, LoadOptions().device(options.device()).pinned_memory(options.pinned_memory()),
          std::move(pool), array.name(), begin,
          detail::mix({detail::hash_of(array.internal_short_name()),
                       detail::fingerprint_of(options.region())}));
    });
  }

  std::variant<Paths, StoredArray, at::Tensor> where_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_DATA_HPP_

// ---- torch_npy/data/array_source.hpp

#ifndef TORCH_NPY_DATA_ARRAY_SOURCE_HPP_
#define TORCH_NPY_DATA_ARRAY_SOURCE_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// Samples that are rows of an array.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Throws Error (Mismatch) if there is not one row of `target` for each row of `data`.
inline void require_targets(const ArrayRows& data, const ArrayRows& target) {
  if (data.size() == target.size()) return;
  const auto from = [](const ArrayRows& rows) {
    return rows.name().empty() ? std::string() : ", in " + rows.name();
  };
  data.about(0, [&] {
    throw Error(ErrorCode::Mismatch, "expected one target for each sample, found " +
                                         counted(data.size(), "sample") +
                                         (data.parts().count() == 1 ? "" : from(data)) + " and " +
                                         counted(target.size(), "target") + from(target));
  });
}

/// A number for an array and for how its rows are read.
inline std::uint64_t fingerprint_of(const ArrayRows& rows) {
  const RowFormat& format = rows.format();
  std::uint64_t print = mix({rows.hash(), static_cast<std::uint64_t>(format.type), rows.size(),
                             fingerprint_of(rows.options().region())});
  for (const std::int64_t size : format.sizes) {
    print = mix({print, static_cast<std::uint64_t>(size)});
  }
  return print;
}

/// The Errors of the arrays whose first row is one of [begin, end).
inline std::vector<Error> check_rows(const ArrayRows& data, const ArrayRows* target,
                                     std::size_t begin, std::size_t end) {
  std::vector<Error> errors;
  data.check(begin, end, errors);
  if (target != nullptr) target->check(begin, end, errors);
  return errors;
}

/// Rows as class labels. Throws Error (InvalidArgument) if a row is not one integer.
inline std::vector<std::int64_t> labels_from(const ArrayRows& rows,
                                             c10::ArrayRef<std::size_t> indices) {
  const RowFormat& format = rows.format();
  if (!format.sizes.empty() || !c10::isIntegralType(format.type, /*includeBool=*/true)) {
    rows.about(0, [&] {
      throw Error(ErrorCode::InvalidArgument,
                  "class labels are one integer for each sample: expected targets of shape (" +
                      std::to_string(rows.size()) + ",), found shape " +
                      python_tuple(rows.sizes_of(rows.size(), std::nullopt)) + " and dtype " +
                      c10::toString(format.type));
    });
  }
  const at::Tensor labels =
      rows.gather(indices, std::nullopt, /*pin=*/false).to(at::kCPU, at::kLong).contiguous();
  const auto* const first = labels.data_ptr<std::int64_t>();
  return {first, first + labels.numel()};
}

/// One row a sample; and for an Example with a target a row of a second array.
template <class E>
class ArraySource : public SampleSource<E> {
 public:
  /// `target` is null if E has none. Throws Error (Mismatch) if the lengths differ.
  ArraySource(std::shared_ptr<const ArrayRows> data, std::shared_ptr<const ArrayRows> target)
      : data_(std::move(data)), target_(std::move(target)) {
    if (target_) require_targets(*data_, *target_);
  }

  std::size_t size() const override { return data_->size(); }
  std::string key(std::size_t sample) const override { return data_->key(sample); }
  bool is_in_memory() const override { return true; }
  std::uint64_t fingerprint() const override { return fingerprint_of(*data_); }

  std::int64_t length(std::size_t sample) const override {
    if (!data_->format().sizes.empty()) return data_->format().sizes[0];
    data_->about(sample, [] {
      throw Error(ErrorCode::Mismatch, "samples that are single numbers have no length");
    });
    return 0;
  }

  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    return target_ ? labels_from(*target_, samples) : SampleSource<E>::labels(samples);
  }

  std::vector<Error> check(std::size_t sample) const override {
    return check_rows(*data_, target_.get(), sample, sample + 1);
  }

  bool reads_regions() const override { return true; }

  SampleRows<E> read(Request& request) const override {
    std::vector<std::size_t> samples;
    samples.reserve(request.picks.size());
    for (const Pick& pick : request.picks) samples.push_back(pick.sample);
    if (request.regions != nullptr && !samples.empty()) {
      if (auto cropped = read_regions(*request.regions, request, samples)) {
        for (Pick& pick : request.picks) pick.is_cropped = true;
        return std::move(*cropped);
      }
    }
    const auto rows_of = [&](const ArrayRows& rows) {
      return rows.gather(samples, std::nullopt, request.pin_memory);
    };
    if constexpr (kHasTarget<E>) {
      return Batch<E>(E(rows_of(*data_), rows_of(*target_)));
    } else {
      return Batch<E>(E(rows_of(*data_)));
    }
  }

 private:
  /// The regions of the samples; none if one of them cannot be read alone.
  std::optional<Batch<E>> read_regions(const SampleRegions& regions, const Request& request,
                                       const std::vector<std::size_t>& samples) const {
    std::vector<Region> of_data;
    std::vector<Region> of_target;
    for (const Pick& pick : request.picks) {
      const c10::IntArrayRef sizes = data_->format().sizes;
      const auto data = regions.of_data(pick, sizes);
      if (!data) return std::nullopt;
      const auto target = target_ ? regions.of_target(pick, sizes, target_->format().sizes)
                                  : std::optional(Region());
      if (!target) return std::nullopt;
      of_data.push_back(*data);
      of_target.push_back(*target);
    }
    const auto gather = [&](const ArrayRows& rows, const std::vector<Region>& all,
                            std::size_t part) {
      return all[0].empty()
                 ? rows.gather(samples, std::nullopt, request.pin_memory)
                 : rows.gather_regions(samples, all, regions.fill_value(part), request.pin_memory);
    };
    at::Tensor target;
    if (target_) {
      target = gather(*target_, of_target, 1);
      if (!target.defined()) return std::nullopt;
    }
    at::Tensor data = gather(*data_, of_data, 0);
    if (!data.defined()) return std::nullopt;
    if constexpr (kHasTarget<E>) {
      return Batch<E>(E(std::move(data), std::move(target)));
    } else {
      return Batch<E>(E(std::move(data)));
    }
  }

  std::shared_ptr<const ArrayRows> data_;
  std::shared_ptr<const ArrayRows> target_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_SOURCE_HPP_

// ---- torch_npy/data/batch_tensors.hpp

#ifndef TORCH_NPY_DATA_BATCH_TENSORS_HPP_
#define TORCH_NPY_DATA_BATCH_TENSORS_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Layout.h>

#include <cstdint>
#include <type_traits>
#include <vector>

// The tensors in a batch of any type.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

// Visits the tensors in a batch: BatchTensors<Batch>::each(batch, call) calls call(at::Tensor&) for
// each one, always in the same order. Types without tensors have no each().
template <class Part>
struct BatchTensors {
  static constexpr bool kAny = false;
};

template <>
struct BatchTensors<at::Tensor> {
  static constexpr bool kAny = true;

  template <class Call>
  static void each(at::Tensor& tensor, const Call& call) {
    call(tensor);
  }
};

template <class Data, class Target>
struct BatchTensors<torch::data::Example<Data, Target>> {
  static constexpr bool kAny = BatchTensors<Data>::kAny || BatchTensors<Target>::kAny;

  template <class Call>
  static void each(torch::data::Example<Data, Target>& example, const Call& call) {
    if constexpr (BatchTensors<Data>::kAny) BatchTensors<Data>::each(example.data, call);
    if constexpr (BatchTensors<Target>::kAny) BatchTensors<Target>::each(example.target, call);
  }
};

template <>
struct BatchTensors<NamedExample> {
  static constexpr bool kAny = true;

  template <class Call>
  static void each(NamedExample& example, const Call& call) {
    for (NamedExample::Item& item : example.items()) call(item.second);
  }
};

template <class E>
struct BatchTensors<Batch<E>> : BatchTensors<E> {};

template <class E>
struct BatchTensors<PaddedBatch<E>> {
  static constexpr bool kAny = true;

  template <class Call>
  static void each(PaddedBatch<E>& batch, const Call& call) {
    if constexpr (BatchTensors<E>::kAny) BatchTensors<E>::each(batch, call);
    if constexpr (std::is_same_v<E, NamedExample>) {
      BatchTensors<NamedExample>::each(batch.lengths, call);
    } else {
      call(batch.lengths);
      call(batch.target_lengths);
    }
  }
};

template <class Item, class Allocator>
struct BatchTensors<std::vector<Item, Allocator>> {
  static constexpr bool kAny = BatchTensors<Item>::kAny;

  template <class Call>
  static void each(std::vector<Item, Allocator>& items, const Call& call) {
    for (Item& item : items) BatchTensors<Item>::each(item, call);
  }
};

template <class E>
struct BatchTensors<Samples<E>> : BatchTensors<std::vector<E>> {};

/// True for tensors of plain bytes in host memory. Others are copied by LibTorch, or are on a
/// device already.
inline bool is_plain(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.layout() == c10::kStrided && !tensor.is_nested() &&
         !tensor.is_quantized() && !tensor._is_zerotensor() && !tensor.is_conj() &&
         !tensor.is_neg() && !tensor.requires_grad();
}

/// Puts the tensors of a batch into pinned memory, from which CUDA copies in the background. Called
/// by the workers, each of which copies with one thread: LibTorch's copy with all threads, in the
/// loop, would take the processors from the workers.
template <class B>
void pin_batch([[maybe_unused]] B& batch) {
  if constexpr (BatchTensors<B>::kAny) {
    BatchTensors<B>::each(batch, [](at::Tensor& tensor) {
      if (tensor.defined() && is_plain(tensor) && !tensor.is_pinned()) tensor = tensor.pin_memory();
    });
  }
}

/// What reading the current batch throws if there is none.
inline Error no_batch() {
  return Error(ErrorCode::InvalidArgument,
               "there is no current batch: the last ++ threw an exception, or the epoch is over; "
               "call ++ again for the next batch, or begin() for the next epoch");
}

/// The bytes of the elements of all tensors in a batch; 0 for a type without tensors. Tensors
/// without strides, such as sparse ones, are not counted.
template <class B>
std::uint64_t bytes_in(B& batch) {
  std::uint64_t bytes = 0;
  if constexpr (BatchTensors<B>::kAny) {
    BatchTensors<B>::each(batch, [&bytes](const at::Tensor& tensor) {
      if (!tensor.defined() || tensor.layout() != c10::kStrided || tensor.is_nested()) return;
      bytes += tensor.nbytes();
    });
  }
  return bytes;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_TENSORS_HPP_

// ---- torch_npy/data/batch_buffer.hpp

#ifndef TORCH_NPY_DATA_BATCH_BUFFER_HPP_
#define TORCH_NPY_DATA_BATCH_BUFFER_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// Memory for the samples of a batch.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The samples of one part of a batch, in order: its data, or its targets. As long as they are
/// alike they are the rows of one tensor.
struct PartRows {
  at::Tensor whole;              ///< if they are alike
  std::vector<at::Tensor> each;  ///< else one tensor a sample

  /// One tensor a sample.
  std::vector<at::Tensor> separate() && {
    return whole.defined() ? rows_of(whole) : std::move(each);
  }
};

/// One tensor of each sample: its data, or its target. Read-only, shared by the copies of a
/// dataset.
struct SamplePart {
  LoadOptions options;
  std::shared_ptr<BufferPool> pool;
  FolderOptions::Expected expected;

  SamplePart(const LoadOptions& its_options, std::shared_ptr<BufferPool> its_pool,
             FolderOptions::Expected its_expected)
      : options(its_options), pool(std::move(its_pool)), expected(std::move(its_expected)) {}
  virtual ~SamplePart() = default;

  /// What the tensor of a sample is read from, for messages.
  virtual std::string origin(std::size_t sample) const = 0;

  /// Refuses an array of another shape or dtype than FolderOptions::expect() says.
  void require_expected(const LoadPlan& plan) const {
    if (expected.shape && !matches(*expected.shape, plan.sizes)) {
      throw Error(ErrorCode::Mismatch, "expected shape " + python_tuple(*expected.shape) +
                                           ", found " + python_tuple(plan.sizes));
    }
    if (expected.dtype && *expected.dtype != plan.type) {
      throw Error(ErrorCode::Mismatch, std::string("expected dtype ") +
                                           c10::toString(*expected.dtype) + ", found " +
                                           c10::toString(plan.type));
    }
  }

 private:
  static bool matches(const std::vector<std::int64_t>& wanted,
                      const std::vector<std::int64_t>& found) {
    return std::equal(
        wanted.begin(), wanted.end(), found.begin(), found.end(),
        [](std::int64_t want, std::int64_t size) { return want == -1 || want == size; });
  }
};

/// The memory of one part of a batch: a row of one buffer for each sample that is like the first,
/// and a tensor of its own for any other one.
class BatchBuffer {
 public:
  /// For at most `count` samples.
  BatchBuffer(std::shared_ptr<const SamplePart> part, std::size_t count, const LoadOptions& options)
      : part_(std::move(part)), count_(count), options_(options) {
    accepted_.reserve(count);
  }

  /// How the first sample is loaded. Without sizes before set_first().
  const LoadPlan& first() const noexcept { return first_; }
  bool has_first() const noexcept { return has_first_; }
  /// Allocates the buffer. If that fails each sample gets its own memory: they may differ, and need
  /// less.
  void set_first(const LoadPlan& plan) {
    has_first_ = true;
    first_ = plan;
    if (plan.bytes == 0 || count_ > PTRDIFF_MAX / plan.bytes) return;
    LoadPlan batch = plan;
    batch.sizes.insert(batch.sizes.begin(), static_cast<std::int64_t>(count_));
    batch.strides.insert(batch.strides.begin(), static_cast<std::int64_t>(plan.count));
    batch.bytes *= count_;
    try {
      buffer_ = empty(batch);
    } catch (const Error&) {
      // Each sample gets its own memory.
    }
  }
  bool has_rows() const { return buffer_.defined(); }

  /// Another sample follows. It becomes part of the batch by accept().
  void begin(std::size_t sample) {
    own_ = at::Tensor();
    sample_ = sample;
  }
  /// The next row of the buffer, for a sample that is like the first.
  char* next_row() const { return static_cast<char*>(buffer_.data_ptr()) + rows_ * first_.bytes; }
  /// Memory for the sample, which is loaded in this way.
  void* memory_for(const LoadPlan& plan) {
    if (buffer_.defined() && plan.type == first_.type && plan.sizes == first_.sizes &&
        plan.strides == first_.strides) {
      return next_row();
    }
    own_ = empty(plan);
    if (TensorMemory* const memory = TensorMemory::of(own_)) {
      memory->origin = [part = std::weak_ptr(part_), sample = sample_](std::size_t) {
        const auto owner = part.lock();
        return owner ? owner->origin(sample) : std::string();
      };
    }
    return own_.data_ptr();
  }
  /// The sample is this tensor.
  void set_own(at::Tensor tensor) { own_ = std::move(tensor); }

  void accept() {
    accepted_.push_back(sample_);
    if (own_.defined()) {
      own_samples_.emplace_back(accepted_.size() - 1, std::move(own_));
    } else {
      ++rows_;
    }
  }

  PartRows finish() && {
    at::Tensor rows;
    if (buffer_.defined()) {
      std::vector<std::int64_t> sizes = buffer_.sizes().vec();
      sizes[0] = static_cast<std::int64_t>(rows_);
      rows = view_of(buffer_, 0, sizes, buffer_.strides());
      buffer_ = at::Tensor();
      if (TensorMemory* const memory = TensorMemory::of(rows)) memory->origin = origin();
      rows = on_device(std::move(rows), options_);
    }
    if (own_samples_.empty() && rows_ != 0) return {std::move(rows), {}};
    std::vector<at::Tensor> samples;
    if (rows_ != 0) samples = rows_of(rows);
    for (auto& [position, tensor] : own_samples_) {
      samples.insert(samples.begin() + static_cast<std::ptrdiff_t>(position),
                     on_device(std::move(tensor), options_));
    }
    return {at::Tensor(), std::move(samples)};
  }

 private:
  at::Tensor empty(const LoadPlan& plan) const {
    return empty_from(*part_->pool, plan.bytes, plan.type, plan.sizes, plan.strides,
                      pins_memory(options_));
  }

  TensorMemory::Origin origin() const {
    std::vector<std::size_t> in_buffer;
    auto own = own_samples_.begin();
    for (std::size_t i = 0; i < accepted_.size(); ++i) {
      if (own != own_samples_.end() && own->first == i) {
        ++own;
      } else {
        in_buffer.push_back(accepted_[i]);
      }
    }
    return [part = std::weak_ptr(part_), in_buffer = std::move(in_buffer),
            row_bytes = first_.bytes](std::size_t byte) {
      const auto owner = part.lock();
      const std::size_t row = byte / row_bytes;
      if (!owner || row >= in_buffer.size()) return std::string();
      return owner->origin(in_buffer[row]);
    };
  }

  std::shared_ptr<const SamplePart> part_;
  std::size_t count_;
  LoadOptions options_;
  std::vector<std::size_t> accepted_;  // samples
  std::size_t sample_ = 0;             // the one that began last

  bool has_first_ = false;
  LoadPlan first_;
  at::Tensor buffer_;
  std::size_t rows_ = 0;  // of the buffer, in use

  at::Tensor own_;  // the sample that began last, if it is not in the buffer
  std::vector<std::pair<std::size_t, at::Tensor>>
      own_samples_;  // with their positions in the batch
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_BUFFER_HPP_

// ---- torch_npy/data/mapped_samples.hpp

#ifndef TORCH_NPY_DATA_MAPPED_SAMPLES_HPP_
#define TORCH_NPY_DATA_MAPPED_SAMPLES_HPP_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Files that stay mapped from their first use on, as long as this object exists. All objects of
/// this class together map at most kMaxMappings files. Safe from any thread.
class MappedSamples {
 public:
  explicit MappedSamples(std::size_t count) : files_(count) {}
  MappedSamples(const MappedSamples&) = delete;
  MappedSamples& operator=(const MappedSamples&) = delete;
  ~MappedSamples() {
    for (const auto& file : files_) {
      if (file == nullptr) continue;
      delete file.load();
      --mapped();
    }
  }

  /// The bytes of file `i`. `open()` returns the file if it is not mapped yet. Empty if it cannot
  /// be mapped: too many files are, the system refuses, or it is empty. Throws what open() throws.
  template <class Open>
  std::string_view bytes(std::size_t i, const Open& open) const {
    const Bytes* known = files_[i].load(std::memory_order_acquire);
    if (known == nullptr && mapped() < kMaxMappings) known = map(i, open());
    if (known == nullptr) return {};
    return {static_cast<const char*>(known->mapping.data()), known->size};
  }

 private:
  struct Bytes {
    Mapping mapping;
    std::size_t size;
  };

  /// How many files all objects map.
  static std::atomic<std::size_t>& mapped() {
    static std::atomic<std::size_t> count{0};
    return count;
  }

  const Bytes* map(std::size_t i, const File& file) const {
    const std::uint64_t size = file.size();
    if (size == 0 || size > SIZE_MAX) return nullptr;
    if (++mapped() <= kMaxMappings) {
      try {
        const auto bytes = static_cast<std::size_t>(size);
        auto made = std::make_unique<const Bytes>(
            Bytes{Mapping::of(file.internal_traits().range, 0, bytes), bytes});
        const Bytes* there = nullptr;
        if (files_[i].compare_exchange_strong(there, made.get())) return made.release();
        --mapped();
        return there;                    // another thread was faster
      } catch (const std::exception&) {  // Error or std::bad_alloc
      }
    }
    --mapped();
    return nullptr;
  }

  mutable std::vector<std::atomic<const Bytes*>> files_;  // null if not mapped
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAPPED_SAMPLES_HPP_

// ---- torch_npy/data/batch_reader.hpp

#ifndef TORCH_NPY_DATA_BATCH_READER_HPP_
#define TORCH_NPY_DATA_BATCH_READER_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// The samples of a batch: read, and returned as one tensor or as one tensor a sample.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The size of axis 0. Throws Error (Mismatch) for a 0-d array.
inline std::int64_t length_of(const LoadPlan& plan) {
  if (!plan.sizes.empty()) return plan.sizes[0];
  throw Error(ErrorCode::Mismatch, "a 0-d array has no length");
}

/// The array of one sample as a class label. Throws Error (InvalidArgument) if it is not one
/// integer.
inline std::int64_t label_in(OpenArray& array, const LoadOptions& options) {
  const LoadPlan plan = array.plan(options);
  if (plan.count != 1 || !c10::isIntegralType(plan.type, /*includeBool=*/true)) {
    throw Error(ErrorCode::InvalidArgument,
                "a class label is one integer, found a target of shape " +
                    python_tuple(plan.sizes) + " and dtype " + c10::toString(plan.type));
  }
  return ArrayReading(array, plan, options).tensor().to(at::kLong).item<std::int64_t>();
}

/// One file for each sample.
struct SampleFiles final : SamplePart {
  FileList list;
  std::optional<MappedSamples> maps;  ///< from which regions are copied, if mmap(true) asks for it

  SampleFiles(FileList files, const LoadOptions& its_options, std::shared_ptr<BufferPool> its_pool,
              FolderOptions::Expected its_expected)
      : SamplePart(its_options, std::move(its_pool), std::move(its_expected)),
        list(std::move(files)) {
    if (options.mmap()) maps.emplace(list.size());
  }

  std::string origin(std::size_t file) const override { return shown_path(list[file]); }
};

/// The region to read of a sample of these sizes; none if there is no such region.
using RegionOf = std::function<std::optional<Region>(c10::IntArrayRef sizes)>;

/// Reads arrays one after another into a BatchBuffer. The first array is the pattern: the header of
/// another one that has the same bytes is not parsed.
class BatchReader {
 public:
  /// For at most `count` samples; into pinned memory if `pin` or if the options say so.
  BatchReader(std::shared_ptr<const SamplePart> part, std::size_t count, bool pin)
      : part_(std::move(part)),
        options_(options_of_batch(part_->options, pin)),
        buffer_(part_, count, options_) {}

  /// Reads the array in `source` for a sample, or only the region `region_of(sizes)` of it. It
  /// becomes part of the batch by accept(); another read() replaces it. False if there is no such
  /// region: then nothing was read. Throws Error, without a path.
  bool read(std::size_t sample, const ByteSource& source, const RegionOf& region_of = {},
            const c10::Scalar& fill_value = 0) {
    buffer_.begin(sample);
    return (!region_of && read_like_first(source)) || read_any(source, region_of, fill_value);
  }

  /// The same for a file: one that is like the first takes a single preadv, directly to its row.
  bool read(std::size_t sample, const File& file, const RegionOf& region_of = {},
            const c10::Scalar& fill_value = 0) {
    buffer_.begin(sample);
    return (!region_of && read_like_first(file)) || read_any(file, region_of, fill_value);
  }

  /// The sizes of the whole sample of which a region was read last.
  const std::vector<std::int64_t>& sizes() const noexcept { return sizes_; }

  void accept() { buffer_.accept(); }
  PartRows finish() && { return std::move(buffer_).finish(); }

 private:
  static LoadOptions options_of_batch(LoadOptions options, bool pin) {
    // The workers of a loader are the threads. A batch is copied to the device as a whole.
    if (options.threads() == 0) options.threads(1);
    if (pin) options.pinned_memory(true);
    return options;
  }

  /// If the array is in memory.
  bool read_like_first(const ByteSource& source) {
    const char* const data = header_.empty() ? nullptr : source.internal_traits().data;
    const std::size_t size = header_.size() / 2;
    const std::size_t bytes = buffer_.first().bytes;
    if (data == nullptr || source.size() < size + bytes ||
        std::memcmp(header_.data(), data, size) != 0) {
      return false;
    }
    FirstBytes first;  // none: they are in memory
    const auto unpacked = source.internal_unpacked(first, /*whole=*/true);
    const ByteSource& from = unpacked == nullptr ? source : *unpacked;
    from.read_fully(buffer_.next_row(), bytes, size);
    from.internal_finish(size + bytes);
    swap_row();
    return true;
  }

  bool read_like_first(const File& file) {
    if (header_.empty()) return false;
    unsigned char* const header = header_.data() + header_.size() / 2;
    const std::size_t size = header_.size() / 2;
    const std::size_t bytes = buffer_.first().bytes;
    if (file.read_split(header, size, buffer_.next_row(), bytes) != size + bytes ||
        std::memcmp(header_.data(), header, size) != 0) {
      return false;
    }
    swap_row();
    return true;
  }

  void swap_row() const {
    const LoadPlan& first = buffer_.first();
    swap_bytes(buffer_.next_row(), first.bytes, swap_unit(first.dtype));
  }

  bool read_any(const ByteSource& source, const RegionOf& region_of,
                const c10::Scalar& fill_value) {
    return with_path({}, [&] {
      if (!region_of) require_file_to_map(source, options_);
      FirstBytes first;
      OpenArray array(source, first, read_header(source, options_.max_header_size(), first));
      return read_array(array, region_of, fill_value);
    });
  }

  bool read_array(OpenArray& array, const RegionOf& region_of, const c10::Scalar& fill_value) {
    const auto data_offset = static_cast<std::size_t>(array.header.data_offset);
    LoadPlan plan = array.plan(options_);
    part_->require_expected(plan);
    sizes_ = plan.sizes;
    if (region_of && !crop(plan, region_of, fill_value)) return false;
    // A region is small, and is copied into the batch.
    if (options_.mmap() && !region_of &&
        can_map(plan, options_, array.source.internal_traits().range)) {
      buffer_.set_own(load_on_host(array, plan, options_));
      return true;
    }
    if (!buffer_.has_first()) {
      buffer_.set_first(plan);
      keep_header(array, data_offset);
    }
    const ArrayReading reading(array, plan, options_);
    reading.fill(buffer_.memory_for(plan));
    return true;
  }

  /// Keeps the header of the first array, if another one that has the same bytes can be read to its
  /// row as it is.
  void keep_header(const OpenArray& array, std::size_t size) {
    const LoadPlan& plan = buffer_.first();
    const char* const data = array.source.internal_traits().data;
    const auto* const front =
        data != nullptr ? reinterpret_cast<const unsigned char*>(data) : array.first.data;
    const bool has_front = data != nullptr || size <= array.first.size;
    if (!buffer_.has_rows() || plan.converts() || !plan.in_one_run() || !plan.is_whole ||
        !has_front) {
      return;
    }
    header_.assign(front, front + size);
    header_.resize(2 * size);
  }

  /// Reduces the plan to a region. False if there is none, or if it would be part of another one
  /// that is filled, or of strings.
  bool crop(LoadPlan& plan, const RegionOf& region_of, const c10::Scalar& fill_value) const {
    std::optional<Region> region = region_of(plan.sizes);
    if (!region || plan.is_padded() || plan.inner_axes != 0) return false;
    LoadOptions options = options_;
    options.region(std::move(*region)).out_of_bounds(OutOfBounds::Fill).fill_value(fill_value);
    if (!options.region().empty()) take_region(plan, options);
    return true;
  }

  std::shared_ptr<const SamplePart> part_;
  LoadOptions options_;
  BatchBuffer buffer_;
  std::vector<std::int64_t> sizes_;    // of the sample read last, if its header was parsed
  std::vector<unsigned char> header_;  // of the first array, and room for another to compare
};

/// Reads a file, or only a region of it: see BatchReader::read(). Throws Error.
inline bool read_file(BatchReader& reader, const SampleFiles& files, std::size_t file,
                      const RegionOf& region_of = {}, const c10::Scalar& fill_value = 0) {
  try {
    if (region_of && files.maps) {
      const auto bytes = files.maps->bytes(file, [&] { return files.list.open(file); });
      try {
        const MemorySource source(bytes.data(), bytes.size());
        if (!bytes.empty()) return reader.read(file, source, region_of, fill_value);
      } catch (const Error&) {  // the file may be better now, or is read for its own Error
      }
    }
    return reader.read(file, files.list.open(file), region_of, fill_value);
  } catch (const Error& error) {
    throw ErrorContext::at(error, files.list[file]);
  }
}

/// Reads the regions of a sample and of its target by `read(part, region_of, fill_value)`, with the
/// BatchReader `data` for part 0. False if one of them has none.
template <class Read>
bool read_regions(const SampleRegions& regions, const Pick& pick, const BatchReader& data,
                  std::size_t parts, const Read& read) {
  const auto of_data = [&](c10::IntArrayRef sizes) { return regions.of_data(pick, sizes); };
  const auto of_target = [&](c10::IntArrayRef sizes) {
    return regions.of_target(pick, data.sizes(), sizes);
  };
  return read(0, of_data, regions.fill_value(0)) &&
         (parts == 1 || read(1, of_target, regions.fill_value(1)));
}

/// Which file a sample is, where each file is one sample or several.
class SamplesOfFiles {
 public:
  /// Throws Error (InvalidArgument) for samples_per_file(0), and if there would be too many.
  SamplesOfFiles(std::size_t files, const FolderOptions& options)
      : files_(files), per_file_(options.samples_per_file()) {
    constexpr std::size_t kMost = SIZE_MAX / 64;  // lists of all samples can be allocated, or not
    if (per_file_ != 0 && files <= kMost / per_file_) return;
    throw Error(
        ErrorCode::InvalidArgument,
        "samples_per_file() of " + counted(per_file_, "sample") + " for " + counted(files, "file"));
  }

  std::size_t size() const { return files_ * per_file_; }
  std::size_t file_of(std::size_t sample) const { return sample / per_file_; }
  std::string key(const std::filesystem::path& file, std::size_t sample) const {
    std::string key = file.generic_string();
    return per_file_ == 1 ? key : key + "#" + std::to_string(sample % per_file_);
  }

 private:
  std::size_t files_;
  std::size_t per_file_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_READER_HPP_

// ---- torch_npy/data/file_source.hpp

#ifndef TORCH_NPY_DATA_FILE_SOURCE_HPP_
#define TORCH_NPY_DATA_FILE_SOURCE_HPP_

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// Samples of which each is a file, or a file and its target.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

inline std::shared_ptr<const SampleFiles> sample_files(FileList list, const LoadOptions& options,
                                                       std::shared_ptr<BufferPool> pool,
                                                       FolderOptions::Expected expected = {}) {
  require_device(options.device());
  return std::make_shared<const SampleFiles>(std::move(list), options, std::move(pool),
                                             std::move(expected));
}

/// Which options of FolderOptions a dataset uses, besides those about reading.
struct UsedOptions {
  bool lists = false;    ///< pattern, recursive, natural_order
  bool pairs = false;    ///< target_pattern, target_name
  bool classes = false;  ///< classes, allow_empty_classes
};

/// Throws Error (InvalidArgument) if another option is set: without effect, it would be a mistake
/// that does not show.
inline void require_used(const char* dataset, const FolderOptions& options,
                         const UsedOptions& used) {
  const char* unused = nullptr;
  if (!used.lists) {
    if (options.pattern() != "*") unused = "pattern";
    if (options.recursive()) unused = "recursive";
    if (options.natural_order()) unused = "natural_order";
  }
  if (!used.pairs) {
    if (!options.target_pattern().empty()) unused = "target_pattern";
    if (options.target_name()) unused = "target_name";
  }
  if (!used.classes) {
    if (!options.classes().empty()) unused = "classes";
    if (options.allow_empty_classes()) unused = "allow_empty_classes";
  }
  if (unused == nullptr) return;
  throw Error(ErrorCode::InvalidArgument,
              std::string("the option ") + unused + "() has no meaning for a " + dataset);
}

/// Samples from the rows of their data, and of their targets if there are any.
template <class E>
SampleRows<E> rows_from(PartRows data, [[maybe_unused]] PartRows target) {
  if constexpr (kHasTarget<E>) {
    if (data.whole.defined() && target.whole.defined()) {
      return Batch<E>(E(std::move(data.whole), std::move(target.whole)));
    }
    std::vector<at::Tensor> all = std::move(data).separate();
    std::vector<at::Tensor> targets = std::move(target).separate();
    std::vector<E> samples;
    samples.reserve(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      samples.emplace_back(std::move(all[i]), std::move(targets[i]));
    }
    return samples;
  } else {
    if (data.whole.defined()) return Batch<E>(E(std::move(data.whole)));
    std::vector<E> samples;
    samples.reserve(data.each.size());
    for (at::Tensor& tensor : data.each) samples.emplace_back(std::move(tensor));
    return samples;
  }
}

/// A number for a list of files. Without their common folder: a run continues where the files have
/// been moved together.
inline std::uint64_t fingerprint_of(const FileList& files) {
  const std::size_t common = files.common_folder();
  std::uint64_t print = mix({files.size()});
  for (std::size_t i = 0; i < files.size(); ++i) {
    print = mix({print, hash_of(files.name(i) + common)});
  }
  return print;
}

/// One file a sample, or several samples of each file; and for an Example with a target a second
/// file, or a row of an array.
template <class E>
class FileSource : public SampleSource<E> {
 public:
  /// `targets` are files, or `labels` has a row for each sample, or E has no target. Throws Error
  /// (Mismatch) if there are more or fewer targets than samples.
  FileSource(std::shared_ptr<const SampleFiles> data, std::shared_ptr<const SampleFiles> targets,
             std::shared_ptr<const ArrayRows> labels, const FolderOptions& options)
      : SampleSource<E>(options),
        data_(std::move(data)),
        targets_(std::move(targets)),
        labels_(std::move(labels)),
        samples_(data_->list.size(), options) {
    const std::size_t files = data_->list.size();
    const std::size_t count = targets_ ? targets_->list.size() : labels_ ? labels_->size() : files;
    if (count == files) return;
    throw Error(ErrorCode::Mismatch, "expected one target for each file, found " +
                                         counted(files, "file") + " and " +
                                         counted(count, "target"));
  }

  std::size_t size() const override { return samples_.size(); }

  std::string key(std::size_t sample) const override {
    return samples_.key(data_->list[file_of(sample)], sample);
  }

  bool reads_regions() const override { return true; }
  std::size_t file_of(std::size_t sample) const override { return samples_.file_of(sample); }

  std::uint64_t fingerprint() const override {
    return mix({size(), fingerprint_of(data_->list), fingerprint_of(data_->options.region())});
  }

  std::int64_t length(std::size_t sample) const override {
    return planned(*data_, file_of(sample), length_of);
  }

  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    if (!labels_ && !targets_) return SampleSource<E>::labels(samples);
    std::vector<std::size_t> files;
    files.reserve(samples.size());
    for (const std::size_t sample : samples) files.push_back(file_of(sample));
    if (labels_) return labels_from(*labels_, files);
    std::vector<std::int64_t> labels;
    labels.reserve(files.size());
    for (std::size_t i = 0; i < files.size(); ++i) {
      const bool is_known = i != 0 && files[i] == files[i - 1];
      labels.push_back(is_known ? labels.back() : label_of(files[i]));
    }
    return labels;
  }

  std::vector<Error> check(std::size_t sample) const override {
    std::vector<Error> errors;
    for (const auto* const part : {data_.get(), targets_.get()}) {
      if (part == nullptr) continue;
      try {
        planned(*part, file_of(sample),
                [&](const LoadPlan& plan) { part->require_expected(plan); });
      } catch (const Error& error) {
        if (is_of_system(error)) throw;
        errors.push_back(error);
      }
    }
    return errors;
  }

  SampleRows<E> read(Request& request) const override {
    BatchReader data(data_, request.picks.size(), request.pin_memory);
    std::optional<BatchReader> targets;
    if (targets_) targets.emplace(targets_, request.picks.size(), request.pin_memory);
    std::vector<std::size_t> accepted;
    read_each(
        request, this->bad_samples(0),
        [&](Pick& pick) {
          const std::size_t file = file_of(pick.sample);
          const auto read_part = [&](std::size_t part, const RegionOf& region_of = {},
                                     const c10::Scalar& fill_value = 0) {
            return read_file(part == 0 ? data : *targets, part == 0 ? *data_ : *targets_, file,
                             region_of, fill_value);
          };
          const SampleRegions* const regions = request.regions;
          pick.is_cropped =
              regions != nullptr && read_regions(*regions, pick, data, targets ? 2 : 1, read_part);
          if (pick.is_cropped) return;
          read_part(0);
          if (targets) read_part(1);
        },
        [&](std::size_t sample) {
          data.accept();
          if (targets) targets->accept();
          if (labels_) accepted.push_back(file_of(sample));
        });
    PartRows target;
    if (targets) {
      target = std::move(*targets).finish();
    } else if (!accepted.empty()) {
      target.whole = labels_->gather(accepted, std::nullopt, request.pin_memory);
    }
    return rows_from<E>(std::move(data).finish(), std::move(target));
  }

  const SampleFiles& data() const noexcept { return *data_; }
  const SampleFiles& targets() const noexcept { return *targets_; }

 private:
  std::int64_t label_of(std::size_t file) const {
    return with_open(*targets_, file,
                     [&](OpenArray& array) { return label_in(array, targets_->options); });
  }

  /// Calls `use` with the array of a file.
  template <class Use>
  static auto with_open(const SampleFiles& files, std::size_t file, const Use& use) {
    return with_path(files.list[file],
                     [&] { return with_array(files.list.open(file), files.options, use); });
  }

  /// Calls `use` with what is known of a file after its header was read.
  template <class Use>
  static auto planned(const SampleFiles& files, std::size_t file, const Use& use) {
    return with_open(files, file, [&](OpenArray& array) { return use(array.plan(files.options)); });
  }

  std::shared_ptr<const SampleFiles> data_;
  std::shared_ptr<const SampleFiles> targets_;  // may be null
  std::shared_ptr<const ArrayRows> labels_;     // of the files; may be null
  SamplesOfFiles samples_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FILE_SOURCE_HPP_

// ---- torch_npy/data/transform.hpp

#ifndef TORCH_NPY_DATA_TRANSFORM_HPP_
#define TORCH_NPY_DATA_TRANSFORM_HPP_

/// @file
/// Transform: what the transforms of batches have in common.

#include <ATen/core/Tensor.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True if only the caller can see the memory of the tensor, so that it may be changed in place.
inline bool is_only_owner(const at::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.has_storage() && tensor.storage().use_count() == 1 &&
         owns_memory(tensor) && !tensor.requires_grad() && tensor.is_non_overlapping_and_dense() &&
         (!tensor.is_inference() || c10::InferenceMode::is_enabled());
}

[[noreturn]] inline void throw_bad_shape(const std::string& transform, const std::string& expected,
                                         const at::Tensor& batch, const char* more = "") {
  throw Error(ErrorCode::Mismatch, transform + " expects samples of shape " + expected +
                                       ", found shape " +
                                       python_tuple(batch.sizes().slice(1).vec()) + more);
}

/// Whether an axis of this size may be that of the channels of images: gray, RGB, RGBA.
inline bool is_channel_count(std::int64_t size) { return size == 1 || size == 3 || size == 4; }

/// Whether a sample of this shape seems to be an image (H, W, C), and not (C, H, W).
inline bool seems_channels_last(c10::IntArrayRef sample) {
  return sample.size() == 3 && is_channel_count(sample[2]) && !is_channel_count(sample[0]);
}
/// The same for the samples of a batch.
inline bool seems_channels_last(const at::Tensor& batch) {
  return batch.dim() == 4 && seems_channels_last(batch.sizes().slice(1));
}

/// Whether a target of this shape is an image that changes with its data: one with two or more
/// axes. Throws Error (Mismatch) unless it has the size of the data along the last axes, one for
/// each number in `cut`, of which those of -1 may differ.
inline bool is_image_target(c10::IntArrayRef target, c10::IntArrayRef data,
                            c10::IntArrayRef cut = {1, 1}) {
  if (target.size() < 2) return false;
  bool is_alike = target.size() >= cut.size() && data.size() >= cut.size();
  for (std::size_t i = 1; is_alike && i <= cut.size(); ++i) {
    is_alike = cut.end()[-static_cast<std::ptrdiff_t>(i)] == -1 ||
               target[target.size() - i] == data[data.size() - i];
  }
  if (is_alike) return true;
  throw Error(
      ErrorCode::Mismatch,
      "targets with two or more axes are treated as images and must have the " +
          (cut.size() == 2 ? "height and width"
                           : "sizes along the last " + std::to_string(cut.size()) + " axes") +
          " of their data: found targets of shape " + python_tuple(target.vec()) +
          " and data of shape " + python_tuple(data.vec()) +
          "; with_target(false) keeps targets unchanged");
}

/// The target if it is an image that changes with the data, else null. `cut`: see
/// is_image_target().
inline at::Tensor* image_target(at::Tensor* target, const at::Tensor& data,
                                c10::IntArrayRef cut = {1, 1}) {
  if (target == nullptr || target->dim() < 3) return nullptr;
  if (target->size(0) != data.size(0)) {
    throw Error(ErrorCode::Mismatch,
                "expected one target for each sample, found " +
                    counted(static_cast<std::uint64_t>(data.size(0)), "sample") + " and " +
                    counted(static_cast<std::uint64_t>(target->size(0)), "target"));
  }
  return is_image_target(target->sizes().slice(1), data.sizes().slice(1), cut) ? target : nullptr;
}

}  // namespace detail

/// Transforms for Dataset::map(); each processes a whole batch, stacked or not:
///
///     dataset.stacked().map(ToTensor()).map(RandomHorizontalFlip(0.5)).map(Normalize(mean, std))
///
/// The shapes below are those of one sample; a stacked batch has the sample index as axis 0 before
/// them. Samples that are not stacked may differ in shape; after RandomCrop they can be stacked.
///
/// A transform changes `data`. The random flips and RandomCrop also change a `target` that is an
/// image in the same way: one with two or more axes per sample (H x W, C x H x W).
/// with_target(false) keeps targets unchanged. If H and W of target and data differ, they throw
/// Error (Mismatch).
///
/// on() names the tensors to change. Samples with names need it:
///
///     dataset.map(Normalize(mean, std).on("image")).map(RandomVerticalFlip().on({"image",
///     "mask"}))
///
/// Every sample gets its own random numbers. With a Loader they depend on its seed, the epoch, the
/// position of the sample in the order of the epoch, and the number of transforms before, and on
/// nothing else. With LibTorch's loader, which has no seed, they depend on a seed that the
/// transform takes when it is constructed, from the given CPU generator or from LibTorch's default
/// one (torch::manual_seed()); on the indices of the samples of the batch; and on how many batches
/// of the dataset have begun with the same first sample. So a seed gives the same batches for any
/// number of workers, if the dataset is new, epochs are complete, and the sampler repeats no
/// samples.
///
/// All transforms throw Error (Mismatch) for a batch of an unsupported shape or dtype, and
/// Dataset::map() throws Error if a transform does not fit the type of the samples: InvalidArgument
/// if samples with names need on(), NotFound if on() names what an Example does not have. They may
/// be copied, and used from any thread. The cost is linear in the size of the data. If nothing else
/// refers to a batch, and its dtype and shape do not change, it is changed in place.
namespace transforms {

/// What the transforms of this namespace have in common. Derive from it to write another one; most
/// are simpler as a lambda given to Dataset::map().
class Transform {
 public:
  /// LibTorch's `.map()` needs it: LibTorch's own datasets take these transforms before they are
  /// stacked.
  using InputBatchType = std::vector<Example<>>;
  /// As InputBatchType.
  using OutputBatchType = InputBatchType;

  virtual ~Transform() = default;
  Transform(const Transform&) = default;             ///< as the derived class
  Transform& operator=(const Transform&) = default;  ///< as the derived class

  /// Changes a batch. Axis 0 of both tensors is the sample index; `target` is null if there is
  /// none. With on(), called for each array as `data`, without a target. Called by any number of
  /// threads at once.
  virtual void apply(at::Tensor& data, at::Tensor* target, const Draws& draws) const = 0;

  /// How many of the last axes must have the same sizes in all arrays of a sample that on() names:
  /// by default 2, height and width, for a transform with random numbers, and none for others.
  virtual std::size_t common_axes() const { return is_random_ ? 2 : 0; }

  /// Changes a list of samples or a stacked batch, and returns it; the `.map()` of LibTorch's own
  /// datasets calls it. Their batches have no names, so random numbers are reproducible only
  /// without workers.
  template <class B>
  B apply_batch(B batch);

  /// The seed for loaders that have none.
  std::uint64_t seed() const noexcept { return seed_; }
  /// The arrays that on() named, in order; none if it was not called.
  const std::vector<std::string>& arrays() const noexcept { return arrays_; }

 protected:
  /// Without random numbers.
  Transform() = default;
  /// With a seed.
  explicit Transform(std::uint64_t seed) : seed_(seed), is_random_(true) {}

 private:
  template <class Derived>
  friend class OnArrays;

  std::uint64_t seed_ = 0;
  bool is_random_ = false;
  std::vector<std::string> arrays_;
  std::shared_ptr<std::atomic<std::uint64_t>> batches_ =
      std::make_shared<std::atomic<std::uint64_t>>(0);  // of LibTorch's datasets
};

}  // namespace transforms

namespace detail {

/// A tensor of a sample or batch; those of an Example are called "data" and "target". Throws Error
/// (NotFound) if there is none with this name.
template <class E>
at::Tensor& tensor_named(E& sample, const std::string& name) {
  if constexpr (std::is_same_v<E, NamedExample>) {
    return sample[name];
  } else {
    at::Tensor* found = nullptr;
    SampleTensors<E>::each(sample, [&](const std::string& other, at::Tensor& tensor) {
      if (other == name) found = &tensor;
    });
    if (found != nullptr) return *found;
    throw Error(ErrorCode::NotFound, "no tensor " + in_quotes(name) +
                                         " in these samples; they have \"data\"" +
                                         (kHasTarget<E> ? " and \"target\"" : ""));
  }
}

/// Throws Error if samples of type E do not tell which of their tensors `transform` changes:
/// InvalidArgument without on() for samples with names, NotFound for a name that no E has.
template <class E>
void require_arrays(const transforms::Transform& transform) {
  if constexpr (std::is_same_v<E, NamedExample>) {
    if (!transform.arrays().empty()) return;
    throw Error(ErrorCode::InvalidArgument,
                "a transform of samples with names has to name the tensors that it changes: add "
                ".on(\"image\") or .on({\"image\", \"mask\"}) to it");
  } else {
    E sample;
    for (const std::string& name : transform.arrays()) (void)tensor_named(sample, name);
  }
}

inline void require_sample_axis(const at::Tensor& batch) {
  if (batch.defined() && batch.dim() != 0) return;
  throw Error(ErrorCode::Mismatch,
              std::string("expected a batch with the sample index as axis 0, found ") +
                  (batch.defined() ? "a 0-d tensor" : "no tensor"));
}

/// Throws Error (Mismatch) if the arrays of one sample cannot be changed by the same random
/// numbers.
inline void require_common_axes(const transforms::Transform& transform, const at::Tensor& first,
                                const at::Tensor& other) {
  const auto count = static_cast<std::int64_t>(transform.common_axes());
  bool is_alike = first.size(0) == other.size(0);
  if (count != 0) is_alike = is_alike && first.dim() > count && other.dim() > count;
  for (std::int64_t axis = 1; is_alike && axis <= count; ++axis) {
    is_alike = first.size(-axis) == other.size(-axis);
  }
  if (is_alike) return;
  throw Error(
      ErrorCode::Mismatch,
      "expected the number of samples" +
          (count == 0 ? "" : " and the sizes of the last " + std::to_string(count) + " axes") +
          " of tensor " + in_quotes(transform.arrays()[0]) + ", which has shape " +
          python_tuple(first.sizes().vec()) + ", found shape " + python_tuple(other.sizes().vec()));
}

/// To each of the tensors that on() named, with the same random numbers.
inline void apply_to_arrays(const transforms::Transform& transform,
                            const std::vector<at::Tensor*>& tensors, const Draws& draws) {
  const auto for_each = [&](const auto& call) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      with_part("tensor", transform.arrays()[i], [&] { call(*tensors[i]); });
    }
  };
  for_each([&](const at::Tensor& tensor) {
    require_sample_axis(tensor);
    require_common_axes(transform, *tensors[0], tensor);
  });
  for_each([&](at::Tensor& tensor) { transform.apply(tensor, nullptr, draws); });
}

/// To a stacked batch.
template <class E>
void apply_to(const transforms::Transform& transform, Batch<E>& batch, const Draws& draws) {
  require_arrays<E>(transform);
  if (!transform.arrays().empty()) {
    std::vector<at::Tensor*> tensors;
    for (const std::string& name : transform.arrays()) {
      tensors.push_back(&tensor_named(static_cast<E&>(batch), name));
    }
    return apply_to_arrays(transform, tensors, draws);
  }
  if constexpr (!std::is_same_v<E, NamedExample>) {
    require_sample_axis(batch.data);
    at::Tensor* target = nullptr;
    if constexpr (kHasTarget<E>) {
      if (batch.target.defined()) target = &batch.target;
    }
    transform.apply(batch.data, target, draws);
  }
}

/// To one sample, as a batch of one.
template <class E>
void apply_to_sample(const transforms::Transform& transform, E& sample, const Draws& draws) {
  Batch<E> one(std::exchange(sample, E()));
  const auto change_each = [&](const auto& change) {
    SampleTensors<E>::each(static_cast<E&>(one), [&](const std::string& name, at::Tensor& tensor) {
      const auto& names = transform.arrays();
      const bool is_named = std::find(names.begin(), names.end(), name) != names.end();
      if (tensor.defined() && (names.empty() || is_named)) tensor = change(tensor);
    });
  };
  change_each([](const at::Tensor& tensor) { return tensor.unsqueeze(0); });
  apply_to(transform, one, draws);
  change_each([](const at::Tensor& tensor) { return tensor.squeeze(0); });
  sample = std::move(static_cast<E&>(one));
}

/// To each sample of a list.
template <class E>
void apply_to(const transforms::Transform& transform, std::vector<E>& samples, const Draws& draws) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    apply_to_sample(transform, samples[i], draws.from(i));
  }
}

/// The number of samples that a transform changes.
template <class E>
std::size_t count_of(const transforms::Transform&, const std::vector<E>& samples) {
  return samples.size();
}
template <class E>
std::size_t count_of(const transforms::Transform& transform, Batch<E>& batch) {
  require_arrays<E>(transform);
  const auto& names = transform.arrays();
  const at::Tensor& first =
      tensor_named(static_cast<E&>(batch), names.empty() ? std::string("data") : names[0]);
  return first.defined() && first.dim() != 0 ? static_cast<std::size_t>(first.size(0)) : 0;
}

}  // namespace detail

namespace transforms {

template <class B>
B Transform::apply_batch(B batch) {
  Request request;
  request.epoch = (*batches_)++;
  request.picks.resize(detail::count_of(*this, batch));
  for (std::size_t i = 0; i < request.picks.size(); ++i) request.picks[i].position = i;
  detail::apply_to(*this, batch, Draws(request, 0, seed_));
  return batch;
}

/// on(), for Transforms and PadStack: `class MyTransform : public Transform, public
/// OnArrays<MyTransform>`.
template <class Derived>
class OnArrays {
 public:
  /// The tensors of a sample to use: those of a NamedExample, or "data" and "target" of an Example.
  /// A transform changes each of them as it changes `data`, and with the same random numbers.
  /// Throws Error (InvalidArgument) if there is no name, or the same name twice.
  Derived& on(std::vector<std::string> names) {
    if (names.empty() || detail::first_duplicate({names.begin(), names.end()})) {
      throw Error(ErrorCode::InvalidArgument,
                  "on() expects the names of tensors, each of them once");
    }
    static_cast<Derived&>(*this).arrays_ = std::move(names);
    return static_cast<Derived&>(*this);
  }
  /// One tensor.
  Derived& on(const std::string& name) { return on(std::vector<std::string>{name}); }
  /// The same for `on({"image", "mask"})`.
  // Without it, two names would be taken for the two iterators of one std::string.
  Derived& on(std::initializer_list<const char*> names) {
    return on(std::vector<std::string>(names.begin(), names.end()));
  }
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_TRANSFORM_HPP_

// ---- torch_npy/data/pad_stack.hpp

#ifndef TORCH_NPY_DATA_PAD_STACK_HPP_
#define TORCH_NPY_DATA_PAD_STACK_HPP_

/// @file
/// PadStack: samples of different length become one batch.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// What PadStack does with a sample that is longer than max_length().
enum class TooLong {
  Throw,     ///< throws Error (TooLarge), which names the file if it is known
  Truncate,  ///< removes its end
};

}  // namespace transforms

namespace detail {

/// How PadStack pads a tensor of the samples.
struct Padding {
  at::Scalar value = 0;
  std::int64_t axis = 0;
  std::int64_t multiple_of = 1;
  std::optional<std::int64_t> max_length;
  transforms::TooLong too_long = transforms::TooLong::Throw;
};

/// A padding value as a tensor of one element. Throws Error (InvalidArgument) if the dtype cannot
/// hold it: LibTorch would make 255 of -1, and 0 of 0.5.
inline at::Tensor padding_element(const at::Scalar& value, c10::ScalarType dtype) {
  at::Tensor element = exact_scalar(value, dtype);
  if (element.defined()) return element;
  throw Error(ErrorCode::InvalidArgument,
              std::string("PadStack cannot pad tensors of dtype ") + c10::toString(dtype) +
                  " with the value " +
                  (value.isComplex() ? "of a complex number" : std::to_string(value.toDouble())) +
                  "; value(name, v) sets another value for one tensor");
}

/// The axis that is padded, counted from 0. Throws Error (Mismatch) if the samples differ in
/// anything else.
inline std::int64_t padded_axis(const std::vector<at::Tensor>& samples, std::int64_t axis) {
  const at::Tensor& first = samples[0];
  const auto sizes_but = [&](const at::Tensor& tensor, std::int64_t left_out) {
    std::vector<std::int64_t> sizes = tensor.sizes().vec();
    sizes.erase(sizes.begin() + left_out);
    return sizes;
  };
  const auto describe = [](const at::Tensor& tensor) {
    if (!tensor.defined()) return std::string("no tensor");
    const std::string origin = origin_of(tensor);
    return (origin.empty() ? "" : origin + " has ") + "shape " +
           python_tuple(tensor.sizes().vec()) + " and dtype " + c10::toString(tensor.scalar_type());
  };
  const std::int64_t wanted =
      axis < 0 && first.defined() && axis + first.dim() >= 0 ? axis + first.dim() : axis;
  for (const at::Tensor& sample : samples) {
    const bool has_axis = first.defined() && wanted >= 0 && wanted < first.dim();
    if (has_axis && sample.defined() && sample.dim() == first.dim() &&
        sample.scalar_type() == first.scalar_type() && sample.device() == first.device() &&
        sizes_but(sample, wanted) == sizes_but(first, wanted)) {
      continue;
    }
    throw Error(ErrorCode::Mismatch,
                "PadStack expects samples that differ only in the size of axis " +
                    std::to_string(axis) + ": " + describe(first) + ", " + describe(sample) +
                    "; axis(name, n) chooses another axis");
  }
  return wanted;
}

/// The lengths that the samples have in the batch. Throws Error (TooLarge) for one that is too
/// long.
inline std::vector<std::int64_t> padded_lengths(const std::vector<at::Tensor>& samples,
                                                std::int64_t axis, const Padding& padding) {
  std::vector<std::int64_t> lengths;
  lengths.reserve(samples.size());
  for (const at::Tensor& sample : samples) {
    const std::int64_t length = sample.size(axis);
    const std::int64_t max = padding.max_length.value_or(length);
    if (length > max && padding.too_long == transforms::TooLong::Throw) {
      const std::string origin = origin_of(sample);
      throw Error(ErrorCode::TooLarge,
                  "PadStack expects samples of at most max_length(" + std::to_string(max) +
                      "), found " + (origin.empty() ? "one" : origin) + " of length " +
                      std::to_string(length) +
                      "; max_length(n, TooLong::Truncate) removes the end of longer samples");
    }
    lengths.push_back((std::min)(length, max));
  }
  return lengths;
}

/// Fills memory with copies of an element.
inline void fill_with(char* out, std::size_t bytes, const char* element, std::size_t size) {
  if (std::all_of(element, element + size, [&](char byte) { return byte == element[0]; })) {
    if (bytes != 0) std::memset(out, element[0], bytes);
    return;
  }
  for (std::size_t filled = 0; filled < bytes;) {  // doubles what is there
    const std::size_t next = filled == 0 ? size : (std::min)(filled, bytes - filled);
    std::memcpy(out + filled, filled == 0 ? element : out, next);
    filled += next;
  }
}

/// Copies plain samples to the rows of `out`, which is in C order, and pads them.
inline void pad_bytes(const std::vector<at::Tensor>& samples,
                      const std::vector<std::int64_t>& lengths, std::int64_t axis,
                      const at::Tensor& element, const at::Tensor& out) {
  if (out.numel() == 0) return;
  const auto size = static_cast<std::size_t>(out.element_size());
  const auto item = size * static_cast<std::size_t>(out.stride(axis + 1));
  const std::size_t run = item * static_cast<std::size_t>(out.size(axis + 1));
  const std::size_t runs = out.nbytes() / run / samples.size();
  char* to = static_cast<char*>(out.data_ptr());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const at::Tensor sample = samples[i].contiguous();
    const char* from = static_cast<const char*>(sample.data_ptr());
    const std::size_t copied = item * static_cast<std::size_t>(lengths[i]);
    for (std::size_t k = 0; k < runs; ++k, to += run) {
      if (copied != 0) std::memcpy(to, from, copied);
      fill_with(to + copied, run - copied, static_cast<const char*>(element.data_ptr()), size);
      from += item * static_cast<std::size_t>(sample.size(axis));
    }
  }
}

/// The same for all other tensors.
inline void pad_tensors(const std::vector<at::Tensor>& samples,
                        const std::vector<std::int64_t>& lengths, std::int64_t axis,
                        const at::Scalar& value, const at::Tensor& out) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const at::Tensor row = out.select(0, static_cast<std::int64_t>(i));
    row.narrow(axis, 0, lengths[i]).copy_(samples[i].narrow(axis, 0, lengths[i]));
    row.narrow(axis, lengths[i], row.size(axis) - lengths[i]).fill_(value);
  }
}

/// Stacks samples that may differ in the size of one axis; sets `lengths`.
inline at::Tensor pad_samples(const std::vector<at::Tensor>& samples, const Padding& padding,
                              BufferPool& pool, at::Tensor& lengths) {
  const at::Tensor& first = samples[0];
  const std::int64_t axis = padded_axis(samples, padding.axis);
  const at::Tensor element = padding_element(padding.value, first.scalar_type());
  const std::vector<std::int64_t> all = padded_lengths(samples, axis, padding);
  const std::int64_t longest = *std::max_element(all.begin(), all.end());
  const std::int64_t step = padding.multiple_of;
  const std::int64_t padded = (longest + step - 1) / step * step;
  lengths = at::tensor(all, at::kLong).to(first.device());
  if (padded == longest && longest == first.size(axis)) {
    at::Tensor whole = whole_of(samples);  // nothing to pad, and nothing to copy
    if (whole.defined()) return whole;
  }
  std::vector<std::int64_t> sizes = first.sizes().vec();
  sizes[static_cast<std::size_t>(axis)] = padded;
  sizes.insert(sizes.begin(), static_cast<std::int64_t>(samples.size()));
  const auto bytes = checked_bytes(sizes, static_cast<std::int64_t>(first.element_size()));
  if (!bytes) {
    throw Error(ErrorCode::TooLarge, "PadStack: a batch of shape " + python_tuple(sizes) +
                                         " has more bytes than can be counted");
  }
  if (!std::all_of(samples.begin(), samples.end(), is_plain)) {
    const at::Tensor out = at::empty(sizes, first.options());
    pad_tensors(samples, all, axis, padding.value, out);
    return out;
  }
  at::Tensor out = empty_from(pool, static_cast<std::size_t>(*bytes), first.scalar_type(), sizes,
                              dense_strides(sizes, /*fortran_order=*/false), /*pinned=*/false);
  pad_bytes(samples, all, axis, element, out);
  return out;
}

}  // namespace detail

namespace transforms {

/// Stacks samples of different length, as torch.nn.utils.rnn.pad_sequence(batch_first=True) does:
/// tensors of shape (length, S...) become one of shape (batch size, longest length, S...), padded
/// at the end with a value. The result is a PaddedBatch, which also has the lengths.
///
///     dataset.map(PadStack());                        // batch.data, batch.lengths
///     dataset.map(PadStack().axis("data", 1).multiple_of(8).max_length(512));
///     dataset.map(PadStack().on({"tokens", "mask"})); // batch["tokens"], batch.lengths["tokens"]
///
/// By default all tensors of a sample are padded, each to its own longest one. Those that are 0-d,
/// such as labels, are stacked; `data` must not be 0-d. With on(), the named tensors are padded,
/// and the others stacked.
///
/// A setter without a name is for all tensors, also for those that were set by name before. Setters
/// with a name are for one: "data" and "target" of an Example, or any tensor of a NamedExample.
///
/// Throws Error: Mismatch for an empty batch, and if samples differ in anything but the size of one
/// axis; TooLarge for a sample longer than max_length(); NotFound if a setter or on() names a
/// tensor that the samples do not have; InvalidArgument if the dtype of a tensor cannot hold its
/// padding value. May be used from any thread. Copies share the memory for the next batches. Costs
/// one copy of each sample; nothing is copied if a batch needs no padding.
class PadStack : public OnArrays<PadStack> {
 public:
  /// With the values that fill the padding, in the dtype of the tensor: `target_value` that of
  /// "target", `data_value` that of all other tensors.
  explicit PadStack(at::Scalar data_value = 0, at::Scalar target_value = 0) {
    all_.value = std::move(data_value);
    named("target").value = std::move(target_value);
  }

  /// The value that fills the padding.
  PadStack& value(const at::Scalar& value) {
    return set([&](detail::Padding& padding) { padding.value = value; });
  }
  /// The same for one tensor.
  PadStack& value(const std::string& name, const at::Scalar& value) {
    named(name).value = value;
    return *this;
  }

  /// The axis of a sample that is padded; 0 if not set. Negative numbers count from the last axis.
  PadStack& axis(std::int64_t axis) {
    return set([&](detail::Padding& padding) { padding.axis = axis; });
  }
  /// The same for one tensor.
  PadStack& axis(const std::string& name, std::int64_t axis) {
    named(name).axis = axis;
    return *this;
  }

  /// Pads to a multiple of `n`, from 1 to 2^32.
  PadStack& multiple_of(std::int64_t n) {
    require_in_range("multiple_of", n);
    return set([&](detail::Padding& padding) { padding.multiple_of = n; });
  }
  /// The same for one tensor.
  PadStack& multiple_of(const std::string& name, std::int64_t n) {
    require_in_range("multiple_of", n);
    named(name).multiple_of = n;
    return *this;
  }

  /// The largest length of a sample, from 1 to 2^32, before it is padded; and what happens to a
  /// longer one.
  PadStack& max_length(std::int64_t n, TooLong too_long = TooLong::Throw) {
    require_in_range("max_length", n);
    return set([&](detail::Padding& padding) {
      padding.max_length = n;
      padding.too_long = too_long;
    });
  }
  /// The same for one tensor.
  PadStack& max_length(const std::string& name, std::int64_t n, TooLong too_long = TooLong::Throw) {
    require_in_range("max_length", n);
    named(name).max_length = n;
    named(name).too_long = too_long;
    return *this;
  }

  /// Pads and stacks `samples`: Example<>, TensorExample or NamedExample.
  template <class E>
  PaddedBatch<E> operator()(std::vector<E> samples) const {
    static_assert(detail::kStackable<E>,
                  "PadStack expects samples of Example<>, TensorExample or NamedExample");
    if (!samples.empty()) require_names(samples[0]);
    std::vector<NamedExample::Item> lengths;
    PaddedBatch<E> batch(static_cast<E&&>(detail::join_examples(
        std::move(samples), [&](const std::string& name, const std::vector<at::Tensor>& tensors) {
          return detail::with_part("tensor", name, [&] {
            const bool may_be_0d = std::is_same_v<E, NamedExample> || name != "data";
            at::Tensor own_lengths;
            at::Tensor joined = join(name, tensors, may_be_0d, own_lengths);
            if (own_lengths.defined()) lengths.emplace_back(name, std::move(own_lengths));
            return joined;
          });
        })));
    if constexpr (std::is_same_v<E, NamedExample>) {
      batch.lengths = NamedExample(std::move(lengths));
    } else {
      for (auto& [name, tensor] : lengths) {
        (name == "data" ? batch.lengths : batch.target_lengths) = std::move(tensor);
      }
    }
    return batch;
  }

 private:
  friend OnArrays<PadStack>;

  static void require_in_range(const char* setter, std::int64_t n) {
    if (n >= 1 && n <= std::int64_t{1} << 32) return;
    throw Error(ErrorCode::InvalidArgument, std::string("PadStack: ") + setter +
                                                "() expects a number from 1 to 2^32, found " +
                                                std::to_string(n));
  }

  template <class Setter>
  PadStack& set(const Setter& setter) {
    setter(all_);
    for (auto& [name, padding] : named_) setter(padding);
    return *this;
  }
  detail::Padding& named(const std::string& name) {
    return named_.try_emplace(name, all_).first->second;
  }

  template <class E>
  void require_names(E& sample) const {
    for (const auto& [name, padding] : named_) {
      if (name != "target") (void)detail::tensor_named(sample, name);
    }
    for (const std::string& name : arrays_) (void)detail::tensor_named(sample, name);
  }

  at::Tensor join(const std::string& name, const std::vector<at::Tensor>& tensors, bool may_be_0d,
                  at::Tensor& lengths) const {
    const auto is_undefined = [](const at::Tensor& tensor) { return !tensor.defined(); };
    if (may_be_0d && std::all_of(tensors.begin(), tensors.end(), is_undefined)) return {};
    const bool is_chosen = std::find(arrays_.begin(), arrays_.end(), name) != arrays_.end();
    const bool is_0d = tensors[0].defined() && tensors[0].dim() == 0;
    if (!is_chosen && (!arrays_.empty() || (may_be_0d && is_0d))) {
      return detail::stack_samples(tensors);
    }
    const auto own = named_.find(name);
    return detail::pad_samples(tensors, own == named_.end() ? all_ : own->second, *pool_, lengths);
  }

  detail::Padding all_;
  std::map<std::string, detail::Padding> named_;
  std::vector<std::string> arrays_;
  std::shared_ptr<detail::BufferPool> pool_ = detail::make_pool();
};

}  // namespace transforms
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PAD_STACK_HPP_

// ---- torch_npy/data/stack.hpp

#ifndef TORCH_NPY_DATA_STACK_HPP_
#define TORCH_NPY_DATA_STACK_HPP_

/// @file
/// Stack: lists of samples become batches. See also PadStack.

#include <torch/data.h>

#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// Stacks a list of samples into one Example: samples of shape S become tensors of shape (batch
/// size, S...). For the datasets of this library, `.stacked()` is the same and needs no template
/// argument; Stack is for LibTorch's own, and for chains that LibTorch's `Stack` is written in.
/// Does not copy a batch of this library's datasets, unless an earlier transform made new tensors.
/// Throws Error (Mismatch) for an empty batch, and if samples differ in shape or dtype; the message
/// names two of their files if they are known.
template <class E = Example<>>
struct Stack : torch::data::transforms::BatchTransform<std::vector<E>, Batch<E>> {
  /// Stacks `samples`; LibTorch's loader calls this.
  Batch<E> apply_batch(std::vector<E> samples) override {
    return detail::stack_examples(std::move(samples));
  }
};

}  // namespace transforms
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STACK_HPP_

// ---- torch_npy/data/map.hpp

#ifndef TORCH_NPY_DATA_MAP_HPP_
#define TORCH_NPY_DATA_MAP_HPP_

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

// What Dataset::map() may be given, and how functions are called.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The batch type of a dataset whose reader returns R.
template <class R>
struct BatchReadOf {
  using type = R;
};
template <class E>
struct BatchReadOf<SampleRows<E>> {
  using type = Samples<E>;
};
template <class R>
using BatchRead = typename BatchReadOf<R>::type;

/// What the reader of a Dataset<E, B> returns: unstacked samples stay the rows of one tensor for as
/// long as nobody looks at them.
template <class E, class B>
using Read = std::conditional_t<std::is_same_v<B, Samples<E>>, SampleRows<E>, B>;

/// Reads the batch of a request; none if every sample was skipped.
template <class E, class B>
using Reader = std::function<std::optional<Read<E, B>>(Request&)>;

// The types that hold a batch of E.

template <class B>
struct BatchTraits {
  using Example = B;  // for a batch of any other type
  static constexpr bool kHasIndices = false;
};
template <class E>
struct BatchTraits<Samples<E>> {
  using Example = E;
  static constexpr bool kHasIndices = true;
};
template <class E>
struct BatchTraits<Batch<E>> {
  using Example = E;
  static constexpr bool kHasIndices = true;
};
template <class E>
struct BatchTraits<PaddedBatch<E>> {
  using Example = E;
  static constexpr bool kHasIndices = true;
};

/// The batch type for what a transform returns: with indices where there is one.
template <class R>
struct BatchFor {
  using type = R;
};
template <class E>
struct BatchFor<std::vector<E>> {
  using type = Samples<E>;
};
template <class Data, class Target>
struct BatchFor<torch::data::Example<Data, Target>> {
  using type = Batch<torch::data::Example<Data, Target>>;
};
template <>
struct BatchFor<NamedExample> {
  using type = NamedBatch;
};

// The parameters of a function that is not a template.

template <class T, class = void>
struct FunctionTraits {
  using Parameters = void;  // a generic lambda, or no function
};
template <class R, class... P>
struct FunctionTraits<R (*)(P...)> {
  using Parameters = std::tuple<P...>;
  static constexpr bool kIsConst = true;
};
template <class T>
struct FunctionTraits<T, std::void_t<decltype(&T::operator())>>
    : FunctionTraits<decltype(&T::operator())> {};
template <class R, class T, class... P>
struct FunctionTraits<R (T::*)(P...), void> {
  using Parameters = std::tuple<P...>;
  static constexpr bool kIsConst = false;
};
template <class R, class T, class... P>
struct FunctionTraits<R (T::*)(P...) const, void> : FunctionTraits<R (*)(P...)> {};
template <class R, class T, class... P>
struct FunctionTraits<R (T::*)(P...) noexcept, void> : FunctionTraits<R (T::*)(P...)> {};
template <class R, class T, class... P>
struct FunctionTraits<R (T::*)(P...) const noexcept, void> : FunctionTraits<R (*)(P...)> {};
template <class R, class... P>
struct FunctionTraits<R (*)(P...) noexcept> : FunctionTraits<R (*)(P...)> {};

template <class T>
constexpr bool kIsGeneric = std::is_void_v<typename FunctionTraits<T>::Parameters>;

template <class Parameters>
struct FirstOf {
  using type = void;
};
template <class First, class... Others>
struct FirstOf<std::tuple<First, Others...>> {
  using type = std::decay_t<First>;
};
template <class T>
using FirstParameter = typename FirstOf<typename FunctionTraits<T>::Parameters>::type;

template <class T, class = void>
constexpr bool kIsLibTorchTransform = false;
template <class T>
constexpr bool
    kIsLibTorchTransform<T, std::void_t<typename T::InputBatchType, typename T::OutputBatchType>> =
        !std::is_base_of_v<transforms::Transform, T>;

template <class T>
constexpr bool kIsStack = false;
template <class E>
constexpr bool kIsStack<transforms::Stack<E>> = true;

enum class MapKind {
  Transform,          ///< of this library, on the tensors of a batch
  Stack,              ///< of this library
  PadStack,           ///< of this library
  LibTorchOnSamples,  ///< InputBatchType is a list of samples
  LibTorchOnBatch,    ///< InputBatchType is the batch type
  OnSample,           ///< a function of one sample
  OnBatch,            ///< a function of a batch
  Unfit,
};

template <class E, class B, class T>
constexpr MapKind map_kind() {
  constexpr bool is_list = std::is_same_v<B, Samples<E>>;
  if constexpr (std::is_base_of_v<transforms::Transform, T>) {
    return kStackable<E> && BatchTraits<B>::kHasIndices ? MapKind::Transform : MapKind::Unfit;
  } else if constexpr (kIsStack<T>) {
    return is_list ? MapKind::Stack : MapKind::Unfit;
  } else if constexpr (std::is_same_v<T, transforms::PadStack>) {
    return is_list && kStackable<E> ? MapKind::PadStack : MapKind::Unfit;
  } else if constexpr (kIsLibTorchTransform<T>) {
    using In = typename T::InputBatchType;
    return is_list && std::is_same_v<In, std::vector<E>> ? MapKind::LibTorchOnSamples
           : std::is_same_v<In, B>                       ? MapKind::LibTorchOnBatch
                                                         : MapKind::Unfit;
  } else if constexpr (kIsGeneric<T>) {
    return !is_list && (std::is_invocable_v<const T&, B&> ||
                        std::is_invocable_v<const T&, B&, at::Generator&>)
               ? MapKind::OnBatch
               : MapKind::Unfit;
  } else if constexpr (!FunctionTraits<T>::kIsConst) {
    return MapKind::Unfit;
  } else {
    using P = FirstParameter<T>;
    return std::is_same_v<P, B> || (is_list && std::is_same_v<P, std::vector<E>>) ? MapKind::OnBatch
           : is_list && std::is_same_v<P, E> ? MapKind::OnSample
                                             : MapKind::Unfit;
  }
}

/// A generator for a function that takes one. Kept by the thread, because making one takes longer
/// than seeding it; several if the function reads another dataset.
class SeededGenerator {
 public:
  explicit SeededGenerator(std::uint64_t seed) {
    if (spare().empty()) {
      generator_ = at::detail::createCPUGenerator();
    } else {
      generator_ = std::move(spare().back());
      spare().pop_back();
    }
    const std::lock_guard<std::mutex> lock(generator_.mutex());
    generator_.set_current_seed(seed);
  }
  SeededGenerator(const SeededGenerator&) = delete;
  SeededGenerator& operator=(const SeededGenerator&) = delete;
  ~SeededGenerator() { spare().push_back(std::move(generator_)); }

  at::Generator& get() noexcept { return generator_; }

 private:
  static std::vector<at::Generator>& spare() {
    thread_local std::vector<at::Generator> generators;
    return generators;
  }

  at::Generator generator_;
};

template <class T, class Argument>
constexpr bool kTakesGenerator = std::is_invocable_v<const T&, Argument&, at::Generator&> ||
                                 std::is_invocable_v<const T&, Argument, at::Generator&>;

/// Calls a function given to map() with a batch or a sample, and with a generator if it takes one.
/// What it returns, or the argument if it changes that and returns nothing.
template <class T, class Argument>
auto call_function(const T& function, Argument argument, SplitMix64 numbers) {
  const auto call = [&](auto&&... generator) {
    // By reference, or moved into a parameter by value.
    constexpr bool by_reference =
        std::is_invocable_v<const T&, Argument&, decltype(generator)...> &&
        !std::is_invocable_v<const T&, Argument, decltype(generator)...>;
    using Passed = std::conditional_t<by_reference, Argument&, Argument>;
    using R = std::invoke_result_t<const T&, Passed, decltype(generator)...>;
    if constexpr (std::is_void_v<R>) {
      static_assert(by_reference,
                    "map(): this function returns nothing. Return the batch or sample, or take it "
                    "by reference and change it");
      function(argument, generator...);
      return argument;
    } else {
      return std::decay_t<R>(function(static_cast<Passed&&>(argument), generator...));
    }
  };
  if constexpr (kTakesGenerator<T, Argument>) {
    SeededGenerator generator(numbers.next());
    return call(generator.get());
  } else {
    return call();
  }
}

/// Calls `work`. Adds the names of samples to what it throws: an Error stays one, any other
/// exception becomes the nested one of an Error (Transform).
template <class Work>
auto with_sample(const Request& request, std::size_t i, bool is_batch, const Work& work) {
  const auto name = [&] {
    std::string key = std::to_string(i);
    try {
      if (request.dataset != nullptr && i < request.picks.size()) {
        key = in_quotes(request.dataset->key(request.picks[i].index));
      }
    } catch (...) {  // What `work` threw matters more.
    }
    return (is_batch ? "batch that begins with sample " : "sample ") + key;
  };
  const auto failed = [&](const std::string& reason) {
    return Error(ErrorCode::Transform, name() + ": a function given to map() failed: " + reason);
  };
  try {
    return work();
  } catch (const Error& error) {
    throw ErrorContext::within(error, name());
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::OutOfMemory, name() + ": out of memory");
  } catch (const c10::Error& error) {
    std::throw_with_nested(failed(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    std::throw_with_nested(failed(error.what()));
  } catch (...) {
    std::throw_with_nested(failed("it threw what is no std::exception"));
  }
}

/// The numbers of the samples of a batch in the dataset that map() was called on, which a subset or
/// a concatenation may have been made of since.
inline std::vector<std::size_t> indices_in(const decltype(Request::sample_of)& sample_of,
                                           const Request& request) {
  std::vector<std::size_t> indices = request.indices();
  if (!sample_of) return indices;
  for (std::size_t& index : indices) index = sample_of(index).value();
  return indices;
}

/// The picks of a batch whose indices, once `before`, a function has changed, so that later
/// transforms draw for the right samples.
inline std::vector<Pick> picks_for(const std::vector<std::size_t>& indices,
                                   const std::vector<std::size_t>& before, const Request& request) {
  std::unordered_map<std::size_t, std::vector<const Pick*>> by_index;
  for (std::size_t i = 0; i < before.size(); ++i) {
    by_index[before[i]].push_back(&request.picks[i]);
  }
  std::unordered_map<std::size_t, std::size_t> uses;
  std::vector<Pick> picks;
  picks.reserve(indices.size());
  for (const std::size_t index : indices) {
    const auto found = by_index.find(index);
    if (found == by_index.end()) {
      throw Error(ErrorCode::Mismatch,
                  "a function given to map() set `indices` of its batch to sample " +
                      std::to_string(index) + ", which was not in the batch");
    }
    const std::size_t use = uses[index]++;
    picks.push_back(*found->second[use % found->second.size()]);
    picks.back().copy += use / found->second.size();
  }
  return picks;
}

/// The sizes of axis 0 of the tensors of a stacked batch, without 0-d ones.
template <class B>
std::vector<std::size_t> row_counts(B& batch) {
  std::vector<std::size_t> counts;
  BatchTensors<B>::each(batch, [&](const at::Tensor& tensor) {
    if (tensor.defined() && tensor.dim() != 0) {
      counts.push_back(static_cast<std::size_t>(tensor.size(0)));
    }
  });
  return counts;
}

/// Takes over the indices that a function has set. False if it has removed all samples. Throws
/// Error (Mismatch) if there are more or fewer indices than samples, so that no sample gets the
/// name of another one.
template <class B>
bool take_indices(B& batch, const std::vector<std::size_t>& before, Request& request) {
  if constexpr (BatchTraits<B>::kHasIndices) {
    using E = typename BatchTraits<B>::Example;
    std::vector<std::size_t> counts;
    if constexpr (std::is_same_v<B, Samples<E>>) {
      counts = {batch.size()};
    } else if constexpr (kStackable<E>) {
      counts = row_counts(batch);
    }
    if (!counts.empty() && *std::max_element(counts.begin(), counts.end()) == 0) {
      request.picks.clear();
      return false;
    }
    if (!batch.indices.empty() && batch.indices != before) {
      request.picks = picks_for(batch.indices, before, request);
    }
    const auto is_wrong = [&](std::size_t count) { return count != request.picks.size(); };
    const auto wrong = std::find_if(counts.begin(), counts.end(), is_wrong);
    // A NamedExample may have tensors that are about the whole batch.
    if (wrong != counts.end() &&
        (!std::is_same_v<E, NamedExample> || std::all_of(counts.begin(), counts.end(), is_wrong))) {
      throw Error(ErrorCode::Mismatch,
                  "a function given to map() returned a batch of " + counted(*wrong, "sample") +
                      " with the indices of " + std::to_string(request.picks.size()) +
                      ": if it removes or adds samples, it has to do so in every tensor, and set "
                      "`indices` of the batch");
    }
  }
  return true;
}

/// What a transform returned, as the reader of the next dataset returns it. `before` are the
/// indices of its argument.
template <class R>
auto as_read(R result, const std::vector<std::size_t>& before, Request& request) {
  using C = typename BatchFor<R>::type;
  using Result = std::optional<Read<typename BatchTraits<C>::Example, C>>;
  C batch(std::move(result));
  return take_indices(batch, before, request) ? Result(std::move(batch)) : Result();
}

/// The argument of a function of a batch.
template <class E, class B>
B batch_from(Read<E, B> read, std::vector<std::size_t> indices) {
  if constexpr (std::is_same_v<B, Samples<E>>) {
    B batch(std::move(read).separate());
    batch.indices = std::move(indices);
    return batch;
  } else {
    if constexpr (BatchTraits<B>::kHasIndices) read.indices = std::move(indices);
    return read;
  }
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAP_HPP_

// ---- torch_npy/data/sample_cache.hpp

#ifndef TORCH_NPY_DATA_SAMPLE_CACHE_HPP_
#define TORCH_NPY_DATA_SAMPLE_CACHE_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

// The bytes of samples, kept in memory.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// How the bytes of a sample are arranged, one tensor after another. Samples with the same layout
/// can be the rows of one batch.
struct SampleLayout {
  struct Part {
    std::string name;
    c10::ScalarType type;
    std::vector<std::int64_t> sizes;
    std::vector<std::int64_t> strides;
    std::size_t bytes;   // of the tensor
    std::size_t offset;  // of its first byte in the sample

    bool operator<(const Part& other) const {
      return std::tie(name, type, sizes, strides) <
             std::tie(other.name, other.type, other.sizes, other.strides);
    }
  };

  std::vector<Part> parts;
  std::size_t bytes = 0;

  bool operator<(const SampleLayout& other) const { return parts < other.parts; }

  void add(const std::string& name, const at::Tensor& tensor) {
    parts.push_back({name, tensor.scalar_type(), tensor.sizes().vec(), tensor.strides().vec(),
                     tensor.nbytes(), bytes});
    bytes += tensor.nbytes();
  }
};

/// A sample in memory: its bytes in one run, or each of its tensors alone. Without a layout, it is
/// no plain bytes, and is not kept.
struct SampleBytes {
  const SampleLayout* layout = nullptr;
  const char* run = nullptr;
  std::vector<const char*> each;  // if there is no run

  const char* part(std::size_t k) const {
    return run != nullptr ? run + layout->parts[k].offset : each[k];
  }
};

/// Samples in memory, by number. The first ones to come stay; a sample that does not fit is not
/// kept. They are in large pieces of memory, because an allocation for each sample would cost time
/// and memory. Safe from any thread; finding takes no lock.
class SampleCache {
 public:
  /// For `samples` samples, of which it keeps at most `limit` bytes.
  SampleCache(std::size_t samples, std::size_t limit) : slots_(samples), left_(limit) {}

  /// The sample, without a layout if it is not there.
  SampleBytes find(std::size_t sample) const {
    const Slot& slot = slots_[sample];
    const char* const bytes = slot.bytes.load(std::memory_order_acquire);
    if (bytes == nullptr || bytes == &kBusy) return {};
    return {slot.layout, bytes, {}};
  }

  /// The one object for all equal layouts.
  const SampleLayout* shared(SampleLayout layout) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return &*layouts_.insert(std::move(layout)).first;
  }

  /// Keeps a copy of a sample that has a layout, if it fits and is not there.
  void keep(std::size_t sample, const SampleBytes& from) {
    const SampleLayout& layout = *from.layout;
    Slot& slot = slots_[sample];
    const char* none = nullptr;
    if (layout.bytes > left_.load(std::memory_order_relaxed) ||
        !slot.bytes.compare_exchange_strong(none, &kBusy, std::memory_order_acquire)) {
      return;
    }
    char* const room = allocate(layout.bytes);
    if (room != nullptr) {
      for (std::size_t k = 0; k < layout.parts.size(); ++k) {
        const SampleLayout::Part& part = layout.parts[k];
        if (part.bytes != 0) std::memcpy(room + part.offset, from.part(k), part.bytes);
      }
      slot.layout = &layout;
    }
    slot.bytes.store(room, std::memory_order_release);
  }

 private:
  struct Slot {
    std::atomic<const char*> bytes{nullptr};
    const SampleLayout* layout = nullptr;
  };

  static constexpr std::size_t kPiece = std::size_t{16} << 20;
  static constexpr char kBusy = 0;  // its address: a thread is copying the sample

  /// Null if it does not fit.
  char* allocate(std::size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::size_t left = left_.load(std::memory_order_relaxed);
    if (bytes > left) return nullptr;
    try {
      if (bytes > kPiece / 4) {
        char* const alone = add_piece(bytes);
        left_ = left - bytes;
        return alone;
      }
      if (bytes > room_ || next_ == nullptr) {
        const std::size_t size = (std::max)((std::min)(kPiece, left), std::size_t{1});
        next_ = add_piece(size);
        room_ = size;
      }
    } catch (const std::exception&) {
      left_ = 0;  // There is no memory for more samples.
      return nullptr;
    }
    left_ = left - bytes;
    room_ -= bytes;
    return std::exchange(next_, next_ + bytes);
  }

  char* add_piece(std::size_t bytes) {
    pieces_.push_back(empty_host(bytes, at::kByte, {static_cast<std::int64_t>(bytes)}, {1}, false));
    return static_cast<char*>(pieces_.back().data_ptr());
  }

  std::vector<Slot> slots_;
  std::mutex mutex_;
  std::set<SampleLayout> layouts_;
  std::vector<at::Tensor> pieces_;
  char* next_ = nullptr;  // the rest of the last piece
  std::size_t room_ = 0;
  std::atomic<std::size_t> left_;  // of the limit
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SAMPLE_CACHE_HPP_

// ---- torch_npy/data/cached.hpp

#ifndef TORCH_NPY_DATA_CACHED_HPP_
#define TORCH_NPY_DATA_CACHED_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// The reader of dataset.cached(): samples stay in memory after they were first read.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True for tensors that are bytes in host memory, without gaps.
inline bool can_keep(const at::Tensor& tensor) {
  return tensor.defined() && is_plain(tensor) && tensor.is_non_overlapping_and_dense();
}

/// The bytes of the rows of an Example.
template <class E>
std::vector<SampleBytes> bytes_of_rows(const Batch<E>& whole, std::size_t count,
                                       SampleCache& cache) {
  SampleLayout layout;
  std::vector<std::pair<const char*, std::size_t>> parts;  // first row, and bytes between rows
  bool is_kept = true;
  SampleTensors<E>::each(
      static_cast<const E&>(whole), [&](const std::string& name, const at::Tensor& tensor) {
        is_kept = is_kept && tensor.defined() && tensor.dim() != 0 &&
                  static_cast<std::size_t>(tensor.size(0)) == count && can_keep(tensor[0]);
        if (!is_kept) return;
        layout.add(name, tensor[0]);
        parts.emplace_back(static_cast<const char*>(tensor.data_ptr()),
                           static_cast<std::size_t>(tensor.stride(0)) * tensor.itemsize());
      });
  std::vector<SampleBytes> all(count);
  if (!is_kept || parts.empty()) return all;
  const SampleLayout* const shared = cache.shared(std::move(layout));
  for (std::size_t i = 0; i < count; ++i) {
    all[i].layout = shared;
    for (const auto& [first, step] : parts) all[i].each.push_back(first + i * step);
  }
  return all;
}

/// The bytes of samples.
template <class E>
std::vector<SampleBytes> bytes_of_each(const std::vector<E>& samples, SampleCache& cache) {
  std::vector<SampleBytes> all(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    SampleLayout layout;
    bool is_kept = true;
    SampleTensors<E>::each(samples[i], [&](const std::string& name, const at::Tensor& tensor) {
      is_kept = is_kept && can_keep(tensor);
      if (!is_kept) return;
      layout.add(name, tensor);
      all[i].each.push_back(static_cast<const char*>(tensor.data_ptr()));
    });
    if (is_kept && !layout.parts.empty()) all[i].layout = cache.shared(std::move(layout));
  }
  return all;
}

/// Copies kept samples to the rows of an Example, in memory that is used again.
template <class E>
class SampleCopier {
 public:
  explicit SampleCopier(std::shared_ptr<const SourceInfo> source)
      : source_(std::move(source)), pool_(make_pool()) {}

  /// Copies the samples `numbers`, which have the same layout, to the rows of one Example.
  Batch<E> copy(const SampleBytes* rows, std::vector<std::size_t> numbers, bool pin) const {
    const std::size_t count = numbers.size();
    const SampleLayout& layout = *rows[0].layout;
    std::vector<at::Tensor> wholes;
    std::vector<char*> out;
    for (const SampleLayout::Part& part : layout.parts) {
      wholes.push_back(empty_rows(part, count, pin));
      out.push_back(static_cast<char*>(wholes.back().data_ptr()));
    }
    constexpr std::size_t kAhead = 2;  // as gather_rows()
    for (std::size_t i = 0; i < count; ++i) {
#if defined(__GNUC__) || defined(__clang__)
      if (i + kAhead < count) __builtin_prefetch(rows[i + kAhead].part(0));
#endif
      for (std::size_t k = 0; k < out.size(); ++k) {
        const std::size_t bytes = layout.parts[k].bytes;
        if (bytes != 0) std::memcpy(out[k] + i * bytes, rows[i].part(k), bytes);
      }
    }
    name_rows(wholes, layout, std::move(numbers));
    return batch_of(layout, std::move(wholes));
  }

 private:
  at::Tensor empty_rows(const SampleLayout::Part& part, std::size_t count, bool pin) const {
    std::vector<std::int64_t> sizes = part.sizes;
    std::vector<std::int64_t> strides = part.strides;
    sizes.insert(sizes.begin(), static_cast<std::int64_t>(count));
    strides.insert(strides.begin(),
                   static_cast<std::int64_t>(part.bytes / c10::elementSize(part.type)));
    return empty_from(*pool_, count * part.bytes, part.type, sizes, strides, pin);
  }

  /// So that messages name the samples.
  void name_rows(const std::vector<at::Tensor>& wholes, const SampleLayout& layout,
                 std::vector<std::size_t> numbers) const {
    const auto shared = std::make_shared<const std::vector<std::size_t>>(std::move(numbers));
    for (std::size_t k = 0; k < wholes.size(); ++k) {
      TensorMemory* const memory = TensorMemory::of(wholes[k]);
      if (memory == nullptr || layout.parts[k].bytes == 0) continue;
      memory->origin = [source = std::weak_ptr(source_), shared,
                        bytes = layout.parts[k].bytes](std::size_t byte) {
        const auto owner = source.lock();
        const std::size_t row = byte / bytes;
        return owner && row < shared->size() ? owner->key((*shared)[row]) : std::string();
      };
    }
  }

  static Batch<E> batch_of(const SampleLayout& layout, std::vector<at::Tensor> wholes) {
    if constexpr (std::is_same_v<E, NamedExample>) {
      std::vector<NamedExample::Item> items;
      for (std::size_t k = 0; k < wholes.size(); ++k) {
        items.emplace_back(layout.parts[k].name, std::move(wholes[k]));
      }
      return Batch<E>(NamedExample(std::move(items)));
    } else {
      Batch<E> batch;
      std::size_t k = 0;
      SampleTensors<E>::each(static_cast<E&>(batch), [&](const std::string&, at::Tensor& tensor) {
        tensor = std::move(wholes[k++]);
      });
      return batch;
    }
  }

  std::shared_ptr<const SourceInfo> source_;
  std::shared_ptr<BufferPool> pool_;
};

/// The reader of the cached form of a dataset.
template <class E>
class CachedReader {
 public:
  CachedReader(std::shared_ptr<const Reader<E, Samples<E>>> read,
               const std::shared_ptr<const SourceInfo>& source, std::size_t bytes)
      : read_(std::move(read)),
        cache_(std::make_shared<SampleCache>(source->size(), bytes)),
        copier_(source) {}

  std::optional<SampleRows<E>> operator()(Request& request) const {
    Rows found;
    std::vector<Pick> missing;
    for (const Pick& pick : request.picks) {
      found.add(pick, cache_->find(pick.sample), kKept);
      if (found.bytes.back().layout == nullptr) missing.push_back(pick);
    }
    if (missing.empty() && !request.picks.empty()) return joined(found, std::nullopt, request);
    const bool is_all = missing.size() == request.picks.size();
    Request rest = request_for(std::move(missing), request);
    auto read = (*read_)(rest);
    if (!read) rest.picks.clear();
    std::vector<SampleBytes> bytes;
    if (read) bytes = keep(*read, rest.picks, request.sample_of);
    if (is_all) {
      request.picks = std::move(rest.picks);
      return read;
    }
    found = merged(std::move(found), rest.picks, std::move(bytes));
    request.picks = found.picks;
    return joined(found, std::move(read), request);
  }

 private:
  using SampleOf = decltype(Request::sample_of);
  static constexpr std::size_t kKept = SIZE_MAX;

  /// Samples of a request, in order.
  struct Rows {
    std::vector<Pick> picks;
    std::vector<SampleBytes> bytes;
    std::vector<std::size_t> read;  // which of the samples that were read now, or kKept

    void add(const Pick& pick, SampleBytes its_bytes, std::size_t number) {
      picks.push_back(pick);
      bytes.push_back(std::move(its_bytes));
      read.push_back(number);
    }
  };

  /// A request for whole samples: copies what it needs and no more, because what a later map() asks
  /// for must not change what is kept.
  static Request request_for(std::vector<Pick> picks, const Request& request) {
    Request rest;
    rest.picks = std::move(picks);
    rest.seed = request.seed;
    rest.epoch = request.epoch;
    rest.pin_memory = request.pin_memory;
    rest.may_skip = request.may_skip;
    rest.dataset = request.dataset;
    rest.population = request.population;
    rest.sample_of = request.sample_of;
    return rest;
  }

  /// The numbers of samples in this dataset.
  static std::vector<std::size_t> numbers_of(const std::vector<Pick>& picks,
                                             const SampleOf& sample_of) {
    std::vector<std::size_t> numbers;
    numbers.reserve(picks.size());
    for (const Pick& pick : picks) {
      numbers.push_back(sample_of ? sample_of(pick.index).value() : pick.index);
    }
    return numbers;
  }

  /// Keeps the samples that were read, and returns their bytes, which exist as long as `read`.
  std::vector<SampleBytes> keep(SampleRows<E>& read, const std::vector<Pick>& picks,
                                const SampleOf& sample_of) const {
    std::vector<SampleBytes> all = read.is_whole()
                                       ? bytes_of_rows<E>(read.whole(), picks.size(), *cache_)
                                       : bytes_of_each<E>(read.each(), *cache_);
    const std::vector<std::size_t> numbers = numbers_of(picks, sample_of);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (all[i].layout != nullptr) cache_->keep(numbers[i], all[i]);
    }
    return all;
  }

  /// The rows that were found, and in between those that were read; without those that were
  /// skipped.
  static Rows merged(Rows found, const std::vector<Pick>& picks, std::vector<SampleBytes> bytes) {
    Rows all;
    std::size_t next = 0;
    for (std::size_t i = 0; i < found.picks.size(); ++i) {
      if (found.bytes[i].layout != nullptr) {
        all.add(found.picks[i], std::move(found.bytes[i]), kKept);
      } else if (next < picks.size() && picks[next].position == found.picks[i].position) {
        all.add(picks[next], std::move(bytes[next]), next);
        ++next;
      }
    }
    if (next == picks.size()) return all;
    throw Error(ErrorCode::Mismatch,
                "the source of this dataset returned samples in another order than that of the "
                "request");
  }

  /// The rows as one Example if they are alike, else one by one.
  std::optional<SampleRows<E>> joined(const Rows& rows, std::optional<SampleRows<E>> read,
                                      const Request& request) const {
    const bool pin = request.pin_memory;
    std::vector<std::size_t> numbers = numbers_of(rows.picks, request.sample_of);
    const SampleLayout* const layout = rows.bytes[0].layout;
    const auto is_like_first = [&](const SampleBytes& one) { return one.layout == layout; };
    if (layout != nullptr && std::all_of(rows.bytes.begin(), rows.bytes.end(), is_like_first)) {
      return copier_.copy(rows.bytes.data(), std::move(numbers), pin);
    }
    std::vector<E> others;
    if (read) others = std::move(*read).separate();
    std::vector<E> samples;
    samples.reserve(numbers.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (rows.read[i] != kKept) {
        samples.push_back(std::move(others[rows.read[i]]));
      } else {
        std::vector<E> one = unstack(copier_.copy(&rows.bytes[i], {numbers[i]}, pin));
        samples.push_back(std::move(one[0]));
      }
    }
    return samples;
  }

  std::shared_ptr<const Reader<E, Samples<E>>> read_;
  std::shared_ptr<SampleCache> cache_;
  SampleCopier<E> copier_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_CACHED_HPP_

// ---- torch_npy/data/random_crop.hpp

#ifndef TORCH_NPY_DATA_RANDOM_CROP_HPP_
#define TORCH_NPY_DATA_RANDOM_CROP_HPP_

/// @file
/// RandomCrop.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/core/Scalar.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {
class CropRegions;
}

namespace transforms {

/// Crops samples along their last axes to `size`, at a random position for each sample: images
/// (..., H, W) to {h, w}, volumes (..., D, H, W) to {d, h, w}, and so on. The result has the same
/// dtype, and is in new memory.
///
/// Directly after a dataset of files, archives or mapped arrays, only the crop is read:
/// `FolderDataset("volumes").map(RandomCrop({64, 64, 64})).stacked()`. The result is the same as if
/// all were read. With on(), all is read.
///
/// Throws Error (Mismatch) for a sample that is too small, even with padding; InvalidArgument if
/// its dtype cannot hold the value of fill().
class RandomCrop : public Transform, public OnArrays<RandomCrop> {
 public:
  /// `size`: one number for each axis that is cropped, in elements; -1 keeps an axis whole. A
  /// single number stands for height and width. Before they are cropped, samples get `padding`
  /// elements at each end of these axes. Throws Error (InvalidArgument) if `size` is empty, only
  /// -1, or not from 1 to 2^32, or `padding` is not from 0 to 2^32.
  explicit RandomCrop(c10::IntArrayRef size, std::int64_t padding = 0,
                      const std::optional<at::Generator>& generator = std::nullopt)
      : Transform(detail::draw_seed(generator)), size_(size.vec()), padding_(padding) {
    constexpr std::int64_t kMax = std::int64_t{1} << 32;
    if (size_.size() == 1) size_.push_back(size_[0]);
    bool is_valid = padding >= 0 && padding <= kMax;
    bool crops = false;
    for (const std::int64_t length : size_) {
      is_valid = is_valid && (length == -1 || (length >= 1 && length <= kMax));
      crops = crops || length != -1;
    }
    if (is_valid && crops) return;
    throw Error(
        ErrorCode::InvalidArgument,
        "RandomCrop expects sizes from 1 to 2^32, such as a height and a width, or one number "
        "for both, and a padding from 0 to 2^32; -1 keeps an axis whole");
  }

  /// The same for `RandomCrop({28, 28})`.
  // Without it, the call would be ambiguous with a copy of RandomCrop(28, 28).
  explicit RandomCrop(std::initializer_list<std::int64_t> size, std::int64_t padding = 0,
                      const std::optional<at::Generator>& generator = std::nullopt)
      : RandomCrop(c10::IntArrayRef(size), padding, generator) {}

  /// Whether a target with two or more axes is cropped with the data; the default is true. Along
  /// the axes that are cropped, it must have the sizes of the data.
  RandomCrop& with_target(bool value) {
    with_target_ = value;
    return *this;
  }

  /// Whether a sample that is smaller than the crop is padded to its size; the default is false.
  /// The whole sample is then at a random position in the crop.
  RandomCrop& pad_if_needed(bool value) {
    pad_if_needed_ = value;
    return *this;
  }

  /// The value of padding, in the data and in targets; the default is 0.
  RandomCrop& fill(at::Scalar data_value, at::Scalar target_value = 0) {
    fill_[0] = std::move(data_value);
    fill_[1] = std::move(target_value);
    return *this;
  }

  /// What with_target() was given.
  bool with_target() const noexcept { return with_target_; }

  /// The axes that are cropped.
  std::size_t common_axes() const override { return size_.size(); }

  /// Crops every sample at a position of its own.
  void apply(at::Tensor& data, at::Tensor* target, const Draws& draws) const override {
    const c10::IntArrayRef sizes = data.sizes().slice(1);
    require_size(sizes);
    at::Tensor* const image = with_target_ ? detail::image_target(target, data, size_) : nullptr;
    std::vector<Region> cuts;
    for (std::int64_t i = 0; i < data.size(0); ++i) {
      cuts.push_back(cut(sizes, draws.sample(static_cast<std::size_t>(i))));
    }
    data = crop(data, cuts, fill_[0]);
    if (image != nullptr) *image = crop(*image, cuts, fill_[1]);
  }

 private:
  friend class detail::CropRegions;

  /// Throws Error (Mismatch) for a sample that cannot be cropped.
  void require_size(c10::IntArrayRef sample) const {
    if (size_.size() == 2 && detail::seems_channels_last(sample)) {
      throw Error(ErrorCode::Mismatch,
                  "RandomCrop expects samples of shape (..., H, W), found shape " +
                      detail::python_tuple(sample.vec()) +
                      ", which seems to be (H, W, C); put ToTensor before it, or crop with the "
                      "sizes {h, w, -1}");
    }
    bool fits = sample.size() >= size_.size();
    for (std::size_t i = 1; fits && !pad_if_needed_ && i <= size_.size(); ++i) {
      fits = sample[sample.size() - i] + 2 * padding_ >= size_[size_.size() - i];
    }
    if (fits) return;
    const bool is_small = sample.size() >= size_.size();
    std::string least;
    for (const std::int64_t length : size_) {
      least += (least.empty() ? "" : " x ") + (length == -1 ? "any" : std::to_string(length));
    }
    const std::string shape = size_.size() == 2   ? "(..., H, W)"
                              : size_.size() == 3 ? "(..., D, H, W)"
                                                  : std::to_string(size_.size()) + " or more axes";
    throw Error(ErrorCode::Mismatch,
                "RandomCrop expects samples of shape " + shape +
                    (is_small ? " with at least " + least + " pixels after padding" : "") +
                    ", found shape " + detail::python_tuple(sample.vec()) +
                    (is_small ? "; pad_if_needed(true) pads them" : ""));
  }

  /// The ranges of the last axes that are kept of a sample of this shape.
  Region cut(c10::IntArrayRef sample, detail::SplitMix64 numbers) const {
    require_size(sample);
    Region cut(size_.size());
    for (std::size_t i = 0; i < size_.size(); ++i) {
      if (size_[i] == -1) continue;
      const std::int64_t last =
          sample[sample.size() - size_.size() + i] + padding_ - size_[i];  // below -padding_: small
      const std::int64_t low = (std::min)(-padding_, last);
      const std::int64_t high = (std::max)(-padding_, last);
      const auto shift = numbers.below(static_cast<std::uint64_t>(high - low) + 1);
      cut[i].begin = low + static_cast<std::int64_t>(shift);
      cut[i].end = cut[i].begin + size_[i];
    }
    return cut;
  }

  at::Tensor crop(const at::Tensor& batch, const std::vector<Region>& cuts,
                  const at::Scalar& fill) const {
    const auto axes = static_cast<std::int64_t>(size_.size());
    std::vector<std::int64_t> sizes = batch.sizes().vec();
    bool pads = false;
    for (std::int64_t i = 0; i < axes; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (size_[at] == -1) continue;
      sizes.end()[i - axes] = size_[at];
      pads = pads || std::any_of(cuts.begin(), cuts.end(), [&](const Region& cut) {
               return cut[at].begin < 0 || cut[at].end > batch.size(i - axes);
             });
    }
    if (pads) (void)detail::element_of(fill, batch.scalar_type());
    const at::Tensor out =
        pads ? at::full(sizes, fill, batch.options()) : at::empty(sizes, batch.options());
    for (std::size_t sample = 0; sample < cuts.size(); ++sample) {
      at::Tensor from = batch.select(0, static_cast<std::int64_t>(sample));
      at::Tensor to = out.select(0, static_cast<std::int64_t>(sample));
      for (std::int64_t i = 0; i < axes; ++i) {
        narrow(i - axes, cuts[sample][static_cast<std::size_t>(i)], from, to);
      }
      to.copy_(from);
    }
    return out;
  }

  /// Narrows both to the overlap of the range and the sample.
  static void narrow(std::int64_t axis, const AxisRange& range, at::Tensor& from, at::Tensor& to) {
    const std::int64_t first = std::max<std::int64_t>(range.begin, 0);
    const std::int64_t common = (std::min)(range.end, from.size(axis)) - first;
    from = from.narrow(axis, common > 0 ? first : 0, (std::max)(common, std::int64_t{0}));
    to = to.narrow(axis, common > 0 ? first - range.begin : 0, from.size(axis));
  }

  std::vector<std::int64_t> size_;  // of the last axes
  std::int64_t padding_;
  bool pad_if_needed_ = false;
  bool with_target_ = true;
  at::Scalar fill_[2] = {0, 0};  // of data and target
};

}  // namespace transforms

namespace detail {

/// What a RandomCrop keeps of the samples that are read for it.
class CropRegions final : public SampleRegions {
 public:
  CropRegions(const transforms::RandomCrop& crop, const Draws& draws)
      : crop_(crop), draws_(draws) {}

  std::optional<Region> of_data(const Pick& pick, c10::IntArrayRef data) const override {
    return region(pick, data, data.size());
  }

  std::optional<Region> of_target(const Pick& pick, c10::IntArrayRef data,
                                  c10::IntArrayRef target) const override {
    try {
      const bool crops = crop_.with_target() && is_image_target(target, data, crop_.size_);
      if (!crops) return Region();
    } catch (const Error&) {
      return std::nullopt;  // RandomCrop::apply() throws it again
    }
    return region(pick, data, target.size());
  }

  at::Scalar fill_value(std::size_t part) const override { return crop_.fill_[part]; }

 private:
  /// The region of a tensor of `axes` axes.
  std::optional<Region> region(const Pick& pick, c10::IntArrayRef data, std::size_t axes) const {
    try {
      Region region = crop_.cut(data, draws_.of(pick));
      region.insert(region.begin(), axes - region.size(), AxisRange());
      return region;
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  const transforms::RandomCrop& crop_;
  const Draws& draws_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RANDOM_CROP_HPP_

// ---- torch_npy/data/mapped_reader.hpp

#ifndef TORCH_NPY_DATA_MAPPED_READER_HPP_
#define TORCH_NPY_DATA_MAPPED_READER_HPP_

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// The reader of dataset.map(): what was read, transformed.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Applies a transform of this library.
template <class E, class B>
void apply_transform(const transforms::Transform& transform, Read<E, B>& batch,
                     const Request& request, const Draws& draws) {
  const auto apply_whole = [&](auto& whole) {
    with_sample(request, 0, true, [&] { apply_to(transform, whole, draws); });
  };
  if constexpr (!std::is_same_v<B, Samples<E>>) {
    apply_whole(batch);
  } else if (batch.is_whole()) {
    apply_whole(batch.whole());
  } else {
    for (std::size_t i = 0; i < batch.each().size(); ++i) {
      with_sample(request, i, false,
                  [&] { apply_to_sample(transform, batch.each()[i], draws.from(i)); });
    }
  }
}

/// Applies `transform` to what was read.
template <MapKind kKind, class E, class B, class T>
auto apply_map(const T& transform, Read<E, B> read, const std::vector<std::size_t>& indices,
               Request& request, const Draws& draws) {
  if constexpr (kKind == MapKind::Transform) {
    apply_transform<E, B>(transform, read, request, draws);
    return std::optional<Read<E, B>>(std::move(read));
  } else if constexpr (kKind == MapKind::PadStack) {
    return with_sample(request, 0, true,
                       [&] { return std::optional(transform(std::move(read).separate())); });
  } else if constexpr (kKind == MapKind::LibTorchOnSamples) {
    return as_read(
        with_sample(request, 0, true,
                    [&] { return T(transform).apply_batch(std::move(read).separate()); }),
        indices, request);
  } else if constexpr (kKind == MapKind::LibTorchOnBatch) {
    return as_read(
        with_sample(
            request, 0, true,
            [&] { return T(transform).apply_batch(batch_from<E, B>(std::move(read), indices)); }),
        indices, request);
  } else if constexpr (kKind == MapKind::OnBatch) {
    return as_read(with_sample(request, 0, true,
                               [&] {
                                 return call_function(transform,
                                                      batch_from<E, B>(std::move(read), indices),
                                                      draws.sample(0));
                               }),
                   indices, request);
  } else {
    std::vector<E> samples = std::move(read).separate();
    using F = decltype(call_function(transform, std::move(samples[0]), draws.sample(0)));
    std::vector<F> results;
    results.reserve(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      results.push_back(with_sample(request, i, false, [&] {
        return call_function(transform, std::move(samples[i]), draws.sample(i));
      }));
    }
    return std::optional<SampleRows<F>>(std::move(results));
  }
}

/// Reads the samples that a crop is applied to: from a source that can do so, only what it keeps.
template <class E, class B>
std::optional<Read<E, B>> read_cropped(const Reader<E, B>& read, const transforms::RandomCrop& crop,
                                       Request& request, const Draws& draws, bool reads_regions) {
  const CropRegions regions(crop, draws);
  constexpr bool is_list = std::is_same_v<B, Samples<E>>;
  request.regions = is_list && reads_regions && crop.arrays().empty() ? &regions : nullptr;
  auto batch = read(request);
  request.regions = nullptr;
  if (!batch) return std::nullopt;
  const auto is_cropped = [](const Pick& pick) { return pick.is_cropped; };
  if (std::none_of(request.picks.begin(), request.picks.end(), is_cropped)) {
    apply_transform<E, B>(crop, *batch, request, draws);
  } else if constexpr (is_list) {
    // As apply() makes crops; a source may read those of an array in Fortran order in that order.
    const auto make_contiguous = [&](const std::string& name, at::Tensor& tensor) {
      if (tensor.defined() && (name != "target" || crop.with_target()))
        tensor = tensor.contiguous();
    };
    if (batch->is_whole() && std::all_of(request.picks.begin(), request.picks.end(), is_cropped)) {
      SampleTensors<E>::each(static_cast<E&>(batch->whole()), make_contiguous);
    } else {
      batch.emplace(std::move(*batch).separate());
      for (std::size_t i = 0; i < request.picks.size(); ++i) {
        E& sample = batch->each()[i];
        SampleTensors<E>::each(sample, make_contiguous);
        if (request.picks[i].is_cropped) continue;
        with_sample(request, i, false, [&] { apply_to_sample(crop, sample, draws.from(i)); });
      }
    }
  }
  for (Pick& pick : request.picks) pick.is_cropped = false;
  return batch;
}

/// The reader of `dataset.map(transform)`.
template <MapKind kKind, class E, class B, class T>
auto mapped_reader(std::shared_ptr<const Reader<E, B>> read, T transform, std::uint64_t stage,
                   [[maybe_unused]] bool reads_regions) {
  // Nothing else may be tried: a generic function is compiled for what it is tried with.
  using Argument = std::conditional_t<kKind == MapKind::OnSample, E, B>;
  std::uint64_t seed = 0;
  if constexpr (kKind == MapKind::Transform) {
    require_arrays<E>(transform);
    seed = transform.seed();
  } else if constexpr (kTakesGenerator<T, Argument>) {
    seed = draw_seed();
  }
  const auto shared = std::make_shared<const T>(std::move(transform));
  if constexpr (std::is_same_v<T, transforms::RandomCrop>) {
    return Reader<E, B>(
        [read = std::move(read), shared, stage, seed, reads_regions](Request& request) {
          return read_cropped<E, B>(*read, *shared, request, Draws(request, stage, seed),
                                    reads_regions);
        });
  } else {
    using Result =
        decltype(apply_map<kKind, E, B>(std::declval<const T&>(), std::declval<Read<E, B>>(),
                                        std::declval<const std::vector<std::size_t>&>(),
                                        std::declval<Request&>(), std::declval<const Draws&>()));
    return std::function<Result(Request&)>(
        [read = std::move(read), shared, stage, seed](Request& request) -> Result {
          const auto sample_of = request.sample_of;  // which the reader may replace
          request.regions = nullptr;                 // those of what this transform returns
          auto batch = (*read)(request);
          if (!batch) return std::nullopt;
          return apply_map<kKind, E, B>(*shared, std::move(*batch), indices_in(sample_of, request),
                                        request, Draws(request, stage, seed));
        });
  }
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAPPED_READER_HPP_

// ---- torch_npy/data/stacked_reader.hpp

#ifndef TORCH_NPY_DATA_STACKED_READER_HPP_
#define TORCH_NPY_DATA_STACKED_READER_HPP_

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// The reader of dataset.stacked(): samples that are unlike the others of their batch are bad.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Skips or replaces the samples of a batch whose shape, dtype or names differ from those of most.
template <class E>
class OddSamples {
 public:
  /// `asked` is the request before it was read.
  OddSamples(const Reader<E, Samples<E>>& read, const SourceInfo& source, const Request& asked)
      : read_(read), source_(source), asked_(asked) {}

  /// Removes them from both, or replaces them.
  void handle(std::vector<E>& samples, Request& request) const {
    Counts counts;
    for (const E& sample : samples) ++counts[layout_of(sample)];
    if (counts.size() == 1) return;
    std::string common = most_common(counts);
    if (2 * counts[common] <= samples.size()) common = common_in_dataset(common);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      std::optional<std::pair<E, Pick>> fit(std::in_place, std::move(samples[i]), request.picks[i]);
      if (layout_of(fit->first) != common) fit = instead_of(*fit, common);
      if (!fit) continue;
      samples[kept] = std::move(fit->first);
      request.picks[kept++] = fit->second;
    }
    samples.resize(kept);
    request.picks.resize(kept);
  }

 private:
  using Counts = std::map<std::string, std::size_t>;

  static std::string most_common(const Counts& counts) {
    const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
    return std::max_element(counts.begin(), counts.end(), less)->first;
  }

  /// The layout of most of a few samples of the dataset, for a batch in which no layout has the
  /// majority; `otherwise` if none of them can be read.
  std::string common_in_dataset(const std::string& otherwise) const {
    constexpr std::size_t kRead = 7;
    Counts counts;
    for (std::size_t i = 0; i < kRead; ++i) {
      Pick pick;
      pick.index = i * asked_.population / kRead;
      pick.position = pick.index;
      const auto sample =
          asked_.sample_of ? asked_.sample_of(pick.index) : std::optional(pick.index);
      if (!sample) continue;
      pick.sample = *sample;
      Request one = asked_;
      one.picks = {pick};
      if (auto rows = read_(one)) ++counts[layout_of(std::move(*rows).separate()[0])];
    }
    return counts.empty() ? otherwise : most_common(counts);
  }

  std::optional<std::pair<E, Pick>> instead_of(const std::pair<E, Pick>& odd,
                                               const std::string& common) const {
    Error error = report(odd, common);
    BadSamples& bad = source_.bad_samples(sample_of(odd.second));
    if (bad.what() == OnBadFile::Skip) return std::nullopt;
    Pick first = odd.second;
    first.sample = sample_of(first);
    Replacements others(asked_, first);
    while (const auto pick = others.next(first)) {
      Request one = asked_;
      one.picks = {*pick};
      auto rows = read_(one);
      if (!rows) continue;
      std::pair<E, Pick> other(std::move(std::move(*rows).separate()[0]), one.picks[0]);
      if (layout_of(other.first) == common) return other;
      error = report(other, common);
    }
    throw others.none_left(error);
  }

  Error report(const std::pair<E, Pick>& odd, const std::string& common) const {
    const std::string key = asked_.dataset->key(odd.second.index);
    const Error error(
        ErrorCode::Mismatch,
        "unlike most samples: it has " + layout_of(odd.first) + "; they have " + common, 0, key);
    const std::size_t sample = sample_of(odd.second);
    source_.bad_samples(sample).report(source_.inner_sample(sample), error);
    return error;
  }

  /// The number of a sample in source_.
  std::size_t sample_of(const Pick& pick) const {
    return asked_.sample_of ? *asked_.sample_of(pick.index) : pick.index;
  }

  const Reader<E, Samples<E>>& read_;
  const SourceInfo& source_;
  const Request& asked_;
};

/// The reader of the stacked form of a dataset.
template <class E>
Reader<E, Batch<E>> stacked_reader(std::shared_ptr<const Reader<E, Samples<E>>> read,
                                   std::shared_ptr<const SourceInfo> source) {
  return [read = std::move(read),
          source = std::move(source)](Request& request) -> std::optional<Batch<E>> {
    request.regions = nullptr;  // whole samples are compared, also if they are cropped later
    std::optional<Request> asked;
    const auto is_tolerant = [&](const Pick& pick) {
      return source->bad_samples(pick.sample).what() != OnBadFile::Throw;
    };
    if (request.may_skip && std::any_of(request.picks.begin(), request.picks.end(), is_tolerant)) {
      asked = request;
    }
    auto rows = (*read)(request);
    if (!rows) return std::nullopt;
    if (asked && !rows->is_whole()) {
      OddSamples<E>(*read, *source, *asked).handle(rows->each(), request);
    }
    return std::move(*rows).stacked();
  };
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STACKED_READER_HPP_

// ---- torch_npy/data/subset_info.hpp

#ifndef TORCH_NPY_DATA_SUBSET_INFO_HPP_
#define TORCH_NPY_DATA_SUBSET_INFO_HPP_

#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Some samples of another source: what Dataset::subset() knows of them.
class SubsetInfo : public SourceInfo {
 public:
  SubsetInfo(std::shared_ptr<const SourceInfo> source,
             std::shared_ptr<const std::vector<std::size_t>> indices)
      : source_(std::move(source)), indices_(std::move(indices)) {}

  std::size_t size() const override { return indices_->size(); }
  std::string key(std::size_t sample) const override { return source_->key((*indices_)[sample]); }
  bool is_in_memory() const override { return source_->is_in_memory(); }
  std::uint64_t fingerprint() const override {
    std::uint64_t print = mix({source_->fingerprint(), size()});
    for (const std::size_t index : *indices_) print = mix({print, index});
    return print;
  }
  bool samples_overlap() const override { return source_->samples_overlap(); }
  std::int64_t length(std::size_t sample) const override {
    return source_->length((*indices_)[sample]);
  }
  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    std::vector<std::size_t> inner;
    inner.reserve(samples.size());
    for (const std::size_t sample : samples) inner.push_back((*indices_)[sample]);
    return source_->labels(inner);
  }
  std::vector<Error> check(std::size_t sample) const override {
    return source_->check((*indices_)[sample]);
  }
  bool reads_regions() const override { return source_->reads_regions(); }
  std::size_t file_of(std::size_t sample) const override {
    return source_->file_of((*indices_)[sample]);
  }
  const SourceInfo& source_of_files() const override { return source_->source_of_files(); }
  std::size_t inner_sample(std::size_t sample) const override {
    return source_->inner_sample((*indices_)[sample]);
  }
  BadSamples& bad_samples(std::size_t sample) const override {
    return source_->bad_samples((*indices_)[sample]);
  }
  std::size_t bad_count() const override { return source_->bad_count(); }

 private:
  std::shared_ptr<const SourceInfo> source_;
  std::shared_ptr<const std::vector<std::size_t>> indices_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SUBSET_INFO_HPP_

// ---- torch_npy/data/dataset.hpp

#ifndef TORCH_NPY_DATA_DATASET_HPP_
#define TORCH_NPY_DATA_DATASET_HPP_

/// @file
/// Dataset: the one class of all datasets.

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/Optional.h>
#include <torch/data.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// Called with the number of samples processed so far.
using Progress = std::function<void(std::size_t done, std::size_t total)>;

namespace detail {

/// Calls `work` with every number less than `count`, on at least 32 threads, because files wait for
/// the disk; and `progress` about a hundred times.
template <class Work>
void for_each_sample(std::size_t count, const Progress& progress, const Work& work) {
  const std::size_t step = std::max<std::size_t>(1, count / 100);
  std::mutex mutex;
  std::size_t done = 0;
  for_each_index(count, (std::max)(std::size_t{32}, processor_count()), [&](std::size_t i) {
    work(i);
    const std::lock_guard<std::mutex> lock(mutex);
    ++done;
    if (progress && (done % step == 0 || done == count)) progress(done, count);
  });
}

inline at::Tensor targets_of(const SourceInfo& source, const Progress& progress) {
  constexpr std::size_t kStep = 256;  // samples: few enough to share the files among the threads
  std::vector<std::size_t> all(source.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  std::vector<std::int64_t> targets(all.size());
  Progress of_samples;
  if (progress) {
    of_samples = [&](std::size_t done, std::size_t) {
      progress((std::min)(done * kStep, all.size()), all.size());
    };
  }
  for_each_sample((all.size() + kStep - 1) / kStep, of_samples, [&](std::size_t i) {
    const auto samples =
        c10::ArrayRef<std::size_t>(all).slice(i * kStep, (std::min)(kStep, all.size() - i * kStep));
    const std::vector<std::int64_t> labels = source.labels(samples);
    if (labels.size() != samples.size()) {
      throw Error(ErrorCode::Mismatch, "the source of this dataset returned " +
                                           counted(labels.size(), "label") + " for " +
                                           counted(samples.size(), "sample"));
    }
    std::copy(labels.begin(), labels.end(),
              targets.begin() + static_cast<std::ptrdiff_t>(i * kStep));
  });
  return at::tensor(targets, at::kLong);
}

/// The indices of samples. A negative one becomes a large one, which no dataset has.
inline std::vector<std::size_t> indices_in(const at::Tensor& indices) {
  if (!indices.defined() || indices.dim() != 1 ||
      !c10::isIntegralType(indices.scalar_type(), /*includeBool=*/false)) {
    throw Error(ErrorCode::InvalidArgument,
                "subset() expects integers of shape (number of samples), found " +
                    (indices.defined() ? "shape " + python_tuple(indices.sizes().vec()) +
                                             " and dtype " + c10::toString(indices.scalar_type())
                                       : std::string("an undefined tensor")));
  }
  const at::Tensor host = indices.detach().to(at::kCPU, at::kLong).contiguous();
  const auto* const first = host.data_ptr<std::int64_t>();
  return {first, first + host.numel()};
}

/// True if what map() is given draws random numbers: such a transform has a seed.
template <MapKind kKind, class E, class B, class T>
bool is_random([[maybe_unused]] const T& transform) {
  if constexpr (kKind == MapKind::Transform) {
    return transform.seed() != 0;
  } else {
    return kTakesGenerator<T, std::conditional_t<kKind == MapKind::OnSample, E, B>>;
  }
}

}  // namespace detail

/// Samples of type E, read in batches of type B: a list of samples, or one Example that holds the
/// whole batch. All datasets of this library are Datasets, and so are the results of map(),
/// stacked() and subset(); so a program may choose one at run time:
///
///     torch_npy::Dataset<> data = torch_npy::PairedFolderDataset("inputs", "targets");
///     if (augment) data = data.map(RandomHorizontalFlip(0.5));
///
/// It is also a dataset of LibTorch, for make_data_loader() and LibTorch's samplers.
///
/// Copies are cheap, and share what they read from and the memory for the next batches. One dataset
/// may be used from any number of threads. Tensors of a batch are like those of torch::from_blob():
/// do not resize_() them to a larger size.
template <class E = Example<>, class B = Samples<E>>
class Dataset : public torch::data::datasets::BatchDataset<Dataset<E, B>, B, Request> {
  static constexpr bool kIsList = std::is_same_v<B, Samples<E>>;

 public:
  /// The type of a sample.
  using ExampleType = E;

  /// The samples of a source, as lists. Throws Error (InvalidArgument) if `source` is null.
  explicit Dataset(std::shared_ptr<const SampleSource<E>> source) : source_(source) {
    static_assert(kIsList, "a source gives lists of samples: Dataset<E>(source).stacked()");
    if (!source_) throw Error(ErrorCode::InvalidArgument, "Dataset: the source is null");
    read_ = std::make_shared<const detail::Reader<E, B>>(
        [source = std::move(source)](Request& request) -> std::optional<SampleRows<E>> {
          SampleRows<E> rows = source->read(request);
          if (rows.size() != request.picks.size()) {
            throw Error(ErrorCode::Mismatch,
                        "the source of this dataset returned " +
                            detail::counted(rows.size(), "sample") + ", and picks are left for " +
                            std::to_string(request.picks.size()) +
                            ": it has to remove the picks of samples that it skips");
          }
          if (request.picks.empty()) return std::nullopt;
          return rows;
        });
  }

  /// For map() and its like: a reader over the samples of `source`, after `stage` transforms, of
  /// which one is random if `is_random`.
  Dataset(std::shared_ptr<const SourceInfo> source,
          std::shared_ptr<const detail::Reader<E, B>> reader, std::uint64_t stage,
          bool is_random = false)
      : source_(std::move(source)),
        read_(std::move(reader)),
        stage_(stage),
        is_random_(is_random) {}

  // No move operations: a moved-from dataset would have no source.

  /// Shares what the other one reads from. A move copies.
  Dataset(const Dataset&) = default;
  /// As the copy constructor.
  Dataset& operator=(const Dataset&) = default;
  ~Dataset() override = default;

  /// Number of samples.
  c10::optional<std::size_t> size() const override { return source_->size(); }

  /// A name for sample `index`: its file, or file and row; "[3]" for row 3 of a tensor. Different
  /// from that of every other sample, unless a list has a file twice, or concat() joins two tensors
  /// or the same files twice.
  /// For every element of batch.indices. Throws Error (InvalidArgument) if `index` is not less than
  /// size().
  std::string key(std::size_t index) const {
    require_index(index);
    return source_->key(index);
  }

  /// Reads the samples of a request, in order. With OnBadFile::Skip, bad ones are missing from the
  /// result; batch.indices says which it has. Throws Error: as load(); InvalidArgument for an index
  /// that is not less than size(); Mismatch if a stacked batch has samples that differ, or none.
  B get_batch(Request request) override { return std::as_const(*this).get_batch(request); }
  /// The same for a const dataset.
  B get_batch(Request request) const {
    std::optional<B> batch = read(request);
    if (batch) return std::move(*batch);
    if constexpr (kIsList) {
      return B();
    } else {
      throw Error(ErrorCode::Mismatch,
                  "a batch without samples cannot be stacked: were all of its files bad and "
                  "skipped?");
    }
  }

  /// As get_batch(), for a loader: no batch if every sample was skipped. Afterwards `request.picks`
  /// are the samples that the batch has.
  std::optional<B> read(Request& request) const {
    for (const Pick& pick : request.picks) require_index(pick.index);
    request.dataset = source_.get();
    request.population = source_->size();
    request.regions = nullptr;
    if (!request.seed) request.epoch = source_->name_batch(request);
    auto rows = (*read_)(request);
    if (!rows) return std::nullopt;
    return detail::batch_from<E, B>(std::move(*rows), request.indices());
  }

  /// As read(), for a dataset that is made of this one and has prepared the request.
  std::optional<detail::Read<E, B>> read_part(Request& request) const { return (*read_)(request); }

  /// Reads sample `index`. Throws Error: as load(), also with OnBadFile::Skip; InvalidArgument if
  /// `index` is not less than size(); NotFound if a function given to map() removed the sample.
  E get(std::size_t index) const {
    static_assert(kIsList, "get() reads one sample; a stacked dataset has get_batch({index})");
    if constexpr (kIsList) {
      Request request{index};
      request.may_skip = false;
      B one = get_batch(std::move(request));
      if (!one.empty()) return std::move(one[0]);
    }
    throw Error(ErrorCode::NotFound,
                "a function given to map() removed the sample " + detail::in_quotes(key(index)));
  }

  /// This dataset with each batch as one Example: samples of shape S become tensors of shape (batch
  /// size, S...). Samples of one batch have to be alike. With OnBadFile::Skip and Replace, a sample
  /// whose shape, dtype or names differ from those of most samples of its batch is a bad one.
  auto stacked() const {
    static_assert(kIsList, "this dataset is stacked already");
    static_assert(detail::kStackable<E>,
                  "only samples of Example<>, TensorExample and NamedExample can be stacked");
    // Otherwise the failed assertion would not be the only error.
    if constexpr (kIsList && detail::kStackable<E>) {
      return next<E, Batch<E>>(detail::stacked_reader<E>(read_, source_), stage_, is_random_);
    } else {
      return *this;
    }
  }

  /// This dataset with a transform or a function applied to each batch:
  ///
  /// - a transform of torch_npy::transforms, on lists of samples and on stacked batches;
  /// - a transform of LibTorch, on lists of samples or on what its InputBatchType says;
  /// - a function of one sample (`E`), on lists of samples;
  /// - a function of a batch (`Samples<E>`, `Batch<E>`, ... whatever this dataset gives).
  ///
  /// A function may return another type, or take its argument by reference, change it, and return
  /// nothing. It may take an `at::Generator&` as second argument, which is seeded for this sample
  /// or batch. It is called by several threads at once. A transform of LibTorch is copied for each
  /// batch. If a function removes or adds samples, it has to set `indices` of the batch.
  ///
  /// What a function throws becomes the nested exception of an Error (Transform) that names the
  /// sample. Inside a function, `indices` of a batch are numbers in this dataset, also if a subset
  /// is read that was made of the result.
  template <class T>
  auto map(T transform) const;

  /// The samples `indices` of this dataset, in that order; sample i of the result is sample
  /// indices[i] of this one. Throws Error (InvalidArgument) if one is not less than size().
  Dataset subset(std::vector<std::size_t> indices) const;
  /// The same for a tensor of integers of shape (number of samples), on any device. Throws Error
  /// (InvalidArgument) for another tensor, too.
  template <class T, std::enable_if_t<std::is_same_v<T, at::Tensor>, int> = 0>
  Dataset subset(const T& indices) const {
    return subset(detail::indices_in(indices));
  }

  /// This dataset, which keeps up to `bytes` bytes of its samples in memory after it has read them.
  /// The result and what is made of it share this memory; it is freed with the last of them.
  /// Batches are copies, and are equal to those of this dataset.
  ///
  /// - Samples that no longer fit are read again each time; those that were kept first stay.
  /// - Dense tensors on the CPU are kept. Rows of an ArrayDataset are not: they are in memory, or
  ///   mapped.
  /// - A bad sample is tried again. A sample that replaces it is kept as itself.
  /// - Files that change later are not read again.
  ///
  /// Call it before map() and stacked(). Throws Error (InvalidArgument) if `bytes` is 0, and after
  /// map(). Uses 16 bytes a sample in addition; reading costs one more copy of each sample.
  Dataset cached(std::size_t bytes) const;

  /// The size of axis 0 of the data of each sample as it is stored, for by_length(). Reads headers
  /// only, on at least 32 threads. `progress(done, total)` is called about a hundred times, by one
  /// thread at a time, on any of the threads. Throws Error, as load(), for the first bad file, and
  /// what progress throws.
  std::vector<std::int64_t> lengths(const Progress& progress = {}) const {
    std::vector<std::int64_t> lengths(source_->size());
    const std::vector<std::size_t> first = first_of_files();
    detail::for_each_sample(first.size() - 1, progress, [&](std::size_t i) {
      const std::int64_t length = source_->length(first[i]);
      std::fill(&lengths[first[i]], lengths.data() + first[i + 1], length);
    });
    return lengths;
  }

  /// The class label of each sample: int64, of shape (size()), for weights of classes or to split a
  /// dataset by class. Available where a target is one integer, also after subset(), concat(),
  /// stacked() and map(). What a function given to map() does to the targets is not seen here.
  ///
  /// Targets that are files or arrays of archives are read, on at least 32 threads; for all others
  /// nothing is read. `progress` as for lengths(). Throws what progress throws, and Error:
  /// InvalidArgument if there are no such labels; for a target that cannot be read, what load()
  /// throws, whatever on_bad_file() says.
  at::Tensor targets(const Progress& progress = {}) const {
    return detail::targets_of(*source_, progress);
  }

  /// Checks the header and the size of every file on at least 32 threads, and returns an Error for
  /// each bad one, in the order of the samples. Does not read values, and does not compare the
  /// shapes of different files; FolderOptions::expect() does. Costs one open, read and close per
  /// file; neighbouring samples of the same file are checked once. `progress` as for lengths().
  /// Throws what progress throws, and Error (Exhausted, OutOfMemory).
  std::vector<Error> verify(const Progress& progress = {}) const {
    const std::vector<std::size_t> first = first_of_files();
    std::vector<std::vector<Error>> found(first.size() - 1);
    detail::for_each_sample(found.size(), progress,
                            [&](std::size_t i) { found[i] = source_->check(first[i]); });
    std::vector<Error> errors;
    for (const auto& of_sample : found) {
      errors.insert(errors.end(), of_sample.begin(), of_sample.end());
    }
    return errors;
  }

  /// How many samples this dataset and its copies have skipped or replaced because they were bad. A
  /// bad file is counted again in the next epoch.
  std::size_t bad_file_count() const { return source_->bad_count(); }

  /// The number of transforms that map() has added.
  std::uint64_t stage() const noexcept { return stage_; }

  /// True if map() was given a random transform of this library, or a function that takes a
  /// generator.
  bool is_random() const noexcept { return is_random_; }

  /// What the samples come from. Never null.
  const std::shared_ptr<const SourceInfo>& source() const noexcept { return source_; }

 private:
  template <class F, class C>
  Dataset<F, C> next(detail::Reader<F, C> reader, std::uint64_t stage, bool is_random) const {
    return {source_, std::make_shared<const detail::Reader<F, C>>(std::move(reader)), stage,
            is_random};
  }

  /// The first of neighbouring samples of the same file; and size() at the end.
  std::vector<std::size_t> first_of_files() const {
    std::vector<std::size_t> first;
    for (std::size_t i = 0; i < source_->size(); ++i) {
      if (i == 0 || source_->file_of(i) != source_->file_of(i - 1)) first.push_back(i);
    }
    first.push_back(source_->size());
    return first;
  }

  void require_index(std::size_t index) const {
    if (index < source_->size()) return;
    throw Error(ErrorCode::InvalidArgument,
                "index " + std::to_string(index) + " is out of range for a dataset of " +
                    detail::counted(source_->size(), "sample") +
                    "; indices count from 0, and a sampler of LibTorch needs the same size");
  }

  std::shared_ptr<const SourceInfo> source_;
  std::shared_ptr<const detail::Reader<E, B>> read_;
  std::uint64_t stage_ = 0;  // number of transforms so far
  bool is_random_ = false;   // one of them
};

template <class E, class B>
template <class T>
auto Dataset<E, B>::map(T transform) const {
  using detail::MapKind;
  constexpr MapKind kind = detail::map_kind<E, B, T>();
  static_assert(
      kind != MapKind::Unfit,
      "map(): this transform or function does not take what the dataset gives. A function of one "
      "sample, PadStack, and LibTorch's own transforms go before .stacked(); after it a function "
      "takes the batch, torch_npy::Batch<E>. A function names the type of its parameter and is "
      "not `mutable`.");
  if constexpr (kind == MapKind::Unfit) {
    return *this;  // the failed assertion is the only error
  } else if constexpr (kind == MapKind::Stack) {
    return stacked();
  } else {
    const bool is_random = is_random_ || detail::is_random<kind, E, B>(transform);
    auto reader = detail::mapped_reader<kind, E, B>(read_, std::move(transform), stage_,
                                                    source_->reads_regions());
    using Result = typename decltype(reader)::result_type::value_type;
    using C = detail::BatchRead<Result>;
    return next<typename detail::BatchTraits<C>::Example, C>(std::move(reader), stage_ + 1,
                                                             is_random);
  }
}

template <class E, class B>
Dataset<E, B> Dataset<E, B>::subset(std::vector<std::size_t> indices) const {
  for (const std::size_t index : indices) require_index(index);
  const auto list = std::make_shared<const std::vector<std::size_t>>(std::move(indices));
  return {std::make_shared<detail::SubsetInfo>(source_, list),
          std::make_shared<const detail::Reader<E, B>>([read = read_, list](Request& request) {
            for (Pick& pick : request.picks) pick.sample = (*list)[pick.sample];
            request.sample_of = [outer = request.sample_of,
                                 list](std::size_t index) -> std::optional<std::size_t> {
              const auto sample = outer ? outer(index) : std::optional(index);
              if (!sample) return std::nullopt;
              return (*list)[*sample];
            };
            return (*read)(request);
          }),
          stage_, is_random_};
}

template <class E, class B>
Dataset<E, B> Dataset<E, B>::cached(std::size_t bytes) const {
  static_assert(kIsList, "cached() keeps single samples: call it before .stacked() and .map()");
  static_assert(detail::kStackable<E>,
                "only samples of Example<>, TensorExample and NamedExample can be cached");
  if (stage_ != 0) {
    throw Error(ErrorCode::InvalidArgument,
                "cached() after map() would keep what the functions returned for the first epoch: "
                "call it before map(), dataset.cached(bytes).map(...)");
  }
  if (bytes == 0) {
    throw Error(ErrorCode::InvalidArgument,
                "cached(0) keeps nothing; 8 << 30 is 0, too: expected a number of bytes such as "
                "std::size_t{8} << 30");
  }
  if (source_->is_in_memory()) return *this;
  if constexpr (kIsList && detail::kStackable<E>) {
    return next<E, B>(detail::CachedReader<E>(read_, source_, bytes), stage_, is_random_);
  } else {
    return *this;  // the failed assertion is the only error
  }
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_DATASET_HPP_

// ---- torch_npy/data/array_dataset.hpp

#ifndef TORCH_NPY_DATA_ARRAY_DATASET_HPP_
#define TORCH_NPY_DATA_ARRAY_DATASET_HPP_

/// @file
/// A dataset of the rows of arrays.

#include <memory>
#include <type_traits>

TORCH_NPY_BEGIN_NAMESPACE

/// A dataset of one array, or of one for data and one for targets. Each is a file, several files, a
/// StoredArray or a tensor: see ArrayData. Axis 0 is the sample index: a sample of an array (n,
/// S...) is a tensor of shape S.
///
///     ArrayDataset images("images.npy");                            // TensorExamples
///     ArrayDataset digits("images.npy", "labels.npy");              // Examples
///     ArrayDataset shards({"x_0.npy", "x_1.npy"}, "labels.npy");    // joined along axis 0
///     ArrayDataset in_memory(images, labels);                       // two tensors
///
/// Only the whole lengths of data and targets have to be equal: their shards may differ. A sample
/// that cannot be read is always an Error. verify() reads the header of each file again, and
/// compares it and the size of the file with what the dataset was made of. Copies share the
/// mappings, and up to 256 MiB of memory for the next batches.
template <class E = Example<>>
class ArrayDataset : public Dataset<E> {
 public:
  /// Reads the headers of the files, 32 at a time, and maps them; the time does not depend on their
  /// sizes. Throws Error: as load(); Mismatch for a 0-d array, and for shards that differ;
  /// InvalidArgument for squeeze() of axis 0.
  explicit ArrayDataset(const ArrayData& data, const LoadOptions& options = {})
      : Dataset<E>(std::make_shared<const detail::ArraySource<E>>(
            data.internal_rows(options, detail::make_pool()), nullptr)) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need an array of targets");
  }

  /// Row i of `target` is the target of row i of `data`. With squeeze(1) in `target_options`,
  /// labels of shape (N, 1) become the labels of N samples. Throws Error: as the other constructor;
  /// Mismatch if the lengths differ.
  template <class With = E, class = std::enable_if_t<detail::kHasTarget<With>>>
  ArrayDataset(const ArrayData& data, const ArrayData& target, const LoadOptions& options = {},
               const LoadOptions& target_options = {})
      : ArrayDataset(data, target, options, target_options, detail::make_pool()) {}

 private:
  ArrayDataset(const ArrayData& data, const ArrayData& target, const LoadOptions& options,
               const LoadOptions& target_options, const std::shared_ptr<detail::BufferPool>& pool)
      : Dataset<E>(std::make_shared<const detail::ArraySource<E>>(
            data.internal_rows(options, pool), target.internal_rows(target_options, pool))) {}
};

ArrayDataset(const ArrayData&)->ArrayDataset<TensorExample>;
ArrayDataset(const ArrayData&, const LoadOptions&)->ArrayDataset<TensorExample>;
ArrayDataset(const ArrayData&, const ArrayData&)->ArrayDataset<Example<>>;
ArrayDataset(const ArrayData&, const ArrayData&, const LoadOptions&)->ArrayDataset<Example<>>;
ArrayDataset(const ArrayData&, const ArrayData&, const LoadOptions&, const LoadOptions&)
    ->ArrayDataset<Example<>>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_DATASET_HPP_

// ---- torch_npy/data/batch_copier.hpp

#ifndef TORCH_NPY_DATA_BATCH_COPIER_HPP_
#define TORCH_NPY_DATA_BATCH_COPIER_HPP_

#include <ATen/ExpandUtils.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/Device.h>
#include <c10/core/Event.h>
#include <c10/core/Storage.h>
#include <c10/core/Stream.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

// Copies of batches to a device, while it computes.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// `device` with an index, which is that of the current device if it had none. Throws Error
/// (InvalidArgument) if there is no such device.
inline c10::Device existing_device(c10::Device device) {
  require_device(device);
  if (device.is_cpu()) return c10::kCPU;
  if (device.has_index()) return device;
  return c10::impl::getDeviceGuardImpl(device.type())->getDevice();
}

/// The stream of this thread for copies to `device`; throws c10::Error if the device type has no
/// streams. Always the same one: LibTorch's allocators cache freed memory per stream, and a new
/// stream could not reuse it.
inline c10::Stream copy_stream(c10::Device device) {
  thread_local std::vector<c10::Stream> streams;
  for (const c10::Stream& stream : streams) {
    if (stream.device() == device) return stream;
  }
  const c10::impl::VirtualGuardImpl impl(device.type());
  streams.push_back(impl.getStreamFromGlobalPool(device));
  return streams.back();
}

/// Copies batches to a device on its own stream while the current stream computes. begin() a batch,
/// then finish() it, before the next one. For one thread at a time.
class BatchCopier {
 public:
  /// Null for a device without streams or events; LibTorch reports that by throwing when they are
  /// used.
  static std::unique_ptr<BatchCopier> make(c10::Device device) {
    if (device.is_cpu()) return nullptr;
    try {
      auto copier = std::make_unique<BatchCopier>(device, copy_stream(device));
      c10::Event event(device.type());
      event.record(copier->stream_);
      event.block(copier->stream_);
      (void)event.query();
      return copier;
    } catch (const c10::Error&) {
      return nullptr;
    }
  }

  BatchCopier(c10::Device device, c10::Stream stream)
      : device_(device), stream_(stream), sets_{Set(device.type()), Set(device.type())} {}
  BatchCopier(const BatchCopier&) = delete;
  BatchCopier& operator=(const BatchCopier&) = delete;

  ~BatchCopier() {
    for (const Set& set : sets_) {
      try {
        set.wait();
      } catch (...) {  // A failed device no longer reads the buffers.
      }
    }
  }

  /// Starts the copies and stores them in the batch. Their contents are valid only after finish().
  template <class Batch>
  void begin(Batch& batch) {
    active_ = (active_ + 1) % sets_.size();
    Set& set = sets_[active_];
    set.wait();
    set.pinned.clear();
    set.copies.clear();
    std::size_t position = 0;
    BatchTensors<Batch>::each(batch, [&](at::Tensor& tensor) {
      if (set.buffers.size() == position) set.buffers.emplace_back();
      copy(tensor, set, set.buffers[position++]);
    });
  }

  /// Makes the device's current stream wait for the copies of the last batch. The caller does not
  /// wait.
  void finish() {
    const c10::impl::VirtualGuardImpl impl(device_.type());
    const c10::Stream current = impl.getStream(device_);
    Set& set = sets_[active_];
    set.copied.block(current);
    // Their memory belongs to the copy stream. Without recording, the allocator would give it to a
    // later batch as soon as the tensor is destroyed, while the current stream may still use it.
    for (const at::Tensor& tensor : set.copies) {
      impl.recordDataPtrOnStream(tensor.storage().data_ptr(), current);
    }
    set.copies.clear();
  }

 private:
  /// The memory that the copies of one batch read. With two sets, one batch is filled while the
  /// copies of the previous one are in progress.
  struct Set {
    explicit Set(c10::DeviceType type) : copied(type) {}

    // Not Event::synchronize(), which LibTorch 1.13 does not have.
    void wait() const {
      while (!copied.query()) std::this_thread::yield();
    }

    c10::Event copied;
    std::vector<at::Tensor> buffers;  // by position in the batch
    std::vector<at::Tensor> pinned;   // the loader's own pinned tensors, copied without a buffer
    std::vector<at::Tensor> copies;   // on the device, until finish()
  };

  void copy(at::Tensor& tensor, Set& set, at::Tensor& buffer) const {
    if (!tensor.defined()) return;
    if (!is_plain(tensor)) {
      tensor = tensor.to(device_);
      return;
    }
    const c10::StreamGuard guard(stream_);
    // For CUDA only, because is_pinned() in LibTorch 1.13 means pinned for CUDA.
    if (device_.is_cuda() && tensor.is_non_overlapping_and_dense() && tensor.is_pinned()) {
      set.pinned.push_back(tensor);
    } else {
      tensor = stage(tensor, buffer);
    }
    tensor = tensor.to(device_, /*non_blocking=*/true);
    // After each copy, so that the event covers it even if the next copy throws.
    set.copied.record(stream_);
    set.copies.push_back(tensor);
  }

  /// Copies the tensor into the buffer, with the strides that Tensor::to() would give it.
  at::Tensor stage(const at::Tensor& tensor, at::Tensor& buffer) const {
    if (!buffer.defined() || buffer.nbytes() < tensor.nbytes()) {
      buffer.reset();
      buffer = at::empty({static_cast<std::int64_t>(tensor.nbytes())},
                         at::TensorOptions(at::kByte).pinned_memory(device_.is_cuda()));
    }
    at::Tensor staged = at::empty({0}, tensor.scalar_type());
    if (!tensor.is_non_overlapping_and_dense()) {
      staged.set_(buffer.storage(), 0, tensor.sizes(),
                  at::infer_dense_strides(tensor.sizes(), tensor.strides()));
      return staged.copy_(tensor);
    }
    staged.set_(buffer.storage(), 0, tensor.sizes(), tensor.strides());
    // Not copy_(): its threads would take the processors from the loader's workers.
    if (tensor.numel() != 0) std::memcpy(staged.data_ptr(), tensor.data_ptr(), tensor.nbytes());
    return staged;
  }

  c10::Device device_;
  c10::Stream stream_;
  std::array<Set, 2> sets_;
  std::size_t active_ = 0;
};

/// Moves a batch to `device` by blocking copies.
template <class Batch>
void move_batch(Batch& batch, c10::Device device) {
  BatchTensors<Batch>::each(batch, [device](at::Tensor& tensor) {
    if (tensor.defined()) tensor = tensor.to(device);
  });
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_COPIER_HPP_

// ---- torch_npy/data/batch_mover.hpp

#ifndef TORCH_NPY_DATA_BATCH_MOVER_HPP_
#define TORCH_NPY_DATA_BATCH_MOVER_HPP_

#include <c10/core/Device.h>

#include <memory>
#include <type_traits>
#include <utility>

// Moving batches of any type to a device.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

template <class B, class = void>
constexpr bool kHasTo = false;
template <class B>
constexpr bool
    kHasTo<B, std::void_t<decltype(std::declval<B&>().to(std::declval<const c10::Device&>()))>> =
        true;

/// Moves batches to a device; none if it is the CPU. begin() each batch, then finish() it, before
/// the next one. For one thread at a time.
template <class B>
class BatchMover {
 public:
  /// Throws Error (InvalidArgument) if there is no such device, or if a B cannot be moved to it.
  explicit BatchMover(c10::Device device) : device_(existing_device(device)) {
    if (device_.is_cpu()) return;
    if constexpr (BatchTensors<B>::kAny) {
      copier_ = BatchCopier::make(device_);
    } else if constexpr (!kHasTo<B>) {
      throw Error(ErrorCode::InvalidArgument,
                  "batches of this type cannot be moved to " + device_.str() +
                      ": give the type a member to(device), or leave device() out and move what "
                      "the batches contain in the loop");
    }
  }

  /// True if the copies are faster from pinned memory.
  bool wants_pinned() const { return device_.is_cuda(); }

  /// True if begin() starts copies that go on while another batch is used.
  bool can_move_ahead() const { return copier_ != nullptr; }

  /// Starts the copies, if the device can copy in the background.
  void begin(B& batch) {
    if constexpr (BatchTensors<B>::kAny) {
      if (copier_) copier_->begin(batch);
    }
  }

  /// The batch is on the device for the current stream.
  void finish(B& batch) {
    if (device_.is_cpu()) return;
    if (copier_) {
      copier_->finish();
    } else if constexpr (BatchTensors<B>::kAny) {
      move_batch(batch, device_);
    } else if constexpr (kHasTo<B>) {
      move_by_member(batch);
    }
  }

 private:
  void move_by_member(B& batch) {
    using Result = decltype(batch.to(std::as_const(device_)));
    if constexpr (std::is_same_v<std::decay_t<Result>, B> && !std::is_reference_v<Result>) {
      batch = batch.to(device_);
    } else {
      batch.to(device_);
    }
  }

  c10::Device device_;
  std::unique_ptr<BatchCopier> copier_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_MOVER_HPP_

// ---- torch_npy/data/combine.hpp

#ifndef TORCH_NPY_DATA_COMBINE_HPP_
#define TORCH_NPY_DATA_COMBINE_HPP_

/// @file
/// concat(): several datasets as one.

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Several sources, one after another.
class ConcatInfo : public SourceInfo {
 public:
  explicit ConcatInfo(std::vector<std::shared_ptr<const SourceInfo>> sources)
      : sources_(std::move(sources)) {
    for (const auto& source : sources_) {
      ends_.push_back(checked_end(size_before(ends_.size()), source->size()));
      const auto has_same_files = [&](const auto& other) {
        return &other->source_of_files() == &source->source_of_files();
      };
      const auto first = std::find_if(sources_.begin(), sources_.end(), has_same_files);
      first_with_files_.push_back(static_cast<std::size_t>(first - sources_.begin()));
    }
  }

  /// The source of a sample, and the sample's number in it.
  std::pair<std::size_t, std::size_t> place_of(std::size_t sample) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), sample);
    const auto part = static_cast<std::size_t>(end - ends_.begin());
    return {part, sample - size_before(part)};
  }

  std::size_t size() const override { return ends_.back(); }
  std::vector<std::size_t> parts() const override {
    std::vector<std::size_t> sizes;
    for (const auto& source : sources_) sizes.push_back(source->size());
    return sizes;
  }
  std::uint64_t fingerprint() const override {
    std::uint64_t print = mix({sources_.size()});
    for (const auto& source : sources_) print = mix({print, source->fingerprint()});
    return print;
  }
  std::size_t bad_count() const override {
    std::size_t count = 0;
    for (const auto& source : sources_) count += source->bad_count();
    return count;
  }
  std::string key(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->key(inner);
  }
  bool is_in_memory() const override {
    return std::all_of(sources_.begin(), sources_.end(),
                       [](const auto& source) { return source->is_in_memory(); });
  }
  bool samples_overlap() const override {
    return std::any_of(sources_.begin(), sources_.end(),
                       [](const auto& source) { return source->samples_overlap(); });
  }
  std::int64_t length(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->length(inner);
  }
  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    std::vector<std::vector<std::size_t>> inner(sources_.size());
    for (const std::size_t sample : samples) {
      const auto [part, number] = place_of(sample);
      inner[part].push_back(number);
    }
    std::vector<std::vector<std::int64_t>> found(sources_.size());
    for (std::size_t part = 0; part < sources_.size(); ++part) {
      if (!inner[part].empty()) found[part] = sources_[part]->labels(inner[part]);
    }
    std::vector<std::size_t> taken(sources_.size());
    std::vector<std::int64_t> labels;
    labels.reserve(samples.size());
    for (const std::size_t sample : samples) {
      const std::size_t part = place_of(sample).first;
      labels.push_back(found[part].at(taken[part]++));
    }
    return labels;
  }
  std::vector<Error> check(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->check(inner);
  }
  bool reads_regions() const override {
    return std::all_of(sources_.begin(), sources_.end(),
                       [](const auto& source) { return source->reads_regions(); });
  }
  std::size_t file_of(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return static_cast<std::size_t>(mix({first_with_files_[part], sources_[part]->file_of(inner)}));
  }
  std::size_t inner_sample(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->inner_sample(inner);
  }
  BadSamples& bad_samples(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->bad_samples(inner);
  }

 private:
  std::size_t size_before(std::size_t part) const { return part == 0 ? 0 : ends_[part - 1]; }

  std::vector<std::shared_ptr<const SourceInfo>> sources_;
  std::vector<std::size_t> ends_;
  // For each source, the first one with the same files: both may be subsets of one dataset.
  std::vector<std::size_t> first_with_files_;
};

/// Reads each part of a request from the dataset that has it, and puts the samples in order again.
template <class E, class B>
class ConcatReader {
 public:
  ConcatReader(std::vector<Dataset<E, B>> datasets, std::shared_ptr<const ConcatInfo> info)
      : datasets_(std::move(datasets)), info_(std::move(info)) {}

  std::optional<Read<E, B>> operator()(Request& request) const {
    std::vector<Request> requests(datasets_.size());
    for (const Pick& pick : request.picks) {
      const auto [part, sample] = info_->place_of(pick.sample);
      requests[part].picks.push_back({pick.index, pick.position, sample, pick.copy});
    }
    std::vector<std::pair<Pick, E>> all;
    for (std::size_t part = 0; part < requests.size(); ++part) {
      if (requests[part].picks.empty()) continue;
      const bool is_only = requests[part].picks.size() == request.picks.size();
      Request inner = request_for(part, request, std::move(requests[part].picks));
      auto read = datasets_[part].read_part(inner);
      if (is_only) {
        request.picks = std::move(inner.picks);
        return read;
      }
      if (!read) continue;
      std::vector<E> samples = separate(std::move(*read));
      if (samples.size() != inner.picks.size()) {
        throw Error(ErrorCode::Mismatch,
                    "concat(): dataset " + std::to_string(part) + " gives batches of " +
                        counted(samples.size(), "row") + " for " +
                        counted(inner.picks.size(), "sample") +
                        ", which cannot be put together with those of the other datasets");
      }
      for (std::size_t i = 0; i < samples.size(); ++i) {
        all.emplace_back(inner.picks[i], std::move(samples[i]));
      }
    }
    return in_order(std::move(all), request);
  }

 private:
  Request request_for(std::size_t part, const Request& request, std::vector<Pick> picks) const {
    Request inner = request;
    inner.picks = std::move(picks);
    inner.sample_of = [outer = request.sample_of, info = info_,
                       part](std::size_t index) -> std::optional<std::size_t> {
      const auto sample = outer ? outer(index) : std::optional(index);
      if (!sample) return std::nullopt;
      const auto [owner, number] = info->place_of(*sample);
      return owner == part ? std::optional(number) : std::nullopt;
    };
    return inner;
  }

  static std::vector<E> separate(Read<E, B> read) {
    if constexpr (std::is_same_v<B, Samples<E>>) {
      return std::move(read).separate();
    } else {
      return unstack(std::move(read));
    }
  }

  static std::optional<Read<E, B>> in_order(std::vector<std::pair<Pick, E>> all, Request& request) {
    std::unordered_map<std::uint64_t, std::size_t> ranks;  // in the request, by position
    for (const Pick& pick : request.picks) ranks.emplace(pick.position, ranks.size());
    std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) {
      return ranks[a.first.position] < ranks[b.first.position];
    });
    request.picks.clear();
    std::vector<E> samples;
    samples.reserve(all.size());
    for (auto& [pick, sample] : all) {
      request.picks.push_back(pick);
      samples.push_back(std::move(sample));
    }
    if (samples.empty()) return std::nullopt;
    if constexpr (std::is_same_v<B, Samples<E>>) {
      return SampleRows<E>(std::move(samples));
    } else {
      return stack_examples(std::move(samples));
    }
  }

  std::vector<Dataset<E, B>> datasets_;
  std::shared_ptr<const ConcatInfo> info_;
};

}  // namespace detail

/// The samples of several datasets, one dataset after another. Throws Error (InvalidArgument) if
/// there are none.
template <class E, class B>
Dataset<E, B> concat(std::vector<Dataset<E, B>> datasets) {
  if (datasets.empty()) {
    throw Error(ErrorCode::InvalidArgument, "concat() expects at least one dataset");
  }
  std::vector<std::shared_ptr<const SourceInfo>> sources;
  std::uint64_t stage = 0;  // a transform of the result must not draw the same numbers as theirs
  bool is_random = false;
  for (const auto& dataset : datasets) {
    sources.push_back(dataset.source());
    stage = (std::max)(stage, dataset.stage());
    is_random = is_random || dataset.is_random();
  }
  auto info = std::make_shared<const detail::ConcatInfo>(std::move(sources));
  detail::Reader<E, B> reader = detail::ConcatReader<E, B>(std::move(datasets), info);
  return {std::move(info), std::make_shared<const detail::Reader<E, B>>(std::move(reader)), stage,
          is_random};
}

/// The samples of several datasets, one dataset after another. The datasets have the same type of
/// sample, and are all stacked or all not; before stacked() a batch with samples of several
/// datasets takes one copy less. The order mixed() draws from them by weights.
template <class E, class B, class... Others>
Dataset<E, B> concat(const Dataset<E, B>& first, const Others&... others) {
  static_assert((std::is_base_of_v<Dataset<E, B>, Others> && ...),
                "concat() expects datasets with the same types of sample and batch");
  static_assert(std::is_same_v<B, Samples<E>> || std::is_same_v<B, Batch<E>>,
                "concat() expects lists of samples or stacked batches: call it before map()");
  return concat(std::vector<Dataset<E, B>>{first, static_cast<const Dataset<E, B>&>(others)...});
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_COMBINE_HPP_

// ---- torch_npy/data/permutation.hpp

#ifndef TORCH_NPY_DATA_PERMUTATION_HPP_
#define TORCH_NPY_DATA_PERMUTATION_HPP_

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A pseudorandom permutation of 0 ... size - 1, chosen by `key`; the same on every platform. Gives
/// the number at any position without computing the others. Uses at most 8 KiB for any size.
/// Read-only: safe from any thread.
///
/// Up to kTableSize numbers are a shuffled table, in which every permutation is equally likely.
/// More numbers are a Feistel network on the numbers below the next power of two. The network is
/// applied again until the result is less than `size`: less than twice, on average.
class Permutation {
 public:
  static constexpr std::uint64_t kTableSize = 4096;

  Permutation(std::uint64_t size, std::uint64_t key) : size_(size) {
    SplitMix64 random(key);
    if (size <= kTableSize) {
      table_.resize(static_cast<std::size_t>(size));
      for (std::size_t i = 0; i < table_.size(); ++i) table_[i] = static_cast<std::uint16_t>(i);
      for (std::size_t i = table_.size(); i > 1; --i) {
        std::swap(table_[i - 1], table_[static_cast<std::size_t>(random.below(i))]);
      }
      return;
    }
    int bits = 0;
    while (bits < 64 && (size - 1) >> bits != 0) ++bits;
    low_bits_ = bits / 2;
    high_bits_ = bits - low_bits_;
    for (std::uint64_t& round_key : round_keys_) round_key = random.next();
  }

  std::uint64_t size() const noexcept { return size_; }

  /// The number at `position`, which must be less than size().
  std::uint64_t operator()(std::uint64_t position) const noexcept {
    if (size_ <= kTableSize) return table_[static_cast<std::size_t>(position)];
    do position = network(position);
    while (position >= size_);
    return position;
  }

 private:
  std::uint64_t network(std::uint64_t number) const noexcept {
    std::uint64_t low = number & ((std::uint64_t{1} << low_bits_) - 1);
    std::uint64_t high = number >> low_bits_;
    for (std::size_t round = 0; round < round_keys_.size(); round += 2) {
      low ^= SplitMix64(round_keys_[round] ^ high).next() >> (64 - low_bits_);
      high ^= SplitMix64(round_keys_[round + 1] ^ low).next() >> (64 - high_bits_);
    }
    return high << low_bits_ | low;
  }

  std::uint64_t size_;
  std::vector<std::uint16_t> table_;
  int low_bits_ = 0;
  int high_bits_ = 0;
  std::array<std::uint64_t, 4> round_keys_{};
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PERMUTATION_HPP_

// ---- torch_npy/data/split_options.hpp

#ifndef TORCH_NPY_DATA_SPLIT_OPTIONS_HPP_
#define TORCH_NPY_DATA_SPLIT_OPTIONS_HPP_

/// @file
/// SplitOptions.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// Which samples random_split() and k_fold() spread over the parts, and which they keep together.
/// Setters chain: `SplitOptions().stratify(labels).groups(patients)`.
class SplitOptions {
 public:
  /// The name of the group of the sample with this key.
  using GroupOf = std::function<std::string(const std::string& key)>;

  /// Divides the samples of each label in the same proportions. `labels` has one number for each
  /// sample.
  SplitOptions& stratify(std::vector<std::int64_t> labels) {
    labels_ = std::move(labels);
    return *this;
  }
  /// The same for a tensor of integers of shape (number of samples), on any device. Throws Error
  /// (InvalidArgument) for another tensor.
  SplitOptions& stratify(const at::Tensor& labels) {
    if (!labels.defined() || labels.dim() != 1 ||
        !c10::isIntegralType(labels.scalar_type(), /*includeBool=*/true)) {
      throw Error(ErrorCode::InvalidArgument,
                  "stratify() expects integers of shape (number of samples), found " +
                      (labels.defined() ? "shape " + detail::python_tuple(labels.sizes().vec()) +
                                              " and dtype " + c10::toString(labels.scalar_type())
                                        : "an undefined tensor"));
    }
    const at::Tensor host = labels.detach().to(at::kCPU, at::kLong).contiguous();
    const auto* const first = host.data_ptr<std::int64_t>();
    return stratify(std::vector<std::int64_t>(first, first + host.numel()));
  }

  /// Keeps the samples of one group together, for example the images of one patient: they are never
  /// in two parts. `names` has the group of each sample.
  SplitOptions& groups(std::vector<std::string> names) {
    group_names_ = std::move(names);
    group_of_ = nullptr;
    return *this;
  }
  /// The same: the group of a sample is what `group_of` returns for its key, Dataset::key(). Throws
  /// Error (InvalidArgument) if it is empty.
  SplitOptions& groups(GroupOf group_of) {
    if (!group_of) {
      throw Error(ErrorCode::InvalidArgument, "groups() expects a function, found an empty one");
    }
    group_names_.reset();
    group_of_ = std::move(group_of);
    return *this;
  }

  /// What stratify() was given.
  const std::optional<std::vector<std::int64_t>>& labels() const noexcept { return labels_; }
  /// The names that groups() was given.
  const std::optional<std::vector<std::string>>& group_names() const noexcept {
    return group_names_;
  }
  /// The function that groups() was given; may be empty.
  const GroupOf& group_of() const noexcept { return group_of_; }

 private:
  std::optional<std::vector<std::int64_t>> labels_;
  std::optional<std::vector<std::string>> group_names_;
  GroupOf group_of_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SPLIT_OPTIONS_HPP_

// ---- torch_npy/data/division.hpp

#ifndef TORCH_NPY_DATA_DIVISION_HPP_
#define TORCH_NPY_DATA_DIVISION_HPP_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

// Which sample belongs to which part of a dataset: for random_split() and k_fold().

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Equal values get equal numbers: 0, 1, 2, ... in the order in which they appear. Throws Error
/// (InvalidArgument) unless there is one value for each sample.
template <class T>
std::vector<std::size_t> numbered(const std::vector<T>& values, const std::string& call,
                                  const char* what, std::size_t samples) {
  if (values.size() != samples) {
    throw Error(ErrorCode::InvalidArgument, call + " has " + counted(values.size(), what) +
                                                ", the dataset has " + counted(samples, "sample") +
                                                ": give one " + what + " for each sample");
  }
  std::unordered_map<T, std::size_t> known;
  std::vector<std::size_t> numbers;
  numbers.reserve(values.size());
  for (const T& value : values) numbers.push_back(known.emplace(value, known.size()).first->second);
  return numbers;
}

/// A number for the label of each sample; 0 for all of them without stratify().
inline std::vector<std::size_t> label_numbers(const SplitOptions& options,
                                              const SourceInfo& source) {
  if (!options.labels()) return std::vector<std::size_t>(source.size(), 0);
  return numbered(*options.labels(), "stratify()", "label", source.size());
}

/// A number for the file of each sample, if files have several samples: otherwise one part would
/// have patches of the files of another one. None if each file is one sample.
inline std::optional<std::vector<std::size_t>> file_numbers(const SourceInfo& source) {
  std::vector<std::size_t> files(source.size());
  for (std::size_t i = 0; i < files.size(); ++i) files[i] = source.file_of(i);
  std::vector<std::size_t> different = files;
  std::sort(different.begin(), different.end());
  different.erase(std::unique(different.begin(), different.end()), different.end());
  if (different.size() == files.size()) return std::nullopt;
  for (std::size_t& file : files) {
    const auto found = std::lower_bound(different.begin(), different.end(), file);
    file = static_cast<std::size_t>(found - different.begin());
  }
  return files;
}

/// A number for the group of each sample; none without groups().
inline std::optional<std::vector<std::size_t>> group_numbers(const SplitOptions& options,
                                                             const SourceInfo& source) {
  std::vector<std::string> names;
  if (options.group_names()) {
    names = *options.group_names();
  } else if (options.group_of()) {
    names.reserve(source.size());
    for (std::size_t i = 0; i < source.size(); ++i) {
      names.push_back(options.group_of()(source.key(i)));
    }
  } else {
    return file_numbers(source);
  }
  return numbered(names, "groups()", "name", source.size());
}

/// The number of values that are equal to each number.
inline std::vector<std::size_t> counts_of(const std::vector<std::size_t>& numbers) {
  std::vector<std::size_t> counts;
  for (const std::size_t number : numbers) {
    if (number >= counts.size()) counts.resize(number + 1);
    ++counts[number];
  }
  return counts;
}

/// How many samples each part has. Rounds down, and adds the samples that are left to the parts,
/// one to each, from the first part on, as PyTorch does.
inline std::vector<std::size_t> sizes_by_fractions(const std::vector<double>& fractions,
                                                   std::size_t count) {
  double sum = 0;
  std::string shown;
  for (const double fraction : fractions) {
    sum += fraction;
    shown += (shown.empty() ? "" : " + ") + std::to_string(fraction);
    if (fraction >= 0) continue;
    throw Error(
        ErrorCode::InvalidArgument,
        "random_split() expects fractions of at least 0, found " + std::to_string(fraction));
  }
  if (!(std::abs(sum - 1) <= 1e-6)) {
    throw Error(ErrorCode::InvalidArgument,
                "random_split() expects fractions that sum to 1, found " + shown + " = " +
                    std::to_string(sum) + "; numbers of samples are given as integers");
  }
  std::vector<std::size_t> sizes;
  std::size_t left = count;
  for (const double fraction : fractions) {
    const double size = std::floor(static_cast<double>(count) * fraction);
    sizes.push_back((std::min)(left, static_cast<std::size_t>(size)));
    left -= sizes.back();
  }
  for (std::size_t i = 0; left != 0; i = (i + 1) % sizes.size()) {
    if (fractions[i] == 0) continue;
    ++sizes[i];
    --left;
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (fractions[i] == 0 || sizes[i] != 0) continue;
    throw Error(ErrorCode::InvalidArgument,
                "random_split(): part " + std::to_string(i) + " with the fraction " +
                    std::to_string(fractions[i]) + " of " + counted(count, "sample") +
                    " would be empty; numbers of samples can be given as integers");
  }
  return sizes;
}

/// How many samples each part has: these numbers.
template <class T>
std::vector<std::size_t> sizes_by_counts(const std::vector<T>& counts, std::size_t count) {
  static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool>,
                "random_split() expects fractions (double) or numbers of samples (integers)");
  std::vector<std::size_t> sizes;
  std::size_t left = count;
  for (const T size : counts) {
    // A negative number becomes a large one.
    if (static_cast<std::size_t>(size) > left) {
      left = 1;
      break;
    }
    sizes.push_back(static_cast<std::size_t>(size));
    left -= sizes.back();
  }
  if (left == 0) return sizes;
  std::string shown;
  for (const T size : counts) shown += (shown.empty() ? "" : " + ") + std::to_string(size);
  throw Error(ErrorCode::InvalidArgument,
              "random_split() expects numbers of samples of at least 0 that sum to " +
                  std::to_string(count) + ", the size of the dataset, found " + shown +
                  "; fractions are given as floating-point numbers, such as 0.8");
}

template <class T>
std::vector<std::size_t> part_sizes(const std::vector<T>& lengths, std::size_t count) {
  if (lengths.empty()) {
    throw Error(ErrorCode::InvalidArgument, "random_split() expects at least one part");
  }
  if constexpr (std::is_floating_point_v<T>) {
    return sizes_by_fractions({lengths.begin(), lengths.end()}, count);
  } else {
    return sizes_by_counts(lengths, count);
  }
}

/// How many samples of each class are in each part: its proportional share, rounded up or down, so
/// that classes and parts keep their sizes. Such numbers always exist: they are an integral flow
/// from the classes to the parts, where a fractional share is an edge that can carry one sample.
class Shares {
 public:
  /// `key` decides what is rounded up where there is a choice.
  Shares(const std::vector<std::size_t>& classes, const std::vector<std::size_t>& parts,
         std::size_t total, std::uint64_t key)
      : parts_(parts.size()), cells_(classes.size() * parts.size()), lacking_(parts) {
    std::vector<std::size_t> left = classes;
    for (std::size_t cell = 0; cell < cells_.size(); ++cell) {
      const std::uint64_t product = std::uint64_t{classes[cell / parts_]} * parts[cell % parts_];
      cells_[cell].count = static_cast<std::size_t>(product / total);
      cells_[cell].is_open = product % total != 0;
      left[cell / parts_] -= cells_[cell].count;
      lacking_[cell % parts_] -= cells_[cell].count;
    }
    const Permutation order(cells_.size(), key);
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      const auto cell = static_cast<std::size_t>(order(i));
      if (!cells_[cell].is_open || left[cell / parts_] == 0 || lacking_[cell % parts_] == 0) {
        continue;
      }
      round_up(cell);
      --left[cell / parts_];
      --lacking_[cell % parts_];
    }
    for (std::size_t row = 0; row < left.size(); ++row) {
      for (; left[row] != 0; --left[row]) place_one_more(row);
    }
  }

  std::size_t operator()(std::size_t row, std::size_t part) const {
    return cells_[row * parts_ + part].count;
  }

 private:
  struct Cell {
    std::size_t count = 0;
    bool is_open = false;     // its share is fractional, and not rounded up
    bool is_rounded = false;  // up
  };

  void round_up(std::size_t cell) {
    cells_[cell].is_open = false;
    cells_[cell].is_rounded = true;
    ++cells_[cell].count;
  }
  void round_down(std::size_t cell) {
    cells_[cell].is_open = true;
    cells_[cell].is_rounded = false;
    --cells_[cell].count;
  }

  /// Rounds up one more share of a class, and moves others so that only a part that lacks a sample
  /// gets one: a shortest augmenting path, found in breadth.
  void place_one_more(std::size_t row) {
    constexpr std::size_t kNone = SIZE_MAX;
    std::vector<std::size_t> from(parts_, kNone);  // the cell by which a part is reached
    std::vector<bool> is_known(cells_.size() / parts_);
    std::vector<std::size_t> rows = {row};
    is_known[row] = true;
    for (std::size_t next = 0; next < rows.size(); ++next) {
      for (std::size_t part = 0; part < parts_; ++part) {
        const std::size_t cell = rows[next] * parts_ + part;
        if (!cells_[cell].is_open || from[part] != kNone) continue;
        from[part] = cell;
        if (lacking_[part] != 0) return augment(row, part, from);
        for (std::size_t other = 0; other < is_known.size(); ++other) {
          if (is_known[other] || !cells_[other * parts_ + part].is_rounded) continue;
          is_known[other] = true;
          rows.push_back(other);
          reached_by_.resize(is_known.size());
          reached_by_[other] = part;
        }
      }
    }
  }

  void augment(std::size_t row, std::size_t part, const std::vector<std::size_t>& from) {
    --lacking_[part];
    for (;;) {
      const std::size_t of = from[part] / parts_;
      round_up(from[part]);
      if (of == row) return;
      part = reached_by_[of];
      round_down(of * parts_ + part);
    }
  }

  std::size_t parts_;
  std::vector<Cell> cells_;              // parts_ of each class
  std::vector<std::size_t> lacking_;     // samples of each part
  std::vector<std::size_t> reached_by_;  // the part by which a class is reached
};

/// The part of each sample: parts of exactly these sizes, each with its share of every label.
inline std::vector<std::size_t> divide_samples(const std::vector<std::size_t>& labels,
                                               const std::vector<std::size_t>& sizes,
                                               std::uint64_t key) {
  const std::vector<std::size_t> classes = counts_of(labels);
  std::vector<std::vector<std::size_t>> left(classes.size());  // in random order
  const Permutation order(labels.size(), key);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto sample = static_cast<std::size_t>(order(i));
    left[labels[sample]].push_back(sample);
  }
  const Shares shares(classes, sizes, labels.size(), mix({key, sizes.size()}));
  std::vector<std::size_t> parts(labels.size());
  for (std::size_t c = 0; c < left.size(); ++c) {
    for (std::size_t part = 0; part < sizes.size(); ++part) {
      for (std::size_t i = 0; i < shares(c, part); ++i) {
        parts[left[c].back()] = part;
        left[c].pop_back();
      }
    }
  }
  return parts;
}

/// The groups from large to small, those of similar size in random order: a large one that came
/// last would make its part too large.
inline std::vector<std::size_t> large_groups_first(const std::vector<std::size_t>& sizes,
                                                   std::uint64_t key) {
  const auto magnitude = [&](std::size_t group) {
    int bits = 0;
    for (std::size_t size = sizes[group]; size != 0; size /= 2) ++bits;
    return bits;
  };
  const Permutation order(sizes.size(), key);
  std::vector<std::size_t> groups;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    groups.push_back(static_cast<std::size_t>(order(i)));
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [&](std::size_t a, std::size_t b) { return magnitude(a) > magnitude(b); });
  return groups;
}

/// The number of samples of a group that have each label.
using LabelCounts = std::map<std::size_t, std::size_t>;

/// Puts one group after another into the part that has the least of its labels, compared with what
/// the part is to have. No part stays empty.
class GroupDivision {
 public:
  /// `class_sizes` are the numbers of samples of each label; the last label is one that all have.
  GroupDivision(std::vector<std::size_t> class_sizes, const std::vector<std::size_t>& sizes)
      : class_sizes_(std::move(class_sizes)), sizes_(sizes), held_(sizes.size()) {
    for (auto& held : held_) held.resize(class_sizes_.size());
    empty_ = static_cast<std::size_t>(
        std::count_if(sizes.begin(), sizes.end(), [](std::size_t size) { return size != 0; }));
  }

  /// The number of parts that are to have samples, and have none.
  std::size_t empty() const noexcept { return empty_; }

  /// The part for a group, if `left` groups are left, this one included.
  std::size_t add(const LabelCounts& counts, std::size_t left) {
    std::size_t best = sizes_.size();
    double least = 0;
    for (std::size_t part = 0; part < sizes_.size(); ++part) {
      if (sizes_[part] == 0 || (left <= empty_ && held_[part].back() != 0)) continue;
      const double load = load_with(counts, part);
      if (best != sizes_.size() && load >= least) continue;
      best = part;
      least = load;
    }
    if (held_[best].back() == 0) --empty_;
    for (const auto& [label, count] : counts) held_[best][label] += count;
    return best;
  }

 private:
  /// Without a product that is added, which some processors round differently.
  double load_with(const LabelCounts& counts, std::size_t part) const {
    double load = 0;
    for (const auto& [label, count] : counts) {
      load += static_cast<double>(count * (held_[part][label] + count)) /
              static_cast<double>(class_sizes_[label]);
    }
    return load / static_cast<double>(sizes_[part]);
  }

  std::vector<std::size_t> class_sizes_;
  std::vector<std::size_t> sizes_;
  std::vector<std::vector<std::size_t>> held_;  // samples of each label, for each part
  std::size_t empty_ = 0;
};

/// The part of each sample: whole groups, in parts of about these sizes.
inline std::vector<std::size_t> divide_groups(const std::vector<std::size_t>& groups,
                                              const std::vector<std::size_t>& labels,
                                              const std::vector<std::size_t>& sizes,
                                              std::uint64_t key) {
  const std::vector<std::size_t> group_sizes = counts_of(groups);
  std::vector<std::size_t> class_sizes = counts_of(labels);
  std::vector<LabelCounts> counts(group_sizes.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    ++counts[groups[i]][labels[i]];
    ++counts[groups[i]][class_sizes.size()];
  }
  class_sizes.push_back(labels.size());
  GroupDivision division(std::move(class_sizes), sizes);
  if (counts.size() < division.empty()) {
    throw Error(ErrorCode::InvalidArgument,
                counted(counts.size(), "group") + " cannot be divided into " +
                    counted(division.empty(), "part") + ", because a group is never divided");
  }
  std::vector<std::size_t> part_of(counts.size());
  std::size_t left = counts.size();
  for (const std::size_t group : large_groups_first(group_sizes, key)) {
    part_of[group] = division.add(counts[group], left--);
  }
  std::vector<std::size_t> parts;
  parts.reserve(groups.size());
  for (const std::size_t group : groups) parts.push_back(part_of[group]);
  return parts;
}

/// The part of each sample of `source`.
inline std::vector<std::size_t> divide(const std::string& call, const SourceInfo& source,
                                       bool is_random, const std::vector<std::size_t>& sizes,
                                       std::uint64_t seed, const SplitOptions& options) {
  constexpr std::uint64_t kSplit = 0x73706c6974;  // "split", not the number of a transform
  if (is_random) {
    throw Error(ErrorCode::InvalidArgument,
                call +
                    ": the dataset has a random transform, which would change the samples for "
                    "validation, too: split first, then call map() on the part to train with");
  }
  if (source.samples_overlap()) {
    throw Error(ErrorCode::InvalidArgument,
                call +
                    ": the samples of this dataset overlap, so two parts would have the same "
                    "values: divide the arrays or files, and make a dataset of each part; or "
                    "use windows that do not overlap, with a larger stride");
  }
  const std::uint64_t key = mix({seed, kSplit, source.size()});
  const std::vector<std::size_t> labels = label_numbers(options, source);
  const auto groups = group_numbers(options, source);
  return groups ? divide_groups(*groups, labels, sizes, key) : divide_samples(labels, sizes, key);
}

/// The samples of each part, in the order of the dataset.
inline std::vector<std::vector<std::size_t>> samples_of_parts(const std::vector<std::size_t>& parts,
                                                              std::size_t count) {
  std::vector<std::vector<std::size_t>> samples(count);
  for (std::size_t i = 0; i < parts.size(); ++i) samples[parts[i]].push_back(i);
  return samples;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_DIVISION_HPP_

// ---- torch_npy/data/order.hpp

#ifndef TORCH_NPY_DATA_ORDER_HPP_
#define TORCH_NPY_DATA_ORDER_HPP_

/// @file
/// Order: in which order an epoch uses the samples of a dataset. sequential(), shuffled() and
/// block_shuffled().

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// One epoch of an order. For one thread at a time, because at() may cache. Independent of the
/// OrderRule that made it.
class EpochOrder {
 public:
  virtual ~EpochOrder() = default;

  /// The number of positions in the epoch.
  virtual std::uint64_t size() const = 0;

  /// The index in the dataset at `position`, which must be less than size(). Does not depend on
  /// earlier calls.
  virtual std::size_t at(std::uint64_t position) = 0;

  /// If the order decides which samples form a batch: the first position of each batch, and size()
  /// as the last element. Null if batches may start anywhere.
  virtual const std::vector<std::uint64_t>* cuts() const { return nullptr; }
};

/// What an Order is: makes an EpochOrder for each epoch. Read-only: safe from any thread.
class OrderRule {
 public:
  virtual ~OrderRule() = default;

  /// Throws Error (InvalidArgument) if the order does not fit a dataset with these `parts`: the
  /// sizes of the datasets joined by concat(), or one number for any other dataset.
  virtual void check(const std::vector<std::size_t>& /*parts*/) const {}

  /// The order of the epoch `epoch`. Throws what check() throws.
  virtual std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts,
                                            std::uint64_t seed, std::uint64_t epoch) const = 0;

  /// A number that differs between orders of different kinds or with different parameters.
  virtual std::uint64_t fingerprint() const = 0;
};

/// The number of samples of a dataset with these parts.
inline std::size_t size_of(const std::vector<std::size_t>& parts) {
  std::size_t size = 0;
  for (const std::size_t part : parts) size += part;
  return size;
}

/// Throws Error (InvalidArgument) if `count` values, one per sample, do not fit the dataset.
inline void check_count(const char* values, std::size_t count, std::size_t dataset_size) {
  if (count == dataset_size) return;
  throw Error(ErrorCode::InvalidArgument, "the order has " + std::to_string(count) + " " + values +
                                              ", the dataset has " +
                                              counted(dataset_size, "sample") +
                                              ": give one of the " + values + " for each sample");
}

/// A fingerprint of many values.
template <class T>
std::uint64_t fingerprint_of(std::uint64_t kind, const std::vector<T>& values) {
  static_assert(sizeof(T) == sizeof(std::uint64_t), "every bit counts");
  std::uint64_t mixed = mix({kind, values.size()});
  for (const T& value : values) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    mixed = mix({mixed, bits});
  }
  return mixed;
}

/// An epoch as a list of all its indices, and the cuts if there are any.
class ListedEpoch : public EpochOrder {
 public:
  explicit ListedEpoch(std::vector<std::size_t> indices, std::vector<std::uint64_t> cuts = {})
      : indices_(std::move(indices)), cuts_(std::move(cuts)) {}

  std::uint64_t size() const override { return indices_.size(); }
  std::size_t at(std::uint64_t position) override {
    return indices_[static_cast<std::size_t>(position)];
  }
  const std::vector<std::uint64_t>* cuts() const override {
    return cuts_.empty() ? nullptr : &cuts_;
  }

 private:
  std::vector<std::size_t> indices_;
  std::vector<std::uint64_t> cuts_;
};

}  // namespace detail

/// In which order an epoch uses the samples of a dataset; for Loader and OrderSampler. Made by
/// sequential(), shuffled(), block_shuffled(), weighted(), by_length() and mixed().
///
/// The order of an epoch depends on the seed, the number of the epoch and the size of the dataset
/// alone, and is the same on every platform. Immutable: safe from any thread. Copies are cheap.
class Order {
 public:
  /// For the functions named above.
  explicit Order(std::shared_ptr<const detail::OrderRule> rule) : rule_(std::move(rule)) {}

  // No move operations: a moved-from order would have no rule.

  /// Copies share what they consist of. A move copies.
  Order(const Order&) = default;
  /// As the copy constructor.
  Order& operator=(const Order&) = default;

  /// For Loader and OrderSampler.
  const detail::OrderRule& rule() const noexcept { return *rule_; }

 private:
  std::shared_ptr<const detail::OrderRule> rule_;
};

namespace detail {

// The number of each kind of order is its name in ASCII. It makes keys differ from those of
// transforms, which use small numbers.

class SequentialRule : public OrderRule {
 public:
  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t,
                                    std::uint64_t) const override {
    return std::make_unique<Epoch>(size_of(parts));
  }
  std::uint64_t fingerprint() const override { return mix({0x73657175656e7469}); }

 private:
  class Epoch : public EpochOrder {
   public:
    explicit Epoch(std::uint64_t size) : size_(size) {}
    std::uint64_t size() const override { return size_; }
    std::size_t at(std::uint64_t position) override { return static_cast<std::size_t>(position); }

   private:
    std::uint64_t size_;
  };
};

class ShuffledRule : public OrderRule {
 public:
  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    return std::make_unique<Epoch>(Permutation(size_of(parts), mix({seed, epoch, kKind})));
  }
  std::uint64_t fingerprint() const override { return mix({kKind}); }

 private:
  static constexpr std::uint64_t kKind = 0x73687566666c6564;

  class Epoch : public EpochOrder {
   public:
    explicit Epoch(Permutation permutation) : permutation_(std::move(permutation)) {}
    std::uint64_t size() const override { return permutation_.size(); }
    std::size_t at(std::uint64_t position) override {
      return static_cast<std::size_t>(permutation_(position));
    }

   private:
    Permutation permutation_;
  };
};

class BlockShuffledEpoch : public EpochOrder {
 public:
  BlockShuffledEpoch(std::uint64_t size, std::uint64_t block, std::uint64_t window,
                     std::uint64_t key)
      : size_(size),
        block_(clamp(block, size)),
        blocks_((size + block_ - 1) / block_),
        window_(clamp(window, blocks_)),
        missing_(blocks_ * block_ - size),
        key_(key),
        full_blocks_(blocks_ - (missing_ != 0), mix({key, 0})),
        short_slot_(missing_ == 0 ? blocks_ : SplitMix64(mix({key, 1})).below(blocks_)),
        in_window_(0, 0) {}

  std::uint64_t size() const override { return size_; }

  std::size_t at(std::uint64_t position) override {
    // In slots of equal size, of which the short block leaves the last `missing_` samples empty.
    const std::uint64_t in_full_window = window_ * block_;
    const std::uint64_t short_window = short_slot_ / window_;
    const bool is_after = position >= (short_window + 1) * in_full_window - missing_;
    const std::uint64_t window = (position + (is_after ? missing_ : 0)) / in_full_window;
    const std::uint64_t first_slot = window * window_;
    const std::uint64_t first = first_slot * block_ - (window > short_window ? missing_ : 0);

    shuffle_window(window);
    std::uint64_t place = in_window_(position - first);
    if (window == short_window && place >= (short_slot_ + 1 - first_slot) * block_ - missing_) {
      place += missing_;
    }
    return static_cast<std::size_t>(block_in(first_slot + place / block_) * block_ +
                                    place % block_);
  }

 private:
  static std::uint64_t clamp(std::uint64_t value, std::uint64_t most) {
    return (std::max)((std::min)(value, most), std::uint64_t{1});
  }

  /// The block that is in `slot` of the order of blocks.
  std::uint64_t block_in(std::uint64_t slot) const {
    if (slot == short_slot_) return blocks_ - 1;
    return full_blocks_(slot - (slot > short_slot_));
  }

  void shuffle_window(std::uint64_t window) {
    if (in_window_.size() != 0 && window == current_window_) return;
    const std::uint64_t first_slot = window * window_;
    const std::uint64_t end_slot = (std::min)(first_slot + window_, blocks_);
    const bool has_short = first_slot <= short_slot_ && short_slot_ < end_slot;
    const std::uint64_t samples = (end_slot - first_slot) * block_ - (has_short ? missing_ : 0);
    in_window_ = Permutation(samples, mix({key_, 2, window}));
    current_window_ = window;
  }

  std::uint64_t size_;
  std::uint64_t block_;    // samples in a block
  std::uint64_t blocks_;   // including the short one, if any
  std::uint64_t window_;   // blocks in a window
  std::uint64_t missing_;  // samples by which the last block of the dataset is short
  std::uint64_t key_;
  Permutation full_blocks_;   // the order of the other blocks
  std::uint64_t short_slot_;  // where among them the short block is; blocks_ if there is none
  std::uint64_t current_window_ = 0;
  Permutation in_window_;  // of the samples of the current window
};

class BlockShuffledRule : public OrderRule {
 public:
  BlockShuffledRule(std::size_t block, std::size_t window) : block_(block), window_(window) {
    if (block == 0 || window == 0) {
      throw Error(ErrorCode::InvalidArgument, "block_shuffled(" + std::to_string(block) + ", " +
                                                  std::to_string(window) +
                                                  "): expected numbers of at least 1");
    }
  }

  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    return std::make_unique<BlockShuffledEpoch>(size_of(parts), block_, window_,
                                                mix({seed, epoch, kKind}));
  }
  std::uint64_t fingerprint() const override { return mix({kKind, block_, window_}); }

 private:
  static constexpr std::uint64_t kKind = 0x626c6f636b736875;
  std::uint64_t block_;
  std::uint64_t window_;
};

}  // namespace detail

/// The order 0, 1, 2, ... in every epoch.
inline Order sequential() { return Order(std::make_shared<detail::SequentialRule>()); }

/// A new random order in each epoch. An epoch starts in constant time and needs at most 8 KiB: the
/// order is a keyed permutation, which is computed for each position alone.
inline Order shuffled() { return Order(std::make_shared<detail::ShuffledRule>()); }

/// A new random order in each epoch that reads neighbouring samples close to each other in time:
/// for object stores, shards and disks, which are slow if every sample is elsewhere.
///
/// Every `block` neighbouring samples form a block; the last one may be shorter. The blocks are in
/// random order. Each `window` consecutive blocks of that order form a window, in which the samples
/// are shuffled. So at any time the samples come from `window` blocks only.
///
/// An epoch starts in constant time. Throws Error (InvalidArgument) if a number is 0.
inline Order block_shuffled(std::size_t block, std::size_t window = 16) {
  return Order(std::make_shared<detail::BlockShuffledRule>(block, window));
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ORDER_HPP_

// ---- torch_npy/data/epoch_plan.hpp

#ifndef TORCH_NPY_DATA_EPOCH_PLAN_HPP_
#define TORCH_NPY_DATA_EPOCH_PLAN_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Throws Error (InvalidArgument) if there is no such rank.
inline void check_rank(std::size_t num_replicas, std::size_t rank) {
  if (rank < num_replicas) return;
  throw Error(ErrorCode::InvalidArgument,
              "rank " + std::to_string(rank) +
                  " is out of range: expected less than num_replicas, which is " +
                  std::to_string(num_replicas));
}

/// The batches of one rank in one epoch. For one thread at a time.
///
/// The ranks share the positions of the order from `start` on: rank r gets start + r,
/// start + r + num_replicas, and so on. If the order has cuts, the ranks share batches instead:
/// rank r gets every num_replicas-th batch from the one at `start` on.
class EpochPlan {
 public:
  /// `start` is the number of positions that all ranks together have consumed in this epoch; the
  /// number of ranks may have been another one then. `drop_last` drops an incomplete last batch. If
  /// the order has cuts, `batch_size` and `drop_last` are ignored.
  ///
  /// Throws Error (InvalidArgument) if there is no such rank or if `batch_size` is 0, and Error
  /// (Mismatch) if `start` is after the end of the epoch or not at a cut.
  EpochPlan(std::unique_ptr<EpochOrder> order, std::size_t batch_size, std::size_t num_replicas,
            std::size_t rank, Tail tail, bool drop_last, std::uint64_t start = 0)
      : order_(std::move(order)),
        cuts_(order_->cuts()),
        batch_size_(batch_size),
        replicas_(num_replicas),
        rank_(rank),
        tail_(tail),
        drop_last_(drop_last),
        units_(cuts_ ? cuts_->size() - 1 : order_->size()) {
    check_rank(num_replicas, rank);
    if (!cuts_ && batch_size == 0) {
      throw Error(ErrorCode::InvalidArgument, "batch_size is 0: expected at least 1");
    }
    if (start > order_->size()) {
      throw Error(ErrorCode::Mismatch, "position " + std::to_string(start) +
                                           " is after the end of the epoch, which has " +
                                           counted(order_->size(), "position"));
    }
    start_ = start;
    if (!cuts_) return;
    const auto cut = std::lower_bound(cuts_->begin(), cuts_->end(), start);
    if (*cut != start) {
      throw Error(ErrorCode::Mismatch, "position " + std::to_string(start) +
                                           " is inside a batch of the order, which cuts the epoch "
                                           "into batches: continue at the start of a batch");
    }
    start_ = static_cast<std::uint64_t>(cut - cuts_->begin());
  }

  /// True if the order decides which samples form a batch.
  bool has_cuts() const noexcept { return cuts_ != nullptr; }

  /// The number of batches of this rank.
  std::uint64_t batches() const {
    if (cuts_) return share();
    return share() / batch_size_ + (!drop_last_ && share() % batch_size_ != 0);
  }

  /// The samples of the batch `number`, which must be less than batches().
  std::vector<Pick> batch(std::uint64_t number) {
    std::vector<Pick> picks;
    if (!cuts_) {
      const std::uint64_t first = number * batch_size_;
      const std::uint64_t count = (std::min)(share() - first, batch_size_);
      picks.reserve(static_cast<std::size_t>(count));
      for (std::uint64_t i = 0; i < count; ++i) picks.push_back(pick(first + i));
      return picks;
    }
    const std::uint64_t unit = unit_of(number);
    const auto cut = cuts_->begin() + static_cast<std::ptrdiff_t>(unit % units_);
    picks.reserve(static_cast<std::size_t>(cut[1] - cut[0]));
    for (std::uint64_t position = cut[0]; position < cut[1]; ++position) {
      picks.push_back(pick_at(position, unit / units_ * order_->size() + position));
    }
    return picks;
  }

  /// The number of positions that all ranks together have consumed when each has had its batch
  /// `number`, which must be less than batches(). Positions before `start` count. At most the size
  /// of the order.
  std::uint64_t consumed_after(std::uint64_t number) const {
    const std::uint64_t remaining = units_ - start_;
    const std::uint64_t most = share_of_rank(tail_ == Tail::Drop ? Tail::Drop : Tail::Pad);
    const std::uint64_t per_batch = cuts_ ? 1 : batch_size_;
    const std::uint64_t each = number < most / per_batch ? (number + 1) * per_batch : most;
    const std::uint64_t unit = each > remaining / replicas_ ? units_ : start_ + each * replicas_;
    return cuts_ ? (*cuts_)[static_cast<std::size_t>(unit)] : unit;
  }

  /// The number of samples of this rank in all its batches, if drop_last is not set. Linear time in
  /// the number of batches if the order has cuts.
  std::uint64_t samples() const { return cuts_ ? samples_before(share()) : share(); }

  /// The sample `number` of this rank, for an order without cuts.
  Pick pick(std::uint64_t number) {
    const std::uint64_t position = unit_of(number);
    return pick_at(position % units_, position);
  }

  /// For an order with cuts: the number of the batch that begins when this rank has had `samples`
  /// samples; batches() at the end, none if that is inside a batch or after the end.
  std::optional<std::uint64_t> batch_after(std::uint64_t samples) const {
    std::uint64_t before = 0;
    for (std::uint64_t number = 0;; ++number) {
      if (before == samples) return number;
      if (before > samples || number == share()) return std::nullopt;
      before += samples_in(number);
    }
  }

 private:
  // A unit is what the ranks share: a position, or a batch if the order has cuts. Units after the
  // end are those that Tail::Pad repeats.
  std::uint64_t unit_of(std::uint64_t number) const { return start_ + number * replicas_ + rank_; }

  std::uint64_t share() const { return share_of_rank(tail_); }

  /// The number of units of this rank.
  std::uint64_t share_of_rank(Tail tail) const {
    const std::uint64_t all_have = (units_ - start_) / replicas_;
    const std::uint64_t rest = (units_ - start_) % replicas_;
    return all_have + (tail == Tail::Pad ? rest != 0 : tail == Tail::Exact ? rank_ < rest : false);
  }

  std::uint64_t samples_in(std::uint64_t number) const {
    const auto cut = cuts_->begin() + static_cast<std::ptrdiff_t>(unit_of(number) % units_);
    return cut[1] - cut[0];
  }

  std::uint64_t samples_before(std::uint64_t end) const {
    std::uint64_t samples = 0;
    for (std::uint64_t number = 0; number < end; ++number) samples += samples_in(number);
    return samples;
  }

  Pick pick_at(std::uint64_t position, std::uint64_t unwrapped) {
    const std::size_t index = order_->at(position);
    return {index, unwrapped, index};
  }

  std::unique_ptr<EpochOrder> order_;
  const std::vector<std::uint64_t>* cuts_;
  std::uint64_t batch_size_;
  std::uint64_t replicas_;
  std::uint64_t rank_;
  Tail tail_;
  bool drop_last_;
  std::uint64_t units_;
  std::uint64_t start_ = 0;  // in units
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_EPOCH_PLAN_HPP_

// ---- torch_npy/data/file_dataset.hpp

#ifndef TORCH_NPY_DATA_FILE_DATASET_HPP_
#define TORCH_NPY_DATA_FILE_DATASET_HPP_

/// @file
/// A dataset of any files.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// The targets of a FileDataset: files, or the rows of a tensor.
class FileTargets {
 public:
  /// Files.
  FileTargets(std::vector<std::filesystem::path> files)  // NOLINT(google-explicit-constructor)
      : where_(std::move(files)) {}
  /// Files.
  FileTargets(std::initializer_list<std::filesystem::path> files)
      : where_(std::vector<std::filesystem::path>(files)) {}
  /// Files.
  FileTargets(const FileList& files)  // NOLINT(google-explicit-constructor)
      : where_(std::vector<std::filesystem::path>(files)) {}
  /// A tensor of any dtype and of shape (number of files, ...), which is not copied: later changes
  /// of it change the targets.
  FileTargets(at::Tensor labels)  // NOLINT(google-explicit-constructor)
      : where_(std::move(labels)) {}

 private:
  template <class E>
  friend class FileDataset;

  std::variant<std::vector<std::filesystem::path>, at::Tensor> where_;
};

/// A dataset of any .npy files, one sample per file, in the order of the list:
///
///     FileDataset images(files);              // TensorExamples
///     FileDataset pairs(files, mask_files);   // Examples: mask_files[i] is the target of files[i]
///     FileDataset labelled(files, labels);    // Examples: row i of a tensor is the target
///
/// A file may be in the list several times. Whether the files exist shows when they are read, or by
/// verify(). FolderOptions about the choice of files throw Error (InvalidArgument). Uses the bytes
/// of the paths plus 9 bytes per file. Copies share the list, and up to 256 MiB of memory for the
/// next batches.
template <class E = Example<>>
class FileDataset : public Dataset<E> {
 public:
  /// Throws Error: InvalidArgument if there are no files, if a path is empty or contains a zero
  /// byte, or if the device does not exist.
  explicit FileDataset(const std::vector<std::filesystem::path>& files,
                       const FolderOptions& options = {})
      : FileDataset(std::make_shared<const Source>(files_of(files, options, detail::make_pool()),
                                                   nullptr, nullptr, options)) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need targets");
  }

  /// Target i, a file or a row, is that of file i. target_options() say how targets are loaded, and
  /// whether rows are converted or copied to a device. Throws Error: as above; Mismatch if there
  /// are more or fewer targets than files.
  FileDataset(const std::vector<std::filesystem::path>& files, const FileTargets& targets,
              const FolderOptions& options = {})
      : FileDataset(make_source(files, targets, options)) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take one list of files");
  }

  /// The file of each sample.
  const FileList& files() const& noexcept { return files_->data().list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// A copy shares the files. A move copies.
  FileDataset(const FileDataset&) = default;
  /// As the copy constructor.
  FileDataset& operator=(const FileDataset&) = default;
  ~FileDataset() override = default;

 private:
  using Source = detail::FileSource<E>;
  using Pool = std::shared_ptr<detail::BufferPool>;

  explicit FileDataset(const std::shared_ptr<const Source>& source)
      : Dataset<E>(source), files_(source) {}

  static std::shared_ptr<const detail::SampleFiles> files_of(
      const std::vector<std::filesystem::path>& files, const FolderOptions& options, Pool pool) {
    detail::require_used("FileDataset", options, {});
    if (files.empty()) throw Error(ErrorCode::InvalidArgument, "the list of files is empty");
    return detail::sample_files(FileList(files), options.data_options(), std::move(pool),
                                options.expected());
  }

  static std::shared_ptr<const Source> make_source(const std::vector<std::filesystem::path>& files,
                                                   const FileTargets& targets,
                                                   const FolderOptions& options) {
    const Pool pool = detail::make_pool();
    std::shared_ptr<const detail::SampleFiles> target_files;
    std::shared_ptr<const detail::ArrayRows> labels;
    if (const auto* const tensor = std::get_if<at::Tensor>(&targets.where_)) {
      if (!tensor->defined()) {
        throw Error(ErrorCode::InvalidArgument,
                    "the targets are an undefined tensor: a list without labels has none");
      }
      labels = std::make_shared<const detail::TensorRows>(*tensor, options.target_options(), pool);
    } else {
      const auto& paths = std::get<std::vector<std::filesystem::path>>(targets.where_);
      target_files = detail::sample_files(FileList(paths), options.target_options(), pool);
    }
    return std::make_shared<const Source>(files_of(files, options, pool), std::move(target_files),
                                          std::move(labels), options);
  }

  std::shared_ptr<const Source> files_;
};

FileDataset(const std::vector<std::filesystem::path>&)->FileDataset<TensorExample>;
FileDataset(const std::vector<std::filesystem::path>&, const FolderOptions&)
    ->FileDataset<TensorExample>;
FileDataset(const std::vector<std::filesystem::path>&, const FileTargets&)->FileDataset<Example<>>;
FileDataset(const std::vector<std::filesystem::path>&, const FileTargets&, const FolderOptions&)
    ->FileDataset<Example<>>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FILE_DATASET_HPP_

// ---- torch_npy/data/file_list.hpp

#ifndef TORCH_NPY_DATA_FILE_LIST_HPP_
#define TORCH_NPY_DATA_FILE_LIST_HPP_

/// @file
/// read_file_list(): the files and labels that a text file lists.

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <locale>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// What read_file_list() has read: for each file its target, label, value and group, as far as the
/// list has them.
struct ListedFiles {
  /// The files, in the order of the lines.
  std::vector<std::filesystem::path> files;
  /// The target of each file, if the list has a column of targets.
  std::vector<std::filesystem::path> targets;
  /// The class of each file: int64, of shape (number of files). Undefined if the list has neither
  /// labels nor classes.
  at::Tensor labels;
  /// The number of each file, if the list has a column of values: float32, of shape (number of
  /// files).
  at::Tensor values;
  /// The group of each file, if the list has a column of groups.
  std::vector<std::string> groups;
  /// If the list has a column of classes: the name of each class; its number is the index.
  std::vector<std::string> classes;

  /// The numbers of the files in a group, for Dataset::subset(). Throws Error (NotFound) if there
  /// is none: the name may be misspelt.
  std::vector<std::size_t> in_group(const std::string& name) const {
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      if (groups[i] == name) found.push_back(i);
    }
    if (!found.empty()) return found;
    throw Error(ErrorCode::NotFound,
                "no file is in the group " + detail::in_quotes(name) +
                    (groups.empty() ? ": the list has no group_column()" : ""));
  }
};

namespace detail {

/// True for the names of files that this library reads.
inline bool is_array_name(std::string_view name) {
  return has_ending(name, ".npy") || has_ending(name, ".npz");
}

inline std::optional<std::int64_t> integer_in(std::string_view text) {
  if (text.size() > 1 && text.front() == '+' && text[1] != '-') text.remove_prefix(1);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

inline std::optional<double> number_in(const std::string& text) {
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  double number = 0;
  if (!(stream >> number) || stream.peek() != std::char_traits<char>::eof()) return std::nullopt;
  return number;
}

/// True for text that looks like a number.
inline bool is_numeric(std::string_view text) {
  return text.find_first_of("0123456789") != text.npos &&
         text.find_first_not_of("0123456789+-.eE") == text.npos;
}

/// True for the name of a column of paths.
inline bool is_path_heading(std::string text) {
  constexpr std::string_view kHeadings[] = {
      "path",     "paths",     "file",  "files",  "filename",   "filenames", "file_name",
      "filepath", "file_path", "image", "images", "image_path", "name",      "names",
      "img",      "img_path",  "input", "inputs", "volume",     "audio"};
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return std::find(std::begin(kHeadings), std::end(kHeadings), text) != std::end(kHeadings);
}

inline bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::status(path, error).type() != std::filesystem::file_type::not_found;
}

/// The path that a list has as `text`.
inline std::filesystem::path listed_path(const std::filesystem::path& root, std::string text,
                                         const FileListOptions& options) {
  if (text.empty()) throw Error(ErrorCode::Mismatch, "the path is empty");
  if (!has_ending(text, options.ending())) text += options.ending();
  return root / path_of(text);
}

inline std::string line_name(const TextLine& line) { return "line " + std::to_string(line.number); }

/// Which columns a list has, and what they mean.
class ListColumns {
 public:
  /// Throws Error: InvalidArgument for options that do not fit the list; Mismatch if it is empty.
  ListColumns(const TextLines& lines, const std::filesystem::path& root,
              const FileListOptions& options)
      : lines_(lines), options_(options) {
    require_lines(0);
    separator_ = options.separator() == '\0' ? found_separator() : options.separator();
    first_ = split(0);
    const bool has_names = has_named_column();
    if (options.header() == false && has_names) {
      throw Error(ErrorCode::InvalidArgument,
                  "a column that is chosen by name needs a header line");
    }
    path = position(options.path_column()).value_or(0);
    target = position(options.target_column());
    label = position(options.label_column());
    class_name = position(options.class_column());
    value = position(options.value_column());
    group = position(options.group_column());
    const bool is_header = has_names || (is_path_heading(first_[path]) &&
                                         !is_there(listed_path(root, first_[path], options)));
    begin = options.header().value_or(is_header) ? 1 : 0;
    require_lines(begin);
    if (!options.path_column() && !target && !label && !class_name && !value && !group) {
      guess_second(root);
    }
    if (target == path) {
      throw Error(ErrorCode::InvalidArgument,
                  "path_column() and target_column() are the same column: each file would be its "
                  "own target");
    }
    if (label && class_name) {
      throw Error(ErrorCode::InvalidArgument,
                  "label_column() and class_column() exclude each other");
    }
    if (!options.classes().empty() && !class_name) {
      throw Error(ErrorCode::InvalidArgument, "classes() needs a list with a column of classes");
    }
  }

  std::size_t begin = 0;  ///< the first line after the header line
  std::size_t path = 0;   ///< positions of columns
  std::optional<std::size_t> target;
  std::optional<std::size_t> label;
  std::optional<std::size_t> class_name;
  std::optional<std::size_t> value;
  std::optional<std::size_t> group;
  bool is_guessed = false;  ///< the meaning of the second column

  /// The columns of a line. Throws Error (Mismatch) if there are more or fewer than in the first.
  std::vector<std::string> of(std::size_t line) const {
    std::vector<std::string> columns = split(line);
    if (columns.size() == first_.size()) return columns;
    throw Error(ErrorCode::Mismatch, "expected " + counted(first_.size(), "column") + ", as in " +
                                         line_name(lines_[0]) + ", found " +
                                         std::to_string(columns.size()));
  }

 private:
  std::vector<std::string> split(std::size_t line) const {
    return split_columns(lines_[line].text, separator_);
  }

  void require_lines(std::size_t first) const {
    if (first >= lines_.size()) throw Error(ErrorCode::Mismatch, "this list has no files");
  }

  /// A line of one path with blanks in it is one column.
  char found_separator() const {
    const std::string_view line = lines_[0].text;
    const char found = separator_in(line);
    if (found != ' ' || line.find('"') != line.npos) return found;
    const std::vector<std::string> parts = split_columns(line, ' ');
    return is_array_name(parts.back()) && !is_array_name(parts.front()) ? kOneColumn : found;
  }

  bool has_named_column() const {
    for (const auto* const column :
         {&options_.path_column(), &options_.target_column(), &options_.label_column(),
          &options_.class_column(), &options_.value_column(), &options_.group_column()}) {
      if (*column && !(*column)->name().empty()) return true;
    }
    return false;
  }

  /// The position of a column that was chosen.
  std::optional<std::size_t> position(const std::optional<ListColumn>& column) const {
    if (!column) return std::nullopt;
    const auto begin_of_names = first_.begin();
    std::size_t found = first_.size();
    const char* wrong = "no column ";
    if (column->name().empty()) {
      if (column->number() >= 0) found = static_cast<std::size_t>(column->number());
    } else {
      const auto named = std::find(begin_of_names, first_.end(), column->name());
      found = static_cast<std::size_t>(named - begin_of_names);
      if (std::count(begin_of_names, first_.end(), column->name()) > 1) {
        wrong = "more than one column ";
        found = first_.size();
      }
    }
    if (found < first_.size()) return found;
    std::string names;
    for (const std::string& name : first_) names += (names.empty() ? "" : ", ") + in_quotes(name);
    throw Error(ErrorCode::InvalidArgument,
                wrong +
                    (column->name().empty() ? std::to_string(column->number())
                                            : in_quotes(column->name())) +
                    ": the columns of " + line_name(lines_[0]) + ", counted from 0, are " + names);
  }

  /// The meaning of the second column, if no columns were chosen.
  void guess_second(const std::filesystem::path& root) {
    if (first_.size() == 1) return;
    if (first_.size() > 2) {
      throw Error(ErrorCode::InvalidArgument,
                  line_name(lines_[0]) + " has " + std::to_string(first_.size()) +
                      " columns: " + shown(lines_[0].text) +
                      "; choose with path_column(), label_column() and the like, or set the "
                      "separator(); a path with the separator in it must be in quotes");
    }
    const std::string text = of(begin)[1];
    is_guessed = true;
    const auto is_target = [&] {
      return is_array_name(text) ||
             (!options_.ending().empty() && is_there(listed_path(root, text, options_)));
    };
    if (options_.classes().empty() && !text.empty() && is_target()) {
      target = 1;
    } else if (options_.classes().empty() && (is_numeric(text) || text.empty())) {
      label = 1;
    } else {
      class_name = 1;
    }
  }

  const TextLines& lines_;
  const FileListOptions& options_;
  char separator_ = kOneColumn;
  std::vector<std::string> first_;  // the columns of the first line
};

/// The numbers of classes, by name.
class ClassNumbers {
 public:
  explicit ClassNumbers(const std::vector<std::string>& fixed) : is_fixed_(!fixed.empty()) {
    for (const std::string& name : fixed) {
      if (numbers_.emplace(name, static_cast<std::int64_t>(numbers_.size())).second) continue;
      throw Error(ErrorCode::InvalidArgument,
                  "classes() has the name " + in_quotes(name) + " twice");
    }
  }

  /// Throws Error (Mismatch) if the names are fixed, and this is not one of them.
  std::int64_t of(const std::string& name) {
    const auto found = numbers_.find(name);
    if (found != numbers_.end()) return found->second;
    if (is_fixed_) throw Error(ErrorCode::Mismatch, in_quotes(name) + " is not in classes()");
    if (name.empty()) throw Error(ErrorCode::Mismatch, "the class is empty");
    return numbers_.emplace(name, static_cast<std::int64_t>(numbers_.size())).first->second;
  }

  /// The names, in the order of their bytes if they are not fixed; `labels` get their new numbers.
  std::vector<std::string> sorted(std::vector<std::int64_t>& labels) const {
    std::vector<std::string> names(numbers_.size());
    std::vector<std::int64_t> now(numbers_.size());
    std::int64_t next = 0;
    for (const auto& [name, number] : numbers_) {
      std::int64_t& position = now[static_cast<std::size_t>(number)];
      position = is_fixed_ ? number : next++;
      names[static_cast<std::size_t>(position)] = name;
    }
    for (std::int64_t& label : labels) label = now[static_cast<std::size_t>(label)];
    return names;
  }

 private:
  bool is_fixed_;
  std::map<std::string, std::int64_t> numbers_;
};

/// Reads a list of files. An Error has no path; the caller adds it.
class ListReader {
 public:
  ListReader(const std::filesystem::path& list, const std::filesystem::path& root,
             const FileListOptions& options)
      : root_(root.empty() ? list.parent_path() : root),
        options_(options),
        lines_(list),
        columns_(lines_, root_, options),
        class_numbers_(options.classes()) {}

  ListedFiles read() {
    std::optional<Error> bad;
    std::size_t count = 0;
    for (std::size_t i = columns_.begin; i < lines_.size(); ++i) {
      try {
        add(columns_.of(i));
      } catch (const Error& error) {
        if (count++ == 0) bad.emplace(ErrorContext::within(error, line_name(lines_[i])));
      }
    }
    if (bad) throw Error(bad->code(), bad->what() + and_more(count, "line", " wrong"));
    if (options_.check_files()) require_files();
    if (columns_.class_name) listed_.classes = class_numbers_.sorted(labels_);
    if (columns_.class_name && columns_.is_guessed) require_no_header();
    if (columns_.class_name || columns_.label) listed_.labels = at::tensor(labels_, at::kLong);
    if (columns_.value) listed_.values = at::tensor(values_, at::kFloat);
    return std::move(listed_);
  }

 private:
  static std::string and_more(std::size_t count, const char* noun, const char* what) {
    if (count == 1) return {};
    return "; " + counted(count - 1, noun) + " more " + (count == 2 ? "is" : "are") + what;
  }

  /// Throws Error (Mismatch) if the class of the first line alone is not a number: then it is the
  /// name of a column of labels.
  void require_no_header() const {
    const std::string& first = listed_.classes[static_cast<std::size_t>(labels_[0])];
    const auto is_label = [&](const std::string& name) {
      return name == first || is_numeric(name);
    };
    if (columns_.begin != 0 || options_.header() || is_numeric(first) ||
        listed_.classes.size() == 1 ||
        !std::all_of(listed_.classes.begin(), listed_.classes.end(), is_label)) {
      return;
    }
    throw Error(ErrorCode::Mismatch, line_name(lines_[0]) + ": the class is " + in_quotes(first) +
                                         ", and those of all other lines are numbers; header(true) "
                                         "skips a header line");
  }

  void add(const std::vector<std::string>& columns) {
    listed_.files.push_back(listed_path(root_, columns[columns_.path], options_));
    if (columns_.target) listed_.targets.push_back(target_from(columns[*columns_.target]));
    if (columns_.label) labels_.push_back(label_from(columns[*columns_.label]));
    if (columns_.class_name) labels_.push_back(class_from(columns[*columns_.class_name]));
    if (columns_.value) values_.push_back(value_from(columns[*columns_.value]));
    if (columns_.group) listed_.groups.push_back(columns[*columns_.group]);
  }

  std::filesystem::path target_from(const std::string& text) const {
    if (!columns_.is_guessed || is_array_name(text) || !options_.ending().empty()) {
      return listed_path(root_, text, options_);
    }
    throw Error(ErrorCode::Mismatch,
                "expected the path of a target, found " + shown(text) +
                    "; target_column(1) takes the column for paths with any ending");
  }

  std::int64_t label_from(const std::string& text) const {
    if (const auto number = integer_in(text)) return *number;
    throw Error(
        ErrorCode::Mismatch,
        "expected an integer label, found " + shown(text) +
            (number_in(text)       ? "; value_column() takes a column for any numbers, a label "
                                     "is written without a point"
             : columns_.is_guessed ? "; class_column(1) takes the column for names of classes"
                                   : ""));
  }

  static double value_from(const std::string& text) {
    const auto number = number_in(text);
    if (number && std::isfinite(static_cast<float>(*number))) return *number;
    throw Error(ErrorCode::Mismatch, "expected a number" +
                                         std::string(number ? " that float32 can hold" : "") +
                                         ", found " + shown(text));
  }

  std::int64_t class_from(const std::string& text) {
    if (!columns_.is_guessed || !is_array_name(text)) return class_numbers_.of(text);
    throw Error(ErrorCode::Mismatch, "expected the name of a class, found the path " + shown(text) +
                                         "; class_column(1) takes the column for names of classes");
  }

  /// Throws Error (NotFound) for the first file that does not exist.
  void require_files() const {
    const std::vector<std::size_t> files = missing_files(FileList(listed_.files));
    const std::vector<std::size_t> targets = missing_files(FileList(listed_.targets));
    const std::size_t count = files.size() + targets.size();
    if (count == 0) return;
    const bool is_file = !files.empty() && (targets.empty() || files[0] <= targets[0]);
    const std::size_t first = is_file ? files[0] : targets[0];
    const std::filesystem::path& path = is_file ? listed_.files[first] : listed_.targets[first];
    const bool is_all = count == listed_.files.size() + listed_.targets.size();
    const auto is_first = [](std::size_t i) { return i == 0; };
    const bool is_only_first = std::all_of(files.begin(), files.end(), is_first) &&
                               std::all_of(targets.begin(), targets.end(), is_first);
    const bool may_be_header =
        first == 0 && columns_.begin == 0 && (is_only_first || !is_array_name(utf8_of(path)));
    throw Error(ErrorCode::NotFound,
                line_name(lines_[columns_.begin + first]) + ": no such file: " + shown_path(path) +
                    and_more(count, "file", " missing") + advice_for(path, may_be_header, is_all));
  }

  static std::string advice_for(const std::filesystem::path& path, bool may_be_header,
                                bool all_are_missing) {
    std::filesystem::path with_ending = path;
    if (is_there(with_ending += ".npy")) return "; with ending(\".npy\") it is found";
    const std::string name = utf8_of(path.filename());
    if (name.find(';') != name.npos) return "; separator(';') divides lines at semicolons";
    if (name.find('\\') != name.npos) return "; a backslash does not separate folders here";
    if (may_be_header) return "; header(true) skips a header line";
    if (!all_are_missing) return {};
    return "; relative paths are relative to the second argument, or else to the folder of the "
           "list";
  }

  std::filesystem::path root_;
  const FileListOptions& options_;
  TextLines lines_;
  ListColumns columns_;
  ClassNumbers class_numbers_;
  std::vector<std::int64_t> labels_;
  std::vector<double> values_;
  ListedFiles listed_;
};

}  // namespace detail

/// Reads a list of files, one on each line, for a FileDataset. A line is a path alone; or a path
/// and, after a comma, a tab or blanks, an integer label, the path of a target (with the ending
/// .npy or .npz; or with ending(), an existing file without it), or the name of a class. The first
/// line decides which of them all lines have. FileListOptions choose columns of other lists, such
/// as CSV files with a header line.
///
/// A column may be in quotes, with two quotes for one. Blank lines and lines that begin with '#'
/// are ignored. Relative paths are relative to `root`; by default, to the folder of the list.
///
/// Throws Error: NotFound if the list or a file in it does not exist, see
/// FileListOptions::check_files; Mismatch for a wrong line, with its number and how many more there
/// are; InvalidArgument for options that do not fit the list. Costs one stat per file. Safe from
/// any thread.
inline ListedFiles read_file_list(const std::filesystem::path& list,
                                  const std::filesystem::path& root = {},
                                  const FileListOptions& options = {}) {
  return detail::with_path(list, [&] { return detail::ListReader(list, root, options).read(); });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FILE_LIST_HPP_

// ---- torch_npy/data/pair_files.hpp

#ifndef TORCH_NPY_DATA_PAIR_FILES_HPP_
#define TORCH_NPY_DATA_PAIR_FILES_HPP_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The files of folders, and which of them are the targets of others.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

inline ListRules list_rules(const FolderOptions& options) {
  return {options.pattern(), options.recursive(), options.natural_order()};
}

/// The Error for a folder without samples. `advice` ends its message.
inline Error no_files(const FileList& list, const std::string& subfolder, const ListRules& rules,
                      const char* advice = "") {
  std::string reason = "no " + rules.ending + " file in this folder";
  if (rules.pattern != "*") reason += " matches the pattern " + shown(rules.pattern);
  ListRules others = rules;
  others.ending = rules.ending == ".npy" ? ".npz" : ".npy";
  if (has_ending(rules.pattern, rules.ending)) others.pattern.back() = others.ending.back();
  const std::size_t found = FileList(list.folder()).add(subfolder, others);
  const std::size_t folders = list.subfolders(subfolder).size();
  if (found != 0) {
    reason += "; it has " + counted(found, (others.ending + " file").c_str()) +
              (others.ending == ".npz" ? ": NpzDataset reads archives"
                                       : ": FolderDataset reads single arrays");
  } else if (folders != 0 && !rules.recursive) {
    reason +=
        "; it has " + counted(folders, "subfolder") + ": set recursive(true) to include subfolders";
  }
  return Error(ErrorCode::NotFound, reason + advice, 0,
               subfolder == "." ? list.folder() : list.folder() / path_of(subfolder));
}

inline FileList list_folder(const std::filesystem::path& folder, const ListRules& rules,
                            const char* advice = "") {
  FileList list(folder);
  if (list.add(".", rules) == 0) throw no_files(list, ".", rules, advice);
  return list;
}

/// The name of a target for the name of its input: the stars of the second pattern become the text
/// that those of the first one match.
class PatternRule {
 public:
  /// Throws Error (InvalidArgument) for patterns that cannot be used in this way.
  PatternRule(const std::string& pattern, const std::string& target_pattern)
      : pattern_(pattern), from_(pieces_of(pattern)), to_(pieces_of(target_pattern)) {
    if (from_.size() == to_.size()) return;
    throw Error(ErrorCode::InvalidArgument,
                "target_pattern() needs as many stars as pattern(), found " +
                    shown(target_pattern) + " for " + shown(pattern));
  }

  /// `name` may have folders, which stay the same. Throws Error (InvalidArgument) if the name does
  /// not match without its ending.
  std::string operator()(const std::string& name) const {
    const std::size_t begin = name.rfind('/') + 1;  // npos + 1 is 0
    const std::string_view base(name.data() + begin, name.size() - begin - kEnding.size());
    std::string target = name.substr(0, begin) + to_[0];
    bool fits = base.substr(0, from_[0].size()) == from_[0];
    std::size_t at = from_[0].size();
    for (std::size_t i = 1; fits && i < from_.size(); ++i) {
      const bool is_last = i + 1 == from_.size();
      const std::size_t end = is_last ? last_of(base, from_[i]) : base.find(from_[i], at);
      fits = end != base.npos && end >= at;
      if (!fits) break;
      target.append(base, at, end - at).append(to_[i]);
      at = end + from_[i].size();
    }
    if (fits && at == base.size()) return target.append(kEnding);
    throw Error(ErrorCode::InvalidArgument, "the name " + in_quotes(name) + " does not match " +
                                                shown(pattern_) + " without its ending .npy");
  }

 private:
  static constexpr std::string_view kEnding = ".npy";

  static std::size_t last_of(std::string_view text, std::string_view end) {
    return has_ending(text, end) ? text.size() - end.size() : text.npos;
  }

  /// The text before, between and after the stars, without the ending.
  static std::vector<std::string> pieces_of(const std::string& pattern) {
    if (pattern.find_first_of("?[\\/") != pattern.npos) {
      throw Error(ErrorCode::InvalidArgument,
                  "with target_pattern(), a pattern has stars and no other wildcard, found " +
                      shown(pattern) + "; target_name() takes a function for any other rule");
    }
    std::string_view rest = pattern;
    if (has_ending(rest, kEnding)) {
      rest.remove_suffix(kEnding.size());
    } else if (!has_ending(rest, "*")) {
      throw Error(ErrorCode::InvalidArgument,
                  "with target_pattern(), a pattern ends with .npy or *, found " + shown(pattern));
    }
    std::vector<std::string> pieces;
    for (;;) {
      const std::size_t star = rest.find('*');
      pieces.emplace_back(rest.substr(0, star));
      if (star == rest.npos) return pieces;
      rest.remove_prefix(star + 1);
    }
  }

  std::string pattern_;
  std::vector<std::string> from_;
  std::vector<std::string> to_;
};

inline std::vector<std::string_view> sorted_names(const FileList& list) {
  std::vector<std::string_view> names;
  names.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) names.emplace_back(list.name(i));
  std::sort(names.begin(), names.end());
  return names;
}

inline bool same_names(const FileList& a, const FileList& b) {
  bool same = a.size() == b.size();
  for (std::size_t i = 0; same && i < a.size(); ++i) same = std::strcmp(a.name(i), b.name(i)) == 0;
  return same;
}

inline Error no_partners(const FileList& inputs, const FileList& targets, const FewLines& alone) {
  return Error(ErrorCode::Mismatch,
               "inputs and targets in " + shown_path(targets.folder()) +
                   " are matched by name, and " + counted(alone.count(), "file") +
                   (alone.count() == 1 ? " has" : " have") + " no partner:" + alone.text(),
               0, inputs.folder());
}

/// Throws Error (Mismatch) if a target is missing in `found`, or if a file of `found` is the target
/// of no input.
inline void require_partners(const FileList& inputs, const FileList& targets,
                             const FileList& found) {
  FewLines alone;
  const std::vector<std::string_view> there = sorted_names(found);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (std::binary_search(there.begin(), there.end(), targets.name(i))) continue;
    const bool says_same = std::strcmp(inputs.name(i), targets.name(i)) == 0;
    alone.add(shown_path(inputs[i]) +
              (says_same ? "" : " (expected " + shown_path(targets[i]) + ")"));
  }
  const std::vector<std::string_view> used = sorted_names(targets);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!std::binary_search(used.begin(), used.end(), found.name(i))) {
      alone.add(shown_path(found[i]));
    }
  }
  if (alone.count() != 0) throw no_partners(inputs, found, alone);
}

/// The same if any target may belong to no input, and need not be in the list of a folder.
inline void require_existing(const FileList& inputs, const FileList& targets) {
  FewLines alone;
  for (const std::size_t i : missing_files(targets)) {
    alone.add(shown_path(inputs[i]) + " (expected " + shown_path(targets[i]) + ")");
  }
  if (alone.count() != 0) throw no_partners(inputs, targets, alone);
}

/// Throws Error (Mismatch) if two inputs have the same target, or if an input is its own target.
inline void require_own_targets(const FileList& inputs, const FileList& targets) {
  std::vector<std::size_t> order(targets.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto compare = [&](std::size_t a, std::size_t b) {
    return std::strcmp(targets.name(a), targets.name(b));
  };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const int result = compare(a, b);
    return result != 0 ? result < 0 : a < b;
  });
  const auto twice = std::adjacent_find(
      order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return compare(a, b) == 0; });
  if (twice != order.end()) {
    throw Error(ErrorCode::Mismatch,
                "two inputs have the same target " + shown_path(targets[*twice]) + ": " +
                    shown_path(inputs[twice[0]]) + " and " + shown_path(inputs[twice[1]]));
  }
  const bool is_one_folder = inputs.has_folder_of(targets);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    // A function may return "./x.npy" or "../inputs/x.npy".
    const bool is_own = is_one_folder
                            ? path_of(targets.name(i)).lexically_normal() ==
                                  path_of(inputs.name(i)).lexically_normal()
                            : std::strstr(targets.name(i), "..") != nullptr &&
                                  targets[i].lexically_normal() == inputs[i].lexically_normal();
    if (!is_own) continue;
    throw Error(ErrorCode::Mismatch, "this input would be its own target", 0, inputs[i]);
  }
}

/// The files of `folder` with the names of the inputs, which were listed by the same rules.
inline FileList targets_of_same_name(const FileList& inputs, const std::filesystem::path& folder,
                                     const FolderOptions& options) {
  FileList targets = list_folder(
      folder, list_rules(options),
      options.pattern() == "*" ? "" : "; target_pattern() is another pattern for the targets");
  if (inputs.has_folder_of(targets)) {
    throw Error(
        ErrorCode::InvalidArgument,
        "the folder of the inputs is also that of the targets, so that each file would be "
        "its own target: set pattern(\"*_image.npy\") and target_pattern(\"*_mask.npy\"), or "
        "target_name()",
        0, folder);
  }
  if (same_names(inputs, targets)) return targets;
  FileList expected(folder);
  for (std::size_t i = 0; i < inputs.size(); ++i) expected.append(inputs.name(i));
  require_partners(inputs, expected, targets);
  return expected;
}

/// The target of each input, in the order of the inputs. Throws Error: Mismatch if files have no
/// partner, or not one of their own; InvalidArgument for rules that cannot be used.
inline FileList targets_for(const FileList& inputs, const std::filesystem::path& folder,
                            const FolderOptions& options) {
  const bool has_pattern = !options.target_pattern().empty();
  if (has_pattern && options.target_name()) {
    throw Error(ErrorCode::InvalidArgument,
                "target_pattern() and target_name() exclude each other");
  }
  if (!has_pattern && !options.target_name()) return targets_of_same_name(inputs, folder, options);
  auto rule = options.target_name();
  if (has_pattern) rule = PatternRule(options.pattern(), options.target_pattern());
  FileList targets(folder);
  for (std::size_t i = 0; i < inputs.size(); ++i) targets.append(rule(inputs.name(i)));
  require_own_targets(inputs, targets);
  if (has_pattern) {
    ListRules rules = list_rules(options);
    rules.pattern = options.target_pattern();
    require_partners(inputs, targets, list_folder(folder, rules));
  } else {
    require_existing(inputs, targets);
  }
  return targets;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PAIR_FILES_HPP_

// ---- torch_npy/data/folder_datasets.hpp

#ifndef TORCH_NPY_DATA_FOLDER_DATASETS_HPP_
#define TORCH_NPY_DATA_FOLDER_DATASETS_HPP_

/// @file
/// Datasets of files: from a folder, from two folders, or from one folder per class.

#include <ATen/ops/tensor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The files of a folder with these names, which may lack the ending .npy.
inline FileList named_files(const std::filesystem::path& folder,
                            const std::vector<std::string>& names, const FolderOptions& options) {
  require_used("FolderDataset of a list of names", options, {});
  FileList list(folder);
  for (const std::string& name : names) {
    list.append(name.empty() || has_ending(name, ".npy") ? name : name + ".npy");
  }
  if (names.empty())
    throw Error(ErrorCode::InvalidArgument, "the list of names is empty", 0, folder);
  FewLines missing;
  for (const std::size_t i : missing_files(list)) missing.add(shown_path(list[i]));
  if (missing.count() == 0) return list;
  throw Error(ErrorCode::NotFound,
              counted(missing.count(), "file") + " of the list of names " +
                  (missing.count() == 1 ? "does" : "do") + " not exist:" + missing.text(),
              0, folder);
}

/// The files `folder/<class>/*.npy`.
struct ClassFiles {
  ClassFiles(const std::filesystem::path& folder, const FolderOptions& options) : list(folder) {
    require_used("ClassFolderDataset", options, {true, false, true});
    const std::vector<std::string> folders = list.subfolders(".", options.natural_order());
    if (folders.empty()) {
      throw Error(ErrorCode::NotFound,
                  "no subfolders: ClassFolderDataset expects one subfolder for each class", 0,
                  folder);
    }
    names = options.classes().empty() ? folders : options.classes();
    require_listed(folders);
    const std::set<std::string> there(folders.begin(), folders.end());
    const ListRules rules = list_rules(options);
    for (const std::string& name : names) {
      const bool exists = there.count(name) != 0;
      const std::size_t found = exists ? list.add(name, rules) : 0;
      if (found == 0 && !options.allow_empty_classes()) throw empty_class(name, exists, rules);
      labels.resize(list.size(), &name - names.data());
    }
    if (labels.empty()) {
      throw Error(ErrorCode::NotFound, "no class has a matching .npy file", 0, folder);
    }
  }

  FileList list;
  std::vector<std::string> names;
  std::vector<std::int64_t> labels;  // of each file

 private:
  /// Refuses classes() that do not agree with the folders.
  void require_listed(const std::vector<std::string>& folders) const {
    if (const auto twice = first_duplicate({names.begin(), names.end()})) {
      throw Error(ErrorCode::InvalidArgument,
                  "classes() has the name " + in_quotes(*twice) + " twice");
    }
    const std::set<std::string> listed(names.begin(), names.end());
    FewLines others;
    for (const std::string& name : folders) {
      if (listed.count(name) != 0) continue;
      others.add(shown_path(list.folder() / path_of(name)));
    }
    if (others.count() == 0) return;
    throw Error(ErrorCode::Mismatch,
                counted(others.count(), "subfolder") + (others.count() == 1 ? " is" : " are") +
                    " not in classes():" + others.text(),
                0, list.folder());
  }

  Error empty_class(const std::string& name, bool exists, const ListRules& rules) const {
    const char* const advice = "; allow_empty_classes(true) keeps the number of such a class";
    if (exists) return no_files(list, name, rules, advice);
    return Error(ErrorCode::NotFound,
                 "no subfolder for the class " + in_quotes(name) + " of classes()" + advice, 0,
                 list.folder());
  }
};

}  // namespace detail

/// A dataset of the .npy files in a folder, one sample per file. A sample is a TensorExample with
/// the shape and dtype of the file, unless FolderOptions::data_options changes them. The
/// constructor reads only the names; each sample then costs one open, read and close. Copies share
/// the list of files, and up to 256 MiB of memory for the next batches.
class FolderDataset : public Dataset<TensorExample> {
 public:
  /// Lists the folder in O(n log n) for n files. Throws Error: NotFound if the folder does not
  /// exist or has no matching .npy file; Io; Exhausted; InvalidArgument if the device does not
  /// exist.
  explicit FolderDataset(const std::filesystem::path& folder, const FolderOptions& options = {})
      : FolderDataset(listed(folder, options), options) {}

  /// The files `names` of the folder, in this order, without listing the folder. A name is a path
  /// relative to the folder, in UTF-8; ".npy" is appended if it is missing. Options about the
  /// choice of files throw Error (InvalidArgument). Costs one stat per file. Throws Error: NotFound
  /// if the folder or files do not exist, with the paths of up to ten of them; InvalidArgument if
  /// there are no names.
  FolderDataset(const std::filesystem::path& folder, const std::vector<std::string>& names,
                const FolderOptions& options = {})
      : FolderDataset(detail::named_files(folder, names, options), options) {}

  /// The file of each sample.
  const FileList& files() const& noexcept { return files_->data().list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// A copy shares the files. A move copies.
  FolderDataset(const FolderDataset&) = default;
  /// As the copy constructor.
  FolderDataset& operator=(const FolderDataset&) = default;
  ~FolderDataset() override = default;

 private:
  using Source = detail::FileSource<TensorExample>;
  FolderDataset(FileList files, const FolderOptions& options)
      : FolderDataset(std::make_shared<const Source>(
            detail::sample_files(std::move(files), options.data_options(), detail::make_pool(),
                                 options.expected()),
            nullptr, nullptr, options)) {}
  explicit FolderDataset(const std::shared_ptr<const Source>& source)
      : Dataset(source), files_(source) {}

  static FileList listed(const std::filesystem::path& folder, const FolderOptions& options) {
    detail::require_used("FolderDataset", options, {true, false, false});
    return detail::list_folder(folder, detail::list_rules(options));
  }

  std::shared_ptr<const Source> files_;
};

/// A dataset of the .npy files in two folders, or of pairs of files in one: a file in the first
/// folder is a sample, and a file in the second folder is its target. The target has the same
/// relative path, or the one that FolderOptions::target_pattern or target_name says. Copies share
/// what FolderDataset says.
class PairedFolderDataset : public Dataset<Example<>> {
 public:
  /// Lists both folders. Throws Error: as FolderDataset; Mismatch if files have no partner, with
  /// the paths of up to ten of them, if two inputs have the same target, or if an input is its own
  /// target; InvalidArgument if both folders are the same and there is no rule for targets.
  PairedFolderDataset(const std::filesystem::path& inputs, const std::filesystem::path& targets,
                      const FolderOptions& options = {})
      : PairedFolderDataset(make_source(inputs, targets, options)) {}

  /// The input file of each sample.
  const FileList& files() const& noexcept { return files_->data().list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// The target file of each sample.
  const FileList& target_files() const& noexcept { return files_->targets().list; }
  void target_files() && = delete;  ///< the list lives as long as the dataset

  /// A copy shares the files. A move copies.
  PairedFolderDataset(const PairedFolderDataset&) = default;
  /// As the copy constructor.
  PairedFolderDataset& operator=(const PairedFolderDataset&) = default;
  ~PairedFolderDataset() override = default;

 private:
  using Source = detail::FileSource<Example<>>;
  explicit PairedFolderDataset(const std::shared_ptr<const Source>& source)
      : Dataset(source), files_(source) {}

  static std::shared_ptr<const Source> make_source(const std::filesystem::path& inputs,
                                                   const std::filesystem::path& targets,
                                                   const FolderOptions& options) {
    detail::require_used("PairedFolderDataset", options, {true, true, false});
    FileList input_list = detail::list_folder(inputs, detail::list_rules(options));
    FileList target_list = detail::targets_for(input_list, targets, options);
    const auto pool = detail::make_pool();
    return std::make_shared<const Source>(
        detail::sample_files(std::move(input_list), options.data_options(), pool,
                             options.expected()),
        detail::sample_files(std::move(target_list), options.target_options(), pool), nullptr,
        options);
  }

  std::shared_ptr<const Source> files_;
};

/// A dataset of the files `folder/<class>/*.npy`, one sample per file. The target is the index of
/// its class in classes(): an int64, 0-d tensor. Copies share what FolderDataset says.
class ClassFolderDataset : public Dataset<Example<>> {
 public:
  /// Lists the folder. With recursive(true), the files may be in subfolders of the class folders.
  /// Throws Error: NotFound if the folder does not exist, has no subfolder, or if a class has no
  /// folder or no matching .npy file, see FolderOptions::allow_empty_classes; Mismatch if a
  /// subfolder is not in FolderOptions::classes; Io; Exhausted; InvalidArgument if the device does
  /// not exist, or if a class is in classes() twice.
  explicit ClassFolderDataset(const std::filesystem::path& folder,
                              const FolderOptions& options = {})
      : ClassFolderDataset(detail::ClassFiles(folder, options), options) {}

  /// The names of the classes: target i is class classes()[i]. They are FolderOptions::classes, or
  /// the subfolders, sorted by bytes or as FolderOptions::natural_order says.
  const std::vector<std::string>& classes() const& noexcept { return *classes_; }
  /// The same for a temporary dataset.
  std::vector<std::string> classes() && { return *classes_; }

  /// The number of each class, by its name: torchvision's class_to_idx.
  std::map<std::string, std::int64_t> class_to_index() const {
    std::map<std::string, std::int64_t> numbers;
    for (const std::string& name : *classes_) {
      numbers.emplace(name, static_cast<std::int64_t>(numbers.size()));
    }
    return numbers;
  }

  /// The file of each sample, ordered by class.
  const FileList& files() const& noexcept { return files_->data().list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// A copy shares the files. A move copies.
  ClassFolderDataset(const ClassFolderDataset&) = default;
  /// As the copy constructor.
  ClassFolderDataset& operator=(const ClassFolderDataset&) = default;
  ~ClassFolderDataset() override = default;

 private:
  using Source = detail::FileSource<Example<>>;
  ClassFolderDataset(detail::ClassFiles files, const FolderOptions& options)
      : ClassFolderDataset(std::make_shared<const std::vector<std::string>>(std::move(files.names)),
                           make_source(std::move(files.list), files.labels, options)) {}
  ClassFolderDataset(std::shared_ptr<const std::vector<std::string>> classes,
                     const std::shared_ptr<const Source>& source)
      : Dataset(source), classes_(std::move(classes)), files_(source) {}

  static std::shared_ptr<const Source> make_source(FileList list,
                                                   const std::vector<std::int64_t>& labels,
                                                   const FolderOptions& options) {
    const LoadOptions& load = options.data_options();
    const auto pool = detail::make_pool();
    return std::make_shared<const Source>(
        detail::sample_files(std::move(list), load, pool, options.expected()), nullptr,
        std::make_shared<const detail::TensorRows>(
            at::tensor(labels, at::kLong),
            LoadOptions().device(load.device()).pinned_memory(load.pinned_memory()), pool),
        options);
  }

  std::shared_ptr<const std::vector<std::string>> classes_;
  std::shared_ptr<const Source> files_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FOLDER_DATASETS_HPP_

// ---- torch_npy/data/length_order.hpp

#ifndef TORCH_NPY_DATA_LENGTH_ORDER_HPP_
#define TORCH_NPY_DATA_LENGTH_ORDER_HPP_

/// @file
/// by_length(): batches of samples of similar length.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// The largest batch for by_length(), padding included: `by_length(lengths, MaxElements{4096})`.
struct MaxElements {
  std::int64_t count = 0;  ///< at most this is the longest length times the number of samples
};

namespace detail {

class ByLengthRule : public OrderRule {
 public:
  ByLengthRule(std::vector<std::int64_t> lengths, std::size_t batch_size)
      : lengths_(std::move(lengths)), budget_(batch_size), is_padded_(false) {
    if (batch_size == 0) {
      throw Error(ErrorCode::InvalidArgument, "by_length(): batch_size is 0: expected at least 1");
    }
    check_lengths();
  }

  ByLengthRule(std::vector<std::int64_t> lengths, MaxElements most)
      : lengths_(std::move(lengths)),
        budget_(static_cast<std::uint64_t>(most.count)),
        is_padded_(true) {
    if (most.count <= 0) {
      throw Error(
          ErrorCode::InvalidArgument,
          "by_length(): MaxElements{" + std::to_string(most.count) + "}: expected at least 1");
    }
    check_lengths();
  }

  void check(const std::vector<std::size_t>& parts) const override {
    check_count("lengths", lengths_.size(), size_of(parts));
  }

  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    check(parts);
    const std::uint64_t key = mix({seed, epoch, kKind});
    std::vector<std::size_t> sorted = shuffled_indices(mix({key, 0}));
    const std::vector<std::size_t> ends = sort_and_cut(sorted);

    // The batches in random order.
    const Permutation batch_at(ends.size(), mix({key, 1}));
    std::vector<std::size_t> indices;
    indices.reserve(sorted.size());
    std::vector<std::uint64_t> cuts{0};
    cuts.reserve(ends.size() + 1);
    for (std::uint64_t i = 0; i < ends.size(); ++i) {
      const auto batch = static_cast<std::size_t>(batch_at(i));
      const auto first = sorted.begin() + static_cast<std::ptrdiff_t>(batch ? ends[batch - 1] : 0);
      const auto end = sorted.begin() + static_cast<std::ptrdiff_t>(ends[batch]);
      indices.insert(indices.end(), first, end);
      cuts.push_back(indices.size());
    }
    return std::make_unique<ListedEpoch>(std::move(indices), std::move(cuts));
  }

  std::uint64_t fingerprint() const override { return fingerprint_; }

 private:
  static constexpr std::uint64_t kKind = 0x62796c656e677468;

  void check_lengths() {
    for (std::size_t i = 0; i < lengths_.size(); ++i) {
      const std::string sample =
          "sample " + std::to_string(i) + " has length " + std::to_string(lengths_[i]);
      if (lengths_[i] < 0) {
        throw Error(ErrorCode::InvalidArgument, sample + ": expected at least 0");
      }
      if (cost_of(i) > budget_) {
        throw Error(ErrorCode::InvalidArgument,
                    sample + ", more than MaxElements{" + std::to_string(budget_) +
                        "}: increase MaxElements, or leave the sample out with subset()");
      }
    }
    fingerprint_ = mix({fingerprint_of(kKind, lengths_), budget_, is_padded_});
  }

  /// The elements of a sample, or 1 if samples are counted. An empty sample counts as 1 element, so
  /// that no batch has an unlimited number of them.
  std::uint64_t cost_of(std::size_t index) const {
    return is_padded_ ? static_cast<std::uint64_t>((std::max)(lengths_[index], std::int64_t{1}))
                      : 1;
  }

  std::vector<std::size_t> shuffled_indices(std::uint64_t key) const {
    const Permutation permutation(lengths_.size(), key);
    std::vector<std::size_t> indices(lengths_.size());
    for (std::size_t i = 0; i < indices.size(); ++i) {
      indices[i] = static_cast<std::size_t>(permutation(i));
    }
    return indices;
  }

  /// How many full batches a chunk has. Fewer in a small dataset: if all its samples were one
  /// chunk, each epoch would have nearly the same batches.
  std::uint64_t batches_per_chunk() const {
    std::uint64_t cost = 0;
    for (std::size_t i = 0; i < lengths_.size(); ++i) cost += cost_of(i);
    return (std::min)((std::max)(cost / budget_ / 4, std::uint64_t{8}), std::uint64_t{50});
  }

  /// Sorts each chunk of `indices` by length, and returns the end of each batch.
  std::vector<std::size_t> sort_and_cut(std::vector<std::size_t>& indices) const {
    const std::uint64_t batches = batches_per_chunk();
    std::vector<std::size_t> ends;
    for (std::size_t first = 0, end = 0; first < indices.size(); first = end) {
      std::uint64_t cost = 0;
      while (end < indices.size() && cost / budget_ < batches) cost += cost_of(indices[end++]);
      std::stable_sort(indices.begin() + static_cast<std::ptrdiff_t>(first),
                       indices.begin() + static_cast<std::ptrdiff_t>(end),
                       [this](std::size_t a, std::size_t b) { return lengths_[a] < lengths_[b]; });
      std::uint64_t count = 0;
      for (std::size_t i = first; i < end; ++i) {
        // The samples of a batch are padded to the length of the last one.
        if (count + 1 > budget_ / cost_of(indices[i])) {
          ends.push_back(i);
          count = 0;
        }
        ++count;
      }
      ends.push_back(end);
    }
    return ends;
  }

  std::vector<std::int64_t> lengths_;
  std::uint64_t budget_;  // in samples, or in elements if is_padded_
  bool is_padded_;
  std::uint64_t fingerprint_ = 0;
};

}  // namespace detail

/// Batches of `batch_size` samples of similar length, so that little is padded. A new random order
/// in each epoch. `lengths` has one number for each sample of the dataset, as Dataset::lengths()
/// returns them.
///
/// An epoch shuffles the samples and divides them into chunks. Each chunk is sorted by length and
/// cut into batches; its last batch may be smaller. Then the batches are shuffled. A chunk has
/// about 50 batches, or fewer in a small dataset: a quarter of all batches, but at least 8.
/// Batches are cut before they are given to the ranks, so all ranks together get the batches that
/// one rank would get alone.
///
/// An epoch starts in time O(n log n) and keeps 8 bytes per sample, 16 while it starts. Throws
/// Error (InvalidArgument) if a length is negative or if `batch_size` is 0.
inline Order by_length(std::vector<std::int64_t> lengths, std::size_t batch_size) {
  return Order(std::make_shared<detail::ByLengthRule>(std::move(lengths), batch_size));
}

/// The same with batches of different size: as many samples as fit into `most` elements, when all
/// are padded to the longest of the batch. An empty sample counts as one element. Also throws Error
/// (InvalidArgument) if one sample alone has more elements.
inline Order by_length(std::vector<std::int64_t> lengths, MaxElements most) {
  return Order(std::make_shared<detail::ByLengthRule>(std::move(lengths), most));
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LENGTH_ORDER_HPP_

// ---- torch_npy/data/loader_options.hpp

#ifndef TORCH_NPY_DATA_LOADER_OPTIONS_HPP_
#define TORCH_NPY_DATA_LOADER_OPTIONS_HPP_

/// @file
/// LoaderOptions.

#include <c10/core/Device.h>
#include <torch/arg.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE

/// How a Loader makes batches. Setters chain: `LoaderOptions().batch_size(64).shuffle(true)`;
/// without an argument, each name returns the current value.
struct LoaderOptions {
  /// The defaults.
  LoaderOptions() = default;
  /// The defaults, and this batch size, as LibTorch's DataLoaderOptions have it.
  LoaderOptions(std::size_t batch_size) : batch_size_(batch_size) {}  // NOLINT

  /// Samples per batch; 1 if not set. Must not be set with an order that makes batches itself, such
  /// as by_length().
  TORCH_ARG(std::optional<std::size_t>, batch_size);

  /// Use the samples in a new random order in each epoch: the same as order(shuffled()). false: in
  /// the order of the dataset, unless order() is set.
  TORCH_ARG(bool, shuffle) = false;

  /// The order in which an epoch uses the samples. Excludes shuffle(true).
  TORCH_ARG(std::optional<Order>, order);

  /// The seed of the order and of the transforms. Must be the same on every rank.
  TORCH_ARG(std::uint64_t, seed) = 0;

  /// Threads that read batches in advance. 0: each batch is read when the loop asks for it.
  TORCH_ARG(std::size_t, workers) = 0;

  /// The largest number of batches that are read, or being read, before the loop gets them; 2 for
  /// each worker if not set. At least 1. Has no effect without workers.
  TORCH_ARG(std::optional<std::size_t>, ahead);

  /// Drop the last batch of an epoch if it has fewer than batch_size() samples.
  TORCH_ARG(bool, drop_last) = false;

  /// The device to move batches to. With the default, they stay where the dataset made them.
  TORCH_ARG(c10::Device, device) = c10::kCPU;

  /// What to do if the ranks cannot all get the same number of samples. The default repeats a few
  /// samples.
  TORCH_ARG(Tail, tail) = Tail::Pad;

 public:
  /// This process is the rank `rank` of `num_replicas` that train together. Each gets its own share
  /// of every epoch. All must use the same dataset, order, seed and batch size.
  LoaderOptions& shard(std::size_t num_replicas, std::size_t rank) {
    num_replicas_ = num_replicas;
    rank_ = rank;
    return *this;
  }
  /// The number of ranks; 1 if shard() was not called.
  std::size_t num_replicas() const noexcept { return num_replicas_; }
  /// The rank of this process; 0 if shard() was not called.
  std::size_t rank() const noexcept { return rank_; }

 private:
  std::size_t num_replicas_ = 1;
  std::size_t rank_ = 0;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LOADER_OPTIONS_HPP_

// ---- torch_npy/data/worker_threads.hpp

#ifndef TORCH_NPY_DATA_WORKER_THREADS_HPP_
#define TORCH_NPY_DATA_WORKER_THREADS_HPP_

#include <ATen/Parallel.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

// The worker threads of a Loader.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Work for a worker.
class Job {
 public:
  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  virtual ~Job() = default;

  virtual void run() noexcept = 0;

 private:
  friend class WorkerThreads;
  bool is_done_ = false;  // guarded by WorkerThreads::mutex_
};

/// Threads that run jobs, in the order in which they were submitted. Each uses one intra-op thread
/// of LibTorch, because the workers run in parallel already. Other threads keep their number. All
/// functions are for one thread, the owner's.
class WorkerThreads {
 public:
  /// Throws Error (Exhausted) if the system refuses to start a thread.
  explicit WorkerThreads(std::size_t count) {
    // A worker sets the number for the whole process as well; see use_one_intra_op_thread(). Two
    // threads that did this at once could take the other's 1 for the number of the process.
    static std::mutex one_at_a_time;
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    // Asked in a new thread: this one may have a number of its own.
    int intra_op_threads = 1;
    in_new_thread([&] { intra_op_threads = at::get_num_threads(); });
    make_pool(intra_op_threads);
    try {
      threads_.reserve(count);
      while (threads_.size() < count) threads_.emplace_back([this] { work(); });
      wait_until_started();
    } catch (const std::exception& error) {
      wait_until_started();
      if (!threads_.empty()) restore_intra_op_threads(intra_op_threads);
      const std::size_t started = threads_.size();
      stop();
      throw Error(ErrorCode::Exhausted, "the system started only " + counted(started, "worker") +
                                            " of " + std::to_string(count) + ": " + error.what() +
                                            "; use fewer workers()");
    }
    restore_intra_op_threads(intra_op_threads);
  }
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  /// Drops the jobs that have not started, and waits for the others.
  ~WorkerThreads() { stop(); }

  void submit(std::shared_ptr<Job> job) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      waiting_.push_back(std::move(job));
    }
    submitted_.notify_one();
  }

  bool is_done(const Job& job) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return job.is_done_;
  }

  void wait_for(const Job& job) {
    std::unique_lock<std::mutex> lock(mutex_);
    awaited_ = &job;
    finished_.wait(lock, [&job] { return job.is_done_; });
    awaited_ = nullptr;
  }

  /// Drops the jobs that have not started. Does not wait for the others.
  void drop_waiting() {
    std::deque<std::shared_ptr<Job>> dropped;
    const std::lock_guard<std::mutex> lock(mutex_);
    dropped.swap(waiting_);
  }

 private:
  /// The first at::set_num_threads() of a process makes LibTorch start the threads of a pool, and
  /// wait for them without end if the system refuses some. So this finds out before. Throws Error
  /// (Exhausted). For one thread at a time.
  static void make_pool([[maybe_unused]] int intra_op_threads) {
#if AT_PARALLEL_OPENMP
    static bool is_made = false;
    if (is_made) return;
    require_threads((std::max)(static_cast<std::size_t>(intra_op_threads), processor_count()));
    restore_intra_op_threads(intra_op_threads);
    is_made = true;
#endif
  }

  /// Throws Error (Exhausted) if the system refuses so many threads at the same time.
  static void require_threads(std::size_t count) {
    std::mutex mutex;
    std::unique_lock<std::mutex> hold(mutex);  // until all have started
    std::vector<std::thread> threads;
    std::string refused;
    try {
      threads.reserve(count);
      while (threads.size() < count) {
        threads.emplace_back([&] { const std::lock_guard<std::mutex> wait(mutex); });
      }
    } catch (const std::exception& error) {
      refused = error.what();
    }
    hold.unlock();
    for (std::thread& thread : threads) thread.join();
    if (threads.size() == count) return;
    throw Error(ErrorCode::Exhausted,
                "the system started only " + counted(threads.size(), "thread") + " of the " +
                    std::to_string(count) + " that LibTorch needs: " + refused);
  }

  /// at::set_num_threads() sets the number of this thread, and the number with which new threads
  /// begin. A thread takes the latter when it first calls at::get_num_threads(), which would undo
  /// what was set before. LibTorch's own thread pool, which some builds use instead of OpenMP, is
  /// shared by all threads and cannot be changed for one.
  static void use_one_intra_op_thread() {
#if AT_PARALLEL_OPENMP
    (void)at::get_num_threads();
    at::set_num_threads(1);
#endif
  }
  /// In a new thread, because the number of this one has not changed.
  static void restore_intra_op_threads(int count) {
#if AT_PARALLEL_OPENMP
    in_new_thread([count] { at::set_num_threads(count); });
#else
    (void)count;
#endif
  }

  /// Or in this one, if the system starts no thread.
  template <class Work>
  static void in_new_thread(const Work& work) {
    std::optional<std::thread> thread;
    try {
      thread.emplace(work);
    } catch (const std::system_error&) {
      return work();
    }
    thread->join();
  }

  void wait_until_started() {
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return started_ == threads_.size(); });
  }

  void work() {
    use_one_intra_op_thread();
    std::unique_lock<std::mutex> lock(mutex_);
    ++started_;
    finished_.notify_one();
    for (;;) {
      submitted_.wait(lock, [this] { return is_stopping_ || !waiting_.empty(); });
      if (is_stopping_) return;
      std::shared_ptr<Job> job = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      job->run();
      lock.lock();
      job->is_done_ = true;
      const bool is_awaited = job.get() == awaited_;  // waking the owner for another one is costly
      lock.unlock();
      if (is_awaited) finished_.notify_one();
      job.reset();  // without the lock: it may be the last owner of a large batch
      lock.lock();
    }
  }

  void stop() noexcept {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_stopping_ = true;
      waiting_.clear();
    }
    submitted_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  mutable std::mutex mutex_;
  std::condition_variable submitted_;
  std::condition_variable finished_;  // a job, or the start of a thread
  std::deque<std::shared_ptr<Job>> waiting_;
  const Job* awaited_ = nullptr;  // by the owner
  std::size_t started_ = 0;
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_WORKER_THREADS_HPP_

// ---- torch_npy/data/loader_queue.hpp

#ifndef TORCH_NPY_DATA_LOADER_QUEUE_HPP_
#define TORCH_NPY_DATA_LOADER_QUEUE_HPP_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

// The batches that a Loader reads in advance.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Adds the nanoseconds of its lifetime to a sum.
template <class Sum>
class Stopwatch {
 public:
  explicit Stopwatch(Sum& sum) : sum_(sum) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    const std::chrono::nanoseconds time = std::chrono::steady_clock::now() - start_;
    sum_ += time.count();
  }

 private:
  Sum& sum_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// How a Loader reads a batch.
template <class B>
struct BatchSource {
  std::function<std::optional<B>(Request&)> read;
  bool pins = false;                         // for a CUDA device
  std::atomic<std::int64_t> nanoseconds{0};  // spent in read()
};

/// One batch: first its request, then the batch or the exception of reading it.
template <class B>
class Reading : public Job {
 public:
  Reading(BatchSource<B>& from, Request what, std::uint64_t batch_number)
      : request(std::move(what)),
        number(batch_number),
        requested(request.picks.size()),
        source_(&from) {}

  void run() noexcept override {
    const Stopwatch time(source_->nanoseconds);
    try {
      request.pin_memory = source_->pins;
      if (auto made = source_->read(request)) batch.emplace(std::move(*made));
      if (source_->pins && batch) pin_batch(*batch);
    } catch (...) {
      error = std::current_exception();
    }
    was_read = true;
  }

  /// The number of samples that the dataset skipped.
  std::size_t skipped() const {
    return error ? 0 : requested - (std::min)(requested, request.picks.size());
  }
  /// True if the dataset skipped all samples.
  bool is_empty() const { return !error && (!batch || (requested != 0 && request.picks.empty())); }

  Request request;
  std::uint64_t number;   // in the epoch of this rank
  std::size_t requested;  // samples
  std::optional<B> batch;
  std::exception_ptr error;
  bool was_read = false;
  bool is_moving = false;  // to the device

 private:
  BatchSource<B>* source_;
};

/// Reads batches in order, in advance if there are workers. For one thread at a time.
template <class B>
class LoaderQueue {
 public:
  /// With workers, at most `ahead` batches are in the queue; without, only the one to read next. If
  /// `pins`, batches are put into pinned memory.
  /// Throws Error (Exhausted) if the system refuses to start a worker.
  LoaderQueue(std::function<std::optional<B>(Request&)> read, std::size_t workers,
              std::size_t ahead, bool pins)
      : ahead_(workers != 0 ? ahead : 1) {
    source_.read = std::move(read);
    source_.pins = pins;
    if (workers != 0) threads_.emplace(workers);
  }

  bool is_full() const { return readings_.size() >= ahead_; }

  void push(Request request, std::uint64_t number) {
    readings_.push_back(std::make_shared<Reading<B>>(source_, std::move(request), number));
    if (threads_) threads_->submit(readings_.back());
  }

  /// The first batch of the queue, read. Waits for it, or reads it if there are no workers. Null if
  /// the queue is empty.
  Reading<B>* front() {
    if (readings_.empty()) return nullptr;
    Reading<B>& first = *readings_.front();
    const Stopwatch time(waited_);
    if (threads_) {
      threads_->wait_for(first);
    } else if (!first.was_read) {
      first.run();
    }
    return &first;
  }

  /// The same without waiting for workers: null if the batch has not been read yet.
  Reading<B>* front_if_ready() {
    if (threads_ && !readings_.empty() && !threads_->is_done(*readings_.front())) return nullptr;
    return front();
  }

  std::shared_ptr<Reading<B>> pop() {
    std::shared_ptr<Reading<B>> first = std::move(readings_.front());
    readings_.pop_front();
    return first;
  }

  /// Does not wait: what workers are reading is dropped when it has been read.
  void clear() {
    if (threads_) threads_->drop_waiting();
    readings_.clear();
  }

  /// Nanoseconds that front() took.
  std::int64_t waited() const { return waited_; }
  /// Nanoseconds spent reading, on all threads.
  std::int64_t read() const { return source_.nanoseconds; }

 private:
  std::size_t ahead_;
  BatchSource<B> source_;
  std::deque<std::shared_ptr<Reading<B>>> readings_;
  std::int64_t waited_ = 0;
  std::optional<WorkerThreads> threads_;  // last: destroyed before what its jobs use
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LOADER_QUEUE_HPP_

// ---- torch_npy/data/loader_state.hpp

#ifndef TORCH_NPY_DATA_LOADER_STATE_HPP_
#define TORCH_NPY_DATA_LOADER_STATE_HPP_

/// @file
/// LoaderState: where a Loader is in its run.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// Where a Loader is in its run: what Loader::state() returns and Loader::restore() takes. Contains
/// nothing about workers, ranks or the batch size, so these may differ when the run continues.
struct LoaderState {
  /// The version of this library's states.
  static constexpr std::uint64_t kVersion = 1;

  std::uint64_t version = kVersion;  ///< the version of this state
  std::uint64_t seed = 0;            ///< the seed of the Loader
  std::uint64_t epoch = 0;           ///< the epoch to continue
  std::uint64_t samples = 0;         ///< samples of that epoch which all ranks together have used
  std::uint64_t dataset = 0;         ///< fingerprint of the dataset
  std::uint64_t order = 0;           ///< fingerprint of the order

  /// The state as an int64 tensor of shape (8), to keep in a checkpoint.
  at::Tensor tensor() const {
    at::Tensor tensor = at::empty({kLength}, at::kLong);
    auto* const out = tensor.data_ptr<std::int64_t>();
    const Numbers numbers = to_numbers();
    for (std::size_t i = 0; i < numbers.size(); ++i) out[i] = static_cast<std::int64_t>(numbers[i]);
    return tensor;
  }

  /// The state in a tensor made by tensor(), on any device. Throws Error (Mismatch) if the tensor
  /// was not made by tensor(), was changed, or has another version.
  static LoaderState from_tensor(const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.layout() != c10::kStrided || tensor.is_meta() ||
        tensor.scalar_type() != at::kLong || tensor.dim() != 1) {
      throw foreign();
    }
    const at::Tensor host = tensor.detach().to(c10::kCPU).contiguous();
    Numbers numbers{};
    for (std::size_t i = 0; i < numbers.size() && i < static_cast<std::size_t>(host.numel()); ++i) {
      numbers[i] = static_cast<std::uint64_t>(host.data_ptr<std::int64_t>()[i]);
    }
    if (numbers[0] != kMagic) throw foreign();
    LoaderState state;
    state.version = numbers[1];
    state.require_version();
    state.seed = numbers[2];
    state.epoch = numbers[3];
    state.samples = numbers[4];
    state.dataset = numbers[5];
    state.order = numbers[6];
    if (host.numel() != kLength || numbers != state.to_numbers()) {
      throw Error(ErrorCode::Mismatch,
                  "the LoaderState is damaged: its checksum differs from its content; use an older "
                  "one");
    }
    return state;
  }

  /// Saves tensor() as an .npy file, which appears completely or not at all. Throws what
  /// torch_npy::save() throws.
  void save(const std::filesystem::path& path) const { torch_npy::save(path, tensor()); }

  /// Loads what save() saved. Throws Error: Mismatch as from_tensor(); and what torch_npy::load()
  /// throws if the file is not a complete .npy file.
  static LoaderState load(const std::filesystem::path& path) {
    const StoredArray array = open(path);
    return detail::with_path(path, [&] {
      // Before it is loaded, because another file may be large.
      if (array.header().shape != std::vector<std::int64_t>{kLength}) throw foreign();
      return from_tensor(array.load());
    });
  }

  /// True if all numbers are equal.
  friend bool operator==(const LoaderState& a, const LoaderState& b) {
    return a.to_numbers() == b.to_numbers();
  }
  /// Inequality.
  friend bool operator!=(const LoaderState& a, const LoaderState& b) { return !(a == b); }

  /// Throws Error (Mismatch) if this is not a state of the version kVersion.
  void require_version() const {
    if (version == kVersion) return;
    throw Error(ErrorCode::Mismatch, "the LoaderState has version " + std::to_string(version) +
                                         ", this library reads version " +
                                         std::to_string(kVersion) +
                                         ": continue with the library that saved it");
  }

 private:
  static constexpr std::int64_t kLength = 8;
  static constexpr std::uint64_t kMagic = 0x6e70795f6c6f6164;  // "npy_load"
  using Numbers = std::array<std::uint64_t, kLength>;

  Numbers to_numbers() const {
    return {kMagic,  version, seed,  epoch,
            samples, dataset, order, detail::mix({version, seed, epoch, samples, dataset, order})};
  }

  static Error foreign() {
    return Error(ErrorCode::Mismatch,
                 "not a LoaderState: expected an int64 array of shape (8) that "
                 "LoaderState::tensor() or save() made");
  }
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LOADER_STATE_HPP_

// ---- torch_npy/data/loader.hpp

#ifndef TORCH_NPY_DATA_LOADER_HPP_
#define TORCH_NPY_DATA_LOADER_HPP_

/// @file
/// Loader: makes batches of a dataset, epoch after epoch.

#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE

/// What a Loader did since it was made. Times are in seconds.
struct LoaderStats {
  double waited = 0;  ///< the loop waited for a batch to be read
  double read = 0;    ///< batches were being read: the sum over all threads
  double copied = 0;  ///< the loop prepared and started copies to the device, or waited for them

  std::uint64_t batches = 0;  ///< batches that the loop got
  std::uint64_t samples = 0;  ///< samples in these batches
  std::uint64_t bytes = 0;    ///< bytes of the tensors in these batches, without sparse tensors
  std::uint64_t skipped = 0;  ///< samples that the dataset skipped, also those of empty batches
};

namespace detail {

template <class Result>
struct BatchOf {
  using Type = Result;
};
template <class B>
struct BatchOf<std::optional<B>> {
  using Type = B;
};

}  // namespace detail

/// Makes batches of a dataset, epoch after epoch, in the style of PyTorch's DataLoader:
///
///     Loader loader(dataset, LoaderOptions().batch_size(64).shuffle(true).seed(1).workers(2));
///     while (loader.epoch() < 10) {
///       for (auto& batch : loader) { batch.data; batch.target; batch.indices; }
///     }
///
/// Each loop is one epoch. It may be left early, also by an exception; the next loop is the next
/// epoch. Batches, and the random numbers in them, depend on the dataset, the seed, the epoch, the
/// order and the batch size, and not on the number of workers, nor on where a run was interrupted.
///
/// Workers are threads that live as long as the Loader, each with one intra-op thread of LibTorch.
/// They read at most ahead() batches that the loop did not get yet. While the constructor starts
/// them, no other thread should call at::set_num_threads() or use LibTorch for the first time.
///
/// With device(), the next batch is copied while the loop uses the current one, on a stream of its
/// own, as soon as a worker has read it: on CUDA from pinned memory, into which the workers read,
/// on other devices through reused buffers. Without workers, one batch is read in advance for this.
/// Tensors, Examples, the batch types of this library, and vectors of them are moved. Another type
/// needs a member `to(device)`, which returns the moved batch or changes the batch itself.
///
/// An exception from reading a batch is thrown unchanged in the loop, by ++ in the turn of that
/// batch. The next ++ continues with the batch after it. If the first batch of an epoch fails,
/// begin() returns normally and *it throws the exception, or ++ if *it was not called. A batch of
/// which the dataset skipped all samples is not returned; with several ranks it is an Error
/// (Mismatch), because the ranks must have the same number of batches. So is an epoch of which the
/// dataset skipped all samples.
///
/// The whole Loader is for one thread at a time. It cannot be moved, because iterators and workers
/// refer to it. Its destructor waits for the batches that workers are reading.
// Over 150 lines with its documentation: what it does apart from epochs and state is in
// LoaderQueue, EpochPlan and BatchMover.
template <class B>
class Loader {
 public:
  /// The type of the batches.
  using BatchType = B;

  /// An input iterator. All iterators of one Loader are at the same batch.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = B;
    using difference_type = std::ptrdiff_t;
    using pointer = B*;
    using reference = B&;

    /// Goes to the next batch. If reading it failed, throws that exception; there is no current
    /// batch then, and another ++ continues with the batch after it. Does nothing at the end.
    Iterator& operator++() {
      if (!owner_) return *this;
      if (owner_->first_failure_ && !owner_->is_failure_known_) owner_->tell_first_failure();
      owner_->advance();
      return *this;
    }
    /// As the prefix form.
    void operator++(int) { ++*this; }
    /// The current batch. The caller may change or move it. If reading the first batch of the epoch
    /// failed, throws that exception. Throws Error (InvalidArgument) if the last ++ threw, or if
    /// the epoch is over.
    B& operator*() const {
      if (owner_ && owner_->first_failure_) owner_->tell_first_failure();
      if (!owner_ || !owner_->current_) throw detail::no_batch();
      return *owner_->current_;
    }
    /// Access to a member of the current batch.
    B* operator->() const { return &**this; }

    /// True if both are at the end, or neither is.
    friend bool operator==(const Iterator& a, const Iterator& b) {
      return a.is_end() == b.is_end();
    }
    /// Inequality.
    friend bool operator!=(const Iterator& a, const Iterator& b) { return !(a == b); }

   private:
    friend class Loader;
    explicit Iterator(Loader* owner) : owner_(owner) {}
    bool is_end() const { return owner_ == nullptr || !owner_->is_running_; }

    Loader* owner_;
  };

  /// Batches of a dataset. Starts the workers; reads nothing yet. Throws Error: InvalidArgument if
  /// an option is invalid, or excludes another one, if the order does not fit the dataset, if there
  /// is no such device, or if batches of this type cannot be moved to it; Exhausted if the system
  /// refuses to start a worker.
  template <class E>
  explicit Loader(const Dataset<E, B>& dataset, LoaderOptions options = {})
      : Loader(
            dataset.source(), [dataset](Request& request) { return dataset.read(request); },
            std::move(options)) {}

  /// Batches of any type: `read` makes the batch of a request, and removes from request.picks the
  /// samples that it skipped; it may return no batch if it skipped all of them. It is called from
  /// several threads at once. `source` says how many samples there are, and which. Throws Error, as
  /// above.
  Loader(std::shared_ptr<const SourceInfo> source, std::function<std::optional<B>(Request&)> read,
         LoaderOptions options = {})
      : options_(std::move(options)),
        info_(std::move(source)),
        order_(chosen_order(options_)),
        seed_(options_.seed()),
        mover_(options_.device()) {
    if (!info_ || !read) {
      throw Error(ErrorCode::InvalidArgument, "Loader: the source or the function is null");
    }
    make_plan();  // finds what is invalid, before threads start
    queue_.emplace(std::move(read), options_.workers(),
                   options_.ahead().value_or(2 * options_.workers()), mover_.wants_pinned());
  }

  Loader(const Loader&) = delete;             ///< iterators and workers refer to this object
  Loader& operator=(const Loader&) = delete;  ///< iterators and workers refer to this object
  /// Waits for the batches that workers are reading.
  ~Loader() = default;

  /// Starts the next epoch, and waits for its first batch. If an epoch is running, it is over: do
  /// not loop over a Loader inside a loop over the same Loader.
  /// Throws only if the order of the epoch cannot be made.
  Iterator begin() {
    if (is_running_) end_epoch();
    make_plan();
    is_running_ = true;
    try {
      advance();
    } catch (...) {
      first_failure_ = std::current_exception();
    }
    return Iterator(this);
  }
  /// The end of any epoch.
  Iterator end() { return Iterator(nullptr); }

  /// The epoch that is running, which it also is after its loop was left early; else the epoch that
  /// the next begin() starts. The first is 0.
  std::uint64_t epoch() const noexcept { return epoch_; }

  /// The number of batches of this rank in that epoch, empty ones included. After restore(), the
  /// number of those that are left. Throws what begin() throws.
  std::uint64_t batches() {
    make_plan();
    return plan_->batches();
  }

  /// Where the run is: the current batch counts as used; batches that were read in advance do not.
  /// A batch that failed counts as used when the loop gets a later one. After the last batch of an
  /// epoch, the state is the start of the next epoch. The first call computes fingerprints of the
  /// dataset and the order; later ones cost nothing.
  LoaderState state() const {
    LoaderState state = fingerprints();
    state.seed = seed_;
    state.epoch = epoch_;
    state.samples = start_;
    if (!is_running_ || !last_) return state;
    state.samples = plan_->consumed_after(*last_);
    if (*last_ + 1 == plan_->batches() && !others_continue(state.samples)) {
      ++state.epoch;
      state.samples = 0;
    }
    return state;
  }

  /// The next begin() continues where the Loader was that returned `state`, with its seed, and
  /// reads only what is left of that epoch. The epochs after it are whole. An epoch that is running
  /// is over. Throws Error (Mismatch), and changes nothing, if the state has another version, is of
  /// another dataset or order, or is at a position that the epoch does not have.
  void restore(const LoaderState& state) {
    state.require_version();
    const LoaderState& own = fingerprints();
    if (state.dataset != own.dataset) {
      throw Error(ErrorCode::Mismatch,
                  saved_at(state) + " of another dataset: this dataset has " +
                      detail::counted(info_->size(), "sample") + " and the fingerprint " +
                      std::to_string(own.dataset) + ", the state has the fingerprint " +
                      std::to_string(state.dataset) + "; use the same samples, in the same order");
    }
    if (state.order != own.order) {
      throw Error(ErrorCode::Mismatch,
                  saved_at(state) + " of another order: this order has the fingerprint " +
                      std::to_string(own.order) + ", the state has the fingerprint " +
                      std::to_string(state.order) +
                      "; use the same shuffle() or order(), with the same parameters");
    }
    Plan plan = planned(state.seed, state.epoch, state.samples);
    stop_reading();
    is_running_ = false;
    plan_ = std::move(plan.batches);
    size_ = plan.size;
    seed_ = state.seed;
    epoch_ = state.epoch;
    start_ = state.samples;
  }

  /// What the Loader did since it was made.
  LoaderStats stats() const {
    const auto seconds = [](std::int64_t nanoseconds) {
      return static_cast<double>(nanoseconds) * 1e-9;
    };
    LoaderStats stats = stats_;
    stats.waited = seconds(queue_->waited());
    stats.read = seconds(queue_->read());
    stats.copied = seconds(copied_);
    return stats;
  }

 private:
  struct Plan {
    std::unique_ptr<detail::EpochPlan> batches;
    std::uint64_t size;  // positions in the epoch, of all ranks
  };

  /// What is known of the run that a state is of.
  static std::string saved_at(const LoaderState& state) {
    return "the state is at sample " + std::to_string(state.samples) + " of epoch " +
           std::to_string(state.epoch) + ", with seed " + std::to_string(state.seed) + ",";
  }

  static Order chosen_order(const LoaderOptions& options) {
    if (options.shuffle() && options.order()) {
      throw Error(ErrorCode::InvalidArgument,
                  "shuffle(true) and order() exclude each other: order(shuffled()) shuffles");
    }
    if (options.workers() != 0 && options.ahead() == std::size_t{0}) {
      throw Error(
          ErrorCode::InvalidArgument,
          "ahead(0) with workers: expected at least 1; workers(0) reads nothing in advance");
    }
    if (options.order()) return *options.order();
    return options.shuffle() ? shuffled() : sequential();
  }

  Plan planned(std::uint64_t seed, std::uint64_t epoch, std::uint64_t start) const {
    std::unique_ptr<detail::EpochOrder> order = order_.rule().epoch(info_->parts(), seed, epoch);
    if (order->cuts() && options_.batch_size()) {
      throw Error(ErrorCode::InvalidArgument,
                  "batch_size() is set, but the order makes the batches: remove batch_size(), and "
                  "give the size of a batch to the order");
    }
    if (order->cuts() && options_.drop_last()) {
      throw Error(ErrorCode::InvalidArgument,
                  "drop_last(true) is set, but the order makes the batches: remove drop_last()");
    }
    const std::uint64_t size = order->size();
    return {std::make_unique<detail::EpochPlan>(std::move(order), options_.batch_size().value_or(1),
                                                options_.num_replicas(), options_.rank(),
                                                options_.tail(), options_.drop_last(), start),
            size};
  }

  /// Makes the plan of the epoch that is running or begins next, if there is none.
  void make_plan() {
    if (plan_) return;
    Plan plan = planned(seed_, epoch_, start_);
    plan_ = std::move(plan.batches);
    size_ = plan.size;
  }

  /// True if other ranks have one more batch: with Tail::Exact, ranks differ in their number.
  bool others_continue(std::uint64_t used) const {
    return options_.tail() == Tail::Exact && !options_.drop_last() && used < size_;
  }

  /// Computed once, because they depend on many keys or weights.
  const LoaderState& fingerprints() const {
    if (!fingerprints_) {
      LoaderState state;
      state.dataset = info_->fingerprint();
      state.order = order_.rule().fingerprint();
      fingerprints_ = state;
    }
    return *fingerprints_;
  }

  [[noreturn]] void tell_first_failure() {
    is_failure_known_ = true;
    std::rethrow_exception(first_failure_);
  }

  void advance() {
    current_.reset();  // first, so that its memory can be used again
    first_failure_ = nullptr;
    is_failure_known_ = false;
    if (!is_running_) return;
    if (!find_next()) {
      if (plan_->batches() != 0 && std::exchange(empty_, 0) == plan_->batches())
        throw_all_skipped();
      end_epoch();
      return;
    }
    const std::shared_ptr<detail::Reading<B>> next = queue_->pop();
    request_more();
    stats_.skipped += next->skipped();
    if (next->is_empty()) throw_empty(*next);
    if (!next->error && !next->is_moving) start_moving(*next);
    // Taken, because the worker may still own `next` for a moment, and would destroy what is left.
    if (next->error) std::rethrow_exception(std::exchange(next->error, nullptr));
    {
      const detail::Stopwatch time(copied_);
      mover_.finish(*next->batch);
    }
    current_.emplace(std::move(*next->batch));
    next->batch.reset();
    last_ = next->number;
    ++stats_.batches;
    stats_.samples += next->request.picks.size();
    stats_.bytes += detail::bytes_in(*current_);
    if (mover_.can_move_ahead()) move_ahead();
  }

  /// Waits for the next batch that the loop gets. Returns false at the end of the epoch.
  bool find_next() {
    for (;;) {
      request_more();
      const detail::Reading<B>* const next = queue_->front();
      if (!next) return false;
      if (!next->is_empty() || options_.num_replicas() > 1) return true;
      stats_.skipped += next->skipped();
      ++empty_;
      queue_->pop();
    }
  }

  /// Starts moving the batch after the current one, if that needs no waiting for a worker.
  void move_ahead() {
    detail::Reading<B>* const next = queue_->front_if_ready();
    if (next && !next->error && !next->is_empty()) start_moving(*next);
  }

  void start_moving(detail::Reading<B>& reading) {
    const detail::Stopwatch time(copied_);
    reading.is_moving = true;
    try {
      mover_.begin(*reading.batch);
    } catch (...) {
      reading.error = std::current_exception();
    }
  }

  void request_more() {
    for (; !queue_->is_full() && next_number_ < plan_->batches(); ++next_number_) {
      Request request;
      request.picks = plan_->batch(next_number_);
      request.seed = seed_;
      request.epoch = epoch_;
      request.population = info_->size();
      queue_->push(std::move(request), next_number_);
    }
  }

  [[noreturn]] static void throw_empty(const detail::Reading<B>& reading) {
    throw Error(ErrorCode::Mismatch,
                "the dataset skipped all " + detail::counted(reading.requested, "sample") +
                    " of batch " + std::to_string(reading.number) +
                    ", but all ranks must have the same number of batches: use "
                    "on_bad_file(OnBadFile::Replace)");
  }

  /// Training on nothing would go unnoticed.
  [[noreturn]] void throw_all_skipped() const {
    throw Error(ErrorCode::Mismatch, "the dataset skipped every sample of epoch " +
                                         std::to_string(epoch_) + ", " +
                                         detail::counted(size_, "sample") +
                                         "; verify() and the callback of on_bad_file() say why");
  }

  void stop_reading() {
    queue_->clear();
    empty_ = 0;
    current_.reset();
    first_failure_ = nullptr;
    last_.reset();
    next_number_ = 0;
  }

  void end_epoch() {
    stop_reading();
    is_running_ = false;
    plan_.reset();
    ++epoch_;
    start_ = 0;
  }

  LoaderOptions options_;
  std::shared_ptr<const SourceInfo> info_;
  Order order_;
  std::uint64_t seed_;
  detail::BatchMover<B> mover_;
  mutable std::optional<LoaderState> fingerprints_;

  std::uint64_t epoch_ = 0;
  std::uint64_t start_ = 0;  // samples of the epoch that were used before restore()
  std::unique_ptr<detail::EpochPlan> plan_;
  std::uint64_t size_ = 0;  // positions in the epoch, of all ranks
  bool is_running_ = false;
  std::uint64_t next_number_ = 0;      // of the batch to request
  std::uint64_t empty_ = 0;            // batches of this epoch without samples
  std::optional<B> current_;           // none after an exception, and at the end
  std::optional<std::uint64_t> last_;  // the number of the last batch that the loop got
  std::exception_ptr first_failure_;   // of the first batch, for *it
  bool is_failure_known_ = false;      // to the loop

  LoaderStats stats_;        // without the times
  std::int64_t copied_ = 0;  // nanoseconds

  std::optional<detail::LoaderQueue<B>> queue_;
};

/// Deduces the batch type from the dataset.
template <class E, class B>
Loader(const Dataset<E, B>&, LoaderOptions = {}) -> Loader<B>;

/// Deduces the batch type from the function.
template <class Source, class Read>
Loader(std::shared_ptr<Source>, Read, LoaderOptions = {})
    -> Loader<typename detail::BatchOf<std::decay_t<std::invoke_result_t<Read&, Request&>>>::Type>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LOADER_HPP_

// ---- torch_npy/data/weighted_order.hpp

#ifndef TORCH_NPY_DATA_WEIGHTED_ORDER_HPP_
#define TORCH_NPY_DATA_WEIGHTED_ORDER_HPP_

/// @file
/// weighted(): samples that are drawn with given probabilities.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// Whether one sample can be drawn several times in an epoch.
enum class Replacement {
  With,     ///< yes; each draw is independent of the others
  Without,  ///< no; each draw is among the samples not drawn before
};

namespace detail {

/// Draws indices with probabilities proportional to weights. Read-only: safe from any thread.
class CumulativeWeights {
 public:
  /// Throws Error (InvalidArgument) if a weight is negative or not finite, or if the sum is 0 or
  /// infinite.
  explicit CumulativeWeights(const std::vector<double>& weights) {
    sums_.reserve(weights.size());
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (!(weights[i] >= 0) || std::isinf(weights[i])) {
        throw Error(ErrorCode::InvalidArgument, "weight " + std::to_string(i) + " is " +
                                                    std::to_string(weights[i]) +
                                                    ": expected a finite number of at least 0");
      }
      if (weights[i] > 0) last_positive_ = i;
      sum += weights[i];
      sums_.push_back(sum);
    }
    if (sum == 0) {
      throw Error(ErrorCode::InvalidArgument,
                  weights.empty() ? "there are no weights: expected at least one"
                                  : "all " + counted(weights.size(), "weight") +
                                        " are 0: expected at least one that is positive");
    }
    if (std::isinf(sum)) {
      throw Error(ErrorCode::InvalidArgument,
                  "the sum of the weights is too large for a double: divide all by the largest");
    }
  }

  /// The number of weights.
  std::size_t size() const noexcept { return sums_.size(); }

  /// An index; never one whose weight is 0. Time is logarithmic in size().
  std::size_t draw(SplitMix64 random) const {
    const double drawn = random.uniform() * sums_.back();
    const auto found = std::upper_bound(sums_.begin(), sums_.end(), drawn) - sums_.begin();
    // The product is rounded, and can be equal to the sum if that is a subnormal number.
    return (std::min)(static_cast<std::size_t>(found), last_positive_);
  }

 private:
  std::vector<double> sums_;
  std::size_t last_positive_ = 0;
};

/// A number with the exponential distribution of mean 1, by von Neumann's method ("Various
/// techniques used in connection with random digits", 1951). The method only compares and counts,
/// so the result is the same on every platform; that of std::log may differ.
inline double exponential(SplitMix64& random) {
  for (double whole = 0;; ++whole) {
    const double first = random.uniform();
    bool is_odd = true;  // the length of the decreasing run that starts with `first`
    double last = first;
    for (double next = random.uniform(); next < last; next = random.uniform()) {
      last = next;
      is_odd = !is_odd;
    }
    if (is_odd) return whole + first;
  }
}

/// `samples` indices, drawn one after another without replacement with probabilities proportional
/// to the weights (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
inline std::vector<std::size_t> draw_without_replacement(const std::vector<double>& weights,
                                                         std::size_t samples, std::uint64_t key) {
  std::vector<std::pair<double, std::size_t>> candidates;  // the smallest are drawn
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    SplitMix64 random(mix({key, i}));
    candidates.emplace_back(exponential(random) / weights[i], i);
  }
  const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(samples);
  if (end != candidates.end()) std::nth_element(candidates.begin(), end, candidates.end());
  std::sort(candidates.begin(), end);
  std::vector<std::size_t> indices(samples);
  for (std::size_t i = 0; i < samples; ++i) indices[i] = candidates[i].second;
  return indices;
}

class WeightedRule : public OrderRule {
 public:
  WeightedRule(std::vector<double> weights, std::uint64_t samples, Replacement replacement)
      : sums_(std::make_shared<const CumulativeWeights>(weights)),
        samples_(samples == 0 ? weights.size() : samples),
        fingerprint_(mix(
            {fingerprint_of(kKind, weights), samples_, static_cast<std::uint64_t>(replacement)})) {
    if (replacement == Replacement::With) return;
    const auto zeros = std::count(weights.begin(), weights.end(), 0.0);
    const std::uint64_t positive = weights.size() - static_cast<std::size_t>(zeros);
    if (samples_ > positive) {
      throw Error(ErrorCode::InvalidArgument,
                  "weighted() cannot draw " + counted(samples_, "sample") +
                      " without replacement, because only " + std::to_string(positive) +
                      " of the weights are positive: ask for fewer samples, or use "
                      "Replacement::With");
    }
    weights_ = std::move(weights);
  }

  void check(const std::vector<std::size_t>& parts) const override {
    check_count("weights", sums_->size(), size_of(parts));
  }

  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    check(parts);
    const std::uint64_t key = mix({seed, epoch, kKind});
    if (weights_.empty()) return std::make_unique<Epoch>(sums_, samples_, key);
    return std::make_unique<ListedEpoch>(
        draw_without_replacement(weights_, static_cast<std::size_t>(samples_), key));
  }

  std::uint64_t fingerprint() const override { return fingerprint_; }

 private:
  static constexpr std::uint64_t kKind = 0x7765696768746564;

  class Epoch : public EpochOrder {
   public:
    Epoch(std::shared_ptr<const CumulativeWeights> sums, std::uint64_t samples, std::uint64_t key)
        : sums_(std::move(sums)), samples_(samples), key_(key) {}
    std::uint64_t size() const override { return samples_; }
    std::size_t at(std::uint64_t position) override {
      return sums_->draw(SplitMix64(mix({key_, position})));
    }

   private:
    std::shared_ptr<const CumulativeWeights> sums_;
    std::uint64_t samples_;
    std::uint64_t key_;
  };

  std::shared_ptr<const CumulativeWeights> sums_;
  std::vector<double> weights_;  // only without replacement
  std::uint64_t samples_;
  std::uint64_t fingerprint_;
};

}  // namespace detail

/// Draws `samples` samples in an epoch, or as many as there are weights if `samples` is 0. The
/// probability of a sample is proportional to its weight. A sample with weight 0 is never drawn.
/// `weights` has one number for each sample of the dataset, and may have any number of them.
///
/// With replacement, an epoch starts in constant time, and each draw takes logarithmic time.
/// Without replacement, an epoch starts by drawing all its samples: time O(n log n), and
/// temporarily 16 bytes for each positive weight.
///
/// Throws Error (InvalidArgument) if a weight is negative or not finite, if all are 0, if their sum
/// is infinite, or if there are fewer positive weights than `samples` without replacement.
inline Order weighted(std::vector<double> weights, std::uint64_t samples = 0,
                      Replacement replacement = Replacement::With) {
  return Order(std::make_shared<detail::WeightedRule>(std::move(weights), samples, replacement));
}

/// The same for a 1-D tensor of any real dtype. Also throws Error (InvalidArgument) for any other
/// tensor.
inline Order weighted(const at::Tensor& weights, std::uint64_t samples = 0,
                      Replacement replacement = Replacement::With) {
  if (!weights.defined() || weights.dim() != 1 || weights.is_complex()) {
    throw Error(ErrorCode::InvalidArgument,
                !weights.defined() ? "the tensor of weights is undefined: expected a 1-D tensor"
                : weights.is_complex()
                    ? "the weights are complex numbers: expected real ones"
                    : "the tensor of weights has " + std::to_string(weights.dim()) +
                          " dimensions: expected 1 dimension, with one number for each sample");
  }
  const at::Tensor doubles = weights.detach().to(at::kCPU, at::kDouble).contiguous();
  const double* const first = doubles.data_ptr<double>();
  return weighted(std::vector<double>(first, first + doubles.numel()), samples, replacement);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_WEIGHTED_ORDER_HPP_

// ---- torch_npy/data/mixed_order.hpp

#ifndef TORCH_NPY_DATA_MIXED_ORDER_HPP_
#define TORCH_NPY_DATA_MIXED_ORDER_HPP_

/// @file
/// mixed(): several datasets in given proportions.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

class MixedEpoch : public EpochOrder {
 public:
  MixedEpoch(const std::vector<std::size_t>& sizes, const CumulativeWeights& weights,
             std::uint64_t samples, std::uint64_t key)
      : key_(key), part_at_(static_cast<std::size_t>(samples)) {
    std::size_t first = 0;
    for (const std::size_t size : sizes) {
      parts_.push_back({first, size});
      first += size;
    }
    std::vector<std::uint64_t> counts(sizes.size());
    counts_.reserve((part_at_.size() / kBlock + 1) * sizes.size());
    for (std::size_t i = 0; i < part_at_.size(); ++i) {
      if (i % kBlock == 0) counts_.insert(counts_.end(), counts.begin(), counts.end());
      const std::size_t part = weights.draw(SplitMix64(mix({key, i})));
      part_at_[i] = static_cast<std::uint32_t>(part);
      ++counts[part];
    }
  }

  std::uint64_t size() const override { return part_at_.size(); }

  std::size_t at(std::uint64_t position) override {
    const auto i = static_cast<std::size_t>(position);
    const std::uint32_t number = part_at_[i];
    const auto here = part_at_.begin() + static_cast<std::ptrdiff_t>(i);
    const auto block = here - static_cast<std::ptrdiff_t>(i % kBlock);
    const std::uint64_t before = counts_[i / kBlock * parts_.size() + number] +
                                 static_cast<std::uint64_t>(std::count(block, here, number));

    Part& part = parts_[number];
    const std::uint64_t round = before / part.size;
    if (part.order.size() == 0 || part.round != round) {
      part.order = Permutation(part.size, mix({key_, number, round, 0}));
      part.round = round;
    }
    return part.first + static_cast<std::size_t>(part.order(before % part.size));
  }

 private:
  static constexpr std::size_t kBlock = 1024;

  struct Part {
    std::size_t first;  // its first index in the whole dataset
    std::size_t size;
    std::uint64_t round = 0;  // how often the part was used up before
    Permutation order{0, 0};  // of that round
  };

  std::uint64_t key_;
  std::vector<Part> parts_;
  std::vector<std::uint32_t> part_at_;  // for each position
  std::vector<std::uint64_t> counts_;   // positions of each part before each block of positions
};

class MixedRule : public OrderRule {
 public:
  MixedRule(std::vector<double> weights, std::uint64_t samples)
      : weights_(std::move(weights)),
        sums_(weights_),
        samples_(samples),
        fingerprint_(mix({fingerprint_of(kKind, weights_), samples})) {
    if (weights_.size() > (std::numeric_limits<std::uint32_t>::max)()) {
      throw Error(ErrorCode::InvalidArgument, "mixed() has more than 2^32 weights");
    }
  }

  void check(const std::vector<std::size_t>& parts) const override {
    if (parts.size() != weights_.size()) {
      throw Error(ErrorCode::InvalidArgument,
                  "mixed() has " + counted(weights_.size(), "weight") + ", the dataset has " +
                      counted(parts.size(), "part") +
                      ": give one weight for each dataset that concat() joined");
    }
    if (samples_in(parts) == 0) return;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (weights_[i] == 0 || parts[i] != 0) continue;
      throw Error(ErrorCode::InvalidArgument, "part " + std::to_string(i) + " of the dataset has " +
                                                  "no samples: expected weight 0, found " +
                                                  std::to_string(weights_[i]));
    }
  }

  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    check(parts);
    return std::make_unique<MixedEpoch>(parts, sums_, samples_in(parts), mix({seed, epoch, kKind}));
  }

  std::uint64_t fingerprint() const override { return fingerprint_; }

 private:
  static constexpr std::uint64_t kKind = 0x6d697865646d6978;

  std::uint64_t samples_in(const std::vector<std::size_t>& parts) const {
    return samples_ == 0 ? size_of(parts) : samples_;
  }

  std::vector<double> weights_;
  CumulativeWeights sums_;
  std::uint64_t samples_;
  std::uint64_t fingerprint_;
};

}  // namespace detail

/// Mixes the datasets that concat() joined, which are called parts: each position of the epoch
/// draws a part with a probability proportional to its weight, and uses the next sample of that
/// part. Each part is in a random order of its own. A part that is used up begins again in a new
/// random order, so a small part with a large weight is repeated, and a large part with a small
/// weight is used partly. An epoch has `samples` samples, or as many as the dataset if that is 0.
///
/// An epoch starts by drawing the part of each position: linear time, and 4 bytes per sample.
///
/// Throws Error (InvalidArgument) if a weight is negative or not finite, if all are 0, or if their
/// sum is infinite. Loader and OrderSampler throw it if the number of parts differs, or if a part
/// without samples has a positive weight.
inline Order mixed(std::vector<double> weights, std::uint64_t samples = 0) {
  return Order(std::make_shared<detail::MixedRule>(std::move(weights), samples));
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MIXED_ORDER_HPP_

// ---- torch_npy/data/normalize.hpp

#ifndef TORCH_NPY_DATA_NORMALIZE_HPP_
#define TORCH_NPY_DATA_NORMALIZE_HPP_

/// @file
/// Normalize.

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <c10/util/ArrayRef.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The axis of a batch for which there are means and stds. `axis` is that of a sample, if the
/// program has set it. Otherwise samples with one axis have columns, and those with three are
/// images (C, H, W). Throws Error (Mismatch) for other samples: the axis cannot be guessed.
inline std::int64_t channel_axis(const at::Tensor& batch, const std::optional<std::int64_t>& axis,
                                 const char* call) {
  const std::int64_t axes = batch.dim() - 1;  // of a sample
  if (axis && *axis >= -axes && *axis < axes) return *axis < 0 ? batch.dim() + *axis : 1 + *axis;
  const bool is_hwc = seems_channels_last(batch);
  if (!axis && (axes == 1 || axes == 3) && !is_hwc) return 1;
  throw_bad_shape(
      call,
      axis ? "with an axis " + std::to_string(*axis) : "(columns,) or (channels, height, width)",
      batch,
      axis     ? ""
      : is_hwc ? ", which seems to be (height, width, channels); put ToTensor before, "
                 "or set axis(n)"
               : "; axis(n) says which axis has the channels or columns");
}

}  // namespace detail

namespace transforms {

/// Computes (data - mean) / std in the dtype of the data, which must be a floating-point one. With
/// one mean and std, samples have any shape. With more, there is one mean and one std for each
/// channel of images (C, H, W), as in torchvision's Normalize, or for each column of a table, whose
/// samples have the shape (columns). axis() is necessary for samples with another number of axes.
/// mean_and_std() computes both numbers. Throws Error (Mismatch) for integers, and for another
/// number of channels or columns.
class Normalize : public Transform, public OnArrays<Normalize> {
 public:
  /// Throws Error (InvalidArgument) if there is no mean, if the numbers of means and stds differ,
  /// if a number is NaN or infinite, or if a std is not larger than 0.
  Normalize(c10::ArrayRef<double> mean, c10::ArrayRef<double> std)
      : mean_(mean.vec()), std_(std.vec()) {
    if (mean_.empty() || mean_.size() != std_.size()) {
      throw Error(ErrorCode::InvalidArgument,
                  "Normalize expects one mean and one std, for each channel or column or for all; "
                  "found " +
                      detail::counted(mean_.size(), "mean") + " and " +
                      detail::counted(std_.size(), "std"));
    }
    for (std::size_t i = 0; i < mean_.size(); ++i) {
      if (std::isfinite(mean_[i]) && std::isfinite(std_[i]) && std_[i] > 0) continue;
      throw Error(ErrorCode::InvalidArgument,
                  "Normalize expects finite means, and finite stds larger than 0; found mean " +
                      std::to_string(mean_[i]) + " and std " + std::to_string(std_[i]) +
                      " at position " + std::to_string(i) +
                      "; the std is 0 if all values are equal: use 1 there");
    }
  }

  /// The axis of a sample that has one mean for each position: 0 for volumes (C, D, H, W), -1 for
  /// time series (length, columns). Negative numbers count from the last axis.
  Normalize& axis(std::int64_t axis) {
    axis_ = axis;
    return *this;
  }

  /// Normalizes the data.
  void apply(at::Tensor& data, at::Tensor*, const Draws&) const override {
    if (!data.is_floating_point()) {
      throw Error(ErrorCode::Mismatch,
                  std::string("Normalize expects floating-point data, found ") +
                      c10::toString(data.scalar_type()) + "; apply ToTensor or ToDtype before it");
    }
    std::vector<std::int64_t> shape;
    if (mean_.size() > 1) {
      const std::int64_t axis = detail::channel_axis(data, axis_, "Normalize");
      if (data.size(axis) != static_cast<std::int64_t>(mean_.size())) {
        detail::throw_bad_shape("Normalize",
                                "with the size " + std::to_string(mean_.size()) + " in axis " +
                                    std::to_string(axis - 1) + ", one for each mean",
                                data);
      }
      shape.assign(static_cast<std::size_t>(data.dim() - axis), 1);
      shape[0] = data.size(axis);
    }
    const auto as_tensor = [&](const std::vector<double>& values) {
      return at::tensor(values).to(data.options()).reshape(shape);
    };
    if (detail::is_only_owner(data)) {
      data.sub_(as_tensor(mean_)).div_(as_tensor(std_));
    } else {
      data = data.sub(as_tensor(mean_)).div_(as_tensor(std_));
    }
  }

 private:
  std::vector<double> mean_;
  std::vector<double> std_;
  std::optional<std::int64_t> axis_;
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_NORMALIZE_HPP_

// ---- torch_npy/data/npz_source.hpp

#ifndef TORCH_NPY_DATA_NPZ_SOURCE_HPP_
#define TORCH_NPY_DATA_NPZ_SOURCE_HPP_

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// Samples of which each is an archive.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The arrays of one name.
struct ArchivedPart final : SamplePart {
  std::shared_ptr<const FileList> files;
  std::string name;

  ArchivedPart(std::shared_ptr<const FileList> its_files, std::string its_name,
               const LoadOptions& its_options, std::shared_ptr<BufferPool> its_pool,
               FolderOptions::Expected its_expected)
      : SamplePart(its_options, std::move(its_pool), std::move(its_expected)),
        files(std::move(its_files)),
        name(std::move(its_name)) {}

  std::string origin(std::size_t file) const override {
    return shown_path((*files)[file]) + ": array " + in_quotes(name);
  }
};

using ArchivedParts = std::vector<std::shared_ptr<const ArchivedPart>>;

/// Opens archives one after another, in the same memory. Used by one thread. Errors have no path.
class ArchiveReader {
 public:
  /// The parts outlive it.
  explicit ArchiveReader(const ArchivedParts& parts) : parts_(parts) {}

  /// Opens the archive of a sample, after it has closed the one before.
  void open(std::size_t sample) {
    archive_.reset();
    auto file = std::make_shared<const File>(parts_[0]->files->open(sample));
    archive_ = open_archive(std::move(file), room_);
    if (!has_known_names()) find_arrays();
  }

  /// Calls `use` with the bytes of array `part` of the archive. `at_once`: see DeflatedMember.
  template <class Use>
  auto with_bytes(std::size_t part, std::uint64_t at_once, const Use& use) const {
    // Both are of the archive.
    const ZipMember* const member = found_[part] ? &archive_->members()[*found_[part]]
                                                 : &ArrayMembers(archive_).at(parts_[part]->name);
    return with_part("member", member->name,
                     [&] { return with_member(archive_, *member, use, at_once); });
  }

 private:
  /// Whether the members have the names of those in which the arrays were found. Then the arrays
  /// are in the same ones.
  bool has_known_names() const {
    const std::vector<ZipMember>& members = archive_->members();
    return !names_.empty() &&
           std::equal(members.begin(), members.end(), names_.begin(), names_.end(),
                      [](const ZipMember& member, const std::string& name) {
                        return member.name == name;
                      });
  }

  void find_arrays() {
    const ArrayMembers arrays(archive_);
    const std::vector<ZipMember>& members = archive_->members();
    names_.clear();
    found_.clear();
    for (const auto& part : parts_) {
      const ZipMember* const member = arrays.find_member(part->name);
      found_.emplace_back();
      if (member != nullptr) found_.back() = static_cast<std::size_t>(member - members.data());
    }
    // Of other members the names do not tell which are arrays.
    const auto is_array = [](const ZipMember& member) {
      return ends_as_array(member.name) && !is_hidden(member.name);
    };
    if (!std::all_of(members.begin(), members.end(), is_array)) return;
    for (const ZipMember& member : members) names_.push_back(member.name);
  }

  const ArchivedParts& parts_;
  std::shared_ptr<char> room_ = ArchiveBytes::allocate_room();
  std::shared_ptr<const ZipArchive> archive_;
  std::vector<std::string> names_;                 // of the members of an earlier archive
  std::vector<std::optional<std::size_t>> found_;  // the members with the arrays
};

/// Samples of named tensors from the rows of each of them.
inline SampleRows<NamedExample> named_rows(const ArchivedParts& parts, std::vector<PartRows> rows,
                                           std::size_t count) {
  const auto is_whole = [](const PartRows& part) { return part.whole.defined(); };
  if (std::all_of(rows.begin(), rows.end(), is_whole)) {
    std::vector<NamedExample::Item> items;
    for (std::size_t k = 0; k < rows.size(); ++k) {
      items.emplace_back(parts[k]->name, std::move(rows[k].whole));
    }
    return NamedBatch(NamedExample(std::move(items)));
  }
  std::vector<std::vector<NamedExample::Item>> items(count);
  for (std::size_t k = 0; k < rows.size(); ++k) {
    std::vector<at::Tensor> tensors = std::move(rows[k]).separate();
    for (std::size_t i = 0; i < count; ++i) {
      items[i].emplace_back(parts[k]->name, std::move(tensors[i]));
    }
  }
  std::vector<NamedExample> samples;
  samples.reserve(count);
  for (auto& one : items) samples.emplace_back(std::move(one));
  return samples;
}

/// One archive a sample; the tensors of E are arrays of it.
template <class E>
class NpzSource final : public SampleSource<E> {
 public:
  /// `parts` in the order of the tensors of E; not empty.
  NpzSource(ArchivedParts parts, const FolderOptions& options)
      : SampleSource<E>(options),
        parts_(std::move(parts)),
        samples_(parts_[0]->files->size(), options) {}

  std::size_t size() const override { return samples_.size(); }

  std::string key(std::size_t sample) const override {
    return samples_.key(files()[file_of(sample)], sample);
  }

  bool reads_regions() const override { return !std::is_same_v<E, NamedExample>; }
  std::size_t file_of(std::size_t sample) const override { return samples_.file_of(sample); }

  std::uint64_t fingerprint() const override {
    std::uint64_t print = mix({size()});
    for (const auto& part : parts_) {
      print = mix({print, hash_of(part->name), fingerprint_of(part->options.region())});
    }
    return mix({print, fingerprint_of(files())});
  }

  std::int64_t length(std::size_t sample) const override {
    std::int64_t length = 0;
    about(file_of(sample), [&] {
      ArchiveReader archive(parts_);
      archive.open(file_of(sample));
      length = with_plan(archive, 0, length_of);
    });
    return length;
  }

  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    if constexpr (!kHasTarget<E>) return SampleSource<E>::labels(samples);
    constexpr std::size_t kTarget = 1;
    std::vector<std::int64_t> labels;
    labels.reserve(samples.size());
    ArchiveReader archive(parts_);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const std::size_t file = file_of(samples[i]);
      if (i != 0 && file == file_of(samples[i - 1])) {
        labels.push_back(labels.back());
        continue;
      }
      about(file, [&] {
        archive.open(file);
        labels.push_back(with_open(archive, kTarget, [&](OpenArray& array) {
          return label_in(array, parts_[kTarget]->options);
        }));
      });
    }
    return labels;
  }

  std::vector<Error> check(std::size_t sample) const override {
    std::vector<Error> errors;
    const auto is_good = [&](const auto& work) {
      try {
        about(file_of(sample), work);
        return true;
      } catch (const Error& error) {
        if (is_of_system(error)) throw;
        errors.push_back(error);
        return false;
      }
    };
    ArchiveReader archive(parts_);
    if (!is_good([&] { archive.open(file_of(sample)); })) return errors;
    for (std::size_t k = 0; k < parts_.size(); ++k) {
      (void)is_good([&] {
        with_plan(archive, k, [&](const LoadPlan& plan) { parts_[k]->require_expected(plan); });
      });
    }
    return errors;
  }

  SampleRows<E> read(Request& request) const override {
    // Larger ones are unpacked in part for their headers, and then whole.
    constexpr std::uint64_t kAtOnce = std::uint64_t{1} << 20;
    ArchiveReader archive(parts_);
    std::vector<BatchReader> readers;
    readers.reserve(parts_.size());
    for (const auto& part : parts_) {
      readers.emplace_back(part, request.picks.size(), request.pin_memory);
    }
    const auto read_sample = [&](Pick& pick) {
      const std::size_t file = file_of(pick.sample);
      const auto read_part = [&](std::size_t part, const RegionOf& region_of = {},
                                 const c10::Scalar& fill_value = 0) {
        return archive.with_bytes(part, kAtOnce, [&](const ByteSource& bytes) {
          return readers[part].read(file, bytes, region_of, fill_value);
        });
      };
      about(file, [&] {
        archive.open(file);
        const SampleRegions* const regions = request.regions;
        pick.is_cropped = regions != nullptr &&
                          read_regions(*regions, pick, readers[0], readers.size(), read_part);
        for (std::size_t k = 0; k < readers.size() && !pick.is_cropped; ++k) read_part(k);
      });
    };
    read_each(request, this->bad_samples(0), read_sample, [&](std::size_t) {
      for (BatchReader& reader : readers) reader.accept();
    });
    std::vector<PartRows> rows;
    for (BatchReader& reader : readers) rows.push_back(std::move(reader).finish());
    if constexpr (std::is_same_v<E, NamedExample>) {
      return named_rows(parts_, std::move(rows), request.picks.size());
    } else {
      return rows_from<E>(std::move(rows[0]), kHasTarget<E> ? std::move(rows[1]) : PartRows());
    }
  }

 private:
  const FileList& files() const { return *parts_[0]->files; }

  /// Calls `work`; its Errors are about an archive.
  template <class Work>
  void about(std::size_t file, const Work& work) const {
    try {
      with_path({}, work);
    } catch (const Error& error) {
      throw ErrorContext::at(error, files()[file]);
    }
  }

  /// Calls `use` with an array of the archive.
  template <class Use>
  auto with_open(const ArchiveReader& archive, std::size_t part, const Use& use) const {
    return archive.with_bytes(part, DeflatedMember::kWholeForHeader, [&](const ByteSource& bytes) {
      return with_array(bytes, parts_[part]->options, use);
    });
  }

  /// Calls `use` with what is known of an array after its header was read.
  template <class Use>
  auto with_plan(const ArchiveReader& archive, std::size_t part, const Use& use) const {
    return with_open(archive, part,
                     [&](OpenArray& array) { return use(array.plan(parts_[part]->options)); });
  }

  ArchivedParts parts_;
  SamplesOfFiles samples_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_NPZ_SOURCE_HPP_

// ---- torch_npy/data/npz_dataset.hpp

#ifndef TORCH_NPY_DATA_NPZ_DATASET_HPP_
#define TORCH_NPY_DATA_NPZ_DATASET_HPP_

/// @file
/// A dataset of .npz archives, one for each sample.

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

template <class E>
class NpzDataset;

/// The archives of an NpzDataset: a folder of .npz files, or a list of files.
class NpzArchives {
 public:
  /// The archives of a folder that FolderOptions choose.
  template <class Path,
            class = std::enable_if_t<std::is_convertible_v<const Path&, std::filesystem::path>>>
  NpzArchives(const Path& folder)  // NOLINT(google-explicit-constructor)
      : where_(std::filesystem::path(folder)) {}
  /// These files in this order. With pattern(), recursive() or natural_order(), the dataset throws
  /// Error (InvalidArgument).
  NpzArchives(std::vector<std::filesystem::path> files)  // NOLINT(google-explicit-constructor)
      : where_(std::move(files)) {}
  /// The same.
  NpzArchives(std::initializer_list<std::filesystem::path> files)
      : NpzArchives(std::vector<std::filesystem::path>(files)) {}

 private:
  template <class E>
  friend class NpzDataset;

  using Files = std::vector<std::filesystem::path>;

  std::shared_ptr<const FileList> files(const FolderOptions& options) const {
    if (const auto* const files = std::get_if<Files>(&where_)) {
      detail::require_used("NpzDataset of a list of files", options, {});
      return std::make_shared<const FileList>(*files);
    }
    detail::require_used("NpzDataset", options, {true, false, false});
    detail::ListRules rules = detail::list_rules(options);
    rules.ending = ".npz";
    return std::make_shared<const FileList>(
        detail::list_folder(std::get<std::filesystem::path>(where_), rules));
  }

  std::variant<std::filesystem::path, Files> where_;
};

/// A dataset of .npz archives, as np.savez and np.savez_compressed write them: one archive for each
/// sample, whose tensors are arrays of the archive. Array names are those of NpzFile, with or
/// without ".npy".
///
///     NpzDataset images("train", "image");                            // TensorExamples
///     NpzDataset digits("train", "image", "label");                   // Examples
///     NpzDataset scenes("train", {"image", "mask", "weight"});        // NamedExamples
///     for (auto& batch : loader) { batch["image"]; batch["mask"]; }   // of scenes.stacked()
///
/// The constructor reads only the names of the files. An archive of at most 128 KiB takes an open,
/// one read and a close; of a larger one its directory and the arrays of the sample are read. The
/// CRC of each array is checked. Samples that are alike are read directly into one tensor. Other
/// arrays of the archive are ignored. Deflated arrays need libdeflate: see NpzFile.
///
/// An archive without one of the arrays is a bad sample: its Error names those that it has.
/// Copies share the list of files, and up to 256 MiB of memory for the next batches.
template <class E = Example<>>
class NpzDataset : public Dataset<E> {
 public:
  /// The array `data` of each archive. Lists a folder in O(n log n) for n files. Throws Error:
  /// NotFound if the folder does not exist or has no matching .npz file; Io; Exhausted;
  /// InvalidArgument if the device does not exist.
  NpzDataset(const NpzArchives& archives, const std::string& data,
             const FolderOptions& options = {})
      : NpzDataset(archives, options, {data}) {
    static_assert(std::is_same_v<E, TensorExample>, "one array makes a TensorExample");
  }

  /// The array `data` of each archive, and `target` of the same archive. target_options() say how
  /// to load `target`; expect() is about `data`. Throws Error: the same.
  NpzDataset(const NpzArchives& archives, const std::string& data, const std::string& target,
             const FolderOptions& options = {})
      : NpzDataset(archives, options, {data, target}) {
    static_assert(std::is_same_v<E, Example<>>, "two arrays make an Example");
  }

  /// The arrays `names` of each archive, under these names. data_options() are for all of them;
  /// expect() and lengths() are about the first one. Throws Error: the same; InvalidArgument if
  /// there is no name, or the same twice.
  NpzDataset(const NpzArchives& archives, const std::vector<std::string>& names,
             const FolderOptions& options = {})
      : NpzDataset(archives, options, names) {
    static_assert(std::is_same_v<E, NamedExample>, "a list of arrays makes a NamedExample");
  }

  /// The same: `{"image", "mask"}`, which would convert to one string, too.
  NpzDataset(const NpzArchives& archives, std::initializer_list<const char*> names,
             const FolderOptions& options = {})
      : NpzDataset(archives, std::vector<std::string>(names.begin(), names.end()), options) {}

 private:
  NpzDataset(const NpzArchives& archives, const FolderOptions& options,
             const std::vector<std::string>& names)
      : Dataset<E>(std::make_shared<const detail::NpzSource<E>>(parts(archives, options, names),
                                                                options)) {}

  static detail::ArchivedParts parts(const NpzArchives& archives, const FolderOptions& options,
                                     const std::vector<std::string>& names) {
    if constexpr (std::is_same_v<E, NamedExample>) require_names(names);
    const auto files = archives.files(options);
    const auto pool = detail::make_pool();
    detail::ArchivedParts parts;
    for (const std::string& name : names) {
      const bool is_target = detail::kHasTarget<E> && !parts.empty();
      const LoadOptions& how = is_target ? options.target_options() : options.data_options();
      detail::require_device(how.device());
      parts.push_back(std::make_shared<const detail::ArchivedPart>(
          files, name, how, pool, parts.empty() ? options.expected() : FolderOptions::Expected()));
    }
    return parts;
  }

  static void require_names(const std::vector<std::string>& names) {
    if (names.empty()) {
      throw Error(ErrorCode::InvalidArgument, "NpzDataset: the list of array names is empty");
    }
    const auto twice = detail::first_duplicate({names.begin(), names.end()});
    if (!twice) return;
    throw Error(ErrorCode::InvalidArgument,
                "NpzDataset: the name " + detail::in_quotes(*twice) + " is there twice");
  }
};

NpzDataset(const NpzArchives&, const std::string&)->NpzDataset<TensorExample>;
NpzDataset(const NpzArchives&, const std::string&, const FolderOptions&)->NpzDataset<TensorExample>;
NpzDataset(const NpzArchives&, const std::string&, const std::string&)->NpzDataset<Example<>>;
NpzDataset(const NpzArchives&, const std::string&, const std::string&, const FolderOptions&)
    ->NpzDataset<Example<>>;
NpzDataset(const NpzArchives&, const std::vector<std::string>&)->NpzDataset<NamedExample>;
NpzDataset(const NpzArchives&, const std::vector<std::string>&, const FolderOptions&)
    ->NpzDataset<NamedExample>;
NpzDataset(const NpzArchives&, std::initializer_list<const char*>)->NpzDataset<NamedExample>;
NpzDataset(const NpzArchives&, std::initializer_list<const char*>, const FolderOptions&)
    ->NpzDataset<NamedExample>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_NPZ_DATASET_HPP_

// ---- torch_npy/data/prefetch.hpp

#ifndef TORCH_NPY_DATA_PREFETCH_HPP_
#define TORCH_NPY_DATA_PREFETCH_HPP_

/// @file
/// Loads the next batch to a device while the current one is in use.

#include <c10/core/Device.h>

#include <cstddef>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE

/// A range over the batches of a data loader, on a device: see prefetch(). Each begin() starts an
/// epoch. For one thread at a time, and one Prefetcher at a time for a loader, which must outlive
/// it.
template <class Loader>
class Prefetcher {
 public:
  /// The loader's batch type.
  using Batch = typename Loader::BatchType;
  static_assert(detail::BatchTensors<Batch>::kAny,
                "prefetch() expects batches of tensors, of torch::data::Example, or of vectors of "
                "them");

  /// An input iterator. All iterators of one Prefetcher are at the same batch.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    using pointer = Batch*;
    using reference = Batch&;

    /// Goes to the next batch. If reading that batch threw, throws its exception, after all earlier
    /// batches were returned. Then there is no current batch, and another ++ continues with the
    /// batch after it.
    Iterator& operator++() {
      if (owner_ != nullptr) owner_->advance();
      return *this;
    }
    /// As the prefix form.
    void operator++(int) { ++*this; }
    /// The current batch. The caller may change or move it. Throws Error (InvalidArgument) if there
    /// is none, because the last ++ threw or the epoch is over.
    Batch& operator*() const {
      if (!owner_ || !owner_->current_) throw detail::no_batch();
      return *owner_->current_;
    }
    /// Access to a member of the current batch.
    Batch* operator->() const { return &**this; }

    /// True if both are at the end, or neither is.
    friend bool operator==(const Iterator& a, const Iterator& b) {
      return a.is_end() == b.is_end();
    }
    /// Inequality.
    friend bool operator!=(const Iterator& a, const Iterator& b) { return !(a == b); }

   private:
    friend class Prefetcher;
    explicit Iterator(Prefetcher* owner) : owner_(owner) {}
    bool is_end() const { return owner_ == nullptr || owner_->is_at_end_; }

    Prefetcher* owner_;
  };

  /// Reads nothing yet. Throws Error (InvalidArgument) if there is no such device.
  Prefetcher(Loader& loader, c10::Device device)
      : loader_(&loader),
        device_(detail::existing_device(device)),
        copier_(detail::BatchCopier::make(device_)) {}
  Prefetcher(const Prefetcher&) = delete;             ///< a loader has only one epoch at a time
  Prefetcher& operator=(const Prefetcher&) = delete;  ///< a loader has only one epoch at a time

  /// On early exit from an epoch, waits for the batches that the loader's workers are reading, so
  /// that the loader can be used again.
  ~Prefetcher() {
    try {
      if (is_running_) stop();
    } catch (...) {  // A destructor must not throw; the epoch is over.
    }
  }

  /// Starts an epoch and reads its first two batches. Ends an unfinished epoch of the loader first.
  /// Throws what the loader throws.
  Iterator begin() {
    stop();
    current_.reset();
    ahead_.reset();
    failure_ = nullptr;
    has_looked_ahead_ = false;
    is_at_end_ = false;
    is_first_ = true;
    is_running_ = true;
    source_.emplace(loader_->begin());
    advance();
    return Iterator(this);
  }
  /// The end of any epoch.
  Iterator end() { return Iterator(nullptr); }

 private:
  /// Access to the protected members of LibTorch's loader.
  struct Access : Loader {
    static auto shuttle() { return &Access::shuttle_; }
    static auto more() { return with_count(&Access::prefetch); }

   private:
    template <class Base>
    static auto with_count(void (Base::*prefetch)(std::size_t)) {
      return prefetch;
    }
  };

  /// LibTorch's loader cannot begin an epoch while its workers are in one, and has no function to
  /// end one. Draining its queues ends it.
  void stop() {
    source_.reset();
    (loader_->*Access::shuttle()).drain();
    is_running_ = false;
  }

  void advance() {
    current_.reset();
    if (!copier_) {
      std::optional<Batch> batch = read();
      if (batch) detail::move_batch(*batch, device_);
      current_ = std::move(batch);
      is_at_end_ = !current_;
      return;
    }
    if (!has_looked_ahead_) look_ahead();
    if (failure_) {
      has_looked_ahead_ = false;
      std::rethrow_exception(std::exchange(failure_, nullptr));
    }
    if (ahead_) copier_->finish();
    current_ = std::exchange(ahead_, std::nullopt);
    is_at_end_ = !current_;
    if (current_) look_ahead();
  }

  void look_ahead() {
    has_looked_ahead_ = true;
    try {
      ahead_ = read();
      if (ahead_) copier_->begin(*ahead_);
    } catch (...) {
      ahead_.reset();
      failure_ = std::current_exception();
    }
  }

  /// The loader's next batch; none at the end of the epoch.
  std::optional<Batch> read() {
    if (!source_) return std::nullopt;
    bool is_end = false;
    try {
      if (!is_first_) ++*source_;
      is_end = *source_ == loader_->end();
    } catch (const torch::data::WorkerException&) {
      // The loader does not request a batch to replace this one: after as many failures as it
      // prefetches batches, the epoch would end early.
      (loader_->*Access::more())(1);
      throw;
    }
    is_first_ = false;
    if (!is_end) return std::move(**source_);
    source_.reset();
    is_running_ = false;
    return std::nullopt;
  }

  Loader* loader_;
  c10::Device device_;
  std::optional<decltype(std::declval<Loader&>().begin())> source_;
  bool is_running_ = false;  // the loader may have work in progress
  bool is_first_ = true;
  bool is_at_end_ = false;
  std::optional<Batch> current_;  // none after an exception, and at the end
  std::optional<Batch> ahead_;    // its copies have started
  std::exception_ptr failure_;    // the exception thrown instead of ahead_
  bool has_looked_ahead_ = false;
  std::unique_ptr<detail::BatchCopier> copier_;
};

/// A range over the batches of `loader`, one of LibTorch's data loaders, on `device`. The next
/// batch is read and copied while the caller uses the current one.
///
///     for (auto& batch : torch_npy::prefetch(*loader, device)) { batch.data; batch.target; }
///
/// Copies the tensors of Examples, of the batch types of this library, and of vectors of them.
/// Everything else is passed on unchanged, also undefined tensors and those on the device already.
/// On the CPU the batches are the loader's own. On other devices the copy goes through reused
/// buffers (pinned ones on CUDA), or directly from the loader's tensors if these are pinned, which
/// is faster: LoadOptions::pinned_memory() makes a dataset pin them. When a batch is returned, the
/// device's current stream waits for its copy; the caller does not. On a device without streams, a
/// batch is copied when it becomes the current one.
///
/// The loop may be left early, also by an exception, and started again: the loader is then in the
/// same state as after a full epoch. Throws Error (InvalidArgument) if there is no such device.
template <class Loader>
[[nodiscard]] Prefetcher<Loader> prefetch(Loader& loader, c10::Device device) {
  return Prefetcher<Loader>(loader, device);
}

/// The same for the pointer that make_data_loader() returns. Throws Error (InvalidArgument) if it
/// is null.
template <class Loader>
[[nodiscard]] Prefetcher<Loader> prefetch(std::unique_ptr<Loader>& loader, c10::Device device) {
  if (!loader) {
    throw Error(ErrorCode::InvalidArgument, "prefetch(): the pointer to the loader is null");
  }
  return Prefetcher<Loader>(*loader, device);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PREFETCH_HPP_

// ---- torch_npy/data/random_flip.hpp

#ifndef TORCH_NPY_DATA_RANDOM_FLIP_HPP_
#define TORCH_NPY_DATA_RANDOM_FLIP_HPP_

/// @file
/// RandomHorizontalFlip and RandomVerticalFlip.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// Flips images (..., H, W) along one axis, each with probability `p`: the common part of
/// RandomHorizontalFlip and RandomVerticalFlip.
class RandomFlip : public Transform {
 public:
  /// Flips the images that are chosen.
  void apply(at::Tensor& data, at::Tensor* target, const Draws& draws) const override {
    if (data.dim() < 3) detail::throw_bad_shape(name_, "(..., H, W)", data);
    if (detail::seems_channels_last(data)) {
      detail::throw_bad_shape(name_, "(..., H, W)", data,
                              ", which seems to be (H, W, C); put ToTensor before the flip");
    }
    at::Tensor* const image = with_target_ ? detail::image_target(target, data) : nullptr;
    std::vector<std::int64_t> flipped;
    for (std::int64_t i = 0; i < data.size(0); ++i) {
      if (draws.sample(static_cast<std::size_t>(i)).uniform() < p_) flipped.push_back(i);
    }
    flip(data, flipped);
    if (image != nullptr) flip(*image, flipped);
  }

 protected:
  /// For the derived classes.
  RandomFlip(const char* name, std::int64_t axis, double p,
             const std::optional<at::Generator>& generator)
      : Transform(detail::draw_seed(generator)), name_(name), axis_(axis), p_(p) {
    if (!(p >= 0 && p <= 1)) {
      throw Error(ErrorCode::InvalidArgument,
                  name_ + " expects a probability between 0 and 1, found " + std::to_string(p));
    }
  }

  /// Whether targets that are images are flipped, too.
  bool with_target_ = true;

 private:
  void flip(at::Tensor& batch, const std::vector<std::int64_t>& flipped) const {
    if (flipped.empty()) return;
    if (!detail::is_only_owner(batch)) batch = batch.clone();
    for (const std::int64_t i : flipped) {
      const at::Tensor sample = batch.select(0, i);
      sample.copy_(sample.flip(axis_));
    }
  }

  std::string name_;
  std::int64_t axis_;
  double p_;
};

/// Flips images (..., H, W) horizontally, each with probability `p`. Keeps shape and dtype.
class RandomHorizontalFlip : public RandomFlip, public OnArrays<RandomHorizontalFlip> {
 public:
  /// Throws Error (InvalidArgument) if `p` is not between 0 and 1.
  explicit RandomHorizontalFlip(double p = 0.5,
                                const std::optional<at::Generator>& generator = std::nullopt)
      : RandomFlip("RandomHorizontalFlip", -1, p, generator) {}

  /// Whether a target that is an image changes with the data; the default is true.
  RandomHorizontalFlip& with_target(bool value) {
    with_target_ = value;
    return *this;
  }
};

/// Flips images (..., H, W) vertically, each with probability `p`. Keeps shape and dtype.
class RandomVerticalFlip : public RandomFlip, public OnArrays<RandomVerticalFlip> {
 public:
  /// Throws Error (InvalidArgument) if `p` is not between 0 and 1.
  explicit RandomVerticalFlip(double p = 0.5,
                              const std::optional<at::Generator>& generator = std::nullopt)
      : RandomFlip("RandomVerticalFlip", -2, p, generator) {}

  /// Whether a target that is an image changes with the data; the default is true.
  RandomVerticalFlip& with_target(bool value) {
    with_target_ = value;
    return *this;
  }
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RANDOM_FLIP_HPP_

// ---- torch_npy/data/resize.hpp

#ifndef TORCH_NPY_DATA_RESIZE_HPP_
#define TORCH_NPY_DATA_RESIZE_HPP_

/// @file
/// Resize.

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/upsample_nearest1d.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// How Resize computes a pixel.
enum class Interpolation {
  Bilinear,  ///< from the four nearest pixels
  Nearest,   ///< copies a pixel; for masks, whose numbers must not be mixed
};

/// Resizes images (..., H, W) to (..., height, width). The images of a list may have different
/// sizes; afterwards they can be stacked. Same as torch.nn.functional.interpolate with the mode
/// "bilinear" and align_corners=False, or with the mode "nearest"; without antialiasing.
///
/// Bilinear takes floating-point data and uint8, which are computed as float32 and rounded. Nearest
/// takes every dtype. A target that is an image is resized, too: integers, as in masks, by Nearest,
/// and floating-point numbers like the data. With on(), masks need a Resize of their own, with
/// Interpolation::Nearest.
///
/// Throws Error (Mismatch) for other dtypes, for images without pixels, and for images that seem to
/// be H x W x C: whose last axis has the size 1, 3 or 4, and whose first axis has not.
class Resize : public Transform, public OnArrays<Resize> {
 public:
  /// To a height and a width in pixels. Throws Error (InvalidArgument) if `size` is not two numbers
  /// from 1 to 2^31 - 1.
  explicit Resize(c10::IntArrayRef size, Interpolation interpolation = Interpolation::Bilinear)
      : interpolation_(interpolation) {
    for (const std::int64_t pixels : size) {
      if (size.size() != 2 || pixels < 1 || pixels > INT32_MAX) break;
      size_.push_back(pixels);
    }
    if (size_.size() == 2) return;
    throw Error(
        ErrorCode::InvalidArgument,
        "Resize expects a height and a width from 1 to 2^31 - 1, such as Resize({224, 224})");
  }

  /// The same for `Resize({224, 224})`.
  explicit Resize(std::initializer_list<std::int64_t> size,
                  Interpolation interpolation = Interpolation::Bilinear)
      : Resize(c10::IntArrayRef(size), interpolation) {}

  /// Whether a target that is an image changes with the data; the default is true.
  Resize& with_target(bool value) {
    with_target_ = value;
    return *this;
  }

  /// Resizes the images.
  void apply(at::Tensor& data, at::Tensor* target, const Draws&) const override {
    require_images(data);
    at::Tensor* const image = with_target_ ? detail::image_target(target, data) : nullptr;
    at::Tensor resized_data = resized(data, interpolation_);
    if (image != nullptr) {
      *image =
          resized(*image, image->is_floating_point() ? interpolation_ : Interpolation::Nearest);
    }
    data = std::move(resized_data);
  }

 private:
  static void require_images(const at::Tensor& data) {
    if (data.dim() < 3 || data.numel() == 0) {
      detail::throw_bad_shape("Resize", "(..., H, W) with pixels", data);
    }
    if (detail::seems_channels_last(data)) {
      detail::throw_bad_shape("Resize", "(..., H, W)", data,
                              ", which seems to be (H, W, C); put ToTensor before Resize");
    }
  }

  at::Tensor resized(const at::Tensor& images, Interpolation interpolation) const {
    if (images.sizes().slice(static_cast<std::size_t>(images.dim()) - 2) == size_) return images;
    return interpolation == Interpolation::Nearest ? nearest(images) : bilinear(images);
  }

  at::Tensor bilinear(const at::Tensor& images) const {
    const c10::ScalarType type = images.scalar_type();
    if (!images.is_floating_point() && type != at::kByte) {
      throw Error(ErrorCode::Mismatch,
                  std::string("Resize cannot interpolate ") + c10::toString(type) +
                      " values; use Interpolation::Nearest for masks, and ToDtype before Resize "
                      "for images");
    }
    std::vector<std::int64_t> sizes = images.sizes().vec();
    // All other axes are treated alike. LibTorch interpolates half precision only on some devices.
    at::Tensor out = images.reshape({1, -1, sizes.end()[-2], sizes.end()[-1]});
    out = at::upsample_bilinear2d(type == at::kDouble ? out : out.to(at::kFloat), size_,
                                  /*align_corners=*/false);
    if (type == at::kByte) out.round_();
    sizes.end()[-2] = size_[0];
    sizes.end()[-1] = size_[1];
    return out.to(type).reshape(sizes);
  }

  at::Tensor nearest(const at::Tensor& images) const {
    // LibTorch tells which pixel is the nearest: it cannot resize every dtype itself.
    const auto pixels = [&](std::int64_t axis, std::int64_t size) {
      const at::Tensor all = at::arange(images.size(axis), images.options().dtype(at::kDouble));
      return at::upsample_nearest1d(all.reshape({1, 1, -1}), size).flatten().to(at::kLong);
    };
    return images.index_select(-2, pixels(-2, size_[0])).index_select(-1, pixels(-1, size_[1]));
  }

  std::vector<std::int64_t> size_;
  Interpolation interpolation_;
  bool with_target_ = true;
};

}  // namespace transforms
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RESIZE_HPP_

// ---- torch_npy/data/sampler.hpp

#ifndef TORCH_NPY_DATA_SAMPLER_HPP_
#define TORCH_NPY_DATA_SAMPLER_HPP_

/// @file
/// OrderSampler and DistributedSampler: orders, and shares of ranks, for LibTorch's data loader.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/randperm.h>
#include <torch/data/samplers/base.h>
#include <torch/serialize/archive.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// Any Order as a sampler of LibTorch. Distributes the samples of a dataset among the processes
/// (ranks) that train on it together:
///
///     torch_npy::OrderSampler sampler(torch_npy::shuffled(), dataset.size().value(),
///                                     num_replicas, rank);
///     auto loader = torch::data::make_data_loader(dataset, sampler, batch_size);
///     for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
///       sampler.set_epoch(epoch);
///       for (auto& batch : *loader) { ... }
///     }
///
/// Rank r takes positions r, r + num_replicas, r + 2 * num_replicas, ... of the order of the epoch,
/// which is the same on every rank. OrderSamplerOptions::tail() decides what happens to the last
/// positions if the number of samples is not a multiple of num_replicas.
///
/// The order by_length() makes the batches itself. Then each rank takes every num_replicas-th
/// batch, next() returns these batches and ignores its argument, and so does the loader with its
/// batch size. Do not set drop_last() of LibTorch's loader: it ends the epoch at the first batch
/// that is smaller than the batch size.
///
/// Copies share their state, because LibTorch's loader stores a copy of its sampler: a setter
/// called on the caller's copy takes effect in the loader. Safe from any thread. Only the thread
/// that iterates over the loader draws from the sampler, not the workers.
///
/// To resume in the middle of an epoch, save the sampler with torch::save(sampler, path) and load
/// it by torch::load(sampler, path) into one made with the same arguments, or store epoch() and
/// position() and set them again. Then start the loop over the epochs at sampler.epoch();
/// set_epoch() with that value keeps the position.
///
/// Without workers, position() is the number of samples that the loop has received. With workers,
/// the loader draws up to max_jobs batches in advance, and position() and a saved sampler are ahead
/// of the loop: resuming from them would skip those batches. Then the loop must count its samples,
/// store that number, too, and call set_position() with it after load().
class OrderSampler : public torch::data::samplers::Sampler<> {
 public:
  /// A sampler for a dataset of `size` samples and this `rank` of `num_replicas`. Throws Error
  /// (InvalidArgument) if `rank` is not less than `num_replicas`, or if the order does not fit the
  /// dataset, such as weighted() with another number of weights.
  OrderSampler(Order order, std::size_t size, std::size_t num_replicas = 1, std::size_t rank = 0,
               OrderSamplerOptions options = {})
      : OrderSampler(std::move(order), std::vector<std::size_t>{size}, num_replicas, rank,
                     options) {}

  /// The same for datasets of these sizes that are joined by concat(), which mixed() needs.
  OrderSampler(Order order, std::vector<std::size_t> sizes, std::size_t num_replicas = 1,
               std::size_t rank = 0, OrderSamplerOptions options = {})
      : order_(std::move(order)),
        options_(options),
        num_replicas_(num_replicas),
        rank_(rank),
        state_(std::make_shared<State>()) {
    detail::check_rank(num_replicas, rank);
    order_.rule().check(sizes);
    state_->parts = std::move(sizes);
  }

  // No move operations: a moved-from sampler would have no state.

  /// Copies share their state. A move copies.
  OrderSampler(const OrderSampler&) = default;
  /// As the copy constructor.
  OrderSampler& operator=(const OrderSampler&) = default;
  /// The last copy destroys the state.
  ~OrderSampler() override = default;

  /// Selects the epoch for the next reset(), which the loader calls in begin(), and its order from
  /// the start. If `epoch` is the current one, nothing changes, so a loaded position is kept.
  void set_epoch(std::uint64_t epoch) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (epoch == state_->epoch) return;
    state_->epoch = epoch;
    state_->start = 0;
  }

  /// The epoch that was set or loaded last; 0 initially.
  std::uint64_t epoch() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->epoch;
  }

  /// The next reset(), and only that one, skips the first `position` samples of this rank. Throws
  /// Error (InvalidArgument) if the rank has fewer samples, or if the position is inside a batch of
  /// by_length(). May do the work of the next reset() in advance.
  void set_position(std::size_t position) {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    const detail::EpochPlan& plan = *plan_of(state_->epoch, state_->parts);
    if (position > plan.samples()) {
      throw Error(ErrorCode::InvalidArgument,
                  "set_position(" + std::to_string(position) + ") is out of range: this rank has " +
                      detail::counted(plan.samples(), "sample") + " in an epoch");
    }
    if (plan.has_cuts() && !plan.batch_after(position)) {
      throw Error(ErrorCode::InvalidArgument, "set_position(" + std::to_string(position) +
                                                  ") is inside a batch of by_length(): expected "
                                                  "the number of samples in whole batches");
    }
    state_->start = position;
  }

  /// The number of this rank's samples drawn in this epoch. After set_position(), set_epoch() or
  /// load() and before reset(): the number that reset() will skip.
  std::size_t position() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return state_->start.value_or(state_->position);
  }

  /// The number of samples that this rank gets in the whole epoch epoch(). May do the work of the
  /// next reset() in advance.
  std::size_t samples() const {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    return static_cast<std::size_t>(plan_of(state_->epoch, state_->parts)->samples());
  }

  /// Starts an epoch. `new_size`, if given, is the size of the dataset from now on. Throws Error
  /// (InvalidArgument) and changes nothing if the order does not fit that size. Time and memory are
  /// those that the order needs to start an epoch.
  void reset(torch::optional<std::size_t> new_size = torch::nullopt) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    auto parts = state_->parts;
    if (new_size && *new_size != detail::size_of(parts)) {
      if (parts.size() != 1) {
        throw Error(ErrorCode::InvalidArgument,
                    "reset(" + std::to_string(*new_size) + "): the sampler has the sizes of " +
                        detail::counted(parts.size(), "joined dataset") + ", together " +
                        std::to_string(detail::size_of(parts)) + ": make a new sampler");
      }
      parts[0] = *new_size;
    }
    begin(parts);
    state_->parts = std::move(parts);
  }

  /// Returns the next `batch_size` indices, each less than the size of the dataset, or the
  /// remaining ones; none at the end of the epoch. With by_length(), returns the next batch of that
  /// order instead. Starts an epoch if reset() was never called.
  torch::optional<std::vector<std::size_t>> next(std::size_t batch_size) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (!state_->running.plan) begin(state_->parts);
    detail::EpochPlan& plan = *state_->running.plan;
    std::vector<std::size_t> indices;
    if (plan.has_cuts()) {
      if (state_->batch == plan.batches()) return torch::nullopt;
      for (const Pick& pick : plan.batch(state_->batch)) indices.push_back(pick.index);
      ++state_->batch;
    } else {
      const std::uint64_t left = plan.samples() - state_->position;
      if (left == 0) return torch::nullopt;
      indices.resize(static_cast<std::size_t>((std::min)(std::uint64_t{batch_size}, left)));
      for (std::size_t i = 0; i < indices.size(); ++i) {
        indices[i] = plan.pick(state_->position + i).index;
      }
    }
    state_->position += indices.size();
    return indices;
  }

  /// Writes epoch(), position(), and the arguments that load() compares. Each rank needs its own
  /// archive. Throws what LibTorch's archive throws.
  void save(torch::serialize::OutputArchive& archive) const override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    for (const auto& [name, value] : identity()) write(archive, name, value);
    write(archive, "epoch", state_->epoch);
    write(archive, "position", state_->start.value_or(state_->position));
  }

  /// The next reset(), and only that one, continues where the saved sampler was. Throws Error
  /// (Mismatch) and changes nothing if that one had another order (another kind, or other weights
  /// or lengths), size, rank, number of replicas or option, or if the archive contains no sampler.
  /// May do the work of the next reset() in advance.
  void load(torch::serialize::InputArchive& archive) override {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    for (const auto& [name, value] : identity()) compare(name, read(archive, name), value);
    const auto epoch = read(archive, "epoch");
    const auto position = read(archive, "position");
    const detail::EpochPlan& plan = *plan_of(epoch, state_->parts);
    if (position > plan.samples() || (plan.has_cuts() && !plan.batch_after(position))) {
      throw Error(ErrorCode::Mismatch, "the saved sampler is at position " +
                                           std::to_string(position) + " of " +
                                           detail::counted(plan.samples(), "sample") +
                                           (position > plan.samples() ? "" : ", inside a batch"));
    }
    state_->epoch = epoch;
    state_->start = static_cast<std::size_t>(position);
  }

 private:
  /// The plan of one epoch, and what it was made for.
  struct Planned {
    std::uint64_t epoch = 0;
    std::vector<std::size_t> parts;
    std::shared_ptr<detail::EpochPlan> plan;
  };

  struct State {
    std::mutex mutex;
    std::vector<std::size_t> parts;    // sizes of the joined datasets, or one size
    std::uint64_t epoch = 0;           // epoch of the next reset()
    std::optional<std::size_t> start;  // position of the next reset(), if set
    Planned running;                   // without a plan before the first epoch
    Planned prepared;                  // for the next reset(), if something needed it before
    std::size_t position = 0;          // this rank's samples drawn
    std::uint64_t batch = 0;           // its batches drawn, with by_length()
  };

  std::shared_ptr<detail::EpochPlan> plan_of(std::uint64_t epoch,
                                             const std::vector<std::size_t>& parts) const {
    for (const Planned* planned : {&state_->running, &state_->prepared}) {
      if (planned->plan && planned->epoch == epoch && planned->parts == parts) return planned->plan;
    }
    Planned made{epoch, parts,
                 std::make_shared<detail::EpochPlan>(
                     order_.rule().epoch(parts, options_.seed(), epoch), /*batch_size=*/1,
                     num_replicas_, rank_, options_.tail(), /*drop_last=*/false)};
    state_->prepared = std::move(made);
    return state_->prepared.plan;
  }

  void begin(const std::vector<std::size_t>& parts) {
    Planned next{state_->epoch, parts, plan_of(state_->epoch, parts)};
    const detail::EpochPlan& plan = *next.plan;
    const std::uint64_t position =
        (std::min)(std::uint64_t{state_->start.value_or(0)}, plan.samples());
    state_->batch = plan.has_cuts() ? plan.batch_after(position).value_or(plan.batches()) : 0;
    state_->position = static_cast<std::size_t>(position);
    state_->running = std::move(next);
    state_->prepared = {};
    state_->start.reset();
  }

  /// The values that must be equal for two samplers to draw the same samples.
  std::vector<std::pair<const char*, std::uint64_t>> identity() const {
    std::uint64_t parts = 0;
    if (state_->parts.size() > 1) {
      for (const std::size_t part : state_->parts) parts = detail::mix({parts, part});
    }
    return {{"size", detail::size_of(state_->parts)},
            {"num_replicas", num_replicas_},
            {"rank", rank_},
            {"seed", options_.seed()},
            {"tail", static_cast<std::uint64_t>(options_.tail())},
            {"order", order_.rule().fingerprint()},
            {"parts", parts}};
  }

  static void compare(const std::string& name, std::uint64_t saved, std::uint64_t own) {
    if (saved == own) return;
    if (name == "order") {
      throw Error(ErrorCode::Mismatch,
                  "the saved sampler has another order: of another kind, or with other numbers");
    }
    if (name == "parts") {
      throw Error(ErrorCode::Mismatch, "the saved sampler has joined datasets of other sizes");
    }
    const auto shown = [&](std::uint64_t value) -> std::string {
      if (name != "tail") return std::to_string(value);
      return value == 0 ? "Pad" : value == 1 ? "Drop" : "Exact";
    };
    throw Error(ErrorCode::Mismatch, "the saved sampler has " + name + " " + shown(saved) +
                                         ", this one has " + shown(own));
  }

  static void write(torch::serialize::OutputArchive& archive, const char* name,
                    std::uint64_t value) {
    archive.write(name, c10::IValue(static_cast<std::int64_t>(value)));
  }

  static std::uint64_t read(torch::serialize::InputArchive& archive, const char* name) {
    c10::IValue value;
    if (!archive.try_read(name, value) || !value.isInt()) {
      throw Error(ErrorCode::Mismatch,
                  "the archive contains no OrderSampler: it has no integer " + std::string(name));
    }
    return static_cast<std::uint64_t>(value.toInt());
  }

  Order order_;
  OrderSamplerOptions options_;
  std::size_t num_replicas_;
  std::size_t rank_;
  std::shared_ptr<State> state_;
};

namespace detail {

/// torch.randperm(size) of a CPU generator seeded with seed + epoch.
class RandpermRule : public OrderRule {
 public:
  std::unique_ptr<EpochOrder> epoch(const std::vector<std::size_t>& parts, std::uint64_t seed,
                                    std::uint64_t epoch) const override {
    const at::Tensor order = at::randperm(static_cast<std::int64_t>(size_of(parts)),
                                          at::detail::createCPUGenerator(seed + epoch), at::kLong);
    const auto* const first = order.data_ptr<std::int64_t>();
    return std::make_unique<ListedEpoch>(std::vector<std::size_t>(first, first + order.numel()));
  }
  std::uint64_t fingerprint() const override { return mix({0x72616e647065726d}); }
};

}  // namespace detail

/// An OrderSampler with the order of Python's torch.utils.data.DistributedSampler, and its names:
///
///     torch_npy::DistributedSampler sampler(dataset.size().value(), num_replicas, rank);
///
/// The order of an epoch is torch.randperm(size) of a CPU generator seeded with seed + epoch, or 0,
/// 1, 2, ... without shuffle(). As in Python, all ranks get the same number of samples: by default
/// a few samples of the start of the order are repeated; with drop_last() the last samples of the
/// order are dropped. If every sample must be used exactly once, use OrderSampler with Tail::Exact.
///
/// With shuffle(), each epoch starts in linear time and keeps 8 bytes per sample of the dataset, 16
/// while it starts. OrderSampler with shuffled() needs neither.
class DistributedSampler : public OrderSampler {
 public:
  /// A sampler for a dataset of `size` samples and this `rank` of `num_replicas`. Throws Error
  /// (InvalidArgument) if `rank` is not less than `num_replicas`.
  DistributedSampler(std::size_t size, std::size_t num_replicas, std::size_t rank,
                     DistributedSamplerOptions options = {})
      : OrderSampler(
            options.shuffle() ? Order(std::make_shared<detail::RandpermRule>()) : sequential(),
            size, num_replicas, rank,
            OrderSamplerOptions()
                .seed(options.seed())
                .tail(options.drop_last() ? Tail::Drop : Tail::Pad)) {}
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SAMPLER_HPP_

// ---- torch_npy/data/split.hpp

#ifndef TORCH_NPY_DATA_SPLIT_HPP_
#define TORCH_NPY_DATA_SPLIT_HPP_

/// @file
/// random_split() and k_fold(): parts of a dataset, chosen at random.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

template <class E, class B, class T>
std::vector<std::vector<std::size_t>> split(const Dataset<E, B>& dataset,
                                            const std::vector<T>& lengths, std::uint64_t seed,
                                            const SplitOptions& options) {
  const SourceInfo& source = *dataset.source();
  const std::vector<std::size_t> sizes = part_sizes(lengths, source.size());
  return samples_of_parts(
      divide("random_split()", source, dataset.is_random(), sizes, seed, options), sizes.size());
}

template <class E, class B, std::size_t... I>
std::array<Dataset<E, B>, sizeof...(I)> subsets_of(const Dataset<E, B>& dataset,
                                                   std::vector<std::vector<std::size_t>> parts,
                                                   std::index_sequence<I...>) {
  return {dataset.subset(std::move(parts[I]))...};
}

}  // namespace detail

/// Divides the samples of a dataset at random, as PyTorch's random_split:
///
///     auto [train, validation] = random_split(dataset, {0.8, 0.2}, /*seed=*/1);
///     auto parts = random_split(dataset, {50000, 10000}, 1);
///
/// `lengths` are fractions that sum to 1 (double), or numbers of samples that sum to the size of
/// the dataset (integers). Fractions are rounded down; the samples that are left go one to each
/// part, from the first part on. Every sample is in one part. Each part is a subset() of the
/// dataset, with the samples in the order of the dataset.
///
/// The parts depend on the seed, the number of samples, `lengths` and `options`, and on nothing
/// else: they are the same on every platform, in every process and in every epoch. With
/// SplitOptions::stratify(), each part has its share of each label, rounded up or down. With
/// groups(), one group after another goes to the part that lacks most, so the sizes of the parts
/// are only near those asked for. Without groups(), that is so for samples of one file, and for a
/// sample that the dataset has more than once: they form a group.
///
/// Throws Error (InvalidArgument) if lengths do not fit the dataset, if a part with a fraction
/// above 0 would be empty, if `options` do not have one value for each sample, if there are fewer
/// groups than parts, if the samples overlap, or if map() was given a random transform before. Uses
/// some 24 bytes a sample; time is O(n).
template <class E, class B, class T, std::size_t N>
std::array<Dataset<E, B>, N> random_split(const Dataset<E, B>& dataset, const T (&lengths)[N],
                                          std::uint64_t seed, const SplitOptions& options = {}) {
  return detail::subsets_of(
      dataset, detail::split(dataset, std::vector<T>(lengths, lengths + N), seed, options),
      std::make_index_sequence<N>());
}

/// The same for integers of different types, such as `{50, *dataset.size() - 50}`.
template <class E, class B, std::size_t N>
std::array<Dataset<E, B>, N> random_split(const Dataset<E, B>& dataset,
                                          const std::size_t (&lengths)[N], std::uint64_t seed,
                                          const SplitOptions& options = {}) {
  return random_split<E, B, std::size_t, N>(dataset, lengths, seed, options);
}

/// The same for any number of parts.
template <class E, class B, class T>
std::vector<Dataset<E, B>> random_split(const Dataset<E, B>& dataset, const std::vector<T>& lengths,
                                        std::uint64_t seed, const SplitOptions& options = {}) {
  std::vector<Dataset<E, B>> parts;
  for (auto& samples : detail::split(dataset, lengths, seed, options)) {
    parts.push_back(dataset.subset(std::move(samples)));
  }
  return parts;
}

/// One of the divisions of k_fold().
template <class E = Example<>, class B = Samples<E>>
struct Fold {
  Dataset<E, B> train;       ///< the samples to train with
  Dataset<E, B> validation;  ///< all other samples
};

/// Divides the samples of a dataset k times, for cross-validation: each sample is in `validation`
/// of one fold, and in `train` of all others.
///
///     for (auto& [train, validation] : k_fold(dataset, 5, /*seed=*/1)) { ... }
///
/// The parts for validation are those of random_split() into k parts of equal size; if k does not
/// divide the number of samples, the first ones have one sample more. `options` and everything else
/// are as for random_split(). Throws Error (InvalidArgument) as random_split(), and if k is less
/// than 2 or larger than the number of samples. Uses 8 * k bytes a sample.
template <class E, class B>
std::vector<Fold<E, B>> k_fold(const Dataset<E, B>& dataset, std::size_t k, std::uint64_t seed,
                               const SplitOptions& options = {}) {
  const SourceInfo& source = *dataset.source();
  if (k < 2 || k > source.size()) {
    throw Error(ErrorCode::InvalidArgument, "k_fold() expects k from 2 to the number of samples, " +
                                                std::to_string(source.size()) + ", found " +
                                                std::to_string(k));
  }
  std::vector<std::size_t> sizes(k, source.size() / k);
  for (std::size_t i = 0; i < source.size() % k; ++i) ++sizes[i];
  const auto parts = detail::divide("k_fold()", source, dataset.is_random(), sizes, seed, options);
  std::vector<Fold<E, B>> folds;
  for (std::size_t fold = 0; fold < k; ++fold) {
    std::vector<std::size_t> in_fold(parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) in_fold[i] = parts[i] == fold ? 1 : 0;
    auto samples = detail::samples_of_parts(in_fold, 2);
    folds.push_back({dataset.subset(std::move(samples[0])), dataset.subset(std::move(samples[1]))});
  }
  return folds;
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SPLIT_HPP_

// ---- torch_npy/data/statistics.hpp

#ifndef TORCH_NPY_DATA_STATISTICS_HPP_
#define TORCH_NPY_DATA_STATISTICS_HPP_

/// @file
/// mean_and_std: the numbers that Normalize needs.

#include <ATen/core/Tensor.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/arg.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

TORCH_NPY_BEGIN_NAMESPACE

/// What mean_and_std() returns: `Normalize(result.mean, result.std)`.
struct MeanAndStd {
  std::vector<double> mean;  ///< for each channel or column
  std::vector<double> std;   ///< the square root of the mean squared difference, as numpy.std
};

/// How mean_and_std() reads a dataset. Setters chain; without an argument, each name returns the
/// current value.
struct StatisticsOptions {
  /// The tensor of a sample: "data" or "target" of an Example, or one of a NamedExample.
  TORCH_ARG(std::string, on) = "data";

  /// The axis of a sample that has the channels or columns, as Normalize::axis(). Not necessary for
  /// samples of shape (columns) or (channels, height, width).
  TORCH_ARG(std::optional<std::int64_t>, axis);

  /// false: one mean and one standard deviation of all values, for instance of volumes or
  /// spectrograms, whatever their shapes. Excludes axis().
  TORCH_ARG(bool, per_channel) = true;

  /// Threads that read samples; one for each processor if not set. The result does not depend on
  /// it.
  TORCH_ARG(std::optional<std::size_t>, workers);

  /// Called about a hundred times with the number of samples so far, by the thread that called
  /// mean_and_std().
  TORCH_ARG(Progress, progress);
};

namespace detail {

/// Of the values of each channel.
struct Moments {
  double count = 0;  // in each channel
  std::vector<double> mean;
  std::vector<double> squares;  // the sum of squared differences from the mean
  std::string sample;           // names the first of the samples
};

/// Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
/// variances", 1979.
inline void merge(Moments& all, const Moments& more) {
  if (more.count == 0) return;
  if (all.count == 0) {
    all = more;
    return;
  }
  if (more.mean.size() != all.mean.size()) {
    throw Error(ErrorCode::Mismatch,
                "mean_and_std expects samples with the same number of "
                "channels or columns: " +
                    all.sample + " has " + std::to_string(all.mean.size()) + ", " + more.sample +
                    " has " + std::to_string(more.mean.size()) +
                    "; axis() says where they are, and per_channel(false) computes one mean of all "
                    "values");
  }
  const double count = all.count + more.count;
  for (std::size_t i = 0; i < all.mean.size(); ++i) {
    const double difference = more.mean[i] - all.mean[i];
    all.mean[i] += difference * (more.count / count);
    all.squares[i] += more.squares[i] + difference * difference * (all.count * more.count / count);
  }
  all.count = count;
}

/// Values in C order, with the axes outer, channels, inner.
struct Block {
  const double* values;
  std::size_t outer, channels, inner;

  /// For each channel c, the mean of term(value, c). Four sums at a time do not wait for each
  /// other.
  template <class Term>
  std::vector<double> mean_of(const Term& term) const {
    std::vector<double> sums(channels);
    const double* at = values;
    for (std::size_t o = 0; o < outer; ++o) {
      for (std::size_t c = 0; c < channels; ++c, at += inner) {
        double parts[4] = {};
        std::size_t i = 0;
        for (; i + 4 <= inner; i += 4) {
          for (std::size_t k = 0; k < 4; ++k) parts[k] += term(at[i + k], c);
        }
        for (; i < inner; ++i) parts[0] += term(at[i], c);
        sums[c] += (parts[0] + parts[1]) + (parts[2] + parts[3]);
      }
    }
    for (double& sum : sums) sum /= static_cast<double>(outer * inner);
    return sums;
  }

  /// Differences from the first value are summed, so that equal values have exactly that mean.
  Moments moments() const {
    Moments result;
    result.count = static_cast<double>(outer * inner);
    result.mean =
        mean_of([this](double value, std::size_t c) { return value - values[c * inner]; });
    for (std::size_t c = 0; c < channels; ++c) result.mean[c] += values[c * inner];
    result.squares = mean_of([&](double value, std::size_t c) {
      return (value - result.mean[c]) * (value - result.mean[c]);
    });
    for (double& square : result.squares) square *= result.count;
    return result;
  }
};

/// The moments of a batch, whose i-th sample has the name name(i).
inline Moments moments_of(at::Tensor batch, const StatisticsOptions& options,
                          const std::function<std::string(std::size_t)>& name) {
  require_sample_axis(batch);
  if (batch.is_complex()) throw Error(ErrorCode::Mismatch, "mean_and_std expects real numbers");
  Moments all;
  if (!options.per_channel() && batch.numel() != 0) batch = batch.reshape({batch.size(0), 1, -1});
  const std::int64_t channels =
      options.per_channel() ? channel_axis(batch, options.axis(), "mean_and_std") : 1;
  if (batch.numel() == 0) return all;
  constexpr std::int64_t kValues = 16384;  // converted at once: they stay in the cache
  const std::int64_t sample = batch.numel() / batch.size(0);
  const std::int64_t step = std::max<std::int64_t>(1, kValues / sample);
  for (std::int64_t first = 0; first < batch.size(0); first += step) {
    const std::int64_t count = (std::min)(step, batch.size(0) - first);
    const at::Tensor values = batch.narrow(0, first, count).to(at::kCPU, at::kDouble).contiguous();
    std::size_t inner = 1;  // not the stride, which means nothing for an axis of length 1
    for (std::int64_t after = channels + 1; after < values.dim(); ++after) {
      inner *= static_cast<std::size_t>(values.size(after));
    }
    const auto size = static_cast<std::size_t>(values.size(channels));
    const std::size_t outer = static_cast<std::size_t>(values.numel()) / (size * inner);
    Moments more = Block{values.data_ptr<double>(), outer, size, inner}.moments();
    more.sample = name(static_cast<std::size_t>(first));
    const auto is_finite = [](double value) { return std::isfinite(value); };
    if (!std::all_of(more.squares.begin(), more.squares.end(), is_finite)) {
      std::int64_t bad = 0;
      while (bad + 1 < count && at::isfinite(values[bad]).all().item<bool>()) ++bad;
      throw Error(ErrorCode::Mismatch,
                  "mean_and_std expects finite values; " +
                      name(static_cast<std::size_t>(first + bad)) +
                      " has NaN, infinity or very large values; a function given to map() can "
                      "replace them");
    }
    merge(all, more);
  }
  return all;
}

/// Which of the samples that were read are those that were asked for, and not other ones instead
/// of bad ones: these would count twice. Both are in the order of their positions.
inline std::vector<std::size_t> not_replaced(const std::vector<Pick>& asked,
                                             const std::vector<Pick>& found) {
  std::vector<std::size_t> kept;
  auto pick = asked.begin();
  for (std::size_t i = 0; i < found.size(); ++i) {
    while (pick != asked.end() && pick->position != found[i].position) ++pick;
    if (pick != asked.end() && pick->index == found[i].index) kept.push_back(i);
  }
  return kept;
}

/// The moments of the samples of a request.
template <class E, class B>
std::optional<Moments> moments_in(const Dataset<E, B>& dataset, const StatisticsOptions& options,
                                  Request& request) {
  const std::vector<Pick> asked = request.picks;
  std::optional<B> batch = dataset.read(request);
  if (!batch) return std::nullopt;
  const std::vector<std::size_t> kept = not_replaced(asked, request.picks);
  const bool has_others = kept.size() != request.picks.size();
  const auto name = [&](std::size_t i) {
    if (has_others) i = kept[i];
    return i < request.picks.size() ? in_quotes(dataset.key(request.picks[i].index))
                                    : "sample " + std::to_string(i) + " of a batch";
  };
  const auto require_all = [&](std::size_t rows) {
    if (!has_others || rows == request.picks.size()) return;
    throw Error(ErrorCode::Mismatch,
                "mean_and_std cannot tell which samples of a batch replace bad ones, because map() "
                "changed their number: use OnBadFile::Skip");
  };
  if constexpr (std::is_same_v<B, Samples<E>>) {
    require_all(batch->size());
    std::vector<at::Tensor> samples;
    for (E& sample : *batch) samples.push_back(std::move(tensor_named(sample, options.on())));
    if (has_others) {
      std::vector<at::Tensor> good;
      for (const std::size_t i : kept) good.push_back(std::move(samples[i]));
      samples = std::move(good);
    }
    const at::Tensor whole = whole_of(samples);
    if (whole.defined()) return moments_of(whole, options, name);
    Moments all;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const at::Tensor one = samples[i].defined() ? samples[i].unsqueeze(0) : at::Tensor();
      merge(all, moments_of(one, options, [&](std::size_t) { return name(i); }));
    }
    return all;
  } else {
    at::Tensor whole = tensor_named(static_cast<E&>(*batch), options.on());
    if (has_others) {
      require_sample_axis(whole);
      require_all(static_cast<std::size_t>(whole.size(0)));
      const std::vector<std::int64_t> rows(kept.begin(), kept.end());
      whole = whole.index_select(0, at::tensor(rows, at::kLong).to(whole.device()));
    }
    return moments_of(whole, options, name);
  }
}

/// Merges the moments of all batches in their order, whatever thread computed them.
inline MeanAndStd mean_and_std_of(std::shared_ptr<const SourceInfo> source,
                                  std::function<std::optional<Moments>(Request&)> read,
                                  const StatisticsOptions& options) {
  const std::size_t total = source->size();
  if (total == 0) throw Error(ErrorCode::Mismatch, "mean_and_std of a dataset without samples");
  if (!options.per_channel() && options.axis()) {
    throw Error(ErrorCode::InvalidArgument,
                "mean_and_std: per_channel(false) and axis() exclude each other");
  }
  // About as many samples at a time as have a number of values, by some samples of all parts of the
  // dataset: the first one may be bad, or smaller than the others.
  constexpr std::size_t kProbes = 8;
  std::size_t values = 0;
  for (std::size_t i = 0; i < (std::min)(kProbes, total); ++i) {
    Request one{i * (total - 1) / (std::max)(kProbes - 1, std::size_t{1})};
    one.seed = 0;
    const Moments some = read(one).value_or(Moments());
    values = (std::max)(values, static_cast<std::size_t>(some.count) * some.mean.size());
  }
  const std::size_t batch_size =
      std::clamp<std::size_t>((std::size_t{1} << 17) / (values + 1), 1, 1024);

  Loader<Moments> loader(std::move(source), std::move(read),
                         LoaderOptions()
                             .batch_size(batch_size)
                             .workers(options.workers().value_or(processor_count())));
  Moments all;
  std::size_t reported = 0;  // percent
  for (const Moments& more : loader) {
    merge(all, more);
    const LoaderStats stats = loader.stats();
    const auto done = static_cast<std::size_t>(stats.samples + stats.skipped);
    if (!options.progress() || done * 100 / total == reported) continue;
    reported = done * 100 / total;
    options.progress()(done, total);
  }
  if (all.count == 0) throw Error(ErrorCode::Mismatch, "mean_and_std of samples without values");
  MeanAndStd result{std::move(all.mean), std::move(all.squares)};
  for (double& square : result.std) square = std::sqrt(square / all.count);
  return result;
}

}  // namespace detail

/// The mean and the standard deviation of each channel of images (C, H, W), or of each column of
/// samples of shape (columns), for Normalize:
///
///     const auto [mean, std] = mean_and_std(train_set.map(ToTensor()));
///     train_set.map(ToTensor()).map(Normalize(mean, std));
///
/// Reads each sample once, and eight of them twice, with several threads. Computes in double
/// precision, also if means are large, and gives the same result for any number of threads.
/// Integers are used as they are. Images may have different heights and widths: each pixel has the
/// same weight. Transforms of the dataset are applied, with the random numbers of epoch 0 and seed
/// 0. Each thread needs memory for some samples, and for one sample as float64.
///
/// Throws Error: what reading a sample throws; Mismatch for a dataset without samples or values,
/// for NaN and infinity, for complex numbers, if samples differ in their number of channels or
/// columns, and if axis() is necessary; NotFound if there is no tensor on(); Exhausted if the
/// system refuses to start a thread; InvalidArgument for options that exclude each other. Samples
/// that the dataset skips or replaces do not count.
template <class E, class B>
MeanAndStd mean_and_std(const Dataset<E, B>& dataset, const StatisticsOptions& options = {}) {
  static_assert(detail::kStackable<E>,
                "mean_and_std expects samples of Example<>, TensorExample or NamedExample");
  static_assert(!std::is_same_v<B, PaddedBatch<E>>,
                "mean_and_std would count the padding: call it before map(PadStack())");
  const auto read = [&](Request& request) { return detail::moments_in(dataset, options, request); };
  return detail::mean_and_std_of(dataset.source(), read, options);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STATISTICS_HPP_

// ---- torch_npy/data/to_tensor.hpp

#ifndef TORCH_NPY_DATA_TO_TENSOR_HPP_
#define TORCH_NPY_DATA_TO_TENSOR_HPP_

/// @file
/// ToTensor and ToDtype.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include <cmath>
#include <string>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// Images as they are usually stored, H x W x C or H x W, become C x H x W, contiguous. uint8
/// becomes float32 from 0 to 1; other dtypes keep their values. Same as torchvision's ToTensor for
/// NumPy arrays. Throws Error (Mismatch) for images that seem to be C x H x W already: whose first
/// axis has the size 1, 3 or 4, and whose last axis has not.
class ToTensor : public Transform, public OnArrays<ToTensor> {
 public:
  /// Converts the images.
  void apply(at::Tensor& data, at::Tensor*, const Draws&) const override {
    at::Tensor channels_first;
    if (data.dim() == 4) {
      if (detail::is_channel_count(data.size(1)) && !detail::is_channel_count(data.size(3))) {
        detail::throw_bad_shape("ToTensor", "(H, W, C) or (H, W)", data,
                                ", which seems to be (C, H, W) already; ToDtype(dtype, true) "
                                "converts the values of such images from 0 to 1");
      }
      channels_first = data.permute({0, 3, 1, 2});
    } else if (data.dim() == 3) {
      channels_first = data.unsqueeze(1);
    } else {
      detail::throw_bad_shape("ToTensor", "(H, W, C) or (H, W)", data);
    }
    if (data.scalar_type() == at::kByte) {
      at::Tensor out = at::empty(channels_first.sizes(), data.options().dtype(at::kFloat));
      data = out.copy_(channels_first).div_(255);
    } else {
      data = channels_first.contiguous();
    }
  }
};

/// Converts the data to another dtype, as Tensor::to() does. With `scale`, integers also become
/// numbers from 0 to 1: they are divided by the largest value of their dtype, 255 for uint8, as
/// torchvision's ToDtype(dtype, scale=True) does. Floating-point data are not scaled.
class ToDtype : public Transform, public OnArrays<ToDtype> {
 public:
  /// Throws Error (InvalidArgument) if `scale` is true and `dtype` is not a floating-point one. If
  /// LibTorch cannot convert a batch, its exception is thrown for that batch.
  explicit ToDtype(c10::ScalarType dtype, bool scale = false) : dtype_(dtype), scale_(scale) {
    if (!scale || c10::isFloatingType(dtype)) return;
    throw Error(ErrorCode::InvalidArgument,
                std::string("ToDtype scales to floating-point numbers from 0 to 1, and ") +
                    c10::toString(dtype) + " cannot hold them; ToDtype(dtype) does not scale");
  }

  /// Converts the data. Throws Error (Mismatch) for complex data that are to be scaled.
  void apply(at::Tensor& data, at::Tensor*, const Draws&) const override {
    const c10::ScalarType from = data.scalar_type();
    const bool is_integral = c10::isIntegralType(from, /*includeBool=*/true);
    if (scale_ && !is_integral && !c10::isFloatingType(from)) {
      throw Error(ErrorCode::Mismatch,
                  std::string("ToDtype scales integers, found ") + c10::toString(from));
    }
    if (!scale_ || !is_integral || from == at::kBool) {
      data = data.to(dtype_);
      return;
    }
    const auto bits = static_cast<int>(8 * c10::elementSize(from)) - c10::isSignedType(from);
    // float16 cannot hold the integers.
    const bool is_small = c10::elementSize(dtype_) < sizeof(float);
    data = data.to(is_small ? at::kFloat : dtype_).div_(std::ldexp(1.0, bits) - 1).to(dtype_);
  }

 private:
  c10::ScalarType dtype_;
  bool scale_;
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_TO_TENSOR_HPP_

// ---- torch_npy/data/transforms.hpp

#ifndef TORCH_NPY_DATA_TRANSFORMS_HPP_
#define TORCH_NPY_DATA_TRANSFORMS_HPP_

/// @file
/// All transforms of batches, in namespace torch_npy::transforms.

#endif  // TORCH_NPY_DATA_TRANSFORMS_HPP_

// ---- torch_npy/data/window_source.hpp

#ifndef TORCH_NPY_DATA_WINDOW_SOURCE_HPP_
#define TORCH_NPY_DATA_WINDOW_SOURCE_HPP_

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

// Samples that are windows of an array: some of its rows, one after another.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The windows of a joined array: which rows each one has.
class Windows {
 public:
  /// Which rows the target of a window has, counted from the first row of its data.
  struct Target {
    std::int64_t offset = 0;
    std::int64_t length = 0;
  };

  /// `shards` are the arrays that a window does not cross. Throws Error: InvalidArgument for a
  /// length or stride of less than 1; Mismatch if no window fits.
  Windows(const PartTable& shards, std::int64_t length, std::int64_t stride, const Target& target)
      : shards_(shards), length_(length), stride_(stride), target_(target) {
    require_between("the length of windows", length, 1);
    require_between("the stride of windows", stride, 1);
    require_between("the length of target()", target.length, 1);
    require_between("the offset of target()", target.offset, -kLimit);
    std::vector<std::size_t> counts;
    for (std::size_t i = 0; i < shards.count(); ++i) {
      counts.push_back(count_in(shards.ends()[i] - shards.begin_of(i)));
    }
    windows_ = PartTable(counts);
    if (size() == 0) throw none_fits();
  }

  std::size_t size() const { return windows_.size(); }
  std::size_t length() const { return static_cast<std::size_t>(length_); }
  std::size_t target_length() const { return static_cast<std::size_t>(target_.length); }
  std::int64_t stride() const { return stride_; }
  const Target& target() const { return target_; }

  /// The first row of a window.
  std::size_t first_row(std::size_t window) const {
    const std::size_t shard = windows_.part_of(window);
    const std::size_t number = window - windows_.begin_of(shard);
    return shards_.begin_of(shard) + static_cast<std::size_t>(first_start()) +
           number * static_cast<std::size_t>(stride_);
  }
  /// The first row of its target.
  std::size_t first_target_row(std::size_t window) const {
    return static_cast<std::size_t>(static_cast<std::int64_t>(first_row(window)) + target_.offset);
  }

  /// Whether two windows, with their targets, have a row in common.
  bool overlap() const { return stride_ < last() - first(); }

 private:
  static constexpr std::int64_t kLimit = std::int64_t{1} << 60;  // no sum overflows

  static void require_between(const char* what, std::int64_t value, std::int64_t low) {
    if (value >= low && value <= kLimit) return;
    throw Error(ErrorCode::InvalidArgument, std::string(what) + " is " + std::to_string(value) +
                                                "; it has to be at least " +
                                                (low == 1 ? "1" : "-2^60") + ", and at most 2^60");
  }

  /// The rows of a window and its target are in [first(), last()), counted from its first row.
  std::int64_t first() const { return std::min<std::int64_t>(0, target_.offset); }
  std::int64_t last() const { return (std::max)(length_, target_.offset + target_.length); }
  /// Where the first window of a shard begins: the first multiple of the stride at which the target
  /// fits.
  std::int64_t first_start() const { return (stride_ - 1 - first()) / stride_ * stride_; }

  std::size_t count_in(std::size_t rows) const {
    const std::int64_t room = static_cast<std::int64_t>(rows) - last() - first_start();
    return room < 0 ? 0 : static_cast<std::size_t>(room / stride_ + 1);
  }

  Error none_fits() const {
    std::size_t longest = 0;
    for (std::size_t i = 0; i < shards_.count(); ++i) {
      longest = (std::max)(longest, shards_.ends()[i] - shards_.begin_of(i));
    }
    std::string reason = "no window fits: windows of length " + std::to_string(length_);
    if (target_.offset != 0 || target_.length != length_) {
      reason += ", with targets of length " + std::to_string(target_.length) + " at offset " +
                std::to_string(target_.offset);
    }
    reason += shards_.count() == 1
                  ? ", of an array of " + counted(longest, "row")
                  : "; the longest of " + counted(shards_.count(), "shard") + " has " +
                        counted(longest, "row") + "; across_shards(true) joins the shards";
    return Error(ErrorCode::Mismatch, reason);
  }

  PartTable shards_;
  std::int64_t length_;
  std::int64_t stride_;
  Target target_;
  PartTable windows_;  // how many windows each shard has
};

/// How many neighbouring frames are in the same folder: a folder is one video.
inline PartTable folders_of(const ArrayRows& frames) {
  std::vector<std::size_t> sizes;
  std::string folder;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const std::string key = frames.key(i);
    const std::size_t end = key.rfind('/');
    std::string own = key.substr(0, end == key.npos ? 0 : end + 1);
    if (i == 0 || own != folder) sizes.push_back(0);
    folder = std::move(own);
    ++sizes.back();
  }
  return PartTable(sizes);
}

/// The windows of `data`, with targets in `target`, which is null if there are none. Throws Error:
/// as Windows; Mismatch if `target` has another length, or if a window would cross two of its
/// shards.
template <bool has_target>
Windows windows_of(const ArrayRows& data, const ArrayRows* target, std::int64_t length,
                   const BasicWindowOptions<has_target>& options) {
  Windows::Target rows{0, length};
  if (options.target()) rows = {options.target()->first, options.target()->second};
  if (target != nullptr && target != &data) require_targets(data, *target);
  const bool joins = options.across_shards();
  if (!joins && !options.frames() && target != nullptr) {
    const auto& ends = data.parts().ends();
    for (const std::size_t end : target->parts().ends()) {
      if (end == 0 || std::binary_search(ends.begin(), ends.end(), end)) continue;
      throw Error(ErrorCode::Mismatch,
                  "the files of the targets, " + target->name() +
                      ", end at other rows than those of the data, " + data.name() +
                      ": windows would cross them; across_shards(true) allows that");
    }
  }
  std::optional<Windows> windows;
  const auto make = [&] {
    windows.emplace(joins              ? PartTable(std::vector<std::size_t>{data.size()})
                    : options.frames() ? folders_of(data)
                                       : data.parts(),
                    length, options.stride(), rows);
  };
  if (data.parts().count() == 1) {
    data.about(0, make);
  } else {
    make();
  }
  return *windows;
}

/// How to load targets that are rows of the data, if that is another way than the data. Throws
/// Error (InvalidArgument) if it selects rows: the target would be other rows than target() says.
inline std::optional<LoadOptions> own_target_options(const LoadOptions& data,
                                                     const std::optional<LoadOptions>& target) {
  if (!target) return std::nullopt;
  if (!target->region().empty()) {
    throw Error(ErrorCode::InvalidArgument,
                "target_options() with rows(): for targets in the same array, the rows() of "
                "data_options() apply to both");
  }
  LoadOptions own = *target;
  own.region(data.region()).out_of_bounds(data.out_of_bounds());
  return own;
}

/// One window a sample; and for an Example with a target the rows of its target.
template <class E>
class WindowSource : public SampleSource<E> {
 public:
  /// `target` is null if E has none, and may be `data`.
  WindowSource(std::shared_ptr<const ArrayRows> data, std::shared_ptr<const ArrayRows> target,
               Windows windows)
      : data_(std::move(data)), target_(std::move(target)), windows_(std::move(windows)) {}

  std::size_t size() const override { return windows_.size(); }
  std::string key(std::size_t sample) const override {
    return data_->key(windows_.first_row(sample));
  }
  bool samples_overlap() const override { return windows_.overlap(); }
  bool is_in_memory() const override { return true; }
  std::int64_t length(std::size_t) const override {
    return static_cast<std::int64_t>(windows_.length());
  }

  std::uint64_t fingerprint() const override {
    const auto number = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
    std::uint64_t print =
        mix({fingerprint_of(*data_), size(), windows_.length(), number(windows_.stride()),
             number(windows_.target().offset), windows_.target_length()});
    for (std::size_t i = 0; i < size(); i += size() / 1000 + 1) {
      print = mix({print, windows_.first_row(i)});
    }
    return print;
  }

  /// Checks the arrays that begin after the window before this one does.
  std::vector<Error> check(std::size_t sample) const override {
    const std::size_t begin = sample == 0 ? 0 : windows_.first_row(sample);
    const std::size_t end = sample + 1 < size() ? windows_.first_row(sample + 1) : data_->size();
    return check_rows(*data_, target_ == data_ ? nullptr : target_.get(), begin, end);
  }

  SampleRows<E> read(Request& request) const override {
    std::vector<std::size_t> first;
    first.reserve(request.picks.size());
    for (const Pick& pick : request.picks) first.push_back(windows_.first_row(pick.sample));
    at::Tensor data = data_->gather(first, windows_.length(), request.pin_memory);
    if constexpr (kHasTarget<E>) {
      for (std::size_t i = 0; i < first.size(); ++i) {
        first[i] = windows_.first_target_row(request.picks[i].sample);
      }
      return Batch<E>(
          E(std::move(data), target_->gather(first, windows_.target_length(), request.pin_memory)));
    } else {
      return Batch<E>(E(std::move(data)));
    }
  }

 private:
  std::shared_ptr<const ArrayRows> data_;
  std::shared_ptr<const ArrayRows> target_;
  Windows windows_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_WINDOW_SOURCE_HPP_

// ---- torch_npy/data/window_dataset.hpp

#ifndef TORCH_NPY_DATA_WINDOW_DATASET_HPP_
#define TORCH_NPY_DATA_WINDOW_DATASET_HPP_

/// @file
/// A dataset of windows of arrays: tokens, time series, frames.

#include <cstdint>
#include <memory>
#include <utility>

TORCH_NPY_BEGIN_NAMESPACE

/// A dataset whose samples are windows: `length` rows of an array, one after another. The array is
/// a file, several files (shards), a StoredArray or a tensor: see ArrayData. Sample i of an array
/// (n, S...) is its rows [i * stride, i * stride + length), a tensor of shape (length, S...). By
/// default the stride is 1.
///
///     WindowDataset series("series.npy", 96);                                     //
///     TensorExamples WindowDataset tokens({"t_0.npy", "t_1.npy"}, 1024,
///                          WindowOptions().stride(1024).target(1, 1024));         // Examples
///     WindowDataset states("features.npy", "states.npy", 96);                     // Examples
///
/// A window does not cross the end of a shard, unless WindowOptions::across_shards() is set. The
/// target of a window is the same rows of a second array, or what WindowOptions::target() says. A
/// window that does not fit, or whose target does not fit, is not a sample.
///
/// A window is copied, and converted, as a whole, so its cost does not depend on how many rows it
/// has, but on how many bytes. key() names the file and the first row. A sample that cannot be read
/// is always an Error. verify() is that of ArrayDataset; lengths() are all `length`. Copies share
/// the mappings, and up to 256 MiB of memory for the next batches.
template <class E = Example<>>
class WindowDataset : public Dataset<E> {
 public:
  /// Windows without targets. Costs what an ArrayDataset costs. Throws Error: as ArrayDataset;
  /// InvalidArgument for a length or stride of less than 1, and for target_options() without a
  /// target; Mismatch if no window fits.
  WindowDataset(const ArrayData& data, std::int64_t length, const WindowOptions& options = {})
      : WindowDataset(data, nullptr, length, options, detail::make_pool()) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need target() or an array");
  }

  /// The target of a window is rows of the same array, as `options.target()` says. Throws Error:
  /// the same; InvalidArgument for rows() in target_options().
  WindowDataset(const ArrayData& data, std::int64_t length, const WindowPairOptions& options)
      : WindowDataset(data, nullptr, length, options, detail::make_pool()) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take no target()");
  }

  /// The target of a window is the same rows of another array. Throws Error: the same; Mismatch if
  /// the arrays have different lengths, and if a window would cross shards of the targets.
  WindowDataset(const ArrayData& data, const ArrayData& target, std::int64_t length,
                const WindowOptions& options = {})
      : WindowDataset(data, &target, length, options, detail::make_pool()) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take one array");
  }

  /// The target of a window is rows of another array, as `options.target()` says. Throws Error: the
  /// same.
  WindowDataset(const ArrayData& data, const ArrayData& target, std::int64_t length,
                const WindowPairOptions& options)
      : WindowDataset(data, &target, length, options, detail::make_pool()) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take one array");
  }

 private:
  using Rows = std::shared_ptr<const detail::ArrayRows>;

  /// `target` is null for targets in `data`.
  template <bool has_target>
  WindowDataset(const ArrayData& data, const ArrayData* target, std::int64_t length,
                const BasicWindowOptions<has_target>& options,
                const std::shared_ptr<detail::BufferPool>& pool)
      : Dataset<E>(make_source(data, target, length, options, pool)) {}

  template <bool has_target>
  static std::shared_ptr<const detail::WindowSource<E>> make_source(
      const ArrayData& data, const ArrayData* target, std::int64_t length,
      const BasicWindowOptions<has_target>& options,
      const std::shared_ptr<detail::BufferPool>& pool) {
    const bool frames = options.frames();
    Rows rows = data.internal_rows(options.data_options(), pool, frames);
    Rows target_rows;
    if (target != nullptr) {
      target_rows = target->internal_rows(options.target_options().value_or(LoadOptions()), pool,
                                          frames && target->internal_is_list());
    } else if (detail::kHasTarget<E>) {
      const auto own = detail::own_target_options(options.data_options(), options.target_options());
      target_rows = own ? data.internal_rows(*own, pool, frames) : rows;
    } else if (options.target_options()) {
      throw Error(ErrorCode::InvalidArgument,
                  "target_options() of windows without a target; target() sets one");
    }
    detail::Windows windows = detail::windows_of(*rows, target_rows.get(), length, options);
    return std::make_shared<const detail::WindowSource<E>>(std::move(rows), std::move(target_rows),
                                                           std::move(windows));
  }
};

WindowDataset(const ArrayData&, std::int64_t)->WindowDataset<TensorExample>;
WindowDataset(const ArrayData&, std::int64_t, const WindowOptions&)->WindowDataset<TensorExample>;
WindowDataset(const ArrayData&, std::int64_t, const WindowPairOptions&)->WindowDataset<Example<>>;
WindowDataset(const ArrayData&, const ArrayData&, std::int64_t)->WindowDataset<Example<>>;
WindowDataset(const ArrayData&, const ArrayData&, std::int64_t, const WindowOptions&)
    ->WindowDataset<Example<>>;
WindowDataset(const ArrayData&, const ArrayData&, std::int64_t, const WindowPairOptions&)
    ->WindowDataset<Example<>>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_WINDOW_DATASET_HPP_

#endif  // TORCH_NPY_NO_DATA
