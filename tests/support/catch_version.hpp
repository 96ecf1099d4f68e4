#pragma once

// CMake tells which Catch2 it found: the headers of another one may be installed as well.
#ifndef TORCH_NPY_CATCH2_MAJOR
#if __has_include(<catch2/catch_all.hpp>)
#define TORCH_NPY_CATCH2_MAJOR 3
#else
#define TORCH_NPY_CATCH2_MAJOR 2
#endif
#endif
