// Lists of the files in a folder.

#include <torch_npy/io/folder.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/folder_names.hpp"

using namespace torch_npy;

TEST_CASE("a folder is listed in byte order or in natural order, and by pattern", "[folder]") {
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

TEST_CASE("natural order is a strict total order", "[folder]") {
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

TEST_CASE("only visible .npy files are listed, and those of subfolders if recursive", "[folder]") {
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

TEST_CASE("a FileList holds any paths, which need not exist", "[folder]") {
  const Folder folder;
  make_files(folder.path(), {"b.npy", "sub/a.txt"});
  const std::vector<std::filesystem::path> paths{folder / "b.npy", folder / "none.npy",
                                                 folder / "sub/a.txt", folder / "b.npy"};
  FileList list(paths);
  CHECK(std::vector<std::filesystem::path>(list.begin(), list.end()) == paths);
  CHECK(list.folder().empty());
  CHECK(list.missing() == std::vector<std::size_t>{1});
  CHECK(list.open(2).size() == 0);
  CHECK(error_of([&] { (void)list.open(1); }).code() == ErrorCode::NotFound);
  CHECK(!list.has_folder_of(list));
  CHECK(FileList(folder.path()).has_folder_of(FileList(folder / "sub/..")));
  for (const auto& bad : {std::string(), std::string("a\0b", 3)}) {
    CHECK(error_of([&] {
            FileList({paths[0], std::filesystem::path(bad)});
          }).code() == ErrorCode::InvalidArgument);
  }
  CHECK(FileList(std::vector<std::filesystem::path>()).missing().empty());
}
