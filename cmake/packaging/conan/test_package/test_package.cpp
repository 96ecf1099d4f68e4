#include <torch_npy.hpp>

#include <iostream>
#include <sstream>

int main() {
  std::stringstream stream;
  torch_npy::save(stream, torch::arange(6).view({2, 3}));
  std::cout << torch_npy::load(stream) << '\n';
#ifdef TORCH_NPY_WITH_LIBDEFLATE
  std::stringstream archive;
  torch_npy::save_npz(archive, {{"zeros", torch::zeros({1000, 1000})}},
                      torch_npy::SaveNpzOptions().compressed(true));
  std::cout << archive.str().size() << " bytes, "
            << torch_npy::NpzFile(archive).load("zeros").sizes() << '\n';
#endif
}
