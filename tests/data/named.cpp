// Samples of tensors with names.

#include <torch_npy/data/dataset.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/samples.hpp"

using namespace torch_npy;

namespace {

/// Image i is sample(i), its weight the number i / 2. Sample 3 has another name, sample 4 another
/// order.
class NamedSource : public SampleSource<NamedExample> {
 public:
  explicit NamedSource(const FolderOptions& options = {}) : SampleSource<NamedExample>(options) {}
  std::size_t size() const override { return 6; }
  std::string key(std::size_t number) const override { return "named " + std::to_string(number); }
  SampleRows<NamedExample> read(Request& request) const override {
    std::vector<NamedExample> all;
    for (const Pick& pick : request.picks) {
      const int i = static_cast<int>(pick.sample);
      std::vector<NamedExample::Item> items = {{i == 3 ? "mask" : "image", sample(i)},
                                               {"weight", at::full({}, i / 2.0)}};
      if (i == 4) std::swap(items[0], items[1]);
      all.emplace_back(std::move(items));
    }
    return all;
  }
};

Dataset<NamedExample> named_dataset(const FolderOptions& options = {}) {
  return Dataset<NamedExample>(std::make_shared<const NamedSource>(options));
}

}  // namespace

TEST_CASE("the tensors of a NamedExample are found by name", "[named]") {
  NamedExample one({{"image", at::zeros({2})}, {"label", at::tensor(7)}});
  CHECK(one["label"].item<int>() == 7);
  one["image"] = at::full({2}, 5.0);
  const NamedExample& same = one;
  CHECK(same["image"][1].item<double>() == 5);
  CHECK(one.items()[1].first == "label");
  Error error = error_of([&] { (void)same["mask"]; });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK_THAT(error.what(), says("no tensor \"mask\" in this sample or batch; it has \"image\", "
                                "\"label\""));
  CHECK_THAT(error_of([] { (void)NamedExample()["x"]; }).what(), says("it has none"));
  error = error_of([] { NamedExample({{"a", at::zeros({1})}, {"a", at::zeros({1})}}); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("\"a\""));
}

TEST_CASE("samples with names are stacked under their names", "[named]") {
  const Dataset<NamedExample> dataset = named_dataset();
  CHECK(at::equal(dataset.get(3)["mask"], sample(3)));
  const NamedBatch batch = dataset.stacked().get_batch({2, 0, 5});
  CHECK(at::equal(batch["image"], at::stack({sample(2), sample(0), sample(5)})));
  CHECK(at::equal(batch["weight"], at::tensor({1., 0., 2.5}).to(batch["weight"].scalar_type())));
  CHECK(batch.items().size() == 2);
  CHECK(batch.items()[0].first == "image");
  CHECK(batch.indices == Indices{2, 0, 5});
  for (const std::size_t workers : {0, 2}) {
    auto loader = loader_of(dataset.subset({0, 1, 2, 5}).stacked(), 2, workers);
    std::vector<int> numbers;
    for (const NamedBatch& some : *loader) {
      for (std::int64_t i = 0; i < some["image"].size(0); ++i) {
        numbers.push_back(number_of(some["image"][i]));
      }
    }
    CHECK(numbers == std::vector<int>{0, 1, 2, 5});
  }
}

TEST_CASE("functions take samples and batches with names", "[named]") {
  const Dataset<NamedExample> dataset = named_dataset();
  const auto changed = dataset
                           .map([](NamedExample& one) {
                             one["image"].mul_(2);
                             one.items().emplace_back("twice", one["weight"] * 2);
                           })
                           .stacked()
                           .map([](NamedBatch& batch) { batch["image"].add_(1); });
  const NamedBatch batch = changed.get_batch({1, 5});
  CHECK(at::equal(batch["image"], at::stack({sample(1), sample(5)}) * 2 + 1));
  CHECK(at::equal(batch["twice"], batch["weight"] * 2));
  CHECK(batch.indices == Indices{1, 5});
  const Dataset<Example<>, Batch<>> pairs = dataset.stacked().map(
      [](const NamedBatch& some) { return Example<>(some["image"], some["weight"]); });
  CHECK(numbers_of(pairs.get_batch({0, 2})) == std::vector<int>{0, 2});
  const Dataset<NamedExample, NamedBatch> renamed =
      dataset.stacked().map([](const NamedBatch& some) {
        return NamedExample({{"picture", some["image"]}});
      });
  CHECK(at::equal(renamed.get_batch({2, 0})["picture"], at::stack({sample(2), sample(0)})));
  CHECK(renamed.get_batch({2, 0}).indices == Indices{2, 0});
  CHECK_THAT(error_of([&] {
               (void)dataset.map([](NamedExample& one) { one["x"] = at::zeros({1}); }).get(2);
             }).what(),
             says("sample \"named 2\": no tensor \"x\""));
}

TEST_CASE("samples with other names or another order of names are not stacked", "[named]") {
  const auto stacked = named_dataset().stacked();
  for (const std::size_t other : {3, 4}) {
    const Error error = error_of([&] { (void)stacked.get_batch({0, other}); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("samples with different names cannot be stacked: image: shape "
                                  "(2, 3) and dtype Float, weight: shape () and dtype"));
  }
  CHECK(stacked.get_batch({3, 3})["mask"].size(0) == 2);

  std::vector<std::string> bad;
  const auto skipping =
      named_dataset(FolderOptions().on_bad_file(OnBadFile::Skip, [&](const Error& error) {
        bad.push_back(error.what());
      })).stacked();
  const NamedBatch batch = skipping.get_batch({3, 0, 1, 4, 2});
  CHECK(batch.indices == Indices{0, 1, 2});
  CHECK(at::equal(batch["image"], samples(3)));
  REQUIRE(bad.size() == 2);
  CHECK_THAT(bad[0], says("named 3: unlike most samples: it has mask: shape (2, 3)"));
}
