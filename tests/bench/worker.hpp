// The frame of the contenders in C++. Each line of the input is a piece of work, words apart by
// tabs; it is done, and answered with a line:
//
//   seconds <tab> check <tab> more
//
// Only the work itself is timed. `check` is the same for all contenders that did the same work, so
// that none of them leaves out a part of it; `more` are other numbers that a row is about.

#pragma once

#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

using Words = std::vector<std::string>;

struct Answer {
  double seconds = 0;
  std::uint64_t check = 0;
  std::string more{};
};

using Work = std::function<Answer(const Words&)>;

/// Seconds that one of `count` calls takes.
template <class Call>
double seconds(std::size_t count, const Call& call) {
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < count; ++i) call();
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  return time.count() / static_cast<double>(count);
}

/// The sum of all words of 32 bits, which is the same in whatever order the data come.
inline std::uint64_t total(const void* data, std::size_t bytes) {
  const char* const from = static_cast<const char*>(data);
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at + 4 <= bytes; at += 4) {
    std::uint32_t word;
    std::memcpy(&word, from + at, sizeof word);
    sum += word;
  }
  return sum;
}

/// The most memory this process has had. Not ru_maxrss: that begins with what the process which
/// started this one had.
inline Answer peak(const Words&) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "VmHWM:") continue;
    std::uint64_t kibibytes = 0;
    status >> kibibytes;
    return {0, 0, std::to_string(kibibytes << 10)};
  }
  throw std::runtime_error("no VmHWM in /proc/self/status");
}

/// So that the next file of that name is a new one, and the disk has nothing left to do.
inline void remove_file(const std::string& path) {
  ::unlink(path.c_str());
  ::sync();
}

inline Words split(const std::string& line) {
  Words words;
  std::istringstream stream(line);
  for (std::string word; std::getline(stream, word, '\t');) words.push_back(word);
  return words;
}

inline std::size_t number(const std::string& word) { return std::stoul(word); }

/// Whether the work has a further word, after `count` that it always has.
inline bool has(const Words& words, std::size_t count, const char* word) {
  return words.size() > count && words[count] == word;
}

/// Works until the input ends.
inline int serve(const std::map<std::string, Work>& works) {
  for (std::string line; std::getline(std::cin, line);) {
    const Words words = split(line);
    try {
      const Answer answer = works.at(words.at(0))(words);
      std::printf("%.9g\t%llu\t%s\n", answer.seconds, static_cast<unsigned long long>(answer.check),
                  answer.more.c_str());
    } catch (const std::exception& error) {
      std::printf("error\t%s\n", error.what());
    }
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace bench
