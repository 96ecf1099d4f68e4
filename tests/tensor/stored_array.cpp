// Arrays whose header has been read, wherever they are stored.

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/dripping_source.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

using namespace torch_npy;

namespace {

/// The bytes that save() writes.
std::string saved(const at::Tensor& tensor) {
  std::ostringstream out;
  save(out, tensor);
  return out.str();
}

std::shared_ptr<const ByteSource> dripping(const std::string& bytes, std::size_t drip,
                                           const std::string& name = "drips") {
  return std::make_shared<const DrippingSource>(bytes, drip, name);
}

/// An implementation that fails in its own way.
class FailingSource final : public ByteSource {
 public:
  explicit FailingSource(std::string good) : good_(std::move(good)) {}
  std::uint64_t size() const override { return 1000000; }
  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    if (offset < good_.size()) return good_.copy(static_cast<char*>(out), size, offset);
    throw std::runtime_error("the network is gone");
  }
  std::string name() const override { return "s3://bucket/a.npy"; }

 private:
  std::string good_;
};

}  // namespace

TEST_CASE("open() reads the header, and load() what was asked for, from every kind of source",
          "[stored_array]") {
  const Folder folder;
  const at::Tensor values = at::arange(60000, at::kFloat).view({100, 600});
  for (const at::Tensor& tensor : {values, values.t(), values[0], values.narrow(0, 0, 0)}) {
    const std::string bytes = saved(tensor);
    const auto path = write_bytes(folder / "a.npy", bytes);
    const std::vector<StoredArray> arrays{open(path), open_bytes(bytes.data(), bytes.size()),
                                          open(dripping(bytes, 1000)),
                                          open(dripping(bytes, bytes.size()))};
    for (const StoredArray& array : arrays) {
      CHECK(array.shape() == tensor.sizes().vec());
      CHECK(array.dtype().descr() == "<f4");
      CHECK(array.header().fortran_order == (tensor.dim() == 2 && !tensor.is_contiguous()));
      const at::Tensor loaded = array.load();
      CHECK(at::equal(loaded, tensor));
      CHECK(loaded.strides() == load(path).strides());
      CHECK(at::equal(array.load(LoadOptions().dtype(at::kDouble)), tensor.to(at::kDouble)));
      if (tensor.size(0) > 9) {
        CHECK(at::equal(array.load(LoadOptions().rows(3, 9)), tensor.slice(0, 3, 9)));
      }
      at::Tensor out = at::zeros(tensor.sizes());
      array.load_into(out);
      CHECK(at::equal(out, tensor));
      CHECK(error_of([&] { array.load_into(at::zeros({7})); }).code() == ErrorCode::Mismatch);
      CHECK(error_of([&] { (void)array.load_fields(); }).code() == ErrorCode::Mismatch);
    }
  }
}

TEST_CASE("a StoredArray keeps the old content of a file that is replaced or removed",
          "[stored_array]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 200, 100);
  const at::Tensor before = load(path);
  const StoredArray array = open(path);
  const StoredArray copy = array;
  save(path, at::zeros({3}));
  CHECK(at::equal(array.load(), before));
  std::filesystem::remove(path);
  CHECK(at::equal(copy.load(LoadOptions().mmap(true)), before));
}

TEST_CASE("can_map() tells whether mmap(true) maps", "[stored_array]") {
  const Folder folder;
  const auto aligned = folder / "a.npy";
  save(aligned, at::arange(1000).view({10, 100}));
  const StoredArray array = open(aligned);
  CHECK(array.can_map());
  CHECK(array.can_map(LoadOptions().rows(2, 4)));
  CHECK_FALSE(array.can_map(LoadOptions().dtype(at::kFloat)));
  CHECK_FALSE(array.can_map(LoadOptions().pinned_memory(true)));
  CHECK(error_of([&] { (void)array.can_map(LoadOptions().rows(2, 11)); }).code() ==
        ErrorCode::InvalidArgument);

  const auto swapped = write_bytes(folder / "b.npy", npy(header_text("'>f4'", "(2,)"), "12345678"));
  CHECK_FALSE(open(swapped).can_map());
  std::string text = header_text("'<f4'", "(2,)");
  while ((10 + text.size()) % 4 != 1) text.insert(text.size() - 1, " ");
  const auto odd = write_bytes(folder / "c.npy", npy(text, "12345678"));
  CHECK_FALSE(open(odd).can_map());
  CHECK(open(odd).load(LoadOptions().mmap(true)).numel() == 2);  // read instead

  const std::string bytes = read_bytes(aligned);
  for (const StoredArray& other :
       {open_bytes(bytes.data(), bytes.size()), open(dripping(bytes, 64))}) {
    CHECK_FALSE(other.can_map());
    const Error error = error_of([&] { (void)other.load(LoadOptions().mmap(true)); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("mmap(true) is for files"));
  }
}

TEST_CASE("arrays in a stream are opened and loaded one after another, each once",
          "[stored_array][stream]") {
  std::stringstream stream;
  save(stream, at::arange(5000));
  save(stream, at::arange(7, at::kFloat));
  const StoredArray first = open(stream);
  CHECK(first.shape() == std::vector<std::int64_t>{5000});
  CHECK(at::equal(first.load(), at::arange(5000)));
  const Error again = error_of([&] { (void)first.load(); });
  CHECK(again.code() == ErrorCode::InvalidArgument);
  CHECK_THAT(again.what(), says("can be loaded once"));
  CHECK(at::equal(open(stream).load(), at::arange(7, at::kFloat)));
  CHECK(stream.peek() == EOF);
}

TEST_CASE("Errors of a program's own source have its name", "[stored_array]") {
  const std::string bytes = saved(at::arange(100000));
  const Error cut = error_of(
      [&] { (void)open(dripping(bytes.substr(0, 20000), 999, "s3://bucket/a.npy")).load(); });
  CHECK(cut.code() == ErrorCode::Truncated);
  CHECK(cut.path() == "s3://bucket/a.npy");
  CHECK_THAT(cut.what(), says("s3://bucket/a.npy: data cut short: the header declares 800000 "
                              "bytes from byte 128 on, there are 19872"));
  const Error none = error_of([] { (void)open(dripping("no array", 3)); });
  CHECK(none.code() == ErrorCode::NotNpy);
  CHECK(none.path() == "drips");
  CHECK(error_of([] { (void)open(std::shared_ptr<const ByteSource>()); }).code() ==
        ErrorCode::InvalidArgument);
  // Exceptions of its own come through.
  const auto failing = open(std::make_shared<const FailingSource>(bytes.substr(0, 50000)));
  CHECK_THROWS_WITH(failing.load(), says("the network is gone"));
}

TEST_CASE("a source that ends before its size is Truncated, never made up", "[stored_array]") {
  class Shrinking final : public ByteSource {
   public:
    explicit Shrinking(std::string bytes) : bytes_(std::move(bytes)) {}
    std::uint64_t size() const override { return UINT64_MAX; }
    std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
      return offset < bytes_.size() ? bytes_.copy(static_cast<char*>(out), size, offset) : 0;
    }
    std::string name() const override { return {}; }

   private:
    std::string bytes_;
  };
  const std::string bytes = saved(at::arange(100000));
  const auto array = open(std::make_shared<const Shrinking>(bytes.substr(0, 400128)));
  const Error error = error_of([&] { (void)array.load(); });
  CHECK(error.code() == ErrorCode::Truncated);
  CHECK_THAT(error.what(), says("the array ends at byte 800128, its source at byte 400128"));
}

TEST_CASE("one StoredArray may be loaded from many threads", "[stored_array][threads]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 300, 500);
  const at::Tensor expected = load(path);
  const StoredArray file = open(path);
  const StoredArray source = open(dripping(read_bytes(path), 10000));
  std::vector<std::thread> threads;
  std::atomic<int> equal{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const StoredArray& array = i % 2 == 0 ? file : source;
      for (int k = 0; k < 20; ++k) equal += at::equal(array.load(), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(equal == 160);
}

TEST_CASE("a file that is changed in place after open() is refused, not mixed", "[stored_array]") {
  const Folder folder;
  const auto path = write_bytes(folder / "a.npy", saved(at::arange(10000)));
  const StoredArray array = open(path);
  CHECK(at::equal(array.load(), at::arange(10000)));
  std::filesystem::last_write_time(
      path, std::filesystem::last_write_time(path) + std::chrono::seconds(2));
  const Error error = error_of([&] { (void)array.load(); });
  CHECK(error.code() == ErrorCode::Io);
  CHECK(error.path() == path);
  CHECK_THAT(error.what(), says("changed since open()"));
  CHECK(at::equal(open(path).load(), at::arange(10000)));
}

TEST_CASE("a source that returns more bytes than it was asked for throws Error", "[stored_array]") {
  /// As an implementation that returns the -1 of pread(2).
  class Overstating final : public ByteSource {
   public:
    Overstating(std::string good, std::size_t count) : good_(std::move(good)), count_(count) {}
    std::uint64_t size() const override { return 1000000; }
    std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
      if (offset < good_.size()) return good_.copy(static_cast<char*>(out), size, offset);
      return count_ == SIZE_MAX ? count_ : size + count_;
    }
    std::string name() const override { return "overstating"; }

   private:
    std::string good_;
    std::size_t count_;
  };
  const std::string bytes = saved(at::arange(100000));
  for (const std::size_t count : {std::size_t{1}, std::size_t{SIZE_MAX}}) {
    for (const std::size_t good : {0, 20000}) {
      const auto source = std::make_shared<const Overstating>(bytes.substr(0, good), count);
      const Error error = error_of([&] { (void)open(source).load(); });
      CHECK(error.code() == ErrorCode::Io);
      CHECK_THAT(error.what(), says("overstating: the read() of a ByteSource returned"));
    }
  }
}

TEST_CASE("mmap(true) is refused by every way of loading from memory", "[stored_array]") {
  const std::string bytes = saved(at::arange(100));
  const StoredArray array = open_bytes(bytes.data(), bytes.size());
  const auto mapped = LoadOptions().mmap(true);
  at::Tensor out = at::zeros({100}, at::kLong);
  CHECK(error_of([&] { (void)array.load(mapped); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { array.load_into(out, mapped); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([] { (void)open_bytes(nullptr, 10); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([] { (void)load_bytes(nullptr, 10); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([] { (void)open_bytes(nullptr, 0); }).code() == ErrorCode::Truncated);
}

TEST_CASE("rows of a Fortran-ordered array are asked for together", "[stored_array]") {
  class Counting final : public ByteSource {
   public:
    explicit Counting(std::string bytes) : bytes_(std::move(bytes)) {}
    std::uint64_t size() const override { return bytes_.size(); }
    std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
      return offset < bytes_.size() ? bytes_.copy(static_cast<char*>(out), size, offset) : 0;
    }
    void read_many(const std::vector<ByteRange>& ranges) const override {
      ++calls_;
      ranges_ += ranges.size();
      ByteSource::read_many(ranges);
    }
    std::string name() const override { return {}; }
    mutable std::size_t calls_ = 0, ranges_ = 0;

   private:
    std::string bytes_;
  };
  const at::Tensor tensor = at::arange(4000 * 50).view({50, 4000}).t();
  const auto source = std::make_shared<const Counting>(saved(tensor));
  const at::Tensor rows = open(source).load(LoadOptions().rows(3000, 3010));
  CHECK(at::equal(rows, tensor.slice(0, 3000, 3010)));
  CHECK(source->calls_ == 1);
  CHECK(source->ranges_ == 50);
}
