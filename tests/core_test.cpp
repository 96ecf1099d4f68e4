// The core and io tiers: builds and runs without LibTorch.

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/read_header.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/version.hpp>

#include <atomic>
#include <map>
#include <set>
#include <sstream>

#include "bad_input.hpp"
#include "catch.hpp"
#include "files.hpp"
#include "folder_names.hpp"

using namespace torch_npy;

namespace {

using Shape = std::vector<std::int64_t>;

Header parse(const std::string& bytes) { return parse_header(bytes.data(), bytes.size()); }

DType dtype_of(const std::string& descr, int version = 1) {
  return parse(npy(header_text(descr, "()"), "", version)).dtype;
}

}  // namespace

TEST_CASE("a type string gives kind, byte order and size", "[dtype]") {
  struct Row {
    const char* text;
    char kind;
    char order;
    std::int64_t size;
    const char* written;
  };
  const char native = detail::native_byte_order();
  const std::string f4 = std::string(1, native) + "f4";
  for (const Row& row : {Row{"'|b1'", 'b', '|', 1, "|b1"},
                         {"'<i2'", 'i', '<', 2, "<i2"},
                         {"'>i8'", 'i', '>', 8, ">i8"},
                         {"'>u1'", 'u', '|', 1, "|u1"},
                         {"'<u4'", 'u', '<', 4, "<u4"},
                         {"'<f2'", 'f', '<', 2, "<f2"},
                         {"'=f4'", 'f', native, 4, f4.c_str()},
                         {"'|f4'", 'f', native, 4, f4.c_str()},
                         {"'f4'", 'f', native, 4, f4.c_str()},
                         {"'>c16'", 'c', '>', 16, ">c16"},
                         {"'<f16'", 'f', '<', 16, "<f16"},
                         {"'<U5'", 'U', '<', 20, "<U5"},
                         {"'>S5'", 'S', '|', 5, "|S5"},
                         {"'<V2'", 'V', '|', 2, "|V2"},
                         {"'|O'", 'O', '|', 8, "|O"},
                         {"'|O8'", 'O', '|', 8, "|O"},
                         {"'<M8'", 'M', '<', 8, "<M8"}}) {
    INFO(row.text);
    const DType dtype = dtype_of(row.text);
    CHECK(dtype.kind == row.kind);
    CHECK(dtype.byte_order == row.order);
    CHECK(dtype.item_size == row.size);
    CHECK(dtype.descr() == row.written);
    CHECK(dtype.is_swapped() == (row.order != '|' && row.order != native));
  }
}

TEST_CASE("datetimes carry their unit", "[dtype]") {
  CHECK(dtype_of("'<M8[ns]'").unit == "ns");
  CHECK(dtype_of("'>m8[25s]'").unit == "25s");
  CHECK(dtype_of("'<M8[generic]'").unit.empty());
  CHECK(dtype_of("'<M8[25s]'").descr() == "<M8[25s]");
  for (const char* unit : {"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"}) {
    CHECK(dtype_of(std::string("'<m8[") + unit + "]'").unit == unit);
  }
}

TEST_CASE("fields have names, titles, offsets and shapes", "[dtype]") {
  // What numpy.dtype([(('Title', 'a b'), '<f4'), ('b', [('x', 'u1'), ('y', '>i8')], (2, 3)), ('c',
  // 'S3')], align=True).descr holds, its padding included.
  const std::string descr =
      "[(('Title', 'a b'), '<f4'), ('', '|V4'), ('b', [('x', '|u1'), ('', '|V7'), ('y', '>i8')], "
      "(2, 3)), "
      "('c', '|S3'), ('', '|V5')]";
  const DType dtype = dtype_of(descr);
  REQUIRE(dtype.fields.size() == 3);
  CHECK(dtype.item_size == 112);
  CHECK(dtype.fields[0].name == "a b");
  CHECK(dtype.fields[0].title == "Title");
  CHECK(dtype.fields[1].offset == 8);
  CHECK(dtype.fields[1].shape == Shape{2, 3});
  REQUIRE(dtype.fields[1].dtype.fields.size() == 2);
  CHECK(dtype.fields[1].dtype.item_size == 16);
  CHECK(dtype.fields[1].dtype.fields[1].offset == 8);
  CHECK(dtype.fields[1].dtype.fields[1].dtype.byte_order == '>');
  CHECK(dtype.fields[2].offset == 104);
  CHECK(dtype.descr() == descr);
  CHECK(dtype_of("[('a', '<f4', 3)]").fields[0].shape == Shape{3});
}

TEST_CASE("fields that NumPy refuses are refused", "[dtype]") {
  for (const char* descr :
       {"[(('a', 'a'), '<f4')]", "[('a', '|S0', (3,))]", "[('a', '<U0', ())]"}) {
    CHECK_THROWS_AS(dtype_of(descr), Error);
  }
  // A count of 1 goes without saying.
  CHECK(dtype_of("'<M8[1ns]'").descr() == "<M8[ns]");
  CHECK(dtype_of("'<M8[010ns]'").descr() == "<M8[10ns]");
  CHECK_THROWS_AS(dtype_of("'<M08[s]'"), Error);
  // Without a name it is padding, whatever it is of.
  CHECK(dtype_of("[('', '<f4', (2,)), ('b', '<i2')]").fields.size() == 1);
}

TEST_CASE("names are UTF-8, whatever the version", "[dtype]") {
  const std::string utf8 = "\xc3\xa9";  // e with an acute accent
  CHECK(dtype_of("[('\xe9', '<f4')]", 1).fields[0].name == utf8);
  CHECK(dtype_of("[('\xe9', '<f4')]", 2).fields[0].name == utf8);
  CHECK(dtype_of("[('" + utf8 + "', '<f4')]", 3).fields[0].name == utf8);
  CHECK(dtype_of("[('\\xe9', '<f4')]", 3).fields[0].name == utf8);
  CHECK(dtype_of("[('\\u00e9\\U0001f600', '<f4')]", 1).fields[0].name == utf8 + "\xf0\x9f\x98\x80");
  CHECK(dtype_of("[('\\a\\b\\f\\n\\r\\t\\v\\\\\\'\\\"\\101', '<f4')]").fields[0].name ==
        "\a\b\f\n\r\t\v\\'\"A");
  CHECK(dtype_of("[(\"it's\", '<f4')]").fields[0].name == "it's");
}

TEST_CASE("what is written is what NumPy writes, and parses to the same", "[header]") {
  Header header;
  header.dtype = *detail::parse_type_string("<f4");
  header.shape = {3, 4};
  const std::string bytes = format_header(header);
  // np.save of float32 (3, 4), NumPy 1.23 and later: 21 digits of room for the first axis.
  CHECK(bytes == std::string("\x93NUMPY\x01\0v\0", 10) +
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }" +
                     std::string(58, ' ') + "\n");
  for (const std::string descr :
       {"'>i2'", "'|b1'", "'<M8[25s]'",
        "[('a', '<f4'), ('', '|V4'), ('b', [('x', '|u1')], (2, 3))]", "[('\xc3\xa9', '<f4')]",
        "[('\xe2\x82\xac', '<f4')]", "[(\"it's\", '<f4'), ('\\n\\x01\\\\', '|S3')]"}) {
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{2, 0, 3}, Shape(64, 1)}) {
      for (const bool fortran_order : {false, true}) {
        INFO(descr);
        header.dtype = dtype_of(descr, 3);
        header.shape = shape;
        header.fortran_order = fortran_order;
        const std::string text = format_header(header);
        const Header again = parse(text);
        CHECK(again.dtype == header.dtype);
        CHECK(again.shape == shape);
        CHECK(again.fortran_order == fortran_order);
        CHECK(again.data_offset == text.size());
        CHECK(text.size() % 64 == 0);
      }
    }
  }
}

TEST_CASE("the version written is the oldest that will do", "[header]") {
  Header header;
  header.dtype = dtype_of("[('\xc3\xa9', '<f4')]", 3);
  CHECK(parse(format_header(header)).version == 1);  // fits in Latin-1
  header.dtype = dtype_of("[('\xe2\x82\xac', '<f4')]", 3);
  CHECK(parse(format_header(header)).version == 3);
  std::string fields = "[";
  for (int i = 0; i < 5000; ++i) fields += "('field" + std::to_string(i) + "', '<f4'), ";
  const std::string text = header_text(fields + "]", "(2,)");
  const std::string bytes = npy(text, "", 2);
  header = parse_header(bytes.data(), bytes.size(), 1000000);
  const std::string written = format_header(header);
  CHECK(parse_header(written.data(), written.size(), 1000000).version == 2);
}

TEST_CASE("numel and nbytes", "[header]") {
  const Header header = parse(npy(header_text("'<f8'", "(3, 0, 2)")));
  CHECK(header.numel() == 0);
  CHECK(header.nbytes() == 0);
  CHECK(parse(npy(header_text("'<f8'", "()"))).nbytes() == 8);
  CHECK(parse(npy(header_text("'<c16'", "(3, 2)"))).nbytes() == 96);
}

TEST_CASE("bad headers are refused with code, byte and reason", "[header][bad]") {
  for (const BadInput& bad : bad_inputs()) {
    INFO(bad.name);
    if (bad.header_parses) {
      CHECK_NOTHROW(parse(bad.bytes));
      continue;
    }
    const Error error = error_of([&] { parse(bad.bytes); });
    INFO(error.what());
    CHECK(error.code() == bad.code);
    CHECK(error.offset() == bad.offset);
    CHECK(error.path().empty());
    CHECK_THAT(error.what(), says(bad.words));
  }
}

TEST_CASE("a header that is cut anywhere is an Error", "[header][bad]") {
  const std::string whole = npy(header_text("[('a', '<f4', (2, 3)), ('b', '<M8[ns]')]", "(2, 3)"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CHECK_THROWS_AS(parse(whole.substr(0, size)), Error);
    // The length says the text is complete, and it is not.
    if (size > 10) CHECK_THROWS_AS(parse(npy(whole.substr(10, size - 11))), Error);
  }
}

TEST_CASE("max_header_size counts characters, as NumPy does", "[header]") {
  const std::string text = header_text("'<f4'", "(2,)");
  const std::string ascii = npy(text);
  CHECK_NOTHROW(parse_header(ascii.data(), ascii.size(), text.size()));
  CHECK_THROWS_AS(parse_header(ascii.data(), ascii.size(), text.size() - 1), Error);
  const std::string euro = npy(text + "#\xe2\x82\xac", "", 3);
  CHECK_NOTHROW(parse_header(euro.data(), euro.size(), text.size() + 2));
  CHECK_THROWS_AS(parse_header(euro.data(), euro.size(), text.size() + 1), Error);
}

TEST_CASE("no control character of a file reaches the terminal", "[error]") {
  const Error error(ErrorCode::Io, "a reason", 0,
                    detail::path_of("a\n\x1b[2J\xc2\x9b"
                                    "2J\xc2\xa0\xc3\xa9.npy"));
  CHECK(error.what() == std::string("a\\x0a\\x1b[2J\\xc2\\x9b"
                                    "2J\xc2\xa0\xc3\xa9.npy: a reason"));
  CHECK(detail::shown("\xc3\xa9\x01") == "\"\\xc3\\xa9\\x01\"");
  // What is no UTF-8, and what turns the direction of writing.
  CHECK(detail::escaped("a\x9b"
                        "b\xe2\x80\xae"
                        "c\xe2\x82\xac\xe2\x82") ==
        "a\\x9b"
        "b\\xe2\\x80\\xae"
        "c\xe2\x82\xac\\xe2\\x82");
}

TEST_CASE("an error tells file, reason and byte", "[error]") {
  const Error error(ErrorCode::BadHeader, "bad header: x", 7);
  CHECK(std::string(error.what()) == "bad header: x");
  const Error there(ErrorCode::BadHeader, "bad header: x", 7, "a/b.npy");
  CHECK(std::string(there.what()) == "a/b.npy: bad header: x");
  CHECK(there.path() == "a/b.npy");
  CHECK(there.code() == ErrorCode::BadHeader);
  CHECK(there.offset() == 7);
  // libstdc++'s old ABI does not declare that of its own exceptions.
  static_assert(std::is_nothrow_copy_constructible_v<Error> ==
                std::is_nothrow_copy_constructible_v<std::runtime_error>);
  Error source(ErrorCode::Io, "x", 1);
  const Error taken = std::move(source);
  CHECK(source.path().empty());  // NOLINT(bugprone-use-after-move): it is a copy
  // Names come from strangers too.
  CHECK_THAT(Error(ErrorCode::Io, "x", 0, detail::path_of("a\x1b[31m\n\xc3\xa4.npy")).what(),
             says("a\\x1b[31m\\x0a\xc3\xa4.npy: x"));
}

TEST_CASE("read_header reads from a file, small or with a giant header", "[file]") {
  const Folder folder;
  const std::string text = header_text("'<f4'", "(2, 3)");
  const auto small = write_bytes(folder / "small.npy", npy(text, std::string(24, 'x')));
  CHECK(read_header(small).shape == Shape{2, 3});
  CHECK(read_header(small).data_offset == 10 + text.size());

  const std::string long_text = text + std::string(50000, ' ');
  const auto large = write_bytes(folder / "large.npy", npy(long_text, "x"));
  CHECK(error_of([&] { read_header(large); }).code() == ErrorCode::TooLarge);
  CHECK(read_header(large, 100000).data_offset == 10 + long_text.size());

  const auto cut = write_bytes(folder / "cut.npy", npy(long_text).substr(0, 40000));
  const Error error = error_of([&] { read_header(cut, 100000); });
  CHECK(error.code() == ErrorCode::Truncated);
  CHECK(error.offset() == 40000);
  CHECK_THAT(error.what(), says("there are 40000 bytes"));
}

TEST_CASE("bad files are refused with their path", "[file][bad]") {
  const Folder folder;
  for (const BadInput& bad : bad_inputs()) {
    if (bad.header_parses) continue;
    INFO(bad.name);
    const auto path = write_bytes(folder / "bad.npy", bad.bytes);
    const Error error = error_of([&] { read_header(path); });
    CHECK(error.code() == bad.code);
    CHECK(error.offset() == bad.offset);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), Catch::Matchers::StartsWith(path.string() + ": "));
  }
}

TEST_CASE("what is no file is refused", "[file][bad]") {
  const Folder folder;
  const auto code = [](const std::filesystem::path& path) {
    return error_of([&] { read_header(path); }).code();
  };
  CHECK(code(folder / "missing.npy") == ErrorCode::NotFound);
  CHECK(code(folder / "no" / "such" / "folder.npy") == ErrorCode::NotFound);
  CHECK(code(folder.path()) == ErrorCode::Io);
  CHECK(code("") == ErrorCode::NotFound);
  CHECK(code(std::string("a\0.npy", 6)) == ErrorCode::InvalidArgument);
  CHECK(error_of([] { detail::AtomicFile file(std::string("a\0.npy", 6), true); }).code() ==
        ErrorCode::InvalidArgument);
  CHECK_THAT(error_of([] { read_header(""); }).what(), says("the path is empty"));
  CHECK_THAT(error_of([&] { read_header(folder.path()); }).what(), says("a directory"));
}

TEST_CASE("an AtomicFile appears whole or not at all", "[file]") {
  const Folder folder;
  const auto path = folder / "target";
  {
    detail::AtomicFile file(path, true);
    file.write("new", 3);
    CHECK_FALSE(std::filesystem::exists(path));
    file.commit();
  }
  CHECK(read_bytes(path) == "new");
  {
    detail::AtomicFile file(path, true);
    file.write("newer", 5);
  }
  CHECK(read_bytes(path) == "new");
  CHECK(folder.count() == 1);  // nothing temporary is left

  for (const bool is_new : {true, false}) {
    detail::AtomicFile file(folder / "first", is_new);
    file.write(is_new ? "one" : "two", 3);
    CHECK(file.commit_new() == is_new);
  }
  CHECK(read_bytes(folder / "first") == "one");
  CHECK(folder.count() == 2);

  CHECK(error_of([&] { detail::AtomicFile file(folder.path(), true); }).code() == ErrorCode::Io);
  CHECK(error_of([&] { detail::AtomicFile file(folder / "no/such", true); }).code() ==
        ErrorCode::NotFound);

  // What is large is written in pieces.
  std::string large(40'000'001, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * i >> 8);
  for (const bool sync : {true, false}) {
    detail::AtomicFile file(path, sync);
    file.write("header", 6);
    file.write(large.data(), large.size());
    file.commit();
    CHECK((read_bytes(path) == "header" + large));
  }
}

TEST_CASE("a mapping is private, and starts where it was asked to", "[file]") {
  const Folder folder;
  std::string bytes(10000, 'a');
  bytes[4097] = 'b';
  const auto path = write_bytes(folder / "data", bytes);
  const detail::File file(path);
  CHECK(file.size() == bytes.size());
  detail::Mapping mapping = detail::Mapping::of(file, 4097, 100);
  detail::Mapping moved = std::move(mapping);
  char* const data = static_cast<char*>(moved.data());
  CHECK(data[0] == 'b');
  CHECK(data[99] == 'a');
  data[0] = 'c';
  CHECK(read_bytes(path) == bytes);
}

TEST_CASE("a file is read at any offset, and split in two", "[file]") {
  const Folder folder;
  const detail::File file(write_bytes(folder / "data", "0123456789"));
  char bytes[4] = {};
  file.read(bytes, 4, 5);
  CHECK(std::string(bytes, 4) == "5678");
  CHECK(file.read_some(bytes, 4, 8) == 2);
  CHECK(file.read_some(bytes, 4, 10) == 0);
  CHECK(error_of([&] { file.read(bytes, 4, 8); }).code() == ErrorCode::Truncated);
  char head[3];
  char body[20];
  CHECK(file.read_split(head, 3, body, 20) == 10);
  CHECK(std::string(head, 3) + std::string(body, 7) == "0123456789");
}

TEST_CASE("a LockedFile is changed in place, by one at a time", "[file]") {
  const Folder folder;
  const auto path = write_bytes(folder / "data", "0123456789");
  detail::LockedFile file(path);
  const Error locked = error_of([&] { detail::LockedFile again(path); });
  CHECK(locked.code() == ErrorCode::Io);
  CHECK_THAT(locked.what(), says("locked: another Appender"));
  CHECK(read_bytes(path) == "0123456789");  // it holds back nobody else
  file.write("ab", 2, 4);
  file.truncate(8);
  file.write("cd", 2, 8);
  file.sync();
  CHECK(read_bytes(path) == "0123ab67cd");
  CHECK(file.is_at(path));
  std::filesystem::rename(path, folder / "moved");
  CHECK_FALSE(file.is_at(path));
  write_bytes(path, "another");
  CHECK_FALSE(file.is_at(path));
  CHECK(file.is_at(folder / "moved"));
  file.close();
  CHECK_NOTHROW(detail::LockedFile(folder / "moved"));
  CHECK(error_of([&] { detail::LockedFile none(folder / "none"); }).code() == ErrorCode::NotFound);
  CHECK(error_of([&] { detail::LockedFile none(folder.path()); }).code() == ErrorCode::Io);
}

TEST_CASE("files are larger than 32 bits can count", "[file]") {
  const Folder folder;
  const auto path = write_bytes(folder / "large", "");
  const std::uint64_t end = (std::uint64_t{5} << 30) + 7;
  {
    detail::LockedFile file(path);
    file.truncate(end);
    file.write("the end", 7, end - 7);
    file.close();
  }
  const detail::File file(path);
  CHECK(file.size() == end);
  char bytes[7];
  file.read(bytes, 7, end - 7);
  CHECK(std::string(bytes, 7) == "the end");
  const detail::Mapping mapping = detail::Mapping::of(file, end - 7, 7);
  CHECK(std::string(static_cast<char*>(mapping.data()), 7) == "the end");
}

TEST_CASE("names are not only ASCII", "[file]") {
  const Folder folder;
  // Greek, and a letter beyond 16 bits.
  const auto path = folder.path() / detail::path_of("\xce\xb1\xf0\x9f\x98\x80");
  {
    detail::AtomicFile file(path, false);
    file.write("x", 1);
    file.commit();
  }
  CHECK(read_bytes(path) == "x");
  const Error error = error_of([&] { read_header(path); });
  CHECK(error.code() == ErrorCode::NotNpy);
  CHECK_THAT(error.what(), says("\xce\xb1\xf0\x9f\x98\x80: "));
}

TEST_CASE("a folder is listed by the bytes of its names, or by their numbers", "[folder]") {
  using Names = std::vector<std::string>;
  const Folder folder;
  const Names names{"Z.npy",
                    "a.npy",
                    "a1.npy",
                    "a10.npy",
                    "a9.npy",
                    "b-0010.npy",
                    "b.npy",
                    "b001010.npy",
                    "b10.npy",
                    "same_prefix_1.npy",
                    "same_prefix_12.npy",
                    "\xc3\xa4.npy"};
  Names shuffled{names};
  std::reverse(shuffled.begin() + 2, shuffled.end());
  make_files(folder.path(), shuffled);
  CHECK(names_in(folder.path()) == names);
  CHECK(names_in(folder.path(), {"*", false, true}) ==
        Names{"Z.npy", "a.npy", "a1.npy", "a9.npy", "a10.npy", "b-0010.npy", "b.npy", "b10.npy",
              "b001010.npy", "same_prefix_1.npy", "same_prefix_12.npy", "\xc3\xa4.npy"});
  CHECK(names_in(folder.path(), {"a*"}) == Names{"a.npy", "a1.npy", "a10.npy", "a9.npy"});
  CHECK(names_in(folder.path(), {"?[0-5].npy"}) == Names{"a1.npy"});
  CHECK(names_in(folder.path(), {"[!ab]*_*[^2].npy"}) == Names{"same_prefix_1.npy"});
  CHECK(names_in(folder.path(), {"b*10.*y"}) == Names{"b-0010.npy", "b001010.npy", "b10.npy"});
  CHECK(names_in(folder.path(), {"[]Z]\\.npy"}) == Names{"Z.npy"});
  CHECK(names_in(folder.path(), {"\xc3\xa4*"}) == Names{"\xc3\xa4.npy"});
  CHECK(names_in(folder.path(), {"none*"}).empty());
}

TEST_CASE("natural order is an order", "[folder]") {
  const std::vector<std::string> names{"",      "0",
                                       "00",    "1",
                                       "01",    "001",
                                       "1a",    "01b",
                                       "2",     "10",
                                       "1.",    "a",
                                       "a0",    "a00",
                                       "a1",    "a01",
                                       "a:",    "a/",
                                       "a1b2",  "a1b10",
                                       "a01b2", "12345678901234567890123",
                                       "b"};
  const auto less = [](const std::string& a, const std::string& b) {
    return torch_npy::detail::natural_less(a.c_str(), b.c_str());
  };
  for (const std::string& a : names) {
    CHECK(!less(a, a));
    for (const std::string& b : names) {
      if (a != b) CHECK(less(a, b) != less(b, a));
      for (const std::string& c : names) {
        if (less(a, b) && less(b, c)) CHECK(less(a, c));
      }
    }
  }
}

TEST_CASE("only visible .npy files are listed, in folders too when asked for", "[folder]") {
  using Names = std::vector<std::string>;
  const Folder folder;
  make_files(folder.path(), {"a.npy", "b.NPY", "c.npy.txt", "npy", ".npy", ".hidden.npy", "d.npz",
                             "sub/x.npy", "sub/deep/y.npy", ".git/z.npy", "is_folder.npy/w.npy"});
  write_bytes(folder / "e.npy", "");
  CHECK(names_in(folder.path()) == Names{"a.npy", "e.npy"});
  CHECK(names_in(folder.path(), {"*", true}) ==
        Names{"a.npy", "e.npy", "is_folder.npy/w.npy", "sub/deep/y.npy", "sub/x.npy"});
  CHECK(names_in(folder.path(), {"y*", true}) == Names{"sub/deep/y.npy"});
  CHECK(FileList(folder.path()).subfolders() == Names{"is_folder.npy", "sub"});

  FileList list(folder.path());
  CHECK(list.add("sub", {}) == 1);
  CHECK(list.add(".", {}) == 2);
  CHECK(list[0] == folder / "sub/x.npy");
  std::vector<std::filesystem::path> paths(list.begin(), list.end());
  CHECK(paths.size() == 3);
  CHECK(paths[2] == folder / "e.npy");
  CHECK(list.open(2).size() == 0);

  std::filesystem::rename(folder / "sub", folder / "moved");
  CHECK(error_of([&] { (void)list.open(0); }).code() == ErrorCode::NotFound);
  const Error error = error_of([&] { list.add("none", {}); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == folder / "none/");
  CHECK(error_of([&] { FileList(folder / "a.npy"); }).code() == ErrorCode::NotFound);
}

TEST_CASE("every index is called once, on as many threads as asked for", "[parallel]") {
  for (const std::size_t threads : {1u, 2u, 7u, 100u}) {
    for (const std::size_t count : {0u, 1u, 2u, 1000u}) {
      std::vector<std::atomic<int>> calls(count);
      detail::for_each_index(count, threads, [&](std::size_t i) { ++calls[i]; });
      CHECK(std::all_of(calls.begin(), calls.end(), [](const auto& n) { return n == 1; }));
    }
  }
}

TEST_CASE("of several failures the first index is heard, and work ends", "[parallel]") {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> calls{0};
    const Error error = error_of([&] {
      detail::for_each_index(100000, 4, [&](std::size_t i) {
        ++calls;
        if (i >= 20) throw Error(ErrorCode::Io, "x", i);
      });
    });
    CHECK(error.offset() == 20);
    CHECK(calls < 1000);
  }
}
