// What all transforms have in common.

#include <torch_npy/data/transforms.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/images.hpp"

using namespace torch_npy;
namespace tf = torch_npy::transforms;

TEST_CASE("a batch without other references is changed in place", "[transforms]") {
  at::Tensor data = images(2, 1, 2, 2).clone();
  const void* const memory = data.data_ptr();
  auto batch = apply(tf::RandomHorizontalFlip(1), std::move(data));
  CHECK(batch.data.data_ptr() == memory);
  batch = tf::Normalize({1.0}, {2.0}).apply_batch(std::move(batch));
  CHECK(batch.data.data_ptr() == memory);
  CHECK(at::equal(batch.data, (images(2, 1, 2, 2).flip(-1) - 1) / 2));

  // Memory that the user owns is not changed, even without another tensor on it.
  std::vector<float> theirs{1, 2, 3, 4};
  const auto over_theirs = [&] { return at::from_blob(theirs.data(), {1, 1, 2, 2}); };
  for (int i = 0; i < 2; ++i) {
    const auto flipped = apply(tf::RandomHorizontalFlip(1), over_theirs());
    CHECK(at::equal(flipped.data.flatten(), at::tensor({2.F, 1.F, 4.F, 3.F})));
    auto stacked = tf::Stack<TensorExample>().apply_batch({over_theirs()[0]});
    stacked = tf::Normalize({1.0}, {2.0}).apply_batch(std::move(stacked));
    CHECK(at::equal(stacked.data.flatten(), at::tensor({0.F, .5F, 1.F, 1.5F})));
  }
  CHECK(theirs == std::vector<float>{1, 2, 3, 4});

  const at::Tensor kept = batch.data;
  const at::Tensor before = kept.clone();
  batch = tf::Normalize({1.0}, {2.0}).apply_batch(std::move(batch));
  CHECK(at::equal(kept, before));
}

TEST_CASE("tensors that autograd tracks and inference tensors are not changed in place",
          "[transforms]") {
  const at::Tensor weight = at::ones({1, 2, 2}).requires_grad_();
  auto stacked = tf::Stack<TensorExample>().apply_batch({weight * 2});
  CHECK(stacked.data.requires_grad());

  at::Tensor data;
  {
    const c10::InferenceMode mode;
    data = images(1, 1, 2, 2).clone();
  }
  CHECK(at::equal(apply(tf::Normalize({1.0}, {2.0}), std::move(data)).data,
                  (images(1, 1, 2, 2) - 1) / 2));
}

TEST_CASE("single samples get the same draws as a stacked batch", "[transforms]") {
  const at::Tensor data = images(20, 2, 6, 6);
  const at::Tensor masks = images(20, 1, 6, 6).squeeze(1);
  const auto examples = [&] {
    std::vector<Example<>> out;
    for (std::int64_t i = 0; i < 20; ++i) out.emplace_back(data[i], masks[i]);
    return out;
  };
  const auto check = [&](auto whole, auto separate) {
    const auto batch = apply(whole, data, masks);
    const auto samples = separate.apply_batch(examples());
    for (std::int64_t i = 0; i < 20; ++i) {
      CHECK(at::equal(samples[static_cast<std::size_t>(i)].data, batch.data[i]));
      CHECK(at::equal(samples[static_cast<std::size_t>(i)].target, batch.target[i]));
    }
  };
  check(tf::RandomHorizontalFlip(0.5, seeded(3)), tf::RandomHorizontalFlip(0.5, seeded(3)));
  check(tf::RandomCrop({4, 3}, 2, seeded(3)), tf::RandomCrop({4, 3}, 2, seeded(3)));
  check(tf::Normalize({1.0, 2.0}, {3.0, 4.0}), tf::Normalize({1.0, 2.0}, {3.0, 4.0}));
  check(tf::ToDtype(at::kDouble), tf::ToDtype(at::kDouble));
  check(tf::ToTensor(), tf::ToTensor());
}

TEST_CASE("a seed fixes the draws, and each batch draws anew", "[transforms]") {
  const at::Tensor data = images(64, 1, 2, 2);
  const auto two = [&](tf::RandomHorizontalFlip flip) {
    const at::Tensor once = flip.apply_batch(Batch<>(data, {})).data;
    return std::pair(once, flip.apply_batch(Batch<>(data, {})).data);
  };
  const auto [first, second] = two(tf::RandomHorizontalFlip(0.5, seeded(5)));
  const auto [again, second_again] = two(tf::RandomHorizontalFlip(0.5, seeded(5)));
  CHECK(at::equal(first, again));
  CHECK(at::equal(second, second_again));
  CHECK(!at::equal(first, second));
  CHECK(!at::equal(first, two(tf::RandomHorizontalFlip(0.5, seeded(6))).first));
  // Two transforms with one generator draw differently.
  const at::Generator generator = seeded(5);
  CHECK(at::equal(first, two(tf::RandomHorizontalFlip(0.5, generator)).first));
  CHECK(!at::equal(first, two(tf::RandomHorizontalFlip(0.5, generator)).first));

  // Copies share their generator: a new loader for each epoch does not repeat the first draws.
  tf::RandomHorizontalFlip flip(0.5, seeded(5));
  CHECK(at::equal(apply(flip, data).data, first));
  CHECK(at::equal(apply(flip, data).data, second));

  torch::manual_seed(9);
  const at::Tensor by_default = two(tf::RandomHorizontalFlip()).first;
  torch::manual_seed(9);
  CHECK(at::equal(two(tf::RandomHorizontalFlip()).first, by_default));
  torch::manual_seed(9);
  CHECK(at::equal(two(tf::RandomHorizontalFlip(0.5, at::Generator())).first, by_default));
}

TEST_CASE("transforms accept batches without a target", "[transforms]") {
  const at::Tensor data = images(2, 1, 2, 2);
  Batch<TensorExample> batch = tf::Stack<TensorExample>().apply_batch({data[0], data[1]});
  batch = tf::RandomHorizontalFlip(1).apply_batch(std::move(batch));
  const at::Tensor& tensor = batch;  // it converts
  CHECK(at::equal(tensor, data.flip(-1)));

  std::vector<Example<>> without{{data[0], at::Tensor()}, {data[1], at::Tensor()}};
  const auto flipped = tf::RandomHorizontalFlip(1).apply_batch(without);
  CHECK(at::equal(flipped[1].data, data[1].flip(-1)));
  CHECK(!flipped[1].target.defined());
  CHECK_THAT(error_of([&] { tf::Stack<>().apply_batch(without); }).what(),
             says("an Example without a target is a TensorExample"));
}
