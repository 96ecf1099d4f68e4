// Archives in memory, in streams and in other sources, read and written.

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <streambuf>
#include <string>
#include <thread>
#include <vector>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/dripping_source.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

/// A pipe's buffer: what it has can be read once, in small parts, and it cannot seek.
class PipeBuffer final : public std::streambuf {
 public:
  explicit PipeBuffer(std::string bytes) : bytes_(std::move(bytes)) {}

 private:
  int_type underflow() override {
    if (at_ == bytes_.size()) return traits_type::eof();
    const std::size_t size = (std::min)(bytes_.size() - at_, std::size_t{1000});
    setg(bytes_.data() + at_, bytes_.data() + at_, bytes_.data() + at_ + size);
    at_ += size;
    return traits_type::to_int_type(*gptr());
  }

  std::string bytes_;
  std::size_t at_ = 0;
};

void check_same(const Arrays& a, const Arrays& b) {
  REQUIRE(a.keys() == b.keys());
  for (const auto& array : a) {
    INFO(array.key());
    CHECK(b[array.key()].scalar_type() == array.value().scalar_type());
    CHECK(at::equal(b[array.key()], array.value()));
  }
}

Arrays three_arrays() {
  return {{"a", at::arange(6, at::kFloat).view({2, 3})},
          {"größe", at::full({3}, true, at::kBool)},
          {"large", at::arange(100000, at::kLong)}};  // 800 KB: more than is kept in memory
}

}  // namespace

TEST_CASE("an archive is the same in a file, in memory, in a stream and in a source",
          "[npz][stream][memory]") {
  const Folder folder;
  const Arrays arrays = three_arrays();
  for (const bool compressed : {false, true}) {
    if (compressed && !has_deflate()) continue;
    const auto path = folder / "a.npz";
    save_npz(path, arrays, SaveNpzOptions().compressed(compressed));
    const std::string bytes = read_bytes(path);
    std::ostringstream out;
    save_npz(out, arrays, SaveNpzOptions().compressed(compressed));
    CHECK((out.str() == bytes));

    check_same(arrays, load_npz(path));
    check_same(arrays, load_npz(NpzFile(bytes.data(), bytes.size())));
    std::ifstream file(path, std::ios::binary);
    check_same(arrays, load_npz(NpzFile(file)));
    PipeBuffer buffer(bytes);
    std::istream pipe(&buffer);
    check_same(arrays, load_npz(NpzFile(pipe)));
    check_same(arrays, load_npz(NpzFile(std::make_shared<const DrippingSource>(bytes, 999))));
    // An archive starts at the position of the stream.
    std::istringstream second("before" + bytes);
    second.seekg(6);
    check_same(arrays, load_npz(NpzFile(second)));
  }
}

TEST_CASE("arrays of an archive in memory outlive the NpzFile, and cannot be mapped",
          "[npz][stream][memory]") {
  std::ostringstream out;
  save_npz(out, three_arrays());
  const std::string bytes = out.str();
  const StoredArray array = [&] {
    std::istringstream stream(bytes);
    return NpzFile(stream)["large"];
  }();
  CHECK(at::equal(array.load(), three_arrays()["large"]));
  const NpzFile file(bytes.data(), bytes.size());
  CHECK_FALSE(file.can_map("large"));
  const Error error = error_of([&] { (void)file.load("large", LoadOptions().mmap(true)); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(error.what(), says("member \"large.npy\": mmap(true) is for files"));
}

TEST_CASE("bad archives in memory and in streams give Error without a path",
          "[npz][stream][memory][bad]") {
  std::ostringstream out;
  save_npz(out, three_arrays());
  const std::string bytes = out.str();
  const auto refused = [](const auto& open, ErrorCode code, const char* words) {
    const Error error = error_of(open);
    CHECK(error.code() == code);
    CHECK(error.path().empty());
    CHECK_THAT(error.what(), says(words));
  };
  const auto from_stream = [](const std::string& text, std::uint64_t max_bytes = UINT64_MAX) {
    return [text, max_bytes] {
      std::istringstream stream(text);
      (void)NpzFile(stream, max_bytes);
    };
  };
  const auto from_pipe = [](const std::string& text, std::uint64_t max_bytes) {
    return [text, max_bytes] {
      PipeBuffer buffer(text);
      std::istream stream(&buffer);
      (void)NpzFile(stream, max_bytes);
    };
  };
  refused([] { (void)NpzFile(nullptr, 5); }, ErrorCode::InvalidArgument, "null");
  refused([] { (void)NpzFile(static_cast<const void*>(nullptr), 0); }, ErrorCode::Truncated,
          "empty");
  refused([&] { (void)NpzFile(bytes.data(), bytes.size() - 30); }, ErrorCode::BadZip, "end record");
  refused(from_stream(""), ErrorCode::Truncated, "empty");
  refused(from_stream("hello"), ErrorCode::NotNpy, "not an .npz archive");
  refused(from_stream(floats(1, 1)), ErrorCode::NotNpy, "but an .npy file");
  refused(from_stream(bytes, bytes.size() - 1), ErrorCode::TooLarge, "limit max_bytes");
  refused(from_pipe(bytes, bytes.size() - 1), ErrorCode::TooLarge, "limit max_bytes");
  refused(from_pipe(bytes.substr(0, bytes.size() - 1), UINT64_MAX), ErrorCode::BadZip,
          "end record");
  refused(
      [&] {
        std::istringstream stream(bytes);
        stream.seekg(static_cast<std::streamoff>(bytes.size()));
        (void)NpzFile(stream);
      },
      ErrorCode::Truncated, "the stream is at its end");
  refused(
      [&] {
        const Folder folder;
        std::ifstream stream(write_bytes(folder / "a.npz", bytes), std::ios::binary);
        stream.seekg(static_cast<std::streamoff>(bytes.size() + 1000));
        (void)NpzFile(stream);
      },
      ErrorCode::Truncated, "the stream is at its end");
  from_stream(bytes, bytes.size())();
  from_pipe(bytes, bytes.size())();
  refused(
      [] {
        std::ifstream missing("/no/such/file");
        (void)NpzFile(missing);
      },
      ErrorCode::Io, "was the file opened?");
  refused(
      [&] {
        std::ofstream none("/no/such/file");
        save_npz(none, three_arrays());
      },
      ErrorCode::Io, "cannot be written to");
}

TEST_CASE("save_npz() to a stream refuses what save_npz() to a file refuses",
          "[npz][stream][bad]") {
  std::ostringstream out;
  const Arrays twice{{"a", at::arange(2)}, {"a", at::arange(3)}};
  CHECK(error_of([&] { save_npz(out, twice); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] {
          save_npz(out, {{"../a", at::arange(2)}});
        }).code() == ErrorCode::InvalidArgument);
  CHECK(out.str().empty());
}
