// Batches on their way to a device.

#include <torch/data.h>
#include <torch_npy/data/prefetch.hpp>

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <vector>

#include "support/batches.hpp"
#include "support/catch.hpp"
#include "support/cuda.hpp"

using namespace torch_npy;

namespace {

struct CountDown : torch::data::datasets::StatefulDataset<CountDown, Example<>> {
  c10::optional<Example<>> get_batch(std::size_t) override {
    if (next == kCount) return c10::nullopt;
    return numbers(next++);
  }
  void reset() override { next = 0; }
  c10::optional<std::size_t> size() const override { return kCount; }
  void save(torch::serialize::OutputArchive&) const override {}
  void load(torch::serialize::InputArchive&) override {}

  std::size_t next = 0;
};

}  // namespace

TEST_CASE("every batch arrives complete and in order", "[prefetch]") {
  check_device(at::kCPU);
  check_device(kFake);
  check_device(kFake1);
}

TEST_CASE("the next batch is copied while one is used", "[prefetch]") {
  std::size_t made = 0;
  auto loader = loader_of(kCount, 0, [&](std::size_t index) {
    ++made;
    CHECK(is_home());  // the dataset does not run on the stream of the copies
    return numbers(index);
  });
  fake_device::log = {};
  auto batches = prefetch(*loader, kFake);
  CHECK(made == 0);
  std::size_t used = 0;
  for (auto& batch : batches) {
    (void)batch;
    ++used;
    CHECK(made == (std::min)(used + 1, kCount));
    CHECK(static_cast<std::size_t>(fake_device::log.put_off) == 2 * made);
  }
  CHECK(used == kCount);
}

TEST_CASE("on the CPU the batches are those of the loader, without a copy", "[prefetch]") {
  std::vector<void*> made;
  auto loader = loader_of(kCount, 0, [&](std::size_t index) {
    auto batch = numbers(index);
    made.push_back(batch.data.data_ptr());
    return batch;
  });
  std::size_t used = 0;
  for (const c10::Device& device : {c10::Device(at::kCPU), c10::Device(at::kCPU, 0)}) {
    used = 0;
    made.clear();
    for (auto& batch : prefetch(*loader, device)) {
      CHECK(made.size() == ++used);  // nothing is read ahead
      CHECK(batch.data.data_ptr() == made.back());
    }
    CHECK(used == kCount);
  }
}

TEST_CASE("an empty epoch has no batches", "[prefetch]") {
  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of(0, workers, plain_numbers);
    check_epoch(prefetch(*loader, kFake), kFake, 0);
    check_epoch(prefetch(*loader, at::kCPU), at::kCPU, 0);
  }
}

TEST_CASE("epochs with and without inference mode can alternate", "[prefetch]") {
  auto loader = loader_of(kCount, 1, plain_numbers);
  auto batches = prefetch(*loader, kFake);
  for (const bool is_on : {true, false, true}) {
    const c10::InferenceMode mode(is_on);
    check_epoch(batches, kFake);
  }
}

TEST_CASE("prefetch() takes loaders of stateful datasets", "[prefetch]") {
  for (const std::size_t workers : {0, 1}) {
    auto loader = torch::data::make_data_loader(CountDown(),
                                                torch::data::DataLoaderOptions(1).workers(workers));
    for (int epoch = 0; epoch < 2; ++epoch) check_epoch(prefetch(*loader, kFake), kFake);
    for (auto& batch : prefetch(*loader, kFake)) {
      check_is(batch, kFake, numbers(0));
      break;
    }
    check_epoch(prefetch(*loader, kFake), kFake);
  }
}

TEST_CASE("prefetch() takes the pointer that make_data_loader() returns", "[prefetch]") {
  auto loader = loader_of(kCount, 1, plain_numbers);
  check_epoch(prefetch(loader, kFake), kFake);
  check_epoch(prefetch(loader, at::kCPU), at::kCPU);
  loader.reset();
  const Error error = error_of([&] { (void)prefetch(loader, kFake); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("null"));
}

TEST_CASE("every batch arrives on a CUDA device", "[cuda]") {
  if (!has_cuda()) return;
  check_device(kCuda);
  // Pinned memory is copied without a buffer.
  auto loader = loader_of(kCount, 0, [](std::size_t index) {
    auto batch = numbers(index);
    return Example<>(batch.data.pin_memory(), batch.target.pin_memory());
  });
  check_epoch(prefetch(*loader, kCuda), kCuda);
}
