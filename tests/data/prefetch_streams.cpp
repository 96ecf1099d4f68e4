// The streams, buffers and devices of prefetch().

#include <torch/data.h>
#include <torch_npy/data/prefetch.hpp>

#include <cstdint>
#include <unordered_set>
#include <vector>

#include "support/batches.hpp"
#include "support/catch.hpp"

using namespace torch_npy;

TEST_CASE("a buffer is reused only after its copy is complete", "[prefetch]") {
  // Nothing but the wait for a buffer makes the device copy.
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

TEST_CASE("two sets of buffers are enough for any number of batches", "[prefetch]") {
  auto loader = loader_of(30, 2, plain_numbers);
  fake_device::log = {};
  auto batches = prefetch(*loader, kFake);
  check_epoch(batches, kFake, 30);
  check_epoch(batches, kFake, 30);
  CHECK(fake_device::log.put_off == 120);
  CHECK(fake_device::log.sources.size() == 4);
}

TEST_CASE("the compute stream waits for the copies and keeps their memory", "[prefetch]") {
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

TEST_CASE("later epochs copy on the same stream", "[prefetch]") {
  auto loader = loader_of(kCount, 0, plain_numbers);
  fake_device::log = {};
  for (int epoch = 0; epoch < 3; ++epoch) check_epoch(prefetch(*loader, kFake), kFake);
  CHECK(fake_device::log.copied_on.size() == 1);
}

TEST_CASE("a device without streams gets each batch by a blocking copy", "[prefetch]") {
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

TEST_CASE("a missing device is refused before anything is read", "[prefetch]") {
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

TEST_CASE("a device without an index means the current device", "[prefetch]") {
  auto loader = loader_of(kCount, 0, plain_numbers);
  const c10::impl::VirtualGuardImpl impl(fake_device::kType);
  impl.setDevice(kFake1);
  check_epoch(prefetch(*loader, c10::Device(fake_device::kType)), kFake1);
  impl.setDevice(kFake);
}
