// Archives that are damaged, and archives that can be read in two ways.

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("an archive truncated at any byte throws Error", "[npz][bad]") {
  const Folder folder;
  std::vector<ZipPart> parts{ZipPart::stored("a.npy", floats(2, 3))};
  if (has_deflate()) parts.push_back(ZipPart::packed("b.npy", floats(20, 30)));
  const std::string whole = zip(parts, [](ZipEnd& end) { end.comment = "a comment"; });
  const auto path = write_bytes(folder / "a.npz", whole);
  CHECK(load_npz(path).size() == parts.size());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO(size);
    std::filesystem::resize_file(path, 0);
    write_bytes(path, whole.substr(0, size));
    const ErrorCode code = error_of([&] { (void)load_npz(path); }).code();
    CHECK(code == (size == 0  ? ErrorCode::Truncated
                   : size < 4 ? ErrorCode::NotNpy
                              : ErrorCode::BadZip));
  }
}

TEST_CASE("every single-bit corruption is detected", "[npz][bad]") {
  const Folder folder;
  const std::string array = floats(2, 3);
  std::vector<ZipPart> parts{ZipPart::stored("a.npy", array), ZipPart::stored("b", array)};
  if (has_deflate()) parts.push_back(ZipPart::packed("c.npy", floats(20, 30)));
  std::string bytes = zip(parts);
  const auto path = write_bytes(folder / "a.npz", bytes);
  const Arrays want = load_npz(path);
  std::size_t harmless = 0;
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    write_bytes(path, bytes);
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    try {
      const Arrays got = load_npz(path, LoadOptions().threads(1));
      ++harmless;
      INFO("bit " << bit % 8 << " of byte " << bit / 8);
      // "b" has no ending and is an array by its first bytes: with another one it is no array.
      const bool lost_b = got.size() == want.size() - 1 && !got.contains("b");
      CHECK((got.keys() == want.keys() || lost_b));
      for (const auto& array_got : got) CHECK(same(array_got.value(), want[array_got.key()]));
    } catch (const Error&) {
    }
  }
  // Harmless are times, versions and attributes, and the flags of the level of compression.
  CHECK(harmless < parts.size() * 8 * 36);
}

TEST_CASE("an archive that two readers could read differently is refused", "[npz][bad]") {
  const Folder folder;
  const auto refused = [&](const std::string& bytes, const char* words) {
    const auto path = write_bytes(folder / "a.npz", bytes);
    const Error error = error_of([&] { (void)load_npz(path); });
    CHECK(error.code() == ErrorCode::BadZip);
    CHECK_THAT(error.what(), says(words));
  };
  const ZipPart part = ZipPart::stored("a.npy", floats(3, 4));
  // A member that is not in the directory: before the first, between two, after the last.
  ZipPart hidden = ZipPart::stored("a.npy", floats(9, 9));
  hidden.is_listed = false;
  refused(zip({hidden, part}), "before its first member");
  refused(zip({part, hidden}), "belong to no member");
  refused(zip({part, hidden, ZipPart::stored("b.npy", floats(2, 2))}), "belong to no member");
  // An archive in the comment of another.
  const std::string other = zip({ZipPart::stored("b.npy", floats(2, 2))});
  const std::string own =
      zip({part}, [&](ZipEnd& end) { end.comment = std::string(other.size(), 'x'); });
  refused(own.substr(0, own.size() - other.size()) + other, "two end records");
  // Another name in an extra field, which some readers prefer.
  for (const char* name : {"b.npy", "../a.npy"}) {
    ZipPart named = part;
    const std::string extra =
        little(0x7075, 2) + little(5 + std::strlen(name), 2) + little(1, 1) + little(0, 4) + name;
    named.central.extra = extra;
    refused(zip({named}), "two different names");
    std::swap(named.central.extra, named.local.extra);
    refused(zip({named}), "two different names");
  }
  // The header of a member contradicts the directory.
  ZipPart crc = part;
  ++crc.local.crc;
  refused(zip({crc}), "disagree about its CRC");
  std::string no_header = zip({part, ZipPart::stored("b.npy", floats(2, 2))});
  no_header[no_header.rfind("PK\x03\x04") + 3] ^= 1;
  refused(no_header, "no local header");
  if (!has_deflate()) return;
  // More bytes than deflate can pack, and fewer bytes than its stream takes.
  ZipPart packed = ZipPart::packed("a.npy", floats(3, 4));
  packed.both([](ZipHeader& header) { header.size = 2000 * header.packed; });
  refused(zip({packed}), "deflate cannot unpack");
  ZipPart blocks = ZipPart::packed("a.npy", floats(3, 4));
  std::string empty;
  for (int i = 0; i < 1000; ++i) empty += std::string("\0\0\0\xff\xff", 5);
  blocks.bytes = empty + blocks.bytes;
  blocks.both([&](ZipHeader& header) { header.packed = blocks.bytes.size(); });
  refused(zip({blocks}), "for only");
}
