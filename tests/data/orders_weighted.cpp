// weighted(): how often each sample is drawn.

#include <torch/data.h>
#include <torch_npy/data/weighted_order.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/shares.hpp"

using namespace torch_npy;

TEST_CASE("samples are drawn as often as their weights say, and those of weight 0 never") {
  const std::vector<double> weights{0, 0, 3, 1, 0, 6, 0};
  const Indices all = epoch_indices(weighted(weights, 20000), {7}, 1, 2);
  CHECK(all.size() == 20000);
  std::vector<double> counts(7);
  for (const std::size_t index : all) ++counts[index];
  CHECK(counts[0] + counts[1] + counts[4] + counts[6] == 0);
  check_counts({counts[2], counts[3], counts[5]}, {6000, 2000, 12000});
  check_any_position(weighted(weights, 1000), {7});
}

TEST_CASE("weighted() draws as many samples as there are weights by default") {
  for (const auto replacement : {Replacement::With, Replacement::Without}) {
    const Order order = weighted({1, 2, 1, 1}, 0, replacement);
    const Indices one = epoch_indices(order, {4}, 1, 2);
    CHECK(one.size() == 4);
    CHECK(epoch_indices(order, {4}, 1, 2) == one);
    std::set<Indices> different;
    for (std::uint64_t i = 0; i < 20; ++i) {
      different.insert(epoch_indices(order, {4}, 1, i));
      different.insert(epoch_indices(order, {4}, i, 1));
    }
    CHECK(different.size() > 10);
  }
}

TEST_CASE("without replacement, no sample is drawn twice, and none of weight 0") {
  const std::vector<double> weights{0, 5, 1, 0, 3, 1, 0};
  std::map<Indices, double> count_of;
  for (std::uint64_t seed = 0; seed < 20000; ++seed) {
    ++count_of[epoch_indices(weighted(weights, 2, Replacement::Without), {7}, seed)];
  }
  // The second draw is among the three that remain.
  std::vector<double> counts, expected;
  for (const std::size_t first : {1, 2, 4, 5}) {
    for (const std::size_t second : {1, 2, 4, 5}) {
      if (first == second) continue;
      counts.push_back(count_of[{first, second}]);
      expected.push_back(20000 * weights[first] / 10 * weights[second] / (10 - weights[first]));
      count_of.erase({first, second});
    }
  }
  CHECK(count_of.empty());
  check_counts(counts, expected);
  check_any_position(weighted(weights, 4, Replacement::Without), {7});
  Indices all = epoch_indices(weighted(weights, 4, Replacement::Without), {7}, 3);
  std::sort(all.begin(), all.end());
  CHECK(all == Indices{1, 2, 4, 5});
}

TEST_CASE("equal weights without replacement are a permutation") {
  for (const std::size_t size : {1, 2, 3, 7, 100, 4097}) {
    const Order order = weighted(std::vector<double>(size, 0.1), 0, Replacement::Without);
    CHECK(is_permutation_of(epoch_indices(order, {size}, 3), size));
  }
}

TEST_CASE("exponential random numbers have mean and variance 1") {
  torch_npy::detail::SplitMix64 random(1);
  const int count = 100000;
  double sum = 0, squares = 0, below_one = 0;
  for (int i = 0; i < count; ++i) {
    const double value = torch_npy::detail::exponential(random);
    sum += value;
    squares += value * value;
    below_one += value < 1;
  }
  CHECK(std::abs(sum / count - 1) < 0.02);
  CHECK(std::abs(squares / count - 2) < 0.1);
  CHECK(std::abs(below_one / count - 0.63212) < 0.008);
}

TEST_CASE("weights may be of any dtype, and there may be more of them than 2^24") {
  const std::size_t size = (std::size_t{1} << 24) + 1;
  std::vector<double> weights(size, 1);
  weights.back() = static_cast<double>(size - 1);
  std::vector<double> counts(3);  // first half, second half, last one
  for (const std::size_t index : epoch_indices(weighted(std::move(weights), 10000), {size}, 8)) {
    ++counts[index == size - 1 ? 2 : index < size / 2 ? 0 : 1];
  }
  check_counts(counts, {2500, 2500, 5000});

  const Indices expected = epoch_indices(weighted({1, 0, 3}, 50), {3}, 8);
  for (const auto type : {at::kFloat, at::kDouble, at::kLong, at::kByte, at::kHalf}) {
    CHECK(epoch_indices(weighted(torch::tensor({1, 0, 3}).to(type), 50), {3}, 8) == expected);
  }
  const at::Tensor columns = torch::tensor({{1, 5}, {0, 5}, {3, 5}});
  CHECK(epoch_indices(weighted(columns.select(1, 0), 50), {3}, 8) == expected);
}

TEST_CASE("weighted draws are the same on every platform") {
  CHECK(epoch_indices(weighted({1, 2, 3, 4, 5}, 8), {5}, 7, 3) == Indices{3, 2, 1, 4, 1, 0, 1, 2});
  const Order without = weighted({1, 2, 3, 4, 5, 6, 7, 8}, 0, Replacement::Without);
  CHECK(epoch_indices(without, {8}, 7, 3) == Indices{5, 4, 2, 7, 3, 6, 1, 0});
}

TEST_CASE("weights of any magnitude draw only samples of positive weight") {
  const double least = std::numeric_limits<double>::denorm_min();
  const double most = (std::numeric_limits<double>::max)() / 4;
  for (const auto& weights :
       std::vector<std::vector<double>>{{0, least, 0}, {0, most, 0, most, 0}, {least, most, 0}}) {
    for (const auto replacement : {Replacement::With, Replacement::Without}) {
      const Order order = weighted(weights, 1, replacement);
      for (std::uint64_t seed = 0; seed < 200; ++seed) {
        for (const std::size_t index : epoch_indices(order, {weights.size()}, seed)) {
          CHECK(weights.at(index) > 0);
        }
      }
    }
  }
}

TEST_CASE("weights that are not possible throw Error and say which one it is") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  const double most = (std::numeric_limits<double>::max)();
  const auto refused = [](const Error& error, const std::string& words) {
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says(words));
  };
  refused(error_of([] { weighted({1, 2, -3}); }), "weight 2 is -3");
  refused(error_of([&] { weighted({1, nan, 3}); }), "weight 1 is ");
  refused(error_of([&] { weighted({infinite, 3}); }), "weight 0 is inf");
  refused(error_of([] { weighted({0, 0, 0}); }), "all 3 weights are 0");
  refused(error_of([] { weighted(std::vector<double>()); }), "there are no weights");
  refused(error_of([&] { weighted({most, most}); }), "sum of the weights is too large");
  refused(error_of([] {
            weighted({1, 0, 2}, 3, Replacement::Without);
          }),
          "cannot draw 3 samples without replacement, because only 2 of the weights are positive");
  refused(error_of([] { weighted(torch::ones({2, 3})); }), "has 2 dimensions");
  refused(error_of([] { weighted(torch::tensor(3.0)); }), "has 0 dimensions");
  refused(error_of([] { weighted(at::Tensor()); }), "undefined");
  refused(error_of([] { weighted(torch::ones(3, at::kComplexFloat)); }), "complex");
  refused(error_of([] {
            epoch_indices(weighted({1, 2}), {3});
          }),
          "the order has 2 weights, the dataset has 3 samples");
}

TEST_CASE("other weights, numbers of samples and replacement have other fingerprints") {
  std::set<std::uint64_t> fingerprints;
  for (const Order& order : {weighted({1, 2}), weighted({2, 1}), weighted({1, 2, 0}),
                             weighted({1, 2}, 3), weighted({1, 2}, 2, Replacement::Without)}) {
    fingerprints.insert(order.rule().fingerprint());
  }
  CHECK(fingerprints.size() == 5);
  CHECK(fingerprints.count(weighted({1, 2}, 2).rule().fingerprint()) == 1);
}
