// Links, modes, owners and access control lists of saved files.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "support/catch.hpp"
#include "support/child_process.hpp"
#include "support/fault_work.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("saving through a link to a file without a name throws Error", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  // A removed file that is still open, through its link in /proc.
  save(path, floats({3}), kQuick);
  const int fd = ::open(path.c_str(), O_RDWR);
  std::filesystem::remove(path);
  const auto link = "/proc/self/fd/" + std::to_string(fd);
  CHECK_THAT(words_of([&] { save(link, floats({4})); }), says("an open file that has no name"));
  ::close(fd);
  CHECK(folder.count() == 0);
}

TEST_CASE("a replaced file grants no access that its access control list did not", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  // A list that lets user 1001 read, and not the group, although the mode is 0640: entries in the
  // form of Linux's posix_acl_xattr, (tag, permissions, id).
  save(path, floats({3}), kQuick);
  const std::string list = little(2, 4) + little(1, 2) + little(6, 2) + little(0xffffffff, 4) +
                           little(2, 2) + little(4, 2) + little(1001, 4) + little(4, 2) +
                           little(0, 2) + little(0xffffffff, 4) + little(16, 2) + little(4, 2) +
                           little(0xffffffff, 4) + little(32, 2) + little(0, 2) +
                           little(0xffffffff, 4);
  if (::setxattr(path.c_str(), "system.posix_acl_access", list.data(), list.size(), 0) != 0) {
    WARN("skipped: a file system without access control lists");
    return;
  }
  struct stat status;
  REQUIRE(::stat(path.c_str(), &status) == 0);
  REQUIRE((status.st_mode & 0777) == 0640);
  save(path, floats({4}), kQuick);
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
  // A list that new files inherit from their folder.
  REQUIRE(::setxattr(folder.path().c_str(), "system.posix_acl_default", list.data(), list.size(),
                     0) == 0);
  std::filesystem::permissions(path, std::filesystem::perms(0640));
  save(path, floats({5}), kQuick);
  CHECK(::getxattr(path.c_str(), "system.posix_acl_access", nullptr, 0) == -1);
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
}

TEST_CASE("a read-only folder refuses save() and allows append()", "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  save(path, floats({10}), kQuick);
  std::filesystem::permissions(path, std::filesystem::perms(0666));
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0555));
  const std::string said = in_child([&](std::ostream& out) {
    if (::getuid() == 0 && ::setuid(65534) != 0) throw std::runtime_error("setuid");
    out << words_of([&] { save(path, floats({20})); });
    Appender appender(path);  // needs no access to the folder
    appender.append(floats({10}));
    appender.close();
  });
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  CHECK_THAT(said, says("a.npy: cannot create a file in this folder: Permission denied"));
  CHECK(load(path).numel() == 20);
  CHECK(folder.count() == 1);
}

TEST_CASE("a replaced file grants no access that the mode of the old one did not", "[faults]") {
  if (::getuid() != 0) {
    WARN("skipped: takes root, to be others");
    return;
  }
  const Folder folder;
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0777));
  struct Row {
    mode_t mode;  // of a file of user 65533 and group 65532, which another user replaces
    gid_t member_of;
    gid_t want_group;
    mode_t want;
  };
  for (const Row& row : {Row{0640, 65532, 65532, 0640},
                         {0640, 65531, 65531, 0600},
                         {0604, 65531, 65531, 0600},
                         {0644, 65531, 65531, 0644},
                         {0664, 65531, 65531, 0644}}) {
    const auto path = folder / "a.npy";
    std::filesystem::remove(path);
    save(path, floats({10}), kQuick);
    REQUIRE(::chown(path.c_str(), 65533, 65532) == 0);
    REQUIRE(::chmod(path.c_str(), row.mode) == 0);
    const std::string said = in_child([&](std::ostream& out) {
      ::umask(0);
      if (::setgroups(1, &row.member_of) != 0 || ::setgid(65531) != 0 || ::setuid(65534) != 0) {
        throw std::runtime_error("setuid");
      }
      save(path, floats({20}), kQuick);
      out << "saved";
    });
    CHECK(said == "saved");
    struct stat status;
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK(status.st_uid == 65534);
    CHECK(status.st_gid == row.want_group);
    CHECK((status.st_mode & 07777) == row.want);
    // A save by root keeps the owner.
    save(path, floats({5}), kQuick);
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK(status.st_uid == 65534);
    CHECK((status.st_mode & 07777) == row.want);
  }
}

TEST_CASE("save() follows a link to another file system", "[faults]") {
  const std::filesystem::path memory = "/dev/shm";
  if (!std::filesystem::is_directory(memory)) {
    WARN("skipped: there is no /dev/shm");
    return;
  }
  const Folder folder;
  const auto target = memory / (folder.path().filename().string() + ".npy");
  std::filesystem::create_symlink(target, folder / "link.npy");
  std::filesystem::create_symlink("link.npy", folder / "link of a link.npy");
  for (const std::int64_t size : {10, 20}) {  // made, and replaced
    save(folder / "link of a link.npy", floats({size}));
    CHECK(load(target).numel() == size);
    CHECK(std::filesystem::is_symlink(folder / "link.npy"));
    CHECK(folder.count() == 2);
  }
  std::filesystem::remove(target);
}
