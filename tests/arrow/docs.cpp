// The code of docs/stores.md. readme_code.cmake checks that it is the same.

#include <torch_npy.hpp>
#include <torch_npy/arrow.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/rand.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "support/catch.hpp"

#include "arrow/s3.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

TEST_CASE("docs: stores", "[s3]") {
  Bucket bucket;
  for (int i = 0; i < 4; ++i) bucket.put(std::string("train/") + name_of(i), sample(i));
  bucket.put("tokens/a.npy", at::arange(100));
  bucket.put("rows/x_0.npy", at::rand({10, 3}));
  bucket.put("volume.npy", at::rand({20, 20, 20}));
  const std::string options =
      "?region=us-east-1&scheme=http&endpoint_override=" + from_environment("S3_SERVER");
  const std::string uri = "s3://" + bucket.name() + "/train" + options;
  const torch::Device device = torch::kCPU;
  std::size_t count = 0;
  const auto train_on = [&](const auto& batch) { count += batch.indices.size(); };

  const torch_npy::arrow::Store store(uri);
  const auto images = torch_npy::FolderDataset(store).stacked();
  torch_npy::Loader loader(
      images, torch_npy::LoaderOptions().batch_size(64).shuffle(true).workers(2).device(device));
  for (auto& batch : loader) train_on(batch);
  CHECK(count == 4);

  const torch_npy::arrow::Store bucket_store("s3://" + bucket.name() + options);
  const auto tokens = torch_npy::WindowDataset(bucket_store.folder("tokens").list(), 16,
                                               torch_npy::WindowOptions().target(1, 16));
  const auto rows = torch_npy::ArrayDataset(bucket_store.folder("rows").list("x_*.npy"));
  const auto listed = torch_npy::FileDataset(store.objects({"s002.npy", "s000.npy"}));
  const auto part = torch_npy::open(bucket_store, "volume.npy")
                        .load(torch_npy::LoadOptions().region({{0, 8}, {4, 12}}));
  CHECK(tokens.size() == 84u);
  CHECK(rows.size() == 10u);
  CHECK(listed.size() == 2u);
  CHECK(part.numel() == 8 * 8 * 20);

  const Folder folder;
  const std::filesystem::path cache = folder / "cache";
  const auto kept = torch_npy::FolderDataset(store.cached_on_disk(cache, std::uint64_t{100} << 30));
  const auto in_memory = torch_npy::FolderDataset(store).cached(std::size_t{8} << 30);
  CHECK(kept.get(0).data.numel() == 6);
  CHECK(in_memory.get(0).data.numel() == 6);

  const std::string server = "127.0.0.1:1";  // nobody listens there
  auto s3_options = arrow::fs::S3Options::Defaults();
  s3_options.region = "us-east-1";
  s3_options.request_timeout = 10;  // seconds
  s3_options.retry_strategy = arrow::fs::S3RetryStrategy::GetAwsStandardRetryStrategy(3);
  if (!server.empty()) s3_options.endpoint_override = server;
  const auto files = arrow::fs::S3FileSystem::Make(s3_options).ValueOrDie();
  const torch_npy::arrow::Store more(files, "bucket/train", torch_npy::StoreOptions().requests(64));
  const torch_npy::Error error = error_of([&] { (void)more.list(); });
  CHECK(error.code() == torch_npy::ErrorCode::Io);
}
