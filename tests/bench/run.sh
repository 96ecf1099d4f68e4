#!/usr/bin/env bash
# Measures torch_npy beside the bare limit, NumPy with PyTorch, and xtensor, all in one run:
#
#   bash tests/bench/run.sh [--quick] [--only WORDS] [--results FOLDER] [FOLDER]
#
# FOLDER is where the files go that are read, on a disk with 12 GB free (the build folder otherwise);
# they are removed at the end. The results, a table in Markdown, a JSON file and plots, go to
# build/bench/results. The run takes more than 25 minutes, and figures only mean something on a quiet
# machine; --quick takes 3 minutes, to see that it works, and --only the rows whose title has these
# words. Cold rows need to be root, to drop the page cache.
#
# Works from any folder. What is missing is installed from Debian's packages (as root or with sudo).
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." >/dev/null && pwd)
build=$root/build/bench
# shellcheck source-path=SCRIPTDIR/../.. source=cmake/setup.sh
. "$root/cmake/setup.sh"

setup_build_tools
setup_libtorch
setup_libdeflate
setup_xtensor
mkdir -p "$build"
setup_peers "$build/peers"
output=$(configure "$root" "$build" -DCMAKE_BUILD_TYPE=Release -DTORCH_NPY_BUILD_BENCH=ON \
  -DTORCH_NPY_BUILD_TESTS=OFF -DTORCH_NPY_BUILD_EXAMPLES=OFF \
  -DCMAKE_EXPORT_COMPILE_COMMANDS=ON 2>&1) || die "$output" "CMake could not configure $build"
cmake --build "$build"
exec "$TORCH_NPY_PYTHON" -B "$root/tests/bench/bench.py" --build "$build" "$@"
