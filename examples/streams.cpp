// Arrays in a stream, one after another, and arrays in memory.
#include <torch_npy.hpp>

#include <iostream>
#include <sstream>
#include <string>

int main() {
  std::stringstream stream;  // any std::iostream: a file, a pipe, a socket
  torch_npy::save(stream, torch::arange(6));
  torch_npy::save(stream, torch::zeros({2, 3}));

  torch::Tensor first = torch_npy::load(stream);   // stops directly after the array,
  torch::Tensor second = torch_npy::load(stream);  // as np.load does with an open file

  const std::string bytes = stream.str();  // need not be aligned
  first = torch_npy::load_bytes(bytes.data(), bytes.size());

  torch_npy::save("rows.npy", torch::ones({2, 3}));
  torch::Tensor batch = torch::empty({4, 2, 3});
  torch_npy::load_into(batch[1], "rows.npy");  // into a part of a tensor

  std::cout << first.sizes() << ' ' << second.sizes() << ' ' << batch[1].sum().item<float>()
            << '\n';
}
