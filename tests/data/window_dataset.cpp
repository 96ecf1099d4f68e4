// Windows of arrays: tokens, time series and frames.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/window_dataset.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/stored_array.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace fs = std::filesystem;

namespace {

const SaveOptions kNotSynced = SaveOptions().sync(false);

/// Bytes of an .npy file of uint16 tokens first, first + 1, ...
std::string tokens(int first, int count) {
  std::string data;
  for (int i = first; i < first + count; ++i) {
    data += static_cast<char>(i & 0xff);
    data += static_cast<char>(i >> 8);
  }
  return npy(header_text("'<u2'", "(" + std::to_string(count) + ",)"), data);
}

/// What the windows of arrays with these numbers of rows have, by counting; row k of all is k.
struct Model {
  std::vector<std::int64_t> rows;
  std::int64_t length, stride, offset, target_length;
  bool joins;

  std::vector<std::pair<std::int64_t, std::int64_t>> windows() const {  // first rows
    std::vector<std::pair<std::int64_t, std::int64_t>> all;
    std::vector<std::int64_t> parts = rows;
    if (joins) {
      std::int64_t sum = 0;
      for (const std::int64_t count : rows) sum += count;
      parts = {sum};
    }
    std::int64_t begin = 0;
    for (const std::int64_t count : parts) {
      for (std::int64_t start = 0; start < count; start += stride) {
        if (start + length > count || start + offset < 0 ||
            start + offset + target_length > count) {
          continue;
        }
        all.emplace_back(begin + start, begin + start + offset);
      }
      begin += count;
    }
    return all;
  }
};

at::Tensor count_from(std::int64_t first, std::int64_t length) {
  return at::arange(first, first + length);
}

std::vector<fs::path> save_counting(const Folder& folder, const std::vector<std::int64_t>& rows) {
  std::vector<fs::path> paths;
  std::int64_t begin = 0;
  for (const std::int64_t count : rows) {
    paths.push_back(folder / name_of(static_cast<int>(paths.size())));
    save(paths.back(), count_from(begin, count), kNotSynced);
    begin += count;
  }
  return paths;
}

}  // namespace

TEST_CASE("windows and their targets are the rows that counting gives", "[windows]") {
  const Folder folder;
  for (const std::vector<std::int64_t>& rows :
       {std::vector<std::int64_t>{20}, {7, 1, 0, 12}, {3, 17}, {5, 5, 5, 5}}) {
    const auto paths = save_counting(folder, rows);
    for (const std::int64_t length : {1, 4, 7}) {
      for (const std::int64_t stride : {1, 3, 4, 9}) {
        for (const auto& [offset, target_length] :
             {std::pair<std::int64_t, std::int64_t>{0, length},
              {1, length},
              {length, 2},
              {-2, 3}}) {
          for (const bool joins : {false, true}) {
            const Model model{rows, length, stride, offset, target_length, joins};
            const auto want = model.windows();
            INFO("length " << length << " stride " << stride << " target " << offset << ", "
                           << target_length << " joins " << joins << " arrays " << rows.size());
            const auto options =
                WindowOptions().stride(stride).across_shards(joins).target(offset, target_length);
            if (want.empty()) {
              const Error error = error_of([&] { WindowDataset dataset(paths, length, options); });
              CHECK(error.code() == ErrorCode::Mismatch);
              CHECK_THAT(error.what(), says("no window fits"));
              continue;
            }
            const WindowDataset dataset(paths, length, options);
            REQUIRE(*dataset.size() == want.size());
            Indices all(want.size());
            for (std::size_t i = 0; i < all.size(); ++i) all[i] = all.size() - 1 - i;
            const auto batch = dataset.stacked().get_batch(all);
            REQUIRE(batch.data.sizes() ==
                    at::IntArrayRef({static_cast<std::int64_t>(want.size()), length}));
            for (std::size_t i = 0; i < all.size(); ++i) {
              const auto& [first, target] = want[all[i]];
              const auto row = static_cast<std::int64_t>(i);
              CHECK(at::equal(batch.data[row], count_from(first, length)));
              CHECK(at::equal(batch.target[row], count_from(target, target_length)));
              CHECK(dataset.key(all[i]) ==
                    ArrayDataset(paths).key(static_cast<std::size_t>(first)));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("tokens of 16 bits become pairs of int64", "[windows]") {
  const Folder folder;
  const std::vector<fs::path> shards = {write_bytes(folder / "a.npy", tokens(0, 700)),
                                        write_bytes(folder / "b.npy", tokens(65000, 500))};
  const auto as_int64 = LoadOptions().dtype(at::kLong);
  for (const std::int64_t length : {5, 100, 400}) {
    const WindowDataset dataset(
        shards, length, WindowOptions().stride(length).data_options(as_int64).target(1, length));
    static_assert(std::is_same_v<decltype(dataset), const WindowDataset<Example<>>>);
    const std::int64_t in_first = (700 - 1) / length;
    REQUIRE(*dataset.size() == static_cast<std::size_t>(in_first + (500 - 1) / length));
    const auto batch = dataset.stacked().get_batch({static_cast<std::size_t>(in_first), 0});
    CHECK(batch.data.scalar_type() == at::kLong);
    CHECK(at::equal(batch.data[0], count_from(65000, length)));
    CHECK(at::equal(batch.target[0], count_from(65001, length)));
    CHECK(at::equal(batch.data[1], count_from(0, length)));
    CHECK(at::equal(batch.target[1], count_from(1, length)));
    // Both may be changed on their own.
    batch.data.zero_();
    CHECK(at::equal(batch.target[1], count_from(1, length)));
  }
  const Error error = error_of([&] {
    WindowDataset small(shards, 8, WindowOptions().data_options(LoadOptions().dtype(at::kShort)));
    (void)small.stacked().get_batch({0, 900});
  });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK(error.path() == shards[1]);
}

TEST_CASE("windows of a series of several columns, in either order and any dtype", "[windows]") {
  const Folder folder;
  const at::Tensor series = at::arange(40 * 3).reshape({40, 3}).to(at::kFloat);
  const auto check = [&](const ArrayData& data, const LoadOptions& options = {}) {
    const WindowDataset<TensorExample> dataset(data, 8,
                                               WindowOptions().stride(5).data_options(options));
    REQUIRE(dataset.size() == 7);
    const auto batch = dataset.stacked().get_batch({6, 2});
    REQUIRE(batch.data.sizes() == at::IntArrayRef({2, 8, 3}));
    CHECK(at::equal(batch.data[0], series.narrow(0, 30, 8).to(batch.data.scalar_type())));
    CHECK(at::equal(batch.data[1], series.narrow(0, 10, 8).to(batch.data.scalar_type())));
    CHECK(at::equal(dataset.get(1).data, series.narrow(0, 5, 8).to(batch.data.scalar_type())));
    CHECK(dataset.lengths() == std::vector<std::int64_t>(7, 8));
  };
  save(folder / "c.npy", series);
  save(folder / "f.npy", series.t().contiguous().t());
  write_bytes(folder / "big.npy", big_endian_npy(series));
  for (const char* name : {"c.npy", "f.npy", "big.npy"}) {
    check(folder / name);
    check(folder / name, LoadOptions().dtype(at::kDouble));
    check(open(folder / name));
  }
  const std::string bytes = read_bytes(folder / "c.npy");
  check(open_bytes(bytes.data(), bytes.size()));
  check(series);
  check(series.t().contiguous().t());
  check(series.to(at::kDouble), LoadOptions().dtype(at::kFloat));
  // A forecast of one column.
  const WindowDataset forecast(folder / "c.npy", 8, WindowOptions().target(8, 4));
  CHECK(forecast.size() == 29);
  CHECK(at::equal(forecast.get(28).target, series.narrow(0, 36, 4)));
  const WindowDataset rows(folder / "c.npy", 4,
                           WindowOptions().data_options(LoadOptions().rows(10, 20)).target(4, 1));
  CHECK(rows.size() == 6);
  CHECK(at::equal(rows.get(5).target, series.narrow(0, 19, 1)));
  CHECK(rows.key(5) == (folder / "c.npy").generic_string() + "[15]");
}

TEST_CASE("the targets of windows may be rows of another array", "[windows]") {
  const Folder folder;
  const auto paths = save_counting(folder, {7, 13});
  const at::Tensor labels = count_from(100, 20);
  const WindowDataset dataset(paths, labels, 4, WindowOptions().stride(4));
  CHECK(dataset.size() == 4);
  for (const auto& [sample, first] :
       {std::pair<std::size_t, std::int64_t>{0, 0}, {1, 7}, {3, 15}}) {
    CHECK(at::equal(dataset.get(sample).data, count_from(first, 4)));
    CHECK(at::equal(dataset.get(sample).target, count_from(first + 100, 4)));
  }
  // The label of the last row.
  const WindowDataset last(paths, labels.unsqueeze(1), 4,
                           WindowOptions()
                               .stride(4)
                               .target_options(LoadOptions().squeeze(1).dtype(at::kInt))
                               .target(3, 1));
  CHECK(at::equal(last.get(1).target, at::tensor({110}, at::kInt)));

  const Folder others;
  const auto same = save_counting(others, {7, 0, 13});
  CHECK(WindowDataset(paths, same, 4).size() == 14);
  const auto different = save_counting(others, {10, 10});
  const Error error = error_of([&] { WindowDataset crossing(paths, different, 4); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("end at other rows than those of the data"));
  CHECK(WindowDataset(paths, different, 4, WindowOptions().across_shards(true)).size() == 17);
  CHECK_THAT(
      error_of([&] { WindowDataset shorter(paths, labels.slice(0, 1), 4); }).what(),
      says("found 20 samples, in " + paths[0].string() + " and 1 other file and 19 targets"));
}

TEST_CASE("each file may be one frame of a clip", "[windows]") {
  const Folder folder;
  for (int i = 0; i < 12; ++i) {
    save(folder / ("f" + std::to_string(i) + ".npy"), sample(i), kNotSynced);
  }
  const FolderDataset frames(folder.path(), FolderOptions().natural_order(true));
  const auto options = WindowOptions().frames(true).stride(2);
  const WindowDataset clips(frames.files(), 4, options);
  REQUIRE(clips.size() == 5);
  const auto batch = clips.stacked().get_batch({4, 1});
  CHECK(batch.data.sizes() == at::IntArrayRef({2, 4, 2, 3}));
  for (int i = 0; i < 4; ++i) {
    CHECK(at::equal(batch.data[0][i], sample(8 + i)));
    CHECK(at::equal(batch.data[1][i], sample(2 + i)));
  }
  CHECK(clips.key(4) == frames.key(8));
  const WindowDataset labelled(frames.files(), at::arange(12), 4, options);
  CHECK(at::equal(labelled.get(4).target, at::arange(8, 12)));
  const WindowDataset next(frames.files(), 2, options.target(2, 1));
  CHECK(number_of(next.get(3).target) == 8);
  CHECK(clips.verify().empty());
  write_bytes(folder / "f9.npy", "no array");
  REQUIRE(clips.verify().size() == 1);
  CHECK(clips.verify()[0].path() == folder / "f9.npy");
  CHECK_THAT(error_of([&] { WindowDataset wrong(samples(5), 2, options); }).what(),
             says("frames(true) takes a list of files"));
  save(folder / "f9.npy", at::zeros({3, 2}), kNotSynced);
  CHECK_THAT(error_of([&] { WindowDataset wrong(frames.files(), 2, options); }).what(),
             says("expected frames of shape (2, 3) and dtype '<f4'"));
}

TEST_CASE("a clip has frames of one folder, unless across_shards() is set", "[windows]") {
  const Folder folder;
  int frame = 0;
  for (const char* const video : {"v0", "v1", "v2"}) {
    fs::create_directories(folder / video);
    for (int i = 0; i < 4; ++i) {
      save(folder / video / ("f" + std::to_string(i) + ".npy"), sample(frame++), kNotSynced);
    }
  }
  const FolderDataset frames(folder.path(), FolderOptions().recursive(true));
  const auto options = WindowOptions().frames(true);
  const WindowDataset clips(frames.files(), 3, options);
  CHECK(clips.size() == 6);
  for (std::size_t i = 0; i < 6; ++i) {
    const int first = static_cast<int>(i / 2 * 4 + i % 2);
    CHECK(at::equal(clips.get(i).data[2], sample(first + 2)));
  }
  const WindowDataset labelled(frames.files(), at::arange(12), 3, options);
  CHECK(at::equal(labelled.get(2).target, at::arange(4, 7)));
  CHECK(WindowDataset(frames.files(), 3, WindowOptions().frames(true).across_shards(true)).size() ==
        10);
}

TEST_CASE("wrong windows are refused", "[windows]") {
  const Folder folder;
  const auto path = save_counting(folder, {10})[0];
  for (const std::int64_t wrong : {std::int64_t{0}, std::int64_t{-1}, INT64_MIN, INT64_MAX}) {
    for (const Error& error :
         {error_of([&] { WindowDataset dataset(path, wrong); }),
          error_of([&] { WindowDataset dataset(path, 2, WindowOptions().stride(wrong)); }),
          error_of([&] { WindowDataset dataset(path, 2, WindowOptions().target(1, wrong)); })}) {
      CHECK(error.code() == ErrorCode::InvalidArgument);
      CHECK(error.path() == path);
    }
  }
  CHECK(error_of([&] {
          WindowDataset far(path, 2, WindowOptions().target(INT64_MIN, 2));
        }).code() == ErrorCode::InvalidArgument);
  CHECK(WindowDataset(path, 10).size() == 1);
  CHECK(WindowDataset(path, 2, WindowOptions().stride(std::int64_t{1} << 60)).size() == 1);
  Error error = error_of([&] { WindowDataset dataset(path, 11); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK(error.path() == path);
  CHECK_THAT(error.what(), says("no window fits: windows of length 11, of an array of 10 rows"));
  error = error_of([&] { WindowDataset dataset(path, 10, WindowOptions().target(1, 10)); });
  CHECK_THAT(error.what(), says("with targets of length 10 at offset 1, of an array of 10 rows"));
  error = error_of([&] { WindowDataset dataset({path, path}, 12); });
  CHECK_THAT(error.what(), says("across_shards(true) joins the shards"));
  const auto rows = LoadOptions().rows(0, 5);
  error = error_of([&] { WindowDataset d(path, 2, WindowOptions().target_options(rows)); });
  CHECK_THAT(error.what(), says("target_options() of windows without a target"));
  error = error_of(
      [&] { WindowDataset d(path, 2, WindowOptions().target_options(rows).target(1, 2)); });
  CHECK_THAT(error.what(), says("the rows() of data_options() apply to both"));
  CHECK(error.code() == ErrorCode::InvalidArgument);
}

TEST_CASE("windows say whether they overlap, also through subset() and concat()", "[windows]") {
  const at::Tensor data = at::arange(30);
  const auto overlap = [&](std::int64_t length, std::int64_t stride) {
    return WindowDataset(data, length, WindowOptions().stride(stride)).source()->samples_overlap();
  };
  CHECK(overlap(4, 3));
  CHECK_FALSE(overlap(4, 4));
  CHECK_FALSE(overlap(1, 1));
  const auto pairs = [&](std::int64_t stride, std::int64_t offset) {
    return WindowDataset(data, 4, WindowOptions().stride(stride).target(offset, 4));
  };
  CHECK(pairs(4, 1).source()->samples_overlap());
  CHECK_FALSE(pairs(5, 1).source()->samples_overlap());
  CHECK(pairs(7, 4).source()->samples_overlap());
  CHECK_FALSE(pairs(8, 4).source()->samples_overlap());
  CHECK(pairs(5, -2).source()->samples_overlap());
  CHECK(pairs(4, 1).subset({0}).source()->samples_overlap());
  CHECK(pairs(4, 1).stacked().source()->samples_overlap());
  CHECK(concat(pairs(5, 1), pairs(4, 1)).source()->samples_overlap());
  CHECK_FALSE(concat(pairs(5, 1), pairs(6, 1)).source()->samples_overlap());
  CHECK_FALSE(ArrayDataset(data).source()->samples_overlap());
}

TEST_CASE("a loader shuffles windows, and continues only with the same windows", "[windows]") {
  const Folder folder;
  const auto paths = save_counting(folder, {50, 50});
  const auto dataset = [&](const auto& options) {
    return WindowDataset(paths, 5, options).stacked();
  };
  const auto options = LoaderOptions().batch_size(4).shuffle(true).seed(3).workers(2);
  Loader loader(dataset(WindowOptions().target(1, 5)), options);
  std::vector<bool> seen(100, false);
  for (auto& batch : loader) {
    for (std::int64_t i = 0; i < batch.data.size(0); ++i) {
      const auto first = batch.data[i][0].template item<std::int64_t>();
      CHECK(at::equal(batch.data[i], count_from(first, 5)));
      CHECK(at::equal(batch.target[i], count_from(first + 1, 5)));
      seen[static_cast<std::size_t>(first)] = true;
    }
  }
  for (std::size_t i = 0; i < 100; ++i) CHECK(seen[i] == (i % 50 < 45));
  const LoaderState state = loader.state();
  Loader same(dataset(WindowOptions().target(1, 5)), options);
  same.restore(state);
  Loader other(dataset(WindowOptions().target(0, 5)), options);
  CHECK(error_of([&] { other.restore(state); }).code() == ErrorCode::Mismatch);
}
