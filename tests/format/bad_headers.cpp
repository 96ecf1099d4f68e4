// Headers that are refused.

#include <torch_npy/format/header.hpp>

#include <string>

#include "support/bad_input.hpp"
#include "support/catch.hpp"
#include "support/headers.hpp"

using namespace torch_npy;

TEST_CASE("every bad header throws Error with code, byte offset and reason", "[header][bad]") {
  for (const BadInput& bad : bad_inputs()) {
    INFO(bad.name);
    if (bad.header_parses) {
      CHECK_NOTHROW(parse(bad.bytes));
      continue;
    }
    const Error error = error_of([&] { parse(bad.bytes); });
    INFO(error.what());
    CHECK(error.code() == bad.code);
    CHECK(error.offset() == bad.offset);
    CHECK(error.path().empty());
    CHECK_THAT(error.what(), says(bad.words));
  }
}

TEST_CASE("a header truncated at any byte throws Error", "[header][bad]") {
  const std::string whole = npy(header_text("[('a', '<f4', (2, 3)), ('b', '<M8[ns]')]", "(2, 3)"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    CHECK_THROWS_AS(parse(whole.substr(0, size)), Error);
    // The length field matches the truncated text.
    if (size > 10) CHECK_THROWS_AS(parse(npy(whole.substr(10, size - 11))), Error);
  }
}
