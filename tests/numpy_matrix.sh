#!/usr/bin/env bash
# Has NumPy write every dtype, byte order, order, version and rank, and the tensor tests read it all.
#
#   numpy_matrix.sh PYTHON TESTS FOLDER
set -euo pipefail
rm -rf "$3"
"$1" -W ignore "$(dirname "${BASH_SOURCE[0]}")/data/make_data.py" --all "$3"
TORCH_NPY_ARRAYS=$3 "$2" '[numpy]'
rm -rf "$3"
