#!/usr/bin/env bash
# Runs an example in a folder made anew, with the files that it reads and the arguments it takes:
#
#   run_in_folder.sh PROGRAM FOLDER        TORCH_NPY_PYTHON names a Python that has NumPy
set -euo pipefail

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" >/dev/null && pwd)
program=$(realpath "$1")
rm -rf "$2"
mkdir -p "$2"
cd -- "$(realpath "$2")"
cp "$examples"/data/*.npy .
case ${program##*/} in
  folder | paired_folders | transformed_folder | records)
    "${TORCH_NPY_PYTHON:-python3}" "$examples/../tests/make_folders.py" .
    ;;
  from_pytorch) cp "$examples"/data/*.npz . ;;
  medmnist | slices | speech | tokens | recordings | volumes | classes | frames)
    "${TORCH_NPY_PYTHON:-python3}" "$examples/layouts.py" "${program##*/}" .
    ;;
esac
case ${program##*/} in
  quick_start | train_digits) arguments=(.) ;;
  distributed_training) arguments=(--nproc 2 --data .) ;;
  records) arguments=(particles.npy) ;;
  inspect) arguments=(--stats --show images.npy labels.npy) ;;
  *) arguments=() ;;
esac
exec "$program" "${arguments[@]}"
