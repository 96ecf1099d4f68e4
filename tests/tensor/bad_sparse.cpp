// Archives that are refused as sparse matrices.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/sparse.hpp>
#endif

#include <cstdint>
#include <string>
#include <vector>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/sparse.hpp"

using namespace torch_npy;

namespace {

struct BadMatrix {
  const char* name;
  SparseParts parts;
  ErrorCode code;
  std::uint64_t offset;
  const char* words;
};

constexpr std::uint64_t kData = 128;  // offset of the first element in a member

std::string ints(const std::vector<std::int32_t>& values) {
  return npy_of("'<i4'", "(" + std::to_string(values.size()) + ",)", values);
}

std::string longs(const std::vector<std::int64_t>& values) {
  return npy_of("'<i8'", "(" + std::to_string(values.size()) + ",)", values);
}

std::string name_of_format(const std::string& name) {
  return npy(header_text("'|S" + std::to_string(name.size()) + "'", "()"), name);
}

/// `parts` with other arrays; one without bytes is not there.
SparseParts with(SparseParts parts, const SparseParts& others) {
  for (const auto& [name, bytes] : others) {
    if (bytes.empty()) {
      parts.erase(name);
    } else {
      parts[name] = bytes;
    }
  }
  return parts;
}

std::vector<BadMatrix> bad_archives_and_formats() {
  const SparseParts csr = csr_parts();
  const std::string floats(32, 'x');
  const auto mismatch = ErrorCode::Mismatch;
  return {
      {"nothing", {}, ErrorCode::NotFound, 0, "no array \"format\""},
      {"other arrays",
       {{"a", ints({1})}, {"b", ints({1})}},
       ErrorCode::NotFound,
       0,
       "no array \"format\"; there are \"a\", \"b\"; load_npz() is for"},
      {"no shape", with(csr, {{"shape", ""}}), ErrorCode::NotFound, 0, "no array \"shape\""},
      {"no data", with(csr, {{"data", ""}}), ErrorCode::NotFound, 0, "no array \"data\""},
      {"no indices", with(csr, {{"indices", ""}}), ErrorCode::NotFound, 0, "no array \"indices\""},
      {"no indptr", with(csr, {{"indptr", ""}}), ErrorCode::NotFound, 0, "no array \"indptr\""},
      {"no row", with(coo_parts(), {{"row", ""}}), ErrorCode::NotFound, 0, "no array \"row\""},
      {"no col", with(coo_parts(), {{"col", ""}}), ErrorCode::NotFound, 0, "no array \"col\""},
      {"dia", with(csr, {{"format", name_of_format("dia")}, {"offsets", ints({0})}}), mismatch, 0,
       "convert it in SciPy, for instance with tocsr()"},
      {"lil", with(csr, {{"format", name_of_format("lil")}}), mismatch, 0,
       "unknown format \"lil\""},
      {"CSR", with(csr, {{"format", name_of_format("CSR")}}), mismatch, 0,
       "unknown format \"CSR\""},
      {"empty format", with(csr, {{"format", npy(header_text("'|S0'", "()"))}}), mismatch, 0,
       "unknown format \"\""},
      {"control characters", with(csr, {{"format", name_of_format("\x1b[2")}}), mismatch, 0,
       "unknown format \"\\x1b[2\""},
      {"bytes over 127", with(csr, {{"format", name_of_format("\xff\xfe")}}), mismatch, 0,
       "unknown format \"\?\?\""},
      {"a number for a format", with(csr, {{"format", ints({1})}}), mismatch, 0,
       "found shape (1,) and dtype '<i4'"},
      {"a list of formats", with(csr, {{"format", npy(header_text("'|S3'", "(2,)"), "csrcsr")}}),
       mismatch, 0, "found shape (2,) and dtype '|S3'"},
      {"a long format", with(csr, {{"format", name_of_format(std::string(65, 'x'))}}), mismatch, 0,
       "dtype '|S65'"},
      {"objects", with(csr, {{"data", npy(header_text("'|O'", "(5,)"), floats)}}),
       ErrorCode::UnsupportedDtype, 0, "member \"data.npy\": object dtype"},
      {"longdouble",
       with(csr, {{"data", npy(header_text("'<f16'", "(5,)"), std::string(80, 'x'))}}),
       ErrorCode::UnsupportedDtype, 0, "found dtype '<f16'; dtype(torch::kFloat64) rounds them"},
      {"raw values", with(csr, {{"data", npy(header_text("'<V2'", "(5,)"), floats)}}),
       ErrorCode::UnsupportedDtype, 0, "found dtype '|V2'; void_as() sets their dtype"},
      {"strings", with(csr, {{"data", npy(header_text("'|S2'", "(5,)"), floats)}}),
       ErrorCode::UnsupportedDtype, 0, "are numbers, found dtype '|S2'"},
      {"fields", with(csr, {{"data", npy(header_text("[('a', '<f4')]", "(5,)"), floats)}}),
       ErrorCode::UnsupportedDtype, 0, "are numbers, found dtype [('a', '<f4')]"},
      {"data cut short", with(csr, {{"data", npy(header_text("'<f4'", "(5,)"), "0123")}}),
       ErrorCode::Truncated, 72, "member \"data.npy\": data cut short"},
      {"a terabyte of entries",
       with(coo_parts(), {{"row", npy(header_text("'<i4'", "(1099511627776,)"))},
                          {"col", npy(header_text("'<i4'", "(1099511627776,)"))},
                          {"data", npy(header_text("'<f4'", "(1099511627776,)"))}}),
       ErrorCode::Truncated, 80, "member \"row.npy\": data cut short"},
  };
}

std::vector<BadMatrix> bad_shapes() {
  const SparseParts csr = csr_parts();
  const SparseParts coo = coo_parts();
  const SparseParts bsr =
      with(csr, {{"format", name_of_format("bsr")},
                 {"indptr", ints({0, 1})},
                 {"indices", ints({1})},
                 {"data", npy_of<float>("'<f4'", "(1, 3, 2)", std::vector<float>(6))}});
  const auto blocks = [](const std::string& shape) {
    return npy_of<float>("'<f4'", shape, std::vector<float>(8));
  };
  const auto mismatch = ErrorCode::Mismatch;
  return {
      {"a shape of no axes", with(csr, {{"shape", longs({})}}), mismatch, 0,
       "expected 1 to 64 lengths"},
      {"a 0-d shape", with(csr, {{"shape", npy_of<std::int64_t>("'<i8'", "()", {3})}}), mismatch, 0,
       "found an array of shape ()"},
      {"a shape of 65 axes", with(csr, {{"shape", longs(std::vector<std::int64_t>(65, 1))}}),
       mismatch, 0, "found an array of shape (65,)"},
      {"a shape of floats", with(csr, {{"shape", npy_of<double>("'<f8'", "(2,)", {3, 4})}}),
       mismatch, 0, "member \"shape.npy\": expected integers, found dtype '<f8'"},
      {"a negative length", with(csr, {{"shape", longs({3, -4})}}), mismatch, kData + 8,
       "member \"shape.npy\": element 1 is -4: expected a length"},
      {"a length of 2^64 - 1",
       with(csr, {{"shape", npy_of<std::uint64_t>("'<u8'", "(2,)", {3, UINT64_MAX})}}), mismatch, 0,
       "the value 18446744073709551615"},
      {"more elements than LibTorch counts", with(coo, {{"shape", longs({INT64_MAX, 4})}}),
       ErrorCode::TooLarge, 0, "more than 2^63 - 1 elements"},
      {"a csr array of 1 axis", with(csr, {{"shape", longs({4})}, {"indptr", ints({0, 5})}}),
       mismatch, 0, "a csr array of shape (4,)"},
      {"a csr array of 3 axes", with(csr, {{"shape", longs({3, 2, 2})}}), mismatch, 0, "tocoo()"},
      {"row and col of 1 axis", with(coo, {{"shape", longs({4})}}), mismatch, 0, "expected 2 axes"},
      {"0-d data", with(csr, {{"data", npy_of<float>("'<f4'", "()", {1})}}), mismatch, 0,
       "member \"data.npy\": expected shape (0,)"},
      {"2-d data", with(csr, {{"data", blocks("(5, 1)")}}), mismatch, 0,
       "expected shape (5,), a value for each entry, found (5, 1)"},
      {"fewer values", with(csr, {{"data", blocks("(4,)")}}), mismatch, 0,
       "member \"indices.npy\": expected shape (4,)"},
      {"fewer values of coo", with(coo, {{"data", blocks("(2,)")}}), mismatch, 0,
       "member \"row.npy\": expected shape (2,)"},
      {"fewer columns", with(coo, {{"col", ints({1, 2})}}), mismatch, 0,
       "member \"col.npy\": expected shape (3,)"},
      {"2-d indices",
       with(csr, {{"indices", npy_of<std::int32_t>("'<i4'", "(5, 1)", {1, 3, 0, 2, 3})}}), mismatch,
       0, "found (5, 1)"},
      {"no indptr elements", with(csr, {{"indptr", ints({})}}), mismatch, 0,
       "expected one element more than 3 rows, found shape (0,)"},
      {"a short indptr", with(csr, {{"indptr", ints({0, 2, 5})}}), mismatch, 0,
       "expected one element more than 3 rows, found shape (3,)"},
      {"a long indptr", with(csr, {{"indptr", ints({0, 2, 2, 5, 5})}}), mismatch, 0,
       "found shape (5,)"},
      {"a shape of 2^63 - 1 rows", with(csr, {{"shape", longs({INT64_MAX, 1})}}), mismatch, 0,
       "expected one element more than 9223372036854775807 rows"},
      {"indptr of rows for csc", with(csr, {{"format", name_of_format("csc")}}), mismatch, 0,
       "expected one element more than 4 columns"},
      {"indptr of rows for bsr", with(bsr, {{"indptr", ints({0, 0, 0, 1})}}), mismatch, 0,
       "expected one element more than 1 block row,"},
      {"bsr without blocks", with(bsr, {{"data", blocks("(1,)")}}), mismatch, 0, "found (1,)"},
      {"blocks of no rows", with(bsr, {{"data", blocks("(1, 0, 2)")}}), mismatch, 0,
       "found (1, 0, 2)"},
      {"blocks of no columns", with(bsr, {{"data", blocks("(1, 3, 0)")}}), mismatch, 0,
       "found (1, 3, 0)"},
      {"blocks that do not divide the rows", with(bsr, {{"data", blocks("(1, 2, 2)")}}), mismatch,
       0, "blocks that divide a matrix of shape (3, 4), found (1, 2, 2)"},
      {"blocks that do not divide the columns", with(bsr, {{"data", blocks("(1, 1, 3)")}}),
       mismatch, 0, "found (1, 1, 3)"},
      {"coords of other axes",
       with(coo,
            {{"coords", npy_of<std::int32_t>("'<i4'", "(3, 3)", std::vector<std::int32_t>(9))}}),
       mismatch, 0, "member \"coords.npy\": expected shape (2, 3)"},
  };
}

std::vector<BadMatrix> bad_indices() {
  const SparseParts csr = csr_parts();
  const SparseParts coo = coo_parts();
  const auto mismatch = ErrorCode::Mismatch;
  const auto coords = [&](const std::vector<std::int64_t>& values) {
    return with(coo, {{"coords", npy_of("'<i8'", "(2, 3)", values)}});
  };
  return {
      {"indices of bool", with(csr, {{"indices", npy_of<char>("'|b1'", "(5,)", {1, 0, 1, 0, 1})}}),
       mismatch, 0, "member \"indices.npy\": expected integers, found dtype '|b1'"},
      {"indptr of floats", with(csr, {{"indptr", npy_of<float>("'<f4'", "(4,)", {0, 2, 2, 5})}}),
       mismatch, 0, "member \"indptr.npy\": expected integers"},
      {"rows of floats", with(coo, {{"row", npy_of<float>("'<f4'", "(3,)", {0, 2, 1})}}), mismatch,
       0, "member \"row.npy\": expected integers"},
      {"coords of floats",
       with(coo, {{"coords", npy_of<float>("'<f4'", "(2, 3)", std::vector<float>(6))}}), mismatch,
       0, "member \"coords.npy\": expected integers"},
      {"indptr from 1 on", with(csr, {{"indptr", ints({1, 2, 2, 5})}}), mismatch, kData,
       "member \"indptr.npy\": element 0 is 1: expected 0"},
      {"a descending indptr", with(csr, {{"indptr", ints({0, 3, 2, 5})}}), mismatch, kData + 8,
       "element 2 is 2: expected at least 3, the element before it"},
      {"a negative indptr", with(csr, {{"indptr", ints({0, -1, 2, 5})}}), mismatch, kData + 4,
       "element 1 is -1"},
      {"an indptr over the end", with(csr, {{"indptr", ints({0, 2, 2, 6})}}), mismatch, kData + 12,
       "element 3 is 6: expected 5, the number of entries"},
      {"an indptr before the end", with(csr, {{"indptr", ints({0, 2, 2, 4})}}), mismatch,
       kData + 12, "element 3 is 4: expected 5"},
      {"an indptr over 2^32",
       with(csr, {{"indptr", longs({0, 2, 2, (std::int64_t{1} << 32) + 5})}}), mismatch, kData + 24,
       "element 3 is 4294967301"},
      {"an indptr over 2^63",
       with(csr, {{"indptr", npy_of<std::uint64_t>("'<u8'", "(4,)", {0, 2, 2, UINT64_MAX})}}),
       mismatch, 0, "member \"indptr.npy\": the value 18446744073709551615"},
      {"an index that is the length", with(csr, {{"indices", ints({1, 4, 0, 2, 3})}}), mismatch,
       kData + 4, "element 1 is 4: expected an index along an axis of length 4"},
      {"a negative index", with(csr, {{"indices", ints({1, 3, -1, 2, 3})}}), mismatch, kData + 8,
       "element 2 is -1"},
      {"an index over 2^32",
       with(csr, {{"indices", longs({1, 3, 0, 2, (std::int64_t{1} << 32) + 3})}}), mismatch,
       kData + 32, "element 4 is 4294967299"},
      {"an index of no columns", with(csr, {{"shape", longs({3, 0})}}), mismatch, kData,
       "an axis of length 0"},
      {"csc: an index of a row",
       with(csr, {{"format", name_of_format("csc")}, {"shape", longs({3, 3})}}), mismatch,
       kData + 4, "element 1 is 3: expected an index along an axis of length 3"},
      {"two entries", with(csr, {{"indices", ints({3, 3, 0, 2, 3})}}), mismatch, 0,
       "two entries at row 0, column 3, where LibTorch's layout has one: call sum_duplicates()"},
      {"two unsorted entries", with(csr, {{"indices", ints({1, 3, 2, 0, 2})}}), mismatch, 0,
       "two entries at row 2, column 2"},
      {"two entries of csc",
       with(csr, {{"format", name_of_format("csc")},
                  {"shape", longs({4, 3})},
                  {"indices", ints({1, 3, 2, 0, 2})}}),
       mismatch, 0, "two entries at column 2, row 2"},
      {"a row that is the length", with(coo, {{"row", ints({0, 3, 1})}}), mismatch, kData + 4,
       "member \"row.npy\": element 1 is 3"},
      {"a negative column", with(coo, {{"col", ints({3, 0, -2})}}), mismatch, kData + 8,
       "member \"col.npy\": element 2 is -2"},
      {"a coordinate over the first axis", coords({0, 3, 1, 0, 0, 0}), mismatch, kData + 8,
       "member \"coords.npy\": element 1 is 3"},
      {"a coordinate over the second axis", coords({0, 1, 1, 0, 0, 4}), mismatch, kData + 40,
       "element 5 is 4: expected an index along an axis of length 4"},
  };
}

}  // namespace

TEST_CASE("every bad sparse matrix throws Error with the reason", "[sparse][bad]") {
  const Folder folder;
  std::vector<BadMatrix> all = bad_archives_and_formats();
  for (const auto& more : {bad_shapes(), bad_indices()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  for (const BadMatrix& bad : all) {
    INFO(bad.name);
    const auto path = write_parts(folder / "bad.npz", bad.parts);
    const Error error = error_of([&] { (void)load_sparse(path); });
    CHECK(error.code() == bad.code);
    CHECK(error.offset() == bad.offset);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(bad.words));
  }
  for (const char* const scipy : {"/sparse/scipy_1.10/dia.npz", "/sparse/scipy_1.17/dia.npz"}) {
    const Error error =
        error_of([&] { (void)load_sparse(std::string(TORCH_NPY_TEST_DATA) + scipy); });
    CHECK_THAT(error.what(), says("a matrix in the format dia"));
  }
  CHECK(load_sparse(write_parts(folder / "good.npz", csr_parts())).sizes().vec() == Shape{3, 4});
  CHECK(load_sparse(write_parts(folder / "good.npz", coo_parts())).sizes().vec() == Shape{3, 4});
  CHECK(error_of([&] {
          (void)load_sparse(write_bytes(folder / "bad.npz", npy_of<char>("'|b1'", "()", {1})));
        }).code() == ErrorCode::NotNpy);
}

TEST_CASE("options with which a sparse matrix cannot be loaded throw Error", "[sparse][bad]") {
  const Folder folder;
  SparseParts parts = csr_parts();
  parts["data"] = npy(header_text("'|V2'", "(5,)"), std::string(10, '\0'));
  const auto path = write_parts(folder / "a.npz", parts);
  const auto refused = [&](const LoadOptions& options, ErrorCode code, const char* words) {
    const Error error = error_of([&] { (void)load_sparse(path, options); });
    CHECK(error.code() == code);
    CHECK_THAT(error.what(), says(words));
  };
  refused({}, ErrorCode::UnsupportedDtype, "void_as() sets their dtype");
  refused(LoadOptions().void_as(at::kFloat), ErrorCode::Mismatch, "not that of void_as()");
  refused(LoadOptions().void_as(kNextSigned), ErrorCode::InvalidArgument, "void_as()");
  refused(LoadOptions().void_as(at::kQInt8), ErrorCode::InvalidArgument, "void_as()");
  refused(LoadOptions().device(at::kMeta), ErrorCode::InvalidArgument, "the meta device");
  CHECK(load_sparse(path, LoadOptions().void_as(at::kBFloat16)).dim() == 2);
}

TEST_CASE("an index out of range names its element in a swapped array, too", "[sparse][bad]") {
  const Folder folder;
  SparseParts parts = csr_parts();
  parts["indices"] = npy(header_text("'>i2'", "(5,)"), std::string("\0\1\0\3\0\0\1\0\0\3", 10));
  const Error error = error_of([&] { (void)load_sparse(write_parts(folder / "a.npz", parts)); });
  CHECK_THAT(error.what(), says("element 3 is 256"));
  CHECK(error.offset() == npy(header_text("'>i2'", "(5,)")).size() + 6);
}
