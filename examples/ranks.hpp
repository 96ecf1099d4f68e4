#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <thread>

/// Waits for all ranks and tells which of them failed, and how. Once one has, the others notice and
/// end by themselves; what has not done so in time is killed.
inline bool all_succeed(std::map<pid_t, int> running, std::chrono::seconds time) {
  using Clock = std::chrono::steady_clock;
  auto deadline = Clock::time_point::max();
  while (!running.empty()) {
    int status = 0;
    const pid_t ended = waitpid(-1, &status, WNOHANG);
    if (ended <= 0) {
      if (Clock::now() > deadline) {
        for (const auto& [process, rank] : running) kill(process, SIGKILL);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      continue;
    }
    const int rank = running.at(ended);
    running.erase(ended);
    if (status == 0) continue;
    deadline = std::min(deadline, Clock::now() + time);
    if (WIFSIGNALED(status)) {
      std::fprintf(stderr, "rank %d died: %s\n", rank, strsignal(WTERMSIG(status)));
    } else {
      std::fprintf(stderr, "rank %d ended with exit code %d\n", rank, WEXITSTATUS(status));
    }
  }
  return deadline == Clock::time_point::max();
}

/// Calls run(rank, port) in a process for each rank, where `port` is a pipe by which rank 0 tells
/// the others its port. Gives the exit status of the whole program: when a rank dies, all end.
/// Called before LibTorch has done anything: a fork does not take its threads along.
template <class Run>
int run_ranks(int ranks, std::chrono::seconds time_to_end, const Run& run) {
  int port[2];
  if (pipe(port) != 0) return std::perror("pipe"), 1;
  std::map<pid_t, int> processes;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t process = fork();
    if (process < 0) return std::perror("fork"), 1;
    if (process != 0) {
      processes[process] = rank;
      continue;
    }
    try {
      run(rank, port);
      return 0;
    } catch (const c10::Error& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what_without_backtrace());
    } catch (const std::exception& error) {
      std::fprintf(stderr, "rank %d: %s\n", rank, error.what());
    }
    return 1;
  }
  close(port[1]);
  return all_succeed(processes, time_to_end) ? 0 : 1;
}
