# shellcheck shell=bash
# The tests of tensors and data sets, on other systems and processors, with their LibTorch. Sourced by tests/platforms.sh.

# configure_for NAME: in build/platforms/NAME, with the array `options`.
configure_for() {
  local output
  output=$(cmake -S "$root" -B "$build/$1" -G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG" \
    -DTORCH_NPY_BUILD_TESTS=ON -DTORCH_NPY_TEST_EACH_CASE=OFF -DTORCH_NPY_TEST_CONSUMERS=OFF \
    -DTORCH_NPY_BUILD_EXAMPLES=ON "-DCatch2_DIR=$build/catch2" "${options[@]}" 2>&1) ||
    die "$output" "CMake could not configure $build/$1"
}

# Those of a build that cannot be linked.
objects_in() { # FOLDER
  ninja -C "$1" -t targets all | sed -n 's/^\([^:]*\.obj\): .*/\1/p'
}

# consume NAME OBJECTS_ONLY RUNNER...: a project that uses the library by find_package and by FetchContent, with the array
# `options`. The program runs if there is a runner.
consume() {
  local folder=$build/$1-consumer way output targets=(app)
  cmake --install "$build/$1" --prefix "$folder/prefix" >"$folder.log"
  for way in find_package FetchContent; do
    local source=("-DTORCH_NPY=$root")
    [ $way = FetchContent ] || source=("-Dtorch_npy_DIR=$folder/prefix/share/cmake/torch_npy")
    output=$(cmake -S "$root/tests/consumer/project" -B "$folder/$way" -G Ninja -DCMAKE_BUILD_TYPE=Release -DWAY=$way \
      -DPROGRAM=app.cpp -DLIBRARY=torch_npy::torch_npy "${source[@]}" "${options[@]}" 2>&1) ||
      die "$output" "CMake could not configure $folder/$way"
    [ "$2" = no ] || mapfile -t targets < <(objects_in "$folder/$way")
    cmake --build "$folder/$way" --target "${targets[@]}" >"$folder.log" || die "$(cat "$folder.log")"
    echo "a program by $way: $([ $# = 2 ] && echo built || "${@:3}" "$folder/$way/app" "$root/examples/data/images.npy")"
  done
}

# A Debian of arm64, in which nothing is run, not even to install it.
setup_arm64_root() { # FOLDER
  local mirror
  [ -e "$1/.ready" ] && return
  need mmdebstrap mmdebstrap
  need arch-test arch-test
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk '$2 == "bookworm" { print $1; exit }')
  [ -n "$mirror" ] || die "There is no mirror of Debian 12 in apt's sources"
  rm -rf "$1"
  echo "Making a Debian of arm64 in $1 (1 GB)"
  quietly mmdebstrap --quiet --variant=extract --architectures=arm64 --aptopt='APT::Install-Recommends "false"' \
    --include=libtorch-dev,libdeflate-dev,libgloo-dev,libstdc++-12-dev bookworm "$1" "$mirror" ||
    die "mmdebstrap could not make $1"
  touch "$1/.ready"
}

# A package of Catch2 2 for CMake. Programs for other systems cannot be asked for their cases.
setup_catch2_package() {
  mkdir -p "$build/catch2"
  echo "function(catch_discover_tests)
endfunction()" >"$build/catch2/Catch.cmake"
  echo "set(Catch2_VERSION 2.13)
add_library(Catch2::Catch2 INTERFACE IMPORTED)
set_target_properties(Catch2::Catch2 PROPERTIES INTERFACE_INCLUDE_DIRECTORIES \"$build/include\")
list(APPEND CMAKE_MODULE_PATH \"$build/catch2\")" >"$build/catch2/Catch2Config.cmake"
}

run_arm64() {
  local debian=$build/arm64-root
  local options=("-DCMAKE_TOOLCHAIN_FILE=$root/tests/platforms/arm64.cmake" "-DTORCH_NPY_ARM64_ROOT=$debian")
  need qemu-aarch64-static qemu-user-static
  need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
  setup_build_tools
  setup_arm64_root "$debian"
  setup_catch2_package
  configure_for arm64
  cmake --build "$build/arm64"
  ctest --test-dir "$build/arm64" --output-on-failure -j "$(nproc)" -R ': all cases$'
  consume arm64 no qemu-aarch64-static -L "$debian" -E \
    LD_LIBRARY_PATH=/usr/lib/aarch64-linux-gnu/blas:/usr/lib/aarch64-linux-gnu/lapack
}

# setup_wheel FOLDER PLATFORM VERSION: PyTorch's wheel for another system, unpacked.
setup_wheel() {
  [ -e "$1/.ready" ] && return
  need unzip unzip
  echo "Fetching torch $3 for $2"
  rm -rf "$1"
  "$TORCH_NPY_ZIG" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 --platform "$2" \
    --dest "$1" "torch==$3" || die "PyPI has no torch $3 for $2"
  unzip -q "$1"/*.whl 'torch/include/*' 'torch/lib/*' 'torch/share/*' -d "$1"
  rm "$1"/*.whl
  touch "$1/.ready"
}

# zig_options TARGET WHEEL FLAGS: sets `options`. Without warnings: clang has some about Catch2's macros.
zig_options() {
  options=("-DCMAKE_TOOLCHAIN_FILE=$root/tests/platforms/zig.cmake" "-DTORCH_NPY_ZIG=$TORCH_NPY_ZIG"
    "-DTORCH_NPY_ZIG_TARGET=$1" "-DTORCH_NPY_ZIG_ROOT=$2" "-DTorch_DIR=$2/torch/share/cmake/Torch"
    "-DCMAKE_CXX_FLAGS=-w $3")
}

# Compiled and linked. PyTorch's last wheel for Macs with an Intel processor is 2.2.
run_macos() {
  local options
  setup_zig "$build/zig" || return 0
  setup_build_tools
  setup_catch2_package
  setup_wheel "$build/macos-arm64-wheel" macosx_11_0_arm64 2.7.1
  setup_wheel "$build/macos-x86_64-wheel" macosx_10_9_x86_64 2.2.2
  zig_options aarch64-macos "$build/macos-arm64-wheel" ''
  configure_for macos-arm64
  cmake --build "$build/macos-arm64"
  consume macos-arm64 no
  # zig cannot read this one, which has no symbols.
  ln -sf libtorch_cpu.dylib "$build/macos-x86_64-wheel/torch/lib/libtorch.dylib"
  zig_options x86_64-macos "$build/macos-x86_64-wheel" ''
  configure_for macos-x86_64
  cmake --build "$build/macos-x86_64" --target core tensor dataset loader quick_start train_digits
  consume macos-x86_64 no
  echo "macOS: compiled and linked, not run"
}

# Compiled, not linked: zig and mingw-w64 have another ABI than the LibTorch of the wheel. What LibTorch expects of
# Microsoft's C library is declared.
run_windows_libtorch() {
  local wheel=$build/windows-wheel folder=$build/windows-libtorch objects options
  local flags="-DC10_USING_CUSTOM_GENERATED_MACROS -include $root/tests/platforms/windows_shim.h"
  setup_zig "$build/zig" || return 0
  setup_build_tools
  setup_catch2_package
  setup_wheel "$wheel" win_amd64 2.7.1
  # shellcheck disable=SC2086 # words
  echo '#include <torch_npy.hpp>' | "$TORCH_NPY_ZIG" -m ziglang c++ -target x86_64-windows-gnu -std=c++17 $flags -Wall -Wextra \
    -Wpedantic -Wconversion -Wshadow -Werror "-I$root/include" -isystem "$wheel/torch/include" \
    -isystem "$wheel/torch/include/torch/csrc/api/include" -x c++ -c - -o "$build/windows-header.o"
  echo "torch_npy.hpp compiled without warnings"
  # Options of Microsoft's compiler alone.
  sed -i 's#;/EHsc;/bigobj##; s#:/Z7>#:>#' "$wheel/torch/share/cmake/Caffe2/Caffe2Targets.cmake"
  zig_options x86_64-windows-gnu "$wheel" "$flags"
  # A program that has precompiled headers for others would be linked.
  options+=(-DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON)
  configure_for windows-libtorch
  mapfile -t objects < <(objects_in "$folder" | grep -E '^(tests|examples)/')
  cmake --build "$folder" --target "${objects[@]}"
  consume windows-libtorch yes
  echo "Windows: ${#objects[@]} files compiled, not linked"
}
