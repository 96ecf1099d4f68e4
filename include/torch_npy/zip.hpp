#ifndef TORCH_NPY_ZIP_HPP_
#define TORCH_NPY_ZIP_HPP_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/file.hpp>
#include <torch_npy/literal.hpp>

// The zip container of .npz files, as PKWARE's APPNOTE.TXT 6.3 describes it, read and written as
// far as NumPy and Python's zipfile do: members stored or deflated, zip64, data descriptors. The
// directory at the end of an archive is held against the file, and what stands before a member
// against the directory: an archive that contradicts itself is refused, for two readers would find
// two different things in it.

namespace torch_npy::detail {

// ---- Bytes

/// An unsigned number of `size` bytes, little endian.
inline std::uint64_t little_endian(const unsigned char* bytes, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

inline void put_little_endian(std::string& out, std::uint64_t value, std::size_t size) {
  for (; size-- > 0; value >>= 8) out += static_cast<char>(value & 0xff);
}

/// Takes fields one after another off the front of some bytes.
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
constexpr std::uint16_t kDescriptorFlag = 1 << 3;  // CRC and sizes come behind the data
constexpr std::uint16_t kUtf8Flag = 1 << 11;

constexpr int kNewestVersion = 63;  // 6.3

// ---- Codec

/// CRC-32 by tables, 16 bytes at a time. LibTorch exports none, and stored archives are to work
/// with LibTorch alone. On one processor 4 GB/s (with 8 tables 2.4); libdeflate does 14.
struct CrcTables {
  static constexpr std::size_t kCount = 16;
  std::array<std::array<std::uint32_t, 256>, kCount> of{};

  constexpr CrcTables() {
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

inline constexpr CrcTables kCrcTables;

/// One step: the bytes at `at`, of which the first four carry what came before.
template <std::size_t... I>
std::uint32_t crc32_step(std::uint32_t crc, const unsigned char* at, std::index_sequence<I...>) {
  return (kCrcTables.of[sizeof...(I) - 1 - I][at[I] ^ (I < 4 ? crc >> 8 * (I % 4) & 0xff : 0)] ^
          ...);
}

inline std::uint32_t crc32_by_tables(std::uint32_t crc, const void* data, std::size_t size) {
  constexpr std::size_t kStep = CrcTables::kCount;
  const auto* at = static_cast<const unsigned char*>(data);
  crc = ~crc;
  for (; size >= kStep; at += kStep, size -= kStep) {
    crc = crc32_step(crc, at, std::make_index_sequence<kStep>());
  }
  for (; size != 0; ++at, --size) crc = crc >> 8 ^ kCrcTables.of[0][(crc ^ *at) & 0xff];
  return ~crc;
}

/// What a deflate stream gave.
enum class Inflated { Whole, TooMuch, Damaged };

/// The algorithms of zip. Without libdeflate there is a CRC, for stored members, and nothing else.
struct ZipCodec {
  /// Goes on from `crc`, which is 0 at first.
  std::uint32_t (*crc32)(std::uint32_t crc, const void* data, std::size_t size);
  /// Fills `out` from a deflate stream; in_size and out_size become what was used of them. TooMuch:
  /// the stream has more than `out` takes.
  Inflated (*inflate)(const void* in, std::size_t& in_size, void* out, std::size_t& out_size);
  /// A deflate stream of `size` bytes at `data`; empty where it would not be smaller.
  std::string (*deflate)(const void* data, std::size_t size);
};

/// deflate.hpp puts libdeflate's here. Whoever includes it does so for the whole program: source
/// files compiled with and without it may meet in one.
inline std::atomic<const ZipCodec*>& zip_codec() {
  static constexpr ZipCodec without_libdeflate{&crc32_by_tables, nullptr, nullptr};
  static std::atomic<const ZipCodec*> codec{&without_libdeflate};
  return codec;
}

[[noreturn]] inline void throw_no_deflate() {
  throw Error(ErrorCode::InvalidArgument,
              "this program is built without libdeflate: link torch_npy::npz, or define "
              "TORCH_NPY_WITH_LIBDEFLATE and link libdeflate");
}

// ---- Reading

/// One member, as the directory has it.
struct ZipMember {
  std::string name;  ///< UTF-8
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint32_t crc = 0;
  std::uint64_t packed = 0;  ///< bytes in the archive
  std::uint64_t size = 0;    ///< bytes unpacked
  std::uint64_t offset = 0;  ///< of its local header
  std::uint64_t limit = 0;   ///< where the next member, or the directory, begins

  std::string label() const { return "member " + shown(name); }
};

inline Error bad_zip(const std::string& reason, std::uint64_t offset = 0) {
  return Error(ErrorCode::BadZip, reason, offset);
}

inline Error bad_archive(const std::string& reason, std::uint64_t offset = 0) {
  return bad_zip("bad archive: " + reason, offset);
}

/// Why no member can have this name; empty where one can. Names are never used as paths here, but
/// programs do that.
inline std::string fault_of_name(const std::string& name) {
  if (name.empty()) return "it is empty";
  if (name.size() > UINT16_MAX) return "it is longer than 65535 bytes";
  if (name.find('\0') != name.npos) return shown(name) + " holds a zero byte";
  for (std::string_view left = name; !left.empty();) {
    if (take_utf8(left) == kNoCharacter) return shown(name) + " is not UTF-8";
  }
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = (std::min)(name.find_first_of("/\\", begin), name.size());
    if (name.compare(begin, end - begin, "..") == 0)
      return shown(name) + " leads out of its folder";
    begin = end + 1;
  }
  return {};
}

/// A member's name in UTF-8. Without the flag for that it is in the code page of the first PCs.
inline std::string zip_name(std::string_view bytes, std::uint16_t flags) {
  static constexpr char16_t kCodePage437[] =
      u"ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌"
      u"█▄▌▐▀"
      u"αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";
  static_assert(sizeof kCodePage437 == 129 * sizeof(char16_t));
  if ((flags & kUtf8Flag) != 0) return std::string(bytes);
  std::string name;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    append_utf8(name, byte < 0x80 ? byte : kCodePage437[byte - 0x80]);
  }
  return name;
}

/// Calls `take(id, fields)` for each extra field. A tail too short to be one means nothing.
template <class Take>
void for_each_extra_field(std::string_view extra, const Take& take) {
  ZipFields fields(extra.data(), extra.size());
  while (fields.left() >= 4) {
    const std::uint16_t id = fields.u16();
    const std::uint16_t size = fields.u16();
    if (size > fields.left()) throw bad_zip("an extra field is longer than all of them");
    const std::string_view data = fields.text(size);
    take(id, ZipFields(data.data(), data.size()));
  }
}

/// Puts the 64-bit numbers of a zip64 field in the place of those that say that they are there.
/// They come in the order of `numbers`, and only those.
inline void read_zip64(std::string_view extra, std::initializer_list<std::uint64_t*> numbers) {
  for_each_extra_field(extra, [&](std::uint16_t id, ZipFields fields) {
    if (id != kZip64Field) return;
    for (std::uint64_t* number : numbers) {
      if (*number == UINT32_MAX) *number = fields.u64();
    }
  });
}

/// An archive, open for reading. Its directory is read once and held against itself; reading
/// members from several threads at once is fine.
class ZipArchive {
 public:
  /// Throws Error (NotFound, Io, NotNpy, BadZip) without a path.
  explicit ZipArchive(const std::filesystem::path& path) : file_(path) {
    const std::uint64_t size = file_.size();
    const Directory directory = find_directory(size);
    if (directory.size > SIZE_MAX) throw bad_archive("a directory larger than memory");
    std::string bytes(static_cast<std::size_t>(directory.size), '\0');
    file_.read(bytes.data(), bytes.size(), directory.offset);
    ZipFields fields(bytes.data(), bytes.size());
    while (fields.left() != 0) {
      members_.push_back(read_entry(fields, directory.offset + (bytes.size() - fields.left())));
    }
    if (members_.size() != directory.count) {
      throw bad_archive("the directory has " + counted(members_.size(), "member") +
                        ", its end says " + std::to_string(directory.count));
    }
    find_limits(directory.offset);
    reject_double_names();
  }

  /// In the order of the directory.
  const std::vector<ZipMember>& members() const noexcept { return members_; }

  // What goes wrong from here on is an Error without the member's name, which the caller adds.

  /// The bytes of a member as they stand in the archive. What stands before them has to agree with
  /// the directory. Throws Error (BadZip).
  FilePart packed(const ZipMember& member) const {
    const auto refuse = [&](const std::string& reason) { return bad_zip(reason, member.offset); };
    if ((member.flags & kEncryptedFlags) != 0) throw refuse("it is encrypted, which is not read");
    if (member.method != kStored && member.method != kDeflated) {
      throw refuse("it is packed by method " + std::to_string(member.method) +
                   ": 0 (stored) and 8 (deflated) are read");
    }
    const std::string at = " at byte " + std::to_string(member.offset);
    unsigned char bytes[kLocalHeaderSize];
    file_.read(bytes, sizeof bytes, member.offset);
    ZipFields fields(bytes, sizeof bytes);
    if (fields.u32() != kLocalHeader) throw refuse("there is no header" + at);
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
      throw refuse("its header and data reach past byte " + std::to_string(member.limit) +
                   ", where what follows begins");
    }
    std::string rest(std::size_t{name_size} + extra_size, '\0');
    file_.read(rest.data(), rest.size(), member.offset + kLocalHeaderSize);
    const std::string_view extra = std::string_view(rest).substr(name_size);
    read_zip64(extra, {&size, &packed});
    const bool named_alike = zip_name({rest.data(), name_size}, flags) == member.name;
    // What is written before the sizes are known has zeros here, and the numbers behind the data.
    const bool later = (flags & kDescriptorFlag) != 0;
    const auto agrees = [&](std::uint64_t here, std::uint64_t there) {
      return here == there || (later && here == 0);
    };
    if (!named_alike || method != member.method ||
        ((flags ^ member.flags) & kEncryptedFlags) != 0 || !agrees(crc, member.crc) ||
        !agrees(packed, member.packed) || !agrees(size, member.size)) {
      throw refuse("its header" + at + " and the directory contradict each other in " +
                   (!named_alike               ? "its name"
                    : method != member.method  ? "its method"
                    : !agrees(crc, member.crc) ? "its CRC"
                                               : "its size"));
    }
    // Deflate can't do better than a match of 258 bytes in 2 bits.
    constexpr std::uint64_t kMostRatio = 1032;
    if (member.size / kMostRatio > member.packed) {
      throw refuse("it is said to unpack from " + std::to_string(member.packed) + " to " +
                   counted(member.size, "byte") + ", which deflate cannot do");
    }
    return FilePart(file_, begin, member.packed);
  }

  /// Unpacks a deflated member into `out`, which takes member.size bytes. Throws Error (BadZip)
  /// that names the member, also for a wrong CRC.
  void inflate(const ZipMember& member, void* out) const {
    const FilePart part = packed(member);
    if (inflate_part(part, member.packed, out, member.size) != Inflated::Whole) {
      throw bad_zip("the deflate stream is damaged, or does not unpack to the " +
                        counted(member.size, "byte") + " that are promised",
                    part.begin());
    }
    require_crc(member, zip_codec().load()->crc32(0, out, static_cast<std::size_t>(member.size)));
  }

  static void require_crc(const ZipMember& member, std::uint32_t crc) {
    if (crc == member.crc) return;
    throw bad_zip("its bytes are not those that were stored: their CRC-32 is " +
                      std::to_string(crc) + " instead of " + std::to_string(member.crc),
                  member.offset);
  }

  /// The first bytes of a member: `most` of them, or all there are. Their CRC is not known.
  std::string start(const ZipMember& member, std::size_t most) const {
    const FilePart part = packed(member);
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(most, member.size));
    std::string out(size, '\0');
    if (member.method == kStored) {
      part.read(out.data(), size, 0);
      return out;
    }
    // libdeflate unpacks whole streams; where there is no room it stops at the match that does not
    // fit. It does not promise that: bytes that were not touched are no answer.
    constexpr std::size_t kLongestMatch = 258;
    std::string some(size + kLongestMatch, '\0');
    const std::uint64_t input = std::min<std::uint64_t>(member.packed, 4 * some.size());
    if (some.size() < member.size &&
        inflate_part(part, input, some.data(), some.size()) == Inflated::TooMuch &&
        some.find_first_not_of('\0') < size) {
      return some.substr(0, size);
    }
    some.resize(static_cast<std::size_t>(member.size));
    inflate(member, some.data());
    return some.substr(0, size);
  }

 private:
  struct Directory {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint64_t count = 0;
  };

  Directory find_directory(std::uint64_t size) const {
    unsigned char start[4] = {};
    const std::size_t got = file_.read_some(start, sizeof start, 0);
    const std::uint64_t signature = little_endian(start, sizeof start);
    if (got != sizeof start || (signature != kLocalHeader && signature != kDirectoryEnd)) {
      throw Error(ErrorCode::NotNpy, "not an .npz archive: it starts with " +
                                         shown({reinterpret_cast<const char*>(start), got}) +
                                         " instead of \"PK\\x03\\x04\"" +
                                         (start[0] == 0x93 ? "; load() reads .npy files" : ""));
    }
    // A comment of up to 65,535 bytes may follow the end record.
    const std::uint64_t tail_size = (std::min)(size, std::uint64_t{kDirectoryEndSize + UINT16_MAX});
    const std::uint64_t tail_begin = size - tail_size;
    std::string tail(static_cast<std::size_t>(tail_size), '\0');
    file_.read(tail.data(), tail.size(), tail_begin);
    const std::size_t found = find_end_record(tail);
    if (found == tail.npos) {
      throw bad_archive("the record at its end is missing: the file is cut short", size);
    }
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
    if (!one_disk || count_here != directory.count) {
      throw several_parts(end_offset);
    }
    if (directory.offset > directory_end || directory.size != directory_end - directory.offset) {
      throw bad_archive("its end says that the directory has " + counted(directory.size, "byte") +
                            " from byte " + std::to_string(directory.offset) +
                            " on, but that end is at byte " + std::to_string(directory_end),
                        end_offset);
    }
    return directory;
  }

  static Error several_parts(std::uint64_t offset) {
    return bad_archive("it is one of several parts, which are not read", offset);
  }

  /// Python's zipfile looks first where it stands without a comment, then for the last signature.
  static std::size_t find_end_record(const std::string& tail) {
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

  /// The end record of zip64, where there is one, has the numbers that the other has no room for.
  void read_end64(std::uint64_t end_offset, Directory& directory, std::uint64_t& count_here,
                  std::uint64_t& directory_end) const {
    unsigned char bytes[kDirectoryEnd64Size];
    if (end_offset < kDirectoryEnd64LocatorSize) return;
    const std::uint64_t locator_offset = end_offset - kDirectoryEnd64LocatorSize;
    file_.read(bytes, kDirectoryEnd64LocatorSize, locator_offset);
    ZipFields locator(bytes, kDirectoryEnd64LocatorSize);
    if (locator.u32() != kDirectoryEnd64Locator) return;
    const std::uint32_t directory_disk = locator.u32();
    directory_end = locator.u64();
    if (directory_disk != 0 || locator.u32() > 1) throw several_parts(locator_offset);
    if (directory_end > locator_offset || locator_offset - directory_end < kDirectoryEnd64Size) {
      throw bad_archive(
          "the zip64 end record is said to be at byte " + std::to_string(directory_end),
          locator_offset);
    }
    file_.read(bytes, kDirectoryEnd64Size, directory_end);
    ZipFields end(bytes, kDirectoryEnd64Size);
    const bool is_one = end.u32() == kDirectoryEnd64;
    if (!is_one || end.u64() != locator_offset - directory_end - 12) {
      throw bad_archive("there is no zip64 end record where it is said to be", directory_end);
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
      throw bad_zip(
          "no member where the directory has the next one, at byte " + std::to_string(offset),
          offset);
    }
    (void)fields.u16();  // made by
    const int version = fields.u16() & 0xff;
    ZipMember member;
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
    try {
      read_zip64(fields.text(extra_size), {&member.size, &member.packed, &member.offset});
      (void)fields.text(comment_size);
      if (version > kNewestVersion) {
        throw bad_zip("it takes version " + std::to_string(version / 10) + "." +
                      std::to_string(version % 10) + " of the zip format to unpack");
      }
      if (member.method == kStored && member.packed != member.size) {
        throw bad_zip("it is stored, and still has " + std::to_string(member.packed) + " and " +
                      counted(member.size, "byte"));
      }
    } catch (const Error& error) {
      throw error.within(member.label());
    }
    return member;
  }

  /// Members do not overlap: else a small file could hold any amount of data.
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
        throw bad_zip(counted(member->packed, "byte") + " from byte " +
                          std::to_string(member->offset) + " on, but what follows is at byte " +
                          std::to_string(limit),
                      member->offset)
            .within(member->label());
      }
      limit = member->offset;
    }
  }

  void reject_double_names() const {
    std::vector<std::string_view> names;
    for (const ZipMember& member : members_) names.push_back(member.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) throw bad_archive("two members have the name " + shown(*twice));
  }

  static Inflated inflate_part(const FilePart& part, std::uint64_t packed, void* out,
                               std::uint64_t size) {
    const ZipCodec& codec = *zip_codec().load();
    if (codec.inflate == nullptr) throw_no_deflate();
    auto in_size = static_cast<std::size_t>(packed);
    auto out_size = static_cast<std::size_t>(size);
    const std::unique_ptr<unsigned char[]> in(new unsigned char[in_size]);
    part.read(in.get(), in_size, 0);
    const Inflated result = codec.inflate(in.get(), in_size, out, out_size);
    if (result == Inflated::Whole && (in_size != packed || out_size != size)) {
      return Inflated::Damaged;
    }
    return result;
  }

  File file_;
  std::vector<ZipMember> members_;
};

// ---- Writing

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

}  // namespace torch_npy::detail

#endif  // TORCH_NPY_ZIP_HPP_
