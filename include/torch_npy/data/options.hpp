#ifndef TORCH_NPY_DATA_OPTIONS_HPP_
#define TORCH_NPY_DATA_OPTIONS_HPP_

/// @file
/// FolderOptions, OnBadFile, FileListOptions, WindowOptions, OrderSamplerOptions, Tail and
/// DistributedSamplerOptions.

#include <c10/core/ScalarType.h>
#include <torch/arg.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// What a dataset does about a bad sample: one whose file is damaged, or has another shape or dtype
/// than the others. An Error that may get better (Io, Exhausted, OutOfMemory) is not about the
/// sample: reading is tried again after 10 and 100 ms, and then the Error is thrown. So is
/// InvalidArgument.
enum class OnBadFile {
  Throw,    ///< throw the Error
  Skip,     ///< leave the sample out of the batch, which may become empty
  Replace,  ///< read another sample instead, chosen by seed, epoch and position
};

/// How a folder, or a list of files, becomes a dataset. An option that has no meaning for a dataset
/// throws Error (InvalidArgument) there. Setters chain:
/// `FolderOptions().recursive(true).data_options(LoadOptions().dtype(torch::kFloat32))`; without an
/// argument, each name returns the current value.
struct FolderOptions {
  /// Shell pattern for the names of the .npy files (.npz for an NpzDataset) to use (`*`, `?`,
  /// `[a-z]`). Other files, and hidden ones (".name"), are ignored.
  TORCH_ARG(std::string, pattern) = "*";

  /// Include the files in subfolders, at any depth. Links to folders are followed.
  TORCH_ARG(bool, recursive) = false;

  /// Sort numbers in names by value: "a9" before "a10". Otherwise names are sorted by their bytes,
  /// as by Python's sorted().
  TORCH_ARG(bool, natural_order) = false;

  /// For a PairedFolderDataset: shell pattern for the names of the targets, such as "*_mask.npy"
  /// with the pattern() "*_image.npy". A target belongs to the input for which the stars of both
  /// patterns match the same text. Both patterns have equally many stars, no other wildcards, and
  /// end with ".npy" or "*". A star that could match several texts matches the shortest one, except
  /// for the last star. Subfolders must have the same names.
  TORCH_ARG(std::string, target_pattern);

  /// For a PairedFolderDataset: a function from the name of an input to the name of its target. A
  /// name is a path relative to the folder, with "/" between folders, in UTF-8, and with the ending
  /// ".npy". Other files in the folder of the targets are ignored.
  TORCH_ARG(std::function<std::string(const std::string&)>, target_name);

  /// For a ClassFolderDataset: the names of the classes; the number of a class is its position in
  /// this list. If empty, the subfolders are the classes, in the order of their names.
  TORCH_ARG(std::vector<std::string>, classes);

  /// For a ClassFolderDataset: a class may have no file, and with classes() also no folder. It
  /// keeps its number. Otherwise it is an Error.
  TORCH_ARG(bool, allow_empty_classes) = false;
  /// How many samples each file is in an epoch: sample i is file i / n. Every one gets random
  /// numbers of its own, so that RandomCrop cuts n patches out of each file. 0 throws Error
  /// (InvalidArgument).
  TORCH_ARG(std::size_t, samples_per_file) = 1;

  /// How to load the samples. threads(0) means one thread, because a loader's workers run in
  /// parallel already. With device(), each batch is copied there as a whole. With mmap(true), files
  /// of which a RandomCrop keeps a part stay mapped from their first use on, at most 16,384 in the
  /// process: a file that is replaced by rename() meanwhile keeps its old content, and one that is
  /// truncated ends the process, as LoadOptions::mmap() says. mmap(true) takes 8 more bytes a file.
  TORCH_ARG(LoadOptions, data_options);

  /// How to load the targets of a PairedFolderDataset, a FileDataset or an NpzDataset.
  TORCH_ARG(LoadOptions, target_options);

 public:
  /// The shape and the dtype of every sample, after data_options(); -1 in the shape stands for any
  /// size. A file that differs is a bad one.
  FolderOptions& expect(std::vector<std::int64_t> shape,
                        std::optional<c10::ScalarType> dtype = std::nullopt) {
    expected_ = {std::move(shape), dtype};
    return *this;
  }
  /// What expect() was given.
  struct Expected {
    std::optional<std::vector<std::int64_t>> shape;  ///< of each sample
    std::optional<c10::ScalarType> dtype;            ///< of each sample
  };
  /// What expect() was given.
  const Expected& expected() const noexcept { return expected_; }

  /// What to do about a bad sample; the default is Throw. `callback` is called with the Error of
  /// each one that is skipped or replaced, by one thread at a time, on the thread that read the
  /// file. It must not use the dataset.
  FolderOptions& on_bad_file(OnBadFile what, std::function<void(const Error&)> callback = {}) {
    on_bad_file_ = what;
    bad_file_callback_ = std::move(callback);
    return *this;
  }
  /// What to do about a bad sample.
  OnBadFile on_bad_file() const noexcept { return on_bad_file_; }
  /// The callback for bad samples; may be empty.
  const std::function<void(const Error&)>& bad_file_callback() const noexcept {
    return bad_file_callback_;
  }

  /// Throws the Error of a bad sample if the dataset has had more than `limit` different ones. By
  /// default there is no limit.
  FolderOptions& max_bad(std::size_t limit) {
    max_bad_ = limit;
    return *this;
  }
  /// The limit, if there is one.
  std::optional<std::size_t> max_bad() const noexcept { return max_bad_; }

 private:
  Expected expected_;
  std::optional<std::size_t> max_bad_;
  OnBadFile on_bad_file_ = OnBadFile::Throw;
  std::function<void(const Error&)> bad_file_callback_;
};

/// A column of a list of files: its number, counted from 0, or its name in the header line.
class ListColumn {
 public:
  /// By number.
  ListColumn(int number) : number_(number) {}  // NOLINT(google-explicit-constructor)
  /// By name.
  ListColumn(std::string name)  // NOLINT(google-explicit-constructor)
      : name_(std::move(name)) {}
  /// By name.
  ListColumn(const char* name) : name_(name) {}  // NOLINT(google-explicit-constructor)

  /// The number, if there is no name.
  int number() const noexcept { return number_; }
  /// The name; empty if there is none.
  const std::string& name() const noexcept { return name_; }

 private:
  int number_ = 0;
  std::string name_;
};

/// How read_file_list() reads a list. Setters chain:
/// `FileListOptions().path_column("path").label_column("label")`; without an argument, each name
/// returns the current value.
struct FileListOptions {
  /// What separates the columns: a comma, a tab or any other character; a blank stands for any
  /// number of blanks and tabs. 0: what the first line has, a tab, else a comma, else blanks.
  TORCH_ARG(char, separator) = '\0';

  /// True if the first line has the names of the columns, false if it has a file. Without a value
  /// it is a header line if a column is chosen by its name; or if the name of its first column is
  /// "path", "file", "filename" or the like, and there is no such file.
  TORCH_ARG(std::optional<bool>, header);

  /// The column of the files. By default the first one.
  TORCH_ARG(std::optional<ListColumn>, path_column);
  /// A column of target files.
  TORCH_ARG(std::optional<ListColumn>, target_column);
  /// A column of integers, the class labels.
  TORCH_ARG(std::optional<ListColumn>, label_column);
  /// A column of names of classes.
  TORCH_ARG(std::optional<ListColumn>, class_column);
  /// A column of numbers, for regression.
  TORCH_ARG(std::optional<ListColumn>, value_column);
  /// A column of any text, such as the patient for SplitOptions::groups(), or "train" and "test".
  TORCH_ARG(std::optional<ListColumn>, group_column);

  /// The names of the classes; the number of a class is its position in this list. If empty, the
  /// names in the list are numbered in the order of their bytes.
  TORCH_ARG(std::vector<std::string>, classes);

  /// Appended to each path that does not end with it: ".npy" for a list of names without an ending.
  TORCH_ARG(std::string, ending);

  /// Check that all files exist: one stat per file, on at least 32 threads. false: a missing file
  /// shows when it is read, or by Dataset::verify().
  TORCH_ARG(bool, check_files) = true;
};

/// How an array becomes windows, which are the samples of a WindowDataset. Setters chain; without
/// an argument, each name returns the current value. With `has_target`, after target(), each window
/// has a target.
template <bool has_target>
struct BasicWindowOptions {
  /// Rows from the start of one window to the start of the next. At least 1. With the length of a
  /// window, windows do not overlap.
  TORCH_ARG(std::int64_t, stride) = 1;

  /// Windows may begin in one shard and end in the next ones. By default a window lies in one
  /// shard, and the first window of each shard begins at its row 0.
  TORCH_ARG(bool, across_shards) = false;

  /// Each file is one row, for instance one frame of a video; a window is a clip. Its length counts
  /// files. Files of different folders are different videos, which are like shards. The same is
  /// true for targets in several files; targets in one file, a tensor or a StoredArray have one row
  /// for each frame.
  TORCH_ARG(bool, frames) = false;

  /// How to load the data. The window begins to count at the first of its rows().
  TORCH_ARG(LoadOptions, data_options);

  /// How to load the target. Not set: for a target in the same array data_options(), otherwise
  /// LoadOptions(). For a target in the same array it cannot have rows(): those of data_options()
  /// apply.
  TORCH_ARG(std::optional<LoadOptions>, target_options) = std::nullopt;

 public:
  /// The target of the window that begins at row i is rows [i + offset, i + offset + length): of
  /// the same array, or of the array of targets if the dataset has one. `target(1, length)` are the
  /// next tokens. `offset` may be negative. A window whose target does not fit is not used.
  [[nodiscard]] BasicWindowOptions<true> target(std::int64_t offset, std::int64_t length) const {
    BasicWindowOptions<true> options;
    options.stride(stride_).across_shards(across_shards_).frames(frames_);
    options.data_options(data_options_).target_options(target_options_);
    options.target_ = {offset, length};
    return options;
  }
  /// What target() was given: offset and length.
  const std::optional<std::pair<std::int64_t, std::int64_t>>& target() const noexcept {
    return target_;
  }

 private:
  template <bool>
  friend struct BasicWindowOptions;

  std::optional<std::pair<std::int64_t, std::int64_t>> target_;
};

/// How an array becomes windows: `WindowOptions().stride(64)`.
using WindowOptions = BasicWindowOptions<false>;
/// What WindowOptions::target() returns: `WindowOptions().target(1, 1024)`.
using WindowPairOptions = BasicWindowOptions<true>;

/// What happens to the last samples of an epoch if the number of samples is not a multiple of the
/// number of ranks. With by_length(), the same is true of batches instead of samples.
enum class Tail {
  Pad,    ///< repeat samples from the start of the order, so that all ranks get the same number
  Drop,   ///< drop the last samples of the order, so that all ranks get the same number
  Exact,  ///< use every sample exactly once; some ranks get one more than others, so they may get
          ///< one batch more: with gradient synchronization, that batch would wait forever
};

/// How an OrderSampler uses its order. Setters chain: `OrderSamplerOptions().seed(7)`; without an
/// argument, each name returns the current value.
struct OrderSamplerOptions {
  /// Seed of the order; the order of an epoch depends on it and on the number of the epoch. Must be
  /// the same on every rank.
  TORCH_ARG(std::uint64_t, seed) = 0;

  /// How the ranks share the last samples.
  TORCH_ARG(Tail, tail) = Tail::Pad;
};

/// How to distribute samples among ranks, with the names and defaults of Python's
/// DistributedSampler. Setters chain: `DistributedSamplerOptions().seed(7).drop_last(true)`;
/// without an argument, each name returns the current value.
struct DistributedSamplerOptions {
  /// Seed of the shuffle; the order of an epoch depends on it and on the number of the epoch. Must
  /// be the same on every rank.
  TORCH_ARG(std::uint64_t, seed) = 0;

  /// Shuffle the samples in every epoch. false: the order is 0, 1, 2, ... in every epoch.
  TORCH_ARG(bool, shuffle) = true;

  /// Drop the last samples of the order, so that all ranks get the same number: Tail::Drop. false:
  /// repeat samples from the start of the order instead, so that a few appear twice: Tail::Pad.
  TORCH_ARG(bool, drop_last) = false;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_OPTIONS_HPP_
