// Several ranks that work until kill_ranks.py kills some of them: reads "RANKS WORKERS CHECKPOINT"
// from standard input, forks that many processes, which go on from the checkpoint, and writes their
// ids. Each rank writes its samples to CHECKPOINT/RANK.log: epoch, position in the epoch, index,
// and a hash of what the transforms made of the sample. After the last step each rank writes its
// weights to CHECKPOINT/RANK.weights.
//
//   rank_trainer FOLDER     where it makes the files of the data set; every tenth is damaged

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <torch/data.h>
#include <torch_npy.hpp>
#include <torch_npy/world.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>

using namespace torch_npy;

namespace {

constexpr std::uint64_t kEpochs = 20;
constexpr std::size_t kSamples = 211;  // the last batch of an epoch is a short one
constexpr std::size_t kBatch = 12;     // of 1, 2, 3 or 6 ranks together

void make_files(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (std::size_t i = 0; i < kSamples; ++i) {
    const auto path = folder / (std::to_string(1000 + i) + ".npy");
    save(path, at::full({6, 6}, static_cast<double>(i)));
    if (i % 10 == 7) std::filesystem::resize_file(path, 140);
  }
}

auto make_dataset(const std::filesystem::path& folder) {
  return FolderDataset(folder,
                       FolderOptions().expect({6, 6}, at::kFloat).on_bad_file(OnBadFile::Replace))
      .map([](torch::data::TensorExample& one, at::Generator& generator) {
        one.data = (one.data + at::rand(one.data.sizes(), generator)).unsqueeze(0);
      })
      .stacked()
      .map(transforms::RandomHorizontalFlip(0.5))
      .map(transforms::RandomCrop(5, 1));
}

std::uint64_t hash(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  return torch_npy::detail::hash_of({static_cast<const char*>(dense.data_ptr()), dense.nbytes()});
}

/// Writes the samples of a batch, of which the first has this position, and returns a number that
/// depends on them.
template <class B>
std::uint64_t write_samples(int log, const B& batch, std::uint64_t epoch, std::uint64_t position,
                            std::size_t ranks) {
  std::uint64_t sum = 0;
  std::string lines;
  for (std::size_t i = 0; i < batch.indices.size(); ++i, position += ranks) {
    if (position >= kSamples) break;  // it makes the ranks equal
    const std::uint64_t value = hash(batch.data[static_cast<std::int64_t>(i)]);
    sum += torch_npy::detail::mix({position, value});
    lines += std::to_string(epoch) + " " + std::to_string(position) + " " +
             std::to_string(batch.indices[i]) + " " + std::to_string(value) + "\n";
  }
  if (::write(log, lines.data(), lines.size()) != static_cast<ssize_t>(lines.size())) ::_exit(2);
  return sum;
}

/// The weights are a number that depends on all samples and on the order of the steps, and not on
/// how many ranks shared a step.
void train(std::size_t workers, const std::filesystem::path& data,
           const std::filesystem::path& checkpoint) {
  at::set_num_threads(1);
  World world = World::from_environment(
      WorldOptions().start_timeout(std::chrono::seconds(10)).timeout(std::chrono::seconds(20)));
  Loader loader(make_dataset(data), LoaderOptions()
                                        .batch_size(kBatch / world.size())
                                        .shuffle(true)
                                        .seed(7)
                                        .workers(workers)
                                        .shard(world.size(), world.rank()));
  at::Tensor weights = at::zeros({1}, at::kLong);
  std::optional<LoaderState> saved;
  if (std::filesystem::exists(checkpoint / "state.npz")) {
    const NpzFile file(checkpoint / "state.npz");
    weights = file.load("weights");
    saved = LoaderState::from_tensor(file.load("loader"));
  }
  world.restore(loader, saved);
  const std::string name = std::to_string(world.rank());
  const int log =
      ::open((checkpoint / (name + ".log")).c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  std::uint64_t step = 0;
  while (loader.epoch() < kEpochs) {
    const std::uint64_t epoch = loader.epoch();
    std::uint64_t position = loader.state().samples + world.rank();
    for (auto& batch : loader) {
      const std::uint64_t sum = write_samples(log, batch, epoch, position, world.size());
      position += batch.indices.size() * world.size();
      at::Tensor total = at::zeros({1}, at::kLong).fill_(static_cast<std::int64_t>(sum));
      world.allreduce(total);
      weights = weights * 31 + total;
      if (++step % 3 != 0 || world.rank() != 0) continue;
      save_npz(checkpoint / "state.npz",
               {{"weights", weights}, {"loader", loader.state().tensor()}});
    }
  }
  world.barrier();
  save(checkpoint / (name + ".weights"), weights);
}

pid_t start_rank(std::size_t rank, std::size_t ranks, std::size_t workers,
                 const std::filesystem::path& data, const std::string& checkpoint) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::setenv("RANK", std::to_string(rank).c_str(), 1);
  ::setenv("WORLD_SIZE", std::to_string(ranks).c_str(), 1);
  ::setenv("LOCAL_WORLD_SIZE", std::to_string(ranks).c_str(), 1);
  try {
    train(workers, data, checkpoint);
    ::_exit(0);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    ::_exit(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  ::signal(SIGCHLD, SIG_IGN);  // no zombies
  make_files(argv[1]);
  std::size_t ranks = 0, workers = 0;
  for (std::string checkpoint;
       std::cin >> ranks >> workers >> std::ws && std::getline(std::cin, checkpoint);) {
    std::filesystem::create_directories(checkpoint);
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      std::cout << start_rank(rank, ranks, workers, argv[1], checkpoint) << ' ';
    }
    std::cout << std::endl;
  }
}
