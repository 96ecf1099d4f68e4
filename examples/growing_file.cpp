// A file that grows while a program runs, and that NumPy can read at any time.
#include <torch_npy.hpp>

#include <iostream>

int main() {
  torch_npy::Appender log("losses.npy", /*row_shape=*/{2}, torch::kFloat32);  // creates or opens it
  for (int step = 0; step < 1000; ++step) {
    const double loss = 1.0 / (step + 1);
    log.append(torch::tensor({static_cast<float>(step), static_cast<float>(loss)}));  // one row
    if (step % 100 == 99) log.flush();  // from now on a reader of the file sees these rows
  }
  log.append(torch::zeros({3, 2}));  // several rows
  log.close();

  std::cout << torch_npy::load("losses.npy").sizes() << '\n';
}
