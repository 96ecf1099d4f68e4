#ifndef TORCH_NPY_TENSOR_REGION_HPP_
#define TORCH_NPY_TENSOR_REGION_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Boxes of dense arrays: where their elements are.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The axis with the i-th smallest stride, of `axes` axes of a dense array. The last `inner_axes`
/// axes are always in C order.
inline std::size_t axis_by_stride(std::size_t i, std::size_t axes, bool fortran_order,
                                  std::size_t inner_axes) {
  return fortran_order && i >= inner_axes ? i - inner_axes : axes - 1 - i;
}

/// Strides in elements. Axes of length 0 count as 1, as in NumPy and LibTorch.
inline std::vector<std::int64_t> dense_strides(const std::vector<std::int64_t>& sizes,
                                               bool fortran_order, std::size_t inner_axes = 0) {
  std::vector<std::int64_t> strides(sizes.size());
  std::int64_t stride = 1;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::size_t axis = axis_by_stride(i, sizes.size(), fortran_order, inner_axes);
    strides[axis] = stride;
    stride *= std::max<std::int64_t>(sizes[axis], 1);
  }
  return strides;
}

/// A box of a dense array as runs of adjacent elements. All numbers are in elements.
struct Runs {
  /// An axis along which there are several runs.
  struct Axis {
    std::size_t size;
    std::uint64_t stride;
  };

  std::size_t run = 0;     ///< length of one run
  std::size_t count = 0;   ///< elements of all runs
  std::vector<Axis> axes;  ///< the one with the smallest stride first

  bool is_one() const { return axes.empty(); }

  /// From the first element to the last one, with what is between them.
  std::uint64_t extent() const {
    std::uint64_t extent = run;
    for (const Axis& axis : axes) extent += (axis.size - 1) * axis.stride;
    return extent;
  }

  /// Calls `use(offset, size, stride, runs)` for elements [first, first + left) of the box, in
  /// order: for `runs` runs of `size` elements, the first at `offset` from the first element of the
  /// box, the others `stride` after one another.
  template <class Use>
  void for_each(std::size_t first, std::size_t left, const Use& use) const {
    if (is_one()) return use(std::uint64_t{first}, left, std::uint64_t{0}, std::size_t{1});
    while (left != 0) {
      const std::size_t skip = first % run;
      std::size_t rest = first / run;
      const std::size_t along = axes.front().size - rest % axes.front().size;
      std::uint64_t offset = skip;
      for (const Axis& axis : axes) {
        offset += rest % axis.size * axis.stride;
        rest /= axis.size;
      }
      const bool is_part = skip != 0 || left < run;
      const std::size_t size = is_part ? (std::min)(left, run - skip) : run;
      const std::size_t runs = is_part ? 1 : (std::min)(along, left / run);
      use(offset, size, axes.front().stride, runs);
      first += size * runs;
      left -= size * runs;
    }
  }
};

/// The runs of a box of this size in a dense array with these strides.
inline Runs runs_of(const std::vector<std::int64_t>& box, const std::vector<std::int64_t>& strides,
                    bool fortran_order, std::size_t inner_axes) {
  Runs runs;
  runs.run = runs.count = 1;
  for (std::size_t i = 0; i < box.size(); ++i) {
    const std::size_t axis = axis_by_stride(i, box.size(), fortran_order, inner_axes);
    const auto size = static_cast<std::size_t>(box[axis]);
    const auto stride = static_cast<std::uint64_t>(strides[axis]);
    runs.count *= size;
    if (size == 1) continue;
    if (runs.is_one() && stride == runs.run) {
      runs.run *= size;
    } else if (!runs.is_one() && stride == runs.axes.back().size * runs.axes.back().stride) {
      runs.axes.back().size *= size;
    } else {
      runs.axes.push_back({size, stride});
    }
  }
  return runs.count == 0 ? Runs() : runs;
}

/// The Error for the range of one axis.
inline Error bad_range(const AxisRange& range, std::size_t axis,
                       const std::vector<std::int64_t>& shape, OutOfBounds out_of_bounds) {
  const std::string length = std::to_string(shape[axis]);
  std::string reason = "the region [" + std::to_string(range.begin) + ", " +
                       (range.end == INT64_MAX ? length : std::to_string(range.end)) +
                       ") of axis " + std::to_string(axis) + " is not inside the array of shape " +
                       python_tuple(shape);
  const bool can_be_moved =
      range.begin <= range.end &&
      static_cast<std::uint64_t>(range.end) - static_cast<std::uint64_t>(range.begin) <=
          static_cast<std::uint64_t>(shape[axis]);
  if (out_of_bounds == OutOfBounds::Throw) {
    reason += ": 0 <= begin <= end <= " + length +
              " is required, and negative numbers do not count from the end; out_of_bounds() fills "
              "what is outside";
    if (can_be_moved) reason += ", or moves the region inside";
  } else if (out_of_bounds == OutOfBounds::Shift) {
    reason += ", and cannot be moved inside: 0 <= end - begin <= " + length + " is required";
  } else {
    reason += ": begin <= end is required, both from -2^60 to 2^60";
  }
  return Error(ErrorCode::InvalidArgument, reason);
}

/// A range for every axis of an array of this shape, with numbers instead of "the end of the axis",
/// and moved inside for OutOfBounds::Shift. Throws Error (InvalidArgument).
inline Region resolve_region(Region region, const std::vector<std::int64_t>& shape,
                             OutOfBounds out_of_bounds) {
  constexpr std::int64_t kFar = std::int64_t{1} << 60;  // sizes and sums do not overflow
  if (region.size() > shape.size()) {
    throw Error(ErrorCode::InvalidArgument, "a region of " + counted(region.size(), "range") +
                                                " of an array that has fewer axes: its shape is " +
                                                python_tuple(shape));
  }
  region.resize(shape.size());
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    AxisRange& range = region[axis];
    const std::int64_t length = shape[axis];
    const AxisRange asked = range;
    if (range.end == INT64_MAX) range.end = length;
    const bool is_inside = 0 <= range.begin && range.begin <= range.end && range.end <= length;
    if (is_inside) continue;
    const bool is_near = -kFar <= range.begin && range.begin <= range.end && range.end <= kFar;
    const bool fits = is_near && range.end - range.begin <= length;
    if (out_of_bounds == OutOfBounds::Throw || !is_near ||
        (out_of_bounds == OutOfBounds::Shift && !fits)) {
      throw bad_range(asked, axis, shape, out_of_bounds);
    }
    if (out_of_bounds == OutOfBounds::Shift) {
      const std::int64_t size = range.end - range.begin;
      range.begin = std::clamp<std::int64_t>(range.begin, 0, length - size);
      range.end = range.begin + size;
    }
  }
  return region;
}

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_TENSOR_REGION_HPP_
