// prefetch() to a CUDA device: streams, failures, and memory that is used again.

#include <torch/data.h>
#include <torch_npy/data/prefetch.hpp>

#include <atomic>
#include <cstddef>
#include <stdexcept>

#include "support/batches.hpp"
#include "support/checksums.hpp"
#include "support/cuda.hpp"

using namespace torch_npy;

namespace {

/// Long epochs, with and without workers, and epochs that are left early while copies are made.
void check_long_prefetch(c10::Device device, std::size_t count) {
  check_checksums(prefetch(*loader_of(count, 4, slow_checked_batch), device), device, count);
  const std::size_t few = count / 20;
  check_checksums(prefetch(*loader_of(few, 0, slow_checked_batch), device), device, few);
  // Batches in pinned memory are copied from where they are. LibTorch gives that memory to other
  // batches when they are destroyed.
  const bool pins = device.is_cuda();
  const auto pinned = [pins](std::size_t index) {
    const Example<> batch = slow_checked_batch(index);
    return pins ? Example<>(batch.data.pin_memory(), batch.target.pin_memory()) : batch;
  };
  const auto loader = loader_of(few, 2, pinned);
  auto batches = prefetch(*loader, device);
  for (std::size_t stop = 1; stop < 10; ++stop) {
    std::size_t used = 0;
    for (auto& batch : batches) {
      (void)batch;
      if (++used == stop) break;
    }
  }
  check_checksums(batches, device, few);
}

}  // namespace

TEST_CASE("checksums of prefetched batches are right on the CPU", "[prefetch]") {
  check_long_prefetch(at::kCPU, 200);
}

TEST_CASE("a stream of the program sees complete prefetched batches on a CUDA device", "[cuda]") {
  if (!has_cuda()) return;
  check_long_prefetch(kCuda, batches_of_long_test(10000));
}

TEST_CASE("prefetch() to a CUDA device goes on after a batch that throws", "[cuda]") {
  if (!has_cuda()) return;
  for (const std::size_t workers : {0, 3}) {
    std::atomic<bool> is_good{false};
    const auto loader = loader_of(kCount, workers, [&](std::size_t index) {
      if (index == 4 && !is_good) throw std::runtime_error("bad batch");
      return numbers(index);
    });
    auto batches = prefetch(*loader, kCuda);
    auto at = batches.begin();
    for (std::size_t index = 0; index < kCount; ++index) {
      if (index == 4) {
        CHECK_THROWS_AS(++at, std::exception);
        continue;
      }
      if (index != 0) ++at;
      check_is(*at, kCuda, numbers(index));
    }
    is_good = true;
    check_epoch(batches, kCuda);
  }
}

TEST_CASE("prefetch() moves batches to the second CUDA device", "[cuda]") {
  if (!has_cuda(2)) return;
  check_device(kCuda1);
  check_long_prefetch(kCuda1, batches_of_long_test(1000));
}
