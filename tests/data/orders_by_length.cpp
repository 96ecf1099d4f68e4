// by_length(): batches of samples of similar length.

#include <torch/data.h>
#include <torch_npy/data/epoch_plan.hpp>
#include <torch_npy/data/length_order.hpp>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/shares.hpp"

using namespace torch_npy;

using Lengths = std::vector<std::int64_t>;

namespace by_length_test {

Lengths some_lengths(std::size_t count, std::uint64_t longest) {
  torch_npy::detail::SplitMix64 random(count);
  Lengths lengths;
  for (std::size_t i = 0; i < count; ++i) {
    lengths.push_back(static_cast<std::int64_t>(1 + random.below(longest)));
  }
  return lengths;
}

/// The batches of one rank.
std::vector<Indices> batches_of(const Order& order, std::size_t size, std::size_t num_replicas = 1,
                                std::size_t rank = 0, Tail tail = Tail::Pad,
                                std::uint64_t epoch = 0) {
  torch_npy::detail::EpochPlan plan(order.rule().epoch({size}, 1, epoch), 1, num_replicas, rank,
                                    tail, false);
  std::vector<Indices> batches;
  for (std::uint64_t k = 0; k < plan.batches(); ++k) {
    batches.emplace_back();
    for (const Pick& pick : plan.batch(k)) batches.back().push_back(pick.index);
  }
  return batches;
}

Indices joined(const std::vector<Indices>& batches) {
  Indices all;
  for (const Indices& batch : batches) all.insert(all.end(), batch.begin(), batch.end());
  return all;
}

std::int64_t padded_size(const Indices& batch, const Lengths& lengths) {
  std::int64_t longest = 0;
  for (const std::size_t index : batch) longest = (std::max)(longest, lengths[index]);
  return longest * static_cast<std::int64_t>(batch.size());
}

/// The part of all batches that is padding.
double padding(const std::vector<Indices>& batches, const Lengths& lengths) {
  std::int64_t padded = 0, all = 0;
  for (const Indices& batch : batches) padded += padded_size(batch, lengths);
  for (const std::int64_t length : lengths) all += length;
  return 1 - static_cast<double>(all) / static_cast<double>(padded);
}

}  // namespace by_length_test

using namespace by_length_test;

TEST_CASE("batches by length have every sample once, and only a few are smaller") {
  for (const std::size_t size : {0, 1, 2, 3, 7, 100, 4096, 20011}) {
    const Order order = by_length(some_lengths(size, 300), 16);
    const auto batches = batches_of(order, size);
    CAPTURE(size);
    CHECK(is_permutation_of(joined(batches), size));
    CHECK(batches.size() == (size + 15) / 16);
    for (const Indices& batch : batches) {
      REQUIRE(!batch.empty());
      REQUIRE(batch.size() <= 16);
    }
    check_any_position(order, {size});
  }
}

TEST_CASE("batches by length need little padding") {
  const std::size_t size = 20000;
  const Lengths lengths = some_lengths(size, 500);
  std::vector<Indices> shuffled_batches;
  const Indices any = epoch_indices(shuffled(), {size});
  for (std::size_t i = 0; i < size; i += 16) {
    shuffled_batches.emplace_back(any.begin() + static_cast<std::ptrdiff_t>(i),
                                  any.begin() + static_cast<std::ptrdiff_t>(i + 16));
  }
  CHECK(padding(shuffled_batches, lengths) > 0.4);
  CHECK(padding(batches_of(by_length(lengths, 16), size), lengths) < 0.03);
  CHECK(padding(batches_of(by_length(lengths, MaxElements{8000}), size), lengths) < 0.03);
}

TEST_CASE("even a few samples are grouped by length") {
  for (const Indices& batch : batches_of(by_length({5, 70, 6, 71, 7, 72, 8, 73}, 4), 8)) {
    CHECK(batch.size() == 4);
    for (const std::size_t index : batch) CHECK(index % 2 == batch[0] % 2);
  }
}

TEST_CASE("a batch never has more elements than MaxElements, padding included") {
  for (const std::size_t size : {1, 2, 100, 5000}) {
    for (const std::int64_t most : {300, 301, 1000, 20000}) {
      const Lengths lengths = some_lengths(size, 300);
      const auto batches = batches_of(by_length(lengths, MaxElements{most}), size);
      CAPTURE(size, most);
      CHECK(is_permutation_of(joined(batches), size));
      std::size_t half_empty = 0;
      for (const Indices& batch : batches) {
        REQUIRE(padded_size(batch, lengths) <= most);
        half_empty += padded_size(batch, lengths) < most / 2;
      }
      if (most >= 1000) CHECK(half_empty <= batches.size() / 10 + 1);
    }
  }
}

TEST_CASE("samples of length 0 count as one element") {
  const Lengths lengths(10, 0);
  for (const Indices& batch : batches_of(by_length(lengths, MaxElements{4}), 10)) {
    CHECK(batch.size() <= 4);
  }
  const auto one =
      batches_of(by_length(Lengths(3, 0), (std::numeric_limits<std::size_t>::max)()), 3);
  CHECK(one.size() == 1);
  const std::int64_t most = (std::numeric_limits<std::int64_t>::max)();
  CHECK(batches_of(by_length({most, most, 1}, MaxElements{most}), 3).size() >= 2);
}

TEST_CASE("the batches differ by epoch, in their samples and in their order") {
  const std::size_t size = 3000;
  const Lengths lengths = some_lengths(size, 300);
  const Order order = by_length(lengths, 8);
  auto first = batches_of(order, size, 1, 0, Tail::Pad, 0);
  auto second = batches_of(order, size, 1, 0, Tail::Pad, 1);
  CHECK(batches_of(order, size, 1, 0, Tail::Pad, 0) == first);

  // Not sorted by length.
  double longer = 0;
  for (std::size_t i = 1; i < first.size(); ++i) {
    longer += lengths[first[i][0]] > lengths[first[i - 1][0]];
  }
  longer /= static_cast<double>(first.size());
  CHECK(longer > 0.4);
  CHECK(longer < 0.6);

  for (auto* batches : {&first, &second}) {
    for (Indices& batch : *batches) std::sort(batch.begin(), batch.end());
    std::sort(batches->begin(), batches->end());
  }
  std::vector<Indices> same;
  std::set_intersection(first.begin(), first.end(), second.begin(), second.end(),
                        std::back_inserter(same));
  CHECK(same.size() < 10);
}

TEST_CASE("ranks share the batches that one rank would get, and Pad gives all the same number") {
  const std::size_t size = 1003;
  const Lengths lengths = some_lengths(size, 300);
  for (const Order& order : {by_length(lengths, 16), by_length(lengths, MaxElements{3000})}) {
    const auto all = batches_of(order, size);
    for (std::size_t num_replicas = 1; num_replicas <= 4; ++num_replicas) {
      CAPTURE(num_replicas, all.size());
      std::vector<Indices> exact;
      std::set<Indices> padded, dropped;
      for (std::size_t rank = 0; rank < num_replicas; ++rank) {
        for (const auto& batch : batches_of(order, size, num_replicas, rank, Tail::Exact)) {
          exact.push_back(batch);
        }
        const auto pad = batches_of(order, size, num_replicas, rank, Tail::Pad);
        CHECK(pad.size() == (all.size() + num_replicas - 1) / num_replicas);
        padded.insert(pad.begin(), pad.end());
        const auto drop = batches_of(order, size, num_replicas, rank, Tail::Drop);
        CHECK(drop.size() == all.size() / num_replicas);
        dropped.insert(drop.begin(), drop.end());
      }
      CHECK(exact.size() == all.size());
      std::sort(exact.begin(), exact.end());
      auto expected = all;
      std::sort(expected.begin(), expected.end());
      CHECK(exact == expected);
      CHECK(padded == std::set<Indices>(all.begin(), all.end()));
      CHECK(dropped.size() == all.size() / num_replicas * num_replicas);
    }
  }
}

TEST_CASE("batches by length are the same on every platform") {
  auto batches = batches_of(by_length(some_lengths(200, 50), 4), 200);
  batches.resize(3);
  CHECK(batches ==
        std::vector<Indices>{{123, 192, 5, 77}, {111, 189, 113, 110}, {34, 47, 80, 188}});
}

TEST_CASE("lengths that are not possible throw Error and say which one it is") {
  const auto refused = [](const Error& error, const std::string& words) {
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says(words));
  };
  refused(error_of([] { by_length({1, 2, -3}, 4); }), "sample 2 has length -3");
  refused(error_of([] {
            by_length({1, 9, 3}, MaxElements{8});
          }),
          "sample 1 has length 9, more than MaxElements{8}");
  refused(error_of([] { by_length({1, 2}, 0); }), "batch_size is 0");
  refused(error_of([] { by_length({}, MaxElements{0}); }), "MaxElements{0}");
  refused(error_of([] { by_length({1}, MaxElements{-5}); }), "MaxElements{-5}");
  refused(error_of([] {
            epoch_indices(by_length({1, 2}, 4), {3});
          }),
          "the order has 2 lengths, the dataset has 3 samples");
}

TEST_CASE("other lengths and other sizes of batches have other fingerprints") {
  std::set<std::uint64_t> fingerprints;
  for (const Order& order : {by_length({1, 2}, 4), by_length({2, 1}, 4), by_length({1, 2, 0}, 4),
                             by_length({1, 2}, 5), by_length({1, 2}, MaxElements{4})}) {
    fingerprints.insert(order.rule().fingerprint());
  }
  CHECK(fingerprints.size() == 5);
}
