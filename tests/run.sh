#!/usr/bin/env bash
# Builds and runs every test:
#
#   bash tests/run.sh
#
# Works from any folder. What is missing is installed from Debian's packages (as root or with sudo).
# A LibTorch in Torch_DIR, CMAKE_PREFIX_PATH or the active Python is used before one is installed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/tests
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"

echo "Step 1 of 4: finding a compiler, CMake, Ninja, LibTorch, Catch2, NumPy, Gloo and libdeflate"
setup_build_tools
setup_libtorch
setup_catch2
setup_numpy
setup_gloo
setup_libdeflate
need unzip unzip
need pkg-config pkgconf
need doxygen doxygen

echo "Step 2 of 4: configuring $build"
# -O0, because compiling takes most of the time: with -O1 it takes a third longer.
# tests/compilers.sh and the fuzzers have -O3. tests/nightly.sh compiles each header alone. All cases of a program run in
# one process, because a process takes half a second to load LibTorch.
output=$(configure "$root" "$build" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O0 -DNDEBUG" -DTORCH_NPY_BUILD_TESTS=ON \
  -DTORCH_NPY_TEST_EACH_CASE=OFF -DTORCH_NPY_TEST_EACH_HEADER=OFF -DTORCH_NPY_BUILD_EXAMPLES=ON \
  "-DTORCH_NPY_PYTHON=$TORCH_NPY_PYTHON" 2>&1) ||
  die "$output" "CMake could not configure $build"

echo "Step 3 of 4: building (LibTorch's headers are large, the first time takes some minutes)"
cmake --build "$build"

echo "Step 4 of 4: testing"
ctest --test-dir "$build" --output-on-failure -j "$(nproc)"
