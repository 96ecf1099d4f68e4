// Adding, replacing, removing and aligning arrays of an archive.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/update_npz.hpp>
#endif

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

using Names = std::vector<std::string>;

std::vector<std::string> entries_of(const Folder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

/// The packed bytes of a member, its CRC and its method.
struct Packed {
  std::string bytes;
  std::uint32_t crc;
  int method;
  bool operator==(const Packed& other) const {
    return bytes == other.bytes && crc == other.crc && method == other.method;
  }
};

Packed packed_of(const std::filesystem::path& path, const std::string& name) {
  const torch_npy::detail::ZipArchive archive(
      std::make_shared<const torch_npy::detail::NamedFile>(path));
  for (const auto& member : archive.members()) {
    if (member.name != name) continue;
    std::string bytes(static_cast<std::size_t>(member.packed), '\0');
    archive.source().read_fully(bytes.data(), bytes.size(), archive.data_offset(member));
    return {bytes, member.crc, member.method};
  }
  return {"none", 0, -1};
}

}  // namespace

TEST_CASE("update_npz() adds, replaces and removes arrays and keeps the others as they are",
          "[npz][update]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  std::vector<ZipPart> parts{ZipPart::stored("a.npy", floats(2, 3)),
                             ZipPart::stored("readme.txt", "hello"),
                             ZipPart::stored("b.npy", floats(1, 1)),
                             ZipPart::stored("c", floats(4, 4))};  // an array without an ending
  write_bytes(path, zip(parts));
  const Packed a = packed_of(path, "a.npy");
  const Packed readme = packed_of(path, "readme.txt");

  update_npz(path, {{"b", at::full({3}, 7, at::kInt)}, {"new", at::arange(5)}}, {"c"});
  const NpzFile file(path);
  CHECK(file.names() == Names{"a", "b", "new"});
  CHECK(at::equal(file.load("b"), at::full({3}, 7, at::kInt)));
  CHECK(at::equal(file.load("new"), at::arange(5)));
  CHECK((packed_of(path, "a.npy") == a));
  CHECK((packed_of(path, "readme.txt") == readme));
  CHECK(packed_of(path, "c").method == -1);
  CHECK(entries_of(folder) == Names{"a.npz"});

  update_npz(path, {{"a", at::ones({1})}});
  CHECK(NpzFile(path).names() == Names{"b", "new", "a"});
  remove_from_npz(path, {"a", "b.npy"});
  CHECK(NpzFile(path).names() == Names{"new"});
  update_npz(path, Arrays(), {"readme.txt", "new"});
  CHECK(NpzFile(path).names().empty());
  update_npz(path, {{"first", at::ones({2})}});  // to an empty archive
  CHECK(NpzFile(path).names() == Names{"first"});
}

TEST_CASE("an array replaces the one of exactly its name", "[npz][update]") {
  const Folder folder;
  const auto path = write_bytes(folder / "a.npz", zip({ZipPart::stored("a.npy", floats(1, 1)),
                                                       ZipPart::stored("b", floats(2, 2)),
                                                       ZipPart::stored("._c.npy", "no array")}));
  update_npz(path, {{"a.npy", at::ones({3})}, {"b", at::ones({4})}, {"._c", at::ones({5})}});
  const NpzFile file(path);
  CHECK(file.names() == Names{"a", "a.npy", "b", "._c"});
  CHECK(file.load("a.npy").numel() == 3);
  CHECK(file.load("a").numel() == 1);
  CHECK(file.load("b").numel() == 4);
  CHECK(file.load("._c").numel() == 5);
}

TEST_CASE("deflated members are copied without being unpacked, and new ones can be deflated",
          "[npz][update][deflate]") {
  if (!has_deflate()) return;
  const Folder folder;
  const auto path = folder / "a.npz";
  const auto compressed = SaveNpzOptions().compressed(true);
  save_npz(path, {{"a", at::arange(5000)}, {"b", at::arange(10)}}, compressed);
  const Packed a = packed_of(path, "a.npy");
  REQUIRE(a.method == 8);
  update_npz(path, {{"c", at::full({9000}, 1)}}, {}, compressed);
  update_npz(path, {{"d", at::full({9000}, 1)}});
  CHECK((packed_of(path, "a.npy") == a));
  const NpzFile file(path);
  CHECK(file.is_deflated("c"));
  CHECK_FALSE(file.is_deflated("d"));
  CHECK(at::equal(file.load("a"), at::arange(5000)));
}

TEST_CASE("an update that fails leaves the archive as it was", "[npz][update][bad]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_npz(path, {{"a", at::arange(3)}, {"b", at::arange(3)}});
  const std::string before = read_bytes(path);
  const auto refused = [&](const Arrays& arrays, const Names& remove, ErrorCode code,
                           const char* words) {
    const Error error = error_of([&] { update_npz(path, arrays, remove); });
    CHECK(error.code() == code);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(words));
    CHECK((read_bytes(path) == before));
    CHECK(entries_of(folder) == Names{"a.npz"});
  };
  refused(Arrays(), {"c"}, ErrorCode::NotFound, "no array \"c\"; there are \"a\", \"b\"");
  refused(Arrays(), {"a", "a.npy"}, ErrorCode::InvalidArgument, "removed twice");
  refused({{"a", at::arange(2)}}, {"a"}, ErrorCode::InvalidArgument, "both saved and removed");
  refused({{"../x", at::arange(2)}}, {}, ErrorCode::InvalidArgument, "leads out of its folder");
  refused({{"x", at::Tensor()}}, {}, ErrorCode::InvalidArgument, "array \"x\"");
  refused({{"x", at::arange(2)}, {"x", at::arange(2)}}, {}, ErrorCode::InvalidArgument,
          "two arrays");

  const Error missing = error_of([&] { update_npz(folder / "none.npz", {{"a", at::arange(2)}}); });
  CHECK(missing.code() == ErrorCode::NotFound);
  const auto npy = write_bytes(folder / "x.npy", floats(1, 1));
  CHECK(error_of([&] { update_npz(npy, {{"a", at::arange(2)}}); }).code() == ErrorCode::NotNpy);
  std::string damaged = before;
  damaged[before.rfind("PK\x01\x02") + 16] ^= 1;  // the CRC of b in the directory
  write_bytes(path, damaged);
  const Error bad = error_of([&] { update_npz(path, {{"c", at::arange(2)}}); });
  CHECK(bad.code() == ErrorCode::BadZip);
  CHECK_THAT(bad.what(), says("member \"b.npy\""));
  CHECK((read_bytes(path) == damaged));
}

TEST_CASE("a saved array cannot have the name of a member that is no array", "[npz][update][bad]") {
  const Folder folder;
  ZipPart deflated = ZipPart::stored("packed", "hello");
  deflated.bytes =
      std::string("\1\5\0\xfa\xff", 5) + "hello";  // what a program without libdeflate cannot read
  deflated.both([&](ZipHeader& header) {
    header.method = 8;
    header.packed = deflated.bytes.size();
  });
  const auto path = write_bytes(folder / "a.npz", zip({ZipPart::stored("notes", "hello"), deflated,
                                                       ZipPart::stored("a.npy", floats(1, 1))}));
  const std::string before = read_bytes(path);
  for (const char* const name : {"notes", "packed"}) {
    const Error error = error_of([&] { update_npz(path, {{name, at::ones({2})}}); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("member \"" + std::string(name) + "\": ") &&
                                 (says("np.load() would find it instead of the saved array") ||
                                  says("libdeflate")));
    CHECK((read_bytes(path) == before));
  }
  update_npz(path, {{"notes", at::ones({3})}}, {"notes"});
  CHECK(NpzFile(path).load("notes").numel() == 3);
  update_npz(path, {{"notes.txt", at::ones({2})}});
  CHECK(NpzFile(path).contains("notes.txt"));
}

TEST_CASE("an update does not undo what another program saved meanwhile",
          "[npz][update][threads]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const auto quick = SaveNpzOptions().sync(false);
  for (int i = 0; i < 5; ++i) {
    save_npz(path, {{"old", at::zeros({4 << 20})}}, quick);
    std::atomic<bool> is_done{false};
    std::thread other([&] {
      while (entries_of(folder).size() == 1 && !is_done) std::this_thread::yield();
      save_npz(path, {{"new", at::ones({1})}}, quick);  // the update has a file of its own now
    });
    try {
      update_npz(path, {{"x", at::ones({1})}}, {}, quick);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::Io);
      CHECK_THAT(error.what(), says("another program replaced the archive during the update"));
    }
    is_done = true;
    other.join();
    CHECK(NpzFile(path).names() == Names{"new"});
  }
}

TEST_CASE("a second update at the same time is refused, and nothing is lost",
          "[npz][update][threads]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_npz(path, {{"start", at::arange(3)}});
  {
    const auto locked = torch_npy::detail::LockedFile(path, "update_npz()");
    const Error error = error_of([&] { update_npz(path, {{"a", at::arange(2)}}); });
    CHECK(error.code() == ErrorCode::Io);
    CHECK_THAT(error.what(), says("locked: another update_npz() has the file open"));
  }
  constexpr int kThreads = 4;
  constexpr int kArrays = 10;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&path, thread] {
      for (int i = 0; i < kArrays; ++i) {
        const std::string name = std::to_string(thread) + "_" + std::to_string(i);
        for (;;) {
          try {
            update_npz(path, {{name, at::full({2}, i)}}, {}, SaveNpzOptions().sync(false));
            break;
          } catch (const Error& error) {
            if (error.code() != ErrorCode::Io) throw;
            std::this_thread::yield();
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(NpzFile(path).names().size() == 1 + kThreads * kArrays);
}

TEST_CASE("align_npz() makes all stored arrays of any writer mappable", "[npz][update][mmap]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  // Headers as NumPy pads them, as NumPy before 1.14 did, and not padded at all; the names put them
  // at different positions.
  std::vector<ZipPart> parts;
  for (std::size_t padding = 0; padding < 5; ++padding) {
    const std::string text = header_text("'<f8'", "(2,)") + std::string(padding, ' ');
    const std::string bytes = npy(text, std::string(16, static_cast<char>('a' + padding)));
    parts.push_back(ZipPart::stored("n" + std::string(padding, 'x') + ".npy", bytes));
  }
  parts.push_back(ZipPart::stored("swapped.npy", npy(header_text("'>f8'", "(1,)"), "12345678")));
  parts.push_back(ZipPart::stored("readme.txt", "hello"));
  write_bytes(path, zip(parts));
  const auto mappable = [&] {
    const NpzFile file(path);
    std::size_t count = 0;
    for (const std::string& name : file.names()) count += file.can_map(name) ? 1 : 0;
    return count;
  };
  CHECK(mappable() < 5);
  const auto before = load_npz(path);
  align_npz(path);
  CHECK(mappable() == 5);
  CHECK_FALSE(NpzFile(path).can_map("swapped"));
  CHECK(packed_of(path, "readme.txt").bytes == "hello");
  const auto after = load_npz(path, LoadOptions().mmap(true));
  REQUIRE(after.keys() == before.keys());
  for (const auto& array : before) {
    CHECK(after[array.key()].scalar_type() == array.value().scalar_type());
    CHECK((bytes_of(after[array.key()]) == bytes_of(array.value())));
  }
  const std::string once = read_bytes(path);
  align_npz(path, SaveNpzOptions().sync(false));
  CHECK((read_bytes(path) == once));  // nothing is left to do
}
