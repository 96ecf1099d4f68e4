#ifndef TORCH_NPY_DATA_DIVISION_HPP_
#define TORCH_NPY_DATA_DIVISION_HPP_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <torch_npy/data/permutation.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/data/split_options.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Which sample belongs to which part of a dataset: for random_split() and k_fold().

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Equal values get equal numbers: 0, 1, 2, ... in the order in which they appear. Throws Error
/// (InvalidArgument) unless there is one value for each sample.
template <class T>
std::vector<std::size_t> numbered(const std::vector<T>& values, const std::string& call,
                                  const char* what, std::size_t samples) {
  if (values.size() != samples) {
    throw Error(ErrorCode::InvalidArgument, call + " has " + counted(values.size(), what) +
                                                ", the dataset has " + counted(samples, "sample") +
                                                ": give one " + what + " for each sample");
  }
  std::unordered_map<T, std::size_t> known;
  std::vector<std::size_t> numbers;
  numbers.reserve(values.size());
  for (const T& value : values) numbers.push_back(known.emplace(value, known.size()).first->second);
  return numbers;
}

/// A number for the label of each sample; 0 for all of them without stratify().
inline std::vector<std::size_t> label_numbers(const SplitOptions& options,
                                              const SourceInfo& source) {
  if (!options.labels()) return std::vector<std::size_t>(source.size(), 0);
  return numbered(*options.labels(), "stratify()", "label", source.size());
}

/// A number for the file of each sample, if files have several samples: otherwise one part would
/// have patches of the files of another one. None if each file is one sample.
inline std::optional<std::vector<std::size_t>> file_numbers(const SourceInfo& source) {
  using SourceFile = std::pair<const SourceInfo*, std::size_t>;
  std::vector<std::pair<SourceFile, std::size_t>> samples;
  samples.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    samples.emplace_back(SourceFile(&source.source_of_file(i), source.file_of(i)), i);
  }
  std::sort(samples.begin(), samples.end());
  // Each file by its first sample: where a source is in memory means nothing.
  std::vector<std::size_t> first(samples.size());
  bool is_single = true;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto& [file, sample] = samples[i];
    const bool is_same = i != 0 && file == samples[i - 1].first;
    first[sample] = is_same ? first[samples[i - 1].second] : sample;
    is_single = is_single && !is_same;
  }
  if (is_single) return std::nullopt;
  return numbered(first, "", "file", first.size());
}

/// A number for the group of each sample; none without groups().
inline std::optional<std::vector<std::size_t>> group_numbers(const SplitOptions& options,
                                                             const SourceInfo& source) {
  std::vector<std::string> names;
  if (options.group_names()) {
    names = *options.group_names();
  } else if (options.group_of()) {
    names.reserve(source.size());
    for (std::size_t i = 0; i < source.size(); ++i) {
      names.push_back(options.group_of()(source.key(i)));
    }
  } else {
    return file_numbers(source);
  }
  return numbered(names, "groups()", "name", source.size());
}

/// The number of values that are equal to each number.
inline std::vector<std::size_t> counts_of(const std::vector<std::size_t>& numbers) {
  std::vector<std::size_t> counts;
  for (const std::size_t number : numbers) {
    if (number >= counts.size()) counts.resize(number + 1);
    ++counts[number];
  }
  return counts;
}

/// How many samples each part has. Rounds down, and adds the samples that are left to the parts,
/// one to each, from the first part on, as PyTorch does.
inline std::vector<std::size_t> sizes_by_fractions(const std::vector<double>& fractions,
                                                   std::size_t count) {
  double sum = 0;
  std::string shown;
  for (const double fraction : fractions) {
    sum += fraction;
    shown += (shown.empty() ? "" : " + ") + std::to_string(fraction);
    if (fraction >= 0) continue;
    throw Error(
        ErrorCode::InvalidArgument,
        "random_split() expects fractions of at least 0, found " + std::to_string(fraction));
  }
  if (!(std::abs(sum - 1) <= 1e-6)) {
    throw Error(ErrorCode::InvalidArgument,
                "random_split() expects fractions that sum to 1, found " + shown + " = " +
                    std::to_string(sum) + "; numbers of samples are given as integers");
  }
  std::vector<std::size_t> sizes;
  std::size_t left = count;
  for (const double fraction : fractions) {
    const double size = std::floor(static_cast<double>(count) * fraction);
    sizes.push_back((std::min)(left, static_cast<std::size_t>(size)));
    left -= sizes.back();
  }
  for (std::size_t i = 0; left != 0; i = (i + 1) % sizes.size()) {
    if (fractions[i] == 0) continue;
    ++sizes[i];
    --left;
  }
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (fractions[i] == 0 || sizes[i] != 0) continue;
    throw Error(ErrorCode::InvalidArgument,
                "random_split(): part " + std::to_string(i) + " with the fraction " +
                    std::to_string(fractions[i]) + " of " + counted(count, "sample") +
                    " would be empty; numbers of samples can be given as integers");
  }
  return sizes;
}

/// How many samples each part has: these numbers.
template <class T>
std::vector<std::size_t> sizes_by_counts(const std::vector<T>& counts, std::size_t count) {
  static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool>,
                "random_split() expects fractions (double) or numbers of samples (integers)");
  std::vector<std::size_t> sizes;
  std::size_t left = count;
  for (const T size : counts) {
    // A negative number becomes a large one.
    if (static_cast<std::size_t>(size) > left) {
      left = 1;
      break;
    }
    sizes.push_back(static_cast<std::size_t>(size));
    left -= sizes.back();
  }
  if (left == 0) return sizes;
  std::string shown;
  for (const T size : counts) shown += (shown.empty() ? "" : " + ") + std::to_string(size);
  throw Error(ErrorCode::InvalidArgument,
              "random_split() expects numbers of samples of at least 0 that sum to " +
                  std::to_string(count) + ", the size of the dataset, found " + shown +
                  "; fractions are given as floating-point numbers, such as 0.8");
}

template <class T>
std::vector<std::size_t> part_sizes(const std::vector<T>& lengths, std::size_t count) {
  if (lengths.empty()) {
    throw Error(ErrorCode::InvalidArgument, "random_split() expects at least one part");
  }
  if constexpr (std::is_floating_point_v<T>) {
    return sizes_by_fractions({lengths.begin(), lengths.end()}, count);
  } else {
    return sizes_by_counts(lengths, count);
  }
}

/// How many samples of each class are in each part: its proportional share, rounded up or down, so
/// that classes and parts keep their sizes. Such numbers always exist: they are an integral flow
/// from the classes to the parts, where a fractional share is an edge that can carry one sample.
class Shares {
 public:
  /// `key` decides what is rounded up where there is a choice.
  Shares(const std::vector<std::size_t>& classes, const std::vector<std::size_t>& parts,
         std::size_t total, std::uint64_t key)
      : parts_(parts.size()), cells_(classes.size() * parts.size()), lacking_(parts) {
    std::vector<std::size_t> left = classes;
    for (std::size_t cell = 0; cell < cells_.size(); ++cell) {
      const std::uint64_t product = std::uint64_t{classes[cell / parts_]} * parts[cell % parts_];
      cells_[cell].count = static_cast<std::size_t>(product / total);
      cells_[cell].is_open = product % total != 0;
      left[cell / parts_] -= cells_[cell].count;
      lacking_[cell % parts_] -= cells_[cell].count;
    }
    const Permutation order(cells_.size(), key);
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      const auto cell = static_cast<std::size_t>(order(i));
      if (!cells_[cell].is_open || left[cell / parts_] == 0 || lacking_[cell % parts_] == 0) {
        continue;
      }
      round_up(cell);
      --left[cell / parts_];
      --lacking_[cell % parts_];
    }
    for (std::size_t row = 0; row < left.size(); ++row) {
      for (; left[row] != 0; --left[row]) place_one_more(row);
    }
  }

  std::size_t operator()(std::size_t row, std::size_t part) const {
    return cells_[row * parts_ + part].count;
  }

 private:
  struct Cell {
    std::size_t count = 0;
    bool is_open = false;     // its share is fractional, and not rounded up
    bool is_rounded = false;  // up
  };

  void round_up(std::size_t cell) {
    cells_[cell].is_open = false;
    cells_[cell].is_rounded = true;
    ++cells_[cell].count;
  }
  void round_down(std::size_t cell) {
    cells_[cell].is_open = true;
    cells_[cell].is_rounded = false;
    --cells_[cell].count;
  }

  /// Rounds up one more share of a class, and moves others so that only a part that lacks a sample
  /// gets one: a shortest augmenting path, found in breadth.
  void place_one_more(std::size_t row) {
    constexpr std::size_t kNone = SIZE_MAX;
    std::vector<std::size_t> from(parts_, kNone);  // the cell by which a part is reached
    std::vector<bool> is_known(cells_.size() / parts_);
    std::vector<std::size_t> rows = {row};
    is_known[row] = true;
    for (std::size_t next = 0; next < rows.size(); ++next) {
      for (std::size_t part = 0; part < parts_; ++part) {
        const std::size_t cell = rows[next] * parts_ + part;
        if (!cells_[cell].is_open || from[part] != kNone) continue;
        from[part] = cell;
        if (lacking_[part] != 0) return augment(row, part, from);
        for (std::size_t other = 0; other < is_known.size(); ++other) {
          if (is_known[other] || !cells_[other * parts_ + part].is_rounded) continue;
          is_known[other] = true;
          rows.push_back(other);
          reached_by_.resize(is_known.size());
          reached_by_[other] = part;
        }
      }
    }
  }

  void augment(std::size_t row, std::size_t part, const std::vector<std::size_t>& from) {
    --lacking_[part];
    for (;;) {
      const std::size_t of = from[part] / parts_;
      round_up(from[part]);
      if (of == row) return;
      part = reached_by_[of];
      round_down(of * parts_ + part);
    }
  }

  std::size_t parts_;
  std::vector<Cell> cells_;              // parts_ of each class
  std::vector<std::size_t> lacking_;     // samples of each part
  std::vector<std::size_t> reached_by_;  // the part by which a class is reached
};

/// The part of each sample: parts of exactly these sizes, each with its share of every label.
inline std::vector<std::size_t> divide_samples(const std::vector<std::size_t>& labels,
                                               const std::vector<std::size_t>& sizes,
                                               std::uint64_t key) {
  const std::vector<std::size_t> classes = counts_of(labels);
  std::vector<std::vector<std::size_t>> left(classes.size());  // in random order
  const Permutation order(labels.size(), key);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto sample = static_cast<std::size_t>(order(i));
    left[labels[sample]].push_back(sample);
  }
  const Shares shares(classes, sizes, labels.size(), mix({key, sizes.size()}));
  std::vector<std::size_t> parts(labels.size());
  for (std::size_t c = 0; c < left.size(); ++c) {
    for (std::size_t part = 0; part < sizes.size(); ++part) {
      for (std::size_t i = 0; i < shares(c, part); ++i) {
        parts[left[c].back()] = part;
        left[c].pop_back();
      }
    }
  }
  return parts;
}

/// The groups from large to small, those of similar size in random order: a large one that came
/// last would make its part too large.
inline std::vector<std::size_t> large_groups_first(const std::vector<std::size_t>& sizes,
                                                   std::uint64_t key) {
  const auto magnitude = [&](std::size_t group) {
    int bits = 0;
    for (std::size_t size = sizes[group]; size != 0; size /= 2) ++bits;
    return bits;
  };
  const Permutation order(sizes.size(), key);
  std::vector<std::size_t> groups;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    groups.push_back(static_cast<std::size_t>(order(i)));
  }
  std::stable_sort(groups.begin(), groups.end(),
                   [&](std::size_t a, std::size_t b) { return magnitude(a) > magnitude(b); });
  return groups;
}

/// The number of samples of a group that have each label.
using LabelCounts = std::map<std::size_t, std::size_t>;

/// Puts one group after another into the part that has the least of its labels, compared with what
/// the part is to have. No part stays empty.
class GroupDivision {
 public:
  /// `class_sizes` are the numbers of samples of each label; the last label is one that all have.
  GroupDivision(std::vector<std::size_t> class_sizes, const std::vector<std::size_t>& sizes)
      : class_sizes_(std::move(class_sizes)), sizes_(sizes), held_(sizes.size()) {
    for (auto& held : held_) held.resize(class_sizes_.size());
    empty_ = static_cast<std::size_t>(
        std::count_if(sizes.begin(), sizes.end(), [](std::size_t size) { return size != 0; }));
  }

  /// The number of parts that are to have samples, and have none.
  std::size_t empty() const noexcept { return empty_; }

  /// The part for a group, if `left` groups are left, this one included.
  std::size_t add(const LabelCounts& counts, std::size_t left) {
    std::size_t best = sizes_.size();
    double least = 0;
    for (std::size_t part = 0; part < sizes_.size(); ++part) {
      if (sizes_[part] == 0 || (left <= empty_ && held_[part].back() != 0)) continue;
      const double load = load_with(counts, part);
      if (best != sizes_.size() && load >= least) continue;
      best = part;
      least = load;
    }
    if (held_[best].back() == 0) --empty_;
    for (const auto& [label, count] : counts) held_[best][label] += count;
    return best;
  }

 private:
  /// Without a product that is added, which some processors round differently.
  double load_with(const LabelCounts& counts, std::size_t part) const {
    double load = 0;
    for (const auto& [label, count] : counts) {
      load += static_cast<double>(count * (held_[part][label] + count)) /
              static_cast<double>(class_sizes_[label]);
    }
    return load / static_cast<double>(sizes_[part]);
  }

  std::vector<std::size_t> class_sizes_;
  std::vector<std::size_t> sizes_;
  std::vector<std::vector<std::size_t>> held_;  // samples of each label, for each part
  std::size_t empty_ = 0;
};

/// The part of each sample: whole groups, in parts of about these sizes.
inline std::vector<std::size_t> divide_groups(const std::vector<std::size_t>& groups,
                                              const std::vector<std::size_t>& labels,
                                              const std::vector<std::size_t>& sizes,
                                              std::uint64_t key) {
  const std::vector<std::size_t> group_sizes = counts_of(groups);
  std::vector<std::size_t> class_sizes = counts_of(labels);
  std::vector<LabelCounts> counts(group_sizes.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    ++counts[groups[i]][labels[i]];
    ++counts[groups[i]][class_sizes.size()];
  }
  class_sizes.push_back(labels.size());
  GroupDivision division(std::move(class_sizes), sizes);
  if (counts.size() < division.empty()) {
    throw Error(ErrorCode::InvalidArgument,
                counted(counts.size(), "group") + " cannot be divided into " +
                    counted(division.empty(), "part") + ", because a group is never divided");
  }
  std::vector<std::size_t> part_of(counts.size());
  std::size_t left = counts.size();
  for (const std::size_t group : large_groups_first(group_sizes, key)) {
    part_of[group] = division.add(counts[group], left--);
  }
  std::vector<std::size_t> parts;
  parts.reserve(groups.size());
  for (const std::size_t group : groups) parts.push_back(part_of[group]);
  return parts;
}

/// The part of each sample of `source`.
inline std::vector<std::size_t> divide(const std::string& call, const SourceInfo& source,
                                       bool is_random, const std::vector<std::size_t>& sizes,
                                       std::uint64_t seed, const SplitOptions& options) {
  constexpr std::uint64_t kSplit = 0x73706c6974;  // "split", not the number of a transform
  if (is_random) {
    throw Error(ErrorCode::InvalidArgument,
                call +
                    ": the dataset has a random transform, which would change the samples for "
                    "validation, too: split first, then call map() on the part to train with");
  }
  if (source.samples_overlap()) {
    throw Error(ErrorCode::InvalidArgument,
                call +
                    ": the samples of this dataset overlap, so two parts would have the same "
                    "values: divide the arrays or files, and make a dataset of each part; or "
                    "use windows that do not overlap, with a larger stride");
  }
  const std::uint64_t key = mix({seed, kSplit, source.size()});
  const std::vector<std::size_t> labels = label_numbers(options, source);
  const auto groups = group_numbers(options, source);
  return groups ? divide_groups(*groups, labels, sizes, key) : divide_samples(labels, sizes, key);
}

/// The samples of each part, in the order of the dataset.
inline std::vector<std::vector<std::size_t>> samples_of_parts(const std::vector<std::size_t>& parts,
                                                              std::size_t count) {
  std::vector<std::vector<std::size_t>> samples(count);
  for (std::size_t i = 0; i < parts.size(); ++i) samples[parts[i]].push_back(i);
  return samples;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_DIVISION_HPP_
