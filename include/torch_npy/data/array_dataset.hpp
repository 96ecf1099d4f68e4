#ifndef TORCH_NPY_DATA_ARRAY_DATASET_HPP_
#define TORCH_NPY_DATA_ARRAY_DATASET_HPP_

/// @file
/// A dataset of the rows of arrays.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>

#include <torch_npy/data/array_source.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/tensor/options.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// An array whose rows are samples: an .npy file, or a tensor.
class ArrayData {
 public:
  /// The file at a path.
  template <class Path,
            class = std::enable_if_t<std::is_convertible_v<const Path&, std::filesystem::path>>>
  ArrayData(const Path& path)  // NOLINT(google-explicit-constructor)
      : where_(std::filesystem::path(path)) {}
  /// A tensor, which is not copied: later changes of it change the samples.
  ArrayData(at::Tensor tensor)  // NOLINT(google-explicit-constructor)
      : where_(std::move(tensor)) {}

 private:
  template <class E>
  friend class ArrayDataset;

  std::shared_ptr<const detail::ArrayRows> rows(const LoadOptions& options,
                                                std::shared_ptr<detail::BufferPool> pool) const {
    if (const auto* const path = std::get_if<std::filesystem::path>(&where_)) {
      return std::make_shared<const detail::FileRows>(*path, options, std::move(pool));
    }
    return std::make_shared<const detail::TensorRows>(std::get<at::Tensor>(where_), options,
                                                      std::move(pool));
  }

  std::variant<std::filesystem::path, at::Tensor> where_;
};

/// A dataset of one array, or of one for data and one for targets; each is an .npy file or a
/// tensor. Axis 0 is the sample index: a sample of an array (n, S...) is a tensor of shape S.
///
///     ArrayDataset images("images.npy");                 // TensorExamples
///     ArrayDataset digits("images.npy", "labels.npy");   // Examples
///     ArrayDataset in_memory(images, labels);            // two tensors
///
/// Files are mapped, and their rows are copied into batches, so they may be larger than memory. As
/// with LoadOptions::mmap, truncating a file meanwhile ends the process. Copies share the mappings,
/// and up to 256 MiB of memory for the next batches.
template <class E = Example<>>
class ArrayDataset : public Dataset<E> {
 public:
  /// Reads the header of a file and maps it; the time does not depend on its size. Throws Error: as
  /// load(); Mismatch for a 0-d array.
  explicit ArrayDataset(const ArrayData& data, const LoadOptions& options = {})
      : Dataset<E>(std::make_shared<const detail::ArraySource<E>>(
            data.rows(options, detail::make_pool()), nullptr)) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need an array of targets");
  }

  /// Row i of `target` is the target of row i of `data`. Throws Error: as load(); Mismatch for a
  /// 0-d array, and if the lengths differ.
  ArrayDataset(const ArrayData& data, const ArrayData& target, const LoadOptions& options = {},
               const LoadOptions& target_options = {})
      : ArrayDataset(data, target, options, target_options, detail::make_pool()) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take one array");
  }

 private:
  ArrayDataset(const ArrayData& data, const ArrayData& target, const LoadOptions& options,
               const LoadOptions& target_options, const std::shared_ptr<detail::BufferPool>& pool)
      : Dataset<E>(std::make_shared<const detail::ArraySource<E>>(
            data.rows(options, pool), target.rows(target_options, pool))) {}
};

ArrayDataset(const ArrayData&)->ArrayDataset<TensorExample>;
ArrayDataset(const ArrayData&, const LoadOptions&)->ArrayDataset<TensorExample>;
ArrayDataset(const ArrayData&, const ArrayData&)->ArrayDataset<Example<>>;
ArrayDataset(const ArrayData&, const ArrayData&, const LoadOptions&)->ArrayDataset<Example<>>;
ArrayDataset(const ArrayData&, const ArrayData&, const LoadOptions&, const LoadOptions&)
    ->ArrayDataset<Example<>>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_DATASET_HPP_
