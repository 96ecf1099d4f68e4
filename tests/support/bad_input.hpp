#pragma once

#include <string>
#include <vector>

#include <torch_npy/error.hpp>

#include "support/files.hpp"

/// Bytes that cannot be loaded into a tensor, and the Error that they give.
struct BadInput {
  const char* name;
  std::string bytes;
  torch_npy::ErrorCode code;
  std::uint64_t offset;
  const char* words;  ///< a part of the message
  bool header_parses = false;
};

inline std::vector<BadInput> bad_inputs() {
  using torch_npy::ErrorCode;
  const std::string f4 = "'<f4'";
  const auto text = [&](const std::string& shape) { return header_text(f4, shape); };
  const auto shape = [&](const std::string& s) { return npy(text(s), std::string(64, 'x')); };
  const auto descr = [&](const std::string& d) {
    return npy(header_text(d, "(2,)"), std::string(64, 'x'));
  };
  const auto order = [&](const std::string& o) {
    return npy(header_text(f4, "(2,)", o), std::string(64, 'x'));
  };
  const std::string good = npy(text("(2, 3)"), std::string(24, 'x'));
  const std::string huge = "999999999999999999";
  const auto ones = [](int count) {
    std::string numbers;
    for (int i = 0; i < count; ++i) numbers += "1,";
    return numbers;
  };
  return {
      {"empty file", "", ErrorCode::Truncated, 0, "empty"},
      {"5 bytes", "\x93NUMP", ErrorCode::Truncated, 5, "there are 5"},
      {"5 bytes of something else", "hello", ErrorCode::NotNpy, 0, "starts with \"hello\""},
      {"wrong magic", "\x93NUMPX" + good.substr(6), ErrorCode::NotNpy, 0, "not an .npy file"},
      {"one letter of the magic", "N" + good.substr(1), ErrorCode::NotNpy, 0, "not an .npy file"},
      {"a zip archive", "PK\x03\x04 and so on", ErrorCode::NotNpy, 0, ".npz archive"},
      {"a gzip file", "\x1f\x8b\x08 and so on", ErrorCode::NotNpy, 0, "unpack it first"},
      {"a Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0",
       ErrorCode::NotNpy, 0, "git lfs pull"},
      {"the error page of a server", "\n<!DOCTYPE HTML><title>\x1b[2J", ErrorCode::NotNpy, 0,
       "an HTML or XML page"},
      {"version 9.9", std::string("\x93NUMPY\x09\x09") + good.substr(8),
       ErrorCode::UnsupportedVersion, 6, "9.9"},
      {"version 1.1", std::string("\x93NUMPY\x01\x01") + good.substr(8),
       ErrorCode::UnsupportedVersion, 6, "1.1"},
      {"version 0.0", std::string("\x93NUMPY\0\0", 8) + good.substr(8),
       ErrorCode::UnsupportedVersion, 6, "0.0"},
      {"version 4.0", std::string("\x93NUMPY\x04\0", 8) + good.substr(8),
       ErrorCode::UnsupportedVersion, 6, "4.0"},
      {"length cut short", good.substr(0, 9), ErrorCode::Truncated, 9, "there are 9"},
      {"length of version 2 cut short", npy("", "", 2).substr(0, 11), ErrorCode::Truncated, 11,
       "there are 11"},
      {"header cut short", good.substr(0, 40), ErrorCode::Truncated, 40, "header cut short"},
      {"header longer than the file", npy(std::string(5000, ' ')).substr(0, 100),
       ErrorCode::Truncated, 100, "ends at byte 5010"},
      {"4 GiB header in 20 bytes", std::string("\x93NUMPY\x02\0\xff\xff\xff\xff        ", 20),
       ErrorCode::TooLarge, 8, "max_header_size"},
      {"the same in version 3", std::string("\x93NUMPY\x03\0\xff\xff\xff\xff        ", 20),
       ErrorCode::TooLarge, 8, "max_header_size"},
      {"header over the limit", npy(text("(2,)") + std::string(10000, ' ')), ErrorCode::TooLarge, 8,
       "max_header_size"},
      {"a record of 4,000 fields",
       npy(header_text(
               [] {
                 std::string fields;
                 for (int i = 0; i < 4000; ++i)
                   fields += "('a_field_" + std::to_string(i) + "', '<f4'), ";
                 return "[" + fields + "]";
               }(),
               "(2,)"),
           "", 2),
       ErrorCode::TooLarge, 8, "is over the limit max_header_size, 10000"},
      {"no text", npy(""), ErrorCode::BadHeader, 10, "expected '{'"},
      {"no opening brace", npy("'descr': '<f4'}"), ErrorCode::BadHeader, 10, "expected '{'"},
      {"no closing brace", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), \n"),
       ErrorCode::BadHeader, 67, "expected a string"},
      {"missing key", npy("{'descr': '<f4', 'shape': (2,)}\n"), ErrorCode::BadHeader, 42,
       "'fortran_order' is missing"},
      {"no key at all", npy("{}"), ErrorCode::BadHeader, 12, "'descr' is missing"},
      {"extra key", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'x': 1}"),
       ErrorCode::BadHeader, 66, "unknown key \"x\""},
      {"doubled key",
       npy("{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (2,)}"),
       ErrorCode::BadHeader, 27, "duplicate key \"descr\""},
      {"key without quotes", npy("{descr: '<f4'}"), ErrorCode::BadHeader, 11, "expected a string"},
      {"unclosed string", npy("{'descr: <f4\n"), ErrorCode::BadHeader, 22, "closing quote"},
      {"no colon", npy("{'descr' '<f4'}"), ErrorCode::BadHeader, 19, "expected ':'"},
      {"no comma", npy("{'descr': '<f4' 'shape': (2,)}"), ErrorCode::BadHeader, 26, "expected '}'"},
      {"text after the brace", npy(text("(2,)") + "x"), ErrorCode::BadHeader, 68,
       "after the closing brace"},
      {"padded with zero bytes", npy(text("(2,)") + std::string(4, '\0')), ErrorCode::BadHeader, 68,
       "a zero byte"},
      {"line ends changed to those of Windows", npy(text("(2,)") + "   \r", "\n12345678"),
       ErrorCode::BadHeader, 71, "the file was copied as text"},
      {"zero byte in a comment", npy(text("(2,)") + std::string("# \0", 3)), ErrorCode::BadHeader,
       70, "a zero byte"},
      {"unit without a size", descr("'<M[ns]'"), ErrorCode::UnsupportedDtype, 20, "unknown dtype"},
      {"a letter of no type", descr("'|X'"), ErrorCode::UnsupportedDtype, 20, "unknown dtype"},
      {"a list of dtypes in one string", descr("'f4,i4'"), ErrorCode::UnsupportedDtype, 20,
       "unknown dtype"},
      {"bad UTF-8", npy(text("(2,)") + "# \xff", "", 3), ErrorCode::BadHeader, 72, "UTF-8"},
      {"overlong UTF-8", npy(text("(2,)") + "# \xc0\x80", "", 3), ErrorCode::BadHeader, 72,
       "UTF-8"},
      {"a surrogate in UTF-8", npy(text("(2,)") + "# \xed\xa0\x80", "", 3), ErrorCode::BadHeader,
       72, "UTF-8"},
      {"\\N escape", descr("'\\N{DIGIT ONE}'"), ErrorCode::BadHeader, 21,
       "unsupported escape sequence"},
      {"half an escape", descr("'\\x4'"), ErrorCode::BadHeader, 24, "incomplete escape sequence"},
      {"fortran_order 1", order("1"), ErrorCode::BadHeader, 44, "True or False"},
      {"fortran_order None", order("None"), ErrorCode::BadHeader, 44, "True or False"},
      {"negative dimension", shape("(-1,)"), ErrorCode::BadHeader, 61, "negative"},
      {"dimension of 2^63", shape("(9223372036854775808,)"), ErrorCode::TooLarge, 61, "63 bits"},
      {"dimension of 2^64", shape("(18446744073709551616,)"), ErrorCode::TooLarge, 61, "63 bits"},
      {"bytes overflow", shape("(9223372036854775807,)"), ErrorCode::TooLarge, 60, "63 bits"},
      {"product overflows", shape("(4294967296, 4294967296, 4294967296)"), ErrorCode::TooLarge, 60,
       "63 bits"},
      {"product overflows to 0", shape("(4611686018427387904, 4611686018427387904)"),
       ErrorCode::TooLarge, 60, "63 bits"},
      {"overflow beside 0", shape("(0, 4611686018427387904)"), ErrorCode::TooLarge, 60, "63 bits"},
      {"a number for a shape", shape("2"), ErrorCode::BadHeader, 60, "expected '('"},
      {"a list for a shape", shape("[2]"), ErrorCode::BadHeader, 60, "expected '('"},
      {"no tuple", shape("(2)"), ErrorCode::BadHeader, 60, "comma"},
      {"two commas", shape("(2,,3)"), ErrorCode::BadHeader, 63, "expected a number"},
      {"a comma alone", shape("(,)"), ErrorCode::BadHeader, 61, "expected a number"},
      {"a float", shape("(2.0,)"), ErrorCode::BadHeader, 62, "expected ',' or ')'"},
      {"junk between numbers", shape("(2 3)"), ErrorCode::BadHeader, 63, "expected ',' or ')'"},
      {"leading zero", shape("(02,)"), ErrorCode::BadHeader, 61, "leading zero"},
      {"small l", shape("(2l,)"), ErrorCode::BadHeader, 62, "expected ',' or ')'"},
      {"2L in version 3", npy(text("(2L,)"), std::string(64, 'x'), 3), ErrorCode::BadHeader, 64,
       "expected ',' or ')'"},
      {"65 dimensions", shape("(" + ones(65) + ")"), ErrorCode::BadHeader, 189, "64 dimensions"},
      {"unknown dtype", descr("'<f3'"), ErrorCode::UnsupportedDtype, 20, "unknown dtype \"<f3\""},
      {"float8_e5m2 of ml_dtypes", descr("'<f1'"), ErrorCode::UnsupportedDtype, 20, "view('V1')"},
      {"no dtype", descr("''"), ErrorCode::UnsupportedDtype, 20, "unknown dtype"},
      {"a number for a dtype", descr("4"), ErrorCode::BadHeader, 20, "expected a string"},
      {"bool of 2 bytes", descr("'<b2'"), ErrorCode::UnsupportedDtype, 20, "unknown dtype"},
      {"unknown unit", descr("'<M8[fortnight]'"), ErrorCode::UnsupportedDtype, 20, "unknown dtype"},
      {"blank in a dtype", descr("'<f4 '"), ErrorCode::UnsupportedDtype, 20, "unknown dtype"},
      {"item over 2^31", descr("'|V2147483648'"), ErrorCode::UnsupportedDtype, 20, "unknown dtype"},
      {"control characters", descr("'\\x1b[2J'"), ErrorCode::UnsupportedDtype, 20, "\"\\x1b[2J\""},
      {"sub-array dtype", descr("('<f4', (2,))"), ErrorCode::UnsupportedDtype, 20,
       "a sub-array dtype for a whole array"},
      {"metadata of a dtype", descr("('|S3', {'some': 'stuff'})"), ErrorCode::UnsupportedDtype, 28,
       "the dtype has metadata"},
      {"metadata of a field", descr("[('b', ('|S3', {'some': 'stuff'}))]"),
       ErrorCode::UnsupportedDtype, 35, "the dtype has metadata"},
      {"metadata of a sub-array", descr("[('b', (('<f4', (2,)), {}))]"),
       ErrorCode::UnsupportedDtype, 43, "the dtype has metadata"},
      {"a tuple that is no dtype", descr("('<f4',)"), ErrorCode::BadHeader, 27,
       "expected a number"},
      {"sub-array without bytes", descr("[('b', ('<f4', (0,)), (2,))]"), ErrorCode::BadHeader, 42,
       "items of 0 bytes"},
      {"more than 64 axes in two parts",
       descr("[('b', ('|u1', (" + ones(40) + ")), (" + ones(40) + "))]"), ErrorCode::BadHeader, 202,
       "64 dimensions"},
      {"a sub-array over 2^31 in one of none", descr("[('a', ('<f8', (65536, 65536)), (0,))]"),
       ErrorCode::TooLarge, 28, "larger than NumPy allows"},
      {"sub-arrays nested without end", descr(std::string(3000, '(')), ErrorCode::BadHeader, 84,
       "64 deep"},
      {"field names twice", descr("[('a', '<f4'), ('a', '<f4')]"), ErrorCode::BadHeader, 48,
       "\"a\""},
      {"an empty name and an empty title", descr("[(('', ''), '|V4')]"), ErrorCode::BadHeader, 29,
       "name or title \"\""},
      {"an empty title and an empty name", descr("[(('', 'a'), '<f4'), ('', '<f4')]"),
       ErrorCode::BadHeader, 53, "name or title \"\""},
      {"record over 2^31", descr("[('a', '<f8', (" + huge + ",))]"), ErrorCode::TooLarge, 21,
       "larger than NumPy allows"},
      {"endless nesting", descr(std::string(3000, '[')), ErrorCode::BadHeader, 21, "expected '('"},
      {"deep fields", descr([] {
         std::string s;
         for (int i = 0; i < 100; ++i) s += "[('a',";
         return s;
       }()),
       ErrorCode::BadHeader, 404, "64 deep"},
      {"structured dtype", descr("[('a', '<f4')]"), ErrorCode::UnsupportedDtype, 0, "load_fields()",
       true},
      {"object dtype", descr("'|O'"), ErrorCode::UnsupportedDtype, 0, "pickled", true},
      {"strings", npy(header_text("'<U5'", "(2,)"), std::string(40, 'x')),
       ErrorCode::UnsupportedDtype, 0, "<U5", true},
      {"byte strings", descr("'|S5'"), ErrorCode::UnsupportedDtype, 0, "|S5", true},
      {"longdouble", descr("'<f16'"), ErrorCode::UnsupportedDtype, 0, "dtype(torch::kFloat64)",
       true},
      {"complex longdouble", descr("'<c32'"), ErrorCode::UnsupportedDtype, 0,
       "dtype(torch::kComplexDouble)", true},
      {"raw bytes of a size that no dtype has",
       npy(header_text("'|V18'", "(2,)"), std::string(36, 'x')), ErrorCode::UnsupportedDtype, 0,
       "no numeric type; raw_bytes(true)", true},
      {"raw bytes", descr("'|V2'"), ErrorCode::UnsupportedDtype, 0, "void_as(torch::kBFloat16)",
       true},
      {"data cut short by one byte", good.substr(0, good.size() - 1), ErrorCode::Truncated,
       good.size() - 1, "declares 24 bytes", true},
      {"no data", npy(text("(2, 3)")), ErrorCode::Truncated, 70, "there are 0", true},
      {"a terabyte promised", npy(text("(1099511627776,)"), "x"), ErrorCode::Truncated, 81,
       "declares 4398046511104 bytes", true},
  };
}
