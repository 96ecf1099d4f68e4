// Archives as samples.

#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/npz_dataset.hpp>
#include <torch_npy/data/split.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save_npz.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <set>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

const auto kSkip = FolderOptions().on_bad_file(OnBadFile::Skip);

std::string archive_name(int i) { return "s" + std::to_string(1000 + i) + ".npz"; }

/// Sample i: "image" is sample(i), "label" the number i, "weight" i / 2 of shape (1).
void save_sample(const std::filesystem::path& path, int i) {
  save_npz(path,
           {{"image", sample(i)},
            {"label", at::full({}, i, at::kLong)},
            {"weight", at::full({1}, i / 2.0)}},
           SaveNpzOptions().sync(false));
}

void fill_archives(const Folder& folder, int count) {
  for (int i = 0; i < count; ++i) save_sample(folder / archive_name(i), i);
}

std::string npy_of(const at::Tensor& tensor) {
  std::ostringstream out;
  save(out, tensor);
  return out.str();
}

ZipPart image_part(int i) { return ZipPart::stored("image.npy", npy_of(sample(i))); }
ZipPart label_part(int i) {
  return ZipPart::stored("label.npy", npy_of(at::full({}, i, at::kLong)));
}

at::Tensor labels(const std::vector<std::int64_t>& numbers) {
  return at::tensor(numbers, at::kLong);
}

}  // namespace

TEST_CASE("each archive of a folder is a sample, in order of name", "[npz_dataset]") {
  const Folder folder;
  fill_archives(folder, 7);
  write_bytes(folder / "notes.txt", "no sample");
  save(folder / "array.npy", sample(0));

  const NpzDataset pairs(folder.path(), "image", "label");
  static_assert(std::is_base_of_v<Dataset<Example<>>, NpzDataset<Example<>>>);
  CHECK(*pairs.size() == 7);
  CHECK(pairs.key(3) == (folder / archive_name(3)).generic_string());
  CHECK(pairs.verify().empty());
  const Example<> one = pairs.get(4);
  CHECK(at::equal(one.data, sample(4)));
  CHECK(one.target.dim() == 0);
  CHECK(one.target.item<int>() == 4);
  const Batch<> batch = pairs.stacked().get_batch({6, 0, 3});
  CHECK(at::equal(batch.data, at::stack({sample(6), sample(0), sample(3)})));
  CHECK(at::equal(batch.target, labels({6, 0, 3})));
  CHECK(batch.indices == Indices{6, 0, 3});

  const NpzDataset images(folder.path(), "image.npy");
  CHECK(at::equal(images.stacked().get_batch({1, 2}).data, at::stack({sample(1), sample(2)})));
  const Samples<TensorExample> list = images.get_batch({5, 5});
  CHECK(at::equal(list[1].data, sample(5)));

  for (const std::size_t workers : {0, 1, 4}) {
    auto loader = loader_of(pairs.stacked(), 3, workers);
    for (int i = 0; i < 2; ++i) CHECK(at::equal(epoch(*loader), samples(7)));
    std::vector<int> numbers;
    Loader ours(pairs.stacked(), LoaderOptions().batch_size(2).shuffle(true).workers(workers));
    for (auto& some : ours) {
      for (std::int64_t i = 0; i < some.data.size(0); ++i) {
        CHECK(number_of(some.data[i]) == some.target[i].item<int>());
        numbers.push_back(number_of(some.data[i]));
      }
    }
    CHECK(std::set<int>(numbers.begin(), numbers.end()).size() == 7);
  }
}

TEST_CASE("several arrays of an archive make a sample with names", "[npz_dataset]") {
  const Folder folder;
  fill_archives(folder, 5);
  // Two names in braces convert to one std::string, too.
  const NpzDataset two(folder.path(), {"image", "label"});
  static_assert(std::is_base_of_v<Dataset<NamedExample>, NpzDataset<NamedExample>>);
  CHECK(two.get(2).items().size() == 2);
  const NpzDataset one(folder.path(), {"image"});
  CHECK(at::equal(one.get(2)["image"], sample(2)));
  const std::vector<std::string> names = {"weight", "image.npy", "label"};
  const NpzDataset three(folder.path(), names, FolderOptions());
  const NamedBatch batch = three.stacked().get_batch({4, 1});
  CHECK(at::equal(batch["image.npy"], at::stack({sample(4), sample(1)})));
  CHECK(at::equal(batch["label"], labels({4, 1})));
  CHECK(batch["weight"].sizes() == at::IntArrayRef({2, 1}));
  CHECK(batch["weight"][0].item<double>() == 2);
  CHECK(batch.items()[0].first == "weight");
  CHECK(batch.indices == Indices{4, 1});
  const auto changed = two.map([](NamedExample& some) { some["image"].add_(1); }).stacked();
  CHECK(at::equal(changed.get_batch({3})["image"][0], sample(3) + 1));

  const Error none = error_of([&] { NpzDataset(folder.path(), std::vector<std::string>()); });
  CHECK(none.code() == ErrorCode::InvalidArgument);
  const Error twice = error_of([&] { NpzDataset(folder.path(), {"image", "label", "image"}); });
  CHECK(twice.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(twice.what(), says("the name \"image\" is there twice"));
}

TEST_CASE("a list of archives is used in its order", "[npz_dataset]") {
  const Folder folder;
  fill_archives(folder, 4);
  const std::vector<std::filesystem::path> files = {folder / archive_name(3),
                                                    folder / archive_name(1)};
  const NpzDataset dataset(files, "image", "label");
  CHECK(*dataset.size() == 2);
  CHECK(dataset.key(0) == files[0].generic_string());
  CHECK(numbers_of(dataset.stacked().get_batch({0, 1})) == std::vector<int>{3, 1});
  const NpzDataset braces({files[1], files[0], files[1]}, "image");
  CHECK(numbers_of(braces.stacked().get_batch({0, 1, 2})) == std::vector<int>{1, 3, 1});
  CHECK(*NpzDataset({folder / archive_name(2)}, {"image", "label"}).size() == 1);
  const NpzDataset missing({files[0], folder / "none.npz"}, "image");
  const Error error = error_of([&] { (void)missing.get(1); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == folder / "none.npz");
  CHECK(missing.verify().size() == 1);
}

TEST_CASE("subset, concat and lengths work on archives", "[npz_dataset]") {
  const Folder folder;
  fill_archives(folder, 4);
  const NpzDataset dataset(folder.path(), "image", "label");
  const auto both = concat(dataset.subset({3, 0}), dataset).stacked();
  CHECK(numbers_of(both.get_batch({0, 5, 1})) == std::vector<int>{3, 3, 0});
  CHECK(dataset.lengths() == std::vector<std::int64_t>{2, 2, 2, 2});
  CHECK(dataset.subset({1}).lengths() == std::vector<std::int64_t>{2});
  CHECK(NpzDataset(folder.path(), {"weight", "image"}).lengths()[0] == 1);
  const Error error = error_of([&] { (void)NpzDataset(folder.path(), "label").lengths(); });
  CHECK(error.path() == folder / archive_name(0));
  CHECK_THAT(error.what(), says("member \"label.npy\": a 0-d array has no length"));
  // Runs on other archives, or on other arrays, cannot be continued.
  const NpzDataset same(folder.path(), "image", "label");
  CHECK(dataset.source()->fingerprint() == same.source()->fingerprint());
  const NpzDataset other(folder.path(), "image", "weight");
  CHECK(dataset.source()->fingerprint() != other.source()->fingerprint());
}

TEST_CASE("the labels of archives are known for a stratified split", "[npz_dataset]") {
  const Folder folder;
  for (int i = 0; i < 40; ++i) {
    save_npz(folder / archive_name(i),
             {{"image", sample(i)}, {"label", at::full({1}, i % 4, at::kInt)}},
             SaveNpzOptions().sync(false));
  }
  const NpzDataset dataset(folder.path(), "image", "label");
  const at::Tensor targets = dataset.targets();
  CHECK(targets.scalar_type() == at::kLong);
  for (int i = 0; i < 40; ++i) CHECK(targets[i].item<int>() == i % 4);
  const auto parts = random_split(dataset, {0.5, 0.5}, 1, SplitOptions().stratify(targets));
  CHECK(at::equal(parts[0].targets().bincount(), labels({5, 5, 5, 5})));
  CHECK(
      at::equal(concat(dataset.subset({3, 1}), parts[1]).targets().slice(0, 0, 2), labels({3, 1})));
  const Error error =
      error_of([&] { (void)NpzDataset(folder.path(), "label", "image").targets(); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK(error.path() == folder / archive_name(0));
  CHECK_THAT(error.what(), says("a class label is one integer, found a target of shape"));
  CHECK(error_of([&] {
          (void)NpzDataset(folder.path(), {"image", "label"}).targets();
        }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("samples equal what NpzFile loads, for any layout of the archives", "[npz_dataset]") {
  const at::Tensor large = at::arange(60000).to(at::kFloat).reshape({300, 200});
  const std::string swapped = big_endian_npy(sample(3));
  const std::string padded = npy(header_text("'<f4'", "(2, 3)") + "   \n",
                                 std::string(static_cast<const char*>(sample(4).data_ptr()), 24));
  const auto stored = [](const std::string& bytes) { return ZipPart::stored("image.npy", bytes); };
  ZipPart long_extra = image_part(5);
  long_extra.local.extra = little(0x9999, 2) + little(300, 2) + std::string(300, 'x');
  const std::vector<std::vector<ZipPart>> archives = {
      {image_part(0), label_part(0)},
      {image_part(1), label_part(1)},
      {label_part(2), image_part(2)},  // another order
      {ZipPart::stored("a.npy", npy_of(sample(9))), image_part(3), label_part(3)},
      {stored(swapped), label_part(4)},
      {stored(padded), label_part(5)},
      {long_extra, label_part(6)},
      {stored(npy_of(sample(6).t().contiguous().t())), label_part(7)},
      {image_part(7), label_part(8), ZipPart::stored("more.npy", npy_of(large))},
      {ZipPart::stored("more.npy", npy_of(large)), image_part(8), label_part(9)},
      {ZipPart::stored("image", npy_of(sample(9))), label_part(10)},
      {stored(npy_of(sample(10)) + "more"), label_part(11)},
      {image_part(11), label_part(12), ZipPart::stored("read.me", "text")},
      {image_part(12), label_part(13)},
  };
  const Folder folder;
  std::vector<std::filesystem::path> files;
  for (std::size_t i = 0; i < archives.size(); ++i) {
    const auto path = folder / archive_name(static_cast<int>(i));
    files.push_back(write_bytes(path, zip(archives[i])));
  }
  write_bytes(files[1], zip(archives[1], [](ZipEnd& end) { end.comment = "a comment"; }));
  for (const LoadOptions& options :
       {LoadOptions(), LoadOptions().dtype(at::kDouble), LoadOptions().rows(1, 2),
        LoadOptions().mmap(true), LoadOptions().pinned_memory(true)}) {
    const NpzDataset dataset(folder.path(), "image", "label",
                             FolderOptions().data_options(options));
    std::vector<at::Tensor> images;
    std::vector<at::Tensor> numbers;
    Indices all;
    for (const auto& file : files) {
      all.push_back(all.size());
      images.push_back(NpzFile(file).load("image", options));
      numbers.push_back(NpzFile(file).load("label"));
    }
    const Samples<> list = dataset.get_batch(all);
    for (std::size_t i = 0; i < all.size(); ++i) {
      CHECK(at::equal(list[i].data, images[i]));
      CHECK(list[i].data.scalar_type() == images[i].scalar_type());
      CHECK(at::equal(list[i].target, numbers[i]));
    }
    const Batch<> batch = dataset.stacked().get_batch(all);
    CHECK(at::equal(batch.data, at::stack(images)));
    CHECK(at::equal(batch.target, at::stack(numbers)));
  }
}

TEST_CASE("large arrays of archives are read into one tensor", "[npz_dataset]") {
  const Folder folder;
  const auto image = [](int i) { return at::arange(i, i + 150000).to(at::kInt); };
  for (int i = 0; i < 4; ++i) {
    save_npz(folder / archive_name(i), {{"label", at::full({}, i)}, {"image", image(i)}},
             SaveNpzOptions().sync(false));
  }
  const auto dataset = NpzDataset(folder.path(), "image", "label").stacked();
  const void* memory = nullptr;
  for (int turn = 0; turn < 2; ++turn) {
    const Batch<> batch = dataset.get_batch({2, 3, 0});
    CHECK(at::equal(batch.data, at::stack({image(2), image(3), image(0)})));
    CHECK(batch.data.is_contiguous());
    if (turn != 0) CHECK(batch.data.data_ptr() == memory);  // the memory is used again
    memory = batch.data.data_ptr();
  }
}

TEST_CASE("a folder without archives throws Error and tells what it contains", "[npz_dataset]") {
  const Folder folder;
  const auto check = [&](const std::filesystem::path& path, const FolderOptions& options,
                         const char* words) {
    const Error error = error_of([&] { NpzDataset(path, "image", options); });
    CHECK(error.code() == ErrorCode::NotFound);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(words));
  };
  check(folder / "none", {}, "cannot open the folder");
  check(folder.path(), {}, "no .npz file in this folder");
  std::filesystem::create_directories(folder / "deeper");
  check(folder.path(), {}, "1 subfolder: set recursive(true) to include subfolders");
  save_sample(folder / "a.npz", 0);
  check(folder.path(), FolderOptions().pattern("x*"), "matches the pattern \"x*\"");
  std::filesystem::rename(folder / "a.npz", folder.path() / "deeper" / "a.npz");
  CHECK(*NpzDataset(folder.path(), "image", FolderOptions().recursive(true)).size() == 1);
  fill_folder(folder, 3);
  check(folder.path(), {},
        "no .npz file in this folder; it has 3 .npy files: FolderDataset reads single arrays");
  const auto nowhere = LoadOptions().device(c10::Device(c10::kCUDA, 100));
  const Error device = error_of(
      [&] { NpzDataset({folder / "a.npz"}, "image", FolderOptions().data_options(nowhere)); });
  CHECK(device.code() == ErrorCode::InvalidArgument);
}
