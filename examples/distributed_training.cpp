// Several processes, the ranks, train one network. Each has a copy of the network, and uses its
// share of the digits of train_digits.cpp. After every batch they average their gradients. So all
// make the same step, and the copies stay equal, bit for bit. If a rank crashes, the others end.
//
//   torchrun --no-python --nproc-per-node=2 distributed_training [OPTION...]
//   mpirun -n 2 distributed_training [OPTION...]
//   distributed_training --nproc 2 [OPTION...]     starts the ranks itself; without --nproc, one

#include <torch/torch.h>
#include <torch_npy.hpp>
#include <torch_npy/world.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "checkpoint.hpp"
#include "digit_network.hpp"
#include "distributed_options.hpp"  // describes the options
#include "ranks.hpp"

constexpr int kEpochs = 20, kBatchSize = 32;  // of all ranks together

void train(torch_npy::World& world, const Options& options) {
  // Load and split, in the same way on every rank.
  torch::manual_seed(0);
  const auto as_float = torch_npy::LoadOptions().dtype(torch::kFloat32);
  const auto images = (torch_npy::load(options.data / "images.npy", as_float) / 16).unsqueeze(1);
  const auto labels = torch_npy::load(options.data / "labels.npy");
  const auto order = torch::randperm(images.size(0));
  const auto test_set = order.slice(0, 0, images.size(0) / 5);
  const auto train_set = order.slice(0, images.size(0) / 5);

  // Build. By default all ranks get the same number of batches: no rank waits forever for another.
  auto network = make_network();
  network->to(world.device());
  const auto parameters = network->parameters();
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(1e-3));
  const auto part = [&](const torch::Tensor& all) { return all.index_select(0, train_set); };
  const auto dataset = torch_npy::ArrayDataset(part(images), part(labels)).stacked();
  const auto batch_size = std::max<std::size_t>(1, kBatchSize / world.size());
  auto loading = torch_npy::LoaderOptions(batch_size).shuffle(true).device(world.device());
  torch_npy::Loader loader(dataset, loading.shard(world.size(), world.rank()));

  // Go on where the run was stopped, with the weights of rank 0 and random numbers of each rank.
  const bool goes_on =
      world.restore(loader, load_checkpoint(options.checkpoint, network, optimizer));
  world.broadcast(parameters);
  torch::manual_seed(world.rank());

  long batches = 0;
  while (loader.epoch() < kEpochs) {
    double loss_sum = 0;
    const auto epoch = loader.epoch(), count = loader.batches();
    for (auto& batch : loader) {
      auto loss = torch::nn::functional::cross_entropy(network->forward(batch.data), batch.target);
      optimizer.zero_grad();
      loss.backward();
      world.average_gradients(parameters);
      optimizer.step();
      loss_sum += loss.item<double>();
      options.log_samples(world.rank(), epoch, batch.indices);
      if (++batches % 20 == 0 && world.rank() == 0 && !options.checkpoint.empty()) {
        save_checkpoint(options.checkpoint, network, optimizer, loader.state());
      }
      if (epoch == 1 && !goes_on && options.crashes(world.rank())) std::abort();
    }
    if (world.rank() == 0)
      std::printf("epoch %2d/%d  loss on rank 0 %.4f\n", static_cast<int>(epoch) + 1, kEpochs,
                  loss_sum / static_cast<double>(count));
    std::fflush(stdout);
  }

  const auto weights = torch::nn::utils::parameters_to_vector(parameters).detach();
  for (const auto& other : world.allgather(weights)) TORCH_CHECK(other.equal(weights), "differ");
  if (world.rank() != 0) return;
  std::printf("weights: the same on all %zu ranks\n", world.size());
  network->to(torch::kCPU);
  network->eval();
  const torch::NoGradGuard no_grad;
  const auto predictions = network->forward(images.index_select(0, test_set)).argmax(1);
  const auto right = predictions.eq(labels.index_select(0, test_set)).to(torch::kDouble);
  std::printf("test accuracy: %.2f\n", right.mean().item<double>());
}

int main(int argc, char** argv) try {
  const Options options(argc, argv);
  return run_ranks(options.ranks, std::chrono::seconds(40), [&options] {
    auto world = torch_npy::World::from_environment(options.world);
    torch::set_num_threads(1);  // the network is small, and the ranks share the cores
    train(world, options);
  });
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
