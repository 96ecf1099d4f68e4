# A toolchain file for CMake: Debian's cross compiler for aarch64, and a Debian of arm64 in TORCH_NPY_ARM64_ROOT, from
# which everything is taken. qemu runs the programs, with one thread of OpenMP: tests fork, and OpenMP hangs in a child of a
# process that has used several.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TORCH_NPY_ARM64_ROOT)
set(CMAKE_SYSROOT "${TORCH_NPY_ARM64_ROOT}")
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_FIND_ROOT_PATH "${TORCH_NPY_ARM64_ROOT}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

# Where Debian's alternatives, which this root does not have, would lead.
set(blas /usr/lib/aarch64-linux-gnu/blas /usr/lib/aarch64-linux-gnu/lapack)
foreach(folder IN LISTS blas)
  string(APPEND CMAKE_EXE_LINKER_FLAGS_INIT " -Wl,-rpath-link,${CMAKE_SYSROOT}${folder}")
endforeach()
list(JOIN blas ":" blas)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L "${CMAKE_SYSROOT}" -E OMP_NUM_THREADS=1
  -E "LD_LIBRARY_PATH=${blas}")
