#ifndef TORCH_NPY_DATA_BATCH_TENSORS_HPP_
#define TORCH_NPY_DATA_BATCH_TENSORS_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Layout.h>

#include <cstdint>
#include <type_traits>
#include <vector>

#include <torch_npy/data/batch.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

// The tensors in a batch of any type.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

// Visits the tensors in a batch: BatchTensors<Batch>::each(batch, call) calls call(at::Tensor&) for
// each one, always in the same order. Types without tensors have no each().
template <class Part>
struct BatchTensors {
  static constexpr bool kAny = false;
};

template <>
struct BatchTensors<at::Tensor> {
  static constexpr bool kAny = true;

  template <class Call>
  static void each(at::Tensor& tensor, const Call& call) {
    call(tensor);
  }
};

template <class Data, class Target>
struct BatchTensors<torch::data::Example<Data, Target>> {
  static constexpr bool kAny = BatchTensors<Data>::kAny || BatchTensors<Target>::kAny;

  template <class Call>
  static void each(torch::data::Example<Data, Target>& example, const Call& call) {
    if constexpr (BatchTensors<Data>::kAny) BatchTensors<Data>::each(example.data, call);
    if constexpr (BatchTensors<Target>::kAny) BatchTensors<Target>::each(example.target, call);
  }
};

template <>
struct BatchTensors<NamedExample> {
  static constexpr bool kAny = true;

  template <class Call>
  static void each(NamedExample& example, const Call& call) {
    for (NamedExample::Item& item : example.items()) call(item.second);
  }
};

template <class E>
struct BatchTensors<Batch<E>> : BatchTensors<E> {};

template <class E>
struct BatchTensors<PaddedBatch<E>> {
  static constexpr bool kAny = true;

  template <class Call>
  static void each(PaddedBatch<E>& batch, const Call& call) {
    if constexpr (BatchTensors<E>::kAny) BatchTensors<E>::each(batch, call);
    if constexpr (std::is_same_v<E, NamedExample>) {
      BatchTensors<NamedExample>::each(batch.lengths, call);
    } else {
      call(batch.lengths);
      call(batch.target_lengths);
    }
  }
};

template <class Item, class Allocator>
struct BatchTensors<std::vector<Item, Allocator>> {
  static constexpr bool kAny = BatchTensors<Item>::kAny;

  template <class Call>
  static void each(std::vector<Item, Allocator>& items, const Call& call) {
    for (Item& item : items) BatchTensors<Item>::each(item, call);
  }
};

template <class E>
struct BatchTensors<Samples<E>> : BatchTensors<std::vector<E>> {};

/// True for tensors of plain bytes in host memory. Others are copied by LibTorch, or are on a
/// device already.
inline bool is_plain(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.layout() == c10::kStrided && !tensor.is_nested() &&
         !tensor.is_quantized() && !tensor._is_zerotensor() && !tensor.is_conj() &&
         !tensor.is_neg() && !tensor.requires_grad();
}

/// Puts the tensors of a batch into pinned memory, from which CUDA copies in the background. Called
/// by the workers, each of which copies with one thread: LibTorch's copy with all threads, in the
/// loop, would take the processors from the workers.
template <class B>
void pin_batch([[maybe_unused]] B& batch) {
  if constexpr (BatchTensors<B>::kAny) {
    BatchTensors<B>::each(batch, [](at::Tensor& tensor) {
      if (tensor.defined() && is_plain(tensor) && !tensor.is_pinned()) tensor = tensor.pin_memory();
    });
  }
}

/// What reading the current batch throws if there is none.
inline Error no_batch() {
  return Error(ErrorCode::InvalidArgument,
               "there is no current batch: the last ++ threw an exception, or the epoch is over; "
               "call ++ again for the next batch, or begin() for the next epoch");
}

/// The bytes of the elements of all tensors in a batch; 0 for a type without tensors. Tensors
/// without strides, such as sparse ones, are not counted.
template <class B>
std::uint64_t bytes_in(B& batch) {
  std::uint64_t bytes = 0;
  if constexpr (BatchTensors<B>::kAny) {
    BatchTensors<B>::each(batch, [&bytes](const at::Tensor& tensor) {
      if (!tensor.defined() || tensor.layout() != c10::kStrided || tensor.is_nested()) return;
      bytes += tensor.nbytes();
    });
  }
  return bytes;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_BATCH_TENSORS_HPP_
