#!/usr/bin/env bash
# The tests that need no LibTorch, on other systems and processors:
#
#   bash tests/platforms.sh
#
# Windows (mingw-w64, run by wine), x86 of 32 bits, and s390x, which is big-endian (run by qemu). The last two also
# replay the corpus of the fuzzers, which needs memfd_create() and does not run on Windows. Takes
# about two minutes. Works from any folder; installs what is missing from the packages of Debian 12, whose Catch2 is
# a header.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/platforms
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"

need g++ g++
need x86_64-w64-mingw32-g++-posix g++-mingw-w64-x86-64-posix
need wine wine wine64
need s390x-linux-gnu-g++ g++-s390x-linux-gnu
need qemu-s390x qemu-user
# Not g++-multilib, for which apt would remove compilers for other processors. It would add the folder below.
x86="g++ -m32 -D_FILE_OFFSET_BITS=64 -idirafter /usr/include/x86_64-linux-gnu -pthread"
echo '#include <cerrno>
int main() {}' | $x86 -x c++ - -o /dev/null 2>/dev/null || install_packages "g++-$(g++ -dumpversion)-multilib"
[ -e /usr/include/catch2/catch.hpp ] || install_packages catch2
[ -e /usr/include/catch2/catch.hpp ] || die "This needs Catch2 2, which is a header: that of Debian 12"

mkdir -p "$build/include"
ln -sfn /usr/include/catch2 "$build/include/catch2"

check() { # NAME COMPILER_WORDS FOLDER/FILE... -- RUNNER...
  local name=$1 compiler source program
  read -ra compiler <<<"$2"
  program=$build/core-$name.exe # a name that Windows wants
  source=$build/core-$name.cpp  # all files in one, because Catch2 2 is a large header
  : >"$source"
  shift 2
  while [ "$1" != -- ]; do
    printf '#include "%s"\n' "$root/tests/$1" >>"$source"
    shift
  done
  "${compiler[@]}" -std=c++17 -O1 -Wall -Wextra -Wpedantic "-I$root/include" "-I$root/tests" -isystem "$build/include" \
    "-DTORCH_NPY_TEST_DATA=\"$root/tests/numpy_files\"" "$root/tests/support/main.cpp" "$source" -o "$program"
  echo "$name: $("${@:2}" "$program" 2>&1 | tee "$build/$name.log" | tail -n 3 | tr -s '\r\n=' ' ')"
  grep -q 'All tests passed' "$build/$name.log" || die "$(cat "$build/$name.log")"
}

replay() { # NAME COMPILER_WORDS TARGET FOLDER... -- RUNNER...
  local name=$1 compiler target=$3 folders=() program=$build/$3-$1
  read -ra compiler <<<"$2"
  shift 3
  while [ "$1" != -- ]; do
    folders+=("$root/tests/$1")
    shift
  done
  "${compiler[@]}" -std=c++17 -O1 "-I$root/include" "$root"/tests/{fuzz/"$target",fuzz/replay,support/allocations}.cpp -o "$program"
  "${@:2}" "$program" "${folders[@]}" >"$program.log" 2>&1 || die "$(tail -n 3 "$program.log")"
  echo "$name, $target: $(tail -n 1 "$program.log")"
}

# The files of the program "core", of which io/posix.cpp is for POSIX systems alone.
posix=(text.cpp)
for file in "$root"/tests/{format,io}/*.cpp; do posix+=("${file#"$root/tests/"}"); done
core=()
for file in "${posix[@]}"; do [ "$file" = io/posix.cpp ] || core+=("$file"); done

export WINEDEBUG=-all WINEPREFIX=$build/wine
check windows "x86_64-w64-mingw32-g++-posix -static" "${core[@]}" -- wine

s390x="s390x-linux-gnu-g++ -static -pthread"
check x86 "$x86" "${posix[@]}" --
check s390x "$s390x" "${posix[@]}" -- qemu-s390x

headers=(header fuzz/corpus/header numpy_files/arrays numpy_files/fields)
archives=(zip fuzz/corpus/zip fuzz/corpus/npz numpy_files/npz)
replay x86 "$x86" "${headers[@]}" --
replay x86 "$x86" "${archives[@]}" --
replay s390x "$s390x" "${headers[@]}" -- qemu-s390x
replay s390x "$s390x" "${archives[@]}" -- qemu-s390x
