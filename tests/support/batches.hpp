#pragma once

// Batches that a test makes, and how they arrive.

#include <torch_npy/data/prefetch.hpp>

#include <torch/data.h>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "support/fake_device.hpp"
// After LibTorch's.
#include "support/catch.hpp"

inline const c10::Device kFake(fake_device::kType, 0);
inline const c10::Device kFake1(fake_device::kType, 1);
inline constexpr std::size_t kCount = 9;

/// A dataset whose sample `index` is a whole batch, made by a function.
template <class Batch>
struct Batches : torch::data::datasets::BatchDataset<Batches<Batch>, Batch> {
  using Make = std::function<Batch(std::size_t index)>;
  Batches(std::size_t n, Make function) : count(n), make(std::move(function)) {}

  Batch get_batch(c10::ArrayRef<std::size_t> indices) override { return make(indices[0]); }
  c10::optional<std::size_t> size() const override { return count; }

  std::size_t count;
  Make make;
};

template <class Make>
auto loader_of(std::size_t count, std::size_t workers, Make make) {
  using Batch = decltype(make(std::size_t{}));
  return torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
      Batches<Batch>(count, std::move(make)),
      torch::data::DataLoaderOptions().batch_size(1).workers(workers));
}

/// Batch `index`, all different.
inline torch_npy::Example<> numbers(std::size_t index, std::int64_t rows = 4) {
  const auto first = static_cast<std::int64_t>(index) * 1000;
  return {at::arange(first, first + rows * 3, at::kFloat).view({rows, 3}),
          at::full({rows}, first, at::kLong)};
}

inline bool is_at(const at::Tensor& tensor, c10::Device device, const at::Tensor& want) {
  return tensor.device() == device && tensor.scalar_type() == want.scalar_type() &&
         at::equal(tensor.to(at::kCPU), want);
}
inline void check_is(const torch_npy::Example<>& batch, c10::Device device,
                     const torch_npy::Example<>& want) {
  CHECK(is_at(batch.data, device, want.data));
  CHECK(is_at(batch.target, device, want.target));
}

/// One epoch of numbers() from the loader, compared as each batch arrives, and again after the
/// last.
template <class Range>
void check_epoch(Range&& range, c10::Device device, std::size_t count = kCount) {
  std::vector<torch_npy::Example<>> kept;
  for (auto& batch : range) {
    check_is(batch, device, numbers(kept.size()));
    kept.push_back(batch);
  }
  REQUIRE(kept.size() == count);
  for (std::size_t i = 0; i < count; ++i) check_is(kept[i], device, numbers(i));
}

/// Whether this thread is on its first device and stream again.
inline bool is_home() {
  return fake_device::Guard::current == 0 && fake_device::Guard::current_stream[0] == 0 &&
         fake_device::Guard::current_stream[1] == 0;
}

inline auto plain_numbers(std::size_t index) { return numbers(index); }

inline void check_device(c10::Device device) {
  INFO(device.str());
  for (const std::size_t workers : {0, 1, 4}) {
    INFO(workers << " workers");
    auto loader = loader_of(kCount, workers, plain_numbers);
    for (int epoch = 0; epoch < 3; ++epoch)
      check_epoch(torch_npy::prefetch(*loader, device), device);
    auto batches = torch_npy::prefetch(*loader, device);
    for (int epoch = 0; epoch < 3; ++epoch) check_epoch(batches, device);
  }
}

/// One batch, made by `make`, and as it arrives on the fake device.
template <class Make>
auto on_fake_device(Make make) {
  auto loader = loader_of(1, 0, make);
  std::vector<decltype(make(std::size_t{}))> got;
  for (auto& batch : torch_npy::prefetch(*loader, kFake)) got.push_back(std::move(batch));
  REQUIRE(got.size() == 1);
  return got[0];
}

inline void check_arrives_as_by_to(const at::Tensor& tensor) {
  const at::Tensor got = on_fake_device([&](std::size_t) { return tensor; });
  const at::Tensor want = tensor.to(kFake);
  CHECK(got.device() == kFake);
  CHECK(got.sizes() == want.sizes());
  CHECK(got.strides() == want.strides());
  CHECK(got.scalar_type() == want.scalar_type());
  CHECK(at::equal(got.to(at::kCPU), tensor));
}
