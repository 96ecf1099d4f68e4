// Arrow's file system of this machine, and one in memory, as stores.

#include <torch_npy/arrow.hpp>
#include <torch_npy/data.hpp>
#include <torch_npy/tensor.hpp>

#include <arrow/filesystem/localfs.h>

#include <ATen/ops/equal.h>

#include <memory>
#include <string>

#include "support/catch.hpp"

#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;

TEST_CASE("a folder through Arrow", "[arrow]") {
  const Folder folder;
  fill_folder(folder, 5);
  std::filesystem::create_directory(folder / "deep");
  save(folder / "deep/x.npy", sample(9));
  const auto files = std::make_shared<::arrow::fs::LocalFileSystem>();
  for (const char* const end : {"", "/"}) {
    const torch_npy::arrow::Store store(files, folder.path().string() + end);
    const FolderDataset dataset(store);
    CHECK(dataset.size() == 5u);
    for (int i = 0; i < 5; ++i) CHECK(at::equal(dataset.get(std::size_t(i)).data, sample(i)));
    CHECK(dataset.key(0) == "file://" + (folder / "s000.npy").string());
    CHECK(FolderDataset(store, FolderOptions().recursive(true)).size() == 6u);
    CHECK(ClassFolderDataset(store).classes() == std::vector<std::string>{"deep"});
    CHECK(at::equal(open(store.folder("deep"), "x.npy").load(), sample(9)));
  }
  const torch_npy::arrow::Store by_uri("file://" + folder.path().string());
  CHECK(FolderDataset(by_uri).size() == 5u);
}

TEST_CASE("folders of one file system are told apart", "[arrow]") {
  const Folder folder;
  const auto files = std::make_shared<::arrow::fs::LocalFileSystem>();
  for (const char* const name : {"a", "b"}) {
    std::filesystem::create_directories(folder / (std::string(name) + "/d"));
    save(folder / (std::string(name) + "/d/x.npy"), sample(name[0]));
    std::filesystem::last_write_time(
        folder / (std::string(name) + "/d/x.npy"),
        std::filesystem::file_time_type::clock::now() - std::chrono::hours(1000));
  }
  const auto time = std::filesystem::last_write_time(folder / "a/d/x.npy");
  std::filesystem::last_write_time(folder / "b/d/x.npy", time);
  const auto store_of = [&](const char* name) {
    return torch_npy::arrow::Store(
        std::make_shared<::arrow::fs::SubTreeFileSystem>((folder / name).string(), files), "d");
  };
  for (int pass = 0; pass < 2; ++pass) {
    for (const char* const name : {"a", "b"}) {
      const FolderDataset dataset(store_of(name).cached_on_disk(folder / "cache", 1 << 20));
      CHECK(at::equal(dataset.get(0).data, sample(name[0])));
      CHECK(dataset.key(0) == "file://" + (folder / (name + std::string("/d/x.npy"))).string());
    }
  }
  CHECK(PairedFolderDataset(store_of("a"), store_of("b")).size() == 1u);
  const torch_npy::arrow::Store of_all(std::make_shared<::arrow::fs::SubTreeFileSystem>("", files),
                                       (folder / "b/d").string());
  CHECK(FolderDataset(of_all).key(0) == "file://" + (folder / "b/d/x.npy").string());
}

TEST_CASE("credentials are removed from messages, and short ones not within words", "[arrow]") {
  const auto shown = [](const std::string& text, const std::vector<std::string>& credentials) {
    return torch_npy::detail::without(text, credentials);
  };
  CHECK(shown("listing objects of latest", {"s", "test"}) == "listing objects of latest");
  CHECK(shown("key AKIDEXAMPLE, AKIDEXAMPLE", {"AKIDEXAMPLE", ""}) == "key ***, ***");
}

TEST_CASE("what is not there through Arrow", "[arrow]") {
  const Folder folder;
  const auto files = std::make_shared<::arrow::fs::LocalFileSystem>();
  const torch_npy::arrow::Store store(files, folder.path().string());
  CHECK(error_of([&] { FolderDataset{store}; }).code() == ErrorCode::NotFound);
  const Error error = error_of([&] { FolderDataset{store.folder("x")}; });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK_THAT(error.what(), says("there is no such bucket or folder"));
  CHECK(error_of([&] { (void)open(store, "x.npy"); }).code() == ErrorCode::NotFound);
  CHECK(error_of([&] { torch_npy::arrow::Store(nullptr, "x"); }).code() ==
        ErrorCode::InvalidArgument);
  CHECK(error_of([&] { torch_npy::arrow::Store(files, ""); }).code() == ErrorCode::InvalidArgument);
}
