// How libFuzzer changes an .npy file: at random, and in most cases with a corrected length of the
// header. Otherwise most changes of the text would not be parsed.

#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::size_t prefix = size > 6 && data[6] == 1 ? 10 : 12;
  const std::size_t brace = bytes.rfind('}', std::minstd_rand(seed)() % 2 == 0 ? size : 200);
  if (seed % 8 == 0 || brace == bytes.npos || brace < prefix) return size;
  std::size_t length = brace + 1 - prefix;
  if (brace + 1 < size && data[brace + 1] == '\n') ++length;
  for (std::size_t at = 8; at < prefix; ++at, length >>= 8) {
    data[at] = static_cast<std::uint8_t>(length & 0xff);
  }
  return size;
}
