// Loading from streams and saving to them.

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("a stream holds several arrays in sequence", "[stream]") {
  std::ostringstream out;
  const at::Tensor a = at::arange(6, at::kFloat).view({2, 3});
  const at::Tensor b = at::arange(4, at::kLong);
  save(out, a);
  save(out, b);
  out << "tail";
  std::istringstream in(out.str());
  CHECK(at::equal(load(in), a));
  CHECK(at::equal(load(in), b));
  CHECK(std::string(std::istreambuf_iterator<char>(in), {}) == "tail");

  const Folder folder;
  std::ifstream missing(folder / "missing.npy");
  CHECK(error_of([&] { (void)load(missing); }).code() == ErrorCode::Io);
  std::istringstream empty;
  CHECK(error_of([&] { (void)load(empty); }).code() == ErrorCode::Truncated);
  std::ofstream nowhere(folder / "no" / "such" / "file");
  CHECK(error_of([&] { save(nowhere, a); }).code() == ErrorCode::Io);
}

TEST_CASE("a stream that throws gives Error, a stream without seek is read", "[stream]") {
  struct Buffer : std::stringbuf {
    using std::stringbuf::stringbuf;
    bool seek_throws = false;
    bool seek_back_fails = false;
    bool read_throws = false;
    bool write_throws = false;
    pos_type seekoff(off_type offset, std::ios::seekdir way, std::ios::openmode which) override {
      if (seek_throws) throw std::ios_base::failure("no random access");
      return std::stringbuf::seekoff(offset, way, which);
    }
    pos_type seekpos(pos_type position, std::ios::openmode which) override {
      return seek_back_fails ? pos_type(-1) : std::stringbuf::seekpos(position, which);
    }
    std::streamsize xsgetn(char* out, std::streamsize size) override {
      if (read_throws) throw std::runtime_error("a broken disk");
      return std::stringbuf::xsgetn(out, size);
    }
    std::streamsize xsputn(const char* data, std::streamsize size) override {
      if (write_throws) throw std::runtime_error("a full disk");
      return std::stringbuf::xsputn(data, size);
    }
  };
  const at::Tensor want = at::arange(6);
  std::ostringstream out;
  save(out, want);
  Buffer buffer(out.str());
  std::iostream stream(&buffer);
  buffer.seek_throws = true;
  CHECK(at::equal(load(stream), want));
  buffer.str(out.str());
  buffer.seek_throws = false;
  buffer.seek_back_fails = true;
  CHECK(error_of([&] { (void)load(stream); }).code() == ErrorCode::Io);
  buffer.seek_back_fails = false;
  buffer.read_throws = true;
  const Error error = error_of([&] { (void)load(stream); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK_THAT(error.what(), says("a broken disk"));
  buffer.write_throws = true;
  CHECK_THAT(error_of([&] { save(stream, want); }).what(), says("a full disk"));

  const Folder folder;
  std::ifstream directory(folder.path());  // can be opened, and throws when it is read
  CHECK(error_of([&] { (void)load(directory); }).code() == ErrorCode::Io);
}
