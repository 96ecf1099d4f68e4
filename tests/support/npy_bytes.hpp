#pragma once

#include <torch_npy/tensor/save.hpp>

#include <ATen/core/Tensor.h>

#include <sstream>
#include <string>

/// The bytes of the .npy file of a tensor.
inline std::string npy_of(const at::Tensor& tensor) {
  std::ostringstream out;
  torch_npy::save(out, tensor);
  return out.str();
}
