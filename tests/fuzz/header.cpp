// Any bytes as a header. A header that parses is written, and the result parses to the same header.

#include <torch_npy/format/header.hpp>

#include "fuzz.hpp"

using namespace torch_npy;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Header header;
  try {
    const AllocationLimit limit(64 * size + 4096);
    header = parse_header(data, size);
  } catch (const Error& error) {
    require_sound(error, size);
    return 0;
  }
  require(header.data_offset <= size, "the header ends within the input");
  require(header.nbytes() >= 0 && header.end() >= header.data_offset, "the sizes do not overflow");
  const std::string bytes = format_header(header);
  require(bytes.size() % 64 == 0, "the data of a written file is aligned");
  // Longer than the input if that nests without blanks.
  const Header again = parse_header(bytes.data(), bytes.size(), bytes.size());
  require(again.data_offset == bytes.size(), "a written header is all header");
  require(again.dtype == header.dtype, "the dtype comes back");
  require(again.shape == header.shape, "the shape comes back");
  require(again.fortran_order == header.fortran_order, "the order comes back");
  require(format_header(again) == bytes, "what is written once is written the same again");
  return 0;
}
