#ifndef TORCH_NPY_FORMAT_LITERAL_HPP_
#define TORCH_NPY_FORMAT_LITERAL_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

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
