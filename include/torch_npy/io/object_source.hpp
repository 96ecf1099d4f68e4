#ifndef TORCH_NPY_IO_OBJECT_SOURCE_HPP_
#define TORCH_NPY_IO_OBJECT_SOURCE_HPP_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/disk_cache.hpp>
#include <torch_npy/io/file.hpp>
#include <torch_npy/io/object_store.hpp>
#include <torch_npy/io/recycled_buffers.hpp>
#include <torch_npy/io/request_threads.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// The objects of a store as sources of bytes.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// A store, and the requests to it that are under way. Errors have the URI of the object as path.
/// Safe from any thread.
class StoreRequests {
 public:
  /// Bytes of the largest request: more of an object is read with several at the same time.
  static constexpr std::size_t kPart = std::size_t{4} << 20;

  StoreRequests(std::shared_ptr<const ObjectStore> objects, const StoreOptions& options)
      : objects_(std::move(objects)),
        options_(options),
        limit_(options.requests(), options.bytes()),
        buffers_(std::make_shared<RecycledBuffers>(options.bytes())),
        threads_(options.requests()) {
    if (objects_ == nullptr)
      throw Error(ErrorCode::InvalidArgument, "Store: the pointer to the ObjectStore is null");
  }

  const ObjectStore& objects() const noexcept { return *objects_; }
  const StoreOptions& options() const noexcept { return options_; }
  RecycledBuffers& buffers() const noexcept { return *buffers_; }

  /// Reads bytes [offset, offset + size) of an object, which has them, with as many requests as
  /// that takes. Throws Error (Io), also if the store sends fewer bytes.
  void read(const StoreObject& object, void* out, std::size_t size, std::uint64_t offset) const {
    for_each_index(parts_of(size), [&](std::size_t i) {
      const std::size_t begin = i * kPart;
      request(object, static_cast<char*>(out) + begin, (std::min)(kPart, size - begin),
              offset + begin);
    });
  }

  /// How many requests read() makes.
  static std::size_t parts_of(std::size_t size) { return (size + kPart - 1) / kPart; }

  /// Throws Error (Io) if the object is not what the listing says: several requests may have read
  /// parts of different contents.
  void require_unchanged(const StoreObject& object) const {
    const auto now = find(object.name);
    if (now && now->version() == object.version()) return;
    throw Error(ErrorCode::Io,
                std::string("the object was ") + (now ? "replaced" : "removed") +
                    " after the store was listed: make the dataset again, or open it again",
                0, path_of(objects_->uri(object.name)));
  }

  std::optional<StoreObject> find(const std::string& name) const {
    return about(name, [&] { return limit_.run(0, [&] { return objects_->find(name); }); });
  }

  /// As RequestThreads::for_each_index().
  template <class Job>
  void for_each_index(std::size_t count, const Job& job) const {
    if (count == 1) return job(std::size_t{0});
    threads_.for_each_index(count, job);
  }

 private:
  template <class Work>
  auto about(const std::string& name, const Work& work) const -> decltype(work()) {
    try {
      return work();
    } catch (const Error& error) {
      throw ErrorContext::at(error, path_of(objects_->uri(name)));
    }
  }

  void request(const StoreObject& object, void* out, std::size_t size, std::uint64_t offset) const {
    about(object.name, [&] {
      const std::size_t got =
          limit_.run(size, [&] { return read_listed(object, out, size, offset); });
      if (got == size) return;
      throw Error(ErrorCode::Io,
                  "the store sent " + counted(got, "byte") + " from byte " +
                      std::to_string(offset) + " on, expected " + std::to_string(size) +
                      ": the answer was cut short, or the object was replaced after the store was "
                      "listed",
                  offset + got);
    });
  }

  /// That an object is gone says nothing about the sample: perhaps the whole store is.
  std::size_t read_listed(const StoreObject& object, void* out, std::size_t size,
                          std::uint64_t offset) const {
    try {
      return objects_->read(object, out, size, offset);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::NotFound) throw;
      throw Error(ErrorCode::Io,
                  std::string("the object is gone, after the store was listed: ") + error.what());
    }
  }

  std::shared_ptr<const ObjectStore> objects_;
  const StoreOptions options_;
  mutable RequestLimit limit_;
  std::shared_ptr<RecycledBuffers> buffers_;
  mutable RequestThreads threads_;
};

/// What is read of an object.
enum class ObjectUse {
  Parts,   ///< its header, and perhaps parts of it
  Kept,    ///< parts of it, from the cache if that can keep all of it
  Whole,   ///< all of it
  Sample,  ///< all of it, for a batch: its memory is used again soon
};

/// A store, and the folder of this machine that keeps its objects, if there is one.
struct StoreAccess {
  std::shared_ptr<const StoreRequests> requests;
  std::shared_ptr<const DiskCache> cache;  ///< may be null

  /// An object as a source. For `Whole` one of up to 64 MiB is read now, and a larger one if it is
  /// to be kept. Throws Error (Io, OutOfMemory).
  std::shared_ptr<const ByteSource> open(const StoreObject& object, ObjectUse use) const;

 private:
  /// Bytes that are read into memory together.
  static constexpr std::size_t kInMemory = std::size_t{64} << 20;

  /// From the cache, into which an object that is read whole is put before. Null if it is not
  /// there, or cannot be put there.
  std::shared_ptr<const ByteSource> open_kept(const StoreObject& object, ObjectUse use) const;

  std::shared_ptr<char> memory_for(std::uint64_t size, ObjectUse use) const {
    return use == ObjectUse::Sample ? requests->buffers().take(static_cast<std::size_t>(size))
                                    : allocate_buffer(size);
  }
};

/// An object, read by ranges.
class ObjectSource final : public ByteSource {
 public:
  ObjectSource(StoreAccess store, StoreObject object)
      : store_(std::move(store)), object_(std::move(object)) {}

  std::uint64_t size() const override { return object_.size; }

  std::size_t read(void* out, std::size_t size, std::uint64_t offset) const override {
    const std::uint64_t left = object_.size - (std::min)(offset, object_.size);
    size = static_cast<std::size_t>(std::min<std::uint64_t>(size, left));
    if (size == 0) return 0;
    requests_ += StoreRequests::parts_of(size);
    store_.requests->read(object_, out, size, offset);
    return size;
  }

  /// At the same time; close ranges with one request.
  void read_many(const std::vector<ByteRange>& ranges) const override {
    std::vector<ByteRange> sorted = ranges;
    std::sort(sorted.begin(), sorted.end(),
              [](const ByteRange& a, const ByteRange& b) { return a.offset < b.offset; });
    std::vector<std::size_t> first;  // of the ranges that each request reads
    for (std::size_t i = 0; i < sorted.size(); ++i) {
      if (i == 0 || !joins(sorted[first.back()], sorted[i - 1], sorted[i])) first.push_back(i);
    }
    first.push_back(sorted.size());
    store_.requests->for_each_index(
        first.size() - 1, [&](std::size_t i) { read_span(sorted, first[i], first[i + 1]); });
  }

  std::string name() const override { return store_.requests->objects().uri(object_.name); }
  std::string version() const override { return object_.version(); }

  SourceTraits internal_traits() const override {
    SourceTraits traits;
    traits.is_remote = true;
    return traits;
  }

  std::shared_ptr<const ByteSource> internal_unpacked(const FirstBytes& first,
                                                      bool whole) const override {
    const bool has_all = first.size == object_.size;
    if (!whole || has_all) return nullptr;
    auto source = store_.open(object_, ObjectUse::Whole);
    // The header was read before, perhaps of another content. What takes several requests was
    // checked already.
    const bool is_checked = store_.cache == nullptr && object_.size > StoreRequests::kPart;
    if (!is_checked) internal_require_unchanged();
    return source;
  }

  void internal_finish(std::uint64_t /*end*/) const override {
    if (requests_ > 1) internal_require_unchanged();
  }
  void internal_require_unchanged() const override { store_.requests->require_unchanged(object_); }

 private:
  /// Bytes between two ranges that take less time than another request.
  static constexpr std::uint64_t kClose = std::uint64_t{128} << 10;

  static bool joins(const ByteRange& first, const ByteRange& last, const ByteRange& next) {
    return next.offset <= last.offset + last.size + kClose &&
           next.offset + next.size - first.offset <= StoreRequests::kPart;
  }

  void read_span(const std::vector<ByteRange>& ranges, std::size_t first, std::size_t end) const {
    const std::uint64_t begin = ranges[first].offset;
    if (end - first == 1) return read_fully(ranges[first].out, ranges[first].size, begin);
    std::uint64_t last = begin;
    for (std::size_t i = first; i < end; ++i) {
      last = (std::max)(last, ranges[i].offset + ranges[i].size);
    }
    const auto bytes = allocate_buffer(last - begin);
    read_fully(bytes.get(), static_cast<std::size_t>(last - begin), begin);
    for (std::size_t i = first; i < end; ++i) {
      std::memcpy(ranges[i].out, bytes.get() + (ranges[i].offset - begin), ranges[i].size);
    }
  }

  StoreAccess store_;
  StoreObject object_;
  mutable std::atomic<std::size_t> requests_{0};
};

inline std::shared_ptr<const ByteSource> StoreAccess::open(const StoreObject& object,
                                                           ObjectUse use) const {
  // Of an object without a time a new content would not be known from an old one.
  if (cache != nullptr && object.modified != 0 && cache->has_room_for(object.size)) {
    auto kept = open_kept(object, use);
    if (kept != nullptr) return kept;
  }
  if (use == ObjectUse::Parts || use == ObjectUse::Kept || object.size > kInMemory) {
    return std::make_shared<const ObjectSource>(*this, object);
  }
  const auto size = static_cast<std::size_t>(object.size);
  std::shared_ptr<char> bytes = memory_for(size, use);
  requests->read(object, bytes.get(), size, 0);
  if (size > StoreRequests::kPart) requests->require_unchanged(object);
  return std::make_shared<const MemorySource>(std::move(bytes), size);
}

inline std::shared_ptr<const ByteSource> StoreAccess::open_kept(const StoreObject& object,
                                                                ObjectUse use) const {
  const ObjectStore& objects = requests->objects();
  const std::string uri = objects.uri(object.name);
  const std::string key = objects.server() + '\n' + uri + '\n' + object.version();
  const bool is_small = object.size <= kInMemory;
  const auto find = [&] { return cache->find(key, object.size, uri); };
  std::shared_ptr<const ByteSource> kept = find();
  if (kept != nullptr && use == ObjectUse::Sample && is_small) {
    // A batch of them would have as many files open.
    const auto size = static_cast<std::size_t>(object.size);
    std::shared_ptr<char> bytes = memory_for(size, use);
    if (kept->read_available(bytes.get(), size, 0) != size) return nullptr;
    return std::make_shared<const MemorySource>(std::move(bytes), size);
  }
  if (kept != nullptr || use == ObjectUse::Parts) return kept;
  std::shared_ptr<char> bytes;
  const bool is_kept = cache->keep(key, object.size, [&](const auto& put) {
    for (std::uint64_t done = 0; done < object.size; done += kInMemory) {
      const auto size =
          static_cast<std::size_t>(std::min<std::uint64_t>(kInMemory, object.size - done));
      if (bytes == nullptr) bytes = memory_for(size, use);
      requests->read(object, bytes.get(), size, done);
      if (!put(bytes.get(), size)) return;
    }
    if (object.size > StoreRequests::kPart) requests->require_unchanged(object);
  });
  if (!is_small) return is_kept ? find() : nullptr;
  if (bytes == nullptr) return nullptr;  // the cache cannot be used, or the object is empty
  return std::make_shared<const MemorySource>(std::move(bytes),
                                              static_cast<std::size_t>(object.size));
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_OBJECT_SOURCE_HPP_
