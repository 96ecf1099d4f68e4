// What random draws depend on.

#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>

#include <cstdint>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

TEST_CASE("one seed gives the same batches with any number of workers", "[dataset]") {
  const Folder folder;
  for (int i = 0; i < 50; ++i) save(folder / name_of(i), at::randn({1, 5, 7}));
  const FolderDataset dataset(folder.path());
  const auto epochs = [&](auto tag, std::size_t workers, std::uint64_t seed, auto mapped) {
    using Sampler = typename decltype(tag)::type;
    torch::manual_seed(seed);
    auto loader = loader_of<Sampler>(mapped(), 8, workers);
    std::vector<at::Tensor> all;
    for (int i = 0; i < 3; ++i) all.push_back(epoch(*loader));
    return at::cat(all);
  };
  const auto stacked = [&] {
    return FolderDataset(folder.path())
        .stacked()
        .map(transforms::RandomHorizontalFlip())
        .map(transforms::RandomCrop(4, 1));
  };
  const auto one_by_one = [&] {
    return FolderDataset(folder.path())
        .map(transforms::RandomHorizontalFlip())
        .map(transforms::RandomCrop(4, 1))
        .map(transforms::Stack<TensorExample>());
  };
  struct Sequential {
    using type = td::samplers::SequentialSampler;
  };
  struct Random {
    using type = td::samplers::RandomSampler;
  };
  const at::Tensor in_order = epochs(Sequential(), 0, 1, stacked);
  const at::Tensor shuffled = epochs(Random(), 0, 1, stacked);
  for (const std::size_t workers : {1, 2, 4}) {
    CHECK(at::equal(epochs(Sequential(), workers, 1, stacked), in_order));
    CHECK(at::equal(epochs(Random(), workers, 1, stacked), shuffled));
    CHECK(at::equal(epochs(Random(), workers, 1, one_by_one), shuffled));
  }
  CHECK(!at::equal(epochs(Sequential(), 2, 2, stacked), in_order));
  // The draws of epochs differ, although without shuffling their samples are the same.
  CHECK(!at::equal(in_order.narrow(0, 0, 50), in_order.narrow(0, 50, 50)));
  CHECK(!at::equal(in_order.narrow(0, 50, 50), in_order.narrow(0, 100, 50)));
}

TEST_CASE("random draws depend only on the seed, the sample and how often it was visited",
          "[dataset]") {
  const Folder folder;
  constexpr int kFiles = 64;
  for (int i = 0; i < kFiles; ++i) save(folder / name_of(i), at::arange(2).reshape({1, 1, 2}));
  const auto flips = [&](std::size_t batch, std::size_t workers, bool peek) {
    torch::manual_seed(1);
    const FolderDataset dataset(folder.path());
    auto mapped = dataset.stacked().map(transforms::RandomHorizontalFlip());
    // A sample is read on this thread before the loader exists.
    if (peek) (void)mapped.get_batch(Indices{kFiles - 1});
    auto loader = loader_of(mapped, batch, workers);
    std::vector<at::Tensor> epochs;
    for (int i = 0; i < 6; ++i) epochs.push_back(epoch(*loader).select(-1, 0).flatten());
    return at::stack(epochs);
  };
  const at::Tensor peeked = flips(8, 0, true);
  for (const std::size_t workers : {1, 2, 4}) CHECK(at::equal(flips(8, workers, true), peeked));

  // Also in batches of one, epochs draw independently: 32 +- 4 flips each, not always as many.
  const at::Tensor counts = flips(1, 0, false).sum(1);
  CHECK(counts.min().item<std::int64_t>() > 12);
  CHECK(counts.max().item<std::int64_t>() < 52);
  CHECK(counts.min().item<std::int64_t>() != counts.max().item<std::int64_t>());
}
