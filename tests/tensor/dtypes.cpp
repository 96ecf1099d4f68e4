// Dtypes: conversion, unsigned integers, raw bytes.

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

using namespace torch_npy;

TEST_CASE("dtype() converts while reading, as Tensor::to() does", "[dtype]") {
  const Folder folder;
  for (const Expected& want : read_expected()) {
    if (want.version != "1" || expected_type(want.descr) == at::ScalarType::Undefined) continue;
    // Complex to real makes LibTorch warn. A float out of range to an integer is undefined in C++.
    if (want.descr[1] == 'c' || want.descr[1] == 'f' || is_wide_unsigned(want.descr)) continue;
    INFO(want.path.filename().string());
    const at::Tensor plain = load(want.path);
    for (const c10::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kLong,
                                       at::kByte, at::kBool, at::kComplexFloat}) {
      const at::Tensor got = load(want.path, LoadOptions().dtype(type));
      CHECK(got.scalar_type() == type);
      CHECK(got.strides() == plain.strides());
      CHECK(bytes_of(got) == bytes_of(plain.to(type)));
    }
  }
  write_bytes(folder / "f8.npy", npy(header_text("'>f8'", "(2,)"),
                                     std::string("\x3f\xf8\0\0\0\0\0\0\xc0\x04\0\0\0\0\0\0", 16)));
  const at::Tensor floats = load(folder / "f8.npy", LoadOptions().dtype(at::kFloat).mmap(true));
  CHECK(floats[0].item<float>() == 1.5f);
  CHECK(floats[1].item<float>() == -2.5f);
  CHECK(error_of([&] { (void)load(folder / "f8.npy", LoadOptions().dtype(at::kQInt8)); }).code() ==
        ErrorCode::InvalidArgument);
}

#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 1)
TEST_CASE("a conversion that LibTorch does not have throws Error(UnsupportedDtype)", "[dtype]") {
  const Folder folder;
  const auto path = write_floats(folder / "a.npy", 2, 2);
  const Error error = error_of([&] { (void)load(path, LoadOptions().dtype(at::kBits8)); });
  CHECK(error.code() == ErrorCode::UnsupportedDtype);
  CHECK_THAT(error.what(), says("Float to Bits8"));
}
#endif

TEST_CASE("uint16, uint32 and uint64 convert with a range check on every LibTorch", "[dtype]") {
  const Folder folder;
  const auto file = [&](const char* descr, const std::string& data) {
    return write_bytes(folder / "u.npy", npy(header_text(descr, "(2,)"), data));
  };
  const auto as = [](const std::filesystem::path& path, c10::ScalarType type) {
    return load(path, LoadOptions().dtype(type));
  };
  auto path = file("'<u2'", bytes_of(std::vector<std::uint16_t>{1, 65535}));
  for (const auto type : {at::kInt, at::kLong, at::kFloat, at::kDouble}) {
    CHECK(as(path, type)[1].item<double>() == 65535);
  }
  CHECK(as(path, at::kBool)[1].item<bool>());
  CHECK(error_of([&] { (void)as(path, at::kHalf); }).code() == ErrorCode::Mismatch);
  const auto largest = file("'<u2'", bytes_of(std::vector<std::uint16_t>{1, 65519}));
  CHECK(as(largest, at::kHalf)[1].item<float>() == 65504);
  path = file("'<u2'", bytes_of(std::vector<std::uint16_t>{1, 65535}));
  CHECK(as(path, at::kComplexDouble)[1].item<c10::complex<double>>().real() == 65535);
  for (const auto type : {at::kShort, at::kByte, at::kChar}) {
    const Error error = error_of([&] { (void)as(path, type); });
    CHECK(error.code() == ErrorCode::Mismatch);
    CHECK_THAT(error.what(), says("65535"));
    CHECK(error.path() == path);
  }
  path = file("'>u2'", std::string("\x01\x02\x03\x04", 4));
  CHECK(as(path, at::kShort)[0].item<int>() == 0x0102);
  path = file("'<u4'", bytes_of(std::vector<std::uint32_t>{7, 4294967295u}));
  CHECK(as(path, at::kLong)[1].item<std::int64_t>() == 4294967295);
  CHECK(as(path, at::kFloat)[1].item<float>() == 4294967296.0f);
  CHECK(error_of([&] { (void)as(path, at::kInt); }).code() == ErrorCode::Mismatch);
  path = file("'<u8'", bytes_of(std::vector<std::uint64_t>{1ull << 62, 1ull << 63}));
  CHECK(as(path, at::kDouble)[1].item<double>() == 9223372036854775808.0);
  CHECK(error_of([&] { (void)as(path, at::kLong); }).code() == ErrorCode::Mismatch);
  // Rounded once: through double this would become 2^63.
  path = file("'<u8'", bytes_of(std::vector<std::uint64_t>{0, (1ull << 63) + (1ull << 39) + 1}));
  CHECK(as(path, at::kFloat)[1].item<float>() == 9223373136366403584.0f);
  CHECK(as(path, at::kComplexFloat)[1].item<c10::complex<float>>().real() ==
        9223373136366403584.0f);
  // As Tensor::to() does it: through float this rounds up.
  path = file("'<u8'", bytes_of(std::vector<std::uint64_t>{0, 9259401383629553665ull}));
  CHECK(as(path, at::kBFloat16)[1].item<float>() == 9295429630892703744.0f);
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 3)
  path = write_bytes(folder / "v.npy", npy(header_text("'|V8'", "(1,)"),
                                           bytes_of(std::vector<std::uint64_t>{1ull << 63})));
  const auto named = LoadOptions().void_as(at::kUInt64);
  CHECK(bytes_of(load(path, named)) == bytes_of(std::vector<std::uint64_t>{1ull << 63}));
  CHECK(error_of([&] { (void)load(path, LoadOptions(named).dtype(at::kLong)); }).code() ==
        ErrorCode::Mismatch);
#endif
  // Many blocks, several threads.
  std::vector<std::uint32_t> many(3000000);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<std::uint32_t>(i);
  path = write_bytes(folder / "u.npy", npy(header_text("'<u4'", "(3000000,)"), bytes_of(many)));
  CHECK(at::equal(as(path, at::kLong), at::arange(3000000)));
}

TEST_CASE("void_as() gives a dtype to raw bytes", "[dtype]") {
  const Folder folder;
  const auto path = write_bytes(
      folder / "v.npy", npy(header_text("'<V2'", "(2,)"), std::string("\x80\x3f\x20\xc0", 4)));
  const auto options = LoadOptions().void_as(at::kBFloat16);
  const at::Tensor tensor = load(path, options);
  CHECK(tensor.scalar_type() == at::kBFloat16);
  CHECK(tensor[0].item<float>() == 1.0f);
  CHECK(tensor[1].item<float>() == -2.5f);
  CHECK(load(path, LoadOptions(options).dtype(at::kFloat))[1].item<float>() == -2.5f);
  const Error error = error_of([&] { (void)load(path, LoadOptions().void_as(at::kFloat)); });
  CHECK(error.code() == ErrorCode::Mismatch);
  CHECK_THAT(error.what(), says("4 bytes, the items have 2"));
  write_bytes(folder / "v1.npy", npy(header_text("'|V1'", "(2,)"), "ab"));
  CHECK_THAT(error_of([&] { (void)load(folder / "v1.npy"); }).what(), says("float8"));
  // save() writes bfloat16 as ml_dtypes does.
  save(folder / "b.npy", tensor);
  CHECK_THAT(read_bytes(folder / "b.npy"), says("'descr': '<V2'"));
  CHECK(at::equal(load(folder / "b.npy", options), tensor));
  // Other dtypes are not changed.
  write_floats(folder / "f.npy", 2, 2);
  CHECK(load(folder / "f.npy", options).scalar_type() == at::kFloat);
#if TORCH_NPY_TORCH_AT_LEAST(2, 2)
  for (const auto type : {at::kFloat8_e5m2, at::kFloat8_e4m3fn, at::ScalarType::Float8_e5m2fnuz,
                          at::ScalarType::Float8_e4m3fnuz}) {
    const at::Tensor eight = at::arange(4, at::kFloat).to(type);
    save(folder / "8.npy", eight);
    CHECK_THAT(read_bytes(folder / "8.npy"), says("'descr': '<V1'"));
    const at::Tensor again = load(folder / "8.npy", LoadOptions().void_as(type));
    CHECK(again.scalar_type() == type);
    CHECK(bytes_of(again) == bytes_of(eight));
  }
#endif
}
