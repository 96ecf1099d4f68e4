#pragma once

// Images, and transforms applied to them.

#include <torch_npy/data/transforms.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <utility>

#include "support/catch.hpp"

inline at::Generator seeded(std::uint64_t seed) { return at::detail::createCPUGenerator(seed); }

/// Images of shape (count, channels, height, width), every pixel different.
inline at::Tensor images(std::int64_t count, std::int64_t channels, std::int64_t height,
                         std::int64_t width) {
  return at::arange(count * channels * height * width, at::kFloat)
      .reshape({count, channels, height, width});
}

template <class Transform>
torch_npy::Batch<> apply(Transform transform, at::Tensor data, at::Tensor target = at::zeros({0})) {
  return transform.apply_batch(torch_npy::Batch<>(std::move(data), std::move(target)));
}

template <class Transform>
void check_refused(Transform transform, const at::Tensor& data, const char* words) {
  const torch_npy::Error error = error_of([&] { (void)apply(transform, data); });
  CHECK(error.code() == torch_npy::ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says(words));
}
