#ifndef TORCH_NPY_TENSOR_SPARSE_HPP_
#define TORCH_NPY_TENSOR_SPARSE_HPP_

/// @file
/// SciPy's sparse matrices: the archives of scipy.sparse.save_npz().

#include <ATen/core/Tensor.h>
#include <ATen/ops/_sparse_compressed_tensor_unsafe.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/core/Layout.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/save_npz.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/tensor/sparse_archive.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/codec.hpp>
#include <torch_npy/zip/writer.hpp>

// Everything that LibTorch requires of the arrays is checked here, so the tensors are made by its
// constructors that check nothing.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A compressed format of SciPy. One axis of the matrix, the outer one, has a range of the entries
/// for each of its positions (`indptr`); each entry has its position along the other axis
/// (`indices`). Positions of bsr are those of blocks.
struct CompressedFormat {
  const char* name;
  c10::Layout layout;
  std::size_t outer_axis;
  const char* outer;  ///< a position along the outer axis, for messages
  const char* inner;
};

inline constexpr CompressedFormat kCompressedFormats[] = {
    {"csr", c10::kSparseCsr, 0, "row", "column"},
    {"csc", c10::kSparseCsc, 1, "column", "row"},
    {"bsr", c10::kSparseBsr, 0, "block row", "block column"},
};

/// Sorts entries by their index, whose values have `size` bytes each.
template <class Index>
void sort_entries(Index* indices, char* values, std::size_t count, std::size_t size) {
  std::vector<std::pair<Index, std::size_t>> order(count);
  for (std::size_t i = 0; i < count; ++i) order[i] = {indices[i], i};
  std::sort(order.begin(), order.end());
  const std::vector<char> before(values, values + count * size);
  for (std::size_t i = 0; i < count; ++i) {
    indices[i] = order[i].first;
    std::memcpy(values + i * size, before.data() + order[i].second * size, size);
  }
}

/// The arrays of a csr, csc or bsr matrix in its archive, and on the host.
struct CompressedParts {
  const CompressedFormat& format;
  StoredArray stored_pointers;
  StoredArray stored_indices;
  std::int64_t outer = 0;  ///< number of positions along the outer axis
  std::int64_t inner = 0;
  at::Tensor pointers = {};
  at::Tensor indices = {};
  at::Tensor values = {};

  /// Checks everything that LibTorch requires of them, after sorting the entries of each position
  /// along the outer axis.
  template <class Index>
  void check_and_sort() const {
    const auto entries = static_cast<std::size_t>(indices.numel());
    const auto count = static_cast<std::size_t>(outer);
    const auto* const pointer = static_cast<const Index*>(pointers.data_ptr());
    auto* const index = static_cast<Index*>(indices.data_ptr());
    require_ranges(stored_pointers, pointer, count, indices.numel());
    require_inside(stored_indices, index, 0, entries, inner);
    const std::size_t size = entries == 0 ? 0 : values.nbytes() / entries;
    for (std::size_t i = 0; i < count; ++i) {
      Index* const begin = index + pointer[i];
      Index* const end = index + pointer[i + 1];
      if (!std::is_sorted(begin, end)) {
        char* const value = static_cast<char*>(values.data_ptr());
        const auto first = static_cast<std::size_t>(pointer[i]);
        sort_entries(begin, value + first * size, static_cast<std::size_t>(end - begin), size);
      }
      const Index* const twice = std::adjacent_find(begin, end);
      if (twice == end) continue;
      throw Error(ErrorCode::Mismatch,
                  std::string("two entries at ") + format.outer + " " + std::to_string(i) + ", " +
                      format.inner + " " + std::to_string(*twice) +
                      ", where LibTorch's layout has one: call sum_duplicates() in SciPy before "
                      "the matrix is saved");
    }
  }
};

/// Divides the lengths of a matrix by those of its blocks, which are the last two axes of `data`.
inline void divide_by_blocks(std::vector<std::int64_t>& lengths, const StoredArray& data) {
  const std::vector<std::int64_t>& blocks = data.shape();
  const bool fits = blocks.size() == 3 && blocks[1] != 0 && blocks[2] != 0 &&
                    lengths[0] % blocks[1] == 0 && lengths[1] % blocks[2] == 0;
  if (!fits) {
    refuse(data,
           "expected shape (entries, rows of a block, columns of a block) with blocks that "
           "divide a matrix of shape " +
               python_tuple(lengths) + ", found " + python_tuple(blocks));
  }
  lengths = {lengths[0] / blocks[1], lengths[1] / blocks[2]};
}

/// Opens the arrays of a matrix, and checks that their shapes and dtypes agree.
inline CompressedParts open_compressed(SparseArchive& archive, const CompressedFormat& format,
                                       const StoredArray& data, std::vector<std::int64_t> lengths) {
  CompressedParts parts{format, archive.array("indptr"), archive.array("indices")};
  if (lengths.size() != 2) {
    throw Error(ErrorCode::Mismatch,
                std::string("a ") + format.name + " array of shape " + python_tuple(lengths) +
                    ": LibTorch's layout has 2 axes; convert it in SciPy with tocoo()");
  }
  const std::int64_t entries = data.shape().empty() ? 0 : data.shape()[0];
  if (format.layout == c10::kSparseBsr) {
    divide_by_blocks(lengths, data);
  } else {
    require_shape(data, {entries}, "a value for each entry");
  }
  parts.outer = lengths[format.outer_axis];
  parts.inner = lengths[1 - format.outer_axis];
  require_integers(parts.stored_pointers);
  require_integers(parts.stored_indices);
  require_shape(parts.stored_indices, {entries}, "an index for each value of \"data\"");
  const std::vector<std::int64_t>& ends = parts.stored_pointers.shape();
  if (ends.size() != 1 || ends[0] - 1 != parts.outer) {
    refuse(parts.stored_pointers,
           "expected one element more than " +
               counted(static_cast<std::uint64_t>(parts.outer), format.outer) + ", found shape " +
               python_tuple(ends));
  }
  return parts;
}

inline at::Tensor load_compressed(SparseArchive& archive, const CompressedFormat& format,
                                  const StoredArray& data) {
  const std::vector<std::int64_t> shape = archive.shape();
  CompressedParts parts = open_compressed(archive, format, data, shape);
  const auto is_int32 = [](const DType& dtype) {
    return dtype.kind == 'i' && dtype.item_size == 4;
  };
  const bool is_narrow =
      is_int32(parts.stored_pointers.dtype()) && is_int32(parts.stored_indices.dtype());
  LoadOptions as_index = archive.as_index();
  as_index.dtype(is_narrow ? c10::kInt : c10::kLong);
  parts.pointers = archive.read(parts.stored_pointers, as_index);
  parts.indices = archive.read(parts.stored_indices, as_index);
  parts.values = archive.read(data, archive.as_values()).contiguous();
  if (is_narrow) {
    parts.check_and_sort<std::int32_t>();
  } else {
    parts.check_and_sort<std::int64_t>();
  }
  const at::Tensor values = on_device(parts.values, archive.options());
  return at::_sparse_compressed_tensor_unsafe(on_device(parts.pointers, archive.options()),
                                              on_device(parts.indices, archive.options()), values,
                                              shape, values.options().layout(format.layout));
}

/// True if the entries are in ascending order of their indices, the first axis first, and none is
/// there twice. `indices` is contiguous, of shape (axes, entries).
inline bool is_sorted_and_distinct(const std::int64_t* indices, std::size_t axes,
                                   std::size_t entries) {
  for (std::size_t i = 1; i < entries; ++i) {
    std::size_t axis = 0;
    while (axis < axes && indices[axis * entries + i - 1] == indices[axis * entries + i]) ++axis;
    if (axis == axes || indices[axis * entries + i - 1] > indices[axis * entries + i]) return false;
  }
  return true;
}

/// The indices of an array that has those of all axes in `coords`; of shape (axes, entries).
inline at::Tensor load_coords(SparseArchive& archive, const std::vector<std::int64_t>& shape,
                              std::int64_t entries) {
  const StoredArray coords = archive.array("coords");
  require_integers(coords);
  require_shape(coords, {static_cast<std::int64_t>(shape.size()), entries},
                "an index for each axis and each value of \"data\"");
  at::Tensor indices = archive.read(coords, archive.as_index()).contiguous();
  const auto* const index = static_cast<const std::int64_t*>(indices.data_ptr());
  const auto count = static_cast<std::size_t>(entries);
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    require_inside(coords, index + axis * count, axis * count, count, shape[axis]);
  }
  return indices;
}

/// The same of a matrix that has them in `row` and `col`.
inline at::Tensor load_row_and_col(SparseArchive& archive, const std::vector<std::int64_t>& shape,
                                   std::int64_t entries) {
  const StoredArray arrays[] = {archive.array("row"), archive.array("col")};
  if (shape.size() != 2) {
    throw Error(ErrorCode::Mismatch, "expected 2 axes, those of \"row\" and \"col\", found shape " +
                                         python_tuple(shape));
  }
  const LoadOptions& options = archive.as_index();
  for (const StoredArray& array : arrays) {
    require_integers(array);
    require_shape(array, {entries}, "an index for each value of \"data\"");
    // Both have these bytes, or there would be no memory for them.
    array.internal_with_array([&](OpenArray& open) { (void)archive.plan(open, options); });
  }
  const auto count = static_cast<std::size_t>(entries);
  at::Tensor indices = empty_host(2 * count * sizeof(std::int64_t), c10::kLong, {2, entries},
                                  {entries, 1}, pins_memory(options));
  auto* const index = static_cast<std::int64_t*>(indices.data_ptr());
  for (std::size_t axis = 0; axis < 2; ++axis) {
    arrays[axis].internal_with_array([&](OpenArray& open) {
      const LoadPlan plan = open.plan(options);
      ArrayReading(open, plan, options).fill(index + axis * count);
    });
    require_inside(arrays[axis], index + axis * count, 0, count, shape[axis]);
  }
  return indices;
}

inline at::Tensor load_coo(SparseArchive& archive, const StoredArray& data) {
  const std::vector<std::int64_t> shape = archive.shape();
  const std::int64_t entries = data.shape().empty() ? 0 : data.shape()[0];
  require_shape(data, {entries}, "a value for each entry");
  const at::Tensor indices = archive.contains("coords") ? load_coords(archive, shape, entries)
                                                        : load_row_and_col(archive, shape, entries);
  const at::Tensor values = on_device(archive.read(data, archive.as_values()), archive.options());
  const bool is_coalesced =
      is_sorted_and_distinct(static_cast<const std::int64_t*>(indices.data_ptr()), shape.size(),
                             static_cast<std::size_t>(entries));
  at::Tensor tensor = at::_sparse_coo_tensor_unsafe(on_device(indices, archive.options()), values,
                                                    shape, values.options().layout(c10::kSparse));
  return is_coalesced ? tensor._coalesced_(true) : tensor;
}

inline at::Tensor load_sparse(SparseArchive& archive) {
  const std::string name = archive.format();
  if (name == "dia") {
    throw Error(ErrorCode::Mismatch,
                "a matrix in the format dia, for which LibTorch has no layout: convert it in "
                "SciPy, for instance with tocsr(), and save it again");
  }
  const StoredArray data = archive.array("data");
  const DType& dtype = data.dtype();
  // What raw_bytes() would load elsewhere.
  if (loads_raw_bytes(dtype, LoadOptions(archive.options()).raw_bytes(true))) {
    const bool is_misfit = is_raw(dtype) && archive.options().void_as();
    const char* const way_out = is_long_double(dtype) ? "; dtype(torch::kFloat64) rounds them"
                                : is_misfit           ? ", whose size is not that of void_as()"
                                : is_raw(dtype)       ? "; void_as() sets their dtype"
                                                      : "";
    refuse(
        data,
        "the values of a sparse tensor are numbers, found dtype " + descr_literal(dtype) + way_out,
        0, is_misfit ? ErrorCode::Mismatch : ErrorCode::UnsupportedDtype);
  }
  if (name == "coo") return load_coo(archive, data);
  for (const CompressedFormat& format : kCompressedFormats) {
    if (name == format.name) return load_compressed(archive, format, data);
  }
  throw Error(ErrorCode::Mismatch,
              "unknown format " + shown(name) + ": load_sparse() loads csr, csc, bsr and coo");
}

/// An array of the archive of a sparse matrix.
struct SparsePart {
  const char* name;
  Saved array;
};

inline Saved saved_name(std::string_view name) {
  Header header;
  header.dtype.kind = 'S';
  header.dtype.item_size = static_cast<std::int64_t>(name.size());
  at::Tensor bytes = at::empty({header.dtype.item_size}, c10::kByte);
  std::memcpy(bytes.data_ptr(), name.data(), name.size());
  return Saved(header, std::move(bytes));
}

/// Refuses tensors that are not matrices of a layout that SciPy has, too.
inline void require_sparse_matrix(const at::Tensor& tensor) {
  const auto complain = [](const std::string& reason) {
    throw Error(ErrorCode::InvalidArgument, "save_sparse() " + reason);
  };
  if (!tensor.defined()) complain("of an undefined tensor");
  if (tensor.is_meta()) complain("of a tensor without data");
  if (tensor.layout() == c10::kStrided) {
    complain("takes sparse tensors: save() saves a dense one, to_sparse_csr() makes it sparse");
  }
  const bool is_coo = tensor.layout() == c10::kSparse;
  const bool is_known =
      is_coo || std::any_of(std::begin(kCompressedFormats), std::end(kCompressedFormats),
                            [&](const auto& format) { return format.layout == tensor.layout(); });
  if (!is_known) {
    std::ostringstream layout;
    layout << tensor.layout();
    complain("of layout " + layout.str() +
             ", which SciPy does not have: to_dense().to_sparse_csr() converts it");
  }
  const std::int64_t value_axes = tensor.layout() == c10::kSparseBsr ? 3 : 1;
  const at::Tensor values = is_coo ? tensor._values() : tensor.values();
  if (tensor.dim() == 2 && values.dim() == value_axes) return;
  complain("takes matrices, which have 2 axes, both sparse; found shape " +
           python_tuple(tensor.sizes().vec()) + " and values of shape " +
           python_tuple(values.sizes().vec()) +
           ": save_npz() saves indices and values as dense arrays");
}

/// The arrays that SciPy writes for the matrix, in its order.
inline std::vector<SparsePart> sparse_parts(const at::Tensor& tensor) {
  std::vector<SparsePart> parts;
  const auto add = [&](const char* name, const at::Tensor& array) {
    parts.push_back({name, Saved(on_host(array).contiguous())});
  };
  const char* name = "coo";
  at::Tensor values;
  if (tensor.layout() == c10::kSparse) {
    const at::Tensor indices = tensor._indices();
    add("row", indices[0]);
    add("col", indices[1]);
    values = tensor._values();
  } else {
    for (const CompressedFormat& format : kCompressedFormats) {
      if (format.layout == tensor.layout()) name = format.name;
    }
    const bool by_column = tensor.layout() == c10::kSparseCsc;
    add("indices", by_column ? tensor.row_indices() : tensor.col_indices());
    add("indptr", by_column ? tensor.ccol_indices() : tensor.crow_indices());
    values = tensor.values();
  }
  parts.push_back({"format", saved_name(name)});
  add("shape", at::tensor(tensor.sizes(), c10::kLong));
  add("data", values);
  return parts;
}

}  // namespace detail

/// Loads a sparse matrix that scipy.sparse.save_npz() wrote, from its archive:
///
///     csr  kSparseCsr, indices of int32 or int64 as in the file
///     csc  kSparseCsc
///     bsr  kSparseBsr
///     coo  kSparse, of any number of axes; coalesced if the entries are sorted and none is twice
///
/// Every index is checked: a file cannot make LibTorch access other memory than that of the
/// tensor. Indices of other integer dtypes are loaded as int64. LibTorch requires the entries of a
/// row (csc: of a column) to be sorted: if they are not, they are sorted, and the values with them.
/// Two entries at the same position of csr, csc and bsr throw Error (Mismatch). In coo they are
/// kept: their sum is the element, as in SciPy.
///
/// The values have the dtypes of load(). dtype(), unsigned_as(), void_as() and mmap() apply to the
/// values alone: indices are always read, because a mapping could change after the check.
/// max_bytes() limits all arrays together. region() and squeeze() throw Error (InvalidArgument);
/// strings_as_codes() and raw_bytes() have no effect. Deflated archives, which SciPy writes by
/// default, need libdeflate (see NpzFile).
///
/// Peak memory is that of the tensor. To sort a row takes up to three times its memory more, and
/// arrays in Fortran order are copied. Safe from any thread.
/// Throws Error: NotFound for an archive without the arrays of a sparse matrix; Mismatch for the
/// format dia, an unknown format, and arrays that contradict one another; TooLarge for a matrix of
/// more than 2^63 - 1 elements; UnsupportedDtype for values that are not numbers; and what
/// NpzFile::load() throws.
[[nodiscard]] inline at::Tensor load_sparse(const NpzFile& file, const LoadOptions& options = {}) {
  return file.internal_about([&] {
    detail::require_device(options.device());
    if (options.device().is_meta()) {
      throw Error(ErrorCode::InvalidArgument,
                  "load_sparse() to the meta device, where LibTorch has no sparse tensors");
    }
    if (!options.region().empty() || options.squeeze()) {
      throw Error(ErrorCode::InvalidArgument,
                  "load_sparse() loads a whole matrix, without region() and squeeze(): take the "
                  "part of the tensor afterwards");
    }
    detail::SparseArchive archive(file, options);
    return detail::load_sparse(archive);
  });
}

/// Loads the sparse matrix of an .npz file: `load_sparse(NpzFile(path), options)`.
[[nodiscard]] inline at::Tensor load_sparse(const std::filesystem::path& path,
                                            const LoadOptions& options = {}) {
  return load_sparse(NpzFile(path), options);
}

/// Saves a sparse matrix as scipy.sparse.save_npz() does: a tensor of layout kSparseCsr,
/// kSparseCsc, kSparseBsr or kSparse, coalesced or not, with 2 axes, on any device. The indices and
/// values are saved as they are, and SciPy's load_npz() loads them; it has no float16 and no
/// bfloat16. Equal tensors give equal files. The file is written as by save_npz(), and takes the
/// memory of a copy if the tensor is not on the CPU; compressed() takes up to twice the memory of
/// the tensor.
///
/// Throws Error: InvalidArgument for a dense tensor, another layout, another number of axes, and
/// batches or dense axes; and what save_npz() throws. Safe from any thread.
inline void save_sparse(const std::filesystem::path& path, const at::Tensor& tensor,
                        const SaveNpzOptions& options = {}) {
  detail::with_path(path, [&] {
    if (options.compressed() && detail::zip_codec().load()->deflate == nullptr) {
      detail::throw_no_deflate();
    }
    detail::require_sparse_matrix(tensor);
    std::vector<detail::SparsePart> parts = detail::sparse_parts(tensor.detach());
    detail::AtomicFile file(path, options.sync());
    detail::ZipWriter zip(file);
    std::vector<detail::PackedArray> packed(parts.size());
    const std::size_t threads = options.compressed() ? detail::processor_count() : 1;
    detail::for_each_index(parts.size(), threads, [&](std::size_t i) {
      packed[i] = detail::pack(std::string(parts[i].name) + ".npy", std::move(parts[i].array),
                               options.compressed());
    });
    for (const detail::PackedArray& array : packed) array.add_to(zip);
    zip.finish();
    file.commit();
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SPARSE_HPP_
