#ifndef TORCH_NPY_DATA_TRANSFORM_HPP_
#define TORCH_NPY_DATA_TRANSFORM_HPP_

/// @file
/// Transform: what the transforms of batches have in common.

#include <ATen/core/Tensor.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
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
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True if only the caller can see the memory of the tensor, so that it may be changed in place.
inline bool is_only_owner(const at::Tensor& tensor) {
  return tensor.use_count() == 1 && tensor.has_storage() && tensor.storage().use_count() == 1 &&
         owns_memory(tensor) && !tensor.requires_grad() && tensor.is_non_overlapping_and_dense() &&
         (!tensor.is_inference() || c10::InferenceMode::is_enabled());
}

[[noreturn]] inline void throw_bad_shape(const std::string& transform, const std::string& expected,
                                         const at::Tensor& batch, const char* more = "") {
  throw Error(ErrorCode::Mismatch, transform + " expects samples of shape " + expected +
                                       ", found shape " +
                                       python_tuple(batch.sizes().slice(1).vec()) + more);
}

/// Whether an axis of this size may be that of the channels of images: gray, RGB, RGBA.
inline bool is_channel_count(std::int64_t size) { return size == 1 || size == 3 || size == 4; }

/// Whether a sample of this shape seems to be an image (H, W, C), and not (C, H, W).
inline bool seems_channels_last(c10::IntArrayRef sample) {
  return sample.size() == 3 && is_channel_count(sample[2]) && !is_channel_count(sample[0]);
}
/// The same for the samples of a batch.
inline bool seems_channels_last(const at::Tensor& batch) {
  return batch.dim() == 4 && seems_channels_last(batch.sizes().slice(1));
}

/// Whether a target of this shape is an image that changes with its data: one with two or more
/// axes. Throws Error (Mismatch) unless it has the size of the data along the last axes, one for
/// each number in `cut`, of which those of -1 may differ.
inline bool is_image_target(c10::IntArrayRef target, c10::IntArrayRef data,
                            c10::IntArrayRef cut = {1, 1}) {
  if (target.size() < 2) return false;
  bool is_alike = target.size() >= cut.size() && data.size() >= cut.size();
  for (std::size_t i = 1; is_alike && i <= cut.size(); ++i) {
    is_alike = cut.end()[-static_cast<std::ptrdiff_t>(i)] == -1 ||
               target[target.size() - i] == data[data.size() - i];
  }
  if (is_alike) return true;
  throw Error(
      ErrorCode::Mismatch,
      "targets with two or more axes are treated as images and must have the " +
          (cut.size() == 2 ? "height and width"
                           : "sizes along the last " + std::to_string(cut.size()) + " axes") +
          " of their data: found targets of shape " + python_tuple(target.vec()) +
          " and data of shape " + python_tuple(data.vec()) +
          "; with_target(false) keeps targets unchanged");
}

/// The target if it is an image that changes with the data, else null. `cut`: see
/// is_image_target().
inline at::Tensor* image_target(at::Tensor* target, const at::Tensor& data,
                                c10::IntArrayRef cut = {1, 1}) {
  if (target == nullptr || target->dim() < 3) return nullptr;
  if (target->size(0) != data.size(0)) {
    throw Error(ErrorCode::Mismatch,
                "expected one target for each sample, found " +
                    counted(static_cast<std::uint64_t>(data.size(0)), "sample") + " and " +
                    counted(static_cast<std::uint64_t>(target->size(0)), "target"));
  }
  return is_image_target(target->sizes().slice(1), data.sizes().slice(1), cut) ? target : nullptr;
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
/// on() names the tensors to change. Samples with names need it:
///
///     dataset.map(Normalize(mean, std).on("image")).map(RandomVerticalFlip().on({"image",
///     "mask"}))
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
/// All transforms throw Error (Mismatch) for a batch of an unsupported shape or dtype, and
/// Dataset::map() throws Error if a transform does not fit the type of the samples: InvalidArgument
/// if samples with names need on(), NotFound if on() names what an Example does not have. They may
/// be copied, and used from any thread. The cost is linear in the size of the data. If nothing else
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
  /// none. With on(), called for each array as `data`, without a target. Called by any number of
  /// threads at once.
  virtual void apply(at::Tensor& data, at::Tensor* target, const Draws& draws) const = 0;

  /// How many of the last axes must have the same sizes in all arrays of a sample that on() names:
  /// by default 2, height and width, for a transform with random numbers, and none for others.
  virtual std::size_t common_axes() const { return is_random_ ? 2 : 0; }

  /// Changes a list of samples or a stacked batch, and returns it; the `.map()` of LibTorch's own
  /// datasets calls it. Their batches have no names, so random numbers are reproducible only
  /// without workers.
  template <class B>
  B apply_batch(B batch);

  /// The seed for loaders that have none.
  std::uint64_t seed() const noexcept { return seed_; }
  /// The arrays that on() named, in order; none if it was not called.
  const std::vector<std::string>& arrays() const noexcept { return arrays_; }

 protected:
  /// Without random numbers.
  Transform() = default;
  /// With a seed.
  explicit Transform(std::uint64_t seed) : seed_(seed), is_random_(true) {}

 private:
  template <class Derived>
  friend class OnArrays;

  std::uint64_t seed_ = 0;
  bool is_random_ = false;
  std::vector<std::string> arrays_;
  std::shared_ptr<std::atomic<std::uint64_t>> batches_ =
      std::make_shared<std::atomic<std::uint64_t>>(0);  // of LibTorch's datasets
};

}  // namespace transforms

namespace detail {

/// A tensor of a sample or batch; those of an Example are called "data" and "target". Throws Error
/// (NotFound) if there is none with this name.
template <class E>
at::Tensor& tensor_named(E& sample, const std::string& name) {
  if constexpr (std::is_same_v<E, NamedExample>) {
    return sample[name];
  } else {
    at::Tensor* found = nullptr;
    SampleTensors<E>::each(sample, [&](const std::string& other, at::Tensor& tensor) {
      if (other == name) found = &tensor;
    });
    if (found != nullptr) return *found;
    throw Error(ErrorCode::NotFound, "no tensor " + in_quotes(name) +
                                         " in these samples; they have \"data\"" +
                                         (kHasTarget<E> ? " and \"target\"" : ""));
  }
}

/// Throws Error if samples of type E do not tell which of their tensors `transform` changes:
/// InvalidArgument without on() for samples with names, NotFound for a name that no E has.
template <class E>
void require_arrays(const transforms::Transform& transform) {
  if constexpr (std::is_same_v<E, NamedExample>) {
    if (!transform.arrays().empty()) return;
    throw Error(ErrorCode::InvalidArgument,
                "a transform of samples with names has to name the tensors that it changes: add "
                ".on(\"image\") or .on({\"image\", \"mask\"}) to it");
  } else {
    E sample;
    for (const std::string& name : transform.arrays()) (void)tensor_named(sample, name);
  }
}

inline void require_sample_axis(const at::Tensor& batch) {
  if (batch.defined() && batch.dim() != 0) return;
  throw Error(ErrorCode::Mismatch,
              std::string("expected a batch with the sample index as axis 0, found ") +
                  (batch.defined() ? "a 0-d tensor" : "no tensor"));
}

/// Throws Error (Mismatch) if the arrays of one sample cannot be changed by the same random
/// numbers.
inline void require_common_axes(const transforms::Transform& transform, const at::Tensor& first,
                                const at::Tensor& other) {
  const auto count = static_cast<std::int64_t>(transform.common_axes());
  bool is_alike = first.size(0) == other.size(0);
  if (count != 0) is_alike = is_alike && first.dim() > count && other.dim() > count;
  for (std::int64_t axis = 1; is_alike && axis <= count; ++axis) {
    is_alike = first.size(-axis) == other.size(-axis);
  }
  if (is_alike) return;
  throw Error(
      ErrorCode::Mismatch,
      "expected the number of samples" +
          (count == 0 ? "" : " and the sizes of the last " + std::to_string(count) + " axes") +
          " of tensor " + in_quotes(transform.arrays()[0]) + ", which has shape " +
          python_tuple(first.sizes().vec()) + ", found shape " + python_tuple(other.sizes().vec()));
}

/// To each of the tensors that on() named, with the same random numbers.
inline void apply_to_arrays(const transforms::Transform& transform,
                            const std::vector<at::Tensor*>& tensors, const Draws& draws) {
  const auto for_each = [&](const auto& call) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      with_part("tensor", transform.arrays()[i], [&] { call(*tensors[i]); });
    }
  };
  for_each([&](const at::Tensor& tensor) {
    require_sample_axis(tensor);
    require_common_axes(transform, *tensors[0], tensor);
  });
  for_each([&](at::Tensor& tensor) { transform.apply(tensor, nullptr, draws); });
}

/// To a stacked batch.
template <class E>
void apply_to(const transforms::Transform& transform, Batch<E>& batch, const Draws& draws) {
  require_arrays<E>(transform);
  if (!transform.arrays().empty()) {
    std::vector<at::Tensor*> tensors;
    for (const std::string& name : transform.arrays()) {
      tensors.push_back(&tensor_named(static_cast<E&>(batch), name));
    }
    return apply_to_arrays(transform, tensors, draws);
  }
  if constexpr (!std::is_same_v<E, NamedExample>) {
    require_sample_axis(batch.data);
    at::Tensor* target = nullptr;
    if constexpr (kHasTarget<E>) {
      if (batch.target.defined()) target = &batch.target;
    }
    transform.apply(batch.data, target, draws);
  }
}

/// To one sample, as a batch of one.
template <class E>
void apply_to_sample(const transforms::Transform& transform, E& sample, const Draws& draws) {
  Batch<E> one(std::exchange(sample, E()));
  const auto change_each = [&](const auto& change) {
    SampleTensors<E>::each(static_cast<E&>(one), [&](const std::string& name, at::Tensor& tensor) {
      const auto& names = transform.arrays();
      const bool is_named = std::find(names.begin(), names.end(), name) != names.end();
      if (tensor.defined() && (names.empty() || is_named)) tensor = change(tensor);
    });
  };
  change_each([](const at::Tensor& tensor) { return tensor.unsqueeze(0); });
  apply_to(transform, one, draws);
  change_each([](const at::Tensor& tensor) { return tensor.squeeze(0); });
  sample = std::move(static_cast<E&>(one));
}

/// To each sample of a list.
template <class E>
void apply_to(const transforms::Transform& transform, std::vector<E>& samples, const Draws& draws) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    apply_to_sample(transform, samples[i], draws.from(i));
  }
}

/// The number of samples that a transform changes.
template <class E>
std::size_t count_of(const transforms::Transform&, const std::vector<E>& samples) {
  return samples.size();
}
template <class E>
std::size_t count_of(const transforms::Transform& transform, Batch<E>& batch) {
  require_arrays<E>(transform);
  const auto& names = transform.arrays();
  const at::Tensor first =
      tensor_named(static_cast<E&>(batch), names.empty() ? std::string("data") : names[0]);
  return first.defined() && first.dim() != 0 ? static_cast<std::size_t>(first.size(0)) : 0;
}

}  // namespace detail

namespace transforms {

template <class B>
B Transform::apply_batch(B batch) {
  Request request;
  request.epoch = (*batches_)++;
  request.picks.resize(detail::count_of(*this, batch));
  for (std::size_t i = 0; i < request.picks.size(); ++i) request.picks[i].position = i;
  detail::apply_to(*this, batch, Draws(request, 0, seed_));
  return batch;
}

/// on(), for Transforms and PadStack: `class MyTransform : public Transform, public
/// OnArrays<MyTransform>`.
template <class Derived>
class OnArrays {
 public:
  /// The tensors of a sample to use: those of a NamedExample, or "data" and "target" of an Example.
  /// A transform changes each of them as it changes `data`, and with the same random numbers.
  /// Throws Error (InvalidArgument) if there is no name, or the same name twice.
  Derived& on(std::vector<std::string> names) {
    if (names.empty() || detail::first_duplicate({names.begin(), names.end()})) {
      throw Error(ErrorCode::InvalidArgument,
                  "on() expects the names of tensors, each of them once");
    }
    static_cast<Derived&>(*this).arrays_ = std::move(names);
    return static_cast<Derived&>(*this);
  }
  /// One tensor.
  Derived& on(const std::string& name) { return on(std::vector<std::string>{name}); }
  /// The same for `on({"image", "mask"})`.
  // Without it, two names would be taken for the two iterators of one std::string.
  Derived& on(std::initializer_list<const char*> names) {
    return on(std::vector<std::string>(names.begin(), names.end()));
  }

 private:
  OnArrays() = default;
  friend Derived;
};

}  // namespace transforms

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_TRANSFORM_HPP_
