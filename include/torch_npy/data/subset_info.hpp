#ifndef TORCH_NPY_DATA_SUBSET_INFO_HPP_
#define TORCH_NPY_DATA_SUBSET_INFO_HPP_

#include <c10/util/ArrayRef.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch_npy/data/bad_samples.hpp>
#include <torch_npy/data/random.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE
namespace detail {

/// Some samples of another source: what Dataset::subset() knows of them.
class SubsetInfo : public SourceInfo {
 public:
  SubsetInfo(std::shared_ptr<const SourceInfo> source,
             std::shared_ptr<const std::vector<std::size_t>> indices)
      : source_(std::move(source)), indices_(std::move(indices)) {}

  std::size_t size() const override { return indices_->size(); }
  std::string key(std::size_t sample) const override { return source_->key((*indices_)[sample]); }
  bool is_in_memory() const override { return source_->is_in_memory(); }
  std::uint64_t fingerprint() const override {
    std::uint64_t print = mix({source_->fingerprint(), size()});
    for (const std::size_t index : *indices_) print = mix({print, index});
    return print;
  }
  bool samples_overlap() const override { return source_->samples_overlap(); }
  std::int64_t length(std::size_t sample) const override {
    return source_->length((*indices_)[sample]);
  }
  std::vector<std::int64_t> labels(c10::ArrayRef<std::size_t> samples) const override {
    std::vector<std::size_t> inner;
    inner.reserve(samples.size());
    for (const std::size_t sample : samples) inner.push_back((*indices_)[sample]);
    return source_->labels(inner);
  }
  std::vector<Error> check(std::size_t sample) const override {
    return source_->check((*indices_)[sample]);
  }
  bool reads_regions() const override { return source_->reads_regions(); }
  std::size_t file_of(std::size_t sample) const override {
    return source_->file_of((*indices_)[sample]);
  }
  const SourceInfo& source_of_file(std::size_t sample) const override {
    return source_->source_of_file((*indices_)[sample]);
  }
  std::size_t inner_sample(std::size_t sample) const override {
    return source_->inner_sample((*indices_)[sample]);
  }
  BadSamples& bad_samples(std::size_t sample) const override {
    return source_->bad_samples((*indices_)[sample]);
  }
  std::size_t bad_count() const override { return source_->bad_count(); }

 private:
  std::shared_ptr<const SourceInfo> source_;
  std::shared_ptr<const std::vector<std::size_t>> indices_;
};

}  // namespace detail
TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_SUBSET_INFO_HPP_
