// A network that was trained in Python with PyTorch, used in C++. data/make_model.py made the
// files: model.npz has the state_dict(), model_check.npz what PyTorch computes for eight images.
#include <torch/torch.h>
#include <torch_npy.hpp>

#include <exception>
#include <iostream>

// The structure and the names are those of the class in make_model.py.
struct NetworkImpl : torch::nn::Module {
  explicit NetworkImpl(int classes = 10) : classifier(64, classes) {
    register_module("features", features);
    register_module("classifier", classifier);
  }

  torch::Tensor forward(const torch::Tensor& images) {
    return classifier->forward(features->forward(images).flatten(1));
  }

  static torch::nn::Conv2d convolution(int inputs, int outputs) {
    return torch::nn::Conv2d(torch::nn::Conv2dOptions(inputs, outputs, 3).padding(1).bias(false));
  }

  torch::nn::Sequential features{
      convolution(1, 8),  torch::nn::BatchNorm2d(8),  torch::nn::ReLU(), torch::nn::MaxPool2d(2),
      convolution(8, 16), torch::nn::BatchNorm2d(16), torch::nn::ReLU(), torch::nn::MaxPool2d(2)};
  torch::nn::Linear classifier;
};
TORCH_MODULE(Network);

int main() {
  try {
    Network network;
    torch_npy::load_parameters(network, "model.npz");  // weights and the buffers of BatchNorm
    network->eval();
    const torch::NoGradGuard no_grad;

    const auto check = torch_npy::load_npz("model_check.npz");
    const auto scores = network->forward(check["images"]);
    const bool is_equal = torch::allclose(scores, check["scores"], /*rtol=*/1e-4, /*atol=*/1e-4);
    std::cout << "the scores are " << (is_equal ? "" : "not ") << "those of PyTorch\n";

    // Those that it was not trained on.
    const auto options = torch_npy::LoadOptions().rows(1437, 1797);
    const auto images = torch_npy::load("images.npy", options).unsqueeze(1) / 16;
    const auto right =
        network->forward(images).argmax(1).eq(torch_npy::load("labels.npy", options));
    std::cout << right.sum().item<int>() << " of " << right.size(0) << " digits are recognized\n";

    // A network of another structure gets no weights.
    torch_npy::load_parameters(Network(16), "model.npz");
  } catch (const std::exception& error) {
    std::cout << error.what() << '\n';
  }
}
