#ifndef TORCH_NPY_ERROR_HPP_
#define TORCH_NPY_ERROR_HPP_

/// @file
/// The exception type of the library, and its codes.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// What went wrong, for a program. `Error::what()` tells a person.
enum class ErrorCode {
  NotFound,            ///< no such file, or no such array in an archive
  Io,                  ///< the operating system refused: permission, disk, not a regular file
  Exhausted,           ///< the process or the system has no file descriptors or threads left
  OutOfMemory,         ///< memory for a tensor, a buffer or a mapping cannot be allocated
  NotNpy,              ///< the bytes do not start like an .npy file
  UnsupportedVersion,  ///< a format version other than 1.0, 2.0 and 3.0
  BadHeader,           ///< the header breaks the rules of the format
  UnsupportedDtype,    ///< no tensor of this LibTorch can hold the dtype, or it is refused
  Truncated,           ///< fewer bytes than the header declares
  TooLarge,            ///< over a limit set by the caller, or over what can be counted
  BadZip,              ///< the .npz container is damaged, or uses an unsupported zip feature
  Mismatch,            ///< the file is valid, but not what was asked for (shape, dtype, range)
  InvalidArgument,     ///< the call itself is wrong
  Transform,           ///< a function given to Dataset::map() threw; its exception is nested
};

namespace detail {
struct ErrorContext;
}

/// The exception type of the library. Copying it does not throw. Read-only: safe from any thread.
///
/// `what()` is `<path>: <reason>`, or the reason alone for streams and memory.
class Error : public std::runtime_error {
 public:
  /// `reason` is for a person and is used in what() as it is. Characters of the path that are not
  /// printable are escaped there.
  Error(ErrorCode code, const std::string& reason, std::uint64_t offset = 0,
        const std::filesystem::path& path = {})
      : std::runtime_error(path.empty() ? reason : detail::shown_path(path) + ": " + reason),
        where_(std::make_shared<const Where>(Where{path, reason})),
        code_(code),
        offset_(offset) {}

  // Never moved: a moved-from Error would have no path.

  /// Copies share path and reason. A move copies.
  Error(const Error&) = default;
  /// As the copy constructor.
  Error& operator=(const Error&) = default;

  /// What went wrong, for a program.
  ErrorCode code() const noexcept { return code_; }

  /// The file concerned. Empty for streams and memory, and for errors about several files.
  const std::filesystem::path& path() const noexcept { return where_->path; }

  /// Byte offset of the error, or 0 if not applicable. Counted from the start of the file or
  /// memory; for an array in a stream or an archive from the start of that array; for the archive
  /// itself (BadZip), and if reading it fails (Io), from the start of the archive.
  std::uint64_t offset() const noexcept { return offset_; }

 private:
  friend struct detail::ErrorContext;

  struct Where {
    std::filesystem::path path;
    std::string reason;
  };

  std::shared_ptr<const Where> where_;  // shared, so that copying cannot throw
  ErrorCode code_;
  std::uint64_t offset_;
};

namespace detail {

/// Adds what a caller knows to an Error: the code that parses bytes does not know their origin.
struct ErrorContext {
  /// The same error about `path`.
  static Error at(const Error& error, const std::filesystem::path& path) {
    return Error(error.code_, error.where_->reason, error.offset_, path);
  }

  /// The same error about `part` of what the path names: what() is `<path>: <part>: <reason>`.
  static Error within(const Error& error, const std::string& part) {
    return Error(error.code_, part + ": " + error.where_->reason, error.offset_,
                 error.where_->path);
  }

  /// The same error with a way out at the end of its reason.
  static Error with_way_out(const Error& error, const std::string& way_out) {
    return Error(error.code_, error.where_->reason + "; " + way_out, error.offset_,
                 error.where_->path);
  }
};

/// Calls `work`. Adds `path` to an Error that has none; std::bad_alloc becomes an Error
/// (OutOfMemory).
template <class Work>
auto with_path(const std::filesystem::path& path, Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const Error& error) {
    if (!error.path().empty()) throw;
    throw ErrorContext::at(error, path);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::OutOfMemory, "out of memory", 0, path);
  }
}

/// Calls `work`. An Error is thrown again as one about a part of the file: `kind` "name".
template <class Work>
auto with_part(const char* kind, const std::string& name, Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const Error& error) {
    throw ErrorContext::within(error, std::string(kind) + " " + in_quotes(name));
  }
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ERROR_HPP_
