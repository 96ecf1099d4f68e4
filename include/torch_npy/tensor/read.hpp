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
#include <torch_npy/version.hpp>

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
  bool is_remote() const { return source_.internal_traits().is_remote; }
  /// All bytes, if they are in memory; else null.
  const char* data() const { return source_.internal_traits().data; }

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

/// Copies `runs` runs of `size` bytes, which are `stride` apart, one after another to `out`.
inline void copy_runs(const char* from, std::size_t size, std::size_t stride, std::size_t runs,
                      char* out) {
  for (std::size_t i = 0; i < runs; ++i) std::memcpy(out + i * size, from + i * stride, size);
}

/// Reads runs of bytes in few calls. Short runs that are close together are read with the bytes
/// between them: a call costs as much as copying some thousand bytes.
class RunReader {
 public:
  explicit RunReader(const ArrayBytes& bytes) : bytes_(bytes), joins_(!bytes.is_remote()) {}

  /// The next runs, of `size` bytes each, which come after those before them. They are read by
  /// finish() at the latest.
  void add(std::uint64_t offset, std::size_t size, std::uint64_t stride, std::size_t runs,
           char* out) {
    while (runs != 0) {
      const bool joins = joins_ && !span_.empty() && span_.size() < kMaxParts &&
                         offset - last_ <= kClose && offset + size - begin_ <= kSpan;
      if (!joins) {
        end_span();
        begin_ = offset;
      }
      std::size_t taken = 1;
      if (joins_ && stride <= kClose && offset + size - begin_ <= kSpan) {
        const std::uint64_t fit = (begin_ + kSpan - offset - size) / stride + 1;
        taken = static_cast<std::size_t>(std::min<std::uint64_t>(runs, fit));
      }
      const auto at = static_cast<std::size_t>(offset - begin_);
      span_.push_back({out, at, size, static_cast<std::size_t>(stride), taken});
      last_ = offset + (taken - 1) * stride;
      runs -= taken;
      offset += taken * stride;
      out += taken * size;
    }
  }

  void finish() {
    end_span();
    read_single();
  }

 private:
  static constexpr std::size_t kClose = 4096;  // from one run to the next
  static constexpr std::size_t kSpan = 65536;  // that is read with one call
  static constexpr std::size_t kMaxParts = 2048;

  struct Part {
    char* out;
    std::size_t at;  // in the span
    std::size_t size;
    std::size_t stride;
    std::size_t runs;
  };

  void end_span() {
    if (span_.empty()) return;
    const Part& last = span_.back();
    const auto size = static_cast<std::size_t>(last_ - begin_) + last.size;
    if (size == last.size) {
      single_.push_back({last.out, size, begin_});
      if (single_.size() == kMaxParts) read_single();
    } else {
      read_single();  // a sequential source is read in order
      if (memory_ == nullptr) memory_.reset(new char[kSpan]);
      bytes_.read(memory_.get(), size, begin_);
      for (const Part& part : span_) {
        copy_runs(memory_.get() + part.at, part.size, part.stride, part.runs, part.out);
      }
    }
    span_.clear();
  }

  void read_single() {
    if (!single_.empty()) bytes_.read_many(single_);
    single_.clear();
  }

  const ArrayBytes& bytes_;
  const bool joins_;               // a store joins them by its own rule
  std::uint64_t begin_ = 0;        // of the current span
  std::uint64_t last_ = 0;         // the run added last
  std::vector<Part> span_;         // runs to read together
  std::vector<ByteRange> single_;  // runs to read alone
  std::unique_ptr<char[]> memory_;
};

/// Reads elements [first, first + count) of the plan, in the order of the file.
inline void read_items(const ArrayBytes& bytes, const LoadPlan& plan, std::size_t first,
                       std::size_t count, char* out) {
  const std::size_t item = plan.item_size();
  if (plan.from.is_one()) {
    return bytes.read(out, count * item, plan.offset + static_cast<std::uint64_t>(first) * item);
  }
  if (const char* const data = bytes.data()) {
    const char* const from = data + plan.offset;
    plan.from.for_each(
        first, count,
        [&](std::uint64_t offset, std::size_t size, std::uint64_t stride, std::size_t runs) {
          copy_runs(from + offset * item, size * item, stride * item, runs, out);
          out += runs * size * item;
        });
    return;
  }
  RunReader reader(bytes);
  plan.from.for_each(
      first, count,
      [&](std::uint64_t offset, std::size_t size, std::uint64_t stride, std::size_t runs) {
        reader.add(plan.offset + offset * item, size * item, stride * item, runs, out);
        out += runs * size * item;
      });
  reader.finish();
}

/// Fills all of a padded tensor.
inline void fill_padding(const LoadPlan& plan, char* out) {
  constexpr std::size_t kBlock = std::size_t{64} << 10;  // stays in the cache
  // NOLINTNEXTLINE(bugprone-not-null-terminated-result): it is no text
  std::memcpy(out, plan.padding.data(), plan.padding.size());
  for (std::size_t done = plan.padding.size(); done < plan.bytes;) {
    const std::size_t size = (std::min)({done, kBlock, plan.bytes - done});
    std::memcpy(out + done, out, size);
    done += size;
  }
}

/// Puts elements [first, first + count) of the plan into a padded tensor.
inline void scatter(const LoadPlan& plan, std::size_t first, std::size_t count, const char* from,
                    char* out) {
  const std::size_t item = c10::elementSize(plan.type);
  out += plan.to_offset * item;
  plan.to.for_each(
      first, count,
      [&](std::uint64_t offset, std::size_t size, std::uint64_t stride, std::size_t runs) {
        for (std::size_t i = 0; i < runs; ++i, from += size * item) {
          std::memcpy(out + (offset + i * stride) * item, from, size * item);
        }
      });
}

/// Puts elements into a tensor after they were read.
class BlockWriter {
 public:
  /// For blocks of at most `block` elements; `out` is the memory of the tensor.
  BlockWriter(const LoadPlan& plan, void* out, std::size_t block)
      : plan_(plan), out_(static_cast<char*>(out)), converts_(plan.converts()) {
    if (converts_ && plan.is_padded()) {
      converted_ = allocate_buffer(block * c10::elementSize(plan.type));
    }
  }

  /// Whether elements are read into memory of their own; otherwise to where they stay.
  static bool needs_buffer(const LoadPlan& plan) { return plan.converts() || plan.is_padded(); }

  /// Where element `first` of a tensor without padding is.
  char* at(std::size_t first) const { return out_ + first * c10::elementSize(plan_.type); }

  /// Swaps, converts and places elements [first, first + count), which are at `in`.
  void write(std::size_t first, std::size_t count, char* in) const {
    swap_bytes(in, count * plan_.item_size(), swap_unit(plan_.dtype));
    char* const result = converted_ != nullptr ? converted_.get() : at(first);
    if (converts_) convert(in, plan_.dtype, plan_.stored, result, plan_.type, count);
    if (plan_.is_padded()) scatter(plan_, first, count, converts_ ? result : in, out_);
  }

 private:
  const LoadPlan& plan_;
  char* out_;
  bool converts_;
  std::shared_ptr<char> converted_;
};

/// Bytes that are swapped or converted are still in the processor's cache.
inline std::size_t block_of(const LoadPlan& plan) {
  constexpr std::size_t kBlock = std::size_t{128} << 10;
  const std::size_t block = kBlock / plan.item_size();
  return plan.converts() ? (std::min)(kConvertBlock, block) : block;
}

/// fill() from a store: few large reads, of which each is several requests at the same time.
inline void fill_from_store(const ArrayBytes& bytes, const LoadPlan& plan, void* out) {
  constexpr std::size_t kStep = std::size_t{64} << 20;
  const std::size_t item = plan.item_size();
  const std::size_t total = plan.from.count;
  const std::size_t step = (std::min)(total, kStep / item);
  const std::size_t block = block_of(plan);
  const BlockWriter writer(plan, out, block);
  const auto buffer = BlockWriter::needs_buffer(plan) ? allocate_buffer(step * item) : nullptr;
  for (std::size_t first = 0; first < total; first += step) {
    const std::size_t end = (std::min)(total, first + step);
    char* const in = buffer != nullptr ? buffer.get() : writer.at(first);
    read_items(bytes, plan, first, end - first, in);
    for (std::size_t i = first; i < end; i += block) {
      writer.write(i, (std::min)(block, end - i), in + (i - first) * item);
    }
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

  if (plan.is_padded() && plan.count != 0) fill_padding(plan, static_cast<char*>(out));
  const std::size_t total = plan.from.count;
  if (total == 0) return;
  if (bytes.is_remote()) return fill_from_store(bytes, plan, out);
  const std::size_t item = plan.item_size();
  const bool has_buffer = BlockWriter::needs_buffer(plan);
  const bool is_large = !plan.is_padded() && plan.bytes >= kLargeChunksFrom;
  const std::size_t chunk = (is_large ? kLargeChunk : kChunk) / item;
  const std::size_t block = has_buffer || swap_unit(plan.dtype) != 1 ? block_of(plan) : chunk;
  const std::size_t worth = total * item / kBytesPerThread;
  if (bytes.is_sequential()) threads = 1;
  if (threads == 0) threads = worth < 2 ? 1 : (std::min)(worth, processor_count());

  const auto fill_chunk = [&](std::size_t index) {
    const std::size_t end = (std::min)(total, (index + 1) * chunk);
    const BlockWriter writer(plan, out, block);
    const auto buffer = has_buffer ? allocate_buffer(block * item) : nullptr;
    for (std::size_t first = index * chunk; first < end; first += block) {
      const std::size_t count = (std::min)(block, end - first);
      char* const in = buffer != nullptr ? buffer.get() : writer.at(first);
      read_items(bytes, plan, first, count, in);
      writer.write(first, count, in);
    }
  };
  for_each_index((total + chunk - 1) / chunk, threads, fill_chunk);
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

/// Whether a tensor can use the bytes of the array where they are, with strides; `begin` is the
/// position of its header in the file, or its address in memory.
inline bool can_be_viewed(const LoadPlan& plan, std::uint64_t begin) {
  return !plan.converts() && !plan.is_padded() && !plan.dtype.is_swapped() && plan.bytes != 0 &&
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
  return can_be_viewed(plan, address) && plan.is_whole && plan.offset + plan.bytes == size &&
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
    unpacked_ = array.source.internal_unpacked(array.first, plan.is_whole);
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
    const auto size = static_cast<std::size_t>(plan.from.extent()) * plan.item_size();
    Mapping mapping = Mapping::of(range, plan.offset, size);
    void* const data = mapping.data();
    return tensor_over(std::move(mapping), data, plan.type, plan.sizes,
                       plan.in_one_run() ? plan.strides : plan.file_strides);
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
