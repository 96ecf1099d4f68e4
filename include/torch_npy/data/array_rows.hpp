#ifndef TORCH_NPY_DATA_ARRAY_ROWS_HPP_
#define TORCH_NPY_DATA_ARRAY_ROWS_HPP_

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/tensor/convert.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The rows of one mapped file, in any order: index i is row i of axis 0. Safe from any thread.
class ArrayRows {
 public:
  /// Throws Error: what load() throws, and Mismatch for a 0-d array.
  ArrayRows(const std::filesystem::path& path, const LoadOptions& options,
            std::shared_ptr<BufferPool> pool)
      : path_(path), options_(options), pool_(std::move(pool)) {
    with_path(path_, [&] { require_device(options.device()); });
    with_array(path_, options, [&](OpenArray& array) {
      fortran_order_ = array.header.fortran_order;
      if (array.header.shape.empty()) {
        throw Error(ErrorCode::Mismatch, "a 0-d array has no axis 0 to take samples from");
      }
      plan_ = array.plan(options);
      if (plan_.count == 0) return;
      const std::uint64_t end = plan_.end - plan_.offset;
      mapping_.emplace(Mapping::of(array.source.internal_traits().range, plan_.offset,
                                   static_cast<std::size_t>(end)));
    });
    if (plan_.sizes[0] != 0) row_elements_ = plan_.count / static_cast<std::size_t>(plan_.sizes[0]);
  }

  std::size_t size() const noexcept { return static_cast<std::size_t>(plan_.sizes[0]); }

  /// Rows `indices`, each less than size(), as one tensor; those of a Fortran-ordered array keep
  /// that order among themselves. Throws Error (Mismatch) for a value that dtype() cannot hold.
  at::Tensor gather(c10::ArrayRef<std::size_t> indices) const {
    return with_path(path_, [&] { return on_device(gather_on_host(indices), options_); });
  }

 private:
  at::Tensor gather_on_host(c10::ArrayRef<std::size_t> indices) const {
    std::vector<std::int64_t> sizes = plan_.sizes;
    sizes[0] = static_cast<std::int64_t>(indices.size());
    std::vector<std::int64_t> strides =
        dense_strides({sizes.begin() + 1, sizes.end()}, fortran_order_, plan_.inner_axes);
    strides.insert(strides.begin(), static_cast<std::int64_t>(row_elements_));
    const std::size_t count = indices.size() * row_elements_;
    const std::size_t bytes = count * c10::elementSize(plan_.type);
    at::Tensor out = empty_from(*pool_, bytes, plan_.type, sizes, strides, pins_memory(options_));
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
    const std::size_t item = plan_.item_size() * plan_.inner;
    const std::size_t row_items = row_elements_ / plan_.inner;
    if (!fortran_order_ || row_items == 1) {
      const std::size_t row = row_items * item;
      for (std::size_t i = 0; i < indices.size(); ++i) {
        std::memcpy(out + i * row, from + indices[i] * row, row);
      }
      return;
    }
    // The items of a row are one column apart.
    const std::size_t column =
        plan_.in_one_run() ? size() * item : static_cast<std::size_t>(plan_.run_stride);
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const char* at = from + indices[i] * item;
      for (std::size_t k = 0; k < row_items; ++k, at += column, out += item) {
        std::memcpy(out, at, item);
      }
    }
  }

  std::filesystem::path path_;
  LoadOptions options_;
  std::shared_ptr<BufferPool> pool_;
  LoadPlan plan_;
  bool fortran_order_ = false;
  std::size_t row_elements_ = 0;
  std::optional<Mapping> mapping_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_ROWS_HPP_
