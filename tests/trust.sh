#!/usr/bin/env bash
# Searches for faults with hostile files and killed processes:
#
#   bash tests/trust.sh           some minutes: 20,000 files against NumPy, 40 seconds for each fuzzer, 1,000 kills
#   bash tests/trust.sh --long    some hours: 1,000,000 files, 100,000,000 executions of each fuzzer, 1,000 kills
#
# Works from any folder; installs what is missing from Debian's packages, clang among it. What the fuzzers find is
# in tests/fuzz/corpus, disagreements with NumPy are in tests/oracle/cases: commit them as tests with the fix.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/trust
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"

files=20000 effort=(-max_total_time=40) slices=1
if [ "${1:-}" = --long ]; then
  files=1000000 effort=(-runs=5000000) slices=20
elif [ $# != 0 ]; then
  die "usage: bash tests/trust.sh [--long]"
fi

echo "Step 1 of 6: building"
setup_build_tools
setup_libtorch
setup_catch2
setup_numpy
setup_scipy
setup_gloo
setup_libdeflate
setup_clang
output=$(CXX=clang++ configure "$root" "$build" -DCMAKE_BUILD_TYPE=Release -DTORCH_NPY_BUILD_FUZZERS=ON \
  -DTORCH_NPY_BUILD_EXAMPLES=OFF -DTORCH_NPY_TEST_CONSUMERS=OFF 2>&1) ||
  die "$output" "CMake could not configure $build"
fuzzers=(header bytes zip npz archive sparse)
targets=(judge saver trainer)
output=$(cmake --build "$build" --target help)
has_ranks=no # which need Gloo
if grep -q '^rank_trainer:' <<<"$output"; then
  has_ranks=yes
  targets+=(rank_trainer)
fi
cmake --build "$build" --target "${targets[@]}" "${fuzzers[@]/#/fuzz_}"

echo "Step 2 of 6: $files files, to NumPy and to this library"
"$TORCH_NPY_PYTHON" "$root/tests/oracle/compare.py" "$build/tests/judge" "$files"

echo "Step 3 of 6: 1,000 kills for each of save, save_npz, update_npz and Appender, half a minute each"
"$TORCH_NPY_PYTHON" "$root/tests/kill/kill.py" "$build/tests/saver" 1000

echo "Step 4 of 6: 100 kills of a training run, which goes on from its checkpoint each time"
"$TORCH_NPY_PYTHON" "$root/tests/kill/kill_training.py" "$build/tests/trainer" 100

echo "Step 5 of 6: 100 kills of ranks that train together, which go on with other numbers of ranks"
if [ $has_ranks = yes ]; then
  "$TORCH_NPY_PYTHON" "$root/tests/kill/kill_ranks.py" "$build/tests/rank_trainer" 100
else
  echo "left out: there is no torch_npy::world"
fi

echo "Step 6 of 6: fuzzing, two at a time"
echo "(each runs for its time without output; cov: the number of code positions that it reached)"
# Inputs that reach new code stay in the build folder. Inputs that crash are added to the corpus.
fuzz() { # TARGET DICTIONARY SEEDS...
  local slice log=$build/fuzz_$1.log learnt=$build/learnt/$1 crashes=$root/tests/fuzz/corpus/$1/
  mkdir -p "$learnt" "$crashes"
  for slice in $(seq $slices); do
    "$build/tests/fuzz/fuzz_$1" "$learnt" "${@:3}" "-dict=$root/tests/fuzz/$2" "${effort[@]}" \
      "-max_len=$((slice % 2 == 1 ? 300 : 900))" "-artifact_prefix=$crashes" -print_final_stats=1 >"$log" 2>&1 ||
      die "$(grep -E 'does not hold|ERROR|SUMMARY|Test unit' "$log")" "fuzz_$1 found something: $log"
    echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, slice $slice of $slices," \
      "$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)"
  done
}
export ASAN_OPTIONS=malloc_context_size=1:quarantine_size_mb=8:max_malloc_fill_size=0
data=$root/tests/numpy_files corpus=$root/tests/fuzz/corpus
{
  fuzz npz zip.dict "$corpus/zip" && fuzz archive zip.dict "$corpus/zip" && fuzz sparse zip.dict "$corpus/sparse"
} & second=$!
{
  fuzz header npy.dict "$corpus/header" "$data/arrays" && fuzz bytes npy.dict "$corpus/header" "$data/arrays" &&
    fuzz zip zip.dict "$corpus/zip"
} || { kill $second; exit 1; }
wait $second
echo "Nothing was found: no disagreement with NumPy, no torn file, no crash."
