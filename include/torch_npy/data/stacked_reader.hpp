#ifndef TORCH_NPY_DATA_STACKED_READER_HPP_
#define TORCH_NPY_DATA_STACKED_READER_HPP_

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/map.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

// The reader of dataset.stacked(): samples that are unlike the others of their batch are bad.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Skips or replaces the samples of a batch whose shape, dtype or names differ from those of most.
template <class E>
class OddSamples {
 public:
  /// `asked` is the request before it was read.
  OddSamples(const Reader<E, Samples<E>>& read, const SourceInfo& source, const Request& asked)
      : read_(read), source_(source), asked_(asked) {}

  /// Removes them from both, or replaces them.
  void handle(std::vector<E>& samples, Request& request) const {
    Counts counts;
    for (const E& sample : samples) ++counts[layout_of(sample)];
    if (counts.size() == 1) return;
    std::string common = most_common(counts);
    if (2 * counts[common] <= samples.size()) common = common_in_dataset(common);
    std::size_t kept = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      std::optional<std::pair<E, Pick>> fit(std::in_place, std::move(samples[i]), request.picks[i]);
      if (layout_of(fit->first) != common) fit = instead_of(*fit, common);
      if (!fit) continue;
      samples[kept] = std::move(fit->first);
      request.picks[kept++] = fit->second;
    }
    samples.resize(kept);
    request.picks.resize(kept);
  }

 private:
  using Counts = std::map<std::string, std::size_t>;

  static std::string most_common(const Counts& counts) {
    const auto less = [](const auto& a, const auto& b) { return a.second < b.second; };
    return std::max_element(counts.begin(), counts.end(), less)->first;
  }

  /// The layout of most of a few samples of the dataset, for a batch in which no layout has the
  /// majority; `otherwise` if none of them can be read.
  std::string common_in_dataset(const std::string& otherwise) const {
    constexpr std::size_t kRead = 7;
    Counts counts;
    for (std::size_t i = 0; i < kRead; ++i) {
      Pick pick;
      pick.index = i * asked_.population / kRead;
      pick.position = pick.index;
      const auto sample =
          asked_.sample_of ? asked_.sample_of(pick.index) : std::optional(pick.index);
      if (!sample) continue;
      pick.sample = *sample;
      Request one = asked_;
      one.picks = {pick};
      if (auto rows = read_(one)) ++counts[layout_of(std::move(*rows).separate()[0])];
    }
    return counts.empty() ? otherwise : most_common(counts);
  }

  std::optional<std::pair<E, Pick>> instead_of(const std::pair<E, Pick>& odd,
                                               const std::string& common) const {
    Error error = report(odd, common);
    BadSamples& bad = source_.bad_samples(sample_of(odd.second));
    if (bad.what() == OnBadFile::Skip) return std::nullopt;
    Pick first = odd.second;
    first.sample = sample_of(first);
    Replacements others(asked_, first);
    while (const auto pick = others.next(first)) {
      Request one = asked_;
      one.picks = {*pick};
      auto rows = read_(one);
      if (!rows) continue;
      std::pair<E, Pick> other(std::move(std::move(*rows).separate()[0]), one.picks[0]);
      if (layout_of(other.first) == common) return other;
      error = report(other, common);
    }
    throw others.none_left(error);
  }

  Error report(const std::pair<E, Pick>& odd, const std::string& common) const {
    const std::string key = asked_.dataset->key(odd.second.index);
    const Error error(
        ErrorCode::Mismatch,
        "unlike most samples: it has " + layout_of(odd.first) + "; they have " + common, 0, key);
    const std::size_t sample = sample_of(odd.second);
    source_.bad_samples(sample).report(source_.inner_sample(sample), error);
    return error;
  }

  /// The number of a sample in source_.
  std::size_t sample_of(const Pick& pick) const {
    return asked_.sample_of ? *asked_.sample_of(pick.index) : pick.index;
  }

  const Reader<E, Samples<E>>& read_;
  const SourceInfo& source_;
  const Request& asked_;
};

/// The reader of the stacked form of a dataset.
template <class E>
Reader<E, Batch<E>> stacked_reader(std::shared_ptr<const Reader<E, Samples<E>>> read,
                                   std::shared_ptr<const SourceInfo> source) {
  return [read = std::move(read),
          source = std::move(source)](Request& request) -> std::optional<Batch<E>> {
    request.regions = nullptr;  // whole samples are compared, also if they are cropped later
    std::optional<Request> asked;
    const auto is_tolerant = [&](const Pick& pick) {
      return source->bad_samples(pick.sample).what() != OnBadFile::Throw;
    };
    if (request.may_skip && std::any_of(request.picks.begin(), request.picks.end(), is_tolerant)) {
      asked = request;
    }
    auto rows = (*read)(request);
    if (!rows) return std::nullopt;
    if (asked && !rows->is_whole()) {
      OddSamples<E>(*read, *source, *asked).handle(rows->each(), request);
    }
    return std::move(*rows).stacked();
  };
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STACKED_READER_HPP_
