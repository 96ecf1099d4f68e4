// The code of README.md and docs/ that is not in an example. readme_code.cmake checks that it is
// the same.

#include <torch/nn/modules/linear.h>
#include <torch_npy.hpp>

#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

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
    torch_npy::save("labels.npy", torch::arange(20));
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

class Waves final : public torch_npy::SampleSource<torch_npy::TensorExample> {
 public:
  std::size_t size() const override { return 1000; }

  std::string key(std::size_t sample) const override { return "wave " + std::to_string(sample); }

  torch_npy::SampleRows<torch_npy::TensorExample> read(torch_npy::Request& request) const override {
    std::vector<torch_npy::TensorExample> samples;
    for (const torch_npy::Pick& pick : request.picks) {
      const double frequency = 0.01 * static_cast<double>(pick.sample + 1);
      samples.emplace_back(torch::sin(torch::arange(64) * frequency));
    }
    return samples;
  }
};

/// A server that fails for the first two of the requests that begin with sample 4.
class FailingServer final : public torch_npy::SampleSource<torch_npy::TensorExample> {
 public:
  std::size_t size() const override { return 10; }
  std::string key(std::size_t sample) const override { return std::to_string(sample); }
  torch_npy::SampleRows<torch_npy::TensorExample> read(torch_npy::Request& request) const override {
    if (request.picks[0].sample == 4 && failures_-- > 0) {
      throw torch_npy::Error(torch_npy::ErrorCode::Io, "the server does not answer");
    }
    std::vector<torch_npy::TensorExample> samples;
    for (std::size_t i = 0; i < request.picks.size(); ++i) samples.emplace_back(torch::zeros({2}));
    return samples;
  }

 private:
  mutable int failures_ = 2;
};

/// A dataset of LibTorch: images whose left half is 0 and whose right half is 1.
struct MyDataset : torch::data::datasets::Dataset<MyDataset> {
  torch::data::Example<> get(std::size_t) override {
    return {torch::arange(4).div(2, "floor").expand({1, 4, 4}).clone(), torch::tensor(7)};
  }
  c10::optional<std::size_t> size() const override { return 10; }
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

TEST_CASE("docs/datasets.md: a dataset that is chosen at run time", "[docs]") {
  const Workplace workplace;
  for (const bool augment : {false, true}) {
    torch_npy::Dataset<> dataset = torch_npy::PairedFolderDataset("inputs", "targets");
    if (augment) dataset = dataset.map(torch_npy::transforms::RandomHorizontalFlip(0.5));

    CHECK(dataset.get_batch({3, 1}).size() == 2);
    CHECK(dataset.get(3).target.equal(torch::full({4, 3}, 3, torch::kUInt8)));
  }
}

TEST_CASE("docs/datasets.md: predictions get the names of their inputs", "[docs]") {
  const Workplace workplace;
  write_bytes("inputs/train_1.npy", "damaged");
  std::filesystem::create_directories("inputs/more");
  torch_npy::save("inputs/more/train_0.npy", torch::full({4, 3}, 7, torch::kFloat32));
  const auto model = [](const torch::Tensor& data) { return data.mean({1, 2}); };
  const auto options = torch_npy::FolderOptions()
                           .recursive(true)
                           .expect({4, 3}, torch::kFloat32)
                           .on_bad_file(torch_npy::OnBadFile::Skip);
  auto dataset = torch_npy::FolderDataset("inputs", options).stacked();
  torch_npy::Loader loader(dataset, torch_npy::LoaderOptions().batch_size(4));
  for (auto& batch : loader) {
    const torch::Tensor predictions = model(batch.data);
    for (std::size_t i = 0; i < batch.indices.size(); ++i) {
      const std::filesystem::path input = dataset.key(batch.indices[i]);
      const std::filesystem::path output = "predictions" / input.lexically_relative("inputs");
      std::filesystem::create_directories(output.parent_path());
      torch_npy::save(output, predictions[static_cast<std::int64_t>(i)]);
    }
  }

  for (int i = 0; i < 6; ++i) {
    const std::string path = "predictions/train_" + std::to_string(i) + ".npy";
    CHECK(std::filesystem::exists(path) == (i != 1));
    if (i != 1) CHECK(torch_npy::load(path).item<float>() == static_cast<float>(2 * i));
  }
  CHECK(torch_npy::load("predictions/more/train_0.npy").item<float>() == 7);
}

TEST_CASE("docs/datasets.md: the keys of samples", "[docs]") {
  const Workplace workplace;
  CHECK(torch_npy::FolderDataset("inputs").stacked().key(1) == "inputs/train_1.npy");
  CHECK(torch_npy::PairedFolderDataset("inputs", "targets").key(1) == "inputs/train_1.npy");
  CHECK(torch_npy::ArrayDataset("images.npy").subset({5}).key(0) == "images.npy[5]");
  CHECK(torch_npy::ArrayDataset(torch::zeros({3, 2})).key(1) == "[1]");
}

TEST_CASE("docs/datasets.md: two folders have the same classes", "[docs]") {
  const Workplace workplace;
  for (const std::string folder : {"train/a", "train/b", "validation/b"}) {
    std::filesystem::create_directories(folder);
    torch_npy::save(folder + "/1.npy", torch::zeros({2}));
  }
  const torch_npy::ClassFolderDataset train_set("train");
  const torch_npy::ClassFolderDataset validation_set(
      "validation",
      torch_npy::FolderOptions().classes(train_set.classes()).allow_empty_classes(true));

  CHECK(validation_set.targets().equal(torch::tensor({1}, torch::kInt64)));
  CHECK(validation_set.class_to_index() == train_set.class_to_index());
}

TEST_CASE("docs/datasets.md: pairs by rule", "[docs]") {
  const Workplace workplace;
  std::filesystem::create_directory("seg");
  torch_npy::save("seg/x_image.npy", torch::zeros({2}));
  torch_npy::save("seg/x_mask.npy", torch::ones({2}));
  const auto options =
      torch_npy::FolderOptions().pattern("*_image.npy").target_pattern("*_mask.npy");
  const torch_npy::PairedFolderDataset dataset("seg", "seg", options);

  CHECK(dataset.stacked().get_batch({0}).target.equal(torch::ones({1, 2})));
}

TEST_CASE("docs/datasets.md: a list of files", "[docs]") {
  const Workplace workplace;
  std::filesystem::rename("inputs", "data");
  write_bytes("train.txt", "train_4.npy, 3\ntrain_1.npy, 0\n");
  const torch_npy::ListedFiles listed = torch_npy::read_file_list("train.txt", "data");
  const torch_npy::FileDataset dataset(listed.files, listed.labels);

  CHECK(dataset.targets().equal(torch::tensor({3, 0}, torch::kInt64)));
  CHECK(dataset.key(1) == "data/train_1.npy");
}

TEST_CASE("docs/datasets.md: the columns of a list of files", "[docs]") {
  const Workplace workplace;
  write_bytes("animals.csv", "id,path,species\n7,inputs/train_4.npy,horse\n");
  auto columns = torch_npy::FileListOptions().path_column("path").class_column("species");
  columns.classes({"cat", "dog", "horse"});  // the same numbers in every list
  const torch_npy::ListedFiles listed = torch_npy::read_file_list("animals.csv", "", columns);

  CHECK(listed.labels.equal(torch::tensor({2}, torch::kInt64)));
  CHECK(listed.files[0] == "inputs/train_4.npy");
}

TEST_CASE("docs/datasets.md: a list with a column of groups", "[docs]") {
  const Workplace workplace;
  write_bytes("animals.csv",
              "path,species,part\ninputs/train_4.npy,horse,test\ninputs/train_1.npy,cat,train\n");
  const auto options = torch_npy::FileListOptions().class_column("species").group_column("part");
  const auto listed = torch_npy::read_file_list("animals.csv", "", options);
  const torch_npy::FileDataset animals(listed.files, listed.labels);
  auto train_part = animals.subset(listed.in_group("train"));
  auto test_part = animals.subset(listed.in_group("test"));

  CHECK(train_part.key(0) == "inputs/train_1.npy");
  CHECK(test_part.targets().equal(torch::tensor({1}, torch::kInt64)));
}

TEST_CASE("docs/datasets.md: a folder of images, and an array of labels", "[docs]") {
  const Workplace workplace;
  std::filesystem::rename("inputs", "images");
  torch_npy::save("labels.npy", torch::arange(6) * 10);
  const torch::Tensor labels = torch_npy::load("labels.npy");  // in the order of the files
  const auto labelled = torch_npy::FolderDataset("images").stacked().map(
      [labels](const torch_npy::Batch<torch_npy::TensorExample>& b) {
        const std::vector<std::int64_t> rows(b.indices.begin(), b.indices.end());
        return torch_npy::Batch<>(b.data, labels.index_select(0, torch::tensor(rows)));
      });

  const auto batch = labelled.get_batch({4, 1});
  CHECK(batch.target.equal(torch::tensor({40, 10}, torch::kInt64)));
  CHECK(batch.data[0].max().item<float>() == 8);
  CHECK(batch.indices == std::vector<std::size_t>{4, 1});
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
          .expect({-1, 3}, torch::kFloat32)  // every sample; -1 means any size
          .on_bad_file(torch_npy::OnBadFile::Skip,
                       [](const torch_npy::Error& error) { std::cerr << error.what() << '\n'; })
          .max_bad(100);

  write_bytes("inputs/train_3.npy", "damaged");
  torch_npy::save("inputs/train_4.npy", torch::zeros({4, 2}));
  torch_npy::PairedFolderDataset dataset("inputs", "targets", options);
  const auto batch = dataset.stacked().get_batch({2, 3, 4, 5});
  CHECK(batch.data.size(0) == 2);
  CHECK(batch.target.scalar_type() == torch::kInt64);
  CHECK(dataset.bad_file_count() == 2);
  const auto bad = dataset.verify([](std::size_t done, std::size_t total) {
    std::cerr << '\r' << done << " of " << total << " samples";
  });
  for (const torch_npy::Error& error : bad) std::cerr << '\n' << error.what();
  std::cerr << '\n';
  CHECK(bad.size() == 2);
}

TEST_CASE("docs/transforms.md: functions of a program's own", "[docs]") {
  const Workplace workplace;
  auto dataset = torch_npy::PairedFolderDataset("inputs", "targets")
                     .map([](torch_npy::Example<>& sample) { sample.data = sample.data.log1p(); })
                     .stacked()
                     .map([](torch_npy::Batch<>& batch, at::Generator& generator) {
                       batch.data = batch.data + 0.1 * torch::randn(batch.data.sizes(), generator);
                     });

  torch_npy::Loader one(dataset, torch_npy::LoaderOptions().batch_size(6));
  torch_npy::Loader two(dataset, torch_npy::LoaderOptions().batch_size(6).workers(2));
  const torch::Tensor data = one.begin()->data;
  CHECK(data[5].sub(std::log(11.0F)).abs().max().item<float>() < 1);
  CHECK(!data[0][0].equal(data[0][1]));
  CHECK(data.equal(two.begin()->data));
}

TEST_CASE("docs/transforms.md: a function removes samples", "[docs]") {
  const Workplace workplace;
  auto dataset = torch_npy::PairedFolderDataset("inputs", "targets")
                     .map([](const torch_npy::Samples<>& samples) {
                       torch_npy::Samples<> kept;
                       for (std::size_t i = 0; i < samples.size(); ++i) {
                         if (samples[i].target.max().item<int>() == 0) continue;  // an empty mask
                         kept.push_back(samples[i]);
                         kept.indices.push_back(samples.indices[i]);
                       }
                       return kept;
                     })
                     .stacked();

  const auto batch = dataset.get_batch({2, 0, 3});
  CHECK(batch.indices == std::vector<std::size_t>{2, 3});
  CHECK(batch.data[1].max().item<float>() == 6);
}

TEST_CASE("docs/transforms.md: LibTorch's transforms of single samples", "[docs]") {
  const Workplace workplace;
  auto normalized = torch_npy::PairedFolderDataset("inputs", "targets")
                        .map(torch::data::transforms::Normalize<>(0.5, 0.5))
                        .stacked();

  const auto batch = normalized.get_batch({0, 1});
  CHECK(batch.data[0].max().item<float>() == -1);
  CHECK(batch.data[1].min().item<float>() == 3);
  auto alone =
      torch_npy::FolderDataset("inputs").map(torch::data::transforms::Normalize<void>(0.5, 0.5));
  CHECK(alone.get(1).data.min().item<float>() == 3);
}

TEST_CASE("docs/transforms.md: transforms of this library on a dataset of LibTorch", "[docs]") {
  auto flipped = MyDataset()
                     .map(torch_npy::transforms::RandomHorizontalFlip(1))
                     .map(torch_npy::transforms::Stack<>());

  CHECK(flipped.get_batch({0, 1}).data[1][0][0].equal(torch::tensor({1, 1, 0, 0})));
}

TEST_CASE("docs/transforms.md: samples of different length", "[docs]") {
  const Workplace workplace;
  std::filesystem::create_directories("sentences");
  for (int i = 1; i <= 9; ++i) {
    torch_npy::save("sentences/" + std::to_string(i) + ".npy", torch::ones({i, 2}));
  }
  torch::Tensor outputs;
  std::int64_t words = 0;
  const auto model = [&](const torch::Tensor& data, const torch::Tensor& lengths) {
    words += lengths.sum().item<std::int64_t>();
    CHECK(data.sum().item<float>() == 2 * lengths.sum().item<float>());
    return data;
  };
  torch_npy::FolderDataset sentences("sentences");  // each file has shape (length, features)
  const auto order = torch_npy::by_length(sentences.lengths(), torch_npy::MaxElements{4096});
  torch_npy::Loader loader(sentences.map(torch_npy::transforms::PadStack()),
                           torch_npy::LoaderOptions().order(order).seed(1).workers(2));
  for (auto& batch : loader) {
    outputs = model(batch.data, batch.lengths);  // (batch size, longest, features), (batch size)
  }

  CHECK(words == 45);
  CHECK(outputs.sizes() == torch::IntArrayRef({9, 9, 2}));
}

TEST_CASE("docs/transforms.md: options of PadStack", "[docs]") {
  const auto pad = torch_npy::transforms::PadStack()
                       .axis("data", 1)        // spectrograms of shape (80, length)
                       .value("target", -100)  // which cross_entropy ignores
                       .multiple_of(8)         // the padded lengths
                       .max_length("target", 448, torch_npy::transforms::TooLong::Truncate);

  const auto recording = [](std::int64_t length, std::int64_t tokens) {
    return torch_npy::ArrayDataset(torch::ones({1, 80, length}), torch::ones({1, tokens}));
  };
  const auto batch =
      torch_npy::concat(recording(9, 500), recording(3, 2)).map(pad).get_batch({0, 1});
  CHECK(batch.data.sizes() == torch::IntArrayRef({2, 80, 16}));
  CHECK(batch.target.sizes() == torch::IntArrayRef({2, 448}));
  CHECK(batch.target[1][2].item<float>() == -100);
  CHECK(batch.target_lengths.equal(torch::tensor({448, 2})));
}

TEST_CASE("docs/transforms.md: a mask of padded samples", "[docs]") {
  const auto samples = torch_npy::concat(torch_npy::ArrayDataset(torch::ones({1, 2})),
                                         torch_npy::ArrayDataset(torch::ones({1, 3})));
  const auto batch = samples.map(torch_npy::transforms::PadStack()).get_batch({0, 1});
  const torch::Tensor steps = torch::arange(batch.data.size(1), batch.lengths.options());
  const torch::Tensor mask = steps < batch.lengths.unsqueeze(1);

  CHECK(mask.equal(batch.data == 1));
}

TEST_CASE("docs/transforms.md: bad files are excluded before lengths() is called", "[docs]") {
  const Workplace workplace;
  std::filesystem::create_directories("sentences");
  for (int i = 1; i <= 4; ++i) {
    torch_npy::save("sentences/" + std::to_string(i) + ".npy", torch::ones({i, 2}));
  }
  write_bytes("sentences/2.npy", "damaged");
  torch_npy::save("sentences/3.npy", torch::ones({}));  // without a length
  const auto options = torch_npy::FolderOptions().expect({-1, 2}, torch::kFloat32);
  const torch_npy::FolderDataset all("sentences", options);
  std::set<std::string> bad;
  for (const torch_npy::Error& error : all.verify()) bad.insert(error.path().generic_string());
  std::vector<std::size_t> good;
  for (std::size_t i = 0; i < *all.size(); ++i) {
    if (bad.count(all.key(i)) == 0) good.push_back(i);
  }
  const auto sentences = all.subset(good);
  const std::vector<std::int64_t> lengths = sentences.lengths();

  CHECK(lengths == std::vector<std::int64_t>{1, 4});
}

TEST_CASE("docs/transforms.md: samples with more than two tensors", "[docs]") {
  const Workplace workplace;
  torch::Tensor loss = torch::zeros({});
  auto dataset = torch_npy::PairedFolderDataset("inputs", "targets")
                     .map([](torch_npy::Example<> sample) {
                       std::vector<torch_npy::NamedExample::Item> items = {
                           {"image", sample.data},
                           {"mask", sample.target},
                           {"weight", sample.target.to(torch::kFloat32) + 1}};
                       return torch_npy::NamedExample(std::move(items));
                     })
                     .stacked();
  torch_npy::Loader loader(dataset, torch_npy::LoaderOptions().batch_size(2));
  for (auto& batch : loader) {
    loss = loss + ((batch["image"] - batch["mask"]).square() * batch["weight"]).mean();
  }

  CHECK(loss.item<float>() == 140);  // the sum of i * i * (i + 1) is 280, in batches of 2
}

TEST_CASE("docs/datasets.md: one archive for each sample", "[docs]") {
  const Workplace workplace;
  std::filesystem::create_directories("scenes");
  for (int i = 0; i < 4; ++i) {
    const torch::Tensor image = torch::full({4, 3}, i, torch::kFloat32);
    torch_npy::save_npz("scenes/" + std::to_string(i) + ".npz",
                        {{"image", image}, {"mask", image - 1}, {"label", torch::tensor(i)}});
  }
  torch::Tensor loss = torch::zeros({});
  const torch_npy::NpzDataset pairs("scenes", "image", "label");  // data and target
  const torch_npy::NpzDataset images("scenes", "image");          // no target
  const torch_npy::NpzDataset scenes("scenes", {"image", "mask", "label"});
  torch_npy::Loader loader(scenes.stacked(), torch_npy::LoaderOptions().batch_size(2));
  for (auto& batch : loader) {
    loss = loss + (batch["image"] - batch["mask"]).square().mean();
  }
  CHECK(loss.item<double>() == 2);
  CHECK(pairs.get(3).target.item<int>() == 3);
  CHECK(images.get(2).data[0][0].item<int>() == 2);
}

TEST_CASE("docs/transforms.md: transforms of named tensors", "[docs]") {
  const auto scenes =
      torch_npy::ArrayDataset(torch::arange(3)).map([](const torch_npy::TensorExample& number) {
        const auto i = number.data.item<std::int64_t>();
        const torch::Tensor image = torch::arange((4 + i) * 4).reshape({1, 4 + i, 4});
        return torch_npy::NamedExample({{"image", image.to(torch::kFloat32)},
                                        {"mask", image[0]},
                                        {"boxes", torch::ones({i, 4})},
                                        {"number", number.data}});
      });
  using namespace torch_npy::transforms;

  auto transformed = scenes.map(Resize({8, 8}).on("image"))
                         .map(Resize({8, 8}, Interpolation::Nearest).on("mask"))
                         .map(RandomHorizontalFlip(0.5).on({"image", "mask"}))
                         .map(Normalize({0.5}, {0.25}).on("image"))
                         .map(PadStack().on("boxes"));

  const auto batch = transformed.get_batch({1, 2});
  CHECK(batch["image"].sizes() == torch::IntArrayRef({2, 1, 8, 8}));
  CHECK(batch["mask"].scalar_type() == torch::kInt64);
  CHECK(batch.lengths["boxes"].equal(torch::tensor({1, 2})));
  CHECK(batch["number"].equal(torch::tensor({1, 2})));
}

TEST_CASE("docs/transforms.md: a table is standardized", "[docs]") {
  const Workplace workplace;
  torch_npy::save("features.npy", torch::arange(60, torch::kFloat32).reshape({20, 3}));
  const torch_npy::ArrayDataset table("features.npy", "labels.npy");  // float32, int64
  const auto [train_set, test_set] = torch_npy::random_split(table, {0.75, 0.25}, /*seed=*/1);
  const auto [mean, std] = torch_npy::mean_and_std(train_set);
  const torch_npy::transforms::Normalize normalize(mean, std);
  torch_npy::Loader loader(train_set.stacked().map(normalize),
                           torch_npy::LoaderOptions().batch_size(4).shuffle(true));
  const auto test_batch = test_set.stacked().map(normalize).get_batch({0, 1});

  std::vector<torch::Tensor> seen;
  for (const auto& batch : loader) {
    seen.push_back(batch.data);
    CHECK(batch.target.scalar_type() == torch::kInt64);
  }
  const torch::Tensor all = torch::cat(seen);
  CHECK(all.sizes() == torch::IntArrayRef({15, 3}));
  CHECK(all.mean(0).abs().max().item<float>() < 1e-6);
  CHECK((all.square().mean(0) - 1).abs().max().item<float>() < 1e-6);
  const torch::Tensor raw = test_set.get(1).data;
  for (std::size_t i = 0; i < 3; ++i) {
    const double want = (raw[static_cast<std::int64_t>(i)].item<double>() - mean[i]) / std[i];
    CHECK(std::abs(test_batch.data[1][static_cast<std::int64_t>(i)].item<double>() - want) < 1e-5);
  }
}

TEST_CASE("docs/datasets.md: parts of datasets, and several datasets", "[docs]") {
  const Workplace workplace;
  const torch_npy::PairedFolderDataset dataset("inputs", "targets");
  const auto more_data = torch_npy::ArrayDataset(torch::full({8, 4, 3}, 100, torch::kFloat32),
                                                 torch::zeros({8, 4, 3}, torch::kUInt8));
  std::vector<std::size_t> train_indices;
  std::vector<std::size_t> test_indices;
  for (std::size_t i = 0; i < dataset.size().value(); ++i) {
    (i % 5 == 0 ? test_indices : train_indices).push_back(i);
  }
  auto test_set = dataset.subset(test_indices);
  auto train_set = torch_npy::concat(dataset.subset(train_indices), more_data);
  torch_npy::Loader loader(
      train_set.stacked(),
      torch_npy::LoaderOptions().batch_size(4).order(torch_npy::mixed({0.7, 0.3})).seed(1));

  CHECK(test_set.key(1) == "inputs/train_5.npy");
  std::size_t first = 0;
  std::size_t second = 0;
  for (auto& batch : loader) {
    for (const std::size_t index : batch.indices) ++(index < 4 ? first : second);
  }
  CHECK(first + second == 12);
  CHECK(first > second);
}

TEST_CASE("docs/datasets.md: training and validation", "[docs]") {
  using namespace torch_npy::transforms;
  const Workplace workplace;
  const torch_npy::PairedFolderDataset dataset("inputs", "targets");
  const auto [train, validation] = torch_npy::random_split(dataset, {0.8, 0.2}, /*seed=*/1);
  torch_npy::Loader train_loader(train.stacked().map(RandomHorizontalFlip(0.5)), 32);
  torch_npy::Loader validation_loader(validation.stacked(), 32);

  CHECK(train_loader.begin()->data.size(0) == 5);
  CHECK(validation_loader.begin()->data.size(0) == 1);

  std::vector<std::size_t> scores;
  const auto train_and_validate = [](const torch_npy::Dataset<>& some,
                                     const torch_npy::Dataset<>& others) {
    return *some.size() + 10 * *others.size();
  };
  for (const auto& fold : torch_npy::k_fold(dataset, /*k=*/3, /*seed=*/1)) {
    scores.push_back(train_and_validate(fold.train, fold.validation));
  }

  CHECK(scores == std::vector<std::size_t>(3, 24));

  const torch::Tensor labels = torch::arange(6) % 2;
  const auto patient_of = [](const std::string& key) {
    return std::filesystem::path(key).filename().string().substr(0, 7);  // train_1_....npy
  };
  const auto options = torch_npy::SplitOptions().stratify(labels).groups(patient_of);
  const auto parts = torch_npy::random_split(dataset, {0.5, 0.5}, 1, options);

  CHECK(*parts[0].size() == 3);
}

TEST_CASE("docs/datasets.md: samples that stay in memory", "[docs]") {
  using namespace torch_npy::transforms;
  const Workplace workplace;
  auto dataset = torch_npy::FolderDataset("inputs")
                     .cached(std::size_t{8} << 30)  // 8 GiB
                     .stacked()
                     .map(RandomHorizontalFlip(0.5));

  const torch::Tensor first = dataset.get_batch({1, 2}).data;
  std::filesystem::remove_all("inputs");
  CHECK(torch::equal(dataset.get_batch({1, 2}).data, first));
}

TEST_CASE("docs/datasets.md: arrays of an archive, and shards", "[docs]") {
  const Workplace workplace;
  torch_npy::save_npz("medmnist.npz",
                      {{"train_images", torch::ones({20, 28, 28}, torch::kUInt8)},
                       {"train_labels", torch::arange(20).unsqueeze(1).to(torch::kUInt8)}});
  const torch_npy::NpzFile file("medmnist.npz");
  const auto as_class = torch_npy::LoadOptions().squeeze(1).dtype(torch::kInt64);
  torch_npy::ArrayDataset train_set(file["train_images"], file["train_labels"], {}, as_class);

  CHECK(train_set.stacked().get_batch({3, 1}).target.equal(torch::tensor({3, 1})));
  CHECK(train_set.key(5) == "medmnist.npz/train_images.npy[5]");

  torch_npy::save("x_000.npy", torch::zeros({12, 2}));
  torch_npy::save("x_001.npy", torch::ones({8, 2}));
  const std::vector<std::filesystem::path> shards = {"x_000.npy", "x_001.npy"};
  torch_npy::ArrayDataset joined(shards, "labels.npy");

  CHECK(joined.get(13).data.equal(torch::ones({2})));
  CHECK(joined.get(13).target.item<int>() == 13);
  CHECK(joined.key(13) == "x_001.npy[1]");
}

TEST_CASE("docs/datasets.md: windows", "[docs]") {
  const Workplace workplace;
  for (const char* name : {"tokens_000.npy", "tokens_001.npy"}) {
    write_bytes(name, npy(header_text("'<u2'", "(3000,)"), std::string(6000, '\1')));
  }
  const std::int64_t length = 1024;
  torch_npy::WindowDataset tokens(
      {"tokens_000.npy", "tokens_001.npy"}, length,
      torch_npy::WindowOptions()
          .stride(length)
          .data_options(torch_npy::LoadOptions().dtype(torch::kInt64))  // the files have uint16
          .target(/*offset=*/1, length));

  CHECK(tokens.size() == 4);
  CHECK(tokens.get(3).target.equal(torch::full({length}, 257)));
  CHECK(tokens.key(3) == "tokens_001.npy[1024]");

  std::filesystem::create_directory("frames");
  for (int i = 0; i < 30; ++i) {
    torch_npy::save("frames/f" + std::to_string(i) + ".npy", torch::full({2, 3}, i));
  }
  const auto by_number = torch_npy::FolderOptions().natural_order(true);
  const torch_npy::FolderDataset frames("frames", by_number);
  torch_npy::WindowDataset clips(frames.files(), /*length=*/16,
                                 torch_npy::WindowOptions().frames(true).stride(8));

  CHECK(clips.size() == 2);
  CHECK(clips.get(1).data[15].equal(torch::full({2, 3}, 23)));
  CHECK(clips.key(1) == "frames/f8.npy");
}

TEST_CASE("docs/datasets.md: arrays in memory", "[docs]") {
  const Workplace workplace;
  const auto as_float = torch_npy::LoadOptions().dtype(torch::kFloat32);
  const torch::Tensor images = torch_npy::load("images.npy", as_float) / 255;
  auto in_memory = torch_npy::ArrayDataset(images, torch_npy::load("labels.npy")).stacked();

  CHECK(in_memory.get_batch({3, 1}).target.equal(torch::tensor({3, 1})));
}

TEST_CASE("docs/datasets.md: samples from anywhere else", "[docs]") {
  torch_npy::Dataset<torch_npy::TensorExample> waves(std::make_shared<const Waves>());
  torch_npy::Loader loader(waves.stacked(), torch_npy::LoaderOptions().batch_size(32).workers(2));

  std::int64_t samples = 0;
  for (auto& batch : loader) samples += batch.data.size(0);
  CHECK(samples == 1000);
}

TEST_CASE("docs/datasets.md: LibTorch's loader", "[docs]") {
  const Workplace workplace;
  std::int64_t samples = 0;
  auto folder = torch_npy::FolderDataset("inputs").stacked();
  auto pairs = torch_npy::PairedFolderDataset("inputs", "targets").stacked();
  auto transformed = torch_npy::FolderDataset("inputs").stacked().map(
      torch_npy::transforms::ToDtype(torch::kFloat16));

  auto loader = torch::data::make_data_loader(folder, /*batch_size=*/32);
  auto pair_loader = torch::data::make_data_loader<torch::data::samplers::SequentialSampler>(
      pairs, torch::data::DataLoaderOptions(/*batch_size=*/32).workers(2));
  auto transformed_loader = torch::data::make_data_loader(transformed, /*batch_size=*/32);
  for (auto& batch : *pair_loader) {
    samples += batch.data.size(0) + batch.target.size(0);
  }

  CHECK(samples == 12);
  CHECK(loader->begin()->data.size(0) == 6);
  CHECK(transformed_loader->begin()->data.scalar_type() == torch::kFloat16);
}

TEST_CASE("docs/training.md: weighted samples", "[docs]") {
  const Workplace workplace;
  const auto dataset = torch_npy::FolderDataset("inputs").stacked();
  const std::vector<double> weights = {1, 1, 1, 1, 1, 10};  // one for each sample
  const auto order = torch_npy::weighted(weights, /*samples=*/1000);
  torch_npy::Loader loader(dataset, torch_npy::LoaderOptions().batch_size(32).order(order).seed(1));

  std::size_t samples = 0;
  std::size_t last = 0;
  for (auto& batch : loader) {
    for (const std::size_t index : batch.indices) last += index == 5 ? 1 : 0;
    samples += batch.indices.size();
  }
  CHECK(samples == 1000);
  CHECK(last > 500);
}

TEST_CASE("docs/training.md: a batch that failed is read again", "[docs]") {
  const torch_npy::Dataset<torch_npy::TensorExample> dataset(
      std::make_shared<const FailingServer>());
  torch_npy::Loader loader(dataset.stacked(), torch_npy::LoaderOptions().batch_size(2));
  const std::uint64_t epochs = 2;
  const std::chrono::milliseconds pause(1);
  std::int64_t samples = 0;
  while (loader.epoch() < epochs) {
    try {
      for (auto& batch : loader) {
        samples += batch.data.size(0);
      }
    } catch (const torch_npy::Error& error) {
      if (error.code() != torch_npy::ErrorCode::Io) throw;
      std::cerr << error.what() << '\n';
      std::this_thread::sleep_for(pause);
      loader.restore(loader.state());  // the next loop begins with the batch that failed
    }
  }

  CHECK(samples == 20);
}

TEST_CASE("docs/training.md: the batches after one that failed", "[docs]") {
  const Workplace workplace;
  const auto dataset = torch_npy::FolderDataset("inputs").stacked();
  for (const std::string bad : {"inputs/train_0.npy", "inputs/train_3.npy"}) {
    const std::string good = read_bytes(bad);
    write_bytes(bad, "damaged");
    torch_npy::Loader loader(dataset, torch_npy::LoaderOptions().batch_size(2));
    std::int64_t samples = 0;
    bool has_batch = true;  // false after an exception, and between two batches
    for (auto it = loader.begin(); it != loader.end();) {
      try {
        if (std::exchange(has_batch, false)) samples += it->data.size(0);
        ++it;
        has_batch = true;
      } catch (const torch_npy::Error& error) {
        std::cerr << error.what() << '\n';
      }
    }

    CHECK(samples == 4);
    write_bytes(bad, good);
  }
}

TEST_CASE("docs/training.md: statistics", "[docs]") {
  const Workplace workplace;
  torch_npy::Loader loader(torch_npy::FolderDataset("inputs").stacked());
  for (auto& batch : loader) CHECK(batch.data.size(0) == 1);
  const torch_npy::LoaderStats stats = loader.stats();
  std::cerr << stats.samples << " samples in " << stats.batches << " batches, " << stats.skipped
            << " skipped, " << stats.bytes << " bytes; waited " << stats.waited << " s, read for "
            << stats.read << " s, copied for " << stats.copied << " s\n";

  CHECK(stats.bytes == 6 * 48);
}

TEST_CASE("docs/training.md: prefetch, and OrderSampler", "[docs]") {
  const Workplace workplace;
  const torch::Device device = torch::kCPU;
  auto dataset = torch_npy::PairedFolderDataset("inputs", "targets").stacked();
  std::int64_t samples = 0;
  {
    auto loader = torch::data::make_data_loader(
        dataset, torch::data::DataLoaderOptions(/*batch_size=*/32).workers(2));
    for (auto& batch : torch_npy::prefetch(loader, device)) {
      samples += batch.data.size(0);
    }
  }
  CHECK(samples == 6);

  samples = 0;
  const std::size_t num_replicas = 4;
  const std::size_t rank = 3;
  const std::uint64_t epochs = 2;
  torch_npy::OrderSampler sampler(torch_npy::shuffled(), dataset.size().value(), num_replicas, rank,
                                  torch_npy::OrderSamplerOptions().seed(1));
  auto loader = torch::data::make_data_loader(dataset, sampler, /*options=*/32);
  for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
    sampler.set_epoch(epoch);  // a new order for each epoch; the loader shares the sampler's state
    for (auto& batch : torch_npy::prefetch(loader, device)) {
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

TEST_CASE("docs/files.md: a region of an array", "[docs]") {
  const Workplace workplace;
  torch_npy::save("volume.npy", torch::arange(80 * 4 * 100).reshape({80, 4, 100}));
  const auto box = torch_npy::LoadOptions().region({{10, 74}, {}, {32, 96}});
  const torch::Tensor patch = torch_npy::load("volume.npy", box);

  CHECK(patch.equal(torch_npy::load("volume.npy").slice(0, 10, 74).slice(2, 32, 96)));
}

TEST_CASE("docs/transforms.md: random patches of volumes", "[docs]") {
  const Workplace workplace;
  for (const char* folder : {"volumes", "masks"}) {
    std::filesystem::create_directory(folder);
    for (const int size : {64, 70}) {
      torch_npy::save(std::filesystem::path(folder) / ("v" + std::to_string(size) + ".npy"),
                      torch::zeros({size, 64, 66}, torch::kInt16));
    }
  }
  const auto options = torch_npy::FolderOptions().samples_per_file(16);
  auto patches = torch_npy::PairedFolderDataset("volumes", "masks", options)
                     .map(torch_npy::transforms::RandomCrop({64, 64, 64}))
                     .stacked();
  torch_npy::Loader loader(
      patches, torch_npy::LoaderOptions().batch_size(8).shuffle(true).seed(1).workers(2));

  std::int64_t count = 0;
  for (auto& batch : loader) {
    CHECK(batch.target.sizes() == batch.data.sizes());
    count += batch.data.size(0);
  }
  CHECK(count == 32);
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

TEST_CASE("docs/files.md: an Appender that replaces, and one that continues", "[docs]") {
  const Workplace workplace;
  torch_npy::save("fresh.npy", torch::zeros({3}));
  torch_npy::save("losses.npy", torch::zeros({1000, 2}));
  const std::int64_t finished_steps = 1000;
  torch_npy::Appender fresh("fresh.npy", {2}, torch::kFloat32, torch_npy::AppendMode::Replace);

  torch_npy::Appender log("losses.npy", {2}, torch::kFloat32);  // AppendMode::Continue
  if (log.rows() != finished_steps) throw std::runtime_error("losses.npy is not of this run");

  CHECK(fresh.rows() == 0);
}

TEST_CASE("docs/dtypes.md: structured arrays are saved", "[docs]") {
  const Workplace workplace;
  const torch::Tensor id = torch::arange(3);
  const torch::Tensor x = torch::rand({3});
  const torch::Tensor y = torch::rand({3});
  torch_npy::save("points.npy", {{"id", id}, {"pos.x", x}, {"pos.y", y}});
  const auto points = torch_npy::load_fields("points.npy");

  CHECK(points.keys() == std::vector<std::string>{"id", "pos.x", "pos.y"});
  CHECK(points["pos.y"].equal(y));
}

TEST_CASE("docs/archives.md: sparse matrices", "[docs]") {
  const Workplace workplace;
  torch_npy::save_sparse("features.npz", torch::eye(3).to_sparse_csr());
  const torch::Tensor matrix = torch_npy::load_sparse("features.npz");  // csr: layout kSparseCsr
  const torch::Tensor dense = matrix.to_dense();
  torch_npy::save_sparse("copy.npz", matrix);

  CHECK(dense.equal(torch::eye(3)));
  CHECK(torch_npy::load_sparse("copy.npz").to_dense().equal(torch::eye(3)));
}

TEST_CASE("docs/archives.md: an archive is aligned and mapped", "[docs]") {
  const Workplace workplace;
  write_bytes(
      "model.npz",
      zip({ZipPart::stored("bias.npy", npy(header_text("'<f8'", "(1,)") + " ", "12345678"))}));
  torch::Tensor bias = torch_npy::load_npz("model.npz")["bias"];
  const torch::Tensor before = bias;
  torch_npy::align_npz("model.npz");
  const torch_npy::NpzFile model("model.npz");
  if (!model.can_map("bias")) std::cerr << "bias will be copied\n";
  bias = model.load("bias", torch_npy::LoadOptions().mmap(true));

  CHECK(model.can_map("bias"));
  CHECK(bias.equal(before));
}

TEST_CASE("docs/archives.md: an archive is changed", "[docs]") {
  const Workplace workplace;
  torch_npy::save_npz("model.npz", {{"weight", torch::ones({2})}, {"bias", torch::arange(3)}});
  const torch::Tensor bias = torch::arange(5);
  torch_npy::update_npz("model.npz", {{"bias", bias}, {"step", torch::tensor(100)}});
  torch_npy::update_npz("model.npz", {{"bias", bias}}, /*remove=*/{"step"});
  torch_npy::remove_from_npz("model.npz", {"bias"});

  CHECK(torch_npy::NpzFile("model.npz").names() == std::vector<std::string>{"weight"});
}

TEST_CASE("docs/archives.md: an archive of which some arrays cannot be loaded", "[docs]") {
  const Workplace workplace;
  const auto stored = [](const char* name, const char* descr) {
    return ZipPart::stored(name, npy(header_text(descr, "(1,)"), "1234"));
  };
  write_bytes("mixed.npz", zip({stored("images.npy", "'<f4'"), stored("names.npy", "'<U1'"),
                                stored("labels.npy", "'<i4'")}));
  auto arrays = torch_npy::load_npz("mixed.npz", {"images", "labels"});  // ignores the others

  const auto skip = torch_npy::LoadOptions().on_unreadable(
      torch_npy::OnUnreadable::Skip,
      [](const torch_npy::Error& error) { std::cerr << error.what() << '\n'; });
  arrays = torch_npy::load_npz("mixed.npz", skip);

  CHECK(arrays.keys() == std::vector<std::string>{"images", "labels"});
}

TEST_CASE("docs/archives.md: archives in streams and in memory", "[docs]") {
  torch::Tensor bias = torch::arange(3);
  std::stringstream stream;  // a pipe or a socket, too
  torch_npy::save_npz(stream, {{"bias", bias}});
  bias = torch_npy::NpzFile(stream).load("bias");  // reads the stream to its end, into memory

  const std::string bytes = stream.str();  // is not copied
  auto loaded = torch_npy::load_npz(torch_npy::NpzFile(bytes.data(), bytes.size()));

  CHECK(loaded["bias"].equal(torch::arange(3)));
  CHECK(bias.equal(torch::arange(3)));
}

TEST_CASE("docs/dtypes.md: unsigned integers become signed ones", "[docs]") {
  const Workplace workplace;
  write_bytes("counts.npy", npy(header_text("'<u2'", "(2,)"), std::string("\xff\xff\1\0", 4)));
  const auto widened = torch_npy::LoadOptions().unsigned_as(torch_npy::kNextSigned);
  torch::Tensor counts = torch_npy::load("counts.npy", widened);  // from uint16 to int32

  CHECK(counts.equal(torch::tensor({65535, 1}, torch::kInt32)));
}

TEST_CASE("docs/archives.md: strict(false) returns the names that do not match", "[docs]") {
  const Workplace workplace;
  const torch::nn::Linear network(2, 3);
  torch_npy::save_npz("model.npz", {{"weight", torch::ones({3, 2})}});
  const auto some = torch_npy::LoadParametersOptions().strict(false);
  const torch_npy::IncompatibleKeys keys = torch_npy::load_parameters(network, "model.npz", some);
  for (const std::string& name : keys.missing_keys) std::cerr << name << " has no new values\n";

  CHECK(keys.missing_keys == std::vector<std::string>{"bias"});
  CHECK(network->weight.equal(torch::ones({3, 2})));
}
