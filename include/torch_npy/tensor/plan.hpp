#ifndef TORCH_NPY_TENSOR_PLAN_HPP_
#define TORCH_NPY_TENSOR_PLAN_HPP_

#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE

namespace detail {

/// What a load does, computed before any memory is allocated. `rows` of a Fortran-ordered array are
/// as many contiguous runs as the array has columns; everything else is one run.
///
/// An item of the array may be several elements of the tensor (the characters of a string, the
/// bytes of a record). They are adjacent and have their own axes, the last ones, in C order even if
/// the array is in Fortran order. All counts are in elements.
struct LoadPlan {
  DType dtype;                        ///< of an element in the file
  c10::ScalarType stored{};           ///< the same for LibTorch; `type` if it has none
  c10::ScalarType type{};             ///< of the tensor
  std::vector<std::int64_t> sizes;    ///< of the tensor
  std::vector<std::int64_t> strides;  ///< of the tensor, in elements
  std::uint64_t offset = 0;           ///< of the first run, in bytes
  std::uint64_t end = 0;              ///< of the whole array in the file, in bytes
  std::uint64_t run_stride = 0;       ///< from one run to the next, in bytes
  std::size_t run = 0;                ///< elements of one run
  std::size_t count = 0;              ///< elements of all runs
  std::size_t bytes = 0;              ///< of the tensor
  std::size_t inner = 1;              ///< elements of one item of the array
  std::size_t inner_axes = 0;         ///< axes that these have in the tensor

  std::size_t item_size() const { return static_cast<std::size_t>(dtype.item_size); }
  /// The address of an element in native byte order must be a multiple of this. For complex numbers
  /// it is their whole size: c10::complex has that alignment, and a misaligned copy crashes.
  std::size_t alignment() const { return item_size(); }
  bool converts() const { return stored != type || !is_native(); }
  bool in_one_run() const { return run == count; }
  /// Whether this LibTorch has a dtype for the items at all.
  bool is_native() const { return !is_wide_unsigned(dtype) || scalar_type_of(dtype); }
};

/// Refuses types without plain elements: quantized, undefined and unknown ones.
inline void require_plain(const std::optional<c10::ScalarType>& type, const char* option) {
  if (!type) return;
  bool plain = !c10::isQIntType(*type);
  try {
    (void)c10::elementSize(*type);
  } catch (const c10::Error&) {
    plain = false;
  }
  if (!plain) {
    throw Error(ErrorCode::InvalidArgument,
                std::string(option) + " cannot be " + c10::toString(*type));
  }
}

/// The ScalarType of the items in the file; none for unsigned integers that only dtype() can load.
inline std::optional<c10::ScalarType> stored_type(const DType& dtype, const LoadOptions& options) {
  const auto unsupported = [](const std::string& reason) {
    return Error(ErrorCode::UnsupportedDtype, reason);
  };
  if (dtype.is_structured()) {
    throw unsupported("a structured dtype of " + counted(dtype.fields.size(), "field") +
                      " is not one tensor: load_fields() gives one for each field");
  }
  switch (dtype.kind) {
    case 'O':
      throw unsupported(
          "object dtype: its items are pickled Python objects, which can execute code and are "
          "never "
          "loaded; save the array with a numeric dtype");
    case 'S':
    case 'U':
      throw unsupported("strings (" + descr_literal(dtype) +
                        ") are not numbers; strings_as_codes(true) loads their " +
                        (dtype.kind == 'S' ? "bytes as uint8" : "code points as int32"));
    case 'V':
      if (!options.void_as()) {
        const char* const example =
            dtype.item_size == 1   ? ", for instance void_as(torch::kFloat8_e4m3fn) for the "
                                     "float8_e4m3fn of ml_dtypes"
            : dtype.item_size == 2 ? ", for instance void_as(torch::kBFloat16) for the bfloat16 of "
                                     "ml_dtypes"
                                   : "";
        throw unsupported("raw bytes (" + descr_literal(dtype) +
                          ") have no numeric type; void_as() sets one" + example);
      }
      if (static_cast<std::int64_t>(c10::elementSize(*options.void_as())) != dtype.item_size) {
        throw Error(ErrorCode::Mismatch, "void_as() names a dtype of " +
                                             counted(c10::elementSize(*options.void_as()), "byte") +
                                             ", the items have " + std::to_string(dtype.item_size));
      }
      return options.void_as();
    default: break;
  }
  const auto type = scalar_type_of(dtype);
  if (!type && dtype.kind != 'u') {
    throw unsupported("LibTorch has no dtype for " + descr_literal(dtype) +
                      ": save the array as float64 or complex128");
  }
  if (!type && !options.dtype()) {
    throw unsupported("LibTorch " + std::to_string(TORCH_VERSION_MAJOR) + "." +
                      std::to_string(TORCH_VERSION_MINOR) + " has no dtype for " +
                      descr_literal(dtype) +
                      " (2.3 and later do): load it with a wider one, for instance "
                      "dtype(torch::kInt64)");
  }
  return type;
}

/// Strides in elements; the last `inner_axes` axes are always in C order. Axes of length 0 count as
/// 1, as in NumPy and LibTorch.
inline std::vector<std::int64_t> dense_strides(const std::vector<std::int64_t>& sizes,
                                               bool fortran_order, std::size_t inner_axes = 0) {
  std::vector<std::int64_t> strides(sizes.size());
  std::int64_t stride = 1;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::size_t axis =
        fortran_order && i >= inner_axes ? i - inner_axes : sizes.size() - 1 - i;
    strides[axis] = stride;
    stride *= std::max<std::int64_t>(sizes[axis], 1);
  }
  return strides;
}

/// Replaces a string dtype by that of its characters, which get one more axis in `inner`.
inline void split_string(DType& dtype, std::vector<std::int64_t>& inner) {
  const char byte_order = dtype.byte_order;
  const std::int64_t bytes = dtype.item_size;
  dtype = *parse_type_string(dtype.kind == 'S' ? "|u1" : "=i4");
  if (byte_order != '|') dtype.byte_order = byte_order;
  inner.push_back(bytes / dtype.item_size);
}

/// The axis that squeeze(axis) removes from a tensor with these sizes. Throws Error (Mismatch) if
/// its length is not 1.
inline std::size_t squeezed_axis(c10::IntArrayRef sizes, std::int64_t axis) {
  const auto axes = static_cast<std::int64_t>(sizes.size());
  const std::int64_t index = axis < 0 ? axis + axes : axis;
  if (index >= 0 && index < axes && sizes[static_cast<std::size_t>(index)] == 1) {
    return static_cast<std::size_t>(index);
  }
  throw Error(ErrorCode::Mismatch, "squeeze(" + std::to_string(axis) +
                                       ") removes an axis of length 1, and the shape is " +
                                       python_tuple(sizes.vec()));
}

/// Removes the axis of squeeze(). No element moves.
inline void squeeze(LoadPlan& plan, std::int64_t axis) {
  const std::size_t index = squeezed_axis(plan.sizes, axis);
  if (index >= plan.sizes.size() - plan.inner_axes) --plan.inner_axes;
  plan.sizes.erase(plan.sizes.begin() + static_cast<std::ptrdiff_t>(index));
  plan.strides.erase(plan.strides.begin() + static_cast<std::ptrdiff_t>(index));
}

/// Validates the header against the options and against `available`, the number of bytes that exist
/// from its start on. An item of the array consists of elements of header.dtype with axes `inner`;
/// of one element if there are none.
inline LoadPlan make_plan(Header&& header, const LoadOptions& options, std::uint64_t available,
                          std::vector<std::int64_t> inner = {}) {
  // NumPy has no more, and some of LibTorch's functions support no more.
  constexpr std::size_t kMaxAxes = 64;

  LoadPlan plan;
  require_plain(options.dtype(), "dtype()");
  require_plain(options.void_as(), "void_as()");
  if (options.strings_as_codes() && (header.dtype.kind == 'S' || header.dtype.kind == 'U')) {
    split_string(header.dtype, inner);
  }
  const auto stored = stored_type(header.dtype, options);
  plan.type = options.dtype() ? *options.dtype() : *stored;
  plan.stored = stored.value_or(plan.type);

  const bool has_rows = !header.shape.empty();
  const std::int64_t length = has_rows ? header.shape[0] : 1;
  plan.sizes = std::move(header.shape);
  if (!inner.empty()) {
    plan.sizes.insert(plan.sizes.end(), inner.begin(), inner.end());
    plan.inner_axes = inner.size();
    plan.inner = static_cast<std::size_t>(checked_bytes(inner, 1).value_or(0));
  }
  const auto whole = checked_bytes(plan.sizes, header.dtype.item_size);
  if (!whole || plan.sizes.size() > kMaxAxes) {
    throw Error(ErrorCode::TooLarge, whole ? "a tensor of " + std::to_string(plan.sizes.size()) +
                                                 " axes: the limit is " + std::to_string(kMaxAxes)
                                           : "the bytes of shape " + python_tuple(plan.sizes) +
                                                 " do not fit in 63 bits");
  }
  const auto declared = static_cast<std::uint64_t>(*whole);
  plan.offset = header.data_offset;
  plan.end = plan.offset + declared;
  if (plan.end > available) throw data_cut_short(plan.offset, declared, available);

  const auto [begin, end] =
      options.rows().value_or(std::pair<std::int64_t, std::int64_t>(0, length));
  if (options.rows()) {
    if (!has_rows) {
      throw Error(ErrorCode::InvalidArgument, "rows() of a 0-d array: it has no axis 0");
    }
    if (begin < 0 || begin > end || end > length) {
      throw Error(ErrorCode::InvalidArgument,
                  "rows(" + std::to_string(begin) + ", " + std::to_string(end) +
                      ") of an array of " + counted(static_cast<std::uint64_t>(length), "row") +
                      ": 0 <= begin <= end <= length is required");
    }
    plan.sizes[0] = end - begin;
  }
  plan.strides = dense_strides(plan.sizes, header.fortran_order, plan.inner_axes);

  const auto bytes =
      checked_bytes(plan.sizes, static_cast<std::int64_t>(c10::elementSize(plan.type)));
  const auto limit = std::min<std::uint64_t>(options.max_bytes(), PTRDIFF_MAX);
  if (!bytes || static_cast<std::uint64_t>(*bytes) > limit) {
    throw Error(ErrorCode::TooLarge,
                "a tensor of " + (bytes ? std::to_string(*bytes) : "more than 2^63") +
                    " bytes is over the limit of " + std::to_string(limit) + ", max_bytes()");
  }
  plan.bytes = static_cast<std::size_t>(*bytes);
  plan.count = plan.bytes / c10::elementSize(plan.type);
  plan.run = plan.count;
  if (plan.count != 0 && end - begin != length) {
    const auto rows = static_cast<std::size_t>(end - begin);
    const std::size_t row = header.fortran_order ? plan.inner : plan.count / rows;
    const auto row_bytes = row * static_cast<std::uint64_t>(header.dtype.item_size);
    plan.offset += static_cast<std::uint64_t>(begin) * row_bytes;
    if (header.fortran_order) plan.run = rows * row;
    plan.run_stride = static_cast<std::uint64_t>(length) * row_bytes;
  }
  plan.dtype = std::move(header.dtype);
  if (options.squeeze()) squeeze(plan, *options.squeeze());
  return plan;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_PLAN_HPP_
