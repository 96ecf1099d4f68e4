// Inputs and targets in two folders, matched by name, shuffled, in batches of 32 that two workers
// read. Reads input_data and output_data in the working directory.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  auto dataset = torch_npy::PairedFolderDataset("input_data", "output_data").stacked();
  const auto options = torch_npy::LoaderOptions().batch_size(32).shuffle(true).seed(1).workers(2);
  torch_npy::Loader loader(dataset, options);

  for (auto& batch : loader) {
    std::cout << batch.data.sizes() << ' ' << batch.target.sizes() << '\n';
  }
}
