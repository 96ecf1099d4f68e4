// Loading parameters, with every system call and every allocation failing in turn.

#include <torch/data.h>
#include <torch_npy.hpp>

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cerrno>
#include <cstddef>
#include <exception>
#include <iostream>
#include <memory>
#include <string>

#include "support/catch.hpp"
#include "support/fault_work.hpp"
#include "support/faults.hpp"
#include "support/files.hpp"

using namespace torch_npy;

namespace {

/// What load_parameters() uses of a module, without the headers of LibTorch's modules.
struct FewTensors {
  using Tensors = torch::OrderedDict<std::string, at::Tensor>;
  Tensors tensors;

  Tensors named_parameters(bool) const { return tensors; }
  Tensors named_buffers(bool) const { return Tensors(); }
  torch::OrderedDict<std::string, std::shared_ptr<FewTensors>> named_children() const {
    return torch::OrderedDict<std::string, std::shared_ptr<FewTensors>>();
  }
};

}  // namespace

TEST_CASE("after each failing system call or allocation, all parameters are new or none is",
          "[faults]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const FewTensors saved{{{"small", floats({3, 4})},
                          {"none", at::zeros({0})},
                          {"doubles", floats({30, 100}).to(at::kDouble)},
                          {"large", floats({300, 10000})}}};
  FewTensors module{{{"small", at::zeros({4, 3}).t()},
                     {"none", at::zeros({0})},
                     {"doubles", at::zeros({30, 100})},
                     {"large", at::zeros({300, 10000})}}};
  save_parameters(path, saved, SaveNpzOptions().sync(false));
  const auto is_new = [&](const std::string& name) {
    return at::equal(module.tensors[name].to(at::kDouble), saved.tensors[name].to(at::kDouble));
  };
  const auto is_old = [&](const std::string& name) {
    return at::equal(module.tensors[name], at::zeros_like(module.tensors[name]));
  };
  const auto prepare = [&] {
    for (auto& item : module.tensors) item.value().zero_();
  };
  const auto check = [&](bool done) {
    for (const char* name : {"small", "doubles", "large"}) {
      CHECK((done ? is_new(name) : is_old(name)));
    }
  };
  inject({"load_parameters", prepare, [&] { load_parameters(module, path); }, check}, folder);

  const auto live = live_allocations.load();
  std::size_t failures = 0;
  bool happened = true;
  for (std::size_t index = 0; happened; ++index) {
    INFO("allocation " << index);
    prepare();
    bool done = false;
    {
      const FaultInjection injection(kAllocate, {Fault::Fails, ENOMEM}, index);
      try {
        load_parameters(module, path);
        done = true;
      } catch (const std::exception&) {  // Error, std::bad_alloc, or LibTorch's own
        ++failures;
      }
      happened = injection.happened();
    }
    check(done);
    REQUIRE(live_allocations == live);
  }
  CHECK(failures > 20);
  std::cout << failures << " allocations failed while parameters were loaded\n";
}
