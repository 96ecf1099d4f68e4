// What Dataset::map() can be given.

#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/transforms.hpp>

#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace td = torch::data;

namespace {

Example<> doubled(const Example<>& one) { return {one.data * 2, one.target}; }
void double_in_place(Example<>& one) { one.data.mul_(2); }
Batch<> doubled_batch(Batch<> batch) noexcept {
  batch.data.mul_(2);
  return batch;
}
void add_noise(Example<>& one, at::Generator& generator) { one.data = at::rand({1}, generator); }

struct Doubling {
  Example<> operator()(const Example<>& one) const { return doubled(one); }
};

/// Has the numbers of sample() as images, like the data sets that come with LibTorch.
class Digits : public td::datasets::Dataset<Digits> {
 public:
  Example<> get(std::size_t index) override {
    const int i = static_cast<int>(index);
    return {sample(i).unsqueeze(0), at::tensor(i)};
  }
  c10::optional<std::size_t> size() const override { return 6; }
};

/// `dataset` has the samples of number_dataset() with their data doubled.
template <class Any>
void check_doubled(const Any& dataset) {
  const auto batch = dataset.get_batch({4, 1});
  CHECK(batch.indices == Indices{4, 1});
  if constexpr (std::is_same_v<Any, Dataset<>>) {
    REQUIRE(batch.size() == 2);
    CHECK(at::equal(batch[0].data, sample(4) * 2));
    CHECK(batch[1].target.template item<int>() == 1);
    check_doubled(dataset.stacked());
  } else {
    CHECK(at::equal(batch.data, at::stack({sample(4), sample(1)}) * 2));
    CHECK(at::equal(batch.target, at::tensor({4, 1}, at::kLong)));
  }
}

/// Checks what dataset.get_batch({1, 2}) throws: an Error (Transform) with these words, and nested
/// in it an `Original`.
template <class Original, class Any>
void check_thrown(const Any& dataset, const std::string& words) {
  bool is_nested = false;
  try {
    (void)dataset.get_batch({1, 2});
    FAIL("nothing was thrown");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::Transform);
    CHECK_THAT(error.what(), says(words));
    try {
      std::rethrow_if_nested(error);
    } catch (const Original&) {
      is_nested = true;
    }
  }
  CHECK(is_nested);
}

/// The batches of an epoch, one after another.
template <class Any>
at::Tensor drawn(const Any& dataset, std::size_t workers) {
  auto loader = loader_of<td::samplers::SequentialSampler>(dataset, 4, workers);
  return at::cat({epoch(*loader), epoch(*loader)});
}

}  // namespace

TEST_CASE("a function of one sample may have any form", "[map]") {
  const Dataset<> plain = number_dataset(6);
  check_doubled(plain.map([](Example<> one) {
    one.data.mul_(2);
    return one;
  }));
  check_doubled(plain.map([](const Example<>& one) { return doubled(one); }));
  check_doubled(plain.map([](Example<>& one) { one.data.mul_(2); }));
  check_doubled(plain.map([](Example<>& one) { return doubled(one); }));
  check_doubled(plain.map([](Example<>&& one) { return doubled(one); }));
  check_doubled(plain.map([](const Example<>& one) noexcept { return doubled(one); }));
  check_doubled(plain.map(doubled));
  check_doubled(plain.map(&double_in_place));
  check_doubled(plain.map(Doubling()));
  check_doubled(plain.map(std::function<Example<>(Example<>)>(doubled)));
  check_doubled(plain.map(std::function<void(Example<>&)>(double_in_place)));
  check_doubled(plain.map([factor = std::make_unique<int>(2)](const Example<>& one) {
    return Example<>(one.data * *factor, one.target);
  }));
}

TEST_CASE("a function of a batch may have any form", "[map]") {
  const Dataset<> plain = number_dataset(6);
  const auto stacked = plain.stacked();
  const auto in_place = [](auto& batch) { batch.data.mul_(2); };
  check_doubled(plain.map([](Samples<>& all) {
    for (auto& one : all) double_in_place(one);
  }));
  check_doubled(plain.map([](std::vector<Example<>> all) {
    for (auto& one : all) double_in_place(one);
    return all;
  }));
  check_doubled(plain.map([](const Samples<>& all) {
    std::vector<Example<>> out;
    for (const auto& one : all) out.push_back(doubled(one));
    return out;
  }));
  check_doubled(stacked.map(doubled_batch));
  check_doubled(stacked.map([](Batch<>& batch) { batch.data.mul_(2); }));
  check_doubled(stacked.map([](const Batch<>& batch) { return doubled(batch); }));
  check_doubled(stacked.map([](Batch<>&& batch) { return doubled(batch); }));
  check_doubled(stacked.map(std::function<Batch<>(Batch<>)>(doubled_batch)));
  check_doubled(stacked.map(
      [factor = std::make_unique<int>(2)](Batch<>& batch) { batch.data.mul_(*factor); }));
  check_doubled(stacked.map(in_place));
  check_doubled(stacked.map([](auto batch) {
    batch.data.mul_(2);
    return batch;
  }));
  check_doubled(stacked.map([](const auto& batch) { return doubled(batch); }));
  // Whether rows are changed in place or not, the next batch is read anew.
  const auto twice = stacked.map(in_place);
  (void)twice.get_batch({0, 1});
  check_doubled(twice);
}

TEST_CASE("a function may return another type", "[map]") {
  const Dataset<> plain = number_dataset(6);
  const Dataset<TensorExample> data =
      plain.map([](const Example<>& one) { return TensorExample(one.data); });
  CHECK(numbers_of(data.get_batch({3, 5})) == std::vector<int>{3, 5});
  const Dataset<at::Tensor> tensors = data.map([](const TensorExample& one) { return one.data; });
  CHECK(at::equal(tensors.get(2), sample(2)));
  CHECK(tensors.get_batch({3, 1}).indices == Indices{3, 1});
  const Dataset<std::string> words =
      tensors.map([](const at::Tensor& one) { return std::to_string(number_of(one)); });
  CHECK(words.get_batch({3, 1}) == std::vector<std::string>{std::string("3"), "1"});
  const Dataset<std::size_t> sizes = words.map([](const std::string& word) { return word.size(); });
  auto loader = loader_of(sizes, 4, 2);
  for (const Samples<std::size_t>& batch : *loader) {
    CHECK(batch == std::vector<std::size_t>(batch.size(), 1));
    CHECK(batch.indices.size() == batch.size());
  }

  const Dataset<TensorExample> list = plain.map([](const Samples<>& all) {
    std::vector<TensorExample> out;
    for (const auto& one : all) out.emplace_back(one.data);
    return out;
  });
  CHECK(list.get_batch({3, 1}).indices == Indices{3, 1});
  const Dataset<TensorExample, Batch<TensorExample>> sums =
      plain.stacked().map([](const Batch<>& batch) {
        return TensorExample(batch.data.sum({1, 2}));
      });
  CHECK(sums.get_batch({3, 1}).data.sizes() == at::IntArrayRef({2}));
  const auto averages =
      sums.map([](const Batch<TensorExample>& batch) { return batch.data.mean().item<double>(); });
  const double average = averages.get_batch({0});
  CHECK(average == 15);
}

TEST_CASE("a function may take a generator, seeded for its sample or batch", "[map]") {
  // New datasets: the draws depend on how often a batch was read.
  const auto check = [](const auto& make) {
    torch::manual_seed(1);
    const at::Tensor want = drawn(make(), 0);
    for (const std::size_t workers : {1, 3}) {
      torch::manual_seed(1);
      CHECK(at::equal(drawn(make(), workers), want));
    }
    CHECK(!at::equal(drawn(make(), 0), want));                         // another seed
    CHECK(!at::equal(want.narrow(0, 0, 10), want.narrow(0, 10, 10)));  // another epoch
    CHECK(!at::equal(want[0], want[1]));
    CHECK(!at::equal(want[0], want[4]));  // another batch
    // A function after it changes nothing.
    torch::manual_seed(1);
    const auto dataset = make();
    CHECK(at::equal(drawn(dataset.map([](const auto& batch) { return batch; }), 0), want));
  };
  const auto noise = [](Batch<>& batch, at::Generator& generator) {
    batch.data = at::rand({batch.data.size(0)}, generator);
  };
  check([&] { return number_dataset(10).map(add_noise).stacked(); });
  check([&] {
    return number_dataset(10)
        .map([](const Example<>& one, at::Generator generator) {
          return Example<>(at::rand({1}, generator), one.target);
        })
        .stacked();
  });
  check([&] {
    return number_dataset(10)
        .map([](Samples<>& all, at::Generator& generator) {
          for (auto& one : all) one.data = at::rand({2}, generator);
        })
        .stacked();
  });
  check([&] { return number_dataset(10).stacked().map(noise); });
  check([&] {
    return number_dataset(10).stacked().map([](Batch<> batch, at::Generator generator) {
      batch.data = at::rand({batch.data.size(0)}, generator);
      return batch;
    });
  });
  check([&] {
    return number_dataset(10).stacked().map([](auto& batch, at::Generator& generator) {
      const auto rows = static_cast<std::int64_t>(batch.indices.size());
      batch.data = at::rand({rows}, generator);
    });
  });

  const Dataset<> plain = number_dataset(10);
  // A second function draws other numbers, and LibTorch's own generator is not used.
  torch::manual_seed(1);
  const auto keep = [](Batch<>& batch, at::Generator& generator) {
    batch.target = at::rand({batch.data.size(0)}, generator);
  };
  const auto both = plain.stacked().map(noise).map(keep);
  const at::Tensor next = at::rand({3});
  torch::manual_seed(1);
  (void)plain.stacked().map(noise).map(keep);
  const auto batch = both.get_batch({0, 1});
  CHECK(!at::equal(batch.data, batch.target));
  CHECK(at::equal(at::rand({3}), next));
}

TEST_CASE("map() takes LibTorch's transforms", "[map]") {
  const Dataset<> plain = number_dataset(6);
  namespace tt = td::transforms;
  CHECK(at::equal(plain.map(tt::Normalize<>(0.0, 0.5)).get(3).data, sample(3).unsqueeze(0) * 2));
  check_doubled(plain.map(tt::Lambda<Example<>>(doubled)));
  check_doubled(plain.map(tt::TensorLambda<>([](at::Tensor data) { return data * 2; })));
  check_doubled(plain.map(tt::Lambda<Example<>>(doubled)).map(tt::Stack<>()));
  check_doubled(plain.map(transforms::Stack<>()).map(doubled_batch));
  check_doubled(plain.map(tt::Stack<>()).map(doubled_batch));
  check_doubled(plain.stacked().map(tt::BatchLambda<Batch<>>(doubled_batch)));
  check_doubled(plain.map(tt::Collate<Example<>>(
      [](const std::vector<Example<>>& all) { return doubled(tt::Stack<>().apply_batch(all)); })));
  const Dataset<TensorExample> without =
      plain.map([](const Example<>& one) { return TensorExample(one.data); })
          .map(tt::Normalize<void>(0.0, 0.5));
  CHECK(at::equal(without.get(3).data, sample(3).unsqueeze(0) * 2));
}

TEST_CASE("LibTorch's own datasets take the transforms of this library", "[map]") {
  const auto double_all = transforms::Normalize({0.0}, {0.5});
  const at::Tensor want = samples(6).unsqueeze(1) * 2;
  auto before =
      Digits().map(double_all).map(transforms::RandomHorizontalFlip(1)).map(transforms::Stack<>());
  auto after = Digits()
                   .map(transforms::Stack<>())
                   .map(td::transforms::BatchLambda<Batch<>>([=](Batch<> batch) {
                     return transforms::Normalize(double_all).apply_batch(batch);
                   }));
  auto with_theirs = Digits().map(double_all).map(td::transforms::Stack<>());
  for (const std::size_t workers : {0, 2}) {
    auto flipped = loader_of(before, 4, workers);
    CHECK(at::equal(epoch(*flipped), want.flip(-1)));
    auto doubled_after = loader_of(after, 4, workers);
    CHECK(at::equal(epoch(*doubled_after), want));
    auto theirs = loader_of(with_theirs, 4, workers);
    CHECK(at::equal(epoch(*theirs), want));
  }
}

TEST_CASE("what a function throws becomes an Error that names its sample", "[map]") {
  const Dataset<> plain = number_dataset(6);
  const auto stacked = plain.stacked();
  const auto fail = [](const Example<>& one) -> Example<> {
    if (one.target.item<int>() == 2) throw std::out_of_range("no such label");
    return one;
  };
  const std::string words = "sample \"number 2\": a function given to map() failed: no such label";
  check_thrown<std::out_of_range>(plain.map(fail), words);
  check_thrown<std::out_of_range>(plain.map(fail).stacked(), words);
  check_thrown<std::out_of_range>(plain.subset({0, 1, 2}).map(fail), words);
  check_thrown<std::out_of_range>(plain.subset({5, 4, 2}).map(fail), words);
  check_thrown<std::out_of_range>(plain.map(fail).subset({5, 4, 2}), words);
  check_thrown<std::runtime_error>(
      stacked.map([](Batch<>&) { throw std::runtime_error("full"); }),
      "batch that begins with sample \"number 1\": a function given to map() failed: full");
  check_thrown<c10::Error>(plain.map([](Example<>& one) { one.data.add_(at::zeros({7})); }),
                           "sample \"number 1\"");
  check_thrown<std::runtime_error>(
      plain.map(td::transforms::Lambda<Example<>>(
          [](Example<>) -> Example<> { throw std::runtime_error("full"); })),
      "\"number 1\"");

  // An Error stays what it is.
  Error error = error_of([&] {
    (void)plain
        .map([](Example<>&) { throw Error(ErrorCode::BadHeader, "unknown", 7, "labels.txt"); })
        .get_batch({3});
  });
  CHECK(error.code() == ErrorCode::BadHeader);
  CHECK(error.offset() == 7);
  CHECK(error.path() == "labels.txt");
  CHECK_THAT(error.what(), says("sample \"number 3\": unknown"));
  error =
      error_of([&] { (void)plain.map([](Example<>&) { throw std::bad_alloc(); }).get_batch({3}); });
  CHECK(error.code() == ErrorCode::OutOfMemory);
  CHECK_THAT(error.what(), says("sample \"number 3\""));
  error = error_of([&] { (void)plain.map(transforms::RandomCrop(9)).get_batch({3}); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("sample \"number 3\": RandomCrop expects"));

  // Under LibTorch's workers.
  auto loader = loader_of(plain.map(fail).stacked(), 2, 2);
  const Error from_worker = error_of([&] {
    try {
      for (auto& batch : *loader) (void)batch;
    } catch (const td::WorkerException& exception) {
      std::rethrow_exception(exception.original_exception);
    }
  });
  CHECK(from_worker.code() == ErrorCode::Transform);
  CHECK_THAT(from_worker.what(), says(words));
}
