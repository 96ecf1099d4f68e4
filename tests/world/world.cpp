// The operations among ranks, and runs that go on with another number of them.

#include <torch_npy/world.hpp>

#include <ATen/ops/_neg_view.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/complex.h>
#include <ATen/ops/full.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "support/loading.hpp"
#include "support/processes.hpp"
#include "support/ranks.hpp"

// After LibTorch's.
#include "support/catch.hpp"

using namespace torch_npy;

namespace {

Loader<Seen> make_loader(const World& world, LoaderOptions options, const char* name = "s") {
  return Loader<Seen>(
      counted(53, name), [](const Request& request) { return std::optional<Seen>(Seen(request)); },
      options.shuffle(true).seed(3).shard(world.size(), world.rank()));
}

std::string shown(const Indices& indices) {
  std::ostringstream text;
  for (const std::size_t index : indices) text << index << ' ';
  return text.str();
}

Indices parsed(const std::string& text) {
  std::istringstream in(text);
  Indices indices;
  for (std::size_t index = 0; in >> index;) indices.push_back(index);
  return indices;
}

/// The state after `steps` batches of 2 ranks, and the samples that nobody had then.
struct Saved {
  LoaderState state;
  Indices left;
};

Saved saved_by_two_ranks(std::size_t steps) {
  Saved saved;
  std::vector<bool> used(53);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    Loader<Seen> loader(
        counted(53), [](const Request& request) { return std::optional<Seen>(Seen(request)); },
        LoaderOptions(4).shuffle(true).seed(3).shard(2, rank));
    auto it = loader.begin();
    for (std::size_t step = 0; step < steps; ++step) {
      if (step != 0) ++it;
      for (const std::size_t index : it->indices) used[index] = true;
    }
    if (rank == 1) CHECK(loader.state() == saved.state);
    saved.state = loader.state();
  }
  for (std::size_t index = 0; index < used.size(); ++index) {
    if (!used[index]) saved.left.push_back(index);
  }
  return saved;
}

}  // namespace

TEST_CASE("sums, means, broadcasts and gathers over all ranks", "[world]") {
  for (const std::size_t size : {1, 3}) {
    const auto texts = run_world(size, [](World& world) -> std::string {
      const auto rank = static_cast<double>(world.rank());
      const double sum = world.size() == 3 ? 3 : 0;  // of the ranks
      TORCH_CHECK(world.group()->getSize() == static_cast<int>(world.size()));
      at::Tensor numbers = at::full({2, 3}, rank);
      world.allreduce(numbers);
      TORCH_CHECK(numbers.equal(at::full({2, 3}, sum)));
      at::Tensor column = at::full({3, 2}, rank).t();  // not contiguous
      world.allreduce(column.narrow(1, 0, 1));
      TORCH_CHECK(column.equal(
          at::stack({at::full({2}, sum), at::full({2}, rank), at::full({2}, rank)}, 1)));
      world.broadcast(column, world.size() - 1);
      TORCH_CHECK(column[0][2].item<double>() == static_cast<double>(world.size() - 1));
      const auto all = world.allgather(at::full({2}, rank + 5, at::kLong));
      TORCH_CHECK(all.size() == world.size());
      for (std::size_t i = 0; i < all.size(); ++i) {
        TORCH_CHECK(all[i].equal(at::full({2}, static_cast<double>(i) + 5, at::kLong)));
      }
      world.barrier();
      return "right";
    });
    for (const std::string& text : texts) CHECK(text == "right");
  }
}

TEST_CASE("broadcasts and gathers of every dtype, and sums of those that can be added", "[world]") {
  const auto texts = run_world(2, [](World& world) -> std::string {
    const auto rank = static_cast<double>(world.rank());
    for (const auto type : {at::kBool, at::kByte, at::kShort, at::kHalf, at::kBFloat16, at::kDouble,
                            at::kComplexFloat}) {
      const auto of = [&](double value) { return at::full({3}, value, type); };
      at::Tensor tensor = of(rank);
      world.broadcast(tensor, 1);
      TORCH_CHECK(tensor.equal(of(1)), "broadcast of ", type);
      const auto all = world.allgather(at::full({}, rank, type));
      TORCH_CHECK(all[0].equal(at::full({}, 0, type)), "allgather of ", type);
      TORCH_CHECK(all[1].equal(at::full({}, 1, type)), "allgather of ", type);
      TORCH_CHECK(world.allgather(at::zeros({0, 2}, type))[1].numel() == 0, "empty");
      at::Tensor sum = of(rank + 1);
      if (type != at::kBool && type != at::kShort) {
        world.allreduce(sum);
        TORCH_CHECK(sum.equal(of(3)), "allreduce of ", type);
        continue;
      }
      try {
        world.allreduce(sum);
        return "added";
      } catch (const Error& error) {
        TORCH_CHECK(error.code() == ErrorCode::UnsupportedDtype, error.what());
      }
    }
    return "right";
  });
  for (const std::string& text : texts) CHECK(text == "right");
}

TEST_CASE("tensors that LibTorch negates and conjugates when it reads them", "[world]") {
  const auto texts = run_world(2, [](World& world) -> std::string {
    const double mine = world.rank() == 0 ? 3 : 5;
    const auto negative = [&] { return at::_neg_view(at::full({2}, mine)); };
    const auto all = world.allgather(negative());
    TORCH_CHECK(all[0].equal(at::full({2}, -3.0)) && all[1].equal(at::full({2}, -5.0)), all);
    at::Tensor tensor = world.rank() == 0 ? negative() : at::zeros({2});
    world.broadcast(tensor);
    TORCH_CHECK(tensor.equal(at::full({2}, -3.0)), tensor);
    tensor = world.rank() == 1 ? negative() : at::full({2}, mine);
    world.allreduce(tensor);
    TORCH_CHECK(tensor.equal(at::full({2}, -2.0)), tensor);
    at::Tensor complex = at::complex(at::full({2}, mine), at::full({2}, mine)).conj();
    world.allreduce(complex);
    TORCH_CHECK(at::imag(complex).equal(at::full({2}, -8.0)), complex);
    return "right";
  });
  for (const std::string& text : texts) CHECK(text == "right");
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

TEST_CASE("gradients become their mean, also those that a rank does not have", "[world]") {
  const auto texts = run_world(2, [](World& world) -> std::string {
    const double mine = world.rank() == 0 ? 1 : 4;
    at::Tensor first = at::ones({2, 2}).requires_grad_(), fixed = at::ones({5});
    at::Tensor second = at::ones({3}, at::kDouble).requires_grad_();
    at::Tensor third = at::ones({4}).requires_grad_();
    ((first * mine).sum() + (second * mine).sum()).backward();
    if (world.rank() == 1) (third * mine).sum().backward();
    world.average_gradients({first, fixed, second, third});
    TORCH_CHECK(first.grad().equal(at::full({2, 2}, 2.5)));
    TORCH_CHECK(second.grad().equal(at::full({3}, 2.5, at::kDouble)));
    TORCH_CHECK(third.grad().equal(at::full({4}, 2.0)));
    TORCH_CHECK(!fixed.grad().defined());
    return "right";
  });
  for (const std::string& text : texts) CHECK(text == "right");
}

TEST_CASE("gradients in half precision become their mean if their sum is out of range", "[world]") {
  const auto texts = run_world(2, [](World& world) -> std::string {
    at::Tensor parameter = at::ones({3}, at::kHalf).requires_grad_();
    parameter.mutable_grad() = at::full({3}, world.rank() == 0 ? 60000 : 40000, at::kHalf);
    world.average_gradients({parameter});
    TORCH_CHECK(parameter.grad().equal(at::full({3}, 50000, at::kHalf)), parameter.grad());
    return "right";
  });
  for (const std::string& text : texts) CHECK(text == "right");
}

TEST_CASE("if a rank dies, the others get an Error that says so", "[world]") {
  const auto texts = run_world(3, [](World& world) -> std::string {
    world.barrier();
    if (world.rank() == 1) ::_exit(1);
    try {
      at::Tensor number = at::ones({1});
      for (;;) world.allreduce(number);
    } catch (const Error& error) {
      return (error.code() == ErrorCode::Io ? "Io " : "") + std::string(error.what());
    }
  });
  for (const std::size_t rank : {0, 2}) {
    INFO(texts[rank]);
    CHECK(texts[rank].find("Io rank " + std::to_string(rank) + " of 3: allreduce failed: ") == 0);
    CHECK(texts[rank].find("a rank has ended") != std::string::npos);
  }
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

TEST_CASE("the rest of an epoch of 2 ranks goes to 1, 2, 3 or 6, each sample once", "[world]") {
  const auto tail = GENERATE(Tail::Pad, Tail::Exact);
  const std::size_t ranks = GENERATE(1, 2, 3, 6);
  const std::size_t steps = GENERATE(1, 5, 6);  // 45, 13 and 5 samples are left
  CAPTURE(static_cast<int>(tail), ranks, steps);
  const Saved saved = saved_by_two_ranks(steps);
  REQUIRE(saved.left.size() == 53 - 8 * steps);
  const auto texts = run_world(ranks, [&](World& world) -> std::string {
    auto loader = make_loader(world, LoaderOptions(2).tail(tail));
    TORCH_CHECK(world.restore(loader, saved.state));
    Indices indices;
    for (auto& batch : loader) {
      indices.insert(indices.end(), batch.indices.begin(), batch.indices.end());
      // Where the ranks have equally many batches, none waits for one that has none.
      if (tail == Tail::Pad) world.barrier();
    }
    TORCH_CHECK(loader.epoch() == 1);
    return shown(indices);
  });
  Indices all;
  std::vector<std::size_t> counts;
  for (const std::string& text : texts) {
    const Indices indices = parsed(text);
    counts.push_back(indices.size());
    all.insert(all.end(), indices.begin(), indices.end());
  }
  std::sort(all.begin(), all.end());
  const std::size_t each = (saved.left.size() + ranks - 1) / ranks;
  if (tail == Tail::Exact) {
    CHECK(all == saved.left);
    CHECK(*std::max_element(counts.begin(), counts.end()) == each);
  } else {
    // All of the rest, and the few samples from the start of the epoch that make the ranks equal.
    CHECK(std::includes(all.begin(), all.end(), saved.left.begin(), saved.left.end()));
    CHECK(counts == std::vector<std::size_t>(ranks, each));
  }
}

TEST_CASE("ranks with different states are refused on all ranks", "[world]") {
  const LoaderState early = saved_by_two_ranks(2).state, late = saved_by_two_ranks(3).state;
  const auto texts = run_world(4, [&](World& world) -> std::string {
    auto loader = make_loader(world, LoaderOptions(2));
    try {
      world.restore(loader, world.rank() == 2 ? late : early);
    } catch (const Error& error) {
      TORCH_CHECK(loader.state().samples == 0, "the loader was changed");
      return (error.code() == ErrorCode::Mismatch ? "" : "another code ") +
             std::string(error.what());
    }
    return "accepted";
  });
  for (const std::string& text : texts) {
    INFO(text);
    CHECK(text.find(
              "of 4: the ranks restore different states:\n  ranks 0, 1, 3: epoch 0, sample 16,") !=
          std::string::npos);
    CHECK(text.find("\n  rank 2: epoch 0, sample 24,") != std::string::npos);
    CHECK(text.find("load the checkpoint of the same step on every rank") != std::string::npos);
  }
}

TEST_CASE("either all ranks have a state, or none", "[world]") {
  const LoaderState state = saved_by_two_ranks(2).state;
  const auto texts = run_world(2, [&](World& world) -> std::string {
    auto loader = make_loader(world, LoaderOptions(2));
    TORCH_CHECK(!world.restore(loader, std::nullopt));
    TORCH_CHECK(loader.state().samples == 0);
    try {
      world.restore(loader, world.rank() == 1 ? std::optional(state) : std::nullopt);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  });
  for (const std::string& text : texts) {
    INFO(text);
    CHECK(text.find("\n  rank 0: no state\n  rank 1: epoch 0, sample 16,") != std::string::npos);
  }
}

TEST_CASE("a state that does not fit on one rank is refused on all", "[world]") {
  const LoaderState state = saved_by_two_ranks(2).state;
  const auto texts = run_world(3, [&](World& world) -> std::string {
    auto loader = make_loader(world, LoaderOptions(2), world.rank() == 1 ? "other" : "s");
    try {
      world.restore(loader, state);
    } catch (const Error& error) {
      return (error.code() == ErrorCode::Mismatch ? "" : "another code ") +
             std::string(error.what());
    }
    return "accepted";
  });
  CHECK(texts[1].find("the state is at sample 16 of epoch 0") == 0);
  for (const std::size_t rank : {0, 2}) {
    INFO(texts[rank]);
    CHECK(texts[rank].find("rank " + std::to_string(rank) +
                           " of 3: rank 1 cannot restore the state: the state is at sample 16") ==
          0);
    CHECK(texts[rank].find("of another dataset") != std::string::npos);
  }
}
