// Any order as a sampler of LibTorch's loader.

#include <torch/data.h>
#include <torch/serialize.h>
#include <torch_npy/data/length_order.hpp>
#include <torch_npy/data/mixed_order.hpp>
#include <torch_npy/data/sampler.hpp>
#include <torch_npy/data/weighted_order.hpp>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/shares.hpp"

using namespace torch_npy;

namespace sampler_orders_test {

Order length_order() {
  return by_length({3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4}, MaxElements{18});
}

std::vector<Indices> batches_of(OrderSampler sampler) {
  std::vector<Indices> batches;
  while (const auto batch = sampler.next(1)) batches.push_back(*batch);
  return batches;
}

}  // namespace sampler_orders_test

TEST_CASE("each order gives a loader the samples of the epoch") {
  const std::size_t workers = GENERATE(0, 2);
  const std::size_t size = 50;
  const std::vector<double> weights(size, 0.5);
  for (const Order& order : {sequential(), shuffled(), block_shuffled(4, 3), weighted(weights, 70),
                             weighted(weights, 20, Replacement::Without)}) {
    OrderSampler sampler(order, size, 1, 0, OrderSamplerOptions().seed(5));
    const auto loader = loader_of(sampler, size, 4, workers);
    CHECK(read_epoch(*loader) == epoch_indices(order, {size}, 5, 0));
    CHECK(sampler.position() == sampler.samples());
    sampler.set_epoch(3);
    CHECK(read_epoch(*loader) == epoch_indices(order, {size}, 5, 3));
    CHECK(read_epoch(*loader) == epoch_indices(order, {size}, 5, 3));
  }
}

TEST_CASE("one process needs only an order and a size, and the ranks pad by default") {
  OrderSampler alone(shuffled(), 7);
  CHECK(epoch_of(alone) == epoch_indices(shuffled(), {7}));
  std::multiset<std::size_t> all;
  for (std::size_t rank = 0; rank < 3; ++rank) {
    OrderSampler sampler(shuffled(), 7, 3, rank);
    CHECK(sampler.samples() == 3);
    for (const std::size_t index : epoch_of(sampler)) all.insert(index);
  }
  CHECK(all.size() == 9);
  CHECK(std::set<std::size_t>(all.begin(), all.end()).size() == 7);
}

TEST_CASE("a loader gets the batches as by_length() cuts them, whatever its batch size") {
  const Order order = sampler_orders_test::length_order();
  const Indices all = epoch_indices(order, {20}, 0, 1);
  std::vector<Indices> expected;
  const auto epoch = order.rule().epoch({20}, 0, 1);
  for (std::size_t i = 0; i + 1 < epoch->cuts()->size(); ++i) {
    expected.emplace_back(all.begin() + static_cast<std::ptrdiff_t>((*epoch->cuts())[i]),
                          all.begin() + static_cast<std::ptrdiff_t>((*epoch->cuts())[i + 1]));
  }
  CHECK(expected.size() > 5);
  for (const std::size_t num_replicas : {1, 2, 3}) {
    for (std::size_t rank = 0; rank < num_replicas; ++rank) {
      OrderSampler sampler(order, 20, num_replicas, rank, OrderSamplerOptions().tail(Tail::Exact));
      sampler.set_epoch(1);
      std::vector<Indices> mine;
      for (std::size_t i = rank; i < expected.size(); i += num_replicas) {
        mine.push_back(expected[i]);
      }
      const auto loader = loader_of(sampler, 20, 100, 0);
      std::vector<Indices> got;
      for (const auto& batch : *loader) {
        got.push_back(indices_of(batch));
        if (got.size() == 2) CHECK(sampler.position() == got[0].size() + got[1].size());
      }
      CHECK(got == mine);
      CHECK(sampler.position() == sampler.samples());
    }
  }
}

TEST_CASE("a sampler by length resumes at the next batch") {
  const Order order = sampler_orders_test::length_order();
  OrderSampler sampler(order, 20, 2, 1);
  sampler.set_epoch(4);
  const auto whole = sampler_orders_test::batches_of(sampler);
  sampler.reset();
  sampler.next(1);
  sampler.next(1);
  const std::string bytes = saved(sampler);

  OrderSampler resumed(order, 20, 2, 1);
  load(resumed, bytes);
  CHECK(resumed.position() == whole[0].size() + whole[1].size());
  resumed.reset();
  CHECK(sampler_orders_test::batches_of(resumed) ==
        std::vector<Indices>(whole.begin() + 2, whole.end()));
  resumed.set_position(resumed.samples());
  resumed.reset();
  CHECK(!resumed.next(1));

  std::size_t starts = 0, samples = 0;
  for (const Indices& batch : whole) {
    CHECK_NOTHROW(resumed.set_position(samples));
    for (std::size_t i = 1; i < batch.size(); ++i) {
      const Error error = error_of([&] { resumed.set_position(samples + i); });
      CHECK(error.code() == ErrorCode::InvalidArgument);
      CHECK_THAT(error.what(), says("is inside a batch of by_length()"));
      ++starts;
    }
    samples += batch.size();
  }
  CHECK(starts > 0);
  CHECK(samples == resumed.samples());
}

TEST_CASE("mixed() gets the sizes of the joined datasets") {
  const Order order = mixed({1, 3}, 30);
  OrderSampler sampler(order, {4, 6}, 1, 0, OrderSamplerOptions().seed(2));
  CHECK(epoch_of(sampler) == epoch_indices(order, {4, 6}, 2, 0));
  sampler.reset(10);  // the same size
  CHECK(rest_of(sampler) == epoch_indices(order, {4, 6}, 2, 0));
  const Error error = error_of([&] { sampler.reset(11); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("2 joined datasets, together 10"));

  OrderSampler other(order, {6, 4}, 1, 0, OrderSamplerOptions().seed(2));
  const Error mismatch = error_of([&] { load(other, saved(sampler)); });
  CHECK(mismatch.code() == ErrorCode::Mismatch);
  CHECK_THAT(mismatch.what(), says("joined datasets of other sizes"));
}

TEST_CASE("an order that does not fit the dataset is refused by the constructor and reset()") {
  const Error error = error_of([] { OrderSampler(weighted({1, 2}), 3); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("the order has 2 weights, the dataset has 3 samples"));
  CHECK(error_of([] { OrderSampler(mixed({1, 2}), 3); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([] { OrderSampler(shuffled(), 3, 2, 2); }).code() == ErrorCode::InvalidArgument);

  OrderSampler sampler(weighted({1, 2}, 10), 2);
  const auto first = sampler.next(4);
  CHECK(error_of([&] { sampler.reset(3); }).code() == ErrorCode::InvalidArgument);
  CHECK(sampler.position() == 4);
  CHECK(sampler.next(100)->size() == 6);  // the epoch goes on
  CHECK(epoch_of(sampler).size() == 10);
}

TEST_CASE("a saved sampler with other numbers in its order is refused") {
  const auto refused = [](const OrderSampler& one, OrderSampler other) {
    const Error error = error_of([&] { load(other, saved(one)); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("has another order"));
  };
  refused({weighted({1, 2, 3}), 3}, {weighted({1, 2, 4}), 3});
  refused({by_length({1, 2, 3}, 2), 3}, {by_length({1, 2, 3}, MaxElements{8}), 3});
  refused({shuffled(), 3}, {block_shuffled(1), 3});

  OrderSampler same(weighted({1, 2, 3}), 3);
  CHECK_NOTHROW(load(same, saved(OrderSampler(weighted({1, 2, 3}), 3))));
}
