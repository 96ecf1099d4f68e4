#ifndef TORCH_NPY_DATA_SOURCE_HPP_
#define TORCH_NPY_DATA_SOURCE_HPP_

/// @file
/// SampleSource: where the samples of a dataset come from.

#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A number for a region of arrays.
inline std::uint64_t fingerprint_of(const Region& region) {
  std::uint64_t print = mix({region.size()});
  for (const AxisRange& range : region) {
    print = mix(
        {print, static_cast<std::uint64_t>(range.begin), static_cast<std::uint64_t>(range.end)});
  }
  return print;
}

/// Names the batches of LibTorch's loader, which does not say in which epoch they are: by their
/// indices, and by how many batches have begun with the same first index.
class BatchNames {
 public:
  std::uint64_t name(const Request& request) {
    std::uint64_t name = request.picks.size();
    for (const Pick& pick : request.picks) {
      name = (name ^ pick.index) * 0x9e3779b97f4a7c15;  // 2^64 / golden ratio, mixes the bits
      name ^= name >> 32;
    }
    if (request.picks.empty()) return name;
    const std::lock_guard<std::mutex> lock(mutex_);
    return mix({name, visits_[request.picks[0].index]++});
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::size_t, std::uint64_t> visits_;
};

}  // namespace detail

/// What a dataset knows of its samples without reading them: the part of SampleSource that does not
/// depend on their type. Sample numbers are less than size(). Safe from any thread, as are its
/// derived classes.
class SourceInfo {
 public:
  virtual ~SourceInfo() = default;
  SourceInfo(const SourceInfo&) = delete;             ///< shared, never copied
  SourceInfo& operator=(const SourceInfo&) = delete;  ///< shared, never copied

  /// Number of samples.
  virtual std::size_t size() const = 0;

  /// A name for a sample: its file, or file and row. Different from that of every other sample,
  /// unless a list has a file twice, or concat() joins two arrays in memory or the same files
  /// twice.
  virtual std::string key(std::size_t sample) const = 0;

  /// A number that differs for a dataset of other samples. A Loader refuses to continue a run on
  /// such a dataset. By default it depends on size() and on the keys of up to 1,000 samples.
  virtual std::uint64_t fingerprint() const {
    std::uint64_t print = detail::mix({size()});
    const std::size_t step = size() / 1000 + 1;
    for (std::size_t i = 0; i < size(); i += step) {
      print = detail::mix({print, detail::hash_of(key(i))});
    }
    return print;
  }

  /// True if two samples may have values in common, as windows do that begin less than their length
  /// apart. random_split() and k_fold() refuse such samples.
  virtual bool samples_overlap() const { return false; }

  /// True if samples are copied from memory, as the rows of tensors and of mapped arrays are:
  /// cached() does not keep them.
  virtual bool is_in_memory() const { return false; }

  /// The sizes of the datasets that concat() joined; one number for any other source.
  virtual std::vector<std::size_t> parts() const { return {size()}; }

  /// The size of axis 0 of a sample's data, as it is stored. Reads no values. By default throws
  /// Error (InvalidArgument).
  virtual std::int64_t length(std::size_t /*sample*/) const {
    throw Error(ErrorCode::InvalidArgument,
                "the source of this dataset cannot tell the lengths of its samples");
  }

  /// The class labels of `samples`, in order, for Dataset::targets(). By default throws Error
  /// (InvalidArgument).
  virtual std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> /*samples*/) const {
    throw Error(ErrorCode::InvalidArgument,
                "this dataset has no class labels: its samples have no target, or it does not "
                "know which array is the target");
  }

  /// The Errors for which reading a sample would fail, as far as they show without reading values.
  /// By default none. Throws Error (Exhausted, OutOfMemory).
  virtual std::vector<Error> check(std::size_t /*sample*/) const { return {}; }

  /// Whether the source can read parts of samples, as Request::regions asks for; for a source that
  /// is made of others, whether all of them can. By default false.
  virtual bool reads_regions() const { return false; }

  /// A number that the samples of the same file have in common, and no other ones of
  /// source_of_file(): lengths() and verify() read its header once, and a split keeps them
  /// together. By default the number of the sample.
  virtual std::size_t file_of(std::size_t sample) const { return sample; }

  /// The source whose number file_of() returns: this one, unless it is made of others.
  virtual const SourceInfo& source_of_file(std::size_t /*sample*/) const { return *this; }

  /// The number of a sample in the source that reads it, of those that this one is made of.
  virtual std::size_t inner_sample(std::size_t sample) const { return sample; }

  /// What to do if a sample is bad, and how many were. By default an Error is thrown.
  virtual detail::BadSamples& bad_samples(std::size_t /*sample*/) const { return bad_; }
  /// How many samples were skipped or replaced so far.
  virtual std::size_t bad_count() const { return bad_.count(); }

  /// For Dataset: a number for a batch of LibTorch's loader.
  std::uint64_t name_batch(const Request& request) const { return names_.name(request); }

 protected:
  SourceInfo() = default;
  /// With these rules for bad samples.
  explicit SourceInfo(const FolderOptions& options) : bad_(options) {}

 private:
  mutable detail::BadSamples bad_;
  mutable detail::BatchNames names_;
};

/// Where the samples of a dataset come from. Derive from it to give a dataset samples from anywhere
/// else: `Dataset<E>(std::make_shared<MySource>())`.
template <class E>
class SampleSource : public SourceInfo {
 public:
  /// Reads the samples `request.picks[i].sample`, in order. May be called by several threads at
  /// once. Throws an exception if one cannot be read; what is thrown reaches the training loop.
  virtual SampleRows<E> read(Request& request) const = 0;

 protected:
  /// A bad sample is an Error.
  SampleSource() = default;
  /// With these rules for bad samples.
  explicit SampleSource(const FolderOptions& options) : SourceInfo(options) {}
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SOURCE_HPP_
