// A training run that can be stopped at any moment. Ctrl-C stops it after the current batch; a
// crash costs at most 20 batches. The same command continues it, and writes the same weights.npz.
//
//   resume_training [folder with images.npy and labels.npy] [checkpoint] [stop after batches]

#include <torch/torch.h>
#include <torch_npy.hpp>

#include <csignal>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "digit_network.hpp"

constexpr int kEpochs = 10;
volatile std::sig_atomic_t is_stopping = 0;

torch::Tensor bytes_of(const torch::optim::Optimizer& optimizer) {
  std::ostringstream out;
  torch::save(optimizer, out);
  const std::string bytes = out.str();
  return torch::tensor(std::vector<std::uint8_t>(bytes.begin(), bytes.end()));
}

struct Run {
  torch::nn::Sequential network = make_network();
  torch::optim::Adam optimizer{network->parameters(), torch::optim::AdamOptions(1e-3)};
  torch_npy::Loader<torch_npy::Batch<>> loader;
  torch::Generator random = at::detail::getDefaultCPUGenerator();  // of the network's dropout

  explicit Run(const torch_npy::Dataset<>& dataset)
      : loader(dataset.stacked(),
               torch_npy::LoaderOptions().batch_size(32).shuffle(true).seed(1).workers(1)) {}

  void save(const std::filesystem::path& path) const {
    auto arrays = network->named_parameters();
    arrays.update(network->named_buffers());  // BatchNorm has some
    arrays.insert("optimizer", bytes_of(optimizer));
    arrays.insert("random", random.get_state());
    arrays.insert("loader", loader.state().tensor());
    torch_npy::save_npz(path, arrays);  // replaces the old file when the new one is complete
  }

  void load(const std::filesystem::path& path) {
    const torch::NoGradGuard no_grad;
    const torch_npy::NpzFile file(path);
    for (auto& item : network->named_parameters()) item.value().copy_(file.load(item.key()));
    for (auto& item : network->named_buffers()) item.value().copy_(file.load(item.key()));
    const auto bytes = file.load("optimizer");
    torch::load(optimizer, static_cast<const char*>(bytes.data_ptr()), bytes.nbytes());
    random.set_state(file.load("random"));
    loader.restore(torch_npy::LoaderState::from_tensor(file.load("loader")));
  }
};

/// Returns false if it was stopped before the end.
bool train(Run& run, const std::filesystem::path& checkpoint, long stop_after) {
  long batches = 0;
  float last_loss = 0;
  while (run.loader.epoch() < kEpochs) {
    for (auto& batch : run.loader) {
      const auto scores = run.network->forward(batch.data);
      auto loss = torch::nn::functional::cross_entropy(scores, batch.target);
      run.optimizer.zero_grad();
      loss.backward();
      run.optimizer.step();
      last_loss = loss.item<float>();
      if (++batches == stop_after) std::raise(SIGINT);
      if (is_stopping || batches % 20 == 0) run.save(checkpoint);
      if (is_stopping) return false;
    }
    std::cout << run.loader.epoch() << " epochs, loss of the last batch " << last_loss << std::endl;
  }
  return true;
}

int main(int argc, char** argv) {
  const std::filesystem::path folder = argc > 1 ? argv[1] : "examples/data";
  const std::filesystem::path checkpoint = argc > 2 ? argv[2] : "checkpoint.npz";
  const long stop_after = argc > 3 ? std::stol(argv[3]) : 0;
  std::signal(SIGINT, [](int) { is_stopping = 1; });
  try {
    torch::manual_seed(0);
    const auto as_float = torch_npy::LoadOptions().dtype(torch::kFloat32);
    const auto images = (torch_npy::load(folder / "images.npy", as_float) / 16).unsqueeze(1);
    Run run(torch_npy::ArrayDataset(images, torch_npy::load(folder / "labels.npy")));
    if (std::filesystem::exists(checkpoint)) run.load(checkpoint);
    if (!train(run, checkpoint, stop_after)) return std::cerr << "stopped\n", 1;
    torch_npy::save_parameters(checkpoint.parent_path() / "weights.npz", run.network);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
