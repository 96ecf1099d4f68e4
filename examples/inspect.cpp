// What is in .npy files and .npz archives: a table, and with options what the values are like.
//
//   inspect [--stats] [--show] FILE...
//
// Headers alone are read, unless an option asks for the values. A file or an array that cannot be
// read gets one line on stderr, and the exit status is 1.

#include <torch_npy.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "picture.hpp"

namespace {

using Row = std::vector<std::string>;
using Arrays = torch::OrderedDict<std::string, at::Tensor>;

/// One array of a file.
struct Entry {
  std::string name;
  std::string storage;
  std::function<torch_npy::Header()> header;
  std::function<at::Tensor(const torch_npy::LoadOptions&)> load;
  std::function<Arrays(const torch_npy::LoadOptions&)> load_fields;  ///< of a structured one
};

std::vector<Entry> entries_of(const std::filesystem::path& path) {
  using torch_npy::LoadOptions;
  std::optional<torch_npy::Error> no_array;
  try {
    (void)torch_npy::read_header(path);
    return {{path.filename().string(), "file", [=] { return torch_npy::read_header(path); },
             [=](const LoadOptions& options) { return torch_npy::load(path, options); },
             [=](const LoadOptions& options) { return torch_npy::load_fields(path, options); }}};
  } catch (const torch_npy::Error& error) {
    if (error.code() != torch_npy::ErrorCode::NotNpy) throw;
    no_array.emplace(error);
  }
  std::vector<Entry> entries;
  try {
    const auto file = std::make_shared<torch_npy::NpzFile>(path);
    for (const std::string& name : file->names()) {
      entries.push_back(
          {name, file->is_deflated(name) ? "deflated" : "stored",
           [=] { return file->header(name); },
           [=](const LoadOptions& options) { return file->load(name, options); },
           [=](const LoadOptions& options) { return file->load_fields(name, options); }});
    }
  } catch (const torch_npy::Error& error) {
    if (error.code() == torch_npy::ErrorCode::NotNpy) throw *no_array;
    throw;
  }
  return entries;
}

/// Names come from files that anybody may have written: a terminal is to see no control characters,
/// also none of those that are two bytes in UTF-8.
std::string printable(std::string text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7f) text[i] = '?';
    if (byte == 0xc2 && i + 1 < text.size() && (text[i + 1] & 0xe0) == 0x80) {
      text.replace(i, 2, "?");
    }
  }
  return text;
}

std::string shape_of(const std::vector<std::int64_t>& sizes) {
  std::string out = "(";
  for (const auto size : sizes) out += std::to_string(size) + (sizes.size() == 1 ? "," : ", ");
  if (sizes.size() > 1) out.resize(out.size() - 2);
  return out + ")";
}

/// In columns; those of numbers to the right.
void print(const std::vector<Row>& rows) {
  const auto width_of = [](const std::string& text) {
    // In UTF-8. Characters of Chinese, Japanese and Korean are twice as wide as others.
    std::ptrdiff_t width = 0;
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      width += (byte & 0xc0) == 0x80 ? 0 : byte >= 0xe3 && byte <= 0xed ? 2 : 1;
    }
    return width;
  };
  std::vector<std::ptrdiff_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(static_cast<std::size_t>(widths[i] - width_of(row[i])), ' ');
      const bool is_number = i == 4 || (i >= 6 && i <= 9);
      std::printf("%s%s%s", is_number ? blanks.c_str() : "", row[i].c_str(),
                  i + 1 == row.size() ? "\n"
                  : is_number         ? "  "
                                      : (blanks + "  ").c_str());
    }
  }
}

bool is_number(const torch_npy::DType& dtype) {
  return std::string_view("biufmM").find(dtype.kind) != std::string_view::npos &&
         dtype.item_size <= 8;
}

/// For what is looked at and not kept: mapped where that can be, and unsigned integers, which older
/// LibTorch has no dtype for, as float64.
torch_npy::LoadOptions options_for(const torch_npy::DType& dtype) {
  const auto options = torch_npy::LoadOptions().mmap(true);
  return dtype.kind == 'u' && dtype.item_size > 1
             ? torch_npy::LoadOptions(options).dtype(at::kDouble)
             : options;
}

void add_statistics(Row& row, const torch_npy::DType& dtype, const at::Tensor& array) {
  const Statistics stats(array, dtype.kind == 'M' || dtype.kind == 'm');
  row.resize(6);
  row.insert(row.end(), {stats.minimum, stats.mean, stats.maximum, std::to_string(stats.nans),
                         stats.histogram});
}

/// The rows of the fields of a structured dtype; `arrays` are what was loaded of them.
void add_fields(const torch_npy::DType& dtype, const std::string& around, const Arrays& arrays,
                std::vector<Row>& rows) {
  for (const auto& field : dtype.fields) {
    const std::string name = around + field.name;
    rows.push_back({"  " + printable(name),
                    field.dtype.is_structured() ? "records" : field.dtype.descr(),
                    field.shape.empty() ? "" : shape_of(field.shape)});
    const at::Tensor* const array = arrays.find(name);
    if (array != nullptr && is_number(field.dtype)) {
      add_statistics(rows.back(), field.dtype, *array);
    }
    add_fields(field.dtype, name + '.', arrays, rows);
  }
}

/// The fields of a structured array, as float64 where LibTorch has no dtype for one of them. None
/// where there is one that no tensor holds.
Arrays numbers_of(const Entry& entry) {
  const auto options = torch_npy::LoadOptions().mmap(true).strings(true);
  for (const auto& how : {options, torch_npy::LoadOptions(options).dtype(at::kDouble)}) {
    try {
      return entry.load_fields(how);
    } catch (const torch_npy::Error& error) {
      if (error.code() != torch_npy::ErrorCode::UnsupportedDtype) throw;
    }
  }
  return Arrays();
}

/// The rows of an array: one, and one for each field of a structured dtype.
void add_rows(const Entry& entry, bool with_statistics, std::vector<Row>& rows) {
  const auto header = entry.header();
  const auto& dtype = header.dtype;
  rows.push_back({printable(entry.name), dtype.is_structured() ? "records" : dtype.descr(),
                  shape_of(header.shape), header.fortran_order ? "Fortran" : "C",
                  std::to_string(header.nbytes()), entry.storage});
  if (with_statistics && is_number(dtype)) {
    add_statistics(rows.back(), dtype, entry.load(options_for(dtype)));
  }
  if (!dtype.is_structured()) return;
  add_fields(dtype, "", with_statistics ? numbers_of(entry) : Arrays(), rows);
}

/// Returns whether all could be read.
bool inspect(const std::filesystem::path& path, const std::string& heading, bool with_statistics,
             bool with_pictures) {
  std::vector<Row> rows{{"name", "dtype", "shape", "order", "bytes", "stored"}};
  if (with_statistics)
    rows[0].insert(rows[0].end(), {"minimum", "mean", "maximum", "NaN", "histogram"});
  std::vector<Entry> pictures;
  bool good = true;
  const auto attempt = [&](const auto& work) {
    try {
      work();
    } catch (const std::exception& error) {  // Error, or no memory
      std::fflush(stdout);                   // in a log, too, one comes after the other
      std::fprintf(stderr, "%s\n", error.what());
      good = false;
    }
  };
  attempt([&] {
    for (const Entry& entry : entries_of(path)) {
      attempt([&] { add_rows(entry, with_statistics, rows); });
      if (with_pictures) pictures.push_back(entry);
    }
  });
  if (rows.size() > 1 || good) {
    if (!heading.empty()) std::printf("%s\n", heading.c_str());
    print(rows);
  }
  for (const Entry& entry : pictures) {
    attempt([&] {
      const auto header = entry.header();
      if (header.shape.size() < 2 || !is_number(header.dtype)) return;
      draw(entry.load(options_for(header.dtype)), printable(entry.name));
    });
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  bool with_statistics = false;
  bool with_pictures = false;
  std::vector<std::filesystem::path> paths;
  bool is_clear = argc > 1;
  for (const std::string_view argument : std::vector<std::string_view>(argv + 1, argv + argc)) {
    if (argument == "--stats") {
      with_statistics = true;
    } else if (argument == "--show") {
      with_pictures = true;
    } else if (argument.substr(0, 1) == "-") {
      is_clear = false;
    } else {
      paths.emplace_back(argument);
    }
  }
  if (!is_clear || paths.empty()) {
    std::fprintf(stderr, "usage: inspect [--stats] [--show] FILE...\n");
    return 2;
  }
  bool good = true;
  for (const auto& path : paths) {
    const std::string before = &path == &paths[0] ? "" : "\n";
    const std::string heading = paths.size() > 1 ? before + printable(path.string()) : "";
    good = inspect(path, heading, with_statistics, with_pictures) && good;
  }
  return good ? 0 : 1;
}
