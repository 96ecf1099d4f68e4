#ifndef TORCH_NPY_DATA_CONCURRENT_READ_HPP_
#define TORCH_NPY_DATA_CONCURRENT_READ_HPP_

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Reads the samples of a request from a store at the same time, each by `read_one(request)` as a
/// request of its own.
template <class E, class ReadOne>
SampleRows<E> read_concurrently(const StoreRequests& requests, Request& request,
                                const ReadOne& read_one) {
  const std::vector<Pick> picks = std::move(request.picks);
  request.picks.clear();
  std::vector<std::optional<std::pair<Pick, E>>> found(picks.size());
  requests.for_each_index(found.size(), [&](std::size_t i) {
    Request one = request;
    one.picks = {picks[i]};
    std::vector<E> samples = std::move(read_one(one)).separate();
    if (!samples.empty()) found[i].emplace(one.picks[0], std::move(samples[0]));
  });
  std::vector<E> samples;
  samples.reserve(found.size());
  for (auto& one : found) {
    if (!one) continue;  // skipped
    request.picks.push_back(one->first);
    samples.push_back(std::move(one->second));
  }
  return samples;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_CONCURRENT_READ_HPP_
