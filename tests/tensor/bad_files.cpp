// Files that are refused.

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
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

TEST_CASE("a missing file, a folder and a FIFO throw Error", "[bad]") {
  const Folder folder;
  const auto code = [](const std::filesystem::path& path) {
    return error_of([&] { (void)load(path); }).code();
  };
  CHECK(code(folder / "missing.npy") == ErrorCode::NotFound);
  CHECK(code(folder.path()) == ErrorCode::Io);
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK(code(folder / "fifo") == ErrorCode::Io);
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

TEST_CASE("failed loads leave no file descriptor and no mapping", "[memory]") {
  const Folder folder;
  const auto open_files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto mappings = [] {
    const std::string maps = read_bytes("/proc/self/maps");
    return std::count(maps.begin(), maps.end(), '\n');
  };
  const auto path = write_bytes(folder / "bad.npy", npy(header_text("'<f4'", "(1000000,)"), "x"));
  const auto good = write_floats(folder / "good.npy", 100, 100);
  std::vector<std::filesystem::path> paths(20, good);
  paths.push_back(path);
  const auto work = [&] {
    for (const bool mmap : {false, true}) {
      CHECK_THROWS_AS(load(path, LoadOptions().mmap(mmap)), Error);
      CHECK_THROWS_AS(load_all(paths, LoadOptions().mmap(mmap)), Error);
      (void)load(good, LoadOptions().mmap(mmap));
    }
  };
  work();
  const auto files = open_files();
  const auto maps = mappings();
  for (int i = 0; i < 50; ++i) work();
  CHECK(open_files() == files);
  CHECK(mappings() < maps + 50);
}
