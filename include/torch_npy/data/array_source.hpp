#ifndef TORCH_NPY_DATA_ARRAY_SOURCE_HPP_
#define TORCH_NPY_DATA_ARRAY_SOURCE_HPP_

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/tensor/convert.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/region.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Copies rows of `row` bytes: row indices[i] of `from` becomes row i of `out`. The start of a row
/// is fetched while earlier ones are copied: rows in random order are rarely in the cache.
inline void gather_rows(const char* from, std::size_t row, c10::ArrayRef<std::size_t> indices,
                        char* out) {
  constexpr std::size_t kAhead = 2;
  for (std::size_t i = 0; i < indices.size(); ++i) {
#if defined(__GNUC__) || defined(__clang__)
    if (i + kAhead < indices.size()) __builtin_prefetch(from + indices[i + kAhead] * row);
#endif
    std::memcpy(out + i * row, from + indices[i] * row, row);
  }
}

/// The rows of an array, in any order: index i is row i of axis 0. Safe from any thread.
class ArrayRows {
 public:
  virtual ~ArrayRows() = default;
  ArrayRows(const ArrayRows&) = delete;
  ArrayRows& operator=(const ArrayRows&) = delete;

  /// Number of rows.
  virtual std::size_t size() const = 0;
  /// The sizes and the dtype of all rows together.
  virtual c10::IntArrayRef sizes() const = 0;
  virtual c10::ScalarType dtype() const = 0;
  /// For messages and keys; empty for a tensor.
  virtual std::filesystem::path path() const = 0;
  /// Rows `indices`, each less than size(), as one tensor; in pinned memory if `pin` or if the
  /// options say so.
  virtual at::Tensor gather(c10::ArrayRef<std::size_t> indices, bool pin) const = 0;
  /// A region of each of these rows, all of the same size, whose outside is `fill_value`. Undefined
  /// if it would take as long as to gather the rows.
  virtual at::Tensor gather_regions(c10::ArrayRef<std::size_t> /*indices*/,
                                    const std::vector<Region>& /*regions*/,
                                    const c10::Scalar& /*fill_value*/, bool /*pin*/) const {
    return {};
  }

 protected:
  ArrayRows() = default;
};

/// The rows of a mapped file.
class FileRows : public ArrayRows {
 public:
  /// Throws Error: what load() throws, and Mismatch for a 0-d array.
  FileRows(const std::filesystem::path& path, const LoadOptions& options,
           std::shared_ptr<BufferPool> pool)
      : path_(path), options_(options), pool_(std::move(pool)) {
    with_path(path_, [&] { require_device(options.device()); });
    with_array(path_, options, [&](OpenArray& array) {
      if (array.header.shape.empty()) {
        throw Error(ErrorCode::Mismatch, "a 0-d array has no axis 0 to take samples from");
      }
      plan_ = array.plan(options);
      if (plan_.is_padded()) {
        throw Error(
            ErrorCode::InvalidArgument,
            "the rows of an array that is filled outside of the file cannot be samples: use "
            "OutOfBounds::Throw or OutOfBounds::Shift");
      }
      if (plan_.count == 0) return;
      const auto size = static_cast<std::size_t>(plan_.from.extent()) * plan_.item_size();
      mapping_.emplace(Mapping::of(array.source.internal_traits().range, plan_.offset, size));
      plan_.offset = 0;  // in the mapping
      std::vector<std::int64_t> row = plan_.sizes;
      row[0] = 1;
      row_ = runs_of(row, plan_.file_strides, plan_.fortran_order, plan_.inner_axes);
      row_elements_ = row_.count;
    });
  }

  std::size_t size() const override { return static_cast<std::size_t>(plan_.sizes[0]); }
  c10::IntArrayRef sizes() const override { return plan_.sizes; }
  c10::ScalarType dtype() const override { return plan_.type; }
  std::filesystem::path path() const override { return path_; }

  /// Rows of a Fortran-ordered array keep that order among themselves. Throws Error (Mismatch) for
  /// a value that dtype() cannot hold.
  at::Tensor gather(c10::ArrayRef<std::size_t> indices, bool pin) const override {
    return with_path(path_, [&] { return on_device(gather_on_host(indices, pin), options_); });
  }

  at::Tensor gather_regions(c10::ArrayRef<std::size_t> indices, const std::vector<Region>& regions,
                            const c10::Scalar& fill_value, bool pin) const override {
    if (!mapping_ || plan_.inner_axes != 0 || indices.empty()) return {};
    const MemorySource source(mapping_->data(), SIZE_MAX);
    at::Tensor out;
    with_path(path_, [&] {
      for (std::size_t i = 0; i < indices.size(); ++i) {
        const auto row = static_cast<std::int64_t>(indices[i]);
        Region region = regions[i];
        region.insert(region.begin(), {row, row + 1});
        LoadPlan plan = plan_;
        take_region(plan, LoadOptions()
                              .region(std::move(region))
                              .out_of_bounds(OutOfBounds::Fill)
                              .fill_value(fill_value));
        if (!out.defined()) out = empty_rows(plan, indices.size(), pin);
        fill(ArrayBytes(source, nullptr, plan.end), plan,
             static_cast<char*>(out.data_ptr()) + i * plan.bytes, /*threads=*/1);
      }
      out = on_device(std::move(out), options_);
    });
    return out;
  }

 private:
  /// A tensor for rows of this size, those of a Fortran-ordered array in that order.
  at::Tensor empty_rows(const LoadPlan& plan, std::size_t rows, bool pin) const {
    std::vector<std::int64_t> sizes = plan.sizes;
    sizes[0] = 1;
    std::vector<std::int64_t> strides = dense_strides(sizes, plan.fortran_order, plan.inner_axes);
    sizes[0] = static_cast<std::int64_t>(rows);
    strides[0] = 1;
    for (std::size_t axis = 1; axis < sizes.size(); ++axis) strides[0] *= sizes[axis];
    const std::size_t bytes =
        rows * static_cast<std::size_t>(strides[0]) * c10::elementSize(plan.type);
    return empty_from(*pool_, bytes, plan.type, sizes, strides, pin || pins_memory(options_));
  }

  at::Tensor gather_on_host(c10::ArrayRef<std::size_t> indices, bool pin) const {
    at::Tensor out = empty_rows(plan_, indices.size(), pin);
    const std::size_t count = indices.size() * row_elements_;
    if (count == 0) return out;

    const std::size_t item = plan_.item_size();
    if (plan_.converts()) {
      const auto raw = pool_->take(count * item);
      char* const in = static_cast<char*>(raw->data);
      copy_rows(indices, in);
      swap_bytes(in, count * item, swap_unit(plan_.dtype));
      for (std::size_t first = 0; first < count; first += kConvertBlock) {
        convert(in + first * item, plan_.dtype, plan_.stored,
                static_cast<char*>(out.data_ptr()) + first * c10::elementSize(plan_.type),
                plan_.type, (std::min)(kConvertBlock, count - first));
      }
    } else {
      copy_rows(indices, static_cast<char*>(out.data_ptr()));
      swap_bytes(static_cast<char*>(out.data_ptr()), count * item, swap_unit(plan_.dtype));
    }
    return out;
  }

  void copy_rows(c10::ArrayRef<std::size_t> indices, char* out) const {
    const auto* const from = static_cast<const char*>(mapping_->data());
    const std::size_t item = plan_.item_size();
    const auto row = static_cast<std::size_t>(plan_.file_strides[0]);
    if (row_.is_one() && row == row_elements_) {
      return gather_rows(from, row * item, indices, out);
    }
    for (const std::size_t index : indices) {
      row_.for_each(
          0, row_elements_,
          [&](std::uint64_t offset, std::size_t size, std::uint64_t stride, std::size_t runs) {
            copy_runs(from + (index * row + offset) * item, size * item, stride * item, runs, out);
            out += runs * size * item;
          });
    }
  }

  std::filesystem::path path_;
  LoadOptions options_;
  std::shared_ptr<BufferPool> pool_;
  LoadPlan plan_;  // of all rows; its offset is that in the mapping
  Runs row_;       // of one row
  std::size_t row_elements_ = 0;
  std::optional<Mapping> mapping_;
};

/// The rows of a tensor.
class TensorRows : public ArrayRows {
 public:
  /// Throws Error (Mismatch) for a 0-d tensor.
  TensorRows(const at::Tensor& tensor, const LoadOptions& options, std::shared_ptr<BufferPool> pool)
      : options_(options), pool_(std::move(pool)) {
    require_device(options.device());
    if (!tensor.defined() || tensor.dim() == 0) {
      throw Error(ErrorCode::Mismatch, "a 0-d tensor has no axis 0 to take samples from");
    }
    // A view, which the caller cannot transpose in place.
    tensor_ = options.dtype() ? tensor.to(*options.dtype()) : tensor;
    if (tensor_.layout() == c10::kStrided && !tensor_.is_quantized() && !tensor_._is_zerotensor()) {
      tensor_ = tensor_.view_as(tensor_);
    }
    can_copy_ = tensor_.is_cpu() && tensor_.layout() == c10::kStrided && tensor_.is_contiguous() &&
                !tensor_.requires_grad() && !tensor_.is_quantized() && !tensor_.is_conj() &&
                !tensor_.is_neg() && !tensor_._is_zerotensor();
  }

  std::size_t size() const override { return static_cast<std::size_t>(tensor_.size(0)); }
  c10::IntArrayRef sizes() const override { return tensor_.sizes(); }
  c10::ScalarType dtype() const override { return tensor_.scalar_type(); }
  std::filesystem::path path() const override { return {}; }

  at::Tensor gather(c10::ArrayRef<std::size_t> indices, bool pin) const override {
    if (!can_copy_) {
      const at::Tensor rows = at::empty({static_cast<std::int64_t>(indices.size())}, at::kLong);
      std::copy(indices.begin(), indices.end(), rows.data_ptr<std::int64_t>());
      return on_device(tensor_.index_select(0, rows.to(tensor_.device())), options_);
    }
    std::vector<std::int64_t> sizes = tensor_.sizes().vec();
    sizes[0] = static_cast<std::int64_t>(indices.size());
    const std::size_t row = size() == 0 ? 0 : tensor_.nbytes() / size();
    at::Tensor out = empty_from(*pool_, row * indices.size(), tensor_.scalar_type(), sizes,
                                dense_strides(sizes, false), pin || pins_memory(options_));
    if (row != 0) {
      gather_rows(static_cast<const char*>(tensor_.data_ptr()), row, indices,
                  static_cast<char*>(out.data_ptr()));
    }
    return on_device(std::move(out), options_);
  }

 private:
  LoadOptions options_;
  std::shared_ptr<BufferPool> pool_;
  at::Tensor tensor_;
  bool can_copy_ = false;  // by memcpy
};

/// One row a sample; and for an Example with a target a row of a second array.
template <class E>
class ArraySource : public SampleSource<E> {
 public:
  /// `target` is null if E has none. Throws Error (Mismatch) if the lengths differ.
  ArraySource(std::shared_ptr<const ArrayRows> data, std::shared_ptr<const ArrayRows> target)
      : data_(std::move(data)), target_(std::move(target)) {
    if (!target_ || data_->size() == target_->size()) return;
    const std::filesystem::path path = target_->path();
    throw Error(ErrorCode::Mismatch,
                "expected one target for each sample, found " + counted(data_->size(), "sample") +
                    " and " + counted(target_->size(), "target") +
                    (path.empty() ? "" : ", in " + shown_path(path)),
                0, data_->path());
  }

  std::size_t size() const override { return data_->size(); }

  std::string key(std::size_t sample) const override {
    return data_->path().generic_string() + "[" + std::to_string(sample) + "]";
  }

  std::uint64_t fingerprint() const override {
    std::uint64_t print = mix({hash_of(data_->path().filename().generic_string()),
                               static_cast<std::uint64_t>(data_->dtype())});
    for (const std::int64_t size : data_->sizes()) {
      print = mix({print, static_cast<std::uint64_t>(size)});
    }
    return print;
  }

  std::int64_t length(std::size_t) const override {
    if (data_->sizes().size() > 1) return data_->sizes()[1];
    throw Error(ErrorCode::Mismatch, "samples that are single numbers have no length", 0,
                data_->path());
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
    if constexpr (kHasTarget<E>) {
      return Batch<E>(E(data_->gather(samples, request.pin_memory),
                        target_->gather(samples, request.pin_memory)));
    } else {
      return Batch<E>(E(data_->gather(samples, request.pin_memory)));
    }
  }

 private:
  /// The regions of the samples; none if one of them cannot be read alone.
  std::optional<Batch<E>> read_regions(const SampleRegions& regions, const Request& request,
                                       const std::vector<std::size_t>& samples) const {
    const c10::IntArrayRef row = data_->sizes().slice(1);
    std::vector<Region> of_data;
    std::vector<Region> of_target;
    for (const Pick& pick : request.picks) {
      const auto data = regions.of_data(pick, row);
      const auto target = target_ ? regions.of_target(pick, row, target_->sizes().slice(1))
                                  : std::optional(Region());
      if (!data || !target) return std::nullopt;
      of_data.push_back(*data);
      of_target.push_back(*target);
    }
    const auto gather = [&](const ArrayRows& rows, const std::vector<Region>& all,
                            std::size_t part) {
      return all[0].empty()
                 ? rows.gather(samples, request.pin_memory)
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
