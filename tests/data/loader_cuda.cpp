// Loader on a CUDA device: streams, failures, and memory that is used again.

#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/loader.hpp>

#include <ATen/ops/zeros.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "support/batches.hpp"
#include "support/checksums.hpp"
#include "support/cuda.hpp"
#include "support/loading.hpp"
#include "support/samples.hpp"

using namespace torch_npy;

namespace {

/// A Loader of checked_batch()es.
auto checked_loader(c10::Device device, std::size_t count, std::size_t workers) {
  return std::make_unique<Loader<Example<>>>(
      counted(count),
      [](Request& request) { return slow_checked_batch(request.picks.at(0).index); },
      LoaderOptions().workers(workers).device(device));
}

/// Long epochs, with and without workers, and epochs that are left early while copies are made.
void check_long_epochs(c10::Device device, std::size_t count) {
  check_checksums(*checked_loader(device, count, 4), device, count);
  const std::size_t few = count / 20;
  check_checksums(*checked_loader(device, few, 0), device, few);
  const auto loader = checked_loader(device, few, 2);
  for (std::size_t stop = 1; stop < 10; ++stop) {
    std::size_t used = 0;
    for (auto& batch : *loader) {
      (void)batch;
      if (++used == stop) break;
    }
  }
  check_checksums(*loader, device, few);
}

constexpr int kSampleFiles = 40;

/// Two bad files and a transform that throws: the batches between arrive, and so does the next
/// epoch, when the files are good again.
void check_failures(c10::Device device) {
  const Folder folder;
  fill_folder(folder, kSampleFiles);
  std::atomic<bool> throws{true};
  const auto dataset = FolderDataset(folder.path()).stacked().map([&](Batch<TensorExample> batch) {
    if (throws && batch.data.flatten()[0].item<float>() == 2000) throw std::runtime_error("no");
    return batch;
  });
  for (const std::size_t workers : {0, 3}) {
    INFO(device << ", " << workers << " workers");
    Loader loader(dataset, LoaderOptions().batch_size(4).workers(workers).device(device));
    const auto check_all = [&](const std::vector<int>& bad) {
      std::vector<int> failed;
      const auto check_next = [&](int batch, auto step) {
        try {
          step();
        } catch (const Error&) {
          failed.push_back(batch);
          return;
        }
      };
      auto at = loader.begin();
      for (int batch = 0; batch < kSampleFiles / 4; ++batch) {
        if (batch != 0) check_next(batch, [&] { ++at; });
        if (!failed.empty() && failed.back() == batch) continue;
        CHECK(is_at(at->data, device, samples(kSampleFiles).narrow(0, 4 * batch, 4)));
      }
      ++at;
      CHECK(at == loader.end());
      CHECK(failed == bad);
    };
    throws = true;
    damage(folder, {9, 30});  // in batches 2 and 7; batch 5 begins with sample 20
    check_all({2, 5, 7});
    throws = false;
    fill_folder(folder, kSampleFiles);
    check_all({});
  }
}

}  // namespace

TEST_CASE("checksums of a Loader's batches are right on the CPU", "[loader]") {
  check_long_epochs(at::kCPU, 200);
}

TEST_CASE("a stream of the program sees complete batches of a Loader on a CUDA device", "[cuda]") {
  if (!has_cuda()) return;
  check_long_epochs(kCuda, batches_of_long_test(10000));
}

TEST_CASE("a Loader on a device goes on after bad files and transforms that throw", "[loader]") {
  check_failures(at::kCPU);
  check_failures(kFake);
}

TEST_CASE("a Loader on a CUDA device goes on after bad files and transforms that throw", "[cuda]") {
  if (!has_cuda()) return;
  check_failures(kCuda);
}

TEST_CASE("a batch that does not fit on a CUDA device throws in its turn", "[cuda][full]") {
  if (!has_cuda()) return;
  constexpr std::size_t kLarge = 3;
  const Example<> large(at::zeros({FullDevice::kTooLarge}, at::kByte), at::zeros({1}));
  Loader<Example<>> loader(
      counted(kCount),
      [&](Request& request) {
        const std::size_t index = request.picks.at(0).index;
        return index == kLarge ? large : numbers(index);
      },
      LoaderOptions().workers(2).device(kCuda));
  auto at = loader.begin();
  check_is(*at, kCuda, numbers(0));
  {
    const FullDevice full(kCuda);
    for (std::size_t index = 1; index < kLarge; ++index) {
      ++at;
      check_is(*at, kCuda, numbers(index));
    }
    CHECK_THROWS_AS(++at, std::exception);
  }
  for (std::size_t index = kLarge + 1; index < kCount; ++index) {
    ++at;
    check_is(*at, kCuda, numbers(index));
  }
  std::size_t index = 0;
  for (auto& batch : loader) {
    check_is(batch, kCuda, index == kLarge ? large : numbers(index));
    ++index;
  }
  CHECK(index == kCount);
}

TEST_CASE("a Loader moves batches to the second CUDA device", "[cuda]") {
  if (!has_cuda(2)) return;
  check_long_epochs(kCuda1, batches_of_long_test(1000));
  check_failures(kCuda1);
}
