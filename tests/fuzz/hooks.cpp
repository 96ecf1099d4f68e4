// The same as allocations.cpp, for programs with the allocator of the address sanitizer.

#include <sanitizer/allocator_interface.h>

#include "../support/allocations.hpp"

std::atomic<std::size_t> largest_allocation{0};

namespace {
void note(const volatile void*, std::size_t size) {
  if (size > largest_allocation) largest_allocation = size;
}
[[maybe_unused]] const int installed =
    __sanitizer_install_malloc_and_free_hooks(&note, [](const volatile void*) {});
}  // namespace
