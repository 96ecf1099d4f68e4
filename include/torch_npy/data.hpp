#ifndef TORCH_NPY_DATA_HPP_
#define TORCH_NPY_DATA_HPP_

/// @file
/// Datasets, transforms and samplers for LibTorch's data loader.

// IWYU pragma: begin_exports
#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/prefetch.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/sample_dataset.hpp>
#include <torch_npy/data/sampler.hpp>
#include <torch_npy/data/transforms.hpp>
// IWYU pragma: end_exports

#endif  // TORCH_NPY_DATA_HPP_
