// Batches of every kind of dataset, on a device.

#include <torch/data.h>
#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/batch_tensors.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/npz_dataset.hpp>
#include <torch_npy/data/prefetch.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/data/window_dataset.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/save_npz.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/batches.hpp"
#include "support/catch.hpp"
#include "support/cuda.hpp"
#include "support/files.hpp"

using namespace torch_npy;

namespace {

template <class B>
std::vector<at::Tensor> tensors_of(B& batch) {
  std::vector<at::Tensor> tensors;
  torch_npy::detail::BatchTensors<B>::each(
      batch, [&](const at::Tensor& tensor) { tensors.push_back(tensor); });
  return tensors;
}

/// The batches of a loader on the CPU, and of the same one on the device, are the same.
template <class CpuLoader, class DeviceLoader>
void check_same_epoch(CpuLoader&& on_cpu, DeviceLoader&& on_device, c10::Device device) {
  std::vector<std::vector<at::Tensor>> want;
  for (auto& batch : on_cpu) want.push_back(tensors_of(batch));
  std::size_t seen = 0;
  for (auto& batch : on_device) {
    const std::vector<at::Tensor> found = tensors_of(batch);
    REQUIRE(seen < want.size());
    REQUIRE(found.size() == want[seen].size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(is_at(found[i], device, want[seen][i]));
    ++seen;
  }
  CHECK(seen == want.size());
}

/// By the Loader.
template <class E, class B>
void check_by_loader(const Dataset<E, B>& dataset, c10::Device device) {
  const auto options = LoaderOptions().batch_size(3).shuffle(true).seed(5).workers(2);
  check_same_epoch(Loader(dataset, options), Loader(dataset, LoaderOptions(options).device(device)),
                   device);
}

/// By the Loader, and by prefetch() of LibTorch's loader, where random transforms draw anew.
template <class E, class B>
void check_on_device(const Dataset<E, B>& dataset, c10::Device device) {
  check_by_loader(dataset, device);
  const auto libtorch = [&] {
    return torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
        dataset, torch::data::DataLoaderOptions(3).workers(2));
  };
  const auto plain = libtorch(), moved = libtorch();
  check_same_epoch(*plain, prefetch(*moved, device), device);
}

/// What `make(options)` reads to the device, by the options of the dataset, is what it reads to the
/// CPU.
template <class Make>
void check_options(c10::Device device, const Make& make) {
  const std::vector<std::size_t> indices = {3, 0, 2};
  auto want = make(LoadOptions()).stacked().get_batch(indices);
  for (const bool pinned : {false, true}) {
    const auto there = LoadOptions().device(device).pinned_memory(pinned);
    auto got = make(there).stacked().get_batch(indices);
    const std::vector<at::Tensor> found = tensors_of(got), wanted = tensors_of(want);
    REQUIRE(found.size() == wanted.size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(is_at(found[i], device, wanted[i]));
  }
}

void check_every_dataset(c10::Device device) {
  INFO(device);
  const Folder folder;
  std::vector<std::filesystem::path> files, archives, shards, ragged;
  for (int i = 0; i < 7; ++i) {
    const std::string number = std::to_string(i);
    const auto add = [&](auto& list, const char* ending) {
      list.push_back(folder / (std::to_string(list.size()) + ending));
      return list.back();
    };
    save(add(files, ".image.npy"), at::arange(i, i + 24, at::kShort).reshape({2, 3, 4}));
    save(add(ragged, ".text.npy"), at::arange(i, 2 * i + 1, at::kLong));
    save(add(shards, ".rows.npy"), at::arange(i, i + 2 * (i + 1), at::kInt).reshape({i + 1, 2}));
    save_npz(add(archives, ".npz"), {{"image", at::full({2, 2}, i, at::kByte)},
                                     {"label", at::full({}, i, at::kLong)},
                                     {"text", at::arange(i + 1)}});
  }
  const at::Tensor labels = at::arange(7);
  const auto check = [&](const auto& dataset) { check_on_device(dataset, device); };

  check(FileDataset(files).stacked());
  check(FileDataset(files, labels).stacked());
  check(FileDataset(files, ragged).map(transforms::PadStack(0, -1)));
  check(NpzDataset(archives, "image").stacked());
  check(NpzDataset(archives, "image", "label").stacked());
  check(NpzDataset(archives, {"image", "label"}).stacked());
  check(NpzDataset(archives, {"image", "text"}).map(transforms::PadStack().on("text")));
  check(ArrayDataset<TensorExample>(shards).stacked());
  check(ArrayDataset(shards, at::arange(28)).stacked());
  check(WindowDataset(shards, 2, WindowOptions().across_shards(true).target(1, 2)).stacked());
  check(FileDataset(files).cached(1 << 20).stacked());
  for (const bool mapped : {false, true}) {
    const auto options = FolderOptions().data_options(LoadOptions().mmap(mapped));
    check_by_loader(FileDataset(files, options).map(transforms::RandomCrop({1, 2, 2})).stacked(),
                    device);
  }
  check(FileDataset(files, labels)
            .subset({5, 1, 3, 0})
            .map(transforms::ToDtype(at::kFloat))
            .map(transforms::Normalize({1.}, {2.}))
            .stacked());

  const auto in_folder = [](const LoadOptions& options) {
    return FolderOptions().data_options(options).target_options(options);
  };
  check_options(device, [&](const LoadOptions& options) {
    return FolderDataset(folder.path(), in_folder(options).pattern("*.image.npy"));
  });
  check_options(device, [&](const LoadOptions& options) {
    return FileDataset(files, files, in_folder(options));
  });
  check_options(device, [&](const LoadOptions& options) {
    return NpzDataset(archives, "image", "label", in_folder(options));
  });
  check_options(device, [&](const LoadOptions& options) {
    return ArrayDataset(shards, at::arange(28), options, options);
  });
  check_options(device, [&](const LoadOptions& options) {
    return WindowDataset(shards, 2,
                         WindowOptions().across_shards(true).data_options(options).target(1, 2));
  });
}

}  // namespace

TEST_CASE("batches of every kind of dataset arrive on the device", "[prefetch]") {
  check_every_dataset(kFake);
}

TEST_CASE("batches of every kind of dataset arrive on a CUDA device", "[cuda]") {
  if (has_cuda()) check_every_dataset(kCuda);
}
