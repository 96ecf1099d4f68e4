#ifndef TORCH_NPY_ARROW_HPP_
#define TORCH_NPY_ARROW_HPP_

/// @file
/// arrow::Store: objects in S3, GCS, HDFS and whatever else has a file system of Apache Arrow.
/// Needs Arrow: link torch_npy::arrow. Not part of the single header torch_npy.hpp.

#include <arrow/filesystem/filesystem.h>
#include <arrow/io/interfaces.h>
#include <arrow/result.h>
#include <arrow/status.h>
#include <arrow/util/config.h>
#include <arrow/util/future.h>
#ifdef ARROW_S3
#include <arrow/filesystem/s3fs.h>
#endif

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/object_store.hpp>
#include <torch_npy/io/store.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

#ifdef ARROW_S3
inline void finalize_s3() {
  if (!::arrow::fs::IsS3Initialized() || ::arrow::fs::IsS3Finalized()) return;
  (void)::arrow::fs::FinalizeS3();
}
#endif

/// Arrow's S3 has to be finalized before the program ends, or the program crashes then. And before
/// the static objects that Arrow made until now are destroyed, so this is called after a file
/// system was made, and again after it was used.
inline void finalize_s3_at_exit(const ::arrow::fs::FileSystem& files) {
#ifdef ARROW_S3
  if (files.type_name() == "s3") (void)std::atexit(finalize_s3);
#else
  (void)files;
#endif
}

/// `text` without the credentials in it. Short ones, which test servers have, would be found in
/// other words.
inline std::string without(std::string text, const std::vector<std::string>& credentials) {
  constexpr std::size_t kShortest = 8;
  for (const std::string& credential : credentials) {
    if (credential.size() < kShortest) continue;
    for (std::size_t at = 0; (at = text.find(credential, at)) != text.npos; at += 3) {
      text.replace(at, credential.size(), "***");
    }
  }
  return text;
}

/// What may help against a failure, at the end of its message; empty if there is no advice.
inline std::string store_advice(const std::string& reason) {
  const auto has = [&](const char* word) { return reason.find(word) != reason.npos; };
  if (has("ACCESS_DENIED") || has("Forbidden") || has("INVALID_ACCESS_KEY") ||
      has("INVALID_SIGNATURE") || has("SIGNATURE_DOES_NOT_MATCH") || has("InvalidAccessKeyId")) {
    return "; check the key (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), and that it may read here";
  }
  if (has("SSL connect")) return "; a server without TLS needs scheme=http";
  if (has("NETWORK_CONNECTION") || has("connect to server") || has("resolve host")) {
    return "; check the address of the server (endpoint_override) and the network";
  }
  return "";
}

/// The objects below a path of one of Arrow's file systems.
class ArrowObjects final : public ObjectStore {
 public:
  ArrowObjects(std::shared_ptr<::arrow::fs::FileSystem> files, std::string path)
      : files_(std::move(files)), path_(std::move(path)) {
    if (files_ == nullptr) {
      throw Error(ErrorCode::InvalidArgument,
                  "arrow::Store: the pointer to the FileSystem is null");
    }
    // The folder that it stands for: another one may have the same paths.
    while (const auto* const tree =
               dynamic_cast<const ::arrow::fs::SubTreeFileSystem*>(files_.get())) {
      const std::string base = tree->base_path();
      path_ = base + (base.empty() || has_ending(base, "/") ? "" : "/") + path_;
      files_ = tree->base_fs();
    }
    while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
    if (path_.empty()) {
      throw Error(ErrorCode::InvalidArgument,
                  "arrow::Store: the path is empty: expected a bucket or a folder, such as "
                  "\"bucket/train\"");
    }
    finalize_s3_at_exit(*files_);
    server_ = make_server();
  }
  ~ArrowObjects() override { finalize_s3_at_exit(*files_); }

  void list(const std::string& folder, bool recursive,
            const std::function<void(StoreObject)>& found) const override {
    ::arrow::fs::FileSelector selector;
    selector.base_dir = path_of(folder);
    while (selector.base_dir.size() > 1 && selector.base_dir.back() == '/') {
      selector.base_dir.pop_back();
    }
    selector.recursive = recursive;
    const auto next = files_->GetFileInfoGenerator(selector);
    for (;;) {
      const auto infos = next().result();
      if (!infos.ok()) throw listing_failed(infos.status(), selector.base_dir);
      if (infos->empty()) return;
      for (const auto& info : *infos) {
        std::optional<std::string> name = name_of(info.path());
        if (!name) continue;
        if (info.IsFile()) {
          found(StoreObject{std::move(*name), static_cast<std::uint64_t>(info.size()),
                            modified(info)});
        } else if (info.IsDirectory() && !recursive) {
          found(StoreObject{*name + '/', 0, 0});
        }
      }
    }
  }

  std::optional<StoreObject> find(const std::string& name) const override {
    const auto info = files_->GetFileInfo(path_of(name));
    if (!info.ok()) throw failed(info.status());
    if (!info->IsFile()) return std::nullopt;
    return StoreObject{name, static_cast<std::uint64_t>(info->size()), modified(*info)};
  }

  std::size_t read(const StoreObject& object, void* out, std::size_t size,
                   std::uint64_t offset) const override {
    ::arrow::fs::FileInfo info(path_of(object.name), ::arrow::fs::FileType::File);
    info.set_size(static_cast<std::int64_t>(object.size));  // Arrow would ask for it otherwise
    const auto file = files_->OpenInputFile(info);
    if (!file.ok()) throw failed(file.status());
    std::size_t got = read_at(**file, out, size, offset, /*mark=*/0x5a);
    if (got != size || size == 0 || !ends_with_mark(out, size, 0x5a)) return got;
    // Another mark, because the object may happen to have this byte.
    got = read_at(**file, out, size, offset, /*mark=*/0xa5);
    if (got != size || !ends_with_mark(out, size, 0xa5)) return got;
    throw Error(ErrorCode::Io,
                "the store sent less than the " + counted(size, "byte") + " from byte " +
                    std::to_string(offset) +
                    " on: the answer was cut short, or the object was replaced after the store was "
                    "listed",
                offset);
  }

  std::string uri(const std::string& name) const override {
    const std::string type = files_->type_name();
    return (type == "local" ? "file" : type) + "://" + path_of(name);
  }

  std::string server() const override { return server_; }

 private:
  /// Without credentials: it is part of what a cache on disk keeps. For a file system that does not
  /// say where it is, a number that only this object has.
  std::string make_server() const {
#ifdef ARROW_S3
    if (const auto* const s3 = dynamic_cast<const ::arrow::fs::S3FileSystem*>(files_.get())) {
      const ::arrow::fs::S3Options options = s3->options();
      return options.endpoint_override + '\n' + options.region;
    }
#endif
    if (files_->type_name() == "local") return {};
    const auto uri = files_->MakeUri(path_.front() == '/' ? path_ : '/' + path_);
    if (uri.ok()) return std::to_string(hash_of(*uri));
    return std::to_string(std::chrono::system_clock::now().time_since_epoch().count()) + '\n' +
           std::to_string(reinterpret_cast<std::uintptr_t>(this));
  }

  /// For S3, Arrow does not tell that an answer has fewer bytes than it asked for. So the last byte
  /// of the memory is marked, to see whether the answer reached it.
  static bool ends_with_mark(const void* out, std::size_t size, unsigned char mark) {
    return static_cast<const unsigned char*>(out)[size - 1] == mark;
  }

  std::size_t read_at(::arrow::io::RandomAccessFile& file, void* out, std::size_t size,
                      std::uint64_t offset, unsigned char mark) const {
    if (size != 0) static_cast<unsigned char*>(out)[size - 1] = mark;
    const auto got =
        file.ReadAt(static_cast<std::int64_t>(offset), static_cast<std::int64_t>(size), out);
    if (!got.ok()) throw failed(got.status());
    return static_cast<std::size_t>(*got);
  }

  std::string path_of(const std::string& name) const {
    if (name.empty()) return path_;
    return path_.back() == '/' ? path_ + name : path_ + '/' + name;
  }

  /// None for the folder itself.
  std::optional<std::string> name_of(const std::string& path) const {
    const std::size_t begin = path_of("x").size() - 1;
    if (path.size() <= begin) return std::nullopt;
    return path.substr(begin);
  }

  /// S3 gives milliseconds in a listing, and whole seconds for one object.
  std::int64_t modified(const ::arrow::fs::FileInfo& info) const {
    if (info.mtime() == ::arrow::fs::kNoTime) return 0;
    const auto time =
        std::chrono::duration_cast<std::chrono::nanoseconds>(info.mtime().time_since_epoch())
            .count();
    return files_->type_name() == "local" ? time : time / 1'000'000'000 * 1'000'000'000;
  }

  Error listing_failed(const ::arrow::Status& status, const std::string& folder) const {
    const auto info = files_->GetFileInfo(folder);
    if (info.ok() && info->type() == ::arrow::fs::FileType::NotFound) {
      return Error(ErrorCode::NotFound, "there is no such bucket or folder");
    }
    return failed(status);
  }

  Error failed(const ::arrow::Status& status) const {
    const std::string reason = escaped(without(status.message(), credentials()));
    return Error(ErrorCode::Io, reason + store_advice(reason));
  }

  std::vector<std::string> credentials() const {
#ifdef ARROW_S3
    if (const auto* const s3 = dynamic_cast<const ::arrow::fs::S3FileSystem*>(files_.get())) {
      const ::arrow::fs::S3Options options = s3->options();
      return {options.GetSecretKey(), options.GetSessionToken(), options.GetAccessKey()};
    }
#endif
    return {};
  }

  std::shared_ptr<::arrow::fs::FileSystem> files_;
  std::string path_;
  std::string server_;
};

}  // namespace detail

/// What needs Apache Arrow.
namespace arrow {

/// The objects below a path of one of Arrow's file systems: S3, GCS, HDFS, local and others. All
/// that torch_npy::Store can do.
///
/// For S3, Arrow has to be finalized before the program ends: the first Store sees to that.
/// Connections are Arrow's: it keeps at most 25, or as many as its pool of I/O threads has threads
/// when the file system is made.
class Store : public torch_npy::Store {
 public:
  /// `path` is a bucket or a folder in it: "bucket/train". Requests nothing. Throws Error
  /// (InvalidArgument) for a null pointer and an empty path.
  Store(std::shared_ptr<::arrow::fs::FileSystem> files, const std::string& path,
        const StoreOptions& options = {})
      : torch_npy::Store(std::make_shared<const detail::ArrowObjects>(std::move(files), path),
                         options) {}

  /// The same for a URI as Arrow has them: "s3://bucket/train?region=eu-central-1". Keys come from
  /// the environment or the files that AWS' tools use. Throws Error (InvalidArgument) for a URI
  /// that Arrow does not understand; Io if it asks for the region of a bucket and gets no answer.
  explicit Store(const std::string& uri, const StoreOptions& options = {})
      : torch_npy::Store(open(uri), options) {}

 private:
  static std::shared_ptr<const ObjectStore> open(const std::string& uri) {
#ifdef ARROW_S3
    if (uri.compare(0, 5, "s3://") == 0) {
      const ::arrow::Status status = ::arrow::fs::EnsureS3Initialized();
      if (!status.ok()) throw Error(ErrorCode::Io, "arrow::Store: " + status.message());
    }
#endif
    std::string path;
    auto files = ::arrow::fs::FileSystemFromUri(uri, &path);
    if (!files.ok() && files.status().IsIOError()) {
      const std::string reason = detail::without(files.status().message(), credentials_in(uri));
      throw Error(ErrorCode::Io, "arrow::Store: " + detail::escaped(reason) +
                                     "; with ?region=... in the URI nothing is asked for now");
    }
    if (!files.ok()) {
      const std::string reason = detail::without(files.status().message(), credentials_in(uri));
      throw Error(ErrorCode::InvalidArgument, "arrow::Store: " + detail::escaped(reason));
    }
    return std::make_shared<const detail::ArrowObjects>(std::move(*files), path);
  }

  /// The key and the secret in "s3://key:secret@bucket".
  static std::vector<std::string> credentials_in(const std::string& uri) {
    const std::size_t begin = uri.find("://");
    const std::size_t end = uri.rfind('@');
    if (begin == uri.npos || end == uri.npos || end < begin + 3) return {};
    const std::string both = uri.substr(begin + 3, end - begin - 3);
    const std::size_t colon = both.find(':');
    if (colon == both.npos) return {both};
    return {both, both.substr(colon + 1), both.substr(0, colon)};
  }
};

}  // namespace arrow
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ARROW_HPP_
