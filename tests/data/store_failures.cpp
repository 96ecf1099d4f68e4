// A store that fails, and objects that change while a dataset is used.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/npz_dataset.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/save_npz.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/memory_store.hpp"
#include "support/npy_bytes.hpp"
#include "support/samples.hpp"

using namespace torch_npy;

namespace {

std::shared_ptr<MemoryStore> store_of_samples(int count) {
  auto memory = std::make_shared<MemoryStore>();
  for (int i = 0; i < count; ++i) memory->put(name_of(i), npy_of(sample(i)));
  return memory;
}

const auto kSkip = FolderOptions().on_bad_file(OnBadFile::Skip);
const auto kReplace = FolderOptions().on_bad_file(OnBadFile::Replace);
const std::vector<std::size_t> kAll{0, 1, 2, 3, 4, 5, 6, 7};

Error outage() { return Error(ErrorCode::Io, "503: slow down"); }

}  // namespace

TEST_CASE("an outage of the store is never a skipped sample", "[store]") {
  const auto memory = store_of_samples(8);
  memory->on_read = [](const std::string&) -> std::size_t { throw outage(); };
  for (const auto& options : {FolderOptions(), kSkip, kReplace}) {
    const FolderDataset dataset(Store(memory), options);
    const Error error = error_of([&] { (void)dataset.stacked().get_batch(kAll); });
    CHECK(error.code() == ErrorCode::Io);
    CHECK_THAT(error.what(), says("memory://bucket/s00") && says("503: slow down"));
    CHECK(dataset.bad_file_count() == 0);
  }
  for (int i = 0; i < 8; ++i) memory->remove(name_of(i));
  memory->put("other", "");
  memory->on_read = {};
}

TEST_CASE("objects that are gone are an Error, not bad samples", "[store]") {
  const auto memory = store_of_samples(8);
  const FolderDataset dataset(Store(memory), kSkip);
  for (int i = 0; i < 8; ++i) memory->remove(name_of(i));
  const Error error = error_of([&] { (void)dataset.get_batch(kAll); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK_THAT(error.what(), says("gone"));
}

TEST_CASE("a request that fails now and then is made again", "[store]") {
  const auto memory = store_of_samples(8);
  std::atomic<int> calls{0};
  memory->on_read = [&](const std::string&) -> std::size_t {
    const int call = calls++;
    if (call % 3 == 0) throw outage();
    return call % 3 == 1 ? 100 : SIZE_MAX;  // cut short
  };
  for (const std::size_t workers : {0, 2}) {
    Loader loader(FolderDataset(Store(memory, StoreOptions().requests(1))).stacked(),
                  LoaderOptions().batch_size(1).workers(workers == 0 ? 0 : 1));
    std::size_t count = 0;
    for (auto& batch : loader) {
      CHECK(at::equal(batch.data[0], sample(static_cast<int>(batch.indices[0]))));
      ++count;
    }
    CHECK(count == 8);
  }
}

TEST_CASE("bad objects are skipped and replaced as bad files are", "[store]") {
  const auto memory = store_of_samples(8);
  memory->put(name_of(2), "not an array");
  memory->put(name_of(5), npy_of(sample(5)).substr(0, 140));
  const auto got = FolderDataset(Store(memory), kSkip).stacked().get_batch(kAll);
  CHECK(got.indices == std::vector<std::size_t>{0, 1, 3, 4, 6, 7});
  for (std::size_t i = 0; i < got.indices.size(); ++i) {
    CHECK(at::equal(got.data[std::int64_t(i)], sample(int(got.indices[i]))));
  }
  const FolderDataset replaced(Store(memory), kReplace);
  const auto full = replaced.stacked().get_batch(kAll);
  REQUIRE(full.indices.size() == 8);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(at::equal(full.data[std::int64_t(i)], sample(int(full.indices[i]))));
  }
  const Folder folder;
  for (int i = 0; i < 8; ++i) {
    if (i != 2 && i != 5) torch_npy::save(folder / name_of(i), sample(i));
  }
  write_bytes(folder / name_of(2), "not an array");
  write_bytes(folder / name_of(5), "");
  Request request(kAll), same(kAll);
  request.seed = same.seed = 7;
  (void)replaced.read(request);
  (void)FolderDataset(folder.path(), kReplace).read(same);
  CHECK(request.indices() == same.indices());  // the same replacements as in a folder
  CHECK(replaced.verify().size() == 2);
  const Error error = error_of([&] { (void)FolderDataset(Store(memory)).get_batch(kAll); });
  CHECK(error.code() == ErrorCode::NotNpy);
  CHECK(error.path() == "memory://bucket/s002.npy");
}

TEST_CASE("an object that is replaced in the middle of an epoch is an Error", "[store]") {
  const auto memory = store_of_samples(8);
  const FolderDataset dataset(Store(memory), kSkip);
  memory->put(name_of(3), npy_of(at::rand({20, 30})));  // larger
  Error error = error_of([&] { (void)dataset.get_batch(kAll); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK_THAT(error.what(), says("s003.npy") && says("the object was replaced"));
  memory->put(name_of(3), npy_of(at::rand({1})));  // smaller
  error = error_of([&] { (void)dataset.get_batch(kAll); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK_THAT(error.what(), says("s003.npy") && says("or the object was replaced"));
  // Of the same size, and read with one request: the new content, whole.
  memory->put(name_of(3), npy_of(sample(77)));
  CHECK(at::equal(dataset.get_batch({3})[0].data, sample(77)));
}

TEST_CASE("rows of an array that is replaced are an Error", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  memory->put("x.npy", npy_of(at::rand({100, 10})));
  memory->put("y.npy", npy_of(at::rand({100, 10})));
  const Store store(memory);
  const ArrayDataset shards(store.list());
  const ArrayDataset one(open(store, "x.npy"));
  memory->put("x.npy", npy_of(at::rand({100, 10})));  // of the same size
  for (const auto& dataset : {shards, one}) {
    const Error error = error_of([&] { (void)dataset.get_batch({1, 50}); });
    CHECK(error.code() == ErrorCode::Io);
    CHECK_THAT(error.what(), says("memory://bucket/x.npy: the object was replaced"));
  }
  CHECK(shards.get_batch({150}).size() == 1);
}

TEST_CASE("an object that is replaced while several requests read it is an Error", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  const at::Tensor before = at::rand({3, 1 << 20});  // 12 MiB
  memory->put("x.npy", npy_of(before));
  const FolderDataset dataset(Store(memory, StoreOptions().requests(1)), kSkip);
  std::atomic<int> reads{0};
  memory->on_read = [&](const std::string&) -> std::size_t {
    if (++reads == 2) memory->put("x.npy", npy_of(before + 1));
    return SIZE_MAX;
  };
  const Error error = error_of([&] { (void)dataset.get_batch({0}); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK_THAT(error.what(), says("the object was replaced"));
}
