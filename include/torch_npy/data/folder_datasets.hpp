#ifndef TORCH_NPY_DATA_FOLDER_DATASETS_HPP_
#define TORCH_NPY_DATA_FOLDER_DATASETS_HPP_

/// @file
/// Datasets of files: from a folder, from two folders, or from one folder per class.

#include <ATen/ops/tensor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/array_source.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/pair_files.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/names.hpp>
#include <torch_npy/io/store.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The files of a folder with these names, which may lack the ending .npy.
inline FileList named_files(const SampleFolder& folder, const std::vector<std::string>& names,
                            const FolderOptions& options) {
  require_used("FolderDataset of a list of names", options, {});
  FileList list(folder);
  for (const std::string& name : names) {
    list.append(name.empty() || has_ending(name, ".npy") ? name : name + ".npy");
  }
  if (names.empty())
    throw Error(ErrorCode::InvalidArgument, "the list of names is empty", 0, folder.path());
  FewLines missing;
  for (const std::size_t i : list.missing()) missing.add(shown_path(list[i]));
  if (missing.count() == 0) return list;
  throw Error(ErrorCode::NotFound,
              counted(missing.count(), "file") + " of the list of names " +
                  (missing.count() == 1 ? "does" : "do") + " not exist:" + missing.text(),
              0, folder.path());
}

/// The files `folder/<class>/*.npy`.
struct ClassFiles {
  ClassFiles(const SampleFolder& folder, const FolderOptions& options) : list(folder) {
    require_used("ClassFolderDataset", options, {true, false, true});
    list.with_one_listing([&] { add_classes(options); });
  }

  FileList list;
  std::vector<std::string> names;
  std::vector<std::int64_t> labels;  // of each file

 private:
  void add_classes(const FolderOptions& options) {
    const std::vector<std::string> folders = list.subfolders(".", options.natural_order());
    if (folders.empty()) {
      throw Error(ErrorCode::NotFound,
                  "no subfolders: ClassFolderDataset expects one subfolder for each class", 0,
                  list.folder());
    }
    names = options.classes().empty() ? folders : options.classes();
    require_listed(folders);
    const std::set<std::string> there(folders.begin(), folders.end());
    const ListRules rules = list_rules(options);
    for (const std::string& name : names) {
      const bool exists = there.count(name) != 0;
      const std::size_t found = exists ? list.add(name, rules) : 0;
      if (found == 0 && !options.allow_empty_classes()) throw empty_class(name, exists, rules);
      labels.resize(list.size(), &name - names.data());
    }
    if (labels.empty()) {
      throw Error(ErrorCode::NotFound, "no class has a matching .npy file", 0, list.folder());
    }
  }

  /// Refuses classes() that do not agree with the folders.
  void require_listed(const std::vector<std::string>& folders) const {
    if (const auto twice = first_duplicate({names.begin(), names.end()})) {
      throw Error(ErrorCode::InvalidArgument,
                  "classes() has the name " + in_quotes(*twice) + " twice");
    }
    const std::set<std::string> listed(names.begin(), names.end());
    FewLines others;
    for (const std::string& name : folders) {
      if (listed.count(name) != 0) continue;
      others.add(shown_path(list.folder() / path_of(name)));
    }
    if (others.count() == 0) return;
    throw Error(ErrorCode::Mismatch,
                counted(others.count(), "subfolder") + (others.count() == 1 ? " is" : " are") +
                    " not in classes():" + others.text(),
                0, list.folder());
  }

  Error empty_class(const std::string& name, bool exists, const ListRules& rules) const {
    const char* const advice = "; allow_empty_classes(true) keeps the number of such a class";
    if (exists) return no_files(list, name, rules, advice);
    return Error(ErrorCode::NotFound,
                 "no subfolder for the class " + in_quotes(name) + " of classes()" + advice, 0,
                 list.folder());
  }
};

}  // namespace detail

/// A dataset of the .npy files in a folder, one sample per file. A sample is a TensorExample with
/// the shape and dtype of the file, unless FolderOptions::data_options changes them. The
/// constructor reads only the names; each sample then costs one open, read and close. Copies share
/// the list of files, and up to 256 MiB of memory for the next batches.
class FolderDataset : public Dataset<TensorExample> {
 public:
  /// Lists the folder in O(n log n) for n files. Throws Error: NotFound if the folder does not
  /// exist or has no matching .npy file; Io; Exhausted; InvalidArgument if the device does not
  /// exist.
  explicit FolderDataset(const SampleFolder& folder, const FolderOptions& options = {})
      : FolderDataset(listed(folder, options), options) {}

  /// The files `names` of the folder, in this order, without listing the folder. A name is a path
  /// relative to the folder, in UTF-8; ".npy" is appended if it is missing. Options about the
  /// choice of files throw Error (InvalidArgument). Costs one stat per file. Throws Error: NotFound
  /// if the folder or files do not exist, with the paths of up to ten of them; InvalidArgument if
  /// there are no names.
  FolderDataset(const SampleFolder& folder, const std::vector<std::string>& names,
                const FolderOptions& options = {})
      : FolderDataset(detail::named_files(folder, names, options), options) {}

  /// The file of each sample.
  const FileList& files() const& noexcept { return files_->data().list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// A copy shares the files. A move copies.
  FolderDataset(const FolderDataset&) = default;
  /// As the copy constructor.
  FolderDataset& operator=(const FolderDataset&) = default;
  ~FolderDataset() override = default;

 private:
  using Source = detail::FileSource<TensorExample>;
  FolderDataset(FileList files, const FolderOptions& options)
      : FolderDataset(std::make_shared<const Source>(
            detail::sample_files(std::move(files), options.data_options(), detail::make_pool(),
                                 options.expected()),
            nullptr, nullptr, options)) {}
  explicit FolderDataset(const std::shared_ptr<const Source>& source)
      : Dataset(source), files_(source) {}

  static FileList listed(const SampleFolder& folder, const FolderOptions& options) {
    detail::require_used("FolderDataset", options, {true, false, false});
    return detail::list_folder(folder, detail::list_rules(options));
  }

  std::shared_ptr<const Source> files_;
};

/// A dataset of the .npy files in two folders, or of pairs of files in one: a file in the first
/// folder is a sample, and a file in the second folder is its target. The target has the same
/// relative path, or the one that FolderOptions::target_pattern or target_name says. Copies share
/// what FolderDataset says.
class PairedFolderDataset : public Dataset<Example<>> {
 public:
  /// Lists both folders. Throws Error: as FolderDataset; Mismatch if files have no partner, with
  /// the paths of up to ten of them, if two inputs have the same target, or if an input is its own
  /// target; InvalidArgument if both folders are the same and there is no rule for targets.
  PairedFolderDataset(const SampleFolder& inputs, const SampleFolder& targets,
                      const FolderOptions& options = {})
      : PairedFolderDataset(make_source(inputs, targets, options)) {}

  /// The input file of each sample.
  const FileList& files() const& noexcept { return files_->data().list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// The target file of each sample.
  const FileList& target_files() const& noexcept { return files_->targets().list; }
  void target_files() && = delete;  ///< the list lives as long as the dataset

  /// A copy shares the files. A move copies.
  PairedFolderDataset(const PairedFolderDataset&) = default;
  /// As the copy constructor.
  PairedFolderDataset& operator=(const PairedFolderDataset&) = default;
  ~PairedFolderDataset() override = default;

 private:
  using Source = detail::FileSource<Example<>>;
  explicit PairedFolderDataset(const std::shared_ptr<const Source>& source)
      : Dataset(source), files_(source) {}

  static std::shared_ptr<const Source> make_source(const SampleFolder& inputs,
                                                   const SampleFolder& targets,
                                                   const FolderOptions& options) {
    detail::require_used("PairedFolderDataset", options, {true, true, false});
    FileList input_list = detail::list_folder(inputs, detail::list_rules(options));
    FileList target_list = detail::targets_for(input_list, targets, options);
    const auto pool = detail::make_pool();
    return std::make_shared<const Source>(
        detail::sample_files(std::move(input_list), options.data_options(), pool,
                             options.expected()),
        detail::sample_files(std::move(target_list), options.target_options(), pool), nullptr,
        options);
  }

  std::shared_ptr<const Source> files_;
};

/// A dataset of the files `folder/<class>/*.npy`, one sample per file. The target is the index of
/// its class in classes(): an int64, 0-d tensor. Copies share what FolderDataset says.
class ClassFolderDataset : public Dataset<Example<>> {
 public:
  /// Lists the folder. With recursive(true), the files may be in subfolders of the class folders.
  /// Throws Error: NotFound if the folder does not exist, has no subfolder, or if a class has no
  /// folder or no matching .npy file, see FolderOptions::allow_empty_classes; Mismatch if a
  /// subfolder is not in FolderOptions::classes; Io; Exhausted; InvalidArgument if the device does
  /// not exist, or if a class is in classes() twice.
  explicit ClassFolderDataset(const SampleFolder& folder, const FolderOptions& options = {})
      : ClassFolderDataset(detail::ClassFiles(folder, options), options) {}

  /// The names of the classes: target i is class classes()[i]. They are FolderOptions::classes, or
  /// the subfolders, sorted by bytes or as FolderOptions::natural_order says.
  const std::vector<std::string>& classes() const& noexcept { return *classes_; }
  /// The same for a temporary dataset.
  std::vector<std::string> classes() && { return *classes_; }

  /// The number of each class, by its name: torchvision's class_to_idx.
  std::map<std::string, std::int64_t> class_to_index() const {
    std::map<std::string, std::int64_t> numbers;
    for (const std::string& name : *classes_) {
      numbers.emplace(name, static_cast<std::int64_t>(numbers.size()));
    }
    return numbers;
  }

  /// The file of each sample, ordered by class.
  const FileList& files() const& noexcept { return files_->data().list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// A copy shares the files. A move copies.
  ClassFolderDataset(const ClassFolderDataset&) = default;
  /// As the copy constructor.
  ClassFolderDataset& operator=(const ClassFolderDataset&) = default;
  ~ClassFolderDataset() override = default;

 private:
  using Source = detail::FileSource<Example<>>;
  ClassFolderDataset(detail::ClassFiles files, const FolderOptions& options)
      : ClassFolderDataset(std::make_shared<const std::vector<std::string>>(std::move(files.names)),
                           make_source(std::move(files.list), files.labels, options)) {}
  ClassFolderDataset(std::shared_ptr<const std::vector<std::string>> classes,
                     const std::shared_ptr<const Source>& source)
      : Dataset(source), classes_(std::move(classes)), files_(source) {}

  static std::shared_ptr<const Source> make_source(FileList list,
                                                   const std::vector<std::int64_t>& labels,
                                                   const FolderOptions& options) {
    const LoadOptions& load = options.data_options();
    const auto pool = detail::make_pool();
    return std::make_shared<const Source>(
        detail::sample_files(std::move(list), load, pool, options.expected()), nullptr,
        std::make_shared<const detail::TensorRows>(
            at::tensor(labels, at::kLong),
            LoadOptions().device(load.device()).pinned_memory(load.pinned_memory()), pool),
        options);
  }

  std::shared_ptr<const std::vector<std::string>> classes_;
  std::shared_ptr<const Source> files_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FOLDER_DATASETS_HPP_
