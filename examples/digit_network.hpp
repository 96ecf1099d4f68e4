#pragma once

#include <torch/torch.h>

/// For pictures of shape (n, 1, 8, 8). Convolutions find strokes wherever they are; linear layers
/// turn strokes into a score a digit.
inline torch::nn::Sequential make_network() {
  using namespace torch::nn;
  return Sequential(Conv2d(Conv2dOptions(1, 16, 3).padding(1)), ReLU(),
                    Conv2d(Conv2dOptions(16, 32, 3).padding(1)), ReLU(), MaxPool2d(2), Flatten(),
                    Linear(32 * 4 * 4, 64), ReLU(), Dropout(0.3), Linear(64, 10));
}
