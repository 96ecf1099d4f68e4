// Catch2 2 and 3. Comes after LibTorch's headers, in each file: both define CHECK, and the tests
// mean Catch2's. Without an include guard, because several files are compiled as one.
#include "support/catch_once.hpp"

#undef CHECK
#define CHECK(...) \
  INTERNAL_CATCH_TEST("CHECK", Catch::ResultDisposition::ContinueOnFailure, __VA_ARGS__)
