// Failed allocations, and what failures leave in memory.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <ATen/ops/equal.h>

#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/bad_input.hpp"
#include "support/catch.hpp"
#include "support/fault_work.hpp"
#include "support/faults.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("each failing allocation leaves no memory, file descriptor or mapping", "[faults]") {
  const Folder folder;
  const at::Tensor tensor = floats({300, 10});
  const auto path = folder / "a.npy";
  save(path, tensor, kQuick);
  save_npz(folder / "a.npz", {{"a", tensor}, {"b", tensor}});
  write_bytes(folder / "fields.npy",
              npy(header_text("[('a', '<f4'), ('b', '>i2')]", "(50,)"), std::string(300, 'x')));
  const at::Tensor sparse = tensor.to_sparse();
  save_sparse(folder / "sparse.npz", sparse);
  const std::string bytes = read_bytes(path);
  std::filesystem::create_symlink("a.npy", folder / "link.npy");
  std::filesystem::create_directory(folder / "set");
  for (const char* name : {"set/a.npy", "set/b.npy"}) save(folder / name, tensor, kQuick);
  const std::size_t files = folder.count();

  const std::vector<std::pair<const char*, std::function<void()>>> works = {
      {"parse_header", [&] { (void)parse_header(bytes.data(), bytes.size()); }},
      {"read_header", [&] { (void)read_header(path); }},
      {"load", [&] { (void)load(path); }},
      {"load and convert", [&] { (void)load(path, LoadOptions().dtype(at::kDouble)); }},
      {"map", [&] { (void)load(path, LoadOptions().mmap(true)); }},
      {"load_bytes", [&] { (void)load_bytes(bytes.data(), bytes.size()); }},
      {"load_fields", [&] { (void)load_fields(folder / "fields.npy"); }},
      {"load_npz", [&] { (void)load_npz(folder / "a.npz", LoadOptions().threads(1)); }},
      {"load_npz with names that skips",
       [&] {
         const auto skip = LoadOptions().threads(1).on_unreadable(OnUnreadable::Skip);
         require(load_npz(folder / "a.npz", {"b", "a"}, skip).size() == 2, "an array is skipped");
       }},
      {"load_fields with names", [&] { (void)load_fields(folder / "fields.npy", {"b"}); }},
      {"an archive in a stream",
       [&] {
         std::ifstream stream(folder / "a.npz", std::ios::binary);
         (void)NpzFile(stream)["a"].load();
       }},
      {"update_npz",
       [&] {
         update_npz(folder / "a.npz", {{"a", tensor}}, {}, SaveNpzOptions().sync(false));
       }},
      {"an error",
       [&] {
         try {
           (void)load(folder / "fields.npy");
         } catch (const Error&) {
         }
       }},
      {"save", [&] { save(path, tensor, kQuick); }},
      {"save through a link", [&] { save(folder / "link.npy", tensor, kQuick); }},
      {"save_npz",
       [&] {
         save_npz(folder / "a.npz", {{"a", tensor}, {"b", tensor}}, SaveNpzOptions().sync(false));
       }},
      {"load_sparse", [&] { (void)load_sparse(folder / "sparse.npz"); }},
      {"save_sparse",
       [&] { save_sparse(folder / "sparse.npz", sparse, SaveNpzOptions().sync(false)); }},
      {"save fields",
       [&] {
         save(folder / "a.npy", {{"a", tensor}, {"b.c", tensor}}, kQuick);
         save(path, tensor, kQuick);
       }},
      {"append",
       [&] {
         Appender appender(folder / "a.npy", kQuick);
         appender.append(tensor.narrow(0, 0, 1));
         appender.close();
         save(path, tensor, kQuick);
       }},
      {"cached",
       [&] {
         const auto set = FolderDataset(folder / "set").cached(std::size_t{1} << 20).stacked();
         for (int round = 0; round < 2; ++round) (void)set.get_batch({0, 1});
       }},
      {"random_split",
       [&] {
         const auto names = SplitOptions().groups({"a", "b"});
         (void)random_split(FolderDataset(folder / "set"), {0.5, 0.5}, 1, names);
       }},
      {"FolderDataset",
       [&] {
         (void)FolderDataset(folder / "set").stacked().get_batch({0, 1});
       }},
  };
  std::size_t failures = 0;
  for (const auto& [name, work] : works) {
    work();
    const auto open = open_files();
    bool happened = true;
    for (std::size_t index = 0; happened && index < 5000; ++index) {
      INFO(name << ", allocation " << index);
      const auto live = live_allocations.load();
      bool threw = false;
      {
        const FaultInjection injection(kAllocate, {Fault::Fails, ENOMEM}, index);
        try {
          work();
        } catch (const std::exception&) {  // Error, std::bad_alloc, or LibTorch's own
          threw = true;
        }
        happened = injection.happened();
      }
      failures += threw;
      REQUIRE(live_allocations == live);
      REQUIRE(open_files() == open);
      REQUIRE(mappings_of(folder) == 0);
      REQUIRE(folder.count() == files);
    }
    CHECK(at::equal(load(path), tensor));
  }
  std::cout << failures << " allocations failed\n";
}

TEST_CASE("10,000 failed loads leave no memory, file descriptor or mapping", "[faults]") {
  const Folder folder;
  std::vector<std::filesystem::path> paths;
  std::vector<std::string> contents;
  for (const BadInput& bad : bad_inputs()) {
    contents.push_back(bad.bytes);
    paths.push_back(write_bytes(folder / (std::to_string(paths.size()) + ".npy"), bad.bytes));
  }
  std::size_t failed = 0;
  const auto fails = [&](const auto& call) {
    try {
      (void)call();
    } catch (const Error&) {
      ++failed;
    }
  };
  const auto fail_all = [&] {
    for (std::size_t i = 0; i < paths.size(); ++i) {
      fails([&] { return load(paths[i]); });
      fails([&] { return load(paths[i], LoadOptions().mmap(true)); });
      fails([&] { return load_bytes(contents[i].data(), contents[i].size()); });
      fails([&] { return load_fields(paths[i], LoadOptions().rows(0, 1).dtype(at::kFloat)); });
      fails([&] { return load_npz(paths[i]); });
    }
  };
  fail_all();  // a process makes some objects only once: here
  const auto live = live_allocations.load();
  const auto files = open_files();
  for (failed = 0; failed < 10000;) fail_all();
  CHECK(live_allocations == live);
  CHECK(open_files() == files);
  CHECK(mappings_of(folder) == 0);
}

TEST_CASE("a mapping ends with the last tensor on it", "[faults]") {
  const Folder folder;
  const at::Tensor tensor = floats({300, 1000});
  save(folder / "a.npy", tensor, kQuick);
  save_npz(folder / "a.npz", {{"a", tensor}});
  for (const bool archive : {false, true}) {
    const auto mmap = LoadOptions().mmap(true);
    at::Tensor whole =
        archive ? NpzFile(folder / "a.npz").load("a", mmap) : load(folder / "a.npy", mmap);
    at::Tensor row = whole[7];
    at::Tensor transposed = whole.t().narrow(0, 1, 5);
    std::thread([tensor = std::move(whole)] { (void)tensor.sum(); }).join();
    CHECK(mappings_of(folder) == 1);
    row = at::Tensor();
    CHECK(mappings_of(folder) == 1);
    CHECK(at::equal(transposed, tensor.t().narrow(0, 1, 5)));
    transposed = at::Tensor();
    CHECK(mappings_of(folder) == 0);
  }
}
