#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/save.hpp>

#include <sstream>

std::string saved(const at::Tensor& tensor);
std::string saved(const at::Tensor& tensor) {
  std::ostringstream stream;
  torch_npy::save(stream, tensor);
  return stream.str();
}
