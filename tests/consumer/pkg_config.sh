#!/usr/bin/env bash
# Use with pkg-config: the installed .pc files and one command line, as the README gives it. `g++` is whatever
# compiler the tests are built with.
#
#   pkg_config.sh PREFIX FOLDER DATA EXPECTED STANDARD LIBTORCH [FLAG...]
#
# LIBTORCH is the folder of a LibTorch, /usr for the one of Debian's packages, none for the core alone. FLAGs are
# what that LibTorch also needs.
set -euo pipefail

prefix=$1 folder=$2 data=$3 expected=$4 standard=$5 LIBTORCH=$6
flags=("${@:7}")
programs=$(cd "$(dirname "${BASH_SOURCE[0]}")" >/dev/null && pwd)
read -ra compiler <<<"${CXX:-g++}"
g++() { command "${compiler[@]}" "${flags[@]}" "$@"; }

rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"
export PKG_CONFIG_PATH=$prefix/share/pkgconfig

# The words of each answer are arguments.
# shellcheck disable=SC2046
case $LIBTORCH in
  none) g++ -std=c++"$standard" "$programs/core.cpp" -o app $(pkg-config --cflags --libs torch_npy-core) ;;
  /usr) g++ -std=c++"$standard" "$programs/app.cpp" -o app $(pkg-config --cflags --libs torch_npy) ;;
  *)
    g++ -std=c++"$standard" "$programs/app.cpp" -o app \
      $(pkg-config --define-variable=libtorch="$LIBTORCH" --cflags --libs torch_npy)
    ;;
esac

printed=$(./app "$data")
echo "$printed"
grep -qxF -e "$expected" <<<"$printed"
version=$(pkg-config --modversion torch_npy-core)
pkg-config --exact-version="$version" torch_npy-core
if pkg-config --atleast-version=99 torch_npy-core; then exit 1; fi
