// From a folder of .npy files to a training loop: 70,000 images of clothes, stored in any of three
// layouts that people use. A Loader shuffles and augments them, reads batches in advance with two
// workers, and moves them to the GPU if there is one. examples/fashion_mnist.py makes the folder.
//
//   train_fashion_mnist arrays|paired|classes [folder] [epochs]     default: fashion-mnist 4

#include <torch/torch.h>
#include <torch_npy.hpp>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>

#include "terminal.hpp"

using namespace torch_npy::transforms;

torch::nn::Sequential make_network() {
  using namespace torch::nn;
  return Sequential(Conv2d(Conv2dOptions(1, 16, 3).padding(1)), ReLU(), MaxPool2d(2),
                    Conv2d(Conv2dOptions(16, 32, 3).padding(1)), ReLU(), MaxPool2d(2), Flatten(),
                    Linear(32 * 7 * 7, 64), ReLU(), Linear(64, 10));
}

/// Trains on `train_set` and returns the accuracy on `test_set`: two datasets of images (28 x 28
/// bytes) and class numbers.
double train(const torch_npy::Dataset<>& train_set, const torch_npy::Dataset<>& test_set,
             int epochs) {
  const torch::Device device = torch_npy::default_device();
  torch_npy::Loader loader(
      train_set.stacked().map(ToTensor()).map(RandomHorizontalFlip(0.5)),
      torch_npy::LoaderOptions().batch_size(64).shuffle(true).seed(1).workers(2).device(device));
  torch_npy::Loader test_loader(
      test_set.stacked().map(ToTensor()),
      torch_npy::LoaderOptions().batch_size(500).workers(1).device(device));

  auto network = make_network();
  network->to(device);
  torch::optim::Adam optimizer(network->parameters(), torch::optim::AdamOptions(2e-3));
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    ProgressLine line(epoch, epochs, static_cast<std::int64_t>(*train_set.size()));
    for (auto& batch : loader) {
      auto loss = torch::nn::functional::cross_entropy(network->forward(batch.data), batch.target);
      optimizer.zero_grad();
      loss.backward();
      optimizer.step();
      line.add(batch.data.size(0), loss.item<double>());
    }
  }

  network->eval();
  const torch::NoGradGuard no_grad;
  double right = 0;
  for (auto& batch : test_loader) {
    const auto predicted = network->forward(batch.data).argmax(1);
    right += predicted.eq(batch.target).sum().item<double>();
  }
  return right / static_cast<double>(*test_set.size());
}

double run(const std::string& layout, const std::filesystem::path& folder, int epochs) {
  const auto as_class = torch_npy::LoadOptions().dtype(torch::kInt64);  // in the files it is a byte
  const auto arrays = [&](const std::string& part) {
    const std::string set = (folder / "arrays" / part).string();
    return torch_npy::ArrayDataset(set + "_images.npy", set + "_labels.npy", {}, as_class);
  };
  const auto paired = [&](const std::string& part) {
    const auto set = folder / "paired" / part;
    const auto options = torch_npy::FolderOptions().target_options(as_class);
    return torch_npy::PairedFolderDataset(set / "images", set / "labels", options);
  };
  const auto classes = [&](const std::string& part) {
    return torch_npy::ClassFolderDataset(folder / "classes" / part);
  };
  if (layout == "arrays") return train(arrays("train"), arrays("test"), epochs);
  if (layout == "paired") return train(paired("train"), paired("test"), epochs);
  return train(classes("train"), classes("test"), epochs);
}

int main(int argc, char** argv) {
  const std::string layout = argc > 1 ? argv[1] : "";
  if (layout != "arrays" && layout != "paired" && layout != "classes") {
    std::fprintf(stderr, "usage: %s arrays|paired|classes [folder] [epochs]\n", argv[0]);
    return 2;
  }
  try {
    torch::manual_seed(0);
    const double accuracy =
        run(layout, argc > 2 ? argv[2] : "fashion-mnist", argc > 3 ? std::stoi(argv[3]) : 4);
    std::printf("test accuracy: %.3f\n", accuracy);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
