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

#include <torch_npy/error.hpp>
#include <torch_npy/format/little_endian.hpp>
#include <torch_npy/format/signature.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/archive_bytes.hpp>
#include <torch_npy/zip/codec.hpp>
#include <torch_npy/zip/records.hpp>

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
    constexpr std::size_t kLargestEntry = kDirectoryEntrySize + std::size_t{3} * UINT16_MAX;
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
