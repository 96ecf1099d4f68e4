#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>

/// What the values of an array are like. NaNs are counted and otherwise left out.
struct Statistics {
  std::string minimum;  ///< exact for integers; empty where there are no numbers
  std::string mean;
  std::string maximum;
  std::int64_t nans = 0;
  std::string histogram;  ///< of the finite values, from the least to the greatest

  /// Of real numbers; a mebi of values at a time becomes float64. With `is_time` the least int64,
  /// NumPy's NaT, counts as NaN.
  Statistics(const at::Tensor& array, bool is_time) {
    constexpr std::int64_t kChunk = 1 << 20;
    constexpr std::int64_t kBins = 16;
    const at::Tensor values = array.reshape({-1});
    const bool is_integer = at::isIntegralType(array.scalar_type(), /*includeBool=*/false);
    const auto numbers_of = [&](const at::Tensor& chunk) {
      return chunk.masked_select(is_time ? chunk.ne(INT64_MIN) : chunk.isnan().logical_not());
    };
    const auto finite_of = [&](const at::Tensor& chunk) {
      const at::Tensor numbers = numbers_of(chunk).to(at::kDouble);
      return numbers.masked_select(numbers.isfinite());
    };
    double sum = 0;
    double least = std::numeric_limits<double>::infinity();
    double greatest = -least;
    at::Tensor extremes;
    for (const at::Tensor& chunk : values.split(kChunk)) {
      const at::Tensor numbers = numbers_of(chunk);
      nans += chunk.numel() - numbers.numel();
      if (numbers.numel() == 0) continue;
      sum += numbers.sum(at::kDouble).item<double>();
      const at::Tensor own = at::stack({numbers.min(), numbers.max()});
      extremes =
          extremes.defined()
              ? at::stack({at::minimum(extremes[0], own[0]), at::maximum(extremes[1], own[1])})
              : own;
      const at::Tensor finite = finite_of(chunk);
      if (finite.numel() == 0) continue;
      least = std::min(least, finite.min().item<double>());
      greatest = std::max(greatest, finite.max().item<double>());
    }
    if (extremes.defined()) {
      minimum = text_of(extremes[0], is_integer);
      maximum = text_of(extremes[1], is_integer);
      mean = text_of(sum / static_cast<double>(values.numel() - nans));
    }
    if (least > greatest) return;
    at::Tensor counts = at::zeros({kBins}, at::kLong);
    for (const at::Tensor& chunk : values.split(kChunk)) {
      // Halved first: the difference of two doubles may be more than a double holds.
      const at::Tensor part =
          (finite_of(chunk) / 2 - least / 2) / std::max(greatest / 2 - least / 2, 1e-300);
      counts += (part * kBins).to(at::kLong).clamp(0, kBins - 1).bincount({}, kBins);
    }
    static const char* const bars[] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
                                       "\u2585", "\u2586", "\u2587", "\u2588"};
    const auto most = static_cast<double>(counts.max().item<std::int64_t>());
    for (std::int64_t bin = 0; bin < kBins; ++bin) {
      histogram += bars[static_cast<int>(
          std::ceil(static_cast<double>(counts[bin].item<std::int64_t>()) / most * 8))];
    }
  }

 private:
  static std::string text_of(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return std::isnan(value) ? "nan" : text;
  }

  static std::string text_of(const at::Tensor& value, bool is_integer) {
    return is_integer ? std::to_string(value.item<std::int64_t>()) : text_of(value.item<double>());
  }
};
