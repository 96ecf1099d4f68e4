#ifndef TORCH_NPY_IO_READ_HEADER_HPP_
#define TORCH_NPY_IO_READ_HEADER_HPP_

/// @file
/// The header of a file, without its data.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

#include <torch_npy/error.hpp>
#include <torch_npy/format/header.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Reads bytes [size, wanted) of the source to the end of `bytes`; returns the new size, which is
/// less than `wanted` only if the source ends there.
inline std::size_t read_more(const ByteSource& source, unsigned char* bytes, std::size_t size,
                             std::size_t wanted) {
  return size < wanted ? size + source.read_available(bytes + size, wanted - size, size) : size;
}

/// Reads the header of the array at the start of a source, with one read() unless it is longer than
/// 16 KiB. A sequential source is left right after the header. `first` receives the bytes that were
/// read, as far as it has room and they are not in memory already.
inline Header read_header(const ByteSource& source, std::uint64_t max_header_size,
                          FirstBytes& first) {
  const SourceTraits traits = source.internal_traits();
  if (traits.data != nullptr) {
    first.size = 0;
    return parse_header(traits.data, static_cast<std::size_t>(source.size()), max_header_size);
  }
  if (traits.is_sequential) {
    first.size = read_more(source, first.data, 0, kMagicSize + 2);
    if (first.size == kMagicSize + 2 && std::memcmp(first.data, kMagic, kMagicSize) == 0) {
      first.size = read_more(source, first.data, first.size, prefix_size(first.data[kMagicSize]));
    }
  } else {
    first.size = source.read(first.data, kFirstRead, 0);
    ByteSource::require_count(first.size, kFirstRead);
    if (first.size < kMaxPrefixSize) {
      first.size = read_more(source, first.data, first.size, kMaxPrefixSize);
      if (first.size < kMaxPrefixSize) (void)source.size();  // a File tells if it is not regular
    }
  }
  const HeaderExtent extent = parse_prefix(first.data, first.size, max_header_size);
  const std::uint64_t end = extent.end();
  if (end <= first.size) return parse_text(first.data, extent, max_header_size);
  if (end <= kFirstRead) {
    first.size = read_more(source, first.data, first.size, static_cast<std::size_t>(end));
    if (first.size < end) throw header_cut_short(extent, first.size);
    return parse_text(first.data, extent, max_header_size);
  }
  // In steps: a length in a file is no reason to allocate memory.
  constexpr std::size_t kStep = std::size_t{1} << 20;
  std::string bytes(reinterpret_cast<const char*>(first.data), first.size);
  while (bytes.size() < end) {
    const std::size_t size = bytes.size();
    bytes.resize(static_cast<std::size_t>(std::min<std::uint64_t>(end, size + kStep)));
    const std::size_t got =
        read_more(source, reinterpret_cast<unsigned char*>(bytes.data()), size, bytes.size());
    if (got < bytes.size()) throw header_cut_short(extent, got);
  }
  if (traits.is_sequential) first.size = 0;  // the rest is not read again
  return parse_text(bytes.data(), extent, max_header_size);
}

/// Bytes of the source that are known to exist, as far as they matter: its size is not asked for if
/// all of the array has been read. That call would take a tenth of the time to load a small file.
inline std::uint64_t available_bytes(const ByteSource& source, const FirstBytes& first,
                                     const Header& header) {
  const std::uint64_t declared = header.end();
  return declared <= first.size ? declared : source.size();
}

}  // namespace detail

/// Reads the header of an .npy file: an open, one read of at most 16 KiB (more only if the header
/// is longer) and a close, whatever the size of the array. Does not check that all of the data
/// exists. Safe from any thread. Throws Error: NotFound, Io, Exhausted, OutOfMemory,
/// InvalidArgument (a zero byte in the path), and what parse_header() throws.
inline Header read_header(const std::filesystem::path& path,
                          std::uint64_t max_header_size = kMaxHeaderSize) {
  return detail::with_path(path, [&] {
    const detail::File file(path);
    detail::FirstBytes first;
    return detail::read_header(file, max_header_size, first);
  });
}

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_READ_HEADER_HPP_
