// The transforms, against values worked out by hand and torchvision's documented behaviour.

#include <torch_npy/data/transforms.hpp>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <set>

#include "catch.hpp"

using namespace torch_npy;
namespace tf = torch_npy::transforms;
namespace td = torch::data;

namespace {

at::Generator seeded(std::uint64_t seed) { return at::detail::createCPUGenerator(seed); }

/// Pictures of shape (count, channels, height, width), every pixel different.
at::Tensor pictures(std::int64_t count, std::int64_t channels, std::int64_t height,
                    std::int64_t width) {
  return at::arange(count * channels * height * width, at::kFloat)
      .reshape({count, channels, height, width});
}

template <class Transform>
Batch<> apply(Transform transform, at::Tensor data, at::Tensor target = at::zeros({0})) {
  return transform.apply_batch(Batch<>(std::move(data), std::move(target)));
}

template <class Transform>
void check_refused(Transform transform, const at::Tensor& data, const char* words) {
  const Error error = error_of([&] { (void)apply(transform, data); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says(words));
}

}  // namespace

TEST_CASE("flips turn pictures and their masks round, each or none", "[transforms]") {
  const at::Tensor data = pictures(64, 3, 4, 5);
  const at::Tensor masks = pictures(64, 1, 4, 5).squeeze(1).to(at::kLong);

  CHECK(at::equal(apply(tf::RandomHorizontalFlip(1), data).data, data.flip(-1)));
  CHECK(at::equal(apply(tf::RandomVerticalFlip(1), data).data, data.flip(-2)));
  CHECK(at::equal(apply(tf::RandomHorizontalFlip(0), data).data, data));
  CHECK(at::equal(data, pictures(64, 3, 4, 5)));  // somebody else's: not changed in place

  const auto check = [&](auto flip, std::int64_t axis) {
    const auto batch = apply(flip, data, masks);
    int flipped = 0;
    for (std::int64_t i = 0; i < 64; ++i) {
      const bool turned = at::equal(batch.data[i], data[i].flip(axis));
      CHECK((turned || at::equal(batch.data[i], data[i])));
      CHECK(at::equal(batch.target[i], turned ? masks[i].flip(axis) : masks[i]));
      flipped += turned;
    }
    CHECK((flipped > 16 && flipped < 48));  // of 64, by halves: 32 +- 4 standard deviations
    CHECK(at::equal(apply(flip.with_target(false), data, masks).target, masks));
  };
  check(tf::RandomHorizontalFlip(0.5, seeded(1)), -1);
  check(tf::RandomVerticalFlip(0.5, seeded(1)), -2);

  // Targets that are no pictures stay: numbers, vectors.
  for (const at::Tensor& target : {at::arange(64), pictures(64, 1, 1, 7).reshape({64, 7})}) {
    CHECK(at::equal(apply(tf::RandomHorizontalFlip(1), data, target).target, target));
  }
  // Boxes, and masks with their channel behind, are no such pictures.
  for (const at::Tensor& target : {at::zeros({64, 4, 4}), at::zeros({64, 4, 5, 1})}) {
    const Error error = error_of([&] { (void)apply(tf::RandomHorizontalFlip(1), data, target); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("with_target(false) leaves targets alone"));
    CHECK(at::equal(apply(tf::RandomVerticalFlip(1).with_target(false), data, target).target,
                    target));
  }
  check_refused(tf::RandomHorizontalFlip(1), at::zeros({4, 5}),
                "RandomHorizontalFlip takes samples of two axes or more, the last H and W, these "
                "have shape (5,)");
  CHECK_THAT(error_of([] { tf::RandomVerticalFlip<>(1.5); }).what(),
             says("a probability is between 0 and 1"));
}

TEST_CASE("a batch that nobody else holds is changed in place", "[transforms]") {
  at::Tensor data = pictures(2, 1, 2, 2).clone();
  const void* const memory = data.data_ptr();
  auto batch = apply(tf::RandomHorizontalFlip(1), std::move(data));
  CHECK(batch.data.data_ptr() == memory);
  batch = tf::Normalize({1.0}, {2.0}).apply_batch(std::move(batch));
  CHECK(batch.data.data_ptr() == memory);
  CHECK(at::equal(batch.data, (pictures(2, 1, 2, 2).flip(-1) - 1) / 2));

  // Memory of somebody's own is not, though there is no other tensor on it.
  std::vector<float> theirs{1, 2, 3, 4};
  const auto over_theirs = [&] { return at::from_blob(theirs.data(), {1, 1, 2, 2}); };
  for (int i = 0; i < 2; ++i) {
    const auto flipped = apply(tf::RandomHorizontalFlip(1), over_theirs());
    CHECK(at::equal(flipped.data.flatten(), at::tensor({2.F, 1.F, 4.F, 3.F})));
    auto stacked = tf::Stack<TensorExample>().apply_batch({over_theirs()[0]});
    stacked = tf::Normalize<TensorExample>({1.0}, {2.0}).apply_batch(std::move(stacked));
    CHECK(at::equal(stacked.data.flatten(), at::tensor({0.F, .5F, 1.F, 1.5F})));
  }
  CHECK(theirs == std::vector<float>{1, 2, 3, 4});

  const at::Tensor kept = batch.data;
  const at::Tensor before = kept.clone();
  batch = tf::Normalize({1.0}, {2.0}).apply_batch(std::move(batch));
  CHECK(at::equal(kept, before));
}

TEST_CASE("what autograd follows and inference tensors are not changed in place", "[transforms]") {
  const at::Tensor weight = at::ones({1, 2, 2}).requires_grad_();
  auto stacked = tf::Stack<TensorExample>().apply_batch({weight * 2});
  CHECK(stacked.data.requires_grad());

  at::Tensor data;
  {
    const c10::InferenceMode mode;
    data = pictures(1, 1, 2, 2).clone();
  }
  CHECK(at::equal(apply(tf::Normalize({1.0}, {2.0}), std::move(data)).data,
                  (pictures(1, 1, 2, 2) - 1) / 2));
}

TEST_CASE("samples one by one draw what a batch of them draws", "[transforms]") {
  const at::Tensor data = pictures(20, 2, 6, 6);
  const at::Tensor masks = pictures(20, 1, 6, 6).squeeze(1);
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
  using Separate = std::vector<Example<>>;
  check(tf::RandomHorizontalFlip(0.5, seeded(3)),
        tf::RandomHorizontalFlip<Separate>(0.5, seeded(3)));
  check(tf::RandomCrop({4, 3}, 2, seeded(3)), tf::RandomCrop<Separate>({4, 3}, 2, seeded(3)));
  check(tf::Normalize({1.0, 2.0}, {3.0, 4.0}), tf::Normalize<Separate>({1.0, 2.0}, {3.0, 4.0}));
  check(tf::ToDtype(at::kDouble), tf::ToDtype<Separate>(at::kDouble));
  check(tf::ToTensor(), tf::ToTensor<Separate>());
}

TEST_CASE("a seed decides, and the next batch draws anew", "[transforms]") {
  const at::Tensor data = pictures(64, 1, 2, 2);
  const auto two = [&](tf::RandomHorizontalFlip<> flip) {
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

  // Copies go on from each other: a loader made anew for each epoch does not repeat the first.
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

TEST_CASE("RandomCrop cuts pieces out of pictures with zeros around", "[transforms]") {
  const std::int64_t padding = GENERATE(0, 1, 3, 9);
  const at::Tensor data = pictures(40, 2, 5, 7) + 1;
  const at::Tensor masks = pictures(40, 1, 5, 7).squeeze(1) + 1;
  const auto batch = apply(tf::RandomCrop({4, 6}, padding, seeded(2)), data, masks);
  REQUIRE(batch.data.sizes() == at::IntArrayRef({40, 2, 4, 6}));
  const at::Tensor padded = at::constant_pad_nd(data, {padding, padding, padding, padding});
  const at::Tensor padded_masks = at::constant_pad_nd(masks, {padding, padding, padding, padding});
  std::set<std::pair<std::int64_t, std::int64_t>> places;
  for (std::int64_t i = 0; i < 40; ++i) {
    int found = 0;
    for (std::int64_t top = 0; top <= 5 + 2 * padding - 4; ++top) {
      for (std::int64_t left = 0; left <= 7 + 2 * padding - 6; ++left) {
        const auto piece = [&](const at::Tensor& from) {
          return from[i].narrow(-2, top, 4).narrow(-1, left, 6);
        };
        if (!at::equal(piece(padded), batch.data[i])) continue;
        if (!at::equal(piece(padded_masks), batch.target[i])) continue;
        places.emplace(top, left);
        ++found;
      }
    }
    CHECK(found >= 1);  // several where nothing but padding was cut out
  }
  CHECK(places.size() >= 4);
}

TEST_CASE("RandomCrop says what it cannot cut", "[transforms]") {
  const at::Tensor data = pictures(3, 1, 4, 4);
  CHECK(at::equal(apply(tf::RandomCrop({4, 4}), data).data, data));
  CHECK(apply(tf::RandomCrop(2), data).data.sizes() == at::IntArrayRef({3, 1, 2, 2}));
  check_refused(tf::RandomCrop({5, 4}), data, "at least 5 x 4 pixels with their padding, these");
  check_refused(tf::RandomCrop(7, 1), data, "at least 7 x 7 pixels");
  const Error error =
      error_of([&] { (void)apply(tf::RandomCrop(2), data, pictures(3, 1, 4, 5).squeeze(1)); });
  CHECK_THAT(error.what(), says("these have shape (4, 5), the data (1, 4, 4)"));
  for (const std::vector<std::int64_t>& size :
       {std::vector<std::int64_t>{}, {0}, {2, -1}, {1, 2, 3}}) {
    CHECK(error_of([&] { tf::RandomCrop<> crop(size); }).code() == ErrorCode::InvalidArgument);
  }
  for (const std::int64_t padding : {std::int64_t{-1}, INT64_MAX / 2}) {
    CHECK(error_of([&] { tf::RandomCrop<> crop(2, padding); }).code() ==
          ErrorCode::InvalidArgument);
  }
  CHECK_THAT(error_of([&] { (void)apply(tf::RandomCrop(2), data, pictures(4, 1, 4, 4)); }).what(),
             says("a batch of 3 samples and 4 targets"));
}

TEST_CASE("ToTensor brings channels to the front and bytes to 0..1", "[transforms]") {
  const at::Tensor bytes = at::tensor({0, 51, 255, 1, 2, 3, 102, 204, 153, 4, 5, 6}, at::kByte)
                               .reshape({1, 2, 2, 3});  // one picture of 2 x 2 pixels of 3 channels
  const auto out = apply(tf::ToTensor(), bytes).data;
  CHECK(out.is_contiguous());
  CHECK(out.scalar_type() == at::kFloat);
  const at::Tensor want = at::tensor({0.F, 1.F / 255, 102.F / 255, 4.F / 255,         //
                                      51.F / 255, 2.F / 255, 204.F / 255, 5.F / 255,  //
                                      1.F, 3.F / 255, 153.F / 255, 6.F / 255})
                              .reshape({1, 3, 2, 2});
  CHECK(at::equal(out, want));

  const at::Tensor grey = apply(tf::ToTensor(), bytes.select(3, 0)).data;
  CHECK(at::equal(grey, want.narrow(1, 0, 1)));
  const at::Tensor floats = apply(tf::ToTensor(), bytes.to(at::kDouble)).data;
  CHECK(at::equal(floats, bytes.to(at::kDouble).permute({0, 3, 1, 2})));
  CHECK(floats.is_contiguous());
  check_refused(tf::ToTensor(), at::zeros({4, 5}), "ToTensor takes samples of H x W x C or H x W");
}

TEST_CASE("Normalize takes each channel's mean off and divides by its std", "[transforms]") {
  const at::Tensor data = at::tensor({1., 2., 3., 4., 5., 6., 7., 8.}).reshape({1, 2, 2, 2});
  const at::Tensor want = at::tensor({0., 2., 4., 6., 0., .25, .5, .75}).reshape({1, 2, 2, 2});
  CHECK(at::equal(apply(tf::Normalize({1.0, 5.0}, {0.5, 4.0}), data).data, want));
  CHECK(at::equal(apply(tf::Normalize({1.0, 5.0}, {0.5, 4.0}), data.to(at::kHalf)).data,
                  want.to(at::kHalf)));
  CHECK(at::equal(apply(tf::Normalize({2.0}, {4.0}), data).data, (data - 2) / 4));
  CHECK(at::equal(apply(tf::Normalize({1.0}, {2.0}), at::ones({3, 4})).data, at::zeros({3, 4})));
  check_refused(tf::Normalize({0.0}, {1.0}), data.to(at::kByte),
                "Normalize takes floating data, not Byte: ToTensor or ToDtype before it converts");
  check_refused(tf::Normalize({0.0, 0.0, 0.0}, {1.0, 1.0, 1.0}), data,
                "3 x H x W, a channel for each mean, these have shape (2, 2, 2)");
  for (const std::vector<double>& std : {std::vector<double>{}, {1.0}, {1.0, 0.0}}) {
    CHECK(error_of([&] {
            tf::Normalize<> normalize({0.0, 0.0}, std);
          }).code() == ErrorCode::InvalidArgument);
  }
}

TEST_CASE("ToDtype converts the data alone", "[transforms]") {
  const auto batch = apply(tf::ToDtype(at::kFloat), at::full({2, 3}, 7, at::kByte), at::arange(2));
  CHECK(at::equal(batch.data, at::full({2, 3}, 7.F)));
  CHECK(batch.data.scalar_type() == at::kFloat);
  CHECK(batch.target.scalar_type() == at::kLong);
}

TEST_CASE("transforms take batches without a target", "[transforms]") {
  const at::Tensor data = pictures(2, 1, 2, 2);
  Batch<TensorExample> batch = tf::Stack<TensorExample>().apply_batch({data[0], data[1]});
  batch = tf::RandomHorizontalFlip<TensorExample>(1).apply_batch(std::move(batch));
  const at::Tensor& tensor = batch;  // it converts
  CHECK(at::equal(tensor, data.flip(-1)));

  std::vector<Example<>> without{{data[0], at::Tensor()}, {data[1], at::Tensor()}};
  const auto flipped = tf::RandomHorizontalFlip<std::vector<Example<>>>(1).apply_batch(without);
  CHECK(at::equal(flipped[1].data, data[1].flip(-1)));
  CHECK(!flipped[1].target.defined());
  CHECK_THAT(error_of([&] { tf::Stack<>().apply_batch(without); }).what(),
             says("an Example without a target is a TensorExample"));
}
