#!/usr/bin/env bash
# Builds the tests of devices against the LibTorch of the active Python, runs them, and measures copies and training
# loops. For a machine with an NVIDIA GPU; without one the tests of CUDA are skipped, and the figures mean nothing.
#
#   CATCH2_DIR=FOLDER GLOO_INCLUDE_DIR=FOLDER bash tests/gpu.sh [OUT]
#
# OUT, otherwise build/gpu/results, gets gpu.md, gpu.json and the log of each step. FOLDER has an installed Catch2, of
# version 2 or 3: include/ and lib/cmake/Catch2/. Without CATCH2_DIR that of the system is taken. GLOO_INCLUDE_DIR has
# gloo/config.h; without it, and without libgloo-dev on the system, the processes of World are not tested. If the machine
# has a compiler, CMake 3.21, Ninja, and a Python with PyTorch and NumPy, nothing is downloaded.
#
# A step that fails does not stop the others. TORCH_NPY_GPU_SECONDS, by default 480, limits all together, and each step to
# a part of it. A second run goes on with what is built. The exit status is 0 if no step failed.
# shellcheck disable=SC2317 # the functions are called by their names
set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/gpu
programs=(device prefetch loader)
examples=(quick_start train_digits)
gloo=${GLOO_INCLUDE_DIR:-/usr/include}
if [ -f "$gloo/gloo/config.h" ]; then
  programs+=(world)
  examples+=(distributed_training)
fi
export PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"

run_build() {
  local config='' options=()
  # LibTorch's CMake files ask the GPU for this, for kernels. There are none here.
  export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-9.0}
  setup_build_tools
  setup_libtorch
  [ "$Torch_DIR" -ef "$(python3 -c 'import torch; print(torch.utils.cmake_prefix_path)')/Torch" ] ||
    die "CMake did not take the LibTorch of the active Python, $(command -v python3)"
  if [ -n "${CATCH2_DIR:-}" ]; then
    config=$(find "$CATCH2_DIR" -name Catch2Config.cmake -print -quit)
    [ -n "$config" ] || die "There is no Catch2Config.cmake in CATCH2_DIR=$CATCH2_DIR"
    options=("-DCatch2_DIR=$(cd "$(dirname "$config")" >/dev/null && pwd)")
  fi
  # Each file alone, so that all processors compile.
  configure "$root" "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O2 -DCMAKE_UNITY_BUILD=OFF \
    -DTORCH_NPY_BUILD_TESTS=ON -DTORCH_NPY_TEST_EACH_CASE=OFF -DTORCH_NPY_TEST_CONSUMERS=OFF \
    -DTORCH_NPY_BUILD_BENCH=ON -DTORCH_NPY_BUILD_EXAMPLES=ON -Dgloo_INCLUDE_DIR="$gloo" "${options[@]}" &&
    cmake --build "$build" -j "$(nproc)" --target "${programs[@]}" "${examples[@]}" bench_gpu -- -k 0
}

# One program after another: some tests fill the memory of the GPU.
run_tests() { # SPEC
  local program status=0
  for program in "${programs[@]}"; do
    echo "== $program $1"
    if [ -x "$build/tests/$program" ]; then
      "$build/tests/$program" "$1" || status=1
    else
      echo "not run: $program was not built"
      status=1
    fi
  done
  return "$status"
}

run_examples() {
  local program status=0
  cd "$root" || return
  for program in "${examples[@]}"; do
    echo "== $program"
    "$build/examples/$program" || status=1
  done
  return "$status"
}

run_benchmarks() {
  [ -x "$build/tests/bench/bench_gpu" ] || {
    echo "not run: bench_gpu was not built"
    return 1
  }
  python3 -B "$root/tests/bench/gpu.py" measure --out "$out" --program "$build/tests/bench/bench_gpu"
}

run_sanitizer() {
  local tool program pid pids=() status=0
  if ! tool=$(command -v compute-sanitizer); then
    echo "not run: there is no compute-sanitizer here"
    return 77
  elif ! "$build/tests/bench/bench_gpu" <<<device | grep -q cuda; then
    echo "not run: there is no CUDA device here"
    return 77
  fi
  rm -f "$build"/*.sanitizer
  # Each tensor gets memory of its own. Errors that calls return are not reported: LibTorch handles them.
  export PYTORCH_NO_CUDA_MEMORY_CACHING=1 TORCH_NPY_GPU_BATCHES=${TORCH_NPY_GPU_BATCHES:-100}
  # Not World: it works in forks, which are not watched.
  for program in device prefetch loader; do
    "$tool" --tool memcheck --report-api-errors no --error-exitcode 99 "$build/tests/$program" '[cuda]~[full]' \
      >"$build/$program.sanitizer" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || status=1; done
  cat "$build"/*.sanitizer
  if grep -q 'Device not supported' "$build"/*.sanitizer; then
    echo "not run: compute-sanitizer does not support this device"
    return 77
  fi
  return "$status"
}

# A step runs in a shell of its own, which `timeout` can end.
if [ "${1:-}" = --step ]; then
  out=$2
  "${@:3}"
  exit
fi

case ${1:-} in -*) die "usage: [CATCH2_DIR=FOLDER] bash tests/gpu.sh [OUT]" ;; esac
problem=$(python3 -c 'import numpy, torch' 2>&1) ||
  die "The active Python, $(command -v python3), needs PyTorch and NumPy: ${problem##*$'\n'}"
mkdir -p "${1:-$build/results}"
out=$(cd "${1:-$build/results}" >/dev/null && pwd)
limit=${TORCH_NPY_GPU_SECONDS:-480}
failed=0
rm -f "$out"/{gpu.md,gpu.json,bench.json} "$out"/{build,host-tests,cuda-tests,examples,benchmarks,sanitizer}.log
: >"$out/steps.tsv"

# Runs the command, and adds a line to the table. Of its output SHOWN is shown, and all of it goes to the log.
step() { # NAME SECONDS SHOWN COMMAND...
  local name=$1 seconds=$(($2 * limit / 480)) log=$out/${1// /-}.log start=$SECONDS status result details
  [ $((limit - SECONDS)) -ge "$seconds" ] || seconds=$((limit - SECONDS))
  if [ "$seconds" -lt 1 ]; then
    status=124
    : >"$log"
  else
    echo "[$SECONDS s] $name, at most $seconds s"
    timeout --kill-after=5 "$seconds" bash "${BASH_SOURCE[0]}" --step "$out" "${@:4}" 2>&1 | tee "$log" |
      grep --line-buffered -E "$3"
    status=${PIPESTATUS[0]}
  fi
  case $status in
    0) result=passed ;;
    77) result='not run' ;;
    124 | 137) result="out of time ($seconds s)" ;;
    *) result="failed ($status)" ;;
  esac
  details=$(grep -oE '^(All tests passed.*|test cases:.*|not run:.*)|^ *skipped: there is .*|ERROR SUMMARY: .*' "$log" |
    tr '|' ',' | tr -s ' ' | sort | uniq -c | sed -E 's/not run: //; s/^ *1 //; s/^ *([0-9]+) /\1 x /' | paste -sd ';' | sed 's/;/; /g')
  printf '%s\t%s\t%s\t%s\n' "$name" "$result" $((SECONDS - start)) "$details" >>"$out/steps.tsv"
  echo "[$SECONDS s] $name: $result${details:+: $details}"
  if [[ $status != 0 && $status != 77 ]]; then
    failed=1
    tail -n 25 "$log"
  fi
}

step build 240 '^(\[|LibTorch)' run_build
step 'host tests' 60 '^(== |All tests|test cases)' run_tests '~[cuda]'
step 'cuda tests' 90 '^(== |All tests|test cases)' run_tests '[cuda]'
step examples 30 '^(== |device|.*accuracy|weights)' run_examples
step benchmarks 150 '' run_benchmarks
step sanitizer 90 '' run_sanitizer
python3 -B "$root/tests/bench/gpu.py" report --out "$out" || failed=1
echo "[$SECONDS s] Results: $out"
exit $failed
