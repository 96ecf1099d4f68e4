#ifndef TORCH_NPY_TENSOR_NPZ_HPP_
#define TORCH_NPY_TENSOR_NPZ_HPP_

/// @file
/// Reads archives of arrays, .npz.

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <memory>
#include <string>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/io/stream.hpp>
#include <torch_npy/tensor/array_members.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/tensor/unreadable.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/records.hpp>

TORCH_NPY_BEGIN_NAMESPACE

class NpzFile;

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

inline torch::OrderedDict<std::string, at::Tensor> load_arrays(const NpzFile&,
                                                               const std::vector<std::string>*,
                                                               const LoadOptions&);

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
      : NpzFile(detail::with_path(path,
                                  [&] { return std::make_shared<const detail::NamedFile>(path); }),
                path) {}

  /// An archive in any source. Errors have source->name() as their path. Throws Error:
  /// InvalidArgument for a null pointer, what the first constructor throws, and what the source
  /// throws.
  explicit NpzFile(const std::shared_ptr<const ByteSource>& source)
      : NpzFile(source,
                source == nullptr ? std::filesystem::path() : detail::path_of(source->name())) {}

  /// An archive of `size` bytes in memory, which are not copied and have to outlive the NpzFile and
  /// its StoredArrays. Errors have no path. Throws Error: InvalidArgument for a null pointer, and
  /// what the first constructor throws about the content of a file.
  NpzFile(const void* data, std::size_t size)
      : NpzFile(detail::with_path(
                    {}, [&] { return std::make_shared<const detail::MemorySource>(data, size); }),
                std::filesystem::path()) {}

  /// A path in quotes is no archive in memory.
  template <std::size_t N>
  NpzFile(const char (&path)[N], std::size_t) = delete;

  /// The archive between the position of a stream and its end. The stream is read to its end, into
  /// memory: the directory of an archive is at its end. More than `max_bytes` bytes throw Error
  /// (TooLarge). Also throws Error: Io if the stream fails, OutOfMemory, and what the first
  /// constructor throws about the content of a file.
  explicit NpzFile(std::istream& stream, std::uint64_t max_bytes = UINT64_MAX)
      : NpzFile(detail::with_path({}, [&] { return detail::read_to_end(stream, max_bytes); }),
                std::filesystem::path()) {}

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
    return fields_of(name, nullptr, options);
  }

  /// The same for the fields with these names, in the order of the names.
  [[nodiscard]] torch::OrderedDict<std::string, at::Tensor> load_fields(
      const std::string& name, const std::vector<std::string>& fields,
      const LoadOptions& options = {}) const {
    return fields_of(name, &fields, options);
  }

  /// Whether load() of this array with these options and mmap(true) maps it, as
  /// StoredArray::can_map(). Reads its header. Throws Error: what array() and can_map() throw.
  bool can_map(const std::string& name, const LoadOptions& options = {}) const {
    return array(name, options).can_map(options);
  }

  /// Calls `work`, and adds the path of the archive to an Error without one. @private
  template <class Work>
  auto internal_about(const Work& work) const -> decltype(work()) {
    return detail::with_path(path_, work);
  }

 private:
  friend torch::OrderedDict<std::string, at::Tensor> detail::load_arrays(
      const NpzFile&, const std::vector<std::string>*, const LoadOptions&);

  // The path comes second: whether a `const void*` is one cannot be asked with libc++.
  NpzFile(const std::shared_ptr<const ByteSource>& source, const std::filesystem::path& path)
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

  torch::OrderedDict<std::string, at::Tensor> fields_of(const std::string& name,
                                                        const std::vector<std::string>* fields,
                                                        const LoadOptions& options) const {
    const detail::ZipMember& member = at(name);
    std::vector<Error> skipped;
    auto loaded = with_array(member, options, [&](detail::OpenArray& array) {
      return detail::load_fields_of(array, fields, options, skipped);
    });
    detail::report_skipped(skipped, options, path_, member.name);
    return loaded;
  }

  const detail::ZipMember& at(const std::string& name) const {
    return detail::with_path(path_, [&]() -> const detail::ZipMember& { return arrays_.at(name); });
  }

  std::filesystem::path path_;
  detail::ArrayMembers arrays_;
};

namespace detail {

/// The members with these names. Throws Error: NotFound, and InvalidArgument for a member that is
/// named twice.
inline std::vector<const ZipMember*> members_named(const ArrayMembers& arrays,
                                                   const std::vector<std::string>& names) {
  std::vector<const ZipMember*> members;
  std::unordered_set<const ZipMember*> taken;
  for (const std::string& name : names) {
    members.push_back(&arrays.at(name));
    if (taken.insert(members.back()).second) continue;
    throw Error(ErrorCode::InvalidArgument,
                "load_npz() is given the array " + in_quotes(name) + " twice");
  }
  return members;
}

/// For an Error about one of `count` arrays: how to load the archive, or the others. Empty if there
/// are none.
inline const char* way_to_the_rest(const NpzFile& file, const std::vector<std::string>* chosen,
                                   std::size_t count) {
  const bool is_sparse = file.contains("format") && file.contains("shape") && file.contains("data");
  if (chosen == nullptr && is_sparse) {
    return "load_sparse() loads the matrix of an archive of scipy.sparse.save_npz()";
  }
  return count == 1 ? "" : way_to_the_rest(chosen != nullptr);
}

/// load_npz() of the arrays with these names, or of all if there is no list.
inline torch::OrderedDict<std::string, at::Tensor> load_arrays(
    const NpzFile& file, const std::vector<std::string>* chosen, const LoadOptions& options) {
  const std::vector<std::string>& names = chosen != nullptr ? *chosen : file.names();
  const auto members = with_path(file.path_, [&] {
    require_device(options.device());
    if (chosen != nullptr) return members_named(file.arrays_, *chosen);
    file.arrays_.require_arrays();
    return file.arrays_.members();
  });
  const std::size_t count = names.size();
  const std::size_t threads = options.threads() != 0 ? options.threads() : processor_count();
  LoadOptions one = options;
  one.threads((std::max)(threads / (std::max)(count, std::size_t{1}), std::size_t{1}));
  std::vector<at::Tensor> tensors(count);
  Budget budget(options.max_bytes());
  Unreadable unreadable(count, options, [&] { return way_to_the_rest(file, chosen, count); });
  for_each_index(count, threads, [&](std::size_t i) {
    unreadable.load(i, [&] {
      tensors[i] = file.with_array(*members[i], one, [&](OpenArray& array) {
        const LoadPlan plan = array.plan(one);
        budget.take(memory_to_load(array, plan, one));
        return load_on_host(array, plan, one);
      });
    });
  });
  report_skipped(unreadable.skipped(), options, file.path_, {});
  torch::OrderedDict<std::string, at::Tensor> arrays("array");
  arrays.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (unreadable.is_skipped(i)) continue;
    arrays.insert(names[i], on_device(std::move(tensors[i]), options));
  }
  return arrays;
}

}  // namespace detail

/// Loads the arrays with these names, with or without ".npy" at their end, several at a time, in
/// the order of the names and under these names: `load_npz(file, {"a", "b"})`. The other arrays are
/// not looked at. threads(0) uses as many threads as there are processors. region() is that of each
/// array: one that has fewer axes or is too short throws Error (InvalidArgument), which names it.
/// max_bytes() limits all arrays together. If several arrays cannot be loaded, the Error of the
/// first of them is thrown; on_unreadable() skips them instead. Throws Error: InvalidArgument for
/// an array that is named twice, and what NpzFile::load() throws. Safe from any thread.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const NpzFile& file, const std::vector<std::string>& names, const LoadOptions& options = {}) {
  return detail::load_arrays(file, &names, options);
}

/// Loads all arrays of an archive, in its order. Members that are not arrays are skipped. Throws
/// Error as above, and NotNpy if there are members, and none is an array.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const NpzFile& file, const LoadOptions& options = {}) {
  return detail::load_arrays(file, nullptr, options);
}

/// Loads the arrays of an .npz file with these names. Throws Error: what NpzFile throws, and as
/// above.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const std::filesystem::path& path, const std::vector<std::string>& names,
    const LoadOptions& options = {}) {
  return load_npz(NpzFile(path), names, options);
}

/// Loads all arrays of an .npz file: `load_npz(NpzFile(path), options)`.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const std::filesystem::path& path, const LoadOptions& options = {}) {
  return load_npz(NpzFile(path), options);
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_NPZ_HPP_
