#ifndef TORCH_NPY_DATA_ROWS_HPP_
#define TORCH_NPY_DATA_ROWS_HPP_

/// @file
/// SampleRows: the samples of a batch as a source reads them.

#include <ATen/core/Tensor.h>
#include <ATen/ops/stack.h>
#include <c10/core/Layout.h>
#include <c10/util/StringUtil.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The rows of `whole` along axis 0.
inline std::vector<at::Tensor> rows_of(const at::Tensor& whole) {
  if (whole.is_quantized() || whole.layout() != c10::kStrided) return whole.unbind();
  if (whole.requires_grad()) return whole.unbind();
  std::vector<at::Tensor> rows;
  rows.reserve(static_cast<std::size_t>(whole.size(0)));
  for (std::int64_t i = 0; i < whole.size(0); ++i) {
    rows.push_back(view_of(whole, whole.storage_offset() + i * whole.stride(0),
                           whole.sizes().slice(1), whole.strides().slice(1)));
  }
  return rows;
}

/// Refuses to stack samples that differ: at::stack() would promote their dtypes silently.
inline void require_alike(const std::vector<at::Tensor>& samples) {
  if (samples.empty()) {
    throw Error(
        ErrorCode::Mismatch,
        "a batch without samples cannot be stacked: were all of its files bad and skipped?");
  }
  for (const at::Tensor& sample : samples) {
    if (sample.defined()) continue;
    throw Error(ErrorCode::Mismatch,
                "a sample without a tensor cannot be stacked; an Example without a target is a "
                "TensorExample");
  }
  const auto name = [&](std::size_t i) {
    const std::string origin = origin_of(samples[i]);
    return origin.empty() ? "sample " + std::to_string(i) + " of the batch" : origin;
  };
  const auto fail = [&](std::size_t i, const std::string& first, const std::string& other) {
    throw Error(ErrorCode::Mismatch, "samples that differ cannot be stacked: " + name(0) + " has " +
                                         first + ", " + name(i) + " has " + other);
  };
  for (std::size_t i = 1; i < samples.size(); ++i) {
    if (samples[i].layout() != samples[0].layout()) {
      fail(i, "layout " + c10::str(samples[0].layout()),
           "layout " + c10::str(samples[i].layout()) + "; to_dense() converts");
    }
    if (samples[i].device() != samples[0].device()) {
      fail(i, "device " + samples[0].device().str(),
           "device " + samples[i].device().str() + "; to(device) moves");
    }
    if (samples[i].sizes() != samples[0].sizes()) {
      fail(i, "shape " + python_tuple(samples[0].sizes().vec()),
           "shape " + python_tuple(samples[i].sizes().vec()) +
               "; PadStack pads samples of different length, Resize and RandomCrop make images "
               "alike, and without stacked() a batch is a list of samples");
    }
    if (samples[i].scalar_type() != samples[0].scalar_type()) {
      fail(i, std::string("dtype ") + c10::toString(samples[0].scalar_type()),
           c10::toString(samples[i].scalar_type()) + std::string("; the option dtype() converts"));
    }
  }
}

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

/// How the tensors of a sample type are reached: the types that can be stacked.
/// `each(sample, call)` calls `call(name, tensor)` for each tensor, always in the same order.
template <class E>
struct SampleTensors {
  static constexpr bool kStackable = false;
};

template <>
struct SampleTensors<TensorExample> {
  static constexpr bool kStackable = true;

  template <class Sample, class Call>
  static void each(Sample& sample, const Call& call) {
    call("data", sample.data);
  }
};

template <>
struct SampleTensors<Example<>> {
  static constexpr bool kStackable = true;

  template <class Sample, class Call>
  static void each(Sample& sample, const Call& call) {
    call("data", sample.data);
    call("target", sample.target);
  }
};

template <>
struct SampleTensors<NamedExample> {
  static constexpr bool kStackable = true;

  template <class Sample, class Call>
  static void each(Sample& sample, const Call& call) {
    for (auto& [name, tensor] : sample.items()) call(name, tensor);
  }
};

template <class E>
constexpr bool kStackable = SampleTensors<E>::kStackable;

template <class E>
constexpr bool kHasTarget = false;
template <>
inline constexpr bool kHasTarget<Example<>> = true;

/// Names, shapes and dtypes of the tensors of a sample: equal for samples that can be stacked.
template <class E>
std::string layout_of(const E& sample) {
  std::string layout;
  SampleTensors<E>::each(sample, [&](const std::string& name, const at::Tensor& tensor) {
    if (!layout.empty()) layout += ", ";
    layout += name + ": ";
    if (!tensor.defined()) return;
    layout += "shape " + python_tuple(tensor.sizes().vec()) + " and dtype " +
              c10::toString(tensor.scalar_type());
  });
  return layout;
}

/// The tensors number `k` of all samples, taken out of them.
template <class E>
std::vector<at::Tensor> take_tensors(std::vector<E>& samples, std::size_t k) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(samples.size());
  for (E& sample : samples) {
    std::size_t number = 0;
    SampleTensors<E>::each(sample, [&](const std::string&, at::Tensor& tensor) {
      if (number++ == k) tensors.push_back(std::move(tensor));
    });
  }
  return tensors;
}

/// Throws Error (Mismatch) if samples have other names, or their names in another order.
inline void require_same_names(const std::vector<NamedExample>& samples) {
  for (const NamedExample& sample : samples) {
    bool same = sample.items().size() == samples[0].items().size();
    for (std::size_t k = 0; same && k < sample.items().size(); ++k) {
      same = sample.items()[k].first == samples[0].items()[k].first;
    }
    if (!same) {
      throw Error(ErrorCode::Mismatch, "samples with different names cannot be stacked: " +
                                           layout_of(samples[0]) + "; and " + layout_of(sample));
    }
  }
}

/// Samples as one Example, whose tensors `join(name, tensors)` makes from those of all samples.
/// Throws Error (Mismatch) if there are no samples, or if they have different names.
template <class E, class Join>
Batch<E> join_examples(std::vector<E> samples, const Join& join) {
  if (samples.empty()) require_alike({});
  if constexpr (std::is_same_v<E, NamedExample>) require_same_names(samples);
  Batch<E> batch(samples[0]);
  std::vector<std::pair<std::string, at::Tensor*>> out;
  SampleTensors<E>::each(static_cast<E&>(batch), [&](const std::string& name, at::Tensor& tensor) {
    tensor = at::Tensor();  // another owner would make whole_of() copy
    out.emplace_back(name, &tensor);
  });
  for (std::size_t k = 0; k < out.size(); ++k) {
    *out[k].second = join(out[k].first, take_tensors(samples, k));
  }
  return batch;
}

/// Samples as one Example. Does not copy the rows of one tensor. Throws Error (Mismatch) if they
/// differ, or if there are none.
template <class E>
Batch<E> stack_examples(std::vector<E> samples) {
  return join_examples(std::move(samples),
                       [](const std::string&, const std::vector<at::Tensor>& tensors) {
                         return stack_samples(tensors);
                       });
}

/// The number of samples in the tensors of a batch; none if all are undefined. Throws Error
/// (Mismatch) if they differ.
template <class E>
std::optional<std::size_t> rows_in(const E& batch) {
  std::optional<std::size_t> count;
  SampleTensors<E>::each(batch, [&](const std::string& name, const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.dim() == 0) return;
    const auto rows = static_cast<std::size_t>(tensor.size(0));
    if (rows != count.value_or(rows)) {
      throw Error(ErrorCode::Mismatch, "the tensors of a batch need one row for each sample: " +
                                           in_quotes(name) + " has " + counted(rows, "row") +
                                           ", those before have " + std::to_string(*count));
    }
    count = rows;
  });
  return count;
}

/// A batch as a list of samples, which are its rows.
template <class E>
std::vector<E> unstack(Batch<E> batch) {
  const E pattern = batch;
  std::vector<E> samples(rows_in(pattern).value_or(0), pattern);
  std::size_t k = 0;
  SampleTensors<E>::each(static_cast<E&>(batch), [&](const std::string&, at::Tensor& whole) {
    std::vector<at::Tensor> rows;
    if (whole.defined() && whole.dim() != 0) rows = rows_of(std::exchange(whole, at::Tensor()));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      std::size_t number = 0;
      SampleTensors<E>::each(samples[i], [&](const std::string&, at::Tensor& tensor) {
        if (number++ == k) tensor = std::move(rows[i]);
      });
    }
    ++k;
  });
  return samples;
}

}  // namespace detail

/// The samples of a batch as a source reads them: as one Example if they are alike, or one by one.
template <class E>
class SampleRows {
  using Whole = std::conditional_t<detail::kStackable<E>, Batch<E>, std::monostate>;

 public:
  /// One by one.
  SampleRows(std::vector<E> samples)  // NOLINT(google-explicit-constructor)
      : each_(std::move(samples)) {}
  /// As the rows of one Example, with at least one row.
  SampleRows(Whole whole)  // NOLINT(google-explicit-constructor)
      : whole_(std::move(whole)) {}

  /// Number of samples. Throws Error (Mismatch) if the tensors of an Example have different numbers
  /// of rows.
  std::size_t size() const {
    if constexpr (detail::kStackable<E>) {
      if (whole_) return detail::rows_in<E>(*whole_).value_or(0);
    }
    return each_.size();
  }
  /// True for the rows of one Example.
  bool is_whole() const noexcept { return whole_.has_value(); }
  /// That Example.
  Whole& whole() noexcept { return *whole_; }
  /// The samples, if they are not the rows of one Example.
  std::vector<E>& each() noexcept { return each_; }

  /// One by one.
  std::vector<E> separate() && {
    if constexpr (detail::kStackable<E>) {
      if (whole_) return detail::unstack(*std::exchange(whole_, std::nullopt));
    }
    return std::move(each_);
  }

  /// As one Example. Throws Error (Mismatch) if they differ, or if there are none.
  Batch<E> stacked() && {
    static_assert(detail::kStackable<E>,
                  "only Example<>, TensorExample and NamedExample can be stacked");
    return whole_ ? std::move(*whole_) : detail::stack_examples(std::move(each_));
  }

 private:
  std::optional<Whole> whole_;
  std::vector<E> each_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ROWS_HPP_
