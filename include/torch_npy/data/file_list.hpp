#ifndef TORCH_NPY_DATA_FILE_LIST_HPP_
#define TORCH_NPY_DATA_FILE_LIST_HPP_

/// @file
/// read_file_list(): the files and labels that a text file lists.

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <locale>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <torch_npy/data/options.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/text_lines.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// What read_file_list() has read: for each file its target, label, value and group, as far as the
/// list has them.
struct ListedFiles {
  /// The files, in the order of the lines.
  std::vector<std::filesystem::path> files;
  /// The target of each file, if the list has a column of targets.
  std::vector<std::filesystem::path> targets;
  /// The class of each file: int64, of shape (number of files). Undefined if the list has neither
  /// labels nor classes.
  at::Tensor labels;
  /// The number of each file, if the list has a column of values: float32, of shape (number of
  /// files).
  at::Tensor values;
  /// The group of each file, if the list has a column of groups.
  std::vector<std::string> groups;
  /// If the list has a column of classes: the name of each class; its number is the index.
  std::vector<std::string> classes;

  /// The numbers of the files in a group, for Dataset::subset(). Throws Error (NotFound) if there
  /// is none: the name may be misspelt.
  std::vector<std::size_t> in_group(const std::string& name) const {
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      if (groups[i] == name) found.push_back(i);
    }
    if (!found.empty()) return found;
    throw Error(ErrorCode::NotFound,
                "no file is in the group " + detail::in_quotes(name) +
                    (groups.empty() ? ": the list has no group_column()" : ""));
  }
};

namespace detail {

/// True for the names of files that this library reads.
inline bool is_array_name(std::string_view name) {
  return has_ending(name, ".npy") || has_ending(name, ".npz");
}

inline std::optional<std::int64_t> integer_in(std::string_view text) {
  if (text.size() > 1 && text.front() == '+' && text[1] != '-') text.remove_prefix(1);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

inline std::optional<double> number_in(const std::string& text) {
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  double number = 0;
  if (!(stream >> number) || stream.peek() != std::char_traits<char>::eof()) return std::nullopt;
  return number;
}

/// True for text that looks like a number.
inline bool is_numeric(std::string_view text) {
  return text.find_first_of("0123456789") != text.npos &&
         text.find_first_not_of("0123456789+-.eE") == text.npos;
}

/// True for the name of a column of paths.
inline bool is_path_heading(std::string text) {
  constexpr std::string_view kHeadings[] = {
      "path",     "paths",     "file",  "files",  "filename",   "filenames", "file_name",
      "filepath", "file_path", "image", "images", "image_path", "name",      "names",
      "img",      "img_path",  "input", "inputs", "volume",     "audio"};
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return std::find(std::begin(kHeadings), std::end(kHeadings), text) != std::end(kHeadings);
}

inline bool is_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto type = std::filesystem::status(path, error).type();
  return type != std::filesystem::file_type::not_found &&
         type != std::filesystem::file_type::directory;
}

/// The path that a list has as `text`.
inline std::filesystem::path listed_path(const std::filesystem::path& root, std::string text,
                                         const FileListOptions& options) {
  if (text.empty()) throw Error(ErrorCode::Mismatch, "the path is empty");
  if (!has_ending(text, options.ending())) text += options.ending();
  return root / path_of(text);
}

inline std::string line_name(const TextLine& line) { return "line " + std::to_string(line.number); }

/// Which columns a list has, and what they mean.
class ListColumns {
 public:
  /// Throws Error: InvalidArgument for options that do not fit the list; Mismatch if it is empty.
  ListColumns(const TextLines& lines, const std::filesystem::path& root,
              const FileListOptions& options)
      : lines_(lines), options_(options) {
    require_lines(0);
    separator_ = options.separator() == '\0' ? found_separator() : options.separator();
    first_ = split(0);
    const bool has_names = has_named_column();
    if (options.header() == false && has_names) {
      throw Error(ErrorCode::InvalidArgument,
                  "a column that is chosen by name needs a header line");
    }
    path = position(options.path_column()).value_or(0);
    target = position(options.target_column());
    label = position(options.label_column());
    class_name = position(options.class_column());
    value = position(options.value_column());
    group = position(options.group_column());
    const bool is_header = has_names || (is_path_heading(first_[path]) &&
                                         !is_file(listed_path(root, first_[path], options)));
    begin = options.header().value_or(is_header) ? 1 : 0;
    if (begin == 1) require_no_file(root);
    require_lines(begin);
    if (!options.path_column() && !target && !label && !class_name && !value && !group) {
      guess_second(root);
    }
    if (target == path) {
      throw Error(ErrorCode::InvalidArgument,
                  "path_column() and target_column() are the same column: each file would be its "
                  "own target");
    }
    if (label && class_name) {
      throw Error(ErrorCode::InvalidArgument,
                  "label_column() and class_column() exclude each other");
    }
    if (!options.classes().empty() && !class_name) {
      throw Error(ErrorCode::InvalidArgument, "classes() needs a list with a column of classes");
    }
  }

  std::size_t begin = 0;  ///< the first line after the header line
  std::size_t path = 0;   ///< positions of columns
  std::optional<std::size_t> target;
  std::optional<std::size_t> label;
  std::optional<std::size_t> class_name;
  std::optional<std::size_t> value;
  std::optional<std::size_t> group;
  bool is_guessed = false;  ///< the meaning of the second column

  /// The columns of a line. Throws Error (Mismatch) if there are more or fewer than in the first.
  std::vector<std::string> of(std::size_t line) const {
    std::vector<std::string> columns = split(line);
    if (columns.size() == first_.size()) return columns;
    throw Error(ErrorCode::Mismatch, "expected " + counted(first_.size(), "column") + ", as in " +
                                         line_name(lines_[0]) + ", found " +
                                         std::to_string(columns.size()));
  }

 private:
  std::vector<std::string> split(std::size_t line) const {
    return split_columns(lines_[line].text, separator_);
  }

  void require_lines(std::size_t first) const {
    if (first >= lines_.size()) throw Error(ErrorCode::Mismatch, "this list has no files");
  }

  /// Throws Error (InvalidArgument) if the line that is skipped as a header names a file: the
  /// header is then a comment, as np.savetxt() writes it, and a sample would be lost.
  void require_no_file(const std::filesystem::path& root) const {
    if (first_[path].empty()) return;
    const std::filesystem::path file = listed_path(root, first_[path], options_);
    if (!is_file(file)) return;
    throw Error(ErrorCode::InvalidArgument, "the header line, " + line_name(lines_[0]) +
                                                ", names a file that exists: " + shown_path(file) +
                                                after_comments());
  }

  const char* after_comments() const {
    return lines_[0].number == 1
               ? ""
               : "; lines that begin with '#' are not read, also not as a header line";
  }

  /// A line of one path with blanks in it is one column.
  char found_separator() const {
    const std::string_view line = lines_[0].text;
    const char found = separator_in(line);
    if (found != ' ' || line.find('"') != line.npos) return found;
    const std::vector<std::string> parts = split_columns(line, ' ');
    return is_array_name(parts.back()) && !is_array_name(parts.front()) ? kOneColumn : found;
  }

  bool has_named_column() const {
    for (const auto* const column :
         {&options_.path_column(), &options_.target_column(), &options_.label_column(),
          &options_.class_column(), &options_.value_column(), &options_.group_column()}) {
      if (*column && !(*column)->name().empty()) return true;
    }
    return false;
  }

  /// The position of a column that was chosen.
  std::optional<std::size_t> position(const std::optional<ListColumn>& column) const {
    if (!column) return std::nullopt;
    const auto begin_of_names = first_.begin();
    std::size_t found = first_.size();
    const char* wrong = "no column ";
    if (column->name().empty()) {
      if (column->number() >= 0) found = static_cast<std::size_t>(column->number());
    } else {
      const auto named = std::find(begin_of_names, first_.end(), column->name());
      found = static_cast<std::size_t>(named - begin_of_names);
      if (std::count(begin_of_names, first_.end(), column->name()) > 1) {
        wrong = "more than one column ";
        found = first_.size();
      }
    }
    if (found < first_.size()) return found;
    std::string names;
    for (const std::string& name : first_) names += (names.empty() ? "" : ", ") + in_quotes(name);
    throw Error(ErrorCode::InvalidArgument,
                wrong +
                    (column->name().empty() ? std::to_string(column->number())
                                            : in_quotes(column->name())) +
                    ": the columns of " + line_name(lines_[0]) + ", counted from 0, are " + names +
                    after_comments());
  }

  /// The meaning of the second column, if no columns were chosen.
  void guess_second(const std::filesystem::path& root) {
    if (first_.size() == 1) return;
    if (first_.size() > 2) {
      throw Error(ErrorCode::InvalidArgument,
                  line_name(lines_[0]) + " has " + std::to_string(first_.size()) +
                      " columns: " + shown(lines_[0].text) +
                      "; choose with path_column(), label_column() and the like, or set the "
                      "separator(); a path with the separator in it must be in quotes");
    }
    const std::string text = of(begin)[1];
    is_guessed = true;
    const auto is_target = [&] {
      return is_array_name(text) ||
             (!options_.ending().empty() && is_file(listed_path(root, text, options_)));
    };
    if (options_.classes().empty() && !text.empty() && is_target()) {
      target = 1;
    } else if (options_.classes().empty() && (is_numeric(text) || text.empty())) {
      label = 1;
    } else {
      class_name = 1;
    }
  }

  const TextLines& lines_;
  const FileListOptions& options_;
  char separator_ = kOneColumn;
  std::vector<std::string> first_;  // the columns of the first line
};

/// The numbers of classes, by name.
class ClassNumbers {
 public:
  explicit ClassNumbers(const std::vector<std::string>& fixed) : is_fixed_(!fixed.empty()) {
    for (const std::string& name : fixed) {
      if (numbers_.emplace(name, static_cast<std::int64_t>(numbers_.size())).second) continue;
      throw Error(ErrorCode::InvalidArgument,
                  "classes() has the name " + in_quotes(name) + " twice");
    }
  }

  /// Throws Error (Mismatch) if the names are fixed, and this is not one of them.
  std::int64_t of(const std::string& name) {
    const auto found = numbers_.find(name);
    if (found != numbers_.end()) return found->second;
    if (is_fixed_) throw Error(ErrorCode::Mismatch, in_quotes(name) + " is not in classes()");
    if (name.empty()) throw Error(ErrorCode::Mismatch, "the class is empty");
    return numbers_.emplace(name, static_cast<std::int64_t>(numbers_.size())).first->second;
  }

  /// The names, in the order of their bytes if they are not fixed; `labels` get their new numbers.
  std::vector<std::string> sorted(std::vector<std::int64_t>& labels) const {
    std::vector<std::string> names(numbers_.size());
    std::vector<std::int64_t> now(numbers_.size());
    std::int64_t next = 0;
    for (const auto& [name, number] : numbers_) {
      std::int64_t& position = now[static_cast<std::size_t>(number)];
      position = is_fixed_ ? number : next++;
      names[static_cast<std::size_t>(position)] = name;
    }
    for (std::int64_t& label : labels) label = now[static_cast<std::size_t>(label)];
    return names;
  }

 private:
  bool is_fixed_;
  std::map<std::string, std::int64_t> numbers_;
};

/// Reads a list of files. An Error has no path; the caller adds it.
class ListReader {
 public:
  ListReader(const std::filesystem::path& list, const std::filesystem::path& root,
             const FileListOptions& options)
      : root_(root.empty() ? list.parent_path() : root),
        options_(options),
        lines_(list),
        columns_(lines_, root_, options),
        class_numbers_(options.classes()) {}

  ListedFiles read() {
    std::optional<Error> bad;
    std::size_t count = 0;
    for (std::size_t i = columns_.begin; i < lines_.size(); ++i) {
      try {
        add(columns_.of(i));
      } catch (const Error& error) {
        if (count++ == 0) bad.emplace(ErrorContext::within(error, line_name(lines_[i])));
      }
    }
    if (bad) throw Error(bad->code(), bad->what() + and_more(count, "line", " wrong"));
    if (options_.check_files()) require_files();
    if (columns_.class_name) listed_.classes = class_numbers_.sorted(labels_);
    if (columns_.class_name && columns_.is_guessed) require_no_header();
    if (columns_.class_name || columns_.label) listed_.labels = at::tensor(labels_, at::kLong);
    if (columns_.value) listed_.values = at::tensor(values_, at::kFloat);
    return std::move(listed_);
  }

 private:
  static std::string and_more(std::size_t count, const char* noun, const char* what) {
    if (count == 1) return {};
    return "; " + counted(count - 1, noun) + " more " + (count == 2 ? "is" : "are") + what;
  }

  /// Throws Error (Mismatch) if the class of the first line alone is not a number: then it is the
  /// name of a column of labels.
  void require_no_header() const {
    const std::string& first = listed_.classes[static_cast<std::size_t>(labels_[0])];
    const auto is_label = [&](const std::string& name) {
      return name == first || is_numeric(name);
    };
    if (columns_.begin != 0 || options_.header() || is_numeric(first) ||
        listed_.classes.size() == 1 ||
        !std::all_of(listed_.classes.begin(), listed_.classes.end(), is_label)) {
      return;
    }
    throw Error(ErrorCode::Mismatch, line_name(lines_[0]) + ": the class is " + in_quotes(first) +
                                         ", and those of all other lines are numbers; header(true) "
                                         "skips a header line");
  }

  void add(const std::vector<std::string>& columns) {
    listed_.files.push_back(listed_path(root_, columns[columns_.path], options_));
    if (columns_.target) listed_.targets.push_back(target_from(columns[*columns_.target]));
    if (columns_.label) labels_.push_back(label_from(columns[*columns_.label]));
    if (columns_.class_name) labels_.push_back(class_from(columns[*columns_.class_name]));
    if (columns_.value) values_.push_back(value_from(columns[*columns_.value]));
    if (columns_.group) listed_.groups.push_back(columns[*columns_.group]);
  }

  std::filesystem::path target_from(const std::string& text) const {
    if (!columns_.is_guessed || is_array_name(text) || !options_.ending().empty()) {
      return listed_path(root_, text, options_);
    }
    throw Error(ErrorCode::Mismatch,
                "expected the path of a target, found " + shown(text) +
                    "; target_column(1) takes the column for paths with any ending");
  }

  std::int64_t label_from(const std::string& text) const {
    if (const auto number = integer_in(text)) return *number;
    throw Error(
        ErrorCode::Mismatch,
        "expected an integer label, found " + shown(text) +
            (number_in(text)       ? "; value_column() takes a column for any numbers, a label "
                                     "is written without a point"
             : columns_.is_guessed ? "; class_column(1) takes the column for names of classes"
                                   : ""));
  }

  static double value_from(const std::string& text) {
    const auto number = number_in(text);
    if (number && std::isfinite(static_cast<float>(*number))) return *number;
    throw Error(ErrorCode::Mismatch, "expected a number" +
                                         std::string(number ? " that float32 can hold" : "") +
                                         ", found " + shown(text));
  }

  std::int64_t class_from(const std::string& text) {
    if (!columns_.is_guessed || !is_array_name(text)) return class_numbers_.of(text);
    throw Error(ErrorCode::Mismatch, "expected the name of a class, found the path " + shown(text) +
                                         "; class_column(1) takes the column for names of classes");
  }

  /// Throws Error (NotFound) for the first file that does not exist.
  void require_files() const {
    const std::vector<std::size_t> files = FileList(listed_.files).missing();
    const std::vector<std::size_t> targets = FileList(listed_.targets).missing();
    const std::size_t count = files.size() + targets.size();
    if (count == 0) return;
    const bool is_file = !files.empty() && (targets.empty() || files[0] <= targets[0]);
    const std::size_t first = is_file ? files[0] : targets[0];
    const std::filesystem::path& path = is_file ? listed_.files[first] : listed_.targets[first];
    const bool is_all = count == listed_.files.size() + listed_.targets.size();
    const auto is_first = [](std::size_t i) { return i == 0; };
    const bool is_only_first = std::all_of(files.begin(), files.end(), is_first) &&
                               std::all_of(targets.begin(), targets.end(), is_first);
    const bool may_be_header =
        first == 0 && columns_.begin == 0 && (is_only_first || !is_array_name(utf8_of(path)));
    throw Error(ErrorCode::NotFound,
                line_name(lines_[columns_.begin + first]) + ": no such file: " + shown_path(path) +
                    and_more(count, "file", " missing") + advice_for(path, may_be_header, is_all));
  }

  static const char* advice_for(const std::filesystem::path& path, bool may_be_header,
                                bool all_are_missing) {
    std::filesystem::path with_ending = path;
    with_ending += ".npy";
    if (is_file(with_ending)) return "; with ending(\".npy\") it is found";
    const std::string name = utf8_of(path.filename());
    if (name.find(';') != name.npos) return "; separator(';') divides lines at semicolons";
    if (name.find('\\') != name.npos) return "; a backslash does not separate folders here";
    if (may_be_header) return "; header(true) skips a header line";
    if (!all_are_missing) return "";
    return "; relative paths are relative to the second argument, or else to the folder of the "
           "list";
  }

  std::filesystem::path root_;
  const FileListOptions& options_;
  TextLines lines_;
  ListColumns columns_;
  ClassNumbers class_numbers_;
  std::vector<std::int64_t> labels_;
  std::vector<double> values_;
  ListedFiles listed_;
};

}  // namespace detail

/// Reads a list of files, one on each line, for a FileDataset. A line is a path alone; or a path
/// and, after a comma, a tab or blanks, an integer label, the path of a target (with the ending
/// .npy or .npz; or with ending(), an existing file without it), or the name of a class. The first
/// line decides which of them all lines have. FileListOptions choose columns of other lists, such
/// as CSV files with a header line.
///
/// A column may be in quotes, with two quotes for one. Blank lines and lines that begin with '#'
/// are ignored. Relative paths are relative to `root`; by default, to the folder of the list.
///
/// Throws Error: NotFound if the list or a file in it does not exist, see
/// FileListOptions::check_files; Mismatch for a wrong line, with its number and how many more there
/// are; InvalidArgument for options that do not fit the list. Costs one stat per file. Safe from
/// any thread.
inline ListedFiles read_file_list(const std::filesystem::path& list,
                                  const std::filesystem::path& root = {},
                                  const FileListOptions& options = {}) {
  return detail::with_path(list, [&] { return detail::ListReader(list, root, options).read(); });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FILE_LIST_HPP_
