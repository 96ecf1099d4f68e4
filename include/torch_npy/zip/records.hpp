#ifndef TORCH_NPY_ZIP_RECORDS_HPP_
#define TORCH_NPY_ZIP_RECORDS_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/format/little_endian.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

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
