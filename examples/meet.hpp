#pragma once

#include <torch/version.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <cstdint>
#include <stdexcept>

/// The ranks meet on this machine's loopback address, and wait `timeout` for one another. Rank 0
/// keeps their addresses, on a port that the system chooses; the pipe `port` takes its number to
/// the other ranks.
///
/// On several machines each rank is told its number, how many there are, and where rank 0 listens;
/// the rest stays.
inline c10::intrusive_ptr<c10d::ProcessGroupGloo> meet(int rank, int ranks, const int (&port)[2],
                                                       std::chrono::seconds timeout) {
  constexpr char kLoopback[] = "127.0.0.1";
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = rank == 0;
  options.waitWorkers = false;
  options.timeout = timeout;
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
  options.useLibUV = false;  // the default where it came in, and missing in some builds
#endif
  if (rank != 0) {
    close(port[1]);  // the pipe then ends when rank 0 does
    if (read(port[0], &options.port, sizeof options.port) != sizeof options.port) {
      throw std::runtime_error("rank 0 ended before it told its port");
    }
  }
  const auto store = c10::make_intrusive<c10d::TCPStore>(kLoopback, options);
  const std::uint16_t chosen = store->getPort();
  for (int other = 1; rank == 0 && other < ranks; ++other) {
    if (write(port[1], &chosen, sizeof chosen) != sizeof chosen) {
      throw std::runtime_error("cannot tell the other ranks the port");
    }
  }
  const auto gloo = c10d::ProcessGroupGloo::Options::create(timeout);
  gloo->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(kLoopback));
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, ranks, gloo);
}
