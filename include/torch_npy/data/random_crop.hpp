#ifndef TORCH_NPY_DATA_RANDOM_CROP_HPP_
#define TORCH_NPY_DATA_RANDOM_CROP_HPP_

/// @file
/// RandomCrop.

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/core/Scalar.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {
class CropRegions;
}

namespace transforms {

/// Crops samples along their last axes to `size`, at a random position for each sample: images
/// (..., H, W) to {h, w}, volumes (..., D, H, W) to {d, h, w}, and so on. The result has the same
/// dtype, and is in new memory.
///
/// Directly after a dataset of files, archives or mapped arrays, only the crop is read:
/// `FolderDataset("volumes").map(RandomCrop({64, 64, 64})).stacked()`. The result is the same as if
/// all were read. With on(), all is read.
///
/// Throws Error (Mismatch) for a sample that is too small, even with padding; InvalidArgument if
/// its dtype cannot hold the value of fill().
class RandomCrop : public Transform, public OnArrays<RandomCrop> {
 public:
  /// `size`: one number for each axis that is cropped, in elements; -1 keeps an axis whole. A
  /// single number stands for height and width. Before they are cropped, samples get `padding`
  /// elements at each end of these axes. Throws Error (InvalidArgument) if `size` is empty, only
  /// -1, or not from 1 to 2^32, or `padding` is not from 0 to 2^32.
  explicit RandomCrop(c10::IntArrayRef size, std::int64_t padding = 0,
                      const std::optional<at::Generator>& generator = std::nullopt)
      : Transform(detail::draw_seed(generator)), size_(size.vec()), padding_(padding) {
    constexpr std::int64_t kMax = std::int64_t{1} << 32;
    if (size_.size() == 1) size_.push_back(size_[0]);
    bool is_valid = padding >= 0 && padding <= kMax;
    bool crops = false;
    for (const std::int64_t length : size_) {
      is_valid = is_valid && (length == -1 || (length >= 1 && length <= kMax));
      crops = crops || length != -1;
    }
    if (is_valid && crops) return;
    throw Error(
        ErrorCode::InvalidArgument,
        "RandomCrop expects sizes from 1 to 2^32, such as a height and a width, or one number "
        "for both, and a padding from 0 to 2^32; -1 keeps an axis whole");
  }

  /// The same for `RandomCrop({28, 28})`.
  // Without it, the call would be ambiguous with a copy of RandomCrop(28, 28).
  explicit RandomCrop(std::initializer_list<std::int64_t> size, std::int64_t padding = 0,
                      const std::optional<at::Generator>& generator = std::nullopt)
      : RandomCrop(c10::IntArrayRef(size), padding, generator) {}

  /// Whether a target with two or more axes is cropped with the data; the default is true. Along
  /// the axes that are cropped, it must have the sizes of the data.
  RandomCrop& with_target(bool value) {
    with_target_ = value;
    return *this;
  }

  /// Whether a sample that is smaller than the crop is padded to its size; the default is false.
  /// The whole sample is then at a random position in the crop.
  RandomCrop& pad_if_needed(bool value) {
    pad_if_needed_ = value;
    return *this;
  }

  /// The value of padding, in the data and in targets; the default is 0.
  RandomCrop& fill(at::Scalar data_value, at::Scalar target_value = 0) {
    fill_[0] = std::move(data_value);
    fill_[1] = std::move(target_value);
    return *this;
  }

  /// What with_target() was given.
  bool with_target() const noexcept { return with_target_; }

  /// The axes that are cropped.
  std::size_t common_axes() const override { return size_.size(); }

  /// Crops every sample at a position of its own.
  void apply(at::Tensor& data, at::Tensor* target, const Draws& draws) const override {
    const c10::IntArrayRef sizes = data.sizes().slice(1);
    require_size(sizes);
    at::Tensor* const image = with_target_ ? detail::image_target(target, data, size_) : nullptr;
    std::vector<Region> cuts;
    for (std::int64_t i = 0; i < data.size(0); ++i) {
      cuts.push_back(cut(sizes, draws.sample(static_cast<std::size_t>(i))));
    }
    data = crop(data, cuts, fill_[0]);
    if (image != nullptr) *image = crop(*image, cuts, fill_[1]);
  }

 private:
  friend class detail::CropRegions;

  /// Throws Error (Mismatch) for a sample that cannot be cropped.
  void require_size(c10::IntArrayRef sample) const {
    if (size_.size() == 2 && detail::seems_channels_last(sample)) {
      throw Error(ErrorCode::Mismatch,
                  "RandomCrop expects samples of shape (..., H, W), found shape " +
                      detail::python_tuple(sample.vec()) +
                      ", which seems to be (H, W, C); put ToTensor before it, or crop with the "
                      "sizes {h, w, -1}");
    }
    bool fits = sample.size() >= size_.size();
    for (std::size_t i = 1; fits && !pad_if_needed_ && i <= size_.size(); ++i) {
      fits = sample[sample.size() - i] + 2 * padding_ >= size_[size_.size() - i];
    }
    if (fits) return;
    const bool is_small = sample.size() >= size_.size();
    std::string least;
    for (const std::int64_t length : size_) {
      least += (least.empty() ? "" : " x ") + (length == -1 ? "any" : std::to_string(length));
    }
    const std::string shape = size_.size() == 2   ? "(..., H, W)"
                              : size_.size() == 3 ? "(..., D, H, W)"
                                                  : std::to_string(size_.size()) + " or more axes";
    throw Error(ErrorCode::Mismatch,
                "RandomCrop expects samples of shape " + shape +
                    (is_small ? " with at least " + least + " pixels after padding" : "") +
                    ", found shape " + detail::python_tuple(sample.vec()) +
                    (is_small ? "; pad_if_needed(true) pads them" : ""));
  }

  /// The ranges of the last axes that are kept of a sample of this shape.
  Region cut(c10::IntArrayRef sample, detail::SplitMix64 numbers) const {
    require_size(sample);
    Region cut(size_.size());
    for (std::size_t i = 0; i < size_.size(); ++i) {
      if (size_[i] == -1) continue;
      const std::int64_t last =
          sample[sample.size() - size_.size() + i] + padding_ - size_[i];  // below -padding_: small
      const std::int64_t low = (std::min)(-padding_, last);
      const std::int64_t high = (std::max)(-padding_, last);
      const auto shift = numbers.below(static_cast<std::uint64_t>(high - low) + 1);
      cut[i].begin = low + static_cast<std::int64_t>(shift);
      cut[i].end = cut[i].begin + size_[i];
    }
    return cut;
  }

  at::Tensor crop(const at::Tensor& batch, const std::vector<Region>& cuts,
                  const at::Scalar& fill) const {
    const auto axes = static_cast<std::int64_t>(size_.size());
    std::vector<std::int64_t> sizes = batch.sizes().vec();
    bool pads = false;
    for (std::int64_t i = 0; i < axes; ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (size_[at] == -1) continue;
      sizes.end()[i - axes] = size_[at];
      pads = pads || std::any_of(cuts.begin(), cuts.end(), [&](const Region& cut) {
               return cut[at].begin < 0 || cut[at].end > batch.size(i - axes);
             });
    }
    if (pads) (void)detail::element_of(fill, batch.scalar_type());
    const at::Tensor out =
        pads ? at::full(sizes, fill, batch.options()) : at::empty(sizes, batch.options());
    for (std::size_t sample = 0; sample < cuts.size(); ++sample) {
      at::Tensor from = batch.select(0, static_cast<std::int64_t>(sample));
      at::Tensor to = out.select(0, static_cast<std::int64_t>(sample));
      for (std::int64_t i = 0; i < axes; ++i) {
        narrow(i - axes, cuts[sample][static_cast<std::size_t>(i)], from, to);
      }
      to.copy_(from);
    }
    return out;
  }

  /// Narrows both to the overlap of the range and the sample.
  static void narrow(std::int64_t axis, const AxisRange& range, at::Tensor& from, at::Tensor& to) {
    const std::int64_t first = std::max<std::int64_t>(range.begin, 0);
    const std::int64_t common = (std::min)(range.end, from.size(axis)) - first;
    from = from.narrow(axis, common > 0 ? first : 0, (std::max)(common, std::int64_t{0}));
    to = to.narrow(axis, common > 0 ? first - range.begin : 0, from.size(axis));
  }

  std::vector<std::int64_t> size_;  // of the last axes
  std::int64_t padding_;
  bool pad_if_needed_ = false;
  bool with_target_ = true;
  at::Scalar fill_[2] = {0, 0};  // of data and target
};

}  // namespace transforms

namespace detail {

/// What a RandomCrop keeps of the samples that are read for it.
class CropRegions final : public SampleRegions {
 public:
  CropRegions(const transforms::RandomCrop& crop, const Draws& draws)
      : crop_(crop), draws_(draws) {}

  std::optional<Region> of_data(const Pick& pick, c10::IntArrayRef data) const override {
    return region(pick, data, data.size());
  }

  std::optional<Region> of_target(const Pick& pick, c10::IntArrayRef data,
                                  c10::IntArrayRef target) const override {
    try {
      const bool crops = crop_.with_target() && is_image_target(target, data, crop_.size_);
      if (!crops) return Region();
    } catch (const Error&) {
      return std::nullopt;  // RandomCrop::apply() throws it again
    }
    return region(pick, data, target.size());
  }

  at::Scalar fill_value(std::size_t part) const override { return crop_.fill_[part]; }

 private:
  /// The region of a tensor of `axes` axes.
  std::optional<Region> region(const Pick& pick, c10::IntArrayRef data, std::size_t axes) const {
    try {
      Region region = crop_.cut(data, draws_.of(pick));
      region.insert(region.begin(), axes - region.size(), AxisRange());
      return region;
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  const transforms::RandomCrop& crop_;
  const Draws& draws_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_RANDOM_CROP_HPP_
