#!/usr/bin/env bash
# The example resume_training, stopped again and again, ends with the weights of a run that was not stopped:
#
#   resume_training.sh PROGRAM FOLDER DATA
set -euo pipefail

rm -rf "$2"
mkdir -p "$2/whole" "$2/stopped"
"$1" "$3" "$2/whole/checkpoint.npz"
stops=0
until "$1" "$3" "$2/stopped/checkpoint.npz" 97; do
  stops=$((stops + 1))
  [ "$stops" -lt 10 ]
done
[ "$stops" -ge 4 ]
cmp "$2/whole/weights.npz" "$2/stopped/weights.npz"
