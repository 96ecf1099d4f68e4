#ifndef TORCH_NPY_DATA_OPTIONS_HPP_
#define TORCH_NPY_DATA_OPTIONS_HPP_

/// @file
/// FolderOptions, OnBadFile, OrderSamplerOptions, Tail and DistributedSamplerOptions.

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

/// How a folder becomes a dataset. Setters chain:
/// `FolderOptions().recursive(true).data_options(LoadOptions().dtype(torch::kFloat32))`; without an
/// argument, each name returns the current value.
struct FolderOptions {
  /// Shell pattern for the names of the .npy files to use (`*`, `?`, `[a-z]`). Other files, and
  /// hidden ones (".name"), are ignored.
  TORCH_ARG(std::string, pattern) = "*";

  /// Include the files in subfolders, at any depth. Links to folders are followed.
  TORCH_ARG(bool, recursive) = false;

  /// Sort numbers in names by value: "a9" before "a10". Otherwise names are sorted by their bytes,
  /// as by Python's sorted().
  TORCH_ARG(bool, natural_order) = false;

  /// How many samples each file is in an epoch: sample i is file i / n. Every one gets random
  /// numbers of its own, so that RandomCrop cuts n patches out of each file. 0 throws Error
  /// (InvalidArgument).
  TORCH_ARG(std::size_t, samples_per_file) = 1;

  /// How to load the samples. threads(0) means one thread, because a loader's workers run in
  /// parallel already. With device(), each batch is copied there as a whole.
  TORCH_ARG(LoadOptions, data_options);

  /// How to load the targets of a PairedFolderDataset.
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
