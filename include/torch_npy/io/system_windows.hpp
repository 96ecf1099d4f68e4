#ifndef TORCH_NPY_IO_SYSTEM_WINDOWS_HPP_
#define TORCH_NPY_IO_SYSTEM_WINDOWS_HPP_

// Windows: the documentation of the types and functions is in system_posix.hpp. Paths are UTF-16.
// The names in a folder are UTF-8, separated by '/'.

#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <torch_npy/error.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

// ---- Names

inline std::string utf8(std::wstring_view text) {
  const int units = static_cast<int>(text.size());
  const int size =
      ::WideCharToMultiByte(CP_UTF8, 0, text.data(), units, nullptr, 0, nullptr, nullptr);
  std::string out(static_cast<std::size_t>(size), '\0');
  ::WideCharToMultiByte(CP_UTF8, 0, text.data(), units, out.data(), size, nullptr, nullptr);
  return out;
}

inline std::wstring utf16(std::string_view text) {
  const int bytes = static_cast<int>(text.size());
  const int size = ::MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, nullptr, 0);
  std::wstring out(static_cast<std::size_t>(size), L'\0');
  ::MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, out.data(), size);
  return out;
}

constexpr wchar_t kSeparators[] = L"\\/";

inline std::filesystem::path path_of(const std::string& name) { return utf16(name); }

/// Removes from `pattern` what matches one character, which is not '*', and returns whether it
/// matches `c`.
inline bool take_match(std::wstring_view& pattern, wchar_t c) {
  const wchar_t first = pattern.front();
  pattern.remove_prefix(1);
  if (first == L'?') return true;
  if (first == L'\\' && !pattern.empty()) {
    const bool same = pattern.front() == c;
    pattern.remove_prefix(1);
    return same;
  }
  if (first != L'[') return first == c;
  const bool is_other = !pattern.empty() && (pattern.front() == L'!' || pattern.front() == L'^');
  const std::size_t end = pattern.find(L']', is_other ? 2 : 1);  // a first ']' is a member
  if (end == pattern.npos) return first == c;
  const std::wstring_view set = pattern.substr(is_other ? 1 : 0, end - (is_other ? 1 : 0));
  pattern.remove_prefix(end + 1);
  bool found = false;
  for (std::size_t i = 0; i < set.size(); ++i) {
    const bool is_range = i + 2 < set.size() && set[i + 1] == L'-';
    found = found || (set[i] <= c && c <= set[is_range ? i + 2 : i]);
    if (is_range) i += 2;
  }
  return found != is_other;
}

/// Does not support character classes such as `[[:digit:]]`. Case-sensitive, as in the shell.
inline bool matches(std::wstring_view pattern, std::wstring_view name) {
  bool has_star = false;
  std::wstring_view after_star;
  std::wstring_view left;  // rest of the name where `after_star` was tried last
  while (!pattern.empty() || !name.empty()) {
    if (!pattern.empty() && pattern.front() == L'*') {
      pattern.remove_prefix(1);
      has_star = true;
      after_star = pattern;
      left = name;
    } else if (!pattern.empty() && !name.empty() && take_match(pattern, name.front())) {
      name.remove_prefix(1);
    } else if (has_star && !left.empty()) {
      left.remove_prefix(1);
      pattern = after_star;
      name = left;
    } else {
      return false;
    }
  }
  return true;
}

inline bool matches(const std::string& pattern, const char* name) {
  return matches(std::wstring_view(utf16(pattern)), std::wstring_view(utf16(name)));
}

inline unsigned long process_id() { return ::GetCurrentProcessId(); }

// ---- Errors

inline int last_error() noexcept { return static_cast<int>(::GetLastError()); }

inline bool is_missing(int number) {
  constexpr int kMissing[] = {ERROR_FILE_NOT_FOUND, ERROR_PATH_NOT_FOUND, ERROR_INVALID_DRIVE,
                              ERROR_INVALID_NAME,   ERROR_BAD_NETPATH,    ERROR_BAD_NET_NAME,
                              ERROR_DIRECTORY};
  return std::find(std::begin(kMissing), std::end(kMissing), number) != std::end(kMissing);
}

inline bool is_taken(int number) {
  return number == ERROR_FILE_EXISTS || number == ERROR_ALREADY_EXISTS;
}

inline bool is_out_of_memory(int number) {
  return number == ERROR_NOT_ENOUGH_MEMORY || number == ERROR_OUTOFMEMORY ||
         number == ERROR_NO_SYSTEM_RESOURCES || number == ERROR_COMMITMENT_LIMIT;
}

/// In UTF-8; std::system_category() would use the machine's code page.
inline std::string message_of(int number) {
  wchar_t text[512];
  DWORD size = ::FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr,
                                static_cast<DWORD>(number), 0, text, 512, nullptr);
  while (size != 0 &&
         std::wstring_view(L"\r\n. ").find(text[size - 1]) != std::wstring_view::npos) {
    --size;
  }
  return size == 0 ? "error " + std::to_string(number) : utf8({text, size});
}

[[noreturn]] inline void throw_system_error(const std::string& what, int number,
                                            std::uint64_t offset = 0) {
  throw Error(is_missing(number)                    ? ErrorCode::NotFound
              : number == ERROR_TOO_MANY_OPEN_FILES ? ErrorCode::Exhausted
              : is_out_of_memory(number)            ? ErrorCode::OutOfMemory
                                                    : ErrorCode::Io,
              what + ": " + message_of(number), offset);
}

// ---- Open files

class Descriptor {
 public:
  explicit Descriptor(HANDLE handle = INVALID_HANDLE_VALUE) noexcept : handle_(handle) {}
  Descriptor(Descriptor&& other) noexcept : handle_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Descriptor() {
    if (is_open()) ::CloseHandle(handle_);
  }

  bool is_open() const noexcept { return handle_ != INVALID_HANDLE_VALUE; }
  HANDLE get() const noexcept { return handle_; }
  HANDLE release() noexcept { return std::exchange(handle_, INVALID_HANDLE_VALUE); }

 private:
  HANDLE handle_;
};

/// As on POSIX systems, other processes may read, write, rename and remove the file meanwhile.
inline Descriptor open_descriptor(const std::filesystem::path& path, DWORD access,
                                  DWORD disposition = OPEN_EXISTING,
                                  DWORD flags = FILE_ATTRIBUTE_NORMAL) {
  return Descriptor(::CreateFileW(path.c_str(), access,
                                  FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
                                  disposition, flags, nullptr));
}

/// Opens a file or folder to query its attributes.
inline Descriptor open_to_ask(const std::filesystem::path& path) {
  return open_descriptor(path, 0, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS);
}

inline bool is_folder(const std::filesystem::path& path) {
  const DWORD attributes = ::GetFileAttributesW(path.c_str());
  return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
}

[[noreturn]] inline void throw_not_regular(const char* kind, const char* advice) {
  throw Error(ErrorCode::Io, std::string("not a regular file but ") + kind + advice);
}

inline Descriptor open_file(const std::filesystem::path& path, DWORD access) {
  Descriptor file = open_descriptor(path, access);
  if (file.is_open()) return file;
  const int number = last_error();
  if (is_folder(path)) throw_not_regular("a directory", "");
  throw_system_error("cannot open", number);
}

inline Descriptor open_to_read(const std::filesystem::path& path) {
  return open_file(path, GENERIC_READ);
}

inline Descriptor open_to_change(const std::filesystem::path& path) {
  return open_file(path, GENERIC_READ | GENERIC_WRITE);
}

inline void require_regular(const Descriptor& file, const char* advice) {
  if (::GetFileType(file.get()) != FILE_TYPE_DISK) throw_not_regular("a device", advice);
}

inline std::uint64_t size_of(const Descriptor& file) {
  require_regular(file, "; load() reads an array from such a file through a std::istream");
  LARGE_INTEGER size;
  if (::GetFileSizeEx(file.get(), &size) == 0) throw_system_error("cannot stat", last_error());
  return static_cast<std::uint64_t>(size.QuadPart);
}

/// Size and time of modification.
inline std::string version_of(const Descriptor& file) {
  BY_HANDLE_FILE_INFORMATION info;
  if (::GetFileInformationByHandle(file.get(), &info) == 0) {
    throw_system_error("cannot stat", last_error());
  }
  return std::to_string(size_of(file)) + '-' + std::to_string(info.ftLastWriteTime.dwHighDateTime) +
         '.' + std::to_string(info.ftLastWriteTime.dwLowDateTime);
}

// ---- Reading and mapping

inline OVERLAPPED at_offset(std::uint64_t offset) {
  OVERLAPPED position{};
  position.Offset = static_cast<DWORD>(offset & 0xffffffff);
  position.OffsetHigh = static_cast<DWORD>(offset >> 32);
  return position;
}

inline std::ptrdiff_t read_at(const Descriptor& file, void* out, std::size_t size,
                              std::uint64_t offset) {
  OVERLAPPED position = at_offset(offset);
  DWORD got = 0;
  if (::ReadFile(file.get(), out, static_cast<DWORD>(size), &got, &position) != 0) return got;
  return last_error() == ERROR_HANDLE_EOF ? 0 : -1;
}

inline std::ptrdiff_t read_split(const Descriptor& file, void* head, std::size_t head_size,
                                 void* body, std::size_t body_size) {
  constexpr std::size_t kMaxReadSize = std::size_t{1} << 30;
  const std::ptrdiff_t first = read_at(file, head, head_size, 0);
  if (first < 0 || static_cast<std::size_t>(first) != head_size) return first;
  const std::ptrdiff_t second = read_at(file, body, (std::min)(body_size, kMaxReadSize), head_size);
  return second < 0 ? first : first + second;
}

inline std::size_t mapping_alignment() {
  SYSTEM_INFO info;
  ::GetSystemInfo(&info);
  return info.dwAllocationGranularity;
}

/// Windows counts the whole mapping against the memory limit, as if every page would be written.
inline void* map(const Descriptor& file, std::uint64_t offset, std::size_t size) {
  const HANDLE mapping = ::CreateFileMappingW(file.get(), nullptr, PAGE_WRITECOPY, 0, 0, nullptr);
  if (mapping == nullptr) return nullptr;
  const OVERLAPPED position = at_offset(offset);
  void* const base =
      ::MapViewOfFile(mapping, FILE_MAP_COPY, position.OffsetHigh, position.Offset, size);
  const DWORD error = ::GetLastError();
  ::CloseHandle(mapping);  // the view keeps the mapping alive
  ::SetLastError(error);
  return base;
}

inline void unmap(void* base, std::size_t) noexcept { ::UnmapViewOfFile(base); }

/// Does nothing: large pages need a privilege on Windows.
inline void advise_huge_pages(void*, std::size_t) {}

// ---- Writing

inline std::ptrdiff_t write_at(const Descriptor& file, const void* data, std::size_t size,
                               std::uint64_t offset) {
  OVERLAPPED position = at_offset(offset);
  DWORD put = 0;
  return ::WriteFile(file.get(), data, static_cast<DWORD>(size), &put, &position) != 0
             ? static_cast<std::ptrdiff_t>(put)
             : -1;
}

inline std::ptrdiff_t write_next(const Descriptor& file, const void* data, std::size_t size) {
  DWORD put = 0;
  return ::WriteFile(file.get(), data, static_cast<DWORD>(size), &put, nullptr) != 0
             ? static_cast<std::ptrdiff_t>(put)
             : -1;
}

inline bool truncate(const Descriptor& file, std::uint64_t size) {
  FILE_END_OF_FILE_INFO end;
  end.EndOfFile.QuadPart = static_cast<LONGLONG>(size);
  return ::SetFileInformationByHandle(file.get(), FileEndOfFileInfo, &end, sizeof end) != 0;
}

inline void expect_size(const Descriptor&, std::uint64_t) {}
inline void begin_to_flush(const Descriptor&, std::uint64_t, std::size_t) {}

inline bool flush(const Descriptor& file) { return ::FlushFileBuffers(file.get()) != 0; }
inline bool flush_data(const Descriptor& file) { return flush(file); }

/// Locks on Windows are mandatory: they block reads and writes of the locked bytes. So the lock is
/// on one byte that no file reaches.
constexpr std::uint64_t kLockedByte = INT64_MAX - 1;

inline bool lock(const Descriptor& file) {
  OVERLAPPED position = at_offset(kLockedByte);
  return ::LockFileEx(file.get(), LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
                      &position) != 0 ||
         last_error() != ERROR_LOCK_VIOLATION;
}

inline void unlock(const Descriptor& file) {
  OVERLAPPED position = at_offset(kLockedByte);
  ::UnlockFileEx(file.get(), 0, 1, 0, &position);
}

inline bool close(Descriptor& file) { return ::CloseHandle(file.release()) != 0; }

// ---- Files that appear whole or not at all

/// Identifies a file or folder whatever its name: volume and file index.
using FileIdentity = std::pair<std::uint32_t, std::uint64_t>;

inline std::optional<FileIdentity> identity_of(const Descriptor& file) {
  BY_HANDLE_FILE_INFORMATION info;
  if (!file.is_open() || ::GetFileInformationByHandle(file.get(), &info) == 0) return std::nullopt;
  return FileIdentity(info.dwVolumeSerialNumber,
                      std::uint64_t{info.nFileIndexHigh} << 32 | info.nFileIndexLow);
}

inline bool is_at(const Descriptor& file, const std::filesystem::path& path) {
  const auto own = identity_of(file);
  if (!own) throw_system_error("cannot stat", last_error());
  const Descriptor named = open_to_ask(path);
  if (!named.is_open() && !is_missing(last_error())) {
    throw_system_error("cannot stat", last_error());
  }
  return identity_of(named) == own;
}

/// Follows symbolic links. The new file has the permissions that its folder gives, whatever the old
/// ones were.
class WriteTarget {
 public:
  explicit WriteTarget(const std::filesystem::path& path) : path_(path) {
    const DWORD attributes = ::GetFileAttributesW(path.c_str());
    if (attributes == INVALID_FILE_ATTRIBUTES) {
      if (!is_missing(last_error())) throw_system_error("cannot stat", last_error());
      return;
    }
    if ((attributes & FILE_ATTRIBUTE_DIRECTORY) != 0) throw_not_regular("a directory", "");
    if ((attributes & FILE_ATTRIBUTE_REPARSE_POINT) != 0) path_ = resolved(path);
  }

  const std::filesystem::path& path() const noexcept { return path_; }

  Descriptor create(const std::filesystem::path& name) const {
    return open_descriptor(name, GENERIC_WRITE, CREATE_NEW);
  }

  void copy_permissions(const Descriptor&) const {}

 private:
  static std::filesystem::path resolved(const std::filesystem::path& link) {
    const Descriptor file = open_to_ask(link);
    std::wstring name(32768, L'\0');  // the longest path
    const DWORD size = file.is_open()
                           ? ::GetFinalPathNameByHandleW(file.get(), name.data(),
                                                         static_cast<DWORD>(name.size()), 0)
                           : 0;
    if (size == 0) throw_system_error("cannot follow the symbolic link", last_error());
    name.resize((std::min)(name.size(), std::size_t{size}));
    return name;
  }

  std::filesystem::path path_;
};

inline bool rename_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::MoveFileExW(from.c_str(), to.c_str(),
                       MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) != 0;
}

inline bool rename_to_new(const std::filesystem::path& from, const std::filesystem::path& to) {
  return ::MoveFileExW(from.c_str(), to.c_str(), MOVEFILE_WRITE_THROUGH) != 0;
}

/// Does nothing: MOVEFILE_WRITE_THROUGH has flushed the rename.
inline void flush_rename_to(const std::filesystem::path&) {}

inline void remove_file(const std::filesystem::path& path) { ::DeleteFileW(path.c_str()); }

// ---- Folders

using FolderIdentity = FileIdentity;

/// Windows has no relative open: a folder is kept by its absolute path, which does not depend on
/// the current directory.
class OpenFolder {
 public:
  OpenFolder() = default;
  explicit OpenFolder(std::filesystem::path path) : path_(std::move(path)) {}
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
};

inline OpenFolder open_folder(const std::filesystem::path& path) {
  if (!is_folder(path)) {
    const bool is_there = ::GetFileAttributesW(path.c_str()) != INVALID_FILE_ATTRIBUTES;
    throw_system_error("cannot open the folder", is_there ? ERROR_DIRECTORY : last_error());
  }
  std::error_code error;
  auto absolute = std::filesystem::absolute(path, error);
  return OpenFolder(error ? path : std::move(absolute));
}

inline Descriptor open_to_read(const char* name, const OpenFolder& folder) {
  return open_to_read(folder.path() / utf16(name));
}

inline std::optional<FolderIdentity> identity_of(const OpenFolder& folder) {
  return identity_of(open_to_ask(folder.path()));
}

class Directory {
 public:
  Directory(const char* path, const OpenFolder& parent)
      : path_(parent.path() / utf16(path)),
        search_(::FindFirstFileExW((path_ / L"*").c_str(), FindExInfoBasic, &entry_,
                                   FindExSearchNameMatch, nullptr, FIND_FIRST_EX_LARGE_FETCH)) {
    // The root of an empty drive has not even the entry ".".
    if (search_ == INVALID_HANDLE_VALUE && !is_folder(path_)) {
      throw_system_error("cannot open the folder", last_error());
    }
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() {
    if (search_ != INVALID_HANDLE_VALUE) ::FindClose(search_);
  }

  FolderIdentity identity() const {
    const auto identity = identity_of(open_to_ask(path_));
    if (!identity) throw_system_error("cannot stat", last_error());
    return *identity;
  }

  template <class Visit>
  void for_each(const Visit& visit) {
    if (search_ == INVALID_HANDLE_VALUE) return;
    do {
      // A link to a folder has the attribute, too.
      const bool is_folder = (entry_.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
      if (entry_.cFileName[0] != L'.') visit(utf8(entry_.cFileName).c_str(), is_folder);
    } while (::FindNextFileW(search_, &entry_) != 0);
    if (last_error() != ERROR_NO_MORE_FILES) {
      throw_system_error("cannot read the folder", last_error());
    }
  }

 private:
  std::filesystem::path path_;
  WIN32_FIND_DATAW entry_;
  HANDLE search_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE
#endif  // _WIN32

#endif  // TORCH_NPY_IO_SYSTEM_WINDOWS_HPP_
