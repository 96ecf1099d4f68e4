#ifndef TORCH_NPY_DATA_ARRAY_ROWS_HPP_
#define TORCH_NPY_DATA_ARRAY_ROWS_HPP_

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <c10/core/Scalar.h>
#include <c10/core/ScalarType.h>
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

#include <torch_npy/data/part_table.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/tensor/convert.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/region.hpp>
#include <torch_npy/tensor/scalar_type.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Rows along axis 0 of an array, copied into the tensor of a batch.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// What a row is, where it is stored and in a batch.
struct RowFormat {
  std::vector<std::int64_t> sizes;    ///< of a row
  std::vector<std::int64_t> strides;  ///< of a row in a batch, in elements
  std::size_t elements = 0;           ///< of a row
  c10::ScalarType type{};             ///< in a batch
  bool converts = false;              ///< whether `type` is not what is stored
  DType dtype;                        ///< as stored; for a tensor only its item size
  c10::ScalarType stored{};           ///< the same for LibTorch

  std::size_t element_size() const { return static_cast<std::size_t>(dtype.item_size); }
  std::size_t bytes() const { return elements * element_size(); }
};

/// Where the elements of rows are, if they are not adjacent. In elements.
struct RowLayout {
  Runs row;              ///< of one row
  std::size_t step = 0;  ///< from one row to the next
};

/// Rows of one array, one after another.
struct RowRun {
  const char* from = nullptr;  ///< the first element of the first row
  std::size_t rows = 0;
  const RowLayout* layout = nullptr;  ///< null: all elements are adjacent
};

/// Calls `use(from, elements)` for each part of a run whose elements are adjacent.
template <class Use>
void for_each_part(const RowFormat& format, const RowRun& run, const Use& use) {
  if (run.layout == nullptr) return use(run.from, run.rows * format.elements);
  const std::size_t size = format.element_size();
  for (std::size_t row = 0; row < run.rows; ++row) {
    const char* const from = run.from + row * run.layout->step * size;
    run.layout->row.for_each(
        0, format.elements,
        [&](std::uint64_t offset, std::size_t elements, std::uint64_t stride, std::size_t parts) {
          for (std::size_t i = 0; i < parts; ++i) {
            use(from + (offset + i * stride) * size, elements);
          }
        });
  }
}

/// Starts to fetch a run that will be copied soon: rows in random order are rarely in the cache.
inline void prefetch_run([[maybe_unused]] const std::vector<RowRun>& runs,
                         [[maybe_unused]] std::size_t i) {
#if defined(__GNUC__) || defined(__clang__)
  constexpr std::size_t kAhead = 2;
  if (i + kAhead < runs.size()) __builtin_prefetch(runs[i + kAhead].from);
#endif
}

/// Copies rows as they are stored, in native byte order.
inline void copy_runs(const RowFormat& format, const std::vector<RowRun>& runs, char* out) {
  char* to = out;
  const std::size_t size = format.element_size();
  for (std::size_t i = 0; i < runs.size(); ++i) {
    prefetch_run(runs, i);
    for_each_part(format, runs[i], [&](const char* from, std::size_t elements) {
      std::memcpy(to, from, elements * size);
      to += elements * size;
    });
  }
  swap_bytes(out, static_cast<std::size_t>(to - out), swap_unit(format.dtype));
}

/// Converts rows: long runs from where they are, and short ones together, because each conversion
/// by LibTorch takes about a microsecond to start.
class RowConverter {
 public:
  RowConverter(const RowFormat& format, BufferPool& pool, char* out)
      : format_(format), pool_(pool), to_(out) {}

  /// Throws Error (Mismatch) for a value that the dtype cannot hold.
  void convert_runs(const std::vector<RowRun>& runs) {
    for (std::size_t i = 0; i < runs.size(); ++i) {
      prefetch_run(runs, i);
      for_each_part(format_, runs[i], [&](const char* from, std::size_t elements) {
        if (is_direct(from, elements)) return convert_part(from, elements);
        collect(from, elements);
      });
    }
    flush();
  }

 private:
  bool is_direct(const char* from, std::size_t elements) const {
    if (swap_unit(format_.dtype) != 1) return false;
    if (is_wide_unsigned(format_.dtype)) return elements >= kLongWide;  // see widen()
    return elements >= kLong &&
           reinterpret_cast<std::uintptr_t>(from) % format_.element_size() == 0;
  }

  /// Collects elements in a block that stays in the processor's cache.
  void collect(const char* from, std::size_t elements) {
    const std::size_t size = format_.element_size();
    if (block_ == nullptr) block_ = pool_.take(kConvertBlock * size);
    while (elements != 0) {
      const std::size_t taken = (std::min)(elements, kConvertBlock - collected_);
      std::memcpy(static_cast<char*>(block_->data) + collected_ * size, from, taken * size);
      collected_ += taken;
      from += taken * size;
      elements -= taken;
      if (collected_ == kConvertBlock) flush();
    }
  }

  void flush() {
    if (collected_ == 0) return;
    swap_bytes(block_->data, collected_ * format_.element_size(), swap_unit(format_.dtype));
    convert_block(block_->data, std::exchange(collected_, 0));
  }

  void convert_part(const char* from, std::size_t elements) {
    flush();
    for (std::size_t first = 0; first < elements; first += kConvertBlock) {
      convert_block(from + first * format_.element_size(),
                    (std::min)(kConvertBlock, elements - first));
    }
  }

  void convert_block(const void* from, std::size_t elements) {
    convert(from, format_.dtype, format_.stored, to_, format_.type, elements);
    to_ += elements * c10::elementSize(format_.type);
  }

  static constexpr std::size_t kLong = 4096;  // elements
  static constexpr std::size_t kLongWide = 64;

  const RowFormat& format_;
  BufferPool& pool_;
  char* to_;
  std::unique_ptr<TensorMemory> block_;
  std::size_t collected_ = 0;  // elements in the block
};

/// The Error for rows that do not exist, and so have no names.
inline Error padded_samples() {
  return Error(ErrorCode::InvalidArgument,
               "the rows of an array that is filled outside of the file cannot be samples: use "
               "OutOfBounds::Throw or OutOfBounds::Shift");
}

/// The region of an array whose rows are samples. Throws Error (InvalidArgument) if it is not
/// inside the array, whatever out_of_bounds() says: rows that do not exist have no names.
inline Region sample_region(const LoadOptions& options, const std::vector<std::int64_t>& shape) {
  Region region = resolve_region(options.region(), shape, options.out_of_bounds());
  for (std::size_t axis = 0; axis < region.size(); ++axis) {
    if (region[axis].begin >= 0 && region[axis].end <= shape[axis]) continue;
    throw padded_samples();
  }
  return region;
}

/// Throws Error (InvalidArgument) if squeeze() removes axis 0 of an array of `axes` axes: its rows
/// are the samples.
inline void require_rows_stay(const LoadOptions& options, std::size_t axes) {
  const std::int64_t axis = options.squeeze().value_or(1);
  if (axis != 0 && axis + static_cast<std::int64_t>(axes) != 0) return;
  throw Error(ErrorCode::InvalidArgument,
              "squeeze(" + std::to_string(axis) +
                  ") would remove axis 0, whose rows are the samples; load() the array with "
                  "squeeze(), and make the dataset of the tensor");
}

/// The rows of an array along axis 0, or of several arrays one after another. Row numbers are less
/// than size(). Safe from any thread.
class ArrayRows {
 public:
  virtual ~ArrayRows() = default;
  ArrayRows(const ArrayRows&) = delete;
  ArrayRows& operator=(const ArrayRows&) = delete;

  /// Number of rows.
  std::size_t size() const { return parts_.size(); }
  /// The arrays, and how many rows each has.
  const PartTable& parts() const { return parts_; }
  /// What the rows are.
  const RowFormat& format() const { return format_; }
  /// How they are read.
  const LoadOptions& options() const { return options_; }

  /// True if rows are copied from memory.
  virtual bool is_in_memory() const { return true; }

  /// Where the rows are from, for messages; empty for a tensor.
  virtual std::string name() const = 0;
  /// A number for the names of the arrays.
  virtual std::uint64_t hash() const = 0;
  /// A name for one row: its array, and its number there.
  virtual std::string key(std::size_t row) const = 0;
  /// Calls `work`, and adds the path of the array that has this row to an Error without a path;
  /// any of the arrays if there is no such row.
  virtual void about(std::size_t row, const std::function<void()>& work) const = 0;
  /// Checks the arrays whose first row is one of [begin, end), without reading values, and adds
  /// their Errors to `errors`. Throws Error (Exhausted, OutOfMemory).
  virtual void check(std::size_t /*begin*/, std::size_t /*end*/,
                     std::vector<Error>& /*errors*/) const {}

  /// Rows `first` as a tensor of shape (n, S...); with a length, `length` rows from each of them
  /// on, as a tensor of shape (n, length, S...). In pinned memory if `pin` or if the options say
  /// so. Throws Error (Mismatch) for a value that the dtype cannot hold.
  at::Tensor gather(c10::ArrayRef<std::size_t> first, std::optional<std::size_t> length,
                    bool pin) const {
    at::Tensor out;
    about(first.empty() ? 0 : first[0],
          [&] { out = on_device(gather_on_host(first, length, pin), options_); });
    return out;
  }

  /// A region of each of the rows `rows`, all of the same size, whose outside is `fill_value`.
  /// Undefined if it would take as long as to gather the rows.
  virtual at::Tensor gather_regions(c10::ArrayRef<std::size_t> /*rows*/,
                                    const std::vector<Region>& /*regions*/,
                                    const c10::Scalar& /*fill_value*/, bool /*pin*/) const {
    return {};
  }

  /// The sizes of what gather() returns.
  std::vector<std::int64_t> sizes_of(std::size_t count, std::optional<std::size_t> length) const {
    std::vector<std::int64_t> sizes = {static_cast<std::int64_t>(count)};
    if (length) sizes.push_back(static_cast<std::int64_t>(*length));
    sizes.insert(sizes.end(), format_.sizes.begin(), format_.sizes.end());
    return sizes;
  }

 protected:
  ArrayRows(const LoadOptions& options, std::shared_ptr<BufferPool> pool)
      : options_(options), pool_(std::move(pool)) {
    require_device(options.device());
  }

  /// For the constructors: the numbers of rows of the arrays, and what the rows are.
  void set_rows(const std::vector<std::size_t>& sizes, RowFormat format) {
    parts_ = PartTable(sizes);
    format_ = std::move(format);
  }

  BufferPool& pool() const { return *pool_; }

  virtual at::Tensor gather_on_host(c10::ArrayRef<std::size_t> first,
                                    std::optional<std::size_t> length, bool pin) const {
    const std::size_t rows = length.value_or(1);
    std::vector<std::int64_t> strides = {static_cast<std::int64_t>(format_.elements)};
    if (length) strides.insert(strides.begin(), static_cast<std::int64_t>(rows * format_.elements));
    strides.insert(strides.end(), format_.strides.begin(), format_.strides.end());
    const std::size_t bytes =
        first.size() * rows * format_.elements * c10::elementSize(format_.type);
    at::Tensor out = empty_from(*pool_, bytes, format_.type, sizes_of(first.size(), length),
                                strides, pin || pins_memory(options_));
    if (bytes != 0) copy(first, rows, static_cast<char*>(out.data_ptr()));
    return out;
  }

  /// Calls `use` with the `length` rows from each row of `first` on; what they point to exists
  /// until it returns.
  virtual void with_runs(c10::ArrayRef<std::size_t> first, std::size_t length,
                         const std::function<void(const std::vector<RowRun>&)>& use) const = 0;

 private:
  void copy(c10::ArrayRef<std::size_t> first, std::size_t length, char* out) const {
    try {
      with_runs(first, length, [&](const std::vector<RowRun>& runs) {
        if (format_.converts) return RowConverter(format_, *pool_, out).convert_runs(runs);
        copy_runs(format_, runs, out);
      });
    } catch (const Error& error) {
      if (first.size() == 1) about(first[0], [&] { throw error; });
      // Values of several samples are converted together: find out which one is wrong.
      if (error.code() == ErrorCode::Mismatch) {
        for (const std::size_t row : first) copy(row, length, out);
      }
      throw;
    }
  }

  LoadOptions options_;
  std::shared_ptr<BufferPool> pool_;
  PartTable parts_;
  RowFormat format_;
};

/// The rows of a tensor.
class TensorRows final : public ArrayRows {
 public:
  /// If the tensor was loaded, `name` is what it was loaded from, and `begin` the number of its
  /// first row there. Throws Error: Mismatch for a 0-d tensor; InvalidArgument and Mismatch as the
  /// options say.
  TensorRows(at::Tensor tensor, const LoadOptions& options, std::shared_ptr<BufferPool> pool,
             std::string name = {}, std::size_t begin = 0, std::uint64_t hash = 0)
      : ArrayRows(options, std::move(pool)), name_(std::move(name)), begin_(begin), hash_(hash) {
    if (!tensor.defined() || tensor.dim() == 0) {
      throw Error(ErrorCode::Mismatch, "a 0-d tensor has no axis 0 to take samples from");
    }
    if (!options.region().empty()) {
      const Region region = sample_region(options, tensor.sizes().vec());
      begin_ = static_cast<std::size_t>(region[0].begin);
      for (std::size_t axis = 0; axis < region.size(); ++axis) {
        const auto [first, last] = region[axis];
        tensor = tensor.narrow(static_cast<std::int64_t>(axis), first, last - first);
      }
    }
    if (const auto axis = options.squeeze()) {
      require_rows_stay(options, tensor.sizes().size());
      tensor = tensor.squeeze(static_cast<std::int64_t>(squeezed_axis(tensor.sizes(), *axis)));
    }
    if (options.dtype()) tensor = tensor.to(*options.dtype());
    // A view, which the caller cannot transpose in place.
    const bool has_view =
        tensor.layout() == c10::kStrided && !tensor.is_quantized() && !tensor._is_zerotensor();
    tensor_ = has_view ? tensor.view_as(tensor) : tensor;
    can_copy_ = has_view && tensor_.is_cpu() && tensor_.is_contiguous() &&
                !tensor_.requires_grad() && !tensor_.is_conj() && !tensor_.is_neg();
    RowFormat format;
    format.sizes = tensor_.sizes().slice(1).vec();
    format.strides = dense_strides(format.sizes, false);
    format.type = tensor_.scalar_type();
    format.dtype.item_size = static_cast<std::int64_t>(c10::elementSize(format.type));
    format.elements = static_cast<std::size_t>(checked_bytes(format.sizes, 1).value_or(0));
    set_rows({static_cast<std::size_t>(tensor_.size(0))}, std::move(format));
  }

  std::string name() const override { return name_; }
  std::string key(std::size_t row) const override {
    return name_ + "[" + std::to_string(begin_ + row) + "]";
  }
  std::uint64_t hash() const override { return hash_; }
  void about(std::size_t, const std::function<void()>& work) const override { with_path({}, work); }

 private:
  at::Tensor gather_on_host(c10::ArrayRef<std::size_t> first, std::optional<std::size_t> length,
                            bool pin) const override {
    if (can_copy_) return ArrayRows::gather_on_host(first, length, pin);
    const std::size_t rows = length.value_or(1);
    const at::Tensor indices =
        at::empty({static_cast<std::int64_t>(first.size() * rows)}, at::kLong);
    auto* index = indices.data_ptr<std::int64_t>();
    for (const std::size_t row : first) {
      for (std::size_t k = 0; k < rows; ++k) *index++ = static_cast<std::int64_t>(row + k);
    }
    at::Tensor out = tensor_.index_select(0, indices.to(tensor_.device()));
    return length ? out.reshape(sizes_of(first.size(), length)) : out;
  }

  void with_runs(c10::ArrayRef<std::size_t> first, std::size_t length,
                 const std::function<void(const std::vector<RowRun>&)>& use) const override {
    const char* const data = static_cast<const char*>(tensor_.data_ptr());
    std::vector<RowRun> runs;
    runs.reserve(first.size());
    for (const std::size_t row : first)
      runs.push_back({data + row * format().bytes(), length, nullptr});
    use(runs);
  }

  std::string name_;
  std::size_t begin_;  // the number of row 0 in the caller's tensor or file
  std::uint64_t hash_;
  at::Tensor tensor_;
  bool can_copy_ = false;  // by memcpy
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_ROWS_HPP_
