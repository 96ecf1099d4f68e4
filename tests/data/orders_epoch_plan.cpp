// The batches of each rank, and epochs that continue with another number of ranks.

#include <torch/data.h>
#include <torch_npy/data/epoch_plan.hpp>
#include <torch_npy/data/length_order.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/shares.hpp"

using namespace torch_npy;

namespace epoch_plan_test {

using torch_npy::detail::EpochPlan;

EpochPlan plan_of(const Order& order, std::size_t size, std::size_t batch_size,
                  std::size_t num_replicas, std::size_t rank, Tail tail = Tail::Pad,
                  bool drop_last = false, std::uint64_t start = 0) {
  return EpochPlan(order.rule().epoch({size}, 1, 2), batch_size, num_replicas, rank, tail,
                   drop_last, start);
}

std::vector<Pick> picks_of(EpochPlan plan) {
  std::vector<Pick> all;
  for (std::uint64_t k = 0; k < plan.batches(); ++k) {
    for (const Pick& pick : plan.batch(k)) all.push_back(pick);
  }
  return all;
}

Order length_order() {
  return by_length({3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4}, MaxElements{18});
}

}  // namespace epoch_plan_test

using namespace epoch_plan_test;

TEST_CASE("the ranks share the positions from the start of the plan on") {
  const Order order = shuffled();
  for (const std::size_t size : {0, 1, 2, 3, 7, 12, 23}) {
    const Indices indices = epoch_indices(order, {size}, 1, 2);
    for (std::size_t num_replicas = 1; num_replicas <= 5; ++num_replicas) {
      for (std::uint64_t start = 0; start <= size; start += start % 3 + 1) {
        for (const Tail tail : {Tail::Pad, Tail::Drop, Tail::Exact}) {
          const std::uint64_t rest = size - start;
          std::set<std::uint64_t> positions;
          for (std::size_t rank = 0; rank < num_replicas; ++rank) {
            CAPTURE(size, num_replicas, rank, start, static_cast<int>(tail));
            std::uint64_t expected = rest / num_replicas;
            if (tail == Tail::Pad) expected += rest % num_replicas != 0;
            if (tail == Tail::Exact) expected += rank < rest % num_replicas;
            const auto picks =
                picks_of(plan_of(order, size, 2, num_replicas, rank, tail, false, start));
            REQUIRE(picks.size() == expected);
            for (std::size_t j = 0; j < picks.size(); ++j) {
              REQUIRE(picks[j].position == start + j * num_replicas + rank);
              REQUIRE(picks[j].index == indices[picks[j].position % size]);
              REQUIRE(picks[j].sample == picks[j].index);
              REQUIRE(positions.insert(picks[j].position).second);
            }
          }
          const std::uint64_t left_over = tail == Tail::Drop ? rest % num_replicas : 0;
          for (std::uint64_t p = start; p < size - left_over; ++p) REQUIRE(positions.count(p) == 1);
          if (tail != Tail::Pad) REQUIRE(positions.size() == rest - left_over);
        }
      }
    }
  }
}

TEST_CASE("batches have batch_size samples, and drop_last drops an incomplete one") {
  for (std::size_t size = 0; size < 12; ++size) {
    for (std::size_t batch_size = 1; batch_size < 6; ++batch_size) {
      auto plan = plan_of(sequential(), size, batch_size, 2, 1);
      auto dropping = plan_of(sequential(), size, batch_size, 2, 1, Tail::Pad, true);
      const std::uint64_t samples = plan.samples();
      CAPTURE(size, batch_size);
      CHECK(plan.batches() == (samples + batch_size - 1) / batch_size);
      CHECK(dropping.batches() == samples / batch_size);
      std::size_t seen = 0;
      for (std::uint64_t k = 0; k < plan.batches(); ++k) {
        const auto batch = plan.batch(k);
        CHECK(batch.size() == (std::min<std::uint64_t>)(batch_size, samples - seen));
        for (const Pick& pick : batch) CHECK(pick.position == plan.pick(seen++).position);
      }
      for (std::uint64_t k = 0; k < dropping.batches(); ++k) {
        CHECK(dropping.batch(k).size() == batch_size);
      }
    }
  }
  const std::size_t most = (std::numeric_limits<std::size_t>::max)();
  auto whole = plan_of(sequential(), 7, most, 1, 0);
  CHECK(whole.batches() == 1);
  CHECK(whole.batch(0).size() == 7);
  CHECK(whole.consumed_after(0) == 7);
}

TEST_CASE("consumed_after() is what all ranks have had, and at most the epoch") {
  for (const Order& order : {shuffled(), length_order()}) {
    const std::size_t size = 20;
    for (const Tail tail : {Tail::Pad, Tail::Drop, Tail::Exact}) {
      for (std::size_t num_replicas = 1; num_replicas <= 5; ++num_replicas) {
        for (const bool drop_last : {false, true}) {
          // With Exact, one rank may have a batch that the others drop.
          if (drop_last && tail == Tail::Exact) continue;
          std::set<std::uint64_t> seen;
          auto first = plan_of(order, size, 3, num_replicas, 0, tail, drop_last);
          for (std::uint64_t k = 0; k < first.batches(); ++k) {
            for (std::size_t rank = 0; rank < num_replicas; ++rank) {
              auto plan = plan_of(order, size, 3, num_replicas, rank, tail, drop_last);
              if (k >= plan.batches()) continue;
              for (const Pick& pick : plan.batch(k)) {
                if (pick.position < size) seen.insert(pick.position);
              }
              CHECK(plan.consumed_after(k) == first.consumed_after(k));
            }
            CAPTURE(k, num_replicas, drop_last, static_cast<int>(tail));
            CHECK(first.consumed_after(k) == seen.size());
            CHECK(*seen.rbegin() + 1 == seen.size());
          }
        }
      }
    }
  }
}

TEST_CASE("an epoch continues with another number of ranks, without repeating or skipping") {
  for (const Order& order : {shuffled(), block_shuffled(4, 2), length_order()}) {
    const std::size_t size = 20;
    for (std::size_t before = 1; before <= 5; ++before) {
      for (std::size_t after = 1; after <= 5; ++after) {
        const std::uint64_t batches = plan_of(order, size, 2, before, 0).batches();
        for (std::uint64_t stop = 0; stop < batches; ++stop) {
          std::multiset<std::uint64_t> positions;
          std::uint64_t consumed = 0;
          for (std::size_t rank = 0; rank < before; ++rank) {
            auto plan = plan_of(order, size, 2, before, rank, Tail::Exact);
            for (std::uint64_t k = 0; k <= stop && k < plan.batches(); ++k) {
              for (const Pick& pick : plan.batch(k)) positions.insert(pick.position);
            }
            if (stop < plan.batches()) consumed = plan.consumed_after(stop);
          }
          for (std::size_t rank = 0; rank < after; ++rank) {
            for (const Pick& pick :
                 picks_of(plan_of(order, size, 3, after, rank, Tail::Exact, false, consumed))) {
              positions.insert(pick.position);
            }
          }
          CAPTURE(before, after, stop, consumed);
          REQUIRE(positions.size() == size);
          REQUIRE(std::set<std::uint64_t>(positions.begin(), positions.end()).size() == size);
          REQUIRE(*positions.rbegin() == size - 1);
        }
      }
    }
  }
}

TEST_CASE("more ranks than samples repeat them as often as needed") {
  for (std::size_t rank = 0; rank < 8; ++rank) {
    const auto picks = picks_of(plan_of(sequential(), 3, 4, 8, rank));
    REQUIRE(picks.size() == 1);
    CHECK(picks[0].index == rank % 3);
    CHECK(picks[0].position == rank);
  }
  CHECK(picks_of(plan_of(sequential(), 0, 4, 8, 7)).empty());
  CHECK(plan_of(sequential(), 3, 4, 8, 7).consumed_after(0) == 3);
}

TEST_CASE("batches that Pad repeats have positions of their own") {
  const std::size_t size = 20;
  std::set<std::uint64_t> positions;
  std::size_t count = 0;
  std::size_t batches = 0;
  for (std::size_t rank = 0; rank < 50; ++rank) {  // more than there are batches
    auto plan = plan_of(length_order(), size, 1, 50, rank);
    CHECK(plan.batches() == 1);
    CHECK(plan.has_cuts());
    for (const Pick& pick : plan.batch(0)) {
      positions.insert(pick.position);
      CHECK(pick.index == epoch_indices(length_order(), {size}, 1, 2)[pick.position % size]);
      ++count;
    }
    CHECK(plan.consumed_after(0) == size);
    CHECK(plan.samples() == plan.batch(0).size());
    ++batches;
  }
  CHECK(positions.size() == count);
  CHECK(batches == 50);
}

TEST_CASE("a plan with impossible arguments throws Error") {
  const auto refused = [](const Error& error, ErrorCode code, const std::string& words) {
    CHECK(error.code() == code);
    CHECK_THAT(error.what(), says(words));
  };
  const auto invalid = ErrorCode::InvalidArgument;
  refused(error_of([] { plan_of(shuffled(), 9, 2, 2, 2); }), invalid, "rank 2 is out of range");
  refused(error_of([] { plan_of(shuffled(), 9, 2, 0, 0); }), invalid, "rank 0 is out of range");
  refused(error_of([] { plan_of(shuffled(), 9, 0, 2, 0); }), invalid, "batch_size is 0");
  const auto at = [](const Order& order, std::size_t size, std::uint64_t start) {
    return error_of([&] { plan_of(order, size, 1, 1, 0, Tail::Pad, false, start); });
  };
  refused(at(shuffled(), 9, 10), ErrorCode::Mismatch,
          "position 10 is after the end of the epoch, which has 9 positions");
  refused(at(length_order(), 20, 21), ErrorCode::Mismatch, "position 21 is after the end");
  const auto epoch = length_order().rule().epoch({20}, 1, 2);
  const std::vector<std::uint64_t>& cuts = *epoch->cuts();
  CHECK(cuts.front() == 0);
  CHECK(cuts.back() == 20);
  for (std::uint64_t start = 0; start <= 20; ++start) {
    if (std::count(cuts.begin(), cuts.end(), start) == 0) {
      refused(at(length_order(), 20, start), ErrorCode::Mismatch, "inside a batch of the order");
    } else {
      CHECK_NOTHROW(plan_of(length_order(), 20, 1, 1, 0, Tail::Pad, false, start));
    }
  }
}

TEST_CASE("an order with cuts ignores batch_size and drop_last") {
  auto plan = plan_of(length_order(), 20, 0, 1, 0, Tail::Pad, true);
  CHECK(plan.batches() == length_order().rule().epoch({20}, 1, 2)->cuts()->size() - 1);
  CHECK(plan.samples() == 20);
  auto empty = plan_of(by_length({}, 4), 0, 1, 3, 2);
  CHECK(empty.batches() == 0);
  CHECK(empty.samples() == 0);
}
