#!/usr/bin/env bash
# Builds the examples and trains a small network on the handwritten digits in examples/data:
#
#   bash examples/run.sh
#
# Works from any folder. What is missing is installed from Debian's packages (as root or with sudo).
# A LibTorch that Torch_DIR, CMAKE_PREFIX_PATH or the active Python holds is used before one is
# installed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/examples
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"

echo "Step 1 of 4: finding a compiler, CMake, Ninja and LibTorch"
setup_build_tools
setup_libtorch

echo "Step 2 of 4: configuring $build"
output=$(configure "$root" "$build" -DCMAKE_BUILD_TYPE=Release -DTORCH_NPY_BUILD_TESTS=OFF \
  -DTORCH_NPY_BUILD_EXAMPLES=ON 2>&1) || die "$output" "CMake could not configure $build"

echo "Step 3 of 4: building (LibTorch's headers are large, the first time takes about a minute)"
cmake --build "$build"

echo "Step 4 of 4: training on $root/examples/data"
"$build/examples/train_digits" "$root/examples/data"
