// Work on several threads.

#include <torch_npy/error.hpp>
#include <torch_npy/io/parallel.hpp>

#include <algorithm>
#include <atomic>
#include <vector>

#include "support/catch.hpp"

using namespace torch_npy;

TEST_CASE("for_each_index() calls every index once, with any number of threads", "[parallel]") {
  for (const std::size_t threads : {1u, 2u, 7u, 100u}) {
    for (const std::size_t count : {0u, 1u, 2u, 1000u}) {
      std::vector<std::atomic<int>> calls(count);
      detail::for_each_index(count, threads, [&](std::size_t i) { ++calls[i]; });
      CHECK(std::all_of(calls.begin(), calls.end(), [](const auto& n) { return n == 1; }));
    }
  }
}

TEST_CASE("of several errors the one with the lowest index is thrown, and the work stops",
          "[parallel]") {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> calls{0};
    const Error error = error_of([&] {
      detail::for_each_index(100000, 4, [&](std::size_t i) {
        ++calls;
        if (i >= 20) throw Error(ErrorCode::Io, "x", i);
      });
    });
    CHECK(error.offset() == 20);
    CHECK(calls < 1000);
  }
}
