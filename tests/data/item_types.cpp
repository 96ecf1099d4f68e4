// Items that no tensor of LibTorch 1.13 holds, in datasets.

#include <torch/data.h>
#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/npz_dataset.hpp>
#include <torch_npy/tensor/save_npz.hpp>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("unsigned_as() widens unsigned integers of a dataset and nothing else",
          "[dataset][unsigned_as]") {
  const Folder folder;
  const std::vector<std::uint16_t> counts{0, 1, 40000, 65535};
  const std::vector<float> weights{0.25F, 0.5F, 0.75F, 1.5F};
  const auto widened = FolderOptions()
                           .data_options(LoadOptions().unsigned_as(kNextSigned))
                           .target_options(LoadOptions().unsigned_as(kNextSigned));
  std::vector<std::filesystem::path> counts_of_sample, weights_of_sample, archives;
  for (std::size_t i = 0; i < 4; ++i) {
    const std::string count =
        npy(header_text("'<u2'", "(1,)"), bytes_of(std::vector<std::uint16_t>{counts[i]}));
    const std::string weight =
        npy(header_text("'<f4'", "(1,)"), bytes_of(std::vector<float>{weights[i]}));
    const std::string name = std::to_string(i);
    counts_of_sample.push_back(write_bytes(folder / ("c" + name + ".npy"), count));
    weights_of_sample.push_back(write_bytes(folder / ("w" + name + ".npy"), weight));
    archives.push_back(
        write_bytes(folder / (name + ".npz"),
                    zip({ZipPart::stored("c.npy", count), ZipPart::stored("w.npy", weight)})));
  }
  const auto all_counts =
      write_bytes(folder / "counts.npy", npy(header_text("'<u2'", "(4, 1)"), bytes_of(counts)));
  const auto all_weights =
      write_bytes(folder / "weights.npy", npy(header_text("'<f4'", "(4, 1)"), bytes_of(weights)));
  const auto check = [&](auto dataset) {
    const auto batch = dataset.stacked().get_batch({3, 0, 2});
    CHECK(batch.data.scalar_type() == at::kInt);
    CHECK(batch.data.view(-1)[0].template item<int>() == 65535);
    CHECK(batch.data.view(-1)[2].template item<int>() == 40000);
    CHECK(batch.target.scalar_type() == at::kFloat);
    CHECK(batch.target.view(-1)[0].template item<float>() == 1.5F);
    CHECK(batch.target.view(-1)[1].template item<float>() == 0.25F);
  };
  check(FileDataset<Example<>>(counts_of_sample, weights_of_sample, widened));
  check(ArrayDataset<Example<>>(all_counts, all_weights, widened.data_options()));
  check(NpzDataset<Example<>>(archives, "c", "w", widened));
}

TEST_CASE("a dataset rounds longdouble to the dtype that it is asked for",
          "[dataset][longdouble]") {
  if (sizeof(long double) != 16) return;
  const Folder folder;
  std::vector<long double> values(6 * 50);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<long double>(i) / 7;
  const auto path = write_bytes(
      folder / "l.npy", npy(header_text("'<f16'", "(6, 50)"),
                            {reinterpret_cast<const char*>(values.data()), values.size() * 16}));
  const auto dataset =
      ArrayDataset<TensorExample>(path, LoadOptions().dtype(at::kDouble)).stacked();
  const at::Tensor batch = dataset.get_batch({5, 1}).data;
  CHECK(batch.sizes().vec() == std::vector<std::int64_t>{2, 50});
  for (std::int64_t i = 0; i < 50; ++i) {
    CHECK(batch[0][i].item<double>() ==
          static_cast<double>(values[static_cast<std::size_t>(250 + i)]));
    CHECK(batch[1][i].item<double>() ==
          static_cast<double>(values[static_cast<std::size_t>(50 + i)]));
  }
}
