// The order of writes and flushes, full disks, and several processes.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/fault_work.hpp"
#include "support/faults.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("data is flushed to the disk before it counts", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const auto calls_of = [](const auto& work) {
    record_calls(kWrite | kSync | kRename);
    work();
    std::string order;
    for (const MadeCall& made : recorded_calls()) {
      order += made.call == kWrite ? 'w' : made.call == kRename ? 'r' : made.is_folder ? 'f' : 's';
    }
    return order;
  };
  // Written, flushed, renamed, and then the folder is flushed.
  const at::Tensor rows = floats({20, 10});
  CHECK(calls_of([&] { save(path, rows); }) == "wwsrf");
  CHECK(calls_of([&] { save(path, rows, kQuick); }) == "wwr");
  const std::string npz = calls_of([&] { save_npz(folder / "a.npz", {{"a", rows}}); });
  CHECK(npz.substr(npz.find_last_of('w')) == "wsrf");
  // Rows, flushed, and then the header that counts them, flushed.
  Appender appender(path);
  appender.append(rows);
  CHECK(calls_of([&] { appender.flush(); }) == "wsws");
  // The system reports a failed flush once, the Appender each time after it.
  appender.append(rows);
  {
    const FaultInjection injection(kSync, {Fault::Fails, EIO}, 0);
    CHECK_THROWS_AS(appender.flush(), Error);
  }
  CHECK_THROWS_AS(appender.flush(), Error);
  CHECK(load(path).size(0) == 40);

  // Other users can never read the new file, and child programs do not inherit it.
  std::filesystem::permissions(path, std::filesystem::perms(0600));
  record_calls(kOpen);
  save(path, rows);
  for (const MadeCall& made : recorded_calls()) {
    CHECK(made.is_private);
    CHECK((made.mode & 077) == 0);
  }
  record_calls(kOpen);
  (void)load(path);
  Appender(path, kQuick).append(rows);
  (void)FolderDataset(folder.path());
  for (const MadeCall& made : recorded_calls()) CHECK(made.is_private);
}

TEST_CASE("a full disk throws Error and leaves the old file", "[faults]") {
  const Folder folder;
  // Made here: OpenMP hangs in a child of a process that has used its threads.
  const at::Tensor small = floats({100}), fits = floats({20000}), large = floats({1000, 1000});
  const std::string said = in_child([&](std::ostream& out) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", folder.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
      out << "skipped";
      return;
    }
    const auto path = folder / "a.npy";
    save(path, small);
    const std::string before = read_bytes(path);
    out << words_of([&] { save(path, large); }) << '\n';
    out << words_of([&] { save_npz(path, {{"a", large}}); }) << '\n';
    Appender appender(path);
    out << words_of([&] { appender.append(large.view({-1})); }) << '\n';
    out << (read_bytes(path) == before && folder.count() == 1 ? "the old file" : "another file")
        << '\n';
    appender.append(fits);
    appender.close();
    out << load(path).numel() << '\n';
  });
  if (said == "skipped") {
    WARN("skipped: no right to mount a small disk");
    return;
  }
  const auto lines = [&] {
    std::vector<std::string> all;
    std::istringstream in(said);
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }();
  INFO(said);
  REQUIRE(lines.size() == 5);
  for (int i = 0; i < 3; ++i) {
    CHECK_THAT(lines[static_cast<std::size_t>(i)], says("a.npy: cannot write at byte "));
    CHECK_THAT(lines[static_cast<std::size_t>(i)], says("No space left on device"));
  }
  CHECK(lines[3] == "the old file");
  CHECK(lines[4] == "20100");
}

TEST_CASE("a child process does not keep the lock of a closed file", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  Appender appender(path, {2}, at::kFloat, kQuick);
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  appender.close();
  CHECK(words_of([&] { Appender again(path, kQuick); }) == "nothing thrown");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_CASE("a reader never sees a partial file while two processes save it", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const auto version = [](std::int64_t number) {
    return at::full({number % 40 + 1, 500}, number, at::kLong);
  };
  save(path, version(0), kQuick);
  std::filesystem::create_symlink("a.npy", folder / "link.npy");
  struct Saver {
    pid_t id = ::fork();
    ~Saver() {
      if (id <= 0) return;
      ::kill(id, SIGKILL);
      ::waitpid(id, nullptr, 0);
    }
  };
  std::optional<Saver> savers[2];
  for (std::int64_t parity = 0; parity < 2; ++parity) {
    if (savers[parity].emplace().id != 0) continue;
    try {
      // Every second version through a link.
      const auto to = parity == 0 ? path : folder / "link.npy";
      for (std::int64_t number = parity;; number += 2) save(to, version(number), kQuick);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
  }
  std::set<std::int64_t> seen;
  // Until many versions of both processes were seen.
  const auto of_parity = [&](std::int64_t parity) {
    return std::count_if(seen.begin(), seen.end(),
                         [&](std::int64_t number) { return number % 2 == parity; });
  };
  for (int round = 0; round < 3000 || of_parity(0) < 20 || of_parity(1) < 20; ++round) {
    const at::Tensor got = load(path, LoadOptions().mmap(round % 2 != 0));
    const auto number = got[0][0].item<std::int64_t>();
    REQUIRE(at::equal(got, version(number)));
    seen.insert(number);
    for (const auto& saver : savers) REQUIRE(::waitpid(saver->id, nullptr, WNOHANG) == 0);
  }
}
