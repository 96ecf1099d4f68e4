#pragma once

// A limit on the size of files, which POSIX systems have.

#include <sys/resource.h>

#include <csignal>
#include <cstddef>

/// During its lifetime the process cannot write files beyond `size` bytes.
class SmallFiles {
 public:
  explicit SmallFiles(std::size_t size) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    struct rlimit small = before_;
    small.rlim_cur = size;
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  SmallFiles(const SmallFiles&) = delete;
  SmallFiles& operator=(const SmallFiles&) = delete;
  ~SmallFiles() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  struct rlimit before_ {};
};
