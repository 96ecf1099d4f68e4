// Reading archives.

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "support/allocations.hpp"
#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/resize.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("archives from NumPy and zipfile load bit for bit", "[numpy][npz]") {
  const char* const other = std::getenv("TORCH_NPY_ARCHIVES");
  const std::filesystem::path folder = other ? other : TORCH_NPY_TEST_DATA "/npz";
  std::vector<std::string> archives;
  std::vector<std::vector<std::vector<std::string>>> lines;
  for (const auto& line : read_table(folder / "expected.txt")) {
    REQUIRE(line.size() == 4);
    if (archives.empty() || archives.back() != line[0]) {
      archives.push_back(line[0]);
      lines.emplace_back();
    }
    lines.back().push_back(line);
  }
  REQUIRE(archives.size() == 7);
  for (std::size_t i = 0; i < archives.size(); ++i) {
    INFO(archives[i]);
    const NpzFile file(folder / archives[i]);
    std::vector<std::string> names;
    bool all_stored = true;
    for (const auto& line : lines[i]) {
      INFO(line[1]);
      const bool is_deflated = line[3] == "1";
      names.push_back(line[1]);
      all_stored = all_stored && !is_deflated;
      CHECK(file.contains(line[1]));
      CHECK(file.is_deflated(line[1]) == is_deflated);
      if (is_deflated && !has_deflate()) {
        CHECK_THAT(error_of([&] { (void)file.load(line[1]); }).what(), says("torch_npy::npz"));
        continue;
      }
      const at::Tensor want = load(arrays_folder() / line[2]);
      CHECK(same(file.load(line[1]), want));
      CHECK(same(file.load(line[1], LoadOptions().mmap(true)), want));
      const Header header = file.header(line[1]);
      const Header there = read_header(arrays_folder() / line[2]);
      CHECK(header.dtype == there.dtype);
      CHECK(header.shape == there.shape);
      CHECK(header.fortran_order == there.fortran_order);
    }
    if (!all_stored && !has_deflate()) continue;  // which members are arrays cannot be known then
    CHECK(file.names() == names);
    const Arrays all = load_npz(folder / archives[i]);
    REQUIRE(all.keys() == names);
    for (std::size_t k = 0; k < names.size(); ++k) {
      CHECK(same(all[k].value(), load(arrays_folder() / lines[i][k][2])));
    }
  }
  CHECK(load_npz(folder / "empty.npz").is_empty());
}

TEST_CASE("a name means an array first and a member second", "[npz]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const Arrays arrays{{"x", at::full({2}, 1)}, {"x.npy", at::full({2}, 2)}};
  save_npz(path, arrays);
  const NpzFile file(path);
  CHECK(file.names() == arrays.keys());
  CHECK(same(file.load("x"), arrays["x"]));
  CHECK(same(file.load("x.npy"), arrays["x.npy"]));
  CHECK(same(file.load("x.npy.npy"), arrays["x.npy"]));
}

TEST_CASE("every load option works on arrays of an archive", "[npz]") {
  const Folder folder;
  const at::Tensor big = at::arange(300000).remainder(1000).to(at::kFloat).view({600, 500});
  for (const bool compressed : {false, true}) {
    if (compressed && !has_deflate()) continue;
    const auto path = folder / "a.npz";
    save_npz(path, {{"big", big}, {"fortran", big.t()}, {"none", at::empty({0, 3})}},
             SaveNpzOptions().compressed(compressed).sync(false));
    const NpzFile file(path);
    CHECK(file.is_deflated("big") == compressed);
    CHECK(same(file.load("big"), big));
    CHECK(same(file.load("fortran"), big.t()));
    CHECK(same(file.load("none"), at::empty({0, 3})));
    CHECK(same(file.load("big", LoadOptions().dtype(at::kInt)), big.to(at::kInt)));
    CHECK(same(file.load("big", LoadOptions().rows(7, 19)), big.slice(0, 7, 19)));
    CHECK(at::equal(file.load("fortran", LoadOptions().rows(7, 19)), big.t().slice(0, 7, 19)));
    const auto region = LoadOptions().region({{7, 19}, {3, 200}});
    for (const bool mmap : {false, true}) {
      const auto options = LoadOptions(region).mmap(mmap);
      CHECK(at::equal(file.load("big", options), big.slice(0, 7, 19).slice(1, 3, 200)));
      CHECK(
          at::equal(file.array("fortran").load(options), big.t().slice(0, 7, 19).slice(1, 3, 200)));
    }
    CHECK(error_of([&] { (void)load_npz(path, region); }).code() == ErrorCode::InvalidArgument);
    CHECK(load_npz(path, LoadOptions(region).out_of_bounds(OutOfBounds::Fill))["none"].numel() ==
          12 * 197);
    CHECK(same(file.load("big", LoadOptions().pinned_memory(true).threads(3)), big));
    CHECK(file.header("big").shape == std::vector<std::int64_t>{600, 500});
    CHECK(file.header("big").data_offset == 128);
    if (compressed) check_grows(file.load("big"), {700, 500});
    const Arrays all = load_npz(path, LoadOptions().dtype(at::kHalf).threads(2));
    CHECK(same(all["big"], big.to(at::kHalf)));

    largest_allocation = 0;
    const Error large = error_of([&] { (void)file.load("big", LoadOptions().max_bytes(1199999)); });
    CHECK(large.code() == ErrorCode::TooLarge);
    CHECK_THAT(large.what(), says("member \"big.npy\": a tensor of 1200000 bytes"));
    CHECK(large.path() == path);
    CHECK(error_of([&] { (void)file.load("big", LoadOptions().rows(0, 601)); }).code() ==
          ErrorCode::InvalidArgument);
    CHECK(largest_allocation < 200000);
  }
}

TEST_CASE("load_fields() reads structured arrays of an archive", "[npz]") {
  const Folder folder;
  std::string records;
  for (int i = 0; i < 5000; ++i) {
    records +=
        little(static_cast<std::uint64_t>(i), 4) + little(static_cast<std::uint64_t>(3 * i), 2);
  }
  std::string text = header_text("[('a', '<i4'), ('b', '<i2')]", "(5000,)");
  text.insert(text.size() - 1, 118 - text.size(),
              ' ');  // the records are aligned, in file and memory
  const std::string file = npy(text, records);
  for (const bool packed : {false, true}) {
    if (packed && !has_deflate()) continue;
    ZipPart part = packed ? ZipPart::packed("tt.npy", file) : ZipPart::stored("tt.npy", file);
    const NpzFile archive(write_bytes(folder / "a.npz", zip({part})));
    for (const bool mapped : {false, true}) {
      const auto fields = archive.load_fields("tt", LoadOptions().mmap(mapped));
      CHECK(fields.keys() == std::vector<std::string>{"a", "b"});
      CHECK(at::equal(fields["a"], at::arange(5000).to(at::kInt)));
      CHECK(at::equal(fields["b"], at::arange(0, 15000, 3).to(at::kShort)));
      CHECK(fields["b"].strides() == at::IntArrayRef({3}));
      check_mapped(fields["b"], "a.npz", mapped && !packed);
    }
    const auto rows = archive.load_fields("tt", LoadOptions().rows(7, 9));
    CHECK(at::equal(rows["a"], at::arange(7, 9).to(at::kInt)));
    CHECK_THAT(
        error_of([&] { (void)archive.load("tt"); }).what(),
        says("member \"tt.npy\": a structured dtype of 2 fields is not one tensor: load_fields()"));
    part.both([](ZipHeader& header) { ++header.crc; });
    const NpzFile bad(write_bytes(folder / "bad.npz", zip({part})));
    CHECK_THAT(error_of([&] { (void)bad.load_fields("tt"); }).what(), says("CRC-32"));
  }
}
