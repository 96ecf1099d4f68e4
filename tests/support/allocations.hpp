#pragma once

#include <atomic>
#include <cstddef>

/// The largest allocation so far, of operator new and of LibTorch's CPU allocator, in bytes. A test
/// sets it to 0 first.
extern std::atomic<std::size_t> largest_allocation;
