#ifndef TORCH_NPY_TENSOR_SPARSE_ARCHIVE_HPP_
#define TORCH_NPY_TENSOR_SPARSE_ARCHIVE_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/tensor/unreadable.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// The arrays of a sparse matrix in an archive, and the checks of their elements. LibTorch reads and
// writes memory at the positions that indices name, and does not look whether they are inside the
// matrix. So every index of a file is checked here.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Throws Error about an array of an archive.
inline void refuse(const StoredArray& array, const std::string& reason, std::uint64_t offset = 0,
                   ErrorCode code = ErrorCode::Mismatch) {
  array.internal_about([&] { throw Error(code, reason, offset); });
}

/// Throws Error about element `position` of an array.
inline void refuse_element(const StoredArray& array, std::size_t position, std::int64_t found,
                           const std::string& expected) {
  const auto item = static_cast<std::uint64_t>(array.dtype().item_size);
  refuse(array,
         "element " + std::to_string(position) + " is " + std::to_string(found) + ": expected " +
             expected,
         array.header().data_offset + position * item);
}

/// Requires the array to have this shape, for this reason.
inline void require_shape(const StoredArray& array, const std::vector<std::int64_t>& shape,
                          const std::string& reason) {
  if (array.shape() == shape) return;
  refuse(array, "expected shape " + python_tuple(shape) + ", " + reason + ", found " +
                    python_tuple(array.shape()));
}

inline void require_integers(const StoredArray& array) {
  const DType& dtype = array.dtype();
  if (dtype.kind == 'i' || dtype.kind == 'u') return;
  refuse(array, "expected integers, found dtype " + descr_literal(dtype));
}

/// Requires the ranges to start at 0, to follow one another, and to end with the last entry.
template <class Index>
void require_ranges(const StoredArray& array, const Index* pointers, std::size_t count,
                    std::int64_t entries) {
  if (pointers[0] != 0) refuse_element(array, 0, pointers[0], "0");
  for (std::size_t i = 1; i <= count; ++i) {
    if (pointers[i] >= pointers[i - 1]) continue;
    refuse_element(array, i, pointers[i],
                   "at least " + std::to_string(pointers[i - 1]) + ", the element before it");
  }
  if (pointers[count] == entries) return;
  refuse_element(array, count, pointers[count],
                 std::to_string(entries) + ", the number of entries");
}

/// Requires indices along an axis of this length; `first` is the position of the first of them in
/// the array.
template <class Index>
void require_inside(const StoredArray& array, const Index* indices, std::size_t first,
                    std::size_t count, std::int64_t length) {
  for (std::size_t i = 0; i < count; ++i) {
    if (indices[i] >= 0 && indices[i] < length) continue;
    refuse_element(array, first + i, indices[i],
                   "an index along an axis of length " + std::to_string(length));
  }
}

/// An archive of scipy.sparse.save_npz() in the course of being loaded. An Error that is not about
/// one of its arrays has no path.
class SparseArchive {
 public:
  SparseArchive(const NpzFile& file, const LoadOptions& options)
      : file_(file), options_(options), as_values_(options), budget_(options.max_bytes()) {
    require_plain(options.void_as(), "void_as()");
    as_index_.dtype(c10::kLong).pinned_memory(options.pinned_memory()).threads(options.threads());
    as_index_.max_bytes(options.max_bytes()).max_header_size(options.max_header_size());
    as_values_.device(c10::kCPU).raw_bytes(false);
  }

  const LoadOptions& options() const noexcept { return options_; }
  const LoadOptions& as_index() const noexcept { return as_index_; }
  const LoadOptions& as_values() const noexcept { return as_values_; }

  bool contains(const char* name) const { return file_.contains(name); }
  StoredArray array(const char* name) const { return file_.array(name, as_index_); }

  /// Plans to load an array, and takes its bytes from those that all arrays may have.
  LoadPlan plan(OpenArray& array, const LoadOptions& options) {
    LoadPlan plan = array.plan(options);
    budget_.take(memory_to_load(array, plan, options));
    return plan;
  }

  /// The array on the host.
  at::Tensor read(const StoredArray& array, const LoadOptions& options) {
    return array.internal_with_array(
        [&](OpenArray& open) { return load_on_host(open, plan(open, options), options); });
  }

  std::string format() {
    constexpr std::int64_t kMaxBytes = 64;
    if (!contains("format")) {
      const std::string there = few_names(file_.names());
      throw Error(
          ErrorCode::NotFound,
          "not a matrix of scipy.sparse.save_npz(): no array \"format\"" +
              (there.empty() ? there
                             : "; there are " + there + "; load_npz() is for such archives"));
    }
    const StoredArray array = this->array("format");
    const DType& dtype = array.dtype();
    if (!array.shape().empty() || (dtype.kind != 'S' && dtype.kind != 'U') ||
        dtype.item_size > kMaxBytes) {
      refuse(array,
             "not a matrix of scipy.sparse.save_npz(): expected the name of a format, "
             "shape () and dtype '|S3', found shape " +
                 python_tuple(array.shape()) + " and dtype " + descr_literal(dtype));
    }
    const at::Tensor codes = read(array, LoadOptions(as_index_).strings_as_codes(true));
    const auto* const code = static_cast<const std::int64_t*>(codes.data_ptr());
    std::string name;
    for (std::int64_t i = 0; i < codes.numel() && code[i] != 0; ++i) {
      name += code[i] > 0 && code[i] < 0x80 ? static_cast<char>(code[i]) : '?';
    }
    return name;
  }

  /// The shape of the matrix. LibTorch numbers its elements, so there are at most 2^63 - 1.
  std::vector<std::int64_t> shape() {
    const StoredArray array = this->array("shape");
    require_integers(array);
    if (array.shape().size() != 1 || array.shape()[0] == 0 || array.shape()[0] > 64) {
      refuse(array, "expected 1 to 64 lengths, the shape of the matrix, found an array of shape " +
                        python_tuple(array.shape()));
    }
    const at::Tensor lengths = read(array, as_index_);
    const auto* const length = static_cast<const std::int64_t*>(lengths.data_ptr());
    std::vector<std::int64_t> shape(length, length + lengths.numel());
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] < 0) refuse_element(array, i, shape[i], "a length");
    }
    if (!checked_bytes(shape, 1)) {
      throw Error(ErrorCode::TooLarge,
                  "a matrix of shape " + python_tuple(shape) + " has more than 2^63 - 1 elements");
    }
    return shape;
  }

 private:
  const NpzFile& file_;
  const LoadOptions& options_;
  LoadOptions as_index_;   // int64 on the host
  LoadOptions as_values_;  // on the host
  Budget budget_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SPARSE_ARCHIVE_HPP_
