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
#include <torch_npy/tensor/save_npz.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/batches.hpp"
#include "support/catch.hpp"
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

/// The batches of a loader on the CPU, and of the same one on the fake device, are the same.
template <class CpuLoader, class DeviceLoader>
void check_same_epoch(CpuLoader&& on_cpu, DeviceLoader&& on_device) {
  std::vector<std::vector<at::Tensor>> want;
  for (auto& batch : on_cpu) want.push_back(tensors_of(batch));
  std::size_t seen = 0;
  for (auto& batch : on_device) {
    const std::vector<at::Tensor> found = tensors_of(batch);
    REQUIRE(seen < want.size());
    REQUIRE(found.size() == want[seen].size());
    for (std::size_t i = 0; i < found.size(); ++i) CHECK(is_at(found[i], kFake, want[seen][i]));
    ++seen;
  }
  CHECK(seen == want.size());
}

/// By the Loader.
template <class E, class B>
void check_by_loader(const Dataset<E, B>& dataset) {
  const auto options = LoaderOptions().batch_size(3).shuffle(true).seed(5).workers(2);
  check_same_epoch(Loader(dataset, options), Loader(dataset, LoaderOptions(options).device(kFake)));
}

/// By the Loader, and by prefetch() of LibTorch's loader, where random transforms draw anew.
template <class E, class B>
void check_on_device(const Dataset<E, B>& dataset) {
  check_by_loader(dataset);
  const auto libtorch = [&] {
    return torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
        dataset, torch::data::DataLoaderOptions(3).workers(2));
  };
  const auto plain = libtorch(), moved = libtorch();
  check_same_epoch(*plain, prefetch(*moved, kFake));
}

}  // namespace

TEST_CASE("batches of every kind of dataset arrive on the device", "[prefetch]") {
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

  check_on_device(FileDataset(files).stacked());
  check_on_device(FileDataset(files, labels).stacked());
  check_on_device(FileDataset(files, ragged).map(transforms::PadStack(0, -1)));
  check_on_device(NpzDataset(archives, "image").stacked());
  check_on_device(NpzDataset(archives, "image", "label").stacked());
  check_on_device(NpzDataset(archives, {"image", "label"}).stacked());
  check_on_device(NpzDataset(archives, {"image", "text"}).map(transforms::PadStack().on("text")));
  check_on_device(ArrayDataset<TensorExample>(shards).stacked());
  check_on_device(ArrayDataset(shards, at::arange(28)).stacked());
  check_on_device(
      WindowDataset(shards, 2, WindowOptions().across_shards(true).target(1, 2)).stacked());
  check_on_device(FileDataset(files).cached(1 << 20).stacked());
  for (const bool mapped : {false, true}) {
    const auto options = FolderOptions().data_options(LoadOptions().mmap(mapped));
    check_by_loader(FileDataset(files, options).map(transforms::RandomCrop({1, 2, 2})).stacked());
  }
  check_on_device(FileDataset(files, labels)
                      .subset({5, 1, 3, 0})
                      .map(transforms::ToDtype(at::kFloat))
                      .map(transforms::Normalize({1.}, {2.}))
                      .stacked());
}
