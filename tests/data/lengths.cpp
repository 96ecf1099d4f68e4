// The lengths of samples, read from headers alone.

#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;

using Lengths = std::vector<std::int64_t>;

TEST_CASE("lengths() is the size of axis 0 of every sample, and reports progress", "[dataset]") {
  const Folder folder;
  for (int i = 0; i < 150; ++i) save(folder / name_of(i), at::zeros({(i * 7) % 20, 2}));
  const FolderDataset dataset(folder.path());
  std::vector<std::size_t> done;
  const Lengths lengths = dataset.lengths([&](std::size_t count, std::size_t total) {
    CHECK(total == 150);
    done.push_back(count);
  });
  REQUIRE(lengths.size() == 150);
  for (int i = 0; i < 150; ++i) CHECK(lengths[static_cast<std::size_t>(i)] == (i * 7) % 20);
  CHECK(std::is_sorted(done.begin(), done.end()));
  CHECK(done.back() == 150);
  CHECK_THROWS_WITH(
      dataset.lengths([](std::size_t, std::size_t) { throw std::runtime_error("no"); }), "no");
}

TEST_CASE("lengths are those of the data as it is stored", "[dataset]") {
  const Folder folder;
  for (const char* part : {"a", "b"}) std::filesystem::create_directory(folder / part);
  for (int i = 0; i < 4; ++i) {
    save(folder / "a" / name_of(i), at::zeros({i + 1, 3}));
    save(folder / "b" / name_of(i), at::zeros({9}));
  }
  const PairedFolderDataset pairs(folder / "a", folder / "b");
  CHECK(pairs.lengths() == Lengths{1, 2, 3, 4});
  CHECK(ClassFolderDataset(folder.path()).lengths() == Lengths{1, 2, 3, 4, 9, 9, 9, 9});
  CHECK(pairs.subset({3, 0, 3}).lengths() == Lengths{4, 1, 4});
  CHECK(concat(pairs.subset({2}), pairs).lengths() == Lengths{3, 1, 2, 3, 4});
  CHECK(pairs.map(transforms::ToDtype(at::kInt)).lengths() == Lengths{1, 2, 3, 4});
  CHECK(pairs.map([](Example<>& one) { one.data = one.data.narrow(0, 0, 1); }).lengths() ==
        Lengths{1, 2, 3, 4});
  CHECK(pairs.subset({}).lengths().empty());

  save(folder / "rows.npy", at::zeros({3, 5, 2}));
  CHECK(ArrayDataset(folder / "rows.npy").lengths() == Lengths{5, 5, 5});
  CHECK(ArrayDataset(at::zeros({2, 6})).lengths() == Lengths{6, 6});
  const Error error = error_of([&] { (void)ArrayDataset(at::arange(4)).lengths(); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("single numbers have no length"));
}

TEST_CASE("lengths() throws for a bad file, whatever OnBadFile says", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 6);
  const FolderDataset dataset(folder.path(), FolderOptions().on_bad_file(OnBadFile::Skip));
  damage(folder, {2});
  CHECK(error_of([&] { (void)dataset.lengths(); }).path() == folder / name_of(2));
  save(folder / name_of(2), at::zeros({}));
  const Error error = error_of([&] { (void)dataset.lengths(); });
  CHECK(error.path() == folder / name_of(2));
  CHECK_THAT(error.what(), says("a 0-d array has no length"));
  CHECK(dataset.subset({0, 1, 3}).lengths() == Lengths{2, 2, 2});
  CHECK(dataset.bad_file_count() == 0);
}
