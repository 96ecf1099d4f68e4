#ifndef TORCH_NPY_DATA_MAPPED_READER_HPP_
#define TORCH_NPY_DATA_MAPPED_READER_HPP_

#include <ATen/core/Tensor.h>

#include <algorithm>
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
#include <torch_npy/data/map.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/random_crop.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/version.hpp>

// The reader of dataset.map(): what was read, transformed.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Applies a transform of this library.
template <class E, class B>
void apply_transform(const transforms::Transform& transform, Read<E, B>& batch,
                     const Request& request, const Draws& draws) {
  const auto apply_whole = [&](auto& whole) {
    with_sample(request, 0, true, [&] { apply_to(transform, whole, draws); });
  };
  if constexpr (!std::is_same_v<B, Samples<E>>) {
    apply_whole(batch);
  } else if (batch.is_whole()) {
    apply_whole(batch.whole());
  } else {
    for (std::size_t i = 0; i < batch.each().size(); ++i) {
      with_sample(request, i, false,
                  [&] { apply_to_sample(transform, batch.each()[i], draws.from(i)); });
    }
  }
}

/// Applies `transform` to what was read.
template <MapKind kKind, class E, class B, class T>
auto apply_map(const T& transform, Read<E, B> read, const std::vector<std::size_t>& indices,
               Request& request, const Draws& draws) {
  const BatchBefore before = before_call(read, indices);
  if constexpr (kKind == MapKind::Transform) {
    apply_transform<E, B>(transform, read, request, draws);
    return std::optional<Read<E, B>>(std::move(read));
  } else if constexpr (kKind == MapKind::PadStack) {
    return with_sample(request, 0, true,
                       [&] { return std::optional(transform(std::move(read).separate())); });
  } else if constexpr (kKind == MapKind::LibTorchOnSamples) {
    return as_read(
        with_sample(request, 0, true,
                    [&] { return T(transform).apply_batch(std::move(read).separate()); }),
        before, request);
  } else if constexpr (kKind == MapKind::LibTorchOnBatch) {
    return as_read(
        with_sample(
            request, 0, true,
            [&] { return T(transform).apply_batch(batch_from<E, B>(std::move(read), indices)); }),
        before, request);
  } else if constexpr (kKind == MapKind::OnBatch) {
    return as_read(with_sample(request, 0, true,
                               [&] {
                                 return call_function(transform,
                                                      batch_from<E, B>(std::move(read), indices),
                                                      draws.sample(0));
                               }),
                   before, request);
  } else {
    std::vector<E> samples = std::move(read).separate();
    using F = decltype(call_function(transform, std::move(samples[0]), draws.sample(0)));
    std::vector<F> results;
    results.reserve(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      results.push_back(with_sample(request, i, false, [&] {
        return call_function(transform, std::move(samples[i]), draws.sample(i));
      }));
    }
    return std::optional<SampleRows<F>>(std::move(results));
  }
}

/// Reads the samples that a crop is applied to: from a source that can do so, only what it keeps.
template <class E, class B>
std::optional<Read<E, B>> read_cropped(const Reader<E, B>& read, const transforms::RandomCrop& crop,
                                       Request& request, const Draws& draws, bool reads_regions) {
  const CropRegions regions(crop, draws);
  constexpr bool is_list = std::is_same_v<B, Samples<E>>;
  request.regions = is_list && reads_regions && crop.arrays().empty() ? &regions : nullptr;
  auto batch = read(request);
  request.regions = nullptr;
  if (!batch) return std::nullopt;
  const auto is_cropped = [](const Pick& pick) { return pick.is_cropped; };
  if (std::none_of(request.picks.begin(), request.picks.end(), is_cropped)) {
    apply_transform<E, B>(crop, *batch, request, draws);
  } else if constexpr (is_list) {
    // As apply() makes crops; a source may read those of an array in Fortran order in that order.
    const auto make_contiguous = [&](const std::string& name, at::Tensor& tensor) {
      if (tensor.defined() && (name != "target" || crop.with_target()))
        tensor = tensor.contiguous();
    };
    if (batch->is_whole() && std::all_of(request.picks.begin(), request.picks.end(), is_cropped)) {
      SampleTensors<E>::each(static_cast<E&>(batch->whole()), make_contiguous);
    } else {
      batch.emplace(std::move(*batch).separate());
      for (std::size_t i = 0; i < request.picks.size(); ++i) {
        E& sample = batch->each()[i];
        SampleTensors<E>::each(sample, make_contiguous);
        if (request.picks[i].is_cropped) continue;
        with_sample(request, i, false, [&] { apply_to_sample(crop, sample, draws.from(i)); });
      }
    }
  }
  for (Pick& pick : request.picks) pick.is_cropped = false;
  return batch;
}

/// The reader of `dataset.map(transform)`.
template <MapKind kKind, class E, class B, class T>
auto mapped_reader(std::shared_ptr<const Reader<E, B>> read, T transform, std::uint64_t stage,
                   [[maybe_unused]] bool reads_regions) {
  // Nothing else may be tried: a generic function is compiled for what it is tried with.
  using Argument = std::conditional_t<kKind == MapKind::OnSample, E, B>;
  std::uint64_t seed = 0;
  if constexpr (kKind == MapKind::Transform) {
    require_arrays<E>(transform);
    seed = transform.seed();
  } else if constexpr (kTakesGenerator<T, Argument>) {
    seed = draw_seed();
  }
  const auto shared = std::make_shared<const T>(std::move(transform));
  if constexpr (std::is_same_v<T, transforms::RandomCrop>) {
    return Reader<E, B>(
        [read = std::move(read), shared, stage, seed, reads_regions](Request& request) {
          return read_cropped<E, B>(*read, *shared, request, Draws(request, stage, seed),
                                    reads_regions);
        });
  } else {
    using Result =
        decltype(apply_map<kKind, E, B>(std::declval<const T&>(), std::declval<Read<E, B>>(),
                                        std::declval<const std::vector<std::size_t>&>(),
                                        std::declval<Request&>(), std::declval<const Draws&>()));
    return std::function<Result(Request&)>(
        [read = std::move(read), shared, stage, seed](Request& request) -> Result {
          const auto sample_of = request.sample_of;  // which the reader may replace
          request.regions = nullptr;                 // those of what this transform returns
          auto batch = (*read)(request);
          if (!batch) return std::nullopt;
          return apply_map<kKind, E, B>(*shared, std::move(*batch), indices_in(sample_of, request),
                                        request, Draws(request, stage, seed));
        });
  }
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAPPED_READER_HPP_
