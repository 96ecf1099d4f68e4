// What appending costs, next to fwrite() of the same rows.
//
//   bench_append [folder for the files, on a disk]     default: the system's temporary folder
//
// 1 KiB rows of random float32, one call a row, each a tensor of its own that was made before.
// Opening, closing and flushing count; the files are new each time and not synced. Each figure is a
// median of 9, taken in turns: fwrite, ours, fwrite...

#include <torch_npy/append.hpp>

#include <unistd.h>

#include <ATen/ops/randn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

namespace {

using namespace torch_npy;

constexpr int kRounds = 9;
constexpr std::int64_t kRowFloats = 256;
constexpr std::size_t kRowBytes = kRowFloats * sizeof(float);

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Row i is rows[i % rows.size()].
void write_plainly(const std::filesystem::path& path, const std::vector<at::Tensor>& rows,
                   std::size_t count, std::size_t buffer) {
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) std::abort();
  std::vector<char> memory(buffer);  // glibc would take no notice of a size alone
  if (buffer != 0) std::setvbuf(file, memory.data(), _IOFBF, buffer);
  for (std::size_t i = 0; i < count; ++i) {
    const void* const row = rows[i % rows.size()].data_ptr();
    if (std::fwrite(row, 1, kRowBytes, file) != kRowBytes) std::abort();
  }
  if (std::fclose(file) != 0) std::abort();
}

void append(const std::filesystem::path& path, const std::vector<at::Tensor>& rows,
            std::size_t count) {
  Appender appender(path, {kRowFloats}, at::kFloat, SaveOptions().sync(false));
  for (std::size_t i = 0; i < count; ++i) appender.append(rows[i % rows.size()]);
  appender.close();
}

void bench_rows(const std::filesystem::path& path, std::size_t count) {
  std::vector<at::Tensor> rows;
  for (int i = 0; i < 4096; ++i) rows.push_back(at::randn({kRowFloats}));
  struct Way {
    const char* name;
    std::function<void()> work;
    std::vector<double> times;
  };
  Way ways[] = {
      {"fwrite, its default buffer", [&] { write_plainly(path, rows, count, 0); }, {}},
      {"fwrite, 64 KiB", [&] { write_plainly(path, rows, count, std::size_t{64} << 10); }, {}},
      {"fwrite, 256 KiB", [&] { write_plainly(path, rows, count, std::size_t{256} << 10); }, {}},
      {"Appender", [&] { append(path, rows, count); }, {}}};
  for (int round = 0; round <= kRounds; ++round) {
    for (Way& way : ways) {
      std::filesystem::remove(path);
      const double time = seconds(way.work);
      if (round > 0) way.times.push_back(time);  // the first one warms up
    }
  }
  std::filesystem::remove(path);

  std::printf("\n%zu rows of %zu bytes, ns a row\n", count, kRowBytes);
  std::printf("| | median | lowest - highest | Appender takes |\n|---|---|---|---|\n");
  for (Way& way : ways) std::sort(way.times.begin(), way.times.end());
  const double ours = ways[3].times[kRounds / 2];
  for (const Way& way : ways) {
    const double median = way.times[kRounds / 2];
    const double scale = 1e9 / static_cast<double>(count);
    std::printf("| %s | %.0f | %.0f - %.0f | %.2f of it |\n", way.name, median * scale,
                way.times.front() * scale, way.times.back() * scale, ours / median);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::filesystem::path parent =
        argc > 1 ? argv[1] : std::filesystem::temp_directory_path();
    const auto path = parent / ("torch_npy_bench_append_" + std::to_string(::getpid()) + ".npy");
    bench_rows(path, 10'000);
    bench_rows(path, 300'000);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
