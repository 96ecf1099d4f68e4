// .npz archives. Compiled twice: with libdeflate against the headers one by one, and, with
// TORCH_NPY_SINGLE_HEADER, against the generated one with LibTorch alone, which reads and writes
// stored arrays.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/npz.hpp>
#endif

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <sys/resource.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "allocations.hpp"
#include "catch.hpp"
#include "files.hpp"
#include "zip_bytes.hpp"

using namespace torch_npy;

namespace {

using Arrays = torch::OrderedDict<std::string, at::Tensor>;

std::vector<std::vector<std::string>> read_table(const std::filesystem::path& path) {
  std::vector<std::vector<std::string>> table;
  std::istringstream lines(read_bytes(path));
  for (std::string line; std::getline(lines, line);) {
    table.emplace_back();
    std::istringstream columns(line);
    for (std::string column; std::getline(columns, column, '\t');) table.back().push_back(column);
  }
  return table;
}

std::filesystem::path arrays_folder() { return TORCH_NPY_TEST_DATA "/arrays"; }

bool same(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() != b.scalar_type() || a.sizes() != b.sizes() ||
      (a.numel() != 0 && a.strides() != b.strides())) {
    return false;
  }
  const at::Tensor x = a.contiguous();
  const at::Tensor y = b.contiguous();
  return x.nbytes() == 0 || std::memcmp(x.data_ptr(), y.data_ptr(), x.nbytes()) == 0;
}

/// An .npy file of float32, with values that deflate can do something with.
std::string floats(std::int64_t rows, std::int64_t columns) {
  std::ostringstream out;
  save(out, at::arange(rows * columns).remainder(97).to(at::kFloat).view({rows, columns}));
  return out.str();
}

bool is_mapped(const at::Tensor& tensor, const std::string& file) {
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.data_ptr());
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) == 2 && begin <= address &&
        address < end) {
      return line.find(file) != line.npos;
    }
  }
  return false;
}

}  // namespace

TEST_CASE("CRC-32 is zip's", "[zip]") {
  for (auto* crc32 :
       {&torch_npy::detail::crc32_by_tables, torch_npy::detail::zip_codec().load()->crc32}) {
    CHECK(crc32(0, "123456789", 9) == 0xcbf43926);
    std::string data;
    for (int i = 0; i < 100; ++i) data += static_cast<char>(i * 37);
    for (std::size_t cut = 0; cut <= data.size(); ++cut) {
      const std::uint32_t first = crc32(0, data.data(), cut);
      CHECK(crc32(first, data.data() + cut, data.size() - cut) == crc_of(data));
    }
    CHECK(crc32(crc_of(data), nullptr, 0) == crc_of(data));
  }
#ifdef TORCH_NPY_WITH_LIBDEFLATE
  CHECK(has_deflate());
#else
  CHECK_FALSE(has_deflate());
#endif
}

TEST_CASE("archives that NumPy and zipfile wrote come back bit for bit", "[numpy][npz]") {
  const char* const other = std::getenv("TORCH_NPY_ARCHIVES");
  const std::filesystem::path folder = other ? other : TORCH_NPY_TEST_DATA "/npz";
  std::vector<std::string> archives;
  std::vector<std::vector<std::vector<std::string>>> lines;
  for (const auto& line : read_table(folder / "expected.txt")) {
    REQUIRE(line.size() == 4);
    if (archives.empty() || archives.back() != line[0]) {
      archives.push_back(line[0]);
      lines.emplace_back();
    }
    lines.back().push_back(line);
  }
  REQUIRE(archives.size() == 7);
  for (std::size_t i = 0; i < archives.size(); ++i) {
    INFO(archives[i]);
    const NpzFile file(folder / archives[i]);
    std::vector<std::string> names;
    bool all_stored = true;
    for (const auto& line : lines[i]) {
      INFO(line[1]);
      const bool is_deflated = line[3] == "1";
      names.push_back(line[1]);
      all_stored = all_stored && !is_deflated;
      CHECK(file.contains(line[1]));
      CHECK(file.is_deflated(line[1]) == is_deflated);
      if (is_deflated && !has_deflate()) {
        CHECK_THAT(error_of([&] { (void)file.load(line[1]); }).what(), says("torch_npy::npz"));
        continue;
      }
      const at::Tensor want = load(arrays_folder() / line[2]);
      CHECK(same(file.load(line[1]), want));
      CHECK(same(file.load(line[1], LoadOptions().mmap(true)), want));
      const Header header = file.header(line[1]);
      const Header there = read_header(arrays_folder() / line[2]);
      CHECK(header.dtype == there.dtype);
      CHECK(header.shape == there.shape);
      CHECK(header.fortran_order == there.fortran_order);
    }
    if (!all_stored && !has_deflate()) continue;  // nor can it be told what is an array
    CHECK(file.names() == names);
    const Arrays all = load_npz(folder / archives[i]);
    REQUIRE(all.keys() == names);
    for (std::size_t k = 0; k < names.size(); ++k) {
      CHECK(same(all[k].value(), load(arrays_folder() / lines[i][k][2])));
    }
  }
  CHECK(load_npz(folder / "empty.npz").is_empty());
}

TEST_CASE("archives for NumPy, zipfile and unzip to look at", "[numpy][npz]") {
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
  // The same with every number in zip64's place.
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

TEST_CASE("a name is that of an array first, and then that of a member", "[npz]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const Arrays arrays{{"x", at::full({2}, 1)}, {"x.npy", at::full({2}, 2)}};
  save_npz(path, arrays);
  const NpzFile file(path);
  CHECK(file.names() == arrays.keys());
  CHECK(same(file.load("x"), arrays["x"]));
  CHECK(same(file.load("x.npy"), arrays["x.npy"]));
  CHECK(same(file.load("x.npy.npy"), arrays["x.npy"]));
}

TEST_CASE("stored arrays are mapped, zero-copy", "[npz][mmap]") {
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
    CHECK(is_mapped(b, "a.npz"));
    CHECK(at::equal(b, at::arange(12).to(at::kDouble).view({3, 4}).t()));
    CHECK(b.strides() == at::IntArrayRef({1, 4}));
    CHECK(reinterpret_cast<std::uintptr_t>(a.data_ptr()) % 64 == 0);
    CHECK_FALSE(is_mapped(file.load("a"), "a.npz"));
    CHECK_FALSE(is_mapped(file.load("a", LoadOptions().mmap(true).dtype(at::kDouble)), "a.npz"));
    CHECK(is_mapped(file.load("a", LoadOptions().mmap(true).rows(1, 3)), "a.npz"));
    const Arrays all = load_npz(path, mapped);
    for (const auto& array : all) CHECK(is_mapped(array.value(), "a.npz"));
  }
  const std::string before = read_bytes(path);
  CHECK(is_mapped(a, "a.npz"));
  a.fill_(3);
  CHECK(read_bytes(path) == before);
  std::filesystem::remove(path);
  CHECK(at::equal(a, at::full({1000}, 3.f)));

  // Not aligned, as in NumPy's archives: read.
  const auto odd = write_bytes(folder / "odd.npz", zip({ZipPart::stored("xyz.npy", floats(4, 5))}));
  const at::Tensor read = NpzFile(odd).load("xyz", mapped);
  CHECK_FALSE(is_mapped(read, "odd.npz"));
  CHECK(same(read, NpzFile(odd).load("xyz")));
  const auto even =
      write_bytes(folder / "even.npz", zip({ZipPart::stored("xy.npy", floats(4, 5))}));
  CHECK(is_mapped(NpzFile(even).load("xy", mapped), "even.npz"));
}

TEST_CASE("arrays of an archive load with every option", "[npz]") {
  const Folder folder;
  const at::Tensor big = at::arange(300000).remainder(1000).to(at::kFloat).view({600, 500});
  for (const bool compressed : {false, true}) {
    if (compressed && !has_deflate()) continue;
    const auto path = folder / "a.npz";
    save_npz(path, {{"big", big}, {"fortran", big.t()}, {"none", at::empty({0, 3})}},
             SaveNpzOptions().compressed(compressed).sync(false));
    const NpzFile file(path);
    CHECK(file.is_deflated("big") == compressed);
    CHECK(same(file.load("big"), big));
    CHECK(same(file.load("fortran"), big.t()));
    CHECK(same(file.load("none"), at::empty({0, 3})));
    CHECK(same(file.load("big", LoadOptions().dtype(at::kInt)), big.to(at::kInt)));
    CHECK(same(file.load("big", LoadOptions().rows(7, 19)), big.slice(0, 7, 19)));
    CHECK(at::equal(file.load("fortran", LoadOptions().rows(7, 19)), big.t().slice(0, 7, 19)));
    CHECK(same(file.load("big", LoadOptions().pinned_memory(true).threads(3)), big));
    CHECK(file.header("big").shape == std::vector<std::int64_t>{600, 500});
    CHECK(file.header("big").data_offset == 128);
    at::Tensor loaded = file.load("big");
    loaded.resize_({700, 500});
    CHECK(at::equal(loaded.slice(0, 0, 600), big));
    const Arrays all = load_npz(path, LoadOptions().dtype(at::kHalf).threads(2));
    CHECK(same(all["big"], big.to(at::kHalf)));

    largest_allocation = 0;
    const Error large = error_of([&] { (void)file.load("big", LoadOptions().max_bytes(1199999)); });
    CHECK(large.code() == ErrorCode::TooLarge);
    CHECK_THAT(large.what(), says("member \"big.npy\": a tensor of 1200000 bytes"));
    CHECK(large.path() == path);
    CHECK(error_of([&] { (void)file.load("big", LoadOptions().rows(0, 601)); }).code() ==
          ErrorCode::InvalidArgument);
    CHECK(largest_allocation < 200000);
  }
}

TEST_CASE("structured arrays of an archive give their fields", "[npz]") {
  const Folder folder;
  std::string records;
  for (int i = 0; i < 5000; ++i) {
    records +=
        little(static_cast<std::uint64_t>(i), 4) + little(static_cast<std::uint64_t>(3 * i), 2);
  }
  std::string text = header_text("[('a', '<i4'), ('b', '<i2')]", "(5000,)");
  text.insert(text.size() - 1, 118 - text.size(),
              ' ');  // the records are aligned, in file and memory
  const std::string file = npy(text, records);
  for (const bool packed : {false, true}) {
    if (packed && !has_deflate()) continue;
    ZipPart part = packed ? ZipPart::packed("tt.npy", file) : ZipPart::stored("tt.npy", file);
    const NpzFile archive(write_bytes(folder / "a.npz", zip({part})));
    for (const bool mapped : {false, true}) {
      const auto fields = archive.load_fields("tt", LoadOptions().mmap(mapped));
      CHECK(fields.keys() == std::vector<std::string>{"a", "b"});
      CHECK(at::equal(fields["a"], at::arange(5000).to(at::kInt)));
      CHECK(at::equal(fields["b"], at::arange(0, 15000, 3).to(at::kShort)));
      CHECK(fields["b"].strides() == at::IntArrayRef({3}));
      CHECK(is_mapped(fields["b"], "a.npz") == (mapped && !packed));
    }
    const auto rows = archive.load_fields("tt", LoadOptions().rows(7, 9));
    CHECK(at::equal(rows["a"], at::arange(7, 9).to(at::kInt)));
    CHECK_THAT(
        error_of([&] { (void)archive.load("tt"); }).what(),
        says("member \"tt.npy\": a structured dtype of 2 fields is not one tensor: load_fields()"));
    part.both([](ZipHeader& header) { ++header.crc; });
    const NpzFile bad(write_bytes(folder / "bad.npz", zip({part})));
    CHECK_THAT(error_of([&] { (void)bad.load_fields("tt"); }).what(), says("CRC-32"));
  }
}

TEST_CASE("what is not there, or is no array, is an Error that says so", "[npz][bad]") {
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
  CHECK_THAT(error_of([&] { NpzFile{npy}; }).what(), says("load() reads .npy files"));
  CHECK_THAT(error_of([&] { (void)load(path); }).what(), says("load_npz() reads"));
  CHECK(error_of([&] { NpzFile{folder.path()}; }).code() == ErrorCode::Io);
  CHECK(error_of([&] { NpzFile{write_bytes(folder / "empty", "")}; }).code() ==
        ErrorCode::Truncated);
}

namespace {

struct BadArchive {
  const char* name;
  std::string bytes;
  const char* words;
  bool opens = false;  ///< the Error comes when the array is loaded
  ErrorCode code = ErrorCode::BadZip;
};

std::vector<BadArchive> bad_archives() {
  const std::string array = floats(3, 4);
  const ZipPart good = ZipPart::stored("a.npy", array);
  const ZipPart second = ZipPart::stored("b.npy", array);
  const auto with = [&](auto change) {
    ZipPart part = good;
    change(part);
    return zip({part, second});
  };
  const auto central = [&](auto change) {
    return with([&](ZipPart& part) { change(part.central); });
  };
  const auto local = [&](auto change) { return with([&](ZipPart& part) { change(part.local); }); };
  const auto named = [&](const std::string& name, std::uint16_t flags = 0) {
    return with([&](ZipPart& part) {
      part.both([&](ZipHeader& header) {
        header.name = name;
        header.flags = flags;
      });
    });
  };
  const auto end = [&](auto change) { return zip({good, second}, change); };
  const auto poked = [&](std::size_t at, int byte) {
    std::string bytes = zip({good, second});
    bytes[at] = static_cast<char>(byte);
    return bytes;
  };
  std::vector<BadArchive> bad{
      {"no end", "PK\x03\x04 and nothing else that would make it an archive", "cut short"},
      {"text behind", zip({good}) + std::string(70000, 'x'), "cut short"},
      {"half an end behind the end", zip({good}) + "PK\x05\x06 and no more", "cut short"},
      {"comment cut short",
       [&] {
         const std::string bytes = end([](ZipEnd& e) { e.comment = "hello"; });
         return bytes.substr(0, bytes.size() - 1);
       }(),
       "its comment is cut short"},
      {"something in front", "PK\x03\x04" + zip({good}), "but that end is at byte"},
      {"directory offset", end([](ZipEnd& e) { --e.offset; }), "but that end is at byte"},
      {"directory past the end", end([](ZipEnd& e) { e.offset = 0xfffffff0; }),
       "from byte 4294967280 on"},
      {"directory size", end([](ZipEnd& e) { e.size += 4; }), "but that end is at byte"},
      {"count", end([](ZipEnd& e) { e.count = e.count_here = 3; }), "2 members, its end says 3"},
      {"no members said", end([](ZipEnd& e) { e.count = e.count_here = 0; }), "its end says 0"},
      {"several disks", end([](ZipEnd& e) { e.disk = 1; }), "several parts"},
      {"counts differ", end([](ZipEnd& e) { e.count_here = 1; }), "several parts"},
      {"zip64 end elsewhere",
       end([](ZipEnd& e) { e.before = "PK\x06\x07" + little(0, 4) + little(1, 8) + little(1, 4); }),
       "there is no zip64 end record"},
      {"zip64 end far away", end([](ZipEnd& e) {
         e.before = "PK\x06\x07" + little(0, 4) + little(UINT64_MAX, 8) + little(1, 4);
       }),
       "said to be at byte 18446744073709551615"},
      {"zip64 end on another disk",
       end([](ZipEnd& e) { e.before = "PK\x06\x07" + little(1, 4) + little(1, 8) + little(1, 4); }),
       "several parts"},
      {"zip64 of two disks",
       end([](ZipEnd& e) { e.before = "PK\x06\x07" + little(0, 4) + little(1, 8) + little(2, 4); }),
       "several parts"},
      {"a version to come", central([](ZipHeader& h) { h.version = 64; }),
       "member \"a.npy\": it takes version 6.4"},
      {"two ends", end([](ZipEnd& e) {
         e.before = "PK\x06\x06" + little(44, 8) + little(0, 12) + little(2, 8) + little(2, 8) +
                    little(e.size, 8) + little(e.offset + 1, 8) + "PK\x06\x07" + little(0, 4) +
                    little(e.offset + e.size, 8) + little(1, 4);
       }),
       "contradict each other"},
      {"empty name", named(""), "it is empty"},
      {"..", named(".."), "leads out"},
      {"../a", named("../a.npy"), "leads out of its folder"},
      {"a/../b", named("a/../b.npy"), "leads out"},
      {".. behind an ending", named("a/...npy"), "leads out"},
      {"a\\..\\b", named("a\\..\\b.npy"), "leads out"},
      {"zero byte", named(std::string("a\0b.npy", 7)), "zero byte"},
      {"no UTF-8", named("\xff.npy", 1 << 11), "not UTF-8"},
      {"the same name twice", named("b.npy"), "two members have the name \"b.npy\""},
      {"two arrays of one name", named("b"), "two arrays have the name \"b\""},
      {"extra field too long",
       central([](ZipHeader& h) { h.extra = little(9, 2) + little(5, 2) + "1234"; }),
       "member \"a.npy\": an extra field is longer"},
      {"zip64 field too short", central([&](ZipHeader& h) {
         h.packed = h.size = 0xffffffff;
         h.extra = little(1, 2) + little(8, 2) + little(160, 8);
       }),
       "cut short"},
      {"offset out of range", with([](ZipPart& p) { p.offset = 100000; }),
       "what follows is at byte"},
      {"offset in the directory", with([&](ZipPart& p) {
         p.offset = zip({good, second}).size() - 60;
       }),
       "what follows"},
      {"overlapping", with([](ZipPart& p) { p.offset = 20; }), "what follows is at byte"},
      {"the same bytes twice",
       [&] {
         ZipPart twin = second;
         twin.offset = 0;
         return zip({good, twin});
       }(),
       "what follows is at byte 0"},
      {"stored, two sizes", with([](ZipPart& p) { p.both([](ZipHeader& h) { --h.packed; }); }),
       "member \"a.npy\": it is stored, and still has"},
      {"something in front", with([](ZipPart& p) { p.offset = 1; }),
       "1 byte in front of its first member", false},
      {"encrypted", with([](ZipPart& p) { p.both([](ZipHeader& h) { h.flags = 1; }); }),
       "member \"a.npy\": it is encrypted", true},
      {"encrypted in the directory", central([](ZipHeader& h) { h.flags = 1 << 6; }),
       "it is encrypted", true},
      {"encrypted in the header", local([](ZipHeader& h) { h.flags = 1; }), "contradict", true},
      {"unknown method", with([](ZipPart& p) { p.both([](ZipHeader& h) { h.method = 12; }); }),
       "packed by method 12", true},
      {"another method", local([](ZipHeader& h) { h.method = 8; }), "its method", true},
      {"another name", local([](ZipHeader& h) { h.name = "c.npy"; }), "its name", true},
      {"a longer name", local([](ZipHeader& h) { h.name += " and more"; }), "its name", true},
      {"name reaches into the next", poked(26, 255), "reach past", true},
      {"extra field reaches into the next", poked(28, 255), "reach past", true},
      {"another size", local([](ZipHeader& h) { ++h.size; }), "its size", true},
      {"another packed size", local([](ZipHeader& h) { h.packed = 0; }), "its size", true},
      {"another CRC", local([](ZipHeader& h) { ++h.crc; }), "its CRC", true},
      {"CRC later without saying so", local([](ZipHeader& h) { h.crc = 0; }), "its CRC", true},
      {"wrong CRC", with([](ZipPart& p) { p.both([](ZipHeader& h) { ++h.crc; }); }),
       "not those that were stored", true},
      {"one bit turned", with([](ZipPart& p) { p.bytes.back() ^= 1; }), "CRC-32", true},
      {"one bit of the header turned", with([](ZipPart& p) { p.bytes[120] ^= 8; }), "", true,
       ErrorCode::BadHeader},
      {"an array cut short",
       [&] {
         return zip({ZipPart::stored("a.npy", array.substr(0, array.size() - 1)), second});
       }(),
       "member \"a.npy\": data cut short: the header promises 48 bytes", true,
       ErrorCode::Truncated},
  };
  if (!has_deflate()) return bad;
  const ZipPart packed = ZipPart::packed("a.npy", floats(300, 100) + "tail");
  const auto with_packed = [&](auto change) {
    ZipPart part = packed;
    change(part);
    return zip({part, second});
  };
  const auto sized = [&](auto change) {
    return with_packed([&](ZipPart& part) { part.both(change); });
  };
  for (BadArchive& one : std::vector<BadArchive>{
           {"yields more", sized([](ZipHeader& h) { --h.size; }), "does not unpack to the", true},
           {"yields less", sized([](ZipHeader& h) { ++h.size; }), "does not unpack to the", true},
           {"40 GB", sized([](ZipHeader& h) {
              h.size = 0xffffffff;
              h.extra = little(1, 2) + little(8, 2) + little(40000000000, 8);
            }),
            "which deflate cannot do", true},
           {"stream ends early", with_packed([](ZipPart& p) {
              p.bytes += "more";
              p.both([](ZipHeader& h) { h.packed += 4; });
            }),
            "deflate stream is damaged", true},
           {"stream cut short", with_packed([](ZipPart& p) {
              p.bytes.resize(p.bytes.size() - 9);
              p.both([](ZipHeader& h) { h.packed -= 9; });
            }),
            "deflate stream is damaged", true},
           {"garbage", with_packed([](ZipPart& p) { p.bytes.assign(p.bytes.size(), '\xee'); }),
            "deflate stream is damaged", true},
           {"wrong CRC, deflated", sized([](ZipHeader& h) { h.crc ^= 0x100; }), "CRC-32", true}}) {
    bad.push_back(std::move(one));
  }
  return bad;
}

}  // namespace

TEST_CASE("bad archives are Errors that name the member", "[npz][bad]") {
  const Folder folder;
  for (const BadArchive& bad : bad_archives()) {
    INFO(bad.name);
    const auto path = write_bytes(folder / "bad.npz", bad.bytes);
    largest_allocation = 0;
    const Error error = error_of([&] { (void)load_npz(path); });
    INFO(error.what());
    CHECK(error.code() == bad.code);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(bad.words));
    if (bad.opens) {
      const NpzFile file(path);
      CHECK_THAT(error_of([&] { (void)file.load("a"); }).what(), says("member \"a.npy\": "));
      CHECK(file.load("b").numel() == 12);
    } else {
      CHECK(error_of([&] { NpzFile{path}; }).code() == bad.code);
    }
    CHECK(largest_allocation < (1u << 20));
  }
}

TEST_CASE("an archive cut short anywhere is an Error", "[npz][bad]") {
  const Folder folder;
  std::vector<ZipPart> parts{ZipPart::stored("a.npy", floats(2, 3))};
  if (has_deflate()) parts.push_back(ZipPart::packed("b.npy", floats(20, 30)));
  const std::string whole = zip(parts, [](ZipEnd& end) { end.comment = "a comment"; });
  const auto path = write_bytes(folder / "a.npz", whole);
  CHECK(load_npz(path).size() == parts.size());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    INFO(size);
    std::filesystem::resize_file(path, 0);
    write_bytes(path, whole.substr(0, size));
    const ErrorCode code = error_of([&] { (void)load_npz(path); }).code();
    CHECK(code == (size == 0  ? ErrorCode::Truncated
                   : size < 4 ? ErrorCode::NotNpy
                              : ErrorCode::BadZip));
  }
}

TEST_CASE("no bit of an archive can be turned unnoticed", "[npz][bad]") {
  const Folder folder;
  const std::string array = floats(2, 3);
  std::vector<ZipPart> parts{ZipPart::stored("a.npy", array), ZipPart::stored("b", array)};
  if (has_deflate()) parts.push_back(ZipPart::packed("c.npy", floats(20, 30)));
  std::string bytes = zip(parts);
  const auto path = write_bytes(folder / "a.npz", bytes);
  const Arrays want = load_npz(path);
  std::size_t harmless = 0;
  for (std::size_t bit = 0; bit < bytes.size() * 8; bit += 3) {  // of every byte two bits or three
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    write_bytes(path, bytes);
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    try {
      const Arrays got = load_npz(path, LoadOptions().threads(1));
      ++harmless;
      INFO("bit " << bit % 8 << " of byte " << bit / 8);
      // "b" without an ending is an array by its first bytes: turned, it is none.
      const bool lost_b = got.size() == want.size() - 1 && !got.contains("b");
      CHECK((got.keys() == want.keys() || lost_b));
      for (const auto& array_got : got) CHECK(same(array_got.value(), want[array_got.key()]));
    } catch (const Error&) {
    }
  }
  // Times, versions and attributes: 20 bytes a member; the flags that say how it was deflated.
  CHECK(harmless < parts.size() * 8 * 36 / 3);
}

TEST_CASE("what programs may write and NumPy reads is read", "[npz]") {
  const Folder folder;
  const std::string array = floats(3, 4);
  const auto loads = [&](const std::string& bytes) {
    const auto path = write_bytes(folder / "a.npz", bytes);
    const at::Tensor a = NpzFile(path).load("a");
    std::ostringstream out;
    save(out, a);
    return out.str() == array;
  };
  ZipPart part = ZipPart::stored("a.npy", array);
  CHECK(loads(zip({part})));
  CHECK(loads(zip({part}, [](ZipEnd& end) { end.comment = std::string(65535, 'c'); })));
  CHECK(loads(zip({part}) + std::string(100, '\0')));  // padded, as some file systems' tools do
  part.both([](ZipHeader& header) { header.extra = little(0x7075, 2) + little(3, 2) + "abc"; });
  CHECK(loads(zip({part})));
  part.local.extra += "123";  // too short for a field
  CHECK(loads(zip({part})));

  ZipPart later = ZipPart::stored("a.npy", array);
  later.both([](ZipHeader& header) { header.flags = 1 << 3; });
  later.local.crc = 0;
  later.local.packed = later.local.size = 0;
  later.behind = "PK\x07\x08" + little(later.central.crc, 4) + little(array.size(), 4) +
                 little(array.size(), 4);
  CHECK(loads(zip({later})));

  ZipPart zip64 = ZipPart::stored("a.npy", array);
  const std::string sizes = little(array.size(), 8) + little(array.size(), 8);
  zip64.local.packed = zip64.local.size = 0xffffffff;
  zip64.local.extra = little(1, 2) + little(16, 2) + sizes;
  CHECK(loads(zip({zip64})));
  zip64.central.size = 0xffffffff;  // one of three numbers: the field has that alone
  zip64.central.extra = little(1, 2) + little(8, 2) + little(array.size(), 8);
  CHECK(loads(zip({zip64})));
  CHECK(loads(zip({zip64}, [](ZipEnd& end) {
    end.before = "PK\x06\x06" + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8) +
                 little(1, 8) + little(1, 8) + little(end.size, 8) + little(end.offset, 8) +
                 "PK\x06\x07" + little(0, 4) + little(end.offset + end.size, 8) + little(1, 4);
    end.count = end.count_here = 0xffff;
    end.size = end.offset = 0xffffffff;
  })));
}

TEST_CASE("headers of deflated arrays of any size", "[npz]") {
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

TEST_CASE("looking at what is no array takes no memory", "[npz][bad]") {
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

TEST_CASE("a limit on bytes is one on what is unpacked, and on an archive as a whole",
          "[npz][bad]") {
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
    CHECK_THAT(error.what(), says("all together, max_bytes()"));
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

TEST_CASE("what stands behind a deflated array is no part of the tensor", "[npz][bad]") {
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
  CHECK_THAT(error.what(), says("unpacked whole, and 67108880 bytes are over"));
  CHECK(largest_allocation < (1u << 20));
  const at::Tensor a = file.load("a");
  CHECK(a.numel() == 4);
  // Its memory is its own: nothing of that size is freed with it, or lies before it.
  CHECK(a.storage().nbytes() == 16);
  const auto npy_size = static_cast<std::int64_t>(array.size());
  CHECK(NpzFile(write_bytes(folder / "b.npz", zip({ZipPart::packed("a.npy", array)})))
                .load("a", LoadOptions().max_bytes(16))
                .numel() *
            4 ==
        npy_size - 128);
}

TEST_CASE("deflate streams of stored blocks, as zlib makes of noise", "[npz]") {
  if (!has_deflate()) return;
  const Folder folder;
  std::string data;
  for (std::uint64_t i = 0; i < 300000; ++i) data += static_cast<char>(i * i * i >> 9);
  const std::string file = npy(header_text("'|u1'", "(300000,)"), data);
  for (const std::size_t block : {65535u, 60000u, 1000u}) {
    ZipPart part = ZipPart::stored("a", file);
    part.bytes.clear();
    part.bytes.assign(5 * 10000, '\0');  // empty ones first, in half of what is read at first
    for (std::size_t i = 0; i < part.bytes.size(); i += 5)
      part.bytes.replace(i, 5, little(0xffff000000, 5));
    if (block == 1000) part.bytes.clear();
    for (std::size_t at = 0; at < file.size(); at += block) {
      const std::string piece = file.substr(at, block);
      part.bytes += little(at + block >= file.size() ? 1 : 0, 1) + little(piece.size(), 2) +
                    little(~piece.size() & 0xffff, 2) + piece;
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

TEST_CASE("an archive in which two readers would find two things is refused", "[npz][bad]") {
  const Folder folder;
  const auto refused = [&](const std::string& bytes, const char* words) {
    const auto path = write_bytes(folder / "a.npz", bytes);
    const Error error = error_of([&] { (void)load_npz(path); });
    CHECK(error.code() == ErrorCode::BadZip);
    CHECK_THAT(error.what(), says(words));
  };
  const ZipPart part = ZipPart::stored("a.npy", floats(3, 4));
  // A member that the directory does not have: in front, between two, behind the last.
  ZipPart hidden = ZipPart::stored("a.npy", floats(9, 9));
  hidden.is_listed = false;
  refused(zip({hidden, part}), "in front of its first member");
  refused(zip({part, hidden}), "which are part of nothing");
  refused(zip({part, hidden, ZipPart::stored("b.npy", floats(2, 2))}), "which are part of nothing");
  // Another archive in the comment of the first.
  const std::string other = zip({ZipPart::stored("b.npy", floats(2, 2))});
  const std::string own =
      zip({part}, [&](ZipEnd& end) { end.comment = std::string(other.size(), 'x'); });
  refused(own.substr(0, own.size() - other.size()) + other, "two records at its end");
  // Another name, for those who read that field.
  for (const char* name : {"b.npy", "../a.npy"}) {
    ZipPart named = part;
    const std::string extra =
        little(0x7075, 2) + little(5 + std::strlen(name), 2) + little(1, 1) + little(0, 4) + name;
    named.central.extra = extra;
    refused(zip({named}), "two names that differ");
    std::swap(named.central.extra, named.local.extra);
    refused(zip({named}), "two names that differ");
  }
  // The header of a member and the directory.
  ZipPart crc = part;
  ++crc.local.crc;
  refused(zip({crc}), "contradict each other in its CRC");
  std::string no_header = zip({part, ZipPart::stored("b.npy", floats(2, 2))});
  no_header[no_header.rfind("PK\x03\x04") + 3] ^= 1;
  refused(no_header, "there is no header");
  if (!has_deflate()) return;
  // More than deflate can pack, and less than it takes.
  ZipPart packed = ZipPart::packed("a.npy", floats(3, 4));
  packed.both([](ZipHeader& header) { header.size = 2000 * header.packed; });
  refused(zip({packed}), "which deflate cannot do");
  ZipPart blocks = ZipPart::packed("a.npy", floats(3, 4));
  std::string empty;
  for (int i = 0; i < 1000; ++i) empty += std::string("\0\0\0\xff\xff", 5);
  blocks.bytes = empty + blocks.bytes;
  blocks.both([&](ZipHeader& header) { header.packed = blocks.bytes.size(); });
  refused(zip({blocks}), "to only");
}

TEST_CASE("sizes of sparse files are not taken for memory", "[npz][bad]") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return;  // sanitizers end the process where new would throw
#endif
  const Folder folder;
  const auto path = folder / "a.npz";
  // A directory of 2^42 bytes, of which the file has none but its end.
  const std::uint64_t size = std::uint64_t{1} << 42;
  const std::string end = "PK\x06\x06" + little(44, 8) + little(0, 4) + little(0, 8) +
                          little(1, 8) + little(1, 8) + little(size - 4, 8) + little(4, 8) +
                          "PK\x06\x07" + little(0, 4) + little(size, 8) + little(1, 4) +
                          "PK\x05\x06" + little(0, 4) + little(0xffff, 2) + little(0xffff, 2) +
                          little(0xffffffff, 4) + little(0xffffffff, 4) + little(0, 2);
  write_bytes(path, "PK\x03\x04");
  {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(size));
    file << end;
    if (!file.flush()) return;  // a file system without files of that size
  }
  rlimit before;
  ::getrlimit(RLIMIT_AS, &before);
  rlimit small = before;
  small.rlim_cur = rlim_t{1} << 40;
  ::setrlimit(RLIMIT_AS, &small);
  ErrorCode code{};
  try {
    NpzFile{path};
  } catch (const Error& error) {
    code = error.code();
  }
  ::setrlimit(RLIMIT_AS, &before);
  CHECK(code == ErrorCode::BadZip);
}

TEST_CASE("many small arrays are deflated together", "[npz][save]") {
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

TEST_CASE("what a codec leaves out is not taken for data", "[npz]") {
  if (!has_deflate()) return;
  // As libdeflate may, where the output has no room for the whole stream.
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
  CHECK(file.names() == std::vector<std::string>{"a"});  // not passed over
  CHECK(code == ErrorCode::UnsupportedVersion);
  CHECK(file.load("a").numel() == 40000);
}

TEST_CASE("equal arrays give equal archives, aligned and no larger than they need be", "[npz]") {
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
  // What does not become smaller is stored.
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

TEST_CASE("an archive that cannot be saved leaves the old one", "[npz][save]") {
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

TEST_CASE("one archive, many threads", "[npz][threads]") {
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

TEST_CASE("the old archive is read while a new one takes its place", "[npz]") {
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

TEST_CASE("loads of archives that fail leave no descriptor", "[npz][memory]") {
  const Folder folder;
  const auto bad = write_bytes(folder / "bad.npz", zip({ZipPart::stored("a.npy", "no array")}));
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto before = descriptors();
  for (int i = 0; i < 100; ++i) (void)error_of([&] { (void)load_npz(bad); });
  CHECK(descriptors() == before);
}
