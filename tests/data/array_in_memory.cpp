// Rows of tensors as samples.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

namespace {

at::Tensor rows_of(const at::Tensor& whole, const std::vector<std::int64_t>& rows) {
  return whole.index_select(0, at::tensor(rows, at::kLong));
}

/// The samples of a dataset of `data` are its rows, of its dtype, in memory of their own.
void check_rows(const at::Tensor& data, const LoadOptions& options = {}) {
  const ArrayDataset dataset(data, options);
  const at::Tensor want = options.dtype() ? data.to(*options.dtype()) : data;
  REQUIRE(*dataset.size() == static_cast<std::size_t>(data.size(0)));
  const at::Tensor got = dataset.stacked().get_batch({3, 0, 3}).data;
  CHECK(got.scalar_type() == want.scalar_type());
  CHECK(at::equal(got, rows_of(want, {3, 0, 3})));
  const auto list = dataset.get_batch({2, 1});
  CHECK(list.indices == Indices{2, 1});
  CHECK(at::equal(list[0].data, want[2]));
  CHECK(at::equal(list[1].data, want[1]));
  CHECK(at::equal(dataset.get(3).data, want[3]));
  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of(dataset.stacked(), 3, workers);
    CHECK(at::equal(epoch(*loader), want));
  }
}

}  // namespace

TEST_CASE("the rows of a tensor are the samples, whatever its layout and dtype", "[dataset]") {
  const at::Tensor data = at::arange(4 * 6).reshape({4, 2, 3});
  for (const auto dtype : {at::kByte, at::kShort, at::kLong, at::kHalf, at::kFloat, at::kDouble}) {
    check_rows(data.to(dtype));
  }
  check_rows(data > 11);
  check_rows(at::arange(4));
  check_rows(at::zeros({4, 0, 3}));
  check_rows(data.to(at::kInt), LoadOptions().dtype(at::kDouble));
  // Not contiguous.
  check_rows(data.permute({0, 2, 1}));
  check_rows(at::arange(24).reshape({6, 4}).t());
  check_rows(at::arange(24).reshape({8, 3}).slice(0, 1, 8, 2));
  check_rows(at::arange(5).narrow(0, 1, 4));
  check_rows(at::arange(3).expand({4, 3}));
  // Views whose memory does not have their values.
  const at::Tensor complex = at::complex(data.to(at::kFloat), data.to(at::kFloat) + 100);
  check_rows(complex);
  check_rows(complex.conj());
  check_rows(at::imag(complex.conj()));

  CHECK(*ArrayDataset(at::zeros({0, 3})).size() == 0);
  for (const at::Tensor& wrong : {at::zeros({}), at::Tensor()}) {
    const Error error = error_of([&] { ArrayDataset dataset(wrong); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("a 0-d tensor has no axis 0 to take samples from"));
  }
}

TEST_CASE("later changes of a tensor change its samples, and those of a batch do not change it",
          "[dataset]") {
  at::Tensor data = samples(4);
  const ArrayDataset dataset(data);
  const auto doubled = dataset.stacked().map(transforms::Normalize({0.0}, {0.5}));
  CHECK(at::equal(doubled.get_batch({1}).data[0], sample(1) * 2));
  dataset.stacked().get_batch({1}).data.zero_();
  dataset.get(1).data.zero_();
  CHECK(at::equal(data, samples(4)));
  data[1].fill_(5);
  CHECK(at::equal(dataset.get(1).data, data[1]));
}

TEST_CASE("gradients flow from a batch to the rows of a tensor that requires them", "[dataset]") {
  const at::Tensor data = samples(4).requires_grad_();
  const ArrayDataset dataset(data);
  dataset.stacked().get_batch({2, 0, 2}).data.sum().backward();
  const std::vector<double> times = {1, 0, 2, 0};
  for (std::int64_t i = 0; i < 4; ++i) {
    CHECK(at::equal(data.grad()[i], at::full({2, 3}, times[static_cast<std::size_t>(i)])));
  }
  dataset.get(1).data.sum().backward();
  CHECK(at::equal(data.grad()[1], at::full({2, 3}, 1.F)));
}

TEST_CASE("data and targets may each be a tensor or a file", "[dataset]") {
  const Folder folder;
  const at::Tensor labels = at::arange(10, 14);
  save(folder / "data.npy", samples(4));
  save(folder / "labels.npy", labels);
  const std::string path = (folder / "data.npy").string();
  const auto check = [&](const ArrayDataset<>& dataset, at::ScalarType type = at::kLong) {
    const auto batch = dataset.stacked().get_batch({3, 1});
    CHECK(at::equal(batch.data, rows_of(samples(4), {3, 1})));
    CHECK(at::equal(batch.target, at::tensor({13, 11}, type)));
    CHECK(batch.target.scalar_type() == type);
    const auto one = dataset.get(2);
    CHECK(one.target.dim() == 0);
    CHECK(one.target.item<std::int64_t>() == 12);
    auto loader = loader_of<td::samplers::RandomSampler>(dataset.stacked(), 2, 2);
    for (auto& some : *loader) {
      for (std::int64_t i = 0; i < 2; ++i) {
        CHECK(number_of(some.data[i]) + 10 == some.target[i].item<std::int64_t>());
      }
    }
  };
  check(ArrayDataset(samples(4), labels));
  check(ArrayDataset(folder / "data.npy", labels));
  check(ArrayDataset(path, labels));
  check(ArrayDataset(path.c_str(), folder / "labels.npy"));
  check(ArrayDataset(samples(4), folder / "labels.npy"));
  check(ArrayDataset(samples(4), labels, {}, LoadOptions().dtype(at::kInt)), at::kInt);
  check(ArrayDataset(samples(4).to(at::kDouble), labels.to(at::kByte),
                     LoadOptions().dtype(at::kFloat), LoadOptions().dtype(at::kLong)));

  const Error error = error_of([&] { ArrayDataset(samples(3), folder / "labels.npy"); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(),
             says("found 3 samples and 4 targets, in " + (folder / "labels.npy").string()));
  CHECK_THAT(error_of([&] { ArrayDataset(samples(3), labels); }).what(),
             says("found 3 samples and 4 targets"));
}

TEST_CASE("samples of arrays are named by file and row", "[dataset]") {
  const Folder folder;
  save(folder / "data.npy", samples(4));
  CHECK(ArrayDataset(folder / "data.npy").key(3) == (folder / "data.npy").generic_string() + "[3]");
  const ArrayDataset in_memory(samples(4), at::arange(4));
  CHECK(in_memory.key(2) == "[2]");
  CHECK(in_memory.subset({3, 2}).key(1) == "[2]");
}
