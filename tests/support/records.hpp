#pragma once

// Records, and their fields as NumPy reads them.

#include <torch_npy/tensor/fields.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

using Fields = torch::OrderedDict<std::string, at::Tensor>;

/// Options that load every file of make_fields.py.
inline torch_npy::LoadOptions everything() {
  return torch_npy::LoadOptions().strings_as_codes(true).void_as(at::kBFloat16);
}

/// One line of expected.txt, which NumPy wrote.
struct ExpectedField {
  std::string name, descr;
  Shape shape;
  bool is_view;
  Shape strides;
  std::ptrdiff_t offset;
  std::string bytes;

  c10::ScalarType type() const {
    switch (descr[1]) {
      case 'S': return at::kByte;
      case 'U': return at::kInt;
      case 'V': return at::kBFloat16;
      default: return expected_type(descr);
    }
  }
};

struct ExpectedFile {
  std::filesystem::path path;
  std::vector<ExpectedField> fields;

  /// False for the unsigned integers that LibTorch before 2.3 does not have.
  bool is_native() const {
    for (const ExpectedField& field : fields) {
      if (field.type() == at::ScalarType::Undefined) return false;
    }
    return true;
  }
};

inline std::vector<ExpectedFile> read_expected() {
  const char* const other = std::getenv("TORCH_NPY_FIELDS");
  const std::filesystem::path folder = other ? other : TORCH_NPY_TEST_DATA "/fields";
  std::istringstream lines(read_bytes(folder / "expected.txt"));
  std::vector<ExpectedFile> out;
  for (std::string line; std::getline(lines, line);) {
    const auto part = split(line, '\t');
    REQUIRE(part.size() == 8);
    if (out.empty() || out.back().path != folder / part[0]) out.push_back({folder / part[0], {}});
    out.back().fields.push_back({part[1], part[2], numbers(part[3]), part[4] == "1",
                                 numbers(part[5]), std::stol(part[6]), from_hex(part[7])});
  }
  REQUIRE(out.size() > 30);
  return out;
}

inline const char* address(const at::Tensor& tensor) {
  return static_cast<const char*>(tensor.data_ptr());
}

/// Strides without those of axes that have no second element.
inline Shape used_strides(const Shape& strides, const Shape& shape) {
  Shape out;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] > 1) out.push_back(strides[i]);
  }
  return out;
}

inline void check_fields(const ExpectedFile& want, const Fields& got) {
  REQUIRE(got.size() == want.fields.size());
  const char* records = nullptr;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const ExpectedField& field = want.fields[i];
    const at::Tensor& tensor = got[i].value();
    INFO(field.name);
    CHECK(got[i].key() == field.name);
    CHECK(tensor.scalar_type() == field.type());
    CHECK(tensor.sizes().vec() == field.shape);
    CHECK((bytes_of(tensor) == field.bytes));
    if (tensor.numel() == 0) continue;
    // Known from the first one, whose address may be any.
    const bool is_aligned =
        records == nullptr || reinterpret_cast<std::uintptr_t>(records + field.offset) %
                                      static_cast<std::uintptr_t>(tensor.element_size()) ==
                                  0;
    if (field.is_view && is_aligned) {
      CHECK(used_strides(tensor.strides().vec(), field.shape) ==
            used_strides(field.strides, field.shape));
      if (records == nullptr) records = address(tensor) - field.offset;
      CHECK(address(tensor) - records == field.offset);
    } else {
      CHECK(tensor.is_non_overlapping_and_dense());
    }
  }
}

inline std::string counting(std::size_t size) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i * 37 + i / 256);
  return out;
}

inline torch_npy::Error load_error(const std::filesystem::path& path,
                                   const torch_npy::LoadOptions& options = {}) {
  return error_of([&] { (void)torch_npy::load_fields(path, options); });
}
