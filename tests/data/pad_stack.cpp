// Samples of different length in one batch.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/pad_stack.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
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

/// Samples of the shapes (rows, columns), with different values other than 0.
std::vector<TensorExample> grids(const std::vector<std::pair<int, int>>& shapes,
                                 at::ScalarType type = at::kFloat) {
  std::vector<TensorExample> all;
  for (const auto& [rows, columns] : shapes) {
    const int first = 1 + 10 * static_cast<int>(all.size());
    all.emplace_back(at::arange(first, first + rows * columns).reshape({rows, columns}).to(type));
  }
  return all;
}

/// Whether sample i is at the start of its row, and all other elements are `value`.
void check_padded(const PaddedBatch<TensorExample>& batch,
                  const std::vector<TensorExample>& samples, std::int64_t axis, double value) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const std::int64_t length = batch.lengths[row].item<std::int64_t>();
    at::Tensor want = at::full(batch.data[row].sizes(), value, batch.data.options());
    want.narrow(axis, 0, length).copy_(samples[i].data.narrow(axis, 0, length));
    CHECK(at::equal(batch.data[row], want));
  }
}

using Stories = std::vector<NamedExample>;

/// A sample with tokens, a fixed image and a label.
NamedExample story(std::int64_t first, std::int64_t length) {
  return NamedExample({{"tokens", at::arange(first, first + length)},
                       {"image", at::full({2, 3}, first, at::kFloat)},
                       {"label", at::full({}, first, at::kLong)}});
}

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

TEST_CASE("PadStack pads along any axis, to a multiple, and up to a largest length", "[stack]") {
  for (const at::ScalarType type : {at::kFloat, at::kByte, at::kLong, at::kHalf, at::kDouble}) {
    INFO(type);
    const auto wide = grids({{2, 3}, {2, 1}, {2, 4}}, type);
    for (const std::int64_t axis : {1, -1}) {
      const auto batch = tf::PadStack(7).axis(axis)(wide);
      CHECK(batch.data.sizes() == at::IntArrayRef({3, 2, 4}));
      CHECK(batch.data.scalar_type() == type);
      CHECK(at::equal(batch.lengths, at::tensor({3, 1, 4}, at::kLong)));
      check_padded(batch, wide, 1, 7);
    }
    const auto rounded = tf::PadStack().value("data", 3).axis("data", 1).multiple_of(8)(wide);
    CHECK(rounded.data.sizes() == at::IntArrayRef({3, 2, 8}));
    check_padded(rounded, wide, 1, 3);
  }
  const auto tall = grids({{4, 2}, {1, 2}});
  const auto cut = tf::PadStack().max_length(3, tf::TooLong::Truncate)(tall);
  CHECK(cut.data.sizes() == at::IntArrayRef({2, 3, 2}));
  CHECK(at::equal(cut.lengths, at::tensor({3, 1}, at::kLong)));
  check_padded(cut, tall, 0, 0);
  const auto both =
      tf::PadStack(-1).max_length(2, tf::TooLong::Truncate).multiple_of(4)(grids({{4, 2}, {4, 2}}));
  CHECK(both.data.sizes() == at::IntArrayRef({2, 4, 2}));
  check_padded(both, grids({{4, 2}, {4, 2}}), 0, -1);
  const auto wide = grids({{2, 4}, {2, 4}});
  const auto cut_wide = tf::PadStack().axis(1).max_length(3, tf::TooLong::Truncate)(wide);
  CHECK(cut_wide.data.sizes() == at::IntArrayRef({2, 2, 3}));
  check_padded(cut_wide, wide, 1, 0);
  CHECK(tf::PadStack().max_length(4)(tall).data.size(1) == 4);

  const auto nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(tf::PadStack(nan)(tall).data[1].isnan().sum().item<int>() == 6);
  const auto padded = tf::PadStack(true)(grids({{1, 2}, {2, 2}}, at::kBool));
  CHECK(padded.data.all().item<bool>());
}

TEST_CASE("PadStack takes samples in any memory", "[stack]") {
  std::vector<TensorExample> views = grids({{3, 4}, {2, 4}, {4, 4}});
  for (TensorExample& one : views) one.data = one.data.t();  // (4, length), not contiguous
  check_padded(tf::PadStack(5).axis(1)(views), views, 1, 5);
  std::vector<TensorExample> tracked = grids({{1, 2}, {3, 2}});
  for (TensorExample& one : tracked) one.data.requires_grad_();
  const auto batch = tf::PadStack(5)(tracked);
  check_padded(batch, tracked, 0, 5);
  batch.data.sum().backward();
  CHECK(at::equal(tracked[1].data.grad(), at::ones({3, 2})));

  // Rows of one tensor that need no padding are not copied.
  const ArrayDataset rows(at::arange(24).reshape({4, 3, 2}));
  auto whole = rows.map(tf::PadStack()).get_batch({2, 0});
  CHECK(at::equal(whole.data[0], at::arange(12, 18).reshape({3, 2})));
  CHECK(at::equal(whole.lengths, at::tensor({3, 3}, at::kLong)));
}

TEST_CASE("batches of PadStack use the memory of earlier ones, and never that of a live one",
          "[stack]") {
  const tf::PadStack pad;
  const auto samples = grids({{1, 2}, {3, 2}});
  auto first = pad(samples);
  const void* const memory = first.data.data_ptr();
  auto second = pad(samples);
  CHECK(second.data.data_ptr() != memory);
  first = {};
  CHECK(tf::PadStack(pad)(samples).data.data_ptr() == memory);
  check_padded(second, samples, 0, 0);
}

TEST_CASE("data and target are padded by rules of their own", "[stack]") {
  const Words words;
  const PairedFolderDataset dataset(words.data.path(), words.target.path());
  const auto batch = dataset
                         .map(tf::PadStack(-1, 7)
                                  .multiple_of("target", 5)
                                  .max_length("data", 2, tf::TooLong::Truncate))
                         .get_batch({0, 1});
  CHECK(batch.data.sizes() == at::IntArrayRef({2, 2, 2}));
  CHECK(at::equal(batch.target, at::tensor({1, 2, 3, 7, 7, 2, 7, 7, 7, 7}).reshape({2, 5})));
  CHECK(at::equal(batch.lengths, at::tensor({2, 1}, at::kLong)));
  CHECK(at::equal(batch.target_lengths, at::tensor({3, 1}, at::kLong)));

  // A setter without a name is for both.
  const auto both = dataset.map(tf::PadStack(-1, 7).value(9).multiple_of(4)).get_batch({0, 1});
  CHECK(both.target.sizes() == at::IntArrayRef({2, 4}));
  CHECK(both.target[1][3].item<int>() == 9);
  CHECK(both.data[1][3][1].item<float>() == 9);

  const auto chosen = concat(ArrayDataset(at::ones({1, 2}), at::ones({1, 3})),
                             ArrayDataset(at::ones({1, 4}), at::ones({1, 3})))
                          .map(tf::PadStack().on("data"))
                          .get_batch({0, 1});
  CHECK(chosen.data.sizes() == at::IntArrayRef({2, 4}));
  CHECK(at::equal(chosen.target, at::ones({2, 3})));
  CHECK(!chosen.target_lengths.defined());
}

TEST_CASE("tensors with names are padded, and their lengths have the same names", "[stack]") {
  const auto padded =
      tf::PadStack().on("tokens").value("tokens", -1)(Stories{story(1, 2), story(5, 4)});
  CHECK(at::equal(padded["tokens"], at::tensor({1, 2, -1, -1, 5, 6, 7, 8}).reshape({2, 4})));
  CHECK(at::equal(padded.lengths["tokens"], at::tensor({2, 4}, at::kLong)));
  CHECK(padded.lengths.items().size() == 1);
  CHECK(at::equal(padded["image"][1], at::full({2, 3}, 5.F)));
  CHECK(at::equal(padded["label"], at::tensor({1, 5}, at::kLong)));
  CHECK_THAT(error_of([&] { (void)padded.lengths["label"]; }).what(), says("it has \"tokens\""));

  const auto all = tf::PadStack(2)(Stories{story(1, 2), story(5, 4)});
  CHECK(all.lengths.items().size() == 2);
  CHECK(at::equal(all.lengths["image"], at::tensor({2, 2}, at::kLong)));
  CHECK(all["tokens"][0][3].item<int>() == 2);

  const auto dataset = number_dataset(6).map([](const Example<>& one) {
    const auto i = one.target.item<std::int64_t>();
    return story(10 * i, i + 1);
  });
  const Dataset<NamedExample, PaddedBatch<NamedExample>> batches =
      dataset.map(tf::PadStack().on({"tokens"}));
  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of(batches, 4, workers);
    std::size_t seen = 0;
    for (auto& batch : *loader) {
      for (std::size_t i = 0; i < batch.indices.size(); ++i, ++seen) {
        const auto row = static_cast<std::int64_t>(i);
        const auto length = batch.lengths["tokens"][row].template item<std::int64_t>();
        CHECK(length == static_cast<std::int64_t>(seen) + 1);
        CHECK(at::equal(batch["tokens"][row].narrow(0, 0, length),
                        story(10 * (length - 1), length)["tokens"]));
      }
    }
    CHECK(seen == 6);
  }
  // A function after it may add what is about the whole batch.
  const auto changed = batches.map(
      [](PaddedBatch<NamedExample>& batch) { batch.items().emplace_back("one", at::ones({1})); });
  CHECK(changed.get_batch({1, 2, 3}).indices == Indices{1, 2, 3});
}

TEST_CASE("PadStack says what is wrong with its options, and with samples that are too long",
          "[stack]") {
  const Words words;
  const FolderDataset dataset(words.data.path());
  Error error = error_of([&] {
    (void)dataset.map(tf::PadStack().max_length(3)).get_batch({1, 2});
  });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK_THAT(error.what(), says("at most max_length(3), found " + dataset.files()[2].string() +
                                " of length 4; max_length(n, TooLong::Truncate)"));
  error = error_of([&] { (void)dataset.map(tf::PadStack().axis(2)).get_batch({0, 1}); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("differ only in the size of axis 2"));
  CHECK_THAT(error.what(), says("axis(name, n) chooses another axis"));
  for (const auto& pad : {tf::PadStack().value("tokns", 1), tf::PadStack().on("tokns")}) {
    error = error_of([&] { (void)dataset.map(pad).get_batch({0, 1}); });
    CHECK(error.code() == ErrorCode::NotFound);
    CHECK_THAT(error.what(), says("no tensor \"tokns\""));
    CHECK(error_of([&] { (void)pad(Stories{story(1, 2)}); }).code() == ErrorCode::NotFound);
  }
  CHECK(error_of([] {
          (void)tf::PadStack()(Stories{story(1, 2), NamedExample()});
        }).code() == ErrorCode::Mismatch);
  // LibTorch would pad with 255, with 0, with 44, and with infinity.
  const std::vector<std::pair<at::Scalar, at::ScalarType>> unfit = {
      {-1, at::kByte}, {0.5, at::kLong}, {300, at::kByte}, {1e30, at::kHalf}};
  for (const auto& [value, type] : unfit) {
    error = error_of([&, v = value, t = type] { (void)tf::PadStack(v)(grids({{1, 1}}, t)); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("PadStack cannot pad tensors of dtype"));
  }
  for (const std::int64_t n : {std::int64_t{0}, std::int64_t{-3}, std::int64_t{1} << 33}) {
    CHECK(error_of([&] { tf::PadStack().multiple_of(n); }).code() == ErrorCode::InvalidArgument);
    CHECK(error_of([&] { tf::PadStack().max_length("data", n); }).code() ==
          ErrorCode::InvalidArgument);
  }
  const at::Tensor wide = at::ones({1, 1}).expand({1, 1 << 30});
  error = error_of([&] {
    (void)tf::PadStack().multiple_of(std::int64_t{1} << 32)(
        std::vector<TensorExample>{TensorExample(wide), TensorExample(wide)});
  });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK_THAT(error.what(), says("more bytes than can be counted"));
}
