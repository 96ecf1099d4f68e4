#ifndef TORCH_NPY_DATA_ARRAY_DATA_HPP_
#define TORCH_NPY_DATA_ARRAY_DATA_HPP_

/// @file
/// ArrayData: an array whose rows are samples, wherever it is.

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <torch_npy/data/array_files.hpp>
#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/data/stored_rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/store.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// An array whose rows along axis 0 are samples: an .npy file, several of them joined along axis 0
/// (shards), objects of a Store, a StoredArray, or a tensor. Converts from each of them.
///
/// Files are mapped, and so may be larger than memory. As with LoadOptions::mmap, truncating a file
/// meanwhile ends the process.
///
/// A StoredArray is mapped if its bytes are in a file as they are: in an .npy file, or stored in an
/// archive. Its CRC is then not checked. Any other one (deflated, in memory, in another ByteSource)
/// is loaded once, when the dataset is made, as load() does; copies of the dataset share it.
///
/// Of objects of a Store, and of a StoredArray in one, the rows of each batch are read: close ones
/// with one request, and one request for each object to see that it was not replaced.
///
/// Shards may have different lengths, also 0. All other sizes, the dtype and the order of axes have
/// to be those of the first one. Any number of them needs no open files, and at most 16,384
/// mappings: of more shards, those that were not used for the longest time are closed, and mapped
/// again when they are used.
class ArrayData {
 public:
  /// The file at a path.
  template <class Path,
            class = std::enable_if_t<std::is_convertible_v<const Path&, std::filesystem::path>>>
  ArrayData(const Path& path)  // NOLINT(google-explicit-constructor)
      : where_(Paths{path}) {}
  /// The files at several paths, in this order.
  template <class Path,
            class = std::enable_if_t<std::is_convertible_v<const Path&, std::filesystem::path>>>
  ArrayData(const std::vector<Path>& paths)  // NOLINT(google-explicit-constructor)
      : where_(Paths(paths.begin(), paths.end())) {}
  /// The same for `{"x_000.npy", "x_001.npy"}`.
  ArrayData(std::initializer_list<const char*> paths) : where_(Paths(paths.begin(), paths.end())) {}
  /// The same for `{folder / "x_000.npy", folder / "x_001.npy"}`.
  ArrayData(std::initializer_list<std::filesystem::path> paths) : where_(Paths(paths)) {}
  /// The files of a folder, `folder_dataset.files()`, or of a store, `store.list("x_*.npy")`.
  ArrayData(const FileList& files)  // NOLINT(google-explicit-constructor)
      : where_(Paths()) {
    if (files.requests() != nullptr) {
      where_ = files;
    } else {
      where_ = Paths(files);
    }
  }
  /// An array in a file, an archive, memory or any ByteSource: `NpzFile("a.npz").array("x")`.
  ArrayData(StoredArray array)  // NOLINT(google-explicit-constructor)
      : where_(std::move(array)) {}
  /// An array of a store is open(store, "x.npy"), several of them are store.list("x_*.npy").
  ArrayData(const Store&) = delete;
  /// An array in any source is open(source).
  ArrayData(const std::shared_ptr<const ByteSource>&) = delete;
  /// A tensor, which is not copied: later changes of it change the samples. Of the options, dtype()
  /// copies it.
  ArrayData(at::Tensor tensor)  // NOLINT(google-explicit-constructor)
      : where_(std::move(tensor)) {}

  /// Whether it is in several files. @private
  bool internal_is_list() const {
    const auto* const paths = std::get_if<Paths>(&where_);
    const auto* const objects = std::get_if<FileList>(&where_);
    return (paths != nullptr && paths->size() > 1) || (objects != nullptr && objects->size() > 1);
  }

  /// Its rows; with `frames`, each file is one row. Throws Error. @private
  std::shared_ptr<const detail::ArrayRows> internal_rows(const LoadOptions& options,
                                                         std::shared_ptr<detail::BufferPool> pool,
                                                         bool frames = false) const {
    if (const auto* const paths = std::get_if<Paths>(&where_)) {
      return std::make_shared<const detail::StoredRows>(detail::ArrayFiles(*paths), options,
                                                        std::move(pool), frames);
    }
    if (const auto* const objects = std::get_if<FileList>(&where_)) {
      return std::make_shared<const detail::StoredRows>(detail::ArrayFiles(*objects), options,
                                                        std::move(pool), frames);
    }
    if (frames) {
      throw Error(ErrorCode::InvalidArgument,
                  "frames(true) takes a list of files, one for each frame");
    }
    if (const auto* const array = std::get_if<StoredArray>(&where_)) {
      if (!can_read_rows(*array)) return loaded(*array, options, std::move(pool));
      return std::make_shared<const detail::StoredRows>(detail::ArrayFiles(*array), options,
                                                        std::move(pool));
    }
    return std::make_shared<const detail::TensorRows>(std::get<at::Tensor>(where_), options,
                                                      std::move(pool));
  }

 private:
  using Paths = std::vector<std::filesystem::path>;

  /// Whether the bytes of an array are in a file or in a store as they are.
  static bool can_read_rows(const StoredArray& array) {
    return array.internal_with_array([](detail::OpenArray& open) {
      const detail::SourceTraits traits = open.source.internal_traits();
      return traits.range.file != nullptr || traits.is_remote;
    });
  }

  static std::shared_ptr<const detail::ArrayRows> loaded(const StoredArray& array,
                                                         const LoadOptions& options,
                                                         std::shared_ptr<detail::BufferPool> pool) {
    std::size_t begin = 0;  // the first row
    array.internal_about([&] {
      if (array.shape().empty()) return;
      begin = static_cast<std::size_t>(detail::sample_region(options, array.shape())[0].begin);
    });
    LoadOptions whole = options;
    const at::Tensor tensor = array.load(whole.device(c10::kCPU).pinned_memory(false));
    return array.internal_about([&] {
      if (options.squeeze()) detail::require_rows_stay(options, tensor.sizes().size() + 1);
      return std::make_shared<const detail::TensorRows>(
          tensor, LoadOptions().device(options.device()).pinned_memory(options.pinned_memory()),
          std::move(pool), array.name(), begin,
          detail::mix({detail::hash_of(array.internal_short_name()),
                       detail::fingerprint_of(options.region())}));
    });
  }

  std::variant<Paths, FileList, StoredArray, at::Tensor> where_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_DATA_HPP_
