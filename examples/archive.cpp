// Several arrays in one .npz file, as np.savez writes it.
#include <torch_npy.hpp>

#include <iostream>

int main() {
  torch::Tensor weight = torch::arange(6).reshape({2, 3}).to(torch::kFloat32);
  torch::Tensor bias = torch::zeros({2});

  torch_npy::save_npz("model.npz", {{"weight", weight}, {"bias", bias}});
  torch::OrderedDict<std::string, torch::Tensor> arrays = torch_npy::load_npz("model.npz");
  weight = arrays["weight"];

  const torch_npy::NpzFile file("model.npz");  // reads only the directory of the archive
  for (const std::string& name : file.names()) {
    std::cout << name << ' ' << file.header(name).dtype.descr() << '\n';
  }
  bias = file.load("bias", torch_npy::LoadOptions().mmap(true));  // a view of the file, not a copy
}
