// Shards of a text as uint16 tokens: windows of it, each with the tokens that come next.

#include <torch_npy.hpp>

#include <iostream>

int main() {
  using namespace torch_npy;

  const std::int64_t length = 1024;
  const auto as_int64 = LoadOptions().dtype(torch::kInt64);
  const auto next = WindowOptions().stride(length).target(/*offset=*/1, length);
  const FolderDataset shards(".", FolderOptions().pattern("tokens_*"));
  WindowDataset<> text(
      std::vector<std::filesystem::path>(shards.files().begin(), shards.files().end()), length,
      WindowOptions(next).data_options(as_int64));

  Loader loader(text.stacked(), LoaderOptions().batch_size(32).shuffle(true).seed(1).workers(2));
  for (auto& batch : loader) {
    const bool follows = batch.data.slice(1, 1).equal(batch.target.slice(1, 0, -1));
    std::cout << batch.data.sizes() << ' ' << batch.data.dtype() << ' ' << follows << ' '
              << text.key(batch.indices[0]) << '\n';
  }
}
