// Images and labels in one deflated archive, as MedMNIST has them.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  using namespace torch_npy;

  const NpzFile file("bloodmnist.npz");
  const auto part = [&](const std::string& name) {
    const auto labels = LoadOptions().squeeze(1).dtype(torch::kInt64);  // (N, 1) becomes (N)
    return ArrayDataset(file[name + "_images"], file[name + "_labels"], {}, labels)
        .stacked()
        .map(transforms::ToTensor());
  };
  const auto train = part("train"), validation = part("val");

  Loader loader(train, LoaderOptions().batch_size(256).shuffle(true).workers(2));
  for (auto& batch : loader) {
    std::cout << batch.data.sizes() << ' ' << batch.data.dtype() << ' ' << batch.target.sizes()
              << ' ' << batch.target.dtype() << '\n';
  }
  std::cout << *validation.size() << " for validation\n";
}
