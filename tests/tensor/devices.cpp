// Pinned memory and devices, on a machine that has no accelerator.

#include <ATen/ops/equal.h>

#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("pinned_memory(true) works without CUDA", "[memory]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 10, 10);
  const at::Tensor tensor = load(path, LoadOptions().pinned_memory(true).mmap(true));
  CHECK(at::equal(tensor, load(path)));
  if (torch_npy::detail::device_count(c10::kCUDA) != 0) CHECK(tensor.is_pinned());
}

TEST_CASE("to_device() returns a tensor that is already there, and refuses a missing device",
          "[device]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 2, 3);
  const at::Tensor tensor = load(path);
  CHECK(to_device(tensor, at::kCPU).is_same(tensor));
  CHECK_NOTHROW(to_device(tensor, default_device(), true));
  CHECK(error_of([&] { (void)to_device(at::Tensor(), at::kCPU); }).code() ==
        ErrorCode::InvalidArgument);
  CHECK(error_of([&] { (void)to_device(tensor, c10::Device(at::kXLA, 0)); }).code() ==
        ErrorCode::InvalidArgument);
  if (torch_npy::detail::device_count(c10::kCUDA) != 0) return;
  CHECK(default_device() == c10::Device(at::kCPU));
  for (const auto& error :
       {error_of([&] { (void)to_device(tensor, at::kCUDA); }),
        error_of([&] { (void)load(path, LoadOptions().device(at::kCUDA)); }),
        error_of([&] { (void)load_all({path}, LoadOptions().device(at::kCUDA)); })}) {
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("no device cuda"));
    CHECK_THAT(error.what(), says("default_device()"));
  }
}
