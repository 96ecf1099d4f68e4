#ifndef TORCH_NPY_TENSOR_FIELDS_HPP_
#define TORCH_NPY_TENSOR_FIELDS_HPP_

/// @file
/// Structured arrays: a tensor for each field.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Storage.h>
#include <torch/ordered_dict.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/text.hpp>

// The records of a structured array are loaded like an array of bytes: mapped, read by several
// threads, or some rows of them. A field is then a strided view of the records, or it is gathered
// from them as if they were a file.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A field without fields of its own.
struct Leaf {
  std::string name;                   ///< with those of the outer fields: `outer.inner`
  DType dtype;                        ///< of one element
  std::int64_t offset = 0;            ///< bytes from the start of the record
  std::vector<std::int64_t> sizes;    ///< of the outer sub-arrays, and of its own
  std::vector<std::int64_t> strides;  ///< of the same, in bytes
  LoadPlan plan;                      ///< as if it were an array of its own
};

/// Appends the leaves of `dtype`, in the order of the file. `around` is the field that has this
/// dtype; its name ends in a dot.
inline void append_leaves(const DType& dtype, const Leaf& around, std::vector<Leaf>& leaves) {
  for (const Field& field : dtype.fields) {
    Leaf leaf = around;
    leaf.name += field.name;
    leaf.offset += field.offset;
    leaf.sizes.insert(leaf.sizes.end(), field.shape.begin(), field.shape.end());
    for (const std::int64_t stride : dense_strides(field.shape, /*fortran_order=*/false)) {
      leaf.strides.push_back(stride * field.dtype.item_size);
    }
    if (field.dtype.is_structured()) {
      leaf.name += '.';
      append_leaves(field.dtype, leaf, leaves);
    } else {
      leaf.dtype = field.dtype;
      leaves.push_back(std::move(leaf));
    }
  }
}

/// The leaves of `dtype`. Throws Error for objects, and for two leaves of one name.
inline std::vector<Leaf> leaves_of(const DType& dtype, const LoadOptions& options) {
  std::vector<Leaf> leaves;
  append_leaves(dtype, {}, leaves);
  std::vector<std::string_view> names;
  for (const Leaf& leaf : leaves) {
    names.push_back(leaf.name);
    // Checked first: the data is then one pickle of any length, not the bytes of records.
    if (leaf.dtype.kind == 'O') {
      with_part("field", leaf.name, [&] { (void)stored_type(leaf.dtype, options); });
    }
  }
  if (const auto duplicate = first_duplicate(std::move(names))) {
    throw Error(ErrorCode::UnsupportedDtype,
                "two fields have the name " + in_quotes(*duplicate) + ", written with dots");
  }
  return leaves;
}

/// Makes the plan of a leaf for records of shape `sizes`.
inline void plan_leaf(Leaf& leaf, const std::vector<std::int64_t>& sizes, bool fortran_order,
                      const LoadOptions& options) {
  Header header;
  header.dtype = leaf.dtype;
  header.fortran_order = fortran_order;
  header.shape = sizes;
  leaf.plan = make_plan(std::move(header), options, UINT64_MAX, leaf.sizes);
  const bool is_string = leaf.plan.inner_axes > leaf.sizes.size();
  if (is_string) leaf.strides.push_back(leaf.plan.dtype.item_size);
}

/// The elements of a leaf as a source of their own: one after another in the order of the records,
/// and within each record in C order.
class LeafSource final : public ByteSource {
 public:
  /// `first` is the address of the leaf in the first record.
  LeafSource(const char* first, const Leaf& leaf, std::int64_t record_size)
      : first_(first),
        size_(leaf.plan.count * leaf.plan.item_size()),
        block_(leaf.plan.item_size()) {
    axes_.push_back({UINT64_MAX, static_cast<std::size_t>(record_size)});  // any number of records
    const std::size_t outer = leaf.plan.sizes.size() - leaf.strides.size();
    for (std::size_t i = 0; i < leaf.strides.size(); ++i) {
      axes_.push_back({static_cast<std::uint64_t>(leaf.plan.sizes[outer + i]),
                       static_cast<std::size_t>(leaf.strides[i])});
    }
    // Adjacent bytes are copied together.
    while (axes_.size() > 1 && axes_.back().stride == block_) {
      block_ *= static_cast<std::size_t>(axes_.back().length);
      axes_.pop_back();
    }
  }

  std::uint64_t size() const override { return size_; }
  std::string name() const override { return {}; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    const std::size_t total = size;
    auto* to = static_cast<char*>(out);
    std::uint64_t index = offset / block_;
    auto skip = static_cast<std::size_t>(offset % block_);
    while (size != 0) {
      const char* from = first_;
      std::uint64_t rest = index;
      for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
        from += rest % axis->length * axis->stride;
        rest /= axis->length;
      }
      // Finding a block takes divisions; the next one along the last axis takes an addition.
      const Axis& last = axes_.back();
      for (std::uint64_t i = index % last.length; i < last.length && size != 0; ++i, ++index) {
        const std::size_t part = (std::min)(size, block_ - skip);
        std::memcpy(to, from + skip, part);
        to += part;
        size -= part;
        from += last.stride;
        skip = 0;
      }
    }
    return total;
  }

 private:
  struct Axis {
    std::uint64_t length;
    std::size_t stride;  // in bytes
  };

  const char* first_;
  std::uint64_t size_;
  std::size_t block_;  // bytes
  std::vector<Axis> axes_;
};

/// The tensor of one leaf. `records` are bytes, those of one record along the last axis, dense in
/// the order of the file. A view if the elements can be used as they are and strides, which count
/// elements, can express their positions; otherwise a copy.
inline at::Tensor leaf_of(const at::Tensor& records, const Leaf& leaf, const LoadOptions& options) {
  const LoadPlan& plan = leaf.plan;
  if (plan.count == 0) {
    return empty_host(0, plan.type, plan.sizes, plan.strides, pins_memory(options));
  }
  char* const first = static_cast<char*>(records.data_ptr()) + leaf.offset;
  const auto item = plan.item_size();
  bool is_view = !plan.converts() && !plan.dtype.is_swapped() &&
                 reinterpret_cast<std::uintptr_t>(first) % plan.alignment() == 0;
  std::vector<std::int64_t> strides =
      records.strides().slice(0, plan.sizes.size() - leaf.strides.size()).vec();
  strides.insert(strides.end(), leaf.strides.begin(), leaf.strides.end());
  for (std::size_t i = 0; i < strides.size(); ++i) {
    is_view = is_view && static_cast<std::size_t>(strides[i]) % item == 0;
    strides[i] /= static_cast<std::int64_t>(item);
  }
  // Its storage starts at its first element: the offset from the first record need not be a whole
  // number of elements.
  if (is_view) {
    return tensor_over(c10::Storage(records.storage()), first, plan.type, plan.sizes, strides);
  }
  const LeafSource source(first, leaf, records.size(-1));
  return read_tensor(ArrayBytes(source, nullptr, plan.end), plan, options);
}

/// One tensor for each field of a structured array. The records are loaded once everything else is
/// known to be valid.
inline torch::OrderedDict<std::string, at::Tensor> load_fields_of(OpenArray& array,
                                                                  const LoadOptions& options) {
  Header& header = array.header;
  if (!header.dtype.is_structured()) {
    throw Error(ErrorCode::Mismatch,
                "load_fields() is for structured dtypes, the array has dtype " +
                    descr_literal(header.dtype));
  }
  const DType dtype = std::exchange(header.dtype, *parse_type_string("|u1"));
  std::vector<Leaf> leaves = leaves_of(dtype, options);
  const bool fortran_order = header.fortran_order;
  LoadOptions as_bytes = options;
  as_bytes.device(c10::kCPU).dtype(std::nullopt).void_as(std::nullopt);
  as_bytes.squeeze(std::nullopt).fill_value(0);
  const LoadPlan plan = array.plan(as_bytes, {dtype.item_size});
  if (plan.is_padded()) {
    throw Error(ErrorCode::InvalidArgument,
                "load_fields() cannot fill what is outside of the array: use OutOfBounds::Throw or "
                "OutOfBounds::Shift");
  }
  if (!plan.in_one_run()) as_bytes.mmap(false);  // fields are gathered from dense records
  const std::vector<std::int64_t> sizes(plan.sizes.begin(), plan.sizes.end() - 1);
  LoadOptions of_field = options;
  of_field.region({}).squeeze(std::nullopt);  // of the records, and of the tensor of the field
  for (Leaf& leaf : leaves) {
    with_part("field", leaf.name, [&] { plan_leaf(leaf, sizes, fortran_order, of_field); });
  }

  std::uint64_t bytes = 0;  // no overflow: each field has at most 16 times the bytes of the file
  for (const Leaf& leaf : leaves) bytes += leaf.plan.bytes;
  if (bytes > options.max_bytes()) {
    throw Error(ErrorCode::TooLarge, "the tensors of the fields have " + counted(bytes, "byte") +
                                         ", which is over the limit of " +
                                         std::to_string(options.max_bytes()) + ", max_bytes()");
  }

  const at::Tensor records = load_on_host(array, plan, as_bytes);
  torch::OrderedDict<std::string, at::Tensor> fields("Field");
  fields.reserve(leaves.size());
  for (const Leaf& leaf : leaves) {
    with_part("field", leaf.name, [&] {
      at::Tensor field = leaf_of(records, leaf, of_field);
      if (const auto axis = options.squeeze()) {
        field = field.squeeze(static_cast<std::int64_t>(squeezed_axis(field.sizes(), *axis)));
      }
      // Not asynchronously: pinned memory is kept until a copy from it is finished only if the copy
      // starts at the beginning of the memory.
      if (!options.device().is_cpu()) field = to_device(field, options.device());
      fields.insert(leaf.name, std::move(field));
    });
  }
  return fields;
}

}  // namespace detail

/// Loads a structured .npy file: a tensor for each field, under its name and in the order of the
/// file. A field of a field has a name with a dot, `pos.x`. The shape of a tensor is the shape of
/// the array, then the axes of sub-arrays, outer ones first, then with strings_as_codes() the axis
/// of the characters. dtypes are those of load(). dtype(), void_as(), squeeze() and device() apply
/// to every field. Padding is skipped.
///
/// The records are read (or mapped, unless they are a region that is not contiguous) once, as they
/// are. A field is a strided view of them if it is
/// in native byte order, its elements are aligned, and their size divides all strides. Any other
/// field is a copy in the order of the array. A view keeps all records in memory;
/// clone(MemoryFormat::Contiguous) makes an independent tensor. Peak memory is that of the records
/// and the copies. Fields are copied to a device one after another, synchronously.
///
/// Safe from any thread. Throws Error, as load(), with the name of the field: Mismatch for an array
/// without fields; InvalidArgument for a region that OutOfBounds::Fill would have to fill;
/// UnsupportedDtype if any field cannot be loaded, or two fields have the same name when it is
/// written with dots.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_fields(
    const std::filesystem::path& path, const LoadOptions& options = {}) {
  detail::with_path(path, [&] { detail::require_device(options.device()); });
  return detail::with_array(path, options, [&](detail::OpenArray& array) {
    return detail::load_fields_of(array, options);
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_FIELDS_HPP_
