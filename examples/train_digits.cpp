// From two .npy files to a trained network: 1,797 handwritten digits of 8x8 pixels, of which a
// fifth is held out, to see how well the network reads digits that it was not trained on.
//
//   train_digits [folder with images.npy and labels.npy]       default: examples/data
//
// The steps, in order: load, split, build, train, test, show. Every random choice is seeded.

#include <torch/torch.h>
#include <torch_npy.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "digit_network.hpp"
#include "digit_pictures.hpp"
#include "terminal.hpp"

namespace {

constexpr int kEpochs = 20;
constexpr std::int64_t kBatchSize = 32;
constexpr std::int64_t kShown = 6;

int run(const std::filesystem::path& folder) {
  torch::manual_seed(0);
  const torch::Device device = torch_npy::default_device();

  // Load. In the file a pixel is a byte from 0 to 16; the network wants floats from 0 to 1, and an
  // axis for the colour channel, of which there is one.
  const auto as_float = torch_npy::LoadOptions().dtype(torch::kFloat32);
  const auto images = (torch_npy::load(folder / "images.npy", as_float) / 16).unsqueeze(1);
  const auto labels = torch_npy::load(folder / "labels.npy");

  // Split. Shuffled first, so that what is held out comes from all over the file.
  const auto order = torch::randperm(images.size(0));
  const auto test_size = images.size(0) / 5;
  const auto train_size = images.size(0) - test_size;
  const auto part = [&](const torch::Tensor& all, std::int64_t from, std::int64_t size) {
    return torch_npy::to_device(all.index_select(0, order.narrow(0, from, size)), device);
  };
  const auto test_images = part(images, 0, test_size), test_labels = part(labels, 0, test_size);
  const auto train_images = part(images, test_size, train_size);
  const auto train_labels = part(labels, test_size, train_size);
  std::printf("%d images to train on, %d held out, device %s\n", static_cast<int>(train_size),
              static_cast<int>(test_size), device.str().c_str());

  // Build.
  auto network = make_network();
  network->to(device);
  torch::optim::Adam optimizer(network->parameters(), torch::optim::AdamOptions(1e-3));

  // Train.
  for (int epoch = 1; epoch <= kEpochs; ++epoch) {
    const auto shuffled = torch::randperm(train_size).to(device);
    ProgressLine line(epoch, kEpochs, train_size);
    for (std::int64_t seen = 0; seen < train_size; seen += kBatchSize) {
      const auto batch = shuffled.narrow(0, seen, std::min(kBatchSize, train_size - seen));
      const auto scores = network->forward(train_images.index_select(0, batch));
      auto loss = torch::nn::functional::cross_entropy(scores, train_labels.index_select(0, batch));
      optimizer.zero_grad();
      loss.backward();
      optimizer.step();
      line.add(batch.size(0), loss.item<double>());
    }
  }

  // Test.
  network->eval();
  const torch::NoGradGuard no_grad;
  const auto predictions = network->forward(test_images).argmax(1);
  const auto accuracy = predictions.eq(test_labels).to(torch::kFloat64).mean().item<double>();

  // Show.
  const auto shown = std::min(kShown, test_size);
  std::printf("\nThe first %d of the held-out images:\n\n", static_cast<int>(shown));
  show(test_images.narrow(0, 0, shown).squeeze(1).cpu(), predictions.cpu(), test_labels.cpu());
  std::printf("test accuracy: %.2f\n", accuracy);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc > 1 ? argv[1] : "examples/data");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
