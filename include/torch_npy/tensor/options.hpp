#ifndef TORCH_NPY_TENSOR_OPTIONS_HPP_
#define TORCH_NPY_TENSOR_OPTIONS_HPP_

/// @file
/// LoadOptions, Region, OutOfBounds, OnUnreadable, SaveOptions, SaveNpzOptions, AppendMode and
/// LoadParametersOptions.

#include <c10/core/Device.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <torch/arg.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// The part [begin, end) of one axis. `{}` is the whole axis, `{5}` all of it from position 5 on. A
/// negative number is a position before the array; it does not count from the end, as in Python.
struct AxisRange {
  std::int64_t begin = 0;        ///< the first position
  std::int64_t end = INT64_MAX;  ///< after the last position; INT64_MAX is the end of the axis
};

/// A box of an array: one range for each of its first axes. It has the rest of the axes whole.
using Region = std::vector<AxisRange>;

/// What to do about a region that is not inside the array.
enum class OutOfBounds {
  Throw,  ///< throw Error (InvalidArgument)
  Fill,   ///< fill what is outside with LoadOptions::fill_value()
  Shift,  ///< move the region inside; throw Error (InvalidArgument) if an axis is too short for it
};

/// What to do about an array of an archive, or a field of a structured array, that cannot be
/// loaded.
enum class OnUnreadable {
  Throw,  ///< throw its Error
  Skip,   ///< leave it out of the result, and give its Error to the callback
};

/// For LoadOptions::unsigned_as(): the smallest signed integer dtype that LibTorch has and that
/// holds all values: int32 for uint16, int64 for uint32. For uint64 it is int64, which is checked.
inline constexpr c10::ScalarType kNextSigned = c10::ScalarType::Undefined;

/// How to load an array. Setters chain:
/// `LoadOptions().device(torch::kCUDA).dtype(torch::kFloat32)`; without an argument, each name
/// returns the current value. Setters throw nothing: the function that takes the options validates
/// them. One object may be read from any thread.
struct LoadOptions {
  /// The device of the tensor. The call throws Error (InvalidArgument) if there is no such device.
  TORCH_ARG(c10::Device, device) = c10::kCPU;

  /// The dtype of the tensor; not set: the dtype of the file. Elements are converted while they are
  /// read, as by Tensor::to(): a value that the new dtype cannot hold wraps around or is truncated.
  /// Unsigned integers of 16 to 64 bits are checked instead: one that an integer dtype or float16
  /// cannot hold throws Error (Mismatch); the other floating-point dtypes round. longdouble and
  /// clongdouble, which no tensor has, are rounded to float32, float64, complex64 or complex128.
  TORCH_ARG(std::optional<c10::ScalarType>, dtype) = std::nullopt;

  /// The dtype of arrays of uint16, uint32 and uint64, with every version of LibTorch; all other
  /// arrays keep theirs. LibTorch before 2.3 has no dtype for these integers, and needs this option
  /// to load them: `unsigned_as(torch_npy::kNextSigned)`. A value that an integer dtype or float16
  /// cannot hold throws Error (Mismatch); the other floating-point dtypes round. Has no effect if
  /// dtype() is set.
  TORCH_ARG(std::optional<c10::ScalarType>, unsigned_as) = std::nullopt;

  /// Map the file instead of reading it: data is read on first use, so loading takes the same time
  /// for any size. Writes to the tensor do not change the file. Changes of the file may show in the
  /// tensor, and using a part that was truncated meanwhile ends the process (SIGBUS).
  ///
  /// The file is read instead if a mapping cannot serve as the tensor: another byte order or dtype,
  /// data that is not aligned for its dtype, a region that is partly outside of the array, or
  /// pinned_memory(). Streams and memory cannot be mapped: the call throws Error (InvalidArgument).
  /// The tensor of a region has the strides of the whole array, unless the region is one contiguous
  /// part of it.
  ///
  /// The tensor is like one of torch::from_blob(): do not resize_() it to a larger size.
  TORCH_ARG(bool, mmap) = false;

  /// Read into page-locked memory. Copies from it to CUDA are faster and can overlap with CPU work.
  /// Without CUDA, ordinary memory is used.
  TORCH_ARG(bool, pinned_memory) = false;

  /// The dtype of raw items (NumPy's V dtypes). NumPy has no bfloat16 and no float8; the ml_dtypes
  /// package stores them as raw items: `void_as(torch::kBFloat16)` reads V2. Has no effect on other
  /// dtypes. A dtype of another item size throws Error (Mismatch).
  TORCH_ARG(std::optional<c10::ScalarType>, void_as) = std::nullopt;

  /// Read items that no tensor holds as their bytes in the file, uint8 along one more axis, the
  /// last one: V18 with 18 of them. These are raw items unless void_as() names a dtype of their
  /// size, strings without strings_as_codes(), longdouble without dtype(), and for load() the
  /// records of a structured array. dtype() does not convert the bytes. Objects are never read.
  TORCH_ARG(bool, raw_bytes) = false;

  /// Read strings as numbers along one more axis, the last one: S5 as uint8 bytes and U5 as int32
  /// code points, both with a last axis of length 5, filled with zeros after the end of a string.
  /// Without this option, strings throw Error (UnsupportedDtype).
  TORCH_ARG(bool, strings_as_codes) = false;

  /// Number of threads that read one array. 0: one for every 4 MiB, up to the number of processors,
  /// and one for less than 8 MiB. A stream is always read by one thread. load_all(), load_npz() and
  /// FolderOptions::data_options document their own meaning.
  TORCH_ARG(std::size_t, threads) = 0;

  /// Limit on the length of a header, in characters, as in np.load. A longer one throws Error
  /// (TooLarge).
  TORCH_ARG(std::uint64_t, max_header_size) = kMaxHeaderSize;

  /// Limit on the size of a tensor in bytes; for load_fields() and load_npz(), of all tensors
  /// together. The unpacked size of a deflated array counts, too; for load_fields(), the records;
  /// and for load_npz(), arrays that on_unreadable() skips. A larger size throws Error (TooLarge)
  /// before memory is allocated.
  TORCH_ARG(std::uint64_t, max_bytes) = UINT64_MAX;

  /// Remove this axis, as Tensor::squeeze(dim) does: with squeeze(1), labels of shape (N, 1) get
  /// the shape (N). Counts from the end if negative. A region is selected first. An axis that does
  /// not exist, or whose length is not 1, throws Error (Mismatch).
  TORCH_ARG(std::optional<std::int64_t>, squeeze) = std::nullopt;

  /// What to do about a region that is not inside the array.
  TORCH_ARG(OutOfBounds, out_of_bounds) = OutOfBounds::Throw;

  /// The value of elements outside of the array, for OutOfBounds::Fill, in the dtype of the tensor.
  /// One that this dtype cannot hold throws Error (InvalidArgument).
  TORCH_ARG(c10::Scalar, fill_value) = 0;

 public:
  /// Load only a box of the array, `region({{0, 64}, {32, 96}})`: a range for each of the first
  /// axes, and the rest of the axes whole. Only the bytes of the box are read, and short gaps in
  /// it. The tensor is dense, in the order of the file. A region that is not inside the array, or
  /// has more ranges than the array has axes, throws Error (InvalidArgument); see out_of_bounds().
  LoadOptions& region(Region ranges) {
    region_ = std::move(ranges);
    return *this;
  }
  /// The requested box; without ranges: the whole array.
  const Region& region() const noexcept { return region_; }

  /// Load only rows [begin, end) of axis 0: `region({{begin, end}})`.
  LoadOptions& rows(std::int64_t begin, std::int64_t end) { return region({{begin, end}}); }

  /// What load_npz() and load_fields() do about an array or a field that cannot be loaded: its
  /// bytes are damaged, no tensor holds its dtype, or it is not what the options ask for. With
  /// Skip, the callback gets its Error, in the order of the result, in the thread that calls
  /// load_npz() or load_fields(). Always thrown: failures of the system (Io, Exhausted,
  /// OutOfMemory), limits (TooLarge), and wrong calls (InvalidArgument, NotFound).
  LoadOptions& on_unreadable(OnUnreadable what, std::function<void(const Error&)> callback = {}) {
    on_unreadable_ = what;
    unreadable_callback_ = std::move(callback);
    return *this;
  }
  /// What to do about an array or a field that cannot be loaded.
  OnUnreadable on_unreadable() const noexcept { return on_unreadable_; }
  /// The callback for what is skipped; may be empty.
  const std::function<void(const Error&)>& unreadable_callback() const noexcept {
    return unreadable_callback_;
  }

 private:
  Region region_;
  OnUnreadable on_unreadable_ = OnUnreadable::Throw;
  std::function<void(const Error&)> unreadable_callback_;
};

/// How to save an array. Setters chain; without an argument, each name returns the current value.
struct SaveOptions {
  /// Flush the file to the disk before it replaces the old one; for an Appender, flush the rows
  /// before the header counts them. false is faster, and the file is still complete if the process
  /// is killed, but a power failure soon after may lose it.
  TORCH_ARG(bool, sync) = true;
};

/// How to save an archive. Setters chain; without an argument, each name returns the current value.
struct SaveNpzOptions {
  /// Deflate the arrays, as np.savez_compressed does. An array that would not become smaller is
  /// stored. Needs libdeflate (see NpzFile). A deflated array cannot be mapped.
  TORCH_ARG(bool, compressed) = false;

  /// Flush the file to the disk before it replaces the old one, as in SaveOptions.
  TORCH_ARG(bool, sync) = true;
};

/// What an Appender does with a file that exists.
enum class AppendMode {
  Continue,  ///< append to its rows
  Replace,   ///< put a new file without rows in its place
};

/// How to load the parameters of a module. Setters chain; without an argument, each name returns
/// the current value.
struct LoadParametersOptions {
  /// Throw Error (Mismatch) if the archive does not have exactly the names of the module. false
  /// loads the names that both have, and returns the others. A parameter without an array keeps its
  /// values, so check what is returned.
  TORCH_ARG(bool, strict) = true;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_OPTIONS_HPP_
