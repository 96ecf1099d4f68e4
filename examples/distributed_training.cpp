// One network trained by several processes at once, the ranks. Each has a copy of the network and
// sees its share of the digits of train_digits.cpp; after every batch they average their gradients,
// so all of them take the same step, and the copies stay the same to the last bit.
//
//   distributed_training [ranks] [folder with images.npy and labels.npy] [rank that is to crash]
//
// Without arguments: 2 ranks, examples/data, and none crashes. When one does, its connections
// close, and the others end with an error.
//
// Here the ranks are forked, and talk over this machine's loopback address. On several machines
// each is told its rank, how many there are, and where rank 0 listens; the rest stays.

#include <sys/wait.h>
#include <torch/torch.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <torch_npy.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kEpochs = 20;
constexpr std::size_t kBatchSize = 32;        // of all ranks together
constexpr std::chrono::seconds kTimeout(20);  // for a rank that others wait for
constexpr char kLoopback[] = "127.0.0.1";

struct Arguments {
  int ranks = 2;
  std::filesystem::path folder = "examples/data";
  int crashing_rank = -1;
};

/// Where the ranks leave each other their addresses. Rank 0 runs it, on a port that the system
/// chooses; the pipe `port` takes its number to the other ranks.
c10::intrusive_ptr<c10d::Store> make_store(int rank, int ranks, const int (&port)[2]) {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = rank == 0;
  options.waitWorkers = false;
  options.timeout = kTimeout;
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
  options.useLibUV = false;  // the default where it came in, and missing in some builds
#endif
  if (rank != 0) {
    close(port[1]);  // the pipe then ends when rank 0 does
    if (read(port[0], &options.port, sizeof options.port) != sizeof options.port) {
      throw std::runtime_error("rank 0 ended before it told its port");
    }
  }
  auto store = c10::make_intrusive<c10d::TCPStore>(kLoopback, options);
  const std::uint16_t chosen = store->getPort();
  for (int other = 1; rank == 0 && other < ranks; ++other) {
    if (write(port[1], &chosen, sizeof chosen) != sizeof chosen) {
      throw std::runtime_error("cannot tell the other ranks the port");
    }
  }
  return store;
}

torch::nn::Sequential make_network() {
  using namespace torch::nn;
  return Sequential(Conv2d(Conv2dOptions(1, 16, 3).padding(1)), ReLU(),
                    Conv2d(Conv2dOptions(16, 32, 3).padding(1)), ReLU(), MaxPool2d(2), Flatten(),
                    Linear(32 * 4 * 4, 64), ReLU(), Dropout(0.3), Linear(64, 10));
}

void run(int rank, const Arguments& arguments, const int (&port)[2]) {
  const int ranks = arguments.ranks;
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  torch::set_num_threads(std::max(1, cores / ranks));

  // Meet.
  const auto options = c10d::ProcessGroupGloo::Options::create(kTimeout);
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(kLoopback));
  c10d::ProcessGroupGloo group(make_store(rank, ranks, port), rank, ranks, options);

  // Load and split, on every rank alike.
  torch::manual_seed(0);
  const auto as_float = torch_npy::LoadOptions().dtype(torch::kFloat32);
  const auto images =
      (torch_npy::load(arguments.folder / "images.npy", as_float) / 16).unsqueeze(1);
  const auto labels = torch_npy::load(arguments.folder / "labels.npy");
  const auto order = torch::randperm(images.size(0));
  const auto test_set = order.narrow(0, 0, images.size(0) / 5);
  const auto train_set = order.narrow(0, test_set.size(0), images.size(0) - test_set.size(0));

  // Build. All start with the weights of rank 0; from then on each rank drops out on its own.
  auto network = make_network();
  const auto parameters = network->parameters();
  std::vector<torch::Tensor> weights{torch::nn::utils::parameters_to_vector(parameters).detach()};
  group.broadcast(weights)->wait();
  torch::nn::utils::vector_to_parameters(weights[0], parameters);
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(1e-3));
  torch::manual_seed(static_cast<std::uint64_t>(rank));

  // Train. With pad() all have as many batches: nobody waits for gradients that never come.
  torch_npy::DistributedSampler sampler(
      static_cast<std::size_t>(train_set.size(0)), static_cast<std::size_t>(rank),
      static_cast<std::size_t>(ranks), torch_npy::DistributedSamplerOptions().pad(true));
  const auto batch_size = std::max<std::size_t>(1, kBatchSize / static_cast<std::size_t>(ranks));
  for (int epoch = 1; epoch <= kEpochs; ++epoch) {
    sampler.set_epoch(static_cast<std::uint64_t>(epoch));
    sampler.reset();
    double loss_sum = 0;
    while (const auto places = sampler.next(batch_size)) {
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
      if (epoch == 2 && rank == arguments.crashing_rank) std::abort();
    }
    if (rank == 0) {
      std::printf("epoch %2d/%d  loss on rank 0 %.4f\n", epoch, kEpochs,
                  loss_sum / static_cast<double>(sampler.samples()));
      std::fflush(stdout);
    }
  }

  // Compare.
  weights = {torch::nn::utils::parameters_to_vector(parameters).detach()};
  std::vector<std::vector<torch::Tensor>> all(1);
  for (int i = 0; i < ranks; ++i) all[0].push_back(torch::empty_like(weights[0]));
  group.allgather(all, weights)->wait();
  for (const auto& other : all[0]) {
    if (!torch::equal(other, weights[0])) throw std::runtime_error("the weights have parted");
  }
  if (rank != 0) return;
  std::printf("weights: the same on all %d ranks\n", ranks);

  // Test.
  network->eval();
  const torch::NoGradGuard no_grad;
  const auto predictions = network->forward(images.index_select(0, test_set)).argmax(1);
  const auto right = predictions.eq(labels.index_select(0, test_set)).to(torch::kFloat64);
  std::printf("test accuracy: %.2f\n", right.mean().item<double>());
}

/// Waits for all ranks and tells which of them failed, and how. Once one has, the others notice and
/// end by themselves; what has not done so in twice the time that takes is killed.
bool all_succeed(std::map<pid_t, int> running) {
  using Clock = std::chrono::steady_clock;
  auto deadline = Clock::time_point::max();
  while (!running.empty()) {
    int status = 0;
    const pid_t ended = waitpid(-1, &status, WNOHANG);
    if (ended <= 0) {
      if (Clock::now() > deadline) {
        for (const auto& [process, rank] : running) kill(process, SIGKILL);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      continue;
    }
    const int rank = running.at(ended);
    running.erase(ended);
    if (status == 0) continue;
    deadline = std::min(deadline, Clock::now() + 2 * kTimeout);
    if (WIFSIGNALED(status)) {
      std::fprintf(stderr, "rank %d died: %s\n", rank, strsignal(WTERMSIG(status)));
    } else {
      std::fprintf(stderr, "rank %d ended with exit code %d\n", rank, WEXITSTATUS(status));
    }
  }
  return deadline == Clock::time_point::max();
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (argc > 1) arguments.ranks = std::max(1, std::atoi(argv[1]));
  if (argc > 2) arguments.folder = argv[2];
  if (argc > 3) arguments.crashing_rank = std::atoi(argv[3]);

  // The forks come before LibTorch has done anything: they do not take its threads along.
  int port[2];
  if (pipe(port) != 0) return std::perror("pipe"), 1;
  std::map<pid_t, int> processes;
  for (int rank = 0; rank < arguments.ranks; ++rank) {
    const pid_t process = fork();
    if (process < 0) return std::perror("fork"), 1;
    if (process != 0) {
      processes[process] = rank;
      continue;
    }
    try {
      run(rank, arguments, port);
      return 0;
    } catch (const c10::Error& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what_without_backtrace());
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
    }
    return 1;
  }
  close(port[1]);
  return all_succeed(processes) ? 0 : 1;
}
