#include <torch_npy/tensor/load.hpp>
#include <torch_npy/world.hpp>

#include <iostream>

int main(int, char** argv) {
  auto world = torch_npy::World::from_environment();
  const at::Tensor images = torch_npy::load(argv[1]);
  world.broadcast(images);
  std::cout << "rank " << world.rank() << " of " << world.size() << ": " << images.sizes() << '\n';
}
