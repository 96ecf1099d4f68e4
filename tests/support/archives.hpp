#pragma once

// Archives, their arrays, and tables of what NumPy reads in them.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/save_npz.hpp>
#endif

#include <torch/ordered_dict.h>

#include <ATen/ops/arange.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/mappings.hpp"

using Arrays = torch::OrderedDict<std::string, at::Tensor>;

inline std::vector<std::vector<std::string>> read_table(const std::filesystem::path& path) {
  std::vector<std::vector<std::string>> table;
  std::istringstream lines(read_bytes(path));
  for (std::string line; std::getline(lines, line);) {
    table.emplace_back();
    std::istringstream columns(line);
    for (std::string column; std::getline(columns, column, '\t');) table.back().push_back(column);
  }
  return table;
}

inline std::filesystem::path arrays_folder() { return TORCH_NPY_TEST_DATA "/arrays"; }

inline bool same(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes() ||
      (a.numel() != 0 && a.strides() != b.strides())) {
    return false;
  }
  const at::Tensor x = a.contiguous();
  const at::Tensor y = b.contiguous();
  return x.nbytes() == 0 || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

/// An .npy file of float32, with values that deflate can compress.
inline std::string floats(std::int64_t rows, std::int64_t columns) {
  std::ostringstream out;
  torch_npy::save(out,
                  at::arange(rows * columns).remainder(97).to(at::kFloat).view({rows, columns}));
  return out.str();
}

/// Whether the tensor is in a mapping of the file: see is_mapped().
inline void check_mapped(const at::Tensor& tensor, const std::string& file, bool expected = true) {
  CHECK(is_mapped(tensor.data_ptr(), file, expected) == expected);
}
