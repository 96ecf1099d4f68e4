#ifndef TORCH_NPY_DATASET_HPP_
#define TORCH_NPY_DATASET_HPP_

#include <ATen/ops/tensor.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/Optional.h>
#include <torch/arg.h>
#include <torch/data.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/array.hpp>
#include <torch_npy/batch.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/folder.hpp>
#include <torch_npy/load.hpp>
#include <torch_npy/parallel.hpp>
#include <torch_npy/plan.hpp>
#include <torch_npy/random.hpp>
#include <torch_npy/samples.hpp>

namespace torch_npy {

/// What a dataset does about a file that cannot be read in the middle of an epoch.
enum class OnBadFile {
  Throw,  ///< the Error reaches the training loop; from a loader's worker in a WorkerException
  Skip,   ///< the batch goes on without the sample, and may even be empty
};

/// How a folder becomes a dataset. Options chain:
/// `FolderOptions().recursive(true).load(LoadOptions().dtype(torch::kFloat32))`.
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
  TORCH_ARG(LoadOptions, load);

  /// How the targets of a PairedFolderDataset are loaded.
  TORCH_ARG(LoadOptions, load_target);

 public:
  /// What to do about bad files; Throw is the default. `callback` hears of each one that is left
  /// out, one call at a time, on the thread that read it.
  FolderOptions& on_bad_file(OnBadFile what, std::function<void(const Error&)> callback = {}) {
    on_bad_file_ = what;
    bad_file_callback_ = std::move(callback);
    return *this;
  }
  OnBadFile on_bad_file() const noexcept { return on_bad_file_; }
  const std::function<void(const Error&)>& bad_file_callback() const noexcept {
    return bad_file_callback_;
  }

 private:
  OnBadFile on_bad_file_ = OnBadFile::Throw;
  std::function<void(const Error&)> bad_file_callback_;
};

template <class Dataset>
class Stacked;

namespace detail {

/// Bytes of batches that a dataset keeps for the next ones while nobody uses them.
constexpr std::size_t kKeptBytes = std::size_t{256} << 20;

template <class E>
constexpr bool kHasTarget = !std::is_void_v<typename E::TargetType>;

/// A dataset that reads batches as a whole. `Self` has `length()`, and `read(indices)`, which gives
/// Samples, or a pair of them, data and target.
template <class Self, class E>
class SampleDataset : public torch::data::datasets::Dataset<Self, E> {
 public:
  /// Sample `index`. Throws Error.
  E get(std::size_t index) override {
    std::vector<E> examples = get_batch(index);
    if (examples.empty()) {
      throw Error(ErrorCode::Mismatch,
                  "sample " + std::to_string(index) + " is bad, and was left out");
    }
    return std::move(examples[0]);
  }

  /// The samples `indices`, in that order, as LibTorch's loader asks for them. Where they are alike
  /// they are rows of one tensor, which transforms::Stack hands on without a copy. Throws Error; an
  /// index that no sample has is InvalidArgument. Safe from any thread.
  std::vector<E> get_batch(c10::ArrayRef<std::size_t> indices) override {
    begin(indices);
    std::vector<E> examples;
    examples.reserve(indices.size());
    if constexpr (kHasTarget<E>) {
      auto [samples, target_samples] = self().read(indices);
      std::vector<at::Tensor> data = std::move(samples).separate();
      std::vector<at::Tensor> targets = std::move(target_samples).separate();
      for (std::size_t i = 0; i < data.size(); ++i) {
        examples.emplace_back(std::move(data[i]), std::move(targets[i]));
      }
    } else {
      for (at::Tensor& data : self().read(indices).separate())
        examples.emplace_back(std::move(data));
    }
    return examples;
  }

  /// The samples `indices` as one Example. Throws Error; Mismatch when they differ in shape or
  /// dtype, or when none is left. Safe from any thread.
  Batch<E> get_stacked_batch(c10::ArrayRef<std::size_t> indices) const {
    begin(indices);
    if constexpr (kHasTarget<E>) {
      auto [data, target] = self().read(indices);
      return Batch<E>(std::move(data).stacked(), std::move(target).stacked());
    } else {
      return Batch<E>(self().read(indices).stacked());
    }
  }

  /// The same dataset with batches of one Example each, as transforms::Stack makes them, and a
  /// little faster: no tensor is made for a sample alone.
  Stacked<Self> stacked() const { return Stacked<Self>(self()); }

  /// Number of samples.
  c10::optional<std::size_t> size() const override { return self().length(); }

 protected:
  explicit SampleDataset(std::size_t length) : names_(length) {}

 private:
  const Self& self() const { return static_cast<const Self&>(*this); }

  void begin(c10::ArrayRef<std::size_t> indices) const {
    for (const std::size_t index : indices) {
      if (index < self().length()) continue;
      throw Error(ErrorCode::InvalidArgument,
                  "sample " + std::to_string(index) + " of a dataset of " +
                      counted(self().length(), "sample") + ": does the sampler know its size?");
    }
    names_.begin(indices);
  }

  BatchNames names_;
};

/// What is done about the bad files of a dataset and its copies.
class BadFiles {
 public:
  explicit BadFiles(const FolderOptions& options)
      : skip_(options.on_bad_file() == OnBadFile::Skip), callback_(options.bad_file_callback()) {}

  /// True when the sample is to be left out.
  bool skips(const Error& error) {
    if (!skip_) return false;
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
      const File file = list.open(index);
      FileStart start;
      read_start(file, (*part)->options.max_header_size(), start);
      const std::uint64_t available = start.available(file);
      (void)make_plan(std::move(start.header), (*part)->options, available);
    } catch (const Error& error) {
      bad = error.at(list[index]);
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

/// A dataset of which each sample is a file, or a file in each of two folders.
template <class Self, class E>
class FileDataset : public SampleDataset<Self, E> {
 public:
  /// Looks at the header and size of every file, on at least 32 threads, and gives an Error for
  /// each bad one, in the order of the files. `progress(done, total)` is called about a hundred
  /// times, one call at a time, on any of the threads. Values are not looked at.
  std::vector<Error> verify(const Progress& progress = {}) const {
    return detail::verify(state_->parts, progress);
  }

  /// How often a sample was left out because its file was bad, by this dataset and its copies.
  std::size_t bad_files() const noexcept { return state_->bad.count(); }

  /// For the base class.
  std::size_t length() const noexcept { return part(0).list.size(); }

 protected:
  FileDataset(std::vector<std::shared_ptr<const SampleFiles>> parts, const FolderOptions& options)
      : SampleDataset<Self, E>(parts[0]->list.size()),
        state_(std::make_shared<FileState>(std::move(parts), options)) {}

  const SampleFiles& part(std::size_t i) const noexcept { return *state_->parts[i]; }

  /// Reads the samples that are good, of each part; `accepted(index)` hears of each.
  template <class Accepted>
  std::vector<Samples> read_parts(c10::ArrayRef<std::size_t> indices,
                                  const Accepted& accepted) const {
    std::vector<BatchReader> readers;
    for (const auto& part : state_->parts) readers.emplace_back(part, indices.size());
    for (const std::size_t index : indices) {
      try {
        for (BatchReader& reader : readers) reader.read(index);
      } catch (const Error& error) {
        if (!state_->bad.skips(error)) throw;
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

inline void require_files(const FileList& list, const FolderOptions& options) {
  if (list.size() != 0) return;
  std::string reason = "no .npy file in this folder";
  if (options.pattern() != "*") reason += " matches the pattern " + shown(options.pattern());
  const std::size_t folders = list.subfolders().size();
  if (folders != 0 && !options.recursive()) {
    reason += "; it has " + counted(folders, "folder") + ", which recursive(true) looks into";
  }
  throw Error(ErrorCode::NotFound, reason, 0, list.folder());
}

inline FileList list_folder(const std::filesystem::path& folder, const FolderOptions& options) {
  FileList list(folder);
  list.add(".", list_rules(options));
  require_files(list, options);
  return list;
}

inline std::shared_ptr<const SampleFiles> sample_files(FileList list, const LoadOptions& options,
                                                       std::shared_ptr<BufferPool> pool) {
  require_device(options.device());
  return std::make_shared<const SampleFiles>(
      SampleFiles{std::move(list), options, std::move(pool)});
}

inline std::shared_ptr<BufferPool> make_pool() { return std::make_shared<BufferPool>(kKeptBytes); }

}  // namespace detail

/// The samples of `Dataset`, each batch one Example: what the `stacked()` of a dataset gives.
template <class Dataset>
class Stacked : public torch::data::datasets::BatchDataset<Stacked<Dataset>,
                                                           Batch<typename Dataset::ExampleType>> {
 public:
  explicit Stacked(Dataset dataset) : dataset_(std::move(dataset)) {}

  Batch<typename Dataset::ExampleType> get_batch(c10::ArrayRef<std::size_t> indices) override {
    return dataset_.get_stacked_batch(indices);
  }
  c10::optional<std::size_t> size() const override { return dataset_.size(); }

  const Dataset& dataset() const noexcept { return dataset_; }

 private:
  Dataset dataset_;
};

/// The .npy files of a folder, a sample each: Examples of a tensor and no target.
///
/// Copies share the list of files and the memory that is kept for the next batches. They cost
/// nothing, and each may be used by a thread of its own, as LibTorch's loader does.
class FolderDataset : public detail::FileDataset<FolderDataset, TensorExample> {
 public:
  /// Throws Error: NotFound where there is no such folder or no .npy file in it, Io, and
  /// InvalidArgument for a device that is not there.
  explicit FolderDataset(const std::filesystem::path& folder, const FolderOptions& options = {})
      : FileDataset({detail::sample_files(detail::list_folder(folder, options), options.load(),
                                          detail::make_pool())},
                    options) {}

  /// The file of each sample.
  const FileList& files() const noexcept { return part(0).list; }

  /// For the base class.
  detail::Samples read(c10::ArrayRef<std::size_t> indices) const {
    return std::move(read_parts(indices, [](std::size_t) {})[0]);
  }
};

/// The .npy files of two folders: those of one are the samples, and the target of each is the file
/// of the other with the same path in its folder. Copies are as cheap as those of FolderDataset.
class PairedFolderDataset : public detail::FileDataset<PairedFolderDataset, Example<>> {
 public:
  /// Throws Error: what FolderDataset throws, and Mismatch, which names the files that have no
  /// partner.
  PairedFolderDataset(const std::filesystem::path& inputs, const std::filesystem::path& targets,
                      const FolderOptions& options = {})
      : FileDataset(make_parts(inputs, targets, options), options) {}

  /// The input file of each sample.
  const FileList& files() const noexcept { return part(0).list; }

  /// The target file of each sample.
  const FileList& target_files() const noexcept { return part(1).list; }

  /// For the base class.
  std::pair<detail::Samples, detail::Samples> read(c10::ArrayRef<std::size_t> indices) const {
    auto parts = read_parts(indices, [](std::size_t) {});
    return {std::move(parts[0]), std::move(parts[1])};
  }

 private:
  static std::vector<std::shared_ptr<const detail::SampleFiles>> make_parts(
      const std::filesystem::path& inputs, const std::filesystem::path& targets,
      const FolderOptions& options) {
    FileList input_list = detail::list_folder(inputs, options);
    FileList target_list = detail::list_folder(targets, options);
    require_partners(input_list, target_list);
    const auto pool = detail::make_pool();
    return {detail::sample_files(std::move(input_list), options.load(), pool),
            detail::sample_files(std::move(target_list), options.load_target(), pool)};
  }

  /// Both are sorted by the same rule, so partners stand at the same place, or there are none.
  static void require_partners(const FileList& inputs, const FileList& targets) {
    const auto name = [](const FileList& list, std::size_t i) { return std::string(list.name(i)); };
    bool same = inputs.size() == targets.size();
    for (std::size_t i = 0; same && i < inputs.size(); ++i) {
      same = std::strcmp(inputs.name(i), targets.name(i)) == 0;
    }
    if (same) return;
    constexpr std::size_t kNamed = 10;
    std::size_t alone = 0;
    std::string names;
    const auto list_alone = [&](const FileList& list, const FileList& others) {
      std::vector<std::string> partners;
      for (std::size_t i = 0; i < others.size(); ++i) partners.push_back(name(others, i));
      std::sort(partners.begin(), partners.end());
      for (std::size_t i = 0; i < list.size(); ++i) {
        if (std::binary_search(partners.begin(), partners.end(), name(list, i))) continue;
        if (alone++ < kNamed) names += "\n  " + list[i].string();
      }
    };
    list_alone(inputs, targets);
    list_alone(targets, inputs);
    if (alone > kNamed) names += "\n  and " + std::to_string(alone - kNamed) + " more";
    throw Error(ErrorCode::Mismatch,
                "inputs and targets in " + targets.folder().string() +
                    " are matched by name, and " + detail::counted(alone, "file") +
                    (alone == 1 ? " has" : " have") + " no partner:" + names,
                0, inputs.folder());
  }
};

/// `folder/<class>/*.npy`: a sample a file; its target is the number of its class (int64, 0-d), in
/// the order of the classes' names. Copies are as cheap as those of FolderDataset.
class ClassFolderDataset : public detail::FileDataset<ClassFolderDataset, Example<>> {
 public:
  /// Throws Error: NotFound where there is no such folder, no folder in it, or no .npy file in one
  /// of these; Io. With recursive(true) the files may lie deeper in a class's folder.
  explicit ClassFolderDataset(const std::filesystem::path& folder,
                              const FolderOptions& options = {})
      : ClassFolderDataset(list_classes(folder, options), options) {}

  /// The names of the classes, sorted.
  const std::vector<std::string>& classes() const noexcept { return *classes_; }

  /// The file of each sample.
  const FileList& files() const noexcept { return part(0).list; }

  /// For the base class.
  std::pair<detail::Samples, detail::Samples> read(c10::ArrayRef<std::size_t> indices) const {
    std::vector<std::int64_t> numbers;
    numbers.reserve(indices.size());
    auto parts = read_parts(indices, [&](std::size_t index) {
      const auto end = std::upper_bound(ends_->begin(), ends_->end(), index);
      numbers.push_back(end - ends_->begin());
    });
    at::Tensor targets = at::tensor(numbers, at::kLong);
    return {std::move(parts[0]),
            detail::Samples(detail::on_device(std::move(targets), part(0).options))};
  }

 private:
  struct Classes {
    FileList list;
    std::vector<std::string> names;
    std::vector<std::size_t> ends;  // of each class in the list
  };

  static Classes list_classes(const std::filesystem::path& folder, const FolderOptions& options) {
    FileList list(folder);
    std::vector<std::string> names = list.subfolders();
    if (names.empty()) {
      throw Error(ErrorCode::NotFound,
                  "no folders in this folder: a ClassFolderDataset has one for each class", 0,
                  folder);
    }
    if (options.natural_order()) {
      std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
        return detail::natural_less(a.c_str(), b.c_str());
      });
    }
    std::vector<std::size_t> ends;
    for (const std::string& name : names) {
      if (list.add(name, detail::list_rules(options)) == 0) {
        throw Error(ErrorCode::NotFound, "no .npy file for this class", 0, folder / name);
      }
      ends.push_back(list.size());
    }
    return {std::move(list), std::move(names), std::move(ends)};
  }

  ClassFolderDataset(Classes classes, const FolderOptions& options)
      : FileDataset(
            {detail::sample_files(std::move(classes.list), options.load(), detail::make_pool())},
            options),
        classes_(std::make_shared<const std::vector<std::string>>(std::move(classes.names))),
        ends_(std::make_shared<const std::vector<std::size_t>>(std::move(classes.ends))) {}

  std::shared_ptr<const std::vector<std::string>> classes_;
  std::shared_ptr<const std::vector<std::size_t>> ends_;
};

/// One file, or one for data and one for targets, whose axis 0 is the sample index:
///
///     ArrayDataset images("images.npy");                 // Examples without a target
///     ArrayDataset digits("images.npy", "labels.npy");   // data and target
///
/// The files are mapped, and rows copied out of them into batches: they may be larger than memory.
/// As with LoadOptions::mmap, a file that is cut short meanwhile ends the process. Copies share the
/// mappings, cost nothing, and each may be used by a thread of its own.
template <class E = Example<>>
class ArrayDataset : public detail::SampleDataset<ArrayDataset<E>, E> {
 public:
  /// Throws Error: what load() throws; Mismatch for a 0-d array.
  explicit ArrayDataset(const std::filesystem::path& data, const LoadOptions& options = {})
      : ArrayDataset(
            {std::make_shared<const detail::ArrayRows>(data, options, detail::make_pool())}) {
    static_assert(!detail::kHasTarget<E>, "Examples with a target need a file of targets");
  }

  /// Throws Error: what load() throws; Mismatch for a 0-d array, and for different lengths.
  ArrayDataset(const std::filesystem::path& data, const std::filesystem::path& target,
               const LoadOptions& options = {}, const LoadOptions& target_options = {})
      : ArrayDataset(make_pair(data, target, options, target_options)) {
    static_assert(detail::kHasTarget<E>, "Examples without a target take one file");
  }

  /// For the base class.
  std::size_t length() const noexcept { return parts_[0]->size(); }
  auto read(c10::ArrayRef<std::size_t> indices) const {
    detail::Samples data(parts_[0]->gather(indices));
    if constexpr (detail::kHasTarget<E>) {
      return std::pair(std::move(data), detail::Samples(parts_[1]->gather(indices)));
    } else {
      return data;
    }
  }

 private:
  using Parts = std::vector<std::shared_ptr<const detail::ArrayRows>>;

  explicit ArrayDataset(Parts parts)
      : detail::SampleDataset<ArrayDataset<E>, E>(parts[0]->size()), parts_(std::move(parts)) {}

  static Parts make_pair(const std::filesystem::path& data, const std::filesystem::path& target,
                         const LoadOptions& options, const LoadOptions& target_options) {
    const auto pool = detail::make_pool();
    auto rows = std::make_shared<const detail::ArrayRows>(data, options, pool);
    auto target_rows = std::make_shared<const detail::ArrayRows>(target, target_options, pool);
    if (rows->size() != target_rows->size()) {
      throw Error(ErrorCode::Mismatch,
                  "data of " + detail::counted(rows->size(), "sample") + " and targets of " +
                      std::to_string(target_rows->size()) + ", in " + target.string(),
                  0, data);
    }
    return {std::move(rows), std::move(target_rows)};
  }

  Parts parts_;
};

ArrayDataset(const std::filesystem::path&)->ArrayDataset<TensorExample>;
ArrayDataset(const std::filesystem::path&, const LoadOptions&)->ArrayDataset<TensorExample>;
ArrayDataset(const std::filesystem::path&, const std::filesystem::path&)->ArrayDataset<Example<>>;
ArrayDataset(const std::filesystem::path&, const std::filesystem::path&, const LoadOptions&)
    ->ArrayDataset<Example<>>;
ArrayDataset(const std::filesystem::path&, const std::filesystem::path&, const LoadOptions&,
             const LoadOptions&)
    ->ArrayDataset<Example<>>;

}  // namespace torch_npy

#endif  // TORCH_NPY_DATASET_HPP_
