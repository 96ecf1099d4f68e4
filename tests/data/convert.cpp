// ToTensor, Normalize and ToDtype, compared with values worked out by hand.

#include <torch_npy/data/transforms.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "support/catch.hpp"
#include "support/images.hpp"

using namespace torch_npy;
namespace tf = torch_npy::transforms;

TEST_CASE("ToTensor moves channels to the front and scales bytes to 0..1", "[transforms]") {
  const at::Tensor bytes = at::tensor({0, 51, 255, 1, 2, 3, 102, 204, 153, 4, 5, 6}, at::kByte)
                               .reshape({1, 2, 2, 3});  // one image of 2 x 2 pixels with 3 channels
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
  check_refused(tf::ToTensor(), at::zeros({4, 5}),
                "ToTensor expects samples of shape (H, W, C) or (H, W)");
}

TEST_CASE("Normalize subtracts the mean of each channel and divides by its std", "[transforms]") {
  const at::Tensor data = at::tensor({1., 2., 3., 4., 5., 6., 7., 8.}).reshape({1, 2, 2, 2});
  const at::Tensor want = at::tensor({0., 2., 4., 6., 0., .25, .5, .75}).reshape({1, 2, 2, 2});
  CHECK(at::equal(apply(tf::Normalize({1.0, 5.0}, {0.5, 4.0}), data).data, want));
  CHECK(at::equal(apply(tf::Normalize({1.0, 5.0}, {0.5, 4.0}), data.to(at::kHalf)).data,
                  want.to(at::kHalf)));
  CHECK(at::equal(apply(tf::Normalize({2.0}, {4.0}), data).data, (data - 2) / 4));
  CHECK(at::equal(apply(tf::Normalize({1.0}, {2.0}), at::ones({3, 4})).data, at::zeros({3, 4})));
  check_refused(
      tf::Normalize({0.0}, {1.0}), data.to(at::kByte),
      "Normalize expects floating-point data, found Byte; apply ToTensor or ToDtype before it");
  check_refused(tf::Normalize({0.0, 0.0, 0.0}, {1.0, 1.0, 1.0}), data,
                "(..., 3, H, W), one channel for each mean, found shape (2, 2, 2)");
  for (const std::vector<double>& std : {std::vector<double>{}, {1.0}, {1.0, 0.0}}) {
    CHECK(error_of([&] {
            tf::Normalize normalize({0.0, 0.0}, std);
          }).code() == ErrorCode::InvalidArgument);
  }
}

TEST_CASE("ToDtype converts the data and not the target", "[transforms]") {
  const auto batch = apply(tf::ToDtype(at::kFloat), at::full({2, 3}, 7, at::kByte), at::arange(2));
  CHECK(at::equal(batch.data, at::full({2, 3}, 7.F)));
  CHECK(batch.data.scalar_type() == at::kFloat);
  CHECK(batch.target.scalar_type() == at::kLong);
}
