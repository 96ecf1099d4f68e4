// Datasets of any files, and of files of a folder by their names.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
using Paths = std::vector<std::filesystem::path>;

namespace {

/// Files in two folders, in an order that no listing has.
struct Scattered {
  Scattered() {
    for (const int i : {0, 1, 2, 3}) {
      const auto path = folder / (i % 2 == 0 ? "even" : "odd") / name_of(i);
      std::filesystem::create_directories(path.parent_path());
      save(path, sample(i));
      files.insert(files.begin(), path);
    }
  }

  Folder folder;
  Paths files;  // of the samples 3, 2, 1, 0
};

}  // namespace

TEST_CASE("FileDataset reads any files in the order of the list", "[dataset]") {
  const Scattered all;
  const FileDataset dataset(all.files);
  static_assert(std::is_base_of_v<Dataset<TensorExample>, decltype(dataset)>);
  CHECK(*dataset.size() == 4);
  CHECK(dataset.key(0) == all.files[0].generic_string());
  CHECK(dataset.files()[3] == all.files[3]);
  CHECK(dataset.files().folder().empty());
  CHECK(dataset.verify().empty());
  CHECK(numbers_of(dataset.stacked().get_batch({0, 1, 2, 3})) == std::vector<int>{3, 2, 1, 0});
  CHECK(at::equal(FileDataset(dataset).get(1).data, sample(2)));
  CHECK(dataset.lengths() == std::vector<std::int64_t>{2, 2, 2, 2});

  // The same file may be there several times.
  std::vector<std::string> names;
  for (const auto& file : all.files) names.push_back(file.string());
  CHECK(at::equal(FileDataset({names.begin(), names.end()}).get(1).data, dataset.get(1).data));
  const FileDataset twice({all.files[0], all.files[0].string()});
  CHECK(numbers_of(twice.stacked().get_batch({0, 1})) == std::vector<int>{3, 3});
}

TEST_CASE("relative paths stay valid if the working directory changes", "[dataset]") {
  const Scattered all;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(all.folder.path());
  const FileDataset dataset({"even/s002.npy", "odd/s001.npy"});
  std::filesystem::current_path(before);
  CHECK(dataset.key(1) == "odd/s001.npy");
  CHECK(numbers_of(dataset.stacked().get_batch({0, 1})) == std::vector<int>{2, 1});
}

TEST_CASE("FileDataset pairs files with files by position", "[dataset]") {
  const Scattered all;
  Paths targets;
  for (int i = 0; i < 4; ++i) {
    targets.push_back(all.folder / ("t" + std::to_string(i) + ".npy"));
    save(targets.back(), at::full({}, 10 * i, at::kInt));
  }
  const auto options = FolderOptions().target_options(LoadOptions().dtype(at::kLong));
  const FileDataset dataset(all.files, targets, options);
  static_assert(std::is_base_of_v<Dataset<>, decltype(dataset)>);
  const auto batch = dataset.stacked().get_batch({2, 0});
  CHECK(numbers_of(batch) == std::vector<int>{1, 3});
  CHECK(at::equal(batch.target, at::tensor({20, 0}, at::kLong)));
  CHECK(batch.target.scalar_type() == at::kLong);
  CHECK(FileDataset({all.files[0]}, {targets[1]}).get(0).target.item<int>() == 10);

  targets.pop_back();
  const Error error = error_of([&] { FileDataset(all.files, targets); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("one target for each file, found 4 files and 3 targets"));
}

TEST_CASE("FileDataset takes the rows of a tensor as targets", "[dataset]") {
  const Scattered all;
  const FileDataset classes(all.files, at::tensor({5, 6, 7, 8}, at::kLong));
  const auto batch = classes.stacked().get_batch({3, 1});
  CHECK(at::equal(batch.target, at::tensor({8, 6}, at::kLong)));
  CHECK(numbers_of(batch) == std::vector<int>{0, 2});
  CHECK(FileDataset(classes).get(2).target.dim() == 0);

  const at::Tensor boxes = at::arange(16).reshape({4, 4}).to(at::kFloat);
  const auto in_double = FolderOptions().target_options(LoadOptions().dtype(at::kDouble));
  const FileDataset regression(all.files, boxes, in_double);
  const auto rows = regression.stacked().get_batch({1, 0});
  CHECK(at::equal(rows.target, at::stack({boxes[1], boxes[0]}).to(at::kDouble)));

  CHECK_THAT(error_of([&] { FileDataset(all.files, at::zeros({3})); }).what(),
             says("found 4 files and 3 targets"));
  CHECK_THAT(error_of([&] { FileDataset(all.files, at::Tensor()); }).what(),
             says("the targets are an undefined tensor"));
  CHECK(error_of([&] { FileDataset(all.files, at::zeros({})); }).code() == ErrorCode::Mismatch);
}

TEST_CASE("a listed file that is missing or damaged is a bad sample", "[dataset]") {
  const Scattered all;
  std::filesystem::remove(all.files[1]);
  write_bytes(all.files[2], "no array");
  const at::Tensor labels = at::tensor({30, 20, 10, 0}, at::kLong);
  const FileDataset throwing(all.files, labels);
  const Error error = error_of([&] { (void)throwing.stacked().get_batch({0, 1}); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == all.files[1]);
  const std::vector<Error> bad = throwing.verify();
  REQUIRE(bad.size() == 2);
  CHECK(bad[0].path() == all.files[1]);
  CHECK(bad[1].path() == all.files[2]);

  const FileDataset skipping(all.files, labels, FolderOptions().on_bad_file(OnBadFile::Skip));
  auto batch = skipping.stacked().get_batch({0, 1, 2, 3});
  CHECK(batch.indices == Indices{0, 3});
  CHECK(at::equal(batch.target, at::tensor({30, 0}, at::kLong)));
  CHECK(FileDataset(skipping).get_batch({1, 2}).empty());
  const FileDataset replacing(all.files, labels, FolderOptions().on_bad_file(OnBadFile::Replace));
  batch = replacing.stacked().get_batch({0, 1, 2, 3});
  REQUIRE(batch.data.size(0) == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    const auto row = static_cast<std::int64_t>(i);
    CHECK(batch.target[row].item<std::int64_t>() == 10 * number_of(batch.data[row]));
    CHECK(batch.target[row].item<std::int64_t>() ==
          labels[static_cast<std::int64_t>(batch.indices[i])].item<std::int64_t>());
  }
  const FileDataset strict(all.files, labels, FolderOptions().expect({7}));
  CHECK(strict.verify().size() == 4);
}

TEST_CASE("FileDataset refuses paths that are no paths, and options without meaning", "[dataset]") {
  const Scattered all;
  const auto check = [&](const Paths& files, const FolderOptions& options, const char* words) {
    const Error error = error_of([&] { FileDataset(files, options); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says(words));
  };
  check({}, {}, "the list of files is empty");
  check({"a.npy", ""}, {}, "file 1 of a list of files: the path is empty");
  check({std::string("a.npy\0b", 7)}, {}, "contains a zero byte");
  check(all.files, FolderOptions().pattern("s*"), "pattern() has no meaning for a FileDataset");
  check(all.files, FolderOptions().recursive(true), "recursive()");
  check(all.files, FolderOptions().natural_order(true), "natural_order()");
  check(all.files, FolderOptions().target_pattern("t*"), "target_pattern()");
  check(all.files, FolderOptions().target_name([](const std::string& name) { return name; }),
        "target_name()");
  check(all.files, FolderOptions().classes({"a", "b"}), "classes()");
  check(all.files, FolderOptions().allow_empty_classes(true), "allow_empty_classes()");
  const c10::Device cuda(c10::kCUDA, 100);
  check(all.files, FolderOptions().data_options(LoadOptions().device(cuda)), "no device");

  CHECK_THAT(error_of([&] {
               FolderDataset(all.folder / "odd", FolderOptions().target_pattern("t*"));
             }).what(),
             says("target_pattern() has no meaning for a FolderDataset"));
  CHECK_THAT(error_of([&] {
               PairedFolderDataset(all.folder / "odd", all.folder / "even",
                                   FolderOptions().classes({"a"}));
             }).what(),
             says("classes() has no meaning for a PairedFolderDataset"));
}

TEST_CASE("the list of a folder and a tensor of labels make a dataset", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 4);
  const FolderDataset all(folder.path());
  const FileDataset labelled(all.files(), at::tensor({9, 8, 7, 6}, at::kLong));
  const FileDataset pairs(all.files(), all.files());
  CHECK(labelled.get(2).target.item<int>() == 7);
  CHECK(at::equal(labelled.get(2).data, sample(2)));
  CHECK(at::equal(pairs.get(1).target, sample(1)));
  // Indices in a tensor.
  const auto part = labelled.subset(at::tensor({3, 1}, at::kInt));
  CHECK(at::equal(part.targets(), at::tensor({6, 8}, at::kLong)));
  for (const at::Tensor& wrong : {at::zeros({2}), at::tensor({-1}, at::kLong), at::Tensor(),
                                  at::tensor({4}, at::kLong), at::zeros({1, 1}, at::kLong)}) {
    CHECK(error_of([&] { (void)labelled.subset(wrong); }).code() == ErrorCode::InvalidArgument);
  }
}

TEST_CASE("targets() returns the labels of any dataset that has some", "[dataset]") {
  const Scattered all;
  const auto longs = [](const std::vector<std::int64_t>& values) {
    return at::tensor(values, at::kLong);
  };
  const FileDataset files(all.files, at::tensor({5, 6, 7, 8}, at::kInt));
  CHECK(at::equal(files.targets(), longs({5, 6, 7, 8})));
  CHECK(files.targets().scalar_type() == at::kLong);
  CHECK(at::equal(files.subset({3, 0, 3}).targets(), longs({8, 5, 8})));
  CHECK(at::equal(files.subset({3, 0, 3}).subset({1}).stacked().targets(), longs({5})));
  CHECK(files.subset({}).targets().sizes() == at::IntArrayRef({0}));
  CHECK(at::equal(files.map([](Example<>& one) { one.target = one.target + 1; }).targets(),
                  longs({5, 6, 7, 8})));

  const ArrayDataset arrays(at::zeros({3, 2}), at::tensor({1, 0, 1}, at::kByte));
  CHECK(at::equal(arrays.targets(), longs({1, 0, 1})));
  save(all.folder / "labels.npy", at::tensor({9, 8, 7}, at::kShort));
  const ArrayDataset mapped(at::zeros({3, 2}), all.folder / "labels.npy");
  CHECK(at::equal(mapped.subset({2, 1}).targets(), longs({7, 8})));
  const auto joined = concat(arrays, files, mapped);
  CHECK(at::equal(joined.targets(), longs({1, 0, 1, 5, 6, 7, 8, 9, 8, 7})));
  CHECK(at::equal(joined.subset({9, 0, 4, 1, 3}).targets(), longs({7, 1, 6, 0, 5})));

  // Targets that are files are read.
  std::vector<std::filesystem::path> labels;
  for (const std::int64_t label : {3, -1, 3, 2}) {
    const at::Tensor one = at::tensor(label, at::kShort);
    labels.push_back(all.folder / ("label_" + std::to_string(labels.size()) + ".npy"));
    save(labels.back(), labels.size() % 2 == 0 ? one : one.reshape({1}));
  }
  const FileDataset read(all.files, labels, FolderOptions().samples_per_file(2));
  CHECK(at::equal(read.targets(), longs({3, 3, -1, -1, 3, 3, 2, 2})));
  CHECK(at::equal(read.subset({6, 2, 0}).targets(), longs({2, -1, 3})));
  std::size_t last = 0;
  (void)read.targets([&](std::size_t done, std::size_t total) {
    CHECK((last < done && done <= total && total == 8));
    last = done;
  });
  CHECK(last == 8);
  std::filesystem::remove(labels[2]);
  const Error missing = error_of([&] { (void)read.targets(); });
  CHECK(missing.code() == ErrorCode::NotFound);
  CHECK(missing.path() == labels[2]);

  const auto refused = [](const auto& dataset) {
    const Error error = error_of([&] { (void)dataset.targets(); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    return std::string(error.what());
  };
  CHECK_THAT(refused(FileDataset(all.files)), says("no class labels"));
  CHECK_THAT(refused(FileDataset(all.files, all.files)), says("a class label is one integer"));
  CHECK_THAT(refused(ArrayDataset(at::zeros({3, 2}))), says("no class labels"));
  CHECK_THAT(refused(number_dataset(3)), says("no class labels"));
  CHECK_THAT(refused(FileDataset(all.files, at::zeros({4}))),
             says("expected targets of shape (4,), found shape (4,) and dtype Float"));
  CHECK_THAT(refused(ArrayDataset(at::zeros({3, 2}), at::zeros({3, 1}, at::kLong))),
             says("found shape (3, 1) and dtype Long"));
  CHECK_THAT(refused(concat(arrays, number_dataset(2))), says("no class labels"));
}

TEST_CASE("the fingerprint of a FileDataset does not depend on the common folder", "[dataset]") {
  const auto print = [](const Paths& files) { return FileDataset(files).source()->fingerprint(); };
  CHECK(print({"/a/x/1.npy", "/a/y/2.npy"}) == print({"/b/c/x/1.npy", "/b/c/y/2.npy"}));
  CHECK(print({"/a/x/1.npy", "/a/y/2.npy"}) != print({"/a/x/2.npy", "/a/y/1.npy"}));
  CHECK(print({"/a/img_1.npy", "/a/img_2.npy"}) != print({"/a/vol_1.npy", "/a/vol_2.npy"}));
  const auto pairs = [](const Paths& targets) {
    return FileDataset({"/a/1.npy", "/a/2.npy"}, targets).source()->fingerprint();
  };
  CHECK(pairs({"/b/3.npy", "/b/4.npy"}) == pairs({"/c/3.npy", "/c/4.npy"}));
  CHECK(pairs({"/b/3.npy", "/b/4.npy"}) != pairs({"/b/4.npy", "/b/3.npy"}));
}

TEST_CASE("FolderDataset takes the files of a list of names", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 6);
  std::filesystem::create_directory(folder / "deep");
  save(folder / "deep" / "v1.5.npy", sample(9));
  const FolderDataset dataset(folder.path(), {"s004.npy", "s001", "deep/v1.5", "s001"});
  CHECK(numbers_of(dataset.stacked().get_batch({0, 1, 2, 3})) == std::vector<int>{4, 1, 9, 1});
  CHECK(dataset.key(1) == (folder / "s001.npy").generic_string());
  CHECK(dataset.files().folder() == folder.path());
  const std::vector<std::string> names{"s005"};
  const auto as_double = FolderOptions().data_options(LoadOptions().dtype(at::kDouble));
  CHECK(FolderDataset(folder.path(), names, as_double).get(0).data.scalar_type() == at::kDouble);

  Error error = error_of([&] { FolderDataset(folder.path(), {"s001", "s009", "s010.npy"}); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == folder.path());
  CHECK_THAT(error.what(),
             says("2 files of the list of names do not exist:\n  " +
                  (folder / "s009.npy").string() + "\n  " + (folder / "s010.npy").string()));
  error = error_of([&] { FolderDataset(folder.path(), std::vector<std::string>()); });
  CHECK_THAT(error.what(), says("the list of names is empty"));
  CHECK_THAT(error_of([&] {
               FolderDataset(folder.path(), {"s001", ""});
             }).what(),
             says("file 1 of a list of files: the path is empty"));
  CHECK_THAT(
      error_of([&] { FolderDataset(folder.path(), names, FolderOptions().pattern("s*")); }).what(),
      says("pattern() has no meaning"));
}

TEST_CASE("a folder of .npz files throws Error that names NpzDataset", "[dataset]") {
  const Folder folder;
  for (const char* name : {"a/1.npz", "a/2.npz", "b/1.npy"}) {
    std::filesystem::create_directories((folder / name).parent_path());
    write_bytes(folder / name, "");
  }
  const auto check = [](const Error& error, const std::string& words) {
    CHECK(error.code() == ErrorCode::NotFound);
    CHECK_THAT(error.what(), says(words));
  };
  const std::string archives = "it has 2 .npz files: NpzDataset reads archives";
  check(error_of([&] { FolderDataset(folder / "a"); }), archives);
  check(error_of([&] { FolderDataset(folder / "a", FolderOptions().pattern("*.npz")); }), archives);
  check(error_of([&] { FolderDataset(folder / "a", FolderOptions().pattern("1.npy")); }),
        "it has 1 .npz file: NpzDataset");
  check(error_of([&] { PairedFolderDataset(folder / "a", folder / "b"); }), archives);
  check(error_of([&] { PairedFolderDataset(folder / "b", folder / "a"); }), archives);
  check(error_of([&] { ClassFolderDataset(folder.path()); }),
        "a: no .npy file in this folder; " + archives);
  std::filesystem::create_directory(folder / "c");
  CHECK_THAT(error_of([&] { FolderDataset(folder / "c"); }).what(), !says("NpzDataset"));
}
