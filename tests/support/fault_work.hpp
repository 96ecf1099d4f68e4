#pragma once

// Every system call of a piece of work fails in turn, in every way that it can.

#include <torch/data.h>

#include <torch_npy.hpp>

#include <ATen/ops/arange.h>

#include <cerrno>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>

#include "support/catch.hpp"
#include "support/faults.hpp"
#include "support/files.hpp"

inline std::ptrdiff_t open_files() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

/// Mappings of files in the folder.
inline std::ptrdiff_t mappings_of(const Folder& folder) {
  std::ifstream maps("/proc/self/maps");
  std::ptrdiff_t count = 0;
  for (std::string line; std::getline(maps, line);) {
    count += line.find(folder.path().string()) != line.npos;
  }
  return count;
}

/// A way to fail, and what it may lead to: success, or an Error of this code.
struct Kind {
  const char* name;
  unsigned calls;  ///< that can fail so
  Fault fault;
  std::optional<torch_npy::ErrorCode> code;  ///< none: the work must succeed
};

inline const Kind kKinds[] = {
    {"EINTR",
     kOpen | kRead | kWrite | kSync | kClose | kLock | kTruncate,
     {Fault::Fails, EINTR},
     {}},
    {"a short read or write", kRead | kWrite, {Fault::Short}, {}},
    {"EIO",
     kOpen | kClose | kStat | kRead | kWrite | kMap | kTruncate | kSync | kRename | kReadLink |
         kListFolder,
     {Fault::Fails, EIO},
     torch_npy::ErrorCode::Io},
    {"EACCES",
     kOpen | kStat | kMap | kRename | kReadLink,
     {Fault::Fails, EACCES},
     torch_npy::ErrorCode::Io},
    {"ENOSPC",
     kOpen | kWrite | kClose | kSync | kRename,
     {Fault::Fails, ENOSPC},
     torch_npy::ErrorCode::Io},
    {"EMFILE", kOpen, {Fault::Fails, EMFILE}, torch_npy::ErrorCode::Exhausted},
    {"ENOMEM",
     kOpen | kStat | kMap | kRename | kListFolder,
     {Fault::Fails, ENOMEM},
     torch_npy::ErrorCode::OutOfMemory},
    {"a file that ends earlier than it said",
     kRead,
     {Fault::AtEnd},
     torch_npy::ErrorCode::Truncated},
    // Calls whose failure is ignored.
    {"EPERM", kLink | kChmod, {Fault::Fails, EPERM}, {}},
    {"ENOLCK", kLock, {Fault::Fails, ENOLCK}, {}},
    {"EAGAIN", kThread, {Fault::Fails, EAGAIN}, {}},
};

/// Work of the library, which is repeated.
struct Work {
  const char* name;
  std::function<void()> prepare;  ///< before each time, with nothing failing
  std::function<void()> run;      ///< throws where its result is wrong
  /// Afterwards: what must hold, whether run() threw (`done` is false) or not.
  std::function<void(bool done)> check = {};
};

inline std::size_t injected = 0;

inline void inject(const Work& work, const Folder& folder) {
  work.prepare();
  work.run();  // a process makes some objects only once: here
  const auto files = open_files();
  const auto mappings = mappings_of(folder);
  for (const Kind& kind : kKinds) {
    for (std::size_t index = 0;; ++index) {
      INFO(work.name << ", call " << index << ": " << kind.name);
      work.prepare();
      std::string thrown;
      bool is_right = true;
      bool happened;
      {
        const FaultInjection injection(kind.calls, kind.fault, index);
        try {
          work.run();
        } catch (const torch_npy::Error& error) {
          thrown = error.what();
          is_right = kind.code && error.code() == *kind.code && !error.path().empty();
        } catch (const std::exception& error) {
          thrown = std::string("no Error: ") + error.what();
          is_right = false;
        }
        happened = injection.happened();
      }
      INFO("thrown: " << thrown);
      CHECK(is_right);
      if (work.check) work.check(thrown.empty());
      CHECK(open_files() == files);
      CHECK(mappings_of(folder) == mappings);
      if (!happened) break;
      ++injected;
    }
  }
}

inline void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

inline const auto kQuick = torch_npy::SaveOptions().sync(false);

inline at::Tensor floats(at::IntArrayRef sizes) {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  return at::arange(count, at::kFloat).view(sizes);
}
