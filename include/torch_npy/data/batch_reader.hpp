#ifndef TORCH_NPY_DATA_BATCH_READER_HPP_
#define TORCH_NPY_DATA_BATCH_READER_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/options.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/tensor/convert.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/text.hpp>

// The samples of a batch: read, and returned as one tensor or as one tensor a sample.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The samples of one part of a batch, in order: its data, or its targets. As long as they are
/// alike they are the rows of one tensor.
struct PartRows {
  at::Tensor whole;              ///< if they are alike
  std::vector<at::Tensor> each;  ///< else one tensor a sample

  /// One tensor a sample.
  std::vector<at::Tensor> separate() && {
    return whole.defined() ? rows_of(whole) : std::move(each);
  }
};

/// What the files of a dataset are read from and with. Read-only, shared by its copies.
struct SampleFiles {
  FileList list;
  LoadOptions options;
  std::shared_ptr<BufferPool> pool;
  FolderOptions::Expected expected;

  /// Refuses an array of another shape or dtype than FolderOptions::expect() says.
  void require_expected(const LoadPlan& plan) const {
    if (expected.shape && !matches(*expected.shape, plan.sizes)) {
      throw Error(ErrorCode::Mismatch, "expected shape " + python_tuple(*expected.shape) +
                                           ", found " + python_tuple(plan.sizes));
    }
    if (expected.dtype && *expected.dtype != plan.type) {
      throw Error(ErrorCode::Mismatch, std::string("expected dtype ") +
                                           c10::toString(*expected.dtype) + ", found " +
                                           c10::toString(plan.type));
    }
  }

 private:
  static bool matches(const std::vector<std::int64_t>& wanted,
                      const std::vector<std::int64_t>& found) {
    return std::equal(
        wanted.begin(), wanted.end(), found.begin(), found.end(),
        [](std::int64_t want, std::int64_t size) { return want == -1 || want == size; });
  }
};

/// The region to read of a sample of these sizes; none if there is no such region.
using RegionOf = std::function<std::optional<Region>(c10::IntArrayRef sizes)>;

/// Reads files one after another into one buffer, as long as they are alike. The first file is the
/// pattern: a file whose header has the same bytes takes an open, a preadv directly to its row of
/// the batch, and a close, and is not parsed.
class BatchReader {
 public:
  /// For at most `count` files; into pinned memory if `pin` or if the options say so.
  BatchReader(std::shared_ptr<const SampleFiles> files, std::size_t count, bool pin)
      : files_(std::move(files)), count_(count), options_(files_->options) {
    accepted_.reserve(count);
    // The workers of a loader are the threads. A batch is copied to the device as a whole.
    if (options_.threads() == 0) options_.threads(1);
    if (pin) options_.pinned_memory(true);
  }

  /// Reads file `index`, or only the region `region_of(sizes)` of its sample. It becomes part of
  /// the batch by accept(); another read() replaces it. False if there is no such region: then
  /// nothing was read. Throws Error.
  bool read(std::size_t index, const RegionOf& region_of = {}, const c10::Scalar& fill_value = 0) {
    own_ = at::Tensor();
    index_ = index;
    try {
      const File file = files_->list.open(index);
      if (!region_of && read_like_first(file)) return true;
      return with_array(file, options_,
                        [&](OpenArray& array) { return read_array(array, region_of, fill_value); });
    } catch (const Error& error) {
      throw ErrorContext::at(error, files_->list[index]);
    }
  }

  /// The sizes of the whole sample of which a region was read last.
  const std::vector<std::int64_t>& sizes() const noexcept { return sizes_; }

  void accept() {
    accepted_.push_back(index_);
    if (own_.defined()) {
      own_samples_.emplace_back(accepted_.size() - 1, std::move(own_));
    } else {
      ++rows_;
    }
  }

  PartRows finish() && {
    at::Tensor rows;
    if (buffer_.defined()) {
      std::vector<std::int64_t> sizes = buffer_.sizes().vec();
      sizes[0] = static_cast<std::int64_t>(rows_);
      rows = view_of(buffer_, 0, sizes, buffer_.strides());
      buffer_ = at::Tensor();
      if (TensorMemory* const memory = TensorMemory::of(rows)) memory->origin = origin();
      rows = on_device(std::move(rows), options_);
    }
    if (own_samples_.empty() && rows_ != 0) return {std::move(rows), {}};
    std::vector<at::Tensor> samples;
    if (rows_ != 0) samples = rows_of(rows);
    for (auto& [position, tensor] : own_samples_) {
      samples.insert(samples.begin() + static_cast<std::ptrdiff_t>(position),
                     on_device(std::move(tensor), options_));
    }
    return {at::Tensor(), std::move(samples)};
  }

 private:
  bool read_like_first(const File& file) {
    if (header_.empty()) return false;
    char* const row = next_row();
    unsigned char* const header = header_.data() + header_.size() / 2;
    const std::size_t size = header_.size() / 2;
    if (file.read_split(header, size, row, first_.bytes) != size + first_.bytes ||
        std::memcmp(header_.data(), header, size) != 0) {
      return false;
    }
    swap_bytes(row, first_.bytes, swap_unit(first_.dtype));
    return true;
  }

  bool read_array(OpenArray& array, const RegionOf& region_of, const c10::Scalar& fill_value) {
    const auto data_offset = static_cast<std::size_t>(array.header.data_offset);
    LoadPlan plan = array.plan(options_);
    files_->require_expected(plan);
    sizes_ = plan.sizes;
    if (region_of && !crop(plan, region_of, fill_value)) return false;
    // A region is small, and is copied into the batch.
    if (options_.mmap() && !region_of &&
        can_map(plan, options_, array.source.internal_traits().range)) {
      own_ = load_on_host(array, plan, options_);
      return true;
    }
    if (!has_first_) {
      has_first_ = true;
      first_ = plan;
      make_buffer();
      if (buffer_.defined() && !plan.converts() && plan.in_one_run() && plan.is_whole &&
          data_offset <= array.first.size) {
        header_.assign(array.first.data, array.first.data + data_offset);
        header_.resize(2 * data_offset);
      }
    }
    const ArrayReading reading(array, plan, options_);
    if (buffer_.defined() && plan.type == first_.type && plan.sizes == first_.sizes &&
        plan.strides == first_.strides) {
      reading.fill(next_row());
      return true;
    }
    own_ = empty(plan);
    reading.fill(own_.data_ptr());
    if (TensorMemory* const memory = TensorMemory::of(own_)) {
      memory->origin = [files = std::weak_ptr(files_), index = index_](std::size_t) {
        const auto owner = files.lock();
        return owner ? shown_path(owner->list[index]) : std::string();
      };
    }
    return true;
  }

  /// Reduces the plan to a region. False if there is none, or if it would be part of another one
  /// that is filled, or of strings.
  bool crop(LoadPlan& plan, const RegionOf& region_of, const c10::Scalar& fill_value) const {
    std::optional<Region> region = region_of(plan.sizes);
    if (!region || plan.is_padded() || plan.inner_axes != 0) return false;
    LoadOptions options = options_;
    options.region(std::move(*region)).out_of_bounds(OutOfBounds::Fill).fill_value(fill_value);
    if (!options.region().empty()) take_region(plan, options);
    return true;
  }

  /// Allocates memory for the whole batch. If that fails each sample gets its own: they may differ,
  /// and need less.
  void make_buffer() {
    if (first_.bytes == 0 || count_ > PTRDIFF_MAX / first_.bytes) return;
    LoadPlan batch = first_;
    batch.sizes.insert(batch.sizes.begin(), static_cast<std::int64_t>(count_));
    batch.strides.insert(batch.strides.begin(), static_cast<std::int64_t>(first_.count));
    batch.bytes *= count_;
    try {
      buffer_ = empty(batch);
    } catch (const Error&) {
      // Each sample gets its own memory.
    }
  }

  at::Tensor empty(const LoadPlan& plan) const {
    return empty_from(*files_->pool, plan.bytes, plan.type, plan.sizes, plan.strides,
                      pins_memory(options_));
  }

  char* next_row() const { return static_cast<char*>(buffer_.data_ptr()) + rows_ * first_.bytes; }

  TensorMemory::Origin origin() const {
    std::vector<std::size_t> in_buffer;
    auto own = own_samples_.begin();
    for (std::size_t i = 0; i < accepted_.size(); ++i) {
      if (own != own_samples_.end() && own->first == i) {
        ++own;
      } else {
        in_buffer.push_back(accepted_[i]);
      }
    }
    return [files = std::weak_ptr(files_), in_buffer = std::move(in_buffer),
            row_bytes = first_.bytes](std::size_t byte) {
      const auto owner = files.lock();
      const std::size_t row = byte / row_bytes;
      if (!owner || row >= in_buffer.size()) return std::string();
      return shown_path(owner->list[in_buffer[row]]);
    };
  }

  std::shared_ptr<const SampleFiles> files_;
  std::size_t count_;
  LoadOptions options_;
  std::vector<std::size_t> accepted_;  // indices
  std::size_t index_ = 0;              // of the file read last
  std::vector<std::int64_t> sizes_;    // of its sample, if its header was parsed

  bool has_first_ = false;
  LoadPlan first_;
  std::vector<unsigned char> header_;  // of the first file, and room for another to compare
  at::Tensor buffer_;
  std::size_t rows_ = 0;  // of the buffer, in use

  at::Tensor own_;  // the sample read last, if it is not in the buffer
  std::vector<std::pair<std::size_t, at::Tensor>>
      own_samples_;  // with their positions in the batch
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_READER_HPP_
