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
  double minimum = std::numeric_limits<double>::infinity();
  double mean = 0;
  double maximum = -std::numeric_limits<double>::infinity();
  std::int64_t nans = 0;
  std::string histogram;  ///< of the finite values, from the least to the greatest

  /// Of real numbers; a mebi of values at a time becomes float64.
  explicit Statistics(const at::Tensor& array) {
    constexpr std::int64_t kChunk = 1 << 20;
    const at::Tensor values = array.reshape({-1});
    const auto chunks = values.split(kChunk);
    double sum = 0;
    double least = minimum;
    double greatest = maximum;
    for (const at::Tensor& chunk : chunks) {
      const at::Tensor all = chunk.to(at::kDouble);
      const at::Tensor numbers = all.masked_select(all.isnan().logical_not());
      nans += all.numel() - numbers.numel();
      if (numbers.numel() == 0) continue;
      sum += numbers.sum().item<double>();
      minimum = std::min(minimum, numbers.min().item<double>());
      maximum = std::max(maximum, numbers.max().item<double>());
      const at::Tensor finite = numbers.masked_select(numbers.isfinite());
      if (finite.numel() == 0) continue;
      least = std::min(least, finite.min().item<double>());
      greatest = std::max(greatest, finite.max().item<double>());
    }
    mean = sum / static_cast<double>(values.numel() - nans);
    if (least > greatest) return;
    constexpr std::int64_t kBins = 16;
    at::Tensor counts = at::zeros({kBins}, at::kDouble);
    for (const at::Tensor& chunk : chunks) {
      const at::Tensor all = chunk.to(at::kDouble);
      const at::Tensor finite = all.masked_select(all.isfinite());
      counts += finite.histc(kBins, least, greatest);
    }
    static const char* const bars[] = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
                                       "\u2585", "\u2586", "\u2587", "\u2588"};
    const double most = counts.max().item<double>();
    for (std::int64_t bin = 0; bin < kBins; ++bin) {
      histogram += bars[static_cast<int>(std::ceil(counts[bin].item<double>() / most * 8))];
    }
  }
};

/// Draws a picture of shape (height, width), (height, width, channels) or (channels, height, width)
/// with 1, 3 or 4 channels; of an array with more axes the first one. Its least value is black, its
/// greatest white. In colours in a terminal that shows them, else in shades.
inline void draw(at::Tensor array) {
  const auto is_channels = [](std::int64_t n) { return n == 1 || n == 3 || n == 4; };
  while (array.dim() > 3 ||
         (array.dim() == 3 && !is_channels(array.size(0)) && !is_channels(array.size(2)))) {
    if (array.size(0) == 0) return;
    array = array[0];
  }
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
