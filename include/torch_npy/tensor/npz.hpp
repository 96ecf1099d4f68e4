#ifndef TORCH_NPY_TENSOR_NPZ_HPP_
#define TORCH_NPY_TENSOR_NPZ_HPP_

/// @file
/// Archives of arrays, .npz.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/ordered_dict.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/array_members.hpp>
#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/zip/codec.hpp>
#include <torch_npy/zip/records.hpp>
#include <torch_npy/zip/writer.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Bytes that several tensors may have together. Safe from any thread.
class Budget {
 public:
  explicit Budget(std::uint64_t bytes) : left_(bytes) {}

  /// Throws Error (TooLarge) if fewer are left.
  void take(std::uint64_t bytes) {
    std::uint64_t left = left_;
    do {
      if (bytes > left) {
        throw Error(ErrorCode::TooLarge,
                    "with its " + counted(bytes, "byte") +
                        " the arrays of the archive are over the limit for all of them together, "
                        "max_bytes()");
      }
    } while (!left_.compare_exchange_weak(left, left - bytes));
  }

 private:
  std::atomic<std::uint64_t> left_;
};

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

inline PackedArray pack(const std::string& name, const at::Tensor& tensor, bool compressed) {
  if (const std::string fault = fault_of_member(name); !fault.empty()) {
    throw Error(ErrorCode::InvalidArgument,
                "not a valid name for a member of an archive: " + fault);
  }
  const ZipCodec& codec = *zip_codec().load();
  Saved array(tensor);
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

}  // namespace detail

/// An .npz archive, as np.savez and np.savez_compressed write it, open for reading. Its directory
/// is read once; after that only what is asked for is read. An archive of at most 128 KiB is read
/// whole, with one read, and stays in memory. Safe from any thread. Other programs may replace the
/// file meanwhile: the old one is read. Throws Error with the path of the archive
/// and the name of the member, and LibTorch's own exceptions if a device is out of memory.
///
/// Deflated arrays need libdeflate: link torch_npy::npz, or define TORCH_NPY_WITH_LIBDEFLATE and
/// link libdeflate. Without it, loading one throws Error (InvalidArgument).
class NpzFile {
 public:
  /// Reads the directory, n members in O(n log n), and the first bytes of each member whose name
  /// does not end in ".npy". Throws Error: NotFound, Io, Exhausted, OutOfMemory, NotNpy (not an
  /// archive), Truncated (an empty file), BadZip (an archive that is damaged or contradicts itself:
  /// overlapping members, two members of one name, names that lead out of a folder).
  explicit NpzFile(const std::filesystem::path& path)
      : NpzFile(path, detail::with_path(
                          path, [&] { return std::make_shared<const detail::NamedFile>(path); })) {}

  /// An archive in any source. Errors have source->name() as their path. Throws Error:
  /// InvalidArgument for a null pointer, what the other constructor throws, and what the source
  /// throws.
  explicit NpzFile(std::shared_ptr<const ByteSource> source)
      : NpzFile(source == nullptr ? std::filesystem::path() : detail::path_of(source->name()),
                source) {}

  /// Names of the arrays in the order of the archive, without ".npy". A member is not an array if
  /// its name does not end in ".npy" and its content does not start like an .npy file.
  const std::vector<std::string>& names() const& noexcept { return arrays_.names(); }
  /// The same for a temporary.
  std::vector<std::string> names() && { return std::move(arrays_.names()); }

  /// Whether there is an array of this name, with or without ".npy" at its end. Reads nothing.
  bool contains(const std::string& name) const { return arrays_.find(name) != nullptr; }

  /// Whether an array is deflated; otherwise it is stored as it is. Throws Error (NotFound).
  bool is_deflated(const std::string& name) const { return at(name).method == detail::kDeflated; }

  /// Opens one array, by its name with or without ".npy", and reads its header: at most 16 KiB of
  /// the file, and 160 KiB of a deflated array, unless the header is longer. The StoredArray keeps
  /// the archive open. Throws Error: NotFound, Io, BadZip, InvalidArgument (deflated, and no
  /// libdeflate), and what parse_header() throws.
  [[nodiscard]] StoredArray array(const std::string& name, const LoadOptions& options = {}) const {
    const detail::ZipMember& member = at(name);
    return StoredArray(about(member, [&] { return detail::source_of(arrays_.archive(), member); }),
                       path_, member.name, options);
  }

  /// array(name), as the NpzFile of np.load has it.
  [[nodiscard]] StoredArray operator[](const std::string& name) const { return array(name); }

  /// The header of an array, as array(name).header(). At most max_header_size characters.
  Header header(const std::string& name, std::uint64_t max_header_size = kMaxHeaderSize) const {
    return array(name, LoadOptions().max_header_size(max_header_size)).header();
  }

  /// Loads one array, by its name with or without ".npy". The CRC of an array that is read whole is
  /// checked; with region() or a mapping it is not read whole.
  ///
  /// With mmap(true) a stored array is mapped in place, which np.load cannot do. It is read instead
  /// if it is deflated, if it does not start at a multiple of its dtype's size, which save_npz()
  /// ensures and NumPy does not, and if load() of a path would read it, too:
  /// `array(name).can_map(options)` tells.
  ///
  /// A deflated array is unpacked whole, also for a region(). That takes the memory of its packed
  /// bytes in addition to the tensor, and of its unpacked bytes if the tensor cannot use them as
  /// they are. max_bytes() limits both. Throws Error: NotFound, BadZip, and what load() throws.
  [[nodiscard]] at::Tensor load(const std::string& name, const LoadOptions& options = {}) const {
    return with_array(at(name), options,
                      [&](detail::OpenArray& array) { return detail::load_array(array, options); });
  }

  /// Loads a structured array: a tensor for each field, as load_fields() of a path does. Throws
  /// Error: NotFound, BadZip, and what load_fields() throws.
  [[nodiscard]] torch::OrderedDict<std::string, at::Tensor> load_fields(
      const std::string& name, const LoadOptions& options = {}) const {
    return with_array(at(name), options, [&](detail::OpenArray& array) {
      return detail::load_fields_of(array, options);
    });
  }

 private:
  friend torch::OrderedDict<std::string, at::Tensor> load_npz(const std::filesystem::path&,
                                                              const LoadOptions&);

  NpzFile(const std::filesystem::path& path, const std::shared_ptr<const ByteSource>& source)
      : path_(path), arrays_(detail::with_path(path, [&] {
          if (source == nullptr) {
            throw Error(ErrorCode::InvalidArgument,
                        "NpzFile: the pointer to the ByteSource is null");
          }
          return detail::ArrayMembers(detail::open_archive(source));
        })) {}

  template <class Work>
  auto about(const detail::ZipMember& member, const Work& work) const -> decltype(work()) {
    return detail::with_path(path_, [&] { return detail::with_part("member", member.name, work); });
  }

  /// Calls `use` with the array in a member.
  template <class Use>
  auto with_array(const detail::ZipMember& member, const LoadOptions& options, const Use& use) const
      -> decltype(use(std::declval<detail::OpenArray&>())) {
    return about(member, [&] {
      detail::require_device(options.device());
      return detail::with_member(arrays_.archive(), member, [&](const ByteSource& source) {
        return detail::with_array(source, options, use);
      });
    });
  }

  const detail::ZipMember& at(const std::string& name) const {
    return detail::with_path(path_, [&]() -> const detail::ZipMember& { return arrays_.at(name); });
  }

  std::filesystem::path path_;
  detail::ArrayMembers arrays_;
};

/// Loads all arrays of an .npz archive, several at a time, in the order of the archive. Members
/// that are not arrays are skipped. See NpzFile::load() for mmap(true), and to load single arrays.
/// threads(0) uses as many threads as there are processors. region() is that of each array: one
/// that has fewer axes or is too short throws Error (InvalidArgument), which names it. max_bytes()
/// limits all arrays together. If several arrays cannot be loaded, the Error of the first of them
/// is thrown. Throws Error: what NpzFile and its load() throw. Safe from any thread.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const std::filesystem::path& path, const LoadOptions& options = {}) {
  detail::with_path(path, [&] { detail::require_device(options.device()); });
  const NpzFile file(path);
  const std::size_t count = file.names().size();
  const std::size_t threads =
      options.threads() != 0 ? options.threads() : detail::processor_count();
  LoadOptions one = options;
  one.threads((std::max)(threads / (std::max)(count, std::size_t{1}), std::size_t{1}));
  std::vector<at::Tensor> tensors(count);
  detail::Budget budget(options.max_bytes());
  detail::for_each_index(count, threads, [&](std::size_t i) {
    tensors[i] = file.with_array(file.arrays_[i], one, [&](detail::OpenArray& array) {
      const detail::LoadPlan plan = array.plan(one);
      budget.take(detail::memory_to_load(array, plan, one));
      return detail::load_on_host(array, plan, one);
    });
  });
  torch::OrderedDict<std::string, at::Tensor> arrays("array");
  arrays.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    arrays.insert(file.names()[i], detail::on_device(std::move(tensors[i]), options));
  }
  return arrays;
}

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
  const auto about = [&](std::size_t i, const auto& work) {
    detail::with_part("array", arrays[i].key(), work);
  };
  detail::with_path(path, [&] {
    if (options.compressed() && detail::zip_codec().load()->deflate == nullptr) {
      detail::throw_no_deflate();
    }
    // An OrderedDict made from an initializer list does not check for duplicates.
    std::vector<std::string_view> names;
    for (const auto& array : arrays) names.push_back(array.key());
    if (const auto duplicate = detail::first_duplicate(std::move(names))) {
      throw Error(ErrorCode::InvalidArgument,
                  "two arrays have the name " + detail::shown(*duplicate));
    }
    detail::AtomicFile file(path, options.sync());
    detail::ZipWriter zip(file);
    for (std::size_t first = 0; first < arrays.size();) {
      // Packed in parallel: an array for each processor, and small ones up to some total size.
      constexpr std::size_t kSmall = std::size_t{32} << 20;
      const std::size_t processors = options.compressed() ? detail::processor_count() : 1;
      std::size_t end = first;
      for (std::size_t bytes = 0; end < arrays.size() && (end < first + processors ||
                                                          (options.compressed() && bytes < kSmall));
           ++end) {
        const at::Tensor& tensor = arrays[end].value();
        if (tensor.defined() && !tensor.is_nested())
          bytes +=
              static_cast<std::size_t>(tensor.numel()) * c10::elementSize(tensor.scalar_type());
      }
      std::vector<detail::PackedArray> packed(end - first);
      detail::for_each_index(packed.size(), processors, [&](std::size_t i) {
        const auto& array = arrays[first + i];
        about(first + i, [&] {
          packed[i] = detail::pack(array.key() + ".npy", array.value(), options.compressed());
        });
      });
      for (const detail::PackedArray& array : packed) array.add_to(zip);
      first = end;
    }
    zip.finish();
    file.commit();
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_NPZ_HPP_
