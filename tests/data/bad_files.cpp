// Bad files in a dataset.

#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/catch.hpp"
#ifndef _WIN32
#include "support/descriptors.hpp"
#endif
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

TEST_CASE("a bad file throws its Error or is skipped", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 9);
  const std::string whole = read_bytes(folder / "s004.npy");
  write_bytes(folder / "s004.npy", whole.substr(0, whole.size() - 1));
  write_bytes(folder / "s007.npy", "no array");

  SECTION("thrown") {
    FolderDataset dataset(folder.path());
    Error error = error_of([&] { epoch(*loader_of(dataset.stacked(), 3)); });
    CHECK(error.code() == ErrorCode::Truncated);
    CHECK(error.path() == folder / "s004.npy");
    for (const std::size_t workers : {1, 2}) {
      auto loader = loader_of(dataset.stacked(), 3, workers);
      try {
        epoch(*loader);
        FAIL("nothing was thrown");
      } catch (const td::WorkerException& exception) {
        CHECK_THAT(exception.what(), says("s004.npy: data cut short"));
        error = error_of([&] { std::rethrow_exception(exception.original_exception); });
        CHECK(error.path() == folder / "s004.npy");
      }
    }
    CHECK(dataset.bad_file_count() == 0);
  }
  SECTION("skipped") {
    std::set<std::string> skipped;
    const FolderDataset dataset(
        folder.path(), FolderOptions().on_bad_file(OnBadFile::Skip, [&](const Error& error) {
          skipped.insert(error.path().filename().string());
        }));
    const at::Tensor good = samples(9).index_select(0, at::tensor({0, 1, 2, 3, 5, 6, 8}));
    for (const std::size_t workers : {0, 3}) {
      CHECK(at::equal(epoch(*loader_of(dataset.stacked(), 3, workers)), good));
      auto mapped = FolderDataset(dataset).map(transforms::Stack<TensorExample>());
      CHECK(at::equal(epoch(*loader_of(mapped, 3, workers)), good));
    }
    CHECK(skipped == std::set<std::string>{"s004.npy", "s007.npy"});
    CHECK(dataset.bad_file_count() == 8);

    // A bad first file of a batch does not affect the others.
    CHECK(at::equal(dataset.stacked().get_batch(Indices{4, 7, 8}).data, sample(8).unsqueeze(0)));
    // All files of a batch may be bad.
    CHECK(FolderDataset(dataset).get_batch(Indices{7, 4}).empty());
    CHECK_THAT(error_of([&] {
                 (void)dataset.stacked().get_batch(Indices{7, 4});
               }).what(),
               says("a batch without samples"));
    // get() of one bad file throws.
    CHECK(error_of([&] { (void)FolderDataset(dataset).get(7); }).path() == folder / "s007.npy");
    CHECK(dataset.bad_file_count() == 14);
  }
  SECTION("skipped with its partner") {
    const Folder targets;
    fill_folder(targets, 9);
    write_bytes(targets / "s000.npy", "");
    const PairedFolderDataset dataset(folder.path(), targets.path(),
                                      FolderOptions().on_bad_file(OnBadFile::Skip));
    const auto batch = dataset.stacked().get_batch(Indices{0, 1, 4, 5, 7, 8});
    CHECK(at::equal(batch.data, at::stack({sample(1), sample(5), sample(8)})));
    CHECK(at::equal(batch.target, batch.data));
    CHECK(dataset.bad_file_count() == 3);
  }
  SECTION("removed after the folder was listed") {
    FolderDataset dataset(folder.path());
    std::filesystem::remove(folder / "s001.npy");
    const Error error = error_of([&] { (void)dataset.get(1); });
    CHECK(error.code() == ErrorCode::NotFound);
    CHECK(error.path() == folder / "s001.npy");
  }
}

TEST_CASE("an Error that is not about the file is thrown even with OnBadFile::Skip", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 3);
  const auto skipping = FolderOptions().on_bad_file(OnBadFile::Skip);
  const FolderDataset dataset(folder.path(), skipping);
#if !defined(__SANITIZE_ADDRESS__) && \
    !defined(_WIN32)  // the sanitizers need descriptors themselves
  {
    const FewDescriptors none(0);
    CHECK(error_of([&] {
            (void)dataset.stacked().get_batch(Indices{0, 1});
          }).code() == ErrorCode::Exhausted);
  }
#endif
  CHECK(dataset.bad_file_count() == 0);
  const FolderDataset wrong(folder.path(),
                            FolderOptions(skipping).data_options(LoadOptions().dtype(at::kQInt8)));
  CHECK(error_of([&] {
          (void)wrong.stacked().get_batch(Indices{0, 1});
        }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("verify() finds all bad files before training", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 250);
  const std::string whole = read_bytes(folder / "s004.npy");
  write_bytes(folder / "s004.npy", whole.substr(0, whole.size() - 1));
  write_bytes(folder / "s010.npy", "");
  write_bytes(folder / "s249.npy", npy(header_text("'|O'", "(1,)"), "12345678"));
  const FolderDataset dataset(folder.path());
  std::vector<std::size_t> reported;
  const std::vector<Error> errors = dataset.verify([&](std::size_t done, std::size_t total) {
    CHECK(total == 250);
    reported.push_back(done);
  });
  REQUIRE(errors.size() == 3);
  CHECK(errors[0].path() == folder / "s004.npy");
  CHECK(errors[0].code() == ErrorCode::Truncated);
  CHECK(errors[1].path() == folder / "s010.npy");
  CHECK(errors[2].code() == ErrorCode::UnsupportedDtype);
  CHECK(std::is_sorted(reported.begin(), reported.end()));
  CHECK(reported.size() == 125);
  CHECK(reported.back() == 250);

  const Folder targets;
  std::filesystem::copy(folder.path(), targets.path());
  const PairedFolderDataset pairs(folder.path(), targets.path());
  CHECK(pairs.verify().size() == 6);
  CHECK_THROWS_WITH(
      dataset.verify([](std::size_t, std::size_t) { throw std::runtime_error("no"); }), "no");
}
