// Fields of structured arrays.

#include <torch_npy/tensor/fields.hpp>

#include <cstdint>
#include <string>

#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/records.hpp"

using namespace torch_npy;

TEST_CASE("load_fields() returns NumPy's fields bit for bit", "[numpy]") {
  for (const ExpectedFile& want : read_expected()) {
    INFO(want.path.filename().string());
    if (!want.is_native()) {
      const Error error = load_error(want.path);
      CHECK(error.code() == ErrorCode::UnsupportedDtype);
      CHECK_THAT(error.what(), says("field \"u2\": "));
      CHECK_THAT(error.what(), says("unsigned_as(torch_npy::kNextSigned)"));
      continue;
    }
    check_fields(want, load_fields(want.path, everything()));
    check_fields(want, load_fields(want.path, everything().mmap(true)));
    check_fields(want, load_fields(want.path, everything().threads(3)));
    const Error error = error_of([&] { (void)load(want.path, everything()); });
    CHECK(error.code() == ErrorCode::UnsupportedDtype);
    CHECK_THAT(error.what(), says("load_fields()"));
  }
}

TEST_CASE("rows() loads those rows of every field", "[numpy][rows]") {
  for (const ExpectedFile& want : read_expected()) {
    if (!want.is_native() || read_header(want.path).shape.empty()) continue;
    INFO(want.path.filename().string());
    const std::int64_t length = read_header(want.path).shape[0];
    const Fields whole = load_fields(want.path, everything());
    for (const bool mmap : {false, true}) {
      for (std::int64_t begin = 0; begin <= length; ++begin) {
        const Fields rows = load_fields(want.path, everything().rows(begin, length).mmap(mmap));
        REQUIRE(rows.size() == whole.size());
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const at::Tensor part = whole[i].value().narrow(0, begin, length - begin);
          CHECK(rows[i].value().sizes() == part.sizes());
          CHECK((bytes_of(rows[i].value()) == bytes_of(part)));
        }
      }
    }
    CHECK(load_error(want.path, everything().rows(0, length + 1)).code() ==
          ErrorCode::InvalidArgument);
  }
  const Folder folder;
  const auto path = write_records(folder / "0d.npy", "[('a', '<f4')]", "()", "abcd");
  CHECK(load_error(path, LoadOptions().rows(0, 1)).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("dtype() converts every field", "[numpy][dtype]") {
  for (const ExpectedFile& want : read_expected()) {
    INFO(want.path.filename().string());
    const Fields got = load_fields(want.path, everything().dtype(at::kComplexDouble));
    for (const auto& field : got) CHECK(field.value().scalar_type() == at::kComplexDouble);
    if (!want.is_native()) continue;
    const Fields plain = load_fields(want.path, everything());
    for (std::size_t i = 0; i < got.size(); ++i) {
      const at::Tensor converted = plain[i].value().to(at::kComplexDouble);
      CHECK(got[i].value().sizes() == converted.sizes());
      CHECK((bytes_of(got[i].value()) == bytes_of(converted)));
    }
  }
}

TEST_CASE("dtype() converts unsigned fields with a range check", "[dtype]") {
  const Folder folder;
  const auto path = write_records(folder / "u.npy", "[('a', '>u2'), ('b', '<u8')]", "(2,)",
                                  std::string("\x01\x02\x03\0\0\0\0\0\0\0"
                                              "\xff\xfe\xff\xff\xff\xff\xff\xff\xff\xff",
                                              20));
  const Fields fields = load_fields(path, LoadOptions().dtype(at::kDouble));
  CHECK(fields["a"][0].item<double>() == 258);
  CHECK(fields["a"][1].item<double>() == 65534);
  CHECK(fields["b"][0].item<double>() == 3);
  const Error error = load_error(path, LoadOptions().dtype(at::kLong));
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("field \"b\": the value 18446744073709551615"));
}

TEST_CASE("records of zero bytes give empty fields", "[load]") {
  const Folder folder;
  const auto path =
      write_records(folder / "a.npy", "[('a', '|S0'), ('b', '<f4', (0, 3))]", "(1000000000,)", "");
  const Fields fields = load_fields(path, LoadOptions().strings_as_codes(true));
  CHECK(fields["a"].sizes().vec() == Shape{1000000000, 0});
  CHECK(fields["b"].sizes().vec() == Shape{1000000000, 0, 3});
}

TEST_CASE("the unit of a datetime field is in the header", "[load]") {
  const Folder folder;
  const auto path = write_records(folder / "a.npy", "[('t', '<M8[ms]')]", "(1,)",
                                  std::string("\5\0\0\0\0\0\0\0", 8));
  CHECK(load_fields(path)["t"].item<std::int64_t>() == 5);
  CHECK(read_header(path).dtype.fields[0].dtype.unit == "ms");
}
