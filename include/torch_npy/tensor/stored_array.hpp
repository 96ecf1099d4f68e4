#ifndef TORCH_NPY_TENSOR_STORED_ARRAY_HPP_
#define TORCH_NPY_TENSOR_STORED_ARRAY_HPP_

/// @file
/// StoredArray: an array whose header has been read, wherever it is stored.

#include <ATen/core/Tensor.h>
#include <torch/ordered_dict.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/read_header.hpp>
#include <torch_npy/io/store.hpp>
#include <torch_npy/io/stream.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/unreadable.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// An array of which only the header has been read: in a file, a member of an archive, memory, a
/// stream, or any other ByteSource. Made by open() and NpzFile::array(). It keeps open what it
/// reads from, so it may outlive the NpzFile, and reads the old content if the file is replaced. If
/// the file is changed in place (another size or time of modification), loading throws Error (Io).
/// Copies share it and cost a copy of the header.
///
/// Safe from any thread, except for an array in a stream, which can be loaded once. Errors have the
/// path of the file, and name the member of an archive.
class StoredArray {
 public:
  // Never moved: a moved-from one could not load.

  /// Shares what the other one reads from.
  StoredArray(const StoredArray&) = default;
  /// As the copy constructor.
  StoredArray& operator=(const StoredArray&) = default;

  /// dtype, shape and order of the array. data_offset counts from the start of the array.
  const Header& header() const& noexcept { return header_; }
  /// The same for a temporary.
  Header header() && { return std::move(header_); }
  /// Its dtype in the file.
  const DType& dtype() const& noexcept { return header_.dtype; }
  /// The same for a temporary.
  DType dtype() && { return std::move(header_.dtype); }
  /// Its shape in the file; empty for a 0-d array.
  const std::vector<std::int64_t>& shape() const& noexcept { return header_.shape; }
  /// The same for a temporary.
  std::vector<std::int64_t> shape() && { return std::move(header_.shape); }

  /// What it was opened from, in UTF-8: a path, and after a slash the member of an archive
  /// ("medmnist.npz/train_images.npy"). Empty for memory and streams.
  std::string name() const { return with_member(detail::name_of(path_)); }
  /// The same without the folder of the file. @private
  std::string internal_short_name() const { return with_member(path_.filename().generic_string()); }

  /// Loads the array, as load() of a path does. Throws Error, as load(), and BadZip for a damaged
  /// member of an archive; InvalidArgument for mmap(true) if the array is neither in a file nor
  /// deflated, and for an array in a stream that has been loaded before.
  [[nodiscard]] at::Tensor load(const LoadOptions& options = {}) const {
    return internal_with_array([&](detail::OpenArray& array) {
      detail::require_device(options.device());
      detail::require_file_to_map(array.source, options);
      return detail::load_array(array, options);
    });
  }

  /// Loads the array into an existing tensor, as load_into() of a path does.
  void load_into(const at::Tensor& out, const LoadOptions& options = {}) const {
    internal_with_array([&](detail::OpenArray& array) {
      detail::require_fillable(out);
      detail::require_file_to_map(array.source, options);
      detail::load_array_into(out, array, options);
    });
  }

  /// Loads a structured array: a tensor for each field, as load_fields() of a path does.
  [[nodiscard]] torch::OrderedDict<std::string, at::Tensor> load_fields(
      const LoadOptions& options = {}) const {
    return fields_of(nullptr, options);
  }

  /// The same for the fields with these names, in the order of the names.
  [[nodiscard]] torch::OrderedDict<std::string, at::Tensor> load_fields(
      const std::vector<std::string>& fields, const LoadOptions& options = {}) const {
    return fields_of(&fields, options);
  }

  /// Whether load() with these options and mmap(true) maps the array. If not, load() reads it, or
  /// throws Error (InvalidArgument) if it is not in a file. Throws Error: as load() does before it
  /// reads.
  bool can_map(const LoadOptions& options = {}) const {
    return internal_with_array([&](detail::OpenArray& array) {
      const detail::LoadPlan plan = array.plan(options);
      return detail::can_map(plan, options, array.source.internal_traits().range);
    });
  }

  // Used by the datasets.

  /// Calls `work`, and adds path and member to an Error without a path. @private
  template <class Work>
  auto internal_about(const Work& work) const -> decltype(work()) {
    return detail::with_path(path_, [&] {
      return member_.empty() ? work() : detail::with_part("member", member_, work);
    });
  }

  /// Calls `use` with the open array. @private
  template <class Use>
  auto internal_with_array(const Use& use) const
      -> decltype(use(std::declval<detail::OpenArray&>())) {
    return internal_about([&] {
      if (source_->version() != version_) {
        throw Error(ErrorCode::Io, "it has changed since open(): open it again");
      }
      detail::OpenArray array(*source_, *first_, header_);
      return use(array);
    });
  }

 private:
  friend class NpzFile;
  friend StoredArray open(const std::filesystem::path&, const LoadOptions&);
  friend StoredArray open(std::shared_ptr<const ByteSource>, const LoadOptions&);

  /// `member` is the name of a member of an archive; else empty.
  StoredArray(std::shared_ptr<const ByteSource> source, std::filesystem::path path,
              std::string member, const LoadOptions& options)
      : source_(std::move(source)), path_(std::move(path)), member_(std::move(member)) {
    const auto first = std::make_shared<detail::FirstBytes>();
    internal_about([&] {
      version_ = source_->version();
      header_ = detail::read_header(*source_, options.max_header_size(), *first);
    });
    first_ = first;
  }

  std::string with_member(const std::string& path) const {
    return member_.empty() || path.empty() ? path + member_ : path + '/' + member_;
  }

  torch::OrderedDict<std::string, at::Tensor> fields_of(const std::vector<std::string>* fields,
                                                        const LoadOptions& options) const {
    std::vector<Error> skipped;
    auto loaded = internal_with_array([&](detail::OpenArray& array) {
      detail::require_device(options.device());
      return detail::load_fields_of(array, fields, options, skipped);
    });
    detail::report_skipped(skipped, options, path_, member_);
    return loaded;
  }

  std::shared_ptr<const ByteSource> source_;
  std::shared_ptr<const detail::FirstBytes> first_;
  std::filesystem::path path_;
  std::string member_;
  std::string version_;
  Header header_;
};

/// Opens an .npy file and reads its header. Of the options only max_header_size() is used. The file
/// stays open as long as the StoredArray or a copy exists. Throws Error: what read_header() throws.
/// Safe from any thread.
[[nodiscard]] inline StoredArray open(const std::filesystem::path& path,
                                      const LoadOptions& options = {}) {
  auto file =
      detail::with_path(path, [&] { return std::make_shared<const detail::NamedFile>(path); });
  return StoredArray(std::move(file), path, {}, options);
}

/// The same for an array in any source. Errors have source->name() as their path. Throws Error:
/// InvalidArgument for a null pointer, what parse_header() throws, and what the source throws.
[[nodiscard]] inline StoredArray open(std::shared_ptr<const ByteSource> source,
                                      const LoadOptions& options = {}) {
  if (source == nullptr)
    throw Error(ErrorCode::InvalidArgument, "open(): the pointer to the ByteSource is null");
  std::filesystem::path path = detail::path_of(source->name());
  return StoredArray(std::move(source), std::move(path), {}, options);
}

/// The same for an object of a store. Two requests: for its size, and for its first 16 KiB. The
/// rest is read when it is loaded, whole, or only what region() needs. Throws Error: NotFound, Io,
/// and what parse_header() throws.
[[nodiscard]] inline StoredArray open(const Store& store, const std::string& name,
                                      const LoadOptions& options = {}) {
  return open(store.object(name), options);
}

/// The same for the array at the position of a stream, which has to outlive the StoredArray. It can
/// be loaded once, which leaves the stream right after the array; nobody else may use the stream
/// before that. Throws Error: what parse_header() throws, and Io if the stream fails.
[[nodiscard]] inline StoredArray open(std::istream& stream, const LoadOptions& options = {}) {
  return open(std::make_shared<const detail::StreamSource>(stream), options);
}

/// The same for the array at the start of `size` bytes of memory, which are not copied and have to
/// outlive the StoredArray. A tensor that load_into() fills must not overlap them. Throws Error:
/// what parse_header() throws.
[[nodiscard]] inline StoredArray open_bytes(const void* data, std::size_t size,
                                            const LoadOptions& options = {}) {
  return open(std::make_shared<const detail::MemorySource>(data, size), options);
}

/// Memory is opened by open_bytes(): a char pointer is a path for open().
template <class Size, std::enable_if_t<std::is_integral_v<Size>, int> = 0>
StoredArray open(const void* data, Size size) = delete;

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_STORED_ARRAY_HPP_
