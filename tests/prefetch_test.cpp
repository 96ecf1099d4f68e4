// Batches on their way to a device: the fake accelerator, and CUDA where there is one.

#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/prefetch.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <torch/data.h>

#include "fake_device.hpp"
// After LibTorch's.
#include "catch.hpp"
#include "files.hpp"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace torch_npy;

namespace {

const c10::Device kFake(fake_device::kType, 0);
const c10::Device kFake1(fake_device::kType, 1);
constexpr std::size_t kCount = 9;

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

/// Batch `index`, no two of them alike.
Example<> numbers(std::size_t index, std::int64_t rows = 4) {
  const auto first = static_cast<std::int64_t>(index) * 1000;
  return {at::arange(first, first + rows * 3, at::kFloat).view({rows, 3}),
          at::full({rows}, first, at::kLong)};
}

bool is_at(const at::Tensor& tensor, c10::Device device, const at::Tensor& want) {
  return tensor.device() == device && tensor.scalar_type() == want.scalar_type() &&
         at::equal(tensor.to(at::kCPU), want);
}
void check_is(const Example<>& batch, c10::Device device, const Example<>& want) {
  CHECK(is_at(batch.data, device, want.data));
  CHECK(is_at(batch.target, device, want.target));
}

/// One epoch of numbers() from the loader, looked at as each batch comes, and again in the end.
template <class Range>
void check_epoch(Range&& range, c10::Device device, std::size_t count = kCount) {
  std::vector<Example<>> kept;
  for (auto& batch : range) {
    check_is(batch, device, numbers(kept.size()));
    kept.push_back(batch);
  }
  REQUIRE(kept.size() == count);
  for (std::size_t i = 0; i < count; ++i) check_is(kept[i], device, numbers(i));
}

/// Whoever moved to another device or stream has come back.
bool is_home() {
  return fake_device::Guard::current == 0 && fake_device::Guard::current_stream[0] == 0 &&
         fake_device::Guard::current_stream[1] == 0;
}

auto plain_numbers(std::size_t index) { return numbers(index); }

void check_device(c10::Device device) {
  INFO(device.str());
  for (const std::size_t workers : {0, 1, 4}) {
    INFO(workers << " workers");
    auto loader = loader_of(kCount, workers, plain_numbers);
    for (int epoch = 0; epoch < 3; ++epoch) check_epoch(prefetch(*loader, device), device);
    auto batches = prefetch(*loader, device);
    for (int epoch = 0; epoch < 3; ++epoch) check_epoch(batches, device);
  }
}

/// One batch, made by `make`, and as it arrives on the fake device.
template <class Make>
auto on_fake_device(Make make) {
  auto loader = loader_of(1, 0, make);
  std::vector<decltype(make(std::size_t{}))> got;
  for (auto& batch : prefetch(*loader, kFake)) got.push_back(std::move(batch));
  REQUIRE(got.size() == 1);
  return got[0];
}

void check_arrives_as_by_to(const at::Tensor& tensor) {
  const at::Tensor got = on_fake_device([&](std::size_t) { return tensor; });
  const at::Tensor want = tensor.to(kFake);
  CHECK(got.device() == kFake);
  CHECK(got.sizes() == want.sizes());
  CHECK(got.strides() == want.strides());
  CHECK(got.scalar_type() == want.scalar_type());
  CHECK(at::equal(got.to(at::kCPU), tensor));
}

}  // namespace

TEST_CASE("every batch arrives whole and in order", "[prefetch]") {
  check_device(at::kCPU);
  check_device(kFake);
  check_device(kFake1);
}

TEST_CASE("a buffer is written again only when its copy is done", "[prefetch]") {
  // As seldom looked at as can be: nothing but the wait makes the device copy.
  const auto rows = [](std::size_t index) { return std::int64_t{1} << (index * 5 % 7); };
  const auto make = [&](std::size_t index) { return numbers(index, rows(index)); };
  for (const bool is_growing : {false, true}) {
    auto loader = loader_of(
        20, 0, [&](std::size_t index) { return is_growing ? make(index) : numbers(index); });
    fake_device::log = {};
    std::vector<Example<>> kept;
    for (auto& batch : prefetch(*loader, kFake)) kept.push_back(batch);
    CHECK(fake_device::log.put_off == 40);
    REQUIRE(kept.size() == 20);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      check_is(kept[i], kFake, is_growing ? make(i) : numbers(i));
    }
  }
}

TEST_CASE("two sets of buffers do for any number of batches", "[prefetch]") {
  auto loader = loader_of(30, 2, plain_numbers);
  fake_device::log = {};
  auto batches = prefetch(*loader, kFake);
  check_epoch(batches, kFake, 30);
  check_epoch(batches, kFake, 30);
  CHECK(fake_device::log.put_off == 120);
  CHECK(fake_device::log.sources.size() == 4);
}

TEST_CASE("the stream that computes waits for the copies, and holds on to their memory",
          "[prefetch]") {
  const c10::impl::VirtualGuardImpl impl(fake_device::kType);
  auto loader = loader_of(kCount, 0, plain_numbers);
  for (const c10::Stream& computing :
       {impl.getStream(kFake1), impl.getStreamFromGlobalPool(kFake1)}) {
    INFO(computing);
    impl.exchangeStream(computing);
    auto batches = prefetch(*loader, kFake1);
    fake_device::log = {};
    std::size_t index = 0;
    for (auto& batch : batches) {
      CHECK(impl.getDevice() == kFake);
      CHECK(impl.getStream(kFake1) == computing);
      check_is(batch, kFake1, numbers(index++));
      CHECK(fake_device::log.recorded.count(batch.data.data_ptr()) == 1);
      CHECK(fake_device::log.recorded.count(batch.target.data_ptr()) == 1);
    }
    CHECK(index == kCount);
    CHECK(fake_device::log.blocked == std::unordered_set<c10::Stream>{computing});
    CHECK(fake_device::log.recorded_for == std::unordered_set<c10::Stream>{computing});
    CHECK(fake_device::log.copied_on.size() == 1);
    CHECK(fake_device::log.copied_on.count(computing) == 0);
    impl.exchangeStream(c10::Stream(c10::Stream::DEFAULT, kFake1));
  }
}

TEST_CASE("the next batch is on its way while one is used", "[prefetch]") {
  std::size_t made = 0;
  auto loader = loader_of(kCount, 0, [&](std::size_t index) {
    ++made;
    CHECK(is_home());  // the dataset is not run on the copies' stream
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

TEST_CASE("later epochs copy on the same stream", "[prefetch]") {
  auto loader = loader_of(kCount, 0, plain_numbers);
  fake_device::log = {};
  for (int epoch = 0; epoch < 3; ++epoch) check_epoch(prefetch(*loader, kFake), kFake);
  CHECK(fake_device::log.copied_on.size() == 1);
}

TEST_CASE("an epoch left early leaves a loader that can begin", "[prefetch]") {
  for (const c10::Device& device : {c10::Device(at::kCPU), kFake}) {
    for (const std::size_t workers : {0, 1, 4}) {
      INFO(device << ", " << workers << " workers");
      auto loader = loader_of(kCount, workers, plain_numbers);

      for (auto& batch : prefetch(*loader, device)) {
        check_is(batch, device, numbers(0));
        break;
      }
      CHECK(fake_device::pending == 0);
      check_epoch(prefetch(*loader, device), device);

      const auto throws_in_loop = [&] {
        int used = 0;
        for (auto& batch : prefetch(*loader, device)) {
          (void)batch;
          if (++used == 3) throw std::logic_error("in the loop");
        }
      };
      CHECK_THROWS_AS(throws_in_loop(), std::logic_error);
      CHECK(fake_device::pending == 0);
      check_epoch(prefetch(*loader, device), device);

      CHECK_THROWS_AS(throws_in_loop(), std::logic_error);
      check_epoch(*loader, at::kCPU);  // LibTorch's own begin()

      auto batches = prefetch(*loader, device);
      for (int epoch = 0; epoch < 2; ++epoch) {
        for (auto& batch : batches) {
          check_is(batch, device, numbers(0));
          break;
        }
      }
      check_epoch(batches, device);

      (void)*loader->begin();  // a plain loop that was left
      check_epoch(batches, device);
      CHECK(batches.begin() != batches.end());
    }
  }
}

TEST_CASE("an exception comes after the batches before it", "[prefetch]") {
  for (const c10::Device& device : {c10::Device(at::kCPU), kFake}) {
    for (const std::size_t workers : {0, 1, 4}) {
      for (const std::size_t bad : {0, 1, 3, 8}) {
        INFO(device << ", " << workers << " workers, batch " << bad);
        std::atomic<bool> is_whole{false};
        auto loader = loader_of(kCount, workers, [&](std::size_t index) {
          if (index == bad && !is_whole) throw std::runtime_error("bad batch");
          return numbers(index);
        });
        std::vector<std::size_t> got;
        const auto epoch = [&] {
          for (auto& batch : prefetch(*loader, device)) {
            check_is(batch, device, numbers(got.size()));
            got.push_back(got.size());
          }
        };
        if (workers == 0) {
          CHECK_THROWS_AS(epoch(), std::runtime_error);
        } else {
          CHECK_THROWS_AS(epoch(), torch::data::WorkerException);
        }
        CHECK(got.size() == bad);
        is_whole = true;
        check_epoch(prefetch(*loader, device), device);

        if (bad == 0) continue;  // then there is no iterator to go on with
        is_whole = false;
        auto batches = prefetch(*loader, device);
        std::vector<std::size_t> seen;
        int failures = 0;
        for (auto at = batches.begin(); at != batches.end();) {
          seen.push_back(static_cast<std::size_t>(at->target.to(at::kCPU)[0].item<int64_t>()) /
                         1000);
          const auto next = [&]() noexcept -> bool {
            try {
              ++at;
              return true;
            } catch (const std::exception&) {
              return false;
            }
          };
          while (!next()) ++failures;
        }
        CHECK(failures == 1);
        std::vector<std::size_t> want;
        for (std::size_t i = 0; i < kCount; ++i) {
          if (i != bad) want.push_back(i);
        }
        CHECK(seen == want);

        // An exception that nobody stayed for is forgotten.
        std::size_t used = 0;
        for (auto& batch : batches) {
          (void)batch;
          if (++used == bad) break;
        }
        is_whole = true;
        check_epoch(batches, device);
      }
    }
  }
}

TEST_CASE("after any number of failures the other batches come", "[prefetch]") {
  constexpr std::size_t kMany = 60;
  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of(kMany, workers, [](std::size_t index) {
      if (index % 2 == 1) throw std::runtime_error("bad batch");
      return numbers(index);
    });
    auto batches = prefetch(*loader, c10::Device(at::kCPU));
    std::size_t got = 0, failures = 0;
    for (auto at = batches.begin(); at != batches.end();) {
      check_is(*at, at::kCPU, numbers(2 * got));
      ++got;
      for (bool failed = true; failed;) {
        try {
          ++at;
          failed = false;
        } catch (const std::exception&) {
          ++failures;
        }
      }
    }
    CHECK(got == kMany / 2);
    CHECK(failures == kMany / 2);
  }
}

TEST_CASE("a copy that fails fails in its turn", "[prefetch]") {
  auto loader = loader_of(kCount, 2, plain_numbers);
  auto batches = prefetch(*loader, kFake1);
  auto at = batches.begin();
  fake_device::allocations_till_failure = 1;  // the target of batch 2
  ++at;
  CHECK(is_home());
  check_is(*at, kFake1, numbers(1));
  CHECK_THROWS_WITH(++at, says("out of memory"));
  CHECK(is_home());
  ++at;
  check_is(*at, kFake1, numbers(3));
  check_epoch(batches, kFake1);
}

TEST_CASE("on the CPU the batches are the loader's own", "[prefetch]") {
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

TEST_CASE("a device without streams gets each batch in its turn", "[prefetch]") {
  auto loader = loader_of(kCount, 1, plain_numbers);
  fake_device::log = {};
  fake_device::has_streams = false;
  check_epoch(prefetch(*loader, kFake1), kFake1);
  for (auto& batch : prefetch(*loader, kFake1)) {
    (void)batch;
    break;
  }
  fake_device::has_streams = true;
  CHECK(fake_device::log.put_off == 0);
  check_epoch(prefetch(*loader, kFake1), kFake1);
  CHECK(fake_device::log.put_off == 2 * static_cast<int>(kCount));
}

TEST_CASE("a device that is not there is refused before anything is read", "[prefetch]") {
  std::size_t made = 0;
  auto loader = loader_of(kCount, 0, [&](std::size_t index) {
    ++made;
    return numbers(index);
  });
  const Error error =
      error_of([&] { (void)prefetch(*loader, c10::Device(fake_device::kType, 2)); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("devices of that type: 2"));
  CHECK(made == 0);
}

TEST_CASE("a device without an index is the current one", "[prefetch]") {
  auto loader = loader_of(kCount, 0, plain_numbers);
  const c10::impl::VirtualGuardImpl impl(fake_device::kType);
  impl.setDevice(kFake1);
  check_epoch(prefetch(*loader, c10::Device(fake_device::kType)), kFake1);
  impl.setDevice(kFake);
}

TEST_CASE("an empty epoch has no batches", "[prefetch]") {
  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of(0, workers, plain_numbers);
    check_epoch(prefetch(*loader, kFake), kFake, 0);
    check_epoch(prefetch(*loader, at::kCPU), at::kCPU, 0);
  }
}

TEST_CASE("tensors of any shape, strides and dtype arrive as by Tensor::to", "[prefetch]") {
  const at::Tensor cube = at::arange(24).view({2, 3, 4});
  check_arrives_as_by_to(cube);
  check_arrives_as_by_to(cube.permute({2, 1, 0}));  // Fortran order
  check_arrives_as_by_to(cube.permute({1, 0, 2}));
  check_arrives_as_by_to(cube.as_strided({4, 1, 6}, {6, 77, 1}));
  check_arrives_as_by_to(cube.narrow(1, 1, 2));  // with gaps
  check_arrives_as_by_to(cube.permute({2, 0, 1}).narrow(0, 0, 2));
  check_arrives_as_by_to(cube.select(0, 1).expand({5, 3, 4}));
  check_arrives_as_by_to(cube.view({1, 2, 3, 4}).contiguous(at::MemoryFormat::ChannelsLast));
  check_arrives_as_by_to(at::zeros({}));
  check_arrives_as_by_to(at::zeros({0}));
  check_arrives_as_by_to(at::zeros({3, 0, 2}).permute({2, 1, 0}));
  for (const at::ScalarType type :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kBFloat16,
        at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble}) {
    INFO(type);
    check_arrives_as_by_to(cube.to(type));
  }
  check_arrives_as_by_to(cube.to(at::kComplexFloat).conj());
}

TEST_CASE("what need not or cannot be copied is handed on", "[prefetch]") {
  at::Tensor there = at::ones({2}).to(kFake);
  CHECK(on_fake_device([&](std::size_t) { return there; }).is_same(there));

  auto loader = loader_of(2, 1, [](std::size_t) { return Example<>(at::ones({2}), {}); });
  const auto check_no_target = [&](c10::Device device) {
    for (auto& batch : prefetch(*loader, device)) {
      CHECK(is_at(batch.data, device, at::ones({2})));
      CHECK(!batch.target.defined());
    }
  };
  check_no_target(at::kCPU);
  check_no_target(kFake);
  fake_device::has_streams = false;
  check_no_target(kFake);
  fake_device::has_streams = true;

  at::Tensor weight = at::ones({2}).set_requires_grad(true);
  CHECK(on_fake_device([&](std::size_t) { return weight; }).requires_grad());
}

TEST_CASE("every kind of batch is moved", "[prefetch]") {
  const at::Tensor want = at::arange(3);
  const auto is_there = [&](const at::Tensor& tensor) { return is_at(tensor, kFake, want); };

  CHECK(is_there(on_fake_device([&](std::size_t) { return TensorExample(want); }).data));
  for (const at::Tensor& tensor :
       on_fake_device([&](std::size_t) { return std::vector<at::Tensor>(3, want); })) {
    CHECK(is_there(tensor));
  }
  for (const auto& example : on_fake_device(
           [&](std::size_t) { return std::vector<Example<>>(3, Example<>(want, want)); })) {
    CHECK(is_there(example.data));
    CHECK(is_there(example.target));
  }
  using Named = Example<std::vector<at::Tensor>, std::string>;
  const auto named = on_fake_device([&](std::size_t) {
    return Named({want, want}, "with a name");
  });
  CHECK(is_there(named.data[1]));
  CHECK(named.target == "with a name");
  const auto flags = on_fake_device([&](std::size_t) {
    return Example<at::Tensor, std::vector<bool>>(want, {true, false});
  });
  CHECK(is_there(flags.data));
  CHECK((flags.target == std::vector<bool>{true, false}));
}

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

TEST_CASE("epochs in and out of inference mode take turns", "[prefetch]") {
  auto loader = loader_of(kCount, 1, plain_numbers);
  auto batches = prefetch(*loader, kFake);
  for (const bool is_on : {true, false, true}) {
    const c10::InferenceMode mode(is_on);
    check_epoch(batches, kFake);
  }
}

TEST_CASE("loaders of stateful datasets work too", "[prefetch]") {
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

TEST_CASE("our datasets' batches are moved, stacked or not", "[prefetch]") {
  const Folder folder;
  for (int i = 0; i < 10; ++i) {
    save(folder / (std::to_string(i) + ".npy"), at::full({2, 3}, i, at::kFloat));
  }
  const auto check = [&](auto dataset) {
    auto loader = torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
        std::move(dataset), torch::data::DataLoaderOptions(4).workers(2));
    std::int64_t seen = 0;
    for (auto& batch : prefetch(*loader, kFake)) {
      std::vector<at::Tensor> want;
      for (std::int64_t i = 0; i < batch.data.size(0); ++i, ++seen) {
        want.push_back(at::full({2, 3}, seen, at::kFloat));
      }
      CHECK(is_at(batch.data, kFake, at::stack(want)));
      CHECK(is_at(batch.target, kFake, at::stack(want)));
    }
    CHECK(seen == 10);
  };
  const PairedFolderDataset dataset(folder.path(), folder.path());
  check(dataset.stacked());
  check(
      PairedFolderDataset(dataset).map(transforms::Stack<>()).map(transforms::ToDtype(at::kFloat)));
}

TEST_CASE("a dataset's batch goes to its device in one copy", "[prefetch]") {
  const Folder folder;
  for (int i = 0; i < 4; ++i) {
    save(folder / (std::to_string(i) + ".npy"), at::full({2, 3}, i, at::kFloat));
  }
  save(folder / "4.npy", at::zeros({5}));
  FolderDataset dataset(folder.path(), FolderOptions().data_options(LoadOptions().device(kFake)));
  using Indices = std::vector<std::size_t>;
  fake_device::copies = 0;
  const auto examples = dataset.get_batch(Indices{3, 1, 2});
  CHECK(fake_device::copies == 1);
  CHECK(is_at(examples[2].data, kFake, at::full({2, 3}, 2, at::kFloat)));
  const at::Tensor stacked = dataset.get_stacked_batch(Indices{3, 1}).data;
  CHECK(is_at(stacked, kFake, at::tensor({3.F, 1.F}).view({2, 1, 1}).expand({2, 2, 3})));
  CHECK(is_at(dataset.get_batch(Indices{0, 4})[1].data, kFake, at::zeros({5})));

  save(folder / "rows.npy", at::arange(12).reshape({4, 3}));
  ArrayDataset rows(folder / "rows.npy", LoadOptions().device(kFake));
  CHECK(is_at(rows.get(2).data, kFake, at::tensor({6, 7, 8}, at::kLong)));
}

TEST_CASE("batches reach CUDA", "[cuda]") {
  if (torch_npy::detail::device_count(c10::kCUDA) == 0) {
    WARN("skipped: there is no CUDA device here");
    return;
  }
  const c10::Device device(c10::kCUDA, 0);
  check_device(device);
  // From pinned memory, which is read where it is.
  auto loader = loader_of(kCount, 0, [](std::size_t index) {
    auto batch = numbers(index);
    return Example<>(batch.data.pin_memory(), batch.target.pin_memory());
  });
  check_epoch(prefetch(*loader, device), device);
}
