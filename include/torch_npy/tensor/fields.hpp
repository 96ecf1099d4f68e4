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
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/region.hpp>
#include <torch_npy/tensor/unreadable.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// The records of a structured array are loaded like an array of bytes: mapped, read by several
// threads, or some rows of them. A field is then a strided view of the records, or it is gathered
// from them as if they were a file.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A field without fields of its own.
struct Leaf {
  std::string name;                   ///< with those of the outer fields: `outer.inner`
  std::vector<std::size_t> groups;    ///< lengths of the parts of it that name the outer fields
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
      leaf.groups.push_back(leaf.name.size());
      leaf.name += '.';
      append_leaves(field.dtype, leaf, leaves);
    } else {
      leaf.dtype = field.dtype;
      leaves.push_back(std::move(leaf));
    }
  }
}

/// Throws Error (UnsupportedDtype) if a leaf is an object: the data is then one pickle of any
/// length, not the bytes of records.
inline void require_records(const std::vector<Leaf>& leaves, const LoadOptions& options) {
  for (const Leaf& leaf : leaves) {
    if (leaf.dtype.kind != 'O') continue;
    try {
      with_part("field", leaf.name, [&] { (void)stored_type(leaf.dtype, options); });
    } catch (const Error& error) {
      throw ErrorContext::with_way_out(error,
                                       "the data of an array with such a field is one pickle, so "
                                       "none of its fields can be loaded");
    }
  }
}

/// The leaves with these names, in their order. The name of a field that has fields stands for all
/// of them, unless a leaf has the same name: a field may itself have a name with dots. Throws Error
/// (NotFound, InvalidArgument).
inline std::vector<Leaf> chosen_leaves(const std::vector<Leaf>& leaves,
                                       const std::vector<std::string>& names) {
  std::unordered_map<std::string_view, std::vector<const Leaf*>> found;
  std::unordered_set<std::string_view> names_of_leaves;
  for (const Leaf& leaf : leaves) {
    found[leaf.name].push_back(&leaf);
    names_of_leaves.insert(leaf.name);
  }
  for (const Leaf& leaf : leaves) {
    for (const std::size_t length : leaf.groups) {
      const std::string_view group = std::string_view(leaf.name).substr(0, length);
      if (names_of_leaves.count(group) == 0) found[group].push_back(&leaf);
    }
  }
  std::vector<Leaf> chosen;
  std::unordered_set<const Leaf*> taken;
  for (const std::string& name : names) {
    const auto named = found.find(name);
    if (named == found.end()) {
      std::vector<std::string> there;
      for (const Leaf& leaf : leaves) there.push_back(leaf.name);
      throw Error(ErrorCode::NotFound,
                  "no field " + in_quotes(name) + "; there are " + few_names(there));
    }
    for (const Leaf* const leaf : named->second) {
      if (!taken.insert(leaf).second) {
        throw Error(ErrorCode::InvalidArgument,
                    "load_fields() is given the field " + in_quotes(leaf->name) + " twice");
      }
      chosen.push_back(*leaf);
    }
  }
  return chosen;
}

/// The leaves of `dtype` that are to be loaded: those with the names, or all without a list of
/// names. Throws Error.
inline std::vector<Leaf> leaves_of(const DType& dtype, const std::vector<std::string>* names,
                                   const LoadOptions& options) {
  std::vector<Leaf> leaves;
  append_leaves(dtype, {}, leaves);
  require_records(leaves, options);
  if (names != nullptr) leaves = chosen_leaves(leaves, *names);
  std::vector<std::string_view> found;
  for (const Leaf& leaf : leaves) found.push_back(leaf.name);
  if (const auto duplicate = first_duplicate(std::move(found))) {
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
  for (std::int64_t& stride : strides) {
    is_view = is_view && static_cast<std::size_t>(stride) % item == 0;
    stride /= static_cast<std::int64_t>(item);
  }
  // Its storage starts at its first element: the offset from the first record need not be a whole
  // number of elements.
  if (is_view) {
    return tensor_over(c10::Storage(records.storage()), first, plan.type, plan.sizes, strides);
  }
  const LeafSource source(first, leaf, records.size(-1));
  return read_tensor(ArrayBytes(source, nullptr, plan.end), plan, options);
}

/// Throws Error (TooLarge) if the tensors of the leaves have more than max_bytes() together.
inline void require_bytes(const std::vector<Leaf>& leaves, const LoadOptions& options) {
  std::uint64_t bytes = 0;  // no overflow: each field has at most 16 times the bytes of the file
  for (const Leaf& leaf : leaves) bytes += leaf.plan.bytes;
  if (bytes <= options.max_bytes()) return;
  throw Error(ErrorCode::TooLarge, "the tensors of the fields have " + counted(bytes, "byte") +
                                       ", which is over the limit of " +
                                       std::to_string(options.max_bytes()) + ", max_bytes()");
}

/// One tensor for each field of a structured array, or for those with the names if there is a list.
/// The records are loaded once everything else is known to be valid. `skipped` receives the Errors
/// of fields that the options skip.
inline torch::OrderedDict<std::string, at::Tensor> load_fields_of(
    OpenArray& array, const std::vector<std::string>* names, const LoadOptions& options,
    std::vector<Error>& skipped) {
  Header& header = array.header;
  if (!header.dtype.is_structured()) {
    throw Error(ErrorCode::Mismatch,
                "load_fields() is for structured dtypes, the array has dtype " +
                    descr_literal(header.dtype));
  }
  const DType dtype = std::exchange(header.dtype, *parse_type_string("|u1"));
  std::vector<Leaf> leaves = leaves_of(dtype, names, options);
  const bool fortran_order = header.fortran_order;
  LoadOptions as_bytes = options;
  as_bytes.device(c10::kCPU).dtype(std::nullopt);
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
  Unreadable unreadable(leaves.size(), options, [&] { return way_to_the_rest(names != nullptr); });
  const auto about = [&](std::size_t i, const auto& work) {
    unreadable.load(i, [&] { with_part("field", leaves[i].name, work); });
  };
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    about(i, [&] { plan_leaf(leaves[i], sizes, fortran_order, of_field); });
  }
  require_bytes(leaves, options);

  const at::Tensor records = load_on_host(array, plan, as_bytes);
  torch::OrderedDict<std::string, at::Tensor> fields("Field");
  fields.reserve(leaves.size());
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    about(i, [&] {
      at::Tensor field = leaf_of(records, leaves[i], of_field);
      if (const auto axis = options.squeeze()) {
        field = field.squeeze(static_cast<std::int64_t>(squeezed_axis(field.sizes(), *axis)));
      }
      // Not asynchronously: pinned memory is kept until a copy from it is finished only if the copy
      // starts at the beginning of the memory.
      if (!options.device().is_cpu()) field = to_device(field, options.device());
      fields.insert(leaves[i].name, std::move(field));
    });
  }
  skipped = unreadable.skipped();
  return fields;
}

/// load_fields() of a file; `names` may be null.
inline torch::OrderedDict<std::string, at::Tensor> load_fields_of(
    const std::filesystem::path& path, const std::vector<std::string>* names,
    const LoadOptions& options) {
  with_path(path, [&] { require_device(options.device()); });
  std::vector<Error> skipped;
  auto fields = with_array(path, options, [&](OpenArray& array) {
    return load_fields_of(array, names, options, skipped);
  });
  report_skipped(skipped, options, path, {});
  return fields;
}

}  // namespace detail

/// Loads a structured .npy file: a tensor for each field, under its name and in the order of the
/// file. A field of a field has a name with a dot, `pos.x`. The shape of a tensor is the shape of
/// the array, then the axes of sub-arrays, outer ones first, then with strings_as_codes() the axis
/// of the characters, or with raw_bytes() that of the bytes. dtypes are those of load(). dtype(),
/// unsigned_as(), void_as(), squeeze() and device() apply to every field. Padding is skipped.
///
/// The records are read (or mapped, unless they are a region that is not contiguous) once, as they
/// are. A field is a strided view of them if it is in native byte order, its elements are aligned,
/// and their size divides all strides. Any other field is a copy in the order of the array. A view
/// keeps all records in memory; clone(MemoryFormat::Contiguous) makes an independent tensor. Peak
/// memory is that of the records and the copies. Fields are copied to a device one after another,
/// synchronously.
///
/// Safe from any thread. Throws Error, as load(), with the name of the field: Mismatch for an array
/// without fields; InvalidArgument for a region that OutOfBounds::Fill would have to fill;
/// UnsupportedDtype if a field cannot be loaded, unless on_unreadable() skips it, if two fields
/// have the same name when it is written with dots, or if any field holds objects: the data is then
/// one pickle.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_fields(
    const std::filesystem::path& path, const LoadOptions& options = {}) {
  return detail::load_fields_of(path, nullptr, options);
}

/// The same for the fields with these names, in the order of the names: `load_fields(path, {"id",
/// "pos.x"})`. The name of a field that has fields, `pos`, stands for all of them. The other fields
/// are not converted, and need not have a dtype that a tensor holds. Throws Error, as above;
/// NotFound if there is no such field; InvalidArgument for a field that is named twice.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_fields(
    const std::filesystem::path& path, const std::vector<std::string>& names,
    const LoadOptions& options = {}) {
  return detail::load_fields_of(path, &names, options);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_FIELDS_HPP_
