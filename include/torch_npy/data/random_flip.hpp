#ifndef TORCH_NPY_DATA_RANDOM_FLIP_HPP_
#define TORCH_NPY_DATA_RANDOM_FLIP_HPP_

/// @file
/// RandomHorizontalFlip and RandomVerticalFlip.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torch_npy/data/random.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// Flips images (..., H, W) along one axis, each with probability `p`: the common part of
/// RandomHorizontalFlip and RandomVerticalFlip.
class RandomFlip : public Transform {
 public:
  /// Flips the images that are chosen.
  void apply(at::Tensor& data, at::Tensor* target, const Draws& draws) const override {
    if (data.dim() < 3) detail::throw_bad_shape(name_, "(..., H, W)", data);
    if (detail::seems_channels_last(data)) {
      detail::throw_bad_shape(name_, "(..., H, W)", data,
                              ", which seems to be (H, W, C); put ToTensor before the flip");
    }
    at::Tensor* const image = with_target_ ? detail::image_target(target, data) : nullptr;
    std::vector<std::int64_t> flipped;
    for (std::int64_t i = 0; i < data.size(0); ++i) {
      if (draws.sample(static_cast<std::size_t>(i)).uniform() < p_) flipped.push_back(i);
    }
    flip(data, flipped);
    if (image != nullptr) flip(*image, flipped);
  }

 protected:
  /// For the derived classes.
  RandomFlip(const char* name, std::int64_t axis, double p,
             const std::optional<at::Generator>& generator)
      : Transform(detail::draw_seed(generator)), name_(name), axis_(axis), p_(p) {
    if (!(p >= 0 && p <= 1)) {
      throw Error(ErrorCode::InvalidArgument,
                  name_ + " expects a probability between 0 and 1, found " + std::to_string(p));
    }
  }

  /// Whether targets that are images are flipped, too.
  bool with_target_ = true;

 private:
  void flip(at::Tensor& batch, const std::vector<std::int64_t>& flipped) const {
    if (flipped.empty()) return;
    if (!detail::is_only_owner(batch)) batch = batch.clone();
    for (const std::int64_t i : flipped) {
      const at::Tensor sample = batch.select(0, i);
      sample.copy_(sample.flip(axis_));
    }
  }

  std::string name_;
  std::int64_t axis_;
  double p_;
};

/// Flips images (..., H, W) horizontally, each with probability `p`. Keeps shape and dtype.
class RandomHorizontalFlip : public RandomFlip, public OnArrays<RandomHorizontalFlip> {
 public:
  /// Throws Error (InvalidArgument) if `p` is not between 0 and 1.
  explicit RandomHorizontalFlip(double p = 0.5,
                                const std::optional<at::Generator>& generator = std::nullopt)
      : RandomFlip("RandomHorizontalFlip", -1, p, generator) {}

  /// Whether a target that is an image changes with the data; the default is true.
  RandomHorizontalFlip& with_target(bool value) {
    with_target_ = value;
    return *this;
  }
};

/// Flips images (..., H, W) vertically, each with probability `p`. Keeps shape and dtype.
class RandomVerticalFlip : public RandomFlip, public OnArrays<RandomVerticalFlip> {
 public:
  /// Throws Error (InvalidArgument) if `p` is not between 0 and 1.
  explicit RandomVerticalFlip(double p = 0.5,
                              const std::optional<at::Generator>& generator = std::nullopt)
      : RandomFlip("RandomVerticalFlip", -2, p, generator) {}

  /// Whether a target that is an image changes with the data; the default is true.
  RandomVerticalFlip& with_target(bool value) {
    with_target_ = value;
    return *this;
  }
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RANDOM_FLIP_HPP_
