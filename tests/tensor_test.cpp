// Loading and saving, with LibTorch. Compiled twice: against the headers one by one, and, with
// TORCH_NPY_SINGLE_HEADER, against the generated one.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>
#endif

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_efficientzerotensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>

#include "allocations.hpp"
#include "bad_input.hpp"
#include "catch.hpp"
#include "expected.hpp"
#include "files.hpp"

using namespace torch_npy;

namespace {

/// One line of expected.txt, which NumPy wrote.
struct Expected {
  std::filesystem::path path;
  std::string version, descr;
  bool fortran_order;
  Shape shape, strides;
  std::string bytes;
  bool saved_alike;
};

std::vector<Expected> read_expected() {
  const char* const other = std::getenv("TORCH_NPY_ARRAYS");
  const std::filesystem::path folder = other ? other : TORCH_NPY_TEST_DATA "/arrays";
  std::istringstream lines(read_bytes(folder / "expected.txt"));
  std::vector<Expected> out;
  for (std::string line; std::getline(lines, line);) {
    const auto part = split(line, '\t');
    REQUIRE(part.size() == 8);
    out.push_back({folder / part[0], part[1], part[2], part[3] == "1", numbers(part[4]),
                   numbers(part[5]), from_hex(part[6]), part[7] == "bytes"});
  }
  REQUIRE(out.size() > 100);
  return out;
}

void check_array(const Expected& want, const at::Tensor& got) {
  CHECK(got.sizes().vec() == want.shape);
  CHECK(got.scalar_type() == expected_type(want.descr));
  // Strides say nothing about an array without elements, and NumPy's own change with its version.
  if (got.numel() != 0) CHECK(got.strides().vec() == want.strides);
  CHECK((bytes_of(got) == want.bytes));  // in brackets: not to be printed
}

std::filesystem::path write_floats(const std::filesystem::path& path, std::int64_t rows,
                                   std::int64_t columns, bool fortran_order = false) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) * 0.5f;
  const std::string shape = "(" + std::to_string(rows) + ", " + std::to_string(columns) + ")";
  std::string text = header_text("'<f4'", shape, fortran_order ? "True" : "False");
  text.resize(118, ' ');  // data from byte 128 on, so that it can be mapped
  return write_bytes(path, npy(text, bytes_of(values)));
}

}  // namespace

TEST_CASE("arrays that NumPy wrote come back bit for bit", "[numpy]") {
  for (const Expected& want : read_expected()) {
    INFO(want.path.filename().string());
    const Header header = read_header(want.path);
    CHECK(header.shape == want.shape);
    CHECK(header.fortran_order == want.fortran_order);
    CHECK(std::to_string(header.version) == want.version);
    CHECK(header.dtype.descr() == want.descr);
    if (expected_type(want.descr) == at::ScalarType::Undefined) {
      REQUIRE(is_wide_unsigned(want.descr));  // LibTorch before 2.3
      const Error error = error_of([&] { (void)load(want.path); });
      CHECK(error.code() == ErrorCode::UnsupportedDtype);
      CHECK_THAT(error.what(), says("dtype(torch::kInt64)"));
      continue;
    }
    const std::string file = read_bytes(want.path);
    check_array(want, load(want.path));
    check_array(want, load(want.path, LoadOptions().mmap(true)));
    check_array(want, load(want.path, LoadOptions().threads(3)));
    check_array(want, load_bytes(file.data(), file.size()));
    const std::string shifted = "x" + file;  // aligned for nothing
    check_array(want, load_bytes(shifted.data() + 1, file.size()));
    std::istringstream stream(file + "next");
    check_array(want, load(stream));
    CHECK(std::string(std::istreambuf_iterator<char>(stream), {}) == "next");
  }
}

TEST_CASE("save writes what np.save writes", "[numpy][save]") {
  const Folder folder;
  int compared = 0;
  for (const Expected& want : read_expected()) {
    // What np.save writes for a tensor: its own version, native byte order, no datetimes.
    const bool native =
        want.descr[0] == '|' || want.descr[0] == torch_npy::detail::native_byte_order();
    if (!want.saved_alike || !native || want.descr[1] == 'M' || want.descr[1] == 'm') continue;
    if (expected_type(want.descr) == at::ScalarType::Undefined) continue;
    INFO(want.path.filename().string());
    const at::Tensor tensor = load(want.path);
    save(folder / "saved.npy", tensor);
    CHECK((read_bytes(folder / "saved.npy") == read_bytes(want.path)));
    std::ostringstream stream;
    save(stream, tensor);
    CHECK((stream.str() == read_bytes(want.path)));
    ++compared;
  }
  CHECK(compared > 40);
}

TEST_CASE("bad input is an Error, from a file, from memory and from a stream", "[bad]") {
  const Folder folder;
  for (const BadInput& bad : bad_inputs()) {
    INFO(bad.name);
    const auto path = write_bytes(folder / "bad.npy", bad.bytes);
    std::istringstream stream(bad.bytes);
    largest_allocation = 0;
    for (const LoadOptions& options : {LoadOptions(), LoadOptions().mmap(true)}) {
      const Error error = error_of([&] { (void)load(path, options); });
      INFO(error.what());
      CHECK(error.code() == bad.code);
      CHECK(error.offset() == bad.offset);
      CHECK(error.path() == path);
      CHECK_THAT(error.what(), says(bad.words));
    }
    const Error in_memory = error_of([&] { (void)load_bytes(bad.bytes.data(), bad.bytes.size()); });
    CHECK(in_memory.code() == bad.code);
    CHECK(in_memory.offset() == bad.offset);
    CHECK(in_memory.path().empty());
    CHECK(error_of([&] { (void)load(stream); }).code() == bad.code);
    at::Tensor out = at::zeros({2, 3});
    CHECK(error_of([&] { load_into(out, path); }).code() == bad.code);
    CHECK(at::equal(out, at::zeros({2, 3})));
    CHECK(largest_allocation < (1u << 20));
  }
}

TEST_CASE("what is no file is an Error", "[bad]") {
  const Folder folder;
  const auto code = [](const std::filesystem::path& path) {
    return error_of([&] { (void)load(path); }).code();
  };
  CHECK(code(folder / "missing.npy") == ErrorCode::NotFound);
  CHECK(code(folder.path()) == ErrorCode::Io);
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  CHECK(code(folder / "fifo") == ErrorCode::Io);
}

TEST_CASE("data cut short anywhere is never made up", "[bad]") {
  const Folder folder;
  const std::string whole = npy(header_text("'<f8'", "(100,)"), std::string(800, 'x'));
  for (std::size_t size = whole.size() - 800; size < whole.size(); size += 7) {
    const auto path = write_bytes(folder / "cut.npy", whole.substr(0, size));
    const Error error = error_of([&] { (void)load(path); });
    CHECK(error.code() == ErrorCode::Truncated);
    CHECK(error.offset() == size);
  }
  // The rows asked for are all there, but the array is not.
  CHECK(error_of([&] { (void)load(folder / "cut.npy", LoadOptions().rows(0, 1)); }).code() ==
        ErrorCode::Truncated);
}

TEST_CASE("bytes behind the array are left alone", "[load]") {
  const std::string bytes = npy(header_text("'<i2'", "(2,)"), std::string("\1\0\2\0and more", 12));
  const at::Tensor tensor = load_bytes(bytes.data(), bytes.size());
  CHECK(tensor[0].item<int>() == 1);
  CHECK(tensor[1].item<int>() == 2);
}

TEST_CASE("large arrays, read by several threads, are what was written", "[load]") {
  const Folder folder;
  const std::int64_t rows = 1500;
  const std::int64_t columns = 2111;  // 12.7 MB, no multiple of any chunk
  for (const bool fortran_order : {false, true}) {
    const auto path = write_floats(folder / "large.npy", rows, columns, fortran_order);
    const std::string data = read_bytes(path).substr(read_header(path).data_offset);
    for (const std::size_t threads : {0u, 1u, 2u, 5u}) {
      const at::Tensor tensor = load(path, LoadOptions().threads(threads));
      CHECK(std::memcmp(tensor.data_ptr(), data.data(), data.size()) == 0);
      CHECK(tensor.stride(0) == (fortran_order ? 1 : columns));
      CHECK(tensor.stride(1) == (fortran_order ? rows : 1));
    }
    std::string big = read_bytes(path);
    big[big.find("'<f4'") + 1] = '>';
    for (std::size_t i = big.size() - data.size(); i < big.size(); i += 4) {
      std::reverse(big.begin() + static_cast<std::ptrdiff_t>(i),
                   big.begin() + static_cast<std::ptrdiff_t>(i) + 4);
    }
    write_bytes(folder / "big.npy", big);
    CHECK(std::memcmp(load(folder / "big.npy").data_ptr(), data.data(), data.size()) == 0);
    const at::Tensor doubles = load(folder / "big.npy", LoadOptions().dtype(at::kDouble));
    CHECK(doubles.strides() == load(path).strides());
    CHECK(at::equal(doubles, load(path).to(at::kDouble)));
  }
}

TEST_CASE("rows are those rows, from any source and in either order", "[rows]") {
  const Folder folder;
  for (const auto& [rows, columns] :
       {std::pair<std::int64_t, std::int64_t>{7, 5}, {3000, 40}, {5000, 3}, {4, 9000}}) {
    for (const bool fortran_order : {false, true}) {
      const auto path = write_floats(folder / "rows.npy", rows, columns, fortran_order);
      const std::string bytes = read_bytes(path);
      const at::Tensor whole = load(path);
      for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{0, rows},
                                       {0, 1},
                                       {1, 3},
                                       {rows - 1, rows},
                                       {2, rows - 1},
                                       {2, 2},
                                       {rows, rows}}) {
        INFO(rows << "x" << columns << " rows " << begin << " to " << end << " fortran "
                  << fortran_order);
        const at::Tensor want = whole.narrow(0, begin, end - begin);
        for (const bool mmap : {false, true}) {
          const at::Tensor got = load(path, LoadOptions().rows(begin, end).mmap(mmap));
          CHECK(got.sizes() == want.sizes());
          CHECK(at::equal(got, want));
          if (end - begin > 1) CHECK(got.stride(0) == (fortran_order ? 1 : columns));
        }
        const auto options = LoadOptions().rows(begin, end);
        CHECK(at::equal(load_bytes(bytes.data(), bytes.size(), options), want));
        std::istringstream stream(bytes + "next");
        CHECK(at::equal(load(stream, options), want));
        CHECK(std::string(std::istreambuf_iterator<char>(stream), {}) == "next");
        CHECK(at::equal(load(path, LoadOptions(options).dtype(at::kDouble)), want.to(at::kDouble)));
      }
    }
  }
  const auto path = write_floats(folder / "rows.npy", 7, 5);
  for (const auto& [begin, end] : {std::pair<std::int64_t, std::int64_t>{-1, 3},
                                   {0, 8},
                                   {3, 2},
                                   {8, 8},
                                   {INT64_MIN, INT64_MAX}}) {
    const Error error =
        error_of([&, b = begin, e = end] { (void)load(path, LoadOptions().rows(b, e)); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("7 rows"));
  }
  write_bytes(folder / "scalar.npy", npy(header_text("'<f4'", "()"), "abcd"));
  CHECK(error_of([&] { (void)load(folder / "scalar.npy", LoadOptions().rows(0, 1)); }).code() ==
        ErrorCode::InvalidArgument);
}

TEST_CASE("rows of a giant file read those rows alone", "[rows]") {
  const Folder folder;
  // A sparse file: 64 GiB of zeros but for the row asked for.
  const std::string header = npy(header_text("'<f4'", "(16777216, 1024)"));
  const auto path = write_bytes(folder / "giant.npy", header);
  const std::uint64_t row = 4096;
  std::filesystem::resize_file(path, header.size() + row * 16777216);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(header.size() + row * 9000000));
    file << bytes_of(std::vector<float>(1024, 3.5f));
  }
  largest_allocation = 0;
  const at::Tensor tensor = load(path, LoadOptions().rows(9000000, 9000001));
  CHECK(at::equal(tensor, at::full({1, 1024}, 3.5f)));
  CHECK(largest_allocation < (1u << 20));
  const Error error = error_of([&] { (void)load(path, LoadOptions().max_bytes(1 << 30)); });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK(largest_allocation < (1u << 20));
  const at::Tensor mapped = load(path, LoadOptions().mmap(true));
  CHECK(mapped.size(0) == 16777216);
  CHECK(mapped[9000000][1023].item<float>() == 3.5f);
}

TEST_CASE("dtype() converts while reading, as to() does", "[dtype]") {
  const Folder folder;
  for (const Expected& want : read_expected()) {
    if (want.version != "1" || expected_type(want.descr) == at::ScalarType::Undefined) continue;
    // From complex to real LibTorch warns; from a float of any bits to an integer is undefined in
    // C++.
    if (want.descr[1] == 'c' || want.descr[1] == 'f' || is_wide_unsigned(want.descr)) continue;
    INFO(want.path.filename().string());
    const at::Tensor plain = load(want.path);
    for (const c10::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong,
                                       at::kByte, at::kBool, at::kComplexFloat}) {
      const at::Tensor got = load(want.path, LoadOptions().dtype(type));
      CHECK(got.scalar_type() == type);
      CHECK(got.strides() == plain.strides());
      CHECK(bytes_of(got) == bytes_of(plain.to(type)));
    }
  }
  write_bytes(folder / "f8.npy", npy(header_text("'>f8'", "(2,)"),
                                     std::string("\x3f\xf8\0\0\0\0\0\0\xc0\x04\0\0\0\0\0\0", 16)));
  const at::Tensor floats = load(folder / "f8.npy", LoadOptions().dtype(at::kFloat).mmap(true));
  CHECK(floats[0].item<float>() == 1.5f);
  CHECK(floats[1].item<float>() == -2.5f);
  CHECK(error_of([&] { (void)load(folder / "f8.npy", LoadOptions().dtype(at::kQInt8)); }).code() ==
        ErrorCode::InvalidArgument);
}

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 1)
TEST_CASE("what LibTorch cannot convert is an Error too", "[dtype]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 2, 2);
  const Error error = error_of([&] { (void)load(path, LoadOptions().dtype(at::kBits8)); });
  CHECK(error.code() == ErrorCode::UnsupportedDtype);
  CHECK_THAT(error.what(), says("Float to Bits8"));
}
#endif

TEST_CASE("wide unsigned integers convert, checked, on every LibTorch", "[dtype]") {
  const Folder folder;
  const auto file = [&](const char* descr, const std::string& data) {
    return write_bytes(folder / "u.npy", npy(header_text(descr, "(2,)"), data));
  };
  const auto as = [](const std::filesystem::path& path, c10::ScalarType type) {
    return load(path, LoadOptions().dtype(type));
  };
  auto path = file("'<u2'", bytes_of(std::vector<std::uint16_t>{1, 65535}));
  for (const auto type : {at::kInt, at::kLong, at::kFloat, at::kDouble}) {
    CHECK(as(path, type)[1].item<double>() == 65535);
  }
  CHECK(as(path, at::kBool)[1].item<bool>());
  CHECK(error_of([&] { (void)as(path, at::kHalf); }).code() == ErrorCode::Mismatch);
  const auto largest = file("'<u2'", bytes_of(std::vector<std::uint16_t>{1, 65519}));
  CHECK(as(largest, at::kHalf)[1].item<float>() == 65504);
  path = file("'<u2'", bytes_of(std::vector<std::uint16_t>{1, 65535}));
  CHECK(as(path, at::kComplexDouble)[1].item<c10::complex<double>>().real() == 65535);
  for (const auto type : {at::kShort, at::kByte, at::kChar}) {
    const Error error = error_of([&] { (void)as(path, type); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("65535"));
    CHECK(error.path() == path);
  }
  path = file("'>u2'", std::string("\x01\x02\x03\x04", 4));
  CHECK(as(path, at::kShort)[0].item<int>() == 0x0102);
  path = file("'<u4'", bytes_of(std::vector<std::uint32_t>{7, 4294967295u}));
  CHECK(as(path, at::kLong)[1].item<std::int64_t>() == 4294967295);
  CHECK(as(path, at::kFloat)[1].item<float>() == 4294967296.0f);
  CHECK(error_of([&] { (void)as(path, at::kInt); }).code() == ErrorCode::Mismatch);
  path = file("'<u8'", bytes_of(std::vector<std::uint64_t>{1ull << 62, 1ull << 63}));
  CHECK(as(path, at::kDouble)[1].item<double>() == 9223372036854775808.0);
  CHECK(error_of([&] { (void)as(path, at::kLong); }).code() == ErrorCode::Mismatch);
  // Rounds once: by way of double this would become 2^63.
  path = file("'<u8'", bytes_of(std::vector<std::uint64_t>{0, (1ull << 63) + (1ull << 39) + 1}));
  CHECK(as(path, at::kFloat)[1].item<float>() == 9223373136366403584.0f);
  CHECK(as(path, at::kComplexFloat)[1].item<c10::complex<float>>().real() ==
        9223373136366403584.0f);
  // As to() has it: by way of float this rounds up.
  path = file("'<u8'", bytes_of(std::vector<std::uint64_t>{0, 9259401383629553665ull}));
  CHECK(as(path, at::kBFloat16)[1].item<float>() == 9295429630892703744.0f);
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 3)
  path = write_bytes(folder / "v.npy", npy(header_text("'|V8'", "(1,)"),
                                           bytes_of(std::vector<std::uint64_t>{1ull << 63})));
  const auto named = LoadOptions().void_as(at::kUInt64);
  CHECK(bytes_of(load(path, named)) == bytes_of(std::vector<std::uint64_t>{1ull << 63}));
  CHECK(error_of([&] { (void)load(path, LoadOptions(named).dtype(at::kLong)); }).code() ==
        ErrorCode::Mismatch);
#endif
  // Many blocks, several threads.
  std::vector<std::uint32_t> many(3000000);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::uint32_t>(i);
  path = write_bytes(folder / "u.npy", npy(header_text("'<u4'", "(3000000,)"), bytes_of(many)));
  CHECK(at::equal(as(path, at::kLong), at::arange(3000000)));
}

TEST_CASE("void_as() gives raw bytes their dtype", "[dtype]") {
  const Folder folder;
  const auto path = write_bytes(
      folder / "v.npy", npy(header_text("'<V2'", "(2,)"), std::string("\x80\x3f\x20\xc0", 4)));
  const auto options = LoadOptions().void_as(at::kBFloat16);
  const at::Tensor tensor = load(path, options);
  CHECK(tensor.scalar_type() == at::kBFloat16);
  CHECK(tensor[0].item<float>() == 1.0f);
  CHECK(tensor[1].item<float>() == -2.5f);
  CHECK(load(path, LoadOptions(options).dtype(at::kFloat))[1].item<float>() == -2.5f);
  const Error error = error_of([&] { (void)load(path, LoadOptions().void_as(at::kFloat)); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("4 bytes, the items have 2"));
  write_bytes(folder / "v1.npy", npy(header_text("'|V1'", "(2,)"), "ab"));
  CHECK_THAT(error_of([&] { (void)load(folder / "v1.npy"); }).what(), says("float8"));
  // What ml_dtypes writes for bfloat16 is what save() writes.
  save(folder / "b.npy", tensor);
  CHECK_THAT(read_bytes(folder / "b.npy"), says("'descr': '<V2'"));
  CHECK(at::equal(load(folder / "b.npy", options), tensor));
  // Other dtypes are what they are.
  write_floats(folder / "f.npy", 2, 2);
  CHECK(load(folder / "f.npy", options).scalar_type() == at::kFloat);
#if TORCH_NPY_TORCH_AT_LEAST(2, 2)
  for (const auto type : {at::kFloat8_e5m2, at::kFloat8_e4m3fn, at::ScalarType::Float8_e5m2fnuz,
                          at::ScalarType::Float8_e4m3fnuz}) {
    const at::Tensor eight = at::arange(4, at::kFloat).to(type);
    save(folder / "8.npy", eight);
    CHECK_THAT(read_bytes(folder / "8.npy"), says("'descr': '<V1'"));
    const at::Tensor again = load(folder / "8.npy", LoadOptions().void_as(type));
    CHECK(again.scalar_type() == type);
    CHECK(bytes_of(again) == bytes_of(eight));
  }
#endif
}

TEST_CASE("a loaded tensor owns its memory, a mapped one sees the file and never writes it",
          "[memory]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 100, 100);
  const std::string before = read_bytes(path);
  at::Tensor loaded = load(path);
  at::Tensor mapped = load(path, LoadOptions().mmap(true));
  const at::Tensor copy = loaded.clone();
  loaded.fill_(7);
  mapped.narrow(0, 0, 50).fill_(7);
  CHECK(read_bytes(path) == before);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(before.size() - 4));
    file << "\x01\x02\x03\x04";
  }
  CHECK(at::equal(loaded, at::full({100, 100}, 7.0f)));
  CHECK(bytes_of(mapped).substr(39996) == "\x01\x02\x03\x04");

  // Mapped memory lives as long as any tensor on it, and can be resized like any other.
  const auto other = write_floats(folder / "b.npy", 100, 100);
  at::Tensor view = load(other, LoadOptions().mmap(true)).narrow(0, 99, 1);
  std::filesystem::remove(other);
  CHECK(at::equal(view, copy.narrow(0, 99, 1)));
  mapped.resize_({200, 100});
  mapped.fill_(1);
  CHECK(at::equal(mapped, at::ones({200, 100})));
  at::Tensor large = load(write_floats(folder / "c.npy", 3000, 1000));
  large.resize_({4000, 1000}).fill_(1);
  CHECK(at::equal(large, at::ones({4000, 1000})));
}

TEST_CASE("a mapping is no copy, and copies only where it must", "[memory]") {
  const Folder folder;
  const auto is_mapped = [](const at::Tensor& tensor) {
    // /proc names the file behind the address.
    std::istringstream lines(read_bytes("/proc/self/maps"));
    const auto address = reinterpret_cast<std::uintptr_t>(tensor.data_ptr());
    for (std::string line; std::getline(lines, line);) {
      std::uintptr_t begin = 0;
      std::uintptr_t end = 0;
      char dash = 0;
      std::istringstream(line) >> std::hex >> begin >> dash >> end;
      if (begin <= address && address < end) return line.find(".npy") != std::string::npos;
    }
    return false;
  };
  const auto mmap = LoadOptions().mmap(true);
  const auto c = write_floats(folder / "c.npy", 50, 40);
  save(c, load(c));  // with NumPy's header, whose data is aligned
  const auto f = folder / "f.npy";
  save(f, load(c).t());
  CHECK(is_mapped(load(c, mmap)));
  CHECK(is_mapped(load(c, LoadOptions(mmap).rows(3, 9))));
  CHECK(is_mapped(load(f, mmap)));
  CHECK_FALSE(is_mapped(load(c)));
  CHECK_FALSE(is_mapped(load(f, LoadOptions(mmap).rows(3, 9))));
  CHECK_FALSE(is_mapped(load(c, LoadOptions(mmap).dtype(at::kDouble))));
  const std::string text = header_text("'<f4'", "(2,)");
  CHECK_FALSE(
      is_mapped(load(write_bytes(folder / "odd.npy",
                                 npy(text + std::string(text.size() % 2 + 1, ' '), "abcdefgh")),
                     mmap)));
  CHECK_FALSE(is_mapped(
      load(write_bytes(folder / "big.npy", npy(header_text("'>f4'", "(2,)"), "abcdefgh")), mmap)));
  std::istringstream stream(read_bytes(c));
  CHECK(error_of([&] { (void)load(stream, mmap); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { (void)load_bytes("", 0, mmap); }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("pinned memory is ordinary memory where there is no CUDA", "[memory]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 10, 10);
  const at::Tensor tensor = load(path, LoadOptions().pinned_memory(true).mmap(true));
  CHECK(at::equal(tensor, load(path)));
  if (torch_npy::detail::device_count(c10::kCUDA) != 0) CHECK(tensor.is_pinned());
}

TEST_CASE("devices", "[device]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 2, 3);
  const at::Tensor tensor = load(path);
  CHECK(to_device(tensor, at::kCPU).is_same(tensor));
  CHECK_NOTHROW(to_device(tensor, default_device(), true));
  CHECK(error_of([&] { (void)to_device(at::Tensor(), at::kCPU); }).code() ==
        ErrorCode::InvalidArgument);
  CHECK(error_of([&] { (void)to_device(tensor, c10::Device(at::kXLA, 0)); }).code() ==
        ErrorCode::InvalidArgument);
  if (torch_npy::detail::device_count(c10::kCUDA) != 0) return;
  CHECK(default_device() == c10::Device(at::kCPU));
  for (const auto& error :
       {error_of([&] { (void)to_device(tensor, at::kCUDA); }),
        error_of([&] { (void)load(path, LoadOptions().device(at::kCUDA)); }),
        error_of([&] { (void)load_all({path}, LoadOptions().device(at::kCUDA)); })}) {
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("no device cuda"));
    CHECK_THAT(error.what(), says("default_device()"));
  }
}

TEST_CASE("streams: several arrays one after another, and pipes", "[stream]") {
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
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  const at::Tensor large = at::arange(3000000, at::kFloat);
  std::thread writer([&] {
    std::ofstream pipe(folder / "pipe", std::ios::binary);
    save(pipe, large);
    save(pipe, a.t());
    pipe << "\x93NUMPY\x01";
  });
  std::ifstream pipe(folder / "pipe", std::ios::binary);
  pipe.exceptions(std::ios::failbit | std::ios::badbit | std::ios::eofbit);
  CHECK(at::equal(load(pipe), large));
  const at::Tensor turned = load(pipe);
  CHECK(turned.strides().vec() == Shape{1, 3});
  CHECK(at::equal(turned, a.t()));
  CHECK(error_of([&] { (void)load(pipe); }).code() == ErrorCode::Truncated);
  writer.join();

  std::ifstream missing(folder / "missing.npy");
  CHECK(error_of([&] { (void)load(missing); }).code() == ErrorCode::Io);
  std::istringstream empty;
  CHECK(error_of([&] { (void)load(empty); }).code() == ErrorCode::Truncated);
  std::ofstream nowhere(folder / "no" / "such" / "file");
  CHECK(error_of([&] { save(nowhere, a); }).code() == ErrorCode::Io);
}

TEST_CASE("a stream that throws is an Error, one that cannot seek is read", "[stream]") {
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
  std::ifstream directory(folder.path());  // opens, and throws when it is read
  CHECK(error_of([&] { (void)load(directory); }).code() == ErrorCode::Io);
}

TEST_CASE("tensors without elements in memory are refused", "[save][load_into]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 2, 3);
  at::Tensor freed = at::zeros({2, 3});
  freed.storage().unsafeGetStorageImpl()->set_data_ptr(at::DataPtr());
  freed.storage().unsafeGetStorageImpl()->set_nbytes(0);
  for (const at::Tensor& tensor :
       {at::Tensor(), at::empty({2, 3}, at::kMeta), at::_efficientzerotensor({2, 3}, at::kFloat),
        freed, at::zeros({2, 3}).to_sparse()}) {
    CHECK(error_of([&] { load_into(tensor, path); }).code() == ErrorCode::InvalidArgument);
    CHECK(error_of([&] { save(folder / "b.npy", tensor); }).code() == ErrorCode::InvalidArgument);
    std::ostringstream stream;
    CHECK(error_of([&] { save(stream, tensor); }).code() == ErrorCode::InvalidArgument);
  }
  CHECK(error_of([&] { save(folder / "b.npy", at::ones(Shape(65, 1))); }).code() ==
        ErrorCode::InvalidArgument);
  save(folder / "64.npy", at::ones(Shape(64, 1)));
  CHECK(load(folder / "64.npy").dim() == 64);
}

TEST_CASE("load_into fills what is there, or leaves it alone", "[load_into]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 4, 6);
  const at::Tensor want = load(path);
  at::Tensor out = at::zeros({4, 6});
  void* const memory = out.data_ptr();
  load_into(out, path);
  CHECK(at::equal(out, want));
  CHECK(out.data_ptr() == memory);

  at::Tensor strided = at::zeros({6, 4}).t();
  load_into(strided, path);
  CHECK(at::equal(strided, want));
  at::Tensor wide = at::zeros({4, 12});
  at::Tensor every_second = wide.slice(1, 0, 12, 2);
  load_into(every_second, path);
  CHECK(at::equal(every_second, want));
  CHECK(wide.sum().item<float>() == want.sum().item<float>());
  const at::Tensor batch = at::zeros({3, 4, 6});
  load_into(batch[1], path);
  CHECK(at::equal(batch[1], want));
  CHECK(batch.sum().item<float>() == want.sum().item<float>());
  at::Tensor rows = at::zeros({2, 6});
  load_into(rows, path, LoadOptions().rows(1, 3));
  CHECK(at::equal(rows, want.narrow(0, 1, 2)));
  at::Tensor doubles = at::zeros({4, 6}, at::kDouble);
  load_into(doubles, path, LoadOptions().dtype(at::kDouble));
  CHECK(at::equal(doubles, want.to(at::kDouble)));

  at::Tensor parameter = at::zeros({4, 6}).requires_grad_();
  const auto version = parameter._version();
  load_into(parameter, path);
  CHECK(at::equal(parameter, want));
  CHECK(parameter._version() > version);  // autograd has to hear of it

  for (at::Tensor wrong : {at::zeros({6, 4}), at::zeros({24}), at::zeros({4, 6}, at::kDouble),
                           at::zeros({4, 6}, at::kInt)}) {
    const Error error = error_of([&] { load_into(wrong, path); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK(wrong.count_nonzero().item<std::int64_t>() == 0);
  }
  at::Tensor nothing;
  CHECK(error_of([&] { load_into(nothing, path); }).code() == ErrorCode::InvalidArgument);
  for (const at::Tensor& overlapping :
       {at::zeros({1}).expand({4, 6}), at::zeros({24}).as_strided({4, 6}, {1, 1}),
        at::zeros({9}).unfold(0, 6, 1)}) {
    CHECK(error_of([&] { load_into(overlapping, path); }).code() == ErrorCode::InvalidArgument);
    CHECK(overlapping.count_nonzero().item<std::int64_t>() == 0);
  }
  const at::Tensor inference = [] {
    const c10::InferenceMode guard;
    return at::zeros({4, 6});
  }();
  CHECK(error_of([&] { load_into(inference, path); }).code() == ErrorCode::InvalidArgument);
  CHECK(inference.count_nonzero().item<std::int64_t>() == 0);
  {
    const c10::InferenceMode guard;
    load_into(inference, path);
    CHECK(at::equal(inference, want));
  }

  // A value that does not fit shows after others were written: autograd has to hear of those.
  std::vector<std::uint64_t> values(40000, 1);
  values.back() = UINT64_MAX;
  const auto large =
      write_bytes(folder / "u8.npy", npy(header_text("'<u8'", "(40000,)"), bytes_of(values)));
  at::Tensor longs = at::zeros({40000}, at::kLong);
  const auto before = longs._version();
  CHECK(error_of([&] { load_into(longs, large, LoadOptions().dtype(at::kLong)); }).code() ==
        ErrorCode::Mismatch);
  CHECK(longs._version() > before);
}

TEST_CASE("load_all keeps the order, and names the file that fails", "[load_all]") {
  const Folder folder;
  std::vector<std::filesystem::path> paths;
  for (int i = 0; i < 200; ++i) {
    paths.push_back(folder / (std::to_string(i) + ".npy"));
    save(paths.back(), at::full({10}, i), SaveOptions().sync(false));
  }
  for (const std::size_t threads : {0u, 1u, 5u}) {
    const auto tensors = load_all(paths, LoadOptions().threads(threads).dtype(at::kFloat));
    REQUIRE(tensors.size() == paths.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      CHECK(at::equal(tensors[i], at::full({10}, static_cast<float>(i))));
    }
  }
  CHECK(load_all({}).empty());
  write_bytes(paths[150], "junk");
  std::filesystem::remove(paths[50]);
  for (int round = 0; round < 10; ++round) {
    const Error error = error_of([&] { (void)load_all(paths); });
    CHECK(error.code() == ErrorCode::NotFound);
    CHECK(error.path() == paths[50]);
  }
}

TEST_CASE("loads that fail leave no descriptor and no mapping", "[memory]") {
  const Folder folder;
  const auto open_files = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  const auto mappings = [] {
    const std::string maps = read_bytes("/proc/self/maps");
    return std::count(maps.begin(), maps.end(), '\n');
  };
  const auto path = write_bytes(folder / "bad.npy", npy(header_text("'<f4'", "(1000000,)"), "x"));
  const auto good = write_floats(folder / "good.npy", 100, 100);
  std::vector<std::filesystem::path> paths(20, good);
  paths.push_back(path);
  const auto work = [&] {
    for (const bool mmap : {false, true}) {
      CHECK_THROWS_AS(load(path, LoadOptions().mmap(mmap)), Error);
      CHECK_THROWS_AS(load_all(paths, LoadOptions().mmap(mmap)), Error);
      (void)load(good, LoadOptions().mmap(mmap));
    }
  };
  work();
  const auto files = open_files();
  const auto maps = mappings();
  for (int i = 0; i < 50; ++i) work();
  CHECK(open_files() == files);
  CHECK(mappings() < maps + 50);
}

TEST_CASE("what a tensor is saved from does not matter", "[save]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor base = at::arange(24, at::kFloat).view({2, 3, 4});
  for (const at::Tensor& tensor :
       {base, base.transpose(0, 2).contiguous(), base.permute({2, 0, 1}), base.select(1, 1),
        base.slice(2, 0, 4, 2), base[0][0][0], at::empty({0, 3}), at::zeros({1}).expand({3, 4}),
        base.clone().requires_grad_()}) {
    save(path, tensor);
    CHECK(at::equal(load(path), tensor));
  }
  const at::Tensor complex =
      at::arange(4, at::kFloat).to(at::kComplexFloat).mul(c10::Scalar(c10::complex<double>(1, 2)));
  save(path, complex.conj());
  CHECK(at::equal(load(path), complex.conj().resolve_conj()));
  save(path, at::imag(complex.conj()));
  CHECK(at::equal(load(path), at::imag(complex.conj()).resolve_neg()));
  CHECK(error_of([&] { save(path, at::Tensor()); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { save(path, base.to_sparse()); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { save(path, base.to(at::kComplexHalf)); }).code() ==
        ErrorCode::UnsupportedDtype);
  CHECK(error_of([&] { save(folder / "no" / "such", base); }).code() == ErrorCode::NotFound);
  CHECK(error_of([&] { save(folder.path(), base); }).path() == folder.path());
}

TEST_CASE("a save that fails leaves the old file and nothing beside it", "[save]") {
  const Folder folder;
  const auto path = write_bytes(folder / "a.npy", "old");
  struct rlimit before;
  ::getrlimit(RLIMIT_FSIZE, &before);
  struct rlimit small = before;
  small.rlim_cur = 4096;
  ::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const Error error = error_of([&] { save(path, at::ones({5000})); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  CHECK(error.code() == ErrorCode::Io);
  CHECK(error.offset() == 4096);
  CHECK(read_bytes(path) == "old");
  CHECK(folder.count() == 1);
}

TEST_CASE("inference mode and threads", "[threads]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 1500, 2000);
  const at::Tensor want = load(path, LoadOptions().dtype(at::kDouble));
  {
    const c10::InferenceMode guard;
    const at::Tensor got = load(path, LoadOptions().dtype(at::kDouble).threads(3));
    CHECK(got.is_inference());
    CHECK(at::equal(got, want));
    CHECK(at::equal(load(path, LoadOptions().mmap(true)).to(at::kDouble), want));
  }
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const auto mine = folder / ("t" + std::to_string(i) + ".npy");
      for (int round = 0; round < 5; ++round) {
        const at::Tensor tensor = load(path, LoadOptions().mmap(i % 2 == 0));
        save(mine, tensor.narrow(0, i, 10), SaveOptions().sync(false));
        save(folder / "shared.npy", tensor.narrow(0, 5, 10), SaveOptions().sync(false));
        if (at::equal(load(mine), tensor.narrow(0, i, 10)) &&
            at::equal(load(folder / "shared.npy"), tensor.narrow(0, 5, 10))) {
          ++good;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 40);
}
