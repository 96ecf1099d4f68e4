# CMake's rules for a Mac leave this out where it does not know the version of macOS.
set(CMAKE_SHARED_LIBRARY_RUNTIME_C_FLAG "-Wl,-rpath,")
