#ifndef TORCH_NPY_DATA_DATASET_HPP_
#define TORCH_NPY_DATA_DATASET_HPP_

/// @file
/// Datasets for LibTorch's data loader: over one file, a folder, two folders, a folder a class.

#include <ATen/ops/tensor.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
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

/// The .npy files of a folder, a sample each: Examples of a tensor and no target, each with the
/// file's shape and dtype (FolderOptions::data_options says more). Only names are read before a
/// sample is asked for; then a file costs an open, a read and a close.
///
/// Copies share the list of files and the memory that is kept for the next batches, 256 MiB of it
/// at most. They cost nothing, and each may be used by a thread of its own, as LibTorch's loader
/// does.
class FolderDataset : public detail::FileDataset<FolderDataset, TensorExample> {
 public:
  /// Lists the folder, n files in O(n log n) (a million of them took 0.4 s). Throws Error: NotFound
  /// where there is no such folder or no .npy file in it, Io, Exhausted, and InvalidArgument for a
  /// device that is not there.
  explicit FolderDataset(const std::filesystem::path& folder, const FolderOptions& options = {})
      : FileDataset({detail::sample_files(detail::list_folder(folder, options),
                                          options.data_options(), detail::make_pool())},
                    options) {}

  /// The file of each sample.
  const FileList& files() const& noexcept { return part(0).list; }
  void files() && = delete;  ///< the list would go with the dataset

  /// For the base class. @private
  detail::Samples read(c10::ArrayRef<std::size_t> indices, bool may_skip) const {
    return std::move(read_parts(indices, may_skip, [](std::size_t) {})[0]);
  }
};

/// The .npy files of two folders: those of one are the samples, and the target of each is the file
/// of the other with the same path in its folder. Copies are as cheap as those of FolderDataset.
class PairedFolderDataset : public detail::FileDataset<PairedFolderDataset, Example<>> {
 public:
  /// Lists both folders, by the same options. Throws Error: what FolderDataset throws, and
  /// Mismatch, which names the files that have no partner, up to ten of them.
  PairedFolderDataset(const std::filesystem::path& inputs, const std::filesystem::path& targets,
                      const FolderOptions& options = {})
      : FileDataset(make_parts(inputs, targets, options), options) {}

  /// The input file of each sample.
  const FileList& files() const& noexcept { return part(0).list; }
  void files() && = delete;  ///< the list would go with the dataset

  /// The target file of each sample.
  const FileList& target_files() const& noexcept { return part(1).list; }
  void target_files() && = delete;  ///< the list would go with the dataset

  /// For the base class. @private
  std::pair<detail::Samples, detail::Samples> read(c10::ArrayRef<std::size_t> indices,
                                                   bool may_skip) const {
    auto parts = read_parts(indices, may_skip, [](std::size_t) {});
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

  /// Both are sorted by the same rule, so partners stand at the same place, or there are none.
  static void require_partners(const FileList& inputs, const FileList& targets) {
    const auto name = [](const FileList& list, std::size_t i) { return std::string(list.name(i)); };
    bool same = inputs.size() == targets.size();
    for (std::size_t i = 0; same && i < inputs.size(); ++i) {
      same = std::strcmp(inputs.name(i), targets.name(i)) == 0;
    }
    if (same) return;
    constexpr std::size_t kNamed = 10;
    std::size_t alone = 0;
    std::string names;
    const auto list_alone = [&](const FileList& list, const FileList& others) {
      std::vector<std::string> partners;
      for (std::size_t i = 0; i < others.size(); ++i) partners.push_back(name(others, i));
      std::sort(partners.begin(), partners.end());
      for (std::size_t i = 0; i < list.size(); ++i) {
        if (std::binary_search(partners.begin(), partners.end(), name(list, i))) continue;
        if (alone++ < kNamed) names += "\n  " + detail::shown_path(list[i]);
      }
    };
    list_alone(inputs, targets);
    list_alone(targets, inputs);
    if (alone > kNamed) names += "\n  and " + std::to_string(alone - kNamed) + " more";
    throw Error(ErrorCode::Mismatch,
                "inputs and targets in " + detail::shown_path(targets.folder()) +
                    " are matched by name, and " + detail::counted(alone, "file") +
                    (alone == 1 ? " has" : " have") + " no partner:" + names,
                0, inputs.folder());
  }
};

/// `folder/<class>/*.npy`: a sample a file; its target is the number of its class (int64, 0-d), in
/// the order of the classes' names. Copies are as cheap as those of FolderDataset.
class ClassFolderDataset : public detail::FileDataset<ClassFolderDataset, Example<>> {
 public:
  /// With recursive(true) the files may lie deeper in a class's folder. Throws Error: NotFound
  /// where there is no such folder, no folder in it, or no .npy file in one of these; Io,
  /// Exhausted, and InvalidArgument for a device that is not there.
  explicit ClassFolderDataset(const std::filesystem::path& folder,
                              const FolderOptions& options = {})
      : ClassFolderDataset(list_classes(folder, options), options) {}

  /// The names of the classes, sorted as FolderOptions::natural_order says: target i is of class
  /// classes()[i].
  const std::vector<std::string>& classes() const& noexcept { return *classes_; }
  /// The same, of a dataset that goes at once.
  std::vector<std::string> classes() && { return *classes_; }

  /// The file of each sample, class after class.
  const FileList& files() const& noexcept { return part(0).list; }
  void files() && = delete;  ///< the list would go with the dataset

  /// For the base class. @private
  std::pair<detail::Samples, detail::Samples> read(c10::ArrayRef<std::size_t> indices,
                                                   bool may_skip) const {
    std::vector<std::int64_t> numbers;
    numbers.reserve(indices.size());
    auto parts = read_parts(indices, may_skip, [&](std::size_t index) {
      const auto end = std::upper_bound(ends_->begin(), ends_->end(), index);
      numbers.push_back(end - ends_->begin());
    });
    at::Tensor targets = at::tensor(numbers, at::kLong);
    return {std::move(parts[0]),
            detail::Samples(detail::on_device(std::move(targets), part(0).options))};
  }

 private:
  struct Classes {
    FileList list;
    std::vector<std::string> names;
    std::vector<std::size_t> ends;  // of each class in the list
  };

  static Classes list_classes(const std::filesystem::path& folder, const FolderOptions& options) {
    FileList list(folder);
    std::vector<std::string> names = list.subfolders();
    if (names.empty()) {
      throw Error(ErrorCode::NotFound,
                  "no folders in this folder: a ClassFolderDataset has one for each class", 0,
                  folder);
    }
    if (options.natural_order()) {
      std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
        return detail::natural_less(a.c_str(), b.c_str());
      });
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

/// One file, or one for data and one for targets, whose axis 0 is the sample index:
///
///     ArrayDataset images("images.npy");                 // Examples without a target
///     ArrayDataset digits("images.npy", "labels.npy");   // data and target
///
/// A sample of an array (n, S...) is a tensor of shape S. The files are mapped, and rows copied out
/// of them into batches: they may be larger than memory. As with LoadOptions::mmap, a file that is
/// cut short meanwhile ends the process. Copies share the mappings, cost nothing, and each may be
/// used by a thread of its own.
template <class E = Example<>>
class ArrayDataset : public detail::SampleDataset<ArrayDataset<E>, E> {
 public:
  /// Reads the header and maps the file, in the same time whatever its size. Throws Error: what
  /// load() throws; Mismatch for a 0-d array.
  explicit ArrayDataset(const std::filesystem::path& data, const LoadOptions& options = {})
      : ArrayDataset(
            {std::make_shared<const detail::ArrayRows>(data, options, detail::make_pool())}) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need a file of targets");
  }

  /// The same for two files, row i of `target` for row i of `data`. Throws Error: what load()
  /// throws; Mismatch for a 0-d array, and for different lengths.
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
                  "data of " + detail::counted(rows->size(), "sample") + " and targets of " +
                      std::to_string(target_rows->size()) + ", in " + detail::shown_path(target),
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
