// A video of which each frame is a file: clips of 16 frames.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  using namespace torch_npy;

  // frame_2 before frame_10
  const FolderDataset frames("frames", FolderOptions().natural_order(true));
  const WindowDataset<TensorExample> clips(frames.files(), /*length=*/16,
                                           WindowOptions().frames(true).stride(8));

  Loader loader(clips.stacked(), LoaderOptions().batch_size(2).workers(2));
  for (auto& batch : loader) {
    std::cout << batch.data.sizes();
    for (const std::size_t i : batch.indices) std::cout << ' ' << clips.key(i);
    std::cout << '\n';
  }
}
