#ifndef TORCH_NPY_DATA_RANDOM_CROP_HPP_
#define TORCH_NPY_DATA_RANDOM_CROP_HPP_

/// @file
/// RandomCrop.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include <torch_npy/data/random.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// Crops images (..., H, W) to `size` (height and width, or one number for both), at a random
/// position for each sample, after adding `padding` zeros at each edge. The result is (..., height,
/// width), of the same dtype, in new memory. Throws Error (Mismatch) for an image that is too small
/// even with padding.
class RandomCrop : public Transform, public OnArrays<RandomCrop> {
 public:
  /// All sizes in pixels. Throws Error (InvalidArgument) if `size` is not one or two numbers from 1
  /// to 2^32, or `padding` is not from 0 to 2^32.
  explicit RandomCrop(c10::IntArrayRef size, std::int64_t padding = 0,
                      const std::optional<at::Generator>& generator = std::nullopt)
      : Transform(detail::draw_seed(generator)), padding_(padding) {
    constexpr std::int64_t kMax = std::int64_t{1} << 32;
    if (size.empty() || size.size() > 2 || size.front() < 1 || size.back() < 1 || padding < 0 ||
        padding > kMax || size.front() > kMax || size.back() > kMax) {
      throw Error(ErrorCode::InvalidArgument,
                  "RandomCrop expects a height and a width from 1 to 2^32, or one number for both, "
                  "and a padding from 0 to 2^32");
    }
    height_ = size.front();
    width_ = size.back();
  }

  /// The same for `RandomCrop({28, 28})`.
  // Without it, the call would be ambiguous with a copy of RandomCrop(28, 28).
  explicit RandomCrop(std::initializer_list<std::int64_t> size, std::int64_t padding = 0,
                      const std::optional<at::Generator>& generator = std::nullopt)
      : RandomCrop(c10::IntArrayRef(size), padding, generator) {}

  /// Whether a target that is an image changes with the data; the default is true.
  RandomCrop& with_target(bool value) {
    with_target_ = value;
    return *this;
  }

  /// Crops every image at a position of its own.
  void apply(at::Tensor& data, at::Tensor* target, const Draws& draws) const override {
    if (data.dim() < 3) detail::throw_bad_shape("RandomCrop", "(..., H, W)", data);
    const std::int64_t down = data.size(-2) + 2 * padding_ - height_;
    const std::int64_t right = data.size(-1) + 2 * padding_ - width_;
    if (down < 0 || right < 0) {
      detail::throw_bad_shape("RandomCrop",
                              "(..., H, W) with at least " + std::to_string(height_) + " x " +
                                  std::to_string(width_) + " pixels after padding",
                              data);
    }
    at::Tensor* const image = with_target_ ? detail::image_target(target, data) : nullptr;
    std::vector<Corner> corners(static_cast<std::size_t>(data.size(0)));
    for (std::size_t i = 0; i < corners.size(); ++i) {
      detail::SplitMix64 numbers = draws.sample(i);
      const auto up_to = [&](std::int64_t max) {
        return static_cast<std::int64_t>(numbers.below(static_cast<std::uint64_t>(max) + 1));
      };
      corners[i].top = up_to(down) - padding_;
      corners[i].left = up_to(right) - padding_;
    }
    data = crop(data, corners);
    if (image != nullptr) *image = crop(*image, corners);
  }

 private:
  struct Corner {
    std::int64_t top, left;  // in the image without padding
  };

  at::Tensor crop(const at::Tensor& batch, const std::vector<Corner>& corners) const {
    std::vector<std::int64_t> sizes = batch.sizes().vec();
    sizes.end()[-2] = height_;
    sizes.end()[-1] = width_;
    const auto out =
        padding_ == 0 ? at::empty(sizes, batch.options()) : at::zeros(sizes, batch.options());
    for (std::size_t i = 0; i < corners.size(); ++i) {
      const auto sample = static_cast<std::int64_t>(i);
      at::Tensor from = batch.select(0, sample);
      at::Tensor to = out.select(0, sample);
      cut(-2, corners[i].top, height_, from, to);
      cut(-1, corners[i].left, width_, from, to);
      to.copy_(from);
    }
    return out;
  }

  /// Narrows both to the overlap of the crop [begin, begin + length) and the image.
  static void cut(std::int64_t axis, std::int64_t begin, std::int64_t length, at::Tensor& from,
                  at::Tensor& to) {
    const std::int64_t first = std::max<std::int64_t>(begin, 0);
    const std::int64_t common = (std::min)(begin + length, from.size(axis)) - first;
    from = from.narrow(axis, common > 0 ? first : 0, (std::max)(common, std::int64_t{0}));
    to = to.narrow(axis, common > 0 ? first - begin : 0, from.size(axis));
  }

  std::int64_t height_;
  std::int64_t width_;
  std::int64_t padding_;
  bool with_target_ = true;
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RANDOM_CROP_HPP_
