#!/usr/bin/env bash
# Use with Conan: its package is made of a copy of the sources, and its test program uses it.
#
#   conan.sh SOURCE FOLDER
set -euo pipefail

source=$1 folder=$2
rm -rf "$folder"
mkdir -p "$folder/source"
cp -r "$source"/{CMakeLists.txt,LICENSE,cmake,include} "$folder/source"
export CONAN_HOME=$folder/home
conan profile detect
conan create "$folder/source/cmake/packaging/conan"
rm -rf "$folder"
