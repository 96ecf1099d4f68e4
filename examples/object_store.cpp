// Digits in an object store, one object a digit, in a folder for each class: "train/7/0042.npy".
// The objects are read in the first epoch, many at the same time, and stay in memory for the
// others.
//
//   object_store URI          such as "s3://bucket/train?region=eu-central-1"

#include <torch/torch.h>
#include <torch_npy.hpp>
#include <torch_npy/arrow.hpp>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <string>

#include "digit_network.hpp"
#include "terminal.hpp"

namespace {

constexpr int kEpochs = 15;
constexpr std::int64_t kBatchSize = 32;

void run(const std::string& uri) {
  torch::manual_seed(0);
  const torch_npy::arrow::Store store(uri, torch_npy::StoreOptions().requests(16));
  const torch_npy::ClassFolderDataset digits(
      store,
      torch_npy::FolderOptions().data_options(torch_npy::LoadOptions().dtype(torch::kFloat32)));
  const auto parts =
      torch_npy::random_split(digits.cached(std::size_t{1} << 20), {0.8, 0.2}, /*seed=*/0);
  std::printf("%zu objects in %s\n", *digits.size(), store.uri().c_str());

  auto network = make_network();
  torch::optim::Adam optimizer(network->parameters(), torch::optim::AdamOptions(1e-3));
  torch_npy::Loader loader(
      parts[0].stacked(),
      torch_npy::LoaderOptions().batch_size(kBatchSize).shuffle(true).workers(2));
  const auto scores_of = [&](const auto& batch) {
    return network->forward((batch.data / 16).unsqueeze(1));
  };
  for (int epoch = 1; epoch <= kEpochs; ++epoch) {
    ProgressLine line(epoch, kEpochs, static_cast<std::int64_t>(*parts[0].size()));
    for (auto& batch : loader) {
      auto loss = torch::nn::functional::cross_entropy(scores_of(batch), batch.target);
      optimizer.zero_grad();
      loss.backward();
      optimizer.step();
      line.add(batch.data.size(0), loss.item<double>());
    }
  }

  network->eval();
  const torch::NoGradGuard no_grad;
  double right = 0;
  torch_npy::Loader test(parts[1].stacked(), torch_npy::LoaderOptions().batch_size(64));
  for (auto& batch : test)
    right += scores_of(batch).argmax(1).eq(batch.target).sum().template item<double>();
  std::printf("test accuracy: %.2f\n", right / static_cast<double>(*parts[1].size()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: object_store URI\n"), 2;
  try {
    run(argv[1]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
