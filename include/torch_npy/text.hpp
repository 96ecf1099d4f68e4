#ifndef TORCH_NPY_TEXT_HPP_
#define TORCH_NPY_TEXT_HPP_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

#include <torch_npy/version.hpp>

// Text for messages, and UTF-8.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

constexpr std::uint32_t kNoCharacter = 0xffffffff;

/// Takes the code point at the front of `text`; kNoCharacter where the bytes are not UTF-8.
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

/// Whether a terminal may be shown a character: none that controls it, or turns the direction of
/// writing.
inline bool is_printable(std::uint32_t code) {
  const bool is_control = code < 0x20 || (code >= 0x7f && code < 0xa0);
  const bool turns = code == 0x061c || code == 0x200e || code == 0x200f ||
                     (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
  return !is_control && !turns && code != kNoCharacter;
}

/// Text, UTF-8 mostly, as it may be shown on a terminal: what is not printable, or no UTF-8, as
/// \xNN; with `ascii` all that is not ASCII, too.
inline std::string escaped(std::string_view text, bool ascii = false) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  while (!text.empty()) {
    std::string_view rest = text;
    const std::uint32_t code = take_utf8(rest);
    if (code == kNoCharacter) rest.remove_prefix(1);
    const std::string_view bytes = text.substr(0, text.size() - rest.size());
    text = rest;
    if (is_printable(code) && (!ascii || code < 0x80)) {
      out += bytes;
      continue;
    }
    for (const char c : bytes) {
      const auto byte = static_cast<unsigned char>(c);
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

/// A path as it may be shown on a terminal.
inline std::string shown_path(const std::filesystem::path& path) {
  try {
    const auto bytes = path.u8string();  // std::string or, from C++20 on, std::u8string
    return escaped({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  } catch (const std::system_error&) {
    return "a path that is no Unicode";  // which Windows allows
  }
}

/// Bytes of a file as they may be shown on a terminal: quoted, at most `most` of them, in ASCII.
inline std::string shown(std::string_view bytes, std::size_t most = 60) {
  return '"' + escaped(bytes.substr(0, most), /*ascii=*/true) +
         (bytes.size() > most ? "...\"" : "\"");
}

/// A name, which is UTF-8, in quotes.
inline std::string in_quotes(std::string_view name) {
  constexpr std::size_t kMost = 200;
  return name.size() > kMost ? shown(name) : '"' + escaped(name) + '"';
}

inline std::string counted(std::uint64_t count, const char* noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TEXT_HPP_
