// Archives that are bad samples.

#include <torch_npy/data/npz_dataset.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save_npz.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

void save_pair(const std::filesystem::path& path, const at::Tensor& image, int label) {
  save_npz(path, {{"image", image}, {"label", at::full({}, label, at::kLong)}},
           SaveNpzOptions().sync(false));
}

/// Archives 0 to 5: the image is sample(i), the label i.
void fill_pairs(const Folder& folder) {
  for (int i = 0; i < 6; ++i) save_pair(folder / (std::to_string(i) + ".npz"), sample(i), i);
}

}  // namespace

TEST_CASE("an archive without the array is a bad sample, whose Error names its arrays",
          "[npz_dataset]") {
  const Folder folder;
  fill_pairs(folder);
  save_npz(folder / "2.npz", {{"image", sample(2)}, {"lable", at::zeros({})}});
  save_npz(folder / "4.npz", {{"x", sample(2)}});
  const NpzDataset dataset(folder.path(), "image", "label");
  const Error error = error_of([&] { (void)dataset.stacked().get_batch({0, 1, 2}); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == folder / "2.npz");
  CHECK(error.what() ==
        (folder / "2.npz").string() + ": no array \"label\"; there are \"image\", \"lable\"");
  CHECK(error_of([&] { (void)dataset.get(4); }).path() == folder / "4.npz");
  const std::vector<Error> bad = dataset.verify();
  REQUIRE(bad.size() == 3);
  CHECK_THAT(bad[0].what(), says("no array \"label\""));
  CHECK_THAT(bad[1].what(), says("no array \"image\"; there are \"x\""));
  CHECK(bad[2].path() == folder / "4.npz");
  CHECK(error_of([&] { (void)dataset.lengths(); }).path() == folder / "4.npz");

  std::vector<std::string> skipped;
  const NpzDataset skipping(folder.path(), "image", "label",
                            FolderOptions().on_bad_file(OnBadFile::Skip, [&](const Error& one) {
                              skipped.push_back(one.path().filename().string());
                            }));
  const Batch<> batch = skipping.stacked().get_batch({5, 4, 2, 1});
  CHECK(batch.indices == Indices{5, 1});
  CHECK(numbers_of(batch) == std::vector<int>{5, 1});
  CHECK(batch.target[1].item<int>() == 1);
  CHECK(skipped == std::vector<std::string>{"4.npz", "2.npz"});
  CHECK(skipping.bad_file_count() == 2);
  const NpzDataset named(folder.path(), {"image", "label"},
                         FolderOptions().on_bad_file(OnBadFile::Skip));
  CHECK(named.stacked().get_batch({2, 3, 4})["label"].item<int>() == 3);
  CHECK(named.get_batch({2, 4}).empty());

  const NpzDataset replacing(folder.path(), "image", "label",
                             FolderOptions().on_bad_file(OnBadFile::Replace).max_bad(2));
  const Batch<> full = replacing.stacked().get_batch({4, 3});
  REQUIRE(full.indices.size() == 2);
  CHECK(full.indices[1] == 3);
  for (std::int64_t i = 0; i < 2; ++i) {
    CHECK(number_of(full.data[i]) == full.target[i].item<int>());
    CHECK(full.target[i].item<std::int64_t>() ==
          static_cast<std::int64_t>(full.indices[static_cast<std::size_t>(i)]));
  }
  const NpzDataset limited(folder.path(), "image", "label",
                           FolderOptions().on_bad_file(OnBadFile::Skip).max_bad(1));
  CHECK_THAT(error_of([&] {
               (void)limited.get_batch({2, 4});
             }).what(),
             says("more than 1 bad sample"));
}

TEST_CASE("a damaged archive is a bad sample, whichever part is damaged", "[npz_dataset]") {
  const Folder folder;
  fill_pairs(folder);
  const std::string whole = read_bytes(folder / "3.npz");
  const auto dataset = NpzDataset(folder.path(), "image", "label").stacked();
  const Batch<> want = dataset.get_batch({0, 3, 5});
  std::size_t refused = 0;
  for (std::size_t bit = 0; bit < whole.size() * 8; bit += 9) {
    std::string bytes = whole;
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    write_bytes(folder / "3.npz", bytes);
    INFO("bit " << bit % 8 << " of byte " << bit / 8);
    try {
      // The archive before it has the same layout, so headers are compared, not parsed.
      const Batch<> batch = dataset.get_batch({0, 3, 5});
      CHECK(at::equal(batch.data, want.data));
      CHECK(at::equal(batch.target, want.target));
    } catch (const Error& error) {
      ++refused;
      CHECK(error.path() == folder / "3.npz");
    }
  }
  CHECK(refused > 24 + 8 + 2 * 128);
  for (std::size_t size = 0; size < whole.size(); size += 7) {
    std::filesystem::resize_file(folder / "3.npz", 0);
    write_bytes(folder / "3.npz", whole.substr(0, size));
    CHECK(error_of([&] { (void)dataset.get_batch({0, 3, 5}); }).path() == folder / "3.npz");
  }
  write_bytes(folder / "3.npz", npy(header_text("'<f4'", "(2, 3)"), std::string(24, 'x')));
  CHECK_THAT(error_of([&] {
               (void)dataset.get_batch({0, 3});
             }).what(),
             says("not an .npz archive but an .npy file"));
}

TEST_CASE("the bytes of an archive before a bad one are not those of the next", "[npz_dataset]") {
  const Folder folder;
  fill_pairs(folder);
  // Only the label is damaged: the image was read, and must not be in the batch.
  std::string bytes = read_bytes(folder / "1.npz");
  const std::size_t label = bytes.find("label.npy");
  bytes[bytes.find("PK\x01\x02", label) - 8] ^= 1;
  write_bytes(folder / "1.npz", bytes);
  const auto dataset =
      NpzDataset(folder.path(), "image", "label", FolderOptions().on_bad_file(OnBadFile::Skip))
          .stacked();
  const Batch<> batch = dataset.get_batch({0, 1, 2, 1, 5});
  CHECK(numbers_of(batch) == std::vector<int>{0, 2, 5});
  CHECK(at::equal(batch.target, at::tensor({0, 2, 5}, at::kLong)));
  CHECK(dataset.bad_file_count() == 2);
}

TEST_CASE("expect() is about the first array, and verify() reads headers", "[npz_dataset]") {
  const Folder folder;
  fill_pairs(folder);
  save_pair(folder / "1.npz", at::zeros({2, 4}), 1);
  const auto expected = FolderOptions().expect({2, 3}, at::kFloat);
  const NpzDataset dataset(folder.path(), "image", "label", expected);
  const std::vector<Error> bad = dataset.verify();
  REQUIRE(bad.size() == 1);
  CHECK(bad[0].code() == ErrorCode::Mismatch);
  CHECK(bad[0].path() == folder / "1.npz");
  CHECK_THAT(bad[0].what(), says("member \"image.npy\": expected shape (2, 3), found (2, 4)"));
  CHECK(error_of([&] { (void)dataset.get(1); }).code() == ErrorCode::Mismatch);
  const NpzDataset named(folder.path(), {"label", "image"},
                         FolderOptions().expect({}, at::kLong).on_bad_file(OnBadFile::Skip));
  CHECK(named.verify().empty());
}

TEST_CASE("samples that differ are not stacked, and the Error names both archives",
          "[npz_dataset]") {
  const Folder folder;
  fill_pairs(folder);
  save_pair(folder / "1.npz", at::zeros({2, 4}), 1);
  const NpzDataset dataset(folder.path(), "image", "label");
  CHECK(dataset.get_batch({0, 1})[1].data.size(1) == 4);
  const Error error = error_of([&] { (void)dataset.stacked().get_batch({0, 1, 2}); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("0.npz: array \"image\" has shape (2, 3)"));
  CHECK_THAT(error.what(), says("1.npz: array \"image\" has shape (2, 4)"));
  for (const bool named : {false, true}) {
    const auto options = FolderOptions().on_bad_file(OnBadFile::Skip);
    if (named) {
      const NpzDataset skipping(folder.path(), {"image", "label"}, options);
      const NamedBatch batch = skipping.stacked().get_batch({1, 0, 4});
      CHECK(batch.indices == Indices{0, 4});
      CHECK(at::equal(batch["label"], at::tensor({0, 4}, at::kLong)));
    } else {
      const NpzDataset skipping(folder.path(), "image", "label", options);
      CHECK(numbers_of(skipping.stacked().get_batch({1, 0, 4})) == std::vector<int>{0, 4});
    }
  }
}

TEST_CASE("a damaged array with a hidden name is a bad sample, and the others are right",
          "[npz_dataset]") {
  const Folder folder;
  std::vector<std::filesystem::path> paths;
  for (int i = 0; i < 3; ++i) {
    paths.push_back(folder / (std::to_string(i) + ".npz"));
    save_npz(paths.back(), {{"a", sample(9)}, {".x", sample(i)}}, SaveNpzOptions().sync(false));
  }
  std::string bytes = read_bytes(paths[0]);
  bytes[bytes.find(".x.npy") + 1] = 'y';  // in the local header
  write_bytes(paths[0], bytes);
  std::vector<Error> errors;
  const NpzDataset dataset(paths, ".x",
                           FolderOptions().on_bad_file(OnBadFile::Skip, [&](const Error& error) {
                             errors.push_back(error);
                           }));
  const auto batch = dataset.stacked().get_batch({0, 1, 2});
  CHECK(batch.indices == std::vector<std::size_t>{1, 2});
  CHECK(at::equal(batch.data[0], sample(1)));
  CHECK(at::equal(batch.data[1], sample(2)));
  REQUIRE(errors.size() == 1);
  CHECK(errors[0].path() == paths[0]);
}
