// The code of README.md and docs/ that is not in an example. readme_code.cmake checks that it is
// the same.

#include <torch_npy.hpp>

#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "support/catch.hpp"
#include "support/files.hpp"

namespace {

/// Two folders of images and masks, in a folder that is the working directory during a test.
class Workplace {
 public:
  Workplace() {
    std::filesystem::current_path(folder_.path());
    std::filesystem::create_directories("inputs");
    std::filesystem::create_directories("targets");
    for (int i = 0; i < 6; ++i) {
      const std::string name = "train_" + std::to_string(i) + ".npy";
      torch_npy::save("inputs/" + name, torch::full({4, 3}, 2 * i, torch::kFloat32));
      torch_npy::save("targets/" + name, torch::full({4, 3}, i, torch::kUInt8));
    }
    torch_npy::save("images.npy", torch::ones({20, 4, 3}, torch::kUInt8));
  }
  ~Workplace() { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_ = std::filesystem::current_path();
  Folder folder_;
};

class StringSource final : public torch_npy::ByteSource {
 public:
  explicit StringSource(std::string bytes) : bytes_(std::move(bytes)) {}

  std::uint64_t size() const override { return bytes_.size(); }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    if (offset >= bytes_.size()) return 0;
    return bytes_.copy(static_cast<char*>(out), size, static_cast<std::size_t>(offset));
  }

  std::string name() const override { return "a string"; }

 private:
  std::string bytes_;
};

}  // namespace

TEST_CASE("README: an Error is caught", "[docs]") {
  const Workplace workplace;
  const std::string bytes = read_bytes("images.npy");
  write_bytes("short.npy", bytes.substr(0, bytes.size() - 1));
  torch::Tensor batch;
  const auto load = [&](const std::string& path) {
    try {
      batch = torch_npy::load(path);
    } catch (const torch_npy::Error& error) {
      std::cerr << error.what() << '\n';  // there are also error.path() and error.offset()
      if (error.code() != torch_npy::ErrorCode::Truncated) throw;
    }
  };
  load("short.npy");
  CHECK(!batch.defined());
  load("images.npy");
  CHECK(batch.size(0) == 20);
  CHECK(error_of([&] { load("missing.npy"); }).code() == torch_npy::ErrorCode::NotFound);
}

TEST_CASE("docs/security.md: a limit for the memory of a tensor", "[docs]") {
  const Workplace workplace;
  const auto limited = torch_npy::LoadOptions().max_bytes(64 << 20);  // no limit by default
  CHECK(torch_npy::load("images.npy", limited).size(0) == 20);
}

TEST_CASE("docs/dtypes.md: bfloat16 is stored as raw bytes", "[docs]") {
  const Workplace workplace;
  torch_npy::save("weights.npy", torch::ones({2, 3}, torch::kBFloat16));  // as ml_dtypes stores it
  const auto as_bfloat16 = torch_npy::LoadOptions().void_as(torch::kBFloat16);
  torch::Tensor weights = torch_npy::load("weights.npy", as_bfloat16);

  CHECK(weights.equal(torch::ones({2, 3}, torch::kBFloat16)));
}

TEST_CASE("docs/dtypes.md: strings are loaded as numbers", "[docs]") {
  const Workplace workplace;
  write_bytes("names.npy",
              npy(header_text("'<U5'", "(2,)"), std::string("a\0\0\0", 4) + std::string(36, '\0')));
  const auto codes = torch_npy::LoadOptions().strings_as_codes(true);
  torch::Tensor names = torch_npy::load("names.npy", codes);  // from U5 (2,) to int32 (2, 5)

  CHECK(names.sizes() == torch::IntArrayRef({2, 5}));
  CHECK(names.scalar_type() == torch::kInt32);
  CHECK(names[0][0].item<int>() == 'a');
}

TEST_CASE("docs/datasets.md: FolderOptions", "[docs]") {
  const Workplace workplace;
  const auto options =
      torch_npy::FolderOptions()
          .pattern("train_*")   // which file names, with the wildcards of the shell
          .recursive(true)      // also files in subfolders
          .natural_order(true)  // 2 before 10
          .data_options(torch_npy::LoadOptions().dtype(torch::kFloat32))
          .target_options(torch_npy::LoadOptions().dtype(torch::kInt64))  // for cross_entropy
          .on_bad_file(torch_npy::OnBadFile::Skip,
                       [](const torch_npy::Error& error) { std::cerr << error.what() << '\n'; });

  write_bytes("inputs/train_3.npy", "damaged");
  torch_npy::PairedFolderDataset dataset("inputs", "targets", options);
  const auto batch = dataset.stacked().get_batch({2, 3, 4});
  CHECK(batch.data.size(0) == 2);
  CHECK(batch.target.scalar_type() == torch::kInt64);
  CHECK(dataset.bad_file_count() == 1);
  CHECK(dataset.verify().size() == 1);
}

TEST_CASE("docs/datasets.md: LibTorch's transforms of single samples", "[docs]") {
  const Workplace workplace;
  auto normalized = torch_npy::PairedFolderDataset("inputs", "targets")
                        .map(torch::data::transforms::Normalize<>(0.5, 0.5))
                        .map(torch_npy::transforms::Stack<>());

  const auto batch = normalized.get_batch({0, 1});
  CHECK(batch.data[0].max().item<float>() == -1);
  CHECK(batch.data[1].min().item<float>() == 3);
}

TEST_CASE("docs/datasets.md: a transform of a program's own", "[docs]") {
  const Workplace workplace;
  using Batch = torch_npy::Batch<>;
  auto inverted = torch_npy::PairedFolderDataset("inputs", "targets")
                      .stacked()
                      .map(torch::data::transforms::BatchLambda<Batch>([](Batch batch) {
                        batch.data = 255 - batch.data;
                        return batch;
                      }));

  CHECK(inverted.get_batch({1}).data[0][0][0].item<float>() == 253);
}

TEST_CASE("docs/datasets.md: DistributedSampler", "[docs]") {
  const Workplace workplace;
  auto dataset = torch_npy::PairedFolderDataset("inputs", "targets").stacked();
  const std::size_t num_replicas = 4;
  const std::size_t rank = 3;
  const int epochs = 2;
  std::int64_t samples = 0;

  const auto sharing = torch_npy::DistributedSamplerOptions().seed(1).pad(true);
  torch_npy::DistributedSampler sampler(dataset.size().value(), num_replicas, rank, sharing);
  auto loader = torch::data::make_data_loader(dataset, sampler, /*options=*/32);
  for (int epoch = 0; epoch < epochs; ++epoch) {
    sampler.set_epoch(epoch);  // a new order for each epoch; the loader shares the sampler's state
    for (auto& batch : *loader) {
      samples += batch.data.size(0);
    }
  }

  CHECK(samples == 4);
}

TEST_CASE("docs/files.md: an array whose header has been read", "[docs]") {
  const Workplace workplace;
  torch::Tensor images;
  const torch_npy::StoredArray array = torch_npy::open("images.npy");
  if (array.dtype().kind == 'u' && array.shape().size() == 3) {
    images = array.load(torch_npy::LoadOptions().rows(0, 10));
  }

  CHECK(images.size(0) == 10);
}

TEST_CASE("docs/files.md: a ByteSource of a program's own", "[docs]") {
  const Workplace workplace;
  torch_npy::save_npz("archive.npz", {{"labels", torch::arange(3)}});
  const std::string npy_bytes = read_bytes("images.npy");
  const std::string npz_bytes = read_bytes("archive.npz");
  torch::Tensor images;
  torch::Tensor labels;

  images = torch_npy::open(std::make_shared<const StringSource>(npy_bytes)).load();

  const torch_npy::NpzFile archive(std::make_shared<const StringSource>(npz_bytes));
  labels = archive.load("labels");

  CHECK(images.equal(torch_npy::load("images.npy")));
  CHECK(labels.equal(torch::arange(3)));
}

TEST_CASE("docs/archives.md: an array of an archive outlives the NpzFile", "[docs]") {
  const Workplace workplace;
  torch_npy::save_npz("model.npz", {{"bias", torch::arange(3)}});
  torch::Tensor bias;
  const torch_npy::StoredArray stored = torch_npy::NpzFile("model.npz")["bias"];
  const auto mapped = torch_npy::LoadOptions().mmap(true);
  if (!stored.can_map(mapped)) std::cerr << "bias will be copied\n";
  bias = stored.load(mapped);

  CHECK(bias.equal(torch::arange(3)));
}
