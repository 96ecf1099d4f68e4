#!/usr/bin/env bash
# Builds and runs the tests of object stores, which need Apache Arrow and an S3 server:
#
#   bash tests/stores.sh
#
# Works from any folder. Takes both from the active Python, or from PyPI into a virtual environment in build/; ends with a
# line where neither has them.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/stores
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"

echo "Step 1 of 4: finding a compiler, CMake, Ninja, LibTorch, Catch2, Apache Arrow and an S3 server"
setup_build_tools
setup_libtorch
setup_catch2
mkdir -p "$root/build"
setup_arrow "$root/build/arrow-python" || exit 0

echo "Step 2 of 4: configuring $build"
output=$(configure "$root" "$build" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O0 -DNDEBUG" -DTORCH_NPY_BUILD_TESTS=ON \
  -DTORCH_NPY_TEST_EACH_CASE=OFF -DTORCH_NPY_TEST_CONSUMERS=OFF -DTORCH_NPY_WITH_ARROW=ON \
  "-DTORCH_NPY_PYARROW_PYTHON=$TORCH_NPY_PYARROW_PYTHON" "-DTORCH_NPY_S3_PYTHON=$TORCH_NPY_PYARROW_PYTHON" 2>&1) ||
  die "$output" "CMake could not configure $build"

echo "Step 3 of 4: building"
cmake --build "$build" --target arrow_local arrow_s3 object_store

echo "Step 4 of 4: testing"
ctest --test-dir "$build" --output-on-failure -R '^(S3|arrow_local|example object_store)' -j 2
