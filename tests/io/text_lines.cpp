// Lines and columns of text files.

#include <torch_npy/io/text_lines.hpp>

#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;
using torch_npy::detail::separator_in;
using torch_npy::detail::split_columns;

TEST_CASE("a text file is read without blank lines, comments and line ends", "[text]") {
  const Folder folder;
  const auto read = [&](const std::string& text) {
    const torch_npy::detail::TextLines lines(write_bytes(folder / "list.txt", text));
    std::vector<std::pair<std::size_t, std::string>> all;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      all.emplace_back(lines[i].number, std::string(lines[i].text));
    }
    return all;
  };
  using Lines = std::vector<std::pair<std::size_t, std::string>>;
  CHECK(read("a\n\n# b\r\n c \r\n\t\n  #d\ne#f") == Lines{{1, "a"}, {4, " c "}, {7, "e#f"}});
  CHECK(read("\xef\xbb\xbf#x\ny\n") == Lines{{2, "y"}});
  CHECK(read("\xef\xbb").size() == 1);
  CHECK(read("").empty());
  CHECK(error_of([&] { read(std::string("a\nb\0c", 5)); }).offset() == 3);
  CHECK(error_of([&] { torch_npy::detail::TextLines lines(folder.path()); }).code() ==
        ErrorCode::Io);
}

TEST_CASE("a line is split into columns", "[text]") {
  using Columns = std::vector<std::string>;
  CHECK(split_columns("a, b c ,,\"d, \"\"e\"\" \" ,", ',') ==
        Columns{"a", "b c", "", "d, \"e\" ", ""});
  CHECK(split_columns("  a \t b  \"c d\" ", ' ') == Columns{"a", "b", "c d"});
  CHECK(split_columns("a b\t\tc ", '\t') == Columns{"a b", "", "c"});
  CHECK(split_columns(" a b,c\t", torch_npy::detail::kOneColumn) == Columns{"a b,c"});
  CHECK(split_columns("\"\"", ',') == Columns{""});
  CHECK(split_columns("\"\"\"\"", ' ') == Columns{"\""});
  CHECK(split_columns("a\"b\"", ',') == Columns{"a\"b\""});
  for (const char* line : {"\"", "\"a\"\"", "\"a\"b", "\"a\" b,c"}) {
    CAPTURE(line);
    CHECK(error_of([&] { split_columns(line, ','); }).code() == ErrorCode::Mismatch);
  }
}

TEST_CASE("the separator of a line is a tab, a comma or blanks", "[text]") {
  CHECK(separator_in("a b,c\td") == '\t');
  CHECK(separator_in("a b,c") == ',');
  CHECK(separator_in(" a  b ") == ' ');
  CHECK(separator_in("\ta ") == torch_npy::detail::kOneColumn);
  CHECK(separator_in("\"a, b\tc\"") == torch_npy::detail::kOneColumn);
  CHECK(separator_in("\"a, b\" c") == ' ');
}
