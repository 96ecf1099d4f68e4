// Datasets, with every system call failing in turn.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <vector>

#include "support/catch.hpp"
#include "support/fault_work.hpp"
#include "support/faults.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("each failing system call of a dataset gives the right Error or the right result",
          "[faults]") {
  const Folder folder;
  const at::Tensor small = floats({30, 100});
  save(folder / "small.npy", small, kQuick);
  std::filesystem::create_directories(folder / "set" / "deep");
  for (const char* name : {"set/a.npy", "set/b.npy", "set/deep/c.npy"})
    save(folder / name, small, kQuick);
  for (const char* name : {"twins/a.npy", "twins/b.npy", "partners/a.npy", "partners/b.npy"}) {
    std::filesystem::create_directories((folder / name).parent_path());
    save(folder / name, small, kQuick);
  }
  write_bytes(folder / "list.txt", "twins/a.npy 3\ntwins/b.npy 4\n");
  std::filesystem::create_directory(folder / "archives");
  for (const char* name : {"archives/a.npz", "archives/b.npz", "archives/c.npz"}) {
    save_npz(folder / name, {{"a", small}, {"b", small}}, SaveNpzOptions().sync(false));
  }

  const auto same = [](const at::Tensor& got, const at::Tensor& want) {
    require(got.sizes() == want.sizes() && at::equal(got, want), "another result");
  };
  const auto nothing = [] {};
  const std::vector<Work> works = {
      {"ArrayDataset", nothing,
       [&] {
         same(ArrayDataset(folder / "small.npy", folder / "small.npy")
                  .stacked()
                  .get_batch({3, 1})
                  .data[0],
              small[3]);
       }},
      {"FolderDataset", nothing,
       [&] {
         const FolderDataset set(folder / "set", FolderOptions().recursive(true));
         require(set.size().value() == 3, "other files");
         same(FolderDataset(set).stacked().get_batch({0, 2}).data[1], small);
       }},
      {"cached", nothing,
       [&] {
         const auto set = FolderDataset(folder / "set", FolderOptions().recursive(true))
                              .cached(std::size_t{1} << 20)
                              .stacked();
         for (int round = 0; round < 2; ++round) same(set.get_batch({0, 2}).data[1], small);
       }},
      {"PairedFolderDataset", nothing,
       [&] {
         same(PairedFolderDataset(folder / "twins", folder / "partners")
                  .stacked()
                  .get_batch({0, 1})
                  .target[1],
              small);
       }},
      {"read_file_list and FileDataset", nothing,
       [&] {
         const ListedFiles listed = read_file_list(folder / "list.txt");
         const auto batch = FileDataset(listed.files, listed.labels).stacked().get_batch({1});
         same(batch.data[0], small);
         require(batch.target.item<std::int64_t>() == 4, "another label");
       }},
      {"NpzDataset", nothing,
       [&] {
         same(NpzDataset(folder / "archives", "a", "b").stacked().get_batch({0, 2, 1}).target[2],
              small);
       }},
      {"ClassFolderDataset", nothing,
       [&] { require(ClassFolderDataset(folder / "set").classes().size() == 1, "other classes"); }},
  };
  for (const Work& work : works) inject(work, folder);
  std::cout << injected << " faults injected so far\n";
}

TEST_CASE("a fault that is over when a sample is read again costs nothing", "[faults]") {
  const Folder folder;
  const at::Tensor small = floats({30, 100});
  for (const char* name : {"a.npy", "b.npy", "c.npy"}) save(folder / name, small, kQuick);
  for (const OnBadFile what : {OnBadFile::Throw, OnBadFile::Skip, OnBadFile::Replace}) {
    const auto dataset = FolderDataset(folder.path(), FolderOptions().on_bad_file(what)).stacked();
    const auto check = [&](unsigned calls, int error, std::size_t index) {
      const FaultInjection injection(calls, {Fault::Fails, error}, index);
      const auto batch = dataset.get_batch({2, 0, 1});
      CHECK(injection.happened());
      CHECK(batch.indices == std::vector<std::size_t>{2, 0, 1});
      for (std::int64_t i = 0; i < 3; ++i) CHECK(at::equal(batch.data[i], small));
    };
    for (const std::size_t index : {0, 1, 2}) {
      check(kOpen, EMFILE, index);
      check(kOpen, ENOMEM, index);
      check(kRead, EIO, index);
    }
    CHECK(dataset.bad_file_count() == 0);
  }
}

TEST_CASE("a small archive takes an open, one read and a close", "[faults]") {
  const Folder folder;
  const at::Tensor small = floats({30, 100});
  for (const char* name : {"a.npz", "b.npz", "c.npz"}) {
    save_npz(folder / name, {{"a", small}, {"b", small}}, SaveNpzOptions().sync(false));
  }
  const NpzDataset dataset(folder.path(), "a", "b");
  record_calls(kOpen | kRead | kClose | kMap);
  const auto batch = dataset.stacked().get_batch({0, 2, 1});
  std::vector<Call> calls;
  for (const MadeCall& made : recorded_calls()) calls.push_back(made.call);
  CHECK(batch.indices.size() == 3);
  CHECK(calls ==
        std::vector<Call>{kOpen, kRead, kClose, kOpen, kRead, kClose, kOpen, kRead, kClose});
}

#ifndef __SANITIZE_ADDRESS__  // which needs a thread of its own to look for leaks
TEST_CASE("a Loader whose threads are refused throws Error, and does not wait for them",
          "[faults]") {
  // In processes of a user who has no other ones: root has no limit.
  const ArrayDataset<TensorExample> dataset(at::arange(8).reshape({8, 1}));
  const auto status_of = [&](rlim_t threads, std::size_t workers) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(60);
      const rlimit limit{threads, threads};
      if ((geteuid() == 0 && setuid(54321) != 0) || setrlimit(RLIMIT_NPROC, &limit) != 0) _exit(9);
      try {
        Loader loader(dataset.stacked(), LoaderOptions().batch_size(2).workers(workers));
        std::int64_t seen = 0;
        for (auto& batch : loader) seen += batch.data.size(0);
        _exit(seen == 8 ? 0 : 2);
      } catch (const Error& error) {
        _exit(error.code() == ErrorCode::Exhausted ? 1 : 3);
      } catch (...) {
        _exit(4);
      }
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  CHECK(status_of(1, 2) == 1);
  for (const rlim_t threads : {2, 3, 4, 8}) {
    for (const std::size_t workers : {1, 2, 4}) {
      INFO(threads << " threads, " << workers << " workers");
      const int status = status_of(threads, workers);
      CHECK((status == 0 || status == 1));
    }
  }
  CHECK(status_of(200, 2) == 0);
}
#endif
