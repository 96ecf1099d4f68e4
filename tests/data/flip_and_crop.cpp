// RandomHorizontalFlip, RandomVerticalFlip and RandomCrop, compared with values worked out by hand.

#include <torch_npy/data/transforms.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/images.hpp"

using namespace torch_npy;
namespace tf = torch_npy::transforms;

TEST_CASE("an image is flipped together with its mask or not at all", "[transforms]") {
  const at::Tensor data = images(64, 3, 4, 5);
  const at::Tensor masks = images(64, 1, 4, 5).squeeze(1).to(at::kLong);

  CHECK(at::equal(apply(tf::RandomHorizontalFlip(1), data).data, data.flip(-1)));
  CHECK(at::equal(apply(tf::RandomVerticalFlip(1), data).data, data.flip(-2)));
  CHECK(at::equal(apply(tf::RandomHorizontalFlip(0), data).data, data));
  CHECK(at::equal(data, images(64, 3, 4, 5)));  // referenced elsewhere: not changed in place

  const auto check = [&](auto flip, std::int64_t axis) {
    const auto batch = apply(flip, data, masks);
    int flipped = 0;
    for (std::int64_t i = 0; i < 64; ++i) {
      const bool is_flipped = at::equal(batch.data[i], data[i].flip(axis));
      CHECK((is_flipped || at::equal(batch.data[i], data[i])));
      CHECK(at::equal(batch.target[i], is_flipped ? masks[i].flip(axis) : masks[i]));
      flipped += is_flipped;
    }
    CHECK(
        (flipped > 16 && flipped < 48));  // of 64 with probability 1/2: 32 +- 4 standard deviations
    CHECK(at::equal(apply(flip.with_target(false), data, masks).target, masks));
  };
  check(tf::RandomHorizontalFlip(0.5, seeded(1)), -1);
  check(tf::RandomVerticalFlip(0.5, seeded(1)), -2);

  // Targets that are not images are not changed: numbers, vectors.
  for (const at::Tensor& target : {at::arange(64), images(64, 1, 1, 7).reshape({64, 7})}) {
    CHECK(at::equal(apply(tf::RandomHorizontalFlip(1), data, target).target, target));
  }
  // Boxes, and masks with their channel last, are refused.
  for (const at::Tensor& target : {at::zeros({64, 4, 4}), at::zeros({64, 4, 5, 1})}) {
    const Error error = error_of([&] { (void)apply(tf::RandomHorizontalFlip(1), data, target); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("with_target(false) keeps targets unchanged"));
    CHECK(at::equal(apply(tf::RandomVerticalFlip(1).with_target(false), data, target).target,
                    target));
  }
  check_refused(tf::RandomHorizontalFlip(1), at::zeros({4, 5}),
                "RandomHorizontalFlip expects samples of shape (..., H, W), found shape (5,)");
  CHECK_THAT(error_of([] { tf::RandomVerticalFlip(1.5); }).what(),
             says("expects a probability between 0 and 1"));
}

TEST_CASE("RandomCrop cuts regions out of images padded with zeros", "[transforms]") {
  const std::int64_t padding = GENERATE(0, 1, 3, 9);
  const at::Tensor data = images(40, 2, 5, 7) + 1;
  const at::Tensor masks = images(40, 1, 5, 7).squeeze(1) + 1;
  const auto batch = apply(tf::RandomCrop({4, 6}, padding, seeded(2)), data, masks);
  REQUIRE(batch.data.sizes() == at::IntArrayRef({40, 2, 4, 6}));
  const at::Tensor padded = at::constant_pad_nd(data, {padding, padding, padding, padding});
  const at::Tensor padded_masks = at::constant_pad_nd(masks, {padding, padding, padding, padding});
  std::set<std::pair<std::int64_t, std::int64_t>> positions;
  for (std::int64_t i = 0; i < 40; ++i) {
    int found = 0;
    for (std::int64_t top = 0; top <= 5 + 2 * padding - 4; ++top) {
      for (std::int64_t left = 0; left <= 7 + 2 * padding - 6; ++left) {
        const auto region = [&](const at::Tensor& from) {
          return from[i].narrow(-2, top, 4).narrow(-1, left, 6);
        };
        if (!at::equal(region(padded), batch.data[i])) continue;
        if (!at::equal(region(padded_masks), batch.target[i])) continue;
        positions.emplace(top, left);
        ++found;
      }
    }
    CHECK(found >= 1);  // several if the region is all padding
  }
  CHECK(positions.size() >= 4);
}

TEST_CASE("flips and crops refuse images with the channels last", "[transforms]") {
  const at::Tensor channels_last = images(2, 16, 12, 3);
  const auto refuse = [&](const auto& transform) {
    const Error error = error_of([&] { (void)apply(transform, channels_last); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("seems to be (H, W, C); put ToTensor before"));
  };
  refuse(tf::RandomHorizontalFlip(1));
  refuse(tf::RandomVerticalFlip(1));
  refuse(tf::RandomCrop({8, 3}));
  CHECK(apply(tf::RandomCrop({8, 8, -1}), channels_last).data.sizes() ==
        at::IntArrayRef({2, 8, 8, 3}));
}

TEST_CASE("RandomCrop refuses sizes and padding that do not fit", "[transforms]") {
  const at::Tensor data = images(3, 1, 4, 4);
  CHECK(at::equal(apply(tf::RandomCrop({4, 4}), data).data, data));
  CHECK(apply(tf::RandomCrop(2), data).data.sizes() == at::IntArrayRef({3, 1, 2, 2}));
  check_refused(tf::RandomCrop({5, 4}), data, "at least 5 x 4 pixels after padding, found");
  check_refused(tf::RandomCrop(7, 1), data, "at least 7 x 7 pixels");
  const Error error =
      error_of([&] { (void)apply(tf::RandomCrop(2), data, images(3, 1, 4, 5).squeeze(1)); });
  CHECK_THAT(error.what(), says("found targets of shape (4, 5) and data of shape (1, 4, 4)"));
  for (const std::vector<std::int64_t>& size :
       {std::vector<std::int64_t>{}, {0}, {2, -2}, {-1, -1}, {1, 2, 0}}) {
    CHECK(error_of([&] { tf::RandomCrop crop(size); }).code() == ErrorCode::InvalidArgument);
  }
  for (const std::int64_t padding : {std::int64_t{-1}, INT64_MAX / 2}) {
    CHECK(error_of([&] { tf::RandomCrop crop(2, padding); }).code() == ErrorCode::InvalidArgument);
  }
  CHECK_THAT(error_of([&] { (void)apply(tf::RandomCrop(2), data, images(4, 1, 4, 4)); }).what(),
             says("found 3 samples and 4 targets"));
}
