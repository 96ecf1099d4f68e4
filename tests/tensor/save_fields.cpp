// Saving structured arrays.

#include <torch_npy/tensor/save_fields.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"
#include "support/records.hpp"

using namespace torch_npy;

namespace {

const auto kUnsynced = SaveOptions().sync(false);

void check_equal(const Fields& got, const Fields& want) {
  REQUIRE(got.keys() == want.keys());
  for (const auto& field : want) {
    INFO(field.key());
    CHECK(got[field.key()].scalar_type() == field->scalar_type());
    CHECK(got[field.key()].sizes() == field->sizes());
    CHECK((bytes_of(got[field.key()]) == bytes_of(field.value())));
  }
}

/// True if np.save writes the records of this file in the same way: packed, in native byte order,
/// and without what a tensor does not have.
bool is_plain(const DType& dtype) {
  std::int64_t end = 0;
  for (const Field& field : dtype.fields) {
    const char kind = field.dtype.kind;
    if (field.offset != end || field.dtype.is_swapped() || !field.title.empty() || kind == 'M' ||
        kind == 'm' || kind == 'S' || kind == 'U' ||
        (field.dtype.is_structured() && (!field.shape.empty() || !is_plain(field.dtype)))) {
      return false;
    }
    if (kind == 'V' && !field.dtype.is_structured()) return false;  // '|V2' and '<V2'
    end += torch_npy::detail::checked_bytes(field.shape, field.dtype.item_size).value();
  }
  return end == dtype.item_size;
}

}  // namespace

TEST_CASE("save() of fields writes the bytes of np.save", "[numpy][save]") {
  const Folder folder;
  std::size_t compared = 0;
  for (const ExpectedFile& want : read_expected()) {
    const Header header = read_header(want.path);
    if (!want.is_native()) continue;
    INFO(want.path.filename().string());
    const Fields fields = load_fields(want.path, everything());
    // Without a name, which a field to be saved has, or with sub-arrays and no axis of records.
    const bool is_refused = std::any_of(fields.begin(), fields.end(), [&](const auto& field) {
      return field.key().empty() || (header.shape.empty() && field->dim() != 0);
    });
    if (is_refused) {
      CHECK(error_of([&] { save(folder / "a.npy", fields, kUnsynced); }).code() ==
            ErrorCode::InvalidArgument);
      continue;
    }
    save(folder / "a.npy", fields, kUnsynced);
    check_equal(load_fields(folder / "a.npy", everything()), fields);
    // The records of tensors have one axis, or none.
    if (!is_plain(header.dtype) || header.fortran_order || header.shape.size() > 1) continue;
    CHECK((read_bytes(folder / "a.npy") == read_bytes(want.path)));
    ++compared;
  }
  CHECK(compared >= 2);
}

TEST_CASE("load_fields() gives back what save() of fields got", "[save]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const at::Tensor id = at::arange(5);
  const at::Tensor x = at::arange(5, at::kFloat).mul(0.5);
  save(path, {{"id", id}, {"pos.x", x}, {"pos.y", x.neg()}});
  CHECK(read_header(path).dtype.descr() ==
        "[('id', '<i8'), ('pos', [('x', '<f4'), ('y', '<f4')])]");
  check_equal(load_fields(path), {{"id", id}, {"pos.x", x}, {"pos.y", x.neg()}});
  save(path, {{"one", id}}, kUnsynced);
  check_equal(load_fields(path), {{"one", id}});

  for (const auto type :
       {at::kBool, at::kByte, at::kChar, at::kShort, at::kInt, at::kLong, at::kHalf, at::kFloat,
        at::kDouble, at::kComplexFloat, at::kComplexDouble, at::kBFloat16}) {
    const at::Tensor matrix = at::arange(30).to(type).view({5, 2, 3});
    const Fields fields{{"m", matrix},
                        {"a.b.c", id},
                        {"a.b.d", matrix[0][0][0].expand({5})},
                        {"a.e", matrix.transpose(1, 2)},
                        {"a.none", matrix.narrow(1, 0, 0)},
                        {"größe", id.to(type)},
                        {"tab\t'\"", id}};
    save(path, fields, kUnsynced);
    check_equal(load_fields(path, LoadOptions().void_as(at::kBFloat16)), fields);
  }
}

TEST_CASE("0-d tensors are one record, and no records are an empty array", "[save]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  const Fields one{{"a", at::ones({})}, {"b.c", at::zeros({}, at::kLong)}};
  save(path, one, kUnsynced);
  CHECK(read_header(path).shape.empty());
  check_equal(load_fields(path), one);
  const Fields none{{"a", at::ones({0})}, {"b", at::ones({0, 3, 2})}};
  save(path, none, kUnsynced);
  CHECK(read_header(path).shape == Shape{0});
  check_equal(load_fields(path), none);
  const Fields nothing{{"a", at::ones({4, 0})}, {"b", at::ones({4, 3, 0})}};
  save(path, nothing, kUnsynced);
  check_equal(load_fields(path), nothing);
}

TEST_CASE("records are saved in parts, from tensors of any strides", "[save]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{43690}, std::int64_t{43691},
                                  std::int64_t{87382}, std::int64_t{100000}}) {
    const Fields fields{
        {"a", at::arange(rows)},  // with the others 24 bytes a record
        {"b", at::arange(4 * rows).to(at::kFloat).view({2, 2 * rows}).narrow(1, 0, rows).t()},
        {"c", at::arange(rows).flip(0)}};
    save(path, fields, kUnsynced);
    check_equal(load_fields(path), fields);
  }
  const Fields large{{"a", at::arange(3 * 200000).view({3, 200000})}, {"b", at::arange(3)}};
  save(path, large, kUnsynced);  // a record is larger than a part
  check_equal(load_fields(path), large);
  const at::Tensor complex = at::arange(4, at::kFloat).to(at::kComplexFloat);
  const at::Tensor turned = complex.mul(c10::Scalar(c10::complex<double>(1, 2)));
  save(path, {{"a", turned.conj()}, {"b", at::ones({4}).requires_grad_()}}, kUnsynced);
  CHECK(at::equal(load_fields(path)["a"], turned.conj().resolve_conj()));
}

TEST_CASE("fields that are not a structured array are refused, and the old file stays",
          "[save][bad]") {
  const Folder folder;
  const auto path = folder / "a.npy";
  save(path, {{"a", at::ones({2})}});
  const std::string before = read_bytes(path);
  const at::Tensor two = at::ones({2});
  const std::string deep = [] {
    std::string name = "a";
    for (int i = 1; i < 65; ++i) name += ".a";
    return name;
  }();
  struct Bad {
    const char* name;
    Fields fields;
    ErrorCode code;
    const char* words;
  };
  const auto argument = ErrorCode::InvalidArgument;
  for (const Bad& bad : std::vector<Bad>{
           {"no fields", Fields(), argument, "no fields"},
           {"no name", {{"", two}}, argument, "field \"\": its name, and each part"},
           {"a dot first", {{".x", two}}, argument, "field \".x\": its name"},
           {"a dot last", {{"x.", two}}, argument, "must not be empty"},
           {"two dots", {{"x..y", two}}, argument, "must not be empty"},
           {"not UTF-8", {{"\xff", two}}, argument, "not UTF-8"},
           {"65 names", {{deep, two}}, argument, "more than 64 deep"},
           {"one name twice", {{"a", two}, {"a", two}}, argument, "two fields have the name \"a\""},
           {"one inner name twice",
            {{"a.b", two}, {"a.b", two}},
            argument,
            "two fields have the name \"a.b\""},
           {"a field with fields",
            {{"a", two}, {"a.b", two}},
            argument,
            "\"a\" is a field, and has fields of its own"},
           {"fields, and the field",
            {{"p.a.b", two}, {"p.a", two}},
            argument,
            "\"p.a\" is a field, and has fields of its own"},
           {"fields apart",
            {{"a.x", two}, {"b", two}, {"a.y", two}},
            argument,
            "the fields of \"a\" are not adjacent: \"a.y\" comes after another field"},
           {"other lengths",
            {{"a", two}, {"b", at::ones({3, 2})}},
            argument,
            "field \"b\": it has shape (3, 2), the first field (2,)"},
           {"one record beside records", {{"a", two}, {"b", at::ones({})}}, argument, "shape ()"},
           {"records beside one record",
            {{"a", at::ones({})}, {"b", two}},
            argument,
            "field \"b\""},
           {"undefined", {{"a", at::Tensor()}}, argument, "field \"a\": save() of an undefined"},
           {"undefined later", {{"a", two}, {"b", at::Tensor()}}, argument, "field \"b\": save()"},
           {"sparse", {{"a", two.to_sparse()}}, argument, "field \"a\": save() takes dense"},
           {"quantized",
            {{"a", two}, {"q", at::empty({2}, at::kComplexHalf)}},
            ErrorCode::UnsupportedDtype,
            "field \"q\": NumPy has no dtype"},
           {"a large record",
            {{"a", at::ones({1, 1}).expand({1, 1 << 29})}},
            ErrorCode::TooLarge,
            "with field \"a\" a record"},
           {"a large record of two",
            {{"p.a", at::ones({1, 1}).expand({1, 1 << 28})},
             {"p.b", at::ones({1, 1}).expand({1, 1 << 28})}},
            ErrorCode::TooLarge,
            "with field \"p.b\" a record"},
           {"a long axis",
            {{"a", at::empty({1, std::int64_t{1} << 31, 0})}},
            ErrorCode::TooLarge,
            "(2^31 - 1)"},
           {"more bytes than 2^63",
            {{"a", at::ones({1}).expand({std::int64_t{1} << 61})},
             {"b", at::ones({1}).expand({std::int64_t{1} << 61})}},
            ErrorCode::TooLarge,
            "63 bits"},
       }) {
    INFO(bad.name);
    const Error error = error_of([&] { save(path, bad.fields); });
    CHECK(error.code() == bad.code);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(bad.words));
    CHECK((read_bytes(path) == before));
    CHECK(folder.count() == 1);
  }
}
