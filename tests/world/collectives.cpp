// The operations among ranks, in host memory by Gloo, and on CUDA devices by NCCL.

#include <torch_npy/tensor/device.hpp>
#include <torch_npy/world.hpp>

#include <ATen/TensorOperators.h>
#include <ATen/ops/_neg_view.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/full.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/processes.hpp"
#include "support/ranks.hpp"

// After LibTorch's.
#include "support/catch.hpp"

using namespace torch_npy;

namespace {

/// Whether there are `count` CUDA devices. Counted by another process, because CUDA does not work
/// in processes that are forked after it was used.
bool ranks_have_cuda(int count = 1) {
  Process process(
      [](const Process&) { return std::to_string(torch_npy::detail::device_count(c10::kCUDA)); });
  if (std::stoi(process.result()) >= count) return true;
  if (count == 1) WARN("skipped: there is no CUDA device here");
  if (count == 2) WARN("skipped: there is no second CUDA device here");
  return false;
}

at::TensorOptions options_for(c10::Device device, at::ScalarType type = at::kFloat) {
  return at::TensorOptions(type).device(device);
}

/// Runs work(world, device) as `size` ranks, and checks that it is right on all.
template <class Work>
void check_ranks(std::size_t size, c10::Device device, const Work& work) {
  INFO(size << " ranks on " << device);
  const auto texts = run_world(
      size,
      [&](World& world) -> std::string {
        work(world, device);
        return "right";
      },
      patient(device));
  for (const std::string& text : texts) CHECK(text == "right");
}

void check_operations(World& world, c10::Device device) {
  const auto options = options_for(device);
  const auto rank = static_cast<double>(world.rank());
  const double sum = static_cast<double>(world.size() * (world.size() - 1)) / 2;  // of the ranks
  TORCH_CHECK(world.group()->getSize() == static_cast<int>(world.size()));
  TORCH_CHECK(world.device() == device);
  at::Tensor numbers = at::full({2, 3}, rank, options);
  world.allreduce(numbers);
  TORCH_CHECK(numbers.equal(at::full({2, 3}, sum, options)));
  at::Tensor column = at::full({3, 2}, rank, options).t();  // not contiguous
  world.allreduce(column.narrow(1, 0, 1));
  TORCH_CHECK(column.equal(at::stack(
      {at::full({2}, sum, options), at::full({2}, rank, options), at::full({2}, rank, options)},
      1)));
  world.broadcast(column, world.size() - 1);
  TORCH_CHECK(column[0][2].item<double>() == static_cast<double>(world.size() - 1));
  const auto longs = options_for(device, at::kLong);
  const auto all = world.allgather(at::full({2}, rank + 5, longs));
  TORCH_CHECK(all.size() == world.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    TORCH_CHECK(all[i].equal(at::full({2}, static_cast<double>(i) + 5, longs)));
  }
  // In host memory, too, wherever the device of the rank is.
  const auto texts = world.allgather(at::full({1}, rank, at::kInt));
  TORCH_CHECK(texts.back().item<double>() == static_cast<double>(world.size() - 1));
  world.barrier();
}

void check_dtypes(World& world, c10::Device device) {
  const auto rank = static_cast<double>(world.rank());
  for (const auto type : {at::kBool, at::kByte, at::kShort, at::kHalf, at::kBFloat16, at::kDouble,
                          at::kComplexFloat}) {
    const auto options = options_for(device, type);
    const auto of = [&](double value) { return at::full({3}, value, options); };
    at::Tensor tensor = of(rank);
    world.broadcast(tensor, 1);
    TORCH_CHECK(tensor.equal(of(1)), "broadcast of ", type);
    const auto all = world.allgather(at::full({}, rank, options));
    TORCH_CHECK(all[0].equal(at::full({}, 0, options)), "allgather of ", type);
    TORCH_CHECK(all[1].equal(at::full({}, 1, options)), "allgather of ", type);
    TORCH_CHECK(world.allgather(at::zeros({0, 2}, options))[1].numel() == 0, "empty");
    at::Tensor sum = of(rank + 1);
    if (type != at::kBool && type != at::kShort) {
      world.allreduce(sum);
      TORCH_CHECK(sum.equal(of(3)), "allreduce of ", type);
      continue;
    }
    std::optional<ErrorCode> code;
    try {
      world.allreduce(sum);
    } catch (const Error& error) {
      code = error.code();
    }
    TORCH_CHECK(code == ErrorCode::UnsupportedDtype, "allreduce of ", type);
  }
}

void check_lazy_values(World& world, c10::Device device) {
  const auto options = options_for(device);
  const double mine = world.rank() == 0 ? 3 : 5;
  const auto negative = [&] { return at::_neg_view(at::full({2}, mine, options)); };
  const auto all = world.allgather(negative());
  TORCH_CHECK(
      all[0].equal(at::full({2}, -3.0, options)) && all[1].equal(at::full({2}, -5.0, options)),
      all);
  at::Tensor tensor = world.rank() == 0 ? negative() : at::zeros({2}, options);
  world.broadcast(tensor);
  TORCH_CHECK(tensor.equal(at::full({2}, -3.0, options)), tensor);
  tensor = world.rank() == 1 ? negative() : at::full({2}, mine, options);
  world.allreduce(tensor);
  TORCH_CHECK(tensor.equal(at::full({2}, -2.0, options)), tensor);
  at::Tensor complex =
      at::complex(at::full({2}, mine, options), at::full({2}, mine, options)).conj();
  world.allreduce(complex);
  TORCH_CHECK(at::imag(complex).equal(at::full({2}, -8.0, options)), complex);
}

void check_gradients(World& world, c10::Device device) {
  const auto options = options_for(device), doubles = options_for(device, at::kDouble);
  const double mine = world.rank() == 0 ? 1 : 4;
  at::Tensor first = at::ones({2, 2}, options).requires_grad_(), fixed = at::ones({5}, options);
  at::Tensor second = at::ones({3}, doubles).requires_grad_();
  at::Tensor third = at::ones({4}, options).requires_grad_();
  at::Tensor on_host = at::ones({2}).requires_grad_();
  (first * mine).sum().backward();
  (second * mine).sum().backward();
  (on_host * mine).sum().backward();
  if (world.rank() == 1) (third * mine).sum().backward();
  world.average_gradients({first, fixed, second, third, on_host});
  TORCH_CHECK(first.grad().equal(at::full({2, 2}, 2.5, options)));
  TORCH_CHECK(second.grad().equal(at::full({3}, 2.5, doubles)));
  TORCH_CHECK(third.grad().equal(at::full({4}, 2.0, options)));
  TORCH_CHECK(on_host.grad().equal(at::full({2}, 2.5)));
  TORCH_CHECK(!fixed.grad().defined());
}

void check_half_gradients(World& world, c10::Device device) {
  const auto options = options_for(device, at::kHalf);
  at::Tensor parameter = at::ones({3}, options).requires_grad_();
  parameter.mutable_grad() = at::full({3}, world.rank() == 0 ? 60000 : 40000, options);
  world.average_gradients({parameter});
  TORCH_CHECK(parameter.grad().equal(at::full({3}, 50000, options)), parameter.grad());
}

/// Rank 1 ends in its own way while the others add numbers. Returns what they say.
template <class End>
std::vector<std::string> texts_after(std::size_t size, const WorldOptions& options,
                                     const End& end) {
  return run_world(
      size,
      [&](World& world) -> std::string {
        at::Tensor number = at::ones({1}, options_for(world.device()));
        world.allreduce(number);
        world.barrier();
        if (world.rank() == 1) end();
        try {
          for (;;) {
            world.allreduce(number);
            (void)number.item<float>();  // waits for a device
          }
        } catch (const Error& error) {
          return (error.code() == ErrorCode::Io ? "Io " : "") + std::string(error.what());
        }
      },
      options);
}

}  // namespace

TEST_CASE("sums, broadcasts and gathers over all ranks", "[world]") {
  for (const std::size_t size : {1, 3}) check_ranks(size, at::kCPU, check_operations);
}

TEST_CASE("broadcasts and gathers of every dtype, and sums of those that can be added", "[world]") {
  check_ranks(2, at::kCPU, check_dtypes);
}

TEST_CASE("tensors that LibTorch negates and conjugates when it reads them", "[world]") {
  check_ranks(2, at::kCPU, check_lazy_values);
}

TEST_CASE("gradients become their mean, also those that a rank does not have", "[world]") {
  check_ranks(2, at::kCPU, check_gradients);
}

TEST_CASE("gradients in half precision become their mean if their sum is out of range", "[world]") {
  check_ranks(2, at::kCPU, check_half_gradients);
}

TEST_CASE("sums, broadcasts, gathers and gradients on a CUDA device", "[cuda]") {
  if (!ranks_have_cuda()) return;
  const c10::Device cuda(c10::kCUDA, 0);
  for (const std::size_t size : {1, 2, 3}) check_ranks(size, cuda, check_operations);
  check_ranks(2, cuda, [](World& world, c10::Device device) {
    check_dtypes(world, device);
    check_lazy_values(world, device);
    check_gradients(world, device);
    check_half_gradients(world, device);
  });
}

TEST_CASE("a stream of the program sees sums on a CUDA device, also after the World's end",
          "[cuda]") {
  if (!ranks_have_cuda()) return;
  check_ranks(2, c10::Device(c10::kCUDA, 0), [](World& world, c10::Device device) {
    const auto options = options_for(device);
    constexpr std::int64_t kCount = 4 << 20;
    at::Tensor sum;
    {
      World own = std::move(world);
      const at::Tensor matrix = at::ones({2048, 2048}, options);
      for (int i = 0; i < 20; ++i) {
        // The work before is not complete when the sum is started.
        at::Tensor product = matrix;
        for (int j = 0; j < 10; ++j) product = at::mm(product, matrix) / 2048;
        sum = at::arange(kCount, options) * product[0][0] + static_cast<double>(own.rank());
        own.allreduce(sum);
      }
    }
    TORCH_CHECK(sum.equal(at::arange(kCount, options) * 2 + 1));
  });
}

TEST_CASE("two ranks of one machine on one CUDA device are refused at the start", "[cuda]") {
  if (!ranks_have_cuda()) return;
  const Agent agent;
  ::unsetenv("NCCL_HOSTID");
  std::vector<Process> ranks;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    ranks.push_back(rank_process(agent.launch(rank, 2), patient(c10::Device(c10::kCUDA, 0)),
                                 [](const World&) { return std::string("accepted"); }));
  }
  for (const std::string& text : results(ranks)) {
    INFO(text);
    CHECK(text.find("each rank needs a GPU of its own") != std::string::npos);
  }
}

TEST_CASE("each rank has a CUDA device of its own", "[cuda]") {
  if (!ranks_have_cuda(2)) return;
  const Agent agent;
  ::unsetenv("NCCL_HOSTID");
  std::vector<Process> ranks;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    ranks.push_back(rank_process(
        agent.launch(rank, 2), patient().device(std::nullopt), [rank](World& world) -> std::string {
          const c10::Device device(c10::kCUDA, static_cast<c10::DeviceIndex>(rank));
          check_operations(world, device);
          check_gradients(world, device);
          return "right";
        }));
  }
  for (const std::string& text : results(ranks)) CHECK(text == "right");
}

TEST_CASE("a sparse gradient is refused, also by one process", "[world]") {
  for (const std::size_t size : {1, 2}) {
    const auto texts = run_world(size, [](World& world) -> std::string {
      at::Tensor parameter = at::zeros({3, 2}).requires_grad_();
      parameter.mutable_grad() = at::ones({3, 2}).to_sparse();
      return error_of([&] { world.average_gradients({parameter}); }).what();
    });
    for (const std::string& text : texts) {
      CHECK_THAT(text, says("found a sparse one of shape (3, 2): to_dense() makes it dense"));
    }
  }
}

TEST_CASE("if a rank dies, the others get an Error that says so", "[world]") {
  const auto texts = texts_after(3, patient(), [] { ::_exit(1); });
  for (const std::size_t rank : {0, 2}) {
    INFO(texts[rank]);
    CHECK(texts[rank].find("Io rank " + std::to_string(rank) + " of 3: allreduce failed: ") == 0);
    CHECK(texts[rank].find("a rank has ended") != std::string::npos);
  }
}

TEST_CASE("if a rank on a CUDA device dies or throws, the others end or get an Error", "[cuda]") {
  if (!ranks_have_cuda()) return;
  const auto options = patient(c10::Device(c10::kCUDA, 0)).timeout(std::chrono::seconds(20));
  ::setenv("TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "1000", 1);  // else LibTorch waits a minute
  const auto dies = [] { ::_exit(1); };
  const auto throws = [] { throw std::runtime_error("its own"); };
  CHECK(texts_after(2, options, dies)[0] == "died");
  CHECK(texts_after(2, options, throws) == std::vector<std::string>{"died", "error: its own"});
  ::setenv("TORCH_NCCL_BLOCKING_WAIT", "1", 1);
  const std::string text = texts_after(2, options, dies)[0];
  INFO(text);
  CHECK(text.find("Io rank 0 of 2: allreduce failed: ") == 0);
  CHECK(texts_after(2, options, throws)[1] == "error: its own");
  ::unsetenv("TORCH_NCCL_BLOCKING_WAIT");
}

TEST_CASE("a wrong root, a wrong device", "[world]") {
  const auto texts = run_world(1, [](World& world) -> std::string {
    std::string text;
    try {
      world.broadcast(at::ones({1}), 1);
    } catch (const Error& error) {
      text = error.what();
    }
    try {
      World other(world.launch(), WorldOptions().device(c10::Device(c10::kXPU, 0)));
    } catch (const Error& error) {
      text += "; " + std::string(error.what());
    }
    return text;
  });
  CHECK(texts[0].find("broadcast from rank 1: expected less than 1; no device xpu:0") == 0);
}
