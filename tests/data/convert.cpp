// ToTensor, Normalize and ToDtype, compared with values worked out by hand.

#include <torch_npy/data/transforms.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <limits>
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
                "with the size 3 in axis 0, one for each mean, found shape (2, 2, 2)");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const std::vector<double>& std :
       {std::vector<double>{}, {1.0}, {1.0, 0.0}, {1.0, nan}, {-1.0, 1.0}}) {
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

TEST_CASE("Normalize normalizes the columns of a table, and any axis", "[transforms]") {
  const at::Tensor table = at::tensor({1., 20., 3., 40.}).reshape({2, 2});
  const at::Tensor want = at::tensor({-1., 0., 1., 2.}).reshape({2, 2});
  const tf::Normalize normalize({2.0, 20.0}, {1.0, 10.0});
  CHECK(at::equal(apply(normalize, table).data, want));
  std::vector<Example<>> rows{{table[0], {}}, {table[1], {}}};
  CHECK(at::equal(tf::Normalize(normalize).apply_batch(rows)[1].data, want[1]));

  const at::Tensor series = table.unsqueeze(1).expand({2, 5, 2});  // (length, columns)
  const at::Tensor normalized = want.unsqueeze(1).expand({2, 5, 2});
  CHECK(at::equal(apply(tf::Normalize(normalize).axis(-1), series).data, normalized));
  CHECK(at::equal(apply(tf::Normalize(normalize).axis(1), series).data, normalized));
  const at::Tensor volumes = table.reshape({2, 2, 1, 1, 1}).expand({2, 2, 2, 3, 2});
  CHECK(at::equal(apply(tf::Normalize(normalize).axis(0), volumes).data,
                  want.reshape({2, 2, 1, 1, 1}).expand({2, 2, 2, 3, 2})));
  // Which axis has the columns, or the channels, cannot be guessed.
  for (const at::Tensor& data : {series, volumes}) {
    check_refused(normalize, data, "axis(n) says which axis has the channels or columns");
  }
  const at::Tensor channels_last = at::zeros({1, 28, 27, 3});
  check_refused(tf::Normalize(std::vector<double>(28, 0.0), std::vector<double>(28, 1.0)),
                channels_last, "seems to be (height, width, channels); put ToTensor before");
  check_refused(tf::Normalize(normalize).axis(2), series, "with an axis 2, found shape (5, 2)");
  check_refused(tf::Normalize(normalize).axis(0), series, "with the size 2 in axis 0");
}

TEST_CASE("ToTensor refuses images that have their channels first", "[transforms]") {
  check_refused(
      tf::ToTensor(), at::zeros({2, 3, 28, 28}, at::kByte),
      "found shape (3, 28, 28), which seems to be (C, H, W) already; ToDtype(dtype, true)");
  check_refused(tf::ToTensor(), at::zeros({2, 1, 28, 32}), "seems to be (C, H, W)");
  CHECK(apply(tf::ToTensor(), at::zeros({2, 28, 28, 3}, at::kByte)).data.size(1) == 3);
  CHECK(apply(tf::ToTensor(), at::zeros({2, 4, 5, 3}, at::kByte)).data.size(1) == 3);
  CHECK(apply(tf::ToTensor(), at::zeros({2, 28, 28}, at::kByte)).data.size(1) == 1);
  CHECK(apply(tf::ToTensor(), at::zeros({2, 3, 28}, at::kByte)).data.size(1) == 1);
}

TEST_CASE("ToDtype scales integers to numbers from 0 to 1", "[transforms]") {
  const at::Tensor bytes = at::arange(256).to(at::kByte).reshape({1, 1, 16, 16});
  const at::Tensor scaled = apply(tf::ToDtype(at::kFloat, true), bytes).data;
  CHECK(at::equal(scaled, apply(tf::ToTensor(), bytes.squeeze(1)).data));
  CHECK(scaled.max().item<float>() == 1);
  const auto largest = [](at::ScalarType type, double value) {
    return apply(tf::ToDtype(at::kDouble, true), at::full({1, 1}, value, at::kDouble).to(type))
        .data.item<double>();
  };
  CHECK(largest(at::kChar, 127) == 1);
  CHECK(largest(at::kShort, 32767) == 1);
  CHECK(largest(at::kInt, 2147483647) == 1);
  CHECK(largest(at::kLong, 4611686018427387904.) == 0.5);
  CHECK(largest(at::kBool, 1) == 1);
  CHECK(largest(at::kFloat, 300) == 300);  // not scaled
  CHECK(largest(at::kDouble, 300) == 300);
  CHECK(at::equal(bytes, at::arange(256).to(at::kByte).reshape({1, 1, 16, 16})));
  check_refused(tf::ToDtype(at::kFloat, true), at::zeros({1, 1}, at::kComplexFloat),
                "ToDtype scales integers, found ComplexFloat");
  CHECK(error_of([] { tf::ToDtype(at::kLong, true); }).code() == ErrorCode::InvalidArgument);
}
