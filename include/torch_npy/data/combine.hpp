#ifndef TORCH_NPY_DATA_COMBINE_HPP_
#define TORCH_NPY_DATA_COMBINE_HPP_

/// @file
/// concat(): several datasets as one.

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/map.hpp>
#include <torch_npy/data/part_table.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Several sources, one after another.
class ConcatInfo : public SourceInfo {
 public:
  explicit ConcatInfo(std::vector<std::shared_ptr<const SourceInfo>> sources)
      : sources_(std::move(sources)) {
    for (const auto& source : sources_) {
      ends_.push_back(checked_end(size_before(ends_.size()), source->size()));
    }
  }

  /// The source of a sample, and the sample's number in it.
  std::pair<std::size_t, std::size_t> place_of(std::size_t sample) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), sample);
    const auto part = static_cast<std::size_t>(end - ends_.begin());
    return {part, sample - size_before(part)};
  }

  std::size_t size() const override { return ends_.back(); }
  std::vector<std::size_t> parts() const override {
    std::vector<std::size_t> sizes;
    for (const auto& source : sources_) sizes.push_back(source->size());
    return sizes;
  }
  std::uint64_t fingerprint() const override {
    std::uint64_t print = mix({sources_.size()});
    for (const auto& source : sources_) print = mix({print, source->fingerprint()});
    return print;
  }
  std::size_t bad_count() const override {
    std::size_t count = 0;
    for (const auto& source : sources_) count += source->bad_count();
    return count;
  }
  std::string key(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->key(inner);
  }
  bool is_in_memory() const override {
    return std::all_of(sources_.begin(), sources_.end(),
                       [](const auto& source) { return source->is_in_memory(); });
  }
  bool samples_overlap() const override {
    return std::any_of(sources_.begin(), sources_.end(),
                       [](const auto& source) { return source->samples_overlap(); });
  }
  std::int64_t length(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->length(inner);
  }
  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    std::vector<std::vector<std::size_t>> inner(sources_.size());
    for (const std::size_t sample : samples) {
      const auto [part, number] = place_of(sample);
      inner[part].push_back(number);
    }
    std::vector<std::vector<std::int64_t>> found(sources_.size());
    for (std::size_t part = 0; part < sources_.size(); ++part) {
      if (!inner[part].empty()) found[part] = sources_[part]->labels(inner[part]);
    }
    std::vector<std::size_t> taken(sources_.size());
    std::vector<std::int64_t> labels;
    labels.reserve(samples.size());
    for (const std::size_t sample : samples) {
      const std::size_t part = place_of(sample).first;
      labels.push_back(found[part].at(taken[part]++));
    }
    return labels;
  }
  std::vector<Error> check(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->check(inner);
  }
  bool reads_regions() const override {
    return std::all_of(sources_.begin(), sources_.end(),
                       [](const auto& source) { return source->reads_regions(); });
  }
  std::size_t file_of(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->file_of(inner);
  }
  const SourceInfo& source_of_file(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->source_of_file(inner);
  }
  std::size_t inner_sample(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->inner_sample(inner);
  }
  BadSamples& bad_samples(std::size_t sample) const override {
    const auto [part, inner] = place_of(sample);
    return sources_[part]->bad_samples(inner);
  }

 private:
  std::size_t size_before(std::size_t part) const { return part == 0 ? 0 : ends_[part - 1]; }

  std::vector<std::shared_ptr<const SourceInfo>> sources_;
  std::vector<std::size_t> ends_;
};

/// Reads each part of a request from the dataset that has it, and puts the samples in order again.
template <class E, class B>
class ConcatReader {
 public:
  ConcatReader(std::vector<Dataset<E, B>> datasets, std::shared_ptr<const ConcatInfo> info)
      : datasets_(std::move(datasets)), info_(std::move(info)) {}

  std::optional<Read<E, B>> operator()(Request& request) const {
    std::vector<Request> requests(datasets_.size());
    for (const Pick& pick : request.picks) {
      const auto [part, sample] = info_->place_of(pick.sample);
      requests[part].picks.push_back({pick.index, pick.position, sample, pick.copy});
    }
    std::vector<std::pair<Pick, E>> all;
    for (std::size_t part = 0; part < requests.size(); ++part) {
      if (requests[part].picks.empty()) continue;
      const bool is_only = requests[part].picks.size() == request.picks.size();
      Request inner = request_for(part, request, std::move(requests[part].picks));
      auto read = datasets_[part].read_part(inner);
      if (is_only) {
        request.picks = std::move(inner.picks);
        return read;
      }
      if (!read) continue;
      std::vector<E> samples = separate(std::move(*read));
      if (samples.size() != inner.picks.size()) {
        throw Error(ErrorCode::Mismatch,
                    "concat(): dataset " + std::to_string(part) + " gives batches of " +
                        counted(samples.size(), "row") + " for " +
                        counted(inner.picks.size(), "sample") +
                        ", which cannot be put together with those of the other datasets");
      }
      for (std::size_t i = 0; i < samples.size(); ++i) {
        all.emplace_back(inner.picks[i], std::move(samples[i]));
      }
    }
    return in_order(std::move(all), request);
  }

 private:
  Request request_for(std::size_t part, const Request& request, std::vector<Pick> picks) const {
    Request inner = request;
    inner.picks = std::move(picks);
    inner.sample_of = [outer = request.sample_of, info = info_,
                       part](std::size_t index) -> std::optional<std::size_t> {
      const auto sample = outer ? outer(index) : std::optional(index);
      if (!sample) return std::nullopt;
      const auto [owner, number] = info->place_of(*sample);
      return owner == part ? std::optional(number) : std::nullopt;
    };
    return inner;
  }

  static std::vector<E> separate(Read<E, B> read) {
    if constexpr (std::is_same_v<B, Samples<E>>) {
      return std::move(read).separate();
    } else {
      return unstack(std::move(read));
    }
  }

  static std::optional<Read<E, B>> in_order(std::vector<std::pair<Pick, E>> all, Request& request) {
    std::unordered_map<std::uint64_t, std::size_t> ranks;  // in the request, by position
    for (const Pick& pick : request.picks) ranks.emplace(pick.position, ranks.size());
    std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) {
      return ranks[a.first.position] < ranks[b.first.position];
    });
    request.picks.clear();
    std::vector<E> samples;
    samples.reserve(all.size());
    for (auto& [pick, sample] : all) {
      request.picks.push_back(pick);
      samples.push_back(std::move(sample));
    }
    if (samples.empty()) return std::nullopt;
    if constexpr (std::is_same_v<B, Samples<E>>) {
      return SampleRows<E>(std::move(samples));
    } else {
      return stack_examples(std::move(samples));
    }
  }

  std::vector<Dataset<E, B>> datasets_;
  std::shared_ptr<const ConcatInfo> info_;
};

}  // namespace detail

/// The samples of several datasets, one dataset after another. Throws Error (InvalidArgument) if
/// there are none.
template <class E, class B>
Dataset<E, B> concat(std::vector<Dataset<E, B>> datasets) {
  if (datasets.empty()) {
    throw Error(ErrorCode::InvalidArgument, "concat() expects at least one dataset");
  }
  std::vector<std::shared_ptr<const SourceInfo>> sources;
  std::uint64_t stage = 0;  // a transform of the result must not draw the same numbers as theirs
  bool is_random = false;
  for (const auto& dataset : datasets) {
    sources.push_back(dataset.source());
    stage = (std::max)(stage, dataset.stage());
    is_random = is_random || dataset.is_random();
  }
  auto info = std::make_shared<const detail::ConcatInfo>(std::move(sources));
  detail::Reader<E, B> reader = detail::ConcatReader<E, B>(std::move(datasets), info);
  return {std::move(info), std::make_shared<const detail::Reader<E, B>>(std::move(reader)), stage,
          is_random};
}

/// The samples of several datasets, one dataset after another. The datasets have the same type of
/// sample, and are all stacked or all not; before stacked() a batch with samples of several
/// datasets takes one copy less. The order mixed() draws from them by weights.
template <class E, class B, class... Others>
Dataset<E, B> concat(const Dataset<E, B>& first, const Others&... others) {
  static_assert((std::is_base_of_v<Dataset<E, B>, Others> && ...),
                "concat() expects datasets with the same types of sample and batch");
  static_assert(std::is_same_v<B, Samples<E>> || std::is_same_v<B, Batch<E>>,
                "concat() expects lists of samples or stacked batches: call it before map()");
  return concat(std::vector<Dataset<E, B>>{first, static_cast<const Dataset<E, B>&>(others)...});
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_COMBINE_HPP_
