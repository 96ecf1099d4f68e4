// Loading to a device: the fake accelerator, and CUDA where there is one.

#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <sstream>
#include <string>

#include "support/fake_device.hpp"
// After LibTorch's.
#include "support/catch.hpp"
#include "support/cuda.hpp"
#include "support/files.hpp"

using namespace torch_npy;

namespace {

void check_device(c10::Device device) {
  INFO(device.str());
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor want = at::arange(12, at::kFloat).view({3, 4}).t();
  save(path, want);

  const auto is_there = [&](const at::Tensor& tensor) {
    CHECK(tensor.device() == device);
    CHECK(tensor.strides() == want.strides());
    CHECK(at::equal(tensor.to(at::kCPU), want));
  };
  const auto on_device = LoadOptions().device(device);
  is_there(to_device(want, device));
  is_there(load(path, on_device));
  is_there(load(path, LoadOptions(on_device).mmap(true)));
  is_there(load(path, LoadOptions(on_device).pinned_memory(true)));
  for (const at::Tensor& tensor : load_all({path, path, path}, on_device)) is_there(tensor);
  const std::string bytes = [&] {
    std::ostringstream out;
    save(out, to_device(want, device));  // and back
    return out.str();
  }();
  CHECK((bytes == read_bytes(path)));
  is_there(load_bytes(bytes.data(), bytes.size(), on_device));
  std::istringstream stream(bytes);
  is_there(load(stream, on_device));
  const at::Tensor rows = load(path, LoadOptions(on_device).rows(1, 3).dtype(at::kDouble));
  CHECK(rows.device() == device);
  CHECK(at::equal(rows.to(at::kCPU), want.narrow(0, 1, 2).to(at::kDouble)));

  at::Tensor out = to_device(at::zeros({4, 3}), device);
  load_into(out, path);
  CHECK(out.device() == device);
  CHECK(at::equal(out.to(at::kCPU), want));

  const auto structured = write_bytes(folder / "fields.npy",
                                      npy(header_text("[('a', '|u1'), ('b', '>i2', (2,))]", "(2,)"),
                                          std::string("\1\0\2\0\3\4\0\5\0\6", 10)));
  for (const bool pinned : {false, true}) {
    const auto fields = load_fields(structured, LoadOptions(on_device).pinned_memory(pinned));
    for (const auto& field : fields) CHECK(field.value().device() == device);
    CHECK(at::equal(fields["a"].to(at::kCPU).to(at::kLong), at::arange(1, 5, 3)));
    CHECK(at::equal(fields["b"].to(at::kCPU).to(at::kLong).sum(1), at::arange(5, 12, 6)));
  }

  // The tensor is on the device already: no copy.
  const at::Tensor there = load(path, on_device);
  CHECK(to_device(there, device).is_same(there));
}

template <class Call>
void check_refused(const Call& call) {
  const Error error = error_of(call);
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("devices of that type: 2"));
}

}  // namespace

TEST_CASE("every load function puts tensors on the fake accelerator", "[device]") {
  check_device(c10::Device(fake_device::kType, 0));
  check_device(c10::Device(fake_device::kType, 1));
}

TEST_CASE("a load to a device copies once", "[device]") {
  const Folder folder;
  save(folder / "a.npy", at::arange(12));
  fake_device::copies = 0;
  (void)load(folder / "a.npy", LoadOptions().device(c10::Device(fake_device::kType, 0)));
  CHECK(fake_device::copies == 1);
}

TEST_CASE("a missing device is refused before the file is opened", "[device]") {
  const c10::Device third(fake_device::kType, 2);
  check_refused([&] { (void)load("no/such/file.npy", LoadOptions().device(third)); });
  check_refused([&] { (void)to_device(at::zeros({2}), third); });
}

TEST_CASE("every load function puts tensors on a CUDA device", "[cuda]") {
  if (!has_cuda()) return;
  check_device(kCuda);
  CHECK(default_device().is_cuda());
}
