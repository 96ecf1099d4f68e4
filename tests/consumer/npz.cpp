#include <torch_npy.hpp>

#include <iostream>

at::Tensor loaded_without_the_macro(const char* path);

int main(int, char** argv) {
  const std::string path = std::string(argv[0]) + ".npz";
  const auto compressed = torch_npy::SaveNpzOptions().compressed(true);
  torch_npy::save_npz(path, {{"images", torch_npy::load(argv[1])}}, compressed);
  const at::Tensor images = loaded_without_the_macro(path.c_str());
  std::cout << (torch_npy::NpzFile(path).is_deflated("images") ? "deflated " : "stored ")
            << images.dtype() << ' ' << images.sizes() << '\n';
}
