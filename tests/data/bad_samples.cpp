// Samples that are damaged, missing, or unlike the others: thrown, skipped or replaced.

#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

namespace {

/// 100 files, of which 12 and 13 are damaged, 40 is missing, 70 has another shape and 71 another
/// dtype.
struct Mixed {
  explicit Mixed(const FolderOptions& options = {}) : all(fill(folder), options) {
    std::filesystem::remove(folder / name_of(40));
  }

  static std::filesystem::path fill(const Folder& folder) {
    fill_folder(folder, 100);
    damage(folder, {12, 13});
    save(folder / name_of(70), at::zeros({2, 4}) + 7000);
    save(folder / name_of(71), sample(71).to(at::kDouble));
    return folder.path();
  }

  Folder folder;
  FolderDataset all;
};

const std::set<int> kBad = {12, 13, 40, 70, 71};

/// Options that note the names of the files that were skipped or replaced.
struct Noting {
  explicit Noting(OnBadFile what)
      : options(FolderOptions().on_bad_file(what, [this](const Error& error) {
          names.push_back(error.path().filename().string());
          messages.push_back(error.what());
        })) {}

  std::vector<std::string> names, messages;
  FolderOptions options;
};

template <class Any>
std::vector<int> numbers_in(const Any& dataset, const Indices& indices) {
  return numbers_of(dataset.get_batch(indices));
}

/// The numbers of all samples of two epochs.
template <class Sampler = td::samplers::SequentialSampler, class Any>
std::vector<int> two_epochs(const Any& dataset, std::size_t workers) {
  auto loader = loader_of<Sampler>(dataset, 8, workers);
  std::vector<int> all;
  for (int epoch = 0; epoch < 2; ++epoch) {
    for (auto& batch : *loader) {
      const std::vector<int> some = numbers_of(batch);
      all.insert(all.end(), some.begin(), some.end());
    }
  }
  return all;
}

}  // namespace

TEST_CASE("by default a bad sample is thrown", "[bad]") {
  const Mixed mixed;
  const auto stacked = mixed.all.stacked();
  const auto code_of = [](const auto& dataset, const Indices& indices) {
    return error_of([&] { (void)dataset.get_batch(indices); }).code();
  };
  CHECK(code_of(mixed.all, {11, 12}) == ErrorCode::NotNpy);
  CHECK(code_of(stacked, {11, 12}) == ErrorCode::NotNpy);
  CHECK(code_of(stacked, {40}) == ErrorCode::NotFound);
  CHECK(code_of(stacked, {69, 70}) == ErrorCode::Mismatch);
  CHECK(code_of(stacked, {69, 71, 72}) == ErrorCode::Mismatch);
  CHECK(numbers_in(mixed.all, {69, 70, 71}) == std::vector<int>{69, 70, 71});
  CHECK(mixed.all.bad_file_count() == 0);
  const Mixed limited(FolderOptions().max_bad(50));
  CHECK(code_of(limited.all, {12}) == ErrorCode::NotNpy);
}

TEST_CASE("a sound file of another shape costs one sample of its batch, not the batch", "[bad]") {
  Noting noting(OnBadFile::Skip);
  const Mixed mixed(noting.options);
  const auto stacked = mixed.all.stacked();
  CHECK(numbers_in(stacked, {68, 69, 70, 72}) == std::vector<int>{68, 69, 72});
  REQUIRE(noting.names == std::vector<std::string>{"s070.npy"});
  CHECK_THAT(noting.messages[0],
             says((mixed.folder / "s070.npy").string() +
                  ": unlike most samples: it "
                  "has data: shape (2, 4) and dtype Float; they have data: shape (2, 3) and dtype "
                  "Float"));
  CHECK(numbers_in(stacked, {70, 68, 69}) == std::vector<int>{68, 69});
  CHECK(numbers_in(stacked, {68, 69, 70}) == std::vector<int>{68, 69});
  CHECK(numbers_in(stacked, {70, 12, 68, 71, 40, 69}) == std::vector<int>{68, 69});
  CHECK(numbers_in(stacked, {70, 70, 68}) == std::vector<int>{70, 70});
  CHECK(numbers_in(stacked, {70, 68}) ==
        std::vector<int>{68});  // as many: like most of the dataset
  CHECK(numbers_in(stacked, {70}) == std::vector<int>{70});
  CHECK(mixed.all.bad_file_count() == 1 + 1 + 1 + 4 + 1 + 1);
  CHECK(numbers_in(mixed.all, {68, 69, 70, 71}) == std::vector<int>{68, 69, 70, 71});

  // Also if a function has given samples their shapes.
  const auto changed = mixed.all.map([](TensorExample& one) {
    if (number_of(one.data) == 5) one.data = at::zeros({1});
  });
  CHECK(numbers_in(changed.stacked(), {4, 5, 6}) == std::vector<int>{4, 6});

  std::vector<int> want;
  for (int i = 0; i < 200; ++i) {
    if (kBad.count(i % 100) == 0) want.push_back(i % 100);
  }
  for (const std::size_t workers : {0, 2}) CHECK(two_epochs(stacked, workers) == want);
}

TEST_CASE("a file of another shape or dtype than expect() says is bad", "[bad]") {
  Noting noting(OnBadFile::Skip);
  const Mixed mixed(noting.options.expect({2, 3}, at::kFloat));
  CHECK(numbers_in(mixed.all, {69, 70, 71}) == std::vector<int>{69});
  CHECK(mixed.all.get_batch({70}).empty());
  CHECK_THAT(noting.messages[0], says("expected shape (2, 3), found (2, 4)"));
  CHECK_THAT(noting.messages[1], says("expected dtype Float, found Double"));
  const std::vector<Error> errors = mixed.all.verify();
  REQUIRE(errors.size() == 5);
  CHECK(errors[3].path() == mixed.folder / "s070.npy");
  CHECK(errors[3].code() == ErrorCode::Mismatch);

  const auto numbers = [](const FolderOptions& options) {
    const Mixed folder(FolderOptions(options).on_bad_file(OnBadFile::Skip));
    return numbers_in(folder.all, {69, 70, 71});
  };
  CHECK(numbers(FolderOptions().expect({2, -1})) == std::vector<int>{69, 70, 71});
  CHECK(numbers(FolderOptions().expect({-1, 4})) == std::vector<int>{70});
  CHECK(numbers(FolderOptions().expect({-1})).empty());
  CHECK(numbers(FolderOptions().expect({2, -1}, at::kDouble)) == std::vector<int>{71});
  // What data_options() makes of the file is compared.
  const auto converted = LoadOptions().dtype(at::kDouble).rows(0, 1);
  CHECK(numbers(FolderOptions().data_options(converted).expect({1, 3}, at::kDouble)) ==
        std::vector<int>{69, 71});

  const Mixed thrown(FolderOptions().expect({2, 3}));
  CHECK(error_of([&] { (void)thrown.all.get(70); }).code() == ErrorCode::Mismatch);
}

TEST_CASE("Replace keeps the batch full", "[bad]") {
  Noting noting(OnBadFile::Replace);
  const Mixed mixed(noting.options);
  const auto stacked = mixed.all.stacked();
  const auto check = [](const std::vector<int>& got, const Indices& asked) {
    REQUIRE(got.size() == asked.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      const int number = static_cast<int>(asked[i]);
      CHECK((got[i] == number) == (kBad.count(number) == 0));
      CHECK(kBad.count(got[i]) == 0);
    }
  };
  for (const Indices& asked : {Indices{10, 11, 12, 13, 14},
                               {12, 13, 40, 1, 2},
                               {69, 70, 71, 72},
                               {70, 1, 2},
                               {1, 2, 71}}) {
    check(numbers_in(stacked, asked), asked);
  }
  CHECK(numbers_in(stacked, {12, 13, 40}).size() == 3);
  CHECK(std::set<std::string>(noting.names.begin(), noting.names.end()).size() == 5);
  CHECK(mixed.all.bad_file_count() == noting.names.size());

  // Replacements differ from one another.
  const Indices same(20, 12);
  const std::vector<int> others = numbers_in(mixed.all, same);
  CHECK(std::set<int>(others.begin(), others.end()).size() > 10);
  // get() of one bad file throws.
  CHECK(error_of([&] { (void)mixed.all.get(12); }).path() == mixed.folder / "s012.npy");
}

TEST_CASE("replacements are the same for any number of workers and in repeated runs", "[bad]") {
  const auto numbers = [](std::size_t workers) {
    const Mixed mixed(FolderOptions().on_bad_file(OnBadFile::Replace));
    return two_epochs(mixed.all.stacked(), workers);
  };
  const std::vector<int> want = numbers(0);
  CHECK(want.size() == 200);
  for (const std::size_t workers : {0, 1, 4}) CHECK(numbers(workers) == want);
  // Another epoch replaces by others.
  CHECK(std::vector<int>(want.begin(), want.begin() + 100) !=
        std::vector<int>(want.begin() + 100, want.end()));
}

TEST_CASE("a replacement comes from the subset that was asked", "[bad]") {
  const Mixed mixed(FolderOptions().on_bad_file(OnBadFile::Replace));
  const Indices some{12, 20, 13, 21, 40, 22, 70, 71};
  const auto check = [&](const auto& part) {
    for (int round = 0; round < 10; ++round) {
      const auto batch = part.get_batch({0, 1, 2, 3, 4, 5, 6, 7});
      const std::vector<int> got = numbers_of(batch);
      REQUIRE(got.size() == 8);
      for (std::size_t i = 0; i < 8; ++i) {
        CHECK((got[i] >= 20 && got[i] <= 22));
        const std::filesystem::path key = part.key(batch.indices[i]);
        CHECK(key.filename() == name_of(got[i]));
      }
    }
  };
  check(mixed.all.subset(some).stacked().subset({0, 1, 2, 3, 4, 5, 1, 3}));
  check(mixed.all.subset({99, 12, 20, 13, 21, 40, 22, 70, 71, 98})
            .subset({1, 2, 3, 4, 5, 6, 2, 4})
            .map(transforms::ToDtype(at::kFloat)));
  const Error error = error_of([&] { (void)mixed.all.subset({12, 13}).get_batch({0}); });
  CHECK_THAT(error.what(), says("this sample and 1 other that were to replace it are bad"));
}

TEST_CASE("a replacement comes from the part of concat() that has the bad sample", "[bad]") {
  const Mixed mixed(FolderOptions().on_bad_file(OnBadFile::Replace));
  // A small part of a large dataset.
  const auto joined = concat(
      number_dataset(100'000).map([](const Example<>& one) { return TensorExample(one.data); }),
      mixed.all.subset({12, 20}));
  const auto batch = joined.get_batch({1, 100'000, 2});
  CHECK(numbers_of(batch) == std::vector<int>{1, 20, 2});
  CHECK(batch.indices == Indices{1, 100'001, 2});
}

TEST_CASE("each part of concat() has its own rule for bad samples", "[bad]") {
  const Mixed strict;
  const Mixed tolerant(FolderOptions().on_bad_file(OnBadFile::Skip));
  const auto joined = concat(strict.all, tolerant.all);
  const auto check = [](const auto& dataset) {
    CHECK(numbers_in(dataset, {1, 2, 112, 140}) == std::vector<int>{1, 2});
    CHECK(error_of([&] { (void)dataset.get_batch({101, 102, 12}); }).code() == ErrorCode::NotNpy);
  };
  check(joined);
  check(joined.stacked());
  CHECK(numbers_in(joined.stacked(), {1, 2, 170}) == std::vector<int>{1, 2});
  CHECK(error_of([&] {
          (void)joined.stacked().get_batch({101, 102, 70});
        }).code() == ErrorCode::Mismatch);
  CHECK(joined.bad_file_count() == 2 * 2 + 1);
}

TEST_CASE("more than max_bad() different bad samples are an Error", "[bad]") {
  const Mixed mixed(FolderOptions().on_bad_file(OnBadFile::Skip).max_bad(2));
  for (int epoch = 0; epoch < 3; ++epoch) {
    CHECK(numbers_in(mixed.all, {11, 12, 13, 14}) == std::vector<int>{11, 14});
  }
  CHECK(mixed.all.bad_file_count() == 6);
  const auto check = [](const auto& dataset, const Indices& indices, ErrorCode code) {
    const Error error = error_of([&] { (void)dataset.get_batch(indices); });
    CHECK(error.code() == code);
    CHECK_THAT(error.what(), says("more than 2 bad samples, which is the limit max_bad()"));
  };
  check(mixed.all, {40}, ErrorCode::NotFound);
  check(mixed.all.stacked(), {40, 1}, ErrorCode::NotFound);
  const Mixed odd(FolderOptions().on_bad_file(OnBadFile::Replace).max_bad(2));
  check(odd.all.stacked(), {12, 40, 1, 2, 70}, ErrorCode::Mismatch);
  const Mixed none(FolderOptions().on_bad_file(OnBadFile::Skip).max_bad(0));
  CHECK_THAT(error_of([&] { (void)none.all.get_batch({12}); }).what(), says("more than 0 bad"));

  // A sample is the same one in each dataset of it.
  const Mixed shared(FolderOptions().on_bad_file(OnBadFile::Skip).max_bad(1));
  CHECK(numbers_in(shared.all.stacked(), {1, 2, 70}) == std::vector<int>{1, 2});
  CHECK(numbers_in(shared.all.subset({70, 1, 2}).stacked(), {0, 1, 2}) == std::vector<int>{1, 2});
}

TEST_CASE("what may get better is thrown after some tries, and is not about the sample", "[bad]") {
  for (const OnBadFile what : {OnBadFile::Throw, OnBadFile::Skip, OnBadFile::Replace}) {
    Noting noting(what);
    const Mixed mixed(noting.options);
    std::filesystem::remove(mixed.folder / name_of(3));
    std::filesystem::create_directory(mixed.folder / name_of(3));  // not a regular file
    for (const Error& error : {error_of([&] {
                                 (void)mixed.all.get_batch({2, 3});
                               }),
                               error_of([&] {
                                 (void)mixed.all.stacked().get_batch({2, 3});
                               })}) {
      CHECK(error.code() == ErrorCode::Io);
      CHECK(error.path() == mixed.folder / name_of(3));
    }
    CHECK(noting.names.empty());
    CHECK(mixed.all.bad_file_count() == 0);
  }
}

TEST_CASE("a bad target takes its input with it", "[bad]") {
  const Folder inputs, targets;
  fill_folder(inputs, 10);
  fill_folder(targets, 10);
  damage(inputs, {1});
  damage(targets, {4});
  save(targets / name_of(6), at::zeros({5}));
  const auto check = [](const auto& batch, const std::vector<int>& want) {
    CHECK(numbers_of(batch) == want);
    for (std::size_t i = 0; i < want.size(); ++i) {
      CHECK(number_of(batch.target[static_cast<std::int64_t>(i)]) == want[i]);
      CHECK(batch.indices[i] == static_cast<std::size_t>(want[i]));
    }
  };
  const auto dataset = [&](OnBadFile what) {
    return PairedFolderDataset(inputs.path(), targets.path(), FolderOptions().on_bad_file(what));
  };
  const Indices all{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const auto skipping = dataset(OnBadFile::Skip);
  check(skipping.stacked().get_batch(all), {0, 2, 3, 5, 7, 8, 9});
  CHECK(skipping.bad_file_count() == 3);
  const auto replacing = dataset(OnBadFile::Replace);
  const auto batch = replacing.stacked().get_batch(all);
  REQUIRE(batch.indices.size() == 10);
  check(batch, numbers_of(batch));
  CHECK(numbers_of(batch)[9] == 9);
}

TEST_CASE("verify() returns Errors in the order of the samples, an input before its target",
          "[bad]") {
  const Folder inputs, targets;
  fill_folder(inputs, 6);
  fill_folder(targets, 6);
  damage(inputs, {1, 5});
  damage(targets, {1, 3});
  const PairedFolderDataset pairs(inputs.path(), targets.path());
  const auto check = [](const std::vector<Error>& errors,
                        const std::vector<std::filesystem::path>& want) {
    REQUIRE(errors.size() == want.size());
    for (std::size_t i = 0; i < want.size(); ++i) CHECK(errors[i].path() == want[i]);
  };
  check(pairs.verify(),
        {inputs / name_of(1), targets / name_of(1), targets / name_of(3), inputs / name_of(5)});
  check(pairs.subset({5, 0, 3}).stacked().verify(), {inputs / name_of(5), targets / name_of(3)});
}

TEST_CASE("where no shape has the majority of a batch, the dataset decides which sample is bad",
          "[dataset]") {
  const Folder folder;
  fill_folder(folder, 20);
  save(folder / name_of(4), at::arange(8).to(at::kFloat).reshape({2, 4}));
  for (const OnBadFile how : {OnBadFile::Skip, OnBadFile::Replace}) {
    const auto dataset = FolderDataset(folder.path(), FolderOptions().on_bad_file(how)).stacked();
    const auto first = dataset.get_batch({4, 5});
    const auto second = dataset.get_batch({5, 4});
    CHECK(first.data.sizes().slice(1) == at::IntArrayRef({2, 3}));
    CHECK(second.data.sizes().slice(1) == at::IntArrayRef({2, 3}));
    CHECK(second.indices[0] == 5);
    CHECK(first.indices.back() == 5);
    CHECK(first.indices.size() == (how == OnBadFile::Skip ? 1 : 2));
  }
}
