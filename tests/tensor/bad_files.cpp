// Files that are refused.

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "support/allocations.hpp"
#include "support/arrays.hpp"
#include "support/bad_input.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("bad input throws Error from a file, from memory and from a stream", "[bad]") {
  const Folder folder;
  for (const BadInput& bad : bad_inputs()) {
    INFO(bad.name);
    const auto path = write_bytes(folder / "bad.npy", bad.bytes);
    std::istringstream stream(bad.bytes);
    largest_allocation = 0;
    for (const LoadOptions& options : {LoadOptions(), LoadOptions().mmap(true)}) {
      const Error error = error_of([&] { (void)load(path, options); });
      INFO(error.what());
      CHECK(error.code() == bad.code);
      CHECK(error.offset() == bad.offset);
      CHECK(error.path() == path);
      CHECK_THAT(error.what(), says(bad.words));
    }
    const Error in_memory = error_of([&] { (void)load_bytes(bad.bytes.data(), bad.bytes.size()); });
    CHECK(in_memory.code() == bad.code);
    CHECK(in_memory.offset() == bad.offset);
    CHECK(in_memory.path().empty());
    CHECK(error_of([&] { (void)load(stream); }).code() == bad.code);
    at::Tensor out = at::zeros({2, 3});
    CHECK(error_of([&] { load_into(out, path); }).code() == bad.code);
    CHECK(at::equal(out, at::zeros({2, 3})));
    CHECK(largest_allocation < (1u << 20));
  }
}

TEST_CASE("a missing file and a folder throw Error", "[bad]") {
  const Folder folder;
  const auto code = [](const std::filesystem::path& path) {
    return error_of([&] { (void)load(path); }).code();
  };
  CHECK(code(folder / "missing.npy") == ErrorCode::NotFound);
  CHECK(code(folder.path()) == ErrorCode::Io);
}

TEST_CASE("truncated data throws Error, even if the requested rows are complete", "[bad]") {
  const Folder folder;
  const std::string whole = npy(header_text("'<f8'", "(100,)"), std::string(800, 'x'));
  for (std::size_t size = whole.size() - 800; size < whole.size(); size += 7) {
    const auto path = write_bytes(folder / "cut.npy", whole.substr(0, size));
    const Error error = error_of([&] { (void)load(path); });
    CHECK(error.code() == ErrorCode::Truncated);
    CHECK(error.offset() == size);
  }
  // The requested rows are complete, the array is not.
  CHECK(error_of([&] { (void)load(folder / "cut.npy", LoadOptions().rows(0, 1)); }).code() ==
        ErrorCode::Truncated);
}
