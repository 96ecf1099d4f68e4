#!/usr/bin/env bash
# Two versions of the headers in one program, as if two of its libraries were built with different
# versions: neither runs the functions of the other.
#
#   two_versions.sh INCLUDE FOLDER
set -euo pipefail

include=$1 folder=$2
program=$(cd "$(dirname "${BASH_SOURCE[0]}")" >/dev/null && pwd)/two_versions.cpp
read -ra compiler <<<"${CXX:-g++}"

rm -rf "$folder"
mkdir -p "$folder"
cp -r "$include" "$folder/other"
sed -i 's/VERSION_MAJOR [0-9]*/VERSION_MAJOR 99/' "$folder/other/torch_npy/version.hpp"
sed -i 's/the path is empty/there is no path/' "$folder/other/torch_npy/io/file.hpp"
cd "$folder"

compile=("${compiler[@]}" -std=c++17 -O0 -c "$program") # inlined, they would be apart anyway
"${compile[@]}" -I"$include" -DSAY=say_here -DMAIN -o here.o
"${compile[@]}" -Iother -DSAY=say_elsewhere -o elsewhere.o
"${compiler[@]}" here.o elsewhere.o -o app

diff <(./app) <(printf '%s\n' 'the path is empty' 'there is no path')
