// Any bytes as an .npz archive in memory, from which what cannot be loaded is skipped. Everything
// that is skipped has its Error, and the rest is what NpzFile loads array by array.

#include <ATen/core/Tensor.h>

#include <torch_npy/tensor/npz.hpp>

#include <cstring>
#include <string>
#include <vector>

#include "fuzz.hpp"

using namespace torch_npy;

namespace {

std::string bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.scalar_type() == b.scalar_type() && bytes_of(a) == bytes_of(b);
}

/// Fields by their names are those of the whole.
void check_fields(const NpzFile& file, const std::string& name, const LoadOptions& options) {
  const auto fields = file.load_fields(name, options);
  for (const auto& field : fields) {
    const auto one = file.load_fields(name, {field.key()}, options);
    require(one.size() == 1 && one[0].key() == field.key(), "a name gives its field");
    require(one[0].value().sizes() == field.value().sizes(), "of the same shape");
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const AllocationLimit limit(1032 * size + 256 * 1024);
    const NpzFile file(data, size);
    std::size_t skipped = 0;
    LoadOptions options;
    options.threads(1).max_bytes(1 << 20).raw_bytes(size % 2 != 0).unsigned_as(kNextSigned);
    options.on_unreadable(OnUnreadable::Skip, [&](const Error& error) {
      require_sound(error, SIZE_MAX);
      require(error.path().empty(), "memory has no path");
      ++skipped;
    });
    const auto arrays = load_npz(file, options);
    require(arrays.size() + skipped == file.names().size(), "an array is loaded or reported");
    for (const auto& array : arrays) {
      require(same(array.value(), file.load(array.key(), options)), "an array is what it is alone");
      require(!file.can_map(array.key(), options), "memory is not mapped");
    }
    for (const std::string& name : file.names()) {
      try {
        if (file.header(name).dtype.is_structured()) check_fields(file, name, options);
      } catch (const Error& error) {
        require_sound(error, SIZE_MAX);
      }
    }
  } catch (const Error& error) {
    require_sound(error, SIZE_MAX);
  }
  return 0;
}
