#pragma once

#include <torch_npy/io/byte_source.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

/// A source as a program would write it, which gives at most `drip` bytes a read and counts its
/// calls.
class DrippingSource final : public torch_npy::ByteSource {
 public:
  explicit DrippingSource(std::string bytes, std::size_t drip, std::string name = "drips")
      : bytes_(std::move(bytes)), drip_(drip), name_(std::move(name)) {}

  std::uint64_t size() const override {
    ++sizes_;
    return bytes_.size();
  }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    ++reads_;
    if (offset >= bytes_.size()) return 0;
    const auto begin = static_cast<std::size_t>(offset);
    size = (std::min)({size, drip_, bytes_.size() - begin});
    std::memcpy(out, bytes_.data() + begin, size);
    return size;
  }

  std::string name() const override { return name_; }

  int reads() const { return reads_; }
  int sizes() const { return sizes_; }

 private:
  std::string bytes_;
  std::size_t drip_;
  std::string name_;
  mutable std::atomic<int> reads_{0};
  mutable std::atomic<int> sizes_{0};
};
