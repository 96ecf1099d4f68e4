#pragma once

// Batches whose content is checked on the device, while others are copied.

#include <torch_npy/data/batch.hpp>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <thread>
#include <utility>

#include "support/cuda.hpp"
// After LibTorch's.
#include "support/catch.hpp"

/// Batch `index` of the tests with checksums: another number of rows and other values than the
/// batches around it.
inline torch_npy::Example<> checked_batch(std::size_t index) {
  const auto number = static_cast<std::int64_t>(index);
  const std::int64_t rows = 1 + number * 7 % 61;
  return {((at::arange(rows * 16) * 40503 + number * 7919) % 1000003).view({rows, 16}),
          at::full({rows}, number, at::kLong)};
}

/// A number that changes if one element changes or two are swapped. Computed on the device of the
/// batch, without waiting for it.
inline at::Tensor checksum(const torch_npy::Example<>& batch, const at::Tensor& weights) {
  const auto weighted = [&](const at::Tensor& tensor) {
    return (tensor.flatten() * weights.narrow(0, 0, tensor.numel())).sum();
  };
  return weighted(batch.data) + 7 * weighted(batch.target);
}

/// Compares checksums of all batches of an epoch of checked_batch() with those on the host. Nothing
/// in the loop waits for the device, which often has work for a millisecond. So batches are
/// destroyed, and later ones copied, long before their checksums are computed. Some batches are
/// kept for a while, and summed once more.
template <class Range>
void check_checksums(Range&& range, c10::Device device, std::size_t count) {
  const OwnStream own(device);
  const at::Tensor weights = at::arange(1, 61 * 16 + 1);
  const at::Tensor there = weights.to(device);
  at::Tensor busy = at::rand({device.is_cuda() ? std::int64_t{1} << 24 : 16}).to(device);
  at::Tensor first = at::zeros({static_cast<std::int64_t>(count)}, at::kLong).to(device);
  at::Tensor again = first.clone();
  const auto put = [&](at::Tensor& sums, std::size_t index, const torch_npy::Example<>& batch) {
    sums.narrow(0, static_cast<std::int64_t>(index), 1).copy_(checksum(batch, there).view({1}));
  };

  std::deque<std::pair<std::size_t, torch_npy::Example<>>> kept;
  std::size_t index = 0;
  for (auto& batch : range) {
    REQUIRE(index < count);
    if (index % 17 == 0) {
      for (int i = 0; i < 20; ++i) busy.sin_();
    }
    put(first, index, batch);
    kept.emplace_back(index, std::move(batch));
    if (kept.size() > index % 5) {
      put(again, kept.front().first, kept.front().second);
      kept.pop_front();
    }
    if (index % 29 == 0) std::this_thread::sleep_for(std::chrono::microseconds(index % 700));
    ++index;
  }
  REQUIRE(index == count);
  for (const auto& [at, batch] : kept) put(again, at, batch);

  const at::Tensor got = first.to(at::kCPU), got_again = again.to(at::kCPU);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto want = checksum(checked_batch(i), weights).item<std::int64_t>();
    const auto at = static_cast<std::int64_t>(i);
    wrong += got[at].item<std::int64_t>() != want || got_again[at].item<std::int64_t>() != want;
  }
  CHECK(wrong == 0);
}

/// checked_batch() by a worker that sometimes takes longer, so that batches become ready at
/// different times.
inline torch_npy::Example<> slow_checked_batch(std::size_t index) {
  if (index % 7 == 0) std::this_thread::sleep_for(std::chrono::microseconds(index * 31 % 500));
  return checked_batch(index);
}
