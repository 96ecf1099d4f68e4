#ifndef TORCH_NPY_TENSOR_APPEND_HPP_
#define TORCH_NPY_TENSOR_APPEND_HPP_

/// @file
/// Files that grow.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/read_header.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True for items without a meaning, as which bfloat16 and float8 are stored.
inline bool is_raw(const DType& dtype) { return dtype.kind == 'V' && !dtype.is_structured(); }

/// True when elements of `type` are, bit for bit, items of `dtype` in native byte order.
inline bool stores(const DType& dtype, c10::ScalarType type) {
  if (scalar_type_of(dtype) == type) return true;
  const auto own = dtype_of(type);
  return own && is_raw(*own) && is_raw(dtype) && own->item_size == dtype.item_size;
}

/// The array of an .npy file, which grows along axis 0 in place. Rows are gathered in memory and
/// written behind those that the header counts, where nobody reads; flush() lets it count them.
class GrowingArray {
 public:
  explicit GrowingArray(LockedFile file) : file_(std::move(file)) {
    FirstBytes first;
    header_ = read_header(file_, kMaxHeaderSize, first);
    require_axis();
    require_tensor_dtype();
    require_free_end();
    const std::vector<std::int64_t> row(header_.shape.begin() + 1, header_.shape.end());
    row_bytes_ = checked_bytes(row, header_.dtype.item_size).value();
    rows_ = header_.shape[0];
    end_ = header_.end();
    bytes_.resize(static_cast<std::size_t>(header_.data_offset));
    file_.read_fully(bytes_.data(), bytes_.size(), 0);
    keep_raw_byte_order();
    require_header_room();
  }

  const DType& dtype() const noexcept { return header_.dtype; }
  at::IntArrayRef row_shape() const { return at::IntArrayRef(header_.shape).slice(1); }
  std::int64_t rows() const noexcept { return rows_; }

  /// Where this throws, none of the rows counts, and those before are as they were.
  void append(const void* data, std::int64_t rows) {
    if (rows > most_rows_ - rows_) {
      throw Error(ErrorCode::TooLarge,
                  "no room to append " + counted(static_cast<std::uint64_t>(rows), "row") + " to " +
                      std::to_string(rows_) + ": the header's " + counted(bytes_.size(), "byte") +
                      " can count to " + std::to_string(most_rows_) + "; save() the array anew");
    }
    const auto size = static_cast<std::size_t>(rows * row_bytes_);
    if (size > kBufferSize - buffered_) write_buffer();
    if (size >= kBufferSize) {
      write(data, size);
    } else if (size != 0) {
      if (buffer_ == nullptr) buffer_.reset(new char[kBufferSize]);
      std::memcpy(buffer_.get() + buffered_, data, size);
      buffered_ += size;
    }
    rows_ += rows;
  }

  /// Where writing fails, it can be tried again.
  void flush(bool sync) {
    write_buffer();
    if (rows_ != header_.shape[0]) {
      if (sync) file_.sync();  // first, lest the header reach the disk before the rows
      write_header();
    }
    if (sync) file_.sync();
  }

  /// Throws Error (Io) where the rows would go to a file that nobody finds any more.
  void require_at(const std::filesystem::path& path) const {
    if (file_.is_at(path)) return;
    throw Error(
        ErrorCode::Io,
        "the file was replaced or removed while an Appender had it open: rows since its last "
        "flush() are not in the file that has the name now");
  }

  void close() { file_.close(); }

 private:
  // 300,000 rows of 1 KiB through 64 KiB, 256 KiB and 1 MiB: 577 to 597, 404 to 426 and 282 to 371
  // ns a row, in two runs.
  static constexpr std::size_t kBufferSize = std::size_t{1} << 20;
  /// What one call writes within a page is there whole or not at all when the process is killed.
  static constexpr std::size_t kPage = 4096;

  void require_axis() const {
    if (header_.shape.empty()) {
      throw Error(ErrorCode::Mismatch, "a 0-d array has no axis to grow along");
    }
    if (header_.fortran_order) {
      throw Error(ErrorCode::Mismatch,
                  "the array is in Fortran order: it cannot grow along axis 0 in place");
    }
  }

  void require_tensor_dtype() const {
    const DType& dtype = header_.dtype;
    if (!scalar_type_of(dtype) && !is_raw(dtype)) {
      throw Error(ErrorCode::UnsupportedDtype,
                  "the array has dtype " + dtype.descr() + ", which no tensor has");
    }
    if (dtype.is_swapped()) {
      throw Error(ErrorCode::Mismatch,
                  "the array has dtype " + dtype.descr() + ", in the other byte order");
    }
  }

  /// What follows the array is left of rows that were never counted, or is another array.
  void require_free_end() {
    const std::uint64_t size = file_.size();
    const std::uint64_t end = header_.end();
    if (end > size) throw data_cut_short(header_.data_offset, end - header_.data_offset, size);
    has_leftovers_ = end < size;
    char next[kMagicSize];
    if (size - end < kMagicSize) return;
    file_.read_fully(next, kMagicSize, end);
    if (std::memcmp(next, kMagic, kMagicSize) == 0) {
      throw Error(ErrorCode::Mismatch,
                  "another array follows at byte " + std::to_string(end) +
                      " of the file: rows would overwrite it",
                  end);
    }
  }

  /// Of raw items it means nothing and is not parsed, but NumPy writes one.
  void keep_raw_byte_order() {
    if (!is_raw(header_.dtype)) return;
    const std::size_t kind = bytes_.find('V', prefix_size(header_.version));
    const char order = kind == bytes_.npos ? '|' : bytes_[kind - 1];
    if (order == '<' || order == '>') header_.dtype.byte_order = order;
  }

  void require_header_room() {
    const auto bytes = format_header_in_place(header_);
    if (!bytes) {
      throw Error(ErrorCode::TooLarge, "no room to append: NumPy's own header is longer than the " +
                                           counted(bytes_.size(), "byte") +
                                           " of this one; save() the array anew");
    }
    if (difference(bytes_, *bytes).second > kPage) {
      throw Error(ErrorCode::Mismatch,
                  "the header is not written as NumPy does, and too long to change in one step; "
                  "save() the array anew");
    }
    const std::size_t text = bytes->find_last_not_of(" \n") + 1;
    std::size_t digits = std::to_string(rows_).size() + bytes->size() - 1 - text;
    most_rows_ = 0;
    for (; digits != 0 && most_rows_ <= (INT64_MAX - 9) / 10; --digits) {
      most_rows_ = most_rows_ * 10 + 9;
    }
    if (digits != 0) most_rows_ = INT64_MAX;
    // NumPy counts the bytes as if axes of length 0 had length 1.
    std::vector<std::int64_t> row(header_.shape.begin() + 1, header_.shape.end());
    std::replace(row.begin(), row.end(), std::int64_t{0}, std::int64_t{1});
    const std::int64_t counted_bytes = checked_bytes(row, header_.dtype.item_size).value();
    const auto offset = static_cast<std::int64_t>(header_.data_offset);
    most_rows_ =
        (std::min)(most_rows_, (INT64_MAX - offset) / (std::max)(counted_bytes, std::int64_t{1}));
  }

  /// The bytes from the first to the last that differ; {0, 0} where none do.
  static std::pair<std::size_t, std::size_t> difference(std::string_view a, std::string_view b) {
    const auto first = std::mismatch(a.begin(), a.end(), b.begin()).first;
    const auto last = std::mismatch(a.rbegin(), a.rend(), b.rbegin()).first;
    const auto begin = static_cast<std::size_t>(first - a.begin());
    const auto end = static_cast<std::size_t>(a.rend() - last);
    return {(std::min)(begin, end), end};
  }

  void write_header() {
    Header grown = header_;
    grown.shape[0] = rows_;
    std::string bytes = format_header_in_place(grown).value();
    const auto [begin, end] = difference(bytes_, bytes);
    file_.write(bytes.data() + begin, end - begin, begin);
    bytes_ = std::move(bytes);
    header_ = std::move(grown);
  }

  void write_buffer() {
    if (buffered_ == 0) return;
    write(buffer_.get(), buffered_);
    buffered_ = 0;
  }

  void write(const void* data, std::size_t size) {
    if (has_leftovers_) file_.truncate(end_);
    has_leftovers_ = true;
    try {
      file_.write(data, size, end_);
    } catch (const Error&) {
      cut_off();  // what was written of it takes room that others may need
      throw;
    }
    has_leftovers_ = false;
    end_ += size;
  }

  /// As well as can be done: the next write tries again.
  void cut_off() noexcept {
    try {
      file_.truncate(end_);
      has_leftovers_ = false;
    } catch (const std::exception&) {
      // The bytes stay where nobody counts them.
    }
  }

  LockedFile file_;
  Header header_;      // as in the file
  std::string bytes_;  // of the header, as in the file
  std::int64_t row_bytes_ = 0;
  std::int64_t rows_ = 0;  // with those that the header does not count yet
  std::int64_t most_rows_ = 0;
  std::uint64_t end_ = 0;  // of the rows in the file
  bool has_leftovers_ = false;
  std::unique_ptr<char[]> buffer_;
  std::size_t buffered_ = 0;  // bytes
};

}  // namespace detail

/// Appends rows to an .npy file, along axis 0 and in place: what a row costs does not depend on how
/// many there are. Whenever the process is killed, the file is a valid one with the rows of the
/// last flush() that ended, or of the one under way: rows are written first, then, in one step, the
/// header, in which NumPy leaves room for a longer count. A file that was made here is after
/// flush() what save() writes for the whole, byte for byte.
///
///     torch_npy::Appender log("log.npy", {3, 32, 32}, torch::kFloat32);
///     log.append(image);   // (3, 32, 32)
///     log.append(images);  // (n, 3, 32, 32)
///     log.close();
///
/// An existing file is continued, whoever wrote it, in the dtype that its header names: datetime64
/// with int64 tensors, raw V2 with bfloat16. One that cannot be is an Error, and not a byte of it
/// changes: Mismatch for another dtype or row shape, the other byte order, Fortran order, a 0-d
/// array, or another array behind it; UnsupportedDtype; Truncated; TooLarge for a header without
/// room for the count; Io while another Appender, of any process, has the file open. Other bytes
/// behind the array are taken for rows that were never flushed, and give way.
///
/// One object is for one thread at a time, and not for two processes after a fork(). Nobody else
/// may write to the file while it is open here; that somebody replaced or removed it, flush()
/// tells. Throws Error; nothing else but std::bad_alloc and what LibTorch throws for want of
/// memory.
class Appender {
 public:
  /// Rows of this shape and dtype. Where there is no file, one of 0 rows appears at once, as save()
  /// would write it. Throws Error: what is said above of an existing file; what save() throws where
  /// it makes one, and TooLarge for rows whose bytes do not fit in 63 bits.
  Appender(const std::filesystem::path& path, at::IntArrayRef row_shape, c10::ScalarType dtype,
           const SaveOptions& options = {})
      : Appender(State{path, detail::absolute_path(path), options, dtype, std::nullopt}) {
    detail::with_path(path, [&] { open(row_shape, dtype); });
  }

  /// Rows as the file has them. Where there is none, the first tensor appended is (n, row
  /// shape...), and the file appears then. Throws Error: what is said above of an existing file.
  explicit Appender(const std::filesystem::path& path, const SaveOptions& options = {})
      : Appender(State{path, detail::absolute_path(path), options, std::nullopt, std::nullopt}) {
    detail::with_path(path, [&] {
      auto file = open_existing();
      if (!file) return;
      state_->array.emplace(std::move(*file));
      state_->dtype = detail::scalar_type_of(state_->array->dtype());
    });
  }

  /// One that was moved from is closed.
  Appender(Appender&&) noexcept = default;
  /// Closes the file that was open here, as the destructor does.
  Appender& operator=(Appender&& other) noexcept {
    Appender taken(std::move(other));
    std::swap(state_, taken.state_);
    return *this;
  }

  /// Flushes, and keeps quiet where that fails: close() tells.
  ~Appender() {
    try {
      close();
    } catch (const std::exception&) {
      // Rows of the last flush() that ended are in the file.
    }
  }

  /// Appends one row, of the row shape, or n of them, (n, row shape...). From any device, strided
  /// in any way. Rows reach the file when there are enough of them (1 MiB), and count from flush()
  /// on. Where it throws, none of these rows is appended, and all before are as they were.
  ///
  /// Throws Error: Mismatch for another dtype or shape; TooLarge where the header has no room for
  /// the count; InvalidArgument once it is closed, for a tensor that save() does not take, and for
  /// a 0-d one that is to make a file; Io and Exhausted; and where the tensor makes the file, what
  /// the constructor would that is told its shape and dtype.
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

  /// Writes all rows appended so far, then the header that counts them; with SaveOptions::sync they
  /// survive a power cut from here on. Where writing fails, the disk being full for instance, the
  /// header stays as it was and the rows in memory: it can be tried again. Throws Error: Io, also
  /// where the file was replaced or removed, Exhausted, and InvalidArgument once it is closed.
  void flush() {
    State& state = require_open("flush()");
    if (!state.array) return;
    detail::with_path(state.path, [&] {
      state.array->require_at(state.place);
      state.array->flush(state.options.sync());
    });
  }

  /// Flushes, and lets go of the file. Once it is closed, does nothing. Where flushing fails, the
  /// Appender stays open. Throws Error: Io, Exhausted.
  void close() {
    if (state_ == nullptr || !state_->is_open) return;
    flush();
    state_->is_open = false;
    if (!state_->array) return;
    detail::with_path(state_->path, [&] { state_->array->close(); });
  }

  /// Rows of the file and those appended to it, flushed or not.
  std::int64_t rows() const noexcept {
    return state_ == nullptr || !state_->array ? 0 : state_->array->rows();
  }

 private:
  struct State {
    std::filesystem::path path;   // as given, for messages
    std::filesystem::path place;  // the same wherever the process goes
    SaveOptions options;
    std::optional<c10::ScalarType> dtype;       // none before the first tensor where that decides
    std::optional<detail::GrowingArray> array;  // none where the first tensor makes the file
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
      return detail::LockedFile(state_->path);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::NotFound) throw;
      return std::nullopt;
    }
  }

  /// Opens the file, and makes it where there is none.
  void open(at::IntArrayRef row_shape, c10::ScalarType dtype) {
    Header header;
    header.dtype = detail::require_dtype(dtype);
    header.shape = {0};
    header.shape.insert(header.shape.end(), row_shape.begin(), row_shape.end());
    detail::require_rank(header.shape.size());
    if (*std::min_element(header.shape.begin(), header.shape.end()) < 0) {
      throw Error(ErrorCode::InvalidArgument,
                  "a row of the negative shape " + detail::python_tuple(row_shape.vec()));
    }
    if (!detail::checked_bytes(header.shape, header.dtype.item_size)) {
      throw Error(ErrorCode::TooLarge, "the bytes of a row of shape " +
                                           detail::python_tuple(row_shape.vec()) +
                                           " do not fit in 63 bits");
    }
    auto file = open_existing();
    if (!file) {
      make_file(format_header(header));
      file.emplace(state_->path);
    }
    detail::GrowingArray array(std::move(*file));
    if (array.row_shape() != row_shape) {
      throw Error(ErrorCode::Mismatch,
                  "the file has rows of shape " + detail::python_tuple(array.row_shape().vec()) +
                      ", not of shape " + detail::python_tuple(row_shape.vec()));
    }
    require_dtype(array, dtype);
    state_->array.emplace(std::move(array));
  }

  void open_for(const at::Tensor& tensor) {
    if (tensor.dim() == 0) {
      throw Error(ErrorCode::InvalidArgument,
                  "the first tensor of a new file is (n, row shape...), not 0-d");
    }
    open(tensor.sizes().slice(1), tensor.scalar_type());
  }

  /// Another file of the name that appears meanwhile is left, to be opened.
  void make_file(const std::string& header) const {
    detail::AtomicFile file(state_->path, state_->options.sync());
    file.write(header.data(), header.size());
    file.commit_new();
  }

  static void require_dtype(const detail::GrowingArray& array, c10::ScalarType dtype) {
    if (detail::stores(array.dtype(), dtype)) return;
    throw Error(ErrorCode::Mismatch, "the file holds " + array.dtype().descr() +
                                         ", the tensor to append " + c10::toString(dtype) +
                                         ": convert it first");
  }

  /// How many rows the tensor is; throws where it is none.
  std::int64_t rows_of(const at::Tensor& tensor) const {
    const detail::GrowingArray& array = *state_->array;
    const c10::ScalarType dtype = tensor.scalar_type();
    if (state_->dtype != dtype) {
      require_dtype(array, dtype);
      if (state_->dtype) {
        throw Error(ErrorCode::Mismatch,
                    std::string("the rows are ") + c10::toString(*state_->dtype) +
                        ", the tensor to append " + c10::toString(dtype) + ": convert it first");
      }
    }
    const at::IntArrayRef sizes = tensor.sizes();
    const at::IntArrayRef row = array.row_shape();
    if (sizes == row) return 1;
    if (sizes.size() == row.size() + 1 && sizes.slice(1) == row) return sizes[0];
    throw Error(ErrorCode::Mismatch, "a row has shape " + detail::python_tuple(row.vec()) +
                                         ", the tensor to append has shape " +
                                         detail::python_tuple(sizes.vec()));
  }

  std::unique_ptr<State> state_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_APPEND_HPP_
