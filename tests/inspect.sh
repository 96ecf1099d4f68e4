#!/usr/bin/env bash
# The example `inspect` on good files and bad ones.
#
#   inspect.sh PROGRAM IMAGES DATA
set -euo pipefail
errors=$(mktemp)
trap 'rm -f "$errors" "$errors.fifo"' EXIT

printed=$("$1" --stats --show "$2")
echo "$printed"
grep -qE '^images.npy +\|u1 +\(1797, 8, 8\) +C +115008 +file +0 +4.88416 +16 +0 +█' <<<"$printed"
grep -qx '  ▒█▓▒░ ' <<<"$printed"
printed=$("$1" "$3/npz/names.npz")
echo "$printed"
grep -qE '^größe +<f4 +\(2, 3, 2\) +C +48 +stored' <<<"$printed"
grep -qE '^日本語 +<f4 +\(2, 3, 2\) +Fortran +48 +deflated' <<<"$printed"

# A FIFO is refused without waiting for a writer.
mkfifo "$errors.fifo"
timeout 20 "$1" "$errors.fifo" 2>"$errors" && exit 1
grep -q 'not a regular file but a FIFO' "$errors"

status=0
"$1" "$2" "$0" no_such_file.npy 2>"$errors" || status=$?
cat "$errors"
[ $status = 1 ]
[ "$(wc -l <"$errors")" = 2 ]
grep -q 'inspect.sh: not an .npy file' "$errors"
grep -q '^no_such_file.npy: cannot open' "$errors"
