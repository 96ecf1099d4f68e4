#pragma once

// Files to append to.

#include <torch_npy/tensor/append.hpp>

#include <ATen/ops/arange.h>

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "support/files.hpp"

using Shape = std::vector<std::int64_t>;

inline const torch_npy::SaveOptions kQuick = torch_npy::SaveOptions().sync(false);

/// What save() writes, which other tests compare with np.save.
inline std::string saved(const at::Tensor& tensor) {
  std::ostringstream stream;
  torch_npy::save(stream, tensor);
  return stream.str();
}

/// `rows` rows of this shape with elements that differ.
inline at::Tensor counting(std::int64_t rows, Shape row_shape, at::ScalarType type) {
  row_shape.insert(row_shape.begin(), rows);
  std::int64_t count = 1;
  for (const std::int64_t length : row_shape) count *= length;
  return at::arange(count).to(type).view(row_shape);
}

inline Shape row_shape_of(const at::Tensor& tensor) { return tensor.sizes().slice(1).vec(); }

inline std::string floats(std::size_t count) {
  const at::Tensor values = at::arange(static_cast<std::int64_t>(count), at::kFloat);
  return {static_cast<const char*>(values.data_ptr()), values.nbytes()};
}

/// A file whose header has only the room that its text shows, as other writers leave it.
inline std::string tight(const std::string& descr, const std::string& shape,
                         const std::string& data) {
  return npy(header_text(descr, shape), data);
}
