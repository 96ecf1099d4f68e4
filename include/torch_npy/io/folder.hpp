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

struct ListRules {
  std::string pattern = "*";
  bool recursive = false;
  bool natural_order = false;
  std::string ending = ".npy";
};

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Orders names like strcmp, except that a run of digits compares as one number: "a9" is less than
/// "a10".
inline bool natural_less(const char* a, const char* b) {
  const char* x = a;
  const char* y = b;
  while (*x != '\0' && *y != '\0') {
    if (is_digit(*x) && is_digit(*y)) {
      while (*x == '0') ++x;
      while (*y == '0') ++y;
      // The longer number is greater; of two equally long ones, the one with the greater first
      // different digit.
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
/// The list of the files of a folder.

/// The .npy or .npz files of a folder, in an order that does not depend on the file system. Uses
/// the bytes of the names plus 9 bytes per file. Read-only: safe from any thread.
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

  /// Number of files.
  std::size_t size() const noexcept { return starts_.size(); }
  /// The path of file `index`, which must be less than size(); not checked.
  std::filesystem::path operator[](std::size_t index) const {
    return folder_ / detail::path_of(name(index));
  }
  /// Iterator at the first file.
  Iterator begin() const { return {*this, 0}; }
  /// Iterator past the last file.
  Iterator end() const { return {*this, size()}; }

  /// The path of file `index` relative to the folder; `index` must be less than size(). UTF-8 on
  /// Windows. Valid as long as the list.
  const char* name(std::size_t index) const { return names_.data() + starts_[index]; }

  /// The folder that was listed.
  const std::filesystem::path& folder() const noexcept { return folder_; }

  // Used by the datasets.

  /// An empty list. Throws Error: NotFound, Io. @private
  explicit FileList(std::filesystem::path folder) : folder_(std::move(folder)) {
    detail::with_path(folder_, [&] {
      detail::require_path(folder_);
      open_ = detail::open_folder(folder_);
    });
  }

  /// The folders in `subfolder`, sorted by the bytes of their names. @private
  std::vector<std::string> subfolders(const std::string& subfolder = ".",
                                      bool natural_order = false) const {
    std::vector<std::string> names;
    detail::with_path(folder_, [&] {
      detail::Directory(subfolder.c_str(), open_).for_each([&](const char* name, bool is_folder) {
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
    std::vector<std::string> deeper;  // listed after this one is closed, to save file descriptors
    detail::with_path(folder_ / detail::path_of(prefix), [&] {
      detail::Directory directory(subfolder.c_str(), open_);
      const detail::FolderIdentity self = directory.identity();
      if (std::find(parents.begin(), parents.end(), self) != parents.end()) return;
      parents.push_back(self);
      directory.for_each([&](const char* name, bool is_folder) {
        const std::size_t size = std::strlen(name);
        if (is_folder) {
          if (rules.recursive) deeper.push_back(prefix + name);
        } else if (size > rules.ending.size() &&
                   rules.ending == std::string_view(name + size - rules.ending.size()) &&
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
    // Comparing whole names costs a cache miss each. So the key holds the eight bytes after the
    // common prefix, which decide almost every comparison.
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

  /// The length of the common prefix of all names from `first` on.
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
  std::string names_;                  // each terminated by a zero byte
  std::vector<std::uint64_t> starts_;  // offsets in names_
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FOLDER_HPP_
