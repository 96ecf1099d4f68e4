// The kinds of batches that prefetch() copies.

#include <torch/data.h>
#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/prefetch.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "support/batches.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("tensors of any shape, strides and dtype arrive as Tensor::to() copies them",
          "[prefetch]") {
  const at::Tensor cube = at::arange(24).view({2, 3, 4});
  check_arrives_as_by_to(cube);
  check_arrives_as_by_to(cube.permute({2, 1, 0}));  // Fortran order
  check_arrives_as_by_to(cube.permute({1, 0, 2}));
  check_arrives_as_by_to(cube.as_strided({4, 1, 6}, {6, 77, 1}));
  check_arrives_as_by_to(cube.narrow(1, 1, 2));  // with gaps
  check_arrives_as_by_to(cube.permute({2, 0, 1}).narrow(0, 0, 2));
  check_arrives_as_by_to(cube.select(0, 1).expand({5, 3, 4}));
  check_arrives_as_by_to(cube.view({1, 2, 3, 4}).contiguous(at::MemoryFormat::ChannelsLast));
  check_arrives_as_by_to(at::zeros({}));
  check_arrives_as_by_to(at::zeros({0}));
  check_arrives_as_by_to(at::zeros({3, 0, 2}).permute({2, 1, 0}));
  for (const at::ScalarType type :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16,
        at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble}) {
    INFO(type);
    check_arrives_as_by_to(cube.to(type));
  }
  check_arrives_as_by_to(cube.to(at::kComplexFloat).conj());
}

TEST_CASE("tensors that need no copy or cannot be copied are passed on", "[prefetch]") {
  at::Tensor there = at::ones({2}).to(kFake);
  CHECK(on_fake_device([&](std::size_t) { return there; }).is_same(there));

  auto loader = loader_of(2, 1, [](std::size_t) { return Example<>(at::ones({2}), {}); });
  const auto check_no_target = [&](c10::Device device) {
    for (auto& batch : prefetch(*loader, device)) {
      CHECK(is_at(batch.data, device, at::ones({2})));
      CHECK(!batch.target.defined());
    }
  };
  check_no_target(at::kCPU);
  check_no_target(kFake);
  fake_device::has_streams = false;
  check_no_target(kFake);
  fake_device::has_streams = true;

  at::Tensor weight = at::ones({2}).set_requires_grad(true);
  CHECK(on_fake_device([&](std::size_t) { return weight; }).requires_grad());
}

TEST_CASE("every kind of batch is copied to the device", "[prefetch]") {
  const at::Tensor want = at::arange(3);
  const auto is_there = [&](const at::Tensor& tensor) { return is_at(tensor, kFake, want); };

  CHECK(is_there(on_fake_device([&](std::size_t) { return TensorExample(want); }).data));
  for (const at::Tensor& tensor :
       on_fake_device([&](std::size_t) { return std::vector<at::Tensor>(3, want); })) {
    CHECK(is_there(tensor));
  }
  for (const auto& example : on_fake_device(
           [&](std::size_t) { return std::vector<Example<>>(3, Example<>(want, want)); })) {
    CHECK(is_there(example.data));
    CHECK(is_there(example.target));
  }
  using Named = Example<std::vector<at::Tensor>, std::string>;
  const auto named = on_fake_device([&](std::size_t) {
    return Named({want, want}, "with a name");
  });
  CHECK(is_there(named.data[1]));
  CHECK(named.target == "with a name");
  const NamedBatch by_name = on_fake_device([&](std::size_t) {
    NamedBatch batch(NamedExample({{"image", want}, {"mask", want}}));
    batch.indices = {7, 8, 9};
    return batch;
  });
  CHECK(is_there(by_name["image"]));
  CHECK(is_there(by_name["mask"]));
  CHECK(by_name.indices == std::vector<std::size_t>{7, 8, 9});
  const auto padded = on_fake_device([&](std::size_t) {
    PaddedBatch<> batch(want, want);
    batch.lengths = want;
    return batch;
  });
  CHECK(is_there(padded.data));
  CHECK(is_there(padded.target));
  CHECK(is_there(padded.lengths));
  CHECK(!padded.target_lengths.defined());
  const auto samples = on_fake_device([&](std::size_t) {
    Samples<TensorExample> batch(std::vector<TensorExample>(2, TensorExample(want)));
    batch.indices = {4, 5};
    return batch;
  });
  CHECK(is_there(samples.at(1).data));
  CHECK(samples.indices == std::vector<std::size_t>{4, 5});
  const auto flags = on_fake_device([&](std::size_t) {
    return Example<at::Tensor, std::vector<bool>>(want, {true, false});
  });
  CHECK(is_there(flags.data));
  CHECK((flags.target == std::vector<bool>{true, false}));
}

TEST_CASE("batches of datasets are copied, stacked or mapped", "[prefetch]") {
  const Folder folder;
  for (int i = 0; i < 10; ++i) {
    save(folder / (std::to_string(i) + ".npy"), at::full({2, 3}, i, at::kFloat));
  }
  const auto check = [&](auto dataset) {
    auto loader = torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
        std::move(dataset), torch::data::DataLoaderOptions(4).workers(2));
    std::int64_t seen = 0;
    for (auto& batch : prefetch(*loader, kFake)) {
      std::vector<at::Tensor> want;
      for (std::int64_t i = 0; i < batch.data.size(0); ++i, ++seen) {
        want.push_back(at::full({2, 3}, seen, at::kFloat));
      }
      CHECK(is_at(batch.data, kFake, at::stack(want)));
      CHECK(is_at(batch.target, kFake, at::stack(want)));
    }
    CHECK(seen == 10);
  };
  const Folder targets;
  std::filesystem::copy(folder.path(), targets.path());
  const PairedFolderDataset dataset(folder.path(), targets.path());
  check(dataset.stacked());
  check(
      PairedFolderDataset(dataset).map(transforms::Stack<>()).map(transforms::ToDtype(at::kFloat)));
}

TEST_CASE("a dataset copies a batch to its device in one copy", "[prefetch]") {
  const Folder folder;
  for (int i = 0; i < 4; ++i) {
    save(folder / (std::to_string(i) + ".npy"), at::full({2, 3}, i, at::kFloat));
  }
  save(folder / "4.npy", at::zeros({5}));
  FolderDataset dataset(folder.path(), FolderOptions().data_options(LoadOptions().device(kFake)));
  using Indices = std::vector<std::size_t>;
  fake_device::copies = 0;
  const auto examples = dataset.get_batch(Indices{3, 1, 2});
  CHECK(fake_device::copies == 1);
  CHECK(is_at(examples[2].data, kFake, at::full({2, 3}, 2, at::kFloat)));
  const at::Tensor stacked = dataset.stacked().get_batch(Indices{3, 1}).data;
  CHECK(is_at(stacked, kFake, at::tensor({3.F, 1.F}).view({2, 1, 1}).expand({2, 2, 3})));
  CHECK(is_at(dataset.get_batch(Indices{0, 4})[1].data, kFake, at::zeros({5})));

  save(folder / "rows.npy", at::arange(12).reshape({4, 3}));
  ArrayDataset rows(folder / "rows.npy", LoadOptions().device(kFake));
  CHECK(is_at(rows.get(2).data, kFake, at::tensor({6, 7, 8}, at::kLong)));
}
