// Arrays in archives, in memory and in other sources as samples; labels of shape (N, 1).

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/save_npz.hpp>
#include <torch_npy/tensor/stored_array.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/dripping_source.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

/// images: samples(5); labels: uint8 of shape (5, 1).
std::filesystem::path write_archive(const Folder& folder) {
  torch::OrderedDict<std::string, at::Tensor> arrays("array");
  arrays.insert("train_images", samples(5));
  arrays.insert("train_labels", at::arange(10, 15).to(at::kByte).unsqueeze(1));
  save_npz(folder / "set.npz", arrays);
  return folder / "set.npz";
}

void check_images(const Dataset<TensorExample>& dataset) {
  const auto batch = dataset.stacked().get_batch({4, 0, 2});
  CHECK(numbers_of(batch) == std::vector<int>{4, 0, 2});
  CHECK(at::equal(batch.data[1], sample(0)));
  CHECK(at::equal(dataset.get(3).data, sample(3)));
}

}  // namespace

TEST_CASE("arrays of one archive are data and targets, and labels of shape (N, 1) become numbers",
          "[dataset]") {
  const Folder folder;
  const auto path = write_archive(folder);
  const auto make = [&] {
    const NpzFile file(path);
    return ArrayDataset(file.array("train_images"), file["train_labels"], {},
                        LoadOptions().squeeze(1).dtype(at::kLong));
  };
  const ArrayDataset<> dataset = make();
  std::filesystem::remove(path);  // the old file stays readable
  const auto batch = dataset.stacked().get_batch({4, 1});
  CHECK(at::equal(batch.data[0], sample(4)));
  CHECK(at::equal(batch.target, at::tensor({14, 11}, at::kLong)));
  CHECK(dataset.get(2).target.dim() == 0);
  CHECK(dataset.key(3) == path.generic_string() + "/train_images.npy[3]");
  CHECK(dataset.verify().empty());
}

TEST_CASE("squeeze() of a dataset works for files and tensors, but not for the axis of the samples",
          "[dataset]") {
  const Folder folder;
  const at::Tensor labels = at::arange(5).unsqueeze(1);
  save(folder / "labels.npy", labels);
  const auto check = [&](const ArrayData& data) {
    for (const std::int64_t axis : {1, -1}) {
      const ArrayDataset dataset(data, LoadOptions().squeeze(axis));
      CHECK(at::equal(dataset.stacked().get_batch({4, 1}).data, at::tensor({4, 1}, at::kLong)));
    }
    for (const std::int64_t axis : {0, -2}) {
      const Error error = error_of([&] { ArrayDataset wrong(data, LoadOptions().squeeze(axis)); });
      CHECK(error.code() != ErrorCode::Io);
    }
    CHECK(error_of([&] { ArrayDataset wrong(data, LoadOptions().squeeze(2)); }).code() ==
          ErrorCode::Mismatch);
  };
  check(labels);
  check(folder / "labels.npy");
  check(open(folder / "labels.npy"));
  const std::string bytes = read_bytes(folder / "labels.npy");
  check(open_bytes(bytes.data(), bytes.size()));

  save(folder / "row.npy", labels.t());
  const std::string row = read_bytes(folder / "row.npy");
  const std::vector<ArrayData> rows = {labels.t(), folder / "row.npy", open(folder / "row.npy"),
                                       open_bytes(row.data(), row.size())};
  for (const ArrayData& data : rows) {
    for (const std::int64_t axis : {0, -2}) {
      const Error error = error_of([&] { ArrayDataset wrong(data, LoadOptions().squeeze(axis)); });
      CHECK(error.code() == ErrorCode::InvalidArgument);
      CHECK_THAT(error.what(), says("would remove axis 0, whose rows are the samples"));
    }
  }
}

TEST_CASE("an array that cannot be mapped is loaded once, when the dataset is made", "[dataset]") {
  const Folder folder;
  save(folder / "images.npy", samples(5));
  const std::string bytes = read_bytes(folder / "images.npy");
  check_images(ArrayDataset(open(folder / "images.npy")));
  CHECK(ArrayDataset(open(folder / "images.npy")).key(2) ==
        (folder / "images.npy").generic_string() + "[2]");

  const auto source = std::make_shared<DrippingSource>(bytes, 100, "store/images.npy");
  const ArrayDataset dataset(open(source), LoadOptions().rows(0, 5));
  const int reads = source->reads();
  check_images(dataset);
  const ArrayDataset copy = dataset;
  check_images(copy);
  CHECK(source->reads() == reads);
  CHECK(dataset.key(2) == "store/images.npy[2]");
  const ArrayDataset last(open(source), LoadOptions().rows(3, 5));
  CHECK(number_of(last.get(0).data) == 3);
  CHECK(last.key(0) == "store/images.npy[3]");

  std::istringstream stream(bytes);
  check_images(ArrayDataset(open(stream)));
  check_images(ArrayDataset(open_bytes(bytes.data(), bytes.size())));
  const auto as_half = LoadOptions().dtype(at::kHalf);
  CHECK(ArrayDataset(open(source), as_half).get(1).data.scalar_type() == at::kHalf);

  const Error error =
      error_of([&] { ArrayDataset large(open(source), LoadOptions().max_bytes(119)); });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK(error.path() == "store/images.npy");
  const std::string number = npy(header_text("'<f4'", "()"), "1234");
  CHECK(error_of([&] { ArrayDataset scalar(open_bytes(number.data(), number.size())); }).code() ==
        ErrorCode::Mismatch);
}

TEST_CASE("an Error about a value of an archive names the member once", "[dataset]") {
  const Folder folder;
  const std::string values = npy(header_text("'<u2'", "(3,)"), std::string("\1\0\xff\xff\2\0", 6));
  const auto path = write_bytes(folder / "a.npz", zip({ZipPart::stored("u2.npy", values)}));
  const ArrayDataset dataset(NpzFile(path).array("u2"), LoadOptions().dtype(at::kShort));
  CHECK(dataset.stacked().get_batch({0, 2}).data[1].item<int>() == 2);
  const Error error = error_of([&] { (void)dataset.stacked().get_batch({0, 1}); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK(error.path() == path);
  CHECK_THAT(error.what(), says(path.string() + ": member \"u2.npy\": the value 65535"));
}

TEST_CASE("an array whose file has changed since open() is refused", "[dataset]") {
  const Folder folder;
  save(folder / "images.npy", samples(5));
  const StoredArray array = open(folder / "images.npy");
  const ArrayDataset dataset(array);
  write_bytes(folder / "images.npy", read_bytes(folder / "images.npy") + "more");
  CHECK(error_of([&] { ArrayDataset late(array); }).code() == ErrorCode::Io);
  const auto errors = dataset.verify();
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].code() == ErrorCode::Io);
}

TEST_CASE("rows of an array that is stored in Fortran order in an archive", "[dataset]") {
  const Folder folder;
  torch::OrderedDict<std::string, at::Tensor> arrays("array");
  arrays.insert("x", samples(5).permute({2, 1, 0}).contiguous().permute({2, 1, 0}));
  save_npz(folder / "f.npz", arrays);
  check_images(ArrayDataset(NpzFile(folder / "f.npz").array("x")));
}
