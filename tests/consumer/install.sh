#!/usr/bin/env bash
# Installs a build into a prefix, for the other tests, and checks the installed files.
#
#   install.sh SOURCE BUILD PREFIX [PATH...]
#
# PATHs are those of LibTorch, which must not be in a package.
set -euo pipefail

source=$1 build=$2 prefix=$3
paths=("$source" "$build" "$prefix" "${@:4}")
rm -rf "$prefix" "$prefix.staged"
cmake --install "$build" --prefix "$prefix.staged"
mv "$prefix.staged" "$prefix"  # a package works wherever it is put

diff -r "$source/include" "$prefix/include"
for path in "${paths[@]}"; do
  if grep -rnF -e "$path" "$prefix"; then
    echo "$path is in the installed files" >&2
    exit 1
  fi
done
