// Names, mapping, limits and threads of archives.

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/dripping_source.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("a missing array and a member that is no array throw Error with the reason",
          "[npz][bad]") {
  const Folder folder;
  const std::string array = floats(2, 3);
  std::vector<ZipPart> parts{ZipPart::stored("a.npy", array),
                             ZipPart::stored("readme.txt", "hello"), ZipPart::stored("folder/", ""),
                             ZipPart::stored("short", "\x93NUM")};
  const auto path = write_bytes(folder / "a.npz", zip(parts));
  const NpzFile file(path);
  CHECK(file.names() == std::vector<std::string>{"a"});
  CHECK(file.contains("a"));
  CHECK(file.contains("a.npy"));
  CHECK_FALSE(file.contains("readme.txt"));
  CHECK_FALSE(file.contains("b"));
  const NpzFile unnamed(write_bytes(folder / "x.npz", zip({ZipPart::stored("x", array)})));
  CHECK(unnamed.contains("x"));
  CHECK_FALSE(unnamed.contains("x.npy"));
  CHECK(load_npz(path).size() == 1);
  const Error missing = error_of([&] { (void)file.load("b"); });
  CHECK(missing.code() == ErrorCode::NotFound);
  CHECK(missing.what() == path.string() + ": no array \"b\"; there are \"a\"");
  const NpzFile other(TORCH_NPY_TEST_DATA "/npz/names.npz");
  CHECK_THAT(error_of([&] { (void)other.load("日本"); }).what(),
             says("no array \"日本\"; there are \"größe\", \"日本語\", \"café\""));
  const Error text = error_of([&] { (void)file.load("readme.txt"); });
  CHECK(text.code() == ErrorCode::NotNpy);
  CHECK_THAT(text.what(),
             says("member \"readme.txt\": not an .npy file: it starts with \"hello\""));
  CHECK(error_of([&] { (void)file.header("folder/"); }).code() == ErrorCode::Truncated);

  CHECK(error_of([&] { NpzFile(folder / "none.npz"); }).code() == ErrorCode::NotFound);
  const auto npy = write_bytes(folder / "a.npy", array);
  CHECK_THAT(error_of([&] { NpzFile{npy}; }).what(), says("not an .npz archive but an .npy file"));
  CHECK_THAT(error_of([&] { (void)load(path); }).what(), says("load_npz() reads"));
  const auto torch =
      write_bytes(folder / "model.pt", zip({ZipPart::stored("model/data.pkl", "\x80\x02"),
                                            ZipPart::stored("model/data/0", "1234")}));
  const Error not_arrays = error_of([&] { (void)load_npz(torch); });
  CHECK(not_arrays.code() == ErrorCode::NotNpy);
  CHECK_THAT(not_arrays.what(), says("it looks like a PyTorch file"));
  CHECK(error_of([&] { NpzFile{folder.path()}; }).code() == ErrorCode::Io);
  CHECK(error_of([&] { NpzFile{write_bytes(folder / "empty", "")}; }).code() ==
        ErrorCode::Truncated);
}

TEST_CASE("an array of an archive is opened by its header, and outlives the NpzFile", "[npz]") {
  const Folder folder;
  const at::Tensor big = at::arange(300000).remainder(1000).to(at::kFloat).view({600, 500});
  for (const bool compressed : {false, true}) {
    if (compressed && !has_deflate()) continue;
    const auto path = folder / "a.npz";
    save_npz(path, {{"big", big}, {"t", big.t()}},
             SaveNpzOptions().compressed(compressed).sync(false));
    const std::string bytes = read_bytes(path);
    for (const bool in_memory : {false, true}) {
      std::optional<NpzFile> file;
      if (in_memory) {
        file.emplace(std::make_shared<const DrippingSource>(bytes, 5000, "memory.npz"));
      } else {
        file.emplace(path);
      }
      const StoredArray array = file->array("big.npy");
      const StoredArray turned = (*file)["t"];
      CHECK(array.can_map() == (!compressed && !in_memory));
      file.reset();
      if (!in_memory) std::filesystem::remove(path);
      CHECK(array.shape() == std::vector<std::int64_t>{600, 500});
      CHECK(turned.header().fortran_order);
      CHECK(same(array.load(), big));
      CHECK(same(array.load(), big));  // as often as wanted
      CHECK(same(turned.load(), big.t()));
      CHECK(same(array.load(LoadOptions().rows(7, 19)), big.slice(0, 7, 19)));
      if (!in_memory || compressed) CHECK(same(array.load(LoadOptions().mmap(true)), big));
      at::Tensor out = at::zeros({600, 500});
      array.load_into(out);
      CHECK(at::equal(out, big));
      const Error error = error_of([&] { (void)array.load_fields(); });
      CHECK(error.path() == (in_memory ? std::filesystem::path("memory.npz") : path));
      CHECK_THAT(error.what(), says("member \"big.npy\": load_fields() is for structured dtypes"));
      write_bytes(path, bytes);
    }
  }
}

TEST_CASE("a small archive takes one read", "[npz]") {
  const std::string array = floats(50, 60);
  std::vector<ZipPart> parts = {ZipPart::stored("a.npy", array), ZipPart::stored("b.npy", array),
                                ZipPart::stored("c", array)};
  if (has_deflate()) parts.push_back(ZipPart::packed("d.npy", array));
  const auto source = std::make_shared<const DrippingSource>(zip(parts), 1 << 20);
  const NpzFile small(source);
  for (const std::string& name : small.names()) {
    CHECK(same(small.load(name), load_bytes(array.data(), array.size())));
  }
  CHECK(small.names().size() == parts.size());
  CHECK(source->reads() == 1);
  CHECK(source->sizes() == 1);

  // Of a large one: its start, its end, and for an array its local header and its data.
  parts.push_back(ZipPart::stored("e.npy", floats(500, 600)));
  parts.push_back(ZipPart::stored("f.npy", floats(500, 600)));
  const auto other = std::make_shared<const DrippingSource>(zip(parts), 1 << 20);
  const NpzFile large(other);
  const int opened = other->reads();
  CHECK(large.load("b").numel() == 3000);
  CHECK(other->reads() - opened <= 3);
  CHECK(opened <= 4);  // "c" is an array by its first bytes
  CHECK(large.load("e").numel() == 300000);
  CHECK(large.load("f")[499][599].item<float>() == 299999 % 97);
}

TEST_CASE("a damaged member is found by load_into(), too", "[npz][bad]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_npz(path, {{"a", at::arange(10000)}}, SaveNpzOptions().sync(false));
  std::string bytes = read_bytes(path);
  bytes[40000] ^= 1;
  write_bytes(path, bytes);
  const StoredArray array = NpzFile(path).array("a");
  at::Tensor out = at::zeros({10000}, at::kLong);
  const Error error = error_of([&] { array.load_into(out); });
  CHECK(error.code() == ErrorCode::BadZip);
  CHECK_THAT(error.what(), says("member \"a.npy\": the data is damaged: its CRC-32 is"));
  CHECK(error_of([&] { (void)array.load(); }).code() == ErrorCode::BadZip);
}

TEST_CASE("max_bytes() counts what deflated members unpack to, also after their arrays",
          "[npz][bad]") {
  if (!has_deflate()) return;
  const Folder folder;
  std::vector<ZipPart> parts;
  for (const char* name : {"a.npy", "b.npy", "c.npy"}) {
    parts.push_back(ZipPart::packed(name, floats(3, 1) + std::string(1000000, '\0')));
  }
  const auto path = write_bytes(folder / "a.npz", zip(parts));
  CHECK(load_npz(path).size() == 3);
  const Error error = error_of([&] { (void)load_npz(path, LoadOptions().max_bytes(2500000)); });
  CHECK(error.code() == ErrorCode::TooLarge);
  const Error rows =
      error_of([&] { (void)load_npz(path, LoadOptions().rows(0, 1).max_bytes(2500000)); });
  CHECK(rows.code() == ErrorCode::TooLarge);
}

TEST_CASE("stored arrays are mapped without a copy", "[npz][mmap]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_npz(path, {{"a", at::arange(1000).to(at::kFloat)},
                  {"odd", at::arange(7).to(at::kByte)},
                  {"b", at::arange(12).to(at::kDouble).view({3, 4}).t()}});
  const auto mapped = LoadOptions().mmap(true);
  at::Tensor a;
  {
    const NpzFile file(path);
    a = file.load("a", mapped);
    const at::Tensor b = file.load("b", mapped);
    check_mapped(b, "a.npz");
    CHECK(at::equal(b, at::arange(12).to(at::kDouble).view({3, 4}).t()));
    CHECK(b.strides() == at::IntArrayRef({1, 4}));
    CHECK(reinterpret_cast<std::uintptr_t>(a.data_ptr()) % 64 == 0);
    check_mapped(file.load("a"), "a.npz", false);
    check_mapped(file.load("a", LoadOptions().mmap(true).dtype(at::kDouble)), "a.npz", false);
    check_mapped(file.load("a", LoadOptions().mmap(true).rows(1, 3)), "a.npz");
    const Arrays all = load_npz(path, mapped);
    for (const auto& array : all) check_mapped(array.value(), "a.npz");
  }
  const std::string before = read_bytes(path);
  check_mapped(a, "a.npz");
  a.fill_(3);
  CHECK(read_bytes(path) == before);
  std::filesystem::remove(path);
  CHECK(at::equal(a, at::full({1000}, 3.f)));

  // Not aligned, as in many of NumPy's archives: read into memory.
  const auto odd = write_bytes(folder / "odd.npz", zip({ZipPart::stored("xyz.npy", floats(4, 5))}));
  const at::Tensor read = NpzFile(odd).load("xyz", mapped);
  check_mapped(read, "odd.npz", false);
  CHECK(same(read, NpzFile(odd).load("xyz")));
  const auto even =
      write_bytes(folder / "even.npz", zip({ZipPart::stored("xy.npy", floats(4, 5))}));
  check_mapped(NpzFile(even).load("xy", mapped), "even.npz");
}

TEST_CASE("max_bytes() limits unpacked bytes and the archive as a whole", "[npz][bad]") {
  const Folder folder;
  const std::string array = floats(100, 10);
  const auto stored = write_bytes(
      folder / "a.npz", zip({ZipPart::stored("a.npy", array), ZipPart::stored("b.npy", array)}));
  CHECK(load_npz(stored, LoadOptions().max_bytes(8000)).size() == 2);
  CHECK(NpzFile(stored).load("a", LoadOptions().max_bytes(4000)).numel() == 1000);
  for (const std::size_t threads : {1, 4}) {
    const auto limited = LoadOptions().max_bytes(7999).threads(threads);
    const Error error = error_of([&] { (void)load_npz(stored, limited); });
    CHECK(error.code() == ErrorCode::TooLarge);
    CHECK_THAT(error.what(), says("for all of them together, max_bytes()"));
  }
  if (!has_deflate()) return;
  const auto deflated = write_bytes(folder / "b.npz", zip({ZipPart::packed("a.npy", array)}));
  const auto some_rows = LoadOptions().rows(0, 1);
  CHECK(NpzFile(deflated).load("a", LoadOptions(some_rows).max_bytes(4000)).numel() == 10);
  largest_allocation = 0;
  const Error error =
      error_of([&] { (void)NpzFile(deflated).load("a", LoadOptions(some_rows).max_bytes(3999)); });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK(largest_allocation < 100000);
}

TEST_CASE("many threads read one NpzFile", "[npz][threads]") {
  const Folder folder;
  Arrays arrays;
  for (int i = 0; i < 20; ++i) {
    arrays.insert(std::to_string(i), at::full({100 + i, 50}, i));
  }
  const auto path = folder / "a.npz";
  save_npz(path, arrays, SaveNpzOptions().compressed(has_deflate()));
  const NpzFile file(path);
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (const auto& array : arrays) {
        if (same(file.load(array.key()), array.value()) &&
            file.header(array.key()).shape[1] == 50) {
          ++right;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 160);
  CHECK(load_npz(path, LoadOptions().threads(16)).size() == 20);
}

TEST_CASE("an open NpzFile reads the old archive after it is replaced", "[npz]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_npz(path, {{"a", at::full({3}, 1)}});
  NpzFile old(path);
  save_npz(path, {{"a", at::full({3}, 2)}});
  CHECK(at::equal(old.load("a"), at::full({3}, 1)));
  const NpzFile moved = std::move(old);
  CHECK(at::equal(moved.load("a"), at::full({3}, 1)));
  CHECK(at::equal(load_npz(path)["a"], at::full({3}, 2)));
}
