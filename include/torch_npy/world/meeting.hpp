#ifndef TORCH_NPY_WORLD_MEETING_HPP_
#define TORCH_NPY_WORLD_MEETING_HPP_

#include <c10/util/Exception.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/version.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/world/address.hpp>
#include <torch_npy/world/launch.hpp>
#include <torch_npy/world/port_file.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

using StorePointer = c10::intrusive_ptr<c10d::Store>;

/// "rank 1 of 4: ...".
inline Error world_error(const Launch& launch, const std::string& reason,
                         ErrorCode code = ErrorCode::Io) {
  return Error(code, "rank " + std::to_string(launch.rank) + " of " + std::to_string(launch.size) +
                         ": " + reason);
}

/// The first line of what an exception says: LibTorch adds its call stack.
inline std::string reason_of(const std::exception& error) {
  const auto* const own = dynamic_cast<const c10::Error*>(&error);
  const std::string text = own ? own->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

/// Calls `work`, which uses LibTorch's stores and process groups. Their exceptions become an Error
/// (Io): `<rank>: <what> failed: <reason>; <way out>`.
template <class Work>
auto with_rank(const Launch& launch, const std::string& what, const std::string& way_out,
               Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw world_error(launch, what + " failed: " + reason_of(error) + "; " + way_out);
  }
}

/// A moment after which nothing is waited for, and pauses until then.
class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds time)
      : time_(time), end_(std::chrono::steady_clock::now() + time) {}

  bool is_over() const { return std::chrono::steady_clock::now() >= end_; }

  std::chrono::milliseconds left() const {
    return (std::max)(std::chrono::duration_cast<std::chrono::milliseconds>(
                          end_ - std::chrono::steady_clock::now()),
                      std::chrono::milliseconds(1));
  }

  /// Short pauses first, for those who are in time; then longer ones, which cost the others less.
  void pause() { std::this_thread::sleep_for(next_pause()); }
  std::chrono::milliseconds next_pause() {
    const std::chrono::milliseconds now = (std::min)(pause_, left());
    pause_ = (std::min)(pause_ * 3 / 2, std::chrono::milliseconds(200));
    return now;
  }

  /// "12.5 s", for messages.
  std::string shown() const {
    std::ostringstream text;
    text << std::chrono::duration<double>(time_).count() << " s";
    return text.str();
  }

 private:
  std::chrono::milliseconds time_;
  std::chrono::steady_clock::time_point end_;
  std::chrono::milliseconds pause_{2};
};

/// "rank 3", "ranks 1, 4 to 9".
inline std::string named_ranks(const std::vector<std::size_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t first = 0; first < ranks.size();) {
    std::size_t last = first;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    if (last == first + 1) --last;  // two ranks are no range
    text += (first == 0 ? "" : ", ") + std::to_string(ranks[first]);
    if (last != first) text += " to " + std::to_string(ranks[last]);
    first = last + 1;
  }
  return text;
}

/// Where the ranks of one start have met.
struct Meeting {
  StorePointer store;   ///< for them alone
  std::string address;  ///< of this machine, which the other ranks reach
};

/// The ranks of one start agree that they are together, through a store that may have served
/// earlier starts of the same ranks.
///
/// A store of torchrun's agent outlives restarts, and the restart counts of agents differ. So rank
/// 0 calls a new round: it counts rounds in the store and writes the round into the key "state".
/// Each other rank that sees a new round answers it, with a number that no other process has. When
/// rank 0 has all answers, it replaces the call in "state" by the list of these numbers, if no
/// other process of rank 0 has called a later round since; otherwise it throws. A rank that finds
/// its own number in the list has met the others. A rank that does not waits for the next round:
/// the list is of an earlier start, or contains another process of this rank, which has died. So
/// only processes that wait for each other are together, whichever start their launcher counts. One
/// that dies after its answer is missed when the ranks connect, and costs one round.
///
/// All of this takes one deadline. Then the Error names the ranks that are missing.
class Agreement {
 public:
  /// `address` is the address of this machine as far as it is known.
  Agreement(const Launch& launch, StorePointer store, std::string address, Deadline& deadline)
      : launch_(launch),
        store_(c10::make_intrusive<c10d::PrefixStore>(
            launch.job.empty() ? "torch_npy" : "torch_npy/" + launch.job, std::move(store))),
        address_(std::move(address)),
        deadline_(deadline) {}

  /// Calls `all_here` on rank 0 when all ranks have answered, before they go on.
  template <class AllHere>
  Meeting meet(const AllHere& all_here) {
    const std::int64_t round = launch_.rank == 0 ? call(all_here) : answer();
    return {c10::make_intrusive<c10d::PrefixStore>("round " + std::to_string(round), store_),
            address_};
  }

 private:
  static std::vector<std::uint8_t> bytes(const std::string& text) {
    return {text.begin(), text.end()};
  }
  std::string get(const std::string& key) {
    const std::vector<std::uint8_t> value = store_->get(key);
    return {value.begin(), value.end()};
  }
  static std::string answer_key(std::int64_t round, std::size_t rank) {
    return "answer " + std::to_string(round) + " " + std::to_string(rank);
  }

  template <class AllHere>
  std::int64_t call(const AllHere& all_here) {
    const std::int64_t round = store_->add("rounds", 1);
    const std::string start = std::to_string(round) + " " + std::to_string(launch_.size);
    store_->set("state", bytes("call " + start));
    std::vector<std::string> keys;
    for (std::size_t rank = 1; rank < launch_.size; ++rank) keys.push_back(answer_key(round, rank));
    while (!store_->check(keys)) {
      if (get("state") != "call " + start) throw_replaced();
      if (deadline_.is_over()) throw_missing(unanswered(round), "did not start");
      deadline_.pause();
    }
    all_here();
    std::string go = "go " + start;
    for (const std::string& key : keys) {
      std::istringstream answer(get(key));
      std::string number, address;
      answer >> number >> address;
      go += " " + number;
      look_from_outside(address);
    }
    go += " " + address_;
    const auto result = store_->compareSet("state", bytes("call " + start), bytes(go));
    if (std::string(result.begin(), result.end()) == go) return round;
    throw_replaced();
  }

  [[noreturn]] void throw_replaced() const {
    throw world_error(launch_,
                      "another process has started as rank 0 since: end one of them; two runs must "
                      "not use the same MASTER_ADDR and MASTER_PORT");
  }

  std::int64_t answer() {
    const std::string number = std::to_string(store_->add("processes", 1));
    std::string answered;
    for (;; deadline_.pause()) {
      if (deadline_.is_over()) throw_missing(missing(), "did not start");
      if (!store_->check({"state"})) continue;
      const std::string state = get("state");
      std::istringstream words(state);
      std::string what, named;
      std::int64_t round = 0;
      std::uint64_t size = 0;
      words >> what >> round >> size;
      if (size != launch_.size) continue;  // of a start with another number of ranks
      if (what == "call" && state != answered) {
        store_->set(answer_key(round, launch_.rank), bytes(number + " " + address_));
        answered = state;
      }
      if (what != "go") continue;
      for (std::uint32_t rank = 0; rank < launch_.rank; ++rank) words >> named;
      if (named != number) continue;
      while (words >> named) continue;  // at the end is the address of rank 0
      look_from_outside(named);
      return round;
    }
  }

  /// The name of the machine of the store may be a loopback address there, as on Debian. Then its
  /// address is that from which it reaches another machine, which has the address `other`.
  void look_from_outside(const std::string& other) {
    if (!is_loopback(address_) || is_loopback(other)) return;
    address_ = address_towards(other, 1).value_or(address_);
  }

  std::vector<std::size_t> unanswered(std::int64_t round) {
    std::vector<std::size_t> ranks;
    for (std::size_t rank = 1; rank < launch_.size; ++rank) {
      if (!store_->check({answer_key(round, rank)})) ranks.push_back(rank);
    }
    return ranks;
  }

  /// The ranks without which this one cannot go on.
  std::vector<std::size_t> missing() {
    if (!store_->check({"state"})) return {0};
    std::istringstream words(get("state"));
    std::string what;
    std::int64_t round = 0;
    std::uint64_t size = 0;
    words >> what >> round >> size;
    if (what != "call" || size != launch_.size) return {0};
    const std::vector<std::size_t> ranks = unanswered(round);
    return ranks.empty() ? std::vector<std::size_t>{0} : ranks;
  }

  [[noreturn]] void throw_missing(const std::vector<std::size_t>& ranks, const char* what) {
    throw world_error(launch_, named_ranks(ranks) + " " + what + " within " + deadline_.shown() +
                                   ": look at the output of " + named_ranks(ranks) +
                                   ", or wait longer, with WorldOptions::start_timeout()");
  }

  const Launch& launch_;
  StorePointer store_;
  std::string address_;
  Deadline& deadline_;
};

/// A TCPStore. Throws what it throws.
inline c10::intrusive_ptr<c10d::TCPStore> open_store(const std::string& host, std::uint16_t port,
                                                     bool is_server, const Deadline& deadline) {
  c10d::TCPStoreOptions options;
  options.port = port;
  options.isServer = is_server;
  options.waitWorkers = false;
  options.multiTenant = port != 0;  // a program may make a second World
  // Whole seconds: LibTorch rounds down.
  options.timeout = std::chrono::ceil<std::chrono::seconds>(deadline.left());
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
  options.useLibUV = false;  // the default there, and missing in some builds
#endif
  return c10::make_intrusive<c10d::TCPStore>(host, options);
}

/// The ranks meet, all of them on this machine, through a file with the port of rank 0.
inline Meeting meet_on_this_machine(const Launch& launch, Deadline& deadline) {
  PortFile file(launch.job);
  std::optional<std::uint16_t> port;
  if (launch.rank != 0) {
    while (!(port = file.read())) {
      if (deadline.is_over()) {
        throw world_error(launch, "rank 0 did not start within " + deadline.shown() +
                                      ": its port should be in " + shown_path(file.path()) +
                                      "; look at the output of rank 0, or set MASTER_ADDR and "
                                      "MASTER_PORT");
      }
      deadline.pause();
    }
  }
  const auto store = open_store(kLoopback, port.value_or(0), launch.rank == 0, deadline);
  if (launch.rank == 0) file.write(store->getPort());
  return Agreement(launch, store, kLoopback, deadline).meet([&] { file.remove(); });
}

/// The ranks meet at the host and the port of the launch.
inline Meeting meet_at_host(const Launch& launch, Deadline& deadline) {
  const std::string where = launch.host + ":" + std::to_string(launch.port);
  const bool is_server = launch.rank == 0 && !launch.has_agent_store;
  const StorePointer store = with_rank(
      launch, (is_server ? "listening at " : "connecting to ") + where,
      launch.has_agent_store
          ? "torchrun's agent should listen there; it must have the same release "
            "of LibTorch as this program"
      : is_server ? "MASTER_PORT must be free on this machine, and MASTER_ADDR must name it"
                  : "rank 0 should listen there: look at its output, or correct MASTER_ADDR and "
                    "MASTER_PORT",
      [&] { return open_store(launch.host, launch.port, is_server, deadline); });
  std::string address = launch.is_one_machine
                            ? kLoopback
                            : address_towards(launch.host, launch.port).value_or(kLoopback);
  return Agreement(launch, store, std::move(address), deadline).meet([] {});
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_WORLD_MEETING_HPP_
