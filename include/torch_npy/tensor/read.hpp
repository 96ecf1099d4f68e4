#ifndef TORCH_NPY_TENSOR_READ_HPP_
#define TORCH_NPY_TENSOR_READ_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/io/read_header.hpp>
#include <torch_npy/tensor/convert.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/text.hpp>

// From the bytes of a source to a tensor, as a LoadPlan says. Everything that loads ends here.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The bytes of an array: those that were read with its header, and the rest from its source.
class ArrayBytes {
 public:
  /// `first` may be null. The array ends at byte `end`, for messages.
  ArrayBytes(const ByteSource& source, const FirstBytes* first, std::uint64_t end)
      : source_(source), first_(first), end_(end) {}

  bool is_sequential() const { return source_.internal_traits().is_sequential; }

  /// Throws Error (Truncated) if the source ends before the last of the bytes.
  void read(void* out, std::size_t size, std::uint64_t offset) const {
    char* at = static_cast<char*>(out);
    if (first_ != nullptr && offset < first_->size) {
      const auto begin = static_cast<std::size_t>(offset);
      const std::size_t known = (std::min)(size, first_->size - begin);
      std::memcpy(at, first_->data + begin, known);
      at += known;
      size -= known;
      offset += known;
    }
    const std::size_t got = source_.read_available(at, size, offset);
    if (got == size) return;
    const std::uint64_t end = offset + got;
    throw Error(ErrorCode::Truncated,
                "data cut short: the array ends at byte " + std::to_string(end_) +
                    ", its source at byte " + std::to_string(end),
                end);
  }

  /// Ranges in ascending order.
  void read_many(const std::vector<ByteRange>& ranges) const {
    const bool is_after_first = first_ == nullptr || ranges.front().offset >= first_->size;
    if (is_after_first && !is_sequential()) return source_.read_many(ranges);
    for (const ByteRange& range : ranges) read(range.out, range.size, range.offset);
  }

 private:
  const ByteSource& source_;
  const FirstBytes* first_;
  std::uint64_t end_;
};

/// Reads items [first, first + count) of the plan, in the order of the tensor's memory.
inline void read_items(const ArrayBytes& bytes, const LoadPlan& plan, std::size_t first,
                       std::size_t count, char* out) {
  const std::size_t item = plan.item_size();
  if (plan.in_one_run()) {
    bytes.read(out, count * item, plan.offset + static_cast<std::uint64_t>(first) * item);
    return;
  }
  // Short runs that are close together are read with the bytes between them: a call costs as much
  // as copying some thousand bytes.
  char span[16384];
  while (count != 0) {
    const std::size_t run = first / plan.run;
    const std::size_t skip = first % plan.run;
    const std::uint64_t offset = plan.offset + run * plan.run_stride + skip * item;
    std::size_t taken = (std::min)(count, plan.run - skip);
    const std::size_t more = (count - taken) / plan.run;  // whole runs after this one
    if (skip == 0 && more != 0 && plan.run_stride <= sizeof span / 2) {
      const auto stride = static_cast<std::size_t>(plan.run_stride);
      const std::size_t runs = (std::min)(more + 1, sizeof span / stride);
      const std::size_t run_bytes = plan.run * item;
      bytes.read(span, (runs - 1) * stride + run_bytes, offset);
      for (std::size_t i = 0; i < runs; ++i) {
        std::memcpy(out + i * run_bytes, span + i * stride, run_bytes);
      }
      taken = runs * plan.run;
    } else if (skip == 0 && more != 0) {
      std::vector<ByteRange> ranges;
      for (std::size_t i = 0; i <= more; ++i) {
        ranges.push_back({out + i * taken * item, taken * item, offset + i * plan.run_stride});
      }
      bytes.read_many(ranges);
      taken *= more + 1;
    } else {
      bytes.read(out, taken * item, offset);
    }
    out += taken * item;
    first += taken;
    count -= taken;
  }
}

/// Fills the memory of a tensor as the plan says.
inline void fill(const ArrayBytes& bytes, const LoadPlan& plan, void* out, std::size_t threads) {
  // Below this a second thread gains nothing.
  constexpr std::size_t kBytesPerThread = std::size_t{4} << 20;
  // Small chunks share the work better. In a large array a chunk has whole huge pages: two threads
  // that touch a fresh one at the same time both clear it.
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  constexpr std::size_t kLargeChunk = std::size_t{4} << 20;
  constexpr std::size_t kLargeChunksFrom = std::size_t{64} << 20;
  // Bytes that are swapped or converted are still in the processor's cache.
  constexpr std::size_t kBlock = std::size_t{128} << 10;

  if (plan.count == 0) return;
  const std::size_t item = plan.item_size();
  const std::size_t unit = swap_unit(plan.dtype);
  const std::size_t out_item = plan.bytes / plan.count;
  const bool converts = plan.converts();
  const std::size_t chunk = (plan.bytes < kLargeChunksFrom ? kChunk : kLargeChunk) / item;
  const std::size_t block = converts    ? (std::min)(kConvertBlock, kBlock / item)
                            : unit != 1 ? kBlock / item
                                        : chunk;
  const std::size_t worth = plan.count * item / kBytesPerThread;
  if (bytes.is_sequential()) threads = 1;
  if (threads == 0) threads = worth < 2 ? 1 : (std::min)(worth, processor_count());

  const auto fill_chunk = [&](std::size_t index) {
    const std::size_t end = (std::min)(plan.count, (index + 1) * chunk);
    const std::shared_ptr<char> scratch = converts ? allocate_buffer(block * item) : nullptr;
    for (std::size_t first = index * chunk; first < end; first += block) {
      const std::size_t count = (std::min)(block, end - first);
      char* const to = static_cast<char*>(out) + first * out_item;
      char* const in = converts ? scratch.get() : to;
      read_items(bytes, plan, first, count, in);
      swap_bytes(in, count * item, unit);
      if (converts) convert(in, plan.dtype, plan.stored, to, plan.type, count);
    }
  };
  for_each_index((plan.count + chunk - 1) / chunk, threads, fill_chunk);
}

/// Whether the tensor is to be in pinned memory: without CUDA there is none.
inline bool pins_memory(const LoadOptions& options) {
  return options.pinned_memory() && device_count(c10::kCUDA) != 0;
}

/// A tensor on the host with the elements of the plan.
inline at::Tensor read_tensor(const ArrayBytes& bytes, const LoadPlan& plan,
                              const LoadOptions& options) {
  at::Tensor out =
      empty_host(plan.bytes, plan.type, plan.sizes, plan.strides, pins_memory(options));
  fill(bytes, plan, out.data_ptr(), options.threads());
  return out;
}

/// Whether a tensor can use the bytes of the array as they are; `begin` is the position of its
/// header in the file, or its address in memory.
inline bool can_be_viewed(const LoadPlan& plan, std::uint64_t begin) {
  return !plan.converts() && plan.in_one_run() && !plan.dtype.is_swapped() && plan.bytes != 0 &&
         (begin + plan.offset) % plan.alignment() == 0;
}

/// Whether mmap(true) maps the array instead of reading it.
inline bool can_map(const LoadPlan& plan, const LoadOptions& options, const FileRange& range) {
  return range.file != nullptr && !options.pinned_memory() && can_be_viewed(plan, range.begin);
}

/// An array whose header has been read: a small object for the stack, on which everything that
/// loads is written. `source` and `first` outlive it.
struct OpenArray {
  const ByteSource& source;
  const FirstBytes& first;
  Header header;
  std::uint64_t available;  ///< bytes of the source, as far as they matter

  OpenArray(const ByteSource& its_source, const FirstBytes& its_first, Header its_header)
      : source(its_source),
        first(its_first),
        header(std::move(its_header)),
        available(available_bytes(source, first, header)) {}

  /// Validates the header against the options and the size of the source. `inner`: see make_plan().
  /// The header loses its shape and its dtype.
  LoadPlan plan(const LoadOptions& options, std::vector<std::int64_t> inner = {}) {
    return make_plan(std::move(header), options, available, std::move(inner));
  }
};

/// Whether a tensor can lie over the unpacked bytes of an array, `size` of them at `address`. If
/// they contain much else, it would keep that in memory.
inline bool is_used_in_place(const LoadPlan& plan, const LoadOptions& options, std::uint64_t size,
                             std::uint64_t address) {
  return can_be_viewed(plan, address) && plan.offset + plan.bytes == size && !options.rows() &&
         !pins_memory(options);
}

/// Bytes of memory that loading takes, all of which count for max_bytes().
inline std::uint64_t memory_to_load(const OpenArray& array, const LoadPlan& plan,
                                    const LoadOptions& options) {
  if (!array.source.internal_traits().is_packed) return plan.bytes;
  const std::uint64_t size = array.source.size();
  return plan.bytes + (is_used_in_place(plan, options, size, 0) ? 0 : size);
}

/// An array in the course of being loaded. A member of an archive is unpacked, or checked while it
/// is read; all others are read from where they are.
class ArrayReading {
 public:
  ArrayReading(const OpenArray& array, const LoadPlan& plan, const LoadOptions& options)
      : plan_(plan), options_(options), source_(&array.source), first_(&array.first) {
    if (array.source.internal_traits().is_packed) require_room(array);
    unpacked_ = array.source.internal_unpacked(array.first, !options.rows());
    if (unpacked_ == nullptr) return;
    source_ = unpacked_.get();
    first_ = nullptr;
  }

  at::Tensor tensor() const {
    const char* const data = source_->internal_traits().data;
    const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(data));
    std::shared_ptr<char> memory = source_->internal_memory();
    if (memory != nullptr && is_used_in_place(plan_, options_, source_->size(), address)) {
      char* const begin = memory.get() + plan_.offset;
      return tensor_over(std::move(memory), begin, plan_.type, plan_.sizes, plan_.strides);
    }
    at::Tensor out = read_tensor(bytes(), plan_, options_);
    source_->internal_finish(plan_.end);
    return out;
  }

  void fill(void* out) const {
    detail::fill(bytes(), plan_, out, options_.threads());
    source_->internal_finish(plan_.end);
  }

 private:
  ArrayBytes bytes() const { return {*source_, first_, plan_.end}; }

  void require_room(const OpenArray& array) const {
    const std::uint64_t size = array.source.size() - array.header.data_offset;
    if (size <= options_.max_bytes()) return;
    throw Error(ErrorCode::TooLarge, "a deflated array is unpacked whole, and its " +
                                         counted(size, "byte") + " are over the limit of " +
                                         std::to_string(options_.max_bytes()) + ", max_bytes()");
  }

  const LoadPlan& plan_;
  const LoadOptions& options_;
  std::shared_ptr<const ByteSource> unpacked_;
  const ByteSource* source_;
  const FirstBytes* first_;
};

/// Refuses mmap(true) for a source that is not in a file.
inline void require_file_to_map(const ByteSource& source, const LoadOptions& options) {
  if (!options.mmap()) return;
  const SourceTraits traits = source.internal_traits();
  if (traits.range.file != nullptr || traits.is_packed) return;
  throw Error(ErrorCode::InvalidArgument,
              "mmap(true) is for files: a stream, memory or another source cannot be mapped");
}

/// The tensor on the host: mapped, if the options ask for it and it is possible, or read.
inline at::Tensor load_on_host(const OpenArray& array, const LoadPlan& plan,
                               const LoadOptions& options) {
  require_file_to_map(array.source, options);
  const FileRange range = array.source.internal_traits().range;
  if (options.mmap() && can_map(plan, options, range)) {
    Mapping mapping = Mapping::of(range, plan.offset, plan.bytes);
    void* const data = mapping.data();
    return tensor_over(std::move(mapping), data, plan.type, plan.sizes, plan.strides);
  }
  return ArrayReading(array, plan, options).tensor();
}

inline at::Tensor on_device(at::Tensor tensor, const LoadOptions& options) {
  if (options.device().is_cpu()) return tensor;
  return to_device(tensor, options.device(), /*non_blocking=*/pins_memory(options));
}

/// Calls `use` with the array of a source.
template <class Use>
auto with_array(const ByteSource& source, const LoadOptions& options, const Use& use) {
  return with_path({}, [&] {
    require_file_to_map(source, options);
    FirstBytes first;
    OpenArray array(source, first, read_header(source, options.max_header_size(), first));
    return use(array);
  });
}

/// Calls `use` with the array of a file.
template <class Use>
auto with_array(const std::filesystem::path& path, const LoadOptions& options, const Use& use) {
  return with_path(path, [&] { return with_array(File(path), options, use); });
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_READ_HPP_
