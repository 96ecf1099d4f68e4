#ifndef TORCH_NPY_WORLD_GROUP_HPP_
#define TORCH_NPY_WORLD_GROUP_HPP_

#include <c10/util/intrusive_ptr.h>
#include <torch/version.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
// Without the macro that the CMake target sets, the header of that name is empty.
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#if TORCH_VERSION_MAJOR >= 2
#include <torch/csrc/distributed/c10d/Backend.hpp>
#else
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#endif

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/world/launch.hpp>
#include <torch_npy/world/meeting.hpp>

#ifndef USE_C10D_GLOO
#error "torch_npy/world.hpp needs Gloo: link torch_npy::world, or define USE_C10D_GLOO"
#endif

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

#if TORCH_VERSION_MAJOR >= 2
using ProcessGroup = c10d::Backend;
#else
using ProcessGroup = c10d::ProcessGroup;
#endif
using GroupPointer = c10::intrusive_ptr<ProcessGroup>;

/// Where the ranks meet: not at all if there is one.
inline Meeting meet(const Launch& launch, std::chrono::milliseconds time) {
  if (launch.size == 1) return {c10::make_intrusive<c10d::HashStore>(), kLoopback};
  Deadline deadline(time);
  return with_rank(launch, "meeting the other ranks",
                   "the process that keeps the ranks' addresses, rank 0 or torchrun's agent, may "
                   "have ended: look at its output",
                   [&] {
                     return launch.host.empty() ? meet_on_this_machine(launch, deadline)
                                                : meet_at_host(launch, deadline);
                   });
}

/// A store for the addresses of a group. Gloo waits for them as long as for any operation; a rank
/// that died since the meeting would never write its own.
class AddressStore : public c10d::PrefixStore {
 public:
  AddressStore(const std::string& prefix, StorePointer store, std::chrono::milliseconds limit)
      : PrefixStore(prefix, std::move(store)), limit_(limit) {}

  using PrefixStore::wait;
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override {
    PrefixStore::wait(keys, (std::min)(timeout, limit_));
  }

 private:
  std::chrono::milliseconds limit_;
};

/// The interface that the user chose for Gloo, as for PyTorch; empty if none.
inline std::string chosen_interface() {
  const char* const names = std::getenv("GLOO_SOCKET_IFNAME");
  const std::string list = names ? names : "";
  return list.substr(0, list.find(','));
}

/// A group of all ranks for tensors in host memory.
inline GroupPointer make_gloo(const Launch& launch, const Meeting& meeting,
                              std::chrono::milliseconds start_timeout,
                              std::chrono::milliseconds timeout) {
  const std::string interface = chosen_interface();
  return with_rank(
      launch, "connecting the ranks with Gloo",
      "a rank may have ended: look at the output of the others. Gloo uses " +
          (interface.empty() ? "the address " + meeting.address + " of this machine"
                             : "the interface " + in_quotes(interface)) +
          "; GLOO_SOCKET_IFNAME chooses another interface",
      [&] {
        const auto options = c10d::ProcessGroupGloo::Options::create(timeout);
        options->devices.push_back(
            interface.empty() ? c10d::ProcessGroupGloo::createDeviceForHostname(meeting.address)
                              : c10d::ProcessGroupGloo::createDeviceForInterface(interface));
        const auto store = c10::make_intrusive<AddressStore>("gloo", meeting.store, start_timeout);
        const auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(
            store, static_cast<int>(launch.rank), static_cast<int>(launch.size), options);
        // Until all are connected: rank 0 may keep the addresses, and may end soon.
        group->barrier()->wait();
        return GroupPointer(group);
      });
}

#ifdef USE_C10D_NCCL
/// A group of all ranks for tensors on GPUs.
inline GroupPointer make_nccl(const Launch& launch, const Meeting& meeting,
                              std::chrono::milliseconds timeout) {
  return with_rank(launch, "connecting the ranks with NCCL", "NCCL_DEBUG=INFO says more", [&] {
    const auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    const auto store = c10::make_intrusive<c10d::PrefixStore>("nccl", meeting.store);
    return GroupPointer(c10::make_intrusive<c10d::ProcessGroupNCCL>(
        store, static_cast<int>(launch.rank), static_cast<int>(launch.size), options));
  });
}
#endif

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_WORLD_GROUP_HPP_
