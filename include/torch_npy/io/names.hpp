#ifndef TORCH_NPY_IO_NAMES_HPP_
#define TORCH_NPY_IO_NAMES_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <torch_npy/version.hpp>

// The names of many files, and their order.

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
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_NAMES_HPP_
