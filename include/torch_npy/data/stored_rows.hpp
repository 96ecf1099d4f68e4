#ifndef TORCH_NPY_DATA_STORED_ROWS_HPP_
#define TORCH_NPY_DATA_STORED_ROWS_HPP_

#include <c10/util/ArrayRef.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/mapped_files.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/io/parallel.hpp>
#include <torch_npy/tensor/memory.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/tensor/plan.hpp>
#include <torch_npy/tensor/read.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/text.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The rows of arrays in files, which are mapped: one array, or several, called shards, which are
/// joined along axis 0.
class StoredRows final : public ArrayRows {
 public:
  /// Reads the headers of the files, at most 32 at a time. With `frames`, each file is one row.
  /// `max_mappings`: see MappedFiles. Throws Error: what load() throws; InvalidArgument if there is
  /// no file; Mismatch for a 0-d array that is not a frame, and if a file is unlike the first.
  StoredRows(std::vector<std::filesystem::path> paths, const LoadOptions& options,
             std::shared_ptr<BufferPool> pool, bool frames = false,
             std::size_t max_mappings = kMaxMappings)
      : ArrayRows(options, std::move(pool)),
        paths_(std::move(paths)),
        frames_(frames),
        shards_(paths_.size()),
        files_(paths_.size(), max_mappings) {
    if (paths_.empty()) throw Error(ErrorCode::InvalidArgument, "the list of files is empty");
    RowFormat first;
    const auto open = [&](std::size_t i) {
      with_array(paths_[i], options, [&](OpenArray& array) {
        RowFormat format = open_shard(array, shards_[i], i);
        if (i != 0) return require_alike(format, first);
        first = std::move(format);
      });
    };
    open(0);
    constexpr std::size_t kThreads = 32;  // they wait for the disk
    for_each_index(paths_.size() - 1, kThreads, [&](std::size_t i) { open(i + 1); });
    select_rows(std::move(first));
  }

  /// The rows of an array that is_mappable(). Throws Error: what load() throws; Mismatch for a 0-d
  /// array.
  StoredRows(const StoredArray& array, const LoadOptions& options, std::shared_ptr<BufferPool> pool)
      : ArrayRows(options, std::move(pool)), array_(array), paths_(1), shards_(1), files_(1, 1) {
    array_->internal_with_array([&](OpenArray& open) {
      RowFormat format = open_shard(open, shards_[0], 0);
      select_rows(std::move(format));
    });
  }

  /// Whether the bytes of an array are in a file as they are.
  static bool is_mappable(const StoredArray& array) {
    return array.internal_with_array(
        [](OpenArray& open) { return open.source.internal_traits().range.file != nullptr; });
  }

  std::string name() const override {
    if (array_) return array_->name();
    const std::string first = shown_path(paths_[0]);
    return paths_.size() == 1 ? first : first + " and " + counted(paths_.size() - 1, "other file");
  }

  std::string key(std::size_t row) const override {
    const std::size_t shard = parts().part_of(row);
    std::string key = array_ ? array_->name() : paths_[shard].generic_string();
    if (frames_) return key;
    const std::size_t number = shards_[shard].begin + row - parts().begin_of(shard);
    return key + "[" + std::to_string(number) + "]";
  }

  std::uint64_t hash() const override {
    const auto of = [](const std::filesystem::path& path) {
      return hash_of(path.filename().generic_string());
    };
    if (array_) return of(path_of(array_->name()));
    std::uint64_t all = of(paths_[0]);
    for (std::size_t i = 1; i < paths_.size(); ++i) {
      all = mix({all, of(paths_[i]), parts().begin_of(i)});
    }
    return all;
  }

  void about(std::size_t row, const std::function<void()>& work) const override {
    if (!array_) return with_path(paths_[row < size() ? parts().part_of(row) : 0], work);
    std::optional<Error> known;  // with a path, and the member of an archive
    array_->internal_about([&] {
      try {
        work();
      } catch (const Error& error) {
        if (error.path().empty()) throw;
        known = error;
      }
    });
    if (known) throw Error(*known);
  }

  void check(std::size_t begin, std::size_t end, std::vector<Error>& errors) const override {
    for (std::size_t i = parts().part_of(begin); i < shards_.size(); ++i) {
      if (parts().begin_of(i) < begin) continue;
      if (parts().begin_of(i) >= end) break;
      try {
        check_shard(i);
      } catch (const Error& error) {
        if (is_of_system(error)) throw;
        errors.push_back(error);
      }
    }
  }

  /// How many files are mapped at the moment.
  std::size_t mapped() const { return files_.mapped(); }

 private:
  struct Shard {
    std::size_t rows = 0;      // in the file
    std::size_t begin = 0;     // the first of them that is used
    std::uint64_t offset = 0;  // of the data in the file
    std::size_t column = 0;    // see RowRun
  };

  /// What a file has. All of it is mapped, whatever rows() says.
  std::pair<LoadPlan, RowFormat> planned(OpenArray& array, Shard& shard) const {
    const bool fortran_order = array.header.fortran_order;
    const std::uint64_t begin = array.header.data_offset;
    LoadOptions whole = options();
    if (!array.header.shape.empty()) {
      if (options().rows()) whole.rows(0, array.header.shape[0]);
    } else if (!frames_) {
      throw Error(ErrorCode::Mismatch, "a 0-d array has no axis 0 to take samples from");
    }
    LoadPlan plan = array.plan(whole);
    if (plan.offset != begin || plan.end - begin != plan.count * plan.item_size()) {
      throw Error(ErrorCode::InvalidArgument,
                  "of the options that select a part of an array, a dataset of rows takes rows()");
    }
    if (!frames_) require_rows_stay(options(), plan.sizes.size() + 1);
    RowFormat format;
    format.sizes.assign(plan.sizes.begin() + (frames_ ? 0 : 1), plan.sizes.end());
    format.strides = dense_strides(format.sizes, fortran_order, plan.inner_axes);
    format.elements = static_cast<std::size_t>(checked_bytes(format.sizes, 1).value_or(0));
    format.inner = plan.inner;
    format.type = plan.type;
    format.converts = plan.converts();
    format.dtype = plan.dtype;
    format.stored = plan.stored;
    shard.rows = frames_ ? 1 : static_cast<std::size_t>(plan.sizes[0]);
    shard.offset = plan.offset;
    if (fortran_order && !frames_ && format.elements > format.inner) {
      shard.column = shard.rows * format.inner * format.element_size();
    }
    return {std::move(plan), std::move(format)};
  }

  RowFormat open_shard(OpenArray& array, Shard& shard, std::size_t i) {
    auto [plan, format] = planned(array, shard);
    if (plan.count != 0) {
      files_.set(i, array.source.internal_traits().range, plan.offset,
                 plan.count * plan.item_size());
    }
    return std::move(format);
  }

  /// Throws Error (Mismatch) if the rows of a file are unlike those of the first one.
  void require_alike(const RowFormat& found, const RowFormat& first) const {
    const auto shown = [](const RowFormat& format) {
      return "shape " + python_tuple(format.sizes) + " and dtype " + descr_literal(format.dtype);
    };
    const std::string of_first = paths_.size() == 1 ? "" : ", as in " + shown_path(paths_[0]);
    if (found.sizes != first.sizes || found.dtype != first.dtype) {
      throw Error(ErrorCode::Mismatch, std::string("expected ") + (frames_ ? "frames" : "rows") +
                                           " of " + shown(first) + of_first + "; found " +
                                           shown(found));
    }
    if (found.strides != first.strides) {
      throw Error(ErrorCode::Mismatch,
                  "expected the same order of axes, C or Fortran" + of_first +
                      "; found the other one: save the file again with np.ascontiguousarray or "
                      "np.asfortranarray");
    }
  }

  /// Reads the header of a file again, and compares.
  void check_shard(std::size_t i) const {
    const auto compare = [&](OpenArray& array) {
      Shard found;
      require_alike(planned(array, found).second, format());
      if (found.rows == shards_[i].rows && found.offset == shards_[i].offset) return;
      throw Error(ErrorCode::Mismatch, "it has changed since the dataset was made: expected " +
                                           counted(shards_[i].rows, "row") + ", found " +
                                           counted(found.rows, "row") + "; make the dataset again");
    };
    if (array_) return array_->internal_with_array(compare);
    with_array(paths_[i], options(), compare);
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
    const MappedFiles::Use mapped(files_);
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
    return {files_.data(i, paths_[i]) + row * step, rows, column};
  }

  std::optional<StoredArray> array_;
  std::vector<std::filesystem::path> paths_;  // an empty one for a StoredArray
  bool frames_ = false;
  std::vector<Shard> shards_;
  // So that reading a row does not look at its shard, which is rarely in the processor's cache.
  bool has_columns_ = false;    // in any shard
  std::size_t first_used_ = 0;  // the only shard that may begin after its first row
  MappedFiles files_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_STORED_ROWS_HPP_
