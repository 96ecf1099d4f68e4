"""Conan 2: conan create cmake/packaging/conan

LibTorch is not taken from Conan: CMake finds the one of the machine, as it does without Conan (CMAKE_PREFIX_PATH, or
Torch_DIR), when the package is made and when it is used.
"""

import re
from pathlib import Path

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load, rmdir

ROOT = Path("..", "..", "..")


class TorchNpy(ConanFile):
    name = "torch_npy"
    description = "NumPy files to LibTorch tensors"
    license = "MIT"
    topics = ("numpy", "npy", "npz", "pytorch", "libtorch", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"with_libdeflate": [True, False]}
    default_options = {"with_libdeflate": False}

    def set_version(self):
        header = load(self, Path(self.recipe_folder, ROOT, "include", "torch_npy", "version.hpp"))
        self.version = ".".join(re.findall(r"#define TORCH_NPY_VERSION_[A-Z]+ (\d+)", header))

    def export_sources(self):
        for pattern in ("CMakeLists.txt", "LICENSE", "include/*", "cmake/*.cmake", "cmake/*.in"):
            copy(self, pattern, Path(self.recipe_folder, ROOT), self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        if self.options.with_libdeflate:
            self.requires("libdeflate/[>=1.14 <2]")

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables.update(TORCH_NPY_BUILD_TESTS=False, TORCH_NPY_BUILD_EXAMPLES=False)
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        rmdir(self, Path(self.package_folder, "share", "doc"))
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder, "licenses"))

    def package_id(self):
        self.info.clear()  # headers, the same for all

    def package_info(self):
        # The library's own CMake package, which looks for LibTorch, is the one that find_package() finds.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [str(Path("share", "cmake", "torch_npy"))]
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
