// Loaders over the datasets of this library.

#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/files.hpp"
// After LibTorch's.
#include "support/catch.hpp"

using namespace torch_npy;

namespace {

using Indices = std::vector<std::size_t>;

constexpr std::size_t kFiles = 20;
const SaveOptions kQuick = SaveOptions().sync(false);

/// Files whose first element is their number.
void fill(const Folder& folder) {
  for (std::size_t i = 0; i < kFiles; ++i) {
    at::Tensor image = at::rand({1, 4, 6});
    image[0][0][0] = static_cast<std::int64_t>(i);
    save(folder / ("s" + std::to_string(100 + i) + ".npy"), image, kQuick);
  }
}

/// The batches from `at` on.
template <class Loader>
std::vector<typename Loader::BatchType> rest_of(Loader& loader, typename Loader::Iterator at) {
  std::vector<typename Loader::BatchType> all;
  for (; at != loader.end(); ++at) all.push_back(std::move(*at));
  return all;
}

using Stacked = Batch<TensorExample>;

bool are_same(const Stacked& a, const Stacked& b) {
  return a.data.equal(b.data) && a.indices == b.indices;
}

/// Images that are flipped and cropped at random.
Dataset<TensorExample, Stacked> augmented(const Folder& folder) {
  return FolderDataset(folder.path())
      .stacked()
      .map(transforms::RandomHorizontalFlip(0.5))
      .map(transforms::RandomCrop({3, 3}));
}

LoaderOptions options(std::size_t workers) {
  return LoaderOptions().batch_size(3).shuffle(true).seed(5).workers(workers);
}

}  // namespace

TEST_CASE("a Loader takes any dataset and knows the type of its batches", "[loader]") {
  const Folder folder;
  fill(folder);
  const FolderDataset dataset(folder.path());

  Loader lists(dataset, LoaderOptions().batch_size(8).workers(1));
  static_assert(std::is_same_v<decltype(lists)::BatchType, Samples<TensorExample>>);
  Indices all;
  for (auto& batch : lists) {
    REQUIRE(batch.size() == batch.indices.size());
    for (std::size_t i = 0; i < batch.size(); ++i) {
      CHECK(batch[i].data[0][0][0].item<float>() == static_cast<float>(batch.indices[i]));
    }
    all.insert(all.end(), batch.indices.begin(), batch.indices.end());
  }
  CHECK(all.size() == kFiles);
  CHECK(std::is_sorted(all.begin(), all.end()));

  Loader stacked(dataset.stacked(), LoaderOptions().batch_size(5));
  static_assert(std::is_same_v<decltype(stacked)::BatchType, Stacked>);
  CHECK(stacked.begin()->data.sizes() == at::IntArrayRef({5, 1, 4, 6}));

  Loader subset(dataset.subset({7, 3}), LoaderOptions().batch_size(2));
  auto at = subset.begin();
  CHECK(at->indices == Indices{0, 1});
  CHECK(at->at(0).data[0][0][0].item<float>() == 7);

  Loader joined(concat(dataset, dataset), LoaderOptions().batch_size(2 * kFiles));
  CHECK(joined.begin()->size() == 2 * kFiles);

  Loader mapped(dataset.map([](const TensorExample& sample) { return sample.data.numel(); }));
  CHECK(mapped.batches() == kFiles);
}

TEST_CASE("random transforms draw the same for any number of workers", "[loader]") {
  const Folder folder;
  fill(folder);
  Loader plain(augmented(folder), options(0));
  std::vector<Stacked> want = rest_of(plain, plain.begin());
  for (Stacked& batch : rest_of(plain, plain.begin())) want.push_back(std::move(batch));
  REQUIRE(want.size() == 14);
  for (const std::size_t workers : {1, 2, 7}) {
    Loader loader(augmented(folder), options(workers));
    for (std::size_t epoch = 0; epoch < 2; ++epoch) {
      const std::vector<Stacked> got = rest_of(loader, loader.begin());
      REQUIRE(got.size() == 7);
      for (std::size_t i = 0; i < 7; ++i) CHECK(are_same(got[i], want[7 * epoch + i]));
    }
  }
}

TEST_CASE("random transforms draw the same if a run was interrupted", "[loader]") {
  const Folder folder;
  fill(folder);
  Loader plain(augmented(folder), options(0));
  const std::vector<Stacked> want = rest_of(plain, plain.begin());
  for (std::size_t stop = 1; stop < 7; ++stop) {
    Loader first(augmented(folder), options(2));
    auto at = first.begin();
    for (std::size_t i = 1; i < stop; ++i) ++at;
    first.state().save(folder / "state");
    Loader second(augmented(folder), options(1));
    second.restore(LoaderState::load(folder / "state"));
    const std::vector<Stacked> got = rest_of(second, second.begin());
    REQUIRE(got.size() == 7 - stop);
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(are_same(got[i], want[stop + i]));
  }
}

TEST_CASE("another folder is another dataset for a state", "[loader]") {
  const Folder folder;
  fill(folder);
  const LoaderState state = Loader(FolderDataset(folder.path())).state();
  save(folder / "another.npy", at::full({1}, 1), kQuick);
  Loader loader(FolderDataset(folder.path()));
  const Error error = error_of([&] { loader.restore(state); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("another dataset"));
}

TEST_CASE("a damaged file is skipped, replaced, or thrown in its turn", "[loader]") {
  const Folder folder;
  fill(folder);
  write_bytes(folder / "s104.npy", "damaged");
  write_bytes(folder / "s105.npy", "damaged");
  const auto with = [&](OnBadFile what) {
    return FolderDataset(folder.path(), FolderOptions().on_bad_file(what)).stacked();
  };
  for (const std::size_t workers : {0, 2}) {
    const auto twos = LoaderOptions().batch_size(2).workers(workers);
    Loader skipping(with(OnBadFile::Skip), twos);
    std::size_t samples = 0;
    for (auto& batch : skipping) samples += batch.indices.size();
    CHECK(samples == 18);
    CHECK(skipping.stats().batches == 9);  // both files were one batch
    CHECK(skipping.stats().skipped == 2);

    Loader replacing(with(OnBadFile::Replace), LoaderOptions(twos).shard(2, 0));
    CHECK(rest_of(replacing, replacing.begin()).size() == 5);

    Loader throwing(with(OnBadFile::Throw), twos);
    auto at = throwing.begin();
    ++at;
    const Error error = error_of([&] { ++at; });
    CHECK(error.code() == ErrorCode::NotNpy);
    CHECK(error.path() == folder / "s104.npy");
    ++at;
    CHECK(at->indices == Indices{6, 7});
  }
}
