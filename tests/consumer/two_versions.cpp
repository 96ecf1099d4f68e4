// Built twice and linked into one program by two_versions.sh, each time with another version of the
// headers; the program says what each of the two does.
#include <torch_npy/io/read_header.hpp>

#include <iostream>

void say_here();
void say_elsewhere();

void SAY() {
  try {
    torch_npy::read_header("");
  } catch (const torch_npy::Error& error) {
    std::cout << error.what() << '\n';
  }
}

#ifdef MAIN
int main() {
  say_here();
  say_elsewhere();
}
#endif
