// Saves to one path until kill.py kills the process: reads "save PATH", "save_npz PATH",
// "update_npz PATH" or "append PATH" from standard input, forks a process that does it, and writes
// the id of the process.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>

#include <torch_npy/tensor/append.hpp>
#include <torch_npy/tensor/npz.hpp>
#include <torch_npy/tensor/save_npz.hpp>
#include <torch_npy/tensor/update_npz.hpp>

#include <filesystem>
#include <iostream>
#include <random>

using namespace torch_npy;

namespace {

/// An array that shows whether it is complete: its number gives the number of rows, and is the
/// value of each element.
at::Tensor version(std::int64_t number) {
  return at::full({number % 50 * number % 50 + 1, 1000}, number, at::kLong);
}

[[noreturn]] void work(const std::string& how, const std::string& path) {
  std::mt19937 random(static_cast<unsigned>(::getpid()));
  const auto is_synced = [&] { return random() % 16 == 0; };
  if (how == "append") {
    // The number of flushed rows is written to another file, with which kill.py compares the array.
    const int flushed = ::open((path + ".rows").c_str(), O_WRONLY | O_CREAT, 0600);
    Appender appender(path, {3}, at::kLong, SaveOptions().sync(random() % 2 == 0));
    for (;;) {
      const auto count = static_cast<std::int64_t>(random() % 100 == 0 ? 20000 : random() % 50);
      const std::int64_t first = appender.rows();
      appender.append(at::arange(3 * first, 3 * (first + count)).view({count, 3}));
      if (random() % 3 != 0) continue;
      appender.flush();
      const std::int64_t rows = appender.rows();
      if (::pwrite(flushed, &rows, sizeof rows, 0) != sizeof rows) ::_exit(1);
    }
  }
  if (how == "update_npz" && !std::filesystem::exists(path)) {
    // "odd" is there if the number of "a" is odd.
    save_npz(path, {{"kept", version(777)}, {"a", version(0)}, {"b", version(1)}});
  }
  for (std::int64_t number = static_cast<std::int64_t>(random() % 1000);; ++number) {
    if (how == "update_npz") {
      torch::OrderedDict<std::string, at::Tensor> arrays;
      arrays.insert("a", version(number));
      arrays.insert("b", version(number + 1));
      if (number % 2 != 0) arrays.insert("odd", version(number));
      const bool has_odd = NpzFile(path).contains("odd");
      const std::vector<std::string> remove(has_odd && number % 2 == 0 ? 1 : 0, "odd");
      update_npz(path, arrays, remove, SaveNpzOptions().sync(is_synced()));
    } else if (how == "save") {
      save(path, version(number), SaveOptions().sync(is_synced()));
    } else {
      save_npz(path, {{"a", version(number)}, {"b", version(number + 1)}},
               SaveNpzOptions().sync(is_synced()));
    }
  }
}

}  // namespace

int main() {
  ::signal(SIGCHLD, SIG_IGN);  // no zombies
  (void)version(1);
  for (std::string how, path; std::cin >> how && std::getline(std::cin >> std::ws, path);) {
    const pid_t child = ::fork();
    if (child == 0) work(how, path);
    std::cout << child << std::endl;
  }
}
