// Datasets over a real S3 server.

#include <torch_npy/arrow.hpp>
#include <torch_npy/data.hpp>
#include <torch_npy/tensor.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"

#include "arrow/s3.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
using torch_npy::transforms::RandomCrop;

namespace {

std::vector<std::size_t> numbers(std::size_t count) {
  std::vector<std::size_t> all(count);
  for (std::size_t i = 0; i < count; ++i) all[i] = i;
  return all;
}

}  // namespace

TEST_CASE("a small object takes one request", "[s3]") {
  Bucket bucket;
  for (int i = 0; i < 30; ++i) bucket.put(std::string("train/") + name_of(i), sample(i));
  bucket.put("train/deep/x.npy", sample(99));
  const auto store = bucket.store("train");
  const FolderDataset dataset(store);
  CHECK(dataset.size() == 30u);
  CHECK(dataset.key(3) == "s3://" + bucket.name() + "/train/s003.npy");
  CHECK(bucket.requests("GET") == 1);  // the listing
  Loader loader(dataset.stacked(), LoaderOptions().batch_size(8).workers(2).shuffle(true));
  std::size_t count = 0;
  for (auto& batch : loader) {
    for (std::size_t i = 0; i < batch.indices.size(); ++i, ++count) {
      CHECK(at::equal(batch.data[std::int64_t(i)], sample(int(batch.indices[i]))));
    }
  }
  CHECK(count == 30);
  CHECK(bucket.requests("GET") == 31);
  CHECK(bucket.requests("HEAD") == 0);
  CHECK(FolderDataset(store, FolderOptions().recursive(true)).size() == 31u);
  CHECK(dataset.verify().empty());
  CHECK(error_of([&] { FolderDataset{store.folder("none")}; }).code() == ErrorCode::NotFound);
}

TEST_CASE("large objects, rows, regions and archives of S3", "[s3]") {
  Bucket bucket;
  const at::Tensor large = at::rand({1300, 50, 40});  // 10 MB
  bucket.put("x_0.npy", large);
  bucket.put("x_1.npy", large + 1);
  torch::OrderedDict<std::string, at::Tensor> arrays;
  arrays.insert("image", large.slice(0, 0, 600));
  arrays.insert("label", at::tensor(7));
  std::ostringstream archive;
  save_npz(archive, arrays);
  bucket.put("a.npz", archive.str());
  const auto store = bucket.store();
  CHECK(at::equal(open(store, "x_1.npy").load(), large + 1));
  CHECK(at::equal(FolderDataset(store).get(1).data, large + 1));
  CHECK(at::equal(open(store, "x_0.npy").load(LoadOptions().rows(1000, 1003)),
                  large.slice(0, 1000, 1003)));
  const ArrayDataset rows(store.list("x_*.npy"));
  bucket.forget();
  const auto batch = rows.stacked().get_batch({5, 6, 7, 1302, 2599});
  CHECK(at::equal(batch.data.slice(0, 0, 3), large.slice(0, 5, 8)));
  CHECK(at::equal(batch.data[3], large[2] + 1));
  CHECK(at::equal(batch.data[4], large[1299] + 1));
  CHECK(bucket.requests("GET") == 3);
  CHECK(bucket.requests("HEAD") == 2);
  const NpzDataset archives(store, "image", "label");
  CHECK(at::equal(archives.get(0).data, arrays["image"]));
  CHECK(archives.get(0).target.item<int>() == 7);
  CHECK(at::equal(NpzFile(store.object("a.npz")).load("image"), arrays["image"]));
  bucket.forget();
  CHECK(FolderDataset(store).map(RandomCrop({4, 4, 4})).get(0).data.numel() == 64);
  CHECK(bucket.requests("GET") <= 4);
}

TEST_CASE("objects of S3 are kept on disk", "[s3]") {
  Bucket bucket;
  for (int i = 0; i < 6; ++i) bucket.put(name_of(i), sample(i));
  const Folder folder;
  for (int run = 0; run < 2; ++run) {
    const FolderDataset dataset(bucket.store().cached_on_disk(folder.path(), 1 << 20));
    for (int epoch = 0; epoch < 2; ++epoch) {
      const auto batch = dataset.stacked().get_batch(numbers(6));
      for (int i = 0; i < 6; ++i) CHECK(at::equal(batch.data[i], sample(i)));
    }
  }
  CHECK(bucket.requests("GET") == 6 + 2);  // and two listings
}

TEST_CASE("a store is made from a URI", "[s3]") {
  Bucket bucket;
  bucket.put("in/a.npy", sample(1));
  const torch_npy::arrow::Store store(
      "s3://" + bucket.name() +
      "/in?region=us-east-1&scheme=http&endpoint_override=" + from_environment("S3_SERVER"));
  CHECK(at::equal(FolderDataset(store).get(0).data, sample(1)));
  const std::string secret = "very-secret";
  const Error error = error_of(
      [&] { torch_npy::arrow::Store("s3://SOMEKEY:" + secret + "@bucket/x?nonsense=" + secret); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK(std::string(error.what()).find(secret) == std::string::npos);
  CHECK(std::string(error.what()).find("SOMEKEY") == std::string::npos);
  CHECK(error_of([&] { torch_npy::arrow::Store("nonsense"); }).code() ==
        ErrorCode::InvalidArgument);
}
