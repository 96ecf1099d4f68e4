// Reading and mapping files.

#include <torch_npy/io/file.hpp>
#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/io/read_header.hpp>

#include <cstdint>
#include <string>
#include <utility>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("a file is read at any offset, and into two buffers at once", "[file]") {
  const Folder folder;
  const detail::File file(write_bytes(folder / "data", "0123456789"));
  char bytes[4] = {};
  file.read_fully(bytes, 4, 5);
  CHECK(std::string(bytes, 4) == "5678");
  CHECK(file.read(bytes, 4, 8) == 2);
  CHECK(file.read(bytes, 4, 10) == 0);
  CHECK(error_of([&] { file.read_fully(bytes, 4, 8); }).code() == ErrorCode::Truncated);
  char head[3];
  char body[20];
  CHECK(file.read_split(head, 3, body, 20) == 10);
  CHECK(std::string(head, 3) + std::string(body, 7) == "0123456789");
}

TEST_CASE("a mapping is private and starts at the requested byte", "[file]") {
  const Folder folder;
  std::string bytes(10000, 'a');
  bytes[4097] = 'b';
  const auto path = write_bytes(folder / "data", bytes);
  const detail::File file(path);
  CHECK(file.size() == bytes.size());
  detail::Mapping mapping = detail::Mapping::of(file.internal_traits().range, 4097, 100);
  detail::Mapping moved = std::move(mapping);
  char* const data = static_cast<char*>(moved.data());
  CHECK(data[0] == 'b');
  CHECK(data[99] == 'a');
  data[0] = 'c';
  CHECK(read_bytes(path) == bytes);
}

TEST_CASE("offsets and sizes beyond 32 bits work", "[file]") {
  const Folder folder;
  const auto path = write_bytes(folder / "large", "");
  const std::uint64_t end = (std::uint64_t{5} << 30) + 7;
  {
    detail::LockedFile file(path);
    file.truncate(end);
    file.write("the end", 7, end - 7);
    file.close();
  }
  const detail::File file(path);
  CHECK(file.size() == end);
  char bytes[7];
  file.read(bytes, 7, end - 7);
  CHECK(std::string(bytes, 7) == "the end");
  const detail::Mapping mapping = detail::Mapping::of(file.internal_traits().range, end - 7, 7);
  CHECK(std::string(static_cast<char*>(mapping.data()), 7) == "the end");
}

TEST_CASE("a URI is not a path", "[files]") {
  for (const char* const uri : {"s3://bucket/x.npy", "gs://bucket", "hdfs://host/x.npy"}) {
    const Error error = error_of([&] { (void)read_header(uri); });
    CHECK(error.code() == ErrorCode::NotFound);
    CHECK_THAT(error.what(), says("this is a URI, not a path"));
  }
  CHECK_THAT(error_of([&] { (void)read_header("none:/x.npy"); }).what(), !says("URI"));
}
