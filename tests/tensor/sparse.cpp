// Sparse matrices of SciPy, and back.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/sparse.hpp>
#endif

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sparse_coo_tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/sparse.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

/// The folders in which SciPy wrote matrices.
std::vector<std::filesystem::path> scipy_folders() {
  if (const char* const other = std::getenv("TORCH_NPY_SPARSE")) return {other};
  return {TORCH_NPY_TEST_DATA "/sparse/scipy_1.10", TORCH_NPY_TEST_DATA "/sparse/scipy_1.17"};
}

c10::Layout layout_of(const std::string& format) {
  if (format == "csr") return c10::kSparseCsr;
  if (format == "csc") return c10::kSparseCsc;
  if (format == "bsr") return c10::kSparseBsr;
  REQUIRE(format == "coo");
  return c10::kSparse;
}

/// Indices and values, which are everything that a sparse tensor has but its shape.
std::vector<at::Tensor> arrays_of(const at::Tensor& tensor) {
  if (tensor.layout() == c10::kSparse) return {tensor._indices(), tensor._values()};
  if (tensor.layout() == c10::kSparseCsc) {
    return {tensor.ccol_indices(), tensor.row_indices(), tensor.values()};
  }
  return {tensor.crow_indices(), tensor.col_indices(), tensor.values()};
}

void check_same(const at::Tensor& got, const at::Tensor& want) {
  REQUIRE(got.layout() == want.layout());
  CHECK(got.sizes() == want.sizes());
  const auto got_arrays = arrays_of(got);
  const auto want_arrays = arrays_of(want);
  REQUIRE(got_arrays.size() == want_arrays.size());
  for (std::size_t i = 0; i < got_arrays.size(); ++i) {
    CHECK(got_arrays[i].scalar_type() == want_arrays[i].scalar_type());
    CHECK(got_arrays[i].sizes() == want_arrays[i].sizes());
    CHECK((bytes_of(got_arrays[i]) == bytes_of(want_arrays[i])));
  }
}

}  // namespace

TEST_CASE("load_sparse() loads the matrices of SciPy", "[sparse][scipy]") {
  std::size_t count = 0;
  for (const auto& folder : scipy_folders()) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string name = entry.path().stem().string();
      if (entry.path().extension() != ".npz" || name == "dia") continue;
      INFO(entry.path().string());
      if (NpzFile(entry.path()).is_deflated("data") && !has_deflate()) continue;
      LoadOptions options;
      // LibTorch before 2.3 has no uint16, and no later one computes with it.
      if (name.find("uint16") != name.npos) options.dtype(at::kLong);
      const at::Tensor want =
          load(std::filesystem::path(entry.path()).replace_extension(".npy"), options);
      for (const bool mmap : {false, true}) {
        const at::Tensor got = load_sparse(entry.path(), LoadOptions(options).mmap(mmap));
        CHECK(got.layout() == layout_of(name.substr(0, 3)));
        CHECK(got.sizes() == want.sizes());
        CHECK(got.scalar_type() == want.scalar_type());
        CHECK((bytes_of(got.to_dense()) == bytes_of(want)));
      }
      ++count;
    }
  }
  CHECK(count >= (has_deflate() ? 38 : 20));
}

TEST_CASE("SciPy and load_sparse() load what save_sparse() writes, bit for bit",
          "[sparse][scipy]") {
  const Folder own;
  const char* const other = std::getenv("TORCH_NPY_WRITE_TO");
  const std::filesystem::path folder = other ? std::filesystem::path(other) : own.path();
  const at::Tensor numbers = at::arange(48).mul(37).remainder(101).view({6, 8});
  const at::Tensor some = numbers.mul(numbers.remainder(3).eq(1));
  const auto add = [&](const at::Tensor& sparse, const at::Tensor& dense, const std::string& name) {
    INFO(name);
    save(folder / (name + ".npy"), dense);
    const auto path = folder / (name + ".npz");
    save_sparse(path, sparse, SaveNpzOptions().compressed(has_deflate() && dense.dim() % 2 == 0));
    check_same(load_sparse(path), sparse);
    CHECK((bytes_of(load_sparse(path).to_dense()) == bytes_of(dense)));
    const std::string bytes = read_bytes(path);
    save_sparse(path, load_sparse(path), SaveNpzOptions().compressed(has_deflate()));
    CHECK((read_bytes(path) == bytes));
  };
  for (const auto type : {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong,
                          at::kFloat, at::kDouble, at::kComplexFloat, at::kComplexDouble}) {
    const at::Tensor dense = some.to(type);
    const std::string name = c10::toString(type);
    const at::Tensor csr = some.to(at::kDouble).to_sparse_csr();
    for (const auto index : {at::kInt, at::kLong}) {
      const std::string suffix = name + (index == at::kInt ? "_32" : "_64");
      const auto compressed = [&](const at::Tensor& rows, const at::Tensor& columns,
                                  const at::Tensor& values, c10::Layout layout) {
        return at::_sparse_compressed_tensor_unsafe(rows.to(index), columns.to(index),
                                                    values.to(type), {6, 8},
                                                    at::TensorOptions(type).layout(layout));
      };
      add(compressed(csr.crow_indices(), csr.col_indices(), csr.values(), c10::kSparseCsr), dense,
          "csr_" + suffix);
      const at::Tensor csc = some.to(at::kDouble).t().contiguous().to_sparse_csr();
      add(compressed(csc.crow_indices(), csc.col_indices(), csc.values(), c10::kSparseCsc), dense,
          "csc_" + suffix);
      // Every block of 3 x 2 is there, each with its own strides.
      const at::Tensor blocks = some.view({2, 3, 4, 2}).transpose(1, 2).reshape({8, 3, 2});
      add(compressed(at::arange(3).mul(4), at::arange(8).remainder(4), blocks, c10::kSparseBsr),
          dense, "bsr_" + suffix);
    }
    const at::Tensor coo = dense.to_sparse();
    add(coo, dense, "coo_" + name);
    CHECK(load_sparse(folder / ("coo_" + name + ".npz")).is_coalesced());
  }
  const at::Tensor indices = at::zeros({2, 3}, at::kLong);
  const at::Tensor twice = at::sparse_coo_tensor(indices, at::arange(3, at::kFloat), {2, 2});
  add(twice, twice.to_dense(), "coo_twice");
  CHECK_FALSE(load_sparse(folder / "coo_twice.npz").is_coalesced());
  add(at::zeros({0, 3}).to_sparse_csr(), at::zeros({0, 3}), "csr_empty");
  add(at::zeros({3, 0}).to_sparse(), at::zeros({3, 0}), "coo_empty");
}

TEST_CASE("save_sparse() saves views, gradients and dtypes that SciPy does not have", "[sparse]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  at::Tensor half = at::ones({2, 2}, at::kHalf).to_sparse();
  save_sparse(path, half);
  check_same(load_sparse(path), half);
  const at::Tensor brain = at::ones({2, 2}, at::kBFloat16).to_sparse();
  save_sparse(path, brain);
  check_same(load_sparse(path, LoadOptions().void_as(at::kBFloat16)), brain);
  save_sparse(path, at::ones({2, 3}).set_requires_grad(true).to_sparse());
  CHECK(load_sparse(path).sizes().vec() == Shape{2, 3});
  const at::Tensor wide = at::arange(12, at::kFloat).view({3, 4});
  const at::Tensor view = wide.to_sparse().t();
  save_sparse(path, view);
  CHECK(at::equal(load_sparse(path).to_dense(), wide.t()));
}

TEST_CASE("save_sparse() refuses what SciPy cannot load, and leaves the old file", "[sparse]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_sparse(path, at::ones({2, 2}).to_sparse());
  const std::string before = read_bytes(path);
  const auto refused = [&](const at::Tensor& tensor) {
    const Error error = error_of([&] { save_sparse(path, tensor); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK(error.path() == path);
    CHECK((read_bytes(path) == before));
    return std::string(error.what());
  };
  CHECK_THAT(refused(at::Tensor()), says("an undefined tensor"));
  CHECK_THAT(refused(at::ones({2, 2})), says("to_sparse_csr()"));
  CHECK_THAT(refused(at::ones({2, 2, 2}).to_sparse()), says("save_npz()"));
  CHECK_THAT(refused(at::ones({2}).to_sparse()), says("found shape (2,)"));
  CHECK_THAT(refused(at::ones({2, 2}).to_sparse(1)), says("values of shape (2, 2)"));
  const at::Tensor bsc = at::_sparse_compressed_tensor_unsafe(
      at::arange(2), at::zeros({1}, at::kLong), at::ones({1, 2, 2}), {2, 2},
      at::TensorOptions(at::kFloat).layout(c10::kSparseBsc));
  CHECK_THAT(refused(bsc), says("layout SparseBsc, which SciPy does not have"));
  const at::Tensor batch = at::_sparse_compressed_tensor_unsafe(
      at::arange(2).repeat({2, 1}), at::zeros({2, 1}, at::kLong), at::ones({2, 1}), {2, 1, 2},
      at::TensorOptions(at::kFloat).layout(c10::kSparseCsr));
  CHECK_THAT(refused(batch), says("found shape (2, 1, 2)"));
  if (!has_deflate()) {
    const Error error = error_of([&] {
      save_sparse(path, at::ones({2, 2}).to_sparse(), SaveNpzOptions().compressed(true));
    });
    CHECK_THAT(error.what(), says("torch_npy::npz"));
  }
}

TEST_CASE("unsorted entries are sorted in memory, and their values with them", "[sparse]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_sparse(path, at::_sparse_compressed_tensor_unsafe(
                        at::tensor({0, 2, 2, 5}), at::tensor({3, 1, 2, 0, 3}),
                        at::tensor({1, 2, 3, 4, 5}, at::kFloat), {3, 4},
                        at::TensorOptions(at::kFloat).layout(c10::kSparseCsr)));
  const std::string bytes = read_bytes(path);
  for (const bool mmap : {false, true}) {
    const at::Tensor tensor = load_sparse(path, LoadOptions().mmap(mmap));
    check_mapped(tensor.values(), path.string(), mmap);
    check_mapped(tensor.crow_indices(), path.string(), false);
    check_mapped(tensor.col_indices(), path.string(), false);
    CHECK(at::equal(tensor.col_indices(),
                    at::tensor({1, 3, 0, 2, 3}, tensor.col_indices().options())));
    CHECK(at::equal(tensor.values(), at::tensor({2, 1, 4, 3, 5}, at::kFloat)));
  }
  CHECK((read_bytes(path) == bytes));
}

TEST_CASE("indices of any integer dtype are loaded", "[sparse]") {
  const Folder folder;
  SparseParts parts = csr_parts();
  const at::Tensor want = load_sparse(write_parts(folder / "a.npz", parts));
  CHECK(want.col_indices().scalar_type() == at::kInt);
  const auto check = [&](const SparseParts& other) {
    const at::Tensor got = load_sparse(write_parts(folder / "b.npz", other));
    CHECK(got.crow_indices().scalar_type() == at::kLong);
    CHECK(got.col_indices().scalar_type() == at::kLong);
    CHECK(at::equal(got.to_dense(), want.to_dense()));
  };
  parts["indptr"] = npy_of<std::int64_t>("'<i8'", "(4,)", {0, 2, 2, 5});
  check(parts);  // two dtypes
  parts["indptr"] = npy_of<std::uint8_t>("'|u1'", "(4,)", {0, 2, 2, 5});
  parts["indices"] = npy_of<std::uint32_t>("'<u4'", "(5,)", {1, 3, 0, 2, 3});
  check(parts);
  parts["indices"] = npy_of<std::int16_t>("'<i2'", "(5,)", {1, 3, 0, 2, 3});
  parts["shape"] = npy_of<std::int32_t>("'<i4'", "(2,)", {3, 4});
  check(parts);
}

TEST_CASE("a format is known in any type of string", "[sparse]") {
  const Folder folder;
  SparseParts parts = csr_parts();
  parts["format"] = npy_of<std::int32_t>("'<U3'", "()", {'c', 's', 'r'});
  CHECK(load_sparse(write_parts(folder / "a.npz", parts)).layout() == c10::kSparseCsr);
  parts["format"] = npy_of<std::int32_t>("'<U5'", "()", {'c', 's', 'r', 0, 0});
  parts["_is_array"] = npy_of<char>("'|b1'", "()", {1});
  CHECK(load_sparse(write_parts(folder / "a.npz", parts)).layout() == c10::kSparseCsr);
}

TEST_CASE("the options are those of the values", "[sparse]") {
  const Folder folder;
  const auto path = write_parts(folder / "a.npz", csr_parts());
  const at::Tensor want = load_sparse(path);
  const at::Tensor as_double = load_sparse(path, LoadOptions().dtype(at::kDouble));
  CHECK(at::equal(as_double.values(), want.values().to(at::kDouble)));
  CHECK(as_double.col_indices().scalar_type() == at::kInt);
  CHECK(at::equal(load_sparse(path, LoadOptions().pinned_memory(true).threads(3)).values(),
                  want.values()));
  const auto code = [&](const LoadOptions& options) {
    return error_of([&] { (void)load_sparse(path, options); }).code();
  };
  CHECK(code(LoadOptions().rows(0, 1)) == ErrorCode::InvalidArgument);
  CHECK(code(LoadOptions().squeeze(0)) == ErrorCode::InvalidArgument);
  CHECK(code(LoadOptions().device(c10::Device(at::kCUDA, 100))) == ErrorCode::InvalidArgument);
  CHECK(code(LoadOptions().dtype(at::kQInt8)) == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { (void)load_sparse(folder / "none.npz"); }).code() == ErrorCode::NotFound);
  // The name of the format as 3 codes of 8 bytes, 2 lengths, 4 and 5 indices, 5 values.
  const std::uint64_t bytes = 24 + 16 + 4 * 4 + 5 * 4 + 5 * 4;
  CHECK(load_sparse(path, LoadOptions().max_bytes(bytes)).values().numel() == 5);
  CHECK(code(LoadOptions().max_bytes(bytes - 1)) == ErrorCode::TooLarge);
}
