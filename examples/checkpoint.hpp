#pragma once

#include <torch/torch.h>
#include <torch_npy.hpp>

#include <filesystem>
#include <optional>
#include <string>

inline std::filesystem::path in_checkpoint(const std::filesystem::path& folder,
                                           const torch_npy::LoaderState& state,
                                           const char* ending) {
  return folder / (std::to_string(state.epoch) + "_" + std::to_string(state.samples) + ending);
}

/// Saves the state last. It replaces the old one in one step, and names the other files. So a
/// process that is killed at any moment leaves a complete checkpoint. Then removes the files of the
/// checkpoint before.
template <class Network>
void save_checkpoint(const std::filesystem::path& folder, const Network& network,
                     const torch::optim::Optimizer& optimizer,
                     const torch_npy::LoaderState& state) {
  std::filesystem::create_directories(folder);
  const std::filesystem::path last = folder / "loader.npy";
  std::optional<torch_npy::LoaderState> before;
  if (std::filesystem::exists(last)) before = torch_npy::LoaderState::load(last);
  torch_npy::save_parameters(in_checkpoint(folder, state, ".npz"), network);
  torch::save(optimizer, in_checkpoint(folder, state, ".pt").string());
  state.save(last);
  for (const char* ending : {".npz", ".pt"}) {
    if (!before || in_checkpoint(folder, *before, "") == in_checkpoint(folder, state, "")) break;
    std::filesystem::remove(in_checkpoint(folder, *before, ending));
  }
}

/// Returns the state, for Loader::restore() or World::restore(); none if there is no checkpoint.
template <class Network>
std::optional<torch_npy::LoaderState> load_checkpoint(const std::filesystem::path& folder,
                                                      Network& network,
                                                      torch::optim::Optimizer& optimizer) {
  if (!std::filesystem::exists(folder / "loader.npy")) return std::nullopt;
  const auto state = torch_npy::LoaderState::load(folder / "loader.npy");
  torch_npy::load_parameters(network, in_checkpoint(folder, state, ".npz"));
  torch::load(optimizer, in_checkpoint(folder, state, ".pt").string());
  return state;
}
