#ifndef TORCH_NPY_DATA_TRANSFORMS_HPP_
#define TORCH_NPY_DATA_TRANSFORMS_HPP_

/// @file
/// Transforms of whole batches, in namespace torch_npy::transforms.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/ArrayRef.h>
#include <torch/arg.h>
#include <torch/data.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The tensor whose rows are exactly `samples`, in order, if nothing else uses its memory, so that
/// it cannot be told from a copy. Else an undefined tensor.
inline at::Tensor whole_of(const std::vector<at::Tensor>& samples) {
  if (samples.empty() || !samples[0].defined() || !samples[0].has_storage()) return {};
  const at::Tensor& first = samples[0];
  const c10::Storage& storage = first.storage();
  const std::int64_t step = first.numel();
  if (step == 0 || storage.use_count() != samples.size() || !owns_memory(first)) return {};
  std::int64_t offset = first.storage_offset();
  for (const at::Tensor& sample : samples) {
    if (!sample.defined() || !sample.has_storage() || sample.use_count() != 1 ||
        sample.requires_grad() || sample.key_set() != first.key_set() ||
        sample.storage().unsafeGetStorageImpl() != storage.unsafeGetStorageImpl() ||
        sample.storage_offset() != offset || sample.scalar_type() != first.scalar_type() ||
        sample.sizes() != first.sizes() || sample.strides() != first.strides()) {
      return {};
    }
    offset += step;
  }
  std::vector<std::int64_t> sizes = first.sizes().vec();
  std::vector<std::int64_t> strides = first.strides().vec();
  sizes.insert(sizes.begin(), static_cast<std::int64_t>(samples.size()));
  strides.insert(strides.begin(), step);
  return view_of(first, first.storage_offset(), sizes, strides);
}

inline at::Tensor stack_samples(const std::vector<at::Tensor>& samples) {
  at::Tensor whole = whole_of(samples);
  if (whole.defined()) return whole;
  require_alike(samples);
  return at::stack(samples);
}

/// True if only the caller can see the memory of the tensor, so that it may be changed in place.
inline bool is_only_owner(const at::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.has_storage() && tensor.storage().use_count() == 1 &&
         owns_memory(tensor) && !tensor.requires_grad() && tensor.is_non_overlapping_and_dense() &&
         (!tensor.is_inference() || c10::InferenceMode::is_enabled());
}

template <class Samples>
struct BatchOf {
  using type = Batch<Samples>;
};
template <class E>
struct BatchOf<std::vector<E>> {
  using type = std::vector<E>;
};

[[noreturn]] inline void throw_bad_shape(const std::string& transform, const std::string& expected,
                                         const at::Tensor& batch) {
  throw Error(ErrorCode::Mismatch, transform + " expects samples of shape " + expected +
                                       ", found shape " +
                                       python_tuple(batch.sizes().slice(1).vec()));
}

// The API reference shows this one: LibTorch calls it on every transform but Stack.
/// Calls `Self::transform(data, target)` for every form of batch. Axis 0 of both tensors is the
/// sample index; `target` is null if there is none.
template <class Self, class Samples>
class BatchWise : public torch::data::transforms::BatchTransform<typename BatchOf<Samples>::type,
                                                                 typename BatchOf<Samples>::type> {
  using Batch = typename BatchOf<Samples>::type;

 public:
  /// Transforms the batch; LibTorch's loader calls this.
  Batch apply_batch(Batch batch) override {
    auto& self = static_cast<Self&>(*this);
    self.begin();
    if constexpr (std::is_same_v<Batch, Samples>) {
      for (auto& example : batch) {
        at::Tensor data = example.data.unsqueeze(0);
        at::Tensor* const target = target_of(example);
        at::Tensor targets = target != nullptr ? target->unsqueeze(0) : at::Tensor();
        self.transform(data, target != nullptr ? &targets : nullptr);
        example.data = data.squeeze(0);
        if (target != nullptr) *target = targets.squeeze(0);
      }
    } else {
      if (batch.data.dim() == 0) {
        throw Error(ErrorCode::Mismatch,
                    "expected a batch with the sample index as axis 0, found a 0-d tensor");
      }
      self.transform(batch.data, target_of(batch));
    }
    return batch;
  }

 protected:
  void begin() {}

 private:
  template <class E>
  static at::Tensor* target_of(E& example) {
    if constexpr (std::is_void_v<typename E::TargetType>) {
      return nullptr;
    } else {
      return example.target.defined() ? &example.target : nullptr;
    }
  }

  friend Self;
};

// The API reference shows this one: users call with_target().
/// The common part of the transforms that draw random numbers for each sample.
template <class Self, class Samples>
class RandomBatchWise : public BatchWise<Self, Samples> {
 public:
  /// Whether a target that is an image changes with the data; the default is true.
  Self& with_target(bool value) {
    with_target_ = value;
    return static_cast<Self&>(*this);
  }

  /// For the derived class. @private
  explicit RandomBatchWise(const std::optional<at::Generator>& generator) : random_(generator) {}

 protected:
  void begin() { random_numbers_ = random_.next(); }

  /// Uniform in [0, 1).
  double draw() { return random_numbers_.uniform(); }

  /// Uniform in 0 ... max.
  std::int64_t draw(std::int64_t max) {
    return static_cast<std::int64_t>(random_numbers_.next() %
                                     (static_cast<std::uint64_t>(max) + 1));
  }

  /// The target if it is an image that changes with the data, else null.
  at::Tensor* image_target(at::Tensor* target, const at::Tensor& data) const {
    if (!with_target_ || target == nullptr || target->dim() < 3) return nullptr;
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

 private:
  bool with_target_ = true;
  BatchRandom random_;
  SplitMix64 random_numbers_;

  friend BatchWise<Self, Samples>;
};

// The API reference shows this one: between RandomBatchWise and the two flips.
/// Flips samples along one axis, each with probability `p`.
template <class Self, class Samples>
class RandomFlip : public RandomBatchWise<Self, Samples> {
 public:
  /// For the derived class. @private
  RandomFlip(const char* name, std::int64_t axis, double p,
             const std::optional<at::Generator>& generator)
      : RandomBatchWise<Self, Samples>(generator), name_(name), axis_(axis), p_(p) {
    if (!(p >= 0 && p <= 1)) {
      throw Error(ErrorCode::InvalidArgument,
                  name_ + " expects a probability between 0 and 1, found " + std::to_string(p));
    }
  }

  /// For the base class. @private
  void transform(at::Tensor& data, at::Tensor* target) {
    if (data.dim() < 3) throw_bad_shape(name_, "(..., H, W)", data);
    at::Tensor* const image = this->image_target(target, data);
    std::vector<std::int64_t> flipped;
    for (std::int64_t i = 0; i < data.size(0); ++i) {
      if (this->draw() < p_) flipped.push_back(i);
    }
    flip(data, flipped);
    if (image != nullptr) flip(*image, flipped);
  }

 private:
  void flip(at::Tensor& batch, const std::vector<std::int64_t>& flipped) const {
    if (flipped.empty()) return;
    if (!is_only_owner(batch)) batch = batch.clone();
    for (const std::int64_t i : flipped) {
      const at::Tensor sample = batch.select(0, i);
      sample.copy_(sample.flip(axis_));
    }
  }

  std::string name_;
  std::int64_t axis_;
  double p_;
};

}  // namespace detail

/// Transforms for the `.map()` of LibTorch's datasets; each processes a whole batch. The template
/// argument is the type of the batch:
///
/// - `Example<>` or `TensorExample`: a Batch of these, from Stack or `.stacked()`. This is the fast
///   way. `Example<>` is the default: `.map(ToTensor())`.
/// - `std::vector<Example<>>` or `std::vector<TensorExample>`: a list of samples, which may differ
///   in shape. Use it before Stack; after RandomCrop the samples can be stacked.
///
/// The shapes below are those of one sample; a Batch has the sample index as axis 0 before them.
///
/// A transform changes `data`. The random flips and RandomCrop also change a `target` that is an
/// image in the same way: one with two or more axes per sample (H x W, C x H x W).
/// with_target(false) keeps targets unchanged. If H and W of target and data differ, they throw
/// Error (Mismatch).
///
/// Every sample gets its own random numbers. A transform takes its seed when it is constructed:
/// from the given CPU generator, or from LibTorch's default one (torch::manual_seed()). For a batch
/// of this library's datasets, the random numbers depend on that seed, on the indices of its
/// samples, and on how many batches of the dataset and its copies have begun with the same first
/// sample. So a seed gives the same batches for any number of workers, if the dataset is new,
/// epochs are complete, and the sampler repeats no samples. With other datasets this holds only
/// without workers.
///
/// All transforms throw Error (Mismatch) for a batch of an unsupported shape or dtype. They may be
/// copied; use each copy from one thread at a time. The cost is linear in the size of the data. If
/// nothing else refers to a batch, and its dtype and shape do not change, it is changed in place.
namespace transforms {

/// Stacks the batch into one Example: samples of shape S become tensors of shape (batch size,
/// S...). Does not copy a batch of this library's datasets, unless an earlier transform made new
/// tensors. Throws Error (Mismatch) for an empty batch, and if samples differ in shape or dtype;
/// the message names two of their files if they are known.
template <class E = Example<>>
struct Stack : torch::data::transforms::BatchTransform<std::vector<E>, Batch<E>> {
  /// Stacks `examples`; LibTorch's loader calls this.
  Batch<E> apply_batch(std::vector<E> examples) override {
    const auto stack = [&](auto member) {
      std::vector<at::Tensor> samples;
      samples.reserve(examples.size());
      for (E& example : examples) samples.push_back(std::move(example.*member));
      return detail::stack_samples(samples);
    };
    if constexpr (std::is_void_v<typename E::TargetType>) {
      return Batch<E>(stack(&E::data));
    } else {
      return Batch<E>(stack(&E::data), stack(&E::target));
    }
  }
};

/// Flips images (..., H, W) horizontally, each with probability `p`. Keeps shape and dtype.
template <class Samples = Example<>>
struct RandomHorizontalFlip : detail::RandomFlip<RandomHorizontalFlip<Samples>, Samples> {
  /// Throws Error (InvalidArgument) if `p` is not between 0 and 1.
  explicit RandomHorizontalFlip(double p = 0.5,
                                const std::optional<at::Generator>& generator = std::nullopt)
      : detail::RandomFlip<RandomHorizontalFlip, Samples>("RandomHorizontalFlip", -1, p,
                                                          generator) {}
};

/// Flips images (..., H, W) vertically, each with probability `p`. Keeps shape and dtype.
template <class Samples = Example<>>
struct RandomVerticalFlip : detail::RandomFlip<RandomVerticalFlip<Samples>, Samples> {
  /// Throws Error (InvalidArgument) if `p` is not between 0 and 1.
  explicit RandomVerticalFlip(double p = 0.5,
                              const std::optional<at::Generator>& generator = std::nullopt)
      : detail::RandomFlip<RandomVerticalFlip, Samples>("RandomVerticalFlip", -2, p, generator) {}
};

/// Crops images (..., H, W) to `size` (height and width, or one number for both), at a random
/// position for each sample, after adding `padding` zeros at each edge. The result is (..., height,
/// width), of the same dtype, in new memory. Throws Error (Mismatch) for an image that is too small
/// even with padding.
template <class Samples = Example<>>
class RandomCrop : public detail::RandomBatchWise<RandomCrop<Samples>, Samples> {
 public:
  /// All sizes in pixels. Throws Error (InvalidArgument) if `size` is not one or two numbers from 1
  /// to 2^32, or `padding` is not from 0 to 2^32.
  explicit RandomCrop(c10::IntArrayRef size, std::int64_t padding = 0,
                      const std::optional<at::Generator>& generator = std::nullopt)
      : detail::RandomBatchWise<RandomCrop, Samples>(generator), padding_(padding) {
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

  /// For the base class. @private
  void transform(at::Tensor& data, at::Tensor* target) {
    if (data.dim() < 3) detail::throw_bad_shape("RandomCrop", "(..., H, W)", data);
    const std::int64_t down = data.size(-2) + 2 * padding_ - height_;
    const std::int64_t right = data.size(-1) + 2 * padding_ - width_;
    if (down < 0 || right < 0) {
      detail::throw_bad_shape("RandomCrop",
                              "(..., H, W) with at least " + std::to_string(height_) + " x " +
                                  std::to_string(width_) + " pixels after padding",
                              data);
    }
    at::Tensor* const image = this->image_target(target, data);
    std::vector<Corner> corners(static_cast<std::size_t>(data.size(0)));
    for (Corner& corner : corners) {
      corner.top = this->draw(down) - padding_;
      corner.left = this->draw(right) - padding_;
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
};

/// Images as they are usually stored, H x W x C or H x W, become C x H x W, contiguous. uint8
/// becomes float32 from 0 to 1; other dtypes keep their values. Same as torchvision's ToTensor for
/// NumPy arrays.
template <class Samples = Example<>>
struct ToTensor : detail::BatchWise<ToTensor<Samples>, Samples> {
  /// For the base class. @private
  void transform(at::Tensor& data, at::Tensor*) {
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
template <class Samples = Example<>>
class Normalize : public detail::BatchWise<Normalize<Samples>, Samples> {
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

  /// For the base class. @private
  void transform(at::Tensor& data, at::Tensor*) {
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
template <class Samples = Example<>>
class ToDtype : public detail::BatchWise<ToDtype<Samples>, Samples> {
 public:
  /// Throws nothing. If LibTorch cannot convert a batch, its exception is thrown for that batch.
  explicit ToDtype(c10::ScalarType dtype) : dtype_(dtype) {}

  /// For the base class. @private
  void transform(at::Tensor& data, at::Tensor*) { data = data.to(dtype_); }

 private:
  c10::ScalarType dtype_;
};

}  // namespace transforms
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_TRANSFORMS_HPP_
