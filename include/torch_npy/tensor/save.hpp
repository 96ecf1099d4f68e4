#ifndef TORCH_NPY_TENSOR_SAVE_HPP_
#define TORCH_NPY_TENSOR_SAVE_HPP_

/// @file
/// Tensors to .npy files and streams.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <ostream>
#include <string>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/scalar_type.hpp>

TORCH_NPY_BEGIN_NAMESPACE

namespace detail {

/// True for memory in Fortran order without gaps; axes of length 1 can have any stride.
inline bool is_fortran_contiguous(const at::Tensor& tensor) {
  std::int64_t stride = 1;
  for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
    if (tensor.size(axis) != 1 && tensor.stride(axis) != stride) return false;
    stride *= tensor.size(axis);
  }
  return true;
}

/// The dtype that elements of `type` are saved in.
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

/// The values themselves in memory of the host, for a view that conjugates or negates, too.
inline at::Tensor on_host(const at::Tensor& tensor) {
  return tensor.detach().to(c10::kCPU).resolve_conj().resolve_neg();
}

/// A tensor as a file holds it: its header's bytes, and its data on the host in the header's order.
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
    // As np.save has it: what is contiguous both ways is in C order, what is neither is made so.
    described.fortran_order = !data.is_contiguous() && is_fortran_contiguous(data);
    if (!described.fortran_order) data = data.contiguous();
    header = format_header(described);
  }
};

}  // namespace detail

/// Saves a tensor as np.save does, byte for byte, under exactly this name (no ".npy" is added).
/// From any device, strided in any way; one that is neither in C nor in Fortran order is copied
/// first, and so is one on a device, which takes its size of host memory. bfloat16 and float8
/// become raw bytes, as ml_dtypes stores them: load them with void_as().
///
/// The file appears whole or not at all: whoever reads the path meanwhile, or after a crash, finds
/// the old file or the new one. It is written beside the target, which takes a writable folder and
/// the room for both files. A symbolic link is followed. An existing file's mode is kept, its
/// group and owner where the system allows that (where not, nobody can read the new one who could
/// not read the old one), other hard links and access control lists are not.
///
/// Throws Error: NotFound where there is no such folder; Io (also for what is there and no regular
/// file) and Exhausted; UnsupportedDtype where NumPy has no such dtype; InvalidArgument for a
/// tensor that is undefined, sparse, nested or without data, or has more than 64 dimensions.
/// Nothing else but std::bad_alloc and what LibTorch throws for want of memory. Safe from any
/// thread, also for one path: one of the files is there then, whole.
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

/// Writes the same bytes to a stream, behind what is there; the options change nothing here. Throws
/// Error: Io when the stream takes less, UnsupportedDtype and InvalidArgument as above. What it
/// takes into its buffer and cannot pass on shows when it is flushed. The stream is for one thread
/// at a time.
inline void save(std::ostream& stream, const at::Tensor& tensor, const SaveOptions& = {}) {
  const detail::Saved saved(tensor);
  const auto put = [&](const void* data, std::size_t size) {
    const auto length = static_cast<std::streamsize>(size);
    try {
      return stream.rdbuf()->sputn(static_cast<const char*>(data), length) == length;
    } catch (const std::exception& error) {
      throw Error(ErrorCode::Io, std::string("the stream cannot be written to: ") + error.what());
    }
  };
  if (!stream || stream.rdbuf() == nullptr || !put(saved.header.data(), saved.header.size()) ||
      !put(saved.data.data_ptr(), saved.data.nbytes())) {
    throw Error(ErrorCode::Io,
                "the stream cannot be written to: was the file opened, is the disk full?");
  }
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SAVE_HPP_
