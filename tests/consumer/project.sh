#!/usr/bin/env bash
# Configures, builds and runs the project beside this script, as a user of the library would.
#
#   project.sh FOLDER DATA EXPECTED CMAKE_OPTION...
set -euo pipefail

folder=$1 data=$2 expected=$3
rm -rf "$folder"
cmake -S "$(dirname "${BASH_SOURCE[0]}")/project" -B "$folder" "${@:4}"
cmake --build "$folder"
printed=$("$folder/app" "$data")
echo "$printed"
# One line of the output: libraries of LibTorch may print others.
grep -qxF -e "$expected" <<<"$printed"

# A user's build has neither the library's tests and examples nor their targets.
if cmake --build "$folder" --target help |
  grep -E '^(torch_npy|_deps/torch_npy-build)/(tests|examples)'; then exit 1; fi
[ "$(ctest --test-dir "$folder" -N | sed -n 's/^Total Tests: //p')" = 0 ]
