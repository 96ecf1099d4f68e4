#ifndef TORCH_NPY_DATA_RESIZE_HPP_
#define TORCH_NPY_DATA_RESIZE_HPP_

/// @file
/// Resize.

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/upsample_nearest1d.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/random.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// How Resize computes a pixel.
enum class Interpolation {
  Bilinear,  ///< from the four nearest pixels
  Nearest,   ///< copies a pixel; for masks, whose numbers must not be mixed
};

/// Resizes images (..., H, W) to (..., height, width). The images of a list may have different
/// sizes; afterwards they can be stacked. Same as torch.nn.functional.interpolate with the mode
/// "bilinear" and align_corners=False, or with the mode "nearest"; without antialiasing.
///
/// Bilinear takes floating-point data and uint8, which are computed as float32 and rounded. Nearest
/// takes every dtype. A target that is an image is resized, too: integers, as in masks, by Nearest,
/// and floating-point numbers like the data. With on(), masks need a Resize of their own, with
/// Interpolation::Nearest.
///
/// Throws Error (Mismatch) for other dtypes, for images without pixels, and for images that seem to
/// be H x W x C: whose last axis has the size 1, 3 or 4, and whose first axis has not.
class Resize : public Transform, public OnArrays<Resize> {
 public:
  /// To a height and a width in pixels. Throws Error (InvalidArgument) if `size` is not two numbers
  /// from 1 to 2^31 - 1.
  explicit Resize(c10::IntArrayRef size, Interpolation interpolation = Interpolation::Bilinear)
      : interpolation_(interpolation) {
    for (const std::int64_t pixels : size) {
      if (size.size() != 2 || pixels < 1 || pixels > INT32_MAX) break;
      size_.push_back(pixels);
    }
    if (size_.size() == 2) return;
    throw Error(
        ErrorCode::InvalidArgument,
        "Resize expects a height and a width from 1 to 2^31 - 1, such as Resize({224, 224})");
  }

  /// The same for `Resize({224, 224})`.
  explicit Resize(std::initializer_list<std::int64_t> size,
                  Interpolation interpolation = Interpolation::Bilinear)
      : Resize(c10::IntArrayRef(size), interpolation) {}

  /// Whether a target that is an image changes with the data; the default is true.
  Resize& with_target(bool value) {
    with_target_ = value;
    return *this;
  }

  /// Resizes the images.
  void apply(at::Tensor& data, at::Tensor* target, const Draws&) const override {
    require_images(data);
    at::Tensor* const image = with_target_ ? detail::image_target(target, data) : nullptr;
    at::Tensor resized_data = resized(data, interpolation_);
    if (image != nullptr) {
      *image =
          resized(*image, image->is_floating_point() ? interpolation_ : Interpolation::Nearest);
    }
    data = std::move(resized_data);
  }

 private:
  static void require_images(const at::Tensor& data) {
    if (data.dim() < 3 || data.numel() == 0) {
      detail::throw_bad_shape("Resize", "(..., H, W) with pixels", data);
    }
    if (detail::seems_channels_last(data)) {
      detail::throw_bad_shape("Resize", "(..., H, W)", data,
                              ", which seems to be (H, W, C); put ToTensor before Resize");
    }
  }

  at::Tensor resized(const at::Tensor& images, Interpolation interpolation) const {
    if (images.sizes().slice(static_cast<std::size_t>(images.dim()) - 2) == size_) return images;
    return interpolation == Interpolation::Nearest ? nearest(images) : bilinear(images);
  }

  at::Tensor bilinear(const at::Tensor& images) const {
    const c10::ScalarType type = images.scalar_type();
    if (!images.is_floating_point() && type != at::kByte) {
      throw Error(ErrorCode::Mismatch,
                  std::string("Resize cannot interpolate ") + c10::toString(type) +
                      " values; use Interpolation::Nearest for masks, and ToDtype before Resize "
                      "for images");
    }
    std::vector<std::int64_t> sizes = images.sizes().vec();
    // All other axes are treated alike. LibTorch interpolates half precision only on some devices.
    at::Tensor out = images.reshape({1, -1, sizes.end()[-2], sizes.end()[-1]});
    out = at::upsample_bilinear2d(type == at::kDouble ? out : out.to(at::kFloat), size_,
                                  /*align_corners=*/false);
    if (type == at::kByte) out.round_();
    sizes.end()[-2] = size_[0];
    sizes.end()[-1] = size_[1];
    return out.to(type).reshape(sizes);
  }

  at::Tensor nearest(const at::Tensor& images) const {
    // LibTorch tells which pixel is the nearest: it cannot resize every dtype itself.
    const auto pixels = [&](std::int64_t axis, std::int64_t size) {
      const at::Tensor all = at::arange(images.size(axis), images.options().dtype(at::kDouble));
      return at::upsample_nearest1d(all.reshape({1, 1, -1}), size).flatten().to(at::kLong);
    };
    return images.index_select(-2, pixels(-2, size_[0])).index_select(-1, pixels(-1, size_[1]));
  }

  std::vector<std::int64_t> size_;
  Interpolation interpolation_;
  bool with_target_ = true;
};

}  // namespace transforms
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RESIZE_HPP_
