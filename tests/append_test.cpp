// Files that grow in place: what they hold, what is refused, and what a kill or a full disk leaves.

#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/load.hpp>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <limits>
#include <random>
#include <sstream>
#include <type_traits>

#include "catch.hpp"
#include "files.hpp"

using namespace torch_npy;

namespace {

using Shape = std::vector<std::int64_t>;

const SaveOptions kQuick = SaveOptions().sync(false);

/// What save() writes, which is tested to be what np.save writes.
std::string saved(const at::Tensor& tensor) {
  std::ostringstream stream;
  save(stream, tensor);
  return stream.str();
}

/// `rows` rows of this shape with elements that differ.
at::Tensor counting(std::int64_t rows, Shape row_shape, at::ScalarType type) {
  row_shape.insert(row_shape.begin(), rows);
  std::int64_t count = 1;
  for (const std::int64_t length : row_shape) count *= length;
  return at::arange(count).to(type).view(row_shape);
}

Shape row_shape_of(const at::Tensor& tensor) { return tensor.sizes().slice(1).vec(); }

/// As long as it lives, the process cannot write files beyond `size` bytes.
class SmallFiles {
 public:
  explicit SmallFiles(std::size_t size) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    struct rlimit small = before_;
    small.rlim_cur = size;
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  SmallFiles(const SmallFiles&) = delete;
  SmallFiles& operator=(const SmallFiles&) = delete;
  ~SmallFiles() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  struct rlimit before_ {};
};

std::string floats(std::size_t count) {
  const at::Tensor values = at::arange(static_cast<std::int64_t>(count), at::kFloat);
  return {static_cast<const char*>(values.data_ptr()), values.nbytes()};
}

/// Has no room but what its text says, as files of other writers.
std::string tight(const std::string& descr, const std::string& shape, const std::string& data) {
  return npy(header_text(descr, shape), data);
}

}  // namespace

TEST_CASE("what was appended is what save writes for the whole", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  for (const auto type :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kFloat,
        at::kDouble, at::kComplexFloat, at::kComplexDouble, at::kBFloat16}) {
    for (const Shape& row_shape : {Shape{}, Shape{3}, Shape{2, 5}, Shape{2, 0}, Shape(63, 1)}) {
      INFO(at::toString(type) << " " << torch_npy::detail::python_tuple(row_shape));
      std::filesystem::remove(path);
      const at::Tensor whole = counting(1003, row_shape, type);
      Appender appender(path, row_shape, type, kQuick);
      CHECK((read_bytes(path) == saved(whole.narrow(0, 0, 0))));
      std::int64_t rows = 0;
      for (const std::int64_t count : {0, 1, 8, 1, 89, 1, 900, 3}) {  // 1, 9, 10, 99, 100, 1000
        appender.append(whole.narrow(0, rows, count));
        rows += count;
        CHECK(appender.rows() == rows);
        appender.flush();
        CHECK((read_bytes(path) == saved(whole.narrow(0, 0, rows))));
      }
      appender.close();
    }
  }
}

TEST_CASE("rows one by one, many at once, and flushed at the end", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  // Rows of 16 KiB, 64 of which fill the buffer.
  const at::Tensor whole = counting(500, {4, 1024}, at::kInt);
  Appender appender(path, {4, 1024}, at::kInt, kQuick);
  std::int64_t rows = 0;
  for (; rows < 200; ++rows) appender.append(whole[rows]);
  for (const std::int64_t count : {56, 64, 63, 1, 0, 16, 100}) {
    appender.append(whole.narrow(0, rows, count));
    rows += count;
  }
  CHECK(rows == 500);
  CHECK(load(path).size(0) == 0);  // none of them counts yet
  appender.flush();
  CHECK((read_bytes(path) == saved(whole)));
  const auto written = std::filesystem::last_write_time(path);
  appender.append(whole.narrow(0, 0, 0));
  appender.flush();
  appender.close();
  CHECK(std::filesystem::last_write_time(path) == written);
}

TEST_CASE("an Appender goes on where a file ends", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor whole = counting(120, {4}, at::kFloat);
  for (std::int64_t rows = 0; rows < 120; rows += 8) {
    if (rows % 16 == 0) {
      Appender appender(path, {4}, at::kFloat, kQuick);
      CHECK(appender.rows() == rows);
      appender.append(whole.narrow(0, rows, 8));  // the destructor flushes
    } else {
      Appender appender(path, kQuick);
      CHECK(appender.rows() == rows);
      appender.append(whole.narrow(0, rows, 8));
      appender.close();
      CHECK(appender.rows() == rows + 8);
    }
    CHECK((read_bytes(path) == saved(whole.narrow(0, 0, rows + 8))));
  }
  CHECK(folder.count() == 1);

  save(path, whole.narrow(0, 0, 99));
  Appender synced(path);
  synced.append(whole.narrow(0, 99, 21));
  synced.flush();
  synced.flush();
  CHECK((read_bytes(path) == saved(whole)));
}

TEST_CASE("the first tensor decides where nothing else does", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  Appender appender(path, kQuick);
  CHECK(appender.rows() == 0);
  appender.flush();
  CHECK(folder.count() == 0);
  CHECK(error_of([&] { appender.append(at::zeros({})); }).code() == ErrorCode::InvalidArgument);
  CHECK(error_of([&] { appender.append(at::zeros({2}, at::kComplexHalf)); }).code() ==
        ErrorCode::UnsupportedDtype);
  CHECK(folder.count() == 0);
  const at::Tensor whole = counting(7, {2, 3}, at::kDouble);
  appender.append(whole.narrow(0, 0, 6));
  CHECK((read_bytes(path) == saved(whole.narrow(0, 0, 0))));
  CHECK(error_of([&] { appender.append(at::zeros({2, 3})); }).code() == ErrorCode::Mismatch);
  appender.append(whole[6]);
  appender.close();
  CHECK((read_bytes(path) == saved(whole)));

  // Somebody else may make the file before the first tensor comes.
  const auto other = folder / "b.npy";
  Appender late(other, kQuick);
  save(other, whole.narrow(0, 0, 2));
  CHECK(error_of([&] { late.append(whole.to(at::kFloat)); }).code() == ErrorCode::Mismatch);
  late.append(whole.narrow(0, 2, 5));
  late.close();
  CHECK((read_bytes(other) == saved(whole)));
  Appender never(folder / "c.npy");
  never.close();
  CHECK(folder.count() == 2);
}

TEST_CASE("what a tensor is appended from does not matter", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor base = at::arange(24, at::kFloat).view({2, 3, 4});
  for (const at::Tensor& tensor :
       {base.transpose(0, 2), base.transpose(0, 2).contiguous(), base.permute({2, 0, 1}),
        base.select(1, 1), base.slice(2, 0, 4, 2), at::zeros({1}).expand({3, 4}),
        base.clone().requires_grad_()}) {
    std::filesystem::remove(path);
    Appender appender(path, row_shape_of(tensor), at::kFloat, kQuick);
    appender.append(tensor);
    appender.append(tensor[0]);
    appender.close();
    const at::Tensor got = load(path);
    CHECK(at::equal(got.narrow(0, 0, tensor.size(0)), tensor));
    CHECK(at::equal(got[tensor.size(0)], tensor[0]));
  }
  const at::Tensor complex =
      at::arange(4, at::kFloat).to(at::kComplexFloat).mul(c10::Scalar(c10::complex<double>(1, 2)));
  std::filesystem::remove(path);
  Appender(path, {}, at::kComplexFloat, kQuick).append(complex.conj());
  CHECK(at::equal(load(path), complex.conj().resolve_conj()));
  std::filesystem::remove(path);
  Appender(path, {}, at::kFloat, kQuick).append(at::imag(complex.conj()));
  CHECK(at::equal(load(path), at::imag(complex.conj()).resolve_neg()));

  Appender appender(path, kQuick);
  for (const at::Tensor& tensor :
       {at::Tensor(), at::empty({2}, at::kMeta), at::zeros({2}).to_sparse()}) {
    CHECK(error_of([&] { appender.append(tensor); }).code() == ErrorCode::InvalidArgument);
  }
}

TEST_CASE("another dtype or shape is a Mismatch, and nothing is written", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor whole = counting(5, {2, 3}, at::kFloat);
  Appender appender(path, {2, 3}, at::kFloat, kQuick);
  appender.append(whole.narrow(0, 0, 4));
  for (const at::Tensor& tensor :
       {at::zeros({2, 3}, at::kDouble), at::zeros({3}), at::zeros({3, 2}), at::zeros({1, 3, 2}),
        at::zeros({1, 1, 2, 3}), at::zeros({}), at::zeros({0}), at::zeros({0, 2, 4})}) {
    const Error error = error_of([&] { appender.append(tensor); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK(error.path() == path);
    CHECK(appender.rows() == 4);
  }
  appender.append(whole[4]);
  appender.close();
  CHECK((read_bytes(path) == saved(whole)));
}

TEST_CASE("files that cannot grow are refused, and stay as they are", "[append]") {
  const Folder folder;
  struct Refused {
    const char* name;
    std::string bytes;
    ErrorCode code;
    const char* words;
  };
  const std::string whole = saved(counting(4, {2}, at::kFloat));
  const Refused table[] = {
      {"Fortran order",
       npy(header_text("'<f4'", "(4, 2)", "True") + std::string(40, ' '), floats(8)),
       ErrorCode::Mismatch, "Fortran order"},
      {"0-d", saved(at::zeros({})), ErrorCode::Mismatch, "0-d"},
      {"dtype", saved(counting(4, {2}, at::kInt)), ErrorCode::Mismatch, "holds <i4"},
      {"row shape", saved(counting(4, {3}, at::kFloat)), ErrorCode::Mismatch, "shape (3,)"},
      {"rank", saved(counting(4, {}, at::kFloat)), ErrorCode::Mismatch, "shape ()"},
      {"byte order", tight("'>f4'", "(4, 2)       ", floats(8)), ErrorCode::Mismatch, "byte order"},
      {"structured", tight("[('a', '<f4'), ('b', '<i2')]", "(1, 2)    ", floats(3)),
       ErrorCode::UnsupportedDtype, "which no tensor has"},
      {"string", tight("'|S4'", "(4, 2)      ", floats(8)), ErrorCode::UnsupportedDtype, "|S4"},
      {"cut short", whole.substr(0, whole.size() - 1), ErrorCode::Truncated,
       "data cut short: the header promises 32 bytes from byte 128 on, there are 31"},
      {"header cut short", whole.substr(0, 100), ErrorCode::Truncated, "header cut short"},
      {"no room as it is", npy("{'descr':'<f4','fortran_order':False,'shape':(4,2)}", floats(8)),
       ErrorCode::TooLarge, "no room"},
      {"text far behind blanks",
       npy("{'descr': '<f4', 'fortran_order': False," + std::string(5000, ' ') +
               "'shape': (4, 2)}" + std::string(30, ' '),
           floats(8)),
       ErrorCode::Mismatch, "in one step"},
      {"another array behind", whole + whole, ErrorCode::Mismatch, "another array follows"},
      {"not .npy", "text", ErrorCode::NotNpy, "not an .npy file"},
      {"empty", "", ErrorCode::Truncated, "empty"},
  };
  for (const Refused& refused : table) {
    INFO(refused.name);
    const auto path = write_bytes(folder / "a.npy", refused.bytes);
    const Error error = error_of([&] {
      Appender appender(path, {2}, at::kFloat);
      appender.append(at::ones({2}));
    });
    CHECK(error.code() == refused.code);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(refused.words));
    const Error in_turn = error_of([&] {
      Appender appender(path);
      appender.append(at::ones({1, 2}));
    });
    CHECK(in_turn.code() == refused.code);
    CHECK((read_bytes(path) == refused.bytes));
    CHECK(folder.count() == 1);
  }
}

TEST_CASE("arguments that make no file", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const auto code_of = [&](const std::filesystem::path& at, const Shape& row, at::ScalarType type) {
    return error_of([&] { Appender appender(at, row, type); }).code();
  };
  CHECK(code_of(path, {-1}, at::kFloat) == ErrorCode::InvalidArgument);
  CHECK(code_of(path, Shape(64, 1), at::kFloat) == ErrorCode::InvalidArgument);
  CHECK(code_of(path, {INT64_MAX / 2, 2}, at::kFloat) == ErrorCode::TooLarge);
  CHECK(code_of(path, {0, INT64_MAX}, at::kFloat) == ErrorCode::TooLarge);
  CHECK(code_of(path, {2}, at::kComplexHalf) == ErrorCode::UnsupportedDtype);
  CHECK(code_of("", {2}, at::kFloat) == ErrorCode::NotFound);
  CHECK(code_of(folder / "no" / "such", {2}, at::kFloat) == ErrorCode::NotFound);
  CHECK(code_of(folder.path(), {2}, at::kFloat) == ErrorCode::Io);
  CHECK(code_of("/dev/null", {2}, at::kFloat) == ErrorCode::Io);
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  const Error fifo = error_of([&] { Appender appender(folder / "fifo"); });
  CHECK_THAT(fifo.what(), says("a FIFO"));
  CHECK(folder.count() == 1);
}

TEST_CASE("headers of other writers grow while they have room", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const std::string data = floats(8);
  struct Tight {
    const char* name;
    std::string bytes;
    std::int64_t most;
  };
  const std::string canonical = header_text("'<f4'", "(8,)");  // its line end takes no room
  const Tight table[] = {
      {"no blanks at all", npy(canonical, data), 9},
      {"one blank", tight("'<f4'", "(8, )", data), 99},
      {"other order, double quotes",
       npy("{\"shape\": (8,), \"descr\": \"<f4\", \"fortran_order\": False}     ", data), 999},
      {"no line end", npy("{'descr':'<f4', 'fortran_order':False, 'shape':(8L,) }     ", data), 99},
      {"canonical, and blanks over pages",
       npy("{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }" + std::string(9000, ' ') +
               "\n",
           data),
       10000},
      {"version 2", npy(canonical + "  ", data, 2), 999},
      {"version 3, native order", npy(header_text("'=f4'", "(8,)   "), data, 3), 9999},
  };
  const at::Tensor whole = at::arange(10100, at::kFloat);
  for (const Tight& tight : table) {
    INFO(tight.name);
    write_bytes(path, tight.bytes);
    const auto offset = read_header(path).data_offset;
    Appender appender(path, {}, at::kFloat, kQuick);
    std::int64_t rows = 8;
    const auto check = [&] {
      appender.flush();
      const Header header = read_header(path);
      CHECK(header.data_offset == offset);
      CHECK(header.version == tight.bytes[6]);
      CHECK(at::equal(load(path), whole.narrow(0, 0, rows)));
    };
    check();
    CHECK((read_bytes(path) == tight.bytes));  // nothing was appended
    while (rows < tight.most) {
      const std::int64_t count = (std::min)(tight.most - rows, rows);
      appender.append(whole.narrow(0, rows, count));
      rows += count;
      check();
    }
    if (tight.bytes.size() > 9000) continue;
    const std::string before = read_bytes(path);
    const Error error = error_of([&] { appender.append(whole.narrow(0, rows, 2)); });
    CHECK(error.code() == ErrorCode::TooLarge);
    CHECK_THAT(error.what(), says("can count to " + std::to_string(tight.most)));
    appender.close();
    CHECK((read_bytes(path) == before));
  }
}

TEST_CASE("the dtype stays as the file names it", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const std::string eight(8, '\1');
  const auto grown = [&](const std::string& descr, const std::string& items,
                         const at::Tensor& row) {
    write_bytes(path, tight("'" + descr + "'", "(1,)   ", items));
    Appender appender(path, kQuick);
    appender.append(row);
    appender.close();
    return read_bytes(path);
  };
  const at::Tensor two = at::ones({1}, at::kLong);
  const std::string more = "\1" + std::string(7, '\0');
  for (const char* descr : {"<M8[ns]", "<m8[25s]", "<M8"}) {
    INFO(descr);
    const std::string got = grown(descr, eight, two);
    CHECK(got.find("'descr': '" + std::string(descr) + "'") != got.npos);
    CHECK(got.find("'shape': (2,)") != got.npos);
    CHECK((got.substr(got.size() - 16) == eight + more));
    CHECK(error_of([&] { Appender(path, kQuick).append(two.to(at::kDouble)); }).code() ==
          ErrorCode::Mismatch);
  }

  const at::Tensor brains = at::ones({1}, at::kBFloat16);
  const std::string one = saved(brains).substr(128);
  for (const char* descr : {"<V2", "|V2"}) {
    INFO(descr);
    const std::string got = grown(descr, "ab", brains);
    CHECK(got.find("'descr': '" + std::string(descr) + "'") != got.npos);
    CHECK((got.substr(got.size() - 4) == "ab" + one));
    Appender(path, {}, at::kBFloat16, kQuick).append(brains);
    CHECK(load(path, LoadOptions().void_as(at::kBFloat16)).size(0) == 3);
    std::string text = header_text("'" + std::string(descr) + "'", "(1,)");
    text.insert(text.size() - 1, 'V' - text.size(), ' ');  // the byte that tells its length
    Appender(write_bytes(path, npy(text, "ab")), kQuick).append(brains);
    CHECK(read_bytes(path).find(std::string("'") + descr + "'") != std::string::npos);
    CHECK(error_of([&] { Appender(path, {}, at::kHalf); }).code() == ErrorCode::Mismatch);
    CHECK(error_of([&] { Appender(path).append(brains.to(at::kShort)); }).code() ==
          ErrorCode::Mismatch);
  }
}

TEST_CASE("leftovers behind the array give way", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor whole = counting(12, {3}, at::kInt);
  for (const std::size_t size : {1, 5, 6, 100, 5000}) {
    const std::string bytes = saved(whole.narrow(0, 0, 9)) + std::string(size, '\x93');
    write_bytes(path, bytes);
    Appender appender(path, kQuick);
    appender.flush();
    CHECK((read_bytes(path) == bytes));
    appender.append(whole.narrow(0, 9, 3));
    appender.close();
    CHECK((read_bytes(path) == saved(whole)));
  }
}

TEST_CASE("one Appender a file", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  std::filesystem::create_symlink("a.npy", folder / "link.npy");
  Appender first(folder / "link.npy", {}, at::kFloat, kQuick);
  CHECK(std::filesystem::is_symlink(folder / "link.npy"));
  for (int i = 0; i < 2; ++i) {
    const Error error = error_of([&] { Appender second(path); });
    CHECK(error.code() == ErrorCode::Io);
    CHECK_THAT(error.what(), says("another Appender has the file open"));
    CHECK(error_of([&] { Appender second(path, {}, at::kFloat); }).code() == ErrorCode::Io);
    first.append(at::ones({2}));
  }
  first.close();
  Appender second(path, kQuick);
  CHECK(second.rows() == 4);
  Appender elsewhere(folder / "b.npy", {}, at::kFloat, kQuick);
}

TEST_CASE("Appenders that are closed, moved or moved from", "[append]") {
  static_assert(std::is_nothrow_move_constructible_v<Appender>);
  static_assert(std::is_nothrow_move_assignable_v<Appender>);
  static_assert(!std::is_copy_constructible_v<Appender>);
  const Folder folder;
  const auto code_of = [](const auto& call) { return error_of(call).code(); };
  Appender first(folder / "a.npy", {}, at::kFloat, kQuick);
  first.append(at::zeros({2}));
  Appender second(std::move(first));
  CHECK(second.rows() == 2);
  CHECK(first.rows() == 0);
  CHECK(code_of([&] { first.append(at::zeros({1})); }) == ErrorCode::InvalidArgument);
  CHECK(code_of([&] { first.flush(); }) == ErrorCode::InvalidArgument);
  first.close();

  Appender third(folder / "b.npy", {}, at::kFloat, kQuick);
  third.append(at::zeros({3}));
  third = std::move(second);  // flushes and closes what it had
  CHECK(load(folder / "b.npy").size(0) == 3);
  Appender(folder / "b.npy", kQuick).close();
  third.append(at::zeros({1}));
  third.close();
  third.close();
  CHECK(third.rows() == 3);
  const Error error = error_of([&] { third.append(at::zeros({1})); });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK(error.path() == folder / "a.npy");
  CHECK(load(folder / "a.npy").size(0) == 3);
  first = Appender(folder / "a.npy", kQuick);
  CHECK(first.rows() == 3);
}

TEST_CASE("a write that fails can be tried again", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  // Rows of 1000 bytes, some of them few enough to wait in memory.
  const at::Tensor whole = counting(2200, {250}, at::kInt);
  Appender appender(path, {250}, at::kInt, kQuick);
  appender.append(whole.narrow(0, 0, 9));
  appender.flush();
  const std::string before = read_bytes(path);
  const auto check_as_before = [&] {
    CHECK((read_bytes(path).substr(0, before.size()) == before));
    CHECK(at::equal(load(path), whole.narrow(0, 0, 9)));
  };

  appender.append(whole.narrow(0, 9, 100));
  {
    const SmallFiles limit(20000);
    for (int i = 0; i < 2; ++i) {
      const Error error = error_of([&] { appender.flush(); });
      CHECK(error.code() == ErrorCode::Io);
      CHECK(error.offset() == 20000);
      CHECK(error.path() == path);
      check_as_before();
    }
    CHECK(error_of([&] { appender.append(whole.narrow(0, 109, 1100)); }).code() == ErrorCode::Io);
    CHECK(error_of([&] { appender.close(); }).code() == ErrorCode::Io);
    CHECK(appender.rows() == 109);
    check_as_before();
  }
  appender.flush();
  CHECK((read_bytes(path) == saved(whole.narrow(0, 0, 109))));
  {
    const SmallFiles limit(200000);
    CHECK(error_of([&] { appender.append(whole.narrow(0, 109, 1100)); }).code() == ErrorCode::Io);
    CHECK(appender.rows() == 109);
  }
  CHECK(at::equal(load(path), whole.narrow(0, 0, 109)));
  appender.append(whole.narrow(0, 109, 1));  // what was left half-written is not part of the file
  appender.flush();
  CHECK((read_bytes(path) == saved(whole.narrow(0, 0, 110))));
  {
    const SmallFiles limit(200000);
    CHECK(error_of([&] { appender.append(whole.narrow(0, 110, 1100)); }).code() == ErrorCode::Io);
  }
  appender.append(whole.narrow(0, 110, 2090));
  appender.close();
  CHECK((read_bytes(path) == saved(whole)));
}

TEST_CASE("a process killed at any moment leaves a file with all that was flushed", "[append]") {
  constexpr unsigned kSeed = 20240607;
  INFO("seed " << kSeed);
  std::mt19937 random(kSeed);
  const auto below = [&](unsigned most) { return static_cast<std::int64_t>(random() % most); };
  const Folder folder;
  const at::Tensor values = at::arange(std::int64_t{1} << 22);
  std::int64_t rows = 0;
  int cut_off = 0;
  std::filesystem::path path;
  for (int kill = 0; kill < 100; ++kill) {
    if (kill % 10 == 0) {  // and the file may not be there yet when the first one is killed
      path = folder / (std::to_string(kill) + ".npy");
      rows = 0;
    }
    const unsigned seed = static_cast<unsigned>(random());
    int flushed[2];  // tells how far the child has come for certain
    REQUIRE(::pipe(flushed) == 0);
    const pid_t child = ::fork();
    REQUIRE(child != -1);
    if (child == 0) {
      try {
        std::mt19937 own(seed);
        Appender appender(path, {2}, at::kLong, kQuick);
        for (;;) {
          const std::int64_t count = own() % 150 == 0 ? 70000 : own() % 40;
          const std::int64_t first = appender.rows() * 2;
          if (first + count * 2 > values.numel()) break;
          appender.append(values.narrow(0, first, count * 2).view({count, 2}));
          if (own() % 3 != 0) continue;
          appender.flush();
          const std::int64_t now = appender.rows();
          if (::write(flushed[1], &now, sizeof now) != sizeof now) break;
        }
        ::close(flushed[1]);  // the file is as long as it gets, and nothing more will be told
        for (;;) ::pause();
      } catch (...) {
        ::_exit(1);
      }
    }
    ::close(flushed[1]);
    if (below(8) == 0) {
      ::usleep(static_cast<useconds_t>(below(300)));
    } else {  // well under way
      std::int64_t ignored;
      if (::read(flushed[0], &ignored, sizeof ignored) > 0) rows = ignored;
      ::usleep(static_cast<useconds_t>(below(2500)));
    }
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    for (std::int64_t told; ::read(flushed[0], &told, sizeof told) > 0;) rows = told;
    ::close(flushed[0]);

    if (!std::filesystem::exists(path)) continue;
    const at::Tensor got = load(path);
    INFO("kill " << kill << ": " << got.size(0) << " rows, " << rows << " flushed for certain");
    REQUIRE(got.size(0) >= rows);
    REQUIRE(at::equal(got.view({-1}), values.narrow(0, 0, got.numel())));
    cut_off += std::filesystem::file_size(path) > read_header(path).end();
    rows = got.size(0);
    if (kill % 4 == 0 && rows < values.numel() / 2) {
      Appender appender(path, {2}, at::kLong, kQuick);
      appender.append(values.narrow(0, rows * 2, 2));
      appender.close();
      CHECK((read_bytes(path) == saved(values.narrow(0, 0, ++rows * 2).view({-1, 2}))));
    }
  }
  CHECK(cut_off > 0);  // or the kills came at no bad moment
}

TEST_CASE("an append that fails half-way leaves nothing behind", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  Appender appender(path, {1000}, at::kFloat, kQuick);
  appender.append(at::ones({3, 1000}));
  appender.flush();
  const std::string before = read_bytes(path);
  {
    const SmallFiles limit(std::size_t{1} << 20);
    const Error error = error_of([&] { appender.append(at::ones({1000, 1000})); });
    CHECK(error.code() == ErrorCode::Io);
  }
  CHECK((read_bytes(path) == before));
  appender.close();
  CHECK((read_bytes(path) == before));
}

TEST_CASE("rows of no elements are counted as far as NumPy reads them", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const std::int64_t wide = std::int64_t{1} << 40;
  const std::int64_t most = ((INT64_MAX - 128) / 4) >> 40;
  Appender appender(path, {0, wide}, at::kFloat, kQuick);
  appender.append(at::empty({most, 0, wide}));
  appender.flush();
  CHECK(load(path).sizes() == at::IntArrayRef({most, 0, wide}));
  const Error error = error_of([&] { appender.append(at::empty({1, 0, wide})); });
  CHECK(error.code() == ErrorCode::TooLarge);
}

TEST_CASE("a file that was replaced or removed is not flushed to in silence", "[append]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  for (const bool removed : {false, true}) {
    std::filesystem::remove(path);
    Appender appender(path, {}, at::kFloat, kQuick);
    appender.append(at::ones({3}));
    appender.flush();
    if (removed) {
      std::filesystem::remove(path);
    } else {
      save(path, at::zeros({2}));
    }
    appender.append(at::ones({3}));
    const Error error = error_of([&] { appender.close(); });
    CHECK(error.code() == ErrorCode::Io);
    CHECK_THAT(error.what(), says("was replaced or removed"));
    if (!removed) CHECK(at::equal(load(path), at::zeros({2})));
  }
}

TEST_CASE("a relative path means the same file after the process went elsewhere", "[append]") {
  const Folder folder;
  const Folder other;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  Appender appender("a.npy", {}, at::kFloat, kQuick);
  appender.append(at::ones({3}));
  std::filesystem::current_path(other.path());
  appender.flush();
  appender.close();
  std::filesystem::current_path(before);
  CHECK(load(folder / "a.npy").size(0) == 3);
  CHECK(other.count() == 0);
}
