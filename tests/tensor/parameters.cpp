// Parameters and buffers of modules in archives.

#include "support/modules.hpp"

#include <torch/enum.h>
#include <torch/optim/sgd.h>

#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "support/fake_device.hpp"
// After LibTorch's.
#include "support/archives.hpp"
#include "support/at_once.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;
namespace nn = torch::nn;

namespace {

/// The module of tests/numpy_files/make_parameters.py.
struct LayersImpl : nn::Module {
  LayersImpl() {
    register_module("embedding", embedding);
    register_module("attention", attention);
    register_module("recurrent", recurrent);
    register_module("head", head);
  }

  at::Tensor forward(const at::Tensor& tokens) {
    const auto hidden = recurrent->forward(attention->forward(embedding->forward(tokens)));
    return head->forward(std::get<0>(hidden).permute({1, 2, 0}));
  }

  nn::Embedding embedding{5, 4};
  nn::TransformerEncoderLayer attention{
      nn::TransformerEncoderLayerOptions(4, 2).dim_feedforward(8)};
  nn::LSTM recurrent{nn::LSTMOptions(4, 3).num_layers(2).bidirectional(true)};
  nn::Sequential head{nn::BatchNorm1d(6), nn::ReLU(),
                      nn::Conv1d(nn::Conv1dOptions(6, 2, 3).bias(false))};
};
TORCH_MODULE(Layers);

std::filesystem::path python_file(const std::string& name) {
  return std::filesystem::path(TORCH_NPY_TEST_DATA) / "parameters" / name;
}

/// A trained one: its buffers are not those of a new one.
Layers trained() {
  Layers layers;
  layers->forward(at::arange(15).remainder(5).view({5, 3}));
  return layers;
}

}  // namespace

TEST_CASE("a state_dict() that np.savez saved loads into the same module in C++",
          "[parameters][numpy]") {
  Layers layers;
  const IncompatibleKeys keys = load_parameters(layers, python_file("layers.npz"));
  CHECK(keys.missing_keys.empty());
  CHECK(keys.unexpected_keys.empty());
  const NpzFile file(python_file("layers.npz"));
  for (const auto& item : layers->named_parameters()) {
    CHECK(at::equal(item.value(), file.load(item.key())));
  }
  CHECK(layers->named_buffers()["head.0.num_batches_tracked"].item<std::int64_t>() == 3);
  CHECK(at::equal(layers->named_buffers()["head.0.running_var"], file.load("head.0.running_var")));

  layers->eval();
  const auto check = load_npz(python_file("layers_check.npz"));
  CHECK(at::allclose(layers->forward(check["input"]), check["output"], 1e-5, 1e-6));
}

TEST_CASE("save_parameters() writes the names of state_dict() in their order",
          "[parameters][numpy]") {
  const Folder folder;
  save_parameters(folder / "a.npz", trained());
  CHECK(NpzFile(folder / "a.npz").names() == NpzFile(python_file("layers.npz")).names());

  nn::Linear no_bias(nn::LinearOptions(2, 3).bias(false));
  save_parameters(folder / "b.npz", no_bias);
  CHECK(NpzFile(folder / "b.npz").names() == std::vector<std::string>{"weight"});
  save_parameters(folder / "c.npz", nn::BatchNorm2d(nn::BatchNorm2dOptions(3).affine(false)));
  CHECK(NpzFile(folder / "c.npz").names() ==
        std::vector<std::string>{"running_mean", "running_var", "num_batches_tracked"});
  save_parameters(folder / "d.npz",
                  nn::BatchNorm2d(nn::BatchNorm2dOptions(3).track_running_stats(false)));
  CHECK(NpzFile(folder / "d.npz").names() == std::vector<std::string>{"weight", "bias"});
  save_parameters(folder / "e.npz", nn::ReLU());
  CHECK(NpzFile(folder / "e.npz").names().empty());
  load_parameters(nn::ReLU(), folder / "e.npz");
}

TEST_CASE("modules, holders and pointers to modules are saved and loaded", "[parameters]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  Layers layers = trained();
  const auto want = state_of(*layers);
  const auto loads = [&](const auto& module, const nn::Module& same) {
    CHECK(state_of(same) != want);
    load_parameters(module, path);
    CHECK(state_of(same) == want);
  };
  const Layers holder;
  const std::shared_ptr<LayersImpl> pointer = std::make_shared<LayersImpl>();
  const std::shared_ptr<nn::Module> base = std::make_shared<LayersImpl>();
  LayersImpl module;  // not in a shared_ptr
  save_parameters(path, layers);
  loads(holder, *holder);
  save_parameters(path, *layers);
  loads(pointer, *pointer);
  save_parameters(path, layers.ptr());
  loads(base, *base);
  save_parameters(path, static_cast<const nn::Module&>(*layers));
  loads(module, module);

  nn::Sequential nested(nn::Linear(2, 3), Layers(), nn::GRU(2, 3));
  save_parameters(path, nested);
  nn::Sequential other(nn::Linear(2, 3), Layers(), nn::GRU(2, 3));
  load_parameters(other, path);
  CHECK(state_of(*other) == state_of(*nested));
}

TEST_CASE("save_parameters() takes the options of save_npz()", "[parameters]") {
  if (!has_deflate()) return;
  const Folder folder;
  const Given module({{"x", at::zeros({1000})}});
  save_parameters(folder / "a.npz", module, SaveNpzOptions().compressed(true).sync(false));
  CHECK(NpzFile(folder / "a.npz").is_deflated("x"));
  const Given other({{"x", at::ones({1000})}});
  load_parameters(other, folder / "a.npz");
  CHECK(state_of(other) == state_of(module));
}

TEST_CASE("loaded parameters stay the same tensors, and autograd detects the change",
          "[parameters]") {
  const Folder folder;
  const at::Tensor values = at::arange(24, at::kFloat).view({2, 3, 2, 2});
  save_npz(folder / "a.npz", {{"x", values}, {"fortran", values.view({4, 6}).t()}});
  const at::Tensor last = values.contiguous(at::MemoryFormat::ChannelsLast);
  const Given module({{"x", at::zeros_like(last)}, {"fortran", at::zeros({6, 4})}});
  at::Tensor x = module.named_parameters()["x"];
  torch::optim::SGD optimizer({x}, torch::optim::SGDOptions(1));
  const at::Tensor loss = (x * x).sum();
  const void* const memory = x.data_ptr();
  const auto version = x._version();

  load_parameters(module, folder / "a.npz");
  CHECK(x.is_same(module.named_parameters()["x"]));
  CHECK(x.data_ptr() == memory);
  CHECK(x.strides() == last.strides());
  CHECK(x.requires_grad());
  CHECK(x.is_leaf());
  CHECK(x._version() > version);
  CHECK(at::equal(x, values));
  CHECK(at::equal(module.named_parameters()["fortran"], values.view({4, 6}).t()));
  CHECK_THROWS_AS(loss.backward(), c10::Error);  // it needs the old values

  x.mutable_grad() = at::ones_like(x);
  optimizer.step();
  CHECK(at::equal(module.named_parameters()["x"], values - 1));
}

TEST_CASE("strict(false) loads what both have and returns the other names", "[parameters]") {
  const Folder folder;
  const std::string pickled = npy(header_text("'|O'", "(2,)"), std::string(16, 'x'));
  const std::string ones = npy(header_text("'<f4'", "(2,)"), bytes_of(at::ones({2})));
  const auto path = write_bytes(
      folder / "a.npz", zip({ZipPart::stored("z.npy", pickled), ZipPart::stored("x.npy", ones),
                             ZipPart::stored("y.npy", npy("nonsense"))}));
  const Given module({{"b", at::zeros({2})}, {"x", at::zeros({2})}, {"a", at::zeros({2})}});
  const IncompatibleKeys keys =
      load_parameters(module, path, LoadParametersOptions().strict(false));
  CHECK(keys.missing_keys == std::vector<std::string>{"b", "a"});
  CHECK(keys.unexpected_keys == std::vector<std::string>{"z", "y"});
  CHECK(at::equal(module.named_parameters()["x"], at::ones({2})));
  CHECK(at::equal(module.named_parameters()["a"], at::zeros({2})));
}

TEST_CASE("an array is found by its exact name", "[parameters]") {
  const Folder folder;
  save_npz(folder / "a.npz", {{"x", at::ones({2})}});
  struct Npy : nn::Module {
    Npy() { register_module("x", child), child->register_parameter("npy", at::zeros({2})); }
    std::shared_ptr<nn::Module> child = std::make_shared<nn::Module>();
  } module;  // NpzFile finds "x" as "x.npy", too
  const IncompatibleKeys keys =
      load_parameters(module, folder / "a.npz", LoadParametersOptions().strict(false));
  CHECK(keys.missing_keys == std::vector<std::string>{"x.npy"});
  CHECK(keys.unexpected_keys == std::vector<std::string>{"x"});
}

TEST_CASE("floating-point and complex arrays are converted to the dtype of the module",
          "[parameters]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const at::Tensor values = at::randn({40, 50}, at::kDouble);
  const auto converts = [&](const at::Tensor& from, c10::ScalarType type) {
    INFO(from.scalar_type() << " to " << type);
    save_npz(path, {{"x", from}});
    const Given module = given(at::zeros({40, 50}, type));
    load_parameters(module, path);
    CHECK((bytes_of(module.named_buffers()["x"]) == bytes_of(from.to(type))));
  };
  for (const auto from : {at::kHalf, at::kFloat, at::kDouble}) {
    for (const auto to : {at::kHalf, at::kBFloat16, at::kFloat, at::kDouble}) {
      converts(values.to(from), to);
    }
  }
  converts(values.to(at::kComplexDouble), at::kComplexFloat);
  converts(values.to(at::kComplexFloat), at::kComplexDouble);
  for (const auto type : {at::kBFloat16, at::kComplexFloat, at::kBool, at::kByte, at::kChar,
                          at::kShort, at::kInt, at::kLong}) {
    converts((values * 10).abs().to(type), type);
  }
#if TORCH_NPY_TORCH_AT_LEAST(2, 3)
  converts((values * 10).abs().to(at::kInt).to(at::kUInt16), at::kUInt16);
  converts(values.to(at::kFloat8_e4m3fn), at::kFloat8_e4m3fn);
  converts(values, at::kFloat8_e4m3fn);
#endif
}

TEST_CASE("a module of another precision, whose integer buffers LibTorch has converted, is loaded",
          "[parameters]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const auto make = [] {
    torch::nn::BatchNorm1d norm(4);
    norm->running_mean.fill_(0.5);
    norm->num_batches_tracked.fill_(7);
    return norm;
  };
  for (const auto stored : {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble}) {
    torch::nn::BatchNorm1d saved = make();
    saved->to(stored);
    save_parameters(path, saved);
    torch::nn::BatchNorm1d as_made(4);  // its counter is int64
    load_parameters(as_made, path);
    CHECK(as_made->running_mean[3].item<float>() == 0.5F);
    CHECK(as_made->num_batches_tracked.equal(torch::tensor(7)));
    for (const auto type : {at::kFloat, at::kHalf, at::kBFloat16, at::kDouble}) {
      INFO(c10::toString(stored) << " to " << c10::toString(type));
      torch::nn::BatchNorm1d loaded(4);
      loaded->to(type);
      load_parameters(loaded, path);
      CHECK(loaded->running_mean.scalar_type() == type);
      CHECK(loaded->running_mean[3].item<float>() == 0.5F);
      CHECK(loaded->num_batches_tracked.item<float>() == 7);
    }
  }
}

TEST_CASE("a bfloat16 module is restored bit for bit", "[parameters]") {
  const Folder folder;
  Layers layers = trained();
  layers->to(at::kBFloat16);
  save_parameters(folder / "a.npz", layers);
  CHECK(NpzFile(folder / "a.npz").header("embedding.weight").dtype.descr() == "|V2");
  Layers other;
  other->to(at::kBFloat16);
  load_parameters(other, folder / "a.npz");
  CHECK(state_of(*other) == state_of(*layers));
}

TEST_CASE("a tensor with two names is saved and loaded under both", "[parameters]") {
  const Folder folder;
  const at::Tensor weight = at::rand({3, 2});
  const Given module({{"a", weight}, {"b", weight}, {"none", at::zeros({0})}},
                     {{"transposed", weight.t().t()}, {"none too", at::zeros({0})}});
  const at::Tensor saved = weight.clone();
  save_parameters(folder / "a.npz", module);
  CHECK(NpzFile(folder / "a.npz").names() ==
        std::vector<std::string>{"a", "b", "none", "transposed", "none too"});
  weight.detach().zero_();
  load_parameters(module, folder / "a.npz");
  CHECK(at::equal(weight, saved));

  // NaNs of the same bits are the same values.
  weight.detach().fill_(std::nan(""));
  save_parameters(folder / "a.npz", module);
  load_parameters(module, folder / "a.npz");

  save_npz(folder / "b.npz", {{"b", saved}});
  const IncompatibleKeys keys =
      load_parameters(module, folder / "b.npz", LoadParametersOptions().strict(false));
  CHECK(keys.missing_keys == std::vector<std::string>{"a", "none", "transposed", "none too"});
  CHECK(at::equal(module.named_parameters()["a"], saved));
}

TEST_CASE("parameters may be parts of one tensor that do not overlap", "[parameters]") {
  const Folder folder;
  const at::Tensor flat = at::rand({10});
  const Given module({}, {{"b", flat.narrow(0, 4, 6).view({2, 3})}, {"a", flat.narrow(0, 0, 4)}});
  save_parameters(folder / "a.npz", module);
  const at::Tensor saved = flat.clone();
  flat.zero_();
  load_parameters(module, folder / "a.npz");
  CHECK(at::equal(flat, saved));
}

TEST_CASE("inference tensors are loaded in InferenceMode", "[parameters]") {
  const Folder folder;
  save_parameters(folder / "a.npz", given(at::ones({2})));
  const c10::InferenceMode guard;
  const Given module = given(at::zeros({2}));
  REQUIRE(module.named_buffers()["x"].is_inference());
  load_parameters(module, folder / "a.npz");
  CHECK(at::equal(module.named_buffers()["x"], at::ones({2})));
}

TEST_CASE("modules on a device are saved and loaded there", "[parameters][device]") {
  const Folder folder;
  const c10::Device device(fake_device::kType, 1);
  const at::Tensor values = at::rand({4, 5});
  const Given module = given(values.to(device));
  save_parameters(folder / "a.npz", module);
  CHECK(same(load_npz(folder / "a.npz")["x"], values));
  const Given other = given(at::zeros({4, 5}).to(device));
  load_parameters(other, folder / "a.npz");
  CHECK(other.named_buffers()["x"].device() == device);
  CHECK(at::equal(other.named_buffers()["x"].to(at::kCPU), values));

  save_npz(folder / "b.npz", {{"x", values.to(at::kDouble)}});
  const Given converted = given(at::zeros({4, 5}).to(device));
  load_parameters(converted, folder / "b.npz");
  CHECK(at::equal(converted.named_buffers()["x"].to(at::kCPU), values));
}

TEST_CASE("threads load one archive into modules of their own", "[parameters][threads]") {
  const Folder folder;
  Layers layers = trained();
  save_parameters(folder / "a.npz", layers);
  const auto want = state_of(*layers);
  CHECK(failures_of([&](int) {
          Layers other;
          load_parameters(other, folder / "a.npz");
          return state_of(*other) == want;
        }) == 0);
}
