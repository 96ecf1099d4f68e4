// One class for all datasets.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

namespace {

/// A part of a program that chooses its dataset at run time.
struct Training {
  Dataset<Example<>, Batch<>> data;

  Training(const Dataset<>& all, bool augment)
      : data(augment ? all.stacked().map(transforms::Normalize({0.0}, {0.5}))
                     : all.stacked().map(transforms::ToDtype(at::kDouble))) {}
};

/// Reads every sample once with LibTorch's loader, and compares the numbers in their targets.
template <class Any>
void check_loads(Any dataset, std::int64_t size) {
  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of<td::samplers::RandomSampler>(dataset, 3, workers);
    std::vector<std::int64_t> seen;
    for (auto& batch : *loader) {
      if constexpr (std::is_same_v<decltype(batch), Samples<>&>) {
        for (const auto& one : batch) seen.push_back(one.target.template item<std::int64_t>());
      } else {
        for (std::int64_t i = 0; i < batch.target.size(0); ++i) {
          seen.push_back(batch.target[i].template item<std::int64_t>());
        }
      }
    }
    std::sort(seen.begin(), seen.end());
    std::vector<std::int64_t> want;
    for (std::int64_t i = 0; i < size; ++i) want.push_back(i);
    CHECK(seen == want);
  }
}

/// A source that returns rows of tensors, however many were asked for.
class WrongSource : public SampleSource<Example<>> {
 public:
  WrongSource(std::int64_t data, std::int64_t target) : data_(data), target_(target) {}
  std::size_t size() const override { return 9; }
  std::string key(std::size_t number) const override { return std::to_string(number); }
  SampleRows<Example<>> read(Request&) const override {
    return Batch<>(Example<>(samples(9).narrow(0, 0, data_), at::arange(target_)));
  }

 private:
  std::int64_t data_, target_;
};

}  // namespace

TEST_CASE("a program chooses a dataset at run time", "[dataset]") {
  const Dataset<> all = number_dataset(4);
  for (const bool train : {true, false}) {
    const auto chosen =
        train ? all.map(transforms::ToDtype(at::kInt)) : all.map(transforms::ToDtype(at::kDouble));
    CHECK(chosen.get(1).data.scalar_type() == (train ? at::kInt : at::kDouble));

    Training training(all, train);
    const at::Tensor got = training.data.get_batch({3}).data[0];
    CHECK(at::equal(got, train ? sample(3) * 2 : sample(3).to(at::kDouble)));
    training.data = all.stacked();
    CHECK(at::equal(training.data.get_batch({3}).data[0], sample(3)));
  }
  Dataset<> data = all;
  for (int i = 0; i < 3; ++i) data = data.map([](Example<>& one) { one.data.mul_(2); });
  CHECK(at::equal(data.get(1).data, sample(1) * 8));
  data = data.subset({2, 3});
  CHECK(*data.size() == 2);
  CHECK(at::equal(data.get(1).data, sample(3) * 8));
  CHECK(at::equal(all.get(3).data, sample(3)));  // unchanged
}

TEST_CASE("every dataset converts to Dataset", "[dataset]") {
  const Folder folder;
  for (const char* name : {"a", "b"}) {
    std::filesystem::create_directory(folder / name);
    for (int i = 0; i < 3; ++i) save(folder / name / name_of(i), sample(i));
  }
  save(folder / "rows.npy", samples(3));
  std::vector<Dataset<>> with_targets = {
      PairedFolderDataset(folder / "a", folder / "b"), ClassFolderDataset(folder.path()),
      ArrayDataset(folder / "rows.npy", folder / "rows.npy"),
      ArrayDataset(samples(3), at::arange(3)), number_dataset(3)};
  for (Dataset<>& dataset : with_targets) CHECK(at::equal(dataset.get(2).data, sample(2)));
  std::vector<Dataset<TensorExample>> without = {
      FolderDataset(folder / "a"), ArrayDataset(folder / "rows.npy"), ArrayDataset(samples(3))};
  for (Dataset<TensorExample>& dataset : without) {
    CHECK(at::equal(dataset.stacked().get_batch({0, 2}).data, at::stack({sample(0), sample(2)})));
  }
}

TEST_CASE("copies of a dataset share their source and its counts", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 4);
  damage(folder, {2});
  const FolderDataset first(folder.path(), FolderOptions().on_bad_file(OnBadFile::Skip));
  const Dataset<TensorExample> second = first;
  const auto mapped = second.stacked().map([](Batch<TensorExample>& batch) { batch.data.mul_(2); });
  CHECK(first.source() == second.source());
  CHECK(first.source() == mapped.source());
  CHECK(mapped.get_batch({1, 2}).data.size(0) == 1);
  CHECK(second.subset({2}).get_batch({0}).empty());
  CHECK(first.bad_file_count() == 2);
  CHECK(mapped.bad_file_count() == 2);
  CHECK(FolderDataset(folder.path()).bad_file_count() == 0);
}

TEST_CASE("a source that a program has written is a dataset like any other", "[dataset]") {
  const Dataset<> dataset = number_dataset(5);
  CHECK(*dataset.size() == 5);
  CHECK(dataset.key(4) == "number 4");
  CHECK(error_of([&] { (void)dataset.key(5); }).code() == ErrorCode::InvalidArgument);
  CHECK(dataset.verify().empty());
  CHECK(error_of([&] { (void)dataset.lengths(); }).code() == ErrorCode::InvalidArgument);
  const auto list = dataset.get_batch({4, 0, 4});
  CHECK(numbers_of(list) == std::vector<int>{4, 0, 4});
  CHECK(list.indices == Indices{4, 0, 4});
  const auto batch = dataset.stacked().get_batch({4, 0});
  CHECK(numbers_of(batch) == std::vector<int>{4, 0});
  CHECK(batch.indices == Indices{4, 0});
  CHECK(at::equal(batch.target, at::arange(0, 8, 4).flip(0)));
  CHECK(error_of([&] { (void)dataset.get_batch({1, 5}); }).code() == ErrorCode::InvalidArgument);
  CHECK(dataset.source()->fingerprint() == number_dataset(5).source()->fingerprint());
  CHECK(dataset.source()->fingerprint() != number_dataset(6).source()->fingerprint());
}

TEST_CASE("a source that returns more or fewer samples than it was asked for is an Error",
          "[dataset]") {
  const auto check = [](std::int64_t data, std::int64_t target, const char* words) {
    const Dataset<> dataset(std::make_shared<const WrongSource>(data, target));
    for (const Error& error : {error_of([&] {
                                 (void)dataset.get_batch({0, 1, 2});
                               }),
                               error_of([&] {
                                 (void)dataset.stacked().get_batch({0, 1, 2});
                               })}) {
      CHECK(error.code() == ErrorCode::Mismatch);
      CHECK_THAT(error.what(), says(words));
    }
  };
  check(2, 2, "returned 2 samples, and picks are left for 3");
  check(4, 4, "it has to remove the picks of samples that it skips");
  check(3, 2, "one row for each sample: \"target\" has 2 rows, those before have 3");
  check(3, 0, "\"target\" has 0 rows");
  const Dataset<> right(std::make_shared<const WrongSource>(3, 3));
  CHECK(numbers_of(right.get_batch({0, 1, 2})) == std::vector<int>{0, 1, 2});
}

TEST_CASE("LibTorch's loader takes every kind of dataset", "[dataset]") {
  const Dataset<> plain = number_dataset(10);
  const auto shifted = [](Example<>& one) { one.target.add_(5); };
  check_loads(plain, 10);
  check_loads(plain.stacked(), 10);
  check_loads(plain.map(transforms::ToDtype(at::kInt)), 10);
  check_loads(plain.stacked().map(transforms::ToDtype(at::kInt)), 10);
  check_loads(plain.subset({3, 1, 0, 2}).stacked(), 4);
  check_loads(plain.stacked().subset({3, 1, 0, 2}), 4);
  const auto joined = concat(plain.subset({0, 1, 2, 3, 4}), number_dataset(3).map(shifted));
  check_loads(joined, 8);
  check_loads(joined.stacked(), 8);
  check_loads(td::datasets::make_shared_dataset<Dataset<>>(plain), 10);
  check_loads(td::datasets::make_shared_dataset<Dataset<Example<>, Batch<>>>(plain.stacked()), 10);
  check_loads(ArrayDataset(samples(6), at::arange(6)), 6);

  // By default LibTorch draws at random.
  auto loader = td::make_data_loader(plain.stacked(), /*batch_size=*/10);
  for (auto& batch : *loader) {
    CHECK(batch.target.sum().item<std::int64_t>() == 45);
    CHECK(batch.indices.size() == 10);
  }
}
