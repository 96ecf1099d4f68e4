// Runs that go on with another number of ranks.

#include <torch_npy/world.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "support/loading.hpp"
#include "support/processes.hpp"
#include "support/ranks.hpp"

// After LibTorch's.
#include "support/catch.hpp"

using namespace torch_npy;

namespace {

Loader<Seen> make_loader(const World& world, LoaderOptions options, const char* name = "s") {
  return Loader<Seen>(
      counted(53, name), [](const Request& request) { return std::optional<Seen>(Seen(request)); },
      options.shuffle(true).seed(3).shard(world.size(), world.rank()));
}

std::string shown(const Indices& indices) {
  std::ostringstream text;
  for (const std::size_t index : indices) text << index << ' ';
  return text.str();
}

Indices parsed(const std::string& text) {
  std::istringstream in(text);
  Indices indices;
  for (std::size_t index = 0; in >> index;) indices.push_back(index);
  return indices;
}

/// The state after `steps` batches of 2 ranks, and the samples that nobody had then.
struct Saved {
  LoaderState state;
  Indices left;
};

Saved saved_by_two_ranks(std::size_t steps) {
  Saved saved;
  std::vector<bool> used(53);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    Loader<Seen> loader(
        counted(53), [](const Request& request) { return std::optional<Seen>(Seen(request)); },
        LoaderOptions(4).shuffle(true).seed(3).shard(2, rank));
    auto it = loader.begin();
    for (std::size_t step = 0; step < steps; ++step) {
      if (step != 0) ++it;
      for (const std::size_t index : it->indices) used[index] = true;
    }
    if (rank == 1) CHECK(loader.state() == saved.state);
    saved.state = loader.state();
  }
  for (std::size_t index = 0; index < used.size(); ++index) {
    if (!used[index]) saved.left.push_back(index);
  }
  return saved;
}

}  // namespace

TEST_CASE("the rest of an epoch of 2 ranks goes to 1, 2, 3 or 6, each sample once", "[world]") {
  const auto tail = GENERATE(Tail::Pad, Tail::Exact);
  const std::size_t ranks = GENERATE(1, 2, 3, 6);
  const std::size_t steps = GENERATE(1, 5, 6);  // 45, 13 and 5 samples are left
  CAPTURE(static_cast<int>(tail), ranks, steps);
  const Saved saved = saved_by_two_ranks(steps);
  REQUIRE(saved.left.size() == 53 - 8 * steps);
  const auto texts = run_world(ranks, [&](World& world) -> std::string {
    auto loader = make_loader(world, LoaderOptions(2).tail(tail));
    TORCH_CHECK(world.restore(loader, saved.state));
    Indices indices;
    for (auto& batch : loader) {
      indices.insert(indices.end(), batch.indices.begin(), batch.indices.end());
      // Where the ranks have equally many batches, none waits for one that has none.
      if (tail == Tail::Pad) world.barrier();
    }
    TORCH_CHECK(loader.epoch() == 1);
    return shown(indices);
  });
  Indices all;
  std::vector<std::size_t> counts;
  for (const std::string& text : texts) {
    const Indices indices = parsed(text);
    counts.push_back(indices.size());
    all.insert(all.end(), indices.begin(), indices.end());
  }
  std::sort(all.begin(), all.end());
  const std::size_t each = (saved.left.size() + ranks - 1) / ranks;
  if (tail == Tail::Exact) {
    CHECK(all == saved.left);
    CHECK(*std::max_element(counts.begin(), counts.end()) == each);
  } else {
    // All of the rest, and the few samples from the start of the epoch that make the ranks equal.
    CHECK(std::includes(all.begin(), all.end(), saved.left.begin(), saved.left.end()));
    CHECK(counts == std::vector<std::size_t>(ranks, each));
  }
}

TEST_CASE("ranks with different states are refused on all ranks", "[world]") {
  const LoaderState early = saved_by_two_ranks(2).state, late = saved_by_two_ranks(3).state;
  const auto texts = run_world(4, [&](World& world) -> std::string {
    auto loader = make_loader(world, LoaderOptions(2));
    try {
      world.restore(loader, world.rank() == 2 ? late : early);
    } catch (const Error& error) {
      TORCH_CHECK(loader.state().samples == 0, "the loader was changed");
      return (error.code() == ErrorCode::Mismatch ? "" : "another code ") +
             std::string(error.what());
    }
    return "accepted";
  });
  for (const std::string& text : texts) {
    INFO(text);
    CHECK(text.find(
              "of 4: the ranks restore different states:\n  ranks 0, 1, 3: epoch 0, sample 16,") !=
          std::string::npos);
    CHECK(text.find("\n  rank 2: epoch 0, sample 24,") != std::string::npos);
    CHECK(text.find("load the checkpoint of the same step on every rank") != std::string::npos);
  }
}

TEST_CASE("either all ranks have a state, or none", "[world]") {
  const LoaderState state = saved_by_two_ranks(2).state;
  const auto texts = run_world(2, [&](World& world) -> std::string {
    auto loader = make_loader(world, LoaderOptions(2));
    TORCH_CHECK(!world.restore(loader, std::nullopt));
    TORCH_CHECK(loader.state().samples == 0);
    try {
      world.restore(loader, world.rank() == 1 ? std::optional(state) : std::nullopt);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  });
  for (const std::string& text : texts) {
    INFO(text);
    CHECK(text.find("\n  rank 0: no state\n  rank 1: epoch 0, sample 16,") != std::string::npos);
  }
}

TEST_CASE("a state that does not fit on one rank is refused on all", "[world]") {
  const LoaderState state = saved_by_two_ranks(2).state;
  const auto texts = run_world(3, [&](World& world) -> std::string {
    auto loader = make_loader(world, LoaderOptions(2), world.rank() == 1 ? "other" : "s");
    try {
      world.restore(loader, state);
    } catch (const Error& error) {
      return (error.code() == ErrorCode::Mismatch ? "" : "another code ") +
             std::string(error.what());
    }
    return "accepted";
  });
  CHECK(texts[1].find("the state is at sample 16 of epoch 0") == 0);
  for (const std::size_t rank : {0, 2}) {
    INFO(texts[rank]);
    CHECK(texts[rank].find("rank " + std::to_string(rank) +
                           " of 3: rank 1 cannot restore the state: the state is at sample 16") ==
          0);
    CHECK(texts[rank].find("of another dataset") != std::string::npos);
  }
}
