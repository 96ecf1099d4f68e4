#!/usr/bin/env bash
# Builds and runs the benchmarks:
#
#   bash tests/bench/run.sh [folder for the files, on a disk with 5 GB free]
#
# Works from any folder; installs what is missing from Debian's packages, as tests/run.sh does. A
# quiet machine is needed for figures that mean something. Takes about five minutes.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." >/dev/null && pwd)
build=$root/build/bench
# shellcheck source-path=SCRIPTDIR/../.. source=cmake/setup.sh
. "$root/cmake/setup.sh"

setup_build_tools
setup_libtorch
output=$(configure "$root" "$build" -DCMAKE_BUILD_TYPE=Release -DTORCH_NPY_BUILD_BENCH=ON \
  -DTORCH_NPY_BUILD_TESTS=OFF -DTORCH_NPY_BUILD_EXAMPLES=OFF 2>&1) ||
  die "$output" "CMake could not configure $build"
cmake --build "$build" --target bench_append bench_datasets
"$build/tests/bench/bench_append" "$@"
"$build/tests/bench/bench_datasets" "$@"
