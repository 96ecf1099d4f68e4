#ifndef TORCH_NPY_TENSOR_SAVE_FIELDS_HPP_
#define TORCH_NPY_TENSOR_SAVE_FIELDS_HPP_

/// @file
/// Saves structured arrays: a tensor for each field.

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/descr_parser.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A field to be saved that has no fields of its own.
struct SavedField {
  std::vector<std::string> names;   ///< of the outer fields, and its own: {"pos", "x"}
  DType dtype;                      ///< of one element
  std::vector<std::int64_t> shape;  ///< of one record
  at::Tensor elements;              ///< axis 0 is that of the records
};

/// The parts of a name between its dots. Throws Error (InvalidArgument).
inline std::vector<std::string> parts_of_name(const std::string& name) {
  std::vector<std::string> parts(1);
  for (std::string_view rest = name; !rest.empty();) {
    const std::string_view all = rest;
    const std::uint32_t code = take_utf8(rest);
    if (code == kNoCharacter) throw Error(ErrorCode::InvalidArgument, "its name is not UTF-8");
    if (code == '.') {
      parts.emplace_back();
    } else {
      parts.back() += all.substr(0, all.size() - rest.size());
    }
  }
  if (std::find(parts.begin(), parts.end(), std::string()) != parts.end()) {
    throw Error(
        ErrorCode::InvalidArgument,
        "its name, and each part of it between dots, must not be empty: NumPy would change it");
  }
  if (parts.size() > std::size_t{DescrParser::kMaxDepth}) {
    throw Error(ErrorCode::InvalidArgument,
                "fields nested more than " + std::to_string(DescrParser::kMaxDepth) + " deep");
  }
  return parts;
}

/// A tensor as a field of records. Throws Error, without the name of the field.
inline SavedField saved_field(const std::string& name, const at::Tensor& tensor) {
  require_data(tensor, "save()");
  require_rank(static_cast<std::size_t>(tensor.dim()));
  SavedField field;
  field.names = parts_of_name(name);
  field.dtype = require_dtype(tensor.scalar_type());
  field.elements = tensor.dim() == 0 ? tensor.detach().unsqueeze(0) : tensor.detach();
  field.shape = field.elements.sizes().slice(1).vec();
  return field;
}

/// The first `count` of these names, with dots.
inline std::string with_dots(const std::vector<std::string>& names, std::size_t count) {
  std::string out;
  for (std::size_t i = 0; i < count; ++i) out += (i == 0 ? "" : ".") + names[i];
  return out;
}

/// Appends a field to a structured dtype, right after those that it has. Throws Error (TooLarge).
inline void append_field(DType& dtype, Field field, const std::string& whole_name) {
  const auto bytes = checked_bytes(field.shape, field.dtype.item_size);
  const bool is_long = std::any_of(field.shape.begin(), field.shape.end(),
                                   [](std::int64_t length) { return length > INT32_MAX; });
  if (is_long || !bytes || *bytes > INT32_MAX - dtype.item_size) {
    throw Error(ErrorCode::TooLarge,
                "with field " + in_quotes(whole_name) +
                    " a record, or an axis of it, is larger than NumPy allows (2^31 - 1): "
                    "save_npz() saves each tensor as an array of its own");
  }
  field.offset = dtype.item_size;
  dtype.item_size += *bytes;
  dtype.fields.push_back(std::move(field));
}

/// The packed dtype of fields [begin, end), which have their first `depth` names in common. Throws
/// Error (InvalidArgument, TooLarge).
inline DType packed_dtype(const std::vector<SavedField>& fields, std::size_t begin, std::size_t end,
                          std::size_t depth) {
  const auto has_fields = [&](std::size_t i) { return fields[i].names.size() > depth + 1; };
  DType dtype;
  std::map<std::string, bool> seen;  // and whether it has fields of its own
  for (std::size_t first = begin; first < end;) {
    const std::vector<std::string>& names = fields[first].names;
    const std::string whole_name = with_dots(names, depth + 1);
    const auto [other, is_new] = seen.emplace(names[depth], has_fields(first));
    if (!is_new) {
      throw Error(ErrorCode::InvalidArgument,
                  other->second != has_fields(first)
                      ? in_quotes(whole_name) + " is a field, and has fields of its own"
                  : other->second
                      ? "the fields of " + in_quotes(whole_name) + " are not adjacent: " +
                            in_quotes(with_dots(names, names.size())) + " comes after another field"
                      : "two fields have the name " + in_quotes(whole_name));
    }
    Field field;
    field.name = names[depth];
    std::size_t next = first + 1;
    if (has_fields(first)) {
      while (next < end && has_fields(next) && fields[next].names[depth] == field.name) ++next;
      field.dtype = packed_dtype(fields, first, next, depth + 1);
    } else {
      field.dtype = fields[first].dtype;
      field.shape = fields[first].shape;
    }
    append_field(dtype, std::move(field), whole_name);
    first = next;
  }
  return dtype;
}

/// A structured array to be saved.
struct SavedFields {
  Header header;
  std::vector<SavedField> fields;
  std::int64_t records = 1;

  explicit SavedFields(const torch::OrderedDict<std::string, at::Tensor>& tensors) {
    if (tensors.is_empty()) {
      throw Error(ErrorCode::InvalidArgument, "save() of no fields: NumPy has no such dtype");
    }
    const at::Tensor& first = tensors[0].value();
    for (const auto& tensor : tensors) {
      with_part("field", tensor.key(), [&] {
        fields.push_back(saved_field(tensor.key(), tensor.value()));
        const bool is_single = tensor.value().dim() == 0;
        if (is_single == (first.dim() == 0) && (is_single || tensor->size(0) == first.size(0))) {
          return;
        }
        throw Error(ErrorCode::InvalidArgument,
                    "it has shape " + python_tuple(tensor->sizes().vec()) + ", the first field " +
                        python_tuple(first.sizes().vec()) +
                        ": axis 0, the records, is the same for all; save_npz() saves tensors of "
                        "different lengths");
      });
    }
    header.dtype = packed_dtype(fields, 0, fields.size(), 0);
    if (first.dim() != 0) header.shape = {records = first.size(0)};
    if (!checked_bytes(header.shape, header.dtype.item_size)) {
      throw Error(ErrorCode::TooLarge, "the bytes of the records do not fit in 63 bits");
    }
  }

  /// Calls `put` with the bytes of some records at a time, in order: of 1 MiB, or of one record.
  template <class Put>
  void for_each_part(const Put& put) const {
    constexpr std::int64_t kPart = std::int64_t{1} << 20;
    const std::int64_t item = header.dtype.item_size;
    if (item == 0 || records == 0) return;
    const std::int64_t at_once = std::clamp<std::int64_t>(kPart / item, 1, records);
    const std::shared_ptr<char> buffer =
        allocate_buffer(static_cast<std::uint64_t>(at_once * item));
    for (std::int64_t begin = 0; begin < records; begin += at_once) {
      const std::int64_t count = (std::min)(at_once, records - begin);
      char* field_of_first = buffer.get();
      for (const SavedField& field : fields) {
        const at::Tensor part = on_host(field.elements.narrow(0, begin, count)).contiguous();
        const std::size_t size = part.nbytes() / static_cast<std::size_t>(count);
        if (size == 0) continue;
        const char* from = static_cast<const char*>(part.data_ptr());
        char* to = field_of_first;
        for (std::int64_t i = 0; i < count; ++i, from += size, to += item) {
          std::memcpy(to, from, size);
        }
        field_of_first += size;
      }
      put(buffer.get(), static_cast<std::size_t>(count * item));
    }
  }
};

}  // namespace detail

/// Saves a structured array, the counterpart of load_fields(): byte for byte what np.save writes
/// for the same records in native byte order, without padding; names with characters that Python
/// does not print are escaped there, and not here. Axis 0 of every tensor is that of
/// the records. The other axes are those of the field in one record. If all tensors are 0-d, the
/// array is one 0-d record. A name with dots is that of a field in a field: `pos.x` and `pos.y`,
/// one after the other, become `pos` with the fields `x` and `y`. load_fields() gives the same
/// tensors again, under the same names and in the same order; bfloat16 and float8 with
/// LoadOptions::void_as().
///
///     torch_npy::save("points.npy", {{"id", ids}, {"pos.x", x}, {"pos.y", y}});
///
/// The file is replaced as by save() of a tensor. Takes 1 MiB of memory, or that of one record if
/// it is larger, and as much again for fields that are not contiguous on the CPU.
///
/// Throws Error: InvalidArgument for no fields, tensors of different lengths, a name that is empty
/// or not UTF-8, two fields of one name, a name that is a field and has fields, fields of a field
/// that are not adjacent, and more than 64 names in one; TooLarge for records of more than 2^31 - 1
/// bytes; and what save() of a tensor throws, with the name of the field. Safe from any thread.
inline void save(const std::filesystem::path& path,
                 const torch::OrderedDict<std::string, at::Tensor>& fields,
                 const SaveOptions& options = {}) {
  detail::with_path(path, [&] {
    const detail::SavedFields saved(fields);
    const std::string header = format_header(saved.header);
    detail::AtomicFile file(path, options.sync());
    file.write(header.data(), header.size());
    saved.for_each_part([&](const char* data, std::size_t size) { file.write(data, size); });
    file.commit();
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SAVE_FIELDS_HPP_
