// Reads objects of a store that are kept on disk, in a random order, until it is killed. For
// kill_cache.py:
//
//   cacher FOLDER BYTES SEED READS       READS 0: without end
//
// Ends with 1 if an object is not what the store has.

#include <torch_npy/io/folder.hpp>
#include <torch_npy/io/store.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>

namespace {

constexpr int kObjects = 200;

/// The objects are numbers, of 1 KiB to 200 KiB; a few are larger than one request.
class Numbers final : public torch_npy::ObjectStore {
 public:
  static std::string name_of(int i) { return std::to_string(1000 + i) + ".npy"; }
  static std::string content(int i) {
    std::mt19937 random(static_cast<unsigned>(i));
    const std::size_t size = i % 50 == 0 ? 5'000'000 : 1024 + random() % 200'000;
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    return bytes;
  }

  Numbers() {
    for (int i = 0; i < kObjects; ++i) contents_[i] = content(i);
  }

  void list(const std::string&, bool,
            const std::function<void(torch_npy::StoreObject)>& found) const override {
    for (int i = 0; i < kObjects; ++i) found(*find(name_of(i)));
  }
  std::optional<torch_npy::StoreObject> find(const std::string& name) const override {
    return torch_npy::StoreObject{name, contents_[std::stoi(name) - 1000].size(), 1};
  }
  std::size_t read(const torch_npy::StoreObject& object, void* out, std::size_t size,
                   std::uint64_t offset) const override {
    return contents_[std::stoi(object.name) - 1000].copy(static_cast<char*>(out), size, offset);
  }
  std::string uri(const std::string& name) const override { return "numbers://" + name; }

  const std::string& bytes_of(std::size_t i) const { return contents_[i]; }

 private:
  std::string contents_[kObjects];
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return std::fprintf(stderr, "usage: cacher FOLDER BYTES SEED READS\n"), 2;
  const auto numbers = std::make_shared<const Numbers>();
  const torch_npy::FileList list =
      torch_npy::Store(numbers).cached_on_disk(argv[1], std::strtoull(argv[2], nullptr, 10)).list();
  std::mt19937 random(static_cast<unsigned>(std::atoi(argv[3])));
  const long reads = std::atol(argv[4]);
  std::printf("ready\n");
  std::fflush(stdout);
  for (long n = 0; reads == 0 || n < reads; ++n) {
    const std::size_t i = reads == 0 ? random() % kObjects : static_cast<std::size_t>(n) % kObjects;
    const auto source = list.source(i, torch_npy::detail::ObjectUse::Whole);
    std::string bytes(source->size(), '\0');
    source->read_fully(bytes.data(), bytes.size(), 0);
    if (bytes != numbers->bytes_of(i)) return std::fprintf(stderr, "object %zu is wrong\n", i), 1;
  }
  return 0;
}
