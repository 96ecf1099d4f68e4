// Arrays of any content as the archive of a sparse matrix: a matrix that loads has every property
// that LibTorch requires, can be used, and is the same after save_sparse() and load_sparse().
// An input is an archive, or the description of one (sparse_archive.hpp).

#include <ATen/core/Tensor.h>
#include <ATen/ops/_validate_sparse_compressed_tensor_args.h>
#include <ATen/ops/_validate_sparse_coo_tensor_args.h>

#include <torch_npy/tensor/sparse.hpp>

#include <cstring>
#include <vector>

#include "fuzz.hpp"
#include "sparse_archive.hpp"

using namespace torch_npy;

namespace {

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
  const std::string archive = is_archive ? std::string(data, data + size) : archive_of(data, size);
  // In memory of exactly its size, so that a read after its end is detected.
  const std::vector<char> bytes(archive.begin(), archive.end());
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
  if (size % 16 != 0) return 0;  // the rest is slower than everything before it
  require_valid(tensor);
  if (tensor.numel() <= 4096) {
    require(tensor.to_dense().sizes() == tensor.sizes(), "a matrix has a dense form");
  }
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
