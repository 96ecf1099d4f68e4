// Archives and modules that load_parameters() and save_parameters() refuse.

#include "support/modules.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "support/archives.hpp"
#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

/// Fails the test if the module is changed.
template <class Module>
Error refused(const Module& module, const std::filesystem::path& path, bool strict = true) {
  const auto before = state_of(static_cast<const torch::nn::Module&>(module));
  const Error error =
      error_of([&] { load_parameters(module, path, LoadParametersOptions().strict(strict)); });
  CHECK(state_of(module) == before);
  CHECK(error.path() == path);
  return error;
}

std::string npy_of(const at::Tensor& tensor) {
  std::ostringstream out;
  save(out, tensor);
  return out.str();
}

}  // namespace

TEST_CASE("one Error lists all names and arrays that do not fit the module", "[parameters][bad]") {
  const Folder folder;
  const Given module({{"weight", at::zeros({3, 4})}, {"bias", at::zeros({3})}},
                     {{"mean", at::zeros({3})}, {"count", at::zeros({}, at::kLong)}});
  const auto path = folder / "a.npz";
  save_npz(path, {{"old.mean", at::ones({3})},
                  {"weight", at::ones({4, 3})},
                  {"bias", at::ones({3})},
                  {"count", at::ones({}, at::kComplexFloat)},
                  {"more", at::ones({})}});
  for (const bool strict : {true, false}) {
    const Error error = refused(module, path, strict);
    CHECK(error.code() == ErrorCode::Mismatch);
    // Names are no error without `strict`.
    const std::string names =
        "1 missing in the archive:\n"
        "  \"mean\": Float (3,)\n"
        "2 unknown to the module:\n"
        "  \"old.mean\"\n"
        "  \"more\"\n";
    CHECK(error.what() ==
          path.string() + ": the arrays do not match the module:\n" + (strict ? names : "") +
              "2 of another shape or dtype:\n"
              "  \"weight\": Float (3, 4) in the module, '<f4' (4, 3) in the archive\n"
              "  \"count\": Long () in the module, '<c8' () in the archive\n"
              "to keep such a tensor as it is, give its layer another name, or remove the array "
              "from a copy of the archive, and use strict(false)");
  }
  save_npz(path, {{"weight", at::ones({3, 4})}, {"bias", at::ones({3})}, {"mean", at::ones({3})}});
  CHECK(refused(module, path).what() == path.string() +
                                            ": the arrays do not match the module:\n"
                                            "1 missing in the archive:\n"
                                            "  \"count\": Long ()\n"
                                            "strict(false) loads only the names that both have");
  Arrays many;
  for (int i = 0; i < 12; ++i) many.insert(std::to_string(i), at::ones({}));
  save_npz(path, many);
  const std::string none_fits = refused(module, path).what();
  CHECK_THAT(none_fits, says("12 unknown to the module:") && says("\"9\"\n  and 2 more"));
  CHECK_THAT(none_fits, !says("strict"));
}

TEST_CASE("an array of a dtype that cannot be the dtype of the module is refused",
          "[parameters][bad]") {
  const Folder folder;
  struct Bad {
    c10::ScalarType type;
    const char* descr;
  };
  for (const Bad& bad : std::vector<Bad>{
           {at::kFloat, "'<c8'"},
           {at::kBool, "'|u1'"},
           {at::kByte, "'|b1'"},
           {at::kLong, "'<M8[s]'"},
           {at::kLong, "'<m8'"},
           {at::kFloat, "'<V4'"},
           {at::kBool, "'|V2'"},
           {at::kLong, "'|b1'"},
           {at::kBFloat16, "'|V1'"},
           {at::kFloat, "'<f16'"},
           {at::kFloat, "'|O'"},
           {at::kFloat, "'<U1'"},
           {at::kByte, "'|S1'"},
           {at::kFloat, "[('a', '<f4')]"},
           {at::kBFloat16, "[('a', '<i2')]"},
           {at::kComplexFloat, "'<f4'"},
           {at::kComplexFloat, "'<c32'"},
           {at::kFloat, "'<f2'"},
       }) {
    INFO(c10::toString(bad.type) << " and " << bad.descr);
    const auto path = write_bytes(
        folder / "a.npz",
        zip({ZipPart::stored("x.npy", npy(header_text(bad.descr, "(2,)"), std::string(64, 1)))}));
    if (bad.descr == std::string("'<f2'")) {  // is not bad
      load_parameters(given(at::zeros({2}, bad.type)), path);
      continue;
    }
    const Error error = refused(given(at::zeros({2}, bad.type)), path);
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("1 of another shape or dtype:") && says(c10::toString(bad.type)));
  }
}

TEST_CASE("an archive with a damaged array leaves the module unchanged", "[parameters][bad]") {
  const Folder folder;
  Given::Tensors tensors;
  for (const char* name : {"a", "b", "c", "d"}) tensors.emplace_back(name, at::zeros({5}));
  const Given module(tensors);
  const std::string good = npy_of(at::ones({5}));
  using Damage = std::function<void(ZipPart&)>;
  const Damage changed = [](ZipPart& part) { part.bytes.back() ^= 1; };
  const Damage no_header = [](ZipPart& part) {
    part.bytes[20] ^= 64;
    part.both([&](ZipHeader& header) { header.crc = crc_of(part.bytes); });
  };
  const Damage cut = [](ZipPart& part) {
    part = ZipPart::stored(part.local.name, part.bytes.substr(0, part.bytes.size() - 1));
  };
  const Damage encrypted = [](ZipPart& part) {
    part.both([](ZipHeader& header) { header.flags = 1; });
  };
  for (std::size_t index = 0; index < tensors.size(); ++index) {
    for (const auto& damage : {changed, no_header, cut, encrypted}) {
      for (const bool packed : {false, true}) {
        if (packed && !has_deflate()) continue;
        std::vector<ZipPart> parts;
        for (const auto& [name, tensor] : tensors) {
          parts.push_back(ZipPart::stored(name + ".npy", good));
        }
        damage(parts[index]);
        if (packed) {
          parts[index].bytes = deflated(parts[index].bytes);
          parts[index].both([&](ZipHeader& header) {
            header.method = 8, header.packed = parts[index].bytes.size();
          });
        }
        INFO(index << (packed ? ", deflated" : ""));
        const auto path = write_bytes(folder / "a.npz", zip(parts));
        CHECK_THAT(refused(module, path).what(),
                   says("member \"" + tensors[index].first + ".npy\""));
      }
    }
  }
}

TEST_CASE("tensors that cannot be filled are refused before anything is written",
          "[parameters][bad]") {
  const Folder folder;
  const auto refuses = [&](const at::Tensor& tensor, const std::string& words) {
    const Given module({{"a", at::zeros({2})}}, {{"x", tensor}});
    const auto path = folder / "a.npz";
    save_npz(path, {{"a", at::ones({2})}, {"x", at::ones(tensor.sizes())}});
    const Error error = error_of([&] { load_parameters(module, path); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says("tensor \"x\": load_parameters() ") && says(words));
    CHECK(at::equal(module.named_parameters()["a"], at::zeros({2})));
  };
  refuses(at::zeros({1}).expand({4}), "share memory");
  refuses(at::zeros({9}).unfold(0, 6, 1), "share memory");
  refuses(at::zeros({2, 2}, at::TensorOptions().layout(at::kSparse)), "dense tensors");
  refuses(at::zeros({2, 2}, at::TensorOptions().device(at::kMeta)), "dense tensors");
  const at::Tensor inference = [] {
    const c10::InferenceMode guard;
    return at::zeros({2, 2});
  }();
  refuses(inference, "an inference tensor outside InferenceMode");
  CHECK(at::equal(inference, at::zeros({2, 2})));
}

TEST_CASE("tensors that overlap in memory are refused, unless they are one tensor",
          "[parameters][bad]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const at::Tensor flat = at::zeros({8});
  const auto refuses = [&](const at::Tensor& a, const at::Tensor& b) {
    const Given module({}, {{"a", a}, {"b", b}});
    save_npz(path, {{"a", at::ones(a.sizes())}, {"b", at::ones(b.sizes())}});
    const Error error = refused(module, path);
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("overlap in memory, \"a\" and \"b\""));
  };
  refuses(flat.narrow(0, 0, 5), flat.narrow(0, 4, 4));
  refuses(flat, flat.narrow(0, 3, 1));
  refuses(flat, flat.view({2, 4}));
  refuses(flat.view({4, 2}), flat.view({2, 4}).t());
  refuses(flat.view({4, 2}).select(1, 0), flat.view({4, 2}).select(1, 1));  // may do so
}

TEST_CASE("different values for the two names of a tensor are refused", "[parameters][bad]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const at::Tensor weight = at::zeros({2, 3});
  const Given module({{"a", weight}, {"other", at::zeros({2})}, {"b", weight}});
  const at::Tensor values = at::arange(6, at::kFloat).view({2, 3});
  save_npz(path, {{"a", values}, {"other", at::ones({2})}, {"b", values + 1}});
  const Error error = refused(module, path);
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("\"a\" and \"b\" are one tensor in the module"));
  save_npz(path, {{"a", at::zeros({2, 3})}, {"other", at::ones({2})}, {"b", -at::zeros({2, 3})}});
  CHECK(refused(module, path).code() == ErrorCode::Mismatch);  // 0 and -0 are equal
  // In the file one is in Fortran order.
  save_npz(path, {{"a", values}, {"other", at::ones({2})}, {"b", values.t().contiguous().t()}});
  load_parameters(module, path);
  CHECK(at::equal(weight, values));
}

TEST_CASE("a null module and a missing archive are refused", "[parameters][bad]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const std::shared_ptr<torch::nn::Module> null;
  const torch::nn::Linear empty = nullptr;
  for (const Error& error : {error_of([&] { save_parameters(path, null); }),
                             error_of([&] { load_parameters(empty, path); })}) {
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says("the pointer to the module is null"));
  }
  CHECK(folder.count() == 0);
  CHECK(refused(given(at::zeros({2})), path).code() == ErrorCode::NotFound);
  write_bytes(path, npy_of(at::zeros({2})));
  CHECK(refused(given(at::zeros({2})), path).code() == ErrorCode::NotNpy);
  write_bytes(path, "");
  CHECK(refused(given(at::zeros({2})), path, false).code() == ErrorCode::Truncated);
}

TEST_CASE("save_parameters() refuses what NumPy has no dtype for, and keeps the old file",
          "[parameters][bad]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  save_parameters(path, given(at::ones({2})));
  const std::string before = read_bytes(path);
  const Error error = error_of([&] {
    save_parameters(path, given(at::zeros({2}, at::TensorOptions().layout(at::kSparse))));
  });
  CHECK(error.code() == ErrorCode::InvalidArgument);
  CHECK(error.path() == path);
  CHECK_THAT(error.what(), says("array \"x\""));
  struct Twice : torch::nn::Module {
    Twice() { register_parameter("x", at::zeros({2})), register_buffer("x", at::zeros({2})); }
  };
  CHECK_THAT(error_of([&] { save_parameters(path, Twice()); }).what(),
             says("a parameter and a buffer of the module have the name \"x\""));
  CHECK((read_bytes(path) == before));
}

TEST_CASE("a counter that is too large for a module of half precision is loaded before to()",
          "[parameters][bad]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  torch::nn::BatchNorm1d trained(2);
  trained->num_batches_tracked.fill_(12345);
  save_parameters(path, trained);
  torch::nn::BatchNorm1d half(2);
  half->to(at::kHalf);
  CHECK_THAT(refused(*half, path).what(),
             says("load them into the module first, and convert it with to() then"));
  torch::nn::BatchNorm1d converted(2);
  load_parameters(converted, path);
  converted->to(at::kHalf);
  CHECK(converted->num_batches_tracked.item<float>() == 12344);  // as to() rounds
}

TEST_CASE("an integer that the dtype of the module cannot hold is refused", "[parameters][bad]") {
  const Folder folder;
  const auto path = folder / "a.npz";
  const auto refuse = [&](const at::Tensor& stored, const at::Tensor& in_module) {
    save_npz(path, {{"x", stored}});
    const Given module = given(in_module.clone());
    const Error error = refused(module, path);
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("\"x\" has values of") && says("cannot hold"));
    CHECK(module.named_buffers()["x"].equal(in_module));
  };
  refuse(at::full({2}, 3.5), at::zeros({2}, at::kLong));
  refuse(at::full({2}, 1.5, at::kBFloat16), at::zeros({2}, at::kLong));
  refuse(at::full({2}, 257, at::kLong), at::zeros({2}, at::kBFloat16));
  refuse(at::full({2}, 300, at::kLong), at::zeros({2}, at::kByte));
  refuse(at::full({2}, -1, at::kInt), at::zeros({2}, at::kByte));
  // Overflows that are undone on the way back.
  refuse(at::full({2}, -1, at::kChar), at::zeros({2}, at::kByte));
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const auto integer : {at::kInt, at::kLong}) {
    const bool is_long = integer == at::kLong;
    refuse(at::full({2}, -kInfinity, at::kHalf), at::zeros({2}, integer));
    const auto lowest = is_long ? std::numeric_limits<std::int64_t>::min()
                                : std::int64_t{std::numeric_limits<std::int32_t>::min()};
    refuse(at::full({2}, lowest, integer), at::zeros({2}, at::kHalf));
    const auto highest = is_long ? std::numeric_limits<std::int64_t>::max()
                                 : std::int64_t{std::numeric_limits<std::int32_t>::max()};
    refuse(at::full({2}, highest, integer), at::zeros({2}, at::kFloat));
  }
  refuse(at::full({2}, 0x1p63), at::zeros({2}, at::kLong));
  refuse(at::full({2}, std::numeric_limits<double>::infinity()), at::zeros({2}, at::kLong));
  refuse(at::full({2}, std::numeric_limits<double>::quiet_NaN()), at::zeros({2}, at::kLong));
}
