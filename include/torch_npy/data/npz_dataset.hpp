#ifndef TORCH_NPY_DATA_NPZ_DATASET_HPP_
#define TORCH_NPY_DATA_NPZ_DATASET_HPP_

/// @file
/// A dataset of .npz archives, one for each sample.

#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/data/folder_datasets.hpp>
#include <torch_npy/data/npz_source.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/pair_files.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/names.hpp>
#include <torch_npy/io/store.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

template <class E>
class NpzDataset;

/// The archives of an NpzDataset: a folder of .npz files or of a Store, or a list of files.
class NpzArchives {
 public:
  /// The archives of a folder that FolderOptions choose.
  template <class Path,
            class = std::enable_if_t<std::is_convertible_v<const Path&, std::filesystem::path>>>
  NpzArchives(const Path& folder)  // NOLINT(google-explicit-constructor)
      : where_(SampleFolder(folder)) {}
  /// The archives of a store that FolderOptions choose.
  NpzArchives(const Store& store)  // NOLINT(google-explicit-constructor)
      : where_(SampleFolder(store)) {}
  /// These files in this order. With pattern(), recursive() or natural_order(), the dataset throws
  /// Error (InvalidArgument).
  NpzArchives(const std::vector<std::filesystem::path>& files)  // NOLINT
      : where_(FileList(files)) {}
  /// The same.
  NpzArchives(std::initializer_list<std::filesystem::path> files) : where_(FileList(files)) {}
  /// The same for a list of files, or of objects of a Store.
  NpzArchives(const FileList& files)  // NOLINT(google-explicit-constructor)
      : where_(files) {}

 private:
  template <class E>
  friend class NpzDataset;

  std::shared_ptr<const FileList> files(const FolderOptions& options) const {
    if (const auto* const files = std::get_if<FileList>(&where_)) {
      detail::require_used("NpzDataset of a list of files", options, {});
      return std::make_shared<const FileList>(*files);
    }
    detail::require_used("NpzDataset", options, {true, false, false});
    detail::ListRules rules = detail::list_rules(options);
    rules.ending = ".npz";
    return std::make_shared<const FileList>(
        detail::list_folder(std::get<SampleFolder>(where_), rules));
  }

  std::variant<SampleFolder, FileList> where_;
};

/// A dataset of .npz archives, as np.savez and np.savez_compressed write them: one archive for each
/// sample, whose tensors are arrays of the archive. Array names are those of NpzFile, with or
/// without ".npy".
///
///     NpzDataset images("train", "image");                            // TensorExamples
///     NpzDataset digits("train", "image", "label");                   // Examples
///     NpzDataset scenes("train", {"image", "mask", "weight"});        // NamedExamples
///     for (auto& batch : loader) { batch["image"]; batch["mask"]; }   // of scenes.stacked()
///
/// The constructor reads only the names of the files. An archive of at most 128 KiB takes an open,
/// one read and a close; of a larger one its directory and the arrays of the sample are read. The
/// CRC of each array is checked. Samples that are alike are read directly into one tensor. Other
/// arrays of the archive are ignored. Deflated arrays need libdeflate: see NpzFile.
///
/// An archive without one of the arrays is a bad sample: its Error names those that it has.
/// Copies share the list of files, and up to 256 MiB of memory for the next batches.
template <class E = Example<>>
class NpzDataset : public Dataset<E> {
 public:
  /// The array `data` of each archive. Lists a folder in O(n log n) for n files. Throws Error:
  /// NotFound if the folder does not exist or has no matching .npz file; Io; Exhausted;
  /// InvalidArgument if the device does not exist.
  NpzDataset(const NpzArchives& archives, const std::string& data,
             const FolderOptions& options = {})
      : NpzDataset(archives, options, {data}) {
    static_assert(std::is_same_v<E, TensorExample>, "one array makes a TensorExample");
  }

  /// The array `data` of each archive, and `target` of the same archive. target_options() say how
  /// to load `target`; expect() is about `data`. Throws Error: the same.
  NpzDataset(const NpzArchives& archives, const std::string& data, const std::string& target,
             const FolderOptions& options = {})
      : NpzDataset(archives, options, {data, target}) {
    static_assert(std::is_same_v<E, Example<>>, "two arrays make an Example");
  }

  /// The arrays `names` of each archive, under these names. data_options() are for all of them;
  /// expect() and lengths() are about the first one. Throws Error: the same; InvalidArgument if
  /// there is no name, or the same twice.
  NpzDataset(const NpzArchives& archives, const std::vector<std::string>& names,
             const FolderOptions& options = {})
      : NpzDataset(archives, options, names) {
    static_assert(std::is_same_v<E, NamedExample>, "a list of arrays makes a NamedExample");
  }

  /// The same: `{"image", "mask"}`, which would convert to one string, too.
  NpzDataset(const NpzArchives& archives, std::initializer_list<const char*> names,
             const FolderOptions& options = {})
      : NpzDataset(archives, std::vector<std::string>(names.begin(), names.end()), options) {}

 private:
  NpzDataset(const NpzArchives& archives, const FolderOptions& options,
             const std::vector<std::string>& names)
      : Dataset<E>(std::make_shared<const detail::NpzSource<E>>(parts(archives, options, names),
                                                                options)) {}

  static detail::ArchivedParts parts(const NpzArchives& archives, const FolderOptions& options,
                                     const std::vector<std::string>& names) {
    if constexpr (std::is_same_v<E, NamedExample>) require_names(names);
    const auto files = archives.files(options);
    const auto pool = detail::make_pool();
    detail::ArchivedParts parts;
    for (const std::string& name : names) {
      const bool is_target = detail::kHasTarget<E> && !parts.empty();
      const LoadOptions& how = is_target ? options.target_options() : options.data_options();
      detail::require_device(how.device());
      parts.push_back(std::make_shared<const detail::ArchivedPart>(
          files, name, how, pool, parts.empty() ? options.expected() : FolderOptions::Expected()));
    }
    return parts;
  }

  static void require_names(const std::vector<std::string>& names) {
    if (names.empty()) {
      throw Error(ErrorCode::InvalidArgument, "NpzDataset: the list of array names is empty");
    }
    const auto twice = detail::first_duplicate({names.begin(), names.end()});
    if (!twice) return;
    throw Error(ErrorCode::InvalidArgument,
                "NpzDataset: the name " + detail::in_quotes(*twice) + " is there twice");
  }
};

NpzDataset(const NpzArchives&, const std::string&)->NpzDataset<TensorExample>;
NpzDataset(const NpzArchives&, const std::string&, const FolderOptions&)->NpzDataset<TensorExample>;
NpzDataset(const NpzArchives&, const std::string&, const std::string&)->NpzDataset<Example<>>;
NpzDataset(const NpzArchives&, const std::string&, const std::string&, const FolderOptions&)
    ->NpzDataset<Example<>>;
NpzDataset(const NpzArchives&, const std::vector<std::string>&)->NpzDataset<NamedExample>;
NpzDataset(const NpzArchives&, const std::vector<std::string>&, const FolderOptions&)
    ->NpzDataset<NamedExample>;
NpzDataset(const NpzArchives&, std::initializer_list<const char*>)->NpzDataset<NamedExample>;
NpzDataset(const NpzArchives&, std::initializer_list<const char*>, const FolderOptions&)
    ->NpzDataset<NamedExample>;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_NPZ_DATASET_HPP_
