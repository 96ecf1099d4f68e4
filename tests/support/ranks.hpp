#pragma once

#include <torch_npy/world.hpp>

#include <c10/core/Device.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "support/processes.hpp"

/// A store on a free port, as an agent of torchrun keeps it, in a process of its own.
class Agent {
 public:
  Agent()
      : process_([](const Process& process) -> std::string {
          const torch_npy::detail::Deadline deadline(std::chrono::seconds(60));
          const auto store = torch_npy::detail::open_store("127.0.0.1", 0, true, deadline);
          process.tell(std::to_string(store->getPort()));
          for (;;) ::pause();
        }),
        port_(static_cast<std::uint16_t>(std::stoi(process_.next()))) {}

  std::uint16_t port() const { return port_; }
  void kill() { process_.kill(); }

  /// What a rank of a run with this agent finds in its environment.
  torch_npy::Launch launch(std::size_t rank, std::size_t size) const {
    torch_npy::Launch launch;
    launch.launcher = torch_npy::Launcher::Torchrun;
    launch.rank = static_cast<std::uint32_t>(rank);
    launch.local_rank = launch.rank;
    launch.size = static_cast<std::uint32_t>(size);
    launch.host = "127.0.0.1";
    launch.port = port_;
    launch.has_agent_store = true;
    return launch;
  }

 private:
  Process process_;
  std::uint16_t port_;
};

/// Enough for a slow machine: no test waits for it, unless it fails.
inline torch_npy::WorldOptions patient(c10::Device device = at::kCPU) {
  return torch_npy::WorldOptions()
      .start_timeout(std::chrono::seconds(100))
      .timeout(std::chrono::seconds(100))
      .device(device);
}

/// A process that runs work(world) as one rank.
template <class Work>
Process rank_process(const torch_npy::Launch& launch, const torch_npy::WorldOptions& options,
                     const Work& work) {
  return Process([&](const Process&) -> std::string {
    torch_npy::World world(launch, options);
    return work(world);
  });
}

/// Lets several ranks use one GPU, which NCCL refuses to those of one machine: it takes each of
/// them for one of another machine.
inline void pretend_own_machine(std::size_t rank) {
  ::setenv("NCCL_HOSTID", std::to_string(rank).c_str(), 1);
  ::setenv("NCCL_SOCKET_IFNAME", "lo", 1);
}

/// The results of work(world) of all ranks. All use the device of the options.
template <class Work>
std::vector<std::string> run_world(std::size_t size, const Work& work,
                                   const torch_npy::WorldOptions& options = patient()) {
  const Agent agent;
  std::vector<Process> ranks;
  for (std::size_t rank = 0; rank < size; ++rank) {
    pretend_own_machine(rank);
    ranks.push_back(rank_process(agent.launch(rank, size), options, work));
  }
  return results(ranks);
}
