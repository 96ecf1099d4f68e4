#ifndef TORCH_NPY_TYPES_HPP_
#define TORCH_NPY_TYPES_HPP_

// LibTorch's public names (torch::Tensor, torch::kFloat32, ...), for whoever includes torch_npy.hpp
// and nothing else. No other header here needs it: at::Tensor, which they say, is the same type at
// half the time to compile.
#include <torch/types.h>

#endif  // TORCH_NPY_TYPES_HPP_
