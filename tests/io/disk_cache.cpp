// Objects that are kept on disk.

#include <torch_npy/io/disk_cache.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/store.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/memory_store.hpp"
#ifndef _WIN32
#include "support/small_files.hpp"
#endif

using namespace torch_npy;

namespace {

constexpr std::uint64_t kMuch = std::uint64_t{1} << 40;

std::string content(int i, std::size_t size = 1000) {
  return std::string(size - 1, static_cast<char>('a' + i % 26)) + static_cast<char>(i);
}

std::shared_ptr<MemoryStore> store_of(int count) {
  auto memory = std::make_shared<MemoryStore>();
  for (int i = 0; i < count; ++i) memory->put(std::to_string(100 + i) + ".npy", content(i));
  return memory;
}

std::string whole(const FileList& list, std::size_t i) {
  const auto source = list.source(i, torch_npy::detail::ObjectUse::Whole);
  std::string bytes(source->size(), '\0');
  source->read_fully(bytes.data(), bytes.size(), 0);
  return bytes;
}

void check_all(const FileList& list) {
  for (std::size_t i = 0; i < list.size(); ++i) CHECK(whole(list, i) == content(int(i)));
}

std::uint64_t bytes_in(const Folder& folder) {
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    bytes += entry.file_size();
  }
  return bytes;
}

}  // namespace

TEST_CASE("an object is read from the store once, and then from the disk", "[store]") {
  const Folder folder;
  const auto memory = store_of(5);
  for (int process = 0; process < 3; ++process) {
    const FileList list = Store(memory).cached_on_disk(folder / "deep/cache", kMuch).list();
    check_all(list);
    CHECK(memory->reads == 5);
    check_all(list);
    CHECK(memory->reads == 5);
  }
  memory->put("102.npy", content(2, 999) + content(77, 1));  // same size, later
  const FileList later = Store(memory).cached_on_disk(folder / "deep/cache", kMuch).list();
  CHECK(whole(later, 2) == content(2, 999) + content(77, 1));
  CHECK(memory->reads == 6);
}

TEST_CASE("objects without a time are not kept", "[store]") {
  const Folder folder;
  const auto memory = store_of(1);
  memory->knows_times = false;
  const FileList list = Store(memory).cached_on_disk(folder.path(), kMuch).list();
  CHECK(whole(list, 0) == content(0));
  memory->put("100.npy", content(9));
  CHECK(whole(list, 0) == content(9));
  CHECK(folder.count() == 0);
}

TEST_CASE("parts of objects are not kept, and are read from what is", "[store]") {
  const Folder folder;
  const auto memory = store_of(2);
  const FileList list = Store(memory).cached_on_disk(folder.path(), kMuch).list();
  char byte = 0;
  list.source(0, torch_npy::detail::ObjectUse::Parts)->read_fully(&byte, 1, 999);
  CHECK(folder.count() == 0);
  CHECK(memory->bytes_read == 1);
  (void)whole(list, 1);
  CHECK(folder.count() == 1);
  memory->reset();
  list.source(1, torch_npy::detail::ObjectUse::Parts)->read_fully(&byte, 1, 999);
  CHECK(byte == content(1)[999]);
  CHECK(memory->reads == 0);
}

TEST_CASE("a kept file that is not the object is not used", "[store]") {
  const Folder folder;
  const auto memory = store_of(1);
  const FileList list = Store(memory).cached_on_disk(folder.path(), kMuch).list();
  (void)whole(list, 0);
  const auto file = std::filesystem::directory_iterator(folder.path())->path();
  const std::string good = read_bytes(file);
  const std::string other = good.substr(0, 1000) + "another key" + good.substr(1011);
  for (const std::string& bad : {std::string(), good.substr(0, 500), good.substr(0, 1000),
                                 good.substr(0, good.size() - 1), good + "x", other}) {
    write_bytes(file, bad);
    const int reads = memory->reads;
    CHECK(whole(list, 0) == content(0));
    CHECK(memory->reads == reads + 1);
    CHECK(read_bytes(file) == good);
  }
}

TEST_CASE("the objects that were not used for the longest time are removed", "[store]") {
  const Folder folder;
  const auto memory = store_of(40);
  const FileList list = Store(memory).cached_on_disk(folder.path(), 20000).list();
  for (std::size_t i = 0; i < list.size(); ++i) {
    CHECK(whole(list, i) == content(int(i)));
    CHECK(bytes_in(folder) <= 20000 + 20000 / 32 + 1100);
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      const auto used = entry.last_write_time();  // an hour passes
      std::filesystem::last_write_time(entry.path(), used - std::chrono::hours(1));
    }
    if (i >= 3) {
      const int reads = memory->reads;
      CHECK(whole(list, 3) == content(3));  // used all the time, so it stays
      CHECK(memory->reads == reads);
    }
  }
  CHECK(folder.count() > 10);
  const FileList small = Store(memory).cached_on_disk(folder.path(), 500).list();
  CHECK(folder.count() == 0);
  check_all(small);  // none fits
  CHECK(folder.count() == 0);
}

TEST_CASE("what a killed process left counts, and is removed after an hour", "[store]") {
  const Folder folder;
  write_bytes(folder / ".torch_npy-1-0.tmp", "half");
  write_bytes(folder / "mine.txt", "not the cache's");
  const auto memory = store_of(1);
  (void)Store(memory).cached_on_disk(folder.path(), kMuch);
  CHECK(folder.count() == 2);
  for (const char* const name : {".torch_npy-1-0.tmp", "mine.txt"}) {
    std::filesystem::last_write_time(
        folder / name, std::filesystem::last_write_time(folder / name) - std::chrono::hours(2));
  }
  (void)Store(memory).cached_on_disk(folder.path(), 10);
  CHECK(folder.count() == 1);
  CHECK(std::filesystem::exists(folder / "mine.txt"));
}

TEST_CASE("a cache that cannot be written gives the objects all the same", "[store]") {
  const Folder folder;
  const auto memory = store_of(3);
  const FileList list = Store(memory).cached_on_disk(folder / "cache", kMuch).list();
  std::filesystem::remove_all(folder / "cache");
  check_all(list);
  CHECK(memory->reads == 3);
  write_bytes(folder / "file", "");
  const Error error = error_of([&] { (void)Store(memory).cached_on_disk(folder / "file", 1); });
  CHECK(error.path() == folder / "file");
  CHECK_THAT(error.what(), says("cannot create the folder"));
  CHECK(error_of([&] { (void)Store(memory).cached_on_disk(folder / "x", 0); }).code() ==
        ErrorCode::InvalidArgument);
}

#ifndef _WIN32
TEST_CASE("objects for which the disk has no room are read all the same", "[store]") {
  const Folder folder;
  const auto memory = store_of(1);
  const std::string large = content(1, (std::size_t{128} << 20) + 12345);  // kept in three steps
  memory->put("200.npy", large);
  const FileList list = Store(memory).cached_on_disk(folder.path(), kMuch).list();
  const SmallFiles limit(500);
  CHECK(whole(list, 0) == content(0));
  CHECK(memory->bytes_read == 1000);
  CHECK(whole(list, 1) == large);
  CHECK(memory->bytes_read == 1000 + (std::size_t{64} << 20) + large.size());
  CHECK(bytes_in(folder) == 0);
}
#endif

TEST_CASE("threads and stores use one cache at the same time", "[store]") {
  const Folder folder;
  const auto memory = store_of(60);
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const FileList list =
          Store(memory).cached_on_disk(folder.path(), t % 2 == 0 ? 30000 : 15000).list();
      for (std::size_t i = 0; i < 300; ++i) {
        const std::size_t at = i * 7 % list.size();
        if (whole(list, at) != content(int(at))) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("large objects are kept in steps", "[store]") {
  const Folder folder;
  const auto memory = std::make_shared<MemoryStore>();
  const std::string large = content(1, (std::size_t{64} << 20) + 12345);
  memory->put("large.npy", large);
  const FileList list = Store(memory).cached_on_disk(folder.path(), kMuch).list();
  CHECK(whole(list, 0) == large);
  memory->reset();
  CHECK(whole(list, 0) == large);
  CHECK(memory->requests() == 0);
}
