#ifndef TORCH_NPY_TENSOR_PLAN_HPP_
#define TORCH_NPY_TENSOR_PLAN_HPP_

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <c10/core/TensorOptions.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/region.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

namespace detail {

/// What a load does, computed before any memory is allocated.
///
/// An item of the array may be several elements of the tensor (the characters of a string, the
/// bytes of a record). They are adjacent and have their own axes, the last ones, in C order even if
/// the array is in Fortran order. All counts are in elements.
struct LoadPlan {
  DType dtype;                             ///< of an element in the file
  c10::ScalarType stored{};                ///< the same for LibTorch; `type` if it has none
  c10::ScalarType type{};                  ///< of the tensor
  std::vector<std::int64_t> sizes;         ///< of the tensor
  std::vector<std::int64_t> strides;       ///< of the tensor, in elements
  std::vector<std::int64_t> file_strides;  ///< of its axes in the file, in elements
  std::uint64_t offset = 0;                ///< of the first element to read, in bytes
  std::uint64_t end = 0;                   ///< of the whole array in the file, in bytes
  Runs from;                               ///< the elements to read, in the file
  Runs to;                                 ///< the same in the tensor, if it is padded
  std::size_t to_offset = 0;               ///< of the first of them in a padded tensor
  std::string padding;    ///< the bytes of an element outside of the array; empty if there is none
  std::size_t count = 0;  ///< elements of the tensor
  std::size_t bytes = 0;  ///< of the tensor
  std::size_t inner = 1;  ///< elements of one item of the array
  std::size_t inner_axes = 0;  ///< axes that these have in the tensor
  bool fortran_order = false;
  bool is_whole = true;  ///< all elements of the array are read

  std::size_t item_size() const { return static_cast<std::size_t>(dtype.item_size); }
  /// The address of an element in native byte order must be a multiple of this. For complex numbers
  /// it is their whole size: c10::complex has that alignment, and a misaligned copy crashes.
  std::size_t alignment() const { return item_size(); }
  bool converts() const { return stored != type || !is_native(); }
  bool is_padded() const { return !padding.empty(); }
  /// Whether the tensor has the bytes in the order in which they are adjacent in the file.
  bool in_one_run() const { return from.is_one() && !is_padded(); }
  /// Whether this LibTorch has a dtype for the items at all; raw items have that of void_as().
  bool is_native() const { return dtype.kind == 'V' || scalar_type_of(dtype); }
};

/// Refuses types without plain elements: quantized, undefined and unknown ones.
inline void require_plain(const std::optional<c10::ScalarType>& type, const char* option) {
  if (!type) return;
  if (*type == kNextSigned) {
    throw Error(ErrorCode::InvalidArgument,
                std::string(option) + " takes a dtype; kNextSigned is for unsigned_as()");
  }
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

/// A dtype of this LibTorch that raw items of a size can have, for a message; null if there is
/// none.
inline const char* example_for_raw(std::int64_t size) {
  switch (size) {
#if TORCH_NPY_TORCH_AT_LEAST(2, 1)
    case 1: return "void_as(torch::kFloat8_e4m3fn) for the float8_e4m3fn of ml_dtypes";
#else
    case 1: return "void_as(torch::kUInt8); LibTorch 2.1 and later have float8";
#endif
    case 2: return "void_as(torch::kBFloat16) for the bfloat16 of ml_dtypes";
    case 4: return "void_as(torch::kInt32)";
    case 8: return "void_as(torch::kInt64)";
    case 16: return "void_as(torch::kComplexDouble)";
    default: return nullptr;
  }
}

inline bool void_as_fits(const DType& dtype, const LoadOptions& options) {
  return options.void_as() &&
         static_cast<std::int64_t>(c10::elementSize(*options.void_as())) == dtype.item_size;
}

/// Why raw items cannot be loaded: void_as() does not give them a dtype.
inline Error no_type_for_raw(const DType& dtype, const LoadOptions& options) {
  constexpr const char* kRawBytes = "raw_bytes(true) loads their bytes as uint8";
  if (options.void_as()) {
    return Error(ErrorCode::Mismatch, "void_as() names a dtype of " +
                                          counted(c10::elementSize(*options.void_as()), "byte") +
                                          ", the items have " + std::to_string(dtype.item_size) +
                                          "; " + kRawBytes);
  }
  const char* const example = example_for_raw(dtype.item_size);
  const std::string way_out =
      example == nullptr ? "; "
                         : std::string("; void_as() sets one, for instance ") + example + "; ";
  return Error(ErrorCode::UnsupportedDtype, "raw bytes (" + descr_literal(dtype) +
                                                ") have no numeric type" + way_out + kRawBytes);
}

/// Throws Error (UnsupportedDtype) unless dtype() asks for a dtype to which these items are
/// rounded.
inline void require_long_double(const DType& dtype, const LoadOptions& options) {
  const auto unsupported = [&](const std::string& reason) {
    return Error(ErrorCode::UnsupportedDtype,
                 "LibTorch has no dtype for " + descr_literal(dtype) +
                     (dtype.kind == 'f' ? ", NumPy's longdouble" : ", NumPy's clongdouble") +
                     reason);
  };
  if (!is_long_double(dtype)) {
    throw unsupported(
        ": save the array as float64 or complex128, or load the bytes with "
        "raw_bytes(true)");
  }
  if (!options.dtype()) {
    throw unsupported(std::string(": dtype(torch::") +
                      (dtype.kind == 'f' ? "kFloat64" : "kComplexDouble") +
                      ") rounds its values, and converts all that is loaded with it; "
                      "raw_bytes(true) loads its bytes");
  }
  const c10::ScalarType real = c10::toRealValueType(*options.dtype());
  if (real != c10::ScalarType::Double && real != c10::ScalarType::Float) {
    throw unsupported(std::string(", and it is not converted to ") +
                      c10::toString(*options.dtype()) +
                      ": expected kFloat32, kFloat64, kComplexFloat or kComplexDouble");
  }
}

/// Whether items are, or have, Python objects: the data of the array is then one pickle.
inline bool has_objects(const DType& dtype) {
  return dtype.kind == 'O' ||
         std::any_of(dtype.fields.begin(), dtype.fields.end(),
                     [](const Field& field) { return has_objects(field.dtype); });
}

/// Whether raw_bytes() loads the items as their bytes, because no tensor holds them.
inline bool loads_raw_bytes(const DType& dtype, const LoadOptions& options) {
  if (!options.raw_bytes()) return false;
  switch (dtype.kind) {
    case 'S':
    case 'U': return true;
    case 'V': return dtype.is_structured() ? !has_objects(dtype) : !void_as_fits(dtype, options);
    case 'f':
    case 'c': return !scalar_type_of(dtype) && !(is_long_double(dtype) && options.dtype());
    default: return false;
  }
}

/// The ScalarType of the items in the file; none for those that are only loaded by converting them.
inline std::optional<c10::ScalarType> stored_type(const DType& dtype, const LoadOptions& options) {
  const auto unsupported = [](const std::string& reason) {
    return Error(ErrorCode::UnsupportedDtype, reason);
  };
  if (dtype.is_structured()) {
    throw unsupported("a structured dtype of " + counted(dtype.fields.size(), "field") +
                      (has_objects(dtype) ? ", some of which are Python objects: the data of the "
                                            "array is one pickle, which is never loaded"
                                          : " is not one tensor: load_fields() gives one for each "
                                            "field"));
  }
  switch (dtype.kind) {
    case 'O':
      throw unsupported(
          "object dtype: its items are pickled Python objects, which can execute code and are "
          "never loaded; save arrays with a numeric dtype, and a dict of arrays with "
          "np.savez(path, **arrays)");
    case 'S':
    case 'U':
      throw unsupported("strings (" + descr_literal(dtype) +
                        ") are not numbers; strings_as_codes(true) loads their " +
                        (dtype.kind == 'S' ? "bytes as uint8" : "code points as int32"));
    case 'V':
      if (!void_as_fits(dtype, options)) throw no_type_for_raw(dtype, options);
      return options.void_as();
    default: break;
  }
  const auto type = scalar_type_of(dtype);
  if (!type && !is_wide_unsigned(dtype)) require_long_double(dtype, options);
  if (!type && is_wide_unsigned(dtype) && !options.dtype() && !options.unsigned_as()) {
    throw unsupported(
        "LibTorch " + std::to_string(TORCH_VERSION_MAJOR) + "." +
        std::to_string(TORCH_VERSION_MINOR) + " has no dtype for " + descr_literal(dtype) +
        " (2.3 and later do): unsigned_as(torch_npy::kNextSigned) loads it as " +
        (dtype.item_size == 2 ? "int32" : "int64") + ", and changes nothing but unsigned integers");
  }
  return type;
}

/// The ScalarType of the tensor. `stored`: of the items.
inline c10::ScalarType type_to_load(const DType& dtype, std::optional<c10::ScalarType> stored,
                                    const LoadOptions& options) {
  if (options.dtype()) return *options.dtype();
  if (!is_wide_unsigned(dtype) || !options.unsigned_as()) return *stored;
  if (*options.unsigned_as() != kNextSigned) return *options.unsigned_as();
  return dtype.item_size == 2 ? c10::ScalarType::Int : c10::ScalarType::Long;
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
  plan.file_strides.erase(plan.file_strides.begin() + static_cast<std::ptrdiff_t>(index));
}

/// The value as a 0-d tensor of this dtype; undefined if the dtype cannot hold it.
inline at::Tensor exact_scalar(const c10::Scalar& value, c10::ScalarType dtype) {
  try {
    at::Tensor element = at::full({}, value, at::TensorOptions(dtype));
    if (c10::isFloatingType(dtype)) {  // some versions of LibTorch make 1e30 an infinite float16
      const bool is_finite = std::isfinite(element.item().toDouble());
      return is_finite == std::isfinite(value.toDouble()) ? element : at::Tensor();
    }
    if (!c10::isIntegralType(dtype, /*includeBool=*/true)) return element;
    // LibTorch lets negative numbers wrap around, and truncates fractions.
    if (!value.isComplex() && element.item().toDouble() == value.toDouble()) return element;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception&) {  // LibTorch throws more than c10::Error
  }
  return {};
}

/// The bytes of an element of `type`. Throws Error (InvalidArgument) if it cannot hold the value.
inline std::string element_of(const c10::Scalar& value, c10::ScalarType type) {
  const at::Tensor element = exact_scalar(value, type);
  if (element.defined()) {
    return {static_cast<const char*>(element.data_ptr()), c10::elementSize(type)};
  }
  throw Error(ErrorCode::InvalidArgument,
              std::string("the value for what is outside of the array cannot be an element of ") +
                  c10::toString(type));
}

/// Completes a plan that reads a box, which lies in the tensor at the offset `lead` along each
/// axis. Throws Error (TooLarge).
inline void finish_plan(LoadPlan& plan, const std::vector<std::int64_t>& box,
                        const std::vector<std::int64_t>& lead, std::uint64_t max_bytes) {
  const auto bytes =
      checked_bytes(plan.sizes, static_cast<std::int64_t>(c10::elementSize(plan.type)));
  const auto limit = std::min<std::uint64_t>(max_bytes, PTRDIFF_MAX);
  if (!bytes || static_cast<std::uint64_t>(*bytes) > limit) {
    throw Error(ErrorCode::TooLarge,
                "a tensor of " + (bytes ? std::to_string(*bytes) : "more than 2^63") +
                    " bytes is over the limit of " + std::to_string(limit) + ", max_bytes()");
  }
  plan.bytes = static_cast<std::size_t>(*bytes);
  plan.count = plan.bytes / c10::elementSize(plan.type);
  plan.strides = dense_strides(plan.sizes, plan.fortran_order, plan.inner_axes);
  plan.from = runs_of(box, plan.file_strides, plan.fortran_order, plan.inner_axes);
  if (!plan.is_padded()) return;
  plan.to = runs_of(box, plan.strides, plan.fortran_order, plan.inner_axes);
  for (std::size_t axis = 0; axis < box.size(); ++axis) {
    plan.to_offset += static_cast<std::size_t>(lead[axis] * plan.strides[axis]);
  }
}

/// Reduces a plan without padding to the region that the options ask for; of its tensor, not of the
/// array. Throws Error (InvalidArgument, TooLarge).
inline void take_region(LoadPlan& plan, const LoadOptions& options) {
  const std::size_t axes = plan.sizes.size() - plan.inner_axes;
  const auto inner = plan.sizes.begin() + static_cast<std::ptrdiff_t>(axes);
  const Region region =
      resolve_region(options.region(), {plan.sizes.begin(), inner}, options.out_of_bounds());
  std::vector<std::int64_t> box = plan.sizes;
  std::vector<std::int64_t> lead(box.size());
  for (std::size_t axis = 0; axis < axes; ++axis) {
    const std::int64_t length = plan.sizes[axis];
    const auto [begin, end] = region[axis];
    const std::int64_t first = std::clamp<std::int64_t>(begin, 0, length);
    box[axis] = std::clamp<std::int64_t>(end, first, length) - first;
    lead[axis] = box[axis] == 0 ? 0 : first - begin;
    plan.offset += static_cast<std::uint64_t>(first * plan.file_strides[axis]) * plan.item_size();
    plan.sizes[axis] = end - begin;
    plan.is_whole = plan.is_whole && begin == 0 && end == length;
  }
  if (box != plan.sizes) plan.padding = element_of(options.fill_value(), plan.type);
  finish_plan(plan, box, lead, options.max_bytes());
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
  if (options.unsigned_as() != kNextSigned) require_plain(options.unsigned_as(), "unsigned_as()");
  if (options.strings_as_codes() && (header.dtype.kind == 'S' || header.dtype.kind == 'U')) {
    split_string(header.dtype, inner);
  }
  if (loads_raw_bytes(header.dtype, options)) {
    inner.push_back(header.dtype.item_size);
    header.dtype = *parse_type_string("|u1");
    plan.stored = plan.type = c10::ScalarType::Byte;
  } else {
    const auto stored = stored_type(header.dtype, options);
    plan.type = type_to_load(header.dtype, stored, options);
    plan.stored = stored.value_or(plan.type);
  }

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

  plan.dtype = std::move(header.dtype);
  plan.fortran_order = header.fortran_order;
  plan.file_strides = dense_strides(plan.sizes, plan.fortran_order, plan.inner_axes);
  if (options.region().empty()) {
    finish_plan(plan, plan.sizes, {}, options.max_bytes());
  } else {
    take_region(plan, options);
  }
  if (options.squeeze()) squeeze(plan, *options.squeeze());
  return plan;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_PLAN_HPP_
