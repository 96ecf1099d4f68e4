// Structured files that are refused.

#include <torch_npy/tensor/fields.hpp>

#include <string>
#include <vector>

#include "support/bad_input.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/records.hpp"

using namespace torch_npy;

TEST_CASE("load_fields() validates max_bytes(), device() and dtype()", "[bad]") {
  const Folder folder;
  const auto path = write_records(folder / "a.npy", "[('a', '<i2'), ('b', '<i2')]", "(100,)",
                                  std::string(400, 'x'));
  CHECK(load_fields(path, LoadOptions().max_bytes(400)).size() == 2);
  CHECK(load_error(path, LoadOptions().max_bytes(399)).code() == ErrorCode::TooLarge);
  const Error error = load_error(path, LoadOptions().max_bytes(400).dtype(at::kDouble));
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK_THAT(error.what(), says("field \"a\": a tensor of 800 bytes"));
  CHECK(error.path() == path);
  CHECK(load_error(path, LoadOptions().device(c10::Device(at::kCUDA, 100))).code() ==
        ErrorCode::InvalidArgument);
  CHECK(load_error(path, LoadOptions().dtype(at::kQInt8)).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("max_bytes() limits all fields together", "[bad]") {
  const Folder folder;
  const auto path =
      write_bytes(folder / "a.npy",
                  npy(header_text("[('a', '|b1'), ('b', '|b1')]", "(100,)"), std::string(200, 1)));
  CHECK(load_fields(path, LoadOptions().max_bytes(200)).size() == 2);
  CHECK(load_fields(path, LoadOptions().max_bytes(800).dtype(at::kFloat)).size() == 2);
  const Error error =
      error_of([&] { (void)load_fields(path, LoadOptions().max_bytes(799).dtype(at::kFloat)); });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK_THAT(error.what(), says("the tensors of the fields have 800 bytes"));
}

TEST_CASE("every bad structured file throws Error with the reason", "[bad]") {
  struct Bad {
    const char* descr;
    const char* shape;
    ErrorCode code;
    const char* words;
  };
  const Folder folder;
  for (const Bad& bad : std::vector<Bad>{
           {"'<f4'", "(2,)", ErrorCode::Mismatch,
            "is for structured dtypes, the array has dtype '<f4'"},
           {"[('', '|V4')]", "(2,)", ErrorCode::Mismatch, "the array has dtype '|V4'"},
           {"[('a', '<f4'), ('b', '|O')]", "(2,)", ErrorCode::UnsupportedDtype,
            "field \"b\": object"},
           {"[('a', '<f4'), ('b', '|O')]", "(99,)", ErrorCode::UnsupportedDtype, "never loaded"},
           {"[('a', [('b', '|O', (2,))])]", "(0,)", ErrorCode::UnsupportedDtype,
            "field \"a.b\": object"},
           {"[('a', '<f4'), ('s', '<U3')]", "(2,)", ErrorCode::UnsupportedDtype,
            "field \"s\": strings ('<U3')"},
           {"[('s', '|S3')]", "(2,)", ErrorCode::UnsupportedDtype, "strings_as_codes(true)"},
           {"[('a', '<f16')]", "(1,)", ErrorCode::UnsupportedDtype,
            "field \"a\": LibTorch has no dtype"},
           {"[('v', '|V2')]", "(2,)", ErrorCode::UnsupportedDtype, "void_as(torch::kBFloat16)"},
           {"[('a.b', '<f4'), ('a', [('b', '<f4')])]", "(2,)", ErrorCode::UnsupportedDtype,
            "two fields have the name \"a.b\""},
           {"[('a', '<f8'), ('b', '<f4')]", "(6,)", ErrorCode::Truncated, "declares 72 bytes"},
           {"[('a', '<f8'), ('b', '<f4')]", "(999999999,)", ErrorCode::Truncated, "there are 64"},
           {"[('a', [('b', '|u1', (9, 9999999))], (9,))]", "(2,)", ErrorCode::Truncated,
            "there are 64"},
           {"[('a', [('b', [('c', '|u1', (0, 2147483647))], (2147483647,))], (0, 2147483647))]",
            "(2147483647,)", ErrorCode::TooLarge, "63 bits"},
           {"[('a', '|u1', (1, 1))]",
            "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
            "1,1,1,1,1,"
            "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)",
            ErrorCode::TooLarge, "field \"a\": a tensor of 65 axes"},
       }) {
    INFO(bad.descr);
    const std::string text = header_text(bad.descr, bad.shape);
    const auto path = write_bytes(folder / "bad.npy", npy(text, std::string(64, 'x')));
    for (const bool mmap : {false, true}) {
      LoadOptions options = LoadOptions().mmap(mmap);
      if (std::string(bad.words) == "63 bits") options.strings_as_codes(true);
      const Error error = load_error(path, options);
      CHECK(error.code() == bad.code);
      CHECK(error.path() == path);
      CHECK_THAT(error.what(), says(bad.words));
    }
  }
  const auto path = write_records(folder / "v.npy", "[('v', '|V4')]", "(2,)", std::string(8, 'x'));
  const Error error = load_error(path, LoadOptions().void_as(at::kBFloat16));
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("field \"v\": void_as()"));
  CHECK(load_error(folder / "missing.npy").code() == ErrorCode::NotFound);
  for (const BadInput& bad : bad_inputs()) {
    if (bad.header_parses) continue;
    const auto bad_path = write_bytes(folder / "bad.npy", bad.bytes);
    CHECK(load_error(bad_path).code() == bad.code);
  }
}
