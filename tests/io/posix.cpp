// POSIX systems: links, modes, FIFOs, limits on a process.

#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/parallel.hpp>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/files.hpp"
#include "support/folder_names.hpp"

using namespace torch_npy;

TEST_CASE("devices, FIFOs and unreadable files are refused without blocking", "[file][bad]") {
  const Folder folder;
  const auto code = [](const std::filesystem::path& path) {
    return error_of([&] { read_header(path); }).code();
  };
  CHECK(code("/dev/null") == ErrorCode::Io);
  CHECK(error_of([&] { detail::AtomicFile file("/dev/null", true); }).code() == ErrorCode::Io);
  const auto fifo = folder / "fifo.npy";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(code(fifo) == ErrorCode::Io);
  CHECK_THAT(error_of([&] { read_header(fifo); }).what(), says("a FIFO"));

  const auto secret = write_bytes(folder / "secret.npy", npy(header_text("'<f4'", "()"), "abcd"));
  std::filesystem::permissions(secret, std::filesystem::perms::none);
  if (::geteuid() == 0) {
    WARN("root reads every file: the test of a file without permission is skipped");
  } else {
    CHECK(code(secret) == ErrorCode::Io);
  }
}

TEST_CASE("an AtomicFile keeps the mode of the old file and follows symbolic links", "[file]") {
  const Folder folder;
  const auto path = write_bytes(folder / "target", "old");
  std::filesystem::permissions(path, std::filesystem::perms(0640));
  std::filesystem::create_symlink("target", folder / "link");
  {
    detail::AtomicFile file(folder / "link", false);
    file.write("by the link", 11);
    file.commit();
  }
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(read_bytes(path) == "by the link");
  CHECK(std::filesystem::status(path).permissions() == std::filesystem::perms(0640));

  std::filesystem::create_directory(folder / "sub");
  std::filesystem::create_symlink("sub/made", folder / "dangling");
  {
    detail::AtomicFile file(folder / "dangling", true);
    file.write("x", 1);
    file.commit();
  }
  CHECK(std::filesystem::is_symlink(folder / "dangling"));
  CHECK(read_bytes(folder / "sub/made") == "x");
  std::filesystem::create_symlink("circle", folder / "circle");
  CHECK(error_of([&] { detail::AtomicFile file(folder / "circle", true); }).code() ==
        ErrorCode::Io);
  CHECK(folder.count() == 5);
}

TEST_CASE("symbolic links to files and folders are listed like files and folders", "[folder]") {
  using Names = std::vector<std::string>;
  const Folder folder;
  make_files(folder.path(), {"a.npy", "sub/x.npy", "sub/deep/y.npy"});
  std::filesystem::create_symlink("a.npy", folder / "link.npy");
  std::filesystem::create_symlink("nowhere", folder / "broken.npy");
  std::filesystem::create_directory_symlink("..", folder / "sub" / "up");
  std::filesystem::create_directory_symlink("sub/deep", folder / "to_deep");
  CHECK(names_in(folder.path()) == Names{"a.npy", "broken.npy", "link.npy"});
  CHECK(names_in(folder.path(), {"*", true}) ==
        Names{"a.npy", "broken.npy", "link.npy", "sub/deep/y.npy", "sub/x.npy", "to_deep/y.npy"});
  CHECK(names_in(folder.path(), {"y*", true}) == Names{"sub/deep/y.npy", "to_deep/y.npy"});
  CHECK(FileList(folder.path()).subfolders() == Names{"sub", "to_deep"});

  FileList list(folder.path());
  CHECK(list.add("sub", {}) == 1);
  CHECK(list.add(".", {}) == 3);
  CHECK(list[3] == folder / "link.npy");
  CHECK(list.open(3).size() == 0);
  CHECK(error_of([&] { (void)list.open(2); }).code() == ErrorCode::NotFound);

  // The open folder counts, not its name.
  std::filesystem::rename(folder.path(), folder.path().string() + "_moved");
  CHECK(list.open(1).size() == 0);
  std::filesystem::rename(folder.path().string() + "_moved", folder.path());
}

TEST_CASE("listing needs two file descriptors at any depth", "[folder]") {
  const Folder folder;
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "x/";
  make_files(folder.path(), {deep + "a.npy"});
  const FewDescriptors two(2);
  CHECK(names_in(folder.path(), {"*", true}) == std::vector<std::string>{deep + "a.npy"});
}

#ifndef __SANITIZE_ADDRESS__  // the sanitizers need descriptors themselves
TEST_CASE("listing without a free file descriptor throws Error(Exhausted)", "[folder]") {
  const Folder folder;
  make_files(folder.path(), {"a.npy"});
  FileList list(folder.path());
  const FewDescriptors none(0);
  const Error error = error_of([&] { list.add(".", {}); });
  CHECK(error.code() == ErrorCode::Exhausted);
  CHECK_THAT(error.what(), says(std::generic_category().message(EMFILE)));
}
#endif

TEST_CASE("listing leaves no file descriptor open", "[folder]") {
  const Folder folder;
  make_files(folder.path(), {"a.npy", "b/c.npy", "b/d/e.npy"});
  const auto before = open_descriptors();
  for (int i = 0; i < 3; ++i) {
    FileList list(folder.path());
    list.add(".", {"*", true});
    CHECK(open_descriptors() == before + 1);
    CHECK_THROWS(list.add("none", {}));
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("if a thread cannot be started, the other threads do its work", "[parallel]") {
  struct rlimit before;
  ::getrlimit(RLIMIT_NPROC, &before);
  struct rlimit none = before;
  none.rlim_cur = 0;  // root ignores the limit, and the call must work all the same
  ::setrlimit(RLIMIT_NPROC, &none);
  std::atomic<int> calls{0};
  torch_npy::detail::for_each_index(100, 8, [&](std::size_t) { ++calls; });
  ::setrlimit(RLIMIT_NPROC, &before);
  CHECK(calls == 100);
}
