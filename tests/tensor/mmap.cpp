// Mapped files.

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/mappings.hpp"
#include "support/resize.hpp"

using namespace torch_npy;

TEST_CASE("a loaded tensor owns its memory, a mapped one shows the file and never changes it",
          "[memory]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 100, 100);
  const std::string before = read_bytes(path);
  at::Tensor loaded = load(path);
  at::Tensor mapped = load(path, LoadOptions().mmap(true));
  const at::Tensor copy = loaded.clone();
  loaded.fill_(7);
  mapped.narrow(0, 0, 50).fill_(7);
  CHECK(read_bytes(path) == before);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(before.size() - 4));
    file << "\x01\x02\x03\x04";
  }
  CHECK(at::equal(loaded, at::full({100, 100}, 7.0f)));
  CHECK(bytes_of(mapped).substr(39996) == "\x01\x02\x03\x04");

  // Mapped memory lives as long as any tensor on it.
  const auto other = write_floats(folder / "b.npy", 100, 100);
  at::Tensor view = load(other, LoadOptions().mmap(true)).narrow(0, 99, 1);
  std::filesystem::remove(other);
  CHECK(at::equal(view, copy.narrow(0, 99, 1)));
  check_grows(mapped, {200, 100});
  at::Tensor large = load(write_floats(folder / "c.npy", 3000, 1000));
  large.resize_({4000, 1000}).fill_(1);
  CHECK(at::equal(large, at::ones({4000, 1000})));
}

TEST_CASE("mmap(true) maps without a copy wherever the file allows it", "[memory]") {
  const Folder folder;
  const auto check_mapped = [](const at::Tensor& tensor, bool expected = true) {
    CHECK(is_mapped(tensor.data_ptr(), ".npy", expected) == expected);
  };
  const auto mmap = LoadOptions().mmap(true);
  const auto c = write_floats(folder / "c.npy", 50, 40);
  save(c, load(c));  // with NumPy's header, whose data is aligned
  const auto f = folder / "f.npy";
  save(f, load(c).t());
  check_mapped(load(c, mmap));
  check_mapped(load(c, LoadOptions(mmap).rows(3, 9)));
  check_mapped(load(f, mmap));
  check_mapped(load(c), false);
  check_mapped(load(f, LoadOptions(mmap).rows(3, 9)));
  check_mapped(load(c, LoadOptions(mmap).dtype(at::kDouble)), false);
  const std::string text = header_text("'<f4'", "(2,)");
  const std::string odd = text + std::string(text.size() % 2 + 1, ' ');
  check_mapped(load(write_bytes(folder / "odd.npy", npy(odd, "abcdefgh")), mmap), false);
  const std::string big = header_text("'>f4'", "(2,)");
  check_mapped(load(write_bytes(folder / "big.npy", npy(big, "abcdefgh")), mmap), false);
  std::istringstream stream(read_bytes(c));
  CHECK(error_of([&] { (void)load(stream, mmap); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { (void)load_bytes("", 0, mmap); }).code() == ErrorCode::InvalidArgument);
}
