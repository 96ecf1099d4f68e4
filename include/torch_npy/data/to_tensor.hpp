#ifndef TORCH_NPY_DATA_TO_TENSOR_HPP_
#define TORCH_NPY_DATA_TO_TENSOR_HPP_

/// @file
/// ToTensor and ToDtype.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include <cmath>
#include <string>

#include <torch_npy/data/random.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// Images as they are usually stored, H x W x C or H x W, become C x H x W, contiguous. uint8
/// becomes float32 from 0 to 1; other dtypes keep their values. Same as torchvision's ToTensor for
/// NumPy arrays. Throws Error (Mismatch) for images that seem to be C x H x W already: whose first
/// axis has the size 1, 3 or 4, and whose last axis has not.
class ToTensor : public Transform, public OnArrays<ToTensor> {
 public:
  /// Converts the images.
  void apply(at::Tensor& data, at::Tensor*, const Draws&) const override {
    at::Tensor channels_first;
    if (data.dim() == 4) {
      if (detail::is_channel_count(data.size(1)) && !detail::is_channel_count(data.size(3))) {
        detail::throw_bad_shape("ToTensor", "(H, W, C) or (H, W)", data,
                                ", which seems to be (C, H, W) already; ToDtype(dtype, true) "
                                "converts the values of such images from 0 to 1");
      }
      channels_first = data.permute({0, 3, 1, 2});
    } else if (data.dim() == 3) {
      channels_first = data.unsqueeze(1);
    } else {
      detail::throw_bad_shape("ToTensor", "(H, W, C) or (H, W)", data);
    }
    if (data.scalar_type() == at::kByte) {
      at::Tensor out = at::empty(channels_first.sizes(), data.options().dtype(at::kFloat));
      data = out.copy_(channels_first).div_(255);
    } else {
      data = channels_first.contiguous();
    }
  }
};

/// Converts the data to another dtype, as Tensor::to() does. With `scale`, integers also become
/// numbers from 0 to 1: they are divided by the largest value of their dtype, 255 for uint8, as
/// torchvision's ToDtype(dtype, scale=True) does. Floating-point data are not scaled.
class ToDtype : public Transform, public OnArrays<ToDtype> {
 public:
  /// Throws Error (InvalidArgument) if `scale` is true and `dtype` is not a floating-point one. If
  /// LibTorch cannot convert a batch, its exception is thrown for that batch.
  explicit ToDtype(c10::ScalarType dtype, bool scale = false) : dtype_(dtype), scale_(scale) {
    if (!scale || c10::isFloatingType(dtype)) return;
    throw Error(ErrorCode::InvalidArgument,
                std::string("ToDtype scales to floating-point numbers from 0 to 1, and ") +
                    c10::toString(dtype) + " cannot hold them; ToDtype(dtype) does not scale");
  }

  /// Converts the data. Throws Error (Mismatch) for complex data that are to be scaled.
  void apply(at::Tensor& data, at::Tensor*, const Draws&) const override {
    const c10::ScalarType from = data.scalar_type();
    const bool is_integral = c10::isIntegralType(from, /*includeBool=*/true);
    if (scale_ && !is_integral && !c10::isFloatingType(from)) {
      throw Error(ErrorCode::Mismatch,
                  std::string("ToDtype scales integers, found ") + c10::toString(from));
    }
    if (!scale_ || !is_integral || from == at::kBool) {
      data = data.to(dtype_);
      return;
    }
    const auto bits = static_cast<int>(8 * c10::elementSize(from)) - c10::isSignedType(from);
    // float16 cannot hold the integers.
    const bool is_small = c10::elementSize(dtype_) < sizeof(float);
    data = data.to(is_small ? at::kFloat : dtype_).div_(std::ldexp(1.0, bits) - 1).to(dtype_);
  }

 private:
  c10::ScalarType dtype_;
  bool scale_;
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_TO_TENSOR_HPP_
