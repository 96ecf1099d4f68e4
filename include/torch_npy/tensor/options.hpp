#ifndef TORCH_NPY_TENSOR_OPTIONS_HPP_
#define TORCH_NPY_TENSOR_OPTIONS_HPP_

/// @file
/// LoadOptions, SaveOptions and SaveNpzOptions.

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <torch/arg.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include <torch_npy/format/header.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// How to load. Options chain: `LoadOptions().device(torch::kCUDA).dtype(torch::kFloat32)`. Called
/// without an argument, each gives what is set. Setting throws nothing: what cannot be done is an
/// Error of the call that is given the options. Reading one object is safe from any thread.
struct LoadOptions {
  /// Where the tensor is to be. Where there is no such device, an Error (InvalidArgument).
  TORCH_ARG(c10::Device, device) = c10::kCPU;

  /// Element type of the tensor; the file's when not given. Converts while reading, as Tensor::to()
  /// does: what does not fit wraps round, or is cut off. Unsigned integers of 16 to 64 bits are
  /// checked: one that an integer dtype or float16 cannot hold is an Error (Mismatch); other
  /// floating dtypes round. It is also the way to read those with LibTorch before 2.3, which has no
  /// such dtypes.
  TORCH_ARG(std::optional<c10::ScalarType>, dtype) = std::nullopt;

  /// Map the file instead of reading it: nothing is read before it is used, so that loading takes
  /// the same few microseconds whatever the size. Writing to the tensor
  /// never reaches the file; changes of the file may show in the tensor, and using a part that has
  /// been cut off meanwhile ends the process (SIGBUS). Where a mapping would have to be copied
  /// anyhow (another byte order or dtype, data that is not aligned for its dtype, some rows of a
  /// Fortran-ordered array, pinned memory) the file is read. Streams and memory cannot be mapped:
  /// an Error (InvalidArgument).
  TORCH_ARG(bool, mmap) = false;

  /// Read into page-locked memory, from which CUDA copies faster, and while the CPU goes on. Where
  /// there is no CUDA, ordinary memory is used.
  TORCH_ARG(bool, pinned_memory) = false;

  /// What items of raw bytes (NumPy's V dtypes) are. NumPy has no bfloat16 and no float8, and the
  /// ml_dtypes package stores them so: `void_as(torch::kBFloat16)` for V2. Other dtypes are not
  /// affected; another size of item is an Error (Mismatch).
  TORCH_ARG(std::optional<c10::ScalarType>, void_as) = std::nullopt;

  /// Read strings as numbers, along one further axis, the last: S5 as uint8 and U5 as int32 code
  /// points, both with an axis of 5 and zeros where a string is shorter. Without it they are an
  /// Error (UnsupportedDtype).
  TORCH_ARG(bool, strings_as_codes) = false;

  /// Threads that read one array; 0: one for every 4 MiB, up to the number of processors, and a
  /// single one below 8 MiB. A stream is read by one in any case. load_all(), load_npz() and
  /// FolderOptions::data_options say what it means there.
  TORCH_ARG(std::size_t, threads) = 0;

  /// Characters a header may have, as in np.load; more is an Error (TooLarge).
  TORCH_ARG(std::uint64_t, max_header_size) = kMaxHeaderSize;

  /// Bytes a tensor may have, those of load_fields() and of load_npz() all together; more is an
  /// Error (TooLarge) before any memory is taken. What a deflated array unpacks to counts, too.
  TORCH_ARG(std::uint64_t, max_bytes) = UINT64_MAX;

 public:
  /// Only rows [begin, end) of axis 0, with 0 <= begin <= end <= length: the others are not read.
  /// Any other range, and a 0-d array, are an Error (InvalidArgument).
  LoadOptions& rows(std::int64_t begin, std::int64_t end) {
    rows_ = {begin, end};
    return *this;
  }
  /// Begin and end of the rows asked for; none: all of them.
  const std::optional<std::pair<std::int64_t, std::int64_t>>& rows() const noexcept {
    return rows_;
  }

 private:
  std::optional<std::pair<std::int64_t, std::int64_t>> rows_;
};

/// How to save. Called without an argument, an option gives what is set.
struct SaveOptions {
  /// Flush the file to the disk before it takes the place of the old one; of an Appender, flush the
  /// rows before they count. Without it saving is faster and still whole when the process is
  /// killed, but a power cut soon after may lose the file.
  TORCH_ARG(bool, sync) = true;
};

/// How to save an archive. Called without an argument, an option gives what is set.
struct SaveNpzOptions {
  /// Deflate the arrays, as np.savez_compressed does; one that does not become smaller is stored.
  /// Takes libdeflate (see NpzFile). A deflated array cannot be mapped.
  TORCH_ARG(bool, compressed) = false;

  /// As in SaveOptions.
  TORCH_ARG(bool, sync) = true;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_OPTIONS_HPP_
