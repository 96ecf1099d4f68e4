#ifndef TORCH_NPY_DATA_TRANSFORMS_HPP_
#define TORCH_NPY_DATA_TRANSFORMS_HPP_

/// @file
/// Transforms of batches, in namespace torch_npy::transforms.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/ArrayRef.h>
#include <torch/arg.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True if only the caller can see the memory of the tensor, so that it may be changed in place.
inline bool is_only_owner(const at::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.has_storage() && tensor.storage().use_count() == 1 &&
         owns_memory(tensor) && !tensor.requires_grad() && tensor.is_non_overlapping_and_dense() &&
         (!tensor.is_inference() || c10::InferenceMode::is_enabled());
}

[[noreturn]] inline void throw_bad_shape(const std::string& transform, const std::string& expected,
                                         const at::Tensor& batch) {
  throw Error(ErrorCode::Mismatch, transform + " expects samples of shape " + expected +
                                       ", found shape " +
                                       python_tuple(batch.sizes().slice(1).vec()));
}

/// The target if it is an image that changes with the data, else null.
inline at::Tensor* image_target(at::Tensor* target, const at::Tensor& data) {
  if (target == nullptr || target->dim() < 3) return nullptr;
  if (target->size(0) != data.size(0)) {
    throw Error(ErrorCode::Mismatch,
                "expected one target for each sample, found " +
                    counted(static_cast<std::uint64_t>(data.size(0)), "sample") + " and " +
                    counted(static_cast<std::uint64_t>(target->size(0)), "target"));
  }
  if (target->size(-2) == data.size(-2) && target->size(-1) == data.size(-1)) return target;
  throw Error(
      ErrorCode::Mismatch,
      "targets with two or more axes are treated as images and must have the height and width "
      "of their data: found targets of shape " +
          python_tuple(target->sizes().slice(1).vec()) + " and data of shape " +
          python_tuple(data.sizes().slice(1).vec()) +
          "; with_target(false) keeps targets unchanged");
}

}  // namespace detail

namespace transforms {
class Transform;
}

namespace detail {

// Transforms are applied to the tensors of a batch.

inline void apply(const transforms::Transform& transform, at::Tensor& data, at::Tensor* target,
                  const Draws& draws);

template <class E>
std::size_t count_of(const std::vector<E>& samples) {
  return samples.size();
}
template <class E>
std::size_t count_of(const Batch<E>& batch) {
  return batch.data.dim() == 0 ? 0 : static_cast<std::size_t>(batch.data.size(0));
}

/// To a stacked batch.
template <class E>
void apply_to(const transforms::Transform& transform, Batch<E>& batch, const Draws& draws) {
  if (batch.data.dim() == 0) {
    throw Error(ErrorCode::Mismatch,
                "expected a batch with the sample index as axis 0, found a 0-d tensor");
  }
  at::Tensor* target = nullptr;
  if constexpr (kHasTarget<E>) {
    if (batch.target.defined()) target = &batch.target;
  }
  apply(transform, batch.data, target, draws);
}

/// To one sample, as a batch of one.
template <class E>
void apply_to_sample(const transforms::Transform& transform, E& sample, const Draws& draws) {
  Batch<E> one;
  one.data = std::exchange(sample.data, at::Tensor()).unsqueeze(0);
  if constexpr (kHasTarget<E>) {
    if (sample.target.defined()) {
      one.target = std::exchange(sample.target, at::Tensor()).unsqueeze(0);
    }
  }
  apply_to(transform, one, draws);
  sample.data = one.data.squeeze(0);
  if constexpr (kHasTarget<E>) {
    if (one.target.defined()) sample.target = one.target.squeeze(0);
  }
}

/// To each sample of a list.
template <class E>
void apply_to(const transforms::Transform& transform, std::vector<E>& samples, const Draws& draws) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    apply_to_sample(transform, samples[i], draws.from(i));
  }
}

}  // namespace detail

/// Transforms for Dataset::map(); each processes a whole batch, stacked or not:
///
///     dataset.stacked().map(ToTensor()).map(RandomHorizontalFlip(0.5)).map(Normalize(mean, std))
///
/// The shapes below are those of one sample; a stacked batch has the sample index as axis 0 before
/// them. Samples that are not stacked may differ in shape; after RandomCrop they can be stacked.
///
/// A transform changes `data`. The random flips and RandomCrop also change a `target` that is an
/// image in the same way: one with two or more axes per sample (H x W, C x H x W).
/// with_target(false) keeps targets unchanged. If H and W of target and data differ, they throw
/// Error (Mismatch).
///
/// Every sample gets its own random numbers. With a Loader they depend on its seed, the epoch, the
/// position of the sample in the order of the epoch, and the number of transforms before, and on
/// nothing else. With LibTorch's loader, which has no seed, they depend on a seed that the
/// transform takes when it is constructed, from the given CPU generator or from LibTorch's default
/// one (torch::manual_seed()); on the indices of the samples of the batch; and on how many batches
/// of the dataset have begun with the same first sample. So a seed gives the same batches for any
/// number of workers, if the dataset is new, epochs are complete, and the sampler repeats no
/// samples.
///
/// All transforms throw Error (Mismatch) for a batch of an unsupported shape or dtype. They may be
/// copied, and used from any thread. The cost is linear in the size of the data. If nothing else
/// refers to a batch, and its dtype and shape do not change, it is changed in place.
namespace transforms {

/// What the transforms of this namespace have in common. Derive from it to write another one; most
/// are simpler as a lambda given to Dataset::map().
class Transform {
 public:
  /// LibTorch's `.map()` needs it: LibTorch's own datasets take these transforms before they are
  /// stacked.
  using InputBatchType = std::vector<Example<>>;
  /// As InputBatchType.
  using OutputBatchType = InputBatchType;

  virtual ~Transform() = default;
  Transform(const Transform&) = default;             ///< as the derived class
  Transform& operator=(const Transform&) = default;  ///< as the derived class

  /// Changes a batch. Axis 0 of both tensors is the sample index; `target` is null if there is
  /// none. Called by any number of threads at once.
  virtual void apply(at::Tensor& data, at::Tensor* target, const Draws& draws) const = 0;

  /// Changes a list of samples or a stacked batch, and returns it; the `.map()` of LibTorch's own
  /// datasets calls it. Their batches have no names, so random numbers are reproducible only
  /// without workers.
  template <class B>
  B apply_batch(B batch) {
    Request request;
    request.epoch = (*batches_)++;
    request.picks.resize(detail::count_of(batch));
    for (std::size_t i = 0; i < request.picks.size(); ++i) request.picks[i].position = i;
    detail::apply_to(*this, batch, Draws(request, 0, seed_));
    return batch;
  }

  /// The seed for loaders that have none.
  std::uint64_t seed() const noexcept { return seed_; }

 protected:
  /// Without random numbers.
  Transform() = default;
  /// With a seed.
  explicit Transform(std::uint64_t seed) : seed_(seed) {}

 private:
  std::uint64_t seed_ = 0;
  std::shared_ptr<std::atomic<std::uint64_t>> batches_ =
      std::make_shared<std::atomic<std::uint64_t>>(0);  // of LibTorch's datasets
};

}  // namespace transforms

namespace detail {
inline void apply(const transforms::Transform& transform, at::Tensor& data, at::Tensor* target,
                  const Draws& draws) {
  transform.apply(data, target, draws);
}
}  // namespace detail

namespace transforms {

/// Flips images (..., H, W) along one axis, each with probability `p`: the common part of
/// RandomHorizontalFlip and RandomVerticalFlip.
class RandomFlip : public Transform {
 public:
  /// Flips the images that are chosen.
  void apply(at::Tensor& data, at::Tensor* target, const Draws& draws) const override {
    if (data.dim() < 3) detail::throw_bad_shape(name_, "(..., H, W)", data);
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
class RandomHorizontalFlip : public RandomFlip {
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
class RandomVerticalFlip : public RandomFlip {
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

/// Crops images (..., H, W) to `size` (height and width, or one number for both), at a random
/// position for each sample, after adding `padding` zeros at each edge. The result is (..., height,
/// width), of the same dtype, in new memory. Throws Error (Mismatch) for an image that is too small
/// even with padding.
class RandomCrop : public Transform {
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

#endif  // TORCH_NPY_DATA_TRANSFORMS_HPP_
