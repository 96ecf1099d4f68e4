// Exceptions and skipped samples in the epochs of a Loader.

#include <torch_npy/data/loader.hpp>

#include <atomic>
#include <cstddef>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/loading.hpp"

using namespace torch_npy;

namespace {

/// An exception of a type of its own, which no wrapper could keep.
struct BadBatch : std::runtime_error {
  explicit BadBatch(std::size_t batch)
      : std::runtime_error("bad batch " + std::to_string(batch)), index(batch) {}
  std::size_t index;
};

using IsBad = std::function<bool(std::size_t batch)>;

/// Reads a batch of one sample, or throws.
auto failing(IsBad is_bad) {
  return [is_bad = std::move(is_bad)](Request& request) {
    const std::size_t index = request.picks.at(0).index;
    if (is_bad(index)) throw BadBatch(index);
    return Seen(request);
  };
}

constexpr std::size_t kBatches = 12;

/// What an epoch gives: the numbers of its batches, -1 - number for those that threw.
std::vector<int> events_of(SeenLoader& loader) {
  std::vector<int> events;
  const auto note = [&](const BadBatch& error) {
    events.push_back(-1 - static_cast<int>(error.index));
  };
  for (auto at = loader.begin(); at != loader.end();) {
    try {
      events.push_back(static_cast<int>(at->indices.at(0)));
    } catch (const BadBatch& error) {
      note(error);
    }
    for (bool failed = true; failed;) {
      try {
        ++at;
        failed = false;
      } catch (const BadBatch& error) {
        note(error);
        // There is no batch, and it is not the end.
        CHECK(at != loader.end());
        CHECK(error_of([&] { (void)*at; }).code() == ErrorCode::InvalidArgument);
        CHECK(error_of([&] { (void)at->seed; }).code() == ErrorCode::InvalidArgument);
      }
    }
  }
  return events;
}

/// Removes the samples for which `is_bad` is true, as OnBadFile::Skip does.
auto skipping(IsBad is_bad) {
  return [is_bad = std::move(is_bad)](Request& request) {
    std::vector<Pick> left;
    for (const Pick& pick : request.picks) {
      if (!is_bad(pick.index)) left.push_back(pick);
    }
    request.picks = left;
    return Seen(request);
  };
}

}  // namespace

TEST_CASE("an exception is thrown as itself, in its turn, and no other batch is lost", "[loader]") {
  const std::vector<IsBad> cases{
      [](std::size_t i) { return i == 0; },
      [](std::size_t i) { return i == 5; },
      [](std::size_t i) { return i == kBatches - 1; },
      [](std::size_t i) { return i % 2 == 0; },
      [](std::size_t i) { return i % 3 != 0; },
      [](std::size_t i) { return i < 9; },
      [](std::size_t) { return true; },
  };
  for (const std::size_t workers : {0, 1, 2, 7}) {
    for (std::size_t which = 0; which < cases.size(); ++which) {
      INFO(workers << " workers, case " << which);
      SeenLoader loader(counted(kBatches), failing(cases[which]), LoaderOptions().workers(workers));
      std::vector<int> want;
      for (std::size_t i = 0; i < kBatches; ++i) {
        want.push_back(cases[which](i) ? -1 - static_cast<int>(i) : static_cast<int>(i));
      }
      for (int epoch = 0; epoch < 3; ++epoch) CHECK(events_of(loader) == want);
      CHECK(loader.epoch() == 3);
    }
  }
}

TEST_CASE("if the first batch fails, begin() does not throw and *it always does", "[loader]") {
  for (const std::size_t workers : {0, 2}) {
    SeenLoader loader(counted(3), failing([](std::size_t i) { return i == 0; }),
                      LoaderOptions().workers(workers));
    auto at = loader.begin();
    CHECK(at != loader.end());
    CHECK_THROWS_AS(*at, BadBatch);
    CHECK_THROWS_AS(*at, BadBatch);
    CHECK_THROWS_AS(at->seed, BadBatch);
    ++at;
    CHECK(at->indices == Indices{1});
  }
}

TEST_CASE("an epoch that was left by an exception is over", "[loader]") {
  for (const std::size_t workers : {0, 1, 3}) {
    for (const std::size_t bad : {0, 1, 11}) {
      INFO(workers << " workers, batch " << bad);
      std::atomic<bool> is_whole{false};
      SeenLoader loader(counted(kBatches),
                        failing([&](std::size_t i) { return i == bad && !is_whole; }),
                        LoaderOptions().workers(workers));
      for (std::uint64_t epoch = 0; epoch < 5; ++epoch) {
        std::size_t got = 0;
        const auto loop = [&] {
          for (auto& batch : loader) {
            CHECK(batch.epoch == epoch);
            ++got;
          }
        };
        CHECK_THROWS_AS(loop(), BadBatch);
        CHECK(got == bad);
      }
      (void)loader.begin();  // workers may be reading a batch of this epoch when it ends
      is_whole = true;
      CHECK(epoch_of(loader).size() == kBatches);
      CHECK(loader.epoch() == 7);
    }
  }
}

TEST_CASE("an exception of a batch that was not reached is dropped", "[loader]") {
  for (const std::size_t workers : {1, 4}) {
    std::atomic<bool> is_whole{false};
    SeenLoader loader(counted(kBatches), failing([&](std::size_t i) { return i > 1 && !is_whole; }),
                      LoaderOptions().workers(workers));
    for (auto& batch : loader) {
      if (batch.indices[0] == 1) break;
    }
    is_whole = true;
    CHECK(epoch_of(loader).size() == kBatches);
  }
}

TEST_CASE("anything may be thrown", "[loader]") {
  for (const std::size_t workers : {0, 1}) {
    SeenLoader loader(
        counted(1),
        [](Request& request) {
          if (request.epoch == 0) throw 7;
          return Seen(request);
        },
        LoaderOptions().workers(workers));
    CHECK_THROWS_AS(*loader.begin(), int);
    CHECK(epoch_of(loader).size() == 1);
  }
}

TEST_CASE("a batch of which all samples were skipped is not returned", "[loader]") {
  const std::vector<IsBad> cases{
      [](std::size_t i) { return i / 2 == 0; }, [](std::size_t i) { return i / 2 == 4; },
      [](std::size_t i) { return i / 2 == 9; }, [](std::size_t i) { return i >= 6; },
      [](std::size_t i) { return i % 4 < 2; },  [](std::size_t i) { return i % 2 == 0; },
  };
  for (const std::size_t workers : {0, 1, 3}) {
    for (std::size_t which = 0; which < cases.size(); ++which) {
      INFO(workers << " workers, case " << which);
      SeenLoader loader(counted(20), skipping(cases[which]),
                        LoaderOptions().batch_size(2).workers(workers));
      Indices want;
      for (std::size_t i = 0; i < 20; ++i) {
        if (!cases[which](i)) want.push_back(i);
      }
      for (int epoch = 0; epoch < 2; ++epoch) {
        const std::vector<Seen> got = epoch_of(loader);
        CHECK(indices_in(got) == want);
        for (const Seen& batch : got) CHECK(!batch.indices.empty());
      }
      CHECK(loader.epoch() == 2);
      CHECK(loader.stats().skipped == 2 * (20 - want.size()));
      CHECK(loader.stats().samples == 2 * want.size());
    }
  }
}

TEST_CASE("a function may return no batch if all samples were skipped", "[loader]") {
  Loader loader(counted(4), [](Request& request) -> std::optional<Seen> {
    if (request.picks[0].index != 2) return Seen(request);
    request.picks.clear();
    return std::nullopt;
  });
  static_assert(std::is_same_v<decltype(loader), SeenLoader>);
  CHECK(indices_in(epoch_of(loader)) == Indices{0, 1, 3});
}

TEST_CASE("with several ranks a batch of which all samples were skipped is an Error", "[loader]") {
  for (const std::size_t workers : {0, 2}) {
    SeenLoader loader(counted(12), skipping([](std::size_t i) { return i == 4; }),
                      LoaderOptions().workers(workers).shard(2, 0));
    auto at = loader.begin();
    ++at;
    CHECK(at->indices == Indices{2});
    const Error error = error_of([&] { ++at; });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("OnBadFile::Replace"));
    CHECK_THAT(error.what(), says("all 1 sample of batch 2"));
    ++at;
    CHECK(at->indices == Indices{6});
    CHECK(rest_of(loader, at).size() == 3);
  }
}
