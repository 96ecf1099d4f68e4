// Writing archives.

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("save_npz() writes archives that load bit for bit, with and without zip64",
          "[numpy][npz]") {
  const Folder own;
  const char* const other = std::getenv("TORCH_NPY_WRITE_TO");
  const std::filesystem::path folder = other ? std::filesystem::path(other) : own.path();
  Arrays arrays;
  std::string keys;
  const auto add = [&](const std::string& key, const std::string& file) {
    arrays.insert(key, load(arrays_folder() / file));
    keys += key + "\t" + file + "\n";
  };
  for (const auto& line : read_table(arrays_folder() / "expected.txt")) {
    // LibTorch before 2.3 has no tensors of these.
    if (line[2][1] == 'u' && line[2][2] != '1') continue;
    add(std::filesystem::path(line[0]).stem().string(), line[0]);
  }
  add("größe/日本語", "little_f4_C.npy");
  add("", "little_i4_C.npy");
  write_bytes(folder / "keys.txt", keys);
  std::vector<std::filesystem::path> paths{folder / "stored.npz"};
  save_npz(paths[0], arrays);
  // The same with every number in zip64 fields.
  for (const std::uint64_t from : {std::uint64_t{100}, std::uint64_t{1}}) {
    paths.push_back(folder / ("zip64_" + std::to_string(from) + ".npz"));
    torch_npy::detail::AtomicFile file(paths.back(), false);
    torch_npy::detail::ZipWriter zip(file, from);
    for (const auto& array : arrays) {
      torch_npy::detail::pack(array.key() + ".npy", array.value(), false).add_to(zip);
    }
    zip.finish();
    file.commit();
  }
  paths.push_back(folder / "compressed.npz");
  if (has_deflate()) {
    save_npz(paths.back(), arrays, SaveNpzOptions().compressed(true));
  } else {
    const auto compress = [&] {
      save_npz(paths.back(), arrays, SaveNpzOptions().compressed(true));
    };
    CHECK_THAT(error_of(compress).what(), says("torch_npy::npz"));
    CHECK_FALSE(std::filesystem::exists(paths.back()));
    paths.pop_back();
  }
  for (const auto& path : paths) {
    INFO(path);
    const Arrays got = load_npz(path);
    REQUIRE(got.keys() == arrays.keys());
    for (const auto& array : arrays) CHECK(same(got[array.key()], array.value()));
  }
}

TEST_CASE("an archive of 5002 deflated arrays loads", "[npz][save]") {
  if (!has_deflate()) return;
  const Folder folder;
  Arrays arrays;
  for (int i = 0; i < 5000; ++i) arrays.insert(std::to_string(i), at::full({2}, i));
  arrays.insert("large", at::zeros({9 << 20}));
  arrays.insert("last", at::zeros({1}));
  save_npz(folder / "a.npz", arrays, SaveNpzOptions().compressed(true).sync(false));
  const Arrays got = load_npz(folder / "a.npz");
  REQUIRE(got.keys() == arrays.keys());
  for (const auto& array : arrays) REQUIRE(same(got[array.key()], array.value()));
}

TEST_CASE("equal arrays give equal, aligned and minimal archives", "[npz]") {
  const Folder folder;
  const Arrays arrays{{"a", at::arange(10)}, {"b", at::arange(5).to(at::kHalf)}};
  save_npz(folder / "1.npz", arrays);
  save_npz(folder / "2.npz", arrays);
  const std::string bytes = read_bytes(folder / "1.npz");
  CHECK((bytes == read_bytes(folder / "2.npz")));
  CHECK(bytes.find("PK\x06\x06") == bytes.npos);  // no zip64
  CHECK(bytes.find("\x93NUMPY") % 64 == 0);
  CHECK(bytes.rfind("\x93NUMPY") % 64 == 0);
  CHECK(bytes.size() < 2 * (30 + 5 + 46 + 5 + 128 + 64) + 80 + 10 + 22);
  if (!has_deflate()) return;
  // An array that does not become smaller is stored.
  constexpr int kNoise = 2 << 20;  // the header's 128 bytes do become smaller
  std::string noise;
  std::uint64_t state = 1;
  for (int i = 0; i < kNoise; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    noise += static_cast<char>(state >> 56);
  }
  at::Tensor random = at::empty({kNoise}, at::kByte);
  std::memcpy(random.data_ptr(), noise.data(), noise.size());
  save_npz(folder / "3.npz", {{"random", random}, {"zeros", at::zeros({4096})}},
           SaveNpzOptions().compressed(true));
  const NpzFile file(folder / "3.npz");
  CHECK_FALSE(file.is_deflated("random"));
  CHECK(file.is_deflated("zeros"));
  CHECK(same(file.load("random"), random));
}

TEST_CASE("a failed save_npz() leaves the old archive", "[npz][save]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_npz(path, {{"a", at::arange(3)}});
  const std::string before = read_bytes(path);
  const auto refused = [&](const Arrays& arrays) {
    const Error error = error_of([&] { save_npz(path, arrays); });
    CHECK(error.path() == path);
    CHECK((read_bytes(path) == before));
    CHECK(folder.count() == 1);
    return error;
  };
  const at::Tensor good = at::arange(3);
  CHECK(refused({{"a", good}, {"b", at::Tensor()}}).code() == ErrorCode::InvalidArgument);
  CHECK_THAT(refused({{"a", good}, {"b", at::Tensor()}}).what(),
             says("array \"b\": save() of an undefined tensor"));
  CHECK_THAT(refused({{"../a", good}}).what(), says("leads out of its folder"));
  CHECK_THAT(refused({{"..", good}}).what(), says("leads out of its folder"));
  CHECK_THAT(refused({{std::string("a\0", 2), good}}).what(), says("zero byte"));
  CHECK_THAT(refused({{"a", good}, {"a", good}}).what(), says("two arrays have the name \"a\""));
  CHECK_THAT(refused({{"\xff", good}}).what(), says("not UTF-8"));
  CHECK_THAT(refused({{std::string(70000, 'a'), good}}).what(), says("longer than"));
  CHECK(error_of([&] {
          save_npz(folder / "none" / "a.npz", {{"a", good}});
        }).code() == ErrorCode::NotFound);
  save_npz(path, Arrays{});
  CHECK(read_bytes(path).size() == 22);
}
