// The first steps with torch_npy: a NumPy file becomes a tensor with the file's dtype and shape, or
// with a dtype that you ask for, and moves to the GPU if there is one.
//
//   quick_start [folder with images.npy and labels.npy]        default: examples/data

#include <torch_npy.hpp>

#include <filesystem>
#include <iostream>

namespace {

void print(const char* name, const torch::Tensor& tensor) {
  std::cout << name << ": dtype " << tensor.dtype() << ", shape " << tensor.sizes() << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  const std::filesystem::path data = argc > 1 ? argv[1] : "examples/data";
  try {
    // One array: dtype and shape are the file's.
    const torch::Tensor array = torch_npy::load(data / "images.npy");
    print("array", array);

    // Images and labels from two files. A network wants its images as floats.
    const auto as_float = torch_npy::LoadOptions().dtype(torch::kFloat32);
    torch::Tensor images = torch_npy::load(data / "images.npy", as_float);
    torch::Tensor labels = torch_npy::load(data / "labels.npy");
    print("images", images);
    print("labels", labels);

    // To the GPU if there is one. Without one the device is the CPU, and nothing is copied.
    const torch::Device device = torch_npy::default_device();
    images = torch_npy::to_device(images, device);
    labels = torch_npy::to_device(labels, device);
    std::cout << "device: " << images.device() << '\n';
  } catch (const torch_npy::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
