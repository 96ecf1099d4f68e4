// Any bytes as a file in memory. A tensor has the bytes of the file, byte-swapped if the file has
// the other byte order. A stream and rows give the same tensor. With any options nothing but an
// Error is thrown.

#include <ATen/core/Tensor.h>

#include <torch_npy/tensor/load.hpp>

#include <cstring>
#include <sstream>

#include "fuzz.hpp"

using namespace torch_npy;

namespace {

/// The dtype for items of this size.
std::optional<c10::ScalarType> raw_type(std::int64_t size) {
  switch (size) {
    case 1: return at::kByte;
    case 2: return at::kShort;
    case 4: return at::kInt;
    case 8: return at::kLong;
    case 16: return at::kComplexDouble;
    default: return std::nullopt;
  }
}

std::string bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

/// In C order. LibTorch changes any true bool that it copies to 1.
std::string bytes_in_order(const at::Tensor& tensor) {
  const bool is_bool = tensor.scalar_type() == at::kBool;
  return bytes_of((is_bool ? tensor.view(at::kByte) : tensor).contiguous());
}

void require_same(const at::Tensor& a, const at::Tensor& b) {
  require(
      a.sizes() == b.sizes() && a.strides() == b.strides() && a.scalar_type() == b.scalar_type(),
      "two ways of reading agree in dtype, shape and strides");
  require(bytes_of(a) == bytes_of(b), "two ways of reading agree in bytes");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The last byte selects the options. NumPy ignores bytes after an array.
  const unsigned how = size == 0 ? 0 : data[size - 1];
  LoadOptions options;
  options.strings_as_codes(true).threads(1).max_bytes(1 << 20);
  Header header;
  at::Tensor tensor;
  try {
    const AllocationLimit limit(64 * size + 4096);
    header = parse_header(data, size);
    if (header.dtype.kind == 'V') options.void_as(raw_type(header.dtype.item_size));
    tensor = load_bytes(data, size, options);
  } catch (const Error& error) {
    require_sound(error, size);
    return 0;
  }

  const auto payload = std::string(reinterpret_cast<const char*>(data) + header.data_offset,
                                   static_cast<std::size_t>(header.nbytes()));
  const std::size_t numel = static_cast<std::size_t>(header.numel());
  require(tensor.nbytes() == payload.size(), "the tensor is as large as the array");
  std::string want = payload;
  if (header.dtype.is_swapped()) {
    const auto unit = numel == 0                 ? 1
                      : header.dtype.kind == 'U' ? 4
                      : header.dtype.kind == 'c' ? header.dtype.item_size / 2
                                                 : header.dtype.item_size;
    for (std::size_t at = 0; at < want.size(); at += static_cast<std::size_t>(unit)) {
      std::reverse(want.begin() + static_cast<std::ptrdiff_t>(at),
                   want.begin() + static_cast<std::ptrdiff_t>(at) + unit);
    }
  }
  // In the order of memory, whatever the strides are.
  require(bytes_of(tensor) == want, "the tensor's bytes are the payload");

  std::stringstream stream(std::string(reinterpret_cast<const char*>(data), size));
  require_same(load(stream, options), tensor);
  require(static_cast<std::uint64_t>(stream.tellg()) == header.end(),
          "a stream is at the first byte after the array");

  if ((how & 1) != 0 && !header.shape.empty()) {
    const std::int64_t length = header.shape[0];
    const std::int64_t begin = std::min<std::int64_t>(length, how >> 1 & 3);
    const std::int64_t end = (std::max)(begin, length - (how >> 3 & 1));
    const at::Tensor rows = load_bytes(data, size, LoadOptions(options).rows(begin, end));
    const at::Tensor want_rows = tensor.narrow(0, begin, end - begin);
    require(rows.sizes() == want_rows.sizes() && bytes_in_order(rows) == bytes_in_order(want_rows),
            "rows are those of the whole");
  }
  if ((how & 16) != 0) {
    const c10::ScalarType to = (how & 32) != 0   ? at::kFloat
                               : (how & 64) != 0 ? at::kByte
                                                 : at::kLong;
    try {
      const at::Tensor converted = load_bytes(data, size, LoadOptions(options).dtype(to));
      require(converted.sizes() == tensor.sizes() && converted.scalar_type() == to,
              "a conversion keeps the shape");
      // Unsigned integers are checked. Floating point numbers outside the range of an integer give
      // any value.
      const bool is_defined =
          !torch_npy::detail::is_wide_unsigned(header.dtype) &&
          (to == at::kFloat || !(tensor.is_floating_point() || tensor.is_complex()));
      require(!is_defined || bytes_of(converted) == bytes_of(tensor.to(to)),
              "a conversion is that of Tensor::to()");
    } catch (const Error& error) {
      require_sound(error, size);
    }
  }
  return 0;
}
