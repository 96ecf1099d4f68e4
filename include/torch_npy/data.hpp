#ifndef TORCH_NPY_DATA_HPP_
#define TORCH_NPY_DATA_HPP_

/// @file
/// Datasets, transforms, orders and data loaders.

// IWYU pragma: begin_exports
#include <torch_npy/data/array_data.hpp>
#include <torch_npy/data/array_dataset.hpp>
#include <torch_npy/data/array_files.hpp>
#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/array_source.hpp>
#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_buffer.hpp>
#include <torch_npy/data/batch_copier.hpp>
#include <torch_npy/data/batch_mover.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/batch_tensors.hpp>
#include <torch_npy/data/cached.hpp>
#include <torch_npy/data/combine.hpp>
#include <torch_npy/data/concurrent_read.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/division.hpp>
#include <torch_npy/data/epoch_plan.hpp>
#include <torch_npy/data/fetched_objects.hpp>
#include <torch_npy/data/fetched_rows.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/file_list.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/length_order.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/loader_options.hpp>
#include <torch_npy/data/loader_queue.hpp>
#include <torch_npy/data/loader_state.hpp>
#include <torch_npy/data/map.hpp>
#include <torch_npy/data/mapped_files.hpp>
#include <torch_npy/data/mapped_reader.hpp>
#include <torch_npy/data/mapped_samples.hpp>
#include <torch_npy/data/mixed_order.hpp>
#include <torch_npy/data/normalize.hpp>
#include <torch_npy/data/npz_dataset.hpp>
#include <torch_npy/data/npz_source.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/order.hpp>
#include <torch_npy/data/pad_stack.hpp>
#include <torch_npy/data/pair_files.hpp>
#include <torch_npy/data/part_table.hpp>
#include <torch_npy/data/permutation.hpp>
#include <torch_npy/data/prefetch.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/random_crop.hpp>
#include <torch_npy/data/random_flip.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/resize.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/sample_cache.hpp>
#include <torch_npy/data/sampler.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/data/split.hpp>
#include <torch_npy/data/split_options.hpp>
#include <torch_npy/data/stack.hpp>
#include <torch_npy/data/stacked_reader.hpp>
#include <torch_npy/data/statistics.hpp>
#include <torch_npy/data/stored_rows.hpp>
#include <torch_npy/data/subset_info.hpp>
#include <torch_npy/data/to_tensor.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/data/transforms.hpp>
#include <torch_npy/data/weighted_order.hpp>
#include <torch_npy/data/window_dataset.hpp>
#include <torch_npy/data/window_source.hpp>
#include <torch_npy/data/worker_threads.hpp>
// IWYU pragma: end_exports

#endif  // TORCH_NPY_DATA_HPP_
