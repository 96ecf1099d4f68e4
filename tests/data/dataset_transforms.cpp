// Transforms mapped over datasets.

#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/equal.h>

#include <filesystem>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

TEST_CASE("LibTorch's own transforms work on datasets", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 6);
  const FolderDataset plain(folder.path());
  auto lambda = FolderDataset(plain)
                    .map(td::transforms::Lambda<TensorExample>(
                        [](TensorExample example) { return TensorExample(example.data * 2); }))
                    .map(transforms::Stack<TensorExample>());
  CHECK(at::equal(epoch(*loader_of(lambda, 4)), samples(6) * 2));

  const Folder targets;
  std::filesystem::copy(folder.path(), targets.path());
  const PairedFolderDataset pairs(folder.path(), targets.path());
  auto tensor_lambda = PairedFolderDataset(pairs)
                           .map(td::transforms::TensorLambda<>(
                               [](at::Tensor data) { return data.unsqueeze(0) + 1; }))
                           .map(td::transforms::Normalize<>({1.0}, {2.0}))
                           .map(transforms::Stack<>());
  CHECK(at::equal(epoch(*loader_of(tensor_lambda, 4)), (samples(6) / 2).unsqueeze(1)));

  auto batch_lambda = pairs.stacked().map(td::transforms::BatchLambda<Batch<>, at::Tensor>(
      [](Batch<> batch) { return batch.data - batch.target; }));
  auto loader = loader_of(batch_lambda, 4);
  for (const at::Tensor& zeros : *loader) CHECK(at::equal(zeros, zeros * 0));
}

TEST_CASE("a transform with options can be passed to map()", "[dataset]") {
  const Folder folder;
  for (int i = 0; i < 4; ++i) save(folder / name_of(i), sample(i).unsqueeze(0));
  const Folder targets;
  std::filesystem::copy(folder.path(), targets.path());
  const PairedFolderDataset dataset(folder.path(), targets.path());
  const Indices all{0, 1, 2, 3};
  const at::Tensor want = samples(4).unsqueeze(1);
  const auto flipped =
      dataset.stacked().map(transforms::RandomHorizontalFlip(1).with_target(false)).get_batch(all);
  CHECK(at::equal(flipped.data, want.flip(-1)));
  CHECK(at::equal(flipped.target, want));
  const auto cropped =
      dataset.stacked().map(transforms::RandomCrop({2, 3}, 0).with_target(false)).get_batch(all);
  CHECK(at::equal(cropped.data, want));
}
