#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

/// The archive of a sparse matrix that some bytes describe. It has no checksums that would have to
/// be right, and without further bytes its arrays fit one another, so that changes of the bytes get
/// as far as the indices. First come the format, the number of rows, of columns and of entries, the
/// height and width of a block, and the dtypes of values and of indices; then for each array
/// whether it is as it has to be, or else its dtype, rank, lengths and number of elements; then its
/// elements. Everything takes a byte.
std::string archive_of(const std::uint8_t* data, std::size_t size);
