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

/// Processors this process may use; at least 1. Asked once: it opens a file, which takes longer
/// than loading a small array.
inline std::size_t processor_count() {
  static const std::size_t count = std::max<std::size_t>(1, std::thread::hardware_concurrency());
  return count;
}

/// for_each_index() by several threads, its job without its type: std::thread is a template that
/// costs a compiler much, and would be made anew for every job.
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
        next = count;  // whatever has a lower index is under way already, and will be heard
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
    // No more threads to be had, or no memory for one: those there are do it all.
  }
  work();
  for (std::thread& other : others) other.join();
  if (error) std::rethrow_exception(error);
}

/// Calls `job(0)` ... `job(count - 1)`, each once, on at most `threads` threads, the caller's among
/// them. After a job has thrown, no further one is begun; of all that threw, the exception with the
/// lowest index is thrown again here, so that a run over bad input fails the same way every time.
///
/// The threads are plain ones, started and joined here. LibTorch's own pool is not used: in the
/// workers of a data loader it would start a pool a worker.
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
