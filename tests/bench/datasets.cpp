// What datasets cost, next to the bare system calls that do the same work.
//
//   bench_datasets [folder for the files, on a disk]     default: the system's temporary folder
//
// Files and the page cache are warm. Each figure is a median of 7, taken in turns: bare, ours,
// bare...

#include <torch_npy.hpp>

#include <dirent.h>
#include <malloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include <ATen/ops/randn.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <random>
#include <thread>

namespace {

namespace data = torch::data;
using namespace torch_npy;

constexpr int kRounds = 7;
constexpr std::size_t kBatch = 32;

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Spread {
  double low, median, high;
};

Spread spread_of(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  return {times.front(), times[times.size() / 2], times.back()};
}

/// Times the works in turns, after one round to warm up.
std::vector<Spread> in_turns(const std::vector<std::function<void()>>& works) {
  std::vector<std::vector<double>> times(works.size());
  for (int round = 0; round <= kRounds; ++round) {
    for (std::size_t i = 0; i < works.size(); ++i) {
      const double time = seconds(works[i]);
      if (round > 0) times[i].push_back(time);
    }
  }
  std::vector<Spread> spreads;
  for (auto& of_one : times) spreads.push_back(spread_of(std::move(of_one)));
  return spreads;
}

class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::filesystem::path& parent) {
    std::string name = (parent / "torch_npy_bench_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// One epoch of the bare calls: open, preadv into memory in use already, close.
void read_bare(const FileList& files, const std::vector<std::size_t>& order, std::size_t bytes,
               std::vector<std::vector<char>>& buffers) {
  const int folder = ::open(files.folder().c_str(), O_RDONLY | O_DIRECTORY);
  std::atomic<std::size_t> next{0};
  const auto work = [&](std::vector<char>& buffer) {
    char header[128];
    for (std::size_t first; (first = next.fetch_add(kBatch)) < order.size();) {
      char* out = buffer.data();
      for (std::size_t i = first; i < std::min(first + kBatch, order.size()); ++i, out += bytes) {
        const int fd = ::openat(folder, files.name(order[i]), O_RDONLY | O_CLOEXEC);
        const iovec parts[] = {{header, sizeof header}, {out, bytes}};
        if (::preadv(fd, parts, 2, 0) != static_cast<ssize_t>(sizeof header + bytes)) std::abort();
        ::close(fd);
      }
    }
  };
  std::vector<std::thread> threads;
  for (auto& buffer : buffers) threads.emplace_back(work, std::ref(buffer));
  for (std::thread& thread : threads) thread.join();
  ::close(folder);
}

template <class Loader>
void run_epoch(Loader& loader) {
  std::size_t seen = 0;
  for (auto& batch : loader) seen += static_cast<std::size_t>(batch.data.size(0));
  if (seen == 0) std::abort();
}

void bench_loader(const std::filesystem::path& parent, std::size_t count,
                  const std::vector<std::int64_t>& shape) {
  const TemporaryFolder folder(parent);
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const at::Tensor sample = at::randn(shape);
    bytes = sample.nbytes();
    char name[32];
    std::snprintf(name, sizeof name, "sample_%06zu.npy", i);
    save(folder.path() / name, sample, SaveOptions().sync(false));
  }
  const FolderDataset dataset(folder.path());
  std::vector<std::size_t> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937(0));

  std::printf("\nData loader, %zu files of %zu KiB, batches of %zu, shuffled, us a file\n", count,
              bytes >> 10, kBatch);
  std::printf(
      "| workers | | median | lowest - highest | of the bare speed |\n|---|---|---|---|---|\n");
  for (const std::size_t workers : {1, 2}) {
    const auto options = data::DataLoaderOptions(kBatch).workers(workers);
    std::vector<std::vector<char>> buffers(workers, std::vector<char>(kBatch * bytes));
    auto stacked = data::make_data_loader(dataset.stacked(), options);
    auto views = data::make_data_loader(
        FolderDataset(dataset).map(transforms::Stack<TensorExample>()), options);
    auto torchs = data::make_data_loader(
        FolderDataset(dataset).map(data::transforms::Stack<TensorExample>()), options);
    const auto spreads = in_turns({[&] { read_bare(dataset.files(), order, bytes, buffers); },
                                   [&] { run_epoch(*stacked); }, [&] { run_epoch(*views); },
                                   [&] { run_epoch(*torchs); }});
    const char* const names[] = {"bare calls", "stacked()", "map(Stack)", "LibTorch's Stack"};
    for (std::size_t i = 0; i < spreads.size(); ++i) {
      const double scale = 1e6 / static_cast<double>(count);
      std::printf("| %zu | %s | %.2f | %.2f - %.2f | %.2f |\n", workers, names[i],
                  spreads[i].median * scale, spreads[i].low * scale, spreads[i].high * scale,
                  spreads[0].median / spreads[i].median);
    }
    std::fflush(stdout);
  }
}

void bench_rows(const std::filesystem::path& parent) {
  constexpr std::int64_t kRows = 1 << 18, kColumns = 1024;  // 1 GiB of rows of 4 KiB
  constexpr std::size_t kRowBytes = kColumns * 4, kRowBatch = 256;
  const TemporaryFolder folder(parent);
  save(folder.path() / "rows.npy", at::randn({kRows, kColumns}), SaveOptions().sync(false));
  const ArrayDataset dataset(folder.path() / "rows.npy");
  std::vector<std::size_t> order(kRows);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937(0));

  const at::Tensor mapped = load(folder.path() / "rows.npy", LoadOptions().mmap(true));
  const char* const rows = static_cast<const char*>(mapped.data_ptr());
  std::vector<char> out(kRowBatch * kRowBytes);
  auto loader = data::make_data_loader(dataset.stacked(), data::DataLoaderOptions(kRowBatch));
  const auto spreads = in_turns({[&] {
                                   for (std::size_t i = 0; i < order.size(); ++i) {
                                     std::memcpy(&out[i % kRowBatch * kRowBytes],
                                                 rows + order[i] * kRowBytes, kRowBytes);
                                   }
                                 },
                                 [&] { run_epoch(*loader); }});
  std::printf(
      "\nArrayDataset, rows of 4 KiB of 1 GiB, batches of %zu, shuffled: %.3f us a row, "
      "gathered by memcpy %.3f us, %.2f of its speed\n",
      kRowBatch, spreads[1].median * 1e6 / kRows, spreads[0].median * 1e6 / kRows,
      spreads[0].median / spreads[1].median);
}

void bench_million(const std::filesystem::path& parent) {
  constexpr int kFiles = 1'000'000;
  const TemporaryFolder folder(parent);
  std::printf("\nMaking %d files\n", kFiles);
  std::fflush(stdout);
  std::size_t name_bytes = 0;
  for (int i = 0; i < kFiles; ++i) {
    char name[32];
    std::snprintf(name, sizeof name, "/sample_%07d.npy", i);
    name_bytes += std::strlen(name) - 1;
    ::close(::open((folder.path().string() + name).c_str(), O_CREAT | O_WRONLY, 0666));
  }
  const auto list = [&] {
    DIR* const stream = ::opendir(folder.path().c_str());
    while (::readdir(stream) != nullptr) {
    }
    ::closedir(stream);
  };
  const auto build = [&] { const FolderDataset dataset(folder.path()); };
  const auto build_natural = [&] {
    const FolderDataset dataset(folder.path(), FolderOptions().natural_order(true));
  };
  const auto spreads = in_turns({list, build, build_natural});
  // Large blocks are mapped, and counted apart.
  const auto in_use = [] { return ::mallinfo2().uordblks + ::mallinfo2().hblkhd; };
  const std::size_t before = in_use();
  const FolderDataset dataset(folder.path());
  const std::size_t used = in_use() - before;
  const std::vector<FolderDataset> copies(8, dataset);
  std::printf(
      "A folder of %d files: readdir alone %.2f s, FolderDataset %.2f s, in natural order "
      "%.2f s\n",
      kFiles, spreads[0].median, spreads[1].median, spreads[2].median);
  std::printf(
      "Memory: %.1f bytes a file on top of its name; 8 copies of the dataset %zu bytes more\n",
      (static_cast<double>(used) - static_cast<double>(name_bytes)) / kFiles,
      in_use() - before - used);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::filesystem::path parent =
        argc > 1 ? argv[1] : std::filesystem::temp_directory_path();
    bench_loader(parent, 20'000, {3, 32, 32});
    bench_loader(parent, 6'000, {3, 112, 112});
    bench_rows(parent);
    bench_million(parent);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
