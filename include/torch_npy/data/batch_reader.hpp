#ifndef TORCH_NPY_DATA_BATCH_READER_HPP_
#define TORCH_NPY_DATA_BATCH_READER_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/mapped_files.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/read_header.hpp>
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

/// One tensor of each sample: its data, or its target. Read-only, shared by the copies of a
/// dataset.
struct SamplePart {
  LoadOptions options;
  std::shared_ptr<BufferPool> pool;
  FolderOptions::Expected expected;

  SamplePart(const LoadOptions& its_options, std::shared_ptr<BufferPool> its_pool,
             FolderOptions::Expected its_expected)
      : options(its_options), pool(std::move(its_pool)), expected(std::move(its_expected)) {}
  virtual ~SamplePart() = default;

  /// What the tensor of a sample is read from, for messages.
  virtual std::string origin(std::size_t sample) const = 0;

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

/// The size of axis 0. Throws Error (Mismatch) for a 0-d array.
inline std::int64_t length_of(const LoadPlan& plan) {
  if (!plan.sizes.empty()) return plan.sizes[0];
  throw Error(ErrorCode::Mismatch, "a 0-d array has no length");
}

/// The array of one sample as a class label. Throws Error (InvalidArgument) if it is not one
/// integer.
inline std::int64_t label_in(OpenArray& array, const LoadOptions& options) {
  const LoadPlan plan = array.plan(options);
  if (plan.count != 1 || !c10::isIntegralType(plan.type, /*includeBool=*/true)) {
    throw Error(ErrorCode::InvalidArgument,
                "a class label is one integer, found a target of shape " +
                    python_tuple(plan.sizes) + " and dtype " + c10::toString(plan.type));
  }
  return ArrayReading(array, plan, options).tensor().to(at::kLong).item<std::int64_t>();
}

/// One file for each sample.
struct SampleFiles final : SamplePart {
  FileList list;
  std::optional<MappedFiles> maps;  ///< from which regions are copied; if mmap(true) asks for it

  SampleFiles(FileList files, const LoadOptions& its_options, std::shared_ptr<BufferPool> its_pool,
              FolderOptions::Expected its_expected)
      : SamplePart(its_options, std::move(its_pool), std::move(its_expected)),
        list(std::move(files)) {
    if (options.mmap() && list.size() <= kMaxMappings) maps.emplace(list.size(), kMaxMappings);
  }

  std::string origin(std::size_t file) const override { return shown_path(list[file]); }
};

/// The region to read of a sample of these sizes; none if there is no such region.
using RegionOf = std::function<std::optional<Region>(c10::IntArrayRef sizes)>;

/// Reads arrays one after another into one buffer, as long as they are alike. The first array is
/// the pattern: the header of another one that has the same bytes is not parsed.
class BatchReader {
 public:
  /// For at most `count` samples; into pinned memory if `pin` or if the options say so.
  BatchReader(std::shared_ptr<const SamplePart> part, std::size_t count, bool pin)
      : part_(std::move(part)), count_(count), options_(part_->options) {
    accepted_.reserve(count);
    // The workers of a loader are the threads. A batch is copied to the device as a whole.
    if (options_.threads() == 0) options_.threads(1);
    if (pin) options_.pinned_memory(true);
  }

  /// Reads the array in `source` for a sample, or only the region `region_of(sizes)` of it. It
  /// becomes part of the batch by accept(); another read() replaces it. False if there is no such
  /// region: then nothing was read. Throws Error, without a path.
  bool read(std::size_t sample, const ByteSource& source, const RegionOf& region_of = {},
            const c10::Scalar& fill_value = 0) {
    begin(sample);
    return (!region_of && read_like_first(source)) || read_any(source, region_of, fill_value);
  }

  /// The same for a file: one that is like the first takes a single preadv, directly to its row.
  bool read(std::size_t sample, const File& file, const RegionOf& region_of = {},
            const c10::Scalar& fill_value = 0) {
    begin(sample);
    return (!region_of && read_like_first(file)) || read_any(file, region_of, fill_value);
  }

  /// The sizes of the whole sample of which a region was read last.
  const std::vector<std::int64_t>& sizes() const noexcept { return sizes_; }

  void accept() {
    accepted_.push_back(sample_);
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
  void begin(std::size_t sample) {
    own_ = at::Tensor();
    sample_ = sample;
  }

  /// If the array is in memory.
  bool read_like_first(const ByteSource& source) {
    const char* const data = header_.empty() ? nullptr : source.internal_traits().data;
    const std::size_t size = header_.size() / 2;
    if (data == nullptr || source.size() < size + first_.bytes ||
        std::memcmp(header_.data(), data, size) != 0) {
      return false;
    }
    FirstBytes first;  // none: they are in memory
    const auto unpacked = source.internal_unpacked(first, /*whole=*/true);
    const ByteSource& from = unpacked == nullptr ? source : *unpacked;
    from.read_fully(next_row(), first_.bytes, size);
    from.internal_finish(size + first_.bytes);
    swap_bytes(next_row(), first_.bytes, swap_unit(first_.dtype));
    return true;
  }

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

  bool read_any(const ByteSource& source, const RegionOf& region_of,
                const c10::Scalar& fill_value) {
    return with_path({}, [&] {
      if (!region_of) require_file_to_map(source, options_);
      FirstBytes first;
      OpenArray array(source, first, read_header(source, options_.max_header_size(), first));
      return read_array(array, region_of, fill_value);
    });
  }

  bool read_array(OpenArray& array, const RegionOf& region_of, const c10::Scalar& fill_value) {
    const auto data_offset = static_cast<std::size_t>(array.header.data_offset);
    const char* const data = array.source.internal_traits().data;
    const auto* const front =
        data != nullptr ? reinterpret_cast<const unsigned char*>(data) : array.first.data;
    const bool has_front = data != nullptr || data_offset <= array.first.size;
    LoadPlan plan = array.plan(options_);
    part_->require_expected(plan);
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
          has_front) {
        header_.assign(front, front + data_offset);
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
      memory->origin = [part = std::weak_ptr(part_), sample = sample_](std::size_t) {
        const auto owner = part.lock();
        return owner ? owner->origin(sample) : std::string();
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
    return empty_from(*part_->pool, plan.bytes, plan.type, plan.sizes, plan.strides,
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
    return [part = std::weak_ptr(part_), in_buffer = std::move(in_buffer),
            row_bytes = first_.bytes](std::size_t byte) {
      const auto owner = part.lock();
      const std::size_t row = byte / row_bytes;
      if (!owner || row >= in_buffer.size()) return std::string();
      return owner->origin(in_buffer[row]);
    };
  }

  std::shared_ptr<const SamplePart> part_;
  std::size_t count_;
  LoadOptions options_;
  std::vector<std::size_t> accepted_;  // samples
  std::size_t sample_ = 0;             // read last
  std::vector<std::int64_t> sizes_;    // its sizes, if its header was parsed

  bool has_first_ = false;
  LoadPlan first_;
  std::vector<unsigned char> header_;  // of the first array, and room for another to compare
  at::Tensor buffer_;
  std::size_t rows_ = 0;  // of the buffer, in use

  at::Tensor own_;  // the sample read last, if it is not in the buffer
  std::vector<std::pair<std::size_t, at::Tensor>>
      own_samples_;  // with their positions in the batch
};

/// Reads a file, or only a region of it: see BatchReader::read(). Throws Error.
inline bool read_file(BatchReader& reader, const SampleFiles& files, std::size_t file,
                      const RegionOf& region_of = {}, const c10::Scalar& fill_value = 0) {
  try {
    if (region_of && files.maps) {
      const char* const data = files.maps->data(file, [&] { return files.list.open(file); });
      const MemorySource bytes(data, files.maps->size(file));
      if (data != nullptr) return reader.read(file, bytes, region_of, fill_value);
    }
    return reader.read(file, files.list.open(file), region_of, fill_value);
  } catch (const Error& error) {
    throw ErrorContext::at(error, files.list[file]);
  }
}

/// Reads the regions of a sample and of its target by `read(part, region_of, fill_value)`, with the
/// BatchReader `data` for part 0. False if one of them has none.
template <class Read>
bool read_regions(const SampleRegions& regions, const Pick& pick, const BatchReader& data,
                  std::size_t parts, const Read& read) {
  const auto of_data = [&](c10::IntArrayRef sizes) { return regions.of_data(pick, sizes); };
  const auto of_target = [&](c10::IntArrayRef sizes) {
    return regions.of_target(pick, data.sizes(), sizes);
  };
  return read(0, of_data, regions.fill_value(0)) &&
         (parts == 1 || read(1, of_target, regions.fill_value(1)));
}

/// Which file a sample is, where each file is one sample or several.
class SamplesOfFiles {
 public:
  /// Throws Error (InvalidArgument) for samples_per_file(0), and if there would be too many.
  SamplesOfFiles(std::size_t files, const FolderOptions& options)
      : files_(files), per_file_(options.samples_per_file()) {
    if (per_file_ != 0 && files <= SIZE_MAX / per_file_) return;
    throw Error(
        ErrorCode::InvalidArgument,
        "samples_per_file() of " + counted(per_file_, "sample") + " for " + counted(files, "file"));
  }

  std::size_t size() const { return files_ * per_file_; }
  std::size_t file_of(std::size_t sample) const { return sample / per_file_; }
  std::string key(const std::filesystem::path& file, std::size_t sample) const {
    std::string key = file.generic_string();
    return per_file_ == 1 ? key : key + "#" + std::to_string(sample % per_file_);
  }

 private:
  std::size_t files_;
  std::size_t per_file_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_READER_HPP_
