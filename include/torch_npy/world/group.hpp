#ifndef TORCH_NPY_WORLD_GROUP_HPP_
#define TORCH_NPY_WORLD_GROUP_HPP_

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/Device.h>
#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/version.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
// Without the macro that the CMake target sets, the header of that name is empty.
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
// USE_C10D_NCCL does the same for NCCL, but LibTorch's own CMake target sets it also where the
// headers of CUDA are missing.
#ifdef TORCH_NPY_WITH_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#if TORCH_VERSION_MAJOR >= 2
#include <torch/csrc/distributed/c10d/Backend.hpp>
#else
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#endif

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
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
#if defined(TORCH_NPY_WITH_NCCL) && !defined(USE_C10D_NCCL)
#error "TORCH_NPY_WITH_NCCL needs USE_C10D_NCCL, too"
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

/// A store for the addresses of a group. It polls, because LibTorch's TCPStore lets no other thread
/// use it during a wait.
class AddressStore : public c10d::PrefixStore {
 public:
  AddressStore(const std::string& prefix, StorePointer store)
      : PrefixStore(prefix, std::move(store)) {}

  using PrefixStore::wait;
  void wait(const std::vector<std::string>& keys,
            const std::chrono::milliseconds& timeout) override {
    for (Deadline deadline(timeout); !check(keys); deadline.pause()) {
      if (deadline.is_over()) throw std::runtime_error("a rank did not write its address");
    }
  }
};

/// Calls `make` in a thread, and waits for the group it returns. Gloo would wait for a rank that
/// dies in the moment in which they connect, for five times the timeout of its operations. This
/// waits for `time` at most, and no longer than until a rank writes that it failed. The thread then
/// stays, and `make` owns all it needs: the process is about to end.
template <class Make>
GroupPointer connect(const Launch& launch, const StorePointer& store,
                     std::chrono::milliseconds time, const Make& make) {
  constexpr char kFailed[] = "failed";
  const auto promise = std::make_shared<std::promise<GroupPointer>>();
  std::future<GroupPointer> group = promise->get_future();
  std::thread thread([promise, make] {
    try {
      promise->set_value(make());
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
  });
  try {
    for (Deadline deadline(time);
         group.wait_for(deadline.next_pause()) != std::future_status::ready;) {
      if (deadline.is_over()) throw std::runtime_error("timeout after " + deadline.shown());
      if (!store->check({kFailed})) continue;
      const std::vector<std::uint8_t> rank = store->get(kFailed);
      throw std::runtime_error("rank " + std::string(rank.begin(), rank.end()) + " failed");
    }
    thread.join();
    return group.get();
  } catch (...) {
    if (thread.joinable()) thread.detach();
    const std::string rank = std::to_string(launch.rank);
    if (launch.size > 1) store->set(kFailed, std::vector<std::uint8_t>(rank.begin(), rank.end()));
    throw;
  }
}

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
  const auto make = [launch, meeting, timeout, interface] {
    const auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    options->devices.push_back(
        interface.empty() ? c10d::ProcessGroupGloo::createDeviceForHostname(meeting.address)
                          : c10d::ProcessGroupGloo::createDeviceForInterface(interface));
    const auto store = c10::make_intrusive<AddressStore>("gloo", meeting.store);
    const auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(
        store, static_cast<int>(launch.rank), static_cast<int>(launch.size), options);
    // Until all are connected: rank 0 may keep the addresses, and may end soon.
    group->barrier()->wait();
    return GroupPointer(group);
  };
  return with_rank(launch, "connecting the ranks with Gloo",
                   "a rank may have ended: look at the output of the others. Gloo uses " +
                       (interface.empty() ? "the address " + meeting.address + " of this machine"
                                          : "the interface " + in_quotes(interface)) +
                       "; GLOO_SOCKET_IFNAME chooses another interface",
                   [&] { return connect(launch, meeting.store, start_timeout, make); });
}

#ifdef TORCH_NPY_WITH_NCCL
/// LibTorch's destructor ends the operations that still run on the GPU, and their results are wrong
/// then. shutdown() waits for them.
class NcclGroup : public c10d::ProcessGroupNCCL {
 public:
  using ProcessGroupNCCL::ProcessGroupNCCL;
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;
  ~NcclGroup() override {
    try {
      ProcessGroupNCCL::shutdown();
    } catch (const std::exception& error) {
      TORCH_WARN("closing the connections of NCCL: ", error.what());
    }
  }
};

/// A group of all ranks for tensors on GPUs.
inline GroupPointer make_nccl(const Launch& launch, const Meeting& meeting, c10::Device device,
                              std::chrono::milliseconds start_timeout,
                              std::chrono::milliseconds timeout) {
  const auto make = [launch, meeting, device, timeout] {
    const auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = timeout;
    const auto store = c10::make_intrusive<c10d::PrefixStore>("nccl", meeting.store);
    const auto group = c10::make_intrusive<NcclGroup>(store, static_cast<int>(launch.rank),
                                                      static_cast<int>(launch.size), options);
    // NCCL connects the ranks when the first operation starts.
    std::vector<at::Tensor> numbers{at::zeros({1}, at::TensorOptions(at::kFloat).device(device))};
    if (launch.size > 1) group->allreduce(numbers)->wait();
    return GroupPointer(group);
  };
  return with_rank(launch, "connecting the ranks with NCCL",
                   "each rank needs a GPU of its own, unless WorldOptions::device() is the CPU; "
                   "NCCL_DEBUG=INFO says more",
                   [&] { return connect(launch, meeting.store, start_timeout, make); });
}
#endif

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_WORLD_GROUP_HPP_
