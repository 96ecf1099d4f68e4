// A folder of pictures (H x W x C bytes), augmented and made floats a batch at a time. Reads
// input_data in the working directory.

#include <torch_npy.hpp>

#include <iostream>

using namespace torch_npy::transforms;

int main() {
  auto dataset = torch_npy::FolderDataset("input_data")
                     .stacked()
                     .map(ToTensor())
                     .map(RandomHorizontalFlip(0.5));
  auto loader = torch::data::make_data_loader(dataset, /*batch_size=*/32);

  for (auto& batch : *loader) {
    std::cout << batch.data.sizes() << '\n';
  }
}
