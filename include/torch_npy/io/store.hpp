#ifndef TORCH_NPY_IO_STORE_HPP_
#define TORCH_NPY_IO_STORE_HPP_

/// @file
/// Store: objects of an object store, for open() and the datasets. SampleFolder: a folder, or a
/// Store.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/disk_cache.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/io/object_store.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

class FileList;

/// The objects of an ObjectStore, or those of one of its folders. Used like a folder:
///
///     FolderDataset images(store);                        // and the other datasets of folders
///     NpzDataset scans(store.folder("scans"), "image", "label");
///     FileDataset listed(store.objects({"a.npy", "b.npy"}), labels);
///     ArrayDataset rows(store.list("x_*.npy"));          // reads the rows of each batch
///     StoredArray array = open(store, "x.npy");
///     NpzFile archive(store.object("x.npz"));
///
/// A store is listed once, when a dataset is made. The listing gives the size of each object, so
/// that an object of up to 4 MiB takes one request; a larger one is read with several at the same
/// time. A batch asks for all its samples at once, StoreOptions::requests() at a time.
///
/// An Error of the store (Io) is never about a sample: the datasets throw it, whatever
/// on_bad_file() says. So is that an object was replaced or removed after the listing, if its size
/// has changed or if it was read with several requests; an object that was replaced by one of the
/// same size and is read with one request gives the new content.
///
/// Copies are cheap and share the requests and the threads. Safe from any thread.
class Store {
 public:
  /// All objects of `objects`. Throws Error (InvalidArgument) for a null pointer.
  explicit Store(std::shared_ptr<const ObjectStore> objects, const StoreOptions& options = {})
      : access_{std::make_shared<const detail::StoreRequests>(std::move(objects), options),
                nullptr} {}

  /// The objects whose names begin with `name` and a slash. Requests nothing.
  Store folder(const std::string& name) const {
    Store inner = *this;
    inner.folder_ += name;
    if (!inner.folder_.empty() && inner.folder_.back() != '/') inner.folder_ += '/';
    return inner;
  }

  /// The same objects, which are kept in `folder` when they have been read whole: up to `bytes`
  /// bytes, then those that were not used for the longest time are removed. Known by the name, the
  /// size and the time of the listing, so that a new content is read again. Any number of processes
  /// may use the folder at the same time; an object is in it completely or not at all. Throws
  /// Error: Io; InvalidArgument if `bytes` is 0.
  Store cached_on_disk(const std::filesystem::path& folder, std::uint64_t bytes) const {
    Store cached = *this;
    cached.access_.cache = std::make_shared<const detail::DiskCache>(folder, bytes);
    return cached;
  }

  /// The .npy objects whose names match a shell pattern, or the .npz objects if it ends with
  /// ".npz", sorted by the bytes of their names. One listing. Throws Error: NotFound if there is
  /// none; Io.
  FileList list(const std::string& pattern = "*.npy", bool recursive = false) const;
  /// The objects with these names, in this order. One request for each. Throws Error: NotFound,
  /// with up to ten of those that do not exist; Io; InvalidArgument for an empty name.
  FileList objects(const std::vector<std::string>& names) const;

  /// An object, for NpzFile and open(). One request, for its size. Throws Error: NotFound, Io.
  std::shared_ptr<const ByteSource> object(const std::string& name) const {
    const auto found = internal_find(name);
    if (found) return access_.open(*found, detail::ObjectUse::Parts);
    throw Error(ErrorCode::NotFound, "there is no such object", 0, detail::path_of(uri(name)));
  }

  /// The URI of an object, or of the folder.
  std::string uri(const std::string& name = {}) const {
    return access_.requests->objects().uri(folder_ + name);
  }

  // Used by FileList.

  /// @private
  const detail::StoreAccess& internal_access() const noexcept { return access_; }
  /// @private
  std::string internal_name(const std::string& name) const { return folder_ + name; }
  /// @private
  std::optional<StoreObject> internal_find(const std::string& name) const {
    return access_.requests->find(folder_ + name);
  }
  /// Names are relative to this folder. @private
  void internal_list(const std::string& subfolder, bool recursive,
                     const std::function<void(StoreObject)>& found) const {
    detail::with_path(detail::path_of(uri(subfolder)), [&] {
      access_.requests->objects().list(folder_ + subfolder, recursive, [&](StoreObject object) {
        object.name.erase(0, folder_.size());
        found(std::move(object));
      });
    });
  }
  /// @private
  bool internal_is_same(const Store& other) const {
    return uri() == other.uri() &&
           access_.requests->objects().server() == other.access_.requests->objects().server();
  }

 private:
  detail::StoreAccess access_;
  std::string folder_;  // empty, or ends with "/"
};

/// Where a dataset finds its files: a folder of the file system, or a Store. Converts from both.
class SampleFolder {
 public:
  /// The folder at a path.
  template <class Path,
            class = std::enable_if_t<std::is_convertible_v<const Path&, std::filesystem::path>>>
  SampleFolder(const Path& path)  // NOLINT(google-explicit-constructor,modernize-pass-by-value)
      : path_(path) {}
  /// The objects of a store.
  SampleFolder(const Store& store)  // NOLINT(google-explicit-constructor)
      : path_(detail::path_of(store.uri())), store_(store) {}

  /// The path, or the URI of the store.
  const std::filesystem::path& path() const noexcept { return path_; }
  /// The store, if it is one.
  const std::optional<Store>& store() const noexcept { return store_; }

 private:
  std::filesystem::path path_;
  std::optional<Store> store_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_STORE_HPP_
