// Rows of a deflated array of an archive.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save_npz.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include <filesystem>
#include <string>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("rows of a deflated array are read from memory, which holds all of it", "[npz]") {
  const Folder folder;
  torch::OrderedDict<std::string, at::Tensor> arrays("array");
  const at::Tensor data = at::arange(4000).reshape({1000, 4});
  arrays.insert("x", data);
  arrays.insert("y", at::arange(1000).unsqueeze(1));
  save_npz(folder / "set.npz", arrays, SaveNpzOptions().compressed(true));
  const NpzFile file(folder / "set.npz");
  REQUIRE(file.is_deflated("x"));
  const ArrayDataset dataset(file["x"], file["y"], LoadOptions().dtype(at::kInt),
                             LoadOptions().squeeze(1));
  std::filesystem::remove(folder / "set.npz");
  const auto batch = dataset.stacked().get_batch({999, 3});
  CHECK(at::equal(batch.data[0], data[999].to(at::kInt)));
  CHECK(batch.target[1].item<int>() == 3);
  CHECK(dataset.key(7) == (folder / "set.npz").generic_string() + "/x.npy[7]");

  const Error error =
      error_of([&] { ArrayDataset large(file["x"], LoadOptions().max_bytes(31999)); });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK(error.path() == folder / "set.npz");
}
