// Spectrograms of different length with the tokens that are spoken in them.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  using namespace torch_npy;

  const PairedFolderDataset speech("mels", "tokens");
  const auto padded = speech.map(transforms::PadStack().multiple_of("data", 8).value("target", -1));

  // Samples of similar length share a batch of at most 6,000 frames, padding included.
  Loader loader(padded,
                LoaderOptions().order(by_length(speech.lengths(), MaxElements{6000})).seed(1));
  std::int64_t frames = 0, used = 0;
  for (auto& batch : loader) {
    std::cout << batch.data.sizes() << ' ' << batch.target.sizes() << '\n';
    frames += batch.data.size(0) * batch.data.size(1);
    used += batch.lengths.sum().item<std::int64_t>();
  }
  std::cout << frames - used << " of " << frames << " frames are padding\n";
}
