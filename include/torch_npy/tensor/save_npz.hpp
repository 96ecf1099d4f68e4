#ifndef TORCH_NPY_TENSOR_SAVE_NPZ_HPP_
#define TORCH_NPY_TENSOR_SAVE_NPZ_HPP_

/// @file
/// Saves tensors as archives of arrays, .npz.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/ordered_dict.h>

#include <cstddef>
#include <filesystem>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_sink.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/array_members.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/codec.hpp>
#include <torch_npy/zip/records.hpp>
#include <torch_npy/zip/writer.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// An array packed as a member of an archive.
struct PackedArray {
  ZipMember member;
  std::string front;  ///< the header, or the whole array deflated
  at::Tensor data;    ///< the data if it is stored

  void add_to(ZipWriter& zip) const {
    if (!data.defined()) return zip.add(member, {front});
    zip.add(member, {front, {static_cast<const char*>(data.data_ptr()), data.nbytes()}});
  }
};

inline PackedArray pack(const std::string& name, Saved array, bool compressed) {
  if (const std::string fault = fault_of_member(name); !fault.empty()) {
    throw Error(ErrorCode::InvalidArgument,
                "not a valid name for a member of an archive: " + fault);
  }
  const ZipCodec& codec = *zip_codec().load();
  const std::size_t size = array.data.nbytes();
  PackedArray packed;
  packed.member.name = name;
  packed.member.size = packed.member.packed = array.header.size() + size;
  packed.member.crc = codec.crc32(0, array.header.data(), array.header.size());
  packed.member.crc = codec.crc32(packed.member.crc, array.data.data_ptr(), size);
  if (compressed) {
    std::string whole;  // libdeflate takes contiguous input
    whole.reserve(array.header.size() + size);
    whole.append(array.header).append(static_cast<const char*>(array.data.data_ptr()), size);
    packed.front = codec.deflate(whole.data(), whole.size());
    if (!packed.front.empty()) {
      packed.member.method = kDeflated;
      packed.member.packed = packed.front.size();
      return packed;
    }
  }
  packed.front = std::move(array.header);
  packed.data = std::move(array.data);
  return packed;
}

inline PackedArray pack(const std::string& name, const at::Tensor& tensor, bool compressed) {
  return pack(name, Saved(tensor), compressed);
}

/// Throws Error (InvalidArgument) for two arrays of one name, and for compressed() without a codec.
inline void require_writable(const torch::OrderedDict<std::string, at::Tensor>& arrays,
                             const SaveNpzOptions& options) {
  if (options.compressed() && zip_codec().load()->deflate == nullptr) throw_no_deflate();
  // An OrderedDict made from an initializer list does not check for duplicates.
  std::vector<std::string_view> names;
  for (const auto& array : arrays) names.push_back(array.key());
  if (const auto duplicate = first_duplicate(std::move(names))) {
    throw Error(ErrorCode::InvalidArgument, "two arrays have the name " + shown(*duplicate));
  }
}

/// The end of the arrays from `first` on that are packed at the same time: one for each processor,
/// and small ones up to some total size.
inline std::size_t end_of_round(const torch::OrderedDict<std::string, at::Tensor>& arrays,
                                std::size_t first, std::size_t processors) {
  constexpr std::size_t kSmall = std::size_t{32} << 20;
  std::size_t end = first;
  for (std::size_t bytes = 0;
       end < arrays.size() && (end < first + processors || (processors > 1 && bytes < kSmall));
       ++end) {
    const at::Tensor& tensor = arrays[end].value();
    if (!tensor.defined() || tensor.is_nested()) continue;
    bytes += static_cast<std::size_t>(tensor.numel()) * c10::elementSize(tensor.scalar_type());
  }
  return end;
}

/// Adds arrays to an archive, in their order.
inline void add_arrays(ZipWriter& zip, const torch::OrderedDict<std::string, at::Tensor>& arrays,
                       const SaveNpzOptions& options) {
  const std::size_t processors = options.compressed() ? processor_count() : 1;
  for (std::size_t first = 0; first < arrays.size();) {
    std::vector<PackedArray> packed(end_of_round(arrays, first, processors) - first);
    for_each_index(packed.size(), processors, [&](std::size_t i) {
      const auto& array = arrays[first + i];
      with_part("array", array.key(), [&] {
        packed[i] = pack(array.key() + std::string(kEnding), array.value(), options.compressed());
      });
    });
    for (const PackedArray& array : packed) array.add_to(zip);
    first += packed.size();
  }
}

}  // namespace detail

/// Saves arrays as np.savez does, each as the member `<name>.npy`, for NumPy and any program that
/// reads zip archives. zip64 is used only if a size or offset exceeds 4 GiB. A stored array starts
/// at a multiple of 64 bytes, so it can be mapped. Takes the tensors that save() takes. The file is
/// written whole or not at all, as by save(). Equal arrays give equal files. compressed() deflates
/// as many arrays at a time as there are processors, and uses up to twice their memory. Throws
/// Error: what save() throws; InvalidArgument for a name that is not UTF-8 or not valid for a
/// member, for two arrays of one name, and for compressed() without libdeflate. Safe from any
/// thread.
inline void save_npz(const std::filesystem::path& path,
                     const torch::OrderedDict<std::string, at::Tensor>& arrays,
                     const SaveNpzOptions& options = {}) {
  detail::with_path(path, [&] {
    detail::require_writable(arrays, options);
    detail::AtomicFile file(path, options.sync());
    detail::ZipWriter zip(file);
    detail::add_arrays(zip, arrays, options);
    zip.finish();
    file.commit();
  });
}

/// Writes the same bytes to a stream, which need not be seekable; sync() has no effect here. Throws
/// Error: Io if the stream accepts fewer bytes, and as above. A failure to write what the stream
/// has buffered shows only when the stream is flushed. Use a stream from one thread at a time.
inline void save_npz(std::ostream& stream,
                     const torch::OrderedDict<std::string, at::Tensor>& arrays,
                     const SaveNpzOptions& options = {}) {
  detail::with_path({}, [&] {
    detail::require_writable(arrays, options);
    detail::StreamSink sink(stream);
    detail::ZipWriter zip(sink);
    detail::add_arrays(zip, arrays, options);
    zip.finish();
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_SAVE_NPZ_HPP_
