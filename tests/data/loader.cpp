// Epochs of a Loader: which batches, in which order, read by whom.

#include <torch_npy/data/length_order.hpp>
#include <torch_npy/data/loader.hpp>

#include <ATen/Parallel.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "support/loading.hpp"

using namespace torch_npy;

namespace {

Indices first_numbers(std::size_t count) {
  Indices numbers(count);
  std::iota(numbers.begin(), numbers.end(), std::size_t{0});
  return numbers;
}

Indices sorted(Indices indices) {
  std::sort(indices.begin(), indices.end());
  return indices;
}

/// Lets a test decide when readers go on.
class Gate {
 public:
  void open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return is_open_; });
  }
  void wait_for(std::size_t arrivals) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= arrivals; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t arrived_ = 0;
  bool is_open_ = false;
};

}  // namespace

TEST_CASE("batches and epochs are the same for any number of workers", "[loader]") {
  Reads reads;
  std::vector<std::vector<Seen>> want;
  for (const std::size_t workers : {0, 1, 2, 7}) {
    INFO(workers << " workers");
    SeenLoader loader(counted(20), seen_by(reads), shuffled_threes(workers));
    CHECK(loader.batches() == 7);
    for (std::size_t epoch = 0; epoch < 3; ++epoch) {
      CHECK(loader.epoch() == epoch);
      std::vector<Seen> got = epoch_of(loader);
      CHECK(sorted(indices_in(got)) == first_numbers(20));
      for (const Seen& batch : got) {
        CHECK(batch.epoch == epoch);
        CHECK(batch.seed == 7);
      }
      if (workers == 0) {
        want.push_back(std::move(got));
      } else {
        CHECK(are_same(got, want[epoch]));
      }
    }
  }
  CHECK(indices_in(want[0]) != indices_in(want[1]));
  CHECK(want[0][6].indices.size() == 2);
}

TEST_CASE("without options each sample is a batch, in the order of the dataset", "[loader]") {
  Reads reads;
  SeenLoader loader(counted(4), seen_by(reads));
  const std::vector<Seen> got = epoch_of(loader);
  REQUIRE(got.size() == 4);
  CHECK(indices_in(got) == first_numbers(4));
  CHECK(got[2].positions == std::vector<std::uint64_t>{2});
}

TEST_CASE("drop_last() drops an incomplete batch", "[loader]") {
  Reads reads;
  SeenLoader loader(counted(11), seen_by(reads), LoaderOptions().batch_size(4).drop_last(true));
  CHECK(loader.batches() == 2);
  CHECK(indices_in(epoch_of(loader)) == first_numbers(8));
}

TEST_CASE("a dataset without samples has empty epochs", "[loader]") {
  Reads reads;
  for (const std::size_t workers : {0, 2}) {
    SeenLoader loader(counted(0), seen_by(reads), shuffled_threes(workers));
    CHECK(epoch_of(loader).empty());
    CHECK(loader.epoch() == 1);
    CHECK(epoch_of(loader).empty());
  }
}

TEST_CASE("workers read at most ahead() batches that the loop did not get", "[loader]") {
  for (const std::size_t workers : {1, 2, 4}) {
    for (const std::size_t ahead : {1, 2, 5}) {
      INFO(workers << " workers, ahead " << ahead);
      std::atomic<std::size_t> started{0};
      std::atomic<std::size_t> got{0};
      std::atomic<bool> is_exceeded{false};
      SeenLoader loader(
          counted(40),
          [&](Request& request) {
            if (++started > got + 1 + ahead) is_exceeded = true;
            return Seen(request);
          },
          LoaderOptions().workers(workers).ahead(ahead));
      CHECK(started == 0);
      for (auto& batch : loader) {
        (void)batch;
        ++got;
      }
      CHECK(got == 40);
      CHECK(started == 40);
      CHECK(!is_exceeded);
    }
  }
}

TEST_CASE("ahead() batches are read while the loop is busy", "[loader]") {
  for (const bool is_default : {false, true}) {
    Gate gate;
    std::atomic<std::size_t> started{0};
    SeenLoader loader(
        counted(40),
        [&](Request& request) {
          if (++started == 5) gate.open();
          return Seen(request);
        },
        is_default ? LoaderOptions().workers(2) : LoaderOptions().workers(1).ahead(4));
    auto at = loader.begin();
    gate.pass();  // the current batch and 4 more
    CHECK(at->indices == Indices{0});
  }
}

TEST_CASE("without workers a batch is read when the loop asks for it", "[loader]") {
  Reads reads;
  const auto caller = std::this_thread::get_id();
  SeenLoader loader(
      counted(5),
      [&](Request& request) {
        CHECK(std::this_thread::get_id() == caller);
        reads.add(request);
        return Seen(request);
      },
      LoaderOptions().ahead(3));
  CHECK(reads.batches() == 0);
  std::size_t got = 0;
  for (auto& batch : loader) {
    (void)batch;
    CHECK(reads.batches() == ++got);
  }
  CHECK(got == 5);
}

TEST_CASE("the first batch does not wait for the others", "[loader]") {
  Gate gate;
  SeenLoader loader(
      counted(10),
      [&](Request& request) {
        if (request.picks[0].index != 0) gate.pass();
        return Seen(request);
      },
      LoaderOptions().workers(2));
  auto at = loader.begin();
  CHECK(at->indices == Indices{0});
  gate.open();
  CHECK(rest_of(loader, at).size() == 10);
}

TEST_CASE("batches are in order if later ones are read sooner", "[loader]") {
  Gate gate;
  std::atomic<int> others{0};
  SeenLoader loader(
      counted(9),
      [&](Request& request) {
        if (request.picks[0].index == 0) {
          gate.pass();
        } else if (++others == 3) {
          gate.open();
        }
        return Seen(request);
      },
      LoaderOptions().workers(2).ahead(4));
  CHECK(indices_in(epoch_of(loader)) == first_numbers(9));
}

TEST_CASE("a loop may be left early any number of times", "[loader]") {
  Reads reads;
  SeenLoader plain(counted(20), seen_by(reads), shuffled_threes(0));
  std::vector<std::vector<Seen>> want;
  for (int epoch = 0; epoch < 101; ++epoch) want.push_back(epoch_of(plain));
  for (const std::size_t workers : {0, 1, 2, 7}) {
    INFO(workers << " workers");
    SeenLoader loader(counted(20), seen_by(reads), shuffled_threes(workers));
    for (std::size_t epoch = 0; epoch < 100; ++epoch) {
      std::size_t got = 0;
      for (auto& batch : loader) {
        REQUIRE(batch.is_same(want[epoch][got]));
        REQUIRE(loader.epoch() == epoch);
        if (++got > epoch % 7) break;
      }
    }
    CHECK(are_same(epoch_of(loader), want[100]));
  }
}

TEST_CASE("begin() in an epoch starts the next one", "[loader]") {
  Reads reads;
  SeenLoader loader(counted(20), seen_by(reads), shuffled_threes(2));
  (void)loader.begin();
  (void)loader.begin();
  CHECK(loader.epoch() == 1);
  CHECK(epoch_of(loader).front().epoch == 2);
  CHECK(loader.epoch() == 3);
}

TEST_CASE("at the end of an epoch there is no batch", "[loader]") {
  Reads reads;
  SeenLoader loader(counted(1), seen_by(reads));
  auto at = loader.begin();
  ++at;
  CHECK(at == loader.end());
  CHECK(error_of([&] { (void)*at; }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { (void)*loader.end(); }).code() == ErrorCode::InvalidArgument);
  ++at;
  CHECK(at == loader.end());
  CHECK(loader.epoch() == 1);
}

TEST_CASE("a Loader can be destroyed at any time", "[loader]") {
  for (const std::size_t workers : {1, 3}) {
    Gate gate;
    std::atomic<std::size_t> read{0};
    auto loader = std::make_unique<SeenLoader>(
        counted(100),
        [&](Request& request) {
          if (request.picks[0].index != 0) gate.pass();
          ++read;
          return Seen(request);
        },
        LoaderOptions().workers(workers));
    (void)loader->begin();
    gate.wait_for(workers);  // all workers are reading
    std::thread opener([&] { gate.open(); });
    loader.reset();
    opener.join();
    // No thread is left.
    CHECK(read <= 2 * workers + 1);
    const std::size_t after = read;
    std::this_thread::yield();
    CHECK(read == after);

    SeenLoader unused(
        counted(100), [](Request& request) { return Seen(request); },
        LoaderOptions().workers(workers));
  }
}

TEST_CASE("batches that the loop did not get are destroyed", "[loader]") {
  struct Live {
    explicit Live(std::atomic<int>& number) : count(&number) { ++*count; }
    Live(Live&& other) noexcept : count(other.count) { ++*count; }
    Live& operator=(Live&&) = delete;
    ~Live() { --*count; }
    std::atomic<int>* count;
  };
  std::atomic<int> count{0};
  {
    Loader<Live> loader(
        counted(30), [&](Request&) { return Live(count); }, LoaderOptions().workers(3));
    for (int epoch = 0; epoch < 5; ++epoch) (void)loader.begin();
  }
  CHECK(count == 0);
}

TEST_CASE("workers use one intra-op thread, and other threads keep their number", "[loader]") {
  const int before = at::get_num_threads();
  at::set_num_threads(3);
  std::mutex mutex;
  std::set<int> in_workers;
  SeenLoader loader(
      counted(8),
      [&](Request& request) {
        const std::lock_guard<std::mutex> lock(mutex);
        in_workers.insert(at::get_num_threads());
        return Seen(request);
      },
      LoaderOptions().workers(2));
  CHECK(epoch_of(loader).size() == 8);
  int in_new_thread = 0;
  std::thread([&] { in_new_thread = at::get_num_threads(); }).join();
#if AT_PARALLEL_OPENMP
  CHECK(in_workers == std::set<int>{1});
#endif
  CHECK(at::get_num_threads() == 3);
  CHECK(in_new_thread == 3);
  at::set_num_threads(before);
}

TEST_CASE("workers live as long as the Loader", "[loader]") {
  std::mutex mutex;
  std::set<std::thread::id> threads;
  SeenLoader loader(
      counted(50),
      [&](Request& request) {
        const std::lock_guard<std::mutex> lock(mutex);
        threads.insert(std::this_thread::get_id());
        return Seen(request);
      },
      LoaderOptions().workers(2));
  for (int epoch = 0; epoch < 10; ++epoch) (void)epoch_of(loader);
  CHECK(threads.size() <= 2);
  CHECK(threads.count(std::this_thread::get_id()) == 0);
}

TEST_CASE("each rank gets its share of an epoch", "[loader]") {
  Reads reads;
  for (const Tail tail : {Tail::Pad, Tail::Drop, Tail::Exact}) {
    Indices all;
    std::set<std::size_t> sizes;
    for (std::size_t rank = 0; rank < 3; ++rank) {
      SeenLoader loader(counted(20), seen_by(reads),
                        shuffled_threes(rank).tail(tail).shard(3, rank));
      const Indices share = indices_in(epoch_of(loader));
      sizes.insert(share.size());
      all.insert(all.end(), share.begin(), share.end());
    }
    const std::size_t count = tail == Tail::Pad ? 21 : tail == Tail::Drop ? 18 : 20;
    CHECK(all.size() == count);
    CHECK(sizes == (tail == Tail::Exact ? std::set<std::size_t>{6, 7}
                    : tail == Tail::Pad ? std::set<std::size_t>{7}
                                        : std::set<std::size_t>{6}));
    CHECK(std::set<std::size_t>(all.begin(), all.end()).size() ==
          (std::min)(count, std::size_t{20}));
  }
}

TEST_CASE("an order that makes the batches decides their number and size", "[loader]") {
  Reads reads;
  const std::vector<std::int64_t> lengths{5, 1, 1, 5, 1, 5, 1, 5, 1, 1};
  SeenLoader loader(counted(10), seen_by(reads), LoaderOptions().order(by_length(lengths, 2)));
  const std::vector<Seen> got = epoch_of(loader);
  CHECK(got.size() == 5);
  CHECK(sorted(indices_in(got)) == first_numbers(10));
}

TEST_CASE("options that are invalid or exclude each other are refused", "[loader]") {
  Reads reads;
  const auto refuse = [&](const LoaderOptions& options, const char* words) {
    const Error error = error_of([&] { SeenLoader loader(counted(10), seen_by(reads), options); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says(words));
  };
  refuse(LoaderOptions().shuffle(true).order(sequential()), "exclude each other");
  refuse(LoaderOptions().workers(1).ahead(0), "ahead(0)");
  refuse(LoaderOptions().batch_size(0), "batch_size is 0");
  refuse(LoaderOptions().shard(2, 2), "rank 2");
  refuse(LoaderOptions().batch_size(2).order(by_length(std::vector<std::int64_t>(10, 1), 2)),
         "remove batch_size()");
  refuse(LoaderOptions().order(by_length(std::vector<std::int64_t>(9, 1), 2)), "9");
  refuse(LoaderOptions().device(c10::Device(c10::kCUDA, 99)), "no device cuda:99");
  const Error null = error_of([&] { SeenLoader loader(nullptr, seen_by(reads)); });
  CHECK(null.code() == ErrorCode::InvalidArgument);
  const Error many = error_of([&] {
    SeenLoader loader(counted(1), seen_by(reads),
                      LoaderOptions().workers(~std::size_t{0}).ahead(1));
  });
  CHECK(many.code() == ErrorCode::Exhausted);
  CHECK_THAT(many.what(), says("use fewer workers()"));
}

TEST_CASE("stats() counts what the loop got", "[loader]") {
  for (const std::size_t workers : {0, 2}) {
    Loader<Batch<>> loader(
        counted(10),
        [](Request& request) {
          if (request.picks.back().index == 9) request.picks.pop_back();
          Batch<> batch;
          batch.data =
              at::full({static_cast<std::int64_t>(request.picks.size()), 4}, 1, at::kFloat);
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
          return batch;
        },
        LoaderOptions().batch_size(2).workers(workers));
    CHECK(loader.stats().batches == 0);
    CHECK(loader.stats().read == 0);
    for (int epoch = 0; epoch < 2; ++epoch) {
      for (auto& batch : loader) (void)batch;
    }
    const LoaderStats stats = loader.stats();
    CHECK(stats.batches == 10);
    CHECK(stats.samples == 18);
    CHECK(stats.skipped == 2);
    CHECK(stats.bytes == 18 * 4 * 4);
    CHECK(stats.read >= 0.020);
    if (workers == 0) {
      CHECK(stats.waited >= stats.read);
    } else {
      CHECK(stats.waited > 0);
    }
  }
}
