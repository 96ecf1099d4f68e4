#include <torch_npy.hpp>

#include <iostream>

int main(int, char** argv) {
  const torch::Tensor array = torch_npy::load(argv[1]);
  std::cout << array.dtype() << ' ' << array.sizes() << '\n';
}
