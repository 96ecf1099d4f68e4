// Every way to load to a device, for every dtype, compared with loading to the CPU; and the memory
// of CUDA devices.

#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save_npz.hpp>
#include <torch_npy/tensor/sparse.hpp>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <exception>
#include <filesystem>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "support/arrays.hpp"
#include "support/cuda.hpp"
#include "support/fake_device.hpp"
// After LibTorch's.
#include "support/catch.hpp"

using namespace torch_npy;

namespace {

const std::filesystem::path kData = TORCH_NPY_TEST_DATA;

/// Whether `got` is `want`, bit for bit, on the device.
bool is_copy(const at::Tensor& got, const at::Tensor& want, c10::Device device) {
  return got.device() == device && got.scalar_type() == want.scalar_type() &&
         got.sizes() == want.sizes() && bytes_of(got.to(at::kCPU)) == bytes_of(want);
}

/// The same, with the same strides.
bool is_same(const at::Tensor& got, const at::Tensor& want, c10::Device device) {
  return is_copy(got, want, device) && got.strides() == want.strides();
}

void check_dicts(const torch::OrderedDict<std::string, at::Tensor>& got,
                 const torch::OrderedDict<std::string, at::Tensor>& want, c10::Device device) {
  REQUIRE(got.keys() == want.keys());
  for (const auto& item : got) CHECK(is_copy(item.value(), want[item.key()], device));
}

/// load_into() tensors of several layouts. Elements between those of a strided one stay as they
/// are.
void check_load_into(const std::filesystem::path& path, c10::Device device,
                     const LoadOptions& options) {
  const at::Tensor want = load(path, options);
  const auto on_device = want.options().device(device);
  at::Tensor out = at::empty(want.sizes(), on_device);
  load_into(out, path, options);
  CHECK(is_copy(out, want, device));
  out = at::empty_strided(want.sizes(), want.strides(), on_device);
  load_into(out, path, options);
  CHECK(is_copy(out, want, device));

  // The fake device has no views. CUDA has a limit on the number of axes.
  if (want.dim() == 0 || want.dim() > 8 || device.type() == fake_device::kType) return;
  std::vector<std::int64_t> sizes = want.sizes().vec();
  sizes.back() *= 2;
  const at::Tensor wide = at::zeros(sizes, want.options()).to(device);
  load_into(wide.slice(-1, 0, sizes.back(), 2), path, options);
  CHECK(is_copy(wide.slice(-1, 0, sizes.back(), 2), want, device));
  CHECK(
      is_copy(wide.slice(-1, 1, sizes.back(), 2), at::zeros(want.sizes(), want.options()), device));
}

void check_array_file(const std::filesystem::path& path, c10::Device device) {
  const at::Tensor want = load(path);
  const auto there = LoadOptions().device(device);
  CHECK(is_same(load(path, there), want, device));
  CHECK(is_same(load(path, LoadOptions(there).mmap(true)), want, device));
  CHECK(is_same(load(path, LoadOptions(there).pinned_memory(true)), want, device));
  CHECK(is_same(load(path, LoadOptions(there).threads(3)), want, device));
  CHECK(is_same(to_device(want, device), want, device));
  CHECK(is_same(to_device(load(path, LoadOptions().pinned_memory(true)), device, true), want,
                device));
  for (const at::Tensor& each : load_all({path, path}, there)) CHECK(is_same(each, want, device));
  const std::string bytes = read_bytes(path);
  CHECK(is_same(load_bytes(bytes.data(), bytes.size(), there), want, device));
  std::istringstream stream(bytes);
  CHECK(is_same(load(stream, there), want, device));
  CHECK(is_same(torch_npy::open(path).load(there), want, device));
  CHECK(is_same(open_bytes(bytes.data(), bytes.size()).load(there), want, device));
  at::Tensor out = at::empty(want.sizes(), want.options().device(device));
  torch_npy::open(path).load_into(out);
  CHECK(is_copy(out, want, device));
  check_load_into(path, device, {});
  if (!want.is_complex()) check_load_into(path, device, LoadOptions().dtype(at::kDouble));

  if (want.dim() == 0 || want.size(0) == 0) return;
  auto region = LoadOptions().region({{want.size(0) / 2, want.size(0)}});
  for (const bool mapped : {false, true}) {
    region.mmap(mapped);
    const at::Tensor part = load(path, region);
    CHECK(is_copy(load(path, LoadOptions(region).device(device)), part, device));
    CHECK(is_copy(torch_npy::open(path).load(LoadOptions(region).device(device)), part, device));
  }
  region.mmap(false).region({{-1, want.size(0)}}).out_of_bounds(OutOfBounds::Fill).fill_value(1);
  const at::Tensor filled = load(path, region);
  CHECK(is_copy(load(path, region.device(device)), filled, device));
}

void check_every_way(c10::Device device) {
  INFO(device);
  std::size_t arrays = 0;
  for (const Expected& want : read_expected()) {
    if (expected_type(want.descr) == at::ScalarType::Undefined) continue;
    INFO(want.path.filename().string());
    check_array_file(want.path, device);
    ++arrays;
  }
  CHECK(arrays > 100);

  const auto options = LoadOptions().strings_as_codes(true).void_as(at::kShort);
  std::size_t structured = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kData / "fields")) {
    if (entry.path().extension() != ".npy") continue;
    INFO(entry.path().filename().string());
    torch::OrderedDict<std::string, at::Tensor> want;
    try {
      want = load_fields(entry.path(), options);
    } catch (const Error&) {
      continue;  // has a dtype that this LibTorch does not have
    }
    for (const bool pinned : {false, true}) {
      const auto there = LoadOptions(options).device(device).pinned_memory(pinned);
      check_dicts(load_fields(entry.path(), there), want, device);
      check_dicts(torch_npy::open(entry.path()).load_fields(there), want, device);
    }
    ++structured;
  }
  CHECK(structured > 20);

  const auto path = kData / "npz" / "savez.npz";
  const auto want = load_npz(path);
  REQUIRE(want.size() > 10);
  for (const bool mapped : {false, true}) {
    const auto there = LoadOptions().device(device).mmap(mapped);
    check_dicts(load_npz(path, there), want, device);
    const NpzFile file(path);
    for (const auto& item : want) {
      CHECK(is_copy(file.load(item.key(), there), item.value(), device));
      CHECK(is_copy(file[item.key()].load(there), item.value(), device));
    }
  }
  const std::string bytes = read_bytes(path);
  const auto there = LoadOptions().device(device);
  check_dicts(load_npz(NpzFile(bytes.data(), bytes.size()), there), want, device);
  std::istringstream stream(bytes);
  const NpzFile in_stream(stream);
  check_dicts(load_npz(in_stream, in_stream.names(), there), want, device);
}

/// Matrices of each layout that to_sparse_csr() and the like make.
void check_sparse(c10::Device device) {
  const Folder folder;
  const at::Tensor dense = (at::arange(48) % 3).view({6, 8}).to(at::kFloat);
  const std::vector<at::Tensor> matrices{dense.to_sparse(), dense.to_sparse_csr()};
  for (const at::Tensor& matrix : matrices) {
    const auto path = folder / "m.npz";
    save_sparse(path, matrix, SaveNpzOptions().sync(false));
    for (const bool pinned : {false, true}) {
      const at::Tensor got = load_sparse(path, LoadOptions().device(device).pinned_memory(pinned));
      CHECK(got.device() == device);
      CHECK(got.layout() == matrix.layout());
      CHECK(at::equal(got.to_dense().to(at::kCPU), dense));
    }
    save_sparse(folder / "back.npz", load_sparse(path, LoadOptions().device(device)));
    CHECK(read_bytes(folder / "back.npz") == read_bytes(path));
  }
}

/// Loads many files of different sizes into pinned memory, and copies each to the device without
/// waiting. The memory is free at once, and LibTorch gives it to one of the next files, whose
/// content would show in the sum of the first if that was not copied yet.
void check_pinned_memory(c10::Device device, std::size_t count) {
  constexpr std::int64_t kFiles = 16;
  const Folder folder;
  std::vector<std::int64_t> sums;
  for (std::int64_t i = 0; i < kFiles; ++i) {
    const at::Tensor numbers = at::arange((i % 4 + 1) * 50000) * (i + 1);
    save(folder / std::to_string(i), numbers, SaveOptions().sync(false));
    sums.push_back(numbers.sum().item<std::int64_t>());
  }
  const auto work = [&] {
    const OwnStream own(device);
    at::Tensor got = at::zeros({static_cast<std::int64_t>(count)}, at::kLong).to(device);
    for (std::size_t i = 0; i < count; ++i) {
      const auto file = static_cast<std::int64_t>(i * 7 % kFiles);
      const auto numbers = to_device(
          load(folder / std::to_string(file), LoadOptions().pinned_memory(true)), device, true);
      got.narrow(0, static_cast<std::int64_t>(i), 1).copy_(numbers.sum().view({1}));
    }
    got = got.to(at::kCPU);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < count; ++i) {
      wrong += got[static_cast<std::int64_t>(i)].item<std::int64_t>() != sums[i * 7 % kFiles];
    }
    return wrong;
  };
  std::vector<std::size_t> wrong(4, 1);
  std::vector<std::thread> threads;
  for (std::size_t& mine : wrong) threads.emplace_back([&] { mine = work(); });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<std::size_t>(4, 0));
}

}  // namespace

TEST_CASE("every way to a device gives the bits of every dtype", "[device]") {
  check_every_way(at::kCPU);
  check_every_way(c10::Device(fake_device::kType, 0));
}

TEST_CASE("a sparse matrix is loaded to a device, and saved from there", "[device]") {
  check_sparse(at::kCPU);
}

TEST_CASE("a sparse matrix is loaded to a CUDA device, and saved from there", "[cuda]") {
  if (!has_cuda()) return;
  check_sparse(kCuda);
}

TEST_CASE("every way to a CUDA device gives the bits of every dtype", "[cuda]") {
  if (!has_cuda()) return;
  check_every_way(kCuda);
}

TEST_CASE("every way to the second CUDA device gives the bits of every dtype", "[cuda]") {
  if (!has_cuda(2)) return;
  check_every_way(kCuda1);
}

TEST_CASE("pinned memory may be destroyed right after a copy to a device", "[device]") {
  check_pinned_memory(at::kCPU, 10);
}

TEST_CASE("pinned memory may be destroyed right after a copy to a CUDA device", "[cuda]") {
  if (!has_cuda()) return;
  check_pinned_memory(kCuda, batches_of_long_test(1000));
}

TEST_CASE("after a load that does not fit on a CUDA device, others succeed", "[cuda][full]") {
  if (!has_cuda()) return;
  const Folder folder;
  const at::Tensor large = at::arange(FullDevice::kTooLarge / 8), small = at::arange(100);
  save(folder / "large.npy", large, SaveOptions().sync(false));
  save(folder / "small.npy", small, SaveOptions().sync(false));
  for (const bool pinned : {false, true}) {
    const auto there = LoadOptions().device(kCuda).pinned_memory(pinned);
    {
      const FullDevice full(kCuda);
      CHECK_THROWS_AS(load(folder / "large.npy", there), std::exception);
      CHECK_THROWS_AS(load(folder / "large.npy", LoadOptions(there).mmap(true)), std::exception);
      CHECK_THROWS_AS(load_all({folder / "large.npy"}, there), std::exception);
      CHECK(is_same(load(folder / "small.npy", there), small, kCuda));
    }
    CHECK(is_same(load(folder / "large.npy", there), large, kCuda));
  }
}
