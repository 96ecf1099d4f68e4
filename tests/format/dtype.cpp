// Type strings and structured dtypes.

#include <torch_npy/format/dtype.hpp>

#include <cstdint>
#include <string>

#include "support/catch.hpp"
#include "support/headers.hpp"

using namespace torch_npy;

TEST_CASE("a type string gives kind, byte order and size", "[dtype]") {
  struct Row {
    const char* text;
    char kind;
    char order;
    std::int64_t size;
    const char* written;
  };
  const char native = detail::native_byte_order();
  const std::string f4 = std::string(1, native) + "f4";
  for (const Row& row : {Row{"'|b1'", 'b', '|', 1, "|b1"},
                         {"'<i2'", 'i', '<', 2, "<i2"},
                         {"'>i8'", 'i', '>', 8, ">i8"},
                         {"'>u1'", 'u', '|', 1, "|u1"},
                         {"'<u4'", 'u', '<', 4, "<u4"},
                         {"'<f2'", 'f', '<', 2, "<f2"},
                         {"'=f4'", 'f', native, 4, f4.c_str()},
                         {"'|f4'", 'f', native, 4, f4.c_str()},
                         {"'f4'", 'f', native, 4, f4.c_str()},
                         {"'>c16'", 'c', '>', 16, ">c16"},
                         {"'<f16'", 'f', '<', 16, "<f16"},
                         {"'<U5'", 'U', '<', 20, "<U5"},
                         {"'>S5'", 'S', '|', 5, "|S5"},
                         {"'<V2'", 'V', '|', 2, "|V2"},
                         {"'|O'", 'O', '|', 8, "|O"},
                         {"'|O8'", 'O', '|', 8, "|O"},
                         {"'<M8'", 'M', '<', 8, "<M8"}}) {
    INFO(row.text);
    const DType dtype = dtype_of(row.text);
    CHECK(dtype.kind == row.kind);
    CHECK(dtype.byte_order == row.order);
    CHECK(dtype.item_size == row.size);
    CHECK(dtype.descr() == row.written);
    CHECK(dtype.is_swapped() == (row.order != '|' && row.order != native));
  }
}

TEST_CASE("a datetime dtype keeps its unit", "[dtype]") {
  CHECK(dtype_of("'<M8[ns]'").unit == "ns");
  CHECK(dtype_of("'>m8[25s]'").unit == "25s");
  CHECK(dtype_of("'<M8[generic]'").unit.empty());
  CHECK(dtype_of("'<M8[25s]'").descr() == "<M8[25s]");
  for (const char* unit : {"Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"}) {
    CHECK(dtype_of(std::string("'<m8[") + unit + "]'").unit == unit);
  }
}

TEST_CASE("the fields of a structured dtype have names, titles, offsets and shapes", "[dtype]") {
  // The value of numpy.dtype([(('Title', 'a b'), '<f4'), ('b', [('x', 'u1'), ('y', '>i8')], (2,
  // 3)),
  // ('c', 'S3')], align=True).descr, including padding.
  const std::string descr =
      "[(('Title', 'a b'), '<f4'), ('', '|V4'), ('b', [('x', '|u1'), ('', '|V7'), ('y', '>i8')], "
      "(2, 3)), "
      "('c', '|S3'), ('', '|V5')]";
  const DType dtype = dtype_of(descr);
  REQUIRE(dtype.fields.size() == 3);
  CHECK(dtype.item_size == 112);
  CHECK(dtype.fields[0].name == "a b");
  CHECK(dtype.fields[0].title == "Title");
  CHECK(dtype.fields[1].offset == 8);
  CHECK(dtype.fields[1].shape == Shape{2, 3});
  REQUIRE(dtype.fields[1].dtype.fields.size() == 2);
  CHECK(dtype.fields[1].dtype.item_size == 16);
  CHECK(dtype.fields[1].dtype.fields[1].offset == 8);
  CHECK(dtype.fields[1].dtype.fields[1].dtype.byte_order == '>');
  CHECK(dtype.fields[2].offset == 104);
  CHECK(dtype.descr() == descr);
  CHECK(dtype_of("[('a', '<f4', 3)]").fields[0].shape == Shape{3});
}

TEST_CASE("structured dtypes that NumPy refuses are refused", "[dtype]") {
  for (const char* descr : {"[(('a', 'a'), '<f4')]", "[('a', '|S0', (3,))]", "[('a', '<U0', ())]",
                            "[('a', ('|S0', (3,)))]", "[('a', ('<f4', (0,)), (3,))]"}) {
    CHECK_THROWS_AS(dtype_of(descr), Error);
  }
}

TEST_CASE("a field whose dtype is a sub-array has its axes", "[dtype]") {
  const auto shape = [](const std::string& field) {
    return dtype_of("[" + field + "]").fields[0].shape;
  };
  CHECK(shape("('b', ('<f4', (2,)))") == Shape{2});
  CHECK(shape("('b', ('<f4', ()))").empty());
  CHECK(shape("('b', ('<f4', 2))") == Shape{2});
  // As np.save writes numpy.dtype([('b', numpy.dtype(('<f4', (2,))), (3,))]).
  CHECK(shape("('b', ('<f4', (2,)), (3,))") == Shape{3, 2});
  CHECK(shape("('b', (('<f4', (5, 4)), (3, 2)), (1,))") == Shape{1, 3, 2, 5, 4});
  CHECK(shape("('b', ([('x', '|u1')], (2,)))") == Shape{2});
  const DType dtype = dtype_of("[('b', ('<f4', (2,)), (3,)), ('c', '|u1')]");
  CHECK(dtype.item_size == 25);
  CHECK(dtype.fields[1].offset == 24);
  CHECK(dtype.descr() == "[('b', '<f4', (3, 2)), ('c', '|u1')]");
}

TEST_CASE("a field without a name is padding", "[dtype]") {
  CHECK(dtype_of("[('', '<f4', (2,)), ('b', '<i2')]").fields.size() == 1);
}

TEST_CASE("field names are UTF-8 in every format version", "[dtype]") {
  const std::string utf8 = "\xc3\xa9";  // e with an acute accent
  CHECK(dtype_of("[('\xe9', '<f4')]", 1).fields[0].name == utf8);
  CHECK(dtype_of("[('\xe9', '<f4')]", 2).fields[0].name == utf8);
  CHECK(dtype_of("[('" + utf8 + "', '<f4')]", 3).fields[0].name == utf8);
  CHECK(dtype_of("[('\\xe9', '<f4')]", 3).fields[0].name == utf8);
  CHECK(dtype_of("[('\\u00e9\\U0001f600', '<f4')]", 1).fields[0].name == utf8 + "\xf0\x9f\x98\x80");
  CHECK(dtype_of("[('\\a\\b\\f\\n\\r\\t\\v\\\\\\'\\\"\\101', '<f4')]").fields[0].name ==
        "\a\b\f\n\r\t\v\\'\"A");
  CHECK(dtype_of("[(\"it's\", '<f4')]").fields[0].name == "it's");
}
