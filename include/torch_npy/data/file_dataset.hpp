#ifndef TORCH_NPY_DATA_FILE_DATASET_HPP_
#define TORCH_NPY_DATA_FILE_DATASET_HPP_

/// @file
/// A dataset of any files.

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/array_source.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// The targets of a FileDataset: files, or the rows of a tensor.
class FileTargets {
 public:
  /// Files.
  FileTargets(const std::vector<std::filesystem::path>& files)  // NOLINT
      : where_(FileList(files)) {}
  /// Files.
  FileTargets(std::initializer_list<std::filesystem::path> files) : where_(FileList(files)) {}
  /// Files, or objects of a Store.
  FileTargets(const FileList& files)  // NOLINT(google-explicit-constructor)
      : where_(files) {}
  /// A tensor of any dtype and of shape (number of files, ...), which is not copied: later changes
  /// of it change the targets.
  FileTargets(at::Tensor labels)  // NOLINT(google-explicit-constructor)
      : where_(std::move(labels)) {}

 private:
  template <class E>
  friend class FileDataset;

  std::variant<FileList, at::Tensor> where_;
};

/// A dataset of any .npy files, or objects of a Store, one sample per file, in the order of the
/// list:
///
///     FileDataset images(files);              // TensorExamples
///     FileDataset pairs(files, mask_files);   // Examples: mask_files[i] is the target of files[i]
///     FileDataset labelled(files, labels);    // Examples: row i of a tensor is the target
///     FileDataset objects(store.objects(names), labels);
///
/// A file may be in the list several times. Whether the files exist shows when they are read, or by
/// verify(). FolderOptions about the choice of files throw Error (InvalidArgument). Uses the bytes
/// of the paths plus 9 bytes per file. Copies share the list, and up to 256 MiB of memory for the
/// next batches.
template <class E = Example<>>
class FileDataset : public Dataset<E> {
 public:
  /// Throws Error: InvalidArgument if there are no files, if a path is empty or contains a zero
  /// byte, or if the device does not exist.
  explicit FileDataset(const FileList& files, const FolderOptions& options = {})
      : FileDataset(std::make_shared<const Source>(files_of(files, options, detail::make_pool()),
                                                   nullptr, nullptr, options)) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need targets");
  }

  /// Target i, a file or a row, is that of file i. target_options() say how targets are loaded, and
  /// whether rows are converted or copied to a device. Throws Error: as above; Mismatch if there
  /// are more or fewer targets than files.
  FileDataset(const FileList& files, const FileTargets& targets, const FolderOptions& options = {})
      : FileDataset(make_source(files, targets, options)) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take one list of files");
  }

  /// The file of each sample.
  const FileList& files() const& noexcept { return files_->data().list; }
  void files() && = delete;  ///< the list lives as long as the dataset

  /// A copy shares the files. A move copies.
  FileDataset(const FileDataset&) = default;
  /// As the copy constructor.
  FileDataset& operator=(const FileDataset&) = default;
  ~FileDataset() override = default;

 private:
  using Source = detail::FileSource<E>;
  using Pool = std::shared_ptr<detail::BufferPool>;

  explicit FileDataset(const std::shared_ptr<const Source>& source)
      : Dataset<E>(source), files_(source) {}

  static std::shared_ptr<const detail::SampleFiles> files_of(const FileList& files,
                                                             const FolderOptions& options,
                                                             Pool pool) {
    detail::require_used("FileDataset", options, {});
    if (files.size() == 0) throw Error(ErrorCode::InvalidArgument, "the list of files is empty");
    return detail::sample_files(files, options.data_options(), std::move(pool), options.expected());
  }

  static std::shared_ptr<const Source> make_source(const FileList& files,
                                                   const FileTargets& targets,
                                                   const FolderOptions& options) {
    const Pool pool = detail::make_pool();
    std::shared_ptr<const detail::SampleFiles> target_files;
    std::shared_ptr<const detail::ArrayRows> labels;
    if (const auto* const tensor = std::get_if<at::Tensor>(&targets.where_)) {
      if (!tensor->defined()) {
        throw Error(ErrorCode::InvalidArgument,
                    "the targets are an undefined tensor: a list without labels has none");
      }
      labels = std::make_shared<const detail::TensorRows>(*tensor, options.target_options(), pool);
    } else {
      target_files =
          detail::sample_files(std::get<FileList>(targets.where_), options.target_options(), pool);
    }
    return std::make_shared<const Source>(files_of(files, options, pool), std::move(target_files),
                                          std::move(labels), options);
  }

  std::shared_ptr<const Source> files_;
};

FileDataset(const FileList&)->FileDataset<TensorExample>;
FileDataset(const FileList&, const FolderOptions&)->FileDataset<TensorExample>;
FileDataset(const FileList&, const FileTargets&)->FileDataset<Example<>>;
FileDataset(const FileList&, const FileTargets&, const FolderOptions&)->FileDataset<Example<>>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FILE_DATASET_HPP_
