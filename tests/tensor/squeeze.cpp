// Axes of length 1 that are removed.

#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>

#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

namespace {

/// Bytes of an .npy file with the int64 numbers 0 to 11.
std::string twelve(const std::string& shape, const std::string& order) {
  const at::Tensor data = at::arange(12);
  return npy(header_text("'<i8'", shape, order),
             {static_cast<const char*>(data.data_ptr()), data.nbytes()});
}

}  // namespace

TEST_CASE("squeeze() removes an axis of length 1, as Tensor::squeeze() does", "[squeeze]") {
  const Folder folder;
  struct Case {
    const char* shape;
    std::int64_t axis;
  };
  for (const Case& test : {Case{"(12, 1)", 1},
                           {"(1, 12)", 0},
                           {"(3, 1, 4)", 1},
                           {"(3, 1, 4)", -2},
                           {"(1, 3, 4)", 0},
                           {"(3, 4, 1)", -1},
                           {"(3, 4, 1)", 2},
                           {"(1, 1, 12)", 1}}) {
    for (const char* order : {"False", "True"}) {
      INFO(test.shape << " axis " << test.axis << " fortran " << order);
      const std::string bytes = twelve(test.shape, order);
      const auto path = write_bytes(folder / "a.npy", bytes);
      const at::Tensor want = load(path).squeeze(test.axis);
      const auto options = LoadOptions().squeeze(test.axis);
      for (const bool mmap : {false, true}) {
        const at::Tensor got = load(path, LoadOptions(options).mmap(mmap));
        CHECK(got.sizes() == want.sizes());
        CHECK(got.strides() == want.strides());
        CHECK(at::equal(got, want));
      }
      CHECK(at::equal(load(path, LoadOptions(options).dtype(at::kFloat)), want.to(at::kFloat)));
      CHECK(at::equal(load_bytes(bytes.data(), bytes.size(), options), want));
      std::istringstream stream(bytes);
      CHECK(at::equal(load(stream, options), want));
      const at::Tensor into = at::empty_like(want);
      load_into(into, path, options);
      CHECK(at::equal(into, want));
    }
  }
}

TEST_CASE("squeeze() comes after rows(), and may remove the axis of one row", "[squeeze]") {
  const Folder folder;
  const auto path = write_floats(folder / "rows.npy", 7, 5);
  const at::Tensor whole = load(path);
  CHECK(at::equal(load(path, LoadOptions().rows(2, 3).squeeze(0)), whole[2]));
  const auto columns = write_floats(folder / "columns.npy", 7, 5, /*fortran_order=*/true);
  CHECK(at::equal(load(columns, LoadOptions().rows(2, 3).squeeze(0)), load(columns)[2]));
}

TEST_CASE("squeeze() of an axis that is not of length 1 is an Error", "[squeeze]") {
  const Folder folder;
  const auto path = write_bytes(folder / "a.npy", twelve("(12, 1)", "False"));
  for (const std::int64_t axis : {std::int64_t{0}, std::int64_t{-2}, std::int64_t{2},
                                  std::int64_t{-3}, INT64_MIN, INT64_MAX}) {
    const Error error = error_of([&] { (void)load(path, LoadOptions().squeeze(axis)); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says("squeeze(" + std::to_string(axis) +
                                  ") removes an axis of length 1, and the shape is (12, 1)"));
  }
}

TEST_CASE("squeeze() applies to the axes of characters, and to each field", "[squeeze]") {
  const Folder folder;
  const auto codes = LoadOptions().strings_as_codes(true);
  const auto letters = write_bytes(folder / "s.npy", npy(header_text("'|S1'", "(3,)"), "abc"));
  CHECK(load(letters, LoadOptions(codes).squeeze(-1)).sizes() == at::IntArrayRef({3}));
  for (const char* order : {"False", "True"}) {
    const auto words =
        write_bytes(folder / "w.npy", npy(header_text("'|S2'", "(3, 1)", order), "abcdef"));
    const at::Tensor got = load(words, LoadOptions(codes).squeeze(1));
    CHECK(at::equal(got, load(words, codes).squeeze(1)));
    CHECK(got.is_contiguous());
  }
  const auto records = write_bytes(
      folder / "r.npy", npy(header_text("[('a', '|u1'), ('b', '|u1', (2,))]", "(2, 1)"), "abcdef"));
  const auto fields = load_fields(records, LoadOptions().squeeze(1));
  CHECK(fields["a"].sizes() == at::IntArrayRef({2}));
  CHECK(fields["b"].sizes() == at::IntArrayRef({2, 2}));
  const Error error = error_of([&] { (void)load_fields(records, LoadOptions().squeeze(0)); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("field \"a\""));
}
