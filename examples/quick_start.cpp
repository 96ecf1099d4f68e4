// The first steps with torch_npy: a NumPy file becomes a tensor with the file's dtype and shape, or
// with a dtype that you ask for, and moves to the GPU if there is one.
//
//   quick_start [folder with images.npy and labels.npy]        default: examples/data

#include <torch_npy.hpp>

#include <exception>
#include <filesystem>
#include <iostream>

int main(int argc, char** argv) {
  try {
    std::filesystem::current_path(argc > 1 ? argv[1] : "examples/data");

    torch::Tensor images = torch_npy::load("images.npy");  // dtype and shape are those of the file
    std::cout << "images: " << images.scalar_type() << ' ' << images.sizes() << '\n';

    const auto as_float = torch_npy::LoadOptions().dtype(torch::kFloat32);
    images = torch_npy::load("images.npy", as_float);  // converts while reading
    torch::Tensor labels = torch_npy::load("labels.npy");
    std::cout << "images: " << images.scalar_type() << ' ' << images.sizes() << '\n';
    std::cout << "labels: " << labels.scalar_type() << ' ' << labels.sizes() << '\n';

    const torch::Device device = torch_npy::default_device();  // CUDA if available, else the CPU
    images = torch_npy::to_device(images, device);
    labels = torch_npy::to_device(labels, device);
    std::cout << "device: " << images.device() << '\n';
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
