#ifndef TORCH_NPY_FORMAT_HPP_
#define TORCH_NPY_FORMAT_HPP_

/// @file
/// Bytes and their meaning: dtypes and headers of .npy files. Takes the standard library alone.

// IWYU pragma: begin_exports
#include <torch_npy/format/datetime_unit.hpp>
#include <torch_npy/format/descr_parser.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/format/little_endian.hpp>
#include <torch_npy/format/signature.hpp>
// IWYU pragma: end_exports

#endif  // TORCH_NPY_FORMAT_HPP_
