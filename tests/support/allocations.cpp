// Records allocations. LibTorch's CPU allocator calls posix_memalign, which a program may
// define before the C library's.

#include "allocations.hpp"

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include <cstdlib>
#include <new>

std::atomic<std::size_t> largest_allocation{0};

namespace {
void note(std::size_t size) {
  std::size_t largest = largest_allocation;
  while (size > largest && !largest_allocation.compare_exchange_weak(largest, size)) {
  }
}
}  // namespace

void* operator new(std::size_t size) {
  note(size);
  if (void* memory = std::malloc(size != 0 ? size : 1)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  note(size);
  return std::malloc(size != 0 ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

#ifndef _WIN32
#ifdef __GLIBC__
#define TORCH_NPY_LIKE_GLIBC noexcept  // which declares it so; others do not
#else
#define TORCH_NPY_LIKE_GLIBC
#endif
extern "C" int posix_memalign(void** memory, std::size_t alignment,
                              std::size_t size) TORCH_NPY_LIKE_GLIBC {
  note(size);
  using Function = int (*)(void**, std::size_t, std::size_t);
  static const auto next = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, "posix_memalign"));
  return next(memory, alignment, size);
}
#endif
