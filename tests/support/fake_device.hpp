#pragma once

// An accelerator for machines without one: LibTorch's PrivateUse1 device, whose memory is the
// host's. It can make tensors and copy them to and from the CPU, has streams and events, and logs
// the calls. fake_device.cpp registers it.
//
// It is as slow as a device can be. A non-blocking copy from the host on a stream other than the
// default one waits in that stream until something needs it: a blocking copy on the stream, an
// event that another stream waits for, or several queries of an event. Fresh memory
// holds kGarbage. Code that writes to the memory of the host too early, or reads the memory of the
// device without waiting, gets wrong values.

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Optional.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace fake_device {

constexpr c10::DeviceType kType = c10::DeviceType::PrivateUse1;
constexpr int kCount = 2;
constexpr int kGarbage = 0xA5;

inline std::atomic<int> copies{0};
inline std::atomic<int> pending{0};  // delayed copies that have not happened yet
inline std::atomic<bool> has_streams{true};
inline std::atomic<int> allocations_till_failure{-1};  // negative: no failure

/// The calls for streams. Assigning a new Log clears it.
struct Log {
  int put_off = 0;                               // copies that did not happen at once
  std::set<const void*> sources;                 // the memory these copies read
  std::unordered_set<c10::Stream> copied_on;     // the streams they are in
  std::unordered_set<c10::Stream> blocked;       // the streams that wait for an event
  std::set<const void*> recorded;                // the memory that other streams use too
  std::unordered_set<c10::Stream> recorded_for;  // those streams
};
inline Log log;

using Work = std::function<void()>;

struct EventState {
  std::int64_t version = 0;
  std::int64_t done = 0;
  int asked = 0;
  c10::Stream stream{c10::Stream::DEFAULT, c10::Device(kType, 0)};
};
using Event = std::shared_ptr<EventState>;

/// The work in streams. One lock, because workers of data loaders use them, too.
inline std::recursive_mutex mutex;
inline std::unordered_map<c10::Stream, std::deque<Work>> queues;

/// Does the work of the stream until `is_enough`.
template <class Condition>
void run(c10::Stream stream, const Condition& is_enough) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  std::deque<Work>& queue = queues[stream];
  while (!queue.empty() && !is_enough()) {
    const Work work = std::move(queue.front());
    queue.pop_front();
    work();
  }
}
inline void run(c10::Stream stream) {
  run(stream, [] { return false; });
}

inline void enqueue(c10::Stream stream, Work work) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  queues[stream].push_back(std::move(work));
}

inline Event& as_event(void* event) { return *static_cast<Event*>(event); }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static constexpr int kAsksTillDone = 3;
  static inline thread_local c10::DeviceIndex current = 0;
  static inline thread_local std::array<c10::StreamId, kCount> current_stream{};

  c10::DeviceType type() const override { return kType; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const c10::Device old(kType, current);
    current = device.index();
    return old;
  }
  c10::Device getDevice() const override { return c10::Device(kType, current); }
  void setDevice(c10::Device device) const override { current = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = device.index(); }
  c10::DeviceIndex deviceCount() const noexcept override { return kCount; }

  static c10::StreamId& stream_id(c10::Device device) {
    const c10::DeviceIndex index = device.has_index() ? device.index() : current;
    return current_stream[static_cast<std::size_t>(index)];
  }
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::UNSAFE, device, stream_id(device));
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override {
    const c10::Stream old = getStream(stream.device());
    stream_id(stream.device()) = stream.id();
    return old;
  }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override {
    TORCH_CHECK(has_streams, "no streams here");
    static std::atomic<c10::StreamId> next{1};
    return c10::Stream(c10::Stream::UNSAFE, device, next++);
  }
  bool queryStream(const c10::Stream& stream) const override {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    return queues[stream].empty();
  }
  void synchronizeStream(const c10::Stream& stream) const override { run(stream); }
  void recordDataPtrOnStream(const c10::DataPtr& data, const c10::Stream& stream) const override {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    log.recorded.insert(data.get());
    log.recorded_for.insert(stream);
  }

  void record(void** event, const c10::Stream& stream, const c10::DeviceIndex,
              const c10::EventFlag) const override {
    TORCH_CHECK(has_streams, "no events here");
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    if (*event == nullptr) *event = new Event(std::make_shared<EventState>());
    const Event state = as_event(*event);
    state->stream = stream;
    state->asked = 0;
    enqueue(stream, [state, version = ++state->version] { state->done = version; });
  }
  static void finish(const Event& state, std::int64_t version) {
    run(state->stream, [&] { return state->done >= version; });
  }
  void block(void* event, const c10::Stream& stream) const override {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    log.blocked.insert(stream);
    const Event state = as_event(event);
    enqueue(stream, [state, version = state->version] { finish(state, version); });
  }
  bool queryEvent(void* event) const override {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    const Event state = as_event(event);
    if (++state->asked > kAsksTillDone) finish(state, state->version);
    return state->done >= state->version;
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    delete static_cast<Event*>(event);
  }
};

// Before LibTorch 2.5 or so these are LibTorch's own optionals.
using Type = c10::optional<c10::ScalarType>;
using Layout = c10::optional<c10::Layout>;
using Device = c10::optional<c10::Device>;
using Pinned = c10::optional<bool>;
using Format = c10::optional<c10::MemoryFormat>;

inline at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides, Type type, Layout,
                                Device device, Pinned) {
  const c10::Device where(kType, device && device->has_index() ? device->index() : Guard::current);
  const auto dtype = c10::scalarTypeToTypeMeta(type.value_or(at::kFloat));
  std::size_t elements = 1;
  for (std::size_t axis = 0; axis < sizes.size() && elements != 0; ++axis) {
    elements = sizes[axis] == 0
                   ? 0
                   : elements + static_cast<std::size_t>((sizes[axis] - 1) * strides[axis]);
  }
  const std::size_t bytes = elements * dtype.itemsize();
  TORCH_CHECK(allocations_till_failure < 0 || allocations_till_failure-- != 0,
              "the fake device is out of memory");
  void* const memory = std::malloc(bytes != 0 ? bytes : 1);
  std::memset(memory, kGarbage, bytes);
  c10::Storage storage(c10::Storage::use_byte_size_t(), bytes,
                       at::DataPtr(memory, memory, &std::free, where), nullptr, false);
  at::Tensor tensor = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), dtype);
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides);
  return tensor;
}

inline at::Tensor empty(at::IntArrayRef sizes, Type type, Layout layout, Device device,
                        Pinned pinned, Format) {
  std::vector<std::int64_t> strides(sizes.size());
  std::int64_t stride = 1;
  for (std::size_t axis = sizes.size(); axis-- > 0;
       stride *= std::max<std::int64_t>(sizes[axis], 1)) {
    strides[axis] = stride;
  }
  return empty_strided(sizes, strides, type, layout, device, pinned);
}

/// The same memory, as a tensor on the CPU.
inline at::Tensor on_host(const at::Tensor& tensor) {
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       at::TensorOptions(tensor.scalar_type()));
}

inline at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  ++copies;
  const c10::Device device = from.is_cpu() ? to.device() : from.device();
  const c10::Stream stream = Guard().getStream(device);
  const bool is_put_off = non_blocking && from.is_cpu() && stream.id() != 0;
  if (is_put_off) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    ++log.put_off;
    log.sources.insert(from.data_ptr());
    log.copied_on.insert(stream);
    // A device keeps its own memory until its work is done, but not the memory of the host.
    ++pending;
    enqueue(stream, [source = on_host(from), to] {
      on_host(to).copy_(source);
      --pending;
    });
  } else {
    run(stream);
    on_host(to).copy_(on_host(from));
  }
  return to;
}

}  // namespace fake_device
