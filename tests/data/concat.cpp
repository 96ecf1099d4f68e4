// Several datasets as one.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/transforms.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <filesystem>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

namespace {

/// sample(0) to sample(9) in three parts: of a source, of an array, of a folder.
struct Parts {
  static std::filesystem::path fill(const Folder& folder) {
    fill_folder(folder, 10);
    damage(folder, {0, 1, 2, 3, 4, 5, 6});
    return folder.path();
  }
  Folder folder;
  Dataset<TensorExample> source =
      number_dataset(3).map([](const Example<>& one) { return TensorExample(one.data); });
  Dataset<TensorExample> array = ArrayDataset(samples(7).narrow(0, 3, 4));
  Dataset<TensorExample> files = FolderDataset(fill(folder)).subset({7, 8, 9});
};

}  // namespace

TEST_CASE("concat() keeps the order of the samples that were asked for", "[dataset]") {
  const Parts parts;
  const auto check = [](const auto& joined) {
    CHECK(*joined.size() == 10);
    for (const Indices& asked : {Indices{0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
                                 {9, 8, 7, 6, 5, 4, 3, 2, 1, 0},
                                 {3, 0, 7, 4, 1, 8},
                                 {2, 2, 9, 2},
                                 {4},
                                 {8, 7}}) {
      const auto batch = joined.get_batch(asked);
      CHECK(numbers_of(batch) == std::vector<int>(asked.begin(), asked.end()));
      CHECK(batch.indices == asked);
    }
    for (const std::size_t workers : {0, 2}) {
      auto loader = loader_of(joined, 4, workers);
      std::vector<int> all;
      for (auto& batch : *loader) {
        const auto some = numbers_of(batch);
        all.insert(all.end(), some.begin(), some.end());
      }
      CHECK(all == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
    }
  };
  check(concat(parts.source, parts.array, parts.files));
  check(concat(concat(parts.source, parts.array), parts.files));
  check(concat(parts.source, parts.array, parts.files).stacked());
  check(concat(parts.source.stacked(), parts.array.stacked(), parts.files.stacked()));
  check(concat(std::vector<Dataset<TensorExample>>{parts.source, parts.array, parts.files}));
  check(concat(parts.source, concat(parts.array, parts.files))
            .subset({9, 8, 7, 6, 5, 4, 3, 2, 1, 0})
            .subset({9, 8, 7, 6, 5, 4, 3, 2, 1, 0}));
  CHECK(concat(parts.array).get_batch({}).empty());
  const Error error = error_of([] { (void)concat(std::vector<Dataset<>>()); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
}

TEST_CASE("samples of parts that differ in shape are a list, but no stacked batch", "[dataset]") {
  const ArrayDataset small(samples(3));
  const ArrayDataset large(at::zeros({3, 5}));
  const auto joined = concat(small, large);
  CHECK(joined.get_batch({0, 3})[1].data.sizes() == at::IntArrayRef({5}));
  const auto check = [](const auto& stacked) {
    CHECK(stacked.get_batch({1, 0}).data.sizes() == at::IntArrayRef({2, 2, 3}));
    CHECK(stacked.get_batch({4, 5}).data.sizes() == at::IntArrayRef({2, 5}));
    const Error error = error_of([&] { (void)stacked.get_batch({0, 3}); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("samples that differ cannot be stacked"));
  };
  check(joined.stacked());
  check(concat(small.stacked(), large.stacked()));
}

TEST_CASE("a batch of one part is not copied", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 4);
  const FolderDataset files(folder.path());
  const auto joined = concat(files, files);
  const auto batch = joined.get_batch({6, 4, 5});
  CHECK(batch.indices == Indices{6, 4, 5});
  // Still the rows of one tensor.
  const auto* const first = static_cast<const char*>(batch[0].data.data_ptr());
  CHECK(static_cast<const char*>(batch[1].data.data_ptr()) == first + 24);
  CHECK(static_cast<const char*>(batch[2].data.data_ptr()) == first + 48);
}

TEST_CASE("bad files of the parts are skipped, and counted together", "[dataset]") {
  const Folder one, two;
  fill_folder(one, 4);
  fill_folder(two, 4);
  damage(one, {1});
  damage(two, {0, 3});
  const auto skip = FolderOptions().on_bad_file(OnBadFile::Skip);
  const FolderDataset first(one.path(), skip), second(two.path(), skip);
  const auto check = [&](const auto& joined) {
    const auto batch = joined.get_batch({7, 1, 5, 0, 4, 6, 2});
    CHECK(batch.indices == Indices{5, 0, 6, 2});
    CHECK(numbers_of(batch) == std::vector<int>{1, 0, 2, 2});
    CHECK(joined.get_batch({1, 5}).indices == Indices{5});  // nothing of the first part
    CHECK(joined.get_batch({5, 1}).indices == Indices{5});
  };
  const auto joined = concat(first, second);
  check(joined);
  CHECK(joined.bad_file_count() == 5);
  CHECK(first.bad_file_count() == 3);
  CHECK(second.bad_file_count() == 2);
  check(joined.stacked());
  check(concat(first.stacked(), second.stacked()));
  CHECK(joined.get_batch({1, 4, 7}).empty());
  const std::vector<Error> errors = joined.verify();
  REQUIRE(errors.size() == 3);
  CHECK(errors[0].path() == one / name_of(1));
  CHECK(errors[2].path() == two / name_of(3));
}

TEST_CASE("a source knows the sizes of the parts of concat()", "[dataset]") {
  const Dataset<> small = number_dataset(2), large = number_dataset(5);
  CHECK(concat(small, large).source()->parts() == std::vector<std::size_t>{2, 5});
  CHECK(small.source()->parts() == std::vector<std::size_t>{2});
  CHECK(concat(small, large).source()->fingerprint() !=
        concat(large, small).source()->fingerprint());
}

TEST_CASE("a transform of the whole draws other numbers than those of its parts", "[dataset]") {
  const auto noise = [](Batch<>& batch, at::Generator& generator) {
    batch.data = at::rand({batch.data.size(0), 1}, generator);
  };
  const auto more_noise = [](Batch<>& batch, at::Generator& generator) {
    batch.target = at::rand({batch.data.size(0), 1}, generator);
  };
  const auto part = number_dataset(4).stacked().map(noise);
  const auto batch = concat(part, part).map(more_noise).get_batch({0, 1});
  CHECK(!at::equal(batch.data, batch.target));
  // Targets of the parts stay with their data.
  const Dataset<> labelled = ArrayDataset(samples(4), at::arange(4));
  const auto mixed = concat(number_dataset(4), labelled).stacked().get_batch({6, 1, 3, 4});
  CHECK(at::equal(mixed.target, at::tensor({2, 1, 3, 0}, at::kLong)));
  CHECK(numbers_of(mixed) == std::vector<int>{2, 1, 3, 0});
}

TEST_CASE("parts without targets stay without them", "[dataset]") {
  const auto drop = [](Batch<>& batch) { batch.target = at::Tensor(); };
  const auto part = number_dataset(4).stacked().map(drop);
  const auto joined = concat(part, part);
  CHECK(!joined.get_batch({0, 1}).target.defined());
  const Error error = error_of([&] { (void)joined.get_batch({0, 4}); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("an Example without a target is a TensorExample"));
}
