// Writing files: atomically, and in place.

#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>

#include <filesystem>
#include <string>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("an AtomicFile is complete or absent", "[file]") {
  const Folder folder;
  const auto path = folder / "target";
  {
    detail::AtomicFile file(path, true);
    file.write("new", 3);
    CHECK_FALSE(std::filesystem::exists(path));
    file.commit();
  }
  CHECK(read_bytes(path) == "new");
  {
    detail::AtomicFile file(path, true);
    file.write("newer", 5);
  }
  CHECK(read_bytes(path) == "new");
  CHECK(folder.count() == 1);  // no temporary file is left

  for (const bool is_new : {true, false}) {
    detail::AtomicFile file(folder / "first", is_new);
    file.write(is_new ? "one" : "two", 3);
    CHECK(file.commit_new() == is_new);
  }
  CHECK(read_bytes(folder / "first") == "one");
  CHECK(folder.count() == 2);

  CHECK(error_of([&] { detail::AtomicFile file(folder.path(), true); }).code() == ErrorCode::Io);
  CHECK(error_of([&] { detail::AtomicFile file(folder / "no/such", true); }).code() ==
        ErrorCode::NotFound);

  // Large data is written in chunks.
  std::string large(40'000'001, '\0');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * i >> 8);
  for (const bool sync : {true, false}) {
    detail::AtomicFile file(path, sync);
    file.write("header", 6);
    file.write(large.data(), large.size());
    file.commit();
    CHECK((read_bytes(path) == "header" + large));
  }
}

TEST_CASE("a LockedFile is changed in place by one writer at a time", "[file]") {
  const Folder folder;
  const auto path = write_bytes(folder / "data", "0123456789");
  detail::LockedFile file(path);
  const Error locked = error_of([&] { detail::LockedFile again(path); });
  CHECK(locked.code() == ErrorCode::Io);
  CHECK_THAT(locked.what(), says("locked: another Appender"));
  CHECK(read_bytes(path) == "0123456789");  // the lock does not stop readers
  file.write("ab", 2, 4);
  file.truncate(8);
  file.write("cd", 2, 8);
  file.sync();
  CHECK(read_bytes(path) == "0123ab67cd");
  CHECK(file.is_at(path));
  std::filesystem::rename(path, folder / "moved");
  CHECK_FALSE(file.is_at(path));
  write_bytes(path, "another");
  CHECK_FALSE(file.is_at(path));
  CHECK(file.is_at(folder / "moved"));
  file.close();
  CHECK_NOTHROW(detail::LockedFile(folder / "moved"));
  CHECK(error_of([&] { detail::LockedFile none(folder / "none"); }).code() == ErrorCode::NotFound);
  CHECK(error_of([&] { detail::LockedFile none(folder.path()); }).code() == ErrorCode::Io);
}
