// longdouble and clongdouble, which no tensor holds.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/load.hpp>
#endif

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"

using namespace torch_npy;

namespace {

std::string long_doubles(const std::vector<long double>& values, bool swapped = false) {
  std::string out(reinterpret_cast<const char*>(values.data()),
                  values.size() * sizeof(long double));
  for (std::size_t i = 0; swapped && i < out.size(); i += sizeof(long double)) {
    std::reverse(out.begin() + static_cast<std::ptrdiff_t>(i),
                 out.begin() + static_cast<std::ptrdiff_t>(i + sizeof(long double)));
  }
  return out;
}

}  // namespace

TEST_CASE("longdouble is loaded with dtype() as C++ rounds it", "[dtype][longdouble]") {
  if (sizeof(long double) != 16) return;  // NumPy's longdouble has another size there
  const Folder folder;
  const long double third = 1.0L / 3.0L;
  const std::vector<long double> values{third, -2.5L, 1e300L,
                                        0.0L,  -0.0L, std::numeric_limits<long double>::infinity()};
  for (const bool swapped : {false, true}) {
    const auto path = write_bytes(
        folder / "f16.npy",
        npy(header_text(swapped ? "'>f16'" : "'<f16'", "(6,)"), long_doubles(values, swapped)));
    const at::Tensor as_double = load(path, LoadOptions().dtype(at::kDouble));
    const at::Tensor as_float = load(path, LoadOptions().dtype(at::kFloat));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto index = static_cast<std::int64_t>(i);
      CHECK(as_double[index].item<double>() == static_cast<double>(values[i]));
      CHECK(as_float[index].item<float>() == static_cast<float>(values[i]));
    }
    CHECK(std::signbit(as_double[4].item<double>()));
    const at::Tensor complex = load(path, LoadOptions().dtype(at::kComplexDouble));
    CHECK(complex[0].item<c10::complex<double>>() ==
          c10::complex<double>(as_double[0].item<double>()));
    CHECK(load(path, LoadOptions().dtype(at::kDouble).rows(1, 3))[0].item<double>() == -2.5);
  }
  const auto complex =
      write_bytes(folder / "c32.npy",
                  npy(header_text("'<c32'", "(2,)"), long_doubles({third, 2.0L, -1.0L, 4.0L})));
  const at::Tensor loaded = load(complex, LoadOptions().dtype(at::kComplexFloat));
  CHECK(loaded[0].item<c10::complex<float>>() == c10::complex<float>(static_cast<float>(third), 2));
  CHECK(loaded[1].item<c10::complex<float>>() == c10::complex<float>(-1, 4));
  // As for other complex numbers, the imaginary part is lost.
  CHECK(load(complex, LoadOptions().dtype(at::kDouble))[1].item<double>() == -1.0);
}

TEST_CASE("longdouble without a dtype that it is rounded to throws Error", "[dtype][longdouble]") {
  if (sizeof(long double) != 16) return;
  const Folder folder;
  const auto path =
      write_bytes(folder / "f16.npy", npy(header_text("'<f16'", "(1,)"), long_doubles({1.5L})));
  const auto refused = [&](const LoadOptions& options, const char* words) {
    const Error error = error_of([&] { (void)load(path, options); });
    CHECK(error.code() == ErrorCode::UnsupportedDtype);
    CHECK_THAT(error.what(), says(words));
  };
  refused({}, "dtype(torch::kFloat64) rounds its values");
  refused(LoadOptions().dtype(at::kLong), "not converted to Long");
  refused(LoadOptions().dtype(at::kHalf), "expected kFloat32");
}

TEST_CASE("many longdoubles are converted in blocks by several threads", "[dtype][longdouble]") {
  if (sizeof(long double) != 16) return;
  const Folder folder;
  std::vector<long double> values(600000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<long double>(i) / 3;
  const auto path = write_bytes(
      folder / "f16.npy", npy(header_text("'<f16'", "(2, 300000)", "True"), long_doubles(values)));
  const at::Tensor tensor = load(path, LoadOptions().dtype(at::kDouble).threads(3));
  CHECK(tensor.sizes().vec() == std::vector<std::int64_t>{2, 300000});
  bool is_right = true;
  const auto* const got = static_cast<const double*>(tensor.data_ptr());
  for (std::size_t i = 0; i < values.size(); ++i) {
    is_right = is_right && got[i] == static_cast<double>(values[i]);
  }
  CHECK(is_right);
}
