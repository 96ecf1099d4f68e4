#ifndef TORCH_NPY_DATA_STORED_ROWS_HPP_
#define TORCH_NPY_DATA_STORED_ROWS_HPP_

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>
#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/array_files.hpp>
#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/fetched_rows.hpp>
#include <torch_npy/data/mapped_files.hpp>
#include <torch_npy/data/part_table.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/dtype.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/byte_source.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/device.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/region.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// One of the files of an array.
struct Shard {
  std::size_t rows = 0;               ///< in the file
  std::size_t begin = 0;              ///< the first of them that is used
  std::uint64_t offset = 0;           ///< of the first element in the file, in bytes
  std::vector<std::int64_t> strides;  ///< of the axes in the file, in elements
  RowLayout layout;                   ///< of its rows
};

/// What to load of each file: all rows, whatever rows() says, and the region of the other axes.
inline LoadOptions options_of_file(const LoadOptions& options, bool frames) {
  Region region = options.region();
  if (!region.empty()) {
    if (frames) {
      region.erase(region.begin());
    } else {
      region[0] = AxisRange();
    }
  }
  return LoadOptions(options).region(std::move(region));
}

/// What a file has, of which `plan` loads all. With `frames`, all of it is one row.
inline std::pair<Shard, RowFormat> shard_of(const LoadPlan& plan, const LoadOptions& options,
                                            bool frames) {
  if (plan.sizes.size() == plan.inner_axes && !frames) {
    throw Error(ErrorCode::Mismatch, "a 0-d array has no axis 0 to take samples from");
  }
  if (plan.is_padded()) throw padded_samples();
  if (!frames) require_rows_stay(options, plan.sizes.size() + 1);
  RowFormat format;
  format.sizes.assign(plan.sizes.begin() + (frames ? 0 : 1), plan.sizes.end());
  format.strides = dense_strides(format.sizes, plan.fortran_order, plan.inner_axes);
  format.elements = static_cast<std::size_t>(checked_bytes(format.sizes, 1).value_or(0));
  format.type = plan.type;
  format.converts = plan.converts();
  format.dtype = plan.dtype;
  format.stored = plan.stored;
  Shard shard;
  shard.rows = frames ? 1 : static_cast<std::size_t>(plan.sizes[0]);
  shard.offset = plan.offset;
  shard.strides = plan.file_strides;
  std::vector<std::int64_t> row = plan.sizes;
  if (!frames) row[0] = 1;
  shard.layout.row = runs_of(row, plan.file_strides, plan.fortran_order, plan.inner_axes);
  shard.layout.step = frames ? format.elements : static_cast<std::size_t>(plan.file_strides[0]);
  return {std::move(shard), std::move(format)};
}

/// Throws Error (Mismatch) if rows cannot be joined to those of the first file. `what` are the
/// rows, and `first` is the name of that file, for the message.
inline void require_alike(const RowFormat& found, const RowFormat& expected,
                          const std::string& what, const std::string& first) {
  const auto shown = [](const RowFormat& format) {
    return "shape " + python_tuple(format.sizes) + " and dtype " + descr_literal(format.dtype);
  };
  if (found.sizes != expected.sizes || found.dtype != expected.dtype) {
    throw Error(ErrorCode::Mismatch,
                "expected " + what + " of " + shown(expected) + first + "; found " + shown(found));
  }
  bool is_same_order = true;
  for (std::size_t axis = 0; axis < found.sizes.size(); ++axis) {  // NumPy's name for both is C
    is_same_order =
        is_same_order && (found.sizes[axis] == 1 || found.strides[axis] == expected.strides[axis]);
  }
  if (!is_same_order) {
    throw Error(ErrorCode::Mismatch,
                "expected the same order of axes, C or Fortran" + first +
                    "; found the other one: save the file again with np.ascontiguousarray or "
                    "np.asfortranarray");
  }
}

/// The rows of arrays in files, which are mapped, or in a store, which are read for each batch: one
/// array, or several, called shards, which are joined along axis 0.
class StoredRows final : public ArrayRows {
 public:
  /// Reads the headers of the files, at most 32 at a time. With `frames`, each file is one row. A
  /// StoredArray has to be in a file. `max_mappings`: see MappedFiles. Throws Error: what load()
  /// throws; Mismatch for a 0-d array that is not a frame, and if a file is unlike the first.
  StoredRows(ArrayFiles files, const LoadOptions& options, std::shared_ptr<BufferPool> pool,
             bool frames = false, std::size_t max_mappings = kMaxMappings)
      : ArrayRows(options, std::move(pool)),
        files_(std::move(files)),
        frames_(frames),
        shards_(files_.size()),
        maps_(files_.size(), max_mappings) {
    RowFormat first;
    bool has_rows = false;
    const auto open = [&](std::size_t i) {
      files_.open(i, options, [&](OpenArray& array) {
        LoadPlan plan = array.plan(options_of_file(options, frames_));
        auto [shard, format] = shard_of(plan, options, frames_);
        if (i == 0) first = format;
        if (shard.rows == 0) format.strides = first.strides;  // saved in C order, always
        if (!has_rows) first.strides = format.strides;
        require_alike(format, first);
        if (!has_rows) plan_ = plan;
        if (!has_rows) has_rows = shard.rows != 0;
        shards_[i] = std::move(shard);
        if (plan.count != 0 && !files_.is_remote()) {
          maps_.set(i, array.source.internal_traits().range, plan.offset,
                    static_cast<std::size_t>(plan.from.extent()) * plan.item_size());
        }
      });
    };
    std::size_t opened = 0;
    while (!has_rows && opened < shards_.size()) open(opened++);
    constexpr std::size_t kThreads = 32;  // they wait for the disk
    for_each_index(shards_.size() - opened, kThreads, [&](std::size_t i) { open(opened + i); });
    select_rows(std::move(first));
  }

  bool is_in_memory() const override { return !files_.is_remote(); }
  std::string name() const override { return files_.names(); }

  std::string key(std::size_t row) const override {
    const std::size_t i = parts().part_of(row);
    if (frames_) return files_.name(i);
    const std::size_t number = shards_[i].begin + row - parts().begin_of(i);
    return files_.name(i) + "[" + std::to_string(number) + "]";
  }

  std::uint64_t hash() const override {
    return files_.hash([&](std::size_t i) { return parts().begin_of(i); });
  }

  void about(std::size_t row, const std::function<void()>& work) const override {
    files_.about(row < size() ? parts().part_of(row) : 0, work);
  }

  void check(std::size_t begin, std::size_t end, std::vector<Error>& errors) const override {
    const bool has_last = end == size();  // then also what is empty after it
    std::size_t i = parts().part_of(begin);
    while (i != 0 && parts().begin_of(i - 1) >= begin) --i;  // shards without rows
    for (; i < shards_.size(); ++i) {
      if (parts().begin_of(i) < begin) continue;
      if (parts().begin_of(i) >= end && !has_last) break;
      try {
        files_.open(i, options(), [&](OpenArray& array) { require_same(array, i); });
      } catch (const Error& error) {
        if (is_of_system(error)) throw;
        errors.push_back(error);
      }
    }
  }

  at::Tensor gather_regions(c10::ArrayRef<std::size_t> rows, const std::vector<Region>& regions,
                            const c10::Scalar& fill_value, bool pin) const override {
    if (frames_ || plan_.inner_axes != 0 || rows.empty() || format().elements == 0) return {};
    if (files_.is_remote()) return fetch_regions(rows, regions, fill_value, pin);
    const MappedFiles::Use in_use(maps_);
    at::Tensor out;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      about(rows[i], [&] {
        const LoadPlan plan = plan_of_region(rows[i], regions[i], fill_value);
        if (!out.defined()) out = empty_regions(plan, rows.size(), pin);
        const std::size_t shard = parts().part_of(rows[i]);
        const MemorySource source(maps_.data(shard, files_.absolute_path(shard)), SIZE_MAX);
        fill(ArrayBytes(source, nullptr, plan.end), plan,
             static_cast<char*>(out.data_ptr()) + i * plan.bytes, /*threads=*/1);
      });
    }
    about(rows[0], [&] { out = on_device(std::move(out), options()); });
    return out;
  }

  /// How many files are mapped at the moment.
  std::size_t mapped() const { return maps_.mapped(); }

 private:
  void require_alike(const RowFormat& found, const RowFormat& expected) const {
    detail::require_alike(found, expected, frames_ ? "frames" : "rows",
                          shards_.size() == 1 ? "" : ", as in " + shown_path(files_.path(0)));
  }

  /// Throws Error (Mismatch) if a file is not what it was.
  void require_same(OpenArray& array, std::size_t i) const {
    const auto [found, found_format] =
        shard_of(array.plan(options_of_file(options(), frames_)), options(), frames_);
    require_alike(found_format, format());
    if (found.rows == shards_[i].rows && found.offset == shards_[i].offset) return;
    throw Error(ErrorCode::Mismatch, "it has changed since the dataset was made: expected " +
                                         counted(shards_[i].rows, "row") + ", found " +
                                         counted(found.rows, "row") + "; make the dataset again");
  }

  void select_rows(RowFormat format) {
    std::vector<std::size_t> sizes;
    for (const Shard& shard : shards_) {
      sizes.push_back(shard.rows);
      const bool is_adjacent = shard.layout.row.is_one() && shard.layout.step == format.elements;
      has_layouts_ = has_layouts_ || (shard.rows != 0 && !is_adjacent);
    }
    if (!options().region().empty()) {
      const PartTable all(sizes);
      const AxisRange range = options().region()[0];
      std::vector<std::int64_t> shape = format.sizes;
      shape.insert(shape.begin(), static_cast<std::int64_t>(all.size()));
      const AxisRange rows = sample_region(
          LoadOptions().region({range}).out_of_bounds(options().out_of_bounds()), shape)[0];
      const auto within = [&](std::int64_t row, std::size_t i) {
        const std::size_t begin = all.begin_of(i);
        return std::clamp(static_cast<std::size_t>(row), begin, all.ends()[i]) - begin;
      };
      if (rows.begin < rows.end) first_used_ = all.part_of(static_cast<std::size_t>(rows.begin));
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        shards_[i].begin = within(rows.begin, i);
        sizes[i] = within(rows.end, i) - shards_[i].begin;
      }
    }
    set_rows(sizes, std::move(format));
  }

  void with_runs(c10::ArrayRef<std::size_t> first, std::size_t length,
                 const std::function<void(const std::vector<RowRun>&)>& use) const override {
    if (files_.is_remote()) {
      FetchedRows rows(files_, format(), first.size() * length);
      for_each_run(first, length, [&](std::size_t i, std::size_t row, std::size_t taken) {
        rows.add(i, shards_[i].layout, offset_of(i, row), taken);
      });
      return use(rows.read());
    }
    const MappedFiles::Use in_use(maps_);
    std::vector<RowRun> runs;
    runs.reserve(first.size());
    for_each_run(first, length, [&](std::size_t i, std::size_t row, std::size_t taken) {
      runs.push_back(run_of(i, row, taken));
    });
    use(runs);
  }

  /// Calls `use(i, row, count)` for `count` rows of shard `i` from its row `row` on, until there
  /// are `length` rows from each row of `first` on.
  template <class Use>
  void for_each_run(c10::ArrayRef<std::size_t> first, std::size_t length, const Use& use) const {
    for (std::size_t row : first) {
      std::size_t left = length;
      for (std::size_t i = parts().part_of(row); left != 0; ++i) {
        const std::size_t taken = (std::min)(left, parts().ends()[i] - row);
        if (taken == 0) continue;  // an empty shard
        use(i, row - parts().begin_of(i), taken);
        row += taken;
        left -= taken;
      }
    }
  }

  /// Where a row of shard `i` begins in its file, in bytes.
  std::uint64_t offset_of(std::size_t i, std::size_t row) const {
    return shards_[i].offset +
           std::uint64_t{shards_[i].begin + row} * shards_[i].layout.step * format().element_size();
  }

  at::Tensor fetch_regions(c10::ArrayRef<std::size_t> rows, const std::vector<Region>& regions,
                           const c10::Scalar& fill_value, bool pin) const {
    std::vector<LoadPlan> plans;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      about(rows[i], [&] {
        plans.push_back(plan_of_region(rows[i], regions[i], fill_value));
        plans.back().offset += shards_[parts().part_of(rows[i])].offset;
      });
    }
    at::Tensor out;
    about(rows[0], [&] { out = empty_regions(plans[0], rows.size(), pin); });
    auto* const to = static_cast<char*>(out.data_ptr());
    files_.for_each_index(rows.size(), [&](std::size_t i) {
      files_.fetch(parts().part_of(rows[i]), [&](const ByteSource& source) {
        fill(ArrayBytes(source, nullptr, plans[i].end), plans[i], to + i * plans[i].bytes,
             /*threads=*/1);
      });
    });
    about(rows[0], [&] { out = on_device(std::move(out), options()); });
    return out;
  }

  /// How to read a region of a row; offsets count from the start of the mapping.
  LoadPlan plan_of_region(std::size_t row, Region region, const c10::Scalar& fill_value) const {
    const std::size_t i = parts().part_of(row);
    const Shard& shard = shards_[i];
    LoadPlan plan = plan_;
    plan.sizes[0] = static_cast<std::int64_t>(shard.rows);
    plan.file_strides = shard.strides;
    plan.offset = 0;
    const auto first = static_cast<std::int64_t>(shard.begin + row - parts().begin_of(i));
    region.insert(region.begin(), {first, first + 1});
    take_region(plan, LoadOptions()
                          .region(std::move(region))
                          .out_of_bounds(OutOfBounds::Fill)
                          .fill_value(fill_value));
    return plan;
  }

  /// A tensor for regions, those of a Fortran-ordered array in that order.
  at::Tensor empty_regions(const LoadPlan& plan, std::size_t count, bool pin) const {
    const std::vector<std::int64_t> region(plan.sizes.begin() + 1, plan.sizes.end());
    std::vector<std::int64_t> strides = dense_strides(region, plan.fortran_order);
    std::vector<std::int64_t> sizes = plan.sizes;
    sizes[0] = static_cast<std::int64_t>(count);
    strides.insert(strides.begin(), static_cast<std::int64_t>(plan.count));
    return empty_from(pool(), count * plan.bytes, plan.type, sizes, strides,
                      pin || pins_memory(options()));
  }

  RowRun run_of(std::size_t i, std::size_t row, std::size_t rows) const {
    const RowLayout* const layout = has_layouts_ ? &shards_[i].layout : nullptr;
    const std::size_t step = layout == nullptr ? format().elements : layout->step;
    if (i == first_used_) row += shards_[i].begin;
    return {maps_.data(i, files_.absolute_path(i)) + row * step * format().element_size(), rows,
            layout};
  }

  ArrayFiles files_;
  bool frames_;
  std::vector<Shard> shards_;
  // So that reading a row does not look at its shard, which is rarely in the processor's cache.
  bool has_layouts_ = false;    // the elements of a row are not adjacent in some shard
  std::size_t first_used_ = 0;  // the only shard that may begin after its first row
  MappedFiles maps_;
  LoadPlan plan_;  // of the first file that has rows
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STORED_ROWS_HPP_
