// Trains until kill_training.py kills the process: reads "WORKERS CHECKPOINT" from standard input,
// forks a process that goes on from the checkpoint, and writes the id of the process. Each step is
// written to CHECKPOINT.log, and the weights after the last one to CHECKPOINT.weights.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <torch/data.h>
#include <torch_npy.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>

using namespace torch_npy;

namespace {

constexpr std::uint64_t kEpochs = 40;

std::uint64_t hash(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  return torch_npy::detail::hash_of({static_cast<const char*>(dense.data_ptr()), dense.nbytes()});
}

/// 211 samples: the last batch of an epoch is a short one.
auto make_dataset() {
  const at::Tensor images = (at::arange(211 * 36) % 97).view({211, 6, 6, 1}).to(at::kByte);
  return ArrayDataset(images, at::arange(211) % 3)
      .stacked()
      .map(transforms::ToTensor())
      .map(transforms::RandomHorizontalFlip(0.5))
      .map(transforms::RandomCrop(5, 1))
      .map([](Batch<>& batch, at::Generator& generator) {
        batch.data = batch.data + at::rand(batch.data.sizes(), generator) / 8;
      });
}

/// Logistic regression by gradient descent with momentum, and a checkpoint after every third step.
[[noreturn]] void train(std::size_t workers, const std::string& checkpoint) {
  at::set_num_threads(1);
  at::Tensor weights = at::zeros({25, 3}), momentum = at::zeros({25, 3});
  std::int64_t step = 0;
  Loader loader(make_dataset(),
                LoaderOptions().batch_size(16).shuffle(true).seed(7).workers(workers));
  if (std::filesystem::exists(checkpoint)) {
    const NpzFile saved(checkpoint);
    weights = saved.load("weights");
    momentum = saved.load("momentum");
    step = saved.load("step").item<std::int64_t>();
    loader.restore(LoaderState::from_tensor(saved.load("loader")));
  }
  const int log = ::open((checkpoint + ".log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  while (loader.epoch() < kEpochs) {
    for (auto& batch : loader) {
      const at::Tensor data = batch.data.flatten(1);
      const at::Tensor wanted =
          at::zeros({data.size(0), 3}).scatter_(1, batch.target.unsqueeze(1), 1);
      momentum = momentum * 0.9 + data.t().mm(data.mm(weights).softmax(1) - wanted);
      weights = weights - 0.01 * momentum;
      ++step;
      const std::string line =
          std::to_string(step) + " " + std::to_string(loader.epoch()) + " " +
          std::to_string(hash(batch.data)) + " " + std::to_string(hash(batch.target)) + " " +
          std::to_string(batch.indices[0]) + " " + std::to_string(hash(weights)) + "\n";
      if (::write(log, line.data(), line.size()) != static_cast<ssize_t>(line.size())) ::_exit(2);
      if (step % 3 != 0) continue;
      save_npz(checkpoint, {{"weights", weights},
                            {"momentum", momentum},
                            {"step", at::zeros({}, at::kLong).fill_(step)},
                            {"loader", loader.state().tensor()}});
    }
  }
  save(checkpoint + ".weights", weights);
  ::_exit(0);
}

}  // namespace

int main() {
  ::signal(SIGCHLD, SIG_IGN);  // no zombies
  std::size_t workers = 0;
  for (std::string checkpoint;
       std::cin >> workers >> std::ws && std::getline(std::cin, checkpoint);) {
    const pid_t child = ::fork();
    if (child == 0) {
      try {
        train(workers, checkpoint);
      } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        ::_exit(1);
      }
    }
    std::cout << child << std::endl;
  }
}
