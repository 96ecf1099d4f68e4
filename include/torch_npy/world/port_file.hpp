#ifndef TORCH_NPY_WORLD_PORT_FILE_HPP_
#define TORCH_NPY_WORLD_PORT_FILE_HPP_

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Tells the processes on this machine the port of rank 0, by a small file in the folder for
/// temporary files. Its name contains the user and the job, or the parent process where the
/// launcher gives jobs no name. Rank 0 keeps it locked: the system unlocks what a process that died
/// left behind. For one thread at a time.
class PortFile {
 public:
  explicit PortFile(const std::string& job) {
    char host[65] = {};  // containers may share the folder, and have processes of the same numbers
    (void)::gethostname(host, sizeof host - 1);
    std::string name = job.empty() ? std::to_string(::getppid()) + "." + host : job;
    char hash[24];  // of the whole name, because the shown one is shorter and has other characters
    std::snprintf(hash, sizeof hash, "-%016llx", static_cast<unsigned long long>(hash_of(name)));
    for (char& c : name) {
      const bool is_plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                            (c >= 'A' && c <= 'Z') || c == '.' || c == '-';
      if (!is_plain) c = '_';
    }
    std::error_code error;
    const std::filesystem::path folder = std::filesystem::temp_directory_path(error);
    if (error) {
      throw Error(ErrorCode::Io,
                  "the folder for temporary files, by which the ranks meet, cannot be used: " +
                      error.message() +
                      "; set TMPDIR to another one, or MASTER_ADDR and MASTER_PORT");
    }
    path_ =
        folder / ("torch_npy-" + std::to_string(::geteuid()) + "-" + name.substr(0, 100) + hash);
  }

  PortFile(const PortFile&) = delete;
  PortFile& operator=(const PortFile&) = delete;
  ~PortFile() { remove(); }

  const std::filesystem::path& path() const noexcept { return path_; }

  /// Writes the port. The destructor removes the file. Throws Error (Io).
  void write(std::uint16_t port) {
    const std::string temporary = path_.string() + "-" + std::to_string(::getpid());
    const std::string text = std::to_string(port) + "\n";
    ::unlink(temporary.c_str());  // of a process with the same number that was killed
    const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                            S_IRUSR | S_IWUSR);
    const bool is_written =
        file >= 0 && ::flock(file, LOCK_EX | LOCK_NB) == 0 &&
        ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
        std::rename(temporary.c_str(), path_.c_str()) == 0;
    if (!is_written) {
      const int error = errno;
      if (file >= 0) {
        ::unlink(temporary.c_str());
        ::close(file);
      }
      throw Error(
          ErrorCode::Io,
          "cannot write the file by which the ranks meet: " +
              std::generic_category().message(error) +
              "; set TMPDIR to a folder for temporary files, or MASTER_ADDR and MASTER_PORT",
          0, path_);
    }
    if (file_ >= 0) ::close(file_);
    file_ = file;
  }

  /// The port, or none if rank 0 did not write it yet. Files of other users, and those of processes
  /// that have died, are ignored.
  std::optional<std::uint16_t> read() const {
    const int file = ::open(path_.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0) return std::nullopt;
    struct stat status {};
    char bytes[80];
    const bool is_alive = ::fstat(file, &status) == 0 && status.st_uid == ::geteuid() &&
                          ::flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    const ssize_t size = is_alive ? ::read(file, bytes, sizeof bytes) : 0;
    ::close(file);
    if (size <= 0) return std::nullopt;
    std::istringstream text(std::string(bytes, static_cast<std::size_t>(size)));
    std::uint16_t port = 0;
    return text >> port ? std::optional(port) : std::nullopt;
  }

  /// Removes the file if this object wrote it.
  void remove() noexcept {
    if (file_ < 0) return;
    ::unlink(path_.c_str());
    ::close(std::exchange(file_, -1));
  }

 private:
  std::filesystem::path path_;
  int file_ = -1;  // locked, while the file is there
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_WORLD_PORT_FILE_HPP_
