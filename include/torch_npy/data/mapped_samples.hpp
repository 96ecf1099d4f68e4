#ifndef TORCH_NPY_DATA_MAPPED_SAMPLES_HPP_
#define TORCH_NPY_DATA_MAPPED_SAMPLES_HPP_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string_view>
#include <vector>

#include <torch_npy/data/mapped_files.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Files that stay mapped from their first use on, as long as this object exists. All objects of
/// this class together map at most kMaxMappings files. Safe from any thread.
class MappedSamples {
 public:
  explicit MappedSamples(std::size_t count) : files_(count) {}
  MappedSamples(const MappedSamples&) = delete;
  MappedSamples& operator=(const MappedSamples&) = delete;
  ~MappedSamples() {
    for (const auto& file : files_) {
      if (file == nullptr) continue;
      delete file.load();
      --mapped();
    }
  }

  /// The bytes of file `i`. `open()` returns the file if it is not mapped yet. Empty if it cannot
  /// be mapped: too many files are, the system refuses, or it is empty. Throws what open() throws.
  template <class Open>
  std::string_view bytes(std::size_t i, const Open& open) const {
    const Bytes* known = files_[i].load(std::memory_order_acquire);
    if (known == nullptr && mapped() < kMaxMappings) known = map(i, open());
    if (known == nullptr) return {};
    return {static_cast<const char*>(known->mapping.data()), known->size};
  }

 private:
  struct Bytes {
    Mapping mapping;
    std::size_t size;
  };

  /// How many files all objects map.
  static std::atomic<std::size_t>& mapped() {
    static std::atomic<std::size_t> count{0};
    return count;
  }

  const Bytes* map(std::size_t i, const File& file) const {
    const std::uint64_t size = file.size();
    if (size == 0 || size > SIZE_MAX) return nullptr;
    if (++mapped() <= kMaxMappings) {
      try {
        const auto bytes = static_cast<std::size_t>(size);
        auto made = std::make_unique<const Bytes>(
            Bytes{Mapping::of(file.internal_traits().range, 0, bytes), bytes});
        const Bytes* there = nullptr;
        if (files_[i].compare_exchange_strong(there, made.get())) return made.release();
        --mapped();
        return there;                    // another thread was faster
      } catch (const std::exception&) {  // Error or std::bad_alloc
      }
    }
    --mapped();
    return nullptr;
  }

  mutable std::vector<std::atomic<const Bytes*>> files_;  // null if not mapped
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_MAPPED_SAMPLES_HPP_
