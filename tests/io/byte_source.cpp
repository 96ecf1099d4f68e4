// Sources of bytes that a program implements itself, and those of the library.

#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/read_header.hpp>
#include <torch_npy/io/stream.hpp>

#include <cstring>
#include <sstream>
#include <string>

#include "support/catch.hpp"
#include "support/dripping_source.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("a header is read from a source that gives few bytes at a time", "[source]") {
  const std::string bytes = npy(header_text("'<f4'", "(2, 3)"), std::string(24, '\0'));
  for (const std::size_t drip : {1, 3, 7, 100, 100000}) {
    const DrippingSource source(bytes, drip);
    detail::FirstBytes first;
    const Header header = detail::read_header(source, kMaxHeaderSize, first);
    CHECK(header.shape == std::vector<std::int64_t>{2, 3});
    CHECK(first.size <= bytes.size());
    CHECK(std::memcmp(first.data, bytes.data(), first.size) == 0);
  }
}

TEST_CASE("a complete small array takes one read and no question for the size", "[source]") {
  const std::string bytes = npy(header_text("'<f4'", "(2, 3)"), std::string(24, '\0'));
  const DrippingSource source(bytes, bytes.size());
  detail::FirstBytes first;
  const Header header = detail::read_header(source, kMaxHeaderSize, first);
  CHECK(detail::available_bytes(source, first, header) == header.end());
  CHECK(source.reads() == 1);
  CHECK(source.sizes() == 0);
}

TEST_CASE("a header longer than the first read comes from any source", "[source]") {
  std::string text = header_text("'<f4'", "(2, 3)");
  text.insert(text.size() - 1, 40000, ' ');
  const std::string bytes = npy(text, std::string(24, '\0'), 2);
  detail::FirstBytes first;
  CHECK(detail::read_header(DrippingSource(bytes, 1000), 50000, first).shape.size() == 2);
  CHECK(detail::read_header(detail::MemorySource(bytes.data(), bytes.size()), 50000, first)
            .data_offset == bytes.size() - 24);
  std::istringstream stream(bytes);
  const detail::StreamSource source(stream);
  CHECK(detail::read_header(source, 50000, first).shape.size() == 2);
  CHECK(static_cast<std::size_t>(stream.tellg()) == bytes.size() - 24);

  const std::string cut = bytes.substr(0, 30000);
  const Error error =
      error_of([&] { detail::read_header(DrippingSource(cut, 1000), 50000, first); });
  CHECK(error.code() == ErrorCode::Truncated);
  CHECK(error.offset() == 30000);
}

TEST_CASE("a declared header of 4 GiB takes no memory from a source that ends before", "[source]") {
  std::string bytes = "\x93NUMPY\x02";
  bytes += std::string("\0\xff\xff\xff\xff", 5) + std::string(100, ' ');
  detail::FirstBytes first;
  const Error error =
      error_of([&] { detail::read_header(DrippingSource(bytes, 50), UINT64_MAX, first); });
  CHECK(error.code() == ErrorCode::Truncated);
}

TEST_CASE("read_fully() and read_many() read all bytes or throw Truncated", "[source]") {
  const DrippingSource source("0123456789", 3);
  char bytes[8] = {};
  source.read_fully(bytes, 8, 1);
  CHECK(std::string(bytes, 8) == "12345678");
  char more[2] = {};
  source.read_many({{bytes, 4, 0}, {more, 2, 8}, {nullptr, 0, 10}});
  CHECK(std::string(bytes, 4) == "0123");
  CHECK(std::string(more, 2) == "89");
  const Error error = error_of([&] { source.read_many({{bytes, 4, 0}, {bytes, 4, 8}}); });
  CHECK(error.code() == ErrorCode::Truncated);
  CHECK(error.offset() == 10);
  CHECK_THAT(error.what(), says("the source ends at byte 10, 2 bytes before the end"));
}

TEST_CASE("a part of a source never reads beyond its end", "[source]") {
  const DrippingSource whole("0123456789", 100);
  const detail::SourcePart part(whole, 2, 5);
  char bytes[8] = {};
  CHECK(part.size() == 5);
  CHECK(part.read(bytes, 8, 3) == 2);
  CHECK(std::string(bytes, 2) == "56");
  CHECK(part.read(bytes, 8, 5) == 0);
  CHECK(part.read(bytes, 8, UINT64_MAX) == 0);
  const detail::SourcePart inner(part, 1, 2);
  CHECK(inner.read(bytes, 8, 0) == 2);
  CHECK(std::string(bytes, 2) == "34");
  CHECK(inner.name() == "drips");
}

TEST_CASE("a file tells its name, and its version changes with its content", "[source]") {
  const Folder folder;
  const auto path = write_bytes(folder / "a.npy", "some bytes");
  const detail::NamedFile file(path);
  CHECK(file.name() == path.string());
  const std::string before = file.version();
  CHECK(!before.empty());
  CHECK(detail::NamedFile(path).version() == before);
  write_bytes(path, "other bytes, and more of them");
  CHECK(detail::NamedFile(path).version() != before);
  CHECK(DrippingSource("a", 1).version().empty());
}
