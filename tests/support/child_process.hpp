#pragma once

// Processes of a test.

#include <torch_npy/error.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <exception>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>

/// Runs `work` in a child process, which may give up rights and mount file systems, and returns
/// what the work wrote.
inline std::string in_child(const std::function<void(std::ostream&)>& work) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    std::ostringstream out;
    try {
      work(out);
    } catch (const std::exception& error) {
      out << "thrown: " << error.what();
    }
    const std::string text = out.str();
    ::_exit(::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0
                                                                                            : 1);
  }
  ::close(ends[1]);
  std::string text;
  char some[256];
  for (ssize_t got; (got = ::read(ends[0], some, sizeof some)) > 0;)
    text.append(some, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status == 0 ? text : "the process died";
}

/// The message of the Error that the call throws.
template <class Work>
std::string words_of(const Work& work) {
  try {
    work();
  } catch (const torch_npy::Error& error) {
    return error.what();
  }
  return "nothing thrown";
}
