// Built with link_other.cpp and link_parts.cpp into one program: whatever the headers define is
// inline, and the single header meets the parts.
#include <torch_npy.hpp>

#include <iostream>

at::Tensor loaded_elsewhere(const char* path);
std::string saved(const at::Tensor& tensor);

int main(int, char** argv) {
  const at::Tensor array = torch_npy::load(argv[1]);
  const std::string bytes = saved(loaded_elsewhere(argv[1]));
  const bool same = array.equal(torch_npy::load_bytes(bytes.data(), bytes.size()));
  std::cout << (same ? "the same" : "not the same") << '\n';
}
