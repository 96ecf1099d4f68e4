#pragma once

// Archives of sparse matrices, of which each array can be wrong.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

/// The .npy file of each array, by its name.
using SparseParts = std::map<std::string, std::string>;

/// The bytes of an .npy file, whose data is aligned for any dtype.
template <class T>
std::string npy_of(const std::string& descr, const std::string& shape,
                   const std::vector<T>& values) {
  std::string text = header_text(descr, shape);
  text.resize(118, ' ');
  return npy(text, bytes_of(values));
}

/// A csr matrix of shape (3, 4) with five entries.
inline SparseParts csr_parts() {
  return {{"format", npy_of<char>("'|S3'", "()", {'c', 's', 'r'})},
          {"shape", npy_of<std::int64_t>("'<i8'", "(2,)", {3, 4})},
          {"indptr", npy_of<std::int32_t>("'<i4'", "(4,)", {0, 2, 2, 5})},
          {"indices", npy_of<std::int32_t>("'<i4'", "(5,)", {1, 3, 0, 2, 3})},
          {"data", npy_of<float>("'<f4'", "(5,)", {1, 2, 3, 4, 5})}};
}

/// A coo matrix of shape (3, 4) with three entries.
inline SparseParts coo_parts() {
  return {{"format", npy_of<char>("'|S3'", "()", {'c', 'o', 'o'})},
          {"shape", npy_of<std::int64_t>("'<i8'", "(2,)", {3, 4})},
          {"row", npy_of<std::int32_t>("'<i4'", "(3,)", {0, 2, 1})},
          {"col", npy_of<std::int32_t>("'<i4'", "(3,)", {3, 0, 1})},
          {"data", npy_of<float>("'<f4'", "(3,)", {1, 2, 3})}};
}

inline std::filesystem::path write_parts(const std::filesystem::path& path,
                                         const SparseParts& parts) {
  std::vector<ZipPart> members;
  for (const auto& [name, bytes] : parts) members.push_back(ZipPart::stored(name + ".npy", bytes));
  return write_bytes(path, zip(members));
}
