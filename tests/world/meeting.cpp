// The ranks of one start find each other, in a store that outlives restarts.

#include <torch_npy/world.hpp>

#include <ATen/ops/ones.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/processes.hpp"
#include "support/ranks.hpp"

// After LibTorch's.
#include "support/catch.hpp"

using namespace torch_npy;

namespace {

/// Meets, and proves that the ranks are connected.
std::string sum_of_ranks(World& world) {
  at::Tensor number = at::ones({1}) * static_cast<double>(world.rank() + 1);
  world.allreduce(number);
  return "sum " + std::to_string(static_cast<int>(number.item<double>()));
}

Process start(const Agent& agent, std::size_t rank, std::size_t size,
              const WorldOptions& options = patient()) {
  return rank_process(agent.launch(rank, size), options, sum_of_ranks);
}

std::vector<Process> start_all(const Agent& agent, std::size_t size) {
  std::vector<Process> ranks;
  for (std::size_t rank = 0; rank < size; ++rank) ranks.push_back(start(agent, rank, size));
  return ranks;
}

void check_all(std::vector<Process>& ranks, const std::string& result) {
  for (const std::string& text : results(ranks)) CHECK(text == result);
}

/// Waits until is_seen(store). In a process of its own, as everything that uses the store.
template <class IsSeen>
void wait_until(const Agent& agent, const IsSeen& is_seen) {
  Process watcher([&](const Process&) -> std::string {
    torch_npy::detail::Deadline deadline(std::chrono::seconds(100));
    const auto store = c10::make_intrusive<c10d::PrefixStore>(
        "torch_npy", torch_npy::detail::open_store("127.0.0.1", agent.port(), false, deadline));
    while (!is_seen(*store)) {
      if (deadline.is_over()) return "too late";
      deadline.pause();
    }
    return "seen";
  });
  REQUIRE(watcher.result() == "seen");
}

/// Waits until `count` processes of ranks other than 0 have begun to meet; if `round` is not 0,
/// until the last of these has answered that round as rank `rank`.
void wait_for(const Agent& agent, int count, int round = 0, int rank = 0) {
  const std::string key = "answer " + std::to_string(round) + " " + std::to_string(rank);
  const auto is_answered = [&](c10d::Store& store) {
    if (!store.check({key})) return false;
    const std::vector<std::uint8_t> value = store.get(key);
    return std::string(value.begin(), value.end()).find(std::to_string(count) + " ") == 0;
  };
  wait_until(agent, [&](c10d::Store& store) {
    return store.add("processes", 0) >= count && (round == 0 || is_answered(store));
  });
}

const WorldOptions kHasty = WorldOptions()
                                .start_timeout(std::chrono::milliseconds(3500))
                                .timeout(std::chrono::milliseconds(3500));

bool contains(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("ranks meet, in any order, start after start", "[world]") {
  const Agent agent;
  for (int restart = 0; restart < 3; ++restart) {
    auto ranks = start_all(agent, 4);
    check_all(ranks, "sum 10");
  }
  std::vector<Process> ranks;
  for (const std::size_t rank : {2, 1, 0}) ranks.push_back(start(agent, rank, 3));
  check_all(ranks, "sum 6");  // with another number of ranks
}

TEST_CASE("a start meets, wherever the earlier one was killed", "[world]") {
  const Agent agent;
  std::mt19937 random(1);
  for (int kill = 0; kill < 12; ++kill) {
    auto killed = start_all(agent, 3);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 30000));
    for (Process& rank : killed) rank.kill();
    auto ranks = start_all(agent, 3);
    check_all(ranks, "sum 6");
  }
}

TEST_CASE("a process that was restarted before the others came takes part", "[world]") {
  const Agent agent;
  std::vector<Process> ranks;
  ranks.push_back(start(agent, 0, 3));
  for (int restart = 1; restart <= 2; ++restart) {
    Process killed = start(agent, 1, 3);
    wait_for(agent, restart, 1, 1);
    killed.kill();
  }
  ranks.push_back(start(agent, 1, 3));
  wait_for(agent, 3, 1, 1);
  SECTION("rank 0 is the same process") {}
  SECTION("rank 0 was restarted, too") {
    ranks.front().kill();
    ranks.front() = start(agent, 0, 3);
    wait_for(agent, 3, 2, 1);  // rank 1 answers the new call
  }
  ranks.push_back(start(agent, 2, 3));
  check_all(ranks, "sum 6");
}

TEST_CASE("a rank that still waits takes part in the next start", "[world]") {
  const Agent agent;
  std::vector<Process> ranks;
  ranks.push_back(start(agent, 2, 3));  // its agent did not restart it
  {
    Process zero = start(agent, 0, 3);
    wait_for(agent, 1, 1, 2);
    zero.kill();
  }
  ranks.push_back(start(agent, 1, 3));
  ranks.push_back(start(agent, 0, 3));
  check_all(ranks, "sum 6");
}

TEST_CASE("a rank of an earlier start does not join those of a later one", "[world]") {
  const Agent agent;
  auto first = start_all(agent, 2);
  check_all(first, "sum 3");
  Process late = start(agent, 1, 2, kHasty);  // the others met without it, and have ended
  const std::string text = late.result();
  INFO(text);
  CHECK(contains(text, "rank 1 of 2: rank 0 did not start within 3.5 s"));
}

TEST_CASE("the error names the ranks that are missing", "[world]") {
  const Agent agent;
  std::vector<Process> ranks;
  for (const std::size_t rank : {2, 6}) ranks.push_back(start(agent, rank, 7, kHasty));
  wait_for(agent, 2);
  ranks.push_back(start(agent, 0, 7, kHasty));
  auto texts = results(ranks);
  INFO(texts[2]);
  CHECK(contains(texts[2], "rank 0 of 7: ranks 1, 3 to 5 did not start within 3.5 s"));
  CHECK(contains(texts[2], "look at the output of ranks 1, 3 to 5, or wait longer"));
  // On a slow machine, these may have given up before the others came.
  for (const std::size_t i : {0, 1}) CHECK(contains(texts[i], "did not start within 3.5 s"));

  Process alone = start(agent, 1, 3, kHasty);
  CHECK(contains(alone.result(), "rank 1 of 3: rank 0 did not start within 3.5 s"));
}

TEST_CASE("a second rank 0 ends the first", "[world]") {
  const Agent agent;
  Process first = start(agent, 0, 2);
  wait_until(agent, [](c10d::Store& store) { return store.check({"state"}); });  // it has called
  std::vector<Process> ranks;
  ranks.push_back(start(agent, 0, 2));
  const std::string text = first.result();
  INFO(text);
  CHECK(contains(text, "another process has started as rank 0"));
  ranks.push_back(start(agent, 1, 2));
  check_all(ranks, "sum 3");
}

TEST_CASE("an agent that is not there, and one that ends", "[world]") {
  Agent agent;
  Process waiting = start(agent, 1, 2);
  wait_for(agent, 1);
  agent.kill();
  std::string text = waiting.result();
  INFO(text);
  CHECK(contains(text, "rank 1 of 2: meeting the other ranks failed"));
  Process late = start(agent, 0, 2, kHasty);
  text = late.result();
  INFO(text);
  CHECK(contains(text, "rank 0 of 2: connecting to 127.0.0.1:" + std::to_string(agent.port())));
  CHECK(contains(text, "torchrun's agent should listen there"));
}

TEST_CASE("ranks on one machine meet through a file, twice in a program", "[world]") {
  const std::string job = "test-" + std::to_string(::getpid());
  std::vector<Process> ranks;
  for (std::size_t rank = 0; rank < 3; ++rank) {
    Launch launch;
    launch.rank = static_cast<std::uint32_t>(rank);
    launch.size = 3;
    launch.job = job;
    ranks.push_back(rank_process(launch, patient(), [&](World& first) {
      World second(first.launch(), patient());
      return sum_of_ranks(first) + " " + sum_of_ranks(second);
    }));
  }
  check_all(ranks, "sum 6 sum 6");
  CHECK(!std::filesystem::exists(torch_npy::detail::PortFile(job).path()));
}

TEST_CASE("a file of a process that has died is ignored", "[world]") {
  const std::string job = "stale-" + std::to_string(::getpid());
  const torch_npy::detail::PortFile file(job);
  Process dead([&](const Process&) -> std::string {
    torch_npy::detail::PortFile own(job);
    own.write(1);
    ::_exit(0);  // without its destructor
  });
  CHECK(dead.result() == "died");
  CHECK(std::filesystem::exists(file.path()));
  CHECK(!file.read());
  {
    torch_npy::detail::PortFile mine(job);
    mine.write(54321);
    CHECK(file.read() == 54321);
  }
  CHECK(!std::filesystem::exists(file.path()));
}

TEST_CASE("a file that nobody keeps locked is ignored", "[world]") {
  torch_npy::detail::PortFile file("written-by-hand-" + std::to_string(::getpid()));
  std::ofstream(file.path()) << "54321\n";
  CHECK(!file.read());
  file.write(1);
  CHECK(file.read() == 1);
  file.write(2);
  CHECK(file.read() == 2);
  file.remove();
  CHECK(!file.read());
  CHECK(!std::filesystem::exists(file.path()));
}

TEST_CASE("jobs of similar names have files of their own", "[world]") {
  using torch_npy::detail::PortFile;
  CHECK(PortFile("x/y").path() != PortFile("x_y").path());
  const std::string name(300, 'n');
  CHECK(PortFile(name + "1").path() != PortFile(name + "2").path());
  CHECK(PortFile(name).path() == PortFile(name).path());
  CHECK(PortFile(name).path().filename().string().size() < 200);
}

TEST_CASE("the names of ranks", "[world]") {
  CHECK(torch_npy::detail::named_ranks({3}) == "rank 3");
  CHECK(torch_npy::detail::named_ranks({3, 4}) == "ranks 3, 4");
  CHECK(torch_npy::detail::named_ranks({0, 1, 2, 5, 7, 8}) == "ranks 0 to 2, 5, 7, 8");
}
