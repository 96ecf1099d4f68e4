#ifndef TORCH_NPY_IO_OBJECT_STORE_HPP_
#define TORCH_NPY_IO_OBJECT_STORE_HPP_

/// @file
/// ObjectStore: what a program implements to load from a store. StoreObject, StoreOptions.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// An object of a store, as a listing gives it.
struct StoreObject {
  std::string name;           ///< relative to the store, with "/" between folders
  std::uint64_t size = 0;     ///< in bytes
  std::int64_t modified = 0;  ///< time of the last change in ns since 1970; 0 if it is not known

  /// Name, size and time: different for another object, and for another content of this one.
  std::string version() const {
    return name + '\n' + std::to_string(size) + '\n' + std::to_string(modified);
  }
};

/// A store of objects: arrow::Store implements it with Arrow's file systems; a program may
/// implement it for any other store. The functions block until the store has answered, and are
/// called from many threads at once. They report a failure by throwing an Error with the code Io: a
/// time-out, a refused key, an answer that is cut short. They retry where that helps.
class ObjectStore {
 public:
  virtual ~ObjectStore() = default;
  ObjectStore(const ObjectStore&) = delete;             ///< shared, never copied
  ObjectStore& operator=(const ObjectStore&) = delete;  ///< shared, never copied

  /// Calls `found` with every object whose name begins with `folder`, which is empty or ends with
  /// "/", in any order. Unless `recursive`, only with those directly in the folder, and with the
  /// folders there, whose names end with "/". Throws Error: Io; NotFound if there is no such folder
  /// or store.
  virtual void list(const std::string& folder, bool recursive,
                    const std::function<void(StoreObject)>& found) const = 0;

  /// An object by its name; none if there is none. Throws Error (Io).
  virtual std::optional<StoreObject> find(const std::string& name) const = 0;

  /// Reads up to `size` bytes of an object, of its size or less, from byte `offset` on into `out`,
  /// with one request, and returns their number. Throws Error: Io; NotFound if the object is gone.
  virtual std::size_t read(const StoreObject& object, void* out, std::size_t size,
                           std::uint64_t offset) const = 0;

  /// The URI of an object, or of the store for an empty name. Without credentials: it is part of
  /// messages.
  virtual std::string uri(const std::string& name) const = 0;

  /// Tells two stores apart that have objects of the same URI, such as the address of the server.
  virtual std::string server() const { return {}; }

 protected:
  ObjectStore() = default;
};

/// How many requests a Store makes at a time. Setters chain: `StoreOptions().requests(64)`; without
/// an argument, each name returns the current value.
class StoreOptions {
 public:
  /// Requests that are under way at the same time, of all that use the Store and its copies. Each
  /// waits in a thread. Throws Error (InvalidArgument) for 0.
  StoreOptions& requests(std::size_t most) {
    require(most != 0, "requests");
    requests_ = most;
    return *this;
  }
  /// Requests that are under way at the same time.
  std::size_t requests() const noexcept { return requests_; }

  /// Bytes of the requests that are under way at the same time. A larger request waits until it is
  /// alone. Throws Error (InvalidArgument) for 0.
  StoreOptions& bytes(std::uint64_t most) {
    require(most != 0, "bytes");
    bytes_ = most;
    return *this;
  }
  /// Bytes of the requests that are under way at the same time.
  std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  static void require(bool is_valid, const char* option) {
    if (is_valid) return;
    throw Error(ErrorCode::InvalidArgument,
                std::string("StoreOptions: ") + option + "(0) would allow no request at all");
  }

  std::size_t requests_ = 32;
  std::uint64_t bytes_ = std::uint64_t{256} << 20;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_IO_OBJECT_STORE_HPP_
