#ifndef TORCH_NPY_DATA_PERMUTATION_HPP_
#define TORCH_NPY_DATA_PERMUTATION_HPP_

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <torch_npy/data/random.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A pseudorandom permutation of 0 ... size - 1, chosen by `key`; the same on every platform. Gives
/// the number at any position without computing the others. Uses at most 8 KiB for any size.
/// Read-only: safe from any thread.
///
/// Up to kTableSize numbers are a shuffled table, in which every permutation is equally likely.
/// More numbers are a Feistel network on the numbers below the next power of two. The network is
/// applied again until the result is less than `size`: less than twice, on average.
class Permutation {
 public:
  static constexpr std::uint64_t kTableSize = 4096;

  Permutation(std::uint64_t size, std::uint64_t key) : size_(size) {
    SplitMix64 random(key);
    if (size <= kTableSize) {
      table_.resize(static_cast<std::size_t>(size));
      for (std::size_t i = 0; i < table_.size(); ++i) table_[i] = static_cast<std::uint16_t>(i);
      for (std::size_t i = table_.size(); i > 1; --i) {
        std::swap(table_[i - 1], table_[static_cast<std::size_t>(random.below(i))]);
      }
      return;
    }
    int bits = 0;
    while (bits < 64 && (size - 1) >> bits != 0) ++bits;
    low_bits_ = bits / 2;
    high_bits_ = bits - low_bits_;
    for (std::uint64_t& round_key : round_keys_) round_key = random.next();
  }

  std::uint64_t size() const noexcept { return size_; }

  /// The number at `position`, which must be less than size().
  std::uint64_t operator()(std::uint64_t position) const noexcept {
    if (size_ <= kTableSize) return table_[static_cast<std::size_t>(position)];
    do position = network(position);
    while (position >= size_);
    return position;
  }

 private:
  std::uint64_t network(std::uint64_t number) const noexcept {
    std::uint64_t low = number & ((std::uint64_t{1} << low_bits_) - 1);
    std::uint64_t high = number >> low_bits_;
    for (std::size_t round = 0; round < round_keys_.size(); round += 2) {
      low ^= SplitMix64(round_keys_[round] ^ high).next() >> (64 - low_bits_);
      high ^= SplitMix64(round_keys_[round + 1] ^ low).next() >> (64 - high_bits_);
    }
    return high << low_bits_ | low;
  }

  std::uint64_t size_;
  std::vector<std::uint16_t> table_;
  int low_bits_ = 0;
  int high_bits_ = 0;
  std::array<std::uint64_t, 4> round_keys_{};
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_PERMUTATION_HPP_
