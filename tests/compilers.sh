#!/usr/bin/env bash
# The headers and the core and tensor tests with other compilers, standards and options:
#
#   bash tests/compilers.sh COMPILER...      for instance: g++-13 clang++-19; some 4 minutes each
#
# Works from any folder. A compiler that is missing is installed from Debian's packages, if it is there.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"
case ${1:--} in -*) die "usage: bash tests/compilers.sh COMPILER..." ;; esac

setup_build_tools
setup_libtorch
torch_standards=(17 20)
if printf '2.14\n%s\n' "$found_version" | sort -V -C; then torch_standards=(20); fi
setup_catch2
setup_libdeflate

strict=(-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
failed=()
check() { # WHAT COMMAND...
  local output
  if output=$("${@:2}" 2>&1); then
    echo "  $1: passed"
  else
    failed+=("$compiler, $1")
    printf '  %s: FAILED\n%s\n' "$1" "$(tail -n 40 <<<"$output")"
  fi
}

# A build folder for each, because CMake's cache depends on the compiler and its options.
build_and_run() { # NAME CMAKE_OPTION...
  local build=$root/build/compilers/$compiler-$1
  CXX=$compiler configure "$root" "$build" -DTORCH_NPY_BUILD_EXAMPLES=OFF -DTORCH_NPY_TEST_CONSUMERS=OFF "${@:2}" &&
    cmake --build "$build" --target core tensor &&
    "$build/tests/core" && "$build/tests/tensor"
}

without_rtti() {
  local program=$root/build/compilers/$compiler-core
  mkdir -p "${program%/*}"
  "$compiler" -std=c++17 -fno-rtti "-I$root/include" "$root/tests/consumer/core.cpp" -o "$program" &&
    "$program" "$root/examples/data/images.npy"
}

for compiler in "$@"; do
  package=${compiler/clang++/clang}
  command -v "$compiler" >/dev/null || install_packages "$package"
  "$compiler" --version | head -n 1
  for standard in 17 20; do
    check "core headers in C++$standard" "$compiler" -std=c++$standard "${strict[@]}" -fsyntax-only \
      -I"$root/include" -x c++ - <<<'#include <torch_npy/io/read_header.hpp>
#include <torch_npy/io/folder.hpp>
#include <torch_npy/zip/reader.hpp>'
  done
  check "core without RTTI" without_rtti
  check "tests in C++${torch_standards[0]}, -O0, _GLIBCXX_ASSERTIONS" build_and_run debug \
    -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS=-O0 -g0 -D_GLIBCXX_ASSERTIONS"
  # LibTorch's headers are the system's, to the compiler: its warnings are of ours alone.
  flags=$(grep -m 1 -oE -- '-isystem [^ ]+( -isystem [^ ]+)*' "$root/build/compilers/$compiler-debug/build.ninja") ||
    continue # check() has printed the reason
  for standard in "${torch_standards[@]}"; do
    # clang 14 does not take the headers of LibTorch 1.13 in C++20.
    # shellcheck disable=SC2086 # words
    if ! "$compiler" -std=c++"$standard" -fsyntax-only $flags -x c++ - <<<'#include <torch/data.h>' 2>/dev/null; then
      echo "  skipped: this compiler does not accept LibTorch's own headers in C++$standard"
      continue
    fi
    [ "$standard" != 20 ] || check "tests in C++20, -O3 -march=native" build_and_run native -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_CXX_STANDARD=20 "-DCMAKE_CXX_FLAGS=-march=native" -DCMAKE_CXX_FLAGS_RELEASE=-O3
    # shellcheck disable=SC2086
    check "torch_npy.hpp in C++$standard" "$compiler" -std=c++$standard "${strict[@]}" -fsyntax-only $flags \
      -I"$root/include" -x c++ - <<<'#include <torch_npy.hpp>'
  done
done
[ ${#failed[@]} = 0 ] || die "Failed:" "${failed[@]}"
