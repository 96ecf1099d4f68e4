// Functions given to map() and concat() that could lead to a wrong result without a sign.

#include <torch/data.h>
#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/loader.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/quantize_per_tensor.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <iterator>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.hpp"

using namespace torch_npy;

namespace {

using TE = TensorExample;
using Numbers = std::vector<std::size_t>;

auto column(std::int64_t n) { return ArrayDataset<TE>(at::arange(n).to(at::kFloat).unsqueeze(1)); }
auto pairs(std::int64_t n) {
  return ArrayDataset<Example<>>(at::arange(n).to(at::kFloat).unsqueeze(1), at::arange(n) * 10);
}

}  // namespace

TEST_CASE("a function that removes samples from one tensor of a batch only is refused", "[map]") {
  const at::Tensor odd = at::tensor({1, 3, 5}, at::kLong);
  const auto filter = [&](bool data, bool target) {
    return pairs(6).stacked().map([=](Batch<>& batch) {
      if (data) batch.data = batch.data.index_select(0, odd);
      if (target) batch.target = batch.target.index_select(0, odd);
      batch.indices = {batch.indices[1], batch.indices[3], batch.indices[5]};
    });
  };
  const Numbers all{0, 1, 2, 3, 4, 5};
  CHECK(error_of([&] { (void)filter(true, false).get_batch(all); }).code() == ErrorCode::Mismatch);
  CHECK(error_of([&] { (void)filter(false, true).get_batch(all); }).code() == ErrorCode::Mismatch);
  const auto batch = filter(true, true).get_batch(all);
  CHECK(batch.indices == Numbers{1, 3, 5});
  CHECK(at::equal(batch.target, odd * 10));

  const auto padded = pairs(6).map(transforms::PadStack()).map([=](PaddedBatch<>& one) {
    one.data = one.data.index_select(0, odd);
    one.target = one.target.index_select(0, odd);
    one.indices = {one.indices[1], one.indices[3], one.indices[5]};
  });
  CHECK(error_of([&] { (void)padded.get_batch(all); }).code() == ErrorCode::Mismatch);
}

TEST_CASE("a function sees the indices of the dataset that it was given to", "[map]") {
  const auto labelled = column(100).stacked().map([](Batch<TE> batch) {
    Batch<> result;
    result.data = batch.data;
    result.indices = batch.indices;
    const std::vector<std::int64_t> labels(batch.indices.begin(), batch.indices.end());
    result.target = at::tensor(labels, at::kLong);
    return result;
  });
  const auto is_right = [](const Batch<>& batch) {
    return at::equal(batch.data.squeeze(1).to(at::kLong), batch.target);
  };
  const auto part = labelled.subset({90, 91, 7}).subset({2, 0});
  CHECK(is_right(part.get_batch({0, 1})));
  CHECK(part.get_batch({0, 1}).indices == Numbers{0, 1});
  const auto both = concat(labelled, labelled.subset({5, 6}));
  CHECK(is_right(both.get_batch({3, 101, 99})));
  CHECK(both.get_batch({3, 101, 99}).indices == Numbers{3, 101, 99});
  CHECK(is_right(concat(labelled, labelled).get_batch({150, 151})));
}

TEST_CASE("samples that a function repeats are kept by concat(), and get draws of their own",
          "[map]") {
  const auto twice = column(4).map([](Samples<TE>& samples) {
    Samples<TE> out;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      for (int k = 0; k < 2; ++k) {
        out.push_back(TE(samples[i].data.clone()));
        out.indices.push_back(samples.indices[i]);
      }
    }
    samples = std::move(out);
  });
  const auto both = concat(twice, twice);
  CHECK(both.get_batch({0, 1}).size() == 4);
  const auto batch = both.get_batch({5, 0, 4});
  CHECK(batch.indices == Numbers{5, 5, 0, 0, 4, 4});
  const auto drawn =
      both.map([](TE& one, at::Generator& generator) { one.data = at::rand({2}, generator); });
  const auto views = drawn.get_batch({5, 0});
  CHECK_FALSE(at::equal(views[0].data, views[1].data));
}

TEST_CASE("concat() refuses batches without a sample axis", "[concat]") {
  const auto mean =
      column(4).stacked().map([](Batch<TE>& batch) { batch.data = batch.data.mean(); });
  const auto both = concat(mean, column(4).stacked());
  const Error error = error_of([&] { (void)both.get_batch({0, 1, 4, 5}); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("cannot be put together"));
}

TEST_CASE("a NamedBatch may have an empty tensor, and tensors about the whole batch", "[map]") {
  const auto detect = column(8).map([](Samples<TE> samples) {
    std::vector<at::Tensor> images;
    for (const TE& one : samples) images.push_back(one.data);
    return NamedExample(
        {{"boxes", at::zeros({0, 4})}, {"classes", at::arange(10)}, {"image", at::stack(images)}});
  });
  std::size_t batches = 0;
  for (auto& batch : Loader(detect, 4)) {
    CHECK(batch["image"].size(0) == 4);
    CHECK(batch.indices.size() == 4);
    ++batches;
  }
  CHECK(batches == 2);
}

TEST_CASE("a function that removes rows of only some tensors of a NamedBatch throws Error",
          "[map]") {
  const auto named = column(4)
                         .map([](const TE& one) {
                           return NamedExample({{"image", one.data}, {"label", one.data}});
                         })
                         .stacked();
  const auto filter = [](NamedBatch batch, bool all, bool sets_indices) {
    const at::Tensor kept = at::tensor({1, 3});
    batch["image"] = batch["image"].index_select(0, kept);
    if (all) batch["label"] = batch["label"].index_select(0, kept);
    if (sets_indices) batch.indices = {batch.indices[1], batch.indices[3]};
    return batch;
  };
  for (const bool all : {false, true}) {
    for (const bool sets_indices : {false, true}) {
      const auto kept =
          named.map([=](NamedBatch batch) { return filter(std::move(batch), all, sets_indices); });
      if (all && sets_indices) {
        CHECK(kept.get_batch({0, 1, 2, 3}).indices == std::vector<std::size_t>{1, 3});
        continue;
      }
      const Error error = error_of([&] { (void)kept.get_batch({0, 1, 2, 3}); });
      CHECK(error.code() == ErrorCode::Mismatch);
      CHECK_THAT(error.what(), says("it has to do so in every tensor, and set `indices`"));
    }
  }
  // What is about the whole batch gets a new name.
  const auto mean = named.map([](NamedBatch& batch) {
    batch.items().emplace_back("mean", batch["image"].mean(0, /*keepdim=*/true));
  });
  CHECK(mean.get_batch({0, 1, 2}).indices.size() == 3);
}

TEST_CASE("a function that reads another dataset keeps its own generator", "[map]") {
  const auto noisy = column(8).map(
      [](TE& one, at::Generator& generator) { one.data = one.data + at::rand({1}, generator); });
  const auto draw = [](bool reads, const Dataset<TE>& other) {
    return column(4).map([=](TE& one, at::Generator& generator) {
      const at::Tensor first = at::rand({1}, generator);
      if (reads) (void)other.get(3);
      one.data = at::stack({first, at::rand({1}, generator)});
    });
  };
  const auto values = [&](bool reads) {
    Request request{0, 1, 2, 3};
    request.seed = 7;
    return transforms::Stack<TE>().apply_batch(draw(reads, noisy).read(request).value()).data;
  };
  CHECK(at::equal(values(true), values(false)));
}

TEST_CASE("PadStack refuses a batch in which only some samples have a target", "[map]") {
  const auto some = pairs(4).map([](Example<>& one) {
    if (one.data.item<float>() == 0) one.target = at::Tensor();
  });
  const auto padded = some.map(transforms::PadStack());
  CHECK(error_of([&] { (void)padded.get_batch({0, 1}); }).code() == ErrorCode::Mismatch);
  CHECK(error_of([&] { (void)padded.get_batch({1, 0}); }).code() == ErrorCode::Mismatch);
}

TEST_CASE("a tensor that is transposed in place later does not change its dataset", "[dataset]") {
  at::Tensor tensor = at::arange(6).reshape({3, 2});
  const ArrayDataset<TE> dataset(tensor);
  tensor.t_();
  CHECK(dataset.size() == 3);
  CHECK(at::equal(dataset.get(1).data, at::tensor({2, 3})));
}

TEST_CASE("rows of a quantized tensor can be read", "[dataset]") {
  const at::Tensor tensor =
      at::quantize_per_tensor(at::arange(6).view({3, 2}).to(at::kFloat), 0.5, 0, at::kQInt8);
  const ArrayDataset<TE> dataset(tensor);
  CHECK(at::equal(dataset.get_batch({2, 0})[0].data.dequantize(), at::tensor({4.f, 5.f})));
  CHECK(at::equal(dataset.stacked().get_batch({2}).data.dequantize(),
                  at::tensor({4.f, 5.f}).unsqueeze(0)));
}

TEST_CASE("a moved-from dataset can still be used, and a null source is refused", "[dataset]") {
  Dataset<TE> from = column(3);
  const Dataset<TE> to = std::move(from);
  CHECK(from.size() == to.size());  // NOLINT(bugprone-use-after-move)
  CHECK(error_of([] { Dataset<TE>{std::shared_ptr<const SampleSource<TE>>()}; }).code() ==
        ErrorCode::InvalidArgument);
}

TEST_CASE("what is no std::exception reaches the loop with the sample's name", "[map]") {
  const auto dataset = column(3).map([](TE one) -> TE {
    if (one.data.item<float>() == 1) throw 42;
    return one;
  });
  try {
    (void)dataset.get_batch({0, 1});
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::Transform);
    CHECK_THAT(error.what(), says("sample \"[1]\""));
    CHECK_THROWS_AS(std::rethrow_if_nested(error), int);
  }
}

TEST_CASE("a failure of the first batch is thrown by ++ if nobody looked at the batch",
          "[loader]") {
  const auto dataset = column(4).map([](TE one) -> TE {
    if (one.data.item<float>() == 0) throw std::runtime_error("the first");
    return one;
  });
  Loader loader(dataset, 1);
  CHECK_THROWS(std::distance(loader.begin(), loader.end()));
  auto at = loader.begin();
  CHECK_THROWS(*at);
  ++at;
  CHECK(at->indices == Numbers{1});
}

TEST_CASE("an epoch of which every sample was skipped is an Error", "[loader]") {
  const auto none = column(8).map([](Samples<TE>) { return Samples<TE>(); });
  for (const std::size_t workers : {0, 2}) {
    Loader loader(none, LoaderOptions(4).workers(workers));
    auto at = loader.begin();
    CHECK(at != loader.end());
    CHECK_THAT(error_of([&] { (void)*at; }).what(), says("skipped every sample of epoch 0"));
    ++at;
    CHECK(at == loader.end());
    CHECK(loader.epoch() == 1);
  }
}

TEST_CASE("a Loader made by a worker leaves the number of threads of the process", "[loader]") {
  const auto in_new_thread = [] {
    int threads = 0;
    std::thread([&] { threads = at::get_num_threads(); }).join();
    return threads;
  };
  const int before = in_new_thread();
  const auto nested = column(4).map([](TE one) {
    for (auto& batch : Loader(column(2), LoaderOptions(1).workers(1))) (void)batch;
    return one;
  });
  for (auto& batch : Loader(nested, LoaderOptions(1).workers(2))) (void)batch;
  CHECK(in_new_thread() == before);
}

TEST_CASE("one get() of a large dataset allocates nothing for the others", "[dataset]") {
  struct Large : SampleSource<TE> {
    std::size_t size() const override { return std::size_t{1} << 40; }
    std::string key(std::size_t sample) const override { return std::to_string(sample); }
    SampleRows<TE> read(Request& request) const override {
      std::vector<TE> samples;
      for (const Pick& pick : request.picks) {
        samples.emplace_back(at::ones({1}) * static_cast<double>(pick.sample));
      }
      return samples;
    }
  };
  const Dataset<TE> dataset(std::make_shared<Large>());
  CHECK(dataset.get(std::size_t{1} << 39).data.item<double>() == 549755813888.);
}
