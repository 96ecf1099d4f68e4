#ifndef TORCH_NPY_DATA_FILE_DATASET_HPP_
#define TORCH_NPY_DATA_FILE_DATASET_HPP_

/// @file
/// FolderOptions, and what the datasets over folders have in common.

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
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

/// Whether the system is short of something, so that another file would fail in the same way.
inline bool is_of_system(const Error& error) {
  return error.code() == ErrorCode::Exhausted || error.code() == ErrorCode::OutOfMemory;
}

/// What is done about the bad files of a dataset and its copies.
class BadFiles {
 public:
  explicit BadFiles(const FolderOptions& options)
      : skip_(options.on_bad_file() == OnBadFile::Skip), callback_(options.bad_file_callback()) {}

  /// True when the sample is to be left out.
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

/// Told how many of `total` files have been looked at.
using Progress = std::function<void(std::size_t done, std::size_t total)>;

/// Holds each file's header against its options and size; the Errors in the order of the files.
/// Throws Error (Exhausted) where the fault is not a file's.
inline std::vector<Error> verify(const std::vector<std::shared_ptr<const SampleFiles>>& parts,
                                 const Progress& progress) {
  std::size_t total = 0;
  for (const auto& part : parts) total += part->list.size();
  const std::size_t step = std::max<std::size_t>(1, total / 100);
  std::mutex mutex;
  std::size_t done = 0;
  std::vector<std::pair<std::size_t, Error>> found;
  const auto look = [&](std::size_t number) {
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
    if (bad) found.emplace_back(number, *bad);
    ++done;
    if (progress && (done % step == 0 || done == total)) progress(done, total);
  };
  for_each_index(total, (std::max)(std::size_t{32}, processor_count()), look);
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Error> errors;
  for (const auto& [number, error] : found) errors.push_back(error);
  return errors;
}

/// What all copies of a dataset over folders share: a folder, or one for data and one for targets.
struct FileState {
  FileState(std::vector<std::shared_ptr<const SampleFiles>> files, const FolderOptions& options)
      : parts(std::move(files)), bad(options) {}
  const std::vector<std::shared_ptr<const SampleFiles>> parts;
  BadFiles bad;
};

// The API reference shows this one: users call its members on every dataset over folders.
/// A dataset of which each sample is a file, or a file in each of two folders.
template <class Self, class E>
class FileDataset : public SampleDataset<Self, E> {
 public:
  /// Looks at the header and size of every file, on at least 32 threads, and gives an Error for
  /// each bad one, in the order of the files, of all inputs before all targets. `progress(done,
  /// total)`, a `std::function<void(std::size_t, std::size_t)>`, is called about a hundred times,
  /// one call at a time, on any of the threads. Values are not looked at, and shapes not held
  /// against each other. Costs an open, a read and a close for each file. Safe from any thread.
  /// Throws what progress throws, and Error (Exhausted).
  std::vector<Error> verify(const Progress& progress = {}) const {
    return detail::verify(state_->parts, progress);
  }

  /// How often a sample was left out because its file was bad, by this dataset and its copies. Safe
  /// from any thread.
  std::size_t bad_file_count() const noexcept { return state_->bad.count(); }

  /// For the base class. @private
  std::size_t length() const noexcept { return part(0).list.size(); }

 protected:
  FileDataset(std::vector<std::shared_ptr<const SampleFiles>> parts, const FolderOptions& options)
      : SampleDataset<Self, E>(parts[0]->list.size()),
        state_(std::make_shared<FileState>(std::move(parts), options)) {}

  const SampleFiles& part(std::size_t i) const noexcept { return *state_->parts[i]; }

  /// Reads the samples of each part, and leaves out bad ones if it may; `accepted(index)` hears of
  /// each that is read.
  template <class Accepted>
  std::vector<Samples> read_parts(c10::ArrayRef<std::size_t> indices, bool may_skip,
                                  const Accepted& accepted) const {
    std::vector<BatchReader> readers;
    for (const auto& part : state_->parts) readers.emplace_back(part, indices.size());
    for (const std::size_t index : indices) {
      try {
        for (BatchReader& reader : readers) reader.read(index);
      } catch (const Error& error) {
        if (!may_skip || !state_->bad.skips(error)) throw;
        continue;
      }
      for (BatchReader& reader : readers) reader.accept();
      accepted(index);
    }
    std::vector<Samples> parts;
    for (BatchReader& reader : readers) parts.push_back(std::move(reader).finish());
    return parts;
  }

 private:
  std::shared_ptr<FileState> state_;
};

inline ListRules list_rules(const FolderOptions& options) {
  return {options.pattern(), options.recursive(), options.natural_order()};
}

/// The Error about a folder in which no file is a sample.
inline Error no_files(const FileList& list, const std::string& subfolder,
                      const FolderOptions& options) {
  std::string reason = "no .npy file in this folder";
  if (options.pattern() != "*") reason += " matches the pattern " + shown(options.pattern());
  const std::size_t folders = list.subfolders(subfolder).size();
  if (folders != 0 && !options.recursive()) {
    reason += "; it has " + counted(folders, "folder") + ", which recursive(true) looks into";
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
