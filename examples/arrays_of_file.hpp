#pragma once

#include <torch_npy.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

/// One array of a file: the only one of an .npy file, or one of many of an .npz archive.
struct ArrayOfFile {
  std::string name;
  std::string storage;
  std::function<torch_npy::Header()> header;
  std::function<at::Tensor(const torch_npy::LoadOptions&)> load;
  std::function<torch::OrderedDict<std::string, at::Tensor>(const torch_npy::LoadOptions&)>
      load_fields;  ///< of a structured one
};

/// Reads an .npy file's header, or an archive's directory: no values.
inline std::vector<ArrayOfFile> arrays_of_file(const std::filesystem::path& path) {
  using torch_npy::LoadOptions;
  std::optional<torch_npy::Error> no_array;
  try {
    (void)torch_npy::read_header(path);
    return {{path.filename().string(), "file", [=] { return torch_npy::read_header(path); },
             [=](const LoadOptions& options) { return torch_npy::load(path, options); },
             [=](const LoadOptions& options) { return torch_npy::load_fields(path, options); }}};
  } catch (const torch_npy::Error& error) {
    if (error.code() != torch_npy::ErrorCode::NotNpy) throw;
    no_array.emplace(error);
  }
  std::vector<ArrayOfFile> arrays;
  try {
    const auto file = std::make_shared<torch_npy::NpzFile>(path);
    for (const std::string& name : file->names()) {
      arrays.push_back(
          {name, file->is_deflated(name) ? "deflated" : "stored",
           [=] { return file->header(name); },
           [=](const LoadOptions& options) { return file->load(name, options); },
           [=](const LoadOptions& options) { return file->load_fields(name, options); }});
    }
  } catch (const torch_npy::Error& error) {
    if (error.code() == torch_npy::ErrorCode::NotNpy) throw *no_array;  // neither of the two
    throw;
  }
  return arrays;
}
