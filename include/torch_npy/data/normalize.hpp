#ifndef TORCH_NPY_DATA_NORMALIZE_HPP_
#define TORCH_NPY_DATA_NORMALIZE_HPP_

/// @file
/// Normalize.

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <c10/util/ArrayRef.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torch_npy/data/random.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The axis of a batch for which there are means and stds. `axis` is that of a sample, if the
/// program has set it. Otherwise samples with one axis have columns, and those with three are
/// images (C, H, W). Throws Error (Mismatch) for other samples: the axis cannot be guessed.
inline std::int64_t channel_axis(const at::Tensor& batch, const std::optional<std::int64_t>& axis,
                                 const char* call) {
  const std::int64_t axes = batch.dim() - 1;  // of a sample
  if (axis && *axis >= -axes && *axis < axes) return *axis < 0 ? batch.dim() + *axis : 1 + *axis;
  const bool is_hwc = seems_channels_last(batch);
  if (!axis && (axes == 1 || axes == 3) && !is_hwc) return 1;
  throw_bad_shape(
      call,
      axis ? "with an axis " + std::to_string(*axis) : "(columns,) or (channels, height, width)",
      batch,
      axis     ? ""
      : is_hwc ? ", which seems to be (height, width, channels); put ToTensor before, "
                 "or set axis(n)"
               : "; axis(n) says which axis has the channels or columns");
}

}  // namespace detail

namespace transforms {

/// Computes (data - mean) / std in the dtype of the data, which must be a floating-point one. With
/// one mean and std, samples have any shape. With more, there is one mean and one std for each
/// channel of images (C, H, W), as in torchvision's Normalize, or for each column of a table, whose
/// samples have the shape (columns). axis() is necessary for samples with another number of axes.
/// mean_and_std() computes both numbers. Throws Error (Mismatch) for integers, and for another
/// number of channels or columns.
class Normalize : public Transform, public OnArrays<Normalize> {
 public:
  /// Throws Error (InvalidArgument) if there is no mean, if the numbers of means and stds differ,
  /// if a number is NaN or infinite, or if a std is not larger than 0.
  Normalize(c10::ArrayRef<double> mean, c10::ArrayRef<double> std)
      : mean_(mean.vec()), std_(std.vec()) {
    if (mean_.empty() || mean_.size() != std_.size()) {
      throw Error(ErrorCode::InvalidArgument,
                  "Normalize expects one mean and one std, for each channel or column or for all; "
                  "found " +
                      detail::counted(mean_.size(), "mean") + " and " +
                      detail::counted(std_.size(), "std"));
    }
    for (std::size_t i = 0; i < mean_.size(); ++i) {
      if (std::isfinite(mean_[i]) && std::isfinite(std_[i]) && std_[i] > 0) continue;
      throw Error(ErrorCode::InvalidArgument,
                  "Normalize expects finite means, and finite stds larger than 0; found mean " +
                      std::to_string(mean_[i]) + " and std " + std::to_string(std_[i]) +
                      " at position " + std::to_string(i) +
                      "; the std is 0 if all values are equal: use 1 there");
    }
  }

  /// The axis of a sample that has one mean for each position: 0 for volumes (C, D, H, W), -1 for
  /// time series (length, columns). Negative numbers count from the last axis.
  Normalize& axis(std::int64_t axis) {
    axis_ = axis;
    return *this;
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
      const std::int64_t axis = detail::channel_axis(data, axis_, "Normalize");
      if (data.size(axis) != static_cast<std::int64_t>(mean_.size())) {
        detail::throw_bad_shape("Normalize",
                                "with the size " + std::to_string(mean_.size()) + " in axis " +
                                    std::to_string(axis - 1) + ", one for each mean",
                                data);
      }
      shape.assign(static_cast<std::size_t>(data.dim() - axis), 1);
      shape[0] = data.size(axis);
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
  std::optional<std::int64_t> axis_;
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_NORMALIZE_HPP_
