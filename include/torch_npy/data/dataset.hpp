#ifndef TORCH_NPY_DATA_DATASET_HPP_
#define TORCH_NPY_DATA_DATASET_HPP_

/// @file
/// Dataset: the one class of all datasets.

#include <ATen/core/Tensor.h>
#include <ATen/ops/tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/ArrayRef.h>
#include <c10/util/Optional.h>
#include <torch/data.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/cached.hpp>
#include <torch_npy/data/map.hpp>
#include <torch_npy/data/mapped_reader.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/data/stack.hpp>
#include <torch_npy/data/stacked_reader.hpp>
#include <torch_npy/data/subset_info.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// Called with the number of samples processed so far.
using Progress = std::function<void(std::size_t done, std::size_t total)>;

namespace detail {

/// Calls `work` with every number less than `count`, on at least 32 threads, because files wait for
/// the disk; and `progress` about a hundred times.
template <class Work>
void for_each_sample(std::size_t count, const Progress& progress, const Work& work) {
  const std::size_t step = std::max<std::size_t>(1, count / 100);
  std::mutex mutex;
  std::size_t done = 0;
  for_each_index(count, (std::max)(std::size_t{32}, processor_count()), [&](std::size_t i) {
    work(i);
    const std::lock_guard<std::mutex> lock(mutex);
    ++done;
    if (progress && (done % step == 0 || done == count)) progress(done, count);
  });
}

inline at::Tensor targets_of(const SourceInfo& source, const Progress& progress) {
  constexpr std::size_t kStep = 256;  // samples: few enough to share the files among the threads
  std::vector<std::size_t> all(source.size());
  std::iota(all.begin(), all.end(), std::size_t{0});
  std::vector<std::int64_t> targets(all.size());
  Progress of_samples;
  if (progress) {
    of_samples = [&](std::size_t done, std::size_t) {
      progress((std::min)(done * kStep, all.size()), all.size());
    };
  }
  for_each_sample((all.size() + kStep - 1) / kStep, of_samples, [&](std::size_t i) {
    const auto samples =
        c10::ArrayRef<std::size_t>(all).slice(i * kStep, (std::min)(kStep, all.size() - i * kStep));
    const std::vector<std::int64_t> labels = source.labels(samples);
    if (labels.size() != samples.size()) {
      throw Error(ErrorCode::Mismatch, "the source of this dataset returned " +
                                           counted(labels.size(), "label") + " for " +
                                           counted(samples.size(), "sample"));
    }
    std::copy(labels.begin(), labels.end(),
              targets.begin() + static_cast<std::ptrdiff_t>(i * kStep));
  });
  return at::tensor(targets, at::kLong);
}

/// The indices of samples. A negative one becomes a large one, which no dataset has.
inline std::vector<std::size_t> indices_in(const at::Tensor& indices) {
  if (!indices.defined() || indices.dim() != 1 ||
      !c10::isIntegralType(indices.scalar_type(), /*includeBool=*/false)) {
    throw Error(ErrorCode::InvalidArgument,
                "subset() expects integers of shape (number of samples), found " +
                    (indices.defined() ? "shape " + python_tuple(indices.sizes().vec()) +
                                             " and dtype " + c10::toString(indices.scalar_type())
                                       : std::string("an undefined tensor")));
  }
  const at::Tensor host = indices.detach().to(at::kCPU, at::kLong).contiguous();
  const auto* const first = host.data_ptr<std::int64_t>();
  return {first, first + host.numel()};
}

/// True if what map() is given draws random numbers: such a transform has a seed.
template <MapKind kKind, class E, class B, class T>
bool is_random([[maybe_unused]] const T& transform) {
  if constexpr (kKind == MapKind::Transform) {
    return transform.seed() != 0;
  } else {
    return kTakesGenerator<T, std::conditional_t<kKind == MapKind::OnSample, E, B>>;
  }
}

}  // namespace detail

/// Samples of type E, read in batches of type B: a list of samples, or one Example that holds the
/// whole batch. All datasets of this library are Datasets, and so are the results of map(),
/// stacked() and subset(); so a program may choose one at run time:
///
///     torch_npy::Dataset<> data = torch_npy::PairedFolderDataset("inputs", "targets");
///     if (augment) data = data.map(RandomHorizontalFlip(0.5));
///
/// It is also a dataset of LibTorch, for make_data_loader() and LibTorch's samplers.
///
/// Copies are cheap, and share what they read from and the memory for the next batches. One dataset
/// may be used from any number of threads. Tensors of a batch are like those of torch::from_blob():
/// do not resize_() them to a larger size.
template <class E = Example<>, class B = Samples<E>>
class Dataset : public torch::data::datasets::BatchDataset<Dataset<E, B>, B, Request> {
  static constexpr bool kIsList = std::is_same_v<B, Samples<E>>;

 public:
  /// The type of a sample.
  using ExampleType = E;

  /// The samples of a source, as lists. Throws Error (InvalidArgument) if `source` is null.
  explicit Dataset(std::shared_ptr<const SampleSource<E>> source) : source_(source) {
    static_assert(kIsList, "a source gives lists of samples: Dataset<E>(source).stacked()");
    if (!source_) throw Error(ErrorCode::InvalidArgument, "Dataset: the source is null");
    read_ = std::make_shared<const detail::Reader<E, B>>(
        [source = std::move(source)](Request& request) -> std::optional<SampleRows<E>> {
          SampleRows<E> rows = source->read(request);
          if (rows.size() != request.picks.size()) {
            throw Error(ErrorCode::Mismatch,
                        "the source of this dataset returned " +
                            detail::counted(rows.size(), "sample") + ", and picks are left for " +
                            std::to_string(request.picks.size()) +
                            ": it has to remove the picks of samples that it skips");
          }
          if (request.picks.empty()) return std::nullopt;
          return rows;
        });
  }

  /// For map() and its like: a reader over the samples of `source`, after `stage` transforms, of
  /// which one is random if `is_random`.
  Dataset(std::shared_ptr<const SourceInfo> source,
          std::shared_ptr<const detail::Reader<E, B>> reader, std::uint64_t stage,
          bool is_random = false)
      : source_(std::move(source)),
        read_(std::move(reader)),
        stage_(stage),
        is_random_(is_random) {}

  // No move operations: a moved-from dataset would have no source.

  /// Shares what the other one reads from. A move copies.
  Dataset(const Dataset&) = default;
  /// As the copy constructor.
  Dataset& operator=(const Dataset&) = default;
  ~Dataset() override = default;

  /// Number of samples.
  c10::optional<std::size_t> size() const override { return source_->size(); }

  /// A name for sample `index`: its file, or file and row; "[3]" for row 3 of a tensor. Different
  /// from that of every other sample, unless a list has a file twice, or concat() joins two tensors
  /// or the same files twice.
  /// For every element of batch.indices. Throws Error (InvalidArgument) if `index` is not less than
  /// size().
  std::string key(std::size_t index) const {
    require_index(index);
    return source_->key(index);
  }

  /// Reads the samples of a request, in order. With OnBadFile::Skip, bad ones are missing from the
  /// result; batch.indices says which it has. Throws Error: as load(); InvalidArgument for an index
  /// that is not less than size(); Mismatch if a stacked batch has samples that differ, or none.
  B get_batch(Request request) override { return std::as_const(*this).get_batch(request); }
  /// The same for a const dataset.
  B get_batch(Request request) const {
    std::optional<B> batch = read(request);
    if (batch) return std::move(*batch);
    if constexpr (kIsList) {
      return B();
    } else {
      throw Error(ErrorCode::Mismatch,
                  "a batch without samples cannot be stacked: were all of its files bad and "
                  "skipped?");
    }
  }

  /// As get_batch(), for a loader: no batch if every sample was skipped. Afterwards `request.picks`
  /// are the samples that the batch has.
  std::optional<B> read(Request& request) const {
    for (const Pick& pick : request.picks) require_index(pick.index);
    request.dataset = source_.get();
    request.population = source_->size();
    request.regions = nullptr;
    if (!request.seed) request.epoch = source_->name_batch(request);
    auto rows = (*read_)(request);
    if (!rows) return std::nullopt;
    return detail::batch_from<E, B>(std::move(*rows), request.indices());
  }

  /// As read(), for a dataset that is made of this one and has prepared the request.
  std::optional<detail::Read<E, B>> read_part(Request& request) const { return (*read_)(request); }

  /// Reads sample `index`. Throws Error: as load(), also with OnBadFile::Skip; InvalidArgument if
  /// `index` is not less than size(); NotFound if a function given to map() removed the sample.
  E get(std::size_t index) const {
    static_assert(kIsList, "get() reads one sample; a stacked dataset has get_batch({index})");
    if constexpr (kIsList) {
      Request request{index};
      request.may_skip = false;
      B one = get_batch(std::move(request));
      if (!one.empty()) return std::move(one[0]);
    }
    throw Error(ErrorCode::NotFound,
                "a function given to map() removed the sample " + detail::in_quotes(key(index)));
  }

  /// This dataset with each batch as one Example: samples of shape S become tensors of shape (batch
  /// size, S...). Samples of one batch have to be alike. With OnBadFile::Skip and Replace, a sample
  /// whose shape, dtype or names differ from those of most samples of its batch is a bad one.
  auto stacked() const {
    static_assert(kIsList, "this dataset is stacked already");
    static_assert(detail::kStackable<E>,
                  "only samples of Example<>, TensorExample and NamedExample can be stacked");
    // Otherwise the failed assertion would not be the only error.
    if constexpr (kIsList && detail::kStackable<E>) {
      return next<E, Batch<E>>(detail::stacked_reader<E>(read_, source_), stage_, is_random_);
    } else {
      return *this;
    }
  }

  /// This dataset with a transform or a function applied to each batch:
  ///
  /// - a transform of torch_npy::transforms, on lists of samples and on stacked batches;
  /// - a transform of LibTorch, on lists of samples or on what its InputBatchType says;
  /// - a function of one sample (`E`), on lists of samples;
  /// - a function of a batch (`Samples<E>`, `Batch<E>`, ... whatever this dataset gives).
  ///
  /// A function may return another type, or take its argument by reference, change it, and return
  /// nothing. It may take an `at::Generator&` as second argument, which is seeded for this sample
  /// or batch. It is called by several threads at once. A transform of LibTorch is copied for each
  /// batch. If a function removes or adds samples, it has to set `indices` of the batch.
  ///
  /// What a function throws becomes the nested exception of an Error (Transform) that names the
  /// sample. Inside a function, `indices` of a batch are numbers in this dataset, also if a subset
  /// is read that was made of the result.
  template <class T>
  auto map(T transform) const;

  /// The samples `indices` of this dataset, in that order; sample i of the result is sample
  /// indices[i] of this one. Throws Error (InvalidArgument) if one is not less than size().
  Dataset subset(std::vector<std::size_t> indices) const;
  /// The same for a tensor of integers of shape (number of samples), on any device. Throws Error
  /// (InvalidArgument) for another tensor, too.
  template <class T, std::enable_if_t<std::is_same_v<T, at::Tensor>, int> = 0>
  Dataset subset(const T& indices) const {
    return subset(detail::indices_in(indices));
  }

  /// This dataset, which keeps up to `bytes` bytes of its samples in memory after it has read them.
  /// The result and what is made of it share this memory; it is freed with the last of them.
  /// Batches are copies, and are equal to those of this dataset.
  ///
  /// - Samples that no longer fit are read again each time; those that were kept first stay.
  /// - Dense tensors on the CPU are kept. Rows of an ArrayDataset are not: they are in memory, or
  ///   mapped.
  /// - A bad sample is tried again. A sample that replaces it is kept as itself.
  /// - Files that change later are not read again.
  ///
  /// Call it before map() and stacked(). Throws Error (InvalidArgument) if `bytes` is 0, and after
  /// map(). Uses 16 bytes a sample in addition; reading costs one more copy of each sample.
  Dataset cached(std::size_t bytes) const;

  /// The size of axis 0 of the data of each sample as it is stored, for by_length(). Reads headers
  /// only, on at least 32 threads. `progress(done, total)` is called about a hundred times, by one
  /// thread at a time, on any of the threads. Throws Error, as load(), for the first bad file, and
  /// what progress throws.
  std::vector<std::int64_t> lengths(const Progress& progress = {}) const {
    std::vector<std::int64_t> lengths(source_->size());
    const std::vector<std::size_t> first = first_of_files();
    detail::for_each_sample(first.size() - 1, progress, [&](std::size_t i) {
      const std::int64_t length = source_->length(first[i]);
      std::fill(&lengths[first[i]], lengths.data() + first[i + 1], length);
    });
    return lengths;
  }

  /// The class label of each sample: int64, of shape (size()), for weights of classes or to split a
  /// dataset by class. Available where a target is one integer, also after subset(), concat(),
  /// stacked() and map(). What a function given to map() does to the targets is not seen here.
  ///
  /// Targets that are files or arrays of archives are read, on at least 32 threads; for all others
  /// nothing is read. `progress` as for lengths(). Throws what progress throws, and Error:
  /// InvalidArgument if there are no such labels; for a target that cannot be read, what load()
  /// throws, whatever on_bad_file() says.
  at::Tensor targets(const Progress& progress = {}) const {
    return detail::targets_of(*source_, progress);
  }

  /// Checks the header and the size of every file on at least 32 threads, and returns an Error for
  /// each bad one, in the order of the samples. Does not read values, and does not compare the
  /// shapes of different files; FolderOptions::expect() does. Costs one open, read and close per
  /// file; neighbouring samples of the same file are checked once. `progress` as for lengths().
  /// Throws what progress throws, and Error (Exhausted, OutOfMemory).
  std::vector<Error> verify(const Progress& progress = {}) const {
    const std::vector<std::size_t> first = first_of_files();
    std::vector<std::vector<Error>> found(first.size() - 1);
    detail::for_each_sample(found.size(), progress,
                            [&](std::size_t i) { found[i] = source_->check(first[i]); });
    std::vector<Error> errors;
    for (const auto& of_sample : found) {
      errors.insert(errors.end(), of_sample.begin(), of_sample.end());
    }
    return errors;
  }

  /// How many samples this dataset and its copies have skipped or replaced because they were bad. A
  /// bad file is counted again in the next epoch.
  std::size_t bad_file_count() const { return source_->bad_count(); }

  /// The number of transforms that map() has added.
  std::uint64_t stage() const noexcept { return stage_; }

  /// True if map() was given a random transform of this library, or a function that takes a
  /// generator.
  bool is_random() const noexcept { return is_random_; }

  /// What the samples come from. Never null.
  const std::shared_ptr<const SourceInfo>& source() const noexcept { return source_; }

 private:
  template <class F, class C>
  Dataset<F, C> next(detail::Reader<F, C> reader, std::uint64_t stage, bool is_random) const {
    return {source_, std::make_shared<const detail::Reader<F, C>>(std::move(reader)), stage,
            is_random};
  }

  /// The first of neighbouring samples of the same file; and size() at the end.
  std::vector<std::size_t> first_of_files() const {
    std::vector<std::size_t> first;
    const auto file = [&](std::size_t i) {
      return std::pair(&source_->source_of_file(i), source_->file_of(i));
    };
    for (std::size_t i = 0; i < source_->size(); ++i) {
      if (i == 0 || file(i) != file(i - 1)) first.push_back(i);
    }
    first.push_back(source_->size());
    return first;
  }

  void require_index(std::size_t index) const {
    if (index < source_->size()) return;
    throw Error(ErrorCode::InvalidArgument,
                "index " + std::to_string(index) + " is out of range for a dataset of " +
                    detail::counted(source_->size(), "sample") +
                    "; indices count from 0, and a sampler of LibTorch needs the same size");
  }

  std::shared_ptr<const SourceInfo> source_;
  std::shared_ptr<const detail::Reader<E, B>> read_;
  std::uint64_t stage_ = 0;  // number of transforms so far
  bool is_random_ = false;   // one of them
};

template <class E, class B>
template <class T>
auto Dataset<E, B>::map(T transform) const {
  using detail::MapKind;
  constexpr MapKind kind = detail::map_kind<E, B, T>();
  static_assert(
      kind != MapKind::Unfit,
      "map(): this transform or function does not take what the dataset gives. A function of one "
      "sample, PadStack, and LibTorch's own transforms go before .stacked(); after it a function "
      "takes the batch, torch_npy::Batch<E>. A function names the type of its parameter and is "
      "not `mutable`.");
  if constexpr (kind == MapKind::Unfit) {
    return *this;  // the failed assertion is the only error
  } else if constexpr (kind == MapKind::Stack) {
    return stacked();
  } else {
    const bool is_random = is_random_ || detail::is_random<kind, E, B>(transform);
    auto reader = detail::mapped_reader<kind, E, B>(read_, std::move(transform), stage_,
                                                    source_->reads_regions());
    using Result = typename decltype(reader)::result_type::value_type;
    using C = detail::BatchRead<Result>;
    return next<typename detail::BatchTraits<C>::Example, C>(std::move(reader), stage_ + 1,
                                                             is_random);
  }
}

template <class E, class B>
Dataset<E, B> Dataset<E, B>::subset(std::vector<std::size_t> indices) const {
  for (const std::size_t index : indices) require_index(index);
  const auto list = std::make_shared<const std::vector<std::size_t>>(std::move(indices));
  return {std::make_shared<detail::SubsetInfo>(source_, list),
          std::make_shared<const detail::Reader<E, B>>([read = read_, list](Request& request) {
            for (Pick& pick : request.picks) pick.sample = (*list)[pick.sample];
            request.sample_of = [outer = request.sample_of,
                                 list](std::size_t index) -> std::optional<std::size_t> {
              const auto sample = outer ? outer(index) : std::optional(index);
              if (!sample) return std::nullopt;
              return (*list)[*sample];
            };
            return (*read)(request);
          }),
          stage_, is_random_};
}

template <class E, class B>
Dataset<E, B> Dataset<E, B>::cached(std::size_t bytes) const {
  static_assert(kIsList, "cached() keeps single samples: call it before .stacked() and .map()");
  static_assert(detail::kStackable<E>,
                "only samples of Example<>, TensorExample and NamedExample can be cached");
  if (stage_ != 0) {
    throw Error(ErrorCode::InvalidArgument,
                "cached() after map() would keep what the functions returned for the first epoch: "
                "call it before map(), dataset.cached(bytes).map(...)");
  }
  if (bytes == 0) {
    throw Error(ErrorCode::InvalidArgument,
                "cached(0) keeps nothing; 8 << 30 is 0, too: expected a number of bytes such as "
                "std::size_t{8} << 30");
  }
  if (source_->is_in_memory()) return *this;
  if constexpr (kIsList && detail::kStackable<E>) {
    return next<E, B>(detail::CachedReader<E>(read_, source_, bytes), stage_, is_random_);
  } else {
    return *this;  // the failed assertion is the only error
  }
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_DATASET_HPP_
