// Headers that are written, and read again.

#include <torch_npy/format/header.hpp>

#include <string>

#include "support/catch.hpp"
#include "support/headers.hpp"

using namespace torch_npy;

TEST_CASE("format_header() writes NumPy's bytes, and they parse to the same header", "[header]") {
  Header header;
  header.dtype = *detail::parse_type_string("<f4");
  header.shape = {3, 4};
  const std::string bytes = format_header(header);
  // np.save of float32 (3, 4), NumPy 1.23 and later: 21 digits of room for the first axis.
  CHECK(bytes == std::string("\x93NUMPY\x01\0v\0", 10) +
                     "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }" +
                     std::string(58, ' ') + "\n");
  for (const std::string descr :
       {"'>i2'", "'|b1'", "'<M8[25s]'",
        "[('a', '<f4'), ('', '|V4'), ('b', [('x', '|u1')], (2, 3))]", "[('\xc3\xa9', '<f4')]",
        "[('\xe2\x82\xac', '<f4')]", "[(\"it's\", '<f4'), ('\\n\\x01\\\\', '|S3')]"}) {
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{2, 0, 3}, Shape(64, 1)}) {
      for (const bool fortran_order : {false, true}) {
        INFO(descr);
        header.dtype = dtype_of(descr, 3);
        header.shape = shape;
        header.fortran_order = fortran_order;
        const std::string text = format_header(header);
        const Header again = parse(text);
        CHECK(again.dtype == header.dtype);
        CHECK(again.shape == shape);
        CHECK(again.fortran_order == fortran_order);
        CHECK(again.data_offset == text.size());
        CHECK(text.size() % 64 == 0);
      }
    }
  }
}

TEST_CASE("format_header() chooses the oldest sufficient version", "[header]") {
  Header header;
  header.dtype = dtype_of("[('\xc3\xa9', '<f4')]", 3);
  CHECK(parse(format_header(header)).version == 1);  // fits in Latin-1
  header.dtype = dtype_of("[('\xe2\x82\xac', '<f4')]", 3);
  CHECK(parse(format_header(header)).version == 3);
  std::string fields = "[";
  for (int i = 0; i < 5000; ++i) fields += "('field" + std::to_string(i) + "', '<f4'), ";
  const std::string text = header_text(fields + "]", "(2,)");
  const std::string bytes = npy(text, "", 2);
  header = parse_header(bytes.data(), bytes.size(), 1000000);
  const std::string written = format_header(header);
  CHECK(parse_header(written.data(), written.size(), 1000000).version == 2);
}

TEST_CASE("numel() and nbytes() follow from shape and dtype", "[header]") {
  const Header header = parse(npy(header_text("'<f8'", "(3, 0, 2)")));
  CHECK(header.numel() == 0);
  CHECK(header.nbytes() == 0);
  CHECK(parse(npy(header_text("'<f8'", "()"))).nbytes() == 8);
  CHECK(parse(npy(header_text("'<c16'", "(3, 2)"))).nbytes() == 96);
}

TEST_CASE("max_header_size counts characters, as NumPy does", "[header]") {
  const std::string text = header_text("'<f4'", "(2,)");
  const std::string ascii = npy(text);
  CHECK_NOTHROW(parse_header(ascii.data(), ascii.size(), text.size()));
  CHECK_THROWS_AS(parse_header(ascii.data(), ascii.size(), text.size() - 1), Error);
  const std::string euro = npy(text + "#\xe2\x82\xac", "", 3);
  CHECK_NOTHROW(parse_header(euro.data(), euro.size(), text.size() + 2));
  CHECK_THROWS_AS(parse_header(euro.data(), euro.size(), text.size() + 1), Error);
}
