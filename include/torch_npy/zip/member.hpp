#ifndef TORCH_NPY_ZIP_MEMBER_HPP_
#define TORCH_NPY_ZIP_MEMBER_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/zip/codec.hpp>
#include <torch_npy/zip/reader.hpp>
#include <torch_npy/zip/records.hpp>

// Members of an archive as sources of bytes, which keep the archive open.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A stored member that is read in order, from its first byte to its last, while its CRC is
/// computed.
class CheckedMember final : public ByteSource {
 public:
  /// All of these outlive it. `first` are the first bytes of the member.
  CheckedMember(const ByteSource& part, const FirstBytes& first, const ZipMember& member)
      : part_(part), first_(first), member_(member) {}

  std::uint64_t size() const override { return member_.size; }
  std::string name() const override { return part_.name(); }
  SourceTraits internal_traits() const override { return {true, false, {}, nullptr, false}; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    skip_to(offset);
    return read_next(out, size);
  }

  void internal_finish(std::uint64_t /*end*/) const override {
    skip_to(member_.size);
    ZipArchive::require_crc(member_, crc_);
  }

 private:
  void skip_to(std::uint64_t offset) const {
    char skipped[4096];
    while (position_ < offset) {
      const auto size = std::min<std::uint64_t>(sizeof skipped, offset - position_);
      if (read_next(skipped, static_cast<std::size_t>(size)) == 0) break;
    }
  }

  std::size_t read_next(void* out, std::size_t size) const {
    // The CRC of a chunk is computed while it is in the processor's cache.
    constexpr std::size_t kChunk = std::size_t{128} << 10;
    size = (std::min)(size, kChunk);
    if (position_ < first_.size) {
      size = std::min<std::size_t>(size, first_.size - static_cast<std::size_t>(position_));
      std::memcpy(out, first_.data + position_, size);
    } else {
      size = part_.read_available(out, size, position_);
    }
    crc_ = crc32_(crc_, out, size);
    position_ += size;
    return size;
  }

  const ByteSource& part_;
  const FirstBytes& first_;
  const ZipMember& member_;
  std::uint32_t (*crc32_)(std::uint32_t, const void*, std::size_t) = zip_codec().load()->crc32;
  mutable std::uint64_t position_ = 0;
  mutable std::uint32_t crc_ = 0;
};

/// A stored member of an archive. Its CRC is checked if all of it is loaded.
class StoredMember final : public SourcePart {
 public:
  /// Throws Error (BadZip).
  StoredMember(std::shared_ptr<const ZipArchive> archive, const ZipMember& member)
      : SourcePart(archive->source(), archive->data_offset(member), member.packed),
        archive_(std::move(archive)),
        member_(member) {}

  std::shared_ptr<const ByteSource> internal_unpacked(const FirstBytes& first,
                                                      bool whole) const override {
    if (!whole) return nullptr;
    if (internal_traits().is_remote) return read_at_once();
    return std::make_shared<const CheckedMember>(*this, first, member_);
  }

  /// A part of it was read, which no CRC checks.
  void internal_finish(std::uint64_t /*end*/) const override { internal_require_unchanged(); }

 private:
  std::shared_ptr<const ByteSource> read_at_once() const {
    const auto size = static_cast<std::size_t>(member_.size);
    std::shared_ptr<char> bytes = allocate_buffer(size);
    read_fully(bytes.get(), size, 0);
    ZipArchive::require_crc(member_, zip_codec().load()->crc32(0, bytes.get(), size));
    return std::make_shared<const MemorySource>(std::move(bytes), size);
  }

  std::shared_ptr<const ZipArchive> archive_;
  const ZipMember& member_;  // of the archive
};

/// A deflated member of an archive: its unpacked bytes. All of it is unpacked to load any of it.
class DeflatedMember final : public ByteSource {
 public:
  /// Up to this size, reading a header unpacks all of the member.
  static constexpr std::uint64_t kWholeForHeader = kFirstRead + ZipArchive::kLargestStep;

  /// A member of at most `at_once` bytes is unpacked here, and then in memory: once for its header
  /// and its data. `unwritten`: see ZipArchive::inflate_start(). Not empty. Throws Error (BadZip,
  /// OutOfMemory).
  DeflatedMember(std::shared_ptr<const ZipArchive> archive, const ZipMember& member,
                 std::string_view unwritten, std::uint64_t at_once = kWholeForHeader)
      : archive_(std::move(archive)), member_(member), unwritten_(unwritten) {
    if (member.size <= at_once) unpacked_ = archive_->inflate(member);
  }

  std::uint64_t size() const override { return member_.size; }
  std::string name() const override { return archive_->source().name(); }
  std::string version() const override { return archive_->source().version(); }
  SourceTraits internal_traits() const override {
    return {false, true, {}, unpacked_.get(), false};
  }

  /// Unpacks from the start on: for headers.
  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    if (unpacked_ != nullptr) return in_memory().read(out, size, offset);
    if (offset >= member_.size) return 0;
    const std::uint64_t end = offset + (std::min<std::uint64_t>)(size, member_.size - offset);
    const std::string start = archive_->inflate_start(member_, end, unwritten_);
    return start.copy(static_cast<char*>(out), size, static_cast<std::size_t>(offset));
  }

  std::shared_ptr<const ByteSource> internal_unpacked(const FirstBytes& first,
                                                      bool) const override {
    if (unpacked_ != nullptr) return std::make_shared<const MemorySource>(in_memory());
    std::shared_ptr<char> bytes = archive_->inflate(member_);
    if (std::memcmp(bytes.get(), first.data, first.size) != 0) {
      throw Error(ErrorCode::Io, "the file changed while it was read");
    }
    return std::make_shared<const MemorySource>(std::move(bytes),
                                                static_cast<std::size_t>(member_.size));
  }

 private:
  /// Not the owner of the bytes: a tensor over them would share them with the next one.
  MemorySource in_memory() const {
    return {static_cast<const void*>(unpacked_.get()), static_cast<std::size_t>(member_.size)};
  }

  std::shared_ptr<const ZipArchive> archive_;
  const ZipMember& member_;  // of the archive
  std::string_view unwritten_;
  std::shared_ptr<char> unpacked_;  // of a small member
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_ZIP_MEMBER_HPP_
