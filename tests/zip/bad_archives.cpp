// Archives that are refused.

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

struct BadArchive {
  const char* name;
  std::string bytes;
  const char* words;
  bool opens = false;  ///< the Error is thrown when the array is loaded
  ErrorCode code = ErrorCode::BadZip;
};

std::vector<BadArchive> bad_archives() {
  const std::string array = floats(3, 4);
  const ZipPart good = ZipPart::stored("a.npy", array);
  const ZipPart second = ZipPart::stored("b.npy", array);
  const auto with = [&](auto change) {
    ZipPart part = good;
    change(part);
    return zip({part, second});
  };
  const auto central = [&](auto change) {
    return with([&](ZipPart& part) { change(part.central); });
  };
  const auto local = [&](auto change) { return with([&](ZipPart& part) { change(part.local); }); };
  const auto named = [&](const std::string& name, std::uint16_t flags = 0) {
    return with([&](ZipPart& part) {
      part.both([&](ZipHeader& header) {
        header.name = name;
        header.flags = flags;
      });
    });
  };
  const auto end = [&](auto change) { return zip({good, second}, change); };
  const auto poked = [&](std::size_t at, int byte) {
    std::string bytes = zip({good, second});
    bytes[at] = static_cast<char>(byte);
    return bytes;
  };
  std::vector<BadArchive> bad{
      {"no end", "PK\x03\x04 and nothing else that would make it an archive", "cut short"},
      {"a gzip file", "\x1f\x8b\x08 and so on", "gzip file: unpack it first", false,
       ErrorCode::NotNpy},
      {"an HTML page", std::string(200, ' ') + "<!DOCTYPE html>", "an HTML or XML page", false,
       ErrorCode::NotNpy},
      {"a file of three bytes", "BZh", "it starts with \"BZh\" instead of", false,
       ErrorCode::NotNpy},
      {"text after the end", zip({good}) + std::string(70000, 'x'), "cut short"},
      {"half an end record after the end", zip({good}) + "PK\x05\x06 and no more", "cut short"},
      {"comment cut short",
       [&] {
         const std::string bytes = end([](ZipEnd& e) { e.comment = "hello"; });
         return bytes.substr(0, bytes.size() - 1);
       }(),
       "its comment is cut short"},
      {"bytes before the first member", "PK\x03\x04" + zip({good}), "but is itself at byte"},
      {"directory offset", end([](ZipEnd& e) { --e.offset; }), "but is itself at byte"},
      {"directory past the end", end([](ZipEnd& e) { e.offset = 0xfffffff0; }),
       "from byte 4294967280 on"},
      {"directory size", end([](ZipEnd& e) { e.size += 4; }), "but is itself at byte"},
      {"count", end([](ZipEnd& e) { e.count = e.count_here = 3; }),
       "2 members, its end record declares 3"},
      {"no members said", end([](ZipEnd& e) { e.count = e.count_here = 0; }),
       "its end record declares 0"},
      {"several disks", end([](ZipEnd& e) { e.disk = 1; }), "multi-part"},
      {"counts differ", end([](ZipEnd& e) { e.count_here = 1; }), "multi-part"},
      {"zip64 end elsewhere",
       end([](ZipEnd& e) { e.before = "PK\x06\x07" + little(0, 4) + little(1, 8) + little(1, 4); }),
       "no zip64 end record at byte 1"},
      {"zip64 end far away", end([](ZipEnd& e) {
         e.before = "PK\x06\x07" + little(0, 4) + little(UINT64_MAX, 8) + little(1, 4);
       }),
       "cannot be at byte 18446744073709551615"},
      {"zip64 end on another disk",
       end([](ZipEnd& e) { e.before = "PK\x06\x07" + little(1, 4) + little(1, 8) + little(1, 4); }),
       "multi-part"},
      {"zip64 of two disks",
       end([](ZipEnd& e) { e.before = "PK\x06\x07" + little(0, 4) + little(1, 8) + little(2, 4); }),
       "multi-part"},
      {"a future version", central([](ZipHeader& h) { h.version = 64; }),
       "member \"a.npy\": unpacking it needs version 6.4"},
      {"two ends", end([](ZipEnd& e) {
         e.before = "PK\x06\x06" + little(44, 8) + little(0, 12) + little(2, 8) + little(2, 8) +
                    little(e.size, 8) + little(e.offset + 1, 8) + "PK\x06\x07" + little(0, 4) +
                    little(e.offset + e.size, 8) + little(1, 4);
       }),
       "contradict each other"},
      {"empty name", named(""), "it is empty"},
      {"..", named(".."), "leads out"},
      {"../a", named("../a.npy"), "leads out of its folder"},
      {"a/../b", named("a/../b.npy"), "leads out"},
      {".. before an ending", named("a/...npy"), "leads out"},
      {"a\\..\\b", named("a\\..\\b.npy"), "leads out"},
      {"zero byte", named(std::string("a\0b.npy", 7)), "zero byte"},
      {"no UTF-8", named("\xff.npy", 1 << 11), "not UTF-8"},
      {"the same name twice", named("b.npy"), "two members have the name \"b.npy\""},
      {"two arrays of one name", named("b"), "two arrays have the name \"b\""},
      {"extra field too long",
       central([](ZipHeader& h) { h.extra = little(9, 2) + little(5, 2) + "1234"; }),
       "member \"a.npy\": an extra field reaches past"},
      {"zip64 field too short", central([&](ZipHeader& h) {
         h.packed = h.size = 0xffffffff;
         h.extra = little(1, 2) + little(8, 2) + little(160, 8);
       }),
       "cut short"},
      {"offset out of range", with([](ZipPart& p) { p.offset = 100000; }),
       "overlap what starts at byte"},
      {"offset in the directory", with([&](ZipPart& p) {
         p.offset = zip({good, second}).size() - 60;
       }),
       "overlap what starts"},
      {"overlapping", with([](ZipPart& p) { p.offset = 20; }), "overlap what starts at byte"},
      {"the same bytes twice",
       [&] {
         ZipPart twin = second;
         twin.offset = 0;
         return zip({good, twin});
       }(),
       "overlap what starts at byte 0"},
      {"stored, two sizes", with([](ZipPart& p) { p.both([](ZipHeader& h) { --h.packed; }); }),
       "member \"a.npy\": it is stored, but has two sizes"},
      {"a byte before the first member", with([](ZipPart& p) { p.offset = 1; }),
       "1 byte before its first member", false},
      {"encrypted", with([](ZipPart& p) { p.both([](ZipHeader& h) { h.flags = 1; }); }),
       "member \"a.npy\": it is encrypted", true},
      {"encrypted in the directory", central([](ZipHeader& h) { h.flags = 1 << 6; }),
       "it is encrypted", true},
      {"encrypted in the header", local([](ZipHeader& h) { h.flags = 1; }), "disagree", true},
      {"unknown method", with([](ZipPart& p) { p.both([](ZipHeader& h) { h.method = 12; }); }),
       "compression method 12", true},
      {"another method", local([](ZipHeader& h) { h.method = 8; }), "its method", true},
      {"another name", local([](ZipHeader& h) { h.name = "c.npy"; }), "its name", true},
      {"a longer name", local([](ZipHeader& h) { h.name += " and more"; }), "its name", true},
      {"name reaches into the next", poked(26, 255), "overlap what starts", true},
      {"extra field reaches into the next", poked(28, 255), "overlap what starts", true},
      {"another size", local([](ZipHeader& h) { ++h.size; }), "its size", true},
      {"another packed size", local([](ZipHeader& h) { h.packed = 0; }), "its size", true},
      {"another CRC", local([](ZipHeader& h) { ++h.crc; }), "its CRC", true},
      {"CRC later without saying so", local([](ZipHeader& h) { h.crc = 0; }), "its CRC", true},
      {"wrong CRC", with([](ZipPart& p) { p.both([](ZipHeader& h) { ++h.crc; }); }),
       "the data is damaged: its CRC-32 is", true},
      {"one bit flipped", with([](ZipPart& p) { p.bytes.back() ^= 1; }), "CRC-32", true},
      {"one bit of the header flipped", with([](ZipPart& p) { p.bytes[120] ^= 8; }), "", true,
       ErrorCode::BadHeader},
      {"an array cut short",
       [&] {
         return zip({ZipPart::stored("a.npy", array.substr(0, array.size() - 1)), second});
       }(),
       "member \"a.npy\": data cut short: the header declares 48 bytes", true,
       ErrorCode::Truncated},
  };
  if (!has_deflate()) return bad;
  const ZipPart packed = ZipPart::packed("a.npy", floats(300, 100) + "tail");
  const auto with_packed = [&](auto change) {
    ZipPart part = packed;
    change(part);
    return zip({part, second});
  };
  const auto sized = [&](auto change) {
    return with_packed([&](ZipPart& part) { part.both(change); });
  };
  for (BadArchive& one : std::vector<BadArchive>{
           {"yields more", sized([](ZipHeader& h) { --h.size; }), "does not unpack to the", true},
           {"yields less", sized([](ZipHeader& h) { ++h.size; }), "does not unpack to the", true},
           {"40 GB", sized([](ZipHeader& h) {
              h.size = 0xffffffff;
              h.extra = little(1, 2) + little(8, 2) + little(40000000000, 8);
            }),
            "deflate cannot unpack", true},
           {"stream ends early", with_packed([](ZipPart& p) {
              p.bytes += "more";
              p.both([](ZipHeader& h) { h.packed += 4; });
            }),
            "deflate stream is damaged", true},
           {"stream cut short", with_packed([](ZipPart& p) {
              p.bytes.resize(p.bytes.size() - 9);
              p.both([](ZipHeader& h) { h.packed -= 9; });
            }),
            "deflate stream is damaged", true},
           {"garbage", with_packed([](ZipPart& p) { p.bytes.assign(p.bytes.size(), '\xee'); }),
            "deflate stream is damaged", true},
           {"wrong CRC, deflated", sized([](ZipHeader& h) { h.crc ^= 0x100; }), "CRC-32", true}}) {
    bad.push_back(std::move(one));
  }
  return bad;
}

}  // namespace

TEST_CASE("every bad archive throws Error, and its good members load", "[npz][bad]") {
  const Folder folder;
  for (const BadArchive& bad : bad_archives()) {
    INFO(bad.name);
    const auto path = write_bytes(folder / "bad.npz", bad.bytes);
    largest_allocation = 0;
    const Error error = error_of([&] { (void)load_npz(path); });
    INFO(error.what());
    CHECK(error.code() == bad.code);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(bad.words));
    if (bad.opens) {
      const NpzFile file(path);
      CHECK_THAT(error_of([&] { (void)file.load("a"); }).what(), says("member \"a.npy\": "));
      CHECK(file.load("b").numel() == 12);
    } else {
      CHECK(error_of([&] { NpzFile{path}; }).code() == bad.code);
    }
    CHECK(largest_allocation < (1u << 20));
  }
}
