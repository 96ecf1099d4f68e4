// Samples of different length in one batch.

#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/stack.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace tf = torch_npy::transforms;

namespace {

/// Words of different length: (length, 2) floats, all different, as data; and one number for each
/// step as target.
Example<> word(std::int64_t first, std::int64_t length) {
  const at::Tensor steps = at::arange(first, first + length);
  return {at::stack({steps, steps * 10}, 1).to(at::kFloat), steps};
}

/// Folders of words of the lengths 3, 1, 4, 0.
struct Words {
  Words() {
    const std::vector<std::int64_t> lengths = {3, 1, 4, 0};
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const int number = static_cast<int>(i);
      all.push_back(word(number + 1, lengths[i]));
      save(data / name_of(number), all[i].data);
      save(target / name_of(number), all[i].target);
    }
  }
  Folder data, target;
  std::vector<Example<>> all;
};

}  // namespace

TEST_CASE("PadStack pads samples to the longest one, and keeps their lengths", "[stack]") {
  const Words words;
  const PairedFolderDataset dataset(words.data.path(), words.target.path());
  const auto padded = dataset.map(tf::PadStack(-1, 7));
  const PaddedBatch<> batch = padded.get_batch({1, 0, 3});
  CHECK(at::equal(batch.lengths, at::tensor({1, 3, 0}, at::kLong)));
  CHECK(at::equal(batch.target_lengths, batch.lengths));
  CHECK(batch.indices == Indices{1, 0, 3});
  REQUIRE(batch.data.sizes() == at::IntArrayRef({3, 3, 2}));
  CHECK(batch.data.scalar_type() == at::kFloat);
  CHECK(at::equal(batch.data[1], words.all[0].data));
  CHECK(at::equal(batch.data[0], at::tensor({2.F, 20.F, -1.F, -1.F, -1.F, -1.F}).reshape({3, 2})));
  CHECK((batch.data[2] == -1).all().item<bool>());
  CHECK(
      at::equal(batch.target, at::tensor({2, 7, 7, 1, 2, 3, 7, 7, 7}, at::kLong).reshape({3, 3})));

  // Zeros by default; the longest of each batch counts.
  const auto zeros = dataset.map(tf::PadStack()).get_batch({1, 3});
  CHECK(at::equal(zeros.data.flatten(), at::tensor({2.F, 20.F, 0.F, 0.F})));
  CHECK(dataset.map(tf::PadStack()).get_batch({3}).data.sizes() == at::IntArrayRef({1, 0, 2}));

  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of(padded, 3, workers);
    std::vector<std::int64_t> lengths;
    for (auto& some : *loader) {
      for (std::size_t i = 0; i < some.indices.size(); ++i) {
        const auto row = static_cast<std::int64_t>(i);
        const std::int64_t length = some.lengths[row].template item<std::int64_t>();
        lengths.push_back(length);
        CHECK(at::equal(some.data[row].narrow(0, 0, length), words.all[some.indices[i]].data));
      }
    }
    CHECK(lengths == std::vector<std::int64_t>{3, 1, 4, 0});
  }
}

TEST_CASE("PadStack stacks targets that are single numbers, and takes samples without a target",
          "[stack]") {
  const Words words;
  std::filesystem::create_directory(words.target / "class");
  for (int i = 0; i < 3; ++i) save(words.target / "class" / name_of(i), words.all[2].data);
  const ClassFolderDataset labelled(words.target.path());
  const auto batch = labelled.map(tf::PadStack()).get_batch({0, 1});
  CHECK(at::equal(batch.target, at::zeros({2}, at::kLong)));
  CHECK(!batch.target_lengths.defined());
  CHECK(at::equal(batch.lengths, at::tensor({4, 4}, at::kLong)));

  const FolderDataset plain(words.data.path());
  const PaddedBatch<TensorExample> alone = plain.map(tf::PadStack(0.5)).get_batch({0, 1});
  CHECK(at::equal(alone.data[1][2], at::tensor({0.5F, 0.5F})));
  const auto without =
      number_dataset(2).map([](const Example<>& one) { return Example<>(one.data, at::Tensor()); });
  CHECK(!without.map(tf::PadStack()).get_batch({0, 1}).target.defined());
}

TEST_CASE("transforms and functions come before and after PadStack", "[stack]") {
  const Words words;
  const PairedFolderDataset dataset(words.data.path(), words.target.path());
  const auto batch = dataset.map([](Example<>& one) { one.data = one.data.narrow(1, 0, 1); })
                         .map(tf::PadStack())
                         .map(tf::ToDtype(at::kDouble))
                         .map([](PaddedBatch<>& some) { some.data.add_(1); })
                         .get_batch({1, 0});
  CHECK(at::equal(batch.data.flatten(), at::tensor({3., 1., 1., 2., 3., 4.})));
  CHECK(batch.lengths.numel() == 2);
  CHECK(batch.indices == Indices{1, 0});
}

TEST_CASE("PadStack refuses samples that differ in more than their length", "[stack]") {
  const Folder folder;
  save(folder / "a.npy", at::zeros({3, 2}));
  save(folder / "b.npy", at::zeros({3, 4}));
  save(folder / "c.npy", at::zeros({3, 2}, at::kInt));
  save(folder / "d.npy", at::zeros({3}));
  save(folder / "e.npy", at::zeros({}));
  write_bytes(folder / "f.npy", "no array");
  const FolderDataset dataset(folder.path(), FolderOptions().on_bad_file(OnBadFile::Skip));
  const auto padded = dataset.map(tf::PadStack());
  for (const std::size_t other : {1, 2, 3, 4}) {
    const Error error = error_of([&] { (void)padded.get_batch({0, other}); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("PadStack expects samples that differ only in the size of axis "
                                  "0: " +
                                  (folder / "a.npy").string()));
    CHECK_THAT(error.what(), says(dataset.files()[other].string() + " has shape"));
  }
  CHECK_THAT(error_of([&] { (void)padded.get_batch({4}); }).what(), says("PadStack expects"));
  CHECK_THAT(error_of([&] { (void)padded.get_batch({5}); }).what(),
             says("a batch without samples"));
  CHECK(padded.get_batch({0, 5}).lengths.numel() == 1);
  CHECK(error_of([] { (void)tf::PadStack()(std::vector<Example<>>()); }).code() ==
        ErrorCode::Mismatch);
}
