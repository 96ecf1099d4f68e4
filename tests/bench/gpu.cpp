// torch_npy and LibTorch on a device, called as their users call them: a contender, see worker.hpp.
// The device is a GPU, or "cpu" on a machine without one, which only shows that the program works.

#include <torch/cuda.h>
#include <torch/data.h>
#include <torch/version.h>
#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/prefetch.hpp>
#include <torch_npy/tensor/load.hpp>

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker.hpp"

namespace {

using namespace torch_npy;
using bench::Answer;
using bench::number;
using bench::seconds;
using bench::Words;
using Stacked = Batch<TensorExample>;
using StackedDataset = Dataset<TensorExample, Stacked>;

const c10::Device kDevice = default_device();

void wait_for_device() {
  if (kDevice.is_cuda()) torch::cuda::synchronize();
}

Answer version(const Words&) { return {0, 0, "LibTorch " TORCH_VERSION}; }

Answer device(const Words&) { return {0, 0, kDevice.str()}; }

/// copy FILE COUNT HOW: seconds of one copy of the array to the device. HOW: "limit" from pinned
/// memory into an existing tensor; "pageable" or "pinned" by to_device(); "load" or "load pinned"
/// from the file to the device.
Answer copy(const Words& words) {
  const std::string how = words.at(3);
  const bool pins = how != "pageable" && how != "load";
  const LoadOptions options = LoadOptions().pinned_memory(pins);
  const at::Tensor source = load(words.at(1), options);
  at::Tensor there = at::empty(source.sizes(), source.options().device(kDevice));
  const double time = seconds(number(words.at(2)), [&] {
    if (how == "limit") {
      there.copy_(source, /*non_blocking=*/true);
    } else {
      there.reset();
      there = how == "load" || how == "load pinned"
                  ? load(words.at(1), LoadOptions(options).device(kDevice))
                  : to_device(source, kDevice, true);
    }
    wait_for_device();
  });
  const at::Tensor back = there.to(at::kCPU);
  return {time, bench::total(back.data_ptr(), back.nbytes())};
}

/// The work of the device for one batch: a product with the data of the batch, and products of
/// matrices of a fixed size.
class Network {
 public:
  Network(std::int64_t features, std::int64_t size, std::size_t products)
      : first_(random(features, size)),
        other_(random(size, size)),
        state_(random(size, size)),
        loss_(at::zeros({}, at::TensorOptions(kDevice))),
        products_(products) {}

  void use(const at::Tensor& data) {
    loss_ += at::mm(data.flatten(1), first_).mean();
    for (std::size_t i = 0; i < products_; ++i) state_ = at::mm(state_, other_);
  }

 private:
  /// Products with such a matrix stay of about the same size.
  static at::Tensor random(std::int64_t rows, std::int64_t columns) {
    return at::randn({rows, columns}, at::TensorOptions(kDevice)) /
           std::sqrt(static_cast<double>(rows));
  }

  at::Tensor first_, other_, state_, loss_;
  std::size_t products_;
};

/// product SIZE COUNT: seconds of one product of two square matrices.
Answer product(const Words& words) {
  const auto size = static_cast<std::int64_t>(number(words.at(1)));
  Network network(1, size, number(words.at(2)));
  const at::Tensor nothing = at::zeros({1, 1}, at::TensorOptions(kDevice));
  network.use(nothing);
  wait_for_device();
  const double time = seconds(1, [&] {
    network.use(nothing);
    wait_for_device();
  });
  return {time / static_cast<double>(number(words.at(2))), 0};
}

/// The batches of one data set in the ways that are compared. Made once.
struct Batches {
  std::unique_ptr<Loader<Stacked>> loader;
  std::unique_ptr<
      torch::data::StatelessDataLoader<StackedDataset, torch::data::samplers::RandomSampler>>
      libtorch;
  std::vector<at::Tensor> resident;
  std::optional<Network> network;
};

StackedDataset dataset_of(const std::string& kind, const std::string& path, bool pinned) {
  const auto options = LoadOptions().pinned_memory(pinned);
  if (kind == "rows")
    return ArrayDataset<TensorExample>(std::filesystem::path(path), options).stacked();
  return FolderDataset(path, FolderOptions().data_options(options)).stacked();
}

/// train KIND PATH BATCH WORKERS HOW EPOCHS SIZE PRODUCTS [sum]: seconds of the epochs of a
/// training loop. KIND: "files" or "rows". HOW: "loader" is Loader with device(), "prefetch" is
/// prefetch() of LibTorch's loader, and "resident" has all batches on the device before it begins.
Answer train(const Words& words) {
  // Never destroyed: when static objects are, CUDA may be gone.
  static auto& all = *new std::map<Words, Batches>();
  const std::string how = words.at(5);
  Batches& batches = all[Words(words.begin(), words.begin() + 9)];
  if (!batches.network) {
    const std::size_t batch = number(words.at(3)), workers = number(words.at(4));
    const auto dataset = dataset_of(words.at(1), words.at(2), how == "prefetch");
    if (how == "prefetch") {
      batches.libtorch = torch::data::make_data_loader(
          dataset, torch::data::DataLoaderOptions(batch).workers(workers));
    } else {
      batches.loader = std::make_unique<Loader<Stacked>>(
          dataset,
          LoaderOptions().batch_size(batch).workers(workers).shuffle(true).device(kDevice));
    }
    if (how == "resident") {
      for (auto& each : *batches.loader) batches.resident.push_back(each.data);
      batches.loader.reset();
    }
    const auto features = dataset.get_batch(std::vector<std::size_t>{0}).data.flatten(1).size(1);
    batches.network.emplace(features, static_cast<std::int64_t>(number(words.at(7))),
                            number(words.at(8)));
  }

  const bool sums = bench::has(words, 9, "sum");
  std::uint64_t check = 0;
  const auto use = [&](const at::Tensor& data) {
    batches.network->use(data);
    if (sums) {
      const at::Tensor back = data.to(at::kCPU);
      check += bench::total(back.data_ptr(), back.nbytes());
    } else {
      check += static_cast<std::uint64_t>(data.size(0));
    }
  };
  const double time = seconds(1, [&] {
    for (std::size_t epoch = 0; epoch < number(words.at(6)); ++epoch) {
      if (how == "loader") {
        for (auto& batch : *batches.loader) use(batch.data);
      } else if (how == "prefetch") {
        for (auto& batch : prefetch(*batches.libtorch, kDevice)) use(batch.data);
      } else {
        for (const at::Tensor& data : batches.resident) use(data);
      }
    }
    wait_for_device();
  });
  return {time, check};
}

}  // namespace

int main() {
  return bench::serve({{"version", version},
                       {"device", device},
                       {"copy", copy},
                       {"product", product},
                       {"train", train}});
}
