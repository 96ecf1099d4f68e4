// Saving .npy files.

#include <ATen/ops/_efficientzerotensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <sstream>

#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("save() writes the bytes that np.save writes", "[numpy][save]") {
  const Folder folder;
  int compared = 0;
  for (const Expected& want : read_expected()) {
    // What np.save writes for a tensor: its own version, native byte order, no datetimes.
    const bool native =
        want.descr[0] == '|' || want.descr[0] == torch_npy::detail::native_byte_order();
    if (!want.saved_alike || !native || want.descr[1] == 'M' || want.descr[1] == 'm') continue;
    if (expected_type(want.descr) == at::ScalarType::Undefined) continue;
    INFO(want.path.filename().string());
    const at::Tensor tensor = load(want.path);
    save(folder / "saved.npy", tensor);
    CHECK((read_bytes(folder / "saved.npy") == read_bytes(want.path)));
    std::ostringstream stream;
    save(stream, tensor);
    CHECK((stream.str() == read_bytes(want.path)));
    ++compared;
  }
  CHECK(compared > 40);
}

TEST_CASE("save() takes tensors of any strides, and conjugate and negative views", "[save]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor base = at::arange(24, at::kFloat).view({2, 3, 4});
  for (const at::Tensor& tensor :
       {base, base.transpose(0, 2).contiguous(), base.permute({2, 0, 1}), base.select(1, 1),
        base.slice(2, 0, 4, 2), base[0][0][0], at::empty({0, 3}), at::zeros({1}).expand({3, 4}),
        base.clone().requires_grad_()}) {
    save(path, tensor);
    CHECK(at::equal(load(path), tensor));
  }
  const at::Tensor complex =
      at::arange(4, at::kFloat).to(at::kComplexFloat).mul(c10::Scalar(c10::complex<double>(1, 2)));
  save(path, complex.conj());
  CHECK(at::equal(load(path), complex.conj().resolve_conj()));
  save(path, at::imag(complex.conj()));
  CHECK(at::equal(load(path), at::imag(complex.conj()).resolve_neg()));
  CHECK(error_of([&] { save(path, at::Tensor()); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { save(path, base.to_sparse()); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { save(path, base.to(at::kComplexHalf)); }).code() ==
        ErrorCode::UnsupportedDtype);
  CHECK(error_of([&] { save(folder / "no" / "such", base); }).code() == ErrorCode::NotFound);
  CHECK(error_of([&] { save(folder.path(), base); }).path() == folder.path());
}

TEST_CASE("save() and load_into() refuse tensors without memory", "[save][load_into]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 2, 3);
  at::Tensor freed = at::zeros({2, 3});
  freed.storage().unsafeGetStorageImpl()->set_data_ptr(at::DataPtr());
  freed.storage().unsafeGetStorageImpl()->set_nbytes(0);
  for (const at::Tensor& tensor :
       {at::Tensor(), at::empty({2, 3}, at::kMeta), at::_efficientzerotensor({2, 3}, at::kFloat),
        freed, at::zeros({2, 3}).to_sparse()}) {
    CHECK(error_of([&] { load_into(tensor, path); }).code() == ErrorCode::InvalidArgument);
    CHECK(error_of([&] { save(folder / "b.npy", tensor); }).code() == ErrorCode::InvalidArgument);
    std::ostringstream stream;
    CHECK(error_of([&] { save(stream, tensor); }).code() == ErrorCode::InvalidArgument);
  }
  CHECK(error_of([&] { save(folder / "b.npy", at::ones(Shape(65, 1))); }).code() ==
        ErrorCode::InvalidArgument);
  save(folder / "64.npy", at::ones(Shape(64, 1)));
  CHECK(load(folder / "64.npy").dim() == 64);
}
