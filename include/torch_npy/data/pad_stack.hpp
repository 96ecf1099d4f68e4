#ifndef TORCH_NPY_DATA_PAD_STACK_HPP_
#define TORCH_NPY_DATA_PAD_STACK_HPP_

/// @file
/// PadStack: samples of different length become one batch.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_tensors.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/region.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace transforms {

/// What PadStack does with a sample that is longer than max_length().
enum class TooLong {
  Throw,     ///< throws Error (TooLarge), which names the file if it is known
  Truncate,  ///< removes its end
};

}  // namespace transforms

namespace detail {

/// How PadStack pads a tensor of the samples.
struct Padding {
  at::Scalar value = 0;
  std::int64_t axis = 0;
  std::int64_t multiple_of = 1;
  std::optional<std::int64_t> max_length;
  transforms::TooLong too_long = transforms::TooLong::Throw;
};

/// A padding value as a tensor of one element. Throws Error (InvalidArgument) if the dtype cannot
/// hold it: LibTorch would make 255 of -1, and 0 of 0.5.
inline at::Tensor padding_element(const at::Scalar& value, c10::ScalarType dtype) {
  at::Tensor element = exact_scalar(value, dtype);
  if (element.defined()) return element;
  throw Error(ErrorCode::InvalidArgument,
              std::string("PadStack cannot pad tensors of dtype ") + c10::toString(dtype) +
                  " with the value " +
                  (value.isComplex() ? "of a complex number" : std::to_string(value.toDouble())) +
                  "; value(name, v) sets another value for one tensor");
}

/// The axis that is padded, counted from 0. Throws Error (Mismatch) if the samples differ in
/// anything else.
inline std::int64_t padded_axis(const std::vector<at::Tensor>& samples, std::int64_t axis) {
  const at::Tensor& first = samples[0];
  const auto sizes_but = [&](const at::Tensor& tensor, std::int64_t left_out) {
    std::vector<std::int64_t> sizes = tensor.sizes().vec();
    sizes.erase(sizes.begin() + left_out);
    return sizes;
  };
  const auto describe = [](const at::Tensor& tensor) {
    if (!tensor.defined()) return std::string("no tensor");
    const std::string origin = origin_of(tensor);
    return (origin.empty() ? "" : origin + " has ") + "shape " +
           python_tuple(tensor.sizes().vec()) + " and dtype " + c10::toString(tensor.scalar_type());
  };
  const std::int64_t wanted =
      axis < 0 && first.defined() && axis + first.dim() >= 0 ? axis + first.dim() : axis;
  for (const at::Tensor& sample : samples) {
    const bool has_axis = first.defined() && wanted >= 0 && wanted < first.dim();
    if (has_axis && sample.defined() && sample.dim() == first.dim() &&
        sample.scalar_type() == first.scalar_type() && sample.device() == first.device() &&
        sizes_but(sample, wanted) == sizes_but(first, wanted)) {
      continue;
    }
    throw Error(ErrorCode::Mismatch,
                "PadStack expects samples that differ only in the size of axis " +
                    std::to_string(axis) + ": " + describe(first) + ", " + describe(sample) +
                    "; axis(name, n) chooses another axis");
  }
  return wanted;
}

/// The lengths that the samples have in the batch. Throws Error (TooLarge) for one that is too
/// long.
inline std::vector<std::int64_t> padded_lengths(const std::vector<at::Tensor>& samples,
                                                std::int64_t axis, const Padding& padding) {
  std::vector<std::int64_t> lengths;
  lengths.reserve(samples.size());
  for (const at::Tensor& sample : samples) {
    const std::int64_t length = sample.size(axis);
    const std::int64_t max = padding.max_length.value_or(length);
    if (length > max && padding.too_long == transforms::TooLong::Throw) {
      const std::string origin = origin_of(sample);
      throw Error(ErrorCode::TooLarge,
                  "PadStack expects samples of at most max_length(" + std::to_string(max) +
                      "), found " + (origin.empty() ? "one" : origin) + " of length " +
                      std::to_string(length) +
                      "; max_length(n, TooLong::Truncate) removes the end of longer samples");
    }
    lengths.push_back((std::min)(length, max));
  }
  return lengths;
}

/// Fills memory with copies of an element.
inline void fill_with(char* out, std::size_t bytes, const char* element, std::size_t size) {
  if (std::all_of(element, element + size, [&](char byte) { return byte == element[0]; })) {
    if (bytes != 0) std::memset(out, element[0], bytes);
    return;
  }
  for (std::size_t filled = 0; filled < bytes;) {  // doubles what is there
    const std::size_t next = filled == 0 ? size : (std::min)(filled, bytes - filled);
    std::memcpy(out + filled, filled == 0 ? element : out, next);
    filled += next;
  }
}

/// Copies plain samples to the rows of `out`, which is in C order, and pads them.
inline void pad_bytes(const std::vector<at::Tensor>& samples,
                      const std::vector<std::int64_t>& lengths, std::int64_t axis,
                      const at::Tensor& element, const at::Tensor& out) {
  if (out.numel() == 0) return;
  const auto size = static_cast<std::size_t>(out.element_size());
  const auto item = size * static_cast<std::size_t>(out.stride(axis + 1));
  const std::size_t run = item * static_cast<std::size_t>(out.size(axis + 1));
  const std::size_t runs = out.nbytes() / run / samples.size();
  char* to = static_cast<char*>(out.data_ptr());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const at::Tensor sample = samples[i].contiguous();
    const char* from = static_cast<const char*>(sample.data_ptr());
    const std::size_t copied = item * static_cast<std::size_t>(lengths[i]);
    for (std::size_t k = 0; k < runs; ++k, to += run) {
      if (copied != 0) std::memcpy(to, from, copied);
      fill_with(to + copied, run - copied, static_cast<const char*>(element.data_ptr()), size);
      from += item * static_cast<std::size_t>(sample.size(axis));
    }
  }
}

/// The same for all other tensors.
inline void pad_tensors(const std::vector<at::Tensor>& samples,
                        const std::vector<std::int64_t>& lengths, std::int64_t axis,
                        const at::Scalar& value, const at::Tensor& out) {
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const at::Tensor row = out.select(0, static_cast<std::int64_t>(i));
    row.narrow(axis, 0, lengths[i]).copy_(samples[i].narrow(axis, 0, lengths[i]));
    row.narrow(axis, lengths[i], row.size(axis) - lengths[i]).fill_(value);
  }
}

/// Stacks samples that may differ in the size of one axis; sets `lengths`.
inline at::Tensor pad_samples(const std::vector<at::Tensor>& samples, const Padding& padding,
                              BufferPool& pool, at::Tensor& lengths) {
  const at::Tensor& first = samples[0];
  const std::int64_t axis = padded_axis(samples, padding.axis);
  const at::Tensor element = padding_element(padding.value, first.scalar_type());
  const std::vector<std::int64_t> all = padded_lengths(samples, axis, padding);
  const std::int64_t longest = *std::max_element(all.begin(), all.end());
  const std::int64_t step = padding.multiple_of;
  const std::int64_t padded = (longest + step - 1) / step * step;
  lengths = at::tensor(all, at::kLong).to(first.device());
  if (padded == longest && longest == first.size(axis)) {
    at::Tensor whole = whole_of(samples);  // nothing to pad, and nothing to copy
    if (whole.defined()) return whole;
  }
  std::vector<std::int64_t> sizes = first.sizes().vec();
  sizes[static_cast<std::size_t>(axis)] = padded;
  sizes.insert(sizes.begin(), static_cast<std::int64_t>(samples.size()));
  const auto bytes = checked_bytes(sizes, static_cast<std::int64_t>(first.element_size()));
  if (!bytes) {
    throw Error(ErrorCode::TooLarge, "PadStack: a batch of shape " + python_tuple(sizes) +
                                         " has more bytes than can be counted");
  }
  if (!std::all_of(samples.begin(), samples.end(), is_plain)) {
    const at::Tensor out = at::empty(sizes, first.options());
    pad_tensors(samples, all, axis, padding.value, out);
    return out;
  }
  at::Tensor out = empty_from(pool, static_cast<std::size_t>(*bytes), first.scalar_type(), sizes,
                              dense_strides(sizes, /*fortran_order=*/false), /*pinned=*/false);
  pad_bytes(samples, all, axis, element, out);
  return out;
}

}  // namespace detail

namespace transforms {

/// Stacks samples of different length, as torch.nn.utils.rnn.pad_sequence(batch_first=True) does:
/// tensors of shape (length, S...) become one of shape (batch size, longest length, S...), padded
/// at the end with a value. The result is a PaddedBatch, which also has the lengths.
///
///     dataset.map(PadStack());                        // batch.data, batch.lengths
///     dataset.map(PadStack().axis("data", 1).multiple_of(8).max_length(512));
///     dataset.map(PadStack().on({"tokens", "mask"})); // batch["tokens"], batch.lengths["tokens"]
///
/// By default all tensors of a sample are padded, each to its own longest one. Those that are 0-d,
/// such as labels, are stacked; `data` must not be 0-d. With on(), the named tensors are padded,
/// and the others stacked.
///
/// A setter without a name is for all tensors, also for those that were set by name before. Setters
/// with a name are for one: "data" and "target" of an Example, or any tensor of a NamedExample.
///
/// Throws Error: Mismatch for an empty batch, and if samples differ in anything but the size of one
/// axis; TooLarge for a sample longer than max_length(); NotFound if a setter or on() names a
/// tensor that the samples do not have; InvalidArgument if the dtype of a tensor cannot hold its
/// padding value. May be used from any thread. Copies share the memory for the next batches. Costs
/// one copy of each sample; nothing is copied if a batch needs no padding.
class PadStack : public OnArrays<PadStack> {
 public:
  /// With the values that fill the padding, in the dtype of the tensor: `target_value` that of
  /// "target", `data_value` that of all other tensors.
  explicit PadStack(at::Scalar data_value = 0, at::Scalar target_value = 0) {
    all_.value = std::move(data_value);
    named("target").value = std::move(target_value);
  }

  /// The value that fills the padding.
  PadStack& value(const at::Scalar& value) {
    return set([&](detail::Padding& padding) { padding.value = value; });
  }
  /// The same for one tensor.
  PadStack& value(const std::string& name, const at::Scalar& value) {
    named(name).value = value;
    return *this;
  }

  /// The axis of a sample that is padded; 0 if not set. Negative numbers count from the last axis.
  PadStack& axis(std::int64_t axis) {
    return set([&](detail::Padding& padding) { padding.axis = axis; });
  }
  /// The same for one tensor.
  PadStack& axis(const std::string& name, std::int64_t axis) {
    named(name).axis = axis;
    return *this;
  }

  /// Pads to a multiple of `n`, from 1 to 2^32.
  PadStack& multiple_of(std::int64_t n) {
    require_in_range("multiple_of", n);
    return set([&](detail::Padding& padding) { padding.multiple_of = n; });
  }
  /// The same for one tensor.
  PadStack& multiple_of(const std::string& name, std::int64_t n) {
    require_in_range("multiple_of", n);
    named(name).multiple_of = n;
    return *this;
  }

  /// The largest length of a sample, from 1 to 2^32, before it is padded; and what happens to a
  /// longer one.
  PadStack& max_length(std::int64_t n, TooLong too_long = TooLong::Throw) {
    require_in_range("max_length", n);
    return set([&](detail::Padding& padding) {
      padding.max_length = n;
      padding.too_long = too_long;
    });
  }
  /// The same for one tensor.
  PadStack& max_length(const std::string& name, std::int64_t n, TooLong too_long = TooLong::Throw) {
    require_in_range("max_length", n);
    named(name).max_length = n;
    named(name).too_long = too_long;
    return *this;
  }

  /// Pads and stacks `samples`: Example<>, TensorExample or NamedExample.
  template <class E>
  PaddedBatch<E> operator()(std::vector<E> samples) const {
    static_assert(detail::kStackable<E>,
                  "PadStack expects samples of Example<>, TensorExample or NamedExample");
    if (!samples.empty()) require_names(samples[0]);
    std::vector<NamedExample::Item> lengths;
    PaddedBatch<E> batch(static_cast<E&&>(detail::join_examples(
        std::move(samples), [&](const std::string& name, const std::vector<at::Tensor>& tensors) {
          return detail::with_part("tensor", name, [&] {
            const bool may_be_0d = std::is_same_v<E, NamedExample> || name != "data";
            at::Tensor own_lengths;
            at::Tensor joined = join(name, tensors, may_be_0d, own_lengths);
            if (own_lengths.defined()) lengths.emplace_back(name, std::move(own_lengths));
            return joined;
          });
        })));
    if constexpr (std::is_same_v<E, NamedExample>) {
      batch.lengths = NamedExample(std::move(lengths));
    } else {
      for (auto& [name, tensor] : lengths) {
        (name == "data" ? batch.lengths : batch.target_lengths) = std::move(tensor);
      }
    }
    return batch;
  }

 private:
  friend OnArrays<PadStack>;

  static void require_in_range(const char* setter, std::int64_t n) {
    if (n >= 1 && n <= std::int64_t{1} << 32) return;
    throw Error(ErrorCode::InvalidArgument, std::string("PadStack: ") + setter +
                                                "() expects a number from 1 to 2^32, found " +
                                                std::to_string(n));
  }

  template <class Setter>
  PadStack& set(const Setter& setter) {
    setter(all_);
    for (auto& [name, padding] : named_) setter(padding);
    return *this;
  }
  detail::Padding& named(const std::string& name) {
    return named_.try_emplace(name, all_).first->second;
  }

  template <class E>
  void require_names(E& sample) const {
    for (const auto& [name, padding] : named_) {
      if (name != "target") (void)detail::tensor_named(sample, name);
    }
    for (const std::string& name : arrays_) (void)detail::tensor_named(sample, name);
  }

  at::Tensor join(const std::string& name, const std::vector<at::Tensor>& tensors, bool may_be_0d,
                  at::Tensor& lengths) const {
    const auto is_undefined = [](const at::Tensor& tensor) { return !tensor.defined(); };
    if (may_be_0d && std::all_of(tensors.begin(), tensors.end(), is_undefined)) return {};
    const bool is_chosen = std::find(arrays_.begin(), arrays_.end(), name) != arrays_.end();
    const bool is_0d = tensors[0].defined() && tensors[0].dim() == 0;
    if (!is_chosen && (!arrays_.empty() || (may_be_0d && is_0d))) {
      return detail::stack_samples(tensors);
    }
    const auto own = named_.find(name);
    return detail::pad_samples(tensors, own == named_.end() ? all_ : own->second, *pool_, lengths);
  }

  detail::Padding all_;
  std::map<std::string, detail::Padding> named_;
  std::vector<std::string> arrays_;
  std::shared_ptr<detail::BufferPool> pool_ = detail::make_pool();
};

}  // namespace transforms
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PAD_STACK_HPP_
