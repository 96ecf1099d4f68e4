// mixed(): several datasets in given proportions.

#include <torch/data.h>
#include <torch_npy/data/mixed_order.hpp>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/shares.hpp"

using namespace torch_npy;

TEST_CASE("each part is used as often as its weight says, and evenly") {
  const std::vector<std::size_t> sizes{30, 0, 5000, 7, 10};
  const std::vector<std::size_t> first{0, 30, 30, 5030, 5037, 5047};
  const Indices all = epoch_indices(mixed({3, 0, 5, 2, 0}, 20000), sizes, 1, 2);
  CHECK(all.size() == 20000);
  std::vector<double> parts(5), samples(5047);
  for (const std::size_t index : all) {
    REQUIRE(index < 5047);
    ++samples[index];
    for (std::size_t part = 0; part < 5; ++part) {
      parts[part] += first[part] <= index && index < first[part + 1];
    }
  }
  CHECK(parts[1] + parts[4] == 0);
  check_counts({parts[0], parts[2], parts[3]}, {6000, 10000, 4000});
  // A part starts again only when all its samples have been used.
  for (const std::size_t part : {0, 2, 3}) {
    const auto [least, most] =
        std::minmax_element(samples.begin() + static_cast<std::ptrdiff_t>(first[part]),
                            samples.begin() + static_cast<std::ptrdiff_t>(first[part + 1]));
    CHECK(*most - *least <= 1);
  }
}

TEST_CASE("a part that is used up begins again in another order") {
  const Indices all = epoch_indices(mixed({1}, 40), {10}, 1, 2);
  std::set<Indices> rounds;
  for (std::ptrdiff_t i = 0; i < 40; i += 10) {
    const Indices round(all.begin() + i, all.begin() + i + 10);
    CHECK(is_permutation_of(round, 10));
    rounds.insert(round);
  }
  CHECK(rounds.size() == 4);
}

TEST_CASE("a mixed epoch has as many samples as the parts by default") {
  const Order order = mixed({1, 1});
  for (const std::size_t size : {1, 2, 3, 7, 100, 1023, 1024, 1025, 5000}) {
    CHECK(epoch_indices(order, {size, 3}).size() == size + 3);
    check_any_position(order, {size, 3});
  }
  check_any_position(mixed({1, 2, 3}, 3000), {5, 6000, 100});
  CHECK(epoch_indices(order, {0, 0}).empty());
  const Indices one = epoch_indices(order, {50, 50}, 1, 2);
  CHECK(epoch_indices(order, {50, 50}, 1, 2) == one);
  CHECK(epoch_indices(order, {50, 50}, 1, 3) != one);
  CHECK(epoch_indices(order, {50, 50}, 2, 2) != one);
}

TEST_CASE("mixed draws are the same on every platform") {
  CHECK(epoch_indices(mixed({1, 2}, 8), {4, 6}, 7, 3) == Indices{6, 0, 3, 7, 2, 1, 1, 8});
}

TEST_CASE("weights that do not fit the parts throw Error") {
  const auto refused = [](const Error& error, const std::string& words) {
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says(words));
  };
  refused(error_of([] {
            epoch_indices(mixed({1, 2}), {3});
          }),
          "mixed() has 2 weights, the dataset has 1 part:");
  refused(error_of([] {
            epoch_indices(mixed({1, 2}), {3, 0});
          }),
          "part 1 of the dataset has no samples");
  refused(error_of([] { epoch_indices(mixed({1}, 5), {0}); }), "part 0 of the dataset");
  refused(error_of([] { mixed({1, -2}); }), "weight 1 is -2");
  refused(error_of([] { mixed({0, 0}); }), "all 2 weights are 0");
  refused(error_of([] { mixed({}); }), "there are no weights");
}

TEST_CASE("other proportions and numbers of samples have other fingerprints") {
  std::set<std::uint64_t> fingerprints;
  for (const Order& order : {mixed({1, 2}), mixed({2, 1}), mixed({1, 2}, 5)}) {
    fingerprints.insert(order.rule().fingerprint());
  }
  CHECK(fingerprints.size() == 3);
}
