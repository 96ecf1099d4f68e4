#!/usr/bin/env bash
# Measures reading from an object store against Arrow alone and against PyTorch with s3fs:
#
#   bash tests/bench/stores/run.sh
#
# Takes about an hour and 5 GB of disk. The server and a proxy that adds the latency run on this machine. Writes
# tests/bench/results/stores.json.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." >/dev/null && pwd)
build=$root/build/bench-stores
# shellcheck source-path=SCRIPTDIR/../../.. source=cmake/setup.sh
. "$root/cmake/setup.sh"

setup_build_tools
setup_libtorch
mkdir -p "$root/build"
setup_arrow "$root/build/arrow-python"
setup_pytorch
peer=none libraries=$root/build/s3fs
if "$TORCH_NPY_PYARROW_PYTHON" -m pip install --quiet --target "$libraries" s3fs >"$libraries.log" 2>&1 &&
  PYTHONPATH=$libraries "$TORCH_NPY_PYTHON" -c 'import s3fs, torch'; then
  peer=$TORCH_NPY_PYTHON
else
  echo "Without PyTorch and s3fs: see $libraries.log"
fi
output=$(configure "$root" "$build" -DCMAKE_BUILD_TYPE=Release -DTORCH_NPY_BUILD_TESTS=OFF -DTORCH_NPY_BUILD_EXAMPLES=OFF \
  -DTORCH_NPY_BUILD_BENCH=ON -DTORCH_NPY_WITH_ARROW=ON "-DTORCH_NPY_PYARROW_PYTHON=$TORCH_NPY_PYARROW_PYTHON" 2>&1) ||
  die "$output" "CMake could not configure $build"
cmake --build "$build" --target bench_stores bench_delay_proxy
TORCH_NPY_S3FS=$libraries "$TORCH_NPY_PYARROW_PYTHON" "$root/tests/bench/stores/bench.py" "$build/tests/bench/bench_stores" \
  "$build/tests/bench/bench_delay_proxy" "$peer" "$root/tests/bench/results/stores.json"
