// Several processes, the ranks, train one network. Each rank has a copy of the network, and uses
// its share of the digits of train_digits.cpp. After every batch the ranks average their gradients.
// So all make the same step, and the copies stay equal, bit for bit.
//
//   distributed_training [ranks] [folder with images.npy and labels.npy] [rank that is to crash]
//                          default: 2, examples/data, none
// If a rank crashes, its connections are closed, and the others end with an error.

#include <torch/torch.h>
#include <torch_npy.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "digit_network.hpp"
#include "meet.hpp"
#include "ranks.hpp"

constexpr int kEpochs = 20, kBatchSize = 32;  // of all ranks together
constexpr std::chrono::seconds kTimeout(20);  // for a rank that others wait for

void train(c10d::ProcessGroupGloo& group, const std::filesystem::path& folder, bool is_to_crash) {
  const int rank = group.getRank(), ranks = group.getSize();
  torch::set_num_threads(std::max<int>(1, std::thread::hardware_concurrency() / ranks));

  // Load and split, in the same way on every rank.
  torch::manual_seed(0);
  const auto as_float = torch_npy::LoadOptions().dtype(torch::kFloat32);
  const auto images = (torch_npy::load(folder / "images.npy", as_float) / 16).unsqueeze(1);
  const auto labels = torch_npy::load(folder / "labels.npy");
  const auto order = torch::randperm(images.size(0));
  const auto test_set = order.slice(0, 0, images.size(0) / 5);
  const auto train_set = order.slice(0, images.size(0) / 5);

  // Build. All start with the weights of rank 0. Then each rank has its own random numbers.
  auto network = make_network();
  const auto parameters = network->parameters();
  const auto flat = [&] { return torch::nn::utils::parameters_to_vector(parameters).detach(); };
  std::vector<torch::Tensor> weights{flat()};
  group.broadcast(weights)->wait();
  torch::nn::utils::vector_to_parameters(weights[0], parameters);
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(1e-3));
  torch::manual_seed(rank);

  // Train. By default all ranks get the same number of batches: no rank waits forever for another.
  const auto part = [&](const torch::Tensor& all) { return all.index_select(0, train_set); };
  const auto dataset = torch_npy::ArrayDataset(part(images), part(labels)).stacked();
  torch_npy::Loader loader(dataset, torch_npy::LoaderOptions()
                                        .batch_size(std::max(1, kBatchSize / ranks))
                                        .shuffle(true)
                                        .shard(ranks, rank));
  for (int epoch = 1; epoch <= kEpochs; ++epoch) {
    double loss_sum = 0;
    std::int64_t samples = 0;
    for (auto& batch : loader) {
      auto loss = torch::nn::functional::cross_entropy(network->forward(batch.data), batch.target);
      optimizer.zero_grad();
      loss.backward();
      std::vector<torch::Tensor> gradients;
      for (const auto& parameter : parameters) gradients.push_back(parameter.grad());
      group.allreduce_coalesced(gradients)->wait();
      for (auto& gradient : gradients) gradient /= ranks;
      optimizer.step();
      loss_sum += loss.item<double>() * static_cast<double>(batch.data.size(0));
      samples += batch.data.size(0);
      if (epoch == 2 && is_to_crash) std::abort();
    }
    const double loss = loss_sum / static_cast<double>(samples);
    if (rank == 0) std::printf("epoch %2d/%d  loss on rank 0 %.4f\n", epoch, kEpochs, loss);
    std::fflush(stdout);
  }

  // Compare, and test.
  weights = {flat()};
  std::vector<std::vector<torch::Tensor>> all{torch::empty({ranks, weights[0].numel()}).unbind()};
  group.allgather(all, weights)->wait();
  for (const auto& other : all[0]) TORCH_CHECK(other.equal(weights[0]), "the weights differ");
  if (rank != 0) return;
  std::printf("weights: the same on all %d ranks\n", ranks);
  network->eval();
  const torch::NoGradGuard no_grad;
  const auto predictions = network->forward(images.index_select(0, test_set)).argmax(1);
  const auto right = predictions.eq(labels.index_select(0, test_set)).sum().item<double>();
  std::printf("test accuracy: %.2f\n", right / static_cast<double>(test_set.size(0)));
}

int main(int argc, char** argv) {
  const int ranks = argc > 1 ? std::max(1, std::atoi(argv[1])) : 2;
  const std::filesystem::path folder = argc > 2 ? argv[2] : "examples/data";
  const int crashing_rank = argc > 3 ? std::atoi(argv[3]) : -1;
  return run_ranks(ranks, 2 * kTimeout, [&](int rank, const int(&port)[2]) {
    train(*meet(rank, ranks, port, kTimeout), folder, rank == crashing_rank);
  });
}
