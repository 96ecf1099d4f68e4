#pragma once

// Headers from text that a test writes.

#include <torch_npy/format/header.hpp>

#include <cstdint>
#include <string>
#include <vector>

#include "support/files.hpp"

using Shape = std::vector<std::int64_t>;

inline torch_npy::Header parse(const std::string& bytes) {
  return torch_npy::parse_header(bytes.data(), bytes.size());
}

inline torch_npy::DType dtype_of(const std::string& descr, int version = 1) {
  return parse(npy(header_text(descr, "()"), "", version)).dtype;
}
