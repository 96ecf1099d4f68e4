#ifndef TORCH_NPY_TENSOR_MODULE_HPP_
#define TORCH_NPY_TENSOR_MODULE_HPP_

/// @file
/// The parameters and buffers of modules in .npz archives, with the names of Python's state_dict().

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <torch/ordered_dict.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/save_npz.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// The names that only one of a module and an archive has, as load_state_dict() of PyTorch returns
/// them.
struct IncompatibleKeys {
  std::vector<std::string> missing_keys;     ///< of the module, in its order
  std::vector<std::string> unexpected_keys;  ///< of the archive, in its order
};

namespace detail {

using NamedTensors = torch::OrderedDict<std::string, at::Tensor>;

/// Adds the parameters and buffers of a module and of its submodules in the order of state_dict().
template <class Module>
void add_state(const Module& module, const std::string& prefix, NamedTensors& state) {
  static_assert(std::is_same_v<decltype(module.named_buffers(false)), NamedTensors>,
                "save_parameters() and load_parameters() take a torch::nn::Module, a module holder "
                "or a pointer to a module; they do not take a torch::jit::Module");
  const auto add = [&](const NamedTensors& tensors) {
    for (const auto& tensor : tensors) {
      const std::string name = prefix + tensor.key();
      if (state.contains(name)) {
        throw Error(ErrorCode::InvalidArgument,
                    "a parameter and a buffer of the module have the name " + in_quotes(name));
      }
      state.insert(name, tensor.value());
    }
  };
  add(module.named_parameters(/*recurse=*/false));
  add(module.named_buffers(/*recurse=*/false));
  for (const auto& child : module.named_children()) {
    add_state(*child.value(), prefix + child.key() + '.', state);
  }
}

/// The module in a holder or behind a pointer. Throws Error (InvalidArgument) if there is none.
template <class Pointer>
auto module_of(const Pointer& module, int) -> decltype(*module) {
  if (!module) throw Error(ErrorCode::InvalidArgument, "the pointer to the module is null");
  return *module;
}
template <class Module>
const Module& module_of(const Module& module, long) {
  return module;  // NOLINT(bugprone-return-const-ref-from-parameter): a module is no temporary
}

template <class Module>
NamedTensors state_of(const Module& module) {
  NamedTensors state("parameter or buffer");
  add_state(module_of(module, 0), "", state);
  return state;
}

/// A tensor of a module, and the array that it gets.
struct NewValue {
  const std::string& name;
  const at::Tensor& tensor;
  at::Tensor array = {};
};

/// bfloat16, as save_parameters() and ml_dtypes store it.
inline bool is_bfloat16(const DType& dtype) { return is_raw(dtype) && dtype.item_size == 2; }

/// Whether an array is loaded into a tensor of `type`: the dtype is the same, or both are
/// floating-point, or both are complex. Numbers that are integers on one side only are loaded if no
/// value changes: LibTorch's Module::to(dtype) also converts num_batches_tracked of BatchNorm.
inline bool has_values_for(const DType& stored, c10::ScalarType type) {
  const auto same = dtype_of(type);
  if (!same || stored.is_structured()) return false;
  if (stored.kind == same->kind && stored.item_size == same->item_size) return true;
  const bool is_number =
      c10::isFloatingType(type) || c10::isIntegralType(type, /*includeBool=*/false);
  if (is_bfloat16(stored)) return is_number;
  if (!scalar_type_of(stored)) return false;
  switch (stored.kind) {
    case 'c': return c10::isComplexType(type);
    case 'f':
    case 'i':
    case 'u': return is_number;
    default: return false;
  }
}

/// Whether numbers are the same after a conversion, if one side has integers.
inline bool are_same_numbers(const at::Tensor& values, const at::Tensor& converted) {
  if (!converted.to(values.scalar_type()).equal(values)) return false;
  // An overflow may be undone on the way back, but it is seen in both as float64, or is at 2^63.
  const at::Tensor as_double = values.to(at::kDouble);
  if (!as_double.equal(converted.to(at::kDouble))) return false;
  const bool has_fractions = values.is_floating_point() || converted.is_floating_point();
  return !has_fractions || as_double.lt(0x1p63).all().item<bool>();
}

/// Loads an array for a tensor of `type`. Throws Error (Mismatch) if an integer changes.
inline at::Tensor load_values(const NpzFile& file, const std::string& name, c10::ScalarType type,
                              std::size_t threads) {
  LoadOptions options;
  options.threads(threads);
  const StoredArray array = file.array(name, options);
  const DType& stored = array.dtype();
  if (stored.kind == 'V') {
    options.void_as(dtype_of(type)->kind == 'V' ? type : c10::ScalarType::BFloat16);
  }
  const bool has_integers = stored.kind == 'i' || stored.kind == 'u';
  const bool is_exact = has_integers || c10::isIntegralType(type, /*includeBool=*/false);
  if (!is_exact || scalar_type_of(stored) == type) return array.load(options.dtype(type));
  const at::Tensor values = array.load(options);
  const at::Tensor converted = values.to(type);
  if (are_same_numbers(values, converted)) return converted;
  throw Error(ErrorCode::Mismatch, in_quotes(name) + " has values of " + descr_literal(stored) +
                                       " that " + c10::toString(type) +
                                       ", the dtype in the module, cannot hold" +
                                       (has_integers ? "; load them into the module first, and "
                                                       "convert it with to() then"
                                                     : ""));
}

inline std::string shown_tensor(const at::Tensor& tensor) {
  return std::string(c10::toString(tensor.scalar_type())) + " " +
         python_tuple(tensor.sizes().vec());
}

/// Compares the tensors of a module with the headers in an archive. Returns those that the archive
/// has, and adds all other names to `keys`. Throws Error: Mismatch for wrong shapes and dtypes and,
/// if `strict`, for wrong names, InvalidArgument for a tensor that cannot be filled.
inline std::vector<NewValue> match(const NamedTensors& state, const NpzFile& file, bool strict,
                                   IncompatibleKeys& keys) {
  std::vector<NewValue> values;
  FewLines missing, unexpected, misfits;
  // NpzFile::contains() also finds "a" if asked for "a.npy".
  const std::unordered_set<std::string_view> stored(file.names().begin(), file.names().end());
  for (const auto& item : state) {
    const std::string& name = item.key();
    const at::Tensor& tensor = item.value();
    if (stored.count(name) == 0) {
      missing.add(in_quotes(name) + ": " + shown_tensor(tensor));
      keys.missing_keys.push_back(name);
      continue;
    }
    with_part("tensor", name, [&] { require_fillable(tensor, "load_parameters()"); });
    const Header header = file.header(name);
    if (tensor.sizes() != at::IntArrayRef(header.shape) ||
        !has_values_for(header.dtype, tensor.scalar_type())) {
      misfits.add(in_quotes(name) + ": " + shown_tensor(tensor) + " in the module, " +
                  descr_literal(header.dtype) + " " + python_tuple(header.shape) +
                  " in the archive");
    }
    values.push_back({name, tensor});
  }
  for (const std::string& name : file.names()) {
    if (state.contains(name)) continue;
    unexpected.add(in_quotes(name));
    keys.unexpected_keys.push_back(name);
  }
  if (misfits.count() == 0 && (!strict || missing.count() + unexpected.count() == 0)) return values;
  std::string reason = "the arrays do not match the module:";
  const auto list = [&](const char* what, const FewLines& lines) {
    if (lines.count() != 0) reason += "\n" + std::to_string(lines.count()) + what + lines.text();
  };
  if (strict) {
    list(" missing in the archive:", missing);
    list(" unknown to the module:", unexpected);
  }
  list(" of another shape or dtype:", misfits);
  if (misfits.count() != 0) {
    reason +=
        "\nto keep such a tensor as it is, give its layer another name, or remove the array "
        "from a copy of the archive, and use strict(false)";
  } else if (!values.empty()) {
    reason += "\nstrict(false) loads only the names that both have";
  }
  throw Error(ErrorCode::Mismatch, reason);
}

/// Whether two tensors have the same elements of memory in the same order.
inline bool is_same_view(const at::Tensor& a, const at::Tensor& b) {
  return a.data_ptr() == b.data_ptr() && a.scalar_type() == b.scalar_type() &&
         a.sizes() == b.sizes() && a.strides() == b.strides() && a.is_conj() == b.is_conj() &&
         a.is_neg() == b.is_neg();
}

/// Pairs of values for the same memory: tied weights have several names. Throws Error
/// (InvalidArgument) for tensors that overlap in another way. Views that interleave count as
/// overlapping.
inline std::vector<std::pair<std::size_t, std::size_t>> tied(const std::vector<NewValue>& values) {
  struct Extent {
    c10::Device device;
    std::uintptr_t begin, end;
    std::size_t index;
  };
  std::vector<Extent> extents;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const at::Tensor& tensor = values[i].tensor;
    if (tensor.numel() == 0) continue;
    std::int64_t last = 0;
    for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
      last += (tensor.size(axis) - 1) * tensor.stride(axis);
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(tensor.data_ptr());
    const std::size_t size =
        static_cast<std::size_t>(last + 1) * static_cast<std::size_t>(tensor.element_size());
    extents.push_back({tensor.device(), begin, begin + size, i});
  }
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    const auto key = [](const Extent& extent) {
      return std::tuple(extent.device.type(), extent.device.index(), extent.begin, extent.index);
    };
    return key(a) < key(b);
  });
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t i = 1; i < extents.size(); ++i) {
    const Extent& before = extents[i - 1];
    const Extent& extent = extents[i];
    if (before.device != extent.device || before.end <= extent.begin) continue;
    if (!is_same_view(values[before.index].tensor, values[extent.index].tensor)) {
      throw Error(ErrorCode::InvalidArgument,
                  "load_parameters() into tensors that overlap in memory, " +
                      in_quotes(values[before.index].name) + " and " +
                      in_quotes(values[extent.index].name) + ": clone() one of them first");
    }
    pairs.emplace_back(before.index, extent.index);
  }
  return pairs;
}

inline bool has_same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.contiguous();
  const at::Tensor y = b.contiguous();
  return std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

/// load_parameters() for the tensors of a module. Errors have no path, or that of the archive.
inline IncompatibleKeys load_state(const NamedTensors& state, const NpzFile& file,
                                   const LoadParametersOptions& options) {
  IncompatibleKeys keys;
  std::vector<NewValue> values = match(state, file, options.strict(), keys);
  const auto pairs = tied(values);
  const std::size_t processors = processor_count();
  const std::size_t threads =
      (std::max)(processors / (std::max)(values.size(), std::size_t{1}), std::size_t{1});
  for_each_index(values.size(), processors, [&](std::size_t i) {
    values[i].array = load_values(file, values[i].name, values[i].tensor.scalar_type(), threads);
  });
  for (const auto& [a, b] : pairs) {
    if (has_same_bits(values[a].array, values[b].array)) continue;
    throw Error(ErrorCode::Mismatch, in_quotes(values[a].name) + " and " +
                                         in_quotes(values[b].name) +
                                         " are one tensor in the module, and have different "
                                         "values in the archive");
  }
  const at::NoGradGuard no_grad;
  for (const NewValue& value : values) value.tensor.copy_(value.array);
  return keys;
}

}  // namespace detail

/// Saves the parameters and buffers of a module with save_npz(), under the names that state_dict()
/// of Python has for a module of the same structure, and in its order: "conv.weight",
/// "norm.running_mean". save_npz(path, module->named_parameters()) would not save the buffers, for
/// instance the running mean and variance of BatchNorm.
///
/// `module` is a torch::nn::Module, a module holder such as torch::nn::Linear, or a pointer to a
/// module. A parameter that does not exist, such as the bias with bias(false), is not saved. A
/// tensor with several names is saved under each of them. bfloat16 and float8 are stored as by
/// save(), and loaded again by load_parameters().
///
/// Throws Error: InvalidArgument for a null pointer, and what save_npz() throws. Safe from any
/// thread, while no other thread changes the module.
template <class Module>
void save_parameters(const std::filesystem::path& path, const Module& module,
                     const SaveNpzOptions& options = {}) {
  save_npz(path, detail::with_path(path, [&] { return detail::state_of(module); }), options);
}

/// Loads the parameters and buffers of a module from an archive: one of save_parameters(), or the
/// state_dict() of a PyTorch module of the same structure,
///
///     np.savez(path, **{k: v.cpu().numpy() for k, v in model.state_dict().items()})
///
/// `module`: see save_parameters(). The values are copied into its tensors, on their devices. They
/// stay the same tensors, so an optimizer that was made with them stays valid. Floating-point
/// values are converted to the dtype of the tensor, as in load_state_dict() of PyTorch, and so are
/// complex ones. Numbers that are integers on one side are converted if no value changes. Any other
/// dtype must be the same. Raw items of 2 bytes (V2) are bfloat16, and those of 1 byte (V1) fill
/// float8 of any kind.
///
/// Throws Error (Mismatch) with a list of all names that the archive does not have, names that the
/// module does not have, and tensors of another shape or dtype. With strict(false), the names are
/// no Error but are returned. Only the arrays that the module has are read. Throws Error (Mismatch)
/// if a tensor has several names, and the archive has different values for them; and Error
/// (InvalidArgument) for a null pointer, for a tensor that load_into() cannot fill, and for tensors
/// that overlap in memory in another way. Throws Error, as NpzFile and its load().
///
/// All arrays are loaded, several at a time, before the first value is copied: if that fails, the
/// module is unchanged. If LibTorch then fails to copy a tensor, for instance because a device is
/// out of memory, the tensors before it have their new values. Takes host memory for one more copy
/// of the weights. Autograd does not record the change, but detects it.
///
/// Safe from any thread, while no other thread uses the module.
template <class Module>
IncompatibleKeys load_parameters(const Module& module, const NpzFile& file,
                                 const LoadParametersOptions& options = {}) {
  return file.internal_about(
      [&] { return detail::load_state(detail::state_of(module), file, options); });
}

/// Loads them from an .npz file: `load_parameters(module, NpzFile(path), options)`.
template <class Module>
IncompatibleKeys load_parameters(const Module& module, const std::filesystem::path& path,
                                 const LoadParametersOptions& options = {}) {
  const auto state = detail::with_path(path, [&] { return detail::state_of(module); });
  const NpzFile file(path);
  return file.internal_about([&] { return detail::load_state(state, file, options); });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_MODULE_HPP_
