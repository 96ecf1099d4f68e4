#ifndef TORCH_NPY_DATA_NORMALIZE_HPP_
#define TORCH_NPY_DATA_NORMALIZE_HPP_

/// @file
/// Normalize.

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <torch_npy/data/random.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// Computes (data - mean) / std in the dtype of the data, which must be a floating-point one. With
/// one mean and std, samples have any shape. With more, samples are images (..., C, H, W) with one
/// mean and std for each channel. Same as torchvision's Normalize. Throws Error (Mismatch) for
/// integers, and for another number of channels.
class Normalize : public Transform {
 public:
  /// Throws Error (InvalidArgument) if there is no mean, if the numbers of means and stds differ,
  /// or if a std is 0.
  Normalize(c10::ArrayRef<double> mean, c10::ArrayRef<double> std)
      : mean_(mean.vec()), std_(std.vec()) {
    if (mean_.empty() || mean_.size() != std_.size() ||
        std::find(std_.begin(), std_.end(), 0.0) != std_.end()) {
      throw Error(
          ErrorCode::InvalidArgument,
          "Normalize expects one mean and one std that is not 0, for each channel or for all; "
          "found " +
              detail::counted(mean_.size(), "mean") + " and " +
              detail::counted(std_.size(), "std"));
    }
  }

  /// Normalizes the data.
  void apply(at::Tensor& data, at::Tensor*, const Draws&) const override {
    if (!data.is_floating_point()) {
      throw Error(ErrorCode::Mismatch,
                  std::string("Normalize expects floating-point data, found ") +
                      c10::toString(data.scalar_type()) + "; apply ToTensor or ToDtype before it");
    }
    std::vector<std::int64_t> shape;
    if (mean_.size() > 1) {
      const auto channels = static_cast<std::int64_t>(mean_.size());
      if (data.dim() < 4 || data.size(-3) != channels) {
        detail::throw_bad_shape(
            "Normalize", "(..., " + std::to_string(channels) + ", H, W), one channel for each mean",
            data);
      }
      shape = {channels, 1, 1};
    }
    const auto as_tensor = [&](const std::vector<double>& values) {
      return at::tensor(values).to(data.options()).reshape(shape);
    };
    if (detail::is_only_owner(data)) {
      data.sub_(as_tensor(mean_)).div_(as_tensor(std_));
    } else {
      data = data.sub(as_tensor(mean_)).div_(as_tensor(std_));
    }
  }

 private:
  std::vector<double> mean_;
  std::vector<double> std_;
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_NORMALIZE_HPP_
