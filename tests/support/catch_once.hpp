#pragma once

// Catch2 2 and 3, and what the tests add to it.
#include <stdexcept>
#include <string>

#include <torch_npy/error.hpp>

#include "support/catch_version.hpp"

#undef CHECK
#if TORCH_NPY_CATCH2_MAJOR >= 3
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

/// Matches a message with these words in it.
inline auto says(const std::string& words) {
#if TORCH_NPY_CATCH2_MAJOR >= 3
  return Catch::Matchers::ContainsSubstring(words);
#else
  return Catch::Matchers::Contains(words);
#endif
}

/// What the call throws; fails the test when it throws nothing.
template <class Call>
torch_npy::Error error_of(const Call& call) {
  try {
    call();
  } catch (const torch_npy::Error& error) {
    return error;
  }
  FAIL("nothing was thrown");
  throw std::logic_error("not reached");
}
