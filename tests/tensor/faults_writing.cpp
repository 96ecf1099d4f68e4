// Writing and appending, with every system call failing in turn.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <ATen/ops/equal.h>

#include <cstdint>
#include <filesystem>
#include <iostream>
#include <string>

#include "support/catch.hpp"
#include "support/fault_work.hpp"
#include "support/faults.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("each failing system call of a save leaves the old file or the new one", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const auto link = folder / "link.npy";
  std::filesystem::create_symlink("a.npy", link);
  const at::Tensor before = floats({10});
  const at::Tensor after = floats({600, 1000});
  save(folder / "old", before, kQuick);
  save(folder / "new", after, kQuick);
  save_npz(folder / "new.npz", {{"a", after}, {"b", before}});
  const at::Tensor sparse = floats({20, 30}).to_sparse();
  save_sparse(folder / "sparse.npz", sparse);
  const std::string old_bytes = read_bytes(folder / "old");
  const std::string new_bytes = read_bytes(folder / "new");
  const std::string npz_bytes = read_bytes(folder / "new.npz");
  const torch::OrderedDict<std::string, at::Tensor> fields{{"a", after}, {"b", floats({600})}};
  save(folder / "fields", fields, kQuick);
  const std::string fields_bytes = read_bytes(folder / "fields");
  const std::string sparse_bytes = read_bytes(folder / "sparse.npz");
  const std::size_t files = folder.count();

  const auto restore = [&] {
    std::filesystem::remove(path);
    write_bytes(path, old_bytes);
    std::filesystem::permissions(path, std::filesystem::perms(0600));
  };
  const auto check = [&](const std::string& want_new, bool done) {
    const std::string found = read_bytes(path);
    CHECK((found == (done ? want_new : old_bytes)));
    CHECK((std::filesystem::status(path).permissions() & std::filesystem::perms(077)) ==
          std::filesystem::perms::none);
    CHECK(std::filesystem::is_symlink(link));
    CHECK(folder.count() == files + 1);
  };
  const auto check_npy = [&](bool done) { check(new_bytes, done); };
  const auto check_npz = [&](bool done) { check(npz_bytes, done); };
  const auto check_fields = [&](bool done) { check(fields_bytes, done); };
  const auto check_sparse = [&](bool done) { check(sparse_bytes, done); };
  const auto check_new = [&](bool done) {
    CHECK(std::filesystem::exists(path) == done);
    if (done) CHECK((read_bytes(path) == new_bytes));
    CHECK(folder.count() == files + done);
  };
  inject({"save", restore, [&] { save(path, after); }, check_npy}, folder);
  inject({"save through a link", restore, [&] { save(link, after); }, check_npy}, folder);
  inject({"save a new file", [&] { std::filesystem::remove(path); }, [&] { save(path, after); },
          check_new},
         folder);
  inject({"save_npz", restore,
          [&] {
            save_npz(path, {{"a", after}, {"b", before}});
          },
          check_npz},
         folder);
  inject({"save fields", restore, [&] { save(path, fields); }, check_fields}, folder);
  inject({"save_sparse", restore, [&] { save_sparse(path, sparse); }, check_sparse}, folder);
  std::cout << injected << " faults injected so far\n";
}

TEST_CASE("each failing system call of an update leaves the old archive or the new one",
          "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const auto quick = SaveNpzOptions().sync(false);
  save_npz(folder / "old", {{"a", floats({10})}, {"b", floats({300, 1000})}}, quick);
  const std::string old_bytes = read_bytes(folder / "old");
  const auto change = [&] { update_npz(path, {{"a", floats({20})}, {"c", floats({5})}}, {}); };
  write_bytes(path, old_bytes);
  change();
  const std::string new_bytes = read_bytes(path);
  const std::size_t files = folder.count();
  const auto restore = [&] { write_bytes(path, old_bytes); };
  const auto check = [&](bool done) {
    CHECK((read_bytes(path) == (done ? new_bytes : old_bytes)));
    CHECK(folder.count() == files);
  };
  inject({"update_npz", restore, change, check}, folder);
  std::cout << injected << " faults injected so far\n";
}

TEST_CASE("each failing system call of an append leaves every flushed row", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor rows = floats({1000, 500});
  const std::size_t files = folder.count();
  // Whatever fails, the file has the rows of the last completed flush(), and no other rows than
  // those that were appended.
  std::int64_t flushed = 0;
  const auto check = [&](bool done) {
    CHECK(folder.count() <= files + 1);
    if (!std::filesystem::exists(path)) {
      CHECK_FALSE(done);
      CHECK(flushed == 0);
      return;
    }
    const at::Tensor got = load(path);
    CHECK(got.size(0) >= flushed);
    CHECK(at::equal(got, rows.narrow(0, 0, got.size(0))));
    if (done) CHECK(got.size(0) == 1000);
  };
  const auto run = [&](bool sync) {
    Appender appender(path, {500}, at::kFloat, SaveOptions().sync(sync));
    const std::int64_t begin = appender.rows();
    appender.append(rows.narrow(0, begin, 10));
    appender.flush();
    flushed = begin + 10;
    appender.append(rows.narrow(0, begin + 10, 990 - begin));
    appender.close();
    flushed = 1000;
  };
  const auto none = [&] { std::filesystem::remove(path), flushed = 0; };
  const auto some = [&] {
    std::filesystem::remove(path), save(path, rows.narrow(0, 0, 5), kQuick), flushed = 5;
  };
  inject({"make a file and append", none, [&] { run(true); }, check}, folder);
  inject({"append to a file", some, [&] { run(false); }, check}, folder);
  const auto replace = [&] {
    flushed = 0;  // the old rows are no longer wanted
    Appender appender(path, {500}, at::kFloat, AppendMode::Replace);
    appender.append(rows);
    appender.close();
  };
  inject({"replace a file and append", some, replace, check}, folder);
  std::cout << injected << " faults injected so far\n";

  // After a write that failed because the disk was full, the Appender can go on.
  for (std::size_t index = 0;; ++index) {
    some();
    Appender appender(path, kQuick);
    bool happened = false;
    bool threw = false;
    std::int64_t appended = 5;
    {
      const FaultInjection injection(kWrite | kTruncate, {Fault::Fails, ENOSPC}, index);
      try {
        appender.append(rows.narrow(0, 5, 800));
        appended += 800;
        appender.flush();
      } catch (const Error&) {
        threw = true;
      }
      happened = injection.happened();
    }
    INFO("call " << index << (threw ? " threw" : ""));
    CHECK(appender.rows() == appended);
    appender.append(rows.narrow(0, appended, 1000 - appended));
    appender.close();
    CHECK(at::equal(load(path), rows));
    if (!happened) break;
  }
}
