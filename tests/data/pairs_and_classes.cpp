// Inputs with targets in another folder, and folders as classes.

#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
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

TEST_CASE("PairedFolderDataset pairs files by name", "[dataset]") {
  const Folder folder;
  const auto inputs = folder / "inputs", targets = folder / "targets";
  std::filesystem::create_directories(inputs / "deep");
  std::filesystem::create_directories(targets / "deep");
  for (int i = 9; i-- > 0;) {
    save(inputs / name_of(i), sample(i));
    save(targets / name_of(i), sample(i).to(at::kInt) + 1);
  }
  save(inputs / "deep" / "x.npy", sample(50));
  save(targets / "deep" / "x.npy", sample(51));
  const PairedFolderDataset dataset(inputs, targets,
                                    FolderOptions().data_options(LoadOptions().dtype(at::kDouble)));
  CHECK(*dataset.size() == 9);
  CHECK(dataset.target_files()[2] == targets / "s002.npy");
  const auto batch = dataset.stacked().get_batch(Indices{8, 0});
  CHECK(at::equal(batch.data, at::stack({sample(8), sample(0)}).to(at::kDouble)));
  CHECK(at::equal(batch.target, batch.data.to(at::kInt) + 1));

  const PairedFolderDataset deep(
      inputs, targets,
      FolderOptions().recursive(true).target_options(LoadOptions().dtype(at::kByte)));
  CHECK(*deep.size() == 10);
  CHECK(deep.files()[0] == inputs / "deep/x.npy");
  CHECK(deep.stacked().get_batch(Indices{1}).target.scalar_type() == at::kByte);

  std::filesystem::remove(inputs / "s003.npy");
  save(inputs / "t003.npy", sample(3));
  Error error = error_of([&] { PairedFolderDataset(inputs, targets); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("2 files have no partner:\n  " + (inputs / "t003.npy").string() +
                                "\n  " + (targets / "s003.npy").string()));
  CHECK_THAT(error.what(), !says("more"));
  for (int i = 60; i < 72; ++i) save(targets / name_of(i), sample(i));
  error = error_of([&] { PairedFolderDataset(inputs, targets); });
  CHECK_THAT(error.what(), says("14 files have no partner"));
  CHECK_THAT(error.what(), says("s067.npy\n  and 4 more"));
}

TEST_CASE("ClassFolderDataset makes a class of each subfolder", "[dataset]") {
  const Folder folder;
  for (const char* name : {"b", "a-b", "a", ".hidden"}) {
    std::filesystem::create_directories(folder / name);
    for (int i = 0; i < 3; ++i) save(folder / name / name_of(i), at::full({2}, name[0]));
  }
  save(folder / "stray.npy", at::zeros({7}));
  const ClassFolderDataset dataset(folder.path());
  CHECK(dataset.classes() == std::vector<std::string>{"a", "a-b", "b"});
  CHECK(*dataset.size() == 9);
  CHECK(dataset.files()[3] == folder / "a-b/s000.npy");
  const auto batch = dataset.stacked().get_batch(Indices{0, 8, 3, 2});
  CHECK(at::equal(batch.target, at::tensor({0, 2, 1, 0}, at::kLong)));
  CHECK(
      at::equal(batch.data.select(1, 0), at::tensor({'a', 'b', 'a', 'a'}).to(batch.data.dtype())));
  const auto one = ClassFolderDataset(dataset).get(8);
  CHECK(one.target.dim() == 0);
  CHECK(one.target.item<std::int64_t>() == 2);

  write_bytes(folder / "a-b" / "s001.npy", "bad");
  const ClassFolderDataset skipping(folder.path(), FolderOptions().on_bad_file(OnBadFile::Skip));
  CHECK(at::equal(skipping.stacked().get_batch(Indices{2, 4, 5, 6}).target,
                  at::tensor({0, 1, 2}, at::kLong)));

  std::filesystem::create_directories(folder / "empty");
  const Error error = error_of([&] { ClassFolderDataset(folder.path()); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == folder / "empty");
  CHECK_THAT(error_of([&] { ClassFolderDataset(folder / "a"); }).what(), says("no subfolders"));
  CHECK_THAT(
      error_of([&] { ClassFolderDataset(folder.path(), FolderOptions().pattern("t*")); }).what(),
      says("a: no .npy file in this folder matches the pattern \"t*\""));

  // A link from a class to its parent folder adds no files.
  std::filesystem::remove(folder / "empty");
  std::filesystem::create_directory_symlink("..", folder / "a" / "up");
  CHECK(*ClassFolderDataset(folder.path(), FolderOptions().recursive(true)).size() == 9);
}
