#ifndef TORCH_NPY_DATA_FOLDER_DATASETS_HPP_
#define TORCH_NPY_DATA_FOLDER_DATASETS_HPP_

/// @file
/// Datasets of files: from a folder, from two folders, or from one folder per class.

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

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

inline ListRules list_rules(const FolderOptions& options) {
  return {options.pattern(), options.recursive(), options.natural_order()};
}

/// The Error for a folder without samples.
inline Error no_files(const FileList& list, const std::string& subfolder,
                      const FolderOptions& options) {
  std::string reason = "no .npy file in this folder";
  if (options.pattern() != "*") reason += " matches the pattern " + shown(options.pattern());
  const std::size_t folders = list.subfolders(subfolder).size();
  if (folders != 0 && !options.recursive()) {
    reason +=
        "; it has " + counted(folders, "subfolder") + ": set recursive(true) to include subfolders";
  }
  return Error(ErrorCode::NotFound, reason, 0,
               subfolder == "." ? list.folder() : list.folder() / path_of(subfolder));
}

inline FileList list_folder(const std::filesystem::path& folder, const FolderOptions& options) {
  FileList list(folder);
  if (list.add(".", list_rules(options)) == 0) throw no_files(list, ".", options);
  return list;
}

/// Both lists are sorted by the same rule, so partners have equal indices. Throws Error (Mismatch)
/// if a file has no partner.
inline void require_partners(const FileList& inputs, const FileList& targets) {
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
      if (alone++ < kMaxNamed) names += "\n  " + shown_path(list[i]);
    }
  };
  list_alone(inputs, targets);
  list_alone(targets, inputs);
  if (alone > kMaxNamed) names += "\n  and " + std::to_string(alone - kMaxNamed) + " more";
  throw Error(ErrorCode::Mismatch,
              "inputs and targets in " + shown_path(targets.folder()) +
                  " are matched by name, and " + counted(alone, "file") +
                  (alone == 1 ? " has" : " have") + " no partner:" + names,
              0, inputs.folder());
}

/// The files `folder/<class>/*.npy`.
struct ClassFiles {
  ClassFiles(const std::filesystem::path& folder, const FolderOptions& options) : list(folder) {
    names = list.subfolders(".", options.natural_order());
    if (names.empty()) {
      throw Error(ErrorCode::NotFound,
                  "no subfolders: ClassFolderDataset expects one subfolder for each class", 0,
                  folder);
    }
    for (const std::string& name : names) {
      if (list.add(name, list_rules(options)) == 0) throw no_files(list, name, options);
      labels.resize(list.size(), &name - names.data());
    }
  }

  FileList list;
  std::vector<std::string> names;
  std::vector<std::int64_t> labels;  // of each file
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
  explicit FolderDataset(const std::filesystem::path& folder, const FolderOptions& options = {})
      : FolderDataset(std::make_shared<const Source>(
            detail::sample_files(detail::list_folder(folder, options), options.data_options(),
                                 detail::make_pool(), options.expected()),
            nullptr, std::vector<std::int64_t>(), options)) {}

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
  explicit FolderDataset(const std::shared_ptr<const Source>& source)
      : Dataset(source), files_(source) {}

  std::shared_ptr<const Source> files_;
};

/// A dataset of the .npy files in two folders: a file in the first folder is a sample, and the file
/// with the same relative path in the second folder is its target. Copies share what FolderDataset
/// says.
class PairedFolderDataset : public Dataset<Example<>> {
 public:
  /// Lists both folders with the same options. Throws Error: as FolderDataset; Mismatch if files
  /// have no partner, with the paths of up to ten of them.
  PairedFolderDataset(const std::filesystem::path& inputs, const std::filesystem::path& targets,
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

  static std::shared_ptr<const Source> make_source(const std::filesystem::path& inputs,
                                                   const std::filesystem::path& targets,
                                                   const FolderOptions& options) {
    FileList input_list = detail::list_folder(inputs, options);
    FileList target_list = detail::list_folder(targets, options);
    detail::require_partners(input_list, target_list);
    const auto pool = detail::make_pool();
    return std::make_shared<const Source>(
        detail::sample_files(std::move(input_list), options.data_options(), pool,
                             options.expected()),
        detail::sample_files(std::move(target_list), options.target_options(), pool),
        std::vector<std::int64_t>(), options);
  }

  std::shared_ptr<const Source> files_;
};

/// A dataset of the files `folder/<class>/*.npy`, one sample per file. The target is the index of
/// its class in classes(): an int64, 0-d tensor. Copies share what FolderDataset says.
class ClassFolderDataset : public Dataset<Example<>> {
 public:
  /// Lists the folder. With recursive(true), the files may be in subfolders of the class folders.
  /// Throws Error: NotFound if the folder does not exist, has no subfolder, or a class folder has
  /// no matching .npy file; Io; Exhausted; InvalidArgument if the device does not exist.
  explicit ClassFolderDataset(const std::filesystem::path& folder,
                              const FolderOptions& options = {})
      : ClassFolderDataset(detail::ClassFiles(folder, options), options) {}

  /// The names of the classes: target i is class classes()[i]. Sorted by bytes, or as
  /// FolderOptions::natural_order says.
  const std::vector<std::string>& classes() const& noexcept { return *classes_; }
  /// The same for a temporary dataset.
  std::vector<std::string> classes() && { return *classes_; }

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
                           std::make_shared<const Source>(
                               detail::sample_files(std::move(files.list), options.data_options(),
                                                    detail::make_pool(), options.expected()),
                               nullptr, std::move(files.labels), options)) {}
  ClassFolderDataset(std::shared_ptr<const std::vector<std::string>> classes,
                     const std::shared_ptr<const Source>& source)
      : Dataset(source), classes_(std::move(classes)), files_(source) {}

  std::shared_ptr<const std::vector<std::string>> classes_;
  std::shared_ptr<const Source> files_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FOLDER_DATASETS_HPP_
