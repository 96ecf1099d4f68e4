#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <string>
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

/// What a launcher does, for programs that start their ranks themselves: calls run() in a process
/// for each rank, in which the environment has the variables that torchrun sets. With one rank, it
/// calls run() in this process, and leaves the environment as it is. Gives the exit status of the
/// program. Called before LibTorch has done anything: a fork does not take its threads along.
template <class Run>
int run_ranks(int ranks, std::chrono::seconds time_to_end, const Run& run) {
  const auto run_here = [&run] {
    try {
      run();
      return 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 1;
    }
  };
  if (ranks <= 1) return run_here();
  std::map<pid_t, int> processes;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t process = fork();
    if (process < 0) return std::perror("fork"), 1;
    if (process != 0) {
      processes[process] = rank;
      continue;
    }
    const auto set = [](const char* name, int value) {
      setenv(name, std::to_string(value).c_str(), /*overwrite=*/1);
    };
    set("RANK", rank), set("LOCAL_RANK", rank);
    set("WORLD_SIZE", ranks), set("LOCAL_WORLD_SIZE", ranks);
    return run_here();
  }
  return all_succeed(processes, time_to_end) ? 0 : 1;
}
