// The requests to a store: their number, their limits, and what is made of their failures.

#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/object_source.hpp>
#include <torch_npy/io/request_threads.hpp>
#include <torch_npy/io/store.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/memory_store.hpp"

using namespace torch_npy;
using torch_npy::detail::ListRules;
using torch_npy::detail::ObjectUse;
using torch_npy::detail::RequestThreads;

namespace {

constexpr std::size_t kPart = torch_npy::detail::StoreRequests::kPart;

std::string numbered_bytes(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

std::string read_all(const ByteSource& source) {
  std::string bytes(source.size(), '\0');
  source.read_fully(bytes.data(), bytes.size(), 0);
  return bytes;
}

}  // namespace

TEST_CASE("threads for requests call each job once, and report the first error", "[store]") {
  RequestThreads threads(4);
  for (const std::size_t count : {0, 1, 2, 3, 100}) {
    std::vector<std::atomic<int>> calls(count);
    threads.for_each_index(count, [&](std::size_t i) { ++calls[i]; });
    for (const auto& n : calls) CHECK(n == 1);
  }
  for (int repeat = 0; repeat < 50; ++repeat) {
    std::atomic<int> running{0};
    std::string first;
    try {
      threads.for_each_index(20, [&](std::size_t i) {
        ++running;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        --running;
        if (i % 7 == 3) throw std::runtime_error(std::to_string(i));
      });
    } catch (const std::runtime_error& error) {
      first = error.what();
    }
    CHECK(first == "3");
    CHECK(running == 0);
  }
}

TEST_CASE("jobs of threads for requests may need those threads", "[store]") {
  for (const std::size_t count : {1, 2, 5}) {
    RequestThreads threads(count);
    std::atomic<int> done{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 3; ++caller) {
      callers.emplace_back([&] {
        threads.for_each_index(8, [&](std::size_t) {
          threads.for_each_index(
              8, [&](std::size_t) { threads.for_each_index(3, [&](std::size_t) { ++done; }); });
        });
      });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(done == 3 * 8 * 8 * 3);
  }
}

TEST_CASE("requests keep to the limits of a store", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  memory->latency = std::chrono::milliseconds(2);
  const std::string bytes = numbered_bytes(10 * kPart + 5);
  memory->put("x", bytes);
  const auto read = [&](const StoreOptions& options) {
    memory->reset();
    CHECK(read_all(*Store(memory, options).object("x")) == bytes);
    CHECK(memory->reads == 11);
  };
  read(StoreOptions().requests(3));
  CHECK(memory->most_under_way <= 3);
  CHECK(memory->most_under_way > 1);
  read(StoreOptions().bytes(2 * kPart));
  CHECK(memory->most_bytes_under_way <= 2 * kPart);
  CHECK(memory->most_under_way > 1);
  read(StoreOptions().bytes(100));  // less than one request
  CHECK(memory->most_under_way == 1);
  CHECK_THROWS_AS(StoreOptions().requests(0), Error);
  CHECK_THROWS_AS(StoreOptions().bytes(0), Error);
  CHECK_THROWS_AS(Store(nullptr), Error);
}

TEST_CASE("close ranges of an object are read with one request", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  const std::string bytes = numbered_bytes(12 * kPart);
  memory->put("x", bytes);
  const auto source = Store(memory).object("x");
  using Wanted = std::vector<std::pair<std::uint64_t, std::size_t>>;
  const auto check = [&](const Wanted& wanted, int requests) {
    std::vector<std::string> parts;
    for (const auto& range : wanted) parts.emplace_back(range.second, '\0');
    std::vector<ByteRange> ranges;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      ranges.push_back({parts[i].data(), wanted[i].second, wanted[i].first});
    }
    memory->reset();
    source->read_many(ranges);
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      CHECK(parts[i] == bytes.substr(wanted[i].first, wanted[i].second));
    }
    CHECK(memory->reads == requests);
  };
  check({{0, 10}, {100, 10}, {20, 5}}, 1);
  check({{50, 10}, {0, 100}, {40, 10}}, 1);  // one within another
  check({{0, 10}, {1 << 20, 10}}, 2);
  check({{0, 10}, {3 * kPart, 2 * kPart + 1}}, 4);
  check({}, 0);
  Wanted many;
  for (std::uint64_t at = 0; at < 2 * kPart; at += 100000) many.emplace_back(at, 1000);
  check(many, 2);  // over 8 MiB, in requests of up to 4 MiB
}

TEST_CASE("an answer that is cut short is an Error with the URI", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  memory->put("a/x", numbered_bytes(1000));
  const auto source = Store(memory).folder("a").object("x");
  memory->on_read = [](const std::string&) { return std::size_t{10}; };
  char room[100];
  const Error error = error_of([&] { (void)source->read(room, sizeof room, 5); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK(error.path() == "memory://bucket/a/x");
  CHECK(error.offset() == 15);
  CHECK_THAT(error.what(), says("the store sent 10 bytes from byte 5 on, expected 100"));
  memory->on_read = {};
  CHECK(source->read(room, sizeof room, 950) == 50);
  CHECK(source->read(room, sizeof room, 1000) == 0);
  memory->remove("a/x");
  const Error gone = error_of([&] { (void)source->read(room, sizeof room, 5); });
  CHECK(gone.code() == ErrorCode::Io);  // not NotFound: that would be a bad sample
  CHECK_THAT(gone.what(), says("the object is gone"));
  const Error missing = error_of([&] { (void)Store(memory).object("a/y"); });
  CHECK(missing.code() == ErrorCode::NotFound);
  CHECK(missing.path() == "memory://bucket/a/y");
}

TEST_CASE("a store is listed like a folder", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  const Folder folder;
  for (const char* const name :
       {"b.npy", "a10.npy", "a9.npy", ".hidden.npy", "c.txt", "sub/x.npy", "sub/deep/y.npy",
        ".git/z.npy", "d.npz", "sub/.w.npy", "e.npy.npy", "UPPER.NPY"}) {
    memory->put(std::string("data/") + name, "1");
    std::filesystem::create_directories((folder / name).parent_path());
    write_bytes(folder / name, "1");
  }
  memory->put("data2/q.npy", "1");
  const Store store = Store(memory).folder("data");
  const auto check = [&](const ListRules& rules) {
    FileList objects{SampleFolder(store)};
    FileList files{SampleFolder(folder.path())};
    REQUIRE(objects.add(".", rules) == files.add(".", rules));
    for (std::size_t i = 0; i < files.size(); ++i) {
      CHECK(std::string(objects.name(i)) == files.name(i));
      CHECK(objects[i] == "memory://bucket/data/" + std::string(files.name(i)));
    }
    CHECK(objects.subfolders() == files.subfolders());
    CHECK(objects.subfolders("sub") == files.subfolders("sub"));
    objects.with_one_listing([&] {
      const int lists = memory->lists;
      CHECK(objects.subfolders() == files.subfolders());
      CHECK(objects.subfolders("sub") == files.subfolders("sub"));
      CHECK(objects.add("sub", rules) == files.add("sub", rules));
      CHECK(memory->lists == lists);
    });
    for (std::size_t i = 0; i < files.size(); ++i) {
      CHECK(std::string(objects.name(i)) == files.name(i));
    }
  };
  check({});
  check({"*", true, false, ".npy"});
  check({"*", true, true, ".npy"});
  check({"a*", true, true, ".npy"});
  check({"[x-y]*", true, false, ".npy"});
  check({"*", true, false, ".npz"});
  const Error error = error_of([&] { (void)Store(memory).folder("none").list(); });
  CHECK(error.code() == ErrorCode::NotFound);
  CHECK(error.path() == "memory://bucket/none/");
}

TEST_CASE("sizes of objects stay with their names", "[store]") {
  const auto memory = std::make_shared<MemoryStore>();
  for (int i = 0; i < 50; ++i) {
    const int number = i * 37 % 50;
    memory->put("x" + std::to_string(number) + ".npy",
                std::string(static_cast<std::size_t>(number + 1), 'a'));
  }
  for (const bool natural_order : {false, true}) {
    FileList list{SampleFolder(Store(memory))};
    list.add(".", {"*", false, natural_order, ".npy"});
    memory->reset();
    for (std::size_t i = 0; i < list.size(); ++i) {
      CHECK(list.source(i, ObjectUse::Parts)->size() == std::stoul(list.name(i) + 1) + 1);
    }
    CHECK(memory->requests() == 0);
    FileList same{SampleFolder(Store(memory))};
    same.append("x7.npy");
    same.append("x31.npy");
    same.append("none.npy");
    same.take_objects(list);
    CHECK(same.source(0, ObjectUse::Parts)->size() == 8);
    CHECK(same.source(1, ObjectUse::Parts)->size() == 32);
    CHECK(memory->requests() == 0);
    CHECK(same.missing() == std::vector<std::size_t>{2});
    CHECK(memory->requests() == 1);
  }
}
