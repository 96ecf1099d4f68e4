// Loading .npy files.

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("load() returns NumPy's arrays bit for bit", "[numpy]") {
  for (const Expected& want : read_expected()) {
    INFO(want.path.filename().string());
    const Header header = read_header(want.path);
    CHECK(header.shape == want.shape);
    CHECK(header.fortran_order == want.fortran_order);
    CHECK(std::to_string(header.version) == want.version);
    CHECK(header.dtype.descr() == want.descr);
    if (expected_type(want.descr) == at::ScalarType::Undefined) {
      REQUIRE(is_wide_unsigned(want.descr));  // LibTorch before 2.3
      const Error error = error_of([&] { (void)load(want.path); });
      CHECK(error.code() == ErrorCode::UnsupportedDtype);
      CHECK_THAT(error.what(), says("unsigned_as(torch_npy::kNextSigned)"));
      continue;
    }
    const std::string file = read_bytes(want.path);
    check_array(want, load(want.path));
    check_array(want, load(want.path, LoadOptions().mmap(true)));
    check_array(want, load(want.path, LoadOptions().threads(3)));
    check_array(want, load_bytes(file.data(), file.size()));
    const std::string shifted = "x" + file;  // not aligned
    check_array(want, load_bytes(shifted.data() + 1, file.size()));
    std::istringstream stream(file + "next");
    check_array(want, load(stream));
    CHECK(std::string(std::istreambuf_iterator<char>(stream), {}) == "next");
  }
}

TEST_CASE("bytes after the array are ignored", "[load]") {
  const std::string bytes = npy(header_text("'<i2'", "(2,)"), std::string("\1\0\2\0and more", 12));
  const at::Tensor tensor = load_bytes(bytes.data(), bytes.size());
  CHECK(tensor[0].item<int>() == 1);
  CHECK(tensor[1].item<int>() == 2);
}

TEST_CASE("large arrays read by several threads have the right values", "[load]") {
  const Folder folder;
  const std::int64_t rows = 1500;
  const std::int64_t columns = 2111;  // 12.7 MB, no multiple of any chunk
  for (const bool fortran_order : {false, true}) {
    const auto path = write_floats(folder / "large.npy", rows, columns, fortran_order);
    const std::string data = read_bytes(path).substr(read_header(path).data_offset);
    for (const std::size_t threads : {0u, 1u, 2u, 5u}) {
      const at::Tensor tensor = load(path, LoadOptions().threads(threads));
      CHECK(std::memcmp(tensor.data_ptr(), data.data(), data.size()) == 0);
      CHECK(tensor.stride(0) == (fortran_order ? 1 : columns));
      CHECK(tensor.stride(1) == (fortran_order ? rows : 1));
    }
    std::string big = read_bytes(path);
    big[big.find("'<f4'") + 1] = '>';
    for (std::size_t i = big.size() - data.size(); i < big.size(); i += 4) {
      std::reverse(big.begin() + static_cast<std::ptrdiff_t>(i),
                   big.begin() + static_cast<std::ptrdiff_t>(i) + 4);
    }
    write_bytes(folder / "big.npy", big);
    CHECK(std::memcmp(load(folder / "big.npy").data_ptr(), data.data(), data.size()) == 0);
    const at::Tensor doubles = load(folder / "big.npy", LoadOptions().dtype(at::kDouble));
    CHECK(doubles.strides() == load(path).strides());
    CHECK(at::equal(doubles, load(path).to(at::kDouble)));
  }
}

TEST_CASE("load_all() keeps the order of the paths and names the first file that fails",
          "[load_all]") {
  const Folder folder;
  std::vector<std::filesystem::path> paths;
  for (int i = 0; i < 200; ++i) {
    paths.push_back(folder / (std::to_string(i) + ".npy"));
    save(paths.back(), at::full({10}, i), SaveOptions().sync(false));
  }
  for (const std::size_t threads : {0u, 1u, 5u}) {
    const auto tensors = load_all(paths, LoadOptions().threads(threads).dtype(at::kFloat));
    REQUIRE(tensors.size() == paths.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      CHECK(at::equal(tensors[i], at::full({10}, static_cast<float>(i))));
    }
  }
  CHECK(load_all({}).empty());
  write_bytes(paths[150], "junk");
  std::filesystem::remove(paths[50]);
  for (int round = 0; round < 10; ++round) {
    const Error error = error_of([&] { (void)load_all(paths); });
    CHECK(error.code() == ErrorCode::NotFound);
    CHECK(error.path() == paths[50]);
  }
}

TEST_CASE("load() in inference mode returns inference tensors", "[threads]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 1500, 2000);
  const at::Tensor want = load(path, LoadOptions().dtype(at::kDouble));
  {
    const c10::InferenceMode guard;
    const at::Tensor got = load(path, LoadOptions().dtype(at::kDouble).threads(3));
    CHECK(got.is_inference());
    CHECK(at::equal(got, want));
    CHECK(at::equal(load(path, LoadOptions().mmap(true)).to(at::kDouble), want));
  }
}

TEST_CASE("eight threads load and save the same files at once", "[threads]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 1500, 2000);
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const auto mine = folder / ("t" + std::to_string(i) + ".npy");
      for (int round = 0; round < 5; ++round) {
        const at::Tensor tensor = load(path, LoadOptions().mmap(i % 2 == 0));
        save(mine, tensor.narrow(0, i, 10), SaveOptions().sync(false));
        save(folder / "shared.npy", tensor.narrow(0, 5, 10), SaveOptions().sync(false));
        if (at::equal(load(mine), tensor.narrow(0, i, 10)) &&
            at::equal(load(folder / "shared.npy"), tensor.narrow(0, 5, 10))) {
          ++good;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 40);
}
