#ifndef TORCH_NPY_IO_TEXT_LINES_HPP_
#define TORCH_NPY_IO_TEXT_LINES_HPP_

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/version.hpp>

// Text files of lines and columns. An Error thrown here has no path; the callers add it.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A line of a text file, without its line end. Lines are counted from 1.
struct TextLine {
  std::size_t number;
  std::string_view text;
};

/// The lines of a text file, without blank ones and comments, which begin with '#'.
class TextLines {
 public:
  /// Reads the whole file. Throws Error: Mismatch if it is no text in UTF-8 or ASCII; what reading
  /// a file throws.
  explicit TextLines(const std::filesystem::path& path) : text_(whole(path)) {
    std::string_view rest = text_;
    if (rest.substr(0, 3) == "\xef\xbb\xbf") rest.remove_prefix(3);  // a byte order mark
    for (std::size_t number = 1; !rest.empty(); ++number) {
      const std::size_t end = rest.find('\n');
      std::string_view line = rest.substr(0, end);
      rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      const std::size_t first = line.find_first_not_of(" \t");
      if (first != line.npos && line[first] != '#') lines_.push_back({number, line});
    }
  }
  TextLines(const TextLines&) = delete;
  TextLines& operator=(const TextLines&) = delete;

  std::size_t size() const noexcept { return lines_.size(); }
  const TextLine& operator[](std::size_t index) const { return lines_[index]; }

 private:
  static std::string whole(const std::filesystem::path& path) {
    const File file(path);
    std::string text(static_cast<std::size_t>(file.size()), '\0');
    file.read_fully(text.data(), text.size(), 0);
    const std::size_t zero = text.find('\0');
    if (zero == text.npos) return text;
    throw Error(ErrorCode::Mismatch,
                "expected a text file in UTF-8, found a zero byte: the file is binary or UTF-16",
                zero);
  }

  std::string text_;
  std::vector<TextLine> lines_;
};

/// The separator for a line that is one column. No line has this character.
constexpr char kOneColumn = '\n';

/// The columns of a line. Blanks around a column are removed. A column in quotes may have the
/// separator in it, and two quotes for one. The separator ' ' stands for any number of blanks and
/// tabs. Throws Error (Mismatch) for wrong quotes.
inline std::vector<std::string> split_columns(std::string_view line, char separator) {
  const auto is_blank = [&](char c) { return c == ' ' || (c == '\t' && separator != '\t'); };
  const auto ends_column = [&](char c) { return separator == ' ' ? is_blank(c) : c == separator; };
  std::vector<std::string> columns;
  std::size_t at = 0;
  const auto skip_blanks = [&] {
    while (at != line.size() && is_blank(line[at])) ++at;
  };
  for (;;) {
    skip_blanks();
    if (separator == ' ' && at == line.size()) return columns;
    std::string& column = columns.emplace_back();
    if (at != line.size() && line[at] == '"') {
      for (++at;; ++at) {
        if (at == line.size()) throw Error(ErrorCode::Mismatch, "a quote is not closed");
        if (line[at] == '"') {
          ++at;
          if (at == line.size() || line[at] != '"') break;
        }
        column += line[at];
      }
      const bool is_end = at == line.size() || is_blank(line[at]) || ends_column(line[at]);
      skip_blanks();
      if (!is_end || (separator != ' ' && at != line.size() && line[at] != separator)) {
        throw Error(ErrorCode::Mismatch, "there is text after a closing quote");
      }
    } else {
      const std::size_t begin = at;
      while (at != line.size() && !ends_column(line[at])) ++at;
      column = line.substr(begin, at - begin);
      while (!column.empty() && is_blank(column.back())) column.pop_back();
    }
    if (at == line.size()) return columns;
    if (separator != ' ') ++at;
  }
}

/// The separator of a line: a tab, else a comma, else blanks, as far as they are not in quotes.
inline char separator_in(std::string_view line) {
  const std::size_t end = line.find_last_not_of(" \t");
  line = line.substr(0, end == line.npos ? 0 : end + 1);
  line.remove_prefix((std::min)(line.find_first_not_of(" \t"), line.size()));
  bool has_comma = false;
  bool has_blank = false;
  bool is_quoted = false;
  for (const char c : line) {
    if (c == '"') is_quoted = !is_quoted;
    if (is_quoted) continue;
    if (c == '\t') return '\t';
    has_comma = has_comma || c == ',';
    has_blank = has_blank || c == ' ';
  }
  return has_comma ? ',' : has_blank ? ' ' : kOneColumn;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_TEXT_LINES_HPP_
