#ifndef TORCH_NPY_DATA_FILE_DATASET_HPP_
#define TORCH_NPY_DATA_FILE_DATASET_HPP_

/// @file
/// The common part of the datasets over folders.

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/batch_reader.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/sample_dataset.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE

namespace detail {

/// True if the system has run out of a resource, so that other files would fail in the same way.
inline bool is_of_system(const Error& error) {
  return error.code() == ErrorCode::Exhausted || error.code() == ErrorCode::OutOfMemory;
}

/// Handles the bad files of a dataset and of its copies.
class BadFiles {
 public:
  explicit BadFiles(const FolderOptions& options)
      : skip_(options.on_bad_file() == OnBadFile::Skip), callback_(options.bad_file_callback()) {}

  /// True if the sample is to be skipped.
  bool skips(const Error& error) {
    if (!skip_ || is_of_system(error) || error.code() == ErrorCode::InvalidArgument) return false;
    ++count_;
    if (callback_) {
      const std::lock_guard<std::mutex> lock(mutex_);
      callback_(error);
    }
    return true;
  }

  std::size_t count() const noexcept { return count_; }

 private:
  const bool skip_;
  const std::function<void(const Error&)> callback_;
  std::mutex mutex_;
  std::atomic<std::size_t> count_{0};
};

/// Called with the number of files checked so far.
using Progress = std::function<void(std::size_t done, std::size_t total)>;

/// Validates the header of each file against its options and size. Returns the Errors in the order
/// of the files. Throws Error (Exhausted, OutOfMemory) if the cause is not a file.
inline std::vector<Error> verify(const std::vector<std::shared_ptr<const SampleFiles>>& parts,
                                 const Progress& progress) {
  std::size_t total = 0;
  for (const auto& part : parts) total += part->list.size();
  const std::size_t step = std::max<std::size_t>(1, total / 100);
  std::mutex mutex;
  std::size_t done = 0;
  std::map<std::size_t, Error> found;
  const auto check = [&](std::size_t number) {
    std::size_t index = number;
    auto part = parts.begin();
    for (; index >= (*part)->list.size(); ++part) index -= (*part)->list.size();
    const FileList& list = (*part)->list;
    std::optional<Error> bad;
    try {
      const LoadOptions& options = (*part)->options;
      with_array(list.open(index), options, [&](OpenArray& array) { (void)array.plan(options); });
    } catch (const Error& error) {
      if (is_of_system(error)) throw;
      bad = ErrorContext::at(error, list[index]);
    }
    const std::lock_guard<std::mutex> lock(mutex);
    if (bad) found.emplace(number, *bad);
    ++done;
    if (progress && (done % step == 0 || done == total)) progress(done, total);
  };
  for_each_index(total, (std::max)(std::size_t{32}, processor_count()), check);
  std::vector<Error> errors;
  for (const auto& [number, error] : found) errors.push_back(error);
  return errors;
}

/// The state shared by all copies of a dataset: the files of one folder, or of one for data and one
/// for targets.
struct FileState {
  FileState(std::vector<std::shared_ptr<const SampleFiles>> files, const FolderOptions& options)
      : parts(std::move(files)), bad(options) {}
  const std::vector<std::shared_ptr<const SampleFiles>> parts;
  BadFiles bad;
};

/// The samples of a batch that could be read: those of each part, and their indices.
struct ReadParts {
  std::vector<Samples> parts;
  std::vector<std::size_t> indices;
};

/// Reads the samples `indices` of each part. Skips bad files if `may_skip`.
inline ReadParts read_parts(FileState& state, c10::ArrayRef<std::size_t> indices, bool may_skip) {
  ReadParts read;
  std::vector<BatchReader> readers;
  for (const auto& part : state.parts) readers.emplace_back(part, indices.size());
  for (const std::size_t index : indices) {
    try {
      for (BatchReader& reader : readers) reader.read(index);
    } catch (const Error& error) {
      if (!may_skip || !state.bad.skips(error)) throw;
      continue;
    }
    for (BatchReader& reader : readers) reader.accept();
    read.indices.push_back(index);
  }
  for (BatchReader& reader : readers) read.parts.push_back(std::move(reader).finish());
  return read;
}

// The API reference shows this one: users call its members on every dataset over folders.
/// A dataset in which each sample is one file, or one file in each of two folders.
template <class Self, class E>
class FileDataset : public SampleDataset<Self, E> {
 public:
  /// Checks the header and the size of every file on at least 32 threads, and returns an Error for
  /// each bad one: in file order, inputs before targets. Does not read values, and does not compare
  /// the shapes of different files. Costs one open, read and close per file.
  ///
  /// `progress(done, total)`, a `std::function<void(std::size_t, std::size_t)>`, is called about a
  /// hundred times, by one thread at a time, on any of the threads. Safe from any thread. Throws
  /// what progress throws, and Error (Exhausted, OutOfMemory).
  std::vector<Error> verify(const Progress& progress = {}) const {
    return detail::verify(state_->parts, progress);
  }

  /// How many samples this dataset and its copies have skipped because their file could not be
  /// loaded. Safe from any thread.
  std::size_t bad_file_count() const noexcept { return state_->bad.count(); }

  /// For the base class. @private
  std::size_t length() const noexcept { return part(0).list.size(); }

 protected:
  FileDataset(std::vector<std::shared_ptr<const SampleFiles>> parts, const FolderOptions& options)
      : SampleDataset<Self, E>(parts[0]->list.size()),
        state_(std::make_shared<FileState>(std::move(parts), options)) {}

  const SampleFiles& part(std::size_t i) const noexcept { return *state_->parts[i]; }

  ReadParts read_parts(c10::ArrayRef<std::size_t> indices, bool may_skip) const {
    return detail::read_parts(*state_, indices, may_skip);
  }

 private:
  std::shared_ptr<FileState> state_;
};

inline ListRules list_rules(const FolderOptions& options) {
  return {options.pattern(), options.recursive(), options.natural_order()};
}

/// The Error for a folder without samples.
inline Error no_files(const FileList& list, const std::string& subfolder,
                      const FolderOptions& options) {
  std::string reason = "no .npy file in this folder";
  if (options.pattern() != "*") reason += " matches the pattern " + shown(options.pattern());
  const std::size_t folders = list.subfolders(subfolder).size();
  if (folders != 0 && !options.recursive()) {
    reason +=
        "; it has " + counted(folders, "subfolder") + ": set recursive(true) to include subfolders";
  }
  return Error(ErrorCode::NotFound, reason, 0,
               subfolder == "." ? list.folder() : list.folder() / path_of(subfolder));
}

inline FileList list_folder(const std::filesystem::path& folder, const FolderOptions& options) {
  FileList list(folder);
  if (list.add(".", list_rules(options)) == 0) throw no_files(list, ".", options);
  return list;
}

inline std::shared_ptr<const SampleFiles> sample_files(FileList list, const LoadOptions& options,
                                                       std::shared_ptr<BufferPool> pool) {
  require_device(options.device());
  return std::make_shared<const SampleFiles>(
      SampleFiles{std::move(list), options, std::move(pool)});
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_FILE_DATASET_HPP_
