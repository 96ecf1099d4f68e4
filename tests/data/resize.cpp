// Resize, compared with values worked out by hand.

#include <torch_npy/data/resize.hpp>

#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/images.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
namespace tf = torch_npy::transforms;

TEST_CASE("Resize interpolates between pixels", "[transforms]") {
  const at::Tensor row = at::tensor({0.F, 8.F}).reshape({1, 1, 1, 2});
  CHECK(at::equal(apply(tf::Resize({1, 4}), row).data.flatten(), at::tensor({0.F, 2.F, 6.F, 8.F})));
  CHECK(at::equal(apply(tf::Resize({2, 1}), row).data.flatten(), at::tensor({4.F, 4.F})));
  CHECK(at::equal(apply(tf::Resize({1, 4}, tf::Interpolation::Nearest), row).data.flatten(),
                  at::tensor({0.F, 0.F, 8.F, 8.F})));
  const at::Tensor bytes = at::tensor({0, 255}, at::kByte).reshape({1, 1, 1, 2});
  CHECK(at::equal(apply(tf::Resize({1, 4}), bytes).data.flatten(),
                  at::tensor({0, 64, 191, 255}, at::kByte)));  // 63.75 and 191.25, rounded

  const at::Tensor data = images(3, 2, 7, 5);
  const at::Tensor want = at::upsample_bilinear2d(data, {4, 9}, false);
  CHECK(at::equal(apply(tf::Resize({4, 9}), data).data, want));
  // As LibTorch computes it where all axes but the last two are one, and for (N, C, H, W) nearly
  // so: depending on the number of channels, some versions add in another order.
  const at::Tensor planes = data.to(at::kDouble).reshape({1, 6, 7, 5});
  CHECK(at::equal(apply(tf::Resize({4, 9}), data.to(at::kDouble)).data,
                  at::upsample_bilinear2d(planes, {4, 9}, false).reshape({3, 2, 4, 9})));
  CHECK(at::allclose(apply(tf::Resize({4, 9}), data.to(at::kDouble)).data,
                     at::upsample_bilinear2d(data.to(at::kDouble), {4, 9}, false), 1e-14, 1e-14));
  CHECK(at::equal(apply(tf::Resize({4, 9}), data.to(at::kHalf)).data, want.to(at::kHalf)));
  // Samples of shape (H, W), (D, C, H, W), and in other memory orders.
  CHECK(at::equal(apply(tf::Resize({4, 9}), data.select(1, 1)).data, want.select(1, 1)));
  CHECK(at::equal(apply(tf::Resize({4, 9}), data.unsqueeze(1)).data, want.unsqueeze(1)));
  CHECK(at::equal(apply(tf::Resize({9, 4}), data.transpose(2, 3)).data,
                  at::upsample_bilinear2d(data.transpose(2, 3), {9, 4}, false)));
  CHECK(apply(tf::Resize({7, 5}), data).data.data_ptr() == data.data_ptr());  // nothing to do
}

TEST_CASE("Resize by Nearest copies pixels of every dtype as LibTorch does", "[transforms]") {
  const at::Tensor data = images(2, 3, 7, 5);
  for (const auto& [height, width] : std::vector<std::pair<int, int>>{{14, 10}, {3, 4}, {1, 13}}) {
    const at::Tensor want = at::upsample_nearest2d(data, {height, width});
    for (const at::ScalarType type :
         {at::kByte, at::kShort, at::kInt, at::kLong, at::kHalf, at::kFloat, at::kDouble}) {
      const at::Tensor got =
          apply(tf::Resize({height, width}, tf::Interpolation::Nearest), data.to(type)).data;
      CHECK(got.scalar_type() == type);
      CHECK(at::equal(got, want.to(type)));
    }
  }
  const at::Tensor big = at::full({1, 1, 1, 1}, (std::int64_t{1} << 62) + 1, at::kLong);
  CHECK(at::equal(apply(tf::Resize({2, 2}, tf::Interpolation::Nearest), big).data,
                  big.expand({1, 1, 2, 2})));
}

TEST_CASE("a mask is resized with its image, and its numbers are not mixed", "[transforms]") {
  const at::Tensor data = images(2, 3, 4, 4);
  const at::Tensor mask = (at::arange(32).reshape({2, 4, 4}) % 2 * 7).to(at::kLong);
  auto batch = apply(tf::Resize({6, 6}), data, mask);
  CHECK(batch.target.sizes() == at::IntArrayRef({2, 6, 6}));
  CHECK(((batch.target == 0) | (batch.target == 7)).all().item<bool>());
  CHECK(at::equal(batch.target, apply(tf::Resize({6, 6}, tf::Interpolation::Nearest), mask).data));
  CHECK(at::equal(apply(tf::Resize({6, 6}), data, data).target,
                  apply(tf::Resize({6, 6}), data).data));
  batch = apply(tf::Resize({6, 6}).with_target(false), data, mask);
  CHECK(at::equal(batch.target, mask));
  batch = apply(tf::Resize({6, 6}), data, at::arange(2));
  CHECK(at::equal(batch.target, at::arange(2)));
  CHECK_THAT(error_of([&] {
               (void)apply(tf::Resize({6, 6}), data, mask.narrow(1, 0, 3));
             }).what(),
             says("must have the height and width of their data"));
}

TEST_CASE("images of different sizes can be stacked after Resize", "[transforms]") {
  const auto dataset = number_dataset(4).map([](const Example<>& one) {
    const auto i = one.target.item<std::int64_t>();
    return TensorExample(at::full({3, 5 + i, 9 - i}, i, at::kFloat));
  });
  const auto batch = dataset.map(tf::Resize({4, 6})).stacked().get_batch({0, 1, 2, 3});
  CHECK(at::equal(batch.data,
                  at::arange(4).to(at::kFloat).reshape({4, 1, 1, 1}).expand({4, 3, 4, 6})));
  const auto named = dataset.map([](TensorExample& one) {
    return NamedExample({{"image", one.data}, {"mask", one.data[0].to(at::kByte)}});
  });
  const auto both = named.map(tf::Resize({4, 6}).on("image"))
                        .map(tf::Resize({4, 6}, tf::Interpolation::Nearest).on("mask"))
                        .stacked()
                        .get_batch({3, 1});
  CHECK(at::equal(both["image"].select(1, 2).to(at::kByte), both["mask"]));
}

TEST_CASE("Resize refuses what it would resize wrongly", "[transforms]") {
  check_refused(tf::Resize({4, 4}), at::zeros({2, 8, 9, 3}, at::kByte),
                "found shape (8, 9, 3), which seems to be (H, W, C); put ToTensor before Resize");
  check_refused(tf::Resize({4, 4}), at::zeros({2, 8}), "Resize expects samples of shape");
  check_refused(tf::Resize({4, 4}), at::zeros({2, 3, 0, 8}), "(..., H, W) with pixels");
  for (const at::ScalarType type : {at::kLong, at::kBool, at::kShort}) {
    check_refused(tf::Resize({4, 4}), at::zeros({2, 8, 8}, type),
                  "use Interpolation::Nearest for masks");
  }
  for (const std::vector<std::int64_t>& size :
       {std::vector<std::int64_t>{}, {3}, {3, 0}, {-1, 3}, {1, 2, 3}, {1, std::int64_t{1} << 31}}) {
    CHECK(error_of([&] { tf::Resize{c10::IntArrayRef(size)}; }).code() ==
          ErrorCode::InvalidArgument);
  }
}
