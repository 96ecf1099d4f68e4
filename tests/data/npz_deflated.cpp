// Deflated archives as samples.

#include <torch_npy/data/npz_dataset.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include <cstdint>
#include <string>
#include <vector>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

/// Values that deflate can pack, `size` of them.
at::Tensor image_of(int i, std::int64_t size) {
  return at::arange(i, i + size).remainder(251).to(at::kFloat);
}

std::string file_name(int i) { return "s" + std::to_string(i) + ".npz"; }

}  // namespace

TEST_CASE("deflated archives are samples, whatever their size", "[npz][npz_dataset]") {
  if (!has_deflate()) return;
  // Smaller than the first read, larger than it, and larger than what is unpacked at once.
  for (const std::int64_t size : {10, 3000, 30000, 400000}) {
    CAPTURE(size);
    const Folder folder;
    std::vector<at::Tensor> images;
    for (int i = 0; i < 4; ++i) {
      images.push_back(image_of(i, size));
      save_npz(folder / file_name(i), {{"image", images.back()}, {"label", at::full({5}, i)}},
               SaveNpzOptions().sync(false).compressed(i != 2));
    }
    const NpzDataset dataset(folder.path(), "image", "label");
    CHECK(dataset.verify().empty());
    CHECK(dataset.lengths() == std::vector<std::int64_t>(4, size));
    const Batch<> batch = dataset.stacked().get_batch({3, 2, 0, 1});
    CHECK(at::equal(batch.data, at::stack({images[3], images[2], images[0], images[1]})));
    CHECK(batch.target[0][4].item<int>() == 3);
    CHECK(at::equal(dataset.get(1).data, images[1]));
    const NpzDataset half(folder.path(), {"image"},
                          FolderOptions().data_options(LoadOptions().dtype(at::kHalf).rows(2, 8)));
    CHECK(at::equal(half.stacked().get_batch({1, 0})["image"][1],
                    images[0].narrow(0, 2, 6).to(at::kHalf)));

    std::string bytes = read_bytes(folder / file_name(1));
    bytes[bytes.find("PK\x03\x04", 10) - 4] ^= 1;  // at the end of the deflate stream
    write_bytes(folder / file_name(1), bytes);
    const Error error = error_of([&] { (void)dataset.stacked().get_batch({0, 1}); });
    CHECK(error.code() == ErrorCode::BadZip);
    CHECK(error.path() == folder / file_name(1));
    CHECK_THAT(error.what(), says("member \"image.npy\": the "));
  }
}

TEST_CASE("max_bytes() limits what a deflated array of a sample unpacks to", "[npz][npz_dataset]") {
  if (!has_deflate()) return;
  const Folder folder;
  const std::string padded = floats(3, 1) + std::string(8 << 20, '\0');
  write_bytes(folder / "a.npz", zip({ZipPart::packed("image.npy", padded)}));
  const NpzDataset limited(folder.path(), "image",
                           FolderOptions().data_options(LoadOptions().max_bytes(1000)));
  const Error error = error_of([&] { (void)limited.get(0); });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK_THAT(error.what(), says("unpacked whole, and its 8388620 bytes are over"));
  CHECK(NpzDataset(folder.path(), "image").get(0).data.numel() == 3);
}
