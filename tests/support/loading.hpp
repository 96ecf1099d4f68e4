#pragma once

// Loaders whose reads a test can count, and what their batches consist of.

#include <torch_npy/data/loader.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

// After LibTorch's.
#include "support/catch.hpp"

using Indices = std::vector<std::size_t>;

/// A source of `size` samples, which a test reads by a function.
class Counted : public torch_npy::SourceInfo {
 public:
  explicit Counted(std::size_t size, std::string name = "s")
      : size_(size), name_(std::move(name)) {}

  std::size_t size() const override { return size_; }
  std::string key(std::size_t sample) const override { return name_ + std::to_string(sample); }

 private:
  std::size_t size_;
  std::string name_;
};

inline std::shared_ptr<const Counted> counted(std::size_t size, const std::string& name = "s") {
  return std::make_shared<const Counted>(size, name);
}

/// A batch of a type that the library does not know: what was requested. It can be moved, and
/// neither copied nor assigned nor made without values.
struct Seen {
  explicit Seen(const torch_npy::Request& request)
      : indices(request.indices()), seed(request.seed.value()), epoch(request.epoch) {
    for (const torch_npy::Pick& pick : request.picks) positions.push_back(pick.position);
  }
  Seen(Seen&&) = default;
  Seen(const Seen&) = delete;
  Seen& operator=(const Seen&) = delete;
  Seen& operator=(Seen&&) = delete;
  ~Seen() = default;

  const Indices indices;
  std::vector<std::uint64_t> positions;
  const std::uint64_t seed;
  const std::uint64_t epoch;

  bool is_same(const Seen& other) const {
    return indices == other.indices && positions == other.positions && seed == other.seed &&
           epoch == other.epoch;
  }
};

/// Counts the batches that are read, by any thread.
class Reads {
 public:
  void add(const torch_npy::Request& request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++batches_;
    for (const torch_npy::Pick& pick : request.picks) samples_.push_back(pick.index);
  }
  void clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    batches_ = 0;
    samples_.clear();
  }
  std::size_t batches() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return batches_;
  }
  Indices samples() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return samples_;
  }

 private:
  mutable std::mutex mutex_;
  std::size_t batches_ = 0;
  Indices samples_;
};

using SeenLoader = torch_npy::Loader<Seen>;

inline auto seen_by(Reads& reads) {
  return [&reads](torch_npy::Request& request) {
    reads.add(request);
    return Seen(request);
  };
}

/// The options of most tests: 3 samples per batch, shuffled.
inline torch_npy::LoaderOptions shuffled_threes(std::size_t workers) {
  return torch_npy::LoaderOptions().batch_size(3).shuffle(true).seed(7).workers(workers);
}

/// What is left of the epoch from `at` on, or a whole epoch.
template <class Loader>
std::vector<Seen> rest_of(Loader& loader, typename Loader::Iterator at) {
  std::vector<Seen> all;
  for (; at != loader.end(); ++at) all.push_back(std::move(*at));
  return all;
}
template <class Loader>
std::vector<Seen> epoch_of(Loader& loader) {
  return rest_of(loader, loader.begin());
}

inline bool are_same(const std::vector<Seen>& a, const std::vector<Seen>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!a[i].is_same(b[i])) return false;
  }
  return true;
}

inline Indices indices_in(const std::vector<Seen>& batches) {
  Indices all;
  for (const Seen& batch : batches) {
    all.insert(all.end(), batch.indices.begin(), batch.indices.end());
  }
  return all;
}
