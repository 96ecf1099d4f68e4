#ifndef TORCH_NPY_DATA_TRANSFORM_HPP_
#define TORCH_NPY_DATA_TRANSFORM_HPP_

/// @file
/// Transform: what the transforms of batches have in common.

#include <ATen/core/Tensor.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/ArrayRef.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
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

/// Whether a target of this shape is an image that changes with its data: one with two or more
/// axes. Throws Error (Mismatch) unless it has the size of the data along the last axes, one for
/// each number in `cut`, of which those of -1 may differ.
inline bool is_image_target(c10::IntArrayRef target, c10::IntArrayRef data,
                            c10::IntArrayRef cut = {1, 1}) {
  if (target.size() < 2) return false;
  bool is_alike = target.size() >= cut.size();
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

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_TRANSFORM_HPP_
