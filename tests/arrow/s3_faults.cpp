// A real S3 server whose answers are spoiled on the way.

#include <torch_npy/arrow.hpp>
#include <torch_npy/data.hpp>
#include <torch_npy/tensor.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>

#include <string>
#include <vector>

#include "support/catch.hpp"

#include "arrow/s3.hpp"
#include "support/samples.hpp"

using namespace torch_npy;

namespace {

const std::vector<std::size_t> kAll{0, 1, 2, 3, 4, 5};

void fill(const Bucket& bucket) {
  for (int i = 0; i < 6; ++i) bucket.put(name_of(i), sample(i));
}

}  // namespace

TEST_CASE("a fault that passes is retried", "[s3]") {
  const Bucket bucket;
  fill(bucket);
  const FolderDataset dataset(bucket.store());
  for (const char* const fault :
       {"503", "reset", "cut", "short", "short1", "short15", "short16", "wait", "hang"}) {
    INFO(fault);
    bucket.set_faults(std::string(fault) + " 1 s002.npy\n" + fault + " 1 s004.npy\n");
    const auto batch = dataset.stacked().get_batch(kAll);
    for (int i = 0; i < 6; ++i) CHECK(at::equal(batch.data[i], sample(i)));
  }
}

TEST_CASE("a fault that stays is an Error, and no sample is skipped", "[s3]") {
  const Bucket bucket;
  fill(bucket);
  for (const char* const fault : {"503", "403", "reset", "cut", "short", "short1"}) {
    for (const OnBadFile what : {OnBadFile::Throw, OnBadFile::Skip, OnBadFile::Replace}) {
      INFO(fault);
      bucket.set_faults("");
      const FolderDataset dataset(bucket.store(), FolderOptions().on_bad_file(what));
      bucket.set_faults(std::string(fault) + " 1000 s002.npy\n");
      const Error error = error_of([&] { (void)dataset.get_batch(kAll); });
      CHECK(error.code() == ErrorCode::Io);
      CHECK(error.path() == "s3://" + bucket.name() + "/s002.npy");
      CHECK(dataset.bad_file_count() == 0);
      const std::string text = error.what();
      CHECK(text.find("AKIDEXAMPLE") == text.npos);
      CHECK(text.find(from_environment("AWS_SECRET_ACCESS_KEY")) == text.npos);
    }
  }
}

TEST_CASE("a server that does not answer is an Error after the time-out", "[s3]") {
  const Bucket bucket;
  fill(bucket);
  const FolderDataset dataset(bucket.store());
  bucket.set_faults("hang 1000 s002.npy\n");
  const Error error = error_of([&] { (void)dataset.get_batch(kAll); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK_THAT(error.what(), says("s002.npy"));
  bucket.set_faults("hang 1000 " + bucket.name() + "\n");
  CHECK(error_of([&] { FolderDataset(bucket.store()); }).code() == ErrorCode::Io);
}

TEST_CASE("a wrong key and a bucket that is not there", "[s3]") {
  const Bucket bucket;
  fill(bucket);
  const auto nothing = error_of([&] {
    FolderDataset(torch_npy::arrow::Store(
        Bucket::files("S3_PROXY", from_environment("AWS_SECRET_ACCESS_KEY")), "no-such-bucket/x"));
  });
  CHECK(nothing.code() == ErrorCode::NotFound);
  CHECK_THAT(nothing.what(), says("s3://no-such-bucket/x: there is no such bucket or folder"));
  if (from_environment("S3_CHECKS_KEYS") != "yes") return;  // moto takes any
  const std::string secret = "another-secret-than-the-right-one";
  const auto refused = error_of([&] {
    FolderDataset(torch_npy::arrow::Store(Bucket::files("S3_PROXY", secret), bucket.name()));
  });
  CHECK(refused.code() == ErrorCode::Io);
  CHECK(std::string(refused.what()).find(secret) == std::string::npos);
}

TEST_CASE("objects of S3 that change in the middle of an epoch", "[s3]") {
  const Bucket bucket;
  fill(bucket);
  bucket.put("rows/x.npy", at::rand({100, 10}));
  const auto skip = FolderOptions().on_bad_file(OnBadFile::Skip);
  const FolderDataset dataset(bucket.store(), skip);
  const ArrayDataset rows(bucket.store("rows").list());
  bucket.put(name_of(2), at::rand({50, 60}));
  Error error = error_of([&] { (void)dataset.get_batch(kAll); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK_THAT(error.what(), says("the object was replaced"));
  bucket.remove(name_of(2));
  error = error_of([&] { (void)dataset.get_batch(kAll); });
  CHECK(error.code() == ErrorCode::Io);
  bucket.put("rows/x.npy", at::rand({100, 11}));
  error = error_of([&] { (void)rows.get_batch({1, 2}); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK_THAT(error.what(), says("rows/x.npy: the object was replaced"));
}
