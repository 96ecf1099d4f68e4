// Inputs and targets in two folders, matched by name, in batches of 32 that two workers read. Reads
// input_data and output_data in the working directory.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  auto dataset = torch_npy::PairedFolderDataset("input_data", "output_data").stacked();
  const auto options = torch::data::DataLoaderOptions(/*batch_size=*/32).workers(2);
  auto loader = torch::data::make_data_loader(dataset, options);

  for (auto& batch : *loader) {
    std::cout << batch.data.sizes() << ' ' << batch.target.sizes() << '\n';
  }
}
