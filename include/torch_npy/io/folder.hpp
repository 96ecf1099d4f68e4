#ifndef TORCH_NPY_IO_FOLDER_HPP_
#define TORCH_NPY_IO_FOLDER_HPP_

/// @file
/// FileList: the files of a folder, or any other list of files.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/names.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/io/object_store.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/io/store.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// The .npy or .npz files of a folder, in an order that does not depend on the file system; or a
/// list of any files, in its order; or the objects of a Store. Uses the bytes of the names plus 9
/// bytes per file, 25 per object. Read-only: safe from any thread.
class FileList {
 public:
  /// An input iterator. It returns each path by value.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::filesystem::path;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = value_type;

    /// At file `index`, or at the end for size(). The list must outlive the iterator.
    Iterator(const FileList& files, std::size_t index) : files_(&files), index_(index) {}
    /// The path of the file.
    value_type operator*() const { return (*files_)[index_]; }
    /// The next file.
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    /// The next file.
    void operator++(int) { ++index_; }
    /// Equality of two iterators over the same list.
    bool operator==(const Iterator& other) const { return index_ == other.index_; }
    /// Inequality.
    bool operator!=(const Iterator& other) const { return index_ != other.index_; }

   private:
    const FileList* files_;
    std::size_t index_;
  };

  /// The paths of all files, for what takes a list of files: `FileDataset(folder.files(), labels)`.
  operator std::vector<std::filesystem::path>() const {  // NOLINT(google-explicit-constructor)
    return {begin(), end()};
  }
  /// Number of files.
  std::size_t size() const noexcept { return starts_.size(); }
  /// The path of file `index`, which must be less than size(); not checked. The URI of an object.
  std::filesystem::path operator[](std::size_t index) const {
    if (store_) return detail::path_of(store_->uri(name(index)));
    return folder_ / detail::path_of(name(index));
  }
  /// Iterator at the first file.
  Iterator begin() const { return {*this, 0}; }
  /// Iterator past the last file.
  Iterator end() const { return {*this, size()}; }

  /// The path of file `index` relative to the folder, or the whole path if there is no folder;
  /// `index` must be less than size(). UTF-8 on Windows. Valid as long as the list.
  const char* name(std::size_t index) const { return names_.data() + starts_[index]; }

  /// The folder that was listed, or its URI. Empty for a list of any files.
  const std::filesystem::path& folder() const noexcept { return folder_; }

  // Used by the datasets.

  /// An empty list. Throws Error: NotFound, Io. @private
  explicit FileList(const SampleFolder& folder) : folder_(folder.path()), store_(folder.store()) {
    if (store_) return;
    detail::with_path(folder_, [&] {
      detail::require_path(folder_);
      open_ = opened(folder_);
    });
  }

  /// An empty list of the same folder. @private
  FileList empty_copy() const {
    return FileList(store_ ? SampleFolder(*store_) : SampleFolder(folder_));
  }

  /// These files, which need not exist. Relative paths are relative to the working directory at
  /// this moment. Throws Error (InvalidArgument) if a path is empty or contains a zero byte.
  FileList(
      const std::vector<std::filesystem::path>& files) {  // NOLINT(google-explicit-constructor)
    bool is_relative = false;
    for (const std::filesystem::path& file : files) {
      append(detail::utf8_of(file));
      is_relative = is_relative || file.is_relative();
    }
    if (is_relative) detail::with_path(".", [&] { open_ = opened("."); });
  }
  /// The same for `{"a.npy", "b.npy"}`.
  FileList(std::initializer_list<std::filesystem::path> files)
      : FileList(std::vector<std::filesystem::path>(files)) {}
  /// The same for `{names.begin(), names.end()}`.
  template <class Iterator, class = typename std::iterator_traits<Iterator>::iterator_category,
            class = std::enable_if_t<!std::is_pointer_v<Iterator>>>
  FileList(Iterator begin, Iterator end)
      : FileList(std::vector<std::filesystem::path>(begin, end)) {}

  /// The folders in `subfolder`, sorted by the bytes of their names. @private
  std::vector<std::string> subfolders(const std::string& subfolder = ".",
                                      bool natural_order = false) const {
    std::vector<std::string> names;
    if (store_)
      names = subfolders_of_store(subfolder);
    else
      detail::with_path(folder_, [&] {
        detail::Directory(subfolder.c_str(), *open_)
            .for_each([&](const char* name, bool is_folder) {
              if (is_folder) names.emplace_back(name);
            });
      });
    std::sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
      return natural_order ? detail::natural_less(a.c_str(), b.c_str()) : a < b;
    });
    return names;
  }

  /// Adds the files in `subfolder` ("." for the folder itself), sorted among themselves, and
  /// returns their number. Follows links, except back to a folder that contains them. A folder that
  /// is reached in several ways is listed once for each. @private
  std::size_t add(const std::string& subfolder, const detail::ListRules& rules) {
    const std::size_t first = starts_.size();
    const std::string prefix = subfolder == "." ? "" : subfolder + '/';
    if (store_) {
      add_objects(prefix, rules);
    } else {
      std::vector<detail::FolderIdentity> parents;
      if (subfolder != ".") {
        if (const auto own = detail::identity_of(*open_)) parents.push_back(*own);
      }
      add_unsorted(subfolder, prefix, rules, parents);
    }
    names_.shrink_to_fit();
    starts_.shrink_to_fit();
    const detail::NameOffsets added(starts_.begin() + static_cast<std::ptrdiff_t>(first),
                                    starts_.end());
    detail::sort_names(names_, starts_, first, rules.natural_order);
    if (store_) sort_objects(added, first);
    return starts_.size() - first;
  }

  /// Calls `work`, for which a store is listed once: with all objects of the folder, at any depth.
  /// @private
  template <class Work>
  void with_one_listing(const Work& work) {
    if (store_) {
      std::vector<StoreObject> objects;
      store_->internal_list("", /*recursive=*/true,
                            [&](StoreObject object) { objects.push_back(std::move(object)); });
      std::sort(objects.begin(), objects.end(),
                [](const StoreObject& a, const StoreObject& b) { return a.name < b.name; });
      listing_ = std::make_shared<const std::vector<StoreObject>>(std::move(objects));
    }
    work();
    listing_ = nullptr;
  }

  /// Adds a file by its path relative to the folder. Throws Error (InvalidArgument). @private
  void append(const std::string& name) {
    if (name.empty() || name.find('\0') != name.npos) {
      throw Error(ErrorCode::InvalidArgument,
                  "file " + std::to_string(size()) + " of a list of files: the path " +
                      (name.empty() ? "is empty" : detail::shown(name) + " contains a zero byte"));
    }
    starts_.push_back(names_.size());
    names_.append(name.c_str(), name.size() + 1);
    if (store_) objects_.emplace_back();
  }

  /// Takes what is known of objects of the same names in the same store. @private
  void take_objects(const FileList& listed) {
    if (!store_) return;
    std::vector<std::size_t> order(listed.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    const auto less = [&](std::size_t i, const char* name) {
      return std::strcmp(listed.name(i), name) < 0;
    };
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return less(a, listed.name(b)); });
    for (std::size_t i = 0; i < size(); ++i) {
      const auto found = std::lower_bound(order.begin(), order.end(), name(i), less);
      if (found == order.end() || std::strcmp(listed.name(*found), name(i)) != 0) continue;
      objects_[i] = listed.objects_[*found];
    }
  }

  /// The numbers of the files that do not exist, or are folders. Costs one stat per file, on at
  /// least 32 threads, because they wait for the disk; or one request per object that was not
  /// listed. @private
  std::vector<std::size_t> missing() {
    std::vector<char> is_missing(size());
    const auto find = [&](std::size_t i) {
      if (store_) {
        if (objects_[i].size != kUnknown) return;
        const auto object = store_->internal_find(name(i));
        if (object) objects_[i] = {object->size, object->modified};
        is_missing[i] = !object;
        return;
      }
      std::error_code error;
      const auto type = std::filesystem::status((*this)[i], error).type();
      is_missing[i] = type == std::filesystem::file_type::not_found ||
                      type == std::filesystem::file_type::directory;
    };
    if (const auto* const requests = this->requests()) {
      requests->for_each_index(size(), find);
    } else {
      detail::for_each_index(size(), (std::max)(std::size_t{32}, detail::processor_count()), find);
    }
    std::vector<std::size_t> missing;
    for (std::size_t i = 0; i < size(); ++i) {
      if (is_missing[i] != 0) missing.push_back(i);
    }
    return missing;
  }

  /// For each file the number of the first one with the same path; nothing if all paths differ.
  /// @private
  std::vector<std::size_t> first_of_same() const {
    std::vector<std::string> paths;  // if the names may spell a path in several ways
    if (!store_ && !has_plain_names()) {
      for (const std::filesystem::path& path : *this) {
        paths.push_back(detail::utf8_of(std::filesystem::absolute(path).lexically_normal()));
      }
    }
    const auto compare = [&](std::size_t a, std::size_t b) {
      return paths.empty() ? std::strcmp(name(a), name(b)) : paths[a].compare(paths[b]);
    };
    const auto less = [&](std::size_t a, std::size_t b) { return compare(a, b) < 0; };
    std::vector<std::size_t> order(size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (!std::is_sorted(order.begin(), order.end(), less)) {
      std::stable_sort(order.begin(), order.end(), less);
    }
    std::vector<std::size_t> first(size());
    bool differ = true;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const bool is_same = i != 0 && compare(order[i - 1], order[i]) == 0;
      first[order[i]] = is_same ? first[order[i - 1]] : order[i];
      differ = differ && !is_same;
    }
    return differ ? std::vector<std::size_t>() : first;
  }

  /// True if both are lists of the same folder, also by another path. @private
  bool has_folder_of(const FileList& other) const {
    if (store_ || other.store_) {
      return store_ && other.store_ && store_->internal_is_same(*other.store_);
    }
    const auto own = detail::identity_of(*open_);
    const auto others = detail::identity_of(*other.open_);
    return own && others && *own == *others;
  }

  /// The length of the folder that all names begin with; 0 for the list of a folder. @private
  std::size_t common_folder() const {
    if (size() == 0 || !folder_.empty()) return 0;
    const std::string_view common(name(0), detail::common_prefix(names_, starts_));
    return common.find_last_of("/\\") + 1;
  }

  /// The requests to the store; null for files. @private
  const detail::StoreRequests* requests() const {
    return store_ ? store_->internal_access().requests.get() : nullptr;
  }

  /// Whether all of the objects fit into a cache on this machine's disk: parts of them are then
  /// read from there. Looks at all sizes. @private
  bool fits_cache() const {
    if (!store_ || store_->internal_access().cache == nullptr) return false;
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < size(); ++i) bytes += size_of(i);
    return store_->internal_access().cache->fits(bytes);
  }

  /// The bytes of object `index`; 0 if its size is not known yet. @private
  std::uint64_t size_of(std::size_t index) const {
    return objects_[index].size == kUnknown ? 0 : objects_[index].size;
  }

  /// File `index`, less than size(), of a list of files. @private
  detail::File open(std::size_t index) const { return {name(index), *open_}; }

  /// File or object `index`. @private
  std::shared_ptr<const ByteSource> source(std::size_t index, detail::ObjectUse use) const {
    if (!store_) return std::make_shared<const detail::File>(open(index));
    return store_->internal_access().open(object(index), use);
  }

  /// Calls `call` with File or object `index` as a source. @private
  template <class Call>
  auto with_source(std::size_t index, detail::ObjectUse use, const Call& call) const {
    if (store_) return call(*source(index, use));
    const detail::File file = open(index);
    return call(file);
  }

  /// Calls `work`; its Errors are about file `index`. Of an object that was replaced or removed
  /// after the store was listed, they say that, with the code Io. @private
  template <class Work>
  auto about(std::size_t index, const Work& work) const -> decltype(work()) {
    try {
      return detail::with_path({}, work);
    } catch (const Error& error) {
      const bool is_of_content =
          error.code() != ErrorCode::Io && error.code() != ErrorCode::InvalidArgument &&
          error.code() != ErrorCode::Exhausted && error.code() != ErrorCode::OutOfMemory;
      if (store_ && is_of_content) requests()->require_unchanged(object(index));
      throw detail::ErrorContext::at(error, (*this)[index]);
    }
  }

 private:
  static constexpr std::uint64_t kUnknown = UINT64_MAX;

  static std::shared_ptr<const detail::OpenFolder> opened(const std::filesystem::path& folder) {
    return std::make_shared<const detail::OpenFolder>(detail::open_folder(folder));
  }

  /// True if all names are absolute or all are relative, and none has a part that means nothing.
  bool has_plain_names() const {
    std::size_t absolute = 0;
    for (std::size_t i = 0; i < size(); ++i) {
      const std::string_view text = name(i);
      if (text.find("./") != text.npos || text.find("//") != text.npos) return false;
      absolute += text[0] == '/' || (text.size() > 1 && text[1] == ':') ? 1 : 0;
    }
    return absolute == 0 || absolute == size();
  }

  /// What is known of an object besides its name.
  struct Object {
    std::uint64_t size = kUnknown;
    std::int64_t modified = 0;
  };

  /// An object whose name is in a list is looked for when it is first used.
  StoreObject object(std::size_t index) const {
    if (objects_[index].size == kUnknown) {
      if (auto object = store_->internal_find(name(index))) return std::move(*object);
      throw Error(ErrorCode::NotFound, "there is no such object", 0, (*this)[index]);
    }
    return {store_->internal_name(name(index)), objects_[index].size, objects_[index].modified};
  }

  /// Whether a name, relative to the folder, is one of a file to list.
  static bool is_listed(std::string_view name, const detail::ListRules& rules) {
    const std::string_view base = name.substr(name.rfind('/') + 1);  // npos + 1 is 0
    const bool is_hidden = name[0] == '.' || name.find("/.") != name.npos;
    return !is_hidden && base.size() > rules.ending.size() &&
           detail::has_ending(base, rules.ending) &&
           (rules.pattern == "*" || detail::matches(rules.pattern, std::string(base).c_str()));
  }

  /// As Store::internal_list(), from the listing of the whole folder if there is one.
  void list_objects(const std::string& prefix, bool recursive,
                    const std::function<void(StoreObject)>& found) const {
    if (listing_ == nullptr) return store_->internal_list(prefix, recursive, found);
    const auto less = [](const StoreObject& object, const std::string& name) {
      return object.name < name;
    };
    std::string folder;  // the last one that was found
    for (auto it = std::lower_bound(listing_->begin(), listing_->end(), prefix, less);
         it != listing_->end() && detail::starts_with(it->name, prefix); ++it) {
      const std::size_t slash = it->name.find('/', prefix.size());
      if (recursive || slash == it->name.npos) {
        found(*it);
      } else if (folder.empty() || it->name.compare(0, folder.size(), folder) != 0) {
        folder = it->name.substr(0, slash + 1);
        found({folder, 0, 0});
      }
    }
  }

  void add_objects(const std::string& prefix, const detail::ListRules& rules) {
    list_objects(prefix, rules.recursive, [&](const StoreObject& object) {
      const std::string_view name = object.name;
      if (object.name.find('\0') != object.name.npos || name.size() <= prefix.size() ||
          !is_listed(name.substr(prefix.size()), rules)) {
        return;
      }
      append(object.name);
      objects_.back() = {object.size, object.modified};
    });
  }

  /// Puts what is known of the objects from number `first` on, which were added in the order
  /// `added`, into the order of their names.
  void sort_objects(const detail::NameOffsets& added, std::size_t first) {
    const std::vector<Object> unsorted(objects_.begin() + static_cast<std::ptrdiff_t>(first),
                                       objects_.end());
    for (std::size_t i = first; i < starts_.size(); ++i) {
      const auto at = std::lower_bound(added.begin(), added.end(), starts_[i]);
      objects_[i] = unsorted[static_cast<std::size_t>(at - added.begin())];
    }
  }

  std::vector<std::string> subfolders_of_store(const std::string& subfolder) const {
    const std::string prefix = subfolder == "." ? "" : subfolder + '/';
    std::vector<std::string> names;
    list_objects(prefix, /*recursive=*/false, [&](const StoreObject& object) {
      if (!detail::has_ending(object.name, "/") || object.name.size() <= prefix.size() + 1) return;
      std::string name = object.name.substr(prefix.size());
      name.pop_back();
      if (name[0] != '.') names.push_back(std::move(name));
    });
    return names;
  }

  void add_unsorted(const std::string& subfolder, const std::string& prefix,
                    const detail::ListRules& rules, std::vector<detail::FolderIdentity>& parents) {
    std::vector<std::string> deeper;  // listed after this one is closed, to save file descriptors
    detail::with_path(folder_ / detail::path_of(prefix), [&] {
      detail::Directory directory(subfolder.c_str(), *open_);
      const detail::FolderIdentity self = directory.identity();
      if (std::find(parents.begin(), parents.end(), self) != parents.end()) return;
      parents.push_back(self);
      directory.for_each([&](const char* name, bool is_folder) {
        const std::string_view text = name;
        if (is_folder) {
          if (rules.recursive) deeper.push_back(prefix + name);
        } else if (text.size() > rules.ending.size() && detail::has_ending(text, rules.ending) &&
                   (rules.pattern == "*" || detail::matches(rules.pattern, name))) {
          starts_.push_back(names_.size());
          names_.append(prefix).append(name, text.size() + 1);
        }
      });
    });
    const std::size_t depth = parents.size();
    for (const std::string& folder : deeper) {
      add_unsorted(folder, folder + '/', rules, parents);
      parents.resize(depth);
    }
  }

  std::filesystem::path folder_;
  std::optional<Store> store_;  // whose objects these are
  std::shared_ptr<const detail::OpenFolder> open_ = std::make_shared<const detail::OpenFolder>();
  std::shared_ptr<const std::vector<StoreObject>> listing_;  // of all the folder; may be null
  std::string names_;
  detail::NameOffsets starts_;
  std::vector<Object> objects_;  // of a store; empty for files
};

inline FileList Store::list(const std::string& pattern, bool recursive) const {
  FileList list{SampleFolder(*this)};
  const std::string ending = detail::has_ending(pattern, ".npz") ? ".npz" : ".npy";
  if (list.add(".", {pattern, recursive, false, ending}) != 0) return list;
  throw Error(ErrorCode::NotFound,
              "no " + ending + " object here matches the pattern " + detail::shown(pattern), 0,
              list.folder());
}

inline FileList Store::objects(const std::vector<std::string>& names) const {
  FileList list{SampleFolder(*this)};
  for (const std::string& name : names) list.append(name);
  detail::FewLines missing;
  for (const std::size_t i : list.missing()) missing.add(detail::shown_path(list[i]));
  if (missing.count() == 0) return list;
  throw Error(ErrorCode::NotFound,
              detail::counted(missing.count(), "object") + " of the list " +
                  (missing.count() == 1 ? "does" : "do") + " not exist:" + missing.text(),
              0, list.folder());
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FOLDER_HPP_
