// What was once wrong in the datasets of lists, archives, shards and windows.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/split.hpp>
#include <torch_npy/data/statistics.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/data/window_dataset.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/save_npz.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;

namespace {

template <class A, class B>
bool continues(const A& run, const B& other) {
  Loader first(run, 2);
  Loader second(other, 2);
  (void)first.begin();
  try {
    second.restore(first.state());
    return true;
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::Mismatch);
    return false;
  }
}

std::string header_of_shape(const std::string& shape) {
  return npy("{'descr': '|u1', 'fortran_order': False, 'shape': " + shape + ", }");
}

}  // namespace

TEST_CASE("a run does not continue on other rows, shards, members or windows", "[dataset]") {
  const Folder folder;
  const auto numbers = at::arange(40).reshape({20, 2});
  for (const char* const name : {"a", "b"}) {
    std::filesystem::create_directory(folder / name);
    save(folder / name / "x.npy", numbers);
  }
  const auto x = folder / "a" / "x.npy", y = folder / "b" / "x.npy";
  const auto rows = [](std::int64_t begin, std::int64_t end) {
    return LoadOptions().rows(begin, end);
  };
  CHECK(continues(ArrayDataset(x, rows(0, 10)), ArrayDataset(x, rows(0, 10))));
  CHECK(!continues(ArrayDataset(x, rows(0, 10)), ArrayDataset(x, rows(10, 20))));
  CHECK(!continues(ArrayDataset(x, LoadOptions().region({{0, 20}, {0, 1}})),
                   ArrayDataset(x, LoadOptions().region({{0, 20}, {1, 2}}))));
  CHECK(!continues(ArrayDataset({x, y}), ArrayDataset({y, x})));
  save_npz(folder / "z.npz", {{"train/x", numbers}, {"val/x", numbers}});
  const NpzFile file(folder / "z.npz");
  CHECK(!continues(ArrayDataset(file.array("train/x")), ArrayDataset(file.array("val/x"))));
  const auto windows = [&](LoadOptions options) {
    return WindowDataset(x, 5, WindowOptions().data_options(std::move(options)));
  };
  CHECK(!continues(windows(rows(0, 10)), windows(rows(10, 20))));
  // Both have two windows; the second one begins at row 20 or 18.
  const auto apart = WindowOptions().stride(18);
  CHECK(!continues(WindowDataset({x, y}, 18, apart),
                   WindowDataset({x, y}, 18, WindowOptions(apart).across_shards(true))));
}

TEST_CASE("a bad sample has one number, whatever the dataset was made into", "[dataset]") {
  const Folder folder;
  for (int i = 0; i < 20; ++i) {
    save(folder / (std::to_string(100 + i) + ".npy"), i == 12 ? at::zeros({5}) : sample(i));
  }
  const auto skip = FolderOptions().on_bad_file(OnBadFile::Skip).max_bad(1);
  const FolderDataset skipping(folder.path(), skip);
  const auto run = [](const auto& dataset, std::size_t count) {
    Loader loader(dataset, LoaderOptions().batch_size(8).shuffle(true).seed(3));
    for (int epoch = 0; epoch < 6; ++epoch) {
      std::size_t samples = 0;
      for (auto& batch : loader) samples += batch.indices.size();
      CHECK(samples == count);
    }
  };
  run(skipping.subset({10, 11, 12, 13, 14}).cached(1 << 20).stacked(), 4);
  run(concat(skipping.subset({0, 1, 2, 3, 4}), skipping.subset({12, 5})).cached(1 << 20).stacked(),
      6);

  const auto replace = FolderOptions().on_bad_file(OnBadFile::Replace);
  const FolderDataset replacing(folder.path(), replace);
  const auto some = replacing.subset({10, 11, 12, 13, 14, 15, 2, 3, 4, 5});
  Loader plain(some.stacked(), LoaderOptions().batch_size(4).shuffle(true).seed(3));
  Loader cached(some.cached(1 << 20).stacked(),
                LoaderOptions().batch_size(4).shuffle(true).seed(3));
  for (int epoch = 0; epoch < 30; ++epoch) {
    std::vector<Indices> wanted, found;
    for (auto& batch : plain) wanted.push_back(batch.indices);
    for (auto& batch : cached) found.push_back(batch.indices);
    CHECK(found == wanted);
  }
}

TEST_CASE("a crop of samples with too few axes is an Error, also if the target has more",
          "[dataset]") {
  const Folder folder;
  save(folder / "x.npy", at::arange(8));
  save(folder / "y.npy", at::zeros({8, 6, 6}));
  const ArrayDataset dataset(folder / "x.npy", folder / "y.npy");
  const auto cropped = dataset.map(transforms::RandomCrop({2, 2})).stacked();
  CHECK_THAT(error_of([&] {
               (void)cropped.get_batch({0, 1});
             }).what(),
             says("RandomCrop expects samples of shape (..., H, W)"));
}

TEST_CASE("numbers of rows that cannot be added are refused", "[dataset]") {
  const Folder folder;
  std::vector<std::filesystem::path> shards;
  for (int i = 0; i < 4; ++i) {
    shards.push_back(write_bytes(folder / (std::to_string(i) + ".npy"),
                                 header_of_shape("(4611686018427387904, 0)")));
  }
  CHECK(error_of([&] { ArrayDataset dataset(shards); }).code() == ErrorCode::TooLarge);
  const ArrayDataset one(shards[0]);
  CHECK(error_of([&] { (void)concat(one, one); }).code() == ErrorCode::TooLarge);
  const auto huge = write_bytes(folder / "huge.npy", header_of_shape("(9223372036854775807, 0)"));
  CHECK(error_of([&] { ArrayDataset dataset({huge, huge}); }).code() == ErrorCode::TooLarge);
}

TEST_CASE("the strides of axes of length 1 mean nothing to mean_and_std", "[statistics]") {
  const auto expanded =
      ArrayDataset(at::arange(20, at::kDouble).reshape({1, 4, 5})).map([](TensorExample one) {
        one.data = one.data.unsqueeze(0).expand({3, 4, 5}).narrow(0, 0, 1);
        return one;
      });
  const auto [mean, std] = mean_and_std(expanded);
  CHECK(mean == std::vector<double>{9.5});
  CHECK(std.size() == 1);
}

TEST_CASE("ToDtype scales integers that float16 cannot hold", "[transforms]") {
  const auto halves = ArrayDataset(at::tensor({0, 70000, 2147483647}, at::kInt))
                          .stacked()
                          .map(transforms::ToDtype(at::kHalf, true))
                          .get_batch({0, 1, 2})
                          .data;
  CHECK(halves.scalar_type() == at::kHalf);
  CHECK(halves[0].item<float>() == 0);
  CHECK(halves[1].item<float>() < 1e-4F);
  CHECK(halves[2].item<float>() == 1);
}

TEST_CASE("files of joined subsets are not taken for one another", "[dataset]") {
  const Folder folder;
  std::vector<std::filesystem::path> a, b;
  for (int i = 0; i < 8; ++i) {
    a.push_back(folder / ("a" + std::to_string(i) + ".npy"));
    b.push_back(folder / ("b" + std::to_string(i) + ".npy"));
    save(a.back(), at::zeros({10 + i}));
    save(b.back(), at::zeros({100 + i}));
  }
  const FileDataset first(a), second(b);
  const auto both = concat(first.subset({5}), second.subset({4}));
  CHECK(both.lengths() == std::vector<std::int64_t>{15, 104});
  CHECK(concat(first.subset({7, 6, 5, 4}), second.subset({0, 1, 2, 3})).lengths() ==
        std::vector<std::int64_t>{17, 16, 15, 14, 100, 101, 102, 103});
  CHECK(random_split(both, {1, 1}, 1)[1].size() == std::size_t{1});
  write_bytes(b[4], "damaged");
  CHECK(both.verify().size() == 1);

  // Patches of one file stay together, also if they come from two subsets.
  const FileDataset patches(a, FolderOptions().samples_per_file(2));
  const auto joined = concat(patches.subset({0, 2, 4, 6}), patches.subset({7, 5, 3, 1}));
  const auto parts = random_split(joined, {0.5, 0.5}, 3);
  for (std::size_t i = 0; i < *parts[0].size(); ++i) {
    for (std::size_t k = 0; k < *parts[1].size(); ++k) {
      CHECK(parts[0].key(i).substr(0, parts[0].key(i).rfind('#')) !=
            parts[1].key(k).substr(0, parts[1].key(k).rfind('#')));
    }
  }
}

TEST_CASE("too many samples of a file are refused", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 3);
  for (const std::size_t n : {SIZE_MAX, SIZE_MAX / 4, SIZE_MAX / 5}) {
    CHECK(error_of([&] {
            FolderDataset(folder.path(), FolderOptions().samples_per_file(n));
          }).code() == ErrorCode::InvalidArgument);
  }
}

TEST_CASE("verify() looks at shards without rows", "[dataset]") {
  const Folder folder;
  std::vector<std::filesystem::path> shards;
  for (const std::int64_t rows : {0, 3, 0, 2, 0}) {
    shards.push_back(folder / (std::to_string(shards.size()) + ".npy"));
    save(shards.back(), at::zeros({rows, 2}));
  }
  const ArrayDataset<TensorExample> dataset(shards);
  CHECK(dataset.verify().empty());
  for (const std::size_t i : {0, 2, 4}) {
    std::filesystem::remove(shards[i]);
    const auto errors = dataset.verify();
    REQUIRE(errors.size() == 1);
    CHECK(errors[0].path() == shards[i]);
    save(shards[i], at::zeros({0, 2}));
  }
}

TEST_CASE("an ArrayDataset finds its files from another working directory", "[dataset]") {
  const Folder folder;
  save(folder / "x.npy", at::arange(4));
  const auto home = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const ArrayDataset dataset(std::vector<std::filesystem::path>{"x.npy", "x.npy"});
  std::filesystem::current_path(home);
  CHECK(dataset.verify().empty());
  CHECK(dataset.key(5) == "x.npy[1]");
}

TEST_CASE("mean_and_std reads few samples at a time, also if the first one is small",
          "[statistics]") {
  struct Images final : SampleSource<TensorExample> {
    std::size_t size() const override { return 300; }
    std::string key(std::size_t sample) const override { return std::to_string(sample); }
    SampleRows<TensorExample> read(Request& request) const override {
      most = (std::max)(most.load(), request.picks.size());
      std::vector<TensorExample> samples;
      for (const Pick& pick : request.picks) {
        const std::int64_t edge = pick.sample == 0 ? 2 : 128;
        samples.emplace_back(at::zeros({3, edge, edge}));
      }
      return samples;
    }
    mutable std::atomic<std::size_t> most{0};
  };
  const auto source = std::make_shared<const Images>();
  CHECK(mean_and_std(Dataset<TensorExample>(source)).mean == std::vector<double>{0, 0, 0});
  CHECK(source->most <= 4);
}

TEST_CASE("a target under another spelling of its own path is refused", "[dataset]") {
  const Folder folder;
  std::filesystem::create_directory(folder / "vol");
  std::filesystem::create_directory(folder / "other");
  for (const char* const name : {"vol/a.npy", "other/a.npy"}) save(folder / name, sample(1));
  const auto own =
      FolderOptions().target_name([](const std::string& name) { return "../vol/" + name; });
  CHECK(error_of([&] {
          PairedFolderDataset dataset(folder / "vol", folder / "other", own);
        }).code() == ErrorCode::Mismatch);
}
