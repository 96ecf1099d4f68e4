// read_header(): files, and what is refused.

#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>

#include <filesystem>
#include <string>

#include "support/bad_input.hpp"
#include "support/catch.hpp"
#include "support/headers.hpp"

using namespace torch_npy;

TEST_CASE("read_header() reads small and very long headers", "[file]") {
  const Folder folder;
  const std::string text = header_text("'<f4'", "(2, 3)");
  const auto small = write_bytes(folder / "small.npy", npy(text, std::string(24, 'x')));
  CHECK(read_header(small).shape == Shape{2, 3});
  CHECK(read_header(small).data_offset == 10 + text.size());

  const std::string long_text = text + std::string(50000, ' ');
  const auto large = write_bytes(folder / "large.npy", npy(long_text, "x"));
  CHECK(error_of([&] { read_header(large); }).code() == ErrorCode::TooLarge);
  CHECK(read_header(large, 100000).data_offset == 10 + long_text.size());

  const auto cut = write_bytes(folder / "cut.npy", npy(long_text).substr(0, 40000));
  const Error error = error_of([&] { read_header(cut, 100000); });
  CHECK(error.code() == ErrorCode::Truncated);
  CHECK(error.offset() == 40000);
  CHECK_THAT(error.what(), says("there are 40000 bytes"));
}

TEST_CASE("every bad file throws Error with its path", "[file][bad]") {
  const Folder folder;
  for (const BadInput& bad : bad_inputs()) {
    if (bad.header_parses) continue;
    INFO(bad.name);
    const auto path = write_bytes(folder / "bad.npy", bad.bytes);
    const Error error = error_of([&] { read_header(path); });
    CHECK(error.code() == bad.code);
    CHECK(error.offset() == bad.offset);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), Catch::Matchers::StartsWith(path.string() + ": "));
  }
}

TEST_CASE("a missing file, a folder and an invalid path are refused", "[file][bad]") {
  const Folder folder;
  const auto code = [](const std::filesystem::path& path) {
    return error_of([&] { read_header(path); }).code();
  };
  CHECK(code(folder / "missing.npy") == ErrorCode::NotFound);
  CHECK(code(folder / "no" / "such" / "folder.npy") == ErrorCode::NotFound);
  CHECK(code(folder.path()) == ErrorCode::Io);
  CHECK(code("") == ErrorCode::NotFound);
  CHECK(code(std::string("a\0.npy", 6)) == ErrorCode::InvalidArgument);
  CHECK(error_of([] { detail::AtomicFile file(std::string("a\0.npy", 6), true); }).code() ==
        ErrorCode::InvalidArgument);
  CHECK_THAT(error_of([] { read_header(""); }).what(), says("the path is empty"));
  CHECK_THAT(error_of([&] { read_header(folder.path()); }).what(), says("a directory"));
}

TEST_CASE("file names outside ASCII work", "[file]") {
  const Folder folder;
  // A Greek letter, and a character beyond 16 bits.
  const auto path = folder.path() / detail::path_of("\xce\xb1\xf0\x9f\x98\x80");
  {
    detail::AtomicFile file(path, false);
    file.write("x", 1);
    file.commit();
  }
  CHECK(read_bytes(path) == "x");
  const Error error = error_of([&] { read_header(path); });
  CHECK(error.code() == ErrorCode::NotNpy);
  CHECK_THAT(error.what(), says("\xce\xb1\xf0\x9f\x98\x80: "));
}
