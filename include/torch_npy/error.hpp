#ifndef TORCH_NPY_ERROR_HPP_
#define TORCH_NPY_ERROR_HPP_

/// @file
/// The one exception type, and its codes.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <torch_npy/version.hpp>

namespace torch_npy {
inline namespace TORCH_NPY_VERSION_NAMESPACE {

/// What went wrong, for code that wants to act on it; `Error::what()` tells a person.
enum class ErrorCode {
  NotFound,            ///< no file of that name, or no array of that name in an archive
  Io,                  ///< the operating system refused: permission, disk, not a regular file
  Exhausted,           ///< the system has no descriptors or memory left, whatever the file
  NotNpy,              ///< the bytes do not start as a NumPy file does
  UnsupportedVersion,  ///< a format version other than 1.0, 2.0 and 3.0
  BadHeader,           ///< the header is not what the format allows
  UnsupportedDtype,    ///< a dtype that no tensor of this LibTorch holds, or that is refused
  Truncated,           ///< fewer bytes than the header promises
  TooLarge,            ///< over a limit of the caller's, of memory, or of what can be counted
  BadZip,              ///< the .npz container is damaged, or packed in a way that is not read
  Mismatch,            ///< the file is sound but not what was asked for (shape, dtype, range)
  InvalidArgument,     ///< the call itself cannot be carried out
};

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

}  // namespace detail

/// The one exception type of the library. Copying it does not throw. Read-only: safe from any
/// thread.
///
/// `what()` reads `<path>: <reason>`, without the path where there is none (streams, memory).
class Error : public std::runtime_error {
 public:
  /// `reason` is for a person, and goes into what() as it is; the path is made printable there.
  Error(ErrorCode code, const std::string& reason, std::uint64_t offset = 0,
        const std::filesystem::path& path = {})
      : std::runtime_error(path.empty() ? reason : detail::shown_path(path) + ": " + reason),
        where_(std::make_shared<const Where>(Where{path, reason})),
        code_(code),
        offset_(offset) {}

  // No moves: one that was moved from could not answer.

  /// Copies share path and reason. A move copies.
  Error(const Error&) = default;
  /// As the copy constructor.
  Error& operator=(const Error&) = default;

  /// What went wrong, for a program.
  ErrorCode code() const noexcept { return code_; }

  /// The file concerned; empty for streams and memory.
  const std::filesystem::path& path() const noexcept { return where_->path; }

  /// Byte of the file (or memory), counted from its start, at which the fault shows; 0 where it is
  /// about none in particular. Of an array in a stream or an archive: counted from the array's own
  /// start. Of an archive itself (BadZip), and where the system fails to read one (Io): from the
  /// archive's.
  std::uint64_t offset() const noexcept { return offset_; }

  /// The same error, about `path`. What parses bytes does not know where they came from; whoever
  /// opened the file adds it.
  Error at(const std::filesystem::path& path) const {
    return Error(code_, where_->reason, offset_, path);
  }

  /// The same error, about `part` of what the path names, a member of an archive or a field:
  /// `what()` reads `<path>: <part>: <reason>`.
  Error within(const std::string& part) const {
    return Error(code_, part + ": " + where_->reason, offset_, where_->path);
  }

 private:
  struct Where {
    std::filesystem::path path;
    std::string reason;
  };

  std::shared_ptr<const Where> where_;  // shared, so that copying cannot throw
  ErrorCode code_;
  std::uint64_t offset_;
};

namespace detail {

/// Calls `work`; an Error that has no path yet leaves as one about `path`.
template <class Work>
auto with_path(const std::filesystem::path& path, Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const Error& error) {
    if (!error.path().empty()) throw;
    throw error.at(path);
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
}  // namespace TORCH_NPY_VERSION_NAMESPACE
}  // namespace torch_npy

#endif  // TORCH_NPY_ERROR_HPP_
