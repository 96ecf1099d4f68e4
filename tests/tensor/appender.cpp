// Opening, moving and closing an Appender.

#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/load.hpp>

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <filesystem>
#include <type_traits>
#include <utility>

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
  std::filesystem::current_path(before);
  CHECK(load(folder / "a.npy").size(0) == 3);
  CHECK(other.count() == 0);
}
