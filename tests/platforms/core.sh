# shellcheck shell=bash
# The tests that need no LibTorch, on other systems and processors. Sourced by tests/platforms.sh.

# Catch2 2 is a header. In a folder of its own, because /usr/include has the C library of this machine.
setup_catch2_header() {
  [ -e /usr/include/catch2/catch.hpp ] || install_packages catch2
  [ -e /usr/include/catch2/catch.hpp ] || die "This needs Catch2 2, which is a header: that of Debian 12"
  ln -sfn /usr/include/catch2 "$build/include/catch2"
}

# The files of the program "core", of which io/posix.cpp is for POSIX systems alone.
posix_files=(text.cpp)
for file in "$root"/tests/{format,io}/*.cpp; do posix_files+=("${file#"$root/tests/"}"); done
core_files=()
for file in "${posix_files[@]}"; do [ "$file" = io/posix.cpp ] || core_files+=("$file"); done

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
    "-DTORCH_NPY_TEST_DATA=\"$root/tests/numpy_files\"" -Wno-c2y-extensions "$root/tests/support/main.cpp" "$source" -o "$program"
  echo "$name: $("${@:2}" "$program" 2>&1 | tee "$build/$name.log" | tail -n 3 | tr -s '\r\n=' ' ')"
  grep -q 'All tests passed' "$build/$name.log" || die "$(cat "$build/$name.log")"
}

# The corpus of the fuzzers, which needs memfd_create().
replay() { # NAME COMPILER_WORDS RUNNER...
  local name=$1 compiler target folders program
  read -ra compiler <<<"$2"
  for target in header zip; do
    folders=(fuzz/corpus/header numpy_files/arrays numpy_files/fields)
    [ $target = header ] || folders=(fuzz/corpus/zip fuzz/corpus/npz numpy_files/npz)
    program=$build/$target-$name
    "${compiler[@]}" -std=c++17 -O1 "-I$root/include" "$root"/tests/{fuzz/"$target",fuzz/replay,support/allocations}.cpp -o "$program"
    "${@:3}" "$program" "${folders[@]/#/$root/tests/}" >"$program.log" 2>&1 || die "$(tail -n 3 "$program.log")"
    echo "$name, $target: $(tail -n 1 "$program.log")"
  done
}

run_windows() {
  need x86_64-w64-mingw32-g++-posix g++-mingw-w64-x86-64-posix
  need wine wine wine64
  export WINEDEBUG=-all WINEPREFIX=$build/wine
  check windows "x86_64-w64-mingw32-g++-posix -static" "${core_files[@]}" -- wine
}

run_x86() {
  # Not g++-multilib, for which apt would remove compilers for other processors. It would add the folder below.
  local x86="g++ -m32 -D_FILE_OFFSET_BITS=64 -idirafter /usr/include/x86_64-linux-gnu -pthread"
  # shellcheck disable=SC2086 # words
  echo '#include <cerrno>
int main() {}' | $x86 -x c++ - -o /dev/null 2>/dev/null || install_packages "g++-$(g++ -dumpversion)-multilib"
  check x86 "$x86" "${posix_files[@]}" --
  replay x86 "$x86"
}

# check_debian NAME PROCESSOR: with Debian's cross compiler
check_debian() {
  local compiler=$2-linux-gnu-g++
  need "$compiler" "g++-$2-linux-gnu"
  need "qemu-$1-static" qemu-user-static
  check "$1" "$compiler -static -pthread" "${posix_files[@]}" -- "qemu-$1-static"
  replay "$1" "$compiler -static -pthread" "qemu-$1-static"
}

run_s390x() {
  check_debian s390x s390x
}

# Not zig's, whose programs crash at -O1 here, and not at -O0.
run_ppc64le() {
  check_debian ppc64le powerpc64le
}

# check_musl NAME PROCESSOR RUNNER...
check_musl() {
  setup_zig "$build/zig" || return 0
  local zig="$TORCH_NPY_ZIG -m ziglang c++ -target $2-linux-musl"
  check "$1" "$zig" "${posix_files[@]}" -- "${@:3}"
  replay "$1" "$zig" "${@:3}"
}

run_musl() {
  check_musl musl x86_64
}

run_riscv64() {
  need qemu-riscv64-static qemu-user-static
  check_musl riscv64 riscv64 qemu-riscv64-static
}
