#ifndef TORCH_NPY_DATA_FILE_SOURCE_HPP_
#define TORCH_NPY_DATA_FILE_SOURCE_HPP_

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/array_source.hpp>
#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_buffer.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/concurrent_read.hpp>
#include <torch_npy/data/fetched_objects.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Samples of which each is a file, or a file and its target.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

inline std::shared_ptr<const SampleFiles> sample_files(FileList list, const LoadOptions& options,
                                                       std::shared_ptr<BufferPool> pool,
                                                       FolderOptions::Expected expected = {}) {
  require_device(options.device());
  if (options.mmap() && list.requests() != nullptr) {
    throw Error(ErrorCode::InvalidArgument,
                "mmap(true) is for files: the objects of a store cannot be mapped", 0,
                list.folder());
  }
  return std::make_shared<const SampleFiles>(std::move(list), options, std::move(pool),
                                             std::move(expected));
}

/// Which options of FolderOptions a dataset uses, besides those about reading.
struct UsedOptions {
  bool lists = false;    ///< pattern, recursive, natural_order
  bool pairs = false;    ///< target_pattern, target_name
  bool classes = false;  ///< classes, allow_empty_classes
};

/// Throws Error (InvalidArgument) if another option is set: without effect, it would be a mistake
/// that does not show.
inline void require_used(const char* dataset, const FolderOptions& options,
                         const UsedOptions& used) {
  const char* unused = nullptr;
  if (!used.lists) {
    if (options.pattern() != "*") unused = "pattern";
    if (options.recursive()) unused = "recursive";
    if (options.natural_order()) unused = "natural_order";
  }
  if (!used.pairs) {
    if (!options.target_pattern().empty()) unused = "target_pattern";
    if (options.target_name()) unused = "target_name";
  }
  if (!used.classes) {
    if (!options.classes().empty()) unused = "classes";
    if (options.allow_empty_classes()) unused = "allow_empty_classes";
  }
  if (unused == nullptr) return;
  throw Error(ErrorCode::InvalidArgument,
              std::string("the option ") + unused + "() has no meaning for a " + dataset);
}

/// Samples from the rows of their data, and of their targets if there are any.
template <class E>
SampleRows<E> rows_from(PartRows&& data, [[maybe_unused]] PartRows&& target) {
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

/// A number for a list of files. Without their common folder: a run continues where the files have
/// been moved together.
inline std::uint64_t fingerprint_of(const FileList& files) {
  const std::size_t common = files.common_folder();
  std::uint64_t print = mix({files.size()});
  for (std::size_t i = 0; i < files.size(); ++i) {
    print = mix({print, hash_of(files.name(i) + common)});
  }
  return print;
}

/// One file a sample, or several samples of each file; and for an Example with a target a second
/// file, or a row of an array.
template <class E>
class FileSource : public SampleSource<E> {
 public:
  /// `targets` are files, or `labels` has a row for each sample, or E has no target. Throws Error
  /// (Mismatch) if there are more or fewer targets than samples.
  FileSource(std::shared_ptr<const SampleFiles> data, std::shared_ptr<const SampleFiles> targets,
             std::shared_ptr<const ArrayRows> labels, const FolderOptions& options)
      : SampleSource<E>(options),
        data_(std::move(data)),
        targets_(std::move(targets)),
        labels_(std::move(labels)),
        samples_(data_->list.size(), options) {
    const std::size_t files = data_->list.size();
    const std::size_t count = targets_ ? targets_->list.size() : labels_ ? labels_->size() : files;
    if (count == files) return;
    throw Error(ErrorCode::Mismatch, "expected one target for each file, found " +
                                         counted(files, "file") + " and " +
                                         counted(count, "target"));
  }

  std::size_t size() const override { return samples_.size(); }

  std::string key(std::size_t sample) const override {
    return samples_.key(data_->list[samples_.file_of(sample)], sample);
  }

  bool reads_regions() const override { return true; }
  std::size_t file_of(std::size_t sample) const override {
    return samples_.first_file_of(sample, data_->list);
  }

  std::uint64_t fingerprint() const override {
    return mix({size(), fingerprint_of(data_->list), fingerprint_of(data_->options.region()),
                targets_ ? fingerprint_of(targets_->list) : 0});
  }

  std::int64_t length(std::size_t sample) const override {
    return planned(*data_, samples_.file_of(sample), length_of);
  }

  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    if (!labels_ && !targets_) return SampleSource<E>::labels(samples);
    std::vector<std::size_t> files;
    files.reserve(samples.size());
    for (const std::size_t sample : samples) files.push_back(samples_.file_of(sample));
    if (labels_) return labels_from(*labels_, files);
    std::vector<std::int64_t> labels;
    labels.reserve(files.size());
    for (std::size_t i = 0; i < files.size(); ++i) {
      const bool is_known = i != 0 && files[i] == files[i - 1];
      labels.push_back(is_known ? labels.back() : label_of(files[i]));
    }
    return labels;
  }

  std::vector<Error> check(std::size_t sample) const override {
    std::vector<Error> errors;
    for (const auto* const part : {data_.get(), targets_.get()}) {
      if (part == nullptr) continue;
      try {
        planned(*part, samples_.file_of(sample),
                [&](const LoadPlan& plan) { part->require_expected(plan); });
      } catch (const Error& error) {
        if (is_of_system(error)) throw;
        errors.push_back(error);
      }
    }
    return errors;
  }

  SampleRows<E> read(Request& request) const override {
    const StoreRequests* const store = data_->list.requests();
    if (store != nullptr && request.regions != nullptr && request.picks.size() > 1) {
      return read_concurrently<E>(*store, request,
                                  [&](Request& one) { return read_here(one, {}); });
    }
    std::vector<const FileList*> lists = {&data_->list};
    if (targets_) lists.push_back(&targets_->list);
    return read_here(request, request.regions != nullptr
                                  ? FetchedObjects()
                                  : FetchedObjects(lists, request, [&](std::size_t sample) {
                                      return samples_.file_of(sample);
                                    }));
  }

  const SampleFiles& data() const noexcept { return *data_; }
  const SampleFiles& targets() const noexcept { return *targets_; }

 private:
  /// On this thread, one sample after another.
  SampleRows<E> read_here(Request& request, const FetchedObjects& fetched) const {
    BatchReader data(data_, request.picks.size(), request.pin_memory);
    std::optional<BatchReader> targets;
    if (targets_) targets.emplace(targets_, request.picks.size(), request.pin_memory);
    std::vector<std::size_t> accepted;
    read_each(
        request, this->bad_samples(0),
        [&](Pick& pick) {
          const std::size_t file = samples_.file_of(pick.sample);
          const auto read_part = [&](std::size_t part, const RegionOf& region_of = {},
                                     const c10::Scalar& fill_value = 0) {
            return read_file(part == 0 ? data : *targets, part == 0 ? *data_ : *targets_, file,
                             fetched, region_of, fill_value);
          };
          const SampleRegions* const regions = request.regions;
          pick.is_cropped =
              regions != nullptr && read_regions(*regions, pick, data, targets ? 2 : 1, read_part);
          if (pick.is_cropped) return;
          read_part(0);
          if (targets) read_part(1);
        },
        [&](std::size_t sample) {
          data.accept();
          if (targets) targets->accept();
          if (labels_) accepted.push_back(samples_.file_of(sample));
        });
    PartRows target;
    if (targets) {
      target = std::move(*targets).finish();
    } else if (!accepted.empty()) {
      target.whole = labels_->gather(accepted, std::nullopt, request.pin_memory);
    }
    return rows_from<E>(std::move(data).finish(), std::move(target));
  }

  std::int64_t label_of(std::size_t file) const {
    return with_open(*targets_, file,
                     [&](OpenArray& array) { return label_in(array, targets_->options); });
  }

  /// Calls `use` with the array of a file.
  template <class Use>
  static auto with_open(const SampleFiles& files, std::size_t file, const Use& use) {
    return files.list.about(file, [&] {
      return files.list.with_source(file, ObjectUse::Parts, [&](const ByteSource& source) {
        return with_array(source, files.options, use);
      });
    });
  }

  /// Calls `use` with what is known of a file after its header was read.
  template <class Use>
  static auto planned(const SampleFiles& files, std::size_t file, const Use& use) {
    return with_open(files, file, [&](OpenArray& array) { return use(array.plan(files.options)); });
  }

  std::shared_ptr<const SampleFiles> data_;
  std::shared_ptr<const SampleFiles> targets_;  // may be null
  std::shared_ptr<const ArrayRows> labels_;     // of the files; may be null
  SamplesOfFiles samples_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FILE_SOURCE_HPP_
