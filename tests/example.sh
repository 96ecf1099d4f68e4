#!/usr/bin/env bash
# Fails unless an example prints what examples/README.md shows: example.sh PROGRAM FOLDER
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
name=${1##*/}
shown=$(sed -n "/^\$ bash examples\/run.sh $name\$/,/^\`\`\`\$/p" "$root/examples/README.md" | sed '1d; $d')
[ -n "$shown" ] || { echo "examples/README.md does not show $name" && exit 1; }
# What is shown was printed on the CPU.
printed=$(CUDA_VISIBLE_DEVICES='' bash "$root/examples/run_in_folder.sh" "$@")
diff <(echo "$shown") <(echo "$printed")
