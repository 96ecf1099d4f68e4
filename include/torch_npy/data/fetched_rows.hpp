#ifndef TORCH_NPY_DATA_FETCHED_ROWS_HPP_
#define TORCH_NPY_DATA_FETCHED_ROWS_HPP_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include <torch_npy/data/array_files.hpp>
#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Rows of a batch that are read from a store: of all files at the same time.
class FetchedRows {
 public:
  /// For at most `rows` rows.
  FetchedRows(const ArrayFiles& files, const RowFormat& format, std::size_t rows)
      : files_(files), format_(format), bytes_(allocate_buffer(rows * format.bytes())) {}

  /// Adds `rows` rows of a file; the first of them is `offset` bytes after its start.
  void add(std::size_t file, const RowLayout& layout, std::uint64_t offset, std::size_t rows) {
    char* const to = bytes_.get() + used_;
    runs_.push_back({to, rows, nullptr});
    used_ += rows * format_.bytes();
    std::vector<ByteRange>& ranges = ranges_[file];
    const std::size_t element = format_.element_size();
    if (layout.row.is_one() && layout.step == format_.elements) {
      ranges.push_back({to, rows * format_.bytes(), offset});
      return;
    }
    char* out = to;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::uint64_t begin = offset + std::uint64_t{row} * layout.step * element;
      layout.row.for_each(
          0, format_.elements,
          [&](std::uint64_t first, std::size_t size, std::uint64_t stride, std::size_t parts) {
            for (std::size_t i = 0; i < parts; ++i, out += size * element) {
              ranges.push_back({out, size * element, begin + (first + i * stride) * element});
            }
          });
    }
  }

  /// Reads them, and returns them in the order of add(). They live as long as this object. Throws
  /// Error (Io), also for a file that was replaced after the dataset was made.
  const std::vector<RowRun>& read() {
    std::vector<std::pair<std::size_t, std::vector<ByteRange>>> files;
    for (auto& [file, ranges] : ranges_) files.emplace_back(file, std::move(ranges));
    files_.for_each_index(files.size(), [&](std::size_t i) {
      files_.fetch(files[i].first,
                   [&](const ByteSource& source) { source.read_many(files[i].second); });
    });
    return runs_;
  }

 private:
  const ArrayFiles& files_;
  const RowFormat& format_;
  std::shared_ptr<char> bytes_;
  std::size_t used_ = 0;
  std::vector<RowRun> runs_;
  std::map<std::size_t, std::vector<ByteRange>> ranges_;  // by file
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FETCHED_ROWS_HPP_
