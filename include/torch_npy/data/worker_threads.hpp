#ifndef TORCH_NPY_DATA_WORKER_THREADS_HPP_
#define TORCH_NPY_DATA_WORKER_THREADS_HPP_

#include <ATen/Parallel.h>

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// The worker threads of a Loader.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Work for a worker.
class Job {
 public:
  Job() = default;
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  virtual ~Job() = default;

  virtual void run() noexcept = 0;

 private:
  friend class WorkerThreads;
  bool is_done_ = false;  // guarded by WorkerThreads::mutex_
};

/// Threads that run jobs, in the order in which they were submitted. Each uses one intra-op thread
/// of LibTorch, because the workers run in parallel already. Other threads keep their number. All
/// functions are for one thread, the owner's.
class WorkerThreads {
 public:
  /// Throws Error (Exhausted) if the system refuses to start a thread.
  explicit WorkerThreads(std::size_t count) {
    // A worker sets the number for the whole process as well; see use_one_intra_op_thread(). Two
    // threads that did this at once could take the other's 1 for the number of the process.
    static std::mutex one_at_a_time;
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    // Asked in a new thread: this one may have a number of its own.
    int intra_op_threads = 1;
    in_new_thread([&] { intra_op_threads = at::get_num_threads(); });
    make_pool(intra_op_threads);
    try {
      threads_.reserve(count);
      while (threads_.size() < count) threads_.emplace_back([this] { work(); });
      wait_until_started();
    } catch (const std::exception& error) {
      wait_until_started();
      if (!threads_.empty()) restore_intra_op_threads(intra_op_threads);
      const std::size_t started = threads_.size();
      stop();
      throw Error(ErrorCode::Exhausted, "the system started only " + counted(started, "worker") +
                                            " of " + std::to_string(count) + ": " + error.what() +
                                            "; use fewer workers()");
    }
    restore_intra_op_threads(intra_op_threads);
  }
  WorkerThreads(const WorkerThreads&) = delete;
  WorkerThreads& operator=(const WorkerThreads&) = delete;

  /// Drops the jobs that have not started, and waits for the others.
  ~WorkerThreads() { stop(); }

  void submit(std::shared_ptr<Job> job) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      waiting_.push_back(std::move(job));
    }
    submitted_.notify_one();
  }

  bool is_done(const Job& job) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return job.is_done_;
  }

  void wait_for(const Job& job) {
    std::unique_lock<std::mutex> lock(mutex_);
    awaited_ = &job;
    finished_.wait(lock, [&job] { return job.is_done_; });
    awaited_ = nullptr;
  }

  /// Drops the jobs that have not started. Does not wait for the others.
  void drop_waiting() {
    std::deque<std::shared_ptr<Job>> dropped;
    const std::lock_guard<std::mutex> lock(mutex_);
    dropped.swap(waiting_);
  }

 private:
  /// The first at::set_num_threads() of a process makes LibTorch start the threads of a pool, and
  /// wait for them without end if the system refuses some. So this finds out before. Throws Error
  /// (Exhausted). For one thread at a time.
  static void make_pool([[maybe_unused]] int intra_op_threads) {
#if AT_PARALLEL_OPENMP
    static bool is_made = false;
    if (is_made) return;
    require_threads((std::max)(static_cast<std::size_t>(intra_op_threads), processor_count()));
    restore_intra_op_threads(intra_op_threads);
    is_made = true;
#endif
  }

  /// Throws Error (Exhausted) if the system refuses so many threads at the same time.
  static void require_threads(std::size_t count) {
    std::mutex mutex;
    std::unique_lock<std::mutex> hold(mutex);  // until all have started
    std::vector<std::thread> threads;
    std::string refused;
    try {
      threads.reserve(count);
      while (threads.size() < count) {
        threads.emplace_back([&] { const std::lock_guard<std::mutex> wait(mutex); });
      }
    } catch (const std::exception& error) {
      refused = error.what();
    }
    hold.unlock();
    for (std::thread& thread : threads) thread.join();
    if (threads.size() == count) return;
    throw Error(ErrorCode::Exhausted,
                "the system started only " + counted(threads.size(), "thread") + " of the " +
                    std::to_string(count) + " that LibTorch needs: " + refused);
  }

  /// at::set_num_threads() sets the number of this thread, and the number with which new threads
  /// begin. A thread takes the latter when it first calls at::get_num_threads(), which would undo
  /// what was set before. LibTorch's own thread pool, which some builds use instead of OpenMP, is
  /// shared by all threads and cannot be changed for one.
  static void use_one_intra_op_thread() {
#if AT_PARALLEL_OPENMP
    (void)at::get_num_threads();
    at::set_num_threads(1);
#endif
  }
  /// In a new thread, because the number of this one has not changed.
  static void restore_intra_op_threads(int count) {
#if AT_PARALLEL_OPENMP
    in_new_thread([count] { at::set_num_threads(count); });
#else
    (void)count;
#endif
  }

  /// Or in this one, if the system starts no thread.
  template <class Work>
  static void in_new_thread(const Work& work) {
    std::optional<std::thread> thread;
    try {
      thread.emplace(work);
    } catch (const std::system_error&) {
      return work();
    }
    thread->join();
  }

  void wait_until_started() {
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return started_ == threads_.size(); });
  }

  void work() {
    use_one_intra_op_thread();
    std::unique_lock<std::mutex> lock(mutex_);
    ++started_;
    finished_.notify_one();
    for (;;) {
      submitted_.wait(lock, [this] { return is_stopping_ || !waiting_.empty(); });
      if (is_stopping_) return;
      std::shared_ptr<Job> job = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      job->run();
      lock.lock();
      job->is_done_ = true;
      const bool is_awaited = job.get() == awaited_;  // waking the owner for another one is costly
      lock.unlock();
      if (is_awaited) finished_.notify_one();
      job.reset();  // without the lock: it may be the last owner of a large batch
      lock.lock();
    }
  }

  void stop() noexcept {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_stopping_ = true;
      waiting_.clear();
    }
    submitted_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  mutable std::mutex mutex_;
  std::condition_variable submitted_;
  std::condition_variable finished_;  // a job, or the start of a thread
  std::deque<std::shared_ptr<Job>> waiting_;
  const Job* awaited_ = nullptr;  // by the owner
  std::size_t started_ = 0;
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_WORKER_THREADS_HPP_
