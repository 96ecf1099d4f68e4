#ifndef TORCH_NPY_TENSOR_HPP_
#define TORCH_NPY_TENSOR_HPP_

/// @file
/// Arrays from and to tensors: files, streams, memory, archives, fields. Takes no data loader.

// IWYU pragma: begin_exports
#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/array_members.hpp>
#include <torch_npy/tensor/convert.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/growing_array.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/module.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/region.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/save_fields.hpp>
#include <torch_npy/tensor/save_npz.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/tensor/sparse.hpp>
#include <torch_npy/tensor/sparse_archive.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/tensor/unreadable.hpp>
#include <torch_npy/tensor/update_npz.hpp>
// IWYU pragma: end_exports

#endif  // TORCH_NPY_TENSOR_HPP_
