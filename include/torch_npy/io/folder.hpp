#ifndef TORCH_NPY_IO_FOLDER_HPP_
#define TORCH_NPY_IO_FOLDER_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/file.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Which files of a folder are taken, and in which order.
struct ListRules {
  std::string pattern = "*";
  bool recursive = false;
  bool natural_order = false;
};

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Orders names as strcmp does, except that a run of digits counts as one number: "a9" comes before
/// "a10".
inline bool natural_less(const char* a, const char* b) {
  const char* x = a;
  const char* y = b;
  while (*x != '\0' && *y != '\0') {
    if (is_digit(*x) && is_digit(*y)) {
      while (*x == '0') ++x;
      while (*y == '0') ++y;
      // The longer number is greater, and of two as long the one whose first other digit is.
      int order = 0;
      for (; is_digit(*x) && is_digit(*y); ++x, ++y) {
        if (order == 0) order = *x - *y;
      }
      if (is_digit(*x) != is_digit(*y)) return is_digit(*y);
      if (order != 0) return order < 0;
    } else if (*x != *y) {
      break;
    } else {
      ++x;
      ++y;
    }
  }
  if (*x != *y) return static_cast<unsigned char>(*x) < static_cast<unsigned char>(*y);
  return std::strcmp(a, b) < 0;  // "a01" and "a1"
}

}  // namespace detail

/// @file
/// The files of a folder.

/// The .npy files of a folder, by number, in an order that does not depend on the file system. A
/// million of them take their names and 9 bytes each. Read-only: safe from any thread.
class FileList {
 public:
  /// An input iterator over the paths, which are made anew each time: it gives values.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::filesystem::path;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = value_type;

    /// At file `index`; at size() it is the end. The list has to outlive it.
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
    /// Of iterators over one list: whether they are at the same file.
    bool operator==(const Iterator& other) const { return index_ == other.index_; }
    /// The contrary.
    bool operator!=(const Iterator& other) const { return index_ != other.index_; }

   private:
    const FileList* files_;
    std::size_t index_;
  };

  /// Number of files.
  std::size_t size() const noexcept { return starts_.size(); }
  /// The path of file `index`, which has to be less than size(): it is not checked.
  std::filesystem::path operator[](std::size_t index) const {
    return folder_ / detail::path_of(name(index));
  }
  /// At the first file.
  Iterator begin() const { return {*this, 0}; }
  /// Behind the last one.
  Iterator end() const { return {*this, size()}; }

  /// The path of file `index`, less than size(), relative to the folder, on Windows in UTF-8. It
  /// lives as long as the list.
  const char* name(std::size_t index) const { return names_.data() + starts_[index]; }

  /// The folder that was listed.
  const std::filesystem::path& folder() const noexcept { return folder_; }

  // What follows is for the datasets.

  /// A list without files yet. Throws Error: NotFound, Io. @private
  explicit FileList(std::filesystem::path folder) : folder_(std::move(folder)) {
    detail::with_path(folder_, [&] {
      detail::require_path(folder_);
      open_ = detail::open_folder(folder_);
    });
  }

  /// The folders in `subfolder`, sorted by the bytes of their names. @private
  std::vector<std::string> subfolders(const std::string& subfolder = ".") const {
    std::vector<std::string> names;
    detail::with_path(folder_, [&] {
      detail::Directory(subfolder.c_str(), open_).for_each([&](const char* name, bool is_folder) {
        if (is_folder) names.emplace_back(name);
      });
    });
    std::sort(names.begin(), names.end());
    return names;
  }

  /// Adds the files in `subfolder` ("." for the folder itself), sorted among themselves; gives how
  /// many there were. Links are followed, though not back to a folder that contains them; a folder
  /// that several ways lead to is listed by each of them. @private
  std::size_t add(const std::string& subfolder, const detail::ListRules& rules) {
    const std::size_t first = starts_.size();
    std::vector<detail::FolderIdentity> parents;
    if (subfolder != ".") {
      if (const auto own = detail::identity_of(open_)) parents.push_back(*own);
    }
    add_unsorted(subfolder, subfolder == "." ? "" : subfolder + '/', rules, parents);
    names_.shrink_to_fit();
    starts_.shrink_to_fit();
    sort(first, rules.natural_order);
    return starts_.size() - first;
  }

  /// File `index`, less than size(). @private
  detail::File open(std::size_t index) const { return {name(index), open_}; }

 private:
  void add_unsorted(const std::string& subfolder, const std::string& prefix,
                    const detail::ListRules& rules, std::vector<detail::FolderIdentity>& parents) {
    std::vector<std::string> deeper;  // listed when this one is closed: descriptors are few
    detail::with_path(folder_ / detail::path_of(prefix), [&] {
      detail::Directory directory(subfolder.c_str(), open_);
      const detail::FolderIdentity self = directory.identity();
      if (std::find(parents.begin(), parents.end(), self) != parents.end()) return;
      parents.push_back(self);
      directory.for_each([&](const char* name, bool is_folder) {
        const std::size_t size = std::strlen(name);
        if (is_folder) {
          if (rules.recursive) deeper.push_back(prefix + name);
        } else if (size > 4 && std::memcmp(name + size - 4, ".npy", 4) == 0 &&
                   (rules.pattern == "*" || detail::matches(rules.pattern, name))) {
          starts_.push_back(names_.size());
          names_.append(prefix).append(name, size + 1);
        }
      });
    });
    const std::size_t depth = parents.size();
    for (const std::string& folder : deeper) {
      add_unsorted(folder, folder + '/', rules, parents);
      parents.resize(depth);
    }
  }

  void sort(std::size_t first, bool natural_order) {
    const auto begin = starts_.begin() + static_cast<std::ptrdiff_t>(first);
    if (natural_order) {
      std::sort(begin, starts_.end(), [&](std::uint64_t a, std::uint64_t b) {
        return detail::natural_less(names_.data() + a, names_.data() + b);
      });
      return;
    }
    // Comparing names means to fetch them from all over the memory. The eight bytes behind what all
    // have in common lie beside the number instead, and nearly always decide: listing a million
    // files took 0.40 s this way, of which readdir is 0.29 s, and 0.79 s without.
    struct Key {
      std::uint64_t bytes;
      std::uint64_t start;
    };
    const std::size_t common = common_prefix(first);
    std::vector<Key> keys;
    keys.reserve(starts_.size() - first);
    for (auto start = begin; start != starts_.end(); ++start) {
      std::uint64_t bytes = 0;
      const char* name = names_.data() + *start + common;
      for (int i = 0; i < 8; ++i) {
        bytes = bytes << 8 | static_cast<unsigned char>(*name);
        if (*name != '\0') ++name;
      }
      keys.push_back({bytes, *start});
    }
    std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
      if (a.bytes != b.bytes) return a.bytes < b.bytes;
      return std::strcmp(names_.data() + a.start + common, names_.data() + b.start + common) < 0;
    });
    std::transform(keys.begin(), keys.end(), begin, [](const Key& key) { return key.start; });
  }

  /// Bytes that all names from `first` on begin with.
  std::size_t common_prefix(std::size_t first) const {
    if (first == starts_.size()) return 0;
    std::size_t length = std::strlen(name(first));
    for (std::size_t i = first; i != starts_.size(); ++i) {
      const char* const other = name(i);
      std::size_t same = 0;
      while (same != length && other[same] == name(first)[same]) ++same;
      length = same;
    }
    return length;
  }

  std::filesystem::path folder_;
  detail::OpenFolder open_;
  std::string names_;                  // each ended by a zero
  std::vector<std::uint64_t> starts_;  // in names_
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FOLDER_HPP_
