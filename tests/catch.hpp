#pragma once

// Catch2 2 and 3. Comes after LibTorch's headers: both define CHECK, and the tests mean Catch2's.
#include <string>

#undef CHECK
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

/// Matches a message with these words in it.
inline auto says(const std::string& words) {
#if __has_include(<catch2/catch_all.hpp>)
  return Catch::Matchers::ContainsSubstring(words);
#else
  return Catch::Matchers::Contains(words);
#endif
}
