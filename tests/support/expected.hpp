#pragma once

#include <ATen/core/Tensor.h>
#include <torch/version.h>

#include <cstdint>
#include <string>
#include <vector>

// Reading the columns of expected.txt, in which NumPy lists the contents of its files.

using Shape = std::vector<std::int64_t>;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// The items in C order, as bytes.
inline std::string bytes_of(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  return {static_cast<const char*>(dense.data_ptr()), dense.nbytes()};
}

inline std::string from_hex(const std::string& hex) {
  std::string out;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    out += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return out;
}

inline std::vector<std::string> split(const std::string& line, char at) {
  std::vector<std::string> parts(1);
  for (const char c : line) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

inline Shape numbers(const std::string& text) {
  Shape out;
  if (text.empty()) return out;
  for (const std::string& part : split(text, ',')) out.push_back(std::stoll(part));
  return out;
}

/// The ScalarType for a NumPy type string, written down a second time by hand.
inline c10::ScalarType expected_type(const std::string& descr) {
  const std::string name = descr.substr(1, descr.find('[') - 1);
  if (name == "b1") return at::kBool;
  if (name == "i1") return at::kChar;
  if (name == "i2") return at::kShort;
  if (name == "i4") return at::kInt;
  if (name == "i8" || name == "M8" || name == "m8") return at::kLong;
  if (name == "u1") return at::kByte;
  if (name == "f2") return at::kHalf;
  if (name == "f4") return at::kFloat;
  if (name == "f8") return at::kDouble;
  if (name == "c8") return at::kComplexFloat;
  if (name == "c16") return at::kComplexDouble;
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 3)
  if (name == "u2") return at::kUInt16;
  if (name == "u4") return at::kUInt32;
  if (name == "u8") return at::kUInt64;
#endif
  return at::ScalarType::Undefined;
}

inline bool is_wide_unsigned(const std::string& descr) {
  return descr[1] == 'u' && descr[2] != '1';
}
