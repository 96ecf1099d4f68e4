#pragma once

#include <sys/resource.h>
#include <unistd.h>

/// During its lifetime, the process may open `more` files besides those that are open.
class FewDescriptors {
 public:
  explicit FewDescriptors(int more) {
    ::getrlimit(RLIMIT_NOFILE, &old_);
    const int next = ::dup(0);  // the lowest number that is free
    ::close(next);
    rlimit few = old_;
    few.rlim_cur = static_cast<rlim_t>(next + more);
    ::setrlimit(RLIMIT_NOFILE, &few);
  }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &old_); }

 private:
  rlimit old_{};
};
