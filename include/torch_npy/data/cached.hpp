#ifndef TORCH_NPY_DATA_CACHED_HPP_
#define TORCH_NPY_DATA_CACHED_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_tensors.hpp>
#include <torch_npy/data/file_source.hpp>
#include <torch_npy/data/map.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/sample_cache.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/version.hpp>

// The reader of dataset.cached(): samples stay in memory after they were first read.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True for tensors that are bytes in host memory, without gaps.
inline bool can_keep(const at::Tensor& tensor) {
  return tensor.defined() && is_plain(tensor) && tensor.is_non_overlapping_and_dense();
}

/// The bytes of the rows of an Example.
template <class E>
std::vector<SampleBytes> bytes_of_rows(const Batch<E>& whole, std::size_t count,
                                       SampleCache& cache) {
  SampleLayout layout;
  std::vector<std::pair<const char*, std::size_t>> parts;  // first row, and bytes between rows
  bool is_kept = true;
  SampleTensors<E>::each(
      static_cast<const E&>(whole), [&](const std::string& name, const at::Tensor& tensor) {
        is_kept = is_kept && tensor.defined() && tensor.dim() != 0 &&
                  static_cast<std::size_t>(tensor.size(0)) == count && can_keep(tensor[0]);
        if (!is_kept) return;
        layout.add(name, tensor[0]);
        parts.emplace_back(static_cast<const char*>(tensor.data_ptr()),
                           static_cast<std::size_t>(tensor.stride(0)) * tensor.itemsize());
      });
  std::vector<SampleBytes> all(count);
  if (!is_kept || parts.empty()) return all;
  const SampleLayout* const shared = cache.shared(std::move(layout));
  for (std::size_t i = 0; i < count; ++i) {
    all[i].layout = shared;
    for (const auto& [first, step] : parts) all[i].each.push_back(first + i * step);
  }
  return all;
}

/// The bytes of samples.
template <class E>
std::vector<SampleBytes> bytes_of_each(const std::vector<E>& samples, SampleCache& cache) {
  std::vector<SampleBytes> all(samples.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    SampleLayout layout;
    bool is_kept = true;
    SampleTensors<E>::each(samples[i], [&](const std::string& name, const at::Tensor& tensor) {
      is_kept = is_kept && can_keep(tensor);
      if (!is_kept) return;
      layout.add(name, tensor);
      all[i].each.push_back(static_cast<const char*>(tensor.data_ptr()));
    });
    if (is_kept && !layout.parts.empty()) all[i].layout = cache.shared(std::move(layout));
  }
  return all;
}

/// Copies kept samples to the rows of an Example, in memory that is used again.
template <class E>
class SampleCopier {
 public:
  explicit SampleCopier(std::shared_ptr<const SourceInfo> source)
      : source_(std::move(source)), pool_(make_pool()) {}

  /// Copies the samples `numbers`, which have the same layout, to the rows of one Example.
  Batch<E> copy(const SampleBytes* rows, std::vector<std::size_t> numbers, bool pin) const {
    const std::size_t count = numbers.size();
    const SampleLayout& layout = *rows[0].layout;
    std::vector<at::Tensor> wholes;
    std::vector<char*> out;
    for (const SampleLayout::Part& part : layout.parts) {
      wholes.push_back(empty_rows(part, count, pin));
      out.push_back(static_cast<char*>(wholes.back().data_ptr()));
    }
    constexpr std::size_t kAhead = 2;  // as gather_rows()
    for (std::size_t i = 0; i < count; ++i) {
#if defined(__GNUC__) || defined(__clang__)
      if (i + kAhead < count) __builtin_prefetch(rows[i + kAhead].part(0));
#endif
      for (std::size_t k = 0; k < out.size(); ++k) {
        const std::size_t bytes = layout.parts[k].bytes;
        if (bytes != 0) std::memcpy(out[k] + i * bytes, rows[i].part(k), bytes);
      }
    }
    name_rows(wholes, layout, std::move(numbers));
    return batch_of(layout, std::move(wholes));
  }

 private:
  at::Tensor empty_rows(const SampleLayout::Part& part, std::size_t count, bool pin) const {
    std::vector<std::int64_t> sizes = part.sizes;
    std::vector<std::int64_t> strides = part.strides;
    sizes.insert(sizes.begin(), static_cast<std::int64_t>(count));
    strides.insert(strides.begin(),
                   static_cast<std::int64_t>(part.bytes / c10::elementSize(part.type)));
    return empty_from(*pool_, count * part.bytes, part.type, sizes, strides, pin);
  }

  /// So that messages name the samples.
  void name_rows(const std::vector<at::Tensor>& wholes, const SampleLayout& layout,
                 std::vector<std::size_t> numbers) const {
    const auto shared = std::make_shared<const std::vector<std::size_t>>(std::move(numbers));
    for (std::size_t k = 0; k < wholes.size(); ++k) {
      TensorMemory* const memory = TensorMemory::of(wholes[k]);
      if (memory == nullptr || layout.parts[k].bytes == 0) continue;
      memory->origin = [source = std::weak_ptr(source_), shared,
                        bytes = layout.parts[k].bytes](std::size_t byte) {
        const auto owner = source.lock();
        const std::size_t row = byte / bytes;
        return owner && row < shared->size() ? owner->key((*shared)[row]) : std::string();
      };
    }
  }

  static Batch<E> batch_of(const SampleLayout& layout, std::vector<at::Tensor> wholes) {
    if constexpr (std::is_same_v<E, NamedExample>) {
      std::vector<NamedExample::Item> items;
      for (std::size_t k = 0; k < wholes.size(); ++k) {
        items.emplace_back(layout.parts[k].name, std::move(wholes[k]));
      }
      return Batch<E>(NamedExample(std::move(items)));
    } else {
      Batch<E> batch;
      std::size_t k = 0;
      SampleTensors<E>::each(static_cast<E&>(batch), [&](const std::string&, at::Tensor& tensor) {
        tensor = std::move(wholes[k++]);
      });
      return batch;
    }
  }

  std::shared_ptr<const SourceInfo> source_;
  std::shared_ptr<BufferPool> pool_;
};

/// The reader of the cached form of a dataset.
template <class E>
class CachedReader {
 public:
  CachedReader(std::shared_ptr<const Reader<E, Samples<E>>> read,
               const std::shared_ptr<const SourceInfo>& source, std::size_t bytes)
      : read_(std::move(read)),
        cache_(std::make_shared<SampleCache>(source->size(), bytes)),
        copier_(source) {}

  std::optional<SampleRows<E>> operator()(Request& request) const {
    Rows found;
    std::vector<Pick> missing;
    for (const Pick& pick : request.picks) {
      found.add(pick, cache_->find(pick.sample), kKept);
      if (found.bytes.back().layout == nullptr) missing.push_back(pick);
    }
    if (missing.empty() && !request.picks.empty()) return joined(found, std::nullopt, request);
    const bool is_all = missing.size() == request.picks.size();
    Request rest = request_for(std::move(missing), request);
    auto read = (*read_)(rest);
    if (!read) rest.picks.clear();
    std::vector<SampleBytes> bytes;
    if (read) bytes = keep(*read, rest.picks, request.sample_of);
    if (is_all) {
      request.picks = std::move(rest.picks);
      return read;
    }
    found = merged(std::move(found), rest.picks, std::move(bytes));
    request.picks = found.picks;
    return joined(found, std::move(read), request);
  }

 private:
  using SampleOf = decltype(Request::sample_of);
  static constexpr std::size_t kKept = SIZE_MAX;

  /// Samples of a request, in order.
  struct Rows {
    std::vector<Pick> picks;
    std::vector<SampleBytes> bytes;
    std::vector<std::size_t> read;  // which of the samples that were read now, or kKept

    void add(const Pick& pick, SampleBytes its_bytes, std::size_t number) {
      picks.push_back(pick);
      bytes.push_back(std::move(its_bytes));
      read.push_back(number);
    }
  };

  /// A request for whole samples: copies what it needs and no more, because what a later map() asks
  /// for must not change what is kept.
  static Request request_for(std::vector<Pick> picks, const Request& request) {
    Request rest;
    rest.picks = std::move(picks);
    rest.seed = request.seed;
    rest.epoch = request.epoch;
    rest.pin_memory = request.pin_memory;
    rest.may_skip = request.may_skip;
    rest.dataset = request.dataset;
    rest.population = request.population;
    rest.sample_of = request.sample_of;
    return rest;
  }

  /// The numbers of samples in this dataset.
  static std::vector<std::size_t> numbers_of(const std::vector<Pick>& picks,
                                             const SampleOf& sample_of) {
    std::vector<std::size_t> numbers;
    numbers.reserve(picks.size());
    for (const Pick& pick : picks) {
      numbers.push_back(sample_of ? sample_of(pick.index).value() : pick.index);
    }
    return numbers;
  }

  /// Keeps the samples that were read, and returns their bytes, which exist as long as `read`.
  std::vector<SampleBytes> keep(SampleRows<E>& read, const std::vector<Pick>& picks,
                                const SampleOf& sample_of) const {
    std::vector<SampleBytes> all = read.is_whole()
                                       ? bytes_of_rows<E>(read.whole(), picks.size(), *cache_)
                                       : bytes_of_each<E>(read.each(), *cache_);
    const std::vector<std::size_t> numbers = numbers_of(picks, sample_of);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (all[i].layout != nullptr) cache_->keep(numbers[i], all[i]);
    }
    return all;
  }

  /// The rows that were found, and in between those that were read; without those that were
  /// skipped.
  static Rows merged(Rows found, const std::vector<Pick>& picks, std::vector<SampleBytes> bytes) {
    Rows all;
    std::size_t next = 0;
    for (std::size_t i = 0; i < found.picks.size(); ++i) {
      if (found.bytes[i].layout != nullptr) {
        all.add(found.picks[i], std::move(found.bytes[i]), kKept);
      } else if (next < picks.size() && picks[next].position == found.picks[i].position) {
        all.add(picks[next], std::move(bytes[next]), next);
        ++next;
      }
    }
    if (next == picks.size()) return all;
    throw Error(ErrorCode::Mismatch,
                "the source of this dataset returned samples in another order than that of the "
                "request");
  }

  /// The rows as one Example if they are alike, else one by one.
  std::optional<SampleRows<E>> joined(const Rows& rows, std::optional<SampleRows<E>> read,
                                      const Request& request) const {
    const bool pin = request.pin_memory;
    std::vector<std::size_t> numbers = numbers_of(rows.picks, request.sample_of);
    const SampleLayout* const layout = rows.bytes[0].layout;
    const auto is_like_first = [&](const SampleBytes& one) { return one.layout == layout; };
    if (layout != nullptr && std::all_of(rows.bytes.begin(), rows.bytes.end(), is_like_first)) {
      return copier_.copy(rows.bytes.data(), std::move(numbers), pin);
    }
    std::vector<E> others;
    if (read) others = std::move(*read).separate();
    std::vector<E> samples;
    samples.reserve(numbers.size());
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (rows.read[i] != kKept) {
        samples.push_back(std::move(others[rows.read[i]]));
      } else {
        std::vector<E> one = unstack(copier_.copy(&rows.bytes[i], {numbers[i]}, pin));
        samples.push_back(std::move(one[0]));
      }
    }
    return samples;
  }

  std::shared_ptr<const Reader<E, Samples<E>>> read_;
  std::shared_ptr<SampleCache> cache_;
  SampleCopier<E> copier_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_CACHED_HPP_
