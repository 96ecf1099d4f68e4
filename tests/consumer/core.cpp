#include <torch_npy/file.hpp>
#include <torch_npy/header.hpp>

#include <iostream>

// What a program can do with torch_npy::core alone.
int main(int, char** argv) {
  const torch_npy::Header header = torch_npy::read_header(argv[1]);
  std::cout << header.dtype.descr();
  for (const std::int64_t size : header.shape) std::cout << ' ' << size;
  std::cout << '\n';
}
