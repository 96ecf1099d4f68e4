// Rows of arrays as samples.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

TEST_CASE("the rows of an array are the samples", "[dataset]") {
  const Folder folder;
  const at::Tensor data = at::arange(5 * 12).reshape({5, 3, 4}).to(at::kFloat);
  const auto rows = [](const at::Tensor& tensor, const std::vector<std::int64_t>& indices) {
    return tensor.index_select(0, at::tensor(indices, at::kLong));
  };
  const auto check = [&](const std::filesystem::path& path, const LoadOptions& options = {}) {
    const at::Tensor want = load(path, options);
    ArrayDataset dataset(path, options);
    REQUIRE(*dataset.size() == static_cast<std::size_t>(want.size(0)));
    CHECK(at::equal(dataset.stacked().get_batch(Indices{1, 0, 1}).data, rows(want, {1, 0, 1})));
    const auto batch = dataset.get_batch(Indices{1, 0});
    CHECK(at::equal(batch[0].data, want[1]));
    CHECK(batch[0].data.strides() == want.contiguous()[1].strides());
    CHECK(batch[0].data.scalar_type() == want.scalar_type());
    auto loader =
        td::make_data_loader<td::samplers::SequentialSampler>(dataset.stacked(), loading(2, 2));
    CHECK(at::equal(epoch(*loader), want));
  };
  save(folder / "c.npy", data);
  check(folder / "c.npy");
  check(folder / "c.npy", LoadOptions().dtype(at::kDouble));
  check(folder / "c.npy", LoadOptions().rows(1, 4));
  save(folder / "1d.npy", at::arange(7));
  check(folder / "1d.npy");
  check(write_bytes(folder / "big.npy", big_endian_npy(data)));
  check(folder / "big.npy", LoadOptions().dtype(at::kInt).rows(2, 5));
  save(folder / "empty.npy", at::zeros({3, 0}));
  check(folder / "empty.npy");
  const std::string odd = read_bytes(folder / "c.npy");
  check(write_bytes(folder / "odd.npy", npy(header_text("'<f4'", "(5, 3, 4)"), odd.substr(128))));

  // Rows of a Fortran-ordered array are Fortran-ordered.
  save(folder / "f.npy", data.permute({2, 1, 0}).contiguous().permute({2, 1, 0}));
  REQUIRE(read_header(folder / "f.npy").fortran_order);
  for (const auto& options :
       {LoadOptions(), LoadOptions().rows(1, 4), LoadOptions().dtype(at::kLong)}) {
    ArrayDataset dataset(folder / "f.npy", options);
    const at::Tensor want = load(folder / "f.npy", options);
    const auto batch = dataset.get_batch(Indices{2, 0});
    CHECK(at::equal(batch[0].data, want[2]));
    CHECK(batch[0].data.strides() == at::IntArrayRef({1, 3}));
    CHECK(at::equal(dataset.stacked().get_batch(Indices{2, 0}).data, rows(want, {2, 0})));
  }

  save(folder / "none.npy", at::zeros({0, 3}));
  CHECK(*ArrayDataset(folder / "none.npy").size() == 0);
}

TEST_CASE("arrays of data and targets must have the same length", "[dataset]") {
  const Folder folder;
  save(folder / "data.npy", at::arange(12).reshape({6, 2}).to(at::kByte));
  save(folder / "target.npy", at::arange(6));
  save(folder / "short.npy", at::arange(5));
  save(folder / "0-d.npy", at::zeros({}));
  ArrayDataset dataset(folder / "data.npy", folder / "target.npy", LoadOptions().dtype(at::kFloat));
  // The mapped file stays after its name is removed.
  std::filesystem::remove(folder / "target.npy");
  const auto batch = dataset.stacked().get_batch(Indices{5, 1});
  CHECK(at::equal(batch.data, at::tensor({10.F, 11.F, 2.F, 3.F}).reshape({2, 2})));
  CHECK(at::equal(batch.target, at::tensor({5, 1}, at::kLong)));

  Error error = error_of([&] { ArrayDataset(folder / "data.npy", folder / "short.npy"); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(),
             says("found 6 samples and 5 targets, in " + (folder / "short.npy").string()));
  error = error_of([&] { ArrayDataset(folder / "0-d.npy"); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK(error.path() == folder / "0-d.npy");
  error = error_of([&] { ArrayDataset(folder / "none.npy"); });
  CHECK(error.code() == ErrorCode::NotFound);

  const std::string big = npy(header_text("'<u2'", "(2,)"), std::string("\x01\x00\xff\xff", 4));
  ArrayDataset checked(write_bytes(folder / "u2.npy", big), LoadOptions().dtype(at::kShort));
  CHECK(checked.get(0).data.item<std::int64_t>() == 1);
  error = error_of([&] { (void)checked.get(1); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK(error.path() == folder / "u2.npy");
}

TEST_CASE("the rows of an array of strings are gathered in any order", "[dataset]") {
  const Folder folder;
  const auto options = LoadOptions().strings_as_codes(true);
  std::string points;
  for (int i = 0; i < 30; ++i) points += std::string("\0\1", 2) + static_cast<char>(i) + 'x';
  for (const char* order : {"False", "True"}) {
    const auto big =
        write_records(folder / "u.npy", "'>U3'", "(5, 2)", points.substr(0, 120), order);
    const at::Tensor u = load(big, options);
    const auto gathered = [&](const LoadOptions& how, std::vector<std::size_t> indices) {
      return ArrayDataset(big, how).stacked().get_batch(indices).data;
    };
    const at::Tensor reversed = gathered(options, {4, 0});
    CHECK(reversed.sizes() == at::IntArrayRef({2, 2, 3}));
    CHECK(at::equal(reversed[0], u[4]));
    CHECK(at::equal(reversed[1], u[0]));
    CHECK(at::equal(gathered(LoadOptions(options).rows(1, 4), {2})[0], u[3]));
  }
}
