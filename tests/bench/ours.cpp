// torch_npy, called as its users call it.

#include <malloc.h>
#include <torch/cuda.h>
#include <torch/data.h>
#include <torch/utils.h>
#include <torch/version.h>
#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/length_order.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/npz_dataset.hpp>
#include <torch_npy/data/prefetch.hpp>
#include <torch_npy/data/stack.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/data/window_dataset.hpp>
#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/version.hpp>

#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <thread>

#include "worker.hpp"

namespace {

namespace data = torch::data;
using namespace torch_npy;
using bench::Answer;
using bench::has;
using bench::number;
using bench::seconds;
using bench::Words;

std::uint64_t total(const at::Tensor& tensor) {
  return bench::total(tensor.data_ptr(), tensor.nbytes());
}

Answer version(const Words&) { return {0, 0, "LibTorch " TORCH_VERSION}; }

/// load FILE COUNT [float64]
Answer load_file(const Words& words) {
  LoadOptions options;
  if (has(words, 3, "float64")) options.dtype(at::kDouble);
  const std::filesystem::path path = words.at(1);
  at::Tensor tensor;
  const double time = seconds(number(words.at(2)), [&] {
    tensor.reset();
    tensor = load(path, options);
  });
  return {time, total(tensor)};
}

/// map FILE COUNT: the mapping alone.
Answer map(const Words& words) {
  const std::filesystem::path path = words.at(1);
  const auto options = LoadOptions().mmap(true);
  at::Tensor tensor;
  const double time = seconds(number(words.at(2)), [&] {
    tensor.reset();
    tensor = load(path, options);
  });
  return {time, tensor.nbytes()};
}

/// read_map FILE: the mapping, and then every element.
Answer read_map(const Words& words) {
  at::Tensor tensor;
  std::uint64_t sum = 0;
  const double time = seconds(1, [&] {
    tensor = load(words.at(1), LoadOptions().mmap(true));
    sum = total(tensor);
  });
  return {time, sum};
}

/// npz FILE
Answer load_archive(const Words& words) {
  torch::OrderedDict<std::string, at::Tensor> arrays;
  const double time = seconds(1, [&] { arrays = load_npz(words.at(1)); });
  std::uint64_t sum = 0;
  for (const auto& array : arrays) sum += total(array.value());
  return {time, sum};
}

/// member FILE NAME
Answer load_member(const Words& words) {
  at::Tensor tensor;
  const double time = seconds(1, [&] { tensor = NpzFile(words.at(1)).load(words.at(2)); });
  return {time, total(tensor)};
}

/// save FROM TO
Answer save_file(const Words& words) {
  static std::map<std::string, at::Tensor> tensors;
  at::Tensor& tensor = tensors[words.at(1)];
  if (!tensor.defined()) tensor = load(words.at(1));
  bench::remove_file(words.at(2));
  const double time = seconds(1, [&] { save(words.at(2), tensor); });
  return {time, std::filesystem::file_size(words.at(2))};
}

/// append FROM TO COUNT: the rows of one file again and again, each a tensor.
Answer append(const Words& words) {
  const at::Tensor source = load(words.at(1));
  const std::vector<at::Tensor> rows = source.unbind();
  const std::size_t count = number(words.at(3));
  bench::remove_file(words.at(2));
  const double time = seconds(1, [&] {
    Appender appender(words.at(2), rows[0].sizes(), at::kFloat, SaveOptions().sync(false));
    for (std::size_t i = 0; i < count; ++i) appender.append(rows[i % rows.size()]);
    appender.close();
  });
  return {time, std::filesystem::file_size(words.at(2))};
}

/// list FOLDER; more: bytes that the dataset takes.
Answer list(const Words& words) {
  // Large blocks are mapped, and counted apart.
  const auto in_use = [] { return ::mallinfo2().uordblks + ::mallinfo2().hblkhd; };
  std::optional<FolderDataset> dataset;
  const std::size_t before = in_use();
  const double time = seconds(1, [&] { dataset.emplace(words.at(1)); });
  return {time, *dataset->size(), std::to_string(in_use() - before)};
}

template <class Loader>
Answer run_epoch(Loader& loader, bool sums) {
  std::uint64_t sum = 0;
  const double time = seconds(1, [&] {
    for (auto& batch : loader) {
      sum += sums ? total(batch.data) : static_cast<std::uint64_t>(batch.data.size(0));
    }
  });
  return {time, sum};
}

using Stacked = Batch<TensorExample>;

/// The shuffled loader of some file or folder, batch size and number of workers, made once.
template <class Dataset>
Loader<Stacked>& loader_of(const Words& words) {
  static std::map<Words, std::unique_ptr<Loader<Stacked>>> loaders;
  auto& loader = loaders[{words.at(1), words.at(2), words.at(3)}];
  if (loader == nullptr) {
    loader = std::make_unique<Loader<Stacked>>(
        Dataset(words.at(1)).stacked(),
        LoaderOptions().batch_size(number(words.at(2))).workers(number(words.at(3))).shuffle(true));
  }
  return *loader;
}

using LibTorchLoader =
    data::StatelessDataLoader<Dataset<TensorExample, Stacked>, data::samplers::RandomSampler>;

/// LibTorch's loader over the same dataset.
template <class Dataset>
LibTorchLoader& libtorch_loader_of(const Words& words) {
  static std::map<Words, std::unique_ptr<LibTorchLoader>> loaders;
  auto& loader = loaders[{words.at(1), words.at(2), words.at(3)}];
  if (loader == nullptr) {
    const auto options = data::DataLoaderOptions(number(words.at(2))).workers(number(words.at(3)));
    loader = data::make_data_loader(Dataset(words.at(1)).stacked(), options);
  }
  return *loader;
}

/// epoch FOLDER BATCH WORKERS [sum]
Answer epoch(const Words& words) {
  return run_epoch(loader_of<FolderDataset>(words), has(words, 4, "sum"));
}

/// libtorch_epoch FOLDER BATCH WORKERS [sum]
Answer libtorch_epoch(const Words& words) {
  return run_epoch(libtorch_loader_of<FolderDataset>(words), has(words, 4, "sum"));
}

/// rows FILE BATCH WORKERS [sum]
Answer rows(const Words& words) {
  return run_epoch(loader_of<ArrayDataset<TensorExample>>(words), has(words, 4, "sum"));
}

/// libtorch_rows FILE BATCH WORKERS [sum]
Answer libtorch_rows(const Words& words) {
  return run_epoch(libtorch_loader_of<ArrayDataset<TensorExample>>(words), has(words, 4, "sum"));
}

std::vector<std::filesystem::path> files_in(const std::string& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// The epoch of a loader that `make()` makes once for these words.
template <class B, class Make>
Answer epoch_of(const Words& words, std::size_t batch, std::size_t workers, bool sums,
                const Make& make) {
  static std::map<Words, std::unique_ptr<Loader<B>>> loaders;
  auto& loader = loaders[Words(words.begin(), words.end() - sums)];
  if (loader == nullptr) {
    loader = std::make_unique<Loader<B>>(
        make(), LoaderOptions().batch_size(batch).workers(workers).shuffle(true));
  }
  return run_epoch(*loader, sums);
}

/// archives FOLDER BATCH WORKERS [sum]: an image and a label from each archive.
Answer archives(const Words& words) {
  return epoch_of<Batch<>>(words, number(words.at(2)), number(words.at(3)), has(words, 4, "sum"),
                           [&] { return NpzDataset(words.at(1), "image", "label").stacked(); });
}

/// windows FOLDER LENGTH BATCH WORKERS [sum]: pairs of tokens and next tokens.
Answer windows(const Words& words) {
  const auto length = static_cast<std::int64_t>(number(words.at(2)));
  return epoch_of<Batch<>>(words, number(words.at(3)), number(words.at(4)), has(words, 5, "sum"),
                           [&] {
                             return WindowDataset(files_in(words.at(1)), length,
                                                  WindowOptions()
                                                      .stride(length)
                                                      .data_options(LoadOptions().dtype(at::kLong))
                                                      .target(1, length))
                                 .stacked();
                           });
}

/// patches FOLDER EDGE BATCH WORKERS mapped|read: a cube from a random position of each volume.
Answer patches(const Words& words) {
  const auto edge = static_cast<std::int64_t>(number(words.at(2)));
  return epoch_of<Stacked>(words, number(words.at(3)), number(words.at(4)), false, [&] {
    const auto how = LoadOptions().mmap(words.at(5) == "mapped");
    return FolderDataset(words.at(1), FolderOptions().data_options(how))
        .map(transforms::RandomCrop({edge, edge, edge}))
        .stacked();
  });
}

/// ragged FOLDER BATCH WORKERS [sum]: arrays of different length, padded.
Answer ragged(const Words& words) {
  return epoch_of<PaddedBatch<TensorExample>>(
      words, number(words.at(2)), number(words.at(3)), has(words, 4, "sum"),
      [&] { return FolderDataset(words.at(1)).map(transforms::PadStack()); });
}

/// padding FOLDER BATCH; more: the part of the elements of all batches that is padding, without and
/// with by_length().
Answer padding(const Words& words) {
  FolderDataset dataset(words.at(1));
  const auto lengths = dataset.lengths();
  const auto batch = number(words.at(2));
  const auto share = [&](LoaderOptions options) {
    Loader loader(dataset.map(transforms::PadStack()), std::move(options));
    std::int64_t used = 0, all = 0;
    for (auto& each : loader) {
      used += each.lengths.sum().template item<std::int64_t>();
      all += each.data.size(0) * each.data.size(1);
    }
    return 1 - static_cast<double>(used) / static_cast<double>(all);
  };
  return {0, 0,
          std::to_string(share(LoaderOptions().batch_size(batch).shuffle(true))) + " " +
              std::to_string(share(LoaderOptions().order(by_length(lengths, batch))))};
}

/// shards FOLDER BATCH WORKERS [sum]: the shuffled rows of all files of a folder as one array.
Answer shards(const Words& words) {
  return epoch_of<Stacked>(
      words, number(words.at(2)), number(words.at(3)), has(words, 4, "sum"),
      [&] { return ArrayDataset<TensorExample>(files_in(words.at(1))).stacked(); });
}

/// cached FOLDER BATCH WORKERS [sum]: files that the dataset keeps in memory.
Answer cached(const Words& words) {
  return epoch_of<Stacked>(words, number(words.at(2)), number(words.at(3)), has(words, 4, "sum"),
                           [&] { return FolderDataset(words.at(1)).cached(SIZE_MAX).stacked(); });
}

/// stacked_tensor FOLDER BATCH WORKERS [sum]: the same files as the rows of a tensor in memory.
Answer stacked_tensor(const Words& words) {
  return epoch_of<Stacked>(
      words, number(words.at(2)), number(words.at(3)), has(words, 4, "sum"), [&] {
        return ArrayDataset<TensorExample>(at::stack(load_all(files_in(words.at(1))))).stacked();
      });
}

/// tensors DATA TARGET BATCH WORKERS [sum]: the rows of two tensors in memory.
Answer tensors(const Words& words) {
  static std::map<Words, std::unique_ptr<Loader<Batch<>>>> loaders;
  auto& loader = loaders[words];
  if (loader == nullptr) {
    loader = std::make_unique<Loader<Batch<>>>(
        ArrayDataset(load(words.at(1)), load(words.at(2))).stacked(),
        LoaderOptions().batch_size(number(words.at(3))).workers(number(words.at(4))).shuffle(true));
  }
  return run_epoch(*loader, has(words, 5, "sum"));
}

/// first_batch FOLDER BATCH WORKERS: from the begin of an epoch to its first batch.
Answer first_batch(const Words& words) {
  auto& loader = loader_of<FolderDataset>(words);
  std::uint64_t count = 0;
  const double time =
      seconds(1, [&] { count += static_cast<std::uint64_t>(loader.begin()->data.size(0)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the workers read ahead meanwhile
  return {time, count};
}

/// read_batch FOLDER BATCH: a batch of as many files in random order, without a loader.
Answer read_batch(const Words& words) {
  static std::map<std::string, Dataset<TensorExample, Stacked>> datasets;
  static std::mt19937 random(0);
  const auto found = datasets.try_emplace(words.at(1), FolderDataset(words.at(1)).stacked()).first;
  auto& dataset = found->second;
  std::vector<std::size_t> indices(number(words.at(2)));
  for (std::size_t& index : indices) index = random() % *dataset.size();
  std::uint64_t count = 0;
  const double time = seconds(
      1, [&] { count += static_cast<std::uint64_t>(dataset.get_batch(indices).data.size(0)); });
  return {time, count};
}

/// slow_epoch FOLDER BATCH WORKERS AHEAD: a loop that is slower than its workers.
Answer slow_epoch(const Words& words) {
  Loader<Stacked> loader(FolderDataset(words.at(1)).stacked(), LoaderOptions()
                                                                   .batch_size(number(words.at(2)))
                                                                   .workers(number(words.at(3)))
                                                                   .ahead(number(words.at(4))));
  std::uint64_t sum = 0;
  for (auto& batch : loader) {
    sum += total(batch.data);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return {0, sum};
}

constexpr double kMean[] = {0.485, 0.456, 0.406}, kStd[] = {0.229, 0.224, 0.225};

/// The same ones in every process.
at::Tensor pictures(const Words& words) {
  static const at::Tensor kept = [&] {
    torch::manual_seed(0);
    return at::randn({static_cast<std::int64_t>(number(words.at(1))), 3, 224, 224});
  }();
  return kept.clone();
}

/// flip BATCH: RandomHorizontalFlip and Normalize on a batch. What is flipped has the same words.
Answer flip_batch(const Words& words) {
  transforms::RandomHorizontalFlip flip(0.5);
  transforms::Normalize normalize(kMean, kStd);
  Batch<TensorExample> batch(pictures(words));
  const double time =
      seconds(1, [&] { batch = normalize.apply_batch(flip.apply_batch(std::move(batch))); });
  return {time, total(batch.data)};
}

/// flip_samples BATCH: the same by LibTorch's transforms, sample by sample, and its Stack.
Answer flip_samples(const Words& words) {
  std::mt19937 random(0);
  data::transforms::TensorLambda<void> flip([&](const at::Tensor& picture) {
    return std::bernoulli_distribution(0.5)(random) ? picture.flip(-1) : picture;
  });
  data::transforms::Normalize<void> normalize(kMean, kStd);
  data::transforms::Stack<TensorExample> stack;
  std::vector<TensorExample> samples;
  for (const at::Tensor& picture : pictures(words).unbind()) samples.emplace_back(picture.clone());
  TensorExample batch;
  const double time = seconds(1, [&] {
    batch = stack.apply_batch(normalize.apply_batch(flip.apply_batch(std::move(samples))));
  });
  return {time, total(batch.data)};
}

/// device; more: "cuda" or "cpu".
Answer device(const Words&) { return {0, 0, default_device().is_cuda() ? "cuda" : "cpu"}; }

/// to_gpu FILE COUNT [pinned]: a file to the GPU, through pinned memory or plain.
Answer to_gpu(const Words& words) {
  const auto options = LoadOptions().pinned_memory(true).device(at::kCUDA);
  at::Tensor tensor;
  const double time = seconds(number(words.at(2)), [&] {
    tensor.reset();
    tensor = has(words, 3, "pinned") ? load(words.at(1), options) : load(words.at(1)).to(at::kCUDA);
    torch::cuda::synchronize();
  });
  return {time, total(tensor.cpu())};
}

/// epoch_on_gpu FOLDER BATCH WORKERS [prefetch]: batches to the GPU, and some work with each there.
Answer epoch_on_gpu(const Words& words) {
  auto& loader = libtorch_loader_of<FolderDataset>(words);
  std::uint64_t count = 0;
  const auto use = [&](const at::Tensor& batch) {
    at::Tensor result = batch;
    for (int i = 0; i < 20; ++i) result = result.sin();
    count += static_cast<std::uint64_t>(result.size(0));
  };
  const double time = seconds(1, [&] {
    if (has(words, 4, "prefetch")) {
      for (auto& batch : prefetch(loader, at::kCUDA)) use(batch.data);
    } else {
      for (auto& batch : loader) use(batch.data.to(at::kCUDA));
    }
    torch::cuda::synchronize();
  });
  return {time, count};
}

}  // namespace

int main() {
  return bench::serve({{"version", version},
                       {"peak", bench::peak},
                       {"load", load_file},
                       {"map", map},
                       {"read_map", read_map},
                       {"npz", load_archive},
                       {"member", load_member},
                       {"save", save_file},
                       {"append", append},
                       {"list", list},
                       {"epoch", epoch},
                       {"libtorch_epoch", libtorch_epoch},
                       {"rows", rows},
                       {"libtorch_rows", libtorch_rows},
                       {"archives", archives},
                       {"windows", windows},
                       {"patches", patches},
                       {"ragged", ragged},
                       {"padding", padding},
                       {"shards", shards},
                       {"cached", cached},
                       {"stacked_tensor", stacked_tensor},
                       {"tensors", tensors},
                       {"first_batch", first_batch},
                       {"read_batch", read_batch},
                       {"slow_epoch", slow_epoch},
                       {"flip", flip_batch},
                       {"flip_samples", flip_samples},
                       {"device", device},
                       {"to_gpu", to_gpu},
                       {"epoch_on_gpu", epoch_on_gpu}});
}
