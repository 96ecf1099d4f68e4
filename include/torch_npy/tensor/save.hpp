#ifndef TORCH_NPY_TENSOR_SAVE_HPP_
#define TORCH_NPY_TENSOR_SAVE_HPP_

/// @file
/// Saves tensors as .npy files and to streams.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <ostream>
#include <string>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/byte_sink.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

namespace detail {

/// True if the elements are in Fortran order without gaps. Axes of length 1 may have any stride.
inline bool is_fortran_contiguous(const at::Tensor& tensor) {
  std::int64_t stride = 1;
  for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
    if (tensor.size(axis) != 1 && tensor.stride(axis) != stride) return false;
    stride *= tensor.size(axis);
  }
  return true;
}

/// The dtype in which elements of `type` are saved. Throws Error (UnsupportedDtype) if there is
/// none.
inline DType require_dtype(c10::ScalarType type) {
  const auto dtype = dtype_of(type);
  if (dtype) return *dtype;
  throw Error(ErrorCode::UnsupportedDtype, std::string("NumPy has no dtype for ") +
                                               c10::toString(type) +
                                               ": convert the tensor before it is saved");
}

inline void require_rank(std::size_t rank) {
  if (rank <= kMaxRank) return;
  throw Error(ErrorCode::InvalidArgument,
              "NumPy has no arrays of more than " + std::to_string(kMaxRank) + " dimensions");
}

/// The tensor on the CPU with its actual values, also for a conjugate or negative view.
inline at::Tensor on_host(const at::Tensor& tensor) {
  return tensor.detach().to(c10::kCPU).resolve_conj().resolve_neg();
}

/// A tensor as it is stored: the bytes of its header, and its data on the CPU in the order that the
/// header names.
struct Saved {
  std::string header;
  at::Tensor data;

  explicit Saved(const at::Tensor& tensor) {
    require_data(tensor, "save()");
    require_rank(static_cast<std::size_t>(tensor.dim()));
    Header described;
    described.dtype = require_dtype(tensor.scalar_type());
    data = on_host(tensor);
    described.shape = data.sizes().vec();
    // As in np.save: C order if the tensor is contiguous in C order or in neither order.
    described.fortran_order = !data.is_contiguous() && is_fortran_contiguous(data);
    if (!described.fortran_order) data = data.contiguous();
    header = format_header(described);
  }

  /// An array of a dtype that tensors do not have: its bytes, contiguous on the CPU.
  Saved(const Header& described, at::Tensor bytes)
      : header(format_header(described)), data(std::move(bytes)) {}
};

}  // namespace detail

/// Saves a tensor as np.save does, byte for byte, under exactly this name (".npy" is not added).
/// The tensor may be on any device and have any strides. A copy is made if it is neither in C nor
/// in Fortran order, or not on the CPU; this takes its size in host memory. bfloat16 and float8 are
/// stored as raw items, as the ml_dtypes package does: load them with LoadOptions::void_as().
///
/// The file appears completely or not at all: at any time, and after a crash, the path names the
/// old file or the new one. The new file is written next to the target, which needs a writable
/// folder and disk space for both. Symbolic links are followed. The mode of an existing file is
/// kept, and its owner and group if the system allows it. If not, nobody gets access who could not
/// read the old file. Other hard links to the old file and its access control list are not kept.
///
/// Throws Error: NotFound if the folder does not exist; Io, also if the path names something that
/// is not a regular file; Exhausted; UnsupportedDtype if NumPy has no such dtype; InvalidArgument
/// for a tensor that is undefined, sparse, nested or without data, or has more than 64 dimensions.
/// Out of memory throws Error (OutOfMemory), std::bad_alloc or LibTorch's exception. Safe from any
/// thread; if several threads save to one path, one of their files is there afterwards, complete.
inline void save(const std::filesystem::path& path, const at::Tensor& tensor,
                 const SaveOptions& options = {}) {
  detail::with_path(path, [&] {
    const detail::Saved saved(tensor);
    detail::AtomicFile file(path, options.sync());
    file.write(saved.header.data(), saved.header.size());
    file.write(saved.data.data_ptr(), saved.data.nbytes());
    file.commit();
  });
}

/// Writes the same bytes to a stream, at its current position; the options have no effect here.
/// Throws Error: Io if the stream accepts fewer bytes, UnsupportedDtype and InvalidArgument as
/// above. A failure to write what the stream has buffered shows only when the stream is flushed.
/// Use a stream from one thread at a time.
inline void save(std::ostream& stream, const at::Tensor& tensor, const SaveOptions& = {}) {
  const detail::Saved saved(tensor);
  detail::StreamSink sink(stream);
  sink.write(saved.header.data(), saved.header.size());
  sink.write(saved.data.data_ptr(), saved.data.nbytes());
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SAVE_HPP_
