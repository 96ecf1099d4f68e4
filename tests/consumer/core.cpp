#include <torch_npy/version.hpp>

// A name can be declared ahead.
namespace torch_npy {
inline namespace TORCH_NPY_VERSION_NAMESPACE {
struct Header;
}  // namespace TORCH_NPY_VERSION_NAMESPACE
}  // namespace torch_npy
int rank_of(const torch_npy::Header& header);

#include <torch_npy/format/header.hpp>
#include <torch_npy/io/read_header.hpp>

#include <iostream>

int rank_of(const torch_npy::Header& header) { return static_cast<int>(header.shape.size()); }

// What a program can do with torch_npy::core alone.
int main(int, char** argv) {
  const torch_npy::Header header = torch_npy::read_header(argv[1]);
  std::cout << header.dtype.descr();
  for (int axis = 0; axis < rank_of(header); ++axis) {
    std::cout << ' ' << header.shape[static_cast<std::size_t>(axis)];
  }
  std::cout << '\n';
}
