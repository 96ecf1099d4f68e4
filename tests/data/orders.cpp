// sequential(), shuffled() and block_shuffled().

#include <torch/data.h>
#include <torch_npy/data/order.hpp>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/shares.hpp"

using namespace torch_npy;

TEST_CASE("each order has every sample once, and any position can be asked for first") {
  for (const Order& order :
       {sequential(), shuffled(), block_shuffled(1), block_shuffled(2, 3), block_shuffled(10, 1),
        block_shuffled(64), block_shuffled(1000, 7), block_shuffled(1000000, 1000000)}) {
    for (const std::size_t size : {0, 1, 2, 3, 7, 100, 4095, 4096, 4097, 100003}) {
      CAPTURE(size);
      CHECK(is_permutation_of(epoch_indices(order, {size}, 1, 2), size));
      if (size < 5000) check_any_position(order, {size});
    }
    CHECK(is_permutation_of(epoch_indices(order, {3, 0, 4}, 1, 2), 7));
  }
}

TEST_CASE("the order differs by seed and by epoch, and is the same for the same") {
  for (const Order& order : {shuffled(), block_shuffled(10)}) {
    for (const std::size_t size : {100, 5000}) {
      const Indices one = epoch_indices(order, {size}, 1, 2);
      CHECK(epoch_indices(order, {size}, 1, 2) == one);
      CHECK(epoch_indices(order, {size}, 1, 3) != one);
      CHECK(epoch_indices(order, {size}, 2, 2) != one);
      CHECK(epoch_indices(order, {size}, 2, 1) != one);
    }
  }
  Indices counted(100);
  std::iota(counted.begin(), counted.end(), std::size_t{0});
  CHECK(epoch_indices(sequential(), {100}, 3, 4) == counted);
}

TEST_CASE("orders are the same on every platform") {
  const auto first = [](const Order& order, std::size_t size) {
    Indices indices = epoch_indices(order, {size}, 7, 3);
    indices.resize(8);
    return indices;
  };
  CHECK(first(shuffled(), 10) == Indices{5, 4, 6, 3, 8, 2, 1, 9});
  CHECK(first(shuffled(), 100003) ==
        Indices{28571, 81506, 63584, 35291, 95058, 64884, 81837, 53178});
  CHECK(first(block_shuffled(3, 2), 10) == Indices{2, 0, 1, 9, 4, 8, 6, 5});
  CHECK(first(block_shuffled(64), 100003) ==
        Indices{81213, 8144, 59828, 15812, 64673, 22035, 65805, 8135});
}

TEST_CASE("in a window of block_shuffled() are all samples of its blocks and no others") {
  for (const std::size_t size : {100, 103, 109, 5001}) {
    for (const std::size_t window : {1, 3, 4}) {
      const std::size_t block = 10;
      const std::size_t blocks = (size + block - 1) / block;
      const Indices all = epoch_indices(block_shuffled(block, window), {size}, 4, 5);
      CAPTURE(size, window);
      std::set<std::size_t> seen;
      for (std::size_t first = 0; first < size;) {
        // Read blocks until `window` of them are complete, or all.
        std::set<std::size_t> in_window;
        std::size_t samples = 0;
        std::size_t end = first;
        while (end < size && (in_window.size() < window || end < first + samples)) {
          const std::size_t number = all[end++] / block;
          if (!in_window.insert(number).second) continue;
          samples += (std::min)(block, size - number * block);
        }
        REQUIRE(in_window.size() == (std::min)(window, blocks - seen.size()));
        REQUIRE(end - first == samples);
        for (const std::size_t number : in_window) REQUIRE(seen.insert(number).second);
        first = end;
      }
      CHECK(seen.size() == blocks);
    }
  }
}

TEST_CASE("the samples of a window are shuffled, not only the blocks") {
  const Indices all = epoch_indices(block_shuffled(10, 4), {400}, 4, 5);
  std::size_t neighbours = 0;
  for (std::size_t i = 1; i < all.size(); ++i) neighbours += all[i] == all[i - 1] + 1;
  CHECK(neighbours < 40);
  const Indices whole = epoch_indices(block_shuffled(10, 1), {400}, 4, 5);
  for (std::size_t i = 0; i < 400; i += 10) {
    for (std::size_t j = i; j < i + 10; ++j) CHECK(whole[j] / 10 == whole[i] / 10);
  }
}

TEST_CASE("the short last block is at any place of the order equally often") {
  std::vector<double> place(5), any_block(5);
  for (std::uint64_t seed = 0; seed < 5000; ++seed) {
    const Indices all = epoch_indices(block_shuffled(4, 1), {17}, seed);  // 4 blocks of 4, 1 of 1
    std::size_t blocks_before = 0;
    for (std::size_t i = 0; all[i] != 16; i += 4) ++blocks_before;
    ++place[blocks_before];
    ++any_block[all[0] / 4];
  }
  check_uniform(place);
  check_uniform(any_block);
}

TEST_CASE("a block or a window of 0 throws Error") {
  for (const Error& error :
       {error_of([] { block_shuffled(0); }), error_of([] { block_shuffled(3, 0); })}) {
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("expected numbers of at least 1"));
  }
}

TEST_CASE("orders of other kinds or with other numbers have other fingerprints") {
  std::set<std::uint64_t> fingerprints;
  const std::vector<Order> orders{sequential(),      shuffled(),           block_shuffled(1),
                                  block_shuffled(2), block_shuffled(1, 2), block_shuffled(2, 1)};
  for (const Order& order : orders) fingerprints.insert(order.rule().fingerprint());
  CHECK(fingerprints.size() == orders.size());
  CHECK(shuffled().rule().fingerprint() == orders[1].rule().fingerprint());
}

TEST_CASE("an order can be copied, moved and used after it was moved") {
  Order order = shuffled();
  const Order moved = std::move(order);
  const Indices expected = epoch_indices(moved, {9});
  CHECK(epoch_indices(order, {9}) == expected);  // NOLINT(bugprone-use-after-move)
  order = sequential();
  CHECK(epoch_indices(order, {2}) == Indices{0, 1});
  CHECK(epoch_indices(moved, {9}) == expected);
}
