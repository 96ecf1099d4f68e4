// Datasets over a store: the same samples as from a folder, and few requests.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/npz_dataset.hpp>
#include <torch_npy/data/random_crop.hpp>
#include <torch_npy/data/split.hpp>
#include <torch_npy/data/window_dataset.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/save_npz.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rand.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "support/catch.hpp"
#ifndef _WIN32
#include "support/descriptors.hpp"
#endif
#include "support/files.hpp"
#include "support/memory_store.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
using torch_npy::transforms::RandomCrop;

namespace {

/// A folder, and a store with the same content.
struct Both {
  Folder folder;
  std::shared_ptr<MemoryStore> memory = std::make_shared<MemoryStore>();

  Store store(const StoreOptions& options = {}) const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path())) {
      if (!entry.is_regular_file()) continue;
      const auto name = entry.path().lexically_relative(folder.path()).generic_string();
      memory->put("train/" + name, read_bytes(entry.path()));
    }
    memory->reset();
    return Store(memory, options).folder("train");
  }
};

template <class E>
void check_same(const Dataset<E>& one, const Dataset<E>& other) {
  REQUIRE(one.size() == other.size());
  std::vector<std::size_t> all(*one.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = all.size() - 1 - i;
  Request request(all);
  request.seed = 3;  // for random crops
  const auto a = one.stacked().get_batch(request);
  const auto b = other.stacked().get_batch(request);
  CHECK(a.indices == b.indices);
  torch_npy::detail::SampleTensors<E>::each(a, [&](const std::string& name, const at::Tensor& x) {
    torch_npy::detail::SampleTensors<E>::each(b, [&](const std::string& its, const at::Tensor& y) {
      if (name == its) CHECK(at::equal(x, y));
    });
  });
}

}  // namespace

TEST_CASE("a folder of a store gives the samples of a folder, one request each", "[store]") {
  const Both both;
  fill_folder(both.folder, 40);
  const Store store = both.store();
  const FolderDataset objects(store);
  CHECK(both.memory->requests() == 1);  // the listing
  check_same<TensorExample>(FolderDataset(both.folder.path()), objects);
  CHECK(both.memory->reads == 40);
  CHECK(both.memory->finds == 0);
  CHECK(objects.key(3) == "memory://bucket/train/s003.npy");
  CHECK(objects.files()[3] == "memory://bucket/train/s003.npy");
  CHECK(objects.verify().empty());
  CHECK(objects.lengths() == std::vector<std::int64_t>(40, 2));
  both.memory->reset();
  const FolderDataset named(store, {"s003", "s001.npy"});
  CHECK(both.memory->requests() == 2);
  CHECK(at::equal(named.get(0).data, sample(3)));
  CHECK(at::equal(objects.get(7).data, sample(7)));
  const Error error = error_of([&] { FolderDataset(store, {"s003", "none"}); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK_THAT(error.what(), says("memory://bucket/train/none.npy"));
}

TEST_CASE("a batch asks a store for all its samples at the same time", "[store]") {
  const Both both;
  fill_folder(both.folder, 32);
  const Store store = both.store(StoreOptions().requests(16));
  both.memory->latency = std::chrono::milliseconds(5);
  const FolderDataset objects(store);
  std::vector<std::size_t> all(32);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  (void)objects.stacked().get_batch(all);
  CHECK(both.memory->reads == 32);
  CHECK(both.memory->most_under_way > 4);
  CHECK(both.memory->most_under_way <= 16);
  both.memory->reset();
  Loader loader(objects.stacked(), LoaderOptions().batch_size(8).workers(3));
  for (auto& batch : loader) (void)batch;
  CHECK(both.memory->reads == 32);
  CHECK(both.memory->most_under_way <= 16);
}

TEST_CASE("a batch of objects takes no more memory in addition than the limit", "[store]") {
  const Both both;
  for (int i = 0; i < 6; ++i) {
    save(both.folder / ("s" + std::to_string(i) + ".npy"), at::full({1 << 20}, i));  // 8 MiB
  }
  for (const std::size_t limit : {1, 20, 1000}) {  // MiB
    const FolderDataset objects(both.store(StoreOptions().bytes(std::uint64_t{limit} << 20)));
    const auto batch = objects.stacked().get_batch({5, 0, 1, 2, 3, 4, 5});
    for (int i = 0; i < 7; ++i) CHECK(batch.data[i].eq((i + 5) % 6).all().item<bool>());
    CHECK(both.memory->most_bytes_under_way <= std::max(limit << 20, std::size_t{4} << 20));
  }
}

TEST_CASE("pairs and classes of a store", "[store]") {
  const Both both;
  for (const char* const name : {"cat/a", "cat/b", "dog/c", "dog/deep/d"}) {
    std::filesystem::create_directories((both.folder / ("in/" + std::string(name))).parent_path());
    std::filesystem::create_directories((both.folder / ("out/" + std::string(name))).parent_path());
    save(both.folder / ("in/" + std::string(name) + ".npy"), at::rand({3, 2}));
    save(both.folder / ("out/" + std::string(name) + ".npy"), at::rand({3, 2}));
    save(both.folder / ("in/" + std::string(name) + "_mask.npy"), at::rand({3, 2}));
  }
  const Store store = both.store();
  const auto recursive = FolderOptions().recursive(true).pattern("?.npy");
  check_same<Example<>>(PairedFolderDataset(both.folder / "in", both.folder / "out", recursive),
                        PairedFolderDataset(store.folder("in"), store.folder("out"), recursive));
  CHECK(both.memory->lists == 2);
  both.memory->reset();
  const auto masks = FolderOptions().recursive(true).pattern("?.npy").target_pattern("?_mask.npy");
  CHECK_THROWS_AS(PairedFolderDataset(store.folder("in"), store.folder("in"), masks), Error);
  const auto by_function = FolderOptions(recursive).target_name(
      [](const std::string& name) { return name.substr(0, name.size() - 4) + "_mask.npy"; });
  check_same<Example<>>(PairedFolderDataset(both.folder / "in", both.folder / "in", by_function),
                        PairedFolderDataset(store.folder("in"), store.folder("in"), by_function));
  CHECK(error_of([&] {
          PairedFolderDataset(store.folder("in"), store.folder("in"), recursive);
        }).code() == ErrorCode::InvalidArgument);
  both.memory->reset();
  const ClassFolderDataset classes(store.folder("in"), recursive);
  CHECK(both.memory->lists == 1);
  CHECK(classes.classes() == std::vector<std::string>{"cat", "dog"});
  check_same<Example<>>(ClassFolderDataset(both.folder / "in", recursive), classes);
  both.memory->remove("train/out/cat/a.npy");
  const Error error =
      error_of([&] { PairedFolderDataset(store.folder("in"), store.folder("out"), recursive); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("memory://bucket/train/in/cat/a.npy"));
}

TEST_CASE("a list of objects, with labels or with targets", "[store]") {
  const Both both;
  fill_folder(both.folder, 6);
  const Store store = both.store();
  const std::vector<std::string> names{"s004.npy", "s001.npy", "s001.npy"};
  const at::Tensor labels = at::arange(3);
  const FileDataset labelled(store.objects(names), labels);
  const auto batch = labelled.stacked().get_batch({0, 1, 2});
  CHECK(at::equal(batch.data[0], sample(4)));
  CHECK(at::equal(batch.data[2], sample(1)));
  CHECK(at::equal(batch.target, labels));
  const FileDataset pairs(store.objects({"s000.npy"}), store.objects({"s005.npy"}));
  CHECK(at::equal(pairs.get(0).target, sample(5)));
  const FileDataset mixed(store.objects({"s000.npy"}),
                          std::vector<std::filesystem::path>{both.folder / "s003.npy"});
  CHECK(at::equal(mixed.get(0).target, sample(3)));
  const Error error = error_of([&] { (void)store.objects({"s000.npy", "x.npy", "y.npy"}); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK_THAT(error.what(), says("2 objects of the list do not exist"));
}

TEST_CASE("archives of a store as samples", "[store]") {
  const Both both;
  for (int i = 0; i < 12; ++i) {
    torch::OrderedDict<std::string, at::Tensor> arrays;
    arrays.insert("image", at::rand({3, 4}));
    arrays.insert("label", at::tensor(i));
    save_npz(both.folder / ("s" + std::to_string(100 + i) + ".npz"), arrays);
  }
  const Store store = both.store();
  const NpzDataset objects(store, "image", "label");
  CHECK(both.memory->requests() == 1);
  check_same<Example<>>(NpzDataset(both.folder.path(), "image", "label"), objects);
  CHECK(both.memory->reads == 12);
  CHECK(both.memory->finds == 0);
  const NpzDataset named(store.list("s10?.npz"), {"label", "image"});
  CHECK(named.size() == 10u);
  CHECK(named.get(3)["label"].item<int>() == 3);
  CHECK(at::equal(objects.targets(), at::arange(12)));
  CHECK(objects.verify().empty());
  check_same<Example<>>(NpzDataset(both.folder.path(), "image", "label").map(RandomCrop({2, 2})),
                        objects.map(RandomCrop({2, 2})));
}

TEST_CASE("rows of arrays in a store are read for each batch", "[store]") {
  const Both both;
  for (int i = 0; i < 4; ++i) {
    const at::Tensor rows = at::rand({100 + i, 50, 20});
    save(both.folder / ("x_" + std::to_string(i) + ".npy"), rows);
    save(both.folder / ("f_" + std::to_string(i) + ".npy"),
         rows.permute({2, 1, 0}).contiguous().permute({2, 1, 0}));
  }
  save(both.folder / "y.npy", at::arange(406));
  const Store store = both.store();
  std::vector<std::filesystem::path> shards, fortran;
  for (int i = 0; i < 4; ++i) {
    shards.push_back(both.folder / ("x_" + std::to_string(i) + ".npy"));
    fortran.push_back(both.folder / ("f_" + std::to_string(i) + ".npy"));
  }
  check_same<TensorExample>(ArrayDataset(shards), ArrayDataset(store.list("x_*.npy")));
  check_same<TensorExample>(ArrayDataset(fortran), ArrayDataset(store.list("f_*.npy")));
  const ArrayDataset pairs(store.list("x_*.npy"), open(store, "y.npy"));
  check_same<Example<>>(ArrayDataset(shards, both.folder / "y.npy"), pairs);
  CHECK(pairs.key(101) == "memory://bucket/train/x_1.npy[1]");
  for (const auto& options :
       {LoadOptions().dtype(at::kDouble), LoadOptions().region({{7, 390}, {3, 9}}),
        LoadOptions().rows(99, 103), LoadOptions().region({{0, 9}, {}, {19, 20}}).squeeze(2)}) {
    check_same<TensorExample>(ArrayDataset(shards, options),
                              ArrayDataset(store.list("x_*.npy"), options));
    check_same<TensorExample>(ArrayDataset(fortran, options),
                              ArrayDataset(store.list("f_*.npy"), options));
  }
  const ArrayDataset rows(store.list("x_*.npy"));
  both.memory->reset();
  std::vector<std::size_t> close(64);
  for (std::size_t i = 0; i < close.size(); ++i) close[i] = 10 + i;
  (void)rows.stacked().get_batch(close);
  CHECK(both.memory->reads == 1);
  CHECK(both.memory->finds == 1);  // that the object was not replaced
  CHECK(both.memory->bytes_read == 64 * 4000);
  both.memory->reset();
  const auto cropped = rows.map(RandomCrop({5, 5}));
  check_same<TensorExample>(ArrayDataset(shards).map(RandomCrop({5, 5})), cropped);
  both.memory->reset();
  const auto cached = rows.cached(std::size_t{1} << 30);
  (void)cached.get_batch(close);
  const int requests = both.memory->requests();
  (void)cached.get_batch(close);
  CHECK(both.memory->requests() == requests);
}

TEST_CASE("rows are read from a cache only if all arrays fit into it", "[store]") {
  const Both both;
  std::vector<std::filesystem::path> shards;
  for (int i = 0; i < 4; ++i) {
    shards.push_back(both.folder / ("x_" + std::to_string(i) + ".npy"));
    save(shards.back(), at::rand({250, 100}));  // 100 kB
  }
  const Store store = both.store();
  const Folder cache;
  for (const std::uint64_t limit : {1'000'000, 250'000}) {
    const ArrayDataset rows(store.cached_on_disk(cache / std::to_string(limit), limit).list());
    check_same<TensorExample>(ArrayDataset(shards), rows);
    both.memory->reset();
    (void)rows.get_batch({3, 300, 600, 900});
    CHECK(both.memory->bytes_read == (limit == 1'000'000 ? 0 : 4 * 400));
  }
  std::filesystem::remove_all(cache.path());  // nothing can be kept
  const ArrayDataset rows(store.cached_on_disk(cache / "gone", 1'000'000).list());
  std::filesystem::remove_all(cache.path());
  both.memory->reset();
  (void)rows.get_batch({3, 300});
  CHECK(both.memory->bytes_read == 2 * 400);
}

#ifndef _WIN32
TEST_CASE("a batch from a cache holds no files open, and mmap is refused", "[store]") {
  const Both both;
  fill_folder(both.folder, 40);
  const Folder cache;
  const Store store = both.store(StoreOptions().requests(8)).cached_on_disk(cache.path(), 1 << 20);
  const FolderDataset dataset(store);
  std::vector<std::size_t> all(40);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  (void)dataset.get_batch(all);
  both.memory->reset();
  {
    const FewDescriptors few(20);
    (void)dataset.get_batch(all);
  }
  CHECK(both.memory->requests() == 0);
  CHECK_THROWS_AS(FolderDataset(store, FolderOptions().data_options(LoadOptions().mmap(true))),
                  Error);
}
#endif

TEST_CASE("windows and frames of a store", "[store]") {
  const Both both;
  std::vector<std::filesystem::path> tokens, frames;
  std::filesystem::create_directories(both.folder / "clip");
  for (int i = 0; i < 3; ++i) {
    tokens.push_back(both.folder / ("t_" + std::to_string(i) + ".npy"));
    save(tokens.back(), at::arange(1000 * i, 1000 * i + 500 + i));
    frames.push_back(both.folder / ("clip/" + std::to_string(i) + ".npy"));
    save(frames.back(), at::rand({4, 5}));
  }
  const Store store = both.store();
  const auto next = WindowOptions().stride(7).target(1, 16);
  check_same<Example<>>(WindowDataset(tokens, 16, next),
                        WindowDataset(store.list("t_*.npy"), 16, next));
  const auto clips = WindowOptions().frames(true);
  check_same<TensorExample>(WindowDataset(frames, 2, clips),
                            WindowDataset(store.folder("clip").list(), 2, clips));
}

TEST_CASE("crops of objects read only what they keep", "[store]") {
  const Both both;
  for (int i = 0; i < 3; ++i) {
    save(both.folder / ("v" + std::to_string(i) + ".npy"), at::rand({100, 100, 100}));  // 4 MB
  }
  const Store store = both.store();
  const auto crop = RandomCrop({10, 20, 20});
  check_same<TensorExample>(FolderDataset(both.folder.path()).map(crop),
                            FolderDataset(store).map(crop));
  CHECK(both.memory->bytes_read < 3 * 500'000);
  const Folder cache;
  both.memory->reset();
  const auto cached = FolderDataset(store.cached_on_disk(cache.path(), 1 << 30)).map(crop);
  check_same<TensorExample>(FolderDataset(both.folder.path()).map(crop), cached);
  CHECK(cache.count() == 3);
  both.memory->reset();
  check_same<TensorExample>(FolderDataset(both.folder.path()).map(crop), cached);
  CHECK(both.memory->reads == 0);
}
