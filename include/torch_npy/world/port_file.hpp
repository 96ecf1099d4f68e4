#ifndef TORCH_NPY_WORLD_PORT_FILE_HPP_
#define TORCH_NPY_WORLD_PORT_FILE_HPP_

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
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

/// When a process began, in ticks since the system did; 0 if that is not known. With the number of
/// the process, it identifies the process: numbers are used again.
inline std::uint64_t start_of_process(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  // The name of the program, which is in parentheses, may contain blanks and parentheses.
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos) return 0;
  std::istringstream fields(text.substr(end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  std::uint64_t start = 0;
  fields >> start;
  return start;
}

/// Tells the processes on this machine the port of rank 0, by a small file in the folder for
/// temporary files. Its name contains the user and the job, or the parent process where the
/// launcher gives jobs no name. For one thread at a time.
class PortFile {
 public:
  explicit PortFile(const std::string& job) {
    std::string name = job.empty() ? std::to_string(::getppid()) + "." +
                                         std::to_string(start_of_process(getppid()))
                                   : job;
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
    const std::string text = std::to_string(port) + " " + std::to_string(::getpid()) + " " +
                             std::to_string(start_of_process(::getpid())) + "\n";
    const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                            S_IRUSR | S_IWUSR);
    bool is_written =
        file >= 0 && ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    is_written = is_written && std::rename(temporary.c_str(), path_.c_str()) == 0;
    const int error = errno;
    if (file >= 0) ::close(file);
    if (!is_written) {
      if (file >= 0) ::unlink(temporary.c_str());
      throw Error(
          ErrorCode::Io,
          "cannot write the file by which the ranks meet: " +
              std::generic_category().message(error) +
              "; set TMPDIR to a folder for temporary files, or MASTER_ADDR and MASTER_PORT",
          0, path_);
    }
    is_mine_ = true;
  }

  /// The port, or none if rank 0 did not write it yet. Files of other users, and those that a
  /// process left behind which no longer exists, are ignored.
  std::optional<std::uint16_t> read() const {
    const int file = ::open(path_.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0) return std::nullopt;
    struct stat status {};
    char bytes[80];
    const bool is_ours = ::fstat(file, &status) == 0 && status.st_uid == ::geteuid();
    const ssize_t size = is_ours ? ::read(file, bytes, sizeof bytes) : 0;
    ::close(file);
    if (size <= 0) return std::nullopt;
    std::istringstream text(std::string(bytes, static_cast<std::size_t>(size)));
    std::uint16_t port = 0;
    pid_t process = 0;
    std::uint64_t start = 0;
    if (!(text >> port >> process >> start)) return std::nullopt;
    if (::kill(process, 0) != 0) return std::nullopt;
    // An emulator such as qemu gives the process itself another start than it gives to others: that
    // of the emulator, moments later.
    constexpr std::uint64_t kMoments = 500;  // ticks of 10 ms
    const std::uint64_t began = start_of_process(process);
    const bool is_same = began < start + kMoments && start < began + kMoments;
    return is_same ? std::optional(port) : std::nullopt;
  }

  /// Removes the file if this object wrote it.
  void remove() noexcept {
    if (std::exchange(is_mine_, false)) ::unlink(path_.c_str());
  }

 private:
  std::filesystem::path path_;
  bool is_mine_ = false;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_WORLD_PORT_FILE_HPP_
