// What is in .npy files and .npz archives: a table, and with options what the values are like.
// Teaches to look before loading: headers alone are read, unless an option asks for the values, and
// a file or an array that cannot be read gets one line on stderr while the others go on.
//
//   inspect [--stats] [--show] FILE...        exit status 1 where something could not be read

#include <torch_npy.hpp>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "arrays_of_file.hpp"
#include "picture.hpp"
#include "rows_of_array.hpp"
#include "table.hpp"

namespace {

/// Returns whether `work` went well; what did not is told.
template <class Work>
bool attempt(const Work& work) {
  try {
    work();
    return true;
  } catch (const std::exception& error) {  // Error, or no memory
    std::fflush(stdout);                   // in a log, too, one comes after the other
    std::fprintf(stderr, "%s\n", error.what());
    return false;
  }
}

/// Returns whether all could be read.
bool inspect(const std::filesystem::path& path, const std::string& heading, bool with_statistics,
             bool with_pictures) {
  std::vector<Row> rows{{"name", "dtype", "shape", "order", "bytes", "stored"}};
  if (with_statistics) {
    rows[0].insert(rows[0].end(), {"minimum", "mean", "maximum", "NaN", "histogram"});
  }
  std::vector<ArrayOfFile> arrays;
  bool good = attempt([&] { arrays = arrays_of_file(path); });
  for (const ArrayOfFile& array : arrays) {
    good = attempt([&] { add_rows(array, with_statistics, rows); }) && good;
  }
  if (rows.size() > 1 || good) {
    if (!heading.empty()) std::printf("%s\n", heading.c_str());
    print_table(rows, {"bytes", "minimum", "mean", "maximum", "NaN"});
  }
  for (const ArrayOfFile& array : arrays) {
    const auto show = [&] {
      const auto header = array.header();
      if (header.shape.size() < 2 || !is_number(header.dtype)) return;
      draw(array.load(options_for(header.dtype)), printable(array.name));
    };
    if (with_pictures) good = attempt(show) && good;
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  bool with_statistics = false, with_pictures = false, is_clear = true;
  std::vector<std::filesystem::path> paths;
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
