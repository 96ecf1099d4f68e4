#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "terminal.hpp"

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

/// Draws a picture of shape (height, width), (height, width, channels) or (channels, height, width)
/// with 1, 3 or 4 channels, under its name; of an array with more axes the first one. Its least
/// value is black, its greatest white. In colours in a terminal, else in shades.
inline void draw(at::Tensor array, std::string name) {
  const auto is_channels = [](std::int64_t n) { return n == 1 || n == 3 || n == 4; };
  while (array.dim() > 3 ||
         (array.dim() == 3 && !is_channels(array.size(0)) && !is_channels(array.size(2)))) {
    if (array.size(0) == 0) break;
    array = array[0];
    name += "[0]";
  }
  std::printf("\n%s\n", name.c_str());
  if (array.dim() < 2 || array.numel() == 0) return;
  if (array.dim() == 2) array = array.unsqueeze(0);
  if (!is_channels(array.size(0))) array = array.permute({2, 0, 1});
  if (array.size(0) == 4) array = array.slice(0, 0, 3);  // without the alpha channel
  array = array.to(at::kDouble).nan_to_num(0, 0, 0);
  array = (array - array.min()) / std::max((array.max() - array.min()).item<double>(), 1e-300);

  // A character is as wide as two are high: each stands for two pixels, one above the other.
  constexpr std::int64_t kMostColumns = 80;
  const std::int64_t step = (array.size(2) + kMostColumns - 1) / kMostColumns;
  array = array.slice(1, 0, INT64_MAX, step)
              .slice(2, 0, INT64_MAX, step)
              .expand({3, -1, -1})
              .contiguous();
  const auto pixels = array.accessor<double, 3>();
  const auto level = [&](std::int64_t channel, std::int64_t y, std::int64_t x) {
    return y < array.size(1) ? static_cast<int>(pixels[channel][y][x] * 255 + 0.5) : 0;
  };
  static const char* const shades[] = {" ", "\u2591", "\u2592", "\u2593", "\u2588"};
  for (std::int64_t y = 0; y < array.size(1); y += 2) {
    for (std::int64_t x = 0; x < array.size(2); ++x) {
      if (stdout_is_terminal()) {
        std::printf("\x1b[38;2;%d;%d;%dm\x1b[48;2;%d;%d;%dm\u2580", level(0, y, x), level(1, y, x),
                    level(2, y, x), level(0, y + 1, x), level(1, y + 1, x), level(2, y + 1, x));
      } else {
        const auto grey = [&](std::int64_t row) {
          return level(0, row, x) + level(1, row, x) + level(2, row, x);
        };
        const int rows = y + 1 < array.size(1) ? 2 : 1;
        std::printf("%s", shades[((grey(y) + grey(y + 1)) * 4 / (3 * rows) + 127) / 255]);
      }
    }
    std::printf(stdout_is_terminal() ? "\x1b[0m\n" : "\n");
  }
}
