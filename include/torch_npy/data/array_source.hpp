#ifndef TORCH_NPY_DATA_ARRAY_SOURCE_HPP_
#define TORCH_NPY_DATA_ARRAY_SOURCE_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Samples that are rows of an array.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Throws Error (Mismatch) if there is not one row of `target` for each row of `data`.
inline void require_targets(const ArrayRows& data, const ArrayRows& target) {
  if (data.size() == target.size()) return;
  const auto from = [](const ArrayRows& rows) {
    return rows.name().empty() ? std::string() : ", in " + rows.name();
  };
  data.about(0, [&] {
    throw Error(ErrorCode::Mismatch, "expected one target for each sample, found " +
                                         counted(data.size(), "sample") +
                                         (data.parts().count() == 1 ? "" : from(data)) + " and " +
                                         counted(target.size(), "target") + from(target));
  });
}

/// A number for an array and for how its rows are read.
inline std::uint64_t fingerprint_of(const ArrayRows& rows) {
  const RowFormat& format = rows.format();
  std::uint64_t print = mix({rows.hash(), static_cast<std::uint64_t>(format.type), rows.size(),
                             fingerprint_of(rows.options().region())});
  for (const std::int64_t size : format.sizes) {
    print = mix({print, static_cast<std::uint64_t>(size)});
  }
  return print;
}

/// The Errors of the arrays whose first row is one of [begin, end).
inline std::vector<Error> check_rows(const ArrayRows& data, const ArrayRows* target,
                                     std::size_t begin, std::size_t end) {
  std::vector<Error> errors;
  data.check(begin, end, errors);
  if (target != nullptr) target->check(begin, end, errors);
  return errors;
}

/// Rows as class labels. Throws Error (InvalidArgument) if a row is not one integer.
inline std::vector<std::int64_t> labels_from(const ArrayRows& rows,
                                             c10::ArrayRef<std::size_t> indices) {
  const RowFormat& format = rows.format();
  if (!format.sizes.empty() || !c10::isIntegralType(format.type, /*includeBool=*/true)) {
    rows.about(0, [&] {
      throw Error(ErrorCode::InvalidArgument,
                  "class labels are one integer for each sample: expected targets of shape (" +
                      std::to_string(rows.size()) + ",), found shape " +
                      python_tuple(rows.sizes_of(rows.size(), std::nullopt)) + " and dtype " +
                      c10::toString(format.type));
    });
  }
  const at::Tensor labels =
      rows.gather(indices, std::nullopt, /*pin=*/false).to(at::kCPU, at::kLong).contiguous();
  const auto* const first = labels.data_ptr<std::int64_t>();
  return {first, first + labels.numel()};
}

/// One row a sample; and for an Example with a target a row of a second array.
template <class E>
class ArraySource : public SampleSource<E> {
 public:
  /// `target` is null if E has none. Throws Error (Mismatch) if the lengths differ.
  ArraySource(std::shared_ptr<const ArrayRows> data, std::shared_ptr<const ArrayRows> target)
      : data_(std::move(data)), target_(std::move(target)) {
    if (target_) require_targets(*data_, *target_);
  }

  std::size_t size() const override { return data_->size(); }
  std::string key(std::size_t sample) const override { return data_->key(sample); }
  bool is_in_memory() const override {
    return data_->is_in_memory() && (target_ == nullptr || target_->is_in_memory());
  }
  std::uint64_t fingerprint() const override { return fingerprint_of(*data_); }

  std::int64_t length(std::size_t sample) const override {
    if (!data_->format().sizes.empty()) return data_->format().sizes[0];
    data_->about(sample, [] {
      throw Error(ErrorCode::Mismatch, "samples that are single numbers have no length");
    });
    return 0;
  }

  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    return target_ ? labels_from(*target_, samples) : SampleSource<E>::labels(samples);
  }

  std::vector<Error> check(std::size_t sample) const override {
    return check_rows(*data_, target_.get(), sample, sample + 1);
  }

  bool reads_regions() const override { return true; }

  SampleRows<E> read(Request& request) const override {
    std::vector<std::size_t> samples;
    samples.reserve(request.picks.size());
    for (const Pick& pick : request.picks) samples.push_back(pick.sample);
    if (request.regions != nullptr && !samples.empty()) {
      if (auto cropped = read_regions(*request.regions, request, samples)) {
        for (Pick& pick : request.picks) pick.is_cropped = true;
        return std::move(*cropped);
      }
    }
    const auto rows_of = [&](const ArrayRows& rows) {
      return rows.gather(samples, std::nullopt, request.pin_memory);
    };
    if constexpr (kHasTarget<E>) {
      return Batch<E>(E(rows_of(*data_), rows_of(*target_)));
    } else {
      return Batch<E>(E(rows_of(*data_)));
    }
  }

 private:
  /// The regions of the samples; none if one of them cannot be read alone.
  std::optional<Batch<E>> read_regions(const SampleRegions& regions, const Request& request,
                                       const std::vector<std::size_t>& samples) const {
    std::vector<Region> of_data;
    std::vector<Region> of_target;
    for (const Pick& pick : request.picks) {
      const c10::IntArrayRef sizes = data_->format().sizes;
      const auto data = regions.of_data(pick, sizes);
      if (!data) return std::nullopt;
      const auto target = target_ ? regions.of_target(pick, sizes, target_->format().sizes)
                                  : std::optional(Region());
      if (!target) return std::nullopt;
      of_data.push_back(*data);
      of_target.push_back(*target);
    }
    const auto gather = [&](const ArrayRows& rows, const std::vector<Region>& all,
                            std::size_t part) {
      return all[0].empty()
                 ? rows.gather(samples, std::nullopt, request.pin_memory)
                 : rows.gather_regions(samples, all, regions.fill_value(part), request.pin_memory);
    };
    at::Tensor target;
    if (target_) {
      target = gather(*target_, of_target, 1);
      if (!target.defined()) return std::nullopt;
    }
    at::Tensor data = gather(*data_, of_data, 0);
    if (!data.defined()) return std::nullopt;
    if constexpr (kHasTarget<E>) {
      return Batch<E>(E(std::move(data), std::move(target)));
    } else {
      return Batch<E>(E(std::move(data)));
    }
  }

  std::shared_ptr<const ArrayRows> data_;
  std::shared_ptr<const ArrayRows> target_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_SOURCE_HPP_
