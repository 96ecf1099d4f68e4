// Strings as character codes.

#include <torch_npy/tensor/fields.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <sstream>
#include <string>

#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/records.hpp"

using namespace torch_npy;

TEST_CASE("strings_as_codes(true) reads strings as character codes", "[strings]") {
  const Folder folder;
  const std::string text("ab\0\0cde\0f\0\0\0ghij", 16);
  const auto options = LoadOptions().strings_as_codes(true);
  for (const bool fortran_order : {false, true}) {
    const std::string order = fortran_order ? "True" : "False";
    const auto path = write_records(folder / "s.npy", "'|S4'", "(2, 2)", text, order);
    CHECK(error_of([&] { (void)load(path); }).code() == ErrorCode::UnsupportedDtype);
    CHECK_THAT(error_of([&] { (void)load(path); }).what(), says("strings_as_codes(true)"));
    for (const bool mmap : {false, true}) {
      const at::Tensor s = load(path, LoadOptions(options).mmap(mmap));
      CHECK(s.scalar_type() == at::kByte);
      CHECK(s.sizes().vec() == Shape{2, 2, 4});
      CHECK(s.strides().vec() == (fortran_order ? Shape{4, 8, 1} : Shape{8, 4, 1}));
      CHECK(bytes_of(s[1][0]) == (fortran_order ? text.substr(4, 4) : text.substr(8, 4)));
      const at::Tensor row = load(path, LoadOptions(options).mmap(mmap).rows(1, 2));
      CHECK(row.sizes().vec() == Shape{1, 2, 4});
      CHECK((bytes_of(row) == bytes_of(s.narrow(0, 1, 1))));
    }
    at::Tensor into = at::zeros({2, 2, 4}, at::kByte);
    load_into(into, path, options);
    CHECK(at::equal(into, load(path, options)));
    const std::string file = read_bytes(path);
    CHECK(at::equal(load_bytes(file.data(), file.size(), options), into));
    std::istringstream stream(file);
    CHECK(at::equal(load(stream, options), into));

    std::string points;
    for (int i = 0; i < 30; ++i) points += std::string("\0\1", 2) + static_cast<char>(i) + 'x';
    const auto big =
        write_records(folder / "u.npy", "'>U3'", "(5, 2)", points.substr(0, 120), order);
    const at::Tensor u = load(big, options);
    CHECK(u.scalar_type() == at::kInt);
    CHECK(u.sizes().vec() == Shape{5, 2, 3});
    CHECK(u.data_ptr<int>()[29] == 0x10000 + 29 * 256 + 'x');
    const at::Tensor rows = load(big, LoadOptions(options).rows(1, 4));
    CHECK(at::equal(rows, u.narrow(0, 1, 3)));
    if (fortran_order) CHECK(rows.strides().vec() == Shape{3, 9, 1});
    CHECK(at::equal(load(big, LoadOptions(options).dtype(at::kDouble)), u.to(at::kDouble)));
  }
  const auto scalar = write_records(folder / "0d.npy", "'|S3'", "()", "abc");
  CHECK(load(scalar, options).sizes().vec() == Shape{3});
  CHECK(error_of([&] { (void)load(scalar, LoadOptions(options).rows(0, 1)); }).code() ==
        ErrorCode::InvalidArgument);
  const auto none = write_records(folder / "U0.npy", "'<U0'", "(3,)", "");
  CHECK(load(none, options).sizes().vec() == Shape{3, 0});
}
