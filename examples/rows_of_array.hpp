#pragma once

#include <torch_npy.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "arrays_of_file.hpp"
#include "statistics.hpp"
#include "table.hpp"

inline bool is_number(const torch_npy::DType& dtype) {
  return std::string_view("biufmM").find(dtype.kind) != std::string_view::npos &&
         dtype.item_size <= 8;
}

/// For what is looked at and not kept: mapped where that can be, and unsigned integers, which older
/// LibTorch has no dtype for, as float64.
inline torch_npy::LoadOptions options_for(const torch_npy::DType& dtype) {
  const auto options = torch_npy::LoadOptions().mmap(true);
  return dtype.kind == 'u' && dtype.item_size > 1
             ? torch_npy::LoadOptions(options).dtype(at::kDouble)
             : options;
}

inline std::string shape_of(const std::vector<std::int64_t>& sizes) {
  std::string out = "(";
  for (const auto size : sizes) out += std::to_string(size) + (sizes.size() == 1 ? "," : ", ");
  if (sizes.size() > 1) out.resize(out.size() - 2);
  return out + ")";
}

inline void add_statistics(Row& row, const torch_npy::DType& dtype, const at::Tensor& array) {
  const Statistics stats(array, dtype.kind == 'M' || dtype.kind == 'm');
  row.resize(6);
  row.insert(row.end(), {stats.minimum, stats.mean, stats.maximum, std::to_string(stats.nans),
                         stats.histogram});
}

using Fields = torch::OrderedDict<std::string, at::Tensor>;

/// The fields of a structured array, as float64 where LibTorch has no dtype for one of them. None
/// where there is one that no tensor holds.
inline Fields load_fields(const ArrayOfFile& array) {
  const auto options = torch_npy::LoadOptions().mmap(true).strings_as_codes(true);
  for (const auto& how : {options, torch_npy::LoadOptions(options).dtype(at::kDouble)}) {
    try {
      return array.load_fields(how);
    } catch (const torch_npy::Error& error) {
      if (error.code() != torch_npy::ErrorCode::UnsupportedDtype) throw;
    }
  }
  return Fields();
}

/// `loaded` are the fields whose values are to be looked at.
inline void add_fields(const torch_npy::DType& dtype, const std::string& around,
                       const Fields& loaded, std::vector<Row>& rows) {
  for (const auto& field : dtype.fields) {
    const std::string name = around + field.name;
    rows.push_back({"  " + printable(name),
                    field.dtype.is_structured() ? "records" : field.dtype.descr(),
                    field.shape.empty() ? "" : shape_of(field.shape)});
    const at::Tensor* const values = loaded.find(name);
    if (values != nullptr && is_number(field.dtype)) {
      add_statistics(rows.back(), field.dtype, *values);
    }
    add_fields(field.dtype, name + '.', loaded, rows);
  }
}

/// What the table says of an array: one row, and one for each field of a structured dtype.
inline void add_rows(const ArrayOfFile& array, bool with_statistics, std::vector<Row>& rows) {
  const auto header = array.header();
  const auto& dtype = header.dtype;
  rows.push_back({printable(array.name), dtype.is_structured() ? "records" : dtype.descr(),
                  shape_of(header.shape), header.fortran_order ? "Fortran" : "C",
                  std::to_string(header.nbytes()), array.storage});
  if (with_statistics && is_number(dtype)) {
    add_statistics(rows.back(), dtype, array.load(options_for(dtype)));
  }
  if (!dtype.is_structured()) return;
  add_fields(dtype, "", with_statistics ? load_fields(array) : Fields(), rows);
}
