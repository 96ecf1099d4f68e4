// mean_and_std, compared with the formulas of NumPy.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/statistics.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/images.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace tf = torch_npy::transforms;

namespace {

at::Tensor random_numbers(at::IntArrayRef sizes) { return at::rand(sizes, seeded(4)); }

bool is_near(double a, double b, double epsilon = 1e-12) {
  return std::abs(a - b) <= epsilon * std::abs(b);
}

/// Compares with the two-pass formula; `rows` has shape (values, channels).
void check_is_of(const MeanAndStd& got, const at::Tensor& rows) {
  const at::Tensor values = rows.to(at::kDouble);
  REQUIRE(got.mean.size() == static_cast<std::size_t>(values.size(1)));
  REQUIRE(got.std.size() == got.mean.size());
  const at::Tensor mean = values.mean(0);
  const at::Tensor std = (values - mean).square().mean(0).sqrt();
  for (std::size_t i = 0; i < got.mean.size(); ++i) {
    const auto channel = static_cast<std::int64_t>(i);
    CHECK(is_near(got.mean[i], mean[channel].item<double>()));
    CHECK(is_near(got.std[i], std[channel].item<double>()));
  }
}

MeanAndStd of_tensor(const at::Tensor& data, const StatisticsOptions& options = {}) {
  return mean_and_std(ArrayDataset(data), options);
}

}  // namespace

TEST_CASE("mean_and_std gives the mean and std of columns and of channels", "[statistics]") {
  const at::Tensor table = random_numbers({3001, 7});
  check_is_of(of_tensor(table), table);
  const at::Tensor pictures = random_numbers({37, 3, 15, 9});
  check_is_of(of_tensor(pictures), pictures.transpose(0, 1).flatten(1).t());
  check_is_of(mean_and_std(ArrayDataset(pictures).stacked()),
              pictures.transpose(0, 1).flatten(1).t());
  const at::Tensor large = random_numbers({3, 2, 200, 150});  // more than one block
  check_is_of(of_tensor(large), large.transpose(0, 1).flatten(1).t());
  check_is_of(of_tensor(at::arange(60).reshape({20, 3})), at::arange(60).reshape({20, 3}));
  check_is_of(of_tensor(table.narrow(0, 0, 1)), table.narrow(0, 0, 1));

  const at::Tensor series = random_numbers({50, 20, 4});
  check_is_of(of_tensor(series, StatisticsOptions().axis(-1)), series.reshape({1000, 4}));
  const at::Tensor volumes = random_numbers({5, 2, 4, 3, 6});
  check_is_of(of_tensor(volumes, StatisticsOptions().axis(0)),
              volumes.transpose(0, 1).flatten(1).t());
}

TEST_CASE("mean_and_std does not depend on the number of workers", "[statistics]") {
  const Folder folder;
  std::vector<at::Tensor> all;
  for (int i = 0; i < 100; ++i) {
    // Images of different sizes.
    all.push_back(random_numbers({3, 5 + i % 3, 40 + i}));
    save(folder / name_of(i), all.back());
  }
  const FolderDataset dataset(folder.path());
  const MeanAndStd alone = mean_and_std(dataset, StatisticsOptions().workers(0));
  std::vector<at::Tensor> flat;
  for (const at::Tensor& one : all) flat.push_back(one.flatten(1).t());
  check_is_of(alone, at::cat(flat));
  for (const std::size_t workers : {1, 2, 5}) {
    const MeanAndStd other = mean_and_std(dataset, StatisticsOptions().workers(workers));
    CHECK(other.mean == alone.mean);
    CHECK(other.std == alone.std);
  }
  CHECK(mean_and_std(dataset).std == alone.std);
  // The transforms of the dataset draw the same numbers each time.
  const auto cropped = dataset.map(tf::RandomCrop({4, 4}));
  CHECK(mean_and_std(cropped, StatisticsOptions().workers(0)).mean ==
        mean_and_std(cropped, StatisticsOptions().workers(2)).mean);
}

TEST_CASE("mean_and_std is precise for large means, and exact for equal values", "[statistics]") {
  const at::Tensor big = random_numbers({5000, 2}).to(at::kDouble) + 1e9;
  const MeanAndStd got = of_tensor(big);
  const MeanAndStd shifted = of_tensor(big - 1e9);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(is_near(got.mean[i], shifted.mean[i] + 1e9, 1e-15));
    CHECK(is_near(got.std[i], shifted.std[i], 1e-8));
  }
  for (const double value : {0.1, 1e300, -3.7}) {
    const MeanAndStd same = of_tensor(at::full({1000, 1}, value, at::kDouble));
    CHECK(same.mean[0] == value);
    CHECK(same.std[0] == 0);
    CHECK_THAT(error_of([&] { tf::Normalize(same.mean, same.std); }).what(),
               says("the std is 0 if all values are equal"));
  }
}

TEST_CASE("Normalize takes the result of mean_and_std", "[statistics]") {
  const at::Tensor table = random_numbers({400, 5}) * 30 + 7;
  const ArrayDataset dataset(table, at::arange(400));
  const auto [mean, std] = mean_and_std(dataset);
  const auto normalized = dataset.map(tf::Normalize(mean, std));
  const MeanAndStd after = mean_and_std(normalized);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(std::abs(after.mean[i]) < 1e-5);
    CHECK(std::abs(after.std[i] - 1) < 1e-5);
  }
  CHECK(normalized.get(3).target.item<int>() == 3);

  const auto named = dataset.map([](const Example<>& one) {
    return NamedExample({{"features", one.data}, {"label", one.target}});
  });
  CHECK(mean_and_std(named, StatisticsOptions().on("features")).mean == mean);
  CHECK(error_of([&] { (void)mean_and_std(named); }).code() == ErrorCode::NotFound);
  const auto target =
      mean_and_std(ArrayDataset(table, table * 2), StatisticsOptions().on("target"));
  CHECK(is_near(target.mean[4], 2 * mean[4]));
}

TEST_CASE("mean_and_std says what it cannot compute", "[statistics]") {
  Error error = error_of([] { (void)of_tensor(at::zeros({0, 3})); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("a dataset without samples"));
  CHECK_THAT(error_of([] { (void)of_tensor(at::zeros({4, 0})); }).what(), says("without values"));
  for (const at::Tensor& data : {at::ones({4, 3, 2}), at::ones({4}), at::ones({4, 1, 2, 3, 4})}) {
    error = error_of([&] { (void)of_tensor(data); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("axis(n) says which axis"));
  }
  CHECK_THAT(error_of([] {
               (void)of_tensor(at::ones({4, 28, 28, 3}, at::kByte));
             }).what(),
             says("mean_and_std expects samples of shape (columns,) or (channels, height, width), "
                  "found shape (28, 28, 3), which seems to be (height, width, channels)"));
  CHECK(error_of([] {
          (void)of_tensor(at::ones({4, 3}, at::kComplexFloat));
        }).code() == ErrorCode::Mismatch);

  const Folder folder;
  for (int i = 0; i < 40; ++i) save(folder / name_of(i), at::full({3, 4, 4}, i, at::kFloat));
  const FolderDataset dataset(folder.path());
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    at::Tensor image = at::ones({3, 4, 4});
    image[2][1][1] = bad;
    save(folder / name_of(33), image);
    for (const bool is_stacked : {false, true}) {
      error = error_of(
          [&] { (void)(is_stacked ? mean_and_std(dataset.stacked()) : mean_and_std(dataset)); });
      CHECK(error.code() == ErrorCode::Mismatch);
      CHECK_THAT(error.what(), says("s033.npy\" has NaN"));
    }
  }
  save(folder / name_of(33), at::ones({4, 4, 4}));
  error = error_of([&] { (void)mean_and_std(dataset); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("has 3, \"" + dataset.key(33) + "\" has 4"));
  write_bytes(folder / name_of(33), "no array");
  CHECK(error_of([&] { (void)mean_and_std(dataset); }).code() == ErrorCode::NotNpy);
  const FolderDataset skipping(folder.path(), FolderOptions().on_bad_file(OnBadFile::Skip));
  CHECK(is_near(mean_and_std(skipping).mean[0], (40 * 39 / 2 - 33) / 39.0));
}

TEST_CASE("mean_and_std counts good samples once, also if bad ones are replaced", "[statistics]") {
  const Folder folder;
  for (int i = 0; i < 12; ++i) {
    const auto path = folder / (std::to_string(100 + i) + ".npy");
    save(path, at::full({4}, i, i == 8 ? at::kDouble : at::kFloat));
    if (i == 5) write_bytes(path, "junk");
  }
  double sum = 0, squares = 0;
  for (const int i : {0, 1, 2, 3, 4, 6, 7, 9, 10, 11}) sum += i / 10.0, squares += i * i / 10.0;
  for (const OnBadFile what : {OnBadFile::Skip, OnBadFile::Replace}) {
    const FolderDataset dataset(folder.path(),
                                FolderOptions().expect({4}, at::kFloat).on_bad_file(what));
    const auto check = [&](const MeanAndStd& found) {
      CHECK(found.mean.size() == 4);
      CHECK(std::abs(found.mean[0] - sum) < 1e-12);
      CHECK(std::abs(found.std[3] - std::sqrt(squares - sum * sum)) < 1e-12);
    };
    check(mean_and_std(dataset));
    check(mean_and_std(dataset.stacked(), StatisticsOptions().workers(2)));
  }
}

TEST_CASE("mean_and_std of all values does not look at shapes", "[statistics]") {
  const Folder folder;
  std::vector<at::Tensor> volumes;
  for (int i = 0; i < 3; ++i) {
    volumes.push_back(at::rand({4 + i, 5, 6}, at::kDouble));
    save(folder / (std::to_string(i) + ".npy"), volumes.back());
    volumes.back() = volumes.back().reshape(-1);
  }
  const FolderDataset dataset(folder.path());
  const auto [mean, std] = mean_and_std(dataset, StatisticsOptions().per_channel(false));
  const at::Tensor all = at::cat(volumes);
  REQUIRE(mean.size() == 1);
  CHECK(std::abs(mean[0] - all.mean().item<double>()) < 1e-12);
  CHECK(std::abs(std[0] - all.std(/*unbiased=*/false).item<double>()) < 1e-12);
  const auto normalized = dataset.map(transforms::Normalize(mean, std)).get(1).data;
  CHECK(at::allclose(normalized.reshape(-1), (volumes[1] - mean[0]) / std[0]));
  CHECK_THAT(error_of([&] { (void)mean_and_std(dataset); }).what(),
             says("per_channel(false) computes one mean of all values"));
  const auto both = StatisticsOptions().per_channel(false).axis(0);
  CHECK(error_of([&] { (void)mean_and_std(dataset, both); }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("mean_and_std reports its progress", "[statistics]") {
  std::vector<std::size_t> seen;
  const auto options = StatisticsOptions().progress([&](std::size_t done, std::size_t total) {
    CHECK(total == 5000);
    seen.push_back(done);
  });
  (void)of_tensor(random_numbers({5000, 300}), options);
  CHECK(seen.size() > 5);
  CHECK(seen.size() <= 101);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(seen.back() == 5000);
}
