// Structured arrays, and strings.

#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/tensor/fields.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>

#include "bad_input.hpp"
#include "catch.hpp"
#include "expected.hpp"
#include "files.hpp"

using namespace torch_npy;

namespace {

using Fields = torch::OrderedDict<std::string, at::Tensor>;

/// What loads whatever make_fields.py writes.
LoadOptions everything() { return LoadOptions().strings_as_codes(true).void_as(at::kBFloat16); }

/// One line of expected.txt, which NumPy wrote.
struct ExpectedField {
  std::string name, descr;
  Shape shape;
  bool is_view;
  Shape strides;
  std::ptrdiff_t offset;
  std::string bytes;

  c10::ScalarType type() const {
    switch (descr[1]) {
      case 'S': return at::kByte;
      case 'U': return at::kInt;
      case 'V': return at::kBFloat16;
      default: return expected_type(descr);
    }
  }
};

struct ExpectedFile {
  std::filesystem::path path;
  std::vector<ExpectedField> fields;

  /// False for the unsigned integers that LibTorch before 2.3 does not have.
  bool is_native() const {
    for (const ExpectedField& field : fields) {
      if (field.type() == at::ScalarType::Undefined) return false;
    }
    return true;
  }
};

std::vector<ExpectedFile> read_expected() {
  const char* const other = std::getenv("TORCH_NPY_FIELDS");
  const std::filesystem::path folder = other ? other : TORCH_NPY_TEST_DATA "/fields";
  std::istringstream lines(read_bytes(folder / "expected.txt"));
  std::vector<ExpectedFile> out;
  for (std::string line; std::getline(lines, line);) {
    const auto part = split(line, '\t');
    REQUIRE(part.size() == 8);
    if (out.empty() || out.back().path != folder / part[0]) out.push_back({folder / part[0], {}});
    out.back().fields.push_back({part[1], part[2], numbers(part[3]), part[4] == "1",
                                 numbers(part[5]), std::stol(part[6]), from_hex(part[7])});
  }
  REQUIRE(out.size() > 30);
  return out;
}

const char* address(const at::Tensor& tensor) {
  return static_cast<const char*>(tensor.data_ptr());
}

/// Strides without those of axes that have no second element.
Shape used_strides(const Shape& strides, const Shape& shape) {
  Shape out;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] > 1) out.push_back(strides[i]);
  }
  return out;
}

void check_fields(const ExpectedFile& want, const Fields& got) {
  REQUIRE(got.size() == want.fields.size());
  const char* records = nullptr;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const ExpectedField& field = want.fields[i];
    const at::Tensor& tensor = got[i].value();
    INFO(field.name);
    CHECK(got[i].key() == field.name);
    CHECK(tensor.scalar_type() == field.type());
    CHECK(tensor.sizes().vec() == field.shape);
    CHECK((bytes_of(tensor) == field.bytes));
    if (tensor.numel() == 0) continue;
    // Known from the first one, which lies at any address that there is memory at.
    const bool is_aligned =
        records == nullptr || reinterpret_cast<std::uintptr_t>(records + field.offset) %
                                      static_cast<std::uintptr_t>(tensor.element_size()) ==
                                  0;
    if (field.is_view && is_aligned) {
      CHECK(used_strides(tensor.strides().vec(), field.shape) ==
            used_strides(field.strides, field.shape));
      if (records == nullptr) records = address(tensor) - field.offset;
      CHECK(address(tensor) - records == field.offset);
    } else {
      CHECK(tensor.is_non_overlapping_and_dense());
    }
  }
}

/// A file whose data starts at byte 256, aligned for any dtype where it is mapped.
std::filesystem::path write_records(const std::filesystem::path& path, const std::string& descr,
                                    const std::string& shape, const std::string& data,
                                    const std::string& order = "False") {
  std::string text = header_text(descr, shape, order);
  text.resize(246, ' ');
  return write_bytes(path, npy(text, data));
}

std::string counting(std::size_t size) {
  std::string out(size, '\0');
  for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i * 37 + i / 256);
  return out;
}

Error load_error(const std::filesystem::path& path, const LoadOptions& options = {}) {
  return error_of([&] { (void)load_fields(path, options); });
}

}  // namespace

TEST_CASE("fields that NumPy wrote come back bit for bit", "[numpy]") {
  for (const ExpectedFile& want : read_expected()) {
    INFO(want.path.filename().string());
    if (!want.is_native()) {
      const Error error = load_error(want.path);
      CHECK(error.code() == ErrorCode::UnsupportedDtype);
      CHECK_THAT(error.what(), says("field \"u2\": "));
      CHECK_THAT(error.what(), says("dtype(torch::kInt64)"));
      continue;
    }
    check_fields(want, load_fields(want.path, everything()));
    check_fields(want, load_fields(want.path, everything().mmap(true)));
    check_fields(want, load_fields(want.path, everything().threads(3)));
    const Error error = error_of([&] { (void)load(want.path, everything()); });
    CHECK(error.code() == ErrorCode::UnsupportedDtype);
    CHECK_THAT(error.what(), says("load_fields()"));
  }
}

TEST_CASE("rows of fields are those rows", "[numpy][rows]") {
  for (const ExpectedFile& want : read_expected()) {
    if (!want.is_native() || read_header(want.path).shape.empty()) continue;
    INFO(want.path.filename().string());
    const std::int64_t length = read_header(want.path).shape[0];
    const Fields whole = load_fields(want.path, everything());
    for (const bool mmap : {false, true}) {
      for (std::int64_t begin = 0; begin <= length; ++begin) {
        const Fields rows = load_fields(want.path, everything().rows(begin, length).mmap(mmap));
        REQUIRE(rows.size() == whole.size());
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const at::Tensor part = whole[i].value().narrow(0, begin, length - begin);
          CHECK(rows[i].value().sizes() == part.sizes());
          CHECK((bytes_of(rows[i].value()) == bytes_of(part)));
        }
      }
    }
    CHECK(load_error(want.path, everything().rows(0, length + 1)).code() ==
          ErrorCode::InvalidArgument);
  }
  const Folder folder;
  const auto path = write_records(folder / "0d.npy", "[('a', '<f4')]", "()", "abcd");
  CHECK(load_error(path, LoadOptions().rows(0, 1)).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("dtype() converts every field", "[numpy][dtype]") {
  for (const ExpectedFile& want : read_expected()) {
    INFO(want.path.filename().string());
    const Fields got = load_fields(want.path, everything().dtype(at::kComplexDouble));
    for (const auto& field : got) CHECK(field.value().scalar_type() == at::kComplexDouble);
    if (!want.is_native()) continue;
    const Fields plain = load_fields(want.path, everything());
    for (std::size_t i = 0; i < got.size(); ++i) {
      const at::Tensor converted = plain[i].value().to(at::kComplexDouble);
      CHECK(got[i].value().sizes() == converted.sizes());
      CHECK((bytes_of(got[i].value()) == bytes_of(converted)));
    }
  }
}

TEST_CASE("unsigned integers in records are checked when dtype() converts them", "[dtype]") {
  const Folder folder;
  const auto path = write_records(folder / "u.npy", "[('a', '>u2'), ('b', '<u8')]", "(2,)",
                                  std::string("\x01\x02\x03\0\0\0\0\0\0\0"
                                              "\xff\xfe\xff\xff\xff\xff\xff\xff\xff\xff",
                                              20));
  const Fields fields = load_fields(path, LoadOptions().dtype(at::kDouble));
  CHECK(fields["a"][0].item<double>() == 258);
  CHECK(fields["a"][1].item<double>() == 65534);
  CHECK(fields["b"][0].item<double>() == 3);
  const Error error = load_error(path, LoadOptions().dtype(at::kLong));
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("field \"b\": the value 18446744073709551615"));
}

TEST_CASE("fields are views that share the records and outlive everything", "[memory]") {
  const Folder folder;
  const std::string descr = "[('a', '<f4'), ('b', '<i4'), ('c', '<f4', (2,))]";
  const auto path = write_records(folder / "a.npy", descr, "(10,)", counting(160));
  const std::string before = read_bytes(path);
  for (const bool mmap : {false, true}) {
    at::Tensor b;
    {
      Fields fields = load_fields(path, LoadOptions().mmap(mmap));
      const at::Tensor a = fields["a"];
      b = fields["b"];
      CHECK(a.strides().vec() == Shape{4});
      CHECK(fields["c"].strides().vec() == Shape{4, 1});
      CHECK(address(b) - address(a) == 4);
      CHECK(address(fields["c"]) - address(a) == 8);
      // What is written to a field stands in the records, between those of its siblings.
      const at::Tensor c = fields["c"].clone();
      b.fill_(7);
      int seven = 0;
      std::memcpy(&seven, address(a) + 16 + 4, sizeof seven);
      CHECK(seven == 7);
      CHECK((bytes_of(fields["c"]) == bytes_of(c)));
      CHECK((read_bytes(path) == before));
    }
    std::filesystem::remove(path);
    CHECK(at::equal(b, at::zeros({10}, at::kInt).fill_(7)));
    write_bytes(path, before);
  }
}

TEST_CASE("what strides cannot express is a copy", "[memory]") {
  const Folder folder;
  const auto is_view = [&](const std::string& descr, std::size_t size, const char* name) {
    const auto path = write_records(folder / "a.npy", descr, "(3,)", counting(3 * size));
    const Fields fields = load_fields(path, LoadOptions().strings_as_codes(true));
    const auto distance = address(fields[name]) - address(fields["at"]);
    return distance > 0 && distance < static_cast<std::ptrdiff_t>(size);
  };
  CHECK(is_view("[('at', '|u1', (4,)), ('x', '<f4')]", 8, "x"));
  CHECK_FALSE(is_view("[('at', '|u1', (4,)), ('x', '>f4')]", 8, "x"));               // swapped
  CHECK_FALSE(is_view("[('at', '|u1', (2,)), ('x', '<f4'), ('', '|V2')]", 8, "x"));  // not aligned
  CHECK_FALSE(
      is_view("[('at', '|u1', (4,)), ('x', '<f4'), ('', '|V1')]", 9, "x"));  // records' stride
  CHECK(is_view("[('at', '<f4'), ('', '|V4'), ('x', '<c8')]", 16, "x"));
  // Aligned for a half of it alone, which NumPy takes and LibTorch's own copying crashes at.
  CHECK_FALSE(is_view("[('at', '<f4'), ('x', '<c8'), ('', '|V4')]", 16, "x"));
  CHECK_FALSE(is_view("[('at', '<f8'), ('x', '<c16'), ('', '|V8')]", 32, "x"));
  CHECK_FALSE(is_view("[('at', '<f4'), ('x', '<c8')]", 12, "x"));
  CHECK(is_view("[('at', '|u1', (4,)), ('x', '<U3')]", 16, "x"));
  CHECK_FALSE(is_view("[('at', '|u1', (3,)), ('x', '<U3'), ('', '|V1')]", 16, "x"));
  CHECK(is_view("[('at', '|u1', (3,)), ('x', '|S2')]", 5, "x"));
  const std::string inner = "[('x', '<i2'), ('', '|V1')]";  // the stride of a sub-array around it
  CHECK_FALSE(is_view("[('at', '<i2'), ('s', " + inner + ", (2,))]", 8, "s.x"));
}

TEST_CASE("records in odd places are read all the same", "[memory]") {
  const Folder folder;
  // Mapped where it lies, no field would be aligned.
  const std::string text = header_text("[('a', '<f4'), ('b', '<f4'), ('', '|V8')]", "(4,)");
  const std::string data = counting(64);
  for (std::size_t pad = 0; pad < 8; ++pad) {
    const auto path = write_bytes(folder / "a.npy", npy(text + std::string(pad, ' '), data));
    const Fields read = load_fields(path);
    const Fields mapped = load_fields(path, LoadOptions().mmap(true));
    CHECK(address(read["b"]) - address(read["a"]) == 4);
    for (const char* name : {"a", "b"}) {
      CHECK((bytes_of(read[name]) == bytes_of(mapped[name])));
    }
    CHECK((bytes_of(read["a"]) ==
           data.substr(0, 4) + data.substr(16, 4) + data.substr(32, 4) + data.substr(48, 4)));
  }
}

TEST_CASE("large records, copied by several threads, are what was written", "[memory]") {
  const Folder folder;
  const std::size_t rows = 700001;
  const std::string data = counting(rows * 13);
  const auto path =
      write_records(folder / "large.npy",
                    "[('b', '|u1'), ('s', [('x', '<i2'), ('y', '>u1')], (2,)), ('m', '<i2', (3,))]",
                    "(" + std::to_string(rows) + ",)", data);
  std::string x;
  std::string m;
  for (std::size_t row = 0; row < rows; ++row) {
    x += data.substr(row * 13 + 1, 2) + data.substr(row * 13 + 4, 2);
    m += data.substr(row * 13 + 7, 6);
  }
  for (const std::size_t threads : {0u, 1u, 3u}) {
    const Fields fields = load_fields(path, LoadOptions().threads(threads));
    CHECK((bytes_of(fields["s.x"]) == x));
    CHECK(fields["s.x"].is_contiguous());
    CHECK(fields["s.y"].strides().vec() == Shape{13, 3});
    CHECK((bytes_of(fields["m"]) == m));  // copied in parts that are no whole sub-arrays
    const Fields floats = load_fields(path, LoadOptions().threads(threads).dtype(at::kFloat));
    CHECK(at::equal(floats["s.x"], fields["s.x"].to(at::kFloat)));
    CHECK(at::equal(floats["m"], fields["m"].to(at::kFloat)));
  }
}

TEST_CASE("the records' length and bytes are held against the options", "[bad]") {
  const Folder folder;
  const auto path = write_records(folder / "a.npy", "[('a', '<i2'), ('b', '<i2')]", "(100,)",
                                  std::string(400, 'x'));
  CHECK(load_fields(path, LoadOptions().max_bytes(400)).size() == 2);
  CHECK(load_error(path, LoadOptions().max_bytes(399)).code() == ErrorCode::TooLarge);
  const Error error = load_error(path, LoadOptions().max_bytes(400).dtype(at::kDouble));
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK_THAT(error.what(), says("field \"a\": a tensor of 800 bytes"));
  CHECK(error.path() == path);
  CHECK(load_error(path, LoadOptions().device(at::kCUDA)).code() == ErrorCode::InvalidArgument);
  CHECK(load_error(path, LoadOptions().dtype(at::kQInt8)).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("a limit on bytes is one on all fields together", "[bad]") {
  const Folder folder;
  const auto path =
      write_bytes(folder / "a.npy",
                  npy(header_text("[('a', '|b1'), ('b', '|b1')]", "(100,)"), std::string(200, 1)));
  CHECK(load_fields(path, LoadOptions().max_bytes(200)).size() == 2);
  CHECK(load_fields(path, LoadOptions().max_bytes(800).dtype(at::kFloat)).size() == 2);
  const Error error =
      error_of([&] { (void)load_fields(path, LoadOptions().max_bytes(799).dtype(at::kFloat)); });
  CHECK(error.code() == ErrorCode::TooLarge);
  CHECK_THAT(error.what(), says("tensors of 800 bytes"));
}

TEST_CASE("bad structured files are Errors that name the field", "[bad]") {
  struct Bad {
    const char* descr;
    const char* shape;
    ErrorCode code;
    const char* words;
  };
  const Folder folder;
  for (const Bad& bad : std::vector<Bad>{
           {"'<f4'", "(2,)", ErrorCode::Mismatch,
            "is for structured dtypes, and the array has '<f4'"},
           {"[('', '|V4')]", "(2,)", ErrorCode::Mismatch, "the array has '|V4'"},
           {"[('a', '<f4'), ('b', '|O')]", "(2,)", ErrorCode::UnsupportedDtype,
            "field \"b\": object"},
           {"[('a', '<f4'), ('b', '|O')]", "(99,)", ErrorCode::UnsupportedDtype, "never loaded"},
           {"[('a', [('b', '|O', (2,))])]", "(0,)", ErrorCode::UnsupportedDtype,
            "field \"a.b\": object"},
           {"[('a', '<f4'), ('s', '<U3')]", "(2,)", ErrorCode::UnsupportedDtype,
            "field \"s\": strings ('<U3')"},
           {"[('s', '|S3')]", "(2,)", ErrorCode::UnsupportedDtype, "strings_as_codes(true)"},
           {"[('a', '<f16')]", "(1,)", ErrorCode::UnsupportedDtype,
            "field \"a\": LibTorch has no dtype"},
           {"[('v', '|V2')]", "(2,)", ErrorCode::UnsupportedDtype, "void_as(torch::kBFloat16)"},
           {"[('a.b', '<f4'), ('a', [('b', '<f4')])]", "(2,)", ErrorCode::UnsupportedDtype,
            "two fields have the name \"a.b\""},
           {"[('a', '<f8'), ('b', '<f4')]", "(6,)", ErrorCode::Truncated, "promises 72 bytes"},
           {"[('a', '<f8'), ('b', '<f4')]", "(999999999,)", ErrorCode::Truncated, "there are 64"},
           {"[('a', [('b', '|u1', (9, 9999999))], (9,))]", "(2,)", ErrorCode::Truncated,
            "there are 64"},
           {"[('a', [('b', [('c', '|u1', (0, 2147483647))], (2147483647,))], (0, 2147483647))]",
            "(2147483647,)", ErrorCode::TooLarge, "63 bits"},
           {"[('a', '|u1', (1, 1))]",
            "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
            "1,1,1,1,1,"
            "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)",
            ErrorCode::TooLarge, "field \"a\": a tensor of 65 axes"},
       }) {
    INFO(bad.descr);
    const std::string text = header_text(bad.descr, bad.shape);
    const auto path = write_bytes(folder / "bad.npy", npy(text, std::string(64, 'x')));
    for (const bool mmap : {false, true}) {
      LoadOptions options = LoadOptions().mmap(mmap);
      if (std::string(bad.words) == "63 bits") options.strings_as_codes(true);
      const Error error = load_error(path, options);
      CHECK(error.code() == bad.code);
      CHECK(error.path() == path);
      CHECK_THAT(error.what(), says(bad.words));
    }
  }
  const auto path = write_records(folder / "v.npy", "[('v', '|V4')]", "(2,)", std::string(8, 'x'));
  const Error error = load_error(path, LoadOptions().void_as(at::kBFloat16));
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("field \"v\": void_as()"));
  CHECK(load_error(folder / "missing.npy").code() == ErrorCode::NotFound);
  for (const BadInput& bad : bad_inputs()) {
    if (bad.header_parses) continue;
    const auto bad_path = write_bytes(folder / "bad.npy", bad.bytes);
    CHECK(load_error(bad_path).code() == bad.code);
  }
}

TEST_CASE("records without bytes give empty fields", "[load]") {
  const Folder folder;
  const auto path =
      write_records(folder / "a.npy", "[('a', '|S0'), ('b', '<f4', (0, 3))]", "(1000000000,)", "");
  const Fields fields = load_fields(path, LoadOptions().strings_as_codes(true));
  CHECK(fields["a"].sizes().vec() == Shape{1000000000, 0});
  CHECK(fields["b"].sizes().vec() == Shape{1000000000, 0, 3});
}

TEST_CASE("the unit of a datetime field is in the header", "[load]") {
  const Folder folder;
  const auto path = write_records(folder / "a.npy", "[('t', '<M8[ms]')]", "(1,)",
                                  std::string("\5\0\0\0\0\0\0\0", 8));
  CHECK(load_fields(path)["t"].item<std::int64_t>() == 5);
  CHECK(read_header(path).dtype.fields[0].dtype.unit == "ms");
}

TEST_CASE("strings are read as numbers when asked for", "[strings]") {
  const Folder folder;
  const std::string text("ab\0\0cde\0f\0\0\0ghij", 16);
  const auto options = LoadOptions().strings_as_codes(true);
  for (const bool fortran_order : {false, true}) {
    const std::string order = fortran_order ? "True" : "False";
    const auto path = write_records(folder / "s.npy", "'|S4'", "(2, 2)", text, order);
    CHECK(error_of([&] { (void)load(path); }).code() == ErrorCode::UnsupportedDtype);
    CHECK_THAT(error_of([&] { (void)load(path); }).what(), says("strings_as_codes(true)"));
    for (const bool mmap : {false, true}) {
      const at::Tensor s = load(path, LoadOptions(options).mmap(mmap));
      CHECK(s.scalar_type() == at::kByte);
      CHECK(s.sizes().vec() == Shape{2, 2, 4});
      CHECK(s.strides().vec() == (fortran_order ? Shape{4, 8, 1} : Shape{8, 4, 1}));
      CHECK(bytes_of(s[1][0]) == (fortran_order ? text.substr(4, 4) : text.substr(8, 4)));
      const at::Tensor row = load(path, LoadOptions(options).mmap(mmap).rows(1, 2));
      CHECK(row.sizes().vec() == Shape{1, 2, 4});
      CHECK((bytes_of(row) == bytes_of(s.narrow(0, 1, 1))));
    }
    at::Tensor into = at::zeros({2, 2, 4}, at::kByte);
    load_into(into, path, options);
    CHECK(at::equal(into, load(path, options)));
    const std::string file = read_bytes(path);
    CHECK(at::equal(load_bytes(file.data(), file.size(), options), into));
    std::istringstream stream(file);
    CHECK(at::equal(load(stream, options), into));

    std::string points;
    for (int i = 0; i < 30; ++i) points += std::string("\0\1", 2) + static_cast<char>(i) + 'x';
    const auto big =
        write_records(folder / "u.npy", "'>U3'", "(5, 2)", points.substr(0, 120), order);
    const at::Tensor u = load(big, options);
    CHECK(u.scalar_type() == at::kInt);
    CHECK(u.sizes().vec() == Shape{5, 2, 3});
    CHECK(u.data_ptr<int>()[29] == 0x10000 + 29 * 256 + 'x');
    const at::Tensor rows = load(big, LoadOptions(options).rows(1, 4));
    CHECK(at::equal(rows, u.narrow(0, 1, 3)));
    if (fortran_order) CHECK(rows.strides().vec() == Shape{3, 9, 1});
    CHECK(at::equal(load(big, LoadOptions(options).dtype(at::kDouble)), u.to(at::kDouble)));

    // The rows of a mapped file, in any order.
    const auto gathered = [&](const LoadOptions& how, std::vector<std::size_t> indices) {
      const auto pool = std::make_shared<torch_npy::detail::BufferPool>(1 << 20);
      return torch_npy::detail::ArrayRows(big, how, pool).gather(indices);
    };
    const at::Tensor reversed = gathered(options, {4, 0});
    CHECK(reversed.sizes().vec() == Shape{2, 2, 3});
    CHECK(at::equal(reversed[0], u[4]));
    CHECK(at::equal(reversed[1], u[0]));
    CHECK(at::equal(gathered(LoadOptions(options).rows(1, 4), {2})[0], u[3]));
  }
  const auto scalar = write_records(folder / "0d.npy", "'|S3'", "()", "abc");
  CHECK(load(scalar, options).sizes().vec() == Shape{3});
  CHECK(error_of([&] { (void)load(scalar, LoadOptions(options).rows(0, 1)); }).code() ==
        ErrorCode::InvalidArgument);
  const auto none = write_records(folder / "U0.npy", "'<U0'", "(3,)", "");
  CHECK(load(none, options).sizes().vec() == Shape{3, 0});
}
