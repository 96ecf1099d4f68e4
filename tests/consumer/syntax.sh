#!/usr/bin/env bash
# Checks each FILE on its own, without output files, two at a time.
#
#   syntax.sh FILE... -- COMPILER ARGUMENT...
set -euo pipefail

files=()
while [ "$1" != -- ]; do
  files+=("$1")
  shift
done
shift
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P 2 "$@" -fsyntax-only
