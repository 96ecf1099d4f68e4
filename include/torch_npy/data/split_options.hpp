#ifndef TORCH_NPY_DATA_SPLIT_OPTIONS_HPP_
#define TORCH_NPY_DATA_SPLIT_OPTIONS_HPP_

/// @file
/// SplitOptions.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/error.hpp>
#include <torch_npy/format/literal.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// Which samples random_split() and k_fold() spread over the parts, and which they keep together.
/// Setters chain: `SplitOptions().stratify(labels).groups(patients)`.
class SplitOptions {
 public:
  /// The name of the group of the sample with this key.
  using GroupOf = std::function<std::string(const std::string& key)>;

  /// Divides the samples of each label in the same proportions. `labels` has one number for each
  /// sample.
  SplitOptions& stratify(std::vector<std::int64_t> labels) {
    labels_ = std::move(labels);
    return *this;
  }
  /// The same for a tensor of integers of shape (number of samples), on any device. Throws Error
  /// (InvalidArgument) for another tensor.
  SplitOptions& stratify(const at::Tensor& labels) {
    if (!labels.defined() || labels.dim() != 1 ||
        !c10::isIntegralType(labels.scalar_type(), /*includeBool=*/true)) {
      throw Error(ErrorCode::InvalidArgument,
                  "stratify() expects integers of shape (number of samples), found " +
                      (labels.defined() ? "shape " + detail::python_tuple(labels.sizes().vec()) +
                                              " and dtype " + c10::toString(labels.scalar_type())
                                        : "an undefined tensor"));
    }
    const at::Tensor host = labels.detach().to(at::kCPU, at::kLong).contiguous();
    const auto* const first = host.data_ptr<std::int64_t>();
    return stratify(std::vector<std::int64_t>(first, first + host.numel()));
  }

  /// Keeps the samples of one group together, for example the images of one patient: they are never
  /// in two parts. `names` has the group of each sample.
  SplitOptions& groups(std::vector<std::string> names) {
    group_names_ = std::move(names);
    group_of_ = nullptr;
    return *this;
  }
  /// The same: the group of a sample is what `group_of` returns for its key, Dataset::key(). Throws
  /// Error (InvalidArgument) if it is empty.
  SplitOptions& groups(GroupOf group_of) {
    if (!group_of) {
      throw Error(ErrorCode::InvalidArgument, "groups() expects a function, found an empty one");
    }
    group_names_.reset();
    group_of_ = std::move(group_of);
    return *this;
  }

  /// What stratify() was given.
  const std::optional<std::vector<std::int64_t>>& labels() const noexcept { return labels_; }
  /// The names that groups() was given.
  const std::optional<std::vector<std::string>>& group_names() const noexcept {
    return group_names_;
  }
  /// The function that groups() was given; may be empty.
  const GroupOf& group_of() const noexcept { return group_of_; }

 private:
  std::optional<std::vector<std::int64_t>> labels_;
  std::optional<std::vector<std::string>> group_names_;
  GroupOf group_of_;
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SPLIT_OPTIONS_HPP_
