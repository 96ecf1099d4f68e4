#pragma once

// What Linux tells of the files that a process has mapped.

#include <cstdint>
#include <fstream>
#include <ios>
#include <sstream>
#include <string>
#include <vector>

/// The lines of /proc/self/maps; none on other systems.
inline std::vector<std::string> mappings() {
  std::ifstream maps("/proc/self/maps");
  std::vector<std::string> lines;
  for (std::string line; std::getline(maps, line);) lines.push_back(line);
  return lines;
}

/// Whether a file whose name ends like this is mapped where `address` is. On systems that do not
/// tell, what is `expected`.
inline bool is_mapped(const void* address, const std::string& ending, bool expected) {
  const auto lines = mappings();
  if (lines.empty()) return expected;
  for (const std::string& line : lines) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    char dash = 0;
    std::istringstream(line) >> std::hex >> begin >> dash >> end;
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (begin <= at && at < end) return line.find(ending) != line.npos;
  }
  return false;
}
