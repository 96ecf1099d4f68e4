#ifndef TORCH_NPY_TENSOR_LOAD_HPP_
#define TORCH_NPY_TENSOR_LOAD_HPP_

/// @file
/// Arrays from .npy files, streams and memory.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/Device.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <filesystem>
#include <istream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/convert.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/plan.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Where the bytes of an array come from. (As a template parameter of what reads them it made a
/// program that loads files, archives and fields compile 0.6 s longer.)
class Source {
 public:
  /// Fills `out` with `size` bytes from byte `offset` on, or throws an Error.
  virtual void read(void* out, std::size_t size, std::uint64_t offset) const = 0;

  /// Whether several threads may read at once, in any order.
  virtual bool is_concurrent() const { return true; }

 protected:
  ~Source() = default;
};

/// A File or a FilePart whose start has been read already.
template <class Bytes>
class FileSource final : public Source {
 public:
  FileSource(const Bytes& file, const FileStart& start) : file_(file), start_(start) {}

  void read(void* out, std::size_t size, std::uint64_t offset) const override {
    if (offset < start_.size) {
      const auto at = static_cast<std::size_t>(offset);
      const std::size_t known = (std::min)(size, start_.size - at);
      std::memcpy(out, start_.bytes + at, known);
      if (known == size) return;
      out = static_cast<char*>(out) + known;
      size -= known;
      offset += known;
    }
    file_.read(out, size, offset);
  }

 private:
  const Bytes& file_;
  const FileStart& start_;
};

class BytesSource final : public Source {
 public:
  explicit BytesSource(const char* bytes) : bytes_(bytes) {}

  void read(void* out, std::size_t size, std::uint64_t offset) const override {
    std::memcpy(out, bytes_ + offset, size);
  }

 private:
  const char* bytes_;
};

/// A stream, read in order; what is passed over is read too. Offsets count from where it stood.
class StreamSource final : public Source {
 public:
  explicit StreamSource(std::istream& stream) : stream_(stream) {}

  /// The next `size` bytes, or what there is before the end. They come straight from the buffer:
  /// the stream's own read() would throw what its exceptions() mask says.
  std::size_t take(void* out, std::size_t size) const {
    try {
      const auto got =
          stream_.rdbuf()->sgetn(static_cast<char*>(out), static_cast<std::streamsize>(size));
      position_ += static_cast<std::uint64_t>(got);
      return static_cast<std::size_t>(got);
    } catch (const std::exception& error) {
      throw Error(ErrorCode::Io, std::string("the stream cannot be read: ") + error.what(),
                  position_);
    }
  }

  bool is_concurrent() const override { return false; }

  void read(void* out, std::size_t size, std::uint64_t offset) const override {
    char skipped[4096];
    while (position_ < offset) {
      const auto wanted = std::min<std::uint64_t>(sizeof skipped, offset - position_);
      require(static_cast<std::size_t>(wanted), take(skipped, static_cast<std::size_t>(wanted)));
    }
    require(size, take(out, size));
  }

  /// Where the array ends, for messages.
  void expect(std::uint64_t end) { end_ = end; }

  /// Bytes from the first one on, where the stream can tell; else as many as can be.
  std::uint64_t size() const {
    const std::streampos none(-1);
    std::streambuf& buffer = *stream_.rdbuf();
    std::streampos here(none);
    std::streampos end(none);
    try {
      here = buffer.pubseekoff(0, std::ios::cur, std::ios::in);
      if (here != none) end = buffer.pubseekoff(0, std::ios::end, std::ios::in);
      if (end != none && buffer.pubseekpos(here, std::ios::in) == none) {
        throw Error(ErrorCode::Io,
                    "the stream cannot be read: it does not go back to where it stood");
      }
    } catch (const std::ios_base::failure&) {
      return UINT64_MAX;  // a stream that cannot seek may say so like this
    }
    return end == none ? UINT64_MAX : position_ + static_cast<std::uint64_t>(end - here);
  }

 private:
  void require(std::size_t wanted, std::size_t got) const {
    if (got == wanted) return;
    throw Error(ErrorCode::Truncated,
                end_ == 0 ? "header cut short: the stream ends at byte " + std::to_string(position_)
                          : "data cut short: the array ends at byte " + std::to_string(end_) +
                                ", the stream at byte " + std::to_string(position_),
                position_);
  }

  std::istream& stream_;
  std::uint64_t end_ = 0;  // 0 as long as it is not known
  mutable std::uint64_t position_ = 0;
};

/// Reads items [first, first + count) of the plan, in the order of the tensor's memory.
inline void read_items(const Source& source, const LoadPlan& plan, std::size_t first,
                       std::size_t count, char* out) {
  const std::size_t item = plan.item_size();
  if (plan.in_one_run()) {
    source.read(out, count * item, plan.offset + static_cast<std::uint64_t>(first) * item);
    return;
  }
  // Short runs close together are read with what lies between them: a call costs as much as
  // copying some thousand bytes.
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
      source.read(span, (runs - 1) * stride + run_bytes, offset);
      for (std::size_t i = 0; i < runs; ++i) {
        std::memcpy(out + i * run_bytes, span + i * stride, run_bytes);
      }
      taken = runs * plan.run;
    } else {
      source.read(out, taken * item, offset);
    }
    out += taken * item;
    first += taken;
    count -= taken;
  }
}

/// Fills the memory of a tensor as the plan says.
inline void fill(const Source& source, const LoadPlan& plan, void* out, std::size_t threads) {
  // Below this a second thread gains nothing: two took 0.30 ms for 4 MiB where one took 0.25 ms,
  // and 0.7 ms for 10 MiB where one took 1.1 ms.
  constexpr std::size_t kBytesPerThread = std::size_t{4} << 20;
  // Two threads that come to one huge page at once both fill one, and one of them for nothing: 1
  // GiB took 62 to 77 ms in chunks of 1 MiB, 52 to 70 ms in chunks of 4. Small ones share out
  // better.
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  constexpr std::size_t kLargeChunk = std::size_t{4} << 20;
  constexpr std::size_t kFromManyChunks = std::size_t{64} << 20;
  // Turned round or converted, a block is still in the processor's cache.
  constexpr std::size_t kBlock = std::size_t{128} << 10;

  if (plan.count == 0) return;
  const std::size_t item = plan.item_size();
  const std::size_t unit = swap_unit(plan.dtype);
  const std::size_t out_item = plan.bytes / plan.count;
  const bool converts = plan.converts();
  const std::size_t chunk = (plan.bytes < kFromManyChunks ? kChunk : kLargeChunk) / item;
  const std::size_t block = converts    ? (std::min)(kConvertBlock, kBlock / item)
                            : unit != 1 ? kBlock / item
                                        : chunk;
  const std::size_t worth = plan.count * item / kBytesPerThread;
  if (!source.is_concurrent()) threads = 1;
  if (threads == 0) threads = worth < 2 ? 1 : (std::min)(worth, processor_count());

  const auto fill_chunk = [&](std::size_t index) {
    const std::size_t end = (std::min)(plan.count, (index + 1) * chunk);
    std::unique_ptr<char[]> scratch(converts ? new char[block * item] : nullptr);
    for (std::size_t first = index * chunk; first < end; first += block) {
      const std::size_t count = (std::min)(block, end - first);
      char* const to = static_cast<char*>(out) + first * out_item;
      char* const in = converts ? scratch.get() : to;
      read_items(source, plan, first, count, in);
      swap_bytes(in, count * item, unit);
      if (converts) convert(in, plan.dtype, plan.stored, to, plan.type, count);
    }
  };
  for_each_index((plan.count + chunk - 1) / chunk, threads, fill_chunk);
}

/// Without CUDA there is no pinned memory, and asking for it throws.
inline bool pins_memory(const LoadOptions& options) {
  return options.pinned_memory() && device_count(c10::kCUDA) != 0;
}

/// A tensor on the host with what the plan says.
inline at::Tensor read_tensor(const Source& source, const LoadPlan& plan,
                              const LoadOptions& options) {
  at::Tensor out =
      empty_host(plan.bytes, plan.type, plan.sizes, plan.strides, pins_memory(options));
  fill(source, plan, out.data_ptr(), options.threads());
  return out;
}

/// Whether a tensor can lie over the bytes of the array as they are; `begin` is where its header
/// stands in the file or the memory.
inline bool can_be_viewed(const LoadPlan& plan, std::uint64_t begin) {
  return !plan.converts() && plan.in_one_run() && !plan.dtype.is_swapped() && plan.bytes != 0 &&
         (begin + plan.offset) % plan.alignment() == 0;
}

inline bool can_map(const LoadPlan& plan, const LoadOptions& options, std::uint64_t begin = 0) {
  return options.mmap() && !options.pinned_memory() && can_be_viewed(plan, begin);
}

/// The array of a File or a FilePart.
template <class Bytes>
at::Tensor load_file(const Bytes& file, const FileStart& start, const LoadPlan& plan,
                     const LoadOptions& options) {
  if (!can_map(plan, options, file.begin())) {
    return read_tensor(FileSource<Bytes>(file, start), plan, options);
  }
  return tensor_over(Mapping::of(file, plan.offset, plan.bytes), plan.bytes, plan.type, plan.sizes,
                     plan.strides);
}

inline at::Tensor on_device(at::Tensor tensor, const LoadOptions& options) {
  if (options.device().is_cpu()) return tensor;
  return to_device(tensor, options.device(), /*non_blocking=*/options.pinned_memory());
}

inline void refuse_mmap(const LoadOptions& options) {
  if (options.mmap())
    throw Error(ErrorCode::InvalidArgument,
                "mmap(true) is for paths: neither a stream nor memory can be mapped");
}

}  // namespace detail

/// Loads an .npy file: a tensor with the file's dtype (see scalar_type.hpp), shape and values;
/// where the file is in Fortran order, with the strides of that. The tensor owns its memory, unless
/// mmap() is asked for.
///
/// A small file costs an open, a read and a close; large ones are read by several threads. Peak
/// memory is the tensor plus at most 2 MiB, and where dtype() converts up to 256 KiB a thread (1
/// GiB, two threads: 60 KiB in all, converted to another dtype 1.1 MiB). Safe from any thread.
///
/// Throws Error, of any code but BadZip: NotFound, Io and Exhausted about the file; NotNpy,
/// UnsupportedVersion, BadHeader and Truncated about what is in it; UnsupportedDtype where no
/// tensor holds its items, or LibTorch does not convert them; TooLarge; Mismatch and
/// InvalidArgument as the options say. Nothing else but std::bad_alloc and what LibTorch throws for
/// want of memory.
[[nodiscard]] inline at::Tensor load(const std::filesystem::path& path,
                                     const LoadOptions& options = {}) {
  return detail::with_path(path, [&] {
    detail::require_device(options.device());
    const detail::File file(path);
    detail::FileStart start;
    detail::read_start(file, options.max_header_size(), start);
    const std::uint64_t available = start.available(file);
    const auto plan = detail::make_plan(std::move(start.header), options, available);
    return detail::on_device(detail::load_file(file, start, plan, options), options);
  });
}

/// Loads the array that starts where `stream` stands, and leaves the stream right behind it, so
/// that several can follow one another. Pipes will do. Offsets in errors count from the start
/// of the array. After an Error the stream stands somewhere within the array. rows() leaves out
/// nothing here: what is passed over is read, too.
///
/// A stream that cannot seek cannot be held against its header: memory for what that promises is
/// reserved, though not touched before data arrives. max_bytes() bounds it.
///
/// Throws Error: what load() of a path throws, without a path; Io where the stream was not opened
/// or fails, InvalidArgument for mmap(). The stream is for one thread at a time.
[[nodiscard]] inline at::Tensor load(std::istream& stream, const LoadOptions& options = {}) {
  detail::require_device(options.device());
  detail::refuse_mmap(options);
  if (!stream || stream.rdbuf() == nullptr) {
    throw Error(ErrorCode::Io, "the stream cannot be read: was the file opened?");
  }
  detail::StreamSource source(stream);
  const std::uint64_t available = source.size();
  std::vector<char> bytes(detail::kMaxPrefixSize);
  std::size_t size = source.take(bytes.data(), detail::kMagicSize + 2);
  if (size == detail::kMagicSize + 2 &&
      std::memcmp(bytes.data(), detail::kMagic, detail::kMagicSize) == 0) {
    size += source.take(bytes.data() + size, detail::prefix_size(bytes[detail::kMagicSize]) - size);
  }
  const auto extent = detail::parse_prefix(bytes.data(), size, options.max_header_size());
  if (extent.end() > available) throw detail::header_cut_short(extent, available);
  bytes.resize(static_cast<std::size_t>(extent.end()));
  source.read(bytes.data() + size, bytes.size() - size, size);
  const auto plan = detail::make_plan(
      detail::parse_text(bytes.data(), extent, options.max_header_size()), options, available);
  source.expect(plan.end);
  at::Tensor out = detail::read_tensor(source, plan, options);
  source.read(nullptr, 0, plan.end);
  return detail::on_device(std::move(out), options);
}

/// Loads an .npy file that lies in memory, aligned or not: the array at the start of `size` bytes,
/// of which those behind it are not looked at. The bytes are copied, by several threads where there
/// are many. Throws Error: what load() of a path throws about what is in a file, without a path;
/// InvalidArgument for mmap(). Safe from any thread.
[[nodiscard]] inline at::Tensor load_bytes(const void* data, std::size_t size,
                                           const LoadOptions& options = {}) {
  detail::require_device(options.device());
  detail::refuse_mmap(options);
  const auto plan =
      detail::make_plan(parse_header(data, size, options.max_header_size()), options, size);
  const detail::BytesSource source(static_cast<const char*>(data));
  return detail::on_device(detail::read_tensor(source, plan, options), options);
}

/// Loads into a tensor that is there already, contiguous or not, on any device; straight into its
/// memory where it lies on the host in the order of the file. Shape and dtype must be those of the
/// file: another one is an Error (Mismatch) before anything is written. dtype() permits another
/// dtype, and must name that of `out`. A tensor whose elements share memory is an Error
/// (InvalidArgument), and so is one that is undefined, sparse, nested or without data, or an
/// inference tensor outside InferenceMode. device() has no meaning here. Where reading fails
/// half-way, or a value does not fit, `out` holds part of the new values. Autograd does not record
/// it, but knows that `out` changed.
///
/// Takes no memory of the array's size where it reads straight into `out`, and else that of one
/// more tensor. Throws Error, as load(). Safe from any thread, each with an `out` of its own.
inline void load_into(const at::Tensor& out, const std::filesystem::path& path,
                      const LoadOptions& options = {}) {
  detail::with_path(path, [&] {
    detail::require_data(out, "load_into()");
    if (!detail::is_free_of_overlap(out)) {
      throw Error(ErrorCode::InvalidArgument,
                  "load_into() a tensor whose elements share memory: clone() it first");
    }
    if (out.is_inference() && !c10::InferenceMode::is_enabled()) {
      throw Error(ErrorCode::InvalidArgument,
                  "load_into() an inference tensor outside InferenceMode");
    }
    const detail::File file(path);
    detail::FileStart start;
    detail::read_start(file, options.max_header_size(), start);
    const std::uint64_t available = start.available(file);
    const auto plan = detail::make_plan(std::move(start.header), options, available);
    if (out.sizes() != at::IntArrayRef(plan.sizes)) {
      throw Error(ErrorCode::Mismatch, "the array has shape " + detail::python_tuple(plan.sizes) +
                                           ", the tensor to fill " +
                                           detail::python_tuple(out.sizes().vec()));
    }
    if (out.scalar_type() != plan.type) {
      throw Error(ErrorCode::Mismatch, std::string("the array gives elements of ") +
                                           c10::toString(plan.type) + ", the tensor to fill has " +
                                           c10::toString(out.scalar_type()) +
                                           (options.dtype() ? "" : "; dtype() converts"));
    }
    const at::NoGradGuard no_grad;
    const bool as_in_file = out.device().is_cpu() && !out.is_conj() && !out.is_neg() &&
                            out.strides() == at::IntArrayRef(plan.strides);
    if (as_in_file) {
      out.unsafeGetTensorImpl()->bump_version();  // first: a failure may come after some writing
      detail::fill(detail::FileSource<detail::File>(file, start), plan, out.data_ptr(),
                   options.threads());
    } else {
      out.copy_(detail::load_file(file, start, plan, options), options.pinned_memory());
    }
  });
}

/// Loads many files at once, in parallel, and keeps their order. If one fails, its Error is thrown;
/// if several do, that of the first of them in `paths`. threads(0) takes at least 32, for most of
/// the time goes by waiting for the disk. All are read to host memory before the first one goes to
/// device(). Throws Error, as load(). Safe from any thread.
[[nodiscard]] inline std::vector<at::Tensor> load_all(
    const std::vector<std::filesystem::path>& paths, const LoadOptions& options = {}) {
  detail::require_device(options.device());
  // 20,000 files of 12 KiB on two processors, with 1, 8 and 32 threads: 87, 39 and 30 us a file
  // from the disk, 8.6, 5.3 and 4.8 us from memory. 64 gained nothing.
  const std::size_t threads = options.threads() != 0
                                  ? options.threads()
                                  : (std::max)(std::size_t{32}, detail::processor_count());
  // Few large files are each read by several.
  const std::size_t readers =
      options.threads() != 0 ? options.threads() : detail::processor_count();
  LoadOptions one = options;
  one.device(c10::kCPU).threads(
      (std::max)(readers / (std::max)(paths.size(), std::size_t{1}), std::size_t{1}));
  std::vector<at::Tensor> tensors(paths.size());
  detail::for_each_index(paths.size(), threads,
                         [&](std::size_t i) { tensors[i] = load(paths[i], one); });
  // The caller's thread knows the caller's current stream, the others do not.
  for (at::Tensor& tensor : tensors) tensor = detail::on_device(std::move(tensor), options);
  return tensors;
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_LOAD_HPP_
