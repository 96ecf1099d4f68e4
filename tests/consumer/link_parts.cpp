#include <torch_npy/load.hpp>
#include <torch_npy/save.hpp>

#include <sstream>

std::string saved(const at::Tensor& tensor);
std::string saved(const at::Tensor& tensor) {
  std::ostringstream stream;
  torch_npy::save(stream, tensor);
  return stream.str();
}
