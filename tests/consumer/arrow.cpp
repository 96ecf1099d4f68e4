// The component torch_npy::arrow: an array through one of Arrow's file systems.

#include <torch_npy.hpp>
#include <torch_npy/arrow.hpp>

#include <filesystem>
#include <iostream>

int main(int, char** argv) {
  const std::filesystem::path path = std::filesystem::absolute(argv[1]);
  const torch_npy::arrow::Store store("file://" + path.parent_path().string());
  std::cout << torch_npy::open(store, path.filename().string()).load().sizes() << '\n';
}
