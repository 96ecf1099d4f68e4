// Any bytes as an .npz archive. An array that loads equals what load_bytes() makes of the unpacked
// member, and is the same after save_npz() and load_npz().

#include <ATen/core/Tensor.h>

#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save_npz.hpp>

#include <cstring>
#include <memory>

#include "fuzz.hpp"

using namespace torch_npy;

namespace {

LoadOptions options_for(const Header& header) {
  LoadOptions options;
  options.threads(1).max_bytes(1 << 20).strings_as_codes(true);
  if (header.dtype.kind == 'V' && header.dtype.item_size == 2) options.void_as(at::kBFloat16);
  if (header.dtype.kind == 'V' && header.dtype.item_size == 1) options.void_as(at::kByte);
  return options;
}

std::string bytes_of(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

/// In C order. LibTorch changes any true bool that it copies to 1.
std::string bytes_in_order(const at::Tensor& tensor) {
  const bool is_bool = tensor.scalar_type() == at::kBool;
  return bytes_of((is_bool ? tensor.view(at::kByte) : tensor).contiguous());
}

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.scalar_type() == b.scalar_type() && bytes_of(a) == bytes_of(b);
}

std::string unpacked(const torch_npy::detail::ZipArchive& archive, const std::string& array) {
  for (const torch_npy::detail::ZipMember& member : archive.members()) {
    if (member.name == array || member.name == array + ".npy") {
      std::string bytes(static_cast<std::size_t>(member.size), '\0');
      if (member.method == torch_npy::detail::kDeflated) {
        std::memcpy(bytes.data(), archive.inflate(member).get(), bytes.size());
      } else {
        archive.source().read_fully(bytes.data(), bytes.size(), archive.data_offset(member));
      }
      return bytes;
    }
  }
  require(false, "an array is a member");
  return {};
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static MemoryFile memory;
  const auto& path = memory.holding(data, size);
  torch::OrderedDict<std::string, at::Tensor> loaded;
  try {
    const AllocationLimit limit(1032 * size + 256 * 1024);
    const NpzFile file(path);
    const torch_npy::detail::ZipArchive archive(
        std::make_shared<const torch_npy::detail::NamedFile>(path));
    for (const std::string& name : file.names()) {
      require(file.contains(name), "a name that is given is contained");
      try {
        const Header header = file.header(name);
        if (header.dtype.is_structured()) {
          (void)file.load_fields(name, options_for(header));
          continue;
        }
        const LoadOptions options = options_for(header);
        const at::Tensor tensor = file.load(name, options);
        const std::string bytes = unpacked(archive, name);
        require(same(tensor, load_bytes(bytes.data(), bytes.size(), options)),
                "an array in an archive is what it is outside");
        require(same(tensor, file.load(name, LoadOptions(options).mmap(true))), "mapped as well");
        if (!header.shape.empty() && header.shape[0] != 0) {
          const at::Tensor row = file.load(name, LoadOptions(options).rows(0, 1));
          require(bytes_in_order(row) == bytes_in_order(tensor.narrow(0, 0, 1)),
                  "a row is that of the whole");
        }
        loaded.insert(name, tensor);
      } catch (const Error& error) {
        require_sound(error, SIZE_MAX);
      }
    }
  } catch (const Error& error) {
    require_sound(error, size);
    return 0;
  }
  if (loaded.is_empty() || size % 4 != 0) return 0;  // saving is slower than everything else

  static const std::filesystem::path copy =
      "/dev/shm/torch_npy_fuzz_" + std::to_string(::getpid()) + ".npz";
  try {
    save_npz(copy, loaded, SaveNpzOptions().sync(false).compressed((size & 4) != 0));
  } catch (const Error& error) {
    // Two names that differ only in ".npy", or a name that is too long with it.
    require(error.code() == ErrorCode::InvalidArgument, "an archive that was read is written");
    return 0;
  }
  const NpzFile again(copy);
  for (const auto& item : loaded) {
    const at::Tensor tensor = again.load(item.key(), options_for(again.header(item.key())));
    require(same(tensor, item.value()), "an array comes back");
  }
  std::filesystem::remove(copy);
  return 0;
}
