#pragma once

// Folders of samples, and epochs over them.

#include <torch_npy/data/dataset.hpp>
#include <torch_npy/data/source.hpp>
#include <torch_npy/tensor/save.hpp>

#include <torch/data.h>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/files.hpp"

using Indices = std::vector<std::size_t>;

inline const char* name_of(int i) {
  static thread_local char name[32];
  std::snprintf(name, sizeof name, "s%03d.npy", i);
  return name;
}

/// What sample i holds: floats of shape (2, 3), all different.
inline at::Tensor sample(int i) { return (at::arange(6) + 100 * i).reshape({2, 3}).to(at::kFloat); }

inline void fill_folder(const Folder& folder, int count) {
  for (int i = 0; i < count; ++i) torch_npy::save(folder / name_of(i), sample(i));
}

inline torch::data::DataLoaderOptions loading(std::size_t batch, std::size_t workers) {
  return torch::data::DataLoaderOptions().batch_size(batch).workers(workers);
}

template <class Sampler = torch::data::samplers::SequentialSampler, class Dataset>
auto loader_of(Dataset dataset, std::size_t batch, std::size_t workers = 0) {
  return torch::data::make_data_loader<Sampler>(std::move(dataset), loading(batch, workers));
}

/// All data of an epoch, concatenated.
template <class Loader>
at::Tensor epoch(Loader& loader) {
  std::vector<at::Tensor> all;
  for (auto& batch : loader) all.push_back(batch.data.clone());
  return at::cat(all);
}

inline at::Tensor samples(int count) {
  std::vector<at::Tensor> all;
  for (int i = 0; i < count; ++i) all.push_back(sample(i));
  return at::stack(all);
}

inline std::string big_endian_npy(const at::Tensor& floats) {
  const at::Tensor dense = floats.contiguous();
  std::string data(static_cast<const char*>(dense.data_ptr()), dense.nbytes());
  for (std::size_t i = 0; i < data.size(); i += 4) std::reverse(&data[i], &data[i] + 4);
  const std::string shape = torch_npy::detail::python_tuple(floats.sizes().vec());
  return npy(header_text("'>f4'", shape), data);
}

/// Makes the files of these samples unreadable.
inline void damage(const Folder& folder, const std::vector<int>& files) {
  for (const int i : files) write_bytes(folder / name_of(i), "no array");
}

/// The number i of what sample(i) returned.
inline int number_of(const at::Tensor& data) {
  return static_cast<int>(std::lround(data.flatten()[0].item<double>() / 100));
}

/// The numbers of the samples of a batch.
template <class E>
std::vector<int> numbers_of(const std::vector<E>& samples) {
  std::vector<int> numbers;
  for (const E& one : samples) numbers.push_back(number_of(one.data));
  return numbers;
}
template <class E>
std::vector<int> numbers_of(const torch_npy::Batch<E>& batch) {
  std::vector<int> numbers;
  for (std::int64_t i = 0; i < batch.data.size(0); ++i) {
    numbers.push_back(number_of(batch.data[i]));
  }
  return numbers;
}

/// A source that a program has written: data i is sample(i), and its target the number i.
class NumberSource : public torch_npy::SampleSource<torch_npy::Example<>> {
 public:
  explicit NumberSource(std::size_t size) : size_(size) {}

  std::size_t size() const override { return size_; }
  std::string key(std::size_t number) const override { return "number " + std::to_string(number); }
  torch_npy::SampleRows<torch_npy::Example<>> read(torch_npy::Request& request) const override {
    std::vector<torch_npy::Example<>> all;
    for (const torch_npy::Pick& pick : request.picks) {
      all.emplace_back(sample(static_cast<int>(pick.sample)),
                       at::full({}, static_cast<std::int64_t>(pick.sample), at::kLong));
    }
    return all;
  }

 private:
  std::size_t size_;
};

inline torch_npy::Dataset<> number_dataset(std::size_t size) {
  return torch_npy::Dataset<>(std::make_shared<const NumberSource>(size));
}
