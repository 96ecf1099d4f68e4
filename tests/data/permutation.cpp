// Permutations that are computed position by position.

#include <torch/data.h>
#include <torch_npy/data/permutation.hpp>

#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "support/catch.hpp"
#include "support/shares.hpp"

using namespace torch_npy;
using torch_npy::detail::Permutation;

TEST_CASE("a permutation has each number once, whatever its size") {
  for (const std::uint64_t size :
       {0, 1, 2, 3, 7, 100, 4095, 4096, 4097, 8192, 8193, 16385, 100003}) {
    for (const std::uint64_t key : {0, 1, 77}) {
      const Permutation permutation(size, key);
      CHECK(permutation.size() == size);
      Indices all;
      for (std::uint64_t i = 0; i < size; ++i) {
        all.push_back(static_cast<std::size_t>(permutation(i)));
      }
      CAPTURE(size, key);
      CHECK(is_permutation_of(all, static_cast<std::size_t>(size)));
    }
  }
}

TEST_CASE("a permutation has the same numbers on every platform") {
  const auto first = [](std::uint64_t size, std::uint64_t key) {
    const Permutation permutation(size, key);
    std::vector<std::uint64_t> numbers;
    for (std::uint64_t i = 0; i < 6; ++i) numbers.push_back(permutation(i));
    return numbers;
  };
  using Numbers = std::vector<std::uint64_t>;
  CHECK(first(7, 1) == Numbers{5, 6, 4, 3, 0, 1});
  CHECK(first(4096, 2) == Numbers{597, 3566, 840, 2188, 1842, 2384});
  CHECK(first(4097, 3) == Numbers{2560, 2613, 4087, 1661, 1632, 311});
  CHECK(first(100003, 4) == Numbers{16393, 88650, 88543, 48738, 90458, 26681});
  CHECK(first((std::uint64_t{1} << 40) + 12345, 5) == Numbers{745269919993, 868547480521,
                                                              885757934964, 113494928216,
                                                              1003084286827, 39073593642});
}

TEST_CASE("a permutation may have more numbers than fit into memory") {
  for (const std::uint64_t size : {std::uint64_t{1} << 40, (std::uint64_t{1} << 41) + 1,
                                   std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    const Permutation permutation(size, 9);
    std::set<std::uint64_t> numbers;
    bool all_less = true;
    for (std::uint64_t i = 0; i < 1000; ++i) {
      const std::uint64_t number = permutation(size - 1 - i * (size / 1000));
      all_less = all_less && number < size;
      numbers.insert(number);
    }
    CHECK(all_less);
    CHECK(numbers.size() == 1000);
  }
}

TEST_CASE("each permutation of three numbers is equally likely") {
  std::map<std::vector<std::uint64_t>, double> count_of;
  for (std::uint64_t key = 0; key < 60000; ++key) {
    const Permutation permutation(3, torch_npy::detail::mix({key, 1}));
    ++count_of[{permutation(0), permutation(1), permutation(2)}];
  }
  std::vector<double> counts;
  for (const auto& [numbers, count] : count_of) counts.push_back(count);
  CHECK(counts.size() == 6);
  check_uniform(counts);
}

TEST_CASE("every number is equally likely at any position, and so is any distance of neighbours") {
  const std::uint64_t size = GENERATE(4000, 5000, 8192);
  CAPTURE(size);
  const std::size_t bins = 50;
  std::vector<double> first(bins), middle(bins), last(bins), distance(bins);
  const auto bin = [&](std::uint64_t number) {
    return static_cast<std::size_t>(number * bins / size);
  };
  double adjacent = 0;
  for (std::uint64_t key = 0; key < 5000; ++key) {
    const Permutation permutation(size, torch_npy::detail::mix({key, 2}));
    ++first[bin(permutation(0))];
    ++middle[bin(permutation(size / 2))];
    ++last[bin(permutation(size - 1))];
    ++distance[bin((permutation(1) + size - permutation(0)) % size)];
    for (std::uint64_t i = 0; i < 100; ++i) {
      adjacent += permutation(i) + 1 == permutation(i + 1);
    }
  }
  check_uniform(first);
  check_uniform(middle);
  check_uniform(last);
  check_uniform(distance);
  const double expected = 5000 * 100 / static_cast<double>(size);
  CHECK(std::abs(adjacent - expected) < 5 * std::sqrt(expected));
}

TEST_CASE("where a number is does not depend on where it was") {
  const std::uint64_t size = 100003;
  const Permutation permutation(size, 12);
  std::vector<double> counts(20 * 20);
  for (std::uint64_t i = 0; i < size; ++i) {
    ++counts[static_cast<std::size_t>(i * 20 / size * 20 + permutation(i) * 20 / size)];
  }
  check_uniform(counts);
}
