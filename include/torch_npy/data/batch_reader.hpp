#ifndef TORCH_NPY_DATA_BATCH_READER_HPP_
#define TORCH_NPY_DATA_BATCH_READER_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/batch_buffer.hpp>
#include <torch_npy/data/fetched_objects.hpp>
#include <torch_npy/data/mapped_samples.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/io/read_header.hpp>
#include <torch_npy/tensor/convert.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// The samples of a batch: read, and returned as one tensor or as one tensor a sample.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

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
  bool fits_cache;                    ///< see FileList::fits_cache()
  std::optional<MappedSamples> maps;  ///< from which regions are copied, if mmap(true) asks for it

  SampleFiles(FileList files, const LoadOptions& its_options, std::shared_ptr<BufferPool> its_pool,
              FolderOptions::Expected its_expected)
      : SamplePart(its_options, std::move(its_pool), std::move(its_expected)),
        list(std::move(files)),
        fits_cache(list.fits_cache()) {
    if (options.mmap() && list.requests() == nullptr) maps.emplace(list.size());
  }

  std::string origin(std::size_t file) const override { return shown_path(list[file]); }
};

/// The region to read of a sample of these sizes; none if there is no such region.
using RegionOf = std::function<std::optional<Region>(c10::IntArrayRef sizes)>;

/// Reads arrays one after another into a BatchBuffer. The first array is the pattern: the header of
/// another one that has the same bytes is not parsed.
class BatchReader {
 public:
  /// For at most `count` samples; into pinned memory if `pin` or if the options say so.
  BatchReader(std::shared_ptr<const SamplePart> part, std::size_t count, bool pin)
      : part_(std::move(part)),
        options_(options_of_batch(part_->options, pin)),
        buffer_(part_, count, options_) {}

  /// Reads the array in `source` for a sample, or only the region `region_of(sizes)` of it. It
  /// becomes part of the batch by accept(); another read() replaces it. False if there is no such
  /// region: then nothing was read. Throws Error, without a path.
  bool read(std::size_t sample, const ByteSource& source, const RegionOf& region_of = {},
            const c10::Scalar& fill_value = 0) {
    buffer_.begin(sample);
    return (!region_of && read_like_first(source)) || read_any(source, region_of, fill_value);
  }

  /// The same for a file: one that is like the first takes a single preadv, directly to its row.
  bool read(std::size_t sample, const File& file, const RegionOf& region_of = {},
            const c10::Scalar& fill_value = 0) {
    buffer_.begin(sample);
    return (!region_of && read_like_first(file)) || read_any(file, region_of, fill_value);
  }

  /// The sizes of the whole sample of which a region was read last.
  const std::vector<std::int64_t>& sizes() const noexcept { return sizes_; }

  void accept() { buffer_.accept(); }
  PartRows finish() && { return std::move(buffer_).finish(); }

 private:
  static LoadOptions options_of_batch(LoadOptions options, bool pin) {
    // The workers of a loader are the threads. A batch is copied to the device as a whole.
    if (options.threads() == 0) options.threads(1);
    if (pin) options.pinned_memory(true);
    return options;
  }

  /// If the array is in memory.
  bool read_like_first(const ByteSource& source) {
    const char* const data = header_.empty() ? nullptr : source.internal_traits().data;
    const std::size_t size = header_.size() / 2;
    const std::size_t bytes = buffer_.first().bytes;
    if (data == nullptr || source.size() < size + bytes ||
        std::memcmp(header_.data(), data, size) != 0) {
      return false;
    }
    FirstBytes first;  // none: they are in memory
    const auto unpacked = source.internal_unpacked(first, /*whole=*/true);
    const ByteSource& from = unpacked == nullptr ? source : *unpacked;
    from.read_fully(buffer_.next_row(), bytes, size);
    from.internal_finish(size + bytes);
    swap_row();
    return true;
  }

  bool read_like_first(const File& file) {
    if (header_.empty()) return false;
    unsigned char* const header = header_.data() + header_.size() / 2;
    const std::size_t size = header_.size() / 2;
    const std::size_t bytes = buffer_.first().bytes;
    if (file.read_split(header, size, buffer_.next_row(), bytes) != size + bytes ||
        std::memcmp(header_.data(), header, size) != 0) {
      return false;
    }
    swap_row();
    return true;
  }

  void swap_row() const {
    const LoadPlan& first = buffer_.first();
    swap_bytes(buffer_.next_row(), first.bytes, swap_unit(first.dtype));
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
    LoadPlan plan = array.plan(options_);
    part_->require_expected(plan);
    sizes_ = plan.sizes;
    if (region_of && !crop(plan, region_of, fill_value)) return false;
    // A region is small, and is copied into the batch.
    if (options_.mmap() && !region_of &&
        can_map(plan, options_, array.source.internal_traits().range)) {
      buffer_.set_own(load_on_host(array, plan, options_));
      return true;
    }
    if (!buffer_.has_first()) {
      buffer_.set_first(plan);
      keep_header(array, data_offset);
    }
    const ArrayReading reading(array, plan, options_);
    reading.fill(buffer_.memory_for(plan));
    return true;
  }

  /// Keeps the header of the first array, if another one that has the same bytes can be read to its
  /// row as it is.
  void keep_header(const OpenArray& array, std::size_t size) {
    const LoadPlan& plan = buffer_.first();
    const char* const data = array.source.internal_traits().data;
    const auto* const front =
        data != nullptr ? reinterpret_cast<const unsigned char*>(data) : array.first.data;
    const bool has_front = data != nullptr || size <= array.first.size;
    if (!buffer_.has_rows() || plan.converts() || !plan.in_one_run() || !plan.is_whole ||
        !has_front) {
      return;
    }
    header_.assign(front, front + size);
    header_.resize(2 * size);
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

  std::shared_ptr<const SamplePart> part_;
  LoadOptions options_;
  BatchBuffer buffer_;
  std::vector<std::int64_t> sizes_;    // of the sample read last, if its header was parsed
  std::vector<unsigned char> header_;  // of the first array, and room for another to compare
};

/// Reads a file, or only a region of it: see BatchReader::read(). Throws Error.
inline bool read_file(BatchReader& reader, const SampleFiles& files, std::size_t file,
                      const FetchedObjects& fetched, const RegionOf& region_of = {},
                      const c10::Scalar& fill_value = 0) {
  return files.list.about(file, [&] {
    if (const auto source = fetched.find(files.list, file)) {
      return reader.read(file, *source, region_of, fill_value);
    }
    if (region_of && files.maps) {
      const auto bytes = files.maps->bytes(file, [&] { return files.list.open(file); });
      try {
        const MemorySource source(bytes.data(), bytes.size());
        if (!bytes.empty()) return reader.read(file, source, region_of, fill_value);
      } catch (const Error&) {  // the file may be better now, or is read for its own Error
      }
    }
    const ObjectUse use = !region_of         ? ObjectUse::Whole
                          : files.fits_cache ? ObjectUse::Kept
                                             : ObjectUse::Parts;
    return files.list.with_source(file, use, [&](const auto& source) {
      return reader.read(file, source, region_of, fill_value);
    });
  });
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
    constexpr std::size_t kMost = SIZE_MAX / 64;  // lists of all samples can be allocated, or not
    if (per_file_ != 0 && files <= kMost / per_file_) return;
    throw Error(
        ErrorCode::InvalidArgument,
        "samples_per_file() of " + counted(per_file_, "sample") + " for " + counted(files, "file"));
  }

  std::size_t size() const { return files_ * per_file_; }
  std::size_t file_of(std::size_t sample) const { return sample / per_file_; }
  /// The first file of the list that is the same as that of the sample. From any thread.
  std::size_t first_file_of(std::size_t sample, const FileList& list) const {
    std::call_once(is_compared_, [&] { first_of_same_ = list.first_of_same(); });
    const std::size_t file = file_of(sample);
    return first_of_same_.empty() ? file : first_of_same_[file];
  }
  std::string key(const std::filesystem::path& file, std::size_t sample) const {
    std::string key = name_of(file);
    return per_file_ == 1 ? key : key + "#" + std::to_string(sample % per_file_);
  }

 private:
  std::size_t files_;
  std::size_t per_file_;
  mutable std::once_flag is_compared_;
  mutable std::vector<std::size_t> first_of_same_;  // empty if all files differ
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_READER_HPP_
