#pragma once

// Arrays that NumPy wrote, and arrays that a test writes.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#endif

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

/// One line of expected.txt, which NumPy wrote.
struct Expected {
  std::filesystem::path path;
  std::string version, descr;
  bool fortran_order;
  Shape shape, strides;
  std::string bytes;
  bool saved_alike;
};

inline std::vector<Expected> read_expected() {
  const char* const other = std::getenv("TORCH_NPY_ARRAYS");
  const std::filesystem::path folder = other ? other : TORCH_NPY_TEST_DATA "/arrays";
  std::istringstream lines(read_bytes(folder / "expected.txt"));
  std::vector<Expected> out;
  for (std::string line; std::getline(lines, line);) {
    const auto part = split(line, '\t');
    REQUIRE(part.size() == 8);
    out.push_back({folder / part[0], part[1], part[2], part[3] == "1", numbers(part[4]),
                   numbers(part[5]), from_hex(part[6]), part[7] == "bytes"});
  }
  REQUIRE(out.size() > 100);
  return out;
}

inline void check_array(const Expected& want, const at::Tensor& got) {
  CHECK(got.sizes().vec() == want.shape);
  CHECK(got.scalar_type() == expected_type(want.descr));
  // Strides say nothing about an array without elements, and NumPy's own change with its version.
  if (got.numel() != 0) CHECK(got.strides().vec() == want.strides);
  CHECK((bytes_of(got) == want.bytes));  // in brackets: not to be printed
}

inline std::filesystem::path write_floats(const std::filesystem::path& path, std::int64_t rows,
                                          std::int64_t columns, bool fortran_order = false) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.5f;
  const std::string shape = "(" + std::to_string(rows) + ", " + std::to_string(columns) + ")";
  std::string text = header_text("'<f4'", shape, fortran_order ? "True" : "False");
  text.resize(118, ' ');  // data from byte 128 on, so that it can be mapped
  return write_bytes(path, npy(text, bytes_of(values)));
}
