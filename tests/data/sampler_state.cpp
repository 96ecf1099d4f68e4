// A sampler whose state is set, saved and loaded.

#include <torch/data.h>
#include <torch/serialize.h>
#include <torch_npy/data/sampler.hpp>

#include <cstdint>
#include <sstream>
#include <string>

#include "support/catch.hpp"
#include "support/shares.hpp"

using namespace torch_npy;

TEST_CASE("set_epoch() works while a loader holds the sampler") {
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

TEST_CASE("a saved sampler resumes in the middle of an epoch") {
  DistributedSampler sampler(50, 3, 1);
  sampler.set_epoch(7);
  const Indices whole = draw(50, 1, 3, {}, 7);
  const auto loader = loader_of(sampler, 50, 4, 0);
  auto batch = loader->begin();
  ++batch;  // the second of 5
  CHECK(sampler.position() == 8);
  const std::string bytes = saved(sampler);

  DistributedSampler resumed(50, 3, 1);
  load(resumed, bytes);
  CHECK(resumed.epoch() == 7);
  CHECK(resumed.position() == 8);
  CHECK(saved(resumed) == bytes);
  const auto resumed_loader = loader_of(resumed, 50, 4, 0);
  resumed.set_epoch(7);  // as a loop over epochs does
  CHECK(read_epoch(*resumed_loader) == Indices(whole.begin() + 8, whole.end()));
  CHECK(read_epoch(*resumed_loader) == whole);  // only the first reset resumes

  load(resumed, bytes);
  resumed.set_epoch(8);  // another epoch starts at position 0
  CHECK(resumed.position() == 0);
  CHECK(read_epoch(*resumed_loader) == draw(50, 1, 3, {}, 8));

  // A state saved at the end of an epoch has nothing left of it.
  load(resumed, saved(resumed));
  CHECK(resumed.position() == resumed.samples());
  CHECK(read_epoch(*resumed_loader).empty());
}

TEST_CASE("load() and set_position() do not change the running epoch") {
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

TEST_CASE("with workers, set_position() resumes at the loop's own count") {
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
  DistributedSampler resumed(100, 2, 0);
  load(resumed, bytes);
  resumed.set_position(seen);
  CHECK(resumed.epoch() == 2);
  const auto loader = loader_of(resumed, 100, batch_size, 2);
  CHECK(read_epoch(*loader) ==
        Indices(whole.begin() + static_cast<std::ptrdiff_t>(seen), whole.end()));
  CHECK(read_epoch(*loader) == whole);
}

TEST_CASE("set_position() refuses a position after the end") {
  DistributedSampler sampler(10, 3, 1);
  sampler.set_position(4);
  CHECK(epoch_of(sampler).empty());
  const Error error = error_of([&] { sampler.set_position(5); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("set_position(5) is out of range: this rank has 4 samples"));
}

TEST_CASE("a sampler with other arguments does not load a saved state") {
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
  refused({10, 3, 1, Options(options).shuffle(false)}, "has another order");
  refused({10, 3, 1, Options(options).drop_last(true)}, "has tail Pad, this one has Drop");

  const Error error = error_of([&] { load(sampler, saved(torch::ones(3))); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("the archive contains no OrderSampler"));

  torch::serialize::OutputArchive archive;
  sampler.save(archive);
  archive.write("position", c10::IValue(std::int64_t{5}));
  std::stringstream stream;
  archive.save_to(stream);
  CHECK_THAT(error_of([&] { load(sampler, stream.str()); }).what(), says("position 5 of 4 sample"));
}
