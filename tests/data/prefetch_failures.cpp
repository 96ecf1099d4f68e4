// Early exits and exceptions during prefetch().

#include <torch/data.h>
#include <torch_npy/data/prefetch.hpp>

#include <atomic>
#include <exception>
#include <stdexcept>
#include <vector>

#include "support/batches.hpp"
#include "support/catch.hpp"

using namespace torch_npy;

TEST_CASE("after an early exit the loader can start a new epoch", "[prefetch]") {
  for (const c10::Device& device : {c10::Device(at::kCPU), kFake}) {
    for (const std::size_t workers : {0, 1, 4}) {
      INFO(device << ", " << workers << " workers");
      auto loader = loader_of(kCount, workers, plain_numbers);

      for (auto& batch : prefetch(*loader, device)) {
        check_is(batch, device, numbers(0));
        break;
      }
      CHECK(fake_device::pending == 0);
      check_epoch(prefetch(*loader, device), device);

      const auto throws_in_loop = [&] {
        int used = 0;
        for (auto& batch : prefetch(*loader, device)) {
          (void)batch;
          if (++used == 3) throw std::logic_error("in the loop");
        }
      };
      CHECK_THROWS_AS(throws_in_loop(), std::logic_error);
      CHECK(fake_device::pending == 0);
      check_epoch(prefetch(*loader, device), device);

      CHECK_THROWS_AS(throws_in_loop(), std::logic_error);
      check_epoch(*loader, at::kCPU);  // LibTorch's own begin()

      auto batches = prefetch(*loader, device);
      for (int epoch = 0; epoch < 2; ++epoch) {
        for (auto& batch : batches) {
          check_is(batch, device, numbers(0));
          break;
        }
      }
      check_epoch(batches, device);

      (void)*loader->begin();  // a loop without prefetch() that was left early
      check_epoch(batches, device);
      CHECK(batches.begin() != batches.end());
    }
  }
}

TEST_CASE("an exception is thrown after the batches before it", "[prefetch]") {
  for (const c10::Device& device : {c10::Device(at::kCPU), kFake}) {
    for (const std::size_t workers : {0, 1, 4}) {
      for (const std::size_t bad : {0, 1, 3, 8}) {
        INFO(device << ", " << workers << " workers, batch " << bad);
        std::atomic<bool> is_whole{false};
        auto loader = loader_of(kCount, workers, [&](std::size_t index) {
          if (index == bad && !is_whole) throw std::runtime_error("bad batch");
          return numbers(index);
        });
        std::vector<std::size_t> got;
        const auto epoch = [&] {
          for (auto& batch : prefetch(*loader, device)) {
            check_is(batch, device, numbers(got.size()));
            got.push_back(got.size());
          }
        };
        if (workers == 0) {
          CHECK_THROWS_AS(epoch(), std::runtime_error);
        } else {
          CHECK_THROWS_AS(epoch(), torch::data::WorkerException);
        }
        CHECK(got.size() == bad);
        is_whole = true;
        check_epoch(prefetch(*loader, device), device);

        if (bad == 0) continue;  // begin() threw, and there is no iterator
        is_whole = false;
        auto batches = prefetch(*loader, device);
        std::vector<std::size_t> seen;
        int failures = 0;
        for (auto at = batches.begin(); at != batches.end();) {
          seen.push_back(static_cast<std::size_t>(at->target.to(at::kCPU)[0].item<int64_t>()) /
                         1000);
          const auto next = [&]() noexcept -> bool {
            try {
              ++at;
              return true;
            } catch (const std::exception&) {
              return false;
            }
          };
          while (!next()) ++failures;
        }
        CHECK(failures == 1);
        std::vector<std::size_t> want;
        for (std::size_t i = 0; i < kCount; ++i) {
          if (i != bad) want.push_back(i);
        }
        CHECK(seen == want);

        // An exception of a batch that was not reached is dropped.
        std::size_t used = 0;
        for (auto& batch : batches) {
          (void)batch;
          if (++used == bad) break;
        }
        is_whole = true;
        check_epoch(batches, device);
      }
    }
  }
}

TEST_CASE("after any number of exceptions the other batches arrive", "[prefetch]") {
  constexpr std::size_t kMany = 60;
  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of(kMany, workers, [](std::size_t index) {
      if (index % 2 == 1) throw std::runtime_error("bad batch");
      return numbers(index);
    });
    auto batches = prefetch(*loader, c10::Device(at::kCPU));
    std::size_t got = 0, failures = 0;
    for (auto at = batches.begin(); at != batches.end();) {
      check_is(*at, at::kCPU, numbers(2 * got));
      ++got;
      for (bool failed = true; failed;) {
        try {
          ++at;
          failed = false;
        } catch (const std::exception&) {
          ++failures;
        }
      }
    }
    CHECK(got == kMany / 2);
    CHECK(failures == kMany / 2);
  }
}

TEST_CASE("after an exception, and at the end, there is no batch", "[prefetch]") {
  for (const c10::Device& device : {c10::Device(at::kCPU), kFake}) {
    for (const std::size_t workers : {0, 2}) {
      INFO(device << ", " << workers << " workers");
      auto loader = loader_of(3, workers, [](std::size_t index) {
        if (index == 1) throw std::runtime_error("bad batch");
        return numbers(index);
      });
      auto batches = prefetch(*loader, device);
      auto at = batches.begin();
      const auto check_none = [&] {
        CHECK(error_of([&] { (void)*at; }).code() == ErrorCode::InvalidArgument);
        CHECK(error_of([&] { (void)at->data; }).code() == ErrorCode::InvalidArgument);
      };
      check_is(*at, device, numbers(0));
      CHECK_THROWS_AS(++at, std::exception);
      check_none();
      CHECK(at != batches.end());
      ++at;
      check_is(*at, device, numbers(2));
      ++at;
      CHECK(at == batches.end());
      check_none();
    }
  }
}

TEST_CASE("a failed copy throws in the position of its batch", "[prefetch]") {
  auto loader = loader_of(kCount, 2, plain_numbers);
  auto batches = prefetch(*loader, kFake1);
  auto at = batches.begin();
  fake_device::allocations_till_failure = 1;  // the target of batch 2
  ++at;
  CHECK(is_home());
  check_is(*at, kFake1, numbers(1));
  CHECK_THROWS_WITH(++at, says("out of memory"));
  CHECK(is_home());
  ++at;
  check_is(*at, kFake1, numbers(3));
  check_epoch(batches, kFake1);
}
