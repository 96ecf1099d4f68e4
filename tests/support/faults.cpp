#include "support/faults.hpp"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <new>

std::atomic<std::ptrdiff_t> live_allocations{0};

namespace {

std::atomic<unsigned> kinds{0};  // of the calls that count
std::atomic<std::size_t> count{0};
std::atomic<bool> has_happened{false};
Fault fault;
std::size_t failing = 0;

/// The fault of this call, or null.
const Fault* fault_of(Call call) {
  if ((kinds & call) == 0 || count++ != failing) return nullptr;
  has_happened = true;
  return &fault;
}

template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

/// Fails as the fault says, or does `work`.
template <class Result, class Work>
Result call(Call kind, Result failure, const Work& work) {
  const Fault* const injected = fault_of(kind);
  if (injected == nullptr || injected->kind != Fault::Fails) return work();
  errno = injected->error;
  return failure;
}

/// The same for calls that transfer bytes: `work(size)` transfers at most so many.
template <class Work>
ssize_t transfer(Call kind, std::size_t size, const Work& work) {
  const Fault* const injected = fault_of(kind);
  if (injected == nullptr) return work(size);
  if (injected->kind == Fault::Short) return work((size + 1) / 2);
  if (injected->kind == Fault::AtEnd) return 0;
  errno = injected->error;
  return -1;
}

void* allocate(std::size_t size) {
  if (fault_of(kAllocate) != nullptr) return nullptr;
  void* const memory = std::malloc(size != 0 ? size : 1);
  if (memory != nullptr) ++live_allocations;
  return memory;
}

void deallocate(void* memory) {
  if (memory != nullptr) --live_allocations;
  std::free(memory);
}

}  // namespace

namespace {
unsigned recorded_kinds = 0;
std::vector<MadeCall> record;

void note(MadeCall call) {
  if ((recorded_kinds & call.call) != 0) record.push_back(call);
}

bool is_folder(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags != -1 && (flags & O_DIRECTORY) != 0;
}
}  // namespace

void record_calls(unsigned calls) {
  record.clear();
  recorded_kinds = calls;
}

std::vector<MadeCall> recorded_calls() {
  recorded_kinds = 0;
  return record;
}

FaultInjection::FaultInjection(unsigned calls, Fault injected, std::size_t index) {
  fault = injected;
  failing = index;
  count = 0;
  has_happened = false;
  kinds = calls;
}

FaultInjection::~FaultInjection() { kinds = 0; }

bool FaultInjection::happened() const { return has_happened; }

// The C library's functions, which the library under test and the standard library call.

#define NEXT(name)                                         \
  static auto* const real = next<decltype(::name)>(#name); \
  errno = 0

extern "C" {

int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const auto mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : mode_t{0};
  va_end(arguments);
  NEXT(openat);
  note({kOpen, mode, (flags & O_CLOEXEC) != 0, (flags & O_DIRECTORY) != 0});
  return call(kOpen, -1, [&] { return real(folder, path, flags, mode); });
}

int close(int fd) {
  NEXT(close);
  note({kClose});
  const int result = real(fd);  // it is closed in any case
  return call(kClose, -1, [&] { return result; });
}

int fstat(int fd, struct stat* status) noexcept {
  NEXT(fstat);
  return call(kStat, -1, [&] { return real(fd, status); });
}

int stat(const char* path, struct stat* status) noexcept {
  NEXT(stat);
  return call(kStat, -1, [&] { return real(path, status); });
}

int lstat(const char* path, struct stat* status) noexcept {
  NEXT(lstat);
  return call(kStat, -1, [&] { return real(path, status); });
}

int fstatat(int folder, const char* path, struct stat* status, int flags) noexcept {
  NEXT(fstatat);
  return call(kStat, -1, [&] { return real(folder, path, status, flags); });
}

ssize_t readlink(const char* path, char* out, std::size_t size) noexcept {
  NEXT(readlink);
  return call(kReadLink, ssize_t{-1}, [&] { return real(path, out, size); });
}

ssize_t read(int fd, void* out, std::size_t size) {
  NEXT(read);
  return transfer(kRead, size, [&](std::size_t most) { return real(fd, out, most); });
}

ssize_t pread(int fd, void* out, std::size_t size, off_t offset) {
  NEXT(pread);
  note({kRead});
  return transfer(kRead, size, [&](std::size_t most) { return real(fd, out, most, offset); });
}

ssize_t preadv(int fd, const iovec* parts, int count_of_parts, off_t offset) {
  NEXT(preadv);
  note({kRead});
  return transfer(kRead, parts[0].iov_len, [&](std::size_t most) {
    if (most == parts[0].iov_len) return real(fd, parts, count_of_parts, offset);
    const iovec less = {parts[0].iov_base, most};
    return real(fd, &less, 1, offset);
  });
}

ssize_t write(int fd, const void* data, std::size_t size) {
  NEXT(write);
  note({kWrite});
  return transfer(kWrite, size, [&](std::size_t most) { return real(fd, data, most); });
}

ssize_t pwrite(int fd, const void* data, std::size_t size, off_t offset) {
  NEXT(pwrite);
  note({kWrite});
  return transfer(kWrite, size, [&](std::size_t most) { return real(fd, data, most, offset); });
}

void* mmap(void* at, std::size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  NEXT(mmap);
  return call(kMap, MAP_FAILED, [&] { return real(at, size, protection, flags, fd, offset); });
}

int ftruncate(int fd, off_t size) noexcept {
  NEXT(ftruncate);
  return call(kTruncate, -1, [&] { return real(fd, size); });
}

int flock(int fd, int operation) noexcept {
  NEXT(flock);
  return call(kLock, -1, [&] { return real(fd, operation); });
}

int fchmod(int fd, mode_t mode) noexcept {
  NEXT(fchmod);
  return call(kChmod, -1, [&] { return real(fd, mode); });
}

int fchown(int fd, uid_t user, gid_t group) noexcept {
  NEXT(fchown);
  return call(kChmod, -1, [&] { return real(fd, user, group); });
}

int fsync(int fd) {
  NEXT(fsync);
  note({kSync, 0, true, is_folder(fd)});
  return call(kSync, -1, [&] { return real(fd); });
}

int fdatasync(int fd) {
  NEXT(fdatasync);
  note({kSync});
  return call(kSync, -1, [&] { return real(fd); });
}

int rename(const char* from, const char* to) noexcept {
  NEXT(rename);
  note({kRename});
  return call(kRename, -1, [&] { return real(from, to); });
}

int link(const char* from, const char* to) noexcept {
  NEXT(link);
  return call(kLink, -1, [&] { return real(from, to); });
}

DIR* fdopendir(int fd) {
  NEXT(fdopendir);
  return call(kListFolder, static_cast<DIR*>(nullptr), [&] { return real(fd); });
}

dirent* readdir(DIR* folder) {
  NEXT(readdir);
  return call(kListFolder, static_cast<dirent*>(nullptr), [&] { return real(folder); });
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) noexcept {
  NEXT(pthread_create);
  const int result = call(kThread, -1, [&] { return real(thread, attributes, start, argument); });
  return result == -1 ? errno : result;
}

int posix_memalign(void** memory, std::size_t alignment, std::size_t size) noexcept {
  NEXT(posix_memalign);
  return fault_of(kAllocate) != nullptr ? ENOMEM : real(memory, alignment, size);
}

}  // extern "C"

void* operator new(std::size_t size) {
  if (void* const memory = allocate(size)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void operator delete(void* memory) noexcept { deallocate(memory); }
void operator delete(void* memory, std::size_t) noexcept { deallocate(memory); }
