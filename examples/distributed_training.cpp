// One network trained by several processes at once, the ranks. Each has a copy of the network and
// sees its share of the digits of train_digits.cpp; after every batch they average their gradients,
// so all of them take the same step, and the copies stay the same to the last bit.
//
//   distributed_training [ranks] [folder with images.npy and labels.npy] [rank that is to crash]
//                          default: 2, examples/data, none
// When a rank crashes, its connections close, and the others end with an error.

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

constexpr int kEpochs = 20, kBatchSize = 32;  // a batch is of all ranks together
constexpr std::chrono::seconds kTimeout(20);  // for a rank that others wait for

void train(c10d::ProcessGroupGloo& group, const std::filesystem::path& folder, bool is_to_crash) {
  const int rank = group.getRank(), ranks = group.getSize();
  torch::set_num_threads(std::max<int>(1, std::thread::hardware_concurrency() / ranks));

  // Load and split, on every rank alike.
  torch::manual_seed(0);
  const auto as_float = torch_npy::LoadOptions().dtype(torch::kFloat32);
  const auto images = (torch_npy::load(folder / "images.npy", as_float) / 16).unsqueeze(1);
  const auto labels = torch_npy::load(folder / "labels.npy");
  const auto order = torch::randperm(images.size(0));
  const auto test_set = order.slice(0, 0, images.size(0) / 5);
  const auto train_set = order.slice(0, images.size(0) / 5);

  // Build. All start with the weights of rank 0; from then on each rank drops out on its own.
  auto network = make_network();
  const auto parameters = network->parameters();
  const auto flat = [&] { return torch::nn::utils::parameters_to_vector(parameters).detach(); };
  std::vector<torch::Tensor> weights{flat()};
  group.broadcast(weights)->wait();
  torch::nn::utils::vector_to_parameters(weights[0], parameters);
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(1e-3));
  torch::manual_seed(rank);

  // Train. With pad() all have as many batches: nobody waits for gradients that never come.
  torch_npy::DistributedSampler sampler(train_set.size(0), ranks, rank,
                                        torch_npy::DistributedSamplerOptions().pad(true));
  for (int epoch = 1; epoch <= kEpochs; ++epoch) {
    sampler.set_epoch(epoch);
    sampler.reset();
    double loss_sum = 0;
    while (const auto places = sampler.next(std::max(1, kBatchSize / ranks))) {
      const std::vector<std::int64_t> indices(places->begin(), places->end());
      const auto batch = train_set.index_select(0, torch::tensor(indices));
      const auto scores = network->forward(images.index_select(0, batch));
      auto loss = torch::nn::functional::cross_entropy(scores, labels.index_select(0, batch));
      optimizer.zero_grad();
      loss.backward();
      std::vector<torch::Tensor> gradients;
      for (const auto& parameter : parameters) gradients.push_back(parameter.grad());
      group.allreduce_coalesced(gradients)->wait();
      for (auto& gradient : gradients) gradient /= ranks;
      optimizer.step();
      loss_sum += loss.item<double>() * static_cast<double>(batch.size(0));
      if (epoch == 2 && is_to_crash) std::abort();
    }
    const double loss = loss_sum / static_cast<double>(sampler.samples());
    if (rank == 0) std::printf("epoch %2d/%d  loss on rank 0 %.4f\n", epoch, kEpochs, loss);
    std::fflush(stdout);
  }

  // Compare, and test.
  weights = {flat()};
  std::vector<std::vector<torch::Tensor>> all{torch::empty({ranks, weights[0].numel()}).unbind()};
  group.allgather(all, weights)->wait();
  for (const auto& other : all[0]) TORCH_CHECK(other.equal(weights[0]), "the weights have parted");
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
