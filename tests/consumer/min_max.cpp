// As in a program that has included <windows.h>, whose macros min and max eat every call of that
// name that is not kept from them: (std::min)(a, b). LibTorch's headers and the standard library's
// do not bear them, and so come first.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/arg.h>
#include <torch/data.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <istream>
#include <limits>
#include <mutex>
#include <optional>
#include <ostream>
#include <random>
#include <thread>

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))

#include <torch_npy.hpp>
