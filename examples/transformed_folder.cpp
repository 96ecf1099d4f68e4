// A folder of images (H x W x C bytes): whole batches are flipped at random and become floats.
// Reads input_data in the working directory.

#include <torch_npy.hpp>

#include <iostream>

using namespace torch_npy::transforms;

int main() {
  auto dataset = torch_npy::FolderDataset("input_data")
                     .stacked()
                     .map(ToTensor())
                     .map(RandomHorizontalFlip(0.5));
  torch_npy::Loader loader(dataset, torch_npy::LoaderOptions().batch_size(32).shuffle(true));

  for (auto& batch : loader) {
    std::cout << batch.data.sizes() << '\n';
  }
}
