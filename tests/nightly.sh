#!/usr/bin/env bash
# What takes too long for each change:
#
#   bash tests/nightly.sh           some hours
#   bash tests/nightly.sh --long    with the long search for faults of tests/trust.sh, for a release
#
# Works from any folder; installs what is missing from Debian's packages, and takes some tools from PyPI.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null
. cmake/setup.sh

section() { printf '\n==== %s (after %d s)\n' "$*" "$SECONDS"; }

section "clang-tidy and include-what-you-use"
bash tests/lint.sh

setup_build_tools
setup_libtorch
setup_catch2
setup_numpy
setup_gloo
setup_libdeflate
need unzip unzip
section "Each header alone"
configure . build/headers --preset dev "-DTORCH_NPY_PYTHON=$TORCH_NPY_PYTHON" >build/headers.log || die "$(cat build/headers.log)"
cmake --build build/headers --target consumer_headers

for preset in asan tsan; do
  section "Tests with the preset $preset"
  configure . "build/$preset" --preset $preset "-DTORCH_NPY_PYTHON=$TORCH_NPY_PYTHON" >build/$preset.log || die "$(cat build/$preset.log)"
  cmake --build --preset $preset
  ctest --preset $preset -j "$(nproc)"
done

section "Fashion-MNIST, from three layouts of files"
bash examples/run.sh train_fashion_mnist | tee build/fashion-mnist.log
[ "$(grep -cE '^test accuracy: 0\.(8[7-9]|9)' build/fashion-mnist.log)" = 3 ] || die "An accuracy is below 0.87"

section "The part that needs no LibTorch, also with Valgrind"
need valgrind valgrind
need pkg-config pkgconf
cmake --preset core >build/core.log || die "$(cat build/core.log)"
cmake --build --preset core
ctest --preset core -j "$(nproc)"
valgrind --quiet --error-exitcode=1 --leak-check=full build/core/tests/core >build/valgrind.log 2>&1 || die "$(cat build/valgrind.log)"
echo "nothing to report in the core tests"

section "Hostile files, fuzzing, kills"
bash tests/trust.sh "$@"

section "Other systems and processors"
bash tests/platforms.sh
printf '\nAll passed in %d s\n' "$SECONDS"
