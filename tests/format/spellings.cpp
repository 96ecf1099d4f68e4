// Type strings in all spellings that NumPy reads.

#include <torch_npy/format/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <string>

#include "support/catch.hpp"
#include "support/headers.hpp"

using namespace torch_npy;

namespace {

/// The canonical type string in this machine's byte order.
std::string native(char kind, std::size_t size) {
  return (size == 1 ? '|' : detail::native_byte_order()) + std::string(1, kind) +
         std::to_string(size);
}

struct Spelling {
  std::string text;
  std::string descr;
};

void check_spelling(const Spelling& row) {
  INFO(row.text);
  const auto dtype = detail::parse_type_string(row.text);
  REQUIRE(dtype);
  CHECK(dtype->descr() == row.descr);
  CHECK(detail::parse_type_string(dtype->descr()) == dtype);
  if (row.text.find_first_of("\t\n\v\f\r") != row.text.npos) return;  // not without an escape
  CHECK(dtype_of("'" + row.text + "'", 3) == *dtype);
  CHECK(dtype_of("[('a', '" + row.text + "')]", 3).fields.at(0).dtype == *dtype);
}

}  // namespace

TEST_CASE("every letter that NumPy has for a type is read", "[dtype]") {
  for (const Spelling& row : {Spelling{"?", "|b1"},
                              {"b", "|i1"},
                              {"B", "|u1"},
                              {"h", native('i', sizeof(short))},
                              {"H", native('u', sizeof(short))},
                              {"i", native('i', sizeof(int))},
                              {"I", native('u', sizeof(int))},
                              {"l", native('i', sizeof(long))},
                              {"L", native('u', sizeof(long))},
                              {"q", native('i', sizeof(long long))},
                              {"Q", native('u', sizeof(long long))},
                              {"p", native('i', sizeof(void*))},
                              {"P", native('u', sizeof(void*))},
                              {"n", native('i', sizeof(void*))},
                              {"N", native('u', sizeof(void*))},
                              {"e", native('f', 2)},
                              {"f", native('f', 4)},
                              {"d", native('f', 8)},
                              {"g", native('f', sizeof(long double))},
                              {"F", native('c', 8)},
                              {"D", native('c', 16)},
                              {"G", native('c', 2 * sizeof(long double))},
                              {"O", "|O"},
                              {"S", "|S0"},
                              {"a", "|S0"},
                              {"c", "|S1"},
                              {"U", native('U', 0)},
                              {"V", "|V0"},
                              {"M", native('M', 8)},
                              {"m", native('m', 8)}}) {
    check_spelling(row);
    check_spelling({"=" + row.text, row.descr});
    check_spelling({"|" + row.text, row.descr});
    for (const char order : {'<', '>'}) {
      std::string descr = row.descr;
      if (descr[0] != '|') descr[0] = order;
      check_spelling({order + row.text, descr});
    }
  }
}

TEST_CASE("every name that NumPy has for a type is read", "[dtype]") {
  for (const Spelling& row : {Spelling{"bool", "|b1"},
                              {"bool_", "|b1"},
                              {"bool8", "|b1"},
                              {"int8", "|i1"},
                              {"int16", native('i', 2)},
                              {"int32", native('i', 4)},
                              {"int64", native('i', 8)},
                              {"uint8", "|u1"},
                              {"uint16", native('u', 2)},
                              {"uint32", native('u', 4)},
                              {"uint64", native('u', 8)},
                              {"float16", native('f', 2)},
                              {"float32", native('f', 4)},
                              {"float64", native('f', 8)},
                              {"float128", native('f', 16)},
                              {"complex64", native('c', 8)},
                              {"complex128", native('c', 16)},
                              {"complex256", native('c', 32)},
                              {"byte", "|i1"},
                              {"ubyte", "|u1"},
                              {"short", native('i', sizeof(short))},
                              {"ushort", native('u', sizeof(short))},
                              {"intc", native('i', sizeof(int))},
                              {"uintc", native('u', sizeof(int))},
                              {"long", native('i', sizeof(long))},
                              {"ulong", native('u', sizeof(long))},
                              {"longlong", native('i', sizeof(long long))},
                              {"ulonglong", native('u', sizeof(long long))},
                              {"int", native('i', sizeof(void*))},
                              {"int_", native('i', sizeof(void*))},
                              {"int0", native('i', sizeof(void*))},
                              {"intp", native('i', sizeof(void*))},
                              {"uint", native('u', sizeof(void*))},
                              {"uint0", native('u', sizeof(void*))},
                              {"uintp", native('u', sizeof(void*))},
                              {"half", native('f', 2)},
                              {"single", native('f', 4)},
                              {"double", native('f', 8)},
                              {"float", native('f', 8)},
                              {"float_", native('f', 8)},
                              {"longdouble", native('f', sizeof(long double))},
                              {"longfloat", native('f', sizeof(long double))},
                              {"csingle", native('c', 8)},
                              {"singlecomplex", native('c', 8)},
                              {"cdouble", native('c', 16)},
                              {"cfloat", native('c', 16)},
                              {"complex", native('c', 16)},
                              {"complex_", native('c', 16)},
                              {"clongdouble", native('c', 2 * sizeof(long double))},
                              {"clongfloat", native('c', 2 * sizeof(long double))},
                              {"longcomplex", native('c', 2 * sizeof(long double))},
                              {"object", "|O"},
                              {"object_", "|O"},
                              {"object0", "|O"},
                              {"bytes", "|S0"},
                              {"bytes_", "|S0"},
                              {"bytes0", "|S0"},
                              {"string_", "|S0"},
                              {"str", native('U', 0)},
                              {"str_", native('U', 0)},
                              {"str0", native('U', 0)},
                              {"unicode", native('U', 0)},
                              {"unicode_", native('U', 0)},
                              {"void", "|V0"},
                              {"void0", "|V0"},
                              {"datetime64", native('M', 8)},
                              {"timedelta64", native('m', 8)}}) {
    check_spelling(row);
  }
}

TEST_CASE("a size is read as C's strtol() reads it", "[dtype]") {
  for (const Spelling& row : {Spelling{"<f04", "<f4"},
                              {">i+8", ">i8"},
                              {"<u 2", "<u2"},
                              {"<u\t\n\v\f\r2", "<u2"},
                              {"<c 0016", "<c16"},
                              {"S-0", "|S0"},
                              {"a5", "|S5"},
                              {">a05", "|S5"},
                              {">U03", ">U3"},
                              {"<V2147483647", "|V2147483647"},
                              {"<U536870911", "<U536870911"},
                              {"|O4", "|O"},
                              {">m08", ">m8"}}) {
    check_spelling(row);
  }
}

TEST_CASE("a datetime unit is read with its count and divisor", "[dtype]") {
  for (const Spelling& row : {Spelling{">datetime64[ns]", ">M8[ns]"},
                              {"<timedelta64[25s]", "<m8[25s]"},
                              {"<M8[generic]", "<M8"},
                              {"<M8[3generic/1]", "<M8"},
                              {"<M8[1ns]", "<M8[ns]"},
                              {"<M8[010ns]", "<M8[10ns]"},
                              {"<M8[ 5s]", "<M8[5s]"},
                              {"<M8[0s]", "<M8[0s]"},
                              {"<M8[\xce\xbcs]", "<M8[us]"},
                              {"<m8[s/1]", "<m8[s]"},
                              {"<m8[Y/12]", "<m8[M]"},
                              {"<m8[Y/26]", "<m8[2W]"},
                              {"<m8[Y/5]", "<m8[73D]"},
                              {"<m8[M/4]", "<m8[W]"},
                              {"<m8[M/3]", "<m8[10D]"},
                              {"<m8[M/720]", "<m8[h]"},
                              {"<m8[W/7]", "<m8[D]"},
                              {"<m8[W/2]", "<m8[84h]"},
                              {"<m8[W/10080]", "<m8[m]"},
                              {"<m8[D/24]", "<m8[h]"},
                              {"<m8[D/86400]", "<m8[s]"},
                              {"<m8[h/8]", "<m8[450s]"},
                              {"<m8[m/7]", ""},
                              {"<m8[m/8]", "<m8[7500ms]"},
                              {"<m8[25s/5]", "<m8[5000ms]"},
                              {"<m8[ms/ 500000]", "<m8[2ns]"},
                              {"<m8[fs/2]", "<m8[500as]"},
                              {"<m8[fs/1000000]", ""},
                              {"<m8[as/1000]", ""},
                              {"<m8[generic/2]", ""}}) {
    if (row.descr.empty()) {
      INFO(row.text);
      CHECK_FALSE(detail::parse_type_string(row.text));
    } else {
      check_spelling(row);
    }
  }
}

TEST_CASE("a text that names no scalar type of NumPy is refused", "[dtype]") {
  for (const char* text : {"",
                           "<",
                           "|",
                           "<<f4",
                           "f4,i4",
                           "f4,",
                           "(2,)f4",
                           "2f4",
                           "1f4",
                           "()f4",
                           "f3",
                           "f1",
                           "f32",
                           "i16",
                           "b2",
                           "b8",
                           "c4",
                           "u",
                           "f-4",
                           "f--0",
                           "f +-4",
                           "f4 ",
                           " f4",
                           "f4\n",
                           "f0x4",
                           "f4.0",
                           "S-1",
                           "S5x",
                           "V2147483648",
                           "U536870912",
                           "B1",
                           "?1",
                           "d8",
                           "e2",
                           "l8",
                           "p8",
                           "O16",
                           "O0",
                           "T",
                           "M4",
                           "m16",
                           "X",
                           "float32 ",
                           " float32",
                           "<float32",
                           "=int",
                           "Float32",
                           "FLOAT32",
                           "float8",
                           "float032",
                           "float31",
                           "complex32",
                           "int128",
                           "int64_",
                           "bool bool_",
                           "bool bool",
                           "bool ",
                           "float+32",
                           "datetime",
                           "datetime32",
                           "M8 ",
                           "M8[]",
                           "M8[",
                           "M8[s",
                           "M8[s]]",
                           "M8[s]x",
                           "M8 [s]",
                           "M[s]",
                           "<M08[s]",
                           "M8[B]",
                           "M8[5]",
                           "M8[1 s]",
                           "M8[s ]",
                           "M8[-1s]",
                           "M8[s/]",
                           "M8[s/0]",
                           "M8[s/-2]",
                           "M8[s/2x]",
                           "M8[s//2]",
                           "M8[s/3]",
                           "M8[/2]",
                           "M8[2147483648s]",
                           "f8[s]",
                           "S8[s]",
                           "string",
                           "none",
                           "\x07",
                           "\xef\xbc\x98",
                           "f\xd9\xa4",
                           "M8[s/7]",
                           "M8[\xc2\xb5s]",
                           "M8[2147483647m/2]"}) {
    INFO(text);
    CHECK_FALSE(detail::parse_type_string(text));
  }
  // The name of longdouble where it has 12 bytes.
  CHECK(detail::parse_type_string("float96").has_value() == (sizeof(long double) == 12));
  CHECK_FALSE(detail::parse_type_string(std::string("\0", 1)));
  CHECK_FALSE(detail::parse_type_string(std::string("f4\0", 3)));
}
