// Runs that are interrupted and go on.

#include <torch_npy/data/length_order.hpp>
#include <torch_npy/data/loader.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/fake_device.hpp"
#include "support/files.hpp"
#include "support/loading.hpp"

using namespace torch_npy;

namespace {

constexpr std::size_t kSamples = 20;  // 7 batches of 3

/// All batches of `epochs` epochs, and the state in the loop at each of them. The first state is
/// that before the first batch.
struct Run {
  std::vector<Seen> batches;
  std::vector<LoaderState> states;
};

Run whole_run(std::size_t epochs, const LoaderOptions& options) {
  Reads reads;
  SeenLoader loader(counted(kSamples), seen_by(reads), options);
  Run run;
  run.states.push_back(loader.state());
  while (loader.epoch() < epochs) {
    for (auto& batch : loader) {
      run.states.push_back(loader.state());
      run.batches.push_back(std::move(batch));
    }
  }
  return run;
}

/// Takes `count` batches, over the ends of epochs; returns how many there were.
std::size_t take(SeenLoader& loader, std::vector<Seen>& out, std::size_t count) {
  std::size_t taken = 0;
  while (taken < count) {
    for (auto& batch : loader) {
      out.push_back(std::move(batch));
      if (++taken == count) return taken;
    }
  }
  return taken;
}

bool continues(const std::vector<Seen>& got, const std::vector<Seen>& run, std::size_t from) {
  if (from + got.size() > run.size()) return false;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (!got[i].is_same(run[from + i])) return false;
  }
  return true;
}

Error refusal(const LoaderState& state, SeenLoader& loader) {
  return error_of([&] { loader.restore(state); });
}

}  // namespace

TEST_CASE("a run goes on wherever it was interrupted, with any number of workers", "[loader]") {
  const Run run = whole_run(3, shuffled_threes(0));
  REQUIRE(run.batches.size() == 21);
  for (const std::size_t before : {0, 2}) {
    for (const std::size_t after : {0, 1, 3}) {
      for (std::size_t stop = 0; stop <= 20; ++stop) {
        INFO(before << " then " << after << " workers, after " << stop << " batches");
        Reads reads;
        std::vector<Seen> got;
        SeenLoader first(counted(kSamples), seen_by(reads), shuffled_threes(before));
        take(first, got, stop);
        const LoaderState state = first.state();
        CHECK(state == run.states[stop]);

        Reads rest;
        SeenLoader second(counted(kSamples), seen_by(rest), shuffled_threes(after).seed(99));
        second.restore(state);
        CHECK(second.state() == state);
        CHECK(second.epoch() == stop / 7);
        CHECK(second.batches() == 7 - stop % 7);
        got.clear();
        take(second, got, 21 - stop);
        CHECK(continues(got, run.batches, stop));
        CHECK(second.state() == run.states[21]);
        if (after == 0) CHECK(rest.batches() == 21 - stop);  // nothing that was skipped is read
      }
    }
  }
}

TEST_CASE("what was read in advance is not lost, and what was used is not read again", "[loader]") {
  const Run run = whole_run(1, shuffled_threes(0));
  for (std::size_t stop = 0; stop < 7; ++stop) {
    Reads reads;
    SeenLoader loader(counted(kSamples), seen_by(reads), shuffled_threes(2));
    loader.restore(run.states[stop]);
    CHECK(reads.batches() == 0);
    CHECK(epoch_of(loader).size() == 7 - stop);
    Indices want;
    for (std::size_t i = stop; i < 7; ++i) {
      want.insert(want.end(), run.batches[i].indices.begin(), run.batches[i].indices.end());
    }
    Indices read = reads.samples();
    std::sort(read.begin(), read.end());
    std::sort(want.begin(), want.end());
    CHECK(read == want);
  }
}

TEST_CASE("an epoch may be interrupted any number of times", "[loader]") {
  const Run run = whole_run(3, shuffled_threes(0));
  for (const std::size_t workers : {0, 2}) {
    for (const std::size_t step : {1, 2, 3, 5}) {
      INFO(workers << " workers, interrupted every " << step << " batches");
      std::optional<LoaderState> state;
      std::size_t done = 0;
      for (; done + step <= 21; done += step) {
        Reads reads;
        SeenLoader loader(counted(kSamples), seen_by(reads), shuffled_threes(workers));
        if (state) loader.restore(*state);
        std::vector<Seen> got;
        take(loader, got, step);
        CHECK(continues(got, run.batches, done));
        state = loader.state();
        CHECK(*state == run.states[done + step]);
      }
    }
  }
}

TEST_CASE("at the last batch of an epoch the state is the start of the next one", "[loader]") {
  for (const bool drop_last : {false, true}) {
    Reads reads;
    SeenLoader loader(counted(kSamples), seen_by(reads), shuffled_threes(1).drop_last(drop_last));
    LoaderState last;
    for (auto& batch : loader) {
      (void)batch;
      last = loader.state();
      CHECK(loader.epoch() == 0);
    }
    CHECK(last.epoch == 1);
    CHECK(last.samples == 0);
    CHECK(last == loader.state());
    SeenLoader next(counted(kSamples), seen_by(reads), shuffled_threes(1).drop_last(drop_last));
    next.restore(last);
    const std::vector<Seen> got = epoch_of(next);
    CHECK(got.size() == (drop_last ? 6 : 7));
    CHECK(got[0].epoch == 1);
  }
}

TEST_CASE("the batch size may differ when a run goes on", "[loader]") {
  Reads reads;
  SeenLoader whole(counted(kSamples), seen_by(reads), shuffled_threes(0));
  const Indices want = indices_in(epoch_of(whole));
  SeenLoader first(counted(kSamples), seen_by(reads), shuffled_threes(2));
  std::vector<Seen> got;
  take(first, got, 2);
  SeenLoader second(counted(kSamples), seen_by(reads), shuffled_threes(2).batch_size(4));
  second.restore(first.state());
  for (Seen& batch : epoch_of(second)) got.push_back(std::move(batch));
  CHECK(indices_in(got) == want);
}

TEST_CASE("the number of ranks may differ when a run goes on", "[loader]") {
  Reads reads;
  for (const std::size_t before : {1, 2, 3}) {
    for (const std::size_t after : {1, 2, 4}) {
      INFO(before << " then " << after << " ranks");
      const auto options = [](std::size_t ranks, std::size_t rank) {
        return shuffled_threes(1).batch_size(1).tail(Tail::Exact).shard(ranks, rank);
      };
      Indices all;
      std::optional<LoaderState> state;
      for (std::size_t rank = 0; rank < before; ++rank) {
        SeenLoader loader(counted(kSamples), seen_by(reads), options(before, rank));
        std::vector<Seen> got;
        take(loader, got, 3);
        const Indices share = indices_in(got);
        all.insert(all.end(), share.begin(), share.end());
        if (state) CHECK(loader.state() == *state);  // the same on every rank
        state = loader.state();
      }
      for (std::size_t rank = 0; rank < after; ++rank) {
        SeenLoader loader(counted(kSamples), seen_by(reads), options(after, rank));
        loader.restore(*state);
        const Indices share = indices_in(epoch_of(loader));
        all.insert(all.end(), share.begin(), share.end());
      }
      std::sort(all.begin(), all.end());
      REQUIRE(all.size() == kSamples);
      for (std::size_t i = 0; i < kSamples; ++i) CHECK(all[i] == i);
    }
  }
}

TEST_CASE("with Tail::Exact a rank that has its last batch does not end the epoch of the others",
          "[loader]") {
  Reads reads;
  SeenLoader loader(counted(5), seen_by(reads), LoaderOptions().tail(Tail::Exact).shard(2, 1));
  LoaderState last;
  for (auto& batch : loader) {
    (void)batch;
    last = loader.state();
  }
  CHECK(last.epoch == 0);
  CHECK(last.samples == 4);
  CHECK(loader.state().epoch == 1);
}

TEST_CASE("with drop_last, a rank without the last batch of the others does not end their epoch",
          "[loader]") {
  Reads reads;
  std::vector<std::vector<LoaderState>> states(2);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    SeenLoader loader(counted(11), seen_by(reads),
                      LoaderOptions(2).drop_last(true).tail(Tail::Exact).shard(2, rank));
    for (auto& batch : loader) {
      (void)batch;
      states[rank].push_back(loader.state());
    }
  }
  REQUIRE(states[0].size() == 3);
  REQUIRE(states[1].size() == 2);
  for (std::size_t batch = 0; batch < 2; ++batch) CHECK(states[0][batch] == states[1][batch]);
  CHECK(states[1][1].epoch == 0);
  CHECK(states[1][1].samples == 8);
  CHECK(states[0][2].epoch == 1);
  // What is left of the epoch is the batch that only rank 0 has.
  for (std::size_t rank = 0; rank < 2; ++rank) {
    SeenLoader loader(counted(11), seen_by(reads),
                      LoaderOptions(2).drop_last(true).tail(Tail::Exact).shard(2, rank));
    loader.restore(states[1][1]);
    CHECK(indices_in(epoch_of(loader)) == (rank == 0 ? Indices{8, 10} : Indices{}));
    CHECK(loader.state().epoch == 1);
  }
}

TEST_CASE("a batch that failed is read again when the run goes on", "[loader]") {
  std::size_t fails_at = 2;
  const auto read = [&](Request& request) {
    if (request.picks[0].index == fails_at) throw std::runtime_error("bad batch");
    return Seen(request);
  };
  SeenLoader loader(counted(5), read);
  auto at = loader.begin();
  ++at;
  CHECK_THROWS_AS(++at, std::runtime_error);
  CHECK(loader.state().samples == 2);
  const LoaderState state = loader.state();
  ++at;
  CHECK(loader.state().samples == 4);
  fails_at = 99;
  loader.restore(state);
  CHECK(at == loader.end());  // the epoch is over
  CHECK(indices_in(epoch_of(loader)) == Indices{2, 3, 4});

  fails_at = 0;
  SeenLoader first(counted(5), read);
  (void)first.begin();
  CHECK(first.state().samples == 0);
}

TEST_CASE("skipped batches count in the state", "[loader]") {
  const auto read = [](Request& request) {
    if (request.picks[0].index == 2) request.picks.clear();
    return Seen(request);
  };
  SeenLoader loader(counted(5), read);
  auto at = loader.begin();
  ++at;
  CHECK(loader.state().samples == 2);
  ++at;
  CHECK(loader.state().samples == 4);
}

TEST_CASE("restore() in the middle of an epoch, and to an earlier one", "[loader]") {
  const Run run = whole_run(2, shuffled_threes(0));
  Reads reads;
  SeenLoader loader(counted(kSamples), seen_by(reads), shuffled_threes(2));
  std::vector<Seen> got;
  take(loader, got, 12);
  loader.restore(run.states[4]);
  CHECK(loader.epoch() == 0);
  got.clear();
  take(loader, got, 10);
  CHECK(continues(got, run.batches, 4));
}

TEST_CASE("an order that makes the batches goes on at a batch", "[loader]") {
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 0; i < kSamples; ++i)
    lengths.push_back(static_cast<std::int64_t>(i % 6 + 1));
  const LoaderOptions options = LoaderOptions().seed(3).order(by_length(lengths, MaxElements{12}));
  const Run run = whole_run(2, options);
  for (std::size_t stop = 0; stop < run.batches.size(); ++stop) {
    Reads reads;
    SeenLoader loader(counted(kSamples), seen_by(reads), options);
    loader.restore(run.states[stop]);
    std::vector<Seen> got;
    take(loader, got, run.batches.size() - stop);
    CHECK(continues(got, run.batches, stop));
  }
  Reads reads;
  SeenLoader loader(counted(kSamples), seen_by(reads), options);
  LoaderState inside = run.states[1];
  REQUIRE(run.batches[0].indices.size() > 1);
  --inside.samples;
  CHECK(refusal(inside, loader).code() == ErrorCode::Mismatch);
}

TEST_CASE("a state that does not fit is refused, and changes nothing", "[loader]") {
  Reads reads;
  SeenLoader loader(counted(kSamples), seen_by(reads), shuffled_threes(1));
  auto at = loader.begin();
  ++at;
  const LoaderState state = loader.state();
  const auto check = [&](const LoaderState& other, const char* words) {
    const Error error = refusal(other, loader);
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says(words));
    CHECK(loader.state() == state);
    CHECK(at != loader.end());
  };
  const auto of = [&](std::size_t size, const char* name, const LoaderOptions& options) {
    return SeenLoader(counted(size, name), seen_by(reads), options).state();
  };
  check(of(kSamples + 1, "s", shuffled_threes(0)),
        "another dataset; use the same samples, in the same order (this dataset has 20 samples");
  check(of(kSamples, "t", shuffled_threes(0)), "another dataset");
  check(of(kSamples, "s", LoaderOptions()), "another order");
  check(of(kSamples, "s", LoaderOptions().order(block_shuffled(2))), "another order");
  LoaderState other = state;
  other.version = 2;
  check(other, "version 2");
  other = state;
  other.samples = kSamples + 1;
  check(other, "21");
  ++at;
  CHECK(rest_of(loader, at).size() == 5);
  // The same order, given in another way.
  loader.restore(of(kSamples, "s", LoaderOptions().order(shuffled())));
}

TEST_CASE("a state can be saved and loaded", "[loader]") {
  const Folder folder;
  LoaderState state;
  state.seed = ~std::uint64_t{0};
  state.epoch = 5;
  state.samples = std::uint64_t{1} << 63;
  state.dataset = 12345;
  state.order = 678;
  state.save(folder / "state.npy");
  CHECK(folder.count() == 1);
  const LoaderState loaded = LoaderState::load(folder / "state.npy");
  CHECK(loaded == state);
  CHECK(loaded.seed == state.seed);
  CHECK(loaded.epoch == 5);
  CHECK(loaded.samples == state.samples);
  CHECK(loaded.dataset == 12345);
  CHECK(loaded.order == 678);

  const at::Tensor tensor = state.tensor();
  CHECK(tensor.sizes() == at::IntArrayRef({8}));
  CHECK(LoaderState::from_tensor(tensor) == state);
  CHECK(LoaderState::from_tensor(tensor.to(c10::Device(fake_device::kType, 0))) == state);
}

TEST_CASE("a file that is damaged or not a state is refused", "[loader]") {
  const Folder folder;
  const auto path = folder / "state.npy";
  LoaderState().save(path);
  const std::string good = read_bytes(path);
  const auto error_of_bytes = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    const Error error = error_of([&] { (void)LoaderState::load(path); });
    CHECK(error.path() == path);
    return error;
  };
  for (std::size_t size = 0; size < good.size(); ++size) {
    CHECK(error_of_bytes(good.substr(0, size)).code() == ErrorCode::Truncated);
  }
  for (std::size_t byte = good.size() - 64; byte < good.size(); ++byte) {
    std::string bytes = good;
    bytes[byte] = static_cast<char>(bytes[byte] ^ 4);
    CHECK(error_of_bytes(bytes).code() == ErrorCode::Mismatch);
  }
  std::string bytes = good;
  bytes[good.size() - 1] = static_cast<char>(bytes[good.size() - 1] ^ 4);
  CHECK_THAT(error_of_bytes(bytes).what(), says("damaged"));
  CHECK(error_of([&] { (void)LoaderState::load(folder / "none.npy"); }).code() ==
        ErrorCode::NotFound);

  const auto check_foreign = [&](const at::Tensor& tensor) {
    save(path, tensor);
    const Error error = error_of([&] { (void)LoaderState::load(path); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("not a LoaderState"));
    CHECK(error.path() == path);
    CHECK_THAT(error_of([&] { (void)LoaderState::from_tensor(tensor); }).what(),
               says("not a LoaderState"));
  };
  check_foreign(at::zeros({8}, at::kLong));
  check_foreign(at::zeros({8}, at::kDouble));
  check_foreign(at::zeros({9}, at::kLong));
  check_foreign(at::zeros({0}, at::kLong));
  check_foreign(at::zeros({2, 4}, at::kLong));
  CHECK_THAT(error_of([&] { (void)LoaderState::from_tensor(at::Tensor()); }).what(),
             says("not a LoaderState"));

  at::Tensor newer = LoaderState().tensor();
  newer[1] = 2;
  CHECK_THAT(error_of([&] { (void)LoaderState::from_tensor(newer); }).what(), says("version 2"));
}
