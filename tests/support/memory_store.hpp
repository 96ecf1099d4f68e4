#pragma once

// A store in memory, which counts its requests and can fail.

#include <torch_npy/error.hpp>
#include <torch_npy/io/object_store.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>

class MemoryStore final : public torch_npy::ObjectStore {
 public:
  void put(const std::string& name, const std::string& bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    objects_[name] = {bytes, ++time_};
  }
  void remove(const std::string& name) {
    const std::lock_guard<std::mutex> lock(mutex_);
    objects_.erase(name);
  }

  /// Called at the start of each read with the name of the object; may throw, wait, or change the
  /// store. Returns how many bytes the store sends at most.
  std::function<std::size_t(const std::string& name)> on_read;
  /// Whether it knows when objects were changed.
  bool knows_times = true;
  /// How long each request takes.
  std::chrono::milliseconds latency{0};

  mutable std::atomic<int> lists{0}, finds{0}, reads{0};
  mutable std::atomic<std::uint64_t> bytes_read{0};
  mutable std::atomic<int> most_under_way{0};
  mutable std::atomic<std::uint64_t> most_bytes_under_way{0};

  int requests() const { return lists + finds + reads; }
  void reset() {
    lists = finds = reads = most_under_way = 0, bytes_read = most_bytes_under_way = 0;
  }

  void list(const std::string& folder, bool recursive,
            const std::function<void(torch_npy::StoreObject)>& found) const override {
    ++lists;
    std::this_thread::sleep_for(latency);
    std::set<std::string> folders;
    bool has_any = false;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [name, object] : objects_) {
      if (name.compare(0, folder.size(), folder) != 0) continue;
      has_any = true;
      const std::size_t slash = name.find('/', folder.size());
      if (recursive || slash == name.npos) {
        found({name, object.bytes.size(), knows_times ? object.time : 0});
      } else if (folders.insert(name.substr(0, slash + 1)).second) {
        found({name.substr(0, slash + 1), 0, 0});
      }
    }
    if (has_any) return;
    throw torch_npy::Error(torch_npy::ErrorCode::NotFound, "there is no such folder");
  }

  std::optional<torch_npy::StoreObject> find(const std::string& name) const override {
    ++finds;
    std::this_thread::sleep_for(latency);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto object = objects_.find(name);
    if (object == objects_.end()) return std::nullopt;
    return torch_npy::StoreObject{name, object->second.bytes.size(),
                                  knows_times ? object->second.time : 0};
  }

  std::size_t read(const torch_npy::StoreObject& object, void* out, std::size_t size,
                   std::uint64_t offset) const override {
    ++reads;
    const UnderWay under_way(*this, size);
    const std::size_t most = on_read ? on_read(object.name) : SIZE_MAX;
    std::this_thread::sleep_for(latency);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto there = objects_.find(object.name);
    if (there == objects_.end()) {
      throw torch_npy::Error(torch_npy::ErrorCode::NotFound, "there is no such object");
    }
    const std::string& bytes = there->second.bytes;
    if (offset >= bytes.size()) return 0;
    const std::size_t got = std::min({size, most, bytes.size() - std::size_t(offset)});
    std::memcpy(out, bytes.data() + offset, got);
    bytes_read += got;
    return got;
  }

  std::string uri(const std::string& name) const override { return "memory://bucket/" + name; }

 private:
  struct Stored {
    std::string bytes;
    std::int64_t time;
  };

  template <class Number>
  static void raise(std::atomic<Number>& most, Number now) {
    Number known = most;
    while (known < now && !most.compare_exchange_weak(known, now)) {
    }
  }

  class UnderWay {
   public:
    UnderWay(const MemoryStore& store, std::uint64_t bytes) : store_(store), bytes_(bytes) {
      raise(store_.most_under_way, ++store_.under_way_);
      raise(store_.most_bytes_under_way, store_.bytes_under_way_ += bytes);
    }
    UnderWay(const UnderWay&) = delete;
    UnderWay& operator=(const UnderWay&) = delete;
    ~UnderWay() {
      --store_.under_way_;
      store_.bytes_under_way_ -= bytes_;
    }

   private:
    const MemoryStore& store_;
    std::uint64_t bytes_;
  };

  mutable std::mutex mutex_;
  std::map<std::string, Stored> objects_;
  std::int64_t time_ = 0;
  mutable std::atomic<int> under_way_{0};
  mutable std::atomic<std::uint64_t> bytes_under_way_{0};
};
