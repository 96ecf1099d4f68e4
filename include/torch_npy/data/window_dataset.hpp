#ifndef TORCH_NPY_DATA_WINDOW_DATASET_HPP_
#define TORCH_NPY_DATA_WINDOW_DATASET_HPP_

/// @file
/// A dataset of windows of arrays: tokens, time series, frames.

#include <cstdint>
#include <memory>
#include <utility>

#include <torch_npy/data/array_data.hpp>
#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/window_source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// A dataset whose samples are windows: `length` rows of an array, one after another. The array is
/// a file, several files (shards), a StoredArray or a tensor: see ArrayData. Sample i of an array
/// (n, S...) is its rows [i * stride, i * stride + length), a tensor of shape (length, S...). By
/// default the stride is 1.
///
///     WindowDataset series("series.npy", 96);                                     //
///     TensorExamples WindowDataset tokens({"t_0.npy", "t_1.npy"}, 1024,
///                          WindowOptions().stride(1024).target(1, 1024));         // Examples
///     WindowDataset states("features.npy", "states.npy", 96);                     // Examples
///
/// A window does not cross the end of a shard, unless WindowOptions::across_shards() is set. The
/// target of a window is the same rows of a second array, or what WindowOptions::target() says. A
/// window that does not fit, or whose target does not fit, is not a sample.
///
/// A window is copied, and converted, as a whole, so its cost does not depend on how many rows it
/// has, but on how many bytes. key() names the file and the first row. A sample that cannot be read
/// is always an Error. verify() is that of ArrayDataset; lengths() are all `length`. Copies share
/// the mappings, and up to 256 MiB of memory for the next batches.
template <class E = Example<>>
class WindowDataset : public Dataset<E> {
 public:
  /// Windows without targets. Costs what an ArrayDataset costs. Throws Error: as ArrayDataset;
  /// InvalidArgument for a length or stride of less than 1, and for target_options() without a
  /// target; Mismatch if no window fits.
  WindowDataset(const ArrayData& data, std::int64_t length, const WindowOptions& options = {})
      : WindowDataset(data, nullptr, length, options, detail::make_pool()) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need target() or an array");
  }

  /// The target of a window is rows of the same array, as `options.target()` says. Throws Error:
  /// the same; InvalidArgument for rows() in target_options().
  WindowDataset(const ArrayData& data, std::int64_t length, const WindowPairOptions& options)
      : WindowDataset(data, nullptr, length, options, detail::make_pool()) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take no target()");
  }

  /// The target of a window is the same rows of another array. Throws Error: the same; Mismatch if
  /// the arrays have different lengths, and if a window would cross shards of the targets.
  WindowDataset(const ArrayData& data, const ArrayData& target, std::int64_t length,
                const WindowOptions& options = {})
      : WindowDataset(data, &target, length, options, detail::make_pool()) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take one array");
  }

  /// The target of a window is rows of another array, as `options.target()` says. Throws Error: the
  /// same.
  WindowDataset(const ArrayData& data, const ArrayData& target, std::int64_t length,
                const WindowPairOptions& options)
      : WindowDataset(data, &target, length, options, detail::make_pool()) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take one array");
  }

 private:
  using Rows = std::shared_ptr<const detail::ArrayRows>;

  /// `target` is null for targets in `data`.
  template <bool has_target>
  WindowDataset(const ArrayData& data, const ArrayData* target, std::int64_t length,
                const BasicWindowOptions<has_target>& options,
                const std::shared_ptr<detail::BufferPool>& pool)
      : Dataset<E>(make_source(data, target, length, options, pool)) {}

  template <bool has_target>
  static std::shared_ptr<const detail::WindowSource<E>> make_source(
      const ArrayData& data, const ArrayData* target, std::int64_t length,
      const BasicWindowOptions<has_target>& options,
      const std::shared_ptr<detail::BufferPool>& pool) {
    const bool frames = options.frames();
    Rows rows = data.internal_rows(options.data_options(), pool, frames);
    Rows target_rows;
    if (target != nullptr) {
      target_rows = target->internal_rows(options.target_options().value_or(LoadOptions()), pool,
                                          frames && target->internal_is_list());
    } else if (detail::kHasTarget<E>) {
      const auto own = detail::own_target_options(options.data_options(), options.target_options());
      target_rows = own ? data.internal_rows(*own, pool, frames) : rows;
    } else if (options.target_options()) {
      throw Error(ErrorCode::InvalidArgument,
                  "target_options() of windows without a target; target() sets one");
    }
    detail::Windows windows = detail::windows_of(*rows, target_rows.get(), length, options);
    return std::make_shared<const detail::WindowSource<E>>(std::move(rows), std::move(target_rows),
                                                           std::move(windows));
  }
};

WindowDataset(const ArrayData&, std::int64_t)->WindowDataset<TensorExample>;
WindowDataset(const ArrayData&, std::int64_t, const WindowOptions&)->WindowDataset<TensorExample>;
WindowDataset(const ArrayData&, std::int64_t, const WindowPairOptions&)->WindowDataset<Example<>>;
WindowDataset(const ArrayData&, const ArrayData&, std::int64_t)->WindowDataset<Example<>>;
WindowDataset(const ArrayData&, const ArrayData&, std::int64_t, const WindowOptions&)
    ->WindowDataset<Example<>>;
WindowDataset(const ArrayData&, const ArrayData&, std::int64_t, const WindowPairOptions&)
    ->WindowDataset<Example<>>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_WINDOW_DATASET_HPP_
