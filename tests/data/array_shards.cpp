// One array in several files.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/random_crop.hpp>
#include <torch_npy/data/stored_rows.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"
#ifndef _WIN32
#ifndef _WIN32
#include "support/descriptors.hpp"
#endif
#endif

using namespace torch_npy;
namespace fs = std::filesystem;

namespace {

const SaveOptions kFast = SaveOptions().sync(false);

/// Saves parts of `whole` with these numbers of rows as s000.npy, s001.npy, ...
std::vector<fs::path> save_shards(const Folder& folder, const at::Tensor& whole,
                                  const std::vector<std::int64_t>& rows) {
  std::vector<fs::path> paths;
  std::int64_t begin = 0;
  for (const std::int64_t count : rows) {
    paths.push_back(folder / name_of(static_cast<int>(paths.size())));
    save(paths.back(), whole.narrow(0, begin, count), kFast);
    begin += count;
  }
  return paths;
}

at::Tensor select(const at::Tensor& whole, const Indices& rows) {
  const std::vector<std::int64_t> index(rows.begin(), rows.end());
  return whole.index_select(0, at::tensor(index, at::kLong));
}

const Indices kSome = {9, 0, 3, 4, 2, 9, 7, 5};

Error shard_error(const std::vector<fs::path>& paths, const LoadOptions& options = {}) {
  return error_of([&] { ArrayDataset dataset(paths, options); });
}

}  // namespace

TEST_CASE("shards of any length are one array along axis 0", "[shards]") {
  const Folder folder;
  const at::Tensor whole = samples(10);
  for (const std::vector<std::int64_t>& rows :
       {std::vector<std::int64_t>{4, 6}, {1, 8, 1}, {10}, {0, 3, 0, 0, 7, 0}, {2, 2, 2, 2, 2}}) {
    const auto paths = save_shards(folder, whole, rows);
    const ArrayDataset dataset(paths);
    REQUIRE(dataset.size() == 10);
    CHECK(at::equal(dataset.stacked().get_batch(kSome).data, select(whole, kSome)));
    CHECK(at::equal(dataset.get(8).data, whole[8]));
    auto loader = loader_of(dataset.stacked(), 3, 2);
    CHECK(at::equal(epoch(*loader), whole));
    std::size_t i = 0;
    for (std::size_t shard = 0; shard < rows.size(); ++shard) {
      for (std::int64_t row = 0; row < rows[shard]; ++row) {
        CHECK(dataset.key(i++) == paths[shard].generic_string() + "[" + std::to_string(row) + "]");
      }
    }
    CHECK(dataset.lengths() == std::vector<std::int64_t>(10, 2));
    const auto as_double = LoadOptions().dtype(at::kDouble);
    CHECK(at::equal(ArrayDataset(paths, as_double).stacked().get_batch(kSome).data,
                    select(whole, kSome).to(at::kDouble)));
  }
}

TEST_CASE("shards may be given as a list in braces, of strings, or of a folder", "[shards]") {
  const Folder folder;
  const auto paths = save_shards(folder, samples(10), {4, 6});
  const std::string a = paths[0].string();
  const std::string b = paths[1].string();
  const auto check = [&](const Dataset<TensorExample>& dataset) {
    CHECK(at::equal(dataset.stacked().get_batch(kSome).data, select(samples(10), kSome)));
  };
  check(ArrayDataset({paths[0], paths[1]}));
  check(ArrayDataset({a.c_str(), b.c_str()}));
  check(ArrayDataset(std::vector<std::string>{a, b}));
  const FolderDataset listed(folder.path());
  check(ArrayDataset(listed.files()));
  check(ArrayDataset<TensorExample>({a.c_str(), b.c_str()}, LoadOptions()));
  const ArrayDataset pairs({a.c_str(), b.c_str()}, at::arange(10));
  CHECK(at::equal(pairs.stacked().get_batch(kSome).target, select(at::arange(10), kSome)));
  const ArrayDataset twice({paths[0], paths[1]}, {b.c_str(), a.c_str()});
  CHECK(at::equal(twice.get(0).data, twice.get(6).target));
  const Error error = shard_error({});
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("the list of files is empty"));
}

TEST_CASE("data and targets may be divided into shards in different ways", "[shards]") {
  const Folder data;
  const Folder targets;
  const auto inputs = save_shards(data, samples(10), {4, 6});
  const auto labels = save_shards(targets, at::arange(100, 110).unsqueeze(1), {3, 3, 4});
  const ArrayDataset dataset(inputs, labels, {}, LoadOptions().squeeze(1));
  const auto batch = dataset.stacked().get_batch(kSome);
  CHECK(at::equal(batch.data, select(samples(10), kSome)));
  CHECK(at::equal(batch.target, select(at::arange(100, 110), kSome)));
  save(labels[2], at::zeros({3, 1}, at::kLong), kFast);
  const Error error = error_of([&] { ArrayDataset wrong(inputs, labels); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("found 10 samples, in " + inputs[0].string() +
                                " and 1 other file and 9 targets, in " + labels[0].string() +
                                " and 2 other files"));
}

TEST_CASE("a shard that is unlike the first one is an Error that names it", "[shards]") {
  const Folder folder;
  auto paths = save_shards(folder, samples(10), {4, 3, 3});
  const auto check = [&](const std::string& words) {
    const Error error = shard_error(paths);
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK(error.path() == paths[1]);
    CHECK_THAT(error.what(), says(words));
  };
  const std::string expected = "expected rows of shape (2, 3) and dtype '<f4', as in " +
                               paths[0].string() + "; found shape ";
  save(paths[1], at::zeros({3, 3, 2}), kFast);
  check(expected + "(3, 2) and dtype '<f4'");
  save(paths[1], at::zeros({3, 6}), kFast);
  check(expected + "(6,) and dtype '<f4'");
  save(paths[1], at::zeros({3, 2, 3}, at::kDouble), kFast);
  check(expected + "(2, 3) and dtype '<f8'");
  save(paths[1], at::zeros({0, 2, 4}), kFast);
  check(expected + "(2, 4) and dtype '<f4'");
  write_bytes(paths[1], big_endian_npy(samples(3)));
  check(expected + "(2, 3) and dtype '>f4'");
  save(paths[1], samples(3).permute({2, 1, 0}).contiguous().permute({2, 1, 0}), kFast);
  check("expected the same order of axes, C or Fortran, as in " + paths[0].string());
  save(paths[1], at::zeros({}), kFast);
  check("a 0-d array has no axis 0");
  fs::remove(paths[1]);
  CHECK(shard_error(paths).code() == ErrorCode::NotFound);
  CHECK(shard_error(paths).path() == paths[1]);
}

TEST_CASE("shards in Fortran order, swapped or converted, give the rows that load() gives",
          "[shards]") {
  const Folder folder;
  const at::Tensor whole = samples(10);
  std::vector<std::int64_t> strides = {1, 2};  // of a row
  const auto check = [&](const std::vector<fs::path>& paths, const LoadOptions& options = {}) {
    std::vector<at::Tensor> parts;
    for (const fs::path& path : paths) parts.push_back(load(path, options));
    const at::Tensor want = at::cat(parts);
    const ArrayDataset dataset(paths, options);
    const auto got = dataset.stacked().get_batch({9, 0, 4, 5});
    CHECK(got.data.scalar_type() == want.scalar_type());
    CHECK(at::equal(got.data, select(want, {9, 0, 4, 5})));
    CHECK(dataset.get(4).data.strides().vec() == strides);
  };
  std::vector<fs::path> paths = {folder / "a.npy", folder / "b.npy"};
  const std::vector<at::Tensor> halves = {whole.narrow(0, 0, 4), whole.narrow(0, 4, 6)};
  for (std::size_t i = 0; i < 2; ++i) {
    save(paths[i], halves[i].permute({2, 1, 0}).contiguous().permute({2, 1, 0}), kFast);
  }
  check(paths);
  check(paths, LoadOptions().dtype(at::kLong));
  // An array without rows is always saved in C order.
  save(folder / "none.npy", whole.narrow(0, 0, 0), kFast);
  check({paths[0], folder / "none.npy", paths[1]});
  const std::vector<fs::path> after_empty = {folder / "none.npy", paths[0], paths[1]};
  CHECK(at::equal(ArrayDataset(after_empty).get(9).data, whole[9]));
  CHECK(ArrayDataset(after_empty).get(9).data.strides().vec() == strides);
  strides = {3, 1};
  for (std::size_t i = 0; i < 2; ++i) write_bytes(paths[i], big_endian_npy(halves[i]));
  check(paths);
  check(paths, LoadOptions().dtype(at::kInt));
  // Rows of one axis are the same in both orders.
  save(paths[0], whole.narrow(0, 0, 4).flatten(1).t().contiguous().t(), kFast);
  save(paths[1], whole.narrow(0, 4, 6).flatten(1), kFast);
  const at::Tensor flat = ArrayDataset(paths).stacked().get_batch({9, 0, 4, 5}).data;
  CHECK(at::equal(flat, select(whole.flatten(1), {9, 0, 4, 5})));
  // A swapped array whose rows are longer than what is converted at a time.
  const at::Tensor large = (at::arange(3 * 40000) % 1000).reshape({3, 40000}).to(at::kFloat);
  for (std::size_t i = 0; i < 2; ++i) write_bytes(paths[i], big_endian_npy(large));
  const auto as_double = LoadOptions().dtype(at::kDouble);
  CHECK(at::equal(ArrayDataset(paths, as_double).get(5).data, large[2].to(at::kDouble)));
  for (std::size_t i = 0; i < 2; ++i) save(paths[i], large, kFast);
  CHECK(at::equal(ArrayDataset(paths, as_double).get(4).data, large[1].to(at::kDouble)));
}

TEST_CASE("shards in Fortran order may have one that is in both orders", "[shards]") {
  // NumPy writes fortran_order: False for it, whatever it is asked for.
  const Folder folder;
  const auto make = [&](const char* name, std::int64_t rows, bool fortran) {
    const at::Tensor values = at::arange(rows * 5).reshape({rows, 1, 5}) + 100 * rows;
    const auto path = folder / name;
    save(path, fortran ? values.permute({2, 1, 0}).contiguous().permute({2, 1, 0}) : values);
    return std::pair(path, values);
  };
  const auto [a, first] = make("a.npy", 3, true);
  const auto [b, second] = make("b.npy", 1, false);
  const auto [c, third] = make("c.npy", 4, true);
  const at::Tensor all = at::cat({first, second, third});
  for (const auto& paths : {std::vector{a, b, c}, std::vector{b, a, c}}) {
    const auto rows = paths[0] == a ? all : at::cat({second, first, third});
    const ArrayDataset<TensorExample> dataset(paths);
    for (std::int64_t i = 0; i < 8; ++i) {
      CHECK(at::equal(dataset.get(static_cast<std::size_t>(i)).data, rows[i]));
    }
    const auto crops = dataset.map(transforms::RandomCrop({1, 5})).stacked();
    CHECK(at::equal(crops.get_batch({3, 0, 7}).data,
                    rows.index_select(0, at::tensor({3, 0, 7}, at::kLong))));
  }
}

TEST_CASE("rows() selects rows of the joined array, and key() is the row in the file", "[shards]") {
  const Folder folder;
  const auto paths = save_shards(folder, samples(10), {2, 3, 0, 4, 1});
  for (std::int64_t begin = 0; begin <= 10; ++begin) {
    for (std::int64_t end = begin; end <= 10; ++end) {
      const ArrayDataset dataset(paths, LoadOptions().rows(begin, end));
      REQUIRE(*dataset.size() == static_cast<std::size_t>(end - begin));
      for (std::int64_t i = begin; i < end; ++i) {
        const auto row = static_cast<std::size_t>(i - begin);
        CHECK(number_of(dataset.get(row).data) == i);
        CHECK(dataset.key(row) == ArrayDataset(paths).key(static_cast<std::size_t>(i)));
      }
    }
  }
  const Error error = shard_error(paths, LoadOptions().rows(3, 11));
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(),
             says("the region [3, 11) of axis 0 is not inside the array of shape (10, 2, 3)"));
  const ArrayDataset tensor(samples(10), LoadOptions().rows(3, 5));
  CHECK(tensor.size() == 2);
  CHECK(number_of(tensor.get(1).data) == 4);
  CHECK(tensor.key(1) == "[4]");
}

TEST_CASE("region() selects a part of each row of joined shards, in either order", "[shards]") {
  const Folder folder;
  const at::Tensor whole = at::arange(10 * 4 * 5 * 6).reshape({10, 4, 5, 6}).to(at::kInt);
  for (const bool fortran_order : {false, true}) {
    std::vector<fs::path> paths;
    std::int64_t begin = 0;
    for (const std::int64_t rows : {3, 0, 5, 2}) {
      paths.push_back(folder / name_of(static_cast<int>(paths.size())));
      at::Tensor part = whole.narrow(0, begin, rows);
      if (fortran_order) part = part.permute({3, 2, 1, 0}).contiguous().permute({3, 2, 1, 0});
      save(paths.back(), part, kFast);
      begin += rows;
    }
    const auto check = [&](const ArrayData& data, const LoadOptions& options) {
      const ArrayDataset dataset(data, LoadOptions(options).region({{1, 9}, {1, 4}, {}, {2, 5}}));
      REQUIRE(dataset.size() == 8);
      const at::Tensor want = whole.slice(0, 1, 9).slice(1, 1, 4).slice(3, 2, 5);
      const Indices all = {7, 0, 1, 2, 3, 4, 5, 6};
      CHECK(at::equal(dataset.stacked().get_batch(all).data.to(at::kInt), select(want, all)));
      const auto crop = dataset.map(transforms::RandomCrop({3, 2})).stacked();
      for (int i = 0; i < 3; ++i) {
        const auto batch = crop.get_batch(all);
        REQUIRE(batch.data.sizes() == at::IntArrayRef({8, 3, 3, 2}));
        for (std::size_t k = 0; k < all.size(); ++k) {
          const at::Tensor patch = batch.data[static_cast<std::int64_t>(k)].to(at::kInt);
          const std::int64_t first = patch[0][0][0].item<std::int64_t>();
          const at::Tensor row = want[static_cast<std::int64_t>(all[k])];
          const std::int64_t at = first - row[0][0][0].item<std::int64_t>();
          CHECK(at::equal(patch, row.narrow(1, at / 6, 3).narrow(2, at % 6, 2)));
        }
      }
    };
    check(paths, {});
    check(paths, LoadOptions().dtype(at::kDouble));
    check(whole, {});
    CHECK(ArrayDataset(paths, LoadOptions().region({{4, 9}, {1, 2}})).key(0) ==
          paths[2].generic_string() + "[1]");
  }
}

TEST_CASE("a value that does not fit is an Error about the shard that has it", "[shards]") {
  const Folder folder;
  std::vector<fs::path> paths;
  for (const char* values : {"\1\0\2\0", "\3\0\xff\xff", "\4\0\5\0"}) {
    paths.push_back(folder / name_of(static_cast<int>(paths.size())));
    write_bytes(paths.back(), npy(header_text("'<u2'", "(2,)"), std::string(values, 4)));
  }
  const ArrayDataset dataset(paths, LoadOptions().dtype(at::kShort));
  CHECK(dataset.get(5).data.item<int>() == 5);
  const Error error = error_of([&] { (void)dataset.stacked().get_batch({0, 4, 3, 1}); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK(error.path() == paths[1]);
  CHECK_THAT(error.what(), says("the value 65535 does not fit"));
}

TEST_CASE("verify() reads the header of each shard again", "[shards]") {
  const Folder folder;
  const auto paths = save_shards(folder, samples(10), {4, 3, 3});
  const ArrayDataset dataset(paths, at::arange(10));
  CHECK(dataset.verify().empty());
  fs::remove(paths[2]);
  save(paths[1], samples(2), kFast);
  const auto errors = dataset.verify();
  REQUIRE(errors.size() == 2);
  CHECK(errors[0].path() == paths[1]);
  CHECK_THAT(errors[0].what(), says("expected 3 rows, found 2 rows; make the dataset again"));
  CHECK(errors[1].path() == paths[2]);
  CHECK(errors[1].code() == ErrorCode::NotFound);
  // The mapped files stay as they were.
  CHECK(at::equal(dataset.get(9).data, sample(9)));
  CHECK(at::equal(dataset.get(6).data, sample(6)));
}

TEST_CASE("of many shards, only some are mapped at a time", "[shards]") {
  const Folder folder;
  constexpr std::size_t kShards = 40;
  constexpr std::size_t kLimit = 8;
  const at::Tensor whole = samples(2 * kShards);
  const auto paths = save_shards(folder, whole, std::vector<std::int64_t>(kShards, 2));
  const auto pool = std::make_shared<torch_npy::detail::BufferPool>(1 << 20);
  const torch_npy::detail::StoredRows rows(torch_npy::detail::ArrayFiles(paths), {}, pool, false,
                                           kLimit);
  CHECK(rows.mapped() == kLimit);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 300; ++i) {
        const Indices some = {(7 * i + t) % 80, (11 * i + 3 * t) % 80, (i * i) % 80};
        if (!at::equal(rows.gather(some, std::nullopt, false), select(whole, some))) ++wrong;
        if (rows.mapped() > kLimit + 4 * 3) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  // Windows across the shards need several at a time.
  const at::Tensor windows = rows.gather(Indices{0, 50}, 30, false);
  CHECK(at::equal(windows[1], whole.narrow(0, 50, 30)));

  // A shard that has changed while it was not mapped is an Error.
  Indices others;
  for (std::size_t i = 0; i < 2 * kLimit; ++i) others.push_back(2 * i);
  (void)rows.gather(others, std::nullopt, false);
  (void)rows.gather(Indices{0}, std::nullopt, false);
  const fs::path last = paths[kShards - 1];
  const Indices last_row = {2 * kShards - 1};
  save(last, samples(3), kFast);
  const Error error = error_of([&] { (void)rows.gather(last_row, std::nullopt, false); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK(error.path() == last);
  CHECK_THAT(error.what(), says("it has changed since the dataset was made"));
  fs::remove(last);
  CHECK(error_of([&] { (void)rows.gather(last_row, std::nullopt, false); }).code() ==
        ErrorCode::NotFound);
}

#ifndef _WIN32
TEST_CASE("shards need few open files while they are opened, and none afterwards", "[shards]") {
  const Folder folder;
  const at::Tensor whole = samples(200);
  const auto paths = save_shards(folder, whole, std::vector<std::int64_t>(200, 1));
  const ArrayDataset dataset = [&] {
    const FewDescriptors few(34);
    return ArrayDataset(paths);
  }();
  // Before, because the undefined-behaviour sanitizer opens a pipe when it first sees a type.
  CHECK(at::equal(dataset.stacked().get_batch({7}).data, select(whole, {7})));
  const FewDescriptors none(0);
  CHECK(at::equal(dataset.stacked().get_batch({199, 0, 100}).data, select(whole, {199, 0, 100})));
}
#endif

TEST_CASE("a table of parts finds the part of each index", "[shards]") {
  for (const std::vector<std::size_t>& sizes : {std::vector<std::size_t>{1},
                                                {0, 0, 5, 0},
                                                {3, 0, 0, 4},
                                                {1000000, 1, 1, 1, 1, 1, 70},
                                                std::vector<std::size_t>(300, 1),
                                                {0},
                                                {}}) {
    const torch_npy::detail::PartTable table(sizes);
    std::size_t index = 0;
    for (std::size_t part = 0; part < sizes.size(); ++part) {
      CHECK(table.begin_of(part) == index);
      for (std::size_t k = 0; k < sizes[part]; k += k < 1000 ? 1 : 997) {
        if (table.part_of(index + k) != part) FAIL("index " << index + k);
      }
      index += sizes[part];
    }
    CHECK(table.size() == index);
  }
}
