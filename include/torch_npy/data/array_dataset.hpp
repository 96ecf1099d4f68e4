#ifndef TORCH_NPY_DATA_ARRAY_DATASET_HPP_
#define TORCH_NPY_DATA_ARRAY_DATASET_HPP_

/// @file
/// A dataset of the rows of arrays.

#include <memory>
#include <type_traits>

#include <torch_npy/data/array_data.hpp>
#include <torch_npy/data/array_source.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// A dataset of one array, or of one for data and one for targets. Each is a file, several files, a
/// StoredArray or a tensor: see ArrayData. Axis 0 is the sample index: a sample of an array (n,
/// S...) is a tensor of shape S.
///
///     ArrayDataset images("images.npy");                            // TensorExamples
///     ArrayDataset digits("images.npy", "labels.npy");              // Examples
///     ArrayDataset shards({"x_0.npy", "x_1.npy"}, "labels.npy");    // joined along axis 0
///     ArrayDataset in_memory(images, labels);                       // two tensors
///
/// Only the whole lengths of data and targets have to be equal: their shards may differ. A sample
/// that cannot be read is always an Error. verify() reads the header of each file again, and
/// compares it and the size of the file with what the dataset was made of. Copies share the
/// mappings, and up to 256 MiB of memory for the next batches.
template <class E = Example<>>
class ArrayDataset : public Dataset<E> {
 public:
  /// Reads the headers of the files, 32 at a time, and maps them; the time does not depend on their
  /// sizes. Throws Error: as load(); Mismatch for a 0-d array, and for shards that differ;
  /// InvalidArgument for squeeze() of axis 0.
  explicit ArrayDataset(const ArrayData& data, const LoadOptions& options = {})
      : Dataset<E>(std::make_shared<const detail::ArraySource<E>>(
            data.internal_rows(options, detail::make_pool()), nullptr)) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need an array of targets");
  }

  /// Row i of `target` is the target of row i of `data`. With squeeze(1) in `target_options`,
  /// labels of shape (N, 1) become the labels of N samples. Throws Error: as the other constructor;
  /// Mismatch if the lengths differ.
  template <class With = E, class = std::enable_if_t<detail::kHasTarget<With>>>
  ArrayDataset(const ArrayData& data, const ArrayData& target, const LoadOptions& options = {},
               const LoadOptions& target_options = {})
      : ArrayDataset(data, target, options, target_options, detail::make_pool()) {}

 private:
  ArrayDataset(const ArrayData& data, const ArrayData& target, const LoadOptions& options,
               const LoadOptions& target_options, const std::shared_ptr<detail::BufferPool>& pool)
      : Dataset<E>(std::make_shared<const detail::ArraySource<E>>(
            data.internal_rows(options, pool), target.internal_rows(target_options, pool))) {}
};

ArrayDataset(const ArrayData&)->ArrayDataset<TensorExample>;
ArrayDataset(const ArrayData&, const LoadOptions&)->ArrayDataset<TensorExample>;
ArrayDataset(const ArrayData&, const ArrayData&)->ArrayDataset<Example<>>;
ArrayDataset(const ArrayData&, const ArrayData&, const LoadOptions&)->ArrayDataset<Example<>>;
ArrayDataset(const ArrayData&, const ArrayData&, const LoadOptions&, const LoadOptions&)
    ->ArrayDataset<Example<>>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_DATASET_HPP_
