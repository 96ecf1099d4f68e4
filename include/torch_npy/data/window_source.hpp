#ifndef TORCH_NPY_DATA_WINDOW_SOURCE_HPP_
#define TORCH_NPY_DATA_WINDOW_SOURCE_HPP_

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/array_rows.hpp>
#include <torch_npy/data/array_source.hpp>
#include <torch_npy/data/batch.hpp>
#include <torch_npy/data/options.hpp>
#include <torch_npy/data/part_table.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/request.hpp>
#include <torch_npy/data/rows.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/tensor/options.hpp>
#include <torch_npy/text.hpp>
#include <torch_npy/version.hpp>

// Samples that are windows of an array: some of its rows, one after another.

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// The windows of a joined array: which rows each one has.
class Windows {
 public:
  /// Which rows the target of a window has, counted from the first row of its data.
  struct Target {
    std::int64_t offset = 0;
    std::int64_t length = 0;
  };

  /// `shards` are the arrays that a window does not cross. Throws Error: InvalidArgument for a
  /// length or stride of less than 1; Mismatch if no window fits.
  Windows(const PartTable& shards, std::int64_t length, std::int64_t stride, const Target& target)
      : shards_(shards), length_(length), stride_(stride), target_(target) {
    require_between("the length of windows", length, 1);
    require_between("the stride of windows", stride, 1);
    require_between("the length of target()", target.length, 1);
    require_between("the offset of target()", target.offset, -kLimit);
    std::vector<std::size_t> counts;
    for (std::size_t i = 0; i < shards.count(); ++i) {
      counts.push_back(count_in(shards.ends()[i] - shards.begin_of(i)));
    }
    windows_ = PartTable(counts);
    if (size() == 0) throw none_fits();
  }

  std::size_t size() const { return windows_.size(); }
  std::size_t length() const { return static_cast<std::size_t>(length_); }
  std::size_t target_length() const { return static_cast<std::size_t>(target_.length); }
  std::int64_t stride() const { return stride_; }
  const Target& target() const { return target_; }

  /// The first row of a window.
  std::size_t first_row(std::size_t window) const {
    const std::size_t shard = windows_.part_of(window);
    const std::size_t number = window - windows_.begin_of(shard);
    return shards_.begin_of(shard) + static_cast<std::size_t>(first_start()) +
           number * static_cast<std::size_t>(stride_);
  }
  /// The first row of its target.
  std::size_t first_target_row(std::size_t window) const {
    return static_cast<std::size_t>(static_cast<std::int64_t>(first_row(window)) + target_.offset);
  }

  /// Whether two windows, with their targets, have a row in common.
  bool overlap() const { return stride_ < last() - first(); }

 private:
  static constexpr std::int64_t kLimit = std::int64_t{1} << 60;  // no sum overflows

  static void require_between(const char* what, std::int64_t value, std::int64_t low) {
    if (value >= low && value <= kLimit) return;
    throw Error(ErrorCode::InvalidArgument, std::string(what) + " is " + std::to_string(value) +
                                                "; it has to be at least " +
                                                (low == 1 ? "1" : "-2^60") + ", and at most 2^60");
  }

  /// The rows of a window and its target are in [first(), last()), counted from its first row.
  std::int64_t first() const { return std::min<std::int64_t>(0, target_.offset); }
  std::int64_t last() const { return (std::max)(length_, target_.offset + target_.length); }
  /// Where the first window of a shard begins: the first multiple of the stride at which the target
  /// fits.
  std::int64_t first_start() const { return (stride_ - 1 - first()) / stride_ * stride_; }

  std::size_t count_in(std::size_t rows) const {
    const std::int64_t room = static_cast<std::int64_t>(rows) - last() - first_start();
    return room < 0 ? 0 : static_cast<std::size_t>(room / stride_ + 1);
  }

  Error none_fits() const {
    std::size_t longest = 0;
    for (std::size_t i = 0; i < shards_.count(); ++i) {
      longest = (std::max)(longest, shards_.ends()[i] - shards_.begin_of(i));
    }
    std::string reason = "no window fits: windows of length " + std::to_string(length_);
    if (target_.offset != 0 || target_.length != length_) {
      reason += ", with targets of length " + std::to_string(target_.length) + " at offset " +
                std::to_string(target_.offset);
    }
    reason += shards_.count() == 1
                  ? ", of an array of " + counted(longest, "row")
                  : "; the longest of " + counted(shards_.count(), "shard") + " has " +
                        counted(longest, "row") + "; across_shards(true) joins the shards";
    return Error(ErrorCode::Mismatch, reason);
  }

  PartTable shards_;
  std::int64_t length_;
  std::int64_t stride_;
  Target target_;
  PartTable windows_;  // how many windows each shard has
};

/// How many neighbouring frames are in the same folder: a folder is one video.
inline PartTable folders_of(const ArrayRows& frames) {
  std::vector<std::size_t> sizes;
  std::string folder;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const std::string key = frames.key(i);
    const std::size_t end = key.rfind('/');
    std::string own = key.substr(0, end == key.npos ? 0 : end + 1);
    if (i == 0 || own != folder) sizes.push_back(0);
    folder = std::move(own);
    ++sizes.back();
  }
  return PartTable(sizes);
}

/// The windows of `data`, with targets in `target`, which is null if there are none. Throws Error:
/// as Windows; Mismatch if `target` has another length, or if a window would cross two of its
/// shards.
template <bool has_target>
Windows windows_of(const ArrayRows& data, const ArrayRows* target, std::int64_t length,
                   const BasicWindowOptions<has_target>& options) {
  Windows::Target rows{0, length};
  if (options.target()) rows = {options.target()->first, options.target()->second};
  if (target != nullptr && target != &data) require_targets(data, *target);
  const bool joins = options.across_shards();
  if (!joins && !options.frames() && target != nullptr) {
    const auto& ends = data.parts().ends();
    for (const std::size_t end : target->parts().ends()) {
      if (end == 0 || std::binary_search(ends.begin(), ends.end(), end)) continue;
      throw Error(ErrorCode::Mismatch,
                  "the files of the targets, " + target->name() +
                      ", end at other rows than those of the data, " + data.name() +
                      ": windows would cross them; across_shards(true) allows that");
    }
  }
  std::optional<Windows> windows;
  const auto make = [&] {
    windows.emplace(joins              ? PartTable(std::vector<std::size_t>{data.size()})
                    : options.frames() ? folders_of(data)
                                       : data.parts(),
                    length, options.stride(), rows);
  };
  if (data.parts().count() == 1) {
    data.about(0, make);
  } else {
    make();
  }
  return *windows;
}

/// How to load targets that are rows of the data, if that is another way than the data. Throws
/// Error (InvalidArgument) if it selects rows: the target would be other rows than target() says.
inline std::optional<LoadOptions> own_target_options(const LoadOptions& data,
                                                     const std::optional<LoadOptions>& target) {
  if (!target) return std::nullopt;
  if (!target->region().empty()) {
    throw Error(ErrorCode::InvalidArgument,
                "target_options() with rows(): for targets in the same array, the rows() of "
                "data_options() apply to both");
  }
  LoadOptions own = *target;
  own.region(data.region()).out_of_bounds(data.out_of_bounds());
  return own;
}

/// One window a sample; and for an Example with a target the rows of its target.
template <class E>
class WindowSource : public SampleSource<E> {
 public:
  /// `target` is null if E has none, and may be `data`.
  WindowSource(std::shared_ptr<const ArrayRows> data, std::shared_ptr<const ArrayRows> target,
               Windows windows)
      : data_(std::move(data)), target_(std::move(target)), windows_(std::move(windows)) {}

  std::size_t size() const override { return windows_.size(); }
  std::string key(std::size_t sample) const override {
    return data_->key(windows_.first_row(sample));
  }
  bool samples_overlap() const override { return windows_.overlap(); }
  bool is_in_memory() const override {
    return data_->is_in_memory() && (target_ == nullptr || target_->is_in_memory());
  }
  std::int64_t length(std::size_t) const override {
    return static_cast<std::int64_t>(windows_.length());
  }

  std::uint64_t fingerprint() const override {
    const auto number = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
    std::uint64_t print =
        mix({fingerprint_of(*data_), size(), windows_.length(), number(windows_.stride()),
             number(windows_.target().offset), windows_.target_length()});
    for (std::size_t i = 0; i < size(); i += size() / 1000 + 1) {
      print = mix({print, windows_.first_row(i)});
    }
    return print;
  }

  /// Checks the arrays that begin after the window before this one does.
  std::vector<Error> check(std::size_t sample) const override {
    const std::size_t begin = sample == 0 ? 0 : windows_.first_row(sample);
    const std::size_t end = sample + 1 < size() ? windows_.first_row(sample + 1) : data_->size();
    return check_rows(*data_, target_ == data_ ? nullptr : target_.get(), begin, end);
  }

  SampleRows<E> read(Request& request) const override {
    std::vector<std::size_t> first;
    first.reserve(request.picks.size());
    for (const Pick& pick : request.picks) first.push_back(windows_.first_row(pick.sample));
    at::Tensor data = data_->gather(first, windows_.length(), request.pin_memory);
    if constexpr (kHasTarget<E>) {
      for (std::size_t i = 0; i < first.size(); ++i) {
        first[i] = windows_.first_target_row(request.picks[i].sample);
      }
      return Batch<E>(
          E(std::move(data), target_->gather(first, windows_.target_length(), request.pin_memory)));
    } else {
      return Batch<E>(E(std::move(data)));
    }
  }

 private:
  std::shared_ptr<const ArrayRows> data_;
  std::shared_ptr<const ArrayRows> target_;
  Windows windows_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_WINDOW_SOURCE_HPP_
