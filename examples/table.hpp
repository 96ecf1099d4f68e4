#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

using Row = std::vector<std::string>;

/// Names come from files that anybody may have written: a terminal is to see no control characters,
/// also none of those that are two bytes in UTF-8.
inline std::string printable(std::string text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) text[i] = '?';
    if (byte == 0xc2 && i + 1 < text.size() && (text[i + 1] & 0xe0) == 0x80) {
      text.replace(i, 2, "?");
    }
  }
  return text;
}

/// Columns of a terminal that UTF-8 takes. Characters of Chinese, Japanese and Korean are twice as
/// wide as others.
inline std::size_t width_of(const std::string& text) {
  std::size_t width = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    width += (byte & 0xc0) == 0x80 ? 0 : byte >= 0xe3 && byte <= 0xed ? 2 : 1;
  }
  return width;
}

/// Prints rows, the first of which is the heading, in columns; those that are in `numbers` stand to
/// the right.
inline void print_table(const std::vector<Row>& rows, const std::vector<std::string>& numbers) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - width_of(row[i]), ' ');
      const bool is_number = std::find(numbers.begin(), numbers.end(), rows[0][i]) != numbers.end();
      const bool is_last = i + 1 == row.size();
      std::printf("%s%s%s%s", is_number ? blanks.c_str() : "", row[i].c_str(),
                  is_number || is_last ? "" : blanks.c_str(), is_last ? "\n" : "  ");
    }
  }
}
