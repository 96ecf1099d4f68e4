// Any bytes as an archive, without LibTorch. Members that can be read are written to a new archive,
// and read from it again.

#include <torch_npy/io/file_writer.hpp>
#include <torch_npy/zip/deflate.hpp>
#include <torch_npy/zip/reader.hpp>
#include <torch_npy/zip/writer.hpp>

#include <cstring>
#include <memory>
#include <vector>

#include "fuzz.hpp"

using namespace torch_npy;
using torch_npy::detail::ZipArchive;
using torch_npy::detail::ZipMember;

namespace {

struct Content {
  ZipMember member;
  std::string data;
};

/// All members that can be read. An Error of one does not affect the others.
std::vector<Content> contents_of(const std::filesystem::path& path, std::size_t size) {
  std::vector<Content> contents;
  const ZipArchive archive(std::make_shared<const torch_npy::detail::NamedFile>(path));
  for (const ZipMember& member : archive.members()) {
    try {
      const std::uint64_t begin = archive.data_offset(member);
      require(begin + member.packed <= size, "a member is in the archive");
      require(member.size <= 1032 * size, "no member unpacks to more than deflate can");
      std::string data(static_cast<std::size_t>(member.size), '\0');
      if (member.method == torch_npy::detail::kDeflated) {
        const std::string start = archive.inflate_start(member, 64, "unwritten");
        require(start.size() == std::min<std::uint64_t>(64, member.size), "a start has its length");
        std::memcpy(data.data(), archive.inflate(member).get(), data.size());
        require(data.compare(0, start.size(), start) == 0, "a start is the start of the whole");
      } else {
        archive.source().read_fully(data.data(), data.size(), begin);
        ZipArchive::require_crc(
            member, torch_npy::detail::zip_codec().load()->crc32(0, data.data(), data.size()));
      }
      contents.push_back({member, std::move(data)});
    } catch (const Error& error) {
      require_sound(error, size);
    }
  }
  return contents;
}

void write(const std::filesystem::path& path, const std::vector<Content>& contents, bool zip64) {
  torch_npy::detail::AtomicFile file(path, /*sync=*/false);
  torch_npy::detail::ZipWriter zip(file, zip64 ? 0 : UINT32_MAX);
  for (const Content& content : contents) {
    ZipMember member = content.member;
    member.method = torch_npy::detail::kStored;
    member.packed = member.size;
    zip.add(member, {content.data});
  }
  zip.finish();
  file.commit();
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static MemoryFile file;
  std::vector<Content> contents;
  try {
    // A directory entry of 46 bytes becomes a ZipMember; deflate expands at most 1032 times.
    const AllocationLimit limit(1032 * size + 256 * 1024);
    contents = contents_of(file.holding(data, size), size);
  } catch (const Error& error) {
    require_sound(error, size);
    return 0;
  }
  if (contents.empty()) return 0;
  static const std::filesystem::path copy =
      "/dev/shm/torch_npy_fuzz_" + std::to_string(::getpid()) + ".zip";
  write(copy, contents, (size & 1) != 0);
  const auto again = contents_of(copy, static_cast<std::size_t>(std::filesystem::file_size(copy)));
  std::filesystem::remove(copy);
  require(again.size() == contents.size(), "all members come back");
  for (std::size_t i = 0; i < again.size(); ++i) {
    require(again[i].member.name == contents[i].member.name, "a name comes back");
    require(again[i].data == contents[i].data, "a member's bytes come back");
  }
  return 0;
}
