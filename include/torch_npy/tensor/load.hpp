#ifndef TORCH_NPY_TENSOR_LOAD_HPP_
#define TORCH_NPY_TENSOR_LOAD_HPP_

/// @file
/// Tensors from .npy files, streams and memory.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/Device.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <istream>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/io/stream.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

inline at::Tensor load_array(OpenArray& array, const LoadOptions& options) {
  const LoadPlan plan = array.plan(options);
  return on_device(load_on_host(array, plan, options), options);
}

/// Refuses a tensor that the function `call` cannot fill.
inline void require_fillable(const at::Tensor& out, const char* call = "load_into()") {
  require_data(out, call);
  if (!is_free_of_overlap(out)) {
    throw Error(ErrorCode::InvalidArgument,
                std::string(call) + " into a tensor whose elements share memory: clone() it first");
  }
  if (out.is_inference() && !c10::InferenceMode::is_enabled()) {
    throw Error(ErrorCode::InvalidArgument,
                std::string(call) + " into an inference tensor outside InferenceMode");
  }
}

inline void load_array_into(const at::Tensor& out, OpenArray& array, const LoadOptions& options) {
  const LoadPlan plan = array.plan(options);
  if (out.sizes() != at::IntArrayRef(plan.sizes)) {
    throw Error(ErrorCode::Mismatch, "the array has shape " + python_tuple(plan.sizes) +
                                         ", the tensor to fill " + python_tuple(out.sizes().vec()));
  }
  if (out.scalar_type() != plan.type) {
    throw Error(ErrorCode::Mismatch, std::string("the array has elements of ") +
                                         c10::toString(plan.type) + ", the tensor to fill has " +
                                         c10::toString(out.scalar_type()) +
                                         (options.dtype() ? "" : "; dtype() converts"));
  }
  const at::NoGradGuard no_grad;
  const bool as_in_file = out.device().is_cpu() && !out.is_conj() && !out.is_neg() &&
                          out.strides() == at::IntArrayRef(plan.strides);
  if (!as_in_file) {
    out.copy_(load_on_host(array, plan, options), /*non_blocking=*/pins_memory(options));
    return;
  }
  out.unsafeGetTensorImpl()->bump_version();  // first: a failure may come after some writing
  ArrayReading(array, plan, options).fill(out.data_ptr());
}

}  // namespace detail

/// Loads an .npy file into a tensor with the file's dtype (see scalar_type.hpp), shape and values;
/// if the file is in Fortran order, with Fortran strides. The tensor owns its memory, unless
/// LoadOptions::mmap is set.
///
/// A small file takes an open, a read and a close; large ones are read by several threads. Peak
/// memory is the tensor plus at most 2 MiB; with dtype() that converts, or region(), up to 512 KiB
/// more for each thread. Safe from any thread.
///
/// Throws Error with any code but BadZip: NotFound, Io, Exhausted and OutOfMemory for the file or
/// the system; NotNpy, UnsupportedVersion, BadHeader and Truncated for its content;
/// UnsupportedDtype if no tensor can hold its items, or LibTorch does not convert them; TooLarge;
/// Mismatch and InvalidArgument as the options say. LibTorch's own exceptions if a device is out of
/// memory.
[[nodiscard]] inline at::Tensor load(const std::filesystem::path& path,
                                     const LoadOptions& options = {}) {
  detail::with_path(path, [&] { detail::require_device(options.device()); });
  return detail::with_array(
      path, options, [&](detail::OpenArray& array) { return detail::load_array(array, options); });
}

/// Loads the array at the position of `stream`, and leaves the stream right after it, so that
/// several can follow one another. The stream need not be seekable. Offsets in Errors count from
/// the start of the array. After an Error the stream is somewhere within the array. With
/// region() the other elements are read and discarded.
///
/// The size of a stream that cannot seek is unknown: memory for what the header declares is
/// allocated before the data arrives. max_bytes() limits it.
///
/// Throws Error: as load() of a path, without a path; Io if the stream was not opened or fails;
/// InvalidArgument for mmap(true). The stream is used by this thread alone.
[[nodiscard]] inline at::Tensor load(std::istream& stream, const LoadOptions& options = {}) {
  detail::require_device(options.device());
  return detail::with_array(detail::StreamSource(stream), options, [&](detail::OpenArray& array) {
    return detail::load_array(array, options);
  });
}

/// Loads an .npy file from memory: the array at the start of `size` bytes, which need not be
/// aligned. Bytes after the array are ignored. The data is copied, by several threads if it is
/// large. Throws Error: as load() of a path about the content of a file, without a path;
/// InvalidArgument for mmap(true). Safe from any thread.
[[nodiscard]] inline at::Tensor load_bytes(const void* data, std::size_t size,
                                           const LoadOptions& options = {}) {
  detail::require_device(options.device());
  return detail::with_array(
      detail::MemorySource(data, size), options,
      [&](detail::OpenArray& array) { return detail::load_array(array, options); });
}

/// Loads into an existing tensor, contiguous or not, on any device; directly into its memory if
/// that is on the host and in the order of the file. Shape and dtype must be those of the file, or
/// of dtype(), which converts: others are an Error (Mismatch) before anything is written. Throws
/// Error (InvalidArgument) for a tensor whose elements share memory, that is undefined, sparse,
/// nested or without data, and for an inference tensor outside InferenceMode. device() is ignored.
/// If reading fails, or a value does not fit, `out` has part of the new values. Autograd does not
/// record the change, but detects it (the version of `out` is increased).
///
/// Allocates no memory for the array if it reads directly into `out`, and otherwise that of one
/// more tensor. Throws Error, as load(). Safe from any thread, each with its own `out`.
inline void load_into(const at::Tensor& out, const std::filesystem::path& path,
                      const LoadOptions& options = {}) {
  detail::with_path(path, [&] { detail::require_fillable(out); });
  detail::with_array(path, options, [&](detail::OpenArray& array) {
    detail::load_array_into(out, array, options);
  });
}

/// Loads many files in parallel, and returns the tensors in the order of `paths`. If several files
/// fail, the Error of the first of them in `paths` is thrown. threads(0) uses at least 32 threads:
/// most of the time is spent waiting for the disk. All files are read to host memory before the
/// first tensor is copied to device(). Throws Error, as load(). Safe from any thread.
[[nodiscard]] inline std::vector<at::Tensor> load_all(
    const std::vector<std::filesystem::path>& paths, const LoadOptions& options = {}) {
  detail::require_device(options.device());
  const std::size_t threads = options.threads() != 0
                                  ? options.threads()
                                  : (std::max)(std::size_t{32}, detail::processor_count());
  // A few large files are each read by several threads.
  const std::size_t readers =
      options.threads() != 0 ? options.threads() : detail::processor_count();
  LoadOptions one = options;
  one.device(c10::kCPU).threads(
      (std::max)(readers / (std::max)(paths.size(), std::size_t{1}), std::size_t{1}));
  std::vector<at::Tensor> tensors(paths.size());
  detail::for_each_index(paths.size(), threads,
                         [&](std::size_t i) { tensors[i] = load(paths[i], one); });
  // Only this thread has the caller's current stream.
  for (at::Tensor& tensor : tensors) tensor = detail::on_device(std::move(tensor), options);
  return tensors;
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_LOAD_HPP_
