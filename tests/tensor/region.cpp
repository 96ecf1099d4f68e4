// Boxes of arrays, compared with index arithmetic on arrays of consecutive numbers.

#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/arrays.hpp"
#include "support/catch.hpp"
#include "support/dripping_source.hpp"
#include "support/expected.hpp"
#include "support/files.hpp"

using namespace torch_npy;

namespace {

/// An array of int32, of which each element is its position in the file.
std::filesystem::path write_positions(const std::filesystem::path& path, const Shape& shape,
                                      bool fortran_order) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int32_t>(i);
  return write_records(path, "'<i4'", torch_npy::detail::python_tuple(shape), bytes_of(values),
                       fortran_order ? "True" : "False");
}

/// What NumPy has in this box of such an array; `fill` where the box is outside of it.
at::Tensor box_of(const Shape& shape, bool fortran_order, const Region& box, std::int32_t fill) {
  Shape strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::size_t axis = fortran_order ? i : shape.size() - 1 - i;
    strides[axis] = stride;
    stride *= shape[axis];
  }
  Shape sizes;
  for (const AxisRange& range : box) sizes.push_back(range.end - range.begin);
  at::Tensor out = at::zeros(sizes, at::kInt);
  auto* const values = out.data_ptr<std::int32_t>();
  for (std::int64_t i = 0; i < out.numel(); ++i) {
    std::int64_t rest = i;
    std::int64_t position = 0;
    bool is_inside = true;
    for (std::size_t axis = sizes.size(); axis-- > 0;) {
      const std::int64_t at = box[axis].begin + rest % sizes[axis];
      rest /= sizes[axis];
      is_inside = is_inside && at >= 0 && at < shape[axis];
      position += at * strides[axis];
    }
    values[i] = is_inside ? static_cast<std::int32_t>(position) : fill;
  }
  return out;
}

std::int64_t below(std::mt19937& random, std::int64_t end) {
  return static_cast<std::int64_t>(random() % static_cast<std::uint32_t>(end));
}

/// A random shape of this many axes, with some thousand elements.
Shape random_shape(std::mt19937& random, std::size_t axes) {
  const std::int64_t largest = axes == 1 ? 9000 : axes == 2 ? 120 : axes == 3 ? 24 : 9;
  Shape shape;
  for (std::size_t i = 0; i < axes; ++i) shape.push_back(1 + below(random, largest));
  return shape;
}

/// A random box that is inside; one that is empty is rare.
Region random_box(std::mt19937& random, const Shape& shape) {
  Region box;
  for (const std::int64_t size : shape) {
    const std::int64_t begin = below(random, size);
    const bool is_whole = random() % 3 == 0;
    const bool is_empty = random() % 30 == 0;
    box.push_back(is_whole   ? AxisRange{0, size}
                  : is_empty ? AxisRange{begin, begin}
                             : AxisRange{begin, begin + 1 + below(random, size - begin)});
  }
  return box;
}

}  // namespace

TEST_CASE("region() loads any box of any array from any source", "[region]") {
  const Folder folder;
  std::mt19937 random(1);
  for (std::size_t i = 0; i < 150; ++i) {
    const std::size_t axes = 1 + i % 5;
    const bool fortran_order = i % 2 == 1;
    const Shape shape = random_shape(random, axes);
    const Region box = random_box(random, shape);
    const auto path = write_positions(folder / "a.npy", shape, fortran_order);
    const at::Tensor want = box_of(shape, fortran_order, box, 0);
    INFO("shape " << torch_npy::detail::python_tuple(shape) << " fortran " << fortran_order
                  << " box of " << torch_npy::detail::python_tuple(want.sizes().vec()));
    const auto options = LoadOptions().region(box);
    const at::Tensor got = load(path, options);
    CHECK(at::equal(got, want));
    CHECK(got.strides().vec() ==
          torch_npy::detail::dense_strides(got.sizes().vec(), fortran_order));
    const at::Tensor mapped = load(path, LoadOptions(options).mmap(true));
    CHECK(at::equal(mapped, want));
    CHECK(at::equal(load(path, LoadOptions(options).dtype(at::kDouble)), want.to(at::kDouble)));
    CHECK(at::equal(load(path, LoadOptions(options).threads(3)), want));

    const std::string bytes = read_bytes(path);
    CHECK(at::equal(load_bytes(bytes.data(), bytes.size(), options), want));
    std::istringstream stream(bytes + "next");
    CHECK(at::equal(load(stream, options), want));
    CHECK(std::string(std::istreambuf_iterator<char>(stream), {}) == "next");
    const StoredArray dripping = open(std::make_shared<const DrippingSource>(bytes, 1000));
    CHECK(at::equal(dripping.load(options), want));

    const at::Tensor into = at::full(want.sizes(), -1, at::kInt);
    load_into(into, path, options);
    CHECK(at::equal(into, want));
    Shape twice = want.sizes().vec();
    twice.push_back(2);
    const at::Tensor spread = at::full(twice, -1, at::kInt).select(-1, 1);
    load_into(spread, path, options);
    CHECK(at::equal(spread, want));
  }
}

TEST_CASE("the axes that a region() does not name are whole", "[region]") {
  const Folder folder;
  const Shape shape = {5, 6, 7};
  for (const bool fortran_order : {false, true}) {
    const auto path = write_positions(folder / "a.npy", shape, fortran_order);
    const at::Tensor whole = load(path);
    CHECK(at::equal(load(path, LoadOptions().region({})), whole));
    CHECK(at::equal(load(path, LoadOptions().region({{1, 3}})), whole.narrow(0, 1, 2)));
    CHECK(at::equal(load(path, LoadOptions().rows(1, 3)), whole.narrow(0, 1, 2)));
    CHECK(at::equal(load(path, LoadOptions().region({{}, {2, 4}})), whole.narrow(1, 2, 2)));
    CHECK(at::equal(load(path, LoadOptions().region({{2}, {}, {3, 7}})),
                    whole.narrow(0, 2, 3).narrow(2, 3, 4)));
    CHECK(at::equal(load(path, LoadOptions().region({{5}})), whole.narrow(0, 5, 0)));
  }
  save(folder / "0d.npy", at::full({}, 7, at::kInt));
  CHECK(load(folder / "0d.npy", LoadOptions().region({})).item<int>() == 7);
}

TEST_CASE("a region outside of the array is an error, is filled, or is moved inside", "[region]") {
  const Folder folder;
  std::mt19937 random(2);
  for (std::size_t i = 0; i < 120; ++i) {
    const std::size_t axes = 1 + i % 4;
    const bool fortran_order = i % 2 == 1;
    const Shape shape = random_shape(random, axes);
    const auto path = write_positions(folder / "a.npy", shape, fortran_order);
    Region box = random_box(random, shape);
    Region moved = box;
    bool is_inside = true;
    for (std::size_t axis = 0; axis < axes; ++axis) {
      const std::int64_t shift = below(random, 2 * shape[axis] + 3) - shape[axis] - 1;
      const std::int64_t size = box[axis].end - box[axis].begin;
      box[axis] = {box[axis].begin + shift, box[axis].end + shift};
      const std::int64_t begin = std::clamp<std::int64_t>(box[axis].begin, 0, shape[axis] - size);
      moved[axis] = {begin, begin + size};
      is_inside = is_inside && begin == box[axis].begin;
    }
    const auto options = LoadOptions().region(box);
    const auto shifted = LoadOptions(options).out_of_bounds(OutOfBounds::Shift);
    CHECK(at::equal(load(path, shifted), box_of(shape, fortran_order, moved, 0)));
    CHECK(at::equal(load(path, LoadOptions(shifted).mmap(true)), load(path, shifted)));
    if (!is_inside) {
      CHECK(error_of([&] { (void)load(path, options); }).code() == ErrorCode::InvalidArgument);
    }

    const auto filled = LoadOptions(options).out_of_bounds(OutOfBounds::Fill).fill_value(-5);
    const at::Tensor want = box_of(shape, fortran_order, box, -5);
    INFO("shape " << torch_npy::detail::python_tuple(shape) << " fortran " << fortran_order);
    const at::Tensor got = load(path, filled);
    CHECK(at::equal(got, want));
    CHECK(got.strides().vec() ==
          torch_npy::detail::dense_strides(got.sizes().vec(), fortran_order));
    CHECK(at::equal(load(path, LoadOptions(filled).mmap(true)), want));
    CHECK(at::equal(load(path, LoadOptions(filled).dtype(at::kDouble)), want.to(at::kDouble)));
    const std::string bytes = read_bytes(path);
    CHECK(at::equal(load_bytes(bytes.data(), bytes.size(), filled), want));
    std::istringstream stream(bytes + "next");
    CHECK(at::equal(load(stream, filled), want));
    CHECK(std::string(std::istreambuf_iterator<char>(stream), {}) == "next");
  }
  const auto path = write_positions(folder / "a.npy", {3, 4}, false);
  const auto filled = [&](const Region& region, const at::Scalar& value) {
    return LoadOptions().region(region).out_of_bounds(OutOfBounds::Fill).fill_value(value);
  };
  CHECK(at::equal(load(path, filled({{-2, 2}, {3, 6}}, 9)),
                  box_of({3, 4}, false, {{-2, 2}, {3, 6}}, 9)));
  CHECK(at::equal(load(path, filled({{-9, -7}}, 3)), at::full({2, 4}, 3, at::kInt)));
  CHECK(at::equal(load(path, filled({{0, 3}, {100, 102}}, 3)), at::full({3, 2}, 3, at::kInt)));
  CHECK(at::equal(load(path, filled({{-1, 1}}, 0.5).dtype(at::kFloat)).select(0, 0),
                  at::full({4}, 0.5F)));
  for (const at::Scalar& value : {at::Scalar(0.5), at::Scalar(INT64_MAX)}) {
    const Error error = error_of([&] { (void)load(path, filled({{-1, 1}}, value)); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK_THAT(error.what(), says("cannot be an element of Int"));
    CHECK(load(path, filled({{0, 1}}, value)).numel() == 4);  // nothing is outside
  }
  CHECK(error_of([&] {
          (void)load(path, filled({{-1, 1}}, -1).dtype(at::kByte));
        }).code() == ErrorCode::InvalidArgument);
}

TEST_CASE("a wrong region is an error that names axis, range and shape", "[region]") {
  const Folder folder;
  const auto path = write_positions(folder / "a.npy", {7, 5}, false);
  const auto check = [&](const LoadOptions& options, const char* words) {
    const Error error = error_of([&] { (void)load(path, options); });
    CHECK(error.code() == ErrorCode::InvalidArgument);
    CHECK(error.path() == path);
    CHECK_THAT(error.what(), says(words));
  };
  const auto with = [](Region region, OutOfBounds what = OutOfBounds::Throw) {
    return LoadOptions().region(std::move(region)).out_of_bounds(what);
  };
  check(with({{0, 3}, {-1, 2}}),
        "the region [-1, 2) of axis 1 is not inside the array of shape (7, 5)");
  check(with({{0, 8}}), "the region [0, 8) of axis 0");
  check(with({{0, 8}}), "0 <= begin <= end <= 7 is required");
  check(with({{3, 2}}), "the region [3, 2) of axis 0");
  check(with({{8}}), "the region [8, 7) of axis 0");
  check(with({{}, {}, {}}),
        "a region of 3 ranges of an array that has fewer axes: its shape is (7");
  check(with({{5, 8}}, OutOfBounds::Throw), "out_of_bounds() fills what is outside, or moves the");
  check(with({{}, {0, 6}}, OutOfBounds::Throw), "out_of_bounds() fills what is outside");
  CHECK_THAT(error_of([&] {
               (void)load(path, with({{}, {0, 6}}, OutOfBounds::Throw));
             }).what(),
             !says("moves the region inside"));  // it is longer than the axis
  check(with({{}, {0, 6}}, OutOfBounds::Shift), "0 <= end - begin <= 5 is required");
  check(with({{3, 2}}, OutOfBounds::Shift), "cannot be moved inside");
  check(with({{3, 2}}, OutOfBounds::Fill), "begin <= end is required");
  check(with({{INT64_MIN, 5}}, OutOfBounds::Fill), "from -2^60 to 2^60");
  check(with({{INT64_MIN, INT64_MAX - 1}}, OutOfBounds::Shift), "cannot be moved inside");
  const std::int64_t much = std::int64_t{1} << 59;
  CHECK(error_of([&] {
          (void)load(path, with({{-much, much}, {-much, much}}, OutOfBounds::Fill));
        }).code() == ErrorCode::TooLarge);
  CHECK(error_of([&] {
          (void)load(path, with({{-100, 100}}, OutOfBounds::Fill).max_bytes(1000));
        }).code() == ErrorCode::TooLarge);
}

TEST_CASE("a region of bytes that must be swapped, and of strings", "[region]") {
  const Folder folder;
  const at::Tensor data = at::arange(6 * 7 * 8).reshape({6, 7, 8}).to(at::kFloat);
  std::string bytes = bytes_of(data);
  for (std::size_t i = 0; i < bytes.size(); i += 4) std::reverse(&bytes[i], &bytes[i] + 4);
  const auto big = write_records(folder / "big.npy", "'>f4'", "(6, 7, 8)", bytes);
  const auto box = LoadOptions().region({{1, 4}, {2, 6}, {3, 7}});
  const at::Tensor want = data.narrow(0, 1, 3).narrow(1, 2, 4).narrow(2, 3, 4);
  CHECK(at::equal(load(big, box), want));
  CHECK(at::equal(load(big, LoadOptions(box).mmap(true).dtype(at::kInt)), want.to(at::kInt)));
  const auto outside =
      LoadOptions().region({{-1, 3}, {}, {6, 9}}).out_of_bounds(OutOfBounds::Fill).fill_value(0.5);
  CHECK(at::equal(load(big, outside),
                  at::constant_pad_nd(data.slice(0, 0, 3).slice(2, 6), {0, 1, 0, 0, 1, 0}, 0.5)));

  std::string text;
  for (char c = 'a'; c < 'a' + 24; ++c) text += std::string(3, c);
  for (const char* const order : {"False", "True"}) {
    const auto path = write_records(folder / "s.npy", "'|S3'", "(4, 6)", text, order);
    const auto codes = LoadOptions().strings_as_codes(true);
    const at::Tensor all = load(path, codes);
    for (const bool mmap : {false, true}) {
      const at::Tensor part = load(path, LoadOptions(codes).mmap(mmap).region({{1, 3}, {2, 5}}));
      CHECK(at::equal(part, all.narrow(0, 1, 2).narrow(1, 2, 3)));
    }
    CHECK(error_of([&] {
            (void)load(path, LoadOptions(codes).region({{}, {}, {0, 1}}));
          }).code() == ErrorCode::InvalidArgument);
  }
}

TEST_CASE("a region of a mapped array is a view with the strides of the array", "[region][mmap]") {
  const Folder folder;
  for (const bool fortran_order : {false, true}) {
    const auto path = write_positions(folder / "a.npy", {20, 30, 40}, fortran_order);
    const auto options = LoadOptions().mmap(true).region({{3, 8}, {4, 9}, {5, 11}});
    CHECK(open(path).can_map(options));
    at::Tensor view = load(path, options);
    CHECK(view.strides().vec() == (fortran_order ? Shape{1, 20, 600} : Shape{1200, 40, 1}));
    const at::Tensor want = box_of({20, 30, 40}, fortran_order, options.region(), 0);
    CHECK(at::equal(view, want));
    view.fill_(-1);
    CHECK(at::equal(load(path, options), want));  // the file is as before
    CHECK_FALSE(
        open(path).can_map(LoadOptions().region({{-1, 3}}).out_of_bounds(OutOfBounds::Fill)));
  }
}

TEST_CASE("a region of a structured array is that region of each field", "[region][fields]") {
  const Folder folder;
  std::string records;
  for (int i = 0; i < 24; ++i) {
    records += bytes_of(std::vector<std::int32_t>{i}) +
               bytes_of(std::vector<std::int16_t>(3, static_cast<std::int16_t>(10 * i)));
  }
  for (const char* const order : {"False", "True"}) {
    const auto path = write_records(folder / "r.npy", "[('id', '<i4'), ('x', '>i2', (3,))]",
                                    "(4, 6)", records, order);
    const auto whole = load_fields(path);
    for (const bool mmap : {false, true}) {
      const auto part = load_fields(path, LoadOptions().mmap(mmap).region({{1, 3}, {2, 5}}));
      CHECK(at::equal(part["id"], whole["id"].narrow(0, 1, 2).narrow(1, 2, 3)));
      CHECK(at::equal(part["x"], whole["x"].narrow(0, 1, 2).narrow(1, 2, 3)));
    }
    const auto fill = LoadOptions().region({{-1, 3}}).out_of_bounds(OutOfBounds::Fill);
    CHECK(error_of([&] { (void)load_fields(path, fill); }).code() == ErrorCode::InvalidArgument);
  }
}

TEST_CASE("of a region of a 100 GB file only what is needed is read", "[region]") {
  const Folder folder;
  // A sparse file of zeros, except for some bytes of the region.
  const std::string header = npy(header_text("'<i2'", "(4096, 4096, 3000)"));
  const auto path = write_bytes(folder / "giant.npy", header);
  std::filesystem::resize_file(path, header.size() + std::uint64_t{2} * 4096 * 4096 * 3000);
  const auto position = [&](std::uint64_t i, std::uint64_t j, std::uint64_t k) {
    return static_cast<std::streamoff>(header.size() + 2 * ((i * 4096 + j) * 3000 + k));
  };
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    for (const auto& [i, j, k] : {std::tuple{4000, 3000, 2000}, {4063, 3063, 2063}}) {
      file.seekp(position(i, j, k));
      file << "\1";
    }
  }
  const auto options = LoadOptions().region({{4000, 4064}, {3000, 3064}, {2000, 2064}});
  largest_allocation = 0;
  const at::Tensor patch = load(path, options);
  CHECK(largest_allocation < (1u << 20));
  CHECK(patch.sum().item<int>() == 2);
  CHECK(patch[0][0][0].item<int>() == 1);
  CHECK(patch[63][63][63].item<int>() == 1);
  CHECK(at::equal(load(path, LoadOptions(options).mmap(true)), patch));
}

TEST_CASE("a large region is read by several threads", "[region]") {
  const Folder folder;
  const Shape shape = {2100, 20, 101};  // 17 MB
  for (const bool fortran_order : {false, true}) {
    const auto path = write_positions(folder / "a.npy", shape, fortran_order);
    for (const auto& [box, what] :
         {std::pair<Region, OutOfBounds>{{{3, 2098}, {1, 20}, {0, 99}}, OutOfBounds::Throw},
          {{{-3, 2098}, {1, 21}, {2, 105}}, OutOfBounds::Fill}}) {
      const auto options = LoadOptions().region(box).out_of_bounds(what).fill_value(-7);
      const at::Tensor want = box_of(shape, fortran_order, box, -7);
      for (const std::size_t threads : {0, 1, 4}) {
        CHECK(at::equal(load(path, LoadOptions(options).threads(threads)), want));
      }
      CHECK(at::equal(load(path, LoadOptions(options).threads(2).dtype(at::kDouble)),
                      want.to(at::kDouble)));
      CHECK(at::equal(load(path, LoadOptions(options).mmap(true)), want));
    }
  }
}

TEST_CASE("runs that are close together are read with one call", "[region]") {
  const Folder folder;
  const Shape shape = {8, 64, 64};
  const auto path = write_positions(folder / "a.npy", shape, false);
  const std::string bytes = read_bytes(path);
  const auto source = std::make_shared<const DrippingSource>(bytes, bytes.size());
  const StoredArray array = open(source);
  const int before = source->reads();
  const Region box = {{2, 6}, {0, 64}, {8, 24}};
  CHECK(at::equal(array.load(LoadOptions().region(box)), box_of(shape, false, box, 0)));
  CHECK(source->reads() - before <= 4);  // 256 runs of 64 bytes
}
