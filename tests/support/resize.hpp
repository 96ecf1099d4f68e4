#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>

#include <type_traits>
#include <utility>

#include "support/catch.hpp"

/// Whether resize_() of this LibTorch can replace the memory of a from_blob tensor.
template <class Maker, class = void>
constexpr bool kCanGrow = false;
template <class Maker>
constexpr bool kCanGrow<Maker, std::void_t<decltype(std::declval<Maker&>().resizeable_storage())>> =
    true;

/// Grows a tensor over memory that LibTorch did not allocate: it keeps its values, or throws.
inline void check_grows(at::Tensor tensor, at::IntArrayRef sizes) {
  const at::Tensor before = tensor.clone();
  if (!kCanGrow<at::TensorMaker>) {
    CHECK_THROWS_AS(tensor.resize_(sizes), c10::Error);
    return;
  }
  tensor.resize_(sizes);
  CHECK(tensor.sizes() == sizes);
  CHECK(tensor.flatten().narrow(0, 0, before.numel()).equal(before.flatten()));
}
