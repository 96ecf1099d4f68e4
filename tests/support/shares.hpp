#pragma once

// Orders, the ranks' shares of an epoch, and loaders with an OrderSampler.

#include <torch_npy/data/epoch_plan.hpp>
#include <torch_npy/data/order.hpp>
#include <torch_npy/data/sampler.hpp>

#include <ATen/ops/arange.h>
#include <torch/data.h>
#include <torch/serialize.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"

using Indices = std::vector<std::size_t>;
using Options = torch_npy::DistributedSamplerOptions;

/// All indices of an epoch over datasets of these sizes.
inline Indices epoch_indices(const torch_npy::Order& order, const std::vector<std::size_t>& sizes,
                             std::uint64_t seed = 0, std::uint64_t epoch = 0) {
  const auto one = order.rule().epoch(sizes, seed, epoch);
  Indices all(static_cast<std::size_t>(one->size()));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = one->at(i);
  return all;
}

/// True if each of 0 ... size - 1 is there once.
inline bool is_permutation_of(Indices indices, std::size_t size) {
  std::sort(indices.begin(), indices.end());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] != i) return false;
  }
  return indices.size() == size;
}

/// Fails if an index depends on the positions that were asked for before.
inline void check_any_position(const torch_npy::Order& order,
                               const std::vector<std::size_t>& sizes) {
  const Indices all = epoch_indices(order, sizes, 5, 6);
  const auto one = order.rule().epoch(sizes, 5, 6);
  const Indices asked = epoch_indices(torch_npy::shuffled(), {all.size()}, 99);
  bool same = true;
  for (const std::size_t i : asked) same = same && one->at(i) == all[i];
  for (std::size_t i = all.size(); i-- > 0;) same = same && one->at(i) == all[i];
  CHECK(same);
}

/// Fails if the counts are further from the expected ones than chance allows: five standard
/// deviations of the chi-square distribution.
inline void check_counts(const std::vector<double>& counts, const std::vector<double>& expected) {
  double chi_square = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    chi_square += (counts[i] - expected[i]) * (counts[i] - expected[i]) / expected[i];
  }
  const double freedom = static_cast<double>(counts.size()) - 1;
  CAPTURE(chi_square, freedom);
  CHECK(chi_square < freedom + 5 * std::sqrt(2 * freedom));
}

inline void check_uniform(const std::vector<double>& counts) {
  const double sum = std::accumulate(counts.begin(), counts.end(), 0.0);
  const std::vector<double> expected(counts.size(), sum / static_cast<double>(counts.size()));
  check_counts(counts, expected);
}

/// The rest of the epoch of a sampler whose order has no cuts.
inline Indices rest_of(torch_npy::OrderSampler& sampler, std::size_t batch_size = 3) {
  Indices all;
  while (const auto batch = sampler.next(batch_size)) {
    REQUIRE(!batch->empty());
    REQUIRE(batch->size() <= batch_size);
    all.insert(all.end(), batch->begin(), batch->end());
  }
  REQUIRE(!sampler.next(batch_size));
  return all;
}

inline Indices epoch_of(torch_npy::OrderSampler& sampler) {
  sampler.reset();
  return rest_of(sampler);
}

inline Indices draw(std::size_t size, std::size_t rank, std::size_t num_replicas,
                    const Options& options, std::uint64_t epoch = 0) {
  torch_npy::DistributedSampler sampler(size, num_replicas, rank, options);
  sampler.set_epoch(epoch);
  Indices share = epoch_of(sampler);
  CHECK(share.size() == sampler.samples());
  return share;
}

inline std::vector<Indices> draw_all(std::size_t size, std::size_t num_replicas,
                                     const Options& options, std::uint64_t epoch = 0) {
  std::vector<Indices> shares;
  for (std::size_t rank = 0; rank < num_replicas; ++rank) {
    shares.push_back(draw(size, rank, num_replicas, options, epoch));
  }
  return shares;
}

/// The whole order of an epoch, computed with LibTorch.
inline Indices order_of(std::size_t size, const Options& options, std::uint64_t epoch) {
  Indices order(size);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (options.shuffle()) {
    auto generator = at::detail::createCPUGenerator();
    generator.set_current_seed(options.seed() + epoch);
    const auto permutation = torch::randperm(static_cast<std::int64_t>(size), generator);
    for (auto& index : order) {
      index = static_cast<std::size_t>(
          permutation[static_cast<std::int64_t>(index)].item<std::int64_t>());
    }
  }
  return order;
}

template <class Object>
std::string saved(const Object& object) {
  std::ostringstream stream;
  torch::save(object, stream);
  return stream.str();
}

inline void load(torch_npy::OrderSampler& sampler, const std::string& bytes) {
  std::istringstream stream(bytes);
  torch::load(sampler, stream);
}

/// A loader over a dataset whose sample i is the number i.
inline auto loader_of(const torch_npy::OrderSampler& sampler, std::size_t size,
                      std::size_t batch_size, std::size_t workers) {
  return torch::data::make_data_loader(
      torch::data::datasets::TensorDataset(torch::arange(static_cast<std::int64_t>(size)))
          .map(torch::data::transforms::Stack<torch::data::TensorExample>()),
      sampler, torch::data::DataLoaderOptions(batch_size).workers(workers));
}

inline Indices indices_of(const torch::data::TensorExample& batch) {
  const auto* const items = batch.data.data_ptr<std::int64_t>();
  return {items, items + batch.data.numel()};
}

template <class Loader>
Indices read_epoch(Loader& loader) {
  Indices all;
  for (const auto& batch : loader) {
    const Indices indices = indices_of(batch);
    all.insert(all.end(), indices.begin(), indices.end());
  }
  return all;
}
