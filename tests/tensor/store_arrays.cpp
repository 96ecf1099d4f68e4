// Arrays and archives in a store.

#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/save_npz.hpp>
#include <torch_npy/tensor/stored_array.hpp>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <memory>
#include <sstream>
#include <string>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/memory_store.hpp"
#include "support/npy_bytes.hpp"

using namespace torch_npy;

TEST_CASE("an array of a store is loaded with few requests", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  const at::Tensor small = at::arange(1000, at::kInt);
  const at::Tensor large = at::rand({3000, 1500});  // 18 MB
  memory->put("small.npy", npy_of(small));
  memory->put("large.npy", npy_of(large));
  const Store store(memory);
  CHECK(at::equal(open(store, "small.npy").load(), small));
  CHECK(memory->finds == 1);
  CHECK(memory->reads == 1);  // header and data together
  memory->reset();
  const StoredArray array = open(store, "large.npy");
  CHECK(array.shape() == std::vector<std::int64_t>{3000, 1500});
  CHECK(array.name() == "memory://bucket/large.npy");
  CHECK(memory->bytes_read == 16384);
  CHECK(at::equal(array.load(), large));
  CHECK(memory->reads == 1 + 5);  // parts of 4 MiB
  CHECK(memory->finds == 2);      // that it was not replaced meanwhile
  CHECK(at::equal(array.load(LoadOptions().dtype(at::kDouble)), large.to(at::kDouble)));
  at::Tensor out = at::empty({3000, 1500});
  array.load_into(out);
  CHECK(at::equal(out, large));
  CHECK_THROWS_AS(array.load(LoadOptions().mmap(true)), Error);
}

TEST_CASE("a region of an array of a store is read alone", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  const at::Tensor large = at::rand({2000, 1500, 2});  // 24 MB
  memory->put("c.npy", npy_of(large));
  memory->put("f.npy", npy_of(large.permute({2, 1, 0}).contiguous().permute({2, 1, 0})));
  for (const char* const name : {"c.npy", "f.npy"}) {
    const StoredArray array = open(Store(memory), name);
    for (const auto type : {at::kFloat, at::kDouble}) {
      memory->reset();
      const auto options = LoadOptions().dtype(type).region({{100, 120}, {30, 400}, {1, 2}});
      CHECK(at::equal(array.load(options),
                      large.slice(0, 100, 120).slice(1, 30, 400).slice(2, 1, 2).to(type)));
      CHECK(memory->bytes_read < 4'000'000);
      CHECK(memory->reads <= 4);
    }
    memory->reset();
    CHECK(at::equal(array.load(LoadOptions().rows(5, 7)), large.slice(0, 5, 7)));
    CHECK(at::equal(
        array.load(LoadOptions().region({{-1, 1}, {0, 2}}).out_of_bounds(OutOfBounds::Fill))
            .slice(0, 1, 2),
        large.slice(0, 0, 1).slice(1, 0, 2)));
  }
}

TEST_CASE("arrays of any dtype and order come out of a store as from a file", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  const std::string swapped = npy(header_text("'>f4'", "(1100000,)"), [] {
    std::string bytes;
    for (int i = 0; i < 1100000; ++i) {
      bytes += {static_cast<char>(64 + i % 60), static_cast<char>(i % 251), char(i / 7), char(i)};
    }
    return bytes;
  }());
  memory->put("swapped.npy", swapped);
  const StoredArray array = open(Store(memory), "swapped.npy");
  CHECK(at::equal(array.load(), load_bytes(swapped.data(), swapped.size())));
  CHECK(at::equal(array.load(LoadOptions().rows(5, 1000000)),
                  load_bytes(swapped.data(), swapped.size(), LoadOptions().rows(5, 1000000))));
  memory->put("records.npy", npy(header_text("[('a', '<i2'), ('b', '<f4')]", "(3,)"),
                                 std::string("\1\0\0\0\0\0\2\0\0\0\0\0\3\0\0\0\0\0", 18)));
  const auto fields = open(Store(memory), "records.npy").load_fields();
  CHECK(fields["a"][2].item<int>() == 3);
}

TEST_CASE("an archive of a store is read in part", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  torch::OrderedDict<std::string, at::Tensor> arrays;
  arrays.insert("image", at::rand({500, 1000}));  // 2 MB
  arrays.insert("label", at::arange(10));
  arrays.insert("other", at::rand({6000, 500}));  // 12 MB
  std::ostringstream out;
  save_npz(out, arrays);
  memory->put("x.npz", out.str());
  const NpzFile archive(Store(memory).object("x.npz"));
  CHECK(memory->reads == 2);  // the end, and whether the start is that of an archive
  CHECK(at::equal(archive.load("label"), arrays["label"]));
  CHECK(at::equal(archive.load("image"), arrays["image"]));
  CHECK(memory->bytes_read < 3'000'000);
  CHECK(memory->reads < 10);
  const StoredArray other = archive.array("other");
  memory->reset();
  CHECK(at::equal(other.load(LoadOptions().rows(100, 200)), arrays["other"].slice(0, 100, 200)));
  CHECK(memory->reads == 1);
  CHECK(at::equal(other.load(), arrays["other"]));
  std::string damaged = out.str();
  damaged[damaged.size() / 2] ^= 1;
  memory->put("y.npz", damaged);
  const NpzFile bad(Store(memory).object("y.npz"));
  CHECK(error_of([&] { (void)bad.load("other"); }).code() == ErrorCode::BadZip);
}

TEST_CASE("an object of the same size that is replaced after open() is an Error", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  const auto rows = LoadOptions().rows(3, 5);
  memory->put("x.npy", npy_of(at::ones({100, 1000})));  // one request, after that for the header
  torch::OrderedDict<std::string, at::Tensor> arrays;
  arrays.insert("a", at::ones({100, 1000}));
  std::ostringstream archive, other;
  save_npz(archive, arrays);
  arrays["a"] = at::zeros({100, 1000});
  save_npz(other, arrays);
  memory->put("x.npz", archive.str());
  const StoredArray array = open(Store(memory), "x.npy");
  const StoredArray member = NpzFile(Store(memory).object("x.npz")).array("a");
  memory->put("x.npy", npy_of(at::ones({100, 1000}, at::kInt)));
  memory->put("x.npz", other.str());
  for (const auto& error :
       {error_of([&] { (void)array.load(); }), error_of([&] { (void)array.load(rows); }),
        error_of([&] { (void)member.load(rows); })}) {
    CHECK(error.code() == ErrorCode::Io);
    CHECK_THAT(error.what(), says("the object was replaced"));
  }
}

TEST_CASE("an object that is replaced while it is read is an Error", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  const at::Tensor before = at::rand({1500, 1000});  // 6 MB
  memory->put("x.npy", npy_of(before));
  const Store store(memory);
  const StoredArray array = open(store, "x.npy");
  memory->put("x.npy", npy_of(before + 1));
  for (const auto& options : {LoadOptions(), LoadOptions().rows(3, 5)}) {
    const Error error = error_of([&] { (void)array.load(options); });
    CHECK(error.code() == ErrorCode::Io);
    CHECK(error.path() == "memory://bucket/x.npy");
    CHECK_THAT(error.what(), says("the object was replaced"));
  }
  CHECK(at::equal(open(store, "x.npy").load(), before + 1));
}
