#ifndef TORCH_NPY_DATA_MAP_HPP_
#define TORCH_NPY_DATA_MAP_HPP_

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Generator.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/batch_tensors.hpp>
#include <torch_npy/data/pad_stack.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/data/stack.hpp>
#include <torch_npy/data/transform.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// What Dataset::map() may be given, and how functions are called.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The batch type of a dataset whose reader returns R.
template <class R>
struct BatchReadOf {
  using type = R;
};
template <class E>
struct BatchReadOf<SampleRows<E>> {
  using type = Samples<E>;
};
template <class R>
using BatchRead = typename BatchReadOf<R>::type;

/// What the reader of a Dataset<E, B> returns: unstacked samples stay the rows of one tensor for as
/// long as nobody looks at them.
template <class E, class B>
using Read = std::conditional_t<std::is_same_v<B, Samples<E>>, SampleRows<E>, B>;

/// Reads the batch of a request; none if every sample was skipped.
template <class E, class B>
using Reader = std::function<std::optional<Read<E, B>>(Request&)>;

// The types that hold a batch of E.

template <class B>
struct BatchTraits {
  using Example = B;  // for a batch of any other type
  static constexpr bool kHasIndices = false;
};
template <class E>
struct BatchTraits<Samples<E>> {
  using Example = E;
  static constexpr bool kHasIndices = true;
};
template <class E>
struct BatchTraits<Batch<E>> {
  using Example = E;
  static constexpr bool kHasIndices = true;
};
template <class E>
struct BatchTraits<PaddedBatch<E>> {
  using Example = E;
  static constexpr bool kHasIndices = true;
};

/// The batch type for what a transform returns: with indices where there is one.
template <class R>
struct BatchFor {
  using type = R;
};
template <class E>
struct BatchFor<std::vector<E>> {
  using type = Samples<E>;
};
template <class Data, class Target>
struct BatchFor<torch::data::Example<Data, Target>> {
  using type = Batch<torch::data::Example<Data, Target>>;
};
template <>
struct BatchFor<NamedExample> {
  using type = NamedBatch;
};

// The parameters of a function that is not a template.

template <class T, class = void>
struct FunctionTraits {
  using Parameters = void;  // a generic lambda, or no function
};
template <class R, class... P>
struct FunctionTraits<R (*)(P...)> {
  using Parameters = std::tuple<P...>;
  static constexpr bool kIsConst = true;
};
template <class T>
struct FunctionTraits<T, std::void_t<decltype(&T::operator())>>
    : FunctionTraits<decltype(&T::operator())> {};
template <class R, class T, class... P>
struct FunctionTraits<R (T::*)(P...), void> {
  using Parameters = std::tuple<P...>;
  static constexpr bool kIsConst = false;
};
template <class R, class T, class... P>
struct FunctionTraits<R (T::*)(P...) const, void> : FunctionTraits<R (*)(P...)> {};
template <class R, class T, class... P>
struct FunctionTraits<R (T::*)(P...) noexcept, void> : FunctionTraits<R (T::*)(P...)> {};
template <class R, class T, class... P>
struct FunctionTraits<R (T::*)(P...) const noexcept, void> : FunctionTraits<R (*)(P...)> {};
template <class R, class... P>
struct FunctionTraits<R (*)(P...) noexcept> : FunctionTraits<R (*)(P...)> {};

template <class T>
constexpr bool kIsGeneric = std::is_void_v<typename FunctionTraits<T>::Parameters>;

template <class Parameters>
struct FirstOf {
  using type = void;
};
template <class First, class... Others>
struct FirstOf<std::tuple<First, Others...>> {
  using type = std::decay_t<First>;
};
template <class T>
using FirstParameter = typename FirstOf<typename FunctionTraits<T>::Parameters>::type;

template <class T, class = void>
constexpr bool kIsLibTorchTransform = false;
template <class T>
constexpr bool
    kIsLibTorchTransform<T, std::void_t<typename T::InputBatchType, typename T::OutputBatchType>> =
        !std::is_base_of_v<transforms::Transform, T>;

template <class T>
constexpr bool kIsStack = false;
template <class E>
constexpr bool kIsStack<transforms::Stack<E>> = true;

enum class MapKind {
  Transform,          ///< of this library, on the tensors of a batch
  Stack,              ///< of this library
  PadStack,           ///< of this library
  LibTorchOnSamples,  ///< InputBatchType is a list of samples
  LibTorchOnBatch,    ///< InputBatchType is the batch type
  OnSample,           ///< a function of one sample
  OnBatch,            ///< a function of a batch
  Unfit,
};

template <class E, class B, class T>
constexpr MapKind map_kind() {
  constexpr bool is_list = std::is_same_v<B, Samples<E>>;
  if constexpr (std::is_base_of_v<transforms::Transform, T>) {
    return kStackable<E> && BatchTraits<B>::kHasIndices ? MapKind::Transform : MapKind::Unfit;
  } else if constexpr (kIsStack<T>) {
    return is_list ? MapKind::Stack : MapKind::Unfit;
  } else if constexpr (std::is_same_v<T, transforms::PadStack>) {
    return is_list && kStackable<E> ? MapKind::PadStack : MapKind::Unfit;
  } else if constexpr (kIsLibTorchTransform<T>) {
    using In = typename T::InputBatchType;
    return is_list && std::is_same_v<In, std::vector<E>> ? MapKind::LibTorchOnSamples
           : std::is_same_v<In, B>                       ? MapKind::LibTorchOnBatch
                                                         : MapKind::Unfit;
  } else if constexpr (kIsGeneric<T>) {
    return !is_list && (std::is_invocable_v<const T&, B&> ||
                        std::is_invocable_v<const T&, B&, at::Generator&>)
               ? MapKind::OnBatch
               : MapKind::Unfit;
  } else if constexpr (!FunctionTraits<T>::kIsConst) {
    return MapKind::Unfit;
  } else {
    using P = FirstParameter<T>;
    return std::is_same_v<P, B> || (is_list && std::is_same_v<P, std::vector<E>>) ? MapKind::OnBatch
           : is_list && std::is_same_v<P, E> ? MapKind::OnSample
                                             : MapKind::Unfit;
  }
}

/// A generator for a function that takes one. Kept by the thread, because making one takes longer
/// than seeding it; several if the function reads another dataset.
class SeededGenerator {
 public:
  explicit SeededGenerator(std::uint64_t seed) {
    if (spare().empty()) {
      generator_ = at::detail::createCPUGenerator();
    } else {
      generator_ = std::move(spare().back());
      spare().pop_back();
    }
    const std::lock_guard<std::mutex> lock(generator_.mutex());
    generator_.set_current_seed(seed);
  }
  SeededGenerator(const SeededGenerator&) = delete;
  SeededGenerator& operator=(const SeededGenerator&) = delete;
  ~SeededGenerator() { spare().push_back(std::move(generator_)); }

  at::Generator& get() noexcept { return generator_; }

 private:
  static std::vector<at::Generator>& spare() {
    thread_local std::vector<at::Generator> generators;
    return generators;
  }

  at::Generator generator_;
};

template <class T, class Argument>
constexpr bool kTakesGenerator = std::is_invocable_v<const T&, Argument&, at::Generator&> ||
                                 std::is_invocable_v<const T&, Argument, at::Generator&>;

/// Calls a function given to map() with a batch or a sample, and with a generator if it takes one.
/// What it returns, or the argument if it changes that and returns nothing.
template <class T, class Argument>
auto call_function(const T& function, Argument argument, SplitMix64 numbers) {
  const auto call = [&](auto&&... generator) {
    // By reference, or moved into a parameter by value.
    constexpr bool by_reference =
        std::is_invocable_v<const T&, Argument&, decltype(generator)...> &&
        !std::is_invocable_v<const T&, Argument, decltype(generator)...>;
    using Passed = std::conditional_t<by_reference, Argument&, Argument>;
    using R = std::invoke_result_t<const T&, Passed, decltype(generator)...>;
    if constexpr (std::is_void_v<R>) {
      static_assert(by_reference,
                    "map(): this function returns nothing. Return the batch or sample, or take it "
                    "by reference and change it");
      function(argument, generator...);
      return argument;
    } else {
      return std::decay_t<R>(function(static_cast<Passed&&>(argument), generator...));
    }
  };
  if constexpr (kTakesGenerator<T, Argument>) {
    SeededGenerator generator(numbers.next());
    return call(generator.get());
  } else {
    return call();
  }
}

/// Calls `work`. Adds the names of samples to what it throws: an Error stays one, any other
/// exception becomes the nested one of an Error (Transform).
template <class Work>
auto with_sample(const Request& request, std::size_t i, bool is_batch, const Work& work) {
  const auto name = [&] {
    std::string key = std::to_string(i);
    try {
      if (request.dataset != nullptr && i < request.picks.size()) {
        key = in_quotes(request.dataset->key(request.picks[i].index));
      }
    } catch (...) {  // What `work` threw matters more.
    }
    return (is_batch ? "batch that begins with sample " : "sample ") + key;
  };
  const auto failed = [&](const std::string& reason) {
    return Error(ErrorCode::Transform, name() + ": a function given to map() failed: " + reason);
  };
  try {
    return work();
  } catch (const Error& error) {
    throw ErrorContext::within(error, name());
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::OutOfMemory, name() + ": out of memory");
  } catch (const c10::Error& error) {
    std::throw_with_nested(failed(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    std::throw_with_nested(failed(error.what()));
  } catch (...) {
    std::throw_with_nested(failed("it threw what is no std::exception"));
  }
}

/// The numbers of the samples of a batch in the dataset that map() was called on, which a subset or
/// a concatenation may have been made of since.
inline std::vector<std::size_t> indices_in(const decltype(Request::sample_of)& sample_of,
                                           const Request& request) {
  std::vector<std::size_t> indices = request.indices();
  if (!sample_of) return indices;
  for (std::size_t& index : indices) index = sample_of(index).value();
  return indices;
}

/// The picks of a batch whose indices, once `before`, a function has changed, so that later
/// transforms draw for the right samples.
inline std::vector<Pick> picks_for(const std::vector<std::size_t>& indices,
                                   const std::vector<std::size_t>& before, const Request& request) {
  std::unordered_map<std::size_t, std::vector<const Pick*>> by_index;
  for (std::size_t i = 0; i < before.size(); ++i) {
    by_index[before[i]].push_back(&request.picks[i]);
  }
  std::unordered_map<std::size_t, std::size_t> uses;
  std::vector<Pick> picks;
  picks.reserve(indices.size());
  for (const std::size_t index : indices) {
    const auto found = by_index.find(index);
    if (found == by_index.end()) {
      throw Error(ErrorCode::Mismatch,
                  "a function given to map() set `indices` of its batch to sample " +
                      std::to_string(index) + ", which was not in the batch");
    }
    const std::size_t use = uses[index]++;
    picks.push_back(*found->second[use % found->second.size()]);
    picks.back().copy += use / found->second.size();
  }
  return picks;
}

/// The size of axis 0; none for a 0-d tensor.
inline std::optional<std::size_t> row_count(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.dim() == 0) return std::nullopt;
  return static_cast<std::size_t>(tensor.size(0));
}

/// Those of the tensors of a stacked batch.
template <class B>
std::vector<std::size_t> row_counts(B& batch) {
  std::vector<std::size_t> counts;
  BatchTensors<B>::each(batch, [&](const at::Tensor& tensor) {
    if (const auto rows = row_count(tensor)) counts.push_back(*rows);
  });
  return counts;
}

/// What is known of a batch before a function gets it.
struct BatchBefore {
  std::vector<std::size_t> indices;
  std::vector<std::string> names;  ///< of the tensors that have a row for each sample
};

template <class B>
BatchBefore before_call(const B& batch, std::vector<std::size_t> indices) {
  BatchBefore before{std::move(indices), {}};
  if constexpr (std::is_base_of_v<NamedExample, B>) {
    for (const auto& [name, tensor] : batch.items()) {
      if (row_count(tensor) == before.indices.size()) before.names.push_back(name);
    }
  }
  return before;
}

/// Throws Error (Mismatch) if a function has removed or added rows of some tensors, but not the
/// samples: the rows of the others would be about other samples.
inline void require_rows(const NamedExample& batch, const BatchBefore& before,
                         std::size_t samples) {
  for (const auto& [name, tensor] : batch.items()) {
    const std::optional<std::size_t> rows = row_count(tensor);
    if (!rows || rows == samples ||
        std::find(before.names.begin(), before.names.end(), name) == before.names.end()) {
      continue;
    }
    throw Error(ErrorCode::Mismatch,
                "a function given to map() returned a batch of " + counted(samples, "sample") +
                    " in which " + in_quotes(name) + " has " + counted(*rows, "row") +
                    ": if it removes or adds samples, it has to do so in every tensor, and set "
                    "`indices` of the batch; what is about the whole batch needs a new name");
  }
}

/// Takes over the indices that a function has set. False if it has removed all samples. Throws
/// Error (Mismatch) if there are more or fewer indices than samples, so that no sample gets the
/// name of another one.
template <class B>
bool take_indices(B& batch, const BatchBefore& before, Request& request) {
  if constexpr (BatchTraits<B>::kHasIndices) {
    using E = typename BatchTraits<B>::Example;
    std::vector<std::size_t> counts;
    if constexpr (std::is_same_v<B, Samples<E>>) {
      counts = {batch.size()};
    } else if constexpr (kStackable<E>) {
      counts = row_counts(batch);
    }
    if (!counts.empty() && *std::max_element(counts.begin(), counts.end()) == 0) {
      request.picks.clear();
      return false;
    }
    if (!batch.indices.empty() && batch.indices != before.indices) {
      request.picks = picks_for(batch.indices, before.indices, request);
    }
    const auto is_wrong = [&](std::size_t count) { return count != request.picks.size(); };
    const auto wrong = std::find_if(counts.begin(), counts.end(), is_wrong);
    // A NamedExample may have tensors that are about the whole batch.
    if (wrong != counts.end() &&
        (!std::is_same_v<E, NamedExample> || std::all_of(counts.begin(), counts.end(), is_wrong))) {
      throw Error(ErrorCode::Mismatch,
                  "a function given to map() returned a batch of " + counted(*wrong, "sample") +
                      " with the indices of " + std::to_string(request.picks.size()) +
                      ": if it removes or adds samples, it has to do so in every tensor, and set "
                      "`indices` of the batch");
    }
    if constexpr (std::is_base_of_v<NamedExample, B>) {
      require_rows(batch, before, request.picks.size());
    }
  }
  return true;
}

/// What a transform returned, as the reader of the next dataset returns it. `before` is about its
/// argument.
template <class R>
auto as_read(R result, const BatchBefore& before, Request& request) {
  using C = typename BatchFor<R>::type;
  using Result = std::optional<Read<typename BatchTraits<C>::Example, C>>;
  C batch(std::move(result));
  return take_indices(batch, before, request) ? Result(std::move(batch)) : Result();
}

/// The argument of a function of a batch.
template <class E, class B>
B batch_from(Read<E, B> read, std::vector<std::size_t> indices) {
  if constexpr (std::is_same_v<B, Samples<E>>) {
    B batch(std::move(read).separate());
    batch.indices = std::move(indices);
    return batch;
  } else {
    if constexpr (BatchTraits<B>::kHasIndices) read.indices = std::move(indices);
    return read;
  }
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAP_HPP_
