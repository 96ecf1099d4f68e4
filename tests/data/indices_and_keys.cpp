// Which sample of a dataset each sample of a batch is.

#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/sampler.hpp>
#include <torch_npy/data/transforms.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

namespace {

/// A folder of 100 files, some of them bad, and datasets of it.
struct Hundred {
  explicit Hundred(const std::vector<int>& bad, OnBadFile what = OnBadFile::Skip)
      : options(FolderOptions().on_bad_file(what)) {
    fill_folder(folder, 100);
    damage(folder, bad);
  }
  FolderDataset dataset() const { return FolderDataset(folder.path(), options); }

  Folder folder;
  FolderOptions options;
};

/// Checks that `indices` of a batch name the files that its samples were read from.
template <class Any, class B>
void check_named(const Any& dataset, const B& batch) {
  const std::vector<int> numbers = numbers_of(batch);
  REQUIRE(batch.indices.size() == numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::string key = dataset.key(batch.indices[i]);
    CHECK(std::filesystem::path(key).filename() == name_of(numbers[i]));
  }
}

template <class Any>
void check_named(const Any& dataset, const Indices& asked, const Indices& wanted) {
  const auto batch = dataset.get_batch(asked);
  CHECK(batch.indices == wanted);
  check_named(dataset, batch);
}

/// Also after stacked(), and in epochs of LibTorch's loader. `good` is the number of samples that
/// can be read.
template <class Sampler = td::samplers::RandomSampler, class Any>
void check_epochs(const Any& dataset, std::size_t good) {
  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of<Sampler>(dataset, 8, workers);
    Indices seen;
    for (auto& batch : *loader) {
      check_named(dataset, batch);
      seen.insert(seen.end(), batch.indices.begin(), batch.indices.end());
    }
    std::sort(seen.begin(), seen.end());
    CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
    CHECK(seen.size() == good);
  }
}

}  // namespace

TEST_CASE("with one bad file skipped, each of 99 outputs goes under its own file's name",
          "[dataset]") {
  const Hundred hundred({37});
  const FolderDataset dataset = hundred.dataset();
  const auto check = [&](const auto& any, std::size_t workers) {
    std::map<std::string, int> outputs;
    auto loader = loader_of<td::samplers::RandomSampler>(any, 8, workers);
    for (auto& batch : *loader) {
      const std::vector<int> numbers = numbers_of(batch);
      REQUIRE(batch.indices.size() == numbers.size());
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        outputs[any.key(batch.indices[i])] = numbers[i];
      }
    }
    CHECK(outputs.size() == 99);
    for (int i = 0; i < 100; ++i) {
      const auto output = outputs.find((hundred.folder / name_of(i)).generic_string());
      CHECK((output == outputs.end()) == (i == 37));
      if (output != outputs.end()) CHECK(output->second == i);
    }
  };
  for (const std::size_t workers : {0, 1, 4}) {
    check(dataset, workers);
    check(dataset.stacked(), workers);
  }
}

TEST_CASE("indices are right if the first, the last or all samples of a batch are skipped",
          "[dataset]") {
  const Hundred hundred({0, 7, 8, 9, 10, 99});
  const FolderDataset dataset = hundred.dataset();
  const auto check = [&](const auto& any) {
    check_named(any, {0, 1, 2}, {1, 2});
    check_named(any, {5, 6, 7}, {5, 6});
    check_named(any, {0, 6, 7, 11, 10}, {6, 11});
    check_named(any, {98, 99}, {98});
    check_named(any, {4, 4, 0, 4}, {4, 4, 4});
    check_named(any, {3, 2, 1}, {3, 2, 1});
  };
  check(dataset);
  check(dataset.stacked());
  check_named(dataset, {8, 9, 10}, {});
  CHECK_THAT(error_of([&] {
               (void)dataset.stacked().get_batch({8, 9, 10});
             }).what(),
             says("a batch without samples"));
  check_epochs(dataset, 94);
}

TEST_CASE("indices of a full batch name the replacements of its bad samples", "[dataset]") {
  const Hundred hundred({0, 7, 8, 9, 99}, OnBadFile::Replace);
  const auto check = [&](const auto& any) {
    for (const Indices& asked : {Indices{0, 1, 7}, {7, 8, 9}, {99}, {96, 97, 98, 99}}) {
      const auto batch = any.get_batch(asked);
      REQUIRE(batch.indices.size() == asked.size());
      check_named(any, batch);
      for (std::size_t i = 0; i < asked.size(); ++i) {
        const bool is_bad = asked[i] < 1 || (asked[i] > 6 && asked[i] < 10) || asked[i] == 99;
        CHECK((batch.indices[i] == asked[i]) == !is_bad);
      }
    }
    for (const std::size_t workers : {0, 3}) {
      auto loader = loader_of<td::samplers::RandomSampler>(any, 8, workers);
      std::size_t count = 0;
      for (auto& batch : *loader) {
        check_named(any, batch);
        count += batch.indices.size();
      }
      CHECK(count == 100);
    }
  };
  check(hundred.dataset());
  check(hundred.dataset().stacked());
}

TEST_CASE("indices are right in the last, short batch", "[dataset]") {
  const Hundred hundred({97});
  const auto check = [](const auto& any) {
    auto loader = loader_of(any, 32);
    Indices last;
    for (auto& batch : *loader) {
      check_named(any, batch);
      last = batch.indices;
    }
    CHECK(last == Indices{96, 98, 99});
  };
  check(hundred.dataset());
  check(hundred.dataset().stacked());
}

TEST_CASE("indices are right after map()", "[dataset]") {
  const Hundred hundred({0, 42, 99});
  const FolderDataset dataset = hundred.dataset();
  using One = TensorExample;
  const auto check = [](const auto& any) {
    check_named(any, {0, 1, 42, 43}, {1, 43});
    check_epochs(any, 97);
  };
  check(dataset.map(transforms::ToDtype(at::kDouble)));
  check(dataset.stacked().map(transforms::ToDtype(at::kDouble)));
  check(dataset.map(transforms::ToDtype(at::kDouble)).stacked());
  check(dataset.map(transforms::Stack<One>()));
  check(dataset.map(transforms::PadStack()));
  check(dataset.map(td::transforms::Lambda<One>([](One one) { return one; })));
  check(dataset.map(td::transforms::BatchLambda<std::vector<One>, std::vector<One>>(
      [](std::vector<One> all) { return all; })));
  check(dataset.map(td::transforms::Stack<One>()));
  check(dataset.map([](One one) { return one; }));
  check(dataset.map([](One& one) { one.data = one.data.clone(); }).stacked());
  check(dataset.map([](const One& one) { return Example<>(one.data, one.data); }));
  check(dataset.map([](Samples<One>& all) { all[0].data = all[0].data.clone(); }));
  check(dataset.map([](std::vector<One> all) { return all; }).stacked());
  check(dataset.stacked().map([](Batch<One> batch) { return batch; }));
  check(dataset.stacked().map([](Batch<One>& batch) { batch.data = batch.data.clone(); }));
  check(dataset.stacked().map([](const Batch<One>& batch) { return One(batch.data); }));
  check(dataset.stacked().map(
      [](const Batch<One>& batch) { return Example<>(batch.data, batch.data); }));
}

TEST_CASE("a function sees the indices of its batch", "[dataset]") {
  const Hundred hundred({1});
  const FolderDataset dataset = hundred.dataset();
  const auto seen = [](const auto& batch) {
    const std::vector<std::int64_t> indices(batch.indices.begin(), batch.indices.end());
    return at::tensor(indices, at::kLong);
  };
  const at::Tensor want = at::tensor({0, 2, 99}, at::kLong);
  const Indices asked{0, 1, 2, 99};
  const auto of_list =
      dataset.map([=](const Samples<TensorExample>& samples) { return seen(samples); });
  CHECK(at::equal(of_list.get_batch(asked), want));
  CHECK(at::equal(dataset.stacked().map(seen).get_batch(asked), want));
}

TEST_CASE("a function that removes samples sets the indices of its batch", "[dataset]") {
  const Hundred hundred({1});
  const FolderDataset dataset = hundred.dataset();
  const auto even = dataset.map([](const Samples<TensorExample>& all) {
    Samples<TensorExample> kept;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (number_of(all[i].data) % 2 != 0) continue;
      kept.push_back(all[i]);
      kept.indices.push_back(all.indices[i]);
    }
    return kept;
  });
  const auto even_rows = dataset.stacked().map([](Batch<TensorExample>& batch) {
    std::vector<std::int64_t> rows;
    Indices indices;
    for (std::size_t i = 0; i < batch.indices.size(); ++i) {
      if (batch.indices[i] % 2 != 0) continue;
      rows.push_back(static_cast<std::int64_t>(i));
      indices.push_back(batch.indices[i]);
    }
    batch.data = batch.data.index_select(0, at::tensor(rows, at::kLong));
    batch.indices = indices;
  });
  const auto check = [](const auto& any) {
    check_named(any, {0, 1, 2, 3, 4}, {0, 2, 4});
    check_named(any, {3, 6}, {6});
    check_epochs<td::samplers::SequentialSampler>(any.map(transforms::ToDtype(at::kDouble)), 50);
  };
  check(even);
  check(even_rows);
  check(even.stacked());
  check_named(even.subset({5, 6, 7, 8}), {0, 1, 2, 3}, {1, 3});
  // Nothing may be left of a batch.
  CHECK(even.get_batch({3, 5}).empty());
  CHECK(even.get_batch({3, 5}).indices.empty());
  CHECK_THAT(error_of([&] {
               (void)even_rows.get_batch({3, 5});
             }).what(),
             says("a batch without samples"));

  const Error error = error_of([&] { (void)even.get(3); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK_THAT(error.what(), says("a function given to map() removed the sample"));
  CHECK(number_of(even.get(4).data) == 4);

  // A function may also reverse a batch, and repeat samples.
  const auto twice = dataset.map([](Samples<TensorExample>& all) {
    std::reverse(all.begin(), all.end());
    std::reverse(all.indices.begin(), all.indices.end());
    const std::size_t count = all.size();
    for (std::size_t i = 0; i < count; ++i) {
      all.push_back(all[i]);
      all.indices.push_back(Indices(all.indices)[i]);
    }
  });
  check_named(twice, {0, 1, 2}, {2, 0, 2, 0});
  check_named(twice.stacked(), {0, 1, 2}, {2, 0, 2, 0});
}

TEST_CASE("a function that removes samples and does not set the indices is an Error", "[dataset]") {
  const Hundred hundred({});
  const FolderDataset dataset = hundred.dataset();
  const auto check = [](const auto& any, const char* words) {
    const Error error = error_of([&] { (void)any.get_batch({3, 4}); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says(words));
  };
  const char* const hint =
      "if it removes or adds samples, it has to do so in every tensor, and set "
      "`indices` of the batch";
  check(dataset.map([](Samples<TensorExample>& all) { all.pop_back(); }), hint);
  check(dataset.map([](std::vector<TensorExample> all) {
    all.pop_back();
    return all;
  }),
        hint);
  check(dataset.stacked().map(
            [](Batch<TensorExample>& batch) { batch.data = batch.data.narrow(0, 1, 1); }),
        hint);
  check(dataset.stacked().map([](const Batch<TensorExample>& batch) {
    return TensorExample(batch.data.narrow(0, 1, 1));
  }),
        hint);
  check(dataset.map([](Samples<TensorExample>& all) { all.push_back(all[0]); }), hint);
  check(dataset.map([](Samples<TensorExample>& all) { all.indices[1] = 5; }),
        "set `indices` of its batch to sample 5, which was not in the batch");
}

TEST_CASE("indices and keys are right after subset() and concat()", "[dataset]") {
  const Hundred hundred({20, 50});
  const Hundred other({3}, OnBadFile::Skip);
  const FolderDataset all = hundred.dataset();
  const Dataset<TensorExample> part = all.subset({10, 20, 30, 40, 50, 60});
  const Dataset<TensorExample> deeper = part.subset({5, 4, 3, 1, 0});  // 60, 50, 40, 20, 10
  const Dataset<TensorExample> joined = concat(part, other.dataset().subset({1, 2, 3, 4}));
  const Dataset<TensorExample> mixed = concat(joined.subset({9, 0, 1, 8, 7}), deeper, all);
  const Indices everything{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};

  const auto check = [&](const auto& change) {
    check_named(change(part), {0, 1, 2, 5}, {0, 2, 5});
    check_named(change(deeper), {4, 3, 2, 1, 0}, {4, 2, 0});
    check_named(change(joined), everything, {0, 2, 3, 5, 6, 7, 9});
    check_named(change(joined), {9, 0, 8, 5}, {9, 0, 5});
    check_named(change(mixed), everything, {0, 1, 4, 5, 7, 9});
    check_named(change(mixed), {31, 9, 0, 7, 109, 60}, {31, 9, 0, 7, 109});
    check_named(change(mixed.subset({109, 2, 0, 31})), {0, 1, 2, 3}, {0, 2, 3});
    check_epochs(change(part), 4);
    check_epochs(change(mixed), 3 + 3 + 98);
  };
  check([](const auto& any) { return any; });
  check([](const auto& any) { return any.map(transforms::ToDtype(at::kDouble)); });
  check([](const auto& any) { return any.stacked(); });

  CHECK(deeper.key(0) == (hundred.folder / "s060.npy").generic_string());
  CHECK(joined.key(9) == (other.folder / "s004.npy").generic_string());
  CHECK(mixed.key(0) == (other.folder / "s004.npy").generic_string());
  CHECK(mixed.key(9) == (hundred.folder / "s010.npy").generic_string());
  CHECK(mixed.key(10) == (hundred.folder / "s000.npy").generic_string());
  CHECK(error_of([&] { (void)mixed.key(110); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { (void)part.subset({0, 6}); }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("indices and keys are right under the samplers of LibTorch and of this library",
          "[dataset]") {
  const Hundred hundred({11, 64});
  const auto check = [](const auto& any, const auto& sampler, std::size_t workers) {
    auto loader = td::make_data_loader(any, sampler, loading(8, workers));
    std::size_t count = 0;
    for (auto& batch : *loader) {
      check_named(any, batch);
      count += batch.indices.size();
    }
    return count;
  };
  for (const std::size_t workers : {0, 1, 4}) {
    const auto sum_of_ranks = [&](const auto& any, auto make) {
      return check(any, make(0), workers) + check(any, make(1), workers);
    };
    const auto check_all = [&](const auto& any) {
      CHECK(check(any, td::samplers::SequentialSampler(100), workers) == 98);
      CHECK(check(any, td::samplers::RandomSampler(100), workers) == 98);
      CHECK(sum_of_ranks(any, [](std::size_t rank) {
              return td::samplers::DistributedRandomSampler(100, 2, rank);
            }) == 98);
      CHECK(sum_of_ranks(any, [](std::size_t rank) { return DistributedSampler(100, 2, rank); }) ==
            98);
    };
    check_all(hundred.dataset());
    check_all(hundred.dataset().stacked());
  }
}
