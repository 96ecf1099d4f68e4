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
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/zip/codec.hpp>
#include <torch_npy/zip/deflate.hpp>
#include <torch_npy/zip/reader.hpp>
#include <torch_npy/zip/records.hpp>
#include <torch_npy/zip/writer.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A stored member, read in order from its first byte to its last, and its CRC on the way.
class CheckedSource final : public Source {
 public:
  CheckedSource(const FilePart& part, const FileStart& start) : source_(part, start) {}

  bool is_concurrent() const override { return false; }

  void read(void* out, std::size_t size, std::uint64_t offset) const override {
    pass_over(offset);
    // Each piece is looked at while it is in the processor's cache.
    constexpr std::size_t kPiece = std::size_t{128} << 10;
    char* at = static_cast<char*>(out);
    while (size != 0) {
      const std::size_t piece = (std::min)(size, kPiece);
      source_.read(at, piece, position_);
      crc_ = crc32_(crc_, at, piece);
      position_ += piece;
      at += piece;
      size -= piece;
    }
  }

  /// The CRC of all bytes before `offset`, from which on nothing has been read yet.
  std::uint32_t crc_up_to(std::uint64_t offset) const {
    pass_over(offset);
    return crc_;
  }

 private:
  void pass_over(std::uint64_t offset) const {
    char skipped[4096];
    while (position_ < offset) {
      read(skipped,
           static_cast<std::size_t>(std::min<std::uint64_t>(sizeof skipped, offset - position_)),
           position_);
    }
  }

  FileSource<FilePart> source_;
  std::uint32_t (*crc32_)(std::uint32_t, const void*, std::size_t) = zip_codec().load()->crc32;
  mutable std::uint64_t position_ = 0;
  mutable std::uint32_t crc_ = 0;
};

inline at::Tensor load_stored(const FilePart& part, const FileStart& start, const ZipMember& member,
                              const LoadPlan& plan, const LoadOptions& options) {
  if (can_map(plan, options, part.begin()) || options.rows()) {
    return load_file(part, start, plan, options);
  }
  const CheckedSource source(part, start);
  at::Tensor out = read_tensor(source, plan, options);
  ZipArchive::require_crc(member, source.crc_up_to(part.size()));
  return out;
}

/// A deflated array is unpacked whole, and where that will do, the tensor lies over what came of
/// it. `start` holds its header.
inline at::Tensor load_deflated(const ZipArchive& archive, const ZipMember& member,
                                std::string_view start, const LoadPlan& plan,
                                const LoadOptions& options) {
  if (member.size - start.size() > options.max_bytes()) {
    throw Error(ErrorCode::TooLarge, "a deflated array is unpacked whole, and " +
                                         counted(member.size - start.size(), "byte") +
                                         " are over the limit of " +
                                         std::to_string(options.max_bytes()) + ", max_bytes()");
  }
  const auto size = static_cast<std::size_t>(member.size);
  at::Tensor bytes =
      empty_host(size, c10::kByte, {static_cast<std::int64_t>(size)}, {1}, /*pinned=*/false);
  char* const data = static_cast<char*>(bytes.data_ptr());
  archive.inflate(member, data);
  if (std::memcmp(data, start.data(), start.size()) != 0) {
    throw Error(ErrorCode::Io, "the file changed while it was read");
  }
  // Where there is more than the array that was asked for, the tensor is not to keep it in memory.
  const auto address = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(data));
  if (can_be_viewed(plan, address) && plan.offset + plan.bytes == member.size && !options.rows() &&
      !pins_memory(options)) {
    return tensor_over(std::move(bytes), data + plan.offset, plan.bytes, plan.type, plan.sizes,
                       plan.strides);
  }
  return read_tensor(BytesSource(data), plan, options);
}

/// The header of a member, and its bytes as far as they had to be read for that.
inline Header header_of(const ZipArchive& archive, const ZipMember& member,
                        std::uint64_t max_header_size, std::string& start) {
  start = archive.start(member, kFirstRead);
  const auto extent = parse_prefix(start.data(), start.size(), max_header_size);
  if (extent.end() > start.size()) {
    if (extent.end() > member.size) throw header_cut_short(extent, member.size);
    start = archive.start(member, static_cast<std::size_t>(extent.end()));
  }
  return parse_text(start.data(), extent, max_header_size);
}

/// Gives `use` the header of a member, its size, and a way to load it by a plan and options: what
/// these do not allow is to take no memory.
template <class Use>
auto with_member(const ZipArchive& archive, const ZipMember& member, const LoadOptions& options,
                 const Use& use) {
  if (member.method == kStored) {
    const FilePart part = archive.packed(member);
    FileStart start;
    read_start(part, options.max_header_size(), start);
    return use(std::move(start.header), part.size(),
               [&](const LoadPlan& plan, const LoadOptions& how) {
                 return load_stored(part, start, member, plan, how);
               });
  }
  std::string start;
  Header header = header_of(archive, member, options.max_header_size(), start);
  start.resize(static_cast<std::size_t>(header.data_offset));
  return use(std::move(header), member.size, [&](const LoadPlan& plan, const LoadOptions& how) {
    return load_deflated(archive, member, start, plan, how);
  });
}

/// Bytes that several tensors may have together. Any thread may take some.
class Budget {
 public:
  explicit Budget(std::uint64_t bytes) : left_(bytes) {}

  /// Throws Error (TooLarge) where there are not so many left.
  void take(std::uint64_t bytes) {
    std::uint64_t left = left_;
    do {
      if (bytes > left) {
        throw Error(ErrorCode::TooLarge, counted(bytes, "byte") +
                                             ", and the arrays of the archive would be over the "
                                             "limit of all together, max_bytes()");
      }
    } while (!left_.compare_exchange_weak(left, left - bytes));
  }

 private:
  std::atomic<std::uint64_t> left_;
};

/// An array as a member of an archive.
struct PackedArray {
  ZipMember member;
  std::string front;  ///< the header, or all of it deflated
  at::Tensor data;    ///< what follows, where it is stored

  void add_to(ZipWriter& zip) const {
    if (!data.defined()) return zip.add(member, {front});
    zip.add(member, {front, {static_cast<const char*>(data.data_ptr()), data.nbytes()}});
  }
};

inline PackedArray pack(const std::string& name, const at::Tensor& tensor, bool compressed) {
  if (const std::string fault = fault_of_name(name); !fault.empty()) {
    throw Error(ErrorCode::InvalidArgument, "not a name for a member of an archive: " + fault);
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
    std::string whole;  // in one piece, as libdeflate takes it
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

/// An .npz archive, as np.savez and np.savez_compressed write it, open for reading: its directory
/// is read once, then what is asked for and nothing else. All of it may be called from any number
/// of threads at once. What it throws is an Error that names the archive and the member,
/// std::bad_alloc, or what LibTorch throws for want of memory. Other code may replace the file
/// meanwhile; what is read is the old one.
///
/// Deflated arrays take libdeflate: link torch_npy::npz, or define TORCH_NPY_WITH_LIBDEFLATE.
/// Without it, loading one is an Error (InvalidArgument).
class NpzFile {
 public:
  /// Reads the directory, n members in O(n log n). Of a member whose name does not end
  /// in ".npy" the first bytes are read, too. Throws Error: NotFound, Io, Exhausted, NotNpy (no
  /// archive), Truncated (an empty file), BadZip (an archive that is damaged or contradicts itself:
  /// overlapping members, two of one name, names that lead out of a folder).
  explicit NpzFile(const std::filesystem::path& path)
      : path_(path), archive_(detail::with_path(path, [&] { return detail::ZipArchive(path); })) {
    for (const detail::ZipMember& member : archive_.members()) {
      const auto name = array_name(member);
      if (!name) continue;
      if (!indices_.emplace(*name, arrays_.size()).second) {
        throw Error(ErrorCode::BadZip,
                    "bad archive: two arrays have the name " + detail::in_quotes(*name), 0, path_);
      }
      names_.push_back(*name);
      arrays_.push_back(&member);
    }
  }

  /// The arrays, in the order of the archive, without ".npy". Members that are no arrays are left
  /// out: those whose name lacks that ending, and whose content starts in another way.
  const std::vector<std::string>& names() const& noexcept { return names_; }
  /// The same, of an NpzFile that goes at once.
  std::vector<std::string> names() && { return std::move(names_); }

  /// Whether there is such an array, with or without ".npy" behind its name. Reads nothing.
  bool contains(const std::string& name) const { return find(name) != nullptr; }

  /// The header of an array; data_offset counts from the array's own start. Reads 16 KiB at most,
  /// of a deflated one 160 KiB, and more only where the header is longer. Throws Error: NotFound,
  /// Io, BadZip, InvalidArgument (deflated, and no libdeflate), and what parse_header() throws.
  Header header(const std::string& name, std::uint64_t max_header_size = kMaxHeaderSize) const {
    const detail::ZipMember& member = at(name);
    return about(member, [&] {
      std::string start;
      return detail::header_of(archive_, member, max_header_size, start);
    });
  }

  /// Whether an array is deflated, or else stored as it is. Throws Error (NotFound).
  bool is_deflated(const std::string& name) const { return at(name).method == detail::kDeflated; }

  /// Loads one array, with or without ".npy" behind its name. The CRC of what is read whole is
  /// checked; with rows() or a mapping nothing is read whole.
  ///
  /// With mmap(true) a stored array is a view of the archive, which np.load cannot give. It is read
  /// where it does not lie at a multiple of its dtype's alignment, as arrays in NumPy's own
  /// archives mostly don't (save_npz() sees to it), where it is deflated, and where load() would
  /// read it, too.
  ///
  /// A deflated array is unpacked whole, also for some rows() of it: that takes the memory of its
  /// packed bytes on top of the tensor, and that of its unpacked bytes where the tensor cannot lie
  /// over these. max_bytes() bounds both.
  /// Throws Error: NotFound, BadZip, and what load() throws.
  [[nodiscard]] at::Tensor load(const std::string& name, const LoadOptions& options = {}) const {
    detail::require_device(options.device());
    detail::Budget budget(UINT64_MAX);
    return detail::on_device(load_on_host(at(name), options, budget), options);
  }

  /// Loads a structured array: a tensor for each field, as load_fields() has it for a file. Throws
  /// Error: NotFound, BadZip, and what that throws.
  [[nodiscard]] torch::OrderedDict<std::string, at::Tensor> load_fields(
      const std::string& name, const LoadOptions& options = {}) const {
    detail::require_device(options.device());
    const auto fields = [&](Header&& header, std::uint64_t size, const auto& load) {
      return detail::fields_of(std::move(header), options, size, load);
    };
    const detail::ZipMember& member = at(name);
    return about(member, [&] { return detail::with_member(archive_, member, options, fields); });
  }

 private:
  friend torch::OrderedDict<std::string, at::Tensor> load_npz(const std::filesystem::path&,
                                                              const LoadOptions&);

  static constexpr std::string_view kEnding = ".npy";

  static bool ends_as_array(const std::string& name) {
    return name.size() >= kEnding.size() &&
           name.compare(name.size() - kEnding.size(), kEnding.size(), kEnding) == 0;
  }

  template <class Work>
  auto about(const detail::ZipMember& member, const Work& work) const -> decltype(work()) {
    return detail::with_path(path_, [&] { return detail::with_part("member", member.name, work); });
  }

  at::Tensor load_on_host(const detail::ZipMember& member, const LoadOptions& options,
                          detail::Budget& budget) const {
    return about(member, [&] {
      return detail::with_member(
          archive_, member, options, [&](Header&& header, std::uint64_t size, const auto& load) {
            const auto plan = detail::make_plan(std::move(header), options, size);
            budget.take(plan.bytes);
            if (member.method == detail::kDeflated && !detail::can_be_viewed(plan, 0)) {
              budget.take(size);  // what it unpacks to is there besides
            }
            return load(plan, options);
          });
    });
  }

  /// None for what is no array. What cannot be looked into is said to be one: the Error comes when
  /// it is loaded.
  std::optional<std::string> array_name(const detail::ZipMember& member) const {
    const std::string& name = member.name;
    if (ends_as_array(name)) return name.substr(0, name.size() - kEnding.size());
    try {
      if (archive_.start(member, detail::kMagicSize) != detail::kMagic) return std::nullopt;
    } catch (const Error&) {
    }
    return name;
  }

  /// The array of that name, or else the one whose member has it; null where there is neither.
  const detail::ZipMember* find(const std::string& name) const {
    auto found = indices_.find(name);
    if (found == indices_.end() && ends_as_array(name)) {
      found = indices_.find(name.substr(0, name.size() - kEnding.size()));
    }
    if (found == indices_.end()) return nullptr;
    const detail::ZipMember* const member = arrays_[found->second];
    return found->first == name || member->name == name ? member : nullptr;
  }

  /// Members that are no arrays are found, too: loading tells what they are.
  const detail::ZipMember& at(const std::string& name) const {
    if (const detail::ZipMember* const member = find(name)) return *member;
    for (const detail::ZipMember& member : archive_.members()) {
      if (member.name == name) return member;
    }
    std::string there;
    for (const std::string& other : names_) {
      there += (there.empty() ? "; there are " : ", ") + detail::in_quotes(other);
      if (there.size() > 200) {
        there += ", ...";
        break;
      }
    }
    throw Error(ErrorCode::NotFound, "no array " + detail::in_quotes(name) + there, 0, path_);
  }

  std::filesystem::path path_;
  detail::ZipArchive archive_;
  std::vector<std::string> names_;
  std::vector<const detail::ZipMember*> arrays_;  // of names_
  std::unordered_map<std::string, std::size_t> indices_;
};

/// Loads all arrays of an .npz archive, several at a time, in the order of the archive. Members
/// that are no arrays are passed over. See NpzFile for what mmap(true) does, and to load single
/// ones. threads(0) takes as many as there are processors. max_bytes() bounds all arrays together.
/// If several cannot be loaded, the Error of the first of them is thrown. Throws Error: what
/// NpzFile and its load() throw. Safe from any thread.
[[nodiscard]] inline torch::OrderedDict<std::string, at::Tensor> load_npz(
    const std::filesystem::path& path, const LoadOptions& options = {}) {
  detail::require_device(options.device());
  const NpzFile file(path);
  const std::size_t count = file.names_.size();
  const std::size_t threads =
      options.threads() != 0 ? options.threads() : detail::processor_count();
  LoadOptions one = options;
  one.threads((std::max)(threads / (std::max)(count, std::size_t{1}), std::size_t{1}));
  std::vector<at::Tensor> tensors(count);
  detail::Budget budget(options.max_bytes());
  detail::for_each_index(count, threads, [&](std::size_t i) {
    tensors[i] = file.load_on_host(*file.arrays_[i], one, budget);
  });
  torch::OrderedDict<std::string, at::Tensor> arrays("array");
  arrays.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    arrays.insert(file.names_[i], detail::on_device(std::move(tensors[i]), options));
  }
  return arrays;
}

/// Saves arrays as np.savez does, each under its name and ".npy", for NumPy and any program that
/// reads zip archives; with zip64 only where something passes 4 GiB. A stored array begins at a
/// multiple of 64 bytes and so can be mapped. Tensors are taken, and the file appears, as save()
/// has it: whole or not at all. Equal arrays give equal files. compressed() deflates as many arrays
/// at a time as there are processors, and takes up to twice their memory. Throws Error: what save()
/// throws, and InvalidArgument for a name that is not UTF-8, or no member can have, for two arrays
/// of one name, and for compressed() without libdeflate. Safe from any thread.
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
    // An initializer list does not look for them, as insert() does.
    std::unordered_set<std::string_view> names;
    for (const auto& array : arrays) {
      if (names.insert(array.key()).second) continue;
      throw Error(ErrorCode::InvalidArgument,
                  "two arrays have the name " + detail::shown(array.key()));
    }
    detail::AtomicFile file(path, options.sync());
    detail::ZipWriter zip(file);
    for (std::size_t first = 0; first < arrays.size();) {
      // Packed together: an array for each processor, and small ones up to some size.
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
