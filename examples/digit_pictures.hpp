#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>

/// Draws images of shape (n, 8, 8), pixels in 0..1, with what was read and what is true below each.
inline void show(const at::Tensor& images, const at::Tensor& read, const at::Tensor& truth) {
  constexpr std::int64_t kInRow = 3;
  static const char* const shades[] = {"  ", "\u2591\u2591", "\u2592\u2592", "\u2593\u2593",
                                       "\u2588\u2588"};
  const auto pixels = images.accessor<float, 3>();
  for (std::int64_t first = 0; first < images.size(0); first += kInRow) {
    const auto end = std::min(first + kInRow, images.size(0));
    for (std::int64_t y = 0; y < images.size(1); ++y) {
      for (auto i = first; i < end; ++i) {
        for (std::int64_t x = 0; x < images.size(2); ++x) {
          std::printf("%s", shades[static_cast<int>(pixels[i][y][x] * 4 + 0.5F)]);
        }
        std::printf("%s", i + 1 < end ? "          " : "\n");
      }
    }
    for (auto i = first; i < end; ++i) {
      std::printf("prediction %d, truth %d%s", read[i].item<int>(), truth[i].item<int>(),
                  i + 1 < end ? "     " : "\n\n");
    }
  }
}
