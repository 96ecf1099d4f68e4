#pragma once

#include <atomic>
#include <cstddef>
#include <vector>

// System calls and allocations that fail on demand: faults.cpp replaces the functions of the C
// library.

/// Kinds of calls, of which several make a set.
enum Call : unsigned {
  kOpen = 1 << 0,
  kClose = 1 << 1,
  kStat = 1 << 2,
  kRead = 1 << 3,
  kWrite = 1 << 4,
  kMap = 1 << 5,
  kTruncate = 1 << 6,
  kLock = 1 << 7,
  kChmod = 1 << 8,
  kSync = 1 << 9,
  kRename = 1 << 10,
  kLink = 1 << 11,
  kReadLink = 1 << 12,
  kListFolder = 1 << 13,
  kThread = 1 << 14,
  kAllocate = 1 << 15
};

/// What a call does instead of its work.
struct Fault {
  enum Kind { Fails, Short, AtEnd } kind = Fails;
  int error = 0;  ///< errno, of one that fails
};

/// During its lifetime, calls of these kinds are counted, and number `index` of them has the fault.
/// It affects all threads, so there is only one at a time.
class FaultInjection {
 public:
  FaultInjection(unsigned calls, Fault fault, std::size_t index);
  FaultInjection(const FaultInjection&) = delete;
  FaultInjection& operator=(const FaultInjection&) = delete;
  ~FaultInjection();

  /// Whether there were enough calls for one to fail.
  bool happened() const;
};

/// A recorded call: the mode of a created file, whether child programs do not inherit it, whether a
/// folder is flushed.
struct MadeCall {
  Call call;
  unsigned mode = 0;
  bool is_private = true;
  bool is_folder = false;
};

/// The calls of these kinds since then, in order.
void record_calls(unsigned calls);
std::vector<MadeCall> recorded_calls();

/// The number of allocations by new that were not deleted yet.
extern std::atomic<std::ptrdiff_t> live_allocations;
