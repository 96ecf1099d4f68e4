// Archives of other writers.

#include <sstream>
#include <string>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("archives of other writers that NumPy reads are read", "[npz]") {
  const Folder folder;
  const std::string array = floats(3, 4);
  const auto loads = [&](const std::string& bytes) {
    const auto path = write_bytes(folder / "a.npz", bytes);
    const at::Tensor a = NpzFile(path).load("a");
    std::ostringstream out;
    save(out, a);
    return out.str() == array;
  };
  ZipPart part = ZipPart::stored("a.npy", array);
  CHECK(loads(zip({part})));
  CHECK(loads(zip({part}, [](ZipEnd& end) { end.comment = std::string(65535, 'c'); })));
  CHECK(loads(zip({part}) + std::string(100, '\0')));  // padding after the end
  part.both([](ZipHeader& header) { header.extra = little(0x7075, 2) + little(3, 2) + "abc"; });
  CHECK(loads(zip({part})));
  part.local.extra += "123";  // too short for a field
  CHECK(loads(zip({part})));

  ZipPart later = ZipPart::stored("a.npy", array);
  later.both([](ZipHeader& header) { header.flags = 1 << 3; });
  later.local.crc = 0;
  later.local.packed = later.local.size = 0;
  later.after = "PK\x07\x08" + little(later.central.crc, 4) + little(array.size(), 4) +
                little(array.size(), 4);
  CHECK(loads(zip({later})));

  ZipPart zip64 = ZipPart::stored("a.npy", array);
  const std::string sizes = little(array.size(), 8) + little(array.size(), 8);
  zip64.local.packed = zip64.local.size = 0xffffffff;
  zip64.local.extra = little(1, 2) + little(16, 2) + sizes;
  CHECK(loads(zip({zip64})));
  zip64.central.size = 0xffffffff;  // the field has only the one number that is needed
  zip64.central.extra = little(1, 2) + little(8, 2) + little(array.size(), 8);
  CHECK(loads(zip({zip64})));
  CHECK(loads(zip({zip64}, [](ZipEnd& end) {
    end.before = "PK\x06\x06" + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8) +
                 little(1, 8) + little(1, 8) + little(end.size, 8) + little(end.offset, 8) +
                 "PK\x06\x07" + little(0, 4) + little(end.offset + end.size, 8) + little(1, 4);
    end.count = end.count_here = 0xffff;
    end.size = end.offset = 0xffffffff;
  })));
}
