// Fields: views and copies.

#include <torch_npy/tensor/fields.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/records.hpp"

using namespace torch_npy;

TEST_CASE("fields are views that share the records and keep them alive", "[memory]") {
  const Folder folder;
  const std::string descr = "[('a', '<f4'), ('b', '<i4'), ('c', '<f4', (2,))]";
  const auto path = write_records(folder / "a.npy", descr, "(10,)", counting(160));
  const std::string before = read_bytes(path);
  for (const bool mmap : {false, true}) {
    at::Tensor b;
    {
      Fields fields = load_fields(path, LoadOptions().mmap(mmap));
      const at::Tensor a = fields["a"];
      b = fields["b"];
      CHECK(a.strides().vec() == Shape{4});
      CHECK(fields["c"].strides().vec() == Shape{4, 1});
      CHECK(address(b) - address(a) == 4);
      CHECK(address(fields["c"]) - address(a) == 8);
      // Writing to a field changes the records, and no other field.
      const at::Tensor c = fields["c"].clone();
      b.fill_(7);
      int seven = 0;
      std::memcpy(&seven, address(a) + 16 + 4, sizeof seven);
      CHECK(seven == 7);
      CHECK((bytes_of(fields["c"]) == bytes_of(c)));
      CHECK((read_bytes(path) == before));
    }
    std::filesystem::remove(path);
    CHECK(at::equal(b, at::zeros({10}, at::kInt).fill_(7)));
    write_bytes(path, before);
  }
}

TEST_CASE("a field that strides cannot express is copied", "[memory]") {
  const Folder folder;
  const auto is_view = [&](const std::string& descr, std::size_t size, const char* name) {
    const auto path = write_records(folder / "a.npy", descr, "(3,)", counting(3 * size));
    const Fields fields = load_fields(path, LoadOptions().strings_as_codes(true));
    const auto distance = address(fields[name]) - address(fields["at"]);
    return distance > 0 && distance < static_cast<std::ptrdiff_t>(size);
  };
  CHECK(is_view("[('at', '|u1', (4,)), ('x', '<f4')]", 8, "x"));
  CHECK_FALSE(is_view("[('at', '|u1', (4,)), ('x', '>f4')]", 8, "x"));               // swapped
  CHECK_FALSE(is_view("[('at', '|u1', (2,)), ('x', '<f4'), ('', '|V2')]", 8, "x"));  // not aligned
  CHECK_FALSE(is_view("[('at', '|u1', (4,)), ('x', '<f4'), ('', '|V1')]", 9,
                      "x"));  // the stride of the records
  CHECK(is_view("[('at', '<f4'), ('', '|V4'), ('x', '<c8')]", 16, "x"));
  // NumPy aligns complex numbers like their parts, and LibTorch requires twice that.
  CHECK_FALSE(is_view("[('at', '<f4'), ('x', '<c8'), ('', '|V4')]", 16, "x"));
  CHECK_FALSE(is_view("[('at', '<f8'), ('x', '<c16'), ('', '|V8')]", 32, "x"));
  CHECK_FALSE(is_view("[('at', '<f4'), ('x', '<c8')]", 12, "x"));
  CHECK(is_view("[('at', '|u1', (4,)), ('x', '<U3')]", 16, "x"));
  CHECK_FALSE(is_view("[('at', '|u1', (3,)), ('x', '<U3'), ('', '|V1')]", 16, "x"));
  CHECK(is_view("[('at', '|u1', (3,)), ('x', '|S2')]", 5, "x"));
  const std::string inner = "[('x', '<i2'), ('', '|V1')]";  // its stride in a sub-array
  CHECK_FALSE(is_view("[('at', '<i2'), ('s', " + inner + ", (2,))]", 8, "s.x"));
}

TEST_CASE("records at any byte offset are read and mapped", "[memory]") {
  const Folder folder;
  // In the mapped file no field would be aligned.
  const std::string text = header_text("[('a', '<f4'), ('b', '<f4'), ('', '|V8')]", "(4,)");
  const std::string data = counting(64);
  for (std::size_t pad = 0; pad < 8; ++pad) {
    const auto path = write_bytes(folder / "a.npy", npy(text + std::string(pad, ' '), data));
    const Fields read = load_fields(path);
    const Fields mapped = load_fields(path, LoadOptions().mmap(true));
    CHECK(address(read["b"]) - address(read["a"]) == 4);
    for (const char* name : {"a", "b"}) {
      CHECK((bytes_of(read[name]) == bytes_of(mapped[name])));
    }
    CHECK((bytes_of(read["a"]) ==
           data.substr(0, 4) + data.substr(16, 4) + data.substr(32, 4) + data.substr(48, 4)));
  }
}

TEST_CASE("large records copied by several threads have the right values", "[memory]") {
  const Folder folder;
  const std::size_t rows = 700001;
  const std::string data = counting(rows * 13);
  const auto path =
      write_records(folder / "large.npy",
                    "[('b', '|u1'), ('s', [('x', '<i2'), ('y', '>u1')], (2,)), ('m', '<i2', (3,))]",
                    "(" + std::to_string(rows) + ",)", data);
  std::string x;
  std::string m;
  for (std::size_t row = 0; row < rows; ++row) {
    x += data.substr(row * 13 + 1, 2) + data.substr(row * 13 + 4, 2);
    m += data.substr(row * 13 + 7, 6);
  }
  for (const std::size_t threads : {0u, 1u, 3u}) {
    const Fields fields = load_fields(path, LoadOptions().threads(threads));
    CHECK((bytes_of(fields["s.x"]) == x));
    CHECK(fields["s.x"].is_contiguous());
    CHECK(fields["s.y"].strides().vec() == Shape{13, 3});
    CHECK((bytes_of(fields["m"]) == m));  // copied in parts that are not whole sub-arrays
    const Fields floats = load_fields(path, LoadOptions().threads(threads).dtype(at::kFloat));
    CHECK(at::equal(floats["s.x"], fields["s.x"].to(at::kFloat)));
    CHECK(at::equal(floats["m"], fields["m"].to(at::kFloat)));
  }
}
