#!/usr/bin/env bash
# Compiles the tests for other systems and processors, and runs them where this machine can:
#
#   bash tests/platforms.sh                  all of them, which takes long
#   bash tests/platforms.sh PLATFORM...      some of them
#
# Without LibTorch, run: windows (mingw-w64, by wine), x86 (32 bits), s390x (big-endian) and ppc64le, both by qemu, musl,
# and riscv64 (musl, by qemu). With LibTorch: arm64 (Debian's, run by qemu), macos and windows-libtorch (with the wheels
# of PyTorch, compiled by zig, never run). docs/platforms.md says what each of them tests.
#
# Works from any folder; installs what is missing from the packages of Debian 12. zig and the wheels come from PyPI.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." >/dev/null && pwd)
build=$root/build/platforms
# shellcheck source-path=SCRIPTDIR/.. source=cmake/setup.sh
. "$root/cmake/setup.sh"
# shellcheck source-path=SCRIPTDIR source=platforms/core.sh
. "$root/tests/platforms/core.sh"
# shellcheck source-path=SCRIPTDIR source=platforms/libtorch.sh
. "$root/tests/platforms/libtorch.sh"

all=(windows x86 s390x ppc64le musl riscv64 arm64 macos windows-libtorch)
for platform in "$@"; do
  [[ " ${all[*]} " = *" $platform "* ]] || die "There is no platform $platform. There are: ${all[*]}"
done
need g++ g++
mkdir -p "$build/include"
setup_catch2_header

[ $# != 0 ] || set -- "${all[@]}"
for platform in "$@"; do
  echo "==== $platform (after $SECONDS s)"
  "run_${platform//-/_}"
done
