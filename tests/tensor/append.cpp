// Appending: the contents of the file.

#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/load.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>

#include "support/appending.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("an appended file equals what save() writes for the whole", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  for (const auto type :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kFloat,
        at::kDouble, at::kComplexFloat, at::kComplexDouble, at::kBFloat16}) {
    for (const Shape& row_shape : {Shape{}, Shape{3}, Shape{2, 5}, Shape{2, 0}, Shape(63, 1)}) {
      INFO(at::toString(type) << " " << torch_npy::detail::python_tuple(row_shape));
      std::filesystem::remove(path);
      const at::Tensor whole = counting(1003, row_shape, type);
      Appender appender(path, row_shape, type, kQuick);
      CHECK((read_bytes(path) == saved(whole.narrow(0, 0, 0))));
      std::int64_t rows = 0;
      for (const std::int64_t count : {0, 1, 8, 1, 89, 1, 900, 3}) {  // 1, 9, 10, 99, 100, 1000
        appender.append(whole.narrow(0, rows, count));
        rows += count;
        CHECK(appender.rows() == rows);
        appender.flush();
        CHECK((read_bytes(path) == saved(whole.narrow(0, 0, rows))));
      }
      appender.close();
    }
  }
}

TEST_CASE("rows appended one by one and many at once count after flush()", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  // Rows of 16 KiB, 64 of which fill the buffer.
  const at::Tensor whole = counting(500, {4, 1024}, at::kInt);
  Appender appender(path, {4, 1024}, at::kInt, kQuick);
  std::int64_t rows = 0;
  for (; rows < 200; ++rows) appender.append(whole[rows]);
  for (const std::int64_t count : {56, 64, 63, 1, 0, 16, 100}) {
    appender.append(whole.narrow(0, rows, count));
    rows += count;
  }
  CHECK(rows == 500);
  CHECK(load(path).size(0) == 0);  // the header counts no row yet
  appender.flush();
  CHECK((read_bytes(path) == saved(whole)));
  const auto written = std::filesystem::last_write_time(path);
  appender.append(whole.narrow(0, 0, 0));
  appender.flush();
  appender.close();
  CHECK(std::filesystem::last_write_time(path) == written);
}

TEST_CASE("an Appender continues an existing file", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor whole = counting(120, {4}, at::kFloat);
  for (std::int64_t rows = 0; rows < 120; rows += 8) {
    if (rows % 16 == 0) {
      Appender appender(path, {4}, at::kFloat, kQuick);
      CHECK(appender.rows() == rows);
      appender.append(whole.narrow(0, rows, 8));  // the destructor flushes
    } else {
      Appender appender(path, kQuick);
      CHECK(appender.rows() == rows);
      appender.append(whole.narrow(0, rows, 8));
      appender.close();
      CHECK(appender.rows() == rows + 8);
    }
    CHECK((read_bytes(path) == saved(whole.narrow(0, 0, rows + 8))));
  }
  CHECK(folder.count() == 1);

  save(path, whole.narrow(0, 0, 99));
  Appender synced(path);
  synced.append(whole.narrow(0, 99, 21));
  synced.flush();
  synced.flush();
  CHECK((read_bytes(path) == saved(whole)));
}

TEST_CASE("the first tensor sets row shape and dtype if nothing else does", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  Appender appender(path, kQuick);
  CHECK(appender.rows() == 0);
  appender.flush();
  CHECK(folder.count() == 0);
  CHECK(error_of([&] { appender.append(at::zeros({})); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { appender.append(at::zeros({2}, at::kComplexHalf)); }).code() ==
        ErrorCode::UnsupportedDtype);
  CHECK(folder.count() == 0);
  const at::Tensor whole = counting(7, {2, 3}, at::kDouble);
  appender.append(whole.narrow(0, 0, 6));
  CHECK((read_bytes(path) == saved(whole.narrow(0, 0, 0))));
  CHECK(error_of([&] { appender.append(at::zeros({2, 3})); }).code() == ErrorCode::Mismatch);
  appender.append(whole[6]);
  appender.close();
  CHECK((read_bytes(path) == saved(whole)));

  // Another writer may create the file before the first tensor is appended.
  const auto other = folder / "b.npy";
  Appender late(other, kQuick);
  save(other, whole.narrow(0, 0, 2));
  CHECK(error_of([&] { late.append(whole.to(at::kFloat)); }).code() == ErrorCode::Mismatch);
  late.append(whole.narrow(0, 2, 5));
  late.close();
  CHECK((read_bytes(other) == saved(whole)));
  Appender never(folder / "c.npy");
  never.close();
  CHECK(folder.count() == 2);
}

TEST_CASE("append() takes tensors of any strides, and conjugate and negative views", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor base = at::arange(24, at::kFloat).view({2, 3, 4});
  for (const at::Tensor& tensor :
       {base.transpose(0, 2), base.transpose(0, 2).contiguous(), base.permute({2, 0, 1}),
        base.select(1, 1), base.slice(2, 0, 4, 2), at::zeros({1}).expand({3, 4}),
        base.clone().requires_grad_()}) {
    std::filesystem::remove(path);
    Appender appender(path, row_shape_of(tensor), at::kFloat, kQuick);
    appender.append(tensor);
    appender.append(tensor[0]);
    appender.close();
    const at::Tensor got = load(path);
    CHECK(at::equal(got.narrow(0, 0, tensor.size(0)), tensor));
    CHECK(at::equal(got[tensor.size(0)], tensor[0]));
  }
  const at::Tensor complex =
      at::arange(4, at::kFloat).to(at::kComplexFloat).mul(c10::Scalar(c10::complex<double>(1, 2)));
  std::filesystem::remove(path);
  Appender(path, {}, at::kComplexFloat, kQuick).append(complex.conj());
  CHECK(at::equal(load(path), complex.conj().resolve_conj()));
  std::filesystem::remove(path);
  Appender(path, {}, at::kFloat, kQuick).append(at::imag(complex.conj()));
  CHECK(at::equal(load(path), at::imag(complex.conj()).resolve_neg()));

  Appender appender(path, kQuick);
  for (const at::Tensor& tensor :
       {at::Tensor(), at::empty({2}, at::kMeta), at::zeros({2}).to_sparse()}) {
    CHECK(error_of([&] { appender.append(tensor); }).code() == ErrorCode::InvalidArgument);
  }
}

TEST_CASE("rows without elements are counted up to NumPy's limit", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const std::int64_t wide = std::int64_t{1} << 40;
  const std::int64_t most = ((INT64_MAX - 128) / 4) >> 40;
  Appender appender(path, {0, wide}, at::kFloat, kQuick);
  appender.append(at::empty({most, 0, wide}));
  appender.flush();
  CHECK(load(path).sizes() == at::IntArrayRef({most, 0, wide}));
  const Error error = error_of([&] { appender.append(at::empty({1, 0, wide})); });
  CHECK(error.code() == ErrorCode::TooLarge);
}
