#ifndef TORCH_NPY_DATA_SPLIT_HPP_
#define TORCH_NPY_DATA_SPLIT_HPP_

/// @file
/// random_split() and k_fold(): parts of a dataset, chosen at random.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/division.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/data/split_options.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

template <class E, class B, class T>
std::vector<std::vector<std::size_t>> split(const Dataset<E, B>& dataset,
                                            const std::vector<T>& lengths, std::uint64_t seed,
                                            const SplitOptions& options) {
  const SourceInfo& source = *dataset.source();
  const std::vector<std::size_t> sizes = part_sizes(lengths, source.size());
  return samples_of_parts(
      divide("random_split()", source, dataset.is_random(), sizes, seed, options), sizes.size());
}

template <class E, class B, std::size_t... I>
std::array<Dataset<E, B>, sizeof...(I)> subsets_of(const Dataset<E, B>& dataset,
                                                   std::vector<std::vector<std::size_t>> parts,
                                                   std::index_sequence<I...>) {
  return {dataset.subset(std::move(parts[I]))...};
}

}  // namespace detail

/// Divides the samples of a dataset at random, as PyTorch's random_split:
///
///     auto [train, validation] = random_split(dataset, {0.8, 0.2}, /*seed=*/1);
///     auto parts = random_split(dataset, {50000, 10000}, 1);
///
/// `lengths` are fractions that sum to 1 (double), or numbers of samples that sum to the size of
/// the dataset (integers). Fractions are rounded down; the samples that are left go one to each
/// part, from the first part on. Every sample is in one part. Each part is a subset() of the
/// dataset, with the samples in the order of the dataset.
///
/// The parts depend on the seed, the number of samples, `lengths` and `options`, and on nothing
/// else: they are the same on every platform, in every process and in every epoch. With
/// SplitOptions::stratify(), each part has its share of each label, rounded up or down. With
/// groups(), one group after another goes to the part that lacks most, so the sizes of the parts
/// are only near those asked for. Without groups(), that is so for samples of one file, and for a
/// sample that subset(), concat() or a list of files has more than once: they form a group.
///
/// Throws Error (InvalidArgument) if lengths do not fit the dataset, if a part with a fraction
/// above 0 would be empty, if `options` do not have one value for each sample, if there are fewer
/// groups than parts, if the samples overlap, or if map() was given a random transform before. Uses
/// some 24 bytes a sample; time is O(n).
template <class E, class B, class T, std::size_t N>
std::array<Dataset<E, B>, N> random_split(const Dataset<E, B>& dataset, const T (&lengths)[N],
                                          std::uint64_t seed, const SplitOptions& options = {}) {
  return detail::subsets_of(
      dataset, detail::split(dataset, std::vector<T>(lengths, lengths + N), seed, options),
      std::make_index_sequence<N>());
}

/// The same for integers of different types, such as `{50, *dataset.size() - 50}`.
template <class E, class B, std::size_t N>
std::array<Dataset<E, B>, N> random_split(const Dataset<E, B>& dataset,
                                          const std::size_t (&lengths)[N], std::uint64_t seed,
                                          const SplitOptions& options = {}) {
  return random_split<E, B, std::size_t, N>(dataset, lengths, seed, options);
}

/// The same for any number of parts.
template <class E, class B, class T>
std::vector<Dataset<E, B>> random_split(const Dataset<E, B>& dataset, const std::vector<T>& lengths,
                                        std::uint64_t seed, const SplitOptions& options = {}) {
  std::vector<Dataset<E, B>> parts;
  for (auto& samples : detail::split(dataset, lengths, seed, options)) {
    parts.push_back(dataset.subset(std::move(samples)));
  }
  return parts;
}

/// One of the divisions of k_fold().
template <class E = Example<>, class B = Samples<E>>
struct Fold {
  Dataset<E, B> train;       ///< the samples to train with
  Dataset<E, B> validation;  ///< all other samples
};

/// Divides the samples of a dataset k times, for cross-validation: each sample is in `validation`
/// of one fold, and in `train` of all others.
///
///     for (auto& [train, validation] : k_fold(dataset, 5, /*seed=*/1)) { ... }
///
/// The parts for validation are those of random_split() into k parts of equal size; if k does not
/// divide the number of samples, the first ones have one sample more. `options` and everything else
/// are as for random_split(). Throws Error (InvalidArgument) as random_split(), and if k is less
/// than 2 or larger than the number of samples. Uses 8 * k bytes a sample.
template <class E, class B>
std::vector<Fold<E, B>> k_fold(const Dataset<E, B>& dataset, std::size_t k, std::uint64_t seed,
                               const SplitOptions& options = {}) {
  const SourceInfo& source = *dataset.source();
  if (k < 2 || k > source.size()) {
    throw Error(ErrorCode::InvalidArgument, "k_fold() expects k from 2 to the number of samples, " +
                                                std::to_string(source.size()) + ", found " +
                                                std::to_string(k));
  }
  std::vector<std::size_t> sizes(k, source.size() / k);
  for (std::size_t i = 0; i < source.size() % k; ++i) ++sizes[i];
  const auto parts = detail::divide("k_fold()", source, dataset.is_random(), sizes, seed, options);
  std::vector<Fold<E, B>> folds;
  for (std::size_t fold = 0; fold < k; ++fold) {
    std::vector<std::size_t> in_fold(parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) in_fold[i] = parts[i] == fold ? 1 : 0;
    auto samples = detail::samples_of_parts(in_fold, 2);
    folds.push_back({dataset.subset(std::move(samples[0])), dataset.subset(std::move(samples[1]))});
  }
  return folds;
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SPLIT_HPP_
