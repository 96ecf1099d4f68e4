#ifndef TORCH_NPY_FORMAT_SIGNATURE_HPP_
#define TORCH_NPY_FORMAT_SIGNATURE_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <torch_npy/format/little_endian.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Files of other formats, which are recognized by their first bytes.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Bytes at the start of a file that tell its format.
constexpr std::size_t kSignatureSize = 512;

constexpr const char* kTorchFile =
    "a PyTorch file: load it with PyTorch, and save its tensors with np.savez()";

/// What a zip archive is, of which these are the first bytes.
inline const char* describe_zip(std::string_view bytes) {
  constexpr std::size_t kNameSizeAt = 26;
  constexpr std::size_t kNameAt = 30;
  if (bytes.size() > kNameAt) {
    const auto* const start = reinterpret_cast<const unsigned char*>(bytes.data());
    const auto name_size = static_cast<std::size_t>(little_endian(start + kNameSizeAt, 2));
    const std::string_view name = bytes.substr(kNameAt, name_size);
    const std::string_view extra = bytes.substr((std::min)(bytes.size(), kNameAt + name_size));
    // PyTorch aligns each member with an extra field whose mark is FB.
    if (starts_with(extra, "FB") || has_ending(name, "/data.pkl")) return kTorchFile;
    if (has_ending(name, ".npy")) return "an .npz archive, which load_npz() reads";
  }
  return "a zip archive: load_npz() reads it if it is an .npz archive";
}

/// What a text is that starts like this; null if it is not known.
inline const char* describe_text(std::string_view text) {
  const auto skip_blanks = [&] {
    text.remove_prefix((std::min)(text.size(), text.find_first_not_of(" \t\r\n\f")));
  };
  if (starts_with(text, "\xef\xbb\xbf")) text.remove_prefix(3);  // the byte order mark
  skip_blanks();
  if (starts_with(text, "version https://git-lfs.github.com/spec/")) {
    return "a Git LFS pointer, which stands for a file: get the file with git lfs pull";
  }
  for (const char* const start : {"<!doctype", "<html", "<head", "<?xml"}) {
    if (starts_with(text, start, /*ignore_case=*/true)) {
      return "an HTML or XML page, perhaps the error page of a server: download the file again";
    }
  }
  if (!starts_with(text, "{")) return nullptr;
  text.remove_prefix(1);
  skip_blanks();
  return starts_with(text, "\"") ? "JSON text" : nullptr;
}

inline bool is_safetensors(std::string_view bytes) {
  constexpr std::uint64_t kMaxHeader = 100'000'000;  // the limit of the format
  return bytes.size() >= 10 && bytes.substr(8, 2) == "{\"" &&
         little_endian(reinterpret_cast<const unsigned char*>(bytes.data()), 8) <= kMaxHeader;
}

/// Says in words what a file is that starts with `bytes`, and what to do with it; null if it is not
/// known. Looks at the first 512 bytes.
inline const char* describe_file(std::string_view bytes) {
  struct Format {
    std::string_view start;
    const char* words;
  };
  static constexpr const char* kPickle =
      "a Python pickle: load it in Python, and save its arrays with np.save()";
  // The later of two rows that both match is never reached.
  static constexpr Format kFormats[] = {
      {"\x1f\x8b", "a gzip file: unpack it first, for example with gunzip < PACKED > UNPACKED"},
      {"\x28\xb5\x2f\xfd",
       "a zstd file: unpack it first, for example with unzstd < PACKED > UNPACKED"},
      {"BZh", "a bzip2 file: unpack it first, for example with bunzip2 < PACKED > UNPACKED"},
      {"\xfd\x37zXZ", "an xz file: unpack it first, for example with unxz < PACKED > UNPACKED"},
      {"\x89HDF\r\n\x1a\n", "an HDF5 file: read it with h5py, and save its arrays with np.save()"},
      {"MATLAB 5.0 MAT-file",
       "a MATLAB file: read it with scipy.io.loadmat(), and save its arrays with np.save()"},
      {"MATLAB 7.3 MAT-file",
       "a MATLAB 7.3 file, which is HDF5: read it with h5py, and save its arrays with np.save()"},
      {"\x80\x02\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.", kTorchFile},  // before PyTorch 1.6
      {"\x80\x02", kPickle},
      {"\x80\x03", kPickle},
      {"\x80\x04\x95", kPickle},
      {"\x80\x05\x95", kPickle},
      {"\x89PNG\r\n\x1a\n", "a PNG image"},
      {"\xff\xd8\xff", "a JPEG image"},
  };
  bytes = bytes.substr(0, kSignatureSize);
  if (starts_with(bytes, "PK\x03\x04") || starts_with(bytes, "PK\x05\x06")) {
    return describe_zip(bytes);
  }
  for (const Format& format : kFormats) {
    if (starts_with(bytes, format.start)) return format.words;
  }
  if (is_safetensors(bytes)) {
    return "a safetensors file: load it with safetensors.numpy, and save its arrays with np.save()";
  }
  return describe_text(bytes);
}

/// For a message about a file of another format: what the file is, after a semicolon.
inline std::string looks_like(std::string_view bytes) {
  const char* const words = describe_file(bytes);
  return words == nullptr ? std::string() : std::string("; it looks like ") + words;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_FORMAT_SIGNATURE_HPP_
