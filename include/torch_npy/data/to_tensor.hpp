#ifndef TORCH_NPY_DATA_TO_TENSOR_HPP_
#define TORCH_NPY_DATA_TO_TENSOR_HPP_

/// @file
/// ToTensor and ToDtype.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include <torch_npy/data/random.hpp>
#include <torch_npy/data/transform.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// Images as they are usually stored, H x W x C or H x W, become C x H x W, contiguous. uint8
/// becomes float32 from 0 to 1; other dtypes keep their values. Same as torchvision's ToTensor for
/// NumPy arrays.
class ToTensor : public Transform {
 public:
  /// Converts the images.
  void apply(at::Tensor& data, at::Tensor*, const Draws&) const override {
    at::Tensor channels_first;
    if (data.dim() == 4) {
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

/// Converts the data to another dtype, as Tensor::to() does.
class ToDtype : public Transform {
 public:
  /// Throws nothing. If LibTorch cannot convert a batch, its exception is thrown for that batch.
  explicit ToDtype(c10::ScalarType dtype) : dtype_(dtype) {}

  /// Converts the data.
  void apply(at::Tensor& data, at::Tensor*, const Draws&) const override { data = data.to(dtype_); }

 private:
  c10::ScalarType dtype_;
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_TO_TENSOR_HPP_
