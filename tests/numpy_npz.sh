#!/usr/bin/env bash
# Lets NumPy and zipfile write archives, the tests read them and write others, and NumPy, zipfile and
# unzip read those.
#
#   numpy_npz.sh PYTHON TESTS FOLDER
set -euo pipefail
data=$(dirname "${BASH_SOURCE[0]}")/numpy_files
rm -rf "$3"
mkdir -p "$3/written"
"$1" -W ignore "$data/make_npz.py" write "$data/arrays" "$3"
TORCH_NPY_ARCHIVES=$3 TORCH_NPY_WRITE_TO=$3/written "$2" '[numpy]'
"$1" -W ignore "$data/make_npz.py" check "$data/arrays" "$3/written"
rm -rf "$3"
