// Appending: what is refused.

#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/load.hpp>

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "support/appending.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("another dtype or row shape throws Error(Mismatch) and writes nothing", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor whole = counting(5, {2, 3}, at::kFloat);
  Appender appender(path, {2, 3}, at::kFloat, kQuick);
  appender.append(whole.narrow(0, 0, 4));
  for (const at::Tensor& tensor :
       {at::zeros({2, 3}, at::kDouble), at::zeros({3}), at::zeros({3, 2}), at::zeros({1, 3, 2}),
        at::zeros({1, 1, 2, 3}), at::zeros({}), at::zeros({0}), at::zeros({0, 2, 4})}) {
    const Error error = error_of([&] { appender.append(tensor); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK(error.path() == path);
    CHECK(appender.rows() == 4);
  }
  appender.append(whole[4]);
  appender.close();
  CHECK((read_bytes(path) == saved(whole)));
}

TEST_CASE("files that cannot grow are refused and not changed", "[append]") {
  const Folder folder;
  struct Refused {
    const char* name;
    std::string bytes;
    ErrorCode code;
    const char* words;
  };
  const std::string whole = saved(counting(4, {2}, at::kFloat));
  const Refused table[] = {
      {"Fortran order",
       npy(header_text("'<f4'", "(4, 2)", "True") + std::string(40, ' '), floats(8)),
       ErrorCode::Mismatch, "Fortran order"},
      {"0-d", saved(at::zeros({})), ErrorCode::Mismatch, "0-d"},
      {"dtype", saved(counting(4, {2}, at::kInt)), ErrorCode::Mismatch, "has dtype <i4"},
      {"row shape", saved(counting(4, {3}, at::kFloat)), ErrorCode::Mismatch, "shape (3,)"},
      {"rank", saved(counting(4, {}, at::kFloat)), ErrorCode::Mismatch, "shape ()"},
      {"byte order", tight("'>f4'", "(4, 2)       ", floats(8)), ErrorCode::Mismatch, "byte order"},
      {"structured", tight("[('a', '<f4'), ('b', '<i2')]", "(1, 2)    ", floats(3)),
       ErrorCode::UnsupportedDtype, "which no tensor can hold"},
      {"string", tight("'|S4'", "(4, 2)      ", floats(8)), ErrorCode::UnsupportedDtype, "|S4"},
      {"cut short", whole.substr(0, whole.size() - 1), ErrorCode::Truncated,
       "data cut short: the header declares 32 bytes from byte 128 on, there are 31"},
      {"header cut short", whole.substr(0, 100), ErrorCode::Truncated, "header cut short"},
      {"no room as it is", npy("{'descr':'<f4','fortran_order':False,'shape':(4,2)}", floats(8)),
       ErrorCode::TooLarge, "no room"},
      {"text far after blanks",
       npy("{'descr': '<f4', 'fortran_order': False," + std::string(5000, ' ') +
               "'shape': (4, 2)}" + std::string(30, ' '),
           floats(8)),
       ErrorCode::Mismatch, "in one step"},
      {"another array after it", whole + whole, ErrorCode::Mismatch, "another array follows"},
      {"not .npy", "text", ErrorCode::NotNpy, "not an .npy file"},
      {"empty", "", ErrorCode::Truncated, "empty"},
  };
  for (const Refused& refused : table) {
    INFO(refused.name);
    const auto path = write_bytes(folder / "a.npy", refused.bytes);
    const Error error = error_of([&] {
      Appender appender(path, {2}, at::kFloat);
      appender.append(at::ones({2}));
    });
    CHECK(error.code() == refused.code);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(refused.words));
    const Error by_tensor = error_of([&] {
      Appender appender(path);
      appender.append(at::ones({1, 2}));
    });
    CHECK(by_tensor.code() == refused.code);
    CHECK((read_bytes(path) == refused.bytes));
    CHECK(folder.count() == 1);
  }
}

TEST_CASE("invalid arguments of an Appender throw Error", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const auto code_of = [&](const std::filesystem::path& at, const Shape& row, at::ScalarType type) {
    return error_of([&] { Appender appender(at, row, type); }).code();
  };
  CHECK(code_of(path, {-1}, at::kFloat) == ErrorCode::InvalidArgument);
  CHECK(code_of(path, Shape(64, 1), at::kFloat) == ErrorCode::InvalidArgument);
  CHECK(code_of(path, {INT64_MAX / 2, 2}, at::kFloat) == ErrorCode::TooLarge);
  CHECK(code_of(path, {0, INT64_MAX}, at::kFloat) == ErrorCode::TooLarge);
  CHECK(code_of(path, {2}, at::kComplexHalf) == ErrorCode::UnsupportedDtype);
  CHECK(code_of("", {2}, at::kFloat) == ErrorCode::NotFound);
  CHECK(code_of(folder / "no" / "such", {2}, at::kFloat) == ErrorCode::NotFound);
  CHECK(code_of(folder.path(), {2}, at::kFloat) == ErrorCode::Io);
  CHECK(code_of("/dev/null", {2}, at::kFloat) == ErrorCode::Io);
  CHECK(folder.count() == 0);
}
