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
#include <system_error>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/text.hpp>

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

/// Names that are each terminated by a zero byte, by their offsets in one text.
using NameOffsets = std::vector<std::uint64_t>;

/// The length of the common prefix of all names from number `first` on.
inline std::size_t common_prefix(const std::string& names, const NameOffsets& starts,
                                 std::size_t first = 0) {
  if (first == starts.size()) return 0;
  const char* const one = names.data() + starts[first];
  std::size_t length = std::strlen(one);
  for (std::size_t i = first; i != starts.size(); ++i) {
    const char* const other = names.data() + starts[i];
    std::size_t same = 0;
    while (same != length && other[same] == one[same]) ++same;
    length = same;
  }
  return length;
}

/// Sorts the names from number `first` on.
inline void sort_names(const std::string& names, NameOffsets& starts, std::size_t first,
                       bool natural_order) {
  const auto begin = starts.begin() + static_cast<std::ptrdiff_t>(first);
  if (natural_order) {
    std::sort(begin, starts.end(), [&](std::uint64_t a, std::uint64_t b) {
      return natural_less(names.data() + a, names.data() + b);
    });
    return;
  }
  // Comparing whole names costs a cache miss each. So the key holds the eight bytes after the
  // common prefix, which decide almost every comparison.
  struct Key {
    std::uint64_t bytes;
    std::uint64_t start;
  };
  const std::size_t common = common_prefix(names, starts, first);
  std::vector<Key> keys;
  keys.reserve(starts.size() - first);
  for (auto start = begin; start != starts.end(); ++start) {
    std::uint64_t bytes = 0;
    const char* name = names.data() + *start + common;
    for (int i = 0; i < 8; ++i) {
      bytes = bytes << 8 | static_cast<unsigned char>(*name);
      if (*name != '\0') ++name;
    }
    keys.push_back({bytes, *start});
  }
  std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
    if (a.bytes != b.bytes) return a.bytes < b.bytes;
    return std::strcmp(names.data() + a.start + common, names.data() + b.start + common) < 0;
  });
  std::transform(keys.begin(), keys.end(), begin, [](const Key& key) { return key.start; });
}

}  // namespace detail

/// @file
/// FileList: the files of a folder, or any other list of files.

/// The .npy or .npz files of a folder, in an order that does not depend on the file system; or a
/// list of any files, in its order. Uses the bytes of the names plus 9 bytes per file. Read-only:
/// safe from any thread.
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
  /// The path of file `index`, which must be less than size(); not checked.
  std::filesystem::path operator[](std::size_t index) const {
    return folder_ / detail::path_of(name(index));
  }
  /// Iterator at the first file.
  Iterator begin() const { return {*this, 0}; }
  /// Iterator past the last file.
  Iterator end() const { return {*this, size()}; }

  /// The path of file `index` relative to the folder, or the whole path if there is no folder;
  /// `index` must be less than size(). UTF-8 on Windows. Valid as long as the list.
  const char* name(std::size_t index) const { return names_.data() + starts_[index]; }

  /// The folder that was listed. Empty for a list of any files.
  const std::filesystem::path& folder() const noexcept { return folder_; }

  // Used by the datasets.

  /// An empty list. Throws Error: NotFound, Io. @private
  explicit FileList(std::filesystem::path folder) : folder_(std::move(folder)) {
    detail::with_path(folder_, [&] {
      detail::require_path(folder_);
      open_ = detail::open_folder(folder_);
    });
  }

  /// These files, which need not exist. Relative paths are relative to the working directory at
  /// this moment. Throws Error (InvalidArgument) if a path is empty or contains a zero byte.
  /// @private
  explicit FileList(const std::vector<std::filesystem::path>& files) {
    bool is_relative = false;
    for (const std::filesystem::path& file : files) {
      append(detail::utf8_of(file));
      is_relative = is_relative || file.is_relative();
    }
    if (is_relative) detail::with_path(".", [&] { open_ = detail::open_folder("."); });
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
    detail::sort_names(names_, starts_, first, rules.natural_order);
    return starts_.size() - first;
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
  }

  /// True if both are lists of the same folder, also by another path. @private
  bool has_folder_of(const FileList& other) const {
    const auto own = detail::identity_of(open_);
    const auto others = detail::identity_of(other.open_);
    return own && others && *own == *others;
  }

  /// The length of the folder that all names begin with; 0 for the list of a folder. @private
  std::size_t common_folder() const {
    if (size() == 0 || !folder_.empty()) return 0;
    const std::string_view common(name(0), detail::common_prefix(names_, starts_));
    return common.find_last_of("/\\") + 1;
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
  detail::OpenFolder open_;
  std::string names_;
  detail::NameOffsets starts_;
};

namespace detail {

/// The numbers of the files that do not exist. Costs one stat per file, on at least 32 threads,
/// because they wait for the disk.
inline std::vector<std::size_t> missing_files(const FileList& list) {
  std::vector<char> is_missing(list.size());
  for_each_index(list.size(), (std::max)(std::size_t{32}, processor_count()), [&](std::size_t i) {
    std::error_code error;
    const auto type = std::filesystem::status(list[i], error).type();
    is_missing[i] = type == std::filesystem::file_type::not_found;
  });
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (is_missing[i] != 0) missing.push_back(i);
  }
  return missing;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_FOLDER_HPP_
