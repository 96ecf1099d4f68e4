// The sampler for several processes: the share of each rank, and its order.

#include <torch/data.h>
#include <torch/serialize.h>
#include <torch_npy/data/sampler.hpp>

#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/shares.hpp"

using namespace torch_npy;

TEST_CASE("the ranks divide an epoch by the documented rule, whatever the tail is") {
  std::vector<std::size_t> sizes(41);
  std::iota(sizes.begin(), sizes.end(), std::size_t{0});
  sizes.insert(sizes.end(), {127, 1000});

  for (const auto size : sizes) {
    for (const bool shuffle : {true, false}) {
      const auto options = Options().seed(3).shuffle(shuffle);
      const Indices order = order_of(size, options, 4);
      REQUIRE(std::set<std::size_t>(order.begin(), order.end()).size() == size);
      for (std::size_t num_replicas = 1; num_replicas <= 20; ++num_replicas) {
        CAPTURE(size, num_replicas, shuffle);

        // Rank r gets the indices r, r + num_replicas, ... of the order.
        std::vector<Indices> expected(num_replicas);
        for (std::size_t i = 0; i < size; ++i) {
          expected[i % num_replicas].push_back(order[i]);
        }
        for (std::size_t rank = 0; rank < num_replicas; ++rank) {
          OrderSampler exact(
              shuffle ? Order(std::make_shared<torch_npy::detail::RandpermRule>()) : sequential(),
              size, num_replicas, rank, OrderSamplerOptions().seed(3).tail(Tail::Exact));
          exact.set_epoch(4);
          REQUIRE(epoch_of(exact) == expected[rank]);
          REQUIRE(exact.samples() == expected[rank].size());
        }

        auto dropped = expected;
        for (auto& share : dropped) share.resize(expected.back().size());
        REQUIRE(draw_all(size, num_replicas, Options(options).drop_last(true), 4) == dropped);

        auto padded = expected;
        for (std::size_t i = size; size != 0 && i % num_replicas != 0; ++i) {
          padded[i % num_replicas].push_back(order[i % size]);
        }
        REQUIRE(draw_all(size, num_replicas, options, 4) == padded);

        // The shares together are the epoch, and their sizes differ by at most 1.
        std::size_t all = 0;
        for (const auto& share : expected) {
          all += share.size();
          REQUIRE(expected[0].size() - share.size() <= 1);
        }
        REQUIRE(all == size);
        for (const auto& share : padded) REQUIRE(share.size() == expected[0].size());
      }
    }
  }
}

// Written by PyTorch 1.13 in Python:
//   s = torch.utils.data.DistributedSampler(range(size), num_replicas=num_replicas, rank=rank,
//                                           shuffle=shuffle, seed=seed, drop_last=drop_last)
//   s.set_epoch(epoch); print(list(s))
TEST_CASE("the order equals that of Python's DistributedSampler") {
  using Shares = std::vector<Indices>;
  const Options pad;
  const auto drop = Options().drop_last(true);
  CHECK(draw_all(10, 3, drop) == Shares{{4, 5, 0}, {1, 3, 8}, {7, 9, 6}});
  CHECK(draw_all(10, 3, pad) == Shares{{4, 5, 0, 2}, {1, 3, 8, 4}, {7, 9, 6, 1}});
  CHECK(draw_all(10, 3, Options(pad).seed(7), 5) ==
        Shares{{3, 1, 9, 4}, {5, 0, 2, 3}, {8, 6, 7, 5}});
  CHECK(draw_all(3, 5, Options(pad).seed(1)) == Shares{{1}, {2}, {0}, {1}, {2}});
  CHECK(draw_all(10, 4, Options(drop).shuffle(false)) == Shares{{0, 4}, {1, 5}, {2, 6}, {3, 7}});
  CHECK(draw_all(10, 4, Options(pad).shuffle(false)) ==
        Shares{{0, 4, 8}, {1, 5, 9}, {2, 6, 0}, {3, 7, 1}});
  CHECK(draw_all(2, 5, Options(pad).shuffle(false)) == Shares{{0}, {1}, {0}, {1}, {0}});

  auto large = draw(1000, 3, 8, Options(pad).seed(std::uint64_t{1} << 40), 2);
  CHECK(large.size() == 125);
  large.resize(10);
  CHECK(large == Indices{475, 506, 97, 504, 625, 630, 762, 998, 211, 780});
}

TEST_CASE("each epoch has its own order, and always the same") {
  DistributedSampler sampler(1000, 4, 1);
  const Indices first = epoch_of(sampler);
  CHECK(epoch_of(sampler) == first);
  sampler.set_epoch(1);
  const Indices second = epoch_of(sampler);
  CHECK(second != first);
  CHECK(draw(1000, 1, 4, Options().seed(1)) == second);
  sampler.set_epoch(0);
  CHECK(epoch_of(sampler) == first);
}

TEST_CASE("the sampler does not use LibTorch's global generator") {
  torch::manual_seed(5);
  const auto expected = torch::randperm(9);
  torch::manual_seed(5);
  draw(100, 0, 1, Options());
  CHECK(torch::equal(torch::randperm(9), expected));
}

TEST_CASE("next() returns the requested number of indices or the rest") {
  DistributedSampler sampler(7, 1, 0, Options().shuffle(false));
  CHECK(*sampler.next(5) == Indices{0, 1, 2, 3, 4});  // without a reset
  CHECK(sampler.position() == 5);
  CHECK(*sampler.next(std::numeric_limits<std::size_t>::max()) == Indices{5, 6});
  CHECK(!sampler.next(1));
  CHECK(sampler.position() == 7);
  sampler.reset();
  CHECK(sampler.position() == 0);
  CHECK(*sampler.next(1) == Indices{0});
}

TEST_CASE("reset() sets a new size and keeps it") {
  OrderSampler sampler(sequential(), 7, 2, 1, OrderSamplerOptions().tail(Tail::Exact));
  sampler.reset(5);
  CHECK(sampler.samples() == 2);
  CHECK(rest_of(sampler) == Indices{1, 3});
  CHECK(epoch_of(sampler) == Indices{1, 3});
  sampler.set_position(2);
  sampler.reset(3);  // fewer than the position: there is nothing left
  CHECK(rest_of(sampler).empty());
  sampler.reset(0);
  CHECK(rest_of(sampler).empty());
  sampler.reset(9);
  CHECK(rest_of(sampler) == Indices{1, 3, 5, 7});
}

TEST_CASE("an impossible rank throws Error") {
  for (const auto& [rank, num_replicas] :
       {std::pair<std::size_t, std::size_t>{0, 0}, {2, 2}, {3, 2}}) {
    const Error error = error_of(
        [rank = rank, replicas = num_replicas] { DistributedSampler(10, replicas, rank); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("rank " + std::to_string(rank) + " is out of range"));
  }
}

TEST_CASE("copies of a sampler share one state") {
  DistributedSampler sampler(10, 2, 0, Options().shuffle(false));
  DistributedSampler copy = sampler;
  CHECK(*sampler.next(2) == Indices{0, 2});
  CHECK(*copy.next(2) == Indices{4, 6});
  CHECK(sampler.position() == 4);

  DistributedSampler moved = std::move(copy);
  moved.set_epoch(3);
  CHECK(sampler.epoch() == 3);
  CHECK(copy.epoch() == 3);  // NOLINT(bugprone-use-after-move): that it still answers is the point
}

TEST_CASE("several threads draw from one sampler") {
  DistributedSampler sampler(1000, 1, 0);
  std::vector<Indices> got(4);
  std::vector<std::thread> threads;
  for (auto& indices : got) {
    threads.emplace_back([&indices, copy = sampler]() mutable {
      while (const auto batch = copy.next(3)) {
        indices.insert(indices.end(), batch->begin(), batch->end());
        copy.set_epoch(copy.epoch() + copy.position() % 2);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<std::size_t> all;
  std::size_t count = 0;
  for (const auto& indices : got) {
    all.insert(indices.begin(), indices.end());
    count += indices.size();
  }
  CHECK(all.size() == 1000);
  CHECK(count == 1000);
}
