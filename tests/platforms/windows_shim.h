// What the headers of LibTorch use and mingw-w64 does not have.
extern "C" void __assert_fail(const char*, const char*, unsigned, const char*) noexcept;
