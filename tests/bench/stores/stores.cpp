// Reads all objects of a folder in S3 once, through a server at the address S3_PROXY.
//
//   stores ours|bare FOLDER REQUESTS       prints the seconds that reading took, and a sum over the
//   bytes or values
//
// ours: FolderDataset and Loader, in batches of 64. bare: Arrow alone, in as many threads.

#include <torch_npy/arrow.hpp>
#include <torch_npy/data.hpp>

#include <sys/resource.h>

#include <arrow/filesystem/s3fs.h>
#include <arrow/io/interfaces.h>
#include <arrow/io/type_fwd.h>

#include <ATen/ops/sum.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

template <class T>
T checked(::arrow::Result<T> result) {
  if (result.ok()) return std::move(*result);
  std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
  std::exit(1);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void ours(std::shared_ptr<::arrow::fs::FileSystem> files, const std::string& folder,
          std::size_t requests) {
  const torch_npy::arrow::Store store(std::move(files), folder,
                                      torch_npy::StoreOptions().requests(requests));
  const torch_npy::FolderDataset dataset(store);
  torch_npy::Loader loader(dataset.stacked(),
                           torch_npy::LoaderOptions().batch_size(64).workers(2).shuffle(true));
  const auto start = Clock::now();
  std::size_t count = 0;
  double sum = 0;
  for (auto& batch : loader) {
    count += batch.indices.size();
    sum += batch.data.view({-1})[0].item<double>();
  }
  std::printf("%.6f %zu %g\n", seconds_since(start), count, sum);
}

void bare(const std::shared_ptr<::arrow::fs::FileSystem>& files, const std::string& folder,
          std::size_t requests) {
  ::arrow::fs::FileSelector selector;
  selector.base_dir = folder;
  const auto objects = checked(files->GetFileInfo(selector));
  const auto start = Clock::now();
  std::atomic<std::size_t> next{0}, sum{0};
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < requests; ++t) {
    threads.emplace_back([&] {
      std::vector<char> bytes;
      for (std::size_t i; (i = next++) < objects.size();) {
        bytes.resize(static_cast<std::size_t>(objects[i].size()));
        const auto file = checked(files->OpenInputFile(objects[i]));
        sum += static_cast<std::size_t>(checked(file->ReadAt(0, objects[i].size(), bytes.data())));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("%.6f %zu %zu\n", seconds_since(start), objects.size(), sum.load());
}

/// The largest memory that the process has had, in MiB.
double peak_memory() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

void list(std::shared_ptr<::arrow::fs::FileSystem> files, const std::string& folder) {
  const torch_npy::arrow::Store store(std::move(files), folder);
  const double before = peak_memory();
  const auto start = Clock::now();
  const torch_npy::FolderDataset dataset(store);
  std::printf("%.6f %zu %.1f\n", seconds_since(start), *dataset.size(), peak_memory() - before);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: stores ours|bare|list FOLDER REQUESTS\n"), 2;
  const auto requests = static_cast<std::size_t>(std::atoi(argv[3]));
  // As many connections as there are requests.
  (void)::arrow::io::SetIOThreadPoolCapacity(static_cast<int>(requests));
  (void)::arrow::fs::EnsureS3Initialized();
  auto options = ::arrow::fs::S3Options::FromAccessKey(std::getenv("AWS_ACCESS_KEY_ID"),
                                                       std::getenv("AWS_SECRET_ACCESS_KEY"));
  options.endpoint_override = std::getenv("S3_PROXY");
  options.scheme = "http";
  options.region = "us-east-1";
  std::shared_ptr<::arrow::fs::FileSystem> files =
      checked(::arrow::fs::S3FileSystem::Make(options));
  if (argv[1] == std::string("list")) {
    list(std::move(files), argv[2]);
  } else if (argv[1] == std::string("ours")) {
    ours(std::move(files), argv[2], requests);
  } else {
    bare(files, argv[2], requests);
    files.reset();
    (void)::arrow::fs::FinalizeS3();
  }
}
