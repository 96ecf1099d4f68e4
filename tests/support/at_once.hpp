#pragma once

// Work on many threads at once.

#include <torch/data.h>

#include <torch_npy.hpp>

#include <ATen/ops/arange.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <thread>
#include <vector>

inline constexpr int kThreads = 16;

/// Calls `work(thread)` on every thread at once; returns how many of them threw or returned false.
template <class Work>
int failures_of(const Work& work) {
  std::atomic<int> ready{0};
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      ++ready;
      while (ready < kThreads) std::this_thread::yield();
      try {
        failures += !work(i);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "thread %d: %s\n", i, error.what());
        ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return failures;
}

inline at::Tensor floats(at::IntArrayRef sizes, float first = 0) {
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  return at::arange(count, at::kFloat).add(first).view(sizes);
}

inline const auto kQuick = torch_npy::SaveOptions().sync(false);
