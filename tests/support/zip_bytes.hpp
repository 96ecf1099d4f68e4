#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <torch_npy/zip/codec.hpp>

/// ZIP archives as bytes, written field by field without the library, so that each field can be
/// wrong.

inline std::string little(std::uint64_t value, int size) {
  std::string out;
  for (; size-- > 0; value >>= 8) out += static_cast<char>(value & 0xff);
  return out;
}

inline std::uint32_t crc_of(const std::string& data) {
  static const std::vector<std::uint32_t> table = [] {
    std::vector<std::uint32_t> of_byte(256);
    for (std::uint32_t byte = 0; byte < 256; ++byte) {
      std::uint32_t crc = byte;
      for (int i = 0; i < 8; ++i) crc = (crc & 1) != 0 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
      of_byte[byte] = crc;
    }
    return of_byte;
  }();
  std::uint32_t crc = 0xffffffff;
  for (const char c : data) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

inline bool has_deflate() { return torch_npy::detail::zip_codec().load()->deflate != nullptr; }

inline std::string deflated(const std::string& data) {
  return torch_npy::detail::zip_codec().load()->deflate(data.data(), data.size());
}

struct ZipHeader {
  std::uint16_t version = 20;
  std::uint16_t flags = 0;
  std::uint16_t method = 0;
  std::uint32_t crc = 0;
  std::uint64_t packed = 0;
  std::uint64_t size = 0;
  std::string name;
  std::string extra;

  std::string text() const {
    return little(version, 2) + little(flags, 2) + little(method, 2) + little(0x210000, 4) +
           little(crc, 4) + little(packed, 4) + little(size, 4) + little(name.size(), 2) +
           little(extra.size(), 2);
  }
};

struct ZipPart {
  ZipHeader local;
  ZipHeader central;
  std::string bytes;  ///< packed
  std::string after;  ///< between it and the next, such as a data descriptor
  std::uint64_t offset = UINT64_MAX;
  bool is_listed = true;

  static ZipPart stored(const std::string& name, const std::string& data) {
    ZipPart part;
    part.local.name = name;
    part.local.crc = crc_of(data);
    part.local.packed = part.local.size = data.size();
    part.central = part.local;
    part.bytes = data;
    return part;
  }

  static ZipPart packed(const std::string& name, const std::string& data) {
    ZipPart part = stored(name, data);
    part.bytes = deflated(data);
    for (ZipHeader* header : {&part.local, &part.central}) {
      header->method = 8;
      header->packed = part.bytes.size();
    }
    return part;
  }

  void both(const std::function<void(ZipHeader&)>& change) {
    change(local);
    change(central);
  }
};

struct ZipEnd {
  std::uint64_t disk = 0;
  std::uint64_t count = 0;
  std::uint64_t count_here = 0;
  std::uint64_t size = 0;
  std::uint64_t offset = 0;
  std::string comment;
  std::string
      before;  ///< between the directory and its end record, such as the end record of zip64
};

inline std::string zip(
    std::vector<ZipPart> parts, const std::function<void(ZipEnd&)>& change = [](ZipEnd&) {}) {
  std::string out;
  std::string directory;
  ZipEnd end;
  for (ZipPart& part : parts) {
    if (part.offset == UINT64_MAX) part.offset = out.size();
    out += "PK\x03\x04" + part.local.text() + part.local.name + part.local.extra + part.bytes +
           part.after;
    if (!part.is_listed) continue;
    directory += "PK\x01\x02" + little(20, 2) + part.central.text() + little(0, 10) +
                 little(part.offset, 4) + part.central.name + part.central.extra;
    ++end.count;
  }
  end.count_here = end.count;
  end.size = directory.size();
  end.offset = out.size();
  change(end);
  return out + directory + end.before + "PK\x05\x06" + little(end.disk, 2) + little(end.disk, 2) +
         little(end.count_here, 2) + little(end.count, 2) + little(end.size, 4) +
         little(end.offset, 4) + little(end.comment.size(), 2) + end.comment;
}
