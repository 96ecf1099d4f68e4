#pragma once

#include <fcntl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

/// A process that runs a function, which gives a text. Forked: the test program itself must not
/// have used the threads of LibTorch, nor its process groups.
class Process {
 public:
  template <class Work>
  explicit Process(const Work& work) {
    if (::pipe2(pipe_.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    id_ = ::fork();
    if (id_ < 0) throw std::runtime_error("fork");
    if (id_ != 0) return;
    // Those of the test program would report its test as failed.
    for (const int signal : {SIGABRT, SIGTERM, SIGSEGV, SIGINT, SIGILL, SIGFPE}) {
      std::signal(signal, SIG_DFL);
    }
    std::string text;
    try {
      text = work(*this);
    } catch (const std::exception& error) {
      text = std::string("error: ") + error.what();
    }
    tell(text);
    ::_exit(0);
  }
  Process(Process&& other) noexcept
      : pipe_(std::exchange(other.pipe_, {-1, -1})), id_(std::exchange(other.id_, -1)) {}
  Process& operator=(Process&& other) noexcept {
    std::swap(pipe_, other.pipe_);
    std::swap(id_, other.id_);
    return *this;
  }
  ~Process() {
    kill();
    for (const int end : pipe_) {
      if (end >= 0) ::close(end);
    }
  }

  /// In the process: gives a text to the test, of less than a pipe holds.
  void tell(const std::string& text) const {
    const std::string line = text + '\0';
    if (::write(pipe_[1], line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      ::_exit(1);
    }
  }

  /// In the test: the next text, for which it waits. The process must be alive, or have given it.
  std::string next() const {
    std::string text;
    for (char c = 0; ::read(pipe_[0], &c, 1) == 1 && c != '\0';) text += c;
    return text;
  }

  /// In the test: the end of the process, and then its text; "died" if it has none.
  std::string result() {
    wait();
    ::fcntl(pipe_[0], F_SETFL, O_NONBLOCK);  // other processes also hold the end for writing
    const std::string text = next();
    return text.empty() ? "died" : text;
  }

  /// Kills the process, if it still runs, and waits for its end.
  void kill() {
    if (id_ <= 0) return;
    ::kill(id_, SIGKILL);
    wait();
  }

 private:
  void wait() {
    if (id_ > 0) ::waitpid(id_, nullptr, 0);
    id_ = -1;
  }

  std::array<int, 2> pipe_{-1, -1};
  pid_t id_ = -1;
};

/// The texts of several processes.
inline std::vector<std::string> results(std::vector<Process>& processes) {
  std::vector<std::string> texts;
  for (Process& process : processes) texts.push_back(process.result());
  return texts;
}
