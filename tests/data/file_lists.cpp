// Lists of files in text files.

#include <torch_npy/data/file_dataset.hpp>
#include <torch_npy/data/file_list.hpp>
#include <torch_npy/tensor/save.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/samples.hpp"

using namespace torch_npy;
using Names = std::vector<std::string>;

namespace {

/// A folder with a list, and with empty files.
class Lists {
 public:
  explicit Lists(const Names& files = {"a.npy", "b.npy", "c.npy"}) {
    for (const std::string& name : files) {
      std::filesystem::create_directories((folder_ / name).parent_path());
      write_bytes(folder_ / name, "");
    }
  }

  ListedFiles read(const std::string& text, const FileListOptions& options = {}) const {
    return read_file_list(write_bytes(list(), text), {}, options);
  }
  Error error(const std::string& text, const FileListOptions& options = {}) const {
    const Error error = error_of([&] { (void)read(text, options); });
    CHECK(error.path() == list());
    return error;
  }
  /// Paths without the folder.
  Names names(const std::vector<std::filesystem::path>& paths) const {
    Names names;
    for (const auto& path : paths) {
      names.push_back(path.lexically_relative(folder_.path()).generic_string());
    }
    return names;
  }
  std::filesystem::path list() const { return folder_ / "list.txt"; }
  const Folder& folder() const { return folder_; }

 private:
  Folder folder_;
};

std::vector<std::int64_t> labels_in(const ListedFiles& listed) {
  REQUIRE(listed.labels.scalar_type() == at::kLong);
  REQUIRE(listed.labels.dim() == 1);
  const auto* const first = listed.labels.data_ptr<std::int64_t>();
  return {first, first + listed.labels.numel()};
}

using Labels = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("a list has a path on each line, relative to its folder", "[dataset]") {
  const Lists lists({"a.npy", "b.npy", "with blanks.npy", "sub/c.npy", "\xc3\xa4.npy"});
  const auto read = [&](const std::string& text) {
    const ListedFiles listed = lists.read(text);
    CHECK(listed.targets.empty());
    CHECK(!listed.labels.defined());
    CHECK(listed.classes.empty());
    return lists.names(listed.files);
  };
  CHECK(read("b.npy\na.npy\n") == Names{"b.npy", "a.npy"});
  CHECK(read("b.npy\na.npy") == Names{"b.npy", "a.npy"});
  CHECK(read("\xef\xbb\xbf"
             "b.npy\r\n\r\n# a comment\r\n  \t\r\nsub/c.npy\r\n") == Names{"b.npy", "sub/c.npy"});
  CHECK(read("  b.npy \n\ta.npy\n") == Names{"b.npy", "a.npy"});
  CHECK(read("b.npy\nwith blanks.npy\n") == Names{"b.npy", "with blanks.npy"});
  CHECK(read("with blanks.npy\nb.npy\n") == Names{"with blanks.npy", "b.npy"});
  CHECK(read("\"with blanks.npy\"\nb.npy\n") == Names{"with blanks.npy", "b.npy"});
  CHECK(read("\xc3\xa4.npy") == Names{"\xc3\xa4.npy"});
  CHECK(read("a.npy\na.npy\n") == Names{"a.npy", "a.npy"});
  CHECK(read((lists.folder() / "a.npy").string()) == Names{"a.npy"});
}

TEST_CASE("the second column is a label, a target or a class", "[dataset]") {
  const Lists lists({"a.npy", "b.npy", "c.npy", "with, comma.npy", "quote\".npy"});
  for (const char* separator : {" ", "   ", "\t", ",", ", ", " \t ", " , "}) {
    CAPTURE(separator);
    const auto text = [&](const Names& columns) {
      std::string lines;
      for (std::size_t i = 0; i < columns.size(); i += 2) {
        lines += columns[i] + separator + columns[i + 1] + "\n";
      }
      return lines;
    };
    const ListedFiles labelled = lists.read(text({"b.npy", "7", "a.npy", "-2", "c.npy", "+7"}));
    CHECK(lists.names(labelled.files) == Names{"b.npy", "a.npy", "c.npy"});
    CHECK(labels_in(labelled) == Labels{7, -2, 7});
    CHECK(labelled.classes.empty());
    CHECK(labelled.targets.empty());

    const ListedFiles paired = lists.read(text({"b.npy", "c.npy", "a.npy", "b.npy"}));
    CHECK(lists.names(paired.files) == Names{"b.npy", "a.npy"});
    CHECK(lists.names(paired.targets) == Names{"c.npy", "b.npy"});
    CHECK(!paired.labels.defined());

    const ListedFiles classes =
        lists.read(text({"b.npy", "dog", "a.npy", "cat", "c.npy", "\"dog\"", "a.npy", "12"}));
    CHECK(classes.classes == Names{"12", "cat", "dog"});
    CHECK(labels_in(classes) == Labels{2, 1, 2, 0});
  }
  const ListedFiles quoted =
      lists.read("\"with, comma.npy\",\"black \"\"cat\"\"\"\n\"quote\"\".npy\" , dog\n");
  CHECK(lists.names(quoted.files) == Names{"with, comma.npy", "quote\".npy"});
  CHECK(quoted.classes == Names{"black \"cat\"", "dog"});
}

TEST_CASE("a list can be read into a dataset", "[dataset]") {
  const Folder folder;
  fill_folder(folder, 3);
  write_bytes(folder / "train.csv", "s002.npy,1\ns000.npy,0\n");
  const ListedFiles listed = read_file_list(folder / "train.csv");
  const auto batch = FileDataset(listed.files, listed.labels).stacked().get_batch({0, 1});
  CHECK(numbers_of(batch) == std::vector<int>{2, 0});
  CHECK(at::equal(batch.target, at::tensor({1, 0}, at::kLong)));

  // In another folder than the files.
  const Folder elsewhere;
  write_bytes(elsewhere / "train.txt", "s001\n");
  const auto npy = FileListOptions().ending(".npy");
  CHECK(read_file_list(elsewhere / "train.txt", folder.path(), npy).files[0] ==
        folder / "s001.npy");
}

TEST_CASE("columns are chosen by name or by number", "[dataset]") {
  const Lists lists;
  const std::string csv =
      "fold,species,path,label,mask\n"
      "0,cat,a.npy,5,c.npy\n"
      "1,dog,b.npy,4,c.npy\n";
  const auto named = FileListOptions().path_column("path");
  const ListedFiles files = lists.read(csv, named);
  CHECK(lists.names(files.files) == Names{"a.npy", "b.npy"});
  CHECK(!files.labels.defined());
  CHECK(labels_in(lists.read(csv, FileListOptions(named).label_column("label"))) == Labels{5, 4});
  CHECK(labels_in(lists.read(csv, FileListOptions(named).label_column("fold"))) == Labels{0, 1});
  const auto both = FileListOptions(named).class_column("species").target_column("mask");
  const ListedFiles all = lists.read(csv, both);
  CHECK(all.classes == Names{"cat", "dog"});
  CHECK(lists.names(all.targets) == Names{"c.npy", "c.npy"});
  const auto numbered = FileListOptions().header(true).path_column(2).label_column(3);
  CHECK(labels_in(lists.read(csv, numbered)) == Labels{5, 4});
  const auto semicolons = FileListOptions().separator(';').label_column(0).path_column(1);
  CHECK(labels_in(lists.read("3;a.npy\n4;b.npy\n", semicolons)) == Labels{3, 4});
  CHECK(lists.names(lists.read("a.npy,x\n", FileListOptions().path_column(0)).files) ==
        Names{"a.npy"});

  const auto check = [&](const std::string& text, const FileListOptions& options,
                         const std::string& words) {
    const Error error = lists.error(text, options);
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says(words));
  };
  check(csv, {},
        "line 1 has 5 columns: \"fold,species,path,label,mask\"; choose with path_column()");
  check(csv, FileListOptions().path_column("file"),
        "no column \"file\": the columns of line 1, counted from 0, are \"fold\", \"species\"");
  check(csv, FileListOptions().path_column(5), "no column 5");
  check(csv, FileListOptions().path_column(-1), "no column -1");
  check("path,path\na.npy,b.npy\n", named, "more than one column \"path\"");
  check(csv, FileListOptions(named).header(false), "needs a header line");
  check(csv, FileListOptions(both).label_column("label"), "exclude each other");
  check("a.npy\n", FileListOptions().classes({"x"}), "needs a list with a column of classes");
}

TEST_CASE("a column of any numbers becomes a tensor of floats", "[dataset]") {
  const Lists lists;
  const std::string text = "path,score\na.npy,0.25\nb.npy,-1e3\nc.npy,7\n";
  const ListedFiles listed = lists.read(text, FileListOptions().value_column("score"));
  CHECK(at::equal(listed.values, at::tensor({0.25, -1000.0, 7.0}, at::kFloat)));
  CHECK(!listed.labels.defined());
  CHECK_THAT(lists.error(text).what(), says("found \"0.25\"; value_column() takes a column"));
  CHECK_THAT(lists.error("a.npy,3x\n", FileListOptions().value_column(1)).what(),
             says("expected a number, found \"3x\""));
}

TEST_CASE("a column of groups divides the files of a list", "[dataset]") {
  const Lists lists;
  const std::string text =
      "path,species,part\na.npy,dog,train\nb.npy,cat,test\nc.npy,emu,\"train\"\n";
  const auto options = FileListOptions().class_column("species").group_column("part");
  const ListedFiles listed = lists.read(text, options);
  CHECK(listed.groups == Names{"train", "test", "train"});
  CHECK(listed.in_group("train") == std::vector<std::size_t>{0, 2});
  CHECK(listed.in_group("test") == std::vector<std::size_t>{1});
  CHECK(listed.classes == Names{"cat", "dog", "emu"});  // of all groups
  const Error misspelt = error_of([&] { (void)listed.in_group("Train"); });
  CHECK(misspelt.code() == ErrorCode::NotFound);
  CHECK_THAT(misspelt.what(), says("no file is in the group \"Train\""));
  CHECK_THAT(error_of([&] { (void)lists.read("a.npy\n").in_group("x"); }).what(),
             says("the list has no group_column()"));
  const auto alone = lists.read("a.npy,2,p1\n", FileListOptions().group_column(2));
  CHECK(alone.groups == Names{"p1"});
  CHECK(!alone.labels.defined());
}

TEST_CASE("a header line is recognized by its name for paths", "[dataset]") {
  const Lists lists;
  for (const char* header : {"path,label", "File,class", "\"filename\",y", "IMAGE_PATH,label"}) {
    CHECK(labels_in(lists.read(std::string(header) + "\na.npy,3\n")) == Labels{3});
  }
  CHECK(lists.names(lists.read("path\na.npy\n").files) == Names{"a.npy"});
  CHECK(labels_in(lists.read("what,ever\na.npy,3\n", FileListOptions().header(true))) == Labels{3});
  CHECK_THAT(lists.error("what\na.npy\n").what(),
             says("line 1: no such file: " + (lists.folder() / "what").string() +
                  "; header(true) skips a header line"));
  CHECK_THAT(lists.error("what,ever\na.npy,3\n").what(), says("header(true)"));
  // A file with such a name is a file.
  write_bytes(lists.folder() / "image", "");
  CHECK(lists.names(lists.read("image\na.npy\n").files) == Names{"image", "a.npy"});
  write_bytes(lists.folder() / "image.npy", "");
  CHECK(lists.names(lists.read("image\nb\n", FileListOptions().ending(".npy")).files) ==
        Names{"image.npy", "b.npy"});
  CHECK_THAT(lists.error("path\na.npy\n", FileListOptions().header(false)).what(),
             says("line 1: no such file"));
}

TEST_CASE("a folder with the name of a header, and a folder in a list", "[dataset]") {
  const Lists lists;
  std::filesystem::create_directory(lists.folder() / "images");
  CHECK(labels_in(lists.read("images,label\na.npy,3\n")) == Labels{3});
  const Error error = lists.error("a.npy\nimages\n");
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK_THAT(error.what(), says("line 2: no such file: " + (lists.folder() / "images").string()));
}

TEST_CASE("a header line that names a file is refused", "[dataset]") {
  const Lists lists;
  const std::string by_savetxt = "# path,label\na.npy,3\nb.npy,4\n";
  CHECK(labels_in(lists.read(by_savetxt)) == Labels{3, 4});
  const Error lost = lists.error(by_savetxt, FileListOptions().header(true));
  CHECK(lost.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(lost.what(),
             says("the header line, line 2, names a file that exists: " +
                  (lists.folder() / "a.npy").string() +
                  "; lines that begin with '#' are not read, also not as a header line"));
  CHECK_THAT(lists.error(by_savetxt, FileListOptions().path_column("path")).what(),
             says("\"a.npy\", \"3\"; lines that begin with '#' are not read"));
  const std::string without = lists.error("a.npy,3\n", FileListOptions().header(true)).what();
  CHECK(without.find('#') == std::string::npos);
}

TEST_CASE("classes() of a list gives the classes their numbers", "[dataset]") {
  const Lists lists;
  const auto fixed = FileListOptions().classes({"dog", "ant", "cat"});
  const ListedFiles listed = lists.read("a.npy cat\nb.npy dog\n", fixed);
  CHECK(listed.classes == Names{"dog", "ant", "cat"});
  CHECK(labels_in(listed) == Labels{2, 0});
  const Error error = lists.error("a.npy cat\nb.npy bee\nc.npy cow\n", fixed);
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("line 2: \"bee\" is not in classes(); 1 line more is wrong"));
  CHECK(lists.error("a.npy cat\n", FileListOptions().classes({"a", "a"})).code() ==
        ErrorCode::InvalidArgument);
}

TEST_CASE("a listed file that is missing throws Error with its line", "[dataset]") {
  const Lists lists({"a.npy", "b.npy", "n001.npy"});
  const auto path = [&](const char* name) { return (lists.folder() / name).string(); };
  Error error = lists.error("# files\n\na.npy 1\nx.npy 2\ny.npy 3\nb.npy 4\nz.npy 5\n");
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK_THAT(error.what(), says(lists.list().string() + ": line 4: no such file: " + path("x.npy") +
                                "; 2 files more are missing"));
  error = lists.error("a.npy y.npy\nx.npy a.npy\n");
  CHECK_THAT(error.what(),
             says("line 1: no such file: " + path("y.npy") + "; 1 file more is missing"));
  CHECK_THAT(lists.error("x.npy\ny.npy\n").what(),
             says("relative paths are relative to the second"));
  CHECK_THAT(lists.error("n001\nn002\n").what(), says("with ending(\".npy\") it is found"));
  CHECK(lists.names(lists.read("n001\n", FileListOptions().ending(".npy")).files) ==
        Names{"n001.npy"});

  const auto unchecked = FileListOptions().check_files(false);
  const ListedFiles listed = lists.read("a.npy\nx.npy\n", unchecked);
  const FileDataset dataset(listed.files);
  CHECK(dataset.verify().size() == 2);  // a.npy is empty
  CHECK(error_of([&] { (void)FileDataset(dataset).get(1); }).code() == ErrorCode::NotFound);

  const auto missing = lists.folder() / "none.txt";
  error = error_of([&] { (void)read_file_list(missing); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == missing);
}

TEST_CASE("a list that is read in a wrong way gets advice", "[dataset]") {
  const Lists lists;
  const auto npy = FileListOptions().ending(".npy");
  // Names without endings, in pairs.
  const ListedFiles pairs = lists.read("a,b\nb,c\n", npy);
  CHECK(lists.names(pairs.files) == Names{"a.npy", "b.npy"});
  CHECK(lists.names(pairs.targets) == Names{"b.npy", "c.npy"});
  CHECK(pairs.classes.empty());
  CHECK(lists.read("a,cat\nb,dog\n", npy).classes == Names{"cat", "dog"});
  CHECK_THAT(lists.error("a,b\nb,missing\n", npy).what(), says("no such file"));

  const auto check = [&](const std::string& text, const char* advice) {
    CHECK_THAT(lists.error(text).what(), says(advice));
  };
  check("image;label\na.npy;1\n", "separator(';') divides lines at semicolons");
  check("x\\a.npy\nx\\b.npy\n", "a backslash does not separate folders here");
  check("a.npy,1.0\n", "a label is written without a point");
  CHECK_THAT(lists.error("a.npy,1e39\n", FileListOptions().value_column(1)).what(),
             says("expected a number that float32 can hold, found \"1e39\""));
  const auto unchecked = FileListOptions().check_files(false);
  CHECK_THAT(lists.error("sample,label\na.npy,10\nb.npy,2\n", unchecked).what(),
             says("the class is \"label\", and those of all other lines are numbers"));
  CHECK(lists.read("name,label\na.npy,10\nb.npy,2\n").files.size() == 2);
  CHECK_THAT(lists.error("id,label\na,1\n", npy).what(), says("header(true) skips a header line"));
  CHECK_THAT(lists.error("id\na\nb\n", npy).what(), says("header(true) skips a header line"));
}

TEST_CASE("wrong lines throw Error with the first of them", "[dataset]") {
  const Lists lists;
  const auto check = [&](const std::string& text, const std::string& words,
                         const FileListOptions& options = {}) {
    const Error error = lists.error(text, options);
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says(words));
  };
  check("a.npy,1\nb.npy\nc.npy,2\nb.npy,1,2\n",
        "line 2: expected 2 columns, as in line 1, found 1; 1 line more is wrong");
  check("a.npy,1\n#\nb.npy 2\n", "line 3: expected 2 columns, as in line 1, found 1");
  check("a.npy,1\nb.npy,cat\n",
        "line 2: expected an integer label, found \"cat\"; class_column(1)");
  check("a.npy,1.5\n", "line 1: expected an integer label, found \"1.5\"");
  check("a.npy,\n", "line 1: expected an integer label, found \"\"");
  check("a.npy,99999999999999999999\n", "expected an integer label");
  check("a.npy,cat\nb.npy,\n", "line 2: the class is empty");
  check("a.npy,cat\nb.npy,c.npy\n",
        "line 2: expected the name of a class, found the path \"c.npy\"");
  check("a.npy,b.npy\nb.npy,c\n", "line 2: expected the path of a target, found \"c\"");
  check(",1\n", "line 1: the path is empty");
  check("a.npy,b.npy\nb.npy,\n", "line 2: expected the path of a target, found \"\"");
  check("\"a.npy,1\n", "a quote is not closed");
  check("a.npy,1\n\"b.npy\"x,1\nb.npy,\"1\n",
        "line 2: there is text after a closing quote; 1 line");
  check("", "this list has no files");
  check("# nothing\n\n", "this list has no files");
  check("path,label\n", "this list has no files");
  check(std::string("a\0.\0n\0", 6), "found a zero byte: the file is binary or UTF-16");
  check("\x93NUMPY\x01" + std::string(1, '\0'), "found a zero byte");
}
