// One archive a sample, and a file with the names of those to train on, as TransUNet has the slices
// of Synapse's scans.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  using namespace torch_npy;

  const auto names = FileListOptions().ending(".npz");
  const NpzDataset slices(read_file_list("lists/train.txt", "train_npz", names).files, "image",
                          "label");
  auto batches = slices.map(transforms::RandomCrop({224, 224}))
                     .map(transforms::RandomHorizontalFlip())  // image and label alike
                     .stacked();

  Loader loader(batches, LoaderOptions().batch_size(4).shuffle(true).seed(1).workers(2));
  for (auto& batch : loader) {
    std::cout << batch.data.sizes() << ' ' << batch.target.sizes() << "  "
              << slices.key(batch.indices[0]) << '\n';
  }
}
