#ifndef TORCH_NPY_ERROR_HPP_
#define TORCH_NPY_ERROR_HPP_

/// @file
/// The one exception type, and its codes.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

namespace torch_npy {
inline namespace TORCH_NPY_VERSION_NAMESPACE {

/// What went wrong, for code that wants to act on it; `Error::what()` tells a person.
enum class ErrorCode {
  NotFound,            ///< no file of that name, or no array of that name in an archive
  Io,                  ///< the operating system refused: permission, disk, not a regular file
  Exhausted,           ///< the system has no descriptors or memory left, whatever the file
  NotNpy,              ///< the bytes do not start as a NumPy file does
  UnsupportedVersion,  ///< a format version other than 1.0, 2.0 and 3.0
  BadHeader,           ///< the header is not what the format allows
  UnsupportedDtype,    ///< a dtype that no tensor of this LibTorch holds, or that is refused
  Truncated,           ///< fewer bytes than the header promises
  TooLarge,            ///< over a limit of the caller's, of memory, or of what can be counted
  BadZip,              ///< the .npz container is damaged, or packed in a way that is not read
  Mismatch,            ///< the file is sound but not what was asked for (shape, dtype, range)
  InvalidArgument,     ///< the call itself cannot be carried out
};

/// The one exception type of the library. Copying it does not throw. Read-only: safe from any
/// thread.
///
/// `what()` reads `<path>: <reason>`, without the path where there is none (streams, memory).
class Error : public std::runtime_error {
 public:
  /// `reason` is for a person, and goes into what() as it is; the path is made printable there.
  Error(ErrorCode code, const std::string& reason, std::uint64_t offset = 0,
        const std::filesystem::path& path = {})
      : std::runtime_error(path.empty() ? reason : detail::shown_path(path) + ": " + reason),
        where_(std::make_shared<const Where>(Where{path, reason})),
        code_(code),
        offset_(offset) {}

  // No moves: one that was moved from could not answer.

  /// Copies share path and reason. A move copies.
  Error(const Error&) = default;
  /// As the copy constructor.
  Error& operator=(const Error&) = default;

  /// What went wrong, for a program.
  ErrorCode code() const noexcept { return code_; }

  /// The file concerned; empty for streams and memory.
  const std::filesystem::path& path() const noexcept { return where_->path; }

  /// Byte of the file (or memory), counted from its start, at which the fault shows; 0 where it is
  /// about none in particular. Of an array in a stream or an archive: counted from the array's own
  /// start. Of an archive itself (BadZip), and where the system fails to read one (Io): from the
  /// archive's.
  std::uint64_t offset() const noexcept { return offset_; }

  /// The same error, about `path`. What parses bytes does not know where they came from; whoever
  /// opened the file adds it.
  Error at(const std::filesystem::path& path) const {
    return Error(code_, where_->reason, offset_, path);
  }

  /// The same error, about `part` of what the path names, a member of an archive or a field:
  /// `what()` reads `<path>: <part>: <reason>`.
  Error within(const std::string& part) const {
    return Error(code_, part + ": " + where_->reason, offset_, where_->path);
  }

 private:
  struct Where {
    std::filesystem::path path;
    std::string reason;
  };

  std::shared_ptr<const Where> where_;  // shared, so that copying cannot throw
  ErrorCode code_;
  std::uint64_t offset_;
};

namespace detail {

/// Calls `work`; an Error that has no path yet leaves as one about `path`.
template <class Work>
auto with_path(const std::filesystem::path& path, Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const Error& error) {
    if (!error.path().empty()) throw;
    throw error.at(path);
  }
}

}  // namespace detail
}  // namespace TORCH_NPY_VERSION_NAMESPACE
}  // namespace torch_npy

#endif  // TORCH_NPY_ERROR_HPP_
