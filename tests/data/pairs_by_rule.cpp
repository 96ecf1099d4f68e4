// Inputs and targets that are matched by patterns, or by a function of names.

#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/full.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

namespace {

/// Saves the number `value` as a file.
void put(const std::filesystem::path& path, int value) {
  std::filesystem::create_directories(path.parent_path());
  save(path, at::full({}, value, at::kInt));
}

std::vector<std::pair<int, int>> pairs_in(const PairedFolderDataset& dataset) {
  std::vector<std::pair<int, int>> pairs;
  for (std::size_t i = 0; i < *dataset.size(); ++i) {
    const Example<> one = PairedFolderDataset(dataset).get(i);
    pairs.emplace_back(one.data.item<int>(), one.target.item<int>());
  }
  return pairs;
}

using Pairs = std::vector<std::pair<int, int>>;

FolderOptions patterns(const std::string& inputs, const std::string& targets) {
  return FolderOptions().pattern(inputs).target_pattern(targets);
}

}  // namespace

TEST_CASE("target_pattern() pairs files of one folder", "[dataset]") {
  const Folder folder;
  const auto seg = folder / "seg";
  for (int i = 0; i < 3; ++i) {
    const std::string name(1, static_cast<char>('x' + i));
    put(seg / (name + "_image.npy"), i);
    put(seg / (name + "_mask.npy"), 10 + i);
    put(seg / "deep" / (name + "_image.npy"), 20 + i);
    put(seg / "deep" / (name + "_mask.npy"), 30 + i);
  }
  put(seg / "other.npy", 99);
  const auto options = patterns("*_image.npy", "*_mask.npy");
  const PairedFolderDataset dataset(seg, seg, options);
  CHECK(pairs_in(dataset) == Pairs{{0, 10}, {1, 11}, {2, 12}});
  CHECK(dataset.target_files()[1] == seg / "y_mask.npy");
  CHECK(pairs_in(PairedFolderDataset(seg, seg, FolderOptions(options).recursive(true))) ==
        Pairs{{20, 30}, {21, 31}, {22, 32}, {0, 10}, {1, 11}, {2, 12}});
}

TEST_CASE("target_pattern() pairs files of two folders, also with several stars", "[dataset]") {
  const Folder folder;
  const auto a = folder / "a", b = folder / "b";
  for (const int i : {1, 2, 10}) {
    put(a / ("image_" + std::to_string(i) + ".npy"), i);
    put(b / ("mask_" + std::to_string(i) + ".npy"), 100 + i);
  }
  const Pairs all{{1, 101}, {2, 102}, {10, 110}};
  const auto natural = [](FolderOptions options) { return options.natural_order(true); };
  CHECK(pairs_in({a, b, natural(patterns("image_*.npy", "mask_*.npy"))}) == all);
  CHECK(pairs_in({a, b, natural(patterns("image_*", "mask_*"))}) == all);
  CHECK(pairs_in({a, b, natural(patterns("image_*", "mask_*.npy"))}) == all);
  CHECK(pairs_in({a, b, patterns("image_1.npy", "mask_2.npy")}) == Pairs{{1, 102}});

  const auto c = folder / "c", d = folder / "d";
  put(c / "p1_ct_s2.npy", 1);
  put(c / "p2_ct_s1.npy", 2);
  put(d / "p1-seg-s2.npy", 3);
  put(d / "p2-seg-s1.npy", 4);
  CHECK(pairs_in({c, d, patterns("*_ct_*.npy", "*-seg-*.npy")}) == Pairs{{1, 3}, {2, 4}});
  const Error error =
      error_of([&] { PairedFolderDataset(c, d, patterns("*_*_*.npy", "*-*.npy")); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("as many stars as pattern(), found \"*-*.npy\" for \"*_*_*.npy\""));

  // The names of all inputs, with another ending of the targets.
  const auto e = folder / "e", f = folder / "f";
  put(e / "x.npy", 1);
  put(f / "x_mask.npy", 2);
  CHECK(pairs_in({e, f, FolderOptions().target_pattern("*_mask.npy")}) == Pairs{{1, 2}});
}

TEST_CASE("a file without a partner is named with the name of its partner", "[dataset]") {
  const Folder folder;
  const auto seg = folder / "seg";
  put(seg / "x_image.npy", 0);
  put(seg / "x_mask.npy", 1);
  put(seg / "y_image.npy", 2);
  put(seg / "z_mask.npy", 3);
  const Error error =
      error_of([&] { PairedFolderDataset(seg, seg, patterns("*_image.npy", "*_mask.npy")); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(),
             says("2 files have no partner:\n  " + (seg / "y_image.npy").string() + " (expected " +
                  (seg / "y_mask.npy").string() + ")\n  " + (seg / "z_mask.npy").string()));
  CHECK_THAT(error_of([&] {
               PairedFolderDataset(seg, seg, patterns("*_image.npy", "*_label.npy"));
             }).what(),
             says("no .npy file in this folder matches the pattern \"*_label.npy\""));
}

TEST_CASE("a pattern for the inputs alone names target_pattern()", "[dataset]") {
  const Folder folder;
  put(folder / "a" / "image_1.npy", 0);
  put(folder / "b" / "mask_1.npy", 1);
  const Error error = error_of(
      [&] { PairedFolderDataset(folder / "a", folder / "b", FolderOptions().pattern("image_*")); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == folder / "b");
  CHECK_THAT(error.what(), says("matches the pattern \"image_*\"; target_pattern() is"));
}

TEST_CASE("files of one folder without a rule throw Error instead of being their own targets",
          "[dataset]") {
  const Folder folder;
  const auto seg = folder / "seg";
  put(seg / "x_image.npy", 0);
  put(seg / "x_mask.npy", 1);
  std::filesystem::create_directory_symlink("seg", folder / "link");
  for (const auto& targets : {seg, folder / "link", folder / "seg/"}) {
    for (const auto& options : {FolderOptions(), FolderOptions().pattern("*_image.npy")}) {
      const Error error = error_of([&] { PairedFolderDataset(seg, targets, options); });
      CHECK(error.code() == ErrorCode::InvalidArgument);
      CHECK_THAT(error.what(),
                 says("set pattern(\"*_image.npy\") and target_pattern(\"*_mask.npy\")"));
    }
    const auto same = patterns("*_image.npy", "*_image.npy");
    const Error error = error_of([&] { PairedFolderDataset(seg, targets, same); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK(error.path() == seg / "x_image.npy");
    CHECK_THAT(error.what(), says("this input would be its own target"));
  }
  const auto by_name = [](const std::string& prefix) {
    return FolderOptions().target_name([prefix](const std::string& name) { return prefix + name; });
  };
  for (const char* prefix : {"", "./"}) {
    CHECK_THAT(error_of([&] { PairedFolderDataset(seg, seg, by_name(prefix)); }).what(),
               says("its own target"));
  }
}

TEST_CASE("target_name() is a function from the name of an input to that of its target",
          "[dataset]") {
  const Folder folder;
  const auto a = folder / "a", b = folder / "b";
  for (const char* name : {"1.npy", "2.npy", "deep/3.npy"})
    put(a / name, name[0] == 'd' ? 3 : name[0] - '0');
  put(b / "1_t.npy", 11);
  put(b / "2_t.npy", 12);
  put(b / "deep" / "3_t.npy", 13);
  put(b / "unused.npy", 14);
  const auto rule = [](const std::string& name) {
    return name.substr(0, name.size() - 4) + "_t.npy";
  };
  const auto options = FolderOptions().target_name(rule).recursive(true);
  CHECK(pairs_in({a, b, options}) == Pairs{{1, 11}, {2, 12}, {3, 13}});

  std::filesystem::remove(b / "2_t.npy");
  Error error = error_of([&] { PairedFolderDataset(a, b, options); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("1 file has no partner:\n  " + (a / "2.npy").string() +
                                " (expected " + (b / "2_t.npy").string() + ")"));
  error = error_of([&] {
    PairedFolderDataset(a, b, FolderOptions().target_name([](const std::string&) {
      return std::string("1_t.npy");
    }));
  });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("two inputs have the same target " + (b / "1_t.npy").string() +
                                ": " + (a / "1.npy").string() + " and " + (a / "2.npy").string()));
  // The same path, written in another way.
  for (const std::string& other : {std::string("./1_t.npy"), (b / "1_t.npy").string()}) {
    error = error_of([&] {
      PairedFolderDataset(a, b, FolderOptions().target_name([&](const std::string& name) {
        return name == "1.npy" ? "1_t.npy" : other;
      }));
    });
    CHECK_THAT(error.what(), says("two inputs have the same target"));
  }
  CHECK(error_of([&] {
          PairedFolderDataset(
              a, b, FolderOptions().target_name([](const std::string&) { return std::string(); }));
        }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("two inputs with one target throw Error also with patterns", "[dataset]") {
  const Folder folder;
  // "" and "y", and "y" and "", stand for the stars of both targets.
  put(folder / "a" / "0_b1y.npy", 0);
  put(folder / "a" / "0_yb1.npy", 1);
  put(folder / "b" / "yb.npy", 2);
  put(folder / "b" / "by.npy", 3);
  CHECK(pairs_in({folder / "a", folder / "b", patterns("0_*b1*.npy", "*b*.npy")}) ==
        Pairs{{0, 3}, {1, 2}});
  const Error error = error_of(
      [&] { PairedFolderDataset(folder / "a", folder / "b", patterns("0_*b1*.npy", "**b.npy")); });
  CHECK_THAT(error.what(), says("two inputs have the same target"));
}

TEST_CASE("patterns that cannot say what a partner is throw Error", "[dataset]") {
  const Folder folder;
  put(folder / "a" / "1.npy", 0);
  put(folder / "b" / "1.npy", 0);
  const auto check = [&](const FolderOptions& options, const char* words) {
    const Error error = error_of([&] { PairedFolderDataset(folder / "a", folder / "b", options); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says(words));
  };
  check(patterns("?.npy", "?.npy"), "no other wildcard, found \"?.npy\"");
  check(patterns("*.npy", "[0-9].npy"), "target_name() takes a function");
  check(patterns("*.np*y", "*.npy"), "ends with .npy or *");
  check(patterns("*.n*", "*_m*"), "does not match \"*.n*\" without its ending .npy");
  check(patterns("*", "*_m*").target_name([](const std::string& name) { return name; }),
        "exclude each other");
}
