// Loading into tensors that exist.

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <cstdint>
#include <vector>

#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("load_into() fills a matching tensor and refuses any other", "[load_into]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 4, 6);
  const at::Tensor want = load(path);
  at::Tensor out = at::zeros({4, 6});
  void* const memory = out.data_ptr();
  load_into(out, path);
  CHECK(at::equal(out, want));
  CHECK(out.data_ptr() == memory);

  at::Tensor strided = at::zeros({6, 4}).t();
  load_into(strided, path);
  CHECK(at::equal(strided, want));
  at::Tensor wide = at::zeros({4, 12});
  at::Tensor every_second = wide.slice(1, 0, 12, 2);
  load_into(every_second, path);
  CHECK(at::equal(every_second, want));
  CHECK(wide.sum().item<float>() == want.sum().item<float>());
  const at::Tensor batch = at::zeros({3, 4, 6});
  load_into(batch[1], path);
  CHECK(at::equal(batch[1], want));
  CHECK(batch.sum().item<float>() == want.sum().item<float>());
  at::Tensor rows = at::zeros({2, 6});
  load_into(rows, path, LoadOptions().rows(1, 3));
  CHECK(at::equal(rows, want.narrow(0, 1, 2)));
  at::Tensor doubles = at::zeros({4, 6}, at::kDouble);
  load_into(doubles, path, LoadOptions().dtype(at::kDouble));
  CHECK(at::equal(doubles, want.to(at::kDouble)));

  at::Tensor parameter = at::zeros({4, 6}).requires_grad_();
  const auto version = parameter._version();
  load_into(parameter, path);
  CHECK(at::equal(parameter, want));
  CHECK(parameter._version() > version);  // autograd must notice the change

  for (at::Tensor wrong : {at::zeros({6, 4}), at::zeros({24}), at::zeros({4, 6}, at::kDouble),
                           at::zeros({4, 6}, at::kInt)}) {
    const Error error = error_of([&] { load_into(wrong, path); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK(wrong.count_nonzero().item<std::int64_t>() == 0);
  }
  at::Tensor nothing;
  CHECK(error_of([&] { load_into(nothing, path); }).code() == ErrorCode::InvalidArgument);
  for (const at::Tensor& overlapping :
       {at::zeros({1}).expand({4, 6}), at::zeros({24}).as_strided({4, 6}, {1, 1}),
        at::zeros({9}).unfold(0, 6, 1)}) {
    CHECK(error_of([&] { load_into(overlapping, path); }).code() == ErrorCode::InvalidArgument);
    CHECK(overlapping.count_nonzero().item<std::int64_t>() == 0);
  }
  const at::Tensor inference = [] {
    const c10::InferenceMode guard;
    return at::zeros({4, 6});
  }();
  CHECK(error_of([&] { load_into(inference, path); }).code() == ErrorCode::InvalidArgument);
  CHECK(inference.count_nonzero().item<std::int64_t>() == 0);
  {
    const c10::InferenceMode guard;
    load_into(inference, path);
    CHECK(at::equal(inference, want));
  }

  // A value out of range is found after others were written: autograd must notice those.
  std::vector<std::uint64_t> values(40000, 1);
  values.back() = UINT64_MAX;
  const auto large =
      write_bytes(folder / "u8.npy", npy(header_text("'<u8'", "(40000,)"), bytes_of(values)));
  at::Tensor longs = at::zeros({40000}, at::kLong);
  const auto before = longs._version();
  CHECK(error_of([&] { load_into(longs, large, LoadOptions().dtype(at::kLong)); }).code() ==
        ErrorCode::Mismatch);
  CHECK(longs._version() > before);
}
