#ifndef TORCH_NPY_DATA_BAD_SAMPLES_HPP_
#define TORCH_NPY_DATA_BAD_SAMPLES_HPP_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include <torch_npy/data/options.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Samples that cannot be read: thrown, skipped or replaced.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// True if the system has run out of a resource, so that other files would fail in the same way.
inline bool is_of_system(const Error& error) {
  return error.code() == ErrorCode::Exhausted || error.code() == ErrorCode::OutOfMemory;
}

/// True if reading again may succeed.
inline bool may_get_better(const Error& error) {
  return is_of_system(error) || error.code() == ErrorCode::Io;
}

/// Calls `work`, and again after 10 and 100 ms if it throws an Error that may get better.
template <class Work>
void with_retries(const Work& work) {
  for (const int milliseconds : {10, 100}) {
    try {
      return work();
    } catch (const Error& error) {
      if (!may_get_better(error)) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  }
  work();
}

/// What a source does about bad samples, and how many there were. Shared by the copies of a
/// dataset; safe from any thread.
class BadSamples {
 public:
  BadSamples() = default;
  explicit BadSamples(const FolderOptions& options)
      : what_(options.on_bad_file()),
        callback_(options.bad_file_callback()),
        max_bad_(options.max_bad()),
        samples_per_file_(options.samples_per_file()) {}

  OnBadFile what() const noexcept { return what_; }

  /// Reports a bad sample to the callback. Throws `error` if that is what to do about it, or if
  /// there are more than max_bad() bad samples.
  void report(std::size_t sample, const Error& error) {
    if (what_ == OnBadFile::Throw || may_get_better(error) ||
        error.code() == ErrorCode::InvalidArgument) {
      throw error;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
    if (max_bad_) {
      different_.insert(sample / samples_per_file_);
      if (different_.size() > *max_bad_) {
        throw ErrorContext::within(error, "more than " + counted(*max_bad_, "bad sample") +
                                              ", which is the limit max_bad()");
      }
    }
    if (callback_) callback_(error);
  }

  /// How many samples were skipped or replaced.
  std::size_t count() const noexcept { return count_; }

 private:
  OnBadFile what_ = OnBadFile::Throw;
  std::function<void(const Error&)> callback_;
  std::optional<std::size_t> max_bad_;
  std::size_t samples_per_file_ = 1;
  std::mutex mutex_;
  std::atomic<std::size_t> count_{0};          // read by callbacks, too
  std::unordered_set<std::size_t> different_;  // bad files, if there is a limit
};

/// Other samples of the dataset that was asked, to replace a bad one. Which ones depends on the
/// seed, the epoch and the position only.
class Replacements {
 public:
  Replacements(const Request& request, const Pick& pick)
      : request_(&request),
        numbers_(mix({request.seed.value_or(0), request.epoch, pick.position, kReplace})),
        tried_{pick.sample} {}

  /// The next one, with the position of the bad one. None after 100 different ones, or if there are
  /// no more: samples of other parts of concat() cannot be read here.
  std::optional<Pick> next(Pick pick) {
    const std::size_t draws =
        (std::min)(kDraws, 1000 + 100 * (std::min)(request_->population, kDraws));
    for (std::size_t draw = 0; tried_.size() < kTries && draw < draws; ++draw) {
      pick.index = static_cast<std::size_t>(numbers_.below(request_->population));
      const auto sample =
          request_->sample_of ? request_->sample_of(pick.index) : std::optional(pick.index);
      if (!sample || !tried_.insert(*sample).second) continue;
      pick.sample = *sample;
      return pick;
    }
    return std::nullopt;
  }

  /// What to throw after that, about the last bad sample.
  Error none_left(const Error& last) const {
    return ErrorContext::within(last, "this sample and " + counted(tried_.size() - 1, "other") +
                                          " that were to replace it are bad");
  }

 private:
  static constexpr std::size_t kTries = 101;  // with the bad one
  static constexpr std::size_t kDraws = 1'000'000;
  static constexpr std::uint64_t kReplace = 0x7265706c61636521;  // not the number of a transform

  const Request* request_;
  SplitMix64 numbers_;
  std::unordered_set<std::size_t> tried_;
};

/// Reads every sample of the request by `read(pick)`, which throws Error; then calls
/// `accept(sample)`. Removes those that are skipped from the request.
template <class Read, class Accept>
void read_each(Request& request, BadSamples& bad, const Read& read, const Accept& accept) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < request.picks.size(); ++i) {
    std::optional<Pick> pick = request.picks[i];
    std::optional<Replacements> others;
    while (pick) {
      try {
        with_retries([&] { read(*pick); });
        break;
      } catch (const Error& error) {
        if (!request.may_skip) throw;
        bad.report(pick->sample, error);
        if (bad.what() == OnBadFile::Skip) {
          pick.reset();
          continue;
        }
        if (!others) others.emplace(request, *pick);
        pick = others->next(*pick);
        if (!pick) throw others->none_left(error);
      }
    }
    if (!pick) continue;
    accept(pick->sample);
    request.picks[kept++] = *pick;
  }
  request.picks.resize(kept);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BAD_SAMPLES_HPP_
