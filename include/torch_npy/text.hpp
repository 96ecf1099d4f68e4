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

#include <torch_npy/version.hpp>

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

/// A path with "/" between folders, as a name of what it is the path of. A URI as it is:
/// generic_string() would remove one of its slashes.
inline std::string name_of(const std::filesystem::path& path) {
  std::string name = path.string();
  return name.find("://") == name.npos ? path.generic_string() : name;
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

/// A number for a text: FNV-1a of 64 bits, the same on every platform.
inline std::uint64_t hash_of(std::string_view text) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
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
