// As in a program of which one source file was compiled without libdeflate.
#undef TORCH_NPY_WITH_LIBDEFLATE
#include <torch_npy.hpp>

at::Tensor loaded_without_the_macro(const char* path);
at::Tensor loaded_without_the_macro(const char* path) {
  return torch_npy::load_npz(path)["images"];
}
