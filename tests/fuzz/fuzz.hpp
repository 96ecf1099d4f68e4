#pragma once

// What the fuzz targets have in common. Each is a function of some bytes that crashes where a claim
// of the library's does not hold; libFuzzer calls it with bytes it makes up, replay.cpp with those
// that are kept.

#include <sys/mman.h>
#include <unistd.h>

#include <torch_npy/error.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

#include "../support/allocations.hpp"

/// As assert(), but in every build.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

/// What every Error has to be: about a byte of the input, or its end, in words that a terminal can
/// show.
inline void require_sound(const torch_npy::Error& error, std::size_t size) {
  require(error.offset() <= size, "an error is about a byte of the input");
  const std::string_view words = error.what();
  require(words.size() > 5 && words.size() < 2000, "a message has words, and not too many");
  // Most are ASCII, for which the whole look costs too much.
  const bool is_ascii =
      std::all_of(words.begin(), words.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  require(is_ascii || torch_npy::detail::escaped(words) == words,
          "a message has nothing but what can be shown");
}

/// As long as it lives, listens to allocations. What goes through one of them on the word of a few
/// bytes is what an attacker wants.
class AllocationLimit {
 public:
  explicit AllocationLimit(std::size_t bytes) : limit_(bytes) { largest_allocation = 0; }
  AllocationLimit(const AllocationLimit&) = delete;
  AllocationLimit& operator=(const AllocationLimit&) = delete;
  ~AllocationLimit() { require(largest_allocation <= limit_, "allocations stay within limits"); }

 private:
  std::size_t limit_;
};

/// A file in memory, with a path, of which the content is set again and again.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("fuzz", 0)) {
    if (fd_ == -1) throw std::runtime_error("memfd_create");
    path_ = "/proc/self/fd/" + std::to_string(fd_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(fd_); }

  const std::filesystem::path& holding(const void* data, std::size_t size) {
    const bool written = ::pwrite(fd_, data, size, 0) == static_cast<ssize_t>(size);
    require(written && ::ftruncate(fd_, static_cast<off_t>(size)) == 0, "the file is written");
    return path_;
  }

 private:
  int fd_;
  std::filesystem::path path_;
};

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
