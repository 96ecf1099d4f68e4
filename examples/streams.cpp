// Arrays that are in no file of their own: in a stream, one after another, and in memory.
#include <torch_npy.hpp>

#include <iostream>
#include <sstream>
#include <string>

int main() {
  std::stringstream stream;  // or a file, a pipe, a socket: whatever is a std::iostream
  torch_npy::save(stream, torch::arange(6));
  torch_npy::save(stream, torch::zeros({2, 3}));

  torch::Tensor first = torch_npy::load(stream);   // stops right behind the array,
  torch::Tensor second = torch_npy::load(stream);  // as np.load does with an open file

  const std::string bytes = stream.str();  // aligned or not
  first = torch_npy::load_bytes(bytes.data(), bytes.size());

  torch_npy::save("rows.npy", torch::ones({2, 3}));
  torch::Tensor batch = torch::empty({4, 2, 3});
  torch_npy::load_into(batch[1], "rows.npy");  // into part of a tensor, without another one

  std::cout << first.sizes() << ' ' << second.sizes() << ' ' << batch[1].sum().item<float>()
            << '\n';
}
