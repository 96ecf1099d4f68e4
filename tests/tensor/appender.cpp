// Opening, moving and closing an Appender.

#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/load.hpp>

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/appending.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("only one Appender has a file open", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  std::filesystem::create_symlink("a.npy", folder / "link.npy");
  Appender first(folder / "link.npy", {}, at::kFloat, kQuick);
  CHECK(std::filesystem::is_symlink(folder / "link.npy"));
  for (int i = 0; i < 2; ++i) {
    const Error error = error_of([&] { Appender second(path); });
    CHECK(error.code() == ErrorCode::Io);
    CHECK_THAT(error.what(), says("another Appender has the file open"));
    CHECK(error_of([&] { Appender second(path, {}, at::kFloat); }).code() == ErrorCode::Io);
    first.append(at::ones({2}));
  }
  first.close();
  Appender second(path, kQuick);
  CHECK(second.rows() == 4);
  Appender elsewhere(folder / "b.npy", {}, at::kFloat, kQuick);
}

TEST_CASE("closed and moved-from Appenders refuse append() and flush()", "[append]") {
  static_assert(std::is_nothrow_move_constructible_v<Appender>);
  static_assert(std::is_nothrow_move_assignable_v<Appender>);
  static_assert(!std::is_copy_constructible_v<Appender>);
  const Folder folder;
  const auto code_of = [](const auto& call) { return error_of(call).code(); };
  Appender first(folder / "a.npy", {}, at::kFloat, kQuick);
  first.append(at::zeros({2}));
  Appender second(std::move(first));
  CHECK(second.rows() == 2);
  CHECK(first.rows() == 0);
  CHECK(code_of([&] { first.append(at::zeros({1})); }) == ErrorCode::InvalidArgument);
  CHECK(code_of([&] { first.flush(); }) == ErrorCode::InvalidArgument);
  first.close();

  Appender third(folder / "b.npy", {}, at::kFloat, kQuick);
  third.append(at::zeros({3}));
  third = std::move(second);  // flushes and closes its old file
  CHECK(load(folder / "b.npy").size(0) == 3);
  Appender(folder / "b.npy", kQuick).close();
  third.append(at::zeros({1}));
  third.close();
  third.close();
  CHECK(third.rows() == 3);
  const Error error = error_of([&] { third.append(at::zeros({1})); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK(error.path() == folder / "a.npy");
  CHECK(load(folder / "a.npy").size(0) == 3);
  first = Appender(folder / "a.npy", kQuick);
  CHECK(first.rows() == 3);
}

TEST_CASE("a relative path means the same file after a change of the current folder", "[append]") {
  const Folder folder;
  const Folder other;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  Appender appender("a.npy", {}, at::kFloat, kQuick);
  appender.append(at::ones({3}));
  std::filesystem::current_path(other.path());
  appender.flush();
  appender.close();
  std::filesystem::current_path(folder.path());
  Appender lazy("b.npy", kQuick);
  std::filesystem::current_path(other.path());
  lazy.append(at::ones({2, 3}));
  lazy.close();
  std::filesystem::current_path(before);
  CHECK(load(folder / "a.npy").size(0) == 3);
  CHECK(load(folder / "b.npy").size(0) == 2);
  CHECK(other.count() == 0);
}

TEST_CASE("AppendMode::Replace starts again with no rows, in place of any regular file",
          "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor rows = counting(3, {2}, at::kFloat);
  const auto replace = [&](const std::filesystem::path& name) {
    Appender appender(name, {2}, at::kFloat, AppendMode::Replace, kQuick);
    CHECK(appender.rows() == 0);
    CHECK(load(path).sizes().vec() == Shape{0, 2});
    appender.append(rows);
    appender.close();
    CHECK((read_bytes(path) == saved(rows)));
    CHECK(folder.count() == 1);
  };
  replace(path);  // there is no file
  replace(path);
  save(path, at::ones({4, 7}, at::kLong), kQuick);
  replace(path);
  write_bytes(path, "no array");
  std::filesystem::permissions(path, std::filesystem::perms(0640));
  replace(path);
  CHECK(std::filesystem::status(path).permissions() == std::filesystem::perms(0640));
  write_bytes(path, "");
  replace(path);
  const Folder links;
  std::filesystem::create_symlink(path, links / "link.npy");
  replace(links / "link.npy");
  CHECK(std::filesystem::is_symlink(links / "link.npy"));
}

TEST_CASE("AppendMode::Replace does not replace the file of another Appender",
          "[append][threads]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  constexpr int kThreads = 3;
  std::atomic<int> lost{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        std::optional<Appender> appender;
        try {
          appender.emplace(path, at::IntArrayRef{1}, at::kFloat, AppendMode::Replace, kQuick);
        } catch (const Error&) {  // another one has the file open
          continue;
        }
        try {
          appender->append(at::ones({1}));
          appender->close();
        } catch (const Error&) {
          ++lost;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(lost == 0);
}

TEST_CASE("AppendMode::Continue is the default, and appends to the rows of a file", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor row = at::ones({2});
  for (std::int64_t i = 0; i < 4; ++i) {
    Appender appender = i == 0   ? Appender(path, {2}, at::kFloat)
                        : i == 1 ? Appender(path, {2}, at::kFloat, {})
                        : i == 2 ? Appender(path, {2}, at::kFloat, kQuick)
                                 : Appender(path, {2}, at::kFloat, AppendMode::Continue);
    CHECK(appender.rows() == i);
    appender.append(row);
  }
  CHECK(load(path).size(0) == 4);
}

TEST_CASE("AppendMode::Replace leaves the old file if it throws", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor rows = counting(3, {2}, at::kFloat);
  save(path, rows, kQuick);
  const auto refused = [&](at::IntArrayRef row_shape, c10::ScalarType dtype) {
    const Error error =
        error_of([&] { Appender(path, row_shape, dtype, AppendMode::Replace, kQuick); });
    CHECK((read_bytes(path) == saved(rows)));
    CHECK(folder.count() == 1);
    return error.code();
  };
  CHECK(refused({-1}, at::kFloat) == ErrorCode::InvalidArgument);
  CHECK(refused({2}, at::kComplexHalf) == ErrorCode::UnsupportedDtype);
  CHECK(refused({INT64_MAX, 2}, at::kFloat) == ErrorCode::TooLarge);
  {
    Appender other(path, kQuick);
    CHECK(refused({2}, at::kFloat) == ErrorCode::Io);
    other.append(rows);
    other.close();  // the file is still its own
    CHECK(load(path).size(0) == 6);
  }
  Appender appender(path, {2}, at::kFloat, AppendMode::Replace, kQuick);
  CHECK(error_of([&] { Appender(path, {2}, at::kFloat, AppendMode::Replace); }).code() ==
        ErrorCode::Io);
  appender.append(rows);
  appender.close();
  CHECK((read_bytes(path) == saved(rows)));
  std::filesystem::create_directory(folder / "folder");
  CHECK(error_of([&] {
          Appender(folder / "folder", {}, at::kFloat, AppendMode::Replace);
        }).code() == ErrorCode::Io);
}
