#!/usr/bin/env bash
# Use of the copied header: torch_npy.hpp alone next to a program, and one command line, as the README
# gives it. `g++` is whatever compiler the tests are built with.
#
#   copied_header.sh INCLUDE FOLDER DATA EXPECTED STANDARD LIBTORCH [FLAG...]
#
# LIBTORCH is the folder of a LibTorch, /usr for the one of Debian's packages. FLAGs are what that
# LibTorch also needs (such as -D_GLIBCXX_USE_CXX11_ABI=0).
set -euo pipefail

include=$1 folder=$2 data=$3 expected=$4 standard=$5 LIBTORCH=$6
flags=("${@:7}")
program=$(cd "$(dirname "${BASH_SOURCE[0]}")" >/dev/null && pwd)/app.cpp
read -ra compiler <<<"${CXX:-g++}"
g++() { command "${compiler[@]}" "${flags[@]}" "$@"; }

rm -rf "$folder"
mkdir -p "$folder"
cp "$program" "$include/torch_npy.hpp" "$folder"
cd "$folder"

if [ "$LIBTORCH" = /usr ]; then
  g++ -std=c++"$standard" app.cpp -o app -I. -I/usr/include/torch/csrc/api/include \
    -ltorch -ltorch_cpu -lc10
else
  # Nothing in a program refers to libtorch.so, which loads the CUDA part. A toolchain that drops such
  # libraries, as Ubuntu's does, needs an option to keep it.
  g++ -std=c++"$standard" app.cpp -o app -I. \
    -isystem "$LIBTORCH/include" -isystem "$LIBTORCH/include/torch/csrc/api/include" \
    -L"$LIBTORCH/lib" -Wl,-rpath,"$LIBTORCH/lib" \
    -Wl,--no-as-needed -ltorch -ltorch_cpu -lc10
fi

printed=$(./app "$data")
echo "$printed"
# One line of the output: libraries of LibTorch may print others.
grep -qxF -e "$expected" <<<"$printed"
