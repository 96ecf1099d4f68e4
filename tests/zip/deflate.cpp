// Deflated members.

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "support/allocations.hpp"
#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("deflated arrays with headers of any length load", "[npz]") {
  if (!has_deflate()) return;
  const Folder folder;
  std::string data;
  for (std::uint64_t i = 0; i < 300000; ++i) data += static_cast<char>(i * i >> 5);
  for (const std::size_t length : {100u, 16000u, 16384u, 20000u, 60000u}) {
    const std::string text = "{'descr': '|u1', 'fortran_order': False, 'shape': (300000,), }";
    const std::string padded = text + std::string(length - text.size(), ' ') + "\n";
    const std::string file = npy(padded, data, 2);
    const auto path = write_bytes(folder / "a.npz", zip({ZipPart::packed("a", file)}));
    const NpzFile archive(path);
    const auto options = LoadOptions().max_header_size(100000);
    CHECK(archive.names() == std::vector<std::string>{"a"});
    CHECK(archive.header("a", 100000).data_offset == file.size() - data.size());
    const at::Tensor a = archive.load("a", options);
    CHECK(std::memcmp(a.data_ptr(), data.data(), data.size()) == 0);
    if (length > 10000) {
      CHECK(error_of([&] { (void)archive.load("a"); }).code() == ErrorCode::TooLarge);
    }
  }
}

TEST_CASE("a deflated member that is no array is recognized without unpacking it", "[npz][bad]") {
  if (!has_deflate()) return;
  const Folder folder;
  const ZipPart zeros = ZipPart::packed("zeros", std::string(64 << 20, '\0'));
  const auto path =
      write_bytes(folder / "a.npz", zip({zeros, ZipPart::stored("a.npy", floats(2, 2))}));
  largest_allocation = 0;
  CHECK(load_npz(path).size() == 1);
  CHECK(error_of([&] { (void)NpzFile(path).load("zeros"); }).code() == ErrorCode::NotNpy);
  CHECK(largest_allocation < (1u << 20));
}

TEST_CASE("bytes after a deflated array are no part of the tensor", "[npz][bad]") {
  if (!has_deflate()) return;
  const Folder folder;
  const std::string array = floats(2, 2);
  const auto path = write_bytes(
      folder / "a.npz", zip({ZipPart::packed("a.npy", array + std::string(64 << 20, '\0'))}));
  const NpzFile file(path);
  largest_allocation = 0;
  CHECK(file.header("a").shape == std::vector<std::int64_t>{2, 2});
  const Error error = error_of([&] { (void)file.load("a", LoadOptions().max_bytes(1000)); });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK_THAT(error.what(), says("unpacked whole, and its 67108880 bytes are over"));
  CHECK(largest_allocation < (1u << 20));
  const at::Tensor a = file.load("a");
  CHECK(a.numel() == 4);
  // The tensor has memory of its own size, not a part of the unpacked bytes.
  CHECK(a.storage().nbytes() == 16);
  const auto npy_size = static_cast<std::int64_t>(array.size());
  CHECK(NpzFile(write_bytes(folder / "b.npz", zip({ZipPart::packed("a.npy", array)})))
                .load("a", LoadOptions().max_bytes(16))
                .numel() *
            4 ==
        npy_size - 128);
}

TEST_CASE("deflate streams of stored and empty blocks load", "[npz]") {
  if (!has_deflate()) return;
  const Folder folder;
  std::string data;
  for (std::uint64_t i = 0; i < 300000; ++i) data += static_cast<char>(i * i * i >> 9);
  const std::string file = npy(header_text("'|u1'", "(300000,)"), data);
  for (const std::size_t block : {65535u, 60000u, 1000u}) {
    ZipPart part = ZipPart::stored("a", file);
    part.bytes.clear();
    part.bytes.assign(5 * 10000, '\0');  // empty blocks first, in half of the first read
    for (std::size_t i = 0; i < part.bytes.size(); i += 5)
      part.bytes.replace(i, 5, little(0xffff000000, 5));
    if (block == 1000) part.bytes.clear();
    for (std::size_t at = 0; at < file.size(); at += block) {
      const std::string chunk = file.substr(at, block);
      part.bytes += little(at + block >= file.size() ? 1 : 0, 1) + little(chunk.size(), 2) +
                    little(~chunk.size() & 0xffff, 2) + chunk;
    }
    part.both([&](ZipHeader& header) {
      header.method = 8;
      header.packed = part.bytes.size();
    });
    const NpzFile archive(write_bytes(folder / "a.npz", zip({part})));
    CHECK(archive.names() == std::vector<std::string>{"a"});
    CHECK(archive.header("a").numel() == 300000);
    CHECK(std::memcmp(archive.load("a").data_ptr(), data.data(), data.size()) == 0);
  }
}

TEST_CASE("output that a codec did not write is not taken for data", "[npz]") {
  if (!has_deflate()) return;
  // As libdeflate may do if the output has no room for the whole stream.
  using torch_npy::detail::ZipCodec;
  static const ZipCodec* const whole = torch_npy::detail::zip_codec().load();
  static constexpr std::size_t kSize = 40000 * 4 + 128;
  static const ZipCodec lazy{
      whole->crc32,
      [](const void* in, std::size_t& in_size, void* out, std::size_t& out_size) {
        return out_size < kSize ? torch_npy::detail::Inflated::TooMuch
                                : whole->inflate(in, in_size, out, out_size);
      },
      whole->deflate};
  const Folder folder;
  const auto path = write_bytes(folder / "a.npz", zip({ZipPart::packed("a", floats(200, 200))}));
  torch_npy::detail::zip_codec() = &lazy;
  const NpzFile file(path);
  const ErrorCode code = error_of([&] { (void)file.load("a"); }).code();
  torch_npy::detail::zip_codec() = whole;
  CHECK(file.names() == std::vector<std::string>{"a"});  // not skipped
  CHECK(code == ErrorCode::UnsupportedVersion);
  CHECK(file.load("a").numel() == 40000);
}
