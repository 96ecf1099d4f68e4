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

#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/zip/records.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

inline void put_little_endian(std::string& out, std::uint64_t value, std::size_t size) {
  for (; size-- > 0; value >>= 8) out += static_cast<char>(value & 0xff);
}

/// Writes an archive, one member after another.
class ZipWriter {
 public:
  /// Numbers from `zip64_from` on are written as zip64 has it; tests take a small one.
  explicit ZipWriter(AtomicFile& file, std::uint64_t zip64_from = UINT32_MAX)
      : file_(file), zip64_from_(zip64_from) {}

  /// Adds the member that `member` describes, all but its place, whose packed bytes are `parts` one
  /// after another. Those begin at a multiple of 64 bytes, so that a stored array can be mapped.
  void add(ZipMember member, std::initializer_list<std::string_view> parts) {
    constexpr std::uint64_t kAlignment = 64;
    // What Android's zipalign marks its padding with: the alignment, and zeros.
    constexpr std::uint16_t kPaddingField = 0xd935;
    constexpr std::size_t kPaddingFieldSize = 6;
    member.offset = written_;
    member.flags = is_ascii(member.name) ? 0 : kUtf8Flag;
    std::string extra;
    std::string sizes;
    if (is_large(member.size) || is_large(member.packed)) {
      // In a local header both sizes stand in the zip64 field, or none.
      put_little_endian(extra, kZip64Field, 2);
      put_little_endian(extra, 16, 2);
      put_little_endian(extra, member.size, 8);
      put_little_endian(extra, member.packed, 8);
      sizes.assign(8, '\xff');
    } else {
      put_little_endian(sizes, member.packed, 4);
      put_little_endian(sizes, member.size, 4);
    }
    const std::uint64_t begin = written_ + kLocalHeaderSize + member.name.size() + extra.size();
    if (begin % kAlignment != 0) {
      const std::uint64_t gap = kAlignment - (begin + kPaddingFieldSize) % kAlignment;
      put_little_endian(extra, kPaddingField, 2);
      put_little_endian(extra, 2 + gap % kAlignment, 2);
      put_little_endian(extra, kAlignment, 2);
      extra.append(gap % kAlignment, '\0');
    }
    std::string header;
    put_little_endian(header, kLocalHeader, 4);
    put_common(header, member);
    header += sizes;
    put_little_endian(header, member.name.size(), 2);
    put_little_endian(header, extra.size(), 2);
    write(header + member.name + extra);
    for (const std::string_view part : parts) write(part);
    members_.push_back(std::move(member));
  }

  /// Writes the directory.
  void finish() {
    const std::uint64_t offset = written_;
    for (const ZipMember& member : members_) put_entry(member);
    const std::uint64_t size = written_ - offset;
    const std::uint64_t count = members_.size();
    const bool many = count >= UINT16_MAX || is_large(count);
    if (many || is_large(size) || is_large(offset)) put_end64(offset, size, count);
    std::string end;
    put_little_endian(end, kDirectoryEnd, 4);
    put_little_endian(end, 0, 4);  // disks
    put_little_endian(end, many ? UINT16_MAX : count, 2);
    put_little_endian(end, many ? UINT16_MAX : count, 2);
    put_little_endian(end, is_large(size) ? UINT32_MAX : size, 4);
    put_little_endian(end, is_large(offset) ? UINT32_MAX : offset, 4);
    put_little_endian(end, 0, 2);  // comment
    write(end);
  }

 private:
  static bool is_ascii(const std::string& text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
  }

  bool is_large(std::uint64_t number) const { return number >= zip64_from_; }

  void write(std::string_view bytes) {
    file_.write(bytes.data(), bytes.size());
    written_ += bytes.size();
  }

  /// What a local header and an entry of the directory share, up to the sizes. The time is that of
  /// NumPy's archives, the first that zip knows: equal arrays give equal files.
  static void put_common(std::string& out, const ZipMember& member) {
    constexpr std::uint32_t kNoTime = 1 << 21 | 1 << 16;  // 1980-01-01 00:00
    constexpr std::uint16_t kVersionWithZip64 = 45;
    put_little_endian(out, kVersionWithZip64, 2);
    put_little_endian(out, member.flags, 2);
    put_little_endian(out, member.method, 2);
    put_little_endian(out, kNoTime, 4);
    put_little_endian(out, member.crc, 4);
  }

  void put_entry(const ZipMember& member) {
    std::string extra;
    std::string entry;
    const auto number = [&](std::uint64_t value) {
      if (is_large(value)) put_little_endian(extra, value, 8);
      return is_large(value) ? UINT32_MAX : value;
    };
    put_little_endian(entry, kDirectoryEntry, 4);
    constexpr std::uint16_t kMadeOnUnix = 3 << 8 | 45;
    put_little_endian(entry, kMadeOnUnix, 2);
    put_common(entry, member);
    // The zip64 field has the unpacked size first.
    const std::uint64_t size = number(member.size);
    put_little_endian(entry, number(member.packed), 4);
    put_little_endian(entry, size, 4);
    put_little_endian(entry, member.name.size(), 2);
    const std::uint64_t offset = number(member.offset);
    put_little_endian(entry, extra.empty() ? 0 : 4 + extra.size(), 2);
    put_little_endian(entry, 0, 6);  // comment, disk, internal attributes
    constexpr std::uint32_t kReadableFile = 0100644u << 16;
    put_little_endian(entry, kReadableFile, 4);
    put_little_endian(entry, offset, 4);
    entry += member.name;
    if (!extra.empty()) {
      put_little_endian(entry, kZip64Field, 2);
      put_little_endian(entry, extra.size(), 2);
      entry += extra;
    }
    write(entry);
  }

  void put_end64(std::uint64_t offset, std::uint64_t size, std::uint64_t count) {
    std::string end;
    put_little_endian(end, kDirectoryEnd64, 4);
    put_little_endian(end, kDirectoryEnd64Size - 12, 8);
    put_little_endian(end, 45, 2);  // made by, needed
    put_little_endian(end, 45, 2);
    put_little_endian(end, 0, 8);  // disks
    put_little_endian(end, count, 8);
    put_little_endian(end, count, 8);
    put_little_endian(end, size, 8);
    put_little_endian(end, offset, 8);
    const std::uint64_t at = written_;
    put_little_endian(end, kDirectoryEnd64Locator, 4);
    put_little_endian(end, 0, 4);
    put_little_endian(end, at, 8);
    put_little_endian(end, 1, 4);
    write(end);
  }

  AtomicFile& file_;
  std::uint64_t zip64_from_;
  std::uint64_t written_ = 0;
  std::vector<ZipMember> members_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_WRITER_HPP_
