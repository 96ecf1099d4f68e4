#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <torch_npy/io/folder.hpp>

#include "support/files.hpp"

inline std::vector<std::string> names_in(const std::filesystem::path& folder,
                                         const torch_npy::detail::ListRules& rules = {}) {
  torch_npy::FileList list(folder);
  list.add(".", rules);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < list.size(); ++i) names.emplace_back(list.name(i));
  return names;
}

inline void make_files(const std::filesystem::path& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const std::filesystem::path path = folder / torch_npy::detail::path_of(name);
    std::filesystem::create_directories(path.parent_path());
    write_bytes(path, "");
  }
}
