// Datasets that sixteen threads share, as the thread sanitizer runs them.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <ATen/ops/equal.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/at_once.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("sixteen threads share datasets", "[threads]") {
  const Folder folder;
  for (const char* part : {"inputs", "targets", "classes/a", "classes/b"}) {
    std::filesystem::create_directories(folder / part);
    for (int i = 0; i < 40; ++i) {
      save(folder / part / (std::to_string(i) + ".npy"), floats({3, 8, 8}, static_cast<float>(i)),
           kQuick);
    }
  }
  save(folder / "rows.npy", floats({100, 3, 8, 8}), kQuick);
  write_bytes(folder / "inputs" / "bad.npy", "no array");
  write_bytes(folder / "targets" / "bad.npy", "no array");

  const auto skip = FolderOptions().natural_order(true).on_bad_file(OnBadFile::Skip);
  const FolderDataset files(folder / "inputs", skip);
  const PairedFolderDataset pairs(folder / "inputs", folder / "targets", skip);
  const ClassFolderDataset classes(folder / "classes");
  const ArrayDataset rows(folder / "rows.npy");
  const auto work = [&](int thread) {
    auto own_files = FolderDataset(files).stacked();  // copies share their source
    auto own_pairs = PairedFolderDataset(pairs).stacked();
    auto own_classes = ClassFolderDataset(classes).stacked();
    auto own_rows = ArrayDataset(rows).stacked();
    bool good = true;
    for (std::size_t round = 0; round < 5; ++round) {
      const std::vector<std::size_t> indices = {round, static_cast<std::size_t>(thread),
                                                40};  // the last one is bad
      const std::vector<std::size_t> good_indices = {round, static_cast<std::size_t>(thread)};
      good &= at::equal(own_files.get_batch(indices).data[1],
                        floats({3, 8, 8}, static_cast<float>(thread)));
      good &= at::equal(own_pairs.get_batch(indices).target[0],
                        floats({3, 8, 8}, static_cast<float>(round)));
      good &= own_classes.get_batch(good_indices).target.sum().item<std::int64_t>() == 0;
      good &= at::equal(own_rows.get_batch(good_indices).data[1], floats({100, 3, 8, 8})[thread]);
    }
    return good && files.verify().size() == 1 && classes.classes().size() == 2 &&
           rows.size() == 100u;
  };
  CHECK(failures_of(work) == 0);
  CHECK(files.bad_file_count() == std::size_t{5 * kThreads});
}

TEST_CASE("sixteen threads share the cache of a dataset", "[threads]") {
  const Folder folder;
  constexpr std::size_t kFiles = 50;
  for (std::size_t i = 0; i < kFiles; ++i) {
    save(folder / (std::to_string(i) + ".npy"), floats({3, 8, 8}, static_cast<float>(i)), kQuick);
  }
  const FolderDataset files(folder.path(), FolderOptions().natural_order(true));
  for (const std::size_t bytes : {std::size_t{20 * 3 * 8 * 8 * 4}, std::size_t{1} << 20}) {
    const auto cached = files.cached(bytes);
    const auto work = [&](int thread) {
      const auto stacked = cached.stacked();
      bool good = true;
      for (std::size_t round = 0; round < 30; ++round) {
        std::vector<std::size_t> indices;
        for (std::size_t i = 0; i < 5; ++i) {
          indices.push_back((round * 5 + i * static_cast<std::size_t>(thread + 1)) % kFiles);
        }
        auto batch = stacked.get_batch(indices);
        good &= batch.indices == indices;
        for (std::size_t i = 0; i < 5; ++i) {
          good &= at::equal(batch.data[static_cast<std::int64_t>(i)],
                            floats({3, 8, 8}, static_cast<float>(indices[i])));
        }
        batch.data.fill_(-1);
      }
      return good;
    };
    CHECK(failures_of(work) == 0);
  }
}
