#ifndef TORCH_NPY_DATA_STATISTICS_HPP_
#define TORCH_NPY_DATA_STATISTICS_HPP_

/// @file
/// mean_and_std: the numbers that Normalize needs.

#include <ATen/core/Tensor.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/arg.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/loader_options.hpp>
#include <torch_npy/data/normalize.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// What mean_and_std() returns: `Normalize(result.mean, result.std)`.
struct MeanAndStd {
  std::vector<double> mean;  ///< for each channel or column
  std::vector<double> std;   ///< the square root of the mean squared difference, as numpy.std
};

/// How mean_and_std() reads a dataset. Setters chain; without an argument, each name returns the
/// current value.
struct StatisticsOptions {
  /// The tensor of a sample: "data" or "target" of an Example, or one of a NamedExample.
  TORCH_ARG(std::string, on) = "data";

  /// The axis of a sample that has the channels or columns, as Normalize::axis(). Not necessary for
  /// samples of shape (columns) or (channels, height, width).
  TORCH_ARG(std::optional<std::int64_t>, axis);

  /// false: one mean and one standard deviation of all values, for instance of volumes or
  /// spectrograms, whatever their shapes. Excludes axis().
  TORCH_ARG(bool, per_channel) = true;

  /// Threads that read samples; one for each processor if not set. The result does not depend on
  /// it.
  TORCH_ARG(std::optional<std::size_t>, workers);

  /// Called about a hundred times with the number of samples so far, by the thread that called
  /// mean_and_std().
  TORCH_ARG(Progress, progress);
};

namespace detail {

/// Of the values of each channel.
struct Moments {
  double count = 0;  // in each channel
  std::vector<double> mean;
  std::vector<double> squares;  // the sum of squared differences from the mean
  std::string sample;           // names the first of the samples
};

/// Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
/// variances", 1979.
inline void merge(Moments& all, const Moments& more) {
  if (more.count == 0) return;
  if (all.count == 0) {
    all = more;
    return;
  }
  if (more.mean.size() != all.mean.size()) {
    throw Error(ErrorCode::Mismatch,
                "mean_and_std expects samples with the same number of "
                "channels or columns: " +
                    all.sample + " has " + std::to_string(all.mean.size()) + ", " + more.sample +
                    " has " + std::to_string(more.mean.size()) +
                    "; axis() says where they are, and per_channel(false) computes one mean of all "
                    "values");
  }
  const double count = all.count + more.count;
  for (std::size_t i = 0; i < all.mean.size(); ++i) {
    const double difference = more.mean[i] - all.mean[i];
    all.mean[i] += difference * (more.count / count);
    all.squares[i] += more.squares[i] + difference * difference * (all.count * more.count / count);
  }
  all.count = count;
}

/// Values in C order, with the axes outer, channels, inner.
struct Block {
  const double* values;
  std::size_t outer, channels, inner;

  /// For each channel c, the mean of term(value, c). Four sums at a time do not wait for each
  /// other.
  template <class Term>
  std::vector<double> mean_of(const Term& term) const {
    std::vector<double> sums(channels);
    const double* at = values;
    for (std::size_t o = 0; o < outer; ++o) {
      for (std::size_t c = 0; c < channels; ++c, at += inner) {
        double parts[4] = {};
        std::size_t i = 0;
        for (; i + 4 <= inner; i += 4) {
          for (std::size_t k = 0; k < 4; ++k) parts[k] += term(at[i + k], c);
        }
        for (; i < inner; ++i) parts[0] += term(at[i], c);
        sums[c] += (parts[0] + parts[1]) + (parts[2] + parts[3]);
      }
    }
    for (double& sum : sums) sum /= static_cast<double>(outer * inner);
    return sums;
  }

  /// Differences from the first value are summed, so that equal values have exactly that mean.
  Moments moments() const {
    Moments result;
    result.count = static_cast<double>(outer * inner);
    result.mean =
        mean_of([this](double value, std::size_t c) { return value - values[c * inner]; });
    for (std::size_t c = 0; c < channels; ++c) result.mean[c] += values[c * inner];
    result.squares = mean_of([&](double value, std::size_t c) {
      return (value - result.mean[c]) * (value - result.mean[c]);
    });
    for (double& square : result.squares) square *= result.count;
    return result;
  }
};

/// The moments of a batch, whose i-th sample has the name name(i).
inline Moments moments_of(at::Tensor batch, const StatisticsOptions& options,
                          const std::function<std::string(std::size_t)>& name) {
  require_sample_axis(batch);
  if (batch.is_complex()) throw Error(ErrorCode::Mismatch, "mean_and_std expects real numbers");
  Moments all;
  if (!options.per_channel() && batch.numel() != 0) batch = batch.reshape({batch.size(0), 1, -1});
  const std::int64_t channels =
      options.per_channel() ? channel_axis(batch, options.axis(), "mean_and_std") : 1;
  if (batch.numel() == 0) return all;
  constexpr std::int64_t kValues = 16384;  // converted at once: they stay in the cache
  const std::int64_t sample = batch.numel() / batch.size(0);
  const std::int64_t step = std::max<std::int64_t>(1, kValues / sample);
  for (std::int64_t first = 0; first < batch.size(0); first += step) {
    const std::int64_t count = (std::min)(step, batch.size(0) - first);
    const at::Tensor values = batch.narrow(0, first, count).to(at::kCPU, at::kDouble).contiguous();
    std::size_t inner = 1;  // not the stride, which means nothing for an axis of length 1
    for (std::int64_t after = channels + 1; after < values.dim(); ++after) {
      inner *= static_cast<std::size_t>(values.size(after));
    }
    const auto size = static_cast<std::size_t>(values.size(channels));
    const std::size_t outer = static_cast<std::size_t>(values.numel()) / (size * inner);
    Moments more = Block{values.data_ptr<double>(), outer, size, inner}.moments();
    more.sample = name(static_cast<std::size_t>(first));
    const auto is_finite = [](double value) { return std::isfinite(value); };
    if (!std::all_of(more.squares.begin(), more.squares.end(), is_finite)) {
      std::int64_t bad = 0;
      while (bad + 1 < count && at::isfinite(values[bad]).all().item<bool>()) ++bad;
      throw Error(ErrorCode::Mismatch,
                  "mean_and_std expects finite values; " +
                      name(static_cast<std::size_t>(first + bad)) +
                      " has NaN, infinity or very large values; a function given to map() can "
                      "replace them");
    }
    merge(all, more);
  }
  return all;
}

/// Which of the samples that were read are those that were asked for, and not other ones instead
/// of bad ones: these would count twice. Both are in the order of their positions.
inline std::vector<std::size_t> not_replaced(const std::vector<Pick>& asked,
                                             const std::vector<Pick>& found) {
  std::vector<std::size_t> kept;
  auto pick = asked.begin();
  for (std::size_t i = 0; i < found.size(); ++i) {
    while (pick != asked.end() && pick->position != found[i].position) ++pick;
    if (pick != asked.end() && pick->index == found[i].index) kept.push_back(i);
  }
  return kept;
}

/// The moments of the samples of a request.
template <class E, class B>
std::optional<Moments> moments_in(const Dataset<E, B>& dataset, const StatisticsOptions& options,
                                  Request& request) {
  const std::vector<Pick> asked = request.picks;
  std::optional<B> batch = dataset.read(request);
  if (!batch) return std::nullopt;
  const std::vector<std::size_t> kept = not_replaced(asked, request.picks);
  const bool has_others = kept.size() != request.picks.size();
  const auto name = [&](std::size_t i) {
    if (has_others) i = kept[i];
    return i < request.picks.size() ? in_quotes(dataset.key(request.picks[i].index))
                                    : "sample " + std::to_string(i) + " of a batch";
  };
  const auto require_all = [&](std::size_t rows) {
    if (!has_others || rows == request.picks.size()) return;
    throw Error(ErrorCode::Mismatch,
                "mean_and_std cannot tell which samples of a batch replace bad ones, because map() "
                "changed their number: use OnBadFile::Skip");
  };
  if constexpr (std::is_same_v<B, Samples<E>>) {
    require_all(batch->size());
    std::vector<at::Tensor> samples;
    for (E& sample : *batch) samples.push_back(std::move(tensor_named(sample, options.on())));
    if (has_others) {
      std::vector<at::Tensor> good;
      for (const std::size_t i : kept) good.push_back(std::move(samples[i]));
      samples = std::move(good);
    }
    const at::Tensor whole = whole_of(samples);
    if (whole.defined()) return moments_of(whole, options, name);
    Moments all;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const at::Tensor one = samples[i].defined() ? samples[i].unsqueeze(0) : at::Tensor();
      merge(all, moments_of(one, options, [&](std::size_t) { return name(i); }));
    }
    return all;
  } else {
    at::Tensor whole = tensor_named(static_cast<E&>(*batch), options.on());
    if (has_others) {
      require_sample_axis(whole);
      require_all(static_cast<std::size_t>(whole.size(0)));
      const std::vector<std::int64_t> rows(kept.begin(), kept.end());
      whole = whole.index_select(0, at::tensor(rows, at::kLong).to(whole.device()));
    }
    return moments_of(whole, options, name);
  }
}

/// Merges the moments of all batches in their order, whatever thread computed them.
inline MeanAndStd mean_and_std_of(std::shared_ptr<const SourceInfo> source,
                                  std::function<std::optional<Moments>(Request&)> read,
                                  const StatisticsOptions& options) {
  const std::size_t total = source->size();
  if (total == 0) throw Error(ErrorCode::Mismatch, "mean_and_std of a dataset without samples");
  if (!options.per_channel() && options.axis()) {
    throw Error(ErrorCode::InvalidArgument,
                "mean_and_std: per_channel(false) and axis() exclude each other");
  }
  // About as many samples at a time as have a number of values, by some samples of all parts of the
  // dataset: the first one may be bad, or smaller than the others.
  constexpr std::size_t kProbes = 8;
  std::size_t values = 0;
  for (std::size_t i = 0; i < (std::min)(kProbes, total); ++i) {
    Request one{i * (total - 1) / (std::max)(kProbes - 1, std::size_t{1})};
    one.seed = 0;
    const Moments some = read(one).value_or(Moments());
    values = (std::max)(values, static_cast<std::size_t>(some.count) * some.mean.size());
  }
  const std::size_t batch_size =
      std::clamp<std::size_t>((std::size_t{1} << 17) / (values + 1), 1, 1024);

  Loader<Moments> loader(std::move(source), std::move(read),
                         LoaderOptions()
                             .batch_size(batch_size)
                             .workers(options.workers().value_or(processor_count())));
  Moments all;
  std::size_t reported = 0;  // percent
  for (const Moments& more : loader) {
    merge(all, more);
    const LoaderStats stats = loader.stats();
    const auto done = static_cast<std::size_t>(stats.samples + stats.skipped);
    if (!options.progress() || done * 100 / total == reported) continue;
    reported = done * 100 / total;
    options.progress()(done, total);
  }
  if (all.count == 0) throw Error(ErrorCode::Mismatch, "mean_and_std of samples without values");
  MeanAndStd result{std::move(all.mean), std::move(all.squares)};
  for (double& square : result.std) square = std::sqrt(square / all.count);
  return result;
}

}  // namespace detail

/// The mean and the standard deviation of each channel of images (C, H, W), or of each column of
/// samples of shape (columns), for Normalize:
///
///     const auto [mean, std] = mean_and_std(train_set.map(ToTensor()));
///     train_set.map(ToTensor()).map(Normalize(mean, std));
///
/// Reads each sample once, and eight of them twice, with several threads. Computes in double
/// precision, also if means are large, and gives the same result for any number of threads.
/// Integers are used as they are. Images may have different heights and widths: each pixel has the
/// same weight. Transforms of the dataset are applied, with the random numbers of epoch 0 and seed
/// 0. Each thread needs memory for some samples, and for one sample as float64.
///
/// Throws Error: what reading a sample throws; Mismatch for a dataset without samples or values,
/// for NaN and infinity, for complex numbers, if samples differ in their number of channels or
/// columns, and if axis() is necessary; NotFound if there is no tensor on(); Exhausted if the
/// system refuses to start a thread; InvalidArgument for options that exclude each other. Samples
/// that the dataset skips or replaces do not count.
template <class E, class B>
MeanAndStd mean_and_std(const Dataset<E, B>& dataset, const StatisticsOptions& options = {}) {
  static_assert(detail::kStackable<E>,
                "mean_and_std expects samples of Example<>, TensorExample or NamedExample");
  static_assert(!std::is_same_v<B, PaddedBatch<E>>,
                "mean_and_std would count the padding: call it before map(PadStack())");
  const auto read = [&](Request& request) { return detail::moments_in(dataset, options, request); };
  return detail::mean_and_std_of(dataset.source(), read, options);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STATISTICS_HPP_
