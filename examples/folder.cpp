// A folder of .npy files, in batches of 32. Reads input_data in the working directory.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  auto dataset = torch_npy::FolderDataset("input_data").stacked();
  torch_npy::Loader loader(dataset, torch_npy::LoaderOptions().batch_size(32));

  for (auto& batch : loader) {
    std::cout << batch.data.sizes() << '\n';
  }
}
