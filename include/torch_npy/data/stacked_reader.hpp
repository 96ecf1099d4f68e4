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
    std::map<std::string, std::size_t> counts;
    for (const E& sample : samples) ++counts[layout_of(sample)];
    if (counts.size() == 1) return;
    std::string common = layout_of(samples[0]);
    for (const E& sample : samples) {
      const std::string layout = layout_of(sample);
      if (counts[layout] > counts[common]) common = layout;
    }
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
  std::optional<std::pair<E, Pick>> instead_of(const std::pair<E, Pick>& odd,
                                               const std::string& common) const {
    Error error = report(odd, common);
    BadSamples& bad = source_.bad_samples(sample_of(odd.second));
    if (bad.what() == OnBadFile::Skip) return std::nullopt;
    Replacements others(asked_, odd.second);
    while (const auto pick = others.next(odd.second)) {
      Request one = asked_;
      one.picks = {*pick};
      auto rows = read_(one);
      if (!rows) continue;
      std::pair<E, Pick> other(std::move(std::move(*rows).separate()[0]), one.picks[0]);
      if (layout_of(other.first) == common) return other;
      error = report(other, common);
    }
    throw Replacements::none_left(error);
  }

  Error report(const std::pair<E, Pick>& odd, const std::string& common) const {
    const std::string key = asked_.dataset->key(odd.second.index);
    const Error error(ErrorCode::Mismatch,
                      "unlike most samples of its batch: it has " + layout_of(odd.first) +
                          "; they have " + common,
                      0, key);
    source_.bad_samples(sample_of(odd.second)).report(odd.second.sample, error);
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
