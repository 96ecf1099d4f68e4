#ifndef TORCH_NPY_TENSOR_GROWING_ARRAY_HPP_
#define TORCH_NPY_TENSOR_GROWING_ARRAY_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/read_header.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// The file under an Appender.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True if elements of `type` are bit for bit items of `dtype` in native byte order.
inline bool stores(const DType& dtype, c10::ScalarType type) {
  if (scalar_type_of(dtype) == type) return true;
  const auto own = dtype_of(type);
  return own && is_raw(*own) && is_raw(dtype) && own->item_size == dtype.item_size;
}

/// An .npy file that grows along axis 0 in place. Rows are buffered in memory and written after
/// those that the header counts, where readers do not look. flush() updates the count in the
/// header.
class GrowingArray {
 public:
  explicit GrowingArray(LockedFile file) : file_(std::move(file)) {
    FirstBytes first;
    header_ = read_header(file_, kMaxHeaderSize, first);
    require_growable();
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

  /// On failure none of these rows counts, and the earlier ones are unchanged.
  void append(const void* data, std::int64_t rows) {
    if (rows > max_rows_ - rows_) {
      throw Error(ErrorCode::TooLarge,
                  "no room to append " + counted(static_cast<std::uint64_t>(rows), "row") + " to " +
                      std::to_string(rows_) + ": the header's " + counted(bytes_.size(), "byte") +
                      " can count at most " + std::to_string(max_rows_) + kSaveAgain);
    }
    const auto size = static_cast<std::size_t>(rows * row_bytes_);
    if (size > kBufferSize - buffered_) write_buffer();
    if (size >= kBufferSize) {
      write(data, size);
    } else if (size != 0) {
      if (buffer_ == nullptr) buffer_ = allocate_buffer(kBufferSize);
      std::memcpy(buffer_.get() + buffered_, data, size);
      buffered_ += size;
    }
    rows_ += rows;
  }

  /// On failure the call can be repeated.
  void flush(bool sync) {
    write_buffer();
    if (rows_ != header_.shape[0]) {
      if (sync) file_.sync();  // so that the rows are on the disk before the header
      write_header();
    }
    if (sync) file_.sync();
  }

  /// Throws Error (Io) if the path names another file now, or none.
  void require_at(const std::filesystem::path& path) const {
    if (file_.is_at(path)) return;
    throw Error(
        ErrorCode::Io,
        "the file was replaced or removed while the Appender had it open: the rows since its last "
        "flush() are not in the file that has this name now");
  }

  void close() { file_.close(); }

 private:
  // Larger buffers write faster; tests/bench/NOTES.md has the measurement.
  static constexpr std::size_t kBufferSize = std::size_t{1} << 20;
  /// If the process is killed, a write within one page is there completely or not at all.
  static constexpr std::size_t kPage = 4096;
  static constexpr const char* kSaveAgain =
      "; load() the array and save() it again to write a header that can grow";

  void require_growable() const {
    if (header_.shape.empty()) {
      throw Error(ErrorCode::Mismatch, "a 0-d array has no axis to grow along");
    }
    if (header_.fortran_order) {
      throw Error(ErrorCode::Mismatch,
                  "the array is in Fortran order and cannot grow along axis 0 in place; "
                  "save(path, load(path).contiguous()) stores it in C order");
    }
    const DType& dtype = header_.dtype;
    if (!scalar_type_of(dtype) && !is_raw(dtype)) {
      throw Error(ErrorCode::UnsupportedDtype,
                  "the array has dtype " + dtype.descr() + ", which no tensor can hold");
    }
    if (dtype.is_swapped()) {
      throw Error(ErrorCode::Mismatch,
                  "the array has dtype " + dtype.descr() +
                      ", which is not in native byte order; load() it and save() it again");
    }
  }

  /// Bytes after the array are rows that were never counted, or another array.
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

  /// The byte order of raw items has no meaning and is not parsed, but NumPy writes one.
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
                                           counted(bytes_.size(), "byte") + " of this one" +
                                           kSaveAgain);
    }
    if (difference(bytes_, *bytes).second > kPage) {
      throw Error(
          ErrorCode::Mismatch,
          std::string("the header differs from the one NumPy writes, and is too long to change "
                      "in one step") +
              kSaveAgain);
    }
    const std::size_t text = bytes->find_last_not_of(" \n") + 1;
    std::size_t digits = std::to_string(rows_).size() + bytes->size() - 1 - text;
    max_rows_ = 0;
    for (; digits != 0 && max_rows_ <= (INT64_MAX - 9) / 10; --digits) {
      max_rows_ = max_rows_ * 10 + 9;
    }
    if (digits != 0) max_rows_ = INT64_MAX;
    // NumPy computes the bytes as if axes of length 0 had length 1.
    std::vector<std::int64_t> row(header_.shape.begin() + 1, header_.shape.end());
    std::replace(row.begin(), row.end(), std::int64_t{0}, std::int64_t{1});
    const std::int64_t counted_bytes = checked_bytes(row, header_.dtype.item_size).value();
    const auto offset = static_cast<std::int64_t>(header_.data_offset);
    max_rows_ =
        (std::min)(max_rows_, (INT64_MAX - offset) / (std::max)(counted_bytes, std::int64_t{1}));
  }

  /// The range from the first to the last byte that differs; {0, 0} if none does.
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
      discard_leftovers();  // frees the disk space of a partial write
      throw;
    }
    has_leftovers_ = false;
    end_ += size;
  }

  /// Failures are ignored: the next write tries again.
  void discard_leftovers() noexcept {
    try {
      file_.truncate(end_);
      has_leftovers_ = false;
    } catch (const std::exception&) {
      // The header does not count these bytes.
    }
  }

  LockedFile file_;
  Header header_;      // as in the file
  std::string bytes_;  // of the header, as in the file
  std::int64_t row_bytes_ = 0;
  std::int64_t rows_ = 0;  // including those that the header does not count yet
  std::int64_t max_rows_ = 0;
  std::uint64_t end_ = 0;  // offset of the end of the rows in the file
  bool has_leftovers_ = false;
  std::shared_ptr<char> buffer_;
  std::size_t buffered_ = 0;  // bytes
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_GROWING_ARRAY_HPP_
