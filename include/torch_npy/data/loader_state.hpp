#ifndef TORCH_NPY_DATA_LOADER_STATE_HPP_
#define TORCH_NPY_DATA_LOADER_STATE_HPP_

/// @file
/// LoaderState: where a Loader is in its run.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <torch_npy/data/random.hpp>
#include <torch_npy/error.hpp>
#include <torch_npy/tensor/save.hpp>
#include <torch_npy/tensor/stored_array.hpp>
#include <torch_npy/version.hpp>

TORCH_NPY_BEGIN_NAMESPACE

/// Where a Loader is in its run: what Loader::state() returns and Loader::restore() takes. Contains
/// nothing about workers, ranks or the batch size, so these may differ when the run continues.
struct LoaderState {
  /// The version of this library's states.
  static constexpr std::uint64_t kVersion = 1;

  std::uint64_t version = kVersion;  ///< the version of this state
  std::uint64_t seed = 0;            ///< the seed of the Loader
  std::uint64_t epoch = 0;           ///< the epoch to continue
  std::uint64_t samples = 0;         ///< samples of that epoch which all ranks together have used
  std::uint64_t dataset = 0;         ///< fingerprint of the dataset
  std::uint64_t order = 0;           ///< fingerprint of the order

  /// The state as an int64 tensor of shape (8), to keep in a checkpoint.
  at::Tensor tensor() const {
    at::Tensor tensor = at::empty({kLength}, at::kLong);
    auto* const out = tensor.data_ptr<std::int64_t>();
    const Numbers numbers = to_numbers();
    for (std::size_t i = 0; i < numbers.size(); ++i) out[i] = static_cast<std::int64_t>(numbers[i]);
    return tensor;
  }

  /// The state in a tensor made by tensor(), on any device. Throws Error (Mismatch) if the tensor
  /// was not made by tensor(), was changed, or has another version.
  static LoaderState from_tensor(const at::Tensor& tensor) {
    if (!tensor.defined() || tensor.layout() != c10::kStrided || tensor.is_meta() ||
        tensor.scalar_type() != at::kLong || tensor.dim() != 1) {
      throw foreign();
    }
    const at::Tensor host = tensor.detach().to(c10::kCPU).contiguous();
    Numbers numbers{};
    for (std::size_t i = 0; i < numbers.size() && i < static_cast<std::size_t>(host.numel()); ++i) {
      numbers[i] = static_cast<std::uint64_t>(host.data_ptr<std::int64_t>()[i]);
    }
    if (numbers[0] != kMagic) throw foreign();
    LoaderState state;
    state.version = numbers[1];
    state.require_version();
    state.seed = numbers[2];
    state.epoch = numbers[3];
    state.samples = numbers[4];
    state.dataset = numbers[5];
    state.order = numbers[6];
    if (host.numel() != kLength || numbers != state.to_numbers()) {
      throw Error(ErrorCode::Mismatch,
                  "the LoaderState is damaged: its checksum differs from its content; use an older "
                  "one");
    }
    return state;
  }

  /// Saves tensor() as an .npy file, which appears completely or not at all. Throws what
  /// torch_npy::save() throws.
  void save(const std::filesystem::path& path) const { torch_npy::save(path, tensor()); }

  /// Loads what save() saved. Throws Error: Mismatch as from_tensor(); and what torch_npy::load()
  /// throws if the file is not a complete .npy file.
  static LoaderState load(const std::filesystem::path& path) {
    const StoredArray array = open(path);
    return detail::with_path(path, [&] {
      // Before it is loaded, because another file may be large.
      if (array.header().shape != std::vector<std::int64_t>{kLength}) throw foreign();
      return from_tensor(array.load());
    });
  }

  /// True if all numbers are equal.
  friend bool operator==(const LoaderState& a, const LoaderState& b) {
    return a.to_numbers() == b.to_numbers();
  }
  /// Inequality.
  friend bool operator!=(const LoaderState& a, const LoaderState& b) { return !(a == b); }

  /// Throws Error (Mismatch) if this is not a state of the version kVersion.
  void require_version() const {
    if (version == kVersion) return;
    throw Error(ErrorCode::Mismatch, "the LoaderState has version " + std::to_string(version) +
                                         ", this library reads version " +
                                         std::to_string(kVersion) +
                                         ": continue with the library that saved it");
  }

 private:
  static constexpr std::int64_t kLength = 8;
  static constexpr std::uint64_t kMagic = 0x6e70795f6c6f6164;  // "npy_load"
  using Numbers = std::array<std::uint64_t, kLength>;

  Numbers to_numbers() const {
    return {kMagic,  version, seed,  epoch,
            samples, dataset, order, detail::mix({version, seed, epoch, samples, dataset, order})};
  }

  static Error foreign() {
    return Error(ErrorCode::Mismatch,
                 "not a LoaderState: expected an int64 array of shape (8) that "
                 "LoaderState::tensor() or save() made");
  }
};

TORCH_NPY_END_NAMESPACE

#endif  // TORCH_NPY_DATA_LOADER_STATE_HPP_
