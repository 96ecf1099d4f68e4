#!/usr/bin/env bash
# Lets SciPy write sparse matrices, the tests read them and write others, and SciPy read those.
#
#   scipy_sparse.sh PYTHON TESTS FOLDER
set -euo pipefail
make=$(dirname "${BASH_SOURCE[0]}")/numpy_files/make_sparse.py
if ! "$1" -c 'import scipy.sparse' 2>/dev/null; then
  echo "not checked: $1 has no SciPy"
  exit 0
fi
rm -rf "$3"
mkdir -p "$3/written"
"$1" -W ignore "$make" write "$3"
TORCH_NPY_SPARSE=$3 TORCH_NPY_WRITE_TO=$3/written "$2" '[scipy]'
"$1" -W ignore "$make" check "$3/written"
rm -rf "$3"
