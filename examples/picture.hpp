#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>

#include "terminal.hpp"

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
