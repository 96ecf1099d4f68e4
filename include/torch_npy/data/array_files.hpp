#ifndef TORCH_NPY_DATA_ARRAY_FILES_HPP_
#define TORCH_NPY_DATA_ARRAY_FILES_HPP_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The files of an array that is divided among them, or the objects of a store, or one StoredArray.
class ArrayFiles {
 public:
  /// Throws Error (InvalidArgument) if there is none.
  explicit ArrayFiles(std::vector<std::filesystem::path> paths) : paths_(std::move(paths)) {
    if (paths_.empty()) throw Error(ErrorCode::InvalidArgument, "the list of files is empty");
    for (const std::filesystem::path& path : paths_) {
      std::error_code error;  // such as an empty path, which open() refuses
      absolute_.push_back(std::filesystem::absolute(path, error));
      if (error) absolute_.back() = path;
    }
  }
  explicit ArrayFiles(const StoredArray& array) : paths_(1), absolute_(1), array_(array) {
    array.internal_with_array(
        [&](OpenArray& open) { is_remote_ = open.source.internal_traits().is_remote; });
  }
  /// Throws Error (InvalidArgument) if there is none.
  explicit ArrayFiles(const FileList& objects)
      : ArrayFiles(std::vector<std::filesystem::path>(objects)) {
    objects_ = objects;
    is_remote_ = true;
    use_ = objects.fits_cache() ? ObjectUse::Kept : ObjectUse::Parts;
  }

  std::size_t size() const { return paths_.size(); }
  /// Empty for a StoredArray, which keeps its file open.
  const std::filesystem::path& path(std::size_t i) const { return paths_[i]; }
  /// The same file, also if the working directory has changed meanwhile.
  const std::filesystem::path& absolute_path(std::size_t i) const { return absolute_[i]; }

  /// Whether each read() is a request to a store.
  bool is_remote() const { return is_remote_; }

  /// Calls `use` with the array in file `i`.
  void open(std::size_t i, const LoadOptions& options,
            const std::function<void(OpenArray&)>& use) const {
    if (array_) return array_->internal_with_array(use);
    if (objects_) {
      return objects_->about(i, [&] {
        objects_->with_source(i, ObjectUse::Parts,
                              [&](const ByteSource& source) { with_array(source, options, use); });
      });
    }
    with_path(paths_[i], [&] { with_array(File(absolute_[i]), options, use); });
  }

  /// Calls `work`, and adds what is known of file `i` to an Error without a path.
  void about(std::size_t i, const std::function<void()>& work) const {
    if (objects_) return objects_->about(i, work);
    if (!array_) return with_path(paths_[i], work);
    std::optional<Error> known;  // with a path, and the member of an archive
    array_->internal_about([&] {
      try {
        work();
      } catch (const Error& error) {
        if (error.path().empty()) throw;
        known = error;
      }
    });
    if (known) throw Error(*known);
  }

  /// Calls `use` with the bytes of file `i` of a store; again if that may help. Throws Error (Io)
  /// if the object was replaced until then: `use` may have read parts of two contents.
  template <class Use>
  void fetch(std::size_t i, const Use& use) const {
    const auto fetch_from = [&](const ByteSource& source) {
      use(source);
      source.internal_require_unchanged();
    };
    with_retries([&] {
      about(i, [&] {
        if (array_) {
          return array_->internal_with_array([&](OpenArray& open) { fetch_from(open.source); });
        }
        objects_->with_source(i, use_, fetch_from);
      });
    });
  }

  /// Calls `job` with every number less than `count`, with requests of a store at the same time.
  template <class Job>
  void for_each_index(std::size_t count, const Job& job) const {
    if (objects_) return objects_->requests()->for_each_index(count, job);
    for (std::size_t i = 0; i < count; ++i) job(i);
  }

  /// For keys.
  std::string name(std::size_t i) const { return array_ ? array_->name() : name_of(paths_[i]); }

  /// All of them, for messages.
  std::string names() const {
    if (array_) return array_->name();
    const std::string first = shown_path(paths_[0]);
    return size() == 1 ? first : first + " and " + counted(size() - 1, "other file");
  }

  /// A number for the names, without their common folder, and for where each file begins in the
  /// array.
  std::uint64_t hash(const std::function<std::uint64_t(std::size_t)>& begin_of) const {
    if (array_) return hash_of(array_->internal_short_name());
    const FileList files = objects_ ? *objects_ : FileList(paths_);
    const std::size_t common = files.common_folder();
    std::uint64_t all = mix({size()});
    for (std::size_t i = 0; i < size(); ++i) {
      all = mix({all, hash_of(files.name(i) + common), begin_of(i)});
    }
    return all;
  }

 private:
  std::vector<std::filesystem::path> paths_;
  std::vector<std::filesystem::path> absolute_;
  std::optional<FileList> objects_;
  std::optional<StoredArray> array_;
  bool is_remote_ = false;
  ObjectUse use_ = ObjectUse::Parts;  // of the objects, for rows
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_ARRAY_FILES_HPP_
