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

#include <torch_npy/format/little_endian.hpp>
#include <torch_npy/io/byte_sink.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/records.hpp>

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
