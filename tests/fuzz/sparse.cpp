// Arrays of any content as the archive of a sparse matrix: a matrix that loads has every property
// that LibTorch requires, can be used, and is the same after save_sparse() and load_sparse().
//
// An input is an archive, or the description of one, which has no checksums that would have to be
// right: for each array two bytes, its name and its dtype, one byte for each axis after a byte with
// their number, and one byte for each element after a byte with their number.

#include <ATen/core/Tensor.h>
#include <ATen/ops/_validate_sparse_compressed_tensor_args.h>
#include <ATen/ops/_validate_sparse_coo_tensor_args.h>

#include <torch_npy/tensor/sparse.hpp>

#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "../support/zip_bytes.hpp"
#include "fuzz.hpp"

using namespace torch_npy;

namespace {

constexpr const char* kNames[] = {"format", "shape", "data", "indices",
                                  "indptr", "row",   "col",  "coords"};
constexpr const char* kTypes[] = {"|S3", "<i8", "<i4", "<f4", "|b1", ">i4", "<u4",
                                  "<i2", "<U3", "<c8", "<u8", "|u1", "<f2"};

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

  bool is_empty() const { return at_ == end_; }
  std::uint8_t next() { return is_empty() ? std::uint8_t{0} : *at_++; }

 private:
  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

/// Small numbers are themselves; the last ones are the limits of integers.
std::int64_t number_of(std::uint8_t byte) {
  switch (byte) {
    case 255: return -1;
    case 254: return std::numeric_limits<std::int32_t>::max();
    case 253: return std::numeric_limits<std::int64_t>::max();
    case 252: return std::int64_t{1} << 32;
    default: return byte;
  }
}

std::string element_of(const DType& dtype, std::uint8_t byte) {
  if (dtype.kind == 'S') return {static_cast<char>(byte)};
  if (dtype.kind == 'U') return little(byte, 4);
  std::string element = little(static_cast<std::uint64_t>(number_of(byte)),
                               static_cast<int>((std::min)(dtype.item_size, std::int64_t{8})));
  element.resize(static_cast<std::size_t>(dtype.item_size));
  if (dtype.kind == 'b') element[0] &= 1;
  if (dtype.is_swapped()) std::reverse(element.begin(), element.end());
  return element;
}

std::string archive_of(Input input) {
  std::vector<ZipPart> members;
  std::array<bool, std::size(kNames)> has{};
  while (!input.is_empty()) {
    const std::size_t name = input.next() % std::size(kNames);
    Header header;
    header.dtype = *torch_npy::detail::parse_type_string(kTypes[input.next() % std::size(kTypes)]);
    header.shape.resize(input.next() % 4);
    for (std::int64_t& length : header.shape)
      length = (std::max)(number_of(input.next()), std::int64_t{0});
    if (!torch_npy::detail::checked_bytes(header.shape, header.dtype.item_size)) header.shape = {1};
    std::string data;
    for (std::size_t left = input.next() % 64; left != 0; --left) {
      data += element_of(header.dtype, input.next());
    }
    if (std::exchange(has[name], true)) continue;
    members.push_back(
        ZipPart::stored(std::string(kNames[name]) + ".npy", format_header(header) + data));
  }
  return zip(members);
}

std::vector<at::Tensor> arrays_of(const at::Tensor& tensor) {
  if (tensor.layout() == c10::kSparse) return {tensor._indices(), tensor._values()};
  if (tensor.layout() == c10::kSparseCsc) {
    return {tensor.ccol_indices(), tensor.row_indices(), tensor.values()};
  }
  return {tensor.crow_indices(), tensor.col_indices(), tensor.values()};
}

std::string bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

template <class Index>
void require_inside(const at::Tensor& indices, std::int64_t length) {
  const auto* const index = static_cast<const Index*>(indices.data_ptr());
  require(
      std::all_of(index, index + indices.numel(), [&](Index i) { return i >= 0 && i < length; }),
      "every index is inside the shape");
}

void require_inside(const at::Tensor& tensor) {
  const std::vector<at::Tensor> arrays = arrays_of(tensor);
  if (tensor.layout() == c10::kSparse) {
    for (std::int64_t axis = 0; axis < tensor.dim(); ++axis) {
      require_inside<std::int64_t>(arrays[0][axis], tensor.size(axis));
    }
    return;
  }
  const std::int64_t axis = tensor.layout() == c10::kSparseCsc ? 0 : 1;
  const std::int64_t block = tensor.layout() == c10::kSparseBsr ? arrays[2].size(2) : 1;
  const bool is_narrow = arrays[1].scalar_type() == at::kInt;
  (is_narrow ? require_inside<std::int32_t>
             : require_inside<std::int64_t>)(arrays[1], tensor.size(axis) / block);
}

/// Lets LibTorch check everything that it requires, which throws.
void require_valid(const at::Tensor& tensor) {
  const std::vector<at::Tensor> arrays = arrays_of(tensor);
  if (tensor.layout() == c10::kSparse) {
    return at::_validate_sparse_coo_tensor_args(arrays[0], arrays[1], tensor.sizes());
  }
  at::_validate_sparse_compressed_tensor_args(arrays[0], arrays[1], arrays[2], tensor.sizes(),
                                              tensor.layout());
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const bool is_archive = size >= 2 && std::memcmp(data, "PK", 2) == 0;
  const std::string bytes = is_archive ? std::string(reinterpret_cast<const char*>(data), size)
                                       : archive_of({data, size});
  LoadOptions options;
  options.threads(1).max_bytes(1 << 16);
  at::Tensor tensor;
  try {
    const AllocationLimit limit(1032 * bytes.size() + 256 * 1024);
    tensor = load_sparse(NpzFile(bytes.data(), bytes.size()), options);
  } catch (const Error& error) {
    require_sound(error, SIZE_MAX);
    return 0;
  }
  require_inside(tensor);
  const auto numel = static_cast<std::size_t>(tensor.numel());
  if (numel <= 4096) {
    require(tensor.to_dense().sizes() == tensor.sizes(), "a matrix has a dense form");
  }
  if (size % 8 != 0) return 0;  // the rest is slower than everything before it
  require_valid(tensor);
  if (tensor.dim() != 2) return 0;

  static const std::filesystem::path copy =
      "/dev/shm/torch_npy_fuzz_sparse_" + std::to_string(::getpid()) + ".npz";
  save_sparse(copy, tensor, SaveNpzOptions().sync(false));
  const at::Tensor again = load_sparse(copy, options.max_bytes(UINT64_MAX));
  std::filesystem::remove(copy);
  const std::vector<at::Tensor> arrays = arrays_of(tensor);
  const std::vector<at::Tensor> arrays_again = arrays_of(again);
  require(again.layout() == tensor.layout() && again.sizes() == tensor.sizes(),
          "a matrix comes back");
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    require(bytes_of(arrays[i].contiguous()) == bytes_of(arrays_again[i].contiguous()),
            "its arrays come back");
  }
  return 0;
}
