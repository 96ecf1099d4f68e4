#ifndef TORCH_NPY_DATA_OPTIONS_HPP_
#define TORCH_NPY_DATA_OPTIONS_HPP_

/// @file
/// FolderOptions, OnBadFile and DistributedSamplerOptions.

#include <torch/arg.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/tensor/options.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// What a dataset does about a file that cannot be read in the middle of an epoch.
enum class OnBadFile {
  Throw,  ///< the Error reaches the training loop; from a loader's worker in a WorkerException
  Skip,   ///< the batch goes on without the sample, and may even be empty; an Error that is not the
          ///< file's fault (InvalidArgument, Exhausted) is thrown all the same
};

/// How a folder becomes a dataset. Options chain:
/// `FolderOptions().recursive(true).data_options(LoadOptions().dtype(torch::kFloat32))`. Called
/// without an argument, each gives what is set.
struct FolderOptions {
  /// Which of the .npy files are samples: a pattern for their names, as the shell has it (`*`, `?`,
  /// `[a-z]`). Other files, and hidden ones (".name"), never are.
  TORCH_ARG(std::string, pattern) = "*";

  /// Take the files of folders in the folder too, and so on. Links to folders are followed.
  TORCH_ARG(bool, recursive) = false;

  /// Order numbers in names by value, "a9" before "a10". Otherwise names are ordered by their
  /// bytes, as Python's sorted() does.
  TORCH_ARG(bool, natural_order) = false;

  /// How the samples are loaded. threads(0) means one: the workers of a loader are the threads.
  /// With device(), a batch goes there as a whole.
  TORCH_ARG(LoadOptions, data_options);

  /// How the targets of a PairedFolderDataset are loaded.
  TORCH_ARG(LoadOptions, target_options);

 public:
  /// What to do about bad files; Throw is the default. `callback` hears of each one that is left
  /// out, one call at a time, on the thread that read it. It must not read the dataset itself.
  FolderOptions& on_bad_file(OnBadFile what, std::function<void(const Error&)> callback = {}) {
    on_bad_file_ = what;
    bad_file_callback_ = std::move(callback);
    return *this;
  }
  /// What is done about bad files.
  OnBadFile on_bad_file() const noexcept { return on_bad_file_; }
  /// What hears of them; may be empty.
  const std::function<void(const Error&)>& bad_file_callback() const noexcept {
    return bad_file_callback_;
  }

 private:
  OnBadFile on_bad_file_ = OnBadFile::Throw;
  std::function<void(const Error&)> bad_file_callback_;
};

/// How to share out. Options chain: `DistributedSamplerOptions().seed(7).drop_last(true)`. Called
/// without an argument, each gives what is set.
struct DistributedSamplerOptions {
  /// What the order of an epoch comes from, together with its number. The same on every rank.
  TORCH_ARG(std::uint64_t, seed) = 0;

  /// A new order each epoch; false: 0, 1, 2, ... in all of them.
  TORCH_ARG(bool, shuffle) = true;

  /// Leave out the last few of the order, so that all ranks get the same number of samples: what
  /// drop_last=True does in Python.
  TORCH_ARG(bool, drop_last) = false;

  /// Go on from the start of the order until all ranks have the same number of samples: what
  /// drop_last=False does in Python. A few samples are then seen twice an epoch.
  TORCH_ARG(bool, pad) = false;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_OPTIONS_HPP_
