// Random patches of volumes and of their masks. Only the patches are read.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  using namespace torch_npy;

  const PairedFolderDataset scans("imagesTr", "labelsTr", FolderOptions().samples_per_file(4));
  auto patches = scans.map(transforms::RandomCrop({64, 64, 64}))
                     .stacked()
                     .map(transforms::ToDtype(torch::kFloat32))
                     .map(transforms::Normalize({0.}, {1000.}));

  Loader loader(patches, LoaderOptions().batch_size(8).shuffle(true).seed(1).workers(2));
  for (auto& batch : loader) {
    std::cout << batch.data.sizes() << ' ' << batch.data.dtype() << ' ' << batch.target.sizes()
              << ' ' << batch.target.dtype() << '\n';
  }
  std::cout << scans.key(0) << ' ' << scans.key(1) << '\n';
}
