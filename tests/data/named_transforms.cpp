// Transforms that name the tensors which they change.

#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/transforms.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/images.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace tf = torch_npy::transforms;

namespace {

constexpr std::size_t kSize = 20;

at::Tensor scene_image(const Example<>& one) {
  return images(1, 3, 6, 6)[0] + 1000 * one.target.item<int>();
}

/// Image i of shape (3, 6, 6), its mask (the image's first channel), and its label.
Dataset<NamedExample> scenes() {
  return number_dataset(kSize).map([](const Example<>& one) {
    const at::Tensor image = scene_image(one);
    return NamedExample(
        {{"image", image}, {"mask", image[0].to(at::kLong)}, {"label", one.target}});
  });
}

Indices all_indices() {
  Indices all;
  for (std::size_t i = 0; i < kSize; ++i) all.push_back(i);
  return all;
}

Request with_seed(std::uint64_t seed) {
  Request request(all_indices());
  request.seed = seed;
  return request;
}

}  // namespace

TEST_CASE("a transform changes the tensors that on() names, and no others", "[transforms]") {
  const NamedBatch before = scenes().stacked().get_batch(all_indices());
  const auto check = [&](const NamedBatch& batch) {
    CHECK(at::equal(batch["image"], before["image"] / 2));
    CHECK(at::equal(batch["mask"], before["mask"]));
    CHECK(at::equal(batch["label"], before["label"]));
    CHECK(batch.indices == all_indices());
    CHECK(batch.items()[0].first == "image");
  };
  const tf::Normalize half({0.0}, {2.0});
  check(scenes().stacked().map(tf::Normalize(half).on("image")).get_batch(all_indices()));
  check(scenes().map(tf::Normalize(half).on({"image"})).stacked().get_batch(all_indices()));
  const std::string name = "image";
  check(scenes().map(tf::Normalize(half).on(name)).stacked().get_batch(all_indices()));
  check(scenes().map(tf::Normalize(half).on({name})).stacked().get_batch(all_indices()));

  const NamedExample one = scenes().map(tf::ToDtype(at::kDouble).on({"label", "mask"})).get(3);
  CHECK(one["label"].scalar_type() == at::kDouble);
  CHECK(one["label"].dim() == 0);
  CHECK(one["mask"].scalar_type() == at::kDouble);
  CHECK(one["image"].scalar_type() == at::kFloat);
}

TEST_CASE("all tensors of a sample get the same random numbers", "[transforms]") {
  const auto check = [](const auto& dataset) {
    auto batch = dataset.get_batch(with_seed(3));
    CHECK(at::equal(batch["image"].select(1, 0).to(at::kLong), batch["mask"]));
    return batch["image"];
  };
  const auto check_transform = [&](auto transform) {
    transform.on({"image", "mask"});
    const at::Tensor stacked = check(scenes().stacked().map(transform));
    const at::Tensor single = check(scenes().map(transform).stacked());
    CHECK(at::equal(stacked, single));
    // Those of `data` in a dataset without names.
    const auto plain = number_dataset(kSize).map(
        [](const Example<>& one) { return TensorExample(scene_image(one)); });
    auto same = transform;
    same.on("data");
    CHECK(at::equal(plain.map(same).stacked().get_batch(with_seed(3)).data, stacked));
    return stacked;
  };
  const at::Tensor before = scenes().stacked().get_batch(all_indices())["image"];
  const at::Tensor flipped = check_transform(tf::RandomHorizontalFlip(0.5));
  CHECK(!at::equal(flipped, before));
  CHECK(!at::equal(flipped, before.flip(-1)));
  (void)check_transform(tf::RandomVerticalFlip(0.5));
  CHECK(check_transform(tf::RandomCrop({3, 4})).sizes() == at::IntArrayRef({kSize, 3, 3, 4}));
  (void)check_transform(tf::RandomCrop({6, 6}, 2));
}

TEST_CASE("on() chooses data and target of an Example", "[transforms]") {
  const auto dataset = number_dataset(4);
  const auto target = dataset.map(tf::ToDtype(at::kFloat).on("target")).stacked();
  const Batch<> batch = target.get_batch({0, 3});
  CHECK(batch.target.scalar_type() == at::kFloat);
  CHECK(at::equal(batch.data, at::stack({sample(0), sample(3)})));
  const auto both = dataset.map(tf::ToDtype(at::kDouble).on({"data", "target"})).get(2);
  CHECK(both.data.scalar_type() == at::kDouble);
  CHECK(both.target.scalar_type() == at::kDouble);

  const auto without = dataset.map([](const Example<>& one) { return TensorExample(one.data); });
  const Error error = error_of([&] { (void)without.map(tf::ToDtype(at::kDouble).on("target")); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK_THAT(error.what(), says("no tensor \"target\" in these samples; they have \"data\""));
  CHECK(error_of([&] { (void)dataset.map(tf::ToDtype(at::kInt).on("image")); }).code() ==
        ErrorCode::NotFound);
}

TEST_CASE("a transform of samples with names needs on(), and names that they have",
          "[transforms]") {
  Error error = error_of([] { (void)scenes().map(tf::RandomHorizontalFlip()); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("add .on(\"image\") or .on({\"image\", \"mask\"})"));
  CHECK(error_of([] { (void)scenes().stacked().map(tf::ToTensor()); }).code() ==
        ErrorCode::InvalidArgument);

  const auto misspelt = scenes().map(tf::ToDtype(at::kInt).on({"image", "masc"}));
  error = error_of([&] { (void)misspelt.get(2); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK_THAT(error.what(), says("sample \"number 2\": no tensor \"masc\""));
  CHECK_THAT(error.what(), says("it has \"image\", \"mask\", \"label\""));

  for (const std::vector<std::string>& names :
       {std::vector<std::string>{}, {"image", "image"}, {"a", "b", "a"}}) {
    CHECK(error_of([&] { tf::ToTensor().on(names); }).code() == ErrorCode::InvalidArgument);
  }
  CHECK(error_of([&] { tf::ToTensor().on({}); }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("random transforms refuse tensors that cannot be changed alike", "[transforms]") {
  const auto small = scenes().map([](NamedExample& one) { one["mask"] = one["mask"].slice(1, 1); });
  for (const bool is_stacked : {false, true}) {
    const auto error_with = [&](const auto& transform) {
      return error_of([&] {
        if (is_stacked) (void)small.stacked().map(transform).get_batch({0, 1});
        if (!is_stacked) (void)small.map(transform).get_batch({0, 1});
      });
    };
    const Error error = error_with(tf::RandomCrop({2, 2}).on({"image", "mask"}));
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("tensor \"mask\": expected the number of samples and the sizes "
                                  "of the last 2 axes of tensor \"image\""));
    CHECK(error_with(tf::RandomVerticalFlip().on({"image", "label"})).code() ==
          ErrorCode::Mismatch);
    // Others change each tensor on its own.
    CHECK_THAT(error_with(tf::Normalize({1.0}, {1.0}).on({"image", "mask"})).what(),
               says("tensor \"mask\": Normalize expects floating-point data"));
  }
  const auto other_rows = scenes().stacked().map(
      [](NamedBatch& batch) { batch.items().emplace_back("part", batch["mask"].slice(0, 0, 1)); });
  CHECK_THAT(error_of([&] {
               (void)other_rows.map(tf::ToDtype(at::kInt).on({"image", "part"})).get_batch({0, 1});
             }).what(),
             says("expected the number of samples of tensor \"image\""));
}
