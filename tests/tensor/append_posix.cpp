// Appending on POSIX systems: failed writes, killed processes, replaced files, FIFOs.

#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/load.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <filesystem>
#include <random>
#include <string>

#include "support/appending.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/small_files.hpp"

using namespace torch_npy;

TEST_CASE("a failed write can be repeated", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  // Rows of 1000 bytes, and chunks that are small enough for the buffer.
  const at::Tensor whole = counting(2200, {250}, at::kInt);
  Appender appender(path, {250}, at::kInt, kQuick);
  appender.append(whole.narrow(0, 0, 9));
  appender.flush();
  const std::string before = read_bytes(path);
  const auto check_as_before = [&] {
    CHECK((read_bytes(path).substr(0, before.size()) == before));
    CHECK(at::equal(load(path), whole.narrow(0, 0, 9)));
  };

  appender.append(whole.narrow(0, 9, 100));
  {
    const SmallFiles limit(20000);
    for (int i = 0; i < 2; ++i) {
      const Error error = error_of([&] { appender.flush(); });
      CHECK(error.code() == ErrorCode::Io);
      CHECK(error.offset() == 20000);
      CHECK(error.path() == path);
      check_as_before();
    }
    CHECK(error_of([&] { appender.append(whole.narrow(0, 109, 1100)); }).code() == ErrorCode::Io);
    CHECK(error_of([&] { appender.close(); }).code() == ErrorCode::Io);
    CHECK(appender.rows() == 109);
    check_as_before();
  }
  appender.flush();
  CHECK((read_bytes(path) == saved(whole.narrow(0, 0, 109))));
  {
    const SmallFiles limit(200000);
    CHECK(error_of([&] { appender.append(whole.narrow(0, 109, 1100)); }).code() == ErrorCode::Io);
    CHECK(appender.rows() == 109);
  }
  CHECK(at::equal(load(path), whole.narrow(0, 0, 109)));
  appender.append(whole.narrow(0, 109, 1));  // the failed write left no rows
  appender.flush();
  CHECK((read_bytes(path) == saved(whole.narrow(0, 0, 110))));
  {
    const SmallFiles limit(200000);
    CHECK(error_of([&] { appender.append(whole.narrow(0, 110, 1100)); }).code() == ErrorCode::Io);
  }
  appender.append(whole.narrow(0, 110, 2090));
  appender.close();
  CHECK((read_bytes(path) == saved(whole)));
}

TEST_CASE("an append() that fails half-way leaves the file as it was", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  Appender appender(path, {1000}, at::kFloat, kQuick);
  appender.append(at::ones({3, 1000}));
  appender.flush();
  const std::string before = read_bytes(path);
  {
    const SmallFiles limit(std::size_t{1} << 20);
    const Error error = error_of([&] { appender.append(at::ones({1000, 1000})); });
    CHECK(error.code() == ErrorCode::Io);
  }
  CHECK((read_bytes(path) == before));
  appender.close();
  CHECK((read_bytes(path) == before));
}

TEST_CASE("a killed process leaves a file with all flushed rows", "[append]") {
  constexpr unsigned kSeed = 20240607;
  INFO("seed " << kSeed);
  std::mt19937 random(kSeed);
  const auto below = [&](unsigned most) { return static_cast<std::int64_t>(random() % most); };
  const Folder folder;
  const at::Tensor values = at::arange(std::int64_t{1} << 22);
  std::int64_t rows = 0;
  int cut_off = 0;
  std::filesystem::path path;
  for (int kill = 0; kill < 100; ++kill) {
    if (kill % 10 == 0) {  // the first process may be killed before the file exists
      path = folder / (std::to_string(kill) + ".npy");
      rows = 0;
    }
    const unsigned seed = static_cast<unsigned>(random());
    int flushed[2];  // the child reports the rows that it flushed
    REQUIRE(::pipe(flushed) == 0);
    const pid_t child = ::fork();
    REQUIRE(child != -1);
    if (child == 0) {
      try {
        std::mt19937 own(seed);
        Appender appender(path, {2}, at::kLong, kQuick);
        for (;;) {
          const std::int64_t count = own() % 150 == 0 ? 70000 : own() % 40;
          const std::int64_t first = appender.rows() * 2;
          if (first + count * 2 > values.numel()) break;
          appender.append(values.narrow(0, first, count * 2).view({count, 2}));
          if (own() % 3 != 0) continue;
          appender.flush();
          const std::int64_t now = appender.rows();
          if (::write(flushed[1], &now, sizeof now) != sizeof now) break;
        }
        ::close(flushed[1]);  // the file is complete, and there is nothing more to report
        for (;;) ::pause();
      } catch (...) {
        ::_exit(1);
      }
    }
    ::close(flushed[1]);
    if (below(8) == 0) {
      ::usleep(static_cast<useconds_t>(below(300)));
    } else {  // after the first flush
      std::int64_t ignored;
      if (::read(flushed[0], &ignored, sizeof ignored) > 0) rows = ignored;
      ::usleep(static_cast<useconds_t>(below(2500)));
    }
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    for (std::int64_t now; ::read(flushed[0], &now, sizeof now) > 0;) rows = now;
    ::close(flushed[0]);

    if (!std::filesystem::exists(path)) continue;
    const at::Tensor got = load(path);
    INFO("kill " << kill << ": " << got.size(0) << " rows, " << rows << " flushed for certain");
    REQUIRE(got.size(0) >= rows);
    REQUIRE(at::equal(got.view({-1}), values.narrow(0, 0, got.numel())));
    cut_off += std::filesystem::file_size(path) > read_header(path).end();
    rows = got.size(0);
    if (kill % 4 == 0 && rows < values.numel() / 2) {
      Appender appender(path, {2}, at::kLong, kQuick);
      appender.append(values.narrow(0, rows * 2, 2));
      appender.close();
      CHECK((read_bytes(path) == saved(values.narrow(0, 0, ++rows * 2).view({-1, 2}))));
    }
  }
  CHECK(cut_off > 0);  // some kills interrupted a write
}

TEST_CASE("flushing to a file that was replaced or removed throws Error", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  for (const bool removed : {false, true}) {
    std::filesystem::remove(path);
    Appender appender(path, {}, at::kFloat, kQuick);
    appender.append(at::ones({3}));
    appender.flush();
    if (removed) {
      std::filesystem::remove(path);
    } else {
      save(path, at::zeros({2}));
    }
    appender.append(at::ones({3}));
    const Error error = error_of([&] { appender.close(); });
    CHECK(error.code() == ErrorCode::Io);
    CHECK_THAT(error.what(), says("was replaced or removed"));
    if (!removed) CHECK(at::equal(load(path), at::zeros({2})));
  }
}

TEST_CASE("a FIFO cannot be appended to", "[append]") {
  const Folder folder;
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  const Error fifo = error_of([&] { Appender appender(folder / "fifo"); });
  CHECK_THAT(fifo.what(), says("a FIFO"));
}
