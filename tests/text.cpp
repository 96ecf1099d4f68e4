// Error messages: their parts, and what they escape.

#include <torch_npy/error.hpp>
#include <torch_npy/io/file.hpp>  // paths from UTF-8
#include <torch_npy/text.hpp>

#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "support/catch.hpp"

using namespace torch_npy;

TEST_CASE("an Error tells the path, the reason and the byte offset", "[error]") {
  const Error error(ErrorCode::BadHeader, "bad header: x", 7);
  CHECK(std::string(error.what()) == "bad header: x");
  const Error there(ErrorCode::BadHeader, "bad header: x", 7, "a/b.npy");
  CHECK(std::string(there.what()) == "a/b.npy: bad header: x");
  CHECK(there.path() == "a/b.npy");
  CHECK(there.code() == ErrorCode::BadHeader);
  CHECK(there.offset() == 7);
  // libstdc++'s old ABI does not declare that of its own exceptions.
  static_assert(std::is_nothrow_copy_constructible_v<Error> ==
                std::is_nothrow_copy_constructible_v<std::runtime_error>);
  Error source(ErrorCode::Io, "x", 1);
  const Error taken = std::move(source);
  CHECK(source.path().empty());  // NOLINT(bugprone-use-after-move): it is a copy
  // File names can be hostile, too.
  CHECK_THAT(Error(ErrorCode::Io, "x", 0, detail::path_of("a\x1b[31m\n\xc3\xa4.npy")).what(),
             says("a\\x1b[31m\\x0a\xc3\xa4.npy: x"));
}

TEST_CASE("messages escape control characters and invalid UTF-8", "[error]") {
  const Error error(ErrorCode::Io, "a reason", 0,
                    detail::path_of("a\n\x1b[2J\xc2\x9b"
                                    "2J\xc2\xa0\xc3\xa9.npy"));
  CHECK(error.what() == std::string("a\\x0a\\x1b[2J\\xc2\\x9b"
                                    "2J\xc2\xa0\xc3\xa9.npy: a reason"));
  CHECK(detail::shown("\xc3\xa9\x01") == "\"\\xc3\\xa9\\x01\"");
  // Invalid UTF-8, and a character that changes the direction of writing.
  CHECK(detail::escaped("a\x9b"
                        "b\xe2\x80\xae"
                        "c\xe2\x82\xac\xe2\x82") ==
        "a\\x9b"
        "b\\xe2\\x80\\xae"
        "c\xe2\x82\xac\\xe2\\x82");
}
