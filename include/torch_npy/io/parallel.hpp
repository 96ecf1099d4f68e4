#ifndef TORCH_NPY_IO_PARALLEL_HPP_
#define TORCH_NPY_IO_PARALLEL_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The number of processors available to this process, at least 1. Queried once, because the query
/// opens a file, which takes longer than loading a small array.
inline std::size_t processor_count() {
  static const std::size_t count = std::max<std::size_t>(1, std::thread::hardware_concurrency());
  return count;
}

/// for_each_index() on several threads, with a type-erased job: std::thread is expensive to
/// compile, and would be instantiated for every job type.
inline void for_each_index_in_parallel(std::size_t count, std::size_t threads,
                                       void (*job)(const void* context, std::size_t index),
                                       const void* context) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::size_t failed = count;
  std::exception_ptr error;
  const auto work = [&] {
    for (std::size_t i; (i = next.fetch_add(1)) < count;) {
      try {
        job(context, i);
      } catch (...) {
        next = count;  // jobs with a lower index have started already, and report their own error
        const std::lock_guard<std::mutex> lock(mutex);
        if (i < failed) {
          failed = i;
          error = std::current_exception();
        }
      }
    }
  };
  std::vector<std::thread> others;
  others.reserve((std::min)(threads, count) - 1);
  try {
    while (others.size() < others.capacity()) others.emplace_back(work);
  } catch (const std::exception&) {
    // The system has no more threads or memory: the threads that started do all the work.
  }
  work();
  for (std::thread& other : others) other.join();
  if (error) std::rethrow_exception(error);
}

/// Calls `job(0)` ... `job(count - 1)`, each once, on at most `threads` threads including the
/// caller's. After a job throws, no further job starts. If several throw, the exception of the
/// lowest index is rethrown, so that bad input fails the same way in every run.
///
/// Starts and joins its own threads. It does not use LibTorch's thread pool: every worker of a data
/// loader would start a pool of its own.
template <class Job>
void for_each_index(std::size_t count, std::size_t threads, const Job& job) {
  if (threads > 1 && count > 1) {
    const auto call = [](const void* context, std::size_t i) {
      (*static_cast<const Job*>(context))(i);
    };
    return for_each_index_in_parallel(count, threads, call, &job);
  }
  for (std::size_t i = 0; i < count; ++i) job(i);
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_PARALLEL_HPP_
