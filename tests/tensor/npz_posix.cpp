// Archives on POSIX systems: pipes, modes, links, file descriptors, the limit of the address space.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/update_npz.hpp>
#endif

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/descriptors.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("an archive in a pipe is read as it comes", "[npz][stream]") {
  const Folder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const Arrays arrays{{"a", at::arange(6)}, {"large", at::arange(100000)}};
  std::thread writer([&] {
    std::ofstream pipe(folder / "pipe", std::ios::binary);
    save_npz(pipe, arrays);
  });
  std::ifstream pipe(folder / "pipe", std::ios::binary);
  pipe.exceptions(std::ios::failbit | std::ios::badbit | std::ios::eofbit);
  const Arrays got = load_npz(NpzFile(pipe));
  REQUIRE(got.keys() == arrays.keys());
  for (const auto& array : got) CHECK(at::equal(array.value(), arrays[array.key()]));
  writer.join();
}

TEST_CASE("an update keeps the mode of the file and follows symbolic links", "[npz][update]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_npz(path, {{"a", at::arange(3)}});
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  std::filesystem::create_symlink("a.npz", folder / "link.npz");
  update_npz(folder / "link.npz", {{"b", at::arange(3)}});
  CHECK(std::filesystem::is_symlink(folder / "link.npz"));
  CHECK(NpzFile(path).names() == Names{"a", "b"});
  struct stat info {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("a directory of 4 TiB in a sparse file is refused without allocating it", "[npz][bad]") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return;  // sanitizers abort where operator new would throw
#endif
  const Folder folder;
  const auto path = folder / "a.npz";
  // A directory of 2^42 bytes. The file stores only its end.
  const std::uint64_t size = std::uint64_t{1} << 42;
  const std::string end = "PK\x06\x06" + little(44, 8) + little(0, 4) + little(0, 8) +
                          little(1, 8) + little(1, 8) + little(size - 4, 8) + little(4, 8) +
                          "PK\x06\x07" + little(0, 4) + little(size, 8) + little(1, 4) +
                          "PK\x05\x06" + little(0, 4) + little(0xffff, 2) + little(0xffff, 2) +
                          little(0xffffffff, 4) + little(0xffffffff, 4) + little(0, 2);
  write_bytes(path, "PK\x03\x04");
  {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(size));
    file << end;
    if (!file.flush()) return;  // the file system has no files of that size
  }
  rlimit before;
  ::getrlimit(RLIMIT_AS, &before);
  rlimit small = before;
  small.rlim_cur = rlim_t{1} << 40;
  ::setrlimit(RLIMIT_AS, &small);
  ErrorCode code{};
  try {
    NpzFile{path};
  } catch (const Error& error) {
    code = error.code();
  }
  ::setrlimit(RLIMIT_AS, &before);
  CHECK(code == ErrorCode::BadZip);
}

TEST_CASE("failed loads of archives leave no file descriptor", "[npz][memory]") {
  const Folder folder;
  const auto bad = write_bytes(folder / "bad.npz", zip({ZipPart::stored("a.npy", "no array")}));
  const auto before = open_descriptors();
  for (int i = 0; i < 100; ++i) (void)error_of([&] { (void)load_npz(bad); });
  CHECK(open_descriptors() == before);
}
