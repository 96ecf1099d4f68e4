#!/usr/bin/env bash
# Reads the sources with clang-format, clang-tidy and include-what-you-use:
#
#   bash tests/lint.sh
#
# include-what-you-use takes most of the time. Works from any folder; installs what is missing
# from Debian's packages. clang-tidy is that of PyPI, whose version is below.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/lint
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"
cd "$root" >/dev/null
mkdir -p "$build"

echo "Step 1 of 3: clang-format"
need clang-format clang-format
git ls-files -z '*.hpp' '*.cpp' ':!include/torch_npy.hpp' | xargs -0 clang-format --dry-run -Werror

setup_build_tools
setup_libtorch
setup_gloo
setup_libdeflate
folders=()
for folder in "${Torch_DIR%/share/cmake/Torch}" /usr; do # that of a wheel, or Debian's
  [ ! -e "$folder/include/torch/data.h" ] && [ ! -e "$folder/include/torch/csrc/api/include/torch/data.h" ] ||
    folders+=(-isystem "$folder/include" -isystem "$folder/include/torch/csrc/api/include")
done
[ "${folders[1]:-}" != /usr/include ] || folders=(-isystem /usr/include/torch/csrc/api/include)
options=(-std=c++17 -Iinclude "${folders[@]}" -DTORCH_NPY_WITH_LIBDEFLATE)

echo "Step 2 of 3: clang-tidy"
tidy=$build/clang-tidy/bin/clang-tidy
if ! "$tidy" --version >/dev/null 2>&1; then
  python3 -m ensurepip --version >/dev/null 2>&1 || install_packages python3 python3-venv
  { python3 -m venv "$build/clang-tidy" && "$build/clang-tidy/bin/pip" install --quiet clang-tidy==23.1.4; } >"$build/pip.log" 2>&1 ||
    echo "PyPI is not reached (see $build/pip.log): the newest clang-tidy is left out"
fi
if [ -x "$tidy" ]; then
  : >"$build/all.cpp"
  for floor in format io tensor data; do echo "#include <torch_npy/$floor.hpp>" >>"$build/all.cpp"; done
  [ ! -e /usr/include/gloo/config.h ] || echo '#include <torch_npy/world.hpp>' >>"$build/all.cpp"
  "$tidy" --quiet --config-file=.clang-tidy "$build/all.cpp" -- "${options[@]}" -DUSE_C10D_GLOO >"$build/tidy.log" 2>&1 ||
    die "$(grep -E 'warning:|error:' -A 4 "$build/tidy.log")"
  echo "nothing to report"
fi

echo "Step 3 of 3: include-what-you-use"
need include-what-you-use iwyu
setup_numpy # for its Python
"$TORCH_NPY_PYTHON" tests/include_what_you_use.py "${options[@]}"
