#ifndef TORCH_NPY_DATA_FILE_SOURCE_HPP_
#define TORCH_NPY_DATA_FILE_SOURCE_HPP_

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/text.hpp>

// Samples of which each is a file, or a file and its target.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Limit on the unused memory that a dataset keeps for its next batches, in bytes.
constexpr std::size_t kKeptBytes = std::size_t{256} << 20;

inline std::shared_ptr<BufferPool> make_pool() { return std::make_shared<BufferPool>(kKeptBytes); }

inline std::shared_ptr<const SampleFiles> sample_files(FileList list, const LoadOptions& options,
                                                       std::shared_ptr<BufferPool> pool,
                                                       FolderOptions::Expected expected = {}) {
  require_device(options.device());
  return std::make_shared<const SampleFiles>(
      SampleFiles{std::move(list), options, std::move(pool), std::move(expected)});
}

/// Samples from the rows of their data, and of their targets if there are any.
template <class E>
SampleRows<E> rows_from(PartRows data, [[maybe_unused]] PartRows target) {
  if constexpr (kHasTarget<E>) {
    if (data.whole.defined() && target.whole.defined()) {
      return Batch<E>(E(std::move(data.whole), std::move(target.whole)));
    }
    std::vector<at::Tensor> all = std::move(data).separate();
    std::vector<at::Tensor> targets = std::move(target).separate();
    std::vector<E> samples;
    samples.reserve(all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      samples.emplace_back(std::move(all[i]), std::move(targets[i]));
    }
    return samples;
  } else {
    if (data.whole.defined()) return Batch<E>(E(std::move(data.whole)));
    std::vector<E> samples;
    samples.reserve(data.each.size());
    for (at::Tensor& tensor : data.each) samples.emplace_back(std::move(tensor));
    return samples;
  }
}

/// One file a sample, or several samples of each file; and for an Example with a target a second
/// file, or a label.
template <class E>
class FileSource : public SampleSource<E> {
 public:
  /// `targets` are files, or `labels` holds one target for each sample, or E has none.
  FileSource(std::shared_ptr<const SampleFiles> data, std::shared_ptr<const SampleFiles> targets,
             std::vector<std::int64_t> labels, const FolderOptions& options)
      : SampleSource<E>(options),
        data_(std::move(data)),
        targets_(std::move(targets)),
        labels_(std::move(labels)),
        per_file_(options.samples_per_file()) {
    if (per_file_ != 0 && data_->list.size() <= SIZE_MAX / per_file_) return;
    throw Error(ErrorCode::InvalidArgument, "samples_per_file() of " +
                                                counted(per_file_, "sample") + " for " +
                                                counted(data_->list.size(), "file"));
  }

  std::size_t size() const override { return data_->list.size() * per_file_; }

  std::string key(std::size_t sample) const override {
    const std::string file = data_->list[file_of(sample)].generic_string();
    return per_file_ == 1 ? file : file + "#" + std::to_string(sample % per_file_);
  }

  bool reads_regions() const override { return true; }
  std::size_t file_of(std::size_t sample) const override { return sample / per_file_; }

  std::uint64_t fingerprint() const override {
    std::uint64_t print = mix({size()});
    for (std::size_t i = 0; i < data_->list.size(); ++i)
      print = mix({print, hash_of(data_->list.name(i))});
    return print;
  }

  std::int64_t length(std::size_t sample) const override {
    return planned(*data_, file_of(sample), [](const LoadPlan& plan) {
      if (!plan.sizes.empty()) return plan.sizes[0];
      throw Error(ErrorCode::Mismatch, "a 0-d array has no length");
    });
  }

  std::vector<Error> check(std::size_t sample) const override {
    std::vector<Error> errors;
    for (const auto* const part : {data_.get(), targets_.get()}) {
      if (part == nullptr) continue;
      try {
        planned(*part, file_of(sample),
                [&](const LoadPlan& plan) { part->require_expected(plan); });
      } catch (const Error& error) {
        if (is_of_system(error)) throw;
        errors.push_back(error);
      }
    }
    return errors;
  }

  SampleRows<E> read(Request& request) const override {
    BatchReader data(data_, request.picks.size(), request.pin_memory);
    std::optional<BatchReader> targets;
    if (targets_) targets.emplace(targets_, request.picks.size(), request.pin_memory);
    std::vector<std::int64_t> labels;
    read_each(
        request, this->bad_samples(0),
        [&](Pick& pick) {
          BatchReader* const target = targets ? &*targets : nullptr;
          pick.is_cropped =
              request.regions != nullptr && read_region(*request.regions, pick, data, target);
          if (pick.is_cropped) return;
          data.read(file_of(pick.sample));
          if (targets) targets->read(file_of(pick.sample));
        },
        [&](std::size_t sample) {
          data.accept();
          if (targets) targets->accept();
          if (!labels_.empty()) labels.push_back(labels_[file_of(sample)]);
        });
    PartRows target;
    if (targets) {
      target = std::move(*targets).finish();
    } else if (!labels.empty()) {
      target.whole = on_device(at::tensor(labels, at::kLong), data_->options);
    }
    return rows_from<E>(std::move(data).finish(), std::move(target));
  }

  const SampleFiles& data() const noexcept { return *data_; }
  const SampleFiles& targets() const noexcept { return *targets_; }

 private:
  /// Reads the region of a sample and of its target. False if one of them has none.
  bool read_region(const SampleRegions& regions, const Pick& pick, BatchReader& data,
                   BatchReader* target) const {
    const auto of_data = [&](c10::IntArrayRef sizes) { return regions.of_data(pick, sizes); };
    const auto of_target = [&](c10::IntArrayRef sizes) {
      return regions.of_target(pick, data.sizes(), sizes);
    };
    const std::size_t file = file_of(pick.sample);
    return data.read(file, of_data, regions.fill_value(0)) &&
           (target == nullptr || target->read(file, of_target, regions.fill_value(1)));
  }

  /// Calls `use` with what is known of a file after its header was read.
  template <class Use>
  static auto planned(const SampleFiles& files, std::size_t file, const Use& use) {
    return with_path(files.list[file], [&] {
      return with_array(files.list.open(file), files.options,
                        [&](OpenArray& array) { return use(array.plan(files.options)); });
    });
  }

  std::shared_ptr<const SampleFiles> data_;
  std::shared_ptr<const SampleFiles> targets_;  // may be null
  std::vector<std::int64_t> labels_;            // of the files; may be empty
  std::size_t per_file_;                        // samples
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FILE_SOURCE_HPP_
