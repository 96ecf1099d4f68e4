#pragma once

// CUDA devices in tests. There is no header of CUDA here: LibTorch's own interfaces reach them, and
// a LibTorch without CUDA compiles the tests, too.

#include <torch_npy/tensor/device.hpp>

#include <ATen/ops/empty.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

// After LibTorch's.
#include "support/catch.hpp"

inline const c10::Device kCuda(c10::kCUDA, 0);
inline const c10::Device kCuda1(c10::kCUDA, 1);

/// Whether there are `count` CUDA devices. If not, prints a line that says so: the test ends then.
inline bool has_cuda(int count = 1) {
  if (torch_npy::detail::device_count(c10::kCUDA) >= count) return true;
  if (count == 1) WARN("skipped: there is no CUDA device here");
  if (count == 2) WARN("skipped: there is no second CUDA device here");
  return false;
}

/// The number of batches of a long test: `count`, or less if TORCH_NPY_GPU_BATCHES says so, for
/// runs under a tool that makes the device slow.
inline std::size_t batches_of_long_test(std::size_t count) {
  const char* const limit = std::getenv("TORCH_NPY_GPU_BATCHES");
  return limit == nullptr ? count : (std::min)(count, std::size_t{std::stoul(limit)});
}

/// While it exists, the current stream of this thread is not the default one, as in a program that
/// has a stream of its own. Devices without streams stay as they are.
class OwnStream {
 public:
  explicit OwnStream(c10::Device device) {
    if (!device.is_cuda()) return;
    guard_.emplace(c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device));
  }

 private:
  std::optional<c10::StreamGuard> guard_;
};

/// Takes nearly all memory that is free on a device. Small tensors still fit; a tensor of kTooLarge
/// bytes does not.
class FullDevice {
 public:
  static constexpr std::int64_t kTooLarge = std::int64_t{64} << 20;

  explicit FullDevice(c10::Device device) {
    const auto take = [device](std::int64_t bytes) {
      return at::empty({bytes}, at::TensorOptions(at::kByte).device(device));
    };
    // LibTorch keeps the memory of these, in two pools: one for tensors of less than 1 MiB.
    const at::Tensor for_others[] = {take(kTooLarge / 8), take(1024)};
    for (std::int64_t bytes = std::int64_t{1} << 30; bytes >= kTooLarge / 4;) {
      try {
        blocks_.push_back(take(bytes));
      } catch (const c10::Error&) {
        bytes /= 2;
      }
    }
  }

 private:
  std::vector<at::Tensor> blocks_;
};
