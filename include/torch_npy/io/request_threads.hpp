#ifndef TORCH_NPY_IO_REQUEST_THREADS_HPP_
#define TORCH_NPY_IO_REQUEST_THREADS_HPP_

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <torch_npy/version.hpp>

// Requests to a store: many wait for it at the same time.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Limits the requests that are under way, and their bytes. Safe from any thread.
class RequestLimit {
 public:
  /// Both are at least 1.
  RequestLimit(std::size_t requests, std::uint64_t bytes) : requests_(requests), bytes_(bytes) {}

  /// Calls `request` as soon as it is within the limits. One that is larger than the limit of bytes
  /// waits until it is alone.
  template <class Request>
  auto run(std::uint64_t bytes, const Request& request) -> decltype(request()) {
    const UnderWay under_way(*this, (std::min)(bytes, bytes_));
    return request();
  }

 private:
  class UnderWay {
   public:
    UnderWay(RequestLimit& limit, std::uint64_t bytes) : limit_(limit), bytes_(bytes) {
      std::unique_lock<std::mutex> lock(limit_.mutex_);
      limit_.ended_.wait(lock, [this] {
        return limit_.used_requests_ < limit_.requests_ &&
               bytes_ <= limit_.bytes_ - limit_.used_bytes_;
      });
      ++limit_.used_requests_;
      limit_.used_bytes_ += bytes_;
    }
    UnderWay(const UnderWay&) = delete;
    UnderWay& operator=(const UnderWay&) = delete;
    ~UnderWay() {
      {
        const std::lock_guard<std::mutex> lock(limit_.mutex_);
        --limit_.used_requests_;
        limit_.used_bytes_ -= bytes_;
      }
      limit_.ended_.notify_all();  // the next one may need more bytes than are free now
    }

   private:
    RequestLimit& limit_;
    std::uint64_t bytes_;
  };

  const std::size_t requests_;
  const std::uint64_t bytes_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::size_t used_requests_ = 0;
  std::uint64_t used_bytes_ = 0;
};

/// Threads that do the jobs of several callers. They start with the first job and stay, because a
/// connection to a store is kept with its thread. Safe from any thread.
class RequestThreads {
 public:
  /// At most `count` threads, besides those of the callers.
  explicit RequestThreads(std::size_t count) : most_(count) {}
  RequestThreads(const RequestThreads&) = delete;
  RequestThreads& operator=(const RequestThreads&) = delete;
  ~RequestThreads() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_stopping_ = true;
    }
    submitted_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  /// As detail::for_each_index() of parallel.hpp, on these threads and the caller's. A job may call
  /// it again: the caller then does what no other thread is free for.
  template <class Job>
  void for_each_index(std::size_t count, const Job& job) {
    if (count == 0) return;
    const auto call = [](const void* context, std::size_t i) {
      (*static_cast<const Job*>(context))(i);
    };
    const auto work = std::make_shared<Work>(count, call, &job);
    if (count > 1) submit(work, (std::min)(count - 1, most_));
    work->run();
    work->finish();
  }

 private:
  /// The jobs of one call.
  class Work {
   public:
    Work(std::size_t count, void (*job)(const void*, std::size_t), const void* context)
        : count_(count), failed_(count), job_(job), context_(context) {}

    /// Does jobs until none is left.
    void run() {
      std::unique_lock<std::mutex> lock(mutex_);
      while (next_ < count_) {
        const std::size_t i = next_++;
        ++running_;
        lock.unlock();
        std::exception_ptr error;
        try {
          job_(context_, i);
        } catch (...) {
          error = std::current_exception();
        }
        lock.lock();
        if (error) fail(i, error);
        if (--running_ == 0) idle_.notify_all();
      }
    }

    /// Waits for the jobs of other threads. Throws the exception of the lowest index.
    void finish() {
      std::unique_lock<std::mutex> lock(mutex_);
      idle_.wait(lock, [this] { return running_ == 0; });
      if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    }

   private:
    void fail(std::size_t i, const std::exception_ptr& error) {
      next_ = count_;  // jobs of a lower index have started already, and report their own error
      if (i >= failed_) return;
      failed_ = i;
      error_ = error;
    }

    const std::size_t count_;
    std::size_t next_ = 0;
    std::size_t running_ = 0;
    std::size_t failed_;
    void (*job_)(const void*, std::size_t);
    const void* context_;
    std::exception_ptr error_;
    std::mutex mutex_;
    std::condition_variable idle_;
  };

  /// Asks `helpers` threads to help. Those that come after the work is done find none.
  void submit(const std::shared_ptr<Work>& work, std::size_t helpers) {
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (std::size_t i = 0; i < helpers; ++i) {
        // Requests for parts of an object before those for other objects, which may wait for them.
        is_one_of_these() ? waiting_.push_front(work) : waiting_.push_back(work);
      }
      while (threads_.size() < most_ && idle_ + starting_ < waiting_.size()) {
        threads_.emplace_back([this] { serve(); });
        ++starting_;
      }
    } catch (const std::exception&) {
      // The system has no more threads or memory: the threads that there are do all the work.
    }
    submitted_.notify_all();
  }

  static bool& is_one_of_these() {
    static thread_local bool is = false;
    return is;
  }

  void serve() {
    is_one_of_these() = true;
    std::unique_lock<std::mutex> lock(mutex_);
    --starting_;
    for (;;) {
      ++idle_;
      submitted_.wait(lock, [this] { return is_stopping_ || !waiting_.empty(); });
      --idle_;
      if (is_stopping_) return;
      const std::shared_ptr<Work> work = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      work->run();
      lock.lock();
    }
  }

  const std::size_t most_;
  std::mutex mutex_;
  std::condition_variable submitted_;
  std::deque<std::shared_ptr<Work>> waiting_;
  std::vector<std::thread> threads_;
  std::size_t idle_ = 0;
  std::size_t starting_ = 0;
  bool is_stopping_ = false;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_REQUEST_THREADS_HPP_
