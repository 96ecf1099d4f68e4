// CRC-32.

#include <cstdint>
#include <string>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

TEST_CASE("CRC-32 is that of ZIP, in one call or in two", "[zip]") {
  for (auto* crc32 : {&torch_npy::detail::crc32_by_tables, &torch_npy::detail::crc32,
                      torch_npy::detail::zip_codec().load()->crc32}) {
    CHECK(crc32(0, "123456789", 9) == 0xcbf43926);
    std::string data;
    for (int i = 0; i < 500; ++i) data += static_cast<char>(i * 37);
    for (std::size_t cut = 0; cut <= data.size(); ++cut) {
      const std::uint32_t first = crc32(0, data.data(), cut);
      CHECK(crc32(first, data.data() + cut, data.size() - cut) == crc_of(data));
    }
    CHECK(crc32(crc_of(data), nullptr, 0) == crc_of(data));
  }
#ifdef TORCH_NPY_WITH_LIBDEFLATE
  CHECK(has_deflate());
#else
  CHECK_FALSE(has_deflate());
#endif
}
