// Rows of an array.

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("rows() loads those rows from any source and in either order", "[rows]") {
  const Folder folder;
  for (const auto& [rows, columns] :
       {std::pair<std::int64_t, std::int64_t>{7, 5}, {3000, 40}, {5000, 3}, {4, 9000}}) {
    for (const bool fortran_order : {false, true}) {
      const auto path = write_floats(folder / "rows.npy", rows, columns, fortran_order);
      const std::string bytes = read_bytes(path);
      const at::Tensor whole = load(path);
      for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, rows},
                                       {0, 1},
                                       {1, 3},
                                       {rows - 1, rows},
                                       {2, rows - 1},
                                       {2, 2},
                                       {rows, rows}}) {
        INFO(rows << "x" << columns << " rows " << begin << " to " << end << " fortran "
                  << fortran_order);
        const at::Tensor want = whole.narrow(0, begin, end - begin);
        for (const bool mmap : {false, true}) {
          const at::Tensor got = load(path, LoadOptions().rows(begin, end).mmap(mmap));
          CHECK(got.sizes() == want.sizes());
          CHECK(at::equal(got, want));
          if (end - begin > 1) CHECK(got.stride(0) == (fortran_order ? 1 : columns));
        }
        const auto options = LoadOptions().rows(begin, end);
        CHECK(at::equal(load_bytes(bytes.data(), bytes.size(), options), want));
        std::istringstream stream(bytes + "next");
        CHECK(at::equal(load(stream, options), want));
        CHECK(std::string(std::istreambuf_iterator<char>(stream), {}) == "next");
        CHECK(at::equal(load(path, LoadOptions(options).dtype(at::kDouble)), want.to(at::kDouble)));
      }
    }
  }
  const auto path = write_floats(folder / "rows.npy", 7, 5);
  for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{-1, 3},
                                   {0, 8},
                                   {3, 2},
                                   {8, 8},
                                   {INT64_MIN, INT64_MAX}}) {
    const Error error =
        error_of([&, b = begin, e = end] { (void)load(path, LoadOptions().rows(b, e)); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("of axis 0 is not inside the array of shape (7, 5)"));
  }
  write_bytes(folder / "scalar.npy", npy(header_text("'<f4'", "()"), "abcd"));
  CHECK(error_of([&] { (void)load(folder / "scalar.npy", LoadOptions().rows(0, 1)); }).code() ==
        ErrorCode::InvalidArgument);
}

TEST_CASE("rows() of a 64 GiB file allocates only those rows", "[rows]") {
  const Folder folder;
  // A sparse file: 64 GiB of zeros, except the requested row.
  const std::string header = npy(header_text("'<f4'", "(16777216, 1024)"));
  const auto path = write_bytes(folder / "giant.npy", header);
  const std::uint64_t row = 4096;
  std::filesystem::resize_file(path, header.size() + row * 16777216);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(header.size() + row * 9000000));
    file << bytes_of(std::vector<float>(1024, 3.5f));
  }
  largest_allocation = 0;
  const at::Tensor tensor = load(path, LoadOptions().rows(9000000, 9000001));
  CHECK(at::equal(tensor, at::full({1, 1024}, 3.5f)));
  CHECK(largest_allocation < (1u << 20));
  const Error error = error_of([&] { (void)load(path, LoadOptions().max_bytes(1 << 30)); });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK(largest_allocation < (1u << 20));
  const at::Tensor mapped = load(path, LoadOptions().mmap(true));
  CHECK(mapped.size(0) == 16777216);
  CHECK(mapped[9000000][1023].item<float>() == 3.5f);
}
