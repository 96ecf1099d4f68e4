// Unsigned integers that LibTorch before 2.3 has no dtype for, in all places where they can be.

#ifdef TORCH_NPY_SINGLE_HEADER
#include <torch_npy.hpp>
#else
#include <torch_npy/tensor/fields.hpp>
#include <torch_npy/tensor/load.hpp>
#include <torch_npy/tensor/npz.hpp>
#endif

#include <cstdint>
#include <string>
#include <vector>

#include "support/catch.hpp"
#include "support/files.hpp"
#include "support/zip_bytes.hpp"

using namespace torch_npy;

namespace {

template <class T>
std::string items(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string array_of(const char* descr, const std::string& data, std::size_t count) {
  return npy(header_text("'" + std::string(descr) + "'", "(" + std::to_string(count) + ",)"), data);
}

const LoadOptions kWidened = LoadOptions().unsigned_as(kNextSigned);

}  // namespace

TEST_CASE("unsigned_as(kNextSigned) gives the next wider signed dtype", "[dtype][unsigned_as]") {
  const Folder folder;
  const auto check = [&](const char* descr, const std::string& data, c10::ScalarType type,
                         const std::vector<std::int64_t>& want) {
    INFO(descr);
    const auto path = write_bytes(folder / "u.npy", array_of(descr, data, want.size()));
    for (const bool mmap : {false, true}) {
      const at::Tensor tensor = load(path, LoadOptions(kWidened).mmap(mmap));
      CHECK(tensor.scalar_type() == type);
      for (std::size_t i = 0; i < want.size(); ++i) {
        CHECK(tensor[static_cast<std::int64_t>(i)].item<std::int64_t>() == want[i]);
      }
    }
  };
  check("<u2", items<std::uint16_t>({0, 1, 65535}), at::kInt, {0, 1, 65535});
  check(">u2", items<std::uint16_t>({0, 0x0100, 0x00ff}), at::kInt, {0, 1, 0xff00});
  check("<u4", items<std::uint32_t>({7, 4294967295}), at::kLong, {7, 4294967295});
  check("<u8", items<std::uint64_t>({7, INT64_MAX}), at::kLong, {7, INT64_MAX});
  check("|u1", items<std::uint8_t>({7, 255}), at::kByte, {7, 255});  // LibTorch has it
  check("<i2", items<std::int16_t>({-7}), at::kShort, {-7});
}

TEST_CASE("unsigned_as() checks the values", "[dtype][unsigned_as]") {
  const Folder folder;
  const auto u8 = write_bytes(folder / "u8.npy",
                              array_of("<u8", items<std::uint64_t>({std::uint64_t{1} << 63}), 1));
  const Error error = error_of([&] { (void)load(u8, kWidened); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("9223372036854775808"));
  CHECK_THAT(error.what(), says("a float64 tensor holds it, rounded"));
  const auto as_double = LoadOptions().unsigned_as(at::kDouble);
  CHECK(load(u8, as_double).item<double>() == 9223372036854775808.0);
  const auto u4 = write_bytes(folder / "u4.npy", array_of("<u4", items<std::uint32_t>({70000}), 1));
  CHECK(error_of([&] { (void)load(u4, LoadOptions().unsigned_as(at::kShort)); }).code() ==
        ErrorCode::Mismatch);
  CHECK(error_of([&] { (void)load(u4, LoadOptions().unsigned_as(at::kQInt8)); }).code() ==
        ErrorCode::InvalidArgument);
  CHECK(error_of([&] { (void)load(u4, LoadOptions().dtype(kNextSigned)); }).code() ==
        ErrorCode::InvalidArgument);
}

TEST_CASE("dtype() applies to everything and comes before unsigned_as()", "[dtype][unsigned_as]") {
  const Folder folder;
  const auto path = write_bytes(folder / "u.npy", array_of("<u2", items<std::uint16_t>({9}), 1));
  CHECK(load(path, LoadOptions(kWidened).dtype(at::kFloat)).scalar_type() == at::kFloat);
}

TEST_CASE("unsigned_as() changes no other array of an archive and no other field",
          "[dtype][unsigned_as][npz][fields]") {
  const Folder folder;
  const std::string weights = items<float>({0.25f, 0.75f});
  const auto archive = write_bytes(
      folder / "m.npz",
      zip({ZipPart::stored("img.npy", array_of("<u2", items<std::uint16_t>({0, 1, 2, 65535}), 4)),
           ZipPart::stored("w.npy", array_of("<f4", weights, 2))}));
#if !TORCH_NPY_TORCH_AT_LEAST(2, 3)
  CHECK_THAT(error_of([&] { (void)load_npz(archive); }).what(),
             says("unsigned_as(torch_npy::kNextSigned) loads it as int32"));
#endif
  const auto arrays = load_npz(archive, kWidened);
  CHECK(arrays["img"].scalar_type() == at::kInt);
  CHECK(arrays["img"][3].item<int>() == 65535);
  CHECK(arrays["w"].scalar_type() == at::kFloat);
  CHECK(arrays["w"][0].item<float>() == 0.25f);
  CHECK(arrays["w"][1].item<float>() == 0.75f);

  const auto records = write_bytes(
      folder / "r.npy", npy(header_text("[('id', '<u4'), ('x', '<f4'), ('n', '|u1')]", "(1,)"),
                            items<std::uint32_t>({4000000000}) + items<float>({0.5f}) + "\x07"));
  const auto fields = load_fields(records, kWidened);
  CHECK(fields["id"].scalar_type() == at::kLong);
  CHECK(fields["id"][0].item<std::int64_t>() == 4000000000);
  CHECK(fields["x"].scalar_type() == at::kFloat);
  CHECK(fields["x"][0].item<float>() == 0.5f);
  CHECK(fields["n"].scalar_type() == at::kByte);
}
