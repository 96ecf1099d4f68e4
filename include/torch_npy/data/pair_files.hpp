#ifndef TORCH_NPY_DATA_PAIR_FILES_HPP_
#define TORCH_NPY_DATA_PAIR_FILES_HPP_

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <torch_npy/data/options.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/names.hpp>
#include <torch_npy/io/store.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// The files of folders, and which of them are the targets of others.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

inline ListRules list_rules(const FolderOptions& options) {
  return {options.pattern(), options.recursive(), options.natural_order()};
}

/// The Error for a folder without samples. `advice` ends its message.
inline Error no_files(const FileList& list, const std::string& subfolder, const ListRules& rules,
                      const char* advice = "") {
  std::string reason = "no " + rules.ending + " file in this folder";
  if (rules.pattern != "*") reason += " matches the pattern " + shown(rules.pattern);
  ListRules others = rules;
  others.ending = rules.ending == ".npy" ? ".npz" : ".npy";
  if (has_ending(rules.pattern, rules.ending)) others.pattern.back() = others.ending.back();
  const std::size_t found = list.empty_copy().add(subfolder, others);
  const std::size_t folders = list.subfolders(subfolder).size();
  if (found != 0) {
    reason += "; it has " + counted(found, (others.ending + " file").c_str()) +
              (others.ending == ".npz" ? ": NpzDataset reads archives"
                                       : ": FolderDataset reads single arrays");
  } else if (folders != 0 && !rules.recursive) {
    reason +=
        "; it has " + counted(folders, "subfolder") + ": set recursive(true) to include subfolders";
  }
  return Error(ErrorCode::NotFound, reason + advice, 0,
               subfolder == "." ? list.folder() : list.folder() / path_of(subfolder));
}

inline FileList list_folder(const SampleFolder& folder, const ListRules& rules,
                            const char* advice = "") {
  FileList list(folder);
  if (list.add(".", rules) == 0) throw no_files(list, ".", rules, advice);
  return list;
}

/// The name of a target for the name of its input: the stars of the second pattern become the text
/// that those of the first one match.
class PatternRule {
 public:
  /// Throws Error (InvalidArgument) for patterns that cannot be used in this way.
  PatternRule(const std::string& pattern, const std::string& target_pattern)
      : pattern_(pattern), from_(pieces_of(pattern)), to_(pieces_of(target_pattern)) {
    if (from_.size() == to_.size()) return;
    throw Error(ErrorCode::InvalidArgument,
                "target_pattern() needs as many stars as pattern(), found " +
                    shown(target_pattern) + " for " + shown(pattern));
  }

  /// `name` may have folders, which stay the same. Throws Error (InvalidArgument) if the name does
  /// not match without its ending.
  std::string operator()(const std::string& name) const {
    const std::size_t begin = name.rfind('/') + 1;  // npos + 1 is 0
    const std::string_view base(name.data() + begin, name.size() - begin - kEnding.size());
    std::string target = name.substr(0, begin) + to_[0];
    bool fits = base.substr(0, from_[0].size()) == from_[0];
    std::size_t at = from_[0].size();
    for (std::size_t i = 1; fits && i < from_.size(); ++i) {
      const bool is_last = i + 1 == from_.size();
      const std::size_t end = is_last ? last_of(base, from_[i]) : base.find(from_[i], at);
      fits = end != base.npos && end >= at;
      if (!fits) break;
      target.append(base, at, end - at).append(to_[i]);
      at = end + from_[i].size();
    }
    if (fits && at == base.size()) return target.append(kEnding);
    throw Error(ErrorCode::InvalidArgument, "the name " + in_quotes(name) + " does not match " +
                                                shown(pattern_) + " without its ending .npy");
  }

 private:
  static constexpr std::string_view kEnding = ".npy";

  static std::size_t last_of(std::string_view text, std::string_view end) {
    return has_ending(text, end) ? text.size() - end.size() : text.npos;
  }

  /// The text before, between and after the stars, without the ending.
  static std::vector<std::string> pieces_of(const std::string& pattern) {
    if (pattern.find_first_of("?[\\/") != pattern.npos) {
      throw Error(ErrorCode::InvalidArgument,
                  "with target_pattern(), a pattern has stars and no other wildcard, found " +
                      shown(pattern) + "; target_name() takes a function for any other rule");
    }
    std::string_view rest = pattern;
    if (has_ending(rest, kEnding)) {
      rest.remove_suffix(kEnding.size());
    } else if (!has_ending(rest, "*")) {
      throw Error(ErrorCode::InvalidArgument,
                  "with target_pattern(), a pattern ends with .npy or *, found " + shown(pattern));
    }
    std::vector<std::string> pieces;
    for (;;) {
      const std::size_t star = rest.find('*');
      pieces.emplace_back(rest.substr(0, star));
      if (star == rest.npos) return pieces;
      rest.remove_prefix(star + 1);
    }
  }

  std::string pattern_;
  std::vector<std::string> from_;
  std::vector<std::string> to_;
};

inline std::vector<std::string_view> sorted_names(const FileList& list) {
  std::vector<std::string_view> names;
  names.reserve(list.size());
  for (std::size_t i = 0; i < list.size(); ++i) names.emplace_back(list.name(i));
  std::sort(names.begin(), names.end());
  return names;
}

inline bool same_names(const FileList& a, const FileList& b) {
  bool same = a.size() == b.size();
  for (std::size_t i = 0; same && i < a.size(); ++i) same = std::strcmp(a.name(i), b.name(i)) == 0;
  return same;
}

inline Error no_partners(const FileList& inputs, const FileList& targets, const FewLines& alone) {
  return Error(ErrorCode::Mismatch,
               "inputs and targets in " + shown_path(targets.folder()) +
                   " are matched by name, and " + counted(alone.count(), "file") +
                   (alone.count() == 1 ? " has" : " have") + " no partner:" + alone.text(),
               0, inputs.folder());
}

/// Throws Error (Mismatch) if a target is missing in `found`, or if a file of `found` is the target
/// of no input.
inline void require_partners(const FileList& inputs, const FileList& targets,
                             const FileList& found) {
  FewLines alone;
  const std::vector<std::string_view> there = sorted_names(found);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (std::binary_search(there.begin(), there.end(), targets.name(i))) continue;
    const bool says_same = std::strcmp(inputs.name(i), targets.name(i)) == 0;
    alone.add(shown_path(inputs[i]) +
              (says_same ? "" : " (expected " + shown_path(targets[i]) + ")"));
  }
  const std::vector<std::string_view> used = sorted_names(targets);
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!std::binary_search(used.begin(), used.end(), found.name(i))) {
      alone.add(shown_path(found[i]));
    }
  }
  if (alone.count() != 0) throw no_partners(inputs, found, alone);
}

/// The same if any target may belong to no input, and need not be in the list of a folder.
inline void require_existing(const FileList& inputs, FileList& targets) {
  FewLines alone;
  for (const std::size_t i : targets.missing()) {
    alone.add(shown_path(inputs[i]) + " (expected " + shown_path(targets[i]) + ")");
  }
  if (alone.count() != 0) throw no_partners(inputs, targets, alone);
}

/// Throws Error (Mismatch) if two inputs have the same target, or if an input is its own target.
inline void require_own_targets(const FileList& inputs, const FileList& targets) {
  const std::vector<std::size_t> first = targets.first_of_same();
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (first[i] == i) continue;
    throw Error(ErrorCode::Mismatch, "two inputs have the same target " + shown_path(targets[i]) +
                                         ": " + shown_path(inputs[first[i]]) + " and " +
                                         shown_path(inputs[i]));
  }
  const bool is_one_folder = inputs.has_folder_of(targets);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    // A function may return "./x.npy" or "../inputs/x.npy".
    const bool is_own = is_one_folder
                            ? path_of(targets.name(i)).lexically_normal() ==
                                  path_of(inputs.name(i)).lexically_normal()
                            : std::strstr(targets.name(i), "..") != nullptr &&
                                  targets[i].lexically_normal() == inputs[i].lexically_normal();
    if (!is_own) continue;
    throw Error(ErrorCode::Mismatch, "this input would be its own target", 0, inputs[i]);
  }
}

/// The files of `folder` with the names of the inputs, which were listed by the same rules.
inline FileList targets_of_same_name(const FileList& inputs, const SampleFolder& folder,
                                     const FolderOptions& options) {
  FileList targets = list_folder(
      folder, list_rules(options),
      options.pattern() == "*" ? "" : "; target_pattern() is another pattern for the targets");
  if (inputs.has_folder_of(targets)) {
    throw Error(
        ErrorCode::InvalidArgument,
        "the folder of the inputs is also that of the targets, so that each file would be "
        "its own target: set pattern(\"*_image.npy\") and target_pattern(\"*_mask.npy\"), or "
        "target_name()",
        0, folder.path());
  }
  if (same_names(inputs, targets)) return targets;
  FileList expected(folder);
  for (std::size_t i = 0; i < inputs.size(); ++i) expected.append(inputs.name(i));
  require_partners(inputs, expected, targets);
  expected.take_objects(targets);
  return expected;
}

/// The target of each input, in the order of the inputs. Throws Error: Mismatch if files have no
/// partner, or not one of their own; InvalidArgument for rules that cannot be used.
inline FileList targets_for(const FileList& inputs, const SampleFolder& folder,
                            const FolderOptions& options) {
  const bool has_pattern = !options.target_pattern().empty();
  if (has_pattern && options.target_name()) {
    throw Error(ErrorCode::InvalidArgument,
                "target_pattern() and target_name() exclude each other");
  }
  if (!has_pattern && !options.target_name()) return targets_of_same_name(inputs, folder, options);
  auto rule = options.target_name();
  if (has_pattern) rule = PatternRule(options.pattern(), options.target_pattern());
  FileList targets(folder);
  for (std::size_t i = 0; i < inputs.size(); ++i) targets.append(rule(inputs.name(i)));
  require_own_targets(inputs, targets);
  if (has_pattern) {
    ListRules rules = list_rules(options);
    rules.pattern = options.target_pattern();
    const FileList found = list_folder(folder, rules);
    require_partners(inputs, targets, found);
    targets.take_objects(found);
  } else {
    require_existing(inputs, targets);
  }
  return targets;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PAIR_FILES_HPP_
