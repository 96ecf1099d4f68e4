#include <torch_npy.hpp>

#include <iostream>
#include <sstream>

int main() {
  std::stringstream stream;
  torch_npy::save(stream, torch::arange(6).view({2, 3}));
  std::cout << torch_npy::load(stream) << '\n';
}
