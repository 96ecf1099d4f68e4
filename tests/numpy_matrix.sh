#!/usr/bin/env bash
# Lets NumPy write every dtype, byte order, order, version and rank, plain and in structures, and the
# tests read them all.
#
#   numpy_matrix.sh PYTHON TENSOR_TESTS FIELDS_TESTS FOLDER
set -euo pipefail
data="$(dirname "${BASH_SOURCE[0]}")/numpy_files"
rm -rf "$4"
"$1" -W ignore "$data/make_data.py" --all "$4/arrays"
TORCH_NPY_ARRAYS=$4/arrays "$2" '[numpy]'
"$1" -W ignore "$data/make_fields.py" --all "$4/fields"
TORCH_NPY_FIELDS=$4/fields "$3" '[numpy]'
rm -rf "$4"
