// The parser of headers alone, for it needs no LibTorch, in a program that counts what is
// allocated:
//
//   parse FILE COUNT    more: allocations of one call

#include <torch_npy/format/header.hpp>

#include <cstdlib>
#include <new>

#include "worker.hpp"

namespace {

std::size_t allocations = 0;

bench::Answer parse(const bench::Words& words) {
  std::ifstream file(words.at(1), std::ios::binary);
  char bytes[1024];
  file.read(bytes, sizeof bytes);
  const auto size = static_cast<std::size_t>(file.gcount());
  const std::size_t count = bench::number(words.at(2));
  std::uint64_t elements = 0;
  allocations = 0;
  const double time = bench::seconds(count, [&] {
    elements += static_cast<std::uint64_t>(torch_npy::parse_header(bytes, size).numel());
  });
  const double each = static_cast<double>(allocations) / static_cast<double>(count);
  return {time, elements, std::to_string(each)};
}

}  // namespace

void* operator new(std::size_t size) {
  ++allocations;
  if (void* const memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

int main() { return bench::serve({{"parse", parse}}); }
