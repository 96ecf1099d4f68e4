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

/// One file a sample; and for an Example with a target a second one, or a label.
template <class E>
class FileSource : public SampleSource<E> {
 public:
  /// `targets` are files, or `labels` holds one target for each sample, or E has none.
  FileSource(std::shared_ptr<const SampleFiles> data, std::shared_ptr<const SampleFiles> targets,
             std::vector<std::int64_t> labels, const FolderOptions& options)
      : SampleSource<E>(options),
        data_(std::move(data)),
        targets_(std::move(targets)),
        labels_(std::move(labels)) {}

  std::size_t size() const override { return data_->list.size(); }

  std::string key(std::size_t sample) const override {
    return data_->list[sample].generic_string();
  }

  std::uint64_t fingerprint() const override {
    std::uint64_t print = mix({size()});
    for (std::size_t i = 0; i < size(); ++i) print = mix({print, hash_of(data_->list.name(i))});
    return print;
  }

  std::int64_t length(std::size_t sample) const override {
    return planned(*data_, sample, [](const LoadPlan& plan) {
      if (!plan.sizes.empty()) return plan.sizes[0];
      throw Error(ErrorCode::Mismatch, "a 0-d array has no length");
    });
  }

  std::vector<Error> check(std::size_t sample) const override {
    std::vector<Error> errors;
    for (const auto* const part : {data_.get(), targets_.get()}) {
      if (part == nullptr) continue;
      try {
        planned(*part, sample, [&](const LoadPlan& plan) { part->require_expected(plan); });
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
        [&](std::size_t sample) {
          data.read(sample);
          if (targets) targets->read(sample);
        },
        [&](std::size_t sample) {
          data.accept();
          if (targets) targets->accept();
          if (!labels_.empty()) labels.push_back(labels_[sample]);
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
  /// Calls `use` with what is known of a file after its header was read.
  template <class Use>
  static auto planned(const SampleFiles& files, std::size_t sample, const Use& use) {
    return with_path(files.list[sample], [&] {
      return with_array(files.list.open(sample), files.options,
                        [&](OpenArray& array) { return use(array.plan(files.options)); });
    });
  }

  std::shared_ptr<const SampleFiles> data_;
  std::shared_ptr<const SampleFiles> targets_;  // may be null
  std::vector<std::int64_t> labels_;            // may be empty
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FILE_SOURCE_HPP_
