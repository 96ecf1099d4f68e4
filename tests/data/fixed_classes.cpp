// The classes of a ClassFolderDataset that are given, or that are empty.

#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;
using Names = std::vector<std::string>;

namespace {

void put(const std::filesystem::path& folder, const Names& files) {
  for (const std::string& name : files) {
    std::filesystem::create_directories((folder / name).parent_path());
    save(folder / name, at::full({2}, name[0], at::kInt));
  }
}

}  // namespace

TEST_CASE("the classes of the training set give their numbers to the validation set", "[dataset]") {
  const Folder folder;
  put(folder / "train", {"ant/1.npy", "bee/1.npy", "cow/1.npy"});
  put(folder / "validation", {"bee/1.npy", "cow/1.npy", "cow/2.npy"});
  const ClassFolderDataset train(folder / "train");
  const auto fixed = FolderOptions().classes(train.classes()).allow_empty_classes(true);
  const ClassFolderDataset validation(folder / "validation", fixed);
  CHECK(validation.classes() == Names{"ant", "bee", "cow"});
  CHECK(at::equal(validation.stacked().get_batch({0, 1, 2}).target,
                  at::tensor({1, 2, 2}, at::kLong)));
  CHECK(at::equal(validation.targets(), at::tensor({1, 2, 2}, at::kLong)));
  CHECK(at::equal(validation.subset({2, 0}).targets(), at::tensor({2, 1}, at::kLong)));
  CHECK(validation.class_to_index() ==
        std::map<std::string, std::int64_t>{{"ant", 0}, {"bee", 1}, {"cow", 2}});

  // Without the option, a class that is missing is an Error.
  const Error error = error_of(
      [&] { ClassFolderDataset(folder / "validation", FolderOptions().classes(train.classes())); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == folder / "validation");
  CHECK_THAT(error.what(), says("no subfolder for the class \"ant\" of classes(); "
                                "allow_empty_classes(true)"));
}

TEST_CASE("classes() decides the order of the classes", "[dataset]") {
  const Folder folder;
  put(folder.path(), {"ant/1.npy", "bee/1.npy"});
  const ClassFolderDataset dataset(folder.path(), FolderOptions().classes({"bee", "ant"}));
  CHECK(dataset.classes() == Names{"bee", "ant"});
  CHECK(dataset.class_to_index().at("ant") == 1);
  CHECK(dataset.key(0) == (folder / "bee/1.npy").generic_string());
  const Example<> second = ClassFolderDataset(dataset).get(1);
  CHECK(second.target.item<int>() == 1);
  CHECK(second.data[0].item<int>() == 'a');
}

TEST_CASE("a folder that is not in classes() throws Error", "[dataset]") {
  const Folder folder;
  put(folder.path(), {"ant/1.npy", "bee/1.npy", "cow/1.npy"});
  for (const bool allow : {false, true}) {
    const Error error = error_of([&] {
      ClassFolderDataset(folder.path(),
                         FolderOptions().classes({"bee"}).allow_empty_classes(allow));
    });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK(error.path() == folder.path());
    CHECK_THAT(error.what(), says("2 subfolders are not in classes():\n  " +
                                  (folder / "ant").string() + "\n  " + (folder / "cow").string()));
  }
  const auto twice = FolderOptions().classes({"ant", "bee", "cow", "bee"});
  const Error error = error_of([&] { ClassFolderDataset(folder.path(), twice); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("classes() has the name \"bee\" twice"));
}

TEST_CASE("an empty class keeps its number if that is allowed", "[dataset]") {
  const Folder folder;
  put(folder.path(), {"ant/1.npy", "cow/1.npy"});
  std::filesystem::create_directory(folder / "bee");
  const Error error = error_of([&] { ClassFolderDataset(folder.path()); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == folder / "bee");
  CHECK_THAT(error.what(), says("no .npy file in this folder; allow_empty_classes(true)"));

  const ClassFolderDataset dataset(folder.path(), FolderOptions().allow_empty_classes(true));
  CHECK(dataset.classes() == Names{"ant", "bee", "cow"});
  CHECK(at::equal(dataset.targets(), at::tensor({0, 2}, at::kLong)));
  const auto none = FolderOptions().allow_empty_classes(true).pattern("x*");
  CHECK_THAT(error_of([&] { ClassFolderDataset(folder.path(), none); }).what(),
             says("no class has a matching .npy file"));
}
