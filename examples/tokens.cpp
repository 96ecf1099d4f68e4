// Shards of a text as uint16 tokens: windows of it, each with the tokens that come next.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  using namespace torch_npy;

  const FolderDataset shards(".", FolderOptions().pattern("tokens_*"));
  const std::int64_t length = 1024;
  const WindowDataset text(shards.files(), length,
                           WindowOptions()
                               .stride(length)
                               .data_options(LoadOptions().dtype(torch::kInt64))
                               .target(/*offset=*/1, length));

  Loader loader(text.stacked(), LoaderOptions().batch_size(32).shuffle(true).seed(1).workers(2));
  for (auto& batch : loader) {
    const bool follows = batch.data.slice(1, 1).equal(batch.target.slice(1, 0, -1));
    std::cout << batch.data.sizes() << ' ' << batch.data.dtype() << ' ' << follows << ' '
              << text.key(batch.indices[0]) << '\n';
  }
}
