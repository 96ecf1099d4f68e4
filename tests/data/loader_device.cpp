// Batches of a Loader on their way to a device.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/pad_stack.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "support/batches.hpp"
#include "support/cuda.hpp"
#include "support/loading.hpp"

using namespace torch_npy;

namespace {

/// A Loader whose batch i is make(i).
template <class Make>
auto numbered(std::size_t count, std::size_t workers, c10::Device device, Make make) {
  using B = decltype(make(std::size_t{}));
  return std::make_unique<Loader<B>>(
      counted(count), [make](Request& request) { return make(request.picks.at(0).index); },
      LoaderOptions().workers(workers).device(device));
}

/// One batch, and as it arrives on the fake device.
template <class B>
B moved(const B& batch) {
  const auto loader = numbered(1, 0, kFake, [&](std::size_t) { return batch; });
  return std::move(*loader->begin());
}

/// Moves itself, and returns the result.
struct Returning {
  at::Tensor value;
  Returning to(c10::Device device) const { return {value.to(device)}; }
};
/// Moves itself in place.
struct Changing {
  at::Tensor value;
  void to(const c10::Device& device) { value = value.to(device); }
};
/// The same, as LibTorch's modules return.
struct Chaining {
  at::Tensor value;
  Chaining& to(c10::Device device) {
    value = value.to(device);
    return *this;
  }
};

}  // namespace

TEST_CASE("a Loader moves every batch to its device, complete and in order", "[loader]") {
  for (const c10::Device& device : {c10::Device(at::kCPU), kFake, kFake1}) {
    for (const std::size_t workers : {0, 1, 4}) {
      INFO(device << ", " << workers << " workers");
      const auto loader = numbered(kCount, workers, device, plain_numbers);
      for (int epoch = 0; epoch < 3; ++epoch) {
        check_epoch(*loader, device);
        for (auto& batch : *loader) {
          check_is(batch, device, numbers(0));
          break;
        }
      }
      CHECK(is_home());
    }
  }
  CHECK(fake_device::pending == 0);  // the destructor waits for copies
}

TEST_CASE("the next batch of a Loader is copied while one is used", "[loader]") {
  std::size_t made = 0;
  const auto loader = numbered(kCount, 0, kFake, [&](std::size_t index) {
    ++made;
    CHECK(is_home());
    return numbers(index);
  });
  fake_device::log = {};
  CHECK(made == 0);
  std::size_t used = 0;
  for (auto& batch : *loader) {
    (void)batch;
    ++used;
    CHECK(made == (std::min)(used + 1, kCount));
    CHECK(static_cast<std::size_t>(fake_device::log.put_off) == 2 * made);
  }
  CHECK(used == kCount);
}

TEST_CASE("a batch is not kept back until the next one is read", "[loader]") {
  std::atomic<bool> may_read{false};
  const auto loader = numbered(3, 1, kFake, [&](std::size_t index) {
    while (index == 1 && !may_read) std::this_thread::yield();
    return numbers(index);
  });
  auto at = loader->begin();
  check_is(*at, kFake, numbers(0));
  may_read = true;
  ++at;
  check_is(*at, kFake, numbers(1));
}

TEST_CASE("on the CPU a Loader copies nothing", "[loader]") {
  std::vector<void*> made;
  const auto loader = numbered(kCount, 0, at::kCPU, [&](std::size_t index) {
    auto batch = numbers(index);
    made.push_back(batch.data.data_ptr());
    return batch;
  });
  for (auto& batch : *loader) CHECK(batch.data.data_ptr() == made.back());
  CHECK(loader->stats().bytes == kCount * (4 * 3 * 4 + 4 * 8));
  // What the dataset made on another device stays there.
  const auto there = numbered(1, 0, at::kCPU, [](std::size_t) { return at::arange(3).to(kFake); });
  CHECK(there->begin()->device() == kFake);
}

TEST_CASE("a Loader uses two sets of buffers and one stream", "[loader]") {
  fake_device::log = {};
  const auto loader = numbered(30, 2, kFake, plain_numbers);
  check_epoch(*loader, kFake, 30);
  check_epoch(*loader, kFake, 30);
  CHECK(fake_device::log.put_off == 120);
  CHECK(fake_device::log.sources.size() == 4);
  CHECK(fake_device::log.copied_on.size() == 1);
}

TEST_CASE("the compute stream waits for the copies of a Loader and keeps their memory",
          "[loader]") {
  const c10::impl::VirtualGuardImpl impl(fake_device::kType);
  const auto loader = numbered(kCount, 0, kFake1, plain_numbers);
  for (const c10::Stream& computing :
       {impl.getStream(kFake1), impl.getStreamFromGlobalPool(kFake1)}) {
    INFO(computing);
    impl.exchangeStream(computing);
    fake_device::log = {};
    std::size_t index = 0;
    for (auto& batch : *loader) {
      CHECK(impl.getDevice() == kFake);
      CHECK(impl.getStream(kFake1) == computing);
      check_is(batch, kFake1, numbers(index++));
      CHECK(fake_device::log.recorded.count(batch.data.data_ptr()) == 1);
      CHECK(fake_device::log.recorded.count(batch.target.data_ptr()) == 1);
    }
    CHECK(index == kCount);
    CHECK(fake_device::log.blocked == std::unordered_set<c10::Stream>{computing});
    CHECK(fake_device::log.recorded_for == std::unordered_set<c10::Stream>{computing});
    CHECK(fake_device::log.copied_on.count(computing) == 0);
    impl.exchangeStream(c10::Stream(c10::Stream::DEFAULT, kFake1));
  }
}

TEST_CASE("a device without streams gets each batch of a Loader by a blocking copy", "[loader]") {
  fake_device::log = {};
  fake_device::has_streams = false;
  {
    const auto loader = numbered(kCount, 1, kFake1, plain_numbers);
    check_epoch(*loader, kFake1);
    (void)loader->begin();
    check_epoch(*loader, kFake1);
  }
  fake_device::has_streams = true;
  CHECK(fake_device::log.put_off == 0);
}

TEST_CASE("a device of a Loader without an index means the current device", "[loader]") {
  const c10::impl::VirtualGuardImpl impl(fake_device::kType);
  impl.setDevice(kFake1);
  const auto loader = numbered(kCount, 0, c10::Device(fake_device::kType), plain_numbers);
  impl.setDevice(kFake);
  check_epoch(*loader, kFake1);
}

TEST_CASE("epochs of a Loader with and without inference mode can alternate", "[loader]") {
  const auto loader = numbered(kCount, 1, kFake, plain_numbers);
  for (const bool is_on : {true, false, true}) {
    const c10::InferenceMode mode(is_on);
    check_epoch(*loader, kFake);
  }
}

TEST_CASE("a failed copy of a Loader throws in the turn of its batch", "[loader]") {
  for (const std::size_t workers : {0, 2}) {
    const auto loader = numbered(kCount, workers, kFake1, plain_numbers);
    auto at = loader->begin();
    std::vector<std::size_t> failed;
    std::size_t index = 0;
    fake_device::allocations_till_failure = 4;
    while (at != loader->end()) {
      check_is(*at, kFake1, numbers(index));
      ++index;
      for (bool again = true; again;) {
        try {
          ++at;
          again = false;
        } catch (const c10::Error& error) {
          CHECK_THAT(error.what(), says("out of memory"));
          CHECK(error_of([&] { (void)*at; }).code() == ErrorCode::InvalidArgument);
          failed.push_back(index++);
        }
      }
    }
    CHECK(is_home());
    CHECK(failed.size() == 1);
    CHECK(index == kCount);
    check_epoch(*loader, kFake1);
  }
}

TEST_CASE("exceptions come in their turn on a device too", "[loader]") {
  for (const std::size_t workers : {0, 1, 4}) {
    const auto loader = numbered(kCount, workers, kFake, [](std::size_t index) {
      if (index % 3 == 1) throw std::runtime_error(std::to_string(index));
      return numbers(index);
    });
    auto at = loader->begin();
    for (std::size_t index = 0; index < kCount; ++index) {
      if (index != 0 && index % 3 == 1) {
        CHECK_THROWS_WITH(++at, std::to_string(index));
        continue;
      }
      if (index != 0) ++at;
      check_is(*at, kFake, numbers(index));
    }
    ++at;
    CHECK(at == loader->end());
  }
}

TEST_CASE("a batch counts as used on a device when the loop gets it", "[loader]") {
  for (const std::size_t workers : {0, 2}) {
    const auto loader = numbered(kCount, workers, kFake, plain_numbers);
    std::size_t used = 0;
    for (auto& batch : *loader) {
      (void)batch;
      ++used;
      CHECK(loader->state().samples == (used == kCount ? 0 : used));
      CHECK(loader->stats().batches == used);
    }
    loader->restore([&] {
      auto at = loader->begin();
      ++at;
      return loader->state();
    }());
    check_is(*loader->begin(), kFake, numbers(2));
    CHECK(loader->stats().copied > 0);
  }
}

TEST_CASE("skipped batches are not copied", "[loader]") {
  for (const std::size_t workers : {0, 2}) {
    Loader<Example<>> loader(
        counted(kCount),
        [](Request& request) {
          const std::size_t index = request.picks[0].index;
          if (index % 2 == 1) request.picks.clear();
          return numbers(index);
        },
        LoaderOptions().workers(workers).device(kFake));
    std::size_t index = 0;
    for (auto& batch : loader) {
      check_is(batch, kFake, numbers(index));
      index += 2;
    }
    CHECK(index == 10);
  }
}

TEST_CASE("a Loader moves every type of batch with tensors", "[loader]") {
  const at::Tensor want = at::arange(3);
  const auto is_there = [&](const at::Tensor& tensor) { return is_at(tensor, kFake, want); };
  CHECK(is_there(moved(want)));
  CHECK(is_there(moved(std::vector<at::Tensor>(2, want))[1]));
  CHECK(is_there(moved(std::vector<Example<>>(2, Example<>(want, want)))[1].target));

  Batch<> batch(want, want);
  batch.indices = {5, 6, 7};
  CHECK(is_there(moved(batch).target));
  CHECK(moved(batch).indices == Indices{5, 6, 7});
  CHECK(is_there(moved(Batch<TensorExample>(want)).data));

  NamedBatch named(NamedExample({{"image", want}, {"mask", want}}));
  named.indices = {1};
  CHECK(is_there(moved(named)["mask"]));
  CHECK(moved(named).indices == Indices{1});

  PaddedBatch<> padded(want, want);
  padded.lengths = padded.target_lengths = want;
  CHECK(is_there(moved(padded).data));
  CHECK(is_there(moved(padded).lengths));
  CHECK(is_there(moved(padded).target_lengths));
  PaddedBatch<NamedExample> named_padded;
  named_padded.items().emplace_back("text", want);
  named_padded.lengths.items().emplace_back("text", want);
  CHECK(is_there(moved(named_padded)["text"]));
  CHECK(is_there(moved(named_padded).lengths["text"]));

  Samples<> samples(std::vector<Example<>>(2, Example<>(want, {})));
  samples.indices = {3, 4};
  CHECK(is_there(moved(samples).at(1).data));
  CHECK(!moved(samples).at(1).target.defined());
  CHECK(moved(samples).indices == Indices{3, 4});
}

TEST_CASE("padded batches with names arrive on the device, with their lengths", "[loader]") {
  const auto words = ArrayDataset(at::arange(9)).map([](const TensorExample& one) {
    return NamedExample({{"text", at::arange(one.data.item<int>() + 1)}, {"label", one.data}});
  });
  for (const std::size_t workers : {0, 2}) {
    Loader loader(words.map(transforms::PadStack(-1)),
                  LoaderOptions().batch_size(4).workers(workers).device(kFake));
    std::int64_t seen = 0;
    for (auto& batch : loader) {
      CHECK(batch["text"].device() == kFake);
      CHECK(batch.lengths["text"].device() == kFake);
      const at::Tensor text = batch["text"].to(at::kCPU);
      const at::Tensor lengths = batch.lengths["text"].to(at::kCPU);
      for (std::int64_t row = 0; row < text.size(0); ++row, ++seen) {
        CHECK(lengths[row].item<std::int64_t>() == seen + 1);
        CHECK(at::equal(text[row].narrow(0, 0, seen + 1), at::arange(seen + 1)));
        CHECK((text[row].narrow(0, seen + 1, text.size(1) - seen - 1) == -1).all().item<bool>());
      }
    }
    CHECK(seen == 9);
  }
}

TEST_CASE("another type of batch is moved by its member to(device)", "[loader]") {
  const at::Tensor want = at::arange(3);
  CHECK(is_at(moved(Returning{want}).value, kFake, want));
  CHECK(is_at(moved(Changing{want}).value, kFake, want));
  CHECK(is_at(moved(Chaining{want}).value, kFake, want));

  const Error error = error_of([&] { (void)moved(std::string("no tensor")); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("to(device)"));
  const auto on_host = numbered(1, 0, at::kCPU, [](std::size_t) { return std::string("ok"); });
  CHECK(*on_host->begin() == "ok");
}

TEST_CASE("every batch of a Loader arrives on a CUDA device", "[cuda]") {
  if (!has_cuda()) return;
  for (const std::size_t workers : {0, 1, 4}) {
    const auto loader = numbered(kCount, workers, kCuda, plain_numbers);
    for (int epoch = 0; epoch < 3; ++epoch) check_epoch(*loader, kCuda);
    (void)loader->begin();
    check_epoch(*loader, kCuda);
  }
}

TEST_CASE("a Loader moves tensors that need a gradient, or are conjugated, as Tensor::to() does") {
  const at::Tensor weight = at::arange(4, at::kFloat).set_requires_grad(true);
  CHECK(moved(weight).requires_grad());
  const at::Tensor complex = at::arange(4, at::kFloat).to(at::kComplexFloat);
  const at::Tensor conjugated = (complex * c10::complex<float>(0, 1)).conj();
  CHECK(at::equal(moved(conjugated).to(at::kCPU), conjugated));
}
