#ifndef TORCH_NPY_DATA_STORED_ROWS_HPP_
#define TORCH_NPY_DATA_STORED_ROWS_HPP_

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
#include <torch_npy/data/mapped_files.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// One of the files of an array.
struct Shard {
  std::size_t rows = 0;      ///< in the file
  std::size_t begin = 0;     ///< the first of them that is used
  std::uint64_t offset = 0;  ///< of the data in the file, in bytes
  std::size_t size = 0;      ///< of the data, in bytes
  std::size_t column = 0;    ///< see RowRun
};

/// What a file has. With `frames`, all of it is one row. All rows count, whatever rows() says.
inline std::pair<Shard, RowFormat> shard_of(OpenArray& array, const LoadOptions& options,
                                            bool frames) {
  const bool fortran_order = array.header.fortran_order;
  const std::uint64_t begin = array.header.data_offset;
  LoadOptions whole = options;
  if (!array.header.shape.empty()) {
    if (options.rows()) whole.rows(0, array.header.shape[0]);
  } else if (!frames) {
    throw Error(ErrorCode::Mismatch, "a 0-d array has no axis 0 to take samples from");
  }
  LoadPlan plan = array.plan(whole);
  if (plan.offset != begin || plan.end - begin != plan.count * plan.item_size()) {
    throw Error(ErrorCode::InvalidArgument,
                "of the options that select a part of an array, a dataset of rows takes rows()");
  }
  if (!frames) require_rows_stay(options, plan.sizes.size() + 1);
  Shard shard;
  RowFormat format;
  format.sizes.assign(plan.sizes.begin() + (frames ? 0 : 1), plan.sizes.end());
  format.strides = dense_strides(format.sizes, fortran_order, plan.inner_axes);
  format.elements = static_cast<std::size_t>(checked_bytes(format.sizes, 1).value_or(0));
  format.inner = plan.inner;
  format.type = plan.type;
  format.converts = plan.converts();
  format.dtype = plan.dtype;
  format.stored = plan.stored;
  shard.rows = frames ? 1 : static_cast<std::size_t>(plan.sizes[0]);
  shard.offset = plan.offset;
  shard.size = plan.count * plan.item_size();
  if (fortran_order && !frames && format.elements > format.inner) {
    shard.column = shard.rows * format.inner * format.element_size();
  }
  return {shard, std::move(format)};
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
  if (found.strides != expected.strides) {
    throw Error(ErrorCode::Mismatch,
                "expected the same order of axes, C or Fortran" + first +
                    "; found the other one: save the file again with np.ascontiguousarray or "
                    "np.asfortranarray");
  }
}

/// The rows of arrays in files, which are mapped: one array, or several, called shards, which are
/// joined along axis 0.
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
        auto [shard, format] = shard_of(array, options, frames_);
        if (i == 0) first = format;
        if (shard.rows == 0) format.strides = first.strides;  // saved in C order, always
        if (!has_rows) first.strides = format.strides;
        require_alike(format, first);
        if (!has_rows) has_rows = shard.rows != 0;
        shards_[i] = shard;
        if (shard.size == 0) return;
        maps_.set(i, array.source.internal_traits().range, shard.offset, shard.size);
      });
    };
    std::size_t opened = 0;
    while (!has_rows && opened < shards_.size()) open(opened++);
    constexpr std::size_t kThreads = 32;  // they wait for the disk
    for_each_index(shards_.size() - opened, kThreads, [&](std::size_t i) { open(opened + i); });
    select_rows(std::move(first));
  }

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
    for (std::size_t i = parts().part_of(begin); i < shards_.size(); ++i) {
      if (parts().begin_of(i) < begin) continue;
      if (parts().begin_of(i) >= end) break;
      try {
        files_.open(i, options(), [&](OpenArray& array) { require_same(array, i); });
      } catch (const Error& error) {
        if (is_of_system(error)) throw;
        errors.push_back(error);
      }
    }
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
    const auto [found, found_format] = shard_of(array, options(), frames_);
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
      has_columns_ = has_columns_ || shard.column != 0;
    }
    if (const auto& rows = options().rows()) {
      const PartTable all(sizes);
      require_rows(*rows, all.size());
      const auto within = [&](std::int64_t row, std::size_t i) {
        const std::size_t begin = all.begin_of(i);
        return std::clamp(static_cast<std::size_t>(row), begin, all.ends()[i]) - begin;
      };
      if (rows->first < rows->second) {
        first_used_ = all.part_of(static_cast<std::size_t>(rows->first));
      }
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        shards_[i].begin = within(rows->first, i);
        sizes[i] = within(rows->second, i) - shards_[i].begin;
      }
    }
    set_rows(sizes, std::move(format));
  }

  void with_runs(c10::ArrayRef<std::size_t> first, std::size_t length,
                 const std::function<void(const std::vector<RowRun>&)>& use) const override {
    const MappedFiles::Use in_use(maps_);
    std::vector<RowRun> runs;
    runs.reserve(first.size());
    for (std::size_t row : first) {
      std::size_t left = length;
      for (std::size_t i = parts().part_of(row); left != 0; ++i) {
        const std::size_t taken = (std::min)(left, parts().ends()[i] - row);
        if (taken == 0) continue;  // an empty shard
        runs.push_back(run_of(i, row - parts().begin_of(i), taken));
        row += taken;
        left -= taken;
      }
    }
    use(runs);
  }

  RowRun run_of(std::size_t i, std::size_t row, std::size_t rows) const {
    const std::size_t column = has_columns_ ? shards_[i].column : 0;
    const std::size_t step =
        column == 0 ? format().bytes() : format().inner * format().element_size();
    if (i == first_used_) row += shards_[i].begin;
    return {maps_.data(i, files_.path(i)) + row * step, rows, column};
  }

  ArrayFiles files_;
  bool frames_;
  std::vector<Shard> shards_;
  // So that reading a row does not look at its shard, which is rarely in the processor's cache.
  bool has_columns_ = false;    // in any shard
  std::size_t first_used_ = 0;  // the only shard that may begin after its first row
  MappedFiles maps_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STORED_ROWS_HPP_
