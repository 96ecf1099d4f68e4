#ifndef TORCH_NPY_WORLD_HPP_
#define TORCH_NPY_WORLD_HPP_

/// @file
/// World: the processes that train together. Needs Gloo, and the CMake target torch_npy::world. Not
/// part of torch_npy.hpp.

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/view_as_real.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/Device.h>
#include <c10/core/Layout.h>
#include <c10/core/ScalarType.h>
#include <torch/arg.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/loader.hpp>
#include <torch_npy/data/loader_state.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/version.hpp>
#include <torch_npy/world/group.hpp>
#include <torch_npy/world/launch.hpp>
#include <torch_npy/world/meeting.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// How a World is made. Setters chain; without an argument, each name returns the current value.
struct WorldOptions {
  /// How long the ranks wait for one another at the start, and then until they are connected.
  TORCH_ARG(std::chrono::milliseconds, start_timeout) = std::chrono::minutes(5);

  /// How long an operation waits for the slowest rank.
  TORCH_ARG(std::chrono::milliseconds, timeout) = std::chrono::minutes(30);

  /// The device of this rank. If not set: the GPU with the number of the local rank if this
  /// LibTorch, of 2.6 or newer, has NCCL and there are GPUs, else the CPU.
  TORCH_ARG(std::optional<c10::Device>, device);
};

/// The processes that train together, called ranks, and the operations among them.
///
///     auto world = World::from_environment();
///     Loader loader(dataset, LoaderOptions().batch_size(64).shard(world.size(), world.rank()));
///     ...
///     loss.backward();
///     world.average_gradients(network->parameters());
///
/// The same program runs alone and under torchrun, Open MPI, MPICH and Slurm. LibTorch's Gloo
/// carries tensors in host memory, NCCL those on GPUs if this LibTorch has it.
///
/// All ranks must call the same operations in the same order, with tensors of the same shape and
/// dtype. An operation returns when this rank has the result; on a GPU, the current stream waits.
/// If a rank ends, the operations of the others throw Error (Io): at once with Gloo, if the
/// connection is closed, and else after WorldOptions::timeout(). With NCCL, LibTorch ends their
/// processes instead, about a minute later. If TORCH_NCCL_BLOCKING_WAIT=1 is in the environment,
/// operations with NCCL wait for their results, and throw, too.
///
/// An object is for one thread at a time. It can be moved, not copied. Processes that were forked
/// cannot use the World of their parent.
class World {
 public:
  /// LibTorch's class of process groups: c10d::Backend, or c10d::ProcessGroup before LibTorch 2.0.
  using Group = detail::ProcessGroup;

  /// The ranks that a launcher started, as Launch::from_environment() finds them; a world of one if
  /// none did. Waits until all have come. Throws Error: InvalidArgument as that function does, and
  /// if there is no such device; Io if a rank does not come in time, which the message then names,
  /// or if the network refuses.
  static World from_environment(const WorldOptions& options = {}) {
    return World(Launch::from_environment(), options);
  }

  /// The ranks of a launcher that this library does not know. Waits and throws as above.
  explicit World(const Launch& launch, const WorldOptions& options = {})
      : launch_(launch), device_(device_of(launch, options)) {
    const detail::Meeting meeting = detail::meet(launch_, options.start_timeout());
    gloo_ = detail::make_gloo(launch_, meeting, options.start_timeout(), options.timeout());
    group_ = gloo_;
#ifdef TORCH_NPY_WITH_NCCL
    if (device_.is_cuda()) {
      group_ =
          detail::make_nccl(launch_, meeting, device_, options.start_timeout(), options.timeout());
    }
#endif
    store_ = meeting.store;
  }

  World(const World&) = delete;             ///< one object for each connection
  World& operator=(const World&) = delete;  ///< one object for each connection
  World(World&&) = default;                 ///< the other object may only be destroyed then
  World& operator=(World&&) = default;      ///< the other object may only be destroyed then
  /// Closes the connections. NCCL completes its operations first; Gloo does not wait for other
  /// ranks.
  ~World() = default;

  /// The number of this process: 0, ..., size() - 1.
  std::size_t rank() const noexcept { return launch_.rank; }
  /// The number of processes.
  std::size_t size() const noexcept { return launch_.size; }
  /// The number of this process on its machine.
  std::size_t local_rank() const noexcept { return launch_.local_rank; }
  /// How this process was started.
  const Launch& launch() const noexcept { return launch_; }
  /// The device of this rank.
  c10::Device device() const noexcept { return device_; }

  /// LibTorch's process group: NCCL if device() is a GPU and this LibTorch has NCCL, else Gloo. For
  /// operations that this class does not have.
  const c10::intrusive_ptr<Group>& group() const noexcept { return group_; }

  /// Copies the values of `tensor`, of any dtype, on rank `root` into it on all ranks. Throws
  /// Error: Io if a rank has ended; InvalidArgument if there is no rank `root`, or for a sparse
  /// tensor.
  void broadcast(const at::Tensor& tensor, std::size_t root = 0) {
    if (root >= size()) {
      throw Error(ErrorCode::InvalidArgument, "broadcast from rank " + std::to_string(root) +
                                                  ": expected less than " + std::to_string(size()));
    }
    in_place(tensor, [&](const at::Tensor& dense) {
      std::vector<at::Tensor> bytes{bytes_of(dense)};
      c10d::BroadcastOptions options;
      options.rootRank = static_cast<int>(root);
      run("broadcast", [&] { return group_for(tensor).broadcast(bytes, options); });
    });
  }

  /// The same for several tensors, such as the parameters of a network, one after another.
  void broadcast(const std::vector<at::Tensor>& tensors, std::size_t root = 0) {
    for (const at::Tensor& tensor : tensors) broadcast(tensor, root);
  }

  /// Replaces the values of `tensor` on all ranks by their sum over all ranks. float16 and
  /// bfloat16 in host memory are added as float32. Throws Error: Io if a rank has ended;
  /// UnsupportedDtype for bool, int16 and other dtypes that a group cannot add; InvalidArgument for
  /// a sparse tensor.
  void allreduce(const at::Tensor& tensor) {
    require_sums(tensor);
    in_place(tensor, [&](const at::Tensor& dense) {
      const at::Tensor numbers = dense.is_complex() ? at::view_as_real(dense) : dense;
      const at::ScalarType type = numbers.scalar_type();
      const bool is_short = dense.is_cpu() && (type == at::kHalf || type == at::kBFloat16);
      std::vector<at::Tensor> sums{is_short ? numbers.to(at::kFloat) : numbers};
      run("allreduce", [&] { return group_for(tensor).allreduce(sums); });
      if (is_short) numbers.copy_(sums[0]);
    });
  }

  /// Replaces the gradient of each parameter by its mean over all ranks. A parameter without a
  /// gradient that requires one counts as one with zeros. Needs memory for one more copy of the
  /// gradients. Throws Error: Io if a rank has ended; InvalidArgument for a sparse gradient, as
  /// Embedding may have.
  void average_gradients(const std::vector<at::Tensor>& parameters) {
    const at::NoGradGuard no_grad;
    for (const at::Tensor& parameter : parameters) {
      if (parameter.grad().defined()) require_dense(parameter.grad());
    }
    if (size() == 1) return;
    std::map<std::pair<int, std::string>, std::vector<at::Tensor>> alike;  // by dtype and device
    for (const at::Tensor& parameter : parameters) {
      if (!parameter.requires_grad()) continue;
      if (!parameter.grad().defined()) parameter.mutable_grad() = at::zeros_like(parameter);
      const at::Tensor& gradient = parameter.grad();
      alike[{static_cast<int>(gradient.scalar_type()), gradient.device().str()}].push_back(
          gradient);
    }
    for (const auto& [kind, gradients] : alike) average(gradients);
  }

  /// The tensors of all ranks, by rank, of any dtype. Throws Error: Io if a rank has ended;
  /// InvalidArgument for a sparse tensor.
  std::vector<at::Tensor> allgather(const at::Tensor& tensor) {
    const at::NoGradGuard no_grad;
    const at::Tensor own = dense_values(tensor);
    if (own.numel() == 0) return std::vector<at::Tensor>(size(), own);  // Gloo divides by it
    std::vector<at::Tensor> inputs{bytes_of(own)};
    std::vector<at::Tensor> all;
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (std::size_t i = 0; i < size(); ++i) {
      all.push_back(at::empty_like(own));
      outputs[0].push_back(bytes_of(all[i]));
    }
    run("allgather", [&] { return group_for(tensor).allgather(outputs, inputs); });
    return all;
  }

  /// Waits until all ranks have called it. Throws Error (Io) if a rank has ended.
  void barrier() {
    run("barrier", [&] { return gloo_->barrier(); });
  }

  /// Calls loader.restore(state) on all ranks, if all have the same state; any number of ranks may
  /// have saved it. Returns false, and changes nothing, if no rank has a state: the run is new.
  ///
  /// Throws Error on all ranks if it does on one: Mismatch if the states differ, or if only some
  /// ranks have one, and then no loader was changed; what Loader::restore() throws on the ranks
  /// where it fails, and Mismatch with its message on the others, which must not use their loaders
  /// then; Io if a rank has ended.
  template <class B>
  bool restore(Loader<B>& loader, const std::optional<LoaderState>& state) {
    if (!agree_on(state)) return false;
    std::string failure;
    std::exception_ptr error;
    try {
      loader.restore(*state);
    } catch (const std::exception& failed) {
      error = std::current_exception();
      failure = failed.what();
      if (failure.empty()) failure = "an unknown error";
    }
    const std::vector<std::string> failures = gather_text(failure);
    if (error) std::rethrow_exception(error);
    for (std::size_t i = 0; i < failures.size(); ++i) {
      if (failures[i].empty()) continue;
      throw detail::world_error(
          launch_, "rank " + std::to_string(i) + " cannot restore the state: " + failures[i],
          ErrorCode::Mismatch);
    }
    return true;
  }

 private:
  static c10::Device device_of(const Launch& launch, const WorldOptions& options) {
    if (options.device()) {
      detail::require_device(*options.device());
      return *options.device();
    }
#ifdef TORCH_NPY_WITH_NCCL
    // A launcher may show each rank one GPU alone.
    if (const int gpus = detail::device_count(c10::kCUDA)) {
      if (gpus > 1 && launch.local_rank >= static_cast<std::uint32_t>(gpus)) {
        throw detail::world_error(
            launch,
            "its number on this machine is " + std::to_string(launch.local_rank) +
                ", but there are " + std::to_string(gpus) +
                " GPUs: start at most one rank for each GPU, or use WorldOptions::device()",
            ErrorCode::InvalidArgument);
      }
      const auto index = static_cast<c10::DeviceIndex>(gpus == 1 ? 0 : launch.local_rank);
      return {c10::kCUDA, index};
    }
#else
    (void)launch;
#endif
    return c10::kCPU;
  }

  /// Gloo takes tensors in host memory; the other group those on its device.
  Group& group_for(const at::Tensor& tensor) const {
    return tensor.device().is_cpu() ? *gloo_ : *group_;
  }

  template <class Start>
  void run(const char* what, const Start& start) {
    detail::with_rank(launch_, what,
                      "a rank has ended, or is slower than WorldOptions::timeout(): look at the "
                      "output of the other ranks",
                      [&] { start()->wait(); });
  }

  static void require_dense(const at::Tensor& tensor) {
    if (tensor.layout() == at::kStrided) return;
    throw Error(
        ErrorCode::InvalidArgument,
        "World expects dense tensors, found a sparse one of shape " +
            detail::python_tuple(tensor.sizes().vec()) +
            ": to_dense() makes it dense; an Embedding has sparse gradients with sparse(true)");
  }

  void require_sums(const at::Tensor& tensor) const {
    const at::ScalarType type = tensor.scalar_type();
    const bool is_fractional = at::isFloatingType(type) || at::isComplexType(type);
    if (is_fractional || type == at::kByte || type == at::kChar || type == at::kInt ||
        type == at::kLong) {
      return;
    }
    throw Error(ErrorCode::UnsupportedDtype, std::string("allreduce cannot add values of dtype ") +
                                                 c10::toString(type) +
                                                 ": convert them to int32 or float32");
  }

  /// In C order, without LibTorch's negation and conjugation on reading, which a group ignores.
  static at::Tensor dense_values(const at::Tensor& tensor) {
    require_dense(tensor);
    return tensor.detach().resolve_conj().resolve_neg().contiguous();
  }

  /// Gloo does not know all dtypes.
  static at::Tensor bytes_of(const at::Tensor& dense) {
    return dense.view({dense.numel()}).view(at::kByte);
  }

  /// Runs an operation that changes a dense tensor, on a copy if `tensor` is not dense.
  template <class Operation>
  void in_place(const at::Tensor& tensor, const Operation& operation) {
    const at::NoGradGuard no_grad;
    const at::Tensor target = tensor.detach();
    const at::Tensor dense = dense_values(target);
    if (dense.numel() == 0) return;
    operation(dense);
    if (!dense.is_same(target)) target.copy_(dense);
  }

  /// One operation for all tensors, which have the same dtype and device, because each takes time.
  void average(const std::vector<at::Tensor>& tensors) {
    std::vector<at::Tensor> flat;
    for (const at::Tensor& tensor : tensors) flat.push_back(tensor.reshape({-1}));
    at::Tensor all = at::cat(flat);
    all /= static_cast<double>(size());  // before the sum, which float16 may not hold
    allreduce(all);
    std::int64_t begin = 0;
    for (const at::Tensor& tensor : tensors) {
      tensor.copy_(all.narrow(0, begin, tensor.numel()).view(tensor.sizes()));
      begin += tensor.numel();
    }
  }

  /// The texts of all ranks, by rank.
  std::vector<std::string> gather_text(const std::string& text) {
    at::Tensor length = at::empty({1}, at::kLong);
    length.fill_(static_cast<std::int64_t>(text.size()));
    const std::vector<at::Tensor> lengths = allgather(length);
    std::int64_t longest = 1;
    for (const at::Tensor& other : lengths) {
      longest = (std::max)(longest, other.item<std::int64_t>());
    }
    at::Tensor bytes = at::empty({longest}, at::kByte);
    bytes.zero_();
    std::memcpy(bytes.data_ptr(), text.data(), text.size());
    std::vector<std::string> texts;
    for (const at::Tensor& other : allgather(bytes)) {
      texts.emplace_back(static_cast<const char*>(other.data_ptr()),
                         static_cast<std::size_t>(lengths[texts.size()].item<std::int64_t>()));
    }
    return texts;
  }

  /// False if no rank has a state. Throws on all ranks unless all have the same.
  bool agree_on(const std::optional<LoaderState>& state) {
    const at::Tensor own = state ? state->tensor() : at::zeros_like(LoaderState().tensor());
    std::map<std::vector<std::int64_t>, std::vector<std::size_t>> ranks;
    const std::vector<at::Tensor> all = allgather(own);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto* const numbers = all[i].data_ptr<std::int64_t>();
      ranks[{numbers, numbers + all[i].numel()}].push_back(i);
    }
    if (ranks.size() == 1) return state.has_value();
    std::string text = "the ranks restore different states:";
    for (const at::Tensor& one : all) {
      const auto* const numbers = one.data_ptr<std::int64_t>();
      const auto found = ranks.find({numbers, numbers + one.numel()});
      if (found == ranks.end()) continue;
      text += "\n  " + detail::named_ranks(found->second) + ": " + shown_state(one);
      ranks.erase(found);
    }
    throw detail::world_error(launch_,
                              text + "\nload the checkpoint of the same step on every rank",
                              ErrorCode::Mismatch);
  }

  static std::string shown_state(const at::Tensor& tensor) {
    if (tensor.data_ptr<std::int64_t>()[0] == 0) return "no state";
    const LoaderState state = LoaderState::from_tensor(tensor);
    return "epoch " + std::to_string(state.epoch) + ", sample " + std::to_string(state.samples) +
           ", seed " + std::to_string(state.seed) + ", fingerprints " +
           std::to_string(state.dataset) + " and " + std::to_string(state.order);
  }

  Launch launch_;
  c10::Device device_;
  detail::StorePointer store_;  // rank 0 may keep it for all
  c10::intrusive_ptr<Group> gloo_;
  c10::intrusive_ptr<Group> group_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_WORLD_HPP_
