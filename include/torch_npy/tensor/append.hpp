#ifndef TORCH_NPY_TENSOR_APPEND_HPP_
#define TORCH_NPY_TENSOR_APPEND_HPP_

/// @file
/// Appends rows to .npy files.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/tensor/growing_array.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// Appends rows to an .npy file along axis 0, in place: the cost of a row does not depend on the
/// number of rows. If the process is killed at any time, the file is valid and has the rows of the
/// last complete flush(), or of the one in progress: rows are written first, then the header in one
/// step, in the room that NumPy leaves for a longer count. After flush(), a file that an Appender
/// created is byte for byte what save() writes for the whole array.
///
///     torch_npy::Appender log("log.npy", {3, 32, 32}, torch::kFloat32);
///     log.append(image);   // (3, 32, 32)
///     log.append(images);  // (n, 3, 32, 32)
///     log.close();
///
/// An existing file is continued in the dtype that its header names, whoever wrote it: datetime64
/// takes int64 tensors, raw V2 takes bfloat16. The constructor throws Error and changes nothing if
/// that is not possible: Mismatch for another dtype or row shape, another byte order, Fortran
/// order, a 0-d array, or another array after it in the file; UnsupportedDtype; Truncated; TooLarge
/// if the header has no room for the count; Io if another Appender, of any process, has the file
/// open. Other bytes after the array are treated as rows that were never flushed, and are
/// overwritten.
///
/// Use one object from one thread at a time, and not in two processes after fork(). Nothing else
/// may write to the file while it is open; flush() throws if the file was replaced or removed. Out
/// of memory throws Error (OutOfMemory), std::bad_alloc or LibTorch's exception.
class Appender {
 public:
  /// Opens the file for rows of this shape and dtype. If it does not exist, creates it with 0 rows,
  /// as save() would write it. Throws Error: as above for an existing file; as save() for a new
  /// one, and TooLarge for rows of more than 2^63 - 1 bytes.
  Appender(const std::filesystem::path& path, at::IntArrayRef row_shape, c10::ScalarType dtype,
           const SaveOptions& options = {})
      : Appender(path, row_shape, dtype, AppendMode::Continue, options) {}

  /// AppendMode::Continue: the same. AppendMode::Replace: a regular file of any content is replaced
  /// by one with 0 rows, as by save(): the path names the complete old file or the complete new
  /// one, and the mode of the old file is kept. Throws Error, and leaves the old file as it is: as
  /// above for a new file; Io also if another Appender has the old file open, and if this process
  /// may not write to it.
  Appender(const std::filesystem::path& path, at::IntArrayRef row_shape, c10::ScalarType dtype,
           AppendMode mode, const SaveOptions& options = {})
      : Appender(State{path, detail::absolute_path(path), options, dtype, std::nullopt}) {
    detail::with_path(path, [&] { open(row_shape, dtype, mode); });
  }

  /// Opens the file for rows as it has them. If it does not exist, the first tensor appended
  /// creates it and must have shape (n, row shape...). Throws Error: as above for an existing file.
  explicit Appender(const std::filesystem::path& path, const SaveOptions& options = {})
      : Appender(State{path, detail::absolute_path(path), options, std::nullopt, std::nullopt}) {
    detail::with_path(path, [&] {
      auto file = open_existing();
      if (!file) return;
      state_->array.emplace(std::move(*file));
      state_->dtype = detail::scalar_type_of(state_->array->dtype());
    });
  }

  /// The moved-from Appender is closed.
  Appender(Appender&&) noexcept = default;
  /// Closes the file that was open here, as the destructor does.
  Appender& operator=(Appender&& other) noexcept {
    Appender taken(std::move(other));
    std::swap(state_, taken.state_);
    return *this;
  }

  /// Flushes and closes, and ignores errors; call close() to see them.
  ~Appender() {
    try {
      close();
    } catch (const std::exception&) {
      // The file has the rows of the last complete flush().
    }
  }

  /// Appends one row of the row shape, or n rows (n, row shape...). The tensor may be on any device
  /// and have any strides. Rows are buffered (1 MiB) and count from the next flush(). If the call
  /// throws, none of its rows is appended, and the earlier ones are unchanged.
  ///
  /// Throws Error: Mismatch for another dtype or shape; TooLarge if the header has no room for the
  /// count; InvalidArgument if the Appender is closed, for a tensor that save() does not accept,
  /// and for a 0-d tensor that would create the file; Io and Exhausted; if the tensor creates the
  /// file, also what the constructor with row shape and dtype throws.
  void append(const at::Tensor& tensor) {
    State& state = require_open("append()");
    detail::with_path(state.path, [&] {
      detail::require_data(tensor, "append()");
      if (!state.array) open_for(tensor);
      const std::int64_t rows = rows_of(tensor);
      if (!state.dtype) state.dtype = tensor.scalar_type();
      const bool as_in_file = tensor.device().is_cpu() && tensor.is_contiguous() &&
                              !tensor.is_conj() && !tensor.is_neg();
      if (as_in_file) {
        state.array->append(tensor.data_ptr(), rows);
      } else {
        state.array->append(detail::on_host(tensor).contiguous().data_ptr(), rows);
      }
    });
  }

  /// Writes all rows appended so far, then the header that counts them. With SaveOptions::sync they
  /// survive a power failure afterwards. If writing fails, for example because the disk is full,
  /// the header is unchanged and the rows remain in memory: the call can be repeated. Throws Error:
  /// Io, also if the file was replaced or removed, Exhausted, and InvalidArgument if the Appender
  /// is closed.
  void flush() {
    State& state = require_open("flush()");
    if (!state.array) return;
    detail::with_path(state.path, [&] {
      state.array->require_at(state.absolute_path);
      state.array->flush(state.options.sync());
    });
  }

  /// Flushes and closes the file; does nothing if it is closed already. If flushing fails, the
  /// Appender stays open. Throws Error: Io, Exhausted.
  void close() {
    if (state_ == nullptr || !state_->is_open) return;
    flush();
    state_->is_open = false;
    if (!state_->array) return;
    detail::with_path(state_->path, [&] { state_->array->close(); });
  }

  /// Number of rows in the file and appended to it, flushed or not.
  std::int64_t rows() const noexcept {
    return state_ == nullptr || !state_->array ? 0 : state_->array->rows();
  }

 private:
  struct State {
    std::filesystem::path path;           // as given, for messages
    std::filesystem::path absolute_path;  // does not depend on the current directory
    SaveOptions options;
    std::optional<c10::ScalarType> dtype;       // none until the first tensor sets it
    std::optional<detail::GrowingArray> array;  // none until the first tensor creates the file
    bool is_open = true;
  };

  explicit Appender(State state) : state_(std::make_unique<State>(std::move(state))) {}

  State& require_open(const char* call) const {
    if (state_ != nullptr && state_->is_open) return *state_;
    throw Error(ErrorCode::InvalidArgument,
                std::string(call) + " on an Appender that is closed or was moved from", 0,
                state_ == nullptr ? std::filesystem::path() : state_->path);
  }

  std::optional<detail::LockedFile> open_existing() const {
    try {
      return detail::LockedFile(state_->absolute_path);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::NotFound) throw;
      return std::nullopt;
    }
  }

  void open(at::IntArrayRef row_shape, c10::ScalarType dtype, AppendMode mode) {
    Header header;
    header.dtype = detail::require_dtype(dtype);
    header.shape = {0};
    header.shape.insert(header.shape.end(), row_shape.begin(), row_shape.end());
    detail::require_rank(header.shape.size());
    if (*std::min_element(header.shape.begin(), header.shape.end()) < 0) {
      throw Error(
          ErrorCode::InvalidArgument,
          "the row shape " + detail::python_tuple(row_shape.vec()) + " has a negative length");
    }
    if (!detail::checked_bytes(header.shape, header.dtype.item_size)) {
      throw Error(ErrorCode::TooLarge, "the bytes of a row of shape " +
                                           detail::python_tuple(row_shape.vec()) +
                                           " do not fit in 63 bits");
    }
    auto file = open_existing();
    if (!file || mode == AppendMode::Replace) {
      // An old file stays locked until it is replaced: no other Appender has rows for it.
      create_file(format_header(header), /*replaces=*/file.has_value());
      file.reset();
      file.emplace(state_->absolute_path);
    }
    detail::GrowingArray array(std::move(*file));
    if (array.row_shape() != row_shape) {
      throw Error(ErrorCode::Mismatch,
                  "the file has rows of shape " + detail::python_tuple(array.row_shape().vec()) +
                      ", not of shape " + detail::python_tuple(row_shape.vec()));
    }
    require_dtype(array, dtype);
    if (mode == AppendMode::Replace && array.rows() != 0) {
      throw Error(ErrorCode::Io, "the new file was replaced by another one, which has rows");
    }
    state_->array.emplace(std::move(array));
  }

  void open_for(const at::Tensor& tensor) {
    if (tensor.dim() == 0) {
      throw Error(ErrorCode::InvalidArgument,
                  "the first tensor of a new file has shape (n, row shape...), found a 0-d tensor");
    }
    open(tensor.sizes().slice(1), tensor.scalar_type(), AppendMode::Continue);
  }

  /// Without `replaces`, a file of that name that appears meanwhile is kept; the caller opens it.
  void create_file(const std::string& header, bool replaces) const {
    detail::AtomicFile file(state_->absolute_path, state_->options.sync());
    file.write(header.data(), header.size());
    if (replaces) {
      file.commit();
    } else {
      file.commit_new();
    }
  }

  static void require_dtype(const detail::GrowingArray& array, c10::ScalarType dtype) {
    if (detail::stores(array.dtype(), dtype)) return;
    throw Error(ErrorCode::Mismatch, "the file has dtype " + array.dtype().descr() +
                                         ", the rows to append have " + c10::toString(dtype) +
                                         "; convert the rows with Tensor::to()");
  }

  /// The number of rows in the tensor; throws if it does not match.
  std::int64_t rows_of(const at::Tensor& tensor) const {
    const detail::GrowingArray& array = *state_->array;
    const c10::ScalarType dtype = tensor.scalar_type();
    if (state_->dtype != dtype) {
      require_dtype(array, dtype);
      if (state_->dtype) {
        throw Error(ErrorCode::Mismatch, std::string("the earlier rows have ") +
                                             c10::toString(*state_->dtype) +
                                             ", the rows to append have " + c10::toString(dtype) +
                                             "; convert the rows with Tensor::to()");
      }
    }
    const at::IntArrayRef sizes = tensor.sizes();
    const at::IntArrayRef row = array.row_shape();
    if (sizes == row) return 1;
    if (sizes.size() == row.size() + 1 && sizes.slice(1) == row) return sizes[0];
    throw Error(ErrorCode::Mismatch, "expected one row of shape " +
                                         detail::python_tuple(row.vec()) +
                                         " or n such rows, found a tensor of shape " +
                                         detail::python_tuple(sizes.vec()));
  }

  std::unique_ptr<State> state_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_APPEND_HPP_
