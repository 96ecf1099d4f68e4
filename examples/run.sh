#!/usr/bin/env bash
# Builds and runs an example:
#
#   bash examples/run.sh                        trains a small network on handwritten digits
#   bash examples/run.sh NAME                   any of them, with what it reads: see examples/README.md
#   bash examples/run.sh NAME ARGUMENT...       with arguments of your own, in your folder
#   bash examples/run.sh inspect [--stats] [--show] FILE...   what is in .npy and .npz files
#
# Works from any folder. What is missing is installed from Debian's packages (as root or with sudo).
# A LibTorch that Torch_DIR, CMAKE_PREFIX_PATH or the active Python holds is used before one is
# installed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/examples
example=${1:-train_digits}
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"
[[ $example != */* && -e $root/examples/$example.cpp ]] || die "There is no example $example in $root/examples, but there are:" \
    "$(cd "$root/examples" && printf '  %s\n' *.cpp | sed 's/\.cpp$//')"

# What the example prints may be for another program; the rest is for who waits for it.
exec 3>&1 >&2

echo "Step 1 of 4: finding what the example needs"
setup_build_tools
setup_libtorch
options=(-DTORCH_NPY_WITH_ARROW=OFF)
case $example in
  distributed_training) setup_gloo ;;
  inspect) setup_libdeflate ;;
  object_store)
    setup_arrow "$root/build/arrow-python"
    options=("-DTORCH_NPY_PYARROW_PYTHON=$TORCH_NPY_PYARROW_PYTHON" -DTORCH_NPY_WITH_ARROW=ON)
    ;;
  medmnist) setup_libdeflate && setup_numpy ;;
  folder | paired_folders | transformed_folder | records) setup_numpy ;;
  slices | speech | tokens | recordings | volumes | classes | frames) setup_numpy ;;
  train_fashion_mnist)
    setup_numpy
    [ -d /usr/share/datasets/fashion-mnist ] || install_packages dataset-fashion-mnist
    ;;
esac

echo "Step 2 of 4: configuring $build"
output=$(configure "$root" "$build" -DCMAKE_BUILD_TYPE=Release -DTORCH_NPY_BUILD_TESTS=OFF \
  -DTORCH_NPY_BUILD_EXAMPLES=ON "${options[@]}" 2>&1) || die "$output" "CMake could not configure $build"
grep "Left out: the example $example" <<<"$output" >&2 && exit 1

echo "Step 3 of 4: building (LibTorch's headers are large, the first time takes about a minute)"
cmake --build "$build" --target "$example"

run() { "$build/examples/$example" "$@" >&3; }
if [ $# -gt 1 ]; then
  echo "Step 4 of 4: running it"
  run "${@:2}"
elif [ "$example" = object_store ]; then
  echo "Step 4 of 4: running it with a server of its own"
  "$TORCH_NPY_PYARROW_PYTHON" "$root/tests/arrow/with_server.py" moto "$TORCH_NPY_PYARROW_PYTHON" \
    "$root/examples/put_digits.py" "$build/examples/object_store" >&3
elif [ "$example" = train_fashion_mnist ]; then
  data=$root/build/fashion-mnist
  if [ ! -e "$data/complete" ]; then
    echo "Making .npy files in $data"
    "$TORCH_NPY_PYTHON" "$root/examples/fashion_mnist.py" "$data"
    touch "$data/complete"
  fi
  echo "Step 4 of 4: training, which takes some minutes"
  for layout in arrays paired classes; do
    echo "From $layout:" >&3
    run "$layout" "$data" 3
  done
else
  echo "Step 4 of 4: running it in $build/files/$example"
  bash "$root/examples/run_in_folder.sh" "$build/examples/$example" "$build/files/$example" >&3
fi
