// POSIX systems: FIFOs, pipes, file descriptors.

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/files.hpp"
#include "support/mappings.hpp"
#include "support/small_files.hpp"

using namespace torch_npy;

TEST_CASE("a FIFO is refused without blocking", "[bad]") {
  const Folder folder;
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK(error_of([&] { (void)load(folder / "fifo"); }).code() == ErrorCode::Io);
}

TEST_CASE("a pipe holds several arrays in sequence", "[stream]") {
  const Folder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const at::Tensor small = at::arange(6, at::kFloat).view({2, 3});
  const at::Tensor large = at::arange(3000000, at::kFloat);
  std::thread writer([&] {
    std::ofstream pipe(folder / "pipe", std::ios::binary);
    save(pipe, large);
    save(pipe, small.t());
    pipe << "\x93NUMPY\x01";
  });
  std::ifstream pipe(folder / "pipe", std::ios::binary);
  pipe.exceptions(std::ios::failbit | std::ios::badbit | std::ios::eofbit);
  CHECK(at::equal(load(pipe), large));
  const at::Tensor transposed = load(pipe);
  CHECK(transposed.strides().vec() == Shape{1, 3});
  CHECK(at::equal(transposed, small.t()));
  CHECK(error_of([&] { (void)load(pipe); }).code() == ErrorCode::Truncated);
  writer.join();
}

TEST_CASE("failed loads leave no file descriptor and no mapping", "[memory]") {
  const Folder folder;
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
  const auto files = open_descriptors();
  const auto maps = mappings().size();
  for (int i = 0; i < 50; ++i) work();
  CHECK(open_descriptors() == files);
  CHECK(mappings().size() < maps + 50);
}

TEST_CASE("a failed save() leaves the old file and no temporary file", "[save]") {
  const Folder folder;
  const auto path = write_bytes(folder / "a.npy", "old");
  const Error error = error_of([&] {
    const SmallFiles limit(4096);
    save(path, at::ones({5000}));
  });
  CHECK(error.code() == ErrorCode::Io);
  CHECK(error.offset() == 4096);
  CHECK(read_bytes(path) == "old");
  CHECK(folder.count() == 1);
}
