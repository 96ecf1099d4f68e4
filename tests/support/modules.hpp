#pragma once

// Modules, and the bits of their parameters and buffers.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/module.hpp>
#endif

#include <torch/nn.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/expected.hpp"

/// A module of the tensors that a test gives it.
struct Given : torch::nn::Module {
  using Tensors = std::vector<std::pair<std::string, at::Tensor>>;

  explicit Given(const Tensors& parameters, const Tensors& buffers = {}) {
    for (const auto& [name, tensor] : parameters) {
      register_parameter(name, tensor, c10::isFloatingType(tensor.scalar_type()));
    }
    for (const auto& [name, tensor] : buffers) register_buffer(name, tensor);
  }
};

/// A module of one buffer, "x".
inline Given given(const at::Tensor& tensor) { return Given({}, {{"x", tensor}}); }

/// The names and bits of all parameters and buffers.
inline std::vector<std::pair<std::string, std::string>> state_of(const torch::nn::Module& module) {
  std::vector<std::pair<std::string, std::string>> state;
  for (const auto& item : module.named_parameters()) {
    state.emplace_back(item.key(), bytes_of(item.value().detach()));
  }
  for (const auto& item : module.named_buffers()) {
    state.emplace_back(item.key(), bytes_of(item.value()));
  }
  return state;
}
