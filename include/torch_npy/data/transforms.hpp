#ifndef TORCH_NPY_DATA_TRANSFORMS_HPP_
#define TORCH_NPY_DATA_TRANSFORMS_HPP_

/// @file
/// Transforms of whole batches: see torch_npy::transforms.

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
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The tensor of which `samples` are the rows, all of them and in order, when nobody else holds it:
/// then nobody can tell it from a copy. Undefined where there is none.
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

/// True when nobody but the caller can see the tensor's memory, so that it may be changed in place.
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

[[noreturn]] inline void refuse_shape(const char* transform, const char* wanted,
                                      const at::Tensor& batch) {
  throw Error(ErrorCode::Mismatch, std::string(transform) + " takes samples of " + wanted +
                                       ", these have shape " +
                                       python_tuple(batch.sizes().slice(1).vec()));
}

// The API reference shows this one: LibTorch calls it on every transform but Stack.
/// Brings every form of batch to `Self::transform(data, target)`, both with the sample index as
/// axis 0; `target` is null where there is none.
template <class Self, class Samples>
class BatchWise : public torch::data::transforms::BatchTransform<typename BatchOf<Samples>::type,
                                                                 typename BatchOf<Samples>::type> {
  using Batch = typename BatchOf<Samples>::type;

 public:
  /// The batch, changed: what LibTorch calls.
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
      if (batch.data.dim() == 0) throw Error(ErrorCode::Mismatch, "a batch without an axis");
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
/// What the transforms have in common that draw for each sample.
template <class Self, class Samples>
class RandomBatchWise : public BatchWise<Self, Samples> {
 public:
  /// Whether a target that is a picture changes with the data; true at first.
  Self& with_target(bool value) {
    with_target_ = value;
    return static_cast<Self&>(*this);
  }

  /// For the derived class. @private
  explicit RandomBatchWise(const std::optional<at::Generator>& generator) : random_(generator) {}

 protected:
  void begin() { engine_ = random_.next(); }

  /// Uniform in [0, 1).
  double draw() { return std::generate_canonical<double, 53>(engine_); }

  /// Uniform in 0 ... most.
  std::int64_t draw(std::int64_t most) {
    return static_cast<std::int64_t>(engine_() % (static_cast<std::uint64_t>(most) + 1));
  }

  /// The target, if it is a picture that is to change as the data do.
  at::Tensor* picture(at::Tensor* target, const at::Tensor& data) const {
    if (!with_target_ || target == nullptr || target->dim() < 3) return nullptr;
    if (target->size(0) != data.size(0)) {
      throw Error(ErrorCode::Mismatch, "a batch of " + std::to_string(data.size(0)) +
                                           " samples and " + std::to_string(target->size(0)) +
                                           " targets");
    }
    if (target->size(-2) == data.size(-2) && target->size(-1) == data.size(-1)) return target;
    throw Error(
        ErrorCode::Mismatch,
        "targets of two axes or more are taken for pictures, and have to be as high and wide "
        "as their data: these have shape " +
            python_tuple(target->sizes().slice(1).vec()) + ", the data " +
            python_tuple(data.sizes().slice(1).vec()) +
            "; with_target(false) leaves targets alone");
  }

 private:
  bool with_target_ = true;
  BatchRandom random_;
  std::mt19937_64 engine_;

  friend BatchWise<Self, Samples>;
};

// The API reference shows this one: between RandomBatchWise and the two flips.
/// Turns samples round along one axis, each with probability `p`.
template <class Self, class Samples>
class RandomFlip : public RandomBatchWise<Self, Samples> {
 public:
  /// For the derived class. @private
  RandomFlip(const char* name, std::int64_t axis, double p,
             const std::optional<at::Generator>& generator)
      : RandomBatchWise<Self, Samples>(generator), name_(name), axis_(axis), p_(p) {
    if (!(p >= 0 && p <= 1)) {
      throw Error(ErrorCode::InvalidArgument,
                  name_ + "(" + std::to_string(p) + "): a probability is between 0 and 1");
    }
  }

  /// For the base class. @private
  void transform(at::Tensor& data, at::Tensor* target) {
    if (data.dim() < 3) refuse_shape(name_.c_str(), "two axes or more, the last H and W", data);
    at::Tensor* const picture = this->picture(target, data);
    std::vector<std::int64_t> flipped;
    for (std::int64_t i = 0; i < data.size(0); ++i) {
      if (this->draw() < p_) flipped.push_back(i);
    }
    flip(data, flipped);
    if (picture != nullptr) flip(*picture, flipped);
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

/// Transforms for the `.map()` of LibTorch's datasets, each for whole batches at once. Their
/// template argument tells what they are given:
///
/// - `Example<>`, `TensorExample`: a Batch of these, from Stack or `.stacked()`. This is the fast
///   way, and `Example<>` need not be written: `.map(ToTensor())`.
/// - `std::vector<Example<>>`, or of `TensorExample`: samples one by one, which may differ in
/// shape.
///   That is before Stack; after RandomCrop they may be stacked.
///
/// The shapes named below are those of a sample; a Batch has the sample index in front.
///
/// A transform changes `data`. Those that move pixels about move a `target` that is a picture too,
/// which is one with two axes or more a sample (H x W, C x H x W), in the same way;
/// with_target(false) leaves it alone. One whose H and W are not those of its data is an Error
/// (Mismatch).
///
/// What is random is drawn anew for each sample, from a seed that is taken when the transform is
/// made, from the generator given, one for the CPU, or from LibTorch's default one
/// (torch::manual_seed()). What a batch of this library's datasets draws depends on that seed, on
/// its samples, and on how often a batch of the dataset or of a copy of it began with the first of
/// them. So a seed gives the same batches whatever the number of workers, for a dataset made anew,
/// as long as epochs run to their end and no sampler repeats samples. Under other datasets that
/// holds without workers.
///
/// All throw Error (Mismatch) for batches that they cannot take, and may be copied and used from
/// any thread, each copy from one at a time. Each takes time in proportion to the data. A batch
/// that nobody else holds is changed in place where dtype and shape stay.
namespace transforms {

/// Makes one Example of the batch: samples of shape S become tensors of shape (batch size, S...).
/// A batch of this library's datasets is handed on without a copy, as long as no transform before
/// has made new tensors. Samples of different shape or dtype, and a batch without any, are an Error
/// (Mismatch), which names two of their files where that is known.
template <class E = Example<>>
struct Stack : torch::data::transforms::BatchTransform<std::vector<E>, Batch<E>> {
  /// The batch of `examples`: what LibTorch calls.
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

/// Turns pictures (..., H, W) round from left to right, each with probability `p`. Shape and dtype
/// stay; no value changes.
template <class Samples = Example<>>
struct RandomHorizontalFlip : detail::RandomFlip<RandomHorizontalFlip<Samples>, Samples> {
  /// Throws Error (InvalidArgument) where `p` is not between 0 and 1.
  explicit RandomHorizontalFlip(double p = 0.5,
                                const std::optional<at::Generator>& generator = std::nullopt)
      : detail::RandomFlip<RandomHorizontalFlip, Samples>("RandomHorizontalFlip", -1, p,
                                                          generator) {}
};

/// Turns pictures (..., H, W) upside down, each with probability `p`. Shape and dtype stay; no
/// value changes.
template <class Samples = Example<>>
struct RandomVerticalFlip : detail::RandomFlip<RandomVerticalFlip<Samples>, Samples> {
  /// Throws Error (InvalidArgument) where `p` is not between 0 and 1.
  explicit RandomVerticalFlip(double p = 0.5,
                              const std::optional<at::Generator>& generator = std::nullopt)
      : detail::RandomFlip<RandomVerticalFlip, Samples>("RandomVerticalFlip", -2, p, generator) {}
};

/// Cuts a piece of `size` (height and width, or one number for both), at a place of its own for
/// each sample, out of pictures (..., H, W) with `padding` zeros added at each edge: they become
/// (..., height, width), of the same dtype, in new memory. A picture that is smaller even so is an
/// Error (Mismatch).
template <class Samples = Example<>>
class RandomCrop : public detail::RandomBatchWise<RandomCrop<Samples>, Samples> {
 public:
  /// All in pixels. Throws Error (InvalidArgument) where `size` is not one or two numbers from 1 to
  /// 2^32, or `padding` not one from 0 to 2^32.
  explicit RandomCrop(c10::IntArrayRef size, std::int64_t padding = 0,
                      const std::optional<at::Generator>& generator = std::nullopt)
      : detail::RandomBatchWise<RandomCrop, Samples>(generator), padding_(padding) {
    constexpr std::int64_t kMost = std::int64_t{1} << 32;
    if (size.empty() || size.size() > 2 || size.front() < 1 || size.back() < 1 || padding < 0 ||
        padding > kMost || size.front() > kMost || size.back() > kMost) {
      throw Error(ErrorCode::InvalidArgument,
                  "RandomCrop takes a height and a width from 1 to 2^32, or one number for both, "
                  "and a padding from 0 to 2^32");
    }
    height_ = size.front();
    width_ = size.back();
  }

  /// The same for `RandomCrop({28, 28})`.
  // It could also be a copy of RandomCrop(28, 28).
  explicit RandomCrop(std::initializer_list<std::int64_t> size, std::int64_t padding = 0,
                      const std::optional<at::Generator>& generator = std::nullopt)
      : RandomCrop(c10::IntArrayRef(size), padding, generator) {}

  /// For the base class. @private
  void transform(at::Tensor& data, at::Tensor* target) {
    if (data.dim() < 3) {
      detail::refuse_shape("RandomCrop", "two axes or more, the last H and W", data);
    }
    const std::int64_t down = data.size(-2) + 2 * padding_ - height_;
    const std::int64_t right = data.size(-1) + 2 * padding_ - width_;
    if (down < 0 || right < 0) {
      detail::refuse_shape("RandomCrop",
                           ("at least " + std::to_string(height_) + " x " + std::to_string(width_) +
                            " pixels with their padding")
                               .c_str(),
                           data);
    }
    at::Tensor* const picture = this->picture(target, data);
    std::vector<Place> places(static_cast<std::size_t>(data.size(0)));
    for (Place& place : places) {
      place.top = this->draw(down) - padding_;
      place.left = this->draw(right) - padding_;
    }
    data = crop(data, places);
    if (picture != nullptr) *picture = crop(*picture, places);
  }

 private:
  struct Place {
    std::int64_t top, left;  // in the picture without padding
  };

  at::Tensor crop(const at::Tensor& batch, const std::vector<Place>& places) const {
    std::vector<std::int64_t> sizes = batch.sizes().vec();
    sizes.end()[-2] = height_;
    sizes.end()[-1] = width_;
    const auto out =
        padding_ == 0 ? at::empty(sizes, batch.options()) : at::zeros(sizes, batch.options());
    for (std::size_t i = 0; i < places.size(); ++i) {
      const auto sample = static_cast<std::int64_t>(i);
      at::Tensor from = batch.select(0, sample);
      at::Tensor to = out.select(0, sample);
      cut(-2, places[i].top, height_, from, to);
      cut(-1, places[i].left, width_, from, to);
      to.copy_(from);
    }
    return out;
  }

  /// Narrows both to what the piece [begin, begin + length) and the picture have in common.
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

/// Pictures as they are stored, H x W x C or H x W, become C x H x W, contiguous. Bytes become
/// float32 from 0 to 1; other dtypes keep their values. As torchvision's ToTensor does for NumPy
/// arrays.
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
      detail::refuse_shape("ToTensor", "H x W x C or H x W", data);
    }
    if (data.scalar_type() == at::kByte) {
      at::Tensor out = at::empty(channels_first.sizes(), data.options().dtype(at::kFloat));
      data = out.copy_(channels_first).div_(255);
    } else {
      data = channels_first.contiguous();
    }
  }
};

/// (data - mean) / std, in the data's dtype, which has to be a floating one: with as many numbers
/// as pictures (..., C, H, W) have channels, each channel with its own; with one, for samples of
/// any shape. As torchvision's Normalize. Integers are an Error (Mismatch).
template <class Samples = Example<>>
class Normalize : public detail::BatchWise<Normalize<Samples>, Samples> {
 public:
  /// Throws Error (InvalidArgument) where there is no mean, not as many of one as of the other, or
  /// a std of 0.
  Normalize(c10::ArrayRef<double> mean, c10::ArrayRef<double> std)
      : mean_(mean.vec()), std_(std.vec()) {
    if (mean_.empty() || mean_.size() != std_.size() ||
        std::find(std_.begin(), std_.end(), 0.0) != std_.end()) {
      throw Error(ErrorCode::InvalidArgument,
                  "Normalize takes a mean and a std, not 0, for each channel, or one for all");
    }
  }

  /// For the base class. @private
  void transform(at::Tensor& data, at::Tensor*) {
    if (!data.is_floating_point()) {
      throw Error(ErrorCode::Mismatch, std::string("Normalize takes floating data, not ") +
                                           c10::toString(data.scalar_type()) +
                                           ": ToTensor or ToDtype before it converts");
    }
    std::vector<std::int64_t> shape;
    if (mean_.size() > 1) {
      const auto channels = static_cast<std::int64_t>(mean_.size());
      if (data.dim() < 4 || data.size(-3) != channels) {
        detail::refuse_shape(
            "Normalize", (std::to_string(channels) + " x H x W, a channel for each mean").c_str(),
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

/// Converts the data as Tensor::to() does; values stay what they are, as far as the dtype can hold
/// them.
template <class Samples = Example<>>
class ToDtype : public detail::BatchWise<ToDtype<Samples>, Samples> {
 public:
  /// Throws nothing; what LibTorch does not convert to, it throws about when a batch comes.
  explicit ToDtype(c10::ScalarType dtype) : dtype_(dtype) {}

  /// For the base class. @private
  void transform(at::Tensor& data, at::Tensor*) { data = data.to(dtype_); }

 private:
  c10::ScalarType dtype_;
};

}  // namespace transforms
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_TRANSFORMS_HPP_
