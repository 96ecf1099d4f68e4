#ifndef TORCH_NPY_DATA_DATASET_HPP_
#define TORCH_NPY_DATA_DATASET_HPP_

/// @file
/// Datasets for LibTorch's data loader: from one or two array files, a folder, two folders, or one
/// folder per class.

#include <ATen/ops/tensor.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/sample_dataset.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// A dataset of the .npy files in a folder, one sample per file. A sample is a TensorExample with
/// the shape and dtype of the file, unless FolderOptions::data_options changes them. The
/// constructor reads only the names; each sample then costs one open, read and close.
///
/// Copies are cheap and share the list of files and up to 256 MiB of memory for the next batches.
/// One dataset may be used from any number of threads. Tensors of a batch are like those of
/// torch::from_blob(): do not resize_() them to a larger size.
class FolderDataset : public detail::FileDataset<FolderDataset, TensorExample> {
 public:
  /// Lists the folder in O(n log n) for n files. Throws Error: NotFound if the folder does not
  /// exist or has no matching .npy file; Io; Exhausted; InvalidArgument if the device does not
  /// exist.
  explicit FolderDataset(const std::filesystem::path& folder, const FolderOptions& options = {})
      : FileDataset({detail::sample_files(detail::list_folder(folder, options),
                                          options.data_options(), detail::make_pool())},
                    options) {}

  /// The file of each sample.
  const FileList& files() const& noexcept { return part(0).list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// For the base class. @private
  detail::Samples read(c10::ArrayRef<std::size_t> indices, bool may_skip) const {
    return std::move(read_parts(indices, may_skip).parts[0]);
  }
};

/// A dataset of the .npy files in two folders: a file in the first folder is a sample, and the file
/// with the same relative path in the second folder is its target. Samples are Examples of data and
/// target. Copies, threads and memory: as for FolderDataset.
class PairedFolderDataset : public detail::FileDataset<PairedFolderDataset, Example<>> {
 public:
  /// Lists both folders with the same options. Throws Error: as FolderDataset; Mismatch if files
  /// have no partner, with the paths of up to ten of them.
  PairedFolderDataset(const std::filesystem::path& inputs, const std::filesystem::path& targets,
                      const FolderOptions& options = {})
      : FileDataset(make_parts(inputs, targets, options), options) {}

  /// The input file of each sample.
  const FileList& files() const& noexcept { return part(0).list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// The target file of each sample.
  const FileList& target_files() const& noexcept { return part(1).list; }
  void target_files() && = delete;  ///< the list lives as long as the dataset

  /// For the base class. @private
  std::pair<detail::Samples, detail::Samples> read(c10::ArrayRef<std::size_t> indices,
                                                   bool may_skip) const {
    auto parts = read_parts(indices, may_skip).parts;
    return {std::move(parts[0]), std::move(parts[1])};
  }

 private:
  static std::vector<std::shared_ptr<const detail::SampleFiles>> make_parts(
      const std::filesystem::path& inputs, const std::filesystem::path& targets,
      const FolderOptions& options) {
    FileList input_list = detail::list_folder(inputs, options);
    FileList target_list = detail::list_folder(targets, options);
    require_partners(input_list, target_list);
    const auto pool = detail::make_pool();
    return {detail::sample_files(std::move(input_list), options.data_options(), pool),
            detail::sample_files(std::move(target_list), options.target_options(), pool)};
  }

  /// Both lists are sorted by the same rule, so partners have equal indices.
  static void require_partners(const FileList& inputs, const FileList& targets) {
    bool same = inputs.size() == targets.size();
    for (std::size_t i = 0; same && i < inputs.size(); ++i) {
      same = std::strcmp(inputs.name(i), targets.name(i)) == 0;
    }
    if (same) return;
    constexpr std::size_t kMaxNamed = 10;
    std::size_t alone = 0;
    std::string names;
    const auto list_alone = [&](const FileList& list, const FileList& others) {
      std::vector<std::string_view> partners;
      for (std::size_t i = 0; i < others.size(); ++i) partners.push_back(others.name(i));
      std::sort(partners.begin(), partners.end());
      for (std::size_t i = 0; i < list.size(); ++i) {
        if (std::binary_search(partners.begin(), partners.end(), list.name(i))) continue;
        if (alone++ < kMaxNamed) names += "\n  " + detail::shown_path(list[i]);
      }
    };
    list_alone(inputs, targets);
    list_alone(targets, inputs);
    if (alone > kMaxNamed) names += "\n  and " + std::to_string(alone - kMaxNamed) + " more";
    throw Error(ErrorCode::Mismatch,
                "inputs and targets in " + detail::shown_path(targets.folder()) +
                    " are matched by name, and " + detail::counted(alone, "file") +
                    (alone == 1 ? " has" : " have") + " no partner:" + names,
                0, inputs.folder());
  }
};

/// A dataset of the files `folder/<class>/*.npy`, one sample per file. The target is the index of
/// its class in classes(): an int64, 0-d tensor. Copies, threads and memory: as for FolderDataset.
class ClassFolderDataset : public detail::FileDataset<ClassFolderDataset, Example<>> {
 public:
  /// Lists the folder. With recursive(true), the files may be in subfolders of the class folders.
  /// Throws Error: NotFound if the folder does not exist, has no subfolder, or a class folder has
  /// no matching .npy file; Io; Exhausted; InvalidArgument if the device does not exist.
  explicit ClassFolderDataset(const std::filesystem::path& folder,
                              const FolderOptions& options = {})
      : ClassFolderDataset(list_classes(folder, options), options) {}

  /// The names of the classes: target i is class classes()[i]. Sorted by bytes, or as
  /// FolderOptions::natural_order says.
  const std::vector<std::string>& classes() const& noexcept { return *classes_; }
  /// The same for a temporary dataset.
  std::vector<std::string> classes() && { return *classes_; }

  /// The file of each sample, ordered by class.
  const FileList& files() const& noexcept { return part(0).list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// For the base class. @private
  std::pair<detail::Samples, detail::Samples> read(c10::ArrayRef<std::size_t> indices,
                                                   bool may_skip) const {
    std::vector<std::int64_t> numbers;
    auto read = read_parts(indices, may_skip);
    for (const std::size_t index : read.indices) {
      const auto end = std::upper_bound(ends_->begin(), ends_->end(), index);
      numbers.push_back(end - ends_->begin());
    }
    at::Tensor targets = at::tensor(numbers, at::kLong);
    return {std::move(read.parts[0]),
            detail::Samples(detail::on_device(std::move(targets), part(0).options))};
  }

 private:
  struct Classes {
    FileList list;
    std::vector<std::string> names;
    std::vector<std::size_t> ends;  // end of each class in the list
  };

  static Classes list_classes(const std::filesystem::path& folder, const FolderOptions& options) {
    FileList list(folder);
    std::vector<std::string> names = list.subfolders(".", options.natural_order());
    if (names.empty()) {
      throw Error(ErrorCode::NotFound,
                  "no subfolders: ClassFolderDataset expects one subfolder for each class", 0,
                  folder);
    }
    std::vector<std::size_t> ends;
    for (const std::string& name : names) {
      if (list.add(name, detail::list_rules(options)) == 0) {
        throw detail::no_files(list, name, options);
      }
      ends.push_back(list.size());
    }
    return {std::move(list), std::move(names), std::move(ends)};
  }

  ClassFolderDataset(Classes classes, const FolderOptions& options)
      : FileDataset({detail::sample_files(std::move(classes.list), options.data_options(),
                                          detail::make_pool())},
                    options),
        classes_(std::make_shared<const std::vector<std::string>>(std::move(classes.names))),
        ends_(std::make_shared<const std::vector<std::size_t>>(std::move(classes.ends))) {}

  std::shared_ptr<const std::vector<std::string>> classes_;
  std::shared_ptr<const std::vector<std::size_t>> ends_;
};

/// A dataset of one array file, or of one for data and one for targets. Axis 0 is the sample index:
/// a sample of an array (n, S...) is a tensor of shape S.
///
///     ArrayDataset images("images.npy");                 // Examples without a target
///     ArrayDataset digits("images.npy", "labels.npy");   // data and target
///
/// The files are mapped, and their rows are copied into batches, so they may be larger than memory.
/// As with LoadOptions::mmap, truncating a file meanwhile ends the process. Copies are cheap and
/// share the mappings. One dataset may be used from any number of threads. Tensors of a batch are
/// like those of torch::from_blob(): do not resize_() them to a larger size.
template <class E = Example<>>
class ArrayDataset : public detail::SampleDataset<ArrayDataset<E>, E> {
 public:
  /// Reads the header and maps the file; the time does not depend on its size. Throws Error: as
  /// load(); Mismatch for a 0-d array.
  explicit ArrayDataset(const std::filesystem::path& data, const LoadOptions& options = {})
      : ArrayDataset(
            {std::make_shared<const detail::ArrayRows>(data, options, detail::make_pool())}) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need a file of targets");
  }

  /// The same for two files: row i of `target` is the target of row i of `data`. Throws Error: as
  /// load(); Mismatch for a 0-d array, and if the lengths differ.
  ArrayDataset(const std::filesystem::path& data, const std::filesystem::path& target,
               const LoadOptions& options = {}, const LoadOptions& target_options = {})
      : ArrayDataset(make_pair(data, target, options, target_options)) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take one file");
  }

  /// For the base class. @private
  std::size_t length() const noexcept { return parts_[0]->size(); }
  /// For the base class. @private
  auto read(c10::ArrayRef<std::size_t> indices, bool /*may_skip*/) const {
    detail::Samples data(parts_[0]->gather(indices));
    if constexpr (detail::kHasTarget<E>) {
      return std::pair(std::move(data), detail::Samples(parts_[1]->gather(indices)));
    } else {
      return data;
    }
  }

 private:
  using Parts = std::vector<std::shared_ptr<const detail::ArrayRows>>;

  explicit ArrayDataset(Parts parts)
      : detail::SampleDataset<ArrayDataset<E>, E>(parts[0]->size()), parts_(std::move(parts)) {}

  static Parts make_pair(const std::filesystem::path& data, const std::filesystem::path& target,
                         const LoadOptions& options, const LoadOptions& target_options) {
    const auto pool = detail::make_pool();
    auto rows = std::make_shared<const detail::ArrayRows>(data, options, pool);
    auto target_rows = std::make_shared<const detail::ArrayRows>(target, target_options, pool);
    if (rows->size() != target_rows->size()) {
      throw Error(ErrorCode::Mismatch,
                  "expected one target for each sample, found " +
                      detail::counted(rows->size(), "sample") + " and " +
                      detail::counted(target_rows->size(), "target") + ", in " +
                      detail::shown_path(target),
                  0, data);
    }
    return {std::move(rows), std::move(target_rows)};
  }

  Parts parts_;
};

ArrayDataset(const std::filesystem::path&)->ArrayDataset<TensorExample>;
ArrayDataset(const std::filesystem::path&, const LoadOptions&)->ArrayDataset<TensorExample>;
ArrayDataset(const std::filesystem::path&, const std::filesystem::path&)->ArrayDataset<Example<>>;
ArrayDataset(const std::filesystem::path&, const std::filesystem::path&, const LoadOptions&)
    ->ArrayDataset<Example<>>;
ArrayDataset(const std::filesystem::path&, const std::filesystem::path&, const LoadOptions&,
             const LoadOptions&)
    ->ArrayDataset<Example<>>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_DATASET_HPP_
