// The sampler for several processes: who gets what, in which order, and going on in the middle.

#include <torch_npy/data/sampler.hpp>

#include <ATen/ops/arange.h>
#include <torch/data.h>
#include <torch/serialize.h>

#include <limits>
#include <numeric>
#include <set>
#include <sstream>
#include <thread>

#include "catch.hpp"

using namespace torch_npy;

namespace {

using Indices = std::vector<std::size_t>;
using Options = DistributedSamplerOptions;

/// What is left of the epoch.
Indices rest_of(DistributedSampler& sampler, std::size_t batch_size = 3) {
  Indices all;
  while (const auto batch = sampler.next(batch_size)) {
    REQUIRE(!batch->empty());
    REQUIRE(batch->size() <= batch_size);
    all.insert(all.end(), batch->begin(), batch->end());
  }
  REQUIRE(!sampler.next(batch_size));
  return all;
}

Indices epoch_of(DistributedSampler& sampler) {
  sampler.reset();
  return rest_of(sampler);
}

Indices draw(std::size_t size, std::size_t rank, std::size_t num_replicas, const Options& options,
             std::uint64_t epoch = 0) {
  DistributedSampler sampler(size, num_replicas, rank, options);
  sampler.set_epoch(epoch);
  Indices share = epoch_of(sampler);
  CHECK(share.size() == sampler.samples());
  return share;
}

std::vector<Indices> draw_all(std::size_t size, std::size_t num_replicas, const Options& options,
                              std::uint64_t epoch = 0) {
  std::vector<Indices> shares;
  for (std::size_t rank = 0; rank < num_replicas; ++rank) {
    shares.push_back(draw(size, rank, num_replicas, options, epoch));
  }
  return shares;
}

/// The whole order of an epoch, straight from LibTorch.
Indices order_of(std::size_t size, const Options& options, std::uint64_t epoch) {
  Indices order(size);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (options.shuffle()) {
    auto generator = at::detail::createCPUGenerator();
    generator.set_current_seed(options.seed() + epoch);
    const auto permutation = torch::randperm(static_cast<std::int64_t>(size), generator);
    for (auto& index : order) {
      index = static_cast<std::size_t>(
          permutation[static_cast<std::int64_t>(index)].item<std::int64_t>());
    }
  }
  return order;
}

template <class Object>
std::string saved(const Object& object) {
  std::ostringstream stream;
  torch::save(object, stream);
  return stream.str();
}

void load(DistributedSampler& sampler, const std::string& bytes) {
  std::istringstream stream(bytes);
  torch::load(sampler, stream);
}

/// A loader over a dataset whose sample i is the number i.
auto loader_of(const DistributedSampler& sampler, std::size_t size, std::size_t batch_size,
               std::size_t workers) {
  return torch::data::make_data_loader(
      torch::data::datasets::TensorDataset(torch::arange(static_cast<std::int64_t>(size)))
          .map(torch::data::transforms::Stack<torch::data::TensorExample>()),
      sampler, torch::data::DataLoaderOptions(batch_size).workers(workers));
}

Indices indices_of(const torch::data::TensorExample& batch) {
  const auto* const items = batch.data.data_ptr<std::int64_t>();
  return {items, items + batch.data.numel()};
}

template <class Loader>
Indices read_epoch(Loader& loader) {
  Indices all;
  for (const auto& batch : loader) {
    const Indices indices = indices_of(batch);
    all.insert(all.end(), indices.begin(), indices.end());
  }
  return all;
}

}  // namespace

TEST_CASE("the ranks share out an epoch by the rule, in every mode") {
  std::vector<std::size_t> sizes(41);
  std::iota(sizes.begin(), sizes.end(), std::size_t{0});
  sizes.insert(sizes.end(), {127, 1000});

  for (const auto size : sizes) {
    for (const bool shuffle : {true, false}) {
      const auto options = Options().seed(3).shuffle(shuffle);
      const Indices order = order_of(size, options, 4);
      REQUIRE(std::set<std::size_t>(order.begin(), order.end()).size() == size);
      for (std::size_t num_replicas = 1; num_replicas <= 20; ++num_replicas) {
        CAPTURE(size, num_replicas, shuffle);

        // Dealt out like cards.
        std::vector<Indices> expected(num_replicas);
        for (std::size_t place = 0; place < size; ++place) {
          expected[place % num_replicas].push_back(order[place]);
        }
        REQUIRE(draw_all(size, num_replicas, options, 4) == expected);

        auto dropped = expected;
        for (auto& share : dropped) share.resize(expected.back().size());
        REQUIRE(draw_all(size, num_replicas, Options(options).drop_last(true), 4) == dropped);

        auto padded = expected;
        for (std::size_t place = size; size != 0 && place % num_replicas != 0; ++place) {
          padded[place % num_replicas].push_back(order[place % size]);
        }
        REQUIRE(draw_all(size, num_replicas, Options(options).pad(true), 4) == padded);

        // What dealing like cards comes to.
        std::size_t all = 0;
        for (const auto& share : expected) {
          all += share.size();
          REQUIRE(expected[0].size() - share.size() <= 1);
        }
        REQUIRE(all == size);
        for (const auto& share : padded) REQUIRE(share.size() == expected[0].size());
      }
    }
  }
}

// Written by PyTorch 1.13 in Python:
//   s = torch.utils.data.DistributedSampler(range(size), num_replicas=num_replicas, rank=rank,
//                                           shuffle=shuffle, seed=seed, drop_last=drop_last)
//   s.set_epoch(epoch); print(list(s))
TEST_CASE("the order is that of Python's DistributedSampler") {
  using Shares = std::vector<Indices>;
  const auto pad = Options().pad(true);
  const auto drop = Options().drop_last(true);
  CHECK(draw_all(10, 3, drop) == Shares{{4, 5, 0}, {1, 3, 8}, {7, 9, 6}});
  CHECK(draw_all(10, 3, pad) == Shares{{4, 5, 0, 2}, {1, 3, 8, 4}, {7, 9, 6, 1}});
  CHECK(draw_all(10, 3, Options(pad).seed(7), 5) ==
        Shares{{3, 1, 9, 4}, {5, 0, 2, 3}, {8, 6, 7, 5}});
  CHECK(draw_all(3, 5, Options(pad).seed(1)) == Shares{{1}, {2}, {0}, {1}, {2}});
  CHECK(draw_all(10, 4, Options(drop).shuffle(false)) == Shares{{0, 4}, {1, 5}, {2, 6}, {3, 7}});
  CHECK(draw_all(10, 4, Options(pad).shuffle(false)) ==
        Shares{{0, 4, 8}, {1, 5, 9}, {2, 6, 0}, {3, 7, 1}});
  CHECK(draw_all(2, 5, Options(pad).shuffle(false)) == Shares{{0}, {1}, {0}, {1}, {0}});

  auto large = draw(1000, 3, 8, Options(pad).seed(std::uint64_t{1} << 40), 2);
  CHECK(large.size() == 125);
  large.resize(10);
  CHECK(large == Indices{475, 506, 97, 504, 625, 630, 762, 998, 211, 780});
}

TEST_CASE("an epoch has its own order, the same each time") {
  DistributedSampler sampler(1000, 4, 1);
  const Indices first = epoch_of(sampler);
  CHECK(epoch_of(sampler) == first);
  sampler.set_epoch(1);
  const Indices second = epoch_of(sampler);
  CHECK(second != first);
  CHECK(draw(1000, 1, 4, Options().seed(1)) == second);
  sampler.set_epoch(0);
  CHECK(epoch_of(sampler) == first);
}

TEST_CASE("the sampler leaves LibTorch's random numbers alone") {
  torch::manual_seed(5);
  const auto expected = torch::randperm(9);
  torch::manual_seed(5);
  draw(100, 0, 1, Options());
  CHECK(torch::equal(torch::randperm(9), expected));
}

TEST_CASE("next gives what is asked for, and what is left") {
  DistributedSampler sampler(7, 1, 0, Options().shuffle(false));
  CHECK(*sampler.next(5) == Indices{0, 1, 2, 3, 4});  // without a reset
  CHECK(sampler.position() == 5);
  CHECK(*sampler.next(std::numeric_limits<std::size_t>::max()) == Indices{5, 6});
  CHECK(!sampler.next(1));
  CHECK(sampler.position() == 7);
  sampler.reset();
  CHECK(sampler.position() == 0);
  CHECK(*sampler.next(1) == Indices{0});
}

TEST_CASE("reset takes a new size and keeps it") {
  DistributedSampler sampler(7, 2, 1, Options().shuffle(false));
  sampler.reset(5);
  CHECK(sampler.samples() == 2);
  CHECK(rest_of(sampler) == Indices{1, 3});
  CHECK(epoch_of(sampler) == Indices{1, 3});
  sampler.set_position(2);
  sampler.reset(3);  // fewer than the position: there is nothing left
  CHECK(rest_of(sampler).empty());
  sampler.reset(0);
  CHECK(rest_of(sampler).empty());
  sampler.reset(9);
  CHECK(rest_of(sampler) == Indices{1, 3, 5, 7});
}

TEST_CASE("a sampler that cannot be is refused") {
  for (const auto& [rank, num_replicas] :
       {std::pair<std::size_t, std::size_t>{0, 0}, {2, 2}, {3, 2}}) {
    const Error error = error_of(
        [rank = rank, replicas = num_replicas] { DistributedSampler(10, replicas, rank); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(),
               says("no rank " + std::to_string(rank) + " among " + std::to_string(num_replicas)));
  }
  const Error error =
      error_of([] { DistributedSampler(10, 2, 0, Options().drop_last(true).pad(true)); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("drop_last() and pad()"));
}

TEST_CASE("copies share one state") {
  DistributedSampler sampler(10, 2, 0, Options().shuffle(false));
  DistributedSampler copy = sampler;
  CHECK(*sampler.next(2) == Indices{0, 2});
  CHECK(*copy.next(2) == Indices{4, 6});
  CHECK(sampler.position() == 4);

  DistributedSampler moved = std::move(copy);
  moved.set_epoch(3);
  CHECK(sampler.epoch() == 3);
  CHECK(copy.epoch() == 3);  // NOLINT(bugprone-use-after-move): that it still answers is the point
}

TEST_CASE("samplers may be used from several threads") {
  DistributedSampler sampler(1000, 1, 0);
  std::vector<Indices> got(4);
  std::vector<std::thread> threads;
  for (auto& indices : got) {
    threads.emplace_back([&indices, copy = sampler]() mutable {
      while (const auto batch = copy.next(3)) {
        indices.insert(indices.end(), batch->begin(), batch->end());
        copy.set_epoch(copy.epoch() + copy.position() % 2);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::set<std::size_t> all;
  std::size_t count = 0;
  for (const auto& indices : got) {
    all.insert(indices.begin(), indices.end());
    count += indices.size();
  }
  CHECK(all.size() == 1000);
  CHECK(count == 1000);
}

TEST_CASE("set_epoch works while a loader holds the sampler") {
  const std::size_t workers = GENERATE(0, 2);
  CAPTURE(workers);
  DistributedSampler sampler(50, 3, 1);
  const auto loader = loader_of(sampler, 50, 4, workers);
  CHECK(read_epoch(*loader) == draw(50, 1, 3, {}, 0));
  sampler.set_epoch(7);
  CHECK(read_epoch(*loader) == draw(50, 1, 3, {}, 7));
  CHECK(sampler.position() == sampler.samples());

  Indices all;
  for (const auto& batch : *loader) {
    sampler.set_epoch(8);  // of the next one
    const Indices indices = indices_of(batch);
    all.insert(all.end(), indices.begin(), indices.end());
  }
  CHECK(all == draw(50, 1, 3, {}, 7));
  CHECK(read_epoch(*loader) == draw(50, 1, 3, {}, 8));
}

TEST_CASE("a saved sampler goes on in the middle of an epoch") {
  DistributedSampler sampler(50, 3, 1);
  sampler.set_epoch(7);
  const Indices whole = draw(50, 1, 3, {}, 7);
  const auto loader = loader_of(sampler, 50, 4, 0);
  auto batch = loader->begin();
  ++batch;  // the second of 5
  CHECK(sampler.position() == 8);
  const std::string bytes = saved(sampler);

  DistributedSampler resumed(50, 1, 3);
  load(resumed, bytes);
  CHECK(resumed.epoch() == 7);
  CHECK(resumed.position() == 8);
  CHECK(saved(resumed) == bytes);
  const auto resumed_loader = loader_of(resumed, 50, 4, 0);
  resumed.set_epoch(7);  // as a loop over epochs does
  CHECK(read_epoch(*resumed_loader) == Indices(whole.begin() + 8, whole.end()));
  CHECK(read_epoch(*resumed_loader) == whole);  // only one reset goes on

  load(resumed, bytes);
  resumed.set_epoch(8);  // another epoch starts at its start
  CHECK(resumed.position() == 0);
  CHECK(read_epoch(*resumed_loader) == draw(50, 1, 3, {}, 8));

  // At the end of an epoch nothing is left of it.
  load(resumed, saved(resumed));
  CHECK(resumed.position() == resumed.samples());
  CHECK(read_epoch(*resumed_loader).empty());
}

TEST_CASE("load and set_position leave the running epoch alone") {
  DistributedSampler sampler(9, 1, 0, Options().shuffle(false));
  sampler.next(2);
  const std::string bytes = saved(sampler);
  sampler.next(2);
  load(sampler, bytes);
  CHECK(*sampler.next(2) == Indices{4, 5});
  sampler.set_position(1);
  CHECK(*sampler.next(2) == Indices{6, 7});
  CHECK(sampler.position() == 1);
  sampler.reset();
  CHECK(*sampler.next(2) == Indices{1, 2});
}

TEST_CASE("with workers the loop's own count says where to go on") {
  const std::size_t batch_size = 4;
  const Indices whole = draw(100, 0, 2, {}, 2);
  std::string bytes;
  std::size_t seen = 0;
  {
    DistributedSampler sampler(100, 2, 0);
    sampler.set_epoch(2);
    const auto loader = loader_of(sampler, 100, batch_size, 2);
    for (const auto& batch : *loader) {
      seen += indices_of(batch).size();
      if (seen == 3 * batch_size) break;
    }
    CHECK(sampler.position() > seen);  // the loader has drawn ahead
    bytes = saved(sampler);
  }
  DistributedSampler resumed(100, 0, 2);
  load(resumed, bytes);
  resumed.set_position(seen);
  CHECK(resumed.epoch() == 2);
  const auto loader = loader_of(resumed, 100, batch_size, 2);
  CHECK(read_epoch(*loader) ==
        Indices(whole.begin() + static_cast<std::ptrdiff_t>(seen), whole.end()));
  CHECK(read_epoch(*loader) == whole);
}

TEST_CASE("set_position knows the end") {
  DistributedSampler sampler(10, 3, 1);
  sampler.set_position(3);
  CHECK(epoch_of(sampler).empty());
  const Error error = error_of([&] { sampler.set_position(4); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("set_position(4) of 3 samples"));
}

TEST_CASE("a sampler of another make does not load") {
  DistributedSampler sampler(10, 3, 1, Options().seed(5));
  sampler.set_epoch(2);
  sampler.next(2);
  const std::string bytes = saved(sampler);
  const auto refused = [&](DistributedSampler other, const std::string& words) {
    const Error error = error_of([&] { load(other, bytes); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says(words));
    CHECK(other.epoch() == 0);
    CHECK(other.position() == 0);
  };
  const auto options = Options().seed(5);
  refused({11, 3, 1, options}, "the saved sampler has size 10, this one has 11");
  refused({10, 3, 2, options}, "has rank 1, this one has 2");
  refused({10, 4, 1, options}, "has num_replicas 3, this one has 4");
  refused({10, 3, 1, Options().seed(6)}, "has seed 5, this one has 6");
  refused({10, 3, 1, Options(options).shuffle(false)}, "has shuffle 1, this one has 0");
  refused({10, 3, 1, Options(options).drop_last(true)}, "has drop_last 0, this one has 1");
  refused({10, 3, 1, Options(options).pad(true)}, "has pad 0, this one has 1");

  const Error error = error_of([&] { load(sampler, saved(torch::ones(3))); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("no DistributedSampler was saved here"));

  torch::serialize::OutputArchive archive;
  sampler.save(archive);
  archive.write("position", c10::IValue(std::int64_t{4}));
  std::stringstream stream;
  archive.save_to(stream);
  CHECK_THAT(error_of([&] { load(sampler, stream.str()); }).what(), says("position 4 of 3 sample"));
}
