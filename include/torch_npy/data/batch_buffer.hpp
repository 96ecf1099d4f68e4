#ifndef TORCH_NPY_DATA_BATCH_BUFFER_HPP_
#define TORCH_NPY_DATA_BATCH_BUFFER_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/options.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/version.hpp>

// Memory for the samples of a batch.

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

  SamplePart(LoadOptions its_options, std::shared_ptr<BufferPool> its_pool,
             FolderOptions::Expected its_expected)
      : options(std::move(its_options)),
        pool(std::move(its_pool)),
        expected(std::move(its_expected)) {}
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

/// The memory of one part of a batch: a row of one buffer for each sample that is like the first,
/// and a tensor of its own for any other one.
class BatchBuffer {
 public:
  /// For at most `count` samples.
  BatchBuffer(std::shared_ptr<const SamplePart> part, std::size_t count, LoadOptions options)
      : part_(std::move(part)), count_(count), options_(std::move(options)) {
    accepted_.reserve(count);
  }

  /// How the first sample is loaded. Without sizes before set_first().
  const LoadPlan& first() const noexcept { return first_; }
  bool has_first() const noexcept { return has_first_; }
  /// Allocates the buffer. If that fails each sample gets its own memory: they may differ, and need
  /// less.
  void set_first(const LoadPlan& plan) {
    has_first_ = true;
    first_ = plan;
    if (plan.bytes == 0 || count_ > PTRDIFF_MAX / plan.bytes) return;
    LoadPlan batch = plan;
    batch.sizes.insert(batch.sizes.begin(), static_cast<std::int64_t>(count_));
    batch.strides.insert(batch.strides.begin(), static_cast<std::int64_t>(plan.count));
    batch.bytes *= count_;
    try {
      buffer_ = empty(batch);
    } catch (const Error&) {
      // Each sample gets its own memory.
    }
  }
  bool has_rows() const { return buffer_.defined(); }

  /// Another sample follows. It becomes part of the batch by accept().
  void begin(std::size_t sample) {
    own_ = at::Tensor();
    sample_ = sample;
  }
  /// The next row of the buffer, for a sample that is like the first.
  char* next_row() const { return static_cast<char*>(buffer_.data_ptr()) + rows_ * first_.bytes; }
  /// Memory for the sample, which is loaded in this way.
  void* memory_for(const LoadPlan& plan) {
    if (buffer_.defined() && plan.type == first_.type && plan.sizes == first_.sizes &&
        plan.strides == first_.strides) {
      return next_row();
    }
    own_ = empty(plan);
    if (TensorMemory* const memory = TensorMemory::of(own_)) {
      memory->origin = [part = std::weak_ptr(part_), sample = sample_](std::size_t) {
        const auto owner = part.lock();
        return owner ? owner->origin(sample) : std::string();
      };
    }
    return own_.data_ptr();
  }
  /// The sample is this tensor.
  void set_own(at::Tensor tensor) { own_ = std::move(tensor); }

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
  at::Tensor empty(const LoadPlan& plan) const {
    return empty_from(*part_->pool, plan.bytes, plan.type, plan.sizes, plan.strides,
                      pins_memory(options_));
  }

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
  std::size_t sample_ = 0;             // the one that began last

  bool has_first_ = false;
  LoadPlan first_;
  at::Tensor buffer_;
  std::size_t rows_ = 0;  // of the buffer, in use

  at::Tensor own_;  // the sample that began last, if it is not in the buffer
  std::vector<std::pair<std::size_t, at::Tensor>>
      own_samples_;  // with their positions in the batch
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_BUFFER_HPP_
