#ifndef TORCH_NPY_DATA_LOADER_OPTIONS_HPP_
#define TORCH_NPY_DATA_LOADER_OPTIONS_HPP_

/// @file
/// LoaderOptions.

#include <c10/core/Device.h>
#include <torch/arg.h>

#include <cstddef>
#include <cstdint>
#include <optional>

#include <torch_npy/data/epoch_plan.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/order.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// How a Loader makes batches. Setters chain: `LoaderOptions().batch_size(64).shuffle(true)`;
/// without an argument, each name returns the current value.
struct LoaderOptions {
  /// The defaults.
  LoaderOptions() = default;
  /// The defaults, and this batch size, as LibTorch's DataLoaderOptions have it.
  LoaderOptions(std::size_t batch_size) : batch_size_(batch_size) {}  // NOLINT

  /// Samples per batch; 1 if not set. Must not be set with an order that makes batches itself, such
  /// as by_length().
  TORCH_ARG(std::optional<std::size_t>, batch_size);

  /// Use the samples in a new random order in each epoch: the same as order(shuffled()). false: in
  /// the order of the dataset, unless order() is set.
  TORCH_ARG(bool, shuffle) = false;

  /// The order in which an epoch uses the samples. Excludes shuffle(true).
  TORCH_ARG(std::optional<Order>, order);

  /// The seed of the order and of the transforms. Must be the same on every rank.
  TORCH_ARG(std::uint64_t, seed) = 0;

  /// Threads that read batches in advance. 0: each batch is read when the loop asks for it.
  TORCH_ARG(std::size_t, workers) = 0;

  /// The largest number of batches that are read, or being read, before the loop gets them; 2 for
  /// each worker if not set. At least 1. Has no effect without workers.
  TORCH_ARG(std::optional<std::size_t>, ahead);

  /// Drop the last batch of an epoch if it has fewer than batch_size() samples.
  TORCH_ARG(bool, drop_last) = false;

  /// The device to move batches to. With the default, they stay where the dataset made them.
  TORCH_ARG(c10::Device, device) = c10::kCPU;

  /// What to do if the ranks cannot all get the same number of samples. The default repeats a few
  /// samples.
  TORCH_ARG(Tail, tail) = Tail::Pad;

 public:
  /// This process is the rank `rank` of `num_replicas` that train together. Each gets its own share
  /// of every epoch. All must use the same dataset, order, seed and batch size.
  LoaderOptions& shard(std::size_t num_replicas, std::size_t rank) {
    num_replicas_ = num_replicas;
    rank_ = rank;
    return *this;
  }
  /// The number of ranks; 1 if shard() was not called.
  std::size_t num_replicas() const noexcept { return num_replicas_; }
  /// The rank of this process; 0 if shard() was not called.
  std::size_t rank() const noexcept { return rank_; }

 private:
  std::size_t num_replicas_ = 1;
  std::size_t rank_ = 0;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LOADER_OPTIONS_HPP_
